"""First guess of a plate solution: which star is which.

A guess may come from a WCS, from a neighbouring frame, or from a rough pointing and pixel
scale. Whatever its origin, it counts only once many more stars agree with it than chance allows; how many more follows
from how many hypotheses were tried, and these are few where the stars lie about where they were said to be beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import pdtrc

from db.errors import AlgorithmFailed, FrameUnusable
from reduction.astrometry.kernels.acceptance import LOG_PATTERNS, max_log_chance
from reduction.astrometry.kernels.plate_fit import fit_plate, highest_order, match_positions
from reduction.astrometry.kernels.triangles import Similarity, match_triangles
from reduction.astrometry.kernels.wcs import PlateSolution, gnomonic, gnomonic_inverse
from reduction.kernels.arrays import FloatArray

__all__ = ["Confirmed", "Pointing", "Start", "StarLists", "confirmed_starts", "name_of", "solution_from_wcs"]

PixelToSky: TypeAlias = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]

MIN_MATCHED = 6
SCALE_DRIFT = 0.05  # between frames of one camera, or from a header's WCS to the truth
SCALE_EDGE = 0.01
LIST_LENGTHS = (16, 28, 44)  # brightest detections tried by the pattern match, one after the other


@dataclass(frozen=True)
class Pointing:
    """Where the telescope points, by header or person; rotation and parity are unknown.

    Attributes
    ----------
    ra, dec : float
        Degree, ICRS.
    scale : float
        Arcsec per pixel.
    scale_tolerance : float
        Largest relative error of `scale`.
    offset : float
        Largest error of the pointing, as a fraction of the frame's diagonal.
    """

    ra: float
    dec: float
    scale: float
    scale_tolerance: float = 0.03
    offset: float = 0.4


Start: TypeAlias = PlateSolution | Pointing | PixelToSky


@dataclass(frozen=True)
class StarLists:
    """Detections (pixel) and catalogue stars (degree), both brightest first; frame size nx, ny."""

    x: FloatArray
    y: FloatArray
    ra: FloatArray
    dec: FloatArray
    size: tuple[int, int]

    @property
    def diagonal(self) -> float:
        """Diagonal of the frame (pixel)."""
        return float(np.hypot(*self.size))


class Confirmed(NamedTuple):
    """A start that the stars confirm.

    Attributes
    ----------
    solution : PlateSolution
        Good to a few pixel.
    method : str
        How it was come by.
    limit : float
        Largest log10 of the chance that is believed of what is made of it: see `max_log_chance`.
    """

    solution: PlateSolution
    method: str
    limit: float


def solution_from_wcs(pixel_to_sky: PixelToSky, size: tuple[int, int], order: int = 4) -> PlateSolution:
    """Plate solution that follows a pixel-to-sky function, such as a header's WCS.

    Parameters
    ----------
    pixel_to_sky : callable
        Takes x, y (pixel, 0-based) and returns RA, Dec (degree).
    size : (int, int)
        nx, ny of the frame.
    order : int
        Total degree of the polynomial fitted over the frame.

    Raises
    ------
    AlgorithmFailed
        Where the function gives no finite positions on the frame.
    """
    nx, ny = size
    column, row = np.meshgrid(np.linspace(0.0, nx - 1.0, 21), np.linspace(0.0, ny - 1.0, 21))
    x, y = column.ravel(), row.ravel()
    ra, dec = (np.asarray(value, dtype=np.float64) for value in pixel_to_sky(x, y))
    centre = pixel_to_sky(np.array([(nx - 1) / 2.0]), np.array([(ny - 1) / 2.0]))
    tangent = (float(centre[0][0]), float(centre[1][0]))
    finite = np.isfinite(gnomonic(ra, dec, *tangent)[0])
    if np.count_nonzero(finite) < x.size // 2:
        raise AlgorithmFailed(
            "the WCS given as a start has no sky position on most of the frame",
            hint="take it out of the header, or mend it",
            code="solve.wcs",
        )
    weight = np.ones(np.count_nonzero(finite))
    return fit_plate(ra[finite], dec[finite], x[finite], y[finite], weight, tangent=tangent, order=order, size=size).solution


def confirmed_starts(lists: StarLists, starts: Sequence[Start | tuple[str, Start]]) -> Iterator[Confirmed]:
    """The starts, in the order given, that the stars confirm.

    Parameters
    ----------
    lists : StarLists
        Detections and catalogue.
    starts : sequence of Start or (str, Start)
        PlateSolution, Pointing or function (x, y) -> (ra, dec), each with a name if wanted.

    Yields
    ------
    Confirmed
        `solution` is of order 1 to 3; its scale within the tolerance of a pointing, or within 5 % of the scale of a
        solution or WCS. `method` is the name given with the start, else ``neighbour`` (a `PlateSolution`), ``header`` (a
        function) or ``pointing``; ``+pattern`` is added where a solution was too far off and only its centre and
        scale were used. `limit` is the looser, the less the stars had to be moved from where the start has them.

    Raises
    ------
    FrameUnusable
        Fewer than six detections.
    """
    if len(lists.x) < MIN_MATCHED:
        raise FrameUnusable(
            f"{len(lists.x)} stars detected, at least {MIN_MATCHED} are needed for a plate solution",
            hint="too short an exposure, clouds, a closed shutter? Otherwise lower the detection threshold",
            code="solve.few_stars",
        )
    for entry in starts:
        name, start = entry if isinstance(entry, tuple) else (name_of(entry), entry)
        if isinstance(start, Pointing):
            found = _from_pointing(lists, start)
        else:
            suffix, found = _from_guess(lists, start)
            name += suffix
        if found is not None:
            yield Confirmed(found[0], name, found[1])


def name_of(start: Start | tuple[str, Start]) -> str:
    """What a start is called in messages and as the method of a solution: see `confirmed_starts`."""
    if isinstance(start, tuple):
        return start[0]
    if isinstance(start, Pointing):
        return "pointing"
    return "neighbour" if isinstance(start, PlateSolution) else "header"


def _from_guess(lists: StarLists, start: PlateSolution | PixelToSky) -> tuple[str, tuple[PlateSolution, float] | None]:
    """From a solution or a WCS; where it is too far off, from its centre and scale."""
    try:
        guess = start if isinstance(start, PlateSolution) else solution_from_wcs(start, lists.size)
    except AlgorithmFailed:
        return "", None
    found = _from_solution(lists, guess)
    if found is not None and not _same_scale(found[0], guess.scale, SCALE_DRIFT):
        found = None
    if found is None and np.isfinite([*guess.centre, guess.scale]).all():
        return "+pattern", _from_pointing(lists, Pointing(*guess.centre, guess.scale))
    return "", found


def _from_solution(lists: StarLists, guess: PlateSolution) -> tuple[PlateSolution, float] | None:
    """Correct `guess` by the offset most star pairs agree on; with the limit of its chance."""
    px, py = guess.project(lists.ra, lists.dec)
    near = np.flatnonzero(guess.inside(px, py, margin=-0.15 * lists.diagonal))
    near = near[:150]
    n_det = min(len(lists.x), 150)
    if len(near) < 3:
        return None
    dx = lists.x[:n_det, None] - px[near][None, :]
    dy = lists.y[:n_det, None] - py[near][None, :]
    reach = 0.15 * lists.diagonal
    close = np.hypot(dx, dy) < reach
    offsets = np.column_stack([dx[close], dy[close]])
    for blur in (0.002, 0.006):
        if len(offsets) == 0:
            return None
        tree = cKDTree(offsets)
        radius = max(1.5, blur * lists.diagonal)
        votes = tree.query_ball_point(offsets, radius, return_length=True)
        best = int(np.argmax(votes))
        shift = offsets[tree.query_ball_point(offsets[best], radius)].mean(axis=0)
        # every offset as small might have been the one
        limit = max_log_chance(np.log10(1.0 + float(shift @ shift) / _last_radius(lists) ** 2))
        found = _confirm(lists, _shifted(guess, shift), 2.0 * radius, limit)
        if found is not None:
            return found, limit
    return None


def _shifted(solution: PlateSolution, shift: FloatArray) -> PlateSolution:
    coeff_x = (solution.coeff_x[0] + float(shift[0]), *solution.coeff_x[1:])
    coeff_y = (solution.coeff_y[0] + float(shift[1]), *solution.coeff_y[1:])
    return PlateSolution(solution.ra0, solution.dec0, solution.order, coeff_x, coeff_y, solution.nx, solution.ny)


def _from_pointing(lists: StarLists, pointing: Pointing) -> tuple[PlateSolution, float] | None:
    """Match triangles of the brightest stars against those of the catalogue around the pointing; with the limit of the chance."""
    degree = pointing.scale / 3600.0
    xi, eta = gnomonic(lists.ra, lists.dec, pointing.ra, pointing.dec)
    reach = (0.5 + pointing.offset) * lists.diagonal * degree * (1.0 + pointing.scale_tolerance)
    around = np.flatnonzero(np.hypot(xi, eta) < reach)
    ratio = np.pi * (reach / degree) ** 2 / (lists.size[0] * lists.size[1])
    for length in LIST_LENGTHS:
        n_det = min(length, len(lists.x))
        brightest = around[: int(np.clip(round(n_det * ratio), 10, 130))]
        if len(brightest) < MIN_MATCHED:
            return None
        candidates = match_triangles(
            (lists.x[:n_det], lists.y[:n_det]),
            (xi[brightest] / degree, eta[brightest] / degree),
            size=lists.size,
            scale_tolerance=pointing.scale_tolerance,
        )
        for candidate in candidates:
            guess = _linear(candidate, pointing, degree, lists.size)
            limit = max_log_chance(_log_patterns(guess, pointing, lists.diagonal))
            found = _confirm(lists, guess, 0.012 * lists.diagonal, limit)
            if found is not None and _same_scale(found, pointing.scale, pointing.scale_tolerance):
                return found, limit
        if length >= len(lists.x):
            return None
    return None


def _log_patterns(guess: PlateSolution, pointing: Pointing, diagonal: float) -> float:
    """log10 of the number of patterns tried that are as near the pointing as the guess."""
    off = np.hypot(guess.coeff_x[0] - (guess.nx - 1) / 2.0, guess.coeff_y[0] - (guess.ny - 1) / 2.0)
    # a pointing is not known to less than a hundredth of the frame
    share = max(float(off), 0.01 * diagonal) / (max(pointing.offset, 0.01) * diagonal)
    return LOG_PATTERNS + 2.0 * float(np.log10(min(share, 1.0)))


def _same_scale(solution: PlateSolution, scale: float, tolerance: float) -> bool:
    """Whether the scale is within the tolerance, and an edge for the distortion between middle and pattern."""
    return bool(abs(np.log(solution.scale / scale)) <= np.log1p(tolerance + SCALE_EDGE))


def _linear(similarity: Similarity, pointing: Pointing, degree: float, size: tuple[int, int]) -> PlateSolution:
    """Plate solution of order 1 about the pointing."""
    (xx, xy), (yx, yy) = similarity.matrix / degree
    x0, y0 = similarity.shift
    coeff_x, coeff_y = (float(x0), float(xx), float(xy)), (float(y0), float(yx), float(yy))
    return PlateSolution(pointing.ra, pointing.dec, 1, coeff_x, coeff_y, *size)


def _last_radius(lists: StarLists) -> float:
    """Match radius (pixel) at which a start is confirmed or not."""
    return max(2.0, 0.002 * lists.diagonal)


def _confirm(lists: StarLists, guess: PlateSolution, radius: float, limit: float) -> PlateSolution | None:
    """Refit `guess` to ever closer pairs; None unless far more agree than by chance, of which the log10 is at most `limit`."""
    solution = guess
    lists = _near(lists, guess)
    last = _last_radius(lists)
    for step in range(8):
        px, py = solution.project(lists.ra, lists.dec)
        inside = np.flatnonzero(solution.inside(px, py))
        if len(inside) < MIN_MATCHED:
            return None
        # lists of like depth, so that chance pairs stay rare while the radius is wide
        depth = min(len(inside), len(lists.x), 60 * (step + 1))
        inside, n_det = inside[: 2 * depth], min(2 * depth, len(lists.x))
        cat, det = match_positions(px[inside], py[inside], lists.x[:n_det], lists.y[:n_det], radius)
        if len(cat) < MIN_MATCHED:
            return None
        pairs = (lists.ra[inside[cat]], lists.dec[inside[cat]], lists.x[det], lists.y[det])
        order = highest_order(len(cat), min(1 + step // 2, 3))
        fit = fit_plate(*pairs, np.ones(len(cat)), tangent=_middle(solution), order=order, size=lists.size)
        expected = len(inside) * n_det * np.pi * radius**2 / (lists.size[0] * lists.size[1])
        solution = fit.solution
        if radius <= last and pdtrc(len(cat) - 4, expected) < 10.0**limit:
            return solution
        radius = max(last, min(0.7 * radius, 5.0 * fit.sigma))
    return None


def _near(lists: StarLists, guess: PlateSolution) -> StarLists:
    """The same without the catalogue stars that no small correction brings onto the frame."""
    px, py = guess.project(lists.ra, lists.dec)
    near = guess.inside(px, py, margin=-0.05 * lists.diagonal)
    return replace(lists, ra=lists.ra[near], dec=lists.dec[near])


def _middle(solution: PlateSolution) -> tuple[float, float]:
    """Sky position of the frame's middle, by the linear terms (a wild guess may have no inverse)."""
    linear = np.array([solution.coeff_x[1:3], solution.coeff_y[1:3]])
    target = np.array([(solution.nx - 1) / 2.0 - solution.coeff_x[0], (solution.ny - 1) / 2.0 - solution.coeff_y[0]])
    xi, eta = np.linalg.solve(linear, target)
    ra, dec = gnomonic_inverse(xi, eta, solution.ra0, solution.dec0)
    return float(ra), float(dec)
