"""The pages of the documentation that follow from the code: steps, commands, schema, flags, errors.

`make docs` writes them into ``docs/``; a test fails where the pages there are not what the code says now.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import sqlalchemy as sa
import typer
from typer.models import ArgumentInfo, OptionInfo

from db.error_codes import ERROR_CODES
from db.errors import AlgorithmFailed, ArchiveUnavailable, ConfigurationError, FrameUnusable, NothingToDo
from db.flags import FLAG_TEXT, MASK_TEXT, Flag, Mask
from db.path_text import PathText
from db.tables import Base
from db.view_declaration import View, ViewColumn
from db.views import DEFINITIONS
from reduction.pipeline.declaration import Step
from reduction.pipeline.order import STEPS
from reduction.pipeline.parameters import range_text
from starledger.cli.app import app
from starledger.configuration import toml_value

__all__ = ["PAGES", "commands", "commands_page", "errors_page", "examples", "flags_page", "schema_page", "steps_page", "write_pages"]

_GENERATED = "<!-- Written by `make docs`: do not edit. -->"

_EXIT_CODES = (
    ("0", "all done, or nothing to do"),
    ("1", "finished, but something failed (also on a later run, while it stays failed): `starledger status` says what and why"),
    ("2", "wrong usage or configuration, or nothing usable"),
    ("3", "the archive cannot be reached, is locked, or has another schema"),
    ("130", "interrupted; what was done is kept"),
    ("141", "whoever read the output through a pipe went away"),
)

#: What SQL calls a type depends on the engine; these names say what it holds.
_TYPES: tuple[tuple[type[Any], str], ...] = (
    (sa.BigInteger, "int8"),
    (sa.SmallInteger, "int2"),
    (sa.Integer, "int4"),
    (sa.REAL, "float4"),
    (sa.Double, "float8"),
    (sa.DateTime, "timestamp"),
    (sa.String, "text"),
    (PathText, "text"),
)

_AREAS = {
    "frames": "What was observed",
    "calibration": "Detectors, masters and calibrated frames",
    "catalogues": "Stars",
    "astrometry": "Detections and plate solutions",
    "photometry": "Measurements",
    "lightcurves": "Magnitude fits and light curves",
    "standards": "Standard systems and offsets",
    "pipeline": "Provenance",
}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines)


def _plain(text: str | None) -> str:
    """Text in which nothing is taken for a tag."""
    return (text or "").replace("<", "\\<")


def _page(*parts: str) -> str:
    return "\n\n".join(part for part in (parts[0], _GENERATED, *parts[1:]) if part) + "\n"


def _links(tables: Iterable[type[Base]]) -> str:
    return (
        ", ".join(
            f"[{table.__tablename__}](schema.md#{table.__tablename__})" for table in sorted(tables, key=lambda table: table.__tablename__)
        )
        or "nothing"
    )


# Steps


def steps_page() -> str:
    """Every step: order, what it works per, what it comes after, tables read and written, parameters.

    Returns
    -------
    str
        Markdown.
    """
    overview = [
        [str(number), f"[{step.name}](#{step.name})", step.per, ", ".join(step.after) or "-", step.summary]
        for number, step in enumerate(STEPS.values(), start=1)
    ]
    return _page(
        "# Steps",
        "`starledger reduce` takes the steps in this order, and works all that is pending of one before the next begins. A unit of work "
        "(*per*: a file, a frame, an instrument's night, a field) is made from what the steps under *after* did for it: when that changes, "
        "or a parameter, or the step's version, exactly the units that depend on it become pending. Each step is also "
        "[a command](commands.md#single-steps), and its parameters are set in its section of the [configuration file](configuration.md).",
        _table(("", "step", "per", "after", "what it does"), overview),
        *(_step_section(step) for step in STEPS.values()),
    )


def _step_section(step: Step) -> str:
    fields = dataclasses.fields(step.parameters)
    rows = [
        [
            f"`{f.name}`",
            f"`{toml_value(default)}`",
            _plain(range_text(f, default)) or "any text",
            f.metadata["unit"],
            _plain(f.metadata["help"]),
        ]
        for f in fields
        for default in [getattr(step.parameters(), f.name)]
    ]
    facts = [
        f"Works per {step.per}; version {step.version}" + (f"; after {', '.join(step.after)}." if step.after else "."),
        f"Reads {_links(step.reads)}; writes {_links(step.writes)}.",
    ]
    if step.chances:
        facts.append(f"What fails is tried again when all else is done: {'; '.join(step.chances)}.")
    parameters = _table(("parameter", "default", "allowed", "unit", "meaning"), rows) if rows else "No parameters."
    return "\n\n".join((f"## {step.name}", step.summary, " ".join(facts), parameters))


# Commands


def commands(command: Any = None, path: str = "starledger") -> Iterator[tuple[str, Any]]:
    """Every command that can be called, with its full name ("starledger target add").

    Parameters
    ----------
    command : click command, optional
        Where to begin; the whole program when omitted.
    path : str
        Its name.
    """
    command = typer.main.get_command(app) if command is None else command
    if hasattr(command, "commands"):
        for name in command.list_commands(None):
            yield from commands(command.get_command(None, name), f"{path} {name}")
    else:
        yield path, command


def examples(command: Any) -> list[str]:
    """The lines of a command's help that begin with "Example:", without that word."""
    return [
        line.strip().removeprefix("Example:").strip() for line in (command.help or "").splitlines() if line.strip().startswith("Example:")
    ]


def commands_page() -> str:
    """Every command with its help, examples, arguments and options.

    Returns
    -------
    str
        Markdown.
    """
    found = list(commands())
    steps = [(path, command) for path, command in found if path.removeprefix("starledger ") in STEPS]
    others = [item for item in found if item not in steps]
    overview = [[f"[{path}](#{path.replace(' ', '-')})", _prose(command).split("\n\n")[0]] for path, command in others]
    return _page(
        "# Commands",
        "The archive is `--archive`, else `$STARLEDGER_ARCHIVE`, else `sqlite:///starledger.db`. Every command has `--help`, and "
        "`starledger --version` says the version. Messages go to stderr, results to stdout.",
        _table(("exit code", "meaning"), _EXIT_CODES),
        _table(("command", "what it does"), [*overview, ["[single steps](#single-steps)", "One step of the reduction alone."]]),
        *(_command_section(path, command) for path, command in others),
        "## single steps",
        "One step alone, over all that is pending of it, in the order of [the steps](steps.md). `catalogue` and `ingest` are given files "
        "or folders (`PATHS`); the others work on what is in the archive. All have these options:",
        _options(steps[-1][1]),
        *(f"### {path}\n\n{_prose(command)}\n\n{_shell(command)}" for path, command in steps),
    )


def _prose(command: Any) -> str:
    """A command's help without its examples, a paragraph a line."""
    paragraphs = re.split(r"\n\s*\n", (command.help or "").replace("\f", "").strip())
    return "\n\n".join(" ".join(text.split()) for text in paragraphs if not text.strip().startswith("Example:"))


def _shell(command: Any) -> str:
    return "```sh\n" + "\n".join(examples(command)) + "\n```"


def _command_section(path: str, command: Any) -> str:
    parts = (f"## {path}", _prose(command), _shell(command), _arguments(command), _options(command))
    return "\n\n".join(part for part in parts if part)


def _parameters(command: Any, kind: type[Any]) -> Iterator[tuple[inspect.Parameter, Any, Any]]:
    """A command's arguments or options as its function declares them: parameter, type, and what Typer was told of it."""
    for parameter in inspect.signature(command.callback, eval_str=True).parameters.values():
        annotation, info = get_args(parameter.annotation)[:2]
        if isinstance(info, kind):
            yield parameter, next((one for one in get_args(annotation) if one is not NoneType), annotation), info


def _arguments(command: Any) -> str:
    rows = []
    for parameter, _, info in _parameters(command, ArgumentInfo):
        rows.append([f"`{info.metavar or parameter.name.upper()}`", _default(parameter), _plain(info.help)])
    return _table(("argument", "default", "meaning"), rows) if rows else ""


def _options(command: Any) -> str:
    names = {parameter.name: parameter.opts for parameter in command.params}
    rows = [[_spelling(names[p.name], kind, info), _default(p), _plain(info.help)] for p, kind, info in _parameters(command, OptionInfo)]
    return _table(("option", "default", "meaning"), rows) if rows else ""


def _spelling(names: Sequence[str], kind: Any, info: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        value = "|".join(str(choice.value) for choice in kind)
    else:
        value = info.metavar or {bool: "", int: "NUMBER", float: "NUMBER", str: "TEXT"}.get(kind, "PATH")
    return ", ".join(f"`{name} {value}`" if value else f"`{name}`" for name in names)


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return "required"
    return "" if parameter.default is None or parameter.default is False else f"`{parameter.default}`"


# Schema


def schema_page() -> str:
    """Every table and view with its columns, units and comments.

    Returns
    -------
    str
        Markdown.
    """
    areas: dict[str, list[sa.Table]] = {area: [] for area in _AREAS}
    for mapper in Base.registry.mappers:
        table = mapper.local_table
        assert isinstance(table, sa.Table)
        areas[mapper.class_.__module__.removeprefix("db.")].append(table)
    parts = []
    for area, title in _AREAS.items():
        tables = sorted(areas[area], key=lambda table: table.name)
        parts += [f"# {title}", *(_table_section(table) for table in tables)]
    names = ", ".join(f"[{name}](#{name})" for name in DEFINITIONS)
    return _page(
        "# Schema",
        "Columns of the key are **bold**. NULL means unknown; it is never -999 and never NaN. x and y are 0-based pixel centres; ra and "
        "dec are degrees (ICRS); mag = 25 - 2.5 log10(flux/exptime). The types are those of PostgreSQL in short; SQLite keeps the same "
        f"values. People query the views first: {names}.",
        "# Views",
        *_view_sections(),
        *parts,
    )


def _type_name(column: sa.Column[Any]) -> str:
    return next(name for kind, name in _TYPES if isinstance(column.type, kind))


def _table_section(table: sa.Table) -> str:
    rows = []
    for column in table.columns:
        name = f"**{column.name}**" if column.primary_key else column.name
        target = next((key.column.table.name for key in column.foreign_keys), None)
        link = f" → [{target}](#{target})" if target else ""
        info, null = column.info, "yes" if column.nullable else ""
        rows.append([name, _type_name(column), info["unit"], null, _plain(info["meaning"]) + link, info["ucd"]])
    writers = ", ".join(f"[{step.name}](steps.md#{step.name})" for step in STEPS.values() if table in {t.__table__ for t in step.writes})
    made = f" Written by {writers}." if writers else ""
    return f"## {table.name}\n\n{table.comment}.{made}\n\n" + _table(("column", "type", "unit", "NULL", "meaning", "UCD"), rows)


def _view_sections() -> Iterator[str]:
    told: set[tuple[ViewColumn, ...]] = set()
    for view in DEFINITIONS.values():
        columns = "" if view.columns in told else f"\n\n{_view_columns(view)}"
        told.add(view.columns)
        yield f"## {view.name}\n\n{_plain(view.comment)}{columns}"


def _view_columns(view: View) -> str:
    return _table(
        ("column", "unit", "meaning", "UCD"), [[column.name, column.unit, _plain(column.comment), column.ucd] for column in view.columns]
    )


# Flags


def flags_page() -> str:
    """The bits of `measurement.flags` and of the pixel masks.

    Returns
    -------
    str
        Markdown.
    """

    def rows(texts: dict[Any, str]) -> list[list[str]]:
        return [[str(int(bit)), bit.name, text] for bit, text in texts.items()]

    return _page(
        "# Flags",
        "`measurement.flags`, and `flags` in the views `light_curve` and `light_curve_all`, is the sum of these bits. In SQL, the view "
        "`flag_bit` names them; in Python, `db.flags.decode(bits)` does. A flag says what was met; it does not reject the point. "
        f"`quality` is 1 where one of {_names(Flag.SATURATED | Flag.BAD_PIXEL | Flag.COSMIC)} is set, and 2 where a person has "
        "masked the point.",
        _table(("bit", "name", "meaning"), rows(FLAG_TEXT)),
        "## Pixel masks",
        "The plane MASK of calibrated frames and masters is the sum of these bits, pixel by pixel.",
        _table(("bit", "name", "meaning"), rows(MASK_TEXT)),
    )


def _names(bits: Flag | Mask) -> str:
    return ", ".join(str(bit.name) for bit in type(bits) if bits & bit)


# Errors


def errors_page() -> str:
    """Every error code: class, meaning, remedy.

    Returns
    -------
    str
        Markdown.
    """
    classes = [AlgorithmFailed, ArchiveUnavailable, ConfigurationError, FrameUnusable, NothingToDo]
    rows = [
        [f"`{code}`", ", ".join(kind.__name__ for kind in said.kinds), _plain(said.meaning), _plain(said.remedy)]
        for code, said in sorted(ERROR_CODES.items())
    ]
    return _page(
        "# Errors",
        "An error is one line: where it happened, what is the matter, and what to do. Its code says the same to programs: it is `code` "
        "of what Python raises (`db.errors.StarledgerError`), and the column `error_code` of the table [task](schema.md#task) for a unit "
        "that failed. Codes stay as they are; messages may change. `STEP` stands for the name of a [step](steps.md), as in "
        "`detect.defect`.",
        "```sql\nSELECT step, unit, error_code, message FROM task WHERE status = 'failed'\n```",
        _table(
            ("class", "exit code", "meaning"),
            [[kind.__name__, str(kind.exit_code), _plain((kind.__doc__ or "").strip().splitlines()[0])] for kind in classes],
        ),
        "What concerns one frame or one unit of work is recorded, the rest goes on, and the run ends with 1 (or 2, when nothing was "
        "usable); the other errors end it.",
        _table(("code", "class", "meaning", "what to do"), rows),
    )


#: The pages by their file in docs/.
PAGES = {
    "steps.md": steps_page,
    "commands.md": commands_page,
    "schema.md": schema_page,
    "flags.md": flags_page,
    "errors.md": errors_page,
}


def write_pages(folder: Path) -> None:
    """Write every page into `folder`."""
    for name, page in PAGES.items():
        (folder / name).write_text(page(), "utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
