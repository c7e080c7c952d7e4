"""The light curves of targets as a view: fluxes at their positions, brought to the scale of their field's reference."""

from __future__ import annotations

from db.astrometry import DetectionSummary, FrameField
from db.frames import Frame, Passband
from db.lightcurves import MagfitSolution, Target
from db.photometry import TargetMeasurement
from db.terms import COLOUR_PIVOT, MAG_PIVOT, correction_sql
from db.view_declaration import View, ViewColumn, of, own, select, through
from db.view_light_curve import POGSON, QUALITY

__all__ = ["TARGET_LIGHT_CURVE"]

#: A target's direction; of a star that is no source, the terms in colour and magnitude are those of a star at their pivots.
_PLACED = f"""
  SELECT tm.*, t.name,
         cos(radians(t.dec)) * cos(radians(t.ra)) AS ux, cos(radians(t.dec)) * sin(radians(t.ra)) AS uy, sin(radians(t.dec)) AS uz,
         COALESCE(o.fit_colour, {COLOUR_PIVOT}) AS fit_colour, COALESCE(o.fit_mag, {MAG_PIVOT}) AS fit_mag, COALESCE(o.fold, 0) AS fold
  FROM target_measurement tm
  JOIN target t ON t.target_id = tm.target_id
  JOIN task k ON k.task_id = tm.task_id AND k.status = 'done'
  LEFT JOIN source o ON o.source_id = tm.source_id"""

_BODY = f"""
  FROM ({_PLACED}
  ) m
  JOIN frame f ON f.night_id = m.night_id AND f.frame_id = m.frame_id
  JOIN passband pb ON pb.passband_id = f.passband_id
  LEFT JOIN frame_field ff ON ff.frame_id = f.frame_id
  LEFT JOIN latest_reference r ON r.field_id = ff.field_id
  LEFT JOIN frame_photometry fp ON fp.frame_id = f.frame_id
  LEFT JOIN magfit_solution q
    ON q.frame_id = f.frame_id AND q.reference_id = r.reference_id AND q.slot = 0 AND q.fold = m.fold AND q.measure_task = fp.task_id
  LEFT JOIN detection_summary ds ON ds.frame_id = f.frame_id"""

#: What a point is of.
_POINT = (
    of(TargetMeasurement.target_id, "m"),
    of(Target.name, "m"),
    of(TargetMeasurement.night_id, "m", comment="Night: days from 2000-01-01"),
    of(TargetMeasurement.frame_id, "m"),
    of(Frame.jd_utc, "f"),
    own(
        "bjd_tdb",
        "f.jd_tdb + f.bx * m.ux + f.by * m.uy + f.bz * m.uz",
        "d",
        "time.epoch;pos.barycenter;meta.main",
        "Mid-exposure at the barycentre for this target, Julian date TDB",
    ),
    of(Passband.name, "pb", name="passband", comment="Passband"),
    of(FrameField.field_id, "ff"),
    of(TargetMeasurement.source_id, "m"),
    of(Frame.exptime, "f"),
    of(TargetMeasurement.flux, "m"),
    of(TargetMeasurement.flux_err, "m"),
)

#: What brings a flux per exposure to the reference's scale.
_SCALE = (
    own("scale", f"power(10.0, 0.4 * ({correction_sql(star='m')})) / f.exptime", "", "phot.calib", "Factor to the reference's scale"),
    of(MagfitSolution.zero_point_err, "q"),
)

_CIRCUMSTANCES = (
    own("quality", QUALITY, "", "meta.code.qual", "0 good, 1 flagged in the pixels, 2 masked by a person"),
    of(TargetMeasurement.flags, "m", comment="Bits of the measurement's flags"),
    of(TargetMeasurement.chi2, "m"),
    of(TargetMeasurement.psf_err, "m"),
    of(TargetMeasurement.neighbour_flux, "m"),
    of(TargetMeasurement.x, "m"),
    of(TargetMeasurement.y, "m"),
    own("airmass", "1.0 / (f.zx * m.ux + f.zy * m.uy + f.zz * m.uz)", "", "obs.airMass", "Airmass of the target"),
    of(DetectionSummary.fwhm, "ds", comment="Median FWHM of the frame"),
    of(TargetMeasurement.background, "m"),
    of(TargetMeasurement.background_err, "m"),
    of(MagfitSolution.reference_id, "q", name="ref_id", comment="Reference that the scale is of; NULL where there is none"),
)

_ERROR = f"p.scale * sqrt(power(p.flux_err, 2) + power(p.flux * p.zero_point_err / {POGSON}, 2))"


def _where_positive(expression: str) -> str:
    """The logarithm of a negative number aborts a query on PostgreSQL: hence the CASE."""
    return f"CASE WHEN p.flux > 0 THEN {expression} ELSE NULL END"


_PHOTOMETRY = (
    own(
        "flux_cal",
        "p.flux * p.scale",
        "",
        "phot.flux;em.opt",
        "Flux per second on the reference's scale, where 1 is of magnitude 25; negative where the pixels say so",
    ),
    own("flux_cal_err", _ERROR, "", "stat.error;phot.flux;em.opt", "Its error from photons, sky, detector and fit"),
    own(
        "mag",
        _where_positive("25.0 - 2.5 * log10(p.flux * p.scale)"),
        "mag",
        "phot.mag;em.opt;meta.main",
        "25 - 2.5 log10(flux_cal); NULL where the flux is not positive",
    ),
    own("mag_err", _where_positive(f"{POGSON} * ({_ERROR}) / (p.flux * p.scale)"), "mag", "stat.error;phot.mag;em.opt", "Its error"),
)

_COLUMNS: tuple[ViewColumn, ...] = (*through("p", _POINT), *_PHOTOMETRY, *through("p", _CIRCUMSTANCES))

TARGET_LIGHT_CURVE = View(
    "target_light_curve",
    "The flux at each target's position on every frame that holds it, whether or not a star was seen there, as measured and on the scale "
    "of its field's latest reference (slot 0).",
    _COLUMNS,
    f"FROM (\n  {select((*_POINT, *_SCALE, *_CIRCUMSTANCES))}{_BODY}\n) p",
    stands_on=("latest_reference",),
)
