"""What people see while the reduction runs, and the summary at its end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from db.errors import StarledgerError
from reduction.pipeline.declaration import Step, Unit
from reduction.pipeline.scheduler import Tally
from starledger.cli.output import Screen

__all__ = ["ProgressReporter", "summary_table"]

#: Failures of one step that are printed one by one; the rest are counted.
_PRINTED = 10
#: Seconds between two lines that say, where there is no terminal, how far a step is: a log of a night keeps to a few pages.
_QUIET = 5.0


class ProgressReporter:
    """Progress bars on a terminal, elsewhere a line for each step with work and for units as they come; failures one line each."""

    def __init__(self, console: Screen) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description:<11}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._failed: Counter[str] = Counter()
        self._left = 0
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def begin(self, step: Step, pending: int) -> None:
        """Announce a step that has work."""
        self._left, self._said = pending, time.monotonic()
        if pending and not self.console.is_terminal:
            self.console.say(f"{step.name}: {pending} to do")
        self._task = self.progress.add_task(step.name, total=pending) if pending else None

    def advance(self, step: Step, unit: Unit[Any], error: StarledgerError | None) -> None:
        """Move the bar, or say how far it is; print a failure."""
        self._left -= 1
        if self._task is not None:
            self.progress.advance(self._task)
        if error is None and self._left > 0 and not self.console.is_terminal and time.monotonic() - self._said > _QUIET:
            self._said = time.monotonic()
            self.console.say(f"{step.name}: {unit.label} done, {self._left} still to do")
        if error is not None:
            self._failed[step.name] += 1
            if self._failed[step.name] <= _PRINTED:
                where = "" if unit.label in str(error) else f"{unit.label}: "
                self.console.say(where + str(error), label=step.name)

    def again(self, step: Step, chance: str, units: int) -> None:
        """Say that units are tried once more, which may take a while."""
        self._said = time.monotonic()
        self.console.say(f"{step.name}: {chance}, {units} still to do")

    def end(self, step: Step, _tally: Tally) -> None:
        """Take the bar away."""
        if self._failed[step.name] > _PRINTED:
            more = self._failed[step.name] - _PRINTED
            self.console.say(f"{more} more failed; 'starledger status' lists them", label=step.name)
        if self._task is not None:
            self.progress.remove_task(self._task)


def summary_table(tallies: Sequence[Tally]) -> Table:
    """One row a step that had or has work: done now, done before, failed, seconds."""
    table = Table(box=None, pad_edge=False)
    table.add_column("step")
    for name in ("done", "before", "failed", "seconds"):
        table.add_column(name, justify="right")
    for tally in tallies:
        if not (tally.done or tally.before or tally.failed):
            continue
        failed = f"[red]{len(tally.failed)}[/red]" if tally.failed else "0"
        table.add_row(tally.step, str(tally.done), str(tally.before), failed, f"{tally.seconds:.1f}")
    return table
