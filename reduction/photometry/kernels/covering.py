"""Whose light falls on a frame, and where it hides the sky: detections, and catalogued stars by their magnitudes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from reduction.photometry.kernels.wings import WingStars, wing_reach

__all__ = ["Catalogued", "Detected", "Lights", "lights", "moffat_radius"]

# Fewest stars that a zero point or the ratio of peak and flux is taken from.
_FEWEST = 3
# Peak of a star that was not detected but hides the sky all the same, as part of the noise.
_HIDES = 0.1
# Signal to noise of those.
_CLEAR = 20.0


@dataclass(frozen=True)
class Detected:
    """Detections of a frame: positions (pixel), flux, its error and highest pixel (ADU), whether saturated; shape (n,) each."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    flux_err: NDArray[np.float64]
    peak: NDArray[np.float64]
    saturated: NDArray[np.bool_]


@dataclass(frozen=True)
class Catalogued:
    """Projected sources on a frame and about it: positions (pixel) and magnitudes, NaN where unknown; shape (n,) each."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    mag: NDArray[np.float64]


@dataclass(frozen=True)
class Lights:
    """Stars that were detected, and then those that only the catalogue knows.

    Attributes
    ----------
    x, y : float64, shape (n,)
        Positions, pixel.
    flux, peak : float64, shape (n,)
        Flux and highest pixel, ADU; NaN where nothing tells it.
    saturated, detected, known : bool, shape (n,)
        Whether it is saturated, whether it was detected, and whether the catalogue has it.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    peak: NDArray[np.float64]
    saturated: NDArray[np.bool_]
    detected: NDArray[np.bool_]
    known: NDArray[np.bool_]

    def radius(self, noise: float, fwhm: float, wing: float, least: float, most: float) -> NDArray[np.float64]:
        """Radius within which a star hides the sky.

        Parameters
        ----------
        noise : float
            Standard deviation of a sky pixel, ADU.
        fwhm : float
            Width of stars, pixel.
        wing : float
            Part of the noise that a wing falls to there.
        least, most : float
            Limits, FWHM.

        Returns
        -------
        float64, shape (n,)
            Pixel; the lower limit is for stars that were detected, are of unknown brightness, or whose peak is above a tenth of the
            noise; 0 for fainter ones.
        """
        radius = moffat_radius(self.peak / (wing * noise))
        least_radius = np.where(self.detected | ~(self.peak <= _HIDES * noise), least, 0.0)
        return np.asarray(fwhm * np.minimum(np.maximum(radius, least_radius), most), np.float64)

    def wings(self, noise: float, fwhm: float, wing: float) -> WingStars:
        """Stars whose wings are measured, each to where it falls to `wing` of the noise (ADU)."""
        reach = wing_reach(self.flux, fwhm, wing * noise)
        keep = (self.flux > 0) & (reach > fwhm)
        return WingStars(self.x[keep], self.y[keep], self.flux[keep], reach[keep], self.saturated[keep])


def moffat_radius(ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """Radius at which the wing of a star is its peak divided by `ratio`.

    Parameters
    ----------
    ratio : float64, shape (n,)
        Peak over the wing; below 1 and NaN give 0.

    Returns
    -------
    float64, shape (n,)
        FWHM, of a Moffat profile with beta = 2.5 (Moffat 1969, A&A 3, 455), whose core radius is 0.885 FWHM: stars on real
        frames have such wings, and a Gaussian's radius leaves them in the sky.
    """
    above = np.maximum(np.nan_to_num(ratio, nan=0.0), 0.0)
    return np.asarray(0.885 * np.sqrt(np.maximum(above ** (1 / 2.5) - 1, 0.0)), np.float64)


def _typical(values: NDArray[np.float64]) -> float:
    return float(np.median(values)) if values.size >= _FEWEST else float("nan")


def lights(detected: Detected, catalogued: Catalogued, fwhm: float) -> Lights:
    """All stars whose light falls on a frame.

    Parameters
    ----------
    detected : Detected
        What was found.
    catalogued : Catalogued
        What is known to be there; a detection within one FWHM is the same star.
    fwhm : float
        Width of stars, pixel.

    Returns
    -------
    Lights
        A catalogued star has the flux that its magnitude says, by the zero point of the frame's unsaturated stars; so has a saturated
        one, if that is more than was detected.  Fewer than three such stars tell nothing.
    """
    clear = ~detected.saturated & (detected.flux > _CLEAR * detected.flux_err) & (detected.peak > 0)
    sharpness = _typical(detected.peak[clear] / detected.flux[clear])
    known = np.isfinite(catalogued.x) & np.isfinite(catalogued.y)
    x, y, mag = catalogued.x[known], catalogued.y[known], catalogued.mag[known]
    of = np.full(len(detected.x), -1)
    alone = np.ones(len(x), dtype=np.bool_)
    if len(x) and len(detected.x):
        away, nearest = cKDTree(np.stack([x, y], axis=1)).query(np.stack([detected.x, detected.y], axis=1), distance_upper_bound=fwhm)
        of = np.where(np.isfinite(away), nearest, -1)
        alone[of[of >= 0]] = False
    their_mag = np.full(len(detected.x), np.nan)
    their_mag[of >= 0] = mag[of[of >= 0]]
    usable = clear & np.isfinite(their_mag)
    zero_point = _typical(their_mag[usable] + 2.5 * np.log10(detected.flux[usable]))
    flux = np.where(detected.saturated, np.fmax(detected.flux, 10 ** (0.4 * (zero_point - their_mag))), detected.flux)
    flux = np.concatenate([flux, 10 ** (0.4 * (zero_point - mag[alone]))])
    peak = flux * sharpness
    peak[: len(detected.x)] = np.fmax(peak[: len(detected.x)], detected.peak)
    n_alone = int(alone.sum())
    return Lights(
        x=np.concatenate([detected.x, x[alone]]),
        y=np.concatenate([detected.y, y[alone]]),
        flux=flux,
        peak=peak,
        saturated=np.concatenate([detected.saturated, np.zeros(n_alone, np.bool_)]),
        detected=np.concatenate([np.ones(len(detected.x), np.bool_), np.zeros(n_alone, np.bool_)]),
        known=np.concatenate([of >= 0, np.ones(n_alone, np.bool_)]),
    )
