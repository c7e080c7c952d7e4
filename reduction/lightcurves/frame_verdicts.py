"""Verdicts on the frames of a night: which count in full, for less, or not at all, by what their fit to the reference left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.tables import Frame, FrameField, FrameVerdict, KeptFrame
from reduction.kernels.arrays import BoolArray, FloatArray
from reduction.lightcurves.kernels.frame_quality import EXCLUDED, KEPT, LEAST_FRAMES, WEIGHED, FrameQuality, frame_quality
from reduction.lightcurves.kernels.night_fit import FitRows, FoldReference, NightFit, own_fold
from reduction.lightcurves.night_points import NightPoints
from reduction.pipeline.declaration import Rows

__all__ = ["Verdicts", "judge", "judged_slot", "kept_by_people", "well_measured"]

#: Stars that a frame is judged by where fewer than these have small errors: the best ones.
_LEAST_STARS = 100


@dataclass(frozen=True)
class Verdicts:
    """What becomes of the frames of a night.

    Attributes
    ----------
    quality : FrameQuality
        What the numbers say of each.
    overruled : bool, shape (f,)
        Frames that a person keeps.
    """

    quality: FrameQuality
    overruled: BoolArray

    @property
    def factor(self) -> FloatArray:
        """What the weight of each frame's measurements is multiplied by."""
        return np.where(self.overruled, 1.0, self.quality.factor)

    @property
    def fitted(self) -> BoolArray:
        """Frames that have a place in light curves."""
        return np.asarray(self.factor > 0)

    def states(self) -> list[str]:
        """The verdict on each, people's word included."""
        return [KEPT if over else state for state, over in zip(self.quality.state, self.overruled, strict=True)]

    def remark(self) -> str | None:
        """How many were not kept, and of one of them why; None where all were."""
        states = self.states()
        number = Counter(states)
        said = [f"{number[state]} of {len(states)} frames {state}" for state in (EXCLUDED, WEIGHED) if number[state]]
        if not said:
            return None
        worst = states.index(EXCLUDED if number[EXCLUDED] else WEIGHED)
        return f"{', '.join(said)} ({self.quality.reason[worst]})"

    def rows(self, reference_id: int, points: NightPoints) -> Rows:
        """The verdicts, with the numbers and the reasons."""
        ids = np.array([shot.frame_id for shot in points.shots])
        order, found = np.argsort(ids), self.quality
        numbers = {
            "factor": self.factor,
            "extinction": found.extinction,
            "pattern": found.pattern,
            "pattern_sigma": found.pattern_sigma,
            "scatter_ratio": found.scatter,
            "fwhm_ratio": found.width,
            "elongation": found.elongation,
            "sky_ratio": found.brightness,
            "is_overruled": self.overruled.astype(np.int64),
        }
        texts = {"verdict": self.states(), "reason": [reason or None for reason in found.reason]}
        columns = {name: values[order] for name, values in numbers.items()}
        columns |= {name: np.array(values, dtype=object)[order] for name, values in texts.items()}
        mine = {"reference_id": reference_id, "frame_id": ids[order]}
        return Rows(FrameVerdict, {**mine, **columns}, replace=mine)


def judged_slot(slots: Sequence[int]) -> int:
    """The slot that frames are judged in: one verdict is for all of them."""
    return slots[len(slots) // 2]


def judge(points: NightPoints, rows: FitRows, reference: FoldReference, fit: NightFit, fit_sigma: float) -> Verdicts:
    """Judge the frames of a night by their fit in one slot.

    Parameters
    ----------
    points : NightPoints
    rows : FitRows
        In the slot.
    reference : FoldReference
        That they were fitted to.
    fit : NightFit
    fit_sigma : float
        Stars with larger errors do not tell, where there are enough others (mag).
    """
    excess = own_fold(reference.excess, points.fold)
    error = np.hypot(fit.mag_err, excess[rows.star])
    # What stars are off by on all frames of the night is no cloud; where frames are few, the reference alone knows the stars.
    many = len(points.shots) >= LEAST_FRAMES
    mean = fit.means.public(points.fold).mag if many else own_fold(reference.mag, points.fold)
    good = rows.eligible & well_measured(rows, fit_sigma)[rows.star]
    residual = np.where(good, fit.mag - mean[rows.star], np.nan)
    x, y = points.variables["X"], points.variables["Y"]
    airmass, width, ellipticity, sky, exptime, sun = (
        _of_shots(points, name) for name in ("airmass", "fwhm", "ellipticity", "sky_level", "exptime", "sun_altitude")
    )
    zero = fit.fits.coeff_all[:, 0]
    quality = frame_quality(rows.ends, residual, error, x, y, zero, airmass, width, ellipticity, sky / exptime, sun)
    return Verdicts(quality, np.array([bool(shot.kept) for shot in points.shots], dtype=np.bool_))


def _of_shots(points: NightPoints, name: str) -> FloatArray:
    values = [getattr(shot, name) for shot in points.shots]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def well_measured(rows: FitRows, fit_sigma: float) -> BoolArray:
    """Stars whose errors are usually small, bool (n,): the same on all frames, whatever clouds make of their errors on one.

    Those below `fit_sigma` (mag), or as many of the best as will do.
    """
    order = np.lexsort((rows.sigma, rows.star))
    order = order[rows.eligible[order]]
    edges = np.searchsorted(rows.star[order], np.arange(rows.fold.size + 1))
    number = np.diff(edges)
    middle = np.full(rows.fold.size, np.inf)
    met = number > 0
    middle[met] = rows.sigma[order[edges[:-1][met] + number[met] // 2]]
    limit = max(fit_sigma, float(np.partition(middle, min(_LEAST_STARS, middle.size) - 1)[min(_LEAST_STARS, middle.size) - 1]))
    return np.asarray((middle <= limit) & np.isfinite(middle))


def kept_by_people(session: Session) -> list[tuple[int, int, int]]:
    """Field, night and number of the frames that people keep: by their keys, for they are few, and rising."""
    query = (
        sa.select(FrameField.field_id, Frame.night_id, Frame.frame_id)
        .join(FrameField, FrameField.frame_id == Frame.frame_id)
        .where(Frame.frame_id.in_(sa.select(KeptFrame.frame_id)))
    )
    return sorted(((field_id, night_id, frame_id) for field_id, night_id, frame_id in session.execute(query)), key=lambda row: row[2])
