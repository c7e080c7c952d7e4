"""Pattern match of two star lists by triangles.

Groth (1986, AJ 91, 1244) and Valdes et al. (1995, PASP 107, 1119): triangles are compared by the
ratios of their sides, and every similar pair votes for the transformation that it implies. The true
transformation collects the votes of all common triangles; false ones scatter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from reduction.kernels.arrays import ComplexArray, FloatArray

__all__ = ["Similarity", "match_triangles"]


RATIO_TOLERANCE = 0.010  # of a side ratio: distortion and centroid errors
MIN_SIDE = 0.08  # of the frame's diagonal: shorter sides have no leverage
CANDIDATES = 6
CENTRE_TOLERANCE = 0.02  # of the diagonal
ANGLE_TOLERANCE = 0.03  # rad


@dataclass(frozen=True)
class Similarity:
    """(x, y) = matrix @ (u, v) + shift; `votes` triangles agree on it."""

    matrix: FloatArray
    shift: FloatArray
    votes: int


@dataclass(frozen=True)
class _Triangles:
    """Vertices (complex, shape (n, 3)), opposite to the longest, middle and shortest side; log of the longest side and two ratios."""

    vertices: ComplexArray
    log_side: FloatArray
    ratios: FloatArray


def match_triangles(
    detected: tuple[FloatArray, FloatArray],
    catalogue: tuple[FloatArray, FloatArray],
    *,
    size: tuple[int, int],
    scale_tolerance: float,
) -> list[Similarity]:
    """Transformations from the catalogue's plane to the frame, most voted first.

    Parameters
    ----------
    detected : (x, y)
        Pixel positions of n stars on the frame; time grows as n^3, so a few dozen.
    catalogue : (u, v)
        Plane positions of m stars, in units of about one pixel; up to some 130.
    size : (int, int)
        nx, ny of the frame.
    scale_tolerance : float
        Largest relative difference in scale of the two planes.

    Returns
    -------
    list of Similarity
        At most six, of either parity. Empty when no triangles are alike.
    """
    diagonal = float(np.hypot(*size))
    first = _triangles(detected[0] + 1j * detected[1], diagonal)
    second = _triangles(catalogue[0] + 1j * catalogue[1], diagonal * (1.0 + scale_tolerance))
    if len(first.log_side) == 0 or len(second.log_side) == 0:
        return []
    stretch = RATIO_TOLERANCE / (scale_tolerance + RATIO_TOLERANCE)
    trees = [cKDTree(np.column_stack([part.ratios, part.log_side * stretch])) for part in (first, second)]
    pairs = trees[0].sparse_distance_matrix(trees[1], RATIO_TOLERANCE, p=np.inf, output_type="ndarray")
    if len(pairs) == 0:
        return []
    return _vote(first.vertices[pairs["i"]], second.vertices[pairs["j"]], size)


def _triangles(points: ComplexArray, longest: float) -> _Triangles:
    """All triangles with sides between `MIN_SIDE` diagonals and `longest`."""
    n = len(points)
    distance = np.abs(points[:, None] - points[None, :])
    usable = (distance < longest) & (distance > MIN_SIDE * longest) & np.triu(np.ones((n, n), dtype=bool), 1)
    i, j, k = np.nonzero(usable[:, :, None] & usable[None, :, :] & usable[:, None, :])
    corners = np.stack([i, j, k], axis=1)
    opposite = np.stack([distance[j, k], distance[i, k], distance[i, j]], axis=1)
    order = np.argsort(-opposite, axis=1, kind="stable")
    sides = np.take_along_axis(opposite, order, axis=1)
    vertices = points[np.take_along_axis(corners, order, axis=1)]
    ratios = sides[:, 1:] / sides[:, :1] if len(sides) else np.zeros((0, 2))
    return _Triangles(vertices, np.log(sides[:, 0]), ratios)


def _vote(frame: ComplexArray, plane: ComplexArray, size: tuple[int, int]) -> list[Similarity]:
    """Similarities of pairs of triangles, and where they cluster."""
    mirrored = np.sign(_area(frame)) != np.sign(_area(plane))
    plane = np.where(mirrored[:, None], np.conj(plane), plane)
    frame_mean, plane_mean = frame.mean(axis=1), plane.mean(axis=1)
    arm = plane - plane_mean[:, None]
    factor = np.sum(np.conj(arm) * (frame - frame_mean[:, None]), axis=1) / np.sum(np.abs(arm) ** 2, axis=1)
    middle = 0.5 * complex(size[0] - 1, size[1] - 1)
    # the frame's middle on the plane: interpolated, where the plane's origin on the frame may be extrapolated
    centre = plane_mean + (middle - frame_mean) / factor
    unit = factor / np.abs(factor)
    diagonal = float(np.hypot(*size))
    space = np.column_stack(
        [
            centre.real / (CENTRE_TOLERANCE * diagonal),
            centre.imag / (CENTRE_TOLERANCE * diagonal),
            unit.real / ANGLE_TOLERANCE,
            unit.imag / ANGLE_TOLERANCE,
            np.where(mirrored, 1e6, 0.0),
        ]
    )
    return _clusters(space, factor, centre, mirrored, middle)


def _area(triangle: ComplexArray) -> FloatArray:
    first, second = triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0]
    area: FloatArray = np.imag(np.conj(first) * second)
    return area


def _clusters(
    space: FloatArray, factor: ComplexArray, centre: ComplexArray, mirrored: npt.NDArray[np.bool_], middle: complex
) -> list[Similarity]:
    """Take the densest ball of votes, remove it, and so on."""
    tree = cKDTree(space)
    votes = np.asarray(tree.query_ball_point(space, 1.0, return_length=True))
    free = np.ones(len(space), dtype=bool)
    found: list[Similarity] = []
    while len(found) < CANDIDATES and free.any():
        best = int(np.argmax(np.where(free, votes, -1)))
        members = np.array(tree.query_ball_point(space[best], 1.0))
        free[tree.query_ball_point(space[best], 2.0)] = False
        slope = complex(np.median(factor[members].real), np.median(factor[members].imag))
        origin = complex(np.median(centre[members].real), np.median(centre[members].imag))
        shift = middle - slope * origin
        sign = -1.0 if mirrored[best] else 1.0
        matrix = np.array([[slope.real, -slope.imag * sign], [slope.imag, slope.real * sign]])
        found.append(Similarity(matrix, np.array([shift.real, shift.imag]), int(votes[best])))
    return found
