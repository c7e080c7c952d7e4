"""Step magnitude_fit: frames are brought to a common magnitude scale, against a reference that is averaged until it settles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import AlgorithmFailed
from db.fetch import fetch_arrays
from db.flags import Flag
from db.keys import next_id, now
from db.tables import (
    Annotation,
    BestSlot,
    Classification,
    DetectionSummary,
    Frame,
    FrameBackground,
    FrameField,
    FramePhotometry,
    LightShare,
    MagfitMap,
    MagfitReference,
    MagfitSolution,
    NightNoise,
    PhotometrySlot,
    ReferenceMagnitude,
    SourceMagnitude,
)
from db.terms import MAPS, TERMS, VARIABLES, Term, design, needed, term_groups
from reduction.lightcurves.kernels.night_noise import NightNoise as Noise
from reduction.lightcurves.kernels.night_noise import night_noise
from reduction.lightcurves.kernels.noise import FrameExcess, best_slot, excess_scatter, frame_excess
from reduction.lightcurves.kernels.reference import Averages, MagfitResult, iterate, select_reference
from reduction.lightcurves.map_terms import FrameMaps, frame_maps
from reduction.lightcurves.own_light import OwnLight, own_light
from reduction.photometry.kernels.light_share import typical_fluxes
from reduction.pipeline.declaration import Context, InputTask, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Grouped, Members, Said
from reduction.pipeline.plans import done_tasks, masks, not_masked

__all__ = ["MagnitudeFitParameters", "magnitude_fit"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_T = TypeVar("_T")

#: Points that may not fix a fit. Blends and corrected bad pixels may: they are as constant as other stars, and robustly weighted.
#: Light that fell beyond the edge is the profile's word, and differs from frame to frame where the pointing does.
_UNFIT = int(Flag.SATURATED | Flag.COSMIC | Flag.EDGE)
N_FOLD = 5


#: Terms beyond those in position, which `order` takes.
_FURTHER = tuple(term.name for term in TERMS if term.degree < len(term.factors))


@dataclass(frozen=True)
class MagnitudeFitParameters:
    """How magnitudes are fitted."""

    order: int = parameter(2, "", "degree of the polynomial in position", least=0, most=4)
    terms: tuple[str, ...] = parameter(
        ("colour",), "", "further terms, by name; the last are dropped first when stars are few", choices=_FURTHER, distinct=True
    )
    per_term: float = parameter(5.0, "", "stars needed for each term", least=1, most=1000)
    clip: float = parameter(6.0, "sigma", "residual at which a star's weight reaches zero", least=2, most=100)
    fit_sigma: float = parameter(
        0.02, "mag", "stars with larger errors do not fix the fit, where there are enough others", above=0, most=10
    )
    floor_sigma: float = parameter(0.005, "mag", "stars with smaller errors tell what scatters beyond photons", least=0, most=10)
    tolerance: float = parameter(3e-5, "mag", "median change of the reference at which it has settled", above=0, most=1)
    max_iterations: int = parameter(25, "", "most references that are averaged", least=1, most=1000)


@dataclass(frozen=True)
class _Shot:
    """What the fit needs to know of a frame; None where it is unknown."""

    frame_id: int
    night_id: int
    instrument_id: int
    exptime: float
    measure_task: int
    zero_point: float | None
    zero_point_scatter: float | None
    airmass: float | None
    fwhm: float | None
    sky_level: float | None


@dataclass(frozen=True)
class _Points:
    """Measurements of a field: rows sorted by frame, then source; frame and star are indices into the lists of them."""

    frames: list[_Shot]
    source_id: IntArray
    fold: IntArray
    fit_mag: FloatArray
    catalogued: npt.NDArray[np.bool_]
    frame: IntArray
    star: IntArray
    flags: IntArray
    variables: Mapping[str, FloatArray]
    maps: FrameMaps
    flux: Mapping[int, tuple[FloatArray, FloatArray]] = field(default_factory=dict)


def _plan(context: Context, _: MagnitudeFitParameters) -> list[Unit[None]]:
    """Each field, made from the photometry of all its frames."""
    done = done_tasks(context.session, "photometry")
    query = _measured(FrameField.field_id, Frame.frame_id)
    inputs: dict[int, list[InputTask]] = {}
    for field_id, frame_id in context.session.execute(query.order_by(FrameField.field_id, Frame.jd_utc)):
        if (task := done.get(str(frame_id))) is not None:
            inputs.setdefault(field_id, []).append(task)
    masked = masks(context.session)
    return [
        Unit(str(field_id), f"field {field_id}, {len(tasks)} frames", tuple(tasks), masked.get(field_id, ""))
        for field_id, tasks in inputs.items()
    ]


def _measured(*columns: Any) -> sa.Select[Any]:
    """Columns of the object frames that are in a field and measured."""
    return (
        sa.select(*columns)
        .select_from(Frame)
        .join(FrameField, FrameField.frame_id == Frame.frame_id)
        .join(FramePhotometry, FramePhotometry.frame_id == Frame.frame_id)
        .join(Classification, Classification.frame_id == Frame.frame_id)
        .where(Classification.type == "object")
    )


@step(
    "magnitude_fit",
    plan=_plan,
    inputs=(Members("photometry"), Grouped("field"), Said((Annotation,))),
    version=4,
    parameters=MagnitudeFitParameters,
    writes=(MagfitReference, ReferenceMagnitude, MagfitSolution, MagfitMap, BestSlot, LightShare, NightNoise),
)
def magnitude_fit(context: Context, unit: Unit[None], p: MagnitudeFitParameters) -> Output:
    """Fit every frame to the reference (cross-fitted), average the next reference, repeat until it settles."""
    terms, group = _terms(p)
    points = _read(context.session, int(unit.key), terms)
    matrix = design(points.variables, terms)
    first = _reference_frame(context.session, points)
    results: dict[int, MagfitResult] = {}
    bright: dict[int, _BrightStars] = {}
    starts: dict[int, tuple[FloatArray, int]] = {}
    for slot, (flux, error) in points.flux.items():
        mag, sigma = _instrumental(points, flux, error)
        eligible = (points.flags & _UNFIT) == 0
        starts[slot] = _start(points, mag, sigma, eligible, first)
        results[slot] = iterate(
            points.frame,
            points.star,
            mag,
            sigma,
            matrix,
            points.fold,
            start=starts[slot][0],
            group=group,
            eligible=eligible,
            n_fold=N_FOLD,
            fit_sigma=p.fit_sigma,
            per_term=p.per_term,
            clip=p.clip,
            tolerance=p.tolerance,
            max_iterations=p.max_iterations,
        )
        bright[slot] = _bright_stars(points, results[slot], eligible & (sigma <= p.floor_sigma))
    if not any(np.isfinite(result.fits.coeff).any() for result in results.values()):
        raise AlgorithmFailed(
            "no frame could be fitted", where=unit.label, hint="too few unsaturated stars in common", code="magfit.no_fit"
        )
    own = _own_light(context, points, first)
    best = _best_slots(points, results, own)
    zero = _zero(context.session, points, min(n for _, n in starts.values()))
    settled = sum(result.converged for result in results.values())
    remark = f"reference from frame {points.frames[first].frame_id}; settled in {settled} of {len(results)} slots"
    return Output(finish=partial(_rows, int(unit.key), points, first, terms, results, bright, best, own, zero), remark=remark)


def _terms(p: MagnitudeFitParameters) -> tuple[tuple[Term, ...], IntArray]:
    """Terms in use, and the order in which they are dropped: highest degree first, after the further terms."""
    by_name = {term.name: term for term in TERMS}
    position = [term for term in TERMS if term.degree == len(term.factors) <= p.order]
    further = [by_name[name] for name in p.terms]
    # Linear terms stay longest; further terms go before the quadratic ones would be missed.
    group = [2 * term.degree for term in position] + [3 + 2 * k for k in range(len(further))]
    return (*position, *further), np.array(group)


def _read(session: Session, field_id: int, terms: tuple[Term, ...]) -> _Points:
    """The field's measurements, joined with what the terms need, in SQL."""
    frames = _shots(session, field_id)
    slots = session.execute(
        sa.select(PhotometrySlot.slot).where(PhotometrySlot.instrument_id == frames[0].instrument_id).order_by(PhotometrySlot.slot)
    ).scalars().all()  # fmt: skip
    # PostgreSQL hands out a REAL in its shortest form, which is not its value: cast, so that both engines give the same digits.
    names = [f"CAST(m.{stem}_{slot} AS DOUBLE PRECISION)" for slot in slots for stem in ("flux", "flux_err")]
    used = [name for name in needed(terms) if name in VARIABLES] or ["X"]
    expressions = ", ".join([*(f"{VARIABLES[name]} AS v_{name}" for name in used), *names])
    text = (
        f"SELECT m.frame_id, m.source_id, m.flags, s.fold, CASE WHEN s.origin = 'catalogue' THEN 1 ELSE 0 END, s.fit_mag, {expressions} "
        "FROM frame_field ff JOIN frame f ON f.frame_id = ff.frame_id "
        "JOIN classification c ON c.frame_id = ff.frame_id JOIN frame_photometry fp ON fp.frame_id = ff.frame_id "
        "JOIN measurement m ON m.night_id = f.night_id AND m.frame_id = f.frame_id "
        "JOIN source s ON s.source_id = m.source_id "
        "WHERE ff.field_id = :field AND c.type = 'object'"
    )
    kinds = "iiiiif" + "f" * (len(used) + len(names))
    found = fetch_arrays(session.connection(), text, {"field": field_id}, kinds=kinds)
    frame_id, ids, flags, folds, catalogued, *values = found
    # Frames in the order of time, sources in that of their number: fits need the rows of a frame together.
    by_id = np.argsort([frame.frame_id for frame in frames])
    frame = by_id[np.searchsorted(np.sort([frame.frame_id for frame in frames]), frame_id)]
    order = np.lexsort((ids, frame))
    source_id, which, star = np.unique(ids[order], return_index=True, return_inverse=True)
    fit_mag, *rest = (column[order] for column in values)
    n, at = len(used), frame[order]
    variables = dict(zip(used, rest[:n], strict=True))
    maps = frame_maps(session, [shot.frame_id for shot in frames], [name for name in needed(terms) if name in MAPS])
    if maps.polynomials:
        variables |= maps.variables(at, variables["X"], variables["Y"])
    return _Points(
        frames=frames,
        source_id=source_id,
        fold=folds[order][which],
        fit_mag=fit_mag[which],
        catalogued=catalogued[order][which] > 0,
        frame=at,
        star=star.ravel(),
        flags=flags[order],
        variables=variables,
        maps=maps,
        flux={slot: (rest[n + 2 * k], rest[n + 2 * k + 1]) for k, slot in enumerate(slots)},
    )


def _shots(session: Session, field_id: int) -> list[_Shot]:
    """The measured frames of a field, in the order of time."""
    columns = (
        *(Frame.frame_id, Frame.night_id, Frame.instrument_id, Frame.exptime, FramePhotometry.task_id),
        *(FramePhotometry.zero_point, FramePhotometry.zero_point_scatter),
        *(FrameField.airmass, DetectionSummary.fwhm, FrameBackground.level),
    )
    query = (
        _measured(*columns)
        .outerjoin(DetectionSummary, DetectionSummary.frame_id == Frame.frame_id)
        .outerjoin(FrameBackground, FrameBackground.frame_id == Frame.frame_id)
        .where(FrameField.field_id == field_id)
        .order_by(Frame.jd_utc, Frame.frame_id)
    )
    return [_Shot(*row) for row in session.execute(query)]


def _instrumental(points: _Points, flux: FloatArray, error: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Instrumental magnitudes and errors; NaN where the flux is not positive."""
    exptime = np.array([frame.exptime for frame in points.frames])[points.frame]
    with np.errstate(invalid="ignore", divide="ignore"):
        good = (flux > 0) & (exptime > 0)
        mag = np.where(good, 25.0 - 2.5 * np.log10(flux / exptime), np.nan)
        sigma = np.where(good, 2.5 / np.log(10) * error / flux, np.nan)
    return mag, sigma


def _reference_frame(session: Session, points: _Points) -> int:
    """The frame of highest merit that no person has masked; masked frames are still fitted, so that their points can be seen."""

    def of(name: str) -> FloatArray:
        return np.array([np.nan if getattr(frame, name) is None else getattr(frame, name) for frame in points.frames], dtype=float)

    good = set(session.execute(sa.select(Frame.frame_id).where(not_masked())).scalars())
    usable = [frame.frame_id in good for frame in points.frames]
    if not any(usable):
        raise AlgorithmFailed("every frame is masked", hint="take a mask back with 'starledger mask remove'", code="magfit.masked")
    n_good = np.bincount(points.frame[(points.flags & _UNFIT) == 0], minlength=len(points.frames)).astype(float)
    return select_reference(of("fwhm"), of("sky_level"), n_good, of("zero_point"), of("airmass"), of("zero_point_scatter"), usable)


def _start(points: _Points, mag: FloatArray, sigma: FloatArray, eligible: npt.NDArray[np.bool_], first: int) -> tuple[FloatArray, int]:
    """The first frame's magnitudes, shifted to the catalogue's scale by the median of its good catalogue stars, and their number.

    With fewer than three of them the magnitudes stay instrumental and the number is 0.
    """
    reference = np.full(len(points.source_id), np.nan)
    rows = np.flatnonzero((points.frame == first) & eligible & np.isfinite(mag))
    reference[points.star[rows]] = mag[rows]
    good = rows[(sigma[rows] < 0.05) & points.catalogued[points.star[rows]]]
    if good.size < 3:
        return reference, 0
    return reference + float(np.median(points.fit_mag[points.star[good]] - mag[good])), int(good.size)


@dataclass(frozen=True)
class _BrightStars:
    """Scatter of the bright stars of each frame beyond their errors: of the frame by itself, and what is taken for it (mag)."""

    excess: FrameExcess
    floor: FloatArray


def _bright_stars(points: _Points, result: MagfitResult, bright: npt.NDArray[np.bool_]) -> _BrightStars:
    """About the reference, held out: no star fits itself."""
    rows = np.flatnonzero(bright & np.isfinite(result.mag))
    star, frame = points.star[rows], points.frame[rows]
    residual = result.mag[rows] - result.mean.mag[star]
    excess = frame_excess(frame, residual, result.mag_err[rows] ** 2, len(points.frames))
    return _BrightStars(excess, excess_scatter(excess))


def _own_light(context: Context, points: _Points, first: int) -> OwnLight:
    """Each star's own part of the light in each slot, from the fluxes of slot 0, in which the neighbours are told apart."""
    flux = typical_fluxes(points.frame, points.star, *points.flux[0], first, len(points.source_id))
    return own_light(context, points.frames[first].frame_id, points.source_id, flux, np.array(sorted(points.flux)))


def _best_slots(points: _Points, results: Mapping[int, MagfitResult], own: OwnLight) -> IntArray:
    """Slot of each source, from the scatter of stars of its magnitude and crowding, and their own part of the light."""
    slots = np.array(sorted(results))
    scatter = np.array([results[slot].mean.scatter for slot in slots])
    middle = int(slots[len(slots) // 2])
    # By the star's own magnitude: what an aperture holds of a bright neighbour must not choose a larger one.
    index = best_slot(points.fit_mag, scatter, own.share, 1.0 - own.foreign[-1])
    return np.where(index >= 0, slots[np.clip(index, 0, len(slots) - 1)], middle)


def _rows(
    field_id: int,
    points: _Points,
    first: int,
    terms: tuple[Term, ...],
    results: Mapping[int, MagfitResult],
    bright: Mapping[int, _BrightStars],
    best: IntArray,
    own: OwnLight,
    zero: Mapping[str, Any],
    session: Session,
    _task_id: int,
) -> list[Rows]:
    """The references on the way, the accepted one with a solution for every usable frame, best slots, own light: one transaction."""
    number = next_id(session, MagfitReference.reference_id)
    kept = _kept(max(len(result.references) for result in results.values()))
    created = now()
    rows: list[Rows] = []
    for k, iteration in enumerate(kept):
        last = iteration == kept[-1]
        some = [_at(result.references, iteration) for result in results.values()]
        columns: dict[str, Any] = {
            "reference_id": number + k,
            "field_id": field_id,
            "iteration": iteration,
            "status": "accepted" if last else "iteration",
            "parent_id": number + k - 1 if k else None,
            "frame_id": points.frames[first].frame_id,
            "n_frame": len(points.frames) if iteration else 1,
            "n_source": max(int(np.isfinite(reference.mag).sum()) for reference in some),
            "change": float(np.median([_at(result.history, iteration).change for result in results.values()])),
            "created": created,
            **zero,
        }
        rows.append(Rows(MagfitReference, columns, upsert=True))
        rows += [_magnitudes(number + k, slot, points, _at(result.references, iteration)) for slot, result in results.items()]
    accepted = number + len(kept) - 1
    rows += [_solutions(accepted, slot, points, terms, result, bright[slot].floor) for slot, result in results.items()]
    rows += [Rows(MagfitMap, columns) for columns in points.maps.rows(accepted)]
    rows += [_nights(accepted, slot, points, found.excess) for slot, found in bright.items()]
    rows.append(Rows(BestSlot, {"reference_id": accepted, "source_id": points.source_id, "slot": best}))
    rows += [_shares(accepted, slot, points, *light) for slot, *light in zip(sorted(results), own.foreign, own.share, strict=True)]
    return rows


def _kept(n_iteration: int) -> list[int]:
    """Iterations whose references are kept: the single frame, the one before last, and the last."""
    return sorted({0, max(n_iteration - 2, 0), n_iteration - 1})


def _at(series: Sequence[_T], k: int) -> _T:
    """What a slot had at iteration k; one that settled early keeps its last."""
    return series[min(k, len(series) - 1)]


def _zero(session: Session, points: _Points, n_zero: int) -> dict[str, Any]:
    """The band that the zero point is on, that of most of the field's catalogue stars, and how many stars fixed it."""
    inside = SourceMagnitude.source_id.between(int(points.source_id[0]), int(points.source_id[-1]))
    query = sa.select(SourceMagnitude.source_id, SourceMagnitude.band).where(inside, SourceMagnitude.band.not_like("%-%"))
    mine = set(points.source_id.tolist())
    bands = Counter(band for source_id, band in session.execute(query) if source_id in mine)
    return {"zero_band": max(sorted(bands), key=lambda band: bands[band]) if bands and n_zero else None, "n_zero": n_zero}


def _magnitudes(reference_id: int, slot: int, points: _Points, reference: Averages) -> Rows:
    known = np.isfinite(reference.mag)
    columns = {
        "reference_id": reference_id,
        "slot": slot,
        "source_id": points.source_id[known],
        "mag": reference.mag[known],
        "mag_err": np.nan_to_num(reference.err[known]),
        "scatter": reference.scatter[known],
        "n_frame": reference.n[known],
    }
    return Rows(ReferenceMagnitude, columns)


def _shares(reference_id: int, slot: int, points: _Points, foreign: FloatArray, share: FloatArray) -> Rows:
    known = np.isfinite(share)
    light = {"foreign_light": foreign[known], "share": share[known]}
    return Rows(LightShare, {"reference_id": reference_id, "slot": slot, "source_id": points.source_id[known], **light})


def _nights(reference_id: int, slot: int, points: _Points, excess: FrameExcess) -> Rows:
    """Floor and scintillation of each night whose frames tell."""
    nights = np.array([frame.night_id for frame in points.frames])
    airmass = np.array([np.nan if frame.airmass is None else frame.airmass for frame in points.frames], dtype=np.float64)
    exptime = np.array([frame.exptime for frame in points.frames], dtype=np.float64)
    found = {}
    for night in np.unique(nights):
        mine = nights == night
        found[int(night)] = night_noise(excess.of(mine), airmass[mine], exptime[mine])
    known = {night: noise for night, noise in found.items() if noise is not None}
    columns = {name: np.array([getattr(noise, name) for noise in known.values()]) for name in Noise._fields}
    return Rows(NightNoise, {"reference_id": reference_id, "slot": slot, "night_id": np.array(list(known), dtype=np.int64), **columns})


def _solutions(reference_id: int, slot: int, points: _Points, terms: tuple[Term, ...], result: MagfitResult, floor: FloatArray) -> Rows:
    fits = result.fits
    frame, fold = (index.ravel() for index in np.indices(fits.coeff.shape[:2]))
    usable = np.isfinite(fits.coeff[frame, fold]).all(axis=1)
    frame, fold = frame[usable], fold[usable]
    coeff = dict.fromkeys((term.column for term in TERMS), np.zeros(len(frame)))
    coeff |= {term.column: fits.coeff[frame, fold, k] for k, term in enumerate(terms)}
    columns = {
        "frame_id": np.array([f.frame_id for f in points.frames])[frame],
        "reference_id": reference_id,
        "slot": slot,
        "fold": fold,
        "measure_task": np.array([f.measure_task for f in points.frames])[frame],
        "n_term": result.terms[frame].sum(axis=1),
        "term_groups": term_groups(terms),
        "n_fit": fits.n_fit[frame],
        "fit_rms": fits.rms[frame],
        "zero_point_err": fits.zp_err[frame, fold],
        "mag_floor": floor[frame],
        **coeff,
    }
    return Rows(MagfitSolution, columns)
