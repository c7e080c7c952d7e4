"""What a camera wrote about an exposure (EXIF), as the cards of a FITS header."""

from __future__ import annotations

import io
import logging
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from fractions import Fraction
from importlib import metadata
from types import MappingProxyType
from typing import Any

import exifread
from astropy.io import fits
from exifread.core.exceptions import ExifError
from exifread.tags.exif import GPS_TAGS

__all__ = ["creator", "exif_header", "quiet_logger", "read_exif", "state_offset"]

#: Reads after which a damaged file is given up: counts in it can be in the thousands of millions. Real ones take some 10,000.
_MOST_READS = 1_000_000
_DAMAGED = (
    *(ExifError, ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError, EOFError, OSError),
    *(OverflowError, ZeroDivisionError, RecursionError, MemoryError, NotImplementedError, struct.error),
)
_FUJI = b"FUJIFILMCCD-RAW"
_CANON_UUID = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
_GROUPS = {b"CMT1": "Image", b"CMT2": "EXIF", b"CMT4": "GPS"}
_STAMP = re.compile(r"^\s*(\d{4})[:/-](\d{2})[:/-](\d{2})[ T]+(\d{2}):(\d{2}):(\d{2})")
_OFFSET = re.compile(r"^\s*([+-])(\d{2}):?(\d{2})\s*$|^\s*(Z)\s*$")
_COMPANY = re.compile(r"\b(corporation|corp|company|co|ltd|inc|imaging|optical|gmbh|ag)\b\.?,?", re.IGNORECASE)
#: Date, and the sub-seconds and offset that belong to it, the moment of exposure first.
_CLOCKS = (
    ("EXIF DateTimeOriginal", "EXIF SubSecTimeOriginal", "EXIF OffsetTimeOriginal"),
    ("EXIF DateTimeDigitized", "EXIF SubSecTimeDigitized", "EXIF OffsetTimeDigitized"),
    ("Image DateTime", "EXIF SubSecTime", "EXIF OffsetTime"),
)
_MAX_OFFSET = timedelta(hours=14)


@contextmanager
def quiet_logger(name: str) -> Iterator[None]:
    """Keep a library's log still meanwhile: what matters of it is in our own errors."""
    logger = logging.getLogger(name)
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


class _Bounded(io.BytesIO):
    """Bytes that end the reading of a damaged file, where it would go on for hours."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > _MOST_READS:
            raise ExifError(f"more than {_MOST_READS} reads")
        return super().read(size)


def read_exif(contents: bytes) -> dict[str, Any]:
    """EXIF tags of a file.

    Parameters
    ----------
    contents : bytes
        A camera's raw file (those built on TIFF, Canon's CR3, Fuji's RAF), a TIFF or a PNG.

    Returns
    -------
    dict of str to str, list or bytes
        "Group Name" -> value, such as ``EXIF ExposureTime`` -> [Fraction(1, 30)]; groups are Image,
        EXIF, GPS, MakerNote. Empty where the file holds no EXIF, or damaged EXIF.
    """
    if contents.startswith(_FUJI) and len(contents) > 92:
        # A RAF file begins with a JPEG preview, which has the EXIF.
        start, length = struct.unpack(">II", contents[84:92])
        return _tags(contents[start : start + length])
    if contents[4:12] == b"ftypcrx ":
        blocks = [(group, _tags(block, GPS_TAGS if group == "GPS" else {})) for group, block in _cr3_blocks(contents)]
        return {f"{group} {name.split(' ', 1)[1]}": value for group, tags in blocks for name, value in tags.items()}
    return _tags(contents)


def _tags(contents: bytes, names: Mapping[int, Any] = MappingProxyType({})) -> dict[str, Any]:
    """Tags of a TIFF block; `names` are those of a block whose first directory is not the usual one."""
    try:
        with quiet_logger("exifread"):
            tags = exifread.process_file(_Bounded(contents), details=True, extract_thumbnail=False)
    except _DAMAGED:
        return {}
    found = {f"Image {names[tag.tag][0]}" if tag.tag in names else name: tag.values for name, tag in tags.items() if hasattr(tag, "values")}
    # Only the printed form of a maker's temperature has its zero point taken off.
    found |= {name: tag.printable for name, tag in tags.items() if name.endswith("CameraTemperature")}
    return found


def _cr3_blocks(contents: bytes) -> Iterator[tuple[str, bytes]]:
    """(Group, TIFF block) of a CR3 file: boxes CMT1, CMT2 and CMT4 in Canon's uuid box in moov (ISO 14496-12)."""
    for kind, body in _boxes(contents):
        if kind == b"moov":
            for inner, canon in _boxes(body):
                if inner == b"uuid" and canon.startswith(_CANON_UUID):
                    yield from ((_GROUPS[name], block) for name, block in _boxes(canon[16:]) if name in _GROUPS)


def _boxes(contents: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(contents):
        size, head = int.from_bytes(contents[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(contents[at + 8 : at + 16], "big"), 16
        if size == 0:
            size = len(contents) - at
        if size < head:
            return
        yield contents[at + 4 : at + 8], contents[at + head : at + size]
        at += size


def creator() -> str:
    """Name and version of this program, for the card SWCREATE."""
    return f"starledger {metadata.version('starledger')}"


def exif_header(exif: Mapping[str, Any]) -> fits.Header:
    """FITS cards of what EXIF says; what it leaves blank, or 0 where 0 stands for unknown, has no card.

    Parameters
    ----------
    exif : mapping
        As from `read_exif`.

    Returns
    -------
    astropy.io.fits.Header
        DATE-LOC (camera's clock), and DATE-OBS (UTC) with TZOFFSET where the offset is known, each with
        the sub-seconds that were written; EXPTIME, ISOSPEED, INSTRUME, CAMSN, LENS, FOCALLEN, APERTURE,
        CCD-TEMP, SITELAT, SITELONG, SITEELEV.

    Notes
    -----
    EXIF 2.32 (CIPA DC-008): DateTimeOriginal is the local time of the camera's clock at the exposure,
    OffsetTimeOriginal its offset from UTC, SubSecTimeOriginal the digits behind the seconds.
    """
    header = fits.Header()
    _add_times(header, exif)
    cards = (
        ("EXPTIME", _positive(exif, "EXIF ExposureTime", "Image ExposureTime", most=1e6), "[s] exposure time"),
        ("ISOSPEED", _iso(exif), "ISO speed setting"),
        ("INSTRUME", _camera(exif), "camera"),
        ("CAMSN", _words(exif, "EXIF BodySerialNumber", "Image Tag 0xC62F", "MakerNote SerialNumber"), "serial number of the camera"),
        ("LENS", _words(exif, "EXIF LensModel"), "lens"),
        ("FOCALLEN", _positive(exif, "EXIF FocalLength", "Image FocalLength"), "[mm] focal length of the lens"),
        ("APERTURE", _positive(exif, "EXIF FNumber", "Image FNumber"), "f-number of the lens"),
        ("CCD-TEMP", _temperature(exif), "[C] temperature in the camera"),
    )
    header.extend([card for card in cards if card[1] is not None])
    _add_site(header, exif)
    return header


def state_offset(header: fits.Header, offset: timedelta) -> bool:
    """Give a header its DATE-OBS by a stated offset of the camera's clock from UTC.

    Parameters
    ----------
    header : Header
        As from `exif_header`; changed in place.
    offset : timedelta
        Local time minus UTC.

    Returns
    -------
    bool
        False, with the header as it was, where it has a DATE-OBS already or no DATE-LOC.
    """
    local = header.get("DATE-LOC")
    if local is None or "DATE-OBS" in header:
        return False
    whole, _, digits = str(local).partition(".")
    _set_utc(header, datetime.fromisoformat(whole), digits, offset, "stated")
    return True


def _add_times(header: fits.Header, exif: Mapping[str, Any]) -> None:
    for date, fraction, zone in _CLOCKS:
        found = _STAMP.match(_words(exif, date) or "")
        if found is None:
            continue
        try:
            local = datetime(*(int(part) for part in found.groups()))  # type: ignore[arg-type]
        except ValueError:
            continue
        digits = _words(exif, fraction) or ""
        digits = digits if digits.isdecimal() else ""
        header["DATE-LOC"] = (_stamp(local, digits), "start of exposure, clock of the camera")
        offset = _offset(exif, zone)
        if offset is not None:
            _set_utc(header, local, digits, offset, "EXIF")
        return


def _set_utc(header: fits.Header, local: datetime, digits: str, offset: timedelta, source: str) -> None:
    header["DATE-OBS"] = (_stamp(local - offset, digits), "UTC at the start of exposure")
    header["TIMESYS"] = ("UTC", "time scale of DATE-OBS")
    header["TZOFFSET"] = (offset / timedelta(hours=1), f"[h] local time minus UTC ({source})")


def _stamp(moment: datetime, digits: str) -> str:
    return moment.isoformat(timespec="seconds") + (f".{digits}" if digits else "")


def _offset(exif: Mapping[str, Any], zone: str) -> timedelta | None:
    # A camera has one clock: where the offset of this date is missing, that of another one holds.
    for name in (zone, *(clock[2] for clock in _CLOCKS)):
        found = _OFFSET.match(_words(exif, name) or "")
        if found is not None:
            sign, hours, minutes, _ = found.groups()
            size = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
            return None if size > _MAX_OFFSET else (-size if sign == "-" else size)
    # TIFF/EP (ISO 12234-2): whole hours.
    hours = exif.get("EXIF TimeZoneOffset", exif.get("Image TimeZoneOffset"))
    if isinstance(hours, list) and hours and abs(hours[0]) <= 14:
        return timedelta(hours=hours[0])
    return None


def _words(exif: Mapping[str, Any], *names: str) -> str | None:
    """First text with a letter or digit in it, as FITS can hold it."""
    for name in names:
        value = exif.get(name)
        value = value.decode("latin-1") if isinstance(value, bytes) else value
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], int):
            value = str(value[0])
        if isinstance(value, str) and any(letter.isalnum() for letter in value):
            return "".join(letter if " " <= letter <= "~" else "?" for letter in " ".join(value.split()))
    return None


def _positive(exif: Mapping[str, Any], *names: str, most: float = float("inf")) -> float | None:
    """First number above 0: cameras write 0, or n/0, for what they do not know."""
    for name in names:
        value = exif.get(name)
        first = value[0] if isinstance(value, list) and value else None
        if isinstance(first, (int, Fraction)) and first.denominator and 0 < first < most:
            return float(first)
    return None


def _iso(exif: Mapping[str, Any]) -> int | None:
    # 65535 is all that the 16-bit tag can say of higher speeds; the exact one then stands in the other tags.
    names = ("EXIF ISOSpeedRatings", "Image ISOSpeedRatings", "EXIF ISOSpeed", "EXIF RecommendedExposureIndex")
    found = [size for size in (_positive(exif, name) for name in names) if size is not None]
    return int(next((size for size in found if size != 65535), found[0])) if found else None


def _camera(exif: Mapping[str, Any]) -> str | None:
    """Maker and model, the maker only once: "Canon" and "Canon EOS 6D" are "Canon EOS 6D"."""
    maker, model = _words(exif, "Image Make"), _words(exif, "Image Model", "Image Tag 0xC614")
    if maker is None or model is None:
        return model or maker
    short = " ".join(_COMPANY.sub("", maker).replace(",", " ").split()) or maker
    return model if model.lower().startswith(short.split()[0].lower()) else f"{short} {model}"


def _temperature(exif: Mapping[str, Any]) -> float | None:
    for name, value in exif.items():
        found = re.match(r"^\s*(-?\d+(?:\.\d+)?) ?C?\s*$", str(value)) if name.endswith("CameraTemperature") else None
        if found is not None and -60.0 < float(found.group(1)) < 100.0:
            return float(found.group(1))
    return None


def _add_site(header: fits.Header, exif: Mapping[str, Any]) -> None:
    latitude = _degrees(exif, "GPS GPSLatitude", "S", 90.0)
    longitude = _degrees(exif, "GPS GPSLongitude", "W", 180.0)
    if latitude is None or longitude is None or (latitude, longitude) == (0.0, 0.0):
        return
    header["SITELAT"] = (latitude, "[deg] latitude by the camera's GPS")
    header["SITELONG"] = (longitude, "[deg] longitude, east positive")
    height = _positive(exif, "GPS GPSAltitude", most=9000.0)
    if height is not None:
        below = exif.get("GPS GPSAltitudeRef") == [1]
        header["SITEELEV"] = (-height if below else height, "[m] height above the sea")


def _degrees(exif: Mapping[str, Any], name: str, negative: str, most: float) -> float | None:
    parts, letter = exif.get(name), _words(exif, f"{name}Ref")
    if not isinstance(parts, list) or len(parts) != 3 or letter is None or not all(isinstance(part, (int, Fraction)) for part in parts):
        return None
    if not all(part.denominator for part in parts):
        return None
    size = float(sum(part / 60**power for power, part in enumerate(parts)))
    return None if size > most else (-size if letter.upper().startswith(negative) else size)
