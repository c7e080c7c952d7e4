"""Step standard_system: zero point and colour term of each reference, to the catalogue's band nearest to its passband."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.fetch import fetch_arrays
from db.tables import (
    BestSlot,
    Field,
    Frame,
    MagfitReference,
    Passband,
    ReferenceRequest,
    SourceMagnitude,
    StandardSystem,
)
from reduction.catalogues.held import HeldCatalogues
from reduction.kernels.arrays import FloatArray, IntArray
from reduction.lightcurves.kernels.colour_relation import LEAST_STARS, fit_relation
from reduction.lightcurves.kernels.standard_bands import GAIA_RELATIONS, bands_for, choose_band
from reduction.lightcurves.reference_stars import latest_references, reference_stars, relation_columns
from reduction.pipeline.declaration import Context, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Members, Said, Untracked

__all__ = ["StandardSystemParameters", "standard_system"]


@dataclass(frozen=True)
class StandardSystemParameters:
    """Which stars tie a reference to a catalogue."""

    max_error: float = parameter(0.05, "mag", "reference magnitudes with larger errors have no say", above=0, most=1)
    foreign_light: float = parameter(
        0.03, "", "nor have stars in slots where this part of the light, or more, is that of others", above=0, most=1
    )
    bands: tuple[str, ...] = parameter(
        (),
        "",
        'bands of passbands, or of channels of a mosaic, where not the nearest ones are wanted: "clear=V"; "V*" is made up of Gaia\'s',
        length=(0, 100),
    )

    def check(self) -> tuple[str, str] | None:
        """Bands are given to something, and what is made up of Gaia's magnitudes can be."""
        for text in self.bands:
            passband, _, band = (part.strip() for part in text.rpartition("="))
            if not passband or not band or (band.endswith("*") and band[:-1] not in GAIA_RELATIONS):
                made_up = ", ".join(f"{name}*" for name in GAIA_RELATIONS)
                return f"bands: no band of a passband: {text!r}", f'write "PASSBAND=BAND", as "clear=V"; of Gaia\'s are made {made_up}'
        return None

    def bands_for(self, passband: str, channel: str) -> tuple[str, ...]:
        """Catalogue bands that frames may be compared with: what a person gives their passband or channel, else the nearest first."""
        given = {name.strip().lower(): band.strip() for name, _, band in (text.rpartition("=") for text in self.bands)}
        wanted = given.get(channel.lower()) or given.get(passband.strip().lower())
        return (wanted,) if wanted else bands_for(passband, channel)


def _plan(context: Context, _: StandardSystemParameters) -> list[Unit[int]]:
    """Each reference that counts, with the catalogues that hold stars of its field: one that is taken in later is compared with anew."""
    found = latest_references(context.session)
    held = HeldCatalogues(context.session) if found else None
    return [
        Unit(
            str(each.reference_id),
            f"field {each.field_id}, reference {each.reference_id}",
            (each.task, *held.tasks(each.ra, each.dec, each.radius)),
            payload=each.reference_id,
        )
        for each in found
        if held is not None
    ]


@step(
    "standard_system",
    plan=_plan,
    inputs=(
        Members("magnitude_reference"),
        Members("catalogue"),
        Members("fetch", role="catalogue"),
        Untracked("magnitude_fit"),
        Untracked("field_colours"),
        Said((ReferenceRequest,)),
    ),
    parameters=StandardSystemParameters,
    writes=(StandardSystem,),
)
def standard_system(context: Context, unit: Unit[int], p: StandardSystemParameters) -> Output:
    """Compare a reference's magnitudes with those of the catalogues: zero point and colour term in each slot, with their errors."""
    session, reference_id = context.session, unit.payload
    stars = reference_stars(session, reference_id, p.foreign_light)
    values, errors, systems = _catalogue_values(session, reference_id, stars.source_id)
    place = {"reference_id": reference_id}
    nothing = Output(rows=[Rows(StandardSystem, {}, replace=place)])
    # The slots are compared with one band.
    measured = np.isfinite(np.array(list(stars.mag.values()))).any(axis=0) if stars.mag else np.zeros(0, dtype=np.bool_)
    wanted = p.bands_for(*_passband(session, reference_id))
    chosen = choose_band(wanted, values, measured)
    if chosen is None:
        nothing.remark = f"no catalogue magnitude of its stars in {', '.join(wanted)}"
        return nothing
    band, standard = chosen
    name, made_up = band.rstrip("*"), band.endswith("*")
    error = errors["G" if made_up else name]
    colour_band = _colour_band(session, reference_id)
    rows = [Rows(StandardSystem, {}, replace=place)]
    remark = f"fewer than {LEAST_STARS} stars in {name}"
    for slot, mag in stars.mag.items():
        good = stars.mag_err[slot] <= p.max_error
        difference = np.where(good, standard - mag, np.nan)
        relation = fit_relation(difference, np.hypot(stars.mag_err[slot], error), stars.colour)
        if relation is None:
            continue
        columns = relation_columns(relation, mag, stars.colour)
        words = {"band": name, "system": "from Gaia" if made_up else systems[name], "colour_band": colour_band}
        rows.append(Rows(StandardSystem, {**place, "slot": slot, **words, **columns}))
        remark = f"{name} ({words['system']}), {relation.n_star} stars, scatter {1e3 * relation.scatter:.0f} mmag in slot {slot}"
    return Output(rows=rows, remark=remark)


def _passband(session: Session, reference_id: int) -> tuple[str, str]:
    """Passband and channel of the frames."""
    query = (
        sa.select(Passband.name, Frame.channel)
        .join(Frame, Frame.passband_id == Passband.passband_id)
        .join(MagfitReference, MagfitReference.frame_id == Frame.frame_id)
        .where(MagfitReference.reference_id == reference_id)
    )
    name, channel = session.execute(query).one()
    return str(name), str(channel)


def _colour_band(session: Session, reference_id: int) -> str | None:
    query = sa.select(Field.fit_colour_band).join(MagfitReference, MagfitReference.field_id == Field.field_id)
    return session.execute(query.where(MagfitReference.reference_id == reference_id)).scalar_one_or_none()


def _catalogue_values(
    session: Session, reference_id: int, ids: IntArray
) -> tuple[Mapping[str, FloatArray], Mapping[str, FloatArray], Mapping[str, str]]:
    """Magnitudes of the stars by band, their errors (0 where unknown), and the bands' systems; of several catalogues the best error's."""
    m = SourceMagnitude
    mine = sa.select(m.band, m.system).join(BestSlot, BestSlot.source_id == m.source_id).where(BestSlot.reference_id == reference_id)
    mine = mine.where(m.band.not_like("%-%")).distinct().order_by(m.band, m.system)
    systems = {str(band): str(system) for band, system in session.execute(mine)}
    values, errors = ({band: np.full(ids.size, np.nan) for band in systems} for _ in range(2))
    for band in systems:
        query = (
            sa.select(m.source_id, m.value, m.error)
            .join(BestSlot, BestSlot.source_id == m.source_id)
            .where(BestSlot.reference_id == reference_id, m.band == band)
            # The last one written stays: the best.
            .order_by(sa.func.coalesce(m.error, 1e3).desc(), m.catalogue_id.desc())
        )
        source, value, error = fetch_arrays(session.connection(), query, kinds="iff")
        place = np.searchsorted(ids, source)
        values[band][place], errors[band][place] = value, np.nan_to_num(error)
    return values, errors, systems
