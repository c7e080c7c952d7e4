"""Command lines as pages show them, read by the commands themselves."""

from __future__ import annotations

import shlex

from starledger.docs import commands

__all__ = ["COMMANDS", "command_of", "parse"]

COMMANDS = dict(commands())


def command_of(line: str) -> str | None:
    """Full name of the command that a line calls; None where there is no such command."""
    words = shlex.split(line, comments=True)
    return max((path for path in COMMANDS if words[: len(path.split())] == path.split()), key=len, default=None)


def parse(line: str) -> None:
    """Have Typer read a command line, and stop before the command begins."""
    words = shlex.split(line, comments=True)
    path = command_of(line)
    if path is None:
        assert words[1:2] == ["--help"] or words[1:2] == ["--version"], f"no such command: {line}"
        return
    context = COMMANDS[path].make_context(path, words[len(path.split()) :])
    context.close()
