"""A Moffat profile as a map of splines: where the fit of a profile map begins, and its knots."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import minimize

from reduction.kernels.arrays import FloatArray
from reduction.photometry.kernels.psf_flux import Pixels, fit_fluxes
from reduction.photometry.kernels.psf_map import PsfMap, active_functions, unit_integral
from reduction.photometry.kernels.splines import PADDING, axis_knots, spline_values

__all__ = ["fitted_seed", "seed_map"]

CORE_STEP = 0.3  # FWHM: distance of the knots within the core; a Gaussian is met to 1e-3 of its peak
CORE = 1.2  # FWHM: half width of the core
GROWTH = 1.5  # of the distances beyond
BETA = 3.0  # of the Moffat profile that the fit begins with
LEAST_STARS, MOST_STARS = 10, 300  # that a seed is fitted to, the brightest
LEAST_SNR = 30.0  # of each
UNLIKE = 9.0  # chi-square as which a star further off counts: blends and blemishes must not have all the say
ALLOWED = 0.05  # of a star's light in its brightest pixel: so far the profile is none of Moffat's
WIDEST = 1.5  # times the width that is given: pixels at these distances are looked at
ELONGATED = 0.8  # largest ellipticity
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


def fitted_seed(pixels: Pixels, x: FloatArray, y: FloatArray, size: tuple[int, int], fwhm: float, radius: float, pixel: float) -> PsfMap:
    """The Moffat profile that fits the stars of a frame whose pixels are sensitive in part only.

    Where some light falls beside all pixels, each star tells the profile at the places of its own pixels, but for a factor: how those
    places differ between stars is known by a shape alone. A map that begins too wide would stay so, and count too little light wherever
    much of it falls beside the pixels.

    Parameters
    ----------
    pixels : Pixels
    x, y : float64, shape (n,)
        Positions of all stars on the frame (pixel).
    size, fwhm, radius, pixel
        As in `seed_map`; the width is where the search begins.

    Returns
    -------
    PsfMap
        Of order 0; that of the width given where too few stars are bright.
    """
    first = seed_map(size, fwhm, radius, pixel=pixel)
    stamps = first.stamps(x, y)
    fluxes = fit_fluxes(pixels, stamps)
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = np.nan_to_num(fluxes.flux / fluxes.error)
    bright = np.flatnonzero((snr > LEAST_SNR) & (fluxes.coverage > 0.99))
    bright = bright[np.argsort(-snr[bright], kind="stable")][:MOST_STARS]
    if len(bright) < LEAST_STARS:
        return first
    at = (x[bright], y[bright])
    miss = ALLOWED * fluxes.flux[bright] * stamps.share[bright].max(axis=(1, 2))
    value, weight = _windows(pixels, *at, math.ceil(WIDEST * fwhm), miss)

    def seed(unknown: FloatArray) -> PsfMap:
        ellipticity = min(math.hypot(unknown[1], unknown[2]), ELONGATED)
        theta = 0.5 * math.atan2(unknown[2], unknown[1])
        return seed_map(size, math.exp(unknown[0]), radius, pixel=pixel, ellipticity=ellipticity, theta=theta)

    def missed(unknown: FloatArray) -> float:
        share = _middle(seed(unknown).stamps(*at).share, value.shape[1])
        norm = np.maximum((weight * share**2).sum(axis=1), 1e-300)
        flux = (weight * share * value).sum(axis=1) / norm
        chi2 = (weight * (value - flux[:, None] * share) ** 2).sum(axis=1) / np.maximum((weight > 0.0).sum(axis=1), 1)
        return float(np.mean(np.minimum(chi2, UNLIKE)))

    start = math.log(fwhm)
    corners = [[start, 0.0, 0.0], [start - 0.5, 0.0, 0.0], [start, 0.3, 0.0], [start, 0.0, 0.3]]
    found = minimize(missed, corners[0], method="Nelder-Mead", options={"initial_simplex": corners, "xatol": 0.01, "fatol": 1e-3})
    return seed(found.x)


def _middle(share: FloatArray, n: int) -> FloatArray:
    """The innermost pixels of stamps, row after row: n of each."""
    half, middle = math.isqrt(n) // 2, share.shape[1] // 2
    return share[:, middle - half : middle + half + 1, middle - half : middle + half + 1].reshape(len(share), n)


def _windows(pixels: Pixels, x: FloatArray, y: FloatArray, half: int, miss: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Pixels about n stars and their weights (n, (2 half + 1)**2), where a profile may miss so much of each (n,); 0: does not count."""
    step = np.arange(-half, half + 1)
    row = np.floor(y + 0.5).astype(np.int64)[:, None, None] + step[:, None]
    column = np.floor(x + 0.5).astype(np.int64)[:, None, None] + step
    ny, nx = pixels.value.shape
    at = (np.clip(row, 0, ny - 1), np.clip(column, 0, nx - 1))
    value = pixels.value[at].astype(np.float64)
    good = pixels.good[at] & (row == at[0]) & (column == at[1])
    weight = np.where(good, 1.0 / (pixels.dark[at] + np.maximum(value, 0.0) / pixels.gain + miss[:, None, None] ** 2), 0.0)
    return value.reshape(len(x), -1), weight.reshape(len(x), -1)
