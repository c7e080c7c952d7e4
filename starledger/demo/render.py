"""Images of stars, integrated over the pixels."""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["BETA", "render_stars"]

FloatArray = NDArray[np.float64]

BETA = 3.5
"""Exponent of the Moffat profile (Moffat 1969, A&A 3, 455)."""

# Gauss-Legendre nodes and weights over a pixel of unit width: exact to 1e-4 of the flux for a FWHM over 2 pixels.
_NODES = 0.5 * np.polynomial.legendre.leggauss(4)[0]
_WEIGHTS = 0.5 * np.polynomial.legendre.leggauss(4)[1]


def _render_plain(
    image: FloatArray,
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    fwhm: FloatArray,
    e1: FloatArray,
    e2: FloatArray,
    nodes: FloatArray,
    weights: FloatArray,
) -> None:
    ny, nx = image.shape
    for i in range(x.size):
        if not (np.isfinite(x[i]) and np.isfinite(y[i])) or flux[i] <= 0.0:
            continue
        # Farther out than 2.5 FWHM the middle of a pixel stands for its mean; the image ends below 0.05 electron a pixel.
        alpha2 = 0.25 * fwhm[i] ** 2 / (2.0 ** (1.0 / 3.5) - 1.0)
        shrink = 1.0 / np.sqrt(1.0 - e1[i] ** 2 - e2[i] ** 2)
        pxx, pyy, pxy = (1.0 - e1[i]) * shrink / alpha2, (1.0 + e1[i]) * shrink / alpha2, -e2[i] * shrink / alpha2
        top = flux[i] * 2.5 / (np.pi * alpha2)
        reach = np.sqrt(alpha2 * max((top / 0.05) ** (1.0 / 3.5) - 1.0, 9.0)) + 1.0
        core2 = (2.5 * fwhm[i]) ** 2
        for row in range(max(0, int(np.ceil(y[i] - reach))), min(ny, int(np.floor(y[i] + reach)) + 1)):
            for column in range(max(0, int(np.ceil(x[i] - reach))), min(nx, int(np.floor(x[i] + reach)) + 1)):
                dx, dy = column - x[i], row - y[i]
                r2 = dx * dx + dy * dy
                if r2 > reach * reach:
                    continue
                if r2 > core2:
                    u = 1.0 + pxx * dx * dx + 2.0 * pxy * dx * dy + pyy * dy * dy
                    image[row, column] += top / (u * u * u * np.sqrt(u))
                    continue
                total = 0.0
                for j in range(nodes.size):
                    sy = dy + nodes[j]
                    for k in range(nodes.size):
                        sx = dx + nodes[k]
                        u = 1.0 + pxx * sx * sx + 2.0 * pxy * sx * sy + pyy * sy * sy
                        total += weights[j] * weights[k] / (u * u * u * np.sqrt(u))
                image[row, column] += top * total


_render: Callable[..., None] = numba.njit(cache=True)(_render_plain)


def render_stars(
    image: FloatArray, x: FloatArray, y: FloatArray, flux: FloatArray, fwhm: FloatArray, e1: FloatArray, e2: FloatArray
) -> None:
    """Add elliptical Moffat images of exponent `BETA` to `image`.

    Parameters
    ----------
    image : float64 [ny, nx]
        Changed in place (electron).
    x, y : float64 [n]
        0-based pixel positions; stars with NaN are left out, stars off the frame add what falls on it.
    flux : float64 [n]
        Total of the profile out to infinity (electron); stars of no or negative flux are left out.
    fwhm : float64 [n]
        Of the round profile with the same area (pixel).
    e1, e2 : float64 [n]
        Ellipticity along x and along the diagonal: (a^2 - b^2) / (a^2 + b^2) times the cosine and sine of twice the position angle.
    """
    arrays = [np.ascontiguousarray(a, dtype=np.float64) for a in (x, y, flux, fwhm, e1, e2)]
    _render(image, *arrays, _NODES, _WEIGHTS)
