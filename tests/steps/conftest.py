"""Fixtures of the tests of the mechanism."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mini_night
import pytest
from mini_night import Night, Work


@pytest.fixture(scope="session")
def night() -> Night:
    """The mini night; not to be changed."""
    return mini_night.night()


@pytest.fixture
def reduced(tmp_path: Path) -> Work:
    """The reduced mini night on SQLite, the test's own copy."""
    return mini_night.reduced(tmp_path)


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Work]:
    """`fresh()`: an archive on SQLite that does not exist yet."""

    def make() -> Work:
        folder = tmp_path_factory.mktemp("fresh")
        return Work(f"sqlite:///{folder / 'archive.db'}", folder / "files")

    return make
