"""Every error code is met by a test that makes its cause; here are those that no other test names.

What is said is one line with the cause, what was met, and what to do.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sqlite3
import sys
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import astropy.units as u
import imagecodecs
import numpy as np
import pytest
import sqlalchemy as sa
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from small_archive import SmallArchive, build

import starledger
from db.error_codes import ERROR_CODES
from db.errors import StarledgerError
from db.flags import Mask
from db.refusals import refusal
from reduction.astrometry import solve_step
from reduction.astrometry.distortion_step import DistortionParameters, distortion
from reduction.astrometry.kernels.fits_wcs import fits_wcs
from reduction.astrometry.kernels.plate import refine
from reduction.astrometry.kernels.start import Pointing, StarLists, confirmed_starts, solution_from_wcs
from reduction.astrometry.kernels.wcs import PlateSolution
from reduction.calibration import detector_step
from reduction.calibration.frame_sets import master_output
from reduction.calibration.kernels.stack import MasterImage
from reduction.calibration.night_sky import night_sky
from reduction.catalogues.columns import recognise, stars_of
from reduction.files.convert import convert_file, to_fits
from reduction.files.fits import RawImage, read_raw
from reduction.files.raw_files import find_raw_files
from reduction.frames.ingest_step import _require_pixels
from reduction.lightcurves import magnitude_reference_step
from reduction.photometry import photometry_step
from reduction.photometry.background_map import _noise_among_stars
from reduction.photometry.slots_step import SlotsParameters, slots
from reduction.pipeline import scheduler
from reduction.pipeline.declaration import Unit
from reduction.pipeline.order import STEPS
from reduction.pipeline.unchanged import product_file
from starledger import backup, plots, raw_files
from starledger.archive import Archive
from starledger.cli.app import app
from starledger.cli.output import style_of, write_text
from starledger.demo.compare import Comparison, Row
from starledger.demo.simulate import simulate_night
from starledger.paths import one_path
from starledger.patience import patience
from starledger.raw_files import parse_offset

TESTS = Path(__file__).resolve().parents[1]
PLATE = PlateSolution(10.0, 20.0, 1, (50.0, 1000.0, 0.0), (50.0, 0.0, 1000.0), 101, 101)
FOLDED = PlateSolution(10.0, 20.0, 2, (50.0, 1000.0, 0.0, -9e5, 0.0, 0.0), (50.0, 0.0, 1000.0, 0.0, 0.0, 0.0), 2001, 2001)


@dataclass
class Place:
    """Where causes are made."""

    archive: Archive
    url: str
    folder: Path
    patch: pytest.MonkeyPatch


@pytest.fixture
def place(new_archive: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    url = new_archive("sqlite")
    small: SmallArchive = build(url, n_frame=6, n_source=6)
    small.engine.dispose()
    with starledger.open(url, files=tmp_path / "files") as opened:
        yield Place(opened, url, tmp_path, monkeypatch)


def none_of_it(x: Any, y: Any) -> Any:
    return x * np.nan, y * np.nan


def told(what: Place, text: str) -> Path:
    """A file with a text in it."""
    path = what.folder / "given.csv"
    path.write_text(text)
    return path


def fits_file(what: Place) -> Path:
    """A camera's file, converted."""
    raw = what.folder / "a.fits"
    fits.PrimaryHDU(np.arange(400, dtype=np.int16).reshape(20, 20)).writeto(raw)
    return raw


def converted_twice(what: Place) -> None:
    raw, png = fits_file(what), what.folder / "b.png"
    png.write_bytes(imagecodecs.png_encode(np.zeros((9, 9), np.uint16)))
    convert_file(png, raw)


def stars(**columns: list[float]) -> object:
    table = Table(columns)
    return stars_of(table, recognise(table.colnames, {}, "field.csv"), 2016.0, "field.csv")


def said(what: Place, *words: str | Path) -> None:
    """What a command prints, as the error that it is."""
    out = io.StringIO()
    with mock.patch.object(sys, "argv", ["starledger", *map(str, words)]), contextlib.redirect_stdout(out):
        app(standalone_mode=False)


def no_such_revision(what: Place) -> None:
    with what.archive.writer.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))
    starledger.open(what.url)


def two_of_one(_: Place) -> None:
    raw_files._require_unused(Path("two/a.png"), Path("out/a.fits"), {Path("out/a.fits"): Path("one/a.png")})


def other_views(what: Place) -> None:
    with what.archive.writer.begin() as connection:
        connection.execute(sa.text("DROP VIEW light_curve"))
        connection.execute(sa.text("CREATE VIEW light_curve AS SELECT 1 AS one"))
    what.archive.check_schema()


def other_tables(what: Place) -> None:
    with what.archive.writer.begin() as connection:
        connection.execute(sa.text("ALTER TABLE target ADD COLUMN mine INTEGER"))
    what.archive.check_schema()


def backup_that_fails(what: Place) -> None:
    for name in ("pg_dump", "pg_restore"):
        program = what.folder / name
        program.write_text("#!/bin/sh\necho 'server version mismatch' >&2\nexit 1\n")
        program.chmod(0o755)
    what.patch.setenv("PATH", str(what.folder), prepend=os.pathsep)
    backup._dump(sa.make_url("postgresql://me@host/night"), what.folder / "a.dump")


def nothing_recovered(what: Place) -> None:
    row = Row("one", "depth", "", 0.02, 0.03, 0.001, True, 0.05)
    what.patch.setattr(starledger, "run_demo", lambda *_, **__: SimpleNamespace(tallies=[], comparison=Comparison([row], []), plots=""))
    said(what, "demo", what.folder)


def body_that_raises(error: Exception) -> None:
    """What a step's own failure becomes."""

    def body(*_: object) -> None:
        raise error

    engine = sa.create_engine("sqlite://")
    told = scheduler._work(engine, Path("files"), {}, replace(STEPS["bias"], body=body), Unit("1", "bias 1"), "", None)
    raise replace_step(told)


def replace_step(error: StarledgerError) -> StarledgerError:
    """The error under the name that the table of codes has for it."""
    error.code = error.code.replace("bias.", "STEP.")
    return error


def dead_worker(what: Place) -> None:
    runner = scheduler.Runner(what.archive.engine, what.folder, {}, 0, jobs=2)
    future: Future[Any] = Future()
    future.set_exception(BrokenProcessPool("gone"))
    what.patch.setattr(runner, "_started_pool", lambda: SimpleNamespace(submit=lambda *_: future))
    list(runner._pooled(STEPS["bias"], [(Unit("1", "one"), "")], None))


def no_right() -> None:
    refused = sqlite3.OperationalError("attempt to write a readonly database")
    refused.sqlite_errorcode = sqlite3.SQLITE_READONLY
    found = refusal(sa.exc.OperationalError("INSERT", {}, refused), sa.make_url("sqlite:///a.db"))
    assert found is not None
    raise found


def other_product(what: Place) -> None:
    told(what, "other bytes")
    session = SimpleNamespace(execute=lambda _: SimpleNamespace(scalar_one=lambda: "0" * 64))
    product_file(SimpleNamespace(files=what.folder, session=session), "given.csv")  # type: ignore[arg-type]


def garbage(what: Place) -> None:
    path = what.folder / "garbage.db"
    path.write_bytes(b"nothing of the kind" * 1000)
    starledger.recover(f"sqlite:///{path}", what.folder / "saved.db")


def no_catalogue(what: Place) -> None:
    with starledger.create(f"sqlite:///{what.folder / 'empty.db'}") as empty, empty.reading() as session:
        solve_step._require_catalogue(SimpleNamespace(context=SimpleNamespace(session=session)))  # type: ignore[arg-type]


def tiny_apertures() -> None:
    answer = SimpleNamespace(scalars=lambda: SimpleNamespace(all=lambda: [0.3]))
    context = SimpleNamespace(session=SimpleNamespace(execute=lambda _: answer))
    slots(context, Unit("1", "camera"), SlotsParameters(factors=(0.01,)))  # type: ignore[arg-type]


def no_source(what: Place) -> None:
    nobody = SimpleNamespace(inside=lambda *_: [], take=lambda _: [])
    what.patch.setattr(photometry_step, "psf_map_of", lambda *_: SimpleNamespace(radius=9.0))
    what.patch.setattr(photometry_step, "placed_sources", lambda *_: nobody)
    context = SimpleNamespace(session=SimpleNamespace(get_one=lambda *_: SimpleNamespace(frame_id=1)))
    photometry_step.photometry(context, Unit("1", "a.fits"), photometry_step.PhotometryParameters())  # type: ignore[arg-type]


def empty_master() -> None:
    plane = np.full((4, 4), 1, np.uint8)
    master = MasterImage(*[SimpleNamespace() for _ in fields(MasterImage)])
    object.__setattr__(master, "mask", plane * int(Mask.NO_DATA))
    master_output(None, Unit("1", "dark 60 s"), "dark", master, [], {}, 1.0)  # type: ignore[arg-type]


def unfitted(what: Place) -> None:
    module = magnitude_reference_step
    nobody = SimpleNamespace(folds=SimpleNamespace(mag=np.array([np.nan])))
    shot = SimpleNamespace(frame_id=1, instrument_id=1, night_id=1, masked=False)
    for name, answer in {
        "open_nights": [],
        "shots": [shot],
        "_scores": {"score": np.array([1.0])},
        "slots_of": [1],
        "FieldWork": None,
        "build": SimpleNamespace(slots={1: nobody}),
    }.items():
        what.patch.setattr(module, name, lambda *_, answer=answer: answer)
    context = SimpleNamespace(session=None, parameters=lambda _: SimpleNamespace(start=None))
    unit = Unit("1", "field 1", payload=SimpleNamespace(field_id=1, frame_id=None, base_id=None))
    module.magnitude_reference(context, unit, module.ReferenceParameters(method="nights"))  # type: ignore[arg-type]


def first_frame(*, masked: bool, wanted: int | None) -> None:
    shots = [SimpleNamespace(frame_id=1, masked=masked)]
    magnitude_reference_step._first_frame(shots, np.ones(1), SimpleNamespace(frame_id=wanted))  # type: ignore[arg-type]


def empty_catalogue(what: Place) -> None:
    with starledger.create(f"sqlite:///{what.folder / 'empty.db'}") as empty:
        empty.reduce(catalogues=[told(what, "ra,dec\n")], steps=["catalogue"])


def demo_of_another_seed(what: Place) -> None:
    (what.folder / "raw").mkdir()
    (what.folder / "raw" / "mine.fits").touch()
    simulate_night(what.folder, 1)


SKY = SkyCoord([1.0, 2.0] * u.deg, [3.0, 4.0] * u.deg)

CAUSES: dict[str, Callable[[Place], object]] = {
    "backup.file": lambda at: at.archive.backup(at.folder / "nowhere" / "a.db"),
    "backup.failed": backup_that_fails,
    "backup.program": lambda at: (at.patch.setenv("PATH", str(at.folder)), backup._dump(sa.make_url("postgresql:///a"), at.folder / "a")),
    "archive.damaged": garbage,
    "archive.disk": lambda _: body_that_raises(OSError(errno.ENOSPC, "No space left on device")),
    "archive.unreachable": lambda _: starledger.open("postgresql://me@127.0.0.1:1/night", files="files"),
    "archive.rights": lambda _: no_right(),
    "STEP.defect": lambda _: body_that_raises(ZeroDivisionError("by zero")),
    "STEP.os": lambda _: body_that_raises(OSError(errno.EIO, "Input/output error")),
    "run.worker": dead_worker,
    "grant.role": lambda _: starledger.grant("postgresql://me@127.0.0.1:1/night", "pg_reader"),
    "product.gone": lambda at: product_file(SimpleNamespace(files=at.folder), "none.fits"),  # type: ignore[arg-type]
    "product.changed": other_product,
    "convert.offset": lambda _: parse_offset("noon"),
    "demo.missed": nothing_recovered,
    "frame.constant": lambda _: _require_pixels(RawImage(np.ones((3, 3), np.float32), fits.Header(), True, 1.0, 0), Path("a.fits")),
    "frame.no_sky": lambda _: _noise_among_stars({"VAR": np.ones((3, 3)), "MASK": np.ones((3, 3), np.uint8)}, "a.fits"),
    "frame.no_source": no_source,
    "config.slots": lambda _: tiny_apertures(),
    "detector.no_frame": lambda _: detector_step._read(None, [], 1),  # type: ignore[arg-type]
    "detector.no_sky": lambda _: detector_step._require_sky(
        night_sky([], {1: SimpleNamespace(data=np.full((64, 64), np.nan), quantum=1.0)})
    ),  # type: ignore[dict-item]
    "distortion.few_frames": lambda _: distortion(
        SimpleNamespace(session=None), Unit("1/R/1", "night", payload=()), DistortionParameters()
    ),
    "master.empty": lambda _: empty_master(),
    "magfit.masked": lambda _: first_frame(masked=True, wanted=None),
    "magfit.no_frame": lambda _: first_frame(masked=False, wanted=7),
    "magfit.no_fit": unfitted,
    "solve.no_catalogue": no_catalogue,
    "recover.server": lambda at: starledger.recover("postgresql://me@host/night", at.folder / "saved.db"),
    "archive.folder": lambda at: starledger.create(f"sqlite:///{at.folder / 'none' / 'a.db'}"),
    "archive.missing": lambda at: starledger.open(f"sqlite:///{at.folder / 'none.db'}"),
    "archive.number": lambda at: at.archive.masks.frame(2**70, "too far"),
    "archive.text": lambda at: at.archive.masks.frame(1, "\udc80"),
    "archive.revision": no_such_revision,
    "archive.views": other_views,
    "archive.schema": other_tables,
    "archive.wait": lambda at: (at.patch.setenv("STARLEDGER_WAIT", "soon"), patience()),
    "archive.synchronous": lambda at: (at.patch.setenv("STARLEDGER_SYNCHRONOUS", "never"), at.archive.masks.frame(1, "dew")),
    "grant.sqlite": lambda at: starledger.grant(at.url, "reader"),
    "relocate.usage": lambda at: at.archive.relocate(),
    "relocate.nothing": lambda at: at.archive.relocate("/nowhere", at.folder),
    "relocate.missing": lambda at: at.archive.relocate(files=at.folder / "none"),
    "config.file": lambda at: at.archive.reduce(config=at.folder / "none.toml"),
    "config.usage": lambda at: said(at, "config", "mine.toml", "--archive", at.url),
    "configuration.path": lambda at: find_raw_files([at.folder / "none"]),
    "input.missing": lambda at: at.archive.reduce(at.folder / "none"),
    "input.empty": lambda at: at.archive.reduce(told(at, "no frames").parent),
    "convert.exists": converted_twice,
    "convert.nothing": lambda at: starledger.convert(told(at, "no frames").parent),
    "convert.twice": two_of_one,
    "convert.write": lambda at: to_fits(read_raw(fits_file(at)), told(at, "a file") / "b.fits"),
    "demo.folder": demo_of_another_seed,
    "file.write": lambda at: write_text(at.folder / "none" / "a.txt", "text"),
    "file.format": lambda _: style_of(Path("curve.docx"), ("csv",)),
    "file.name": lambda _: one_path("x" * 300),
    "header.nothing": lambda at: list(starledger.header(told(at, "no frames").parent)),
    "header.usage": lambda at: said(at, "header"),
    "plot.format": lambda _: plots._figure(Path("curve.docx"), (1.0, 1.0)),
    "solve.usage": lambda at: list(starledger.solve(at.folder, ra=1.0)),
    "catalogue.missing": lambda at: at.archive.reduce(catalogues=[at.folder / "none.ecsv"]),
    "catalogue.empty": lambda at: empty_catalogue(at),
    "catalogue.column": lambda _: stars(ra=[1.0], y=[2.0]),
    "catalogue.position": lambda _: stars(ra=[1.0], dec=[92.0]),
    "fetch.unknown": lambda at: at.archive.reduce(fetch=["usno"]),
    "step.unknown": lambda at: at.archive.reduce(steps=["polish"]),
    "solve.few_pairs": lambda _: refine(PLATE, *np.full((2, 9), 5.0), *np.full((2, 9), 10.0)),
    "solve.few_stars": lambda _: list(confirmed_starts(StarLists(*np.zeros((4, 3)), (100, 100)), [Pointing(1.0, 2.0, 3.0)])),
    "solve.wcs": lambda _: solution_from_wcs(none_of_it, (100, 100)),
    "solve.no_inverse": lambda _: fits_wcs(FOLDED),
    "choice.reason": lambda at: at.archive.masters.use(1, " ", night="2017-12-19"),
    "choice.unknown": lambda at: at.archive.masters.undo(99),
    "master.state": lambda at: (at.archive.masks.product(1, "leak"), at.archive.masters.use(1, "good", night="2017-12-19")),
    "correction.none": lambda at: at.archive.frames.unset(1),
    "correction.reason": lambda at: at.archive.frames.set("flat", 1, " "),
    "keep.none": lambda at: at.archive.frames.judge(1),
    "keep.reason": lambda at: at.archive.frames.keep(1, " "),
    "psf.none": lambda at: at.archive.frames.psf_summary(1),
    "lightcurve.empty": lambda at: at.archive.curve(int(at.archive.sql("SELECT max(source_id) AS s FROM source")["s"][0]), slot=7),
    "field.unknown": lambda at: at.archive.references.new(99, "a try"),
    "reference.unknown": lambda at: at.archive.references.scores(99),
    "reference.reason": lambda at: at.archive.references.new(1, " "),
    "reference.frame": lambda at: at.archive.references.new(1, "a try", frame=10**6),
    "reference.keep": lambda at: at.archive.references.purge(1, "a try", keep=0),
    "reference.state": lambda at: at.archive.references.accept(1, "a try", reference=2),
    "reference.alone": lambda at: at.archive.references.compare(1),
    "position.many": lambda at: at.archive.cone(SKY, 0.1),
    "position.range": lambda at: at.archive.cone("10 20", -1.0),
    "source.none_near": lambda at: at.archive.curve("200.0 -70.0"),
    "sql.error": lambda at: at.archive.sql("SELECT nothing_of_the_kind"),
    "sql.parameter": lambda at: at.archive.sql("SELECT :value AS value"),
    "resolve.mirror": lambda at: (at.patch.setenv("STARLEDGER_VIZIER", "ftp://x"), at.archive.targets.add("WASP-1 b", resolve=True)),
    "target.unknown": lambda at: at.archive.targets.remove("nobody"),
    "target.unmeasured": lambda at: (at.archive.targets.add("new", "10 20"), at.archive.targets.curve("new")),
    "target.position": lambda at: at.archive.targets.add("nowhere"),
    "target.usage": lambda at: said(at, "target", "add", told(at, "x"), "--period", "2", "--archive", at.url),
}


@pytest.mark.parametrize("code", CAUSES)
def test_the_cause_of_a_code_is_told_in_a_line(place: Place, code: str) -> None:
    with pytest.raises(StarledgerError) as caught:
        CAUSES[code](place)
    error = caught.value
    assert error.code == code
    assert error.message and error.hint, "what is the matter, and what to do"
    assert "\n" not in str(error) and error.message in str(error) and str(error).endswith(error.hint)
    assert isinstance(error, ERROR_CODES[code].kinds)


def test_every_code_is_named_by_a_test() -> None:
    """Whoever adds a code adds the test that makes its cause."""
    text = "\n".join(path.read_text("utf-8") for path in TESTS.rglob("*.py") if path.name not in ("test_error_codes.py", "error_codes.py"))
    assert [code for code in ERROR_CODES if not re.search(rf"\b{re.escape(code)}\b", text)] == []
