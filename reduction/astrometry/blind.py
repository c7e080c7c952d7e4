"""Plate solution from star positions alone, by astrometry.net's index files.

Lang et al. (2010, AJ 139, 1782), through the PyPI package ``astrometry`` and, where that finds nothing,
the program ``solve-field``. Each runs as a process of its own, for neither can be stopped from within.
The result is a start like any other: `reduction.astrometry.kernels.plate.solve` confirms and refines it against
the catalogue. Nothing is ever downloaded: the index files are those that are there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

import reduction
from reduction.astrometry.kernels.wcs import PlateSolution
from reduction.kernels.arrays import FloatArray

__all__ = ["DEFAULT_INDEX_DIR", "SOLVERS", "BlindResult", "index_files", "solve_blind", "unavailable"]


DEFAULT_INDEX_DIR = Path("/usr/share/astrometry")  # where Debian's astrometry-data-* packages put them
SOLVERS = ("astrometry", "solve-field")
ROOT = Path(reduction.__file__).resolve().parent.parent  # the folder that holds the package reduction
MAX_STARS = 120
CELLS = 6  # along the longer side: of a long list, stars are taken in turn from so many cells, lest one cluster has them all
MIN_STARS = 6
TIME_LIMIT = 60.0  # second of the processor: how busy the machine is changes no result
CLOCK = 20.0  # times as long by the clock, a solver that waits for something else is ended
FIELD_WIDTH = (0.1, 120.0)  # degree; sought without a hint of the scale


@dataclass(frozen=True)
class BlindResult:
    """What came of a blind search.

    Attributes
    ----------
    solution : PlateSolution or None
        Of order 1, good to some pixel; None where there is none.
    reason : str
        Empty on success, else why there is no solution, with what to do.
    solver : str
        Which of `SOLVERS` found it; empty where none did.
    """

    solution: PlateSolution | None
    reason: str = ""
    solver: str = ""


@dataclass(frozen=True)
class _Task:
    """Stars (n, 2; pixel), brightest first, frame size nx, ny, index files, and what is known of scale (arcsec/pixel) and position."""

    stars: FloatArray
    size: tuple[int, int]
    files: list[Path]
    scale: tuple[float, float]
    place: tuple[float, float, float] | None
    limit: float


class _Stopped(Exception):
    """A solver did not end by itself within its time, or ended in an error; the message says which."""


def solve_blind(
    det_x: FloatArray,
    det_y: FloatArray,
    det_flux: FloatArray,
    shape: tuple[int, int],
    index_dir: Path | str,
    *,
    scale: float | None = None,
    scale_tolerance: float = 0.2,
    position: tuple[float, float] | None = None,
    position_radius: float = 10.0,
    solvers: tuple[str, ...] = SOLVERS,
    time_limit: float = TIME_LIMIT,
) -> BlindResult:
    """Solve a frame without knowing where it points.

    Parameters
    ----------
    det_x, det_y, det_flux : float64, shape (n,)
        Detections: position (pixel) and flux (any unit). Of a long list the brightest 120 are used, taken evenly
        over the frame.
    shape : (int, int)
        (ny, nx) of the frame.
    index_dir : Path or str
        Directory of astrometry.net index files (``index-*.fits``).
    scale : float, optional
        Arcsec per pixel; when omitted, frames 0.1 to 120 degrees wide are thought of.
    scale_tolerance : float
        Largest relative error of `scale`.
    position, position_radius : (float, float), float
        RA and Dec, and the radius around them to search (degree); the whole sky when omitted.
    solvers : tuple of str
        Which of `SOLVERS` to ask, in this order; one that is not installed is passed over.
    time_limit : float
        Seconds of the processor that each solver may take.

    Returns
    -------
    BlindResult
    """
    why_not = unavailable(index_dir, solvers)
    if why_not:
        return BlindResult(None, why_not)
    files = index_files(index_dir)
    good = np.flatnonzero(np.isfinite(det_x) & np.isfinite(det_y) & np.isfinite(det_flux))
    if len(good) < MIN_STARS:
        return BlindResult(None, f"{len(good)} stars detected, at least {MIN_STARS} are needed")
    size = (shape[1], shape[0])
    stars = np.column_stack([det_x, det_y])[good[np.lexsort((det_x[good], det_y[good], -det_flux[good]))]]
    if scale is None:
        low, high = (3600.0 * width / max(size) for width in FIELD_WIDTH)
    else:
        low, high = scale / (1.0 + scale_tolerance), scale * (1.0 + scale_tolerance)
    place = None if position is None else (position[0] % 360.0, position[1], position_radius)
    task = _Task(_spread(stars, size), size, files, (low, high), place, time_limit)
    reasons = []
    for name in solvers:
        try:
            fields = _ASK[name](task)
        except _Stopped as error:
            reasons.append(str(error))
            continue
        if fields is not None:
            return BlindResult(_from_fields(fields, size), solver=name)
        reasons.append(f"{name} finds the {len(task.stars)} brightest detections in none of {len(files)} index files of {index_dir}")
    return BlindResult(None, "; ".join(reasons))


def index_files(index_dir: Path | str) -> list[Path]:
    """The index files of a directory, sorted."""
    return sorted(Path(index_dir).glob("index-*.fits"))


def unavailable(index_dir: Path | str, solvers: tuple[str, ...] = SOLVERS) -> str:
    """Why no frame at all can be solved blindly, with what to do; empty where one can."""
    if not index_files(index_dir):
        return f"no index files in {index_dir}: install Debian's astrometry-data-tycho2, or name the directory that holds them"
    missing = [_MISSING[name] for name in solvers if not _installed(name)]
    return "; ".join(missing) if len(missing) == len(solvers) else ""


def _installed(name: str) -> bool:
    return shutil.which(name) is not None if name == "solve-field" else importlib.util.find_spec(name) is not None


def _spread(stars: FloatArray, size: tuple[int, int]) -> FloatArray:
    """The stars in the order of their rank within cells of the frame, then of brightness, cut to `MAX_STARS`."""
    if len(stars) <= MAX_STARS:
        return stars
    cell = max(size) / CELLS
    number = (stars[:, 1] // cell).astype(int) * (CELLS + 1) + (stars[:, 0] // cell).astype(int)
    order = np.argsort(number, kind="stable")
    first = np.searchsorted(number[order], number[order])
    rank = np.empty(len(stars), dtype=int)
    rank[order] = np.arange(len(stars)) - first
    return stars[np.lexsort((np.arange(len(stars)), rank))[:MAX_STARS]]


def _package(task: _Task) -> dict[str, float] | None:
    """Ask the package astrometry, in a Python of its own."""
    if not _installed("astrometry"):
        raise _Stopped(_MISSING["astrometry"])
    question = {"stars": task.stars.tolist(), "files": [str(path) for path in task.files], "scale": task.scale, "place": task.place}
    # the child imports this very package, wherever the parent was started
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    # safe: else modules of the folder that it is started in come before the library's
    command = [sys.executable, "-P", "-m", "reduction.astrometry.blind_process"]
    answer = _run(command, task.limit, "astrometry", json.dumps(question), {"PYTHONPATH": path})
    fields: dict[str, float] | None = json.loads(answer)
    return fields


def _program(task: _Task) -> dict[str, float] | None:
    """Ask solve-field, by way of a list of stars in a folder of its own."""
    if not _installed("solve-field"):
        raise _Stopped(_MISSING["solve-field"])
    with tempfile.TemporaryDirectory(prefix="starledger-") as name:
        folder = Path(name)
        # FITS pixels count from 1
        columns = {"X": task.stars[:, 0] + 1.0, "Y": task.stars[:, 1] + 1.0, "FLUX": np.arange(len(task.stars), 0, -1.0)}
        Table(columns).write(folder / "stars.xyls", format="fits")
        config = ["inparallel", *(f"index {path.resolve()}" for path in task.files)]
        (folder / "backend.cfg").write_text("\n".join(config) + "\n")
        _run(_words(task, folder), task.limit, "solve-field")
        found = folder / "stars.wcs"
        if not found.exists():
            return None
        header = fits.getheader(found)
        fields = {key: float(header[key]) for key in ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD1_2", "CD2_1", "CD2_2")}
    return {**fields, "CRPIX1": fields["CRPIX1"] - 1.0, "CRPIX2": fields["CRPIX2"] - 1.0}


def _words(task: _Task, folder: Path) -> list[str]:
    """Command line of solve-field."""
    options: dict[str, Any] = {
        "--width": task.size[0],
        "--height": task.size[1],
        "--x-column": "X",
        "--y-column": "Y",
        "--sort-column": "FLUX",
        "--scale-units": "arcsecperpix",
        "--scale-low": task.scale[0],
        "--scale-high": task.scale[1],
        "--cpulimit": max(1, int(task.limit)),
        "--backend-config": folder / "backend.cfg",
        "--dir": folder,
        "--temp-dir": folder,
    }
    if task.place is not None:
        options |= dict(zip(("--ra", "--dec", "--radius"), task.place, strict=True))
    arguments = [str(value) for option in options.items() for value in option]
    return ["solve-field", "--overwrite", "--no-plots", "--no-tweak", *arguments, str(folder / "stars.xyls")]


def _run(command: list[str], limit: float, name: str, question: str = "", environment: dict[str, str] | None = None) -> str:
    """Output of a process that may use so many seconds of the processor; it is ended with all its children when they are used up."""
    # By way of a process that limits itself and becomes the command: a limit set between fork and exec may hang where there are threads.
    limited = [sys.executable, "-P", "-c", _LIMITED, str(max(1, round(limit))), *command] if os.name == "posix" else command
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(limited, text=True, start_new_session=True, env={**os.environ, **(environment or {})}, **pipes) as process:
        try:
            answer, complaint = process.communicate(question, timeout=CLOCK * limit)
        except subprocess.TimeoutExpired:
            raise _Stopped(f"{name} did not end within {CLOCK * limit:g} s by the clock") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    output: str = answer
    if os.name == "posix" and process.returncode in (-signal.SIGXCPU, 128 + signal.SIGXCPU):
        raise _Stopped(f"{name} found nothing within {limit:g} s of the processor ([solve] blind_time_limit)")
    if process.returncode != 0:
        line = (complaint.strip().splitlines() or [""])[-1]
        raise _Stopped(f"{name} ended with code {process.returncode}: {line}")
    return output


#: Limits its own processor time (the children of the command have the limit, too) and becomes the command.
_LIMITED = """
import os, resource, sys
limit = int(sys.argv[1])
hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))
os.execvp(sys.argv[2], sys.argv[2:])
"""

_MISSING = {
    "astrometry": "the package astrometry is not installed: pip install 'starledger[blind]'",
    "solve-field": "solve-field is not installed: install Debian's astrometry.net",
}
_ASK = {"astrometry": _package, "solve-field": _program}


def _from_fields(fields: dict[str, float], size: tuple[int, int]) -> PlateSolution:
    """Linear terms of a FITS TAN solution whose reference pixel counts from 0."""
    cd = np.array([[fields["CD1_1"], fields["CD1_2"]], [fields["CD2_1"], fields["CD2_2"]]], dtype=np.float64)
    slope = np.linalg.inv(cd)
    return PlateSolution(
        float(fields["CRVAL1"]),
        float(fields["CRVAL2"]),
        1,
        (float(fields["CRPIX1"]), float(slope[0, 0]), float(slope[0, 1])),
        (float(fields["CRPIX2"]), float(slope[1, 0]), float(slope[1, 1])),
        *size,
    )
