"""Every step; importing this module declares them all and puts them in order.

The PSF map will come between fixed_pattern and photometry.
"""

from __future__ import annotations

import importlib

from reduction.pipeline.declaration import put_in_order

_MODULES = (
    "frames.ingest_step",
    "frames.classify_step",
    "calibration.detector_step",
    "calibration.bias_dark_step",
    "calibration.flat_step",
    "calibration.dark_scaling_step",
    "calibration.calibrate_step",
    "catalogues.catalogue_step",
    "catalogues.fetch_step",
    "astrometry.detect_step",
    "astrometry.solve_step",
    "astrometry.field_step",
    "astrometry.discover_step",
    "astrometry.distortion_step",
    "astrometry.refine_step",
    "photometry.background_step",
    "calibration.fixed_pattern_step",
    "photometry.shapes_step",
    "photometry.slots_step",
    "photometry.photometry_step",
    "lightcurves.field_colours_step",
    "lightcurves.magnitude_fit_step",
    "lightcurves.statistics_step",
)

for _name in _MODULES:
    importlib.import_module(f"reduction.{_name}")

put_in_order()
