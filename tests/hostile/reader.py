"""Reads a file for each path, a JSON string a line, that comes in, and says what came of it: a process that may crash."""

from __future__ import annotations

import json
import resource
import signal
import sys
from pathlib import Path

from astropy.table import Table

import starledger
from db.errors import StarledgerError
from reduction.catalogues.columns import recognise, stars_of
from reduction.catalogues.tables import read_table
from reduction.files.raw_files import is_raw_name
from starledger.configuration import read_configuration

_SECONDS, _HANGS = 10, 60  # of processor time, and by the clock, which other work on the machine makes longer
_ADDRESSES = 6 * 2**30


def _late(_number: int, _frame: object) -> None:
    raise TimeoutError(f"more than {_SECONDS} s of work, or {_HANGS} s by the clock")


def _read(path: Path) -> None:
    """Read a file as the program does; a StarledgerError is a good answer."""
    if path.suffix == ".toml":
        read_configuration(path)
    elif path.name.startswith(("ecsv", "votable", "csv", "table")):
        table: Table = read_table(path)
        stars_of(table, recognise(table.colnames, {}, str(path)), 2000.0, str(path))
    else:
        assert is_raw_name(path.name), path
        for one in starledger.header(path):
            if one.error is not None:
                raise one.error


def _outcome(path: Path) -> str:
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    signal.alarm(_HANGS)
    try:
        _read(path)
    except StarledgerError as error:
        text = str(error)
        return f"not one line: {text!r}" if "\n" in text or "please report" in text or "; " not in text else ""
    except Exception as error:  # noqa: BLE001  what the campaign looks for
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
        return f"{type(error).__name__}: {error} at {place}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
    return ""


def _serve() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, _late)
    for line in iter(sys.stdin.readline, ""):
        wrong = _outcome(Path(json.loads(line)))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sys.stdout.write(json.dumps({"wrong": wrong, "memory": memory}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
