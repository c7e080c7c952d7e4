"""The light curve of a target's position, point by point and night by night, read from the view `target_light_curve`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.errors import NothingToDo
from db.flags import FLAG_TEXT
from db.tables import Target
from db.views import TARGET_COLUMNS
from queries.dataframe import data_frame

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NIGHT_COLUMNS", "SIGMAS", "TargetCurve", "find_target_curve", "nightly"]

#: A flux of so many errors is a detection, and so many errors are the upper limit.
SIGMAS = 3.0

#: Columns of `nightly`: unit and meaning.
NIGHT_COLUMNS: dict[str, tuple[str, str]] = {
    "night_id": ("", "Night: days from 2000-01-01"),
    "field_id": ("", "Field, whose reference the scale is of"),
    "passband": ("", "Passband"),
    "bjd_tdb": ("d", "Mean time of the points, weighted as the flux, Julian date TDB"),
    "n_point": ("", "Points of quality 0 with a flux on the reference's scale"),
    "flux_cal": ("", "Their mean flux, each weighted with 1 / flux_cal_err^2; 1 is of magnitude 25"),
    "flux_cal_err": ("", "Its error from those of the points"),
    "snr": ("", "Flux over error"),
    "chi2": ("", "Reduced chi-square of the points about the mean; NULL for one point"),
    "mag": ("mag", "Magnitude of the mean flux; NULL below a signal-to-noise ratio of 3"),
    "mag_err": ("mag", "Its error"),
    "limit_mag": ("mag", "Upper limit at 3 sigma: magnitude of a flux of three errors"),
}


@dataclass(frozen=True)
class TargetCurve:
    """The light curve of a target.

    Attributes
    ----------
    frame : DataFrame
        Its points in the order of time: the columns of the view `target_light_curve`; one at least.
    meta : dict
        What it is and where the points come from.
    """

    frame: pd.DataFrame
    meta: dict[str, Any]

    @property
    def nights(self) -> pd.DataFrame:
        """Its mean flux in each night, as from `nightly`."""
        return nightly(self.frame)


def find_target_curve(connection: Connection, target: Target) -> TargetCurve:
    """The light curve of a target.

    Raises
    ------
    NothingToDo
        When it was measured on no frame.
    """
    query = sa.text(f"SELECT {', '.join(TARGET_COLUMNS)} FROM target_light_curve WHERE target_id = :target ORDER BY bjd_tdb, frame_id")
    rows = connection.execute(query, {"target": target.target_id}).all()
    if not rows:
        raise NothingToDo(
            f"no measurement of target {target.name}",
            hint="'starledger target measure' measures it on the frames that hold it",
            code="target.unmeasured",
        )
    frame = data_frame(rows, list(TARGET_COLUMNS))
    # a column without any value has no type of its own
    floats = [name for name in frame if frame[name].dtype == object and name not in ("name", "passband")]
    frame = frame.astype(dict.fromkeys(floats, float) | {"source_id": "Int64", "field_id": "Int64", "ref_id": "Int64"})
    return TargetCurve(
        frame,
        {
            "name": target.name,
            "ra": target.ra,
            "dec": target.dec,
            "n_point": len(frame),
            "references": sorted(int(number) for number in frame["ref_id"].dropna().unique()),
            "archive": connection.engine.url.render_as_string(hide_password=True),
            "time": "BJD_TDB, mid-exposure",
            "scale": "flux_cal 1 is of magnitude 25",
            "quality": "0 good, 1 flagged in the pixels, 2 masked by a person",
            "flags": {int(flag): f"{flag.name}: {text}" for flag, text in FLAG_TEXT.items()},
        },
    )


def nightly(points: pd.DataFrame) -> pd.DataFrame:
    """The mean flux of each night, field and passband.

    A single flux below its error says little; the mean of a night's says three times as much for every ten frames.

    Parameters
    ----------
    points : DataFrame
        Columns of the view `target_light_curve`.

    Returns
    -------
    DataFrame
        Columns of `NIGHT_COLUMNS`, in the order of time; nights without a good point are not there.
    """
    import pandas as pd

    good = points[(points["quality"] == 0) & points["flux_cal"].notna() & (points["flux_cal_err"] > 0)]
    groups = good.groupby(["night_id", "field_id", "passband"], sort=True)
    rows = [(*key, *_mean(group)) for key, group in groups]
    found = pd.DataFrame(rows, columns=list(NIGHT_COLUMNS))
    kinds = {name: float for name in NIGHT_COLUMNS if name not in ("night_id", "field_id", "passband", "n_point")}
    return found.astype(kinds | dict.fromkeys(("night_id", "field_id", "n_point"), "int64")).sort_values("bjd_tdb", ignore_index=True)


def _mean(group: pd.DataFrame) -> tuple[float, ...]:
    flux, error, time = (group[name].to_numpy(dtype=np.float64) for name in ("flux_cal", "flux_cal_err", "bjd_tdb"))
    weight = 1.0 / error**2
    total = float(weight.sum())
    mean, sigma, n = float((weight * flux).sum()) / total, total**-0.5, len(flux)
    # offsets, for a Julian date has no digits to lose
    when = float(time[0]) + float((weight * (time - time[0])).sum()) / total
    chi2 = float((weight * (flux - mean) ** 2).sum()) / (n - 1) if n > 1 else np.nan
    seen = mean >= SIGMAS * sigma
    mag, mag_err = (25.0 - 2.5 * np.log10(mean), 2.5 / np.log(10.0) * sigma / mean) if seen else (np.nan, np.nan)
    return when, n, mean, sigma, mean / sigma, chi2, mag, mag_err, 25.0 - 2.5 * np.log10(SIGMAS * sigma)
