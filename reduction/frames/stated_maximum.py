"""DATAMAX: a level above which values count for nothing, as some observatories write it, or the brightest pixel of a frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reduction.files.fits import RawImage
from reduction.headers.facts import Facts

__all__ = ["with_stated_maximum"]

#: A level has that many pixels at it, where any: one or two are the brightest star's, of which the keyword tells then.
_PILED = 3


def with_stated_maximum(found: Facts, raw: RawImage) -> Facts:
    """The facts with DATAMAX as the saturation level, where the header has no other and the pixels say that it is one.

    Parameters
    ----------
    found : Facts
    raw : RawImage
        Its pixels are all at the level or below; only where several are at it, or none, it is more than the brightest pixel.
    """
    level = raw.header.get("DATAMAX")
    if (
        found.saturation is not None
        or isinstance(level, bool)
        or not isinstance(level, int | float)
        or not np.isfinite(level)
        or level <= 0
    ):
        return found
    above, at = int(np.count_nonzero(raw.data > level)), int(np.count_nonzero(raw.data == np.float32(level)))
    if above or 0 < at < _PILED:
        return found
    return replace(found, saturation=float(level))
