"""Step photometry: fluxes of every source on each object frame, at projected positions; a frame's rows are written once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from db.errors import FrameUnusable
from db.flags import Flag
from db.tables import ApertureCorrection, ClosedMeasurement, Frame, FramePhotometry, OpenMeasurement
from reduction.astrometry.detections import fwhm_of
from reduction.astrometry.sources import SourceTable
from reduction.calibration.master_choice import Chosen, PatternWithoutDark
from reduction.kernels.arrays import BoolArray, FloatArray
from reduction.kernels.robust import scatter_about
from reduction.photometry.kernels.aperture import aperture_photometry
from reduction.photometry.kernels.growth import aperture_corrections
from reduction.photometry.kernels.psf_aperture import PsfApertures, psf_apertures
from reduction.photometry.kernels.psf_flux import Fluxes, fit_fluxes
from reduction.photometry.kernels.psf_map import PsfMap
from reduction.photometry.psf_model import SharedMap, psf_map_of
from reduction.photometry.star_light import PlacedSources, StarLight, apertures_of, placed_sources, star_light
from reduction.pipeline.declaration import Context, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import OfInstrument, Own, Untracked, Worked

__all__ = ["PhotometryParameters", "photometry"]

#: Stars with these flags tell no zero point.
_SPOILED = int(Flag.SATURATED | Flag.BAD_PIXEL)


@dataclass(frozen=True)
class PhotometryParameters:
    """How sources are measured."""

    margin: float = parameter(1.0, "pixel", "sources closer to the frame's edge are not measured", least=0, most=1000)
    flag_radius: float = parameter(2.0, "FWHM", "bad pixels within this set a source's flags", least=0.1, most=100)
    foreign_light: float = parameter(
        0.05, "", "other stars' part of the light in the largest aperture from which on a source is blended", least=0.001, most=1
    )
    apertures: str = parameter(
        "psf",
        "",
        "psf: border pixels are split by the profile, where its map is a PSF; area: by their area inside the circle; with either, "
        "neighbours' light is subtracted and bad pixels are filled from the profile; plain: sums of pixels as they are",
        choices=("psf", "area", "plain"),
    )


@step(
    "photometry",
    inputs=(
        Own("calibrate"),
        Own("refine"),
        Own("background"),
        Own("psf"),
        SharedMap("psf_choice"),
        OfInstrument("slots"),
        PatternWithoutDark("fixed_pattern"),
        Worked("discover"),
        Untracked("field_colours"),
    ),
    version=5,
    parameters=PhotometryParameters,
    writes=(OpenMeasurement, FramePhotometry, ApertureCorrection),
    standing=(FramePhotometry,),
    clears=(ClosedMeasurement,),
)
def photometry(context: Context, unit: Unit[Chosen | None], p: PhotometryParameters) -> Output:
    """Measure all sources at their projected positions: fluxes fitted with the profile map, and light in circular apertures."""
    session = context.session
    frame = session.get_one(Frame, int(unit.key))
    psf = psf_map_of(session, frame.frame_id)
    # Light of stars beyond the edge falls on the frame.
    around = placed_sources(context, frame, -psf.radius)
    inside = around.inside(frame, p.margin)
    sources = around.take(inside)
    if len(sources) == 0:
        raise FrameUnusable("no source falls on the frame", where=unit.label, hint="check its plate solution", code="frame.no_source")
    slots, radii = apertures_of(session, frame.instrument_id)
    light = star_light(context, frame, unit.payload)
    fwhm = fwhm_of(session, frame.frame_id) or psf.fwhm(frame.nx / 2, frame.ny / 2)
    fluxes, apertures = _light(light, psf, around, inside, radii, p.apertures == "psf")
    sky, sky_err = light.sky_at(sources.x, sources.y)
    # The profile's fluxes are of pixels less the map's sky; where rings stand in for it, they differ.
    beyond = sky - light.sky.at(sources.x, sources.y)[0]
    flux, error = _plain(light, sources, radii) if p.apertures == "plain" else _errors(apertures, beyond, sky_err)
    share = apertures.share(np.fmax(fluxes.flux, fluxes.error)[inside])
    columns: dict[str, npt.NDArray[Any]] = {
        "flags": light.flags(sources.x, sources.y, p.flag_radius * fwhm, float(radii[-1])),
        "x": sources.x,
        "y": sources.y,
        "background": sky,
        "background_err": sky_err,
        "flux_0": fluxes.flux[inside] - fluxes.background_weight[inside] * beyond,
        "flux_err_0": np.hypot(fluxes.error[inside], fluxes.background_weight[inside] * sky_err),
        "psf_chi2": fluxes.chi2[inside],
    }
    columns["flags"] |= np.where(sources.table.colour_measured, 0, int(Flag.COLOUR_ASSUMED))
    # A share that is unknown marks nothing.
    columns["flags"] |= np.where(share[:, -1] < 1.0 - p.foreign_light, int(Flag.BLENDED), 0)
    for k, slot in enumerate(slots):
        columns[f"flux_{slot}"], columns[f"flux_err_{slot}"] = flux[:, k], error[:, k]
    place = {"night_id": frame.night_id, "frame_id": frame.frame_id}
    middle = len(radii) // 2
    # The zero point is that of one aperture: in crowded fields few stars have the largest to themselves.
    alone = (columns["flags"] & int(Flag.SATURATED | Flag.BAD_PIXEL) == 0) & ~(share[:, middle] < 1.0 - p.foreign_light)
    noise = light.noise * np.sqrt(np.pi) * float(radii[middle])
    quality = _zero_point(sources.table, sources.table.catalogued & alone, flux[:, middle], error[:, middle], frame.exptime, noise)
    mode = p.apertures if p.apertures != "psf" or psf.pixel > 0 else "area"
    summary = {"frame_id": frame.frame_id, "n_source": len(sources), "apertures": mode, **quality}
    growth = aperture_corrections(columns["flux_0"], columns["flux_err_0"], flux, apertures.enclosed, alone)
    corrections = {"frame_id": frame.frame_id, "slot": slots, **growth._asdict()}
    return Output(
        rows=[
            Rows(ClosedMeasurement, {}, replace=place),
            Rows(OpenMeasurement, {"source_id": sources.table.source_id, **place, **columns}, replace=place),
            Rows(FramePhotometry, summary, upsert=True),
            Rows(ApertureCorrection, corrections, replace={"frame_id": frame.frame_id}),
        ]
    )


def _light(
    light: StarLight, psf: PsfMap, around: PlacedSources, inside: BoolArray, radii: FloatArray, split: bool
) -> tuple[Fluxes, PsfApertures]:
    """Fluxes of all stars, fitted at once, and apertures of those inside the frame."""
    traits = around.traits()
    pixels, stamps = light.pixels(), psf.stamps(around.x, around.y, traits)
    fluxes = fit_fluxes(pixels, stamps)
    stars = (stamps, fluxes, around.x, around.y)
    return fluxes, psf_apertures(pixels, light.planes["MASK"], psf, *stars, radii, wanted=inside, split=split, traits=traits)


def _errors(apertures: PsfApertures, beyond: FloatArray, sky_err: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fluxes and errors (n, k), `beyond` (n,) more sky taken off; its error is common to a whole aperture."""
    return apertures.flux - apertures.area * beyond[:, None], np.sqrt(apertures.variance + (apertures.area * sky_err[:, None]) ** 2)


def _plain(light: StarLight, sources: PlacedSources, radii: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sums of pixels less the sky, and errors (n, k); NaN where an aperture is cut by the edge, or by pixels without data."""
    planes = light.planes
    sky, sky_err = light.sky_at(sources.x, sources.y)
    sums = aperture_photometry(planes["SCI"], planes["VAR"], planes["MASK"], sources.x, sources.y, radii)
    cut = sums.area < 0.995 * np.pi * radii**2
    flux = np.where(cut, np.nan, sums.flux - sums.area * sky[:, None])
    return flux, np.where(cut, np.nan, np.sqrt(sums.variance + (sums.area * sky_err[:, None]) ** 2))


def _zero_point(
    near: SourceTable, usable: BoolArray, flux: FloatArray, error: FloatArray, exptime: float, noise: float
) -> dict[str, float | int | None]:
    """Zero point against catalogue magnitudes, its scatter and number, and the magnitude of S/N 5 over `noise` (ADU) in the aperture."""
    use = usable & (flux > 20 * error)
    if use.sum() < 3:
        return {"zero_point": None, "zero_point_scatter": None, "n_zero_point": int(use.sum()), "limiting_mag": None}
    offset = near.mag[use] + 2.5 * np.log10(flux[use] / exptime)
    zero_point = float(np.median(offset))
    scatter = scatter_about(offset, zero_point)
    limit = zero_point - 2.5 * np.log10(5 * noise / exptime)
    return {"zero_point": zero_point, "zero_point_scatter": scatter, "n_zero_point": int(use.sum()), "limiting_mag": float(limit)}
