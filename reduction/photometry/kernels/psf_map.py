"""A star's profile as a smooth function of the place on the frame.

The profile is a tensor product of cubic splines in the offset from the star, whose coefficients are polynomials in x and y
over the frame. It has unit integral everywhere, and keeps its negative values: to clip them would add light to
faint stars. Further terms, the same over the whole frame, say how it changes with what is known of a star. What is mapped is the
pixel's response (PRF: a pixel holds the profile's value at its centre) or the light's own profile (PSF: a pixel holds its integral
over the sensitive part of the pixel); `pixel` tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from reduction.astrometry.kernels.wcs import design_matrix, exponents
from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.photometry.kernels.splines import PADDING, axis_integrals, axis_values, spline_values

__all__ = ["FurtherTerm", "PsfMap", "Stamps", "Traits", "active_functions", "local_profile", "map_terms", "unit_integral"]

#: What is known of n stars, by the names of further terms: float64 (n,) each, NaN where unknown.
Traits = Mapping[str, FloatArray]


class Stamps(NamedTuple):
    """Pixels of n stars of unit flux.

    `share` (n, size, size), the share of a star's light in each pixel, 0 beyond the map's radius; `x0`, `y0` (n,), the pixel
    of the frame that the first column and row are.
    """

    share: FloatArray
    x0: IntArray
    y0: IntArray


@dataclass(frozen=True)
class FurtherTerm:
    """A term of a map beyond those in x and y: linear in something that is known of stars.

    Attributes
    ----------
    name : str
        What it is linear in, as `Traits` has it.
    centre, scale : float
        Its value is (what is known - centre) / scale; the map without it is that of a star at the centre.
    low, high : float
        Least and largest of the stars that it was fitted to: others count as these.
    """

    name: str
    centre: float
    scale: float
    low: float
    high: float

    def values(self, known: FloatArray) -> FloatArray:
        """Value for each of n stars, (n,); 0 where nothing is known (NaN)."""
        inside = (np.clip(known, self.low, self.high) - self.centre) / self.scale
        return np.asarray(np.where(np.isfinite(known), inside, 0.0), dtype=np.float64)


@dataclass(frozen=True)
class PsfMap:
    """Smooth map of the profile of stars over one frame.

    Attributes
    ----------
    nx, ny : int
        Size of the frame (pixel).
    order : int
        Total degree in x and y, each scaled to run from -1 to 1 between the outermost pixel centres.
    knots : float64, shape (m + 4,)
        Knots of the splines along either axis (pixel); see `splines.axis_knots`.
    coeff : float64, shape (n_term, m, m)
        Coefficients: terms of x, y in the order of `exponents`, then further ones; function in y, function in x (1/pixel^2).
    radius : float
        The profile counts as far as this from the star (pixel).
    pixel : float
        Width of the sensitive part of a pixel (pixel) over which the profile is integrated; 0 for a PRF.
    further : tuple of FurtherTerm
        Terms beyond those in x and y.
    """

    nx: int
    ny: int
    order: int
    knots: FloatArray
    coeff: FloatArray
    radius: float
    pixel: float
    further: tuple[FurtherTerm, ...] = ()

    def terms(self, x: FloatArray, y: FloatArray, traits: Traits | None = None) -> FloatArray:
        """Value of every term for stars on the frame, shape (n, n_term); places beyond the border count as on it.

        Further terms are 0 for stars of which nothing is known, and all of them without `traits`.
        """
        place = map_terms(x, y, (self.nx, self.ny), self.order)
        if not self.further:
            return place
        known = traits or {}
        return np.column_stack([place, *[t.values(known[t.name]) if t.name in known else np.zeros(len(x)) for t in self.further]])

    def response(self, x: float, y: float, dx: FloatArray, dy: FloatArray, traits: Traits | None = None) -> FloatArray:
        """What pixels hold of a star at a place on the frame.

        Parameters
        ----------
        x, y : float
            The place (pixel).
        dx, dy : float64, shape (p,) and (q,)
            Offsets of the pixels' centres from the star (pixel), of columns and of rows.
        traits : dict of str to float64, shape (1,), optional
            What is known of the star.

        Returns
        -------
        float64, shape (q, p)
            Share of the star's light.
        """
        local = np.einsum("k,kba->ba", self.terms(np.array([x]), np.array([y]), traits)[0], self.coeff)
        image: FloatArray = np.einsum("qb,ba,pa->qp", _rows(self.knots, dy, self.pixel), local, _rows(self.knots, dx, self.pixel))
        return image

    def stamps(self, x: FloatArray, y: FloatArray, traits: Traits | None = None) -> Stamps:
        """Pixels of stars of unit flux at positions `x`, `y` (pixel), of which `traits` are known."""
        size = _stamp_size(self.radius)
        x0, y0 = np.floor(x + 0.5).astype(np.int64) - size // 2, np.floor(y + 0.5).astype(np.int64) - size // 2
        out = np.empty((len(x), size, size))
        free = np.ascontiguousarray(self.coeff[:, PADDING:-PADDING, PADDING:-PADDING])
        _stamps(self.knots, free, self.terms(x, y, traits), self.radius, self.pixel, x - x0, y - y0, out)
        return Stamps(out, x0, y0)

    def fwhm(self, x: float, y: float) -> float:
        """Full width at half maximum (pixel) of a star at `x`, `y` as pixels show it: of a circle of the area above half maximum."""
        step = float(np.diff(self.knots).min()) / 8.0
        offset = np.arange(-self.radius, self.radius + step, step)
        image = self.response(x, y, offset, offset)
        return float(2.0 * np.sqrt(np.count_nonzero(image > 0.5 * image.max()) * step**2 / np.pi))

    @property
    def active(self) -> BoolArray:
        """Which functions (y, x) have a coefficient, shape (m, m)."""
        return active_functions(self.knots, self.radius)

    def free(self, order: int) -> FloatArray:
        """The coefficients of these functions, term after term, up to an order, and further ones; what the map lacks is zero."""
        known, own = self.coeff[:, self.active], len(exponents(self.order))
        out = np.zeros((len(exponents(order)) + len(self.further), known.shape[1]))
        shared = min(own, len(exponents(order)))
        out[:shared], out[len(exponents(order)) :] = known[:shared], known[own:]
        return out.ravel()

    def with_free(self, order: int, free: FloatArray, further: tuple[FurtherTerm, ...] = ()) -> PsfMap:
        """The same but for these terms and coefficients, and of unit integral."""
        coeff = np.zeros((len(exponents(order)) + len(further), *self.coeff.shape[1:]))
        coeff[:, self.active] = free.reshape(len(coeff), -1)
        return replace(self, order=order, coeff=unit_integral(coeff, self.knots), further=further)

    def drawn_out(self, width: float) -> PsfMap:
        """The same profile but so many times as wide, and still of unit integral; the sensitive part of a pixel stays as it is."""
        if width == 1.0:
            return self
        return replace(self, knots=self.knots * width, coeff=self.coeff / width**2, radius=self.radius * width)

    def to_row(self) -> dict[str, Any]:
        """Plain values, fit for JSON; coefficients to seven digits."""
        coeff = [float(f"{value:.7g}") for value in self.coeff.ravel()]
        knots = [float(value) for value in self.knots]
        plain = {"nx": self.nx, "ny": self.ny, "order": self.order, "radius": self.radius, "pixel": self.pixel}
        return {**plain, "further": [asdict(term) for term in self.further], "knots": knots, "coeff": coeff}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> PsfMap:
        """The inverse of `to_row`; rows from before there were further terms do not name them."""
        knots = np.array(row["knots"], dtype=np.float64)
        m = len(knots) - 4
        coeff = np.array(row["coeff"], dtype=np.float64).reshape(-1, m, m)
        further = tuple(FurtherTerm(**term) for term in row.get("further", ()))
        return cls(row["nx"], row["ny"], row["order"], knots, coeff, row["radius"], row["pixel"], further)


def active_functions(knots: FloatArray, radius: float) -> BoolArray:
    """Which products of splines have a coefficient: those whose middle is within the radius.

    Parameters
    ----------
    knots : float64, shape (m + 4,)
        Knots along either axis (pixel).
    radius : float
        Pixel.

    Returns
    -------
    bool, shape (m, m)
        Function in y, function in x.
    """
    middle = knots[2:-2]
    inside = middle[:, None] ** 2 + middle[None, :] ** 2 < radius**2
    inside[:PADDING] = inside[-PADDING:] = inside[:, :PADDING] = inside[:, -PADDING:] = False
    return np.asarray(inside)


def map_terms(x: FloatArray, y: FloatArray, size: tuple[int, int], order: int) -> FloatArray:
    """Terms of a polynomial over a frame.

    Parameters
    ----------
    x, y : float64, shape (n,)
        Places (pixel); those beyond the border count as on it.
    size : (int, int)
        nx, ny of the frame: x and y are scaled to run from -1 to 1 between the outermost pixel centres.
    order : int
        Total degree.

    Returns
    -------
    float64, shape (n, n_term)
        In the order of `exponents`.
    """
    # frames one pixel wide have no middle to scale from
    u = np.clip(2.0 * x / max(size[0] - 1, 1) - 1.0, -1.0, 1.0)
    v = np.clip(2.0 * y / max(size[1] - 1, 1) - 1.0, -1.0, 1.0)
    return design_matrix(u, v, order)


def unit_integral(coeff: FloatArray, knots: FloatArray) -> FloatArray:
    """Scale a map so that the profile's integral is 1 everywhere on the frame.

    Parameters
    ----------
    coeff : float64, shape (n_term, m, m)
        Coefficients of a map.
    knots : float64, shape (m + 4,)
        Its knots (pixel).

    Returns
    -------
    float64, shape (n_term, m, m)
        The integral of the first term is 1, that of every other is 0.
    """
    weight = axis_integrals(knots)
    integral = np.einsum("kba,b,a->k", coeff, weight, weight)
    out = coeff / integral[0]
    out[1:] -= (integral[1:] / integral[0])[:, None, None] * out[0]
    return np.asarray(out, dtype=np.float64)


def _stamp_size(radius: float) -> int:
    """Side (pixel, odd) of a stamp that holds a profile wherever in its middle pixel the star is."""
    return 2 * int(np.ceil(radius)) + 1


def _rows(knots: FloatArray, offset: FloatArray, width: float) -> FloatArray:
    out, values = np.zeros((len(offset), len(knots) - 4)), np.zeros(len(knots) - 4)
    for row, value in zip(out, offset, strict=True):
        first, last = spline_values(knots, value, width, values)
        row[first:last] = values[first:last]
    return out


@njit(cache=True)
def _render(
    knots: FloatArray,
    local: FloatArray,
    radius: float,
    pixel: float,
    x: float,
    y: float,
    basis: tuple[FloatArray, FloatArray],
    ranges: tuple[IntArray, IntArray],
    out: FloatArray,
) -> None:
    """Pixels of one star of unit flux at `x`, `y` within the stamp; local (m, m): the map's free coefficients there.

    Work space: basis, two of (size, m), values of the functions at the pixels of a row and of a column; ranges, two of
    (size, 2), which of those are not zero.
    """
    size, m = out.shape[0], local.shape[0]
    axis_values(knots, x, pixel, basis[0], ranges[0])
    axis_values(knots, y, pixel, basis[1], ranges[1])
    row = np.empty(m)
    for q in range(size):
        b0, b1 = ranges[1][q, 0], ranges[1][q, 1]
        for a in range(m):
            total = 0.0
            for b in range(b0, b1):
                total += basis[1][q, b] * local[b, a]
            row[a] = total
        for p in range(size):
            out[q, p] = 0.0
            if (p - x) ** 2 + (q - y) ** 2 > radius * radius:
                continue
            total = 0.0
            for a in range(ranges[0][p, 0], ranges[0][p, 1]):
                total += basis[0][p, a] * row[a]
            out[q, p] = total


@njit(cache=True)
def local_profile(terms: FloatArray, coeff: FloatArray, out: FloatArray) -> None:
    """Coefficients of the profile at a place on the frame.

    Parameters
    ----------
    terms : float64, shape (n_term,)
        Values of the terms there.
    coeff : float64, shape (n_term, m, m)
        Of the map.
    out : float64, shape (m, m)
        Where they go.
    """
    m = out.shape[0]
    for b in range(m):
        for a in range(m):
            out[b, a] = terms[0] * coeff[0, b, a]
        for k in range(1, terms.size):
            for a in range(m):
                out[b, a] += terms[k] * coeff[k, b, a]


@njit(cache=True)
def _stamps(
    knots: FloatArray,
    coeff: FloatArray,
    terms: FloatArray,
    radius: float,
    pixel: float,
    x: FloatArray,
    y: FloatArray,
    out: FloatArray,
) -> None:
    m = coeff.shape[1]
    size = out.shape[1]
    local = np.empty((m, m))
    basis = (np.zeros((size, m)), np.zeros((size, m)))
    ranges = (np.zeros((size, 2), np.int64), np.zeros((size, 2), np.int64))
    for i in range(x.size):
        local_profile(terms[i], coeff, local)
        _render(knots, local, radius, pixel, x[i], y[i], basis, ranges, out[i])
