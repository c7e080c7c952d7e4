"""Which names autogenerate looks at."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["include_name"]

_PARTITION = re.compile(r"^(closed_measurement|detection|detection_match|psf_star|target_measurement)_[nm]\d+$")


def include_name(name: str | None, kind: str, _parents: Any) -> bool:
    """Whether autogenerate compares this name: partitions are not tables of the model."""
    return not (kind == "table" and name is not None and _PARTITION.match(name))
