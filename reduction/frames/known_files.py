"""Files that are given again: those that were moved have their paths mended, those that lie in two places are copies."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session

from db.errors import FrameUnusable
from db.keys import next_id
from db.tables import Exposure, ExposureCopy
from reduction.files.contents import sha256_of

__all__ = ["Settled", "known_files", "settle_paths", "size_and_time"]

#: The latest time of a file (ns) that a column of 64 bits holds.
_LATEST = 2**63 - 1
#: Values of one IN list: SQLite takes no more than 32,766.
_MANY = 10_000

#: Path, bytes and time of change (ns).
_File = tuple[str, int, int]


@dataclass
class Settled:
    """What became of files that were given.

    Attributes
    ----------
    mended, copied : int
        Files that were known under another path, at which they lie no more or still do.
    hashed : dict of str to str
        SHA-256 of what was hashed, by path.
    """

    mended: int = 0
    copied: int = 0
    hashed: dict[str, str] = field(default_factory=dict)

    @property
    def remarks(self) -> list[str]:
        """The same for people, a line at most for each."""
        lines = []
        if self.mended:
            lines.append(f"{self.mended} raw files were found in another place than before: their paths are mended")
        if self.copied:
            lines.append(f"{self.copied} files are byte for byte raw files that are known: noted as copies of them")
        return lines


def size_and_time(path: Path) -> tuple[int, int]:
    """Bytes, and when the file was changed last (ns), by which an unchanged one is known; some systems keep times that no column holds."""
    status = path.stat()
    return status.st_size, max(-_LATEST, min(status.st_mtime_ns, _LATEST))


def known_files(session: Session | Connection) -> dict[_File, str]:
    """SHA-256 of every raw file and copy that is known, by path, size and time of change."""
    own = sa.select(Exposure.path, Exposure.size, Exposure.mtime_ns, Exposure.sha256)
    copies = sa.select(ExposureCopy.path, Exposure.size, ExposureCopy.mtime_ns, Exposure.sha256).join(
        Exposure, Exposure.exposure_id == ExposureCopy.exposure_id
    )
    return {(row[0], row[1], row[2]): row[3] for query in (copies, own) for row in session.execute(query)}


def settle_paths(engine: Engine, paths: Iterable[Path], hashed: Mapping[str, str] | None = None) -> Settled:
    """Write down where raw files lie that are given under another path than the archive has.

    Parameters
    ----------
    engine : Engine
        The writer's.
    paths : iterable of Path
        Raw files.
    hashed : mapping of str to str, optional
        SHA-256 of files that were hashed just now, by path.

    Returns
    -------
    Settled
        Each file that is not known by path, size and time was hashed once.
    """
    with engine.connect() as connection:
        known = known_files(connection)
    settled = Settled()
    for path in paths:
        place = os.path.normpath(path.absolute())
        try:
            if (place, *size_and_time(path)) not in known:
                settled.hashed[place] = (hashed or {}).get(place) or sha256_of(path)
        except (OSError, FrameUnusable):
            continue  # taking it in will say so
    if known and settled.hashed:
        with engine.begin() as connection:
            exposures = _exposures(connection, list(settled.hashed.values()))
            for place, sha256 in settled.hashed.items():
                if sha256 in exposures:
                    _settle(connection, exposures[sha256], Path(place), settled)
    return settled


def _exposures(connection: Connection, hashes: list[str]) -> dict[str, Any]:
    columns = (Exposure.exposure_id, Exposure.sha256, Exposure.path, Exposure.size, Exposure.mtime_ns)
    found: dict[str, Any] = {}
    for first in range(0, len(hashes), _MANY):
        query = sa.select(*columns).where(Exposure.sha256.in_(hashes[first : first + _MANY]))
        found |= {row.sha256: row for row in connection.execute(query)}
    return found


def _settle(connection: Connection, row: Any, path: Path, settled: Settled) -> None:
    """One file of known content: it was moved there, or touched, or is a copy."""
    try:
        _, mtime_ns = size_and_time(path)
    except OSError:
        return
    # What lay at the path before was another file's, or is this one's own place now.
    connection.execute(sa.delete(ExposureCopy).where(ExposureCopy.path == str(path)))
    # Asked again, for an earlier file of the same content may have mended it.
    now = connection.execute(sa.select(Exposure.path).where(Exposure.exposure_id == row.exposure_id)).scalar_one()
    if now == str(path) or not _lies_there(Path(now), row):
        values = {"path": str(path), "mtime_ns": mtime_ns}
        connection.execute(sa.update(Exposure).where(Exposure.exposure_id == row.exposure_id).values(**values))
        settled.mended += now != str(path)
        return
    keys = {"copy_id": next_id(connection, ExposureCopy.copy_id), "exposure_id": row.exposure_id}
    connection.execute(sa.insert(ExposureCopy).values(**keys, path=str(path), mtime_ns=mtime_ns))
    settled.copied += 1


def _lies_there(path: Path, row: Any) -> bool:
    """Whether the file that is known still lies at its path: as it was left, or else by its content."""
    try:
        return size_and_time(path) == (row.size, row.mtime_ns) or sha256_of(path) == row.sha256
    except (OSError, FrameUnusable):
        return False
