"""Sources that are detected again and again, and stand in no catalogue.

Works on directions as unit vectors, so the poles and RA 0 are like any other place. Results
do not depend on the order of the input.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from reduction.astrometry.kernels.wcs import unit_vectors
from reduction.kernels.arrays import FloatArray, IntArray

__all__ = ["Clusters", "cluster_detections", "match_sky"]


ARCSEC = np.pi / 180.0 / 3600.0
MEAN_SHIFTS = 10


@dataclass(frozen=True)
class Clusters:
    """Sources found, in order of RA (then Dec).

    Attributes
    ----------
    ra, dec : float64, shape (n,)
        Weighted mean position (degree, ICRS).
    n_frames : int64, shape (n,)
        Frames with a detection.
    label : (n_detection,) int64
        Cluster of every detection given, in the order given; -1 for none.
    """

    ra: FloatArray
    dec: FloatArray
    n_frames: IntArray
    label: IntArray


@dataclass(frozen=True)
class _Points:
    """Detections in canonical order."""

    vector: FloatArray
    weight: FloatArray
    frame: IntArray


def match_sky(ra: FloatArray, dec: FloatArray, source_ra: FloatArray, source_dec: FloatArray, radius_arcsec: float) -> IntArray:
    """Index of the nearest source within a radius of each position; -1 for none.

    Parameters
    ----------
    ra, dec : float64, shape (n,)
        Positions (degree). NaN matches nothing.
    source_ra, source_dec : float64, shape (m,)
        Sources (degree). NaN matches nothing.
    radius_arcsec : float
        Largest separation.

    Returns
    -------
    int64, shape (n,)
    """
    result = np.full(len(ra), -1, dtype=np.int64)
    here, there = unit_vectors(ra, dec), unit_vectors(source_ra, source_dec)
    usable = np.flatnonzero(np.isfinite(here).all(axis=1))
    known = np.flatnonzero(np.isfinite(there).all(axis=1))
    if len(usable) and len(known):
        distance, nearest = cKDTree(there[known]).query(here[usable], distance_upper_bound=_chord(radius_arcsec))
        near = np.isfinite(distance)
        result[usable[near]] = known[np.asarray(nearest)[near]]
    return result


def cluster_detections(
    ra: FloatArray, dec: FloatArray, weight: FloatArray, frame_index: npt.NDArray[np.integer], *, radius_arcsec: float, min_frames: int = 5
) -> Clusters:
    """Group detections of many frames into sources.

    Parameters
    ----------
    ra, dec : float64, shape (n,)
        Positions (degree). NaN joins nothing.
    weight : float64, shape (n,)
        Weight in the mean position, such as (S/N)^2; not negative or NaN.
    frame_index : int, shape (n,)
        Frame of each detection.
    radius_arcsec : float
        A member lies within this radius of its cluster's mean.
    min_frames : int
        Least number of frames.

    Returns
    -------
    Clusters
        No detection is in two clusters, no cluster has two detections of one frame, no two clusters
        are closer than the radius (the one with fewer frames is given up: it cannot be separated).

    Notes
    -----
    Detections linked by steps of about the radius form groups. A group with one detection a frame, all
    near the mean, is a source. Others are taken apart: the detection with most frames around it is the
    seed of a mean-shift (Comaniciu & Meer 2002, IEEE TPAMI 24, 603), its members leave, and so on.
    Memory grows with the number of detections, not of pairs.
    """
    label = np.full(len(ra), -1, dtype=np.int64)
    usable = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    if len(usable) == 0:
        return Clusters(np.zeros(0), np.zeros(0), np.zeros(0, np.int64), label)
    order = usable[np.lexsort((weight[usable], dec[usable], ra[usable], frame_index[usable]))]
    points = _Points(unit_vectors(ra[order], dec[order]), weight[order].astype(np.float64), frame_index[order].astype(np.int64))
    radius = _chord(radius_arcsec)
    member = _separate(points, radius, min_frames)
    centre, n_frames, member = _summarise(points, member, radius)
    label[order] = member
    angles = np.degrees(np.arctan2(centre[:, 1], centre[:, 0])) % 360.0, np.degrees(np.arcsin(np.clip(centre[:, 2], -1.0, 1.0)))
    by_ra = np.lexsort((angles[1], angles[0]))
    rank = np.empty(len(by_ra) + 1, dtype=np.int64)
    rank[by_ra] = np.arange(len(by_ra))
    rank[-1] = -1
    return Clusters(angles[0][by_ra], angles[1][by_ra], n_frames[by_ra], rank[label])


def _chord(arcsec: float) -> float:
    return float(2.0 * np.sin(0.5 * min(arcsec * ARCSEC, np.pi)))


def _linked(vector: FloatArray, radius: float) -> IntArray:
    """Group of each point: connected by steps of about `radius`.

    Steps are between occupied cells of half a radius, since the pairs of the points themselves grow
    with the square of the number of frames.
    """
    cell, where = np.unique(np.floor(vector / (0.5 * radius)).astype(np.int64), axis=0, return_inverse=True)
    pairs = cKDTree(cell.astype(np.float64)).query_pairs(2.0 + 1e-9, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(len(cell), len(cell)))
    _, group = connected_components(graph, directed=False)
    linked: IntArray = group[where.ravel()].astype(np.int64)
    return linked


def _separate(points: _Points, radius: float, min_frames: int) -> IntArray:
    """Cluster of each point, numbered from 0; -1 for none."""
    group = _linked(points.vector, radius)
    n_group = int(group.max()) + 1
    pairs = np.unique(np.column_stack([group, points.frame]), axis=0)
    n_point, n_frame = np.bincount(group, minlength=n_group), np.bincount(pairs[:, 0], minlength=n_group)
    centre = _means(points, group, n_group)
    farthest = np.zeros(n_group)
    np.maximum.at(farthest, group, np.linalg.norm(points.vector - centre[group], axis=1))
    enough = n_frame >= min_frames
    simple = enough & (n_point == n_frame) & (farthest <= radius)
    number = np.where(simple, np.cumsum(simple) - 1, -1)
    member = number[group].astype(np.int64)
    by_group = np.argsort(group, kind="stable")
    first = np.concatenate([[0], np.cumsum(n_point)])
    found = int(np.count_nonzero(simple))
    for tangled in np.flatnonzero(enough & ~simple):
        index = by_group[first[tangled] : first[tangled + 1]]
        for chosen in _untangle(points, index, radius, min_frames):
            member[chosen] = found
            found += 1
    return member


def _means(points: _Points, label: IntArray, n: int) -> FloatArray:
    """Weighted mean directions of the labels 0 to n - 1; points with label -1 are left out."""
    inside = label >= 0
    # of points without any weight the plain mean
    weight = points.weight[inside] + 1e-30
    sums = np.stack([np.bincount(label[inside], points.vector[inside, axis] * weight, minlength=n) for axis in range(3)], axis=-1)
    mean: FloatArray = sums / np.linalg.norm(sums, axis=1)[:, None]
    return mean


def _untangle(points: _Points, index: IntArray, radius: float, min_frames: int) -> list[IntArray]:
    """Sources within one group of points that is more than one source."""
    found = []
    left = index
    while len(left) >= min_frames:
        tree = cKDTree(points.vector[left])
        around = tree.query_ball_point(points.vector[left], radius)
        frames = np.array([len(np.unique(points.frame[left[near]])) for near in around])
        if frames.max() < min_frames:
            break
        chosen = _mean_shift(points, left, tree, points.vector[left[int(np.argmax(frames))]], radius)
        if len(chosen) >= min_frames:
            found.append(left[chosen])
        drop = chosen if len(chosen) else np.array([int(np.argmax(frames))])
        left = np.delete(left, drop)
    return found


def _mean_shift(points: _Points, left: IntArray, tree: cKDTree, centre: FloatArray, radius: float) -> IntArray:
    """Positions in `left` of the nearest detection of each frame around a centre that follows their mean."""
    chosen = np.zeros(0, dtype=np.int64)
    for _ in range(MEAN_SHIFTS):
        near = np.array(sorted(tree.query_ball_point(centre, radius)), dtype=np.int64)
        distance = np.linalg.norm(points.vector[left[near]] - centre, axis=1)
        by_frame = near[np.lexsort((near, distance, points.frame[left[near]]))]
        _, first = np.unique(points.frame[left[by_frame]], return_index=True)
        updated = np.sort(by_frame[first])
        if np.array_equal(updated, chosen):
            break
        chosen = updated
        centre = _means(_Points(points.vector[left[chosen]], points.weight[left[chosen]], chosen), np.zeros(len(chosen), np.int64), 1)[0]
    inside = np.linalg.norm(points.vector[left[chosen]] - centre, axis=1) <= radius
    return np.asarray(chosen[inside])


def _summarise(points: _Points, member: IntArray, radius: float) -> tuple[FloatArray, IntArray, IntArray]:
    """Centres and frames of the clusters, without those too close to a stronger one; members renumbered."""
    n = int(member.max()) + 1
    centre = _means(points, member, n)
    n_frames = np.bincount(member[member >= 0], minlength=n)
    keep = np.ones(n, dtype=bool)
    if n > 1:
        pairs = cKDTree(centre).query_pairs(radius, output_type="ndarray")
        swap = n_frames[pairs[:, 0]] < n_frames[pairs[:, 1]]
        strong, weak = np.where(swap, pairs[:, 1], pairs[:, 0]), np.where(swap, pairs[:, 0], pairs[:, 1])
        for better, worse in sorted(zip(strong, weak, strict=True), key=lambda pair: (-n_frames[pair[0]], pair)):
            if keep[better]:
                keep[worse] = False
    number = np.append(np.where(keep, np.cumsum(keep) - 1, -1), -1)
    return centre[keep], n_frames[keep].astype(np.int64), number[member].astype(np.int64)
