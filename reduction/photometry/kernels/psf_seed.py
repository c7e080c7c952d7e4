"""A Moffat profile as a map of splines: where the fit of a profile map begins, and its knots."""

from __future__ import annotations

import numpy as np

from reduction.photometry.kernels.psf_map import PsfMap, active_functions, unit_integral
from reduction.photometry.kernels.splines import PADDING, axis_knots, spline_values

__all__ = ["seed_map"]

CORE_STEP = 0.3  # FWHM: distance of the knots within the core; a Gaussian is met to 1e-3 of its peak
CORE = 1.2  # FWHM: half width of the core
GROWTH = 1.5  # of the distances beyond
BETA = 3.0  # of the Moffat profile that the fit begins with
PIXEL_FWHM = np.sqrt(8.0 * np.log(2.0) / 12.0)  # of a Gaussian as wide as a pixel


def seed_map(
    size: tuple[int, int], fwhm: float, radius: float, *, pixel: float = 0.0, ellipticity: float = 0.0, theta: float = 0.0
) -> PsfMap:
    """A Moffat profile, the same everywhere on a frame: where the fit begins, and what stands in where it cannot be made.

    Parameters
    ----------
    size : (int, int)
        nx, ny of the frame.
    fwhm : float
        Geometric mean of the full widths at half maximum along the axes, as pixels show it (pixel).
    radius, pixel : float
        See `PsfMap`.
    ellipticity, theta : float
        1 - minor/major axis; angle of the major axis from +x towards +y (rad).

    Returns
    -------
    PsfMap
        Of order 0.
    """
    knots = axis_knots(radius, CORE_STEP * fwhm, CORE * fwhm, GROWTH)
    inner = knots[PADDING:-PADDING]
    points = np.linspace(inner[0], inner[-1], 8 * len(inner), endpoint=False)[1:]
    basis, values = np.zeros((len(points), len(knots) - 4)), np.zeros(len(knots) - 4)
    for row, point in zip(basis, points, strict=True):
        first, last = spline_values(knots, point, 0.0, values)
        row[first:last] = values[first:last]
    basis = basis[:, PADDING:-PADDING]
    own = np.sqrt(max(fwhm**2 - (PIXEL_FWHM * pixel) ** 2, (0.5 * fwhm) ** 2))
    core = 0.5 * own / np.sqrt(2.0 ** (1.0 / BETA) - 1.0)
    stretch = np.sqrt(1.0 - ellipticity)
    along = points[None, :] * np.cos(theta) + points[:, None] * np.sin(theta)
    across = points[:, None] * np.cos(theta) - points[None, :] * np.sin(theta)
    wanted = (1.0 + ((along * stretch) ** 2 + (across / stretch) ** 2) / core**2) ** -BETA
    inverse = np.linalg.pinv(basis)
    coeff = np.zeros((1, len(knots) - 4, len(knots) - 4))
    coeff[0, PADDING:-PADDING, PADDING:-PADDING] = inverse @ wanted @ inverse.T
    coeff[0] *= active_functions(knots, radius)
    return PsfMap(*size, 0, knots, unit_integral(coeff, knots), radius, pixel)
