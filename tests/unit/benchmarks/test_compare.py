"""What the benchmarks found against what is remembered."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from record import read_result, record

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks"


def load() -> ModuleType:
    """By its path: tests/support has a `compare` of its own."""
    spec = importlib.util.spec_from_file_location("benchmark_compare", FOLDER / "compare.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up there
    spec.loader.exec_module(module)
    return module


compare = load()
KNOWN = {"a/x": compare.Remembered(1.0, 0.2), "a/y": compare.Remembered(2.0), "b/z": compare.Remembered(None, note="too slow")}


def words(result: dict[str, list[float]], *only: str, tolerance: float = 0.3) -> dict[str, str]:
    return {verdict.name: verdict.word for verdict in compare.compare(result, KNOWN, only=only, tolerance=tolerance)}


@pytest.mark.parametrize(("now", "word"), [(1.49, "same"), (1.51, "slower"), (0.67, "same"), (0.66, "faster")])
def test_the_tolerance_and_the_spread_seen_are_allowed(now: float, word: str) -> None:
    assert words({"a/x": [now], "a/y": [2.0]})["a/x"] == word


def test_the_best_of_several_runs_counts() -> None:
    assert words({"a/x": [9.0, 1.0, 5.0], "a/y": [2.7]}) == {"a/x": "same", "a/y": "slower", "b/z": "unknown"}


def test_missing_and_new_are_told() -> None:
    assert words({"b/z": [3.0], "c/w": [1.0]}) == {"a/x": "missing", "a/y": "missing", "b/z": "new", "c/w": "new"}
    assert words({"c/w": [1.0]}, "c") == {"c/w": "new"}


def test_accepting_keeps_what_was_not_measured() -> None:
    new = compare.accepted({"a/x": [2.0, 3.0], "a/y": [1.5], "c/w": [4.0]}, KNOWN, only=("a",))
    assert new == {"a/x": compare.Remembered(2.0, 0.5), "a/y": compare.Remembered(1.5), "b/z": KNOWN["b/z"]}


def test_an_optional_competitor_may_be_absent_but_is_judged_where_it_is_there() -> None:
    known = {"a/x": compare.Remembered(1.0, optional=True)}
    assert [verdict.word for verdict in compare.compare({}, known)] == ["unknown"]
    assert [verdict.word for verdict in compare.compare({"a/x": [1.5]}, known)] == ["slower"]
    assert compare.accepted({"a/x": [0.5]}, known) == {"a/x": compare.Remembered(0.5, optional=True)}


def test_a_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    compare.write_baseline(tmp_path / "baseline.json", KNOWN)
    assert compare.read_baseline(tmp_path / "baseline.json") == KNOWN


def test_every_name_remembered_has_its_benchmark() -> None:
    scripts = {path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py")}
    remembered = compare.read_baseline(compare.BASELINE)
    assert remembered and {name.partition("/")[0] for name in remembered} <= scripts
    assert all(entry.ratio is not None or entry.note for entry in remembered.values())


def test_runs_stand_beside_each_other_and_nonsense_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    record("a", {"x": 1.5}, path)
    record("a", {"x": 1.25, "y": 3.0}, path)
    with pytest.raises(ValueError, match="positive and finite"):
        record("a", {"x": float("nan")}, path)
    assert read_result(path) == {"a/x": [1.5, 1.25], "a/y": [3.0]}
