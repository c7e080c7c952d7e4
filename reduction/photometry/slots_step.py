"""Step slots: what each flux column of `measurement` holds, fixed once for each instrument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from db.errors import ConfigurationError
from db.tables import N_SLOT, Classification, DetectionSummary, Frame, Instrument, PhotometrySlot
from reduction.pipeline.declaration import Context, Output, Provisional, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Untracked
from reduction.pipeline.open_nights import OpenNights, open_nights

__all__ = ["SlotsParameters", "slots"]

FITTED = "flux fitted with the frame's profile map, all stars at once; psf_map.kind says of which kind the map is"
SPLIT = "frame_photometry.apertures says how its border pixels are split"


@dataclass(frozen=True)
class SlotsParameters:
    """Which apertures are measured."""

    factors: tuple[float, ...] = parameter(
        (0.7, 0.85, 1.0, 1.25, 1.6, 2.1, 3.0),
        "FWHM",
        "radii of the apertures in units of the typical FWHM",
        least=0.25,
        most=20,
        length=(0, N_SLOT - 1),
    )
    radii: tuple[float, ...] = parameter(
        (), "pixel", "radii of the apertures; in place of factors when given", least=0.25, most=500, length=(0, N_SLOT - 1)
    )

    def check(self) -> tuple[str, str] | None:
        """There is an aperture."""
        return None if self.factors or self.radii else ("neither factors nor radii", "give one of them")


def _plan(context: Context, _: SlotsParameters) -> list[Unit[None]]:
    """Instruments with an object frame of known FWHM. Later frames do not change what the slots are, but those of the first night."""
    query = (
        sa.select(Frame.instrument_id, Instrument.name)
        .join(Instrument, Instrument.instrument_id == Frame.instrument_id)
        .join(Classification, Classification.frame_id == Frame.frame_id)
        .join(DetectionSummary, DetectionSummary.frame_id == Frame.frame_id)
        .where(Classification.type == "object", DetectionSummary.fwhm.is_not(None))
        .distinct()
        .order_by(Frame.instrument_id)
    )
    units: list[Unit[None]] = [Unit(str(row.instrument_id), row.name) for row in context.session.execute(query)]
    return [_first_night(context, unit, lasting) for unit in units] if (lasting := open_nights(context.session)) else units


def _first_night(context: Context, unit: Unit[None], lasting: frozenset[int]) -> Unit[None]:
    """The unit, provisional where the instrument has been used in nights only that are open."""
    night = sa.select(Frame.night_id).join(DetectionSummary, DetectionSummary.frame_id == Frame.frame_id)
    mine = night.where(Frame.instrument_id == int(unit.key), DetectionSummary.fwhm.is_not(None))
    if context.session.execute(mine.where(Frame.night_id.not_in(lasting)).limit(1)).first() is not None:
        return unit
    return replace(unit, night_id=context.session.execute(mine.limit(1)).scalar(), provisional=True)


def _change(earlier: Mapping[str, Any], later: Mapping[str, Any], _: Path) -> float:
    """None, or another set of apertures."""
    return 0.0 if earlier == later else float("inf")


@step(
    "slots",
    plan=_plan,
    inputs=(Untracked("detect"), OpenNights()),
    provisional=Provisional("", _change),
    version=3,
    parameters=SlotsParameters,
    writes=(PhotometrySlot,),
)
def slots(context: Context, unit: Unit[None], p: SlotsParameters) -> Output:
    """Fix the aperture radii of an instrument: multiples of its typical FWHM, to a quarter of a pixel."""
    instrument_id = int(unit.key)
    query = (
        sa.select(DetectionSummary.fwhm)
        .join(Frame, Frame.frame_id == DetectionSummary.frame_id)
        .join(Classification, Classification.frame_id == Frame.frame_id)
        .where(Frame.instrument_id == instrument_id, Classification.type == "object", DetectionSummary.fwhm.is_not(None))
    )
    fwhm = float(np.median(np.array(context.session.execute(query).scalars().all(), dtype=float)))
    radii = sorted(set(p.radii or (round(4 * factor * fwhm) / 4 for factor in p.factors)))
    if radii[0] <= 0:
        raise ConfigurationError(
            f"factors = {list(p.factors)} make an aperture of no size: the FWHM is {fwhm:.2f} pixel",
            where="[slots]",
            hint="give larger factors, or radii",
            code="config.slots",
        )
    apertures = [f"circular aperture, radius {r:g} pixel ({r / fwhm:.2f} FWHM); {SPLIT}" for r in radii]
    columns = {
        "instrument_id": instrument_id,
        "slot": np.arange(len(radii) + 1),
        "kind": np.array(["psf"] + ["aperture"] * len(radii), dtype=object),
        "radius": np.array([np.nan, *radii]),
        "description": np.array([FITTED, *apertures], dtype=object),
    }
    rows = [Rows(PhotometrySlot, columns, replace={"instrument_id": instrument_id})]
    return Output(rows=rows, remark=f"FWHM {fwhm:.2f} pixel", summary={"radii": radii})
