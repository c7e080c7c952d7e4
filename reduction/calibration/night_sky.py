"""Level and noise of a night's sky, from pairs of its frames where there are some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from db.tables import Frame
from reduction.calibration.kernels.detector import pair_sample, sky_sample
from reduction.calibration.raw_frame import RawFrame

__all__ = ["NightSky", "night_sky"]

#: Single frames that are looked at where there are no pairs.
_SINGLE = 4


@dataclass(frozen=True)
class NightSky:
    """A night's sky.

    Attributes
    ----------
    level, variance : float
        ADU as read, and noise variance of a pixel (ADU**2) without quantisation; NaN where there is no sky.
    of_pairs : bool
        From differences of frames, in which the detector's own structure drops out; else the noise is an upper limit.
    samples : float64, shape (3, n)
        Level, variance with quantisation, and number of pixels of each pair.
    quantum : float
        Step of the values, ADU.
    """

    level: float
    variance: float
    of_pairs: bool
    samples: npt.NDArray[np.float64]
    quantum: float


def night_sky(objects: Sequence[Frame], kept: Mapping[int, RawFrame]) -> NightSky:
    """The sky of a night's frames.

    Parameters
    ----------
    objects : sequence of Frame
        Object frames in order of time.
    kept : mapping of int to RawFrame
        Those that were read, and others.
    """
    found = [
        pair_sample(kept[a.frame_id].data, kept[b.frame_id].data)
        for a, b in pairwise(objects)
        if a.frame_id in kept and b.frame_id in kept and a.exptime == b.exptime
    ]
    samples = [(one.level[0], one.variance[0], float(one.n[0])) for one in found if np.isfinite(one.variance[0])]
    quantum = next(iter(kept.values())).quantum
    of_pairs = bool(samples)
    # Among single frames the one of the darkest sky, whose noise says most of the camera's.
    single = [] if of_pairs else [sky_sample(raw.data) for raw in list(kept.values())[:_SINGLE]]
    noisy = [(one.level[0], one.variance[0], float(one.n[0])) for one in single if np.isfinite(one.variance[0])]
    table = np.array(samples or noisy, dtype=np.float64).reshape(-1, 3).T
    if not table.size:
        return NightSky(np.nan, np.nan, of_pairs, table, quantum)
    level, variance = np.median(table[:2], axis=1) if of_pairs else table[:2, int(np.argmin(table[1]))]
    return NightSky(float(level), max(float(variance) - quantum**2 / 12.0, 0.0), of_pairs, table if of_pairs else table[:, :0], quantum)
