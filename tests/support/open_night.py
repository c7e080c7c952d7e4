"""A night whose frames come one by one, with the clock set into it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from mini_night import Night, Work

from reduction.lightcurves import nights_over, source_order_step
from reduction.pipeline.order import STEPS

__all__ = ["DURING", "EVENING", "after", "arrive", "at", "per_frame"]

EVENING = "2026-03-24"
#: While the mini night lasts, and when it is over everywhere.
DURING, LATER = (2026, 3, 25, 2), (2026, 3, 26, 12)


def at(patch: pytest.MonkeyPatch, *when: int) -> None:
    """Set the clock that tells whether a night is over."""
    for module in (nights_over, source_order_step):
        patch.setattr(module, "now", lambda: dt.datetime(*when))  # type: ignore[arg-type]


def after(patch: pytest.MonkeyPatch) -> None:
    """Set it to the day after."""
    at(patch, *LATER)


def arrive(work: Work, night: Night, folder: Path, first: int, last: int, **options: Any) -> dict[str, int]:
    """Reduce the folder with the objects `first` to `last` added to it, and what it takes to calibrate them; units done by step."""
    more = night.objects()[first:last]
    night.link(folder, [*night.calibration(), *more] if first == 0 else more)
    return work.worked([folder], **options)


def per_frame(done: dict[str, int]) -> dict[str, int]:
    """Of units done by step, those of steps that work on a file or a frame."""
    return {name: number for name, number in done.items() if STEPS[name].per in ("file", "frame")}
