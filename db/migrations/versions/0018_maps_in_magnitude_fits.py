"""background and maps of shapes and profiles as terms of the magnitude fit; groups of terms

Revision ID: 0018
Revises: 0017
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_TERMS = ("background", "shape_s", "shape_d", "shape_k", "psf_peak")
_GROUPS = (
    "Groups of terms that count, bits: 1 third and fourth degree, 2 further, 4 background, 8 to 64 shape_s, shape_d, shape_k, psf_peak"
)
#: What every solution may have used before.
_BEFORE = "3"
_POSITION = ["const", *("x" * (n - k) + "y" * k for n in range(1, 5) for k in range(n + 1))]


def _label(name: str) -> str:
    return "1" if name == "const" else " * ".join(name.upper())


def upgrade() -> None:
    with op.batch_alter_table("magfit_solution") as table:
        table.add_column(sa.Column("term_groups", sa.SmallInteger(), nullable=False, server_default=_BEFORE, comment=_GROUPS))
        for name in _TERMS:
            comment = f"Coefficient of {name}; 0 when unused [mag]"
            table.add_column(sa.Column(f"c_{name}", sa.Double(), nullable=False, server_default="0", comment=comment))
    # What writes a row says it: a default would hide that it was forgotten.
    with op.batch_alter_table("magfit_solution") as table:
        for name in ("term_groups", *(f"c_{name}" for name in _TERMS)):
            table.alter_column(name, server_default=None)
    op.create_table(
        "magfit_map",
        sa.Column("reference_id", sa.Integer(), autoincrement=False, nullable=False, comment="Reference"),
        sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Frame"),
        sa.Column(
            "name",
            sa.String(12),
            autoincrement=False,
            nullable=False,
            comment="What it is a map of: shape_s, shape_d, shape_k, psf_peak",
        ),
        *(sa.Column(f"p_{name}", sa.Double(), nullable=False, comment=f"Coefficient of {_label(name)}") for name in _POSITION),
        sa.PrimaryKeyConstraint("reference_id", "frame_id", "name", name=op.f("pk_magfit_map")),
        comment="Maps of shapes and profiles that the magnitude fits use, as polynomials",
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("magfit_map")
    with op.batch_alter_table("magfit_solution") as table:
        for name in reversed(_TERMS):
            table.drop_column(f"c_{name}")
        table.drop_column("term_groups")
