"""What a header can say of a frame: every fact with its unit, its limits and the units it may be written in.

Instrument definitions, their checks, the reader of headers, the command
``starledger header`` and the page ``docs/instruments.md`` all go by this list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["BAYER_PATTERNS", "FACTS", "PER_STEP", "SETTINGS", "FactKind", "convert"]

#: Colours of the first 2 x 2 pixels, row by row.
BAYER_PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")
#: Unit of a gain that holds for a step of the camera's converter, which several ADU may stand for.
PER_STEP = "electron/step"
_NO_LIMIT = float("inf")
_KELVIN = 273.15
_RADIAN = 57.29577951308232  # degrees
#: Where the unit is not stated: no detector is as warm as 100 degrees Celsius, or as cold as 100 kelvin and still above zero Celsius.
_CERTAINLY_KELVIN = 100.0


@dataclass(frozen=True)
class FactKind:
    """One fact.

    Attributes
    ----------
    name : str
        As in ``[keywords]``, ``[default]`` and ``[override]``.
    form : str
        ``number``, ``angle`` (a number or sexagesimal text), ``text``, ``section`` (a FITS section) or ``truth``.
    unit : str
        Unit of its value; empty for a text or a plain number.
    meaning : str
        One line for the documentation.
    low, high : float
        Allowed values, both included.
    above_zero : bool
        Zero and less are no values.
    written : mapping of str to callable
        Units that ``[units]`` may name, the usual one first, and how each becomes `unit`.
    given : bool
        It may stand in ``[default]`` and ``[override]``.
    agree : float or None
        How far two keywords may be apart, in `unit`, before a note says that they disagree; None where they name different things.
    agree_part : float
        The same, as a part of the value.
    """

    name: str
    form: str
    unit: str
    meaning: str
    low: float = -_NO_LIMIT
    high: float = _NO_LIMIT
    above_zero: bool = False
    written: Mapping[str, Callable[[float], float]] = field(default_factory=dict)
    given: bool = True
    agree: float | None = 0.0
    agree_part: float = 0.0

    def allows(self, value: float) -> bool:
        """Whether a number is a possible value."""
        return self.low <= value <= self.high and (value > 0 or not self.above_zero)

    @property
    def range(self) -> str:
        """Its limits, for people."""
        return f"{self.low:g} to {self.high:g} {self.unit}".rstrip()

    def disagree(self, one: float, other: float) -> bool:
        """Whether two numbers for it cannot both be meant."""
        return self.agree is not None and abs(one - other) > max(self.agree, self.agree_part * max(abs(one), abs(other))) * (1 + 1e-9)


def _times(factor: float) -> Callable[[float], float]:
    return lambda value: value * factor


def _kelvin_if_high(value: float) -> float:
    return value - _KELVIN if value > _CERTAINLY_KELVIN else value


def _from_kelvin(value: float) -> float:
    # -1 and 0 stand for "no data" where kelvin is the unit.
    return value - _KELVIN if value > 0 else float("nan")


def _from_fahrenheit(value: float) -> float:
    return (value - 32.0) / 1.8


def _inverse(value: float) -> float:
    return 1.0 / value if value else float("nan")


def _same(value: float) -> float:
    return value


_SECONDS = {"s": _same, "ms": _times(1e-3), "us": _times(1e-6), "min": _times(60.0), "hour": _times(3600.0), "day": _times(86400.0)}
_LENGTHS = {"micron": _same, "mm": _times(1e3), "m": _times(1e6)}
_TEMPERATURES = {"auto": _kelvin_if_high, "celsius": _same, "kelvin": _from_kelvin, "fahrenheit": _from_fahrenheit}
_ANGLES = {"degree": _same, "radian": _times(_RADIAN)}

_LIST = (
    FactKind("imagetyp", "text", "", "type of the frame as the observer wrote it; `image_types` says what it means"),
    FactKind("exptime", "number", "s", "exposure time", 0.0, 1e6, written=_SECONDS, agree=2e-3, agree_part=1e-3),
    FactKind("object", "text", "", "what was observed"),
    FactKind("filter", "text", "", "filter"),
    FactKind("telescope", "text", "", "telescope", agree=None),
    FactKind("site_name", "text", "", "name of the site", agree=None),
    FactKind("latitude", "angle", "deg", "geodetic latitude of the site", -90.0, 90.0, written=_ANGLES, agree=0.01),
    FactKind(
        "longitude", "angle", "deg", "longitude of the site, east positive", -360.0, 360.0, agree=0.01,
        written={"east": _same, "west": _times(-1.0), "radian": _times(_RADIAN)},
    ),
    FactKind(
        "height", "number", "m", "height of the site", -500.0, 9000.0, agree=50.0,
        written={"m": _same, "km": _times(1e3), "feet": _times(0.3048)},
    ),
    FactKind(
        "ra", "angle", "deg", "right ascension pointed at", 0.0, 360.0, agree=1.0,
        written={"degree": _same, "hour": _times(15.0), "radian": _times(_RADIAN)},
    ),
    FactKind("dec", "angle", "deg", "declination pointed at", -90.0, 90.0, written=_ANGLES, agree=1.0),
    FactKind("orientation", "number", "deg", "position angle of the camera", -720.0, 720.0, written=_ANGLES, agree=None),
    FactKind(
        "pixel_scale", "number", "arcsec", "sky on a pixel as stored, that is after binning", 1e-4, 3600.0, above_zero=True,
        agree_part=0.05,
        written={"arcsec": _same, "arcmin": _times(60.0), "deg": _times(3600.0), "radian": _times(3600.0 * _RADIAN)},
    ),
    FactKind("pixel_size", "number", "micron", "size of a pixel as stored, after binning", 0.01, 1e5, above_zero=True,
        written=_LENGTHS, agree_part=0.02,
    ),
    FactKind("unbinned_pixel_size", "number", "micron", "size of a pixel of the chip, before binning", 0.01, 1e5, above_zero=True,
        written=_LENGTHS, agree_part=0.02,
    ),
    FactKind(
        "focal_length", "number", "mm", "focal length", 0.1, 1e7, above_zero=True, agree_part=0.05,
        written={"mm": _same, "cm": _times(10.0), "m": _times(1e3), "inch": _times(25.4)},
    ),
    FactKind("aperture", "number", "", "f-number: focal length over diameter", 0.1, 1e4, above_zero=True, agree_part=0.05),
    FactKind("lens", "text", "", "lens", agree=None),
    FactKind("camera_serial", "text", "", "serial number of the camera", agree=None),
    FactKind("binning", "text", "", "binning of both axes, such as `2x2`", given=False),
    FactKind("binning_x", "number", "pixel", "pixels of the chip in a stored one, along x", 1.0, 128.0),
    FactKind("binning_y", "number", "pixel", "the same along y", 1.0, 128.0),
    FactKind(
        "gain", "number", "electron/ADU", "electrons a stored unit stands for", 1e-6, 1e6, above_zero=True, agree_part=0.02,
        written={"electron/ADU": _same, "ADU/electron": _inverse, PER_STEP: _same},
    ),
    FactKind(
        "read_noise", "number", "electron", "read noise", 1e-6, 1e6, above_zero=True, agree_part=0.05,
        written={"electron": _same, "ADU": _same},
    ),
    FactKind(
        "saturation", "number", "ADU", "white level: pixels at or above it are saturated", 1e-6, 1e10, above_zero=True, agree_part=0.1,
        written={"ADU": _same, "electron": _same},
    ),
    FactKind("black_level", "number", "ADU", "black level the camera adds", 0.0, 1e10),
    FactKind("gain_setting", "number", "", "position of the gain knob, or ISO speed", 0.0, 1e8, agree=None),
    FactKind("offset_setting", "number", "", "position of the offset knob", 0.0, 1e8),
    FactKind("read_mode", "text", "", "read-out mode", agree=None),
    FactKind("ccd_temperature", "number", "deg C", "temperature of the detector", -_KELVIN, 100.0, written=_TEMPERATURES, agree=2.0),
    FactKind("set_temperature", "number", "deg C", "temperature the cooler was set to", -_KELVIN, 100.0, written=_TEMPERATURES, agree=1.0),
    FactKind("trim", "section", "pixel", "the part with sky"),
    FactKind("overscan", "section", "pixel", "the part without light"),
    FactKind("bayer", "text", "", "Bayer pattern, with its offsets and row order; given, that at pixel (0, 0) as stored, or `none`"),
    FactKind("bayer_x_offset", "number", "pixel", "column of the pattern that the first column is", -1e6, 1e6, given=False),
    FactKind("bayer_y_offset", "number", "pixel", "row of the pattern that the top row is", -1e6, 1e6, given=False),
    FactKind("row_order", "text", "", "`TOP-DOWN`, or `BOTTOM-UP` where the first row stored is the bottom of the picture", given=False),
    FactKind("bias_done", "truth", "", "a bias was subtracted", given=False),
    FactKind("dark_done", "truth", "", "a dark was subtracted", given=False),
    FactKind("flat_done", "truth", "", "it was divided by a flat", given=False),
    FactKind("overscan_done", "truth", "", "the overscan was subtracted: `overscan` is not used", given=False),
    FactKind("trim_done", "truth", "", "it was trimmed: `trim` and `overscan` are not used", given=False),
)  # fmt: skip

#: Every fact by name, in the order of the documentation.
FACTS: Mapping[str, FactKind] = MappingProxyType({kind.name: kind for kind in _LIST})

#: What ``[default]`` and ``[override]`` know besides facts: name to (unit, meaning, tables it may stand in).
SETTINGS: Mapping[str, tuple[str, str, tuple[str, ...]]] = MappingProxyType(
    {
        "utc_offset": ("h", "how far the camera's local clock is ahead of UTC: 2 for UTC+2, -7 for UTC-7", ("default", "override")),
        "date_obs": ("", "start of the exposure, UTC unless an offset stands behind it: `2024-03-08T21:04:05.5`", ("default", "override")),
        "date_from_name": (
            "",
            "how the start of the exposure stands in the file's name: `%Y%m%d_%H%M%S`; local time by `utc_offset`",
            ("default", "override"),
        ),
        "time_offset": ("s", "added to every time", ("override",)),
        "time_sigma": ("s", "least uncertainty of a time", ("override",)),
    }
)  # fmt: skip


def convert(name: str, value: float, written: str | None) -> float:
    """Bring a number of a header to the unit of its fact.

    Parameters
    ----------
    name : str
        Fact.
    value : float
        Number as written.
    written : str or None
        Unit it is written in, one of ``FACTS[name].written``; the usual one when None.

    Returns
    -------
    float
        NaN for what stands for "no data" in that unit.
    """
    units = FACTS[name].written
    if not units:
        return value
    return units[written if written is not None else next(iter(units))](value)
