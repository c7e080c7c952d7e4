"""The photometric references of an archive's fields: which count, how they compare, and what people ask of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import ConfigurationError
from db.keys import next_id, now
from db.tables import (
    Base,
    BestSlot,
    Field,
    Frame,
    FrameField,
    FrameScore,
    FrameVerdict,
    LightcurveStatistics,
    LightShare,
    MagfitFoldReference,
    MagfitMap,
    MagfitReference,
    MagfitSolution,
    MagnitudeOffset,
    NightChange,
    NightMagnitude,
    NightNoise,
    NightStatistics,
    ReferenceMagnitude,
    ReferenceRequest,
    StandardSystem,
    TermScore,
)
from queries.dataframe import data_frame

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "accept_reference",
    "ask_reference",
    "compare_references",
    "counting_reference",
    "frame_scores",
    "list_references",
    "purge_references",
    "retract_reference",
    "term_scores",
]

#: Everything that is of one reference, apart from its row.
_OF_REFERENCE: tuple[type[Base], ...] = (
    *(MagfitSolution, MagfitMap, LightcurveStatistics, NightStatistics, NightMagnitude, NightChange, NightNoise, FrameVerdict, TermScore),
    *(MagfitFoldReference, ReferenceMagnitude, BestSlot, LightShare, FrameScore, StandardSystem, MagnitudeOffset),
)

_LIST = """
SELECT r.field_id, r.reference_id, r.status,
       CASE WHEN l.reference_id IS NOT NULL THEN 1 ELSE 0 END AS counts,
       r.is_held, r.n_night, r.n_frame, r.n_source, r.change, r.is_settled, r.fit_order, r.fit_terms,
       r.frame_id AS first_frame, r.zero_band, r.created, r.accepted,
       (SELECT count(DISTINCT c.night_id) FROM night_change c WHERE c.reference_id = r.reference_id) AS nights_fitted,
       (SELECT count(DISTINCT f.night_id) FROM frame_field ff
        JOIN frame f ON f.frame_id = ff.frame_id JOIN frame_photometry fp ON fp.frame_id = ff.frame_id
        WHERE ff.field_id = r.field_id) AS nights_measured,
       (SELECT count(*) FROM frame_verdict v WHERE v.reference_id = r.reference_id AND v.verdict = 'down-weighted') AS n_weighed,
       (SELECT count(*) FROM frame_verdict v WHERE v.reference_id = r.reference_id AND v.verdict = 'excluded') AS n_excluded,
       r.reason
FROM magfit_reference r
LEFT JOIN latest_reference l ON l.reference_id = r.reference_id
WHERE r.status <> 'iteration' AND (:field_id IS NULL OR r.field_id = :field_id)
ORDER BY r.field_id, r.reference_id"""

_COMPARE = """
SELECT floor(2.0 * n.mag) / 2.0 AS mag_from, count(*) AS n_star, avg(n.mag - o.mag) AS shift,
       sqrt(avg((n.mag - o.mag) * (n.mag - o.mag))) AS rms_difference,
       avg(o.scatter) AS old_scatter, avg(n.scatter) AS new_scatter,
       sum(CASE WHEN n.scatter < o.scatter THEN 1 ELSE 0 END) AS n_better
FROM best_slot b
JOIN reference_magnitude n ON n.reference_id = b.reference_id AND n.slot = b.slot AND n.source_id = b.source_id
JOIN reference_magnitude o ON o.reference_id = :old AND o.slot = b.slot AND o.source_id = b.source_id
WHERE b.reference_id = :new
GROUP BY floor(2.0 * n.mag) / 2.0
ORDER BY mag_from"""

_TERMS = """
SELECT number, name, n_term, is_chosen, loss, gain, gain_err, scatter FROM term_score WHERE reference_id = :reference_id ORDER BY number"""

_SCORES = """
SELECT s.frame_id, n.evening AS night, s.score, s.is_usable, s.fwhm_rank, s.sky_level_rank, s.n_star_rank, s.zero_point_rank,
       s.airmass_rank, s.zero_point_scatter_rank, s.ellipticity_rank
FROM frame_score s
JOIN frame f ON f.frame_id = s.frame_id
JOIN night n ON n.night_id = f.night_id
WHERE s.reference_id = :reference_id
ORDER BY s.score DESC, s.frame_id"""


def list_references(session: Session, field_id: int | None = None) -> pd.DataFrame:
    """References of a field, or of all, in the order in which they were made: whether each counts, from what, how far it settled."""
    if field_id is not None:
        _require_field(session, field_id)
    # PostgreSQL wants to know the type of a parameter that may be NULL.
    statement = sa.text(_LIST).bindparams(sa.bindparam("field_id", type_=sa.Integer))
    result = session.execute(statement, {"field_id": field_id})
    return data_frame(result.all(), list(result.keys()))


def frame_scores(session: Session, reference_id: int) -> pd.DataFrame:
    """The scores by which a reference's first frame was chosen, the best first.

    Raises
    ------
    ConfigurationError
        When there is no such reference.
    """
    _require_reference(session, reference_id)
    result = session.execute(sa.text(_SCORES), {"reference_id": reference_id})
    return data_frame(result.all(), list(result.keys()))


def term_scores(session: Session, reference_id: int) -> pd.DataFrame:
    """The orders and terms that were tried for the fits to a reference, as they were tried.

    Empty where they were given, and where stars are too few to choose by.

    Raises
    ------
    ConfigurationError
        When there is no such reference.
    """
    _require_reference(session, reference_id)
    result = session.execute(sa.text(_TERMS), {"reference_id": reference_id})
    return data_frame(result.all(), list(result.keys()))


def counting_reference(session: Session, field_id: int) -> MagfitReference:
    """The reference of a field that counts.

    Raises
    ------
    ConfigurationError
        When there is no such field, or it has none.
    """
    return _chosen(session, field_id, None, "accepted", newest=False)


def compare_references(session: Session, field_id: int, new: int | None = None, old: int | None = None) -> tuple[int, int, pd.DataFrame]:
    """Two references of a field star by star, by half magnitude, in the slot that the new one chose.

    Parameters
    ----------
    field_id : int
    new, old : int, optional
        reference_id of each; by default the newest that is accepted or a candidate, and the one before.

    Returns
    -------
    (int, int, DataFrame)
        The two references, and: stars, mean shift and rms difference (mag), mean scatter about either, stars that scatter less now.

    Raises
    ------
    ConfigurationError
        When the field does not have two references to compare, or not these.
    """
    _require_field(session, field_id)
    query = sa.select(MagfitReference.reference_id).where(
        MagfitReference.field_id == field_id, MagfitReference.status.in_(["accepted", "candidate", "retracted"])
    )
    known = sorted(session.execute(query).scalars())
    for given in (new, old):
        if given is not None and given not in known:
            raise _no_reference(given, field_id)
    chosen = new if new is not None else max((one for one in known if one != old), default=None)
    before = old if old is not None else max((one for one in known if chosen is not None and one < chosen), default=None)
    if chosen is None or before is None:
        raise ConfigurationError(
            f"field {field_id} has {len(known)} reference(s): there are not two to compare",
            hint="make another one with 'starledger reference new'",
            code="reference.alone",
        )
    result = session.execute(sa.text(_COMPARE), {"new": chosen, "old": before})
    return chosen, before, data_frame(result.all(), list(result.keys()))


def ask_reference(
    session: Session, field_id: int, reason: str, author: str, *, frame_id: int | None = None, hold: bool = False
) -> ReferenceRequest:
    """Ask for a new reference of a field; the next run of step magnitude_reference makes it. The caller commits.

    Parameters
    ----------
    frame_id : int, optional
        Frame to begin with, in place of the one of highest score; without it, the means of nights that are kept are averaged anew.
    hold : bool
        Nights are fitted to it, and it counts once a person accepts it.

    Raises
    ------
    ConfigurationError
        When there is no such field, the frame is not of it, or there is no reason.
    """
    _require_field(session, field_id)
    if frame_id is not None:
        of_frame = session.execute(sa.select(FrameField.field_id).where(FrameField.frame_id == frame_id)).scalar()
        if session.get(Frame, frame_id) is None or of_frame != field_id:
            raise ConfigurationError(
                f"frame {frame_id} is not one of field {field_id}", hint="see 'starledger frames list'", code="reference.frame"
            )
    return _ask(session, "new", field_id, None, reason, author, frame_id=frame_id, hold=hold)


def accept_reference(session: Session, field_id: int, reason: str, author: str, reference_id: int | None = None) -> MagfitReference:
    """Let a reference count for its field, whose light curves are its from then on. The caller commits.

    Parameters
    ----------
    reference_id : int, optional
        The newest candidate by default; a retracted or an older one counts again.

    Raises
    ------
    ConfigurationError
        When there is no such reference, its rows were purged, or it counts already.
    """
    made = _chosen(session, field_id, reference_id, "candidate", newest=True)
    if made.status not in ("candidate", "accepted", "retracted"):
        raise ConfigurationError(
            f"reference {made.reference_id} is {made.status}", hint="see 'starledger reference list'", code="reference.state"
        )
    if made is _counting(session, field_id):
        raise ConfigurationError(
            f"reference {made.reference_id} counts already", hint="see 'starledger reference list'", code="reference.state"
        )
    made.status, made.is_held, made.accepted = "accepted", 0, now()
    _ask(session, "accept", field_id, made.reference_id, reason, author)
    return made


def retract_reference(session: Session, field_id: int, reason: str, author: str, reference_id: int | None = None) -> MagfitReference | None:
    """Take a reference back: the one accepted before it counts again, and nights that were not fitted to that are pending.

    Parameters
    ----------
    reference_id : int, optional
        The one that counts by default.

    Returns
    -------
    MagfitReference or None
        The reference that counts now; None when the field has none: the next run makes one. The caller commits.

    Raises
    ------
    ConfigurationError
        When there is no such reference, or it was retracted before.
    """
    made = _chosen(session, field_id, reference_id, "accepted", newest=False)
    if made.status not in ("candidate", "accepted"):
        raise ConfigurationError(
            f"reference {made.reference_id} is {made.status}", hint="see 'starledger reference list'", code="reference.state"
        )
    made.status = "retracted"
    _ask(session, "retract", field_id, made.reference_id, reason, author)
    session.flush()
    return _counting(session, field_id)


def purge_references(session: Session, field_id: int, reason: str, author: str, *, keep: int = 2) -> list[int]:
    """Delete the rows of references that no light curve is of; the references themselves stay listed. The caller commits.

    Parameters
    ----------
    keep : int
        So many accepted ones stay, the newest: at least the one that counts.

    Returns
    -------
    list of int
        reference_id of those whose rows are gone.
    """
    if keep < 1:
        raise ConfigurationError(f"{keep} references kept", hint="keep at least 1, the one that counts", code="reference.keep")
    _require_field(session, field_id)
    mine = sa.select(MagfitReference).where(MagfitReference.field_id == field_id).order_by(MagfitReference.reference_id)
    made = list(session.execute(mine).scalars())
    accepted = sorted((each for each in made if each.status == "accepted"), key=lambda each: (each.accepted, each.reference_id))
    kept = {id(each) for each in accepted[-keep:]} | {id(each) for each in made if each.status in ("candidate", "purged")}
    gone = [each for each in made if id(each) not in kept]
    for each in gone:
        for table in _OF_REFERENCE:
            session.execute(sa.delete(table).where(table.__table__.c.reference_id == each.reference_id))
        session.execute(sa.delete(MagnitudeOffset).where(MagnitudeOffset.other_reference_id == each.reference_id))
        each.status = "purged"
        _ask(session, "purge", field_id, each.reference_id, reason, author)
    session.flush()
    return [each.reference_id for each in gone]


def _chosen(session: Session, field_id: int, reference_id: int | None, status: str, *, newest: bool) -> MagfitReference:
    """The reference that is meant: of the field, and by default the newest of a status, or the one that counts."""
    _require_field(session, field_id)
    if reference_id is not None:
        made = session.get(MagfitReference, reference_id)
        if made is None or made.field_id != field_id or made.status == "iteration":
            raise _no_reference(reference_id, field_id)
        return made
    query = sa.select(MagfitReference).where(MagfitReference.field_id == field_id, MagfitReference.status == status)
    ordered = query.order_by(MagfitReference.reference_id.desc()).limit(1)
    found = session.execute(ordered).scalar_one_or_none() if newest else _counting(session, field_id)
    if found is None:
        what = "candidate" if newest else "reference that counts"
        raise ConfigurationError(f"field {field_id} has no {what}", hint="see 'starledger reference list'", code="reference.unknown")
    return found


def _counting(session: Session, field_id: int) -> MagfitReference | None:
    text = sa.text("SELECT reference_id FROM latest_reference WHERE field_id = :field_id")
    found = session.execute(text, {"field_id": field_id}).scalar()
    return None if found is None else session.get(MagfitReference, found)


def _ask(
    session: Session,
    kind: str,
    field_id: int,
    reference_id: int | None,
    reason: str,
    author: str,
    *,
    frame_id: int | None = None,
    hold: bool = False,
) -> ReferenceRequest:
    if not reason.strip():
        raise ConfigurationError("references need a reason", hint='say why: --reason "..."', code="reference.reason")
    request = ReferenceRequest(
        request_id=next_id(session, ReferenceRequest.request_id),
        kind=kind,
        field_id=field_id,
        reference_id=reference_id,
        frame_id=frame_id,
        is_held=int(hold),
        reason=reason.strip(),
        author=author[:64],
        created=now(),
    )
    session.add(request)
    session.flush()
    return request


def _require_field(session: Session, field_id: int) -> None:
    if session.get(Field, field_id) is None:
        known = list(session.execute(sa.select(Field.field_id).order_by(Field.field_id).limit(20)).scalars())
        listed = f"known are {', '.join(str(one) for one in known)}" if known else "frames get fields when they are solved"
        raise ConfigurationError(f"no field with the id {field_id}", hint=listed, code="field.unknown")


def _require_reference(session: Session, reference_id: int) -> None:
    if session.get(MagfitReference, reference_id) is None:
        raise ConfigurationError(
            f"no reference with the id {reference_id}", hint="see 'starledger reference list'", code="reference.unknown"
        )


def _no_reference(reference_id: int, field_id: int) -> ConfigurationError:
    return ConfigurationError(
        f"no reference {reference_id} of field {field_id}", hint="see 'starledger reference list'", code="reference.unknown"
    )
