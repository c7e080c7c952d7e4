"""Frames of the real night, killed in the middle of long steps and at commits: with STARLEDGER_REALDATA=full.

The small night is always killed, at random moments and in every step: tests/steps/test_killed.py.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import compare
import numpy as np
import pytest
from killed import finish, kill_after, require_no_leftovers, start, words
from mini_night import Work

from reduction.pipeline.order import STEPS
from starledger.archive import create_archive

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(os.environ.get("STARLEDGER_REALDATA") != "full", reason="only where whole nights are asked for"),
    pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX"),
]

#: Steps that take long enough to be met by the clock.
LONG = ("ingest", "calibrate", "detect", "solve", "background", "photometry", "magnitude_fit")
#: One step in three is killed at a commit, from this one on: other ones on each engine.
FIRST = {"sqlite": 0, "postgresql": 1}


@pytest.fixture(scope="module")
def files(night_files: Callable[[str], list[Path]]) -> list[Path]:
    return night_files("hatp32")[::12]


@pytest.fixture(scope="module")
def catalogue(shared_data: Path) -> Path:
    return shared_data / "catalogues" / "hatp32_r1.5deg.ecsv"


@pytest.fixture(scope="module")
def calm(files: list[Path], catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> Work:
    """Nobody disturbed it. It is on SQLite: undisturbed, PostgreSQL gives the same (test_hatp32.py)."""
    folder = tmp_path_factory.mktemp("calm")
    work = Work(f"sqlite:///{folder / 'calm.db'}", folder / "files")
    work.worked(files, catalogues=[catalogue], jobs=2)
    return work


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_killed_by_the_clock_and_at_commits(
    engine: str, calm: Work, files: list[Path], catalogue: Path, new_archive: Callable[[str], str], tmp_path: Path
) -> None:
    work, log = Work(new_archive(engine), tmp_path / "killed"), tmp_path / "log.txt"
    create_archive(work.url, work.files).engine.dispose()
    command = words(work, files, catalogue, jobs=2)
    with_work = {row[0] for row in calm.sql("SELECT DISTINCT step FROM task")}
    met = [name for name in STEPS if name in with_work]
    at_commit = met[FIRST[engine] :: 3]
    rng = np.random.default_rng(142)
    n_kill = 0
    for step in met:
        several = STEPS[step].per in ("file", "frame") and not STEPS[step].together
        if step in LONG:
            n_kill += kill_after(step, float(rng.uniform(0.0, 1.0)), start(command, log), log)
        done = work.sql("SELECT count(*) FROM task WHERE step = :step", step=step)[0][0]
        left = len(files) - done if several else 1 - done
        if left > 0 and step in at_commit:
            number = int(rng.integers(1, left + 1)) if several else 1
            assert finish(command, log, (step, number)) == -signal.SIGKILL, log.read_text()
            n_kill += 1
    assert n_kill >= 10
    assert finish(command, log) == 0, log.read_text()
    assert compare.compare(calm.url, work.url) == []
    require_no_leftovers(work)
