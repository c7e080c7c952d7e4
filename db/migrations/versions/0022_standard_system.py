"""zero points and colour terms of references to catalogues, and offsets between references of different fields

Revision ID: 0022
Revises: 0021
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def _key(name: str, kind: Any, comment: str) -> sa.Column[Any]:
    return sa.Column(name, kind, autoincrement=False, nullable=False, comment=comment)


def _number(name: str, comment: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Double(), nullable=null, comment=comment)


def _relation(zero_point: str, stars: str, magnitude: str) -> list[sa.Column[Any]]:
    """Columns of a constant and a slope in colour, and of the stars that they are from."""
    pivot = "Weighted mean colour of the stars used; NULL: none was known [mag]"
    return [
        _number("zero_point", f"{zero_point} [mag]"),
        _number("zero_point_err", "Its error, independent of the colour term's [mag]"),
        _number("colour_term", "Its slope in colour; 0 where too few colours were known"),
        _number("colour_term_err", "Its error"),
        _number("colour_pivot", pivot, null=True),
        _number("scatter", "Scatter of the stars about the relation, 1.48 MAD [mag]"),
        _number("excess", "What they scatter by beyond their errors: how far a single star may be off [mag]"),
        _number("colour_scatter", "Standard deviation of the colours of the stars used [mag]"),
        sa.Column("n_star", sa.Integer(), nullable=False, comment=f"{stars} used"),
        sa.Column(
            "n_offered",
            sa.Integer(),
            nullable=False,
            comment=f"{stars}{' with both magnitudes' if stars == 'Stars' else ''}, outliers among them",
        ),
        _number("colour_min", "Bluest star used [mag]", null=True),
        _number("colour_max", "Reddest star used [mag]", null=True),
        _number("mag_min", f"Brightest star used, {magnitude} [mag]"),
        _number("mag_max", f"Faintest star used, {magnitude} [mag]"),
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that made it"),
    ]


def upgrade() -> None:
    band = "Band that the standard magnitudes are in: the nearest to the passband that there was"
    op.create_table(
        "standard_system",
        _key("reference_id", sa.Integer(), "Reference"),
        _key("slot", sa.SmallInteger(), "Photometry slot"),
        sa.Column("band", sa.String(16), nullable=False, comment=band),
        sa.Column(
            "system",
            sa.String(24),
            nullable=False,
            comment="Its photometric system; 'from Gaia' where it was made up from G, BP and RP",
        ),
        sa.Column("colour_band", sa.String(16), nullable=True, comment="Colour that the term is in; NULL: none was known"),
        *_relation("Standard minus fitted magnitude at the pivot", "Stars", "fitted magnitude"),
        sa.PrimaryKeyConstraint("reference_id", "slot", name=op.f("pk_standard_system")),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_standard_system_task_id")),
        comment="Zero point and colour term of each reference and slot, to a catalogue's band",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "magnitude_offset",
        _key("reference_id", sa.Integer(), "Reference"),
        _key("other_reference_id", sa.Integer(), "Reference of another field, an earlier one"),
        _key("slot", sa.SmallInteger(), "Photometry slot of the first"),
        _key("other_slot", sa.SmallInteger(), "Photometry slot of the other"),
        *_relation("Difference of the magnitudes at the pivot: the first minus the other", "Common stars", "magnitude in the first"),
        sa.PrimaryKeyConstraint("reference_id", "other_reference_id", "slot", "other_slot", name=op.f("pk_magnitude_offset")),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_magnitude_offset_task_id")),
        comment="Offsets between references of different fields, cameras and passbands, from common stars",
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_magnitude_offset_other_reference_id"), "magnitude_offset", ["other_reference_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_magnitude_offset_other_reference_id"), table_name="magnitude_offset")
    op.drop_table("magnitude_offset")
    op.drop_table("standard_system")
