"""One light curve out of an archive: the view `light_curve` against a plain SELECT of as many rows by their key, in one run.

python benchmarks/bench_lightcurve.py

The plain SELECT takes the target's rows of `measurement` by source and night, all columns as the table has them; the view computes times,
airmass, fitted magnitudes and quality besides. The ratio says what that costs, and that it does not grow with the archive.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import sqlalchemy as sa
from record import record
from simulated_field import best_of

from queries.lightcurve import curve_columns

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "support"))
from small_archive import build

N_FRAME, N_SOURCE = 150, 400
PLAIN = "SELECT * FROM measurement WHERE source_id = :source_id AND night_id BETWEEN :first AND :last ORDER BY frame_id"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STARLEDGER_TEST_RUN"] = folder  # where the tests' helpers keep the schema they copy
        small = build(f"sqlite:///{Path(folder) / 'archive.db'}", n_frame=N_FRAME, n_source=N_SOURCE)
        nights = int(small.night_id.min()), int(small.night_id.max())
        parameters = {"source_id": small.target, "first": nights[0], "last": nights[1]}
        with small.engine.connect() as connection:
            n_row = connection.execute(sa.text("SELECT count(*) FROM measurement")).scalar_one()
            curve = curve_columns(connection, small.target, nights=nights)
            plain = connection.execute(sa.text(PLAIN), parameters).all()
            view = best_of(lambda: curve_columns(connection, small.target, nights=nights), 40)
            table = best_of(lambda: connection.execute(sa.text(PLAIN), parameters).all(), 40)
        small.engine.dispose()
    print(f"archive of {n_row} measurements, curve of {len(curve['source_id'])} points, {len(plain)} rows of the table, SQLite")
    print(f"view light_curve {1e3 * view:7.2f} ms, plain SELECT {1e3 * table:7.2f} ms: {view / table:.1f} times")
    record("lightcurve", {"plain SELECT": view / table})


if __name__ == "__main__":
    main()
