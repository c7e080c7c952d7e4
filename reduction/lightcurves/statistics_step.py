"""Step statistics: statistics of every light curve, of the numbers that people see in the view, and targets linked to their sources."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.sky import nearest_source
from db.tables import Annotation, LightcurveStatistics, ReferenceRequest, Target
from reduction.lightcurves.fitted_points import FittedPoints, fitted_points
from reduction.lightcurves.kernels.statistics import light_curve_statistics
from reduction.pipeline.declaration import Context, InputTask, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Members, Said
from reduction.pipeline.plans import done_tasks, masks

__all__ = ["StatisticsParameters", "statistics"]


@dataclass(frozen=True)
class StatisticsParameters:
    """How light curves are summarised."""

    target_radius: float = parameter(10.0, "arcsec", "a target is linked to the nearest source within this", above=0, most=3600)


def _plan(context: Context, _: StatisticsParameters) -> list[Unit[None]]:
    """Each field that has a reference, made from the fits of its nights to it."""
    session = context.session
    fits: dict[int, list[InputTask]] = {}
    for key, task in done_tasks(session, "magnitude_fit").items():
        fits.setdefault(int(key.partition("/")[0]), []).append(task)
    masked = masks(session)
    query = sa.text("SELECT field_id, reference_id FROM latest_reference ORDER BY field_id")
    return [
        Unit(str(field_id), f"field {field_id}", tuple(fits[reference_id]), masked.get(field_id, ""))
        for field_id, reference_id in session.execute(query)
        if reference_id in fits
    ]


@step(
    "statistics",
    plan=_plan,
    inputs=(Members("magnitude_fit"), Said((Annotation, ReferenceRequest))),
    version=2,
    parameters=StatisticsParameters,
    writes=(LightcurveStatistics, Target),
)
def statistics(context: Context, unit: Unit[None], p: StatisticsParameters) -> Output:
    """Summarise every light curve: mean, scatter, expected scatter, chi2, von Neumann eta; link targets to sources."""
    session = context.session
    field_id = int(unit.key)
    reference_id = session.execute(
        sa.text("SELECT reference_id FROM latest_reference WHERE field_id = :field"), {"field": field_id}
    ).scalar_one()
    rows = [_statistics(points, reference_id, slot) for slot, points in fitted_points(session, field_id, reference_id)]
    return Output(rows=rows + _targets(session, p.target_radius))


def _statistics(points: FittedPoints, reference_id: int, slot: int) -> Rows:
    source_id, star = np.unique(points.source_id, return_inverse=True)
    good = points.quality == 0
    values = (points.mag, points.mag_err_total, points.flux, points.flux_err)
    stats = light_curve_statistics(star[good], points.bjd_tdb[good], *(value[good] for value in values), n_star=len(source_id))
    columns = {
        "reference_id": reference_id,
        "slot": slot,
        "source_id": source_id,
        "n_point": np.bincount(star[np.isfinite(points.flux)], minlength=len(source_id)),
        "n_good": stats.n,
        "mag_mean": stats.mean,
        "mag_median": stats.median,
        "rms": stats.rms,
        "mad_rms": stats.mad_rms,
        "expected_rms": stats.expected_rms,
        "chi2": stats.chi2_dof,
        "eta": stats.eta,
    }
    return Rows(LightcurveStatistics, columns, replace={"reference_id": reference_id, "slot": slot})


def _targets(session: Session, radius: float) -> list[Rows]:
    """Links of targets that have none yet."""
    rows = []
    for target in session.execute(sa.select(Target).where(Target.source_id.is_(None))).scalars():
        found = nearest_source(session, target.ra, target.dec, radius / 3600.0)
        if found is not None:
            columns = {"name": target.name, "ra": target.ra, "dec": target.dec, "created": target.created, "source_id": found}
            rows.append(Rows(Target, {"target_id": target.target_id, **columns}, upsert=True))
    return rows
