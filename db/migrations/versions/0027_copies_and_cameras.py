"""copies of raw files, and what tells cameras apart

Revision ID: 0027
Revises: 0026
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pixels = "SHA-256 of the pixels' values, however the file stores them; NULL: not known yet"
    op.add_column("exposure", sa.Column("pixels_sha256", sa.String(length=64), nullable=True, comment=pixels))
    op.create_index("ix_exposure_pixels_sha256", "exposure", ["pixels_sha256"])
    op.create_index("ix_exposure_duplicate_of", "exposure", ["duplicate_of"])
    op.create_index("ix_frame_instrument_id_jd_utc", "frame", ["instrument_id", "jd_utc"])
    identity = "JSON object: label, and the facts by which its definition tells cameras apart; NULL: none known"
    op.add_column("instrument", sa.Column("identity", sa.Text(), nullable=True, comment=identity))
    op.create_table(
        "exposure_copy",
        sa.Column("copy_id", sa.Integer(), autoincrement=False, nullable=False, comment="Surrogate key"),
        sa.Column("exposure_id", sa.Integer(), nullable=False, comment="The raw file, which has SHA-256 and size"),
        sa.Column("path", sa.Text(), nullable=False, comment="Absolute path of the copy"),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False, comment="Modification time of the copy [ns]"),
        sa.ForeignKeyConstraint(["exposure_id"], ["exposure.exposure_id"], name=op.f("fk_exposure_copy_exposure_id")),
        sa.PrimaryKeyConstraint("copy_id", name=op.f("pk_exposure_copy")),
        comment="Further places of raw files, byte for byte the same",
    )
    op.create_index("ix_exposure_copy_exposure_id", "exposure_copy", ["exposure_id"])
    op.create_index("ix_exposure_copy_path", "exposure_copy", ["path"])


def downgrade() -> None:
    op.drop_table("exposure_copy")
    op.drop_column("instrument", "identity")
    op.drop_index("ix_frame_instrument_id_jd_utc", "frame")
    op.drop_index("ix_exposure_duplicate_of", "exposure")
    op.drop_index("ix_exposure_pixels_sha256", "exposure")
    op.drop_column("exposure", "pixels_sha256")
