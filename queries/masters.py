"""The master frames of an archive, and a person's choices among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import ConfigurationError
from db.keys import next_id, now
from db.tables import Frame, Master, MasterChoice, Night
from queries.dataframe import data_frame

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KINDS", "choose_master", "list_choices", "list_masters", "refuse_masters", "take_back_choice"]

#: Kinds of masters that can be chosen for a frame.
KINDS = ("bias", "dark", "flat")

_MASTERS = """
SELECT m.master_id, m.kind, n.evening AS night, i.name AS instrument, s.binning_x, s.gain_setting, m.channel, b.name AS passband, m.exptime,
       m.ccd_temperature, m.n_frame, m.n_rejected, m.n_bad_pixel, m.level, m.noise,
       CASE WHEN p.is_bad = 1 THEN 'bad: ' || p.bad_reason
            WHEN p.superseded_by IS NOT NULL OR t.status <> 'done' THEN 'superseded'
            WHEN NOT EXISTS (SELECT 1 FROM good_master g WHERE g.master_id = m.master_id) THEN 'stale'
            ELSE 'good' END AS state,
       (SELECT count(*) FROM calibrated_frame c
        WHERE m.master_id IN (c.bias_master_id, c.dark_master_id, c.flat_master_id)) AS n_used,
       m.warning, p.path, p.product_id
FROM master m
JOIN setup s ON s.setup_id = m.setup_id
JOIN instrument i ON i.instrument_id = s.instrument_id
JOIN night n ON n.night_id = m.night_id
JOIN product p ON p.product_id = m.product_id
JOIN task t ON t.task_id = m.task_id
LEFT JOIN passband b ON b.passband_id = m.passband_id
WHERE :whole = 1 OR (p.superseded_by IS NULL AND t.status = 'done')
ORDER BY m.jd_utc, m.kind, m.master_id"""

_CHOICES = """
SELECT k.choice_id, k.kind, k.master_id, k.setup_id, k.channel, n.evening AS night, k.frame_id, k.is_active, k.reason, k.author, k.created
FROM master_choice k
LEFT JOIN night n ON n.night_id = k.night_id
ORDER BY k.choice_id"""


def list_masters(session: Session, *, whole: bool = False) -> pd.DataFrame:
    """The masters in order of time, with their state: good, bad (and why), stale or, with `whole`, superseded."""
    result = session.execute(sa.text(_MASTERS), {"whole": int(whole)})
    return data_frame(result.all(), list(result.keys()))


def list_choices(session: Session) -> pd.DataFrame:
    """A person's choices, in the order in which they were made."""
    result = session.execute(sa.text(_CHOICES))
    return data_frame(result.all(), list(result.keys()))


def choose_master(
    session: Session, master_id: int, reason: str, author: str, *, night: str | None = None, frame_id: int | None = None
) -> MasterChoice:
    """Use a master for the frames of a night (or for one frame) of its set-up and channel, whatever the rule says. The caller commits.

    Parameters
    ----------
    master_id : int
        The master.
    night : str, optional
        The night's evening (ISO date).
    frame_id : int, optional
        The frame; either this or `night` must be given.

    Raises
    ------
    ConfigurationError
        When there is no such master, night or frame, the master is not good, the night has no frame of its set-up and channel, or the
        frame is of another, or there is no reason.
    """
    master = session.get(Master, master_id)
    if master is None:
        raise ConfigurationError(f"no master with the id {master_id}", hint="see 'starledger masters list'", code="master.unknown")
    if master.kind not in KINDS:
        raise ConfigurationError(
            f"master {master_id} is a {master.kind}, which no frame is calibrated with",
            hint=f"choose a {', '.join(KINDS)}",
            code="master.kind",
        )
    _require_good(session, master_id)
    night_id = _place(session, night, frame_id)
    mine = (Frame.setup_id == master.setup_id, Frame.channel == master.channel, Frame.night_id == night_id)
    if night_id is not None and session.execute(sa.select(Frame.frame_id).where(*mine).limit(1)).first() is None:
        raise ConfigurationError(
            f"no frame of night {night} is of set-up {master.setup_id} {master.channel}, as master {master_id} is",
            hint="choose a master of the frames' own set-up and channel",
            code="master.setup",
        )
    if frame_id is not None:
        frame = session.get_one(Frame, frame_id)
        if (frame.setup_id, frame.channel) != (master.setup_id, master.channel):
            raise ConfigurationError(
                f"master {master_id} is of set-up {master.setup_id} {master.channel}, frame {frame_id} of {frame.setup_id} {frame.channel}",
                hint="choose a master of the frame's own set-up and channel",
                code="master.setup",
            )
    return _add(session, master.kind, master.setup_id, master.channel, master_id, night_id, frame_id, reason, author)


def refuse_masters(
    session: Session, kind: str, reason: str, author: str, *, night: str | None = None, frame_id: int | None = None
) -> list[MasterChoice]:
    """Use no master of a kind for the frames of a night, or for one frame. The caller commits.

    Raises
    ------
    ConfigurationError
        When there is no such kind, night or frame, or no reason.
    """
    if kind not in KINDS:
        raise ConfigurationError(f"no kind {kind!r}", hint=f"known are {', '.join(KINDS)}", code="master.kind")
    night_id = _place(session, night, frame_id)
    mine = Frame.frame_id == frame_id if frame_id is not None else Frame.night_id == night_id
    setups = session.execute(sa.select(Frame.setup_id, Frame.channel).where(mine).distinct().order_by(Frame.setup_id, Frame.channel)).all()
    return [_add(session, kind, row.setup_id, row.channel, None, night_id, frame_id, reason, author) for row in setups]


def take_back_choice(session: Session, choice_id: int) -> MasterChoice:
    """Let the rule decide again. The caller commits.

    Raises
    ------
    ConfigurationError
        When there is no such choice, or it was taken back before.
    """
    choice = session.get(MasterChoice, choice_id)
    if choice is None or not choice.is_active:
        raise ConfigurationError(f"no choice {choice_id} in force", hint="see 'starledger masters choices'", code="choice.unknown")
    choice.is_active = 0
    session.flush()
    return choice


def _require_good(session: Session, master_id: int) -> None:
    state = session.execute(sa.text(f"SELECT state FROM ({_MASTERS}) s WHERE master_id = :id"), {"whole": 1, "id": master_id}).scalar_one()
    if state != "good":
        raise ConfigurationError(
            f"master {master_id} is {state}",
            hint="choose a good one ('starledger masters list'), or look at all with 'starledger masters list --all'",
            code="master.state",
        )


def _place(session: Session, night: str | None, frame_id: int | None) -> int | None:
    """The night's id, or None for a frame."""
    if (night is None) == (frame_id is None):
        raise ConfigurationError("a choice is for a night or for a frame", hint="give either --night or --frame", code="choice.place")
    if frame_id is not None:
        if session.get(Frame, frame_id) is None:
            raise ConfigurationError(f"no frame with the id {frame_id}", hint="see 'starledger frames list'", code="frame.unknown")
        return None
    found = session.execute(sa.select(Night.night_id).where(Night.evening == night)).scalar()
    if found is None:
        raise ConfigurationError(
            f"no frame of the night of {night}", hint="give the evening's local date, such as 2017-12-19", code="night.unknown"
        )
    return int(found)


def _add(
    session: Session,
    kind: str,
    setup_id: int,
    channel: str,
    master_id: int | None,
    night_id: int | None,
    frame_id: int | None,
    reason: str,
    author: str,
) -> MasterChoice:
    if not reason.strip():
        raise ConfigurationError("a choice needs a reason", hint='say why: --reason "..."', code="choice.reason")
    choice = MasterChoice(
        choice_id=next_id(session, MasterChoice.choice_id),
        kind=kind,
        setup_id=setup_id,
        channel=channel,
        master_id=master_id,
        night_id=night_id,
        frame_id=frame_id,
        is_active=1,
        reason=reason.strip(),
        author=author[:64],
        created=now(),
    )
    session.add(choice)
    session.flush()
    return choice
