"""Finding raw files by their names.

A folder may hold a camera's file and the FITS file that was made from it: both
are found here, and `reduction.files.convert.original_sha256` tells from the header
of the second that it is the first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from db.errors import ConfigurationError

__all__ = ["CAMERA_SUFFIXES", "FITS_SUFFIXES", "PICTURE_SUFFIXES", "RawFiles", "find_raw_files", "is_fits_name", "is_raw_name"]

FITS_SUFFIXES = (".fits", ".fit", ".fts")
"""Suffixes of FITS files, compared without case; each may carry ``.fz``, ``.gz`` or ``.bz2`` behind it."""

CAMERA_SUFFIXES = (
    *(".3fr", ".arw", ".cap", ".cr2", ".cr3", ".crw", ".dcr", ".dcs", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc"),
    *(".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".ori", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)
"""Suffixes of the raw files of photographic cameras, compared without case."""

PICTURE_SUFFIXES = (".tif", ".tiff", ".png")
"""Suffixes of pictures that can hold a frame without loss, compared without case."""


class RawFiles(list[Path]):
    """Paths of raw files, sorted; `ignored` counts the files passed over for their suffix."""

    ignored: int = 0


def is_fits_name(name: str) -> bool:
    """Whether a file name has a FITS suffix, in any case, with or without .fz, .gz or .bz2 behind it."""
    stem = name.lower()
    # A bare "frame.fz" is FITS by convention (fpack); a bare "notes.gz" is not.
    return stem.endswith(".fz") or stem.removesuffix(".gz").removesuffix(".bz2").endswith(FITS_SUFFIXES)


def is_raw_name(name: str) -> bool:
    """Whether a file name has the suffix of a FITS file, a camera's raw file, a TIFF or a PNG, in any case.

    JPEG files are not among them: cameras write them beside the raw file, and they have lost what a frame needs.
    """
    return is_fits_name(name) or name.lower().endswith((*CAMERA_SUFFIXES, *PICTURE_SUFFIXES))


def find_raw_files(paths: Iterable[str | Path], *, exclude: Iterable[str | Path] = ()) -> RawFiles:
    """Raw files (`is_raw_name`) among `paths` and, recursively, below the folders among them.

    TIFF and PNG files beside other frames are plots and previews: they count where a folder among `paths` holds no other frames at
    all, nor do the folders in it; else they have to be named themselves.

    Parameters
    ----------
    paths : iterable of path
        Files and folders.
    exclude : iterable of path
        Folders not entered, such as the root of the product files.

    Returns
    -------
    RawFiles
        Absolute paths, each once, sorted. Hidden files and folders are left out; linked folders
        are followed, but none is entered twice; files passed over are counted in `ignored`.

    Raises
    ------
    ConfigurationError
        A path does not exist.
    """
    found: set[Path] = set()
    ignored = 0
    barred = {_real(path) for path in exclude}
    for entry in paths:
        root = Path(entry)
        if not os.path.lexists(root):
            raise ConfigurationError("no such file or folder", where=str(entry), hint="check the path", code="configuration.path")
        raw, other = _told_apart(_walk(root, barred))
        pictures = {path for path in raw if path.name.lower().endswith(PICTURE_SUFFIXES)}
        frames = raw - pictures or pictures
        found |= frames
        ignored += other + len(raw - frames)
    files = RawFiles(sorted(found))
    files.ignored = ignored
    return files


def _told_apart(paths: Iterable[Path]) -> tuple[set[Path], int]:
    """Those with the name of a raw file, and the number of the others."""
    raw, other = set(), 0
    for path in paths:
        if is_raw_name(path.name):
            raw.add(path)
        else:
            other += 1
    return raw, other


def _real(path: str | Path) -> Path:
    # Path.resolve raises at links that lead to themselves.
    return Path(os.path.realpath(path))


def _walk(root: Path, barred: set[Path]) -> Iterator[Path]:
    if not os.path.isdir(root):  # noqa: PTH112  Path's own raises where a folder above may not be looked into
        yield root.absolute()
        return
    top = _real(root)
    closed = {path for path in barred if path != top and path not in top.parents}
    entered = set(top.parents)  # a link back up is a loop
    starts = [root.absolute()]
    # Links wait until the folders themselves were walked: what can be reached both ways keeps its own path.
    for start in starts:
        for folder, names, files in os.walk(start):
            real = _real(folder)
            if real in entered or not closed.isdisjoint((real, *real.parents)):
                names.clear()
                continue
            entered.add(real)
            seen = [Path(folder) / name for name in sorted(names) if not name.startswith(".")]
            starts += [path for path in seen if path.is_symlink()]
            names[:] = [path.name for path in seen if not path.is_symlink()]
            yield from (Path(folder) / name for name in files if not name.startswith("."))
