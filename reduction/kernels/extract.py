"""Detection of stars on one frame, with windowed centroids and shapes.

The background estimated here serves detection alone; photometry has its own.
Detection, deblending and cleaning are those of SExtractor (Bertin & Arnouts
1996, A&AS 117, 393) as offered by ``sep`` (Barbary 2016, JOSS 1, 58).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import sep
from scipy.spatial import cKDTree

from db.flags import Flag, Mask

__all__ = ["Detections", "extract"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

SIGMA_PER_FWHM = 1.0 / (2.0 * np.sqrt(2.0 * np.log(2.0)))
MIN_FWHM = 1.5  # pixel
SHARPEST = 0.65  # share of the light within 1.5 pixel that falls on one pixel; 0.3 for a FWHM of 2.2 pixel
MESH = 64  # pixel; size of a background cell
STACK = 2_000_000  # sep's pixel buffer: dense wide fields overflow its default


@dataclass(frozen=True)
class Detections:
    """Stars detected on a frame: arrays of equal length n, brightest first.

    Attributes
    ----------
    x, y : (n,) float64
        Windowed centroid (pixel, 0-based pixel centres).
    flux, flux_err : (n,) float64
        Sum over a circle of radius 1.5 FWHM above the detection background, and its error (ADU).
        The circle is not corrected for saturation, blends or lost light.
    peak : (n,) float64
        Brightest pixel above the background (ADU).
    fwhm : (n,) float64
        Twice the radius of half the light within 2.5 a (pixel): a Gaussian's FWHM, less 3 %.
    a, b : (n,) float64
        Semi-major and semi-minor axis, as standard deviations of the isophotal light (pixel).
    theta : (n,) float64
        Angle from +x to the major axis, towards +y (rad, -pi/2 to pi/2).
    snr : (n,) float64
        flux / flux_err.
    flags : (n,) int32
        Bits of `db.flags.Flag`: SATURATED, EDGE, BAD_PIXEL.
    """

    x: FloatArray
    y: FloatArray
    flux: FloatArray
    flux_err: FloatArray
    peak: FloatArray
    fwhm: FloatArray
    a: FloatArray
    b: FloatArray
    theta: FloatArray
    snr: FloatArray
    flags: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: npt.NDArray[np.generic]) -> Detections:
        """Detections at `index` (integers or booleans), in that order."""
        return Detections(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


@dataclass(frozen=True)
class _Image:
    """What every stage of the extraction looks at: `bad` has no value of its own, `empty` no neighbour to lend one either."""

    data: npt.NDArray[np.float32]
    variance: npt.NDArray[np.float32]
    noise: npt.NDArray[np.float32]
    bad: npt.NDArray[np.bool_]
    empty: npt.NDArray[np.bool_]
    saturated: npt.NDArray[np.bool_]


def extract(
    data: npt.NDArray[np.floating],
    variance: npt.NDArray[np.floating],
    mask: npt.NDArray[np.integer],
    *,
    threshold: float = 5.0,
    min_area: int = 4,
    deblend_contrast: float = 0.005,
) -> Detections:
    """Detect stars and measure windowed centroids and shapes.

    Parameters
    ----------
    data, variance : (ny, nx) float
        Frame (ADU) with its background, and variance (ADU^2). Pixels that are not finite, or whose
        variance is not positive, count as without data.
    mask : (ny, nx) uint8
        Bits of `db.flags.Mask`. NO_DATA, HOT, DEAD and COSMIC pixels are not used; their neighbours
        stand in for them where at least three of eight are good. SATURATED and BLEED pixels are used,
        so that bright stars are kept; only the former set a flag.
    threshold : float
        Detection threshold in units of the local noise of the filtered image.
    min_area : int
        Least number of connected pixels above the threshold.
    deblend_contrast : float
        Least share of light of a component that is split off.

    Returns
    -------
    Detections
        Brightest first, ties by y then x. Empty when nothing is found.

    Notes
    -----
    A centroid is SExtractor's XWIN/YWIN with one Gaussian window for all stars of the frame, of the
    median FWHM of its well-exposed stars; where the iteration leaves the isophote it stays at the
    barycentre. EDGE: the circle of 1.5 FWHM is cut by the frame's edge. BAD_PIXEL: an ignored pixel
    lies inside it. What has nearly all of its light on one pixel is a hot pixel or a cosmic-ray hit,
    and is dropped. The result depends on the input alone.
    """
    image = _prepare(data, variance, mask)
    if image is None:
        return _empty()
    objects = _detect(image, threshold, min_area, deblend_contrast)
    objects = objects[~_sharp(image, objects)]
    if len(objects) == 0:
        return _empty()
    x, y = objects["x"], objects["y"]
    fwhm = _fwhm(image, objects)
    # the noise of one star's own FWHM would enter its centroid: one window serves the frame
    seeing = _frame_fwhm(fwhm, objects, image)
    x, y = _window(image, objects, seeing)
    radius = 1.5 * seeing
    flux, flux_err, _ = sep.sum_circle(image.data, x, y, radius, var=image.variance, mask=image.empty, subpix=0)
    found = Detections(
        x=x,
        y=y,
        flux=flux,
        flux_err=flux_err,
        peak=objects["peak"].astype(np.float64),
        fwhm=fwhm,
        a=objects["a"].astype(np.float64),
        b=objects["b"].astype(np.float64),
        theta=objects["theta"].astype(np.float64),
        snr=flux / flux_err,
        flags=_flags(image, x, y, radius),
    )
    return _clean(found, seeing, (image.data.shape[1], image.data.shape[0]))


def _empty() -> Detections:
    none = np.zeros(0)
    return Detections(none, none, none, none, none, none, none, none, none, none, np.zeros(0, np.int32))


def _prepare(data: npt.NDArray[np.floating], variance: npt.NDArray[np.floating], mask: npt.NDArray[np.integer]) -> _Image | None:
    """Background-subtracted image and its local noise; None where no pixel is usable."""
    ignored = (mask & int(Mask.NO_DATA | Mask.HOT | Mask.DEAD | Mask.COSMIC)) != 0
    bad = ignored | ~np.isfinite(data) | ~np.isfinite(variance) | ~(variance > 0.0)
    if bad.all():
        return None
    sky = float(np.median(data[~bad]))
    # about zero, or float32 sums over a mesh lose the digits that a small noise needs
    flat = np.ascontiguousarray(np.where(bad, 0.0, data.astype(np.float64) - sky), dtype=np.float32)
    ny, nx = flat.shape
    background = sep.Background(flat, mask=bad, bw=min(MESH, nx), bh=min(MESH, ny), fw=3, fh=3)
    if not background.globalrms > 0.0:
        return None
    noise = np.maximum(background.rms(dtype=np.float32), np.float32(0.2 * background.globalrms))
    kept = np.ascontiguousarray(np.where(bad, 0.0, variance), dtype=np.float32)
    saturated = (mask & int(Mask.SATURATED)) != 0
    data = flat - background.back(dtype=np.float32)
    # a hole in a bright star keeps the stars around it from being told apart: what a pixel lacks, its neighbours lend
    empty = _fill(data, bad)
    _fill(kept, bad)
    return _Image(data, kept, noise, bad, empty, saturated)


def _fill(image: npt.NDArray[np.float32], bad: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Give bad pixels the mean of their good neighbours, the four nearest counting twice; returns those with fewer than three."""
    rows, columns = np.nonzero(bad)
    total, weights, count = np.zeros(rows.size), np.zeros(rows.size), np.zeros(rows.size, np.int64)
    for dy, dx in ((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx):
        y, x = rows + dy, columns + dx
        inside = (y >= 0) & (y < bad.shape[0]) & (x >= 0) & (x < bad.shape[1])
        y, x = np.where(inside, y, rows), np.where(inside, x, columns)  # a bad pixel itself: not counted
        weight = np.where(bad[y, x], 0.0, 1.0 if dy and dx else 2.0)
        total += weight * image[y, x]
        weights += weight
        count += weight > 0.0
    enough = count >= 3
    image[rows[enough], columns[enough]] = total[enough] / weights[enough]
    empty = bad.copy()
    empty[rows[enough], columns[enough]] = False
    return empty


def _detect(image: _Image, threshold: float, min_area: int, contrast: float) -> npt.NDArray[np.void]:
    sep.set_extract_pixstack(max(STACK, image.data.size // 2))
    sep.set_sub_object_limit(4096)
    objects: npt.NDArray[np.void] = sep.extract(
        image.data, threshold, err=image.noise, mask=image.empty, minarea=min_area, deblend_cont=contrast
    )
    usable = np.isfinite(objects["x"]) & np.isfinite(objects["y"]) & (objects["a"] > 0.0) & (objects["b"] > 0.0)
    return np.asarray(objects[usable])


def _sharp(image: _Image, objects: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Whether one pixel holds more of the light than any star focused by optics."""
    core, _, _ = sep.sum_circle(image.data, objects["xpeak"].astype(np.float64), objects["ypeak"].astype(np.float64), 1.5, mask=image.empty)
    return np.asarray(objects["peak"] > SHARPEST * core)


def _fwhm(image: _Image, objects: npt.NDArray[np.void]) -> FloatArray:
    """Twice the radius that holds half of the light within 2.5 semi-major axes (pixel)."""
    reach = np.clip(2.5 * objects["a"], 3.0, 30.0)
    total, _, _ = sep.sum_circle(image.data, objects["x"], objects["y"], reach, mask=image.empty, subpix=5)
    total = np.where(total > 0.0, total, objects["flux"])
    radius, _ = sep.flux_radius(image.data, objects["x"], objects["y"], reach, 0.5, normflux=total, mask=image.empty, subpix=5)
    return np.asarray(2.0 * radius, dtype=np.float64)


def _frame_fwhm(fwhm: FloatArray, objects: npt.NDArray[np.void], image: _Image) -> float:
    """Median FWHM of well-exposed, unsaturated, unblended stars (pixel); of all, if there are few."""
    ny, nx = image.data.shape
    column = np.clip(objects["xpeak"], 0, nx - 1)
    row = np.clip(objects["ypeak"], 0, ny - 1)
    good = (objects["flag"] == 0) & ~image.saturated[row, column] & (objects["peak"] > 10.0 * image.noise[row, column])
    chosen = fwhm[good] if np.count_nonzero(good) >= 10 else fwhm
    return float(np.clip(np.median(chosen), MIN_FWHM, 30.0))


def _window(image: _Image, objects: npt.NDArray[np.void], seeing: float) -> tuple[FloatArray, FloatArray]:
    """Windowed centroids (pixel); the barycentre where the iteration wanders off."""
    sigma = np.full(len(objects), seeing * SIGMA_PER_FWHM)
    x, y, _ = sep.winpos(image.data, objects["x"], objects["y"], sigma, mask=image.empty)
    moved = np.hypot(x - objects["x"], y - objects["y"])
    settled = np.isfinite(moved) & (moved <= np.maximum(seeing, objects["a"]))
    return np.where(settled, x, objects["x"]), np.where(settled, y, objects["y"])


def _flags(image: _Image, x: FloatArray, y: FloatArray, radius: float) -> npt.NDArray[np.int32]:
    ny, nx = image.data.shape
    saturated, _, _ = sep.sum_circle(image.saturated.astype(np.float32), x, y, radius, subpix=1)
    bad, _, _ = sep.sum_circle(image.bad.astype(np.float32), x, y, radius, subpix=1)
    edge = (np.minimum(x, y) + 0.5 < radius) | (x + radius > nx - 0.5) | (y + radius > ny - 0.5)
    flags = np.where(saturated > 0, int(Flag.SATURATED), 0) | np.where(bad > 0, int(Flag.BAD_PIXEL), 0)
    return (flags | np.where(edge, int(Flag.EDGE), 0)).astype(np.int32)


def _clean(found: Detections, seeing: float, size: tuple[int, int]) -> Detections:
    """Drop what cannot be a star, keep the brighter of coinciding ones, sort."""
    nx, ny = size
    inside = (found.x > -0.5) & (found.x < nx - 0.5) & (found.y > -0.5) & (found.y < ny - 0.5)
    found = found.take(inside & np.isfinite(found.snr) & (found.snr > 0.0) & np.isfinite(found.fwhm))
    found = found.take(np.lexsort((found.x, found.y, -found.flux)))
    if len(found) < 2:
        return found
    pairs = cKDTree(np.column_stack([found.x, found.y])).query_pairs(0.5 * seeing, output_type="ndarray")
    keep = np.ones(len(found), dtype=bool)
    keep[pairs.max(axis=1)] = False  # of a pair the later is the fainter
    return found.take(keep)
