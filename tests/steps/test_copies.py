"""One exposure in several files is one exposure, wherever and whenever they are given, and any of them serves."""

from __future__ import annotations

import dataclasses
import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from mini_night import Work, command
from raw_frames import camera, object_frame, write_frame

from reduction.files.convert import read_raw
from reduction.frames import copies
from reduction.frames.copies import Twin
from reduction.pipeline.order import STEPS as PIPELINE

STEPS = ["ingest", "classify", "detector"]


@pytest.fixture
def work(archive_url: str, tmp_path: Path) -> Work:
    return Work(archive_url, tmp_path / "files")


def ingest(work: Work, *paths: Path, steps: list[str] | None = None, **options: Any) -> Any:
    tallies = work.tallies(list(paths), catalogues=[], steps=steps or ["ingest"], **options)
    assert {tally.step: tally.failed for tally in tallies if tally.failed} == {}
    return tallies[0]


def exposures(work: Work) -> tuple[int, int, int]:
    """Exposures, further files of them, and frames."""
    ((files, copies),) = work.sql("SELECT count(*), count(duplicate_of) FROM exposure")
    return files - copies, copies, work.sql("SELECT count(*) FROM frame")[0][0]


def in_every_way(folder: Path, data: np.ndarray, second: float) -> Iterator[Path]:
    """One picture as files that differ in everything but the values of the pixels, and the time."""
    plain = write_frame(folder / "a.fits", data, second)
    zipped = folder / "b.fits.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    yield from (plain, zipped)
    yield write_frame(folder / "c.fits", data, second, OBSERVER="somebody")
    yield write_frame(folder / "d.fits", data.astype(np.float32), second)
    yield write_frame(folder / "e.fits", data.astype(np.int32), second)
    yield write_frame(folder / "f.fits", data.astype(np.float64), second)
    header = fits.getheader(plain)
    for name, kind in (("g.fits.fz", "RICE_1"), ("h.fits.fz", "GZIP_2")):
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, header, compression_type=kind)]).writeto(folder / name)
        yield folder / name


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_picture_in_many_files_is_one_exposure(work: Work, tmp_path: Path, jobs: int) -> None:
    files = [path for k in range(3) for path in in_every_way(tmp_path / f"raw{k}", object_frame(k), 90.0 * k)]
    ingest(work, tmp_path, jobs=jobs)
    assert exposures(work) == (3, len(files) - 3, 3)
    # Each file, by its own path and hash, leads to the exposure that has the frames: the first of its folder.
    rows = work.sql(
        "SELECT e.path, o.path, (SELECT count(*) FROM frame f WHERE f.exposure_id = o.exposure_id) FROM exposure e "
        "JOIN exposure o ON o.exposure_id = coalesce(e.duplicate_of, e.exposure_id)"
    )
    assert {path for path, *_ in rows} == {str(path) for path in files}
    assert all(first == str(Path(path).parent / "a.fits") and n == 1 for path, first, n in rows)
    assert ingest(work, tmp_path).done == 0


def test_over_runs_too_and_after_a_relocation(work: Work, tmp_path: Path) -> None:
    files = list(in_every_way(tmp_path / "raw", object_frame(0), 0.0))
    ingest(work, files[0])
    (tmp_path / "raw").rename(tmp_path / "moved")
    assert command("relocate", tmp_path / "raw", tmp_path / "moved", "--archive", work.url)[0] == 0
    for path in files[1:]:
        ingest(work, tmp_path / "moved" / path.name)
    assert exposures(work) == (1, len(files) - 1, 1)


@pytest.mark.parametrize(
    "packed",
    [
        {"compression_type": "RICE_1"},
        {"compression_type": "RICE_1", "quantize_level": 1.5, "quantize_method": 1},
        {"compression_type": "HCOMPRESS_1", "hcomp_scale": 2.0},
    ],
)
@pytest.mark.parametrize("first_is_packed", [False, True])
def test_lossy_compression_makes_no_other_exposure(work: Work, tmp_path: Path, packed: dict[str, Any], first_is_packed: bool) -> None:
    data = object_frame(0).astype(np.float32) * np.float32(1.01)
    names = ("b.fits", "a.fits.fz") if first_is_packed else ("a.fits", "b.fits.fz")
    plain = write_frame(tmp_path / "raw" / names[0], data, 0.0)
    compressed = fits.CompImageHDU(data, fits.getheader(plain), **packed)
    fits.HDUList([fits.PrimaryHDU(), compressed]).writeto(tmp_path / "raw" / names[1])
    assert not np.array_equal(fits.getdata(tmp_path / "raw" / names[1]), data)
    ingest(work, tmp_path / "raw")
    assert exposures(work) == (1, 1, 1)


def test_rounded_values_are_no_other_exposure(work: Work, tmp_path: Path) -> None:
    data = object_frame(0).astype(np.float32) * np.float32(1.37)
    write_frame(tmp_path / "raw" / "a.fits", data, 0.0)
    write_frame(tmp_path / "raw" / "b.fits", np.rint(data).astype(np.int16), 0.0)
    ingest(work, tmp_path / "raw")
    assert exposures(work) == (1, 1, 1)


def test_other_pixels_at_one_time_are_two_exposures_and_noted(work: Work, tmp_path: Path) -> None:
    """Bias frames that are read in one second, and a detector whose fixed pattern is much stronger than its noise."""
    pattern = np.random.default_rng(1).exponential(90.0, (64, 80))
    for k in range(4):
        noise = np.random.default_rng(10 + k).normal(1000.0, 5.0, pattern.shape)
        write_frame(tmp_path / "raw" / f"dark{k}.fits", (pattern + noise).astype(np.float32 if k % 2 else np.int16), 0.0, "Dark Frame")
    ingest(work, tmp_path / "raw")
    assert exposures(work) == (4, 0, 4)
    notes = [note or "" for (note,) in work.sql("SELECT notes FROM exposure ORDER BY exposure_id")]
    assert "dark0.fits" not in notes[0] and all(
        "dark0.fits is of the same camera and time, with other pixels" in note for note in notes[1:]
    )


def test_a_clock_that_stands_still_costs_no_more_than_a_few_looks(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame of a night beside each other one would be as many looks as the square of the night."""
    looks: list[object] = []
    monkeypatch.setattr(copies, "read_raw", lambda path: looks.append(path) or read_raw(path))
    for k in range(14):
        write_frame(tmp_path / "raw" / f"{k:02}.fits", object_frame(k), 0.0)
    ingest(work, tmp_path / "raw")
    assert exposures(work) == (14, 0, 14)
    assert 0 < len(looks) <= 2 * (1 + 2 + 3 + 4)
    (last,) = work.sql("SELECT notes FROM exposure WHERE path LIKE '%13.fits'")[0]
    assert "more than 4 exposures of the camera have its time, 00.fits first" in last


def test_another_camera_at_one_time_is_nothing_to_note(work: Work, tmp_path: Path) -> None:
    for k in range(2):
        write_frame(tmp_path / "raw" / f"{k}.fits", object_frame(k), 0.0, INSTRUME=f"Camera {k}")
    ingest(work, tmp_path / "raw")
    assert exposures(work) == (2, 0, 2)
    assert all("same camera" not in (note or "") for (note,) in work.sql("SELECT notes FROM exposure"))


@pytest.mark.parametrize("seconds", [(0.0, 60.0), (0.0, 0.5)])
def test_saturated_frames_of_other_times_are_exposures_of_their_own(work: Work, tmp_path: Path, seconds: tuple[float, ...]) -> None:
    data = np.full((64, 80), 65535, np.uint16)
    data[3, 4] = 1000
    for k, second in enumerate((*seconds, seconds[0])):
        write_frame(tmp_path / "raw" / f"{k}.fits", data, second, EXPTIME=0.1, NUMBER=k)
    ingest(work, tmp_path / "raw")
    assert exposures(work) == (2, 1, 2)


def test_equal_pixels_of_other_times_are_two_exposures_and_noted(work: Work, tmp_path: Path) -> None:
    for k, second in enumerate((0.0, 300.0)):
        write_frame(tmp_path / "raw" / f"{k}.fits", object_frame(0), second)
    ingest(work, tmp_path / "raw")
    assert exposures(work) == (2, 0, 2)
    assert "its pixels are those of 0.fits" in work.sql("SELECT notes FROM exposure ORDER BY exposure_id DESC")[0][0]


def test_bias_frames_in_two_formats_do_not_make_the_read_noise_zero(work: Work, tmp_path: Path) -> None:
    for k in range(3):
        plain = write_frame(tmp_path / "raw" / f"bias{k}.fits", camera("bias", k).astype(np.uint16), 2.0 * k, "Bias Frame", EXPTIME=0.0)
        plain.with_name(f"bias{k}.fits.gz").write_bytes(gzip.compress(plain.read_bytes()))
        write_frame(tmp_path / "raw" / f"flat{k}.fits", camera("flat", k).astype(np.uint16), 100.0 + 2.0 * k, "Flat Field", EXPTIME=3.0)
        fits.HDUList(
            [
                fits.PrimaryHDU(),
                fits.CompImageHDU(camera("flat", k).astype(np.uint16), fits.getheader(tmp_path / "raw" / f"flat{k}.fits")),
            ]
        ).writeto(tmp_path / "raw" / f"flat{k}.fits.fz")
    ingest(work, tmp_path / "raw", steps=STEPS)
    ((gain, read_noise, source),) = work.sql("SELECT gain, read_noise, read_noise_source FROM detector")
    assert gain == pytest.approx(1.5, rel=0.05) and read_noise == pytest.approx(8.0, rel=0.05) and source == "bias frames"


def frames_of(folder: Path, number: int = 3) -> Path:
    for k in range(number):
        write_frame(folder / f"{k}.fits", object_frame(k), 90.0 * k)
    return folder


def test_a_folder_that_was_renamed_and_given_again_is_the_same(work: Work, tmp_path: Path) -> None:
    ingest(work, frames_of(tmp_path / "old"))
    before = work.sql("SELECT exposure_id, sha256 FROM exposure ORDER BY exposure_id")
    (tmp_path / "old").rename(tmp_path / "new")
    code, _, said = command("ingest", tmp_path / "new", "--archive", work.url, "--files", work.files, "--jobs", "1")
    assert code == 0, said
    assert "3 raw files were found in another place than before: their paths are mended" in said
    assert work.sql("SELECT exposure_id, sha256 FROM exposure ORDER BY exposure_id") == before
    assert {path for (path,) in work.sql("SELECT path FROM exposure")} == {str(tmp_path / "new" / f"{k}.fits") for k in range(3)}
    assert work.sql("SELECT count(*) FROM exposure_copy") == [(0,)]
    assert work.sql("SELECT count(*) FROM task WHERE step = 'ingest'") == [(3,)]


def test_the_same_bytes_in_two_places_are_a_copy(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest(work, frames_of(tmp_path / "one"))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    tally = ingest(work, tmp_path / "two")
    assert tally.done == 0 and tally.remarks == ["3 files are byte for byte raw files that are known: noted as copies of them"]
    assert exposures(work) == (3, 0, 3)
    rows = work.sql("SELECT c.path, e.path FROM exposure_copy c JOIN exposure e ON e.exposure_id = c.exposure_id")
    assert {(Path(copy).name, Path(copy).parent.name, Path(own).name) for copy, own in rows} == {
        (f"{k}.fits", "two", f"{k}.fits") for k in range(3)
    }
    # Once known, neither is hashed again.
    monkeypatch.setattr("reduction.frames.known_files.sha256_of", lambda path: pytest.fail(f"{path} is hashed"))
    monkeypatch.setattr("reduction.frames.ingest_step.sha256_of", lambda path: pytest.fail(f"{path} is hashed"))
    assert ingest(work, tmp_path / "one", tmp_path / "two").remarks == []


def test_the_same_bytes_given_twice_at_once_are_one_exposure_with_a_copy(work: Work, tmp_path: Path) -> None:
    frames_of(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    ingest(work, tmp_path / "one", tmp_path / "two")
    assert exposures(work) == (3, 0, 3) and work.sql("SELECT count(*) FROM exposure_copy") == [(3,)]


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_where_the_first_file_is_lost_a_copy_serves(work: Work, tmp_path: Path, damage: str) -> None:
    for k in range(3):
        plain = write_frame(tmp_path / "raw" / f"{k}.fits", object_frame(k), 90.0 * k)
        plain.with_name(f"{k}.fits.gz").write_bytes(gzip.compress(plain.read_bytes()))
    ingest(work, tmp_path / "raw")
    for k in range(3):
        if damage == "gone":
            (tmp_path / "raw" / f"{k}.fits").unlink()
        else:
            (tmp_path / "raw" / f"{k}.fits").write_bytes(b"nothing of the kind")
    code, said, _ = command("verify", "--archive", work.url, "--files", work.files)
    assert code == 0 and said.count("serves in its place") == 3, said
    ingest(work, steps=[*STEPS, "calibrate"])
    assert work.sql("SELECT count(*) FROM calibrated_frame") == [(3,)]
    for k in range(3):
        (tmp_path / "raw" / f"{k}.fits.gz").unlink()
    assert command("verify", "--archive", work.url, "--files", work.files)[0] == 1


def test_what_was_counted_twice_before_is_so_no_more(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that an earlier version took for exposures of their own: nothing stands of the frames of the second."""
    files = list(in_every_way(tmp_path / "raw", object_frame(0), 0.0))[:3]
    with monkeypatch.context() as earlier:
        earlier.setattr("reduction.frames.ingest_step.twin_of", lambda *_: Twin())
        ingest(work, *files, steps=[*STEPS, "calibrate"])
        assert exposures(work) == (3, 0, 3)
    monkeypatch.setitem(PIPELINE, "ingest", dataclasses.replace(PIPELINE["ingest"], version=PIPELINE["ingest"].version + 1))
    ingest(work, steps=[*STEPS, "calibrate"])
    assert exposures(work)[:2] == (1, 2)
    first = work.sql("SELECT frame_id FROM frame JOIN exposure USING (exposure_id) WHERE duplicate_of IS NULL")
    assert work.sql("SELECT frame_id FROM classification") == first
    assert work.sql("SELECT frame_id FROM task WHERE step = 'calibrate' AND status = 'done'") == first
    assert ingest(work, steps=[*STEPS, "calibrate"]).done == 0
