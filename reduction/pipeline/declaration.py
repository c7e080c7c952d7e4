"""A step, declared once.

`@step` names what the step works per, the steps it comes after, the tables
it reads and writes, its version and its parameters. Order, pending work, the
command line, the table of steps in the documentation and the refusal to
write an undeclared table all follow from the declaration. A step's body
reads, calls a kernel, and returns rows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from db.tables import Base
from reduction.files.product import write_calibrated, write_image, write_wcs
from reduction.pipeline.order import STEPS, Line
from reduction.pipeline.parameters import parameter, read_parameters

__all__ = [
    "Context",
    "InputTask",
    "NewFile",
    "Output",
    "Rows",
    "Step",
    "Unit",
    "canonical",
    "parameter",
    "read_parameters",
    "step",
]


def canonical(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces, so that equal content gives equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"no JSON for {type(value).__name__}")


@dataclass(frozen=True)
class InputTask:
    """A done task that a unit is made from."""

    task_id: int
    input_hash: str
    role: str


@dataclass(frozen=True)
class Unit:
    """One piece of work of a step."""

    key: str
    label: str
    inputs: tuple[InputTask, ...] = ()
    facts: str = ""  # what else the result depends on, as text that enters the hash
    frame_id: int | None = None
    night_id: int | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """Rows for one table, by columns (arrays of one length, or scalars)."""

    table: type[Base]
    columns: Mapping[str, Any]
    replace: Mapping[str, Any] | None = None  # rows with these values are deleted first
    upsert: bool = False  # one row: updated where its primary key exists


@dataclass(frozen=True)
class NewFile:
    """A product that was written; until its row is committed it is an orphan that the next run sweeps away."""

    kind: str
    path: str
    sha256: str
    size: int
    replaces: int | None = None  # product_id of the file, of another step, that it takes the place of


@dataclass
class Output:
    """What a body hands back.

    `task_id` and `product_id` are filled in where a table has them. `finish`
    is for rows whose keys only the writer can give: it is called with the
    writer's session and the task_id, and must be picklable.
    """

    rows: list[Rows] = field(default_factory=list)
    frame: dict[str, Any] = field(default_factory=dict)  # columns of this unit's frame row
    file: NewFile | None = None
    remark: str | None = None
    finish: Callable[[Session, int], list[Rows]] | None = None
    retire: bool = False  # what later steps made of this unit's frame no longer stands


@dataclass
class Context:
    """What a plan or a body may use: a session to read with, the files root, the settings in force."""

    session: Session
    files: Path
    settings: Mapping[str, Any]  # sections of the configuration; "paths" and "catalogues" as given
    input_hash: str = ""

    def write(self, kind: str, name: str, planes: Mapping[str, Any], header: Mapping[str, Any]) -> NewFile:
        """Write a product under the files root; the hash in its name keeps it from overwriting an older one."""
        path = f"{kind}/{name}-{self.input_hash[:10]}.fits"
        written = write_image(self.files / path, planes, header)
        return NewFile(kind, path, written.sha256, written.size)

    def write_calibrated(self, name: str, plane: tuple[Any, Any, Any], header: Mapping[str, Any]) -> NewFile:
        """Write value, variance and mask of a calibrated frame, packed to a hundredth of its noise."""
        path = f"calibrated/{name}-{self.input_hash[:10]}.fits"
        written = write_calibrated(self.files / path, *plane, header)
        return NewFile("calibrated", path, written.sha256, written.size)

    def write_with_wcs(self, product_id: int, file: str, name: str, cards: Mapping[str, Any]) -> NewFile:
        """Write a copy of a calibrated frame with a plate solution in its headers, to take the place of that product."""
        path = f"calibrated/{name}-{self.input_hash[:10]}.fits"
        written = write_wcs(self.files / file, self.files / path, cards)
        return NewFile("calibrated", path, written.sha256, written.size, replaces=product_id)


Plan = Callable[[Context, Any], list[Unit]]


@dataclass(frozen=True)
class Step:
    """The declaration of a step."""

    line: Line
    version: int
    parameters: type[Any]
    after: tuple[str, ...]
    reads: tuple[type[Base], ...]
    writes: tuple[type[Base], ...]
    plan: Plan
    body: Callable[..., Any]
    together: bool
    second_chance: bool
    complete: bool

    @property
    def name(self) -> str:
        """Name on the command line and in `task.step`."""
        return self.line.name

    @property
    def per(self) -> str:
        """What it works on: 'file', 'frame', 'night', 'instrument', 'field', 'catalogue', 'piece of sky'."""
        return self.line.per

    @property
    def summary(self) -> str:
        """One sentence for people."""
        return self.line.summary

    @property
    def in_pool(self) -> bool:
        """Files and frames are worked by the pool; sets are worked where the writer is."""
        return self.per in ("file", "frame") and not self.together

    def input_hash(self, unit: Unit, parameters: Any) -> str:
        """SHA-256 over everything the result depends on."""
        parts = [
            self.name,
            str(self.version),
            canonical(dataclasses.asdict(parameters)),
            unit.key if self.per == "file" else "",
            unit.facts,
            *sorted(f"{task.role}:{task.input_hash}" for task in unit.inputs),
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def require_declared(self, table: type[Base]) -> None:
        """Refuse to write a table that the step did not declare."""
        if table not in self.writes:
            raise RuntimeError(f"step {self.name} writes {table.__tablename__} without declaring it")


def step(
    name: str,
    *,
    plan: Plan,
    parameters: type[Any],
    version: int = 1,
    after: tuple[str, ...] = (),
    reads: tuple[type[Base], ...] = (),
    writes: tuple[type[Base], ...] = (),
    together: bool = False,
    second_chance: bool = False,
    complete: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare the decorated function as the body of a step.

    Parameters
    ----------
    name : str
        A name of the list `reduction.pipeline.order.NIGHT`.
    plan : callable (context, parameters) -> list of Unit
        Everything the step could work on now; what is done is taken off by the runner.
    parameters : dataclass
        Frozen, with `parameter` fields.
    version : int
        Raised when the algorithm changes: old results then become pending.
    after : tuple of str
        Steps whose tasks a unit is made from.
    reads, writes : tuple of tables
        Declared; writing any other is refused.
    together : bool
        The body takes all pending units at once and returns a dict by unit key.
    second_chance : bool
        Units that failed are worked once more when all others are done, with
        "second" in their payload: they may then lean on their neighbours.
    complete : bool
        The plan names all that there ought to be: what was made of units that it no longer names is superseded.
    """

    def declare(body: Callable[..., Any]) -> Callable[..., Any]:
        STEPS.declare(Step(STEPS.line(name), version, parameters, after, reads, writes, plan, body, together, second_chance, complete))
        return body

    return declare
