"""terms and errors of PSF maps

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


_MAP_ERROR = "is uncertain by the map's own error, common to stars near each other and in no error of a flux"
_BRIGHT, _FAINT = f"Part of a bright star's flux that {_MAP_ERROR}", f"Part of the flux of a star fainter than the sky that {_MAP_ERROR}"
_MOST = "The same where it is largest"


def _column(name: str, kind: sa.types.TypeEngine[Any], comment: str) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True, comment=comment)


def _columns() -> dict[str, tuple[sa.Column[Any], ...]]:
    return {
        "psf_map": (
            _column(
                "terms",
                sa.String(80),
                "Further terms of the map, one word each: 'colour', 'brightness'; NULL in rows from before them",
            ),
            _column("terms_held_out", sa.Text(), "JSON object: reduced chi-square of stars left out, with each further term tried"),
            _column("flux_error", sa.Double(), f"{_BRIGHT}; mean over the frame"),
            _column("flux_most_error", sa.Double(), _MOST),
            _column("faint_flux_error", sa.Double(), f"{_FAINT}; mean over the frame"),
            _column("faint_flux_most_error", sa.Double(), _MOST),
            _column("peak_error", sa.Double(), "Error of the light in a star's middle pixel that comes of the map's, as part of it"),
        ),
        "target_measurement": (
            _column(
                "psf_err",
                sa.REAL(),
                "Error of the flux by the profile map's own, common to stars near it and not in flux_err; NULL where it is not known [adu]",
            ),
        ),
    }


def upgrade() -> None:
    for name, columns in _columns().items():
        with op.batch_alter_table(name) as table:
            for column in columns:
                table.add_column(column)


def downgrade() -> None:
    for name, columns in reversed(_columns().items()):
        with op.batch_alter_table(name) as table:
            for column in reversed(columns):
                table.drop_column(column.name)
