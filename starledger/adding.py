"""Adding targets to an archive: from what a person says of them, also in a file, and, where asked for, from what is known of a name."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from db.decimal_comma import with_point
from db.errors import ConfigurationError, FrameUnusable
from db.tables import Target
from queries import targets
from queries.position import parse_position
from reduction.files.contents import read_bytes

if TYPE_CHECKING:
    from starledger.archive import Archive
    from starledger.resolving import Resolved

__all__ = ["TIMEOUT", "Added", "Known", "add_target", "add_targets"]

#: Seconds that each service may take.
TIMEOUT = 30.0


@dataclass(frozen=True)
class Known:
    """What a person says of a target; None: not known to them.

    Attributes
    ----------
    place : (float, float) or None
        RA and Dec in degrees, ICRS.
    epoch : BJD_TDB or None
    period, duration : day or None
    """

    place: tuple[float, float] | None = None
    epoch: float | None = None
    period: float | None = None
    duration: float | None = None


@dataclass(frozen=True)
class Added:
    """A target that was added.

    Attributes
    ----------
    target : Target
        Its row.
    lines : tuple of str
        What each service said of its name, and where they disagree; empty when none was asked.
    """

    target: Target
    lines: tuple[str, ...]


def add_target(archive: Archive, name: str, known: Known | None = None, *, resolve: bool = False, timeout: float = TIMEOUT) -> Added:
    """Add a target to an archive.

    Parameters
    ----------
    archive : Archive
    name : str
        With `resolve`, a star's, variable's or planet's; else any.
    known : Known, optional
        What is known of it. It stands, whatever services say.
    resolve : bool
        Ask SIMBAD, VSX and the NASA Exoplanet Archive for the rest. Without it the network is never asked.
    timeout : float
        Seconds that each service may take.

    Returns
    -------
    Added

    Raises
    ------
    ConfigurationError
        Without a place; see also `queries.targets.add_target` and `starledger.resolving.resolve_name`.
    AlgorithmFailed
        When the place could not be learnt, since a service did not answer.
    ArchiveUnavailable
        When another program writes to the archive.
    """
    known = known or Known()
    if known.place is None and not resolve:
        raise ConfigurationError(
            "no position", where=repr(name), hint='give "RA DEC", or --resolve to ask for its name', code="target.position"
        )
    with archive.reading() as session:
        targets.check_name(session, name)  # before three services are asked for nothing
    # Nor does the archive's one writer wait for the network.
    found = _resolved(name, known, timeout) if resolve else None
    with archive.writing() as session:
        target = _insert(session, name, known, found)
    return Added(target, () if found is None else found.lines)


def _resolved(name: str, known: Known, timeout: float) -> Resolved:
    from starledger.resolving import resolve_name  # astroquery takes two seconds to import

    return resolve_name(name, known, timeout=timeout)


def _insert(session: Session, name: str, known: Known, found: Resolved | None) -> Target:
    if found is None:
        assert known.place is not None
        return targets.add_target(session, name, *known.place, epoch=known.epoch, period=known.period, duration=known.duration)
    return targets.add_target(
        session,
        name,
        found.ra,
        found.dec,
        epoch=found.epoch,
        period=found.period,
        duration=found.duration,
        position_from=found.position_from,
        ephemeris_from=found.ephemeris_from,
    )


#: What a file may say of a target besides its name and position.
_NUMBERS = ("epoch", "period", "duration")


def add_targets(archive: Archive, path: Path) -> tuple[Target, ...]:
    """Add the targets of a file: all of them, or none.

    Parameters
    ----------
    archive : Archive
    path : Path
        Rows with commas, semicolons or blanks between them under a line of names: name, ra, dec and any of epoch, period, duration. Lines
        that begin with # are passed over.

    Raises
    ------
    ConfigurationError
        When the file cannot be read or lacks a column, or a row cannot be added: the message names its line.
    """
    added = []
    with archive.writing() as session:
        for number, name, known in _rows(path):
            try:
                added.append(_insert(session, name, known, None))
            except ConfigurationError as error:
                where = f"{path}, line {number}"
                message = ": ".join(part for part in (error.where, error.message) if part)
                raise ConfigurationError(message, where=where, hint=error.hint, code=error.code) from error
    return tuple(added)


def _rows(path: Path) -> Iterator[tuple[int, str, Known]]:
    """Number of the line, name, and what is known of each target of a file."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except (FrameUnusable, UnicodeDecodeError) as error:
        reason = error.message if isinstance(error, FrameUnusable) else "no text in UTF-8"
        raise ConfigurationError(reason, where=str(path), hint="name a file with columns name, ra, dec", code="target.file") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip() and not line.startswith("#")]
    head = lines[0][1] if lines else ""
    sign = next((one for one in (",", ";", "\t") if one in head), " ")
    reader = csv.DictReader((line for _, line in lines), delimiter=sign, skipinitialspace=True)
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
    if absent := [name for name in ("name", "ra", "dec") if name not in reader.fieldnames]:
        raise ConfigurationError(
            f"no column {', '.join(absent)}", where=str(path), hint="its first line has names: name, ra, dec", code="target.file"
        )
    try:
        for row in reader:
            # what is quoted may go over several lines
            number = lines[reader.line_num - 1][0]
            yield number, str(row["name"] or ""), _known(row, f"{path}, line {number}")
    except csv.Error as error:
        raise ConfigurationError(str(error), where=str(path), hint="write one target on each line", code="target.file") from error


def _known(row: dict[str, str | None], where: str) -> Known:
    try:
        numbers = [float(with_point(str(row[name]))) if (row.get(name) or "").strip() else None for name in _NUMBERS]
    except ValueError as error:
        raise ConfigurationError(str(error), where=where, hint="give numbers, or nothing", code="target.file") from error
    try:
        return Known(parse_position(f"{row['ra']} {row['dec']}"), *numbers)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, where=where, hint=error.hint, code=error.code) from error
