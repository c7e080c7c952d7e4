"""Fixtures around `small_archive`, for the conftest of the tests that read archives."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import small_archive
from small_archive import SmallArchive

__all__ = ["fresh", "pair", "small"]


@pytest.fixture(scope="module")
def pair(new_archive: Callable[[str], str]) -> Iterator[dict[str, SmallArchive]]:
    """The same small archive on both engines; not to be written to."""
    built = {name: small_archive.build(new_archive(name)) for name in ("sqlite", "postgresql")}
    yield built
    for archive in built.values():
        archive.engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def small(request: pytest.FixtureRequest, pair: dict[str, SmallArchive]) -> SmallArchive:
    """The small archive on each engine in turn; not to be written to."""
    return pair[request.param]


@pytest.fixture
def fresh(archive_url: str) -> Iterator[SmallArchive]:
    """A small archive of the test's own, on each engine in turn."""
    archive = small_archive.build(archive_url, n_frame=6, n_source=6)
    yield archive
    archive.engine.dispose()
