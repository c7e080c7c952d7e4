"""Whatever number a header has, both engines say the same: a plausible one is taken, another is passed over or refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from mini_night import Work, command
from templates import make_schema

from reduction.frames import ingest_step
from reduction.headers.fact_list import FACTS
from reduction.headers.instrument import builtin_definitions

GENERIC = builtin_definitions()[-1]
EXTREMES = (-1e300, 1e-300, 32768, 1e10, 10**25, 1e300)
MOMENTS = ("0001-01-01", "1899-12-31", "1910-01-01", "1911-01-02", "2088-12-31", "2089-12-31", "2099-06-01", "9999-12-31")


def write(folder: Path, number: int, **cards: Any) -> None:
    """A frame with these cards beside what a frame needs; the keyword of a fact is the first that the generic definition knows."""
    header = fits.Header([("EXPTIME", 30.0), ("DATE-OBS", "2020-01-02T03:04:05.6"), ("IMAGETYP", "Light")])
    for keyword, value in cards.items():
        header[keyword] = value
    pixels = np.random.default_rng(number).integers(300, 400, (12, 16)).astype(np.int16)
    fits.PrimaryHDU(pixels, header).writeto(folder / f"{number:04}-{'-'.join(cards)}.fits")


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """A frame for each extreme of each fact and of the time."""
    folder = tmp_path / "raw"
    folder.mkdir()
    facts = [name for name, kind in FACTS.items() if kind.form in ("number", "angle") and GENERIC.keywords.get(name)]
    assert len(facts) > 20
    number = 0
    for name in facts:
        limits = [value for limit in (FACTS[name].low, FACTS[name].high) if np.isfinite(limit) for value in (limit, limit * 1.01)]
        for value in (*EXTREMES, *limits):
            number += 1
            cards = {"XBINNING": value, "YBINNING": value} if name.startswith("binning") else {GENERIC.keywords[name][0]: value}
            write(folder, number, **cards)
    for moment in MOMENTS:
        number += 1
        write(folder, number, **{"DATE-OBS": f"{moment}T12:00:00"})
    for keyword in ("MJD-OBS", "JD"):
        for value in (0.5, 19000.5, 88000.25, 2415021.5, 2488000.25, 1e300):
            number += 1
            write(folder, number, **{keyword: value, "DATE-OBS": "unknown"})
    return folder


def outcome(url: str, frames: Path, files: Path) -> list[list[tuple[Any, ...]]]:
    """What became of each file, and all that is known of it."""
    make_schema(url)
    code, _, messages = command("ingest", frames, "--archive", url, "--files", files, "--jobs", "1")
    assert code == 1 and "please report" not in messages and "Traceback" not in messages, messages
    work = Work(url, files)
    texts = (
        "SELECT path, status, error_code, message FROM task ORDER BY path",
        "SELECT * FROM exposure ORDER BY path",
        "SELECT s.* FROM frame f JOIN setup s ON s.setup_id = f.setup_id ORDER BY f.exposure_id",
        "SELECT exposure_id, night_id, exptime, jd_utc, jd_tdb, time_source, time_sigma, sun_altitude FROM frame ORDER BY exposure_id",
    )
    return [work.sql(text) for text in texts]


def test_engines_agree_about_every_number_of_a_header(frames: Path, new_archive: Callable[[str], str], tmp_path: Path) -> None:
    one, other = (outcome(new_archive(engine), frames, tmp_path / engine) for engine in ("sqlite", "postgresql"))
    assert one == other
    tasks = one[0]
    assert len(tasks) == len(list(frames.iterdir()))
    assert {code for _, status, code, _ in tasks if status == "failed"} == {"frame.bad_exptime", "frame.no_time"}
    assert all(message is None or (message.isprintable() and "; " in message) for *_, message in tasks)
    # What no camera has is noted, and is not used.
    assert any("XBINNING = 1e+10 is beyond 1 to 128 pixel: not used" in str(row) for row in one[1])


@pytest.mark.parametrize("value", [2**70, -(2**70), "a\0b", "\udcff", object()], ids=["large", "small", "NUL", "surrogate", "object"])
def test_rows_that_cannot_be_written_are_their_units_failure(
    archive_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    """Whatever an engine or its driver raises at one unit's rows, the others' are written."""
    rows_of, frames = ingest_step._rows, tmp_path / "raw"
    frames.mkdir()
    for number in range(3):
        write(frames, number)

    def spoiled(new: Any, *rest: Any) -> Any:
        name = "object_name" if isinstance(value, str) else "size"
        odd = "0001" in new.exposure["path"]
        return rows_of(replace(new, exposure={**new.exposure, name: value}) if odd else new, *rest)

    monkeypatch.setattr(ingest_step, "_rows", spoiled)
    work = Work(archive_url, tmp_path / "files")
    (tally,) = work.tallies([frames], catalogues=[], steps=["ingest"])
    refused = 0 if value == "a\0b" and archive_url.startswith("sqlite") else 1  # SQLite keeps any character
    assert (tally.done, len(tally.failed)) == (3 - refused, refused)
    assert all("0001" in message and "rows refused" in message and message.isprintable() for message in tally.failed.values())
    codes = work.sql("SELECT error_code FROM task WHERE status = 'failed'")
    assert codes == [("STEP.rows".replace("STEP", "ingest"),)] * refused
    assert work.sql("SELECT count(*) FROM frame") == [(3 - refused,)]
