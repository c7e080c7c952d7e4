"""Targets on a whole small night: what becomes pending, what is measured, and that it does not matter when."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import compare
import mini_night
import numpy as np
import pytest
from killed import finish
from mini_night import N_OBJECT, Work, command, reduced_at

from db.errors import ConfigurationError, NothingToDo
from queries.target_curve import NIGHT_COLUMNS
from starledger.archive import Archive, open_archive

STAR, DARK, CORNER = "the star", "nothing there", "beyond some frames"


def places(work: Work) -> dict[str, tuple[float, float]]:
    """Positions by name: a source's, one without a source, and one within the circles of half the frames."""
    stars = work.sql("SELECT s.ra, s.dec FROM source s JOIN measurement m ON m.source_id = s.source_id"
                     " GROUP BY s.source_id, s.ra, s.dec HAVING count(*) = :n AND min(m.flux_0 / m.flux_err_0) > 100 ORDER BY s.source_id",
                     n=N_OBJECT)  # fmt: skip
    circles = np.array(work.sql("SELECT ra, dec, radius FROM wcs_solution ORDER BY frame_id"))
    ra, dec = circles[:, :2].mean(axis=0)
    known = np.array(work.sql("SELECT ra, dec FROM source"))
    rng = np.random.default_rng(3)
    while True:
        dark = ra + rng.uniform(-0.02, 0.02), dec + rng.uniform(-0.02, 0.02)
        if separation(known, *dark).min() > 12.0:
            break
    # along the drift of the pointing, so that the circles of the first frames reach it no longer
    drift = circles[-1, :2] - circles[0, :2]
    for step in np.linspace(0.0, 60.0, 20_000):
        corner = circles[0, :2] - step * drift
        held = separation(circles, *corner) < 1.05 * 3600 * circles[:, 2]
        if 0 < held.sum() <= N_OBJECT // 2:
            break
    return {STAR: stars[0], DARK: dark, CORNER: (float(corner[0]), float(corner[1]))}


def separation(rows: np.ndarray, ra: float, dec: float) -> np.ndarray:
    """Arcsec."""
    a, d, b, e = (np.radians(values) for values in (rows[:, 0], rows[:, 1], ra, dec))
    half = np.sin((d - e) / 2) ** 2 + np.cos(d) * np.cos(e) * np.sin((a - b) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(half))) * 3600


def follow(archive: Archive, place: tuple[float, float], name: str) -> None:
    archive.targets.add(name, f"{place[0]:.9f} {place[1]:.9f}")
    with archive.writing() as session:  # so that archives made at different times can be compared
        session.connection().exec_driver_sql("UPDATE target SET created = '2026-01-01 00:00:00.000000'")


def pending(archive: Archive) -> dict[str, int]:
    return {step.step: step.pending for step in archive.status() if step.pending}


def table(work: Work) -> list[tuple[Any, ...]]:
    columns = (
        "m.night_id, m.frame_id, m.target_id, m.source_id, m.flags, m.x, m.y, m.background, m.background_err, m.flux, m.flux_err, "
        "m.psf_err, m.chi2"
    )
    return work.sql(f"SELECT {columns}, m.neighbour_flux FROM target_measurement m ORDER BY m.frame_id, m.target_id")


@pytest.fixture
def both(archive_url: str, tmp_path: Path) -> Iterator[tuple[Work, Archive]]:
    """The reduced night on each engine in turn."""
    work, _ = reduced_at(archive_url, tmp_path)
    with open_archive(archive_url) as archive:
        yield work, archive


def test_from_a_new_target_to_a_removed_one(both: tuple[Work, Archive]) -> None:
    work, archive = both
    place = places(work)
    assert pending(archive) == {} and work.sql("SELECT count(*) FROM task WHERE step = 'target_photometry'") == [(0,)]
    tally = archive.targets.measure()
    assert (tally.done, tally.before) == (0, 0)

    circles = np.array(work.sql("SELECT ra, dec, radius FROM wcs_solution ORDER BY frame_id"))
    held = int((separation(circles, *place[CORNER]) < 1.05 * 3600 * circles[:, 2]).sum())
    follow(archive, place[CORNER], CORNER)
    assert 0 < held < N_OBJECT and pending(archive) == {"target_photometry": held}
    follow(archive, (place[CORNER][0] + 90.0, 0.0), "another sky")
    assert pending(archive) == {"target_photometry": held}
    follow(archive, place[STAR], STAR)
    follow(archive, place[DARK], DARK)
    assert pending(archive) == {"target_photometry": N_OBJECT}

    assert archive.targets.measure(CORNER).done == held
    assert pending(archive) == {"target_photometry": N_OBJECT - held}  # those of other frames were left
    tally = archive.targets.measure()
    assert (tally.done, tally.before, tally.failed) == (N_OBJECT - held, held, {})
    assert pending(archive) == {} and archive.targets.measure().done == 0
    names = work.sql(
        "SELECT t.name, count(*) FROM target_measurement m JOIN target t ON t.target_id = m.target_id GROUP BY t.name ORDER BY 1"
    )
    assert names == [(DARK, N_OBJECT), (STAR, N_OBJECT)]
    agree_with_the_sources(work)
    the_curves_are_as_measured(archive)

    archive.targets.remove(STAR)
    assert pending(archive) == {"target_photometry": N_OBJECT}
    assert len(archive.targets.curve(DARK).frame) == N_OBJECT  # meanwhile what is measured stands
    assert archive.targets.measure().done == N_OBJECT
    for name in (DARK, "another sky", CORNER.upper()):
        archive.targets.remove(name)
    assert pending(archive) == {} and archive.targets.measure().done == 0
    assert table(work) == []
    assert work.sql("SELECT count(*) FROM task WHERE step = 'target_photometry' AND status = 'done'") == [(0,)]
    # the number of the last target is given again
    follow(archive, place[STAR], STAR)
    assert archive.targets.measure().done == N_OBJECT and len(table(work)) == N_OBJECT


def agree_with_the_sources(work: Work) -> None:
    """A target at a source has the flux of slot 0, its error, flags and magnitude; a dark one has none that is significant."""
    # what is uncertain by the map is beside the error, and a part of the flux
    relative = work.sql("SELECT m.flux, m.psf_err, p.faint_flux_error FROM target_measurement m JOIN psf_map p ON p.frame_id = m.frame_id")
    for flux, error, part in relative:
        assert error == pytest.approx(abs(flux) * part, rel=1e-5) and 0.0 < part < 0.05
    rows = work.sql(
        "SELECT m.flux, v.flux_0, m.flux_err, v.flux_err_0, m.flags, v.flags, m.chi2, v.psf_chi2, t.mag, l.mag, t.mag_err, l.mag_err,"
        " t.bjd_tdb, l.bjd_tdb, t.airmass, l.airmass, t.quality, l.quality FROM target_measurement m"
        " JOIN measurement v ON v.source_id = m.source_id AND v.frame_id = m.frame_id"
        " JOIN target_light_curve t ON t.target_id = m.target_id AND t.frame_id = m.frame_id"
        " JOIN light_curve_all l ON l.source_id = m.source_id AND l.frame_id = m.frame_id AND l.slot = 0"
    )
    assert len(rows) == N_OBJECT
    values = np.array(rows, dtype=float)
    assert np.abs((values[:, 0] - values[:, 1]) / values[:, 2]).max() < 0.01
    np.testing.assert_allclose(values[:, 2], values[:, 3], rtol=1e-4)
    np.testing.assert_array_equal(values[:, 4], values[:, 5])
    np.testing.assert_allclose(values[:, 6], values[:, 7], rtol=1e-3)
    np.testing.assert_allclose(values[:, 8:12:2], values[:, 9:12:2], atol=2e-5)
    np.testing.assert_allclose(values[:, 12], values[:, 13], rtol=0, atol=1e-8)
    np.testing.assert_allclose(values[:, 14], values[:, 15], rtol=1e-9)
    np.testing.assert_array_equal(values[:, 16], values[:, 17])
    dark = work.sql("SELECT flux / flux_err, source_id, flux_cal, mag FROM target_light_curve WHERE name = :name", name=DARK)
    assert all(abs(pull) < 4.0 and source is None and scaled is not None for pull, source, scaled, _ in dark)
    assert all((mag is None) == (scaled <= 0.0) for _, _, scaled, mag in dark)


def the_curves_are_as_measured(archive: Archive) -> None:
    curve = archive.targets.curve(DARK)
    (night,) = curve.nights.to_dict("records")
    good = curve.frame[curve.frame["quality"] == 0]
    assert list(night) == list(NIGHT_COLUMNS) and night["n_point"] == len(good) > 2
    flux, error = good["flux_cal"].to_numpy(), good["flux_cal_err"].to_numpy()
    assert night["flux_cal"] == pytest.approx(np.average(flux, weights=error**-2.0))
    assert night["flux_cal_err"] == pytest.approx(np.sum(error**-2.0) ** -0.5)
    assert abs(night["snr"]) < 3.0 and np.isnan(night["mag"])
    assert night["limit_mag"] == pytest.approx(25.0 - 2.5 * np.log10(3.0 * night["flux_cal_err"]))
    series = archive.targets.light_curve(STAR.upper())
    assert series["flux"].unit == "adu" and len(series) == N_OBJECT and not series["source_id"].mask.any()
    (bright,) = archive.targets.curve(STAR).nights.to_dict("records")
    assert bright["mag"] == pytest.approx(np.mean(series["mag"].value), abs=0.02)
    with pytest.raises(NothingToDo, match="no measurement of target another sky"):
        archive.targets.curve("another sky")
    with pytest.raises(ConfigurationError, match="no target of this name"):
        archive.targets.measure("nobody")


@pytest.mark.long
def test_measured_now_or_later_or_by_the_night_is_the_same(reduced: Work, tmp_path: Path) -> None:
    place = places(reduced)
    found = []
    for folder, order in (("one", ((STAR, DARK, CORNER),)), ("two", ((STAR,), (DARK, CORNER))), ("night", ((STAR, DARK, CORNER),))):
        (tmp_path / folder).mkdir()
        work = mini_night.reduced(tmp_path / folder)
        with open_archive(work.url) as archive:
            for names in order:
                for name in names:
                    follow(archive, place[name], name)
                if folder == "night":
                    assert work.worked() == {"target_photometry": N_OBJECT}
                else:
                    archive.targets.measure(jobs=2)
        found.append((work, table(work)))
    assert len(found[0][1]) == 2 * N_OBJECT
    assert found[0][1] == found[1][1] == found[2][1]
    assert compare.compare(found[0][0].url, found[1][0].url, current=True) == []
    assert compare.compare(found[0][0].url, found[2][0].url) == []


@pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX")
def test_killed_at_a_commit_it_goes_on_from_there(both: tuple[Work, Archive], tmp_path: Path) -> None:
    work, archive = both
    place, log = places(work), tmp_path / "log.txt"
    for name in (STAR, DARK):
        follow(archive, place[name], name)
    words = ["target", "measure", "--archive", work.url, "--jobs", "1"]
    assert finish(words, log, ("target_photometry", 4)) == -signal.SIGKILL, log.read_text()
    assert work.sql("SELECT count(*) FROM task WHERE step = 'target_photometry'") == [(3,)] and len(table(work)) == 6
    assert finish(words, log) == 0
    assert f"{N_OBJECT - 3} to do" in log.read_text() and f"{2 * N_OBJECT} measurements of 2 targets" in log.read_text()
    whole = table(work)
    work.sql("DELETE FROM task WHERE step = 'none'")
    assert archive.targets.measure().done == 0
    work.sql("UPDATE task SET status = 'superseded' WHERE step = 'target_photometry'")
    assert work.sql("SELECT count(*) FROM target_light_curve") == [(0,)]  # points stand with their task
    assert archive.targets.measure().done == N_OBJECT
    assert table(work) == whole


def test_a_frame_that_is_measured_anew_is_so_with_its_targets(reduced: Work) -> None:
    place = places(reduced)
    with open_archive(reduced.url) as archive:
        follow(archive, place[DARK], DARK)
        archive.targets.measure()
        reduced.sql("UPDATE task SET status = 'superseded' WHERE step = 'psf' AND frame_id = (SELECT min(frame_id) FROM psf_map)")
        assert reduced.worked() == {"psf": 1}  # the same again
        before = archive.targets.curve(DARK)
        good = before.frame.index[before.frame["quality"] == 0]
        archive.masks.frame(int(before.frame["frame_id"][good[0]]), "clouds")
        after = archive.targets.curve(DARK)
        assert after.frame["quality"][good[0]] == 2 and (after.frame["quality"] == 0).sum() == len(good) - 1
        assert after.nights["n_point"].tolist() == [len(good) - 1]


def test_the_commands(reduced: Work, tmp_path: Path) -> None:
    place, options = places(reduced), ("--archive", reduced.url)
    file = tmp_path / "positions.csv"
    lines = [f"{name};{ra:.8f};{dec:+.8f};;" for name, (ra, dec) in place.items()]
    file.write_text("\n".join(["# mine", "Name;RA;Dec;period;epoch", *lines]) + "\n")
    code, text, _ = command("target", "add", file, *options)
    assert code == 0 and text.startswith("3 targets, 1 of them with a source")
    code, _, messages = command("target", "add", file, *options)
    assert code == 2 and f"{file}, line 3: '{STAR}': there is a target of this name" in messages
    code, text, messages = command("target", "measure", "--jobs", "1", *options)
    assert code == 0 and f"{2 * N_OBJECT} measurements of 2 targets on {N_OBJECT} frames" in text
    code, text, _ = command("target", "lc", DARK, "--format", "csv", *options)
    assert code == 0 and len(text.splitlines()) == N_OBJECT + 1 and "neighbour_flux" in text.splitlines()[0]
    for words in (("lc", DARK), ("lc", STAR, "--per-night"), ("lc", STAR, "-o", tmp_path / "star.ecsv"), ("remove", DARK)):
        assert command("target", *words, *options)[0] == 0
    from astropy.table import Table

    read = Table.read(tmp_path / "star.ecsv")
    assert read["flux"].unit == "adu" and read.meta["name"] == STAR and len(read) == N_OBJECT
    assert command("target", "lc", DARK, *options)[0] == 2
