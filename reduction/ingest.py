"""Step ingest: raw files become exposures and frames, with times and geometry."""

from __future__ import annotations

import datetime as dt
import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import FrameUnusable
from db.keys import next_id
from db.tables import Exposure, Frame, FrameStatistics, Instrument, Night, Observatory, Passband
from reduction.evidence import evidence_text
from reduction.fits import find_raw_files, read_raw, sha256_of
from reduction.headers import Facts, facts
from reduction.instrument import definitions_from, identify
from reduction.kernels.sort import frame_statistics
from reduction.kernels.times import barycentric, night_number
from reduction.step import Context, Output, Rows, Unit, canonical, step

__all__ = ["IngestParameters", "ingest"]


@dataclass(frozen=True)
class IngestParameters:
    """Nothing to set: what headers mean is said by instrument definitions."""


def _plan(context: Context, _: IngestParameters) -> list[Unit]:
    """Every file given or known; one whose size and time have not changed is not hashed again."""
    definitions = canonical({name: context.settings.get(name) for name in ("instrument", "default", "override")})
    columns = (Exposure.sha256, Exposure.path, Exposure.size, Exposure.mtime_ns)
    known = context.session.execute(sa.select(*columns).order_by(Exposure.exposure_id)).all()
    paths = {row.sha256: row.path for row in known}
    unchanged = {(row.path, row.size, row.mtime_ns): row.sha256 for row in known}
    for path in find_raw_files(context.settings.get("paths", ()), exclude=[context.files]):
        path = Path(os.path.normpath(path.absolute()))
        try:
            status = path.stat()
            key = unchanged.get((str(path), status.st_size, status.st_mtime_ns)) or sha256_of(path)
        except OSError:
            key = str(path)[-128:]  # reading it will fail again in the body, and be recorded there
        paths.setdefault(key, str(path))
    return [Unit(key, Path(path).name, facts=definitions, payload={"path": path}) for key, path in paths.items()]


@step(
    "ingest",
    per="file",
    plan=_plan,
    parameters=IngestParameters,
    reads=(Exposure,),
    writes=(Observatory, Instrument, Passband, Night, Exposure, Frame, FrameStatistics),
)
def ingest(context: Context, unit: Unit, _: IngestParameters) -> Output:
    """Take in raw files: header facts, exact times, geometry and pixel statistics."""
    path = Path(unit.payload["path"])
    raw = read_raw(path)
    if not np.isfinite(raw.data).any() or raw.data.min() == raw.data.max():
        value = "not finite" if not np.isfinite(raw.data).any() else f"{raw.data.flat[0]:g}"
        raise FrameUnusable(
            f"all {raw.data.size} pixels are {value}",
            where=str(path),
            hint="a failed read-out or an empty file: remove it, or take it from the camera again",
            code="frame.constant",
        )
    found = facts(raw.header, identify(raw.header, definitions_from(context.settings)), raw.data.shape, path)
    status = path.stat()
    exposure = {
        "sha256": unit.key,
        "path": str(path),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "quantum": raw.quantum,
        **_exposure_facts(found),
    }
    x0, x1, y0, y1 = found.trim or (0, raw.data.shape[1], 0, raw.data.shape[0])
    frame = {"channel": "mono", "nx": x1 - x0, "ny": y1 - y0, "exptime": found.exptime, **_time_and_place(found)}
    statistics = evidence_text(frame_statistics(raw.data[y0:y1, x0:x1], saturation=found.saturation), found)
    remark = "Bayer mosaic, measured as one channel" if found.bayer else None
    return Output(finish=partial(_rows, found, raw.data.shape, exposure, frame, statistics), remark=remark)


def _exposure_facts(found: Facts) -> dict[str, Any]:
    return {
        "object_name": found.object,
        "header_type": found.declared or found.imagetyp,
        "calibration_state": " ".join(found.calibrated),
        "pointing_ra": found.ra,
        "pointing_dec": found.dec,
        "pixel_scale": found.pixel_scale,
        "gain": found.gain,
        "read_noise": found.read_noise,
        "saturation": found.saturation,
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
    night = int(night_number(columns["jd_utc"], np.nan if found.longitude is None else found.longitude))
    return {**columns, "night_id": night, "time_source": found.time_source, "time_sigma": found.time_sigma}


def _rows(
    found: Facts, shape: tuple[int, int], exposure: dict[str, Any], frame: dict[str, Any], statistics: str, session: Session, _task_id: int
) -> list[Rows]:
    """Rows of one file, with keys that only the writer can give."""
    night_id = frame["night_id"]
    evening = dt.date(2000, 1, 1) + dt.timedelta(days=night_id)
    rows = [Rows(Night, {"night_id": night_id, "evening": evening.isoformat()}, upsert=True)]
    instrument_id, more = _key_of(session, Instrument, name=found.instrument, nx=shape[1], ny=shape[0])
    rows += [Rows(Instrument, {**columns, "definition": found.definition}, upsert=True) for columns in more]
    passband_id, more = _key_of(session, Passband, name=found.filter or "unknown")
    rows += [Rows(Passband, columns, upsert=True) for columns in more]
    observatory_id = None
    if found.latitude is not None and found.longitude is not None:
        site = {"name": found.site_name or "site in the header", "latitude": found.latitude, "longitude": found.longitude}
        observatory_id, more = _key_of(session, Observatory, **site)
        rows += [Rows(Observatory, {**columns, "height": found.height or 0.0}, upsert=True) for columns in more]
    exposure_id = session.execute(sa.select(Exposure.exposure_id).where(Exposure.sha256 == exposure["sha256"])).scalar()
    exposure_id = exposure_id or next_id(session, Exposure.exposure_id)
    keys = {"exposure_id": exposure_id, "instrument_id": instrument_id, "night_id": night_id}
    rows.append(Rows(Exposure, {**exposure, **keys, "observatory_id": observatory_id}, upsert=True))
    same = (Frame.exposure_id == exposure_id, Frame.channel == frame["channel"])
    frame_id = session.execute(sa.select(Frame.frame_id).where(*same)).scalar() or next_id(session, Frame.frame_id)
    rows.append(Rows(Frame, {**frame, **keys, "frame_id": frame_id, "passband_id": passband_id}, upsert=True))
    rows.append(Rows(FrameStatistics, {"frame_id": frame_id, "statistics": statistics}, upsert=True))
    return rows


def _key_of(session: Session, table: Any, **identity: Any) -> tuple[int, list[dict[str, Any]]]:
    """The key of the row with this identity, and the columns to insert when there is none yet."""
    key = table.__table__.primary_key.columns.values()[0]
    found = session.execute(sa.select(key).where(*(getattr(table, name) == value for name, value in identity.items()))).scalar()
    if found is not None:
        return int(found), []
    fresh = next_id(session, key)
    return fresh, [{key.name: fresh, **identity}]
