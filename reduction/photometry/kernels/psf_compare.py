"""Which of two profile maps predicts a frame's stars better: its own, made without them, or one that it shares with others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from db.errors import AlgorithmFailed
from reduction.kernels.arrays import FloatArray, IntArray
from reduction.photometry.kernels.psf_fit import FrameStars, fit_psf
from reduction.photometry.kernels.psf_flux import fit_fluxes
from reduction.photometry.kernels.psf_map import PsfMap
from reduction.photometry.kernels.psf_stars import shape_stars
from reduction.photometry.kernels.psf_width import fit_width

__all__ = ["MapComparison", "compare_maps"]

FOLDS = 5  # of a frame's stars, at most


@dataclass(frozen=True)
class MapComparison:
    """How well two maps predict the stars of a frame.

    Attributes
    ----------
    width : float
        How many times as wide as the shared map's the frame's profile is, by all its stars.
    n_star : int
        Stars that the maps were tried on.
    own, shared : float
        Geometric mean of their reduced chi-squares; NaN where there is no star, or too few for a map of the others.
    error : float
        Standard error of the logarithm of the two's ratio, from its scatter over the stars; NaN where there are fewer than two.
    """

    width: float
    n_star: int
    own: float
    shared: float
    error: float

    def takes_shared(self, sigma: float) -> bool:
        """Whether the shared map is taken: unless the frame's own is better by more than so many standard errors."""
        if self.n_star == 0 or not np.isfinite(self.own):
            return True
        # One star has no scatter; its stand-in was made without looking at pixels, and the shared map by many stars.
        error = self.error if np.isfinite(self.error) else 0.0
        return bool(np.log(self.shared / self.own) <= sigma * error)


def compare_maps(
    stars: FrameStars, shared: PsfMap, left_out: PsfMap, own: PsfMap, seed: PsfMap | None, *, min_snr: float, max_stars: int
) -> MapComparison:
    """Try both maps on a frame's stars, in parts of which each is left out in turn.

    Parameters
    ----------
    stars : FrameStars
        The frame's, with its width as it is known without looking at pixels.
    shared : PsfMap
        What the frame may be measured with, drawn out to its width.
    left_out : PsfMap
        The same made of other frames; its width is fitted to the stars that are not left out.
    own : PsfMap
        The frame's own map.
    seed : PsfMap or None
        Where the fit of that begins; None where no pixel has a say in it.
    min_snr, max_stars
        As of `fit_psf`.

    Returns
    -------
    MapComparison
        Chi-squares are those of the pixels that both maps cover.
    """
    pixels, x, y, width, traits = stars
    size = (shared.nx, shared.ny)
    fluxes = fit_fluxes(pixels, shared.drawn_out(width).stamps(x, y, traits))
    index = np.flatnonzero(shape_stars(fluxes, x, y, size, min_snr, max_stars))
    fitted = fit_width(pixels, x, y, traits, shared, width, index)
    if not len(index):
        return MapComparison(fitted, 0, np.nan, np.nan, np.nan)
    radius = min(own.radius, fitted * shared.radius)

    def own_without(out: IntArray) -> PsfMap:
        if seed is None:
            return own
        shows = np.isin(np.arange(len(x)), np.setdiff1d(index, out))
        return fit_psf(pixels, x, y, seed, max_order=own.order, min_snr=min_snr, max_stars=max_stars, traits=traits, shows=shows).psf

    def shared_without(out: IntArray) -> PsfMap:
        return left_out.drawn_out(fit_width(pixels, x, y, traits, left_out, width, np.setdiff1d(index, out)))

    by_own, by_shared = (_predicted(stars, index, radius, without) for without in (own_without, shared_without))
    error = float(np.std(by_own - by_shared, ddof=1) / np.sqrt(len(index))) if len(index) > 1 else np.nan
    return MapComparison(fitted, len(index), float(np.exp(np.mean(by_own))), float(np.exp(np.mean(by_shared))), error)


def _predicted(stars: FrameStars, index: IntArray, radius: float, without: Callable[[IntArray], PsfMap]) -> FloatArray:
    """Logarithms of the reduced chi-squares of stars about maps made without them: of the mean of these no odd star decides."""
    found = np.full(len(index), np.nan)
    for k in range(min(FOLDS, len(index))):
        out = index[k::FOLDS]
        try:
            psf = replace(without(out), radius=radius)
        except AlgorithmFailed:
            break
        found[k::FOLDS] = np.log(fit_fluxes(stars.pixels, psf.stamps(stars.x, stars.y, stars.traits)).chi2[out])
    return found
