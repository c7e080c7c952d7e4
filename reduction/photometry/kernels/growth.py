"""Curve of growth: how much of a star's light each aperture holds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.kernels.robust import scatter_about

__all__ = ["ApertureCorrections", "aperture_corrections"]

BRIGHT = 50.0  # signal-to-noise ratio from which stars tell


class ApertureCorrections(NamedTuple):
    """Of k apertures.

    enclosed (k,), part of the light that the profile puts into each, median over the stars; correction (k,) (mag), what a magnitude in
    the aperture is to be changed by to be that of all the light, median of the stars' own, and their scatter (k,) (mag, 1.48 MAD), NaN
    without stars; n_star (k,).
    """

    enclosed: FloatArray
    correction: FloatArray
    scatter: FloatArray
    n_star: IntArray


def aperture_corrections(
    whole: FloatArray, error: FloatArray, flux: FloatArray, enclosed: FloatArray, alone: BoolArray
) -> ApertureCorrections:
    """Compare apertures with the whole light of bright stars.

    Parameters
    ----------
    whole, error : float64, shape (n,)
        Flux of each star fitted with the profile, and its error (ADU).
    flux : float64, shape (n, k)
        Fluxes in the apertures (ADU).
    enclosed : float64, shape (n, k)
        Part of each star's light that the profile puts into the apertures.
    alone : bool, shape (n,)
        Stars without flags that would disturb them.

    Returns
    -------
    ApertureCorrections
    """
    use = alone & (whole > BRIGHT * error)
    k = flux.shape[1]
    correction, scatter, n_star = np.full(k, np.nan), np.full(k, np.nan), np.zeros(k, dtype=np.int64)
    for j in range(k):
        good = use & (flux[:, j] > 0)
        n_star[j] = np.count_nonzero(good)
        if n_star[j]:
            ratio = 2.5 * np.log10(flux[good, j] / whole[good])
            correction[j] = np.median(ratio)
            scatter[j] = scatter_about(ratio, correction[j])
    middle = np.median(enclosed, axis=0) if len(enclosed) else np.full(k, np.nan)
    return ApertureCorrections(middle, correction, scatter, n_star)
