"""Large-scale structure of an image: local quadratic fits with Gaussian weights, on a grid of nodes.

A plain Gaussian smoothing is off by the slope of the image at its edges, and
by its curvature everywhere. A quadratic fitted about each node (Cleveland &
Devlin 1988, J. Am. Stat. Assoc. 83, 596) is off by neither, and masked pixels
only weaken it. The fits are made to means over small cells at the centroids of
their good pixels, which is as good as fitting pixels, and much faster.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.interpolate import CubicSpline

from reduction.kernels.arrays import FloatArray

__all__ = ["SmoothImage", "cell_means", "interpolate", "large_scale", "spline_matrix"]

# Cells and distances of nodes in units of the smoothing length, and how far the weights reach.
_CELL, _SPACING, _REACH = 0.25, 0.75, 3.0


@dataclass(frozen=True)
class SmoothImage:
    """A smooth image on a grid of nodes.

    Attributes
    ----------
    nodes : float64, shape (my, mx)
        Its values at the nodes.
    y, x : float64, shape (my,), (mx,)
        Their rows and columns, pixel, increasing.
    shape : tuple of int
        (ny, nx) of the image.
    """

    nodes: FloatArray
    y: FloatArray
    x: FloatArray
    shape: tuple[int, int]

    def rows(self, first: int, last: int) -> NDArray[np.float32]:
        """Rows `first` to `last` (not included) of the image: float32, shape (last - first, nx), by cubic splines through the nodes."""
        columns = spline_matrix(self.x, np.arange(self.shape[1]))
        lines = spline_matrix(self.y, np.arange(first, last))
        return interpolate(lines, self.nodes, columns)

    def image(self) -> NDArray[np.float32]:
        """The whole image, float32, shape (ny, nx)."""
        return self.rows(0, self.shape[0])


@njit(cache=True)
def _product(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    out = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            factor = a[i, k]
            if factor != 0.0:
                for j in range(b.shape[1]):
                    out[i, j] += factor * b[k, j]
    return out


def interpolate(rows: FloatArray, nodes: FloatArray, columns: FloatArray) -> NDArray[np.float32]:
    """Image of splines through nodes; not by BLAS, whose last digits depend on its threads: equal input has to give equal files.

    Parameters
    ----------
    rows, columns : float64, shapes (ny, my) and (nx, mx)
        From `spline_matrix`.
    nodes : float64, shape (my, mx)
        Values at the nodes.

    Returns
    -------
    float32, shape (ny, nx)
    """
    along_x = _product(np.asarray(nodes, np.float32), np.ascontiguousarray(columns.T, dtype=np.float32))
    return _product(np.asarray(rows, np.float32), along_x)


def _positions(n_pixel: int, spacing: float) -> FloatArray:
    return np.linspace(0.0, n_pixel - 1.0, max(math.ceil((n_pixel - 1) / spacing), 1) + 1)


def spline_matrix(nodes: FloatArray, positions: ArrayLike) -> FloatArray:
    """Matrix of the interpolation by cubic splines along one axis.

    Parameters
    ----------
    nodes : float64, shape (m,)
        Positions of the nodes, increasing.
    positions : array_like, shape (k,)
        Where to interpolate; the outermost cubics go on beyond the nodes.

    Returns
    -------
    float64, shape (k, m)
    """
    if nodes.size == 1:
        return np.ones((np.size(positions), 1))
    return np.asarray(CubicSpline(nodes, np.eye(nodes.size))(np.asarray(positions, np.float64)), np.float64)


@njit(cache=True)
def _sum_cells(value: NDArray[np.float32], bad: NDArray[np.bool_], size: int, sums: FloatArray) -> None:
    """Add number, sum, and summed x and y of the good pixels of each cell to sums (4, my, mx)."""
    ny, nx = value.shape
    for iy in range(ny):
        cy = iy // size
        for cx in range(sums.shape[2]):
            number, total, along = 0, 0.0, 0
            for ix in range(cx * size, min((cx + 1) * size, nx)):
                if not bad[iy, ix] and abs(value[iy, ix]) < np.inf:
                    number += 1
                    total += value[iy, ix]
                    along += ix
            sums[0, cy, cx] += number
            sums[1, cy, cx] += total
            sums[2, cy, cx] += along
            sums[3, cy, cx] += number * iy


def cell_means(value: NDArray[np.float32], bad: NDArray[np.bool_], size: int) -> tuple[FloatArray, FloatArray]:
    """Means over square cells.

    Parameters
    ----------
    value : float32, shape (ny, nx)
        Image; non-finite pixels count as bad.
    bad : bool, shape (ny, nx)
        True where a pixel is not to be used.
    size : int
        Side of a cell, pixel; those at the upper edges may be smaller.

    Returns
    -------
    mean, count : float64, shape (my, mx)
        Mean of the good pixels, NaN where there is none, and their number.
    """
    sums = _cells(value, bad, size)
    return np.divide(sums[1], sums[0], out=np.full(sums[0].shape, np.nan), where=sums[0] > 0), sums[0]


def _cells(value: NDArray[np.float32], bad: NDArray[np.bool_], size: int) -> FloatArray:
    sums = np.zeros((4, -(-value.shape[0] // size), -(-value.shape[1] // size)))
    _sum_cells(np.ascontiguousarray(value, dtype=np.float32), np.ascontiguousarray(bad), size, sums)
    return sums


@njit(cache=True)
def _fit_node(
    cells: FloatArray, size: int, x0: float, y0: float, sigma: float, reach: float, matrix: FloatArray, right: FloatArray
) -> float:
    """Value at (x0, y0) of the quadratic fitted to the cells about it; NaN where none is in reach."""
    my, mx = cells.shape[1:]
    matrix[:] = 0.0
    right[:] = 0.0
    term = np.empty(6)
    term[0] = 1.0
    first_y, last_y = max(int((y0 - reach) / size), 0), min(int((y0 + reach) / size), my - 1)
    first_x, last_x = max(int((x0 - reach) / size), 0), min(int((x0 + reach) / size), mx - 1)
    for cy in range(first_y, last_y + 1):
        for cx in range(first_x, last_x + 1):
            number = cells[0, cy, cx]
            if number == 0.0:
                continue
            u, v = (cells[2, cy, cx] - x0) / sigma, (cells[3, cy, cx] - y0) / sigma
            weight = number * math.exp(-0.5 * (u * u + v * v))
            term[1], term[2], term[3], term[4], term[5] = u, v, u * u, u * v, v * v
            for i in range(6):
                right[i] += weight * term[i] * cells[1, cy, cx]
                for j in range(i + 1):
                    matrix[i, j] += weight * term[i] * term[j]
    total = matrix[0, 0]
    # Less than a pixel's worth at the edge of the reach is no data.
    if total < 0.1:
        return np.nan
    for i in range(6):
        # Slopes and curvatures that the cells do not tell stay zero; what they tell is hardly changed.
        matrix[i, i] += 1e-7 * total if i > 0 else 0.0
        for j in range(i):
            matrix[j, i] = matrix[i, j]
    fitted: float = np.linalg.solve(matrix, right)[0]
    return fitted


@njit(cache=True)
def _fit_nodes(cells: FloatArray, size: int, x: FloatArray, y: FloatArray, sigma: float, reach: float) -> FloatArray:
    nodes = np.empty((y.size, x.size))
    matrix, right = np.empty((6, 6)), np.empty(6)
    for iy in range(y.size):
        for ix in range(x.size):
            nodes[iy, ix] = _fit_node(cells, size, x[ix], y[iy], sigma, reach, matrix, right)
    return nodes


def large_scale(
    value: NDArray[np.float32], bad: NDArray[np.bool_], sigma: float, *, positions: tuple[FloatArray, FloatArray] | None = None
) -> SmoothImage:
    """Smooth an image, ignoring bad pixels.

    Parameters
    ----------
    value : float32, shape (ny, nx)
        Image; non-finite pixels count as bad.
    bad : bool, shape (ny, nx)
        True where a pixel is not to be used.
    sigma : float
        Standard deviation of the Gaussian weights, pixel, positive.
    positions : pair of float64 arrays, optional
        y and x of the nodes, pixel; evenly from edge to edge unless given.

    Returns
    -------
    SmoothImage
        Quadratics are kept exactly, up to edges and corners.  A node without a good pixel within three `sigma` has the value of the nearest
        that has some; all are NaN when no pixel is good.

    Raises
    ------
    ValueError
        If `sigma` is not positive.
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    size = max(int(_CELL * sigma), 1)
    cells = _cells(value, bad, size)
    cells[1:] = np.divide(cells[1:], cells[0], out=np.zeros_like(cells[1:]), where=cells[0] > 0)
    ny, nx = value.shape
    y, x = positions if positions is not None else (_positions(ny, _SPACING * sigma), _positions(nx, _SPACING * sigma))
    nodes = _fit_nodes(cells, size, x, y, sigma, _REACH * sigma)
    unknown = np.isnan(nodes)
    if unknown.any() and not unknown.all():
        nearest = ndimage.distance_transform_edt(unknown, return_distances=False, return_indices=True)
        nodes = nodes[tuple(nearest)]
    return SmoothImage(nodes, y, x, (ny, nx))
