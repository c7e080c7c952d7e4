"""What an exposure's pixels and header say about its type, as kept in `exposure_statistics`."""

from __future__ import annotations

import json
import math
from typing import Any

from reduction.frames.kernels.frame_statistics import FrameStatistics, HeaderEvidence
from reduction.headers.facts import Facts
from reduction.pipeline.declaration import canonical

__all__ = ["evidence_text", "read_evidence"]


def evidence_text(pixels: FrameStatistics, found: Facts) -> str:
    """JSON of the evidence; what is not finite becomes null."""
    black = found.black_level
    header = {
        "declared": found.declared,
        "blocked": found.blocked,
        "black_level": black if black is not None and math.isfinite(black) else None,
    }
    return canonical({"pixels": pixels.as_dict(), "header": header})


def read_evidence(text: str, exptime: float, calibrated: str, sun_altitude: float | None) -> tuple[FrameStatistics, HeaderEvidence]:
    """The inverse, with what stands in other tables.

    Parameters
    ----------
    text : str
        As from `evidence_text`.
    exptime : float
        s.
    calibrated : str
        Steps done before, with blanks between.
    sun_altitude : float or None
        Degrees.
    """
    content: dict[str, Any] = json.loads(text)
    said = content["header"]
    header = HeaderEvidence(
        exptime, said["declared"], said["blocked"], tuple(calibrated.split()), sun_altitude, black_level=said["black_level"]
    )
    return FrameStatistics.from_dict(content["pixels"]), header
