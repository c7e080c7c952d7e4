"""UT1 - UTC against astropy's own reading of the same tables."""

from __future__ import annotations

import numpy as np
from astropy.utils import iers

from reduction.frames.kernels.earth_rotation import ut1_utc, ut1_utc_table
from reduction.frames.kernels.times import offline


def test_the_table_is_that_of_astropy() -> None:
    days, values = ut1_utc_table()
    with offline():
        table = iers.earth_orientation_table.get()
    np.testing.assert_array_equal(days, table["MJD"].value)
    np.testing.assert_array_equal(values, table["UT1_UTC"].value)


def test_values_between_days_over_leap_seconds_and_beyond_the_table_are_those_of_astropy() -> None:
    leap = 2457754.5  # 2017-01-01
    generator = np.random.default_rng(1)
    jd1 = np.concatenate([generator.integers(2441600, 2462000, 2000) + 0.5, [leap - 1, leap, 2400000.5, 2500000.5]])
    jd2 = np.concatenate([generator.random(2000), [0.999, 0.0, 0.1, 0.2]])
    with offline():
        truth = iers.earth_orientation_table.get().ut1_utc(jd1, jd2).to_value("s")
    np.testing.assert_array_equal(ut1_utc(jd1, jd2), truth)
