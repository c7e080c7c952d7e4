"""How wide the profile is on a frame, by the pixels of its stars: one number more than a profile map and the fluxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reduction.kernels.arrays import FloatArray, IntArray
from reduction.photometry.kernels.psf_flux import Canvas, Pixels, fit_fluxes
from reduction.photometry.kernels.psf_map import PsfMap, Stamps, Traits

__all__ = ["fit_width", "width_change"]

STEP = 0.01  # of the logarithm of the width, for its derivative
FARTHEST = 0.1  # that the logarithm changes by at a time
CLIP, MISS = 6.0, 0.02  # pixels off by more than so many sigma and this part of the star's brightest pixel have no say
ROUNDS, SETTLED = 8, 1e-4


def width_change(
    canvas: Canvas, psf: PsfMap, stamps: Stamps, x: FloatArray, y: FloatArray, traits: Traits, flux: FloatArray, index: IntArray
) -> tuple[float, float]:
    """By how much the profile on a frame is wider than a map says, each star's flux being free.

    Parameters
    ----------
    canvas : Canvas
        With the stars drawn on it.
    psf : PsfMap
    stamps : Stamps
        Of n stars.
    x, y, flux : float64, shape (n,)
        Positions (pixel) and fluxes (ADU).
    traits : dict of str to float64, shape (n,)
        What is known of them.
    index : int64, shape (k,)
        Stars that have a say.

    Returns
    -------
    change, weight : float
        Change of the logarithm of the width, and one over its variance; 0 and 0 where nothing tells.
    """
    sides = [replace(psf.drawn_out(np.exp(step)), radius=psf.radius) for step in (-STEP, STEP)]
    known = {name: values[index] for name, values in traits.items()}
    narrow, wide = (side.stamps(x[index], y[index], known).share for side in sides)
    value, model, weight = canvas.pixels.value, canvas.model, canvas.weight
    size, (ny, nx) = stamps.share.shape[1], value.shape
    top, matrix = 0.0, 0.0
    for i, slope in zip(index, flux[index, None, None] * (wide - narrow) / (2.0 * STEP), strict=True):
        x0, y0 = int(stamps.x0[i]), int(stamps.y0[i])
        rows, columns = slice(max(y0, 0), min(y0 + size, ny)), slice(max(x0, 0), min(x0 + size, nx))
        here = (slice(rows.start - y0, rows.stop - y0), slice(columns.start - x0, columns.stop - x0))
        share, d = stamps.share[i][here], slope[here]
        off, w = value[rows, columns] - model[rows, columns], weight[rows, columns]
        counts = (share != 0.0) & (off**2 * w <= CLIP**2 + w * (CLIP * MISS * flux[i] * share.max()) ** 2)
        w = np.where(counts, w, 0.0)
        own, cross = np.sum(w * share**2), np.sum(w * share * d)
        if own > 0.0:
            top += float(np.sum(w * d * off) - cross / own * np.sum(w * share * off))
            matrix += float(np.sum(w * d**2) - cross**2 / own)
    if matrix <= 0.0:
        return 0.0, 0.0
    return float(np.clip(top / matrix, -FARTHEST, FARTHEST)), matrix


def fit_width(pixels: Pixels, x: FloatArray, y: FloatArray, traits: Traits, psf: PsfMap, width: float, index: IntArray) -> float:
    """How many times as wide as a map's the profile on a frame is.

    Parameters
    ----------
    pixels : Pixels
    x, y : float64, shape (n,)
        Positions of the stars that have a say and of all whose pixels they share (pixel).
    traits : dict of str to float64, shape (n,)
        What is known of them.
    psf : PsfMap
    width : float
        To begin with.
    index : int64, shape (k,)
        Stars that have a say.

    Returns
    -------
    float
    """
    canvas, flux = Canvas(pixels), None
    for _ in range(ROUNDS if len(index) else 0):
        wide = psf.drawn_out(width)
        stamps = wide.stamps(x, y, traits)
        fluxes = fit_fluxes(pixels, stamps, start=flux, rounds=2 if flux is None else 1, canvas=canvas)
        flux = fluxes.flux
        change, _ = width_change(canvas, wide, stamps, x, y, traits, flux, index)
        width *= float(np.exp(change))
        if abs(change) < SETTLED:
            break
    return width
