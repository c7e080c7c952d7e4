"""Every step, imported in the order of the night; importing this module registers them all.

The shape map comes between discover and background, the PSF map between
background and photometry, when they are written.
"""

from reduction import (  # noqa: I001  (the order is the night's)
    ingest,
    sort,
    detector,
    masters,
    calibrate,
    extract,
    catalogue,
    solve,
    field,
    discover,
    background,
    slots,
    photometry,
    magfit,
    lightcurve,
)

__all__ = [
    "background",
    "calibrate",
    "catalogue",
    "detector",
    "discover",
    "extract",
    "field",
    "ingest",
    "lightcurve",
    "magfit",
    "masters",
    "photometry",
    "slots",
    "solve",
    "sort",
]
