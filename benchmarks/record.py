"""What a benchmark found, written down: starledger's time over a competitor's of the same run, so that the machine matters little.

A benchmark calls `record("aperture", {"photutils": ours / theirs})`; lower is better. `compare.py` holds it against baseline.json.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["RESULT", "RESULT_VARIABLE", "read_result", "record"]

#: Names another file for the result.
RESULT_VARIABLE = "STARLEDGER_BENCH_RESULT"
RESULT = Path(__file__).resolve().parent.parent / "build" / "benchmarks.json"


def record(benchmark: str, ratios: Mapping[str, float], path: Path | None = None) -> None:
    """Add ratios to the result: those of several runs stand beside each other.

    Parameters
    ----------
    benchmark : str
        Name of the script without `bench_`.
    ratios : mapping of str to float
        By the competitor: starledger's time (or size) over its. Lower is better.
    path : Path, optional
        Result file; that of the environment or `build/benchmarks.json` when omitted.
    """
    path = path or Path(os.environ.get(RESULT_VARIABLE, RESULT))
    found = read_result(path)
    for name, ratio in ratios.items():
        if not 0.0 < ratio < float("inf"):
            raise ValueError(f"{benchmark}/{name}: a ratio is positive and finite, not {ratio}")
        found.setdefault(f"{benchmark}/{name}", []).append(round(float(ratio), 5))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def read_result(path: Path) -> dict[str, list[float]]:
    """The ratios of every run so far, by `benchmark/competitor`; none where there is no file."""
    return {name: list(map(float, values)) for name, values in json.loads(path.read_text()).items()} if path.exists() else {}
