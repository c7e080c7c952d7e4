"""Targets that people follow, as the frames see them: which fall on a frame, and where."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.fetch import fetch_arrays
from db.tables import Frame, Target, WcsSolution
from reduction.astrometry.kernels.wcs import PlateSolution
from reduction.astrometry.solutions import plate_solution
from reduction.astrometry.sources import sources_near
from reduction.catalogues.kernels.identifiers import unit_vectors
from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.photometry.kernels.forced import match_moving
from reduction.photometry.star_light import PlacedSources
from reduction.pipeline.inputs import Said

__all__ = ["FollowedTargets", "PlacedTargets", "frames_of_targets", "placed_targets", "targets_by_frame"]

#: Julian years that a position without an epoch may be of: SIMBAD's and other services', and the archive's catalogues'.
EPOCHS = (2000.0, 2016.0)
#: Frames are taken as circles, this much larger than their corners ask for: borders may be curved.
_AROUND = 1.05
#: Frames and targets that are compared at a time.
_BLOCK = 2_000_000


class FollowedTargets(Said):
    """The positions of targets; their names and ephemerides matter to no pixel."""

    def __init__(self) -> None:
        super().__init__((Target,))

    def digest(self, session: Session, settings: Mapping[str, Any]) -> str:  # noqa: ARG002
        """Of what tells targets apart, and their positions."""
        return hashlib.sha256("\n".join(_targets(session).words).encode()).hexdigest()


@dataclass(frozen=True)
class PlacedTargets:
    """Targets on one frame, n of them, in the order of target_id.

    Attributes
    ----------
    target_id : int64, shape (n,)
    x, y : float64, shape (n,)
        Positions (pixel).
    star : int64, shape (n,)
        Index of the source that each is; -1 for none.
    """

    target_id: IntArray
    x: FloatArray
    y: FloatArray
    star: IntArray

    def __len__(self) -> int:
        return len(self.x)


def targets_by_frame(session: Session) -> dict[int, str]:
    """What the measurement of targets depends on, by frame_id: a digest of those that may fall on the frame.

    Returns
    -------
    dict
        Of the solved frames with a target within their circle on the sky, and no others.
    """
    targets = _targets(session)
    marks = _marks(targets)
    found: dict[int, str] = {}
    for frame_id, near in _circles(session, targets):
        count, total = near.sum(axis=1), near.astype(np.uint64) @ marks
        found |= {int(frame_id[k]): f"targets {count[k]} {total[k, 0]:016x}{total[k, 1]:016x}" for k in np.flatnonzero(count)}
    return found


def frames_of_targets(session: Session, wanted: Collection[int]) -> frozenset[int]:
    """The solved frames that some targets, by target_id, may fall on."""
    targets = _targets(session)
    asked = np.isin(targets.target_id, list(wanted))
    return frozenset(int(k) for frame_id, near in _circles(session, targets) for k in frame_id[near[:, asked].any(axis=1)])


def _circles(session: Session, targets: _Targets) -> Iterator[tuple[IntArray, BoolArray]]:
    """Frames, and which of the targets lie within the circle about each: shape (frames, targets)."""
    if not targets.words:
        return
    query = sa.select(WcsSolution.frame_id, WcsSolution.ra, WcsSolution.dec, WcsSolution.radius)
    frame_id, ra, dec, radius = fetch_arrays(session.connection(), query, kinds="ifff")
    vectors = unit_vectors(targets.ra, targets.dec)
    rows = max(_BLOCK // len(vectors), 1)
    for first in range(0, len(frame_id), rows):
        some = slice(first, first + rows)
        # squared chords: rounding must not lose a target at the centre of a narrow field
        centre, chord = unit_vectors(ra[some], dec[some]), 2.0 * np.sin(np.radians(_AROUND * radius[some]) / 2.0)
        yield frame_id[some], 2.0 - 2.0 * np.clip(centre @ vectors.T, -1.0, 1.0) <= (chord**2)[:, None] + 1e-14


def placed_targets(session: Session, frame: Frame, sources: PlacedSources, margin: float, radius: float) -> PlacedTargets:
    """The targets that fall on a frame.

    Parameters
    ----------
    session : Session
        Reads.
    frame : Frame
        With a plate solution.
    sources : PlacedSources
        All whose light is on it.
    margin : float
        Least distance from the frame's border (pixel).
    radius : float
        A target at most so far from a source, where it is or was at one of `EPOCHS`, is that source, and moves with it (pixel).
    """
    plate = plate_solution(session, frame.frame_id)
    targets = _targets(session)
    x, y = plate.project(targets.ra, targets.dec)
    near = np.isfinite(x) & np.isfinite(y)
    ids, x, y = targets.target_id[near], x[near], y[near]
    if not len(ids):
        return PlacedTargets(ids, x, y, np.zeros(0, dtype=np.int64))
    star, dx, dy = match_moving(x, y, *_past(session, plate, sources), radius)
    x, y = x + dx, y + dy
    inside = plate.inside(x, y, margin)
    return PlacedTargets(ids[inside], x[inside], y[inside], star[inside])


def _past(session: Session, plate: PlateSolution, sources: PlacedSources) -> tuple[FloatArray, FloatArray]:
    """Where the sources were at `EPOCHS`, and are: x and y (pixel), shape (n_epoch + 1, n)."""
    places = []
    for epoch in EPOCHS:
        then = sources_near(session, *plate.centre, _AROUND * plate.radius, epoch)
        row = np.searchsorted(then.source_id, sources.table.source_id)
        places.append(plate.project(then.ra[row], then.dec[row]))
    x, y = zip(*places, (sources.x, sources.y), strict=True)
    return np.stack(x), np.stack(y)


@dataclass(frozen=True)
class _Targets:
    """All targets in the order of target_id: arrays of one length; what tells each from all others, as text."""

    target_id: IntArray
    ra: FloatArray
    dec: FloatArray
    words: tuple[str, ...]


def _targets(session: Session) -> _Targets:
    query = sa.select(Target.target_id, Target.ra, Target.dec, Target.created).order_by(Target.target_id)
    rows = session.execute(query).all()
    ids, (ra, dec) = np.array([row.target_id for row in rows], dtype=np.int64), np.array([row[1:3] for row in rows]).reshape(-1, 2).T
    # An identifier may be given again when the last target was removed: the time tells them apart.
    return _Targets(ids, ra, dec, tuple(f"{row.target_id} {row.ra!r} {row.dec!r} {row.created}" for row in rows))


def _marks(targets: _Targets) -> npt.NDArray[np.uint64]:
    """128 bits of each target, whose sums tell sets of targets apart; shape (n, 2)."""
    bits = b"".join(hashlib.sha256(words.encode()).digest()[:16] for words in targets.words)
    return np.frombuffer(bits, dtype="<u8").reshape(-1, 2).astype(np.uint64)
