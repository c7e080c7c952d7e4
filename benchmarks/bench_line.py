"""The whole line, raw frames to all fluxes, by the product's own steps on one core: against AstroWISP on the same calibrated frame.

python benchmarks/bench_line.py [--small] [--profile] [--astrowisp PYTHON]

A night of two object frames of 4096x4096 pixels with 20,000 stars, and three frames each of bias, dark and flat (--small: 650x500 pixels,
300 stars) is worked by `starledger`'s steps with one job: a small one first, for compiling, then the night itself in a new process.
AstroWISP 2.0 is no dependency: name a Python that has it by --astrowisp or $STARLEDGER_ASTROWISP. All seconds are the processor's.
--profile tells how much of each step is spent in kernels and in reading and writing files.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from record import record

FOLDER = Path(__file__).resolve().parent
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
#: Stars, rows, columns.
SMALL, LARGE = (300, 500, 650), (20_000, 4096, 4096)
#: Steps whose work is a file's or a frame's own; the others are a night's or a field's.
OWN = ("file", "frame")


def work(task: str, folder: Path, size: tuple[int, int, int], *more: str) -> Any:
    """What a task of line_worker.py found on a night, in a process of its own."""
    command = [sys.executable, str(FOLDER / "line_worker.py"), task, str(folder), *map(str, size), *more]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, **ONE_THREAD})
    return json.loads(done.stdout)


def astrowisp(python: str, folder: Path) -> dict[str, float]:
    """What AstroWISP took on the frame that was handed over."""
    command = [python, str(FOLDER / "peer_astrowisp.py"), str(folder / "peer")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **ONE_THREAD})
    found: dict[str, float] = json.loads((folder / "peer" / "found.json").read_text())
    return found


def tell_line(found: dict[str, Any], size: tuple[int, int, int]) -> tuple[float, float]:
    """Print what each step took; seconds of a frame's own steps, and with its part of the night's steps."""
    megapixels = size[1] * size[2] / 1e6
    print(
        f"{'step':18s} units    s/unit    s/Mpixel   memory so far"
        + ("   in kernels, files, of all" if "kernels" in found["steps"][0] else "")
    )
    own = shared = 0.0
    for row in found["steps"]:
        each = row["seconds"] / max(row["units"], 1)
        told = f"{row['step']:18s} {row['units']:5d} {each:9.3f} {each / megapixels:11.4f} {row['memory']:12.2f} GB"
        print(told + (f"   {row['kernels']:8.2f} {row['files']:6.2f} {row['seconds']:7.2f} s" if "kernels" in row else ""))
        of_frame = row["per"] in OWN and row["units"] > 0
        own, shared = own + of_frame * each, shared + (not of_frame) * row["seconds"]
    for failure in found["failures"]:
        print(f"failed: {failure}")
    print(f"a frame's own steps {own:.2f} s; the night's steps {shared:.2f} s; largest memory {found['memory']:.2f} GB")
    return own, own + shared / found["n_frame"]


def tell_accuracy(table: list[dict[str, Any]]) -> None:
    """Print the scatter of fluxes over the true ones, in percent."""
    print("robust scatter of flux / truth on isolated stars, %")
    for row in table:
        others = ", ".join(f"{name} {100 * value:.2f}" for name, value in row.items() if name not in ("low", "high", "n", "noise"))
        print(f"S/N {row['low']:4.0f} to {row['high']:4.0f}, {row['n']:5d} stars, noise {100 * row['noise']:.2f}: {others}")


def measure(folder: Path, size: tuple[int, int, int], python: str | None, profile: bool) -> None:
    """One night: the line, the kernels, the peer."""
    n_star, ny, nx = size
    print(f"{nx}x{ny} pixels, {n_star} stars", flush=True)
    work("make", folder, size)
    own, everything = tell_line(work("reduce", folder, size, *(["--profile"] if profile else [])), size)
    alone = work("frame", folder, size)
    print("kernels alone: " + ", ".join(f"{name} {alone[name]:.3f} s" for name in ("map", "fluxes", "apertures")), end="")
    print(f", {alone['n_source']} sources; largest memory {alone['memory']:.2f} GB", flush=True)
    if python is None:
        print("no AstroWISP: name a Python that has it by --astrowisp or $STARLEDGER_ASTROWISP")
    else:
        peer = astrowisp(python, folder)
        told = ", ".join(f"{name} {peer[name]:.2f} s" for name in ("background", "fit", "apertures"))
        print(f"AstroWISP: {told}; largest memory {peer['memory']:.2f} GB")
        theirs = peer["background"] + peer["fit"] + peer["apertures"]
        ratios = {
            "background + PRF + 4 apertures, whole line": own / theirs,
            "background + PRF + 4 apertures, whole line and the night's masters": everything / theirs,
            "PRF map and fluxes": (alone["map"] + alone["fluxes"]) / peer["fit"],
            "4 apertures": alone["apertures"] / peer["apertures"],
        }
        for name, ratio in ratios.items():
            print(f"{name}: {ratio:.3f} of AstroWISP's")
        if size == LARGE and not profile:
            record("line", {f"AstroWISP {name}": ratio for name, ratio in ratios.items()})
    tell_accuracy(work("accuracy", folder, size, "--frame-id", str(alone["frame_id"])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="650x500 pixels with 300 stars only")
    parser.add_argument("--profile", action="store_true", help="how much of each step its kernels and files take")
    parser.add_argument("--astrowisp", default=os.environ.get("STARLEDGER_ASTROWISP"), metavar="PYTHON", help="a Python that has it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        first = Path(name) / "first"
        work("make", first, SMALL)
        compiled = work("reduce", first, SMALL)
        print(f"first run, with compiling where no cache is: {sum(row['seconds'] for row in compiled['steps']):.1f} s")
        measure(Path(name) / "night", SMALL if options.small else LARGE, options.astrowisp, options.profile)


if __name__ == "__main__":
    main()
