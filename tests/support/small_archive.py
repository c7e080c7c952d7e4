"""A small archive made by hand, every number of which is known: for tests of the schema and of the read side.

Two fields: field 1 (clear) on two nights, field 2 (V) on the second night only. Sources lie on a grid about
RA 31.04, Dec 46.69; source 0 is the target, with a box-shaped dip; source 1 is sinusoidal. True magnitudes are
flat otherwise, and the corrections of the fit are known, so the fitted magnitude of every point is known exactly but
for the float32 of the fluxes.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from templates import make_schema

from db.bulk import bulk_insert
from db.engine import is_sqlite, make_engine
from db.flags import Flag
from db.tables import Base, LightcurveStatistics
from db.terms import TERMS
from reduction.catalogues.kernels.identifiers import fold_of, healpix29, new_source_ids, unit_vectors
from reduction.frames.kernels.times import barycentric

__all__ = ["EPOCH", "PERIOD", "SITE", "SmallArchive", "build", "fill"]

SITE = (31.675, -110.952, 1268.0)
NIGHTS = (6562, 6563)  # 2017-12-19 and the next
JD0 = 2458107.5625
EXPTIME = 60.0
#: Ephemeris of the target's dip, whose duration is DURATION days and depth DEPTH mag; one falls into each night.
EPOCH, PERIOD, DURATION, DEPTH = 2458107.71, 1.0, 0.05, 0.02
SLOTS = (1, 2)
#: Sums that statistics of light curves are kept as.
_SUMS = [name for name in LightcurveStatistics.__table__.columns.keys() if name.startswith(("sum_", "n_pair", "h_"))]  # noqa: SIM118
NOW = dt.datetime(2026, 1, 2, 3, 4, 5)


@dataclass
class SmallArchive:
    """The archive and its truth: arrays [frame, source] or per frame or source, in the order of ids."""

    engine: sa.Engine
    source_id: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    fold: np.ndarray
    frame_id: np.ndarray
    night_id: np.ndarray
    field_id: np.ndarray
    jd_utc: np.ndarray
    bjd_tdb: np.ndarray
    airmass: np.ndarray
    mag: np.ndarray
    correction: np.ndarray
    raw_flux: np.ndarray
    raw_flux_err: np.ndarray
    flags: np.ndarray
    best_slot: np.ndarray
    zero_point: np.ndarray
    fit_rms: np.ndarray

    @property
    def target(self) -> int:
        return int(self.source_id[0])

    def frames_of(self, field: int) -> np.ndarray:
        return np.flatnonzero(self.field_id == field)


def build(url: str, *, n_frame: int = 12, n_source: int = 40, seed: int = 1) -> SmallArchive:
    """Make the schema at `url` and fill it; `n_frame` counts the frames of a night of field 1."""
    make_schema(url)
    engine = make_engine(url, writer=True)
    small = fill(engine, n_frame, n_source, seed)
    analyse(engine)
    # People add targets later: no statistics know of them.
    with engine.begin() as connection:
        _targets(connection, small)
    return small


def analyse(engine: sa.Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT" if not is_sqlite(engine) else "SERIALIZABLE") as connection:
        connection.exec_driver_sql("ANALYZE")
        if is_sqlite(engine):
            connection.commit()


def fill(engine: sa.Engine, n_frame: int, n_source: int, seed: int) -> SmallArchive:
    small = _truth(engine, n_frame, n_source, seed)
    with engine.begin() as connection:

        def put(table: str, **columns: Any) -> None:
            model = Base.metadata.tables[table]
            bulk_insert(connection, model, {k: _array(v) for k, v in (_filler(model) | columns).items()})

        _ledger(put, small)
        _observing(put, small)
        _sources(put, small, seed)
        _photometry(put, small)
        _magfit(put, small)
    return small


def _filler(table: sa.Table) -> dict[str, Any]:
    """0 or "" for every column that must not be NULL: a test says what it is about, and no more."""
    needed = [column for column in table.c if not column.nullable]
    return {column.name: "" if isinstance(column.type, sa.String) else 0 for column in needed if not isinstance(column.type, sa.DateTime)}


def _array(value: Any) -> Any:
    if isinstance(value, (str, dt.datetime)):
        return np.array(value, dtype=object)
    if value is None:
        return np.array(None, dtype=object)
    return np.asarray(value, dtype=object) if isinstance(value, list) and value and isinstance(value[0], (str, type(None))) else value


def _truth(engine: sa.Engine, n_frame: int, n_source: int, seed: int) -> SmallArchive:
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n_source)))
    j, i = np.divmod(np.arange(n_source), side)
    ra, dec = 31.0427 + 0.02 * i, 46.6879 + 0.015 * j
    ids = new_source_ids(ra, dec)
    order = np.argsort(ids)
    ids, ra, dec = ids[order], ra[order], dec[order]
    # Frames: field 1 on both nights, then field 2 on the second, half as many.
    counts = (n_frame, n_frame, max(n_frame // 2, 1))
    night = np.repeat([NIGHTS[0], NIGHTS[1], NIGHTS[1]], counts)
    field = np.repeat([1, 1, 2], counts)
    start = np.repeat([JD0, JD0 + 1.0, JD0 + 1.0003], counts)
    within = np.concatenate([np.linspace(0.0, 0.29, count) for count in counts])
    jd_utc = start + within
    geometry = barycentric(jd_utc, 0.0, *SITE, ra=float(ra.mean()), dec=float(dec.mean()))
    u = unit_vectors(ra, dec)
    b = np.stack([geometry.bx, geometry.by, geometry.bz], axis=1)
    z = np.stack([geometry.zx, geometry.zy, geometry.zz], axis=1)
    bjd = geometry.jd_tdb[:, None] + b @ u.T
    true_mag = 10.0 + 0.1 * (np.arange(n_source) % 50)
    mag = np.broadcast_to(true_mag, bjd.shape).copy()
    phase = (bjd[:, 0] - EPOCH) - PERIOD * np.round((bjd[:, 0] - EPOCH) / PERIOD)
    mag[:, 0] += np.where(np.abs(phase) <= DURATION / 2, DEPTH, 0.0)
    if n_source > 1:
        mag[:, 1] += 0.05 * np.sin(2 * np.pi * bjd[:, 1] / 0.08)
    frames = np.arange(1, len(night) + 1)
    # The correction: a constant per frame, a slope in x, a colour term; the same for all folds but for a known step.
    zero_point = -4.0 + 0.1 * np.sin(frames)
    zero_point[3] += 0.8  # a cloud: a star looks 0.8 mag fainter
    colour = 0.5 + 0.01 * (np.arange(n_source) % 30)
    x = 20.0 + 5.0 * (np.arange(n_source) % 100)
    fold = fold_of(ids)
    correction = zero_point[:, None] + 0.03 * ((2 * x + 1) / 650 - 1) + 0.02 * (colour - 0.8) + 0.001 * fold
    flux = EXPTIME * 10 ** (0.4 * (25.0 - mag - correction))
    err = 0.002 * flux * (1 + 0.5 * rng.random(flux.shape))
    flags = np.zeros(flux.shape, dtype=np.int64)
    flags[2, 0] = int(Flag.SATURATED | Flag.BLENDED)
    flags[4, 0] = int(Flag.BLENDED)
    flags[5, 0] = int(Flag.EDGE)
    flux[1, 2] = -5.0
    flags[1, 2] = int(Flag.EDGE)
    fit_rms = np.where(frames == 7, 0.2, 0.004)
    return SmallArchive(
        engine, ids, ra, dec, fold, frames, night, field, jd_utc, bjd, 1.0 / (z @ u.T), mag, correction, flux, err, flags,
        1 + np.arange(n_source) % 2, zero_point, fit_rms,
    )  # fmt: skip


# Tasks: 1 the catalogue; 2 the master bias; then per frame an ingest, a calibration and a photometry; then one fit per field.
def ingest_task(frame_id: Any) -> Any:
    return 10 * np.asarray(frame_id) + 1


def calibrate_task(frame_id: Any) -> Any:
    return 10 * np.asarray(frame_id) + 2


def photometry_task(frame_id: Any) -> Any:
    return 10 * np.asarray(frame_id) + 3


def fit_task(field_id: Any) -> Any:
    return 4 + np.asarray(field_id)


def sha(kind: str, number: int) -> str:
    return f"{kind}{number:0{64 - len(kind)}d}"


def _ledger(put: Any, s: SmallArchive) -> None:
    put("config", config_id=[1, 2, 3], kind=["step"] * 3, sha256=[sha("config", k) for k in (1, 2, 3)],
        content=['{"ingest":{}}', '{"photometry":{"annulus":30.0}}', '{"magnitude_fit":{"order":2}}'])  # fmt: skip
    put("run", run_id=1, command="starledger reduce night", version="0.1.0", git_commit="f" * 40, host="dome", started=NOW)
    tasks: list[tuple[Any, ...]] = [(1, "catalogue", sha("catalogue", 1), None, 1), (2, "bias", "instrument 1", None, 1)]
    for frame in s.frame_id.tolist():
        tasks += [
            (int(ingest_task(frame)), "ingest", sha("raw", frame), None, 1),
            (int(calibrate_task(frame)), "calibrate", str(frame), frame, 1),
            (int(photometry_task(frame)), "photometry", str(frame), frame, 2),
        ]
    tasks += [(int(fit_task(field)), "magnitude_fit", str(field), None, 3) for field in (1, 2)]
    ids, steps, units, frames, configs = (list(column) for column in zip(*tasks, strict=True))
    put("task", task_id=ids, step=steps, step_version=1, unit=units, frame_id=np.array(frames, dtype=object),
        input_hash=[sha("hash", k) for k in ids], config_id=configs, run_id=1, status="done", attempts=1, finished=NOW)  # fmt: skip
    # The bias is made from the raw file of the last frame, so that something is behind it.
    lineage = [(2, int(ingest_task(s.frame_id[-1])), "ingest")]
    for frame, field in zip(s.frame_id.tolist(), s.field_id.tolist(), strict=True):
        lineage += [
            (int(calibrate_task(frame)), int(ingest_task(frame)), "ingest"),
            (int(calibrate_task(frame)), 2, "bias"),
            (int(photometry_task(frame)), int(calibrate_task(frame)), "calibrate"),
            (int(photometry_task(frame)), 1, "catalogue"),
            (int(fit_task(field)), int(photometry_task(frame)), "photometry"),
        ]
    task, source, role = (list(column) for column in zip(*lineage, strict=True))
    put("lineage", task_id=task, input_task_id=source, role=role)
    calibrated = [f"calibrated/{frame}.fits" for frame in s.frame_id]
    put("product", product_id=np.arange(1, len(s.frame_id) + 2), task_id=[2, *calibrate_task(s.frame_id).tolist()],
        kind=["bias", *["calibrated"] * len(calibrated)], path=["bias/1.fits", *calibrated],
        sha256="0" * 64, size=1000, is_bad=0)  # fmt: skip


def _observing(put: Any, s: SmallArchive) -> None:
    put("observatory", observatory_id=1, name="Whipple", latitude=SITE[0], longitude=SITE[1], height=SITE[2])
    put("instrument", instrument_id=1, name="Cecilia", definition="microobservatory", nx=650, ny=500)
    put("setup", setup_id=1, instrument_id=1, binning_x=1, binning_y=1)
    put("passband", passband_id=[1, 2], name=["clear", "V"])
    put("night", night_id=list(NIGHTS), evening=["2017-12-19", "2017-12-20"])
    put("field", field_id=[1, 2], instrument_id=1, passband_id=[1, 2], ra=31.2, dec=46.8, radius=0.6, corners="[]")
    put("exposure", exposure_id=s.frame_id, sha256=[sha("raw", k) for k in s.frame_id], path=[f"/night/{k:03d}.fits" for k in s.frame_id],
        size=700000, mtime_ns=1, instrument_id=1, observatory_id=1, night_id=s.night_id, calibration_state="",
        task_id=ingest_task(s.frame_id))  # fmt: skip
    g = barycentric(s.jd_utc, 0.0, *SITE, ra=float(s.ra.mean()), dec=float(s.dec.mean()))
    put("frame", frame_id=s.frame_id, exposure_id=s.frame_id, channel="mono", setup_id=1, night_id=s.night_id, instrument_id=1,
        passband_id=s.field_id, exptime=EXPTIME, nx=650, ny=500, jd_utc=s.jd_utc, jd_tdb=g.jd_tdb, time_source="UT-OBS", time_sigma=0.1,
        bx=g.bx, by=g.by, bz=g.bz, zx=g.zx, zy=g.zy, zz=g.zz, sun_altitude=g.sun_alt, moon_altitude=g.moon_alt,
        moon_illumination=g.moon_illumination, moon_ra=g.moon_ra, moon_dec=g.moon_dec)  # fmt: skip
    _of_frames(put, s)
    solution = {"frame_id": s.frame_id, "ra0": 31.2, "dec0": 46.8, "poly_order": 3, "coeff": "{}", "ra": 31.2, "dec": 46.8, "radius": 0.6,
                "corners": "[]", "pixel_scale": 5.16, "rotation": 180.0, "parity": -1, "n_matched": 45, "n_catalogue": 47, "rms_x": 0.08,
                "rms_y": 0.09, "task_id": calibrate_task(s.frame_id)}  # fmt: skip
    put("first_solution", **solution, start="header")
    put("wcs_solution", **solution, n_secondary=0, distortion="own")
    _coverage(put, s)
    put("master", master_id=1, kind="bias", setup_id=1, night_id=NIGHTS[0], channel="mono", jd_utc=JD0, n_frame=5, n_rejected=0,
        level=313.0, noise=0.5, product_id=1, task_id=2)  # fmt: skip
    put(
        "calibrated_frame",
        frame_id=s.frame_id,
        bias_master_id=1,
        zero_level=0.0,
        product_id=s.frame_id + 1,
        task_id=calibrate_task(s.frame_id),
    )


def _of_frames(put: Any, s: SmallArchive) -> None:
    """What steps found out about the frames; those of calibration stand for the tasks of steps that are not here."""
    n = len(s.frame_id)
    mine = {"frame_id": s.frame_id, "task_id": calibrate_task(s.frame_id)}
    put("classification", **mine, type="object", reason="stars", confidence=0.9)
    put("detection_summary", **mine, fwhm=2.5 + 0.1 * np.arange(n), n_detection=300)
    put("frame_field", **mine, field_id=s.field_id, airmass=s.airmass.mean(axis=1), moon_separation=100.0)
    put("frame_background", **mine, level=20.0 + np.arange(n), noise=1.1, error=0.1, sky_fraction=0.8, product_id=s.frame_id + 1)
    put("frame_photometry", frame_id=s.frame_id, n_source=len(s.source_id), zero_point=25.0 - s.zero_point, zero_point_scatter=0.01,
        n_zero_point=40, limiting_mag=16.0, task_id=photometry_task(s.frame_id))  # fmt: skip


def _coverage(put: Any, s: SmallArchive) -> None:
    """Every frame covers the HEALPix pixels of order 6 that have sources."""
    bucket = np.unique(healpix29(s.ra, s.dec) >> 46)
    frame, cell = np.repeat(s.frame_id, len(bucket)), np.tile(bucket, len(s.frame_id))
    put("frame_coverage", frame_id=frame, lo=cell << 46, hi=(cell + 1) << 46, bucket=cell)


def _sources(put: Any, s: SmallArchive, seed: int) -> None:
    n = len(s.source_id)
    u = unit_vectors(s.ra, s.dec)
    put("catalogue", catalogue_id=1, kind="file", name="stars.ecsv", path="/night/stars.ecsv", sha256=sha("catalogue", 1), n_source=n,
        ra=31.2, dec=46.8, radius=1.5, epoch=2016.0, columns=json.dumps({"ra": "ra"}), task_id=1)  # fmt: skip
    put("source", source_id=s.source_id, ra=s.ra, dec=s.dec, epoch=2016.0, pmra=0.0, pmdec=0.0, ux=u[:, 0], uy=u[:, 1], uz=u[:, 2],
        healpix=healpix29(s.ra, s.dec), fold=s.fold, origin="catalogue", fit_mag=10.0 + 0.1 * (np.arange(n) % 50),
        fit_colour=0.5 + 0.01 * (np.arange(n) % 30), colour_measured=1, task_id=1)  # fmt: skip
    put("source_name", name=[f"TYC 3281-{k}-1" for k in range(n)], source_id=s.source_id, catalogue_id=1)


def _targets(connection: sa.Connection, s: SmallArchive) -> None:
    columns = {
        "target_id": [1, 2],
        "name": np.array(["HAT-P-32 b", "no ephemeris"], dtype=object),
        "ra": s.ra[:2],
        "dec": s.dec[:2],
        "source_id": s.source_id[:2],
        "epoch": [EPOCH, np.nan],
        "period": [PERIOD, np.nan],
        "duration": [DURATION, np.nan],
        "created": np.array(NOW, dtype=object),
    }
    bulk_insert(connection, Base.metadata.tables["target"], columns)


def _photometry(put: Any, s: SmallArchive) -> None:
    n = len(s.source_id)
    put("photometry_slot", instrument_id=1, slot=list(SLOTS), kind="aperture", radius=[4.0, 8.0],
        description=["circular aperture, radius 4 pixel", "circular aperture, radius 8 pixel"], task_id=fit_task(1))  # fmt: skip
    x = 20.0 + 5.0 * (np.arange(n) % 100)
    for k, frame in enumerate(s.frame_id):
        flux = s.raw_flux[k]
        # The second night is not over.
        table = "closed_measurement" if s.night_id[k] == NIGHTS[0] else "open_measurement"
        put(table, source_id=s.source_id, night_id=s.night_id[k], frame_id=frame, flags=s.flags[k], x=x, y=100.0,
            background=20.0, background_err=0.1, flux_1=flux, flux_err_1=s.raw_flux_err[k], flux_2=2.0 * flux,
            flux_err_2=3.0 * s.raw_flux_err[k])  # fmt: skip


def _magfit(put: Any, s: SmallArchive) -> None:
    put("magfit_reference", reference_id=[1, 2, 3], field_id=[1, 1, 2], iteration=[0, 1, 1], status=["iteration", "accepted", "accepted"],
        parent_id=np.array([None, 1, None], dtype=object), frame_id=1, n_frame=1, n_source=len(s.source_id), n_zero=40, created=NOW,
        accepted=np.array([None, NOW, NOW], dtype=object), task_id=[5, 5, 6])  # fmt: skip
    frames = np.repeat(s.frame_id, 10)
    slot = np.tile(np.repeat(SLOTS, 5), len(s.frame_id))
    fold = np.tile(np.arange(5), 2 * len(s.frame_id))
    zero = np.repeat(s.zero_point, 10) + 0.001 * fold - np.where(slot == 2, 2.5 * np.log10(2.0), 0.0)
    coefficients = {term.column: np.zeros(len(frames)) for term in TERMS}
    coefficients |= {"c_const": zero, "c_x": np.full(len(frames), 0.03), "c_colour": np.full(len(frames), 0.02)}
    put("magfit_solution", frame_id=frames, reference_id=np.where(np.repeat(s.field_id, 10) == 1, 2, 3), slot=slot, fold=fold,
        measure_task=photometry_task(frames), n_term=3, n_fit=30, fit_rms=np.repeat(s.fit_rms, 10), zero_point_err=0.001, mag_floor=0.003,
        term_groups=127, task_id=fit_task(np.repeat(s.field_id, 10)), **coefficients)  # fmt: skip
    n = len(s.source_id)
    true = s.mag[0]
    for reference, field in ((2, 1), (3, 2)):
        put("best_slot", reference_id=reference, source_id=s.source_id, slot=s.best_slot, fold=s.fold)
        frames_here = s.frames_of(field)
        for number in SLOTS:
            scatter = s.mag[frames_here].std(axis=0) + 0.002 * number
            put("lightcurve_statistics", reference_id=reference, slot=number, source_id=s.source_id, n_point=len(frames_here),
                n_good=len(frames_here), mag_mean=true, mag_median=true, rms=scatter, mad_rms=scatter, expected_rms=0.004, chi2=1.0,
                eta=np.where(np.arange(n) == 1, 0.4, 2.0), task_id=fit_task(field), is_flux=0, centre=true, width=0.01,
                **dict.fromkeys(_SUMS, 0))  # fmt: skip
    for reference, scatter, shift in ((1, 0.010, 0.01), (2, 0.005, 0.0)):
        for number in SLOTS:
            put("reference_magnitude", reference_id=reference, slot=number, source_id=s.source_id, mag=true + shift, mag_err=0.001,
                scatter=scatter * (1.0 + 0.01 * np.arange(n)), n_frame=10)  # fmt: skip
