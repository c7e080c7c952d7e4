"""Where on the sky a frame may lie: what its plate solution is started from, and the catalogue stars that are needed for it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.wcs import WCS, FITSFixedWarning, WcsError

from reduction.astrometry.blind import solve_blind
from reduction.astrometry.kernels.start import PixelToSky, Pointing, Start, solution_from_wcs
from reduction.astrometry.kernels.wcs import PlateSolution
from reduction.frames.kernels.bayer import Channel
from reduction.kernels.arrays import FloatArray

__all__ = ["Search", "StarImages", "around", "blindly", "from_header"]


#: The catalogue is searched to this many times the radius of a solution that is to be confirmed.
_MARGIN = 1.6


@dataclass(frozen=True)
class StarImages:
    """Detections: x, y (pixel) and flux, arrays of one length."""

    x: FloatArray
    y: FloatArray
    flux: FloatArray

    @property
    def columns(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """x, y, flux."""
        return self.x, self.y, self.flux


@dataclass(frozen=True)
class Search:
    """Starts in the order to try; centre and radius (deg) of the sky to search; why there is none."""

    starts: list[Start | tuple[str, Start]]
    centre: tuple[float, float] | None
    radius: float
    reason: str = ""
    blind: bool = False


def around(name: str, start: PlateSolution) -> Search:
    """A search that starts from a solution of another frame, or of this one by other means."""
    return Search([(name, start)], start.centre, _MARGIN * start.radius)


def from_header(
    header: Mapping[str, Any],
    channel: Channel,
    pointing: tuple[float | None, float | None],
    scale: float | None,
    *,
    scale_tolerance: float,
    pointing_tolerance: float,
) -> Search | None:
    """A search from the header's WCS, then from its pointing with the pixel scale; None where there is neither.

    Parameters
    ----------
    header : mapping
        FITS header of the raw file.
    channel : Channel
        Which of its pixels the frame has.
    pointing : (float or None, float or None)
        RA, Dec (deg).
    scale : float or None
        Arcsec per pixel of the frame.
    scale_tolerance, pointing_tolerance : float
        Largest relative error of the scale, and of the pointing as a fraction of the frame's diagonal.
    """
    size = (channel.nx, channel.ny)
    search = None
    wcs = _header_wcs(header, channel)
    if wcs is not None:
        rough = solution_from_wcs(wcs, size)
        search = Search([wcs], rough.centre, _MARGIN * rough.radius)
    ra, dec = pointing
    if ra is None or dec is None or scale is None:
        return search
    start = Pointing(ra, dec, scale, scale_tolerance, pointing_tolerance)
    reach = 1.1 * (1.0 + 2.0 * pointing_tolerance) * float(np.hypot(*size)) / 2 * scale / 3600
    if search is None:
        return Search([start], (ra, dec), reach)
    return Search([*search.starts, start], search.centre, max(search.radius, reach))


def blindly(stars: StarImages, channel: Channel, scale: float | None, index_folder: Path, time_limit: float = 60.0) -> Search:
    """A search from what a blind solution says; without one, `reason` says why."""
    blind = solve_blind(*stars.columns, (channel.ny, channel.nx), index_folder, scale=scale, time_limit=time_limit)
    if blind.solution is None:
        return Search([], None, 0.0, f"blind: {blind.reason}")
    return replace(around("blind", blind.solution), blind=True)


def _header_wcs(header: Mapping[str, Any], channel: Channel) -> PixelToSky | None:
    """The celestial WCS of a raw header as a function of the channel's pixels, or None."""
    if "CTYPE1" not in header or "CRVAL1" not in header:
        return None
    x0, y0, step = channel.x0, channel.y0, channel.step

    def to_sky(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        sky = wcs.pixel_to_world(x0 + step * x, y0 + step * y).icrs
        return sky.ra.deg, sky.dec.deg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        try:
            # not WCS(header, naxis=2), which refuses units that it would else have mended, such as "degrees"
            wcs = WCS(_with_units(header)).celestial
            if not wcs.has_celestial:
                return None
            centre = to_sky(np.array([(channel.nx - 1) / 2]), np.array([(channel.ny - 1) / 2]))
        except (WcsError, ValueError, KeyError, AssertionError):  # the last: tables of distortions that are not in this header
            return None
    return to_sky if np.all(np.isfinite(centre)) else None


def _with_units(header: Mapping[str, Any]) -> Mapping[str, Any]:
    """The header with the standard's unit of celestial axes where it writes another word for it."""
    words = {key: header[key] for key in ("CUNIT1", "CUNIT2") if str(header.get(key, "")).strip().lower().startswith("deg")}
    if not words:
        return header
    mended = copy(header)
    for key in words:
        mended[key] = "deg"  # type: ignore[index]
    return mended
