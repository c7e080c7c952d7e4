"""What a frame's pixels and header say about its type, as kept in `frame_statistics`."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np

from reduction.headers import Facts
from reduction.kernels.sort import FrameStatistics as PixelStatistics
from reduction.kernels.sort import HeaderEvidence
from reduction.step import canonical

__all__ = ["evidence_text", "read_evidence"]


def evidence_text(pixels: PixelStatistics, found: Facts) -> str:
    """JSON of the evidence; what is not finite becomes null."""
    values = {name: value for name, value in dataclasses.asdict(pixels).items() if name != "peaks"}
    plain = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}
    header = {"declared": found.declared, "blocked": found.blocked}
    return canonical({"pixels": plain, "peaks": pixels.peaks.round().astype(int).tolist(), "header": header})


def read_evidence(text: str, exptime: float, calibrated: str, sun_altitude: float | None) -> tuple[PixelStatistics, HeaderEvidence]:
    """The inverse, with what stands in other tables."""
    content = json.loads(text)
    pixels = {name: float("nan") if value is None else value for name, value in content["pixels"].items()}
    peaks = np.array(content["peaks"], dtype=float).reshape(-1, 2)
    header = content["header"]
    return PixelStatistics(peaks=peaks, **pixels), HeaderEvidence(
        exptime, header["declared"], header["blocked"], tuple(calibrated.split()), sun_altitude
    )
