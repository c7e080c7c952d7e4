"""Fluxes at given positions, whether or not a star is seen there, fitted together with every star that is known.

A position that is a star's takes the star's place, since two profiles in one place cannot be told apart; any other is a star of
its own. Positions that would themselves be one star are measured in turn: each in a fit without the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.photometry.kernels.psf_aperture import psf_apertures
from reduction.photometry.kernels.psf_flux import Pixels, fit_fluxes
from reduction.photometry.kernels.psf_map import PsfMap, Traits

__all__ = ["ForcedFluxes", "forced_fluxes", "match_moving", "take_turns"]


@dataclass(frozen=True)
class ForcedFluxes:
    """Fluxes at n positions.

    Attributes
    ----------
    flux, error : float64, shape (n,)
        ADU, negative where the pixels say so; NaN for a position without any pixel that counts.
    background_weight : float64, shape (n,)
        Change of the flux for 1 ADU of background over its profile (pixel).
    chi2 : float64, shape (n,)
        Reduced chi-square over the pixels of the profile.
    neighbour_flux : float64, shape (n,)
        What a fit of the position alone, all pixels weighed alike, would take from the light of other stars (ADU).
    share : float64, shape (n,)
        Own part of the light in a circle about the position, as `PsfApertures.share` has it.
    """

    flux: FloatArray
    error: FloatArray
    background_weight: FloatArray
    chi2: FloatArray
    neighbour_flux: FloatArray
    share: FloatArray


def match_moving(
    x: FloatArray, y: FloatArray, star_x: FloatArray, star_y: FloatArray, radius: float
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Which star each position is, of stars that move.

    A position has no epoch: it may be where the star is, or where it was at the epoch of a catalogue.

    Parameters
    ----------
    x, y : float64, shape (n,)
        Positions (pixel); NaN is no star.
    star_x, star_y : float64, shape (n_epoch, n_star)
        Where the stars were at the epochs that positions are usually of, and, last, where they are (pixel); NaN: not known.
    radius : float
        Largest distance of a position from the star that it is (pixel).

    Returns
    -------
    star : int64, shape (n,)
        The star nearest at any epoch; -1 for none within `radius`.
    dx, dy : float64, shape (n,)
        How far that star has moved since (pixel); 0 without one.
    """
    star, best = np.full(len(x), -1, dtype=np.int64), np.full(len(x), np.inf)
    dx, dy = np.zeros(len(x)), np.zeros(len(x))
    asked = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    places = np.column_stack([x[asked], y[asked]])
    for past_x, past_y in zip(star_x[::-1], star_y[::-1], strict=True):
        known = np.flatnonzero(np.isfinite(past_x) & np.isfinite(past_y))
        if not len(known) or not len(asked):
            continue
        tree = cKDTree(np.column_stack([past_x[known], past_y[known]]))
        distance, found = (np.asarray(values) for values in tree.query(places, distance_upper_bound=radius))
        better = distance < best[asked]
        rows, which = asked[better], known[found[better]]
        star[rows], best[rows] = which, distance[better]
        dx[rows], dy[rows] = star_x[-1][which] - past_x[which], star_y[-1][which] - past_y[which]
    return star, dx, dy


def take_turns(x: FloatArray, y: FloatArray, star: IntArray, radius: float) -> tuple[IntArray, IntArray]:
    """Positions that cannot be told apart are measured in different fits.

    Parameters
    ----------
    x, y : float64, shape (n,)
        Positions (pixel).
    star : int64, shape (n,)
        The star that each is; -1 for none.
    radius : float
        Positions at most so far apart would be one star (pixel).

    Returns
    -------
    turn : int64, shape (n,)
        Number of the fit, from 0: the first that no earlier position in conflict has.
    pairs : int64, shape (m, 2)
        Positions in conflict: closer than `radius`, or the same star.
    """
    pairs = cKDTree(np.column_stack([x, y])).query_pairs(radius, output_type="ndarray").reshape(-1, 2).astype(np.int64)
    owner: dict[int, list[int]] = {}
    same = []
    for k in np.flatnonzero(star >= 0).tolist():
        same += [(j, k) for j in owner.setdefault(int(star[k]), [])]
        owner[int(star[k])].append(k)
    pairs = np.unique(np.concatenate([pairs, np.array(same, dtype=np.int64).reshape(-1, 2)]), axis=0)
    turn = np.zeros(len(x), dtype=np.int64)
    earlier: dict[int, list[int]] = {}
    for j, k in pairs.tolist():
        earlier.setdefault(max(j, k), []).append(min(j, k))
    for k in sorted(earlier):
        taken = {int(turn[j]) for j in earlier[k]}
        turn[k] = next(number for number in range(len(taken) + 1) if number not in taken)
    return turn, pairs


def forced_fluxes(
    pixels: Pixels,
    mask: NDArray[np.uint8],
    psf: PsfMap,
    star_x: FloatArray,
    star_y: FloatArray,
    x: FloatArray,
    y: FloatArray,
    star: IntArray,
    *,
    radius: float,
    aperture: float,
    traits: Traits | None = None,
) -> ForcedFluxes:
    """Fluxes at n positions, in a joint fit with all stars.

    Parameters
    ----------
    pixels : Pixels
    mask : uint8, shape (ny, nx)
        Bits of `db.flags.Mask`.
    psf : PsfMap
    star_x, star_y : float64, shape (n_star,)
        All stars whose light is on the frame (pixel).
    x, y : float64, shape (n,)
        Positions (pixel).
    star : int64, shape (n,)
        The star whose place a position takes; -1: it is a star of its own.
    radius : float
        Positions at most so far apart are measured in different fits (pixel).
    aperture : float
        Radius of the circle that `share` is of (pixel).
    traits : dict of str to float64, shape (n_star,), optional
        What the profile changes with, of the stars. A position that takes a star's place has the star's; of others nothing is known.

    Returns
    -------
    ForcedFluxes
    """
    turn, pairs = take_turns(x, y, star, radius)
    out = np.full((6, len(x)), np.nan)
    for number in range(int(turn.max(initial=-1)) + 1):
        mine = turn == number
        conflict = np.zeros(len(x), dtype=bool)
        conflict[pairs[mine[pairs[:, 1]], 0]] = conflict[pairs[mine[pairs[:, 0]], 1]] = True
        # those of the first fit whose light is not in this one's way stay in it as stars
        extra = np.flatnonzero((star < 0) & (mine | ((turn == 0) & ~conflict)))
        all_x, all_y = np.append(star_x, x[extra]), np.append(star_y, y[extra])
        moved = np.flatnonzero(mine & (star >= 0))
        all_x[star[moved]], all_y[star[moved]] = x[moved], y[moved]
        index = star.copy()
        index[extra] = len(star_x) + np.arange(len(extra))
        known = {name: np.append(values, np.full(len(extra), np.nan)) for name, values in (traits or {}).items()}
        out[:, mine] = _fit(pixels, mask, psf, all_x, all_y, known, index[mine], aperture)
    return ForcedFluxes(*out)


def _fit(
    pixels: Pixels, mask: NDArray[np.uint8], psf: PsfMap, x: FloatArray, y: FloatArray, traits: Traits, wanted: IntArray, aperture: float
) -> FloatArray:
    """Rows of a `ForcedFluxes` for some of the stars, no star twice."""
    stamps = psf.stamps(x, y, traits)
    found = fit_fluxes(pixels, stamps)
    alone = np.empty(len(wanted))
    _alone(found.model, pixels.good, stamps.share[wanted], stamps.x0[wanted], stamps.y0[wanted], alone)
    chosen = np.zeros(len(x), dtype=bool)
    chosen[wanted] = True
    circle = psf_apertures(pixels, mask, psf, stamps, found, x, y, [aperture], wanted=chosen, traits=traits)
    share = np.full(len(x), np.nan)
    share[chosen] = circle.share(np.fmax(found.flux, found.error)[chosen])[:, 0]
    flux = found.flux[wanted]
    return np.array(
        [flux, found.error[wanted], found.background_weight[wanted], found.chi2[wanted], alone - flux, share[wanted]], dtype=np.float64
    )


@njit(cache=True)
def _alone(model: FloatArray, good: BoolArray, stamps: FloatArray, x0: IntArray, y0: IntArray, out: FloatArray) -> None:
    """Fluxes of single profiles that fit the model image best."""
    ny, nx = model.shape
    n, size, _ = stamps.shape
    for i in range(n):
        own, light = 0.0, 0.0
        for iy in range(max(y0[i], 0), min(y0[i] + size, ny)):
            for ix in range(max(x0[i], 0), min(x0[i] + size, nx)):
                if good[iy, ix]:
                    share = stamps[i, iy - y0[i], ix - x0[i]]
                    own += share * share
                    light += share * model[iy, ix]
        out[i] = light / own if own > 0.0 else np.nan
