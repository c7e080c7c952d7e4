"""Terms of the magnitude fit in use: by the parameters, in the order in which they are dropped, with what they are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from db.terms import MAPS, TERMS, VARIABLES, Term, design, needed
from reduction.kernels.arrays import FloatArray, IntArray
from reduction.lightcurves.kernels.night_fit import FitChoice
from reduction.pipeline.parameters import parameter

__all__ = ["FURTHER", "FitTerms", "MagnitudeFitParameters"]

#: Terms beyond those in position, which `order` takes.
FURTHER = tuple(term.name for term in TERMS if term.degree < len(term.factors))


@dataclass(frozen=True)
class FitTerms:
    """Terms, and the group of each: the highest is dropped first where stars are few."""

    terms: tuple[Term, ...]
    group: IntArray

    @classmethod
    def of(cls, order: int, further: tuple[str, ...]) -> FitTerms:
        """The polynomial of a degree in position, and further terms by name.

        Linear terms stay longest; further terms go before the quadratic ones would be missed.
        """
        by_name = {term.name: term for term in TERMS}
        position = [term for term in TERMS if term.degree == len(term.factors) <= order]
        group = [2 * term.degree for term in position] + [3 + 2 * k for k in range(len(further))]
        return cls((*position, *(by_name[name] for name in further)), np.array(group))

    @property
    def variables(self) -> tuple[str, ...]:
        """What must be read of a measurement, names of `db.terms.VARIABLES`: places on the frame in any case, by which it is judged."""
        used = {"X", "Y", *needed(self.terms)}
        return tuple(name for name in VARIABLES if name in used)

    @property
    def maps(self) -> tuple[str, ...]:
        """Maps of the frames that they are of, names of `db.terms.MAPS`."""
        return tuple(name for name in needed(self.terms) if name in MAPS)

    def design(self, variables: Mapping[str, FloatArray], n: int) -> FloatArray:
        """Terms of n measurements, shape (n, p)."""
        return design(variables, self.terms) if variables else np.ones((n, len(self.terms)))


@dataclass(frozen=True)
class MagnitudeFitParameters:
    """How magnitudes are fitted. A field whose reference was made for other parameters gets a new one."""

    order: int = parameter(2, "", "degree of the polynomial in position", least=0, most=4)
    terms: tuple[str, ...] = parameter(
        ("colour",), "", "further terms, by name; the last are dropped first when stars are few", choices=FURTHER, distinct=True
    )
    per_term: float = parameter(5.0, "", "stars needed for each term", least=1, most=1000)
    clip: float = parameter(6.0, "sigma", "residual at which a star's weight reaches zero", least=2, most=100)
    fit_sigma: float = parameter(
        0.02, "mag", "stars with larger errors do not fix the fit, where there are enough others", above=0, most=10
    )
    floor_sigma: float = parameter(0.005, "mag", "stars with smaller errors tell what scatters beyond photons", least=0, most=10)

    @property
    def fit_terms(self) -> FitTerms:
        """Terms in use."""
        return FitTerms.of(self.order, self.terms)

    @property
    def choice(self) -> FitChoice:
        """How frames are fitted."""
        return FitChoice(self.fit_terms.group, per_term=self.per_term, clip=self.clip, fit_sigma=self.fit_sigma)
