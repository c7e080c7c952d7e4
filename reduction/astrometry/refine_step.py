"""Step refine: the final plate solution of each frame, what its detections are, and the sky it covers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from db.tables import (
    CalibratedFrame,
    DetectionMatch,
    Distortion,
    FirstSolution,
    Frame,
    FrameCoverage,
    Product,
    WcsSolution,
)
from reduction.astrometry.detections import as_stars
from reduction.astrometry.kernels.coverage import coverage_ranges
from reduction.astrometry.kernels.distortion import DistortionMap, fit_with_distortion
from reduction.astrometry.kernels.fits_wcs import fits_wcs
from reduction.astrometry.kernels.trailing import Trailing, trailing
from reduction.astrometry.kernels.wcs import PlateSolution
from reduction.astrometry.solutions import solution_columns
from reduction.astrometry.standards import BRIGHTEST, FrameStars, Standards, frame_stars, standards
from reduction.files.product import write_wcs
from reduction.kernels.robust import robust_scatter
from reduction.pipeline.declaration import Context, Kind, NewFile, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import OfNight, Own, Untracked, Worked

__all__ = ["RefineParameters", "refine"]

FloatArray = npt.NDArray[np.float64]

FEWEST = 6  # pairs
#: Median elongation and coherence (`reduction.astrometry.kernels.trailing`) beyond which wind or tracking is what disturbed a frame.
_DRAWN_OUT, _ALIKE = 1.1, 0.5


@dataclass(frozen=True)
class RefineParameters:
    """How a frame's final solution is fitted."""

    radius: float = parameter(1.0, "pixel", "a detection this close to a source is that source", above=0, most=100)
    clip: float = parameter(5.0, "sigma", "pairs farther off are left out of the fit", least=1, most=30)
    tolerance: float = parameter(
        1.1, "", "the night's distortion is used where it fits the stars as well as the frame's own, to this factor", least=0, most=100
    )
    disturbed: float = parameter(1.6, "", "a frame whose residuals exceed the night's by this factor gets a warning", least=1, most=1000)


@step(
    "refine",
    inputs=(
        Own("calibrate"),
        Own("detect"),
        Own("solve"),
        OfNight("distortion", needed=False),
        Worked("discover"),
        Untracked("field_colours"),
    ),
    products=(Kind("calibrated", passing=True),),
    parameters=RefineParameters,
    writes=(WcsSolution, DetectionMatch, FrameCoverage, CalibratedFrame),
)
def refine(context: Context, unit: Unit[None], p: RefineParameters) -> Output:
    """Fit each frame once more, with the night's distortion and discovered sources as secondary standards; match its detections."""
    session = context.session
    frame, first = session.get_one(Frame, int(unit.key)), session.get_one(FirstSolution, int(unit.key))
    night = _night(session, frame) if unit.has("distortion") else None
    start = PlateSolution.from_row(json.loads(first.coeff))
    stars = frame_stars(session, frame, start)
    alone = _alone(stars, start, first, p)
    final = (_with_night(stars, alone, night, p) if night is not None else None) or alone
    found = standards(stars, final.solution, final.error, p.radius)
    near = found.sources
    on_frame = final.solution.inside(*final.solution.project(near.ra, near.dec))
    cards, deviation = fits_wcs(final.solution)
    covered = coverage_ranges(final.solution)
    warning = _disturbed(final, night, p.disturbed, trailing(as_stars(stars.detections))) if night is not None else None
    row = {
        **solution_columns(frame.frame_id, final.solution),
        "n_matched": int(final.used.catalogued.sum()),
        "n_catalogue": int((on_frame & near.catalogued).sum()),
        "n_secondary": int((~final.used.catalogued).sum()),
        "rms_x": final.rms[0],
        "rms_y": final.rms[1],
        "chance": first.chance,
        "distortion": final.distortion,
        "warning": warning,
        "fits": json.dumps(cards),
        "fits_error": deviation,
    }
    place = {"night_id": frame.night_id, "frame_id": frame.frame_id}
    mine = {"frame_id": frame.frame_id}
    rows = [
        Rows(WcsSolution, row, upsert=True),
        Rows(DetectionMatch, {**place, **_matches(found, final)}, replace=place),
        Rows(FrameCoverage, {**mine, "lo": covered.lo, "hi": covered.hi, "bucket": covered.bucket}, replace=mine),
    ]
    calibrated = session.get_one(CalibratedFrame, frame.frame_id)
    file = _with_wcs(context, calibrated, f"frame-{frame.frame_id:07d}", cards)
    if file is not None:
        # the row stays that of step calibrate; the writer gives it the new file
        rows.append(Rows(CalibratedFrame, {**mine, "task_id": calibrated.task_id}, upsert=True))
    return Output(rows=rows, file=file, remark=warning)


@dataclass(frozen=True)
class _Final:
    """A final solution, the pairs it was fitted to with their left-out residuals, and scatters (all pixel).

    `rms` is that of catalogue stars, `scatter` that of the brightest standards, `error` what a catalogue star is off by.
    """

    solution: PlateSolution
    used: Standards
    left_out: FloatArray
    rms: tuple[float, float]
    scatter: tuple[float, float]
    error: float
    distortion: str


def _night(session: Session, frame: Frame) -> DistortionMap:
    row = session.get_one(Distortion, (frame.setup_id, frame.channel, frame.night_id))
    return DistortionMap.from_row(json.loads(row.coeff))


def _with_night(stars: FrameStars, alone: _Final, night: DistortionMap, p: RefineParameters) -> _Final | None:
    """Linear terms fitted to all standards, which are matched once more with what was found; None where that serves worse."""
    solution = alone.solution
    for _ in range(2):
        used = standards(stars, solution, alone.error, p.radius)
        used = used.take(used.in_fit > 0)
        if len(used.number) < FEWEST:
            return None
        fit = fit_with_distortion(used.pairs, night)
        used = used.take(np.hypot(fit.residual_x, fit.residual_y) <= p.clip * np.sqrt(2.0) * max(fit.sigma, alone.error))
        if len(used.number) < FEWEST:
            return None
        fit = fit_with_distortion(used.pairs, night)
        solution = fit.solution
    left_out, known = np.column_stack([fit.loo_x, fit.loo_y]), used.catalogued
    scatter = _scatter(left_out)
    if not np.hypot(*scatter) <= p.tolerance * np.hypot(*alone.scatter):
        return None
    return _Final(
        solution, used, left_out, (robust_scatter(fit.loo_x[known]), robust_scatter(fit.loo_y[known])), scatter, alone.error, "night"
    )


def _alone(stars: FrameStars, solution: PlateSolution, first: FirstSolution, p: RefineParameters) -> _Final:
    """What the frame's catalogue stars gave."""
    error = float(np.hypot(first.rms_x, first.rms_y) / np.sqrt(2.0))
    found = standards(stars, solution, error, p.radius)
    found = found.take(found.in_fit > 0)
    x, y = solution.project(found.pairs.ra, found.pairs.dec)
    miss = np.column_stack([found.pairs.x - x, found.pairs.y - y])
    known = found.catalogued
    return _Final(solution, found.take(known), miss[known], (first.rms_x, first.rms_y), _scatter(miss), error, "own")


def _scatter(miss: FloatArray) -> tuple[float, float]:
    """Of the brightest, which are not all noise."""
    return robust_scatter(miss[:BRIGHTEST, 0]), robust_scatter(miss[:BRIGHTEST, 1])


def _matches(found: Standards, final: _Final) -> dict[str, npt.NDArray[Any]]:
    """Columns of detection_match: residuals from the solution, of pairs in its fit as if they had been left out."""
    x, y = final.solution.project(found.pairs.ra, found.pairs.dec)
    dx, dy = found.pairs.x - x, found.pairs.y - y
    _, here, there = np.intersect1d(found.number, final.used.number, return_indices=True)
    same = found.source[here] == final.used.source[there]
    here, there = here[same], there[same]
    in_fit = np.zeros(len(dx), dtype=np.int64)
    in_fit[here] = final.used.in_fit[there]
    dx[here], dy[here] = final.left_out[there].T
    return {"number": found.number, "source_id": found.sources.source_id[found.source], "dx": dx, "dy": dy, "in_fit": in_fit}


def _disturbed(final: _Final, night: DistortionMap, factor: float, trail: Trailing) -> str | None:
    """What to say of a frame whose stars miss their positions by more than the night's do, and why, where their shapes show it."""
    factors = (final.scatter[0] / night.rms_x, final.scatter[1] / night.rms_y)
    worse = [f"{value:.1f} times the night's in {axis}" for axis, value in zip("xy", factors, strict=True) if value > factor]
    if not worse:
        return None
    drawn = trail.elongation > _DRAWN_OUT and trail.coherence > _ALIKE
    longer, angle = 100 * (trail.elongation - 1), np.degrees(trail.theta)
    cause = f"; stars are drawn out by {longer:.0f} % at {angle:.0f} degree from +x" if drawn else ""
    return f"disturbed: residuals {', '.join(worse)}{cause}"


def _with_wcs(context: Context, calibrated: CalibratedFrame, name: str, cards: Mapping[str, Any]) -> NewFile | None:
    """The calibrated frame's file with the solution in its headers; None where no file is kept."""
    if calibrated.product_id is None:
        return None
    path = context.session.get_one(Product, calibrated.product_id).path
    return context.product("calibrated", name, partial(write_wcs, context.files / str(path), cards=cards), replaces=calibrated.product_id)
