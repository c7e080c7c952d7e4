"""All tables, by name: import from here to have the metadata complete."""

from __future__ import annotations

from db.astrometry import Detection, DetectionMatch, Distortion, FirstSolution, FrameCoverage, ShapeMap, WcsSolution
from db.base import Base
from db.calibration import CalibratedFrame, DarkLinearity, Detector, Master, MasterChoice, MasterFrame, RefusedFrame
from db.catalogues import Catalogue, CatalogueCoverage, Source, SourceLink, SourceMagnitude, SourceName, SourceNeighbour
from db.frames import (
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
from db.photometry import N_SLOT, FrameBackground, Measurement, PhotometrySlot
from db.pipeline import Annotation, Config, Lineage, Product, Run, StepCheck, Task

__all__ = [
    "N_SLOT",
    "Annotation",
    "Base",
    "BestSlot",
    "CalibratedFrame",
    "Catalogue",
    "CatalogueCoverage",
    "Config",
    "DarkLinearity",
    "Detection",
    "DetectionMatch",
    "Detector",
    "Distortion",
    "Exposure",
    "ExposureStatistics",
    "Field",
    "FirstSolution",
    "Frame",
    "FrameBackground",
    "FrameCoverage",
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
    "StepCheck",
    "Target",
    "Task",
    "TypeCorrection",
    "WcsSolution",
]
