"""Instrument definitions: the built-in ones, the user's, and the user's mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.errors import ConfigurationError
from reduction.instrument import builtin_definitions, definitions_from, identify, load_definitions


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def test_the_built_in_definitions() -> None:
    names = [definition.name for definition in builtin_definitions()]
    assert names == ["lt_skycamt", "microobservatory", "tircam2", "generic"]
    assert load_definitions() == builtin_definitions()
    assert all(definition.keywords["exptime"] and definition.times and definition.description for definition in builtin_definitions())


def test_what_a_definition_does_not_say_is_generic() -> None:
    skycamt, *_, generic = builtin_definitions()
    assert skycamt.keywords["pixel_scale"] == ("PIXSCALE", "CCDSCALE")
    assert skycamt.keywords["gain"] == generic.keywords["gain"]
    assert skycamt.image_types == generic.image_types


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ({"INSTRUME": "SkyCamT "}, "lt_skycamt"),
        ({"INSTRUME": "tircam2"}, "tircam2"),
        ({"REFERENC": "http://www.microobservatory.org"}, "microobservatory"),
        ({"INSTRUME": "ASI1600"}, "generic"),
        ({}, "generic"),
    ],
)
def test_headers_are_recognised(header: dict[str, str], name: str) -> None:
    assert identify(header).name == name


def test_a_users_definition_comes_first_and_needs_no_code(tmp_path: Path) -> None:
    path = write(
        tmp_path / "my.toml",
        """
        [[instrument]]
        name = "roof"
        match = { INSTRUME = "ASI*", TELESCOP = "Roof*" }
        keywords = { exptime = ["SHUTTER"] }
        default = { gain = 1.2, latitude = 47.0, longitude = 8.5 }
        [[instrument.times]]
        date = "CLOCK"
        at = "mid"
        """,
    )
    definition = identify({"INSTRUME": "ASI1600", "TELESCOP": "roof scope"}, load_definitions(path))
    assert (definition.name, definition.keywords["exptime"], definition.default["gain"]) == ("roof", ("SHUTTER",), 1.2)
    assert [(rule.keyword, rule.at) for rule in definition.times] == [("CLOCK", "mid")]
    assert definition.keywords["ra"] == builtin_definitions()[-1].keywords["ra"]


def test_a_built_in_definition_can_be_amended() -> None:
    amended = definitions_from({"instrument": [{"name": "tircam2", "default": {"gain": 10.0, "latitude": 29.36, "longitude": 79.68}}]})
    definition = identify({"INSTRUME": "TIRCAM2"}, amended)
    assert (definition.default["gain"], definition.keywords["imagetyp"]) == (10.0, ("IRAFNAME",))
    assert len(amended) == len(builtin_definitions())


def test_settings_for_every_instrument_win() -> None:
    every = definitions_from({"override": {"gain": 2.0}, "default": {"height": 100.0}})
    assert {definition.override["gain"] for definition in every} == {2.0}
    assert {definition.default["height"] for definition in every} == {100.0}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[instrument]\nname = 'a'", "instrument"),
        ("[[instrument]]\nmatch = {}", "name"),
        ("[[instrument]]\nname = 'a'", "match"),
        ("[[instrument]]\nname = 'a'\ncolour = 1", "colour"),
        ("[[instrument]]\nname = 'a'\nkeywords = { exposure = ['X'] }", "keywords.exposure"),
        ("[[instrument]]\nname = 'a'\nkeywords = { exptime = 'X' }", "keywords.exptime"),
        ("[[instrument]]\nname = 'a'\nkeywords = 'X'", "keywords"),
        ("[[instrument]]\nname = 'a'\nmatch = { INSTRUME = 5 }", "match"),
        ("[[instrument]]\nname = 'a'\nunits = { longitude = 'left' }", "units.longitude"),
        ("[[instrument]]\nname = 'a'\nunits = { dec = 'deg' }", "units.dec"),
        ("[[instrument]]\nname = 'a'\nimage_types = { x = 'comet' }", "image_types.x"),
        ("[[instrument]]\nname = 'a'\nblocked = { filters = 'X' }", "blocked.filters"),
        ("[[instrument]]\nname = 'a'\nlabel = 5", "label"),
        ("[[instrument]]\nname = 'a'\n[[instrument.times]]\nmjd = 'MJD'\njd = 'JD'", "times"),
        ("[[instrument]]\nname = 'a'\ntimes = 'UT'", "times"),
        ("[[instrument]]\nname = 'a'\n[[instrument.times]]\ndate = 'X'\nat = 'end'", "times"),
        ("[override]\ngain = 'high'", "override.gain"),
        ("[override]\ngain = -1.0", "override.gain"),
        ("[override]\nlatitude = 91", "override.latitude"),
        ("[override]\ntrim = 5", "override.trim"),
        ("[override]\nfilter = 5", "override.filter"),
        ("[default]\nairmass = 1.0", "default.airmass"),
        ("[default]\ntime_offset = 1.0", "default.time_offset"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, names: str) -> None:
    path = write(tmp_path / "my.toml", text)
    with pytest.raises(ConfigurationError) as caught:
        load_definitions(path)
    assert f"'{names}'" in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.hint


def test_files_that_are_no_toml_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        load_definitions(write(tmp_path / "bad.toml", "gain = = 5"))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_definitions(tmp_path / "missing.toml")
