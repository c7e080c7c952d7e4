"""Times and directions against astropy, which goes another way to them."""

from __future__ import annotations

import socket
import warnings

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz, EarthLocation, SkyCoord, get_body, get_sun
from astropy.time import Time
from astropy.time import core as time_core
from astropy.utils import iers
from hypothesis import given, settings
from hypothesis import strategies as st

from reduction.frames.kernels.times import barycentric, night_number, offline

WHIPPLE = (31.68, -110.88, 2320.0)
START = [2457180.0, 2458107.5, 2461300.0, 2461900.0]  # 2015, 2017, 2026, 2028


def sky(jd0: float, n: int = 30) -> tuple[Time, EarthLocation, SkyCoord, np.ndarray]:
    """Stars higher than 30 degrees over a year."""
    generator = np.random.default_rng(int(jd0))
    jd2 = generator.uniform(0, 365, n)
    place = EarthLocation.from_geodetic(WHIPPLE[1], WHIPPLE[0], WHIPPLE[2])
    time = Time(np.full(n, jd0), jd2, format="jd", scale="utc", location=place)
    horizon = AltAz(obstime=time, location=place, pressure=0 * u.hPa)
    return time, place, SkyCoord(generator.uniform(0, 360, n) * u.deg, generator.uniform(30, 89, n) * u.deg, frame=horizon).icrs, jd2


@pytest.mark.parametrize("jd0", START)
def test_bjd_is_that_of_astropy_over_a_wide_field(jd0: float) -> None:
    with offline():
        time, _, centre, jd2 = sky(jd0)
        g = barycentric(jd0, jd2, *WHIPPLE)
        for offset in (0.0, 5.0):
            star = centre.directional_offset_by(77 * u.deg, offset * u.deg)
            truth = time.tdb + time.light_travel_time(SkyCoord(star.ra, star.dec), kind="barycentric", ephemeris="builtin")
            direction = star.cartesian.xyz.value
            mine = g.jd_tdb + g.bx * direction[0] + g.by * direction[1] + g.bz * direction[2]
            # One float64 Julian date resolves 41 microseconds.
            assert np.abs((mine - truth.jd1) - truth.jd2).max() * 86400 < 80e-6


@pytest.mark.parametrize("jd0", START)
@pytest.mark.parametrize(("pointed", "within"), [(True, 1e-4), (False, 6e-4)])
def test_airmass_is_sec_z_of_astropy(jd0: float, pointed: bool, within: float) -> None:
    with offline():
        time, place, centre, jd2 = sky(jd0)
        pointing = {"ra": centre.ra.deg, "dec": centre.dec.deg} if pointed else {}
        g = barycentric(jd0, jd2, *WHIPPLE, **pointing)
        for offset in (0.0, 4.0):
            star = centre.directional_offset_by(200 * u.deg, offset * u.deg)
            altitude = star.transform_to(AltAz(obstime=time, location=place, pressure=0 * u.hPa)).alt.rad
            direction = star.cartesian.xyz.value
            airmass = 1 / (g.zx * direction[0] + g.zy * direction[1] + g.zz * direction[2])
            assert np.abs(airmass - 1 / np.sin(altitude)).max() < within


def test_sun_and_moon_are_those_of_astropy() -> None:
    with offline():
        time, place, _, jd2 = sky(2458107.5)
        g = barycentric(2458107.5, jd2, *WHIPPLE)
        horizon = AltAz(obstime=time, location=place, pressure=0 * u.hPa)
        moon, sun = get_body("moon", time, place), get_sun(time)
        assert np.abs(sun.transform_to(horizon).alt.deg - g.sun_alt).max() < 0.01
        assert np.abs(moon.transform_to(horizon).alt.deg - g.moon_alt).max() < 0.01
        assert np.abs(moon.dec.deg - g.moon_dec).max() < 0.01
        elongation = get_body("moon", time).separation(sun)
        assert np.abs((1 - np.cos(elongation.rad)) / 2 - g.moon_illumination).max() < 0.003


def test_moon_is_full_and_new_when_it_was() -> None:
    # Full moon 2018-01-02 02:24 UTC, new moon 2017-12-18 06:30 UTC.
    g = barycentric(np.array([2458120.6, 2458105.77]), 0.0)
    assert g.moon_illumination[0] > 0.998
    assert g.moon_illumination[1] < 0.003


def test_barycentric_correction_of_the_hatp32_night() -> None:
    direction = SkyCoord(31.0427 * u.deg, 46.6879 * u.deg).cartesian.xyz.value
    g = barycentric(2458107.5, 0.2, *WHIPPLE)
    bjd = g.jd_tdb + g.bx * direction[0] + g.by * direction[1] + g.bz * direction[2]
    assert (bjd - g.jd_utc)[0] * 86400 == pytest.approx(382, abs=4)


def test_an_unknown_site_is_the_geocentre_within_22_ms() -> None:
    known = barycentric(2458107.5, np.linspace(0, 1, 20), *WHIPPLE)
    for nothing in (None, np.nan):
        g = barycentric(2458107.5, np.linspace(0, 1, 20), nothing, nothing, nothing)
        assert np.isnan([g.zx, g.zy, g.zz, g.sun_alt, g.moon_alt]).all()
        assert np.isfinite([g.moon_ra, g.moon_dec, g.moon_illumination, g.jd_tdb]).all()
        shift = np.stack([g.bx - known.bx, g.by - known.by, g.bz - known.bz])
        assert 0.015 < np.linalg.norm(shift, axis=0).max() * 86400 < 0.022


def test_sites_may_differ_from_frame_to_frame() -> None:
    both = barycentric(2458107.5, 0.1, np.array([31.68, np.nan]), np.array([-110.88, np.nan]), np.array([2320.0, np.nan]))
    one = barycentric(2458107.5, 0.1, *WHIPPLE)
    assert both.zx[0] == one.zx[0]
    assert np.isnan(both.zx[1])


def test_zenith_is_a_unit_vector_and_the_local_vertical() -> None:
    g = barycentric(2458107.5, np.linspace(0, 1, 9), *WHIPPLE, ra=31.0, dec=46.7)
    np.testing.assert_allclose(g.zx**2 + g.zy**2 + g.zz**2, 1.0, rtol=1e-14)
    # Its declination is the latitude but for precession (0.1 degree since 2000) and aberration.
    np.testing.assert_allclose(np.degrees(np.arcsin(g.zz)), 31.68, atol=0.12)


def test_no_network_and_no_warning_years_after_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(iers.LeapSeconds, "_today", classmethod(lambda _: Time("2035-01-01", scale="tai")))
    monkeypatch.setattr(time_core, "_LEAP_SECONDS_CHECK", time_core._LeapSecondsCheck.NOT_STARTED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        g = barycentric(2464000.5, np.linspace(0, 300, 4), *WHIPPLE)
    assert np.isfinite(g.zx).all()


@pytest.mark.parametrize(
    ("jd_utc", "lon", "night"),
    [
        (2451545.0, 0.0, 0),  # noon of 2000-01-01
        (2451544.999, 0.0, -1),
        (2451545.999, 0.0, 0),
        (2458107.5731, -110.88, 6562),  # the evening of 2017-12-19 in Arizona, 2017-12-20 in UTC
        (2458107.858, -110.88, 6562),
        (2457182.6, -17.88, 5637),  # after midnight of 2015-06-09: the evening of the 8th
        (2451545.0 - 0.5, 180.0, 0),
        (2451545.5, None, 0),
        (2451545.5, np.nan, 0),
    ],
)
def test_night_number(jd_utc: float, lon: float | None, night: int) -> None:
    assert int(night_number(jd_utc, lon)) == night


@settings(max_examples=50, deadline=None)
@given(st.integers(-20_000, 20_000), st.floats(0.0, 1.0, exclude_max=True), st.floats(-180.0, 180.0))
def test_a_night_lasts_from_local_noon_to_noon(night: int, part: float, lon: float) -> None:
    noon = 2451545.0 + night - lon / 360.0
    moment = noon + part
    if min(part, 1.0 - part) > 1e-8:  # one float64 Julian date resolves 41 microseconds
        assert night_number(moment, lon) == night
        assert night_number(moment + 1.0, lon) == night + 1
        assert night_number(moment, lon) in (night_number(moment, None) + np.array([-1, 0, 1]))


@settings(max_examples=25, deadline=None)
@given(st.integers(2437665, 2461000), st.floats(0.0, 1.0))
def test_tdb_of_utc_is_turned_back_by_astropy(day: int, fraction: float) -> None:
    with offline():
        found = barycentric(float(day), fraction)
        # 50 microseconds of float64, and 22 ms at most of what differs between sites and series.
        back = Time(found.jd_tdb, format="jd", scale="tdb").utc
        assert abs((back.jd1 - day) + (back.jd2 - fraction))[0] * 86400 < 1e-3
