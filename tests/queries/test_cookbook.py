"""Every statement of the cookbook: the same answer on both engines, the right one, and from an index."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from small_archive import DEPTH, DURATION, EPOCH, NOW, PERIOD, SmallArchive, calibrate_task, fit_task, ingest_task, photometry_task

from db.engine import is_sqlite
from db.flags import Flag
from queries.sql import sql_frame

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cookbook.md").read_text()
SECTIONS = {int(number): text for number, text in re.findall(r"^## (\d+)\. (.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)}
STATEMENTS = {number: re.findall(r"```sql\n(.*?)```", text, re.DOTALL) for number, text in SECTIONS.items()}
WANTED = (1, 2, 3, 4, 5, 6, 7, 8, 12)
BULK = ("open_measurement", "closed_measurement", "magfit_solution", "detection")


def parameters(small: SmallArchive, number: int) -> dict[str, Any]:
    night = {"first_evening": "2017-12-19", "last_evening": "2017-12-20"}
    return {
        1: {"source_id": small.target, "max_fit_rms": 0.02, "first_evening": "2017-12-19", "last_evening": "2017-12-19"},
        2: {"ra": float(small.ra[1]), "dec": float(small.dec[1]), "radius": 0.05, "min_points": 3, "min_excess": 3.0, "max_eta": 1.0},
        3: {},
        4: night,
        5: night,
        6: {"source_id": small.target, "frame_id": 3},
        7: {"old_reference": 1, "new_reference": 2},
        8: {"source_id": small.target, **night},
        12: {"min_points": 3},
    }[number]


def ask(small: SmallArchive, number: int, **changed: Any) -> pd.DataFrame:
    return sql_frame(small.engine, STATEMENTS[number][0], parameters(small, number) | changed)


def test_the_questions_are_there_each_one_statement() -> None:
    assert tuple(SECTIONS) == WANTED
    assert {number: len(found) for number, found in STATEMENTS.items()} == dict.fromkeys(WANTED, 1)
    assert not any(";" in found[0] for found in STATEMENTS.values())


@pytest.mark.parametrize("number", WANTED)
def test_every_parameter_has_an_example_value(number: int) -> None:
    statement = STATEMENTS[number][0]
    prose = SECTIONS[number].replace(statement, "")
    names = set(re.findall(r":([a-z_]+)", statement))
    assert {name for name in names if not re.search(rf"`:{name}` [\d'.]+", prose)} == set()


@pytest.mark.parametrize("number", WANTED)
def test_both_engines_give_the_same_answer(number: int, pair: dict[str, SmallArchive]) -> None:
    one, other = (ask(archive, number) for archive in pair.values())
    assert len(one) > 0
    pd.testing.assert_frame_equal(one, other, check_dtype=False, rtol=1e-12)


@pytest.mark.parametrize("number", WANTED)
def test_the_plan_reads_bulk_tables_by_key(number: int, small: SmallArchive) -> None:
    """Each bulk table is entered by the columns of its key, never read through."""
    with small.engine.connect() as connection:
        if is_sqlite(connection):
            plan = [
                row[-1] for row in connection.execute(sa.text("EXPLAIN QUERY PLAN " + STATEMENTS[number][0]), parameters(small, number))
            ]
            # q are the solutions in the views; frames (f), sources (s), tasks (t) and the others come from an index, too. The view
            # measurement (m) is never read as a whole.
            scans = [line for line in plan if re.match(rf"SCAN (m|q|s|f|t|l|b|n|o|{'|'.join(BULK)})( |$)", line) and not _is_small(line)]
        else:
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            text = "EXPLAIN (COSTS OFF) " + STATEMENTS[number][0]
            plan = [row[0] for row in connection.execute(sa.text(text), parameters(small, number))]
            scans = [line for line in plan if "Seq Scan" in line and any(f"on {table}" in line for table in BULK)]
            # An index that is read from end to end has no condition.
            entered = [k for k, line in enumerate(plan) if re.search(rf"Index.* (Scan|Scan using \S+) on ({'|'.join(BULK)})", line)]
            scans += [plan[k] for k in entered if "Cond" not in plan[k + 1]]
    assert scans == [], "\n".join(plan)


def _is_small(line: str) -> bool:
    # In question 1, b is the nine rows of flag_bit; in question 6, b is the recursion's own table.
    return line == "SCAN b"


def test_1_cuts_are_applied(small: SmallArchive) -> None:
    found = ask(small, 1)
    rejected = int(Flag.SATURATED | Flag.EDGE | Flag.BAD_PIXEL)
    keep = (small.night_id == 6562) & (small.flags[:, 0] & rejected == 0) & (small.fit_rms < 0.02)
    assert 0 < keep.sum() < (small.night_id == 6562).sum() - 2
    np.testing.assert_allclose(found["bjd_tdb"], small.bjd_tdb[keep, 0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found["mag"], small.mag[keep, 0], rtol=0, atol=3e-7)


def test_2_finds_the_variable_and_no_other(small: SmallArchive) -> None:
    found = ask(small, 2)
    assert found["source_id"].tolist() == [small.source_id[1]] * 2  # once for each field
    assert set(found["passband"]) == {"clear", "V"}
    assert (found["excess"] > 3).all() and (found["eta"] == 0.4).all()
    assert ask(small, 2, ra=float(small.ra[1]) + 0.2).empty


def test_2_cuts_a_circle_and_not_a_band(small: SmallArchive) -> None:
    found = ask(small, 2, min_excess=0.0, radius=0.031, ra=float(small.ra[1]), dec=float(small.dec[1]))
    u = [np.radians([small.ra, small.dec]), np.radians([small.ra[1], small.dec[1]])]
    cosine = np.sin(u[0][1]) * np.sin(u[1][1]) + np.cos(u[0][1]) * np.cos(u[1][1]) * np.cos(u[0][0] - u[1][0])
    inside = small.source_id[np.degrees(np.arccos(np.clip(cosine, -1, 1))) <= 0.031]
    assert len(inside) > 2
    assert set(found["source_id"]) == set(inside.tolist())


def test_3_gives_the_points_in_transit(small: SmallArchive) -> None:
    found = ask(small, 3)
    bjd = small.bjd_tdb[:, 0]
    inside = np.abs(bjd - EPOCH - PERIOD * np.round((bjd - EPOCH) / PERIOD)) <= DURATION / 2
    assert set(found["name"]) == {"HAT-P-32 b"} and inside.sum() >= 4
    np.testing.assert_allclose(found["bjd_tdb"], np.sort(bjd[inside]), rtol=0, atol=1e-9)
    np.testing.assert_allclose(found["mag"], 10.0 + DEPTH, atol=3e-7)
    assert found["hours"].abs().max() <= 12 * DURATION
    assert found["hours"].min() < 0 < found["hours"].max()


def test_4_counts_and_averages_by_night(small: SmallArchive) -> None:
    found = ask(small, 4)
    assert found["evening"].tolist() == ["2017-12-19", "2017-12-20"]
    fwhm = 2.5 + 0.1 * np.arange(len(small.frame_id))
    for k, night in enumerate((6562, 6563)):
        of_night = small.night_id == night
        assert found["n_frame"][k] == found["n_object"][k] == of_night.sum()
        assert found["fwhm"][k] == pytest.approx(fwhm[of_night].mean())
        assert found["zero_point"][k] == pytest.approx(25 - small.zero_point[of_night].mean())
    assert found["n_failed"].tolist() == [0, 0]


def test_4_counts_failures(fresh: SmallArchive) -> None:
    with fresh.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO task (task_id, step, step_version, unit, frame_id, input_hash, config_id, run_id, status, attempts, finished,"
            " message, facts, is_stale) "
            f"VALUES (9999, 'solve', 1, '2', 2, 'x', 1, 1, 'failed', 1, '{NOW}', 'no stars', '', 0)"
        )
    assert ask(fresh, 4)["n_failed"].tolist() == [1, 0]
    reason = sql_frame(fresh.engine, "SELECT path, failure FROM frame_quality WHERE failure IS NOT NULL")
    assert reason.iloc[0].tolist() == ["/night/002.fits", "solve: no stars"]


def test_5_shows_the_cloud(small: SmallArchive) -> None:
    found = ask(small, 5).set_index("frame_id")
    assert found["against_mean"].idxmin() == 4 and found["against_mean"].min() < -0.6
    zero_point = 25 - small.zero_point
    group = (small.night_id == 6562) & (small.field_id == 1)
    np.testing.assert_allclose(found["against_mean"].loc[small.frame_id[group]], (zero_point - zero_point[group].mean())[group], atol=1e-12)


def test_6_goes_back_to_the_raw_files(small: SmallArchive) -> None:
    found = ask(small, 6)
    field_1 = small.frame_id[small.field_id == 1]
    made = [1, 2, int(fit_task(1)), int(ingest_task(small.frame_id[-1]))]  # catalogue, bias and its raw file, fit
    made += [int(task(frame)) for frame in field_1 for task in (ingest_task, calibrate_task, photometry_task)]
    assert found["task_id"].tolist() == sorted(made)
    assert set(found["raw_file"].dropna()) == {f"/night/{k:03d}.fits" for k in [*field_1, small.frame_id[-1]]}
    assert found["catalogue"].dropna().tolist() == ["/night/stars.ecsv"]
    assert set(found["product_kind"].dropna()) == {"bias", "calibrated"}
    assert set(found["version"]) == {"0.1.0"} and set(found["git_commit"]) == {"f" * 40}
    assert found.set_index("step")["parameters"]["magnitude_fit"] == '{"magnitude_fit":{"order":2}}'


def test_6_without_the_fit_is_the_frame_alone(small: SmallArchive) -> None:
    found = ask(small, 6, source_id=-1)
    expected = {1, 2, int(ingest_task(small.frame_id[-1])), *(int(task(3)) for task in (ingest_task, calibrate_task, photometry_task))}
    assert set(found["task_id"]) == expected


def test_7_compares_references(small: SmallArchive) -> None:
    found = ask(small, 7)
    true = 10.0 + 0.1 * (np.arange(len(small.source_id)) % 50)
    assert found["n_star"].sum() == len(true) == found["n_better"].sum()
    assert found["mag_from"].tolist() == sorted({float(np.floor(2 * mag) / 2) for mag in true})
    np.testing.assert_allclose(found["shift"], -0.01, atol=1e-12)
    np.testing.assert_allclose(found["old_scatter"] / found["new_scatter"], 2.0)


def test_8_finds_what_was_not_measured_and_what_was_flagged(fresh: SmallArchive) -> None:
    rejected = int(Flag.SATURATED | Flag.EDGE | Flag.BAD_PIXEL)
    flagged = fresh.flags[:, 0] & rejected != 0
    gone = fresh.frame_id[~flagged][2]
    with fresh.engine.begin() as connection:
        for name in BULK[:2]:
            connection.execute(
                sa.text(f"DELETE FROM {name} WHERE source_id = :s AND frame_id = :f"), {"s": int(fresh.target), "f": int(gone)}
            )
    found = ask(fresh, 8)
    assert dict(zip(found["frame_id"], found["what"], strict=True)) == {
        **dict.fromkeys(fresh.frame_id[flagged].tolist(), "flagged"),
        int(gone): "not measured",
    }


def test_12_compares_scatter_with_errors(small: SmallArchive) -> None:
    found = ask(small, 12)
    assert found.groupby(["passband", "slot"])["n_star"].sum().to_dict() == {
        (name, slot): len(small.source_id) for name in ("V", "clear") for slot in (1, 2)
    }
    quiet = found[(found["passband"] == "clear") & (found["slot"] == 1) & (found["mag_from"] == 11.0)]
    assert quiet["scatter"].item() == pytest.approx(0.002) and quiet["excess"].item() == pytest.approx(0.5)
    assert (found["chi2"] == 1.0).all()
