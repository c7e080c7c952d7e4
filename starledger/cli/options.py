"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "ArchiveOption",
    "CatalogueOption",
    "ConfigOption",
    "FetchOption",
    "FilesOption",
    "JobsOption",
    "OutputOption",
    "ReasonOption",
    "RetryOption",
    "WaitOption",
]

ArchiveOption = Annotated[
    str | None,
    typer.Option(
        "--archive", help="Database URL or SQLite file; else $STARLEDGER_ARCHIVE, else sqlite:///starledger.db.", show_default=False
    ),
]
FilesOption = Annotated[
    Path | None,
    typer.Option("--files", help="Root of the pixel products; else $STARLEDGER_FILES, else <archive name>-files.", show_default=False),
]
CatalogueOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--catalogue",
        help="Catalogue file (ECSV, CSV, FITS, VOTable, Parquet) with ra, dec and magnitudes; may be repeated.",
        show_default=False,
    ),
]
FetchOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fetch",
        metavar="NAME",
        help="Ask a service for the sky of the frames: gaia, tycho2, apass or refcat2; may be repeated. It stays in force for later runs.",
        show_default=False,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file with parameters and instruments; it stays in force for later runs.", show_default=False),
]
JobsOption = Annotated[int, typer.Option("--jobs", "-j", min=0, help="Processes that work frames; 0: one a processor.")]
RetryOption = Annotated[bool, typer.Option("--retry", help="Try again what failed before.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to a file in place of the terminal.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept with what it is the reason for.")]
WaitOption = Annotated[
    float | None,
    typer.Option(
        "--wait",
        min=0.0,
        metavar="SECONDS",
        help="How long what is written at once (mask, target add ...) waits for a reduction; else $STARLEDGER_WAIT, else 60.",
        show_default=False,
    ),
]
