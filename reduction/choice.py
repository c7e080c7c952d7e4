"""Which master a frame is calibrated with: the stated rule, over the view `good_master`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.tables import Frame
from reduction.kernels.calibrate import Plane
from reduction.product import read_image
from reduction.step import Context, InputTask

__all__ = ["GoodMaster", "Masters", "good_masters", "master_plane"]

_GOOD_MASTER = sa.text(
    "SELECT master_id, kind, instrument_id, night_id, channel, passband_id, exptime, ccd_temperature, jd_utc, path, task_id, input_hash "
    "FROM good_master ORDER BY master_id"
)


@dataclass(frozen=True)
class GoodMaster:
    """A row of the view `good_master`."""

    master_id: int
    kind: str
    instrument_id: int
    night_id: int
    channel: str
    passband_id: int | None
    exptime: float | None
    ccd_temperature: float | None
    jd_utc: float
    path: str
    task_id: int
    input_hash: str

    def same_exptime(self, frame: Frame) -> bool:
        """Whether the exposure times agree to 1 %: no scaling is needed then."""
        return self.exptime is not None and abs(self.exptime - frame.exptime) <= 0.01 * frame.exptime

    def scale(self, frame: Frame) -> float:
        """Factor that brings a master dark to the frame's exposure time."""
        return 1.0 if self.exptime is None or self.same_exptime(frame) else frame.exptime / self.exptime

    @property
    def task(self) -> InputTask:
        """As an input of a unit."""
        return InputTask(self.task_id, self.input_hash, self.kind)


@dataclass(frozen=True)
class Masters:
    """Every usable master, and the rule that picks one."""

    rows: tuple[GoodMaster, ...]

    def _of(self, kind: str, frame: Frame) -> list[GoodMaster]:
        mine = (frame.instrument_id, frame.channel)
        found = [m for m in self.rows if m.kind == kind and (m.instrument_id, m.channel) == mine]
        return sorted(found, key=lambda m: (abs(m.jd_utc - frame.jd_utc), -m.master_id))

    def bias(self, frame: Frame) -> GoodMaster | None:
        """The nearest in time of the same instrument."""
        return next(iter(self._of("bias", frame)), None)

    def dark(self, frame: Frame, *, max_ratio: float) -> GoodMaster | None:
        """The same exposure time to 1 %, nearest in time; else the shortest longer one that needs no more scaling than `max_ratio`.

        Scaled only downwards: a dark that is scaled up brings more noise than it takes away.
        """
        found = [m for m in self._of("dark", frame) if m.exptime is not None]
        same = [m for m in found if m.same_exptime(frame)]
        longer = [m for m in found if frame.exptime < (m.exptime or 0.0) <= max_ratio * frame.exptime]
        return next(iter(same), None) or min(longer, key=lambda m: m.exptime or 0.0, default=None)

    def pattern(self, frame: Frame) -> GoodMaster | None:
        """That of the same night and exposure time: hot pixels come and go with the temperature."""
        same = [m for m in self._of("pattern", frame) if m.night_id == frame.night_id and m.exptime == frame.exptime]
        return next(iter(same), None)

    def flat(self, frame: Frame) -> GoodMaster | None:
        """The nearest in time of the same instrument and passband."""
        return next((m for m in self._of("flat", frame) if m.passband_id == frame.passband_id), None)


def good_masters(session: Session) -> Masters:
    """Every master that is not bad, superseded or stale."""
    return Masters(tuple(GoodMaster(**row) for row in session.execute(_GOOD_MASTER).mappings()))


def master_plane(context: Context, path: str | None) -> Plane | None:
    """The pixels of a master; None for None."""
    if path is None:
        return None
    planes: dict[str, np.ndarray[Any, Any]] = read_image(context.files / path)[0]
    return Plane(planes["SCI"], planes["VAR"], planes["MASK"])
