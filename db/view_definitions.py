"""The views on references, masters, frames and products; the light curves have a module of their own."""

from __future__ import annotations

from db.astrometry import DetectionSummary, FrameField, WcsSolution
from db.calibration import Master
from db.flags import FLAG_TEXT
from db.frames import Classification, Exposure, Frame, Night, Setup
from db.lightcurves import FrameVerdict, MagfitReference, MagfitSolution
from db.photometry import FrameBackground, FramePhotometry
from db.pipeline import Product, Task
from db.view_declaration import View, of, own

__all__ = ["FLAG_BIT", "FRAME_MASTER", "FRAME_QUALITY", "GOOD_MASTER", "LATEST_REFERENCE", "STALE_PRODUCT"]

# Looked up for each row, and not joined with itself: a planner that sees one table less needs half the time for the light curves.
LATEST_REFERENCE = View(
    "latest_reference",
    "The accepted reference that a field's magnitudes refer to now.",
    (
        of(MagfitReference.field_id, "r"),
        of(MagfitReference.reference_id, "r"),
        of(MagfitReference.created, "r"),
        of(MagfitReference.n_frame, "r"),
        of(MagfitReference.n_source, "r"),
        of(MagfitReference.zero_band, "r"),
        of(MagfitReference.task_id, "r"),
    ),
    """
FROM magfit_reference r
WHERE r.status = 'accepted'
  AND r.reference_id = (SELECT n.reference_id FROM magfit_reference n
                        WHERE n.field_id = r.field_id AND n.status = 'accepted'
                        ORDER BY n.accepted DESC, n.reference_id DESC LIMIT 1)""",
)

_MAX_RATIO = """CASE WHEN EXISTS (SELECT 1 FROM dark_linearity d JOIN task dt ON dt.task_id = d.task_id
                         WHERE d.is_linear = 1 AND dt.status = 'done'
                         AND (d.long_master_id = m.master_id OR d.short_master_id = m.master_id))
            THEN m.max_ratio ELSE 1.0 END"""

#: A master is good when nobody rejected it, nothing took its place, and all that it was made from still stands.
GOOD_MASTER = View(
    "good_master",
    "Masters that are neither bad, superseded nor stale: those that may be used.",
    (
        of(Master.master_id, "m"),
        of(Master.kind, "m"),
        of(Setup.instrument_id, "s"),
        of(Master.setup_id, "m"),
        of(Master.night_id, "m"),
        of(Master.channel, "m"),
        of(Master.passband_id, "m"),
        of(Master.exptime, "m"),
        of(Master.ccd_temperature, "m"),
        of(Master.jd_utc, "m"),
        of(Master.valid_from, "m"),
        of(Master.valid_until, "m"),
        of(Master.temperature_tolerance, "m"),
        of(Master.max_ratio, sql=_MAX_RATIO),
        of(Master.bias_master_id, "m"),
        of(Master.from_sky, "m"),
        of(Master.n_frame, "m"),
        of(Master.n_rejected, "m"),
        of(Master.n_bad_pixel, "m"),
        of(Master.level, "m"),
        of(Master.noise, "m"),
        of(Master.warning, "m"),
        of(Product.path, "p"),
        of(Master.product_id, "m"),
        of(Master.task_id, "m"),
        of(Task.input_hash, "t"),
    ),
    """
FROM master m
JOIN setup s ON s.setup_id = m.setup_id
JOIN product p ON p.product_id = m.product_id
JOIN task t ON t.task_id = m.task_id
WHERE p.is_bad = 0 AND p.superseded_by IS NULL AND t.status = 'done'
  AND NOT EXISTS (SELECT 1 FROM lineage l JOIN task i ON i.task_id = l.input_task_id WHERE l.task_id = m.task_id AND i.status <> 'done')""",
)

#: Which master serves which frame: a person's choice (for the frame, else for its night: the flat for the frames of its passband, the dark
#: for exposures no longer than its own), else the rule. Of the masters of the frame's set-up and channel that are valid at
#: its time: the dark of the same exposure time (to 1 %), else the shortest longer one that may be scaled so far, within the temperature
#: that it serves and nearest to it by whole degrees; the flat of the same passband, one of flats before one of object frames; the
#: pattern of the same night and exposure time; then the nearest in time, then the newest.
FRAME_MASTER = View(
    "frame_master",
    "Which master of each kind serves a frame: a person's choice, else the rule. `master_id` is NULL where none is wanted.",
    (
        of(Frame.frame_id, "c", ucd="meta.id", comment="Frame"),
        of(Master.kind, "c", comment="bias, dark, flat or pattern"),
        of(Master.master_id, "c", ucd="meta.id"),
        own("is_choice", "c.is_choice", "", "meta.code", "1 when a person chose it, 0 when the rule did"),
        own("scale", "c.scale", "", "arith.factor;obs.calib.dark", "Factor that brings a dark to the frame's exposure time; else 1"),
        of(Master.bias_master_id, "c"),
        of(Product.path, "c"),
        of(Master.product_id, "c"),
        of(Master.task_id, "c"),
        of(Task.input_hash, "c"),
    ),
    """
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
WHERE c.place = 1""",
    stands_on=("good_master",),
)

#: The fit of the lowest aperture slot speaks for the frame.
_FIT_RMS = """(SELECT max(q.fit_rms) FROM magfit_solution q JOIN latest_reference r ON r.reference_id = q.reference_id
        WHERE q.frame_id = f.frame_id AND q.measure_task = fp.task_id
          AND q.slot = (SELECT min(k.slot) FROM photometry_slot k
                        WHERE k.instrument_id = f.instrument_id AND k.slot > 0))"""

_VERDICT = """(SELECT v.{} FROM frame_verdict v JOIN latest_reference r ON r.reference_id = v.reference_id
        WHERE r.field_id = ff.field_id AND v.frame_id = f.frame_id)"""

_FAILURE = "(SELECT min(t.step || ': ' || t.message) FROM task t WHERE t.frame_id = f.frame_id AND t.status = 'failed')"

FRAME_QUALITY = View(
    "frame_quality",
    "One row a frame: type, stars, sky, zero point, plate solution, fit, Moon, and why it failed where it did.",
    (
        of(Frame.frame_id, "f"),
        of(Frame.night_id, "f"),
        of(Night.evening, "n"),
        of(Exposure.path, "e"),
        of(Frame.channel, "f"),
        of(Classification.type, "c"),
        of(Classification.reason, "c", name="type_reason"),
        of(Classification.confidence, "c", name="type_confidence"),
        of(Classification.disagrees, "c", name="type_disagrees"),
        of(FrameField.field_id, "ff"),
        of(Frame.jd_utc, "f"),
        of(Frame.exptime, "f"),
        of(DetectionSummary.fwhm, "ds"),
        of(DetectionSummary.n_detection, "ds"),
        of(FramePhotometry.n_source, "fp", name="n_measured"),
        of(FrameBackground.level, "b", name="sky_level", comment="Sky above the zero level, mean over the frame"),
        of(FrameBackground.noise, "b", name="sky_noise", comment="Noise of a sky pixel, standard deviation"),
        of(FramePhotometry.zero_point, "fp"),
        of(FramePhotometry.zero_point_scatter, "fp"),
        of(FramePhotometry.n_zero_point, "fp"),
        of(FramePhotometry.limiting_mag, "fp"),
        of(FrameField.airmass, "ff"),
        of(Frame.sun_altitude, "f"),
        of(Frame.moon_altitude, "f"),
        of(Frame.moon_illumination, "f"),
        of(FrameField.moon_separation, "ff"),
        of(WcsSolution.n_matched, "w"),
        of(WcsSolution.rms_x, "w"),
        of(WcsSolution.rms_y, "w"),
        of(MagfitSolution.fit_rms, sql=_FIT_RMS),
        of(FrameVerdict.verdict, sql=_VERDICT.format("verdict"), comment="What the fit to the latest reference made of it"),
        of(FrameVerdict.reason, name="verdict_reason", sql=_VERDICT.format("reason"), comment="Why, in words and numbers"),
        own("failure", _FAILURE, "", "meta.note", "The step that failed on it, and the error's one line; NULL when none did"),
    ),
    """
FROM frame f
JOIN exposure e ON e.exposure_id = f.exposure_id
JOIN night n ON n.night_id = f.night_id
LEFT JOIN classification c ON c.frame_id = f.frame_id
LEFT JOIN detection_summary ds ON ds.frame_id = f.frame_id
LEFT JOIN frame_field ff ON ff.frame_id = f.frame_id
LEFT JOIN frame_background b ON b.frame_id = f.frame_id
LEFT JOIN frame_photometry fp ON fp.frame_id = f.frame_id
LEFT JOIN wcs_solution w ON w.frame_id = f.frame_id""",
    stands_on=("latest_reference",),
)

#: A product is stale when a task behind it was superseded or made from a product that was marked bad.
STALE_PRODUCT = View(
    "stale_product",
    "Tasks whose result rests on something that was superseded or marked bad, and their files.",
    (
        of(Product.product_id, "p", ucd="meta.id"),
        of(Product.kind, "p"),
        of(Product.path, "p"),
        of(Task.task_id, "t"),
        of(Task.step, "t"),
        of(Task.unit, "t"),
    ),
    """
FROM stale s
JOIN task t ON t.task_id = s.task_id AND t.status = 'done'
LEFT JOIN product p ON p.task_id = t.task_id""",
    before="""
WITH RECURSIVE stale (task_id) AS (
  SELECT l.task_id FROM lineage l JOIN task i ON i.task_id = l.input_task_id WHERE i.status <> 'done'
  UNION
  SELECT l.task_id FROM lineage l JOIN product p ON p.task_id = l.input_task_id WHERE p.is_bad = 1
  UNION
  SELECT l.task_id FROM lineage l JOIN stale s ON s.task_id = l.input_task_id
)""",
)


def _flag_rows() -> str:
    return "\n  UNION ALL\n  ".join(
        "SELECT {} AS bit, '{}' AS name, '{}' AS meaning".format(int(flag), flag.name, text.replace("'", "''"))
        for flag, text in FLAG_TEXT.items()
    )


FLAG_BIT = View(
    "flag_bit",
    "The bits of `measurement.flags` by name, so that a query can name what it rejects.",
    (
        own("bit", "b.bit", "", "meta.code.qual", "Value of the bit"),
        own("name", "b.name", "", "meta.id;meta.main", "Name of the bit"),
        own("meaning", "b.meaning", "", "meta.note", "What it says when set"),
    ),
    f"FROM (\n  {_flag_rows()}\n) b",
)
