"""Step photometry: aperture fluxes of every source on each object frame, at projected positions; a frame's rows are written once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from db.errors import FrameUnusable
from db.flags import Flag, Mask
from db.tables import Frame, FrameBackground, FramePhotometry, Measurement, PhotometrySlot, Product
from reduction.astrometry.detections import fwhm_of
from reduction.astrometry.solutions import plate_solution
from reduction.astrometry.sources import SourceTable, julian_year, sources_near
from reduction.calibration.calibrated import calibrated_planes
from reduction.calibration.master_choice import Chosen, PatternWithoutDark, master_plane
from reduction.kernels.robust import scatter_about
from reduction.photometry.background_map import read_map
from reduction.photometry.kernels.aperture import aperture_photometry
from reduction.photometry.kernels.crowding import blended
from reduction.pipeline.declaration import Context, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import OfInstrument, Own, Untracked, Worked

__all__ = ["PhotometryParameters", "photometry"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PhotometryParameters:
    """How sources are measured."""

    margin: float = parameter(1.0, "pixel", "sources closer to the frame's edge are not measured", least=0, most=1000)
    flag_radius: float = parameter(2.0, "FWHM", "bad pixels and neighbours within this set a source's flags", least=0.1, most=100)
    blend_magnitudes: float = parameter(3.0, "mag", "a neighbour fainter than this by more does not count as a blend", least=0, most=30)


@step(
    "photometry",
    inputs=(
        Own("calibrate"),
        Own("refine"),
        Own("background"),
        OfInstrument("slots"),
        PatternWithoutDark("fixed_pattern"),
        Worked("discover"),
        Untracked("field_colours"),
    ),
    parameters=PhotometryParameters,
    writes=(Measurement, FramePhotometry),
    standing=(FramePhotometry,),
)
def photometry(context: Context, unit: Unit[Chosen | None], p: PhotometryParameters) -> Output:
    """Measure all sources on each frame in exact circular apertures at their projected positions."""
    session = context.session
    frame = session.get_one(Frame, int(unit.key))
    plate = plate_solution(session, frame.frame_id)
    near = sources_near(session, *plate.centre, 1.05 * plate.radius, julian_year(frame.jd_utc))
    x, y = plate.project(near.ra, near.dec)
    on_frame = plate.inside(x, y, p.margin) & np.isfinite(x)
    near, x, y = _take(near, on_frame), x[on_frame], y[on_frame]
    if len(near) == 0:
        raise FrameUnusable("no source falls on the frame", where=unit.label, hint="check its plate solution", code="frame.no_source")
    query = sa.select(PhotometrySlot.slot, PhotometrySlot.radius).where(
        PhotometrySlot.instrument_id == frame.instrument_id, PhotometrySlot.kind == "aperture"
    )
    slots = session.execute(query.order_by(PhotometrySlot.slot)).all()
    radii = np.array([row.radius for row in slots])
    flag_radius = p.flag_radius * (fwhm_of(session, frame.frame_id) or float(np.median(radii)))
    columns, flux, error = _measure(
        context, frame, _planes(context, frame, unit.payload.path if unit.payload is not None else None), x, y, radii, flag_radius
    )
    columns["flags"] |= np.where(blended(x, y, near.mag, flag_radius, p.blend_magnitudes), int(Flag.BLENDED), 0)
    columns["flags"] |= np.where(near.colour_measured, 0, int(Flag.COLOUR_ASSUMED))
    for k, row in enumerate(slots):
        columns[f"flux_{row.slot}"], columns[f"flux_err_{row.slot}"] = flux[:, k], error[:, k]
    place = {"night_id": frame.night_id, "frame_id": frame.frame_id}
    rows = Rows(Measurement, {"source_id": near.source_id, **place, **columns}, replace=place)
    middle = len(radii) // 2
    sky_noise = session.get_one(FrameBackground, frame.frame_id).noise
    noise = (sky_noise or np.nan) * np.sqrt(np.pi) * float(radii[middle])
    quality = _zero_point(near, columns["flags"], flux[:, middle], error[:, middle], frame.exptime, noise)
    summary = {"frame_id": frame.frame_id, "n_source": len(near), **quality}
    return Output(rows=[rows, Rows(FramePhotometry, summary, upsert=True)])


def _take(table: SourceTable, keep: npt.NDArray[np.bool_]) -> SourceTable:
    return SourceTable(*(getattr(table, name)[keep] for name in SourceTable.__dataclass_fields__))


def _planes(context: Context, frame: Frame, pattern: str | None) -> dict[str, npt.NDArray[Any]]:
    """The calibrated planes, with what hot pixels add taken off where there was no dark."""
    planes = calibrated_planes(context, frame.frame_id)
    correction = master_plane(context, pattern)
    if correction is not None:
        planes["SCI"] = planes["SCI"] - correction.value
        planes["VAR"] = planes["VAR"] + correction.variance
        # A hot pixel on a frame without a dark looks like a cosmic ray; this one is known, and mended.
        planes["MASK"] = np.where(correction.value != 0, planes["MASK"] & np.uint8(255 - int(Mask.COSMIC)), planes["MASK"])
    return planes


def _measure(
    context: Context,
    frame: Frame,
    planes: dict[str, npt.NDArray[Any]],
    x: FloatArray,
    y: FloatArray,
    radii: FloatArray,
    flag_radius: float,
) -> tuple[dict[str, npt.NDArray[Any]], FloatArray, FloatArray]:
    """Columns common to all slots, and fluxes and errors of shape (n, k); the sky's error is common to a whole aperture."""
    query = sa.select(Product.path).join(FrameBackground, FrameBackground.product_id == Product.product_id)
    path = context.session.execute(query.where(FrameBackground.frame_id == frame.frame_id)).scalar_one()
    sky, sky_err = read_map(context, str(path)).at(x, y)
    sums = aperture_photometry(planes["SCI"], planes["VAR"], planes["MASK"], x, y, radii)
    flux = sums.flux - sums.area * sky[:, None]
    error = np.sqrt(sums.variance + (sums.area * sky_err[:, None]) ** 2)
    lost = ~np.isfinite(flux) | (sums.area < 0.995 * np.pi * radii**2)  # cut by the edge, or pixels without data
    flux[lost] = error[lost] = np.nan
    inner = aperture_photometry(planes["SCI"], planes["VAR"], planes["MASK"], x, y, [flag_radius]).flags & ~int(Flag.EDGE)
    flags = inner | (sums.flags & int(Flag.EDGE))
    columns = {"flags": flags.astype(np.int64), "x": x, "y": y, "background": sky, "background_err": sky_err}
    return columns, flux, error


def _zero_point(
    near: SourceTable, flags: npt.NDArray[np.int64], flux: FloatArray, error: FloatArray, exptime: float, noise: float
) -> dict[str, float | int | None]:
    """Zero point against catalogue magnitudes, its scatter and number, and the magnitude of S/N 5 over `noise` (ADU) in the aperture."""
    bad = int(Flag.SATURATED | Flag.BAD_PIXEL | Flag.BLENDED)
    use = near.catalogued & (flags & bad == 0) & (flux > 20 * error)
    if use.sum() < 3:
        return {"zero_point": None, "zero_point_scatter": None, "n_zero_point": int(use.sum()), "limiting_mag": None}
    offset = near.mag[use] + 2.5 * np.log10(flux[use] / exptime)
    zero_point = float(np.median(offset))
    scatter = scatter_about(offset, zero_point)
    limit = zero_point - 2.5 * np.log10(5 * noise / exptime)
    return {"zero_point": zero_point, "zero_point_scatter": scatter, "n_zero_point": int(use.sum()), "limiting_mag": float(limit)}
