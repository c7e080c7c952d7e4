"""One light curve out of an archive: the view `light_curve` against a plain SELECT of as many rows by their key, in one run.

python benchmarks/bench_lightcurve.py [URL] [--stars 400] [--frames 50] [--nights 3] [--slots 3]       (on SQLite when omitted)

The archive is made by the bulk path, its reference of the first two nights; the other nights are fitted to it. The plain SELECT takes the
star's rows of `measurement` by source and night, all columns as the table has them; the view computes times, airmass, fitted magnitudes
and quality besides. The ratio says what that costs, and that it does not grow with the archive. Also timed: `archive.curve()`, as a
person asks for it, and all stars of one frame. `--stars 20000 --nights 10` are ten million rows.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from record import record
from simulated_field import best_of

from queries.lightcurve import curve_columns, nights_of
from starledger.archive import open_archive

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "support"))
from many_nights import ManyNights, Plan

FIRST = 2
PLAIN = "SELECT * FROM measurement WHERE source_id = :source_id AND night_id BETWEEN :first AND :last ORDER BY frame_id"
FRAME = "SELECT source_id, mag, mag_err, flags FROM light_curve WHERE night_id = :last AND frame_id = :frame_id"


def make(url: str, folder: Path, plan: Plan, n_night: int) -> ManyNights:
    """An archive whose light curves can be read."""
    nights = ManyNights.create(url, folder / "files", plan)
    nights.add(FIRST)
    nights.work(("magnitude_reference", "magnitude_fit"))
    if n_night > FIRST:
        nights.add(n_night - FIRST)
        nights.work(("magnitude_fit",))
    return nights


def timed(nights: ManyNights) -> dict[str, tuple[int, float]]:
    """Rows and seconds of each way to ask."""
    star = int(nights.sky.source_id[nights.plan.n_star // 2])
    frame_id = nights.frames_of(nights.nights()[-1])[0]
    url = nights.engine.url.render_as_string(hide_password=False)
    with open_archive(url, nights.archive.files) as archive, archive.engine.connect() as connection:
        first, last = nights_of(connection, star) or (0, 0)
        parameters = {"source_id": star, "first": first, "last": last, "frame_id": frame_id}

        def asked(text: str) -> Callable[[], int]:
            return lambda: len(connection.execute(sa.text(text), parameters).all())

        ways: dict[str, Callable[[], int]] = {
            "plain SELECT": asked(PLAIN),
            "view light_curve": lambda: len(curve_columns(connection, star, nights=(first, last))["source_id"]),
            "one frame of all stars": asked(FRAME),
            "archive.curve()": lambda: len(archive.curve(star).columns["source_id"]),
        }
        return {name: (way(), best_of(way, 20)) for name, way in ways.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?")
    for name, value in (("stars", 400), ("frames", 50), ("nights", 3), ("slots", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(n_star=options.stars, n_frame=options.frames, n_slot=options.slots)
        nights = make(options.url or f"sqlite:///{folder}/archive.db", Path(folder), plan, options.nights)
        with nights.engine.connect() as connection:
            n_row = connection.execute(sa.text("SELECT count(*) FROM measurement")).scalar_one()
        found, engine = timed(nights), nights.engine.dialect.name
        nights.close()
    print(f"archive of {n_row} measurements, {engine}")
    for name, (n, seconds) in found.items():
        print(f"{name:24s} {n:6d} rows {1e3 * seconds:8.2f} ms")
    plain = found["plain SELECT"][1]
    record("lightcurve", {"plain SELECT" if engine == "sqlite" else f"plain SELECT, {engine}": found["view light_curve"][1] / plain})


if __name__ == "__main__":
    main()
