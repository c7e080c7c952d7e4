"""Figures of a demo night: light curves, scatter against magnitude, and one frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from starledger.demo.compare import Comparison, Curve, PulsationFit, TransitFit, transit_model
from starledger.demo.signals import Transit

__all__ = ["plot_frame", "plot_light_curves", "plot_scatter"]

FloatArray = NDArray[np.float64]

_POINT, _LINE, _MUTED, _SECOND = "#1f4e79", "#c8553d", "#8a8f98", "#2a9d8f"


def plot_light_curves(comparison: Comparison, path: Path | str) -> None:
    """Draw each recovered light curve with the injected signal over it, and what was recovered in the title.

    Parameters
    ----------
    comparison : Comparison
    path : path
        PNG to write. A light curve that is missing is said to be so in its panel.
    """
    figure = Figure(figsize=(9.0, 3.1 * max(len(comparison.curves), 1)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(max(len(comparison.curves), 1), 1))
    for axis, curve in zip(axes, comparison.curves, strict=False):
        _light_curve(axis, curve)
        judged = [row for row in comparison.rows if row.name == curve.signal.name and row.judged]
        words = [
            f"{row.quantity} {row.recovered:.4f} {row.unit}".rstrip() + f" (injected {row.injected:.4f}, {row.error:+.1%})"
            for row in judged
        ]
        axis.set_title(f"{curve.signal.name}: " + ", ".join(words), fontsize=9, loc="left")
    _save(figure, path)


def _light_curve(axis: Axes, curve: Curve) -> None:
    """One panel: points with errors, the injected signal as a line."""
    _dress(axis)
    if curve.problem or curve.fit is None:
        axis.text(0.5, 0.5, curve.problem or "no fit", ha="center", va="center", transform=axis.transAxes)
        return
    origin = np.floor(curve.bjd_tdb[0])
    time = np.linspace(curve.bjd_tdb[0], curve.bjd_tdb[-1], 1000)
    axis.errorbar(
        curve.bjd_tdb - origin, curve.mag, curve.mag_err, fmt="o", ms=3.5, lw=0.8, color=_POINT, ecolor=_MUTED, label="recovered", zorder=2
    )
    axis.plot(
        time - origin, _baseline(curve.fit, time) + curve.signal.magnitude_change(time), color=_LINE, lw=1.6, label="injected", zorder=3
    )
    if isinstance(curve.signal, Transit) and isinstance(curve.fit, TransitFit):
        fit = curve.fit
        fitted = transit_model(np.array([fit.depth, fit.mid_time, fit.duration, fit.level, fit.slope]), time)
        axis.plot(time - origin, fitted, color=_SECOND, lw=1.2, ls="--", label="fitted", zorder=4)
    axis.invert_yaxis()
    axis.set_xlabel(f"BJD$_{{\\rm TDB}}$ - {origin:.0f} (d)")
    axis.set_ylabel("magnitude (mag)")
    axis.legend(framealpha=0.9, edgecolor="none", fontsize=8, ncols=3, loc="best")


def _baseline(fit: TransitFit | PulsationFit, time: FloatArray) -> FloatArray:
    """What the fit takes the star's magnitude to be without the signal, [n]."""
    if isinstance(fit, TransitFit):
        return fit.level + fit.slope * (time - fit.mid_time)
    return np.full(time.size, fit.level)


def plot_scatter(
    mag: ArrayLike,
    scatter: ArrayLike,
    path: Path | str,
    *,
    expected: tuple[ArrayLike, ArrayLike] | None = None,
    marked: dict[str, tuple[float, float]] | None = None,
) -> None:
    """Draw the scatter of light curves against magnitude.

    Parameters
    ----------
    mag, scatter : array-like [n]
        One point a star (mag, mag); NaN and no or negative scatter are left out.
    path : path
        PNG to write.
    expected : (mag, scatter), optional
        Curve of the noise to expect (mag).
    marked : dict of str to (mag, scatter), optional
        Stars to name.
    """
    x, y = np.asarray(mag, dtype=np.float64), np.asarray(scatter, dtype=np.float64)
    good = np.isfinite(x) & np.isfinite(y) & (y > 0)
    figure = Figure(figsize=(7.5, 5.0), layout="constrained")
    axis = figure.subplots()
    _dress(axis)
    axis.semilogy(x[good], 1e3 * y[good], "o", ms=3.5, color=_POINT, alpha=0.65, label="stars")
    if expected is not None:
        line = np.argsort(np.asarray(expected[0]))
        axis.semilogy(
            np.asarray(expected[0])[line],
            1e3 * np.asarray(expected[1])[line],
            color=_LINE,
            lw=1.6,
            label="photons, sky, read noise, scintillation",
        )
    for name, (star_mag, star_scatter) in (marked or {}).items():
        axis.semilogy([star_mag], [1e3 * star_scatter], "*", ms=12, color=_SECOND)
        axis.annotate(name, (star_mag, 1e3 * star_scatter), textcoords="offset points", xytext=(8, 3), fontsize=9)
    axis.set_xlabel("magnitude (mag)")
    axis.set_ylabel("scatter of the light curve (mmag)")
    axis.legend(frameon=False, fontsize=9)
    _save(figure, path)


def plot_frame(
    data: ArrayLike,
    path: Path | str,
    *,
    x: ArrayLike = (),
    y: ArrayLike = (),
    marked: dict[str, tuple[float, float]] | None = None,
    title: str = "",
) -> None:
    """Draw a frame, the sources found on it, and named stars.

    Parameters
    ----------
    data : array-like [ny, nx]
        Image (ADU); NaN is left blank.
    path : path
        PNG to write.
    x, y : array-like [n]
        Sources (0-based pixel).
    marked : dict of str to (x, y), optional
        Stars to name.
    title : str
        Above the image.
    """
    image = np.asarray(data, dtype=np.float64)
    low, high = np.nanpercentile(image, [5.0, 99.5])
    stretched = np.arcsinh((image - low) / max(0.08 * (high - low), 1e-9))
    figure = Figure(figsize=(9.0, 1.0 + 8.5 * image.shape[0] / image.shape[1]), layout="constrained")
    axis = figure.subplots()
    axis.imshow(stretched, origin="lower", cmap="gray_r", interpolation="nearest")
    axis.plot(np.asarray(x), np.asarray(y), "o", ms=8, mfc="none", mec=_POINT, mew=0.8, alpha=0.8)
    for name, (star_x, star_y) in (marked or {}).items():
        axis.plot([star_x], [star_y], "o", ms=15, mfc="none", mec=_LINE, mew=1.6)
        axis.annotate(name, (star_x, star_y), textcoords="offset points", xytext=(10, 8), color=_LINE, fontsize=10)
    axis.set_xlim(-0.5, image.shape[1] - 0.5)
    axis.set_ylim(-0.5, image.shape[0] - 0.5)
    axis.set_xlabel("x (pixel)")
    axis.set_ylabel("y (pixel)")
    axis.set_title(title, fontsize=10, loc="left")
    _save(figure, path)


def _dress(axis: Axes) -> None:
    """Light grid, no box."""
    axis.grid(color="#e3e6ea", lw=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path | str) -> None:
    """Write a PNG without opening a window or touching the state of pyplot."""
    FigureCanvasAgg(figure)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
