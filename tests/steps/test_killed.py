"""Killed at any moment, a run that is started again ends as one that nobody disturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import compare
import numpy as np
import psutil
import pytest
from mini_night import Night, Work

#: Steps in which the mini night's run is killed, each time soon after their work began.
STEPS_KILLED = {"sqlite": ("ingest", "calibrate", "background", "photometry", "magfit"), "postgresql": ("extract", "photometry", "magfit")}
_PATIENCE = 300.0  # s, for what takes seconds


def start(work: Work, paths: list[Path], catalogue: Path, log: Path, jobs: int = 2) -> subprocess.Popen[bytes]:
    """The console command in a process group of its own; its messages go to `log`."""
    words = ["reduce", *paths, "--catalogue", catalogue, "--archive", work.url, "--files", work.files, "--jobs", jobs]
    program = Path(sys.executable).with_name("starledger")
    with log.open("wb") as stream:
        return subprocess.Popen(
            [str(word) for word in (program, *words)], stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, start_new_session=True
        )


def kill_in(step: str, delay: float, process: subprocess.Popen[bytes], log: Path) -> bool:
    """Kill the whole group `delay` seconds after the step has begun; whether it was still running."""
    until = time.monotonic() + _PATIENCE
    while f"\n{step}: " not in f"\n{log.read_text()}" and process.poll() is None:
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.002)
    time.sleep(delay)
    running = process.poll() is None
    group = [child for child in psutil.process_iter(["pid"]) if _in_group(child.pid, process.pid)]
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(_PATIENCE)
    psutil.wait_procs(group, timeout=_PATIENCE)
    return running


def _in_group(pid: int, group: int) -> bool:
    try:
        return os.getpgid(pid) == group
    except (ProcessLookupError, PermissionError):
        return False


def finish(work: Work, paths: list[Path], catalogue: Path, log: Path) -> str:
    """Start again and wait for the end. A server may need a moment to see that its client is gone."""
    until = time.monotonic() + _PATIENCE
    while (code := start(work, paths, catalogue, log).wait(_PATIENCE)) == 3:
        assert time.monotonic() < until, log.read_text()
    text = log.read_text()
    assert code == 0, text
    return text


def require_no_leftovers(work: Work) -> None:
    """The files under the root are those that rows name, and no others."""
    there = {path.relative_to(work.files).as_posix() for path in work.files.rglob("*") if path.is_file()}
    assert there == {row[0] for row in work.sql("SELECT path FROM product WHERE path IS NOT NULL")}


@pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX")
def test_kills_leave_nothing_behind(archive_url: str, reduced: Work, night: Night, tmp_path: Path) -> None:
    """One archive is killed in one step after the other, and started again each time."""
    engine = "postgresql" if archive_url.startswith("postgresql") else "sqlite"
    rng = np.random.default_rng([20171220, len(engine)])
    work, log = Work(archive_url, tmp_path / "killed"), tmp_path / "log.txt"
    killed = 0
    for step in STEPS_KILLED[engine]:
        process = start(work, [night.raw], night.catalogue, log)
        killed += kill_in(step, float(rng.uniform(0.0, 0.3)), process, log)
    assert killed >= 2
    finish(work, [night.raw], night.catalogue, log)
    assert compare.compare(reduced.url, work.url) == []
    require_no_leftovers(work)
    # The killed runs are on record as such.
    assert work.sql("SELECT count(*) FROM run WHERE finished IS NULL AND exit_code IS NULL")[0][0] >= killed - 1


def test_what_a_killed_run_left_is_swept_away(reduced: Work, tmp_path: Path) -> None:
    keep = reduced.files / "notes.txt"
    keep.write_text("mine")
    before = {path for path in reduced.files.rglob("*") if path.is_file()}
    (reduced.files / "calibrated" / ".tmp-123-frame-0000011-0123456789.fits").write_bytes(b"half")
    (reduced.files / "flat" / "flat-1-mono-0123456789.fits").write_bytes(b"no row names it")
    assert reduced.worked() == {}
    assert {path for path in reduced.files.rglob("*") if path.is_file()} == before


def test_a_killed_run_lets_go_of_the_archive(new_archive: Callable[[str], str], night: Night, tmp_path: Path) -> None:
    """The next writer need not wait for a lock that nobody holds, and processes of the pool do not outlive their parent."""
    work, log = Work(new_archive("sqlite"), tmp_path / "files"), tmp_path / "log.txt"
    process = start(work, [night.raw], night.catalogue, log)
    until = time.monotonic() + _PATIENCE
    while len(children := psutil.Process(process.pid).children(recursive=True)) < 3 and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()  # the parent alone
    process.wait(_PATIENCE)
    _, alive = psutil.wait_procs(children, timeout=_PATIENCE)
    assert not alive
    assert "calibrate" in work.worked()
