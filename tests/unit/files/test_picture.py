"""TIFF and PNG frames: bit by bit, and what is no frame refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from camera_files import tiff_block, write_dng

from db.errors import FrameUnusable
from reduction.files.exif import exif_header, read_exif
from reduction.files.picture import read_picture
from reduction.headers.facts import facts
from reduction.headers.instrument import definitions_from, identify

NOISE = np.random.default_rng(7).integers(0, 65536, (50, 70)).astype(np.uint16)


def tiff(path: Path, values: np.ndarray = NOISE, **options: Any) -> Path:
    tifffile.imwrite(path, values, **{"photometric": "minisblack", "metadata": None, **options})
    return path


def png(path: Path, values: np.ndarray = NOISE) -> Path:
    path.write_bytes(imagecodecs.png_encode(values))
    return path


def code_of(path: Path) -> str:
    with pytest.raises(FrameUnusable) as caught:
        read_picture(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and caught.value.hint and "\n" not in text
    return caught.value.code


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib", "predictor": True}, {"compression": "lzw"}, {"tile": (32, 32)}, {"bigtiff": True}]
)
def test_every_tiff_of_16_bits(tmp_path: Path, byteorder: str, options: dict[str, Any]) -> None:
    raw = read_picture(tiff(tmp_path / "a.tif", byteorder=byteorder, **options))
    np.testing.assert_array_equal(raw.data, NOISE)
    assert (raw.data.dtype, raw.integer, raw.quantum, raw.header["ROWORDER"]) == (np.dtype("=f4"), True, 1.0, "TOP-DOWN")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32])
def test_other_types_of_pixels(tmp_path: Path, dtype: type) -> None:
    values = (NOISE // 300).astype(dtype)
    raw = read_picture(tiff(tmp_path / "a.tiff", values))
    np.testing.assert_array_equal(raw.data, values)
    assert (raw.integer, raw.quantum) == (True, 1.0)


def test_continuous_values_have_no_step(tmp_path: Path) -> None:
    raw = read_picture(tiff(tmp_path / "a.tiff", NOISE.astype(np.float32) + 0.25))
    assert (raw.integer, raw.quantum) == (False, 0.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_of_8_and_16_bits(tmp_path: Path, dtype: type) -> None:
    values = NOISE.astype(dtype)
    raw = read_picture(png(tmp_path / "a.png", values))
    np.testing.assert_array_equal(raw.data, values)
    assert (raw.integer, raw.quantum) == (True, 1.0)


def test_the_lossless_jpeg_of_cameras_is_no_loss(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_picture(write_dng(tmp_path / "a.tif", NOISE, packed=True)).data, NOISE)


def test_times_and_mosaic_that_a_tiff_states(tmp_path: Path) -> None:
    header = read_picture(tiff(tmp_path / "a.tif", datetime="2024:01:02 03:04:05")).header
    assert header["DATE-LOC"] == "2024-01-02T03:04:05" and "DATE-OBS" not in header and "BAYERPAT" not in header
    mosaic = read_picture(write_dng(tmp_path / "b.tif", NOISE, pattern="GBRG")).header
    assert (mosaic["BAYERPAT"], mosaic["DATE-OBS"], mosaic["EXPTIME"]) == ("GBRG", "2023-08-11T23:03:04.37", 1 / 3)


def test_exif_in_a_png(tmp_path: Path) -> None:
    plain = png(tmp_path / "a.png").read_bytes()
    block = tiff_block({0x829A: (5, (5, 2))})
    chunk = len(block).to_bytes(4, "big") + b"eXIf" + block + bytes(4)
    assert exif_header(read_exif(plain[:33] + chunk + plain[33:]))["EXPTIME"] == 2.5


def test_stated_facts_make_a_picture_a_frame(tmp_path: Path) -> None:
    stated = {"default": {"exptime": 30.0, "filter": "V", "bayer": "BGGR", "gain": 1.5}}
    header = read_picture(tiff(tmp_path / "a.tif")).header
    header["DATE-OBS"] = "2024-01-02T02:04:05"
    found = facts(header, identify(header, definitions_from(stated)), NOISE.shape)
    assert (found.exptime, found.filter, found.bayer, found.gain) == (30.0, "V", "BGGR", 1.5)


def test_stretched_values_have_the_step_they_were_stretched_by(tmp_path: Path) -> None:
    assert read_picture(png(tmp_path / "a.png", (16 * (NOISE // 16)).astype(np.uint16))).quantum == 16.0


def test_a_picture_without_a_date_is_reduced_by_its_name(tmp_path: Path) -> None:
    """The whole way: the file, the configuration, the rows."""
    from starledger.archive import create_archive
    from starledger.reduce import reduce

    path = tiff(tmp_path / "Moon_20240308_210405.tif")
    archive = create_archive(f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "files")
    stated = tmp_path / "stated.toml"
    stated.write_text('[default]\nexptime = 10.0\ndate_from_name = "%Y%m%d_%H%M%S"\nutc_offset = 1.0\n')
    (done,) = reduce(archive, [path], steps=["ingest"], config=stated)
    assert (done.done, done.failed) == (1, {})
    assert archive.sql("SELECT time_source FROM frame").values.tolist() == [["file name (start, UTC+1) + exptime/2"]]


def test_colours_are_refused(tmp_path: Path) -> None:
    rgb = np.stack([NOISE] * 3, -1)
    assert code_of(tiff(tmp_path / "a.tif", rgb, photometric="rgb")) == "frame.colour"
    assert code_of(tiff(tmp_path / "b.tif", np.moveaxis(rgb, -1, 0), photometric="rgb", planarconfig="separate")) == "frame.colour"
    palette = np.zeros((3, 256), np.uint16)
    assert code_of(tiff(tmp_path / "c.tif", NOISE.astype(np.uint8), photometric="palette", colormap=palette)) == "frame.colour"
    assert code_of(png(tmp_path / "d.png", rgb)) == "frame.colour"
    assert code_of(png(tmp_path / "e.png", np.stack([NOISE] * 2, -1))) == "frame.colour"


def test_what_is_no_measurement_is_refused(tmp_path: Path) -> None:
    assert code_of(tiff(tmp_path / "a.tif", photometric="miniswhite")) == "frame.lossy"
    assert code_of(tiff(tmp_path / "b.tif", NOISE > 9)) == "frame.lossy"
    assert code_of(tiff(tmp_path / "c.tif", NOISE.astype(np.uint8), compression="jpeg")) == "frame.lossy"
    assert code_of(tiff(tmp_path / "d.tif", NOISE.astype(np.uint32) * 65536)) == "frame.lossy"
    assert code_of(tiff(tmp_path / "e.tif", np.stack([NOISE] * 4))) == "frame.cube"


def test_a_thumbnail_behind_the_frame_is_no_second_image(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(NOISE, photometric="minisblack", metadata=None)
        writer.write(NOISE[::4, ::4], photometric="minisblack", subfiletype=1, metadata=None)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").data, NOISE)


@pytest.mark.parametrize("kind", ["tiff", "zlib", "png"])
@pytest.mark.parametrize("kept", [0.002, 0.02, 0.5, 0.98])
def test_truncated_files_are_one_line_and_silent(tmp_path: Path, kind: str, kept: float, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a"
    png(path) if kind == "png" else tiff(path, compression="zlib" if kind == "zlib" else None)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(int(kept * len(whole)), 9)])
    assert code_of(path) in {"frame.truncated", "frame.corrupt"} - ({"frame.corrupt"} if kept >= 0.5 else set())
    assert capfd.readouterr() == ("", "")


def test_damaged_and_foreign_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = png(tmp_path / "a.png")
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 0xFF
    path.write_bytes(contents)
    assert code_of(path) == "frame.corrupt"
    path.write_text("no picture")
    assert code_of(path) == "frame.not_picture"
    path.write_bytes(b"")
    assert code_of(path) == "frame.empty"
    assert code_of(tmp_path / "missing.png") == "frame.unreadable"
    assert capfd.readouterr() == ("", "")
