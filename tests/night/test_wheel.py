"""What a user gets: the built wheel, in an environment and a folder that know nothing of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("db", "reduction", "queries", "starledger")
Run = Callable[..., subprocess.CompletedProcess[str]]


def run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a build in place would pick up what earlier builds left behind."""
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist", source)
    (built,) = (source / "dist").glob("starledger-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a command of an environment with the wheel in it; the dependencies are borrowed from this one."""
    home = tmp_path_factory.mktemp("wheel") / "venv"
    venv.create(home)
    scripts = home / ("Scripts" if sys.platform == "win32" else "bin")
    python = scripts / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    # A path in a .pth file is only appended: this environment's own .pth files, and so the checkout, stay unseen.
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
    (site / "dependencies.pth").write_text("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "STARLEDGER"))}

    def installed_run(command: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return run(scripts / command, *arguments, cwd=cwd, env=environment)

    return installed_run


def test_wheel_holds_the_packages_and_their_data_and_nothing_else(wheel: Path) -> None:
    names = [Path(name) for name in zipfile.ZipFile(wheel).namelist()]
    assert {name.parts[0] for name in names if not name.parts[0].endswith(".dist-info")} == set(PACKAGES)
    wanted = [path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*")]
    wanted = [path for path in wanted if path.suffix in {".py", ".toml", ".mako"} or path.name == "py.typed"]
    assert sorted(set(wanted) - set(names)) == []


def test_packages_come_from_the_wheel(installed: Run, tmp_path: Path) -> None:
    program = "import db, reduction, queries, starledger; print(db.__file__, starledger.__file__)"
    found = installed("python", "-c", program, cwd=tmp_path).stdout
    assert "wheel" in found and str(ROOT / "db") not in found


def test_first_commands_in_an_empty_folder(installed: Run, tmp_path: Path) -> None:
    assert "reduce" in installed("starledger", "--help", cwd=tmp_path).stdout
    installed("starledger", "init", cwd=tmp_path)
    assert (tmp_path / "starledger.db").exists()
    installed("starledger", "db", "check", cwd=tmp_path)
