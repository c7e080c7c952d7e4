"""Which masters a frame is calibrated with: a person's choice or the stated rule, as the view `frame_master` says it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.tables import CalibratedFrame, Exposure, Frame
from reduction.calibration.kernels.calibration import Plane
from reduction.files.product import read_image
from reduction.pipeline.declaration import Context
from reduction.pipeline.inputs import Found, InputTask, LookedUp
from reduction.pipeline.unchanged import product_file

__all__ = ["DONE_BEFORE", "Chosen", "Masters", "PatternWithoutDark", "chosen_masters", "master_plane", "needed", "zero_is_gone"]

_COLUMNS = "SELECT frame_id, kind, master_id, scale, bias_master_id, path, task_id, input_hash FROM frame_master"

#: Which step makes the masters of a kind.
_STEPS = {"bias": "bias", "dark": "dark", "flat": "flat", "pattern": "fixed_pattern"}

#: Frames on which an observatory has done something already.
DONE_BEFORE = (
    sa.select(Frame.frame_id, Exposure.calibration_state)
    .join(Exposure, Exposure.exposure_id == Frame.exposure_id)
    .where(Exposure.calibration_state != "")
)

#: Bytes of masters that are kept in memory for the next frames: bias, dark and flat of 16 million pixels.
MOST_KEPT = 500_000_000

#: So many frames are asked for by their keys; for more, the whole view is read.
_FEW = 500


@dataclass(frozen=True)
class Chosen:
    """The master of one kind that serves a frame: a row of the view `frame_master`.

    Attributes
    ----------
    kind : str
        bias, dark, flat or pattern.
    master_id : int
        Row of `master`.
    scale : float
        Factor that brings a dark to the frame's exposure time.
    bias_master_id : int or None
        Bias that was taken off the master's own frames.
    path : str
        File, relative to the files root.
    task : InputTask
        What made it.
    """

    kind: str
    master_id: int
    scale: float
    bias_master_id: int | None
    path: str
    task: InputTask


def chosen_masters(session: Session, frames: Collection[int] | None = None) -> dict[int, dict[str, Chosen]]:
    """The master of each kind for every frame that has one; for the frames given, where they are given."""
    text = sa.text(f"{_COLUMNS} ORDER BY frame_id, kind")
    if frames is not None and len(frames) <= _FEW:
        text = sa.text(f"{_COLUMNS} WHERE frame_id IN :frames ORDER BY frame_id, kind").bindparams(
            sa.bindparam("frames", list(frames), expanding=True)
        )
    found: dict[int, dict[str, Chosen]] = {}
    for row in session.execute(text):
        if row.master_id is not None:  # a person may have chosen to use none
            task = InputTask(row.task_id, row.input_hash, row.kind)
            chosen = Chosen(row.kind, row.master_id, float(row.scale), row.bias_master_id, row.path, task)
            found.setdefault(row.frame_id, {})[row.kind] = chosen
    return found


@dataclass(frozen=True)
class Masters(LookedUp):
    """The masters that serve a frame, by the rule or a person's choice: the view `frame_master`.

    Attributes
    ----------
    kinds : tuple of str
        What the frames are calibrated for.
    """

    kinds: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[str, ...]:
        """Those that make them, and the one that says whether darks may be scaled."""
        return (*(_STEPS[kind] for kind in self.kinds), *(("dark_scaling",) if "dark" in self.kinds else ()))

    @property
    def roles(self) -> tuple[str, ...]:
        """Their kinds."""
        return self.kinds

    def look_up(self, context: Context, frames: Collection[int] | None) -> Mapping[int, Found]:
        """The masters that each frame needs, by kind; what an observatory has done is not done again."""
        states = {row.frame_id: row.calibration_state.split() for row in context.session.execute(DONE_BEFORE)}
        found = {}
        for frame_id, chosen in chosen_masters(context.session, frames).items():
            used = needed(chosen, self.kinds, states.get(frame_id, ()))
            found[frame_id] = Found(tuple(master.task for master in used.values()), used)
        return found


class PatternWithoutDark(LookedUp):
    """The fixed pattern of a frame's night, where no dark was taken off it."""

    @property
    def roles(self) -> tuple[str, ...]:
        """As lineage has it."""
        return ("pattern",)

    def look_up(self, context: Context, frames: Collection[int] | None) -> Mapping[int, Found]:
        """The pattern's master."""
        dark = sa.select(CalibratedFrame.frame_id).where(CalibratedFrame.dark_master_id.is_not(None))
        with_dark = set(context.session.execute(dark).scalars())
        chosen = chosen_masters(context.session, frames)
        return {
            frame_id: Found((masters["pattern"].task,), masters["pattern"])
            for frame_id, masters in chosen.items()
            if "pattern" in masters and frame_id not in with_dark
        }


def needed(chosen: Mapping[str, Chosen], kinds: Iterable[str], done: Iterable[str] = ()) -> dict[str, Chosen]:
    """Those of the masters that a frame is calibrated with.

    Parameters
    ----------
    chosen : mapping
        A frame's entry of `chosen_masters`.
    kinds : iterable of str
        What its type of frame is calibrated for: nothing for bias, bias for darks, bias and dark for flats, all for objects.
    done : iterable of str
        What an observatory has done already.

    Returns
    -------
    dict
        By kind. A dark that carries the zero level itself does the bias's work as well.
    """
    done = set(done)
    if zero_is_gone(done):
        done.add("bias")
    used = {kind: chosen[kind] for kind in kinds if kind in chosen and kind not in done}
    dark = used.get("dark")
    if dark is not None and dark.bias_master_id is None:
        used.pop("bias", None)
        if "bias" in done:
            used.pop("dark")  # the zero level would be taken off twice
    return used


def zero_is_gone(done: Iterable[str]) -> bool:
    """Whether an observatory has taken the zero level off: by its bias, or by a dark that has it in it where there was no bias."""
    return not {"bias", "dark"}.isdisjoint(done)


def master_plane(context: Context, path: str | None) -> Plane | None:
    """The pixels of a master, which the next frames find in memory as long as others do not need the room; None for None."""
    if path is None:
        return None
    file, kept = context.files / path, context.kept
    plane = kept.pop(file, None)
    if plane is None:
        planes: dict[str, np.ndarray[Any, Any]] = read_image(product_file(context, path))[0]
        plane = Plane(planes["SCI"], planes["VAR"], planes["MASK"])
    kept[file] = plane  # the last to go
    while len(kept) > 1 and sum(_size(other) for other in kept.values()) > MOST_KEPT:
        del kept[next(iter(kept))]
    found: Plane = plane
    return found


def _size(plane: Plane) -> int:
    return int(plane.value.nbytes + plane.variance.nbytes + plane.mask.nbytes)
