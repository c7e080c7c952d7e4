"""What a header says beside its first keyword: further wheels, other keywords, remarks, commas, and what cannot be read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits

from db.decimal_comma import ambiguous_comma, with_point
from db.errors import ConfigurationError, FrameUnusable
from queries.position import is_position, parse_position
from reduction.files.fits import read_header
from reduction.headers.facts import Facts, facts
from reduction.headers.instrument import definitions_from, identify

SHAPE = (500, 650)
Cards = list[tuple[Any, ...]]


def of(*cards: tuple[Any, ...], settings: dict[str, Any] | None = None) -> Facts:
    """Facts of a header with these cards (keyword, value, remark), after a time and an exposure, unless they say those."""
    named = {card[0] for card in cards}
    usual: Cards = [("DATE-OBS", "2020-01-02T03:04:05.12"), ("EXPTIME", 10.0)]
    header = fits.Header()
    for card in [*(c for c in usual if c[0] not in named), *cards]:
        header.append(card, end=True)
    return facts(header, identify(header, definitions_from(settings or {})), SHAPE, "a.fits")


def start(found: Facts) -> datetime:
    return datetime(2000, 1, 1, tzinfo=UTC) + timedelta(days=(found.start_jd1 - 2451544.5) + found.start_jd2)


@pytest.mark.parametrize(
    ("cards", "passband"),
    [
        ([("FILTER1", "Clear"), ("FILTER2", "B")], "B"),
        ([("FILTER1", "V"), ("FILTER2", "Clear")], "V"),
        ([("FILTER", "Clear"), ("FILTER2", "V")], "V"),
        ([("FILTER", "V"), ("FILTER2", "V")], "V"),
        ([("FILTERA", "<NO FILTER>"), ("FILTERB", "Ha")], "Ha"),
        ([("FILTNAM1", "air"), ("FILTNAM2", "i'")], "i'"),
        ([("FILT-1", "Open"), ("FILT-2", "R")], "R"),
        ([("WHEEL1", "Empty 3"), ("WHEEL2", "OIII"), ("WHEEL3", "None")], "OIII"),
        ([("FILTER", "rp"), ("FILTER1", "air"), ("FILTER2", "rp"), ("FILTER3", "air")], "rp"),
        ([("FILTER1", "B"), ("FILTER2", "ND2")], "B + ND2"),
        ([("FILTER2", "ND2"), ("FILTER1", "B")], "B + ND2"),
        ([("FILTER", "R-Bessell"), ("FILTER1", "air"), ("FILTER2", "R")], "R-Bessell"),
        ([("FILTER", "Clear;V")], "V"),
        ([("FILTER", "V/R")], "V/R"),
        ([("FILTER1", "open2-8"), ("FILTER2", "g_G0301")], "g_G0301"),
        ([("FILTER", "3"), ("FILTER1", "Clear"), ("FILTER2", "B")], "B"),
        ([("FILTER", "2")], "2"),
        ([("FILTER", "Clear")], "Clear"),
        ([("FILTER1", "Clear"), ("FILTER2", "Air")], "Clear"),
        ([("FILTER", "H")], "H"),
        ([("FILTER1", "None")], None),
        ([], None),
    ],
)  # fmt: skip
def test_every_wheel_counts_and_empty_places_do_not(cards: Cards, passband: str | None) -> None:
    found = of(*cards)
    assert (found.filter, found.notes) == (passband, ())


def test_a_wheel_that_is_blocked_blocks_and_a_mosaic_is_no_filter() -> None:
    found = of(("FILTER1", "Clear"), ("FILTER2", "BLOCK"))
    assert (found.filter, found.blocked) == ("BLOCK", True)
    assert of(("FILTER1", "J"), ("FILTER2", "Dark")).blocked
    found = of(("FILTER", "RGGB"), ("FILTER2", "UHC"))
    assert (found.bayer, found.filter) == ("RGGB", "UHC")


def test_a_filter_that_is_given_wins_over_the_wheels() -> None:
    cards = (("FILTER1", "Clear"), ("FILTER2", "B"))
    assert of(*cards, settings={"override": {"filter": "V"}}).filter == "V"
    assert of(*cards, settings={"default": {"filter": "V"}}).filter == "B"
    assert of(settings={"default": {"filter": "V"}}).filter == "V"
    mine = {"instrument": [{"name": "mine", "match": {"INSTRUME": "mine"}, "keywords": {"filter": ["MYFILT1"]}}]}
    assert of(("INSTRUME", "mine"), ("MYFILT1", "Open"), ("MYFILT2", "z"), ("FILTER", "V"), settings=mine).filter == "z"


@pytest.mark.parametrize(
    ("cards", "fact", "value", "named"),
    [
        ([("EXPTIME", 60.0), ("EXPTIME", 30.0)], "exptime", 60.0, "EXPTIME stands more than once: 60 is used, 30 is not"),
        ([("EXPTIME", 60.0), ("EXPOSURE", 30.0)], "exptime", 60.0, "EXPOSURE = 30 disagrees with EXPTIME = 60, which is used for exptime"),
        ([("FILTER", "V"), ("FILTNAM", "B")], "filter", "V", "FILTNAM = 'B' disagrees with FILTER = 'V'"),
        ([("FILTER", "V"), ("FILTER", "B")], "filter", "V", "FILTER stands more than once: 'V' is used, 'B' is not"),
        ([("FILTER", "V"), ("FILTER2", "B")], "filter", "V + B", "FILTER = 'V' and FILTER2 = 'B' are taken for two filters"),
        ([("EGAIN", 1.5), ("GAIN", 2.25)], "gain", 1.5, "GAIN = 2.25 disagrees with EGAIN = 1.5"),
        ([("RDNOISE", 5.0), ("READNOIS", 9.0)], "read_noise", 5.0, "READNOIS = 9 disagrees with RDNOISE = 5"),
        ([("SATURATE", 60000), ("SATLEVEL", 4095)], "saturation", 60000.0, "SATLEVEL = 4095 disagrees"),
        ([("CCD-TEMP", -20.0), ("CCDTEMP", 5.0)], "ccd_temperature", -20.0, "CCDTEMP = 5 disagrees with CCD-TEMP = -20"),
        ([("SET-TEMP", -20.0), ("SETTEMP", -10.0)], "set_temperature", -20.0, "SETTEMP = -10 disagrees"),
        ([("OBJECT", "M 31"), ("OBJNAME", "M 33")], "object", "M 31", "OBJNAME = 'M 33' disagrees with OBJECT = 'M 31'"),
        ([("IMAGETYP", "Dark Frame"), ("OBSTYPE", "FLAT")], "declared", "dark", "OBSTYPE = 'FLAT' disagrees"),
        ([("SITELAT", 40.0), ("SITELONG", 10.0), ("LATITUDE", 31.0)], "latitude", 40.0, "LATITUDE = 31 disagrees with SITELAT = 40"),
        ([("SITELAT", 40.0), ("SITELONG", 10.0), ("LONGITUD", -10.0)], "longitude", 10.0, "LONGITUD = -10 disagrees"),
        ([("XBINNING", 2), ("CCDXBIN", 1)], "binning", (2, 2), "CCDXBIN = 1 disagrees with XBINNING = 2"),
        ([("CCDSUM", "2 2"), ("XBINNING", 1)], "binning", (2, 2), "XBINNING = 1 disagrees with CCDSUM = 2x2"),
        ([("PIXSCALE", 1.0), ("SECPIX", 2.0)], "pixel_scale", 1.0, "SECPIX = 2 disagrees with PIXSCALE = 1"),
        ([("FOCALLEN", 500.0), ("FOCAL", 1000.0), ("XPIXSZ", 5.0)], "pixel_scale", 2.06264806, "FOCAL = 1000 disagrees"),
        ([("OBJCTRA", "10 00 00"), ("OBJCTDEC", "+20 00 00"), ("RA", 10.0), ("DEC", 20.0)], "ra", 150.0, "RA = 10 is 124.0"),
    ],
)  # fmt: skip
def test_keywords_that_disagree_are_noted_and_the_first_is_used(cards: Cards, fact: str, value: Any, named: str) -> None:
    found = of(*cards)
    assert getattr(found, fact) == (pytest.approx(value) if isinstance(value, float) else value)
    assert [named in note for note in found.notes] == [True]


@pytest.mark.parametrize(
    "cards",
    [
        [("EXPTIME", 60.0), ("EXPOSURE", 60.001)],
        [("EXPTIME", 60.0), ("EXPTIME", 60)],
        [("IMAGETYP", "Light Frame"), ("FRAME", "12"), ("OBSTYPE", "object")],
        [("CCD-TEMP", -20.0), ("CCDTEMP", 253.15)],
        [("XBINNING", 2), ("YBINNING", 2), ("CCDSUM", "2 2")],
        [("RA", 150.0), ("DEC", 20.0), ("OBJCTRA", "10 00 00"), ("OBJCTDEC", "+20 10 00")],
        [("OBJECT", "M 31"), ("FIELD", "m 31")],
        [("EGAIN", 0.5), ("GAIN", 100), ("ISOSPEED", 100)],
    ],
)  # fmt: skip
def test_keywords_that_agree_are_not_noted(cards: Cards) -> None:
    assert of(*cards).notes == ()


def test_what_a_person_gives_is_not_doubted() -> None:
    assert of(("EXPTIME", 60.0), ("EXPOSURE", 30.0), settings={"override": {"exptime": 45.0}}).notes == ()


def test_a_time_that_contradicts_the_first_is_noted_and_not_believed_for_its_digits() -> None:
    found = of(("DATE-OBS", "2020-01-02T03:04:05"), ("JD", 2458850.6695023))  # an hour later
    assert start(found) == datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert "JD is +3599.999 s from DATE-OBS" in found.notes[0] and "+1 h: one of them may be local time" in found.notes[0]
    found = of(("DATE-OBS", "2020-01-02T03:04:05"), ("MJD-OBS", 58850.1281250))  # 25 s later: the middle of the exposure, or an error
    assert start(found).second == 5 and found.time_source.startswith("DATE-OBS") and "MJD-OBS is +25.0" in found.notes[0]
    # It is believed where it only says more.
    found = of(("DATE-OBS", "2020-01-02T03:04:05"), ("MJD-OBS", 58850.12784028))
    assert found.time_source.startswith("MJD-OBS") and found.notes == ()


def test_a_time_that_the_definition_does_not_read_is_a_witness() -> None:
    cards = (("SWCREATE", "MaxIm DL Version 6"), ("DATE-OBS", "2020-01-02T03:04:05"))
    assert of(*cards, ("JD", 2458850.62783565)).notes == ()
    assert "JD, which is not used, is +3599.999 s" in of(*cards, ("JD", 2458850.6695023)).notes[0]
    assert "DATE-END is 5.000 s after the start" in of(*cards, ("DATE-END", "2020-01-02T03:04:10"), ("EXPTIME", 5000.0)).notes[0]
    assert of(*cards, ("DATE-END", "2020-01-02T03:04:17")).notes == ()


def test_a_date_that_stands_twice_is_noted() -> None:
    found = of(("DATE-OBS", "2020-01-02T03:04:05.0"), ("DATE-OBS", "2020-01-03T03:04:05.0"))
    assert start(found).day == 2
    assert found.notes == ("DATE-OBS stands more than once: '2020-01-02T03:04:05.0' is used, '2020-01-03T03:04:05.0' is not",)


@pytest.mark.parametrize(
    ("fact", "card", "value"),
    [
        ("exptime", ("EXPTIME", 2500, "[ms] exposure"), 2.5),
        ("exptime", ("EXPTIME", 2500, "Exposure time (ms)"), 2.5),
        ("exptime", ("EXPTIME", 2500, "exposure in milliseconds"), 2.5),
        ("exptime", ("EXPTIME", 2500000, "[us]"), 2.5),
        ("exptime", ("EXPTIME", 1.5, "minutes"), 90.0),
        ("exptime", ("EXPTIME", 0.5, "[h] total"), 1800.0),
        ("exptime", ("EXPTIME", "500 ms", "[s] exposure"), 0.5),
        ("exptime", ("EXPTIME", 2.5, "[s] minimum of all exposures"), 2.5),
        ("ccd_temperature", ("CCD-TEMP", 90.0, "[K] detector"), -183.15),
        ("ccd_temperature", ("CCD-TEMP", 14.0, "in degrees F"), -10.0),
        ("ccd_temperature", ("CCD-TEMP", 14.0, "[Fahrenheit]"), -10.0),
        ("pixel_scale", ("PIXSCALE", 0.001, "[deg/pixel]"), 3.6),
        ("pixel_scale", ("PIXSCALE", 0.5, "arcmin per pixel"), 30.0),
        ("pixel_scale", ("PIXSCALE", 3.6, "[arcsec/binned pixel]"), 3.6),
        ("read_noise", ("RDNOISE", 8.0, "[electrons/pixel]"), 8.0),
        ("orientation", ("ROTSKYPA", 1.0, "[rad]"), 57.29577951308232),
    ],
)  # fmt: skip
def test_the_unit_in_the_remark_is_heeded(fact: str, card: tuple[Any, ...], value: float) -> None:
    found = of(card)
    assert (getattr(found, fact), found.notes) == (pytest.approx(value), ())


@pytest.mark.parametrize(
    ("cards", "value"),
    [
        ([("RA", 10.0, "[hours] of the telescope"), ("DEC", 20.0, "[deg]")], (150.0, 20.0)),
        ([("RA", 10.0, "decimal hours"), ("DEC", 20.0, "")], (150.0, 20.0)),
        ([("RA", 1.0, "[rad]"), ("DEC", 0.5, "[rad]")], (57.29577951308232, 28.64788975654116)),
        ([("RA", "150:30:00", "[deg]"), ("DEC", "20:00:00", "[deg]")], (150.5, 20.0)),
    ],
)
def test_hours_and_radians_of_pointings(cards: Cards, value: tuple[float, float]) -> None:
    found = of(*cards)
    assert (found.ra, found.dec) == pytest.approx(value)


@pytest.mark.parametrize(
    ("value", "remark", "east"),
    [
        (110.25, "positive west", -110.25), (-20.25, "West is positive", 20.25), (110.25, "[deg] west +", -110.25),
        (110.25, "[degrees West]", -110.25), (-110.25, "degrees, negative west", -110.25), (110.25, "[deg East]", 110.25),
        ("110:15:00", "+W", -110.25), ("110:15:00", "east positive", 110.25), (110.25, "(+=East) (deg)", 110.25),
        (110.25, "longitude of the site", 110.25), ("110:15:00 E", "positive west", 110.25),
        ("W110 15 00", "", -110.25), ("W 110.25", "[deg]", -110.25), (110.25, "W-E, degrees", 110.25),
    ],
)  # fmt: skip
def test_the_side_that_counts_positive_is_heeded(value: Any, remark: str, east: float) -> None:
    found = of(("SITELAT", 31.5), ("SITELONG", value, remark))
    assert (found.longitude, found.notes) == (pytest.approx(east), ())


def test_west_of_a_longitude_below_zero_is_noted_and_a_definition_wins() -> None:
    found = of(("SITELAT", 31.5), ("SITELONG", -17.88, "[degrees West]"))
    assert found.longitude == -17.88 and "its sign is taken to say that already" in found.notes[0]
    assert of(("SITELAT", 31.5, "[deg South]"), ("SITELONG", 17.88)).latitude == -31.5
    mine = {"instrument": [{"name": "mine", "match": {"INSTRUME": "mine"}, "units": {"exptime": "s"}}]}
    assert of(("INSTRUME", "mine"), ("EXPTIME", 10.0, "[ms]"), settings=mine).exptime == 10.0


def test_a_unit_that_is_not_understood_is_noted() -> None:
    (note,) = of(("EXPTIME", 10.0, "[furlong] exposure")).notes
    assert "EXPTIME = 10.0 is in 'furlong', which is no unit known for exptime: taken as s" in note and "units.exptime" in note
    assert "'ticks'" in of(("EXPTIME", "10 ticks")).notes[0]
    assert of(("EXPTIME", 10.0, "[UTC] [s] (requested)")).notes == ()
    assert "'arcsec/mm'" in of(("PLTSCALE", 10.0, "[arcsec/mm] plate scale")).notes[0]


@pytest.mark.parametrize(
    ("remark", "moment", "shift"),
    [
        ("UTC start of exposure", "start", 0), ("mid-exposure, UT", "mid", -5), ("Time at end of exposure", "end", -10),
        ("[UTC] shutter closed", "end", -10), ("date of observation", "start", 0), ("start; see DATE-END", "start", 0),
        ("Greenwich mean time", "start", 0),
    ],
)  # fmt: skip
def test_the_moment_in_the_remark_is_heeded(remark: str, moment: str, shift: int) -> None:
    found = of(("DATE-OBS", "2020-01-02T03:04:15.5", remark))
    assert start(found) == datetime(2020, 1, 2, 3, 4, 15, 500000, tzinfo=UTC) + timedelta(seconds=shift)
    assert f"({moment}, UTC)" in found.time_source and found.notes == ()


def test_local_time_in_the_remark_is_heeded() -> None:
    local = ("DATE-OBS", "2020-01-02T03:04:05.5", "local time at start of exposure")
    with pytest.raises(FrameUnusable, match="but not its offset from UTC"):
        of(local)
    for found in (
        of(local, settings={"default": {"utc_offset": -7}}),
        of(local, ("TZOFFSET", -7)),
        of(local, ("TIMEZONE", 7, "hours west of Greenwich")),
        of(("DATE-OBS", "2020-01-02T03:04:05.5", "UTC-7")),
        of(("DATE-OBS", "2020-01-02T03:04:05.5", "start of exposure, MST")),
        of(local, ("TIMEZONE", "MST")),
    ):
        assert start(found) == datetime(2020, 1, 2, 10, 4, 5, 500000, tzinfo=UTC) and found.night_longitude == -105.0
    assert of(("DATE-OBS", "2020-01-02T03:04:05.5", "local sidereal time is under LST")).time_source.startswith("DATE-OBS (start, UTC)")
    assert start(of(local, ("TIMESYS", "UTC"))).hour == 3


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("60,5", "60.5"), ("-0,500", "-0.500"), ("0,125", "0.125"), ("1234,567", "1234.567"), ("1.234,5", "1234.5"), ("1,234.5", "1234.5"),
        ("1,234,567", "1234567"), ("12,5E-3", "12.5E-3"), ("1,500", "1,500"), ("60", "60"), ("4,5,6", "4,5,6"), ("", ""),
    ],
)  # fmt: skip
def test_a_decimal_comma_is_read_where_it_can_be_nothing_else(written: str, plain: str) -> None:
    assert with_point(written) == plain
    assert ambiguous_comma(written) == (written == "1,500")


def test_decimal_commas_of_headers(tmp_path: Path) -> None:
    found = of(
        ("EXPTIME", "60,5"), ("EXPOSURE", 3.0), ("CCD-TEMP", "-20,25 C"), ("SITELAT", "31,5"), ("SITELONG", "-110,25"),
        ("OBJCTRA", "02 05 14,9"), ("OBJCTDEC", "+46 41 16,5"), ("DATE-OBS", "2020-01-02T03:04:05,25"), ("MJD-OBS", "58850,12783854"),
    )  # fmt: skip
    assert (found.exptime, found.ccd_temperature, found.latitude, found.longitude) == (60.5, -20.25, 31.5, -110.25)
    assert (found.ra, found.dec) == pytest.approx((15 * (2 + 5 / 60 + 14.9 / 3600), 46 + 41 / 60 + 16.5 / 3600))
    assert start(found).microsecond == pytest.approx(250000, abs=500)
    assert of(("EXPTIME", "1,500"), ("EXPOSURE", 3.0)).exptime == 3.0
    assert "EXPTIME = '1,500' may be decimals or thousands: not used" in of(("EXPTIME", "1,500"), ("EXPOSURE", 3.0)).notes[0]
    with pytest.raises(FrameUnusable, match="EXPTIME = '1,500' is no exposure time") as caught:
        of(("EXPTIME", "1,500"))
    assert caught.value.code == "frame.bad_exptime" and "exptime under [override]" in str(caught.value)
    # A card without quotes, as FITS forbids and programs write.
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(header=fits.Header([("EXPTIME", "XX"), ("DATE-OBS", "2020-01-02T03:04:05.5")]), data=[[1, 2], [3, 4]]).writeto(path)
    card = "EXPTIME = 'XX      '".ljust(80).encode()
    path.write_bytes(path.read_bytes().replace(card, "EXPTIME =                500,5 / [ms] exposure".ljust(80).encode()))
    header = read_header(path)
    assert facts(header, identify(header), (2, 2)).exptime == pytest.approx(0.5005)


@pytest.mark.parametrize(
    ("text", "ra", "dec"),
    [
        ("10,5 20,5", 10.5, 20.5), ("10,5; -20,5", 10.5, -20.5), ("10,5, 20,5", 10.5, 20.5), ("10.5,20.5", 10.5, 20.5),
        ("10,5 20", 10.5, 20.0), ("10, 20", 10.0, 20.0),
        ("02:04:10,2 +46:41:16,5", 15 * (2 + 4 / 60 + 10.2 / 3600), 46 + 41 / 60 + 16.5 / 3600),
        ("10,123 20,456", 10.123, 20.456), ("02,04,10.2 +46,41,16", 15 * (2 + 4 / 60 + 10.2 / 3600), 46 + 41 / 60 + 16 / 3600),
    ],
)  # fmt: skip
def test_decimal_commas_of_positions(text: str, ra: float, dec: float) -> None:
    assert is_position(text) and parse_position(text) == pytest.approx((ra, dec))


@pytest.mark.parametrize("text", ["10,5,20,5", "10, 5 20, 5", "10,5,1,20,5,2"])
def test_a_position_whose_commas_may_mean_two_things_is_refused_with_the_text(text: str) -> None:
    assert is_position(text)
    with pytest.raises(ConfigurationError, match="commas may be decimal or between numbers") as caught:
        parse_position(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("value", ["one minute", "60s5", "12:30", "1,500"])
def test_an_exposure_time_that_cannot_be_read_is_quoted_and_not_called_missing(value: str) -> None:
    with pytest.raises(FrameUnusable) as caught:
        of(("EXPTIME", value))
    line = str(caught.value)
    assert f"EXPTIME = '{value}' is no exposure time" in line and "[override]" in line and "no exposure time in the header" not in line
    found = of(("EXPTIME", value), ("EXPOSURE", 12.0))
    assert found.exptime == 12.0 and f"EXPTIME = '{value}'" in found.notes[0]


def test_facts_that_are_there_and_unreadable_are_quoted() -> None:
    found = of(("EGAIN", "high"), ("RDNOISE", 0.0), ("SITELAT", "north"), ("SITELONG", "3 E 4"), ("PIXSCALE", "?"))
    lines = {line.split(" is ")[0]: line for line in found.missing}
    assert "EGAIN = 'high' cannot be used" in lines["gain"] and "RDNOISE = 0 cannot be used" in lines["read noise"]
    assert "SITELAT = 'north'" in lines["site"] and "PIXSCALE = '?'" in lines["pixel scale"]
    assert not any("in the header" in lines[fact] for fact in ("gain", "read noise", "site", "pixel scale"))
    assert any("EGAIN = 'high' cannot be read as gain" in note for note in found.notes)


@pytest.mark.parametrize("value", ["2020-13-45T00:00:00", "yesterday", "2020-01-02", "03/04/2020"])
def test_a_time_that_cannot_be_read_is_quoted(value: str) -> None:
    with pytest.raises(FrameUnusable) as caught:
        of(("DATE-OBS", value))
    assert caught.value.code == "frame.no_time" and f"DATE-OBS = '{value}'" in str(caught.value) and "date_obs" in str(caught.value)


def test_a_time_that_cannot_be_read_beside_one_that_can_is_noted() -> None:
    found = of(("DATE-OBS", "yesterday"), ("MJD-OBS", 58850.12783565))
    assert found.time_source.startswith("MJD-OBS") and found.notes == ("DATE-OBS = 'yesterday' cannot be read as a time: not used",)


@pytest.mark.parametrize("written", ["5.885012783565E+04", "5.885012783565D+04", "58850.12783565"])
def test_day_numbers_with_an_exponent(written: str) -> None:
    header = fits.Header.fromstring(f"EXPTIME =                 10.0\nMJD-OBS = {written}", sep="\n")
    found = facts(header, identify(header), SHAPE)
    assert abs((start(found) - datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)).total_seconds()) < 1e-3
    assert found.time_sigma == pytest.approx(0.5e-8 * 86400)


@pytest.mark.parametrize(
    ("card", "zeros"),
    [
        (("DATE-OBS", "2020-01-02T03:04:05.000"), 3),
        (("DATE-OBS", "2020-01-02T03:04:05.010"), 0),
        (("DATE-OBS", "2020-01-02T03:04:05"), 0),
        (("MJD-OBS", 58850.12783565), 3),
        (("MJD-OBS", 58850.12783), 0),
        (("MJD-OBS", 58850.12784011), 0),
        (("JD", 2458850.6278356481), 4),
    ],
)
def test_a_whole_second_is_known_as_one(card: tuple[Any, ...], zeros: int) -> None:
    cards = (card,) if card[0] == "DATE-OBS" else (("DATE-OBS", "n/a"), card)
    assert of(*cards).time_zeros == zeros


@pytest.mark.parametrize(
    ("day", "noted"), [("1970-01-01", "before 1990"), ("1989-12-31", "before 1990"), ("1990-01-02", ""), ("2087-01-01", "in the future")]
)
def test_years_that_cannot_well_be_are_noted(day: str, noted: str) -> None:
    notes = of(("DATE-OBS", f"{day}T03:04:05.5")).notes
    assert bool(notes) == bool(noted) and all(noted in note and day[:4] in note for note in notes)


@pytest.mark.parametrize("cards", [[("EXPTIME", -1.0)], [("EXPTIME", "none")], [("EXPTIME", "n.d.")], [("EXPTIME", -1), ("EXPOSURE", -1)]])
def test_a_bias_without_a_true_exposure_time_is_a_bias(cards: Cards) -> None:
    found = of(("IMAGETYP", "Bias Frame"), *cards)
    assert (found.declared, found.exptime) == ("bias", 0.0) and any("taken as 0 s" in note for note in found.notes)
    assert of(("IMAGETYP", "Bias Frame"), ("EXPTIME", 0.001)).exptime == 0.001
    with pytest.raises(FrameUnusable):
        of(("IMAGETYP", "Light Frame"), *cards)


@pytest.mark.parametrize(
    ("cards", "longitude"),
    [
        ([("DATE-LOC", "2020-01-01T17:04:05.12")], -150.0),
        ([("TZOFFSET", -10)], -150.0),
        ([("TIMEZONE", "UTC-10")], -150.0),
        ([("TIMEZONE", 10, "local time to UTC")], -150.0),
        ([("LOCALTIM", "1/1/2020 05:04:05 PM HST")], -150.0),
        ([("TIME-LOC", "08:49:05")], 86.25),
        ([("DATE-OBS", "2020-01-01T17:04:05.12-10:00")], -150.0),
        ([("LST", "23:34:30")], -154.0),
        ([("SITELAT", 19.8), ("SITELONG", -155.5), ("TZOFFSET", -10)], -155.5),
        ([("DATE-OBS", "2020-01-02T03:04:05.12Z")], None),
        ([("TIMEZONE", 10)], None),
        ([], None),
    ],
)
def test_the_night_goes_by_what_the_header_has(cards: Cards, longitude: float | None) -> None:
    assert of(*cards).night_longitude == (None if longitude is None else pytest.approx(longitude, abs=0.6))
