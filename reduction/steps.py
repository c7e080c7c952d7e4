"""Every step; importing this module declares them all and puts them in order.

The PSF map will come between pattern and photometry.
"""

from __future__ import annotations

from reduction import (
    background,
    calibrate,
    catalogue,
    detector,
    discover,
    distortion,
    extract,
    field,
    flats,
    ingest,
    lightcurve,
    linearity,
    magfit,
    masters,
    pattern,
    photometry,
    refine,
    shapes,
    slots,
    solve,
    sort,
    stars,
)
from reduction.catalogues import fetch
from reduction.step import put_in_order

__all__ = [
    "background",
    "calibrate",
    "catalogue",
    "detector",
    "discover",
    "distortion",
    "extract",
    "fetch",
    "field",
    "flats",
    "ingest",
    "lightcurve",
    "linearity",
    "magfit",
    "masters",
    "pattern",
    "photometry",
    "refine",
    "shapes",
    "slots",
    "solve",
    "sort",
    "stars",
]

put_in_order()
