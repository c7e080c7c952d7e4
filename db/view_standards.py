"""Views on standard magnitudes, and on how fields, cameras and passbands differ."""

from __future__ import annotations

from db.frames import Instrument, Passband
from db.lightcurves import MagfitReference
from db.standards import MagnitudeOffset, StandardSystem
from db.view_declaration import View, of, own, through
from db.view_light_curve import LIGHT_CURVE

__all__ = ["FIELD_OFFSET", "STANDARD_LIGHT_CURVE"]

#: Of a source whose colour nobody measured nothing but the mean is known, which is the pivot.
_OFF = "CASE WHEN o.colour_measured = 1 THEN coalesce(o.fit_colour - z.colour_pivot, 0.0) ELSE 0.0 END"
_ASSUMED = "CASE WHEN o.colour_measured = 1 THEN 0.0 ELSE power(z.colour_term * z.colour_scatter, 2) END"
_BEYOND = """CASE WHEN o.colour_measured = 0 THEN 2
            WHEN o.fit_colour < z.colour_min OR o.fit_colour > z.colour_max THEN 1 ELSE 0 END"""

_BEFORE = ("source_id", "night_id", "frame_id", "jd_utc", "bjd_tdb", "passband", "field_id", "slot")
_BEHIND = ("mag", "mag_err", "mag_err_total", "quality", "flags", "airmass", "ref_id")
_LIGHT_CURVE = {column.name: column for column in LIGHT_CURVE.columns}

#: The curve is joined first, as it is; what follows is looked up by key for each of its points.
STANDARD_LIGHT_CURVE = View(
    "standard_light_curve",
    "The light curves in a standard system: each point in the catalogue's band nearest to its passband, with the system's error by itself.",
    (
        *through("l", (_LIGHT_CURVE[name] for name in _BEFORE)),
        of(StandardSystem.band, "z"),
        of(StandardSystem.system, "z"),
        own(
            "standard_mag",
            f"l.mag + z.zero_point + z.colour_term * ({_OFF})",
            "mag",
            "phot.mag;em.opt;meta.main",
            "Magnitude in the band; NULL where the flux is not positive, or the reference is tied to no catalogue",
        ),
        own(
            "system_err",
            f"sqrt(power(z.zero_point_err, 2) + power(z.colour_term_err * ({_OFF}), 2) + power(z.excess, 2) + {_ASSUMED})",
            "mag",
            "stat.error.sys;phot.mag",
            "Error that all points of the source share: zero point, colour term, what stars are off by, and the colour where it is assumed",
        ),
        own("colour_quality", _BEYOND, "", "meta.code.qual", "Its colour: 0 as those of the stars compared, 1 beyond them, 2 not measured"),
        *through("l", (_LIGHT_CURVE[name] for name in _BEHIND)),
    ),
    """
FROM light_curve l
JOIN source o ON o.source_id = l.source_id
LEFT JOIN standard_system z ON z.reference_id = l.ref_id AND z.slot = l.slot""",
    stands_on=("light_curve",),
)

_RELATION = (
    "zero_point", "zero_point_err", "colour_term", "colour_term_err", "colour_pivot", "scatter", "excess", "n_star", "n_offered",
    "colour_min", "colour_max", "mag_min", "mag_max",
)  # fmt: skip

FIELD_OFFSET = View(
    "field_offset",
    "How the magnitudes of two fields, cameras or passbands differ, by the stars that both have: of the references that count now.",
    (
        of(MagfitReference.field_id, "a", comment="Field"),
        of(Instrument.name, "ia", name="instrument", ucd="meta.id;instr", comment="Its camera"),
        of(Passband.name, "pa", name="passband", comment="Its passband"),
        of(MagnitudeOffset.slot, "d"),
        of(MagfitReference.field_id, "b", name="other_field_id", ucd="meta.id.assoc", comment="The other field"),
        of(Instrument.name, "ib", name="other_instrument", ucd="meta.id;instr", comment="Its camera"),
        of(Passband.name, "pb", name="other_passband", comment="Its passband"),
        of(MagnitudeOffset.other_slot, "d"),
        *(of(getattr(MagnitudeOffset, name), "d") for name in _RELATION),
        of(MagnitudeOffset.reference_id, "d"),
        of(MagnitudeOffset.other_reference_id, "d"),
    ),
    """
FROM magnitude_offset d
JOIN latest_reference a ON a.reference_id = d.reference_id
JOIN latest_reference b ON b.reference_id = d.other_reference_id
JOIN field fa ON fa.field_id = a.field_id
JOIN field fb ON fb.field_id = b.field_id
JOIN instrument ia ON ia.instrument_id = fa.instrument_id
JOIN instrument ib ON ib.instrument_id = fb.instrument_id
JOIN passband pa ON pa.passband_id = fa.passband_id
JOIN passband pb ON pb.passband_id = fb.passband_id""",
    stands_on=("latest_reference",),
)
