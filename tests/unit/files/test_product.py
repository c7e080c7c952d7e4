"""Calibrated frames as files: what the rounding loses, how large they are, and who can read them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
import sep
from astropy.io import fits
from astropy.wcs import WCS

from db.errors import FrameUnusable
from db.flags import Mask
from reduction.files.fits import read_raw, sha256_of
from reduction.files.product import TEMPORARY_PREFIX, read_calibrated, read_image, write_calibrated, write_image
from reduction.files.tiles import ERROR_STEP, SCIENCE_STEP, lowest_error

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]
SHAPE = (400, 500)
RAW_BYTES = 2  # of an uncompressed raw pixel


def photons(light: Any, *, gain: float = 1.5, read_noise: float = 5.0, flat: Any = 1.0, seed: int = 1) -> Planes:
    """A calibrated frame of whole raw ADU: value, variance from the pixel's own counts, empty mask."""
    generator = np.random.default_rng(seed)
    expected = np.broadcast_to(np.asarray(light, float) * flat, SHAPE)
    raw = np.rint(generator.normal(expected, np.sqrt(expected / gain + (read_noise / gain) ** 2)))
    variance = np.maximum(raw, 0) / gain + (read_noise / gain) ** 2
    return (raw / flat).astype(np.float32), (variance / flat**2).astype(np.float32), np.zeros(SHAPE, np.uint8)


def response(seed: int = 2, corner: float = 0.4) -> np.ndarray:
    """Flat of a vignetted frame whose pixels differ by 1 %."""
    y, x = np.indices(SHAPE, dtype=float)
    radius2 = ((y / SHAPE[0] - 0.5) ** 2 + (x / SHAPE[1] - 0.5) ** 2) / 0.5
    return (1 - (1 - corner) * radius2) * np.random.default_rng(seed).normal(1, 0.01, SHAPE)


def flat_sky() -> Planes:
    return photons(100.0, flat=response(corner=1.0))


def vignetted_sky() -> Planes:
    return photons(100.0, flat=response())


def few_electrons() -> Planes:
    return photons(3.0, gain=1.0, read_noise=1.5, flat=response(corner=1.0))


def twilight() -> Planes:
    return photons(30_000.0, flat=response())


def fixed_pattern() -> Planes:
    """Columns differ by 10 sigma and rows by 2, and one pixel in 200 is hot; all of it left in the frame."""
    generator = np.random.default_rng(3)
    hot = generator.random(SHAPE) < 0.005
    values, variance, mask = photons(100.0 + np.where(hot, generator.exponential(3000, SHAPE), 0))
    pattern = generator.normal(500, 90, SHAPE[1]) + generator.normal(0, 20, (SHAPE[0], 1))
    return (values + pattern).astype(np.float32), variance, np.where(hot, int(Mask.HOT), mask).astype(np.uint8)


def star_field() -> Planes:
    generator = np.random.default_rng(4)
    light = np.full(SHAPE, 200.0)
    rows, columns = np.indices(SHAPE)
    for y, x, peak in zip(*generator.uniform(10, [[390], [490]], (2, 60)), 50 * (generator.pareto(0.6, 60) + 1), strict=True):
        light += min(peak, 1e6) * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 2.6)
    values, variance, mask = photons(np.minimum(light, 60_000.0), flat=response())
    return values, variance, np.where(light >= 60_000, int(Mask.SATURATED), mask).astype(np.uint8)


def holes() -> Planes:
    """A border, a column and one pixel in 200 have no data."""
    values, variance, mask = vignetted_sky()
    lost = np.random.default_rng(5).random(SHAPE) < 0.005
    lost[:, 250], lost[:60], lost[:, :20] = True, True, True
    return np.where(lost, 0, values), np.where(lost, 0, variance), np.where(lost, int(Mask.NO_DATA), mask).astype(np.uint8)


FRAMES = (flat_sky, vignetted_sky, few_electrons, twilight, fixed_pattern, star_field, holes)


def lost(written: np.ndarray, planes: Planes) -> np.ndarray:
    """What the rounding added to each pixel with data, in units of its error."""
    values, variance, _ = planes
    known = variance > 0
    return ((written.astype(float) - values)[known]) / np.sqrt(variance[known].astype(float))


@pytest.fixture(params=FRAMES, ids=lambda frame: str(frame.__name__))
def planes(request: pytest.FixtureRequest) -> Planes:
    made: Planes = request.param()
    return made


def test_the_rounding_is_a_uniform_error_of_a_hundredth_of_the_noise(tmp_path: Path) -> None:
    values = np.random.default_rng(6).normal(321.0, 7.0, SHAPE).astype(np.float32)
    write_calibrated(tmp_path / "a.fits", values, np.full(SHAPE, 49, np.float32), np.zeros(SHAPE, np.uint8))
    back = read_calibrated(tmp_path / "a.fits")
    error = (back["SCI"].astype(float) - values) / 7.0
    assert error.std() == pytest.approx(SCIENCE_STEP / np.sqrt(12), rel=0.01)
    assert np.abs(error).max() <= SCIENCE_STEP / 2 + 1e-5
    # Uniform, and independent of what lies beneath the step.
    assert np.histogram(error, 10, (-SCIENCE_STEP / 2, SCIENCE_STEP / 2))[0] == pytest.approx(error.size / 10, rel=0.05)
    assert abs(np.corrcoef(error.ravel(), (values % 0.2422).ravel())[0, 1]) < 0.01
    np.testing.assert_allclose(back["VAR"], 49.0, rtol=1e-6)


def test_loss_bias_and_size_of_every_kind_of_frame(tmp_path: Path, planes: Planes) -> None:
    written = write_calibrated(tmp_path / "a.fits", *planes)
    back = read_calibrated(tmp_path / "a.fits")
    loss = lost(back["SCI"], planes)
    assert np.sqrt(np.mean(loss**2)) <= 0.0101
    assert abs(loss.mean()) < 2e-4
    blocks = (back["SCI"].astype(float) - planes[0])[:400, :500].reshape(8, 50, 10, 50).mean(axis=(1, 3))
    typical = np.sqrt(np.median(planes[1][planes[1] > 0]))
    assert np.abs(blocks).max() < 1e-3 * typical
    known = planes[1] > 0
    ratio = np.sqrt(back["VAR"][known] / planes[1][known].astype(float))
    assert np.abs(ratio - 1).max() <= 0.0046
    assert abs(ratio.mean() - 1) < 5e-4
    np.testing.assert_array_equal(back["MASK"], planes[2])
    assert written.size <= 1.2 * RAW_BYTES * planes[0].size


def test_pixels_without_data_stay_exactly_zero(tmp_path: Path) -> None:
    frame = holes()
    write_calibrated(tmp_path / "a.fits", *frame)
    back = read_calibrated(tmp_path / "a.fits")
    empty = (back["MASK"] & int(Mask.NO_DATA)) > 0
    assert empty.any()
    for name in ("SCI", "VAR"):
        assert not back[name][empty].any()
        assert back[name].dtype == np.float32 and back[name].dtype.isnative


def test_the_noise_that_a_packer_sees_in_a_fixed_pattern_would_ruin_the_frame(tmp_path: Path) -> None:
    frame = fixed_pattern()
    write_calibrated(tmp_path / "a.fits", *frame)
    fits.HDUList(
        [fits.PrimaryHDU(), fits.CompImageHDU(frame[0], compression_type="RICE_1", quantize_level=16, quantize_method=2, dither_seed=1)]
    ).writeto(tmp_path / "b.fits")
    ours = lost(read_calibrated(tmp_path / "a.fits")["SCI"], frame)
    theirs = lost(fits.getdata(tmp_path / "b.fits"), frame)
    assert ours.std() <= 0.0101
    assert theirs.std() > 0.1


def test_cfitsio_reads_the_same_numbers_as_astropy(tmp_path: Path, planes: Planes) -> None:
    path = tmp_path / "a.fits"
    write_calibrated(path, *planes)
    ours, _ = read_image(path)
    assert list(ours) == ["SCI", "ERR", "MASK"]
    with fits.open(path) as astropy, fitsio.FITS(path) as cfitsio:
        astropy.verify("exception")
        for name, plane in ours.items():
            np.testing.assert_array_equal(astropy[name].data, plane)
            np.testing.assert_array_equal(cfitsio[name].read(), plane)


def test_a_viewer_finds_unit_and_world_coordinates_with_the_image(tmp_path: Path) -> None:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN-SIP", "DEC--TAN-SIP"], [31.04, 46.69], [250.5, 200.5]
    wcs.wcs.cd = [[-0.0014, 0.00001], [0.00002, 0.0014]]
    header = wcs.to_header()
    header["A_ORDER"], header["A_2_0"], header["B_ORDER"], header["B_0_2"] = 2, 1e-6, 2, -1e-6
    header["EXPTIME"], header["BUNIT"] = 60.0, "electron"
    write_calibrated(tmp_path / "a.fits", *flat_sky(), header)
    with fits.open(tmp_path / "a.fits") as hdus:
        assert hdus[0].header["EXPTIME"] == 60.0
        assert [hdu.header.get("BUNIT") for hdu in hdus[1:]] == ["adu", "adu", None]
        assert "EXPTIME" not in hdus["SCI"].header
        for hdu in hdus[1:]:
            found = WCS(hdu.header).all_pix2world([[10.0, 380.0]], 0)
            np.testing.assert_allclose(found, WCS(header).all_pix2world([[10.0, 380.0]], 0), rtol=1e-12)
    assert fitsio.read_header(tmp_path / "a.fits", ext="SCI")["CRVAL1"] == 31.04


def test_equal_frames_are_equal_files_at_any_time(tmp_path: Path, planes: Planes, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_calibrated(tmp_path / "a.fits", *planes, {"EXPTIME": 60.0})
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert write_calibrated(tmp_path / "b.fits", *planes, {"EXPTIME": 60.0}) == first
    assert (first.sha256, first.size) == (sha256_of(tmp_path / "a.fits"), (tmp_path / "a.fits").stat().st_size)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (51, 1), (51, 2), (101, 3)])
def test_small_frames_too(tmp_path: Path, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(7).normal(100, 3, shape).astype(np.float32)
    variance, mask = np.full(shape, 9, np.float32), np.zeros(shape, np.uint8)
    first = write_calibrated(tmp_path / "a.fits", values, variance, mask)
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert write_calibrated(tmp_path / "b.fits", values, variance, mask) == first
    back = read_calibrated(tmp_path / "a.fits")
    np.testing.assert_allclose(back["SCI"], values, atol=0.0174 * 3)
    np.testing.assert_allclose(back["VAR"], 9, rtol=1e-6)
    np.testing.assert_array_equal(fitsio.read(tmp_path / "a.fits", ext="SCI"), back["SCI"])


def test_the_rounding_of_two_frames_of_one_scene_is_independent(tmp_path: Path) -> None:
    values, variance, mask = flat_sky()
    errors = []
    for _ in range(2):
        values = values.copy()
        values[0, 0] += 1
        write_calibrated(tmp_path / "a.fits", values, variance, mask)
        errors.append((read_calibrated(tmp_path / "a.fits")["SCI"].astype(float) - values).ravel())
    assert abs(np.corrcoef(*errors)[0, 1]) < 0.02


def test_whole_numbers_are_kept_as_they_are_where_that_is_smaller(tmp_path: Path) -> None:
    for light, kept in ((100.0, True), (30_000.0, False)):
        values, variance, mask = photons(light)
        values -= 95  # a zero level in whole ADU
        written = write_calibrated(tmp_path / "a.fits", values, variance, mask)
        back = read_calibrated(tmp_path / "a.fits")["SCI"]
        assert back.dtype == np.float32
        assert bool(np.array_equal(back, values)) is kept
        assert lost(back, (values, variance, mask)).std() <= 0.0101
        rounded = write_calibrated(tmp_path / "b.fits", values + np.float32(0.25), variance, mask)
        assert (written.size < 0.9 * rounded.size) is kept


@pytest.mark.parametrize("peak", [1e9, 1e12, -1e10])
def test_a_stray_value_does_not_coarsen_the_frame(tmp_path: Path, peak: float) -> None:
    values, variance, mask = flat_sky()
    values[3, 4], mask[5, 6] = 0.0, int(Mask.NO_DATA)
    stray = values.copy()
    stray[7, 8] = peak
    strange = variance.copy()
    strange[7, 8] = peak**2
    write_calibrated(tmp_path / "a.fits", stray, strange, mask)
    back = read_calibrated(tmp_path / "a.fits")
    error = np.sqrt(variance.min())
    assert back["SCI"][7, 8] == pytest.approx(np.sign(peak) * min(abs(peak), SCIENCE_STEP * error * 2**29), rel=1e-5)
    assert back["VAR"][7, 8] > 1e12 * variance[7, 8] and back["SCI"][3, 4] == 0.0
    back["SCI"][7, 8] = values[7, 8]
    assert lost(back["SCI"], (values, variance, mask)).std() <= 0.0101
    np.testing.assert_array_equal(fitsio.read(tmp_path / "a.fits", ext="SCI")[:7], back["SCI"][:7])


def test_values_that_no_code_reaches_are_kept_as_they_are(tmp_path: Path) -> None:
    values, variance, mask = flat_sky()
    values = values * np.float32(1e12)
    write_calibrated(tmp_path / "a.fits", values, variance, mask)
    np.testing.assert_array_equal(read_calibrated(tmp_path / "a.fits")["SCI"], values)


def test_a_stray_small_error_does_not_blow_up_the_frame(tmp_path: Path) -> None:
    values, variance, mask = flat_sky()
    before = write_calibrated(tmp_path / "a.fits", values, variance, mask)
    variance[7, 8] = 1e-12
    after = write_calibrated(tmp_path / "a.fits", values, variance, mask)
    assert after.size < 1.15 * before.size
    back = read_calibrated(tmp_path / "a.fits")
    assert back["VAR"][7, 8] > 0, "zero would mean no data"
    variance[7, 8] = variance[7, 9]
    assert lost(back["SCI"], (values, variance, mask)).std() <= 0.0101


def test_the_lowest_error_is_that_of_a_pixel_with_data() -> None:
    error = np.linspace(5, 20, 1000, dtype=np.float32).reshape(20, 50)
    mask = np.zeros(error.shape, np.uint8)
    assert lowest_error(error, mask) == 5
    mask[0], mask[1] = int(Mask.NO_DATA), int(Mask.HOT)
    assert lowest_error(error, mask) == error[1, 0]
    error[1, 0], error[1, 1], error[1, 2] = 0, np.nan, np.inf
    assert lowest_error(error, mask) == error[1, 3]
    error[1, 3] = 1e-9
    known = error[(mask & int(Mask.NO_DATA) == 0) & (error > 0) & np.isfinite(error)]
    assert lowest_error(error, mask) == pytest.approx(0.5 * np.percentile(known, 1))
    assert np.isnan(lowest_error(np.zeros((3, 4), np.float32), np.zeros((3, 4), np.uint8)))


def test_without_an_error_there_is_no_rounding(tmp_path: Path) -> None:
    values, _, mask = flat_sky()
    write_calibrated(tmp_path / "a.fits", values, np.zeros(SHAPE, np.float32), mask)
    np.testing.assert_array_equal(read_calibrated(tmp_path / "a.fits")["SCI"], values)
    nothing = np.zeros(SHAPE, np.float32)
    write_calibrated(tmp_path / "b.fits", nothing, nothing, np.full(SHAPE, int(Mask.NO_DATA), np.uint8))
    assert all(not read_calibrated(tmp_path / "b.fits")[name].any() for name in ("SCI", "VAR"))


def test_what_is_not_finite_becomes_nan_for_every_reader(tmp_path: Path) -> None:
    values, variance, mask = flat_sky()
    values[3, 4:7] = np.nan, np.inf, -np.inf
    variance[9, 10:13] = np.nan, np.inf, -1
    write_calibrated(tmp_path / "a.fits", values, variance, mask)
    back = read_calibrated(tmp_path / "a.fits")
    assert np.argwhere(np.isnan(back["SCI"])).tolist() == [[3, 4], [3, 5], [3, 6]]
    assert np.argwhere(np.isnan(back["VAR"])).tolist() == [[9, 10], [9, 11], [9, 12]]
    assert np.nanstd(lost(back["SCI"], (np.where(np.isfinite(values), values, np.nan), variance, mask))) <= 0.0101
    np.testing.assert_array_equal(fitsio.read(tmp_path / "a.fits", ext="SCI"), back["SCI"])
    np.testing.assert_array_equal(fitsio.read(tmp_path / "a.fits", ext="ERR") ** 2, back["VAR"])


def test_a_range_of_values_that_no_code_could_span_still_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(8).uniform(-1e6, 1e6, SHAPE).astype(np.float32)
    variance, mask = np.full(SHAPE, 1e-10, np.float32), np.zeros(SHAPE, np.uint8)
    first = write_calibrated(tmp_path / "a.fits", values, variance, mask)
    np.testing.assert_allclose(read_calibrated(tmp_path / "a.fits")["SCI"], values, atol=2e6 / 2**30, rtol=1e-6)
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert write_calibrated(tmp_path / "b.fits", values, variance, mask) == first


def test_apertures_sum_up_to_the_same(tmp_path: Path) -> None:
    frame = star_field()
    write_calibrated(tmp_path / "a.fits", *frame)
    back = read_calibrated(tmp_path / "a.fits")
    x, y = np.random.default_rng(9).uniform(20, [[480], [380]], (2, 300))
    before, error, _ = sep.sum_circle(frame[0], x, y, 4.0, var=frame[1], subpix=0)
    after, new_error, _ = sep.sum_circle(back["SCI"], x, y, 4.0, var=back["VAR"], subpix=0)
    shift = (after - before) / error
    assert np.sqrt(np.mean(shift**2)) <= 0.0101
    assert abs(shift.mean()) < 0.002
    np.testing.assert_allclose(new_error, error, rtol=0.002)


def test_masters_with_a_count_map_stay_lossless(tmp_path: Path) -> None:
    values, variance, mask = flat_sky()
    count = np.random.default_rng(10).integers(0, 21, SHAPE).astype(np.int16)
    write_image(tmp_path / "a.fits", {"SCI": values, "VAR": variance, "MASK": mask, "COUNT": count})
    back, _ = read_image(tmp_path / "a.fits")
    for name, plane in {"SCI": values, "VAR": variance, "MASK": mask, "COUNT": count}.items():
        assert back[name].dtype == plane.dtype
        np.testing.assert_array_equal(back[name], plane)
        np.testing.assert_array_equal(fitsio.read(tmp_path / "a.fits", ext=name), plane)
    planes = read_calibrated(tmp_path / "a.fits")
    assert list(planes) == ["SCI", "VAR", "MASK"]
    np.testing.assert_array_equal(planes["VAR"], variance)


def test_a_damaged_frame_is_a_frame_error(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    write_calibrated(path, *flat_sky())
    whole = path.read_bytes()

    def code() -> str:
        with pytest.raises(FrameUnusable, match=r"a\.fits: .*; ") as caught:
            read_calibrated(path)
        assert "\n" not in str(caught.value)
        return caught.value.code

    for cut in (3000, len(whole) // 2, len(whole) - 2880):
        path.write_bytes(whole[:-cut])
        assert code() == "frame.truncated"
    start = whole.index(b"XTENSION") + 40_000
    path.write_bytes(whole[:start] + bytes(500) + whole[start + 500 :])
    assert code() == "frame.corrupt"
    path.unlink()
    assert code() == "frame.unreadable"
    write_image(path, {"SCI": flat_sky()[0]})
    assert code() == "frame.planes"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "a.fits"
    before = write_calibrated(path, *flat_sky())

    def fail(_: int) -> None:
        assert any(entry.name.startswith(TEMPORARY_PREFIX) for entry in path.parent.iterdir())
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_calibrated(path, *twilight())
    assert sha256_of(path) == before.sha256
    assert [entry.name for entry in path.parent.iterdir()] == ["a.fits"]


def test_the_steps_are_what_the_page_says() -> None:
    assert SCIENCE_STEP / np.sqrt(12) == pytest.approx(0.01, rel=2e-3)
    assert ERROR_STEP / 2 <= 0.0045


@pytest.mark.realdata
@pytest.mark.parametrize(("night", "gain"), [("hatp32", 38.8), ("skycamt", 2.0), ("tircam2", 2.0), ("bayer", 2.0)])
def test_real_frames(night_files: Callable[[str], list[Path]], tmp_path: Path, night: str, gain: float) -> None:
    for path in night_files(night)[:12]:
        raw = read_raw(path).data
        level = np.float32(np.median(raw)) + np.float32(0.27)  # a zero level is no whole number
        steps = np.diff(raw[:, ::2], axis=1)
        sky = max(1.4826 * float(np.median(np.abs(steps - np.median(steps)))) / np.sqrt(2), 0.5)
        values, variance = raw - level, (sky**2 + np.maximum(raw - level, 0) / gain).astype(np.float32)
        planes = (values, variance, np.where(raw >= 4095, int(Mask.SATURATED), 0).astype(np.uint8))
        written = write_calibrated(tmp_path / "a.fits", *planes)
        back = read_calibrated(tmp_path / "a.fits")
        loss = lost(back["SCI"], planes)
        assert np.sqrt(np.mean(loss**2)) <= 0.0101
        assert abs(loss.mean()) < 2e-4
        np.testing.assert_array_equal(back["MASK"], planes[2])
        assert written.size <= 1.2 * RAW_BYTES * raw.size
