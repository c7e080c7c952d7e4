"""Values in the place of `:name`, for a driver that knows no named parameters of this kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from db.errors import ConfigurationError

__all__ = ["with_values"]

#: What PostgreSQL reads as one piece, and may hold a colon that names no parameter; and the parameters.
_PIECE = re.compile(
    r"""
      (?<![\w$])[eE]'(?:[^'\\]|''|\\.)*'           # with backslashes
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | --[^\r\n]*
    | (?P<comment>/\*)
    | (?<![\w$])(?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag)
    | (?<![:\w]):(?P<name>[^\W\d]\w*)
    """,
    re.DOTALL | re.VERBOSE,
)
_BRACKET = re.compile(r"/\*|\*/")


def with_values(text: str, values: Mapping[str, Any], literal: Callable[[Any], str]) -> str:
    """The statement with a literal for each `:name` outside of strings, quoted names and comments.

    Nothing is guarded by this: where it takes a colon for what it is not, the answer is another one, and the database refuses
    several statements, and writing, as in any text.

    Parameters
    ----------
    text : str
        For PostgreSQL, with `standard_conforming_strings` on.
    values : mapping
        By name; those the text does not ask for are left out.
    literal : callable
        The literal that stands for a value.

    Raises
    ------
    ConfigurationError
        When a name has no value.
    """
    parts, position = [], 0
    while found := _PIECE.search(text, position):
        parts.append(text[position : found.start()])
        position = _comment_end(text, found.end()) if found["comment"] else found.end()
        name = found["name"]
        if name is not None and name not in values:
            raise ConfigurationError(f"no value for :{name}", where="sql", hint="give a value for every :name", code="sql.parameter")
        parts.append(text[found.start() : position] if name is None else literal(values[name]))
    return "".join([*parts, text[position:]])


def _comment_end(text: str, start: int) -> int:
    """Where a comment ends whose first /* ends at `start`: PostgreSQL's are nested."""
    depth = 1
    for found in _BRACKET.finditer(text, start):
        depth += 1 if found[0] == "/*" else -1
        if depth == 0:
            return found.end()
    return len(text)
