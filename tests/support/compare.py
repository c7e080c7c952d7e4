"""Comparing archives row by row: by natural keys, since surrogate keys, runs, attempts and times of day may differ."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import sqlalchemy as sa

from db.engine import make_engine
from db.tables import Base
from reduction.pipeline.order import STEPS

__all__ = ["Dump", "compare", "differences", "dump", "light_curves", "snapshot"]

Row = dict[str, Any]
#: Table -> natural key -> columns.
Dump = dict[str, dict[tuple[Any, ...], Row]]

#: Tables that hold what happened rather than what came of it.
_MACHINE = {"run", "step_check"}

#: What two runs of one night may differ in.
_PASSING = {"run_id", "closed", "attempts", "finished", "created", "started", "accepted"}
#: Columns that hold a surrogate key, and whose.
_KEYS = {
    "user_config_id": "config",
    "input_task_id": "task",
    "measure_task": "task",
    "superseded_by": "product",
    "bias_master_id": "master",
    "dark_master_id": "master",
    "flat_master_id": "master",
    "reference_id": "magfit_reference",
    "parent_id": "magfit_reference",
    "request_id": "reference_request",
    "long_master_id": "master",
    "short_master_id": "master",
    "duplicate_of": "exposure",
    **{f"{name}_id": name for name in ("observatory", "instrument", "setup", "passband", "exposure", "frame", "field", "config", "task")},
    **{f"{name}_id": name for name in ("product", "master", "catalogue", "annotation", "target")},
}
_JSON = {("wcs_solution", "coeff"), ("wcs_solution", "corners"), ("field", "corners"), ("exposure_statistics", "statistics")}
_JSON |= {("shared_psf", "coeff"), ("shared_psf", "left_out"), ("shared_psf", "held_out")}


def snapshot(url: str, without: Iterable[str] = ("run",)) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, all columns as they are, in one order."""
    with make_engine(url).connect() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(sa.select(table))), key=repr)
            for table in Base.metadata.sorted_tables
            if table.name not in without
        }


def light_curves(url: str) -> dict[tuple[int, str, int], float | None]:
    """Magnitudes of `light_curve_all` by source_id, frame (SHA-256 and channel) and slot."""
    text = (
        "SELECT l.source_id, e.sha256 || ' ' || f.channel, l.slot, l.mag FROM light_curve_all l "
        "JOIN frame f ON f.frame_id = l.frame_id JOIN exposure e ON e.exposure_id = f.exposure_id"
    )
    with make_engine(url).connect() as connection:
        return {(row[0], row[1], row[2]): row[3] for row in connection.execute(sa.text(text))}


def compare(url_a: str, url_b: str, *, rtol: float = 1e-9, atol: float = 1e-9, current: bool = False) -> list[str]:
    """Differences between two archives; none where they hold the same. See `dump` for `current`."""
    return differences(dump(url_a, current=current), dump(url_b, current=current), rtol=rtol, atol=atol)


def differences(a: Dump, b: Dump, *, rtol: float = 1e-9, atol: float = 1e-9, most: int = 5) -> list[str]:
    """Differences between two dumps, the first few of each table in words."""
    found = []
    for table in a:
        lines = [f"{table}: only in the first: {key}" for key in a[table].keys() - b[table].keys()]
        lines += [f"{table}: only in the second: {key}" for key in b[table].keys() - a[table].keys()]
        for key in a[table].keys() & b[table].keys():
            one, other = a[table][key], b[table][key]
            unequal = [name for name in one if not _same(one[name], other[name], rtol, atol)]
            lines += [f"{table} {key}: {name} {one[name]!r} != {other[name]!r}" for name in unequal]
        found += sorted(lines)[:most]
        if len(lines) > most:
            found.append(f"{table}: {len(lines)} differences")
    return found


def _same(a: Any, b: Any, rtol: float, atol: float) -> bool:
    if isinstance(a, float) and isinstance(b, (float, int)):
        return math.isclose(a, b, rel_tol=rtol, abs_tol=atol)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(x, y, rtol, atol) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[name], b[name], rtol, atol) for name in a)
    return bool(a == b)


def dump(url: str, *, current: bool = False, hashes: bool = True) -> Dump:
    """Every table but `run`, by natural key, surrogate keys resolved.

    With `current`, only what stands: rows of superseded tasks are left out, as are the references before the latest. So an
    archive that came to its state by detours can be compared with a fresh one. Without `hashes`, what tasks were made from is left out:
    the rows that they made are to be the same, though some were made of results that only stand for those of the other archive.
    """
    with make_engine(url).connect() as connection:
        rows = {
            table.name: [dict(row._mapping) for row in connection.execute(sa.select(table))]
            for table in Base.metadata.sorted_tables
            if table.name not in _MACHINE
        }
    rows["config"] = [row for row in rows["config"] if row["kind"] != "archive"]  # where its files are
    if current:
        _drop_superseded(rows)
    if not hashes:
        rows["lineage"], rows["provisional_result"] = [], []
        rows["task"] = [{**row, "input_hash": ""} for row in rows["task"]]
        masters = [name for name in _KEYS if name.endswith("_master_id")]
        rows["calibrated_frame"] = [{name: value for name, value in row.items() if name not in masters} for row in rows["calibrated_frame"]]
        rows["product"] = [{**row, "path": row["path"] and str(Path(row["path"]).parent)} for row in rows["product"]]
    return named(rows, without={"source": {"task_id"}, "magfit_reference": {"reason"}} if current else {})


def named(rows: dict[str, list[Row]], *, without: Mapping[str, set[str]] = MappingProxyType({})) -> Dump:
    """Rows by natural key, surrogate keys resolved; `without` names columns that are left out, by table."""
    names = _Names(rows)
    found: Dump = {}
    for table in Base.metadata.sorted_tables:
        if table.name in _MACHINE:
            continue
        resolved = [names.resolve(table.name, row) for row in rows[table.name]]
        keys = [tuple(row[column.name] for column in table.primary_key) for row in resolved]
        repeated = [key for key, count in Counter(keys).items() if count > 1]
        assert not repeated, f"{table.name}: no natural key: {repeated[0]}"
        dropped = _PASSING | without.get(table.name, set())
        found[table.name] = {key: {k: v for k, v in row.items() if k not in dropped} for key, row in zip(keys, resolved, strict=True)}
    return found


def _drop_superseded(rows: dict[str, list[Row]]) -> None:
    rows["magfit_reference"] = _latest(rows["magfit_reference"])
    _of_latest(rows)
    alive = {row["task_id"] for row in rows["task"] if row["status"] != "superseded"}
    for name, found in rows.items():
        if name != "source" and found and "task_id" in found[0]:
            rows[name] = [row for row in found if row["task_id"] in alive]
    rows["product"] = [row for row in rows["product"] if row["superseded_by"] is None]
    rows["task"] = [row for row in rows["task"] if row["task_id"] in alive]
    rows["lineage"] = [row for row in rows["lineage"] if {row["task_id"], row["input_task_id"]} <= alive]
    children = [table.name for table in Base.metadata.sorted_tables if "reference_id" in table.c]
    for child, column, parent, key in (
        ("master_frame", "master_id", "master", "master_id"),
        *((child, "reference_id", "magfit_reference", "reference_id") for child in children),
        ("config", "config_id", "task", "config_id"),
    ):
        known = {row[key] for row in rows[parent]}
        rows[child] = [row for row in rows[child] if row[column] in known]


def _of_latest(rows: dict[str, list[Row]]) -> None:
    """Leave out the tasks of other references than the latest, and name those of these as of the first: it may be a later one."""
    kept = {row["reference_id"] for row in rows["magfit_reference"]}
    made = {row["task_id"] for row in rows["magfit_reference"]}
    tasks = []
    for row in rows["task"]:
        if row["step"] == "magnitude_reference" and row["task_id"] in made:
            tasks.append({**row, "unit": f"{row['unit'].partition('/')[0]}/1", "message": None})
        elif row["step"] != "magnitude_reference" and _references_of(row) <= kept:
            tasks.append(row)
    rows["task"] = tasks


def _references_of(task: Row) -> set[int]:
    """References that a task's unit is named by."""
    parts = task["unit"].split("/")
    number = {"magnitude_fit": 1, "frame_fit": 1, "statistics": 1, "standard_system": 1, "magnitude_offsets": 2}.get(task["step"], 0)
    return {int(part) for part in parts[:number]}


def _latest(references: list[Row]) -> list[Row]:
    """The last accepted reference of each field, and those it was averaged from."""
    known = {row["reference_id"]: row for row in references}
    accepted = sorted(row["reference_id"] for row in references if row["status"] == "accepted")
    latest = {known[reference_id]["field_id"]: reference_id for reference_id in accepted}
    kept = []
    for reference_id in latest.values():
        while reference_id is not None:
            kept.append(known[reference_id])
            reference_id = known[reference_id]["parent_id"]
    return kept


class _Names:
    """Natural names of what surrogate keys stand for."""

    def __init__(self, rows: dict[str, list[Row]]) -> None:
        self._rows = rows
        self._known: dict[str, dict[int, str]] = {}
        simple: dict[str, Callable[[Row], Any]] = {
            "observatory": lambda r: (r["name"], r["latitude"], r["longitude"]),
            "instrument": lambda r: (r["name"], r["nx"], r["ny"]),
            "setup": lambda r: (
                self("instrument", r["instrument_id"]),
                *(r[name] for name in ("binning_x", "binning_y", "gain_setting", "offset_setting", "read_mode")),
            ),
            "passband": lambda r: r["name"],
            "exposure": lambda r: r["sha256"][:16],
            "frame": lambda r: (self("exposure", r["exposure_id"]), r["channel"]),
            "field": lambda r: (self("instrument", r["instrument_id"]), self("passband", r["passband_id"]), round(r["ra"], 6)),
            "config": lambda r: r["sha256"],
            "task": lambda r: (r["step"], self._unit(r), r["input_hash"][:16]),
            "product": lambda r: (r["kind"], self("task", r["task_id"]), r["path"] is None),
            "master": lambda r: self("task", r["task_id"]),
            "catalogue": lambda r: r["sha256"],
            "target": lambda r: r["name"],
            "annotation": lambda r: (self("frame", r["frame_id"]), r["source_id"], r["reason"]),
            "reference_request": lambda r: (r["kind"], r["reason"]),
        }
        for name, key in simple.items():
            if name == "task":
                self._name_references()
            self._known[name] = {}
            for row in rows[name]:
                self._known[name][row[f"{name.removeprefix('reference_')}_id"]] = str(key(row))

    def _name_references(self) -> None:
        """By their order within the field; tasks have them in their units, so they come before."""
        counts: Counter[int] = Counter()
        self._known["magfit_reference"] = {}
        for row in sorted(self._rows["magfit_reference"], key=lambda r: r["reference_id"]):
            self._known["magfit_reference"][row["reference_id"]] = f"{self('field', row['field_id'])} reference {counts[row['field_id']]}"
            counts[row["field_id"]] += 1

    def __call__(self, kind: str, key: int | None) -> str | None:
        return None if key is None else self._known[kind].get(key, f"{kind} that is not there")

    def _unit(self, task: Row) -> Any:
        """A task's unit in natural names: which keys it is made of follows from what the step works per."""
        step, unit = STEPS[task["step"]], task["unit"]
        if step.name in ("standard_system", "magnitude_offsets"):
            return tuple(self("magfit_reference", int(reference)) for reference in unit.split("/"))
        if "/" not in unit and step.per in ("frame", "field", "instrument"):
            return self(step.per, int(unit))
        if task["step"] in ("magnitude_fit", "statistics"):
            reference, night = unit.split("/")
            return (self("magfit_reference", int(reference)), night)
        if task["step"] == "magnitude_reference":
            field, number = unit.split("/")
            return (self("field", int(field)), number)
        if task["step"] == "frame_fit":
            reference, night, frame = unit.split("/")
            return (self("magfit_reference", int(reference)), night, self("frame", int(frame)))
        if "/" in unit:
            first, *rest = unit.removeprefix("sky/").split("/")
            if step.name in ("flat", "large_scale_flat"):
                rest[-1] = str(self("passband", int(rest[-1])))
            return (self("setup", int(first)), *rest)
        return unit

    def resolve(self, table: str, row: Row) -> Row:
        """The row with names for keys and content for JSON."""
        resolved: Row = {}
        for name, value in row.items():
            if (table, name) in _JSON and value is not None:
                resolved[name] = json.loads(value)
            elif name in _KEYS:
                resolved[name] = self(_KEYS[name], value)
            elif table == "task" and name == "unit":
                resolved[name] = str(self._unit(row))
            elif table == "task" and name == "path" and value is not None:
                resolved[name] = Path(value).name  # the folder may be another one
            elif table == "product" and name == "path" and value is not None:
                resolved[name] = re.sub(r"frame-\d+|-\d+-", "-", value)
            elif table == "task" and name == "message" and value is not None:
                resolved[name] = re.sub(r"frame \d+", "frame", value)
            elif isinstance(value, float) and isinstance(Base.metadata.tables[table].c[name].type, sa.REAL):
                resolved[name] = float(np.float32(value))  # PostgreSQL gives the shortest text that means it, SQLite its double
            else:
                resolved[name] = value
        return resolved
