"""Points of several fields on one scale: ways, signs and errors, with offsets made up by hand."""

from __future__ import annotations

import numpy as np
import pytest
import sqlalchemy as sa
from small_archive import SmallArchive

from db.tables import MagnitudeOffset
from queries.joined_curve import JOINED_COLUMNS, join_curve
from queries.lightcurve import Curve
from queries.resolve import Found

COLOUR = 0.5  # of the target


def offset(later: int, earlier: int, zero_point: float, error: float, **more: float) -> dict[str, float]:
    """The later reference's magnitudes minus the earlier one's, both in slot 1."""
    row = dict.fromkeys((column.name for column in MagnitudeOffset.__table__.c), 0.0)
    place = {"reference_id": later, "other_reference_id": earlier, "slot": 1, "other_slot": 1, "task_id": 1}
    return {**row, **place, "zero_point": zero_point, "zero_point_err": error, "colour_pivot": COLOUR, "n_star": 100, **more}


def curve_of(small: SmallArchive, *parts: tuple[int, str, int]) -> Curve:
    """Points of magnitude 10 in reference, passband, so many of each; a field has the number of its reference."""
    reference = np.repeat([part[0] for part in parts], [part[2] for part in parts])
    passband = np.repeat(np.array([part[1] for part in parts], dtype=object), [part[2] for part in parts])
    columns = {"ref_id": reference, "field_id": reference, "slot": np.ones(len(reference), int), "passband": passband}
    found = Found(small.target, None, 0.0, 0.0, 10.0, None)
    return Curve(found, {**columns, "mag": np.full(len(reference), 10.0)}, {"n_point": len(reference)})


def joined(small: SmallArchive, curve: Curve, *offsets: dict[str, float]) -> tuple[dict[int, tuple[int, float, float]], dict[str, str]]:
    """Scale, magnitude and error of each reference's points, which are all alike; and what is said of them."""
    with small.engine.begin() as connection:
        if offsets:
            connection.execute(sa.insert(MagnitudeOffset), list(offsets))
        made = join_curve(connection, curve)
        connection.execute(sa.delete(MagnitudeOffset))
    assert list(made.columns) == [*curve.columns, *JOINED_COLUMNS]
    rows = zip(*(made.columns[name].tolist() for name in ("ref_id", *JOINED_COLUMNS)), strict=True)
    values = {(ref, scale, round(mag, 9), round(error, 9)) for ref, scale, mag, error in rows}
    assert len(values) == len({ref for ref, *_ in values})
    return {ref: (scale, mag, error) for ref, scale, mag, error in values}, made.meta["scales"]


def test_an_offset_is_gone_either_way(fresh: SmallArchive) -> None:
    """The field with more points stays as it is, whichever is the later one."""
    found, said = joined(fresh, curve_of(fresh, (5, "V", 3), (8, "V", 2)), offset(8, 5, 0.02, 0.003))
    assert found == {5: (1, 10.0, 0.0), 8: (1, 9.98, 0.003)}
    assert said["V, field 8, slot 1"] == "scale 1, -0.0200 +- 0.0030 mag from 100 common stars"
    found, _ = joined(fresh, curve_of(fresh, (5, "V", 2), (8, "V", 3)), offset(8, 5, 0.02, 0.003))
    assert found == {8: (1, 10.0, 0.0), 5: (1, 10.02, 0.003)}


def test_the_way_of_the_least_error_is_taken(fresh: SmallArchive) -> None:
    curve = curve_of(fresh, (1, "V", 9), (2, "V", 5), (3, "V", 4))
    chain = (offset(2, 1, 0.1, 0.003), offset(3, 2, 0.05, 0.004))
    found, _ = joined(fresh, curve, *chain)
    assert found == {1: (1, 10.0, 0.0), 2: (1, 9.9, 0.003), 3: (1, 9.85, 0.005)}
    found, _ = joined(fresh, curve, *chain, offset(3, 1, 0.2, 0.02))
    assert found[3] == (1, 9.85, 0.005)
    found, _ = joined(fresh, curve, *chain, offset(3, 1, 0.2, 0.002, n_star=7))
    assert found[3] == (1, 9.8, 0.002)


def test_passbands_are_never_joined_and_what_has_no_offset_stays_by_itself(fresh: SmallArchive) -> None:
    curve = curve_of(fresh, (1, "R", 2), (2, "V", 5), (3, "V", 4), (4, "V", 3))
    found, said = joined(fresh, curve, offset(2, 1, 0.5, 0.001), offset(4, 2, 0.1, 0.001))
    assert found == {1: (1, 10.0, 0.0), 2: (2, 10.0, 0.0), 4: (2, 9.9, 0.001), 3: (3, 10.0, 0.0)}
    assert said["V, field 3, slot 1"] == "scale 3, as it is"
    assert joined(fresh, curve)[0].keys() == {1, 2, 3, 4}


def test_the_stars_colour_counts_where_it_was_measured(fresh: SmallArchive) -> None:
    slope = {"colour_term": 0.2, "colour_term_err": 0.01, "colour_pivot": 0.9, "colour_scatter": 0.3, "excess": 0.004}
    curve = curve_of(fresh, (1, "V", 3), (2, "V", 2))
    found, _ = joined(fresh, curve, offset(2, 1, 0.05, 0.003, **slope))
    assert found[2] == (1, pytest.approx(10.0 - 0.05 + 0.2 * 0.4), pytest.approx(np.sqrt(0.003**2 + 0.004**2 + 0.004**2)))
    with fresh.engine.begin() as connection:
        connection.execute(sa.text("UPDATE source SET colour_measured = 0"))
    found, _ = joined(fresh, curve, offset(2, 1, 0.05, 0.003, **slope))
    assert found[2] == (1, pytest.approx(9.95), pytest.approx(np.sqrt(0.003**2 + 0.004**2 + 0.06**2)))
