"""Cameras of one model are told apart by what their definition names, and a setting makes a set-up and no other camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mini_night import Work
from raw_frames import object_frame, write_frame


@pytest.fixture
def work(archive_url: str, tmp_path: Path) -> Work:
    return Work(archive_url, tmp_path / "files")


def cameras(work: Work, tmp_path: Path, *headers: dict[str, Any], config: str = "") -> list[str]:
    """Instrument of each of some frames that differ in their headers alone, in their order."""
    for k, cards in enumerate(headers):
        write_frame(tmp_path / "raw" / f"{k}.fits", object_frame(k), 90.0 * k, **cards)
    options: dict[str, Any] = {}
    if config:
        (tmp_path / "c.toml").write_text(config)
        options["config"] = tmp_path / "c.toml"
    tallies = work.tallies([tmp_path / "raw"], catalogues=[], steps=["ingest"], **options)
    assert tallies[0].failed == {}
    rows = work.sql("SELECT i.name FROM exposure e JOIN instrument i ON i.instrument_id = e.instrument_id ORDER BY e.exposure_id")
    return [name for (name,) in rows]


def n_setup(work: Work) -> int:
    return int(work.sql("SELECT count(*) FROM setup")[0][0])


SITE = {"SITELAT": 28.76, "SITELONG": -17.88}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"CAMSN": "A17"}, {"CAMSN": "B04"}),
        ({"SERIALNO": 1207}, {"SERIALNO": 1208}),
        ({"FOCALLEN": 400.0}, {"FOCALLEN": 1200.0}),
        (SITE, {"SITELAT": -30.17, "SITELONG": -70.80}),
        ({"CAMSN": "A17", **SITE}, {"CAMSN": "B04", **SITE}),
    ],
)
def test_two_cameras_of_one_model_are_two_instruments(work: Work, tmp_path: Path, one: dict[str, Any], other: dict[str, Any]) -> None:
    names = cameras(work, tmp_path, one, other, one, other)
    assert names[0] == names[2] == "Camera" and names[1] == names[3] and names[1].startswith("Camera (")
    # Their frames share no set-up, and with it no masters.
    assert n_setup(work) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"CAMSN": "A17"}, {"CAMSN": "a17 "}),
        ({"FOCALLEN": 400.0}, {"FOCALLEN": 403.2}),
        (SITE, {"SITELAT": 28.8, "SITELONG": "-17 52 45"}),
        ({"CAMSN": "A17", **SITE}, {"CAMSN": "A17", "SITELAT": 50.1, "SITELONG": 8.6}),
        ({"CAMSN": "A17"}, {}),
        ({}, {"CAMSN": "A17", "FOCALLEN": 400.0}),
    ],
)
def test_one_camera_is_one_instrument(work: Work, tmp_path: Path, one: dict[str, Any], other: dict[str, Any]) -> None:
    assert set(cameras(work, tmp_path, one, other)) == {"Camera"} and n_setup(work) == 1


@pytest.mark.parametrize("setting", ["GAINSET", "OFFSET", "READOUTM"])
def test_a_setting_makes_another_set_up_of_the_same_camera(work: Work, tmp_path: Path, setting: str) -> None:
    values = ("Fast", "Slow") if setting == "READOUTM" else (100, 200)
    names = cameras(work, tmp_path, *({"CAMSN": "A17", setting: value} for value in values))
    assert names == ["Camera", "Camera"] and n_setup(work) == 2


def test_where_the_header_does_not_say_which_of_two_it_is_it_is_neither_and_noted(work: Work, tmp_path: Path) -> None:
    names = cameras(work, tmp_path, {"CAMSN": "A17"}, {"CAMSN": "B04"}, {}, {})
    assert names[2] == names[3] and len(set(names)) == 3
    notes = [note or "" for (note,) in work.sql("SELECT notes FROM exposure ORDER BY exposure_id")]
    assert "does not say which of Camera, Camera (camera_serial B04)" in notes[2]


def test_the_rule_is_the_definitions_and_what_differs_otherwise_is_noted(work: Work, tmp_path: Path) -> None:
    rule = '[[instrument]]\nname = "mine"\nidentity = ["telescope"]\nlabel = "mine"\nmatch = { INSTRUME = "Camera" }\n'
    one, other, third = {"TELESCOP": "A", "FOCALLEN": 400.0}, {"TELESCOP": "A", "FOCALLEN": 800.0}, {"TELESCOP": "B", "FOCALLEN": 400.0}
    assert cameras(work, tmp_path, one, other, third, config=rule) == ["mine", "mine", "mine (telescope B)"]
    notes = [note or "" for (note,) in work.sql("SELECT notes FROM exposure ORDER BY exposure_id")]
    assert "focal_length 800 mm, where mine had focal_length 400 mm before: taken as one instrument" in notes[1]
    assert "focal_length" not in notes[0] + notes[2]
