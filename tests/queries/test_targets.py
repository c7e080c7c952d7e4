"""Targets: added, linked to their sources, listed."""

from __future__ import annotations

from typing import Any

import pytest
from small_archive import SmallArchive
from sqlalchemy.orm import Session

from db.errors import ConfigurationError
from queries.targets import add_target, list_targets


def test_a_target_is_linked_to_its_source(fresh: SmallArchive) -> None:
    with Session(fresh.engine) as session:
        target = add_target(
            session, " WASP  1 b", float(fresh.ra[3]), float(fresh.dec[3]) + 2 / 3600, epoch=2450000.5, period=2.5, duration=0.1
        )
        far = add_target(session, "elsewhere", -10.0, 10.0)
        session.commit()
        assert (target.name, target.source_id) == ("WASP 1 b", int(fresh.source_id[3]))
        assert (far.ra, far.source_id) == (350.0, None)
    with Session(fresh.engine) as session:
        frame = list_targets(session).set_index("name")
    assert frame.index.tolist() == sorted(frame.index)
    assert frame["source_id"]["WASP 1 b"] == int(fresh.source_id[3])  # to the last digit, though others have none
    assert frame["source_id"].isna()["elsewhere"] and frame["period"]["WASP 1 b"] == 2.5


@pytest.mark.parametrize(
    ("name", "position", "ephemeris", "code"),
    [
        ("hat-P-32  B", (1.0, 1.0), {}, "target.exists"),
        ("12345678", (1.0, 1.0), {}, "target.name"),
        ("  ", (1.0, 1.0), {}, "target.name"),
        ("x" * 65, (1.0, 1.0), {}, "target.name"),
        ("a", (1.0, 90.5), {}, "target.value"),
        ("a", (float("nan"), 0.0), {}, "target.value"),
        ("a", (1.0, 1.0), {"period": 0.0}, "target.value"),
        ("a", (1.0, 1.0), {"duration": -1.0}, "target.value"),
        ("a", (1.0, 1.0), {"period": 1.0, "duration": 2.0}, "target.value"),
        ("a", (1.0, 1.0), {"epoch": float("inf")}, "target.value"),
    ],
)
def test_what_cannot_be_is_refused(
    name: str, position: tuple[float, float], ephemeris: dict[str, Any], code: str, pair: dict[str, SmallArchive]
) -> None:
    with Session(pair["sqlite"].engine) as session, pytest.raises(ConfigurationError) as caught:
        add_target(session, name, *position, **ephemeris)
    assert caught.value.code == code and "\n" not in str(caught.value)
