"""Instrument definitions: which header keyword means what, one TOML table per instrument.

The built-in definitions are the files of ``reduction/instruments``. A user's
configuration file may hold ``[[instrument]]`` tables of the same form, which
come before the built-in ones (a table with the name of a built-in definition
changes what it says and keeps the rest), and the tables ``[default]`` and
``[override]``, which hold for every instrument.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from db.errors import ConfigurationError

__all__ = ["InstrumentDefinition", "TimeRule", "builtin_definitions", "definitions_from", "identify", "load_definitions"]

_GENERIC = "generic"
_KINDS = ("bias", "dark", "flat", "object", "other")
_PLACE = ("latitude", "longitude", "height")
_CAMERA = ("gain", "read_noise", "saturation", "pixel_scale", "exptime", "ccd_temperature")
_NUMBERS = (*_PLACE, *_CAMERA, "ra", "dec", "orientation")
_TEXTS = ("site_name", "telescope", "filter", "object", "bayer")
_SECTIONS = ("trim", "overscan")
_TIME_SETTINGS = ("time_offset", "time_sigma")
_VALUES = (*_NUMBERS, *_TEXTS, *_SECTIONS)
_UNITS = {"longitude": ("east", "west"), "ra": ("degree", "hour"), "ccd_temperature": ("auto", "celsius", "kelvin")}
_TABLES = ("name", "description", "label", "match", "keywords", "units", "image_types", "blocked", "times", "default", "override")
_FORMS = {"name": (str, "a text"), "description": (str, "a text"), "label": (str, "a text"), "times": (list, "[[instrument.times]] tables")}
_LIMITS = {"latitude": (-90.0, 90.0), "longitude": (-360.0, 360.0), "ra": (0.0, 360.0), "dec": (-90.0, 90.0)}
_POSITIVE = ("gain", "pixel_scale", "saturation")


@dataclass(frozen=True)
class TimeRule:
    """Where a time stands in a header.

    Attributes
    ----------
    form : str
        ``date`` (ISO date, with the time of day in it or in `clock`), ``mjd`` or ``jd``.
    keyword : str
        Keyword of the date or day number.
    clock : str or None
        Keyword of the time of day, for a date without one.
    at : str
        ``start`` or ``mid`` of the exposure.
    """

    form: str
    keyword: str
    clock: str | None = None
    at: str = "start"


@dataclass(frozen=True)
class InstrumentDefinition:
    """Meaning of the header keywords of one instrument (see ``instruments/generic.toml`` for each table)."""

    name: str
    description: str = ""
    label: str = ""
    match: Mapping[str, str] = field(default_factory=dict)
    keywords: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    image_types: Mapping[str, str] = field(default_factory=dict)
    blocked: tuple[str, ...] = ()
    times: tuple[TimeRule, ...] = ()
    default: Mapping[str, Any] = field(default_factory=dict)
    override: Mapping[str, Any] = field(default_factory=dict)


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
        The one with the most fitting patterns (the first among equals); ``generic`` when none fits.
    """
    choices = tuple(definitions) if definitions is not None else builtin_definitions()
    fitting = [choice for choice in choices if choice.match and _fits(header, choice.match)]
    if fitting:
        return max(fitting, key=lambda choice: len(choice.match))
    return next((choice for choice in choices if choice.name == _GENERIC), builtin_definitions()[-1])


def _fits(header: Mapping[str, Any], patterns: Mapping[str, str]) -> bool:
    return all(key in header and fnmatchcase(str(header[key]).strip().lower(), pattern.lower()) for key, pattern in patterns.items())


@lru_cache(maxsize=1)
def builtin_definitions() -> tuple[InstrumentDefinition, ...]:
    """Definitions that come with the package, in alphabetical order, ``generic`` last."""
    folder = resources.files("reduction") / "instruments"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda entry: entry.name)
    tables = {entry.name: tomllib.loads(entry.read_text("utf-8")) for entry in files}
    generic = _definition(tables.pop(f"{_GENERIC}.toml"), InstrumentDefinition(_GENERIC), f"{_GENERIC}.toml")
    return (*(_definition(table, generic, name) for name, table in tables.items()), generic)


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
    return builtin_definitions() if path is None else definitions_from(_read_toml(Path(path)), str(path))


def definitions_from(content: Mapping[str, Any], path: str = "configuration") -> tuple[InstrumentDefinition, ...]:
    """As `load_definitions`, from the content of a configuration file; `path` is named in errors."""
    own = {choice.name: choice for choice in builtin_definitions()}
    given: dict[str, InstrumentDefinition] = {}
    tables = content.get("instrument", [])
    if not isinstance(tables, list):
        raise _wrong(path, "instrument", "a table", "write [[instrument]], with double brackets")
    for number, table in enumerate(tables, start=1):
        where = f"{path}: instrument {number}"
        name = table.get("name")
        if not isinstance(name, str) or not name:
            raise _wrong(where, "name", repr(name), "give every [[instrument]] a name")
        given[name] = _definition(table, own.get(name, own[_GENERIC]), where)
        if not given[name].match and name != _GENERIC:
            raise _wrong(
                where, "match", "nothing", "say which header keywords have which values, such as match = { INSTRUME = 'My camera*' }"
            )
    merged = [*given.values(), *(choice for name, choice in own.items() if name not in given)]
    default = _values(content.get("default", {}), "default", str(path))
    override = _values(content.get("override", {}), "override", str(path))
    # The command's own settings hold for every camera, so they win over what a definition says of one.
    return tuple(replace(choice, default={**choice.default, **default}, override={**choice.override, **override}) for choice in merged)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot be read ({error.strerror})", where=str(path), hint="check the path given to --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"not valid TOML ({error})", where=str(path), hint="correct the line it names") from error


def _wrong(where: str | Path, key: str, met: str, allowed: str) -> ConfigurationError:
    return ConfigurationError(f"key '{key}': {met} is not allowed", where=str(where), hint=allowed, code="configuration.instrument")


def _definition(table: Mapping[str, Any], base: InstrumentDefinition, where: str) -> InstrumentDefinition:
    """Read a definition over `base`: lists of keywords and times are replaced, tables are merged."""
    _check_form(table, where)
    known = base.keywords or table["keywords"]
    return InstrumentDefinition(
        name=table["name"],
        description=table.get("description", base.description if base.name == table["name"] else ""),
        label=table.get("label", base.label),
        match={**(base.match if base.name == table["name"] else {}), **_strings(table.get("match", {}), "match", where)},
        keywords={**base.keywords, **_keywords(table.get("keywords", {}), known, where)},
        units={**base.units, **_units(table.get("units", {}), where)},
        image_types={**_image_types(table.get("image_types", {}), where), **base.image_types},
        blocked=tuple(table.get("blocked", {}).get("filters", base.blocked)),
        times=_times(table["times"], where) if "times" in table else base.times,
        default={**base.default, **_values(table.get("default", {}), "default", where)},
        override={**base.override, **_values(table.get("override", {}), "override", where)},
    )


def _check_form(table: Mapping[str, Any], where: str) -> None:
    """Refuse unknown keys, and values that are not of the form that their key has."""
    for key, value in table.items():
        if key not in _TABLES:
            raise _wrong(where, key, "it", f"known keys are {', '.join(_TABLES)}")
        form, words = _FORMS.get(key, (dict, "a table"))
        if not isinstance(value, form):
            raise _wrong(where, key, repr(value), f"give {words}")
    filters = table.get("blocked", {}).get("filters", [])
    if not isinstance(filters, list) or not all(isinstance(name, str) for name in filters):
        raise _wrong(where, "blocked.filters", repr(filters), "give a list of names")


def _strings(table: Any, key: str, where: str) -> dict[str, str]:
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise _wrong(where, key, repr(table), "give a table of keyword = pattern")
    return {name.upper(): value for name, value in table.items()}


def _keywords(table: Mapping[str, Any], known: Mapping[str, Any], where: str) -> dict[str, tuple[str, ...]]:
    result = {}
    for fact, words in table.items():
        if fact not in known:
            raise _wrong(where, f"keywords.{fact}", "it", f"known facts are {', '.join(sorted(known))}")
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise _wrong(where, f"keywords.{fact}", repr(words), "give a list of header keywords")
        result[fact] = tuple(words)
    return result


def _units(table: Mapping[str, Any], where: str) -> dict[str, str]:
    for key, value in table.items():
        if key not in _UNITS:
            raise _wrong(where, f"units.{key}", "it", f"known units are {', '.join(_UNITS)}")
        if value not in _UNITS[key]:
            raise _wrong(where, f"units.{key}", repr(value), f"allowed are {', '.join(_UNITS[key])}")
    return dict(table)


def _image_types(table: Mapping[str, Any], where: str) -> dict[str, str]:
    for pattern, kind in table.items():
        if kind not in _KINDS:
            raise _wrong(where, f"image_types.{pattern}", repr(kind), f"allowed are {', '.join(_KINDS)}")
    return dict(table)


def _times(rules: Any, where: str) -> tuple[TimeRule, ...]:
    result = []
    for rule in rules:
        if not isinstance(rule, dict):
            raise _wrong(where, "times", repr(rule), "give [[instrument.times]] tables")
        forms = [form for form in ("date", "mjd", "jd") if isinstance(rule.get(form), str)]
        at = rule.get("at", "start")
        if len(forms) != 1 or at not in ("start", "mid") or set(rule) - {"date", "mjd", "jd", "clock", "at"}:
            allowed = "give one of date, mjd, jd = KEYWORD, and perhaps clock = KEYWORD, at = 'start' or 'mid'"
            raise _wrong(where, "times", repr(rule), allowed)
        result.append(TimeRule(forms[0], rule[forms[0]], rule.get("clock"), at))
    return tuple(result)


def _values(table: Any, key: str, where: str) -> dict[str, Any]:
    """Check the values of a ``default`` or ``override`` table."""
    if not isinstance(table, dict):
        raise _wrong(where, key, repr(table), "give a table")
    allowed = _VALUES + (_TIME_SETTINGS if key == "override" else ())
    for name, value in table.items():
        if name not in allowed:
            raise _wrong(where, f"{key}.{name}", "it", f"known keys are {', '.join(allowed)}")
        _check_value(f"{key}.{name}", name, value, where)
    return dict(table)


def _check_value(path: str, name: str, value: Any, where: str) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if name in _TEXTS:
        if not isinstance(value, str):
            raise _wrong(where, path, repr(value), "give a text")
    elif name in _SECTIONS:
        if not (isinstance(value, str) and value.startswith("[")):
            raise _wrong(where, path, repr(value), "give a FITS section such as '[1:1024,1:1024]'")
    elif not number:
        raise _wrong(where, path, repr(value), "give a number")
    else:
        low, high = _LIMITS.get(name, (float("-inf"), float("inf")))
        if not low <= value <= high or (name in _POSITIVE and value <= 0):
            allowed = "give a positive number" if name in _POSITIVE else f"give a number from {low:g} to {high:g}"
            raise _wrong(where, path, repr(value), allowed)
