"""Plots of light curves and of plate solutions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure

from db.errors import ConfigurationError

if TYPE_CHECKING:
    from queries.lightcurve import Curve
    from reduction.astrometry.solve_file import FileSolution
    from reduction.kernels.arrays import FloatArray
    from reduction.photometry.kernels.psf_map import PsfMap

__all__ = ["draw_light_curve", "plot_curve", "plot_light_curve", "plot_psf", "plot_solution"]

_COLOURS = ("#1f4e79", "#c55a11", "#548235", "#7030a0", "#7f6000", "#404040")
_GREY = "#8c8c8c"


def plot_curve(curve: Curve, path: Path) -> None:
    """Draw a light curve, and of which star, passbands and slots it is, into a file; see `plot_light_curve`."""
    found, meta = curve.found, curve.meta
    star = f"{found.name} (source {found.source_id})" if found.name else f"source {found.source_id}"
    slots = sorted({where.rpartition(" ")[2] for where in meta["slots"]})
    frame = curve.frame
    if "joined_mag" in frame:
        frame = frame.assign(mag=frame["joined_mag"])
    plot_light_curve(frame, path, f"{star}, {', '.join(meta['passbands'])}, slot {', '.join(slots)}")


def plot_light_curve(frame: pd.DataFrame, path: Path, title: str) -> None:
    """Draw a light curve into a file.

    Parameters
    ----------
    frame : DataFrame
        Columns of the view `light_curve`.
    path : Path
        File to write; its suffix (.png, .pdf, .svg) is the format.
    title : str
        Line above the plot.

    Raises
    ------
    ConfigurationError
        When the file cannot be written, or nobody knows its format.
    """
    figure = _figure(path, (9.0, 4.8))
    draw_light_curve(figure.add_subplot(), frame)
    figure.axes[0].set_title(title, loc="left", fontsize=11)
    _save(figure, path)


def draw_light_curve(axes: Axes, frame: pd.DataFrame) -> None:
    """Draw the points into `axes`: magnitudes up, good points by passband, others hollow and grey.

    Time is shown from a whole day that the label names. The limits leave the
    outermost good points aside, so that one wild point hides nothing.
    """
    seen = frame[frame["mag"].notna()]
    start = float(np.floor(seen["bjd_tdb"].min())) if len(seen) else 0.0
    good = seen["quality"] == 0
    for k, (passband, points) in enumerate(seen[good].groupby("passband")):
        axes.errorbar(
            points["bjd_tdb"] - start,
            points["mag"],
            yerr=points["mag_err_total"],
            fmt="o",
            ms=3.5,
            lw=0,
            elinewidth=0.7,
            color=_COLOURS[k % len(_COLOURS)],
            label=str(passband),
        )
    for quality, marker, label in ((1, "x", "flagged"), (2, "s", "masked")):
        points = seen[seen["quality"] == quality]
        if len(points):
            axes.plot(points["bjd_tdb"] - start, points["mag"], marker, ms=5, mfc="none", color=_GREY, lw=0, label=label)
    _limit(axes, (seen[good] if good.any() else seen)["mag"].to_numpy())
    axes.set_xlabel(f"BJD$_{{\\mathrm{{TDB}}}}$ $-$ {start:.0f}")
    axes.set_ylabel("magnitude")
    axes.tick_params(direction="in", top=True, right=True)
    axes.grid(alpha=0.25, lw=0.5)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", fontsize=8, frameon=False, ncols=3)


def _limit(axes: Axes, mag: npt.NDArray[np.float64]) -> None:
    """Magnitude limits, the bright end up: the range without the outermost 1 % (one point at least) on either side, and a margin."""
    if len(mag):
        aside = int(np.ceil(0.01 * len(mag))) if len(mag) > 10 else 0
        ordered = np.sort(mag)
        low, high = float(ordered[aside]), float(ordered[-1 - aside])
        margin = max(0.3 * (high - low), 0.005)
        axes.set_ylim(high + margin, low - margin)
    else:
        axes.invert_yaxis()


def plot_solution(found: FileSolution, path: Path, title: str) -> None:
    """Draw a frame with its matched and missed stars, and the residuals of its plate solution, into a file.

    Parameters
    ----------
    found : FileSolution
        As from `reduction.astrometry.solve_file.solve_file`.
    path : Path
        File to write; its suffix (.png, .pdf, .svg) is the format.
    title : str
        Line above the plot.

    Raises
    ------
    ConfigurationError
        When the file cannot be written, or nobody knows its format.
    """
    figure = _figure(path, (13.0, 6.2))
    frame, vectors = figure.subplots(1, 2)
    s, fit = found.fit.solution, found.fit
    ny, nx = found.data.shape
    low, high = np.percentile(found.data[np.isfinite(found.data)], [20.0, 99.5])
    frame.imshow(found.data, origin="lower", cmap="gray_r", vmin=low, vmax=high, interpolation="nearest")
    x, y = s.project(found.stars.ra, found.stars.dec)
    missed = s.inside(x, y)
    missed[fit.cat_index] = False
    frame.plot(x[missed], y[missed], "s", ms=7, mfc="none", mec=_COLOURS[1], lw=0, label=f"{missed.sum()} catalogue stars without a match")
    matched = (found.found.x[fit.det_index], found.found.y[fit.det_index])
    frame.plot(*matched, "o", ms=8, mfc="none", mec=_COLOURS[0], lw=0, label=f"{fit.n_matched} matched stars")
    length = 0.04 * np.hypot(nx, ny) / max(float(np.hypot(fit.rms_x, fit.rms_y)), 1e-6)
    arrows = vectors.quiver(
        *matched, length * fit.residual_x, length * fit.residual_y, angles="xy", scale_units="xy", scale=1, width=0.002, color=_COLOURS[0]
    )
    unit = float(f"{np.hypot(fit.rms_x, fit.rms_y):.1g}")
    vectors.quiverkey(arrows, 0.86, 1.03, length * unit, f"{unit:g} pixel", labelpos="E", fontproperties={"size": 9})
    vectors.set_title("detected minus projected", loc="left", fontsize=10)
    for axes in (frame, vectors):
        axes.set(xlim=(-0.5, nx - 0.5), ylim=(-0.5, ny - 0.5), xlabel="x (pixel)", ylabel="y (pixel)", aspect="equal")
    frame.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), fontsize=8, frameon=False, ncols=2)
    frame.set_title(title, loc="left", fontsize=11)
    _save(figure, path)


def plot_psf(psf: PsfMap, path: Path, title: str, stacked: FloatArray) -> None:
    """Draw the profile at five by five places over the frame into a file, on a scale that shows wings and negative values.

    Beside them what bright stars have beyond it.

    Parameters
    ----------
    psf : PsfMap
        The map.
    path : Path
        File to write; its suffix (.png, .pdf, .svg) is the format.
    title : str
        Line above the plot.
    stacked : float64, shape (s, s)
        Stacked residual of bright stars, as part of their light (`ModelFrame.stacked`).

    Raises
    ------
    ConfigurationError
        When the file cannot be written, or nobody knows its format.
    """
    figure = _figure(path, (11.0, 8.0 * max(0.5, min(psf.ny / psf.nx, 1.5)) + 0.5))
    grid = figure.add_gridspec(1, 2, width_ratios=(8, 3))
    left, right = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    offset = np.linspace(-psf.radius, psf.radius, 61)
    places = [(x, y) for y in np.linspace(psf.ny - 1, 0, 5) for x in np.linspace(0, psf.nx - 1, 5)]
    images = [psf.response(float(x), float(y), offset, offset) for x, y in places]
    scale = SymLogNorm(linthresh=1e-4, vmin=-1e-3, vmax=max(float(image.max()) for image in images))
    for axes, (x, y), image in zip(left.subplots(5, 5).flat, places, images, strict=True):
        axes.imshow(image, origin="lower", cmap="inferno", norm=scale)
        axes.contour(image, levels=[0.5 * float(image.max())], colors="white", linewidths=0.7)
        axes.set_axis_off()
        axes.set_title(f"{x:.0f}, {y:.0f}", fontsize=7)
    peak = max(float(image.max()) for image in images)
    axes = right.subplots(1, 1)
    limit = max(0.01, float(np.nanmax(np.abs(stacked), initial=0.0)) / peak)
    shown = axes.imshow(stacked / peak, origin="lower", cmap="RdBu", vmin=-limit, vmax=limit)
    axes.set_axis_off()
    axes.set_title("residual of bright stars,\npart of their peak", fontsize=8)
    right.colorbar(shown, ax=axes, orientation="horizontal", shrink=0.9)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    _save(figure, path)


def _figure(path: Path, size: tuple[float, float]) -> Figure:
    """An empty figure, where the file's suffix is a format that is known."""
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    if path.suffix.lower().lstrip(".") not in FigureCanvasAgg(figure).get_supported_filetypes():
        raise ConfigurationError(
            "no format of plots has this suffix", where=str(path), hint="name it .png, .pdf or .svg", code="plot.format"
        )
    return figure


def _save(figure: Figure, path: Path) -> None:
    try:
        figure.savefig(path)
    except OSError as error:
        raise ConfigurationError(
            error.strerror or "cannot be written", where=str(path), hint="name another file", code="file.write"
        ) from error
