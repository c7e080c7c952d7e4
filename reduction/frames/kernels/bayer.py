"""The four colour channels of a Bayer mosaic, each an image of its own that remembers where on the mosaic its pixels lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHANNELS", "Channel", "channels_of", "pattern_at"]

CHANNELS = ("R", "G1", "G2", "B")
"""Names of the channels; G1 shares its rows with R, G2 with B."""

_PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")


@dataclass(frozen=True)
class Channel:
    """A cut through a raw image: raw x = x0 + step * x, raw y = y0 + step * y.

    Attributes
    ----------
    name : str
        'mono', or one of `CHANNELS`.
    x0, y0 : int
        Raw pixel of the channel's pixel (0, 0).
    step : int
        2 for a channel of a mosaic, else 1.
    nx, ny : int
        Size of the channel, pixel.
    """

    name: str
    x0: int
    y0: int
    step: int
    nx: int
    ny: int

    def cut(self, raw: NDArray[np.generic]) -> NDArray[np.generic]:
        """The channel's pixels of a raw image, shape (ny, nx), as a view."""
        y1, x1 = self.y0 + self.step * (self.ny - 1) + 1, self.x0 + self.step * (self.nx - 1) + 1
        return raw[self.y0 : y1 : self.step, self.x0 : x1 : self.step]


def pattern_at(bayer: str, x: int, y: int) -> str:
    """The pattern of a mosaic as seen from its pixel (x, y).

    Parameters
    ----------
    bayer : str
        Colours of the pixels (0, 0), (1, 0), (0, 1), (1, 1), such as RGGB.
    x, y : int
        Pixel.

    Raises
    ------
    ValueError
        If `bayer` is no Bayer pattern.
    """
    if bayer not in _PATTERNS:
        raise ValueError(f"{bayer!r} is no Bayer pattern; those are {', '.join(_PATTERNS)}")
    return "".join(bayer[2 * ((row + y) % 2) + (column + x) % 2] for row in (0, 1) for column in (0, 1))


def channels_of(bayer: str | None, section: tuple[int, int, int, int]) -> list[Channel]:
    """The channels of a raw image.

    Parameters
    ----------
    bayer : str or None
        Pattern at the raw image's pixel (0, 0); None for a monochrome detector.
    section : tuple of int
        Part with light, (x0, x1, y0, y1), 0-based, half open.

    Returns
    -------
    list of Channel
        One called 'mono', or R, G1, G2 and B in that order, all of the same size: an odd row or column at the end is left out.

    Raises
    ------
    ValueError
        If `bayer` is no Bayer pattern.
    """
    x0, x1, y0, y1 = section
    if bayer is None:
        return [Channel("mono", x0, y0, 1, x1 - x0, y1 - y0)]
    here = pattern_at(bayer, x0, y0)
    row_of_red = here.index("R") // 2
    found = []
    for place, colour in enumerate(here):
        row, column = divmod(place, 2)
        name = colour if colour != "G" else "G1" if row == row_of_red else "G2"
        found.append(Channel(name, x0 + column, y0 + row, 2, (x1 - x0) // 2, (y1 - y0) // 2))
    return sorted(found, key=lambda channel: CHANNELS.index(channel.name))
