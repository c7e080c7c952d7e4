"""Facts of the camera that take more than one keyword: gain, pixel scale, binning, sections, Bayer pattern, calibration state."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reduction.headers.fact_list import BAYER_PATTERNS, FACTS, PER_STEP
from reduction.headers.filters import BEHIND, filters_in_light
from reduction.headers.reader import DEFAULT, OVERRIDE, Candidate, HeaderReader
from reduction.headers.remarks import remark_of
from reduction.headers.values import denied, number, number_and_unit, section, text, truth

__all__ = [
    "Section",
    "bayer_and_filter",
    "black_level",
    "binning",
    "calibrated",
    "gain",
    "gain_setting",
    "has_wcs",
    "in_adu",
    "in_electrons",
    "pixel_scale",
    "sections",
    "stored_pattern",
]

Section = tuple[int, int, int, int]

_ARCSEC = 206.264806  # arcsec a micron subtends at a focal length of 1 mm
_SAME_PATTERN = {"RG": "RGGB", "BG": "BGGR", "GR": "GRBG", "GB": "GBRG"}
_XTRANS_LENGTH = 36
_DEBAYERED = re.compile(r"\b(de-?bayer|demosai[ck])", re.IGNORECASE)
_DONE_WORDS = {
    "bias": re.compile(r"\b(bias|zero)[- ]?(level |frame )?(has been |was )?(correct|subtract|remov)", re.IGNORECASE),
    "dark": re.compile(r"\bdark[- ]?(frame |current )?(has been |was )?(correct|subtract|remov)", re.IGNORECASE),
    "flat": re.compile(r"\bflat[- ]?(field(ed)?|frame)?[- ]?(has been |was )?(correct|divid|normali)|\bflat-?fielded\b", re.IGNORECASE),
}
_CLAUSES = re.compile(r"[,;]|(?<!\bno)\.\s|\bbut\b", re.IGNORECASE)
_OVERSCAN_WORDS = re.compile(r"overscan|trim|subtract|correct|remov|done", re.IGNORECASE)
_STRIPS = ("OVERSCAN", "TRIM")
_YES = {"t", "y", "true", "yes"}
_CALSTAT = {"B": "bias", "D": "dark", "F": "flat"}
_ELECTRONS = re.compile(r"\be(lectrons?|-|/)", re.IGNORECASE)
_KNOB_REMARK = re.compile(r"\b(settings?|knob|iso|db|percent|index|value)\b|%|\b0?\.1 ?db", re.IGNORECASE)
_KNOB = 10.0  # electron/ADU; whole numbers from here on are positions of a knob


def gain(reader: HeaderReader) -> float | None:
    """Return electron/ADU.

    Amateur cameras write the position of the gain knob under GAIN: it is not used unless a unit says electrons, the definition
    gives its unit, or it cannot be a knob. One for a step of the converter is divided by the step between the stored values.
    """
    chosen: Candidate | None = None
    result: float | None = None
    for candidate in reader.candidates("gain"):
        size = _electrons(reader, candidate, noted=chosen is None)
        if size is None or not FACTS["gain"].allows(size):
            if size is not None or number(candidate.value) is None:
                reader.not_used("gain", candidate, size)
            continue
        if chosen is None or result is None:
            chosen, result = candidate, size
            reader.sources["gain"] = reader.source_of("gain", candidate)
        elif FACTS["gain"].disagree(result, size):
            reader.disagreement("gain", chosen, candidate)
    stepped = chosen is not None and chosen.keyword is not None and reader.definition.units.get("gain") == PER_STEP and reader.step > 1.0
    if chosen is None or result is None or not stepped:
        return result
    reader.note(
        f"{chosen.keyword} = {result:g} is for a step of the converter, and values are stored in steps of {reader.step:g} ADU: "
        f"the gain is {result / reader.step:g} electron/ADU"
    )
    return result / reader.step


def _electrons(reader: HeaderReader, candidate: Candidate, *, noted: bool) -> float | None:
    """Electron/ADU of a candidate; None for what is no number, or the position of a knob."""
    remark = remark_of(reader.header, candidate.keyword, candidate.place) if candidate.keyword else ""
    electrons = reader.definition.units.get("gain") is not None or _ELECTRONS.search(remark) is not None
    by_remark = candidate.keyword == "GAIN" and not electrons and _KNOB_REMARK.search(remark) is not None
    size = number(candidate.value) if by_remark else reader.size("gain", candidate)
    if size is None or candidate.keyword != "GAIN" or electrons or (not by_remark and (size < _KNOB or size != int(size))):
        return size
    if noted:
        said = f"is a setting of the camera ('{remark}')" if by_remark else "looks like a setting of the camera"
        reader.note(f"GAIN = {size:g} {said}, not electron/ADU: not used")
    return None


def in_electrons(reader: HeaderReader, electrons_per_adu: float | None) -> float | None:
    """Read noise in electron; one that the remark gives in ADU is multiplied by the gain, and is unknown without."""
    return _by_gain(reader, "read_noise", "ADU", electrons_per_adu)


def in_adu(reader: HeaderReader, electrons_per_adu: float | None) -> float | None:
    """White level in ADU; one that the remark gives in electrons is divided by the gain, and is unknown without."""
    return _by_gain(reader, "saturation", "electron", None if electrons_per_adu is None else 1.0 / electrons_per_adu)


def _by_gain(reader: HeaderReader, fact: str, other: str, factor: float | None) -> float | None:
    value = reader.number(fact)
    source = reader.sources.get(fact, "")
    candidate = next((c for c in reader.candidates(fact) if c.keyword is not None and source.split(" (")[0] == c.keyword), None)
    if value is None or candidate is None or reader.unit(fact, candidate, number_and_unit(candidate.value)[1]) != other:
        return value
    reader.note(
        f"{candidate.keyword} = {value:g} is in {other}"
        + (": not used, as the gain is not known" if factor is None else f": {value * factor:g} {FACTS[fact].unit}, by the gain")
    )
    if factor is None:
        del reader.sources[fact]
        return None
    return value * factor


def gain_setting(reader: HeaderReader) -> float | None:
    """Position of the gain knob, to be asked for after `gain`: GAIN is one, too, where it was not taken for electron/ADU."""
    setting = reader.number("gain_setting")
    if setting is not None or "GAIN" not in reader.definition.keywords.get("gain", ()):
        return setting
    position = number(reader.header.get("GAIN"))
    if (
        position is None
        or not FACTS["gain_setting"].allows(position)
        or position != int(position)
        or reader.sources.get("gain", "").startswith("GAIN")
    ):
        return None
    # Beside EGAIN it can be nothing else, however low it is.
    if position < _KNOB and not reader.sources.get("gain", "").startswith("EGAIN"):
        return None
    reader.sources["gain_setting"] = "GAIN"
    return position


def binning(reader: HeaderReader) -> tuple[int, int]:
    """(x, y): from one keyword such as ``2x2`` or ``1 1``, else from one for each axis, else 1."""
    pair = re.fullmatch(r"\s*(\d+)\s*[xX*, ]\s*(\d+)\s*", reader.text("binning", same=_same_binning) or "")
    each = reader.number("binning_x"), reader.number("binning_y")
    if pair is not None and all(FACTS["binning_x"].allows(float(part)) for part in pair.groups()):
        both = int(pair.group(1)), int(pair.group(2))
        if each[0] is not None and (int(each[0]), int(each[1] or each[0])) != both:
            said = f"{reader.sources['binning_x']} = {each[0]:g}"
            reader.note(f"{said} disagrees with {reader.sources['binning']} = {both[0]}x{both[1]}, which is used for binning")
        return both
    single = number(next((c.value for c in reader.candidates("binning")), None))
    x = each[0] or (single if single is not None and FACTS["binning_x"].allows(single) else 1.0)
    y = each[1] or x
    if "binning_x" in reader.sources:
        reader.sources["binning"] = reader.sources["binning_x"]
    return int(x), int(y)


def _same_binning(one: str, other: str) -> bool:
    return re.findall(r"\d+", one) == re.findall(r"\d+", other)


def pixel_scale(reader: HeaderReader, binned: int) -> float | None:
    """Arcsec/pixel as stated, else of the header's WCS, else of pixel size and focal length; `binned` is the binning in x."""
    stated = reader.number("pixel_scale")
    scale = _wcs_scale(reader.header)
    if stated is not None:
        if scale is not None and reader.sources["pixel_scale"] not in (OVERRIDE, DEFAULT) and FACTS["pixel_scale"].disagree(stated, scale):
            said = f"{reader.sources['pixel_scale']} = {stated:.4g} arcsec"
            reader.note(f"the header's WCS has {scale:.4g} arcsec/pixel, and disagrees with {said}, which is used for pixel_scale")
        return stated
    if scale is not None and FACTS["pixel_scale"].allows(scale):
        reader.sources["pixel_scale"] = "the header's WCS"
        return scale
    length = reader.number("focal_length")
    size = reader.number("pixel_size")
    names = ["pixel_size", "focal_length"]
    if size is None:
        unbinned = reader.number("unbinned_pixel_size")
        size, names[0] = None if unbinned is None else unbinned * binned, "unbinned_pixel_size"
    if size is None or length is None:
        return None
    scale = _ARCSEC * size / length
    if not FACTS["pixel_scale"].allows(scale):
        return None
    reader.sources["pixel_scale"] = " / ".join(reader.sources[name] for name in names)
    return scale


def _wcs_scale(header: Mapping[str, Any]) -> float | None:
    terms = [number(header.get(key)) for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2")]
    if terms[0] is not None and terms[3] is not None:
        area = abs(terms[0] * terms[3] - (terms[1] or 0.0) * (terms[2] or 0.0))
        if area > 0:
            return 3600.0 * float(area**0.5)
    step = number(header.get("CDELT2"))
    return 3600.0 * abs(step) if step and has_wcs(header) else None


def has_wcs(header: Mapping[str, Any]) -> bool:
    """Whether a header holds a celestial WCS: axes, reference point and scale."""
    types = {str(header.get("CTYPE1", ""))[:4].strip("-").upper(), str(header.get("CTYPE2", ""))[:4].strip("-").upper()}
    reference = all(number(header.get(key)) is not None for key in ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2"))
    return types == {"RA", "DEC"} and reference and any(key in header for key in ("CD1_1", "CD1_2", "PC1_1", "CDELT1"))


def sections(reader: HeaderReader) -> tuple[Section | None, Section | None]:
    """(trim, overscan) as half-open sections; what the header says was done already is not done again.

    Without a section for the part with sky, it is the larger part beside the overscan.
    """
    if _strip_done(reader, "trim_done"):
        return None, None
    trim, overscan = _section(reader, "trim"), _section(reader, "overscan")
    if trim is None and overscan is not None:
        trim = _beside(overscan, reader.shape)
        reader.sources["trim"] = f"beside {reader.sources['overscan']}"
        reader.note(f"no section for the part with sky: taken is what lies beside {reader.sources['overscan']}")
    if overscan is not None and _strip_done(reader, "overscan_done"):
        del reader.sources["overscan"]
        overscan = None
    return trim, overscan


def _beside(overscan: Section, shape: tuple[int, int]) -> Section | None:
    """Largest part of the image on one side of a strip; None where the strip is all of it."""
    x0, x1, y0, y1 = overscan
    ny, nx = shape
    parts = [(0, x0, 0, ny), (x1, nx, 0, ny), (0, nx, 0, y0), (0, nx, y1, ny)]
    best = max(parts, key=lambda part: (part[1] - part[0]) * (part[3] - part[2]))
    return best if best[0] < best[1] and best[2] < best[3] else None


def _strip_done(reader: HeaderReader, fact: str) -> bool:
    """As `_done`, for OVERSCAN and TRIM, under which others write the width or the position of the strip.

    A logical counts, a pipeline's own status flag, and a sentence such as IRAF's "Overscan section is [1033:1056,1:1024] with mean=...".
    """
    return any(_strip_was_taken(candidate) for candidate in reader.candidates(fact))


def _strip_was_taken(candidate: Candidate) -> bool:
    value = candidate.value
    if isinstance(value, bool) or candidate.keyword not in _STRIPS:
        return truth(value)
    word = text(value) if number(value) is None else None
    if word is None:
        return False
    return word.lower() in _YES or (_OVERSCAN_WORDS.search(word) is not None and truth(word))


def _done(reader: HeaderReader, fact: str) -> bool:
    return any(truth(candidate.value) for candidate in reader.candidates(fact))


def _section(reader: HeaderReader, fact: str) -> Section | None:
    for candidate in reader.candidates(fact):
        if text(candidate.value) is None:
            continue
        found = section(candidate.value, reader.shape)
        if found is not None:
            reader.sources[fact] = candidate.source
            return found
        size = f"{reader.shape[1]}x{reader.shape[0]}"
        name = candidate.keyword or fact
        reader.note(f"{name} = {text(candidate.value)} does not lie within the {size} image: not used")
    return None


def calibrated(reader: HeaderReader) -> tuple[str, ...]:
    """Calibration steps that the header says were done: by keywords, by CALSTAT, by HISTORY."""
    done = {kind for kind in _DONE_WORDS if _done(reader, f"{kind}_done")}
    done |= {_CALSTAT[letter] for letter in str(reader.header.get("CALSTAT", "")).upper() if letter in _CALSTAT}
    # "Bias subtracted, no dark": what is denied is denied within its clause.
    clauses = [clause for line in _history(reader.header) for clause in _CLAUSES.split(line) if not denied(clause)]
    done |= {kind for kind, words in _DONE_WORDS.items() if any(words.search(clause) for clause in clauses)}
    return tuple(kind for kind in ("bias", "dark", "flat") if kind in done)


def black_level(reader: HeaderReader, done: tuple[str, ...]) -> float | None:
    """Level without light, ADU, of the file as it is.

    PEDESTAL is what has to be added for a level of 0 (SBIG, MaxIm DL: below 0) or was added to stay above it (PixInsight: above 0, on
    calibrated frames).  A camera's own black level is gone once bias or dark were taken off.
    """
    value = reader.number("black_level")
    if "black_level" in reader.definition.override:
        return value
    pedestal, gone = number(reader.header.get("PEDESTAL")), not {"bias", "dark"}.isdisjoint(done)
    if pedestal is not None and (pedestal < 0 or (pedestal > 0 and gone)) and FACTS["black_level"].allows(abs(pedestal)):
        reader.sources["black_level"] = "PEDESTAL"
        return abs(pedestal)
    if gone and value is not None:
        del reader.sources["black_level"]
        return None
    return value


def _history(header: Mapping[str, Any]) -> list[str]:
    lines = header.get("HISTORY", ())
    return lines.splitlines() if isinstance(lines, str) else [str(line) for line in lines]


def bayer_and_filter(reader: HeaderReader) -> tuple[str | None, str | None]:
    """(Bayer pattern at pixel (0, 0) as stored, filter); some write the pattern where the filter belongs.

    The pattern is None for a monochrome sensor, an already debayered image, and what is no Bayer pattern.
    """
    filters = filters_in_light(reader)
    pattern = _pattern(reader)
    mosaic = next((name for name in filters if name.upper() in BAYER_PATTERNS), None)
    if mosaic is not None:
        if pattern is None and "bayer" not in reader.definition.override:
            pattern = _as_stored(reader, mosaic.upper())
            reader.sources["bayer"] = reader.sources["filter"]
        filters = tuple(name for name in filters if name != mosaic)
        if not filters:
            del reader.sources["filter"]
    passband = BEHIND.join(filters) or None
    if pattern is not None and any(_DEBAYERED.search(line) for line in _history(reader.header)):
        reader.note("HISTORY says that the Bayer mosaic was resolved: taken as one channel")
        pattern = None
    if pattern is None:
        reader.sources.pop("bayer", None)
    return pattern, passband


def _pattern(reader: HeaderReader) -> str | None:
    for candidate in reader.candidates("bayer"):
        word = text(candidate.value)
        letters = re.sub(r"[^A-Z]", "", word.upper()) if word is not None else ""
        if candidate.source == OVERRIDE and letters not in BAYER_PATTERNS:
            return None  # "none": whatever the header says, it is no mosaic
        if letters in BAYER_PATTERNS:
            reader.sources["bayer"] = candidate.source
            return letters if candidate.keyword is None else _as_stored(reader, letters)
        if len(letters) == _XTRANS_LENGTH:
            reader.note(f"{candidate.source} is an X-Trans mosaic, which is not separated into channels")
            return None
    return None


def _as_stored(reader: HeaderReader, pattern: str) -> str:
    x, y = (reader.number(f"bayer_{axis}_offset") or 0.0 for axis in "xy")
    for keyword in ("XORGSUBF", "YORGSUBF"):
        start = number(reader.header.get(keyword))
        if start is not None and int(start) % 2:
            reader.note(f"{keyword} = {start:g} is odd: check the Bayer pattern, which may begin one pixel later")
    bottom_up = (reader.text("row_order") or "").upper().replace("_", "-") == "BOTTOM-UP"
    return stored_pattern(pattern, int(x), int(y), reader.shape[0], bottom_up=bottom_up)


def stored_pattern(pattern: str, x_offset: int, y_offset: int, ny: int, *, bottom_up: bool) -> str:
    """Bayer pattern at pixel (0, 0) of the array as it is stored.

    BAYERPAT names the pattern of the picture from its top left corner, XBAYROFF and YBAYROFF say at which column and row of it the
    picture begins, and ROWORDER whether the first row stored is its top (also where the keyword is absent) or its bottom.

    Parameters
    ----------
    pattern : str
        RGGB, BGGR, GRBG or GBRG.
    x_offset, y_offset : int
        Offsets in pixels; only whether they are odd matters.
    ny : int
        Rows of the array: the bottom row of an odd number of rows begins as the top row does.
    bottom_up : bool
        The first row stored is the bottom of the picture.

    Notes
    -----
    "Orientation of FITS images" and "Retrieving the Bayer matrix", https://siril.readthedocs.io/en/latest/file-formats/FITS.html,
    the convention that Siril, CCDciel, INDI, N.I.N.A., SharpCap, MaxIm DL (whose images "are always TOP-DOWN") and PixInsight
    agreed on in 2020.
    """
    row = y_offset + (ny - 1 if bottom_up else 0)
    first = [pattern[2 * (row % 2) + (column + x_offset) % 2] for column in (0, 1)]
    return _SAME_PATTERN["".join(first)]
