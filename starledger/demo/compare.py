"""Comparison of what was hidden in a demo night with what its light curves show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from astropy.timeseries import LombScargle
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares, minimize_scalar

from db.errors import StarledgerError
from reduction.kernels.robust import mad_scatter
from starledger.demo.signals import Signal, Transit, central_ingress, trapezoid
from starledger.demo.truth import Truth

__all__ = ["Comparison", "Curve", "PulsationFit", "Row", "TransitFit", "compare", "fit_pulsation", "fit_transit", "transit_model"]

FloatArray = NDArray[np.float64]
LightCurve = Callable[[float, float], tuple[ArrayLike, ArrayLike, ArrayLike]]

MINUTE = 1440.0


@dataclass(frozen=True)
class TransitFit:
    """A trapezoid on a baseline linear in time, fitted to a light curve.

    Attributes
    ----------
    depth, depth_err : float
        Relative flux missing on the floor.
    mid_time, mid_time_err : float
        BJD_TDB (d).
    duration, duration_err : float
        First to last contact (d).
    level, slope : float
        Baseline in the middle of the transit (mag), and its slope (mag/d).
    rms : float
        Of the residuals (mag).
    """

    depth: float
    depth_err: float
    mid_time: float
    mid_time_err: float
    duration: float
    duration_err: float
    level: float
    slope: float
    rms: float


@dataclass(frozen=True)
class PulsationFit:
    """A Fourier series fitted to a light curve.

    Attributes
    ----------
    period, period_err : float
        (d)
    semi_amplitude, semi_amplitude_err : float
        Half of the peak-to-peak variation (mag).
    n_harmonic : int
        Terms of the series.
    level : float
        Constant term (mag).
    rms : float
        Of the residuals (mag).
    """

    period: float
    period_err: float
    semi_amplitude: float
    semi_amplitude_err: float
    n_harmonic: int
    level: float
    rms: float


@dataclass(frozen=True)
class Row:
    """One injected quantity and what was recovered of it.

    Attributes
    ----------
    name, quantity, unit : str
        Star, what was measured, and in what.
    injected, recovered, recovered_err : float
        NaN where nothing was recovered.
    judged : bool
        Whether the quantity has to be within the tolerance.
    tolerance : float
        Largest |error| allowed, as part of what was injected.
    """

    name: str
    quantity: str
    unit: str
    injected: float
    recovered: float
    recovered_err: float
    judged: bool
    tolerance: float

    @property
    def error(self) -> float:
        """Recovered minus injected, as part of what was injected."""
        return (self.recovered - self.injected) / self.injected

    @property
    def passed(self) -> bool:
        """Within the tolerance, or not judged."""
        return not self.judged or abs(self.error) <= self.tolerance


@dataclass(frozen=True)
class Curve:
    """A recovered light curve beside the signal that was injected.

    Attributes
    ----------
    signal : Signal
    bjd_tdb, mag, mag_err : float64 [n]
        Finite points, in order of time (d, mag).
    problem : str
        Why there is no curve, or no fit; empty when there is.
    fit : TransitFit, PulsationFit or None
    """

    signal: Signal
    bjd_tdb: FloatArray
    mag: FloatArray
    mag_err: FloatArray
    problem: str = ""
    fit: TransitFit | PulsationFit | None = None


@dataclass(frozen=True)
class Comparison:
    """Injected against recovered.

    Attributes
    ----------
    rows : list of Row
    curves : list of Curve
        One for each signal.
    """

    rows: list[Row] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every judged quantity is within its tolerance."""
        return bool(self.rows) and all(row.passed for row in self.rows)


def compare(truth: Truth, get_light_curve: LightCurve, *, tolerance: float = 0.05) -> Comparison:
    """Recover the hidden signals from light curves and set them beside what was injected.

    Only the stars' positions are taken from the truth: where and when the signals are, and how long they last, is found anew.

    Parameters
    ----------
    truth : Truth
    get_light_curve : callable (ra, dec) -> (bjd_tdb, mag, mag_err)
        Light curve at a position (deg, ICRS) in d and mag; NaN points are left out. A `StarledgerError` means that there is none.
    tolerance : float
        Largest relative error allowed in depth, periods and amplitudes.

    Returns
    -------
    Comparison
        With NaN, and not passed, where there is no light curve or no fit.
    """
    ra, dec = truth.positions()
    comparison = Comparison()
    for signal in truth.signals:
        curve = _curve(signal, get_light_curve, float(ra[signal.star]), float(dec[signal.star]))
        comparison.curves.append(curve)
        comparison.rows.extend(_rows(signal, curve.fit, tolerance))
    return comparison


def _curve(signal: Signal, get_light_curve: LightCurve, ra: float, dec: float) -> Curve:
    """Light curve at a position and its fit, or the reason why there is none."""
    empty = np.empty(0)
    try:
        time, mag, err = (np.asarray(column, dtype=np.float64) for column in get_light_curve(ra, dec))
    except StarledgerError as problem:
        return Curve(signal, empty, empty, empty, str(problem))
    good = np.flatnonzero(np.isfinite(time) & np.isfinite(mag) & np.isfinite(err) & (err > 0))
    good = good[np.argsort(time[good], kind="stable")]
    time, mag, err = time[good], mag[good], err[good]
    if time.size < 20:
        return Curve(signal, time, mag, err, f"only {time.size} points")
    fit = fit_transit(time, mag, err) if isinstance(signal, Transit) else fit_pulsation(time, mag, err)
    return Curve(signal, time, mag, err, "", fit)


def _rows(signal: Signal, fit: TransitFit | PulsationFit | None, tolerance: float) -> list[Row]:
    """Table of one signal."""
    nan = float("nan")
    if isinstance(signal, Transit):
        t = fit if isinstance(fit, TransitFit) else TransitFit(*[nan] * 9)
        origin = np.floor(signal.mid_time)
        minutes = (signal.mid_time - origin) * MINUTE, (t.mid_time - origin) * MINUTE, t.mid_time_err * MINUTE
        return [
            Row(signal.name, "depth", "", signal.depth, t.depth, t.depth_err, True, tolerance),
            Row(signal.name, f"mid-time - {origin:.0f} d", "min", *minutes, False, tolerance),
            Row(signal.name, "duration", "min", signal.duration * MINUTE, t.duration * MINUTE, t.duration_err * MINUTE, False, tolerance),
        ]
    p = fit if isinstance(fit, PulsationFit) else PulsationFit(nan, nan, nan, nan, 0, nan, nan)
    return [
        Row(signal.name, "period", "d", signal.period, p.period, p.period_err, True, tolerance),
        Row(signal.name, "semi-amplitude", "mag", signal.semi_amplitude, p.semi_amplitude, p.semi_amplitude_err, True, tolerance),
    ]


def transit_model(parameters: FloatArray, time: FloatArray) -> FloatArray:
    """Magnitudes ([n]) of a trapezoid; parameters: depth, mid-time, duration, level, slope."""
    depth, mid_time, duration, level, slope = parameters
    dip = 1.0 - depth * trapezoid(time, mid_time, duration, central_ingress(depth, duration))
    return np.asarray(level + slope * (time - mid_time) - 2.5 * np.log10(dip))


def _box_search(time: FloatArray, mag: FloatArray, weight: FloatArray) -> tuple[float, float, float]:
    """Mid-time, duration and depth (mag) of the box on a sloped line that fits best."""
    span = float(np.ptp(time))
    best = (np.inf, float(time.mean()), 0.3 * span, 0.01)
    for duration in span * np.arange(0.15, 0.6, 0.05):
        for mid_time in np.linspace(time[0] + 0.5 * duration, time[-1] - 0.5 * duration, 60):
            inside = np.abs(time - mid_time) < 0.5 * duration
            design = np.stack([np.ones_like(time), time - mid_time, inside], axis=1) * weight[:, None]
            solution, _, rank, _ = np.linalg.lstsq(design, mag * weight, rcond=None)
            chi2 = float(np.sum((mag * weight - design @ solution) ** 2))
            if rank == 3 and solution[2] > 0 and chi2 < best[0]:
                best = (chi2, float(mid_time), float(duration), float(solution[2]))
    return best[1], best[2], best[3]


def fit_transit(time: FloatArray, mag: FloatArray, mag_err: FloatArray) -> TransitFit:
    """Find and fit a trapezoidal dip on a baseline linear in time.

    A search with boxes starts a robust least-squares fit (soft-l1 loss) of depth, mid-time, duration, level and slope;
    the ingress lasts as long as that of a planet crossing the middle of its star.

    Parameters
    ----------
    time, mag, mag_err : float64 [n]
        Finite, in order of time (d, mag); at least 7 points.

    Returns
    -------
    TransitFit
        Errors from the curvature at the minimum, scaled to the scatter of the residuals.
    """
    # A common floor keeps a few points of very small stated error from ruling the fit.
    error = np.hypot(mag_err, 0.5 * np.median(mag_err))
    origin, centre = float(np.mean(time)), float(np.median(mag))
    t, m = time - origin, mag - centre
    mid_time, duration, depth = _box_search(t, m, 1.0 / error)
    span = float(np.ptp(t))
    start = np.array([depth / 1.0857, mid_time, duration, 0.0, 0.0])
    scale = np.array([0.01, 0.1 * span, 0.1 * span, 0.01, 0.1])
    lower = np.array([1e-6, t[0], 0.05 * span, -1.0, -10.0])
    upper = np.array([0.9, t[-1], 0.95 * span, 1.0, 10.0])

    def misfit(parameters: FloatArray) -> FloatArray:
        return (m - transit_model(parameters, t)) / error

    fit = least_squares(
        misfit,
        np.clip(start, lower, upper),
        bounds=(lower, upper),
        x_scale=scale,
        loss="soft_l1",
        f_scale=2.5,
    )
    residual = m - transit_model(fit.x, t)
    scaled = residual / error
    spread = mad_scatter(scaled)
    jacobian = np.asarray(fit.jac, dtype=np.float64)
    covariance = np.linalg.pinv(jacobian.T @ jacobian) * spread**2
    err = np.sqrt(np.diag(covariance))
    depth, mid_time, duration, level, slope = (float(value) for value in fit.x)
    depth_err, mid_time_err, duration_err = (float(value) for value in err[:3])
    rms = float(np.std(residual, ddof=1))
    return TransitFit(depth, depth_err, mid_time + origin, mid_time_err, duration, duration_err, level + centre, slope, rms)


def _series(time: FloatArray, frequency: float, n_harmonic: int) -> FloatArray:
    """Design matrix [n, 1 + 2 n_harmonic] of a Fourier series."""
    angle = 2.0 * np.pi * frequency * time
    columns = [np.ones_like(time)]
    for k in range(1, n_harmonic + 1):
        columns += [np.cos(k * angle), np.sin(k * angle)]
    return np.stack(columns, axis=1)


def _solve_series(time: FloatArray, mag: FloatArray, weight: FloatArray, frequency: float, n_harmonic: int) -> tuple[FloatArray, float]:
    """Coefficients of the Fourier series that fits best, and its chi-square."""
    design = _series(time, frequency, n_harmonic)
    coefficients = np.asarray(np.linalg.lstsq(design * weight[:, None], mag * weight, rcond=None)[0], dtype=np.float64)
    return coefficients, float(np.sum(((mag - design @ coefficients) * weight) ** 2))


def fit_pulsation(time: FloatArray, mag: FloatArray, mag_err: FloatArray, *, max_harmonic: int = 4) -> PulsationFit:
    """Find and fit a periodic variation.

    The highest peak of the Lomb-Scargle periodogram starts a least-squares fit of frequency and Fourier series; the number of
    harmonics is the one of least Bayesian information criterion.

    Parameters
    ----------
    time, mag, mag_err : float64 [n]
        Finite, in order of time (d, mag).
    max_harmonic : int
        Longest series tried.

    Returns
    -------
    PulsationFit
        Errors from the least-squares fit, scaled to the scatter of the residuals.
    """
    t, error = time - float(np.mean(time)), np.hypot(mag_err, 0.5 * np.median(mag_err))
    span, cadence = float(np.ptp(t)), float(np.median(np.diff(t)))
    grid = np.arange(1.0 / span, 0.4 / cadence, 0.02 / span)
    peak = float(grid[np.argmax(LombScargle(t, mag, error).power(grid))])
    weight = np.ones_like(t) / error
    _, chi2 = _solve_series(t, mag, weight, peak, max_harmonic)
    # What a full series leaves is the noise: without this the criterion would take every misfit for another harmonic.
    weight = weight / np.sqrt(max(chi2 / (t.size - 2 * max_harmonic - 2), 1e-12))
    limits = (peak - 0.5 / span, peak + 0.5 / span)
    found = [_best_frequency(t, mag, weight, limits, n_harmonic) for n_harmonic in range(1, max_harmonic + 1)]
    criteria = [chi2 + (2 * n_harmonic + 2) * np.log(t.size) for n_harmonic, (_, chi2) in enumerate(found, start=1)]
    n_harmonic = int(np.argmin(criteria)) + 1
    return _pulsation_fit(t, mag, weight, found[n_harmonic - 1][0], n_harmonic)


def _best_frequency(
    time: FloatArray, mag: FloatArray, weight: FloatArray, limits: tuple[float, float], n_harmonic: int
) -> tuple[float, float]:
    """Frequency between `limits` at which a Fourier series fits best, and its chi-square."""

    def chi_square(frequency: float) -> float:
        return _solve_series(time, mag, weight, frequency, n_harmonic)[1]

    found = minimize_scalar(chi_square, bounds=limits, method="bounded", options={"xatol": 1e-6 * limits[1]})
    return float(found.x), float(found.fun)


def _pulsation_fit(time: FloatArray, mag: FloatArray, weight: FloatArray, frequency: float, n_harmonic: int) -> PulsationFit:
    """Period, amplitude and their errors from the solution at the best frequency."""
    coefficients, _ = _solve_series(time, mag, weight, frequency, n_harmonic)
    phases = np.linspace(0.0, 1.0 / frequency, 2000)
    semi_amplitude = 0.5 * float(np.ptp(_series(phases, frequency, n_harmonic) @ coefficients))
    residual = mag - _series(time, frequency, n_harmonic) @ coefficients
    step = 1e-4 / float(np.ptp(time))
    slope = (_series(time, frequency + step, n_harmonic) - _series(time, frequency - step, n_harmonic)) @ coefficients / (2.0 * step)
    design = np.column_stack([_series(time, frequency, n_harmonic), slope]) * weight[:, None]
    err = np.sqrt(np.diag(np.linalg.pinv(design.T @ design)))
    return PulsationFit(
        period=1.0 / frequency,
        period_err=float(err[-1]) / frequency**2,
        semi_amplitude=semi_amplitude,
        semi_amplitude_err=float(np.hypot(err[1], err[2]) / np.sqrt(2.0)),
        n_harmonic=n_harmonic,
        level=float(coefficients[0]),
        rms=float(np.std(residual, ddof=1)),
    )
