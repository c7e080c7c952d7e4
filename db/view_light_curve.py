"""The light curves as views: fitted magnitudes, computed from fluxes and coefficients when they are asked for."""

from __future__ import annotations

from db.astrometry import DetectionSummary, FrameField
from db.flags import Flag
from db.frames import Frame, Passband
from db.lightcurves import MagfitSolution
from db.photometry import N_SLOT
from db.photometry import ClosedMeasurement as Measurement
from db.terms import correction_sql
from db.view_declaration import View, ViewColumn, of, own, select, through

__all__ = ["AIRMASS", "BARYCENTRIC", "LIGHT_CURVE", "LIGHT_CURVE_ALL", "POGSON", "QUALITY"]

#: 2.5 / ln(10): magnitudes per unit of relative flux error.
POGSON = 1.0857362047581296

_SUSPECT = int(Flag.SATURATED | Flag.BAD_PIXEL | Flag.COSMIC)

BARYCENTRIC = "f.jd_tdb + f.bx * s.ux + f.by * s.uy + f.bz * s.uz"
AIRMASS = "1.0 / (f.zx * s.ux + f.zy * s.uy + f.zz * s.uz)"
#: Two conditions, and not one with OR: PostgreSQL then reads the maskings once, where they are few, and does not look for each point.
QUALITY = f"""CASE WHEN EXISTS (SELECT 1 FROM annotation a WHERE a.frame_id = m.frame_id AND a.source_id IS NULL)
              OR EXISTS (SELECT 1 FROM annotation a WHERE a.frame_id = m.frame_id AND a.source_id = m.source_id) THEN 2
            WHEN (m.flags & {_SUSPECT}) <> 0 THEN 1 ELSE 0 END"""


def _by_slot(stem: str) -> str:
    cases = " ".join(f"WHEN {slot} THEN m.{stem}_{slot}" for slot in range(N_SLOT))
    return f"CAST(CASE q.slot {cases} END AS DOUBLE PRECISION)"


#: What a point is of. The aliases are those of `_POINTS`.
_POINT = (
    of(Measurement.source_id, "m"),
    of(Measurement.night_id, "m", comment="Night: days from 2000-01-01"),
    of(Measurement.frame_id, "m"),
    of(Frame.jd_utc, "f"),
    own(
        "bjd_tdb",
        BARYCENTRIC,
        "d",
        "time.epoch;pos.barycenter;meta.main",
        "Mid-exposure at the barycentre for this source, Julian date TDB",
    ),
    of(Passband.name, name="passband", sql="(SELECT pb.name FROM passband pb WHERE pb.passband_id = f.passband_id)", comment="Passband"),
    of(FrameField.field_id, "ff"),
    of(MagfitSolution.slot, "q"),
)

#: What fluxes and magnitudes are computed from.
_RAW = (
    of(Frame.exptime, "f"),
    of(Measurement.flux_0, name="raw_flux", sql=_by_slot("flux")),  # type: ignore[attr-defined]
    of(Measurement.flux_err_0, name="raw_flux_err", sql=_by_slot("flux_err")),  # type: ignore[attr-defined]
    own("correction", correction_sql(), "mag", "phot.calib;phot.mag", "What the fit takes off the instrumental magnitude"),
    of(MagfitSolution.zero_point_err, "q"),
    of(MagfitSolution.mag_floor, "q"),
)

#: How good a point is.
_CIRCUMSTANCES = (
    own("quality", QUALITY, "", "meta.code.qual", "0 good, 1 flagged in the pixels, 2 masked by a person"),
    of(Measurement.flags, "m", comment="Bits of the measurement's flags"),
    of(Measurement.x, "m"),
    of(Measurement.y, "m"),
    own("airmass", AIRMASS, "", "obs.airMass", "Airmass of the source"),
    of(
        DetectionSummary.fwhm,
        sql="(SELECT ds.fwhm FROM detection_summary ds WHERE ds.frame_id = f.frame_id)",
        comment="Median FWHM of the frame",
    ),
    of(Measurement.background, "m"),
    of(MagfitSolution.reference_id, "q", name="ref_id", comment="Reference it was fitted to"),
    of(MagfitSolution.fit_rms, "q", comment="Scatter of the frame's fit"),
    of(MagfitSolution.n_fit, "q", comment="Stars in the frame's fit"),
)


def _where_positive(expression: str) -> str:
    """A magnitude or its error; the logarithm of a negative number aborts a query on PostgreSQL: hence the CASE."""
    return f"CASE WHEN p.raw_flux > 0 THEN {expression} ELSE NULL END"


_VARIANCE = f"power({POGSON} * p.raw_flux_err / p.raw_flux, 2) + power(p.zero_point_err, 2)"

#: Fluxes and magnitudes; the alias p is a row of `_POINTS`.
_PHOTOMETRY = (
    own(
        "flux",
        "p.raw_flux * power(10.0, 0.4 * p.correction)",
        "",
        "phot.flux;em.opt",
        "Flux per exposure on the reference's scale, where 1 a second is of magnitude 25: mag = 25 - 2.5 log10(flux / exptime)",
    ),
    own(
        "flux_err",
        "p.raw_flux_err * power(10.0, 0.4 * p.correction)",
        "",
        "stat.error;phot.flux;em.opt",
        "Its error from photons, sky and detector, on the same scale",
    ),
    own(
        "mag",
        _where_positive("25.0 - 2.5 * log10(p.raw_flux / p.exptime) - p.correction"),
        "mag",
        "phot.mag;em.opt;meta.main",
        "Fitted magnitude; NULL where the flux is not positive",
    ),
    own(
        "mag_err",
        _where_positive(f"sqrt({_VARIANCE})"),
        "mag",
        "stat.error;phot.mag;em.opt",
        "Its error from photons, sky, detector and fit",
    ),
    own(
        "mag_err_total",
        _where_positive(f"sqrt({_VARIANCE} + power(p.mag_floor, 2))"),
        "mag",
        "stat.error;phot.mag;em.opt",
        "The same with the scatter of bright stars beyond it",
    ),
)

_COLUMNS: tuple[ViewColumn, ...] = (*through("p", _POINT), *_PHOTOMETRY, *through("p", _CIRCUMSTANCES))

# Seven tables are joined, and all else is looked up by key for the points that are left: PostgreSQL looks for the best order of eight
# tables at most, so that one more can be joined in a query (targets, say) before it takes them as they come, and plans twice as fast.
_POINTS = """
  FROM measurement m
  JOIN source s ON s.source_id = m.source_id
  JOIN frame f ON f.night_id = m.night_id AND f.frame_id = m.frame_id
  JOIN frame_field ff ON ff.frame_id = f.frame_id
  JOIN latest_reference r ON r.field_id = ff.field_id"""

_BEST = "\n  JOIN best_slot b ON b.reference_id = r.reference_id AND b.source_id = m.source_id"

#: The sign keeps SQLite from looking sources up by fold, which takes every slot of every frame through all of them.
_FIT = "\n  JOIN magfit_solution q ON q.reference_id = r.reference_id AND q.fold = +s.fold AND q.frame_id = f.frame_id"
_BEST_FIT = """
  JOIN magfit_solution q ON q.reference_id = b.reference_id AND q.slot = b.slot AND q.fold = b.fold AND q.frame_id = f.frame_id"""

#: That a fit is of the measurements that stand is said as a CASE that is not 0, which PostgreSQL expects of nearly all rows: of an equality
#: it would expect one frame of a field's thousands, and look up all that follows one by one.
_OF_FRAME = """
  WHERE CASE WHEN q.measure_task = (SELECT fp.task_id FROM frame_photometry fp WHERE fp.frame_id = f.frame_id) THEN 1 ELSE 0 END <> 0"""


def _view(name: str, comment: str, *, best_only: bool) -> View:
    joins = f"{_POINTS}{_BEST}{_BEST_FIT}{_OF_FRAME}" if best_only else f"{_POINTS}{_FIT}{_OF_FRAME}"
    points = f"{select((*_POINT, *_RAW, *_CIRCUMSTANCES))}{joins}"
    return View(name, comment, _COLUMNS, f"FROM (\n  {points}\n) p", stands_on=("latest_reference", "measurement"))


LIGHT_CURVE = _view(
    "light_curve",
    "Fitted magnitudes of each source in its best slot, against the latest reference of its field: the light curves.",
    best_only=True,
)
LIGHT_CURVE_ALL = _view("light_curve_all", "The same columns, in every slot.", best_only=False)
