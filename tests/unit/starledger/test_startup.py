"""What commands import: nothing heavy that they do not use."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import small_archive
from small_archive import SmallArchive

import starledger

#: Runs the command line, then tells on the error stream's last line which modules were imported.
HOOK = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
from starledger.cli import main
main()
"""
NUMERICS = {"numba", "scipy.signal", "astropy", "matplotlib", "photutils", "sep"}


@pytest.fixture(scope="module")
def archive(new_archive: Callable[[str], str]) -> SmallArchive:
    """A small archive in SQLite."""
    built = small_archive.build(new_archive("sqlite"), n_frame=6, n_source=6)
    built.engine.dispose()
    return built


def imported(*arguments: str) -> tuple[str, set[str]]:
    """What a command prints, and the modules that it imported."""
    ran = subprocess.run([sys.executable, "-c", HOOK, *arguments], capture_output=True, text=True, check=False)
    *said, modules = ran.stderr.splitlines()
    assert ran.returncode == 0, said
    return ran.stdout, set(json.loads(modules))


def test_help_imports_neither_database_nor_numerics() -> None:
    printed, modules = imported("--help")
    assert "magnitude_fit" in printed
    assert not modules & {*NUMERICS, "pandas", "alembic", "sqlalchemy", "numpy"}
    assert len(modules) < 600


@pytest.mark.parametrize("style", ["table", "csv", "ecsv"])
@pytest.mark.parametrize("by", ["id", "degrees", "sexagesimal"])
def test_a_curve_is_printed_without_astropy_and_pandas(archive: SmallArchive, by: str, style: str) -> None:
    ra, dec = float(archive.ra[0]), float(archive.dec[0])
    what = {"id": str(archive.target), "degrees": f"{ra:.6f} {dec:.6f}", "sexagesimal": f"{_sexagesimal(ra / 15)} {_sexagesimal(dec)}"}
    printed, modules = imported("lc", what[by], "--format", style, "--archive", _url(archive))
    assert "bjd_tdb" in printed
    assert not modules & {*NUMERICS, "pandas", "alembic"}
    assert len(modules) < 1100


@pytest.mark.parametrize("line", [["sql", "SELECT 1 AS one"], ["target", "list"]], ids=" ".join)
def test_tables_need_no_numerics(archive: SmallArchive, line: list[str]) -> None:
    printed, modules = imported(*line, "--archive", _url(archive))
    assert printed.strip()
    assert not modules & {*NUMERICS, "alembic"}
    assert len(modules) < 1900


def test_status_draws_and_tabulates_nothing(tmp_path: Path) -> None:
    # It asks every step what is pending, and steps import their kernels.
    imported("init", "--archive", f"{tmp_path}/empty.db")
    printed, modules = imported("status", "--archive", f"{tmp_path}/empty.db")
    assert "magnitude_fit" in printed
    assert not modules & {"matplotlib", "pandas", "photutils", "alembic", "pyvo", "requests", "scipy.stats", "scipy.signal"}
    # Most of them are scipy, astropy, SQLAlchemy and numba, which the steps' own modules import.
    assert len(modules) < 2100


def test_python_runs_the_package_as_the_command_line(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "starledger"]
    ran = subprocess.run([*line, "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"starledger {starledger.__version__}\n"
    refused = subprocess.run([*line, "status", "--archive", str(tmp_path / "none.db")], capture_output=True, text=True, check=False)
    assert refused.returncode == 3 and "no such archive" in refused.stderr


def test_the_package_imports_nothing_heavy() -> None:
    code = "import json, sys, starledger; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(json.loads(ran.stdout)) & {*NUMERICS, "pandas", "alembic", "sqlalchemy", "numpy"}


def _url(archive: SmallArchive) -> str:
    return archive.engine.url.render_as_string(hide_password=False)


def _sexagesimal(value: float) -> str:
    thirds = round(value * 3600e3)
    return f"{thirds // 3600000:02d}:{thirds // 60000 % 60:02d}:{thirds % 60000 / 1000:06.3f}"
