"""Rows of `measurement` as arrays: starledger's `fetch_arrays` against SQLAlchemy's rows turned into arrays, in one run.

python benchmarks/bench_fetch.py

On SQLite, and on PostgreSQL (COPY) where the tests find a server. Both read what a magnitude fit needs of ten frames in three slots.
"""

from __future__ import annotations

import numpy as np
import sqlalchemy as sa
from bench_bulk import MEASUREMENT, N_ROW, archives, columns
from record import record
from simulated_field import best_of

from db import schema
from db.bulk import bulk_insert
from db.engine import make_engine
from db.fetch import fetch_arrays

N_FRAME = 10
FLUXES = [f"{stem}_{slot}" for slot in range(3) for stem in ("flux", "flux_err")]
SELECT = f"SELECT source_id, frame_id, flags, x, y, {', '.join(FLUXES)} FROM measurement"
KINDS = "iii" + "f" * (2 + len(FLUXES))


def by_sqlalchemy(connection: sa.Connection) -> list[np.ndarray]:
    """As is usual: all rows, then a column of each."""
    kinds = {"i": np.int64, "f": np.float64}
    rows = zip(*connection.execute(sa.text(SELECT)).all(), strict=True)
    return [np.array(column, dtype=kinds[kind]) for column, kind in zip(rows, KINDS, strict=True)]


def main() -> None:
    arrays = columns()
    print(f"{N_FRAME * N_ROW} rows of {len(KINDS)} columns")
    with archives() as urls:
        for name, url in urls.items():
            engine = make_engine(url, writer=True)
            schema.upgrade(engine)
            with engine.begin() as connection:
                for frame in range(N_FRAME):
                    bulk_insert(connection, MEASUREMENT, arrays | {"frame_id": np.full(N_ROW, frame)})
            with engine.connect() as connection:
                for one, other in zip(fetch_arrays(connection, SELECT, kinds=KINDS), by_sqlalchemy(connection), strict=True):
                    np.testing.assert_array_equal(np.sort(one), np.sort(other))
                ours = best_of(lambda connection=connection: fetch_arrays(connection, SELECT, kinds=KINDS), 3)
                theirs = best_of(lambda connection=connection: by_sqlalchemy(connection), 2)
            engine.dispose()
            print(f"{name:10s} starledger {ours:6.3f} s; sqlalchemy rows {theirs:6.3f} s, {theirs / ours:5.1f} times")
            record("fetch", {name: ours / theirs})


if __name__ == "__main__":
    main()
