"""Fixtures of all tests: the real frames, and an empty archive on each engine."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import postgres_server
import pytest
from filelock import FileLock
from templates import administer

# As the command line does: tests run side by side, and threads inside them only wait for each other.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

# Nobody waits a minute here for another writer that a test has put there.
os.environ.setdefault("STARLEDGER_WAIT", "1")

RUN = "STARLEDGER_TEST_RUN"
FULL = os.environ.get("STARLEDGER_REALDATA") == "full"
SHARED = Path(os.environ.get("STARLEDGER_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
THIN, KEPT = 12, 10  # every 12th frame, but 10 at least


def pytest_configure(config: pytest.Config) -> None:
    """The main process owns one scratch folder; workers find it through the environment."""
    if not hasattr(config, "workerinput"):
        os.environ[RUN] = tempfile.mkdtemp(prefix="starledger-")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of tests that take long, the first set of parameters, where whole nights were not asked for."""
    tried: set[str] = set()
    for item in items if not FULL else ():
        if item.get_closest_marker("long") is not None:
            test = item.nodeid.partition("[")[0]
            if test in tried or test == item.nodeid:
                item.add_marker(pytest.mark.skip(reason="takes long: with STARLEDGER_REALDATA=full"))
            tried.add(test)


def pytest_unconfigure(config: pytest.Config) -> None:
    """The main process ends last: it stops the PostgreSQL server, whichever worker started it."""
    if hasattr(config, "workerinput"):
        return
    run = Path(os.environ.pop(RUN))
    state = run / "postgres.json"
    if state.exists():
        postgres_server.stop(run / "postgres", Path(json.loads(state.read_text())["server"]))
    shutil.rmtree(run)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What a test has to say that passed: with which seed it tried how much."""
    for report in terminalreporter.getreports("passed"):
        for name, said in report.user_properties:
            terminalreporter.write_line(f"{name}: {said}")


def pytest_report_header() -> list[str]:
    """What the tests find on this machine."""
    real = str(SHARED) if SHARED.is_dir() else f"absent ({SHARED})"
    nights = "whole nights" if FULL else f"every {THIN}th frame of a long night (STARLEDGER_REALDATA=full takes all)"
    return [f"real frames: {real}, {nights}", f"postgresql: {postgres_server.find_server() or 'no server found'}"]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real frames, `../shared/data`; a test that asks for it is skipped where it is absent."""
    if not SHARED.is_dir():
        message = f"no real frames: {SHARED} does not exist"
        # Who asks for whole nights wants to know that they ran.
        pytest.fail(message) if FULL else pytest.skip(message)
    return SHARED


@pytest.fixture(scope="session")
def night_files(shared_data: Path) -> Callable[[str], list[Path]]:
    """`night_files("hatp32")`: the night's frames in order, thinned to every 12th unless whole nights were asked for.

    Ten are left at least; nights shorter than 20 frames are always whole.
    """

    def files(name: str) -> list[Path]:
        found = sorted(path for path in (shared_data / name).iterdir() if path.suffix.lower() in {".fits", ".fit", ".fts", ".fz"})
        assert found, f"no frames in {shared_data / name}"
        return found if FULL or len(found) < 2 * KEPT else found[:: min(THIN, len(found) // KEPT)]

    return files


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """URL of the maintenance database of a real PostgreSQL server, started once for all workers."""
    run = Path(os.environ[RUN])
    state = run / "postgres.json"
    with FileLock(run / "postgres.lock"):
        if not state.exists():
            server = postgres_server.find_server()
            if server is None:
                pytest.fail("no PostgreSQL server: install the extra 'dev', or PostgreSQL itself")
            folder = run / "postgres"
            folder.mkdir()
            run.chmod(0o755)
            url = postgres_server.start(folder, server)
            state.write_text(json.dumps({"url": url, "server": str(server)}))
        return str(json.loads(state.read_text())["url"])


@pytest.fixture(scope="session")
def new_archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """`new_archive("sqlite")` or `new_archive("postgresql")`: the URL of a fresh, empty database."""

    def create(engine: str) -> str:
        if engine == "sqlite":
            return f"sqlite:///{tmp_path_factory.mktemp('archive') / 'archive.db'}"
        url = request.getfixturevalue("postgres_url")
        name = f"archive_{uuid.uuid4().hex[:12]}"
        administer(url, f"CREATE DATABASE {name}")
        return f"{url.rpartition('/')[0]}/{name}"

    return create


@pytest.fixture(params=["sqlite", "postgresql"])
def archive_url(request: pytest.FixtureRequest, new_archive: Callable[[str], str]) -> Iterator[str]:
    """URL of a fresh, empty database; the test runs once on each engine."""
    url = new_archive(request.param)
    yield url
    if request.param == "postgresql":
        server, _, name = url.rpartition("/")
        administer(f"{server}/postgres", f"DROP DATABASE {name} WITH (FORCE)")
