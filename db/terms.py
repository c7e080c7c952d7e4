"""The terms of the magnitude fit: one table that generates the SQL of the views and the columns of the fit.

A term is a product of variables. Each variable is one SQL expression over
the aliases m (measurement), f (frame), ff (frame_field) and s (source), and the caller of
`design` supplies the same variable as an array. Those of `MAPS` are maps of a frame, of star shapes and of the profile: they are
polynomials of X and Y, whose coefficients are rows of `magfit_map`.

Terms come in groups. A database evaluates a group only for solutions that say, in `term_groups`, that they use it: what looks a frame's
background or a map up costs nothing where no fit has it.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "COLOUR_PIVOT",
    "MAG_PIVOT",
    "MAPS",
    "MAP_TERMS",
    "TERMS",
    "VARIABLES",
    "Term",
    "correction",
    "correction_sql",
    "design",
    "map_value",
    "needed",
    "term_groups",
]

T = TypeVar("T")
Array = NDArray[np.float64]

#: Pivots that keep the terms well conditioned.
COLOUR_PIVOT = 0.8
MAG_PIVOT = 12.0

_AIRMASS = "(1.0 / (f.zx * s.ux + f.zy * s.uy + f.zz * s.uz) - ff.airmass)"

#: Variable -> SQL. An unknown site has no airmass: the variable is then 0.
VARIABLES: dict[str, str] = {
    "X": "((2.0 * m.x + 1.0) / f.nx - 1.0)",
    "Y": "((2.0 * m.y + 1.0) / f.ny - 1.0)",
    "colour": f"(s.fit_colour - {COLOUR_PIVOT})",
    "mag": f"(s.fit_mag - {MAG_PIVOT})",
    "airmass": f"COALESCE({_AIRMASS}, 0.0)",
    "sin_x": "sin(6.283185307179586 * m.x)",
    "cos_x": "cos(6.283185307179586 * m.x)",
    "sin_y": "sin(6.283185307179586 * m.y)",
    "cos_y": "cos(6.283185307179586 * m.y)",
    "background": (
        "COALESCE((SELECT (m.background - fb.level) / NULLIF(fb.noise, 0.0) FROM frame_background fb WHERE fb.frame_id = f.frame_id), 0.0)"
    ),
}

#: Maps of a frame, by name: what they are of. Each is taken less its mean over the frame.
MAPS: dict[str, str] = {
    "shape_s": "size of stars: the mean logarithm of 1/pixel^2 of the shape map",
    "shape_d": "ellipticity of stars along the axes, in the logarithm of the shape map",
    "shape_k": "ellipticity of stars along the diagonals, in the logarithm of the shape map",
    "psf_peak": "logarithm of the part of a star's light in the pixel that it stands on the middle of, of the profile map",
}


@dataclass(frozen=True)
class Term:
    """One term: a product of variables (none for the constant).

    Its group is a bit of `magfit_solution.term_groups`; 0 for the terms that are always evaluated.
    """

    name: str
    factors: tuple[str, ...]
    group: int = 0

    @property
    def column(self) -> str:
        """Name of the coefficient's column in `magfit_solution`."""
        return f"c_{self.name}"

    @property
    def label(self) -> str:
        """The term for people, e.g. ``X * X * Y``."""
        return " * ".join(self.factors) or "1"

    @property
    def degree(self) -> int:
        """Total degree in X and Y."""
        return sum(factor in ("X", "Y") for factor in self.factors)


_HIGHER, _FURTHER, _BACKGROUND, _MAPS = 1, 2, 4, 8


def _position_terms(order: int) -> list[Term]:
    terms = [Term("const", ())]
    for degree in range(1, order + 1):
        for j in range(degree + 1):
            factors = ("X",) * (degree - j) + ("Y",) * j
            terms.append(Term("".join(factors).lower(), factors, _HIGHER if degree > 2 else 0))
    return terms


#: Terms of the polynomial that a map of `MAPS` is; their coefficients are the columns `p_...` of `magfit_map`.
MAP_TERMS: tuple[Term, ...] = tuple(_position_terms(4))

TERMS: tuple[Term, ...] = (
    *_position_terms(4),
    Term("colour", ("colour",)),
    Term("colour2", ("colour", "colour"), _FURTHER),
    Term("colour_x", ("colour", "X"), _FURTHER),
    Term("colour_y", ("colour", "Y"), _FURTHER),
    Term("mag", ("mag",), _FURTHER),
    Term("mag2", ("mag", "mag"), _FURTHER),
    Term("airmass", ("airmass",), _FURTHER),
    Term("airmass_colour", ("airmass", "colour"), _FURTHER),
    Term("sin_x", ("sin_x",), _FURTHER),
    Term("cos_x", ("cos_x",), _FURTHER),
    Term("sin_y", ("sin_y",), _FURTHER),
    Term("cos_y", ("cos_y",), _FURTHER),
    Term("background", ("background",), _BACKGROUND),
    *(Term(name, (name,), _MAPS << k) for k, name in enumerate(MAPS)),
)

_GROUPS = tuple(sorted({term.group for term in TERMS}))


def term_groups(terms: Iterable[Term]) -> int:
    """What `magfit_solution.term_groups` says of a fit with these terms: the bits of their groups.

    A coefficient of a group that is not said counts as 0 in every view.
    """
    return functools.reduce(operator.or_, (term.group for term in terms), 0)


def needed(terms: Iterable[Term]) -> tuple[str, ...]:
    """Variables that these terms need, in the order of `VARIABLES` and `MAPS`: nothing else has to be read.

    Those of `MAPS` are not in SQL: see `map_value`, which needs X and Y.
    """
    used = {factor for term in terms for factor in term.factors}
    if used & MAPS.keys():
        used |= {"X", "Y"}
    return tuple(name for name in (*VARIABLES, *MAPS) if name in used)


def correction_sql(alias: str = "q", star: str = "s") -> str:
    """SQL of the correction: sum of coefficient x term, coefficients read from `alias`, direction, colour and magnitude from `star`.

    Written with common variables taken out of brackets, as in Horner's
    scheme: a database evaluates what stands there, and this is a third of it.
    """
    variables = {name: re.sub(r"\bs\.", f"{star}.", text) for name, text in VARIABLES.items()}
    variables |= {name: _map_sql(name, alias) for name in MAPS}
    parts = []
    for group in _GROUPS:
        inside = _nested(_products(group, lambda column: f"{alias}.{column}"), _times(variables), " + ".join)
        parts.append(f"CASE WHEN ({alias}.term_groups & {group}) <> 0 THEN {inside} ELSE 0.0 END" if group else inside)
    return " + ".join(parts)


def _products(group: int, coefficient: Callable[[str], T]) -> list[tuple[T, tuple[str, ...]]]:
    return [(coefficient(term.column), term.factors) for term in TERMS if term.group == group]


def _times(variables: Mapping[str, str]) -> Callable[[str, str], str]:
    return lambda name, inside: f"{variables[name]} * ({inside})"


def _map_sql(name: str, alias: str) -> str:
    """A map at the place of m; 0 where the fit has none of the frame."""
    polynomial = _nested([(f"mm.p_{term.name}", term.factors) for term in MAP_TERMS], _times(VARIABLES), " + ".join)
    key = f"mm.reference_id = {alias}.reference_id AND mm.frame_id = {alias}.frame_id AND mm.name = '{name}'"
    return f"COALESCE((SELECT {polynomial} FROM magfit_map mm WHERE {key}), 0.0)"


def map_value(coefficients: Sequence[Array], x: Array, y: Array) -> Array:
    """A map of `MAPS` as the views evaluate it.

    Parameters
    ----------
    coefficients : sequence of float64, shape (n,)
        One for each of `MAP_TERMS`.
    x, y : float64, shape (n,)
        The variables X and Y.

    Returns
    -------
    float64, shape (n,)
    """
    variables = {"X": x, "Y": y}
    products = [(value, term.factors) for value, term in zip(coefficients, MAP_TERMS, strict=True)]
    return _nested(products, lambda name, inside: variables[name] * inside, _sum)


def _sum(parts: list[T]) -> T:
    return functools.reduce(operator.add, parts)


def correction(coefficients: Mapping[str, Array], variables: Mapping[str, Array]) -> Array:
    """The correction of `correction_sql` in numpy, summed in the same order.

    Parameters
    ----------
    coefficients : mapping of str to float64, shape (n,)
        By the names of the columns of `magfit_solution`: the constant, and those of the terms in use; others count as 0.
    variables : mapping of str to float64, shape (n,)
        Those of `VARIABLES` and `MAPS` that these terms need.

    Returns
    -------
    float64, shape (n,)
        mag.
    """
    none = np.zeros(1)
    parts = []
    for group in _GROUPS:
        products = _products(group, lambda column: coefficients.get(column, none))
        parts.append(_nested(products, lambda name, inside: variables.get(name, none) * inside, _sum))
    return _sum(parts)


def _nested(products: list[tuple[T, tuple[str, ...]]], multiplied: Callable[[str, T], T], added: Callable[[list[T]], T]) -> T:
    """Sum of products of a coefficient and variables, with the commonest variable taken out, again and again."""
    parts = [coefficient for coefficient, factors in products if not factors]
    rest = [(coefficient, factors) for coefficient, factors in products if factors]
    while rest:
        common = max((*VARIABLES, *MAPS), key=lambda name: sum(name in factors for _, factors in rest))
        inside = [(coefficient, _without(factors, common)) for coefficient, factors in rest if common in factors]
        parts.append(multiplied(common, _nested(inside, multiplied, added)))
        rest = [(coefficient, factors) for coefficient, factors in rest if common not in factors]
    return added(parts)


def _without(factors: tuple[str, ...], name: str) -> tuple[str, ...]:
    k = factors.index(name)
    return factors[:k] + factors[k + 1 :]


def design(variables: Mapping[str, NDArray[np.float64]], terms: tuple[Term, ...]) -> NDArray[np.float64]:
    """Design matrix of `terms`.

    Parameters
    ----------
    variables : mapping of str to float64, shape (n,)
        The variables of `VARIABLES` that the terms need; at least one.
    terms : tuple of Term
        Terms wanted.

    Returns
    -------
    float64, shape (n, len(terms))
    """
    n = len(next(iter(variables.values())))
    matrix = np.ones((n, len(terms)))
    for k, term in enumerate(terms):
        for factor in term.factors:
            matrix[:, k] *= variables[factor]
    return matrix
