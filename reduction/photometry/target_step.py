"""Step target_photometry: the flux at the position of every target on each object frame, whether or not there is a star."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.flags import Flag
from db.tables import Frame, PsfMap, TargetMeasurement
from reduction.astrometry.detections import fwhm_of
from reduction.calibration.master_choice import Chosen, PatternWithoutDark
from reduction.kernels.arrays import FloatArray, IntArray
from reduction.photometry.followed_targets import FollowedTargets, PlacedTargets, placed_targets, targets_by_frame
from reduction.photometry.kernels.forced import forced_fluxes
from reduction.photometry.psf_model import is_shared, psf_map_of
from reduction.photometry.star_light import PlacedSources, StarLight, apertures_of, placed_sources, star_light
from reduction.pipeline.declaration import Context, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Own, Untracked, Worked
from reduction.pipeline.plans import frame_units

__all__ = ["TargetParameters", "target_photometry"]

#: So many frames are asked for by their keys; for more, all are planned and the others left out.
_FEW = 10_000


@dataclass(frozen=True)
class TargetParameters:
    """How targets are measured; margin, flag radius and blends are those of the step photometry."""

    same_star: float = parameter(0.3, "FWHM", "a target closer than this to a source takes the source's place", least=0.01, most=2)


def _plan(context: Context, _: TargetParameters) -> list[Unit[Chosen | None]]:
    """Every measured frame that a target may fall on; what depends on the targets is that frame's alone."""
    facts = targets_by_frame(context.session)
    if not facts:
        return []
    units = frame_units(context, Frame.frame_id.in_(sorted(facts)) if len(facts) <= _FEW else None)
    return [dataclasses.replace(unit, facts=unit.facts + facts[unit.frame_id]) for unit in units if unit.frame_id in facts]


@step(
    "target_photometry",
    plan=_plan,
    inputs=(
        Own("calibrate"),
        Own("refine"),
        Own("background"),
        Own("psf"),
        Own("photometry"),
        PatternWithoutDark("fixed_pattern"),
        Worked("discover"),
        Untracked("field_colours"),
        FollowedTargets(),
    ),
    version=3,
    parameters=TargetParameters,
    writes=(TargetMeasurement,),
    complete=True,
)
def target_photometry(context: Context, unit: Unit[Chosen | None], p: TargetParameters) -> Output:
    """Measure all targets on a frame by one joint fit with all its sources; each at its own position, seen or not."""
    session = context.session
    frame = session.get_one(Frame, int(unit.key))
    psf = psf_map_of(session, frame.frame_id)
    around = placed_sources(context, frame, -psf.radius)
    same = p.same_star * psf.fwhm((frame.nx - 1) / 2.0, (frame.ny - 1) / 2.0)
    targets = placed_targets(session, frame, around, context.parameters("photometry").margin, same)
    place = {"night_id": frame.night_id, "frame_id": frame.frame_id}
    if len(targets) == 0:
        return Output(rows=[Rows(TargetMeasurement, {"target_id": targets.target_id, **place}, replace=place)])
    light = star_light(context, frame, unit.payload)
    sky, sky_err = light.sky_at(targets.x, targets.y)
    beyond = sky - light.sky.at(targets.x, targets.y)[0]  # of rings, as in the step photometry
    largest = float(apertures_of(session, frame.instrument_id)[1][-1])
    as_sources = context.parameters("photometry")
    near = as_sources.flag_radius * (fwhm_of(session, frame.frame_id) or psf.fwhm(frame.nx / 2, frame.ny / 2))
    stars = (around.x, around.y, targets.x, targets.y, targets.star)
    found = forced_fluxes(light.pixels(), light.planes["MASK"], psf, *stars, radius=same, aperture=largest, traits=around.traits())
    source_id = around.table.source_id[targets.star].astype(object)
    source_id[targets.star < 0] = None
    flux = found.flux - found.background_weight * beyond
    columns: dict[str, npt.NDArray[Any]] = {
        "target_id": targets.target_id,
        "source_id": source_id,
        "flags": _flags(light, around, targets, found.share, near, largest, as_sources.foreign_light),
        "x": targets.x,
        "y": targets.y,
        "background": sky,
        "background_err": sky_err,
        "flux": flux,
        "flux_err": np.hypot(found.error, found.background_weight * sky_err),
        "psf_err": np.abs(flux) * _map_error(session, frame.frame_id),
        "chi2": found.chi2,
        "neighbour_flux": found.neighbour_flux,
    }
    return Output(rows=[Rows(TargetMeasurement, {**columns, **place}, replace=place)])


def _map_error(session: Session, frame_id: int) -> float:
    """Part of a flux that is uncertain by the map's own error: of faint stars, for bright ones depend less on its shape; NaN: not known.

    It is not known of a map that several frames share: the frame's width has a part in it.
    """
    if is_shared(session, frame_id):
        return float("nan")
    error = session.execute(sa.select(PsfMap.faint_flux_error).where(PsfMap.frame_id == frame_id)).scalar_one()
    return float("nan") if error is None else float(error)


def _flags(
    light: StarLight, around: PlacedSources, targets: PlacedTargets, share: FloatArray, near: float, largest: float, foreign_light: float
) -> IntArray:
    """Flags as the step photometry sets them, of which a source at the same position has the same."""
    blended = np.where(share < 1.0 - foreign_light, int(Flag.BLENDED), 0)
    measured = (targets.star >= 0) & around.table.colour_measured[targets.star]
    assumed = np.where(measured, 0, int(Flag.COLOUR_ASSUMED))
    return np.asarray(light.flags(targets.x, targets.y, near, largest) | blended | assumed, dtype=np.int64)
