"""What fluxes are measured on: a frame's pixels less their background, the sources whose light is on it, and their profile."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.flags import Flag, Mask
from db.tables import Detector, Frame, FrameBackground, PhotometrySlot, Product
from reduction.astrometry.solutions import plate_solution
from reduction.astrometry.sources import SourceTable, julian_year, sources_near
from reduction.calibration.calibrated import calibrated_planes
from reduction.calibration.detectors import detector_of
from reduction.calibration.master_choice import Chosen, master_plane
from reduction.kernels.arrays import BoolArray, Float32Array, FloatArray, IntArray
from reduction.photometry.background_map import LocalSky, read_local, read_map
from reduction.photometry.kernels.aperture import aperture_photometry
from reduction.photometry.kernels.background import BackgroundMap
from reduction.photometry.kernels.dark_variance import dark_variance
from reduction.photometry.kernels.psf_flux import Pixels
from reduction.photometry.kernels.psf_map import Traits
from reduction.pipeline.declaration import Context

__all__ = ["TRAITS", "PlacedSources", "StarLight", "apertures_of", "placed_sources", "star_light"]

ARCSEC = 3600.0  # in a degree
TRAIT_MAG = 12.0  # magnitude of a star of brightness 1

#: Pixels with these bits tell nothing of the light about them.
_SILENT = int(Mask.NO_DATA | Mask.HOT | Mask.DEAD)

#: What a profile may change with, by name of the map's term. Brightness is a flux, for the charge in a pixel is what widens a bright star;
#: of the catalogue, so that a star's noise is not in its own profile.
TRAITS: dict[str, Callable[[SourceTable], FloatArray]] = {
    "colour": lambda table: np.where(table.colour_measured, table.colour, np.nan),
    "brightness": lambda table: 10.0 ** (-0.4 * (table.mag - TRAIT_MAG)),
}


@dataclass(frozen=True)
class PlacedSources:
    """Sources of one frame, with their projected positions (pixel), in the order of source_id."""

    table: SourceTable
    x: FloatArray
    y: FloatArray

    def __len__(self) -> int:
        return len(self.x)

    def take(self, keep: BoolArray) -> PlacedSources:
        """Those for which `keep` is true."""
        table = SourceTable(*(getattr(self.table, name)[keep] for name in SourceTable.__dataclass_fields__))
        return PlacedSources(table, self.x[keep], self.y[keep])

    def traits(self, names: Collection[str] = tuple(TRAITS)) -> Traits:
        """What the profile may change with, NaN where it is not known."""
        return {name: np.asarray(TRAITS[name](self.table), dtype=np.float64) for name in names}

    def inside(self, frame: Frame, margin: float) -> BoolArray:
        """Which are at least `margin` pixels inside the frame's border."""
        in_x = (self.x >= margin - 0.5) & (self.x <= frame.nx - 0.5 - margin)
        return np.asarray(in_x & (self.y >= margin - 0.5) & (self.y <= frame.ny - 0.5 - margin))


@dataclass(frozen=True)
class StarLight:
    """The pixels of one frame.

    Attributes
    ----------
    planes : dict
        SCI (ADU, background included), VAR (ADU^2) and MASK, with what hot pixels add taken off where there was no dark.
    sky : BackgroundMap
        Its background.
    noise : float
        Standard deviation of a sky pixel (ADU), measured.
    gain : float
        Electron per ADU.
    local : LocalSky or None
        Rings about sources that stand in for the map at their positions, if asked for.
    """

    planes: dict[str, npt.NDArray[Any]]
    sky: BackgroundMap
    noise: float
    gain: float
    local: LocalSky | None = None

    def sky_at(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Sky and its error (ADU), common to all pixels of an aperture, at positions; of the map, or of rings about them."""
        return self.sky.at(x, y) if self.local is None else self.local.at(self.planes["SCI"], self.sky, x, y)

    def flags(self, x: FloatArray, y: FloatArray, near: float, largest: float) -> IntArray:
        """Bits of `db.flags.Flag` at positions: of masked pixels within `near`, and of the edge within `largest` (pixel)."""
        planes = (self.planes["SCI"], self.planes["VAR"], self.planes["MASK"])
        inner, outer = (aperture_photometry(*planes, x, y, [radius]).flags for radius in (near, largest))
        return np.asarray((inner & ~int(Flag.EDGE)) | (outer & int(Flag.EDGE)), dtype=np.int64)

    def pixels(self) -> Pixels:
        """What profiles are fitted to: pixels less the background, and their variance without stars.

        The measured noise of the sky sets the level of the variance, which so needs no zero level; how it varies over the
        frame is the calibration's.
        """
        image, variance, mask = self.planes["SCI"], self.planes["VAR"], self.planes["MASK"]
        sky = self.sky.image(image.shape)
        value = (image - sky).astype(np.float32)
        known = np.isfinite(value) & np.isfinite(variance)
        good = (mask == 0) & known
        speaking = known & ((mask & np.uint8(_SILENT)) == 0)
        dark = dark_variance(_plane(image), _plane(variance), sky, speaking, good, gain=self.gain, noise=self.noise)
        return Pixels(np.where(known, value, np.float32(0.0)), np.where(known, dark, np.float32(1.0)), self.gain, good)


def _plane(values: npt.NDArray[Any]) -> Float32Array:
    """In the one type that kernels are compiled for."""
    return np.require(values, np.float32, ["C", "W"])


def apertures_of(session: Session, instrument_id: int) -> tuple[IntArray, FloatArray]:
    """Numbers of an instrument's apertures and their radii (pixel), in rising order."""
    query = sa.select(PhotometrySlot.slot, PhotometrySlot.radius).where(
        PhotometrySlot.instrument_id == instrument_id, PhotometrySlot.kind == "aperture"
    )
    rows = session.execute(query.order_by(PhotometrySlot.slot)).all()
    return np.array([row.slot for row in rows], dtype=np.int64), np.array([row.radius for row in rows], dtype=np.float64)


def placed_sources(context: Context, frame: Frame, margin: float) -> PlacedSources:
    """Sources whose projected position is at least `margin` pixels inside the frame; outside by as much where it is negative."""
    session = context.session
    plate = plate_solution(session, frame.frame_id)
    beyond = max(-margin, 0.0) * plate.scale / ARCSEC
    near = sources_near(session, *plate.centre, 1.05 * plate.radius + beyond, julian_year(frame.jd_utc))
    x, y = plate.project(near.ra, near.dec)
    sources = PlacedSources(near, x, y)
    return sources.take(sources.inside(frame, margin))


def star_light(context: Context, frame: Frame, pattern: Chosen | None) -> StarLight:
    """Read a frame's calibrated pixels and its background; `pattern`, the master of what hot pixels add, if it has one."""
    session = context.session
    planes = calibrated_planes(context, frame.frame_id)
    correction = master_plane(context, pattern.path if pattern is not None else None)
    if correction is not None:
        planes["SCI"] = planes["SCI"] - correction.value
        planes["VAR"] = planes["VAR"] + correction.variance
        # A hot pixel on a frame without a dark looks like a cosmic ray; this one is known, and mended.
        planes["MASK"] = np.where(correction.value != 0, planes["MASK"] & np.uint8(255 - int(Mask.COSMIC)), planes["MASK"])
    planes["MASK"] = np.where(np.isfinite(planes["SCI"]), planes["MASK"], planes["MASK"] | np.uint8(Mask.NO_DATA))
    query = sa.select(Product.path, FrameBackground.noise).join(FrameBackground, FrameBackground.product_id == Product.product_id)
    path, noise = session.execute(query.where(FrameBackground.frame_id == frame.frame_id)).one()
    detector: Detector = detector_of(session, frame)
    return StarLight(planes, read_map(context, str(path)), float(noise), detector.gain, read_local(context, str(path)))
