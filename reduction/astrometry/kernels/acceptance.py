"""Whether a plate solution is to be believed: how likely chance alone would have paired as many stars as closely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, pdtrc

from reduction.kernels.arrays import FloatArray

__all__ = ["MAX_LOG_CHANCE", "Acceptance", "judge", "log_chance"]


MAX_LOG_CHANCE = -10.0  # a pattern match tries some million transformations, and a night has some thousand frames
MAX_SPREAD = 0.5  # of the match radius: half of all chance pairs lie beyond 0.71 of it
LN10 = float(np.log(10.0))


@dataclass(frozen=True)
class Acceptance:
    """The test that a solution has to pass.

    Attributes
    ----------
    log_chance : float
        log10 of the probability that chance makes as many pairs; at most -10 is asked for.
    n_chance : float
        Pairs that chance makes on the average.
    spread : float
        Median distance of the pairs, each from a fit without itself, in units of the match radius: 0.71
        for chance pairs, at most 0.5 is asked for.
    reason : str
        Empty where the solution is accepted, else why it is not.
    """

    log_chance: float
    n_chance: float
    spread: float
    reason: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the solution passed."""
        return not self.reason


def log_chance(n_pair: int, n_chance: float) -> float:
    """log10 of the probability of `n_pair` or more where a Poisson process makes `n_chance` on the average.

    0 for no pair. Where the probability is too small for a float, its leading term stands for the sum.
    """
    if n_pair <= 0:
        return 0.0
    probability = float(pdtrc(n_pair - 1, n_chance))
    if probability > 1e-290:
        return float(np.log10(probability))
    mean = max(n_chance, 1e-300)
    return float((n_pair * np.log(mean) - mean - gammaln(n_pair + 1.0)) / LN10)


def judge(distance: FloatArray, *, radius: float, n_det: int, n_cat: int, n_term: int, area: float) -> Acceptance:
    """Test the pairs of a fitted solution.

    Parameters
    ----------
    distance : (n_pair,) float64
        Distance of each pair's detection from where a fit without the pair puts its star (pixel).
    radius : float
        Match radius (pixel).
    n_det, n_cat : int
        Detections and catalogue stars on the frame, paired or not.
    n_term : int
        Terms of each axis' polynomial: by so many pairs chance may have been helped.
    area : float
        Of the frame (pixel^2).

    Returns
    -------
    Acceptance

    Notes
    -----
    A catalogue star has a detection within the radius by chance with probability 1 - exp(-n_det pi radius^2 / area), and
    the number of such stars is Poisson's. A fit draws as many pairs together as it has terms, which do not count.
    """
    probability = -np.expm1(-n_det * np.pi * radius**2 / area)
    n_chance = float(n_cat * probability)
    chance = log_chance(len(distance) - n_term, n_chance)
    spread = float(np.median(distance) / radius) if len(distance) else 1.0
    reason = ""
    if chance > MAX_LOG_CHANCE:
        reason = (
            f"{len(distance)} pairs within {radius:.2f} pixel come by chance with probability 1e{chance:.1f}, "
            f"at most 1e{MAX_LOG_CHANCE:.0f} is allowed"
        )
    elif spread > MAX_SPREAD:
        reason = f"the pairs lie {spread:.2f} match radii apart, as chance pairs do (0.71); at most {MAX_SPREAD} is allowed"
    return Acceptance(chance, n_chance, spread, reason)
