"""What is said and asked of an archive from Python, on both engines: it reads by default, and writes as the one writer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
import sqlalchemy as sa
from astropy.coordinates import SkyCoord
from small_archive import SmallArchive

import starledger
from db import schema
from db.errors import ArchiveUnavailable, ConfigurationError, NothingToDo, StarledgerError
from reduction.pipeline.order import STEPS
from starledger.archive import Archive


@pytest.fixture
def archive(fresh: SmallArchive, tmp_path: Path) -> Iterator[Archive]:
    """The small archive, opened as a user does: to read."""
    url = fresh.engine.url.render_as_string(hide_password=False)
    with starledger.open(url, files=tmp_path / "files") as opened:
        yield opened


def test_targets(archive: Archive, fresh: SmallArchive) -> None:
    place = SkyCoord(fresh.ra[4] * u.deg, fresh.dec[4] * u.deg).galactic
    added = archive.targets.add("new  one", place, epoch=2454420.4, period=2.15, duration=0.13).target
    assert (added.name, added.source_id, added.period) == ("new one", fresh.source_id[4], 2.15)
    assert archive.targets.add("far", "12:00:00 -10:00:00").target.source_id is None
    assert {"new one", "far", "HAT-P-32 b"} <= set(archive.targets.list()["name"])
    assert archive.light_curve("New One").meta["source_id"] == fresh.source_id[4]
    with pytest.raises(ConfigurationError, match="there is a target"):
        archive.targets.add("FAR", "1 1")


def test_masks(archive: Archive, fresh: SmallArchive) -> None:
    def quality() -> dict[int, int]:
        frame = archive.curve(fresh.target).frame
        return dict(zip(frame["frame_id"], frame["quality"], strict=True))

    before = quality()
    mask = archive.masks.frame(4, "dew", author="ann")
    # An id out of a DataFrame is one of numpy's.
    archive.masks.point(np.int64(5), fresh.source_id[0], "cosmic ray")
    assert quality() == before | {4: 2, 5: 2}
    listed = archive.masks.list()
    assert listed["reason"].tolist() == ["dew", "cosmic ray"] and listed["author"][0] == "ann" and listed["author"][1]
    archive.masks.remove(mask.annotation_id)
    assert quality() == before | {5: 2}
    assert archive.masks.product(1, "light leak").is_bad == 1
    assert archive.masters.list()["state"].tolist() == ["bad: light leak"]
    assert archive.masks.accept(1).is_bad == 0
    assert archive.masters.list()["state"].tolist() == ["good"]
    with pytest.raises(ConfigurationError, match="needs a reason"):
        archive.masks.frame(1, " ")


def test_frames(archive: Archive) -> None:
    def corrections() -> list[str | None]:
        return archive.sql("SELECT type FROM type_correction ORDER BY correction_id")["type"].tolist()

    assert len(archive.frames.list(type="object", night="2017-12-19")) == 6
    assert [one.type for one in archive.frames.set("flat", [2, 3], "dome")] == ["flat", "flat"]
    assert archive.frames.set("dark", np.int64(4), "capped", author="ann")[0].author == "ann"
    assert corrections() == ["flat", "flat", "dark"]
    # All of it or nothing.
    with pytest.raises(ConfigurationError, match="no frame with the id 999"):
        archive.frames.set("flat", [5, 999], "dome")
    with pytest.raises(ConfigurationError, match="frame 5 has no correction"):
        archive.frames.unset([2, 5])
    assert corrections() == ["flat", "flat", "dark"]
    assert len(archive.frames.unset((2, 3))) == 2
    assert archive.sql("SELECT count(*) AS n FROM type_correction WHERE type IS NULL")["n"].item() == 2


def test_masters(archive: Archive) -> None:
    assert archive.masters.list(all=True)["kind"].tolist() == ["bias"]
    used = archive.masters.use(1, "the best", night="2017-12-20")
    refused = archive.masters.refuse("flat", "another window", frame=3, author="ann")
    assert [one.kind for one in refused] == ["flat"] and refused[0].frame_id == 3
    assert archive.masters.undo(used.choice_id).is_active == 0
    choices = archive.masters.choices()
    assert choices["is_active"].tolist() == [0, 1] and choices["night"][0] == "2017-12-20" and choices["author"][1] == "ann"
    with pytest.raises(ConfigurationError, match="no choice 1 in force"):
        archive.masters.undo(used.choice_id)


WRITE: dict[str, Callable[[Archive], object]] = {
    "targets": lambda archive: archive.targets.add("x", "1 1"),
    "masks": lambda archive: archive.masks.frame(1, "x"),
    "frames": lambda archive: archive.frames.set("flat", 1, "x"),
    "masters": lambda archive: archive.masters.refuse("flat", "x", frame=1),
    "relocate": lambda archive: archive.relocate(files="elsewhere"),
    "raw files": lambda archive: archive.relocate("/night", "elsewhere"),
    "reduce": lambda archive: archive.reduce(),
    "upgrade": lambda archive: starledger.upgrade(archive.engine.url.render_as_string(hide_password=False)),
}


def test_there_is_one_writer_and_readers_go_on(archive: Archive, fresh: SmallArchive) -> None:
    other = Archive(fresh.engine, Path())
    with other.only_writer():
        for name, write in WRITE.items():
            with pytest.raises(ArchiveUnavailable, match="another starledger is writing"):
                write(archive)
                pytest.fail(name)
        assert len(archive.targets.list()) == 2 and archive.masks.list().empty and len(archive.frames.list()) == 15
        assert len(archive.light_curve(fresh.target)) == 15 and len(archive.status()) == len(STEPS)
    assert archive.masks.frame(1, "x").frame_id == 1


def test_a_write_that_fails_leaves_nothing(archive: Archive) -> None:
    with pytest.raises(RuntimeError), archive.writing() as session:
        session.execute(sa.text("DELETE FROM target"))
        raise RuntimeError
    with archive.reading() as session:
        assert session.execute(sa.text("SELECT count(*) FROM target")).scalar() == 2
    archive.masks.frame(1, "the lock was given back")


def test_status_counts_and_says_why(archive_url: str, tmp_path: Path) -> None:
    (tmp_path / "broken.fits").write_bytes(b"SIMPLE  = nothing")
    starledger.create(archive_url, files=tmp_path / "files").close()
    with starledger.open(archive_url) as archive:
        (tally,) = archive.reduce(tmp_path / "broken.fits", steps=["ingest"], jobs=0)
        steps = {step.step: step for step in archive.status()}
        assert list(steps) == list(STEPS)
        ingest = steps.pop("ingest")
        assert (ingest.done, ingest.pending, ingest.failed) == (0, 0, 1)
        assert ingest.reasons == tuple(tally.failed.values()) and "broken.fits" in ingest.reasons[0]
        assert all((step.done, step.pending, step.failed, step.reasons) == (0, 0, 0, ()) for step in steps.values())
        assert all(step.summary for step in steps.values())


def test_reduce_refuses_what_is_wrong(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.toml").write_text("[nothing]\n")
    for arguments, options, kind, words in (
        ((), {"steps": ["photometrie"]}, ConfigurationError, "no step 'photometrie'"),
        ((tmp_path / "absent",), {}, ConfigurationError, "no such file"),
        ((str(tmp_path / "empty"),), {}, NothingToDo, "no raw frames"),
        (([],), {"catalogues": "absent.csv"}, ConfigurationError, "no such catalogue"),
        ((), {"config": str(tmp_path / "wrong.toml")}, ConfigurationError, "no section"),
    ):
        with pytest.raises(kind, match=words):
            archive.reduce(*arguments, **options)
    assert archive.sql("SELECT count(*) AS n FROM run")["n"].item() == 1


def test_reduce_writes_from_an_archive_opened_to_read(archive_url: str, tmp_path: Path) -> None:
    starledger.create(archive_url, files=tmp_path / "files").close()
    with starledger.open(archive_url) as archive:
        (tally,) = archive.reduce(steps=["statistics"])
        assert (tally.step, tally.done, tally.failed) == ("statistics", 0, {}) and archive.remarks() == []
        run = archive.sql("SELECT exit_code FROM run")
        assert run["exit_code"].tolist() == [0]


def test_relocate(archive: Archive, tmp_path: Path) -> None:
    for arguments, words in (((), "nothing to mend"), (("/night",), "nothing to mend"), (("/day", tmp_path), "no raw file of the archive")):
        with pytest.raises(ConfigurationError, match=words):
            archive.relocate(*arguments)
    for path in archive.frames.list()["path"]:
        (tmp_path / Path(path).name).touch()
    (tmp_path / "003.fits").rename(tmp_path / "003")
    with pytest.raises(ConfigurationError, match=r"1 of 15 files are not there; check NEW"):
        archive.relocate("/night", tmp_path)
    assert archive.frames.list()["path"][0] == "/night/001.fits"
    (tmp_path / "003").rename(tmp_path / "003.fits")
    assert archive.relocate("/night", str(tmp_path)) == 15
    assert archive.frames.list()["path"][0] == str(tmp_path / "001.fits")
    (tmp_path / "moved" / "bias").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="products is there"):
        archive.relocate(files=tmp_path / "moved")
    (tmp_path / "moved" / "bias" / "1.fits").touch()
    assert archive.relocate(files=tmp_path / "moved") == 0 and archive.files == tmp_path / "moved"
    with starledger.open(archive.engine.url.render_as_string(hide_password=False)) as again:
        assert again.files == tmp_path / "moved"


def test_the_schema_is_checked_and_upgraded(archive_url: str, tmp_path: Path) -> None:
    starledger.create(archive_url, files=tmp_path / "files").close()
    head = schema.head()
    assert starledger.revision(archive_url) == starledger.schema.Revision(head, head)
    with starledger.open(archive_url) as archive:
        with archive.writing() as session:
            session.execute(sa.text("DROP VIEW flag_bit"))
        with pytest.raises(ConfigurationError, match="views of another version: flag_bit"):
            archive.check_schema()
        schema.downgrade(archive.writer, "0001")
    with pytest.raises(ArchiveUnavailable, match="db upgrade"):
        starledger.open(archive_url)
    assert starledger.revision(archive_url).found == "0001"
    assert starledger.upgrade(archive_url) == starledger.schema.Upgrade("0001", head)
    with starledger.open(archive_url) as archive:
        assert archive.sql("SELECT count(*) AS n FROM flag_bit")["n"].item() > 5


def test_a_changed_table_is_found(archive: Archive) -> None:
    with archive.writing() as session:
        session.execute(sa.text("ALTER TABLE target ADD COLUMN mine INTEGER"))
    with pytest.raises(ConfigurationError, match="differences between tables and models"):
        archive.check_schema()


def test_what_is_not_there_is_not_made(tmp_path: Path) -> None:
    for ask in (starledger.open, starledger.revision, starledger.upgrade):
        with pytest.raises(StarledgerError, match="no such archive"):
            ask(str(tmp_path / "typo.db"))
    assert list(tmp_path.iterdir()) == []


def test_a_plot(archive: Archive, fresh: SmallArchive, tmp_path: Path) -> None:
    archive.plot(fresh.target, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000
