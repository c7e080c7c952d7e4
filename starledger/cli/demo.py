"""The command demo: a simulated night, reduced with the ordinary commands, injected against recovered."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

import starledger
from db.errors import AlgorithmFailed
from starledger.cli.options import JobsOption
from starledger.cli.output import cell, say, screen, show

if TYPE_CHECKING:
    from starledger.demo.compare import Comparison

__all__ = ["demo", "register"]


def demo(
    directory: Annotated[Path, typer.Argument(help="Folder to work in.")] = Path("starledger-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another night.")] = 1,
    jobs: JobsOption = 0,
) -> None:
    """Simulate a small night, reduce it, and compare what was hidden in it with what came out.

    A transit and two variable stars are hidden among a few hundred stars, behind bias, dark current, hot pixels, vignetting,
    distortion, cosmic rays and a passing cloud.

    Example: starledger demo /tmp/night --seed 2
    """
    from starledger.cli.report import ProgressReporter, summary_table
    from starledger.reduce import exit_code

    start = time.perf_counter()
    console = screen(error=True)
    console.say(f"simulating a night in {directory} (seed {seed})")
    with ProgressReporter(console) as reporter:
        done = starledger.run_demo(directory, seed=seed, jobs=jobs, reporter=reporter)
    console.print(summary_table(done.tallies))
    show(_table(done.comparison))
    say(f"plots in {done.plots}; {time.perf_counter() - start:.0f} s")
    say(f'go on: starledger sql "SELECT * FROM frame_quality LIMIT 5" --archive sqlite:///{directory / "archive.db"}')
    if not done.comparison.passed:
        raise AlgorithmFailed(
            "not everything was recovered within 5 %", where=str(directory), hint="see the table above", code="demo.missed"
        )
    raise typer.Exit(exit_code(done.tallies))


def _table(comparison: Comparison) -> Table:
    table = Table(title="injected against recovered", box=None)
    table.add_column("what")
    for name in ("injected", "recovered", "error", "off by"):
        table.add_column(name, justify="right")
    for row in comparison.rows:
        judged = _number(100 * row.error, "{:+.2f} %", "not found") if row.judged else ""
        style = "red" if row.judged and not row.passed else None
        label = f"{row.name}: {row.quantity} ({row.unit})" if row.unit else f"{row.name}: {row.quantity}"
        found, error = _number(row.recovered, "{:.6f}", "-"), _number(row.recovered_err, "{:.6f}", "-")
        table.add_row(cell(label), f"{row.injected:.6f}", found, error, judged, style=style)
    return table


def _number(value: float, form: str, otherwise: str) -> str:
    """A number for people; what stands in its place where there is none."""
    return form.format(value) if math.isfinite(value) else otherwise


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(demo)
