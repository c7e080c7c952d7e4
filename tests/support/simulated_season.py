"""A season of nights with all that a magnitude fit must take out, and the truth of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TERMS = ("const", "x", "y", "xx", "xy", "yy", "colour", "airmass_colour")
GROUP = np.array([0, 2, 2, 4, 4, 4, 3, 5])


@dataclass(frozen=True)
class Season:
    """Measurements sorted by frame, and what was put in; `correction` is what the frame adds to the star's magnitude."""

    frame: np.ndarray
    star: np.ndarray
    mag: np.ndarray
    sigma: np.ndarray
    design: np.ndarray
    fold: np.ndarray
    true_mag: np.ndarray
    correction: np.ndarray
    coeff: np.ndarray

    @property
    def n_frame(self) -> int:
        """Number of frames."""
        return int(self.frame[-1]) + 1

    def first(self, frame: int) -> np.ndarray:
        """The magnitudes of one frame, as a first reference."""
        out = np.full(self.true_mag.size, np.nan)
        mine = self.frame == frame
        out[self.star[mine]] = self.mag[mine]
        return out


def simulated_season(
    n_night: int = 4, per_night: int = 12, n_star: int = 150, *, seed: int = 1, noise: float = 1.0, wild: float = 0.01, drift: float = 0.15
) -> Season:
    """Nights on which the field has moved by `drift` of the frame's half width, stars are lost, and clouds pass."""
    rng = np.random.default_rng(seed)
    n_frame = n_night * per_night
    x0, y0 = rng.uniform(-1.1, 1.1, (2, n_star))
    colour, true_mag = rng.normal(0.1, 0.4, n_star), rng.uniform(10, 14.5, n_star)
    night = np.repeat(np.arange(n_night), per_night)
    shift = rng.normal(0, drift, (2, n_night))[:, night] + rng.normal(0, 0.02, (2, n_frame))
    airmass = np.tile(np.linspace(-0.3, 0.6, per_night), n_night)
    frame, star = np.repeat(np.arange(n_frame), n_star), np.tile(np.arange(n_star), n_frame)
    x, y = x0[star] + shift[0, frame], y0[star] + shift[1, frame]
    there = (np.abs(x) < 1) & (np.abs(y) < 1) & (rng.random(star.size) < 0.95)
    frame, star, x, y = frame[there], star[there], x[there], y[there]
    c = colour[star]
    design = np.stack([np.ones(x.size), x, y, x * x, x * y, y * y, c, airmass[frame] * c], axis=1)
    coeff = rng.normal(0, [0.05, 0.02, 0.02, 0.01, 0.01, 0.01, 0.01, 0.0], (n_frame, len(TERMS)))
    coeff[:, 0] += 0.2 * airmass + np.where(rng.random(n_frame) < 0.1, rng.uniform(0.2, 0.8, n_frame), 0.0)
    coeff[:, 7] = -0.03
    correction = (design * coeff[frame]).sum(axis=1)
    sigma = 0.0015 * 10 ** (0.25 * (true_mag[star] + coeff[frame, 0] - 11))
    mag = true_mag[star] + correction + noise * np.hypot(sigma, 0.001) * rng.normal(size=x.size)
    mag[rng.random(x.size) < wild] += 0.4
    return Season(frame, star, mag, sigma, design, rng.integers(0, 5, n_star), true_mag, correction, coeff)
