"""The rules of the house, each as a test, so that nobody has to remember them."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("db", "reduction", "queries", "starledger")
MAX_LINES = 500
MAX_BODY = 60

SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "versions" not in path.parts)


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = [name for name in map(name_of, SOURCES) if name != "db.migrations.env"]
KERNELS = [name for name in MODULES if ".kernels." in name]


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def public(module: str) -> list[tuple[str, object]]:
    found = importlib.import_module(module)
    return [(name, getattr(found, name)) for name in getattr(found, "__all__", [])]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_module_is_short_and_so_are_its_functions(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_LINES
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: (node.end_lineno or 0) - body_start(node) + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > MAX_BODY} == {}


def body_start(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Line of the first statement after the docstring."""
    has_docstring = ast.get_docstring(node) is not None and len(node.body) > 1
    return node.body[1 if has_docstring else 0].lineno


@pytest.mark.parametrize("module", MODULES)
def test_public_names_exist_and_are_documented(module: str) -> None:
    undocumented = [name for name, value in public(module) if callable(value) and not own_docstring(value)]
    assert undocumented == []


def test_no_two_modules_of_the_reduction_share_a_name() -> None:
    names = Counter(name.rpartition(".")[2] for name in MODULES if name.startswith("reduction.") and "." in name[len("reduction.") :])
    packages = {name for name in MODULES if (ROOT / Path(*name.split("."))).is_dir()}
    names.subtract(name.rpartition(".")[2] for name in packages if name.startswith("reduction.") and name.count(".") > 1)
    assert [name for name, count in names.items() if count > 1] == []


def test_steps_are_imported_by_the_machine_alone() -> None:
    """What several steps use is a helper with a module of its own."""
    found = {
        (name_of(path), used)
        for path in SOURCES
        for used in imports_of(path)
        if re.fullmatch(r"reduction\.\w+\.\w+_step", used) and used in MODULES
    }
    assert found == set()


def own_docstring(value: object) -> str:
    text = inspect.getdoc(value) or ""
    # dataclass and Enum make up a text where nobody wrote one.
    generated = inspect.isclass(value) and (text.startswith(f"{value.__name__}(") or "__doc__" not in vars(value))
    return "" if generated else text


@pytest.mark.parametrize("module", KERNELS)
def test_kernels_document_every_parameter(module: str) -> None:
    missing = {}
    for name, value in public(module):
        if inspect.isfunction(value):
            text = inspect.getdoc(value) or ""
            absent = [parameter for parameter in inspect.signature(value).parameters if parameter not in text]
            if absent:
                missing[name] = absent
    assert missing == {}


@pytest.mark.parametrize("module", KERNELS)
def test_kernels_see_no_file_session_or_archive(module: str) -> None:
    path = ROOT / Path(*module.split(".")).with_suffix(".py")
    ours = {name for name in imports_of(path) if name.split(".")[0] in PACKAGES}
    allowed = re.compile(r"db|db\.(flags|errors)(\..*)?|reduction(\.\w+)?|reduction(\.\w+)?\.kernels(\..*)?")
    assert {name for name in ours if not allowed.fullmatch(name)} == set()
    outside = {name.split(".")[0] for name in imports_of(path)}
    assert outside.isdisjoint({"sqlalchemy", "psycopg2", "sqlite3", "pathlib", "os", "time", "logging", "random"})


@pytest.mark.parametrize("leaf", ["db/flags.py", "db/errors.py"])
def test_leaves_import_the_standard_library_only(leaf: str) -> None:
    assert {name.split(".")[0] for name in imports_of(ROOT / leaf)} <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_no_package_hides_under_tests() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def canonical(requirement: str) -> str:
    return re.split(r"[<>=!~;\[ ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_every_library_that_is_imported_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {canonical(line) for line in project["dependencies"]}
    optional = {canonical(line) for name, extra in project["optional-dependencies"].items() if name != "dev" for line in extra}
    roots = {name.split(".")[0] for path in SOURCES for name in imports_of(path)} - set(PACKAGES) - set(sys.stdlib_module_names)
    sources = packages_distributions()
    used = {root: {canonical(name) for name in sources.get(root, [root])} for root in roots}
    assert {root for root, names in used.items() if names.isdisjoint(core | optional)} == set()
    # SQLAlchemy imports the PostgreSQL driver, which the URL names.
    assert core - set().union(*used.values(), {"psycopg2-binary"}) == set(), "declared and never imported"


def test_locked_versions_cover_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    locked = (ROOT / "requirements.lock").read_text().replace(" \\\n    ", " ").splitlines()
    assert [line for line in locked if not re.fullmatch(r"[\w.-]+==[\w.]+( ; [^#]+?)?( --hash=sha256:[0-9a-f]{64})+", line)] == []
    assert {canonical(line) for line in wanted} <= {canonical(line) for line in locked}


@pytest.mark.parametrize("name", ["db", "reduction", "queries"])
def test_a_users_file_that_hides_a_package_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("")
    # The user's own folder comes first on the path, then this project.
    program = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import starledger"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError") and str(tmp_path / f"{name}.py") in last and "rename it" in last


def test_the_face_imports_where_nothing_hides_it(tmp_path: Path) -> None:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import starledger; assert 'numpy' not in sys.modules"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
