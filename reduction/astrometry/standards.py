"""Stars of a frame whose position on the sky is known, with their detections: what its plate solution rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from db.flags import Flag
from db.tables import Frame
from reduction.astrometry.detections import detections_of
from reduction.astrometry.kernels.distortion import Pairs
from reduction.astrometry.kernels.plate_fit import match_positions
from reduction.astrometry.kernels.wcs import PlateSolution
from reduction.astrometry.sources import SourceTable, julian_year, sources_near

__all__ = ["BRIGHTEST", "FrameStars", "Standards", "frame_stars", "standards"]

#: So many of the brightest pairs tell how well a solution fits.
BRIGHTEST = 1000
#: Error (pixel) of the mean position of a discovered source, which many frames have measured.
_SECONDARY = 0.02
#: Fainter detections (S/N) are matched, and have no say.
_FAINTEST = 10.0


@dataclass(frozen=True)
class FrameStars:
    """Sources around a frame, and its detections as `detections_of` gives them: read once, matched under one solution after another."""

    sources: SourceTable
    detections: dict[str, np.ndarray[Any, Any]]


def frame_stars(session: Session, frame: Frame, plate: PlateSolution) -> FrameStars:
    """What there is to match on a frame whose place is known to a few per cent of its radius."""
    near = sources_near(session, *plate.centre, 1.05 * plate.radius, julian_year(frame.jd_utc))
    return FrameStars(near, detections_of(session, frame.night_id, frame.frame_id))


@dataclass(frozen=True)
class Standards:
    """Pairs of a frame, brightest first, with what they are.

    `number` is the detection's on the frame, `source` the index into `sources`, `in_fit` 1 for catalogue stars, 2 for discovered
    sources, 0 for what the fit had better not use: faint stars, saturated or cut discovered sources.
    """

    pairs: Pairs
    number: npt.NDArray[np.int64]
    source: npt.NDArray[np.int64]
    in_fit: npt.NDArray[np.int64]
    sources: SourceTable

    @property
    def catalogued(self) -> npt.NDArray[np.bool_]:
        """Pairs of catalogue stars."""
        return np.asarray(self.in_fit == 1)

    def take(self, index: npt.NDArray[np.generic]) -> Standards:
        """The pairs at `index` (integers or booleans)."""
        p = self.pairs
        parts = (values[index] for values in (p.ra, p.dec, p.x, p.y, p.weight, p.star))
        return Standards(Pairs(p.solution, *parts), self.number[index], self.source[index], self.in_fit[index], self.sources)


def standards(stars: FrameStars, plate: PlateSolution, catalogue_error: float, radius: float) -> Standards:
    """Match the detections of a frame to catalogue stars and discovered sources.

    Parameters
    ----------
    stars : FrameStars
    plate : PlateSolution
        Where the sources are on the frame, to better than `radius`.
    catalogue_error : float
        Error of a catalogue star's position (pixel, per axis), of which there is no row: the residual of a fit to them.
    radius : float
        Largest distance of a pair (pixel).

    Returns
    -------
    Standards
        Weights are inverse variances (1/pixel^2).
    """
    near, found = stars.sources, stars.detections
    x, y = plate.project(near.ra, near.dec)
    inside = np.flatnonzero(plate.inside(x, y))
    pair, det = match_positions(x[inside], y[inside], found["x"].astype(float), found["y"].astype(float), radius)
    order = np.argsort(det, kind="stable")  # detections are brightest first
    source, det = inside[pair][order], det[order]
    floor = np.where(near.catalogued[source], catalogue_error, _SECONDARY)
    own = np.nan_to_num(np.hypot(found["x_err"][det], found["y_err"][det]).astype(float), nan=0.5) / np.sqrt(2.0)
    spoiled = (found["flags"][det] & int(Flag.SATURATED | Flag.EDGE)) != 0
    in_fit = np.where(near.catalogued[source], 1, np.where(spoiled, 0, 2))
    in_fit[found["flux"][det] < _FAINTEST * found["flux_err"][det]] = 0
    pairs = Pairs(
        plate,
        near.ra[source],
        near.dec[source],
        found["x"][det].astype(float),
        found["y"][det].astype(float),
        1.0 / (own**2 + floor**2),
        near.source_id[source],
    )
    return Standards(pairs, found["number"][det].astype(np.int64), source.astype(np.int64), in_fit, near)
