"""The declarative base and the one way to declare a column: with a unit, a comment and a UCD.

Units are such as astropy reads. The UCD is that of `db.ucds`, by the column's name, unless the column gives its own.

`NULL` means unknown, never -999 and never NaN.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, MappedColumn, mapped_column

from db.ucds import ucd_of

__all__ = ["Base", "column", "key", "reference"]


class Base(DeclarativeBase):
    """Every table of the archive."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        key = list(cls.__table__.primary_key)
        for item in cls.__table__.columns:
            item.info["ucd"] = item.info["ucd"] or ucd_of(cls.__tablename__, item.name, alone_key=item.primary_key and len(key) == 1)


def column(kind: Any, unit: str, comment: str, *, null: bool = False, ucd: str = "", **options: Any) -> MappedColumn[Any]:
    """A column with its unit ("" where it has none), comment and UCD ("": that of `db.ucds`); NOT NULL unless `null`."""
    text = f"{comment} [{unit}]" if unit else comment
    return mapped_column(kind, nullable=null, comment=text, info=_info(unit, ucd, comment), **options)


def key(kind: Any, comment: str, *, ucd: str = "", **options: Any) -> MappedColumn[Any]:
    """A primary-key column."""
    options.setdefault("autoincrement", False)
    return mapped_column(kind, primary_key=True, comment=comment, info=_info("", ucd, comment), **options)


def reference(target: str, comment: str, *, null: bool = False, ucd: str = "", **options: Any) -> MappedColumn[Any]:
    """A foreign key to `target` ("table.column"); use for small tables only, never on bulk rows."""
    return mapped_column(sa.ForeignKey(target), nullable=null, comment=comment, info=_info("", ucd, comment), **options)


def _info(unit: str, ucd: str, meaning: str) -> dict[str, str]:
    return {"unit": unit, "ucd": ucd, "meaning": meaning}
