"""Running the reduction over an archive: settings, the run's row, the steps, how they stand, the exit code."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import starledger
from db.engine import doubt, reachable
from db.errors import ConfigurationError, NothingToDo, StarledgerError, exit_code_of
from db.keys import next_id, now
from db.passwords import command_line
from db.tables import Run, Task
from reduction.catalogues.services import SERVICES
from reduction.catalogues.tables import require_catalogue
from reduction.files.raw_files import find_raw_files
from reduction.frames.known_files import Settled, settle_paths
from reduction.pipeline.declaration import Unit, read_parameters
from reduction.pipeline.lost import sweep
from reduction.pipeline.order import STEPS, Line
from reduction.pipeline.pending import StepState
from reduction.pipeline.scheduler import Reporter, Runner, Tally
from reduction.pipeline.writer import Writer
from starledger.archive import Archive
from starledger.configuration import read_configuration, settings_in_force
from starledger.schema import renew_views

__all__ = [
    "StepStatus",
    "check_inputs",
    "exit_code",
    "reduce",
    "remarks",
    "require_services",
    "runner_for_reading",
    "settings_for",
    "status",
]


#: Seconds in which a reduction looks for damage of a SQLite archive before it writes: 200 MB or so.
_LOOK = 0.5


@dataclass(frozen=True)
class StepStatus:
    """How a step stands.

    Attributes
    ----------
    topic : str
        What of the night it belongs to: frames, calibration, astrometry ...
    step : str
        Its name.
    done, pending, failed : int
        Units of work.
    reasons : tuple of str
        Why those failed that did, one for each.
    summary : str
        What the step does.
    """

    topic: str
    step: str
    done: int
    pending: int
    failed: int
    reasons: tuple[str, ...]
    summary: str


def reduce(
    archive: Archive,
    paths: Sequence[Path] = (),
    *,
    steps: Sequence[str] | None = None,
    catalogues: Sequence[Path] = (),
    fetch: Sequence[str] = (),
    config: Path | None = None,
    jobs: int = 1,
    retry: bool = False,
    reporter: Reporter | None = None,
    frames: Collection[int] | None = None,
    nights: Sequence[int] = (),
) -> list[Tally]:
    """Run steps (all of them by default) over the archive's frames and the raw files given.

    Parameters
    ----------
    archive : Archive
        Any; its views become those of this version.
    paths : sequence of Path
        Files and folders of raw frames to take in.
    steps : sequence of str, optional
        Names of steps.
    catalogues : sequence of Path
        Catalogue files to take in.
    fetch : sequence of str
        Services to ask for the sky of the frames, besides those of the configuration; later runs ask them, too.
    config : Path, optional
        Configuration file; without one, that of the last run holds.
    jobs : int
        Processes; 0: one a processor.
    retry : bool
        Try again what failed.
    frames : collection of int, optional
        Only what works on these frames is worked.
    nights : sequence of int
        Nights that step source_order closes, in place of those that are over.

    Returns
    -------
    list of Tally
        One per step: done now, done before, failed.
    """
    _require_steps(steps or ())
    require_services(fetch)
    settings = _with_services(settings_for(archive, config), fetch)
    empty = check_inputs(paths, catalogues, archive.files)
    for path in empty:
        if reporter is not None:
            reporter.advance(STEPS["ingest"], Unit(str(path), str(path)), _no_frames([path]))
    with reachable(archive.engine.url):
        renew_views(archive)
    engine, processes = archive.writer, jobs or os.cpu_count() or 1
    with archive.only_writer(), reachable(engine.url):
        doubt(engine.url, seconds=_LOOK)
        sweep(engine, archive.files)
        _make_folder(archive.files)
        given: dict[str, Any] = {"catalogues": [str(path) for path in catalogues], "nights": list(nights)}
        files = find_raw_files(paths, exclude=[archive.files])
        settled = settle_paths(engine, files)
        given["paths"] = [str(path) for path in [*paths, *_failed_files(archive)]]
        given["hashed"] = settled.hashed
        with _run_row(archive, settings, keep=config is not None) as (run_id, finish):
            how: dict[str, Any] = {"jobs": processes, "retry": retry, "reporter": reporter, "frames": frames}
            with Runner(engine, archive.files, {**settings, **given}, run_id, **how) as runner:
                tallies = runner.run(steps)
            # Of files with the same bytes that all were new, one was taken in; the others are known to be its copies only now.
            doubles = settle_paths(engine, files, settled.hashed) if len(set(settled.hashed.values())) < len(settled.hashed) else Settled()
            tallies[0].remarks += [*settled.remarks, *doubles.remarks]
            finish(exit_code(tallies))
    return tallies


def exit_code(tallies: Sequence[Tally]) -> int:
    """0 when all is done, 1 when some units failed (also in earlier runs), 2 when none of the files or frames came through.

    Of several steps, frames that the plate solution of some stands for have come through, whatever a later step could not do with them.
    """
    failed = [tally for tally in tallies if tally.failed]
    hopeless = [tally for tally in failed if STEPS[tally.step].per in ("file", "frame") and not tally.done + tally.before]
    solved = any(tally.step == "solve" and tally.done + tally.before for tally in tallies)
    return 2 if hopeless and not solved else 1 if failed else 0


def status(archive: Archive) -> list[StepStatus]:
    """How every step stands, in the order of the night."""
    runner = runner_for_reading(archive)
    with reachable(archive.engine.url):
        return [_status_of(STEPS.line(name), state) for name, state in runner.states().items()]


def _status_of(line: Line, state: StepState) -> StepStatus:
    reasons = tuple(state.failed.values())
    return StepStatus(line.topic, line.name, state.done, len(state.pending), len(reasons), reasons, line.summary)


def remarks(archive: Archive) -> list[str]:
    """What the steps of the last run have to say, each thing once, with how often: masters that were missing, what was found."""
    last = sa.select(sa.func.max(Run.run_id)).scalar_subquery()
    query = (
        sa.select(Task.step, Task.message, sa.func.count(), sa.func.min(Task.task_id))
        .where(Task.run_id == last, Task.status == "done", Task.message.is_not(None))
        .group_by(Task.step, Task.message)
        .order_by(sa.func.min(Task.task_id))
    )
    with archive.engine.connect() as connection:
        rows = connection.execute(query).all()
    return [f"{step}: {message}" + (f" ({count} times)" if count > 1 else "") for step, message, count, _ in rows]


def runner_for_reading(archive: Archive) -> Runner:
    """A runner that is only asked what is pending."""
    with reachable(archive.engine.url):
        given = {"paths": [str(path) for path in _failed_files(archive)]}
    return Runner(archive.engine, archive.files, {**settings_for(archive, None), **given}, 0)


def _failed_files(archive: Archive) -> list[Path]:
    """Files that could not be taken in and still lie where they were."""
    query = sa.select(Task.task_id, Task.path).where(Task.step == "ingest", Task.status == "failed", Task.path.is_not(None))
    with archive.engine.connect() as connection:
        # Sorted here: asked for the order, SQLite reads every task of the archive by its key.
        found = [Path(str(row.path)) for row in sorted(connection.execute(query), key=lambda row: int(row.task_id))]
    return [path for path in found if path.is_file()]


def settings_for(archive: Archive, config: Path | None) -> dict[str, Any]:
    """The configuration file's content, checked; without one, that of the archive's last run."""
    return settings_in_force(archive) if config is None else read_configuration(config)


def _with_services(settings: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The settings with services to fetch catalogues from."""
    if not names:
        return settings
    section = settings.get("fetch", {})
    merged = {**section, "catalogues": list(dict.fromkeys([*section.get("catalogues", ()), *names]))}
    read_parameters(STEPS["fetch"].parameters, merged, "[fetch]")
    return {**settings, "fetch": merged}


def _require_steps(names: Sequence[str]) -> None:
    for name in names:
        if name not in STEPS:
            raise ConfigurationError(f"no step {name!r}", hint=f"known are: {', '.join(STEPS)}", code="step.unknown")


def require_services(names: Sequence[str]) -> None:
    """Refuse a service that is none of those that catalogues can be fetched from."""
    for name in names:
        if name not in SERVICES:
            raise ConfigurationError(f"no service {name!r} to fetch from", hint=f"known are: {', '.join(SERVICES)}", code="fetch.unknown")


def check_inputs(paths: Sequence[Path], catalogues: Sequence[Path], files: Path) -> list[Path]:
    """Refuse what does not exist before any work begins; return those of `paths` without frames, unless all are."""
    for path in paths:
        if not path.exists():
            raise ConfigurationError("no such file or folder", where=str(path), hint="check the path", code="input.missing")
    for path in catalogues:
        require_catalogue(path.expanduser())
    empty = [path for path in paths if not find_raw_files([path], exclude=[files])]
    if paths and len(empty) == len(paths):
        raise _no_frames(paths, find_raw_files(paths, exclude=[files]).ignored)
    return empty


def _no_frames(paths: Sequence[Path], ignored: int = 0) -> NothingToDo:
    others = f"; {ignored} other files were passed over" if ignored else ""
    return NothingToDo(
        f"no raw frames (FITS, also .gz, .bz2 and .fz, a camera's own format, TIFF or PNG){others}",
        where=", ".join(str(path) for path in paths),
        hint="name the folder that holds the raw frames",
        code="input.empty",
    )


def _make_folder(files: Path) -> None:
    try:
        files.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"this folder for the pixel products cannot be made ({error.strerror})",
            where=str(files),
            hint="give another one with --files",
            code="archive.files",
        ) from error


@contextmanager
def _run_row(archive: Archive, settings: Mapping[str, Any], *, keep: bool) -> Iterator[tuple[int, Any]]:
    """A row of `run`, begun now and ended with an exit code, that of an error or an interrupt, too.

    `keep`: settings hold for later runs even when empty.
    """
    with archive.writer.begin() as connection:
        user_config = Writer(archive.writer, archive.files, 0).config(connection, "user", settings) if settings or keep else None
        run_id = next_id(connection, Run.run_id)
        connection.execute(
            sa.insert(Run).values(
                run_id=run_id,
                command=command_line(sys.argv),
                version=starledger.__version__,
                git_commit=_git_commit(),
                host=socket.gethostname(),
                user_config_id=user_config,
                started=now(),
            )
        )

    def finish(code: int) -> None:
        with archive.writer.begin() as connection:
            connection.execute(sa.update(Run).where(Run.run_id == run_id).values(finished=now(), exit_code=code))

    try:
        with reachable(archive.engine.url):
            yield run_id, finish
    except (StarledgerError, KeyboardInterrupt) as end:
        traceback.clear_frames(end.__traceback__)  # what was cut off may hold a transaction, and its lock, as long as its frames live
        with suppress(sa.exc.DBAPIError, StarledgerError):  # a lost archive or a full disk: that it ends is what counts
            finish(exit_code_of(end))
        raise


def _git_commit() -> str | None:
    """The commit this runs from, where it is a checkout of its own."""
    root = Path(starledger.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None
