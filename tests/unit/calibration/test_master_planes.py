"""Masters kept in memory: read once for the frames of a step, within bounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reduction.calibration import master_choice
from reduction.calibration.master_choice import master_plane
from reduction.files.product import write_image
from reduction.pipeline.declaration import Context
from reduction.pipeline.order import STEPS

SHAPE = (20, 30)
BYTES = 9 * SHAPE[0] * SHAPE[1]


def written(folder: Path, name: str, level: float) -> str:
    value = np.full(SHAPE, level, np.float32)
    write_image(folder / name, {"SCI": value, "VAR": value, "MASK": np.zeros(SHAPE, np.uint8)})
    return name


def test_frames_of_a_step_share_the_masters_used_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master_choice, "MOST_KEPT", 2 * BYTES)
    names = [written(tmp_path, f"{k}.fits", float(k)) for k in range(3)]
    kept: dict[Path, object] = {}

    def of(name: str | None) -> object:  # each frame has a context of its own
        return master_plane(Context(None, tmp_path, {}, STEPS["calibrate"], "", kept), name)  # type: ignore[arg-type]

    assert of(None) is None
    first, second = of(names[0]), of(names[1])
    assert of(names[0]) is first
    third = of(names[2])
    assert list(kept) == [tmp_path / names[0], tmp_path / names[2]]
    assert of(names[2]) is third
    again = of(names[1])
    assert again is not second
    assert again.value[0, 0] == 1.0  # type: ignore[attr-defined]


def test_one_that_is_larger_than_the_room_is_kept_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master_choice, "MOST_KEPT", BYTES // 2)
    context = Context(None, tmp_path, {}, STEPS["calibrate"])  # type: ignore[arg-type]
    names = [written(tmp_path, f"{k}.fits", float(k)) for k in range(2)]
    for name in names:
        assert master_plane(context, name) is master_plane(context, name)
    assert list(context.kept) == [tmp_path / names[1]]
