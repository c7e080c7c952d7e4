"""Fixtures of the tests from end to end."""

from __future__ import annotations

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
