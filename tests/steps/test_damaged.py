"""Files and archives that are damaged are told so: nothing is made of them, nothing else is blamed, and what can be made anew is."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import compare
import numpy as np
import pytest
import sqlalchemy as sa
from mini_night import N_CALIBRATION, N_OBJECT, Night, Work, command, reduced_at

import db.whole
from db.engine import make_engine
from db.errors import ConfigurationError
from starledger.archive import open_archive

FULL = os.environ.get("STARLEDGER_REALDATA") == "full"
SEEDS = 40 if FULL else 4


@pytest.fixture
def work(archive_url: str, tmp_path: Path) -> Work:
    """The reduced night on each engine in turn."""
    (tmp_path / "work").mkdir()
    return reduced_at(archive_url, tmp_path / "work")[0]


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """Each test's archives are looked at anew."""
    db.whole._whole.clear()


def options(work: Work) -> tuple[object, ...]:
    return "--archive", work.url, "--files", work.files


def run(*words: object) -> tuple[int, str, str]:
    return command(*(str(word) for word in words))


def calibrated(work: Work) -> list[Path]:
    return [
        work.files / row[0] for row in work.sql("SELECT path FROM product WHERE kind = 'calibrated' AND path IS NOT NULL ORDER BY path")
    ]


def flip(file: Path) -> None:
    """Another byte in the middle; size and time of the last change as before."""
    status = file.stat()
    contents = bytearray(file.read_bytes())
    contents[len(contents) // 2] ^= 1
    file.write_bytes(contents)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def swap(one: Path, other: Path) -> None:
    spare = one.with_name("spare")
    one.rename(spare)
    other.rename(one)
    spare.rename(other)


DAMAGE: dict[str, tuple[Callable[[list[Path]], object], int]] = {
    "flipped": (lambda files: flip(files[0]), 1),
    "swapped": (lambda files: swap(files[0], files[1]), 2),
    "truncated": (lambda files: os.truncate(files[0], 2000), 1),
    "gone": (lambda files: files[0].unlink(), 1),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_products_are_named_and_made_anew(how: str, work: Work, reduced: Work) -> None:
    files = calibrated(work)
    contents = {path: path.read_bytes() for path in files}
    code, out, _ = run("verify", *options(work))
    assert code == 0 and "all are what they were" in out
    damage, number = DAMAGE[how]
    damage(files)
    # Whatever was done to them, the system's own time of the change says that somebody was there.
    code, out, messages = run("verify", *options(work))
    lines = out.splitlines()
    assert (code, len(lines)) == (1, number + 1) and "Traceback" not in messages
    assert all(f"calibrated {path}: " in line and "starledger reduce" in line for path, line in zip(files, lines[:-1], strict=False))
    assert f"{number} are damaged or gone" in lines[-1]
    assert work.worked() == {"calibrate": number, "refine": number}  # which adds the plate solution to the file
    assert {path: path.read_bytes() for path in files} == contents
    assert run("verify", "--full", *options(work))[0] == 0
    assert compare.compare(reduced.url, work.url) == []


def test_a_file_put_in_place_with_its_times_is_found_by_its_hash(work: Work) -> None:
    """Where even the system's time of the change is as it was: a copied disk, or its clock."""
    flip(calibrated(work)[0])
    work.sql("UPDATE task SET finished = '2100-01-01 00:00:00'")
    assert run("verify", *options(work))[0] == 0
    code, out, _ = run("verify", "--full", *options(work))
    assert code == 1 and f"calibrated {calibrated(work)[0]}: changed" in out


def test_an_archive_that_cannot_be_written_to_is_verified_and_says_so(work: Work) -> None:
    calibrated(work)[0].unlink()
    with open_archive(work.url).only_writer():
        code, out, _ = run("--wait", "0", "verify", *options(work))
    assert code == 1 and "could not be told which products" in out.splitlines()[-1]


def test_a_raw_file_that_was_changed_in_place_is_not_read(archive_url: str, night: Night, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for path in (*night.calibration(), *night.objects()):
        shutil.copy2(path, raw)
    work = Work(archive_url, tmp_path / "files")
    first = ("reduce", raw, "--catalogue", night.catalogue, *options(work), "--jobs", 1)
    assert run("ingest", raw, *options(work))[0] == 0
    changed = min(raw.glob("object*"))
    kept = changed.read_bytes()
    flip(changed)
    code, _, messages = run(*first)
    assert code == 1 and "Traceback" not in messages
    failed = work.sql("SELECT step, error_code, message FROM task WHERE status = 'failed'")
    assert [row[:2] for row in failed] == [("calibrate", "frame.changed")] and "\n" not in failed[0][2]
    assert str(changed) in failed[0][2] and "changed since it was taken in" in failed[0][2]
    assert work.sql("SELECT count(DISTINCT frame_id) FROM measurement") == [(N_OBJECT - 1,)]
    code, out, _ = run("verify", "--full", *options(work))
    assert code == 1 and f"raw file {changed}: changed" in out
    changed.write_bytes(kept)
    assert run("reduce", "--retry", *options(work), "--jobs", 1)[0] == 0
    assert work.sql("SELECT count(DISTINCT frame_id) FROM measurement") == [(N_OBJECT,)]


def test_rows_that_refer_to_nothing_are_found(work: Work) -> None:
    assert run("db", "check", "--archive", work.url)[:2] == (0, "the schema is as expected, and the database is whole\n")
    values = "(1, 99999, NULL, 'x', 'me', '2026-01-01 00:00:00')"
    work.sql(f"INSERT INTO annotation (annotation_id, frame_id, source_id, reason, author, created) VALUES {values}")
    code, out, messages = run("db", "check", "--archive", work.url)
    assert code == 3 and out == "1 rows of annotation refer to rows of frame that are not there, by frame_id\n"
    assert len(messages.splitlines()) == 1 and "restore a copy" in messages


def test_a_partition_that_is_none_is_found(new_archive: Callable[[str], str], tmp_path: Path) -> None:
    work = reduced_at(new_archive("postgresql"), tmp_path)[0]
    ((name,),) = work.sql("SELECT relname FROM pg_class WHERE relname ~ '^closed_measurement_n-?[0-9]+$' LIMIT 1")
    work.sql(f"ALTER TABLE closed_measurement DETACH PARTITION {name}")
    code, out, _ = run("db", "check", "--archive", work.url)
    assert code in (2, 3) and name in out


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_bytes_in_an_archive_are_the_archives_trouble(seed: int, reduced: Work, tmp_path: Path) -> None:
    """1,300 of them: never a traceback, never a frame's fault; and what can be read goes on."""
    rng = np.random.default_rng(seed)
    path = Path(reduced.url.removeprefix("sqlite:///"))
    contents = bytearray(path.read_bytes())
    first = int(rng.integers(16384, len(contents) - 1300))
    of_schema = {page for (page,) in reduced.sql("SELECT pageno FROM dbstat WHERE name = 'sqlite_schema'")}
    blind = not of_schema.isdisjoint({first // 16384 + 1, (first + 1299) // 16384 + 1})
    contents[first : first + 1300] = rng.bytes(1300)
    path.write_bytes(contents)
    config = tmp_path / "mine.toml"
    config.write_text("[photometry]\nmargin = 6.0\n")
    checked, out, messages = run("db", "check", "--archive", reduced.url)
    assert checked in (0, 3) and "Traceback" not in messages
    code, _, messages = run("reduce", "--config", config, *options(reduced), "--jobs", 1)
    assert code in (0, 3) and "Traceback" not in messages and "report this" not in messages
    assert code == 0 or "the archive is damaged" in messages.splitlines()[-1]
    saved = tmp_path / "saved.db"
    code, out, messages = run("db", "recover", saved, "--archive", reduced.url)
    if code == 3 and blind:  # which tables there are can be read no more, nor does SQLite's own shell know (3.40)
        assert "nothing can be read of it" in messages and len(messages.splitlines()) == 1
        return
    assert code == 0 and "rows saved" in out and "Traceback" not in messages
    assert run("db", "check", "--archive", saved)[0] == 0
    code, _, messages = run("reduce", "--archive", saved, "--jobs", 1)
    assert code == 0, messages
    assert Work(f"sqlite:///{saved}", reduced.files).sql("SELECT count(DISTINCT frame_id) FROM light_curve") == [(N_OBJECT,)]


def test_what_is_saved_says_what_was_lost(reduced: Work, tmp_path: Path) -> None:
    """A table of which every page is overwritten: what was made of its rows is pending, and nothing refers to them."""
    path = Path(reduced.url.removeprefix("sqlite:///"))
    with sqlite3.connect(path) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'classification'").fetchone()
    connection.close()
    contents = bytearray(path.read_bytes())
    contents[16384 * (root - 1) : 16384 * root] = np.random.default_rng(1).bytes(16384)
    path.write_bytes(contents)
    code, _, messages = run("reduce", *options(reduced), "--jobs", 1)
    assert code == 3 and "the archive is damaged" in messages and "db recover" in messages
    saved = tmp_path / "saved.db"
    code, out, _ = run("db", "recover", saved, "--archive", reduced.url)
    assert code == 0 and "not read whole: classification" in out
    assert run("reduce", "--archive", saved, "--jobs", 1)[0] == 0
    again = Work(f"sqlite:///{saved}", reduced.files)
    assert again.sql("SELECT count(*) FROM classification") == [(N_CALIBRATION + N_OBJECT,)]
    assert again.sql("SELECT count(DISTINCT frame_id) FROM light_curve") == [(N_OBJECT,)]


def test_a_copy_is_whole_while_the_archive_is_written_to(reduced: Work, tmp_path: Path) -> None:
    copy = tmp_path / "copies" / "night.db"
    code, _, messages = run("backup", copy, *options(reduced))
    assert code == 2 and "no such folder" in messages and len(messages.splitlines()) == 1
    copy.parent.mkdir()
    archive = open_archive(reduced.url, reduced.files)
    with archive.only_writer(), archive.writer.begin() as connection:
        connection.execute(sa.text("DELETE FROM closed_measurement"))
        code, out, messages = run("backup", copy, *options(reduced))
    assert code == 0 and f"not in it: the raw files, and the pixel products in {reduced.files}" in out, messages
    assert [path.name for path in copy.parent.iterdir()] == ["night.db"]
    assert run("db", "check", "--archive", copy)[0] == 0
    with make_engine(str(copy)).connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM writer").scalar() == 0
        assert connection.exec_driver_sql("SELECT count(*) FROM light_curve").scalar_one() > 0
    for words, said in (((copy,), "there already"), ((reduced.url.removeprefix("sqlite:///"), "--overwrite"), "the archive itself")):
        code, _, messages = run("backup", *words, *options(reduced))
        assert code == 2 and said in messages and len(messages.splitlines()) == 1
    assert run("backup", copy, "--overwrite", *options(reduced))[0] == 0


def test_a_copy_from_a_server(new_archive: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = reduced_at(new_archive("postgresql"), tmp_path)[0]
    copy = tmp_path / "night.dump"
    if shutil.which("pg_dump") and shutil.which("pg_restore"):
        code, _, messages = run("backup", copy, *options(work))
        assert (code == 0 and copy.stat().st_size > 100_000) or (code == 3 and "version" in messages), messages
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, messages = run("backup", tmp_path / "other.dump", *options(work))
    assert code == 2 and "no pg_dump" in messages and len(messages.splitlines()) == 1


@pytest.mark.parametrize(("chosen", "number"), [("", 1), ("normal", 1), ("full", 2)])
def test_commits_may_wait_for_the_disk(chosen: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARLEDGER_SYNCHRONOUS", chosen)
    with make_engine(f"sqlite:///{tmp_path / 'a.db'}", writer=True).connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == number


def test_other_ways_to_commit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARLEDGER_SYNCHRONOUS", "off")
    with pytest.raises(ConfigurationError, match="give normal or full"):
        make_engine(f"sqlite:///{tmp_path / 'a.db'}", writer=True).connect()
