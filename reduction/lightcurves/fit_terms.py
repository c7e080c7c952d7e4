"""Terms of the magnitude fit in use: by the parameters, in the order in which they are dropped, with what they are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from db.terms import MAPS, TERMS, VARIABLES, Term, design, needed
from reduction.kernels.arrays import FloatArray, IntArray
from reduction.lightcurves.kernels.night_fit import FitChoice
from reduction.pipeline.parameters import parameter

__all__ = ["AUTO", "FURTHER", "FitTerms", "MagnitudeFitParameters"]

#: Terms beyond those in position, which `order` takes.
FURTHER = tuple(term.name for term in TERMS if term.degree < len(term.factors))


#: Has order or terms chosen on held-out stars when a reference is made.
AUTO = "auto"
#: What a choice begins with.
_START_ORDER, _START_TERMS = 2, ("colour",)


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
    def order(self) -> int:
        """Degree of the polynomial in position."""
        return max(term.degree for term in self.terms if term.degree == len(term.factors))

    @property
    def further(self) -> tuple[str, ...]:
        """Names of the further terms."""
        return tuple(term.name for term in self.terms if term.degree < len(term.factors))

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

    order: str = parameter(
        AUTO, "", "degree of the polynomial in position; auto: by held-out stars, when a reference is made",
        choices=(AUTO, *(str(order) for order in range(5))),
    )  # fmt: skip
    terms: tuple[str, ...] = parameter(
        (AUTO,),
        "",
        "further terms, by name; the last are dropped first when stars are few; auto: by held-out stars",
        choices=(AUTO, *FURTHER),
        distinct=True,
    )
    per_term: float = parameter(5.0, "", "stars needed for each term", least=1, most=1000)
    clip: float = parameter(6.0, "sigma", "residual at which a star's weight reaches zero", least=2, most=100)
    fit_sigma: float = parameter(
        0.02, "mag", "stars with larger errors do not fix the fit, where there are enough others", above=0, most=10
    )
    floor_sigma: float = parameter(0.005, "mag", "stars with smaller errors tell what scatters beyond photons", least=0, most=10)

    def check(self) -> tuple[str, str] | None:
        """Terms are chosen, or given."""
        if AUTO in self.terms and len(self.terms) > 1:
            return f"terms has {AUTO!r} beside names of terms", f'give names alone, or ["{AUTO}"]'
        return None

    @property
    def given_order(self) -> int | None:
        """The order that a person wants; None: it is chosen."""
        return None if self.order == AUTO else int(self.order)

    @property
    def given_terms(self) -> tuple[str, ...] | None:
        """The further terms that a person wants; None: they are chosen."""
        return None if self.terms == (AUTO,) else self.terms

    @property
    def is_open(self) -> bool:
        """Whether there is anything to choose."""
        return self.given_order is None or self.given_terms is None

    @property
    def start(self) -> FitTerms:
        """Terms where nothing has been chosen yet."""
        order = _START_ORDER if self.given_order is None else self.given_order
        return FitTerms.of(order, _START_TERMS if self.given_terms is None else self.given_terms)

    def choice(self, terms: FitTerms) -> FitChoice:
        """How frames are fitted with some terms."""
        return FitChoice(terms.group, per_term=self.per_term, clip=self.clip, fit_sigma=self.fit_sigma)
