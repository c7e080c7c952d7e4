"""The magnitude fit of one frame, by the kernel that fits many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reduction.kernels.arrays import BoolArray, FloatArray
from reduction.lightcurves.kernels.magnitude_fit import fit_frames


@dataclass(frozen=True)
class FrameFit:
    """As `FrameFits`, without the axis of frames."""

    coeff: FloatArray
    coeff_all: FloatArray
    fitted: FloatArray
    zp_err: FloatArray
    rms: float
    n_fit: int
    floor: float
    used: BoolArray


def fit_frame(
    dmag: ArrayLike,
    sigma: ArrayLike,
    design: ArrayLike,
    fold: ArrayLike,
    n_fold: int = 5,
    *,
    terms: ArrayLike | None = None,
    eligible: ArrayLike | None = None,
    clip: float = 6.0,
    floor: float | None = None,
    iterations: int = 20,
) -> FrameFit:
    """Fit one frame; arguments as of `fit_frames`, `terms` without the axis of frames."""
    many = None if terms is None else np.asarray(terms, dtype=np.bool_)[None, :]
    ends = np.array([0, np.size(dmag)])
    fits = fit_frames(ends, dmag, sigma, design, fold, n_fold, terms=many, eligible=eligible, clip=clip, floor=floor, iterations=iterations)
    return FrameFit(
        fits.coeff[0],
        fits.coeff_all[0],
        fits.fitted,
        fits.zp_err[0],
        float(fits.rms[0]),
        int(fits.n_fit[0]),
        float(fits.floor[0]),
        fits.used,
    )
