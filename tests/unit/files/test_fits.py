"""Raw FITS files as they come, good and bad, and product files that survive a crash."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy.io import fits

from db.errors import ConfigurationError, FrameUnusable
from reduction.files import contents as contents_module
from reduction.files import convert
from reduction.files.fits import read_header, read_raw, sha256_of
from reduction.files.product import TEMPORARY_PREFIX, read_image, write_image
from reduction.files.raw_files import find_raw_files, is_fits_name, is_raw_name

RAMP = np.arange(60, dtype=np.int16).reshape(6, 10)


def save(path: Path, *hdus: fits.PrimaryHDU) -> Path:
    fits.HDUList(list(hdus) or [fits.PrimaryHDU(RAMP)]).writeto(path)
    return path


def code_of(path: Path) -> str:
    with pytest.raises(FrameUnusable) as caught:
        read_raw(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize("name", ["a.fits", "a.FITS", "b.Fit", "c.FTS", "d.fits.gz", "e.FIT.GZ", "f.fits.fz", "g.fz"])
def test_names_of_fits_files(name: str) -> None:
    assert is_fits_name(name)


@pytest.mark.parametrize("name", ["a.txt", "fits", "a.fits.txt", "notes.gz", "a.fits.bak", "a.cr2"])
def test_names_of_other_files(name: str) -> None:
    assert not is_fits_name(name)


def test_files_are_found_below_folders_sorted_once_and_without_hidden_ones(tmp_path: Path) -> None:
    wanted = ["b.FITS", "deep/er/a.fit", "deep/c.fts.gz"]
    for name in [*wanted, "notes.txt", "b.JPG", ".hidden.fits", ".folder/d.fits", "products/e.fits"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_raw_files([tmp_path, tmp_path / "b.FITS"], exclude=[tmp_path / "products"])
    assert found == sorted(tmp_path / name for name in wanted)
    assert found.ignored == 2


@pytest.mark.parametrize("name", ["IMG_1.CR2", "a.cr3", "DSC_1.NEF", "a.ARW", "a.dng", "a.RAF", "a.orf", "a.Rw2", "a.PEF", "a.iiq"])
def test_camera_files_are_found_in_any_case(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert is_raw_name(name) and not is_fits_name(name)
    assert find_raw_files([tmp_path]) == find_raw_files([tmp_path / name]) == [tmp_path / name]


@pytest.mark.parametrize("name", ["a.TIF", "a.tiff", "a.PNG"])
def test_pictures_count_where_a_folder_holds_no_other_frames(tmp_path: Path, name: str) -> None:
    (tmp_path / "deep").mkdir()
    picture = tmp_path / "deep" / name
    picture.touch()
    found = find_raw_files([tmp_path])
    assert (found, found.ignored) == ([picture], 0)
    (tmp_path / "a.fits").touch()
    found = find_raw_files([tmp_path])  # beside frames it is a plot
    assert (found, found.ignored) == ([tmp_path / "a.fits"], 1)
    assert find_raw_files([tmp_path, picture]) == [tmp_path / "a.fits", picture]


def test_bzip2_is_taken_as_gzip_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = save(tmp_path / "a.fits", fits.PrimaryHDU(RAMP))
    packed = tmp_path / "b.fit.BZ2"
    packed.write_bytes(bz2.compress(plain.read_bytes()))
    assert is_fits_name(packed.name) and packed in find_raw_files([tmp_path]) and not is_fits_name("notes.bz2")
    np.testing.assert_array_equal(read_raw(packed).data, RAMP)
    np.testing.assert_array_equal(convert.read_raw(packed.rename(tmp_path / "c")).data, RAMP)  # by what it begins with
    bad = tmp_path / "bad.fits.bz2"
    for contents, code in (
        (bz2.compress(plain.read_bytes())[:-20], "frame.truncated"),
        (bz2.compress(plain.read_bytes()).replace(b"1AY", b"2AY"), "frame.truncated"),
        (bz2.compress(b""), "frame.empty"),
    ):
        bad.write_bytes(contents)
        with pytest.raises(FrameUnusable) as caught:
            read_raw(bad)
        assert caught.value.code == code and "bzip2" in str(caught.value) and str(bad) in str(caught.value)
    monkeypatch.setattr(contents_module, "MOST_BYTES", 4000)
    bad.write_bytes(bz2.compress(bytes(10_000)))
    with pytest.raises(FrameUnusable, match="more than 4000 bytes") as caught:
        read_raw(bad)
    assert caught.value.code == "frame.too_large"


@pytest.mark.parametrize("name", ["IMG_1.JPG", "a.jpeg", "a.xmp", "a.thm", "a.mp4", "cr2", "a.gif", "a.tif.txt"])
def test_previews_and_other_files_are_counted_and_passed_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    found = find_raw_files([tmp_path])
    assert (found, found.ignored) == ([], 1)


def test_linked_folders_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    inside, outside, closed = tmp_path / "root", tmp_path / "elsewhere", tmp_path / "products"
    for path in (inside / "night", outside / "deep", closed / "raw", inside / ".hidden"):
        path.mkdir(parents=True)
        (path / "a.fits").touch()
    links = {"outside": outside, "again": outside / "deep", "0": inside / "night", "up": tmp_path, "loop": inside, "made": closed / "raw"}
    for name, target in links.items():
        (inside / name).symlink_to(target)
    (outside / "back").symlink_to(inside)
    found = find_raw_files([inside], exclude=[closed])
    assert [str(path.relative_to(inside)) for path in found] == ["again/a.fits", "night/a.fits"]


def test_a_path_that_does_not_exist_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        find_raw_files([tmp_path / "nowhere"])


def test_an_empty_folder_holds_nothing(tmp_path: Path) -> None:
    assert find_raw_files([tmp_path]) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_every_type_of_pixel_becomes_native_float32(tmp_path: Path, dtype: type) -> None:
    raw = read_raw(save(tmp_path / "a.fits", fits.PrimaryHDU(RAMP.astype(dtype))))
    assert raw.data.dtype == np.dtype("=f4")
    assert raw.data.flags.c_contiguous
    np.testing.assert_array_equal(raw.data, RAMP)
    assert (raw.integer, raw.quantum, raw.hdu) == (True, 1.0, 0)


def test_scaled_integers_keep_their_step(tmp_path: Path) -> None:
    hdu = fits.PrimaryHDU(RAMP.astype(np.float32) * 0.5 + 100)
    hdu.scale("int16", bscale=0.5, bzero=100)
    raw = read_raw(save(tmp_path / "a.fits", hdu))
    np.testing.assert_allclose(raw.data, RAMP * 0.5 + 100)
    assert (raw.integer, raw.quantum) == (False, 0.5)


@pytest.mark.parametrize(("step", "dtype"), [(1, np.uint16), (4, np.uint16), (16, np.uint16), (16, np.float32), (3, np.int32)])
def test_the_step_of_stretched_values_is_found(tmp_path: Path, step: int, dtype: type) -> None:
    values = (step * np.random.default_rng(1).integers(60, 90, (50, 70)) + 5).astype(dtype)
    assert read_raw(save(tmp_path / "a.fits", fits.PrimaryHDU(values))).quantum == step
    values[31, 17] += 1
    assert read_raw(save(tmp_path / "b.fits", fits.PrimaryHDU(values))).quantum == 1.0


def test_the_step_of_a_bias_frame_with_little_noise_is_found(tmp_path: Path) -> None:
    values = 16 * np.rint(np.random.default_rng(2).normal(50.3, 0.4, (50, 70))).astype(np.uint16)
    assert np.unique(values).size < 6
    assert read_raw(save(tmp_path / "a.fits", fits.PrimaryHDU(values))).quantum == 16.0


def test_few_values_have_no_common_step(tmp_path: Path) -> None:
    values = np.full((50, 70), 1000, np.uint16)
    values[3, 4], values[5, 6] = 1400, 65400
    assert read_raw(save(tmp_path / "a.fits", fits.PrimaryHDU(values))).quantum == 1.0


def test_whole_numbers_that_floats_cannot_hold_are_refused(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.int32).reshape(6, 10) + 2**24
    assert code_of(save(tmp_path / "a.fits", fits.PrimaryHDU(values))) == "frame.lossy"
    held = read_raw(save(tmp_path / "b.fits", fits.PrimaryHDU(np.arange(60, dtype=np.int32).reshape(6, 10) + 2**24 - 60)))
    np.testing.assert_array_equal(held.data, np.arange(60).reshape(6, 10) + 2**24 - 60)
    # Floats say themselves how few digits they have.
    large = read_raw(save(tmp_path / "c.fits", fits.PrimaryHDU(values.astype(np.float32))))
    assert large.quantum == 0.0


def test_continuous_values_have_no_step(tmp_path: Path) -> None:
    raw = read_raw(save(tmp_path / "a.fits", fits.PrimaryHDU(RAMP.astype(np.float32) + 0.3)))
    assert (raw.integer, raw.quantum) == (False, 0.0)


def test_blank_pixels_are_nan(tmp_path: Path) -> None:
    hdu = fits.PrimaryHDU(RAMP)
    hdu.header["BLANK"] = 7
    raw = read_raw(save(tmp_path / "a.fits", hdu))
    assert np.flatnonzero(np.isnan(raw.data)).tolist() == [7]
    assert raw.integer


def test_gzip_is_known_by_its_contents(tmp_path: Path) -> None:
    plain = save(tmp_path / "a.fits")
    for name in ("b.fits.gz", "c.fits"):
        (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes()))
        np.testing.assert_array_equal(read_raw(tmp_path / name).data, RAMP)


def test_an_image_in_an_extension_brings_the_primary_header_along(tmp_path: Path) -> None:
    primary = fits.PrimaryHDU()
    primary.header["EXPTIME"], primary.header["GAIN"] = 30.0, 1.0
    for number, image in enumerate((fits.ImageHDU(RAMP), fits.CompImageHDU(RAMP))):
        image.header["GAIN"] = 2.0
        raw = read_raw(save(tmp_path / f"{number}.fits.fz", primary, image))
        assert (raw.hdu, raw.header["EXPTIME"], raw.header["GAIN"]) == (1, 30.0, 2.0)
        np.testing.assert_array_equal(raw.data, RAMP)


def test_axes_of_length_one_do_not_make_a_cube(tmp_path: Path) -> None:
    assert read_raw(save(tmp_path / "a.fits", fits.PrimaryHDU(RAMP[None]))).data.shape == RAMP.shape


@pytest.mark.parametrize("shape", [(3, 6, 10), (6, 10, 3)])
def test_a_colour_image_is_refused_and_the_mosaic_asked_for(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(FrameUnusable, match=r"colour image .*save the raw mosaic, not debayered") as caught:
        read_raw(save(tmp_path / "a.fits", fits.PrimaryHDU(np.zeros(shape, np.int16))))
    assert caught.value.code == "frame.cube"


def test_a_cube_of_exposures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FrameUnusable, match=r"3 axes \(7 x 6 x 10\).*one file per exposure"):
        read_raw(save(tmp_path / "a.fits", fits.PrimaryHDU(np.zeros((7, 6, 10), np.int16))))


def test_the_first_image_of_several_extensions_is_taken(tmp_path: Path) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=np.arange(3))])
    raw = read_raw(save(tmp_path / "a.FITS", fits.PrimaryHDU(), table, fits.ImageHDU(RAMP), fits.ImageHDU(RAMP[::-1])))
    assert raw.hdu == 2
    np.testing.assert_array_equal(raw.data, RAMP)


@pytest.mark.parametrize("compression", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32])
def test_every_lossless_tile_compression(tmp_path: Path, compression: str, dtype: type) -> None:
    values = np.random.default_rng(4).integers(0, 30000, (40, 50)).astype(dtype)
    raw = read_raw(save(tmp_path / "a.fits.fz", fits.PrimaryHDU(), fits.CompImageHDU(values, compression_type=compression)))
    np.testing.assert_array_equal(raw.data, values)
    assert (raw.integer, raw.quantum) == (True, 1.0)


def test_an_independent_reader_and_writer_agree(tmp_path: Path) -> None:
    values = np.random.default_rng(4).integers(0, 65536, (40, 50)).astype(np.uint16)
    for name in ("a.FIT", "b.fts", "c.fits.gz", "d.fits[compress R]"):
        fitsio.write(str(tmp_path / name), values)
        np.testing.assert_array_equal(read_raw(tmp_path / name.split("[")[0]).data, values)


def test_bad_files_are_told_apart(tmp_path: Path) -> None:
    text, empty, missing, folder = (tmp_path / name for name in ("text.fits", "empty.fits", "missing.fits", "folder.fits"))
    text.write_text("this is not an image\n" * 500)
    empty.touch()
    folder.mkdir()
    assert code_of(text) == "frame.not_fits"
    assert code_of(empty) == "frame.empty"
    assert code_of(missing) == "frame.unreadable"
    assert code_of(folder) == "frame.not_file"
    assert code_of(save(tmp_path / "cube.fits", fits.PrimaryHDU(np.zeros((3, 6, 10), "i2")))) == "frame.cube"
    assert code_of(save(tmp_path / "bare.fits", fits.PrimaryHDU())) == "frame.no_image"
    assert code_of(save(tmp_path / "row.fits", fits.PrimaryHDU(np.zeros(10, "i2")))) == "frame.no_image"
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=np.arange(3))])
    assert code_of(save(tmp_path / "table.fits", fits.PrimaryHDU(), table)) == "frame.no_image"


@pytest.mark.parametrize("kept", [0.5, 0.9])
@pytest.mark.parametrize("kind", ["plain", "compressed", "gzip"])
def test_truncation_is_seen_in_data_and_header_reading(tmp_path: Path, kind: str, kept: float) -> None:
    noise = np.random.default_rng(1).integers(0, 30000, (120, 100)).astype(np.int16)
    hdus = [fits.PrimaryHDU(), fits.CompImageHDU(noise)] if kind == "compressed" else [fits.PrimaryHDU(noise)]
    whole = save(tmp_path / "whole.fits", *hdus).read_bytes()
    whole = gzip.compress(whole) if kind == "gzip" else whole
    cut = tmp_path / "cut.fits"
    cut.write_bytes(whole[: int(kept * len(whole))])
    assert code_of(cut) == "frame.truncated"
    with pytest.raises(FrameUnusable, match=r"cut\.fits"):
        read_header(cut)


def test_truncation_inside_the_header_is_seen(tmp_path: Path) -> None:
    cut = tmp_path / "cut.fits"
    cut.write_bytes(save(tmp_path / "whole.fits").read_bytes()[:400])
    assert code_of(cut) == "frame.truncated"


def test_an_extension_cut_in_its_header_is_truncation_and_not_a_file_without_image(tmp_path: Path) -> None:
    cut = tmp_path / "cut.fits"
    cut.write_bytes(save(tmp_path / "whole.fits", fits.PrimaryHDU(), fits.ImageHDU(RAMP)).read_bytes()[: 2880 + 500])
    assert code_of(cut) == "frame.truncated"


def test_missing_padding_is_no_truncation(tmp_path: Path) -> None:
    short = tmp_path / "short.fits"
    short.write_bytes(save(tmp_path / "whole.fits").read_bytes()[: 2880 + RAMP.nbytes])
    np.testing.assert_array_equal(read_raw(short).data, RAMP)


def test_cards_that_break_the_standard_become_text_without_a_warning(tmp_path: Path) -> None:
    path = save(tmp_path / "a.fits")
    cards = [
        "EXPTIME = 060.00 / free format",
        "EQUINOX = 2000.0",
        "TEMP    = -5.0.1 C",
        "COMMENT = 'one'",
        "COMMENT = 'two'",
        "lower   = 5",
    ]
    block = path.read_bytes()
    end = block.index(b"END     ")
    odd = "".join(card.ljust(80) for card in cards).encode() + b"OBSERVER= 'J\xfcrg'".ljust(80)
    header = (block[:end] + odd + b"END".ljust(80)).ljust(2880)
    path.write_bytes(header + block[2880:])
    raw = read_raw(path)
    assert raw.header["EXPTIME"] == 60.0
    assert raw.header["TEMP"] == "-5.0.1 C"
    assert raw.header["OBSERVER"] == "J?rg"
    np.testing.assert_array_equal(raw.data, RAMP)
    assert read_header(path)["EQUINOX"] == 2000.0


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = save(tmp_path / "a.fits")
    assert sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(FrameUnusable):
        sha256_of(tmp_path / "missing.fits")


def some_planes() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(2)
    image = generator.normal(300, 5, (50, 70)).astype(np.float32)
    image[3, 4], image[5, 6], image[7, 8] = np.nan, np.inf, -0.0
    whole = np.rint(image[::-1].clip(0, 1000))
    whole[~np.isfinite(whole)] = 0
    return {"SCI": image, "VAR": whole.astype(np.float32), "MASK": generator.integers(0, 64, (50, 70)).astype(np.uint8)}


def test_products_come_back_bit_by_bit(tmp_path: Path) -> None:
    planes = some_planes()
    header = fits.Header([("EXPTIME", 60.0, "s"), ("OBJECT", "HAT-P-32"), ("HISTORY", "made by a test")])
    path = tmp_path / "new" / "folder" / "a.fits"
    written = write_image(path, planes, header)
    back, cards = read_image(path)
    assert list(back) == list(planes)
    for name, plane in planes.items():
        assert back[name].dtype == plane.dtype
        assert back[name].tobytes() == plane.tobytes()
    assert (cards["EXPTIME"], cards["OBJECT"]) == (60.0, "HAT-P-32")
    assert (written.sha256, written.size) == (sha256_of(path), path.stat().st_size)


def test_equal_products_are_equal_files_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_image(tmp_path / "a.fits", some_planes())
    # gzip streams have room for the time of day, and some libraries fill it in.
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert write_image(tmp_path / "b.fits", some_planes()) == first


@pytest.mark.parametrize("shape", [(1, 1), (50, 7), (51, 7), (120, 3)])
def test_product_planes_are_compressed_images_for_everyone(tmp_path: Path, shape: tuple[int, int]) -> None:
    plane = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    write_image(tmp_path / "a.fits", {"SCI": plane, "MASK": np.ones(shape, np.uint8)})
    with fits.open(tmp_path / "a.fits") as hdus:
        hdus.verify("exception")
        assert isinstance(hdus["SCI"], fits.CompImageHDU)
        np.testing.assert_array_equal(hdus["SCI"].data, plane)


@pytest.mark.parametrize("value", [-0.0, 0.5, np.nan, 2.0**25, -40000.0])
def test_no_float_is_lost_by_packing_whole_numbers(tmp_path: Path, value: float) -> None:
    plane = np.full((4, 5), 3.0, np.float32)
    plane[1, 2] = value
    write_image(tmp_path / "a.fits", {"SCI": plane})
    assert read_image(tmp_path / "a.fits")[0]["SCI"].tobytes() == plane.tobytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.fits"
    before = write_image(path, {"SCI": np.zeros((4, 5), np.float32)})

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_image(path, {"SCI": np.ones((4, 5), np.float32)})
    assert sha256_of(path) == before.sha256
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.fits"]


def test_the_temporary_name_is_in_the_same_folder_and_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    sync = os.fsync

    def watch(handle: int) -> None:
        seen.extend(entry.name for entry in tmp_path.iterdir())
        sync(handle)

    monkeypatch.setattr(os, "fsync", watch)
    write_image(tmp_path / "a.fits", {"SCI": np.zeros((4, 5), np.float32)})
    assert seen[0].startswith(TEMPORARY_PREFIX)
    assert seen[-1] == "a.fits"


def test_a_damaged_product_is_a_frame_error(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    write_image(path, some_planes())
    whole = path.read_bytes()
    for cut in (3000, 8000, len(whole) - 2880):
        path.write_bytes(whole[:-cut])
        with pytest.raises(FrameUnusable) as caught:
            read_image(path)
        assert caught.value.code == "frame.truncated"


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("night", "shape", "quantum"), [("hatp32", (500, 650), 1.0), ("skycamt", (1024, 1024), None), ("tircam2", (512, 512), 1.0)]
)
def test_real_frames(night_files: Callable[[str], list[Path]], night: str, shape: tuple[int, int], quantum: float | None) -> None:
    for path in night_files(night):
        raw = read_raw(path)
        assert raw.data.shape == shape
        assert np.isfinite(raw.data).all()
        assert raw.quantum == (quantum or raw.header["BSCALE"] if quantum is None else quantum)
