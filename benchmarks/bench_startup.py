"""Start-up of the command line: processor time of commands against that of the imports no command can do without, in one run.

The competitor is `python -c "import sqlalchemy, numpy, typer, rich.console"`. `lc` prints a curve of 24 points from the small archive
of the tests; so what is measured is start-up.

python benchmarks/bench_startup.py
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "support"))
from record import record
from small_archive import build

BASELINE = "import sqlalchemy, numpy, typer, rich.console"
COMMAND = "from starledger.cli import main; main()"


def processor_time(code: str, *arguments: str, repeats: int = 5) -> float:
    """Least user and system time of a child that runs `code`, second, after one run that is not counted."""
    times = []
    for _ in range(repeats + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times[1:])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STARLEDGER_TEST_RUN"] = folder  # where the tests' helpers keep the schema they copy
        url = f"sqlite:///{Path(folder) / 'archive.db'}"
        small = build(url)
        small.engine.dispose()
        baseline = processor_time(BASELINE)
        print(f"{'imports alone':14s} {baseline:.3f} s of processor time")
        curve = ("lc", str(small.target), "--archive", url)
        for name, line in {"--help": ("--help",), "lc": curve, "lc, CSV": (*curve, "--format", "csv")}.items():
            taken = processor_time(COMMAND, *line)
            record("startup", {f"imports alone, {name}": taken / baseline})
            print(f"{name:14s} {taken:.3f} s, {taken / baseline:.2f} times that")


if __name__ == "__main__":
    main()
