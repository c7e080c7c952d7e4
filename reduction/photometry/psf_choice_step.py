"""Step psf_choice: which profile map a few-starred frame is measured with, its own or one that it shares with others of the night."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa

from db.tables import Frame, PsfChoice, SharedPsf, SharedPsfFrame, Task
from db.tables import PsfMap as PsfMapRow
from reduction.photometry.kernels.psf_compare import MapComparison, compare_maps
from reduction.photometry.kernels.psf_map import PsfMap
from reduction.photometry.kernels.psf_patches import patches
from reduction.photometry.kernels.psf_seed import seed_map
from reduction.photometry.profile_frames import Seen, few_starred, frame_stars, seen
from reduction.pipeline.declaration import Context, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import OfNight, Own
from reduction.pipeline.open_nights import OpenNights, open_nights
from reduction.pipeline.plans import frame_units

__all__ = ["PsfChoiceParameters", "psf_choice"]


@dataclass(frozen=True)
class PsfChoiceParameters:
    """When a few-starred frame takes the shared map."""

    sigma: float = parameter(
        1.0, "", "its own map is taken where it predicts left-out stars better by more than so many standard errors", least=-100, most=100
    )


def _plan(context: Context, _: PsfChoiceParameters) -> list[Unit[None]]:
    """The few-starred frames of nights that have shared maps: the others have nothing to choose.

    Frames of an open night that were measured before there was a shared map choose when it is closed.
    """
    units = frame_units(context, few_starred(context))
    lasting = open_nights(context.session)
    late = [unit.frame_id for unit in units if unit.night_id in lasting]
    if not late:
        return units
    done = sa.select(Task.frame_id).where(Task.frame_id.in_(late), Task.status == "done")
    measured, chose = (set(context.session.execute(done.where(Task.step == name)).scalars()) for name in ("photometry", "psf_choice"))
    return [unit for unit in units if unit.night_id not in lasting or unit.frame_id in chose or unit.frame_id not in measured]


@step(
    "psf_choice",
    plan=_plan,
    inputs=(Own("psf"), OfNight("shared_psf"), OpenNights()),
    parameters=PsfChoiceParameters,
    writes=(PsfChoice,),
    standing=(PsfChoice,),
    complete=True,
)
def psf_choice(context: Context, unit: Unit[None], p: PsfChoiceParameters) -> Output:
    """Choose the map that predicts the frame's stars better; the shared one where there are too few to tell."""
    session = context.session
    frame = session.get_one(Frame, int(unit.key))
    own = session.get_one(PsfMapRow, frame.frame_id)
    like = seen(context, frame)
    offer = _offered(context, frame, like)
    row: dict[str, Any] = {"frame_id": frame.frame_id, "number": None, "width": None, "n_star": 0, "own_chi2": None, "shared_chi2": None}
    if offer is None:
        row |= {"uses": "own", "reason": f"no map is shared by frames of FWHM near {like.fwhm:.2f} pixel"}
        return Output(rows=[Rows(PsfChoice, row, upsert=True)])
    found = _compared(context, frame, own, like, offer)
    uses, reason = _verdict(found, own.kind, p.sigma)
    row |= {"uses": uses, "reason": reason, "number": offer.row.number, "width": found.width, "n_star": found.n_star}
    row |= {"own_chi2": found.own, "shared_chi2": found.shared}
    return Output(rows=[Rows(PsfChoice, row, upsert=True)], remark=f"{uses}: {reason}")


class _Offer(NamedTuple):
    """A shared map that may serve a frame, and the same made without the frame."""

    row: SharedPsf
    psf: PsfMap
    left_out: PsfMap


def _offered(context: Context, frame: Frame, like: Seen) -> _Offer | None:
    """The map that the frame has a part in, else that of like frames whose seeing is nearest."""
    night = (SharedPsf.setup_id == frame.setup_id, SharedPsf.channel == frame.channel, SharedPsf.night_id == frame.night_id)
    rows = context.session.execute(sa.select(SharedPsf).where(*night).order_by(SharedPsf.number)).scalars().all()
    member = context.session.get(SharedPsfFrame, frame.frame_id)
    limit = float(np.log1p(context.parameters("shared_psf").tolerance))
    psf = {row.number: PsfMap.from_row(json.loads(row.coeff)) for row in rows}
    for row in rows:
        if member is not None and (member.number, row.task_id) == (row.number, member.task_id):
            return _Offer(row, psf[row.number], PsfMap.from_row(json.loads(row.left_out)[member.fold]))
    near = [
        (abs(np.log(like.fwhm / row.seeing)), row.number, row)
        for row in rows
        if (row.passband_id, row.kind, psf[row.number].nx, psf[row.number].ny) == (like.passband_id, like.kind, like.nx, like.ny)
    ]
    if not near or min(near)[0] > limit:
        return None
    row = min(near)[2]
    return _Offer(row, psf[row.number], psf[row.number])


def _compared(context: Context, frame: Frame, row: PsfMapRow, like: Seen, offer: _Offer) -> MapComparison:
    """Both maps tried on the frame's stars."""
    p = context.parameters("psf")
    width = like.fwhm / offer.row.seeing
    begin = offer.psf.drawn_out(width)
    stars = patches(frame_stars(context, frame, begin.radius, width), begin, min_snr=p.min_snr)
    own = PsfMap.from_row(json.loads(row.coeff))
    seed = None if row.kind == "shape" else seed_map((like.nx, like.ny), like.fwhm, p.radius * like.fwhm, pixel=like.pixel)
    return compare_maps(stars, offer.psf, offer.left_out, own, seed, min_snr=p.min_snr, max_stars=p.max_stars)


def _verdict(found: MapComparison, kind: str, sigma: float) -> tuple[str, str]:
    """Which map is used, and why."""
    uses, name = "shared" if found.takes_shared(sigma) else "own", "the shape map's stand-in" if kind == "shape" else "its own map"
    if found.n_star == 0:
        return uses, "no star to try the maps on; frames of like seeing share one"
    if not np.isfinite(found.own):
        return uses, f"{found.n_star} stars, too few to try {name} on those left out; frames of like seeing share one"
    said = f"{found.n_star} stars left out: chi2 {found.shared:.3f} about the shared map, {found.own:.3f} about {name}"
    return uses, f"{said}; +-{found.error:.1%}" if np.isfinite(found.error) else said
