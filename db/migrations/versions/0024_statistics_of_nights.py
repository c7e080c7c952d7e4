"""statistics of light curves per night, and over all nights as sums that a night is added to

Revision ID: 0024
Revises: 0023
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_N_BIN = 24
_SUMS = {
    "sum_weight": ("mag-2", "Sum of 1 / error^2"),
    "sum_first": ("mag-1", "Sum of d / error^2"),
    "sum_second": ("", "Sum of d^2 / error^2"),
    "sum_plain": ("mag", "Sum of d"),
    "sum_square": ("mag2", "Sum of d^2"),
    "sum_variance": ("mag2", "Sum of error^2"),
    "n_pair": ("", "Pairs of values that follow each other within a night"),
    "sum_step": ("mag2", "Sum of their squared differences"),
}
_FROM_BINS = {
    "mag_median": ("Median magnitude [mag]", "Median magnitude; of several nights from the bins [mag]"),
    "mad_rms": (
        "1.48 times the median absolute deviation [mag]",
        "1.48 times the median absolute deviation; of several nights from the bins [mag]",
    ),
    "eta": (
        "Von Neumann ratio: 2 for white noise, less for smooth variation",
        "Von Neumann ratio within nights: 2 for white noise, less for smooth variation",
    ),
}


def _column(name: str, kind: Any, unit: str, comment: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null, comment=f"{comment} [{unit}]" if unit else comment)


def _key(name: str, kind: Any, comment: str) -> sa.Column[Any]:
    return sa.Column(name, kind, autoincrement=False, nullable=False, comment=comment)


def _sums(real: Any, whole: Any) -> list[sa.Column[Any]]:
    bins = [f"Values in bin {k}, from {k - _N_BIN // 2} to {k - _N_BIN // 2 + 1} in units of width sinh(k / 3)" for k in range(_N_BIN)]
    return [
        *(_column(name, real, unit, comment) for name, (unit, comment) in _SUMS.items()),
        *(_column(f"h_{k}", whole, "", comment) for k, comment in enumerate(bins)),
    ]


def upgrade() -> None:
    # What is there has no sums: the step works every night once, from measurements and fits as they stand.
    op.execute("DELETE FROM lightcurve_statistics")
    with op.batch_alter_table("lightcurve_statistics") as table:
        for name, (_, comment) in _FROM_BINS.items():
            table.alter_column(name, existing_type=sa.Double(), existing_nullable=True, comment=comment)
        is_flux = "1: the source is faint, and sums and bins are of fluxes, where magnitude 25 is 1"
        table.add_column(_column("is_flux", sa.SmallInteger(), "", is_flux))
        table.add_column(_column("centre", sa.Double(), "mag", "What d is the distance from; it never changes"))
        table.add_column(_column("width", sa.Double(), "mag", "Unit of the bins"))
        for each in _sums(sa.Double(), sa.Integer()):
            table.add_column(each)
    op.create_table(
        "night_statistics",
        _key("reference_id", sa.Integer(), "Reference"),
        _key("night_id", sa.Integer(), "Night"),
        _key("slot", sa.SmallInteger(), "Photometry slot"),
        _key("source_id", sa.BigInteger(), "Source"),
        _column("n_point", sa.Integer(), "", "Points with a flux"),
        _column("n_good", sa.Integer(), "", "Points with quality 0"),
        _column("mag_mean", sa.Double(), "mag", "Weighted mean magnitude", null=True),
        _column("mag_median", sa.Double(), "mag", "Median magnitude", null=True),
        _column("rms", sa.REAL(), "mag", "Standard deviation; of faint sources that of the fluxes, at their mean", null=True),
        _column("mad_rms", sa.REAL(), "mag", "1.48 times the median absolute deviation", null=True),
        _column("expected_rms", sa.REAL(), "mag", "Root mean square of mag_err_total", null=True),
        _column("chi2", sa.REAL(), "", "Reduced chi-square about the mean, with mag_err_total", null=True),
        _column("eta", sa.REAL(), "", "Von Neumann ratio: 2 for white noise, less for smooth variation", null=True),
        *_sums(sa.REAL(), sa.SmallInteger()),
        sa.PrimaryKeyConstraint("reference_id", "night_id", "slot", "source_id", name=op.f("pk_night_statistics")),
        comment="Statistics of light curves, per source, slot and night",
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("night_statistics")
    op.execute("DELETE FROM lightcurve_statistics")
    with op.batch_alter_table("lightcurve_statistics") as table:
        for name in ("is_flux", "centre", "width", *_SUMS, *(f"h_{k}" for k in range(_N_BIN))):
            table.drop_column(name)
        for name, (comment, _) in _FROM_BINS.items():
            table.alter_column(name, existing_type=sa.Double(), existing_nullable=True, comment=comment)
