"""Instrument definitions: which header keyword means what, one TOML table per instrument.

The built-in definitions are the files of ``reduction/headers/instruments``. A user's
configuration file may hold ``[[instrument]]`` tables of the same form, which
come before the built-in ones (a table with the name of a built-in definition
changes what it says and keeps the rest), and the tables ``[default]`` and
``[override]``, which hold for every instrument. ``docs/instruments.md``
describes the tables.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from reduction.headers.definition import Correction, InstrumentDefinition, TimeRule
from reduction.headers.definition_file import checked_values, definition_from_table, wrong_key
from reduction.headers.toml_file import read_toml

__all__ = [
    "Correction",
    "InstrumentDefinition",
    "TimeRule",
    "builtin_definitions",
    "definitions_from",
    "identify",
    "identify_with_reason",
    "load_definitions",
]

_GENERIC = "generic"


def identify(header: Mapping[str, Any], definitions: Iterable[InstrumentDefinition] | None = None) -> InstrumentDefinition:
    """Definition that fits a header best.

    Parameters
    ----------
    header : mapping
        FITS header.
    definitions : iterable of InstrumentDefinition, optional
        As from `load_definitions`; the built-in ones when omitted.

    Returns
    -------
    InstrumentDefinition
        Of those all of whose entries under ``match`` fit, the one with the most entries (the first among equals); ``generic``
        when none fits.
    """
    return identify_with_reason(header, definitions)[0]


def identify_with_reason(
    header: Mapping[str, Any], definitions: Iterable[InstrumentDefinition] | None = None
) -> tuple[InstrumentDefinition, str]:
    """As `identify`, with what fitted, such as ``SWCREATE = 'N.I.N.A. 3.1' fits 'N.I.N.A.*'``."""
    choices = tuple(definitions) if definitions is not None else builtin_definitions()
    found = [(choice, reasons) for choice in choices if choice.match and (reasons := _reasons(header, choice.match)) is not None]
    if found:
        best, reasons = max(found, key=lambda pair: len(pair[1]))
        return best, ", ".join(reasons)
    generic = next((choice for choice in choices if choice.name == _GENERIC), builtin_definitions()[-1])
    return generic, "no other definition fits"


def _reasons(header: Mapping[str, Any], match: Mapping[str, tuple[str, ...]]) -> list[str] | None:
    """What fits each entry, or None when one is not fitted."""
    reasons = []
    for keywords, patterns in match.items():
        reason = next((fit for keyword in keywords.split("|") for fit in _fits(header, keyword, patterns)), None)
        if reason is None:
            return None
        reasons.append(reason)
    return reasons


def _fits(header: Mapping[str, Any], keyword: str, patterns: tuple[str, ...]) -> list[str]:
    if keyword not in header:
        return []
    # COMMENT and HISTORY have many lines, and a pattern is held against each.
    lines = [line.strip() for line in str(header[keyword]).splitlines()] or [""]
    return [
        f"{keyword} = '{line[:60]}' fits '{pattern}'"
        for line in lines
        for pattern in patterns
        if fnmatchcase(line.lower(), pattern.lower())
    ][:1]


@lru_cache(maxsize=1)
def builtin_definitions() -> tuple[InstrumentDefinition, ...]:
    """Definitions that come with the package, in alphabetical order, ``generic`` last."""
    folder = resources.files("reduction") / "headers" / "instruments"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda entry: entry.name)
    tables = {entry.name: tomllib.loads(entry.read_text("utf-8")) for entry in files}
    generic = definition_from_table(tables.pop(f"{_GENERIC}.toml"), InstrumentDefinition(_GENERIC), f"{_GENERIC}.toml")
    return (*(definition_from_table(table, generic, name) for name, table in tables.items()), generic)


def load_definitions(path: str | Path | None = None) -> tuple[InstrumentDefinition, ...]:
    """Built-in definitions, preceded and changed by those of a configuration file.

    Parameters
    ----------
    path : path or None
        TOML file; only its tables ``instrument``, ``default`` and ``override`` are read here.

    Raises
    ------
    ConfigurationError
        The file is missing, is not TOML, or has a wrong key, which the message names.
    """
    return builtin_definitions() if path is None else definitions_from(read_toml(Path(path)), str(path))


def definitions_from(content: Mapping[str, Any], path: str = "configuration") -> tuple[InstrumentDefinition, ...]:
    """As `load_definitions`, from the content of a configuration file; `path` is named in errors."""
    own = {choice.name: choice for choice in builtin_definitions()}
    given: dict[str, InstrumentDefinition] = {}
    tables = content.get("instrument", [])
    if not isinstance(tables, list):
        raise wrong_key(path, "instrument", "a table", "write [[instrument]], with double brackets")
    for number, table in enumerate(tables, start=1):
        where = f"{path}: instrument {number}"
        name = table.get("name") if isinstance(table, dict) else None
        if not isinstance(name, str) or not name:
            raise wrong_key(where, "name", repr(name), "give every [[instrument]] a name")
        where = f"{where} ({name})"
        like = table.get("like", name if name in own else _GENERIC)
        if like not in own:
            raise wrong_key(where, "like", repr(like), f"built-in definitions are {', '.join(own)}")
        given[name] = definition_from_table(table, own[like], where)
        if not given[name].match and name != _GENERIC:
            allowed = "say which header keywords have which values, such as match = { INSTRUME = 'My camera*' }"
            raise wrong_key(where, "match", "nothing", allowed)
    merged = [*given.values(), *(choice for name, choice in own.items() if name not in given)]
    default = checked_values(content.get("default", {}), "default", str(path))
    override = checked_values(content.get("override", {}), "override", str(path))
    # The command's own settings hold for every camera, so they win over what a definition says of one.
    return tuple(replace(choice, default={**choice.default, **default}, override={**choice.override, **override}) for choice in merged)
