"""All tables, by name: import from here to have the metadata complete."""

from __future__ import annotations

from db.astrometry import (
    Detection,
    DetectionMatch,
    DetectionSummary,
    Distortion,
    FirstSolution,
    FrameCoverage,
    FrameField,
    ShapeMap,
    WcsSolution,
)
from db.base import Base
from db.calibration import CalibratedFrame, DarkLinearity, Detector, Master, MasterChoice, MasterFrame, RefusedFrame
from db.catalogues import Catalogue, CatalogueCoverage, Source, SourceLink, SourceMagnitude, SourceName, SourceNeighbour
from db.frames import (
    Classification,
    Exposure,
    ExposureStatistics,
    Field,
    Frame,
    Instrument,
    Night,
    Observatory,
    Passband,
    Setup,
    TypeCorrection,
)
from db.lightcurves import BestSlot, LightcurveStatistics, MagfitReference, MagfitSolution, ReferenceMagnitude, Target
from db.photometry import N_SLOT, FrameBackground, FramePhotometry, Measurement, PhotometrySlot
from db.pipeline import Annotation, Config, Lineage, Product, Run, Task

__all__ = [
    "N_SLOT",
    "Annotation",
    "Base",
    "BestSlot",
    "CalibratedFrame",
    "Catalogue",
    "CatalogueCoverage",
    "Classification",
    "Config",
    "DarkLinearity",
    "Detection",
    "DetectionMatch",
    "DetectionSummary",
    "Detector",
    "Distortion",
    "Exposure",
    "ExposureStatistics",
    "Field",
    "FirstSolution",
    "Frame",
    "FrameBackground",
    "FrameCoverage",
    "FrameField",
    "FramePhotometry",
    "Instrument",
    "LightcurveStatistics",
    "Lineage",
    "MagfitReference",
    "MagfitSolution",
    "Master",
    "MasterChoice",
    "MasterFrame",
    "Measurement",
    "Night",
    "Observatory",
    "Passband",
    "PhotometrySlot",
    "Product",
    "ReferenceMagnitude",
    "RefusedFrame",
    "Run",
    "Setup",
    "ShapeMap",
    "Source",
    "SourceLink",
    "SourceMagnitude",
    "SourceName",
    "SourceNeighbour",
    "Target",
    "Task",
    "TypeCorrection",
    "WcsSolution",
]
