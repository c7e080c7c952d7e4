"""Command ``config``: the configuration as commented TOML, that of an archive, and a check of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import starledger
from db.errors import ConfigurationError
from starledger.cli.output import say, write_out

__all__ = ["register"]


def config(
    file: Annotated[Path | None, typer.Argument(help="Configuration file to check.")] = None,
    archive: Annotated[
        str | None,
        typer.Option("--archive", help="Database URL or SQLite file whose configuration in force is printed.", show_default=False),
    ] = None,
) -> None:
    """Print every parameter with its default, range and meaning as a configuration file; or check a file.

    With --archive, print what the archive's last run worked with: values that differ from the defaults are marked.

    Example: starledger config

    Example: starledger config mine.toml

    Example: starledger config --archive sqlite:///hatp32.db
    """
    from starledger.configuration import configuration_text, read_configuration, settings_in_force

    if file is not None and archive is not None:
        raise ConfigurationError("a file and an archive", hint="give FILE to check it, or --archive to see its own", code="config.usage")
    if file is not None:
        read_configuration(file)
        say(f"{file}: OK")
        return
    settings = None if archive is None else settings_in_force(starledger.open(archive))
    write_out(configuration_text(settings))


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(config)
