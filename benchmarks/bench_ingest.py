"""Measurements through the product's own path, night after night: the writer records each frame's photometry, and the night is closed.

    python benchmarks/bench_ingest.py [--nights 2] [--frames 50] [--stars 20000] [--engine sqlite|postgresql] [--postgres URL]

All eight slots are filled. Said are the rate of each million rows (time in the writer: encoding, rows, ledger, commit), the last tenth
against the first, rows a second of processor time (this process and the server's), which a busy machine changes less, what closing a
night costs, and the bytes of a row in closed nights, with its index. PostgreSQL is a server of the benchmark's own with the settings of
docs/postgresql.md and safe against a power cut, unless `--postgres` names an empty database of another one.

The peer, in the same run, keeps a light curve as AutoWISP does: a file of HDF5 for each star, opened once a frame, to whose data sets a
value is added. It needs h5py, which starledger does not: `pip install h5py`; without it, it is left out.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from bench_pending import filled
from ingest_server import started
from record import record
from sqlalchemy.engine import Engine

from db import schema
from db.engine import is_sqlite, make_engine, sqlite_path
from db.keys import now
from db.storage import settle
from db.tables import ClosedMeasurement, FramePhotometry, OpenMeasurement
from reduction.pipeline.declaration import Output, Rows, Unit
from reduction.pipeline.order import STEPS
from reduction.pipeline.scheduler import Runner
from reduction.pipeline.writer import Writer

#: Frames that the peer writes, and stars: it is slow.
PEER_FRAMES, PEER_STARS = 10, 200
TABLES = ("open_measurement", "closed_measurement")
PRAGMAS = ("page_size", "page_count", "freelist_count")
#: Units that the scheduler records together.
TOGETHER = 8


@dataclass
class Spent:
    """Seconds in the writer for so many rows each, and of every closed night."""

    rows: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)  # of this process, and of the server's where it is on this machine
    closing: list[float] = field(default_factory=list)

    def rate(self, part: slice) -> float:
        """Rows a second over part of the frames."""
        return sum(self.rows[part]) / sum(self.seconds[part])

    @property
    def last_against_first(self) -> float:
        """Rate of the last tenth of the frames over that of the first."""
        tenth = max(1, len(self.rows) // 10)
        return self.rate(slice(-tenth, None)) / self.rate(slice(None, tenth))


def fluxes(n_star: int) -> dict[str, npt.NDArray[Any]]:
    """A frame's rows but for night and frame: every column, all slots filled."""
    rng = np.random.default_rng(1)
    columns: dict[str, npt.NDArray[Any]] = {"source_id": np.sort(rng.choice(2**62, n_star, replace=False)), "flags": np.zeros(n_star, int)}
    for column in ClosedMeasurement.__table__.c:
        if isinstance(column.type, sa.REAL):
            columns[column.name] = rng.lognormal(8.0, 2.0, n_star)
    return columns


def prepare(engine: Engine, n_night: int, n_frame: int, first: int) -> None:
    """The ledger's run, and the frames that photometry refers to."""
    number = np.arange(1, n_night * n_frame + 1)
    night = first + (number - 1) // n_frame
    nights, names = np.unique(night), np.array([f"{k:064d}" for k in number], dtype=object)
    with engine.begin() as connection:
        filled(connection, "run", run_id=[1], started=[now()])
        filled(connection, "config", config_id=[1], kind=["step"], sha256=["none"], content=["{}"])
        filled(connection, "instrument", instrument_id=[1], name=["camera"])
        filled(connection, "passband", passband_id=[1], name=["V"])
        filled(connection, "setup", setup_id=[1], instrument_id=[1])
        filled(connection, "night", night_id=nights, evening=np.array([f"day {k}" for k in nights], dtype=object))
        filled(connection, "task", task_id=[1], config_id=[1], run_id=[1], step=["ingest"], unit=["all"], input_hash=["0"], status=["done"])
        filled(connection, "exposure", exposure_id=number, sha256=names, path=names, instrument_id=1, night_id=night, task_id=1)
        ids = {"frame_id": number, "exposure_id": number, "setup_id": 1, "night_id": night, "instrument_id": 1, "passband_id": 1}
        filled(connection, "frame", **ids, channel="mono", exptime=60.0)


def measured(columns: dict[str, npt.NDArray[Any]], night_id: int, frame_id: int) -> tuple[Unit[Any], str, Output]:
    """What step photometry hands the writer of a frame."""
    place = {"night_id": night_id, "frame_id": frame_id}
    summary = {"frame_id": frame_id, "n_source": len(columns["source_id"]), "apertures": "psf", "n_zero_point": 0}
    rows = [
        Rows(ClosedMeasurement, {}, replace=place),
        Rows(OpenMeasurement, {**place, **columns}, replace=place),
        Rows(FramePhotometry, summary, upsert=True),
    ]
    return Unit(str(frame_id), f"frame {frame_id}", frame_id=frame_id, night_id=night_id), f"{frame_id:064d}", Output(rows=rows)


def fill(engine: Engine, n_night: int, n_frame: int, n_star: int, first: int = 6000) -> Spent:
    """Write the nights, each closed when it is there; say how each million rows goes."""
    prepare(engine, n_night, n_frame, first)
    step, columns, spent = STEPS["photometry"], fluxes(n_star), Spent()
    writer, parameters = Writer(engine, Path("none"), 1), step.parameters()
    said, backend = 0, backend_of(engine)
    with Runner(engine, Path("none"), {}, 1) as runner:
        for night in range(n_night):
            units = [measured(columns, first + night, 1 + night * n_frame + k) for k in range(n_frame)]
            for start in range(0, n_frame, TOGETHER):
                batch = units[start : start + TOGETHER]
                begin, before = time.perf_counter(), processor(backend)
                writer.done(step, parameters, batch)
                spent.seconds.append(time.perf_counter() - begin)
                spent.processor.append(processor(backend) - before)
                spent.rows.append(n_star * len(batch))
            begin = time.perf_counter()
            (tally,) = runner.run(["extract"])
            spent.closing.append(time.perf_counter() - begin)
            assert (tally.done, tally.failed) == (1, {})
            if sum(spent.rows[said:]) >= 1_000_000 or night == n_night - 1:
                rate, close = spent.rate(slice(said, None)) / 1e3, spent.closing[-1]
                print(
                    f"  {sum(spent.rows) / 1e6:6.2f} million rows: {rate:6.0f} krows/s, closing the night {close:5.1f} s",
                    flush=True,
                )
                said = len(spent.rows)
    return spent


def backend_of(engine: Engine) -> Path | None:
    """Where Linux says what the server's process that serves this program has done; None for SQLite, and for a server elsewhere."""
    if is_sqlite(engine):
        return None
    with engine.connect() as connection:
        place = Path(f"/proc/{connection.exec_driver_sql('SELECT pg_backend_pid()').scalar_one()}/stat")
    return place if place.exists() and "postgres" in place.read_text() else None


def processor(backend: Path | None) -> float:
    """Seconds of processor time of this process, and of the server's."""
    theirs = 0.0
    if backend is not None:
        user, system = backend.read_text().rpartition(")")[2].split()[11:13]
        theirs = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return time.process_time() + theirs


def bytes_a_row(engine: Engine, before: int) -> float:
    """Bytes that a row of a closed night takes, with its index; on SQLite all that the archive has grown by."""
    with engine.connect() as connection:
        n_open, n_row = (connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one() for name in TABLES)
        assert n_open == 0
        if not is_sqlite(engine):
            query = "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'closed_measurement'::regclass"
            return float(connection.exec_driver_sql(query).scalar_one()) / n_row
    return (used(engine) - before) / n_row


def used(engine: Engine) -> int:
    """Bytes of the pages that a SQLite archive uses."""
    with engine.connect() as connection:
        page, count, free = (connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in PRAGMAS)
    return int(page * (count - free))


def peer(folder: Path) -> float | None:
    """Rows a second of processor time of a file for each star, opened for each frame; None without h5py."""
    if importlib.util.find_spec("h5py") is None:
        return None
    h5py = importlib.import_module("h5py")
    names = [column.name for column in ClosedMeasurement.__table__.c if isinstance(column.type, sa.REAL)]
    for star in range(PEER_STARS):
        with h5py.File(folder / f"{star}.hdf5", "w") as file:
            for name in names:
                file.create_dataset(name, (0,), maxshape=(None,), chunks=(100,), dtype="f4")
    begin = time.process_time()
    for frame in range(PEER_FRAMES):
        for star in range(PEER_STARS):
            with h5py.File(folder / f"{star}.hdf5", "a") as file:
                for name in names:
                    file[name].resize((frame + 1,))
                    file[name][frame] = 1.0
    return PEER_FRAMES * PEER_STARS / (time.process_time() - begin)


@contextmanager
def archives(kinds: list[str], folder: Path, postgres: str | None) -> Iterator[dict[str, str]]:
    """Addresses of empty databases."""
    urls = {"sqlite": f"sqlite:///{folder / 'archive.db'}"} if "sqlite" in kinds else {}
    if "postgresql" not in kinds:
        yield urls
    elif postgres is not None:
        yield {**urls, "postgresql": postgres}
    else:
        with started(folder / "postgres") as url:
            yield {**urls, "postgresql": url}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nights", type=int, default=2)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--stars", type=int, default=20_000)
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), action="append")
    parser.add_argument("--postgres", metavar="URL")
    parser.add_argument("--folder", type=Path, help="where the databases lie meanwhile")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        theirs = peer(Path(name))
        print("h5py, a file for each star: " + ("not installed" if theirs is None else f"{theirs / 1e3:.2f} krows/s"))
        with archives(options.engine or ["sqlite", "postgresql"], Path(name), options.postgres) as urls:
            for kind, url in urls.items():
                ours = one(kind, url, options.nights, options.frames, options.stars)
                if theirs is not None:
                    record("ingest", {f"h5py, {kind}": theirs / ours})


def one(kind: str, url: str, n_night: int, n_frame: int, n_star: int) -> float:
    """Measure one engine; its rows a second of processor time."""
    print(kind)
    engine = make_engine(url, writer=True)
    schema.upgrade(engine)
    before = used(engine) if is_sqlite(engine) else 0
    spent = fill(engine, n_night, n_frame, n_star)
    rate = spent.rate(slice(None))
    begin = time.perf_counter()
    frozen = settle(engine, 2**15)
    if frozen:
        print(f"  {len(frozen)} partitions frozen in {time.perf_counter() - begin:.1f} s")
    size = bytes_a_row(engine, before)
    print(f"  all: {rate / 1e3:.0f} krows/s, last tenth / first {spent.last_against_first:.2f}, {size:.0f} bytes a row")
    both = sum(spent.rows) / (sum(spent.seconds) + sum(spent.closing))
    busy = sum(spent.rows) / sum(spent.processor)
    print(
        f"  {busy / 1e3:.0f} krows a second of processor time; load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
    )
    print(f"  with closing: {both / 1e3:.0f} krows/s")
    if (path := sqlite_path(engine.url)) is not None:
        print(f"  log afterwards {path.with_name(path.name + '-wal').stat().st_size / 1e6:.0f} MB")
    engine.dispose()
    return busy


if __name__ == "__main__":
    main()
