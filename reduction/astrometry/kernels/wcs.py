"""Plate solutions: sky to pixel and back, and proper motion.

A solution is the gnomonic projection (Calabretta & Greisen 2002, A&A 395, 1077, TAN)
about a tangent point, followed by one polynomial per axis that gives the pixel.
Fitting in this direction (sky to pixel) is what forced photometry asks for, and
puts the residuals in the frame's own unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from reduction.kernels.arrays import FloatArray

__all__ = [
    "PlateSolution",
    "apply_proper_motion",
    "design_matrix",
    "exponents",
    "gnomonic",
    "gnomonic_inverse",
    "rotation_matrix",
    "unit_vectors",
]


MAS = np.pi / 180.0 / 3.6e6  # milliarcsecond in radian
NEWTON_STEPS = 50
ARCSEC = 3600.0


def exponents(order: int) -> list[tuple[int, int]]:
    """Exponents (i, j) of the terms xi^i eta^j up to total degree `order`, by degree, xi first."""
    return [(degree - j, j) for degree in range(order + 1) for j in range(degree + 1)]


def design_matrix(xi: npt.ArrayLike, eta: npt.ArrayLike, order: int) -> FloatArray:
    """Values of every term of `exponents(order)` at `xi`, `eta` (any unit); shape (..., n_terms)."""
    u = _powers(np.asarray(xi, dtype=np.float64), order)
    v = _powers(np.asarray(eta, dtype=np.float64), order)
    return np.stack([u[i] * v[j] for i, j in exponents(order)], axis=-1)


def _powers(value: FloatArray, order: int) -> list[FloatArray]:
    powers = [np.ones_like(value)]
    for _ in range(order):
        powers.append(powers[-1] * value)
    return powers


def unit_vectors(ra: npt.ArrayLike, dec: npt.ArrayLike) -> FloatArray:
    """ICRS unit vectors, shape (..., 3), of `ra`, `dec` (degree). NaN stays NaN."""
    alpha, delta = np.broadcast_arrays(np.radians(np.asarray(ra, dtype=np.float64)), np.radians(np.asarray(dec, dtype=np.float64)))
    return np.stack([np.cos(delta) * np.cos(alpha), np.cos(delta) * np.sin(alpha), np.sin(delta)], axis=-1)


def _angles(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    ra = np.degrees(np.arctan2(vectors[..., 1], vectors[..., 0])) % 360.0
    ra = np.where(ra >= 360.0, 0.0, ra)  # the remainder of a tiny negative number rounds to 360
    return ra, np.degrees(np.arctan2(vectors[..., 2], np.hypot(vectors[..., 0], vectors[..., 1])))


def rotation_matrix(ra0: float, dec0: float) -> FloatArray:
    """Rows east, north, outward: the local frame at (`ra0`, `dec0`) degree, shape (3, 3)."""
    alpha, delta = np.radians(ra0), np.radians(dec0)
    sa, ca, sd, cd = np.sin(alpha), np.cos(alpha), np.sin(delta), np.cos(delta)
    return np.array([[-sa, ca, 0.0], [-sd * ca, -sd * sa, cd], [cd * ca, cd * sa, sd]])


def gnomonic(ra: npt.ArrayLike, dec: npt.ArrayLike, ra0: float, dec0: float) -> tuple[FloatArray, FloatArray]:
    """Standard coordinates xi (to the east), eta (to the north), in degree.

    NaN for positions 90 degree or farther from the tangent point (`ra0`, `dec0`).
    """
    local = unit_vectors(ra, dec) @ rotation_matrix(ra0, dec0).T
    depth = np.where(local[..., 2] > 1e-9, local[..., 2], np.nan)
    return np.degrees(local[..., 0] / depth), np.degrees(local[..., 1] / depth)


def gnomonic_inverse(xi: npt.ArrayLike, eta: npt.ArrayLike, ra0: float, dec0: float) -> tuple[FloatArray, FloatArray]:
    """RA (0 to 360) and Dec of standard coordinates `xi`, `eta` about (`ra0`, `dec0`); all in degree."""
    east, north = np.broadcast_arrays(np.radians(np.asarray(xi, dtype=np.float64)), np.radians(np.asarray(eta, dtype=np.float64)))
    local = np.stack([east, north, np.ones_like(east)], axis=-1)
    return _angles(local @ rotation_matrix(ra0, dec0))


def apply_proper_motion(
    ra: npt.ArrayLike, dec: npt.ArrayLike, pmra: npt.ArrayLike, pmdec: npt.ArrayLike, epoch_from: npt.ArrayLike, epoch_to: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Move stars along straight lines in space from one epoch to another.

    Parameters
    ----------
    ra, dec : array_like
        Position at `epoch_from` (degree, ICRS).
    pmra, pmdec : array_like
        Proper motion (mas/yr; pmra includes cos dec). NaN counts as 0.
    epoch_from, epoch_to : array_like
        Julian years.

    Returns
    -------
    ra, dec : ndarray
        Position at `epoch_to` (degree; RA 0 to 360).

    Notes
    -----
    Exact on the sphere, poles included, for a star without radial velocity and parallax
    (ESA 1997, Hipparcos and Tycho Catalogues, vol. 1, 1.5.5).
    """
    alpha, delta, mu_ra, mu_dec, years = np.broadcast_arrays(
        np.radians(np.asarray(ra, dtype=np.float64)),
        np.radians(np.asarray(dec, dtype=np.float64)),
        np.nan_to_num(np.asarray(pmra, dtype=np.float64)) * MAS,
        np.nan_to_num(np.asarray(pmdec, dtype=np.float64)) * MAS,
        np.asarray(epoch_to, dtype=np.float64) - np.asarray(epoch_from, dtype=np.float64),
    )
    sa, ca, sd, cd = np.sin(alpha), np.cos(alpha), np.sin(delta), np.cos(delta)
    east = np.stack([-sa, ca, np.zeros_like(sa)], axis=-1)
    north = np.stack([-sd * ca, -sd * sa, cd], axis=-1)
    outward = np.stack([cd * ca, cd * sa, sd], axis=-1)
    return _angles(outward + (mu_ra * years)[..., None] * east + (mu_dec * years)[..., None] * north)


@dataclass(frozen=True)
class PlateSolution:
    """Sky to pixel for one frame.

    Attributes
    ----------
    ra0, dec0 : float
        Tangent point (degree, ICRS).
    order : int
        Total degree of the polynomials.
    coeff_x, coeff_y : tuple of float
        Coefficients of `exponents(order)` in xi, eta (degree), giving x, y (pixel, 0-based pixel
        centres); a term of degree d is in pixel / degree^d.
    nx, ny : int
        Size of the frame (pixel).
    """

    ra0: float
    dec0: float
    order: int
    coeff_x: tuple[float, ...]
    coeff_y: tuple[float, ...]
    nx: int
    ny: int

    def project(self, ra: npt.ArrayLike, dec: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Pixel position of `ra`, `dec` (degree).

        NaN where the position is behind the tangent plane, is NaN itself, or lies, by the linear
        terms, more than half a frame outside the frame: there the polynomial is extrapolated and
        could lead back into the frame.
        """
        xi, eta = gnomonic(ra, dec, self.ra0, self.dec0)
        x, y = self._polynomial(xi, eta)
        linear = np.einsum("...i,ij->...j", design_matrix(xi, eta, 1), self._coefficients[:3])
        with np.errstate(invalid="ignore"):
            near_x = np.abs(linear[..., 0] - (self.nx - 1) / 2.0) <= self.nx
            near_y = np.abs(linear[..., 1] - (self.ny - 1) / 2.0) <= self.ny
        near = near_x & near_y
        return np.where(near, x, np.nan), np.where(near, y, np.nan)

    def shifted(self, dx: float, dy: float, size: tuple[int, int] | None = None) -> PlateSolution:
        """The same for a frame on which every star lies `dx`, `dy` (pixel) further, of `size` (nx, ny) if that is another."""
        nx, ny = size or (self.nx, self.ny)
        coeff_x, coeff_y = (self.coeff_x[0] + dx, *self.coeff_x[1:]), (self.coeff_y[0] + dy, *self.coeff_y[1:])
        return PlateSolution(self.ra0, self.dec0, self.order, coeff_x, coeff_y, nx, ny)

    def unproject(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """RA (0 to 360) and Dec (degree) of pixel positions.

        The inverse of `project` by Newton's method, to rounding (1e-12 of the pixel
        number) within the frame; NaN where it does not converge, which happens far outside only.
        """
        xi, eta = self._invert(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
        return gnomonic_inverse(xi, eta, self.ra0, self.dec0)

    def inside(self, x: npt.ArrayLike, y: npt.ArrayLike, margin: float = 0.0) -> npt.NDArray[np.bool_]:
        """Whether pixel positions lie on the frame, `margin` pixel or more from its border."""
        column, row = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        in_x = (column >= margin - 0.5) & (column <= self.nx - 0.5 - margin)
        return np.asarray(in_x & (row >= margin - 0.5) & (row <= self.ny - 0.5 - margin))

    @cached_property
    def _coefficients(self) -> FloatArray:
        return np.array([self.coeff_x, self.coeff_y], dtype=np.float64).T

    def _polynomial(self, xi: FloatArray, eta: FloatArray) -> tuple[FloatArray, FloatArray]:
        # einsum, not BLAS: matrices this thin gain nothing from its threads, which would fight those of other frames
        value = np.einsum("...i,ij->...j", design_matrix(xi, eta, self.order), self._coefficients)
        return value[..., 0], value[..., 1]

    def jacobian(self, xi: npt.ArrayLike, eta: npt.ArrayLike) -> FloatArray:
        """d(x, y) / d(xi, eta) in pixel/degree at standard coordinates in degree, shape (..., 2, 2)."""
        u, v = _powers(np.asarray(xi, dtype=np.float64), self.order), _powers(np.asarray(eta, dtype=np.float64), self.order)
        terms = exponents(self.order)
        zero = np.zeros_like(u[0])
        by_xi = np.stack([i * u[i - 1] * v[j] if i else zero for i, j in terms], axis=-1)
        by_eta = np.stack([j * u[i] * v[j - 1] if j else zero for i, j in terms], axis=-1)
        return np.stack([np.einsum("...i,ij->...j", by, self._coefficients) for by in (by_xi, by_eta)], axis=-1)

    def _invert(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        x, y = np.broadcast_arrays(x, y)
        linear = np.linalg.inv(self._coefficients[1:3].T)
        dx, dy = x - self.coeff_x[0], y - self.coeff_y[0]
        xi, eta = linear[0, 0] * dx + linear[0, 1] * dy, linear[1, 0] * dx + linear[1, 1] * dy
        miss = np.full(x.shape, np.inf)
        with np.errstate(all="ignore"):
            for _ in range(NEWTON_STEPS):
                px, py = self._polynomial(xi, eta)
                dx, dy = x - px, y - py
                miss = np.hypot(dx, dy)
                if not np.any(miss > 1e-12 * (1.0 + np.hypot(x, y))):
                    break
                slope = self.jacobian(xi, eta)
                det = slope[..., 0, 0] * slope[..., 1, 1] - slope[..., 0, 1] * slope[..., 1, 0]
                xi = xi + (slope[..., 1, 1] * dx - slope[..., 0, 1] * dy) / det
                eta = eta + (slope[..., 0, 0] * dy - slope[..., 1, 0] * dx) / det
            converged = miss < 1e-10 * (1.0 + np.hypot(x, y))
        return np.where(converged, xi, np.nan), np.where(converged, eta, np.nan)

    @cached_property
    def centre(self) -> tuple[float, float]:
        """RA, Dec (degree) of the middle of the frame."""
        ra, dec = self.unproject((self.nx - 1) / 2.0, (self.ny - 1) / 2.0)
        return float(ra), float(dec)

    @cached_property
    def corners(self) -> list[tuple[float, float]]:
        """RA, Dec (degree) of the outer corners, from the origin counter-clockwise in x, y."""
        right, top = self.nx - 0.5, self.ny - 0.5
        ra, dec = self.unproject(np.array([-0.5, right, right, -0.5]), np.array([-0.5, -0.5, top, top]))
        return [(float(alpha), float(delta)) for alpha, delta in zip(ra, dec, strict=True)]

    @cached_property
    def radius(self) -> float:
        """Angle from the centre to the farthest corner (degree)."""
        corners = np.array(self.corners)
        chord = unit_vectors(corners[:, 0], corners[:, 1]) - unit_vectors(*self.centre)
        return float(np.degrees(2.0 * np.arcsin(np.clip(np.linalg.norm(chord, axis=1).max() / 2.0, 0.0, 1.0))))

    @cached_property
    def _local(self) -> FloatArray:
        """d(x, y) / d(east, north) in pixel/degree at the middle of the frame, on the sphere."""
        ra, dec = self.centre
        step = 1e-4
        east, north = gnomonic_inverse([step, -step, 0.0, 0.0], [0.0, 0.0, step, -step], ra, dec)
        x, y = self.project(east, north)
        return np.array([[x[0] - x[1], x[2] - x[3]], [y[0] - y[1], y[2] - y[3]]]) / (2.0 * step)

    @cached_property
    def scale(self) -> float:
        """Arcsec per pixel (geometric mean of the axes) at the middle of the frame."""
        return float(ARCSEC / np.sqrt(abs(np.linalg.det(self._local))))

    @cached_property
    def rotation(self) -> float:
        """Position angle of the +y axis at the middle of the frame (degree, north through east, 0 to 360)."""
        inverse = np.linalg.inv(self._local)
        return float(np.degrees(np.arctan2(inverse[0, 1], inverse[1, 1])) % 360.0)

    @property
    def parity(self) -> int:
        """-1 when the sky is seen as it is (east left of north up, y upwards), +1 when mirrored."""
        return int(np.sign(np.linalg.det(self._local)))

    def as_row(self) -> dict[str, Any]:
        """Plain values, fit for JSON and for columns."""
        return {
            "ra0": self.ra0,
            "dec0": self.dec0,
            "order": self.order,
            "coeff_x": list(self.coeff_x),
            "coeff_y": list(self.coeff_y),
            "nx": self.nx,
            "ny": self.ny,
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> PlateSolution:
        """The inverse of `as_row`; other keys of `row` are ignored."""
        return cls(
            ra0=float(row["ra0"]),
            dec0=float(row["dec0"]),
            order=int(row["order"]),
            coeff_x=tuple(float(value) for value in row["coeff_x"]),
            coeff_y=tuple(float(value) for value in row["coeff_y"]),
            nx=int(row["nx"]),
            ny=int(row["ny"]),
        )
