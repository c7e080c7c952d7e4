"""Step solve: the plate solution (RA, Dec) -> (x, y) of each object frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import AlgorithmFailed, FrameUnusable
from db.tables import Classification, DetectionSummary, Exposure, FirstSolution, Frame, Source
from reduction.astrometry.blind import DEFAULT_INDEX_DIR, unavailable
from reduction.astrometry.channels import OtherChannels
from reduction.astrometry.detections import detections_of, stars_of
from reduction.astrometry.diagnosis import failure
from reduction.astrometry.kernels.detection import Detections
from reduction.astrometry.kernels.distortion import Pairs, distortion_of, fit_with_distortion
from reduction.astrometry.kernels.plate import PlateFit
from reduction.astrometry.kernels.plate import solve as solve_plate
from reduction.astrometry.kernels.plate_fit import match_positions
from reduction.astrometry.kernels.start import MIN_MATCHED
from reduction.astrometry.search import Search, StarImages, around, blindly, from_header
from reduction.astrometry.series import leaders
from reduction.astrometry.solutions import first_solution, solution_columns
from reduction.astrometry.sources import SourceTable, julian_year, sources_near
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
#: Failures that no other start would mend.
_FINAL = ("solve.no_catalogue", "solve.wrong_catalogue")


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
        60.0, "s", "processor time that each blind solver may take; 20 degree fields need most of it", least=1, most=86_400
    )
    index_folder: str = parameter(
        str(DEFAULT_INDEX_DIR), "", "folder with astrometry.net index files for blind solving; used where it exists", length=(1, 4096)
    )


#: What is tried for frames that their header does not place, in this order.
_BY_NEIGHBOURS, _BLINDLY = "from neighbours", "blindly, one frame of each pointing"
_CHANCES = (_BY_NEIGHBOURS, _BLINDLY, _BY_NEIGHBOURS, _BLINDLY, _BY_NEIGHBOURS)


@step(
    "solve",
    inputs=(Own("detect"), CoveringCatalogues("catalogue"), OtherChannels("detect"), Earlier("background")),
    version=3,
    parameters=SolveParameters,
    writes=(FirstSolution,),
    chances=_CHANCES,
)
def solve(context: Context, unit: Unit[None], p: SolveParameters) -> Output:
    """Find each frame's plate solution: header WCS, pointing, a neighbour, or blind once a pointing, then a fit with distortion."""
    session = context.session
    frame = session.get_one(Frame, int(unit.key))
    lead = _lead(session, frame)
    fit = _solved(context, frame, lead, unit, p)
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


def _solved(context: Context, frame: Frame, lead: Frame, unit: Unit[None], p: SolveParameters) -> PlateFit:
    """The solution of a frame from the stars of its lead; when all chances are gone, the failure is named for its cause."""
    if unit.tries and unit.tries[-1].code in _FINAL:
        raise unit.tries[-1]
    stars = stars_of(context.session, lead)
    bright = stars.take(stars.snr >= p.min_snr)
    used = bright if len(bright) >= p.min_stars else stars
    work = _Work(context, lead, used, p)
    chance = len(unit.tries)
    if chance == 0:
        search = _from_header(work)
    elif _CHANCES[chance - 1] == _BY_NEIGHBOURS:
        search = _from_neighbour(context.session, lead, blind=chance > 1)
    else:
        search = _blindly(work, frame, _CHANCES[: chance - 1].count(_BLINDLY))
    try:
        return _confirmed(work, search)
    except (AlgorithmFailed, FrameUnusable) as failed:
        if failed.code in _FINAL:
            raise
        indexed = search.centre if search.blind else None
        if indexed is None and chance < len(_CHANCES):
            raise
        tried = dict.fromkeys(error.message for error in (*unit.tries, failed) if error.message)
        place = search if search.blind else _from_header(work)
        known: dict[str, Any] = {"n_catalogue": _number(work, place), "indexed": indexed, "unknown": _unknown(work)}
        raise failure(context, lead, used, unit.label, "; ".join(tried), **known) from None


@dataclass(frozen=True)
class _Work:
    """A frame with the detections that it is solved by."""

    context: Context
    frame: Frame
    used: Detections
    p: SolveParameters

    @cached_property
    def images(self) -> StarImages:
        """Positions and fluxes."""
        return StarImages(self.used.x, self.used.y, self.used.flux)

    @cached_property
    def exposure(self) -> Exposure:
        """The frame's."""
        return self.context.session.get_one(Exposure, self.frame.exposure_id)

    @property
    def channel(self) -> Channel:
        """Which of the raw pixels it has."""
        frame = self.frame
        return Channel(frame.channel, frame.raw_x0, frame.raw_y0, frame.raw_step, frame.nx, frame.ny)

    @property
    def scale(self) -> float | None:
        """Arcsec per pixel, where it is known."""
        return None if self.exposure.pixel_scale is None else self.exposure.pixel_scale * self.frame.raw_step

    def catalogue(self, search: Search) -> SourceTable:
        """The catalogue stars of where it is looked for, at the epoch of the frame."""
        assert search.centre is not None
        year = julian_year(self.frame.jd_utc)
        return sources_near(self.context.session, *search.centre, search.radius, year, catalogued_only=True)


def _confirmed(work: _Work, search: Search) -> PlateFit:
    """The solution that the stars confirm."""
    if search.centre is None:
        raise AlgorithmFailed(search.reason, code="solve.no_start")
    catalogue = work.catalogue(search)
    ra, dec = search.centre
    if len(catalogue) == 0:
        _require_catalogue(work)
        raise AlgorithmFailed(f"no catalogue star within {search.radius:.2f} deg of {ra:.4f} {dec:+.4f}", code="solve.no_start")
    sky = (catalogue.ra, catalogue.dec, catalogue.mag)
    error = np.nan_to_num(np.hypot(work.used.x_err, work.used.y_err) / np.sqrt(2.0), nan=1.0)
    shape = (work.frame.ny, work.frame.nx)
    return solve_plate(*work.images.columns, *sky, shape, start=search.starts, order=work.p.order, det_err=error)


def _require_catalogue(work: _Work) -> None:
    """Where there is no star at all, it is not the wrong catalogue."""
    if work.context.session.execute(sa.select(Source.source_id).where(Source.origin == "catalogue").limit(1)).scalar() is None:
        raise AlgorithmFailed(
            "the archive has no catalogue: 0 stars to compare the frame with",
            hint="load one with --catalogue FILE, or have it fetched with --fetch gaia",
            code="solve.no_catalogue",
        )


def _number(work: _Work, search: Search) -> int | None:
    """Catalogue stars where the frame is thought to be; None where nobody knows where that is."""
    return None if search.centre is None else len(work.catalogue(search))


def _from_header(work: _Work) -> Search:
    search = from_header(
        read_header(raw_path(work.context, work.exposure)),
        work.channel,
        (work.exposure.pointing_ra, work.exposure.pointing_dec),
        work.scale,
        scale_tolerance=work.p.scale_tolerance,
        pointing_tolerance=work.p.pointing_tolerance,
    )
    return search or Search([], None, 0.0, _missing(work))


def _missing(work: _Work) -> str:
    """Which of what a search from the header needs it does not say."""
    missing = [what for what in _unknown(work) if what != "index files"]
    return f"the header has no WCS, and {' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not known"


def _unknown(work: _Work) -> tuple[str, ...]:
    """What would help to place the frame and is not there."""
    there = {
        "pointing": work.exposure.pointing_ra is not None,
        "pixel scale": work.scale is not None,
        "index files": not unavailable(work.p.index_folder),
    }
    return tuple(what for what, known in there.items() if not known)


def _blindly(work: _Work, frame: Frame, before: int) -> Search:
    """A blind search, where this is the frame of its pointing that has the turn; `before` others had it."""
    _require_catalogue(work)
    if why_not := unavailable(work.p.index_folder):
        return Search([], None, 0.0, f"blind: {why_not}")
    order = leaders(work.context, work.frame)
    turn = order[min(before, len(order) - 1)]
    if turn != frame.frame_id:
        path = work.context.session.execute(
            sa.select(Exposure.path).join(Frame, Frame.exposure_id == Exposure.exposure_id).where(Frame.frame_id == turn)
        ).scalar_one()
        return Search([], None, 0.0, f"blind: {Path(path).name} was tried, which shows the same stars")
    if before >= len(order):
        return Search([], None, 0.0)  # it has had its turn
    return blindly(work.images, work.channel, work.scale, Path(work.p.index_folder), work.p.blind_time_limit)


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


def _from_neighbour(session: Session, frame: Frame, *, blind: bool) -> Search:
    """The solution of the frame nearest in time that needed no neighbour itself: so the order of work does not matter."""
    query = (
        sa.select(Frame.frame_id)
        .join(FirstSolution, FirstSolution.frame_id == Frame.frame_id)
        .where(Frame.instrument_id == frame.instrument_id, FirstSolution.start.not_like("neighbour%"), Frame.frame_id != frame.frame_id)
        .order_by(sa.func.abs(Frame.jd_utc - frame.jd_utc), Frame.frame_id)
        .limit(1)
    )
    if not blind:
        # as long as none of the run is solved blindly, those of earlier runs do not count: so a restart changes nothing
        query = query.where(FirstSolution.start.not_like("blind%"))
    found = session.execute(query).scalar()
    if found is None:
        return Search([], None, 0.0, "no other frame of the instrument is solved" if blind else "")
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
