"""Every argument and option of every command is given what nobody should: one line and an exit code come of it, on either engine."""

from __future__ import annotations

import os
import random
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import small_archive
from many_commands import Done, run_all
from typer.main import get_command

from starledger.cli.app import app

FULL = os.environ.get("STARLEDGER_REALDATA") == "full"
_SECONDS = 40.0  # in CI, with a new seed
_TOGETHER = 150  # command lines of a process
#: They make something, or take long.
_LEFT_OUT = {("demo",), ("reduce",), ("init",)}
VALUES = (
    *("99999999999999999999", "-99999999999999999999", "-1", "nan", "1e400", "", "0x10", "1 2 3 4", "90 100", "\u0663", "\U0001f4a5" * 50),
    *("\x1b[31m", "a\nb", "\udcff", "\x00", "\u202e", "x" * 5000, "y/" * 3000, "/dev/null/x", "/dev/full", "[red]x[/]", "%s %d {0}"),
    *("'; DROP TABLE run; --", '"', "-- --help", "@", "NULL"),
)
_RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Commands that do something, with their words."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, below in command.commands.items():
        yield from leaves(below, (*path, name))


def cases() -> list[list[str]]:
    """Command lines: each value as all arguments of each command, and in each of its options beside harmless arguments."""
    found: list[list[str]] = []
    for words, command in leaves(get_command(app)):
        if words in _LEFT_OUT:
            continue
        n_argument = sum(one.param_type_name == "argument" for one in command.params)
        options = [one for one in command.params if one.param_type_name == "option" and not one.is_flag and one.name != "archive"]
        for value in VALUES:
            found += [[*words, *[value] * n_argument]] if n_argument else []
            found += [[*words, *["1"] * n_argument, one.opts[0], value] for one in options]
    return found


def wrong(done: Done) -> str:
    """What is wrong with an answer."""
    said = done.stdout + done.stderr
    if done.code not in range(6):
        return f"exit code {done.code}"
    if any(words in said for words in ("Traceback", "please report", "Error:")):
        return said.strip().splitlines()[-1]
    if _RAW.search(said):
        return f"controls: {said!r}"
    # Wrong words of the command line come in a frame of Typer's; and where people look for something, it is what is printed.
    framed = "Usage:" in done.stderr
    return "" if done.code in (0, 1) or framed or len(done.stderr.strip().splitlines()) == 1 else f"not one line: {done.stderr!r}"


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_whatever_is_given_is_answered_in_a_line(
    engine: str,
    new_archive: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    url = new_archive(engine)
    small_archive.build(url, n_frame=4, n_source=4).engine.dispose()
    monkeypatch.chdir(tmp_path)
    seed = secrets.randbelow(10**9) if FULL else 1
    lines, until = cases(), time.monotonic() + _SECONDS
    random.Random(seed).shuffle(lines)
    bad, n = [], 0
    for first in range(0, len(lines) if FULL else _TOGETHER, _TOGETHER):
        answers = run_all(url, lines[first : first + _TOGETHER], tmp_path / "files")
        bad += [f"{[word[:40] for word in one.words]}: {found}" for one in answers if (found := wrong(one))]
        n += len(answers)
        if FULL and time.monotonic() > until:
            break
    record_property(f"command lines, {engine}", f"{n} of {len(lines)} from seed {seed}")
    assert bad == [], "\n".join(bad)
