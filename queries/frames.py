"""The frames of an archive: what each was taken for, on what evidence, and a person's corrections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import ConfigurationError
from db.keys import next_id, now
from db.tables import Exposure, Frame, KeptFrame, PsfChoice, PsfMap, SharedPsf, Task, TypeCorrection
from queries.dataframe import data_frame

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "TYPES",
    "correct_type",
    "judge_frame",
    "keep_frame",
    "list_frames",
    "list_verdicts",
    "psf_choice_rows",
    "psf_row",
    "take_back_correction",
]

TYPES = ("bias", "dark", "flat", "object", "other")

_FRAMES = """
SELECT f.frame_id, n.evening AS night, e.path, f.channel, c.type, c.confidence, e.header_type AS header,
       c.disagrees, f.exptime, p.name AS passband, s.gain_setting, e.ccd_temperature, f.jd_utc,
       c.reason, c.evidence,
       (SELECT min(t.step || ': ' || t.message) FROM task t WHERE t.frame_id = f.frame_id AND t.status = 'failed') AS failure
FROM frame f
JOIN exposure e ON e.exposure_id = f.exposure_id
JOIN night n ON n.night_id = f.night_id
JOIN passband p ON p.passband_id = f.passband_id
JOIN setup s ON s.setup_id = f.setup_id
LEFT JOIN classification c ON c.frame_id = f.frame_id
WHERE (CAST(:night AS TEXT) IS NULL OR n.evening = :night)
  AND (CAST(:type AS TEXT) IS NULL OR c.type = :type)
  AND (:doubtful = 0 OR c.disagrees = 1 OR c.confidence < 0.9)
ORDER BY f.jd_utc, f.frame_id"""

_VERDICTS = """
SELECT v.frame_id, n.evening AS night, e.path, v.verdict, v.factor, v.is_overruled, v.reason, v.extinction, v.pattern, v.pattern_sigma,
       v.scatter_ratio, v.fwhm_ratio, v.elongation, v.sky_ratio, k.reason AS kept_because, k.author AS kept_by,
       r.field_id, v.reference_id, f.jd_utc
FROM latest_reference r
JOIN frame_verdict v ON v.reference_id = r.reference_id
JOIN frame f ON f.frame_id = v.frame_id
JOIN exposure e ON e.exposure_id = f.exposure_id
JOIN night n ON n.night_id = f.night_id
LEFT JOIN kept_frame k ON k.frame_id = v.frame_id
WHERE (CAST(:night AS TEXT) IS NULL OR n.evening = :night)
  AND (:whole = 1 OR v.reason IS NOT NULL OR v.verdict <> 'kept' OR k.frame_id IS NOT NULL)
ORDER BY f.jd_utc, f.frame_id"""


def psf_row(session: Session, frame_id: int) -> PsfMap:
    """The profile map of a frame.

    Raises
    ------
    ConfigurationError
        When it has none.
    """
    row = session.get(PsfMap, frame_id)
    if row is None:
        raise ConfigurationError(
            "has no profile map",
            where=f"frame {frame_id}",
            hint="'starledger reduce' makes one for every solved object frame",
            code="psf.none",
        )
    return row


def psf_choice_rows(session: Session, frame_id: int) -> tuple[PsfChoice, SharedPsf | None] | None:
    """Which profile map a few-starred frame is measured with, and the shared map where it is that.

    Returns
    -------
    tuple or None
        None for a frame that nothing was chosen for: it is measured with its own.
    """
    choice = session.execute(
        sa.select(PsfChoice).join(Task, Task.task_id == PsfChoice.task_id).where(PsfChoice.frame_id == frame_id, Task.status == "done")
    ).scalar_one_or_none()
    if choice is None:
        return None
    frame = session.get_one(Frame, frame_id)
    key = (frame.setup_id, frame.channel, frame.night_id, choice.number)
    return choice, session.get(SharedPsf, key) if choice.uses == "shared" else None


def list_frames(session: Session, *, night: str | None = None, type: str | None = None, doubtful: bool = False) -> pd.DataFrame:  # noqa: A002
    """The frames in order of time, with type, confidence, reason and evidence.

    Parameters
    ----------
    night : str, optional
        Only those of the night of this evening (ISO date).
    type : str, optional
        Only those of this type.
    doubtful : bool
        Only those of which header and pixels say different things, or that are not sure.

    Raises
    ------
    ConfigurationError
        When there is no such type.
    """
    if type is not None:
        _require_type(type)
    result = session.execute(sa.text(_FRAMES), {"night": night, "type": type, "doubtful": int(doubtful)})
    return data_frame(result.all(), list(result.keys()))


def correct_type(session: Session, frame_id: int, type: str, reason: str, author: str) -> TypeCorrection:  # noqa: A002
    """Say what an exposure is; this wins over pixels and header. The caller commits.

    All channels of the frame's exposure take it, and the next run makes anew what depends on it.

    Raises
    ------
    ConfigurationError
        When there is no such frame or type, or no reason.
    """
    _require_type(type)
    return _add(session, _exposure_of(session, frame_id), type, reason, author)


def take_back_correction(session: Session, frame_id: int, author: str) -> TypeCorrection:
    """Take back the correction of a frame's exposure: pixels and header decide again. The caller commits.

    Raises
    ------
    ConfigurationError
        When there is no such frame, or nobody corrected it.
    """
    exposure_id = _exposure_of(session, frame_id)
    query = sa.select(TypeCorrection.type).where(TypeCorrection.exposure_id == exposure_id)
    if session.execute(query.order_by(TypeCorrection.correction_id.desc()).limit(1)).scalar() is None:
        raise ConfigurationError(f"frame {frame_id} has no correction", hint="see 'starledger frames list'", code="correction.none")
    return _add(session, exposure_id, None, "taken back", author)


def list_verdicts(session: Session, *, night: str | None = None, whole: bool = False) -> pd.DataFrame:
    """What the magnitude fit made of the frames, in order of time: verdict, reason, numbers, and who keeps it all the same.

    Parameters
    ----------
    night : str, optional
        Only those of the night of this evening (ISO date).
    whole : bool
        Also the frames of which there is nothing to say.
    """
    result = session.execute(sa.text(_VERDICTS), {"night": night, "whole": int(whole)})
    return data_frame(result.all(), list(result.keys()))


def keep_frame(session: Session, frame_id: int, reason: str, author: str) -> KeptFrame:
    """Keep a frame, whatever the magnitude fit makes of it. The caller commits; the next run fits its night anew.

    Raises
    ------
    ConfigurationError
        When there is no such frame, or no reason.
    """
    _exposure_of(session, frame_id)
    if not reason.strip():
        raise ConfigurationError("who keeps a frame needs a reason", hint='say why: --reason "..."', code="keep.reason")
    kept = session.merge(KeptFrame(frame_id=frame_id, reason=reason.strip(), author=author[:64], created=now()))
    session.flush()
    return kept


def judge_frame(session: Session, frame_id: int) -> None:
    """Let the magnitude fit judge a frame again that a person kept. The caller commits.

    Raises
    ------
    ConfigurationError
        When nobody keeps it.
    """
    kept = session.get(KeptFrame, frame_id)
    if kept is None:
        raise ConfigurationError(f"nobody keeps frame {frame_id}", hint="see 'starledger frames quality'", code="keep.none")
    session.delete(kept)
    session.flush()


def _add(session: Session, exposure_id: int, type: str | None, reason: str, author: str) -> TypeCorrection:  # noqa: A002
    if not reason.strip():
        raise ConfigurationError("a correction needs a reason", hint='say why: --reason "..."', code="correction.reason")
    correction = TypeCorrection(
        correction_id=next_id(session, TypeCorrection.correction_id),
        exposure_id=exposure_id,
        type=type,
        reason=reason.strip(),
        author=author[:64],
        created=now(),
    )
    session.add(correction)
    session.flush()
    return correction


def _exposure_of(session: Session, frame_id: int) -> int:
    query = sa.select(Frame.exposure_id).join(Exposure, Exposure.exposure_id == Frame.exposure_id).where(Frame.frame_id == frame_id)
    found = session.execute(query).scalar()
    if found is None:
        raise ConfigurationError(f"no frame with the id {frame_id}", hint="see 'starledger frames list'", code="frame.unknown")
    return int(found)


def _require_type(type: str) -> None:  # noqa: A002
    if type not in TYPES:
        raise ConfigurationError(f"no type {type!r}", hint=f"known are {', '.join(TYPES)}", code="frame.type")
