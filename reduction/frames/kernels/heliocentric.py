"""Ephemerides of variables: from HJD, as catalogues have them, to BJD_TDB.

References
----------
Eastman, Siverd & Gaudi 2010, PASP 122, 935; IAU SOFA / ERFA: epv00 (Earth, 2.2 km rms), dat, taitt.
"""

from __future__ import annotations

import warnings

import erfa
import numpy as np

__all__ = ["hjd_to_bjd_tdb", "utc_to_tdb"]

_AU_LIGHT_DAY = 499.004783836156412 / 86400.0  # IAU 2012 au over c


def utc_to_tdb(jd: float) -> float:
    """TDB of a Julian date in UTC.

    Parameters
    ----------
    jd : float
        Day. Before 1960, when there was no UTC, TT - 32.184 s stands for it, which is within 35 s of UT.

    Returns
    -------
    float
        Day. TT stands for TDB: 2 ms at most.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", erfa.ErfaWarning)  # "dubious year": before 1960, and beyond the known leap seconds
        tai = erfa.utctai(jd, 0.0)
    first, second = erfa.taitt(*tai)
    return float(first + second)


def hjd_to_bjd_tdb(hjd: float, ra: float, dec: float) -> float:
    """BJD_TDB of a heliocentric Julian date in UTC.

    Parameters
    ----------
    hjd : float
        Day, as light arrives at the Sun, in UTC; with catalogues of variables this is what HJD means.
    ra, dec : float
        Degree, ICRS.

    Returns
    -------
    float
        Day; 50 to 75 s later than HJD for dates since 1985. Good to some ms for a geocentric observer, whom the HJD is taken to be of.
    """
    a, d = np.radians(ra), np.radians(dec)
    star = np.array([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])
    jd = hjd
    for _ in range(2):  # the Earth moves 1.5e-3 light-seconds per second: what is left after two rounds is below a microsecond
        sun_to_earth, _unused = erfa.epv00(utc_to_tdb(jd), 0.0)
        jd = hjd - float(sun_to_earth["p"] @ star) * _AU_LIGHT_DAY
    tdb = utc_to_tdb(jd)
    _unused, earth = erfa.epv00(tdb, 0.0)
    return tdb + float(earth["p"] @ star) * _AU_LIGHT_DAY
