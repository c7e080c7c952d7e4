"""The part of a frame that its bright stars are on: of several frames at once no more than that is kept."""

from __future__ import annotations

import numpy as np

from reduction.photometry.kernels.psf_fit import FrameStars
from reduction.photometry.kernels.psf_flux import Pixels, fit_fluxes, overlapping
from reduction.photometry.kernels.psf_map import PsfMap

__all__ = ["patches"]

FAINTER = 0.5  # of the least S/N: with another map a star may have more
MARGIN = 1.25  # of a stamp: with another width it may be larger


def patches(frame: FrameStars, psf: PsfMap, *, min_snr: float) -> FrameStars:
    """A frame's bright stars, those whose pixels they share, and these pixels.

    Parameters
    ----------
    frame : FrameStars
        With all stars whose light is on the frame.
    psf : PsfMap
        Near the truth, drawn out as it is there.
    min_snr : float
        Least signal-to-noise ratio of a star that shows the profile.

    Returns
    -------
    FrameStars
        All other pixels count as bad.
    """
    pixels, x, y, width, traits = frame
    wide = psf.drawn_out(MARGIN)
    fluxes = fit_fluxes(pixels, psf.stamps(x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        bright = fluxes.flux >= FAINTER * min_snr * fluxes.error
    stamps = wide.stamps(x, y)
    near = np.flatnonzero(overlapping(stamps, bright))
    # Memory that is never written to is none: of these planes only the patches are.
    shape = pixels.value.shape
    value, dark, good = np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
    size = stamps.share.shape[1]
    for x0, y0 in zip(stamps.x0[near], stamps.y0[near], strict=True):
        here = (slice(max(y0, 0), max(y0 + size, 0)), slice(max(x0, 0), max(x0 + size, 0)))
        value[here], dark[here], good[here] = pixels.value[here], pixels.dark[here], pixels.good[here]
    known = {name: values[near] for name, values in traits.items()}
    return FrameStars(Pixels(value, dark, pixels.gain, good), x[near], y[near], width, known)
