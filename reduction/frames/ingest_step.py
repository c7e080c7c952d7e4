"""Step ingest: raw files of any camera become exposures and frames, one a colour channel, with times and geometry."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import ConfigurationError, FrameUnusable
from db.keys import next_id
from db.path_text import escaped
from db.tables import (
    Classification,
    Exposure,
    ExposureCopy,
    ExposureStatistics,
    Frame,
    Instrument,
    Night,
    Observatory,
    Passband,
    Setup,
    Task,
)
from reduction.files.contents import sha256_of
from reduction.files.convert import format_of, original_sha256, read_raw, to_fits
from reduction.files.fits import RawImage
from reduction.files.raw_files import find_raw_files
from reduction.frames.cameras import camera_of
from reduction.frames.copies import Picture, twin_of
from reduction.frames.evidence import evidence_text
from reduction.frames.kernels.bayer import Channel, channels_of, pattern_at
from reduction.frames.kernels.classification import frame_statistics
from reduction.frames.kernels.same_pixels import is_featureless, pixels_sha256
from reduction.frames.kernels.times import barycentric, night_number
from reduction.frames.known_files import known_files, size_and_time
from reduction.frames.stated_maximum import with_stated_maximum
from reduction.frames.together import Together, told_together
from reduction.headers.facts import Facts, facts
from reduction.headers.instrument import definitions_from, identify
from reduction.pipeline.declaration import Context, Kind, NewFile, Output, Rows, Step, Unit, canonical, step
from reduction.pipeline.inputs import Said
from reduction.pipeline.pending import facts_sha256
from reduction.pipeline.unchanged import raw_file, require_raw

__all__ = ["IngestParameters", "ingest"]


#: Length of the column task.unit.
_KEY = 128
#: What stays out of the names of products, and the longest part of one that is the file's own.
_ODD, _STEM = re.compile(r"[^\w .+()-]"), 100


@dataclass(frozen=True)
class IngestParameters:
    """Nothing to set: instrument definitions say what headers mean."""


def _plan(context: Context, _: IngestParameters) -> list[Unit[Together]]:
    """Files given or known that are not taken in as they would be now; one whose size and time have not changed is not hashed again."""
    definitions = canonical({name: context.settings.get(name) for name in ("instrument", "default", "override")})
    settled = sa.select(Task.unit).where(*_as_now(context.step, definitions))
    again = sa.select(Exposure.sha256, Exposure.path).where(Exposure.sha256.not_in(settled))
    paths = {row.sha256: row.path for row in context.session.execute(again.order_by(Exposure.exposure_id))}
    given = find_raw_files(context.settings.get("paths", ()), exclude=[context.files])
    unchanged = known_files(context.session) if given else {}
    hashed = context.settings.get("hashed", {})
    done = set(context.session.execute(settled).scalars()) if given else set()
    for path in given:
        path = Path(os.path.normpath(path.absolute()))
        try:
            key = unchanged.get((str(path), *size_and_time(path))) or hashed.get(str(path)) or sha256_of(path)
        except (OSError, FrameUnusable):
            key = _key_of_path(path)  # reading it will fail again in the body, and be recorded there
        if key not in done:
            paths.setdefault(key, str(path))
    return told_together(context, [Unit(key, Path(path).name, facts=definitions, path=path) for key, path in paths.items()])


def _key_of_path(path: Path) -> str:
    """What a file is known by that cannot be read: the end of its path, and of a long one also what tells it from others."""
    text = escaped(str(path))
    return text if len(text) <= _KEY else text[-(_KEY - 64) :] + hashlib.sha256(text.encode()).hexdigest()


def _as_now(step: Step, definitions: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Tasks whose files are taken in as they would be now."""
    same = (Task.step_version == step.version, Task.facts == facts_sha256(definitions))
    return (Task.step == step.name, Task.status == "done", Task.is_stale == 0, *same)


@dataclass(frozen=True, init=False)
class _Copies(Said):
    """Where further copies of raw files lie: whoever reads a raw file may read one of them, and the result is the same."""

    ground: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__((ExposureCopy,))

    def digest(self, session: Session, settings: Mapping[str, Any]) -> str:  # noqa: ARG002
        """Nothing: no result depends on them."""
        return ""


@step(
    "ingest",
    plan=_plan,
    inputs=(_Copies(),),
    products=(Kind("raw"),),
    version=4,
    parameters=IngestParameters,
    writes=(Observatory, Instrument, Setup, Passband, Night, Exposure, Frame, ExposureStatistics),
    clears=(Classification,),
)
def ingest(context: Context, unit: Unit[Together], _: IngestParameters) -> Output:
    """Take in raw files: camera formats become FITS; header facts, exact times, geometry and pixel statistics."""
    path = Path(str(unit.path))
    known = context.session.execute(sa.select(Exposure).where(Exposure.sha256 == unit.key)).scalar()
    source = path if known is None else raw_file(context.session, known)
    if known is None:
        require_raw(path, unit.key)  # its key was its hash when this was planned
    raw = read_raw(source)
    _require_pixels(raw, path)
    definition = identify(raw.header, definitions_from(context.settings))
    found = facts(raw.header, definition, raw.data.shape, path, quantum=raw.quantum, left_out=raw.left_out, damaged=raw.damaged)
    found = _with_set(found, unit.payload)
    ny, nx = raw.data.shape
    section = found.trim or (0, nx, 0, ny)
    found = with_stated_maximum(found, raw)
    size, mtime_ns = size_and_time(path) if source == path or known is None else (known.size, known.mtime_ns)
    exposure = {
        "sha256": unit.key,
        "path": str(path),
        "size": size,
        "mtime_ns": mtime_ns,
        "quantum": raw.quantum,
        "original_sha256": original_sha256(raw.header),
        "pixels_sha256": pixels_sha256(raw.data),
        **_exposure_facts(found),
    }
    x0, x1, y0, y1 = section
    pattern = pattern_at(found.bayer, x0, y0) if found.bayer else None
    statistics = evidence_text(frame_statistics(raw.data[y0:y1, x0:x1], saturation=found.saturation, bayer=pattern), found)
    frame = {"exptime": found.exptime, **_time_and_place(found)}
    file = None if format_of(source) == "fits" else _as_fits(context, raw, source, unit.key)
    new = _New(found, (ny, nx), exposure, frame, tuple(channels_of(found.bayer, section)), statistics, is_featureless(raw.data))
    finish = partial(_rows, new)
    return Output(finish=finish, file=file)


def _require_pixels(raw: RawImage, path: Path) -> None:
    """Refuse an image without any contrast."""
    finite = np.isfinite(raw.data)
    if not finite.any() or raw.data.min() == raw.data.max():
        value = f"{raw.data.flat[0]:g}" if finite.any() else "not finite"
        raise FrameUnusable(
            f"all {raw.data.size} pixels are {value}",
            where=str(path),
            hint="a failed read-out or an empty file: remove it, or take it from the camera again",
            code="frame.constant",
        )


def _as_fits(context: Context, raw: RawImage, path: Path, sha256: str) -> NewFile:
    """Keep a camera's own format as FITS too: later steps read that, in a tenth of the time."""
    context.step.require_kind("raw")
    name = f"raw/{_ODD.sub('_', path.stem)[:_STEM]}-{sha256[:10]}.fits"
    try:
        written = to_fits(raw, context.files / name, original=path, compressed=True, overwrite=True)
    except ConfigurationError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None  # a full disk is the archive's trouble, not that of the user's settings
        raise
    return NewFile("raw", name, written.sha256, written.size)


def _with_set(found: Facts, told: Together) -> Facts:
    """Facts of a file with what only its set says."""
    longitude = found.night_longitude if found.night_longitude is not None else told.longitude
    sigma = max(found.time_sigma, told.time_sigma)
    return replace(found, night_longitude=longitude, time_sigma=sigma, notes=(*found.notes, *told.notes))


def _exposure_facts(found: Facts) -> dict[str, Any]:
    return {
        "object_name": found.object,
        "header_type": found.declared or found.imagetyp,
        "calibration_state": " ".join(found.calibrated),
        "pointing_ra": found.ra,
        "pointing_dec": found.dec,
        "pixel_scale": found.pixel_scale,
        "bayer": found.bayer,
        "lens": found.lens,
        "aperture": found.aperture,
        "gain": found.gain,
        "read_noise": found.read_noise,
        "saturation": found.saturation,
        "black_level": found.black_level,
        "ccd_temperature": found.ccd_temperature,
        "trim": json.dumps(found.trim) if found.trim else None,
        "overscan": json.dumps(found.overscan) if found.overscan else None,
        "notes": "; ".join(found.notes) or None,
    }


def _time_and_place(found: Facts) -> dict[str, Any]:
    place = [np.nan if value is None else value for value in (found.latitude, found.longitude, found.height)]
    pointing = {name: np.nan if value is None else value for name, value in (("ra", found.ra), ("dec", found.dec))}
    g = barycentric(found.mid_jd1, found.mid_jd2, *place, **pointing)
    columns = {name: float(getattr(g, name)[0]) for name in ("jd_utc", "jd_tdb", "bx", "by", "bz", "zx", "zy", "zz", "moon_illumination")}
    columns |= {"sun_altitude": float(g.sun_alt[0]), "moon_altitude": float(g.moon_alt[0])}
    columns |= {"moon_ra": float(g.moon_ra[0]), "moon_dec": float(g.moon_dec[0])}
    night = int(night_number(columns["jd_utc"], found.night_longitude))
    return {**columns, "night_id": night, "time_source": found.time_source, "time_sigma": found.time_sigma}


@dataclass(frozen=True)
class _New:
    """What one file holds, before it has keys.

    Attributes
    ----------
    found : Facts
        Of its header.
    shape : (int, int)
        Height and width of the raw frame.
    exposure, frame : dict
        Columns that are known without keys.
    channels : tuple of Channel
        A frame each.
    statistics : str
        For sorting.
    featureless : bool
        Blank or saturated.
    """

    found: Facts
    shape: tuple[int, int]
    exposure: dict[str, Any]
    frame: dict[str, Any]
    channels: tuple[Channel, ...]
    statistics: str
    featureless: bool


def _rows(new: _New, session: Session, _task_id: int) -> list[Rows]:
    """Rows of one file, with keys that only the writer can give."""
    found, frame, exposure = new.found, new.frame, new.exposure
    night_id = frame["night_id"]
    evening = dt.date(2000, 1, 1) + dt.timedelta(days=night_id)
    rows = [Rows(Night, {"night_id": night_id, "evening": evening.isoformat()}, upsert=True)]
    camera = camera_of(session, found, new.shape)
    rows += camera.rows
    observatory_id = None
    if found.latitude is not None and found.longitude is not None:
        site = {"name": found.site_name or "site in the header", "latitude": found.latitude, "longitude": found.longitude}
        observatory_id, more = _key_of(session, Observatory, site)
        rows += [Rows(Observatory, {**columns, "height": found.height or 0.0}, upsert=True) for columns in more]
    exposure_id = session.execute(sa.select(Exposure.exposure_id).where(Exposure.sha256 == exposure["sha256"])).scalar()
    exposure_id = exposure_id or next_id(session, Exposure.exposure_id)
    keys = {"exposure_id": exposure_id, "instrument_id": camera.instrument_id, "night_id": night_id}
    twin = twin_of(session, exposure_id, _picture(new, camera.instrument_id))
    notes = "; ".join(note for note in (exposure["notes"], camera.note, twin.note) if note) or None
    more_keys = {"observatory_id": observatory_id, "duplicate_of": twin.exposure_id, "notes": notes}
    rows.append(Rows(Exposure, {**exposure, **keys, **more_keys}, upsert=True))
    if twin.exposure_id is not None:
        return rows + _without_frames(session, exposure_id)
    setup_id, more = _key_of(session, Setup, {"instrument_id": camera.instrument_id, **_setup(found)})
    rows += [Rows(Setup, columns, upsert=True) for columns in more]
    rows += _frame_rows(session, found, {**frame, **keys, "setup_id": setup_id}, new.channels)
    rows.append(Rows(ExposureStatistics, {"exposure_id": exposure_id, "statistics": new.statistics}, upsert=True))
    return rows


def _picture(new: _New, instrument_id: int) -> Picture:
    hashes = {name: new.exposure[name] for name in ("path", "sha256", "original_sha256", "pixels_sha256")}
    times = {name: new.frame[name] for name in ("jd_utc", "time_sigma")}
    return Picture(**hashes, **times, featureless=new.featureless, instrument_id=instrument_id)


def _without_frames(session: Session, exposure_id: int) -> list[Rows]:
    """Frames that were taken for an exposure of their own before are of no type, so that nothing is made of them any more."""
    frames = list(session.execute(sa.select(Frame.frame_id).where(Frame.exposure_id == exposure_id)).scalars())
    return [Rows(Classification, {}, replace={"frame_id": frames}, shared=True)] if frames else []


def _setup(found: Facts) -> dict[str, Any]:
    x, y = found.binning
    settings = {"gain_setting": found.gain_setting, "offset_setting": found.offset_setting, "read_mode": found.read_mode}
    return {"binning_x": x, "binning_y": y, **settings}


def _frame_rows(session: Session, found: Facts, frame: dict[str, Any], channels: tuple[Channel, ...]) -> list[Rows]:
    """A frame for each channel, with its passband."""
    rows = []
    first, first_band = next_id(session, Frame.frame_id), next_id(session, Passband.passband_id)
    bands: dict[str, int] = {}
    for channel in channels:
        name = _passband(found.filter, channel.name)
        if name not in bands:
            bands[name], more = _key_of(session, Passband, {"name": name}, first_band)
            first_band += len(more)
            rows += [Rows(Passband, columns, upsert=True) for columns in more]
        same = (Frame.exposure_id == frame["exposure_id"], Frame.channel == channel.name)
        frame_id = session.execute(sa.select(Frame.frame_id).where(*same)).scalar()
        if frame_id is None:
            frame_id, first = first, first + 1
        place = {"raw_x0": channel.x0, "raw_y0": channel.y0, "raw_step": channel.step, "nx": channel.nx, "ny": channel.ny}
        columns = {**frame, **place, "frame_id": frame_id, "channel": channel.name, "passband_id": bands[name]}
        rows.append(Rows(Frame, columns, upsert=True))
    return rows


def _passband(name: str | None, channel: str) -> str:
    """A Bayer channel's colour is a filter of its own, behind the one in front of the camera; both greens are one."""
    if channel == "mono":
        return name or "unknown"
    return f"{name} {channel[0]}" if name else channel[0]


def _key_of(session: Session, table: Any, identity: dict[str, Any], fresh: int | None = None) -> tuple[int, list[dict[str, Any]]]:
    """The key of the row with this identity, and the columns to insert when there is none yet (under the key `fresh`, if given)."""
    key = table.__table__.primary_key.columns.values()[0]
    same = (getattr(table, name).is_(None) if value is None else getattr(table, name) == value for name, value in identity.items())
    found = session.execute(sa.select(key).where(*same)).scalar()
    if found is not None:
        return int(found), []
    fresh = fresh if fresh is not None else next_id(session, key)
    return fresh, [{key.name: fresh, **identity}]
