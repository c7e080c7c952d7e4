"""Paths as people give them from Python: one or many, as text or as Path."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

__all__ = ["AnyPath", "Paths", "as_path", "as_paths"]

#: One path.
AnyPath: TypeAlias = str | os.PathLike[str]
#: One path, or several.
Paths: TypeAlias = AnyPath | Iterable[AnyPath]


def as_paths(given: Paths) -> list[Path]:
    """One path or several, as a list; text is one path and never its letters. ``~`` is the home folder."""
    many = [given] if isinstance(given, str | os.PathLike) else given
    return [Path(path).expanduser() for path in many]


def as_path(given: AnyPath | None) -> Path | None:
    """A path, where one is given."""
    return None if given is None else Path(given).expanduser()
