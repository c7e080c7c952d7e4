"""The same night reduced by the revision before the redesign (schema 0004) and by this one, compared row by row.

python tests/support/before_after.py OLD_URL NEW_URL

Prints how many rows and values were compared and every difference; exits with 1 where there is one. `MAPPING` says what became of
each old column; `test_before_after.py` holds it against the schemas themselves.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import compare
import sqlalchemy as sa

from db.engine import make_engine
from db.tables import Base, ClosedMeasurement

__all__ = ["DROPPED", "MAPPING", "STEPS", "new_place"]

Rows = dict[str, list[dict[str, Any]]]

#: Step names that were not the field's words.
STEPS = {
    "sort": "classify",
    "linearity": "dark_scaling",
    "largescale": "large_scale_flat",
    "extract": "detect",
    "pattern": "fixed_pattern",
    "stars": "field_colours",
    "magfit": "magnitude_fit",
    "lightcurve": "statistics",
}

#: Old column -> new column, where it is another one; every other column is where it was.
MAPPING: dict[str, str] = {
    **{f"measurement.{column.name}": f"closed_measurement.{column.name}" for column in ClosedMeasurement.__table__.c},
    "frame.type": "classification.type",
    **{f"frame.type_{name}": f"classification.{name}" for name in ("reason", "confidence", "evidence", "disagrees")},
    **{f"frame.{name}": f"frame_field.{name}" for name in ("field_id", "airmass", "moon_separation")},
    **{f"frame.{name}": f"detection_summary.{name}" for name in ("fwhm", "n_detection")},
    "frame.n_measured": "frame_photometry.n_source",
    "frame.measure_task": "frame_photometry.task_id",
    **{f"frame.{name}": f"frame_photometry.{name}" for name in ("zero_point", "zero_point_scatter", "n_zero_point", "limiting_mag")},
}

#: Old columns that are no more, and why.
DROPPED: dict[str, str] = {
    "frame.sky_level": "a copy of frame_background.level, which stays",
    "frame.sky_noise": "a copy of frame_background.noise, which stays",
}

#: Roles in lineage that name a kind of master rather than a step.
_KINDS = {"largescale", "pattern"}

#: What depends on names of steps through a hash, or is a surrogate key, or a time of day; and columns that are new.
_HASHES = {"task.input_hash", "config.sha256", "product.sha256", "product.size", "product.path"}


def new_place(column: str) -> str | None:
    """Where an old column ("table.column") is now; None where it is no more."""
    return None if column in DROPPED else MAPPING.get(column, column)


def read(url: str) -> Rows:
    """Every row of every table of an archive of any revision."""
    engine = make_engine(url)
    metadata = sa.MetaData()
    with engine.connect() as connection:
        metadata.reflect(connection)
        return {
            table.name: [dict(row._mapping) for row in connection.execute(sa.select(table))]
            for table in metadata.sorted_tables
            if table.name not in ("run", "alembic_version", "step_check")
            and not re.search(r"_n\d+$", table.name)  # partitions are their table's
        }


def modernised(old: Rows) -> Rows:
    """Old rows in the tables and columns of now."""
    for task in old["task"]:
        task["step"] = STEPS.get(task["step"], task["step"])
    for edge in old["lineage"]:
        edge["role"] = edge["role"] if edge["role"] in _KINDS else STEPS.get(edge["role"], edge["role"])
    for config in old["config"]:
        content = {STEPS.get(name, name): section for name, section in json.loads(config["content"]).items()}
        config["content"] = json.dumps(content, sort_keys=True, separators=(",", ":"))
    new: Rows = {table: [] for table in Base.metadata.tables}
    for table, rows in old.items():
        for row in rows:
            moved: dict[str, dict[str, Any]] = {}
            for name, value in row.items():
                place = new_place(f"{table}.{name}")
                if place is not None:
                    target, column = place.split(".")
                    moved.setdefault(target, {})[column] = value
            for target, values in moved.items():
                if target == table:
                    new[target].append(values)
                elif any(value is not None for value in values.values()):
                    new[target].append({**values, "frame_id": row["frame_id"]})
    return new


def without_hashes(rows: Rows) -> Rows:
    """Rows that no hash tells apart: tasks by step and unit alone, parameters by their content."""
    rows["config"] = [row for row in rows["config"] if row["kind"] == "step"]
    for task in rows["task"]:
        task["input_hash"] = ""
    for config in rows["config"]:
        config["sha256"] = f"{config['kind']} {config['content']}"
    return rows


def differences(old_url: str, new_url: str, *, rtol: float = 1e-12) -> tuple[list[str], int, int]:
    """Differences between the two, and how many rows and values were compared."""
    old, new = without_hashes(modernised(read(old_url))), without_hashes(read(new_url))
    before, after = compare.named(old), compare.named(new)
    found, n_rows, n_values = [], 0, 0
    for table in before:
        common = {name for row in before[table].values() for name in row} & set(Base.metadata.tables[table].c.keys())
        common = {name for name in common if f"{table}.{name}" not in _HASHES}
        pair = [{key: {name: row[name] for name in common if name in row} for key, row in dump[table].items()} for dump in (before, after)]
        n_rows += len(pair[0])
        n_values += len(pair[0]) * len(common)
        found += compare.differences({table: pair[0]}, {table: pair[1]}, rtol=rtol, atol=rtol, most=3)
    return found, n_rows, n_values


def main() -> int:
    """Compare the archives named on the command line."""
    found, n_rows, n_values = differences(*sys.argv[1:3])
    sys.stdout.write("\n".join([*found, f"{n_rows} rows, {n_values} values compared, {len(found)} differences"]) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
