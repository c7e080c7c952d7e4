"""Camera raws against truth: DNGs whose every pixel, colour, level and time was chosen here, and a real one."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rawpy
from astropy.io import fits
from camera_files import ASCII, DATE, EXIF, MAKE, MODEL, RATIONAL, SHORT, cr3_of, ifd, raf_of, tiff_block, write_dng

from db.errors import FrameUnusable
from reduction.files.camera import _layout_cards, _level_cards, _pattern, read_camera
from reduction.files.exif import exif_header, read_exif, state_offset
from reduction.headers.facts import facts
from reduction.headers.instrument import identify

PATTERNS = ("RGGB", "GRBG", "GBRG", "BGGR")
LEVELS = {"R": 1000, "G": 2000, "B": 3000}
NOISE = np.random.default_rng(5).integers(500, 15900, (60, 80)).astype(np.uint16)


def painted(pattern: str, shape: tuple[int, int], origin: tuple[int, int] = (0, 0)) -> np.ndarray:
    """A mosaic whose level says the colour of each pixel; the pattern begins at `origin` (y, x)."""
    y, x = np.indices(shape)
    letters = np.array(list(pattern)).reshape(2, 2)[(y - origin[0]) % 2, (x - origin[1]) % 2]
    return np.vectorize(LEVELS.get)(letters).astype(np.uint16)


def error_of(path: Path) -> FrameUnusable:
    with pytest.raises(FrameUnusable) as caught:
        read_camera(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and caught.value.hint and "\n" not in text
    return caught.value


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pixel_is_stored_as_it_is_and_its_colour_is_that_of_the_pattern(tmp_path: Path, pattern: str) -> None:
    raw = read_camera(write_dng(tmp_path / "a.dng", NOISE, pattern=pattern))
    np.testing.assert_array_equal(raw.data, NOISE)
    assert (raw.data.dtype, raw.integer, raw.quantum) == (np.dtype("=f4"), True, 1.0)
    header = raw.header
    assert (header["BAYERPAT"], header["XBAYROFF"], header["YBAYROFF"], header["ROWORDER"]) == (pattern, 0, 0, "TOP-DOWN")
    assert (header["BLKLEV"], header["SATURATE"]) == (512.0, 16000.0)
    assert "BLKLEV1" not in header and "OBLACK" not in header and "IMAGETYP" not in header


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("corner", [(20, 32), (21, 32), (20, 33), (21, 33)])
def test_the_pattern_is_that_of_the_first_visible_pixel_wherever_the_border_ends(
    tmp_path: Path, pattern: str, corner: tuple[int, int]
) -> None:
    # Whether LibRaw keeps an odd border or moves it, colour and level must agree at every pixel that is stored.
    mosaic = painted(pattern, (80, 100), corner)
    raw = read_camera(write_dng(tmp_path / "a.dng", mosaic, pattern=pattern, active=(*corner, 80, 100)))
    assert raw.data.shape[0] in (80 - corner[0], 79 - corner[0])
    np.testing.assert_array_equal(raw.data, painted(raw.header["BAYERPAT"], raw.data.shape))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_black_levels_stand_in_the_order_of_the_pattern(tmp_path: Path, pattern: str) -> None:
    header = read_camera(write_dng(tmp_path / "a.dng", NOISE, pattern=pattern, black=(510, 520, 530, 540))).header
    assert [header[f"BLKLEV{n}"] for n in (1, 2, 3, 4)] == [510, 520, 530, 540]
    assert header["BLKLEV"] == 525


def bordered(border: np.ndarray, light: int) -> np.ndarray:
    mosaic = border.copy()
    mosaic[20:, 32:] += light
    return mosaic


def test_the_optical_black_border_is_measured(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    border = generator.normal(530.3, 6.0, (300, 400)).round().astype(np.uint16)
    border[100, 5], border[:, 31] = 15000, 700  # a hot pixel, and light at the edge
    header = read_camera(write_dng(tmp_path / "a.dng", bordered(border, 3000), active=(20, 32, 300, 400))).header
    n = 280 * (32 - 6)
    assert header["OBLACK"] == pytest.approx(530.3, abs=4 * 6.0 / n**0.5)
    assert header["OBNOISE"] == pytest.approx(6.0, rel=0.04)
    assert header["BLKLEV"] == 512.0


@pytest.mark.parametrize(("level", "sigma"), [(2500.0, 6.0), (0.0, 0.0), (512.0, 0.0)])
def test_a_border_that_is_lit_or_padded_is_none(tmp_path: Path, level: float, sigma: float) -> None:
    border = np.random.default_rng(2).normal(level, sigma, (100, 120)).round().astype(np.uint16)
    header = read_camera(write_dng(tmp_path / "a.dng", bordered(border, 3000), active=(20, 32, 100, 120))).header
    assert "OBLACK" not in header


def test_times_are_utc_with_all_digits_and_the_exposure_is_the_exact_ratio(tmp_path: Path) -> None:
    header = read_camera(write_dng(tmp_path / "a.dng", NOISE)).header
    assert (header["DATE-LOC"], header["DATE-OBS"]) == ("2023-08-12T01:03:04.37", "2023-08-11T23:03:04.37")
    assert (header["TZOFFSET"], header["TIMESYS"], header["EXPTIME"]) == (2.0, "UTC", 1 / 3)
    said = [header[key] for key in ("ISOSPEED", "INSTRUME", "CAMSN", "LENS", "FOCALLEN", "APERTURE")]
    assert said == [1600, "Example One", "012345", "EF135mm f/2L USM", 135.0, 2.8]
    found = facts(header, identify(header), NOISE.shape)
    assert found.mid_jd1 + found.mid_jd2 == pytest.approx(2460168.4604676 + 1 / 6 / 86400, abs=1e-6)
    assert (found.time_sigma, found.saturation, found.bayer, found.exptime) == (0.005, 16000.0, "RGGB", 1 / 3)


def header_with(**changes: Any) -> fits.Header:
    tags = {int(name[1:], 16): value for name, value in changes.items()}
    block = {tag: value for tag, value in (EXIF | tags).items() if value is not None}
    return exif_header(read_exif(cr3_of(tiff_block({MAKE: (ASCII, "Canon"), MODEL: (ASCII, "Canon EOS R6")}), tiff_block(block))))


@pytest.mark.parametrize(
    ("offset", "utc", "hours"),
    [
        ("-03:30", "2023-08-12T04:33:04.37", -3.5),
        ("+00:00", "2023-08-12T01:03:04.37", 0.0),
        ("Z", "2023-08-12T01:03:04.37", 0.0),
        ("+12:45", "2023-08-11T12:18:04.37", 12.75),
    ],
)
def test_offsets_of_every_sign(offset: str, utc: str, hours: float) -> None:
    header = header_with(x9011=(ASCII, offset))
    assert (header["DATE-OBS"], header["TZOFFSET"]) == (utc, hours)


def test_sub_seconds_keep_their_zeros_and_blanks_are_none() -> None:
    assert header_with(x9291=(ASCII, "050"))["DATE-OBS"].endswith(":04.050")
    assert header_with(x9291=(ASCII, "  "))["DATE-OBS"].endswith(":04")
    assert header_with(x9291=None)["DATE-OBS"].endswith(":04")


@pytest.mark.parametrize("offset", [None, (ASCII, "   :  "), (ASCII, "+99:00")])
def test_without_an_offset_there_is_no_utc_until_it_is_stated(offset: tuple[int, str] | None) -> None:
    header = header_with(x9011=offset)
    assert header["DATE-LOC"] == "2023-08-12T01:03:04.37"
    assert "DATE-OBS" not in header and "TZOFFSET" not in header
    assert state_offset(header, timedelta(hours=-7))
    assert (header["DATE-OBS"], header["TZOFFSET"]) == ("2023-08-12T08:03:04.37", -7.0)
    assert not state_offset(header, timedelta(hours=3))
    assert header["TZOFFSET"] == -7.0


def test_offsets_of_other_dates_and_of_tiff_ep_hold_too() -> None:
    assert header_with(x9011=None, x9010=(ASCII, "+09:00"))["TZOFFSET"] == 9.0
    assert header_with(x9011=None, x882A=(SHORT, (5,)))["TZOFFSET"] == 5.0


@pytest.mark.parametrize("ratio", [(0, 1), (0, 0), (30, 0), (2**32 - 1, 1)])
def test_a_blank_exposure_is_unknown_and_not_zero(ratio: tuple[int, int]) -> None:
    header = header_with(x829A=(RATIONAL, ratio), x829D=(RATIONAL, (0, 0)), x920A=(RATIONAL, (0, 1)), x8827=(SHORT, (0,)))
    assert {"EXPTIME", "APERTURE", "FOCALLEN", "ISOSPEED"}.isdisjoint(header)


def test_high_speeds_that_the_old_tag_cannot_say() -> None:
    assert header_with(x8827=(SHORT, (65535,)), x8832=(4, (102400,)))["ISOSPEED"] == 102400
    assert header_with(x8827=(SHORT, (65535,)))["ISOSPEED"] == 65535


@pytest.mark.parametrize("date", ["", "0000:00:00 00:00:00", "2023:02:30 10:00:00", "    :  :     :  :  "])
def test_a_clock_that_was_never_set_gives_no_time(date: str) -> None:
    header = header_with(x9003=(ASCII, date))
    assert "DATE-LOC" not in header and "DATE-OBS" not in header


@pytest.mark.parametrize(
    ("make", "model", "name"),
    [
        ("Canon", "Canon EOS 6D", "Canon EOS 6D"),
        ("NIKON CORPORATION", "NIKON D750", "NIKON D750"),
        ("SONY", "ILCE-7M3", "SONY ILCE-7M3"),
        ("OLYMPUS IMAGING CORP.  ", "E-M5", "OLYMPUS E-M5"),
        ("", "Camera", "Camera"),
    ],
)
def test_the_maker_is_said_once(make: str, model: str, name: str) -> None:
    assert exif_header(read_exif(tiff_block({MAKE: (ASCII, make), MODEL: (ASCII, model)})))["INSTRUME"] == name


def test_exif_is_found_in_the_wrappings_of_canon_and_fuji() -> None:
    assert header_with()["INSTRUME"] == "Canon EOS R6"
    fuji = exif_header(
        read_exif(raf_of(tiff_block({MAKE: (ASCII, "FUJIFILM"), MODEL: (ASCII, "GFX 50R"), DATE: (ASCII, "2023:08:12 01:03:04")})))
    )
    assert (fuji["INSTRUME"], fuji["DATE-LOC"]) == ("FUJIFILM GFX 50R", "2023-08-12T01:03:04")


def test_a_place_by_gps_is_the_site(tmp_path: Path) -> None:
    degrees = {1: (ASCII, "S"), 2: (RATIONAL, (23, 1, 30, 1, 0, 1)), 3: (ASCII, "W"), 4: (RATIONAL, (46, 1, 0, 1, 3600, 100))}
    header = read_camera(write_dng(tmp_path / "a.dng", NOISE, gps=degrees | {6: (RATIONAL, (7600, 10))})).header
    assert [header[key] for key in ("SITELAT", "SITELONG", "SITEELEV")] == [-23.5, pytest.approx(-46.01), 760.0]
    nowhere = {1: (ASCII, "N"), 2: (RATIONAL, (0, 1) * 3), 3: (ASCII, "E"), 4: (RATIONAL, (0, 1) * 3)}
    assert "SITELAT" not in read_camera(write_dng(tmp_path / "b.dng", NOISE, gps=nowhere)).header


def test_a_place_by_gps_is_found_in_a_cr3() -> None:
    degrees = {
        1: (ASCII, "N"),
        2: (RATIONAL, (46, 1, 30, 1, 0, 1)),
        3: (ASCII, "E"),
        4: (RATIONAL, (7, 1, 15, 1, 0, 1)),
        6: (RATIONAL, (21200, 10)),
    }
    header = exif_header(read_exif(cr3_of(tiff_block({MAKE: (ASCII, "Canon")}), tiff_block(EXIF), tiff_block(degrees))))
    assert [header[key] for key in ("SITELAT", "SITELONG", "SITEELEV")] == [46.5, 7.25, 2120.0]


def test_words_that_fits_cannot_hold_are_mended(tmp_path: Path) -> None:
    header = read_camera(write_dng(tmp_path / "a.dng", NOISE, exif=EXIF | {0xA434: (ASCII, "Süd\tlens")})).header
    assert header["LENS"].isascii() and header["LENS"].endswith("d lens")


def test_a_camera_without_exif_has_its_pixels_and_no_more(tmp_path: Path) -> None:
    header = read_camera(write_dng(tmp_path / "a.dng", NOISE, exif=None)).header
    assert {"DATE-OBS", "DATE-LOC", "EXPTIME", "ISOSPEED"}.isdisjoint(header)
    assert header["INSTRUME"] == "Example One"


@pytest.mark.parametrize("zone", ["UTC", "America/Phoenix", "Asia/Kolkata"])
def test_where_no_exif_is_read_libraws_word_is_taken_in_any_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setattr("reduction.files.camera.read_exif", lambda _: {})
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        header = read_camera(write_dng(tmp_path / "a.dng", NOISE)).header
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert header["DATE-LOC"] == "2023-08-12T01:03:04" and "DATE-OBS" not in header
    assert header["EXPTIME"] == pytest.approx(1 / 3, abs=1e-7)
    assert [header[key] for key in ("ISOSPEED", "FOCALLEN", "APERTURE")] == [1600, 135.0, 2.8]


def test_a_monochrome_sensor_has_no_pattern(tmp_path: Path) -> None:
    raw = read_camera(write_dng(tmp_path / "a.dng", NOISE, pattern=""))
    np.testing.assert_array_equal(raw.data, NOISE)
    assert "BAYERPAT" not in raw.header and "XBAYROFF" not in raw.header
    assert (raw.header["BLKLEV"], raw.header["SATURATE"]) == (512.0, 16000.0)


@pytest.mark.parametrize(
    ("shape", "pattern", "words"),
    [
        ((60, 80, 3), "RGGB", "three colours at every pixel"),
        ((60, 84), "GGRGGBGGBGGRBRGRBGGGBGGRGGRGGBRBGBRG", "X-Trans"),
        ((60, 80), "RRGB", "a mosaic"),
    ],
)
def test_sensors_that_are_not_bayer_are_refused(tmp_path: Path, shape: tuple[int, ...], pattern: str, words: str) -> None:
    error = error_of(write_dng(tmp_path / "a.dng", np.full(shape, 1000, np.uint16), pattern=pattern))
    assert error.code == "frame.not_bayer" and words in str(error)


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
def test_a_truncated_file_is_one_line_and_the_c_library_is_silent(tmp_path: Path, kept: float, capfd: pytest.CaptureFixture[str]) -> None:
    mosaic = np.random.default_rng(1).integers(500, 15900, (200, 300)).astype(np.uint16)
    whole = write_dng(tmp_path / "whole.dng", mosaic, exif=None).read_bytes()
    cut = tmp_path / "cut.dng"
    cut.write_bytes(whole[: int(kept * len(whole))])
    assert error_of(cut).code == "frame.truncated"
    assert capfd.readouterr() == ("", "")


def test_damaged_pixels_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_dng(
        tmp_path / "a.dng", np.random.default_rng(1).integers(500, 15900, (200, 300)).astype(np.uint16), packed=True, exif=None
    )
    contents = bytearray(path.read_bytes())
    contents[-40000:-39000] = b"\xff" * 1000
    path.write_bytes(contents)
    assert error_of(path).code == "frame.corrupt"
    path.write_bytes(contents[: len(contents) // 2])
    assert error_of(path).code == "frame.truncated"
    assert capfd.readouterr() == ("", "")


def test_packed_pixels_are_the_same(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_camera(write_dng(tmp_path / "a.dng", NOISE, packed=True)).data, NOISE)


def test_other_files_under_a_cameras_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text, empty, missing, noise = (tmp_path / name for name in ("text.CR2", "empty.nef", "missing.arw", "noise.cr3"))
    text.write_text("not a picture\n" * 1000)
    empty.touch()
    noise.write_bytes(np.random.default_rng(1).bytes(5000))
    assert [error_of(path).code for path in (text, empty, missing, noise)] == [
        *("frame.not_raw", "frame.empty", "frame.unreadable", "frame.not_raw")
    ]
    assert capfd.readouterr() == ("", "")


def test_damaged_exif_is_no_exif_or_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    contents = write_dng(tmp_path / "a.dng", NOISE).read_bytes()
    generator = np.random.default_rng(3)
    start = len(contents) - len(ifd(EXIF, 0))
    read = 0
    for _ in range(150):
        damaged = bytearray(contents)
        for at in generator.integers(start, len(contents), 4):
            damaged[at] = generator.integers(256)
        # The EXIF block is read whatever stands in it, and what is taken from it is fit for FITS.
        fits.PrimaryHDU(header=exif_header(read_exif(bytes(damaged)))).verify("exception")
        (tmp_path / "b.dng").write_bytes(damaged)
        try:
            np.testing.assert_array_equal(read_camera(tmp_path / "b.dng").data, NOISE)
            read += 1
        except FrameUnusable as error:
            assert "\n" not in str(error)
    assert read > 20
    assert capfd.readouterr() == ("", "")
    assert not logging.getLogger("exifread").disabled


def unpacked(**changes: Any) -> Any:
    """What LibRaw says of a camera of which there is no file to test with."""
    sizes = SimpleNamespace(top_margin=changes.pop("top", 0), left_margin=changes.pop("left", 0))
    said = {
        "raw_type": rawpy.RawType.Flat,
        "raw_pattern": np.array([[0, 1], [3, 2]], np.uint8),
        "color_desc": b"RGBG",
        "black_level_per_channel": [512, 512, 512, 512],
        "white_level": 16383,
        "camera_white_level_per_channel": None,
    }
    return SimpleNamespace(sizes=sizes, **(said | changes))


@pytest.mark.parametrize(("top", "left", "letters"), [(51, 142, "GBRG"), (51, 143, "BGGR"), (52, 143, "GRBG"), (52, 142, "RGGB")])
def test_borders_of_odd_width_shift_the_pattern(top: int, left: int, letters: str) -> None:
    raw = unpacked(top=top, left=left)
    cards = dict(card[:2] for card in _layout_cards(_pattern(raw, Path("a.cr2")), raw.color_desc))
    assert cards["BAYERPAT"] == letters


@pytest.mark.parametrize(
    ("limits", "saturation"), [(None, 16383), ([13235, 13300, 13300, 13235], 13235), ([3000] * 4, 16383), ([20000] * 4, 16383)]
)
def test_saturation_is_the_makers_limit_where_it_can_be_one(limits: list[int] | None, saturation: int) -> None:
    raw = unpacked(camera_white_level_per_channel=limits)
    assert dict(card[:2] for card in _level_cards(raw, None))["SATURATE"] == saturation


def test_other_colours_than_red_green_and_blue_are_refused() -> None:
    with pytest.raises(FrameUnusable, match="GMCY"):
        _pattern(unpacked(color_desc=b"GMCY"), Path("a.crw"))


@pytest.mark.realdata
def test_the_real_dng(shared_data: Path) -> None:
    path = shared_data / "bayer" / "colorchart.dng"
    raw = read_camera(path)
    header = raw.header
    assert raw.data.shape == (1156, 1734)
    with rawpy.imread(str(path)) as independent:
        np.testing.assert_array_equal(raw.data, independent.raw_image_visible)
        letters = [chr(independent.color_desc[index]) for index in independent.raw_colors_visible[:2, :2].ravel()]
    assert (header["INSTRUME"], header["BAYERPAT"], header["BLKLEV"], header["SATURATE"]) == (
        *("Canon EOS Kiss X4", "".join(letters), 2056.0, 15000.0),
    )
    # Its date and exposure time are blank and 0: unknown. LibRaw makes 1970 and 1 s of them.
    assert {"DATE-OBS", "DATE-LOC", "TZOFFSET", "EXPTIME", "ISOSPEED", "FOCALLEN", "APERTURE", "LENS"}.isdisjoint(header)
    assert header["OBLACK"] == pytest.approx(2049, abs=1.5) and 10 < header["OBNOISE"] < 20
