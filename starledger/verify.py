"""Checking raw files and products against what the archive says of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.engine import reachable
from db.errors import ArchiveUnavailable, FrameUnusable
from db.tables import Exposure, ExposureCopy, Product, Task
from reduction.files.fits import sha256_of
from reduction.pipeline.lost import make_again
from starledger.patience import patience

if TYPE_CHECKING:
    from starledger.archive import Archive

__all__ = ["Finding", "Verdict", "verify"]


@dataclass(frozen=True)
class Finding:
    """A file that is not what the archive says.

    Attributes
    ----------
    path : str
        The file.
    kind : str
        "raw file", or the product's kind.
    what : str
        "gone", "changed", "of another size", or why it cannot be read.
    remedy : str
        What brings it back.
    """

    path: str
    kind: str
    what: str
    remedy: str


@dataclass(frozen=True)
class Verdict:
    """How the files are.

    Attributes
    ----------
    n_raw, n_product, n_hashed : int
        Files that were looked at, and of how many the SHA-256 was compared.
    findings : tuple of Finding
        What is wrong.
    served : tuple of Finding
        Raw files that are lost, of which another file holds the picture and serves in their place.
    noted : bool
        Whether the archive knows which products to make again; not when it could not be written to.
    """

    n_raw: int
    n_product: int
    n_hashed: int
    findings: tuple[Finding, ...]
    noted: bool
    served: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class _File:
    path: Path
    kind: str
    name: str  # of a product, as the archive has it; else empty
    sha256: str
    size: int
    mtime_ns: int | None
    known: dt.datetime  # when the archive wrote it down, UTC
    remedy: str
    exposure_id: int | None = None  # of a raw file: that which has the frames


def verify(archive: Archive, *, full: bool = False, progress: Callable[[int, int], None] | None = None) -> Verdict:
    """Check every raw file and product; parameters, returns and errors as for `Archive.verify`."""
    with reachable(archive.engine.url), archive.engine.connect() as connection:
        files = [*_raw_files(connection), *_products(connection, archive.files)]
    findings: list[Finding] = []
    missed: list[tuple[_File, Finding]] = []
    standing: dict[int | None, Path] = {}
    lost: list[str] = []
    n_hashed = 0
    for number, file in enumerate(files):
        what, hashed = _what_is_wrong(file, full=full)
        n_hashed += hashed
        if not what:
            standing.setdefault(file.exposure_id, file.path)
        elif file.exposure_id is None:
            findings.append(Finding(str(file.path), file.kind, what, file.remedy))
            lost.append(file.name)
        else:
            missed.append((file, Finding(str(file.path), file.kind, what, file.remedy)))
        if progress is not None:
            progress(number + 1, len(files))
    n_product = sum(1 for file in files if file.name)
    served = [
        replace(one, remedy=f"{standing[file.exposure_id]} serves in its place") for file, one in missed if file.exposure_id in standing
    ]
    damaged = [one for file, one in missed if file.exposure_id not in standing]
    return Verdict(len(files) - n_product, n_product, n_hashed, (*damaged, *findings), _note(archive, lost), tuple(served))


def _raw_files(connection: Connection) -> Iterator[_File]:
    """Every raw file, and every copy of one, under the exposure that has the frames."""
    remedy = "bring it back from a copy; if it was moved: starledger relocate OLD NEW; if it was meant: starledger reduce FILE"
    first = sa.func.coalesce(Exposure.duplicate_of, Exposure.exposure_id)
    own = sa.select(first, Exposure.path, Exposure.sha256, Exposure.size, Exposure.mtime_ns, Task.finished)
    own = own.join(Task, Task.task_id == Exposure.task_id).order_by(Exposure.exposure_id)
    copies = sa.select(first, ExposureCopy.path, Exposure.sha256, Exposure.size, ExposureCopy.mtime_ns, Task.finished)
    copies = copies.join(Exposure, Exposure.exposure_id == ExposureCopy.exposure_id)
    copies = copies.join(Task, Task.task_id == Exposure.task_id).order_by(ExposureCopy.copy_id)
    for query in (own, copies):
        for exposure_id, path, sha256, size, mtime_ns, finished in connection.execute(query):
            yield _File(Path(path), "raw file", "", sha256, size, mtime_ns, finished, remedy, exposure_id)


def _products(connection: Connection, files: Path) -> Iterator[_File]:
    query = (
        sa.select(Product.path, Product.kind, Product.sha256, Product.size, Product.superseded_by, Task.finished)
        .join(Task, Task.task_id == Product.task_id)
        .where(Product.path.is_not(None))
        .order_by(Product.product_id)
    )
    for row in connection.execute(query):
        remedy = "starledger reduce makes it anew" if row.superseded_by is None else "nothing uses it: another took its place"
        yield _File(files / row.path, row.kind, row.path, row.sha256, row.size, None, row.finished, remedy)


def _what_is_wrong(file: _File, *, full: bool) -> tuple[str, bool]:
    """What is wrong with a file, or nothing; and whether it was hashed."""
    try:
        status = file.path.stat()
    except FileNotFoundError:
        return "gone", False
    except OSError as error:
        return f"cannot be read ({error.strerror})", False
    if status.st_size != file.size:
        return "of another size", False
    # Whoever changes a file, or puts another in its place, cannot give it its earlier time of change back.
    known = file.known.replace(tzinfo=dt.UTC).timestamp() * 1e9
    as_left = file.mtime_ns in (None, status.st_mtime_ns) and max(status.st_ctime_ns, status.st_mtime_ns) <= known
    if as_left and not full:
        return "", False
    try:
        return ("" if sha256_of(file.path) == file.sha256 else "changed"), True
    except FrameUnusable as error:
        return error.message, False


def _note(archive: Archive, lost: list[str]) -> bool:
    """Have the next reduction make products again; whether that could be written down."""
    if not lost:
        return True
    with suppress(ArchiveUnavailable), archive.only_writer(wait=patience()), reachable(archive.engine.url):
        with archive.writer.begin() as connection:
            make_again(connection, lost)
        return True
    return False
