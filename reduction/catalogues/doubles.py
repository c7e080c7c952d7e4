"""A star that a catalogue has twice, as where two surveys were put together by position alone, becomes one."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from reduction.astrometry.kernels.wcs import unit_vectors
from reduction.catalogues.columns import Stars
from reduction.catalogues.kernels.colours import fit_magnitude
from reduction.kernels.arrays import BoolArray, FloatArray, IntArray

__all__ = ["without_doubles"]

T = TypeVar("T", bound=np.generic)
#: Rows this close (arcsec) are one star where nothing speaks against it.
RADIUS = 1.0
#: A magnitude that differs by more speaks against it: two stars close together. Between bands there are colours.
SAME_MAG, SAME_MAG_BETWEEN_BANDS = 0.5, 1.0


def without_doubles(stars: Stars) -> tuple[Stars, int, int]:
    """Rows within 1 arcsec of each other as one, where neither identifiers nor magnitudes say that they are two stars.

    Parameters
    ----------
    stars : Stars

    Returns
    -------
    stars : Stars
        Of rows that are one star the one that says most, with what the others say besides.
    n_joined : int
        Rows that are gone into others.
    n_close : int
        Pairs as close that stay two stars.
    """
    vectors = unit_vectors(stars.ra, stars.dec)
    pairs = cKDTree(vectors).query_pairs(2.0 * np.sin(np.radians(RADIUS / 3600.0) / 2.0), output_type="ndarray")
    if len(pairs) == 0:
        return stars, 0, 0
    one, two = pairs[:, 0], pairs[:, 1]
    same = ~_contradicted(stars, one, two)
    n = len(stars)
    graph = coo_array((np.ones(int(same.sum())), (one[same], two[same])), shape=(n, n))
    group = connected_components(graph, directed=False)[1]
    said = _said(stars)
    order = np.lexsort((np.arange(n), -said, group))
    first = np.r_[True, np.diff(group[order]) != 0]
    return _joined(stars, order, first), n - int(first.sum()), int(np.count_nonzero(~same))


def _contradicted(stars: Stars, one: IntArray, two: IntArray) -> BoolArray:
    """Whether rows have identifiers or magnitudes of one kind that are not the same."""
    wrong = (stars.gaia[one] > 0) & (stars.gaia[two] > 0) & (stars.gaia[one] != stars.gaia[two])
    for names in stars.names.values():
        wrong |= (names[one] != "") & (names[two] != "") & (names[one] != names[two])
    magnitudes, common = stars.magnitudes(), np.zeros(len(one), dtype=bool)
    for band in magnitudes.values():
        apart = np.abs(band[one] - band[two])
        common |= np.isfinite(apart)
        wrong |= apart > SAME_MAG  # NaN is no contradiction
    if magnitudes:
        mag = fit_magnitude(magnitudes)
        wrong |= ~common & (np.abs(mag[one] - mag[two]) > SAME_MAG_BETWEEN_BANDS)
    return np.asarray(wrong, dtype=bool)


def _said(stars: Stars) -> IntArray:
    """How much each row says."""
    columns = [*stars.values.values(), *stars.errors.values(), stars.position_err]
    count = sum((np.isfinite(column).astype(np.int64) for column in columns), np.zeros(len(stars), dtype=np.int64))
    return np.asarray(count + (stars.gaia > 0) + sum(names != "" for names in stars.names.values()), dtype=np.int64)


def _joined(stars: Stars, order: IntArray, first: BoolArray) -> Stars:
    """The first row of each group, its gaps filled from the next that has a value."""
    place = np.cumsum(first) - 1
    kept = order[first]
    rows = np.sort(kept)

    def filled(column: npt.NDArray[T], known: BoolArray) -> npt.NDArray[T]:
        """The first known value of each group, else its first row's."""
        result = column.copy()
        later = np.flatnonzero(~first & known[order])[::-1]
        empty = ~known[kept[place[later]]]
        result[kept[place[later[empty]]]] = column[order[later[empty]]]
        return result[rows]

    def numbers(columns: dict[str, FloatArray]) -> dict[str, FloatArray]:
        return {name: np.asarray(filled(column, np.isfinite(column)), dtype=float) for name, column in columns.items()}

    mask = np.zeros(len(stars), dtype=bool)
    mask[rows] = True
    return replace(
        stars.where(mask),
        gaia=filled(stars.gaia, stars.gaia > 0),
        names={prefix: filled(names, names != "") for prefix, names in stars.names.items()},
        values=numbers(stars.values),
        errors=numbers(stars.errors),
    )
