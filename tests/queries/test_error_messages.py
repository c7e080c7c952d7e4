"""Every error code is met by a test that makes its cause; here are those that no other test names.

What is said is one line with the cause, what was met, and what to do.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
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
from reduction.astrometry.kernels.fits_wcs import fits_wcs
from reduction.astrometry.kernels.plate import refine
from reduction.astrometry.kernels.start import Pointing, StarLists, confirmed_starts, solution_from_wcs
from reduction.astrometry.kernels.wcs import PlateSolution
from reduction.catalogues.columns import recognise, stars_of
from reduction.files.convert import convert_file, to_fits
from reduction.files.fits import read_raw
from reduction.files.raw_files import find_raw_files
from starledger import plots
from starledger.archive import Archive
from starledger.cli.app import app
from starledger.cli.output import style_of
from starledger.demo.simulate import simulate_night
from starledger.paths import one_path
from starledger.patience import patience

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


def two_of_one(what: Place) -> None:
    raw = what.folder / "raw"
    for name in ("one", "two"):
        (raw / name).mkdir(parents=True)
        (raw / name / "a.png").write_bytes(imagecodecs.png_encode(np.zeros((9, 9), np.uint16)))
    starledger.convert([raw / "one" / "a.png", raw / "two" / "a.png"], output=what.folder / "out")


def other_views(what: Place) -> None:
    with what.archive.writer.begin() as connection:
        connection.execute(sa.text("DROP VIEW light_curve"))
        connection.execute(sa.text("CREATE VIEW light_curve AS SELECT 1 AS one"))
    what.archive.check_schema()


def other_tables(what: Place) -> None:
    with what.archive.writer.begin() as connection:
        connection.execute(sa.text("ALTER TABLE target ADD COLUMN mine INTEGER"))
    what.archive.check_schema()


def demo_of_another_seed(what: Place) -> None:
    (what.folder / "raw").mkdir()
    (what.folder / "raw" / "mine.fits").touch()
    simulate_night(what.folder, 1)


SKY = SkyCoord([1.0, 2.0] * u.deg, [3.0, 4.0] * u.deg)

CAUSES: dict[str, Callable[[Place], object]] = {
    "backup.file": lambda at: at.archive.backup(at.folder / "nowhere" / "a.db"),
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
    "file.format": lambda at: style_of(Path("curve.docx"), ("csv",)),
    "file.name": lambda at: one_path("x" * 300),
    "header.nothing": lambda at: starledger.headers(told(at, "no frames").parent),
    "header.usage": lambda at: said(at, "header"),
    "plot.format": lambda at: plots._figure(Path("curve.docx"), (1.0, 1.0)),
    "solve.usage": lambda at: list(starledger.solve(at.folder, ra=1.0)),
    "catalogue.missing": lambda at: at.archive.reduce(catalogues=[at.folder / "none.ecsv"]),
    "catalogue.empty": lambda at: at.archive.reduce(catalogues=[told(at, "ra,dec\n")], steps=["catalogue"]),
    "catalogue.column": lambda at: stars(ra=[1.0], y=[2.0]),
    "catalogue.position": lambda at: stars(ra=[1.0], dec=[92.0]),
    "fetch.unknown": lambda at: at.archive.reduce(fetch=["usno"]),
    "step.unknown": lambda at: at.archive.reduce(steps=["polish"]),
    "solve.few_pairs": lambda at: refine(PLATE, *np.full((2, 9), 5.0), *np.full((2, 9), 10.0)),
    "solve.few_stars": lambda at: list(confirmed_starts(StarLists(*np.zeros((4, 3)), (100, 100)), [Pointing(1.0, 2.0, 3.0)])),
    "solve.wcs": lambda at: solution_from_wcs(none_of_it, (100, 100)),
    "solve.no_inverse": lambda at: fits_wcs(FOLDED),
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
    "reference.state": lambda at: at.archive.references.accept(1, "a try", reference=1),
    "reference.alone": lambda at: at.archive.references.compare(1),
    "position.many": lambda at: at.archive.cone(SKY, 0.1),
    "position.range": lambda at: at.archive.cone("10 20", -1.0),
    "source.none_near": lambda at: at.archive.curve("200.0 -70.0"),
    "sql.error": lambda at: at.archive.sql("SELECT nothing_of_the_kind"),
    "sql.parameter": lambda at: at.archive.sql("SELECT :value AS value"),
    "resolve.mirror": lambda at: (at.patch.setenv("STARLEDGER_VIZIER", "ftp://x"), at.archive.targets.add("HAT-P-32 b", resolve=True)),
    "target.unknown": lambda at: at.archive.targets.remove("nobody"),
    "target.unmeasured": lambda at: (at.archive.targets.add("new", "10 20"), at.archive.targets.curve("new")),
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
