"""What only the frames of a camera together say: nights without a longitude, clocks of whole seconds, exposures that overlap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from mini_night import Work, command
from templates import make_schema

START = datetime(2024, 3, 8, 5, 0, 7)


def write(folder: Path, starts: Sequence[datetime], digits: int = 3, **cards: Any) -> list[Path]:
    """A frame for each start, whose time has so many digits behind the second."""
    folder.mkdir(exist_ok=True)
    paths = []
    for number, moment in enumerate(starts):
        fraction = f".{moment.microsecond:06d}"[: digits + 1] if digits else ""
        header = fits.Header([("DATE-OBS", f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}"), ("EXPTIME", 60.0), ("INSTRUME", "cam")])
        for keyword, value in cards.items():
            header[keyword.replace("_", "-")] = value
        pixels = np.random.default_rng(len(list(folder.iterdir()))).integers(300, 400, (12, 16)).astype(np.int16)
        paths.append(folder / f"{moment:%d%H%M%S}{number:03}.fits")
        fits.PrimaryHDU(pixels, header).writeto(paths[-1])
    return paths


def hawaii(milliseconds: int = 250) -> list[datetime]:
    """Two nights from 19:00 to 05:30 of Hawaii, that is 05:00 to 15:30 UTC."""
    return [START + timedelta(days=day, minutes=30 * k, milliseconds=milliseconds) for day in (0, 1) for k in range(22)]


def ingest(url: str, where: Path, *paths: Path, jobs: int = 1) -> Work:
    code, _, messages = command("ingest", *paths, "--archive", url, "--files", where / "files", "--jobs", jobs)
    assert code == 0, messages
    return Work(url, where / "files")


def nights(work: Work) -> list[tuple[Any, ...]]:
    query = (
        "SELECT evening, count(*) FROM frame f JOIN night n ON n.night_id = f.night_id JOIN exposure e ON e.exposure_id = f.exposure_id "
        "GROUP BY evening ORDER BY evening"
    )
    return [tuple(row) for row in work.sql(query)]


def notes(work: Work) -> set[str]:
    return {row[0] or "" for row in work.sql("SELECT notes FROM exposure")}


def test_a_night_of_hawaii_without_a_longitude_is_one_evening(archive_url: str, tmp_path: Path) -> None:
    make_schema(archive_url)
    write(tmp_path / "raw", hawaii())
    work = ingest(archive_url, tmp_path, tmp_path / "raw", jobs=2)
    assert nights(work) == [("2024-03-07", 22), ("2024-03-08", 22)]
    assert all("nights change at 22:16 UTC, within the longest gap" in note for note in notes(work))


def test_frames_that_come_one_after_the_other_come_to_the_same(new_archive: Callable[[str], str], tmp_path: Path) -> None:
    paths = write(tmp_path / "raw", hawaii())
    url = new_archive("sqlite")
    make_schema(url)
    for part in (paths[:1], paths[1:5], paths[5:20], paths[20:]):
        work = ingest(url, tmp_path, *part)
    assert nights(work) == [("2024-03-07", 22), ("2024-03-08", 22)]


@pytest.mark.parametrize("cards", [{"TZOFFSET": -10.0}, {"TIMEZONE": "UTC-10"}, {"SITELAT": 19.8, "SITELONG": -155.5}])
def test_what_the_header_has_is_used_first(new_archive: Callable[[str], str], tmp_path: Path, cards: dict[str, Any]) -> None:
    url = new_archive("sqlite")
    make_schema(url)
    write(tmp_path / "raw", hawaii(), **cards)
    work = ingest(url, tmp_path, tmp_path / "raw")
    assert nights(work) == [("2024-03-07", 22), ("2024-03-08", 22)] and notes(work) == {""}


def sigmas(work: Work) -> set[float]:
    return {round(row[0], 6) for row in work.sql("SELECT time_sigma FROM frame")}


def test_zeros_behind_every_second_are_no_milliseconds(archive_url: str, tmp_path: Path) -> None:
    make_schema(archive_url)
    write(tmp_path / "raw", hawaii(0))
    work = ingest(archive_url, tmp_path, tmp_path / "raw", jobs=2)
    assert sigmas(work) == {0.3}
    assert all("every time of DATE-OBS is a whole second: known to 0.3 s" in note for note in notes(work))


def test_zeros_by_chance_are_milliseconds(new_archive: Callable[[str], str], tmp_path: Path) -> None:
    url = new_archive("sqlite")
    make_schema(url)
    some = write(tmp_path / "raw", [*hawaii(0)[:1], *hawaii(137)[1:8]])
    assert sigmas(ingest(url, tmp_path, *some)) == {0.0005}
    # A later one of the same clock, whose digits are zero, is judged with those that are there.
    more = write(tmp_path / "raw", hawaii(0)[8:9])
    assert sigmas(ingest(url, tmp_path, *more)) == {0.0005}


def test_one_zero_is_no_proof_and_four_are(new_archive: Callable[[str], str], tmp_path: Path) -> None:
    for count, sigma in ((1, 0.05), (4, 0.3)):
        url = new_archive("sqlite")
        make_schema(url)
        paths = write(tmp_path / f"raw{count}", hawaii(0)[:count], digits=1)
        assert sigmas(ingest(url, tmp_path / str(count), *paths)) == {sigma}


def test_an_exposure_longer_than_the_time_to_the_next_is_noted(archive_url: str, tmp_path: Path) -> None:
    make_schema(archive_url)
    starts = [START + timedelta(seconds=62 * k, milliseconds=137) for k in range(5)]
    write(tmp_path / "raw", starts, EXPTIME=60000.0, TZOFFSET=-10.0)
    found = sorted(notes(ingest(archive_url, tmp_path, tmp_path / "raw")))
    said = "an exposure time of 60000 s, and the next exposure begins 62 s after this one: is it in milliseconds?"
    assert len(found) == 2 and found[0] == "" and said in found[1]  # of the last nobody knows
    assert "units.exptime" in found[1]
    write(tmp_path / "fine", starts, TZOFFSET=-10.0, INSTRUME="other")
    assert "" in notes(ingest(archive_url, tmp_path, tmp_path / "fine"))


def test_two_cameras_of_one_model_side_by_side_overlap_and_are_none(archive_url: str, tmp_path: Path) -> None:
    """Each at its own pace: what the other begins meanwhile says nothing of an exposure's length."""
    make_schema(archive_url)
    for serial, offset in (("A1", 0), ("B2", 7)):
        starts = [START + timedelta(seconds=70 * k + offset, milliseconds=250) for k in range(6)]
        write(tmp_path / serial, starts, CAMSN=serial)
    work = ingest(archive_url, tmp_path, tmp_path / "A1", tmp_path / "B2")
    assert work.sql("SELECT count(DISTINCT instrument_id) FROM frame") == [(2,)]
    assert not [note for note in notes(work) if "next exposure begins" in note]
    # And one frame of each later, against what the archive has.
    write(tmp_path / "later", [START + timedelta(seconds=70 * 6 + 7)], CAMSN="B2")
    ingest(archive_url, tmp_path, tmp_path / "later")
    assert not [note for note in notes(work) if "next exposure begins" in note]
