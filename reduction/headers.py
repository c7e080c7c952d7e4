"""Facts of a frame from its header, by the definition of its instrument.

The header says many things in many ways; `facts` says each of them once, in
one unit, with None for what is unknown and a note for what is doubtful.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from db.errors import FrameUnusable
from reduction.headertimes import exposure_time
from reduction.headervalues import angle, number, section, text, truth
from reduction.instrument import InstrumentDefinition, identify, load_definitions

__all__ = ["Facts", "InstrumentDefinition", "Section", "facts", "identify", "load_definitions"]

Section = tuple[int, int, int, int]

_KELVIN = 273.15
_DONE_WORDS = {
    "bias": re.compile(r"\b(bias|zero)[- ]?(level |frame )?(has been |was )?(correct|subtract|remov)", re.IGNORECASE),
    "dark": re.compile(r"\bdark[- ]?(frame |current )?(has been |was )?(correct|subtract|remov)", re.IGNORECASE),
    "flat": re.compile(r"\bflat[- ]?(field(ed)?|frame)?[- ]?(has been |was )?(correct|divid|normali)|\bflat-?fielded\b", re.IGNORECASE),
}
_CALSTAT = {"B": "bias", "D": "dark", "F": "flat"}


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
        The observer's word for the type of frame, in lower case.
    declared : str or None
        That word's meaning: bias, dark, flat, object or other.
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
        Arcsec per pixel.
    binning : tuple of int
        (x, y).
    gain, read_noise, saturation : float or None
        Electron/ADU, electron, ADU.
    ccd_temperature : float or None
        Degrees Celsius.
    trim, overscan : tuple of int or None
        (x0, x1, y0, y1), 0-based, half-open.
    calibrated : tuple of str
        What was done before: some of bias, dark, flat.
    has_wcs : bool
        The header holds a celestial WCS.
    bayer : str or None
        Bayer pattern such as RGGB.
    orientation : float or None
        Position angle, degrees.
    notes : tuple of str
        Doubts, each one sentence.
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
    ccd_temperature: float | None
    trim: Section | None
    overscan: Section | None
    calibrated: tuple[str, ...]
    has_wcs: bool
    bayer: str | None
    orientation: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Reader:
    """One header, looked at through one definition."""

    header: Mapping[str, Any]
    definition: InstrumentDefinition

    def values(self, fact: str) -> list[tuple[str | None, Any]]:
        """(keyword, value) in order of preference: override, header, default; keyword None outside the header."""
        found: list[tuple[str | None, Any]] = []
        if fact in self.definition.override:
            found.append((None, self.definition.override[fact]))
        found += [(word, self.header[word]) for word in self.definition.keywords.get(fact, ()) if self.header.get(word) is not None]
        if fact in self.definition.default:
            found.append((None, self.definition.default[fact]))
        return found

    def number(self, fact: str, *, low: float = float("-inf"), high: float = float("inf")) -> float | None:
        """First number within (low, high], or None."""
        numbers = (number(value) for _, value in self.values(fact))
        return next((value for value in numbers if value is not None and low < value <= high), None)

    def text(self, fact: str) -> str | None:
        """First word or name that is no placeholder, or None."""
        return next((word for word in (text(value) for _, value in self.values(fact)) if word is not None), None)


def facts(header: Mapping[str, Any], definition: InstrumentDefinition, shape: tuple[int, int], path: str | Path = "") -> Facts:
    """Facts of a frame.

    Parameters
    ----------
    header : mapping
        FITS header, as from `reduction.fits.read_header`.
    definition : InstrumentDefinition
        As from `identify`.
    shape : tuple of int
        (ny, nx) of the image.
    path : path, optional
        File named in errors.

    Raises
    ------
    FrameUnusable
        No exposure time (``frame.no_exptime``), a negative one (``frame.bad_exptime``), or no
        time of exposure (``frame.no_time``).
    """
    reader = _Reader(header, definition)
    exptime = _exptime(reader, str(path))
    override = definition.override
    time = exposure_time(
        header, definition.times, exptime, offset=override.get("time_offset", 0.0), sigma=override.get("time_sigma", 0.0), where=str(path)
    )
    notes = list(time.notes)
    imagetyp, bayer, passband = reader.text("imagetyp"), *_filter(reader)
    latitude, longitude, height = _site(reader, notes)
    ra, dec = _pointing(reader, notes)
    return Facts(
        definition=definition.name,
        instrument=_label(reader),
        telescope=reader.text("telescope"),
        object=reader.text("object"),
        filter=passband,
        imagetyp=imagetyp.lower() if imagetyp else None,
        declared=_declared(definition, imagetyp),
        blocked=passband is not None and any(fnmatchcase(passband.upper(), word.upper()) for word in definition.blocked),
        exptime=exptime,
        start_jd1=time.start_jd1,
        start_jd2=time.start_jd2,
        mid_jd1=time.mid_jd1,
        mid_jd2=time.mid_jd2,
        time_source=time.source,
        time_sigma=time.sigma,
        site_name=reader.text("site_name"),
        latitude=latitude,
        longitude=longitude,
        height=height,
        ra=ra,
        dec=dec,
        pixel_scale=_pixel_scale(reader),
        binning=_binning(reader),
        gain=_gain(reader, notes),
        read_noise=reader.number("read_noise", low=0.0),
        saturation=reader.number("saturation", low=0.0),
        ccd_temperature=_temperature(reader),
        trim=_section(reader, "trim", shape, notes),
        overscan=_section(reader, "overscan", shape, notes),
        calibrated=_calibrated(reader),
        has_wcs=_has_wcs(header),
        bayer=bayer,
        orientation=reader.number("orientation"),
        notes=tuple(notes),
    )


def _exptime(reader: _Reader, where: str) -> float:
    found = [value for value in (number(value) for _, value in reader.values("exptime")) if value is not None]
    if not found:
        tried = ", ".join(reader.definition.keywords.get("exptime", ()))
        raise FrameUnusable(
            f"no exposure time in the header (looked for {tried})",
            where=where,
            hint="name its keyword under [instrument.keywords] or give exptime under [default] in --config",
            code="frame.no_exptime",
        )
    if found[0] < 0:
        raise FrameUnusable(
            f"exposure time {found[0]:g} s, allowed 0 or more", where=where, hint="correct the header", code="frame.bad_exptime"
        )
    return found[0]


def _label(reader: _Reader) -> str:
    words = re.sub(r"\{([^}]+)\}", lambda match: text(reader.header.get(match.group(1))) or "", reader.definition.label)
    return " ".join(words.split()) or reader.definition.name


def _declared(definition: InstrumentDefinition, word: str | None) -> str | None:
    if word is None:
        return None
    return next((kind for pattern, kind in definition.image_types.items() if fnmatchcase(word.lower(), pattern.lower())), None)


def _filter(reader: _Reader) -> tuple[str | None, str | None]:
    """(Bayer pattern, filter); some write the pattern where the filter belongs."""
    bayer, passband = reader.text("bayer"), reader.text("filter")
    if passband is not None and re.fullmatch(r"[RGB]{4}", passband):
        return bayer or passband, None
    return bayer, passband


def _site(reader: _Reader, notes: list[str]) -> tuple[float | None, float | None, float | None]:
    latitude = _first_angle(reader, "latitude", 90.0)
    longitude = _first_angle(reader, "longitude", 360.0)
    if latitude is None or longitude is None:
        if latitude is not None or longitude is not None:
            notes.append("half a site: the header has only one of latitude and longitude")
        return None, None, None
    if latitude == 0.0 and longitude == 0.0:
        notes.append("latitude and longitude are both zero: taken as unknown")
        return None, None, None
    height = reader.number("height", low=-500.0, high=9000.0)
    east = longitude if abs(longitude) <= 180.0 else longitude - 360.0 if longitude > 0 else longitude + 360.0
    return latitude, east, height if height is not None else 0.0


def _first_angle(reader: _Reader, fact: str, limit: float) -> float | None:
    """First latitude or longitude within the limit; a header's west-positive longitude is turned (not one marked E or W)."""
    for keyword, value in reader.values(fact):
        size = angle(value)
        if size is None or abs(size) > limit:
            continue
        west = fact == "longitude" and keyword is not None and reader.definition.units.get("longitude") == "west"
        marked = isinstance(value, str) and value.strip()[-1:].upper() in ("E", "W")
        return -size if west and not marked else size
    return None


def _pointing(reader: _Reader, notes: list[str]) -> tuple[float | None, float | None]:
    hours = 15.0 if reader.definition.units.get("ra") == "hour" else 1.0
    ra = dec = None
    for keyword, value in reader.values("ra"):
        plain = number(value)
        size = angle(value, hours=True) if plain is None else plain * (hours if keyword not in (None, "CRVAL1") else 1.0)
        if size is not None and -360.0 <= size <= 360.0:
            ra = size % 360.0
            break
    for _, value in reader.values("dec"):
        size = angle(value)
        if size is not None and abs(size) <= 90.0:
            dec = size
            break
    if ra is None or dec is None:
        return None, None
    if ra == 0.0 and dec == 0.0:
        notes.append("RA and Dec are both zero: taken as unknown")
        return None, None
    return ra, dec


def _pixel_scale(reader: _Reader) -> float | None:
    """Arcsec/pixel, as stated, else of the header's WCS, else of pixel size (micron) and focal length (mm)."""
    stated = reader.number("pixel_scale", low=0.0, high=1000.0)
    if stated is not None:
        return stated
    terms = [number(reader.header.get(key)) for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2")]
    if terms[0] is not None and terms[3] is not None:
        area = abs(terms[0] * terms[3] - (terms[1] or 0.0) * (terms[2] or 0.0))
        if area > 0:
            return 3600.0 * float(area**0.5)
    step = number(reader.header.get("CDELT2"))
    if step and _has_wcs(reader.header):
        return 3600.0 * abs(step)
    size, length = reader.number("pixel_size", low=0.0), reader.number("focal_length", low=0.0)
    return None if size is None or length is None else 206.264806 * size / length


def _binning(reader: _Reader) -> tuple[int, int]:
    pair = re.fullmatch(r"\s*(\d+)\s*[xX, ]\s*(\d+)\s*", reader.text("binning") or "")
    if pair is not None:
        return int(pair.group(1)), int(pair.group(2))
    single = reader.number("binning", low=0.0) or 1.0
    x = reader.number("binning_x", low=0.0) or single
    return int(x), int(reader.number("binning_y", low=0.0) or x)


def _gain(reader: _Reader, notes: list[str]) -> float | None:
    """Return electron/ADU. Amateur cameras write the position of the gain knob under GAIN: not used unless a unit says electrons."""
    for keyword, value in reader.values("gain"):
        size = number(value)
        if size is None or size <= 0:
            continue
        comment = str(reader.header.comments[keyword]) if keyword and hasattr(reader.header, "comments") else ""
        knob = keyword == "GAIN" and size >= 10 and size == int(size) and not re.search(r"\be(lectron|-|/)", comment, re.IGNORECASE)
        if not knob:
            return size
        notes.append(f"GAIN = {size:g} looks like a setting of the camera, not electron/ADU: not used")
    return None


def _temperature(reader: _Reader) -> float | None:
    unit = reader.definition.units.get("ccd_temperature", "auto")
    for keyword, value in reader.values("ccd_temperature"):
        size = number(value)
        if size is None:
            continue
        kelvin = keyword is not None and (unit == "kelvin" or (unit == "auto" and size > 100.0))
        celsius = size - _KELVIN if kelvin else size
        # Where kelvin is the unit, -1 and 0 stand for "no data".
        if -_KELVIN < celsius < 100.0 and not (kelvin and size <= 0):
            return round(celsius, 6)
    return None


def _section(reader: _Reader, fact: str, shape: tuple[int, int], notes: list[str]) -> Section | None:
    for keyword, value in reader.values(fact):
        if text(value) is None:
            continue
        found = section(value, shape)
        if found is not None:
            return found
        notes.append(f"{keyword or fact} = {text(value)} does not lie within the {shape[1]}x{shape[0]} image: not used")
    return None


def _calibrated(reader: _Reader) -> tuple[str, ...]:
    """Calibration steps that the header says were done: by keywords, by CALSTAT, by the words of HISTORY."""
    header = reader.header
    done = {kind for kind in ("bias", "dark", "flat") if any(truth(value) for _, value in reader.values(f"{kind}_done"))}
    done |= {_CALSTAT[letter] for letter in str(header.get("CALSTAT", "")).upper() if letter in _CALSTAT}
    lines = header.get("HISTORY", ())
    history = lines.splitlines() if isinstance(lines, str) else [str(line) for line in lines]
    done |= {kind for kind, words in _DONE_WORDS.items() if any(words.search(line) for line in history)}
    return tuple(kind for kind in ("bias", "dark", "flat") if kind in done)


def _has_wcs(header: Mapping[str, Any]) -> bool:
    types = {str(header.get("CTYPE1", ""))[:4].strip("-").upper(), str(header.get("CTYPE2", ""))[:4].strip("-").upper()}
    reference = all(number(header.get(key)) is not None for key in ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2"))
    return types == {"RA", "DEC"} and reference and any(key in header for key in ("CD1_1", "CD1_2", "PC1_1", "CDELT1"))
