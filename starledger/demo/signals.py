"""The three signals hidden in the demo night: a transit and two pulsations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Pulsation", "Signal", "Transit", "central_ingress", "pulsation", "signal_from_row", "trapezoid"]

FloatArray = NDArray[np.float64]


def trapezoid(time: FloatArray, mid_time: float, duration: float, ingress: float) -> FloatArray:
    """Shape of a trapezoidal dip: 0 outside, 1 on its floor.

    Parameters
    ----------
    time : float64 [n]
        Times, any unit (d in the demo).
    mid_time : float
        Centre of the dip, same unit.
    duration : float
        From first to last contact, same unit.
    ingress : float
        From first to second contact, same unit; positive. More than half of `duration` gives a triangle that never reaches 1.

    Returns
    -------
    float64 [n]
        Depth at each time in units of the floor's depth; NaN where time is NaN.
    """
    distance = np.abs(np.asarray(time, dtype=np.float64) - mid_time)
    return np.clip((0.5 * duration - distance) / ingress, 0.0, 1.0)


def central_ingress(depth: float, duration: float) -> float:
    """Time from first to second contact of a small planet that crosses the middle of its star.

    Parameters
    ----------
    depth : float
        Relative flux missing on the floor, the square of the ratio of radii k; negative depths count as positive.
    duration : float
        From first to last contact, any unit.

    Returns
    -------
    float
        duration k / (1 + k), same unit (Winn 2010, arXiv 1001.2010, equations 14 and 15, small k and impact parameter 0).
    """
    k = float(np.sqrt(abs(depth)))
    return duration * k / (1.0 + k)


@dataclass(frozen=True)
class Transit:
    """A trapezoidal transit.

    Attributes
    ----------
    name : str
        Name of the star in reports.
    star : int
        Row of the star in the truth.
    depth : float
        Part of the flux that is missing on the floor.
    mid_time : float
        BJD_TDB of the middle.
    duration : float
        First to last contact (d); from first to second it takes `central_ingress`.
    """

    name: str
    star: int
    depth: float
    mid_time: float
    duration: float

    def magnitude_change(self, bjd_tdb: FloatArray) -> FloatArray:
        """Magnitudes (float64, shape of `bjd_tdb`) by which the star is fainter at `bjd_tdb` (d)."""
        shape = trapezoid(bjd_tdb, self.mid_time, self.duration, central_ingress(self.depth, self.duration))
        return -2.5 * np.log10(1.0 - self.depth * shape)


@dataclass(frozen=True)
class Pulsation:
    """A periodic variation of brightness, as a Fourier series in magnitude.

    Attributes
    ----------
    name : str
        Name of the star in reports.
    star : int
        Row of the star in the truth.
    period : float
        Period (d).
    epoch : float
        BJD_TDB of phase 0.
    cosine, sine : tuple of float
        Coefficients (mag) of the harmonics 1, 2, ...
    """

    name: str
    star: int
    period: float
    epoch: float
    cosine: tuple[float, ...]
    sine: tuple[float, ...]

    def magnitude_change(self, bjd_tdb: FloatArray) -> FloatArray:
        """Magnitudes (float64, shape of `bjd_tdb`) by which the star is fainter at `bjd_tdb` (d)."""
        angle = 2.0 * np.pi * (np.asarray(bjd_tdb, dtype=np.float64) - self.epoch) / self.period
        change = np.zeros_like(angle)
        for harmonic, (c, s) in enumerate(zip(self.cosine, self.sine, strict=True), start=1):
            change += c * np.cos(harmonic * angle) + s * np.sin(harmonic * angle)
        return change

    @property
    def semi_amplitude(self) -> float:
        """Half of the peak-to-peak variation (mag)."""
        change = self.magnitude_change(self.epoch + np.linspace(0.0, self.period, 4001))
        return float(0.5 * np.ptp(change))


Signal = Transit | Pulsation


def pulsation(name: str, star: int, period: float, epoch: float, semi_amplitude: float, *, n_harmonic: int = 1) -> Pulsation:
    """Pulsation of given semi-amplitude: a sine, or with more harmonics a steep rise and a slow decline.

    Parameters
    ----------
    name, star, period, epoch
        As in `Pulsation`.
    semi_amplitude : float
        Half of the peak-to-peak variation (mag).
    n_harmonic : int
        1 for a sine; the harmonic k of a steeper curve has the weight -0.5^(k-1) / sqrt(k).

    Returns
    -------
    Pulsation
        Whose `semi_amplitude` is the one asked for, to 1e-6 mag.
    """
    weights = tuple(-(0.5 ** (k - 1)) / np.sqrt(k) for k in range(1, n_harmonic + 1))
    zeros = (0.0,) * n_harmonic
    scale = semi_amplitude / Pulsation(name, star, period, epoch, zeros, weights).semi_amplitude
    return Pulsation(name, star, period, epoch, zeros, tuple(float(scale * weight) for weight in weights))


def signal_from_row(row: dict[str, object]) -> Signal:
    """Signal from what `dataclasses.asdict` made of it, with ``kind`` added; TypeError where fields are missing or unknown."""
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items() if key != "kind"}
    kind: type[Transit] | type[Pulsation] = Transit if row["kind"] == "transit" else Pulsation
    return kind(**fields)  # type: ignore[arg-type]
