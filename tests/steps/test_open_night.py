"""A night whose frames come one by one: each costs a frame, and the closed night is what a night taken in at once is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import compare
import mini_night
import pytest
import sqlalchemy as sa
from mini_night import N_OBJECT, Night, Work, command
from open_night import DURING, EVENING, after, arrive, at, per_frame
from templates import once

from reduction.pipeline import writer
from starledger.archive import open_archive

#: Nothing but no change at all stands.
EXACT = """[open_nights]
detector = 0.0
master = 0.0
distortion = 0.0
discovered = 0.0
pattern = 0.0
profile = 0.0
"""
#: Everything that can be compared stands.
WIDE = EXACT.replace("0.0", "1.0").replace("distortion = 1.0", "distortion = 10.0").replace("discovered = 1.0", "discovered = 10.0")

FRAME_STEPS = (
    *("ingest", "classify", "calibrate", "detect", "solve", "field", "refine", "shapes", "background", "psf", "photometry", "frame_fit"),
)


@pytest.fixture
def during(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The clock set into the night."""
    at(monkeypatch, *DURING)
    yield monkeypatch


def _open_once(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        at(patch, *DURING)
        work = Work(f"sqlite:///{folder / 'archive.db'}", folder / "files")
        arrive(work, mini_night.night(), folder / "raw", 0, 5)
        arrive(work, mini_night.night(), folder / "raw", 5, N_OBJECT)


@pytest.fixture
def opened(tmp_path: Path) -> Work:
    """The night with all its frames while it is open: five came at first, then three. On SQLite, the test's own copy."""
    return mini_night.copied(once("mini-open", _open_once), tmp_path)


def config(folder: Path, text: str) -> Path:
    path = folder / "tolerances.toml"
    path.write_text(text)
    return path


def differences(work: Work, folder: Path, **limits: float) -> list[str]:
    """How the archive differs from that of the night taken in at once, but for what things were made from."""
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        after(patch)  # the night that it is compared with was over
        at_once = mini_night.reduced(folder)
    dumps = [compare.dump(each.url, current=True, hashes=False) for each in (at_once, work)]
    for dump in dumps:
        # Where the files lay, what is said of a frame's type by the frames there were, and how the night was closed.
        for table, names in (("exposure", {"path"}), ("classification", {"evidence"}), ("night_closing", {"by_hand"})):
            for row in dump[table].values():
                for name in names:
                    row.pop(name)
        del dump["config"]
    return compare.differences(*dumps, **limits)


def solutions(work: Work) -> dict[int, list[tuple[Any, ...]]]:
    """Coefficients of every frame."""
    found: dict[int, list[tuple[Any, ...]]] = {}
    for row in work.sql(
        "SELECT frame_id, reference_id, slot, fold, measure_task, c_const, c_x, task_id FROM magfit_solution ORDER BY 1, 2, 3, 4"
    ):
        found.setdefault(row[0], []).append(row)
    return found


def test_a_frame_costs_a_frame_and_the_night_ends_as_if_taken_in_at_once(
    archive_url: str, night: Night, tmp_path: Path, during: pytest.MonkeyPatch
) -> None:
    work, folder, exact = Work(archive_url, tmp_path / "files"), tmp_path / "raw", config(tmp_path, EXACT)
    statements: list[str] = []
    sa.event.listen(sa.Engine, "before_cursor_execute", see := lambda *call: statements.append(call[2]))
    sets, asked = 0, {}
    try:
        first = arrive(work, night, folder, 0, 2, config=exact)
        assert first["photometry"] == first["frame_fit"] == 2 and "magnitude_fit" not in first and "source_order" not in first
        for number in range(2, N_OBJECT):
            before = solutions(work)
            statements.clear()
            done = arrive(work, night, folder, number, number + 1)
            asked[number + 1] = len(statements)
            assert per_frame(done) == dict.fromkeys(FRAME_STEPS, 1)
            sets += sum(done.values()) - len(FRAME_STEPS)
            now = solutions(work)
            assert len(now) == number + 1 and {frame: now[frame] for frame in before} == before, "no older row changes"
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", see)
    # Distortion of four and of eight frames; sources, and their colours, of five.
    assert sets == 4
    assert asked[7] <= asked[6] + 5, asked
    assert work.sql("SELECT count(*) FROM night_magnitude") == work.sql("SELECT count(*) FROM night_change") == [(0,)]
    assert work.worked([folder]) == {}
    after(during)
    done = work.worked([folder])
    assert done["magnitude_fit"] == done["magnitude_reference"] == done["source_order"] == 1
    assert "ingest" not in done and "calibrate" not in done, "the masters are what they were"
    assert differences(work, tmp_path / "at once") == []
    assert work.worked([folder]) == {}


def test_what_is_within_the_tolerance_stands(opened: Work, tmp_path: Path, during: pytest.MonkeyPatch) -> None:
    after(during)
    done = opened.worked([], config=config(tmp_path, WIDE))
    stood = dict(opened.sql("SELECT t.step, min(p.stands) FROM provisional_result p JOIN task t ON t.task_id = p.task_id GROUP BY t.step"))
    assert stood == {
        **dict.fromkeys(("bias", "dark", "detector", "distortion", "flat", "large_scale_flat"), 1),
        **dict.fromkeys(("discover", "magnitude_reference"), 0),
        "slots": stood["slots"],
    }
    assert "refine" not in done and "psf" not in done
    assert done["magnitude_reference"] == done["magnitude_fit"] == 1
    assert opened.worked([]) == {}


def test_status_says_that_a_night_is_open(opened: Work, during: pytest.MonkeyPatch) -> None:
    with open_archive(opened.url, opened.files) as archive:
        assert archive.nights.open() == {EVENING: 9}
        assert not any(step.pending for step in archive.status())
        code, out, _ = command("status", "--archive", opened.url, "--files", opened.files)
        assert code == 0 and f"the night of {EVENING} is open: 9 of its results are provisional" in out
        after(during)
        # What is to be done first is seen; the rest follows when it is done.
        pending = {step.step: step.pending for step in archive.status() if step.pending}
        assert pending.items() >= {"detector": 1, "distortion": 1}.items()


@pytest.mark.long
@pytest.mark.parametrize("commits", [2, 9, 30])
def test_a_night_closed_by_hand_is_closed_after_a_kill(commits: int, opened: Work, tmp_path: Path, during: pytest.MonkeyPatch) -> None:
    """The run ends after some transactions, the night's noon is far, and the next run finishes it."""
    opened.worked([], config=config(tmp_path, EXACT))
    with during.context() as patch:
        made: list[int] = []
        original = writer.empty_log

        def ending(engine: sa.Engine) -> None:
            made.append(1)
            if len(made) == commits:
                raise KeyboardInterrupt
            original(engine)

        patch.setattr(writer, "empty_log", ending)
        with open_archive(opened.url, opened.files) as archive, pytest.raises(KeyboardInterrupt):
            archive.nights.close(EVENING)
    done = opened.worked([])
    assert done["magnitude_fit"] == done["source_order"] == 1
    with open_archive(opened.url, opened.files) as archive:
        assert archive.nights.open() == {}
    assert differences(opened, tmp_path / "at once") == []
    assert opened.worked([]) == {}


def test_a_night_taken_in_when_it_is_over_was_never_open(reduced: Work, during: pytest.MonkeyPatch) -> None:
    assert reduced.sql("SELECT count(*) FROM provisional_result") == [(0,)]
    # A clock that is set back opens nothing.
    assert reduced.worked() == {}


@pytest.mark.long
def test_a_frame_that_comes_after_the_closing_has_the_night_made_anew(opened: Work, night: Night, tmp_path: Path) -> None:
    """As a night that was over has always been."""
    raw = tmp_path / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    work = Work(f"sqlite:///{tmp_path / 'late.db'}", tmp_path / "late")
    with pytest.MonkeyPatch.context() as patch:
        at(patch, *DURING)
        arrive(work, night, raw, 0, 5)
        with open_archive(work.url, work.files) as archive:
            assert archive.nights.close(EVENING) == [EVENING]
        done = arrive(work, night, raw, 5, N_OBJECT)
    assert "frame_fit" not in done and done["distortion"] == 1 and done["refine"] == N_OBJECT and done["magnitude_fit"] == 1
    assert work.sql("SELECT count(*) FROM provisional_result WHERE final_task_id IS NULL") == [(0,)]
