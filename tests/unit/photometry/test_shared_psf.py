"""One profile map of several few-starred frames: against stars rendered by GalSim, whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from rendered_stars import SIZE, Sky, render

from db.errors import AlgorithmFailed
from reduction.kernels.arrays import FloatArray, IntArray
from reduction.photometry.kernels.psf_compare import MapComparison, compare_maps
from reduction.photometry.kernels.psf_fit import FrameStars, SharedFit, fit_psf, fit_shared_psf
from reduction.photometry.kernels.psf_flux import fit_fluxes
from reduction.photometry.kernels.psf_map import PsfMap
from reduction.photometry.kernels.psf_patches import patches
from reduction.photometry.kernels.psf_seed import seed_map
from reduction.photometry.kernels.psf_width import fit_width
from reduction.photometry.kernels.seeing_groups import seeing_groups

FWHM, SHOWN = 2.5, 1.15  # of the seeing, and what pixels show of it, as part of it
REFERENCE = FWHM * SHOWN


@dataclass(frozen=True)
class FewStars:
    """A frame of 2 to 6 stars of S/N 20 to 100, the first `n`, and some fainter ones."""

    sky: Sky
    n: int
    seeing: float
    measured: float  # width by its detections, over that of a typical frame

    @property
    def stars(self) -> FrameStars:
        return FrameStars(self.sky.pixels, self.sky.x, self.sky.y, self.measured)

    def light_within(self, radius: float) -> FloatArray:
        """Part of each star's light within a radius (pixel)."""
        share, x0, y0 = self.sky.stamps
        rows, columns = np.mgrid[: share.shape[1], : share.shape[2]]
        far = np.hypot(columns + (x0 - self.sky.x)[:, None, None], rows + (y0 - self.sky.y)[:, None, None]) > radius
        return np.where(far, 0.0, share).sum(axis=(1, 2))


def few_stars(seed: int, seeing: float, n: int, kind: str = "aberrated", snr: tuple[float, float] = (20.0, 100.0)) -> FewStars:
    rng = np.random.default_rng(seed)
    places: list[FloatArray] = []
    while len(places) < n + 4:
        place = rng.uniform(20, SIZE - 20, 2)
        if all(np.hypot(*(place - other)) > 24.0 for other in places):
            places.append(place)
    x, y = np.array(places).T
    wanted = np.append(10 ** rng.uniform(*np.log10(snr), n), rng.uniform(6, 15, 4))
    noise = 225.0 * 4.5 * np.pi * (seeing * SHOWN / 2.355) ** 2
    flux = 0.5 * (wanted**2 + np.sqrt(wanted**4 + 4.0 * wanted**2 * noise))
    measured = seeing / FWHM * np.exp(rng.normal(0.0, 1.4 / np.sqrt(np.sum(wanted[: max(n, 1)] ** 2))))
    return FewStars(render(x, y, flux, fwhm=seeing, kind=kind, seed=seed + 1), n, seeing, measured)


def a_night(seed: int, n: int = 12, spread: float = 0.05) -> list[FewStars]:
    rng = np.random.default_rng(seed)
    return [few_stars(seed + 10 * k, FWHM * np.exp(rng.uniform(-spread, spread)), int(rng.integers(2, 7))) for k in range(n)]


def seed(width: float = 1.0) -> PsfMap:
    return seed_map((SIZE, SIZE), width * REFERENCE, 4 * width * REFERENCE, pixel=1.0)


def shared(night: list[FewStars]) -> SharedFit:
    return fit_shared_psf([frame.stars for frame in night], seed())


@pytest.fixture(scope="module")
def nights() -> list[tuple[list[FewStars], SharedFit]]:
    return [(night, shared(night)) for night in (a_night(1000 * k) for k in range(1, 5))]


def off(frame: FewStars, psf: PsfMap) -> tuple[FloatArray, FloatArray]:
    """By how much the flux of each bright star differs from that of a fit with the true profile, over truth; and the errors over truth."""
    best = fit_fluxes(frame.sky.pixels, frame.sky.stamps, rounds=4)
    found = fit_fluxes(frame.sky.pixels, psf.stamps(frame.sky.x, frame.sky.y), rounds=4)
    miss = (found.flux / frame.light_within(psf.radius) - best.flux) / frame.sky.flux
    return miss[: frame.n], (best.error / frame.sky.flux)[: frame.n]


def test_fluxes_are_nearly_those_of_the_true_profile(nights: list[tuple[list[FewStars], SharedFit]]) -> None:
    """Nearer than with a frame's own map, where it has stars for one, and far nearer than with the stand-in, where it has not."""
    missed: dict[str, list[FloatArray]] = {"own": [], "shared for own": [], "stand-in": [], "shared for stand-in": []}
    for night, fit in nights:
        for frame, width in zip(night, fit.width, strict=True):
            try:
                other, name = fit_psf(frame.sky.pixels, frame.sky.x, frame.sky.y, seed(frame.measured)).psf, "own"
            except AlgorithmFailed:
                other, name = replace(seed(frame.measured), pixel=0.0), "stand-in"
            missed[name].append(np.stack(off(frame, other)))
            missed[f"shared for {name}"].append(np.stack(off(frame, fit.psf.drawn_out(width))))
    scatter = {}
    for name, found in missed.items():
        miss, error = np.concatenate(found, axis=1)
        bias = np.average(miss, weights=error**-2)  # the same for all stars: no magnitude is off by it
        scatter[name] = float(np.sqrt(np.mean(((miss - bias) / error) ** 2)))
        assert (abs(bias) < 0.01) == (name != "stand-in")
    # in units of the errors, which so rise by a tenth; stars that have no map of their own have less S/N to tell a width
    assert scatter["shared for own"] < 0.5 and scatter["shared for stand-in"] < 0.7
    assert scatter["own"] > 1.3 * scatter["shared for own"]


def test_widths_are_as_good_as_the_stars_allow(nights: list[tuple[list[FewStars], SharedFit]]) -> None:
    errors = []
    for night, fit in nights:
        ratio = np.log(fit.width / [frame.seeing / FWHM for frame in night])
        snr = [np.sqrt(np.sum((frame.sky.flux / fit_fluxes(frame.sky.pixels, frame.sky.stamps).error)[: frame.n] ** 2)) for frame in night]
        errors.append((ratio - np.average(ratio, weights=np.square(snr))) * snr)
    assert np.std(np.concatenate(errors)) < 1.15


def test_one_width_for_all_is_not_enough(nights: list[tuple[list[FewStars], SharedFit]]) -> None:
    """Seeing that differs by 5 % makes fluxes of one map, not drawn out, differ by more than their errors."""
    night, fit = nights[0]
    scatter = [np.std([np.mean(off(frame, fit.psf.drawn_out(w))[0]) for frame, w in zip(night, widths, strict=True)])
               for widths in (fit.width, np.ones(len(night)))]  # fmt: skip
    assert scatter[1] > 2.0 * scatter[0]


def test_a_map_drawn_out_keeps_its_functions_and_its_light() -> None:
    psf = seed()
    for width in np.linspace(0.5, 2.0, 301):
        np.testing.assert_array_equal(psf.drawn_out(width).active, psf.active)
    narrow, wide = (replace(psf, pixel=0.0).drawn_out(width) for width in (1.0, 1.5))
    offset = np.linspace(-4, 4, 9)
    np.testing.assert_allclose(wide.response(9, 9, 1.5 * offset, 1.5 * offset) * 1.5**2, narrow.response(9, 9, offset, offset), rtol=1e-10)


def test_a_width_is_found_from_far_off() -> None:
    frame = few_stars(77, 1.2 * FWHM, 6, snr=(200.0, 400.0))
    truth = fit_psf(frame.sky.pixels, frame.sky.x, frame.sky.y, seed(1.2)).psf
    bright = np.arange(frame.n)
    for begin in (0.8, 1.3):
        assert fit_width(frame.sky.pixels, frame.sky.x, frame.sky.y, {}, truth, begin, bright) == pytest.approx(1.0, abs=0.008)
    none = np.zeros(0, dtype=np.int64)
    assert fit_width(frame.sky.pixels, frame.sky.x, frame.sky.y, {}, truth, 1.3, none) == 1.3


def test_what_is_cut_out_of_a_frame_says_the_same(nights: list[tuple[list[FewStars], SharedFit]]) -> None:
    night, fit = nights[0]
    cut = [patches(frame.stars, seed(frame.measured), min_snr=20.0) for frame in night]
    assert max(np.count_nonzero(frame.pixels.good) for frame in cut) < 0.25 * SIZE**2
    again = fit_shared_psf(cut, seed())
    np.testing.assert_allclose(again.width, fit.width, rtol=2e-3)
    np.testing.assert_allclose(again.psf.coeff, fit.psf.coeff, atol=0.01 * fit.psf.coeff.max())


def test_a_frame_has_no_part_in_the_map_without_it(nights: list[tuple[list[FewStars], SharedFit]]) -> None:
    """Whatever is on a frame, the map of the others hardly knows; that of all does."""
    night, fit = nights[0]
    odd = few_stars(78, 2.0 * FWHM, 6, kind="trail", snr=(200.0, 400.0))
    spoiled = fit_shared_psf([replace(odd, measured=1.0).stars, *(frame.stars for frame in night[1:])], seed())
    left_out, (along, across) = spoiled.left_out[spoiled.fold[0]], np.deg2rad([20.0, 110.0])

    def elongation(psf: PsfMap) -> float:
        """Light on either side of the middle, half the width away: along the trail over that across."""
        far = 0.5 * psf.fwhm(150.0, 150.0)
        light = [
            sum(
                psf.response(150.0, 150.0, np.array([sign * far * np.cos(angle)]), np.array([sign * far * np.sin(angle)]))[0, 0]
                for sign in (-1, 1)
            )
            for angle in (along, across)
        ]
        return float(light[0] / light[1])

    right, by_all, by_others = (elongation(psf) for psf in (fit.psf, spoiled.psf, left_out))
    assert by_all > 1.15 * right and by_others == pytest.approx(right, rel=0.08)


def verdict(frame: FewStars, fit: SharedFit, k: int, own: PsfMap, begin: PsfMap | None) -> tuple[float, float, int]:
    found = compare_maps(frame.stars, fit.psf, fit.left_out[fit.fold[k]], own, begin, min_snr=20.0, max_stars=100)
    return found.shared, found.own, found.n_star


def test_stars_left_out_tell_which_map_is_better(nights: list[tuple[list[FewStars], SharedFit]]) -> None:
    night, fit = nights[1]
    ratios = []
    for k, frame in enumerate(night):
        by_shared, by_own, n_star = verdict(frame, fit, k, replace(seed(frame.measured), pixel=0.0), None)
        assert n_star <= frame.n + 1
        if n_star > 1:  # some are near the least S/N
            ratios.append(by_shared / by_own)
    assert np.median(ratios) < 1.0
    assert np.mean(np.array(ratios) < 1.0) > 0.75


def test_a_frame_unlike_the_others_keeps_its_own(nights: list[tuple[list[FewStars], SharedFit]]) -> None:
    trailed = few_stars(79, FWHM, 12, kind="trail", snr=(60.0, 100.0))
    own = fit_psf(trailed.sky.pixels, trailed.sky.x, trailed.sky.y, seed(1.5)).psf
    by_shared, by_own, n_star = verdict(trailed, nights[1][1], 0, own, seed(1.5))
    assert n_star > 8 and by_shared > 1.2 * by_own


def test_too_few_stars_to_leave_any_out_are_said(nights: list[tuple[list[FewStars], SharedFit]]) -> None:
    """Four carry a map, three do not; and without a star nothing can be compared."""
    _, fit = nights[1]
    four = few_stars(80, FWHM, 4, snr=(60.0, 100.0))
    own = fit_psf(four.sky.pixels, four.sky.x, four.sky.y, seed()).psf
    by_shared, by_own, n_star = verdict(four, fit, 0, own, seed())
    assert n_star == 4 and np.isfinite(by_shared) and np.isnan(by_own)
    none = few_stars(81, FWHM, 0)
    assert verdict(none, fit, 0, own, None)[2] == 0


@pytest.mark.parametrize(
    ("n_star", "own", "shared", "error", "wanted"),
    [
        (0, np.nan, np.nan, np.nan, True),
        (4, np.nan, 1.4, 0.1, True),
        (9, 1.10, 1.05, 0.01, True),
        (9, 1.05, 1.10, 0.10, True),
        (9, 1.05, 1.10, 0.01, False),
        (1, 1.05, 1.10, np.nan, False),
        (1, 1.10, 1.05, np.nan, True),
        (9, 1.05, np.nan, 0.10, False),
    ],
)
def test_the_own_map_is_taken_where_it_is_better_beyond_chance(n_star: int, own: float, shared: float, error: float, wanted: bool) -> None:
    assert MapComparison(1.0, n_star, own, shared, error).takes_shared(1.0) is wanted


def test_frames_without_stars_share_nothing() -> None:
    with pytest.raises(AlgorithmFailed, match="0 stars show the profile"):
        shared([few_stars(90 + k, FWHM, 0) for k in range(4)])


@pytest.mark.parametrize(
    ("fwhm", "wanted"),
    [
        ([3.0, 3.1, 9.0, 2.9, 3.3], [[0, 1, 3, 4]]),
        ([3.0, 3.1, 9.0], []),
        ([5.0, 2.0, 5.1, 2.1, 5.2, 2.2, 1.0, 4.9], [[0, 2, 4, 7]]),
        ([5.0, 2.0, 5.1, 2.1, 5.2, 2.2, 2.3, 4.9], [[1, 3, 5, 6], [0, 2, 4, 7]]),
        ([3.0, 3.0, 3.0, 3.0], [[0, 1, 2, 3]]),
        ([], []),
    ],
)
def test_groups_are_of_like_seeing(fwhm: list[float], wanted: list[list[int]]) -> None:
    assert seeing_groups(np.array(fwhm), 0.25, 4) == wanted


def test_no_two_of_a_group_are_too_far_apart() -> None:
    fwhm = np.exp(np.random.default_rng(5).normal(1.0, 0.5, 200))
    groups = seeing_groups(fwhm, 0.1, 4)
    flat: IntArray = np.concatenate(groups)
    assert len(flat) == len(set(flat.tolist()))
    assert all(np.ptp(np.log(fwhm[group])) <= 2.0 * np.log(1.1) + 1e-12 and len(group) >= 4 for group in groups)
