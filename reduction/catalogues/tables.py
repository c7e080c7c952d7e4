"""Catalogue files of any format as tables."""

from __future__ import annotations

import importlib.util
import io
import os
import struct
import warnings
import xml.parsers.expat
import zlib
from pathlib import Path

from astropy.io import fits
from astropy.table import Table
from astropy.utils.exceptions import AstropyWarning

from db.errors import ConfigurationError, FrameUnusable
from reduction.catalogues.votables import refuse_references
from reduction.files.contents import decompressed, one_line, read_bytes

__all__ = ["catalogue_bytes", "read_table", "require_catalogue"]

#: What the readers of tables raise at files that are damaged, or something else.
_BROKEN = (
    *(fits.VerifyError, xml.parsers.expat.ExpatError, zlib.error, struct.error, OSError, EOFError, ValueError, TypeError),
    *(LookupError, ArithmeticError, AttributeError, AssertionError, RuntimeError, ImportError),
)
_HINT = "give ECSV, CSV, FITS, VOTable or Parquet with columns ra and dec"
_BY_SUFFIX = {
    ".csv": "ascii.csv",
    ".txt": "ascii.csv",
    ".parquet": "parquet",
    ".parq": "parquet",
    ".ecsv": "ascii.ecsv",
    **dict.fromkeys((".vot", ".votable", ".xml"), "votable"),
    **dict.fromkeys((".fits", ".fit", ".fts"), "fits"),
}
_BY_CONTENT = {b"SIMPLE  =": "fits", b"PAR1": "parquet", b"# %ECSV": "ascii.ecsv", b"<?xml": "votable", b"<VOTABLE": "votable"}


def require_catalogue(path: Path) -> None:
    """Refuse a path where there is nothing.

    Raises
    ------
    ConfigurationError
    """
    if not os.path.lexists(path):
        raise ConfigurationError("no such catalogue file", where=str(path), hint="check --catalogue", code="catalogue.missing")


def catalogue_bytes(path: Path) -> bytes:
    """All bytes of a catalogue file, decompressed.

    Raises
    ------
    ConfigurationError
        It cannot be read, is no regular file, is empty, or is too large.
    """
    try:
        return decompressed(read_bytes(path), path)
    except FrameUnusable as error:
        raise _unreadable(error.message, path) from error


def read_table(path: Path) -> Table:
    """A catalogue file as a table: ECSV, CSV, FITS, VOTable or Parquet, by its first bytes and its name.

    Raises
    ------
    ConfigurationError
        Where it is none of them, or is damaged.
    """
    contents = catalogue_bytes(path)
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    kind = next((kind for start, kind in _BY_CONTENT.items() if contents.lstrip()[:12].startswith(start)), _BY_SUFFIX.get(suffix))
    if kind == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ConfigurationError("Parquet needs pyarrow", where=str(path), hint="pip install pyarrow", code="catalogue.format")
    if kind is None:
        raise _unreadable(f"no format is known by {suffix or 'no suffix'}, and it starts with {contents[:12]!r}", path)
    try:
        if kind == "votable":
            refuse_references(contents)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            return Table.read(io.BytesIO(contents), format=kind)
    except _BROKEN as error:
        raise _unreadable(f"cannot be read as a table ({one_line(error)})", path) from error


def _unreadable(what: str, path: Path) -> ConfigurationError:
    return ConfigurationError(what, where=str(path), hint=_HINT, code="catalogue.format")
