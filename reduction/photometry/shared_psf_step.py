"""Step shared_psf: one profile map for frames of a night that have too few stars for a good one of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from db.errors import AlgorithmFailed
from db.tables import Base, Frame, SharedPsf, SharedPsfFrame, Task
from reduction.photometry.kernels.psf_fit import SharedFit, fit_shared_psf
from reduction.photometry.kernels.psf_map import PsfMap
from reduction.photometry.kernels.psf_patches import patches
from reduction.photometry.kernels.psf_seed import seed_map
from reduction.photometry.kernels.seeing_groups import seeing_groups
from reduction.photometry.profile_frames import Seen, few_starred, frame_stars, seen
from reduction.pipeline.declaration import Context, InputTask, Output, Provisional, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Members
from reduction.pipeline.open_nights import OpenNights
from reduction.pipeline.plans import night_key

__all__ = ["SharedPsfParameters", "shared_psf"]


@dataclass(frozen=True)
class SharedPsfParameters:
    """Which frames share a profile map, and how it is fitted."""

    few_stars: int = parameter(30, "", "a frame with fewer stars that show its profile may share a map ...", least=0, most=10_000)
    few_snr: float = parameter(2000.0, "", "... where their S/N, added in quadrature, is below this", least=0, most=1_000_000)
    tolerance: float = parameter(
        0.25, "", "frames share a map whose FWHM differ from its median by at most this part of it; its profile is drawn out to each",
        least=0.001, most=1,
    )  # fmt: skip
    min_frames: int = parameter(4, "", "fewest frames; made anew each time there are twice as many", least=2, most=10_000)
    max_frames: int = parameter(64, "", "at most so many frames, evenly over the night, are read for it", least=2, most=10_000)


def _plan(context: Context, p: SharedPsfParameters) -> list[Unit[tuple[int, ...]]]:
    """Each night of a set-up and channel with enough few-starred frames: the first 4, 8, 16 ... so that one more changes nothing yet."""
    query = (
        sa.select(Frame.setup_id, Frame.channel, Frame.night_id, Frame.frame_id, Task.task_id, Task.input_hash)
        .join(Task, sa.and_(Task.step == "psf", Task.frame_id == Frame.frame_id, Task.status == "done"))
        .where(few_starred(context))
        .order_by(Frame.jd_utc, Frame.frame_id)
    )
    nights: dict[tuple[str, int], list[tuple[int, InputTask]]] = {}
    for row in context.session.execute(query):
        key = night_key(row.setup_id, row.channel, row.night_id)
        nights.setdefault((key, row.night_id), []).append((row.frame_id, InputTask(row.task_id, row.input_hash, "psf")))
    units = []
    for (key, night_id), members in nights.items():
        if len(members) < p.min_frames:
            continue
        whole = members[: p.min_frames * 2 ** int(np.log2(len(members) / p.min_frames))]
        used = whole[:: -(-len(whole) // p.max_frames)]
        frames, tasks = tuple(frame_id for frame_id, _ in used), tuple(task for _, task in used)
        units.append(Unit(key, f"night {night_id}, {len(used)} few-starred frames", tasks, night_id=night_id, payload=frames))
    return units


def _change(earlier: Mapping[str, Any], later: Mapping[str, Any], _: Path) -> float:
    """The largest rms difference of profiles, as a part of them, between maps of the same frames or more."""
    before, now = earlier["maps"], later["maps"]
    if [each["like"] for each in before] != [each["like"] for each in now]:
        return float("inf")
    changes = [0.0]
    for one, other in zip(before, now, strict=True):
        a, b = (PsfMap.from_row(json.loads(each["coeff"])) for each in (one, other))
        if a.coeff.shape != b.coeff.shape or a.radius != b.radius:
            return float("inf")
        changes.append(float(np.sqrt(np.sum((a.coeff - b.coeff) ** 2) / np.sum(b.coeff**2))))
    return max(changes)


@step(
    "shared_psf",
    plan=_plan,
    inputs=(Members("psf"), OpenNights()),
    provisional=Provisional("profile", _change),
    parameters=SharedPsfParameters,
    writes=(SharedPsf, SharedPsfFrame),
    complete=True,
)
def shared_psf(context: Context, unit: Unit[tuple[int, ...]], p: SharedPsfParameters) -> Output:
    """Fit one profile map to few-starred frames of like seeing, jointly: each has fluxes and a width of its own."""
    frames = {frame_id: context.session.get_one(Frame, frame_id) for frame_id in unit.payload}
    alike: dict[Seen, dict[int, float]] = {}
    for frame_id, frame in frames.items():
        found = seen(context, frame)
        alike.setdefault(found._replace(fwhm=0.0), {})[frame_id] = found.fwhm
    setup_id, channel, night_id = unit.key.split("/")
    place = {"setup_id": int(setup_id), "channel": channel, "night_id": int(night_id)}
    maps: list[dict[str, Any]] = []
    members: list[dict[str, Any]] = []
    remarks = []
    for like, fwhm in alike.items():
        ids = list(fwhm)
        for group in seeing_groups(np.array(list(fwhm.values())), p.tolerance, p.min_frames):
            chosen = {ids[k]: fwhm[ids[k]] for k in group}
            seeing = float(np.median(list(chosen.values())))
            try:
                fit = _fit(context, [frames[frame_id] for frame_id in chosen], like._replace(fwhm=seeing), chosen)
            except AlgorithmFailed as error:
                remarks.append(error.message)
                continue
            members += _member_rows(list(chosen), fit, len(maps))
            maps.append({"number": len(maps), "passband_id": like.passband_id, "kind": like.kind, "seeing": seeing, **_map_row(fit)})
            remarks.append(f"{len(chosen)} frames of FWHM {seeing:.2f} pixel, {maps[-1]['n_star']} stars")
    rows = [_rows(SharedPsf, maps, place), _rows(SharedPsfFrame, members, place)]
    summary = {"maps": [{"like": [each["passband_id"], each["kind"]], "coeff": each["coeff"]} for each in maps]}
    return Output(rows=rows, remark="; ".join(remarks) or f"no {p.min_frames} frames of like seeing", summary=summary)


def _fit(context: Context, frames: list[Frame], like: Seen, fwhm: Mapping[int, float]) -> SharedFit:
    """Read the frames, of which only what is beneath their stars is kept, and fit their map."""
    p = context.parameters("psf")
    radius = p.radius * like.fwhm
    seed = seed_map((like.nx, like.ny), like.fwhm, radius, pixel=like.pixel)
    stars = []
    for frame in frames:
        width = fwhm[frame.frame_id] / like.fwhm
        stars.append(patches(frame_stars(context, frame, width * radius, width), seed.drawn_out(width), min_snr=p.min_snr))
    return fit_shared_psf(stars, seed, max_order=p.order, min_snr=p.min_snr, max_stars=p.max_stars)


def _map_row(fit: SharedFit) -> dict[str, Any]:
    psf = fit.psf
    return {
        "n_frame": len(fit.used),
        "n_star": sum(int(np.count_nonzero(used)) for used in fit.used),
        "poly_order": psf.order,
        "radius": psf.radius,
        "pixel": psf.pixel,
        "n_coeff": int(np.count_nonzero(psf.coeff)),
        "coeff": json.dumps(psf.to_row()),
        "left_out": json.dumps([one.to_row() for one in fit.left_out]),
        "chi2": fit.chi2,
        "held_out": json.dumps([round(value, 5) for value in fit.held_out]),
        "roughness": fit.roughness,
        "terms": " ".join(term.name for term in psf.further),
        "fwhm": psf.fwhm((psf.nx - 1) / 2.0, (psf.ny - 1) / 2.0),
    }


def _member_rows(frames: list[int], fit: SharedFit, number: int) -> list[dict[str, Any]]:
    return [
        {
            "frame_id": frame_id,
            "number": number,
            "fold": int(fit.fold[k]),
            "width": float(fit.width[k]),
            "n_star": int(np.count_nonzero(fit.used[k])),
        }
        for k, frame_id in enumerate(frames)
    ]


def _rows(table: type[Base], rows: list[dict[str, Any]], place: dict[str, Any]) -> Rows:
    """Rows in place of the night's earlier ones."""
    names = [column.name for column in table.__table__.columns if column.name not in {*place, "task_id"}]
    return Rows(table, {**place, **{name: [row[name] for row in rows] for name in names}}, replace=place)
