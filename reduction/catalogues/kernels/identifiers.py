"""Names and positions of sources: identifiers that sort like the sky, unit vectors, HEALPix, folds.

Gaia numbers its sources as HEALPix (order 12, nested) << 35 | running
number << 7 | component, the component being 0 so far (Gaia DR3
documentation, section 20.1.1, `source_id`). An odd number is therefore
free for sources that Gaia does not know.
"""

from __future__ import annotations

import hpgeom
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from reduction.astrometry.kernels.wcs import unit_vectors
from reduction.kernels.arrays import FloatArray, IntArray

__all__ = ["ARCSEC", "fold_of", "healpix29", "match_sky", "new_source_ids", "pair_sky", "unit_vectors"]


#: Radians in an arcsecond.
ARCSEC = float(np.pi / 180 / 3600)
_ORDER_ID = 12
_ORDER_INDEX = 29


def healpix29(ra: npt.ArrayLike, dec: npt.ArrayLike) -> IntArray:
    """HEALPix pixel of order 29, nested (the HATS ``_healpix_29``).

    Parameters
    ----------
    ra, dec : array_like, shape (n,)
        Positions in degrees; any multiple of 360 may be in `ra`.

    Returns
    -------
    int64, shape (n,)
    """
    return np.atleast_1d(np.asarray(hpgeom.angle_to_pixel(2**_ORDER_INDEX, np.mod(ra, 360.0), dec, nest=True, lonlat=True), dtype=np.int64))


def new_source_ids(ra: npt.ArrayLike, dec: npt.ArrayLike, taken: npt.ArrayLike = ()) -> IntArray:
    """Identifiers for sources that Gaia does not know.

    HEALPix (order 12, nested) << 35 | number << 7 | 1, numbered from 1 in
    the order of right ascension (then declination) within a pixel, after the
    numbers already taken there; so they do not depend on the order of rows.

    Parameters
    ----------
    ra, dec : array_like, shape (n,)
        Positions in degrees.
    taken : array_like of int, shape (m,)
        Identifiers in use.

    Returns
    -------
    int64, shape (n,)
    """
    alpha, delta = np.mod(np.atleast_1d(np.asarray(ra, float)), 360.0), np.atleast_1d(np.asarray(dec, float))
    pixel = np.asarray(hpgeom.angle_to_pixel(2**_ORDER_ID, alpha, delta, nest=True, lonlat=True), dtype=np.int64)
    used = np.asarray(taken, dtype=np.int64).ravel()
    used = used[used & 1 == 1]
    pixels, place = np.unique(np.concatenate([pixel, used >> 35]), return_inverse=True)
    highest = np.zeros(len(pixels), dtype=np.int64)
    np.maximum.at(highest, place[len(pixel) :], (used >> 7) & (2**28 - 1))
    order = np.lexsort((delta, alpha, pixel))
    group = place[order]  # sorted: each pixel's sources stand together
    number = np.arange(len(order)) - np.searchsorted(group, group) + 1 + highest[group]
    ids = np.empty(len(alpha), dtype=np.int64)
    ids[order] = (pixel[order] << 35) | (number << 7) | 1
    return ids


def fold_of(source_id: npt.ArrayLike, n_fold: int = 5) -> npt.NDArray[np.int16]:
    """Cross-fit fold of each source: a hash that is the same for ever (splitmix64; Steele et al. 2014, OOPSLA, 453).

    Parameters
    ----------
    source_id : array_like of int, shape (n,)
        Identifiers.
    n_fold : int
        Number of folds.

    Returns
    -------
    int16, shape (n,)
        0 to n_fold - 1.
    """
    z = np.atleast_1d(np.asarray(source_id, dtype=np.int64)).astype(np.uint64)
    with np.errstate(over="ignore"):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z % np.uint64(n_fold)).astype(np.int16)


def match_sky(vectors: FloatArray, others: FloatArray, radius: float) -> IntArray:
    """Index of the nearest of other directions, within a radius.

    Parameters
    ----------
    vectors, others : float64, shapes (n, 3) and (m, 3)
        Unit vectors.
    radius : float
        Largest separation, arcsec.

    Returns
    -------
    int64, shape (n,)
        Index into `others`; -1 where none is near.
    """
    if len(vectors) == 0 or len(others) == 0:
        return np.full(len(vectors), -1, dtype=np.int64)
    chord = 2.0 * np.sin(radius * ARCSEC / 2)
    distance, index = cKDTree(others).query(vectors, distance_upper_bound=chord)
    return np.where(np.isfinite(distance), index, -1).astype(np.int64)


def pair_sky(vectors: FloatArray, others: FloatArray, radius: npt.ArrayLike) -> tuple[IntArray, FloatArray]:
    """Pair directions one to one, the closest pair first.

    Parameters
    ----------
    vectors, others : float64, shapes (n, 3) and (m, 3)
        Unit vectors.
    radius : float or float64, shape (m,)
        Largest separation for each of `others`, arcsec.

    Returns
    -------
    index : int64, shape (n,)
        Index into `others`, each used once at most; -1 where none is left within its radius.
    separation : float64, shape (n,)
        Arcsec; NaN where there is none.
    """
    index, separation = np.full(len(vectors), -1, dtype=np.int64), np.full(len(vectors), np.nan)
    if len(vectors) == 0 or len(others) == 0:
        return index, separation
    limit = np.broadcast_to(np.asarray(radius, dtype=float), (len(others),))
    chord = 2.0 * np.sin(float(limit.max()) * ARCSEC / 2)
    found = cKDTree(vectors).sparse_distance_matrix(cKDTree(others), chord, output_type="ndarray")
    angle = 2.0 * np.arcsin(found["v"] / 2) / ARCSEC
    near = angle <= limit[found["j"]]
    i, j, angle = found["i"][near], found["j"][near], angle[near]
    used = np.zeros(len(others), dtype=bool)
    for k in np.lexsort((j, i, angle)).tolist():
        if index[i[k]] < 0 and not used[j[k]]:
            index[i[k]], separation[i[k]], used[j[k]] = j[k], angle[k], True
    return index, separation
