"""UT1 - UTC from the tables that are installed with astropy.

astropy reads all of their columns, with units, which takes over a second in every process; one column is needed here.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from astropy.utils import iers
from astropy.utils.data import get_file_contents

from reduction.kernels.arrays import FloatArray

__all__ = ["ut1_utc", "ut1_utc_table"]

_MJD_ZERO = 2400000.5


def ut1_utc(jd1: FloatArray, jd2: FloatArray) -> FloatArray:
    """UT1 - UTC at times given in UTC.

    Parameters
    ----------
    jd1, jd2 : float64, shape (n,)
        Two-part Julian dates.

    Returns
    -------
    float64, shape (n,)
        Seconds; linear between days, as astropy's ``IERS.ut1_utc`` has it. Before and after the table its first and last value.
    """
    days, values = ut1_utc_table()
    day = np.floor(jd1 - _MJD_ZERO + jd2)
    fraction = jd1 - (_MJD_ZERO + day) + jd2
    place = np.searchsorted(days, day, side="right")
    after = np.clip(place, 1, len(days) - 1)
    before = after - 1
    step = values[after] - values[before]
    step -= step.round()  # a leap second comes at the end of its day
    between = values[before] + (day - days[before] + fraction) / (days[after] - days[before]) * step
    return np.where(place == 0, values[0], np.where(place == len(days), values[-1], between))


@cache
def ut1_utc_table() -> tuple[FloatArray, FloatArray]:
    """Days (MJD) and UT1 - UTC (s): final values (IERS Bulletin B) where there are any, then rapid and predicted ones (Bulletin A).

    Returns
    -------
    days, values : float64, shape (n,)
        Those of astropy's ``IERS_Auto``.

    References
    ----------
    ``ReadMe.finals2000A`` and ``ReadMe.eopc04`` beside the tables, for their columns.
    """
    lines = get_file_contents(iers.IERS_A_FILE, encoding="ascii").splitlines()
    # The last rows hold nothing but their dates.
    lines = [line for line in lines if line[58:68].strip() and line[16:17].strip()]
    days = np.array([line[7:15] for line in lines], dtype=np.float64)
    rapid = np.array([line[58:68] for line in lines], dtype=np.float64)
    final = np.array([line[154:165].strip() or "nan" for line in lines], dtype=np.float64)
    own_days, own = np.loadtxt(iers.IERS_B_FILE, usecols=(4, 7), unpack=True, encoding="ascii")
    known = days[np.isfinite(final)]
    chosen = (own_days >= known[0]) & (own_days <= known[-1])
    if not np.array_equal(own_days[chosen], days[: np.count_nonzero(chosen)]):
        raise ValueError(f"{iers.IERS_B_FILE} and {iers.IERS_A_FILE} do not have the same days")
    final[: np.count_nonzero(chosen)] = own[chosen]
    return days, np.where(np.isnan(final), rapid, final)
