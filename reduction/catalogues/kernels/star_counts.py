"""How many stars there are, by magnitude and galactic latitude: enough to say how deep a frame goes, and how large an answer will be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reduction.kernels.arrays import FloatArray

__all__ = ["galactic_latitude", "magnitude_of_density", "star_density"]


#: log10 of stars a square degree brighter than a visual magnitude, at galactic latitude 0, 30 and 90 degrees: rounded means after the
#: star numbers of Allen's Astrophysical Quantities. Their mean over the sky is within a factor of two of Gaia's, which is half a magnitude.
_MAGNITUDE = np.array([4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0, 20.0])
_COUNTS = np.array(
    [
        [-1.65, -0.75, 0.22, 1.18, 2.11, 2.99, 3.77, 4.44, 4.97],
        [-1.90, -1.03, -0.10, 0.79, 1.60, 2.32, 2.95, 3.47, 3.87],
        [-2.13, -1.26, -0.37, 0.44, 1.16, 1.79, 2.32, 2.73, 3.05],
    ]
)
_SINE = np.sin(np.radians([0.0, 30.0, 90.0]))
#: Direction of the north galactic pole, ICRS (ESA 1997, Hipparcos and Tycho Catalogues, vol. 1, 1.5.3).
_POLE = (-0.8676661490190047, -0.1980763734312015, 0.4559837761750669)


def galactic_latitude(ra: npt.ArrayLike, dec: npt.ArrayLike) -> FloatArray:
    """Galactic latitude in degrees.

    Parameters
    ----------
    ra, dec : array_like
        ICRS, degrees.
    """
    a, d = np.radians(np.asarray(ra, dtype=float)), np.radians(np.asarray(dec, dtype=float))
    sine = np.cos(d) * np.cos(a) * _POLE[0] + np.cos(d) * np.sin(a) * _POLE[1] + np.sin(d) * _POLE[2]
    return np.asarray(np.degrees(np.arcsin(np.clip(sine, -1, 1))))


def _counts(latitude: float) -> FloatArray:
    """log10 of the cumulative density at the table's magnitudes, linear in the sine of the latitude."""
    sine = abs(float(np.sin(np.radians(latitude))))
    return np.array([np.interp(sine, _SINE, column) for column in _COUNTS.T])


def star_density(magnitude: float, latitude: float) -> float:
    """Stars a square degree brighter than a magnitude; outside 4 to 20 mag it goes on as at the end.

    Parameters
    ----------
    magnitude : float
        Visual magnitude.
    latitude : float
        Galactic latitude, degrees.
    """
    counts = _counts(latitude)
    m = float(np.clip(magnitude, _MAGNITUDE[0], _MAGNITUDE[-1]))
    slope = (counts[-1] - counts[-2]) / 2 if magnitude > m else (counts[1] - counts[0]) / 2
    return float(10 ** (np.interp(m, _MAGNITUDE, counts) + slope * (magnitude - m)))


def magnitude_of_density(density: float, latitude: float) -> float:
    """The magnitude down to which there are so many stars a square degree; within 4 to 20 mag.

    Parameters
    ----------
    density : float
        Stars a square degree; above 0.
    latitude : float
        Galactic latitude, degrees.
    """
    return float(np.interp(np.log10(density), _counts(latitude), _MAGNITUDE))
