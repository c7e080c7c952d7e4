"""what is in an aperture: the source's own light, others', and how much of all of it

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.engine import is_sqlite

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


_APERTURES = "How border pixels are split: 'psf', by the profile; 'area'; 'plain': by area, and neighbours' light is in them"

_COMMENTS = {
    "n_point": ("Points with a magnitude", "Points with a flux"),
    "rms": ("Standard deviation [mag]", "Standard deviation; of faint sources that of the fluxes, at their mean [mag]"),
}


def upgrade() -> None:
    op.create_table(
        "light_share",
        sa.Column("reference_id", sa.Integer(), autoincrement=False, nullable=False, comment="Reference"),
        sa.Column("slot", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Photometry slot"),
        sa.Column("source_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="Source"),
        sa.Column("foreign_light", sa.Double(), nullable=False, comment="Other sources' part of the light that falls into it, 0 to 1"),
        sa.Column(
            "share",
            sa.Double(),
            nullable=False,
            comment="The source's own part of what is measured: 1 where the others' light is subtracted",
        ),
        sa.PrimaryKeyConstraint("reference_id", "slot", "source_id", name=op.f("pk_light_share")),
        comment="Each source's own part of the light in each slot",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "aperture_correction",
        sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Frame"),
        sa.Column("slot", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Photometry slot"),
        sa.Column(
            "enclosed", sa.Double(), nullable=False, comment="Part of a star's light in it, by the profile map; median over the stars"
        ),
        sa.Column(
            "correction",
            sa.Double(),
            nullable=True,
            comment="To be added to a magnitude in it, for that of all the light; median of bright stars' own [mag]",
        ),
        sa.Column("scatter", sa.Double(), nullable=True, comment="Scatter of these stars about it, 1.48 MAD [mag]"),
        sa.Column("n_star", sa.Integer(), nullable=False, comment="Number of these stars"),
        sa.ForeignKeyConstraint(["frame_id"], ["frame.frame_id"], name=op.f("fk_aperture_correction_frame_id_frame")),
        sa.PrimaryKeyConstraint("frame_id", "slot", name=op.f("pk_aperture_correction")),
        comment="How much of a star's light each aperture holds, frame by frame",
    )
    # What was measured before summed pixels as they are.
    op.add_column(
        "frame_photometry", sa.Column("apertures", sa.String(length=8), nullable=False, server_default="plain", comment=_APERTURES)
    )
    with op.batch_alter_table("frame_photometry") as table:
        table.alter_column(
            "apertures", server_default=None, existing_type=sa.String(length=8), existing_nullable=False, existing_comment=_APERTURES
        )
    _comment(1)


def downgrade() -> None:
    _comment(0)
    with op.batch_alter_table("frame_photometry") as table:
        table.drop_column("apertures")
    op.drop_table("aperture_correction")
    op.drop_table("light_share")


def _comment(which: int) -> None:
    """PostgreSQL keeps comments; SQLite has none."""
    connection = op.get_bind()
    if is_sqlite(connection):
        return
    for name, comments in _COMMENTS.items():
        connection.exec_driver_sql(f"COMMENT ON COLUMN lightcurve_statistics.{name} IS '{comments[which]}'")
