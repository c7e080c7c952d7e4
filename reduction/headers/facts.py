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
from functools import partial
from pathlib import Path
from time import time as clock
from typing import Any

import erfa

from db.errors import FrameUnusable
from reduction.headers import camera_facts as camera
from reduction.headers.camera_facts import Section
from reduction.headers.exposure_times import ExposureTime, exposure_time
from reduction.headers.fact_list import FACTS
from reduction.headers.filters import BEHIND
from reduction.headers.identity import identity_facts
from reduction.headers.instrument import InstrumentDefinition, identify, load_definitions
from reduction.headers.local_clock import clock_longitude
from reduction.headers.missing import missing_facts, written_under
from reduction.headers.reader import Candidate, HeaderReader, quoted
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
    time_zeros : int
        Digits behind the second of the time, when all of them are zero; else 0.
    night_longitude : float or None
        Degrees east by which the night is told: the site's, else 15 for every hour that its clock is ahead of UTC.
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
    time_zeros: int
    night_longitude: float | None
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


_J2000_JD, _UNIX_JD = 2451544.5, 2440587.5  # 2000-01-01T00:00 and 1970-01-01T00:00
_FIRST_CCD = 2447892.5  # 1990-01-01T00:00
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
        reader.note(f"the file holds {left_out + 1} images, of which only the first is read: split it to use the others")
    if damaged:
        names = ", ".join(damaged[:_MOST_NAMED]) + (f" and {len(damaged) - _MOST_NAMED} more" if len(damaged) > _MOST_NAMED else "")
        reader.note(f"damaged cards, of which only what is legible was read: {names}")
    exptime = _exptime(reader, str(path))
    time = exposure_time(header, definition, exptime, where=str(path))
    for doubt in time.notes:
        reader.note(doubt)
    _unlikely_year(reader, time)
    named = _names(reader)
    place = _where(reader)
    known = {
        "exptime": exptime,
        **named,
        **_when(time),
        **place,
        "night_longitude": _night_longitude(reader, time, place["longitude"]),
        **_camera(reader),
        "blocked": _blocked(definition, named["filter"]),
        "calibrated": camera.calibrated(reader),
        "has_wcs": camera.has_wcs(header),
        "orientation": reader.number("orientation"),
        "told_by": definition.identity,
    }
    known["identity"] = identity_facts(reader, (known["latitude"], known["longitude"]))
    missing = missing_facts(known, definition, header)
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
    return Place(ra, dec, camera.pixel_scale(reader, camera.binning(reader)[0]), camera.in_adu(reader, camera.gain(reader)), bayer, trim)


def _exptime(reader: HeaderReader, where: str) -> float:
    value = reader.number("exptime", allowed=_is_exposure)
    if value is not None:
        return value
    keywords = reader.definition.keywords.get("exptime", ())
    there = written_under(reader.header, keywords)
    said = " and ".join(there)
    if _declared(reader.definition, reader.text("imagetyp")) == "bias":
        # A read-out without an exposure: cameras write -1, nothing or a blank for its time.
        reader.note(f"a bias whose exposure time is {f'not to be had from {said}' if there else 'not in the header'}: taken as 0 s")
        return 0.0
    if not there:
        raise FrameUnusable(
            f"no exposure time in the header (looked for {', '.join(keywords)})",
            where=where,
            hint="name its keyword under [instrument.keywords] or give exptime under [default] in --config",
            code="frame.no_exptime",
        )
    raise FrameUnusable(
        f"{said} is no exposure time, allowed {FACTS['exptime'].range}",
        where=where,
        hint="correct the header, or set exptime under [override] in --config",
        code="frame.bad_exptime",
    )


def _is_exposure(value: float) -> bool:
    return FACTS["exptime"].allows(value) and (value == 0.0 or value >= _SHORTEST)


def _names(reader: HeaderReader) -> dict[str, Any]:
    imagetyp = reader.text("imagetyp", same=partial(_same_type, reader.definition))
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
            reader.note(f"{fact} = {name} is cut to {longest} characters")
            names[fact] = name[:longest].rstrip()
    return names


def _same_type(definition: InstrumentDefinition, one: str, other: str) -> bool:
    """Whether two words for a type may be one; a word that means none, such as the number of a frame, contradicts nothing."""
    kinds = {_declared(definition, one), _declared(definition, other)}
    return len(kinds - {None}) <= 1


def _label(reader: HeaderReader) -> str:
    label = re.sub(r"\{([^}]+)\}", lambda match: text(reader.header.get(match.group(1))) or "", reader.definition.label)
    return " ".join(label.split()) or reader.definition.name


def _declared(definition: InstrumentDefinition, imagetyp: str | None) -> str | None:
    if imagetyp is None:
        return None
    return next((kind for pattern, kind in definition.image_types.items() if fnmatchcase(imagetyp.lower(), pattern.lower())), None)


def _blocked(definition: InstrumentDefinition, passband: str | None) -> bool:
    names = [] if passband is None else passband.upper().split(BEHIND)
    return any(fnmatchcase(name, pattern.upper()) for name in names for pattern in definition.blocked)


def _when(time: ExposureTime) -> dict[str, Any]:
    return {
        "start_jd1": time.start_jd1,
        "start_jd2": time.start_jd2,
        "mid_jd1": time.mid_jd1,
        "mid_jd2": time.mid_jd2,
        "time_source": time.source,
        "time_sigma": time.sigma,
        "time_zeros": time.zeros,
    }


def _unlikely_year(reader: HeaderReader, time: ExposureTime) -> None:
    """Note a date before CCDs were on telescopes, or that has not come yet: a clock that was never set writes such."""
    jd = time.start_jd1 + time.start_jd2
    if jd < _FIRST_CCD:
        reader.note(f"{time.source} is of the year {int(2000 + (jd - _J2000_JD) // 365.25)}, before 1990: check the camera's clock")
    elif jd > _UNIX_JD + clock() / 86400.0 + 1.0:
        reader.note(f"{time.source} is of the year {int(2000 + (jd - _J2000_JD) // 365.25)}, in the future: check the camera's clock")


def _night_longitude(reader: HeaderReader, time: ExposureTime, longitude: float | None) -> float | None:
    """Longitude that the night goes by. A clock on UTC, as "Z" behind the time or an offset of 0 say, tells of no place."""
    if longitude is not None:
        reader.sources["night_longitude"] = reader.sources["longitude"]
        return longitude
    jd = time.start_jd1 + time.start_jd2
    settings = (reader.definition.override.get("utc_offset"), time.zone, reader.definition.default.get("utc_offset"))
    offset = next((value for value in settings if value), None)
    by_clock = (15.0 * offset, f"UTC{offset:+g}, the offset of the clock") if offset else clock_longitude(reader.header, jd)
    if by_clock is None:
        return None
    reader.sources["night_longitude"] = by_clock[1]
    return by_clock[0]


def _camera(reader: HeaderReader) -> dict[str, Any]:
    binning = camera.binning(reader)
    trim, overscan = camera.sections(reader)
    # The order counts: what GAIN means depends on where the gain was found.
    electrons = camera.gain(reader)
    numbers = ("offset_setting", "aperture")
    return {
        "binning": binning,
        "pixel_scale": camera.pixel_scale(reader, binning[0]),
        "gain": electrons,
        "gain_setting": camera.gain_setting(reader),
        "read_noise": camera.in_electrons(reader, electrons),
        "saturation": camera.in_adu(reader, electrons),
        **{fact: reader.number(fact) for fact in numbers},
        "black_level": camera.black_level(reader, camera.calibrated(reader)),
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
            reader.note("latitude and longitude are both zero: taken as unknown")
        elif latitude is not None or longitude is not None:
            reader.note("half a site: the header has only one of latitude and longitude")
        for fact in ("latitude", "longitude"):
            reader.sources.pop(fact, None)
        return None, None, None
    height = reader.number("height")
    east = longitude if abs(longitude) <= 180.0 else longitude - 360.0 if longitude > 0 else longitude + 360.0
    return latitude, east, height if height is not None else 0.0


def _pointing(reader: HeaderReader) -> tuple[float | None, float | None]:
    """First pair of keywords that holds a position; (0, 0) is what programs write that have no telescope. Others far off are noted."""
    right, declinations = _angles(reader, "ra", 360.0), _angles(reader, "dec", 90.0)
    pairs = [
        (ra_from, ra, dec_from, dec)
        for ra_from, ra in right
        for dec_from, dec in [p for p in declinations if _place(reader, "dec", p[0]) == _place(reader, "ra", ra_from)] or declinations[:1]
    ]
    true = [pair for pair in pairs if pair[1] != 0.0 or pair[3] != 0.0]
    if not true:
        if pairs:
            reader.note("RA and Dec are both zero: taken as unknown")
        return None, None
    ra_from, ra, dec_from, dec = true[0]
    reader.sources["ra"], reader.sources["dec"] = reader.source_of("ra", ra_from), reader.source_of("dec", dec_from)
    for other_from, other_ra, _, other_dec in true[1:]:
        apart = _separation(ra, dec, other_ra, other_dec)
        # The reference point of a WCS may lie anywhere in the frame.
        stated = None not in (ra_from.keyword, other_from.keyword) and "CRVAL1" not in (ra_from.keyword, other_from.keyword)
        if stated and apart > (FACTS["ra"].agree or 0.0):
            reader.note(
                f"{other_from.source} = {quoted(other_from.value)} is {apart:.1f} deg from {ra_from.source} = {quoted(ra_from.value)}, "
                "which is used for the pointing"
            )
    return ra % 360.0, dec


def _angles(reader: HeaderReader, fact: str, most: float) -> list[tuple[Candidate, float]]:
    found = []
    for candidate in reader.candidates(fact):
        value = reader.size(fact, candidate)
        if value is not None and abs(value) <= most:
            found.append((candidate, value))
        else:
            reader.not_used(fact, candidate, value)
    return found


def _separation(ra: float, dec: float, other_ra: float, other_dec: float) -> float:
    """Degrees between two directions."""
    angles = (math.radians(value) for value in (ra, dec, other_ra, other_dec))
    return math.degrees(float(erfa.seps(*angles)))


def _place(reader: HeaderReader, fact: str, candidate: Any) -> int | str:
    """Where in the definition's list a candidate's keyword stands: those of RA and Dec stand in pairs."""
    keywords = reader.definition.keywords.get(fact, ())
    return keywords.index(candidate.keyword) if candidate.keyword in keywords else str(candidate.source)
