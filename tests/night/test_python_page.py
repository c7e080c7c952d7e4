"""The page of Python: it has every command, and what it says runs, as do the examples of the docstrings."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import tifffile
from command_lines import COMMANDS, command_of, parse
from mini_night import SIZE, Night, Work
from templates import make_schema

import starledger
from starledger.archive import Archive
from starledger.demo import read_truth, run, simulate_night
from starledger.keeping import Keeping
from starledger.namespaces import Frames, Masks, Masters, Nights, References
from starledger.solving import SolvedFile
from starledger.targets import Targets

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "python.md").read_text("utf-8")
PAIRS = re.findall(r"^\| `(starledger .*?)` \| `(.*?)` \|$", PAGE, re.MULTILINE)
#: An archive of PostgreSQL's, of the examples that need one.
SERVER = "postgresql://me@host/night"
CLASSES = (Archive, Keeping, Targets, Masks, Frames, Masters, Nights, References, SolvedFile)


def pieces() -> Iterator[str]:
    """The page's Python from top to bottom: blocks and second columns."""
    for block, pair in re.findall(r"^```python\n(.*?)^```|^\| `starledger .*?` \| `(.*?)` \|$", PAGE, re.DOTALL | re.MULTILINE):
        yield block or pair


def public() -> dict[str, Any]:
    """Every public function of the package and every public method of its classes."""
    found = {f"starledger.{name}": getattr(starledger, name) for name in starledger.__all__}
    for one in CLASSES:
        found |= {f"{one.__name__}.{name}": value for name, value in vars(one).items() if not name.startswith("_")}
    return {name: value for name, value in found.items() if inspect.isfunction(value)}


PUBLIC = public()


def test_every_command_has_its_pair() -> None:
    assert {command_of(line) for line, _ in PAIRS} == set(COMMANDS)


@pytest.mark.parametrize("line", [line for line, _ in PAIRS])
def test_command_lines_parse(line: str) -> None:
    parse(line)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_have_an_example(name: str) -> None:
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(PUBLIC[name]) or "")
    assert any(name.rpartition(".")[2] in example.source for example in examples)
    assert "Examples\n--------" in inspect.getdoc(PUBLIC[name])


def test_every_method_is_on_the_page_or_no_command() -> None:
    """What a command does has a pair; the rest is for programs."""
    called = {node.attr for piece in pieces() for node in ast.walk(ast.parse(piece)) if isinstance(node, ast.Attribute)}
    assert {name for name in PUBLIC if name.rpartition(".")[2] not in called} == {
        "Archive.only_writer",
        "Archive.reading",
        "Archive.writing",
    }


@pytest.fixture
def folder(reduced: Work, night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A working folder as the examples suppose it, entered; the names that they use."""
    for place in ("nights", "disk2/nights"):
        (tmp_path / place).mkdir(parents=True)
        night.link(tmp_path / place / "2026-03-24")
    (tmp_path / "disk2" / "night-files").symlink_to(reduced.files)
    (tmp_path / "archive.db").rename(tmp_path / "starledger.db")
    shutil.copy(night.catalogue, tmp_path / "field.ecsv")
    (tmp_path / "light_001.fits").symlink_to(night.objects()[0])
    (tmp_path / "roof.toml").write_text("[override]\nread_noise = 1.5\n")
    tifffile.imwrite(tmp_path / "IMG_0001.tif", np.arange(1200, dtype=np.uint16).reshape(30, 40))
    (tmp_path / "positions.csv").write_text("name,ra,dec\nhere,31.1,46.7\nthere,31.2,46.7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STARLEDGER_ARCHIVE", raising=False)
    monkeypatch.setattr(run, "simulate_night", partial(simulate_night, **SIZE))
    archive = starledger.open("starledger.db")
    assert archive.relocate(night.raw, "nights/2026-03-24") == len(night.calibration()) + len(night.objects())
    truth = read_truth(night.folder)
    ra, dec = (float(values[truth.signals[0].star]) for values in truth.positions())
    archive.targets.add("HAT-P-32 b", f"{ra:.6f} {dec:.6f}")
    archive.targets.measure()
    star = archive.curve("HAT-P-32 b").found.source_id
    return {"starledger": starledger, "archive": archive, "star": star, "pandas": pandas}


@pytest.fixture
def server(new_archive: Callable[[str], str]) -> str:
    url = new_archive("postgresql")
    make_schema(url)
    return url


def test_the_page_runs(folder: dict[str, Any], server: str) -> None:
    names: dict[str, Any] = {}
    for piece in pieces():
        exec(compile(piece.replace(SERVER, server), f"docs/python.md: {piece[:60]}", "exec"), names)
    archive = names["archive"]
    assert names["failed"] == [] and names["remarks"] == archive.remarks()
    assert names["read_noise"] == 1.5 and abs(names["ra"] - names["curve"].meta["ra"]) < 0.5
    assert list(archive.masks.list()["source_id"]) == [names["star"]]
    assert list(archive.masters.choices()["is_active"]) == [0, 1]
    assert archive.files == Path("disk2/night-files").absolute()
    assert {"hatp32.csv", "hatp32.png", "nights.csv", "light_001.png", "solved_001.fits", "fits", "night.db"} <= {
        path.name for path in Path().iterdir()
    }
    _close(names)


@pytest.mark.long
def test_the_examples_of_docstrings_run(folder: dict[str, Any], server: str) -> None:
    for name, value in PUBLIC.items():
        scope = {**folder, "archive": starledger.open("starledger.db")}
        for example in doctest.DocTestParser().get_examples(inspect.getdoc(value) or ""):
            exec(compile(example.source.replace(SERVER, server), f"{name}: {example.source[:60]}", "exec"), scope)
        _close(scope)
    folder["archive"].close()


def _close(names: dict[str, Any]) -> None:
    for value in names.values():
        if isinstance(value, Archive):
            value.close()
