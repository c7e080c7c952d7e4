"""Raw files of every format read alike, and written as FITS: pixels and facts come back, other programs open them."""

from __future__ import annotations

import gzip
import os
import shutil
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fitsio
import imagecodecs
import numpy as np
import pytest
import tifffile
import typer
from astropy.io import fits
from camera_files import EXIF, write_dng
from typer.testing import CliRunner

from db.errors import ConfigurationError, FrameUnusable, StarledgerError
from reduction.calibration.raw_frame import raw_frame
from reduction.files import fits as fits_files
from reduction.files.convert import convert_file, format_of, original_sha256, read_header, read_raw, to_fits
from reduction.files.fits import RawImage
from reduction.files.raw_files import find_raw_files
from starledger.cli import convert as cli_convert
from starledger.raw_files import parse_offset

NOISE = np.random.default_rng(8).integers(0, 15900, (61, 83)).astype(np.uint16)
NO_OFFSET = {tag: value for tag, value in EXIF.items() if tag != 0x9011}


def image(values: np.ndarray, *, integer: bool = True, **cards: object) -> RawImage:
    return RawImage(values.astype(np.float32), fits.Header(list(cards.items())), integer, 1.0 if integer else 0.0, 0)


def facts_of(header: fits.Header) -> dict[str, object]:
    """Cards that do not describe how the file is stored or where it came from."""
    return {
        card.keyword: card.value for card in header.cards if not card.keyword.startswith((*fits_files.STRUCTURE, "ORIG")) and card.keyword
    }


def test_files_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    write_dng(tmp_path / "a.DNG", NOISE)
    tifffile.imwrite(tmp_path / "b.TIF", NOISE, photometric="minisblack")
    (tmp_path / "c.png").write_bytes(imagecodecs.png_encode(NOISE))
    fits.PrimaryHDU(NOISE).writeto(tmp_path / "d.fits")
    (tmp_path / "e.fit.gz").write_bytes(gzip.compress((tmp_path / "d.fits").read_bytes()))
    shutil.copy(tmp_path / "d.fits", tmp_path / "f.raw")
    shutil.copy(tmp_path / "c.png", tmp_path / "g.tif")
    found = find_raw_files(tmp_path.iterdir())
    assert [path.name for path in found] == ["a.DNG", "b.TIF", "c.png", "d.fits", "e.fit.gz", "f.raw", "g.tif"]
    assert [format_of(path) for path in found] == ["camera", "picture", "picture", "fits", "fits", "fits", "picture"]
    assert format_of(tmp_path / "missing.fits") == format_of(tmp_path) == "fits"
    for path in found:
        raw = read_raw(path)
        np.testing.assert_array_equal(raw.data, NOISE)
        assert read_header(path).tostring() == raw.header.tostring()


@pytest.mark.parametrize(
    ("name", "code"), [("a.cr2", "frame.not_raw"), ("a.png", "frame.not_picture"), ("a.fits", "frame.not_fits"), ("a", "frame.not_fits")]
)
def test_foreign_contents_are_refused_by_the_reader_of_the_suffix(tmp_path: Path, name: str, code: str) -> None:
    (tmp_path / name).write_text("words\n" * 999)
    for read in (read_raw, read_header):
        with pytest.raises(FrameUnusable) as caught:
            read(tmp_path / name)
        assert caught.value.code == code


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("pattern", ["RGGB", "GBRG"])
def test_pixels_and_facts_come_back(tmp_path: Path, compressed: bool, pattern: str) -> None:
    source = write_dng(
        tmp_path / "IMG 0001 with a long name and no end of words in it, so that a card cannot hold it.dng", NOISE, pattern=pattern
    )
    raw = read_raw(source)
    target = tmp_path / "new" / "folder" / ("a.fits.fz" if compressed else "a.fits")
    written = to_fits(raw, target, original=source, compressed=compressed)
    back = read_raw(target)
    np.testing.assert_array_equal(back.data, raw.data)
    assert (back.integer, back.quantum) == (raw.integer, raw.quantum)
    assert facts_of(back.header) == facts_of(raw.header)
    assert back.header["ORIGFILE"] == source.name
    assert original_sha256(back.header) == fits_files.sha256_of(source)
    assert original_sha256(raw.header) is None
    assert (written.sha256, written.size) == (fits_files.sha256_of(target), target.stat().st_size)
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert to_fits(raw, tmp_path / "again.fits", original=source, compressed=compressed) == written


@pytest.mark.parametrize("compressed", [False, True])
def test_other_programs_open_them(tmp_path: Path, compressed: bool) -> None:
    source = write_dng(tmp_path / "a.dng", NOISE)
    target = tmp_path / "a.fits"
    to_fits(read_raw(source), target, original=source, compressed=compressed)
    with fits.open(target) as hdus:
        hdus.verify("exception")
        assert hdus[int(compressed)].data.dtype == np.uint16
    with fitsio.FITS(str(target)) as other:
        np.testing.assert_array_equal(other[int(compressed)].read(), NOISE)
        header = other[int(compressed)].read_header()
        assert (header["BAYERPAT"], header["EXPTIME"], header["DATE-OBS"]) == ("RGGB", 1 / 3, "2023-08-11T23:03:04.37")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(0, 65535, np.uint16), (0, 255, np.uint16), (-300, 4000, np.int16), (-5, 70000, np.int32)],
)
def test_whole_numbers_are_integers_that_hold_them(tmp_path: Path, low: int, high: int, dtype: type, compressed: bool) -> None:
    values = np.random.default_rng(1).integers(low, high + 1, (30, 40))
    values[0, :2] = low, high
    to_fits(image(values), tmp_path / "a.fits", compressed=compressed)
    np.testing.assert_array_equal(read_raw(tmp_path / "a.fits").data, values)
    with fits.open(tmp_path / "a.fits") as hdus:
        assert hdus[int(compressed)].data.dtype.newbyteorder("=") == dtype


@pytest.mark.parametrize("compressed", [False, True])
def test_values_that_are_not_whole_are_kept_bit_by_bit(tmp_path: Path, compressed: bool) -> None:
    values = np.random.default_rng(1).normal(300, 5, (30, 40)).astype(np.float32)
    values[3, 4] = np.nan
    to_fits(image(values, integer=False), tmp_path / "a.fits", compressed=compressed)
    np.testing.assert_array_equal(read_raw(tmp_path / "a.fits").data, values)


def test_given_cards_win_and_cards_of_the_old_storage_are_left_out(tmp_path: Path) -> None:
    raw = image(NOISE, EXPTIME=1.0, OBJECT="M 31", BSCALE=2.0, BLANK=3, CHECKSUM="x")
    to_fits(raw, tmp_path / "a.fits", cards=[("EXPTIME", 2.0, "[s] corrected"), ("FILTER", "V")])
    header = read_header(tmp_path / "a.fits")
    assert (header["EXPTIME"], header["FILTER"], header["OBJECT"]) == (2.0, "V", "M 31")
    assert "BLANK" not in header and "CHECKSUM" not in header
    np.testing.assert_array_equal(read_raw(tmp_path / "a.fits").data, NOISE)


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    target = tmp_path / "a.fits"
    to_fits(image(NOISE), target)
    before = fits_files.sha256_of(target)
    with pytest.raises(ConfigurationError, match=r"a\.fits"):
        to_fits(image(NOISE + 1), target)
    assert fits_files.sha256_of(target) == before
    to_fits(image(NOISE + 1), target, overwrite=True)
    np.testing.assert_array_equal(read_raw(target).data, NOISE + 1)


def test_a_failed_write_leaves_the_old_file_and_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.fits"
    to_fits(image(NOISE), target)
    before = fits_files.sha256_of(target)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConfigurationError, match="No space left"):
        to_fits(image(NOISE + 1), target, overwrite=True)
    assert fits_files.sha256_of(target) == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.fits"]


def test_what_was_converted_is_left_and_what_differs_is_refused(tmp_path: Path) -> None:
    source, other = write_dng(tmp_path / "a.dng", NOISE, exif=NO_OFFSET), write_dng(tmp_path / "b.dng", NOISE + 1, exif=NO_OFFSET)
    target = tmp_path / "a.fits"
    first = convert_file(source, target)
    assert (first.written, first.clock) == (True, "local")
    assert not convert_file(source, target).written
    with pytest.raises(ConfigurationError, match=r"not made from b\.dng"):
        convert_file(other, target)
    with pytest.raises(ConfigurationError, match="another offset"):
        convert_file(source, target, utc_offset=timedelta(hours=2))
    again = convert_file(source, target, utc_offset=timedelta(hours=2), overwrite=True)
    assert (again.written, again.clock, read_header(target)["DATE-OBS"]) == (True, "utc", "2023-08-11T23:03:04.37")
    assert not convert_file(source, target, utc_offset=timedelta(hours=2)).written


def test_the_cameras_own_offset_wins_over_a_stated_one(tmp_path: Path) -> None:
    source = write_dng(tmp_path / "a.dng", NOISE)
    convert_file(source, tmp_path / "a.fits", utc_offset=timedelta(hours=-5))
    assert read_header(tmp_path / "a.fits")["TZOFFSET"] == 2.0
    assert not convert_file(source, tmp_path / "a.fits", utc_offset=timedelta(hours=-5)).written


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`run(*arguments)` of the command in an empty folder; errors for people become exit codes as in `starledger.cli.app.main`."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    app = typer.Typer()
    app.callback()(lambda: None)
    cli_convert.register(app)

    def invoke(*arguments: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["convert", *map(str, arguments)])
        if isinstance(done.exception, StarledgerError):
            return done.exception.exit_code, str(done.exception)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    return invoke


def test_the_command_converts_folders_and_keeps_their_order(tmp_path: Path, run) -> None:
    raws = tmp_path / "raws"
    (raws / "dark").mkdir(parents=True)
    write_dng(raws / "IMG_1.DNG", NOISE)
    write_dng(raws / "dark" / "IMG_1.dng", NOISE + 1)
    fits.PrimaryHDU(NOISE).writeto(raws / "old.fits")
    (raws / "IMG_1.JPG").touch()
    before = sorted(raws.rglob("*"))
    code, said = run(raws)
    assert (code, said.strip()) == (0, "2 written to fits")
    assert sorted(raws.rglob("*")) == before
    assert sorted(path for path in Path("fits").rglob("*.fits")) == [Path("fits/IMG_1.fits"), Path("fits/dark/IMG_1.fits")]
    np.testing.assert_array_equal(read_raw("fits/dark/IMG_1.fits").data, NOISE + 1)
    code, said = run(raws, "--utc-offset", "-07:00")
    assert (code, said.strip()) == (0, "0 written to fits, 2 there already")
    assert run(raws, "--overwrite", "--compress", "-o", "packed")[0] == 0
    assert Path("packed/IMG_1.fits.fz").exists()


def test_one_line_a_failure_and_exit_codes(tmp_path: Path, run, capfd: pytest.CaptureFixture[str]) -> None:
    good = write_dng(tmp_path / "good.dng", NOISE, exif=NO_OFFSET)
    bad, rgb = tmp_path / "bad.CR2", tmp_path / "rgb.tif"
    bad.write_text("words")
    tifffile.imwrite(rgb, np.zeros((9, 9, 3), np.uint8), photometric="rgb")
    code, said = run(good, bad, rgb)
    assert code == 1
    assert "1 written to fits, 2 failed" in said and "without UTC: 1; say the offset" in said
    assert [path.name for path in Path("fits").iterdir()] == ["good.fits"]
    failures = [line for line in capfd.readouterr().err.splitlines() + said.splitlines() if str(bad) in line or str(rgb) in line]
    assert len(failures) == 2
    assert run(bad)[0] == 2
    assert run(good, "--utc-offset", "+02:00", "--overwrite")[0] == 0
    assert read_header("fits/good.fits")["DATE-OBS"] == "2023-08-11T23:03:04.37"


def test_two_files_never_share_a_target(tmp_path: Path, run) -> None:
    write_dng(tmp_path / "a.dng", NOISE)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(NOISE))
    code, said = run(tmp_path / "a.dng", tmp_path / "a.png", "--overwrite")
    assert code == 1 and "1 written" in said and "is made from a.dng already" in said
    assert "BAYERPAT" in read_header("fits/a.fits")


def test_a_file_that_failed_does_not_block_its_namesake(tmp_path: Path, run) -> None:
    (tmp_path / "a.CR2").write_text("words")
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(NOISE))
    code, said = run(tmp_path / "a.CR2", tmp_path / "a.png")
    assert code == 1 and "1 written to fits, 1 failed" in said
    np.testing.assert_array_equal(read_raw("fits/a.fits").data, NOISE)


@pytest.mark.parametrize("junk", [b"words", b"", b"SIMPLE  =                    T"])
def test_a_damaged_target_asks_for_overwrite(tmp_path: Path, junk: bytes) -> None:
    source, target = write_dng(tmp_path / "a.dng", NOISE), tmp_path / "a.fits"
    target.write_bytes(junk)
    with pytest.raises(ConfigurationError, match=r"a\.fits: the file exists and cannot be used .*--overwrite"):
        convert_file(source, target)
    assert convert_file(source, target, overwrite=True).written


def test_a_picture_without_a_date_asks_for_no_offset(tmp_path: Path, run) -> None:
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(NOISE))
    code, said = run(tmp_path / "a.png", "--utc-offset", "+01:00")
    assert code == 0 and "without any date: 1" in said and "without UTC" not in said


def test_nothing_to_convert_and_wrong_offsets_are_the_users_to_mend(tmp_path: Path, run) -> None:
    fits.PrimaryHDU(NOISE).writeto(tmp_path / "a.fits")
    code, said = run(tmp_path / "a.fits")
    assert code == 2 and "1 other files" in said
    assert run(tmp_path / "nowhere.cr2")[0] == 2
    for wrong in ("noon", "+25:00", "+02:75", "2.5"):
        code, said = run(tmp_path / "a.fits", "--utc-offset", wrong)
        assert code == 2 and wrong in said


@pytest.mark.parametrize(
    ("text", "hours"), [("+02:00", 2), ("-0330", -3.5), ("9", 9), ("-7", -7), ("Z", 0), ("utc", 0), ("UTC+05:45", 5.75), ("+14:00", 14)]
)
def test_offsets_as_people_write_them(text: str, hours: float) -> None:
    assert parse_offset(text) == timedelta(hours=hours)


@pytest.mark.realdata
@pytest.mark.parametrize("compressed", [False, True])
def test_the_real_dng_becomes_fits(shared_data: Path, tmp_path: Path, compressed: bool) -> None:
    source = shared_data / "bayer" / "colorchart.dng"
    raw = read_raw(source)
    to_fits(raw, tmp_path / "a.fits", original=source, compressed=compressed)
    back = read_raw(tmp_path / "a.fits")
    np.testing.assert_array_equal(back.data, raw.data)
    assert facts_of(back.header) == facts_of(raw.header)
    with fitsio.FITS(str(tmp_path / "a.fits")) as other:
        np.testing.assert_array_equal(other[int(compressed)].read(), raw.data)


def test_a_raw_file_that_is_gone_says_how_to_relocate(tmp_path: Path) -> None:
    path = tmp_path / "gone.fits"
    known = {"duplicate_of": None, "instrument_id": 1, "sha256": "", "pixels_sha256": None}
    row = SimpleNamespace(exposure_id=1, product_id=None, path=str(path), **known)
    session = SimpleNamespace(get_one=lambda *_: row, scalars=lambda _: [])  # it has no copy
    context: Any = SimpleNamespace(session=session, files=tmp_path)
    with pytest.raises(FrameUnusable, match=r"gone\.fits: raw file is gone; .*starledger relocate OLD NEW") as caught:
        raw_frame(context, 1, None)
    assert caught.value.code == "frame.file_missing"
