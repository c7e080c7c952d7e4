"""Paths as text in the database: names that are no UTF-8 are escaped, so that the text leads back to the file."""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa

__all__ = ["PathText", "escaped", "unescaped"]

#: Bytes that are no UTF-8, as Python has them in a path, and what looks like an escaped one.
_ODD = re.compile(r"[\udc80-\udcff]|\\(?=udc[0-9a-f]{2})")
_ESCAPED = re.compile(r"\\udc([0-9a-f]{2})")


def escaped(path: str) -> str:
    r"""A path as text that every database and terminal takes: a byte that is no UTF-8 is written ``\udcff``, as Python writes it."""
    return _ODD.sub(lambda found: rf"\udc{ord(found[0]) & 0xFF:02x}", path)


def unescaped(text: str) -> str:
    """The path that `escaped` gave this text for."""

    def original(found: re.Match[str]) -> str:
        code = int(found[1], 16)
        return chr(0xDC00 + code) if code >= 0x80 else chr(code)

    return _ESCAPED.sub(original, text)


class PathText(sa.types.TypeDecorator[str]):
    """Text that is a path: escaped in the database, and itself in Python."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:  # noqa: ARG002
        """As the database keeps it."""
        return None if value is None else escaped(value)

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:  # noqa: ARG002
        """As Python opens it."""
        return None if value is None else unescaped(value)
