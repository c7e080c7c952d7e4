"""Catalogue files of any format as tables."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from astropy.table import Table

from db.errors import ConfigurationError

__all__ = ["read_table"]


def read_table(path: Path) -> Table:
    """A catalogue file as a table: ECSV, CSV, FITS, VOTable or Parquet, by its name and its first bytes.

    Raises
    ------
    ConfigurationError
        Where it is none of them.
    """
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".parq") and importlib.util.find_spec("pyarrow") is None:
        raise ConfigurationError("Parquet needs pyarrow", where=str(path), hint="pip install pyarrow", code="catalogue.format")
    kinds = {".csv": "ascii.csv", ".txt": "ascii.csv", ".parquet": "parquet", ".parq": "parquet"}
    try:
        return Table.read(path, format=kinds[suffix]) if suffix in kinds else Table.read(path)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"cannot be read as a table ({str(error).splitlines()[0]})",
            where=str(path),
            hint="give ECSV, CSV, FITS, VOTable or Parquet with columns ra and dec",
            code="catalogue.format",
        ) from error
