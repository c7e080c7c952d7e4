"""What the units of a step are made from, said once.

Order, plans, lineage and what a body may read follow from a step's `inputs`:

- a step stands in the list of the night behind those of its inputs;
- a unit can be worked when the tasks of its needed inputs are done; these tasks are its lineage and enter its hash;
- a body reads the tables that its inputs wrote and those that are behind them, and no others.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.tables import Base, Exposure, Frame, Task

if TYPE_CHECKING:
    from reduction.pipeline.declaration import Context

__all__ = [
    "Earlier",
    "Found",
    "Grouped",
    "Input",
    "InputTask",
    "Joined",
    "LookedUp",
    "Members",
    "OfFile",
    "OfInstrument",
    "OfNight",
    "Own",
    "Said",
    "Untracked",
    "Worked",
    "night_unit",
]


@dataclass(frozen=True)
class InputTask:
    """A done task that a unit is made from."""

    task_id: int
    input_hash: str
    role: str


@dataclass(frozen=True)
class Input:
    """An input of a step: the results of another one.

    Attributes
    ----------
    step : str
        The other step.
    """

    step: str

    #: Whether its tasks are the unit's lineage: what changes there makes the unit pending.
    tracked: ClassVar[bool] = True
    #: Whether it must come before in the night.
    before: ClassVar[bool] = True

    @property
    def steps(self) -> tuple[str, ...]:
        """Every step that it stands for."""
        return (self.step,)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of its tasks in `lineage`."""
        return (self.step,)


def night_unit() -> sa.ColumnElement[str]:
    """The unit of steps that work on a night of one set-up and channel, of a row of `frame`."""
    setup, night = sa.cast(Frame.setup_id, sa.Text), sa.cast(Frame.night_id, sa.Text)
    return setup.concat("/").concat(Frame.channel).concat("/").concat(night)


@dataclass(frozen=True)
class Joined(Input, ABC):
    """An input of a frame that SQL finds by itself: one task at most.

    Attributes
    ----------
    needed : bool
        Whether a frame cannot be worked without it.
    """

    needed: bool = True

    @abstractmethod
    def matches(self, task: type[Task]) -> sa.ColumnElement[bool]:
        """Which task of the step is that of a row of `frame` (and `exposure`)."""


@dataclass(frozen=True)
class Own(Joined):
    """The step's task on the same unit."""

    def matches(self, task: type[Task]) -> sa.ColumnElement[bool]:
        """By the frame."""
        return task.frame_id == Frame.frame_id


@dataclass(frozen=True)
class OfFile(Joined):
    """The step's task on the file that a frame is in."""

    def matches(self, task: type[Task]) -> sa.ColumnElement[bool]:
        """By the file's SHA-256."""
        return task.unit == Exposure.sha256


@dataclass(frozen=True)
class OfNight(Joined):
    """The step's task on the night of a frame's set-up and channel."""

    def matches(self, task: type[Task]) -> sa.ColumnElement[bool]:
        """By set-up, channel and night."""
        return task.unit == night_unit()


@dataclass(frozen=True)
class OfInstrument(Joined):
    """The step's task on a frame's instrument."""

    def matches(self, task: type[Task]) -> sa.ColumnElement[bool]:
        """By the instrument."""
        return task.unit == sa.cast(Frame.instrument_id, sa.Text)


@dataclass(frozen=True)
class Found:
    """What a `LookedUp` input found for one frame: tasks, and what the body is told of them."""

    tasks: tuple[InputTask, ...] = ()
    payload: Any = None


@dataclass(frozen=True)
class LookedUp(Input, ABC):
    """An input of a frame that a rule of its topic chooses: masters, catalogues."""

    def frames(self) -> sa.ColumnElement[bool] | None:
        """Condition on `frame`: those for which it is always looked up; None: for all of them when a task of its steps has changed."""
        return None

    @abstractmethod
    def look_up(self, context: Context, frames: Collection[int] | None) -> Mapping[int, Found]:
        """What there is for frames (for all of them where None); frames that are not in the answer have none."""


@dataclass(frozen=True)
class Members(Input):
    """The step's tasks on the members of a set; the plan says which.

    Attributes
    ----------
    role : str
        In lineage, where it is not the step's name.
    """

    role: str = ""

    @property
    def roles(self) -> tuple[str, ...]:
        """The role of its tasks."""
        return (self.role or self.step,)


@dataclass(frozen=True)
class Worked(Input):
    """How the step works (its version and parameters), not which frames it saw: what else it made makes no unit pending."""

    tracked: ClassVar[bool] = False


@dataclass(frozen=True)
class Grouped(Input):
    """The step says which units there are and what belongs to them."""

    tracked: ClassVar[bool] = False


@dataclass(frozen=True)
class Untracked(Input):
    """The step's tables are read as they are: a change there makes no unit pending."""

    tracked: ClassVar[bool] = False


@dataclass(frozen=True)
class Earlier(Input):
    """What earlier runs left of a step that comes later in the night."""

    tracked: ClassVar[bool] = False
    before: ClassVar[bool] = False


@dataclass(frozen=True)
class Said:
    """Tables in which people say something."""

    tables: tuple[type[Base], ...]

    #: Whether a plan that looks at what is new only must look at everything when something else is said; else it sees to it itself.
    ground: ClassVar[bool] = True

    def digest(self, session: Session, settings: Mapping[str, Any]) -> str:  # noqa: ARG002
        """Digest of all that is said, in the archive or in the settings in force: as long as it is the same, nothing new is said."""
        parts = []
        for table in self.tables:
            rows = session.execute(sa.select(table.__table__).order_by(*table.__table__.primary_key))
            parts.append(hashlib.sha256("\n".join(str(tuple(row)) for row in rows).encode()).hexdigest())
        return " ".join(parts)

    def frames(self) -> sa.ColumnElement[bool] | None:
        """Condition on `frame`: those of which something is said that enters their hash; None where a plan says it."""
        return None

    def facts(self, session: Session) -> Mapping[int, str]:  # noqa: ARG002
        """What is said, as text that enters the hash, by frame_id."""
        return {}
