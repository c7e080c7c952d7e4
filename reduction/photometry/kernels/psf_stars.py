"""Stars that show the profile: bright, whole and like each other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.photometry.kernels.psf_flux import Fluxes

__all__ = ["Selection", "like_the_map", "shape_stars"]

BRIGHT = 50.0  # signal-to-noise ratio from which stars show how far the map misses a typical one
UNLIKE, UNLIKE_CHI2 = 10.0, 2.0  # a star missed by so many times the typical part of its light, with at least this chi-square, is none


@dataclass(frozen=True)
class Selection:
    """How stars that show the profile are chosen.

    Attributes
    ----------
    x, y : float64, shape (n,)
        Positions of all stars (pixel).
    size : (int, int)
        nx, ny of the frame.
    min_snr : float
        Least signal-to-noise ratio.
    most : int
        At most so many are chosen, evenly over the frame.
    """

    x: FloatArray
    y: FloatArray
    size: tuple[int, int]
    min_snr: float
    most: int

    def of(self, index: IntArray) -> Selection:
        """The same from some of the stars."""
        return replace(self, x=self.x[index], y=self.y[index])

    def stars(self, fluxes: Fluxes, usable: BoolArray) -> BoolArray:
        """The brightest usable stars of each part of the frame, whole, of enough S/N."""
        with np.errstate(invalid="ignore", divide="ignore"):
            snr = fluxes.flux / fluxes.error
        good = np.flatnonzero(usable & (snr >= self.min_snr) & (fluxes.coverage > 0.99))
        used = np.zeros(len(self.x), dtype=bool)
        if len(good) <= self.most:
            used[good] = True
            return used
        cell = np.sqrt(self.size[0] * self.size[1] / 64.0)
        number = (self.y[good] // cell).astype(np.int64) * 1000 + (self.x[good] // cell).astype(np.int64)
        order = np.lexsort((-snr[good], number))
        first = np.searchsorted(number[order], number[order])
        rank = np.empty(len(good), dtype=np.int64)
        rank[order] = np.arange(len(good)) - first
        used[good[np.lexsort((-snr[good], rank))[: self.most]]] = True
        return used


def like_the_map(frames: list[Fluxes]) -> list[BoolArray]:
    """Stars that the map does not miss by far more of their light than others: galaxies, pairs and blemishes are unlike it.

    Parameters
    ----------
    frames : list of Fluxes
        Of frames that have a map in common.

    Returns
    -------
    list of bool, shape (n,)
        Of each frame's stars.
    """
    flux, error, chi2 = (np.concatenate([getattr(fluxes, name) for fluxes in frames]) for name in ("flux", "error", "chi2"))
    with np.errstate(invalid="ignore", divide="ignore"):
        miss = (chi2 - 1.0) * (error / flux) ** 2
        bright = (flux > BRIGHT * error) & np.isfinite(miss)
    typical = max(float(np.median(miss[bright])), 0.0) if bright.any() else 0.0
    like = ~((chi2 > UNLIKE_CHI2) & (miss > UNLIKE * typical))
    return np.split(like, np.cumsum([len(fluxes.flux) for fluxes in frames])[:-1])


def shape_stars(fluxes: Fluxes, x: FloatArray, y: FloatArray, size: tuple[int, int], min_snr: float, max_stars: int) -> BoolArray:
    """Which stars show the profile: whole, of enough S/N, and like the others.

    Parameters
    ----------
    fluxes : Fluxes
        Of n stars, fitted with a map that is near the truth.
    x, y : float64, shape (n,)
        Positions (pixel).
    size : (int, int)
        nx, ny of the frame.
    min_snr, max_stars
        As of `fit_psf`.

    Returns
    -------
    bool, shape (n,)
    """
    return Selection(x, y, size, min_snr, max_stars).stars(fluxes, like_the_map([fluxes])[0])
