"""Running the program so that it is killed: the whole process group, by SIGKILL, at a moment by the clock or at a commit.

As a script, `killed.py STEP NUMBER WORDS...` is the command line with WORDS that kills its process group as it is about to
commit the NUMBERth result of STEP: rows and files are written, and nothing of them stands.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from mini_night import Work

__all__ = ["NEVER", "finish", "kill_after", "require_no_leftovers", "start", "words"]

#: In place of a step: nothing is killed.
NEVER = ("-", 0)
_PATIENCE = 600.0  # s, for what takes seconds
_PROGRAM = Path(sys.executable).with_name("starledger")


def words(work: Work, paths: list[Path], catalogue: Path, jobs: int) -> list[str]:
    """The command that reduces."""
    found = ["reduce", *paths, "--catalogue", catalogue, "--archive", work.url, "--files", work.files, "--jobs", jobs]
    return [str(word) for word in found]


def start(command: list[str], log: Path, at: tuple[str, int] = NEVER) -> subprocess.Popen[bytes]:
    """The command in a process group of its own: the console's, or one that kills itself `at` (step, number)."""
    program = [str(_PROGRAM)] if at == NEVER else [sys.executable, __file__, at[0], str(at[1])]
    with log.open("wb") as stream:
        return subprocess.Popen([*program, *command], stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, start_new_session=True)


def kill_after(step: str, delay: float, process: subprocess.Popen[bytes], log: Path) -> bool:
    """Kill the whole group `delay` seconds after the step has begun; whether it was still running then."""
    until = time.monotonic() + _PATIENCE
    while f"\n{step}: " not in f"\n{log.read_text()}" and process.poll() is None:
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.002)
    time.sleep(delay)
    running = process.poll() is None
    group = [one for one in psutil.process_iter() if _group_of(one.pid) == process.pid]
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(_PATIENCE)
    psutil.wait_procs(group, timeout=_PATIENCE)
    return running


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def finish(command: list[str], log: Path, at: tuple[str, int] = NEVER) -> int:
    """Start, and wait for the end; its exit code, negative when killed.

    PostgreSQL may need a moment to see that a killed client is gone, and until then holds its lock.
    """
    until = time.monotonic() + _PATIENCE
    while (code := start(command, log, at).wait(_PATIENCE)) == 3:
        assert time.monotonic() < until and "another starledger is writing" in log.read_text(), log.read_text()
    return code


def require_no_leftovers(work: Work) -> None:
    """The files under the root are those that rows name, and no others."""
    there = {path.relative_to(work.files).as_posix() for path in work.files.rglob("*") if path.is_file()}
    assert there == {row[0] for row in work.sql("SELECT path FROM product WHERE path IS NOT NULL")}


def _main(step: str, number: int) -> None:
    from reduction.pipeline.writer import Ledger
    from starledger.cli.app import main

    done, count = Ledger.done, 0

    def counted(self: Ledger, current: Any, parameters: Any, results: Any) -> None:
        nonlocal count
        count += current.name == step
        done(self, current, parameters, results)

    def die(connection: sa.Connection) -> None:
        if count == number:
            os.killpg(0, signal.SIGKILL)

    Ledger.done = counted  # type: ignore[method-assign]
    sa.event.listen(sa.Engine, "commit", die)
    main()


if __name__ == "__main__":
    target, at = sys.argv[1], int(sys.argv[2])
    sys.argv[:3] = ["starledger"]
    _main(target, at)
