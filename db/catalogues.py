"""Catalogues, the sources they hold, and sources that the frames themselves revealed."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped

from db.base import Base, column, key, reference
from db.path_text import PathText

__all__ = ["Catalogue", "CatalogueCoverage", "Source", "SourceLink", "SourceMagnitude", "SourceName", "SourceNeighbour"]


class Catalogue(Base):
    """A catalogue, taken in from a file or piece by piece from a service."""

    __tablename__ = "catalogue"
    __table_args__ = (sa.UniqueConstraint("sha256"), {"comment": "Catalogues taken in from files and services"})

    catalogue_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    kind: Mapped[str] = column(sa.String(8), "", "'file', or 'service': fetched piece by piece, see `catalogue_coverage`")
    name: Mapped[str] = column(sa.String(128), "", "File name, or name of the catalogue")
    path: Mapped[str] = column(PathText(), "", "Path it was read from, or the service's address and the table")
    sha256: Mapped[str] = column(sa.String(64), "", "SHA-256 of the file, or of the service's address and the table")
    n_source: Mapped[int] = column(sa.Integer, "", "Rows taken in")
    ra: Mapped[float | None] = column(sa.Double, "deg", "Right ascension of a file's centre, ICRS", null=True)
    dec: Mapped[float | None] = column(sa.Double, "deg", "Declination of a file's centre, ICRS", null=True)
    radius: Mapped[float | None] = column(sa.Double, "deg", "Radius that holds all of a file", null=True)
    epoch: Mapped[float] = column(sa.Double, "yr", "Epoch of its positions, Julian year")
    columns: Mapped[str] = column(sa.Text, "", "JSON object: which column was taken as what")
    task_id: Mapped[int] = reference("task.task_id", "Task that took it in, or its latest piece")


class CatalogueCoverage(Base):
    """A piece of sky of which a catalogue holds every star down to a magnitude."""

    __tablename__ = "catalogue_coverage"
    __table_args__ = {"comment": "What was fetched of catalogues: HEALPix ranges, complete down to a magnitude"}

    catalogue_id: Mapped[int] = key(sa.ForeignKey("catalogue.catalogue_id"), "Catalogue")
    lo: Mapped[int] = key(sa.BigInteger, "First pixel, HEALPix order 29, nested")
    hi: Mapped[int] = key(sa.BigInteger, "Pixel after the last")
    magnitude_limit: Mapped[float] = column(sa.Double, "mag", "Faintest stars that were asked for, in the catalogue's main band")
    n_source: Mapped[int] = column(sa.Integer, "", "Stars that it held")
    task_id: Mapped[int] = reference("task.task_id", "Task that fetched it")


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
    position_err: Mapped[float | None] = column(
        sa.Double, "arcsec", "Error of a coordinate at the catalogue's epoch, rounding included; NULL when unknown", null=True
    )
    ux: Mapped[float] = column(sa.Double, "", "ICRS unit vector x")
    uy: Mapped[float] = column(sa.Double, "", "ICRS unit vector y")
    uz: Mapped[float] = column(sa.Double, "", "ICRS unit vector z")
    healpix: Mapped[int] = column(sa.BigInteger, "", "HEALPix order 29, nested")
    fold: Mapped[int] = column(sa.SmallInteger, "", "Cross-fit fold, 0 to 4, from a stable hash of source_id")
    origin: Mapped[str] = column(sa.String(12), "", "'catalogue', or 'discovered' while no catalogue knows it")
    fit_mag: Mapped[float] = column(sa.Double, "mag", "Magnitude in the `fit_band` of its fields: the catalogues', else from the frames")
    fit_colour: Mapped[float] = column(
        sa.Double,
        "mag",
        "Colour used in fits, in the `fit_colour_band` of its fields: measured, else the median at its magnitude",
    )
    colour_measured: Mapped[int] = column(sa.SmallInteger, "", "1 when fit_colour was measured, 0 when assumed")
    task_id: Mapped[int] = column(sa.Integer, "", "Task that made the row")


class SourceMagnitude(Base):
    """What a catalogue says of a source's brightness."""

    __tablename__ = "source_magnitude"
    __table_args__ = {"comment": "Catalogue magnitudes"}

    source_id: Mapped[int] = key(sa.BigInteger, "Source")
    catalogue_id: Mapped[int] = key(sa.Integer, "Catalogue")
    band: Mapped[str] = key(sa.String(16), "Band, e.g. G, BP, RP, V, VT, r, J; B-V for a colour given as such")
    value: Mapped[float] = column(sa.Double, "mag", "Magnitude or colour")
    error: Mapped[float | None] = column(sa.Double, "mag", "Its error; NULL when the catalogue has none", null=True)
    system: Mapped[str] = column(sa.String(16), "", "Photometric system: Gaia, Johnson, Tycho, Sloan, 2MASS, or as the catalogue has it")


class SourceName(Base):
    """A name that a catalogue gives to a source."""

    __tablename__ = "source_name"
    __table_args__ = (sa.Index(None, "source_id"), {"comment": "Names of sources"})

    name: Mapped[str] = key(sa.String(64), "Name with its prefix, e.g. 'TYC 3281-957-1', 'HIP 9640', 'Gaia DR3 ...'")
    source_id: Mapped[int] = key(sa.BigInteger, "Source")
    catalogue_id: Mapped[int] = column(sa.Integer, "", "Catalogue that gives it")


class SourceLink(Base):
    """A source that had its identifier before a catalogue's star was found to be it."""

    __tablename__ = "source_link"
    __table_args__ = (sa.Index(None, "gaia_id"), {"comment": "Sources known before a catalogue named them: they keep their identifiers"})

    source_id: Mapped[int] = key(sa.BigInteger, "Source, whose measurements stay valid")
    catalogue_id: Mapped[int] = key(sa.ForeignKey("catalogue.catalogue_id"), "Catalogue that knows the star too")
    gaia_id: Mapped[int | None] = column(sa.BigInteger, "", "Gaia's identifier of the star; NULL when the catalogue gives none", null=True)
    separation: Mapped[float] = column(sa.Double, "arcsec", "From the source to the catalogue's star when they were linked, epoch 2016")


class SourceNeighbour(Base):
    """Two stars so close that they share light; each pair stands both ways round."""

    __tablename__ = "source_neighbour"
    __table_args__ = {"comment": "Pairs of sources within a few FWHM of their field, both ways round", "sqlite_with_rowid": False}

    source_id: Mapped[int] = key(sa.BigInteger, "Source")
    neighbour_id: Mapped[int] = key(sa.BigInteger, "The other source")
    separation: Mapped[float] = column(sa.REAL, "arcsec", "Separation at epoch 2016")
    delta_mag: Mapped[float] = column(sa.REAL, "mag", "fit_mag of the neighbour minus that of the source: negative for a brighter one")
