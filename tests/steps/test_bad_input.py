"""What is wrong with the input is said in one line with what to do; the rest of the night is processed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import compare
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from mini_night import N_CALIBRATION, N_OBJECT, Night, Work, command

import reduction.files.product
import starledger
from db.errors import ConfigurationError
from starledger.demo import simulate_night

#: File name -> what its line says.
BROKEN = {
    "truncated.fits": r"bytes|cut|truncated",
    "notes.fits": r"FITS",
    "empty.fits": r"empty \(0 bytes\)",
    "no_exptime.fits": r"exposure time",
    "zeros.fits": r"all \d+ pixels are 0",
}


def spoil(folder: Path, good: Path) -> None:
    """The files of `BROKEN`, made from a good one."""
    contents = good.read_bytes()
    (folder / "truncated.fits").write_bytes(contents[: len(contents) // 2])
    (folder / "notes.fits").write_text("Seeing 1.2 arcsec, some cirrus.\n" * 200)
    (folder / "empty.fits").touch()
    with fits.open(good) as hdus:
        header, data = hdus[0].header.copy(), np.array(hdus[0].data)
    fits.PrimaryHDU(np.zeros_like(data), header).writeto(folder / "zeros.fits")
    del header["EXPTIME"]
    fits.PrimaryHDU(data, header).writeto(folder / "no_exptime.fits")


def one_line(messages: str) -> str:
    """The one line that a refused command says; no traceback, and a hint behind a semicolon."""
    lines = messages.splitlines()
    assert len(lines) == 1 and lines[0].startswith("starledger: ") and "; " in lines[0], messages
    return lines[0]


def test_broken_files_cost_nothing_but_themselves(reduced: Work, night: Night, tmp_path: Path) -> None:
    raw, empty = night.link(tmp_path / "raw"), tmp_path / "nothing"
    empty.mkdir()
    spoil(raw, night.objects()[0])
    work = Work(f"sqlite:///{tmp_path / 'spoiled.db'}", tmp_path / "spoiled")
    options = ("--catalogue", night.catalogue, "--archive", work.url, "--files", work.files, "--jobs", "1")
    code, _, messages = command("reduce", raw, empty, *options)
    assert code == 1 and "Traceback" not in messages
    for name, what in BROKEN.items():
        (line,) = [line for line in messages.splitlines() if name in line]
        assert line.startswith("ingest ") and re.search(what, line) and "; " in line, line
    (line,) = [line for line in messages.splitlines() if str(empty) in line]
    assert "no raw frames" in line and "; " in line
    assert f"{len(BROKEN)} units failed" in messages

    # All the rest is as if they had never been there.
    spoiled = compare.dump(work.url)
    failed = [key for key, row in spoiled["task"].items() if row["status"] == "failed"]
    assert len(failed) == len(BROKEN)
    for key in failed:
        del spoiled["task"][key]
    exposures = {key: {**row, "path": Path(row["path"]).name} for key, row in spoiled["exposure"].items()}
    good = compare.dump(reduced.url)
    good["exposure"] = {key: {**row, "path": Path(row["path"]).name} for key, row in good["exposure"].items()}
    assert compare.differences(good, {**spoiled, "exposure": exposures}) == []

    _failures_stay_until_they_are_mended(work, raw, night, options)


def _failures_stay_until_they_are_mended(work: Work, raw: Path, night: Night, options: tuple[str | Path, ...]) -> None:
    attempts = "SELECT sum(attempts) FROM task WHERE status = 'failed'"
    before = compare.snapshot(work.url)
    # With the folder, without it, and when one only asks: they are still failed.
    assert command("reduce", raw, *options)[0] == 1
    assert command("reduce", *options)[0] == 1
    code, text, _ = command("status", "--archive", work.url)
    assert code == 1 and all(text.count(name) == 1 for name in BROKEN), text
    assert compare.snapshot(work.url) == before
    assert work.sql(attempts) == [(len(BROKEN),)]
    assert command("reduce", raw, "--retry", *options)[0] == 1
    assert work.sql(attempts) == [(2 * len(BROKEN),)]
    # One is copied again, the others go.
    for name in BROKEN:
        (raw / name).unlink()
    shutil.copy(night.objects()[0], raw / "truncated.fits")
    code, _, messages = command("reduce", raw, *options)
    assert code == 0, messages
    assert command("status", "--archive", work.url)[0] == 0
    assert work.sql("SELECT count(*) FROM exposure") == [(N_OBJECT + N_CALIBRATION,)]


def test_nothing_usable_is_an_error(night: Night, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    spoil(raw, night.objects()[0])
    code, _, messages = command("reduce", raw, "--archive", tmp_path / "a.db", "--jobs", "1")
    assert code == 2 and all(name in messages for name in BROKEN) and "Traceback" not in messages


def test_two_processes_say_the_same(night: Night, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    spoil(raw, night.objects()[0])
    said = []
    for jobs in ("1", "2"):
        _, _, messages = command("reduce", raw, "--archive", tmp_path / f"{jobs}.db", "--jobs", jobs)
        said.append([line for line in messages.splitlines() if line.startswith(f"ingest {raw}")])
    assert said[0] == said[1] and len(said[0]) == len(BROKEN)


@pytest.mark.parametrize(
    ("make", "what", "expected"),
    [
        (lambda folder: folder / "absent", "no such file or folder", 2),
        (lambda folder: _folder(folder / "empty"), "no raw frames", 2),
        (lambda folder: _folder(folder / "texts", "notes.txt"), "1 other files were passed over", 2),
        (lambda folder: _folder(folder / "lone", "notes.txt") / "notes.txt", "no raw frames", 2),
    ],
)
def test_paths_without_frames(make: Callable[[Path], Path], what: str, expected: int, tmp_path: Path) -> None:
    path = make(tmp_path)
    code, _, messages = command("reduce", path, "--archive", tmp_path / "a.db")
    line = one_line(messages)
    assert code == expected and what in line and str(path) in line


def _folder(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_text("some words")
    return path


@pytest.mark.parametrize(
    ("configuration", "what"),
    [
        ("[detect]\ntreshold = 4.0\n", r"\[detect\].*'treshold'.*threshold"),
        ("[detect]\nthreshold = 'high'\n", r"threshold = 'high'.*4\.0"),
        ("[extrakt]\nthreshold = 4.0\n", r"no section 'extrakt'.*known are.*detect"),
        ("[extract\n", r"not valid TOML"),
        ("extract = 4\n", r"detect"),
    ],
)
def test_a_wrong_configuration(configuration: str, what: str, night: Night, tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text(configuration)
    code, _, messages = command("reduce", night.raw, "--archive", tmp_path / "a.db", "--config", config)
    line = one_line(messages)
    assert code == 2 and re.search(what, line) and str(config) in line


def test_a_configuration_that_is_not_there(night: Night, tmp_path: Path) -> None:
    code, _, messages = command("reduce", night.raw, "--archive", tmp_path / "a.db", "--config", tmp_path / "absent.toml")
    assert code == 2 and "absent.toml" in one_line(messages)


@pytest.mark.parametrize(
    ("configuration", "what"),
    [
        ("[magnitude_fit]\norder = 9\n", "[magnitude_fit]: order = '9' is out of range; allowed is one of: auto, 0, 1, 2, 3, 4; "),
        ("[background]\nbox = 0\n", "[background]: box = 0 is out of range; allowed is 4 to 4096 pixel; "),
        ("[background]\nmin_radius = 20.0\n", "[background]: min_radius = 20 is more than max_radius = 12; "),
    ],
)
def test_a_parameter_that_no_step_can_work_with(configuration: str, what: str, reduced: Work, night: Night, tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text(configuration)
    new = tmp_path / "new"
    new.mkdir()
    code, _, messages = command("reduce", night.raw, "--archive", new / "a.db", "--config", config, "--jobs", "1")
    assert code == 2 and f"{config} {what}" in one_line(messages)
    assert list(new.iterdir()) == []
    before = reduced.sql("SELECT count(*), max(run_id) FROM run"), reduced.sql("SELECT count(*) FROM task")
    code, _, messages = command("reduce", "--archive", reduced.url, "--files", reduced.files, "--config", config, "--jobs", "1")
    assert code == 2 and f"{config} {what}" in one_line(messages)
    assert before == (reduced.sql("SELECT count(*), max(run_id) FROM run"), reduced.sql("SELECT count(*) FROM task"))


def test_a_service_that_nobody_knows(reduced: Work, night: Night, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    what = "no service 'nowhere' to fetch from; known are: gaia, tycho2, apass, refcat2"
    code, _, messages = command("reduce", night.raw, "--archive", new / "a.db", "--fetch", "gaia", "--fetch", "nowhere")
    assert code == 2 and what in one_line(messages) and list(new.iterdir()) == []
    before = reduced.sql("SELECT count(*), max(run_id) FROM run")
    with starledger.open(reduced.url, files=reduced.files) as archive, pytest.raises(ConfigurationError, match=re.escape(what)):
        archive.reduce(fetch=["nowhere"])
    assert reduced.sql("SELECT count(*), max(run_id) FROM run") == before


def test_wrong_catalogues(night: Night, tmp_path: Path) -> None:
    archive = ("--archive", tmp_path / "a.db", "--jobs", "1")
    code, _, messages = command("reduce", night.raw, "--catalogue", tmp_path / "absent.ecsv", *archive)
    assert code == 2 and "no such catalogue file" in one_line(messages)
    table = Table.read(night.catalogue)
    table.rename_column("ra", "alpha")
    for name, what in (("alpha.ecsv", "no column for ra among"), ("words.csv", "words.csv")):
        path = tmp_path / name
        if name == "alpha.ecsv":
            table.write(path)
        else:
            path.write_text("these are\nno, stars\n,,,\n")
        code, _, messages = command("reduce", night.raw, "--catalogue", path, *archive)
        last = messages.splitlines()[-1]
        assert code == 2 and "Traceback" not in messages and what in last and "; " in last
    # Nothing of it stands in the way of the right one.
    code, _, messages = command("reduce", night.raw, "--catalogue", night.catalogue, *archive)
    assert code == 0, messages


def test_a_wrong_archive(reduced: Work, night: Night, tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("no database, but long enough to be looked at\n" * 100)
    damaged = tmp_path / "damaged.db"
    contents = bytearray(Path(reduced.url.removeprefix("sqlite:///")).read_bytes())
    contents[16384 * 2 : 16384 * 40] = os.urandom(16384 * 38)
    damaged.write_bytes(contents)
    newer = tmp_path / "newer.db"
    with sqlite3.connect(newer) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    connection.close()
    for url, what in (
        (str(text), "text.db"),
        (str(damaged), "damaged.db"),
        (str(newer), "install a newer starledger"),
        ("postgresql://nobody@127.0.0.1:1/none", "127.0.0.1"),
        (str(tmp_path / "absent.db"), "no such archive"),
    ):
        options = ("--archive", url, "--files", tmp_path / "files")
        code, _, messages = command("status", *options) if "absent" in url else command("reduce", night.raw, *options, "--jobs", "1")
        assert (code, what in one_line(messages)) == (3, True), (url, messages)


def test_a_folder_for_products_that_cannot_be_made(night: Night, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, messages = command("reduce", night.raw, "--archive", tmp_path / "a.db", "--files", tmp_path / "file" / "products")
    assert code == 2 and "--files" in one_line(messages)
    code, _, messages = command("reduce", night.raw, "--archive", tmp_path / "absent" / "a.db")
    assert code == 2 and "no such folder" in one_line(messages)


def test_a_full_disk_ends_the_run_and_loses_nothing(reduced: Work, night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(f"sqlite:///{tmp_path / 'full.db'}", tmp_path / "full")
    options = ("--catalogue", night.catalogue, "--archive", work.url, "--files", work.files, "--jobs", "1")
    fsync, left = os.fsync, [2 * 7]  # of a file and of its folder: four masters and three frames

    def full(handle: int) -> None:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= 1
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(reduction.files.product.os, "fsync", full)
        code, _, messages = command("reduce", night.raw, *options)
    last = messages.splitlines()[-1]
    assert code == 3 and "Traceback" not in messages and "No space left on device" in last and "free some space" in last
    assert not list(work.files.rglob(".tmp*"))
    assert work.sql("SELECT count(*) FROM task WHERE step = 'calibrate' AND status = 'done'") == [(3,)]
    assert command("reduce", night.raw, *options)[0] == 0
    assert compare.compare(reduced.url, work.url) == []


def test_a_damaged_product_fails_its_frame_only(reduced: Work) -> None:
    path = reduced.sql("SELECT path FROM product WHERE kind = 'calibrated' AND path IS NOT NULL ORDER BY product_id LIMIT 1")[0][0]
    file = reduced.files / path
    contents = bytearray(file.read_bytes())
    contents[len(contents) // 2] ^= 1
    file.write_bytes(contents)
    config = reduced.files.parent / "mine.toml"
    config.write_text("[detect]\nthreshold = 4.5\n")
    tallies: dict[str, Any] = {tally.step: tally for tally in reduced.tallies(config=config)}
    (message,) = tallies["detect"].failed.values()
    assert Path(path).name in message and "is not what was written" in message and "; " in message
    assert tallies["photometry"].done == N_OBJECT - 1
    # The next run makes the product anew, and then what had met it.
    after: dict[str, Any] = {tally.step: tally for tally in reduced.tallies()}
    assert (after["calibrate"].done, after["detect"].done) == (1, 1)
    assert not any(tally.failed for tally in after.values())


def test_a_night_without_stars(tmp_path: Path) -> None:
    """Frames without stars are told from object frames, or fail as such: no light curve, one line each, no traceback."""
    simulate_night(tmp_path / "dark", 5, n_object=3, shape=(96, 96), n_star=3, n_bias=3, n_dark=3, n_flat=3)
    code, _, messages = command("reduce", tmp_path / "dark" / "raw", "--archive", tmp_path / "a.db", "--jobs", "1")
    assert code in (0, 1, 2) and "Traceback" not in messages
