"""Frames behind clouds on made-up nights: named with their numbers and left out, clear ones kept; a person's word counts for more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from many_nights import Clouds, Dip, ManyNights, NightTruth, Plan
from mini_night import command
from templates import make_schema

from db.errors import ConfigurationError
from starledger.reduce import status

PLAN = Plan(n_star=300, n_frame=16, n_slot=2)
SLOT = 1
LATER = 32
#: Patchy ones, of a night that is fitted to a stored reference; and thick ones that are even, which do no harm.
PATCHY, EVEN = (Clouds(4, 7, 0.6, 0.15), Clouds(20, 22, 0.3, 0.05)), Clouds(27, 29, 0.5, 0.0)
CLOUDY = {4, 5, 6, 20, 21}


def rows(nights: ManyNights, text: str, **values: object) -> list[tuple[object, ...]]:
    with nights.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(text), values)]


def verdicts(nights: ManyNights, night_id: int) -> list[tuple[str, str]]:
    """Verdict and reason of each frame of a night, in the order of time."""
    found = rows(
        nights,
        "SELECT v.verdict, v.reason FROM frame_verdict v JOIN latest_reference r ON r.reference_id = v.reference_id "
        "JOIN frame f ON f.frame_id = v.frame_id WHERE f.night_id = :night ORDER BY f.jd_utc",
        night=night_id,
    )
    return [(str(verdict), str(reason or "")) for verdict, reason in found]


def curve(nights: ManyNights, truth: NightTruth) -> np.ndarray:
    """Fitted magnitude of each frame and star of a night; NaN where there is none."""
    found = np.full(truth.mag.shape, np.nan)
    query = "SELECT frame_id, source_id, mag FROM light_curve_all WHERE night_id = :night AND slot = :slot"
    frame, source, mag = (np.array(column) for column in zip(*rows(nights, query, night=truth.night_id, slot=SLOT), strict=True))
    place = np.searchsorted(nights.frames_of(truth.night_id), frame), np.searchsorted(nights.sky.source_id, source)
    found[place] = mag.astype(float)
    return found


@dataclass
class Worked:
    """Two nights, the first of them cloudy at times, and a later one with dips and clouds."""

    nights: ManyNights
    first: NightTruth
    clear: NightTruth
    later: NightTruth
    dips: tuple[Dip, ...]


def dips_of(nights: ManyNights, truth: NightTruth) -> tuple[Dip, ...]:
    rng = np.random.default_rng(5)
    stars = np.setdiff1d(np.flatnonzero(truth.measured.all(axis=0) & (nights.sky.mag < 11.5)), nights.sky.variables)
    chosen = rng.choice(stars, 40, replace=False).tolist()
    first = rng.integers(0, LATER - LATER // 4, len(chosen)).tolist()
    return tuple(Dip(star, begin, begin + LATER // 4) for star, begin in zip(chosen, first, strict=True))


def worked(url: str, folder: Path) -> Worked:
    make_schema(url)
    nights = ManyNights.create(url, folder / "files", PLAN)
    first = nights.add_night(clouds=(Clouds(9, 12, 0.7, 0.15),))
    clear = nights.add_night()
    nights.work()
    night_id = clear.night_id + 3
    dips = dips_of(nights, nights.sky.night(night_id, n_frame=LATER))
    later = nights.add_night(night_id, n_frame=LATER, dips=dips, clouds=(*PATCHY, EVEN))
    nights.work()
    return Worked(nights, first, clear, later, dips)


@pytest.fixture(scope="module")
def pair(new_archive: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Worked]]:
    """The same archive on both engines; not to be written to."""
    built = {name: worked(new_archive(name), tmp_path_factory.mktemp(name)) for name in ("sqlite", "postgresql")}
    yield built
    for each in built.values():
        each.nights.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def work(request: pytest.FixtureRequest, pair: dict[str, Worked]) -> Worked:
    return pair[request.param]


def test_planted_clouds_are_named_and_no_other_frame(work: Worked) -> None:
    found = verdicts(work.nights, work.later.night_id)
    assert {k for k, (verdict, _) in enumerate(found) if verdict != "kept"} == CLOUDY
    for k in CLOUDY:
        assert "patchy clouds: residuals vary over the field by" in found[k][1] and "of light lost by all stars alike" in found[k][1]
    for k in range(EVEN.first, EVEN.last):
        assert found[k][1].endswith("mag of light lost by all stars alike") and ";" not in found[k][1]
    assert all(verdict == "kept" for verdict, _ in verdicts(work.nights, work.clear.night_id))


def test_numbers_are_those_that_were_planted(work: Worked) -> None:
    shown = work.nights.archive.frames.quality(all=True)
    mine = shown[shown["frame_id"].isin(work.nights.frames_of(work.later.night_id))]
    lost = work.later.cloud.mean(axis=1)
    np.testing.assert_allclose(mine["extinction"], lost, atol=0.05)
    # A polynomial takes some of the patches, and most of the small scatter that is left is no pattern.
    patches = np.array([work.later.cloud[k].std() for k in range(LATER)])
    assert (mine["pattern"][patches > 0] > 0.2 * patches[patches > 0]).all() and (mine["pattern"][patches < 1e-6] < 2e-3).all()


def test_excluded_frames_have_no_points_and_are_counted(work: Worked) -> None:
    found = verdicts(work.nights, work.later.night_id)
    excluded = {k for k, (verdict, _) in enumerate(found) if verdict == "excluded"}
    assert {4, 5, 6} <= excluded <= CLOUDY
    measured = np.isfinite(curve(work.nights, work.later))
    assert {k for k in range(LATER) if not measured[k].any()} == excluded
    kept = sorted(set(range(LATER)) - excluded)
    np.testing.assert_array_equal(measured[kept], work.later.measured[kept])
    (row,) = work.nights.archive.references.list().to_dict("records")
    cloudy = [verdict for verdict, _ in verdicts(work.nights, work.first.night_id)]
    assert set(cloudy[9:12]) == {"excluded"} and set(cloudy[:9] + cloudy[12:]) == {"kept"}
    assert (row["n_excluded"], row["n_weighed"]) == (len(excluded) + 3, len(CLOUDY) - len(excluded))
    told = rows(work.nights, "SELECT message FROM task WHERE step = 'magnitude_fit' AND message LIKE '%excluded%' ORDER BY task_id")
    assert len(told) == 2 and f"{len(excluded)} of {LATER} frames excluded" in str(told[1][0])
    shown = rows(
        work.nights, "SELECT verdict, verdict_reason FROM frame_quality WHERE night_id = :n ORDER BY jd_utc", n=work.later.night_id
    )
    assert [(verdict, reason or "") for verdict, reason in shown] == found


def test_dips_survive_beside_clouds(work: Worked) -> None:
    mag, truth = curve(work.nights, work.later), work.later
    clear = np.array(sorted(set(range(LATER)) - CLOUDY))
    depths, planted = [], []
    for dip in work.dips:
        inside = np.isin(clear, np.arange(dip.first, dip.last))
        for values, into in ((mag, depths), (truth.mag, planted)):
            mine = values[clear, dip.star]
            into.append(mine[inside].mean() - mine[~inside].mean())
    assert np.sum(depths) / np.sum(planted) == pytest.approx(1.0, abs=0.03)


def test_the_reference_is_what_it_is_without_the_clouds(work: Worked, tmp_path: Path) -> None:
    """Means of the cloudy night against those of the same night without clouds, which are the next reference."""
    query = "SELECT source_id, mag FROM reference_magnitude q JOIN latest_reference r ON r.reference_id = q.reference_id WHERE slot = 1"
    url = f"sqlite:///{tmp_path / 'clear.db'}"
    make_schema(url)
    clear = ManyNights.create(url, tmp_path / "files", PLAN)
    clear.add(2)
    clear.work()
    without, with_clouds = (dict(rows(each, query)) for each in (clear, work.nights))  # type: ignore[arg-type]
    clear.close()
    both = sorted(without.keys() & with_clouds.keys())
    assert len(both) > 0.95 * len(without)
    change = np.array([float(str(with_clouds[k])) - float(str(without[k])) for k in both])
    change -= np.median(change)
    mag = np.array([float(str(without[k])) for k in both])
    # Three frames of 32 are missing: what that changes of a mean of bright stars is photons.
    assert 1.48 * np.median(np.abs(change[mag < 11])) < 7e-4


def test_what_is_left_of_clear_frames_is_as_without_clouds(work: Worked) -> None:
    mag, truth = curve(work.nights, work.later), work.later
    dipped = [dip.star for dip in work.dips]
    bright = np.setdiff1d(np.flatnonzero(truth.measured.all(axis=0) & (work.nights.sky.mag < 10.5)), [*work.nights.sky.variables, *dipped])
    clear = sorted(set(range(LATER)) - CLOUDY - set(range(EVEN.first, EVEN.last)))
    left = (mag - truth.mag)[np.ix_(clear, bright)]
    assert 1.48 * np.median(np.abs(left - np.median(left, axis=0))) < 2.5e-3


@pytest.fixture
def small(archive_url: str, tmp_path: Path) -> Iterator[ManyNights]:
    """A cloudy night of a small field, reduced."""
    make_schema(archive_url)
    nights = ManyNights.create(archive_url, tmp_path / "files", replace(PLAN, n_star=150, n_frame=10))
    nights.add_night(clouds=(Clouds(3, 5, 0.7, 0.3),))
    nights.work()
    yield nights
    nights.close()


def test_a_person_keeps_a_frame_and_lets_it_be_judged_again(small: ManyNights) -> None:
    night_id = small.nights()[0]
    frames = small.frames_of(night_id)
    assert [k for k, (verdict, _) in enumerate(verdicts(small, night_id)) if verdict == "excluded"] == [3, 4]
    points = "SELECT count(*) FROM light_curve WHERE frame_id = :frame"
    assert rows(small, points, frame=frames[3]) == [(0,)]
    where = ("--archive", small.archive.engine.url.render_as_string(hide_password=False))
    code, out, messages = command("frames", "keep", str(frames[3]), "--reason", "the cloud missed our star", *where)
    assert (code, messages) == (0, ""), messages
    assert {step.step for step in status(small.archive) if step.pending} >= {"magnitude_fit"}
    small.work()
    assert int(str(rows(small, points, frame=frames[3])[0][0])) > 100
    verdict, reason = verdicts(small, night_id)[3]
    assert verdict == "kept" and "patchy clouds" in reason
    shown = small.archive.frames.quality().set_index("frame_id")
    assert shown.loc[frames[3], "kept_because"] == "the cloud missed our star" and shown.loc[frames[3], "is_overruled"] == 1
    code, out, messages = command("frames", "quality", *where)
    assert (code, messages) == (0, "") and "excluded" in out
    code, out, messages = command("frames", "judge", str(frames[3]), *where)
    assert (code, messages) == (0, ""), messages
    small.work()
    assert rows(small, points, frame=frames[3]) == [(0,)]
    with pytest.raises(ConfigurationError, match="nobody keeps"):
        small.archive.frames.judge(frames[3])
    with pytest.raises(ConfigurationError, match="needs a reason"):
        small.archive.frames.keep(frames[3], " ")


@pytest.mark.parametrize("n_star", [60, 300])
def test_clear_nights_give_no_alarm(archive_url: str, tmp_path: Path, n_star: int) -> None:
    make_schema(archive_url)
    nights = ManyNights.create(archive_url, tmp_path / "files", replace(PLAN, n_star=n_star, n_frame=20, seed=9))
    nights.add(10)
    nights.work()
    found = rows(nights, "SELECT verdict, reason FROM frame_verdict WHERE verdict <> 'kept'")
    nights.close()
    assert len(found) <= 2, found
