"""What people see while the reduction runs, and the summary at its end."""

from __future__ import annotations

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


class ProgressReporter:
    """Progress bars on a terminal, a line per step elsewhere; failures as they come, one line each."""

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

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def begin(self, step: Step, pending: int) -> None:
        """Announce a step; on a terminal its bar appears when there is work."""
        if not self.console.is_terminal:
            self.console.say(f"{step.name}: {pending} to do")
        self._task = self.progress.add_task(step.name, total=pending) if pending else None

    def advance(self, step: Step, unit: Unit[Any], error: StarledgerError | None) -> None:
        """Move the bar; print a failure."""
        if self._task is not None:
            self.progress.advance(self._task)
        if error is not None:
            self._failed[step.name] += 1
            if self._failed[step.name] <= _PRINTED:
                where = "" if unit.label in str(error) else f"{unit.label}: "
                self.console.say(where + str(error), label=step.name)

    def end(self, step: Step, _tally: Tally) -> None:
        """Take the bar away."""
        if self._failed[step.name] > _PRINTED:
            more = self._failed[step.name] - _PRINTED
            self.console.say(f"{more} more failed; 'starledger status' lists them", label=step.name)
        if self._task is not None:
            self.progress.remove_task(self._task)


def summary_table(tallies: Sequence[Tally]) -> Table:
    """One row a step: done now, done before, failed, seconds."""
    table = Table(box=None, pad_edge=False)
    table.add_column("step")
    for name in ("done", "before", "failed", "seconds"):
        table.add_column(name, justify="right")
    for tally in tallies:
        failed = f"[red]{len(tally.failed)}[/red]" if tally.failed else "0"
        table.add_row(tally.step, str(tally.done), str(tally.before), failed, f"{tally.seconds:.1f}")
    return table
