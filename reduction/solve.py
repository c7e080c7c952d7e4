"""Step solve: the plate solution (RA, Dec) -> (x, y) of each object frame."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from astropy.wcs import WCS, FITSFixedWarning, WcsError
from sqlalchemy.orm import Session

from db.errors import AlgorithmFailed
from db.tables import Catalogue, Detection, Exposure, Frame, Source, WcsSolution
from reduction.blind import DEFAULT_INDEX_DIR, solve_blind
from reduction.extract import detections_of
from reduction.files.convert import read_header
from reduction.files.raw import raw_path
from reduction.kernels.plate import PlateFit
from reduction.kernels.plate import solve as solve_plate
from reduction.kernels.start import PixelToSky, Pointing, Start, solution_from_wcs
from reduction.kernels.wcs import PlateSolution, unit_vectors
from reduction.plans import done_tasks, frame_units
from reduction.sources import julian_year, plate_solution, sources_near
from reduction.step import Context, InputTask, Output, Rows, Unit, parameter, step

__all__ = ["SolveParameters", "solve"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SolveParameters:
    """How frames are solved."""

    order: int = parameter(5, "", "highest degree of the distortion polynomials; the lowest that predicts left-out stars as well is taken")
    scale_tolerance: float = parameter(0.03, "", "largest relative error of the pixel scale that the header or the definition gives")
    pointing_tolerance: float = parameter(0.4, "", "largest error of the header's pointing, as a fraction of the frame's diagonal")
    index_folder: str = parameter(
        str(DEFAULT_INDEX_DIR), "", "folder with astrometry.net index files for blind solving; used where it exists"
    )


def _plan(context: Context, _: SolveParameters) -> list[Unit]:
    """Every object frame, with the catalogues that can cover it: one loaded later makes only those frames pending."""
    session = context.session
    done = done_tasks(session, "catalogue")
    columns = (Catalogue.sha256, Catalogue.ra, Catalogue.dec, Catalogue.radius)
    catalogues = [(done[c.sha256], unit_vectors(c.ra, c.dec), c.radius) for c in session.execute(sa.select(*columns)) if c.sha256 in done]
    query = sa.select(Frame.frame_id, Exposure.pointing_ra, Exposure.pointing_dec).join(Exposure)
    extra: dict[int, tuple[InputTask, ...]] = {}
    for frame_id, ra, dec in session.execute(query):
        pointing = unit_vectors(ra, dec) if ra is not None and dec is not None else None
        extra[frame_id] = tuple(
            InputTask(task.task_id, task.input_hash, "catalogue")
            for task, centre, radius in catalogues
            if pointing is None or np.degrees(np.arccos(np.clip(centre @ pointing, -1, 1))) < radius + 2.0
        )
    return frame_units(session, ("extract",), extra=extra)


@step(
    "solve",
    per="frame",
    after=("catalogue", "extract"),
    plan=_plan,
    parameters=SolveParameters,
    reads=(Frame, Exposure, Detection, Source, Catalogue, WcsSolution),
    writes=(WcsSolution,),
    second_chance=True,
)
def solve(context: Context, unit: Unit, p: SolveParameters) -> Output:
    """Find each frame's plate solution: header WCS, pointing, blind, or a neighbour, then a fit with distortion."""
    session = context.session
    frame = session.get_one(Frame, int(unit.key))
    stars = _Stars(*(detections_of(session, frame.night_id, frame.frame_id)[name].astype(float) for name in ("x", "y", "flux")))
    search = _from_neighbour(session, frame) if "second" in unit.payload else _from_header(context, frame, stars, p)
    if search.centre is None:
        raise AlgorithmFailed(
            f"no place on the sky to start from: {search.reason}",
            where=unit.label,
            hint="give the pointing in the configuration ([override] ra, dec and pixel_scale), or index files for blind solving",
            code="solve.no_start",
        )
    catalogue = sources_near(session, *search.centre, search.radius, julian_year(frame.jd_utc), catalogued_only=True)
    if len(catalogue) == 0:
        raise AlgorithmFailed(
            f"no catalogue star within {search.radius:.2f} deg of {search.centre[0]:.4f} {search.centre[1]:+.4f}",
            where=unit.label,
            hint="load a catalogue of this part of the sky with --catalogue FILE",
            code="solve.no_catalogue",
        )
    sky = (catalogue.ra, catalogue.dec, catalogue.mag)
    try:
        fit = solve_plate(stars.x, stars.y, stars.flux, *sky, (frame.ny, frame.nx), start=search.starts, order=p.order)
    except AlgorithmFailed as error:
        raise AlgorithmFailed(error.message, where=unit.label, hint=error.hint, code=error.code) from error
    return Output(rows=[Rows(WcsSolution, _row(frame.frame_id, fit), upsert=True)])


@dataclass(frozen=True)
class _Stars:
    x: FloatArray
    y: FloatArray
    flux: FloatArray


@dataclass(frozen=True)
class _Search:
    """Starts in the order to try; centre and radius (deg) of the sky to search; why there is none."""

    starts: list[Start | tuple[str, Start]]
    centre: tuple[float, float] | None
    radius: float
    reason: str = ""


def _around(name: str, start: PlateSolution) -> _Search:
    return _Search([(name, start)], start.centre, 1.6 * start.radius)


def _from_header(context: Context, frame: Frame, stars: _Stars, p: SolveParameters) -> _Search:
    """The header's WCS, its pointing with the pixel scale, or a blind solution."""
    exposure = context.session.get_one(Exposure, frame.exposure_id)
    size = (frame.nx, frame.ny)
    scale = None if exposure.pixel_scale is None else exposure.pixel_scale * frame.raw_step
    search = _Search([], None, 0.0)
    header_wcs = _header_wcs(raw_path(context, exposure), frame)
    if header_wcs is not None:
        rough = solution_from_wcs(header_wcs, size)
        search = _Search([header_wcs], rough.centre, 1.6 * rough.radius)
    if exposure.pointing_ra is not None and exposure.pointing_dec is not None and scale is not None:
        pointing = Pointing(exposure.pointing_ra, exposure.pointing_dec, scale, p.scale_tolerance, p.pointing_tolerance)
        reach = 1.1 * (1.0 + 2.0 * p.pointing_tolerance) * float(np.hypot(*size)) / 2 * scale / 3600
        search = _Search([*search.starts, pointing], search.centre or (pointing.ra, pointing.dec), max(search.radius, reach))
    if search.starts:
        return search
    blind = solve_blind(stars.x, stars.y, stars.flux, (frame.ny, frame.nx), Path(p.index_folder), scale=scale)
    if blind.solution is None:
        return _Search([], None, 0.0, f"the header gives neither a WCS nor pointing and scale; {blind.reason}")
    return _around("blind", blind.solution)


def _from_neighbour(session: Session, frame: Frame) -> _Search:
    """The solution of the frame nearest in time, of those that needed no neighbour themselves: so the order of work does not matter."""
    query = (
        sa.select(Frame.frame_id)
        .join(WcsSolution, WcsSolution.frame_id == Frame.frame_id)
        .where(Frame.instrument_id == frame.instrument_id, WcsSolution.start.not_like("neighbour%"), Frame.frame_id != frame.frame_id)
        .order_by(sa.func.abs(Frame.jd_utc - frame.jd_utc), Frame.frame_id)
        .limit(1)
    )
    found = session.execute(query).scalar()
    if found is None:
        reason = "neither its header nor a blind search gives one, and no other frame of the instrument is solved"
        return _Search([], None, 0.0, reason)
    return _around("neighbour", plate_solution(session, found))


def _header_wcs(path: Path, frame: Frame) -> PixelToSky | None:
    """The celestial WCS of the raw header as a function of the frame's pixels, or None."""
    header = read_header(path)
    if "CTYPE1" not in header or "CRVAL1" not in header:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        try:
            wcs = WCS(header, naxis=2)
            middle = (frame.raw_x0 + frame.raw_step * (frame.nx - 1) / 2, frame.raw_y0 + frame.raw_step * (frame.ny - 1) / 2)
            centre = wcs.pixel_to_world_values(*middle)
        except (WcsError, ValueError, KeyError):
            return None
    if not wcs.has_celestial or not np.all(np.isfinite(centre)):
        return None

    x0, y0, step = frame.raw_x0, frame.raw_y0, frame.raw_step

    def to_sky(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        ra, dec = wcs.all_pix2world(x0 + step * x, y0 + step * y, 0)
        return ra, dec

    return to_sky


def _row(frame_id: int, fit: PlateFit) -> dict[str, object]:
    s = fit.solution
    return {
        "frame_id": frame_id,
        "ra0": s.ra0,
        "dec0": s.dec0,
        "poly_order": s.order,
        "coeff": json.dumps(s.as_row()),
        "ra": s.centre[0],
        "dec": s.centre[1],
        "radius": s.radius,
        "corners": json.dumps(s.corners),
        "pixel_scale": s.scale,
        "rotation": s.rotation,
        "parity": s.parity,
        "n_matched": fit.n_matched,
        "n_catalogue": fit.n_catalogue_in_frame,
        "rms_x": fit.rms_x,
        "rms_y": fit.rms_y,
        "start": fit.method,
    }
