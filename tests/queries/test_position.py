"""Positions as people write them."""

from __future__ import annotations

import pytest
from astropy.coordinates import Angle

from db.errors import ConfigurationError
from queries.position import is_position, parse_position

RA, DEC = 15 * (2 + 4 / 60 + 10.2 / 3600), 46 + 41 / 60 + 16 / 3600


@pytest.mark.parametrize(
    ("text", "ra", "dec"),
    [
        ("31.0427 46.6879", 31.0427, 46.6879),
        ("31.0427,46.6879", 31.0427, 46.6879),
        (" 31.0427 ,  -46.6879 ", 31.0427, -46.6879),
        ("-10 5", 350.0, 5.0),
        ("360 0", 0.0, 0.0),
        ("3.1e1 1", 31.0, 1.0),
        ("02:04:10.2 +46:41:16", RA, DEC),
        ("02 04 10.2 +46 41 16", RA, DEC),
        ("02 04 10.2 46 41 16", RA, DEC),
        ("2h04m10.2s +46d41m16s", RA, DEC),
        ("2h 04m 10.2s +46d 41m 16s", RA, DEC),
        ("02:04:10.2 −46:41:16", RA, -DEC),
        ("00:00:01 -00:00:10", 15 / 3600, -10 / 3600),
        ("12:30 -00:30", 187.5, -0.5),
        ("31.0427d 46.6879d", 31.0427, 46.6879),
    ],
)
def test_positions_are_read(text: str, ra: float, dec: float) -> None:
    assert is_position(text)
    assert parse_position(text) == pytest.approx((ra, dec), abs=1e-12)


@pytest.mark.parametrize(
    "text", ["", "31.0427", "nan nan", "inf 0", "HAT-P-32 b", "HIP 123", "1 2 3", "one two", "31.0427 46.6879 12", "e e"]
)
def test_other_text_is_no_position(text: str) -> None:
    assert not is_position(text)
    with pytest.raises(ConfigurationError, match="no position"):
        parse_position(text)


@pytest.mark.parametrize(
    "text", ["400 20", "20 91", "20 -90.01", "12:61:00 +10:00:00", "25:00:00 +10:00:00", "12:00:00 +10:00:75", "-200 0", "d d 1 1"]
)
def test_places_off_the_sky_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_position(text)
    assert "\n" not in str(caught.value) and caught.value.code == "position.format"


@pytest.mark.parametrize("ra", ["02:04:10.2", "2 4 10", "0:59:0.0000", "23h59m59.999s", "+2h 04m 10.2s", "-00 30 10"])
@pytest.mark.parametrize("dec", ["+46:41:16.4", "-00 00 59.123456789", "-0d30m10s", "89 59 59.99", "5d 7m 9s"])
def test_the_usual_writings_mean_what_astropy_reads(ra: str, dec: str) -> None:
    expected = Angle(ra, unit="hourangle").degree % 360.0, Angle(dec, unit="deg").degree
    if len(ra.split()) != len(dec.split()):
        # A pair written in two ways is none: nobody could tell where the one ends.
        with pytest.raises(ConfigurationError, match="no position"):
            parse_position(f"{ra} {dec}")
        return
    assert parse_position(f"{ra} {dec}") == expected
