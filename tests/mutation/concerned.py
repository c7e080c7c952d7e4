"""Which test files concern a module: those that import it, or that import what imports it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TypeVar

__all__ = ["concerned", "imports_of", "module_name"]

Key = TypeVar("Key")


def module_name(path: Path, root: Path) -> str:
    """Dotted name of a module's file under the root."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Every name that a file imports, wherever in it: `from a.b import c` is a.b and a.b.c."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update((node.module, *(f"{node.module}.{alias.name}" for alias in node.names)))
    return frozenset(found)


def concerned(module: str, tests: Mapping[Path, frozenset[str]], sources: Mapping[str, frozenset[str]]) -> list[Path]:
    """Test files of a module.

    Parameters
    ----------
    module : str
        Its dotted name.
    tests, sources : mapping
        What each test file, and each module, imports.

    Returns
    -------
    list of Path
        Files that import the module; where there is none, those that import one of its users, or users of these, and so on.
    """
    names, known = {module}, {module}
    while names:
        found = _importing(names, tests)
        if found:
            return sorted(found)
        names = set(_importing(names, sources)) - known
        known |= names
    return []


def _importing(names: Iterable[str], importers: Mapping[Key, frozenset[str]]) -> list[Key]:
    wanted = set(names)
    return [key for key, imported in importers.items() if imported & wanted]
