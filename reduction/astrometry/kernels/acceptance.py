"""Whether a plate solution is to be believed: how likely chance alone would have paired as many stars as closely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, pdtrc

from reduction.kernels.arrays import FloatArray, IntArray

__all__ = ["MAX_LOG_CHANCE", "Acceptance", "judge", "log_chance", "max_log_chance"]


MAX_LOG_CHANCE = -10.0  # a pattern match tries some million transformations, and a night has some thousand frames
LOG_PATTERNS = 6.0  # of that million
MAX_CREDIT = 4.0  # what was said beforehand may be wrong for all frames of a night
MAX_SPREAD = 0.5  # of the match radius: half of all chance pairs lie beyond 0.71 of it
LN10 = float(np.log(10.0))


@dataclass(frozen=True)
class Acceptance:
    """The test that a solution has to pass.

    Attributes
    ----------
    log_chance : float
        log10 of the probability that chance makes as many pairs; at most -10 is asked for, or what `max_log_chance` grants.
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


def max_log_chance(log_trials: float) -> float:
    """Largest log10 of the chance that is believed of a solution found among 10**log_trials hypotheses.

    A pattern match, which tries a million, has to do with `MAX_LOG_CHANCE`. What a header or a neighbour says beforehand
    is one hypothesis, and those about it that are as near as the stars were found are few: the probability that any of them passes by
    chance is the same where each is allowed as much more. No more than 1e-6 is ever granted.
    """
    return MAX_LOG_CHANCE + float(np.clip(LOG_PATTERNS - log_trials, 0.0, MAX_CREDIT))


def judge(
    distance: FloatArray,
    *,
    radius: float,
    n_det: int,
    n_cat: int,
    n_term: int,
    area: float,
    limit: float = MAX_LOG_CHANCE,
    rank: IntArray | None = None,
) -> Acceptance:
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
    limit : float
        Largest log10 of the chance that is believed: see `max_log_chance`.
    rank : (n_pair,) int64, optional
        Number of detections on the frame that are brighter than that of each pair.

    Returns
    -------
    Acceptance

    Notes
    -----
    A catalogue star has a detection within the radius by chance with probability 1 - exp(-n_det pi radius^2 / area), and
    the number of such stars is Poisson's. A fit draws as many pairs together as it has terms, which do not count.
    Catalogue stars that are the brightest detections are paired less easily by chance than with a thousand hot pixels: with ranks, the
    same is asked of the brightest n_cat detections, of twice as many, and so on; the least of these probabilities, times their number,
    counts where it is below that of all detections.
    """
    n_chance, chance = _chance(len(distance) - n_term, n_det, n_cat, radius, area)
    if rank is not None:
        depths = [n_cat * 2**k for k in range(64) if n_cat * 2**k < n_det] if n_cat else []
        shallower = [_chance(int(np.count_nonzero(rank < depth)) - n_term, depth, n_cat, radius, area) for depth in depths]
        n_chance, chance = min([(n_chance, chance), *((n, each + np.log10(len(depths))) for n, each in shallower)], key=lambda of: of[1])
    spread = float(np.median(distance) / radius) if len(distance) else 1.0
    reason = ""
    if chance > limit:
        reason = (
            f"{len(distance)} pairs within {radius:.2f} pixel come by chance with probability 1e{chance:.1f}, "
            f"at most 1e{limit:.1f} is allowed"
        )
    elif spread > MAX_SPREAD:
        reason = f"the pairs lie {spread:.2f} match radii apart, as chance pairs do (0.71); at most {MAX_SPREAD} is allowed"
    return Acceptance(float(chance), n_chance, spread, reason)


def _chance(n_pair: int, n_det: int, n_cat: int, radius: float, area: float) -> tuple[float, float]:
    """Pairs that chance makes on the average, and log10 of the probability of as many as there are."""
    n_chance = float(-n_cat * np.expm1(-n_det * np.pi * radius**2 / area))
    return n_chance, log_chance(n_pair, n_chance)
