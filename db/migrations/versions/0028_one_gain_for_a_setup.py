"""one gain for a set-up

Revision ID: 0028
Revises: 0027
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_NUMBERS = {
    "own_gain": "Gain that this night alone measured; NULL: none [electron/adu]",
    "own_gain_err": "Error of that [electron/adu]",
    "sky_level": "Level of the sky of its pairs of frames; NULL: none were looked at [adu]",
    "sky_variance": "Noise variance of that sky, without quantisation [adu2]",
}
_REVISION = "Gain of the set-up for which the night was made anew; NULL: as it was first made"


def upgrade() -> None:
    for name, comment in _NUMBERS.items():
        op.add_column("detector", sa.Column(name, sa.Double(), nullable=True, comment=comment))
    op.add_column("detector", sa.Column("gain_revision", sa.String(length=16), nullable=True, comment=_REVISION))


def downgrade() -> None:
    for name in ("gain_revision", *reversed(_NUMBERS)):
        op.drop_column("detector", name)
