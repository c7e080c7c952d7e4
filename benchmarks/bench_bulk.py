"""Bulk rows into `measurement`: starledger's `bulk_insert` against SQLAlchemy's own insert of many rows, in one run.

python benchmarks/bench_bulk.py

On SQLite, and on PostgreSQL (COPY) where the tests find a server. Both write the same columns, NaN as NULL, in one transaction that is
rolled back.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from record import record

from db import schema
from db.bulk import bulk_insert
from db.engine import make_engine
from db.tables import Base

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "support"))
import postgres_server

N_ROW = 20_000
NIGHT = 10
MEASUREMENT = Base.metadata.tables["closed_measurement"]


def columns() -> dict[str, np.ndarray]:
    """A frame's rows: every column, one flux in fifty unknown."""
    rng = np.random.default_rng(1)
    found: dict[str, np.ndarray] = {}
    for column in MEASUREMENT.c:
        real = isinstance(column.type, sa.REAL | sa.Double)
        found[column.name] = rng.lognormal(8.0, 2.0, N_ROW).astype(np.float32).astype(float) if real else np.ones(N_ROW, np.int64)
        if real and column.nullable:
            found[column.name][rng.random(N_ROW) < 0.02] = np.nan
    return found | {"source_id": np.arange(N_ROW) * 2**35 + 1, "night_id": np.full(N_ROW, NIGHT)}


def by_sqlalchemy(connection: sa.Connection, arrays: dict[str, np.ndarray]) -> None:
    """As its documentation does it: a list of dictionaries of Python's own numbers."""
    lists = [[None if value != value else value for value in values.tolist()] for values in arrays.values()]
    connection.execute(MEASUREMENT.insert(), [dict(zip(arrays, row, strict=True)) for row in zip(*lists, strict=True)])


def shortest(engine: sa.Engine, write: Callable[[sa.Connection], object], repeats: int) -> float:
    """Shortest time of a write that is rolled back, second; the night's partition is there already."""
    times = []
    for _ in range(repeats):
        with engine.connect() as connection:
            start = time.perf_counter()
            write(connection)
            times.append(time.perf_counter() - start)
            connection.rollback()
    return min(times)


@contextmanager
def archives() -> Iterator[dict[str, str]]:
    """URLs of an empty archive on each engine that is here."""
    with tempfile.TemporaryDirectory() as folder:
        urls = {"sqlite": f"sqlite:///{Path(folder) / 'archive.db'}"}
        server = postgres_server.find_server()
        if server is None:
            yield urls
            return
        place = Path(folder) / "postgres"
        place.mkdir()
        Path(folder).chmod(0o755)
        try:
            yield urls | {"postgresql": postgres_server.start(place, server)}
        finally:
            postgres_server.stop(place, server)


def main() -> None:
    arrays = columns()
    print(f"{N_ROW} rows of {len(arrays)} columns")
    with archives() as urls:
        for name, url in urls.items():
            engine = make_engine(url, writer=True)
            schema.upgrade(engine)
            with engine.begin() as connection:
                bulk_insert(connection, MEASUREMENT, {key: values[:1] for key, values in arrays.items()} | {"source_id": np.array([-1])})
            ours = shortest(engine, lambda connection: bulk_insert(connection, MEASUREMENT, arrays), 5)
            theirs = shortest(engine, lambda connection: by_sqlalchemy(connection, arrays), 2)
            engine.dispose()
            print(f"{name:10s} starledger {ours:6.3f} s; sqlalchemy insert {theirs:6.3f} s, {theirs / ours:5.1f} times")
            record("bulk", {name: ours / theirs})


if __name__ == "__main__":
    main()
