"""A person's maskings show in the light curves, and can be taken back."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from small_archive import SmallArchive
from sqlalchemy.orm import Session

from db.errors import ConfigurationError
from queries.annotations import list_masks, mask_frame, mask_point, mask_product, unmask, unmask_product
from queries.lightcurve import light_curve


def qualities(archive: SmallArchive, source: int) -> dict[int, int]:
    with archive.engine.connect() as connection:
        frame = light_curve(connection, int(archive.source_id[source]))
    return dict(zip(frame["frame_id"].tolist(), frame["quality"].tolist(), strict=True))


def test_a_masked_frame_and_a_masked_point(fresh: SmallArchive) -> None:
    before = qualities(fresh, 0)
    assert before[3] == 1 and before[4] == 0 and before[5] == 0  # frame 3 holds a saturated pixel
    with Session(fresh.engine) as session:
        frame = mask_frame(session, 3, " satellite ", "ann").annotation_id
        point = mask_point(session, 4, fresh.target, "cosmic ray", "ann").annotation_id
        session.commit()
        listed = list_masks(session)
    assert qualities(fresh, 0) == before | {3: 2, 4: 2}
    assert qualities(fresh, 1) == dict.fromkeys(before, 0) | {3: 2}
    assert listed["reason"].tolist() == ["satellite", "cosmic ray"] and listed["path"].tolist() == ["/night/003.fits", "/night/004.fits"]
    assert listed["source_id"].isna().tolist() == [True, False] and listed["source_id"][1] == fresh.target
    with Session(fresh.engine) as session:
        unmask(session, frame)
        unmask(session, point)
        session.commit()
        assert list_masks(session).empty
    assert qualities(fresh, 0) == before


def test_a_bad_product_leaves_the_good_masters_and_makes_stale(fresh: SmallArchive) -> None:
    def answer(query: str) -> list[tuple[object, ...]]:
        with fresh.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query))]

    stale = "SELECT DISTINCT step FROM stale_product ORDER BY step"
    assert answer("SELECT product_id FROM good_master") == [(1,)] and answer(stale) == []
    with Session(fresh.engine) as session:
        assert mask_product(session, 1, "dew").is_bad == 1
        session.commit()
    assert answer("SELECT product_id FROM good_master") == []
    assert answer(stale) == [("calibrate",), ("magnitude_fit",), ("photometry",)]
    assert answer("SELECT bad_reason FROM product WHERE is_bad = 1") == [("dew",)]
    with Session(fresh.engine) as session:
        unmask_product(session, 1)
        session.commit()
    assert answer("SELECT product_id FROM good_master") == [(1,)] and answer(stale) == []


def test_what_is_not_there_cannot_be_masked(pair: dict[str, SmallArchive]) -> None:
    archive = pair["sqlite"]
    with Session(archive.engine) as session:
        for call, code in (
            (lambda: mask_frame(session, 999, "why", "ann"), "frame.unknown"),
            (lambda: mask_point(session, 1, 999, "why", "ann"), "source.unknown"),
            (lambda: mask_point(session, 999, archive.target, "why", "ann"), "frame.unknown"),
            (lambda: mask_product(session, 999, "why"), "product.unknown"),
            (lambda: unmask_product(session, 999), "product.unknown"),
            (lambda: unmask_product(session, 1), "product.good"),
            (lambda: mask_frame(session, 1, "  ", "ann"), "mask.reason"),
            (lambda: unmask(session, 999), "mask.unknown"),
        ):
            with pytest.raises(ConfigurationError) as caught:
                call()
            assert caught.value.code == code
