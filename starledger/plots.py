"""Plots of light curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from db.errors import ConfigurationError

__all__ = ["draw_light_curve", "plot_light_curve"]

_COLOURS = ("#1f4e79", "#c55a11", "#548235", "#7030a0", "#7f6000", "#404040")
_GREY = "#8c8c8c"


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
    figure = Figure(figsize=(9.0, 4.8), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    known = canvas.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in known:
        raise ConfigurationError(
            "no format of plots has this suffix", where=str(path), hint="name it .png, .pdf or .svg", code="plot.format"
        )
    draw_light_curve(figure.add_subplot(), frame)
    figure.axes[0].set_title(title, loc="left", fontsize=11)
    try:
        figure.savefig(path)
    except OSError as error:
        raise ConfigurationError(
            error.strerror or "cannot be written", where=str(path), hint="name another file", code="file.write"
        ) from error


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
