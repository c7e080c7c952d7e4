"""Finding raw FITS files by their names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from db.errors import ConfigurationError

__all__ = ["FITS_SUFFIXES", "RawFiles", "find_raw_files", "is_fits_name"]

FITS_SUFFIXES = (".fits", ".fit", ".fts")
"""Suffixes of FITS files, compared without case; each may carry ``.fz`` or ``.gz`` behind it."""


class RawFiles(list[Path]):
    """Paths of FITS files, sorted; `ignored` counts the files passed over for their suffix."""

    ignored: int = 0


def is_fits_name(name: str) -> bool:
    """Whether a file name has a FITS suffix, in any case, with or without .fz or .gz behind it."""
    stem = name.lower()
    if stem.endswith((".fz", ".gz")):
        # A bare "frame.fz" is FITS by convention (fpack); a bare "notes.gz" is not.
        return stem.endswith(".fz") or stem[:-3].endswith(FITS_SUFFIXES)
    return stem.endswith(FITS_SUFFIXES)


def find_raw_files(paths: Iterable[str | Path], *, exclude: Iterable[str | Path] = ()) -> RawFiles:
    """FITS files among `paths` and, recursively, below the folders among them.

    Parameters
    ----------
    paths : iterable of path
        Files and folders.
    exclude : iterable of path
        Folders not entered, such as the root of the product files.

    Returns
    -------
    RawFiles
        Absolute paths, each once, sorted. Hidden files and folders are left out;
        files of other suffixes are counted in `ignored`.

    Raises
    ------
    ConfigurationError
        A path does not exist.
    """
    found: set[Path] = set()
    ignored = 0
    barred = {Path(path).resolve() for path in exclude}
    for entry in paths:
        root = Path(entry)
        if not root.exists():
            raise ConfigurationError("no such file or folder", where=str(entry), hint="check the path", code="configuration.path")
        for path in _walk(root, barred):
            if is_fits_name(path.name):
                found.add(path)
            else:
                ignored += 1
    files = RawFiles(sorted(found))
    files.ignored = ignored
    return files


def _walk(root: Path, barred: set[Path]) -> Iterator[Path]:
    if root.is_file():
        yield root.absolute()
        return
    for folder, names, files in os.walk(root.absolute()):
        names[:] = [name for name in names if not name.startswith(".") and (Path(folder) / name).resolve() not in barred]
        yield from (Path(folder) / name for name in files if not name.startswith("."))
