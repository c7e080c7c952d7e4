"""The campaign of damaged files: each is read by itself, and they lie among a healthy night that must come out as if they were not there.

`make campaign` runs it, and `test_hostile.py` a sample.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import compare
import damage

__all__ = ["MOST_MEMORY", "SECONDS", "Outcome", "batches", "night", "read_each", "rows_lost", "write_mutants"]

SECONDS = 10  # that a file may take
_HANGS = 120  # after which a reader that has not said anything is taken for hanging
MOST_MEMORY = 1500  # MB
_READER = Path(__file__).with_name("reader.py")
#: Root without the rights to read (CAP_DAC_READ_SEARCH) and write (CAP_DAC_OVERRIDE) whatever permissions say: PR_CAPBSET_DROP is 24.
_ORDINARY = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "starledger", *sys.argv[1:]])
"""
_WRONG = ("Traceback", "please report")


@dataclass
class Outcome:
    """What came of some files."""

    n: int = 0
    wrong: list[str] = field(default_factory=list)
    memory: float = 0.0  # MB

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.n + other.n, self.wrong + other.wrong, max(self.memory, other.memory))


def write_mutants(folder: Path, kinds: Sequence[str], seeds: Sequence[int]) -> list[Path]:
    """A damaged file of each seed, the kinds in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    good = {**damage.good_files(), "dng": damage.dng(folder)}
    (folder / "good.dng").unlink()
    paths = []
    for seed in seeds:
        name, contents = damage.mutant(kinds[seed % len(kinds)], good[kinds[seed % len(kinds)]], seed)
        (folder / name).write_bytes(contents)
        paths.append(folder / name)
    return paths


def read_each(paths: Sequence[Path]) -> Outcome:
    """Read files one by one in a process of its own, which is begun anew where it crashes or hangs."""
    outcome, left = Outcome(), list(paths)
    while left:
        process = subprocess.Popen([sys.executable, _READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None and process.stdout is not None
        try:
            while left:
                path = left.pop(0)
                process.stdin.write(os.fsencode(json.dumps(str(path))) + b"\n")
                process.stdin.flush()
                said = _line_of(process, _HANGS)
                outcome.n += 1
                if said is None:
                    outcome.wrong.append(f"{path.name!r}: crash or hang, exit code {process.poll()}")
                    break
                outcome.memory = max(outcome.memory, said["memory"])
                if said["wrong"]:
                    outcome.wrong.append(f"{path.name!r}: {said['wrong']}")
        finally:
            process.kill()
            process.communicate()
    if outcome.memory > MOST_MEMORY:
        outcome.wrong.append(f"{outcome.memory:.0f} MB at the most")
    return outcome


def _line_of(process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any] | None:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        line = process.stdout.readline() if selector.select(seconds) else b""
    return json.loads(line) if line else None


def night(command: Sequence[str | Path], log: Path, n: int, *, ordinary: bool = False) -> Outcome:
    """Run the program over a night with `n` strange files; what it said is looked through, and its memory measured.

    `ordinary`: as somebody who may read no more than what permissions say, also where we are root.
    """
    program = [sys.executable, *(["-c", _ORDINARY] if ordinary else ["-m", "starledger"]), *map(str, command)]
    with log.open("wb") as stream:
        process = subprocess.Popen(program, stdout=stream, stderr=stream)
        until = time.monotonic() + 120 + SECONDS * n
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > until:
                process.send_signal(signal.SIGKILL)
                return Outcome(n, [f"not at its end after {120 + SECONDS * n} s"])
            time.sleep(0.02)
    code, usage = os.waitstatus_to_exitcode(ended[1]), ended[2]
    process.returncode = code
    text = log.read_text("utf-8", "replace")
    wrong = [f"{word}: {line}" for word in _WRONG for line in text.splitlines() if word in line]
    wrong += [f"exit code {code}: {text[-500:]}"] if code not in (0, 1) else []
    memory = usage.ru_maxrss / 1024
    wrong += [f"{memory:.0f} MB"] if memory > MOST_MEMORY else []
    return Outcome(n, wrong, memory)


def rows_lost(healthy: str, spoiled: str) -> list[str]:
    """Rows of the healthy night that are missing or differ among the strange files; where frames lie does not count."""
    good, other = (_by_name(compare.dump(url)) for url in (healthy, spoiled))
    found = compare.differences(good, other, most=10**6)
    return [line for line in found if " only in the second: " not in line and not line.endswith(" differences")]


def _by_name(dump: compare.Dump) -> compare.Dump:
    for table in ("exposure", "task"):
        dump[table] = {
            key: {**row, "path": None if row.get("path") is None else Path(row["path"]).name} for key, row in dump[table].items()
        }
    return dump


def batches(first: int, number: int, size: int) -> Iterator[range]:
    """Seeds, some at a time."""
    for start in range(first, first + number, size):
        yield range(start, min(start + size, first + number))
