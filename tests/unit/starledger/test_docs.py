"""The documentation says what the code does: generated pages, examples, the configuration, links."""

from __future__ import annotations

import ast
import re
import shlex
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from command_lines import COMMANDS, parse
from typer.testing import CliRunner

from db.tables import Base
from db.views import VIEWS
from reduction.catalogues import columns
from reduction.headers.instrument import definitions_from, identify
from reduction.pipeline.declaration import read_parameters
from reduction.pipeline.order import STEPS
from starledger.archive import Archive
from starledger.cli.app import app
from starledger.docs import PAGES, examples
from starledger.reduce import settings_for

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
PROSE = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", PAGES)
def test_committed_page_is_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text("utf-8") == PAGES[name](), "run make docs"


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_help_and_an_example(path: str) -> None:
    found = examples(COMMANDS[path])
    assert found, 'no line "Example: starledger ..." in its docstring'
    assert all(line.startswith(f"{path} ") or line == path for line in found)
    undescribed = [parameter.name for parameter in COMMANDS[path].params if not parameter.help]
    assert undescribed == []


@pytest.mark.parametrize("path", COMMANDS)
def test_examples_parse(path: str) -> None:
    for line in examples(COMMANDS[path]):
        parse(line)


@pytest.mark.parametrize("page", PROSE, ids=name_of)
def test_command_lines_on_pages_parse(page: Path) -> None:
    for block in blocks(page, "sh"):
        # A statement in quotes may go over several lines.
        for line in re.split(r"^(?=starledger )", block, flags=re.MULTILINE):
            if line.startswith("starledger "):
                parse(line)


def test_a_line_with_an_unknown_option_does_not_parse() -> None:
    with pytest.raises(Exception, match="--no-such"):
        parse("starledger status --no-such")


def test_make_targets_on_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for page in PROSE for block in blocks(page, "sh") for name in re.findall(r"^make ([a-z]+)", block, re.MULTILINE)}
    assert {"demo", "test", "docs"} <= named <= targets


@pytest.mark.parametrize("page", PROSE, ids=name_of)
def test_python_on_pages_is_python(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(textwrap.dedent(block))):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "archive":
                assert callable(getattr(Archive, called.attr))


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PROSE, ids=name_of)
def test_links_to_sections_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]*)#([^)]*)\)", page.read_text("utf-8"))
    assert [(file, anchor) for file, anchor in links if anchor not in anchors(page.parent / file if file else page)] == []


def test_every_table_and_view_is_on_the_schema_page() -> None:
    assert {*Base.metadata.tables, *VIEWS} <= anchors(DOCS / "schema.md")


def test_every_step_has_its_parameters_on_the_page() -> None:
    text = (DOCS / "steps.md").read_text("utf-8")
    for step in STEPS.values():
        section = re.search(rf"^## {step.name}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
        assert section is not None
        assert re.findall(r"^\| `(\w+)`", section[1], re.MULTILINE) == list(step.parameters.__dataclass_fields__)


def test_defaults_on_the_steps_page_can_be_written_into_a_configuration() -> None:
    text = (DOCS / "steps.md").read_text("utf-8")
    for name, section in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE):
        lines = [f"{key} = {value}" for key, value in re.findall(r"^\| `(\w+)` \| `(.*?)` \|", section, re.MULTILINE)]
        kind = STEPS[name].parameters
        assert read_parameters(kind, tomllib.loads("\n".join(lines)), name) == kind()


@pytest.fixture
def configured(tmp_path: Path) -> dict[str, Any]:
    """The example of the configuration page, as a run takes it in."""
    (example,) = blocks(DOCS / "configuration.md", "toml")
    path = tmp_path / "roof.toml"
    path.write_text(example, "utf-8")
    return settings_for(cast(Archive, None), path)  # with a file given, the archive is not asked


def test_the_example_configuration_sets_parameters(configured: dict[str, Any]) -> None:
    for name in STEPS.keys() & configured.keys():
        parameters = read_parameters(STEPS[name].parameters, configured[name], name)
        assert parameters != STEPS[name].parameters()
    assert {"detect", "slots", "magnitude_fit"} <= configured.keys()


def test_the_example_configuration_defines_an_instrument(configured: dict[str, Any]) -> None:
    found = identify({"INSTRUME": "QHY 268", "TELESCOP": "Roof 1"}, definitions_from(configured))
    assert found.name == "roof"
    assert found.keywords["exptime"] == ("SHUTTER",)
    assert (found.times[0].keyword, found.times[0].at) == ("UTMID", "mid")
    assert found.default["latitude"] == 46.315
    assert found.default["saturation"] == 62000.0
    assert found.override == {"time_sigma": 0.05, "time_offset": -0.35}


def test_the_configuration_page_names_every_section_and_catalogue_column(configured: dict[str, Any]) -> None:
    text = (DOCS / "configuration.md").read_text("utf-8")
    assert configured.keys() >= {"instrument", "default", "override", "catalogue_columns"}
    assert {name for name in (*columns.NAMES, *columns.BANDS) if f"`{name}`" not in text} == set()
    assert set(configured["catalogue_columns"]) <= {*columns.NAMES, *columns.BANDS}


def test_the_readmes_statement_runs(tmp_path: Path) -> None:
    block = next(block for block in blocks(ROOT / "README.md", "sh") if "SELECT" in block)
    url = f"sqlite:///{tmp_path / 'archive.db'}"
    run: Callable[..., Any] = CliRunner().invoke
    assert run(app, ["init", "--archive", url]).exit_code == 0
    result = run(app, [*shlex.split(block)[1:], "--archive", url, "--format", "csv"])
    assert (result.exit_code, result.stdout.strip()) == (0, "bjd_tdb,mag,mag_err,airmass,fwhm")


def test_pictures_are_small() -> None:
    assert {name_of(path) for path in DOCS.rglob("*.png") if path.stat().st_size > 200_000} == set()


def test_every_decision_is_listed_and_follows_the_template() -> None:
    folder = DOCS / "decisions"
    wanted = re.findall(r"^## .*$", (folder / "0000-template.md").read_text("utf-8"), re.MULTILINE)
    listed = (folder / "README.md").read_text("utf-8")
    for page in sorted(folder.glob("0*.md")):
        assert page.name in listed
        assert re.findall(r"^## .*$", page.read_text("utf-8"), re.MULTILINE) == wanted
        assert re.match(rf"# {page.name[:4]}: ", page.read_text("utf-8"))
