"""What lies in the folder that the program is started in is none of its modules."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from killed import words
from mini_night import Night, Work

from reduction.astrometry import blind

#: What the program, its workers and its libraries import, early and late.
PLANTED = (
    "json",
    "struct",
    "pickle",
    "socket",
    "random",
    "selectors",
    "tempfile",
    "numpy",
    "astropy",
    "sqlalchemy",
    "db",
    "reduction",
    "astrometry",
)


@pytest.fixture
def folder(tmp_path: Path, night: Night) -> Path:
    """A downloaded night, with more than frames in it."""
    made = night.link(tmp_path / "downloaded")
    for name in PLANTED:
        (made / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')\nraise SystemExit(77)\n")
    return made


@pytest.mark.long
def test_a_reduction_runs_no_module_of_the_folder(folder: Path, tmp_path: Path, new_archive: Callable[[str], str], night: Night) -> None:
    work = Work(new_archive("sqlite"), tmp_path / "files")
    command = [Path(sys.executable).with_name("starledger"), *words(work, [Path()], night.catalogue, jobs=2)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()
    assert done.returncode == 0, done.stderr
    assert work.sql("SELECT count(*) FROM task WHERE step = 'detect' AND status = 'done'")[0][0] > 0


def test_nor_does_the_blind_solver(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with a complaint, since there are no index files; how it begins is what counts."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(blind.importlib.util, "find_spec", lambda _name: True)
    with contextlib.suppress(blind._Stopped):
        blind._package(blind._Task(np.zeros((3, 2)), (100, 100), [], (1.0, 2.0), None, 20.0))
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()
