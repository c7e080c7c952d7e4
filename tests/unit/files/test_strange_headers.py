"""Cards that nobody can read cost themselves and not the file; what a header declares is checked before anything is decoded."""

from __future__ import annotations

import gzip
import os
import resource
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from db.errors import FrameUnusable
from db.path_text import escaped, unescaped
from reduction.files import contents
from reduction.files.convert import read_raw as read_any
from reduction.files.fits import read_header, read_raw
from reduction.files.fits_headers import MOST_CARDS

PIXELS = np.arange(60, dtype=np.int16).reshape(6, 10)


def with_cards(path: Path, *cards: bytes) -> Path:
    """A good file with further cards before its END."""
    fits.PrimaryHDU(PIXELS, fits.Header([("EXPTIME", 30.0), ("OBJECT", "HAT-P-32")])).writeto(path)
    whole = path.read_bytes()
    header = whole[: whole.index(b"END     ")] + b"".join(card.ljust(80)[:80] for card in cards) + b"END".ljust(80)
    path.write_bytes(header.ljust(-(-len(header) // 2880) * 2880) + whole[2880:])
    return path


def refusal(path: Path) -> FrameUnusable:
    with pytest.raises(FrameUnusable) as caught:
        read_any(path)
    assert str(caught.value).isprintable() and caught.value.hint and "please report" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("cards", "damaged", "filter_"),
    [
        ((b"FILTER  = 'V",), ("FILTER",), "V"),
        ((b"FILTER  = 'V / a comment",), ("FILTER",), "V"),
        ((b"FILTER  = 'V\0\0\0'",), ("FILTER",), "V"),
        ((b"FILTER  = 'V'".ljust(80, b"\0"),), ("FILTER",), "V"),
        ((b"FILTER  = '\x1b[31mV'",), ("FILTER",), "[31mV"),
        ((b"FILTER  = '\tV'",), ("FILTER",), "V"),
        ((b"FILTER  = 'V&'", b"CONTINUE  'ery"), ("FILTER",), "V&"),
        ((b"FILTER  = 'V&'", b"CONTINUE"), ("FILTER",), "V&"),
        ((b"FILTER  = 'V&'", b"CONTINUE  'isual'"), (), "Visual"),
        ((b"FILTER  = 'V'", b"CONTINUE  'isual'"), ("CONTINUE",), "V"),
        ((b"FILTER  = 'V'", b"\xff\xfe\x00\x01".ljust(80, b"\x07")), ("??",), "V"),
        ((b"FILTER  = 'V'", b"TEMP    = 1.2.3"), ("TEMP",), "V"),
    ],
)
def test_a_damaged_card_costs_itself(tmp_path: Path, cards: tuple[bytes, ...], damaged: tuple[str, ...], filter_: str) -> None:
    raw = read_raw(with_cards(tmp_path / "a.fits", *cards))
    np.testing.assert_array_equal(raw.data, PIXELS)
    assert (raw.header["EXPTIME"], raw.header["OBJECT"], raw.header["FILTER"].strip()) == (30.0, "HAT-P-32", filter_)
    assert raw.damaged == damaged
    # Whoever writes the header on can do so.
    fits.PrimaryHDU(PIXELS, raw.header).writeto(tmp_path / "b.fits")
    assert read_header(tmp_path / "b.fits")["OBJECT"] == "HAT-P-32"


@pytest.mark.parametrize("card", [f"COUNT   = {'9' * 40}", "COUNT   = -99999999999999999999", "COUNT   = 1E400", "COUNT   = (1.0, 2.0)"])
def test_numbers_that_no_column_holds_are_no_damage(tmp_path: Path, card: str) -> None:
    assert read_raw(with_cards(tmp_path / "a.fits", card.encode())).header["EXPTIME"] == 30.0


@pytest.mark.parametrize(
    ("word", "value", "code"),
    [
        *[("BITPIX", value, "frame.corrupt") for value in ("'x'", "17", "2.5", "-16", "")],
        *[("NAXIS", value, "frame.corrupt") for value in ("'x'", "-2", "1000")],
        *[("NAXIS1", value, "frame.corrupt") for value in ("2.5", "-10", "T", "9" * 30)],
        *[("NAXIS1", value, "frame.too_large") for value in ("1000000000", str(2**62))],
        ("NAXIS1", "1000", "frame.truncated"),
        ("NAXIS2", "0", "frame.corrupt"),
    ],
)
def test_what_cannot_be_is_refused_before_it_is_decoded(tmp_path: Path, word: str, value: str, code: str) -> None:
    path = with_cards(tmp_path / "a.fits")
    whole = path.read_bytes()
    start = whole.index(f"{word:8}=".encode())
    path.write_bytes(whole[:start] + f"{word:8}= {value}".ljust(80).encode() + whole[start + 80 :])
    assert refusal(path).code == code


@pytest.mark.parametrize("card", [b"BSCALE  = 'x'", b"BZERO   = 'x'", b"BSCALE  = NaN"])
def test_pixels_of_an_unknown_scale_are_refused(tmp_path: Path, card: bytes) -> None:
    assert refusal(with_cards(tmp_path / "a.fits", card)).code == "frame.corrupt"


@pytest.mark.parametrize(
    ("word", "value", "code"),
    [
        ("ZNAXIS1", "1000000000", "frame.too_large"),
        ("ZNAXIS2", "50", "frame.corrupt"),
        ("ZTILE1", "1000000000", "frame.corrupt"),
        ("ZTILE2", "0", "frame.corrupt"),
        ("ZBITPIX", "'x'", "frame.corrupt"),
        ("ZCMPTYPE", "'x'", "frame.corrupt"),
        ("PCOUNT", "1000000000", "frame.truncated"),
        ("TFIELDS", "1000000", "frame.corrupt"),
    ],
)
def test_a_compressed_image_is_checked_before_it_is_decoded(tmp_path: Path, word: str, value: str, code: str) -> None:
    path = tmp_path / "a.fits.fz"
    noise = np.random.default_rng(1).integers(0, 30000, (40, 50)).astype(np.int16)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(noise)]).writeto(path)
    whole = path.read_bytes()
    start = whole.index(f"{word:8}=".encode(), 2880)
    path.write_bytes(whole[:start] + f"{word:8}= {value}".ljust(80).encode() + whole[start + 80 :])
    assert refusal(path).code == code


def test_a_header_has_an_end_and_not_too_many_cards(tmp_path: Path) -> None:
    assert refusal(with_cards(tmp_path / "a.fits", *[b"COMMENT on and on"] * (10 * MOST_CARDS))).code == "frame.too_large"
    many = read_raw(with_cards(tmp_path / "b.fits", *[b"COMMENT on and on"] * (MOST_CARDS - 50)))
    assert len(many.header["COMMENT"]) == MOST_CARDS - 50
    endless = with_cards(tmp_path / "c.fits")
    endless.write_bytes(endless.read_bytes().replace(b"END     ", b"NED     "))
    assert refusal(endless).code == "frame.truncated"


def test_what_is_damaged_behind_the_image_does_not_lose_it(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(PIXELS), fits.ImageHDU(PIXELS)]).writeto(path)
    whole = path.read_bytes()
    start = whole.index(b"BITPIX", 2880 * 2)
    path.write_bytes(whole[:start] + b"BITPIX  = 'x'".ljust(80) + whole[start + 80 :])
    np.testing.assert_array_equal(read_raw(path).data, PIXELS)


def test_a_bomb_is_given_up_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.fits.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(with_cards(tmp_path / "b.fits").read_bytes()[:2880])
        for _ in range(100):
            stream.write(bytes(2**22))
    monkeypatch.setattr(contents, "MOST_BYTES", 2**23)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refusal(path).code == "frame.too_large"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB, where all of it has 400 MB


@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz", "a.cr2", "a.png", "a.tif"])
def test_a_file_is_never_read_that_is_none_or_too_large(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    assert refusal(path).code == "frame.not_file"
    path.unlink()
    path.symlink_to("/dev/zero")
    assert refusal(path).code == "frame.not_file"
    path.unlink()
    with path.open("wb") as stream:
        stream.truncate(2**40)
    assert refusal(path).code == "frame.too_large"


@pytest.mark.parametrize(
    "name", [b"a.fits", b"\xff\xfe.fits", b"\\udcff.fits", b"\\\\udc5c\xff", "µ\\udc".encode(), b"a\\udcfg", b"\n\x1b"]
)
def test_names_that_are_no_utf8_lead_back_to_the_file(name: bytes) -> None:
    path = os.fsdecode(name)
    text = escaped(path)
    assert text.encode("utf-8") and unescaped(text) == path
    assert (text == path) == (b"\xff" not in name and b"\\udcff" not in name and b"\\udc5c" not in name)
