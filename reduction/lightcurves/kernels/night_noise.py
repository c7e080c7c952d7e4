"""What bright stars scatter by beyond their errors on one night: a floor, and the air's scintillation.

Scintillation of an exposure of t seconds at airmass X goes as X^1.75 (2 t)^-1/2 (Young 1967, AJ 72, 747); how strong it is follows from
the telescope, its height and the wind, and is fitted here. What does not go that way is the floor: flats, fixed patterns, models.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import nnls

from reduction.kernels.arrays import FloatArray
from reduction.lightcurves.kernels.noise import FrameExcess

__all__ = ["NightNoise", "night_noise", "scintillation_law"]

LEAST_FRAMES = 3
ROUNDS = 5  # of weights and clipping
CLIP = 4.0  # of the scatter about the fit: frames in clouds are beyond


class NightNoise(NamedTuple):
    """Noise of one night: `mag_floor` (mag), `scintillation` (mag s^1/2: that of `scintillation_law` = 1), their errors, frames used."""

    mag_floor: float
    mag_floor_err: float
    scintillation: float
    scintillation_err: float
    n_frame: int


def scintillation_law(airmass: ArrayLike, exptime: ArrayLike) -> FloatArray:
    """What a night's scintillation is multiplied by for one frame.

    Parameters
    ----------
    airmass : float64, shape (n,)
    exptime : float64, shape (n,)
        Exposure (s).

    Returns
    -------
    float64, shape (n,)
        X^1.75 (2 t)^-1/2 (s^-1/2).
    """
    return np.asarray(np.asarray(airmass, dtype=np.float64) ** 1.75 / np.sqrt(2.0 * np.asarray(exptime, dtype=np.float64)))


def night_noise(excess: FrameExcess, airmass: ArrayLike, exptime: ArrayLike) -> NightNoise | None:
    """Fit the two to the excess of a night's frames; neither is negative.

    Parameters
    ----------
    excess : FrameExcess
        Of n frames of one night.
    airmass, exptime : float64, shape (n,)
        Airmass and exposure (s) of each.

    Returns
    -------
    NightNoise or None
        None for fewer than three frames that are known. Where all frames have about the same airmass and exposure the two cannot be told
        apart, and their errors are as large as they are.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        law = scintillation_law(airmass, exptime)
    known = np.flatnonzero(np.isfinite(excess.value) & np.isfinite(law))
    if len(known) < LEAST_FRAMES:
        return None
    some = excess.of(known)
    value, terms = some.value, np.stack([np.ones(len(known)), law[known] ** 2], axis=1)
    expected, use = np.full(len(known), max(float(np.median(value)), 0.0)), np.ones(len(known), dtype=bool)
    for _ in range(ROUNDS):
        error = some.error(expected)
        design = terms / error[:, None]
        fitted = nnls(design[use], (value / error)[use])[0]
        expected = terms @ fitted
        pull = np.abs(value - expected) / error
        use = pull <= CLIP * max(1.4826 * float(np.median(pull)), 1.0)
    spread = max(float(np.mean(pull[use] ** 2)), 1.0)
    variance = np.sqrt(spread * np.diag(np.linalg.pinv(design[use].T @ design[use])))
    floor, scintillation = (float(value) for value in np.sqrt(fitted))
    # half of what a standard error of the square spans
    errors = 0.5 * (np.sqrt(fitted + variance) - np.sqrt(np.maximum(fitted - variance, 0.0)))
    floor_err, scintillation_err = (float(value) for value in errors)
    return NightNoise(floor, floor_err, scintillation, scintillation_err, int(use.sum()))
