"""Files are what the archive says they are, or are not read: each has its SHA-256 compared before its pixels are used.

A raw file that was changed in place would be reduced under its old hash, and a product in another's place is a whole file, too. Hashing
takes a hundredth of the time that a frame takes to be worked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import FrameUnusable
from db.tables import Exposure, ExposureCopy, Product
from reduction.files.fits import sha256_of
from reduction.pipeline.declaration import Context

__all__ = ["LOST", "Place", "places", "product_file", "raw_file", "require_raw"]

LOST = frozenset({"product.changed", "product.gone"})
"""Codes of errors that say of a product, by its path, that it has to be made again."""


class Place(NamedTuple):
    """Where a file lies that holds an exposure, and the SHA-256 of its bytes."""

    path: Path
    sha256: str


def places(session: Session, exposure: Exposure) -> Iterator[Place]:
    """Every file that holds an exposure, as the archive knows: its own, those of the same bytes, then those of the same picture.

    Of the last, those with equal pixels come first; one that went through lossy compression is better than none.
    """
    yield Place(Path(exposure.path), exposure.sha256)
    first = exposure.duplicate_of or exposure.exposure_id
    same = sa.or_(Exposure.exposure_id == first, Exposure.duplicate_of == first)
    # A camera's own file and what was made of it may be of different size.
    others = sa.select(Exposure).where(same, Exposure.instrument_id == exposure.instrument_id).order_by(Exposure.exposure_id)
    files = sorted(
        session.scalars(others), key=lambda one: (one.exposure_id != exposure.exposure_id, one.pixels_sha256 != exposure.pixels_sha256)
    )
    for one in files:
        if one.exposure_id != exposure.exposure_id:
            yield Place(Path(one.path), one.sha256)
        copies = sa.select(ExposureCopy.path).where(ExposureCopy.exposure_id == one.exposure_id).order_by(ExposureCopy.copy_id)
        for path in session.scalars(copies):
            yield Place(Path(path), one.sha256)


def raw_file(session: Session, exposure: Exposure) -> Path:
    """Path of a file that holds an exposure: its own, or where that is gone or changed, one of its copies.

    Parameters
    ----------
    session : Session
        Reads.
    exposure : Exposure

    Raises
    ------
    FrameUnusable
        Of its own file, where no copy serves: it is gone (``frame.file_missing``), or is not what was taken in (``frame.changed``).
    """
    failure: FrameUnusable | None = None
    for place in places(session, exposure):
        try:
            _require_there(place.path)
            require_raw(place.path, place.sha256)
        except FrameUnusable as error:
            failure = failure or error
        else:
            return place.path
    assert failure is not None
    raise failure


def _require_there(path: Path) -> None:
    if not path.exists():
        raise FrameUnusable(
            "raw file is gone", where=str(path), hint="if it was moved: starledger relocate OLD NEW", code="frame.file_missing"
        )


def require_raw(path: Path, sha256: str) -> None:
    """Refuse a raw file that is not the one that was taken in."""
    if sha256_of(path) != sha256:
        raise FrameUnusable(
            "the file was changed since it was taken in",
            where=str(path),
            hint="bring it back from a copy and run with --retry, or give it to 'starledger reduce' as another frame",
            code="frame.changed",
        )


def product_file(context: Context, path: str | None) -> Path:
    """Path of a product, below the files root.

    Parameters
    ----------
    context : Context
        Of the body that reads it.
    path : str, optional
        As the archive has it.

    Raises
    ------
    FrameUnusable
        It is gone (``product.gone``), or is not what was written (``product.changed``). The writer takes note: the next run makes it.
    """
    file = context.files / str(path)
    if path is None or not file.is_file():
        raise FrameUnusable(
            "a product is gone",
            where=str(file),
            hint="give the right --files; if it is lost, the next 'starledger reduce' makes it again",
            code="product.gone",
        )
    known = context.session.execute(sa.select(Product.sha256).where(Product.path == path)).scalar_one()
    if sha256_of(file) != known:
        raise FrameUnusable(
            "this product is not what was written: damaged, or another file in its place",
            where=str(file),
            hint="the next 'starledger reduce' makes it again",
            code="product.changed",
        )
    return file
