"""Which instrument a frame is of: cameras of one name are told apart by what their definition names under `identity`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.keys import next_id
from db.tables import Instrument
from reduction.headers.facts import Facts
from reduction.headers.identity import SITE, differing, in_words
from reduction.pipeline.declaration import Rows, canonical

__all__ = ["Camera", "camera_of", "may_be_of", "one_camera"]

_SERIAL = "camera_serial"
#: Length of the column instrument.name.
_LONGEST = 128


@dataclass(frozen=True)
class Camera:
    """The instrument of a frame, the rows that say so, and what is to be noted of it."""

    instrument_id: int
    rows: tuple[Rows, ...] = ()
    note: str = ""


def camera_of(session: Session, found: Facts, shape: tuple[int, int]) -> Camera:
    """The instrument that a frame is of, or a new one.

    Parameters
    ----------
    session : Session
        The writer's.
    found : Facts
        Of its header.
    shape : (int, int)
        Height and width of the raw frame.

    Returns
    -------
    Camera
        Of the instruments of this label and size none of whose facts contradicts the frame's, the one that shares most of them. A fact
        that a header does not have contradicts nothing; where several instruments would do alike, it is a further one, with a note.
    """
    known = _instruments(session, found, shape)
    fitting = {key: identity for key, (_, identity) in known.items() if not differing(identity, found.identity, _rule(identity, found))}
    mine = set(found.identity) & set(found.told_by)
    exact = [key for key, identity in fitting.items() if mine == set(identity) & set(found.told_by)]
    shared = {key: len(mine & set(identity)) for key, identity in fitting.items()}
    most = [key for key, number in shared.items() if number == max(shared.values())]
    chosen = exact[:1] or (most if len(most) == 1 and (shared[most[0]] or len(known) == 1) else [])
    if not chosen:
        return _further(session, found, shape, known, ambiguous=bool(fitting))
    name, identity = known[chosen[0]]
    return Camera(chosen[0], _filled_in(chosen[0], identity, found), _note(name, identity, found))


def one_camera(one: Facts, other: Facts) -> bool:
    """Whether two headers may be of one camera, as far as they say: no fact that tells cameras apart differs."""
    return one.instrument == other.instrument and not differing(other.identity, one.identity, _rule(other.identity, one))


def may_be_of(session: Session, found: Facts) -> list[int]:
    """instrument_id of the instruments, of whatever size of frame, that a header may be of."""
    known = _instruments(session, found)
    return [key for key, (_, identity) in known.items() if not differing(identity, found.identity, _rule(identity, found))]


def _instruments(session: Session, found: Facts, shape: tuple[int, int] | None = None) -> dict[int, tuple[str, dict[str, Any]]]:
    """Instruments of the frame's label and size: name and identity, by key, the oldest first."""
    query = sa.select(Instrument.instrument_id, Instrument.name, Instrument.identity).order_by(Instrument.instrument_id)
    if shape is not None:
        query = query.where(Instrument.nx == shape[1], Instrument.ny == shape[0])
    listed = {row.instrument_id: (row.name, json.loads(row.identity) if row.identity else {}) for row in session.execute(query)}
    return {key: (name, identity) for key, (name, identity) in listed.items() if identity.get("label", name) == found.instrument}


def _rule(identity: Mapping[str, Any], found: Facts) -> Sequence[str]:
    """The facts that separate: a camera whose serial number is the same may travel."""
    same_camera = _SERIAL in identity and _SERIAL in found.identity and not differing(identity, found.identity, [_SERIAL])
    return [fact for fact in found.told_by if not (fact == SITE and same_camera and _SERIAL in found.told_by)]


def _filled_in(instrument_id: int, identity: Mapping[str, Any], found: Facts) -> tuple[Rows, ...]:
    """What the frame adds to what is known of its camera."""
    more = {"label": found.instrument, **found.identity, **identity}
    if more == identity:
        return ()
    return (Rows(Instrument, {"instrument_id": instrument_id, "identity": canonical(more)}, upsert=True),)


def _note(name: str, identity: Mapping[str, Any], found: Facts) -> str:
    others = differing(identity, found.identity, list(found.identity))
    told = [f"{in_words(fact, found.identity[fact])}, where {name} had {in_words(fact, identity[fact])} before" for fact in others]
    return f"{', '.join(told)}: taken as one instrument" if told else ""


def _further(
    session: Session, found: Facts, shape: tuple[int, int], known: Mapping[int, tuple[str, Mapping[str, Any]]], *, ambiguous: bool
) -> Camera:
    instrument_id = next_id(session, Instrument.instrument_id)
    names = {name for name, _ in known.values()}
    note = ""
    name = found.instrument
    if known:
        told = ", ".join(in_words(fact, found.identity[fact]) for fact in found.told_by if fact in found.identity) or "not said which"
        name = _fresh(found.instrument, told, names)
        if ambiguous:
            note = f"the header does not say which of {', '.join(sorted(names))} it is of: taken as a further instrument"
    columns = {"instrument_id": instrument_id, "name": name, "nx": shape[1], "ny": shape[0], "definition": found.definition}
    identity = canonical({"label": found.instrument, **found.identity})
    return Camera(instrument_id, (Rows(Instrument, {**columns, "identity": identity}, upsert=True),), note)


def _fresh(label: str, told: str, names: set[str]) -> str:
    """A name that no instrument has yet: the label, and what tells it from the first of that label."""
    for number in range(1, len(names) + 2):
        behind = f" ({told})" if number == 1 else f" ({told}) {number}"
        name = label[: _LONGEST - len(behind)] + behind if len(behind) < _LONGEST else f"{label[:100]} {number}"
        if name not in names:
            return name
    raise AssertionError("more names than instruments")
