"""Magnitude references in the archive: which are worked with, their magnitudes, and the rows that a new one is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.fetch import fetch_arrays
from db.tables import N_FOLD, N_SLOT, MagfitFoldReference, MagfitReference, NightChange, NightMagnitude, ReferenceMagnitude
from reduction.kernels.arrays import FloatArray, IntArray
from reduction.lightcurves.fit_terms import FitTerms
from reduction.lightcurves.kernels.averages import Averages
from reduction.lightcurves.kernels.night_fit import FoldMeans, FoldReference
from reduction.pipeline.declaration import Rows

__all__ = ["SlotReference", "drifts", "in_use", "night_means", "night_rows", "nights_of", "read_reference", "reference_rows", "terms_of"]


@dataclass(frozen=True)
class SlotReference:
    """A reference in one slot.

    Attributes
    ----------
    source_id : int, shape (n,)
        Its stars, rising.
    folds : FoldReference
    """

    source_id: IntArray
    folds: FoldReference

    def at(self, source_id: IntArray) -> FoldReference:
        """The reference of some stars; NaN for those it does not have."""
        n = self.source_id.size
        place = np.minimum(np.searchsorted(self.source_id, source_id), max(n - 1, 0))
        known = self.source_id[place] == source_id if n else np.zeros(source_id.size, dtype=np.bool_)

        def of(values: FloatArray, otherwise: float) -> FloatArray:
            return np.where(known, values[:, place], otherwise) if n else np.full((len(values), source_id.size), otherwise)

        return FoldReference(of(self.folds.mag, np.nan), of(self.folds.err, np.nan), of(self.folds.excess, 0.0))


def in_use(session: Session, parameters: str) -> list[MagfitReference]:
    """The references that nights are fitted to, of those of such parameters.

    Of each field the candidates, and the one that counts: not that where a candidate takes its place as soon as all nights are fitted.
    """
    query = sa.select(MagfitReference).where(MagfitReference.status.in_(["accepted", "candidate"]))
    by_field: dict[int, list[MagfitReference]] = {}
    for reference in session.execute(query.order_by(MagfitReference.reference_id)).scalars():
        by_field.setdefault(reference.field_id, []).append(reference)
    found = []
    for field_id in sorted(by_field):
        accepted = [each for each in by_field[field_id] if each.status == "accepted"]
        candidates = [each for each in by_field[field_id] if each.status == "candidate" and each.parameters == parameters]
        counting = max(accepted, key=lambda each: (each.accepted, each.reference_id), default=None)
        stays = counting is not None and counting.parameters == parameters and all(each.is_held for each in candidates)
        found += [counting, *candidates] if stays and counting is not None else candidates
    return found


def terms_of(reference: MagfitReference) -> FitTerms | None:
    """The terms of the fits to a reference; None for one of before they were kept with it."""
    if reference.fit_order is None:
        return None
    return FitTerms.of(reference.fit_order, tuple((reference.fit_terms or "").split()))


def read_reference(session: Session, reference_id: int, slot: int) -> SlotReference:
    """What the fits in a slot are made against; empty where the reference does not have the slot."""
    query = sa.select(
        MagfitFoldReference.source_id, MagfitFoldReference.fold, MagfitFoldReference.mag, MagfitFoldReference.mag_err,
        MagfitFoldReference.excess,
    ).where(MagfitFoldReference.reference_id == reference_id, MagfitFoldReference.slot == slot)  # fmt: skip
    ids, fold, *values = fetch_arrays(session.connection(), query, kinds="ijfff")
    source_id, star = np.unique(ids, return_inverse=True)
    mag, err, excess = np.full((3, N_FOLD, source_id.size), np.nan)
    for into, column in zip((mag, err, excess), values, strict=True):
        into[fold, star.ravel()] = column
    return SlotReference(source_id, FoldReference(mag, err, np.nan_to_num(excess)))


def reference_rows(reference_id: int, slot: int, source_id: IntArray, public: Averages, folds: FoldReference | None = None) -> list[Rows]:
    """The rows of a reference in one slot: magnitudes as people see them, and those of each fold that fits are made against."""
    place = {"reference_id": reference_id, "slot": slot}
    known = np.flatnonzero(np.isfinite(public.mag))
    seen = {
        "source_id": source_id[known],
        "mag": public.mag[known],
        "mag_err": np.nan_to_num(public.err[known]),
        "scatter": public.scatter[known],
        "n_frame": public.n[known],
    }
    rows = [Rows(ReferenceMagnitude, {**place, **seen})]
    if folds is None:
        return rows
    for k in range(len(folds.mag)):
        some = np.flatnonzero(np.isfinite(folds.mag[k]) & np.isfinite(folds.err[k]))
        columns = {"source_id": source_id[some], "mag": folds.mag[k, some], "mag_err": folds.err[k, some], "excess": folds.excess[k, some]}
        rows.append(Rows(MagfitFoldReference, {**place, "fold": k, **columns}))
    return rows


_STEMS = ("mag", "mag_err", "scatter")


def night_rows(place: Mapping[str, Any], source_id: IntArray, means: FoldMeans) -> Rows:
    """What a night says of the stars, in one slot; `place`: reference, night and slot."""
    known = np.flatnonzero(means.n > 0)
    values = dict(zip(_STEMS, (means.mag, means.err, means.scatter), strict=True))
    columns = {f"{stem}_{k}": values[stem][k, known] for k in range(len(means.mag)) for stem in _STEMS}
    mine = {**place, "source_id": source_id[known], "n_frame": means.n[known], "variance": means.variance[known]}
    return Rows(NightMagnitude, {**mine, **columns}, replace=place)


def night_means(session: Session, reference_id: int, night_id: int, slot: int) -> tuple[IntArray, FoldMeans]:
    """What a night was found to say of the stars: their numbers, rising, and their means."""
    names = [f"{stem}_{k}" for stem in _STEMS for k in range(N_FOLD)]
    columns = [getattr(NightMagnitude, name) for name in ("source_id", "n_frame", "variance", *names)]
    query = sa.select(*columns).where(
        NightMagnitude.reference_id == reference_id, NightMagnitude.night_id == night_id, NightMagnitude.slot == slot
    )
    ids, number, variance, *values = fetch_arrays(
        session.connection(), query.order_by(NightMagnitude.source_id), kinds="iif" + "f" * len(names)
    )
    mag, err, scatter = (np.array(values[N_FOLD * k : N_FOLD * (k + 1)]) for k in range(3))
    return ids, FoldMeans(mag, err, scatter, number, variance)


def nights_of(session: Session, reference_id: int) -> Sequence[int]:
    """Nights that were fitted to a reference, and whose means are kept, rising."""
    query = sa.select(NightChange.night_id).where(NightChange.reference_id == reference_id).distinct()
    return sorted(session.execute(query).scalars())


def _nth_last_night(session: Session, reference_id: int, n_night: int) -> int | None:
    """The first of the last nights fitted to a reference, so many of them; None where there are fewer."""
    slot = session.execute(sa.select(sa.func.min(NightChange.slot)).where(NightChange.reference_id == reference_id)).scalar()
    mine = (NightChange.reference_id == reference_id, NightChange.slot == slot)
    query = sa.select(NightChange.night_id).where(*mine).order_by(NightChange.night_id.desc()).offset(n_night - 1).limit(1)
    return session.execute(query).scalar()


def drifts(session: Session, reference_id: int, drift: float, unknown: float, n_night: int) -> str:
    """Why the latest nights ask for another reference; empty where they do not.

    Parameters
    ----------
    drift : float
        Difference of a night from the reference, beyond its errors (mag; root of the mean square over the slots).
    unknown : float
        Part of a night's stars that the reference lacks.
    n_night : int
        So many nights, the latest, must all differ.
    """
    # By key, slot for slot: of a thousand nights the last few are read.
    mine = (NightChange.reference_id == reference_id, NightChange.slot.in_(range(N_SLOT)))
    first = _nth_last_night(session, reference_id, n_night)
    if first is None:
        return ""
    query = sa.select(
        NightChange.night_id, NightChange.change, NightChange.expected, NightChange.n_star, NightChange.n_unknown
    ).where(*mine, NightChange.night_id >= first)  # fmt: skip
    nights: dict[int, list[tuple[float, float]]] = {}
    for night_id, change, expected, n_star, n_unknown in session.execute(query):
        beyond = max((change or 0.0) ** 2 - (expected or 0.0) ** 2, 0.0)
        nights.setdefault(night_id, []).append((beyond, n_unknown / max(n_star + n_unknown, 1)))
    last = [np.sqrt(np.mean([beyond for beyond, _ in nights[night]])) for night in sorted(nights)[-n_night:]]
    lacking = [np.mean([part for _, part in nights[night]]) for night in sorted(nights)[-n_night:]]
    if min(last) > drift:
        return f"the last {n_night} nights differ from it by {1e3 * min(last):.1f} mmag or more"
    if min(lacking) > unknown:
        return f"it lacks {100 * min(lacking):.0f} % or more of the stars of the last {n_night} nights"
    return ""
