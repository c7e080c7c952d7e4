"""Maps of frames as terms of the magnitude fit: low polynomials of the shape map and of the profile map, less their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.tables import Frame
from db.terms import MAP_TERMS, MAPS, design, map_value
from reduction.kernels.arrays import FloatArray, IntArray
from reduction.photometry.psf_model import psf_map_of
from reduction.photometry.shape_model import shape_map_of

__all__ = ["FrameMaps", "frame_maps"]

#: Places along either axis at which a map is looked at: enough for its highest degree.
GRID = 9
_PART = 10_000


@dataclass(frozen=True)
class FrameMaps:
    """Maps of f frames.

    Attributes
    ----------
    frame_id : int, shape (f,)
    polynomials : dict of str to float64, shape (f, p)
        Coefficients of `db.terms.MAP_TERMS` by name of the map.
    """

    frame_id: IntArray
    polynomials: dict[str, FloatArray]

    def variables(self, frame: IntArray, x: FloatArray, y: FloatArray) -> dict[str, FloatArray]:
        """The maps at n places, as the views have them: `frame` (n,) are indices of the frames, `x`, `y` the variables X, Y."""
        return {name: map_value(list(values[frame].T), x, y) for name, values in self.polynomials.items()}

    def rows(self, reference_id: int) -> list[dict[str, Any]]:
        """Columns of `magfit_map`, for each map."""
        return [
            {"reference_id": reference_id, "frame_id": self.frame_id, "name": name}
            | {f"p_{term.name}": values[:, k] for k, term in enumerate(MAP_TERMS)}
            for name, values in self.polynomials.items()
        ]


def frame_maps(session: Session, frame_ids: Sequence[int], names: Sequence[str]) -> FrameMaps:
    """The maps of frames, as polynomials of the fourth degree: exact for maps that are of no higher one.

    A frame that has no shape map is as one whose stars have the same shape everywhere: the term says nothing of it.

    Parameters
    ----------
    session : Session
    frame_ids : sequence of int
        Measured frames.
    names : sequence of str
        Names of `db.terms.MAPS`; none is read that is not named.
    """
    sizes = _sizes(session, frame_ids) if names else {}
    grids = {size: _Grid.over(*size) for size in sizes.values()}
    polynomials: dict[str, FloatArray] = {name: np.zeros((len(frame_ids), len(MAP_TERMS))) for name in MAPS if name in names}
    for k, frame_id in enumerate(frame_ids if names else ()):
        grid = grids[sizes[frame_id]]
        values = _values(session, frame_id, grid.x, grid.y, names)
        for name in values:
            polynomials[name][k] = grid.inverse @ (values[name] - values[name].mean())
    return FrameMaps(np.array(frame_ids, dtype=np.int64), polynomials)


def _sizes(session: Session, frame_ids: Sequence[int]) -> dict[int, tuple[int, int]]:
    """nx, ny of each frame (pixel); asked for in parts, since a statement takes no more than some ten thousand values."""
    found = {}
    for k in range(0, len(frame_ids), _PART):
        query = sa.select(Frame.frame_id, Frame.nx, Frame.ny).where(Frame.frame_id.in_(list(frame_ids[k : k + _PART])))
        found.update({frame_id: (nx, ny) for frame_id, nx, ny in session.execute(query)})
    return found


@dataclass(frozen=True)
class _Grid:
    """Places on a frame (pixel), from the outermost pixel centres on, and what makes a polynomial of values there."""

    x: FloatArray
    y: FloatArray
    inverse: FloatArray

    @classmethod
    def over(cls, nx: int, ny: int) -> _Grid:
        x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(0.0, nx - 1.0, GRID), np.linspace(0.0, ny - 1.0, GRID)))
        matrix: FloatArray = design({"X": (2.0 * x + 1.0) / nx - 1.0, "Y": (2.0 * y + 1.0) / ny - 1.0}, MAP_TERMS)
        return cls(x, y, np.asarray(np.linalg.pinv(matrix), dtype=np.float64))


def _values(session: Session, frame_id: int, x: FloatArray, y: FloatArray, names: Sequence[str]) -> dict[str, FloatArray]:
    """The named maps of one frame at places on it (pixel), of those that it has."""
    values: dict[str, FloatArray] = {}
    shapes = shape_map_of(session, frame_id) if any(name.startswith("shape") for name in names) else None
    if shapes is not None:
        three = zip(("shape_s", "shape_d", "shape_k"), shapes.logarithm(x, y), strict=True)
        values |= {name: value for name, value in three if name in names}
    if "psf_peak" in names:
        profile, middle = psf_map_of(session, frame_id), np.zeros(1)
        peak = [profile.response(float(u), float(v), middle, middle)[0, 0] for u, v in zip(x, y, strict=True)]
        values["psf_peak"] = np.log(np.maximum(np.array(peak), np.finfo(np.float64).tiny))
    return values
