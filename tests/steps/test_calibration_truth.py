"""Awkward nights against their truth: two temperatures, another bias than the dark's, an overscan, and a disk that is full."""

from __future__ import annotations

import datetime as dt
import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from calibration_night import START, Sensor, write_night
from camera_files import write_dng
from mini_night import Work, command
from templates import make_schema

import reduction.files.product
from reduction.files.product import read_calibrated
from starledger.archive import Archive, create_archive
from starledger.reduce import reduce

STEPS = ["ingest", "classify", "detector", "bias", "dark", "dark_scaling", "large_scale_flat", "flat", "calibrate"]
SKY = 400.0


def calibrated(tmp_path: Path, *folders: Path) -> Archive:
    make_schema(f"sqlite:///{tmp_path / 'a.db'}")
    archive = create_archive(f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "files")
    tallies = reduce(archive, list(folders), steps=STEPS)
    assert {tally.step: tally.failed for tally in tallies if tally.failed} == {}
    return archive


def frames(archive: Archive) -> list[Any]:
    """The calibrated frames with the masters that they had."""
    text = (
        "SELECT c.*, p.path, e.path AS raw, e.ccd_temperature, d.ccd_temperature AS dark_temperature, d.bias_master_id AS dark_bias"
        " FROM calibrated_frame c JOIN product p ON p.product_id = c.product_id JOIN frame f ON f.frame_id = c.frame_id"
        " JOIN exposure e ON e.exposure_id = f.exposure_id LEFT JOIN master d ON d.master_id = c.dark_master_id ORDER BY c.frame_id"
    )
    return list(archive.sql(text).itertuples())


def assert_is_the_light(archive: Archive, path: str, sensor: Sensor) -> None:
    """The planes of a calibrated frame hold the light that was planted, and its scatter is what the variance says."""
    planes = read_calibrated(archive.files / path)
    stars = sensor.stars(np.random.default_rng(77))
    sky = (planes["MASK"] == 0) & (stars < 0.1)
    error = (planes["SCI"] - SKY - stars)[sky]
    assert sky.mean() > 0.5
    # To what the flat's own scale is known by: a mean over all of its pixels, good and bad.
    assert abs(np.median(error)) < 0.0025 * SKY
    pull = error / np.sqrt(planes["VAR"][sky])
    # Ten hits were planted, each far above the noise: some may hide under a star's wing, or beside a hot pixel.
    hit = np.abs(pull) > 6.0
    assert hit.sum() <= 4
    assert np.std(pull[~hit]) == pytest.approx(1.0, abs=0.03)


def test_each_object_has_the_dark_of_its_temperature(tmp_path: Path) -> None:
    cold, warm = Sensor(), Sensor()
    warm.rate = cold.rate * 4.0
    first = write_night(tmp_path / "cold", cold, n_bias=9, darks={60.0: 9}, n_object=2, cards={"CCD-TEMP": -20.0})
    start = START + dt.timedelta(hours=2)
    second = write_night(
        tmp_path / "warm", warm, n_bias=0, darks={60.0: 9}, flats=(), n_object=2, cards={"CCD-TEMP": -5.0}, start=start, seed=2
    )
    archive = calibrated(tmp_path, first, second)
    found = frames(archive)
    assert sorted(row.ccd_temperature for row in found) == [-20.0, -20.0, -5.0, -5.0]
    for row in found:
        assert row.dark_temperature == row.ccd_temperature and row.dark_scale == 1.0
        assert_is_the_light(archive, row.path, cold)


def test_a_dark_that_was_made_with_another_bias_than_the_frames(tmp_path: Path) -> None:
    sensor, later = Sensor(), Sensor()
    later.bias = sensor.bias + 12.0 + np.random.default_rng(9).normal(0.0, 2.0, sensor.shape)
    first = write_night(tmp_path / "first", sensor, n_bias=9, darks={60.0: 9}, n_object=0)
    start = START + dt.timedelta(days=2)
    second = write_night(tmp_path / "second", later, n_bias=9, darks={}, n_object=2, start=start, seed=2)
    archive = calibrated(tmp_path, first, second)
    found = frames(archive)
    assert len(found) == 2
    for row in found:
        assert row.dark_bias is not None and row.bias_master_id != row.dark_bias
        assert_is_the_light(archive, row.path, sensor)


def test_the_overscan_of_the_header_is_taken_off_and_cut(tmp_path: Path) -> None:
    sensor, width = Sensor(), 24
    raw = write_night(tmp_path / "raw", sensor, n_bias=9, darks={60.0: 9})
    rng, (ny, nx) = np.random.default_rng(12), sensor.shape
    for number, path in enumerate(sorted(raw.iterdir())):
        with fits.open(path, mode="update") as hdus:
            # The level wanders from frame to frame by far more than the noise of a master, and along the rows.
            wander = 3.0 * (number % 7) + 4.0 * np.linspace(0.0, 1.0, ny)[:, None]
            strip = sensor.bias_level + rng.normal(0.0, sensor.read_noise / sensor.gain, (ny, width))
            full = np.hstack([hdus[0].data.astype(float), strip]) + wander
            hdus[0].data = np.rint(full + rng.uniform(-0.5, 0.5, full.shape) * (wander % 1 > 0)).clip(0, 65535).astype(np.uint16)
            hdus[0].header["TRIMSEC"], hdus[0].header["BIASSEC"] = f"[1:{nx},1:{ny}]", f"[{nx + 1}:{nx + width},1:{ny}]"
    archive = calibrated(tmp_path, raw)
    found = frames(archive)
    assert len(found) == 3
    for row in found:
        assert read_calibrated(archive.files / row.path)["SCI"].shape == sensor.shape
        assert_is_the_light(archive, row.path, sensor)


def test_a_full_disk_while_a_cameras_file_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    write_dng(raw / "IMG_1.DNG", np.random.default_rng(3).integers(500, 900, (64, 80)).astype(np.uint16))
    work = Work(f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "files")
    options = ("--archive", work.url, "--files", work.files, "--jobs", "1")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(reduction.files.product.os, "fsync", full)
        code, _, messages = command("reduce", raw, *options)
    said = [line for line in messages.splitlines() if "No space left on device" in line]
    assert code == 3 and "Traceback" not in messages
    assert said == messages.splitlines()[-1:] and "free some space" in said[0]
    assert [path for path in work.files.rglob("*") if path.is_file()] == []
    assert work.sql("SELECT (SELECT count(*) FROM exposure), (SELECT count(*) FROM product)") == [(0, 0)]
    # With space again, the file is taken as if nothing had been.
    command("reduce", raw, *options)
    assert work.sql("SELECT (SELECT count(*) FROM exposure), (SELECT count(*) FROM product WHERE kind = 'raw')") == [(1, 1)]
