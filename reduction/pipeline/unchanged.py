"""Files are what the archive says they are, or are not read: each has its SHA-256 compared before its pixels are used.

A raw file that was changed in place would be reduced under its old hash, and a product in another's place is a whole file, too. Hashing
takes a hundredth of the time that a frame takes to be worked.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from db.errors import FrameUnusable
from db.tables import Exposure, Product
from reduction.files.fits import sha256_of
from reduction.pipeline.declaration import Context

__all__ = ["LOST", "product_file", "raw_file", "require_raw"]

LOST = frozenset({"product.changed", "product.gone"})
"""Codes of errors that say of a product, by its path, that it has to be made again."""


def raw_file(exposure: Exposure) -> Path:
    """Path of an exposure's raw file.

    Raises
    ------
    FrameUnusable
        It is gone (``frame.file_missing``), or is not the file that was taken in (``frame.changed``).
    """
    path = Path(exposure.path)
    if not path.exists():
        raise FrameUnusable(
            "raw file is gone", where=str(path), hint="if it was moved: starledger relocate OLD NEW", code="frame.file_missing"
        )
    require_raw(path, exposure.sha256)
    return path


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
