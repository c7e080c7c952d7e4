"""Whether the stars of a frame are trailed, over how many pixels, and in which direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from db.flags import Flag
from reduction.astrometry.kernels.detection import ELONGATED, Detections

__all__ = ["Trailing", "trailing"]

MIN_SNR = 20.0
MIN_STARS = 5
COMMON = 0.8  # of 1 for stars that all point the same way; 300 stars at random have 0.06
CUT = int(Flag.SATURATED | Flag.EDGE | Flag.BLENDED)


@dataclass(frozen=True)
class Trailing:
    """How a frame's stars are drawn out.

    Attributes
    ----------
    length : float
        Of the uniform trail that a round star would have to draw to look like that (pixel); 0 for round ones, NaN without stars.
    theta : float
        Angle from +x to the trail, towards +y (rad, -pi/2 to pi/2).
    elongation : float
        Median ratio of the semi-axes.
    coherence : float
        Length of the mean of exp(2i theta): 1 where all stars point the same way, near 0 where none does.
    n_star : int
        Stars it was taken from: S/N above 20 where there are five, unsaturated, unblended, whole.
    """

    length: float
    theta: float
    elongation: float
    coherence: float
    n_star: int

    @property
    def trailed(self) -> bool:
        """Whether at least five stars are 1.5 times as long as wide, and along one direction."""
        return self.n_star >= MIN_STARS and self.elongation > ELONGATED and self.coherence > COMMON


def trailing(found: Detections) -> Trailing:
    """Elongation of a frame's stars, and the length of the trail behind it.

    Parameters
    ----------
    found : Detections
        Of one frame.

    Returns
    -------
    Trailing
        Never fails: with no star that has a shape, all is NaN and `n_star` 0. Optics can draw stars out as well;
        a common direction over all of the frame speaks for the mount.
    """
    measured = np.isfinite(found.s)
    for good in (measured & (found.snr > MIN_SNR) & (found.flags & CUT == 0), measured & (found.snr > MIN_SNR), measured):
        if np.count_nonzero(good) >= MIN_STARS:
            break
    n = int(np.count_nonzero(good))
    if n == 0:
        return Trailing(np.nan, np.nan, np.nan, np.nan, 0)
    mean = np.mean(np.exp(2j * found.theta[good]))
    a, b = float(np.median(found.semi_major[good])), float(np.median(found.semi_minor[good]))
    elongation = float(np.median(found.semi_major[good] / found.semi_minor[good]))
    return Trailing(_length(a, b), float(np.angle(mean) / 2), elongation, float(np.abs(mean)), n)


def _length(a: float, b: float) -> float:
    """Length of the trail of a Gaussian of standard deviation b whose shape has a semi-major axis a (all in pixel)."""
    x = np.linspace(-5.0 * a, 5.0 * a, 401)
    window = np.exp(-0.5 * (x / a) ** 2)

    def excess(half: float) -> float:
        light = window * (ndtr((x + half) / b) - ndtr((x - half) / b))
        return float(np.sum(light * x**2) / np.sum(light)) - 0.5 * a**2

    shortest, longest = 1e-3 * b, 4.0 * a
    return 2.0 * float(brentq(excess, shortest, longest)) if excess(shortest) < 0.0 < excess(longest) else 0.0
