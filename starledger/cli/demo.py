"""The command demo: a simulated night, reduced with the ordinary commands, injected against recovered."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from db.errors import AlgorithmFailed
from starledger.cli.options import JobsOption

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from starledger.archive import Archive
    from starledger.demo.compare import Comparison

    FloatArray = npt.NDArray[np.float64]

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
    from starledger.archive import create_archive
    from starledger.cli.report import ProgressReporter, summary_table
    from starledger.demo import read_truth, simulate_night
    from starledger.demo.compare import compare
    from starledger.reduce import exit_code, reduce

    start = time.perf_counter()
    console = Console(stderr=True)
    console.print(f"simulating a night in {directory} (seed {seed})", highlight=False)
    simulate_night(directory, seed)
    archive = create_archive(f"sqlite:///{directory / 'archive.db'}", directory / "files")
    with ProgressReporter(console) as reporter:
        tallies = reduce(
            archive, [directory / "raw"], catalogues=[directory / "catalogue.ecsv"], jobs=jobs or os.cpu_count() or 1, reporter=reporter
        )
    console.print(summary_table(tallies))
    comparison = compare(read_truth(directory), _reader(archive))
    _draw(archive, comparison, directory / "plots")
    Console().print(_table(comparison))
    typer.echo(f"plots in {directory / 'plots'}; {time.perf_counter() - start:.0f} s")
    typer.echo(f'go on: starledger sql "SELECT * FROM frame_quality LIMIT 5" --archive sqlite:///{directory / "archive.db"}')
    if not comparison.passed:
        raise AlgorithmFailed(
            "not everything was recovered within 5 %", where=str(directory), hint="see the table above", code="demo.missed"
        )
    raise typer.Exit(exit_code(tallies))


def _reader(archive: Archive) -> Callable[[float, float], tuple[FloatArray, FloatArray, FloatArray]]:
    import numpy as np

    def read(ra: float, dec: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        series = archive.light_curve(f"{ra:.6f} {dec:.6f}")
        return series.time.tdb.jd, np.asarray(series["mag"].value), np.asarray(series["mag_err"].value)

    return read


def _table(comparison: Comparison) -> Table:
    table = Table(title="injected against recovered", box=None)
    table.add_column("what")
    for name in ("injected", "recovered", "error", "off by"):
        table.add_column(name, justify="right")
    for row in comparison.rows:
        judged = f"{100 * row.error:+.2f} %" if row.judged else ""
        style = "red" if row.judged and not row.passed else None
        label = f"{row.name}: {row.quantity} ({row.unit})" if row.unit else f"{row.name}: {row.quantity}"
        table.add_row(label, f"{row.injected:.6f}", f"{row.recovered:.6f}", f"{row.recovered_err:.6f}", judged, style=style)
    return table


def _draw(archive: Archive, comparison: Comparison, folder: Path) -> None:
    from starledger.demo.plots import plot_light_curves, plot_scatter

    folder.mkdir(parents=True, exist_ok=True)
    plot_light_curves(comparison, folder / "light_curves.png")
    text = (
        "SELECT s.mag_median, s.mad_rms, s.expected_rms FROM lightcurve_statistics s "
        "JOIN latest_reference r ON r.reference_id = s.reference_id "
        "JOIN best_slot b ON b.reference_id = s.reference_id AND b.source_id = s.source_id AND b.slot = s.slot "
        "WHERE s.n_good > 10 ORDER BY s.mag_median"
    )
    frame = archive.sql(text)
    bins = frame.groupby((frame.mag_median * 2).round() / 2)[["mag_median", "expected_rms"]].median()
    plot_scatter(frame.mag_median, frame.mad_rms, folder / "scatter.png", expected=(bins.mag_median, bins.expected_rms))


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(demo)
