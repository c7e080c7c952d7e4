"""Order and terms of a field's magnitude fits, chosen when its reference is made: on stars that have no say, of some frames of a night."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from db.tables import TermScore
from reduction.kernels.arrays import IntArray
from reduction.lightcurves.fit_terms import FitTerms, MagnitudeFitParameters
from reduction.lightcurves.kernels.night_fit import FitRows, FoldReference, own_fold
from reduction.lightcurves.kernels.term_choice import CandidateScore, Sample, choose_by_held_out, sampled
from reduction.lightcurves.night_points import Shot, read_night
from reduction.lightcurves.references import SlotReference
from reduction.pipeline.declaration import Rows

__all__ = ["ChosenTerms", "choose_terms_of_field", "score_rows"]

#: Further terms that are tried, in this order, each on what is chosen so far.
CANDIDATES = (
    *("colour", "airmass_colour", "mag", "shape_s", "shape_d", "shape_k", "psf_peak", "background"),
    *("sin_x", "cos_x", "sin_y", "cos_y"),
)
MOST_ORDER = 4
#: Standard errors that a term has to gain. Extinction and passbands differ in colour everywhere: to leave that out is what chance does.
EXPECTED, UNEXPECTED = 1.0, 3.0
#: With fewer stars nothing is chosen: one that dips could turn the choice, and every star's correction with it.
LEAST_STARS = 100
#: What is tried is bounded, whatever the night and the field are.
MOST_FRAMES, MOST_STARS, MOST_ROWS = 24, 1000, 12_000


@dataclass(frozen=True)
class ChosenTerms:
    """Terms, and how well each candidate predicted, in the order in which they were tried."""

    terms: FitTerms
    scores: tuple[CandidateScore, ...]


def choose_terms_of_field(
    session: Session,
    place: tuple[int, int, int],
    frames: Sequence[Shot],
    known: SlotReference,
    stars: IntArray,
    p: MagnitudeFitParameters,
) -> ChosenTerms:
    """Choose what the parameters leave open; with fewer than `LEAST_STARS` stars it is what a choice begins with.

    Parameters
    ----------
    session : Session
    place : (int, int, int)
        Field, night and slot.
    frames : sequence of Shot
        Good frames of the night, in the order of time: some of them are taken, evenly spread.
    known : SlotReference
        A reference that is about settled.
    stars : int, shape (n,)
        source_id of stars that are measured well: some of them are taken.
    p : MagnitudeFitParameters
    """
    field_id, night_id, slot = place
    some = [frames[k] for k in sampled(np.arange(len(frames) + 1), MOST_FRAMES)]
    there = np.intersect1d(stars, known.source_id)
    if there.size < LEAST_STARS:
        return ChosenTerms(p.start, ())
    mine = _spread(there, min(MOST_STARS, max(MOST_ROWS // len(some), 1)))
    tried = FitTerms.of(p.given_order if p.given_order is not None else MOST_ORDER, CANDIDATES if p.given_terms is None else p.given_terms)
    points = read_night(session, field_id, night_id, [slot], tried, some, mine)
    if not points.frame.size:
        return ChosenTerms(p.start, ())
    rows = points.rows(slot, tried.design(points.variables, points.frame.size))
    degree = np.array([term.degree if term.degree == len(term.factors) else -1 for term in tried.terms])
    names = [term.name for term in tried.terms]
    orders = None if p.given_order is None else [p.given_order]
    given = None if p.given_terms is None else degree < 0
    sample = _sample(rows, known.at(points.source_id))
    errors = [EXPECTED if name == "colour" else UNEXPECTED for name in names]
    choice = choose_by_held_out(sample, names, degree, orders=orders, given=given, per_term=p.per_term, term_errors=errors)
    further = tuple(name for name, used, of in zip(names, choice.terms, degree, strict=True) if used and of < 0)
    return ChosenTerms(FitTerms.of(int(degree[choice.terms].max(initial=0)), further), choice.scores)


def _sample(rows: FitRows, reference: FoldReference) -> Sample:
    """What is fitted and judged by: as in the fit of a night, with the magnitudes that people see in the fit to all."""
    public, error = (own_fold(values, rows.fold) for values in (reference.mag, reference.err))
    mags = np.vstack([reference.mag, public])
    excess = np.nanmax(reference.excess, axis=0, initial=0.0)
    variance = np.vstack([reference.excess**2 + reference.err**2, excess**2 + error**2])
    eligible = rows.eligible & np.isfinite(rows.design).all(axis=1) & np.isfinite(public[rows.star])
    return Sample(rows.ends, rows.mag, rows.sigma, rows.star, mags, variance, rows.design, rows.fold, eligible)


def _spread(stars: IntArray, most: int) -> IntArray:
    """So many of some stars at most, evenly taken in the order of their numbers: the same ones each time."""
    return stars if stars.size <= most else stars[((np.arange(most) + 0.5) * stars.size / most).astype(np.int64)]


def score_rows(reference_id: int, scores: Sequence[CandidateScore]) -> Rows:
    """The scores of everything that was tried for a reference."""
    columns = {
        "number": np.arange(len(scores)),
        "name": np.array([each.name for each in scores], dtype=object),
        "n_term": np.array([each.n_term for each in scores], dtype=np.int64),
        "is_chosen": np.array([int(each.chosen) for each in scores], dtype=np.int64),
        **{name: np.array([getattr(each, name) for each in scores], dtype=np.float64) for name in ("gain", "gain_err", "scatter")},
        "loss": np.array([each.score for each in scores], dtype=np.float64),
    }
    return Rows(TermScore, {"reference_id": reference_id, **columns} if scores else {}, replace={"reference_id": reference_id})
