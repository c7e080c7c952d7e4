"""Bits of pixel masks and of measurement flags.

Constants, decoder and documentation all follow from the two enumerations.
This module is a leaf: it imports the standard library only.
"""

from __future__ import annotations

from enum import IntFlag

__all__ = ["MASK_TEXT", "FLAG_TEXT", "Flag", "Mask", "decode"]


class Mask(IntFlag):
    """Bits of a calibrated frame's pixel mask (uint8 image plane)."""

    NO_DATA = 1
    SATURATED = 2
    HOT = 4
    DEAD = 8
    COSMIC = 16
    BLEED = 32
    NEIGHBOUR = 64


MASK_TEXT: dict[Mask, str] = {
    Mask.NO_DATA: "pixel has no value: outside the trim section, NaN, or without a valid master pixel",
    Mask.SATURATED: "raw value at or above the saturation level",
    Mask.HOT: "hot in the master dark, or on all frames of the night where there is none",
    Mask.DEAD: "response in the master flat too low to correct",
    Mask.COSMIC: "hit by a cosmic ray",
    Mask.BLEED: "charge trail that leaves a saturated pixel",
    Mask.NEIGHBOUR: "next to a saturated or bled pixel; has a value, and sets no flag by itself",
}


class Flag(IntFlag):
    """Bits of ``measurement.flags`` (and of ``detection.flags``)."""

    SATURATED = 1
    EDGE = 2
    BAD_PIXEL = 4
    COSMIC = 8
    BLENDED = 16
    COLOUR_ASSUMED = 32


FLAG_TEXT: dict[Flag, str] = {
    Flag.SATURATED: "a saturated pixel lies within the flag radius (2 FWHM unless set otherwise)",
    Flag.EDGE: "the largest aperture is cut by the frame's edge; what is beyond is filled from the profile, or the flux is missing",
    Flag.BAD_PIXEL: "a masked pixel (no data, hot, dead, bleed) lies within the flag radius",
    Flag.COSMIC: "a cosmic-ray hit lies within the flag radius",
    Flag.BLENDED: "of the light in the largest aperture, more than a twentieth (unless set otherwise) is other stars'; "
    "of a detection: a neighbour within 2 FWHM is not fainter by 3 mag or more",
    Flag.COLOUR_ASSUMED: "the colour used in the magnitude fit is assumed, not measured",
}


def decode(bits: int, kind: type[Flag] | type[Mask] = Flag) -> list[str]:
    """Names of the bits set in `bits`, lowest first.

    >>> decode(5)
    ['SATURATED', 'BAD_PIXEL']
    """
    return [flag.name for flag in kind if flag.name is not None and bits & flag]
