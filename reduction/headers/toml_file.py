"""Reading TOML files that people give."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from db.errors import ConfigurationError, FrameUnusable
from reduction.files.contents import open_regular

__all__ = ["read_toml"]

_MOST_BYTES = 10_000_000


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a configuration file.

    Raises
    ------
    ConfigurationError
        It cannot be read (``config.file``), or is no TOML (``config.toml``).
    """
    try:
        with open_regular(path) as stream:
            contents = stream.read(_MOST_BYTES + 1)
    except FrameUnusable as error:
        raise ConfigurationError(
            error.message, where=str(path), hint="check the path of the configuration file", code="config.file"
        ) from error
    if len(contents) > _MOST_BYTES:
        raise ConfigurationError(
            f"more than {_MOST_BYTES} bytes", where=str(path), hint="a configuration is a few pages", code="config.file"
        )
    try:
        return tomllib.loads(contents.decode("utf-8").replace("\r\n", "\n"))
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, a number of thousands of digits, or thousands of brackets
        raise ConfigurationError(
            f"not valid TOML: {error}", where=str(path), hint="correct the line it names", code="config.toml"
        ) from error
