"""What a frame's pixels and header say about its type, as kept in `frame_statistics`."""

from __future__ import annotations

import json
import math

from reduction.headers import Facts
from reduction.kernels.sort import FrameStatistics as PixelStatistics
from reduction.kernels.sort import HeaderEvidence
from reduction.step import canonical

__all__ = ["evidence_text", "read_evidence"]


def evidence_text(pixels: PixelStatistics, found: Facts) -> str:
    """JSON of the evidence; what is not finite becomes null."""
    plain = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in pixels.as_dict().items()}
    return canonical({"pixels": plain, "header": {"declared": found.declared, "blocked": found.blocked}})


def read_evidence(text: str, exptime: float, calibrated: str, sun_altitude: float | None) -> tuple[PixelStatistics, HeaderEvidence]:
    """The inverse, with what stands in other tables."""
    content = json.loads(text)
    header = HeaderEvidence(exptime, content["header"]["declared"], content["header"]["blocked"], tuple(calibrated.split()), sun_altitude)
    return PixelStatistics.from_dict(content["pixels"]), header
