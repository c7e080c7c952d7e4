"""Paths as people give them from Python: one or many, as text or as Path."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from db.errors import ConfigurationError

__all__ = ["AnyPath", "Paths", "as_path", "as_paths", "one_path"]

#: One path.
AnyPath: TypeAlias = str | os.PathLike[str]
#: One path, or several.
Paths: TypeAlias = AnyPath | Iterable[AnyPath]


#: Bytes that a name of a file, and a whole path, may have wherever this runs.
_LONGEST_NAME, _LONGEST_PATH = 255, 4095


def as_paths(given: Paths) -> list[Path]:
    """One path or several, as a list; text is one path and never its letters. ``~`` is the home folder."""
    return [one_path(path) for path in ([given] if isinstance(given, str | os.PathLike) else given)]


def as_path(given: AnyPath | None) -> Path | None:
    """A path, where one is given."""
    return None if given is None else one_path(given)


def one_path(given: AnyPath) -> Path:
    """The path that is given; one that no file can have is an error."""
    path = Path(given).expanduser()
    if max(map(_length, path.parts), default=0) > _LONGEST_NAME or _length(path) > _LONGEST_PATH:
        message = f"a name of {_length(path)} bytes is longer than a file's can be"
        raise ConfigurationError(message, where=f"{str(path)[:40]}...", hint="check what was given", code="file.name")
    return path


def _length(path: AnyPath) -> int:
    return len(os.fsencode(path))
