"""Masters kept in memory: read once for the frames of a step, within bounds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.tables import Product
from reduction.calibration import master_choice
from reduction.calibration.master_choice import master_plane
from reduction.files.fits import sha256_of
from reduction.files.product import write_image
from reduction.pipeline.declaration import Context
from reduction.pipeline.order import STEPS

SHAPE = (20, 30)
BYTES = 9 * SHAPE[0] * SHAPE[1]


@pytest.fixture
def session() -> Iterator[Session]:
    """An archive that has the rows of products alone."""
    engine = sa.create_engine("sqlite://")
    Product.metadata.tables["product"].create(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()


def written(session: Session, folder: Path, name: str, level: float) -> str:
    value = np.full(SHAPE, level, np.float32)
    write_image(folder / name, {"SCI": value, "VAR": value, "MASK": np.zeros(SHAPE, np.uint8)})
    file = folder / name
    session.add(Product(product_id=int(level) + 1, task_id=1, kind="flat", path=name, sha256=sha256_of(file), size=file.stat().st_size))
    session.flush()
    return name


def test_frames_of_a_step_share_the_masters_used_last(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master_choice, "MOST_KEPT", 2 * BYTES)
    names = [written(session, tmp_path, f"{k}.fits", float(k)) for k in range(3)]
    kept: dict[Path, object] = {}

    def of(name: str | None) -> object:  # each frame has a context of its own
        return master_plane(Context(session, tmp_path, {}, STEPS["calibrate"], "", kept), name)

    assert of(None) is None
    first, second = of(names[0]), of(names[1])
    assert of(names[0]) is first
    third = of(names[2])
    assert list(kept) == [tmp_path / names[0], tmp_path / names[2]]
    assert of(names[2]) is third
    again = of(names[1])
    assert again is not second
    assert again.value[0, 0] == 1.0  # type: ignore[attr-defined]


def test_one_that_is_larger_than_the_room_is_kept_alone(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master_choice, "MOST_KEPT", BYTES // 2)
    context = Context(session, tmp_path, {}, STEPS["calibrate"])
    names = [written(session, tmp_path, f"{k}.fits", float(k)) for k in range(2)]
    for name in names:
        assert master_plane(context, name) is master_plane(context, name)
    assert list(context.kept) == [tmp_path / names[1]]
