"""A small simulated night from raw frames to light curves, by the commands that people type."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import compare
import numpy as np
import pytest
from astropy.io import ascii as text_tables
from astropy.table import Table
from mini_night import N_CALIBRATION, N_OBJECT, Night, Work, command

from db.views import VIEW_COLUMNS
from reduction.pipeline.order import STEPS
from starledger.demo import read_truth


@pytest.fixture(scope="module")
def night_work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    folder = tmp_path_factory.mktemp("night")
    return Work(f"sqlite:///{folder / 'night.db'}", folder / "night-files")


def test_from_raw_frames_to_light_curves(night: Night, night_work: Work, tmp_path: Path) -> None:
    archive = ("--archive", night_work.url)
    code, _, messages = command("reduce", night.raw, "--catalogue", night.catalogue, *archive, "--jobs", "1")
    assert code == 0, messages
    assert f"ingest: {N_OBJECT + N_CALIBRATION} to do" in messages and "photometry" in messages

    truth = read_truth(night.folder)
    ra, dec = truth.positions()
    where = f"{ra[0]:.5f} {dec[0]:+.5f}"
    code, text, _ = command("lc", where, "--format", "csv", *archive)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert code == 0 and list(rows[0]) == list(VIEW_COLUMNS) and len(rows) == N_OBJECT
    # Times and magnitudes of the star that holds the transit are what was put in, up to a zero point and noise.
    bjd = np.array([float(row["bjd_tdb"]) for row in rows])
    assert np.abs(bjd - truth.bjd_tdb(0)).max() * 86400 < 0.05
    assert np.std([float(row["mag"]) for row in rows]) < 0.1
    assert {int(row["source_id"]) for row in rows} == {int(truth.stars.source_id[0])}

    table, picture = tmp_path / "star.ecsv", tmp_path / "star.png"
    assert command("lc", where, "-o", table, "--plot", picture, *archive)[0] == 0
    read = Table.read(table)
    assert read["mag"].unit == "mag" and len(read) == N_OBJECT and picture.read_bytes().startswith(b"\x89PNG")
    np.testing.assert_allclose(read["bjd_tdb"].value, bjd, rtol=0, atol=1e-9)

    code, text, _ = command("target", "add", "my star", where, *archive)
    assert code == 0 and str(truth.stars.source_id[0]) in text
    code, named, _ = command("lc", "my star", "--format", "csv", *archive)
    assert code == 0 and list(csv.DictReader(io.StringIO(named))) == rows

    code, text, _ = command(
        "sql", "SELECT type, count(*) AS n FROM classification GROUP BY type ORDER BY type", "--format", "csv", *archive
    )
    counts = {row["type"]: int(row["n"]) for row in text_tables.read(text, format="csv")}
    assert code == 0 and counts == {"bias": 3, "dark": 3, "flat": 4, "object": N_OBJECT}

    code, text, _ = command("status", *archive)
    assert code == 0 and all(step in text for step in STEPS)


@pytest.mark.long
def test_each_step_has_a_command_of_its_own(night: Night, reduced: Work, tmp_path: Path) -> None:
    """Typed one after the other they do what `reduce` does."""
    work = Work(f"sqlite:///{tmp_path / 'steps.db'}", tmp_path / "steps")
    options = ("--archive", work.url, "--files", work.files)
    assert command("init", *options)[0] == 0
    for step in STEPS.values():
        given = {"file": (night.raw,), "catalogue": (night.catalogue,)}.get(step.per, ())
        code, _, messages = command(step.name, *given, *options, "--jobs", "1")
        assert code == 0, messages
    assert compare.compare(reduced.url, work.url) == []
