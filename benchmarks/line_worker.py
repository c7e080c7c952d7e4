"""What bench_line.py runs in processes of their own, so that each one's memory is its own: prints JSON.

python benchmarks/line_worker.py make|reduce|frame|accuracy FOLDER N_STAR NY NX [--profile] [--frame-id N]
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from line_accuracy import accuracy
from simulated_night import FWHM, Night, make_night, night_in

import starledger
from db.flags import Mask
from db.tables import Frame, FrameBackground
from reduction.photometry.kernels.psf_aperture import psf_apertures
from reduction.photometry.kernels.psf_fit import fit_psf
from reduction.photometry.kernels.psf_flux import fit_fluxes
from reduction.photometry.kernels.psf_seed import seed_map
from reduction.photometry.star_light import placed_sources, star_light
from reduction.pipeline.declaration import Context, Step
from reduction.pipeline.order import NIGHT, STEPS
from reduction.pipeline.scheduler import Tally
from reduction.pipeline.session import reading_session

RADII = tuple(FWHM * factor for factor in (1.0, 1.25, 1.6, 2.1))
SHAPE_STARS = 1000
#: Borders of the cells in which AstroWISP's PRF is a polynomial (pixel from the star): narrower ones take twice as long, and are no better.
GRID = (-5.0, -2.5, 0.0, 2.5, 5.0)
#: Pixels from the edge, at least, of the stars that it is given.
EDGE = 10.0
#: From raw to all fluxes: light curves need more than two frames.
LINE = [line.name for line in NIGHT if line.name not in ("magnitude_fit", "statistics")]


def largest_memory() -> float:
    """GB that this process held at most; not its parent's, which getrusage counts where a child begins as its copy."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) * 1024 / 1e9
    raise RuntimeError("no VmHWM in /proc/self/status: this benchmark wants Linux")


class Watch:
    """Seconds of the processor of each step, planning and writing included; with a profile also those inside kernels and files.

    A reporter, as `starledger reduce` has one.
    """

    def __init__(self, profile: bool) -> None:
        self.steps: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self.profile = cProfile.Profile(time.process_time) if profile else None
        self.last = time.process_time()
        if self.profile:
            self.profile.enable()

    def begin(self, step: Step, pending: int) -> None:
        """Planned already: the seconds count from the end of the step before."""

    def advance(self, step: Step, _unit: object, error: Exception | None) -> None:
        """A unit has ended."""
        if error is not None:
            self.failures.append(f"{step.name}: {error}")

    def again(self, _step: Step, _chance: str, _units: int) -> None:
        """Units are worked once more."""

    def end(self, step: Step, tally: Tally) -> None:
        """A step has ended."""
        row = {"step": step.name, "per": step.per, "seconds": time.process_time() - self.last, "memory": largest_memory()}
        row["units"] = tally.done + len(tally.failed)
        if self.profile:
            self.profile.disable()
            row |= {place: inside(self.profile, place) for place in ("kernels", "files")}
            self.profile = cProfile.Profile(time.process_time)
        self.steps.append(row)
        self.last = time.process_time()
        if self.profile:
            self.profile.enable()


def inside(profile: cProfile.Profile, place: str) -> float:
    """Seconds in functions of `reduction/.../<place>/` and all that they call: calls that come from elsewhere count."""
    mark = f"/{place}/"
    total = 0.0
    calls = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    for (file, _, _), (*_, callers) in calls.items():
        if mark in file and "/reduction/" in file:
            total += sum(float(seconds) for (caller, _, _), (*_, seconds) in callers.items() if mark not in caller)
    return total


def reduce_night(night: Night, profile: bool) -> dict[str, Any]:
    """Work a night into an archive of its own, which must not exist; what its steps took."""
    folder = night.raw.parent
    watch = Watch(profile)
    with starledger.create(f"sqlite:///{folder / 'archive.db'}", files=folder / "files") as archive:
        archive.reduce(night.raw, catalogues=night.catalogue, steps=LINE, jobs=1, reporter=watch)
    return {"steps": watch.steps, "failures": watch.failures, "memory": largest_memory(), "n_frame": night.n_frame}


def seconds_of(stages: Iterator[str]) -> dict[str, float]:
    """Seconds of the processor between the names that a function yields as each stage ends."""
    found, last = {}, time.process_time()
    for name in stages:
        found[name] = time.process_time() - last
        last = time.process_time()
    return found


def measure_frame(night: Night) -> dict[str, Any]:
    """The kernels alone on the first object frame, compiled before; and the frame written for the peer."""
    folder = night.raw.parent
    archive = starledger.open(f"sqlite:///{folder / 'archive.db'}", files=folder / "files")
    with archive, reading_session(archive.engine, STEPS["psf"]) as session:
        context = Context(session, archive.files, {}, STEPS["psf"])
        of_objects = sa.select(Frame).join(FrameBackground, FrameBackground.frame_id == Frame.frame_id)
        frame = session.scalars(of_objects.order_by(Frame.jd_utc)).first()
        pixels_of, radius = star_light(context, frame, None), 4.0 * FWHM
        sources = placed_sources(context, frame, -radius)
    pixels, mask = pixels_of.pixels(), pixels_of.planes["MASK"]
    seed = seed_map((frame.nx, frame.ny), FWHM, radius, pixel=1.0)

    def stages() -> Iterator[str]:
        psf = fit_psf(pixels, sources.x, sources.y, seed, max_stars=SHAPE_STARS).psf
        yield "map"
        stamps = psf.stamps(sources.x, sources.y)
        fluxes = fit_fluxes(pixels, stamps)
        yield "fluxes"
        psf_apertures(pixels, mask, psf, stamps, fluxes, sources.x, sources.y, RADII)
        yield "apertures"

    runs = [seconds_of(stages()) for _ in range(3)]
    best = min(runs[1:], key=lambda run: sum(run.values()))
    memory = largest_memory()
    hand_over(night, pixels_of.planes, pixels_of.gain)
    return {**best, "memory": memory, "n_source": len(sources), "frame_id": frame.frame_id}


def hand_over(night: Night, planes: dict[str, np.ndarray], gain: float) -> None:
    """Write the frame and the true positions on it for the peer, and how it is to be measured."""
    folder, truth = night.raw.parent / "peer", night.truth()
    folder.mkdir(exist_ok=True)
    ny, nx = night.shape
    known = np.isfinite(planes["SCI"]) & np.isfinite(planes["VAR"])
    saturated = planes["MASK"] & np.uint8(int(Mask.SATURATED | Mask.BLEED)) > 0
    mask = np.where(saturated, 1, np.where((planes["MASK"] != 0) | ~known, 2, 0)).astype(np.uint8)
    # Closer to the edge AstroWISP's apertures end its process.
    on = np.all([(truth[name] > EDGE) & (truth[name] < size - 1 - EDGE) for name, size in (("x", nx), ("y", ny))], axis=0)
    arrays = {
        "value": np.where(known, planes["SCI"], 0.0).astype(np.float64),
        "error": np.sqrt(np.where(known, planes["VAR"], 1.0)).astype(np.float64),
        "mask": mask,
        "x": np.asarray(truth["x"][on], np.float64),
        "y": np.asarray(truth["y"][on], np.float64),
        "flux": np.asarray(truth["flux"][on], np.float64) / gain,
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    how = {"gain": gain, "radii": RADII, "grid": GRID, "shape_stars": SHAPE_STARS}
    (folder / "how.json").write_text(json.dumps(how))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("make", "reduce", "frame", "accuracy"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("numbers", type=int, nargs=3)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--frame-id", type=int, default=0)
    options = parser.parse_args()
    n_star, ny, nx = options.numbers
    night = night_in(options.folder, n_star, (ny, nx))
    found: Any = None
    if options.task == "make":
        make_night(night)
    elif options.task == "reduce":
        found = reduce_night(night, options.profile)
    elif options.task == "frame":
        found = measure_frame(night)
    else:
        found = accuracy(night, options.frame_id, RADII[1])
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
