"""Master frames: which flats to keep, how to normalise and stack them, which pixels are bad."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from db.flags import Mask
from reduction.kernels.calibrate import Plane, smooth_normalised
from reduction.kernels.stack import clipped_mean

__all__ = [
    "dead_pixels",
    "flat_frame_reject",
    "flat_structure",
    "hot_pixels",
    "master_flat",
    "normalise_flat",
    "robust_mean",
    "stack_plane",
]


def robust_mean(values: ArrayLike, *, clip: float = 4.0) -> tuple[float, float]:
    """Clipped mean and standard deviation of a set of values.

    Parameters
    ----------
    values : float64, any shape
        Values; non-finite ones are ignored.
    clip : float
        Limit in standard deviations, symmetric about the mean; started from median and MAD.

    Returns
    -------
    mean, scatter : float
        NaN, NaN without a finite value.
    """
    finite = np.asarray(values, dtype=np.float64).ravel()
    finite = finite[np.isfinite(finite)]
    if finite.size == 0:
        return math.nan, math.nan
    # Some thousands of values are enough to start from.
    sample = finite[:: max(finite.size // 20_000, 1)]
    mean = float(np.median(sample))
    # On integer data the MAD is a multiple of the step, so the wider percentiles have a say.
    scatter = max(1.4826 * float(np.median(np.abs(sample - mean))), float(np.subtract(*np.percentile(sample, [95, 5]))) / 3.29)
    for _ in range(20):
        kept = finite[np.abs(finite - mean) <= clip * scatter]
        if kept.size == 0:
            break
        new_mean, new_scatter = float(kept.mean()), float(kept.std())
        if abs(new_mean - mean) <= 1e-4 * scatter and abs(new_scatter - scatter) <= 1e-4 * scatter:
            break
        mean, scatter = new_mean, new_scatter
    return mean, scatter


def stack_plane(
    cube: NDArray[np.float32], mask: NDArray[np.uint8] | None = None, *, sigma: float = 4.0, noise: ArrayLike | None = None
) -> Plane:
    """Stack bias or dark images into a master.

    Parameters
    ----------
    cube : float32, shape (n, ny, nx)
        Images, ADU.
    mask : uint8, shape (n, ny, nx), optional
        Bits of `db.flags.Mask`; SATURATED, COSMIC, BLEED and NO_DATA pixels are left out.
    sigma : float
        Clipping limit of `clipped_mean`.
    noise : float or float64 shape (n,), optional
        Known pixel noise, ADU; also the error of a pixel with a single value.

    Returns
    -------
    Plane
        Clipped mean and its variance.  HOT and DEAD are set where any image has them; NO_DATA where no image has a value.  A variance that
        nothing tells (a single image, no noise given) is 0.
    """
    left_out = int(Mask.NO_DATA | Mask.SATURATED | Mask.COSMIC | Mask.BLEED)
    stack = clipped_mean(cube, mask=None if mask is None else (mask & left_out) > 0, sigma=sigma, noise=noise)
    bits = np.where(stack.count > 0, 0, int(Mask.NO_DATA)).astype(np.uint8)
    if mask is not None:
        bits |= np.bitwise_or.reduce(mask & np.uint8(int(Mask.HOT | Mask.DEAD)), axis=0)
    return Plane(stack.value, np.nan_to_num(stack.variance, nan=0.0), bits)


def normalise_flat(flat: Plane) -> tuple[Plane, float]:
    """Divide a flat by its robust mean.

    Parameters
    ----------
    flat : Plane
        Bias- and dark-subtracted flat, ADU.

    Returns
    -------
    flat : Plane
        Relative response; the error of the level itself scales all pixels alike and is not included.
    level : float
        The mean, ADU.

    Raises
    ------
    ValueError
        If the mean is not positive: there is no light in the flat.
    """
    level, _ = robust_mean(flat.value[flat.mask == 0])
    if not level > 0:
        raise ValueError(f"the flat's mean level must be positive, got {level:.6g} ADU")
    return Plane((flat.value / level).astype(np.float32), (flat.variance / level**2).astype(np.float32), flat.mask), level


def flat_structure(cube: NDArray[np.float32], *, block: int = 32) -> NDArray[np.float64]:
    """How far the large-scale shape of each flat is from that of the set.

    Parameters
    ----------
    cube : float32, shape (n, ny, nx)
        Normalised flats; non-finite pixels are ignored.
    block : int
        Side of the blocks that are compared, pixel.

    Returns
    -------
    float64, shape (n,)
        Standard deviation over the blocks of flat / median flat (a fraction); 0 for fewer than 3 flats, of which none can be told wrong.
    """
    n, ny, nx = cube.shape
    if n < 3:
        return np.zeros(n)
    labels = (np.arange(ny)[:, None] // block) * ((nx - 1) // block + 1) + np.arange(nx)[None, :] // block
    index = np.arange(labels.max() + 1)
    means = []
    for flat in cube:
        good = np.isfinite(flat)
        weight = ndimage.sum_labels(good, labels, index)
        total = ndimage.sum_labels(np.where(good, flat, 0.0), labels, index)
        means.append(np.divide(total, weight, out=np.full(index.size, np.nan), where=weight > 0))
    blocks = np.array(means)
    blocks = blocks[:, np.isfinite(blocks).all(axis=0)]
    middle = np.median(blocks, axis=0)
    ratio = blocks[:, middle > 0] / middle[middle > 0]
    return np.asarray(ratio.std(axis=1), np.float64) if ratio.size else np.zeros(n)


def flat_frame_reject(
    level: ArrayLike,
    noise: ArrayLike,
    saturated_fraction: ArrayLike,
    structure: ArrayLike | None = None,
    *,
    min_signal_to_noise: float = 10.0,
    max_saturated: float = 0.01,
    max_structure: float = 0.02,
) -> list[str]:
    """Reasons for which flats are not to be stacked.

    Parameters
    ----------
    level : float64, shape (n,)
        Light of each flat above bias and dark, ADU.
    noise : float64, shape (n,)
        Pixel noise, ADU.
    saturated_fraction : float64, shape (n,)
        Fraction of saturated pixels.
    structure : float64, shape (n,), optional
        From `flat_structure`.
    min_signal_to_noise, max_saturated, max_structure : float
        Limits; the last is raised to five times the set's median, so that a set of poor flats is not rejected whole.

    Returns
    -------
    list of str, length n
        Reason with the value met and the limit, empty for a flat to keep.
    """
    levels, noises, fractions = (np.asarray(a, dtype=np.float64) for a in (level, noise, saturated_fraction))
    shapes = np.zeros(levels.size) if structure is None else np.asarray(structure, dtype=np.float64)
    shape_limit = max(max_structure, 5.0 * float(np.median(shapes))) if shapes.size else max_structure
    reasons = []
    for one_level, one_noise, fraction, shape in zip(levels, noises, fractions, shapes, strict=True):
        snr = one_level / one_noise if one_noise > 0 else 0.0
        if not one_level > 0:
            reasons.append(f"no light: level {one_level:.4g} ADU above bias and dark")
        elif fraction > max_saturated:
            reasons.append(f"saturated: {fraction:.2%} of the pixels, at most {max_saturated:.2%}")
        elif snr < min_signal_to_noise:
            reasons.append(f"too faint: S/N {snr:.1f} a pixel, at least {min_signal_to_noise:.1f}")
        elif shape > shape_limit:
            reasons.append(f"another shape than the set: {shape:.2%} rms, at most {shape_limit:.2%}")
        else:
            reasons.append("")
    return reasons


def master_flat(cube: NDArray[np.float32], mask: NDArray[np.uint8] | None = None, *, sigma: float = 4.0, dead: float = 0.4) -> Plane:
    """Stack flats, each divided by its robust mean, into a master with mean 1.

    Parameters
    ----------
    cube : float32, shape (n, ny, nx)
        Bias- and dark-subtracted flats, ADU, already chosen (see `flat_frame_reject`).
    mask : uint8, shape (n, ny, nx), optional
        Bits of `db.flags.Mask`, used as in `stack_plane`.
    sigma : float
        Clipping limit of `clipped_mean`.
    dead : float
        Response relative to the surroundings below which a pixel is DEAD.

    Returns
    -------
    Plane
        Relative response.  All flats are normalised over the same pixels, those good in every one, so vignetting and masks do
        not shift one against the other.  A pixel without a positive response is NO_DATA.

    Raises
    ------
    ValueError
        If a flat has no light.
    """
    common = np.isfinite(cube).all(axis=0)
    if mask is not None:
        common &= (np.bitwise_or.reduce(mask, axis=0) & int(Mask.NO_DATA | Mask.SATURATED | Mask.HOT)) == 0
    levels = np.array([robust_mean(flat[common])[0] for flat in cube])
    if not bool(np.all(levels > 0)):
        raise ValueError(f"every flat's mean level must be positive, got {np.array2string(levels, precision=4)} ADU")
    flat, _ = normalise_flat(stack_plane((cube / levels[:, None, None]).astype(np.float32), mask, sigma=sigma))
    bits = flat.mask.copy()
    bits[~(flat.value > 0)] |= int(Mask.NO_DATA)
    bits[dead_pixels(Plane(flat.value, flat.variance, bits), fraction=dead)] |= int(Mask.DEAD)
    empty = (bits & int(Mask.NO_DATA)) > 0
    return Plane(np.where(empty, 0, flat.value).astype(np.float32), np.where(empty, 0, flat.variance).astype(np.float32), bits)


def hot_pixels(dark: Plane, *, sigma: float = 8.0, smooth: float = 16.0) -> NDArray[np.bool_]:
    """Pixels far brighter than their surroundings in a master dark (or bias).

    Parameters
    ----------
    dark : Plane
        Master, ADU.
    sigma : float
        Limit in units of the master's own pixel-to-pixel scatter (or its error, when larger).
    smooth : float
        Standard deviation of the Gaussian that gives the surroundings, pixel.

    Returns
    -------
    bool, shape (ny, nx)
    """
    empty = (dark.mask & int(Mask.NO_DATA)) > 0
    mean, scatter = robust_mean(dark.value[~empty])
    if not math.isfinite(mean):
        return np.zeros(dark.value.shape, dtype=np.bool_)
    # The brightest must not raise the surroundings they are compared with.
    local = smooth_normalised(dark.value, empty | (np.abs(dark.value - mean) > 4 * scatter), smooth)
    excess = dark.value - np.where(np.isfinite(local), local, mean)
    _, scatter = robust_mean(excess[~empty])
    return np.asarray(~empty & (excess > sigma * np.sqrt(np.maximum(scatter**2, dark.variance))), dtype=np.bool_)


def dead_pixels(flat: Plane, *, fraction: float = 0.4, smooth: float = 8.0) -> NDArray[np.bool_]:
    """Pixels whose response is a small fraction of their surroundings'.

    Parameters
    ----------
    flat : Plane
        Master flat.
    fraction : float
        Limit of response over that of the surroundings.
    smooth : float
        Standard deviation of the Gaussian that gives the surroundings, pixel.

    Returns
    -------
    bool, shape (ny, nx)
        NO_DATA pixels are not dead.
    """
    empty = (flat.mask & int(Mask.NO_DATA)) > 0
    local = smooth_normalised(flat.value, empty, smooth)
    return np.asarray(~empty & (flat.value < fraction * local), dtype=np.bool_)
