"""Killed at any moment, a run that is started again ends as one that nobody disturbed."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import compare
import numpy as np
import postgres_server
import psutil
import pytest
from killed import finish, kill_after, killed_within, require_every_row_has_its_file, require_no_leftovers, start, words
from mini_night import N_OBJECT, Night, Work
from templates import administer

from reduction.pipeline.order import STEPS
from starledger.archive import create_archive

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX")

FULL = os.environ.get("STARLEDGER_REALDATA") == "full"
#: Steps in which the program is killed by the clock, soon after their work began; the last of them alone unless all was asked for.
BY_THE_CLOCK = {"sqlite": ("ingest", "background", "magnitude_fit"), "postgresql": ("calibrate", "photometry")}
#: Of the steps in which it is killed at a commit, one in so many.
EVERY = 1 if FULL else 5
#: How often it is killed at random moments on each engine, and how often the way to the server is cut.
MOMENTS = int(os.environ.get("STARLEDGER_KILLS", "30" if FULL else "6"))
CUTS = max(2, MOMENTS // 15)
#: Ends every connection to the database but the one that says so.
OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
SEED = int(os.environ.get("STARLEDGER_KILL_SEED", "20171220"))


@pytest.mark.long
def test_killed_by_the_clock(archive_url: str, reduced: Work, night: Night, tmp_path: Path) -> None:
    """One archive is killed in one step after the other, with two workers, and started again each time."""
    engine = "postgresql" if archive_url.startswith("postgresql") else "sqlite"
    rng = np.random.default_rng([20171220, len(engine)])
    work, log = Work(archive_url, tmp_path / "killed"), tmp_path / "log.txt"
    command = words(work, [night.raw], night.catalogue, jobs=2)
    steps = BY_THE_CLOCK[engine][0 if FULL else -1 :]
    killed = sum(kill_after(step, float(rng.uniform(0.0, 0.2)), start(command, log), log) for step in steps)
    assert killed, "by the clock, and still none was hit"
    assert finish(command, log) == 0, log.read_text()
    assert compare.compare(reduced.url, work.url) == []
    require_no_leftovers(work)


@pytest.mark.long
def test_killed_at_a_commit_of_every_step(reduced: Work, night: Night, tmp_path: Path) -> None:
    """What was about to be committed is done again, whatever had been written."""
    work, log = Work(f"sqlite:///{tmp_path / 'killed.db'}", tmp_path / "killed"), tmp_path / "log.txt"
    command = words(work, [night.raw], night.catalogue, jobs=1)
    with_work = {row[0] for row in reduced.sql("SELECT DISTINCT step FROM task")}
    killed_in = [name for name in STEPS if name in with_work][EVERY // 2 :: EVERY]
    rng = np.random.default_rng(20171220)
    for step in killed_in:
        several = STEPS[step].per == "frame" and not STEPS[step].together
        number = int(rng.integers(1, N_OBJECT + 1)) if several else 1
        assert finish(command, log, (step, number)) == -signal.SIGKILL, log.read_text()
        assert log.read_text().splitlines()[-1].startswith(f"{step}: ")
        assert work.sql("SELECT count(*) FROM task WHERE step = :step", step=step) == [(number - 1,)]
    assert finish(command, log) == 0, log.read_text()
    assert compare.compare(reduced.url, work.url) == []
    require_no_leftovers(work)
    assert work.sql("SELECT count(*) FROM run WHERE finished IS NULL AND exit_code IS NULL") == [(len(killed_in),)]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_killed_at_random_moments(
    engine: str, reduced: Work, night: Night, new_archive: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Started again each time until it ends, and then with a new archive, until it was killed often enough."""
    rng = np.random.default_rng([SEED, len(engine)])
    met: Counter[str] = Counter()
    n_archive = 0
    while met.total() < MOMENTS:
        n_archive += 1
        work, log = Work(new_archive(engine), tmp_path / f"killed-{n_archive}"), tmp_path / "log.txt"
        create_archive(work.url, work.files).engine.dispose()
        code = -signal.SIGKILL
        while code:
            command = words(work, [night.raw], night.catalogue, jobs=int(rng.integers(1, 3)))
            # Short ones meet the steps that end soon, and long ones get on.
            code = killed_within(float(np.exp(rng.uniform(np.log(0.2), np.log(5.0)))), command, log)
            lines = log.read_text().splitlines()
            assert code in (0, -signal.SIGKILL) or (code == 3 and "another starledger is writing" in lines[-1]), lines
            require_every_row_has_its_file(work)
            if code == -signal.SIGKILL:
                met[lines[-1].partition(":")[0] if lines else "start"] += 1
        assert compare.compare(reduced.url, work.url) == []
        require_no_leftovers(work)
    with capsys.disabled():
        sys.stdout.write(f"\n{engine}, seed {SEED}: killed {met.total()} times in {n_archive} archives: {dict(met)}\n")
    assert len(met) >= (6 if FULL else 2)


@pytest.mark.long
def test_cut_off_at_random_moments(reduced: Work, night: Night, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The server restarts, or ends every connection: the run ends with one line, and the next one goes on."""
    server = postgres_server.find_server()
    assert server is not None
    rng = np.random.default_rng([SEED, 3])
    folder, log, met = Path(tempfile.mkdtemp()), tmp_path / "log.txt", Counter[str]()
    url = postgres_server.start(folder, server)
    try:
        while met.total() < CUTS:
            name = f"night_{met.total()}"
            administer(url, f"CREATE DATABASE {name}")
            work = Work(f"{url.rpartition('/')[0]}/{name}", tmp_path / name)
            command = words(work, [night.raw], night.catalogue, jobs=int(rng.integers(1, 3)))
            code = 3
            while code:
                process = start(command, log)
                time.sleep(float(rng.uniform(2.0, 12.0)))
                if process.poll() is None and rng.random() < 0.5:
                    postgres_server.restart(folder, server)
                elif process.poll() is None:
                    work.sql(OTHERS)
                code, lines = process.wait(600.0), log.read_text().splitlines()
                assert code in (0, 3) and "Traceback" not in log.read_text(), lines
                met[lines[-2].partition(":")[0] if code and len(lines) > 1 else "none"] += bool(code)
                require_every_row_has_its_file(work)
            assert compare.compare(reduced.url, work.url) == []
            require_no_leftovers(work)
    finally:
        postgres_server.stop(folder, server)
    with capsys.disabled():
        sys.stdout.write(f"\npostgresql, seed {SEED}: cut off {met.total()} times: {dict(met)}\n")


def test_what_a_killed_run_left_is_swept_away(reduced: Work) -> None:
    (reduced.files / "notes.txt").write_text("mine")
    before = {path for path in reduced.files.rglob("*") if path.is_file()}
    (reduced.files / "calibrated" / ".tmp-123-frame-0000011-0123456789.fits").write_bytes(b"half")
    (reduced.files / "flat" / "flat-1-mono-0123456789.fits").write_bytes(b"no row names it")
    assert reduced.worked() == {}
    assert {path for path in reduced.files.rglob("*") if path.is_file()} == before


def test_workers_do_not_outlive_their_parent(new_archive: Callable[[str], str], night: Night, tmp_path: Path) -> None:
    """And the archive's lock goes with the parent, too."""
    work, log = Work(new_archive("sqlite"), tmp_path / "files"), tmp_path / "log.txt"
    process = start(words(work, [night.raw], night.catalogue, jobs=2), log)
    while len(children := psutil.Process(process.pid).children(recursive=True)) < 3:
        assert process.poll() is None, log.read_text()
    process.kill()  # the parent alone
    process.wait(60.0)
    _, alive = psutil.wait_procs(children, timeout=60.0)
    assert not alive
    names = list(STEPS)
    assert "calibrate" in work.worked(steps=names[: names.index("calibrate") + 1])
