"""references of each fold, means and changes of nights, scores of frames, wishes; solutions are keyed as they are read

Revision ID: 0017
Revises: 0016
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_N_FOLD = 5
_KEY = ["reference_id", "slot", "fold", "frame_id"]
_KEY_BEFORE = ["frame_id", "reference_id", "slot", "fold"]
_STATUS = "'iteration' on the way, 'candidate', 'accepted', 'retracted', 'purged' (no rows)"
_STATUS_BEFORE = "'iteration' on the way, 'accepted', or 'retracted'"


def _column(name: str, kind: Any, comment: str, null: bool = False, default: str | None = None) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null, comment=comment, server_default=default)


def _key(name: str, kind: Any, comment: str) -> sa.Column[Any]:
    return sa.Column(name, kind, autoincrement=False, nullable=False, comment=comment)


def _table(name: str, comment: str, keys: list[str], *columns: sa.schema.SchemaItem) -> None:
    primary = sa.PrimaryKeyConstraint(*keys, name=op.f(f"pk_{name}"))
    op.create_table(name, *columns, primary, comment=comment, sqlite_with_rowid=False)


def _refers(table: str, column: str, other: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{other}.{column}"], name=op.f(f"fk_{table}_{column}_{other}"))


def upgrade() -> None:
    _new_tables()
    with op.batch_alter_table("magfit_reference") as table:
        table.add_column(_column("is_held", sa.SmallInteger(), "1: a candidate that a person has to accept", default="0"))
        table.add_column(_column("reason", sa.String(200), "Why it was made, or retracted", default=""))
        table.add_column(_column("request_id", sa.Integer(), "The wish that it answers; NULL: no person's", null=True))
        table.add_column(_column("n_night", sa.Integer(), "Nights in the average", default="0"))
        table.add_column(_column("is_settled", sa.SmallInteger(), "1: the change was below the tolerance in every slot", default="0"))
        table.add_column(
            _column("parameters", sa.Text(), "Parameters of the fits to it, JSON: fits made otherwise need another reference", default="")
        )
        table.add_column(_column("accepted", sa.DateTime(), "Since when it counts, UTC; the latest does", null=True))
        table.create_foreign_key(
            op.f("fk_magfit_reference_request_id_reference_request"), "reference_request", ["request_id"], ["request_id"]
        )
        table.alter_column("status", existing_type=sa.String(12), comment=_STATUS, existing_nullable=False)
    op.execute("UPDATE magfit_reference SET accepted = created WHERE status = 'accepted'")
    with op.batch_alter_table("magfit_reference") as table:
        for name, kind in (
            ("is_held", sa.SmallInteger()), ("reason", sa.String(200)), ("n_night", sa.Integer()), ("is_settled", sa.SmallInteger()),
            ("parameters", sa.Text()),
        ):  # fmt: skip
            table.alter_column(name, existing_type=kind, server_default=None, existing_nullable=False)
    with op.batch_alter_table("best_slot") as table:
        table.add_column(_column("fold", sa.SmallInteger(), "The source's fold", default="0"))
    op.execute(
        "UPDATE best_slot SET fold = (SELECT s.fold FROM source s WHERE s.source_id = best_slot.source_id)"
        " WHERE EXISTS (SELECT 1 FROM source s WHERE s.source_id = best_slot.source_id)"
    )
    with op.batch_alter_table("best_slot") as table:
        table.alter_column("fold", existing_type=sa.SmallInteger(), server_default=None, existing_nullable=False)
    _keyed(_KEY)
    op.create_index(op.f("ix_magfit_solution_frame_id"), "magfit_solution", ["frame_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_magfit_solution_frame_id"), table_name="magfit_solution")
    _keyed(_KEY_BEFORE)
    with op.batch_alter_table("best_slot") as table:
        table.drop_column("fold")
    # What was not in force before would be now.
    op.execute("UPDATE magfit_reference SET status = 'retracted' WHERE status = 'candidate'")
    with op.batch_alter_table("magfit_reference") as table:
        table.drop_constraint(op.f("fk_magfit_reference_request_id_reference_request"), type_="foreignkey")
        for name in ("is_held", "reason", "request_id", "n_night", "is_settled", "parameters", "accepted"):
            table.drop_column(name)
        table.alter_column("status", existing_type=sa.String(12), comment=_STATUS_BEFORE, existing_nullable=False)
    for name in ("night_change", "night_magnitude", "frame_score", "magfit_fold_reference", "reference_request"):
        op.drop_table(name)


def _new_tables() -> None:
    op.create_table(
        "reference_request",
        _key("request_id", sa.Integer(), "Surrogate key"),
        _column("kind", sa.String(8), "'new', 'accept', 'retract' or 'purge'"),
        _column("field_id", sa.Integer(), "Field"),
        _column("reference_id", sa.Integer(), "The reference that it is about; NULL for a new one", null=True),
        _column("frame_id", sa.Integer(), "Frame to begin with; NULL: that of the highest score", null=True),
        _column("is_held", sa.SmallInteger(), "1: nights are fitted to the new one, and it counts once it is accepted by hand"),
        _column("reason", sa.Text(), "Why"),
        _column("author", sa.String(64), "Who asked"),
        _column("created", sa.DateTime(), "When, UTC"),
        _refers("reference_request", "field_id", "field"),
        _refers("reference_request", "frame_id", "frame"),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_reference_request")),
        comment="What people asked of the photometric references",
    )
    _table(
        "magfit_fold_reference",
        "Magnitudes of the references for the fit without each fold",
        ["reference_id", "slot", "fold", "source_id"],
        _key("reference_id", sa.Integer(), "Reference"),
        _key("slot", sa.SmallInteger(), "Photometry slot"),
        _key("fold", sa.SmallInteger(), "Fold that the fits leave out"),
        _key("source_id", sa.BigInteger(), "Source"),
        _column("mag", sa.Double(), "Magnitude [mag]"),
        _column("mag_err", sa.REAL(), "Its error [mag]"),
        _column("excess", sa.REAL(), "Scatter of a measurement beyond its error, by which the star's weight falls [mag]"),
    )
    _table(
        "frame_score",
        "Scores by which the frame is chosen that a reference begins with",
        ["reference_id", "frame_id"],
        _key("reference_id", sa.Integer(), "Reference"),
        _key("frame_id", sa.Integer(), "Frame"),
        _column("score", sa.REAL(), "Mean of the ranks"),
        _column("is_usable", sa.SmallInteger(), "0: a person masked it"),
        _column("fwhm_rank", sa.REAL(), "Rank of the width of its stars: narrow is better"),
        _column("sky_level_rank", sa.REAL(), "Rank of its sky: dark is better"),
        _column("n_star_rank", sa.REAL(), "Rank of its number of sources measured"),
        _column("zero_point_rank", sa.REAL(), "Rank of its zero point: more light is better"),
        _column("airmass_rank", sa.REAL(), "Rank of its airmass: low is better"),
        _column("zero_point_scatter_rank", sa.REAL(), "Rank of the scatter about its zero point"),
        _column("ellipticity_rank", sa.REAL(), "Rank of the ellipticity of its stars: round is better"),
    )
    folds = [
        _column(f"{stem}_{fold}", sa.REAL(), f"{what}, in the fits without fold {fold} [mag]", null=True)
        for fold in range(_N_FOLD)
        for stem, what in (("mag", "Robust weighted mean"), ("mag_err", "Its error"), ("scatter", "Scatter of a measurement, 1.48 MAD"))
    ]
    _table(
        "night_magnitude",
        "Mean fitted magnitudes of each night, per slot and fold",
        ["reference_id", "night_id", "slot", "source_id"],
        _key("reference_id", sa.Integer(), "Reference"),
        _key("night_id", sa.Integer(), "Night"),
        _key("slot", sa.SmallInteger(), "Photometry slot"),
        _key("source_id", sa.BigInteger(), "Source"),
        _column("n_frame", sa.Integer(), "Measurements averaged"),
        _column("variance", sa.REAL(), "Mean square of their errors [mag2]", null=True),
        *folds,
    )
    _table(
        "night_change",
        "Differences of nights from their reference",
        ["reference_id", "slot", "night_id"],
        _key("reference_id", sa.Integer(), "Reference"),
        _key("slot", sa.SmallInteger(), "Photometry slot"),
        _key("night_id", sa.Integer(), "Night"),
        _column("n_frame", sa.Integer(), "Frames of the field in this night that were fitted"),
        _column("n_star", sa.Integer(), "Stars with a mean and a reference magnitude"),
        _column("n_unknown", sa.Integer(), "Stars with a mean and no reference magnitude"),
        _column("change", sa.Double(), "Median difference of the better half, without a common shift [mag]", null=True),
        _column("expected", sa.Double(), "The same as the errors alone would make it [mag]", null=True),
    )


def _keyed(keys: list[str]) -> None:
    """Give `magfit_solution` another primary key, rows and all."""
    bind = op.get_bind()
    if bind.dialect.name == "postgresql":
        op.drop_constraint(op.f("pk_magfit_solution"), "magfit_solution", type_="primary")
        op.create_primary_key(op.f("pk_magfit_solution"), "magfit_solution", keys)
        return
    before = sa.Table("magfit_solution", sa.MetaData(), autoload_with=bind)
    names = [*keys, *(column.name for column in before.c if column.name not in keys)]
    columns = [sa.Column(name, before.c[name].type, nullable=before.c[name].nullable, autoincrement=False) for name in names]
    op.rename_table("magfit_solution", "magfit_solution_before")
    op.create_table("magfit_solution", *columns, sa.PrimaryKeyConstraint(*keys, name=op.f("pk_magfit_solution")), sqlite_with_rowid=False)
    listed = ", ".join(names)
    op.execute(f"INSERT INTO magfit_solution ({listed}) SELECT {listed} FROM magfit_solution_before ORDER BY {', '.join(keys)}")
    op.drop_table("magfit_solution_before")
