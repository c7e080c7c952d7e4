"""Step solve: the plate solution (RA, Dec) -> (x, y) of each object frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import AlgorithmFailed, FrameUnusable
from db.tables import Classification, DetectionSummary, Exposure, FirstSolution, Frame
from reduction.astrometry.blind import DEFAULT_INDEX_DIR
from reduction.astrometry.channels import OtherChannels
from reduction.astrometry.detections import detections_of, stars_of
from reduction.astrometry.diagnosis import failure
from reduction.astrometry.kernels.distortion import Pairs, distortion_of, fit_with_distortion
from reduction.astrometry.kernels.plate import PlateFit
from reduction.astrometry.kernels.plate import solve as solve_plate
from reduction.astrometry.kernels.plate_fit import match_positions
from reduction.astrometry.kernels.start import MIN_MATCHED
from reduction.astrometry.search import Search, StarImages, around, blindly, from_header
from reduction.astrometry.solutions import first_solution, solution_columns
from reduction.astrometry.sources import julian_year, sources_near
from reduction.calibration.raw_frame import raw_path
from reduction.catalogues.held import CoveringCatalogues
from reduction.files.convert import read_header
from reduction.frames.kernels.bayer import Channel
from reduction.kernels.robust import robust_scatter
from reduction.pipeline.declaration import Context, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Earlier, Own

__all__ = ["SolveParameters", "solve"]

#: Largest distance (pixel) of a star of one colour from its position in another: lateral colour of a poor lens.
_LATERAL = 2.0


@dataclass(frozen=True)
class SolveParameters:
    """How frames are solved."""

    order: int = parameter(
        5, "", "highest degree of the distortion polynomials; the lowest that predicts left-out stars as well is taken", least=1, most=9
    )
    scale_tolerance: float = parameter(
        0.03, "", "largest relative error of the pixel scale that the header or the definition gives", above=0, most=0.5
    )
    pointing_tolerance: float = parameter(
        0.4, "", "largest error of the header's pointing, as a fraction of the frame's diagonal", least=0, most=10
    )
    min_snr: float = parameter(10.0, "", "fainter detections have no say, unless there are too few brighter ones", least=0, most=10_000)
    min_stars: int = parameter(40, "", "fewest brighter ones", least=1, most=10_000)
    blind_time_limit: float = parameter(
        60.0, "s", "time that each blind solver may take; 20 degree fields need most of it", least=1, most=86_400
    )
    index_folder: str = parameter(
        str(DEFAULT_INDEX_DIR), "", "folder with astrometry.net index files for blind solving; used where it exists", length=(1, 4096)
    )


@step(
    "solve",
    inputs=(Own("detect"), CoveringCatalogues("catalogue"), OtherChannels("detect"), Earlier("background")),
    version=2,
    parameters=SolveParameters,
    writes=(FirstSolution,),
    second_chance=True,
)
def solve(context: Context, unit: Unit[None], p: SolveParameters) -> Output:
    """Find each frame's plate solution: header WCS, pointing, blind, or a neighbour, then a fit with distortion."""
    session = context.session
    frame = session.get_one(Frame, int(unit.key))
    lead = _lead(session, frame)
    fit = _solved(context, lead, unit, p)
    if lead.frame_id != frame.frame_id:
        fit = _follow(session, frame, lead, fit)
    return Output(rows=[Rows(FirstSolution, _row(frame.frame_id, fit), upsert=True)])


def _lead(session: Session, frame: Frame) -> Frame:
    """Of the channels of an exposure the one with most stars: it is solved, and the others follow."""
    query = (
        sa.select(Frame)
        .join(Classification, Classification.frame_id == Frame.frame_id)
        .join(DetectionSummary, DetectionSummary.frame_id == Frame.frame_id)
        .where(Frame.exposure_id == frame.exposure_id, Classification.type == "object")
        .order_by(DetectionSummary.n_detection.desc(), Frame.frame_id)
    )
    found = session.execute(query.limit(1)).scalar()
    return found or frame


def _solved(context: Context, frame: Frame, unit: Unit[None], p: SolveParameters) -> PlateFit:
    """The solution of a frame from its own stars; a failure is named for its cause."""
    stars = stars_of(context.session, frame)
    bright = stars.take(stars.snr >= p.min_snr)
    used = bright if len(bright) >= p.min_stars else stars
    images = StarImages(used.x, used.y, used.flux)
    tried, n_catalogue, indexed = [], None, None
    for search in _searches(context, frame, images, p, second=unit.second):
        if search.centre is None:
            tried.append(search.reason)
            continue
        catalogue = sources_near(context.session, *search.centre, search.radius, julian_year(frame.jd_utc), catalogued_only=True)
        n_catalogue, indexed = len(catalogue), search.centre if search.blind else indexed
        if len(catalogue) == 0:
            tried.append(f"no catalogue star within {search.radius:.2f} deg of {search.centre[0]:.4f} {search.centre[1]:+.4f}")
            continue
        sky = (catalogue.ra, catalogue.dec, catalogue.mag)
        error = np.nan_to_num(np.hypot(used.x_err, used.y_err) / np.sqrt(2.0), nan=1.0)
        try:
            return solve_plate(*images.columns, *sky, (frame.ny, frame.nx), start=search.starts, order=p.order, det_err=error)
        except (AlgorithmFailed, FrameUnusable) as failed:
            tried.append(failed.message)
    raise failure(context, frame, stars, unit.label, "; ".join(tried), n_catalogue=n_catalogue, indexed=indexed)


def _searches(context: Context, frame: Frame, stars: StarImages, p: SolveParameters, *, second: bool) -> Iterator[Search]:
    """Where to look, the likeliest first: each is worked out when those before it have failed."""
    if second:
        yield _from_neighbour(context.session, frame)
        return
    exposure = context.session.get_one(Exposure, frame.exposure_id)
    channel = Channel(frame.channel, frame.raw_x0, frame.raw_y0, frame.raw_step, frame.nx, frame.ny)
    scale = None if exposure.pixel_scale is None else exposure.pixel_scale * frame.raw_step
    search = from_header(
        read_header(raw_path(context, exposure)),
        channel,
        (exposure.pointing_ra, exposure.pointing_dec),
        scale,
        scale_tolerance=p.scale_tolerance,
        pointing_tolerance=p.pointing_tolerance,
    )
    if search is not None:
        yield search
    yield blindly(stars, channel, scale, Path(p.index_folder), p.blind_time_limit)


def _follow(session: Session, frame: Frame, lead: Frame, fit: PlateFit) -> PlateFit:
    """A channel takes the solution of another of the same exposure: moved by its offset on the mosaic, and with linear terms of its own.

    These are what lateral colour does: the lens draws each colour to a scale of its own.
    """
    step = frame.raw_step
    moved = fit.solution.shifted((lead.raw_x0 - frame.raw_x0) / step, (lead.raw_y0 - frame.raw_y0) / step, (frame.nx, frame.ny))
    catalogue = sources_near(session, *moved.centre, 1.05 * moved.radius, julian_year(frame.jd_utc), catalogued_only=True)
    x, y = moved.project(catalogue.ra, catalogue.dec)
    seen = np.flatnonzero(moved.inside(x, y))
    found = detections_of(session, frame.night_id, frame.frame_id)
    cat, det = match_positions(x[seen], y[seen], found["x"], found["y"], _LATERAL)
    cat = seen[cat]
    start = f"channel {lead.channel}"
    if len(cat) < MIN_MATCHED:
        return replace(fit, solution=moved, method=start, n_catalogue_in_frame=len(seen))
    sky, pixel = (catalogue.ra[cat], catalogue.dec[cat]), (found["x"][det], found["y"][det])
    own = fit_with_distortion(Pairs(moved, *sky, *pixel, np.ones(len(cat)), catalogue.source_id[cat]), distortion_of(moved))
    return replace(
        fit,
        solution=own.solution,
        method=start,
        n_matched=len(cat),
        n_catalogue_in_frame=len(seen),
        rms_x=robust_scatter(own.loo_x),
        rms_y=robust_scatter(own.loo_y),
    )


def _from_neighbour(session: Session, frame: Frame) -> Search:
    """The solution of the frame nearest in time, of those that needed no neighbour themselves: so the order of work does not matter."""
    query = (
        sa.select(Frame.frame_id)
        .join(FirstSolution, FirstSolution.frame_id == Frame.frame_id)
        .where(Frame.instrument_id == frame.instrument_id, FirstSolution.start.not_like("neighbour%"), Frame.frame_id != frame.frame_id)
        .order_by(sa.func.abs(Frame.jd_utc - frame.jd_utc), Frame.frame_id)
        .limit(1)
    )
    found = session.execute(query).scalar()
    if found is None:
        reason = "neither its header nor a blind search gives one, and no other frame of the instrument is solved"
        return Search([], None, 0.0, reason)
    return around("neighbour", first_solution(session, found))


def _row(frame_id: int, fit: PlateFit) -> dict[str, object]:
    return {
        **solution_columns(frame_id, fit.solution),
        "n_matched": fit.n_matched,
        "n_catalogue": fit.n_catalogue_in_frame,
        "rms_x": fit.rms_x,
        "rms_y": fit.rms_y,
        "chance": fit.acceptance.log_chance,
        "start": fit.method,
    }
