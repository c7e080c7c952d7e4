"""Times and directions of an exposure: BJD, zenith, Sun and Moon.

A frame keeps jd_tdb at mid-exposure and the observatory's barycentric position
b in light-days, so that ``bjd_tdb = jd_tdb + b . u`` for a source of ICRS unit
vector u, and the zenith's vector z, so that ``airmass = 1 / (z . u)``.

Nothing here needs the network: Earth orientation comes from the tables that
are installed with astropy, and beyond their end the last value is kept (0.1 s
of UT1 moves the zenith by 1.5 arcsec).

References
----------
Eastman, Siverd & Gaudi 2010, PASP 122, 935 (BJD_TDB);
IAU SOFA / ERFA: epv00 (Earth, 2.2 km rms), moon98 (Meeus, 10 arcsec), c2t06a.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import erfa
import numpy as np
import numpy.typing as npt
from astropy.coordinates import EarthLocation
from astropy.time import Time
from astropy.utils import iers
from astropy.utils.exceptions import AstropyWarning

from reduction.frames.kernels.earth_rotation import ut1_utc
from reduction.kernels.arrays import FloatArray

__all__ = ["ExposureGeometry", "barycentric", "night_number", "offline"]


_AU_LIGHT_DAY = 499.004783836156412 / 86400.0  # IAU 2012 au over c
_AU = 149597870700.0
_C = 299792458.0
_EPOCH = 2451545.0


@dataclass(frozen=True)
class ExposureGeometry:
    """Per frame: float64, shape (n,).

    Attributes
    ----------
    jd_utc, jd_tdb : day
        Mid-exposure; one float64 resolves 41 microseconds.
    bx, by, bz : light-day
        Barycentric position of the observatory (of the geocentre where the site is unknown).
    zx, zy, zz : 1
        Unit vector of the zenith among ICRS directions; NaN where the site is unknown.
    sun_alt, moon_alt : degree
        Without refraction; NaN where the site is unknown.
    moon_illumination : 1
        Illuminated fraction of the disc, 0 to 1.
    moon_ra, moon_dec : degree
        Seen from the site, in GCRS axes.
    """

    jd_utc: FloatArray
    jd_tdb: FloatArray
    bx: FloatArray
    by: FloatArray
    bz: FloatArray
    zx: FloatArray
    zy: FloatArray
    zz: FloatArray
    sun_alt: FloatArray
    moon_alt: FloatArray
    moon_illumination: FloatArray
    moon_ra: FloatArray
    moon_dec: FloatArray


def barycentric(
    jd1: npt.ArrayLike,
    jd2: npt.ArrayLike,
    lat: npt.ArrayLike | None = None,
    lon: npt.ArrayLike | None = None,
    height: npt.ArrayLike | None = None,
    *,
    ra: npt.ArrayLike | None = None,
    dec: npt.ArrayLike | None = None,
) -> ExposureGeometry:
    """Barycentric position, zenith, Sun and Moon at given times.

    Parameters
    ----------
    jd1, jd2 : float64, shape (n,) or scalar
        UTC at mid-exposure as two-part Julian dates.
    lat, lon, height : array or scalar
        Geodetic latitude and east longitude in degrees (WGS84), height in m. NaN or None: unknown site,
        for which the geocentre stands (22 ms at most in the BJD).
    ra, dec : array or scalar
        Pointing in degrees. Aberration (20 arcsec) is put into the zenith vector exactly there and to 4
        arcsec 10 degrees away; without pointing it is left out (5e-4 in airmass at an altitude of 25 degrees).

    Returns
    -------
    ExposureGeometry
        Arrays of the broadcast shape, at least 1-D.

    Notes
    -----
    ``jd_tdb + b.u`` is within 50 microseconds of astropy's ``Time.light_travel_time`` with its built-in ephemeris.
    Curvature of the wave front and Shapiro delay are left out, as they are there.
    """
    known = [np.asarray(np.nan if value is None else value, dtype=np.float64) for value in (jd1, jd2, lat, lon, height, ra, dec)]
    day, fraction, lat_, lon_, height_, ra_, dec_ = (np.atleast_1d(value) for value in np.broadcast_arrays(*known))
    has_site = np.isfinite(lat_) & np.isfinite(lon_)
    with offline():
        site = EarthLocation.from_geodetic(np.where(has_site, lon_, 0.0), np.where(has_site, lat_, 0.0), np.nan_to_num(height_))
        time = Time(day, fraction, format="jd", scale="utc", location=site)
        time.delta_ut1_utc = ut1_utc(time.jd1, time.jd2)
        utc1, utc2, tt, tdb, ut1 = time.jd1, time.jd2, time.tt, time.tdb, time.ut1
    to_terrestrial = erfa.c2t06a(tt.jd1, tt.jd2, ut1.jd1, ut1.jd2, 0.0, 0.0)
    position = np.stack([site.x.to_value("m"), site.y.to_value("m"), site.z.to_value("m")], axis=-1) * has_site[:, None]
    observer = np.einsum("nji,nj->ni", to_terrestrial, position) / _AU
    heliocentric, earth = erfa.epv00(tdb.jd1, tdb.jd2)
    moment = (earth["p"] + observer) * _AU_LIGHT_DAY
    zenith = np.einsum("nji,nj->ni", to_terrestrial, _up(lat_, lon_))
    seen_zenith = _with_aberration(zenith, earth["v"] * (_AU / 86400.0 / _C), _unit(ra_, dec_))
    sun = _normalised(-heliocentric["p"] - observer)
    moon_vector = erfa.moon98(tt.jd1, tt.jd2)["p"] - observer
    moon = _normalised(moon_vector)
    moon_to_sun = _normalised(-heliocentric["p"] - observer - moon_vector)
    return ExposureGeometry(
        jd_utc=utc1 + utc2,
        jd_tdb=tdb.jd1 + tdb.jd2,
        bx=moment[:, 0],
        by=moment[:, 1],
        bz=moment[:, 2],
        zx=seen_zenith[:, 0],
        zy=seen_zenith[:, 1],
        zz=seen_zenith[:, 2],
        sun_alt=_altitude(sun, zenith),
        moon_alt=_altitude(moon, zenith),
        moon_illumination=(1.0 - np.einsum("ni,ni->n", moon, moon_to_sun)) / 2.0,
        moon_ra=np.degrees(np.arctan2(moon[:, 1], moon[:, 0])) % 360.0,
        moon_dec=np.degrees(np.arcsin(moon[:, 2])),
    )


def night_number(jd_utc: npt.ArrayLike, lon_east: npt.ArrayLike | None) -> npt.NDArray[np.int64]:
    """Number of the night: days from 2000-01-01 of the evening's local date.

    Parameters
    ----------
    jd_utc : array or scalar
        Julian date, UTC.
    lon_east : array or scalar
        Longitude in degrees, east positive; NaN or None (unknown) counts as Greenwich.

    Returns
    -------
    int64
        Changes at local mean solar noon; 2000-01-01 from its noon to the next is 0.
    """
    longitude = np.nan_to_num(np.asarray(np.nan if lon_east is None else lon_east, dtype=np.float64))
    return np.floor(np.asarray(jd_utc, dtype=np.float64) + longitude / 360.0 - _EPOCH).astype(np.int64)


@contextmanager
def offline() -> Iterator[None]:
    """Keep astropy from the network, and from refusing or doubting dates beyond its tables.

    Nothing else sets it: whoever converts times or coordinates with astropy does it inside.
    """
    with (
        iers.conf.set_temp("auto_download", False),
        iers.conf.set_temp("auto_max_age", None),
        iers.conf.set_temp("iers_degraded_accuracy", "ignore"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", erfa.ErfaWarning)
        warnings.simplefilter("ignore", AstropyWarning)
        yield


def _up(lat: FloatArray, lon: FloatArray) -> FloatArray:
    """Geodetic vertical in Earth-fixed axes."""
    return _unit(lon, lat)


def _unit(longitude: FloatArray, latitude: FloatArray) -> FloatArray:
    first, second = np.radians(longitude), np.radians(latitude)
    return np.stack([np.cos(second) * np.cos(first), np.cos(second) * np.sin(first), np.sin(second)], axis=-1)


def _normalised(vector: FloatArray) -> FloatArray:
    unit: FloatArray = vector / np.linalg.norm(vector, axis=-1, keepdims=True)
    return unit


def _with_aberration(zenith: FloatArray, velocity: FloatArray, pointing: FloatArray) -> FloatArray:
    """Turn the zenith against the aberration of a source at `pointing`; unchanged where that is NaN.

    A source at u is seen at u + v - u (u.v), which near the pointing is a rotation by w = u x v;
    the airmass of what is seen follows from the catalogue's u and the zenith turned by -w.
    """
    turn = np.nan_to_num(np.cross(pointing, velocity))
    return _normalised(zenith - np.cross(turn, zenith))


def _altitude(direction: FloatArray, zenith: FloatArray) -> FloatArray:
    altitude: FloatArray = np.degrees(np.arcsin(np.clip(np.einsum("ni,ni->n", direction, zenith), -1.0, 1.0)))
    return altitude
