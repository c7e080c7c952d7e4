"""Which catalogue magnitude a passband is compared with, and the Johnson, Cousins and Sloan magnitudes that Gaia's make up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reduction.kernels.arrays import BoolArray, FloatArray

__all__ = ["GAIA_RELATIONS", "bands_for", "choose_band", "from_gaia"]

#: G minus the band as a polynomial in BP - RP, with the colours that it holds for: Gaia DR3 documentation, section 5.5.1, tables 5.7
#: to 5.9 (Riello et al. 2021, A&A 649, A3). A star is off by 0.03 to 0.07 mag.
GAIA_RELATIONS: dict[str, tuple[tuple[float, ...], float, float]] = {
    "B": ((0.01448, -0.6874, -0.3604, 0.06718, -0.006061), -0.5, 4.0),
    "V": ((-0.02704, 0.01424, -0.2156, 0.01426), -0.5, 5.0),
    "R": ((-0.02275, 0.3961, -0.1243, -0.01396, 0.003775), 0.0, 4.0),
    "I": ((0.01753, 0.76, -0.0991), -0.5, 4.5),
    "g": ((0.2199, -0.6365, -0.1548, 0.0064), 0.3, 3.0),
    "r": ((-0.09837, 0.08592, 0.1907, -0.1701, 0.02263), 0.0, 3.0),
    "i": ((-0.293, 0.6404, -0.09609, -0.002104), 0.5, 2.0),
}

#: Bands to compare with, the nearest first. A band with * is made up from Gaia's.
_BLUE = ("B", "B*", "BT", "BP", "g", "V", "G")
_VISUAL = ("V", "V*", "VT", "G", "g", "r")
_RED = ("R", "R*", "r", "r*", "RP", "G", "V", "VT")
_INFRARED = ("I", "I*", "i", "i*", "RP", "G", "V")
_ALL_LIGHT = ("G", "r", "V", "VT", "R", "g")
_NEAREST: dict[str, tuple[str, ...]] = {
    "b": _BLUE,
    "v": _VISUAL,
    "r": _RED,
    "i": _INFRARED,
    "g'": ("g", "g*", "V", "V*", "BP", "G", "VT"),
    "r'": ("r", "r*", "R", "R*", "RP", "G", "V", "VT"),
    "i'": ("i", "i*", "I", "I*", "RP", "G"),
    "z'": ("z", "RP", "i", "i*", "G"),
    "bp": ("BP", "B", "B*", "G"),
    "rp": ("RP", "I", "I*", "G"),
    "j": ("J", "H", "K", "RP", "G"),
    "h": ("H", "K", "J", "RP", "G"),
    "k": ("K", "H", "J", "RP", "G"),
    "clear": _ALL_LIGHT,
}
_NAMES: dict[str, str] = {
    **dict.fromkeys(("b", "johnson b", "bessell b", "bj", "tb", "blue"), "b"),
    **dict.fromkeys(("v", "johnson v", "bessell v", "vj", "tg", "green", "visual", "g"), "v"),
    **dict.fromkeys(("r", "rc", "cousins r", "johnson r", "bessell r", "tr", "red"), "r"),
    **dict.fromkeys(("i", "ic", "cousins i", "johnson i", "bessell i"), "i"),
    **dict.fromkeys(("g'", "gp", "sg", "sdss g", "sloan g", "g_sdss"), "g'"),
    **dict.fromkeys(("r'", "rp'", "sr", "sdss r", "sloan r", "r_sdss"), "r'"),
    **dict.fromkeys(("i'", "ip", "si", "sdss i", "sloan i", "i_sdss"), "i'"),
    **dict.fromkeys(("z'", "zp", "sz", "sdss z", "sloan z", "z_sdss", "z"), "z'"),
    **dict.fromkeys(("bp", "g_bp"), "bp"),
    **dict.fromkeys(("rp", "g_rp"), "rp"),
    **dict.fromkeys(("j",), "j"),
    **dict.fromkeys(("h",), "h"),
    **dict.fromkeys(("k", "ks"), "k"),
}
#: Small letters are Sloan's, where capitals are another system's.
_SMALL = {"g": "g'", "r": "r'", "i": "i'", "z": "z'"}
#: The colours of a mosaic are broad: its green is compared with V, as that of three-colour photometry is.
_OF_MOSAIC = {"R": "r", "G1": "v", "G2": "v", "B": "b"}

#: A nearer band is taken where it has this part of the stars that the fullest one has, but no fewer than the first number, and the second
#: is enough: of a catalogue that has a band for its brightest stars only, ten stars of half a magnitude would stand for all.
_PART = 0.25
_FEW, _MANY = 10, 50


def bands_for(passband: str, channel: str = "mono") -> tuple[str, ...]:
    """Catalogue bands that a passband may be compared with, the nearest first; ``*`` behind those that are made up from Gaia's.

    Parameters
    ----------
    passband : str
        Name of the filter, as the headers have it; any that is not known lets all light through.
    channel : str
        'mono', or a channel of a Bayer mosaic, whose colour counts and not the filter before it.
    """
    name = passband.strip()
    return _NEAREST[_OF_MOSAIC.get(channel) or _SMALL.get(name) or _NAMES.get(name.lower(), "clear")]


def from_gaia(g: FloatArray, colour: FloatArray, band: str) -> FloatArray:
    """A magnitude made up from Gaia's, shape (n,); NaN where the colour is beyond what the relation was made from.

    Parameters
    ----------
    g : float64, shape (n,)
        Gaia's G (mag).
    colour : float64, shape (n,)
        BP - RP (mag).
    band : str
        One of `GAIA_RELATIONS`.
    """
    polynomial, first, last = GAIA_RELATIONS[band]
    inside = (colour >= first) & (colour <= last)
    return np.where(inside, g - np.polynomial.polynomial.polyval(colour, polynomial), np.nan)


def choose_band(wanted: Sequence[str], values: Mapping[str, FloatArray], stars: BoolArray) -> tuple[str, FloatArray] | None:
    """The nearest band that enough stars have, and their magnitudes in it; None where no band has any.

    Parameters
    ----------
    wanted : sequence of str
        As from `bands_for`.
    values : mapping of band to float64, shape (n,)
        What the catalogues have (mag); NaN where unknown.
    stars : bool, shape (n,)
        Stars that count.

    Returns
    -------
    (str, float64 of shape (n,)) or None
        Enough is a quarter of what the fullest of the wanted bands has: ten at least, and fifty always are.
    """
    there = {band: found for band in wanted if (found := _magnitudes(band, values)) is not None}
    number = {band: int(np.count_nonzero(np.isfinite(found) & stars)) for band, found in there.items()}
    most = max(number.values(), default=0)
    if not most:
        return None
    enough = min(most, max(_FEW, min(_PART * most, _MANY)))
    band = next(band for band in there if number[band] >= enough)
    return band, there[band]


def _magnitudes(band: str, values: Mapping[str, FloatArray]) -> FloatArray | None:
    if not band.endswith("*"):
        return values.get(band)
    if not {"G", "BP", "RP"} <= values.keys():
        return None
    return from_gaia(values["G"], values["BP"] - values["RP"], band[:-1])
