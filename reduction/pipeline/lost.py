"""Products that are lost or damaged are made again, and what a killed run left is swept away."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from db.errors import ArchiveUnavailable
from db.tables import Product, StepCheck, Task
from reduction.files.product import TEMPORARY_PREFIX
from reduction.pipeline.order import STEPS

__all__ = ["forget", "make_again", "sweep"]

#: Values of one IN list: SQLite takes no more than 32,766.
_MANY = 10_000


def forget(connection: Connection) -> None:
    """Have every step look at everything again: a task has changed in a way that no new task tells of (`pending.Survey`)."""
    connection.execute(sa.delete(StepCheck))


def sweep(engine: Engine, files: Path) -> int:
    """Make files and rows agree: remove what a killed run left, and make what is lost pending again.

    Only names of this program's making inside its own folders are looked at.

    Returns
    -------
    int
        Number of files removed.
    """
    with engine.connect() as connection:
        sizes = {str(path): size for path, size in connection.execute(sa.select(Product.path, Product.size)) if path is not None}
    known = set(sizes)
    if known and not files.is_dir():
        raise ArchiveUnavailable(
            "the folder of the pixel products is not there", where=str(files), hint="mount it, or give --files DIR", code="archive.files"
        )
    if known and not any((files / path).is_file() for path in known):
        raise ArchiveUnavailable(
            f"none of the archive's {len(known)} products is there",
            where=str(files),
            hint="mount it, or give the right --files",
            code="archive.files",
        )
    lost = [path for path, size in sizes.items() if not _is_whole(files / path, size)]
    if lost:
        with engine.begin() as connection:
            make_again(connection, lost)
    removed = 0
    for folder in files.glob(f"{TEMPORARY_PREFIX}*/"):
        shutil.rmtree(folder, ignore_errors=True)
        removed += 1
    for kind in sorted({kind.name for step in STEPS.values() for kind in step.products}):
        for path in sorted((files / kind).glob("**/*.fits")):
            relative = path.relative_to(files).as_posix()
            if relative not in known:
                path.unlink(missing_ok=True)
                removed += 1
    return removed


def _is_whole(file: Path, size: int) -> bool:
    """Whether a product is there and as long as it was; that it is the same is asked when it is read."""
    try:
        return file.is_file() and file.stat().st_size == size
    except OSError:
        return False


def make_again(connection: Connection, lost: Sequence[str]) -> None:
    """Make the tasks pending whose files are lost, and those whose files these had taken the place of.

    Parameters
    ----------
    connection : Connection
        The one writer's.
    lost : sequence of str
        Paths of products, as the archive has them.
    """
    if not lost:
        return
    products: set[int] = set()
    for first in range(0, len(lost), _MANY):
        mine = sa.and_(Product.path.in_(lost[first : first + _MANY]), Product.superseded_by.is_(None))
        products |= set(connection.execute(sa.select(Product.product_id).where(mine)).scalars())
    earlier = products
    while earlier:
        query = sa.select(Product.product_id).join(Task).where(Product.superseded_by.in_(earlier), Task.status == "done")
        earlier = set(connection.execute(query).scalars()) - products
        products |= earlier
    forget(connection)
    made = sa.select(Product.task_id).where(Product.product_id.in_(products))
    connection.execute(sa.update(Task).where(Task.task_id.in_(made), Task.status == "done").values(status="superseded"))
