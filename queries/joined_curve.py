"""The points of one source from several fields, cameras and channels on one scale, by the offsets between their references."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import TypeAlias

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.tables import MagnitudeOffset, Source
from queries.lightcurve import Curve, find_curve

__all__ = ["JOINED_COLUMNS", "find_joined_curve", "join_curve"]

#: Columns that a joined curve has beside those of the view: unit and meaning.
JOINED_COLUMNS: dict[str, tuple[str, str]] = {
    "scale": ("", "Points of one number are on one scale: that of the passband's field and slot with most points, 1, 2 ... by passband"),
    "joined_mag": ("mag", "Fitted magnitude on that scale"),
    "join_err": ("mag", "Error of what brought it there, which the field's points share; 0 where nothing had to be brought"),
}

#: Reference and slot.
_Node: TypeAlias = tuple[int, int]
#: Reference, slot and passband.
_Key: TypeAlias = tuple[int, int, str]


@dataclass(frozen=True)
class _Step:
    """What is added to a magnitude to bring it from one reference and slot to another (mag), with the variance of it."""

    shift: float
    variance: float
    n_star: int


def find_joined_curve(
    connection: Connection, what: str | int | tuple[float, float], *, slot: int | None = None, radius: float = 10.0
) -> Curve:
    """The light curve of what a person names, joined; parameters and errors as for `queries.lightcurve.find_curve`."""
    return join_curve(connection, find_curve(connection, what, slot=slot, radius=radius))


def join_curve(connection: Connection, curve: Curve) -> Curve:
    """A light curve with three columns more: its points of each passband on one scale, where common stars say how.

    Of each passband the points of that reference and slot stay as they are that are most; others are brought to their scale, by the way
    of the least error: an offset between the two, or several over others of the curve. What no offset leads to stays on a scale of its
    own, and `meta["scales"]` says so.

    Parameters
    ----------
    connection : Connection
        To the archive.
    curve : Curve
        As from `queries.lightcurve.find_curve`.

    Returns
    -------
    Curve
        `columns` has those of `JOINED_COLUMNS` behind the others; `meta["scales"]` a text for each field and slot.
    """
    columns = curve.columns
    keys: list[_Key] = list(zip(columns["ref_id"].tolist(), columns["slot"].tolist(), columns["passband"].tolist(), strict=True))
    steps = _steps(connection, {ref for ref, _, _ in keys}, *_colour(connection, curve.found.source_id))
    scale: dict[_Key, int] = {}
    brought: dict[_Key, _Step] = {}
    said: dict[_Key, str] = {}
    rest = [key for key, _ in sorted(Counter(keys).items(), key=lambda item: (item[0][2], -item[1], item[0]))]
    for here in count(1):
        if not rest:
            break
        anchor = rest[0]
        ways = _ways(steps, anchor[:2])
        joined = [key for key in rest if key[2] == anchor[2] and key[:2] in ways]
        scale |= dict.fromkeys(joined, here)
        brought |= {key: ways[key[:2]] for key in joined}
        said |= {key: _words(key, anchor, ways[key[:2]], here) for key in joined}
        rest = [key for key in rest if key not in scale]
    added = {
        "scale": np.array([scale[key] for key in keys], dtype=np.int64),
        "joined_mag": columns["mag"] + np.array([brought[key].shift for key in keys]),
        "join_err": np.array([brought[key].variance ** 0.5 for key in keys]),
    }
    fields = dict(zip(keys, columns["field_id"].tolist(), strict=True))
    scales = {f"{key[2]}, field {fields[key]}, slot {key[1]}": text for key, text in said.items()}
    return Curve(curve.found, {**columns, **added}, {**curve.meta, "scales": scales})


def _words(key: _Key, anchor: _Key, step: _Step, scale: int) -> str:
    if key == anchor:
        return f"scale {scale}, as it is"
    return f"scale {scale}, {step.shift:+.4f} +- {step.variance**0.5:.4f} mag from {step.n_star} common stars"


def _colour(connection: Connection, source_id: int) -> tuple[float, bool]:
    query = sa.select(Source.fit_colour, Source.colour_measured).where(Source.source_id == source_id)
    colour, measured = connection.execute(query).one()
    return float(colour), bool(measured)


def _steps(connection: Connection, references: Iterable[int], colour: float, measured: bool) -> dict[_Node, dict[_Node, _Step]]:
    """What the offsets between some references say of a star of that colour, both ways."""
    ids = sorted(references)
    d = MagnitudeOffset
    query = sa.select(
        d.reference_id, d.slot, d.other_reference_id, d.other_slot, d.zero_point, d.zero_point_err, d.colour_term, d.colour_term_err,
        d.colour_pivot, d.colour_scatter, d.excess, d.n_star,
    ).where(d.reference_id.in_(ids), d.other_reference_id.in_(ids))  # fmt: skip
    found: dict[_Node, dict[_Node, _Step]] = {}
    for row in connection.execute(query):
        off = colour - row.colour_pivot if measured and row.colour_pivot is not None else 0.0
        assumed = 0.0 if measured else (row.colour_term * row.colour_scatter) ** 2
        difference = row.zero_point + row.colour_term * off
        variance = row.zero_point_err**2 + (row.colour_term_err * off) ** 2 + row.excess**2 + assumed
        one, other = (row.reference_id, row.slot), (row.other_reference_id, row.other_slot)
        found.setdefault(one, {})[other] = _Step(-difference, variance, row.n_star)
        found.setdefault(other, {})[one] = _Step(difference, variance, row.n_star)
    return found


def _ways(steps: Mapping[_Node, Mapping[_Node, _Step]], anchor: _Node) -> dict[_Node, _Step]:
    """What brings each reference and slot to the anchor, by the way of the least error; those that no way leads from are not there."""
    done: dict[_Node, _Step] = {}
    order = count()
    queue = [(0.0, next(order), anchor, _Step(0.0, 0.0, 0))]
    while queue:
        _, _, node, way = heappop(queue)
        if node in done:
            continue
        done[node] = way
        for following, step in steps.get(node, {}).items():
            # The step leads from this one to the following, and is gone backwards.
            fewest = min(way.n_star or step.n_star, step.n_star)
            longer = _Step(way.shift - step.shift, way.variance + step.variance, fewest)
            heappush(queue, (longer.variance, next(order), following, longer))
    return done
