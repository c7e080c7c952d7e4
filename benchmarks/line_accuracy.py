"""How far fluxes scatter about the true ones, on stars that have their place to themselves: the archive's and AstroWISP's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from simulated_night import Night

import starledger

FloatArray = NDArray[np.float64]

#: Signal-to-noise ratios of the fitted flux.
BINS = ((10.0, 30.0), (30.0, 100.0), (100.0, 1000.0))
#: Pixels within which there is no star brighter than a part of the star's light, and a match of positions.
ROOM, PART, MATCH = 12.0, 0.05, 0.7


def alone(x: FloatArray, y: FloatArray, flux: FloatArray) -> NDArray[np.bool_]:
    """Stars without one of 5 % of their light within 12 pixels."""
    place = np.stack([x, y], axis=1)
    pairs = cKDTree(place).query_pairs(ROOM, output_type="ndarray")
    out = np.ones(x.size, bool)
    for a, b in (pairs.T, pairs.T[::-1]):
        out[a[flux[b] > PART * flux[a]]] = False
    return out


def scatter(ratio: FloatArray) -> float:
    """Half the width of the middle 68 %, over the median: a common factor plays no part."""
    low, middle, high = np.percentile(ratio, [15.87, 50.0, 84.13])
    return float(0.5 * (high - low) / middle)


def accuracy(night: Night, frame_id: int, radius: float) -> list[dict[str, Any]]:
    """Scatter in each bin of signal-to-noise ratio: of the profile's flux, and of the aperture nearest to a radius (pixel).

    Both programs' numbers are of the same stars; AstroWISP's are there where it was run.
    """
    folder = night.raw.parent
    peer = folder / "peer"
    x, y, true = (np.load(peer / f"{name}.npy") for name in ("x", "y", "flux"))
    with starledger.open(f"sqlite:///{folder / 'archive.db'}", files=folder / "files") as archive:
        slots = archive.sql("SELECT slot, radius FROM photometry_slot WHERE kind = 'aperture'")
        slot = int(slots.slot[(slots.radius - radius).abs().idxmin()])
        rows = archive.sql(
            f"SELECT x, y, flux_0, flux_err_0, flux_{slot} AS summed FROM measurement WHERE frame_id = {int(frame_id)} AND flags = 0"
        )
    distance, found = cKDTree(np.stack([rows.x, rows.y], axis=1)).query(np.stack([x, y], axis=1))
    use = alone(x, y, true) & (distance < MATCH)
    near = rows.iloc[found[use]]
    signal_to_noise = (near.flux_0 / near.flux_err_0).to_numpy()
    ratios = {"starledger profile": near.flux_0.to_numpy() / true[use], "starledger aperture": near.summed.to_numpy() / true[use]}
    if (peer / "fluxes.npy").exists():
        theirs = np.load(peer / "fluxes.npy")[use] / true[use][:, None]
        ratios |= {"AstroWISP profile": theirs[:, 0], "AstroWISP aperture": theirs[:, 2]}
    known = np.all([np.isfinite(ratio) for ratio in ratios.values()], axis=0)
    table = []
    for low, high in BINS:
        chosen = known & (signal_to_noise >= low) & (signal_to_noise < high)
        if chosen.sum() >= 10:
            row: dict[str, Any] = {
                "low": low,
                "high": high,
                "n": int(chosen.sum()),
                "noise": float(np.median(1.0 / signal_to_noise[chosen])),
            }
            table.append(row | {name: scatter(ratio[chosen]) for name, ratio in ratios.items()})
    return table
