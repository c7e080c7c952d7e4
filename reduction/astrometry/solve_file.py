"""Solving one file by itself, without an archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sep
from astropy.io import fits

from db.errors import AlgorithmFailed, ConfigurationError, FrameUnusable
from db.flags import Mask
from reduction.astrometry.blind import DEFAULT_INDEX_DIR
from reduction.astrometry.kernels.detection import Detections, extract
from reduction.astrometry.kernels.fits_wcs import fits_wcs
from reduction.astrometry.kernels.plate import PlateFit
from reduction.astrometry.kernels.plate import solve as solve_plate
from reduction.astrometry.kernels.wcs import apply_proper_motion, unit_vectors
from reduction.astrometry.search import Search, StarImages, blindly, from_header
from reduction.astrometry.sources import julian_year
from reduction.calibration.kernels.calibration import saturated_mask
from reduction.catalogues.columns import EPOCH, recognise, stars_of
from reduction.catalogues.kernels.colours import fit_magnitude
from reduction.catalogues.tables import read_table
from reduction.files.convert import read_raw
from reduction.frames.kernels.bayer import Channel, channels_of
from reduction.headers.definition import InstrumentDefinition
from reduction.headers.facts import Place, facts, place
from reduction.headers.instrument import identify
from reduction.kernels.arrays import FloatArray

__all__ = ["FileSolution", "Hints", "StarList", "solve_file", "stars_from", "write_solved"]


@dataclass(frozen=True)
class StarList:
    """Catalogue stars as arrays of one length: ra, dec (deg) at `epoch` (Julian year), proper motions (mas/yr), and mag."""

    ra: FloatArray
    dec: FloatArray
    pmra: FloatArray
    pmdec: FloatArray
    mag: FloatArray
    epoch: float = EPOCH

    def at(self, epoch: float) -> StarList:
        """The same where they stand in another year."""
        ra, dec = apply_proper_motion(self.ra, self.dec, self.pmra, self.pmdec, self.epoch, epoch)
        return StarList(ra, dec, self.pmra, self.pmdec, self.mag, epoch)

    def around(self, ra: float, dec: float, radius: float) -> StarList:
        """Those within `radius` degrees of a position."""
        near = unit_vectors(self.ra, self.dec) @ unit_vectors(ra, dec) > np.cos(np.radians(radius))
        return StarList(self.ra[near], self.dec[near], self.pmra[near], self.pmdec[near], self.mag[near], self.epoch)


@dataclass(frozen=True)
class Hints:
    """What a person knows of a frame, over what its header says: position (deg) and pixel scale (arcsec); None: not known."""

    ra: float | None = None
    dec: float | None = None
    scale: float | None = None
    index_folder: Path = DEFAULT_INDEX_DIR
    use_header: bool = True


@dataclass(frozen=True)
class FileSolution:
    """A file's channel with its detections, catalogue stars near it, and its solution."""

    channel: Channel
    data: npt.NDArray[np.float32]
    found: Detections
    stars: StarList
    fit: PlateFit


def stars_from(paths: Sequence[Path]) -> StarList:
    """Stars of catalogue files, with their magnitudes as fits use them.

    Raises
    ------
    ConfigurationError
        A file is no catalogue.
    """
    parts = [np.zeros((5, 0))]
    for path in paths:
        table = read_table(path)
        stars = stars_of(table, recognise(table.colnames, {}, str(path)), 2000.0, str(path))
        magnitudes = stars.magnitudes()
        mag = fit_magnitude(magnitudes) if magnitudes else np.full(len(stars), np.nan)
        parts.append(np.array([stars.ra, stars.dec, stars.pmra, stars.pmdec, mag]))
    return StarList(*np.concatenate(parts, axis=1))


def solve_file(
    path: Path, stars: StarList, definitions: Sequence[InstrumentDefinition], hints: Hints, *, order: int = 5, threshold: float = 5.0
) -> FileSolution:
    """Extract the stars of a raw or calibrated file and find its plate solution.

    Parameters
    ----------
    path : Path
        Any file that a reduction would read.
    stars : StarList
        Catalogue; may be much larger than the frame.
    definitions : sequence of InstrumentDefinition
        What headers mean.
    hints : Hints
        What is known besides; blind solving is for frames of which neither these nor the header say where they are.
    order : int
        Highest degree of the distortion.
    threshold : float
        Detection threshold (sigma).

    Returns
    -------
    FileSolution
        Of a Bayer mosaic, of its channel G1.

    Raises
    ------
    FrameUnusable, AlgorithmFailed
        The file cannot be read, has too few stars, or no solution is confirmed by them.
    """
    raw = read_raw(path)
    definition = identify(raw.header, definitions)
    known = place(raw.header, definition, raw.data.shape)
    ny, nx = raw.data.shape
    channels = channels_of(known.bayer, known.trim or (0, nx, 0, ny))
    channel = next((one for one in channels if one.name == "G1"), channels[0])
    data = np.ascontiguousarray(channel.cut(raw.data), dtype=np.float32)
    found = _extract(data, known.saturation, threshold)
    search = _search(raw.header if hints.use_header else {}, known, channel, StarImages(found.x, found.y, found.flux), hints)
    if search.centre is None:
        raise AlgorithmFailed(
            f"no position on the sky to start from: {search.reason}",
            where=str(path),
            hint="give --ra, --dec and --scale, or a folder with index files",
            code="solve.no_start",
        )
    near = stars.at(_epoch(raw.header, definition, raw.data.shape)).around(*search.centre, search.radius)
    if len(near.ra) == 0:
        raise AlgorithmFailed(
            f"no catalogue star within {search.radius:.2f} deg of {search.centre[0]:.4f} {search.centre[1]:+.4f}",
            where=str(path),
            hint="give a catalogue of that part of the sky with --catalogue",
            code="solve.no_catalogue",
        )
    try:
        fit = solve_plate(found.x, found.y, found.flux, near.ra, near.dec, near.mag, data.shape, start=search.starts, order=order)
    except (AlgorithmFailed, FrameUnusable) as error:
        raise type(error)(error.message, where=str(path), hint=error.hint, code=error.code) from error
    return FileSolution(channel, data, found, near, fit)


def _epoch(header: Mapping[str, Any], definition: InstrumentDefinition, shape: tuple[int, ...]) -> float:
    """Julian year of the exposure; that of the catalogue where the header does not tell the time."""
    try:
        found = facts(header, definition, (shape[0], shape[1]))
    except FrameUnusable:
        return EPOCH
    return julian_year(found.mid_jd1 + found.mid_jd2)


def _extract(data: npt.NDArray[np.float32], saturation: float | None, threshold: float) -> Detections:
    """Stars of pixels as they are: all that is known of their noise is what the sky shows."""
    mask = np.where(np.isfinite(data), 0, int(Mask.NO_DATA)).astype(np.uint8)
    mask[saturated_mask(data, saturation)] |= np.uint8(int(Mask.SATURATED))
    sky = sep.Background(np.nan_to_num(data), mask=mask != 0, bw=64, bh=64)
    variance = np.full(data.shape, max(float(sky.globalrms), 1e-6) ** 2, dtype=np.float32)
    return extract(data, variance, mask, threshold=threshold)


def _search(header: Mapping[str, Any], known: Place, channel: Channel, stars: StarImages, hints: Hints) -> Search:
    """From what the person says, else from the header, else blind."""
    scale = hints.scale if hints.scale is not None else known.pixel_scale if hints.use_header else None
    scale = None if scale is None else scale * channel.step
    pointing = (hints.ra, hints.dec) if hints.ra is not None else (known.ra, known.dec) if hints.use_header else (None, None)
    search = from_header({} if hints.ra is not None else header, channel, pointing, scale, scale_tolerance=0.05, pointing_tolerance=0.4)
    return search or blindly(stars, channel, scale, hints.index_folder)


def write_solved(found: FileSolution, path: Path) -> None:
    """Write the pixels of a solved file as FITS with the solution in its header (TAN-SIP)."""
    header = fits.Header(list(fits_wcs(found.fit.solution)[0].items()))
    try:
        fits.PrimaryHDU(found.data, header).writeto(path)
    except OSError as error:
        raise ConfigurationError(error.strerror or str(error), where=str(path), hint="name another file", code="file.write") from error
