"""The night from top to bottom: every step, a line each, in the order in which they are worked.

Who reads this list knows the pipeline. A step's module (`reduction/<topic>/<module>.py`) is imported when the step is first
asked for, so whoever wants only the names imports no numerics.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reduction.pipeline.declaration import Step

__all__ = ["NIGHT", "STEPS", "TOPICS", "Line", "Steps"]

#: Topics in the order of the night, and what each is about.
TOPICS = {
    "frames": "From raw files to frames of known type",
    "calibration": "From raw frames to calibrated ones",
    "catalogues": "Stars that are known",
    "astrometry": "From calibrated frames to plate solutions and sources",
    "photometry": "From plate solutions to fluxes",
    "lightcurves": "From fluxes to light curves",
}


@dataclass(frozen=True)
class Line:
    """One step of the night.

    Attributes
    ----------
    topic : str
        Folder of its module.
    name : str
        Name on the command line, in the configuration and in `task.step`.
    per : str
        What it works on.
    summary : str
        One sentence for people.
    module : str
        Name of its module in the topic's folder.
    """

    topic: str
    name: str
    per: str
    summary: str
    module: str


def _line(topic: str, name: str, per: str, summary: str, module: str = "") -> Line:
    return Line(topic, name, per, summary, module or f"{name}_step")


NIGHT: tuple[Line, ...] = (
    _line("catalogues", "catalogue", "catalogue", "Take in a catalogue file: positions, proper motions, magnitudes, colours and names."),
    _line("frames", "ingest", "file", "Take in raw files: camera formats become FITS; header facts, exact times, geometry, statistics."),
    _line("frames", "classify", "frame", "Tell bias, dark, flat and object frames apart, with evidence; a person's correction wins."),
    _line("calibration", "detector", "night", "Gain, read noise, zero level and saturation: given, or measured from the frames."),
    _line("calibration", "bias", "night", "Stack bias frames into a master: clipped mean, outlier frames discarded.", "bias_dark_step"),
    _line("calibration", "dark", "night", "Stack de-biased dark frames into a master, and mark hot pixels.", "bias_dark_step"),
    _line("calibration", "dark_scaling", "instrument", "Compare master darks: only where they agree may one be scaled down."),
    _line("calibration", "large_scale_flat", "night", "Stack a night's smoothed flats; cloudy, weak and saturated ones go.", "flat_step"),
    _line("calibration", "flat", "night", "Match each flat to the large-scale flat and stack them into the master flat.", "flat_step"),
    _line("calibration", "calibrate", "frame", "Take off bias and dark, divide by the flat; carry variance and mask, mark cosmic rays."),
    _line("astrometry", "detect", "frame", "Detect stars and measure their positions and shapes."),
    _line("catalogues", "fetch", "piece of sky", "Ask services for the catalogue stars around the frames; off unless [fetch] names some."),
    _line("astrometry", "solve", "frame", "Find each frame's plate solution: header WCS, pointing, blind or a neighbour, then a fit."),
    _line("astrometry", "field", "frame", "Assign solved frames to fields; airmass and Moon distance of their centres."),
    _line("astrometry", "discover", "field", "Cluster detections that match no known source, and make sources of them."),
    _line("astrometry", "distortion", "night", "Fit the distortion that the night's frames have in common."),
    _line("lightcurves", "field_colours", "field", "Settle a field's stars: band, colour and magnitude that its fits use, and neighbours."),
    _line("astrometry", "refine", "frame", "Fit each frame once more, with distortion and discovered sources; match its detections."),
    _line("photometry", "shapes", "frame", "Fit a smooth map of the shapes s, d, k of the stars, over position, magnitude and colour."),
    _line("photometry", "background", "frame", "Measure the sky between the sources: object-masked clipped mean, with its error."),
    _line("calibration", "fixed_pattern", "night", "Find what hot and cold pixels add, from drifting object frames without a dark."),
    _line("photometry", "psf", "frame", "Fit a smooth map of the profile of stars to their pixels, for fluxes to be fitted with."),
    _line("photometry", "shared_psf", "night", "Fit one profile map to a night's few-starred frames of like seeing, all together."),
    _line("photometry", "psf_choice", "frame", "Choose a few-starred frame's profile map, its own or the shared one, by stars left out."),
    _line("photometry", "slots", "instrument", "Fix the aperture radii of an instrument: multiples of its typical FWHM."),
    _line("photometry", "photometry", "frame", "Measure all sources on each frame: fluxes fitted with the profile map, and aperture sums."),
    _line("photometry", "target_photometry", "frame", "Measure the flux at the position of every target, seen or not.", "target_step"),
    _line("lightcurves", "magnitude_reference", "field", "Make a field's reference: from its best frame, averaged until it settles."),
    _line("lightcurves", "magnitude_fit", "night", "Fit a night's frames to the reference of their field (cross-fitted), in one pass."),
    _line("lightcurves", "frame_fit", "frame", "Fit a frame of an open night by itself, until the night is fitted.", "magnitude_fit_step"),
    _line("lightcurves", "standard_system", "field", "Tie a field's reference to a catalogue's band: zero point, colour term, scatter."),
    _line("lightcurves", "magnitude_offsets", "field", "Measure how references of overlapping fields differ, by the stars that both have."),
    _line(
        "lightcurves",
        "statistics",
        "night",
        "Summarise a night's light curves and add them up: mean, scatter, chi2, eta; targets find sources.",
    ),
    _line("lightcurves", "source_order", "night", "Put a night's measurements into the order of the sources, once it is over."),
)


class Steps(MutableMapping[str, "Step"]):
    """The steps by name, in the order of the night; each is imported when it is asked for."""

    def __init__(self) -> None:
        self._lines = {line.name: line for line in NIGHT}
        self._declared: dict[str, Step] = {}

    def line(self, name: str) -> Line:
        """The step's line in the list."""
        return self._lines[name]

    def __getitem__(self, name: str) -> Step:
        if name not in self._declared:
            line = self._lines[name]
            importlib.import_module(f"reduction.{line.topic}.{line.module}")
        return self._declared[name]

    def __setitem__(self, name: str, step: Step) -> None:
        self._declared[name] = step

    def __delitem__(self, name: str) -> None:
        del self._declared[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def __contains__(self, name: object) -> bool:
        return name in self._lines

    def declare(self, step: Step) -> None:
        """Take in the declaration of a step that the list has a line for."""
        if step.name not in self._lines:
            raise RuntimeError(f"step {step.name}: no line in reduction.pipeline.order")
        if step.name in self._declared:
            raise RuntimeError(f"step {step.name}: declared twice")
        self._declared[step.name] = step


#: Every step by name, in the order of the night.
STEPS = Steps()
