"""TOML tables to instrument definitions: every key and value is checked, and a mistake is named with its table and key."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from db.errors import ConfigurationError
from reduction.headers.definition import Correction, InstrumentDefinition, TimeRule
from reduction.headers.expressions import check_expression
from reduction.headers.fact_list import BAYER_PATTERNS, FACTS, SETTINGS
from reduction.headers.identity import IDENTITY_FACTS
from reduction.headers.name_time import time_pattern

__all__ = ["FRAME_KINDS", "TABLES", "checked_values", "definition_from_table", "wrong_key"]

#: What an image type can mean.
FRAME_KINDS = ("bias", "dark", "flat", "object", "other")
#: Keys of a definition.
TABLES = (
    "name", "like", "description", "label", "identity", "match", "expressions", "keywords", "units", "image_types", "blocked", "times",
    "corrections", "default", "override",
)  # fmt: skip
_FORMS: Mapping[str, tuple[type, str]] = {
    "name": (str, "a text"),
    "like": (str, "the name of a built-in definition"),
    "description": (str, "a text"),
    "label": (str, "a text"),
    "identity": (list, "a list of facts"),
    "times": (list, "[[instrument.times]] tables"),
    "corrections": (list, "[[instrument.corrections]] tables"),
}
_TIME_KEYS = {"date", "mjd", "jd", "clock", "at", "zone", "zone_keyword", "remark"}
_TIME_FORMS = ("date", "mjd", "jd")
_AT = (None, "start", "mid", "end")
_ZONES = (None, "utc", "local")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d*)?)?(Z|[+-]\d{2}:?\d{2})?$")
_J2000_JD = 2451544.5  # 2000-01-01T00:00
_LARGEST_OFFSET = 14.0  # hours; no time zone is farther from UTC
_LARGEST = 1e12  # whatever it is of
_LONGEST_NAME = 64  # of the column instrument.definition


def wrong_key(where: str | Path, key: str, met: str, allowed: str) -> ConfigurationError:
    """Error about one key of a configuration file: where it is, what stands there, what may."""
    return ConfigurationError(f"key '{key}': {met} is not allowed", where=str(where), hint=allowed, code="configuration.instrument")


def definition_from_table(table: Mapping[str, Any], base: InstrumentDefinition, where: str) -> InstrumentDefinition:
    """Read a definition over `base`: lists are replaced, tables are merged.

    Parameters
    ----------
    table : mapping
        Content of a built-in file, or of one ``[[instrument]]``.
    base : InstrumentDefinition
        What holds where the table says nothing: the definition of the same name, else the generic one.
    where : str
        File and table, named in errors.

    Raises
    ------
    ConfigurationError
        A key or value is not allowed (code ``configuration.instrument``).
    """
    _check_form(table, where)
    same = base.name == table["name"]
    keywords, expressions = _keywords(table.get("keywords", {}), where), _expressions(table.get("expressions", {}), where)
    return InstrumentDefinition(
        name=table["name"],
        description=table.get("description", base.description if same else ""),
        label=table.get("label", base.label),
        identity=_identity(table["identity"], where) if "identity" in table else base.identity,
        match={**(base.match if same else {}), **_match(table.get("match", {}), where)},
        # Keywords given for a fact are meant to be read: an inherited expression must not come before them.
        expressions={**{fact: text for fact, text in base.expressions.items() if fact not in keywords}, **expressions},
        keywords={**base.keywords, **keywords},
        units={**base.units, **_units(table.get("units", {}), where)},
        image_types={**_image_types(table.get("image_types", {}), where), **base.image_types},
        blocked=tuple(table.get("blocked", {}).get("filters", base.blocked)),
        times=tuple(_time_rule(rule, where) for rule in table["times"]) if "times" in table else base.times,
        corrections=tuple(_correction(entry, where) for entry in table["corrections"]) if "corrections" in table else base.corrections,
        default={**base.default, **checked_values(table.get("default", {}), "default", where)},
        override={**base.override, **checked_values(table.get("override", {}), "override", where)},
    )


def _check_form(table: Mapping[str, Any], where: str) -> None:
    """Refuse unknown keys, and values that are not of the form that their key has."""
    for key, value in table.items():
        if key not in TABLES:
            raise wrong_key(where, key, "it", f"known keys are {', '.join(TABLES)}")
        form, hint = _FORMS.get(key, (dict, "a table"))
        if not isinstance(value, form):
            raise wrong_key(where, key, repr(value), f"give {hint}")
    name = table["name"]
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise wrong_key(where, "name", repr(name[: 2 * _LONGEST_NAME]), f"give a name of up to {_LONGEST_NAME} letters")
    filters = table.get("blocked", {}).get("filters", [])
    if not _is_texts(filters):
        raise wrong_key(where, "blocked.filters", repr(filters), "give a list of names")


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _identity(facts: Any, where: str) -> tuple[str, ...]:
    if not _is_texts(facts) or not set(facts) <= set(IDENTITY_FACTS):
        raise wrong_key(where, "identity", repr(facts), f"give a list of some of {', '.join(IDENTITY_FACTS)}")
    return tuple(facts)


def _match(table: Mapping[str, Any], where: str) -> dict[str, tuple[str, ...]]:
    result = {}
    for key, patterns in table.items():
        listed = [patterns] if isinstance(patterns, str) else patterns
        if not _is_texts(listed) or not listed:
            raise wrong_key(where, "match", f"{key} = {patterns!r}", "give KEYWORD = 'pattern', or a list of patterns")
        result["|".join(word.strip().upper() for word in key.split("|"))] = tuple(listed)
    return result


def _expressions(table: Mapping[str, Any], where: str) -> dict[str, str]:
    for name, text in table.items():
        kind = FACTS.get(name)
        if kind is None or kind.form not in ("number", "angle"):
            numbers = ", ".join(fact.name for fact in FACTS.values() if fact.form in ("number", "angle"))
            raise wrong_key(where, f"expressions.{name}", "it", f"known numbers are {numbers}")
        if not isinstance(text, str):
            raise wrong_key(where, f"expressions.{name}", repr(text), "give arithmetic as a text")
        try:
            check_expression(text)
        except ValueError as error:
            allowed = "use numbers, keywords ({IN-BRACES} with a hyphen), + - * / **, parentheses, min, max, sqrt, abs"
            raise wrong_key(where, f"expressions.{name}", f"{text!r}, {error},", allowed) from error
    return dict(table)


def _keywords(table: Mapping[str, Any], where: str) -> dict[str, tuple[str, ...]]:
    result = {}
    for name, keywords in table.items():
        if name not in FACTS:
            raise wrong_key(where, f"keywords.{name}", "it", f"known facts are {', '.join(FACTS)}")
        if not _is_texts(keywords):
            raise wrong_key(where, f"keywords.{name}", repr(keywords), "give a list of header keywords")
        result[name] = tuple(keyword.upper() for keyword in keywords)
    return result


def _units(table: Mapping[str, Any], where: str) -> dict[str, str]:
    for name, unit in table.items():
        known = tuple(FACTS[name].written) if name in FACTS else ()
        if not known:
            written = ", ".join(fact.name for fact in FACTS.values() if fact.written)
            raise wrong_key(where, f"units.{name}", "it", f"facts in several units are {written}")
        if unit not in known:
            raise wrong_key(where, f"units.{name}", repr(unit), f"allowed are {', '.join(known)}")
    return dict(table)


def _image_types(table: Mapping[str, Any], where: str) -> dict[str, str]:
    for pattern, kind in table.items():
        if kind not in FRAME_KINDS:
            raise wrong_key(where, f"image_types.{pattern}", repr(kind), f"allowed are {', '.join(FRAME_KINDS)}")
    return dict(table)


def _time_rule(rule: Any, where: str) -> TimeRule:
    if not isinstance(rule, dict):
        raise wrong_key(where, "times", repr(rule), "give [[instrument.times]] tables")
    forms = [form for form in _TIME_FORMS if isinstance(rule.get(form), str)]
    at, zone = rule.get("at"), rule.get("zone")
    texts = all(isinstance(value, str) for value in rule.values())
    if len(forms) != 1 or at not in _AT or zone not in _ZONES or set(rule) - _TIME_KEYS or not texts:
        allowed = (
            "give one of date, mjd, jd = KEYWORD, and perhaps clock = KEYWORD, at = 'start', 'mid' or 'end', "
            "zone = 'utc' or 'local', zone_keyword = KEYWORD, remark = PATTERN"
        )
        raise wrong_key(where, "times", repr(rule), allowed)
    if "zone_keyword" in rule and zone != "local":
        raise wrong_key(where, "times", repr(rule), "a zone_keyword needs zone = 'local'")
    return TimeRule(
        forms[0], rule[forms[0]].upper(), _upper(rule.get("clock")), at, zone, _upper(rule.get("zone_keyword")), rule.get("remark")
    )


def _upper(word: str | None) -> str | None:
    return None if word is None else word.upper()


def _correction(entry: Any, where: str) -> Correction:
    if not isinstance(entry, dict):
        raise wrong_key(where, "corrections", repr(entry), "give [[instrument.corrections]] tables")
    seconds, reason = entry.get("seconds"), entry.get("reason", "")
    wrong = not isinstance(reason, str) or set(entry) - {"from", "until", "seconds", "reason"}
    if wrong or not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not -_LARGEST < seconds < _LARGEST:
        allowed = "give seconds = NUMBER, reason = TEXT, and from, until = ISO dates in UTC, either of which may be left out"
        raise wrong_key(where, "corrections", repr(entry), allowed)
    since = _julian_date(entry["from"], "corrections.from", where) if "from" in entry else float("-inf")
    until = _julian_date(entry["until"], "corrections.until", where) if "until" in entry else float("inf")
    if since >= until:
        raise wrong_key(where, "corrections", repr(entry), "'from' must be before 'until'")
    return Correction(float(seconds), " ".join(reason.split()), since, until)


def _julian_date(value: Any, key: str, where: str) -> float:
    """Julian date of an ISO date; TOML's own dates do as well."""
    try:
        moment = dt.datetime.fromisoformat(value.isoformat() if isinstance(value, (dt.date, dt.datetime)) else value)
    except (ValueError, TypeError) as error:
        raise wrong_key(where, key, repr(value), "give a date as 2024-03-08 or 2024-03-08T21:00:00") from error
    moment = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment
    return _J2000_JD + (moment - dt.datetime(2000, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(days=1)


def checked_values(table: Any, key: str, where: str) -> dict[str, Any]:
    """Check the values of a ``default`` or ``override`` table.

    Parameters
    ----------
    table : mapping
        Fact or setting to value.
    key : str
        ``default`` or ``override``.
    where : str
        File and table, named in errors.

    Raises
    ------
    ConfigurationError
        A key or value is not allowed (code ``configuration.instrument``).
    """
    if not isinstance(table, dict):
        raise wrong_key(where, key, repr(table), "give a table")
    settings = [name for name, (_, _, tables) in SETTINGS.items() if key in tables]
    allowed = [*(name for name, kind in FACTS.items() if kind.given), *settings]
    for name, value in table.items():
        if name not in allowed:
            raise wrong_key(where, f"{key}.{name}", "it", f"known keys are {', '.join(allowed)}")
        _check_value(f"{key}.{name}", name, value, where)
    return dict(table)


def _check_value(path: str, name: str, value: Any, where: str) -> None:
    if name == "date_obs":
        if not _MOMENT.match(value.isoformat() if isinstance(value, dt.datetime) else str(value)):
            raise wrong_key(where, path, repr(value), "give date and time as 2024-03-08T21:04:05, in UTC or with +HH:MM behind it")
    elif name == "date_from_name":
        _check_name_pattern(value, path, where)
    else:
        _check_fact(path, name, value, where)


def _check_fact(path: str, name: str, value: Any, where: str) -> None:
    form = FACTS[name].form if name in FACTS else "number"
    if form == "text":
        if not isinstance(value, str):
            raise wrong_key(where, path, repr(value), "give a text")
        if name == "bayer" and value not in (*BAYER_PATTERNS, "none"):
            raise wrong_key(where, path, repr(value), f"allowed are {', '.join(BAYER_PATTERNS)}, none")
    elif form == "section":
        if not (isinstance(value, str) and value.startswith("[")):
            raise wrong_key(where, path, repr(value), "give a FITS section such as '[1:1024,1:1024]'")
    elif not isinstance(value, (int, float)) or isinstance(value, bool):
        raise wrong_key(where, path, repr(value), "give a number")
    elif not -_LARGEST < value < _LARGEST:
        raise wrong_key(where, path, str(value)[:40], f"give a number from {-_LARGEST:g} to {_LARGEST:g}")
    elif name == "utc_offset":
        if abs(value) > _LARGEST_OFFSET:
            raise wrong_key(where, path, repr(value), f"give hours from {-_LARGEST_OFFSET:g} to {_LARGEST_OFFSET:g}")
    elif name in FACTS and not FACTS[name].allows(value):
        kind = FACTS[name]
        raise wrong_key(where, path, repr(value), _range(kind.low, kind.high, kind.above_zero))


def _check_name_pattern(value: Any, path: str, where: str) -> None:
    allowed = "give a text such as '%Y%m%d_%H%M%S' with %Y %m %d %H %M, perhaps %S, %f and %z"
    if not isinstance(value, str):
        raise wrong_key(where, path, repr(value), allowed)
    try:
        time_pattern(value)
    except ValueError as error:
        raise wrong_key(where, path, f"{value!r}, {error},", allowed) from error


def _range(low: float, high: float, above_zero: bool) -> str:
    if above_zero:
        return "give a positive number" + ("" if high == float("inf") else f" up to {high:g}")
    return f"give a number from {low:g}" + ("" if high == float("inf") else f" to {high:g}")
