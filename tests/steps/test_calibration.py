"""From raw frames of a camera, monochrome or mosaic, to masters and calibrated frames: what comes of a night whose every pixel is known."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from astropy.io import fits
from calibration_night import Sensor, write_night
from mini_night import command
from templates import make_schema

from db.engine import make_engine
from db.flags import Mask
from reduction.files.product import read_calibrated, read_image
from starledger.archive import Archive, create_archive, open_archive
from starledger.reduce import reduce

STEPS = ["ingest", "classify", "detector", "bias", "dark", "dark_scaling", "large_scale_flat", "flat", "calibrate"]
MONO = Sensor()
MOSAIC = Sensor(bayer="GRBG", shape=(200, 240), seed=8)


def calibrated(url: str, folder: Path, files: Path, **options: Any) -> Archive:
    """An archive of the night, as far as calibrated frames."""
    make_schema(url)
    archive = create_archive(url, files)
    tallies = reduce(archive, [folder], steps=STEPS, **options)
    assert {tally.step: tally.failed for tally in tallies if tally.failed} == {}
    return archive


def rows(archive: Archive, text: str, **parameters: Any) -> pd.DataFrame:
    return archive.sql(text, **parameters)


def one(archive: Archive, text: str, **parameters: Any) -> Any:
    found = rows(archive, text, **parameters)
    assert found.shape == (1, 1), found
    return found.iloc[0, 0]


@pytest.fixture(scope="module")
def mono(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """A monochrome night with biases, darks of two exposure times and flats."""
    folder = tmp_path_factory.mktemp("mono")
    write_night(
        folder / "raw", MONO, darks={60.0: 7, 180.0: 7}, n_bias=9, flats=(9000.0, 14000.0, 20000.0, 16000.0, 11000.0, 18000.0, 13000.0)
    )
    return calibrated(f"sqlite:///{folder / 'a.db'}", folder / "raw", folder / "files")


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """The same of a camera with a Bayer mosaic."""
    folder = tmp_path_factory.mktemp("mosaic")
    write_night(folder / "raw", MOSAIC, n_bias=7)
    return calibrated(f"sqlite:///{folder / 'a.db'}", folder / "raw", folder / "files")


def master(archive: Archive, kind: str, **where: Any) -> tuple[dict[str, np.ndarray], Any]:
    condition = " AND ".join([f"kind = '{kind}'", *(f"{name} = :{name}" for name in where)])
    (row,) = rows(archive, f"SELECT * FROM good_master WHERE {condition}", **where).itertuples()
    return read_image(archive.files / row.path)[0], row


def test_frames_are_sorted(mono: Archive, mosaic: Archive) -> None:
    for archive, channels in ((mono, 1), (mosaic, 4)):
        found = rows(
            archive,
            "SELECT c.type, e.path FROM frame f JOIN classification c ON c.frame_id = f.frame_id "
            "JOIN exposure e ON e.exposure_id = f.exposure_id",
        )
        kinds = {"bias": "bias", "dark": "dark", "flat": "flat", "light": "object"}
        assert [kinds[Path(path).name.split("-")[0]] for path in found["path"]] == found["type"].tolist()
        assert found["path"].value_counts().unique().tolist() == [channels]


def test_the_master_bias_is_the_cameras_bias(mono: Archive) -> None:
    planes, row = master(mono, "bias")
    error = planes["SCI"] - MONO.bias
    expected = np.hypot(MONO.read_noise / MONO.gain, 1 / np.sqrt(12)) / 3
    assert error.std() < 1.05 * expected
    assert abs(error.mean()) < 0.02 * 3 * expected
    assert row.noise == pytest.approx(expected, rel=0.05)
    assert np.mean(error**2 / planes["VAR"]) == pytest.approx(1.0, abs=0.04)
    assert set(planes) == {"SCI", "VAR", "MASK", "COUNT"} and planes["COUNT"].max() == 9


def test_the_steps_of_the_converter_are_no_outliers(tmp_path: Path) -> None:
    quiet = Sensor(read_noise=0.3, shape=(100, 120))
    archive = calibrated(f"sqlite:///{tmp_path / 'a.db'}", write_night(tmp_path / "raw", quiet, n_bias=9), tmp_path / "files")
    planes, _ = master(archive, "bias")
    # Nine values of one step or the next are all good; most of what goes are the planted hits.
    assert planes["COUNT"].mean() > 9 - 0.01
    assert planes["VAR"].min() >= 0.99 / 12 / 9


@pytest.mark.parametrize("exptime", [60.0, 180.0])
def test_the_master_dark_is_the_dark_current(mono: Archive, exptime: float) -> None:
    planes, row = master(mono, "dark", exptime=exptime)
    hot = MONO.hot
    assert np.median(planes["SCI"][hot] / (MONO.rate[hot] * exptime)) == pytest.approx(1.0, abs=0.01)
    # Photons of the dark current are noise: no value of a hot pixel is an outlier for its scatter, and its error says so.
    bias, _ = master(mono, "bias")
    pull = (planes["SCI"] - MONO.rate * exptime + bias["SCI"] - MONO.bias) / np.sqrt(planes["VAR"])
    assert planes["COUNT"][hot].mean() > 0.99 * 7
    assert np.mean(pull[hot] ** 2) == pytest.approx(1.0, abs=0.3) and np.mean(pull[~hot] ** 2) == pytest.approx(1.0, abs=0.04)
    marked = (planes["MASK"] & int(Mask.HOT)) != 0
    assert marked[hot].mean() > 0.99 and marked[~hot].mean() < 1e-3
    assert row.ccd_temperature == -10.0 and row.bias_master_id is not None


def test_darks_of_two_exposure_times_are_found_linear(mono: Archive) -> None:
    (row,) = rows(mono, "SELECT * FROM dark_linearity").itertuples()
    assert row.is_linear == 1 and row.slope == pytest.approx(3.0, rel=0.01) and row.n_pixel >= 100
    assert rows(mono, "SELECT DISTINCT max_ratio FROM good_master WHERE kind = 'dark'")["max_ratio"].tolist() == [10.0]


def test_the_master_flat_is_the_response(mono: Archive) -> None:
    planes, row = master(mono, "flat")
    good = planes["MASK"] == 0
    ratio = planes["SCI"][good] / (MONO.response / MONO.response[good].mean())[good] - 1
    chi2 = np.mean(ratio**2 / planes["VAR"][good] * (MONO.response[good] ** 2))
    assert 0.9 < chi2 < 1.1
    large, _ = master(mono, "largescale")
    assert large["SCI"].shape == (10, 13) and large["COUNT"].max() == 7
    assert row.n_frame == 7 and row.warning is None


def response_error(archive: Archive, sensor: Sensor, **where: Any) -> tuple[np.ndarray, np.ndarray, Any]:
    """Error of the master flat and its variance where there is no dark current to speak of, and its row."""
    planes, row = master(archive, "flat", **where)
    good = (planes["MASK"] == 0) & ~sensor.hot
    return (planes["SCI"] - sensor.response / sensor.response[good].mean())[good], planes["VAR"][good], row


def test_flats_have_the_weight_of_their_errors(tmp_path: Path) -> None:
    noisy, levels = Sensor(read_noise=30.0, gain=1.5), np.array([250.0, 350.0, 500.0, 700.0, 1000.0, 1400.0, 2000.0, 800.0, 1200.0])
    raw = write_night(tmp_path / "raw", noisy, n_bias=40, darks={}, n_object=0, flats=tuple(levels))
    archive = calibrated(f"sqlite:///{tmp_path / 'a.db'}", raw, tmp_path / "files")
    error, variance, _ = response_error(archive, noisy)
    assert np.mean(error**2 / variance) == pytest.approx(1.0, abs=0.05)
    own = (noisy.read_noise / noisy.gain / levels) ** 2 + 1 / (noisy.gain * levels)
    mean = np.average(1 / levels, weights=1 / own)
    best = 1 / np.sum(1 / own) + mean**2 * (noisy.read_noise / noisy.gain) ** 2 / 40
    # Weights by light alone make 1.13 times the best.
    assert np.mean(error**2) < 1.05 * best


def test_the_error_of_a_bias_is_in_every_flat(tmp_path: Path) -> None:
    noisy = Sensor(read_noise=15.0, gain=1.5)
    raw = write_night(tmp_path / "raw", noisy, n_bias=3, darks={}, n_object=0, flats=tuple(np.geomspace(300.0, 600.0, 14)))
    archive = calibrated(f"sqlite:///{tmp_path / 'a.db'}", raw, tmp_path / "files")
    error, variance, row = response_error(archive, noisy)
    assert np.mean(error**2 / variance) == pytest.approx(1.0, abs=0.06)
    # Three bias frames of 10 ADU noise under a light of 440 ADU, which no number of flats makes better.
    assert row.noise**2 > (10.0 / np.sqrt(3.0) / 450.0) ** 2


@pytest.mark.parametrize("alone", [False, True])
def test_where_flats_are_noisier_than_pixels_differ_the_large_scale_flat_is_better(tmp_path: Path, alone: bool) -> None:
    noisy = Sensor(read_noise=30.0, gain=1.5)
    raw = write_night(tmp_path / "raw", noisy, n_bias=20, darks={}, n_object=0, flats=(600.0,) * 5)
    (tmp_path / "c.toml").write_text(f"[flat]\nmax_error = {0.015 if alone else 1.0}\n")
    archive = calibrated(f"sqlite:///{tmp_path / 'a.db'}", raw, tmp_path / "files", config=tmp_path / "c.toml")
    error, variance, row = response_error(archive, noisy)
    assert np.mean(error**2 / variance) == pytest.approx(1.0, abs=0.2 if alone else 0.06)
    # The pixels differ by 1 %, and five such flats tell them to 2.2 %.
    assert (np.std(error) < 0.012) == alone and ("large-scale flat alone" in row.warning) == alone


def test_each_flat_has_the_dark_of_its_exposure_time(tmp_path: Path) -> None:
    seconds = (20.0, 15.0, 10.0, 6.0, 4.0)
    raw = write_night(tmp_path / "raw", MONO, n_bias=9, darks={60.0: 9, 20.0: 9}, flats=(9000.0,) * 5, n_object=0)
    rng = np.random.default_rng(6)
    for path, exptime in zip(sorted(raw.glob("flat*")), seconds, strict=True):
        with fits.open(path, mode="update") as hdus:
            hdus[0].data, hdus[0].header["EXPTIME"] = MONO.expose(9000.0, exptime, rng), exptime
    archive = calibrated(f"sqlite:///{tmp_path / 'a.db'}", raw, tmp_path / "files")
    planes, row = master(archive, "flat")
    # One dark for all would take off up to 480 ADU too much, of 9000.
    error = (planes["SCI"] - MONO.response)[MONO.hot]
    assert row.n_frame == 5 and row.warning is None
    assert abs(np.mean(error)) < 0.003
    assert np.mean(error**2 / planes["VAR"][MONO.hot]) == pytest.approx(1.0, abs=0.3)


def test_where_no_master_comes_of_a_set_every_frame_has_its_reason(tmp_path: Path) -> None:
    raw = write_night(tmp_path / "raw", MONO, n_bias=4, darks={}, n_object=0, flats=(9000.0, 2000.0, 1800.0, 1600.0))
    (tmp_path / "c.toml").write_text("[large_scale_flat]\nmin_snr = 70\n")
    archive = create_archive(f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "files")
    reduce(archive, [raw], steps=STEPS, config=tmp_path / "c.toml")
    message = one(
        archive, "SELECT message FROM task WHERE step = 'large_scale_flat' AND status = 'failed' AND error_code = 'master.too_few'"
    )
    flats = rows(archive, "SELECT frame_id FROM classification WHERE type = 'flat' ORDER BY frame_id")["frame_id"].tolist()
    assert f"frame {flats[0]}:" not in message
    for frame_id in flats[1:]:
        assert f"frame {frame_id}: too faint" in message and message.count(f"frame {frame_id}:") == 1


@pytest.mark.parametrize("dither", [0, 12])
def test_sky_flats_are_free_of_stars(tmp_path: Path, dither: int) -> None:
    raw = write_night(tmp_path / "raw", MONO, n_bias=9, darks={60.0: 7}, flats=(), n_object=7)
    rng, field_stars = np.random.default_rng(4), MONO.stars(np.random.default_rng(77), n=15, brightest=3e4)
    for k, path in enumerate(sorted(raw.glob("light*"))):
        with fits.open(path, mode="update") as hdus:
            hdus[0].data = MONO.expose(400.0 + np.roll(field_stars, (dither * k, 2 * dither * k), (0, 1)), 60.0, rng)
    (tmp_path / "c.toml").write_text("[large_scale_flat]\nfrom_sky = true\n")
    archive = calibrated(f"sqlite:///{tmp_path / 'a.db'}", raw, tmp_path / "files", config=tmp_path / "c.toml")
    error, variance, row = response_error(archive, MONO)
    assert row.from_sky == 1 and row.n_frame == 7
    assert np.mean(error**2 / variance) == pytest.approx(1.0, abs=0.05)
    # Stars that stand still are masked, however alike the sky was.
    assert ("too little dithered" in row.warning) == (dither == 0)
    large, _ = master(archive, "largescale")
    blocks = MONO.response.reshape(10, 16, -1)[:, :, :192].reshape(10, 16, 12, 16).mean(axis=(1, 3))
    ratio = large["SCI"][:, :12] / blocks
    assert np.std(ratio / ratio.mean()) < 0.003


def test_object_frames_are_light(mono: Archive) -> None:
    found = rows(mono, "SELECT c.*, p.path FROM calibrated_frame c JOIN product p ON p.product_id = c.product_id")
    stars = MONO.stars(np.random.default_rng(77))
    for row in found.itertuples():
        planes = read_calibrated(mono.files / row.path)
        sky = (planes["MASK"] == 0) & (stars < 0.1)
        pull = (planes["SCI"] - 400.0 - stars)[sky] / np.sqrt(planes["VAR"][sky])
        # What the masters are off is common to many pixels: the mean may differ, the scatter not.
        assert pull.std() == pytest.approx(1.0, abs=0.03)
        assert abs(np.mean((planes["SCI"] - 400.0)[sky])) < 0.5
        assert row.dark_scale == 1.0 and row.zero_level == 0.0 and pd.isna(row.remark)
        assert 3 <= row.n_cosmic <= 60


def test_a_mosaic_is_four_frames_with_their_own_masters(mosaic: Archive) -> None:
    counts = rows(mosaic, "SELECT kind, channel, count(*) AS n FROM good_master GROUP BY kind, channel")
    assert len(counts) == 16 and set(counts["n"]) == {1} and set(counts["channel"]) == {"R", "G1", "G2", "B"}
    offsets = rows(mosaic, "SELECT DISTINCT channel, raw_x0, raw_y0, raw_step, nx, ny FROM frame").set_index("channel")
    assert offsets.loc["R"].tolist() == [1, 0, 2, 120, 100] and offsets.loc["G1"].tolist() == [0, 0, 2, 120, 100]
    assert offsets.loc["B"].tolist() == [0, 1, 2, 120, 100] and offsets.loc["G2"].tolist() == [1, 1, 2, 120, 100]
    bands = rows(mosaic, "SELECT DISTINCT f.channel, p.name FROM frame f JOIN passband p ON p.passband_id = f.passband_id")
    assert dict(zip(bands["channel"], bands["name"], strict=True)) == {"R": "V R", "G1": "V G", "G2": "V G", "B": "V B"}


@pytest.mark.parametrize("channel", ["R", "G1", "G2", "B"])
def test_each_channels_pixels_are_those_of_the_mosaic(mosaic: Archive, channel: str) -> None:
    (place,) = rows(mosaic, "SELECT DISTINCT raw_x0, raw_y0 FROM frame WHERE channel = :c", c=channel).itertuples()
    cut = (slice(place.raw_y0, None, 2), slice(place.raw_x0, None, 2))
    bias, _ = master(mosaic, "bias", channel=channel)
    assert (bias["SCI"] - MOSAIC.bias[cut]).std() < 3.0
    flat, _ = master(mosaic, "flat", channel=channel)
    good = flat["MASK"] == 0
    expected = MOSAIC.response[cut] / MOSAIC.response[cut][good].mean()
    assert (flat["SCI"] / expected)[good].std() < 0.01
    (path,) = rows(
        mosaic,
        "SELECT p.path FROM calibrated_frame c JOIN product p ON p.product_id = c.product_id JOIN frame f ON f.frame_id = c.frame_id"
        " WHERE f.channel = :c ORDER BY f.frame_id LIMIT 1",
        c=channel,
    )["path"]
    planes = read_calibrated(mosaic.files / path)
    light = (400.0 * MOSAIC.colours() + MOSAIC.stars(np.random.default_rng(77)))[cut]
    sky = (planes["MASK"] == 0) & (light < 1.01 * np.median(light))
    pull = (planes["SCI"] - light * MOSAIC.response[cut][good].mean())[sky] / np.sqrt(planes["VAR"][sky])
    assert pull.std() == pytest.approx(1.0, abs=0.05)


def test_darks_are_scaled_for_shorter_exposures_and_their_residual_is_small(tmp_path: Path) -> None:
    raw = write_night(tmp_path / "raw", MONO, darks={200.0: 9, 100.0: 9}, exptime=50.0, n_bias=12)
    archive = calibrated(f"sqlite:///{tmp_path / 'a.db'}", raw, tmp_path / "files")
    found = rows(archive, "SELECT c.dark_scale, p.path FROM calibrated_frame c JOIN product p ON p.product_id = c.product_id")
    assert found["dark_scale"].tolist() == [0.5, 0.5, 0.5]
    planes = [read_calibrated(archive.files / path) for path in found["path"]]
    dark = MONO.hot & (MONO.stars(np.random.default_rng(77)) < 0.1)
    residual = np.mean([plane["SCI"] for plane in planes], axis=0)[dark] - 400.0
    assert abs(np.mean(residual)) < 0.02 * np.mean(MONO.rate[dark]) * 50.0


def test_without_a_second_exposure_time_no_dark_is_scaled(tmp_path: Path) -> None:
    raw = write_night(tmp_path / "raw", MONO, darks={200.0: 4}, exptime=50.0)
    archive = calibrated(f"sqlite:///{tmp_path / 'a.db'}", raw, tmp_path / "files")
    found = rows(archive, "SELECT dark_scale, remark FROM calibrated_frame")
    assert found["dark_scale"].isna().all() and set(found["remark"]) == {"no master dark"}


def test_bad_flats_are_rows_with_reasons(tmp_path: Path) -> None:
    raw = write_night(tmp_path / "raw", MONO, flats=(9000.0, 14000.0, 20000.0, 16000.0, 60.0, 61000.0, 12000.0))
    names = sorted(path.name for path in raw.glob("flat*"))
    with fits.open(raw / names[6], mode="update") as hdus:
        cloud = 1.0 + 0.15 * np.linspace(-1, 1, MONO.shape[1])
        hdus[0].data = np.clip((hdus[0].data - 800.0) * cloud + 800.0, 0, 65535).astype(np.uint16)
    archive = calibrated(f"sqlite:///{tmp_path / 'a.db'}", raw, tmp_path / "files")
    found = rows(
        archive,
        "SELECT e.path, mf.used, mf.reason FROM master_frame mf JOIN master m ON m.master_id = mf.master_id"
        " JOIN frame f ON f.frame_id = mf.frame_id JOIN exposure e ON e.exposure_id = f.exposure_id WHERE m.kind = 'flat'",
    )
    reasons = {Path(row.path).name: row.reason for row in found.itertuples()}
    refused = {name: reason for name, reason in reasons.items() if isinstance(reason, str)}
    assert "too faint" in refused.pop(names[4], "") or names[4] not in reasons
    assert "another shape" in refused.pop(names[6])
    assert refused == {}


def test_a_persons_word_wins_and_makes_anew_what_depends_on_it(tmp_path: Path) -> None:
    raw = write_night(tmp_path / "raw", MONO, n_bias=4, n_object=2)
    archive = calibrated(f"sqlite:///{tmp_path / 'a.db'}", raw, tmp_path / "files")
    before = one(archive, "SELECT n_frame FROM good_master WHERE kind = 'flat'")
    flats = rows(archive, "SELECT frame_id FROM classification WHERE type = 'flat' ORDER BY frame_id")["frame_id"].tolist()
    url = str(archive.engine.url)
    assert command("frames", "set", "other", str(flats[0]), "--reason", "a bird", "--archive", url)[0] == 0
    tallies = {tally.step: tally for tally in reduce(open_archive(url, writer=True), steps=STEPS)}
    assert {name: tally.done for name, tally in tallies.items() if tally.done} == {
        "classify": 1, "detector": 1, "bias": 1, "dark": 1, "large_scale_flat": 1, "flat": 1, "calibrate": 2,
    }  # fmt: skip
    assert one(archive, "SELECT n_frame FROM good_master WHERE kind = 'flat'") == before - 1
    frame = rows(archive, "SELECT type, reason, confidence FROM classification WHERE frame_id = :f", f=flats[0]).iloc[0]
    assert frame["type"] == "other" and "a bird" in frame["reason"] and frame["confidence"] == 1.0
    assert command("frames", "unset", str(flats[0]), "--archive", url)[0] == 0
    reduce(open_archive(url, writer=True), steps=STEPS)
    assert one(archive, "SELECT n_frame FROM good_master WHERE kind = 'flat'") == before


def test_a_bad_master_is_never_used_again_and_exactly_what_rests_on_it_is_redone(tmp_path: Path) -> None:
    raw = write_night(tmp_path / "raw", MONO, n_object=2)
    archive = calibrated(f"sqlite:///{tmp_path / 'a.db'}", raw, tmp_path / "files")
    url = str(archive.engine.url)
    product = one(archive, "SELECT product_id FROM good_master WHERE kind = 'flat'")
    assert command("mask", "product", str(product), "--reason", "dew", "--archive", url)[0] == 0
    tallies = {tally.step: tally.done for tally in reduce(open_archive(url, writer=True), steps=STEPS) if tally.done}
    assert tallies == {"calibrate": 2}
    assert rows(archive, "SELECT flat_master_id FROM calibrated_frame")["flat_master_id"].isna().all()
    assert rows(archive, "SELECT * FROM good_master WHERE kind = 'flat'").empty
    assert command("mask", "product", str(product), "--undo", "--archive", url)[0] == 0
    reduce(open_archive(url, writer=True), steps=STEPS)
    assert rows(archive, "SELECT flat_master_id FROM calibrated_frame")["flat_master_id"].notna().all()
    assert one(archive, "SELECT count(*) FROM stale_product") == 0


def test_frames_that_are_not_kept_are_made_anew_when_needed(tmp_path: Path) -> None:
    raw = write_night(tmp_path / "raw", MONO, n_object=2)
    config = tmp_path / "c.toml"
    config.write_text("[calibrate]\nkeep = false\n")
    kept = calibrated(f"sqlite:///{tmp_path / 'kept.db'}", raw, tmp_path / "kept")
    archive = create_archive(f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "files")
    reduce(archive, [raw], steps=[*STEPS, "detect"], config=config)
    reduce(kept, steps=["detect"])
    assert not (tmp_path / "files" / "calibrated").exists()
    assert rows(archive, "SELECT product_id FROM calibrated_frame")["product_id"].isna().all()
    text = "SELECT frame_id, number, x, y, flux FROM detection ORDER BY frame_id, number"
    mine, theirs = rows(archive, text), rows(kept, text)
    assert len(mine) > 40 and abs(len(mine) - len(theirs)) <= 2
    bright = mine["number"] < 10
    np.testing.assert_allclose(mine[bright][["x", "y"]], theirs[theirs["number"] < 10][["x", "y"]], atol=0.01)


def test_a_camera_file_and_its_fits_copy_are_one_exposure(tmp_path: Path, archive_url: str) -> None:
    from camera_files import write_dng

    folder = tmp_path / "raw"
    folder.mkdir()
    rng = np.random.default_rng(3)
    write_dng(folder / "IMG_1.DNG", rng.integers(500, 900, (64, 80)).astype(np.uint16))
    assert command("convert", str(folder / "IMG_1.DNG"), "-o", str(folder / "fits"))[0] == 0
    archive = create_archive(archive_url, tmp_path / "files")
    reduce(archive, [folder], steps=["ingest", "classify"])
    found = rows(archive, "SELECT exposure_id, duplicate_of, product_id FROM exposure ORDER BY exposure_id")
    assert found["duplicate_of"].notna().sum() == 1 and found["product_id"].notna().sum() == 1
    assert one(archive, "SELECT count(*) FROM frame") == 4
    # The camera's own file may go away: its FITS copy among the products stays.
    shutil.move(folder / "IMG_1.DNG", tmp_path / "away.DNG")
    make_engine(archive_url).dispose()
    with archive.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM product WHERE kind = 'raw'")).scalar() == 1
