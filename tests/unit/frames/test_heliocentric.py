"""From HJD to BJD_TDB, against astropy."""

from __future__ import annotations

import pytest
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.time import Time

from reduction.frames.kernels.heliocentric import hjd_to_bjd_tdb, utc_to_tdb
from reduction.frames.kernels.times import offline

DAYS = [2446000.25, 2452000.5, 2455123.75, 2458765.4321]


@pytest.mark.parametrize("jd", DAYS)
@pytest.mark.parametrize("place", [(31.04275, 46.68785), (279.23, 38.78), (90.0, -66.5), (180.0, 0.0)])
def test_is_what_astropy_says(jd: float, place: tuple[float, float]) -> None:
    with offline():
        time = Time(jd, format="jd", scale="utc", location=EarthLocation.from_geocentric(0.0, 0.0, 0.0, unit="m"))
        star = SkyCoord(*place, unit="deg")
        hjd = (time.utc + time.light_travel_time(star, "heliocentric", ephemeris="builtin")).jd
        bjd = (time.tdb + time.light_travel_time(star, "barycentric", ephemeris="builtin")).jd
    # one float64 resolves 40 microseconds
    assert hjd_to_bjd_tdb(hjd, *place) == pytest.approx(bjd, rel=0, abs=0.003 / 86400)
    assert 45 < (bjd - hjd) * 86400 < 80


def test_before_there_was_utc() -> None:
    assert (utc_to_tdb(2415020.0) - 2415020.0) * 86400 == pytest.approx(32.184, abs=1e-3)
    assert (utc_to_tdb(2458000.5) - 2458000.5) * 86400 == pytest.approx(69.184, abs=1e-3)
