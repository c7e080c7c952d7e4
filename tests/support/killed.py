"""Running the program so that it is killed: the whole process group, by SIGKILL, at a moment by the clock or at a commit.

As a script it is a nursery: for each line that it reads it forks a process, in a group of its own, that is the command line
with given words. That kills its group as it is about to commit the given result of a step: rows and files are written, and
nothing of them stands. Or the nursery kills it after a given time. Forked, since all that the program imports takes longer than most
steps of a small night.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import math
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

__all__ = ["NEVER", "finish", "kill_after", "killed_within", "require_every_row_has_its_file", "require_no_leftovers", "start", "words"]

#: In place of a step: nothing is killed.
NEVER = ("-", 0)
_PATIENCE = 600.0  # s, for what takes seconds
_PROGRAM = Path(sys.executable).with_name("starledger")


def words(work: Work, paths: list[Path], catalogue: Path, jobs: int) -> list[str]:
    """The command that reduces."""
    found = ["reduce", *paths, "--catalogue", catalogue, "--archive", work.url, "--files", work.files, "--jobs", jobs]
    return [str(word) for word in found]


def start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """The console's program in a process group of its own."""
    with log.open("wb") as stream:
        return subprocess.Popen([_PROGRAM, *command], stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, start_new_session=True)


@functools.cache
def _nursery() -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.communicate)
    return process


def _killed(command: list[str], log: Path, at: tuple[str, int], seconds: float | None = None) -> int:
    """Exit code of the command that kills itself at a commit, or is killed after some seconds."""
    nursery = _nursery()
    assert nursery.stdin is not None and nursery.stdout is not None
    step, number = at
    life = {"words": command, "log": str(log), "step": step, "number": number}
    nursery.stdin.write(json.dumps({"seconds": seconds, "life": life}) + "\n")
    nursery.stdin.flush()
    return int(nursery.stdout.readline())


def killed_within(seconds: float, command: list[str], log: Path) -> int:
    """Exit code of the command, negative when it was killed since it did not end within `seconds`."""
    return _killed(command, log, NEVER, seconds)


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
    """Run to the end, or to the commit `at` (step, number) at which it kills itself; its exit code, negative when killed.

    PostgreSQL may need a moment to see that a killed client is gone, and until then holds its lock.
    """
    until = time.monotonic() + _PATIENCE
    while (code := start(command, log).wait(_PATIENCE) if at == NEVER else _killed(command, log, at)) == 3:
        assert time.monotonic() < until and "another starledger is writing" in log.read_text(), log.read_text()
    return code


def require_no_leftovers(work: Work) -> None:
    """The files under the root are those that rows name, and no others."""
    there = {path.relative_to(work.files).as_posix() for path in work.files.rglob("*") if path.is_file()}
    assert there == {row[0] for row in work.sql("SELECT path FROM product WHERE path IS NOT NULL")}


def require_every_row_has_its_file(work: Work) -> None:
    """At any moment, however a run ended: what the archive names is there, and as long as it was."""
    for path, size in work.sql("SELECT path, size FROM product WHERE path IS NOT NULL"):
        assert (work.files / path).stat().st_size == size, path


def _main(step: str, number: int) -> None:
    from reduction.pipeline.writer import Writer
    from starledger.cli.app import main

    done, count = Writer.done, 0

    def counted(self: Writer, current: Any, parameters: Any, results: Any) -> None:
        nonlocal count
        # Results of several frames may be recorded together.
        count += len(results) if current.name == step else 0
        done(self, current, parameters, results)

    def die(connection: sa.Connection) -> None:
        if number and count >= number:
            os.killpg(0, signal.SIGKILL)

    Writer.done = counted  # type: ignore[method-assign]
    sa.event.listen(sa.Engine, "commit", die)
    main()


def _born(words: list[str], log: str, step: str, number: int) -> None:
    """The life of a forked process."""
    os.setsid()
    with Path(log).open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    sys.argv[:] = ["starledger", *words]
    code: object = 0
    try:
        _main(step, number)
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(str(code or 0)))


def _serve() -> None:
    from reduction.pipeline.order import STEPS

    for module in ("starledger.cli.app", "starledger.reduce"):
        importlib.import_module(module)
    assert all(step.body for step in STEPS.values())  # asked for, steps are imported
    for line in iter(sys.stdin.readline, ""):
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _born(**asked["life"])
        sys.stdout.write(f"{_end_of(child, asked['seconds'])}\n")
        sys.stdout.flush()


def _end_of(child: int, seconds: float | None) -> int:
    """Exit code of a forked process, whose group is killed after some seconds."""
    until = time.monotonic() + (math.inf if seconds is None else seconds)
    while seconds is not None and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() >= until:
            os.killpg(child, signal.SIGKILL)
            break
        time.sleep(0.001)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    _serve()
