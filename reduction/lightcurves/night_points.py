"""A field's measurements of one night as arrays, joined in SQL with what the terms in use need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.fetch import fetch_arrays
from db.flags import Flag
from db.tables import (
    Classification,
    DetectionSummary,
    Frame,
    FrameBackground,
    FrameField,
    FramePhotometry,
    KeptFrame,
    PhotometrySlot,
    ShapeMap,
)
from db.terms import VARIABLES
from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.lightcurves.fit_terms import FitTerms
from reduction.lightcurves.kernels.night_fit import FitRows
from reduction.lightcurves.map_terms import FrameMaps, frame_maps
from reduction.pipeline.plans import not_masked

_SingleArray = npt.NDArray[np.float32]

__all__ = ["UNFIT", "NightPoints", "Shot", "measured", "read_night", "shots", "slots_of"]

#: Points that may not fix a fit. Blends and corrected bad pixels may: they are as constant as other stars, and robustly weighted.
#: Light that fell beyond the edge is the profile's word, and differs from frame to frame where the pointing does.
UNFIT = int(Flag.SATURATED | Flag.COSMIC | Flag.EDGE)


@dataclass(frozen=True)
class Shot:
    """What the fit needs to know of a frame; None where it is unknown."""

    frame_id: int
    night_id: int
    instrument_id: int
    exptime: float
    measure_task: int
    zero_point: float | None
    zero_point_scatter: float | None
    airmass: float | None
    n_star: int
    fwhm: float | None
    sky_level: float | None
    ellipticity: float | None
    sun_altitude: float | None
    masked: int
    kept: int


@dataclass(frozen=True)
class NightPoints:
    """Measurements of some frames of a field: rows sorted by frame, then source.

    Attributes
    ----------
    shots : sequence of Shot
        The frames, in the order of time.
    source_id, fold : int, shape (n,)
        Its stars, rising, and their folds.
    fit_mag : float64, shape (n,)
        Magnitude of each in the field's band.
    catalogued : bool, shape (n,)
    frame, star : int, shape (rows,)
        Index into `shots`, and into `source_id`.
    eligible : bool, shape (rows,)
        Points that may fix a fit.
    variables : mapping of str to float64, shape (rows,)
        Of the terms in use.
    maps : FrameMaps
        Maps of the frames that terms are of.
    flux, flux_err : mapping of int to float32, shape (rows,)
        By slot (ADU per exposure); NaN for NULL.
    """

    shots: Sequence[Shot]
    source_id: IntArray
    fold: IntArray
    fit_mag: FloatArray
    catalogued: BoolArray
    frame: IntArray
    star: IntArray
    eligible: BoolArray
    variables: Mapping[str, FloatArray]
    maps: FrameMaps
    flux: Mapping[int, _SingleArray]
    flux_err: Mapping[int, _SingleArray]

    def instrumental(self, slot: int) -> tuple[FloatArray, FloatArray]:
        """Instrumental magnitudes and errors in a slot; NaN where the flux is not positive."""
        exptime = np.array([shot.exptime for shot in self.shots])[self.frame]
        flux, error = self.flux[slot].astype(np.float64), self.flux_err[slot].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            good = (flux > 0) & (exptime > 0)
            mag = np.where(good, 25.0 - 2.5 * np.log10(flux / exptime), np.nan)
            sigma = np.where(good, 2.5 / np.log(10) * error / flux, np.nan)
        return mag, sigma

    def rows(self, slot: int, design: FloatArray) -> FitRows:
        """What is fitted in a slot; `design`: the terms, shape (rows, p)."""
        mag, sigma = self.instrumental(slot)
        of = (self.frame, self.star, mag, sigma, design, self.fold, self.eligible)
        return FitRows.prepare(*of, counts=self.unmasked(), n_frame=len(self.shots))

    def unmasked(self) -> BoolArray:
        """Eligible points on frames that no person has masked: they make references."""
        kept = np.array([not shot.masked for shot in self.shots], dtype=np.bool_)
        return np.asarray(self.eligible & kept[self.frame])


def measured(*columns: Any) -> sa.Select[Any]:
    """Columns of the object frames that are in a field and measured."""
    return (
        sa.select(*columns)
        .select_from(Frame)
        .join(FrameField, FrameField.frame_id == Frame.frame_id)
        .join(FramePhotometry, FramePhotometry.frame_id == Frame.frame_id)
        .join(Classification, Classification.frame_id == Frame.frame_id)
        .where(Classification.type == "object")
    )


def shots(session: Session, field_id: int, night_id: int | None = None, frame_id: int | None = None) -> list[Shot]:
    """The measured frames of a field, or of one of its nights, or one frame of it, in the order of time."""
    kept = sa.select(KeptFrame.frame_id).where(KeptFrame.frame_id == Frame.frame_id)
    columns = (
        *(Frame.frame_id, Frame.night_id, Frame.instrument_id, Frame.exptime, FramePhotometry.task_id),
        *(FramePhotometry.zero_point, FramePhotometry.zero_point_scatter, FrameField.airmass, FramePhotometry.n_source),
        *(DetectionSummary.fwhm, FrameBackground.level, ShapeMap.ellipticity, Frame.sun_altitude, ~not_masked()),
        kept.exists(),
    )
    query = (
        measured(*columns)
        .outerjoin(DetectionSummary, DetectionSummary.frame_id == Frame.frame_id)
        .outerjoin(FrameBackground, FrameBackground.frame_id == Frame.frame_id)
        .outerjoin(ShapeMap, ShapeMap.frame_id == Frame.frame_id)
        .where(FrameField.field_id == field_id)
        .order_by(Frame.jd_utc, Frame.frame_id)
    )
    if night_id is not None:
        query = query.where(Frame.night_id == night_id)
    if frame_id is not None:
        query = query.where(Frame.frame_id == frame_id)
    return [Shot(*row) for row in session.execute(query)]


def slots_of(session: Session, instrument_id: int) -> list[int]:
    """The slots in which an instrument's sources are measured."""
    query = sa.select(PhotometrySlot.slot).where(PhotometrySlot.instrument_id == instrument_id).order_by(PhotometrySlot.slot)
    return list(session.execute(query).scalars())


def _among(column: str, numbers: Iterable[int]) -> str:
    """Condition that a column has one of some numbers: 0, which no row has, where there are none."""
    return f"{column} IN ({', '.join([str(int(number)) for number in numbers] or ['0'])})"


def read_night(
    session: Session,
    field_id: int,
    night_id: int,
    slots: Sequence[int],
    terms: FitTerms,
    frames: Sequence[Shot],
    sources: IntArray | None = None,
) -> NightPoints:
    """A night's measurements of a field on some of its frames: what the terms in use need, and no more.

    Where `sources` are given, no others are read, nor frames but these: both are few then.
    """
    used, names = terms.variables, [f"m.{stem}_{slot}" for slot in slots for stem in ("flux", "flux_err")]
    expressions = "".join(f", {sql}" for sql in [*(VARIABLES[name] for name in used), *names])
    text = (
        "SELECT m.frame_id, m.source_id, m.flags, s.fold, CASE WHEN s.origin = 'catalogue' THEN 1 ELSE 0 END, s.fit_mag" + expressions +
        " FROM frame_field ff JOIN frame f ON f.frame_id = ff.frame_id"
        " JOIN classification c ON c.frame_id = ff.frame_id JOIN frame_photometry fp ON fp.frame_id = ff.frame_id"
        " JOIN measurement m ON m.night_id = f.night_id AND m.frame_id = f.frame_id"
        " JOIN source s ON s.source_id = m.source_id"
        " WHERE ff.field_id = :field AND f.night_id = :night AND c.type = 'object'" +
        ("" if sources is None else f" AND {_among('f.frame_id', [shot.frame_id for shot in frames])} AND {_among('m.source_id', sources)}")
    )  # fmt: skip
    place = {"field": field_id, "night": night_id}
    if len(frames) == 1:
        # By its key: what one frame costs does not go with the night.
        text, place = text + " AND f.frame_id = :frame AND m.frame_id = :frame", {**place, "frame": frames[0].frame_id}
    kinds = "jijjjf" + "f" * len(used) + "r" * len(names)
    frame_id, ids, flags, folds, catalogued, fit_mag, *values = fetch_arrays(session.connection(), text, place, kinds=kinds)
    number = np.array([shot.frame_id for shot in frames], dtype=np.int64)
    by_id = np.argsort(number)
    at = np.searchsorted(number[by_id], frame_id)
    wanted = np.flatnonzero(number[by_id][np.minimum(at, len(number) - 1)] == frame_id)
    frame = by_id[at[wanted]]
    # Frames in the order of time, sources in that of their number: fits need the rows of a frame together.
    order = np.lexsort((ids[wanted], frame))
    frame, rows = frame[order], wanted[order]
    source_id, which, star = np.unique(ids[rows], return_index=True, return_inverse=True)
    variables = {name: values.pop(0)[rows] for name in used}
    maps = frame_maps(session, number.tolist(), terms.maps)
    if maps.polynomials:
        variables |= maps.variables(frame, variables["X"], variables["Y"])
    fluxes = [values.pop(0)[rows] for _ in names]
    return NightPoints(
        shots=frames,
        source_id=source_id,
        fold=folds[rows][which].astype(np.int64),
        fit_mag=fit_mag[rows][which],
        catalogued=catalogued[rows][which] > 0,
        frame=frame,
        star=star.ravel(),
        eligible=(flags[rows] & UNFIT) == 0,
        variables=variables,
        maps=maps,
        flux=dict(zip(slots, fluxes[::2], strict=True)),
        flux_err=dict(zip(slots, fluxes[1::2], strict=True)),
    )
