"""Where the sky shows between the sources of a frame, and the map that was made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from db.errors import FrameUnusable
from db.flags import Mask
from db.tables import Frame
from reduction.astrometry.detections import detections_of, fwhm_of
from reduction.astrometry.solutions import plate_solution
from reduction.astrometry.sources import julian_year, sources_near
from reduction.files.product import read_image
from reduction.photometry.kernels.background import BackgroundMap, object_mask
from reduction.pipeline.declaration import Context, parameter

__all__ = ["BackgroundParameters", "covered", "read_map", "source_radius"]


@dataclass(frozen=True)
class BackgroundParameters:
    """How the sky is measured."""

    box: int = parameter(32, "pixel", "side of the boxes in which the clipped mean is taken", least=4, most=4096)
    smooth: float = parameter(48.0, "pixel", "standard deviation of the Gaussian that smooths the boxes", least=1, most=10_000)
    clip: float = parameter(3.0, "sigma", "clipping distance, symmetric about the mean", least=1, most=100)
    wing: float = parameter(
        0.1, "sigma", "a source is masked out to where its wing falls below this part of the sky noise", above=0, most=10
    )
    min_radius: float = parameter(2.0, "FWHM", "least radius masked around a source", least=0, most=100)
    max_radius: float = parameter(12.0, "FWHM", "largest radius masked around a source", least=0, most=100)

    def check(self) -> tuple[str, str] | None:
        """The least radius is no larger than the largest."""
        if self.min_radius <= self.max_radius:
            return None
        return f"min_radius = {self.min_radius:g} is more than max_radius = {self.max_radius:g}", "lower the one or raise the other"


def source_radius(peak: npt.NDArray[np.float64], noise: float, fwhm: float, p: BackgroundParameters) -> npt.NDArray[np.float64]:
    """Radius (pixel) at which the wing of a source falls below `p.wing` of the sky noise.

    The wing is that of a Moffat profile with beta = 2.5 (Moffat 1969, A&A 3,
    455), whose core radius is 0.885 FWHM: stars on real frames have such
    wings, and a Gaussian's radius leaves them in the sky.
    """
    ratio = np.maximum(np.nan_to_num(peak, nan=0.0), 0.0) / (p.wing * noise)
    return fwhm * np.clip(0.885 * np.sqrt(np.maximum(ratio ** (1 / 2.5) - 1, 0.0)), p.min_radius, p.max_radius)


def covered(context: Context, frame: Frame, planes: dict[str, npt.NDArray[Any]], p: BackgroundParameters) -> npt.NDArray[np.bool_]:
    """Pixels under detected and catalogued sources, and around saturated ones."""
    session = context.session
    fwhm = fwhm_of(session, frame.frame_id) or 3.0
    stars = detections_of(session, frame.night_id, frame.frame_id)
    good = planes["MASK"] == 0
    if not good.any():
        raise FrameUnusable("every pixel is masked", where=f"frame {frame.frame_id}", hint="saturated or without data", code="frame.no_sky")
    noise = float(np.sqrt(np.median(planes["VAR"][good])))
    plate = plate_solution(session, frame.frame_id)
    near = sources_near(session, *plate.centre, 1.1 * plate.radius, julian_year(frame.jd_utc))
    x, y = plate.project(near.ra, near.dec)
    radius = source_radius(stars["peak"].astype(float), noise, fwhm, p)
    covered = object_mask(planes["SCI"].shape, stars["x"], stars["y"], radius)
    covered |= object_mask(planes["SCI"].shape, x, y, p.min_radius * fwhm)
    spilled_y, spilled_x = np.nonzero(planes["MASK"] & int(Mask.SATURATED | Mask.BLEED))
    return covered | object_mask(planes["SCI"].shape, spilled_x, spilled_y, p.min_radius * fwhm)


def read_map(context: Context, path: str) -> BackgroundMap:
    """The background map of a file written by this step."""
    planes, header = read_image(context.files / path)
    return BackgroundMap(planes["SKY"], planes["ERR"], int(header["BOX"]), int(header["NSKY"]))
