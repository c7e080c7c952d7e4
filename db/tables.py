"""All tables, by name: import from here to have the metadata complete."""

from __future__ import annotations

from db.astrometry import Detection, WcsSolution
from db.base import Base
from db.calibration import CalibratedFrame, Master, MasterFrame
from db.catalogue import Catalogue, Source, SourceMagnitude, SourceName
from db.lightcurve import LightcurveStatistics, Target
from db.magfit import BestSlot, MagfitReference, MagfitSolution, ReferenceMagnitude
from db.observing import Detector, Exposure, Field, Frame, FrameStatistics, Instrument, Night, Observatory, Passband
from db.photometry import N_SLOT, FrameBackground, Measurement, PhotometrySlot
from db.provenance import Annotation, Config, Lineage, Product, Run, Task

__all__ = [
    "N_SLOT",
    "Annotation",
    "Base",
    "BestSlot",
    "CalibratedFrame",
    "Catalogue",
    "Config",
    "Detection",
    "Detector",
    "Exposure",
    "Field",
    "Frame",
    "FrameBackground",
    "FrameStatistics",
    "Instrument",
    "LightcurveStatistics",
    "Lineage",
    "MagfitReference",
    "MagfitSolution",
    "Master",
    "MasterFrame",
    "Measurement",
    "Night",
    "Observatory",
    "Passband",
    "PhotometrySlot",
    "Product",
    "ReferenceMagnitude",
    "Run",
    "Source",
    "SourceMagnitude",
    "SourceName",
    "Target",
    "Task",
    "WcsSolution",
]
