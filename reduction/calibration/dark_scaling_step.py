"""Step dark_scaling: whether a set-up's darks grow with the exposure time alone, so that a longer one may stand in for a shorter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import sqlalchemy as sa

from db.tables import DarkLinearity, Master
from reduction.calibration.calibrated import MasterPlanes
from reduction.calibration.kernels.master_frames import dark_linearity
from reduction.pipeline.declaration import Context, InputTask, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Members

__all__ = ["DarkScalingParameters", "dark_scaling"]

_DARKS = sa.text(
    "SELECT master_id, setup_id, channel, exptime, ccd_temperature, temperature_tolerance, task_id, input_hash FROM good_master"
    " WHERE kind = 'dark' AND bias_master_id IS NOT NULL ORDER BY setup_id, channel, exptime, master_id"
)


@dataclass(frozen=True)
class DarkScalingParameters:
    """When darks count as linear."""

    tolerance: float = parameter(
        0.02, "", "largest relative difference between the ratio of dark signals and that of exposure times", above=0, below=1
    )
    min_pixels: int = parameter(30, "", "fewest warm pixels that tell it", least=3, most=1_000_000)
    min_ratio: float = parameter(1.5, "", "pairs closer in exposure time tell nothing", above=1, most=1000)


#: Shorter and longer master dark of each pair.
_Pairs = tuple[tuple[int, int], ...]


def _plan(context: Context, p: DarkScalingParameters) -> list[Unit[_Pairs]]:
    """Each set-up and channel with de-biased master darks of two or more exposure times at one temperature."""
    sets: dict[tuple[int, str], list[Any]] = {}
    for row in context.session.execute(_DARKS):
        sets.setdefault((row.setup_id, row.channel), []).append(row)
    units = []
    for (setup_id, channel), darks in sets.items():
        pairs = [(a.master_id, b.master_id) for a, b in _pairs(darks, p.min_ratio)]
        if not pairs:
            continue
        used = {master_id for pair in pairs for master_id in pair}
        tasks = tuple(InputTask(row.task_id, row.input_hash, "dark") for row in darks if row.master_id in used)
        units.append(Unit(f"{setup_id}/{channel}", f"set-up {setup_id}, {len(pairs)} pairs of darks", tasks, payload=tuple(pairs)))
    return units


def _pairs(darks: list[Any], min_ratio: float) -> Iterator[tuple[Any, Any]]:
    """Shorter and longer dark of each pair that can be compared."""
    for short, long in combinations(darks, 2):
        known = short.ccd_temperature is not None and long.ccd_temperature is not None
        warmer = abs(short.ccd_temperature - long.ccd_temperature) if known else 0.0
        if long.exptime >= min_ratio * short.exptime and warmer <= (long.temperature_tolerance or float("inf")):
            yield short, long


@step(
    "dark_scaling",
    plan=_plan,
    inputs=(Members("dark"),),
    complete=True,
    parameters=DarkScalingParameters,
    writes=(DarkLinearity,),
)
def dark_scaling(context: Context, unit: Unit[_Pairs], p: DarkScalingParameters) -> Output:
    """Compare master darks of different exposure times: only where they agree may one be scaled down."""
    planes = MasterPlanes(context)
    rows = []
    for short_id, long_id in unit.payload:
        ratio = _exptime(context, long_id) / _exptime(context, short_id)
        short, long = planes.of(short_id), planes.of(long_id)
        assert short is not None and long is not None
        slope, error, n = dark_linearity(short, long, ratio)
        # Too few pixels or too large an error prove nothing: such a pair counts as not linear.
        linear = n >= p.min_pixels and error < p.tolerance * ratio and abs(slope - ratio) <= p.tolerance * ratio
        pair = {"long_master_id": long_id, "short_master_id": short_id}
        found = {"ratio": ratio, "slope": slope, "slope_err": error, "n_pixel": n, "is_linear": int(linear)}
        rows.append(Rows(DarkLinearity, {**pair, **found}, upsert=True))
    n_linear = sum(int(row.columns["is_linear"]) for row in rows)
    return Output(rows=rows, remark=f"{n_linear} of {len(rows)} pairs of darks are linear")


def _exptime(context: Context, master_id: int) -> float:
    return float(context.session.get_one(Master, master_id).exptime or 0.0)
