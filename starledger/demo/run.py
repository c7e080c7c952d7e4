"""The demo from beginning to end: simulate a night, reduce it, compare what was hidden in it with what came out, draw both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from starledger.archive import Archive, create_archive
from starledger.demo.compare import Comparison, compare
from starledger.demo.plots import plot_light_curves, plot_scatter
from starledger.demo.simulate import simulate_night
from starledger.demo.truth import read_truth
from starledger.paths import AnyPath

if TYPE_CHECKING:
    from reduction.pipeline.scheduler import Reporter, Tally

__all__ = ["Demo", "run_demo"]

FloatArray = NDArray[np.float64]

_SCATTER = (
    "SELECT s.mag_median, s.mad_rms, s.expected_rms FROM lightcurve_statistics s "
    "JOIN latest_reference r ON r.reference_id = s.reference_id "
    "JOIN best_slot b ON b.reference_id = s.reference_id AND b.source_id = s.source_id AND b.slot = s.slot "
    "WHERE s.n_good > 10 ORDER BY s.mag_median"
)


@dataclass(frozen=True)
class Demo:
    """How the demo went.

    Attributes
    ----------
    archive : Archive
        The night's archive, open.
    plots : Path
        Folder of the plots.
    tallies : list of Tally
        One per step of the reduction.
    comparison : Comparison
        Injected against recovered; `passed` says whether all came out within 5 %.
    """

    archive: Archive
    plots: Path
    tallies: list[Tally]
    comparison: Comparison


def run_demo(directory: AnyPath = "starledger-demo", *, seed: int = 1, jobs: int = 1, reporter: Reporter | None = None) -> Demo:
    """Simulate a small night, reduce it, and compare what was hidden in it with what came out.

    Parameters
    ----------
    directory : path
        Folder to work in.
    seed : int
        Another seed, another night.
    jobs : int
        Processes; 0: one a processor.
    reporter : Reporter, optional
        Receives how the reduction goes.

    Returns
    -------
    Demo

    Raises
    ------
    ConfigurationError
        The folder cannot be used.

    Examples
    --------
    >>> demo = starledger.run_demo("starledger-demo")
    >>> demo.comparison.rows
    """
    folder = Path(directory).expanduser()
    simulate_night(folder, seed)
    archive = create_archive(f"sqlite:///{folder / 'archive.db'}", folder / "files")
    tallies = archive.reduce(folder / "raw", catalogues=folder / "catalogue.ecsv", jobs=jobs, reporter=reporter)
    comparison = compare(read_truth(folder), lambda ra, dec: _measured(archive, ra, dec))
    _draw(archive, comparison, folder / "plots")
    return Demo(archive, folder / "plots", tallies, comparison)


def _measured(archive: Archive, ra: float, dec: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Times (BJD_TDB), magnitudes and their errors of the star at a place."""
    frame = archive.curve(f"{ra:.6f} {dec:.6f}").frame
    return frame["bjd_tdb"].to_numpy(), frame["mag"].to_numpy(), frame["mag_err"].to_numpy()


def _draw(archive: Archive, comparison: Comparison, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plot_light_curves(comparison, folder / "light_curves.png")
    frame = archive.sql(_SCATTER)
    bins = frame.groupby((frame.mag_median * 2).round() / 2)[["mag_median", "expected_rms"]].median()
    plot_scatter(frame.mag_median, frame.mad_rms, folder / "scatter.png", expected=(bins.mag_median, bins.expected_rms))
