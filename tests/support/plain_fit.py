"""The robust fit of one frame written plainly in numpy, as its definition reads: the judge of the compiled kernel."""

from __future__ import annotations

import numpy as np

MAD_TO_SIGMA = 1.4826


def plain_fit(y: np.ndarray, sigma: np.ndarray, x: np.ndarray, clip: float = 6.0, floor: float | None = None, iterations: int = 20):
    """Coefficients, covariance, last weights and floor of one reweighted least-squares fit; columns must be independent."""
    n, p = x.shape
    residual = y - np.median(y)
    now = MAD_TO_SIGMA * np.median(np.abs(residual)) if floor is None else floor
    solution = np.zeros(p)
    for step in range(iterations):
        variance = sigma**2 + now**2
        deviation = np.abs(residual) / np.sqrt(variance)
        scale = max(MAD_TO_SIGMA * np.median(deviation) * np.sqrt(n / (n - p)), 1e-9)
        u = deviation / scale
        robust = np.minimum(1, 1.345 / np.maximum(u, 1e-9)) if step < 3 else np.where(u < clip, (1 - (u / clip) ** 2) ** 2, 0)
        weight = robust / variance
        previous, solution = solution, np.linalg.solve((x * weight[:, None]).T @ x, x.T @ (weight * y))
        residual = y - x @ solution
        if floor is None:
            number, gain = max(np.count_nonzero(weight > 0), p + 1), weight / variance
            now = np.sqrt(max(np.sum(gain * (residual**2 * number / (number - p) - sigma**2)) / gain.sum(), 0.0))
        if step > 3 and np.abs(solution - previous).max() < 1e-7:
            break
    return solution, _covariance(x, residual / np.sqrt(variance), 1 / variance, clip * scale), weight, now


def _covariance(x: np.ndarray, deviation: np.ndarray, inverse_variance: np.ndarray, limit: float) -> np.ndarray:
    inverse = np.linalg.inv((x * inverse_variance[:, None]).T @ x)
    t = (deviation / limit) ** 2
    inside = t < 1
    leverage = np.minimum(inverse_variance * np.einsum("ij,jk,ik->i", x, inverse, x), 0.9)
    square = np.sum(((deviation * (1 - t) ** 2 / (1 - leverage)) ** 2)[inside])
    slope = max(np.sum(((1 - t) * (1 - 5 * t))[inside]) / len(x), 0.1)
    return inverse * max(square / len(x), 1e-18) / slope**2
