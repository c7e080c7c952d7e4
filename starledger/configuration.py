"""The configuration: read and checked from a file, that in force of an archive, and all of it as commented TOML."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from db.engine import reachable
from db.errors import ConfigurationError
from db.tables import Config, Run
from reduction.catalogues.columns import require_quantities
from reduction.headers.instrument import definitions_from
from reduction.headers.toml_file import read_toml
from reduction.pipeline.open_nights import tolerances
from reduction.pipeline.order import STEPS
from reduction.pipeline.parameters import range_text, read_parameters

if TYPE_CHECKING:
    from reduction.pipeline.declaration import Step
    from starledger.archive import Archive

__all__ = ["OTHER_SECTIONS", "configuration_text", "read_configuration", "settings_in_force", "toml_value"]

#: Sections of the configuration that are not a step's, and what they say.
OTHER_SECTIONS = {
    "open_nights": "how far the result of a whole night may be from a provisional one whose frames are not measured anew",
    "catalogue_columns": "what a catalogue calls its columns, where the name is not a usual one",
    "default": "for every camera: what to take where a header says nothing",
    "override": "for every camera: what wins over the header",
    "instrument": "what the header keywords of one camera mean",
}

_HEAD = """\
# Configuration of starledger: every parameter of every step, in the order of the night.
# Keep what you change and leave out the rest, which then follows the defaults of each version.
# Give the file with --config; 'starledger config FILE' checks it."""

_HEAD_IN_FORCE = """\
# Configuration in force: what a run without --config works with.
# Values that differ from the defaults are marked."""

#: Examples of the other sections, commented out.
_OTHER_EXAMPLES = {
    "open_nights": ("distortion = 0.02", "detector = 0.01"),
    "catalogue_columns": ('ra = "ra_j2000"', 'V = "johnson_v"'),
    "default": ("latitude = 46.315", "longitude = 7.63", "height = 2120.0", "gain = 1.42"),
    "override": ("time_offset = -0.35",),
    "instrument": ('name = "roof"', 'match = { INSTRUME = "QHY*" }', 'keywords = { exptime = ["SHUTTER"] }'),
}


def read_configuration(path: Path) -> dict[str, Any]:
    """The content of a configuration file, checked.

    Parameters
    ----------
    path : Path
        TOML file.

    Returns
    -------
    dict
        Section to content, as written.

    Raises
    ------
    ConfigurationError
        The file cannot be read, is not TOML, or has a section, a key or a value that is not allowed; the message names it.
    """
    settings = read_toml(path)
    for name in settings:
        if name not in STEPS and name not in OTHER_SECTIONS:
            known = ", ".join([*STEPS, *OTHER_SECTIONS])
            raise ConfigurationError(f"no section {name!r}", where=str(path), hint=f"known are: {known}", code="config.section")
    _check_steps(settings, f"{path} ")
    require_quantities(settings.get("catalogue_columns", {}), f"{path} [catalogue_columns]")
    definitions_from(settings, str(path))
    tolerances(settings, f"{path} ")
    return settings


def settings_in_force(archive: Archive) -> dict[str, Any]:
    """The configuration that the archive's last run worked with and the next one will: {} where none was ever given.

    Raises
    ------
    ConfigurationError
        It was kept by another version and has a value that this one does not allow.
    """
    query = sa.select(Config.content).join(Run, Run.user_config_id == Config.config_id).order_by(Run.run_id.desc()).limit(1)
    with reachable(archive.engine.url), archive.engine.connect() as connection:
        content = connection.execute(query).scalar()
    settings = dict(json.loads(content)) if content else {}
    _check_steps(settings, "the archive's configuration (another is given with --config) ")
    return settings


def _check_steps(settings: Mapping[str, Any], where: str) -> None:
    for name, section in settings.items():
        if name not in STEPS:
            continue
        if not isinstance(section, dict):
            raise ConfigurationError(
                f"{name} = {section!r} is no section", where=where.strip(), hint=f"write [{name}] and its parameters", code="config.section"
            )
        read_parameters(STEPS[name].parameters, section, f"{where}[{name}]")


def configuration_text(settings: Mapping[str, Any] | None = None) -> str:
    """Every section and parameter as commented TOML, which `read_configuration` reads back as the same parameters.

    Parameters
    ----------
    settings : mapping, optional
        Sections of a configuration, checked: their values stand in place of the defaults, and those that differ are marked. The defaults
        when omitted.

    Returns
    -------
    str
        TOML.

    Examples
    --------
    >>> text = starledger.configuration_text()
    """
    given = settings or {}
    steps = (_step_text(step, given.get(step.name, {})) for step in STEPS.values())
    others = [_other_text(name, given[name]) for name in OTHER_SECTIONS if name in given]
    strangers = [f"# [{name}] is no section of this version and is not used." for name in given if name not in (*STEPS, *OTHER_SECTIONS)]
    examples = "# Other sections, with examples; docs/configuration.md and docs/instruments.md have all keys.\n" + "\n".join(
        _example(name) for name in OTHER_SECTIONS if name not in given
    )
    head = _HEAD if settings is None else _HEAD_IN_FORCE
    return "\n\n".join([head, *steps, *others, *strangers, *([examples] if len(others) < len(OTHER_SECTIONS) else [])]) + "\n"


def _step_text(step: Step, section: Mapping[str, Any]) -> str:
    return "\n".join([f"# {step.summary}", f"[{step.name}]", *_parameter_lines(step, section)])


def _parameter_lines(step: Step, section: Mapping[str, Any]) -> Iterator[str]:
    defaults = step.parameters()
    values = read_parameters(step.parameters, section, f"[{step.name}]")
    for field in dataclasses.fields(step.parameters):
        value, default = getattr(values, field.name), getattr(defaults, field.name)
        unit = f" [{field.metadata['unit']}]" if field.metadata["unit"] else ""
        allowed = range_text(field, default)
        yield f"# {field.metadata['help']}{unit}" + (f" ({allowed})" if allowed else "")
        differs = f"  # differs: the default is {toml_value(default)}" if value != default else ""
        yield f"{field.name} = {toml_value(value)}{differs}"


def _other_text(name: str, content: Any) -> str:
    """A section that is not a step's, as it was given."""
    head = f"# {OTHER_SECTIONS[name].capitalize()}."
    tables = content if isinstance(content, list) else [content]
    title = f"[[{name}]]" if isinstance(content, list) else f"[{name}]"
    return "\n\n".join([head + "\n" + _table_text(title, tables[0]), *(_table_text(title, table) for table in tables[1:])])


def _table_text(title: str, table: Mapping[str, Any]) -> str:
    return "\n".join([title, *(f"{_key(key)} = {toml_value(value)}" for key, value in table.items())])


def _example(name: str) -> str:
    title = f"[[{name}]]" if name == "instrument" else f"[{name}]"
    return "\n".join(f"# {line}" for line in (f"{title}  # {OTHER_SECTIONS[name]}", *_OTHER_EXAMPLES[name]))


def toml_value(value: Any) -> str:
    """A value as it would stand in a configuration file: bool, number, text, list or tuple, or table."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {toml_value(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, bool):
        return str(value).lower()
    return _text(value) if isinstance(value, str) else str(value)


def _text(value: str) -> str:
    # JSON's escapes are TOML's, but for one character that JSON lets stand.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _text(key)
