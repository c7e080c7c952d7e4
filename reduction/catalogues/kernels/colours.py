"""One magnitude and one colour for every star, from catalogues in which most stars have only some of the bands."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reduction.kernels.arrays import FloatArray
from reduction.kernels.robust import robust_scatter

__all__ = ["BANDS", "COLOURS", "assumed_colour", "colours_of", "combine", "fit_colour", "fit_magnitude", "main_column"]


#: Colours that can be formed, in order of preference at equal numbers: name, first band, second band (or a colour column).
COLOURS = (("BP-RP", "BP", "RP"), ("B-V", "B", "V"), ("BT-VT", "BT", "VT"), ("g-r", "g", "r"), ("g-i", "g", "i"), ("J-K", "J", "K"))
#: Bands that a magnitude can be taken in, in order of preference at equal numbers.
BANDS = ("G", "V", "r", "g", "VT", "i", "B", "RP", "BP", "BT", "z", "J", "H", "K")


def main_column(columns: Mapping[str, FloatArray]) -> str | None:
    """Name of the most complete column, of equals the first; None where no column has a value.

    Parameters
    ----------
    columns : mapping of name to float64, shape (n,)
        In order of preference; NaN where unknown.
    """
    counts = {name: int(np.isfinite(values).sum()) for name, values in columns.items()}
    best = max(counts, key=lambda name: counts[name], default=None)
    return best if best is not None and counts[best] else None


def combine(columns: list[FloatArray], degree: int) -> FloatArray:
    """The most complete column, its gaps filled from the others.

    Each other column is brought to the system of the first by a polynomial
    of the given degree fitted to the stars that have both (robustly: twice
    clipped at 4 sigma); fewer than 10 common stars fix an offset only, none
    leaves it as it is.

    Parameters
    ----------
    columns : list of float64, shape (n,)
        NaN where unknown.
    degree : int
        Degree of the relation.

    Returns
    -------
    float64, shape (n,)
        NaN where no column has a value.
    """
    order = sorted(range(len(columns)), key=lambda k: -int(np.isfinite(columns[k]).sum()))
    result = columns[order[0]].copy()
    for k in order[1:]:
        other = columns[k]
        gap = ~np.isfinite(result) & np.isfinite(other)
        if gap.any():
            result[gap] = _relation(other, columns[order[0]], degree)(other[gap])
    return result


def _relation(x: FloatArray, y: FloatArray, degree: int) -> np.polynomial.Polynomial:
    both = np.isfinite(x) & np.isfinite(y)
    if not both.any():
        return np.polynomial.Polynomial([0.0, 1.0])
    if both.sum() < 10:
        return np.polynomial.Polynomial([float(np.median(y[both] - x[both])), 1.0])
    fit = np.polynomial.Polynomial.fit(x[both], y[both], degree)
    for _ in range(2):
        residual = y - fit(x)
        scale = robust_scatter(residual[both])
        keep = both & (np.abs(residual) <= 4 * scale + 1e-9)
        fit = np.polynomial.Polynomial.fit(x[keep], y[keep], degree)
    return fit


def fit_magnitude(magnitudes: Mapping[str, FloatArray]) -> FloatArray:
    """One magnitude a star, on the system of the most complete band.

    Parameters
    ----------
    magnitudes : mapping of band to float64, shape (n,)
        NaN where unknown.

    Returns
    -------
    float64, shape (n,)
        NaN where no band has a value.
    """
    return combine([magnitudes[band] for band in (*BANDS, *sorted(magnitudes.keys() - set(BANDS))) if band in magnitudes], 1)


def fit_colour(magnitudes: Mapping[str, FloatArray], colours: Mapping[str, FloatArray]) -> FloatArray:
    """One measured colour a star, (n,), on the system of the most complete colour; NaN where none was measured.

    Parameters
    ----------
    magnitudes : mapping of band to float64, shape (n,)
    colours : mapping of name to float64, shape (n,)
        Colours that the catalogue gives as such, e.g. "B-V".
    """
    return combine(list(colours_of(magnitudes, colours).values()), 2)


def colours_of(magnitudes: Mapping[str, FloatArray], colours: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Every colour of `COLOURS` by name, (n,): of two magnitudes, else as the catalogue gives it; NaN where unknown.

    Parameters
    ----------
    magnitudes : mapping of band to float64, shape (n,)
        At least one entry here or in `colours`.
    colours : mapping of name to float64, shape (n,)
        Colours that the catalogue gives as such, e.g. "B-V".
    """
    n = len(next(iter({**magnitudes, **colours}.values())))
    found = {}
    for name, first, second in COLOURS:
        value = np.full(n, np.nan)
        if first in magnitudes and second in magnitudes:
            value = magnitudes[first] - magnitudes[second]
        if name in colours:
            value = np.where(np.isfinite(value), value, colours[name])
        found[name] = value
    return found


def assumed_colour(mag: FloatArray, known_mag: FloatArray, known_colour: FloatArray, *, default: float = 0.8) -> FloatArray:
    """The median colour of stars of that magnitude.

    The known stars are put into bins of 25 or more in magnitude; between
    the bins' medians it is linear, outside it is the end bin's.

    Parameters
    ----------
    mag : float64, shape (n,)
        Where a colour is wanted; NaN gives the median of all.
    known_mag, known_colour : float64, shape (m,)
        Stars with a measured colour; NaN are left out.
    default : float
        For when no star has one.
    """
    ok = np.isfinite(known_mag) & np.isfinite(known_colour)
    if not ok.any():
        return np.full(len(mag), default)
    order = np.argsort(known_mag[ok], kind="stable")
    m, c = known_mag[ok][order], known_colour[ok][order]
    centre, median = _medians(m), _medians(c)
    return np.where(np.isfinite(mag), np.interp(mag, centre, median), np.median(c))


def _medians(values: FloatArray) -> FloatArray:
    """Medians of successive pieces of 25 values or more; the first of them have one more where it does not come out even."""
    n_piece = max(1, len(values) // 25)
    size, n_longer = divmod(len(values), n_piece)
    longer, rest = np.split(values, [n_longer * (size + 1)])
    parts = [part.reshape(-1, width) for part, width in ((longer, size + 1), (rest, size)) if len(part)]
    return np.concatenate([np.median(part, axis=1) for part in parts])
