"""Many commands in one process of their own: starting Python for each takes longer than what it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Done", "run_all"]

_PROGRAM = """
import json, sys
from typer.testing import CliRunner
from db.errors import StarledgerError
from starledger.cli.app import app

done = []
for words in json.load(sys.stdin):
    result = CliRunner().invoke(app, words)
    known = isinstance(result.exception, StarledgerError)
    code = result.exception.exit_code if known else result.exit_code
    strange = "" if known or isinstance(result.exception, (SystemExit, type(None))) else f"Traceback: {result.exception!r}"
    done.append([code, result.stdout, result.stderr + (f"{result.exception}\\n" if known else strange)])
print(json.dumps(done))
"""


@dataclass(frozen=True)
class Done:
    """How a command ended; an error that is no one's to read begins with Traceback."""

    words: list[str]
    code: int
    stdout: str
    stderr: str


def run_all(url: str, commands: list[list[str]], files: Path, *, unprivileged: bool = False) -> list[Done]:
    """Commands on an archive; where this user may do all, without the right to pass over the modes of files if so asked."""
    environment = {**os.environ, "STARLEDGER_FILES": str(files), "STARLEDGER_ARCHIVE": url, "PYTHONPATH": os.pathsep.join(sys.path)}
    prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if unprivileged and os.geteuid() == 0 else []
    ran = subprocess.run(
        [*prefix, sys.executable, "-c", _PROGRAM], input=json.dumps(commands), env=environment, capture_output=True, text=True, check=True
    )
    return [Done(words, *answer) for words, answer in zip(commands, json.loads(ran.stdout), strict=True)]
