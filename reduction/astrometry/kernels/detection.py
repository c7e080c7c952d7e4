"""Detection of stars on one frame, with windowed centroids, their errors, and shapes.

The background estimated here serves detection alone; photometry has its own.
Detection, deblending and cleaning are those of SExtractor (Bertin & Arnouts
1996, A&AS 117, 393) as offered by ``sep`` (Barbary 2016, JOSS 1, 58).
Centroids and shapes are those of `reduction.astrometry.kernels.moments`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import sep
from scipy import ndimage
from scipy.spatial import cKDTree

from db.flags import Flag, Mask
from reduction.astrometry.kernels.moments import FWHM_PER_SIGMA, adaptive_shapes, axes_of, neighbours_of, sdk_of, windowed_centroids
from reduction.kernels.arrays import FloatArray
from reduction.kernels.robust import MAD_TO_SIGMA
from reduction.photometry.kernels.aperture import aperture_photometry
from reduction.photometry.kernels.crowding import blended

__all__ = ["Detections", "extract"]


MIN_FWHM = 1.2  # pixel, pixel included
SHARPEST = 0.65  # share of the light within 1.5 pixel that falls on one pixel; 0.3 for a FWHM of 2.2 pixel
MESH = 64  # pixel; size of a background cell
LEVELS = 64  # of deblending, from the threshold to the peak: with 32 the faint neighbours of the brightest stars fall between two
SAMPLE = 30_000  # pixels from which the sky's trend is fitted
STACK = 2_000_000  # sep's pixel buffer: dense wide fields overflow its default
FILTER = np.array([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]], dtype=np.float32)
GRAIN = float(FILTER.sum() ** 2 / np.sum(FILTER**2))  # pixel; area over which it smooths
WIDE = 2.0  # pixel; semi-major axis from which stars are sought with a filter of their own shape, not with 3x3 pixels
ELONGATED = 1.5  # ratio of axes from which stars count as trailed
MODELS = 500  # stars from which the frame's shape is taken, the brightest that are fit for it
FLUX_RADIUS, FLAG_RADIUS = 1.5, 2.0  # FWHM
BLEND_MAGNITUDES = 3.0  # a neighbour fainter by more leaves no mark


@dataclass(frozen=True)
class Detections:
    """Stars detected on a frame: arrays of equal length n, brightest first.

    Attributes
    ----------
    x, y : float64, shape (n,)
        Windowed centroid (pixel, 0-based pixel centres).
    x_err, y_err : float64, shape (n,)
        Its 1-sigma errors, from the variance plane (pixel).
    flux, flux_err : float64, shape (n,)
        Sum over a circle of radius 1.5 FWHM above the detection background, and its error (ADU).
        The circle is not corrected for saturation, blends or lost light.
    peak : float64, shape (n,)
        Brightest pixel above the background (ADU).
    s, d, k : float64, shape (n,)
        Shape of the HAT practice (1/pixel^2): the Gaussian exp(-[s(x^2 + y^2) + d(x^2 - y^2) + 2k x y] / 2) that has
        the star's second moments under a window of its own shape, as the pixels show it: their width is in it.
        NaN where no such Gaussian is found; so are all that follow from it.
    fwhm : float64, shape (n,)
        2.3548 sqrt(semi_major semi_minor) (pixel). For a Gaussian its own; a Moffat profile of index 3 has 12 % less.
    semi_major, semi_minor : float64, shape (n,)
        Semi-axes, as standard deviations (pixel): (s - e)^(-1/2) and (s + e)^(-1/2) with e^2 = d^2 + k^2.
    theta : float64, shape (n,)
        Angle from +x to the major axis, towards +y (rad, -pi/2 to pi/2): arctan2(-k, -d) / 2.
    snr : float64, shape (n,)
        flux / flux_err.
    flags : int32, shape (n,)
        Bits of `db.flags.Flag`, with a flag radius of 2 FWHM of the frame: SATURATED, EDGE, BAD_PIXEL, COSMIC, BLENDED.
    """

    x: FloatArray
    y: FloatArray
    x_err: FloatArray
    y_err: FloatArray
    flux: FloatArray
    flux_err: FloatArray
    peak: FloatArray
    s: FloatArray
    d: FloatArray
    k: FloatArray
    fwhm: FloatArray
    semi_major: FloatArray
    semi_minor: FloatArray
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
    mask: npt.NDArray[np.uint8]


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
    data, variance : float32, shape (ny, nx)
        Frame (ADU) with its background, and variance (ADU^2). Pixels that are not finite, or whose
        variance is not positive, count as without data.
    mask : uint8, shape (ny, nx)
        Bits of `db.flags.Mask`. NO_DATA, HOT, DEAD and COSMIC pixels are not used; to detect stars and sum their
        flux, neighbours stand in for them where at least three of eight are good. SATURATED and BLEED pixels are
        used, so that bright stars are kept.
    threshold : float
        Detection threshold in units of the local noise of the filtered image; also the least significance of
        the light under the centroid's window.
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
    The noise is a map, the clipped scatter of the background in meshes of 64 pixels. The image is filtered with
    3x3 pixels or, where stars are wide or trailed, with the shape of the frame's stars. One window of that
    shape serves all centroids of a frame; where the iteration leaves the isophote the centroid stays at the
    barycentre. What has nearly all of its light on one pixel is a hot pixel or a cosmic-ray hit, and is dropped;
    so is the fainter of two that stand in one saturated area. The result depends on the input alone.
    """
    image = _prepare(data, variance, mask)
    if image is None:
        return _empty()
    objects = _detect(image, threshold, min_area, deblend_contrast)
    if len(objects) == 0:
        return _empty()
    shape = _frame_shape(image, objects)
    if axes_of(shape[None])[0][0] > WIDE:
        objects = _detect(image, threshold, min_area, deblend_contrast, shape)
        shape = _frame_shape(image, objects) if len(objects) else shape
    found = _measure(image, objects, shape, threshold)
    return _clean(found, _width(shape), image)


def _empty() -> Detections:
    none = np.zeros(0)
    return Detections(**{field.name: none for field in fields(Detections) if field.name != "flags"}, flags=np.zeros(0, np.int32))


def _prepare(data: npt.NDArray[np.floating], variance: npt.NDArray[np.floating], mask: npt.NDArray[np.integer]) -> _Image | None:
    """Background-subtracted image and its local noise; None where no pixel is usable."""
    ignored = (mask & int(Mask.NO_DATA | Mask.HOT | Mask.DEAD | Mask.COSMIC)) != 0
    bad = ignored | ~np.isfinite(data) | ~np.isfinite(variance) | ~(variance > 0.0)
    if bad.all():
        return None
    # about zero, or float32 sums over a mesh lose the digits that a small noise needs
    flat = np.ascontiguousarray(np.where(bad, 0.0, data - _trend(data, bad)), dtype=np.float32)
    ny, nx = flat.shape
    background = sep.Background(flat, mask=bad, bw=min(MESH, nx), bh=min(MESH, ny), fw=3, fh=3)
    if not background.globalrms > 0.0:
        return None
    noise = np.maximum(background.rms(dtype=np.float32), np.float32(0.2 * background.globalrms))
    kept = np.ascontiguousarray(np.where(bad, 0.0, variance), dtype=np.float32)
    data = flat - background.back(dtype=np.float32)
    # a hole in a bright star keeps the stars around it from being told apart: what a pixel lacks, its neighbours lend
    empty = _fill(data, bad)
    _fill(kept, bad)
    return _Image(data, kept, noise, bad, empty, mask.astype(np.uint8))


def _trend(data: npt.NDArray[np.floating], bad: npt.NDArray[np.bool_]) -> FloatArray:
    """Clipped fit of the second degree in x and y: outside the outermost mesh centres sep's background is level, and twilight is not."""
    ny, nx = data.shape
    x, y = np.linspace(-1.0, 1.0, nx), np.linspace(-1.0, 1.0, ny)[:, None]
    step = 1 + int(np.sqrt(data.size / SAMPLE))
    good = ~bad[::step, ::step]
    if np.count_nonzero(good) < 100:
        return np.full(data.shape, np.median(data[~bad]), dtype=np.float64)
    u, v = (np.broadcast_to(axis, good.shape)[good] for axis in (x[::step], y[::step]))
    terms = np.stack([np.ones_like(u), u, u * u, v, u * v, v * v], axis=1)
    value = data[::step, ::step][good].astype(np.float64)
    residual = value - np.median(value)
    for _ in range(6):
        used = np.abs(residual) <= 2.5 * MAD_TO_SIGMA * np.median(np.abs(residual))
        c, *_ = np.linalg.lstsq(terms[used], value[used])
        residual = value - terms @ c
    return np.asarray((c[0] + c[1] * x + c[2] * x * x) + y * (c[3] + c[4] * x + c[5] * y))


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


def _detect(image: _Image, threshold: float, min_area: int, contrast: float, shape: FloatArray | None = None) -> npt.NDArray[np.void]:
    """What stands above the threshold of the image filtered by 3x3 pixels, or by a Gaussian of a covariance."""
    sep.set_extract_pixstack(max(STACK, image.data.size // 2))
    sep.set_sub_object_limit(4096)
    # in units of the noise and without sep's own noise array: with one, its cleaning mixes these units with ADU and drops stars
    kernel = FILTER if shape is None else _kernel(shape)
    height = float(np.sqrt(np.sum(kernel**2)))
    if shape is None:
        seen, threshold = image.data / image.noise, threshold * height / float(kernel.sum())
    else:
        from scipy.signal import oaconvolve  # few frames need it, and it takes long to import

        seen = np.ascontiguousarray(oaconvolve(image.data / image.noise, kernel / height, mode="same"), dtype=np.float32)
        # noise has the grain of its filter: what stands out must be as much larger
        min_area = max(min_area, round(min_area * (kernel.sum() / height) ** 2 / GRAIN))
    objects = sep.extract(
        seen,
        threshold,
        mask=image.empty,
        minarea=min_area,
        deblend_cont=contrast,
        deblend_nthresh=LEVELS,
        filter_kernel=FILTER if shape is None else None,
    )
    objects["flux"] *= image.noise[objects["ypeak"], objects["xpeak"]]
    objects["peak"] = image.data[objects["ypeak"], objects["xpeak"]]
    usable = np.isfinite(objects["x"]) & np.isfinite(objects["y"]) & (objects["a"] > 0.0) & (objects["b"] > 0.0)
    objects = objects[usable]
    return np.asarray(objects[~_sharp(image, objects)])


def _kernel(shape: FloatArray) -> npt.NDArray[np.float32]:
    """Gaussian filter that finds stars of a shape."""
    a, b, _ = axes_of(shape[None])
    # a trail needs all of its length, or its own noise splits it; round stars keep more of what tells neighbours apart
    xx, yy, xy = shape if a[0] > ELONGATED * b[0] else shape / 4.0
    reach_x, reach_y = int(np.ceil(3.0 * np.sqrt(xx))), int(np.ceil(3.0 * np.sqrt(yy)))
    y, x = np.mgrid[-reach_y : reach_y + 1, -reach_x : reach_x + 1]
    return np.asarray(np.exp(-0.5 * (yy * x**2 - 2.0 * xy * x * y + xx * y**2) / (xx * yy - xy**2)), dtype=np.float32)


def _sharp(image: _Image, objects: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Whether one pixel holds more of the light than any star focused by optics."""
    core, _, _ = sep.sum_circle(image.data, objects["xpeak"].astype(np.float64), objects["ypeak"].astype(np.float64), 1.5, mask=image.empty)
    return np.asarray(objects["peak"] > SHARPEST * core)


def _isophotal(objects: npt.NDArray[np.void]) -> FloatArray:
    """Covariance xx, yy, xy of the light above the threshold (pixel^2), at least that of a sharp star."""
    return np.column_stack([np.maximum(objects["x2"], 0.4), np.maximum(objects["y2"], 0.4), np.zeros(len(objects))])


def _frame_shape(image: _Image, objects: npt.NDArray[np.void]) -> FloatArray:
    """Median covariance xx, yy, xy (pixel^2) of well-exposed, unsaturated, unblended stars; of all, if there are few."""
    row, column = objects["ypeak"], objects["xpeak"]
    exposed = ((image.mask[row, column] & int(Mask.SATURATED)) == 0) & (objects["peak"] > 5.0 * image.noise[row, column])
    for good in ((objects["flag"] == 0) & exposed, exposed, np.ones(len(objects), dtype=bool)):
        chosen = objects[good]
        chosen = chosen[np.lexsort((chosen["x"], chosen["y"], -chosen["flux"]))[:MODELS]]
        shapes = adaptive_shapes(image.data, image.bad, chosen["x"], chosen["y"], _isophotal(chosen))
        shapes = shapes[np.isfinite(shapes[:, 0])]
        if len(shapes) >= 10:
            break
    if len(shapes) == 0:
        shapes = _isophotal(objects)
    shape = np.asarray(np.median(shapes, axis=0), dtype=np.float64)
    # medians of each term make no ellipse of their own by necessity
    shape[2] = np.clip(shape[2], -0.99 * np.sqrt(shape[0] * shape[1]), 0.99 * np.sqrt(shape[0] * shape[1]))
    return shape * max(1.0, (MIN_FWHM / _width(shape)) ** 2)


def _width(shape: FloatArray) -> float:
    """FWHM of a covariance xx, yy, xy (pixel)."""
    return float(FWHM_PER_SIGMA * (shape[0] * shape[1] - shape[2] ** 2) ** 0.25)


def _measure(image: _Image, objects: npt.NDArray[np.void], shape: FloatArray, threshold: float) -> Detections:
    """Centroids, shapes, fluxes and flags of what stands out under the window too."""
    order = np.lexsort((objects["x"], objects["y"], -objects["flux"]))
    objects = objects[order]
    major, seeing = axes_of(shape[None])[0][0], _width(shape)
    limit = np.maximum(max(seeing, major), objects["a"].astype(np.float64))
    near = neighbours_of(objects["x"], objects["y"], 8.0 * major)
    x, y, covariance, height, weight, spread = windowed_centroids(
        image.data, image.variance, image.bad, objects["x"], objects["y"], shape, limit, near
    )
    shapes = adaptive_shapes(image.data, image.bad, x, y, np.tile(shape, (len(x), 1)), height=height, shape=shape, neighbours=near)
    a, b, theta = axes_of(shapes)
    s, d, k = sdk_of(shapes)
    flux, flux_err, flags = _fluxes(image, x, y, seeing)
    found = Detections(
        x=x,
        y=y,
        x_err=np.sqrt(covariance[:, 0]),
        y_err=np.sqrt(covariance[:, 1]),
        flux=flux,
        flux_err=flux_err,
        peak=objects["peak"].astype(np.float64),
        s=s,
        d=d,
        k=k,
        fwhm=FWHM_PER_SIGMA * np.sqrt(a * b),
        semi_major=a,
        semi_minor=b,
        theta=theta,
        snr=flux / flux_err,
        flags=flags,
    )
    noise = np.maximum(image.noise[objects["ypeak"], objects["xpeak"]], spread)
    return found.take(weight > threshold * noise)


def _fluxes(image: _Image, x: FloatArray, y: FloatArray, seeing: float) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int32]]:
    """Flux and its error (ADU) within the flux radius, flags within the flag radius."""
    # filled pixels have a value for the sum, and still set their flag
    used = (image.mask & ~np.uint8(Mask.NO_DATA)) | np.where(image.empty, np.uint8(Mask.NO_DATA), np.uint8(0))
    used |= np.where(image.bad & (used == 0), np.uint8(Mask.DEAD), np.uint8(0))
    sums = aperture_photometry(image.data, image.variance, used, x, y, [FLUX_RADIUS * seeing, FLAG_RADIUS * seeing])
    return sums.flux[:, 0], np.sqrt(sums.variance[:, 0]), sums.flags


def _clean(found: Detections, seeing: float, image: _Image) -> Detections:
    """Drop what cannot be a star, keep the brighter of coinciding ones, mark blends, sort."""
    ny, nx = image.data.shape
    inside = (found.x > -0.5) & (found.x < nx - 0.5) & (found.y > -0.5) & (found.y < ny - 0.5)
    found = found.take(inside & np.isfinite(found.snr) & (found.snr > 0.0) & np.isfinite(found.x_err))
    found = found.take(np.lexsort((found.x, found.y, -found.flux)))
    if len(found) < 2:
        return found
    pairs = cKDTree(np.column_stack([found.x, found.y])).query_pairs(0.5 * seeing, output_type="ndarray")
    keep = np.ones(len(found), dtype=bool)
    keep[pairs.max(axis=1)] = False  # of a pair the later is the fainter
    found = found.take(keep & _first_of_plateau(found, image))
    near = blended(found.x, found.y, -2.5 * np.log10(found.flux), FLAG_RADIUS * seeing, BLEND_MAGNITUDES)
    return replace(found, flags=found.flags | np.where(near, np.int32(Flag.BLENDED), np.int32(0)))


def _first_of_plateau(found: Detections, image: _Image) -> npt.NDArray[np.bool_]:
    """Whether no brighter detection stands in the same connected saturated pixels: noise splits a plateau that stars do not."""
    saturated = (image.mask & int(Mask.SATURATED)) != 0
    first = np.ones(len(found), dtype=bool)
    if saturated.any():
        area, _ = ndimage.label(saturated)
        own = area[np.rint(found.y).astype(int), np.rint(found.x).astype(int)]
        at = np.flatnonzero(own)
        _, lead = np.unique(own[at], return_index=True)
        first[at] = False
        first[at[lead]] = True
    return first
