"""An archive is made when it should be, keeps its folder, and survives an interrupt."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from killed import start, words
from mini_night import Night, Work, command, reduced_at

from db import schema
from db.engine import make_engine
from starledger.archive import create_archive, open_archive


@pytest.mark.parametrize(
    ("line", "code", "what"),
    [
        (["photometry"], 3, "no such archive"),
        (["db", "current"], 3, "no such archive"),
        (["db", "upgrade"], 3, "no such archive"),
        (["status"], 3, "no such archive"),
        (["reduce", "."], 2, "no raw frames"),
        (["ingest", "absent"], 2, "no such file"),
        (["catalogue", "absent.csv"], 2, "no such catalogue"),
        (["reduce", "--config", "wrong.toml"], 2, "no section"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_refused_makes_no_archive(line: list[str], code: int, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrong.toml").write_text("[nothing]\n")
    monkeypatch.chdir(tmp_path)
    found, _, messages = command(*line, "--archive", "typo.db")
    assert (found, messages.count("\n")) == (code, 1) and what in messages, messages
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.toml"]


def test_an_archive_keeps_its_folder(reduced: Work, tmp_path: Path) -> None:
    options = ("--archive", reduced.url, "--jobs", "1")
    other = tmp_path / "other"
    for line in (["reduce"], ["photometry"], ["init"]):
        code, _, messages = command(*line, *(options if line != ["init"] else options[:2]), "--files", other)
        assert code == 2 and str(reduced.files) in messages and "starledger relocate --files" in messages
    assert open_archive(reduced.url).files == reduced.files and not other.exists()
    code, _, messages = command("relocate", "--files", other, "--archive", reduced.url)
    assert code == 2 and "products is there" in messages

    shutil.move(reduced.files, other)
    code, said, _ = command("relocate", "--files", other, "--archive", reduced.url)
    assert (code, said) == (0, f"pixel products in {other}\n")
    assert open_archive(reduced.url).files == other
    assert Work(reduced.url, other).worked() == {}
    # And back again.
    shutil.move(other, reduced.files)
    assert command("relocate", "--files", reduced.files, "--archive", reduced.url)[0] == 0
    assert open_archive(reduced.url).files == reduced.files
    assert command("reduce", *options)[0] == 0


def test_an_empty_archive_may_choose_another_folder(archive_url: str, tmp_path: Path) -> None:
    for name in ("one", "two", "one"):
        create_archive(archive_url, tmp_path / name).engine.dispose()
        assert open_archive(archive_url).files == tmp_path / name


def test_a_writer_brings_its_own_views(archive_url: str, tmp_path: Path) -> None:
    create_archive(archive_url, tmp_path / "files").engine.dispose()
    engine = make_engine(archive_url, writer=True)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP VIEW flag_bit")
        connection.exec_driver_sql("CREATE VIEW flag_bit AS SELECT 1 AS bit")
    code, _, messages = command("db", "check", "--archive", archive_url)
    assert code == 2 and "views of another version: flag_bit" in messages and "db upgrade" in messages
    create_archive(archive_url).engine.dispose()
    assert schema.other_views(engine) == []
    code, _, messages = command("db", "check", "--archive", archive_url)
    assert (code, messages) == (0, ""), messages
    engine.dispose()


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX")
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(
    ("step", "number", "code"),
    [("calibrate", signal.SIGINT, 130), ("calibrate", signal.SIGTERM, 143), ("magnitude_fit", signal.SIGINT, 130)],
)
def test_an_interrupt_is_one_line(
    step: str, number: int, code: int, jobs: int, new_archive: Callable[[str], str], night: Night, tmp_path: Path
) -> None:
    """By Ctrl-C, or a service manager: the whole process group is told; in the first step of a pool, or with one that has nothing to do."""
    work, log = Work(new_archive("sqlite"), tmp_path / "files"), tmp_path / "log.txt"
    program = words(work, [night.raw], night.catalogue, jobs)
    if step == "magnitude_fit":  # what comes before has nothing to do but photometry
        work, _ = reduced_at(work.url, tmp_path)
        config = tmp_path / "mine.toml"
        config.write_text("[photometry]\nmargin = 6.0\n")
        program += ["--config", str(config)]
    process = start(program, log)
    while f"\n{step}: " not in log.read_text():
        assert process.poll() is None, log.read_text()
        time.sleep(0.002)
    os.killpg(process.pid, number)
    assert process.wait(60.0) == code
    lines = log.read_text().splitlines()
    assert lines[-1] == "interrupted; what was done is kept, the next run goes on from there"
    assert all(": " in line and line.endswith(" to do") for line in lines[:-1]), lines
    assert work.sql("SELECT exit_code FROM run WHERE finished IS NOT NULL ORDER BY run_id DESC LIMIT 1") == [(code,)]
    assert "magnitude_fit" in work.worked()
