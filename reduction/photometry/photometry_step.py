"""Step photometry: fluxes of every source on each object frame, at projected positions; a frame's rows are written once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from db.errors import FrameUnusable
from db.flags import Flag
from db.tables import Frame, FramePhotometry, Measurement, PhotometrySlot
from reduction.astrometry.detections import fwhm_of
from reduction.astrometry.sources import SourceTable
from reduction.calibration.master_choice import Chosen, PatternWithoutDark
from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.kernels.robust import scatter_about
from reduction.photometry.kernels.aperture import aperture_photometry
from reduction.photometry.kernels.crowding import blended
from reduction.photometry.kernels.psf_flux import fit_fluxes
from reduction.photometry.kernels.psf_map import PsfMap
from reduction.photometry.psf_model import psf_map_of
from reduction.photometry.star_light import PlacedSources, StarLight, placed_sources, star_light
from reduction.pipeline.declaration import Context, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import OfInstrument, Own, Untracked, Worked

__all__ = ["PhotometryParameters", "photometry"]


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
        Own("psf"),
        OfInstrument("slots"),
        PatternWithoutDark("fixed_pattern"),
        Worked("discover"),
        Untracked("field_colours"),
    ),
    version=2,
    parameters=PhotometryParameters,
    writes=(Measurement, FramePhotometry),
    standing=(FramePhotometry,),
)
def photometry(context: Context, unit: Unit[Chosen | None], p: PhotometryParameters) -> Output:
    """Measure all sources at their projected positions: fluxes fitted with the profile map, and sums in exact circular apertures."""
    session = context.session
    frame = session.get_one(Frame, int(unit.key))
    psf = psf_map_of(session, frame.frame_id)
    # Light of stars beyond the edge falls on the frame.
    around = placed_sources(context, frame, -psf.radius)
    inside = around.inside(frame, p.margin)
    sources = around.take(inside)
    if len(sources) == 0:
        raise FrameUnusable("no source falls on the frame", where=unit.label, hint="check its plate solution", code="frame.no_source")
    query = sa.select(PhotometrySlot.slot, PhotometrySlot.radius).where(
        PhotometrySlot.instrument_id == frame.instrument_id, PhotometrySlot.kind == "aperture"
    )
    slots = session.execute(query.order_by(PhotometrySlot.slot)).all()
    radii = np.array([row.radius for row in slots])
    flag_radius = p.flag_radius * (fwhm_of(session, frame.frame_id) or float(np.median(radii)))
    light = star_light(context, frame, unit.payload)
    columns, flux, error = _measure(light, sources, radii, flag_radius)
    columns["flags"] |= np.where(blended(sources.x, sources.y, sources.table.mag, flag_radius, p.blend_magnitudes), int(Flag.BLENDED), 0)
    columns["flags"] |= np.where(sources.table.colour_measured, 0, int(Flag.COLOUR_ASSUMED))
    columns |= _fitted(light, psf, around, inside, columns["background"], columns["background_err"])
    for k, row in enumerate(slots):
        columns[f"flux_{row.slot}"], columns[f"flux_err_{row.slot}"] = flux[:, k], error[:, k]
    place = {"night_id": frame.night_id, "frame_id": frame.frame_id}
    rows = Rows(Measurement, {"source_id": sources.table.source_id, **place, **columns}, replace=place)
    middle = len(radii) // 2
    noise = light.noise * np.sqrt(np.pi) * float(radii[middle])
    quality = _zero_point(sources.table, columns["flags"], flux[:, middle], error[:, middle], frame.exptime, noise)
    summary = {"frame_id": frame.frame_id, "n_source": len(sources), **quality}
    return Output(rows=[rows, Rows(FramePhotometry, summary, upsert=True)])


def _fitted(
    light: StarLight, psf: PsfMap, around: PlacedSources, inside: BoolArray, sky: FloatArray, sky_err: FloatArray
) -> dict[str, FloatArray]:
    """Slot 0: fluxes of all stars fitted at once, of which those inside the frame are kept."""
    found = fit_fluxes(light.pixels(), psf.stamps(around.x, around.y))
    error = np.hypot(found.error[inside], found.background_weight[inside] * sky_err)
    # The fit has the map's sky taken off; where rings stand in for it, they differ.
    beyond = 0.0 if light.local is None else sky - light.sky.at(around.x[inside], around.y[inside])[0]
    return {"flux_0": found.flux[inside] - found.background_weight[inside] * beyond, "flux_err_0": error, "psf_chi2": found.chi2[inside]}


def _measure(
    light: StarLight, sources: PlacedSources, radii: FloatArray, flag_radius: float
) -> tuple[dict[str, npt.NDArray[Any]], FloatArray, FloatArray]:
    """Columns common to all slots, and fluxes and errors of shape (n, k); the sky's error is common to a whole aperture."""
    planes, x, y = light.planes, sources.x, sources.y
    sky, sky_err = light.sky_at(x, y)
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
    near: SourceTable, flags: IntArray, flux: FloatArray, error: FloatArray, exptime: float, noise: float
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
