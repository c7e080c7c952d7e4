"""Catalogues, the sources they hold, and sources that the frames themselves revealed."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped

from db.base import Base, column, key, reference

__all__ = ["Catalogue", "Source", "SourceMagnitude", "SourceName"]


class Catalogue(Base):
    """A catalogue taken in from a file."""

    __tablename__ = "catalogue"
    __table_args__ = (sa.UniqueConstraint("sha256"), {"comment": "Catalogues taken in from files"})

    catalogue_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    name: Mapped[str] = column(sa.String(128), "", "File name")
    path: Mapped[str] = column(sa.Text, "", "Path it was read from")
    sha256: Mapped[str] = column(sa.String(64), "", "SHA-256 of the file")
    n_source: Mapped[int] = column(sa.Integer, "", "Rows taken in")
    ra: Mapped[float] = column(sa.Double, "deg", "Right ascension of its centre, ICRS")
    dec: Mapped[float] = column(sa.Double, "deg", "Declination of its centre, ICRS")
    radius: Mapped[float] = column(sa.Double, "deg", "Radius that holds all of it")
    epoch: Mapped[float] = column(sa.Double, "yr", "Epoch of its positions, Julian year")
    columns: Mapped[str] = column(sa.Text, "", "JSON object: which column was taken as what")
    task_id: Mapped[int] = reference("task.task_id", "Task that took it in")


class Source(Base):
    """A star, from a catalogue or discovered on the frames."""

    __tablename__ = "source"
    __table_args__ = (sa.Index(None, "healpix"), sa.Index(None, "dec"), {"comment": "Stars"})

    source_id: Mapped[int] = key(
        sa.BigInteger, "Gaia's id, else HEALPix order 12 (nested) << 35 | number << 7 | 1: sorts like the sky, bit 0 is never set in Gaia's"
    )
    ra: Mapped[float] = column(sa.Double, "deg", "Right ascension, ICRS, at `epoch`")
    dec: Mapped[float] = column(sa.Double, "deg", "Declination, ICRS, at `epoch`")
    epoch: Mapped[float] = column(sa.Double, "yr", "Epoch of ra, dec and the unit vector, Julian year")
    pmra: Mapped[float] = column(sa.Double, "mas/yr", "Proper motion in right ascension times cos(dec); 0 when unknown")
    pmdec: Mapped[float] = column(sa.Double, "mas/yr", "Proper motion in declination; 0 when unknown")
    ux: Mapped[float] = column(sa.Double, "", "ICRS unit vector x")
    uy: Mapped[float] = column(sa.Double, "", "ICRS unit vector y")
    uz: Mapped[float] = column(sa.Double, "", "ICRS unit vector z")
    healpix: Mapped[int] = column(sa.BigInteger, "", "HEALPix order 29, nested")
    fold: Mapped[int] = column(sa.SmallInteger, "", "Cross-fit fold, 0 to 4, from a stable hash of source_id")
    origin: Mapped[str] = column(sa.String(12), "", "'catalogue' or 'discovered'")
    fit_mag: Mapped[float] = column(sa.Double, "mag", "Magnitude used in fits and for neighbours: the catalogue's, else from the frames")
    fit_colour: Mapped[float] = column(sa.Double, "mag", "Colour used in fits: measured, else the median of stars of that magnitude")
    colour_measured: Mapped[int] = column(sa.SmallInteger, "", "1 when fit_colour was measured, 0 when assumed")
    task_id: Mapped[int] = reference("task.task_id", "Task that made the row")


class SourceMagnitude(Base):
    """What a catalogue says of a source's brightness."""

    __tablename__ = "source_magnitude"
    __table_args__ = {"comment": "Catalogue magnitudes"}

    source_id: Mapped[int] = key(sa.BigInteger, "Source")
    catalogue_id: Mapped[int] = key(sa.ForeignKey("catalogue.catalogue_id"), "Catalogue")
    band: Mapped[str] = key(sa.String(16), "Band, e.g. G, BP, RP, V, VT, B-V for a colour")
    value: Mapped[float] = column(sa.Double, "mag", "Magnitude or colour")
    error: Mapped[float | None] = column(sa.Double, "mag", "Its error; NULL when the catalogue has none", null=True)
    system: Mapped[str] = column(sa.String(16), "", "Photometric system: Gaia, Johnson, Tycho, or unknown")


class SourceName(Base):
    """A name that a catalogue gives to a source."""

    __tablename__ = "source_name"
    __table_args__ = (sa.Index(None, "source_id"), {"comment": "Names of sources"})

    name: Mapped[str] = key(sa.String(64), "Name with its prefix, e.g. 'TYC 3281-957-1', 'HIP 9640', 'Gaia DR3 ...'")
    source_id: Mapped[int] = key(sa.BigInteger, "Source")
    catalogue_id: Mapped[int] = reference("catalogue.catalogue_id", "Catalogue that gives it")
