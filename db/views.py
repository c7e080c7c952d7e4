"""The views people query; generated, and recreated whenever the schema is brought up to date."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from db.engine import is_sqlite
from db.flags import FLAG_TEXT, Flag
from db.photometry import N_SLOT
from db.terms import correction_sql

__all__ = ["VIEWS", "VIEW_COLUMNS", "create_views", "drop_views"]

#: 2.5 / ln(10): magnitudes per unit of relative flux error.
_POGSON = "1.0857362047581296"

_SUSPECT = int(Flag.SATURATED | Flag.BAD_PIXEL | Flag.COSMIC)


def _by_slot(stem: str) -> str:
    cases = " ".join(f"WHEN {slot} THEN m.{stem}_{slot}" for slot in range(N_SLOT))
    return f"CASE q.slot {cases} END"


def _light_curve(best_only: bool) -> str:
    best = "JOIN best_slot b ON b.reference_id = q.reference_id AND b.source_id = m.source_id AND b.slot = q.slot" if best_only else ""
    # The logarithm of a negative number aborts a query on PostgreSQL: hence the CASE.
    return f"""
SELECT p.source_id, p.night_id, p.frame_id, p.jd_utc, p.bjd_tdb, p.passband, p.field_id, p.slot,
       p.raw_flux * power(10.0, 0.4 * p.correction) AS flux,
       p.raw_flux_err * power(10.0, 0.4 * p.correction) AS flux_err,
       CASE WHEN p.raw_flux > 0 THEN 25.0 - 2.5 * log10(p.raw_flux / p.exptime) - p.correction ELSE NULL END AS mag,
       CASE WHEN p.raw_flux > 0 THEN sqrt(power({_POGSON} * p.raw_flux_err / p.raw_flux, 2) + power(p.zero_point_err, 2))
            ELSE NULL END AS mag_err,
       CASE WHEN p.raw_flux > 0 THEN sqrt(power({_POGSON} * p.raw_flux_err / p.raw_flux, 2) + power(p.zero_point_err, 2)
            + power(p.mag_floor, 2)) ELSE NULL END AS mag_err_total,
       p.quality, p.flags, p.x, p.y, p.airmass, p.fwhm, p.background, p.ref_id, p.fit_rms, p.n_fit
FROM (
  SELECT m.source_id, m.night_id, m.frame_id, f.jd_utc,
         f.jd_tdb + f.bx * s.ux + f.by * s.uy + f.bz * s.uz AS bjd_tdb,
         pb.name AS passband, ff.field_id, q.slot, f.exptime,
         CAST({_by_slot("flux")} AS DOUBLE PRECISION) AS raw_flux,
         CAST({_by_slot("flux_err")} AS DOUBLE PRECISION) AS raw_flux_err,
         {correction_sql()} AS correction,
         q.zero_point_err, q.mag_floor,
         CASE WHEN EXISTS (SELECT 1 FROM annotation a WHERE a.frame_id = m.frame_id
                           AND (a.source_id IS NULL OR a.source_id = m.source_id)) THEN 2
              WHEN (m.flags & {_SUSPECT}) <> 0 THEN 1 ELSE 0 END AS quality,
         m.flags, m.x, m.y, 1.0 / (f.zx * s.ux + f.zy * s.uy + f.zz * s.uz) AS airmass,
         ds.fwhm, m.background, q.reference_id AS ref_id, q.fit_rms, q.n_fit
  FROM measurement m
  JOIN source s ON s.source_id = m.source_id
  JOIN frame f ON f.night_id = m.night_id AND f.frame_id = m.frame_id
  JOIN passband pb ON pb.passband_id = f.passband_id
  JOIN frame_field ff ON ff.frame_id = f.frame_id
  JOIN frame_photometry fp ON fp.frame_id = f.frame_id
  JOIN detection_summary ds ON ds.frame_id = f.frame_id
  JOIN latest_reference r ON r.field_id = ff.field_id
  -- The sign keeps SQLite from looking sources up by fold, which takes every slot of every frame through all of them.
  JOIN magfit_solution q ON q.frame_id = f.frame_id AND q.reference_id = r.reference_id
       AND q.fold = +s.fold AND q.measure_task = fp.task_id
  {best}
) p"""


_LATEST_REFERENCE = """
SELECT r.field_id, r.reference_id, r.created, r.n_frame, r.n_source, r.zero_band, r.task_id
FROM magfit_reference r
WHERE r.status = 'accepted'
  AND NOT EXISTS (SELECT 1 FROM magfit_reference n
                  WHERE n.field_id = r.field_id AND n.status = 'accepted' AND n.reference_id > r.reference_id)"""

#: A master is good when nobody rejected it, nothing took its place, and all that it was made from still stands.
_GOOD_MASTER = """
SELECT m.master_id, m.kind, s.instrument_id, m.setup_id, m.night_id, m.channel, m.passband_id, m.exptime, m.ccd_temperature, m.jd_utc,
       m.valid_from, m.valid_until, m.temperature_tolerance,
       CASE WHEN EXISTS (SELECT 1 FROM dark_linearity d JOIN task dt ON dt.task_id = d.task_id
                         WHERE d.is_linear = 1 AND dt.status = 'done'
                         AND (d.long_master_id = m.master_id OR d.short_master_id = m.master_id))
            THEN m.max_ratio ELSE 1.0 END AS max_ratio,
       m.bias_master_id, m.from_sky, m.n_frame, m.n_rejected, m.n_bad_pixel, m.level, m.noise, m.warning,
       p.path, p.product_id, m.task_id, t.input_hash
FROM master m
JOIN setup s ON s.setup_id = m.setup_id
JOIN product p ON p.product_id = m.product_id
JOIN task t ON t.task_id = m.task_id
WHERE p.is_bad = 0 AND p.superseded_by IS NULL AND t.status = 'done'
  AND NOT EXISTS (SELECT 1 FROM lineage l JOIN task i ON i.task_id = l.input_task_id WHERE l.task_id = m.task_id AND i.status <> 'done')"""

#: Which master serves which frame: a person's choice (for the frame, else for its night: the flat for the frames of its passband, the dark
#: for exposures no longer than its own), else the rule. Of the masters of the frame's set-up and channel that are valid at
#: its time: the dark of the same exposure time (to 1 %), else the shortest longer one that may be scaled so far, within the temperature
#: that it serves and nearest to it by whole degrees; the flat of the same passband, one of flats before one of object frames; the
#: pattern of the same night and exposure time; then the nearest in time, then the newest.
_FRAME_MASTER = """
SELECT c.frame_id, c.kind, c.master_id, c.is_choice, c.scale, c.bias_master_id, c.path, c.product_id, c.task_id, c.input_hash
FROM (
  SELECT u.*, ROW_NUMBER() OVER (PARTITION BY u.frame_id, u.kind
           ORDER BY u.is_choice DESC, u.choice_rank DESC, u.from_sky, u.scaled, u.exptime, u.warmer, u.days, u.master_id DESC) AS place
  FROM (
    SELECT f.frame_id, m.kind, m.master_id, 0 AS is_choice, 0 AS choice_rank, m.bias_master_id, m.path, m.product_id, m.task_id,
           m.input_hash, m.from_sky,
           CASE WHEN m.kind <> 'dark' OR abs(m.exptime - f.exptime) <= 0.01 * f.exptime THEN 1.0 ELSE f.exptime / m.exptime END AS scale,
           CASE WHEN m.kind <> 'dark' OR abs(m.exptime - f.exptime) <= 0.01 * f.exptime THEN 0 ELSE 1 END AS scaled,
           CASE WHEN m.kind <> 'dark' OR abs(m.exptime - f.exptime) <= 0.01 * f.exptime THEN 0.0 ELSE m.exptime END AS exptime,
           coalesce(floor(abs(m.ccd_temperature - e.ccd_temperature)), 0) AS warmer, abs(m.jd_utc - f.jd_utc) AS days
    FROM frame f
    JOIN exposure e ON e.exposure_id = f.exposure_id
    JOIN good_master m ON m.setup_id = f.setup_id AND m.channel = f.channel
    WHERE f.jd_utc BETWEEN m.valid_from AND m.valid_until
      AND CASE m.kind
          WHEN 'bias' THEN 1
          WHEN 'dark' THEN CASE
            WHEN abs(m.ccd_temperature - e.ccd_temperature) > m.temperature_tolerance THEN 0
            WHEN abs(m.exptime - f.exptime) <= 0.01 * f.exptime THEN 1
            WHEN m.bias_master_id IS NOT NULL AND f.exptime > 0 AND m.exptime > f.exptime AND m.exptime <= m.max_ratio * f.exptime THEN 1
            ELSE 0 END
          WHEN 'flat' THEN CASE WHEN m.passband_id = f.passband_id THEN 1 ELSE 0 END
          WHEN 'pattern' THEN CASE WHEN m.night_id = f.night_id AND m.exptime = f.exptime THEN 1 ELSE 0 END
          ELSE 0 END = 1
    UNION ALL
    SELECT f.frame_id, k.kind, m.master_id, 1 AS is_choice,
           CASE WHEN k.frame_id IS NULL THEN k.choice_id ELSE 1000000000 + k.choice_id END AS choice_rank,
           m.bias_master_id, m.path, m.product_id, m.task_id, m.input_hash, 0 AS from_sky,
           CASE WHEN k.kind <> 'dark' OR m.exptime IS NULL OR m.bias_master_id IS NULL OR abs(m.exptime - f.exptime) <= 0.01 * f.exptime
                THEN 1.0 ELSE f.exptime / m.exptime END AS scale,
           0 AS scaled, 0.0 AS exptime, 0.0 AS warmer, 0.0 AS days
    FROM master_choice k
    JOIN frame f ON f.setup_id = k.setup_id AND f.channel = k.channel AND (f.frame_id = k.frame_id OR f.night_id = k.night_id)
    -- A master that was made anew of its set, of more frames or fewer, is still the one that was chosen.
    LEFT JOIN master chosen ON chosen.master_id = k.master_id
    LEFT JOIN task made ON made.task_id = chosen.task_id
    LEFT JOIN task latest ON latest.step = made.step AND latest.unit = made.unit AND latest.status = 'done'
    LEFT JOIN good_master m ON m.task_id = latest.task_id
    WHERE k.is_active = 1
      AND CASE WHEN k.master_id IS NULL THEN 1
          WHEN m.master_id IS NULL THEN 0
          WHEN k.frame_id IS NOT NULL OR k.kind = 'bias' THEN 1
          WHEN k.kind = 'flat' AND m.passband_id = f.passband_id THEN 1
          WHEN k.kind = 'dark' AND abs(m.exptime - f.exptime) <= 0.01 * f.exptime THEN 1
          WHEN k.kind = 'dark' AND m.exptime > f.exptime AND m.bias_master_id IS NOT NULL THEN 1
          ELSE 0 END = 1
  ) u
) c
WHERE c.place = 1"""

_FRAME_QUALITY = """
SELECT f.frame_id, f.night_id, n.evening, e.path, f.channel, c.type, c.reason AS type_reason, c.confidence AS type_confidence,
       c.disagrees AS type_disagrees, ff.field_id, f.jd_utc, f.exptime, ds.fwhm, ds.n_detection, fp.n_source AS n_measured,
       b.level AS sky_level, b.noise AS sky_noise, fp.zero_point, fp.zero_point_scatter, fp.n_zero_point, fp.limiting_mag,
       ff.airmass, f.sun_altitude, f.moon_altitude, f.moon_illumination, ff.moon_separation, w.n_matched, w.rms_x, w.rms_y,
       (SELECT max(q.fit_rms) FROM magfit_solution q JOIN latest_reference r ON r.reference_id = q.reference_id
        WHERE q.frame_id = f.frame_id AND q.measure_task = fp.task_id
          AND q.slot = (SELECT min(k.slot) FROM photometry_slot k
                        WHERE k.instrument_id = f.instrument_id AND k.slot > 0)) AS fit_rms,
       (SELECT min(t.step || ': ' || t.message) FROM task t WHERE t.frame_id = f.frame_id AND t.status = 'failed') AS failure
FROM frame f
JOIN exposure e ON e.exposure_id = f.exposure_id
JOIN night n ON n.night_id = f.night_id
LEFT JOIN classification c ON c.frame_id = f.frame_id
LEFT JOIN detection_summary ds ON ds.frame_id = f.frame_id
LEFT JOIN frame_field ff ON ff.frame_id = f.frame_id
LEFT JOIN frame_background b ON b.frame_id = f.frame_id
LEFT JOIN frame_photometry fp ON fp.frame_id = f.frame_id
LEFT JOIN wcs_solution w ON w.frame_id = f.frame_id"""

#: A product is stale when a task behind it was superseded or made from a product that was marked bad.
_STALE_PRODUCT = """
WITH RECURSIVE stale (task_id) AS (
  SELECT l.task_id FROM lineage l JOIN task i ON i.task_id = l.input_task_id WHERE i.status <> 'done'
  UNION
  SELECT l.task_id FROM lineage l JOIN product p ON p.task_id = l.input_task_id WHERE p.is_bad = 1
  UNION
  SELECT l.task_id FROM lineage l JOIN stale s ON s.task_id = l.input_task_id
)
SELECT p.product_id, p.kind, p.path, t.task_id, t.step, t.unit
FROM stale s
JOIN task t ON t.task_id = s.task_id AND t.status = 'done'
LEFT JOIN product p ON p.task_id = t.task_id"""

#: The bits of `measurement.flags` by name, so that a query can name what it rejects.
_FLAG_BIT = "\nUNION ALL\n".join(
    "SELECT {} AS bit, '{}' AS name, '{}' AS meaning".format(int(flag), flag.name, text.replace("'", "''"))
    for flag, text in FLAG_TEXT.items()
)

#: In the order of creation.
VIEWS: dict[str, str] = {
    "latest_reference": _LATEST_REFERENCE,
    "good_master": _GOOD_MASTER,
    "frame_master": _FRAME_MASTER,
    "light_curve_all": _light_curve(best_only=False),
    "light_curve": _light_curve(best_only=True),
    "frame_quality": _FRAME_QUALITY,
    "stale_product": _STALE_PRODUCT,
    "flag_bit": _FLAG_BIT,
}

#: Columns of `light_curve` and `light_curve_all`: unit and meaning.
VIEW_COLUMNS: dict[str, tuple[str, str]] = {
    "source_id": ("", "Source"),
    "night_id": ("", "Night: days from 2000-01-01"),
    "frame_id": ("", "Frame"),
    "jd_utc": ("d", "Mid-exposure, Julian date UTC"),
    "bjd_tdb": ("d", "Mid-exposure at the barycentre for this source, Julian date TDB"),
    "passband": ("", "Passband"),
    "field_id": ("", "Field"),
    "slot": ("", "Photometry slot"),
    "flux": ("", "Flux per exposure on the reference's scale, where 1 a second is of magnitude 25: mag = 25 - 2.5 log10(flux / exptime)"),
    "flux_err": ("", "Its error from photons, sky and detector, on the same scale"),
    "mag": ("mag", "Fitted magnitude; NULL where the flux is not positive"),
    "mag_err": ("mag", "Its error from photons, sky, detector and fit"),
    "mag_err_total": ("mag", "The same with the scatter of bright stars beyond it"),
    "quality": ("", "0 good, 1 flagged in the pixels, 2 masked by a person"),
    "flags": ("", "Bits of the measurement's flags"),
    "x": ("pixel", "Position on the frame"),
    "y": ("pixel", "Position on the frame"),
    "airmass": ("", "Airmass of the source"),
    "fwhm": ("pixel", "Median FWHM of the frame"),
    "background": ("ADU", "Background per pixel at the source"),
    "ref_id": ("", "Reference it was fitted to"),
    "fit_rms": ("mag", "Scatter of the frame's fit"),
    "n_fit": ("", "Stars in the frame's fit"),
}


def create_views(connection: Connection) -> None:
    """Create every view; they must not exist."""
    for name, text in VIEWS.items():
        connection.exec_driver_sql(f"CREATE VIEW {name} AS {text}")


def drop_views(connection: Connection) -> None:
    """Drop every view that exists."""
    if is_sqlite(connection):
        present = {row[0] for row in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'view'")}
    else:
        query = "SELECT table_name FROM information_schema.views WHERE table_schema = current_schema()"
        present = {row[0] for row in connection.exec_driver_sql(query)}
    for name in reversed(list(VIEWS)):
        if name in present:
            connection.exec_driver_sql(f"DROP VIEW {name}")
