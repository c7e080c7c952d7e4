"""How magnitudes of references relate to those of catalogues, and to those of other fields, cameras and passbands."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped

from db.base import Base, column, key, reference

__all__ = ["MagnitudeOffset", "StandardSystem"]


class _Relation:
    """A linear relation between two magnitudes, in the colour of stars, and how well they hold to it."""

    zero_point_err: Mapped[float] = column(sa.Double, "mag", "Its error, independent of the colour term's")
    colour_term: Mapped[float] = column(sa.Double, "", "Its slope in colour; 0 where too few colours were known")
    colour_term_err: Mapped[float] = column(sa.Double, "", "Its error")
    colour_pivot: Mapped[float | None] = column(sa.Double, "mag", "Weighted mean colour of the stars used; NULL: none was known", null=True)
    scatter: Mapped[float] = column(sa.Double, "mag", "Scatter of the stars about the relation, 1.48 MAD")
    excess: Mapped[float] = column(sa.Double, "mag", "What they scatter by beyond their errors: how far a single star may be off")
    colour_scatter: Mapped[float] = column(sa.Double, "mag", "Standard deviation of the colours of the stars used")
    colour_min: Mapped[float | None] = column(sa.Double, "mag", "Bluest star used", null=True)
    colour_max: Mapped[float | None] = column(sa.Double, "mag", "Reddest star used", null=True)


class StandardSystem(_Relation, Base):
    """What brings the magnitudes of a reference, in one slot, to a catalogue's band.

    Standard magnitude = fitted magnitude + zero_point + colour_term (colour - colour_pivot), where the colour is the source's `fit_colour`;
    a source whose colour was not measured counts as one of the mean colour, which is the pivot.
    """

    __tablename__ = "standard_system"
    __table_args__ = (
        {"comment": "Zero point and colour term of each reference and slot, to a catalogue's band", "sqlite_with_rowid": False},
    )

    reference_id: Mapped[int] = key(sa.Integer, "Reference")
    slot: Mapped[int] = key(sa.SmallInteger, "Photometry slot")
    band: Mapped[str] = column(sa.String(16), "", "Band that the standard magnitudes are in: the nearest to the passband that there was")
    system: Mapped[str] = column(sa.String(24), "", "Its photometric system; 'from Gaia' where it was made up from G, BP and RP")
    colour_band: Mapped[str | None] = column(sa.String(16), "", "Colour that the term is in; NULL: none was known", null=True)
    zero_point: Mapped[float] = column(sa.Double, "mag", "Standard minus fitted magnitude at the pivot")
    n_star: Mapped[int] = column(sa.Integer, "", "Stars used", sort_order=1)
    n_offered: Mapped[int] = column(sa.Integer, "", "Stars with both magnitudes, outliers among them", sort_order=1)
    mag_min: Mapped[float] = column(sa.Double, "mag", "Brightest star used, fitted magnitude", sort_order=1)
    mag_max: Mapped[float] = column(sa.Double, "mag", "Faintest star used, fitted magnitude", sort_order=1)
    task_id: Mapped[int] = reference("task.task_id", "Task that made it", sort_order=1)


class MagnitudeOffset(_Relation, Base):
    """How the magnitudes of one reference and slot differ from those of another of another field, by the stars that both have.

    Magnitude in `reference_id`, `slot` minus that in `other_reference_id`, `other_slot` =
    zero_point + colour_term (colour - colour_pivot). Each pair stands once, the later reference first.
    """

    __tablename__ = "magnitude_offset"
    __table_args__ = (
        sa.Index(None, "other_reference_id"),
        {"comment": "Offsets between references of different fields, cameras and passbands, from common stars", "sqlite_with_rowid": False},
    )

    reference_id: Mapped[int] = key(sa.Integer, "Reference")
    other_reference_id: Mapped[int] = key(sa.Integer, "Reference of another field, an earlier one")
    slot: Mapped[int] = key(sa.SmallInteger, "Photometry slot of the first")
    other_slot: Mapped[int] = key(sa.SmallInteger, "Photometry slot of the other")
    zero_point: Mapped[float] = column(sa.Double, "mag", "Difference of the magnitudes at the pivot: the first minus the other")
    n_star: Mapped[int] = column(sa.Integer, "", "Common stars used", sort_order=1)
    n_offered: Mapped[int] = column(sa.Integer, "", "Common stars, outliers among them", sort_order=1)
    mag_min: Mapped[float] = column(sa.Double, "mag", "Brightest star used, magnitude in the first", sort_order=1)
    mag_max: Mapped[float] = column(sa.Double, "mag", "Faintest star used, magnitude in the first", sort_order=1)
    task_id: Mapped[int] = reference("task.task_id", "Task that made it", sort_order=1)
