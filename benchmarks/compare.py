"""Has something become slower? The benchmarks' ratios against those that baseline.json remembers.

    python benchmarks/compare.py                    the last result against the baseline
    python benchmarks/compare.py --run [NAME ...]   run the benchmarks (aperture, bulk, ...) first; --repeat 3 runs each three times
    python benchmarks/compare.py --accept           write the last result as the baseline

A ratio is starledger's time over a competitor's of the same run; the best of several runs counts. It is slower when it exceeds the
baseline by more than the tolerance and the spread seen when the baseline was made. Exit code 1: something is slower or was not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from record import RESULT, RESULT_VARIABLE, read_result

FOLDER = Path(__file__).resolve().parent
BASELINE = FOLDER / "baseline.json"
TOLERANCE = 0.3
BAD = ("slower", "missing")


@dataclass(frozen=True)
class Remembered:
    """A ratio of the baseline; None where the benchmark was never run for it, which the note explains; optional: not all have the peer."""

    ratio: float | None
    spread: float = 0.0
    note: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Verdict:
    """A ratio now and then."""

    name: str
    word: str
    now: float | None
    then: float | None
    limit: float | None

    def __str__(self) -> str:
        def shown(value: float | None) -> str:
            return "     -" if value is None else f"{value:6.3f}"

        return f"{self.word:8s} {self.name:40s} now {shown(self.now)}, baseline {shown(self.then)}, allowed {shown(self.limit)}"


def compare(
    result: Mapping[str, Sequence[float]], baseline: Mapping[str, Remembered], *, only: Collection[str] = (), tolerance: float = TOLERANCE
) -> list[Verdict]:
    """Every ratio of the result and the baseline, judged.

    Parameters
    ----------
    result : mapping of str to list of float
        Ratios of each run, by `benchmark/competitor`.
    baseline : mapping of str to Remembered
        What is remembered.
    only : collection of str
        Benchmarks to judge; all when empty.
    tolerance : float
        Relative excess that is allowed besides the spread seen.

    Returns
    -------
    list of Verdict
        "slower", "faster" (by as much as would be slower the other way), "same", "missing" (remembered, not measured), "new" (measured,
        not remembered), or "unknown" (neither: the note says why; or a competitor that is optional was not there); by name.
    """
    verdicts = []
    for name in sorted({*result, *baseline}):
        if only and name.partition("/")[0] not in only:
            continue
        values, known = result.get(name), baseline.get(name, Remembered(None))
        now = min(values) if values else None
        if known.ratio is None or (now is None and known.optional):
            verdicts.append(Verdict(name, "unknown" if now is None else "new", now, known.ratio, None))
            continue
        room = 1.0 + tolerance + known.spread
        word = "missing" if now is None else "slower" if now > known.ratio * room else "faster" if now < known.ratio / room else "same"
        verdicts.append(Verdict(name, word, now, known.ratio, known.ratio * room))
    return verdicts


def accepted(
    result: Mapping[str, Sequence[float]], baseline: Mapping[str, Remembered], *, only: Collection[str] = ()
) -> dict[str, Remembered]:
    """The new baseline: the best ratio of each name measured and the relative spread of its runs; what was not measured stays."""
    new = dict(baseline)
    for name, values in result.items():
        if not only or name.partition("/")[0] in only:
            best = min(values)
            known = baseline.get(name, Remembered(None))
            # One run shows no spread: what is known of it stays.
            spread = (max(values) - best) / best if len(values) > 1 else known.spread
            new[name] = Remembered(round(best, 4), round(spread, 3), optional=known.optional)
    return dict(sorted(new.items()))


def read_baseline(path: Path) -> dict[str, Remembered]:
    """What is remembered, by name."""
    return {name: Remembered(**entry) for name, entry in json.loads(path.read_text()).items()} if path.exists() else {}


def write_baseline(path: Path, baseline: Mapping[str, Remembered]) -> None:
    """Write what is to be remembered; one name a line, so that changes show."""
    lines = ",\n".join(
        f" {json.dumps(name)}: {json.dumps({key: value for key, value in asdict(entry).items() if value or key == 'ratio'})}"
        for name, entry in baseline.items()
    )
    path.write_text(f"{{\n{lines}\n}}\n")


def run(names: Collection[str], result: Path, repeat: int) -> list[str]:
    """Run the benchmarks, each in a process of its own; the names of those that failed."""
    result.unlink(missing_ok=True)
    failed = []
    for script in sorted(FOLDER.glob("bench_*.py")):
        name = script.stem.removeprefix("bench_")
        if names and name not in names:
            continue
        for _ in range(repeat):
            print(f"== {name}", flush=True)
            if subprocess.run([sys.executable, str(script)], check=False, env={**os.environ, RESULT_VARIABLE: str(result)}).returncode:
                failed.append(name)
                break
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks; all when omitted")
    parser.add_argument("--run", action="store_true", help="run them first")
    parser.add_argument("--repeat", type=int, default=1, help="how often")
    parser.add_argument("--accept", action="store_true", help="write a new baseline")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="relative excess allowed besides the spread seen")
    options = parser.parse_args()
    known = {script.stem.removeprefix("bench_") for script in FOLDER.glob("bench_*.py")}
    if unknown := set(options.names) - known:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    path = Path(os.environ.get(RESULT_VARIABLE, RESULT))
    failed = run(options.names, path, options.repeat) if options.run else []
    result, baseline = read_result(path), read_baseline(BASELINE)
    verdicts = compare(result, baseline, only=options.names, tolerance=options.tolerance)
    for verdict in verdicts:
        print(verdict)
    for name in failed:
        print(f"failed   {name}")
    if options.accept:
        write_baseline(BASELINE, accepted(result, baseline, only=options.names))
        return int(bool(failed))
    return int(bool(failed) or any(verdict.word in BAD for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
