"""the field's words: steps renamed where they were called otherwise

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import hashlib
import json

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


def upgrade() -> None:
    _rename(STEPS)


def downgrade() -> None:
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
