"""Damaged files of every kind, and files that are none, cost only themselves: a sample of the campaign, or all of it (`make campaign`)."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import campaign
import damage
import mini_night
import pytest
from campaign import Outcome
from mini_night import N_CALIBRATION, N_OBJECT, Work
from templates import make_schema

from db.path_text import unescaped

#: "SEED:NUMBER" of `make campaign`; in CI the seeds are new, and the clock ends it.
_ASKED = os.environ.get("STARLEDGER_CAMPAIGN", "")
_MINUTES = 3.5
_TOGETHER = 50
_ALL = (*damage.RAW, *damage.TABLES, "toml")


def _command(work: Work, raw: Path) -> list[str | Path]:
    options = ["--archive", work.url, "--files", work.files, "--jobs", "1"]
    pictures = sorted(path for path in raw.iterdir() if path.suffix in (".tif", ".png"))  # in a folder they are passed over
    return ["reduce", raw, *pictures, "--catalogue", mini_night.night().catalogue, *options]


def _among_a_night(url: str, healthy: str, folder: Path, seeds: range) -> Outcome:
    """The night with damaged files in its folder; the others' rows are those of the healthy night."""
    folder.mkdir(parents=True)
    raw = mini_night.night().link(folder / "raw")
    campaign.write_mutants(raw, damage.RAW, seeds)
    work = Work(url, folder / "files")
    make_schema(url)
    outcome = campaign.night(_command(work, raw), folder / "log", len(seeds))
    outcome.wrong += [] if outcome.wrong else campaign.rows_lost(healthy, url)
    shutil.rmtree(folder)
    return outcome


@pytest.fixture
def healthy(tmp_path: Path) -> str:
    """URL of the night without strange files."""
    return mini_night.reduced(tmp_path).url


def test_each_damaged_file_is_read_or_says_why_not(tmp_path: Path) -> None:
    outcome = campaign.read_each(campaign.write_mutants(tmp_path / "damaged", _ALL, range(240)))
    assert outcome.n == 240 and outcome.wrong == [], "\n".join(outcome.wrong)


@pytest.mark.long
def test_damaged_files_among_a_night(archive_url: str, healthy: str, tmp_path: Path) -> None:
    outcome = _among_a_night(archive_url, healthy, tmp_path / "night", range(40))
    assert outcome.wrong == [], "\n".join(outcome.wrong)


def test_the_campaign_finds_a_lost_row_and_a_crash(healthy: str, new_archive: Callable[[str], str], tmp_path: Path) -> None:
    """It could not fail if it did not."""
    other = Work(f"sqlite:///{tmp_path / 'other.db'}", tmp_path / "files")
    shutil.copy(healthy.removeprefix("sqlite:///"), tmp_path / "other.db")
    assert campaign.rows_lost(healthy, other.url) == []
    other.sql("DELETE FROM exposure_statistics WHERE exposure_id = 3")
    other.sql("UPDATE frame SET exptime = 7 WHERE frame_id = 2")
    assert len(campaign.rows_lost(healthy, other.url)) == 2
    assert campaign.night(["no-such-command"], tmp_path / "log", 1).wrong


@pytest.mark.skipif(not _ASKED and os.environ.get("STARLEDGER_REALDATA") != "full", reason="takes long: `make campaign`")
def test_the_campaign(
    new_archive: Callable[[str], str], healthy: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """By `make campaign` as many files as it says; else for some minutes, with new seeds."""
    first, number = (int(word) for word in _ASKED.split(":")) if _ASKED else (secrets.randbelow(10**9), 10**6)
    until = time.monotonic() + (10**9 if _ASKED else 60 * _MINUTES)
    read, among = Outcome(), Outcome()
    for seeds in campaign.batches(first, number, _TOGETHER):
        folder = tmp_path / f"from-{seeds[0]}"
        read += campaign.read_each(campaign.write_mutants(folder / "each", _ALL, seeds))
        for engine in ("sqlite", "postgresql"):
            among += _among_a_night(new_archive(engine), healthy, folder / engine, seeds)
        shutil.rmtree(folder)
        if time.monotonic() > until:
            break
    said = f"from seed {first}: {read.n} files read, {read.memory:.0f} MB; {among.n} among nights, {among.memory:.0f} MB"
    record_property("campaign", said)
    assert read.wrong + among.wrong == [], "\n".join([said, *read.wrong, *among.wrong])


@pytest.mark.skipif(sys.platform != "linux", reason="how root gives up what it may read is Linux's own")
def test_files_that_are_none_among_a_night_of_an_ordinary_user(archive_url: str, tmp_path: Path) -> None:
    night, work = mini_night.night(), Work(archive_url, tmp_path / "files")
    raw = night.link(tmp_path / "raw")
    special = list(damage.special_files(raw, damage.good_files()["plain"]))
    make_schema(archive_url)
    command = ["ingest", raw, "--archive", archive_url, "--files", work.files, "--jobs", "1"]
    outcome = campaign.night(command, tmp_path / "log", len(special), ordinary=True)
    said = (tmp_path / "log").read_text("utf-8")
    assert outcome.wrong == [], said
    taken = [os.fsdecode(path) for (path,) in work.sql("SELECT path FROM exposure")]
    assert len([path for path in taken if (night.raw / Path(path).name).exists()]) == N_OBJECT + N_CALIBRATION
    # Those with strange names and times are in as well, each under a text that leads back to it.
    strange = [path for path in taken if not (night.raw / Path(path).name).exists()]
    assert len(strange) == len(damage.STRANGE_NAMES) + 1 and all(Path(unescaped(path)).is_file() for path in strange)
    refused = [message for (message,) in work.sql("SELECT message FROM task WHERE status = 'failed'")]
    assert len(refused) == len(special) - len(strange) - 2  # but for the folder, and the link to the folder above
    assert all("; " in message and message.isprintable() for message in refused)
    assert [message for message in refused if "unreadable.fits" in message and "Permission denied" in message] != []
    # None is tried in vain again.
    before = work.sql("SELECT count(*), sum(attempts) FROM task")
    assert campaign.night(command, tmp_path / "log", len(special), ordinary=True).wrong == []
    assert work.sql("SELECT count(*), sum(attempts) FROM task") == before
