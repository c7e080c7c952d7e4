"""What is done with raw files alone, without an archive: say what their headers mean, write them as FITS."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from db.errors import ConfigurationError, NothingToDo, StarledgerError
from starledger.paths import AnyPath, Paths, as_path, as_paths, one_path

if TYPE_CHECKING:
    from reduction.files.convert import Converted
    from reduction.headers.facts import Facts
    from reduction.headers.instrument import InstrumentDefinition

__all__ = ["ConvertedFile", "HeaderFacts", "convert", "definitions", "expand", "header", "parse_offset"]

_OFFSET = re.compile(r"^\s*(?:UTC)?\s*([+-]?)(\d{1,2})(?::?(\d{2}))?\s*$", re.IGNORECASE)
_MAX_OFFSET = timedelta(hours=14)


@dataclass(frozen=True)
class HeaderFacts:
    """What the header of one raw file means.

    Attributes
    ----------
    path : Path
        The file.
    definition : str
        Name of the instrument definition that it is read by; "" when the file cannot be read.
    reason : str
        Why that definition was chosen.
    facts : Facts or None
        Every fact with its origin; `notes` are doubts and `missing` what is not there. None where `error` says why.
    error : StarledgerError or None
        Why the file cannot be used.
    """

    path: Path
    definition: str = ""
    reason: str = ""
    facts: Facts | None = None
    error: StarledgerError | None = None


def definitions(config: AnyPath | None = None) -> tuple[InstrumentDefinition, ...]:
    """The instrument definitions: those of a configuration file first, then the built-in ones.

    Raises
    ------
    ConfigurationError
        The file is missing, is not TOML, or has a wrong key.

    Examples
    --------
    >>> [definition.name for definition in starledger.definitions()]
    """
    from reduction.headers.instrument import load_definitions

    return load_definitions(as_path(config))


def header(paths: Paths, *, config: AnyPath | None = None) -> Iterator[HeaderFacts]:
    """What the headers of raw files mean, file by file, as a reduction reads them.

    Parameters
    ----------
    paths : path or iterable of path
        Raw files, or folders that hold them.
    config : path, optional
        TOML file with instruments and settings, as for a reduction.

    Returns
    -------
    iterator of HeaderFacts
        A file is read when it is asked for; one that cannot be used ends nothing: its `error` says why.

    Raises
    ------
    ConfigurationError
        For what is wrong in `config`.
    NothingToDo
        There is no raw file.

    Examples
    --------
    >>> for file in starledger.header("nights/2026-03-24"):
    ...     gain = file.facts.gain if file.facts else file.error
    """
    known, given = definitions(config), as_paths(paths)
    found = expand(given)
    if not found:
        raise NothingToDo(
            "no raw file", where=", ".join(map(str, given)), hint="name files of frames, or a folder that holds some", code="header.nothing"
        )
    return (_header_facts(path, known) for path in found)


def expand(paths: Sequence[Path]) -> list[Path]:
    """Files as given, and those that a reduction would find in the folders."""
    from reduction.files.raw_files import find_raw_files

    return [file for path in paths for file in (find_raw_files([path]) if path.is_dir() else [path])]


def _header_facts(path: Path, known: Sequence[InstrumentDefinition]) -> HeaderFacts:
    from reduction.files.convert import read_raw
    from reduction.headers.facts import facts
    from reduction.headers.instrument import identify_with_reason

    name = reason = ""
    try:
        # The pixels say the step between values, which a gain may depend on.
        raw = read_raw(path)
        definition, reason = identify_with_reason(raw.header, known)
        name = definition.name
        found = facts(raw.header, definition, raw.data.shape, path, quantum=raw.quantum, left_out=raw.left_out, damaged=raw.damaged)
    except StarledgerError as error:
        return HeaderFacts(path, name, reason, error=error)
    return HeaderFacts(path, name, reason, found)


@dataclass(frozen=True)
class ConvertedFile:
    """What became of one file: its source, its target, and either what was written or why it was not.

    Attributes
    ----------
    source, target : Path
    converted : Converted or None
        Whether it was written now, and what is known of its time.
    error : StarledgerError or None
        Why there is no FITS file of it.
    """

    source: Path
    target: Path
    converted: Converted | None = None
    error: StarledgerError | None = None


def convert(
    files: Paths,
    output: AnyPath = "fits",
    *,
    utc_offset: str | timedelta | None = None,
    compress: bool = False,
    overwrite: bool = False,
    progress: Callable[[ConvertedFile | None, int], None] | None = None,
) -> list[ConvertedFile]:
    """Write the raw files of cameras, TIFF and PNG as FITS: the mosaic as the sensor gave it, and all that is known of it.

    Parameters
    ----------
    files : path or iterable of path
        Files, or folders that hold them; folders below a given folder are kept.
    output : path
        Folder for the FITS files.
    utc_offset : str or timedelta, optional
        The camera's clock minus UTC, such as "+02:00", where its files do not say it.
    compress : bool
        Write tile-compressed .fits.fz files, without loss.
    overwrite : bool
        Write anew what is there already.
    progress : callable, optional
        Called with None before the first file and with each result as it comes, and with the number of files.

    Returns
    -------
    list of ConvertedFile
        One for each file; one that cannot be converted ends nothing: its `error` says why.

    Raises
    ------
    ConfigurationError
        A path does not exist, or `utc_offset` is none.
    NothingToDo
        There is no file to convert.

    Examples
    --------
    >>> done = starledger.convert("IMG_0001.tif", "fits", utc_offset="+02:00")
    >>> [file.target for file in done if file.error is None]
    """
    from reduction.files.convert import convert_file

    offset = parse_offset(utc_offset) if isinstance(utc_offset, str) else utc_offset
    jobs = _conversions(as_paths(files), one_path(output), ".fits.fz" if compress else ".fits")
    tell = progress or (lambda _one, _total: None)
    tell(None, len(jobs))
    results: list[ConvertedFile] = []
    made: dict[Path, Path] = {}
    for path, target in jobs.items():
        try:
            _require_unused(path, target, made)
            done = convert_file(path, target, utc_offset=offset, compressed=compress, overwrite=overwrite)
        except StarledgerError as error:
            results.append(ConvertedFile(path, target, error=error))
        else:
            made[target] = path
            results.append(ConvertedFile(path, target, done))
        tell(results[-1], len(jobs))
    return results


def parse_offset(text: str) -> timedelta:
    """Offset from UTC, such as +02:00, -0330, 9 or Z.

    Raises
    ------
    ConfigurationError
        It is none (``convert.offset``), or beyond 14 hours.
    """
    found = _OFFSET.match(text)
    if text.strip().upper() in ("Z", "UTC"):
        return timedelta()
    if found is not None:
        sign, hours, minutes = found.groups()
        size = timedelta(hours=int(hours), minutes=int(minutes or 0))
        if size <= _MAX_OFFSET and int(minutes or 0) < 60:
            return -size if sign == "-" else size
    raise ConfigurationError(
        f"{text!r} is no offset from UTC", where="--utc-offset", hint="give hours and minutes from -14:00 to +14:00", code="convert.offset"
    )


def _conversions(files: Sequence[Path], output: Path, suffix: str) -> dict[Path, Path]:
    """Target of each file that is not FITS."""
    from reduction.files.raw_files import find_raw_files, is_fits_name

    jobs: dict[Path, Path] = {}
    passed = 0
    for entry in files:
        found = find_raw_files([entry], exclude=[output])
        root = entry.absolute() if entry.is_dir() else entry.absolute().parent
        wanted = [path for path in found if not is_fits_name(path.name)]
        passed += found.ignored + len(found) - len(wanted)
        jobs |= {path: output / path.relative_to(root).with_suffix(suffix) for path in wanted if path not in jobs}
    if not jobs:
        also = f"; {passed} other files were passed over" if passed else ""
        raise NothingToDo(
            f"no raw file of a camera, TIFF or PNG{also}",
            where=", ".join(str(path) for path in files),
            hint="FITS files need no conversion",
            code="convert.nothing",
        )
    return jobs


def _require_unused(path: Path, target: Path, made: dict[Path, Path]) -> None:
    """Refuse a target that another file of this run has, which overwriting would replace."""
    if target in made:
        raise ConfigurationError(
            f"{target} is made from {made[target].name} already", where=str(path), hint="convert it with another -o", code="convert.twice"
        )
