"""Where the sky shows between the sources of a frame, and the map that was made of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from db.errors import FrameUnusable
from db.flags import Flag, Mask
from db.tables import Exposure, Frame
from reduction.astrometry.detections import detections_of, fwhm_of
from reduction.astrometry.solutions import plate_solution
from reduction.astrometry.sources import julian_year, sources_near
from reduction.files.product import read_image
from reduction.kernels.arrays import BoolArray, Float32Array, FloatArray
from reduction.photometry.kernels.annulus import annulus_background, significance
from reduction.photometry.kernels.background import BackgroundMap, background
from reduction.photometry.kernels.covering import Catalogued, Detected, Lights, lights
from reduction.photometry.kernels.object_mask import object_mask, trail_tails
from reduction.pipeline.declaration import Context, parameter
from reduction.pipeline.unchanged import product_file

__all__ = ["BackgroundParameters", "LocalSky", "Sky", "covered", "measured_sky", "read_local", "read_map"]

# A detection that no catalogue knows hides the sky if its light is so many times the error; on coarse integers most are noise.
_REAL = 4.0
# Radius in which that light is summed, and of the ring that its sky is from, FWHM.
_CORE, _RING = 0.7, (2.0, 6.0)


@dataclass(frozen=True)
class BackgroundParameters:
    """How the sky is measured."""

    box: int = parameter(32, "pixel", "side of the boxes in which the clipped mean is taken", least=4, most=4096)
    smooth: float = parameter(
        48.0,
        "pixel",
        "largest standard deviation of the Gaussian that smooths the boxes; less where that predicts them better",
        least=1,
        most=10_000,
    )
    clip: float = parameter(3.0, "sigma", "clipping distance, symmetric about the mean", least=1, most=100)
    wing: float = parameter(
        0.1, "sigma", "a source is masked out to where its wing falls below this part of the sky noise", above=0, most=10
    )
    min_radius: float = parameter(2.0, "FWHM", "least radius masked around a source", least=0, most=100)
    max_radius: float = parameter(12.0, "FWHM", "largest radius masked around a source", least=0, most=100)
    wing_light: float = parameter(
        0.02,
        "sigma",
        "wings beyond the masks are measured and taken off, to where they fall below this part; 0: not at all",
        least=0,
        most=10,
    )
    ring_inner: float = parameter(4.0, "FWHM", "inner radius of the ring about each source", least=0, most=1000)
    ring_outer: float = parameter(
        0.0, "FWHM", "outer radius of a ring about each source in which its sky is measured; 0: the map serves all", least=0, most=1000
    )

    def check(self) -> tuple[str, str] | None:
        """The least radius is no larger than the largest, and a ring has an inside."""
        if self.min_radius > self.max_radius:
            return f"min_radius = {self.min_radius:g} is more than max_radius = {self.max_radius:g}", "lower the one or raise the other"
        if 0 < self.ring_outer <= self.ring_inner:
            return f"ring_outer = {self.ring_outer:g} is not more than ring_inner = {self.ring_inner:g}", "raise it, or give 0 for no rings"
        return None


@dataclass(frozen=True)
class Sky:
    """The sky of one frame.

    Attributes
    ----------
    map : BackgroundMap
        Its level.
    excluded : bool, shape (ny, nx)
        Pixels that are not sky.
    fwhm : float
        Width of its stars, pixel.
    n_hiding : int
        Stars that hide some of it.
    quantum : float
        Step of the raw data, ADU.
    """

    map: BackgroundMap
    excluded: BoolArray
    fwhm: float
    n_hiding: int
    quantum: float


@dataclass(frozen=True)
class LocalSky:
    """Rings about sources in place of the map: radii (pixel), pixels that are not sky, and step of the raw data (ADU)."""

    inner: float
    outer: float
    excluded: BoolArray
    quantum: float

    def at(self, data: Float32Array, sky: BackgroundMap, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Sky and its error (ADU) at positions on an image that still has it; the map's where a ring has fewer than 12 sky pixels."""
        value, error = sky.at(x, y)
        residual = data - sky.image((data.shape[0], data.shape[1]))
        rings = annulus_background(residual, self.excluded, x, y, inner=self.inner, outer=self.outer, quantum=self.quantum)
        seen = np.isfinite(rings.value)
        return np.where(seen, value + rings.value, value), np.where(seen, rings.error, error)


def _lights(context: Context, frame: Frame, fwhm: float) -> Lights:
    """Detections, and catalogued stars on the frame and about it."""
    session = context.session
    found = detections_of(session, frame.night_id, frame.frame_id)
    x, y, flux, flux_err, peak = (np.asarray(found[name], np.float64) for name in ("x", "y", "flux", "flux_err", "peak"))
    detected = Detected(x, y, flux, flux_err, peak, (found["flags"].astype(np.int64) & int(Flag.SATURATED)) > 0)
    plate = plate_solution(session, frame.frame_id)
    near = sources_near(session, *plate.centre, 1.1 * plate.radius, julian_year(frame.jd_utc))
    return lights(detected, Catalogued(*plate.project(near.ra, near.dec), near.mag), fwhm)


def _noise_among_stars(planes: dict[str, npt.NDArray[Any]], where: str) -> float:
    """Typical noise of a pixel, by the variance plane; a sample will do."""
    variance = planes["VAR"][planes["MASK"] == 0]
    if not variance.size:
        raise FrameUnusable("every pixel is masked", where=where, hint="saturated or without data", code="frame.no_sky")
    return float(np.sqrt(np.median(variance[:: max(variance.size // 2**18, 1)])))


def _real(stars: Lights, data: Float32Array, excluded: BoolArray, fwhm: float, quantum: float) -> BoolArray:
    """Which stars are no noise: those that the catalogue has, saturated ones, and those that stand out of the sky about them."""
    real = np.ones(len(stars.x), np.bool_)
    doubtful = np.nonzero(~stars.known & ~stars.saturated)[0]
    x, y = stars.x[doubtful], stars.y[doubtful]
    rings = annulus_background(data, excluded, x, y, inner=_RING[0] * fwhm, outer=_RING[1] * fwhm, quantum=quantum)
    real[doubtful[significance(data, x, y, rings, _CORE * fwhm) < _REAL]] = False
    return real


def _spilled(planes: dict[str, npt.NDArray[Any]], noise: float, radius: float) -> BoolArray:
    """Pixels about saturated ones and along the trails that leave them."""
    spilled = (planes["MASK"] & int(Mask.SATURATED | Mask.BLEED)) > 0
    y, x = np.nonzero(spilled)
    return trail_tails(planes["SCI"], spilled, noise) | object_mask(spilled.shape, x, y, radius)


def covered(context: Context, frame: Frame, planes: dict[str, npt.NDArray[Any]], p: BackgroundParameters) -> BoolArray:
    """Pixels that may hold the light of any source, however faint the catalogue says it is, or spilled charge."""
    fwhm = fwhm_of(context.session, frame.frame_id) or 3.0
    noise = _noise_among_stars(planes, f"frame {frame.frame_id}")
    stars = _lights(context, frame, fwhm)
    radius = np.maximum(stars.radius(noise, fwhm, p.wing, p.min_radius, p.max_radius), p.min_radius * fwhm)
    return object_mask(planes["SCI"].shape, stars.x, stars.y, radius) | _spilled(planes, noise, p.min_radius * fwhm)


def measured_sky(context: Context, frame: Frame, planes: dict[str, npt.NDArray[Any]], p: BackgroundParameters) -> Sky:
    """Measure the sky between detected and catalogued sources, charge trails and bad pixels."""
    data = planes["SCI"]
    fwhm = fwhm_of(context.session, frame.frame_id) or 3.0
    noise = _noise_among_stars(planes, f"frame {frame.frame_id}")
    quantum = context.session.get_one(Exposure, frame.exposure_id).quantum
    stars = _lights(context, frame, fwhm)
    bad = (planes["MASK"] != 0) | _spilled(planes, noise, p.min_radius * fwhm)
    radius = stars.radius(noise, fwhm, p.wing, p.min_radius, p.max_radius)
    excluded = bad | object_mask(data.shape, stars.x, stars.y, radius)
    real = _real(stars, data, excluded, fwhm, quantum)
    if not real.all():
        # Masks on peaks of the noise make the rest too low.
        radius = np.where(real, radius, -1.0)
        stars = replace(stars, flux=np.where(real, stars.flux, 0.0))
        excluded = bad | object_mask(data.shape, stars.x, stars.y, radius)
    wings = stars.wings(noise, fwhm, p.wing_light) if p.wing_light > 0 else None
    sky = background(data, planes["VAR"], excluded, box=p.box, smooth=p.smooth, clip=p.clip, quantum=quantum, stars=wings, fwhm=fwhm)
    return Sky(sky, excluded, fwhm, int(np.count_nonzero(radius > 0)), quantum)


def read_map(context: Context, path: str) -> BackgroundMap:
    """The background of a file written by this step, as fluxes are measured against it: the sky and the wings of stars on it."""
    planes, header = read_image(product_file(context, path))
    sky = (planes["SKY"], planes["ERR"], int(header["BOX"]), int(header["NSKY"]))
    return BackgroundMap(*sky, planes.get("WINGS"), planes.get("DOUBT")).seen()


def read_local(context: Context, path: str) -> LocalSky | None:
    """The rings of a file written by this step; None where the map serves all sources."""
    planes, header = read_image(product_file(context, path))
    if "HIDDEN" not in planes:
        return None
    return LocalSky(float(header["RINGIN"]), float(header["RINGOUT"]), planes["HIDDEN"] != 0, float(header["QUANTUM"]))
