"""Running steps: what is pending, the pool that works it, the one writer, and failures that stop nothing else."""

from __future__ import annotations

import dataclasses
import errno
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from db.engine import doubt, make_engine
from db.errors import AlgorithmFailed, ArchiveUnavailable, ConfigurationError, StarledgerError
from db.interrupts import heed
from db.whole import is_the_archives
from reduction.pipeline.declaration import Context, Later, Output, Step, UndeclaredError, Unit
from reduction.pipeline.open_nights import tolerances
from reduction.pipeline.order import STEPS
from reduction.pipeline.pending import StepState, Survey, state_of
from reduction.pipeline.session import reading_session
from reduction.pipeline.table_statistics import has_grown
from reduction.pipeline.writer import Writer

__all__ = ["Reporter", "Runner", "Tally"]


class Reporter(Protocol):
    """Who is told how the work goes."""

    def begin(self, step: Step, pending: int) -> None:
        """A step starts on `pending` units."""

    def advance(self, step: Step, unit: Unit[Any], error: StarledgerError | None) -> None:
        """A unit is done or has failed."""

    def again(self, step: Step, chance: str, units: int) -> None:
        """Units that failed are worked once more, in another way."""

    def end(self, step: Step, _tally: Tally) -> None:
        """A step has ended."""


class _Silent:
    def begin(self, step: Step, pending: int) -> None: ...

    def advance(self, step: Step, unit: Unit[Any], error: StarledgerError | None) -> None: ...

    def again(self, step: Step, chance: str, units: int) -> None: ...

    def end(self, step: Step, tally: Tally) -> None: ...


@dataclass
class Tally:
    """How one step ended."""

    step: str
    done: int = 0  # now
    before: int = 0  # by earlier runs
    failed: dict[str, str] = field(default_factory=dict)  # unit's key -> message, also of earlier runs
    seconds: float = 0.0
    remarks: list[str] = field(default_factory=list)  # of what was done beside its units


#: A unit, its input hash, and what came of it.
_Result = tuple[Unit[Any], str, Output | StarledgerError]

#: Results that are recorded together, and for how many seconds the first of them waits: each commit writes the same dozen pages of the
#: ledger anew, which would be half of all that a night writes.
_TOGETHER, _HELD = 8, 2.0

#: What the database, or what stands before it, raises at rows that it cannot keep: numbers beyond a column, texts that are none.
_REFUSED = (sa.exc.StatementError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError)
#: Of what a database raises, that which is about the rows: all else is the archive's.
_OF_ROWS = (sa.exc.IntegrityError, sa.exc.DataError, sa.exc.ProgrammingError)

# In a worker process: opened once, used for every unit.
_worker: dict[str, Any] = {}

# What a step's bodies have kept for its next units, by the step's name: that of the step at work alone.
_kept: dict[str, dict[Path, Any]] = {}


def _start_worker(url: sa.URL, files: Path, settings: Mapping[str, Any]) -> None:
    # The pool's modules register the steps; imported here since a spawned process starts empty.

    # An interrupt at the terminal reaches the whole group: the parent deals with it, the workers leave with the pool.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker.update(engine=make_engine(url, brief=True), files=files, settings=settings)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _start_deaf(pool: ProcessPoolExecutor, jobs: int) -> None:
    """Start the workers with interrupts blocked, which they inherit: one that comes while they import is the parent's to deal with."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    try:
        for _ in range(jobs):
            pool.submit(int)  # a worker is started for each
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _safe_path() -> Iterator[None]:
    """Processes that begin now do not look for modules in the folder that they are started in, which may hold a file of any name."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _work_in_pool(name: str, unit: Unit[Any], input_hash: str, parameters: Any) -> Output | StarledgerError:
    result: Output | StarledgerError = _work(
        _worker["engine"], _worker["files"], _worker["settings"], STEPS[name], unit, input_hash, parameters
    )
    return result


def _work(engine: Engine, files: Path, settings: Mapping[str, Any], step: Step, unit: Any, input_hash: str, parameters: Any) -> Any:
    """Run a body; this is the one place where whatever goes wrong with a unit becomes a record."""
    if step.name not in _kept:
        _kept.clear()
    try:
        with reading_session(engine, step) as session:
            return step.body(Context(session, files, settings, step, input_hash, _kept.setdefault(step.name, {})), unit, parameters)
    except (ArchiveUnavailable, ConfigurationError, UndeclaredError, sa.exc.OperationalError, MemoryError):
        raise  # no unit's own fault: the run ends
    except StarledgerError as error:
        return error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise ArchiveUnavailable(
                str(error.strerror), where=str(files), hint="free some space and run again; nothing done is lost", code="archive.disk"
            ) from error
        return AlgorithmFailed(
            f"{type(error).__name__}: {error}",
            where=_label(unit),
            hint="look at the disk, the network and the rights, then run with --retry",
            code=f"{step.name}.os",
        )
    except Exception as error:
        if isinstance(error, sa.exc.DBAPIError) and is_the_archives(error):
            raise
        doubt(engine.url)
        return AlgorithmFailed(
            f"{type(error).__name__}: {error}".splitlines()[0], where=_label(unit), hint="please report this", code=f"{step.name}.defect"
        )


def _label(unit: Any) -> str:
    return unit.path or unit.label if isinstance(unit, Unit) else "all"


class Runner:
    """Runs steps over one archive.

    Parameters
    ----------
    engine : Engine
        A writer's engine.
    files : Path
        Root of the pixel products.
    settings : mapping
        Sections of the configuration by step name; also "paths" (raw files
        to take in), "catalogues", and what `reduction.headers.facts` reads.
    run_id : int
        The run that tasks are recorded under.
    jobs : int
        Processes that work frames.
    retry : bool
        Whether failed units are tried again.
    frames : collection of int, optional
        Only units of these frames are worked, and what else is pending stays so.
    """

    def __init__(
        self,
        engine: Engine,
        files: Path,
        settings: Mapping[str, Any],
        run_id: int,
        *,
        jobs: int = 1,
        retry: bool = False,
        reporter: Reporter | None = None,
        frames: Collection[int] | None = None,
    ) -> None:

        self.engine = engine
        self.files = files
        self.settings = settings
        self.jobs = jobs
        self.retry = retry
        self.frames = frames
        self.reporter: Reporter = reporter or _Silent()
        self.writer = Writer(engine, files, run_id, tolerances(settings))
        self._pool: ProcessPoolExecutor | None = None
        self._survey: Survey | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _kept.clear()  # a run that ends in the middle of a step leaves nothing for the next
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def state(self, step: Step) -> StepState:
        """What the step could work on now, by what is done, failed and pending."""
        with reading_session(self.engine, step) as session:
            context = Context(session, self.files, self.settings, step)
            return state_of(context, step.read_parameters(self.settings), self._surveyed(session), retry=self.retry)

    def states(self) -> dict[str, StepState]:
        """The state of every step, in the order of the night."""
        self._survey = None
        return {name: self.state(step) for name, step in STEPS.items()}

    def _surveyed(self, session: Session) -> Survey:
        """What there is of tasks: counted again only when a task has changed."""
        if self._survey is None:
            self._survey = Survey(session, self.settings)
        return self._survey

    def run(self, names: Sequence[str] | None = None) -> list[Tally]:
        """Run the named steps, or all, in order; units of one step are all worked before the next begins."""
        self._survey = None
        return [self._run_step(step) for step in STEPS.values() if names is None or step.name in names]

    def _run_step(self, step: Step) -> Tally:
        heed()
        start = time.perf_counter()
        state = self.state(step)
        if self.frames is not None:
            state.pending = [item for item in state.pending if item[0].frame_id in self.frames]
        elif step.complete and state.planned is not None and self.writer.retire_vanished(step, state.planned):
            self._survey = None
        if state.unchanged:
            self.writer.unchanged(state.unchanged)
            self._survey = None
        tally = Tally(step.name, before=state.done, failed=dict(state.failed))
        self.reporter.begin(step, len(state.pending))
        parameters = step.read_parameters(self.settings)
        for batch in self._results(step, state.pending, parameters):
            heed()
            self._survey = None
            for unit, _, result in self._record(step, parameters, batch):
                error = result if isinstance(result, StarledgerError) else None
                if error is None:
                    tally.done += 1
                else:
                    tally.failed[unit.key] = str(error)
                self.reporter.advance(step, unit, error)
        if tally.done:
            self.writer.analyse(step.writes, grown=has_grown(state.done, tally.done))
        _kept.clear()
        tally.seconds = time.perf_counter() - start
        self.reporter.end(step, tally)
        if step.repeats and tally.done and self.frames is None and self.state(step).pending:
            again = self._run_step(step)
            again.done, again.before, again.seconds = again.done + tally.done, tally.before, again.seconds + tally.seconds
            return again
        if (step.guarded or step.per == "file") and not state.settled and self.frames is None:
            with Session(self.engine) as session:
                survey = self._surveyed(session)
                guards, n_done = survey.guards(step, session), survey.done(step.name, session)
            self.writer.checked(step, guards, n_done)
        return tally

    def _record(self, step: Step, parameters: Any, batch: list[_Result]) -> list[_Result]:
        """Write results down; rows that the database refuses become a failure of their unit alone."""
        try:
            self.writer.done(step, parameters, batch)
        except _REFUSED as error:
            if isinstance(error, sa.exc.DBAPIError) and not isinstance(error, _OF_ROWS):
                raise
            if len(batch) > 1:
                return [some for item in batch for some in self._record(step, parameters, [item])]
            unit, input_hash, result = batch[0]
            if isinstance(result, StarledgerError):
                raise
            doubt(self.engine.url)
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            refused = AlgorithmFailed(f"rows refused: {reason}", where=_label(unit), hint="please report this", code=f"{step.name}.rows")
            return self._record(step, parameters, [(unit, input_hash, refused)])
        return batch

    def _results(self, step: Step, pending: list[tuple[Unit[Any], str]], parameters: Any) -> Iterator[list[_Result]]:
        """Results in the order of the plan, so that surrogate keys do not depend on which worker was faster."""
        if not pending:
            return
        if step.together:
            units = [unit for unit, _ in pending]
            answer = _work(self.engine, self.files, self.settings, step, units, "", parameters)
            results = {unit.key: answer for unit in units} if isinstance(answer, StarledgerError) else answer
            yield [(unit, input_hash, results[unit.key]) for unit, input_hash in pending]
            return
        left = pending
        for chance in step.chances:
            again: list[tuple[Unit[Any], str]] = []
            for batch in self._one_by_one(step, left, parameters):
                done: list[_Result] = []
                for unit, input_hash, result in batch:
                    if isinstance(result, StarledgerError | Later):
                        tries = unit.tries if isinstance(result, Later) else (*unit.tries, result)
                        again.append((dataclasses.replace(unit, tries=tries, again=unit.again + 1), input_hash))
                    else:
                        done.append((unit, input_hash, result))
                if done:
                    yield done
            left = again
            if not left:
                return
            if any(unit.tries for unit, _ in left):  # that units lean on each other is nothing to tell
                self.reporter.again(step, chance, len(left))
        yield from self._one_by_one(step, left, parameters)

    def _one_by_one(self, step: Step, pending: list[tuple[Unit[Any], str]], parameters: Any) -> Iterator[list[_Result]]:
        if step.in_pool and self.jobs > 1 and len(pending) > 1:
            yield from self._pooled(step, pending, parameters)
            return
        for unit, input_hash in pending:
            yield [(unit, input_hash, _work(self.engine, self.files, self.settings, step, unit, input_hash, parameters))]

    def _pooled(self, step: Step, pending: list[tuple[Unit[Any], str]], parameters: Any) -> Iterator[list[_Result]]:
        pool = self._started_pool()
        waiting: deque[tuple[Unit[Any], str, Future[Output | StarledgerError]]] = deque()
        rest = iter(pending)
        held: list[_Result] = []
        since = 0.0
        try:
            while True:
                # A short queue ahead of the writer bounds what lies in memory.
                while len(waiting) < 2 * self.jobs + 2 and (item := next(rest, None)) is not None:
                    waiting.append((*item, pool.submit(_work_in_pool, step.name, *item, parameters)))
                if held and (len(held) == _TOGETHER or not waiting or not _comes(waiting[0][2], since + _HELD)):
                    yield held
                    held = []
                if not waiting:
                    return
                unit, input_hash, future = waiting.popleft()
                result = future.result()
                since = since if held else time.monotonic()
                held.append((unit, input_hash, result))
        except BrokenProcessPool as error:
            raise ArchiveUnavailable(
                "a worker process died (out of memory?)", where=f"step {step.name}", hint="run again, with fewer --jobs", code="run.worker"
            ) from error

    def _started_pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # The pool itself is the parallel part: threads of linear algebra inside it only fight over the processors.
            for library in ("OMP", "OPENBLAS", "MKL"):
                os.environ.setdefault(f"{library}_NUM_THREADS", "1")
            with _safe_path():
                self._pool = ProcessPoolExecutor(
                    self.jobs,
                    mp_context=multiprocessing.get_context("spawn"),
                    initializer=_start_worker,
                    initargs=(self.engine.url, self.files, dict(self.settings)),
                )
                _start_deaf(self._pool, self.jobs)
        return self._pool


def _comes(future: Future[Output | StarledgerError], until: float) -> bool:
    """Wait for a result; whether there is a good one by then. One that ends the run is looked at when what came before it is recorded."""
    try:
        return future.exception(timeout=max(0.0, until - time.monotonic())) is None
    except TimeoutError:
        return False
