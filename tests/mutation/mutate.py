"""Do the tests bite? Small mistakes are put into kernels and queries, one at a time, and the tests that concern the module must fail.

    python tests/mutation/mutate.py --seed 1 --number 200 --minutes 8
    python tests/mutation/mutate.py --module reduction/photometry --number 50

Each mistake is made in a copy of the tree, where only the test files that import the module run (of none, those of its users), the quickest
first, on SQLite. Mutants that change nothing that matters are listed with the reason in judged.toml, by the text of their line.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from concerned import concerned, imports_of, module_name
from mutations import Mutation, mutations

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("db", "reduction", "queries", "starledger", "tests", "benchmarks", "docs", "pyproject.toml")
MUTATED = ("reduction/**/kernels/*.py", "queries/*.py", "db/view*.py")
WITH_SQL = ("queries", "db")
#: Tests through which a view's SQL is seen: they read it by its name.
READ_BY_NAME = {"db.view": ("tests/db/test_views.py", "tests/queries/test_lightcurve.py", "tests/queries/test_targets.py")}
#: Libraries that every mutant's tests load: loaded once, before the processes fork.
LIBRARIES = (
    "numpy", "scipy.ndimage", "scipy.optimize", "scipy.spatial", "scipy.stats", "numba", "pytest", "hypothesis.strategies", "sqlalchemy",
    "astropy.coordinates", "astropy.io.fits", "astropy.table", "astropy.time", "astropy.wcs", "hpgeom", "sep", "alembic.command", "pandas",
    "typer", "rich.console", "_pytest.assertion.rewrite", "photutils.aperture",
)  # fmt: skip
#: Second: a test file that takes longer alone is no quick judge and left out; what a mutant may take more than the unchanged tree;
#: what the tests of one mutant may take together, of which the quickest file always runs.
SLOW, SLACK, BUDGET = 36.0, 12.0, 15.0
PYTEST = (
    "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not realdata", "-k", "not postgresql",
    # Loaded before they could be.
    "-W", "ignore::pytest.PytestAssertRewriteWarning",
)  # fmt: skip
CAUGHT = ("killed", "timeout")


@dataclass
class Mutant:
    """A mutation of a module, and what became of it."""

    file: str
    text: str
    mutation: Mutation
    tests: list[str]
    compiled: list[str] = field(default_factory=list)
    outcome: str = ""
    seconds: float = 0.0
    reason: str = ""

    def __str__(self) -> str:
        change = self.mutation
        after = change.after or "(nothing)"
        return f"{self.file}:{change.line}: {change.kind}: {change.before!r} -> {after!r} in: {self.text}"


@dataclass
class Baseline:
    """What a test file takes on the unchanged tree, second, and whether it passes."""

    seconds: float
    passes: bool


@dataclass
class Place:
    """A copy of the tree in which one mutant at a time is tried."""

    tree: Path
    clock: int = field(default_factory=lambda: int(time.time()) + 1000)

    def write(self, name: str, text: str) -> None:
        """Write a module with a time of its own: compiled files are known by size and time."""
        path = self.tree / name
        path.write_text(text)
        self.clock += 2
        os.utime(path, (self.clock, self.clock))


def copy_of_tree(folder: Path) -> Place:
    """A copy of what the tests need of the tree."""
    unwanted = shutil.ignore_patterns("__pycache__", ".*", "*.db")
    place = Place(folder / "tree")
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, place.tree / part, ignore=unwanted)
        else:
            shutil.copy(source, place.tree / part)
    return place


def candidates(only: str) -> list[Mutant]:
    """Every mutation of every module whose name contains `only`, with the tests that concern it."""
    tests = {path: imports_of(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "night" not in path.parts}
    packages = [ROOT / part for part in ("db", "reduction", "queries", "starledger")]
    sources = {module_name(path, ROOT): imports_of(path) for package in packages for path in sorted(package.rglob("*.py"))}
    found = []
    for path in sorted(path for pattern in MUTATED for path in ROOT.glob(pattern) if path.name != "__init__.py"):
        name, module, source = path.relative_to(ROOT).as_posix(), module_name(path, ROOT), path.read_text()
        if only not in name:
            continue
        files = quick([test.relative_to(ROOT).as_posix() for test in concerned(module, tests, sources)])
        files += [test for start, more in READ_BY_NAME.items() if module.startswith(start) for test in more if test not in files]
        lines = source.splitlines()
        of_module = mutations(source, sql=path.relative_to(ROOT).parts[0] in WITH_SQL)
        stale = stems(module, sources) if "njit" in source or module.endswith(".robust") else []
        found += [Mutant(name, lines[change.line - 1].strip(), change, files, stale) for change in of_module]
    return found


def stems(module: str, sources: Mapping[str, frozenset[str]]) -> list[str]:
    """Last names of a module and of all that use it, however far: whose compiled code a change makes stale."""
    known, new = {module}, {module}
    while new:
        new = {name for name, imported in sources.items() if imported & new} - known
        known |= new
    return sorted(name.rpartition(".")[2] for name in known if ".kernels." in name)


def quick(files: list[str]) -> list[str]:
    """Of a module's test files the unit tests, where it has any; whole steps are slow, and seldom the ones that notice."""
    return [file for file in files if file.startswith("tests/unit/")] or files


def start(place: Place, files: Sequence[str], *, cache: Path, log: Path) -> int:
    """Run test files in a child process, which ends with pytest's code; its number."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(out, stream)
    os.chdir(place.tree)
    os.environ["PYTHONPATH"] = str(place.tree)
    sys.path[:] = [str(place.tree), *(entry for entry in sys.path if Path(entry or ".").resolve() not in {ROOT, Path(__file__).parent})]
    from numba import config

    config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"] = str(cache)
    pytest = importlib.import_module("pytest")
    code = 1
    try:
        code = int(pytest.main([*PYTEST, *files]))
    finally:
        sys.stdout.flush()
        os._exit(code)


def finish(child: int, deadline: float) -> int | None:
    """Exit code of a child, or None where it had to be ended at the deadline (of time.monotonic)."""
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


class Trial:
    """Runs tests in one copy of the tree, and remembers what each file takes there."""

    def __init__(self, place: Place, folder: Path, known: Path) -> None:
        self.place, self.folder, self.known = place, folder, known
        self.baselines = {key: Baseline(**value) for key, value in json.loads(known.read_text()).items()} if known.exists() else {}

    def run(self, files: Sequence[str], limit: float, cache: Path) -> tuple[int | None, float]:
        """Exit code (None: too long) and seconds of some test files, with what numba compiled kept in `cache`."""
        began = time.monotonic()
        child = start(self.place, files, cache=cache, log=self.folder / "log")
        return finish(child, began + limit), time.monotonic() - began

    def baseline(self, file: str) -> Baseline:
        """What a file takes unchanged, all kernels compiled."""
        # By its text: a test file that was mended is measured anew.
        key = f"{file} {hashlib.sha256((ROOT / file).read_bytes()).hexdigest()[:16]}"
        if key not in self.baselines:
            # What is compiled by the first run does not count.
            code, seconds = self.run([file], 2 * SLOW, self.folder / "cache")
            if code == 0 and seconds > SLOW / 4:
                code, seconds = self.run([file], SLOW, self.folder / "cache")
            self.baselines[key] = Baseline(seconds, code == 0)
            self.known.parent.mkdir(parents=True, exist_ok=True)
            self.known.write_text(json.dumps({name: asdict(value) for name, value in self.baselines.items()}, indent=1))
            if code != 0:
                tail = (self.folder / "log").read_text(errors="replace").splitlines()[-3:]
                print(f"left out: {file} ({'too slow' if code is None else f'exit code {code}'}): {' | '.join(tail)}", flush=True)
        return self.baselines[key]

    def cache_for(self, mutant: Mutant) -> Path:
        """A cache without what was compiled from the mutant's module, or from its users: numba does not see that a callee has changed."""
        if not mutant.compiled:
            return self.folder / "cache"
        own = self.folder / "cache-mutant"
        shutil.rmtree(own, ignore_errors=True)
        if (self.folder / "cache").exists():
            shutil.copytree(self.folder / "cache", own)
        for stem in mutant.compiled:
            for path in own.rglob(f"{stem}.*"):
                path.unlink()
        return own

    def judge(self, mutant: Mutant) -> None:
        """Try a mutant; its outcome is killed, timeout, survived, or untested where no test file judges it."""
        usable = sorted((file for file in mutant.tests if self.baseline(file).passes), key=lambda file: self.baseline(file).seconds)
        until = np.cumsum([self.baseline(file).seconds for file in usable])
        usable = usable[: max(int(np.count_nonzero(until <= BUDGET)), 1)]
        # Of the copy: who goes on working on the tree meanwhile must not mix two states of it.
        source = (self.place.tree / mutant.file).read_text()
        mutant.outcome = "survived" if usable else "untested"
        self.place.write(mutant.file, mutant.mutation.apply(source))
        if usable:
            limit = 3.0 * sum(self.baseline(file).seconds for file in usable) + SLACK
            code, mutant.seconds = self.run(usable, limit + (SLOW if mutant.compiled else 0.0), self.cache_for(mutant))
            mutant.outcome = "timeout" if code is None else "killed" if code else "survived"
        self.place.write(mutant.file, source)


def judgements(path: Path) -> dict[tuple[str, str, str, str], str]:
    """Reasons by file, text of the line, and what became what."""
    listed = tomllib.loads(path.read_text()).get("judged", []) if path.exists() else []
    return {(entry["file"], entry["line"], entry["before"], entry["after"]): entry["reason"] for entry in listed}


def key_of(mutant: Mutant) -> tuple[str, str, str, str]:
    """What a judgement is kept by."""
    return mutant.file, mutant.text, mutant.mutation.before, mutant.mutation.after


def summary(mutants: Sequence[Mutant]) -> str:
    """Numbers of each outcome, and the share caught of those that are not judged equivalent."""
    count = Counter(mutant.outcome for mutant in mutants)
    counted = len(mutants) - count["judged"]
    caught = sum(count[outcome] for outcome in CAUGHT)
    share = f"{caught / counted:.0%}" if counted else "none"
    parts = ", ".join(f"{number} {outcome}" for outcome, number in sorted(count.items()))
    return f"{len(mutants)} mutants: {parts}; {share} of {counted} caught"


def chosen(options: argparse.Namespace) -> Iterator[Mutant]:
    """The seeded sample; of these with --part 1/2 every second one, so that two processes can share the work."""
    every = candidates(options.module)
    sample = random.Random(options.seed).sample(every, min(options.number, len(every)))
    first, of = map(int, options.part.split("/"))
    yield from sample[first - 1 :: of]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=None, help="stop with what was tried by then")
    parser.add_argument("--module", default="", help="only modules whose path contains this")
    parser.add_argument("--part", default="1/1", help="K/N: the K-th of N shares")
    parser.add_argument("--least", type=float, default=0.0, help="percent that must be caught; fewer is exit code 1")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "mutation.json")
    return parser.parse_args()


def main() -> int:
    """Try the mutants, print each, and write all of them as JSON."""
    options = arguments()
    end = time.monotonic() + 60.0 * options.minutes if options.minutes else float("inf")
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    for name in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(name)
    judged, tried = judgements(Path(__file__).with_name("judged.toml")), []
    with tempfile.TemporaryDirectory(prefix="starledger-mutants-") as folder:
        trial = Trial(copy_of_tree(Path(folder)), Path(folder), options.output.with_suffix(".baseline.json"))
        for mutant in chosen(options):
            if time.monotonic() > end:
                break
            mutant.reason = judged.get(key_of(mutant), "")
            if mutant.reason:
                mutant.outcome = "judged"
            else:
                trial.judge(mutant)
            tried.append(mutant)
            print(f"{mutant.outcome:9s} {mutant.seconds:5.1f} s  {mutant}", flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps([asdict(mutant) for mutant in tried], indent=1) + "\n")
    print(summary(tried))
    count = Counter(mutant.outcome for mutant in tried)
    share = sum(count[outcome] for outcome in CAUGHT) / max(len(tried) - count["judged"], 1)
    return int(100.0 * share < options.least)


if __name__ == "__main__":
    sys.exit(main())
