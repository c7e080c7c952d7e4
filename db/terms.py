"""The terms of the magnitude fit: one table that generates the SQL of the views and the columns of the fit.

A term is a product of variables. Each variable is one SQL expression over
the aliases m (measurement), f (frame), ff (frame_field) and s (source), and the caller of
`design` supplies the same variable as an array.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["COLOUR_PIVOT", "MAG_PIVOT", "TERMS", "VARIABLES", "Term", "correction", "correction_sql", "design"]

T = TypeVar("T")

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
}


@dataclass(frozen=True)
class Term:
    """One term: a product of variables (none for the constant)."""

    name: str
    factors: tuple[str, ...]

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


def _position_terms(order: int) -> list[Term]:
    terms = [Term("const", ())]
    for degree in range(1, order + 1):
        for j in range(degree + 1):
            factors = ("X",) * (degree - j) + ("Y",) * j
            terms.append(Term("".join(factors).lower(), factors))
    return terms


TERMS: tuple[Term, ...] = (
    *_position_terms(4),
    Term("colour", ("colour",)),
    Term("colour2", ("colour", "colour")),
    Term("colour_x", ("colour", "X")),
    Term("colour_y", ("colour", "Y")),
    Term("mag", ("mag",)),
    Term("mag2", ("mag", "mag")),
    Term("airmass", ("airmass",)),
    Term("airmass_colour", ("airmass", "colour")),
    Term("sin_x", ("sin_x",)),
    Term("cos_x", ("cos_x",)),
    Term("sin_y", ("sin_y",)),
    Term("cos_y", ("cos_y",)),
)


def correction_sql(alias: str = "q", star: str = "s") -> str:
    """SQL of the correction: sum of coefficient x term, coefficients read from `alias`, direction, colour and magnitude from `star`.

    Written with common variables taken out of brackets, as in Horner's
    scheme: a database evaluates what stands there, and this is a third of it.
    """
    products = [(f"{alias}.{term.column}", term.factors) for term in TERMS]
    variables = {name: re.sub(r"\bs\.", f"{star}.", text) for name, text in VARIABLES.items()}
    return _nested(products, lambda name, inside: f"{variables[name]} * ({inside})", " + ".join)


def correction(coefficients: Mapping[str, NDArray[np.float64]], variables: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """The correction of `correction_sql` in numpy, summed in the same order.

    Parameters
    ----------
    coefficients : mapping of str to float64, shape (n,)
        By the names of the columns of `magfit_solution`.
    variables : mapping of str to float64, shape (n,)
        All of `VARIABLES`.

    Returns
    -------
    float64, shape (n,)
        mag.
    """
    products = [(coefficients[term.column], term.factors) for term in TERMS]
    return _nested(products, lambda name, inside: variables[name] * inside, lambda parts: functools.reduce(operator.add, parts))


def _nested(products: list[tuple[T, tuple[str, ...]]], multiplied: Callable[[str, T], T], added: Callable[[list[T]], T]) -> T:
    """Sum of products of a coefficient and variables, with the commonest variable taken out, again and again."""
    parts = [coefficient for coefficient, factors in products if not factors]
    rest = [(coefficient, factors) for coefficient, factors in products if factors]
    while rest:
        common = max(VARIABLES, key=lambda name: sum(name in factors for _, factors in rest))
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
