"""Archives of any size, made by the bulk path: a field on as many nights as wanted, just before its reference is made.

Rows, tasks, their hashes and their lineage are as the steps up to `photometry` would have left them, so `reference`, `magnitude_fit`
and `statistics` find their work and do it for real, and nothing else is pending. Nights can be added one by one to an archive that is
there. The numbers are those of `night_model.py`, where all of them are known. Detections and their matches, which no step after
`photometry` reads, are left out.

    nights = ManyNights.create(url, files, Plan(n_star=300, n_frame=10))
    nights.add(100)
    nights.work()
    truth = nights.add_night(dips=(Dip(star=7, first=3, last=6),))
    other = nights.beside(camera=2, passband="V", zero=-0.7)
    other.add(20)
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from night_model import EXPTIME, FIELD, NX, NY, SITE, Clouds, Dip, NightTruth, Plan, Sky
from sqlalchemy.orm import Session

from db.bulk import bulk_insert
from db.keys import next_id, now
from db.tables import Base, Field, Frame, Night, NightClosing, Passband, Product, Task
from reduction.astrometry.solutions import solution_columns
from reduction.catalogues.kernels.identifiers import healpix29
from reduction.lightcurves.source_order_step import night_units
from reduction.photometry.kernels.psf_seed import seed_map
from reduction.photometry.kernels.shape_map import ShapeMap
from reduction.pipeline.declaration import Output, Step, Unit, canonical
from reduction.pipeline.order import STEPS
from reduction.pipeline.pending import Survey, facts_sha256
from reduction.pipeline.scheduler import Runner, Tally
from reduction.pipeline.writer import Writer
from starledger.archive import Archive, create_archive
from starledger.reduce import reduce

__all__ = ["LAST", "Clouds", "Dip", "ManyNights", "NightTruth", "Plan", "Sky", "put_measurements"]

#: The steps that find work in such an archive.
LAST = ("magnitude_reference", "magnitude_fit", "statistics")
BAND = "G"
FWHM = 2.5  # pixel
#: Rows of a night that are written at a time.
_ROWS = 200_000
#: Rows whose truth is in memory at a time.
_TOGETHER = 1_000_000
_RUN = 1


def put_measurements(connection: sa.Connection, columns: dict[str, Any], *, is_open: bool = False) -> None:
    """Write a night's rows of measurements, in the order of the table's key: the one place that says which table that is."""
    table = Base.metadata.tables["open_measurement" if is_open else "closed_measurement"]
    # Keys of closed nights begin with the source, or with the night, of which there is one here.
    order = np.lexsort(tuple(columns[name] for name in (("source_id", "frame_id") if is_open else ("frame_id", "source_id"))))
    for first in range(0, len(order), _ROWS):
        some = order[first : first + _ROWS]
        bulk_insert(connection, table, {name: values if np.ndim(values) == 0 else values[some] for name, values in columns.items()})


@dataclass
class ManyNights:
    """An archive with one field, and the truth about it."""

    archive: Archive
    sky: Sky

    @classmethod
    def create(cls, url: str, files: Path, plan: Plan | None = None) -> ManyNights:
        """Make an archive with the stars of a plan and no night."""
        made = cls(create_archive(url, files), Sky(plan or Plan()))
        with made.engine.begin() as connection:
            made._begin(connection)
        made._analyse("source", "source_magnitude")
        return made

    def beside(self, **changes: Any) -> ManyNights:
        """Another camera, with a field of its own, that sees the same stars; `changes` are those of its plan, `camera` among them."""
        made = ManyNights(self.archive, Sky(dataclasses.replace(self.plan, **changes)))
        with self.engine.begin() as connection:
            made._camera(connection)
        return made

    @property
    def engine(self) -> sa.Engine:
        """The archive's writer."""
        return self.archive.writer

    @property
    def plan(self) -> Plan:
        """What the field is like."""
        return self.sky.plan

    def close(self) -> None:
        """Give the connections back."""
        self.archive.close()

    def work(self, steps: Sequence[str] = LAST, **options: Any) -> list[Tally]:
        """Run steps as the command line does; none of their units may fail."""
        tallies = reduce(self.archive, steps=list(steps), **options)
        failed = {tally.step: tally.failed for tally in tallies if tally.failed}
        if failed:
            raise RuntimeError(f"failed: {failed}")
        return tallies

    def skip(self, name: str) -> None:
        """Have a step's pending units done as if it had found nothing to write."""
        self._step(STEPS[name], None)

    def closed(self) -> None:
        """Have it on record that all nights were closed, as they are when `source_order` has moved their measurements."""
        step, nights = STEPS["source_order"], self.nights()
        with Session(self.engine) as session:
            known = set(session.execute(sa.select(NightClosing.night_id)).scalars())
            units = night_units(session, [night_id for night_id in nights if night_id not in known])
        hashes = step.input_hashes(units, step.read_parameters({}))
        with self.engine.begin() as connection:
            if units:
                self._tasks(connection, step, list(zip(units, hashes, strict=True)))
                _put(connection, "night_closing", night_id=[int(unit.key) for unit in units], by_hand=0, closed=now())

    def nights(self) -> list[int]:
        """The nights that the camera has frames of."""
        mine = sa.exists().where(Frame.night_id == Night.night_id, Frame.instrument_id == self.plan.camera)
        with self.engine.connect() as connection:
            return list(connection.execute(sa.select(Night.night_id).where(mine).order_by(Night.night_id)).scalars())

    def add(self, n_night: int, *, n_frame: int | None = None) -> list[NightTruth]:
        """Add ordinary nights after those that there are: the first nights of an archive.

        What is returned is the truth about the last of them that were written together; `sky.night` has that of every night.
        """
        after = self.nights()
        first = after[-1] + 1 if after else self.plan.first_night
        numbers = range(first, first + n_night)
        together = max(1, _TOGETHER // (self.plan.n_star * (n_frame or self.plan.n_frame)))
        truths: list[NightTruth] = []
        for k in range(0, n_night, together):
            truths = self._add([self.sky.night(night_id, n_frame=n_frame) for night_id in numbers[k : k + together]])
        return truths

    def add_night(
        self,
        night_id: int | None = None,
        *,
        n_frame: int | None = None,
        dips: tuple[Dip, ...] = (),
        clouds: tuple[Clouds, ...] = (),
        is_open: bool = False,
    ) -> NightTruth:
        """Add one night; by default the one after the last. One that `is_open` lies as frames bring it, and is still to be put in order."""
        after = self.nights()
        number = night_id if night_id is not None else after[-1] + 1 if after else self.plan.first_night
        return self._add([self.sky.night(number, n_frame=n_frame, dips=dips, clouds=clouds)], is_open=is_open)[0]

    def frames_of(self, night_id: int) -> list[int]:
        """frame_id of a night's frames, in the order of time."""
        with self.engine.connect() as connection:
            mine = (Frame.night_id == night_id, Frame.instrument_id == self.plan.camera)
            query = sa.select(Frame.frame_id).where(*mine).order_by(Frame.jd_utc)
            return list(connection.execute(query).scalars())

    # What is written

    def _begin(self, connection: sa.Connection) -> None:
        """The rows that there are before any night: the run, the camera, the catalogue's stars."""
        sky, n = self.sky, self.plan.n_star
        _put(connection, "run", run_id=_RUN, command="many_nights", version="0", host="", started=now(), finished=now(), exit_code=0)
        _put(connection, "observatory", observatory_id=1, name="site", latitude=SITE[0], longitude=SITE[1], height=SITE[2])
        self._camera(connection)
        step, sha256 = STEPS["catalogue"], "c" * 64
        taken_in = Unit(sha256, "stars.ecsv", facts=f"{sha256}\n{{}}", path="/stars.ecsv")
        (task,) = self._tasks(connection, step, [(taken_in, step.input_hashes([taken_in], step.read_parameters({}))[0])])
        shared = {"ra": FIELD[0], "dec": FIELD[1], "radius": 7.0, "epoch": 2016.0, "columns": "{}", "task_id": task}
        _put(
            connection, "catalogue", catalogue_id=1, kind="file", name="stars.ecsv", path="/stars.ecsv", sha256=sha256, n_source=n, **shared
        )
        unit = dict(zip(("ux", "uy", "uz"), sky.unit.T, strict=True))
        known = {"fit_mag": sky.mag, "fit_colour": sky.colour, "colour_measured": 1, "fold": sky.fold, "origin": "catalogue"}
        _put(connection, "source", source_id=sky.source_id, ra=sky.ra, dec=sky.dec, epoch=2016.0, healpix=healpix29(sky.ra, sky.dec),
             task_id=task, **unit, **known)  # fmt: skip
        _put(connection, "source_magnitude", source_id=sky.source_id, catalogue_id=1, band=BAND, value=sky.catalogue_mag,
             error=self.plan.catalogue_error or 0.01, system="Gaia")  # fmt: skip

    def _camera(self, connection: sa.Connection) -> None:
        """The camera, and its passband where that is a new one."""
        camera = self.plan.camera
        _put(connection, "instrument", instrument_id=camera, name=f"camera {camera}", definition="", nx=NX, ny=NY)
        _put(connection, "setup", setup_id=camera, instrument_id=camera, binning_x=1, binning_y=1)
        if _passband_id(connection, self.plan) is None:
            _put(connection, "passband", passband_id=next_id(connection, Passband.passband_id), name=self.plan.passband)

    def _add(self, nights: list[NightTruth], *, is_open: bool = False) -> list[NightTruth]:
        with self.engine.begin() as connection:
            frames = self._observed(connection, nights)
        self._analyse(*(table.__tablename__ for table in STEPS["ingest"].writes))
        rows = _Rows(self.sky, nights, frames, is_open)
        names = list(STEPS)
        self._step(STEPS["ingest"], None)
        for name in names[names.index("classify") : names.index(LAST[0])]:
            self._step(STEPS[name], rows)
        # As after every step that has written something.
        self._analyse("frame", "frame_field", "frame_photometry", "classification", "open_measurement" if is_open else "closed_measurement")
        return nights

    def _observed(self, connection: sa.Connection, nights: Sequence[NightTruth]) -> list[np.ndarray]:
        """Nights, exposures and frames, as `ingest` leaves them; the frames' numbers, night by night."""
        counts = [len(night.jd_utc) for night in nights]
        first = next_id(connection, Frame.frame_id)
        ids = first + np.arange(sum(counts))
        sha = _texts(f"{k:064x}" for k in ids)
        path = _texts(f"/raw/{k:08d}.fits" for k in ids)
        ingest, facts = STEPS["ingest"], canonical({"instrument": None, "default": None, "override": None})
        units = [Unit(key, key, facts=facts, path=where) for key, where in zip(sha.tolist(), path.tolist(), strict=True)]
        hashes = ingest.input_hashes(units, ingest.read_parameters({}))
        tasks = self._tasks(connection, ingest, list(zip(units, hashes, strict=True)))
        night_id = np.repeat([night.night_id for night in nights], counts)
        there = set(connection.execute(sa.select(Night.night_id)).scalars())
        new = [night.night_id for night in nights if night.night_id not in there]
        if new:
            _put(connection, "night", night_id=new, evening=_texts(str(number) for number in new))
        seen = {"pointing_ra": FIELD[0], "pointing_dec": FIELD[1], "calibration_state": "bias dark flat", "header_type": "object"}
        camera = self.plan.camera
        _put(connection, "exposure", exposure_id=ids, sha256=sha, path=path, size=5_000_000, mtime_ns=1, instrument_id=camera,
             observatory_id=1, night_id=night_id, task_id=tasks, **seen)  # fmt: skip
        times = {name: _joined(nights, lambda night, name=name: getattr(night.geometry, name)) for name in _TIMES}
        moon = {name: _joined(nights, lambda night, field=field: getattr(night.geometry, field)) for name, field in _MOON.items()}
        _put(connection, "frame", frame_id=ids, exposure_id=ids, channel="mono", setup_id=camera, night_id=night_id,
             instrument_id=camera, passband_id=_passband_id(connection, self.plan), exptime=EXPTIME, nx=NX, ny=NY, raw_step=1,
             time_source="made up", time_sigma=0.001, **times, **moon)  # fmt: skip
        return np.split(ids, np.cumsum(counts)[:-1])

    def _step(self, step: Step, rows: _Rows | None) -> None:
        """Have a step's pending units done: their tasks, lineage and rows."""
        with Runner(self.engine, self.archive.files, {}, _RUN) as runner:
            pending = runner.state(step).pending
        if pending:
            with self.engine.begin() as connection:
                known = set(connection.execute(sa.select(Task.unit).where(Task.step == step.name)).scalars())
                new = [item for item in pending if item[0].key not in known]
                tasks = self._tasks(connection, step, new) if new else np.zeros(0, dtype=np.int64)
                if rows is not None:
                    rows.write(connection, step.name, [unit for unit, _ in new], tasks)
            # What is made anew of an old unit makes others stale: that is the writer's to say.
            again = [(unit, input_hash, Output()) for unit, input_hash in pending if unit.key in known]
            self._writer.done(step, step.read_parameters({}), again)
            self._analyse("task", "lineage", *(table.__tablename__ for table in step.writes))
        with Session(self.engine) as session:
            survey = Survey(session, {})
            guards, n_done = survey.guards(step, session), survey.done(step.name, session)
        self._writer.checked(step, guards, n_done)

    def _tasks(self, connection: sa.Connection, step: Step, units: Sequence[tuple[Unit[Any], str]]) -> np.ndarray:
        """Tasks of units that had none, done, with their lineage; their numbers."""
        ids = next_id(connection, Task.task_id) + np.arange(len(units))
        content = {step.name: dataclasses.asdict(step.read_parameters({}))}
        frames = np.array([unit.frame_id for unit, _ in units], dtype=object)
        _put(connection, "task", task_id=ids, step=step.name, step_version=step.version, unit=_texts(unit.key for unit, _ in units),
             frame_id=frames, input_hash=_texts(input_hash for _, input_hash in units),
             config_id=self._writer.config(connection, "step", content), run_id=_RUN, status="done", attempts=1, finished=now(),
             facts=_texts(facts_sha256(unit.facts) for unit, _ in units), path=_texts(unit.path for unit, _ in units),
             is_stale=0)  # fmt: skip
        lineage = [(int(mine), task.task_id, task.role) for mine, (unit, _) in zip(ids, units, strict=True) for task in unit.inputs]
        if lineage:
            mine, theirs, roles = zip(*lineage, strict=True)
            _put(connection, "lineage", task_id=np.array(mine), input_task_id=np.array(theirs), role=_texts(roles))
        return ids

    @cached_property
    def _writer(self) -> Writer:
        return Writer(self.engine, self.archive.files, _RUN)

    def _analyse(self, *tables: str) -> None:
        with self.engine.begin() as connection:
            for name in tables:
                connection.exec_driver_sql(f'ANALYZE "{name}"')


@dataclass(frozen=True)
class _Rows:
    """What the steps have to say of some nights, besides their tasks."""

    sky: Sky
    nights: Sequence[NightTruth]
    frames: Sequence[np.ndarray]  # frame_id, night by night
    is_open: bool

    @cached_property
    def ids(self) -> np.ndarray:
        """All frames, rising."""
        return np.concatenate(list(self.frames))

    def write(self, connection: sa.Connection, step: str, units: Sequence[Unit[Any]], tasks: np.ndarray) -> None:
        """Write a step's rows, for the tasks of its units."""
        write: Callable[..., None] | None = getattr(self, f"_{step}", None)
        if write is None or not units:
            return
        by_frame = {unit.frame_id: task for unit, task in zip(units, tasks.tolist(), strict=True)}
        # A step on sets has one task for all of its rows.
        write(connection, np.array([by_frame.get(k, tasks[0]) for k in self.ids.tolist()]))

    def _of_frames(self, connection: sa.Connection, table: str, tasks: np.ndarray, **columns: Any) -> None:
        _put(connection, table, frame_id=self.ids, task_id=tasks, **columns)

    def _classify(self, connection: sa.Connection, tasks: np.ndarray) -> None:
        self._of_frames(connection, "classification", tasks, type="object", reason="stars", confidence=0.9)

    def _calibrate(self, connection: sa.Connection, tasks: np.ndarray) -> None:
        self._of_frames(connection, "calibrated_frame", tasks, product_id=_products(connection, "calibrated", tasks))

    def _detect(self, connection: sa.Connection, tasks: np.ndarray) -> None:
        self._of_frames(connection, "detection_summary", tasks, fwhm=self._fwhm(), n_detection=self.sky.plan.n_star)

    def _solution(self) -> dict[str, Any]:
        """Columns of the frames' plate solutions: that of the field, shifted by the pointing."""
        shift = np.concatenate([night.shift for night in self.nights])
        rows = [solution_columns(0, self.sky.plate.shifted(dx, dy)) for dx, dy in shift.tolist()]
        columns = {name: [row[name] for row in rows] for name in rows[0] if name != "frame_id"}
        quality = {"n_matched": self.sky.plan.n_star, "n_catalogue": self.sky.plan.n_star, "rms_x": 0.05, "rms_y": 0.05, "chance": -50.0}
        return {name: _texts(v) if isinstance(v[0], str) else np.array(v) for name, v in columns.items()} | quality

    def _solve(self, connection: sa.Connection, tasks: np.ndarray) -> None:
        self._of_frames(connection, "first_solution", tasks, **self._solution(), start="pointing")

    def _refine(self, connection: sa.Connection, tasks: np.ndarray) -> None:
        self._of_frames(connection, "wcs_solution", tasks, **self._solution(), n_secondary=0, distortion="own")

    def _field(self, connection: sa.Connection, tasks: np.ndarray) -> None:
        plan, plate = self.sky.plan, self.sky.plate
        if connection.execute(sa.select(Field.field_id).where(Field.field_id == plan.camera)).scalar() is None:
            place = {"ra": FIELD[0], "dec": FIELD[1], "radius": plate.radius, "corners": json.dumps(plate.corners)}
            _put(connection, "field", field_id=plan.camera, instrument_id=plan.camera, passband_id=_passband_id(connection, plan),
                 fit_band=BAND, fit_colour_band="BP-RP", **place)  # fmt: skip
        airmass = _joined(self.nights, lambda night: night.airmass)
        self._of_frames(connection, "frame_field", tasks, field_id=plan.camera, airmass=airmass, moon_separation=60.0)

    def _shapes(self, connection: sa.Connection, tasks: np.ndarray) -> None:
        shape = {
            "poly_order": 0,
            "coeff": _shape(),
            "n_star": self.sky.plan.n_star,
            "fwhm": self._fwhm(),
        }
        self._of_frames(
            connection, "shape_map", tasks, **shape, ellipticity=0.05 + self._jitter(2), theta=0.3, rms_s=0.01, rms_d=0.01, rms_k=0.01
        )

    def _background(self, connection: sa.Connection, tasks: np.ndarray) -> None:
        sky = {"level": 30.0 + 50.0 * self._jitter(3), "noise": 6.0, "error": 0.1, "sky_fraction": 0.9, "box": 64, "smooth": 64.0}
        self._of_frames(connection, "frame_background", tasks, **sky, product_id=_products(connection, "background", tasks))

    def _psf(self, connection: sa.Connection, tasks: np.ndarray) -> None:
        fit = {
            "poly_order": 0,
            "radius": 6.0,
            "pixel": 0.0,
            "n_coeff": 100,
            "coeff": _profile(),
            "n_star": self.sky.plan.n_star,
            "chi2": 1.0,
        }
        self._of_frames(connection, "psf_map", tasks, kind="prf", reason="made up", **fit, fwhm=self._fwhm())

    def _slots(self, connection: sa.Connection, tasks: np.ndarray) -> None:
        slots = np.arange(self.sky.plan.n_slot)
        kinds = _texts("psf" if slot == 0 else "aperture" for slot in slots)
        radius = np.where(slots == 0, np.nan, 1.5 + 1.0 * slots)
        words = _texts("fitted" if slot == 0 else f"circular aperture, radius {1.5 + slot:g} pixel" for slot in slots)
        _put(
            connection,
            "photometry_slot",
            instrument_id=self.sky.plan.camera,
            slot=slots,
            kind=kinds,
            radius=radius,
            description=words,
            task_id=int(tasks[0]),
        )

    def _photometry(self, connection: sa.Connection, tasks: np.ndarray) -> None:
        number = np.concatenate([night.measured.sum(axis=1) for night in self.nights])
        zero = np.concatenate([25.0 - night.coefficients["const"] - night.cloud.mean(axis=1) for night in self.nights])
        patches = np.concatenate([night.cloud.std(axis=1) for night in self.nights])
        self._of_frames(connection, "frame_photometry", tasks, n_source=number, zero_point=zero, zero_point_scatter=0.02 + patches,
                        n_zero_point=number, limiting_mag=16.0, apertures="area")  # fmt: skip
        for night, frames in zip(self.nights, self.frames, strict=True):
            put_measurements(connection, self._measurements(night, frames), is_open=self.is_open)

    def _measurements(self, night: NightTruth, frames: np.ndarray) -> dict[str, Any]:
        frame, star = np.nonzero(night.measured)
        at = (frame, star)
        place = {"source_id": self.sky.source_id[star], "night_id": np.full(len(star), night.night_id), "frame_id": frames[frame]}
        sky = {"background": 30.0, "background_err": 0.1, "psf_chi2": 1.0}
        fluxes = {f"flux_{slot}": night.flux[slot][at] for slot in range(len(night.flux))}
        errors = {f"flux_err_{slot}": night.flux_err[slot][at] for slot in range(len(night.flux))}
        return {**place, "flags": night.flags[at], "x": night.x[at], "y": night.y[at], **sky, **fluxes, **errors}

    def _jitter(self, stream: int) -> np.ndarray:
        """A number from 0 to 1 for each frame, the same whatever other nights there are."""
        return np.concatenate([np.random.default_rng((stream, night.night_id)).random(len(night.jd_utc)) for night in self.nights])

    def _fwhm(self) -> np.ndarray:
        return FWHM * (0.9 + 0.3 * self._jitter(1))


_TIMES = ("jd_utc", "jd_tdb", "bx", "by", "bz", "zx", "zy", "zz", "moon_illumination", "moon_ra", "moon_dec")
_MOON = {"sun_altitude": "sun_alt", "moon_altitude": "moon_alt"}


def _passband_id(connection: sa.Connection, plan: Plan) -> int | None:
    return connection.execute(sa.select(Passband.passband_id).where(Passband.name == plan.passband)).scalar()


@cache
def _shape() -> str:
    """Round stars of one size all over the frame."""
    same = {"order": 0, "ellipticity_order": 0, "mag_order": 0, "colour_order": 0, "mag_range": (8.0, 13.0), "colour_range": (0.0, 2.0)}
    errors = dict.fromkeys(("rms_s", "rms_d", "rms_k", "rms_fwhm", "rms_ellipticity", "err_fwhm", "err_ellipticity"), 0.01)
    size = (2.0 * float(np.log(2.3548 / FWHM)),)
    return json.dumps(ShapeMap(NX, NY, **same, coeff_p=size, coeff_q=(0.0,), coeff_r=(0.0,), **errors, n_star=100).to_row())


@cache
def _profile() -> str:
    return json.dumps(seed_map((NX, NY), FWHM, 6.0).to_row())


def _joined(nights: Sequence[NightTruth], of: Callable[[NightTruth], np.ndarray]) -> np.ndarray:
    return np.concatenate([of(night) for night in nights])


def _products(connection: sa.Connection, kind: str, tasks: np.ndarray) -> np.ndarray:
    """Products whose files are not kept, one for each task; their numbers."""
    ids = next_id(connection, Product.product_id) + np.arange(len(tasks))
    _put(connection, "product", product_id=ids, task_id=tasks, kind=kind, sha256="0" * 64, size=1_000_000, is_bad=0)
    return ids


def _texts(values: Iterable[str | None]) -> np.ndarray:
    return np.array(list(values), dtype=object)


def _put(connection: sa.Connection, name: str, /, **columns: Any) -> None:
    """Bulk insert; columns that are not given and may not be NULL get 0 or ''."""
    table = Base.metadata.tables[name]
    rest = {c.name: _empty(c) for c in table.c if not c.nullable and c.name not in columns}
    bulk_insert(connection, table, {key: np.asarray(v, dtype=object) if _is_object(v) else v for key, v in (rest | columns).items()})


def _empty(column: sa.Column[Any]) -> Any:
    return "" if isinstance(column.type, sa.String) else 0


def _is_object(value: Any) -> bool:
    return np.ndim(value) == 0 and not isinstance(value, (int, float, np.generic))
