"""Which masters a frame is calibrated with: a person's choice or the stated rule, as the view `frame_master` says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from reduction.calibration.kernels.calibration import Plane
from reduction.files.product import read_image
from reduction.pipeline.declaration import Context, InputTask

__all__ = ["Chosen", "chosen_masters", "master_plane", "needed", "zero_is_gone"]

_FRAME_MASTER = sa.text(
    "SELECT frame_id, kind, master_id, scale, bias_master_id, path, task_id, input_hash FROM frame_master ORDER BY frame_id, kind"
)


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


def chosen_masters(session: Session) -> dict[int, dict[str, Chosen]]:
    """The master of each kind for every frame that has one."""
    found: dict[int, dict[str, Chosen]] = {}
    for row in session.execute(_FRAME_MASTER):
        if row.master_id is not None:  # a person may have chosen to use none
            task = InputTask(row.task_id, row.input_hash, row.kind)
            chosen = Chosen(row.kind, row.master_id, float(row.scale), row.bias_master_id, row.path, task)
            found.setdefault(row.frame_id, {})[row.kind] = chosen
    return found


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
    """The pixels of a master; None for None."""
    if path is None:
        return None
    planes: dict[str, np.ndarray[Any, Any]] = read_image(context.files / path)[0]
    return Plane(planes["SCI"], planes["VAR"], planes["MASK"])
