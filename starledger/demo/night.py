"""The demo's night: when the frames are taken, where the Earth is, and what air, Moon and mount do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.coordinates import AltAz, EarthLocation, SkyCoord, get_body, get_body_barycentric
from astropy.time import Time
from astropy.utils import iers
from numpy.typing import NDArray

from starledger.demo.camera import Camera, Site
from starledger.demo.sky import unit_vector

__all__ = ["Conditions", "altitude", "make_conditions", "sidereal_degrees", "start_jd"]

FloatArray = NDArray[np.float64]

EVENING = 2461124.25
"""JD (UTC) of 18 h on 2026-03-24: the evening of the demo."""

_LIGHT_DAY = 173.144632674240  # au


@dataclass(frozen=True)
class Conditions:
    """What the sky and the telescope did in each frame; all arrays [n] but for the vectors [n, 3].

    Attributes
    ----------
    jd_utc, jd_tdb : float64
        Middle of the exposure (d).
    barycentric : float64 [n, 3]
        The observatory's position from the barycentre (light-days, ICRS axes).
    zenith : float64 [n, 3]
        ICRS unit vector of the zenith.
    ra, dec, turn : float64
        Direction of the optical axis and turn of the field about it (deg).
    fwhm : float64
        Seeing on the axis (pixel).
    e1, e2 : float64
        Ellipticity by tracking.
    transparency : float64
        Loss in the whole frame but for extinction and cloud (mag).
    cloud, cloud_x, cloud_y : float64
        Loss in the middle (mag), and its slope towards the frame's right and upper edge.
    sky, sky_x, sky_y : float64
        Light of the sky (electron/s/pixel), and its slope relative to it.
    """

    jd_utc: FloatArray
    jd_tdb: FloatArray
    barycentric: FloatArray
    zenith: FloatArray
    ra: FloatArray
    dec: FloatArray
    turn: FloatArray
    fwhm: FloatArray
    e1: FloatArray
    e2: FloatArray
    transparency: FloatArray
    cloud: FloatArray
    cloud_x: FloatArray
    cloud_y: FloatArray
    sky: FloatArray
    sky_x: FloatArray
    sky_y: FloatArray


@contextmanager
def _offline() -> Iterator[None]:
    """Keep astropy from downloading or ageing its tables of the Earth's rotation."""
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("auto_max_age", None):
        yield


def _location(site: Site) -> EarthLocation:
    return EarthLocation.from_geodetic(site.longitude * u.deg, site.latitude * u.deg, site.height * u.m)


def altitude(body: str, jd_utc: FloatArray, site: Site) -> FloatArray:
    """Geometric altitude (deg, float64 [n]) of ``sun`` or ``moon`` at `jd_utc` (d, [n])."""
    with _offline():
        time, place = Time(jd_utc, format="jd", scale="utc"), _location(site)
        return np.asarray(get_body(body, time, place).transform_to(AltAz(obstime=time, location=place)).alt.deg, dtype=np.float64)


def sidereal_degrees(jd_utc: float, site: Site) -> float:
    """Local apparent sidereal time (deg) at `jd_utc` (d)."""
    with _offline():
        return float(Time(jd_utc, format="jd", scale="utc").sidereal_time("apparent", site.longitude * u.deg).deg)


def start_jd(sun_altitude: float, site: Site) -> float:
    """JD (UTC, to a whole second) at which the Sun sinks below `sun_altitude` (deg) on the demo's evening."""
    grid = EVENING + np.arange(0.0, 4.0 / 24.0, 30.0 / 86400.0)
    crossing = float(np.interp(-sun_altitude, -altitude("sun", grid, site), grid))
    return EVENING + float(np.ceil((crossing - EVENING) * 86400.0)) / 86400.0


def _earth(jd_utc: FloatArray, site: Site) -> tuple[FloatArray, FloatArray, FloatArray]:
    """TDB (JD), barycentric position (light-days) and zenith (ICRS unit vector) of the observatory."""
    with _offline():
        place = _location(site)
        time = Time(jd_utc, format="jd", scale="utc", location=place)
        geocentric, _ = place.get_gcrs_posvel(time)
        position = (get_body_barycentric("earth", time) + geocentric).xyz.to_value(u.au).T / _LIGHT_DAY
        above = SkyCoord(
            alt=np.full(jd_utc.size, 90.0) * u.deg, az=np.zeros(jd_utc.size) * u.deg, frame=AltAz(obstime=time, location=place)
        )
        icrs = above.icrs
        return np.asarray(time.tdb.jd), np.asarray(position), unit_vector(np.asarray(icrs.ra.deg), np.asarray(icrs.dec.deg))


def _slow(n: int, rng: np.random.Generator, n_wave: int = 6) -> FloatArray:
    """Smooth random course of unit rms over `n` frames."""
    phase = np.linspace(0.0, 1.0, n)
    waves = [rng.standard_normal() / k * np.sin(2 * np.pi * (0.5 * k * phase + rng.random())) for k in range(1, n_wave + 1)]
    total = np.sum(waves, axis=0)
    return np.asarray((total - total.mean()) / max(float(total.std()), 1e-9))


def _sky_light(jd_utc: FloatArray, airmass: FloatArray, cloud: FloatArray, site: Site) -> FloatArray:
    """Electrons a second and pixel from airglow, moonlight and twilight; a cloud reflects some more."""
    moon, sun = altitude("moon", jd_utc, site), altitude("sun", jd_utc, site)
    moonlight = 14.0 * np.clip(np.sin(np.radians(moon)), 0.0, None)
    twilight = 8.0 * 10.0 ** ((sun + 15.0) / 2.5)
    return (14.0 * (1.0 + 0.4 * (airmass - 1.0)) + moonlight) * (1.0 + 0.5 * cloud) + twilight


def make_conditions(
    jd_utc: FloatArray, ra0: float, dec0: float, camera: Camera, site: Site, cloud_middle: float, rng: np.random.Generator
) -> Conditions:
    """Conditions of the object frames.

    Parameters
    ----------
    jd_utc : float64 [n]
        Middles of the exposures (d).
    ra0, dec0 : float
        Middle of the field (deg).
    camera, site : Camera, Site
    cloud_middle : float
        When the cloud passes, as part of the series (0 to 1).
    rng : numpy.random.Generator

    Returns
    -------
    Conditions
    """
    n = jd_utc.size
    phase = np.linspace(0.0, 1.0, n)
    jd_tdb, barycentric, zenith = _earth(jd_utc, site)
    airmass = 1.0 / (zenith @ unit_vector(np.array(ra0), np.array(dec0)))
    depth = rng.uniform(0.5, 0.8)
    cloud = depth * np.exp(-0.5 * ((phase - cloud_middle) / 0.028) ** 2)
    cloud = np.where(cloud < 0.01, 0.0, cloud)
    pixel = camera.pixel_scale / 3600.0
    drift_x = 7.0 * (phase - 0.5) + 0.3 * rng.standard_normal(n)
    drift_y = 3.0 * np.sin(2.2 * phase) + 0.3 * rng.standard_normal(n)
    slope, track = 0.15 * rng.standard_normal(2), 0.03 * rng.standard_normal((2, n))
    return Conditions(
        jd_utc=jd_utc,
        jd_tdb=jd_tdb,
        barycentric=barycentric,
        zenith=zenith,
        ra=ra0 + drift_x * pixel / np.cos(np.radians(dec0)),
        dec=dec0 + drift_y * pixel,
        turn=0.12 * (phase - 0.5) + 0.002 * rng.standard_normal(n),
        fwhm=3.3 * airmass**0.6 * np.exp(0.05 * _slow(n, rng) + 0.02 * rng.standard_normal(n)),
        e1=0.02 + track[0],
        e2=track[1],
        transparency=0.02 * _slow(n, rng) + 0.003 * rng.standard_normal(n),
        cloud=cloud,
        cloud_x=cloud * slope[0],
        cloud_y=cloud * slope[1],
        sky=_sky_light(jd_utc, airmass, cloud, site),
        sky_x=0.01 + 0.03 * phase,
        sky_y=0.02 - 0.01 * phase,
    )
