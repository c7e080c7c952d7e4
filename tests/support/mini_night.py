"""A small simulated night, reduced within seconds, for the tests of the whole mechanism."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import sqlalchemy as sa
from filelock import FileLock
from templates import administer, copy_postgres, copy_sqlite, make_schema, once

from db.engine import make_engine, parse_url, sqlite_path
from reduction.pipeline.order import STEPS
from reduction.pipeline.scheduler import Tally
from starledger.archive import create_archive, open_archive
from starledger.cli.app import main
from starledger.demo import simulate_night
from starledger.reduce import reduce

__all__ = ["N_CALIBRATION", "N_OBJECT", "SIZE", "Night", "Work", "begun", "command", "copied", "night", "reduced", "reduced_at"]

N_OBJECT = 8
N_CALIBRATION = 10
_SEED = 3
SIZE: dict[str, Any] = {"n_object": N_OBJECT, "shape": (224, 288), "n_star": 90, "n_bias": 3, "n_dark": 3, "n_flat": 4}


@dataclass(frozen=True)
class Night:
    """The night's folder; its frames and its catalogue must not be changed."""

    folder: Path

    @property
    def raw(self) -> Path:
        return self.folder / "raw"

    @property
    def catalogue(self) -> Path:
        return self.folder / "catalogue.ecsv"

    def calibration(self) -> list[Path]:
        return sorted(path for path in self.raw.iterdir() if not path.name.startswith("object"))

    def objects(self) -> list[Path]:
        return sorted(self.raw.glob("object*"))

    def link(self, folder: Path, files: Sequence[Path] | None = None) -> Path:
        """A folder with links to the frames, or to some of them, to which a test may add its own."""
        folder.mkdir(exist_ok=True)
        for path in files if files is not None else [*self.calibration(), *self.objects()]:
            (folder / path.name).symlink_to(path)
        return folder


def _shared(name: str) -> Path:
    return Path(os.environ["STARLEDGER_TEST_RUN"]) / name


def night() -> Night:
    """The night, simulated once for all workers of a test run."""
    folder = _shared("mini-night")
    with FileLock(f"{folder}.lock"):
        if not (folder / "truth.json").exists():
            simulate_night(folder, _SEED, **SIZE)
    return Night(folder)


@dataclass(frozen=True)
class Work:
    """An archive under test."""

    url: str
    files: Path

    def tallies(self, paths: Sequence[Path] | None = None, *, jobs: int = 1, **options: Any) -> list[Tally]:
        """Reduce as the command line does: by default all frames of the mini night, with its catalogue."""
        mini = night()
        make_schema(self.url)
        archive = create_archive(self.url, self.files)
        try:
            given = [mini.raw] if paths is None else paths
            return reduce(archive, given, catalogues=options.pop("catalogues", [mini.catalogue]), jobs=jobs, **options)
        finally:
            archive.engine.dispose()

    def worked(self, paths: Sequence[Path] | None = None, **options: Any) -> dict[str, int]:
        """Reduce; units done by step, where there were any. Nothing may fail."""
        tallies = self.tallies(paths, **options)
        assert {tally.step: tally.failed for tally in tallies if tally.failed} == {}
        return {tally.step: tally.done for tally in tallies if tally.done}

    def sql(self, text: str, **values: Any) -> list[tuple[Any, ...]]:
        """Rows of a statement."""
        engine = make_engine(self.url, writer=True)
        try:
            with engine.begin() as connection:
                result = connection.execute(sa.text(text), values)
                return [tuple(row) for row in result] if result.returns_rows else []
        finally:
            engine.dispose()


def _reduce_once(folder: Path) -> None:
    """Fill the folder of the template on SQLite: one process, and what it did beside the archive."""
    first = Work(f"sqlite:///{folder / 'archive.db'}", folder / "files").worked()
    assert first["statistics"] == 1
    (folder / "first.json").write_text(json.dumps(first))


def _begin_once(folder: Path) -> None:
    names = list(STEPS)
    done = Work(f"sqlite:///{folder / 'archive.db'}", folder / "files").worked(steps=names[: names.index("background")])
    assert done["shapes"] == N_OBJECT


def copied(template: Path, folder: Path) -> Work:
    """A copy of an archive on SQLite, with its products."""
    copy_sqlite(template / "archive.db", folder / "archive.db")
    return _moved(f"sqlite:///{folder / 'archive.db'}", template, folder)


def _moved(url: str, template: Path, folder: Path) -> Work:
    shutil.copytree(template / "files", folder / "files")
    work = Work(url, folder / "files")
    with open_archive(url) as archive:
        archive.relocate(files=work.files)  # so that the copy remembers its own folder
    return work


def reduced(folder: Path) -> Work:
    """A copy of the night's archive on SQLite, reduced once for all workers, by one process."""
    return copied(once("mini-reduced", _reduce_once), folder)


def begun(folder: Path) -> Work:
    """A copy of the night's archive on SQLite that has never seen the steps from `background` on."""
    return copied(once("mini-begun", _begin_once), folder)


def reduced_at(url: str, folder: Path) -> tuple[Work, dict[str, int]]:
    """The reduced night in place of an empty database of either engine, and what its only run did.

    On PostgreSQL it was reduced by two processes, once for all workers.
    """
    path = sqlite_path(parse_url(url))
    if path is not None:
        template = once("mini-reduced", _reduce_once)
        copy_sqlite(template / "archive.db", path)
    else:

        def make(place: Path) -> None:
            there = f"{url.rpartition('/')[0]}/mini_reduced"
            administer(f"{url.rpartition('/')[0]}/postgres", "CREATE DATABASE mini_reduced")
            first = Work(there, place / "files").worked(jobs=2)
            (place / "first.json").write_text(json.dumps(first))

        template = once("mini-reduced-postgresql", make)
        copy_postgres("mini_reduced", url)
    return _moved(url, template, folder), json.loads((template / "first.json").read_text())


def command(*words: str | Path) -> tuple[int, str, str]:
    """Exit code, output and messages of a command, in this process."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    argv = ["starledger", *(str(word) for word in words)]
    with mock.patch.object(sys, "argv", argv), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
    return int(code or 0), out.getvalue(), err.getvalue()
