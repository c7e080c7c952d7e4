"""How much of the light in an aperture is the star's own.

The light of a neighbour is constant, and makes whatever a star does look smaller: a dip of depth d shows in an aperture as d times
the star's share. All stars' profiles are added up on one plane, which is summed in circles like a frame; what a star's own profile
puts into its circle is summed in the same way.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from reduction.kernels.arrays import FloatArray, IntArray
from reduction.photometry.kernels.aperture import pixel_overlap
from reduction.photometry.kernels.psf_flux import model_image
from reduction.photometry.kernels.psf_map import Stamps

__all__ = ["light_shares", "typical_fluxes"]


def light_shares(
    stamps: Stamps, flux: FloatArray, x: FloatArray, y: FloatArray, radii: ArrayLike, *, least: FloatArray | None = None
) -> FloatArray:
    """Part of the light in circular apertures that is of the star in their middle.

    Parameters
    ----------
    stamps : Stamps
        Profiles of n stars, of `PsfMap.stamps`; they may reach beyond a frame's border. Light beyond the map's radius is left out.
    flux : float64, shape (n,)
        Of each star, in any unit that they share; NaN and negative ones add no light.
    x, y : float64, shape (n,)
        Positions that the stamps were made for (pixel).
    radii : float64, shape (k,)
        Radii of the apertures (pixel).
    least : float64, shape (n,), optional
        Flux that a star has at least in its own aperture: the error of one that is lost in the noise. To its neighbours it is `flux`.

    Returns
    -------
    float64, shape (n, k)
        From 0 to 1; NaN for a star without light of its own.
    """
    light = np.maximum(np.nan_to_num(flux), 0.0)
    own = light if least is None else np.fmax(light, least)
    radius = np.ascontiguousarray(radii, dtype=np.float64)
    out = np.empty((len(light), len(radius)))
    if len(light):
        size = stamps.share.shape[1]
        x0, y0 = int(stamps.x0.min()), int(stamps.y0.min())
        shape = (int(stamps.y0.max()) - y0 + size, int(stamps.x0.max()) - x0 + size)
        plane = model_image(Stamps(stamps.share, stamps.x0 - x0, stamps.y0 - y0), light, shape)
        _shares(plane, *stamps, light, own, x, y, (x0, y0), radius, out)
    return out


def typical_fluxes(frame: IntArray, star: IntArray, flux: FloatArray, error: FloatArray, first: int, n_star: int) -> FloatArray:
    """Median flux of each star over the frames, on the scale of one of them.

    Parameters
    ----------
    frame, star : int, shape (rows,)
        Frame and star of each measurement, from 0.
    flux, error : float64, shape (rows,)
        ADU; NaN where there is none. Negative fluxes count: without them, faint stars would come out too bright.
    first : int
        Frame on whose scale the fluxes are. A frame's scale is the median ratio of its fluxes to those, where both are above 20 errors.
    n_star : int

    Returns
    -------
    float64, shape (n_star,)
        ADU; NaN for a star that was measured on no frame that can be scaled.
    """
    at_first = np.full(n_star, np.nan)
    mine = (frame == first) & (flux > 20 * error)
    at_first[star[mine]] = flux[mine]
    bright = np.flatnonzero((flux > 20 * error) & np.isfinite(at_first[star]))
    scale = _medians(frame[bright], flux[bright] / at_first[star[bright]], int(frame.max(initial=0)) + 1)
    # without any bright star the frame itself still tells how bright its stars are among each other
    scale[first : first + 1] = 1.0
    scaled = flux / scale[frame]
    known = np.isfinite(scaled)
    return _medians(star[known], scaled[known], n_star)


def _medians(group: IntArray, value: FloatArray, n: int) -> FloatArray:
    """Median of the values of each group, 0 to n - 1; NaN for one without any."""
    order = np.lexsort((value, group))
    ordered = value[order]
    start, stop = (np.searchsorted(group[order], np.arange(n), side=side) for side in ("left", "right"))
    out = np.full(n, np.nan)
    some = stop > start
    low, high = (start[some] + stop[some] - 1) // 2, (start[some] + stop[some]) // 2
    out[some] = 0.5 * (ordered[low] + ordered[high])
    return out


@njit(cache=True)
def _enclosed(image: FloatArray, x: float, y: float, r: float) -> float:
    """Light of an image in a circle; beyond the border there is none."""
    ny, nx = image.shape
    total = 0.0
    for iy in range(max(math.floor(y - r + 0.5), 0), min(math.ceil(y + r - 0.5), ny - 1) + 1):
        for ix in range(max(math.floor(x - r + 0.5), 0), min(math.ceil(x + r - 0.5), nx - 1) + 1):
            total += pixel_overlap(ix - 0.5 - x, iy - 0.5 - y, r) * image[iy, ix]
    return total


@njit(cache=True)
def _shares(
    plane: FloatArray,
    stamps: FloatArray,
    x0: IntArray,
    y0: IntArray,
    flux: FloatArray,
    own: FloatArray,
    x: FloatArray,
    y: FloatArray,
    origin: tuple[int, int],
    radii: FloatArray,
    out: FloatArray,
) -> None:
    for i in range(x.size):
        for k in range(radii.size):
            whole = _enclosed(plane, x[i] - origin[0], y[i] - origin[1], radii[k])
            part = _enclosed(stamps[i], x[i] - x0[i], y[i] - y0[i], radii[k])
            # a profile may be a little negative far out, and rounding leaves a little of a star's own light
            foreign = max(whole - flux[i] * part, 0.0)
            mine = own[i] * part
            out[i, k] = mine / (mine + foreign) if mine > 0.0 else np.nan
