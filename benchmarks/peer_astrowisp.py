"""AstroWISP's background, PRF fit and apertures on one calibrated frame; run by bench_line.py with a Python that has it.

python benchmarks/peer_astrowisp.py FOLDER

The folder holds value.npy and error.npy (float64 [ny, nx], ADU), mask.npy (uint8; 1 saturated, 2 not to be used), x.npy, y.npy (0-based
pixel centres), and how.json with "gain", "radii", "grid" and "shape_stars". Fluxes go into fluxes.npy ([n, 1 + radii], ADU: PRF first),
seconds of the processor and the largest memory (GB) into found.json.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
from astrowisp import BackgroundExtractor, FitStarShape, SubPixPhot
from astrowisp.hat_masks import mask_flags

#: Pixels next to a star that its background leaves out, and where that ends; pixel.
RING = (8.0, 16.0)
MAGNITUDE_1ADU = 25.0


def second_order(x: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """1, x, y, x^2, xy, y^2 for each star, scaled to the frame; [n, 6]."""
    u, v = 2.0 * x / shape[1] - 1.0, 2.0 * y / shape[0] - 1.0
    return np.ascontiguousarray(np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1))


def sources(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The list of stars as the fit wants it."""
    table = np.empty(x.size, dtype=[("ID", "S16"), ("x", "f8"), ("y", "f8")])
    table["ID"], table["x"], table["y"] = [b"%d" % k for k in range(x.size)], x, y
    return table


def main() -> None:
    folder = Path(sys.argv[1])
    value, error, mask, x, y = (np.load(folder / f"{name}.npy") for name in ("value", "error", "mask", "x", "y"))
    how = json.loads((folder / "how.json").read_text())
    flags = np.zeros(mask.shape, np.uint8)
    flags[mask == 1], flags[mask == 2] = mask_flags["OVERSATURATED"], mask_flags["BAD"]
    # A pixel begins at its number there: centres are halves.
    x, y = x + 0.5, y + 0.5
    start = time.process_time()
    background = BackgroundExtractor(value, *RING)
    background(x, y)
    measured = time.process_time()
    fit = FitStarShape(
        mode="PRF",
        grid=how["grid"],
        initial_aperture=5.0,
        max_chi2=100.0,
        max_rel_amplitude_change=1e-3,
        gain=how["gain"],
        src_max_count=how["shape_stars"],
        src_max_sat_frac=0.0,
        magnitude_1adu=MAGNITUDE_1ADU,
    )
    tree = fit.fit([(value, error, flags, sources(x, y), second_order(x, y, value.shape))], [background], require_convergence=False)
    fitted = time.process_time()
    SubPixPhot(apertures=how["radii"], gain=how["gain"], magnitude_1adu=MAGNITUDE_1ADU)((value, error, flags.view("S1")), tree)
    summed = time.process_time()
    magnitudes = [tree.get(f"apphot.mag.0.{k}", shape=(x.size,)) for k in range(len(how["radii"]))]
    apertures = [10.0 ** (0.4 * (MAGNITUDE_1ADU - magnitude)) for magnitude in magnitudes]
    np.save(folder / "fluxes.npy", np.stack([tree.get("psffit.flux.0", shape=(x.size,)), *apertures], axis=1))
    seconds = {"background": measured - start, "fit": fitted - measured, "apertures": summed - fitted}
    # The library prints what it does: the result is a file.
    found = {**seconds, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
