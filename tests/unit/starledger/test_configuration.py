"""The configuration as a text: what is printed is read back as it was, a file is checked, an archive's own is shown."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
from mini_night import command

from db.errors import ConfigurationError
from reduction.pipeline.order import STEPS
from reduction.pipeline.parameters import read_parameters
from starledger.archive import create_archive
from starledger.configuration import OTHER_SECTIONS, configuration_text, read_configuration, settings_in_force, toml_value
from starledger.reduce import reduce

GIVEN = """
[detect]
threshold = 5
[slots]
radii = [3.0, 4.5]
[solve]
index_folder = "C:\\\\in \\"quotes\\"\\u007f"
[catalogue_columns]
B-V = "colour"
[default]
gain = 1.42
[[instrument]]
name = "roof"
label = "roof {INSTRUME}"
match = { INSTRUME = "QHY*", TELESCOP = "Roof*" }
[instrument.image_types]
"*snap*" = "object"
[[instrument.times]]
date = "UTMID"
at = "mid"
[[instrument]]
name = "cellar"
match = { INSTRUME = "C*" }
"""


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(GIVEN, "utf-8")
    return path


def parameters(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: read_parameters(step.parameters, settings.get(name, {}), name) for name, step in STEPS.items()}


def test_the_printed_defaults_are_the_defaults(tmp_path: Path) -> None:
    code, out, _ = command("config")
    assert code == 0
    settings = tomllib.loads(out)
    assert list(settings) == list(STEPS)
    assert {name: list(section) for name, section in settings.items()} == {
        name: [field.name for field in dataclasses.fields(step.parameters)] for name, step in STEPS.items()
    }
    assert parameters(settings) == {name: step.parameters() for name, step in STEPS.items()}
    (tmp_path / "all.toml").write_text(out, "utf-8")
    assert read_configuration(tmp_path / "all.toml") == settings
    assert "differs" not in out


def test_every_parameter_has_its_help_unit_and_range() -> None:
    text = configuration_text()
    for step in STEPS.values():
        assert f"# {step.summary}\n[{step.name}]\n" in text
        for field in dataclasses.fields(step.parameters):
            assert f"# {field.metadata['help']}" in text
    assert "(4 to 4096)\nbox = 32\n" in text and "[pixel] (" in text


def test_the_examples_of_the_other_sections_are_allowed(tmp_path: Path) -> None:
    text = configuration_text()
    lines = [line.removeprefix("# ") for line in text[text.index("# Other sections") :].splitlines()[1:]]
    (tmp_path / "examples.toml").write_text("\n".join(lines), "utf-8")
    assert set(read_configuration(tmp_path / "examples.toml")) == set(OTHER_SECTIONS)


def test_a_configuration_is_read_back_as_it_was(given: Path) -> None:
    settings = read_configuration(given)
    text = configuration_text(settings)
    again = tomllib.loads(text)
    assert parameters(again) == parameters(settings)
    assert {name: again[name] for name in OTHER_SECTIONS if name in again} == {
        name: settings[name] for name in OTHER_SECTIONS if name in settings
    }
    assert "threshold = 5.0  # differs: the default is 4.0\n" in text
    assert text.count("# differs") == 3
    assert "# [override]" in text and "# [default]" not in text


@pytest.mark.parametrize("value", [True, -3, 3e-5, 1e300, 'a "b" \\ \n ü', [1, 2], {"a b": {"c": []}, "d": {}}])
def test_values_as_toml(value: Any) -> None:
    assert tomllib.loads(f"x = {toml_value(value)}") == {"x": value}


def test_the_configuration_of_an_archive(given: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    archive = create_archive(url)
    assert settings_in_force(archive) == {}
    code, out, _ = command("config", "--archive", url)
    assert code == 0 and "in force" in out and "differs" not in out.split("\n\n", 1)[1]
    reduce(archive, steps=["classify"], config=given)
    reduce(archive, steps=["classify"])
    archive.engine.dispose()
    code, out, _ = command("config", "--archive", url)
    assert code == 0 and parameters(tomllib.loads(out)) == parameters(read_configuration(given))
    assert "threshold = 5.0  # differs: the default is 4.0\n" in out


def test_an_archive_that_is_not_there(tmp_path: Path) -> None:
    code, _, messages = command("config", "--archive", tmp_path / "absent.db")
    assert code == 3 and "no such archive" in messages


def test_a_kept_value_that_this_version_does_not_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    archive = create_archive(url)
    with monkeypatch.context() as patch:
        patch.setattr("starledger.reduce.read_configuration", lambda _: {"background": {"box": 0}, "extract": {"x": 1}})
        reduce(archive, steps=["classify"], config=tmp_path / "as an older version kept it")
    archive.engine.dispose()
    code, _, messages = command("reduce", "--archive", url)
    assert code == 2 and "the archive's configuration (another is given with --config) [background]: box = 0 is out of range" in messages


def test_a_section_of_another_version_is_named() -> None:
    assert "# [extract] is no section of this version and is not used.\n" in configuration_text({"extract": {"x": 1}})


def test_a_file_is_checked(given: Path) -> None:
    code, out, _ = command("config", given)
    assert (code, out) == (0, f"{given}: OK\n")
    code, _, messages = command("config", given, "--archive", "a.db")
    assert code == 2 and "give FILE to check it, or --archive" in messages


@pytest.mark.parametrize(
    ("text", "code", "what"),
    [
        ("[background]\nbox = 0\n", "config.range", "[background]: box = 0 is out of range; allowed is 4 to 4096 pixel"),
        ("[background]\nclip = -1\n", "config.range", "[background]: clip = -1.0 is out of range; allowed is 1 to 100 sigma"),
        ("[background]\nclip = nan\n", "config.range", "clip = nan is out of range"),
        ("[background]\nbox = true\n", "config.value", "box = True is of the wrong type"),
        ("[background]\nbax = 32\n", "config.key", "known are: box"),
        ("[catalogue_columns]\nrar = 'x'\n", "config.key", "[catalogue_columns]: no quantity 'rar'"),
        ("[catalogue_columns]\nra = 1\n", "config.value", 'write QUANTITY = "COLUMN"'),
        ("catalogue_columns = 1\n", "config.value", 'write QUANTITY = "COLUMN"'),
        ("[default]\ngane = 1\n", "configuration.instrument", "gane"),
        ("background = 1\n", "config.section", "background = 1 is no section; write [background]"),
        ("[backgrund]\n", "config.section", "no section 'backgrund'"),
        ("[background\n", "config.toml", "not valid TOML"),
        pytest.param(f"[background]\nbox = {'9' * 5000}\n", "config.toml", "not valid TOML", id="digits"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str, code: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(path)
    assert caught.value.code == code
    status, out, messages = command("config", path)
    assert (status, out) == (2, "")
    assert messages.count("\n") == 1 and what in messages and str(path) in messages
