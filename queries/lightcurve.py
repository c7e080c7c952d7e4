"""The light curve of a source, read from the views."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.errors import NothingToDo
from db.fitted_points import CIRCUMSTANCES, fitted_points, points_of_source
from db.flags import FLAG_TEXT
from db.views import VIEW_COLUMNS
from queries.resolve import Found, resolve, resolve_position

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Curve", "curve_columns", "curve_frame", "find_curve", "light_curve", "nights_of", "provenance", "slot_text"]

_INTEGERS = ("source_id", "night_id", "frame_id", "field_id", "slot", "quality", "flags", "ref_id", "n_fit")


@dataclass(frozen=True)
class Curve:
    """The light curve of a source that was asked for.

    Attributes
    ----------
    found : Found
        The source.
    columns : dict
        Its points, an array for each column of the view, as from `curve_columns`; one at least.
    meta : dict
        Where they come from, as from `provenance`.
    """

    found: Found
    columns: dict[str, npt.NDArray[Any]]
    meta: dict[str, Any]

    @property
    def frame(self) -> pd.DataFrame:
        """Its points as a data frame, as from `light_curve`."""
        return curve_frame(self.columns)


def find_curve(connection: Connection, what: str | int | tuple[float, float], *, slot: int | None = None, radius: float = 10.0) -> Curve:
    """The light curve of what a person names.

    Parameters
    ----------
    connection : Connection
        To the archive.
    what : str, int or (float, float)
        A source id, a name or a position as `queries.resolve.resolve` reads them, or right ascension and declination in degrees.
    slot : int, optional
        A photometry slot; the best one of each field when omitted.
    radius : float
        Arcsec around a position in which the nearest source is taken.

    Raises
    ------
    ConfigurationError
        When `what` means no source.
    NothingToDo
        When the source has no light curve (in that slot).
    """
    if isinstance(what, tuple):
        found = resolve_position(connection, *what, radius=radius)
    else:
        found = resolve(connection, what, radius=radius)
    columns = curve_columns(connection, found.source_id, slot=slot)
    if not len(columns["source_id"]):
        which = f"source {found.source_id}" + (f" ({found.name})" if found.name else "")
        in_slot = "" if slot is None else f" in slot {slot}"
        raise NothingToDo(
            f"no light curve of {which}{in_slot}",
            hint="see 'starledger status': was its field measured and fitted?",
            code="lightcurve.empty",
        )
    return Curve(found, columns, provenance(connection, found, columns))


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
    return curve_frame(curve_columns(connection, source_id, slot=slot, nights=nights))


def curve_columns(
    connection: Connection, source_id: int, *, slot: int | None = None, nights: tuple[int, int] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """What `light_curve` gives, as an array for each column, `passband` of Python strings: printing it needs no pandas."""
    nights = nights or nights_of(connection, source_id)
    held = connection.execute(_HOLDS, {"source_id": source_id}).all() if nights is not None else []
    parts = [part for each in held if nights is not None for part in _in_field(connection, source_id, each, slot, nights)]
    names = [name for name in VIEW_COLUMNS if name != "passband"]
    columns = {name: np.concatenate([part[name] for part in parts]) if parts else np.zeros(0, _type(name)) for name in names}
    order = np.lexsort((columns["frame_id"], columns["bjd_tdb"]))
    passbands = {each.field_id: each.passband for each in held}
    columns = {name: values[order] for name, values in columns.items()}
    columns["passband"] = np.array([passbands[number] for number in columns["field_id"].tolist()], dtype=object)
    return {name: columns[name] for name in VIEW_COLUMNS}


#: References that hold a source, with its slot and fold there.
_HOLDS = sa.text(
    "SELECT r.field_id, r.reference_id, b.slot, b.fold, pb.name AS passband FROM latest_reference r"
    " JOIN best_slot b ON b.reference_id = r.reference_id JOIN field d ON d.field_id = r.field_id"
    " JOIN passband pb ON pb.passband_id = d.passband_id WHERE b.source_id = :source_id ORDER BY r.field_id"
)


def _in_field(
    connection: Connection, source_id: int, held: Any, slot: int | None, nights: tuple[int, int]
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """A source's points in one field, as the view computes them, from arrays: row by row the database takes ten times as long."""
    scope = points_of_source(held.field_id, held.reference_id, source_id, held.slot if slot is None else slot, held.fold, nights)
    for number, points in fitted_points(connection, scope, circumstances=list(CIRCUMSTANCES)):
        n = points.source_id.size
        same = {"field_id": held.field_id, "slot": number, "ref_id": held.reference_id}
        yield {
            **points.others,
            **{name: np.full(n, value, dtype=np.int64) for name, value in same.items()},
            **{name: getattr(points, name) for name in ("source_id", "frame_id", "quality", "bjd_tdb", "mag", "mag_err", "mag_err_total")},
            "flux": points.flux * points.exptime,
            "flux_err": points.photon_err * points.exptime,
        }


def curve_frame(columns: dict[str, npt.NDArray[Any]]) -> pd.DataFrame:
    """The columns of `curve_columns` as a data frame, as `light_curve` gives it."""
    import pandas as pd  # a quarter of a second: only for those who want a data frame

    typed = {name: pd.array(values.tolist(), dtype="str") if name == "passband" else values for name, values in columns.items()}
    return pd.DataFrame(typed)


def nights_of(connection: Connection, source_id: int) -> tuple[int, int] | None:
    """First and last night on which a field of the source was observed; None when no accepted reference holds it."""
    bounds = connection.execute(_NIGHTS_FITTED, {"source_id": source_id}).all()
    if not bounds:
        return None
    if any(bound is None for row in bounds for bound in row):
        bounds = connection.execute(_NIGHTS_OBSERVED, {"source_id": source_id}).all()
    known = [(int(first), int(last)) for first, last in [*bounds, *connection.execute(_NIGHTS_OPEN).all()] if first is not None]
    return (min(first for first, _ in known), max(last for _, last in known)) if known else None


_HELD = "FROM latest_reference r JOIN best_slot b ON b.reference_id = r.reference_id"
_OF_SLOT = "FROM night_change c WHERE c.reference_id = b.reference_id AND c.slot = b.slot"
#: By key, whatever the number of nights.
_NIGHTS_FITTED = sa.text(
    f"SELECT (SELECT min(c.night_id) {_OF_SLOT}), (SELECT max(c.night_id) {_OF_SLOT}) {_HELD} WHERE b.source_id = :source_id"
)
#: Frames of open nights are fitted one by one, and their nights have no row of changes yet.
_NIGHTS_OPEN = sa.text(
    "SELECT min(f.night_id), max(f.night_id) FROM task t JOIN frame f ON f.frame_id = t.frame_id"
    " WHERE t.step = 'frame_fit' AND t.status = 'done' AND t.is_stale IN (0, 1)"
)
#: References from before changes of nights were kept have all frames of their field looked at.
_NIGHTS_OBSERVED = sa.text(
    f"SELECT min(f.night_id), max(f.night_id) {_HELD} JOIN frame_field ff ON ff.field_id = r.field_id"
    " JOIN frame f ON f.frame_id = ff.frame_id WHERE b.source_id = :source_id"
)


def slot_text(connection: Connection, field_id: int, slot: int) -> str:
    """Description of a slot for a field's instrument, e.g. "circular aperture, radius 8 pixel"."""
    query = sa.text(
        "SELECT p.description FROM field f JOIN photometry_slot p ON p.instrument_id = f.instrument_id"
        " WHERE f.field_id = :field_id AND p.slot = :slot"
    )
    return str(connection.execute(query, {"field_id": field_id, "slot": slot}).scalar() or "")


def provenance(connection: Connection, found: Found, columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Where a light curve comes from: source, slots and references, archive, and the meaning of its flags."""
    slots = sorted(set(zip(columns["field_id"].tolist(), columns["slot"].tolist(), strict=True)))
    return {
        "source_id": found.source_id,
        "name": found.name or "",
        "ra": found.ra,
        "dec": found.dec,
        "separation": found.separation,
        "slots": {f"field {field}, slot {slot}": slot_text(connection, field, slot) for field, slot in slots},
        "references": sorted(int(value) for value in np.unique(columns["ref_id"])),
        "passbands": sorted(set(columns["passband"].tolist())),
        "n_point": len(columns["source_id"]),
        "n_mag": int(np.isfinite(columns["mag"]).sum()),
        "archive": connection.engine.url.render_as_string(hide_password=True),
        "time": "BJD_TDB, mid-exposure",
        "quality": "0 good, 1 flagged in the pixels, 2 masked by a person",
        "flags": {int(flag): f"{flag.name}: {text}" for flag, text in FLAG_TEXT.items()},
    }


def _type(name: str) -> type:
    return object if name == "passband" else np.int64 if name in _INTEGERS else np.float64
