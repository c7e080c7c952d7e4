"""catalogues

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_FREE: dict[str, dict[str, Any]] = {
    "source": {
        "position_err": (
            sa.Double(),
            "Error of a coordinate at the catalogue's epoch, rounding included; NULL when unknown [arcsec]",
        ),
    },
    "field": {
        "fit_band": (sa.String(16), "Band that the fit_mag of its sources is in (step stars); NULL: no catalogue has one"),
        "fit_colour_band": (sa.String(16), "Colour that the fit_colour of its sources is in (step stars); NULL: assumed for all"),
    },
}
_KIND = "'file', or 'service': fetched piece by piece, see `catalogue_coverage`"
_PLACE = {
    "ra": ("Right ascension of its centre, ICRS [deg]", "Right ascension of a file's centre, ICRS [deg]"),
    "dec": ("Declination of its centre, ICRS [deg]", "Declination of a file's centre, ICRS [deg]"),
    "radius": ("Radius that holds all of it [deg]", "Radius that holds all of a file [deg]"),
}
#: Comments that say something else now: table, column, before, after. SQLite keeps none.
_COMMENTS = (
    *(("catalogue", name, old, new) for name, (old, new) in _PLACE.items()),
    ("catalogue", "name", "File name", "File name, or name of the catalogue"),
    ("catalogue", "path", "Path it was read from", "Path it was read from, or the service's address and the table"),
    ("catalogue", "sha256", "SHA-256 of the file", "SHA-256 of the file, or of the service's address and the table"),
    ("catalogue", "task_id", "Task that took it in", "Task that took it in, or its latest piece"),
    ("source", "origin", "'catalogue' or 'discovered'", "'catalogue', or 'discovered' while no catalogue knows it"),
    (
        "source",
        "fit_mag",
        "Magnitude used in fits and for neighbours: the catalogue's, else from the frames [mag]",
        "Magnitude in the `fit_band` of its fields: the catalogues', else from the frames [mag]",
    ),
    (
        "source",
        "fit_colour",
        "Colour used in fits: measured, else the median of stars of that magnitude [mag]",
        "Colour used in fits, in the `fit_colour_band` of its fields: measured, else the median at its magnitude [mag]",
    ),
    (
        "source_magnitude",
        "band",
        "Band, e.g. G, BP, RP, V, VT, B-V for a colour",
        "Band, e.g. G, BP, RP, V, VT, r, J; B-V for a colour given as such",
    ),
    (
        "source_magnitude",
        "system",
        "Photometric system: Gaia, Johnson, Tycho, or unknown",
        "Photometric system: Gaia, Johnson, Tycho, Sloan, 2MASS, or as the catalogue has it",
    ),
)


def _comment(after: bool) -> None:
    if op.get_bind().dialect.name == "sqlite":
        return
    for table, name, old, new in _COMMENTS:
        text = (new if after else old).replace("'", "''")
        op.execute(f"COMMENT ON COLUMN {table}.{name} IS '{text}'")
    op.execute(f"COMMENT ON TABLE catalogue IS 'Catalogues taken in from files{' and services' if after else ''}'")


def _create_tables() -> None:
    op.create_table(
        "catalogue_coverage",
        sa.Column("catalogue_id", sa.Integer(), autoincrement=False, nullable=False, comment="Catalogue"),
        sa.Column("lo", sa.BigInteger(), autoincrement=False, nullable=False, comment="First pixel, HEALPix order 29, nested"),
        sa.Column("hi", sa.BigInteger(), autoincrement=False, nullable=False, comment="Pixel after the last"),
        sa.Column(
            "magnitude_limit",
            sa.Double(),
            nullable=False,
            comment="Faintest stars that were asked for, in the catalogue's main band [mag]",
        ),
        sa.Column("n_source", sa.Integer(), nullable=False, comment="Stars that it held"),
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that fetched it"),
        sa.ForeignKeyConstraint(["catalogue_id"], ["catalogue.catalogue_id"], name=op.f("fk_catalogue_coverage_catalogue_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_catalogue_coverage_task_id")),
        sa.PrimaryKeyConstraint("catalogue_id", "lo", "hi", name=op.f("pk_catalogue_coverage")),
        comment="What was fetched of catalogues: HEALPix ranges, complete down to a magnitude",
    )
    op.create_table(
        "source_link",
        sa.Column("source_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="Source, whose measurements stay valid"),
        sa.Column("catalogue_id", sa.Integer(), autoincrement=False, nullable=False, comment="Catalogue that knows the star too"),
        sa.Column("gaia_id", sa.BigInteger(), nullable=True, comment="Gaia's identifier of the star; NULL when the catalogue gives none"),
        sa.Column(
            "separation",
            sa.Double(),
            nullable=False,
            comment="From the source to the catalogue's star when they were linked, epoch 2016 [arcsec]",
        ),
        sa.ForeignKeyConstraint(["catalogue_id"], ["catalogue.catalogue_id"], name=op.f("fk_source_link_catalogue_id")),
        sa.PrimaryKeyConstraint("source_id", "catalogue_id", name=op.f("pk_source_link")),
        comment="Sources known before a catalogue named them: they keep their identifiers",
    )
    with op.batch_alter_table("source_link", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_source_link_gaia_id"), ["gaia_id"], unique=False)
    op.create_table(
        "source_neighbour",
        sa.Column("source_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="Source"),
        sa.Column("neighbour_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="The other source"),
        sa.Column("separation", sa.REAL(), nullable=False, comment="Separation at epoch 2016 [arcsec]"),
        sa.Column(
            "delta_mag",
            sa.REAL(),
            nullable=False,
            comment="fit_mag of the neighbour minus that of the source: negative for a brighter one [mag]",
        ),
        sa.PrimaryKeyConstraint("source_id", "neighbour_id", name=op.f("pk_source_neighbour")),
        comment="Pairs of sources within a few FWHM of their field, both ways round",
        sqlite_with_rowid=False,
    )


def upgrade() -> None:
    for table, columns in _FREE.items():
        for name, (kind, comment) in columns.items():
            op.add_column(table, sa.Column(name, kind, nullable=True, comment=comment))
    op.add_column("catalogue", sa.Column("kind", sa.String(8), nullable=True, comment=_KIND))
    op.execute("UPDATE catalogue SET kind = 'file'")
    with op.batch_alter_table("catalogue") as batch_op:
        batch_op.alter_column("kind", existing_type=sa.String(8), existing_comment=_KIND, nullable=False)
        for name in _PLACE:
            batch_op.alter_column(name, existing_type=sa.Double(), nullable=True)
    _create_tables()
    _comment(after=True)


def downgrade() -> None:
    _comment(after=False)
    for table in ("source_neighbour", "source_link", "catalogue_coverage"):
        op.drop_table(table)
    # The older schema knows files alone; the stars stay, without what the services said of them.
    for table in ("source_magnitude", "source_name"):
        op.execute(f"DELETE FROM {table} WHERE catalogue_id IN (SELECT catalogue_id FROM catalogue WHERE kind <> 'file')")
    op.execute("DELETE FROM catalogue WHERE kind <> 'file'")
    with op.batch_alter_table("catalogue") as batch_op:
        for name in _PLACE:
            batch_op.alter_column(name, existing_type=sa.Double(), nullable=False)
        batch_op.drop_column("kind")
    for table, columns in _FREE.items():
        with op.batch_alter_table(table) as batch_op:
            for name in columns:
                batch_op.drop_column(name)
