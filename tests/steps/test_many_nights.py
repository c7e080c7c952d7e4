"""Many nights of a field, all numbers of which are known, through the steps from `reference` on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from many_nights import LAST, Dip, ManyNights, NightTruth, Plan
from night_model import TRUE_TERMS
from templates import make_schema

from db.engine import is_sqlite
from db.terms import COLOUR_PIVOT
from reduction.pipeline.scheduler import Runner
from starledger.reduce import status

PLAN = Plan(n_star=300, n_frame=8, n_slot=2)
N_NIGHT = 3
#: The night that comes later has more frames, so that dips have an outside.
LATER = 24
SLOT = 1
CONFIG = '[magnitude_fit]\nterms = ["colour", "airmass_colour"]\n'


@dataclass
class Worked:
    """An archive through the last steps, and one night more that was fitted to the reference of the nights before."""

    nights: ManyNights
    first: list[NightTruth]
    later: NightTruth
    dips: tuple[Dip, ...]

    def residuals(self, *truths: NightTruth) -> np.ndarray:
        """Fitted minus true magnitude of each frame and star (mag), without a constant per star; NaN where there is none."""
        rows = [self._residuals(truth) for truth in truths]
        together = np.concatenate(rows)
        number = np.maximum(np.isfinite(together).sum(axis=0), 1)
        return together - np.nansum(together, axis=0) / number

    def _residuals(self, truth: NightTruth) -> np.ndarray:
        found = np.full(truth.mag.shape, np.nan)
        frames = np.array(self.nights.frames_of(truth.night_id))
        query = sa.text("SELECT frame_id, source_id, mag FROM light_curve_all WHERE night_id = :night AND slot = :slot")
        with self.nights.engine.connect() as connection:
            rows = connection.execute(query, {"night": truth.night_id, "slot": SLOT}).all()
        frame, source, mag = (np.array(column) for column in zip(*rows, strict=True))
        found[np.searchsorted(frames, frame), np.searchsorted(self.nights.sky.source_id, source)] = mag.astype(float)
        np.testing.assert_array_equal(np.isfinite(found), truth.measured)
        return found - truth.mag

    def steady(self) -> np.ndarray:
        """Stars that do not vary, and are on most frames."""
        measured = np.concatenate([truth.measured for truth in (*self.first, self.later)])
        return np.setdiff1d(np.flatnonzero(measured.mean(axis=0) > 0.75), self.nights.sky.variables)


def dips_of(nights: ManyNights, truth: NightTruth) -> tuple[Dip, ...]:
    """Dips of a quarter of a night in forty stars that are on all frames of it, at all times."""
    rng = np.random.default_rng(5)
    stars = np.setdiff1d(np.flatnonzero(truth.measured.all(axis=0) & (nights.sky.mag < 11.5)), nights.sky.variables)
    chosen = rng.choice(stars, 40, replace=False).tolist()
    first = rng.integers(0, LATER - LATER // 4, len(chosen)).tolist()
    return tuple(Dip(star, begin, begin + LATER // 4) for star, begin in zip(chosen, first, strict=True))


def worked(url: str, folder: Path) -> Worked:
    make_schema(url)
    config = folder / "terms.toml"
    config.write_text(CONFIG)
    nights = ManyNights.create(url, folder / "files", PLAN)
    first = nights.add(N_NIGHT)
    done = {tally.step: tally.done for tally in nights.work(config=config)}
    assert done == {"magnitude_reference": 1, "magnitude_fit": N_NIGHT, "statistics": N_NIGHT}
    night_id = first[-1].night_id + 2
    dips = dips_of(nights, nights.sky.night(night_id, n_frame=LATER))
    later = nights.add_night(night_id, n_frame=LATER, dips=dips)
    done = {tally.step: tally.done for tally in nights.work()}
    assert done == {"magnitude_reference": 0, "magnitude_fit": 1, "statistics": 1}
    return Worked(nights, first, later, dips)


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


def test_only_the_last_steps_have_work(archive_url: str, tmp_path: Path) -> None:
    make_schema(archive_url)
    nights = ManyNights.create(archive_url, tmp_path / "files", replace(PLAN, n_star=80, n_frame=4))
    nights.add(2)
    assert {step.step: step.pending for step in status(nights.archive) if step.pending and step.step in LAST} == {"magnitude_reference": 1}
    nights.work()
    assert {step.step: step.pending for step in status(nights.archive) if step.pending and step.step in LAST} == {}
    nights.add_night()
    assert {step.step: step.pending for step in status(nights.archive) if step.pending and step.step in LAST} == {"magnitude_fit": 1}
    nights.close()


def test_what_is_measured_is_what_was_made_up(work: Worked) -> None:
    truth = work.first[1]
    query = sa.text("SELECT frame_id, source_id, x, flux_1 FROM measurement WHERE night_id = :night ORDER BY frame_id, source_id")
    with work.nights.engine.connect() as connection:
        frame, source, x, flux = (np.array(c) for c in zip(*connection.execute(query, {"night": truth.night_id}), strict=True))
    at = np.nonzero(truth.measured)
    np.testing.assert_array_equal(frame, np.array(work.nights.frames_of(truth.night_id))[at[0]])
    np.testing.assert_array_equal(source, work.nights.sky.source_id[at[1]])
    np.testing.assert_allclose(x.astype(float), truth.x[at], rtol=1e-6)
    np.testing.assert_allclose(flux.astype(float), truth.flux[1][at], rtol=1e-6)


def test_a_night_is_the_same_whatever_others_there_are(work: Worked) -> None:
    again = work.nights.sky.night(work.first[2].night_id)
    np.testing.assert_array_equal(again.flux, work.first[2].flux)
    assert not np.array_equal(again.flux, work.first[1].flux)


def test_injected_terms_come_back(work: Worked) -> None:
    """Each term's part of what the fit takes off, on each frame, but for what is the same of a star on all frames: no data hold that."""
    nights, truths = work.nights, [*work.first, work.later]
    columns = ", ".join(f"avg(c_{name})" for name in TRUE_TERMS)
    query = sa.text(f"SELECT frame_id, {columns} FROM magfit_solution WHERE slot = {SLOT} GROUP BY frame_id ORDER BY frame_id")
    with nights.engine.connect() as connection:
        fitted = np.array([list(map(float, row)) for row in connection.execute(query)])
    np.testing.assert_array_equal(fitted[:, 0], np.concatenate([nights.frames_of(truth.night_id) for truth in truths]))
    terms = np.concatenate([nights.sky.terms(truth) for truth in truths])
    true = np.concatenate([truth.correction for truth in truths])
    missed = np.einsum("fst,ft->fs", terms, fitted[:, 1:]) - true
    missed -= missed.mean(axis=0)
    off = np.array([np.linalg.lstsq(design, values, rcond=None)[0] for design, values in zip(terms, missed, strict=True)])
    size = np.array([1.0, *np.median(terms[..., 1:].std(axis=1), axis=0)])
    scatter = dict(zip(TRUE_TERMS, np.std(off, axis=0) * size, strict=True))
    assert scatter == {name: pytest.approx(0.0, abs=1e-3) for name in TRUE_TERMS}
    put_in = np.std(np.stack([np.concatenate([truth.coefficients[name] for truth in truths]) for name in TRUE_TERMS]), axis=1) * size
    assert all(value > 5 * scatter[name] for name, value in zip(TRUE_TERMS, put_in, strict=True) if name != "airmass_colour")


def test_no_frame_and_no_part_of_it_is_off(work: Worked) -> None:
    steady = work.steady()
    residual = work.residuals(*work.first, work.later)[:, steady]
    bright = work.nights.sky.mag[steady] < 11.5
    assert np.abs(np.nanmedian(residual[:, bright], axis=1)).max() < 1e-3
    x, y = work.nights.sky.plate.project(work.nights.sky.ra[steady], work.nights.sky.dec[steady])
    for half in (x < np.median(x), y < np.median(y), work.nights.sky.colour[steady] > COLOUR_PIVOT):
        assert np.abs(np.nanmedian(residual[:, bright & half], axis=1)).max() < 1e-3


def test_curves_are_flat_to_their_errors(work: Worked) -> None:
    steady = work.steady()
    undimmed = np.setdiff1d(steady, [dip.star for dip in work.dips])
    residual = work.residuals(*work.first, work.later)[:, undimmed]
    truth = work.later
    photons = 1.0857 * np.median(truth.flux_err[SLOT] / truth.flux[SLOT], axis=0)[undimmed]
    expected = np.hypot(photons, work.nights.plan.floor)
    ratio = np.nanstd(residual, axis=0) / expected
    assert 0.95 < np.median(ratio) < 1.1
    assert np.quantile(ratio, 0.95) < 1.5


def test_variables_vary_as_they_do(work: Worked) -> None:
    variables = work.nights.sky.variables
    magnitudes = np.concatenate([truth.mag for truth in (*work.first, work.later)])[:, variables]
    scatter = np.nanstd(work.residuals(*work.first, work.later)[:, variables], axis=0)
    assert (scatter < 0.3 * np.std(magnitudes, axis=0)).all()


def test_dips_survive_in_a_night_that_the_reference_was_made_without(work: Worked) -> None:
    residual = work.residuals(work.later)
    depth = []
    for dip in work.dips:
        inside = np.zeros(LATER, dtype=bool)
        inside[dip.first : dip.last] = True
        true = work.later.mag[inside, dip.star].mean() - work.later.mag[~inside, dip.star].mean()
        depth.append((residual[inside, dip.star].mean() - residual[~inside, dip.star].mean() + true) / true)
    assert np.mean(depth) == pytest.approx(1.0, abs=0.03)
    with work.nights.engine.connect() as connection:
        made = connection.execute(sa.text("SELECT n_night FROM magfit_reference WHERE status = 'accepted'")).scalars().all()
    assert made == [N_NIGHT]


def test_a_curve_is_read_by_key(work: Worked) -> None:
    """How much is looked at for each point."""
    source = int(work.nights.sky.source_id[work.steady()[0]])
    query = f"SELECT * FROM light_curve WHERE source_id = {source} AND night_id BETWEEN 6000 AND 6100"
    with work.nights.engine.connect() as connection:
        n_point = len(connection.exec_driver_sql(query).all())
        assert n_point > 40
        if is_sqlite(connection):
            plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")]
            found = {line.split()[1]: line.split()[0] for line in plan if line.startswith(("SCAN", "SEARCH"))}
            # Of references and frames there are few: those may be read through.
            assert {name for name, how in found.items() if how == "SCAN"} <= {"r", "f"}
            assert vm_steps(connection, query) < 2000 * n_point
        else:
            plan = [row[0] for row in connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) {query}")]
            pages = sum(int(number) for number in re.findall(r"(?:hit|read)=(\d+)", next(line for line in plan if "Buffers" in line)))
            assert pages < 30 * n_point, "\n".join(plan)


def vm_steps(connection: sa.Connection, query: str) -> int:
    """Steps that SQLite's virtual machine takes, to the next 100."""
    counted = [0]

    def tick() -> int:
        counted[0] += 100
        return 0

    driver = connection.connection.driver_connection
    driver.set_progress_handler(tick, 100)
    try:
        connection.exec_driver_sql(query).all()
    finally:
        driver.set_progress_handler(None, 0)
    return counted[0]


def test_a_night_in_a_longer_field_looks_at_no_more(tmp_path: Path) -> None:
    """Steps of SQLite's virtual machine, which go with the rows looked at, in fields of 3 and of 40 nights."""
    url = f"sqlite:///{tmp_path / 'archive.db'}"
    make_schema(url)
    nights = ManyNights.create(url, tmp_path / "files", Plan(n_star=40, n_frame=6, n_slot=2, faintest=10.5))
    counted = [0]

    def tick() -> int:
        counted[0] += 100
        return 0

    sa.event.listen(nights.engine, "connect", lambda connection, _: connection.set_progress_handler(tick, 100))
    nights.engine.dispose()
    spent: dict[str, list[int]] = {"steps": [], "status": []}
    for n_night in (3, 40):
        nights.add(n_night - len(nights.nights()))
        nights.work(LAST[:2])
        least = {"steps": 10**9, "status": 10**9}  # statistics for the planner are made now and then, of whole tables
        for _ in range(3):
            nights.add_night()
            before = counted[0]
            with Runner(nights.engine, nights.archive.files, {}, 1) as runner:
                assert {tally.step: tally.done for tally in runner.run(LAST[:2])} == {"magnitude_reference": 0, "magnitude_fit": 1}
            least["steps"] = min(least["steps"], counted[0] - before)
            nights.skip(LAST[2])
            nights.skip("source_order")
            before = counted[0]
            assert not any(step.pending for step in status(nights.archive) if step.step in LAST)
            least["status"] = min(least["status"], counted[0] - before)
        for name, number in least.items():
            spent[name].append(number)
    nights.close()
    for few, many in spent.values():
        assert many < 1.2 * few, spent


def test_a_camera_without_apertures_has_light_curves(archive_url: str, tmp_path: Path) -> None:
    make_schema(archive_url)
    nights = ManyNights.create(archive_url, tmp_path / "files", replace(PLAN, n_star=80, n_frame=5, n_slot=1))
    nights.add(1)
    nights.work()
    with nights.engine.connect() as connection:
        points, share = (
            connection.execute(sa.text(f"SELECT count(*) FROM {name}")).scalar_one() for name in ("light_curve", "light_share")
        )
    nights.close()
    assert points > 300 and share == 0
