"""What is pending, asked of an archive of many frames: `status`, and a run with nothing to do.

The rows are made by the bulk path: nights of object frames with their bias frames, and every task with its lineage as the steps
would have left them. The peer, in the same run, is one count over the archive's tasks, the least that any answer costs. At most 5 s of
processor time are allowed for each; start-up is measured by `bench_startup.py`.

    python benchmarks/bench_pending.py [FRAMES] [URL] [--unasked]      (100,000 frames, on SQLite, when omitted)

With `--unasked`, also what it costs when every unit must be planned, as after a new version of every step.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from record import record
from sqlalchemy.orm import Session

from db.bulk import bulk_insert
from db.engine import make_engine
from db.keys import now
from db.tables import Base, Config, StepCheck, Task
from reduction.pipeline.declaration import Context, Step
from reduction.pipeline.order import STEPS
from reduction.pipeline.pending import Survey, config_sha256, facts_sha256
from reduction.pipeline.plans import planned
from reduction.pipeline.scheduler import Runner
from reduction.pipeline.session import reading_session
from reduction.pipeline.writer import Writer
from starledger.archive import create_archive

N_BIAS, PER_NIGHT = 10, 110


def table(name: str) -> sa.Table:
    return Base.metadata.tables[name]


def filled(connection: sa.Connection, name: str, /, **columns: Any) -> None:
    """Bulk insert; columns that are not given and may not be NULL get a value that means nothing."""
    model = table(name)
    rest = {
        c.name: "" if isinstance(c.type, sa.String) else now() if isinstance(c.type, sa.DateTime) else 0
        for c in model.c
        if not c.nullable and c.name not in columns
    }
    bulk_insert(connection, model, {**rest, **columns})


def fill(engine: sa.Engine, n: int) -> None:
    """Nights of one camera: their first frames are bias frames, the others show one of ten fields."""
    number = np.arange(1, n + 1)
    night, first = 1 + (number - 1) // PER_NIGHT, (number - 1) % PER_NIGHT
    nights, jd = np.unique(night), 2_459_000.5 + night + first / 1440.0
    is_object = first >= N_BIAS
    sha = np.array([f"{k:064x}" for k in number], dtype=object)
    with engine.begin() as connection:
        filled(connection, "run", run_id=[1], started=[now()])
        filled(connection, "config", config_id=[2], kind=["step"], sha256=[""], content=["{}"])
        filled(connection, "instrument", instrument_id=[1], name=["camera"], nx=[4096], ny=[4096])
        filled(connection, "passband", passband_id=[1], name=["V"])
        filled(connection, "setup", setup_id=[1], instrument_id=[1], binning_x=[1], binning_y=[1])
        filled(connection, "night", night_id=nights, evening=np.array([str(k) for k in nights], dtype=object))
        filled(connection, "task", task_id=[0], config_id=[2], run_id=[1], step=["none"], unit=["none"], status=["superseded"])
        filled(
            connection, "exposure", exposure_id=number, sha256=sha, path=sha, instrument_id=1, night_id=night, task_id=0, pointing_ra=10.0
        )
        ids = {"frame_id": number, "exposure_id": number, "setup_id": 1, "night_id": night, "instrument_id": 1, "passband_id": 1}
        filled(connection, "frame", **ids, channel="mono", exptime=60.0, nx=4096, ny=4096, raw_step=1, jd_utc=jd, jd_tdb=jd)
        kinds = np.where(is_object, "object", "bias").astype(object)
        filled(connection, "classification", frame_id=number, type=kinds, task_id=0)
        shown, fields = number[is_object], 1 + shown_field(night[is_object])
        filled(connection, "field", field_id=np.arange(1, 11), instrument_id=1, passband_id=1, ra=np.arange(10.0), corners="[]")
        filled(connection, "frame_field", frame_id=shown, field_id=fields, task_id=0)
        filled(connection, "detection_summary", frame_id=shown, fwhm=3.0, n_detection=500, task_id=0)
        filled(connection, "calibrated_frame", frame_id=shown, task_id=0)
        filled(connection, "frame_photometry", frame_id=shown, n_source=500, task_id=0)


def shown_field(night: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return night % 10


class Worked:
    """Works every step as if its bodies took no time: tasks and lineage of all units that its plan names."""

    def __init__(self, engine: sa.Engine, files: Path) -> None:
        self.engine, self.files = engine, files
        self.writer = Writer(engine, files, 1)
        self.task_id = 0

    def step(self, step: Step) -> int:
        """Work one step; the number of its units."""
        parameters = step.read_parameters({})
        with reading_session(self.engine, step) as session:
            units = planned(Context(session, self.files, {}, step), parameters)
        if not units:
            return 0
        content = {step.name: dataclasses.asdict(parameters)}
        ids = self.task_id + 1 + np.arange(len(units))
        self.task_id += len(units)
        inputs = [(int(mine), task.task_id, task.role) for mine, unit in zip(ids, units, strict=True) for task in unit.inputs]
        with self.engine.begin() as connection:
            config = int(connection.execute(sa.select(sa.func.max(Config.config_id))).scalar_one()) + 1
            filled(connection, "config", config_id=[config], kind=["step"], sha256=[config_sha256("step", content)], content=["{}"])
            columns = {
                "unit": [unit.key for unit in units],
                "input_hash": step.input_hashes(units, parameters),
                "facts": [facts_sha256(unit.facts) for unit in units],
            }
            text = {name: np.array(values, dtype=object) for name, values in columns.items()}
            frames = np.array([np.nan if unit.frame_id is None else unit.frame_id for unit in units])
            frame = {} if np.isnan(frames).any() else {"frame_id": frames.astype(np.int64)}
            same = {"config_id": config, "run_id": 1, "step": step.name, "step_version": step.version, "status": "done", "attempts": 1}
            filled(connection, "task", task_id=ids, **text, **frame, **same, is_stale=0)
            if inputs:
                mine, theirs, roles = zip(*dict.fromkeys(inputs), strict=True)
                filled(connection, "lineage", task_id=mine, input_task_id=theirs, role=np.array(roles, dtype=object))
        self.writer.analyse(step.writes)
        return len(units)


@contextmanager
def timed(what: str, into: dict[str, float]) -> Iterator[None]:
    """Processor time of the block, second, printed and put down under `what`."""
    start = resource.getrusage(resource.RUSAGE_SELF)
    yield
    end = resource.getrusage(resource.RUSAGE_SELF)
    into[what] = end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime
    print(f"{what:52s} {into[what]:8.2f} s CPU", flush=True)


def make(engine: sa.Engine, files: Path, n: int) -> None:
    """An archive in which all is done and known to be."""
    gc.disable()  # it would look through millions of rows again and again
    try:
        fill(engine, n)
        worked = Worked(engine, files)
        print("    " + ", ".join(f"{name} {count}" for name, step in STEPS.items() if (count := worked.step(step))))
    finally:
        gc.enable()
    know(engine)


def know(engine: sa.Engine) -> None:
    """Write down of every step that nothing is pending, as a run does at its end."""
    writer = Writer(engine, Path(), 1)
    with Session(engine) as session:
        survey = Survey(session, {})
        guards = {name: (survey.guards(step, session), survey.done(name, session)) for name, step in STEPS.items() if step.guarded}
    for name, found in guards.items():
        writer.checked(STEPS[name], *found)


def forget(engine: sa.Engine) -> None:
    """Leave nothing known of any step."""
    with engine.begin() as connection:
        connection.execute(sa.delete(StepCheck))


def ask(engine: sa.Engine, files: Path) -> None:
    """What `status` asks; the archive was made such that nothing is pending."""
    pending = {name: len(state.pending) for name, state in Runner(engine, files, {}, 0).states().items() if state.pending}
    if pending:
        raise RuntimeError(f"pending: {pending}")


def run(engine: sa.Engine, files: Path) -> None:
    with Runner(engine, files, {}, 1) as runner:
        runner.run()


def measured(engine: sa.Engine, files: Path, *, unasked: bool) -> dict[str, float]:
    """Processor time of each question, second: the least of three."""
    taken: dict[str, float] = {}
    if unasked:
        forget(engine)
        with timed("status, every unit planned", taken):
            ask(engine, files)
        know(engine)
    for _ in range(3):
        now: dict[str, float] = {}
        with timed("peer", now), Session(engine) as session:
            session.execute(sa.select(Task.step, Task.status, sa.func.count()).group_by(Task.step, Task.status)).all()
        with timed("run with nothing to do", now):
            run(engine, files)
        with timed("status", now):
            ask(engine, files)
        taken = {**taken, **{name: min(value, taken.get(name, value)) for name, value in now.items()}}
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", nargs="?", type=int, default=100_000)
    parser.add_argument("url", nargs="?")
    parser.add_argument("--unasked", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "files"
        url = options.url or f"sqlite:///{folder}/archive.db"
        create_archive(url, files).engine.dispose()
        engine = make_engine(url, writer=True)
        with timed(f"made: {options.frames} frames", {}):
            make(engine, files, options.frames)
        taken = measured(engine, files, unasked=options.unasked)
        engine.dispose()
    for name in ("status", "run with nothing to do"):
        print(f"{name}: {taken[name]:.2f} s, {taken[name] / taken['peer']:.1f} times the peer")
        record("pending", {f"tasks counted, {name}": taken[name] / taken["peer"]})


if __name__ == "__main__":
    main()
