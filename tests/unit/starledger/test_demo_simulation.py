"""The demo night: repeatable, with honest headers, and with the light in the pixels that the truth says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from astropy.utils import iers
from astropy.wcs import WCS
from photutils.aperture import CircularAnnulus, CircularAperture, aperture_photometry

from db.errors import ConfigurationError, FrameUnusable
from starledger.demo import Truth, read_truth, simulate_night
from starledger.demo.camera import Camera, Detector, Site, bleed, read_out
from starledger.demo.compare import compare
from starledger.demo.plots import plot_frame, plot_light_curves, plot_scatter
from starledger.demo.render import BETA, render_stars
from starledger.demo.signals import Pulsation, Transit, central_ingress, pulsation, trapezoid

SMALL = {"n_object": 12, "shape": (192, 256), "n_star": 60, "n_bias": 5, "n_dark": 3, "n_flat": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("night")
    simulate_night(directory, 7, **SMALL)
    return directory


@pytest.fixture(scope="module")
def truth(folder: Path) -> Truth:
    return read_truth(folder)


@pytest.fixture(scope="module")
def full_truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """The truth of a night with as many frames as the demo's, on a tiny detector that makes them cheap."""
    directory = tmp_path_factory.mktemp("full")
    return simulate_night(directory, 1, n_object=120, shape=(64, 64), n_star=10, n_bias=0, n_dark=0, n_flat=0)


def digests(directory: Path) -> dict[str, str]:
    return {str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in directory.rglob("*") if p.is_file()}


def test_same_seed_same_bytes(folder: Path, tmp_path: Path) -> None:
    simulate_night(tmp_path / "again", 7, **SMALL)
    assert digests(tmp_path / "again") == digests(folder)
    simulate_night(tmp_path / "other", 8, **SMALL)
    assert digests(tmp_path / "other")["raw/object_001.fits"] != digests(folder)["raw/object_001.fits"]


def test_files_and_truth_read_back(folder: Path, truth: Truth, tmp_path: Path) -> None:
    names = sorted(path.name for path in (folder / "raw").iterdir())
    assert len(names) == 12 + 5 + 3 + 5
    assert set(truth.files) == {name for name in names if name.startswith("object")}
    made = simulate_night(tmp_path, 7, **SMALL)
    assert made.signals == truth.signals and made.camera == truth.camera and made.site == truth.site
    assert np.array_equal(made.conditions.jd_tdb, truth.conditions.jd_tdb)
    assert np.array_equal(made.stars.source_id, truth.stars.source_id)


def test_refuses_a_folder_of_another_night(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="seed 7, not 9"):
        simulate_night(folder, 9, **SMALL)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mine.fits").touch()
    with pytest.raises(ConfigurationError, match=r"mine\.fits"):
        simulate_night(tmp_path, 7, **SMALL)
    with pytest.raises(ConfigurationError, match=r"truth\.json"):
        read_truth(tmp_path)


def test_headers(folder: Path, truth: Truth) -> None:
    for number, name in enumerate(truth.files):
        header = fits.getheader(folder / "raw" / name)
        middle = Time(header["DATE-OBS"], scale="utc") + 0.5 * header["EXPTIME"] * u.s
        assert abs((middle - Time(truth.conditions.jd_utc[number], format="jd", scale="utc")).to_value(u.s)) < 1e-3
        assert header["IMAGETYP"] == "object" and header["EGAIN"] == truth.camera.gain
        ra, dec = truth.positions()
        # The mount's word is off by seconds of arc, never by a tenth of the field.
        pointing = SkyCoord(header["RA"], header["DEC"], unit="deg")
        assert pointing.separation(SkyCoord(ra.mean(), dec.mean(), unit="deg")).arcsec < 90
    bias, dark = fits.getheader(folder / "raw" / "bias_001.fits"), fits.getheader(folder / "raw" / "dark_001.fits")
    assert (bias["EXPTIME"], dark["EXPTIME"]) == (0.0, truth.exptime) and "RA" not in bias


def test_nothing_of_the_truth_in_headers_or_catalogue(folder: Path, truth: Truth) -> None:
    text = str(fits.getheader(folder / "raw" / truth.files[0])) + (folder / "catalogue.ecsv").read_text()
    assert not [word for word in ("transit", "sine", "pulse", "variable") if word in text.lower()]


def test_catalogue_lists_most_stars(folder: Path, truth: Truth) -> None:
    table = Table.read(folder / "catalogue.ecsv")
    assert set(table["source_id"]) == set(truth.stars.source_id[truth.catalogued])
    assert 0.7 * truth.stars.mag.size < len(table) < truth.stars.mag.size
    star = {int(s): k for k, s in enumerate(truth.stars.source_id)}
    rows = np.array([star[int(s)] for s in table["source_id"]])
    there = SkyCoord(table["ra"], table["dec"])
    true = SkyCoord(truth.stars.ra[rows], truth.stars.dec[rows], unit="deg")
    offset = there.separation(true).mas
    assert 5 < np.median(offset) < 40
    # Gaia's own rule: the identifier's high bits are the HEALPix pixel of order 12, bit 0 is never set.
    assert not np.any(truth.stars.source_id & 1)


def test_times_and_airmass_agree_with_astropy(truth: Truth) -> None:
    c, site = truth.conditions, truth.site
    place = EarthLocation.from_geodetic(site.longitude * u.deg, site.latitude * u.deg, site.height * u.m)
    ra, dec = truth.positions()
    star = SkyCoord(ra[0], dec[0], unit="deg")
    with iers.conf.set_temp("auto_download", False):
        time = Time(c.jd_utc, format="jd", scale="utc", location=place)
        bjd = (time.tdb + time.light_travel_time(star)).jd
        altitude = star.transform_to(AltAz(obstime=time, location=place)).alt.rad
    assert np.abs(truth.bjd_tdb(0) - bjd).max() * 86400 < 1e-3
    assert np.abs(truth.airmass()[:, 0] * np.sin(altitude) - 1).max() < 1e-3
    assert truth.airmass().max() < 2.5


def test_projection_is_a_tangent_plane_and_a_distortion() -> None:
    plain = Camera(distortion=0.0, decentring=0.0, rotation=33.0, parity=-1)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 40.0]
    wcs.wcs.crpix = [plain.centre[0] + 1, plain.centre[1] + 1]
    turn, scale = np.radians(33.0), plain.pixel_scale / 3600
    wcs.wcs.cd = scale * np.linalg.inv(np.array([[-np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]]))
    rng = np.random.default_rng(1)
    ra, dec = 150.0 + rng.uniform(-0.1, 0.1, 50), 40.0 + rng.uniform(-0.07, 0.07, 50)
    x, y = plain.project(ra, dec, 150.0, 40.0)
    expected = wcs.all_world2pix(ra, dec, 0)
    np.testing.assert_allclose([x, y], expected, atol=1e-6)
    bent_x, bent_y = Camera(decentring=0.0, rotation=33.0, parity=-1).project(ra, dec, 150.0, 40.0)
    radius = np.hypot(x - plain.centre[0], y - plain.centre[1])
    np.testing.assert_allclose(np.hypot(bent_x - x, bent_y - y), 3.0 * (radius / plain.half_diagonal) ** 3, atol=1e-9)
    assert np.isnan(plain.project(np.array([330.0]), np.array([-40.0]), 150.0, 40.0)[0]).all()


def test_rendered_flux_centre_and_shape() -> None:
    image = np.zeros((301, 301))
    rng = np.random.default_rng(2)
    for x, y in 150 + rng.uniform(-0.5, 0.5, (10, 2)):
        image[:] = 0
        render_stars(image, *(np.array([value]) for value in (x, y, 1e6, 3.0, 0.1, -0.05)))
        row, column = np.mgrid[0:301, 0:301]
        # The wings beyond the drawn disc hold some 1e-4 of the light.
        assert image.sum() == pytest.approx(1e6, rel=4e-4)
        assert (image * column).sum() / image.sum() == pytest.approx(x, abs=2e-3)
        assert (image * row).sum() / image.sum() == pytest.approx(y, abs=2e-3)
    dx, dy = column - x, row - y
    inner = np.hypot(dx, dy) < 20
    xx, yy, xy = ((image * inner * a * b).sum() for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    assert (xx - yy) / (xx + yy) == pytest.approx(0.1, abs=0.02)
    assert 2 * xy / (xx + yy) == pytest.approx(-0.05, abs=0.02)


def test_growth_curve_of_a_round_star_is_moffats() -> None:
    image = np.zeros((201, 201))
    x, y, fwhm = 100.3, 99.6, 3.4
    render_stars(image, *(np.array([value]) for value in (x, y, 1e6, fwhm, 0.0, 0.0)))
    alpha = 0.5 * fwhm / np.sqrt(2 ** (1 / BETA) - 1)
    for radius in (3.0, 6.0, 12.0):
        inside = float(aperture_photometry(image, CircularAperture([(x, y)], radius))["aperture_sum"][0])
        u = 1 + (radius / alpha) ** 2
        slope = -2 * BETA * radius / alpha**2 * (BETA - 1) / (np.pi * alpha**2) * u ** (-BETA - 1)
        # Pixels blur the image twice, in the detector and in the split of border pixels: by 1/12 in each axis both times.
        blurred = 1 - u ** (1 - BETA) + 2 * np.pi * radius * slope / 12
        assert inside / 1e6 == pytest.approx(blurred, abs=1e-3)


def test_stars_off_the_frame_or_without_light_do_no_harm() -> None:
    image = np.zeros((20, 20))
    nan = np.nan
    x, y, flux = np.array([nan, -100.0, 5.0, 5.0]), np.array([5.0, 5.0, 5.0, 5.0]), np.array([1e5, 1e5, 0.0, -1e5])
    render_stars(image, x, y, flux, np.full(4, 3.0), np.zeros(4), np.zeros(4))
    assert not image.any()


def test_bleeding_conserves_charge() -> None:
    electrons = np.full((101, 5), 10.0)
    electrons[50, 2] = 1000.0
    total = electrons.sum()
    bleed(electrons, 100.0)
    assert electrons.sum() == pytest.approx(total)
    assert electrons.max() <= 100.0 + 1e-9
    assert abs(int((electrons[:50, 2] > 10).sum()) - int((electrons[51:, 2] > 10).sum())) <= 1
    assert (electrons[:, [0, 1, 3, 4]] == 10.0).all()


def test_readout_has_the_noise_of_gain_and_read_noise() -> None:
    camera = Camera(shape=(300, 300))
    flat = Detector(np.full(camera.shape, 1000.0), np.zeros(camera.shape), np.ones(camera.shape))
    for level in (0.0, 20_000.0):
        raw = read_out(np.full(camera.shape, level), camera, flat, 1.0, 0, np.random.default_rng(3)).astype(float)
        expected = (level + camera.read_noise**2) / camera.gain**2 + 1 / 12
        assert raw.var() == pytest.approx(expected, rel=0.03)
        assert raw.mean() == pytest.approx(1000.0 + level / camera.gain, abs=2.0)
    full = read_out(np.full(camera.shape, 9e5), camera, flat, 1.0, 0, np.random.default_rng(4))
    assert full.min() > camera.saturation


def calibrated(raw: Path, name: str) -> np.ndarray:
    """The plainest reduction of one frame."""

    def stack(kind: str) -> np.ndarray:
        return np.array([fits.getdata(path).astype(float) for path in sorted(raw.glob(f"{kind}_*.fits"))])

    bias = stack("bias").mean(axis=0)
    dark = np.median(stack("dark") - bias, axis=0)
    flats = stack("flat") - bias
    flat = np.median(flats / np.median(flats, axis=(1, 2), keepdims=True), axis=0)
    return (fits.getdata(raw / name) - bias - dark) / flat


def test_injected_light_comes_out_of_the_pixels(tmp_path: Path) -> None:
    """Aperture fluxes of isolated stars are the injected ones within the expected noise, but for the aperture's loss."""
    truth = simulate_night(tmp_path, 1, n_object=2)
    image, radius = calibrated(tmp_path / "raw", truth.files[1]), 8.0
    x, y = truth.project(1)
    mag, (ny, nx) = truth.stars.mag, truth.camera.shape
    apart = np.hypot(x[:, None] - x, y[:, None] - y) + 1e9 * np.eye(x.size)
    rivals = np.where(mag[None, :] < mag[:, None] + 4.5, apart, 1e9).min(axis=1)
    inside = (x > 20) & (x < nx - 20) & (y > 20) & (y < ny - 20)
    good = np.flatnonzero((mag > 12.1) & (mag < 16.5) & (rivals > 20) & inside)
    assert good.size >= 20
    places = np.column_stack([x[good], y[good]])
    sky = [np.median(mask.get_values(image)) for mask in CircularAnnulus(places, 14, 22).to_mask(method="center")]
    flux = np.asarray(aperture_photometry(image, CircularAperture(places, radius))["aperture_sum"]) - np.pi * radius**2 * np.array(sky)
    difference = -2.5 * np.log10(flux * truth.camera.gain / truth.electrons(1)[good])
    # The median holds the aperture's loss and the flat's norm; the images change slowly over the field.
    assert abs(np.median(difference)) < 0.15
    u, v = x[good] / nx - 0.5, y[good] / ny - 0.5
    design = np.column_stack([np.ones_like(u), u, v, u * u, u * v, v * v])
    noise = np.hypot(truth.expected_scatter(mag[good], radius), 0.002)
    keep = np.ones(good.size, dtype=bool)
    for _ in range(3):
        terms = np.linalg.lstsq(design[keep] / noise[keep, None], difference[keep] / noise[keep], rcond=None)[0]
        pull = (difference - design @ terms) / noise
        keep = np.abs(pull) < 5
    assert keep.sum() >= 0.85 * good.size
    assert 0.6 < np.std(pull[keep], ddof=6) < 1.6


def test_cloud_dims_some_frames_only(full_truth: Truth) -> None:
    cloud = full_truth.conditions.cloud
    assert 0.3 < cloud.max() < 0.9
    assert 5 < (cloud > 0.1).sum() < 25
    transit = full_truth.signals[0]
    assert isinstance(transit, Transit)
    inside = np.abs(full_truth.bjd_tdb(0) - transit.mid_time) < 0.5 * transit.duration
    assert cloud[inside].max() < 0.1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_signals_fit_into_the_night(seed: int, tmp_path: Path) -> None:
    made = simulate_night(tmp_path, seed, n_object=30, shape=(48, 48), n_star=10, n_bias=0, n_dark=0, n_flat=0)
    for signal in made.signals:
        time = made.bjd_tdb(signal.star)
        if isinstance(signal, Pulsation):
            assert signal.period < np.ptp(time) / 3
        else:
            assert signal.depth == 0.010
            assert time[0] + 0.03 < signal.mid_time - 0.5 * signal.duration < signal.mid_time + 0.5 * signal.duration < time[-1] - 0.03


def test_trapezoid_and_pulsation_by_hand() -> None:
    np.testing.assert_allclose(trapezoid(np.array([-1.0, -0.45, 0.0, 0.4, 0.5]), 0.0, 1.0, 0.1), [0, 0.5, 1, 1, 0])
    assert central_ingress(0.01, 1.1) == pytest.approx(0.1)
    assert Transit("t", 0, 0.01, 5.0, 0.1).magnitude_change(np.array([5.0]))[0] == pytest.approx(-2.5 * np.log10(0.99))
    steep = pulsation("p", 0, 0.06, 3.0, 0.16, n_harmonic=3)
    assert steep.semi_amplitude == pytest.approx(0.16, abs=1e-6)
    assert steep.magnitude_change(np.array([3.01])) == pytest.approx(steep.magnitude_change(np.array([3.01 + 0.06])))
    change = steep.magnitude_change(3.0 + np.linspace(0, 0.06, 1000))
    # It brightens in less time than it fades.
    assert (np.diff(change) < 0).mean() < 0.4


def noisy(truth: Truth, rng: np.random.Generator, factor: float = 1.0):
    """Light curves as a good reduction would give them."""

    def get(ra: float, dec: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        true_ra, true_dec = truth.positions()
        star = int(np.argmin(np.hypot((true_ra - ra) * np.cos(np.radians(dec)), true_dec - dec)))
        signal = next(s for s in truth.signals if s.star == star)
        time = truth.bjd_tdb(star)
        mag = 12.0 + 0.02 * (time - time.mean()) + factor * signal.magnitude_change(time) + 0.0009 * rng.standard_normal(time.size)
        mag[5] = np.nan
        mag[17] += 0.3
        return time, mag, np.full(time.size, 0.0009)

    return get


def test_comparison_recovers_what_was_hidden(full_truth: Truth) -> None:
    errors = []
    for seed in range(5):
        comparison = compare(full_truth, noisy(full_truth, np.random.default_rng(seed)))
        assert comparison.passed, comparison.rows
        assert [row.quantity for row in comparison.rows if row.judged] == ["depth", "period", "semi-amplitude", "period", "semi-amplitude"]
        errors.append([row.error for row in comparison.rows])
    assert np.abs(np.mean(errors, axis=0)).max() < 0.02


def test_comparison_fails_when_signals_are_diluted_or_missing(full_truth: Truth) -> None:
    assert not compare(full_truth, noisy(full_truth, np.random.default_rng(1), factor=0.9)).passed

    def nothing(ra: float, dec: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        raise FrameUnusable("no source here", where=f"{ra} {dec}")

    missing = compare(full_truth, nothing)
    assert not missing.passed and "no source here" in missing.curves[0].problem
    short = compare(full_truth, lambda _ra, _dec: (np.arange(3.0), np.arange(3.0), np.ones(3)))
    assert not short.passed and short.curves[0].problem == "only 3 points"


def test_figures_are_written(full_truth: Truth, folder: Path, truth: Truth, tmp_path: Path) -> None:
    plot_light_curves(compare(full_truth, noisy(full_truth, np.random.default_rng(1))), tmp_path / "plots" / "curves.png")
    mag = truth.stars.mag
    plot_scatter(
        mag, truth.expected_scatter(mag, 6.0), tmp_path / "scatter.png", expected=(mag, mag * 1e-3), marked={"transit": (12.2, 0.002)}
    )
    x, y = truth.project(0)
    plot_frame(fits.getdata(folder / "raw" / truth.files[0]), tmp_path / "frame.png", x=x, y=y, marked={"transit": (x[0], y[0])})
    for name in ("plots/curves.png", "scatter.png", "frame.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_noise_budget_falls_with_light(truth: Truth) -> None:
    scatter = truth.expected_scatter(np.array([12.0, 14.0, 16.0, 18.0]), 6.0)
    assert (np.diff(scatter) > 0).all()
    assert 0.0003 < scatter[0] < 0.001
    assert Site().longitude < 0
