"""The light curve of a source, read from the views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.views import VIEW_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["light_curve", "nights_of", "slot_text"]

_INTEGERS = ("source_id", "night_id", "frame_id", "field_id", "slot", "quality", "flags", "ref_id", "n_fit")


def light_curve(connection: Connection, source_id: int, *, slot: int | None = None, nights: tuple[int, int] | None = None) -> pd.DataFrame:
    """Every point of a source, in the order of time.

    Parameters
    ----------
    connection : Connection
        To the archive.
    source_id : int
        The source.
    slot : int, optional
        A photometry slot; the best one of each field when omitted.
    nights : (int, int), optional
        First and last night_id, both included; all nights when omitted.

    Returns
    -------
    pandas.DataFrame
        Exactly the columns of the view `light_curve`, in its order: identifiers
        and flags int64, `passband` text, all others float64 with NaN where the
        archive has NULL. No rows when the source was never measured or no
        reference was accepted.
    """
    view = "light_curve" if slot is None else "light_curve_all"
    nights = nights or nights_of(connection, source_id)
    if nights is None:
        return _frame([])
    # A range of bjd_tdb cannot prune partitions: the nights can.
    conditions = "source_id = :source_id AND night_id BETWEEN :first AND :last" + ("" if slot is None else " AND slot = :slot")
    query = sa.text(f"SELECT {', '.join(VIEW_COLUMNS)} FROM {view} WHERE {conditions} ORDER BY bjd_tdb, frame_id")
    parameters = {"source_id": source_id, "first": nights[0], "last": nights[1], **({} if slot is None else {"slot": slot})}
    return _frame(connection.execute(query, parameters).all())


def nights_of(connection: Connection, source_id: int) -> tuple[int, int] | None:
    """First and last night on which a field of the source was observed; None when no accepted reference holds it."""
    query = sa.text(
        "SELECT min(f.night_id), max(f.night_id) FROM latest_reference r"
        " JOIN best_slot b ON b.reference_id = r.reference_id JOIN frame_field ff ON ff.field_id = r.field_id"
        " JOIN frame f ON f.frame_id = ff.frame_id WHERE b.source_id = :source_id"
    )
    first, last = connection.execute(query, {"source_id": source_id}).one()
    return None if first is None else (int(first), int(last))


def slot_text(connection: Connection, field_id: int, slot: int) -> str:
    """What a slot holds for a field's instrument, in words, e.g. "circular aperture, radius 8 pixel"."""
    query = sa.text(
        "SELECT p.description FROM field f JOIN photometry_slot p ON p.instrument_id = f.instrument_id"
        " WHERE f.field_id = :field_id AND p.slot = :slot"
    )
    return str(connection.execute(query, {"field_id": field_id, "slot": slot}).scalar() or "")


def _frame(rows: Any) -> pd.DataFrame:
    import pandas as pd

    columns = zip(*rows, strict=True) if len(rows) else ([] for _ in VIEW_COLUMNS)
    return pd.DataFrame({name: _typed(name, list(values)) for name, values in zip(VIEW_COLUMNS, columns, strict=True)})


def _typed(name: str, values: list[Any]) -> Any:
    if name == "passband":
        import pandas as pd

        return pd.array(values, dtype="str")
    return np.array(values, dtype=np.int64 if name in _INTEGERS else np.float64)
