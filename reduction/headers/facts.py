"""Facts of a frame from its header, by the definition of its instrument.

The header says many things in many ways; `facts` says each of them once, in
one unit, with None for what is unknown, a note for what is doubtful and a
line for what is missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from db.errors import FrameUnusable
from reduction.headers import camera_facts as camera
from reduction.headers.camera_facts import Section
from reduction.headers.exposure_times import ExposureTime, exposure_time
from reduction.headers.fact_list import FACTS
from reduction.headers.identity import identity_facts
from reduction.headers.instrument import InstrumentDefinition, identify, load_definitions
from reduction.headers.missing import missing_facts
from reduction.headers.reader import HeaderReader
from reduction.headers.values import text

__all__ = ["Facts", "facts", "identify", "InstrumentDefinition", "load_definitions", "Place", "place", "Section"]


@dataclass(frozen=True)
class Facts:
    """What the header of one frame says.

    Attributes
    ----------
    definition : str
        Name of the instrument definition used.
    instrument, telescope, object, filter : str or None
        Names; `instrument` is never None.
    imagetyp : str or None
        Type of the frame as the header has it, in lower case.
    declared : str or None
        What that means: bias, dark, flat, object or other.
    blocked : bool
        The filter lets no light through.
    exptime : float
        Exposure time in s.
    start_jd1, start_jd2, mid_jd1, mid_jd2 : float
        UTC start and middle of the exposure, two-part Julian dates.
    time_source : str
        Keyword and rule chosen.
    time_sigma : float
        Uncertainty of the time in s.
    site_name : str or None
    latitude, longitude, height : float or None
        Degrees, degrees east, metres; all None or none (an unknown height is 0).
    ra, dec : float or None
        Approximate pointing, degrees.
    pixel_scale : float or None
        Arcsec per stored (binned) pixel.
    binning : tuple of int
        (x, y).
    gain, read_noise, saturation, black_level : float or None
        Electron/ADU, electron, ADU, ADU; `saturation` is the white level.
    gain_setting, offset_setting : float or None
        Positions of the camera's gain and offset knobs; the first is the ISO speed for a photographic camera.
    read_mode : str or None
        Read-out mode.
    ccd_temperature, set_temperature : float or None
        Degrees Celsius: of the detector, and what its cooler was set to.
    lens, camera_serial : str or None
    aperture : float or None
        F-number.
    trim, overscan : tuple of int or None
        (x0, x1, y0, y1), 0-based, half-open.
    calibrated : tuple of str
        What was done before: some of bias, dark, flat.
    has_wcs : bool
        The header holds a celestial WCS.
    bayer : str or None
        Bayer pattern such as RGGB, at pixel (0, 0) of the array as stored; None for a monochrome sensor and a resolved mosaic.
    orientation : float or None
        Position angle, degrees.
    notes : tuple of str
        Doubts, each one sentence.
    missing : tuple of str
        Facts that nobody gives, each one line that says where they were looked for and what to do.
    sources : mapping of str to str
        Fact to the keyword, expression, ``[override]`` or ``[default]`` it came from.
    identity : mapping of str to object
        Facts that tell one camera from another of its name, as far as they are known.
    told_by : tuple of str
        Those of them that the definition names: the others are noted where they differ.
    """

    definition: str
    instrument: str
    telescope: str | None
    object: str | None
    filter: str | None
    imagetyp: str | None
    declared: str | None
    blocked: bool
    exptime: float
    start_jd1: float
    start_jd2: float
    mid_jd1: float
    mid_jd2: float
    time_source: str
    time_sigma: float
    site_name: str | None
    latitude: float | None
    longitude: float | None
    height: float | None
    ra: float | None
    dec: float | None
    pixel_scale: float | None
    binning: tuple[int, int]
    gain: float | None
    read_noise: float | None
    saturation: float | None
    black_level: float | None
    gain_setting: float | None
    offset_setting: float | None
    read_mode: str | None
    ccd_temperature: float | None
    set_temperature: float | None
    lens: str | None
    aperture: float | None
    camera_serial: str | None
    trim: Section | None
    overscan: Section | None
    calibrated: tuple[str, ...]
    has_wcs: bool
    bayer: str | None
    orientation: float | None
    notes: tuple[str, ...]
    missing: tuple[str, ...]
    sources: Mapping[str, str]
    identity: Mapping[str, Any]
    told_by: tuple[str, ...]


#: Light of a shorter exposure (s) is no measurement.
_SHORTEST = 1e-9
#: Damaged cards that a note names.
_MOST_NAMED = 8
#: Longest text that is kept of a fact; a Bayer channel's letter is added to the filter.
_LONGEST = {
    **dict.fromkeys(("object", "telescope", "instrument", "lens", "camera_serial", "site_name"), 128),
    **dict.fromkeys(("imagetyp", "read_mode"), 64),
    "filter": 60,
}


def facts(
    header: Mapping[str, Any],
    definition: InstrumentDefinition,
    shape: tuple[int, int],
    path: str | Path = "",
    *,
    quantum: float = 1.0,
    left_out: int = 0,
    damaged: Sequence[str] = (),
) -> Facts:
    """Facts of a frame.

    Parameters
    ----------
    header : mapping
        FITS header, as from `reduction.files.fits.read_header`.
    definition : InstrumentDefinition
        As from `identify`.
    shape : tuple of int
        (ny, nx) of the image.
    path : path, optional
        File named in errors, whose name may hold the time.
    quantum : float
        Step between the stored values, ADU; 0 when they are continuous.
    left_out : int
        Further images of the file that were not read.
    damaged : sequence of str
        Keywords of cards that could not be read.

    Raises
    ------
    FrameUnusable
        No exposure time (``frame.no_exptime``), one that cannot be (``frame.bad_exptime``), or no
        time of exposure (``frame.no_time``).
    """
    reader = HeaderReader(header, definition, shape, quantum)
    if left_out:
        reader.notes.append(f"the file holds {left_out + 1} images, of which only the first is read: split it to use the others")
    if damaged:
        names = ", ".join(damaged[:_MOST_NAMED]) + (f" and {len(damaged) - _MOST_NAMED} more" if len(damaged) > _MOST_NAMED else "")
        reader.notes.append(f"damaged cards, of which only what is legible was read: {names}")
    exptime = _exptime(reader, str(path))
    time = exposure_time(header, definition, exptime, where=str(path))
    reader.notes.extend(time.notes)
    named = _names(reader)
    known = {
        "exptime": exptime,
        **named,
        **_when(time),
        **_where(reader),
        **_camera(reader),
        "blocked": _blocked(definition, named["filter"]),
        "calibrated": camera.calibrated(reader),
        "has_wcs": camera.has_wcs(header),
        "orientation": reader.number("orientation"),
        "told_by": definition.identity,
    }
    known["identity"] = identity_facts(reader, (known["latitude"], known["longitude"]))
    missing = missing_facts(known, definition)
    return Facts(definition=definition.name, notes=tuple(reader.notes), missing=missing, sources=reader.sources, **known)


@dataclass(frozen=True)
class Place:
    """Facts that a plate solution starts from; None where the header does not say."""

    ra: float | None
    dec: float | None
    pixel_scale: float | None
    saturation: float | None
    bayer: str | None
    trim: Section | None


def place(header: Mapping[str, Any], definition: InstrumentDefinition, shape: tuple[int, int]) -> Place:
    """Pointing (deg), pixel scale (arcsec) and what the pixels are, of a file of which no more is asked: not even a time.

    Parameters
    ----------
    header, definition, shape
        As for `facts`.
    """
    reader = HeaderReader(header, definition, shape)
    ra, dec = _pointing(reader)
    bayer, _ = camera.bayer_and_filter(reader)
    trim, _ = camera.sections(reader)
    return Place(ra, dec, camera.pixel_scale(reader, camera.binning(reader)[0]), reader.number("saturation"), bayer, trim)


def _exptime(reader: HeaderReader, where: str) -> float:
    value = reader.number("exptime", allowed=math.isfinite)
    if value is None:
        tried = ", ".join(reader.definition.keywords.get("exptime", ()))
        raise FrameUnusable(
            f"no exposure time in the header (looked for {tried})",
            where=where,
            hint="name its keyword under [instrument.keywords] or give exptime under [default] in --config",
            code="frame.no_exptime",
        )
    if not FACTS["exptime"].allows(value) or 0 < value < _SHORTEST:
        raise FrameUnusable(
            f"exposure time {value:g} s, allowed {FACTS['exptime'].range}",
            where=where,
            hint="correct the header, or set exptime under [override] in --config",
            code="frame.bad_exptime",
        )
    return value


def _names(reader: HeaderReader) -> dict[str, Any]:
    imagetyp = reader.text("imagetyp")
    bayer, passband = camera.bayer_and_filter(reader)
    names = {
        "instrument": _label(reader),
        "imagetyp": imagetyp.lower() if imagetyp else None,
        "declared": _declared(reader.definition, imagetyp),
        "bayer": bayer,
        "filter": passband,
        **{fact: reader.text(fact) for fact in ("telescope", "object", "lens", "camera_serial", "read_mode", "site_name")},
    }
    for fact, longest in _LONGEST.items():
        name = names[fact]
        if name is not None and len(name) > longest:
            reader.notes.append(f"{fact} = {name} is cut to {longest} characters")
            names[fact] = name[:longest].rstrip()
    return names


def _label(reader: HeaderReader) -> str:
    label = re.sub(r"\{([^}]+)\}", lambda match: text(reader.header.get(match.group(1))) or "", reader.definition.label)
    return " ".join(label.split()) or reader.definition.name


def _declared(definition: InstrumentDefinition, imagetyp: str | None) -> str | None:
    if imagetyp is None:
        return None
    return next((kind for pattern, kind in definition.image_types.items() if fnmatchcase(imagetyp.lower(), pattern.lower())), None)


def _blocked(definition: InstrumentDefinition, passband: str | None) -> bool:
    return passband is not None and any(fnmatchcase(passband.upper(), pattern.upper()) for pattern in definition.blocked)


def _when(time: ExposureTime) -> dict[str, Any]:
    return {
        "start_jd1": time.start_jd1,
        "start_jd2": time.start_jd2,
        "mid_jd1": time.mid_jd1,
        "mid_jd2": time.mid_jd2,
        "time_source": time.source,
        "time_sigma": time.sigma,
    }


def _camera(reader: HeaderReader) -> dict[str, Any]:
    binning = camera.binning(reader)
    trim, overscan = camera.sections(reader)
    # The order counts: what GAIN means depends on where the gain was found.
    electrons = camera.gain(reader)
    numbers = ("read_noise", "saturation", "black_level", "offset_setting", "aperture")
    return {
        "binning": binning,
        "pixel_scale": camera.pixel_scale(reader, binning[0]),
        "gain": electrons,
        "gain_setting": camera.gain_setting(reader),
        **{fact: reader.number(fact) for fact in numbers},
        **{fact: _rounded(reader.number(fact)) for fact in ("ccd_temperature", "set_temperature")},
        "trim": trim,
        "overscan": overscan,
    }


def _rounded(celsius: float | None) -> float | None:
    # 253.15 K is -20 degrees, not -19.999999999999972.
    return None if celsius is None else round(celsius, 6)


def _where(reader: HeaderReader) -> dict[str, Any]:
    latitude, longitude, height = _site(reader)
    ra, dec = _pointing(reader)
    return {"latitude": latitude, "longitude": longitude, "height": height, "ra": ra, "dec": dec}


def _site(reader: HeaderReader) -> tuple[float | None, float | None, float | None]:
    latitude, longitude = reader.number("latitude"), reader.number("longitude")
    zero = latitude == 0.0 and longitude == 0.0
    if latitude is None or longitude is None or zero:
        if zero:
            reader.notes.append("latitude and longitude are both zero: taken as unknown")
        elif latitude is not None or longitude is not None:
            reader.notes.append("half a site: the header has only one of latitude and longitude")
        for fact in ("latitude", "longitude"):
            reader.sources.pop(fact, None)
        return None, None, None
    height = reader.number("height")
    east = longitude if abs(longitude) <= 180.0 else longitude - 360.0 if longitude > 0 else longitude + 360.0
    return latitude, east, height if height is not None else 0.0


def _pointing(reader: HeaderReader) -> tuple[float | None, float | None]:
    """First pair of keywords that holds a position; (0, 0) is what programs write that have no telescope."""
    right = [(c, value) for c in reader.candidates("ra") if (value := reader.size("ra", c)) is not None and abs(value) <= 360.0]
    declinations = [(c, value) for c in reader.candidates("dec") if (value := reader.size("dec", c)) is not None and abs(value) <= 90.0]
    zero = False
    for ra_from, ra in right:
        partners = [pair for pair in declinations if _place(reader, "dec", pair[0]) == _place(reader, "ra", ra_from)] or declinations[:1]
        for dec_from, dec in partners:
            if ra == 0.0 and dec == 0.0:
                zero = True
                continue
            reader.sources["ra"], reader.sources["dec"] = reader.source_of("ra", ra_from), reader.source_of("dec", dec_from)
            return ra % 360.0, dec
    if zero:
        reader.notes.append("RA and Dec are both zero: taken as unknown")
    return None, None


def _place(reader: HeaderReader, fact: str, candidate: Any) -> int | str:
    """Where in the definition's list a candidate's keyword stands: those of RA and Dec stand in pairs."""
    keywords = reader.definition.keywords.get(fact, ())
    return keywords.index(candidate.keyword) if candidate.keyword in keywords else str(candidate.source)
