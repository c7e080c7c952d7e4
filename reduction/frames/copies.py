"""One exposure in several files: whether a file holds a picture that is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import FrameUnusable
from db.tables import Exposure, Frame
from reduction.files.convert import read_raw
from reduction.files.fits import RawImage
from reduction.frames.kernels.same_pixels import differ_as_compressed
from reduction.pipeline.unchanged import raw_file

__all__ = ["Picture", "Twin", "twin_of"]

#: Times (s) that do not differ: of pixels that could be those of another exposure, and of those that could not.
_SAME, _STATED = 0.05, 1.0
#: Exposures of one camera at one time whose pixels are looked at. A clock that stands still gives a night's frames one time.
_LOOKED_AT = 4
_DAY = 86400.0


@dataclass(frozen=True)
class Picture:
    """What tells whether a new file holds an exposure that is known.

    Attributes
    ----------
    path : str
        The file.
    sha256 : str
        Of its bytes.
    original_sha256 : str or None
        Of the file that it was made from, where it says so.
    pixels_sha256 : str
        Of its pixels.
    featureless : bool
        Blank or saturated: equal pixels may be those of another exposure.
    instrument_id : int
        Its camera.
    jd_utc : float
        Middle of the exposure.
    time_sigma : float
        Precision of that, s.
    """

    path: str
    sha256: str
    original_sha256: str | None
    pixels_sha256: str
    featureless: bool
    instrument_id: int
    jd_utc: float
    time_sigma: float


@dataclass(frozen=True)
class Twin:
    """The exposure that a file holds once more, if any; and what is to be noted."""

    exposure_id: int | None = None
    note: str = ""


def twin_of(session: Session, exposure_id: int, picture: Picture) -> Twin:
    """Whether another exposure that has frames is this one in another file.

    Parameters
    ----------
    session : Session
        The writer's.
    exposure_id : int
        Of the file itself.
    picture : Picture
        What is known of it.

    Returns
    -------
    Twin
        By what a converted file says of its original, by equal pixels at one time, or by pixels that differ as lossy compression
        makes them; else a note where another exposure of the camera has the same time, or the same pixels at another time.
    """
    known = sa.select(Exposure.exposure_id).where(Exposure.duplicate_of.is_(None), Exposure.exposure_id != exposure_id)
    converted = session.execute(known.where(_of_one_original(picture)).order_by(Exposure.exposure_id).limit(1)).scalar()
    if converted is not None:
        return Twin(converted)
    notes = []
    for row in session.execute(_equal_pixels(exposure_id, picture)).all():
        if _at_one_time(row, picture):
            return Twin(row.exposure_id)
        if not picture.featureless:
            notes.append(f"its pixels are those of {Path(row.path).name}, whose time is another: taken as two exposures")
    rows = session.execute(_at_the_time(exposure_id, picture).limit(_LOOKED_AT + 1)).all()
    if len(rows) > _LOOKED_AT:
        first = Path(rows[0].path).name
        crowd = f"more than {_LOOKED_AT} exposures of the camera have its time, {first} first, with other pixels: taken as different ones"
        return Twin(note=(notes or [crowd])[0])
    for row in rows:
        if _differ_as_compressed(session, row.exposure_id, picture):
            return Twin(row.exposure_id)
        notes.append(f"{Path(row.path).name} is of the same camera and time, with other pixels: taken as two exposures")
    return Twin(note="; ".join(notes[:1]))


def _of_one_original(picture: Picture) -> sa.ColumnElement[bool]:
    same = [Exposure.original_sha256 == picture.sha256]
    if picture.original_sha256 is not None:
        same += [Exposure.sha256 == picture.original_sha256, Exposure.original_sha256 == picture.original_sha256]
    return sa.or_(*same)


def _candidates(exposure_id: int) -> sa.Select[*tuple[Any, ...]]:
    """Other exposures with their frames; of a mosaic's four, which share all that matters, any."""
    columns = (Exposure.exposure_id, Exposure.path, Frame.instrument_id, Frame.jd_utc, Frame.time_sigma)
    query = sa.select(*columns).distinct().join(Frame, Frame.exposure_id == Exposure.exposure_id)
    return query.where(Exposure.duplicate_of.is_(None), Exposure.exposure_id != exposure_id).order_by(Exposure.exposure_id)


def _equal_pixels(exposure_id: int, picture: Picture) -> sa.Select[*tuple[Any, ...]]:
    return _candidates(exposure_id).where(Exposure.pixels_sha256 == picture.pixels_sha256)


def _at_the_time(exposure_id: int, picture: Picture) -> sa.Select[*tuple[Any, ...]]:
    """Other exposures of the camera at the same time, with other pixels."""
    near = Frame.jd_utc.between(picture.jd_utc - _SAME / _DAY, picture.jd_utc + _SAME / _DAY)
    other = Exposure.pixels_sha256 != picture.pixels_sha256
    return _candidates(exposure_id).where(Frame.instrument_id == picture.instrument_id, near, other)


def _at_one_time(row: Any, picture: Picture) -> bool:
    """Whether times do not differ. Headers of one picture may state it with more and fewer digits, and its pixels vouch for it."""
    apart = abs(row.jd_utc - picture.jd_utc) * _DAY
    if picture.featureless:
        return bool(apart <= _SAME and row.instrument_id == picture.instrument_id)
    return bool(apart <= _STATED + row.time_sigma + picture.time_sigma)


def _differ_as_compressed(session: Session, exposure_id: int, picture: Picture) -> bool:
    try:
        known = _read_any(session, exposure_id)
        new = read_raw(picture.path)
    except FrameUnusable:
        return False
    return differ_as_compressed(known.data, new.data, lossy=known.lossy or new.lossy)


def _read_any(session: Session, exposure_id: int) -> RawImage:
    return read_raw(raw_file(session, session.get_one(Exposure, exposure_id)))
