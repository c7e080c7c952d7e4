"""The colour channels of a Bayer exposure share its plate solution."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import sqlalchemy as sa

from db.tables import Classification, Frame
from reduction.pipeline.declaration import Context
from reduction.pipeline.inputs import Found, InputTask, LookedUp
from reduction.pipeline.plans import done_tasks

__all__ = ["OtherChannels"]


class OtherChannels(LookedUp):
    """The other frames of a Bayer exposure, with their detections: any of them may be the one to follow."""

    @property
    def roles(self) -> tuple[str, ...]:
        """As lineage has them."""
        return ("channel",)

    def frames(self) -> sa.ColumnElement[bool]:
        """Frames of Bayer mosaics."""
        return Frame.channel != "mono"

    def look_up(self, context: Context, frames: Collection[int] | None) -> Mapping[int, Found]:
        """The detections of the exposure's other frames."""
        done = done_tasks(context.session, self.step)
        exposures: dict[int, list[tuple[int, InputTask]]] = {}
        query = sa.select(Frame.exposure_id, Frame.frame_id).join(Classification, Classification.frame_id == Frame.frame_id)
        query = query.where(self.frames(), Classification.type == "object").order_by(Frame.frame_id)
        for exposure_id, frame_id in context.session.execute(query):
            if (task := done.get(str(frame_id))) is not None:
                exposures.setdefault(exposure_id, []).append((frame_id, InputTask(task.task_id, task.input_hash, "channel")))
        return {
            frame_id: Found(tuple(task for other, task in members if other != frame_id))
            for members in exposures.values()
            for frame_id, _ in members
            if frames is None or frame_id in frames
        }
