"""What a new night costs in a field of 10, 100 and 1,000 nights: rows, pages and processor time of the last steps and of `status`.

python benchmarks/bench_nights.py [URL] [--nights 10 100 1000] [--stars 300] [--frames 10] [--add 3]

One archive grows, so that all sizes are measured in one run. The reference is made of the first ten nights; each further one is fitted to
it in one pass, with pointings that drift and stars that are missing. At each size some nights more are added one by one, and for each are
counted, of the steps from `magnitude_reference` to `source_order`, which closes it, and of an idle `status`:

- processor time of this process and, on PostgreSQL, of the server's;
- on SQLite pages read and written (bytes that passed the system's calls, of which page caches spare none, over the page's size), and
  steps of its virtual machine, which go with the rows looked at;
- on PostgreSQL pages touched, rows looked at, rows written (pg_stat_database).

The peer is the same night in the field of the first size.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import sqlalchemy as sa
from record import record

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "support"))
from many_nights import ManyNights, Plan

from db.engine import PAGE_SIZE, is_sqlite
from reduction.pipeline.scheduler import Runner
from starledger.reduce import status

STEPS = ("magnitude_reference", "magnitude_fit", "standard_system", "magnitude_offsets", "statistics", "source_order")
_VM_STEPS = 100
#: Of a night in a larger field, against the same in the smallest.
MOST = {"pages": 1.2, "rows": 1.2, "CPU": 1.3}

Counts = dict[str, float]


class OfSqlite:
    """Counters of this process and of SQLite's virtual machine."""

    def __init__(self, engine: sa.Engine) -> None:
        self.steps = 0
        sa.event.listen(engine, "connect", lambda connection, _: connection.set_progress_handler(self._tick, _VM_STEPS))

    def _tick(self) -> int:
        self.steps += _VM_STEPS
        return 0

    def read(self) -> Counts:
        """All counters as they are now."""
        io = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        times = psutil.Process().cpu_times()
        pages = {name: int(io[key]) / PAGE_SIZE for name, key in (("pages read", "rchar"), ("pages written", "wchar"))}
        return {"CPU": times.user + times.system, "rows looked at": float(self.steps), **pages}


class OfPostgresql:
    """Counters of the database, and processor time of this process and of the server's sessions that have ended."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        with engine.connect() as connection:
            folder = str(connection.execute(sa.text("SHOW data_directory")).scalar_one())
        self.server = psutil.Process(int((Path(folder) / "postmaster.pid").read_text().splitlines()[0]))

    def read(self) -> Counts:
        """All counters as they are now; the sessions are closed for it, so that the server has counted what they did."""
        self.engine.dispose()
        while any(_is_idle(child) for child in self.server.children()):
            pass
        mine, theirs = psutil.Process().cpu_times(), self.server.cpu_times()
        query = "SELECT blks_read + blks_hit, tup_returned + tup_fetched, tup_inserted + tup_updated + tup_deleted"
        with self.engine.connect() as connection:
            text = sa.text(f"{query} FROM pg_stat_database WHERE datname = current_database()")
            pages, looked_at, written = map(float, connection.execute(text).one())
        self.engine.dispose()
        cpu = mine.user + mine.system + theirs.children_user + theirs.children_system
        return {"CPU": cpu, "pages read": pages, "rows looked at": looked_at, "rows written": written}


def _is_idle(process: psutil.Process) -> bool:
    try:
        return "idle" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # it has just ended
        return False


Counter = OfSqlite | OfPostgresql


@contextmanager
def counted(counter: Counter, into: list[Counts]) -> Iterator[None]:
    """Add what the block costs to a list."""
    before = counter.read()
    yield
    after = counter.read()
    into.append({name: after[name] - before[name] for name in after})


def one_night(nights: ManyNights, counter: Counter) -> dict[str, Counts]:
    """Add a night; the counts of the last steps, and of `status` after them."""
    nights.add_night(is_open=True)
    spent: dict[str, list[Counts]] = {"steps": [], "status": []}
    with counted(counter, spent["steps"]), Runner(nights.engine, nights.archive.files, {}, 1) as runner:
        done = {tally.step: tally.done for tally in runner.run(STEPS)}
    if done != {**dict.fromkeys(STEPS, 0), "magnitude_fit": 1, "statistics": 1, "source_order": 1}:
        raise RuntimeError(f"not one night in one pass: {done}")
    with counted(counter, spent["status"]):
        status(nights.archive)
    return {name: each[0] for name, each in spent.items()}


def grow(nights: ManyNights, n_night: int) -> None:
    """Bring the field to a number of nights, all fitted."""
    missing = n_night - len(nights.nights())
    if missing > 0:
        nights.add(missing)
        nights.closed()
        nights.work(STEPS)


def least(spent: list[dict[str, Counts]]) -> dict[str, Counts]:
    """Of several nights, the median of each count."""
    return {
        part: {name: float(np.median([each[part][name] for each in spent])) for name in spent[0][part]} for part in spent[0]
    }  # fmt: skip


def measured(nights: ManyNights, sizes: list[int], n_add: int) -> dict[int, dict[str, Counts]]:
    """Counts of a night at each size."""
    counter: Counter = OfSqlite(nights.engine) if is_sqlite(nights.engine) else OfPostgresql(nights.engine)
    nights.engine.dispose()  # so that every connection is counted
    found = {}
    for size in sizes:
        grow(nights, size)
        one_night(nights, counter)  # imports, compiled kernels, statistics of the planner
        found[size] = least([one_night(nights, counter) for _ in range(n_add)])
        print(f"{size} nights", flush=True)
        for part, counts in found[size].items():
            print(
                f"   {part:8s} "
                + ", ".join(f"{name} {value:.2f}" if name == "CPU" else f"{name} {value:.0f}" for name, value in counts.items())
            )
    return found


def compare(found: dict[int, dict[str, Counts]], engine: str) -> None:
    """Print and record the ratios to the smallest field."""
    first, *others = found
    for size in others:
        for part, counts in found[size].items():
            ratios = {name: value / max(found[first][part][name], 1e-9) for name, value in counts.items()}
            over = [name for name, ratio in ratios.items() if ratio > MOST[name.split()[0]]]
            print(
                f"{size:5d} nights, {part:7s}: " + ", ".join(f"{name} x {r:.2f}" for name, r in ratios.items()), "TOO MUCH" if over else ""
            )
            record("nights", {f"{first} nights, {engine}, {part}, {name}, {size}": r for name, r in ratios.items() if r > 0})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?")
    parser.add_argument("--nights", nargs="+", type=int, default=[10, 100, 1000])
    parser.add_argument("--stars", type=int, default=300)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--add", type=int, default=3)
    options = parser.parse_args()
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(n_star=options.stars, n_frame=options.frames)
        nights = ManyNights.create(options.url or f"sqlite:///{folder}/archive.db", Path(folder) / "files", plan)
        found = measured(nights, options.nights, options.add)
        compare(found, nights.engine.dialect.name)
        nights.close()


if __name__ == "__main__":
    main()
