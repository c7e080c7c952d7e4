"""One gain of several nights: from what each measured, and from how the sky's noise rises with its level from night to night."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Gain", "combined_gain", "least_gain", "sky_read_noise"]

#: A night's sky noise is known to this part of it: what is left of faint stars, of the flat and of the detector's pattern.
_PART = 0.02
#: A zero level that nobody took off drifts by so much from night to night, ADU.
_DRIFT = 5.0
#: A gain is known when its error is less than this part of it.
_KNOWN = 0.3


class Gain(NamedTuple):
    """A gain and its error, electron/ADU."""

    value: float
    error: float


def combined_gain(gain: ArrayLike, gain_err: ArrayLike, level: ArrayLike, variance: ArrayLike) -> Gain | None:
    """The gain of a set-up, from the nights on which something was measured.

    Parameters
    ----------
    gain, gain_err : float64, shape (n,)
        What each night measured by itself, electron/ADU; NaN where it could not.
    level, variance : float64, shape (n,)
        Level (ADU) and noise variance (ADU**2, quantisation taken off) of its sky, from differences of frames; NaN where it has none.

    Returns
    -------
    Gain or None
        The mean of all slopes of variance against level, by inverse variance, with an error that covers how far they disagree; None
        where it is not known to 30 %.

    Notes
    -----
    It is slopes that are averaged, one over the gain: their errors are even, where those of gains grow with their square. The order of
    the nights does not matter.
    """
    own, err = np.asarray(gain, np.float64), np.asarray(gain_err, np.float64)
    good = np.isfinite(own) & np.isfinite(err) & (own > 0) & (err > 0)
    slopes = [*zip(1.0 / own[good], err[good] / own[good] ** 2, strict=True)]
    between = _slope_between(np.asarray(level, np.float64), np.asarray(variance, np.float64))
    slopes += [between] if between is not None else []
    if not slopes:
        return None
    value, error = np.array(sorted(slopes)).T
    weight = 1.0 / error**2
    mean = float((weight * value).sum() / weight.sum())
    spread = float((weight * (value - mean) ** 2).sum()) / max(value.size - 1, 1)
    mean_err = math.sqrt(max(spread, 1.0) / weight.sum())
    return Gain(1.0 / mean, mean_err / mean**2) if mean > 0 and mean_err < _KNOWN * mean else None


def _slope_between(level: NDArray[np.float64], variance: NDArray[np.float64]) -> tuple[float, float] | None:
    """Slope, and its error, of the straight line through the nights' sky; None for fewer than two levels."""
    good = np.isfinite(level) & np.isfinite(variance) & (variance > 0)
    x, y = level[good], variance[good]
    if x.size < 2 or np.ptp(x) == 0:
        return None
    x, y = x[order := np.lexsort((y, x))], y[order]
    rough = max(float(np.ptp(y) / np.ptp(x)), 0.0)
    weight = 1.0 / ((_PART * y) ** 2 + (rough * _DRIFT) ** 2)
    middle = float((weight * x).sum() / weight.sum())
    moment = float((weight * (x - middle) ** 2).sum())
    slope = float((weight * (x - middle) * y).sum()) / moment
    rest = y - (weight * y).sum() / weight.sum() - slope * (x - middle)
    spread = float((weight * rest**2).sum()) / max(x.size - 2, 1)
    return slope, math.sqrt(max(spread, 1.0) / moment)


def least_gain(level: float, variance: float) -> float | None:
    """The gain (electron/ADU) with which all of the sky's noise is that of its light: the true one is no less.

    Parameters
    ----------
    level, variance : float
        Of the sky, over the level without light (ADU), and its noise variance (ADU**2).
    """
    possible = math.isfinite(level) and math.isfinite(variance) and variance > 0 and level > 3.0 * math.sqrt(variance)
    return level / variance if possible else None


def sky_read_noise(gain: float, level: float, variance: float) -> float:
    """What the sky's noise has beyond that of its light, electron; 0 where that is all.

    Parameters
    ----------
    gain : float
        Electron/ADU.
    level, variance : float
        As for `least_gain`.
    """
    return math.sqrt(max(gain**2 * variance - gain * level, 0.0))
