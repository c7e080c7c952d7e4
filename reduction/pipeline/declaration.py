"""A step, declared once.

`@step` names what the step is made from, the tables and products it writes,
its version and its parameters. Order, pending work, lineage, the command
line, the table of steps in the documentation and the refusal to read or
write an undeclared table all follow from the declaration. A step's body
reads, calls a kernel, and returns rows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from sqlalchemy.orm import Session

from db.errors import StarledgerError
from db.tables import Base
from reduction.pipeline.inputs import Input, InputTask, Said, Worked
from reduction.pipeline.order import STEPS, Line
from reduction.pipeline.parameters import parameter, read_parameters

__all__ = [
    "Context",
    "InputTask",
    "Kind",
    "Later",
    "Move",
    "NewFile",
    "Output",
    "Provisional",
    "Rows",
    "Step",
    "UndeclaredError",
    "Unit",
    "Written",
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


P = TypeVar("P")


@dataclass(frozen=True)
class Unit(Generic[P]):
    """One piece of work of a step.

    Attributes
    ----------
    key : str
        What it works on, as `task.unit` has it.
    label : str
        The same for people.
    inputs : tuple of InputTask
        What it is made from.
    facts : str
        What else the result depends on, as text that enters the hash and is read by nobody.
    frame_id, night_id : int, optional
        Of its frame or night.
    path : str, optional
        Its file, where it works on one.
    payload : P
        What the plan found out for the body; None for most steps.
    tries : tuple of StarledgerError
        How it failed so far in this run, one for each of the step's chances that it had: see `step`.
    again : int
        How often it was worked before in this run.
    provisional : bool
        Its night is open: what comes of it holds until it is made of the whole night.
    """

    key: str
    label: str
    inputs: tuple[InputTask, ...] = ()
    facts: str = ""
    frame_id: int | None = None
    night_id: int | None = None
    path: str | None = None
    payload: P = None  # type: ignore[assignment]
    tries: tuple[StarledgerError, ...] = ()
    again: int = 0
    provisional: bool = False

    def has(self, role: str) -> bool:
        """Whether there is an input of this role."""
        return any(task.role == role for task in self.inputs)


@dataclass(frozen=True)
class Rows:
    """Rows for one table, by columns (arrays of one length, or scalars); without columns, rows are only taken away."""

    table: type[Base]
    columns: Mapping[str, Any]
    replace: Mapping[str, Any] | None = None  # rows with these values (one may be several), which only this unit writes, go first
    upsert: bool = False  # one row: updated where its primary key exists
    shared: bool = False  # other units write rows with the values of `replace`, too: these go first in any case


@dataclass(frozen=True)
class Move:
    """Rows of a night that go to another table of the same columns, in the order of the sources.

    Each slice is a transaction of its own, before the unit's task is recorded: a run that ends between two of them leaves every row in
    one of the tables, and the next run moves the rest.

    Attributes
    ----------
    source, target : table
        From where, and where to.
    night_id : int
        The night.
    slices : tuple of (int, int)
        First and last source_id of each slice.
    """

    source: type[Base]
    target: type[Base]
    night_id: int
    slices: tuple[tuple[int, int], ...]


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
    moves: tuple[Move, ...] = ()
    file: NewFile | None = None
    remark: str | None = None
    finish: Callable[[Session, int], list[Rows]] | None = None
    retire: bool = False  # what was made of this unit's frame on the strength of its earlier result no longer stands
    summary: Mapping[str, Any] = field(default_factory=dict)  # what another result of the unit is compared with (`Provisional`), as JSON
    anew: bool = False  # in the place of its rows there may be some of another step
    measured_anew: tuple[int, ...] = ()  # frames that are worked once more by every step that leans on this one, though no hash says so


class Later:
    """What a body hands back of a unit that leans on the others of its step: it is worked again when all of them were (`Unit.again`)."""


class UndeclaredError(RuntimeError):
    """A step reads, writes or makes something that it did not declare: a defect of the step, which ends the run."""


class Written(Protocol):
    """What a writer of files says of the one it wrote: SHA-256 (hex), and size in bytes."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the file."""

    @property
    def size(self) -> int:
        """Its size."""


@dataclass
class Context:
    """What a plan or a body may use: a session to read with, the files root, the settings in force."""

    session: Session
    files: Path
    settings: Mapping[str, Any]  # sections of the configuration; "paths" and "catalogues" as given
    step: Step
    input_hash: str = ""
    kept: dict[Path, Any] = field(default_factory=dict)  # read from files and kept for the step's next units, in this process
    since: int | None = None  # the last task when nothing was pending, for a plan that looks only at what is new; None: at everything
    in_part: bool = False  # said by a plan that did so

    def parameters(self, name: str) -> Any:
        """Parameters in force of the step itself, or of one that is behind it.

        Raises
        ------
        UndeclaredError
            Of any other: a change there would make nothing pending.
        """
        if name != self.step.name and name not in self.step.behind:
            raise UndeclaredError(f"step {self.step.name} looks at the parameters of {name} without having it behind it")
        return STEPS[name].read_parameters(self.settings)

    def product(self, kind: str, name: str, write: Callable[[Path], Written], *, replaces: int | None = None) -> NewFile:
        """Write a file under the files root; the hash in its name keeps it from overwriting an older one.

        Parameters
        ----------
        kind : str
            A kind that the step declares.
        name : str
            Begin of the file's name.
        write : callable
            Given the path, writes the file whole or not at all.
        replaces : int, optional
            product_id of the file, of another step, that it takes the place of.
        """
        self.step.require_kind(kind)
        path = f"{kind}/{name}-{self.input_hash[:10]}.fits"
        written = write(self.files / path)
        return NewFile(kind, path, written.sha256, written.size, replaces=replaces)


Plan = Callable[[Context, Any], list[Unit[Any]]]


@dataclass(frozen=True)
class Kind:
    """A kind of product, which is also its folder under the files root.

    Attributes
    ----------
    name : str
    passing : bool
        It can be made again at any time: its file goes when it is superseded.
    """

    name: str
    passing: bool = False


@dataclass(frozen=True)
class Provisional:
    """A result that frames of a night have in common, and that is made more than once while the night is open.

    A frame keeps the one that there was when it came. When the night is closed it is made of the whole night, and frames made with
    one that is within the tolerance of it stay as they are.

    Attributes
    ----------
    tolerance : str
        Its name in `reduction.pipeline.open_nights.OpenNightParameters`; "" where nothing but no change will do.
    change : callable (earlier summary, later summary, files root) -> float
        How far the later one is off, in the unit of the tolerance; infinite where the two cannot be compared.
    """

    tolerance: str
    change: Callable[[Mapping[str, Any], Mapping[str, Any], Path], float]


@dataclass(frozen=True)
class Step:
    """The declaration of a step."""

    line: Line
    version: int
    parameters: type[Any]
    inputs: tuple[Input | Said, ...]
    writes: tuple[type[Base], ...]
    body: Callable[..., Any]
    plan: Plan | None = None  # None: a frame's, which follows from the inputs
    types: tuple[str, ...] | None = ("object",)
    products: tuple[Kind, ...] = ()
    standing: tuple[type[Base], ...] = ()
    clears: tuple[type[Base], ...] = ()
    moves: tuple[type[Base], ...] = ()
    together: bool = False
    chances: tuple[str, ...] = ()
    repeats: bool = False
    complete: bool = False
    failed: Callable[[Session, Unit[Any]], list[Rows]] | None = None
    provisional: Provisional | None = None

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

    @property
    def guarded(self) -> bool:
        """Whether what is pending follows from the archive alone: not where files, catalogues or services are looked at."""
        return self.per not in ("file", "catalogue", "piece of sky")

    @property
    def sources(self) -> tuple[Input, ...]:
        """Its inputs that are other steps."""
        return tuple(source for source in self.inputs if isinstance(source, Input))

    @property
    def after(self) -> tuple[str, ...]:
        """Steps that come before it, since it is made from them, in the order of the night."""
        named = {name for source in self.sources if source.before for name in source.steps}
        return tuple(name for name in STEPS if name in named)

    @cached_property
    def behind(self) -> frozenset[str]:
        """Every step that its inputs lead back to."""
        found: set[str] = set()
        rest = [name for source in self.sources for name in source.steps]
        while rest:
            name = rest.pop()
            if name not in found:
                found.add(name)
                rest += [other for source in STEPS[name].sources if source.before for other in source.steps]
        return frozenset(found)

    @cached_property
    def reads(self) -> frozenset[type[Base]]:
        """Tables that it may read: its own, those of the steps behind it, and those in which people say something to it."""
        steps = [self, *(STEPS[name] for name in self.behind)]
        said = [table for step in steps for source in step.inputs if isinstance(source, Said) for table in source.tables]
        return frozenset([*(table for step in steps for table in (*step.writes, *step.clears)), *said])

    def read_parameters(self, settings: Mapping[str, Any]) -> Any:
        """Its parameters with the configuration's values in place."""
        return read_parameters(self.parameters, settings.get(self.name, {}), f"[{self.name}]")

    def fingerprint(self, settings: Mapping[str, Any]) -> str:
        """How it works: name, version and parameters as text."""
        return f"{self.name}:{self.version}:{canonical(dataclasses.asdict(self.read_parameters(settings)))}"

    def facts(self, settings: Mapping[str, Any]) -> str:
        """What every unit depends on besides its inputs: how the steps work that it names as `Worked`."""
        return "\n".join(STEPS[source.step].fingerprint(settings) for source in self.sources if isinstance(source, Worked))

    def input_hashes(self, units: Iterable[Unit[Any]], parameters: Any) -> list[str]:
        """Of each unit: SHA-256 over everything the result depends on."""
        # An archive has a hundred thousand units of a step, and all share these.
        shared = [self.name, str(self.version), canonical(dataclasses.asdict(parameters))]
        return [self._input_hash(shared, unit) for unit in units]

    def _input_hash(self, shared: list[str], unit: Unit[Any]) -> str:
        parts = [
            *shared,
            unit.key if self.per == "file" else "",
            unit.facts,
            *(["provisional"] if unit.provisional else []),
            *sorted(f"{task.role}:{task.input_hash}" for task in unit.inputs),
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def require_declared(self, table: type[Base]) -> None:
        """Refuse to write a table that the step did not declare."""
        if table not in self.writes and table not in self.clears:
            raise UndeclaredError(f"step {self.name} writes {table.__tablename__} without declaring it")

    def require_kind(self, name: str) -> Kind:
        """The kind of product of this name; refuse one that the step did not declare."""
        for kind in self.products:
            if kind.name == name:
                return kind
        raise UndeclaredError(f"step {self.name} makes a product {name!r} without declaring it")


def step(
    name: str,
    *,
    parameters: type[Any],
    inputs: tuple[Input | Said, ...] = (),
    writes: tuple[type[Base], ...] = (),
    plan: Plan | None = None,
    version: int = 1,
    types: tuple[str, ...] | None = ("object",),
    products: tuple[Kind, ...] = (),
    standing: tuple[type[Base], ...] = (),
    clears: tuple[type[Base], ...] = (),
    moves: tuple[type[Base], ...] = (),
    together: bool = False,
    chances: tuple[str, ...] = (),
    repeats: bool = False,
    complete: bool = False,
    failed: Callable[[Session, Unit[Any]], list[Rows]] | None = None,
    provisional: Provisional | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare the decorated function as the body of a step.

    Parameters
    ----------
    name : str
        A name of the list `reduction.pipeline.order.NIGHT`.
    parameters : dataclass
        Frozen, with `parameter` fields.
    inputs : tuple of Input and Said
        What its units are made from; see `reduction.pipeline.inputs`.
    writes : tuple of tables
        Writing any other is refused.
    plan : callable (context, parameters) -> list of Unit, optional
        Everything the step could work on now; what is done is taken off by the scheduler. A step per frame needs none.
    version : int
        Raised when the algorithm changes: old results then become pending.
    types : tuple of str, optional
        Types of the frames that a step per frame works on; all for None.
    products : tuple of Kind
        Kinds of files that it makes.
    standing : tuple of tables
        Their rows say what stands now: those of a task go when the task is retired.
    clears : tuple of tables
        A later step takes its rows there: from there they go when a unit is worked again.
    moves : tuple of tables
        Another step writes them, and this one takes their rows to another table: rows that come once more make its units pending.
    together : bool
        The body takes all pending units at once and returns a dict by unit key.
    chances : tuple of str
        Units that failed, or for which `Later` came back, are worked once more for each of these, when all others have had the chance
        before it, so that they may lean on what is done; `Unit.tries` tells the body which it is, and the last failure counts. Each
        names what is tried, for people.
    repeats : bool
        What it made may make others of its own units pending, which are worked at once.
    complete : bool
        The plan names all that there ought to be: what was made of units that it no longer names is superseded.
    failed : callable (session, unit) -> rows, optional
        What is to be written where a unit fails, in the writer's transaction; the unit's task is recorded by then.
    provisional : Provisional, optional
        Of a step whose units are made of a night's frames: how results of an open night are compared with those of the whole one.
    """

    def declare(body: Callable[..., Any]) -> Callable[..., Any]:
        STEPS.declare(
            Step(
                line=STEPS.line(name),
                version=version,
                parameters=parameters,
                inputs=inputs,
                writes=writes,
                body=body,
                plan=plan,
                types=types,
                products=products,
                standing=standing,
                clears=clears,
                moves=moves,
                together=together,
                chances=chances,
                repeats=repeats,
                complete=complete,
                failed=failed,
                provisional=provisional,
            )
        )
        return body

    return declare
