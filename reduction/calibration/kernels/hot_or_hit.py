"""Sharp pixels that are no cosmic rays: what repeats at a pixel from frame to frame is hot.

A detector that is warm, and has no dark, has a pattern in which every pixel stands out of the noise that light and read-out explain, and
is as sharp as a hit.  No camera has a hundredth of its pixels hit in one exposure: so many are doubted, and other frames of the exposure
time are asked.  The pattern's scatter is noise to whoever looks for stars and hits in one frame, and is added to the variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from db.flags import Mask
from reduction.calibration.kernels.calibration import Plane
from reduction.calibration.kernels.cosmic_rays import cosmic_rays, prepare
from reduction.kernels.robust import GAUSSIAN_MAD, mad_scatter

__all__ = ["MOST_HIT", "elsewhere", "hit_fraction", "mark_hot_or_hit"]

#: Largest part of the pixels that cosmic rays are believed to have hit: an hour in orbit gives half of it.
MOST_HIT = 0.01
# Of a pixel's excess, what other frames have there in the middle where the pixel is hot.
_SAME = 0.5


def hit_fraction(plane: Plane, hits: NDArray[np.bool_]) -> float:
    """Part of the usable pixels that are marked; 0 where none is usable.

    Parameters
    ----------
    plane : Plane
        Whose mask says what is usable.
    hits : bool, shape (ny, nx)
        Marked pixels.
    """
    usable = int(np.count_nonzero(plane.mask == 0))
    return float(np.count_nonzero(hits & (plane.mask == 0))) / usable if usable else 0.0


def elsewhere(hits: NDArray[np.bool_], others: Sequence[Plane]) -> NDArray[np.float32]:
    """What other frames have at marked pixels, above the sky, ADU: their median.

    Parameters
    ----------
    hits : bool, shape (ny, nx)
        Marked pixels.
    others : sequence of Plane
        Frames of the same detector and exposure time, calibrated alike.

    Returns
    -------
    float32, shape (ny, nx)
        0 at pixels that are not marked, or that no other frame has a value of.
    """
    found = np.zeros(hits.shape, dtype=np.float32)
    known = [each for each in map(prepare, others) if each is not None]
    if known and hits.any():
        there = np.array([np.where(bad[hits], np.float32(np.nan), data[hits]) for data, _, bad in known])
        there[:, np.isnan(there).all(axis=0)] = 0.0
        found[hits] = np.nanmedian(there, axis=0)
    return found


def mark_hot_or_hit(plane: Plane, hits: NDArray[np.bool_], others: Sequence[Plane], *, threshold: float) -> tuple[Plane, str]:
    """Judge a frame of which more is marked than cosmic rays can hit.

    Parameters
    ----------
    plane : Plane
        Calibrated image, ADU, without the bits HOT and COSMIC for what is judged here.
    hits : bool, shape (ny, nx)
        What `cosmic_rays` marks.
    others : sequence of Plane
        Frames of the same detector, night and exposure time, calibrated alike; may be empty.
    threshold : float
        Of `cosmic_rays`.

    Returns
    -------
    plane : Plane
        Where the marked pixels are a pattern: with its scatter in the variance, HOT where a pixel stands out of that on all frames,
        COSMIC where it is marked on this one alone.  Else COSMIC as marked.
    doubt : str
        One sentence for the observer.
    """
    doubt = f"{100 * hit_fraction(plane, hits):.2g}% of the pixels look like cosmic rays, more than {MOST_HIT:.0%} is not believed"
    prepared = prepare(plane)
    if prepared is None:
        return plane, doubt
    data, variance, _ = prepared
    there = elsewhere(hits, others)
    again = hits & (there > _SAME * data)
    repeated = float(np.count_nonzero(again)) / max(int(np.count_nonzero(hits)), 1)
    if others and repeated < _SAME:
        # They are on this frame alone, whatever they are.
        return _marked(plane, again, hits & ~again), f"{doubt}, though only {repeated:.0%} of them repeat on other frames"
    noisy = replace(plane, variance=_with_pattern(plane))
    left = cosmic_rays(noisy, threshold=threshold)
    if others:
        # Above what other frames have there, by as much as a hit must; the median of n frames has the variance of 2 / n.
        alone = left & (data - there > threshold * np.sqrt(variance * (1.0 + 2.0 / len(others))))
        text = f"{doubt}: {repeated:.0%} of them repeat on other frames, a pattern of hot pixels; darks would take it off"
        return _marked(noisy, left & again & ~alone, alone), text
    # One frame alone cannot tell a hot pixel from a hit: what still stands out of the pattern is bad either way.
    believed = left if hit_fraction(plane, left) <= MOST_HIT else np.zeros_like(left)
    return _marked(
        noisy, np.zeros_like(left), believed
    ), f"{doubt}: a pattern of hot pixels, perhaps; no other frame shows it, no dark either"


def _with_pattern(plane: Plane) -> NDArray[np.float32]:
    """Variance with what pixels scatter beyond it, after the sky's own shape is taken off."""
    prepared = prepare(plane)
    if prepared is None:
        return plane.variance
    data, variance, bad = prepared
    excess = max(mad_scatter(data[~bad].astype(np.float64), GAUSSIAN_MAD) ** 2 - float(np.median(variance[~bad])), 0.0)
    return np.where(bad, plane.variance, plane.variance + np.float32(excess))


def _marked(plane: Plane, hot: NDArray[np.bool_], hit: NDArray[np.bool_]) -> Plane:
    mask = plane.mask.copy()
    mask[hot] |= np.uint8(int(Mask.HOT))
    mask[hit & ~hot] |= np.uint8(int(Mask.COSMIC))
    return replace(plane, mask=mask)
