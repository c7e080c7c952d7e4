"""Checking an archive's database: its schema, its own files, its references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.engine import reachable
from db.integrity import problems
from starledger.schema import check_schema

if TYPE_CHECKING:
    from starledger.archive import Archive

__all__ = ["check"]


def check(archive: Archive) -> list[str]:
    """What is wrong with an archive's database, a line each; errors as for `Archive.check`."""
    check_schema(archive)
    with reachable(archive.engine.url):
        return list(problems(archive.engine))
