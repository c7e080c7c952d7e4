"""the field's words: steps renamed where they were called otherwise; columns of frames in the tables of the steps that write them

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

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

#: Roles in `lineage` that name a step; masters' roles name their kind.
_ROLES = ("sort", "linearity", "extract", "stars", "magfit", "lightcurve")


class _Moved(NamedTuple):
    """Columns of `frame` that become a table of the step that writes them."""

    table: str
    comment: str
    columns: tuple[tuple[str, str, Any, bool, str], ...]  # name there, name in frame, type, whether it may be NULL, comment
    task: str  # of the rows that there are: SQL over f, NULL for no row
    task_comment: str = "Task that made it"

    def items(self) -> list[sa.schema.SchemaItem]:
        return [
            sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Frame"),
            *(sa.Column(name, kind, nullable=null, comment=comment) for name, _, kind, null, comment in self.columns),
            sa.Column("task_id", sa.Integer(), nullable=False, comment=self.task_comment),
            sa.ForeignKeyConstraint(["frame_id"], ["frame.frame_id"], name=op.f(f"fk_{self.table}_frame_id")),
            sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f(f"fk_{self.table}_task_id")),
            sa.PrimaryKeyConstraint("frame_id", name=op.f(f"pk_{self.table}")),
        ]


def _maker(step: str) -> str:
    """Of a step's tasks on a frame the done one; where the last attempt failed, the one before it."""
    return (
        f"(SELECT t.task_id FROM task t WHERE t.frame_id = f.frame_id AND t.step = '{step}' "
        "ORDER BY CASE t.status WHEN 'done' THEN 0 WHEN 'superseded' THEN 1 ELSE 2 END, t.task_id DESC LIMIT 1)"
    )


_MOVED = (
    _Moved(
        "classification",
        "Types of frames, each with its evidence",
        (
            ("type", "type", sa.String(length=8), False, "bias, dark, flat, object or other"),
            ("reason", "type_reason", sa.Text(), False, "Why it has this type"),
            ("confidence", "type_confidence", sa.Double(), False, "Confidence in the type, 0 to 1"),
            ("evidence", "type_evidence", sa.Text(), True, "JSON object: the numbers behind the type"),
            ("disagrees", "type_disagrees", sa.SmallInteger(), True, "1 when the header says that it is of another type, else 0"),
        ),
        _maker("classify"),
    ),
    _Moved(
        "detection_summary",
        "Number and width of the detections, frame by frame",
        (
            ("n_detection", "n_detection", sa.Integer(), False, "Number of detections"),
            (
                "fwhm",
                "fwhm",
                sa.Double(),
                True,
                "Median full width at half maximum of its stars; NULL when none has one [pixel]",
            ),
        ),
        _maker("detect"),
    ),
    _Moved(
        "frame_field",
        "Fields of the frames, with what follows from where they point",
        (
            ("field_id", "field_id", sa.Integer(), False, "Field"),
            (
                "airmass",
                "airmass",
                sa.Double(),
                True,
                "Airmass of the frame's centre; NULL when the site is unknown, or at the horizon",
            ),
            ("moon_separation", "moon_separation", sa.Double(), True, "Distance of the Moon from the centre [deg]"),
        ),
        _maker("field"),
    ),
    _Moved(
        "frame_photometry",
        "Zero points and depth of the measurements, frame by frame",
        (
            ("n_source", "n_measured", sa.Integer(), False, "Number of sources measured"),
            (
                "zero_point",
                "zero_point",
                sa.Double(),
                True,
                "Magnitude of a source of 1 ADU/s, from catalogue stars; NULL with fewer than three [mag]",
            ),
            (
                "zero_point_scatter",
                "zero_point_scatter",
                sa.Double(),
                True,
                "Scatter of the stars about the zero point, 1.48 MAD [mag]",
            ),
            ("n_zero_point", "n_zero_point", sa.Integer(), False, "Stars in the zero point"),
            ("limiting_mag", "limiting_mag", sa.Double(), True, "Magnitude of a source with S/N 5 [mag]"),
        ),
        "f.measure_task",
        "Task that made its measurements",
    ),
)

#: By which column each of them is looked up, beside the frame.
_INDEXED = {"classification": "type", "frame_field": "field_id"}

#: Columns of `frame` that were copies of those of frame_background.
_COPIES = {
    "sky_level": ("level", "Sky above the zero level, mean over the frame (step background) [ADU]"),
    "sky_noise": ("noise", "Noise of a sky pixel, standard deviation (step background) [ADU]"),
}


def upgrade() -> None:
    _rename(STEPS)
    for moved in _MOVED:
        _move(moved)
    with op.batch_alter_table("frame") as batch_op:
        batch_op.drop_index(batch_op.f("ix_frame_field_id_night_id"))
        batch_op.drop_constraint(batch_op.f("fk_frame_field_id"), type_="foreignkey")
        for name in [name for moved in _MOVED for _, name, *_ in moved.columns] + [*_COPIES, "measure_task"]:
            batch_op.drop_column(name)


def _move(moved: _Moved) -> None:
    """The table, its index, and the rows of what the frames have; a frame without the first column's value has none."""
    items = moved.items()
    if moved.table == "frame_field":
        items.append(sa.ForeignKeyConstraint(["field_id"], ["field.field_id"], name=op.f("fk_frame_field_field_id")))
    op.create_table(moved.table, *items, comment=moved.comment)
    if moved.table in _INDEXED:
        op.create_index(op.f(f"ix_{moved.table}_{_INDEXED[moved.table]}_frame_id"), moved.table, [_INDEXED[moved.table], "frame_id"])
    names = ", ".join(name for name, *_ in moved.columns)
    values = ", ".join(f"f.{name}" for _, name, *_ in moved.columns)
    op.execute(
        f"INSERT INTO {moved.table} (frame_id, {names}, task_id) SELECT * FROM (SELECT f.frame_id, {values}, {moved.task} AS task_id "
        f"FROM frame f WHERE f.{moved.columns[0][1]} IS NOT NULL) made WHERE task_id IS NOT NULL"
    )


def downgrade() -> None:
    for moved in _MOVED:
        for name, old, kind, _, comment in moved.columns:
            op.add_column("frame", sa.Column(old, kind, nullable=True, comment=comment))
            op.execute(f"UPDATE frame SET {old} = (SELECT m.{name} FROM {moved.table} m WHERE m.frame_id = frame.frame_id)")
    op.add_column(
        "frame", sa.Column("measure_task", sa.Integer(), nullable=True, comment="Task that made its measurements (step photometry)")
    )
    op.execute("UPDATE frame SET measure_task = (SELECT m.task_id FROM frame_photometry m WHERE m.frame_id = frame.frame_id)")
    for old, (name, comment) in _COPIES.items():
        op.add_column("frame", sa.Column(old, sa.Double(), nullable=True, comment=comment))
        op.execute(f"UPDATE frame SET {old} = (SELECT b.{name} FROM frame_background b WHERE b.frame_id = frame.frame_id)")
    with op.batch_alter_table("frame") as batch_op:
        batch_op.create_foreign_key(batch_op.f("fk_frame_field_id"), "field", ["field_id"], ["field_id"])
        batch_op.create_index(batch_op.f("ix_frame_field_id_night_id"), ["field_id", "night_id"])
    for moved in _MOVED:
        op.drop_table(moved.table)
    _rename({new: old for old, new in STEPS.items()})


def _rename(names: dict[str, str]) -> None:
    connection = op.get_bind()
    for before, after in names.items():
        connection.execute(sa.text("UPDATE task SET step = :after WHERE step = :before"), {"before": before, "after": after})
        if before in _ROLES or after in _ROLES:
            connection.execute(sa.text("UPDATE lineage SET role = :after WHERE role = :before"), {"before": before, "after": after})
    for config_id, kind, content in connection.execute(sa.text("SELECT config_id, kind, content FROM config")).all():
        if kind not in ("step", "user"):
            continue
        sections = json.loads(content)
        renamed = {names.get(name, name): section for name, section in sections.items()}
        if renamed != sections:
            text = json.dumps(renamed, sort_keys=True, separators=(",", ":"))
            sha256 = hashlib.sha256(f"{kind}\n{text}".encode()).hexdigest()
            values = {"content": text, "sha256": sha256, "config_id": config_id}
            connection.execute(sa.text("UPDATE config SET content = :content, sha256 = :sha256 WHERE config_id = :config_id"), values)
