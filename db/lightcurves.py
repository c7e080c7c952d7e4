"""Magnitude-fit references and solutions, statistics of light curves, and the targets people follow."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.orm import Mapped

from db.base import Base, column, key, reference
from db.terms import MAP_TERMS, TERMS

__all__ = [
    "N_BIN",
    "N_FOLD",
    "BestSlot",
    "FrameScore",
    "FrameVerdict",
    "KeptFrame",
    "LightShare",
    "LightcurveStatistics",
    "MagfitFoldReference",
    "MagfitMap",
    "MagfitReference",
    "MagfitSolution",
    "NightChange",
    "NightMagnitude",
    "NightNoise",
    "NightStatistics",
    "ReferenceMagnitude",
    "ReferenceRequest",
    "Target",
    "TermScore",
]

_NIGHT_UCD = {"mag": "phot.mag;stat.mean", "mag_err": "stat.error;phot.mag", "scatter": "stat.stdev;phot.mag"}

#: Folds of the sources: the fit that corrects a star leaves out the stars of its own.
N_FOLD = 5


class ReferenceRequest(Base):
    """What a person asked of a field's references: a new one, or that one is accepted, retracted or purged."""

    __tablename__ = "reference_request"
    __table_args__ = {"comment": "What people asked of the photometric references"}

    request_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    kind: Mapped[str] = column(sa.String(8), "", "'new', 'accept', 'retract' or 'purge'")
    field_id: Mapped[int] = reference("field.field_id", "Field")
    reference_id: Mapped[int | None] = column(sa.Integer, "", "The reference that it is about; NULL for a new one", null=True)
    frame_id: Mapped[int | None] = reference("frame.frame_id", "Frame to begin with; NULL: that of the highest score", null=True)
    is_held: Mapped[int] = column(sa.SmallInteger, "", "1: nights are fitted to the new one, and it counts once it is accepted by hand")
    reason: Mapped[str] = column(sa.Text, "", "Why")
    author: Mapped[str] = column(sa.String(64), "", "Who asked")
    created: Mapped[dt.datetime] = column(sa.DateTime, "", "When, UTC")


class MagfitReference(Base):
    """A photometric reference of a field; fits are made to the latest accepted one, and to candidates.

    A candidate is accepted in the transaction in which the last of the field's nights is fitted to it, or by hand. References are kept
    when others take their place, and so are the fits to them: one that is retracted gives way to the one before.
    """

    __tablename__ = "magfit_reference"
    __table_args__ = (sa.Index(None, "field_id", "status"), {"comment": "Photometric references"})

    reference_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    field_id: Mapped[int] = reference("field.field_id", "Field")
    iteration: Mapped[int] = column(sa.SmallInteger, "", "0 for the single reference frame, then one up for each average")
    status: Mapped[str] = column(sa.String(12), "", "'iteration' on the way, 'candidate', 'accepted', 'retracted', 'purged' (no rows)")
    is_held: Mapped[int] = column(sa.SmallInteger, "", "1: a candidate that a person has to accept")
    reason: Mapped[str] = column(sa.String(200), "", "Why it was made, or retracted")
    parent_id: Mapped[int | None] = reference("magfit_reference.reference_id", "The reference it was averaged from", null=True)
    frame_id: Mapped[int] = reference("frame.frame_id", "The single frame that the iteration began with")
    request_id: Mapped[int | None] = reference("reference_request.request_id", "The wish that it answers; NULL: no person's", null=True)
    n_night: Mapped[int] = column(sa.Integer, "", "Nights in the average")
    n_frame: Mapped[int] = column(sa.Integer, "", "Frames in the average")
    n_source: Mapped[int] = column(sa.Integer, "", "Sources with a magnitude")
    change: Mapped[float | None] = column(sa.Double, "mag", "Median change of the references that followed it, over the slots", null=True)
    is_settled: Mapped[int] = column(sa.SmallInteger, "", "1: the change was below the tolerance in every slot")
    parameters: Mapped[str] = column(sa.Text, "", "Parameters of the fits to it, JSON: fits made otherwise need another reference")
    fit_order: Mapped[int | None] = column(
        sa.SmallInteger, "", "Degree in position of the fits to it; NULL: made before it was kept here", null=True, ucd="stat.fit.param"
    )
    fit_terms: Mapped[str | None] = column(
        sa.Text, "", "Further terms of the fits to it, by name, with spaces between; NULL as fit_order", null=True, ucd="meta.note;stat.fit"
    )
    zero_band: Mapped[str | None] = column(sa.String(16), "", "Catalogue band that fixed the zero point; NULL: instrumental", null=True)
    n_zero: Mapped[int] = column(sa.Integer, "", "Catalogue stars that fixed the zero point")
    created: Mapped[dt.datetime] = column(sa.DateTime, "", "When, UTC")
    accepted: Mapped[dt.datetime | None] = column(sa.DateTime, "", "Since when it counts, UTC; the latest does", null=True)
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")


class ReferenceMagnitude(Base):
    """The magnitude of a source in one reference and slot."""

    __tablename__ = "reference_magnitude"
    __table_args__ = ({"comment": "Magnitudes of the references", "sqlite_with_rowid": False},)

    reference_id: Mapped[int] = key(sa.Integer, "Reference")
    slot: Mapped[int] = key(sa.SmallInteger, "Photometry slot")
    source_id: Mapped[int] = key(sa.BigInteger, "Source")
    mag: Mapped[float] = column(sa.Double, "mag", "Magnitude")
    mag_err: Mapped[float] = column(sa.Double, "mag", "Its error")
    scatter: Mapped[float | None] = column(
        sa.Double, "mag", "Scatter of the cross-fitted magnitudes about it, 1.48 MAD; NULL for one frame", null=True
    )
    n_frame: Mapped[int] = column(sa.Integer, "", "Frames averaged")


class MagfitFoldReference(Base):
    """The magnitude of a source that the fit without a fold is made against.

    It is averaged from magnitudes that were themselves fitted without the fold: nothing that the fold's stars do can reach it, and so
    nothing that a star does reaches its own correction. A source's row of its own fold is its `reference_magnitude`.
    """

    __tablename__ = "magfit_fold_reference"
    __table_args__ = ({"comment": "Magnitudes of the references for the fit without each fold", "sqlite_with_rowid": False},)

    reference_id: Mapped[int] = key(sa.Integer, "Reference")
    slot: Mapped[int] = key(sa.SmallInteger, "Photometry slot")
    fold: Mapped[int] = key(sa.SmallInteger, "Fold that the fits leave out")
    source_id: Mapped[int] = key(sa.BigInteger, "Source")
    mag: Mapped[float] = column(sa.Double, "mag", "Magnitude")
    mag_err: Mapped[float] = column(sa.REAL, "mag", "Its error")
    excess: Mapped[float] = column(sa.REAL, "mag", "Scatter of a measurement beyond its error, by which the star's weight falls")


class FrameScore(Base):
    """How good a frame is as the first reference of its field: ranks among the field's frames, 0 the worst and 1 the best."""

    __tablename__ = "frame_score"
    __table_args__ = ({"comment": "Scores by which the frame is chosen that a reference begins with", "sqlite_with_rowid": False},)

    reference_id: Mapped[int] = key(sa.Integer, "Reference")
    frame_id: Mapped[int] = key(sa.Integer, "Frame")
    score: Mapped[float] = column(sa.REAL, "", "Mean of the ranks")
    is_usable: Mapped[int] = column(sa.SmallInteger, "", "0: a person masked it")
    fwhm_rank: Mapped[float] = column(sa.REAL, "", "Rank of the width of its stars: narrow is better", ucd="stat.rank")
    sky_level_rank: Mapped[float] = column(sa.REAL, "", "Rank of its sky: dark is better", ucd="stat.rank")
    n_star_rank: Mapped[float] = column(sa.REAL, "", "Rank of its number of sources measured", ucd="stat.rank")
    zero_point_rank: Mapped[float] = column(sa.REAL, "", "Rank of its zero point: more light is better", ucd="stat.rank")
    airmass_rank: Mapped[float] = column(sa.REAL, "", "Rank of its airmass: low is better", ucd="stat.rank")
    zero_point_scatter_rank: Mapped[float] = column(sa.REAL, "", "Rank of the scatter about its zero point", ucd="stat.rank")
    ellipticity_rank: Mapped[float] = column(sa.REAL, "", "Rank of the ellipticity of its stars: round is better", ucd="stat.rank")


class TermScore(Base):
    """How well an order or a term predicted stars that had no say, when the terms of a reference were chosen.

    Orders come first, each by itself; then further terms, each on what was chosen so far.
    """

    __tablename__ = "term_score"
    __table_args__ = ({"comment": "Orders and terms that were tried for the fits to a reference", "sqlite_with_rowid": False},)

    reference_id: Mapped[int] = key(sa.Integer, "Reference")
    number: Mapped[int] = key(sa.SmallInteger, "Place in the order in which they were tried, from 0")
    name: Mapped[str] = column(sa.String(24), "", "'order 2', or '+ colour' for one more term")
    n_term: Mapped[int] = column(sa.SmallInteger, "", "Terms in all")
    is_chosen: Mapped[int] = column(sa.SmallInteger, "", "1: it was taken", ucd="meta.code.status")
    loss: Mapped[float | None] = column(
        sa.Double, "", "Mean squared residual over its error, bounded; NULL: stars are too few", null=True, ucd="stat.fit.residual"
    )
    gain: Mapped[float | None] = column(
        sa.Double, "", "What the loss falls by: from order 0, or from what was chosen before", null=True, ucd="stat.fit.goodness"
    )
    gain_err: Mapped[float | None] = column(sa.Double, "", "Its error, over the stars", null=True, ucd="stat.error")
    scatter: Mapped[float | None] = column(sa.Double, "mag", "Scatter of the better measured half, 1.48 MAD", null=True)


class FrameVerdict(Base):
    """What the magnitude fit made of a frame: kept, down-weighted or excluded, with the numbers and the reason.

    A down-weighted frame counts for less in the night's means, and so in the next reference. An excluded one counts for nothing there and
    has no solutions, so that light curves have no points of it; a person's word (`kept_frame`) brings it back.
    """

    __tablename__ = "frame_verdict"
    __table_args__ = ({"comment": "Verdicts on frames: clouds, trails, bad focus", "sqlite_with_rowid": False},)

    reference_id: Mapped[int] = key(sa.Integer, "Reference")
    frame_id: Mapped[int] = key(sa.Integer, "Frame")
    verdict: Mapped[str] = column(sa.String(13), "", "'kept', 'down-weighted' or 'excluded'", ucd="meta.code.qual")
    factor: Mapped[float] = column(
        sa.REAL, "", "What the weight of its measurements is multiplied by: 1 kept, 0 excluded", ucd="stat.weight"
    )
    is_overruled: Mapped[int] = column(sa.SmallInteger, "", "1: a person keeps it, whatever the numbers say", ucd="meta.code.status")
    reason: Mapped[str | None] = column(sa.Text, "", "Why, in words and numbers; NULL: nothing to say", null=True)
    extinction: Mapped[float | None] = column(
        sa.REAL, "mag", "Light lost by all stars alike, beyond the night's course with airmass", null=True, ucd="phys.absorption"
    )
    pattern: Mapped[float | None] = column(
        sa.REAL, "mag", "Scatter of residuals over the field beyond their errors, medians of cells", null=True, ucd="stat.stdev;phot.mag"
    )
    pattern_sigma: Mapped[float | None] = column(
        sa.REAL, "", "How certain the pattern is, in standard deviations", null=True, ucd="stat.snr"
    )
    scatter_ratio: Mapped[float | None] = column(
        sa.REAL, "", "Scatter of stars within the cells, over that of the night", null=True, ucd="stat.stdev;arith.ratio"
    )
    fwhm_ratio: Mapped[float | None] = column(sa.REAL, "", "FWHM over that of the night", null=True, ucd="instr.det.psf;arith.ratio")
    elongation: Mapped[float | None] = column(
        sa.REAL, "", "Ellipticity less that of the night", null=True, ucd="src.ellipticity;arith.diff"
    )
    sky_ratio: Mapped[float | None] = column(sa.REAL, "", "Sky over that of the night", null=True, ucd="instr.skyLevel;arith.ratio")


class KeptFrame(Base):
    """A frame that a person keeps, whatever the magnitude fit makes of it."""

    __tablename__ = "kept_frame"
    __table_args__ = {"comment": "Frames that people keep, over the verdict of the fit"}

    frame_id: Mapped[int] = key(sa.Integer, "Frame")
    reason: Mapped[str] = column(sa.Text, "", "Why")
    author: Mapped[str] = column(sa.String(64), "", "Who said so")
    created: Mapped[dt.datetime] = column(sa.DateTime, "", "When, UTC")


class NightMagnitude(Base):
    """Mean fitted magnitudes of a source over one night's frames, in the fits without each fold.

    The next reference of the field is averaged from these: no measurement is read again. The column of the source's own fold is of the
    magnitudes in the light curve.
    """

    __tablename__ = "night_magnitude"
    __table_args__ = ({"comment": "Mean fitted magnitudes of each night, per slot and fold", "sqlite_with_rowid": False},)

    reference_id: Mapped[int] = key(sa.Integer, "Reference")
    night_id: Mapped[int] = key(sa.Integer, "Night")
    slot: Mapped[int] = key(sa.SmallInteger, "Photometry slot")
    source_id: Mapped[int] = key(sa.BigInteger, "Source")
    n_frame: Mapped[int] = column(sa.Integer, "", "Measurements averaged")
    variance: Mapped[float | None] = column(sa.REAL, "mag2", "Mean square of their errors", null=True)


for _fold in range(N_FOLD):
    for _stem, _what in (("mag", "Robust weighted mean"), ("mag_err", "Its error"), ("scatter", "Scatter of a measurement, 1.48 MAD")):
        setattr(
            NightMagnitude,
            f"{_stem}_{_fold}",
            column(sa.REAL, "mag", f"{_what}, in the fits without fold {_fold}", null=True, ucd=_NIGHT_UCD[_stem]),
        )


class NightChange(Base):
    """How a night's mean magnitudes differ from the reference that they were fitted to: whether it drifts."""

    __tablename__ = "night_change"
    __table_args__ = ({"comment": "Differences of nights from their reference", "sqlite_with_rowid": False},)

    reference_id: Mapped[int] = key(sa.Integer, "Reference")
    slot: Mapped[int] = key(sa.SmallInteger, "Photometry slot")
    night_id: Mapped[int] = key(sa.Integer, "Night")
    n_frame: Mapped[int] = column(sa.Integer, "", "Frames of the field in this night that were fitted")
    n_star: Mapped[int] = column(sa.Integer, "", "Stars with a mean and a reference magnitude")
    n_unknown: Mapped[int] = column(sa.Integer, "", "Stars with a mean and no reference magnitude")
    change: Mapped[float | None] = column(sa.Double, "mag", "Median difference of the better half, without a common shift", null=True)
    expected: Mapped[float | None] = column(sa.Double, "mag", "The same as the errors alone would make it", null=True)


class MagfitSolution(Base):
    """Coefficients that bring one frame to one reference, for stars of one fold.

    A fold's coefficients come from the stars of all other folds: no star
    helps to fit itself. correction = sum of coefficient x term;
    fitted magnitude = instrumental magnitude - correction.
    """

    __tablename__ = "magfit_solution"
    __table_args__ = (sa.Index(None, "frame_id"), {"comment": "Coefficients of the magnitude fits", "sqlite_with_rowid": False})

    reference_id: Mapped[int] = key(sa.Integer, "Reference")
    slot: Mapped[int] = key(sa.SmallInteger, "Photometry slot")
    fold: Mapped[int] = key(sa.SmallInteger, "Fold that the coefficients are for")
    frame_id: Mapped[int] = key(sa.Integer, "Frame")
    measure_task: Mapped[int] = column(
        sa.Integer, "", "Task whose measurements were fitted; stale unless frame_photometry.task_id is the same"
    )
    n_term: Mapped[int] = column(sa.SmallInteger, "", "Terms used")
    term_groups: Mapped[int] = column(
        sa.SmallInteger,
        "",
        "Groups of terms that count, bits: 1 third and fourth degree, 2 further, 4 background, 8 to 64 shape_s, shape_d, shape_k, psf_peak",
        ucd="meta.code;stat.fit.param",
    )
    n_fit: Mapped[int] = column(sa.Integer, "", "Stars used")
    fit_rms: Mapped[float] = column(sa.Double, "mag", "Weighted scatter of the stars used, held out")
    zero_point_err: Mapped[float] = column(sa.Double, "mag", "Error that the fit adds to a magnitude")
    mag_floor: Mapped[float] = column(sa.Double, "mag", "Scatter of bright stars beyond their errors (scintillation and the like)")
    task_id: Mapped[int] = column(sa.Integer, "", "Task that made it")


for _term in TERMS:
    setattr(
        MagfitSolution,
        _term.column,
        column(sa.Double, "mag", f"Coefficient of {_term.label}; 0 when unused", ucd="stat.fit.param;phot.mag"),
    )


class MagfitMap(Base):
    """A map of a frame as its solutions have it: a polynomial of X = (2 x + 1) / nx - 1 and Y = (2 y + 1) / ny - 1.

    Rows are there for the maps of `db.terms.MAPS` that a fit uses, and stay with its reference.
    """

    __tablename__ = "magfit_map"
    __table_args__ = ({"comment": "Maps of shapes and profiles that the magnitude fits use, as polynomials", "sqlite_with_rowid": False},)

    reference_id: Mapped[int] = key(sa.Integer, "Reference")
    frame_id: Mapped[int] = key(sa.Integer, "Frame")
    name: Mapped[str] = key(sa.String(12), "What it is a map of: shape_s, shape_d, shape_k, psf_peak")


for _term in MAP_TERMS:
    setattr(MagfitMap, f"p_{_term.name}", column(sa.Double, "", f"Coefficient of {_term.label}", ucd="stat.fit.param"))


class BestSlot(Base):
    """The slot that a source's light curve is taken from, frozen with the reference.

    A source that is measured first on a later night gets the slot of sources like it.
    """

    __tablename__ = "best_slot"
    __table_args__ = ({"comment": "Slot of each source's light curve, by magnitude and crowding", "sqlite_with_rowid": False},)

    reference_id: Mapped[int] = key(sa.Integer, "Reference")
    source_id: Mapped[int] = key(sa.BigInteger, "Source")
    slot: Mapped[int] = column(sa.SmallInteger, "", "Photometry slot")
    fold: Mapped[int] = column(sa.SmallInteger, "", "The source's fold")


class LightShare(Base):
    """How much of the light in a slot is the source's own, frozen with the reference.

    From the profile map of the frame that the reference began with, and every source's median flux. A dip of the source shows in the
    slot as `share` of its depth. A source that stands far beyond that frame has no row in the apertures, nor has one that is too faint
    to have a positive flux.
    """

    __tablename__ = "light_share"
    __table_args__ = ({"comment": "Each source's own part of the light in each slot", "sqlite_with_rowid": False},)

    reference_id: Mapped[int] = key(sa.Integer, "Reference")
    slot: Mapped[int] = key(sa.SmallInteger, "Photometry slot")
    source_id: Mapped[int] = key(sa.BigInteger, "Source")
    foreign_light: Mapped[float] = column(sa.Double, "", "Other sources' part of the light that falls into it, 0 to 1")
    share: Mapped[float] = column(sa.Double, "", "The source's own part of what is measured: 1 where the others' light is subtracted")


class NightNoise(Base):
    """What bright stars scattered by beyond their errors on one night, frozen with the reference.

    Fitted to the frames' own excess. A frame of airmass X and t seconds is expected to have
    sqrt(mag_floor^2 + scintillation^2 X^3.5 / (2 t)), Young's law.
    """

    __tablename__ = "night_noise"
    __table_args__ = ({"comment": "Floor and scintillation of each night, per slot", "sqlite_with_rowid": False},)

    reference_id: Mapped[int] = key(sa.Integer, "Reference")
    slot: Mapped[int] = key(sa.SmallInteger, "Photometry slot")
    night_id: Mapped[int] = key(sa.Integer, "Night")
    n_frame: Mapped[int] = column(sa.Integer, "", "Frames that tell")
    mag_floor: Mapped[float] = column(sa.Double, "mag", "Scatter that does not depend on airmass and exposure")
    mag_floor_err: Mapped[float] = column(sa.Double, "mag", "Its error")
    scintillation: Mapped[float] = column(sa.Double, "mag s(1/2)", "Scatter times the root of 2 t that rises as airmass^1.75")
    scintillation_err: Mapped[float] = column(sa.Double, "mag s(1/2)", "Its error")


#: Bins of values about a star's centre, from which the median of many nights is taken.
N_BIN = 24

#: What is kept as sums, so that a night can be added to a light curve's statistics and taken off again: d is the distance from `centre`.
_SUMS = {
    "sum_weight": ("mag-2", "Sum of 1 / error^2"),
    "sum_first": ("mag-1", "Sum of d / error^2"),
    "sum_second": ("", "Sum of d^2 / error^2"),
    "sum_plain": ("mag", "Sum of d"),
    "sum_square": ("mag2", "Sum of d^2"),
    "sum_variance": ("mag2", "Sum of error^2"),
    "n_pair": ("", "Pairs of values that follow each other within a night"),
    "sum_step": ("mag2", "Sum of their squared differences"),
}


class LightcurveStatistics(Base):
    """How one source behaved in one slot against one reference, over all nights.

    Kept as sums of the nights' values, to which a new night is added. Of several nights, median and `mad_rms` are of counts in bins
    about `centre`, `width` sinh(k / 3) from it for k from -12 to 12, spread evenly within a bin: good to some hundredths of the scatter.
    """

    __tablename__ = "lightcurve_statistics"
    __table_args__ = ({"comment": "Statistics of light curves, per source and slot", "sqlite_with_rowid": False},)

    reference_id: Mapped[int] = key(sa.Integer, "Reference")
    slot: Mapped[int] = key(sa.SmallInteger, "Photometry slot")
    source_id: Mapped[int] = key(sa.BigInteger, "Source")
    n_point: Mapped[int] = column(sa.Integer, "", "Points with a flux")
    n_good: Mapped[int] = column(sa.Integer, "", "Points with quality 0")
    mag_mean: Mapped[float | None] = column(sa.Double, "mag", "Weighted mean magnitude", null=True)
    mag_median: Mapped[float | None] = column(sa.Double, "mag", "Median magnitude; of several nights from the bins", null=True)
    rms: Mapped[float | None] = column(
        sa.Double, "mag", "Standard deviation; of faint sources that of the fluxes, at their mean", null=True
    )
    mad_rms: Mapped[float | None] = column(
        sa.Double, "mag", "1.48 times the median absolute deviation; of several nights from the bins", null=True
    )
    expected_rms: Mapped[float | None] = column(sa.Double, "mag", "Root mean square of mag_err_total", null=True)
    chi2: Mapped[float | None] = column(sa.Double, "", "Reduced chi-square about the mean, with mag_err_total", null=True)
    eta: Mapped[float | None] = column(
        sa.Double, "", "Von Neumann ratio within nights: 2 for white noise, less for smooth variation", null=True
    )
    is_flux: Mapped[int] = column(
        sa.SmallInteger, "", "1: the source is faint, and sums and bins are of fluxes, where magnitude 25 is 1", ucd="meta.code"
    )
    centre: Mapped[float] = column(sa.Double, "mag", "What d is the distance from; it never changes", ucd="phot.mag;stat.value")
    width: Mapped[float] = column(sa.Double, "mag", "Unit of the bins", ucd="phot.mag;stat.stdev")
    task_id: Mapped[int] = column(sa.Integer, "", "Task that made it")


class NightStatistics(Base):
    """How one source behaved in one slot on one night, against one reference: what `lightcurve_statistics` is summed up from.

    Median and `mad_rms` are of the values themselves; sums and bins are about the `centre` of the source's `lightcurve_statistics`.
    """

    __tablename__ = "night_statistics"
    __table_args__ = ({"comment": "Statistics of light curves, per source, slot and night", "sqlite_with_rowid": False},)

    reference_id: Mapped[int] = key(sa.Integer, "Reference")
    night_id: Mapped[int] = key(sa.Integer, "Night")
    slot: Mapped[int] = key(sa.SmallInteger, "Photometry slot")
    source_id: Mapped[int] = key(sa.BigInteger, "Source")
    n_point: Mapped[int] = column(sa.Integer, "", "Points with a flux")
    n_good: Mapped[int] = column(sa.Integer, "", "Points with quality 0")
    mag_mean: Mapped[float | None] = column(sa.Double, "mag", "Weighted mean magnitude", null=True)
    mag_median: Mapped[float | None] = column(sa.Double, "mag", "Median magnitude", null=True)
    rms: Mapped[float | None] = column(sa.REAL, "mag", "Standard deviation; of faint sources that of the fluxes, at their mean", null=True)
    mad_rms: Mapped[float | None] = column(sa.REAL, "mag", "1.48 times the median absolute deviation", null=True)
    expected_rms: Mapped[float | None] = column(sa.REAL, "mag", "Root mean square of mag_err_total", null=True)
    chi2: Mapped[float | None] = column(sa.REAL, "", "Reduced chi-square about the mean, with mag_err_total", null=True)
    eta: Mapped[float | None] = column(sa.REAL, "", "Von Neumann ratio: 2 for white noise, less for smooth variation", null=True)


for _name, (_unit, _what) in _SUMS.items():
    setattr(LightcurveStatistics, _name, column(sa.Double, _unit, _what, ucd="stat.value"))
    setattr(NightStatistics, _name, column(sa.REAL, _unit, _what, ucd="stat.value"))
for _bin in range(N_BIN):
    _what = f"Values in bin {_bin}, from {_bin - N_BIN // 2} to {_bin - N_BIN // 2 + 1} in units of width sinh(k / 3)"
    setattr(LightcurveStatistics, f"h_{_bin}", column(sa.Integer, "", _what, ucd="meta.number"))
    setattr(NightStatistics, f"h_{_bin}", column(sa.SmallInteger, "", _what, ucd="meta.number"))


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
    created: Mapped[dt.datetime] = column(sa.DateTime, "", "When it was added, UTC")
    position_from: Mapped[str | None] = column(
        sa.String(160), "", "Service and reference that the position is from; NULL: a person gave it", null=True
    )
    ephemeris_from: Mapped[str | None] = column(
        sa.String(160), "", "Service and reference that the ephemeris is from, and what of it a person gave; NULL: all of it", null=True
    )
