"""Statistics of light curves, and the targets people follow."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.orm import Mapped

from db.base import Base, column, key

__all__ = ["LightcurveStatistics", "Target"]


class LightcurveStatistics(Base):
    """How one source behaved in one slot against one reference."""

    __tablename__ = "lightcurve_statistics"
    __table_args__ = ({"comment": "Statistics of light curves, per source and slot", "sqlite_with_rowid": False},)

    reference_id: Mapped[int] = key(sa.Integer, "Reference")
    slot: Mapped[int] = key(sa.SmallInteger, "Photometry slot")
    source_id: Mapped[int] = key(sa.BigInteger, "Source")
    n_point: Mapped[int] = column(sa.Integer, "", "Points with a magnitude")
    n_good: Mapped[int] = column(sa.Integer, "", "Points with quality 0")
    mag_mean: Mapped[float | None] = column(sa.Double, "mag", "Weighted mean magnitude", null=True)
    mag_median: Mapped[float | None] = column(sa.Double, "mag", "Median magnitude", null=True)
    rms: Mapped[float | None] = column(sa.Double, "mag", "Standard deviation", null=True)
    mad_rms: Mapped[float | None] = column(sa.Double, "mag", "1.48 times the median absolute deviation", null=True)
    expected_rms: Mapped[float | None] = column(sa.Double, "mag", "Root mean square of mag_err_total", null=True)
    chi2: Mapped[float | None] = column(sa.Double, "", "Reduced chi-square about the mean, with mag_err_total", null=True)
    eta: Mapped[float | None] = column(sa.Double, "", "Von Neumann ratio: 2 for white noise, less for smooth variation", null=True)
    task_id: Mapped[int] = column(sa.Integer, "", "Task that made it")


class Target(Base):
    """A star someone follows, with an ephemeris where there is one."""

    __tablename__ = "target"
    __table_args__ = (sa.UniqueConstraint("name"), {"comment": "Stars that people follow"})

    target_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    name: Mapped[str] = column(sa.String(64), "", "Name")
    ra: Mapped[float] = column(sa.Double, "deg", "Right ascension, ICRS")
    dec: Mapped[float] = column(sa.Double, "deg", "Declination, ICRS")
    source_id: Mapped[int | None] = column(sa.BigInteger, "", "Its source; NULL while none lies within the radius", null=True)
    epoch: Mapped[float | None] = column(sa.Double, "d", "A mid-transit, or a maximum or minimum of a variable, BJD_TDB", null=True)
    period: Mapped[float | None] = column(sa.Double, "d", "Period", null=True)
    duration: Mapped[float | None] = column(sa.Double, "d", "Duration of the transit", null=True)
    created: Mapped[dt.datetime] = column(sa.DateTime, "UTC", "When it was added")
    position_from: Mapped[str | None] = column(
        sa.String(160), "", "Service and reference that the position is from; NULL: a person gave it", null=True
    )
    ephemeris_from: Mapped[str | None] = column(
        sa.String(160), "", "Service and reference that the ephemeris is from, and what of it a person gave; NULL: all of it", null=True
    )
