"""What the archive holds of catalogues, and which frames it concerns."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.fetch import fetch_arrays
from db.tables import Catalogue, CatalogueCoverage, Classification, Exposure, Frame, Task
from reduction.catalogues.kernels.identifiers import unit_vectors
from reduction.catalogues.kernels.sky_ranges import circle_ranges, union
from reduction.kernels.arrays import IntArray
from reduction.pipeline.declaration import Context
from reduction.pipeline.inputs import Found, InputTask, LookedUp
from reduction.pipeline.plans import done_tasks

__all__ = ["CoveringCatalogues", "HeldCatalogues", "held_ranges", "order_of_circle"]

#: A catalogue that begins this far (deg) beyond a frame cannot have stars on it.
_AROUND = 1.0


def order_of_circle(radius: float) -> int:
    """HEALPix order whose pixels have sides of about a circle's radius (degrees): some dozen of them cover it."""
    return int(np.clip(np.floor(np.log2(58.6 / max(radius, 1e-6))), 0, 12))


def held_ranges(session: Session, sha256: str, magnitude: float) -> IntArray:
    """Sky of which a service's catalogue is held down to a magnitude, as ranges [lo, hi) of order-29 pixels."""
    query = (
        sa.select(CatalogueCoverage.lo, CatalogueCoverage.hi)
        .join(Catalogue, Catalogue.catalogue_id == CatalogueCoverage.catalogue_id)
        .where(Catalogue.sha256 == sha256, CatalogueCoverage.magnitude_limit >= magnitude)
    )
    return union(np.column_stack(fetch_arrays(session.connection(), query, kinds="ii")))


class HeldCatalogues:
    """The catalogues of an archive: the tasks that took them in, by position.

    Reads what is there once, so that a plan may ask for each of its frames.
    """

    def __init__(self, session: Session) -> None:
        done = done_tasks(session, "catalogue")
        columns = (Catalogue.sha256, Catalogue.ra, Catalogue.dec, Catalogue.radius)
        files = session.execute(sa.select(*columns).where(Catalogue.kind == "file").order_by(Catalogue.catalogue_id))
        self._files = [(done[row.sha256], unit_vectors(row.ra, row.dec), row.radius) for row in files if row.sha256 in done]
        query = (
            sa.select(CatalogueCoverage.lo, CatalogueCoverage.hi, Task.task_id, Task.input_hash)
            .join(Task, Task.task_id == CatalogueCoverage.task_id)
            .where(Task.status == "done")
            .order_by(CatalogueCoverage.lo, CatalogueCoverage.hi, Task.task_id)
        )
        rows = session.execute(query).all()
        self._pieces = [InputTask(row.task_id, row.input_hash, "catalogue") for row in rows]
        self._lo, self._hi = (np.array([getattr(row, name) for row in rows], dtype=np.int64) for name in ("lo", "hi"))

    def tasks(self, ra: float | None, dec: float | None, radius: float) -> tuple[InputTask, ...]:
        """Tasks of the catalogues that hold stars of a circle (degrees); of all catalogues where its position is unknown."""
        if ra is None or dec is None:
            return (*(task for task, _, _ in self._files), *dict.fromkeys(self._pieces))
        centre = unit_vectors(ra, dec)
        files = tuple(task for task, at, reach in self._files if _angle(centre, at) < reach + radius)
        if not self._pieces:
            return files
        wanted = circle_ranges(ra, dec, radius, order_of_circle(radius) + 2)
        # The first wanted range that ends behind a piece's begin meets it, when it begins before the piece's end.
        first = np.searchsorted(wanted[:, 1], self._lo, side="right")
        meets = np.append(wanted[:, 0], np.iinfo(np.int64).max)[first] < self._hi
        return (*files, *dict.fromkeys(self._pieces[k] for k in np.flatnonzero(meets).tolist()))


def _angle(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    return float(np.degrees(np.arccos(np.clip(np.dot(a, b), -1.0, 1.0))))


class CoveringCatalogues(LookedUp):
    """The catalogues that can cover a frame: one loaded later makes only those frames pending."""

    @property
    def steps(self) -> tuple[str, ...]:
        """Files and services."""
        return ("catalogue", "fetch")

    def look_up(self, context: Context, frames: Collection[int] | None) -> Mapping[int, Found]:
        """By where the header says that a frame points."""
        held = HeldCatalogues(context.session)
        columns = (Frame.frame_id, Frame.nx, Frame.ny, Frame.raw_step)
        query = sa.select(*columns, Exposure.pointing_ra, Exposure.pointing_dec, Exposure.pixel_scale).join(Exposure)
        found = {}
        query = query.join(Classification, Classification.frame_id == Frame.frame_id).where(Classification.type == "object")
        for row in context.session.execute(query):
            if frames is None or row.frame_id in frames:
                diagonal = float(np.hypot(row.nx, row.ny)) * row.raw_step * (row.pixel_scale or 0.0) / 3600
                found[row.frame_id] = Found(held.tasks(row.pointing_ra, row.pointing_dec, diagonal + _AROUND))
        return found
