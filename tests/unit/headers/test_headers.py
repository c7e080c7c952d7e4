"""Header conventions against times and facts worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time

from db.errors import ConfigurationError, FrameUnusable
from reduction.files.fits import read_header
from reduction.headers.facts import Facts, facts, identify
from reduction.headers.instrument import builtin_definitions, definitions_from

SHAPE = (500, 650)
MICROOBSERVATORY = """\
DATE-OBS= '2017-12-19T18:33:43.317-0700' / Start date & time of observation, LT
UT-OBS  = '2017-12-20T01:33:43.317-0000' / Universal Time at start of obs.
MJD-OBS = 58107.065 / Modified Julian Date (MJD) at start of observation
OBJECT  = 'HATP-32 ' / Name of object observed
EXPTIME = 060.00 / Exposure time in Seconds
RA      =  31.312099 / 02:05.25 Right Ascension
DEC     =  46.769087 / +46:46.15 Declination
INSTRUME= 'Main    ' / Camera selected
FILTER  = 'Clear   ' / Filter chosen
IM_SCALE= 5.210 / Image scale in arc-secs/pixel
CAMTEMP = 271.0 / CCD Camera Temperature in Kelvin, =-1 if no data
TELESCOP= 'Cecilia ' / Telescope name
LATITUDE= 31.68 / Local latitude
LONGITUD= 110.88 / Local longitude
OBSERVAT= 'Whipple Observatory' / Observatory name
REFERENC= 'http://www.microobservatory.org' / Bibliographic reference site"""


def header_of(text: str) -> fits.Header:
    return fits.Header.fromstring(text, sep="\n")


def of(*, settings: dict[str, Any] | None = None, **cards: Any) -> Facts:
    """Facts of a header with the given cards (`_` for `-`) and, unless told otherwise, a time and an exposure."""
    words = {"DATE-OBS": "2020-01-01T00:00:00.0", "EXPTIME": 10.0, **{key.replace("_", "-"): value for key, value in cards.items()}}
    header = fits.Header([(key, value) for key, value in words.items() if value is not None])
    return facts(header, identify(header, definitions_from(settings or {})), SHAPE, "a.fits")


def mid(found: Facts) -> datetime:
    """Mid-exposure as a calendar date, by plain arithmetic."""
    days = (found.mid_jd1 - 2451544.5) + found.mid_jd2
    return datetime(2000, 1, 1, tzinfo=UTC) + timedelta(days=days)


def seconds_off(found: Facts, *moment: int) -> float:
    return abs((mid(found) - datetime(*moment, tzinfo=UTC)).total_seconds())  # type: ignore[arg-type]


def test_microobservatory_by_hand() -> None:
    header = header_of(MICROOBSERVATORY)
    found = facts(header, identify(header), SHAPE)
    # 01:33:43.317 + 30 s
    assert seconds_off(found, 2017, 12, 20, 1, 34, 13, 317000) < 1e-4
    assert (found.start_jd1 + found.start_jd2) == pytest.approx(2458107.5 + (3600 + 33 * 60 + 43.317) / 86400, abs=1e-9)
    assert found.time_source == "UT-OBS (start, UTC) + exptime/2"
    assert found.time_sigma == pytest.approx(0.0005)
    assert (found.latitude, found.longitude, found.height) == (31.68, -110.88, 2320.0)
    assert (found.ra, found.dec, found.pixel_scale) == (31.312099, 46.769087, 5.21)
    assert found.ccd_temperature == pytest.approx(-2.15)
    assert (found.instrument, found.telescope, found.filter) == ("MicroObservatory Cecilia Main", "Cecilia", "Clear")
    assert (found.imagetyp, found.declared, found.calibrated, found.has_wcs, found.notes) == (None, None, (), False, ())


def test_mjd_of_three_decimals_loses_and_its_half_minute_is_no_disagreement() -> None:
    header = header_of(MICROOBSERVATORY)
    header["MJD-OBS"] = 58107.065  # 7.3 s before UT-OBS
    assert facts(header, identify(header), SHAPE).notes == ()
    header["MJD-OBS"] = 58107.066  # 79.1 s after it, where its last digit allows 43.2
    (note,) = facts(header, identify(header), SHAPE).notes
    assert "MJD-OBS is +79.083 s from UT-OBS" in note


def test_local_time_with_its_offset_does_as_well() -> None:
    header = header_of(MICROOBSERVATORY)
    del header["UT-OBS"]
    found = facts(header, identify(header), SHAPE)
    assert seconds_off(found, 2017, 12, 20, 1, 34, 13, 317000) < 1e-4
    assert found.time_source.startswith("DATE-OBS")


@pytest.mark.parametrize("offset", ["+05:30", "+0530"])
def test_offsets_east_of_greenwich(offset: str) -> None:
    assert seconds_off(of(DATE_OBS=f"2020-03-01T02:00:05.0{offset}"), 2020, 2, 29, 20, 30, 10) < 1e-4


@pytest.mark.parametrize(
    ("cards", "source"),
    [
        ({"DATE_OBS": "2020-01-02T03:04:05.00"}, "DATE-OBS"),
        ({"DATE_OBS": "2020-01-02T03:04:05.00Z"}, "DATE-OBS"),
        ({"DATE_OBS": "2020-01-02 03:04:05.00"}, "DATE-OBS"),
        ({"DATE_OBS": "2020-01-02", "TIME_OBS": "03:04:05.00"}, "DATE-OBS+TIME-OBS"),
        ({"DATE_OBS": "2020-01-02", "UTSTART": "03:04:05.00"}, "DATE-OBS+UTSTART"),
        ({"DATE_OBS": "2020-01-02", "UT": "03:04:05.00"}, "DATE-OBS+UT"),
        ({"DATE_OBS": "2020/01/02", "UT": "03:04:05.00"}, "DATE-OBS+UT"),
        ({"DATE_OBS": None, "MJD_OBS": "58850.12783565"}, "MJD-OBS"),
        ({"DATE_OBS": None, "MJD": 58850.12783565}, "MJD"),
        ({"DATE_OBS": None, "JD": 2458850.62783565}, "JD"),
        ({"DATE_OBS": "2020-01-02T03:04", "MJD_OBS": 58850.12783565}, "MJD-OBS"),
        ({"DATE_OBS": "2020-01-02T03:04:05.00", "MJD_OBS": 58850.12784}, "DATE-OBS"),
        ({"DATE_OBS": "2020-01-02", "MJD_OBS": 58850.12783565}, "MJD-OBS"),
    ],
)
def test_the_most_precise_of_many_forms_wins(cards: dict[str, Any], source: str) -> None:
    found = of(**cards)
    assert seconds_off(found, 2020, 1, 2, 3, 4, 10) < 0.002
    assert found.time_source == f"{source} (start, UTC) + exptime/2"
    assert found.notes == ()


def test_a_time_of_mid_exposure_is_taken_as_it_is() -> None:
    found = of(DATE_AVG="2020-01-02T03:04:05.000", DATE_OBS="2020-01-02T03:04:00")
    assert seconds_off(found, 2020, 1, 2, 3, 4, 5) < 1e-4
    assert found.time_source == "DATE-AVG (mid, UTC)"
    assert found.start_jd2 == pytest.approx(found.mid_jd2 - 5 / 86400, abs=1e-12)
    assert found.notes == ()


def test_the_old_form_of_dates_is_of_the_last_century() -> None:
    assert seconds_off(of(DATE_OBS="31/12/97", UT="23:59:58.0"), 1998, 1, 1, 0, 0, 3) < 1e-4


def test_trailing_zeros_count_as_digits() -> None:
    header = header_of("EXPTIME =                 10.0\nMJD-OBS =       58850.12500000")
    assert facts(header, identify(header), SHAPE).time_sigma == pytest.approx(0.5e-8 * 86400)


def test_other_time_scales_become_utc() -> None:
    reference = Time("2020-01-02T03:04:10", scale="tt").utc.jd
    found = of(DATE_OBS="2020-01-02T03:04:05.000", TIMESYS="TT")
    assert (found.mid_jd1 + found.mid_jd2 - reference) * 86400 == pytest.approx(0, abs=1e-4)
    # In 2020 GPS was 18 s ahead of UTC.
    assert seconds_off(of(DATE_OBS="2020-01-02T03:04:05.000", TIMESYS="GPS"), 2020, 1, 2, 3, 3, 52) < 1e-4


def test_days_with_a_leap_second() -> None:
    found = of(DATE_OBS="2016-12-31T23:59:55.000")
    assert (found.mid_jd1 + found.mid_jd2) == pytest.approx(Time("2016-12-31T23:59:60", scale="utc").jd, abs=1e-9)


def test_clocks_can_be_corrected_and_doubted() -> None:
    found = of(settings={"override": {"time_offset": -2.5, "time_sigma": 3.0}}, DATE_OBS="2020-01-02T03:04:05.000")
    assert seconds_off(found, 2020, 1, 2, 3, 4, 7, 500000) < 1e-4
    assert found.time_sigma == 3.0


@pytest.mark.parametrize(
    "junk", [None, "yyyy-mm-dd", "2020-01-01", "2020-13-45T00:00:00", "2020-01-01T99:00:00", "", "0000-00-00T00:00:00"]
)
def test_a_frame_without_time_is_unusable(junk: str | None) -> None:
    with pytest.raises(FrameUnusable) as caught:
        of(DATE_OBS=junk)
    assert caught.value.code == "frame.no_time"
    assert caught.value.where == "a.fits"


def test_a_frame_without_exposure_time_is_unusable_unless_the_user_gives_it() -> None:
    for junk in (None, "n/a", ""):
        with pytest.raises(FrameUnusable) as caught:
            of(EXPTIME=junk)
        assert caught.value.code == "frame.no_exptime"
    with pytest.raises(FrameUnusable) as caught:
        of(EXPTIME=-5.0)
    assert caught.value.code == "frame.bad_exptime"
    assert of(EXPTIME=None, settings={"default": {"exptime": 12}}).exptime == 12.0


@pytest.mark.parametrize(
    ("key", "value"), [("EXPTIME", "40"), ("EXPTIME", "40 sec"), ("EXPTIME", " 40.00 "), ("EXPTIME", 40), ("EXPOSURE", 40.0)]
)
def test_exposure_times_in_many_dresses(key: str, value: Any) -> None:
    assert of(**{"EXPTIME": None, key: value}).exptime == 40.0


@pytest.mark.parametrize(
    ("lat", "lon", "expected"),
    [
        (31.5, -110.25, (31.5, -110.25)),
        ("+31 30 00", "-110 15 00", (31.5, -110.25)),
        ("31:30:00.0 N", "110:15:00.0 W", (31.5, -110.25)),
        ("-31:30:00", "20:15:00", (-31.5, 20.25)),
        ("-00:30:00", "20", (-0.5, 20.0)),
        (31.5, 249.75, (31.5, -110.25)),
        ("dd:mm:ss", "dd:mm:ss", (None, None)),
        (0.0, 0.0, (None, None)),
        (95.0, 20.0, (None, None)),
        (31.5, None, (None, None)),
    ],
)
def test_sites(lat: Any, lon: Any, expected: tuple[float | None, float | None]) -> None:
    found = of(SITELAT=lat, SITELONG=lon)
    assert (found.latitude, found.longitude) == (pytest.approx(expected[0]), pytest.approx(expected[1]))
    assert found.height == (None if expected[0] is None else 0.0)


def test_west_positive_longitudes_by_definition_but_not_of_the_users_own() -> None:
    west = {"instrument": [{"name": "mine", "match": {"INSTRUME": "mine"}, "units": {"longitude": "west"}}]}
    assert of(settings=west, INSTRUME="mine", SITELAT=31.5, SITELONG=110.25).longitude == -110.25
    assert of(settings={**west, "override": {"longitude": 15.0}}, INSTRUME="mine", SITELAT=31.5, SITELONG=110.25).longitude == 15.0


@pytest.mark.parametrize(
    ("ra", "dec", "expected"),
    [
        (31.25, 46.5, (31.25, 46.5)),
        ("31.25", "46.5", (31.25, 46.5)),
        ("02 05 00.0", "+46 30 00", (31.25, 46.5)),
        ("02:05:00.0", "-00:30:00", (31.25, -0.5)),
        ("hh:mm:ss.ss", "dd:mm:ss.ss", (None, None)),
        (0.0, 0.0, (None, None)),
        (400.0, 10.0, (None, None)),
        (10.0, -99.0, (None, None)),
        (-10.0, 5.0, (350.0, 5.0)),
    ],
)
def test_pointings(ra: Any, dec: Any, expected: tuple[float | None, float | None]) -> None:
    found = of(RA=ra, DEC=dec)
    assert (found.ra, found.dec) == (pytest.approx(expected[0]), pytest.approx(expected[1]))


def test_right_ascensions_in_decimal_hours() -> None:
    mine = {"instrument": [{"name": "mine", "match": {"INSTRUME": "mine"}, "units": {"ra": "hour"}}]}
    assert of(settings=mine, INSTRUME="mine", RA=2.5, DEC=10.0).ra == 37.5


def test_cards_of_a_typical_amateur_camera() -> None:
    names = {"INSTRUME": "ZWO ASI1600MM", "TELESCOP": "Newton", "IMAGETYP": "Light Frame", "BAYERPAT": "RGGB"}
    place = {"OBJCTRA": "02 05 00", "OBJCTDEC": "+46 30 00", "SITELAT": "45 0 0", "SITELONG": "7 0 0"}
    camera = {"XPIXSZ": 3.8, "FOCALLEN": 1000.0, "XBINNING": 2, "YBINNING": 2, "GAIN": 139, "EGAIN": 0.98, "CCD_TEMP": -20.0}
    found = of(**names, **place, **camera)
    assert (found.instrument, found.imagetyp, found.declared) == ("Newton ZWO ASI1600MM", "light frame", "object")
    assert (found.gain, found.bayer, found.binning, found.ccd_temperature) == (0.98, "RGGB", (2, 2), -20.0)
    assert found.pixel_scale == pytest.approx(206.265 * 3.8 / 1000, rel=1e-5)


def test_a_gain_setting_is_not_taken_for_electrons() -> None:
    found = of(GAIN=139)
    assert found.gain is None
    assert "GAIN = 139" in found.notes[0]
    assert of(GAIN=1.6).gain == 1.6
    header = fits.Header([("DATE-OBS", "2020-01-01T00:00:00.0"), ("EXPTIME", 1.0), ("GAIN", 39.0, "[e-/ADU] gain")])
    assert facts(header, identify(header), SHAPE).gain == 39.0


@pytest.mark.parametrize(("value", "celsius"), [(-20.0, -20.0), ("13 C", 13.0), (253.15, -20.0), ("warm", None), (-999.0, None)])
def test_temperatures(value: Any, celsius: float | None) -> None:
    assert of(CCD_TEMP=value).ccd_temperature == pytest.approx(celsius)


def test_sections_are_half_open_and_inside_the_image() -> None:
    found = of(TRIMSEC="[11:650,1:500]", BIASSEC="[1:10,1:500]")
    assert (found.trim, found.overscan) == ((10, 650, 0, 500), (0, 10, 0, 500))
    outside = of(TRIMSEC="[1:2048,1:2048]")
    assert outside.trim is None
    assert "650x500" in outside.notes[0]


@pytest.mark.parametrize(
    ("cards", "done"),
    [
        ({}, ()),
        ({"CALSTAT": "BDF"}, ("bias", "dark", "flat")),
        ({"CALSTAT": "D"}, ("dark",)),
        ({"FLATCOR": True, "ZEROCOR": "yes Jan 1 zero.fits"}, ("bias", "flat")),
        ({"FLATCOR": False, "DARKCOR": "F", "BIASCOR": "none"}, ()),
        ({"HISTORY": "Bias subtracted, dark frame subtracted"}, ("bias", "dark")),
        ({"HISTORY": "flat-field corrected with master.fits"}, ("flat",)),
        ({"HISTORY": "pointing at the dark nebula, flat sky"}, ()),
    ],
)
def test_what_was_done_before(cards: dict[str, Any], done: tuple[str, ...]) -> None:
    assert of(**cards).calibrated == done


def test_placeholders_are_no_names() -> None:
    found = of(OBJECT="None", TELESCOP="Telescope", OBSERVAT="Observatory", FILTER1="None", FILTER2="J")
    assert (found.object, found.telescope, found.site_name, found.filter) == (None, None, None, "J")
    assert found.instrument == "generic"


@pytest.mark.parametrize("word", ["BIAS", "Bias Frame", "zero", "Dark Frame", "FLAT", "skyflat", "Light", "object", "EXPOSE"])
def test_words_for_types_of_frame(word: str) -> None:
    kinds = {"bias": "bias", "zero": "bias", "dark": "dark", "flat": "flat"}
    expected = next((kind for start, kind in kinds.items() if start in word.lower()), "object")
    assert of(IMAGETYP=word).declared == expected
    assert of(IMAGETYP="focus run").declared is None


def test_a_plain_mapping_serves_as_a_header() -> None:
    found = facts(
        {"DATE-OBS": "2020-01-01T00:00:00", "EXPTIME": "5", "GAIN": 1.5, "HISTORY": "dark subtracted"}, builtin_definitions()[-1], SHAPE
    )
    assert (found.exptime, found.gain, found.calibrated) == (5.0, 1.5, ("dark",))


def mine(**tables: Any) -> dict[str, Any]:
    """Settings with one definition for INSTRUME = 'mine'."""
    return {"instrument": [{"name": "mine", "match": {"INSTRUME": "mine"}, **tables}]}


@pytest.mark.parametrize(
    ("fact", "unit", "card", "expected"),
    [
        ("exptime", "s", {"EXPTIME": 2.5}, 2.5),
        ("exptime", "ms", {"EXPTIME": 2500}, 2.5),
        ("exptime", "us", {"EXPTIME": 2500000}, 2.5),
        ("exptime", "min", {"EXPTIME": 2.5}, 150.0),
        ("exptime", "min", {"EXPTIME": "2.5 sec"}, 2.5),
        ("exptime", "s", {"EXPTIME": "500 ms"}, 0.5),
        ("gain", "electron/ADU", {"GAIN": 25}, 25.0),
        ("gain", "ADU/electron", {"GAIN": 4.0}, 0.25),
        ("gain", "ADU/electron", {"GAIN": 0.0}, None),
        ("ccd_temperature", "celsius", {"CCD_TEMP": 101.0}, None),
        ("ccd_temperature", "kelvin", {"CCD_TEMP": 90.0}, -183.15),
        ("ccd_temperature", "kelvin", {"CCD_TEMP": -1.0}, None),
        ("ccd_temperature", "auto", {"CCD_TEMP": "-20 C"}, -20.0),
        ("set_temperature", "kelvin", {"SET_TEMP": 253.15}, -20.0),
        ("pixel_scale", "deg", {"PIXSCALE": 0.001}, 3.6),
        ("height", "km", {"SITELAT": 10.0, "SITELONG": 20.0, "SITEELEV": 2.4}, 2400.0),
        ("height", "feet", {"SITELAT": 10.0, "SITELONG": 20.0, "SITEELEV": 1000.0}, 304.8),
        ("height", "km", {"SITELAT": 10.0, "SITELONG": 20.0, "SITEELEV": "2400 m"}, 2400.0),
        ("longitude", "west", {"SITELAT": 10.0, "SITELONG": "110:15:00"}, -110.25),
        ("longitude", "west", {"SITELAT": 10.0, "SITELONG": "110:15:00 W"}, -110.25),
        ("longitude", "west", {"SITELAT": 10.0, "SITELONG": "110:15:00 E"}, 110.25),
        ("longitude", "east", {"SITELAT": 10.0, "SITELONG": "110.25 W"}, -110.25),
        ("ra", "hour", {"RA": 2.5, "DEC": 10.0}, 37.5),
        ("ra", "hour", {"RA": "02 30 00", "DEC": 10.0}, 37.5),
        ("ra", "hour", {"CRVAL1": 37.5, "CRVAL2": 10.0}, 37.5),
    ],
)
def test_units(fact: str, unit: str, card: dict[str, Any], expected: float | None) -> None:
    found = of(settings=mine(units={fact: unit}), INSTRUME="mine", **card)
    assert getattr(found, fact) == (None if expected is None else pytest.approx(expected, rel=1e-12))


@pytest.mark.parametrize(
    ("size", "length", "scale"),
    [("micron", "mm", 206.264806 * 3.8 / 500), ("mm", "mm", 206.264806 * 3800 / 500), ("micron", "m", 206.264806 * 3.8 / 500000)],
)
def test_units_of_pixels_and_focal_lengths(size: str, length: str, scale: float) -> None:
    settings = mine(units={"pixel_size": size, "focal_length": length})
    assert of(settings=settings, INSTRUME="mine", XPIXSZ=3.8, FOCALLEN=500.0).pixel_scale == pytest.approx(scale)


def test_south_behind_a_plain_latitude() -> None:
    assert of(SITELAT="31.5 S", SITELONG="20.0 E").latitude == -31.5


def test_the_chips_own_pixel_is_multiplied_by_the_binning_and_the_stored_one_is_not() -> None:
    stored = 206.264806 * 7.6 / 500
    assert of(XPIXSZ=7.6, FOCALLEN=500.0, XBINNING=2).pixel_scale == pytest.approx(stored)
    assert of(PIXSIZE1=3.8, FOCALLEN=500.0, XBINNING=2).pixel_scale == pytest.approx(stored)
    assert of(PIXSIZE1=3.8, XPIXSZ=7.6, FOCALLEN=500.0, XBINNING=2).pixel_scale == pytest.approx(stored)
    assert of(XPIXSZ=7.6, FOCALLEN=0.0).pixel_scale is None


def test_override_expression_keyword_default_in_that_order() -> None:
    cards = {"INSTRUME": "mine", "EGAIN": 1.5, "RDNOISE": 3.0}
    tables: dict[str, Any] = {"default": {"gain": 4.0, "read_noise": 9.0}}
    assert of(settings=mine(**tables), **cards).gain == 1.5
    assert of(settings=mine(**tables), INSTRUME="mine").gain == 4.0
    tables["expressions"] = {"gain": "EGAIN * 2", "read_noise": "NOSUCH * 2"}
    found = of(settings=mine(**tables), **cards)
    assert (found.gain, found.read_noise) == (3.0, 3.0)
    assert (found.sources["gain"], found.sources["read_noise"]) == ("EGAIN * 2", "RDNOISE")
    found = of(settings=mine(**tables, override={"gain": 5.0}), **cards)
    assert (found.gain, found.sources["gain"]) == (5.0, "[override]")


@pytest.mark.parametrize(
    ("cards", "settings", "start", "said"),
    [
        ({"TZOFFSET": 2.0}, {}, 20, "UTC+2"),
        ({"TZOFFSET": -7}, {}, 29, "UTC-7"),
        ({"TZOFFSET": "n/a"}, {"default": {"utc_offset": 3.0}}, 19, "UTC+3"),
        ({}, {"default": {"utc_offset": 5.5}}, 16.5, "UTC+5.5"),
        ({}, {"override": {"utc_offset": 0}}, 22, "UTC+0"),
        ({"TZOFFSET": 2.0}, {"default": {"utc_offset": 1.0}}, 20, "UTC+2"),
        ({"TZOFFSET": 2.0}, {"override": {"utc_offset": 1.0}}, 21, "UTC+1"),
        ({"TZOFFSET": 99}, {"override": {"utc_offset": 1.0}}, 21, "UTC+1"),
    ],
)
def test_local_clocks(cards: dict[str, Any], settings: dict[str, Any], start: float, said: str) -> None:
    found = of(settings=settings, DATE_OBS=None, DATE_LOC="2024-05-01T22:00:00.00", **cards)
    assert (found.start_jd1 - 2460431.5 + found.start_jd2) * 24 == pytest.approx(start, abs=1e-8)
    assert found.time_source == f"DATE-LOC (start, {said}) + exptime/2"


def test_a_local_clock_with_its_offset_written_behind_it_needs_no_other() -> None:
    found = of(settings={"override": {"utc_offset": 9.0}}, DATE_OBS=None, DATE_LOC="2024-05-01T22:00:00.00+02:00")
    assert seconds_off(found, 2024, 5, 1, 20, 0, 5) < 1e-4


def test_a_local_clock_without_offset_is_refused_and_the_line_says_how_to_give_it() -> None:
    with pytest.raises(FrameUnusable) as caught:
        of(DATE_OBS=None, DATE_LOC="2024-05-01T22:00:00")
    assert caught.value.code == "frame.no_time"
    line = str(caught.value)
    assert "clock was found (DATE-LOC = 2024-05-01T22:00:00), but not its offset from UTC" in line
    assert "utc_offset" in line and "[default]" in line and "\n" not in line


def test_a_local_clock_beside_utc_is_left_alone_until_its_offset_is_given() -> None:
    cards = {"DATE_OBS": "2024-05-01T20:00:00.00", "DATE_LOC": "2024-05-01T22:00:00.00"}
    assert of(**cards).notes == ()
    assert of(settings={"default": {"utc_offset": 2.0}}, **cards).notes == ()
    (note,) = of(settings={"default": {"utc_offset": 1.0}}, **cards).notes
    assert "DATE-LOC is +3600.000 s from DATE-OBS" in note


def test_the_end_of_the_exposure() -> None:
    found = of(settings=mine(times=[{"date": "DATE-END", "at": "end"}]), INSTRUME="mine", DATE_END="2024-05-01T20:00:10.000")
    assert seconds_off(found, 2024, 5, 1, 20, 0, 5) < 1e-4
    assert (found.start_jd1 - 2460431.5 + found.start_jd2) * 86400 == pytest.approx(20 * 3600, abs=1e-4)
    assert found.time_source == "DATE-END (end, UTC) - exptime/2"


def test_start_and_end_agree_when_the_exposure_lies_between() -> None:
    times = [{"date": "DATE-OBS"}, {"date": "DATE-END", "at": "end"}]
    start = {"DATE_OBS": "2024-05-01T20:00:00.000", "INSTRUME": "mine"}
    assert of(settings=mine(times=times), DATE_END="2024-05-01T20:00:10.000", **start).notes == ()
    (note,) = of(settings=mine(times=times), DATE_END="2024-05-01T20:00:11.500", **start).notes
    assert "DATE-END is +1.500 s from DATE-OBS" in note


def test_day_numbers_that_repeat_a_date_are_no_more_precise() -> None:
    # 2018-07-04T14:03:03 as MaxIm DL writes it: JD of the whole second, with ten decimals.
    found = of(DATE_OBS="2018-07-04T14:03:03", JD=2458304.0854513887)
    assert (found.time_source, found.time_sigma, found.notes) == ("DATE-OBS (start, UTC) + exptime/2", 0.5, ())
    # One with digits of its own is.
    found = of(DATE_OBS="2018-07-04T14:03:03", JD=2458304.0854561805)
    assert found.time_source.startswith("JD (")
    assert found.time_sigma < 1e-4


def test_corrections_are_added_up_and_said() -> None:
    corrections = [
        {"seconds": 2.0, "reason": "slow clock", "from": "2024-05-01"},
        {"seconds": -0.5, "until": "2024-06-01T00:00:00+00:00"},
        {"seconds": 100.0, "until": "2024-05-01T19:59:59"},
    ]
    found = of(settings=mine(corrections=corrections), INSTRUME="mine", DATE_OBS="2024-05-01T20:00:00.000")
    assert seconds_off(found, 2024, 5, 1, 20, 0, 6, 500000) < 1e-4
    assert found.time_source == "DATE-OBS (start, UTC) + exptime/2, clock +1.5 s"
    assert found.notes == ("the clock was corrected by +2 s: slow clock", "the clock was corrected by -0.5 s: no reason given")


def test_time_sources_fit_their_column() -> None:
    settings = mine(
        times=[{"date": "DATE-XYZ", "clock": "TIME-XYZ", "zone": "local"}], override={"utc_offset": -9.5, "time_offset": -1234.567}
    )
    found = of(settings=settings, INSTRUME="mine", DATE_XYZ="2024-05-01", TIME_XYZ="20:00:00")
    assert len(found.time_source) <= 64
    assert found.time_source.startswith("DATE-XYZ+TIME-XYZ (start, UTC-9.5) + exptime/2")


def test_remarks_tell_what_a_time_is() -> None:
    times = [{"date": "DATE-OBS", "at": "end", "remark": "*grabbed*"}, {"date": "DATE-OBS"}]
    (definition, *_) = definitions_from(mine(times=times))
    for remark, at in (("System Clock-Frame Grabbed", "end"), ("Est. Frame Start", "start"), ("", "start")):
        header = fits.Header([("DATE-OBS", "2020-01-01T00:00:00.0", remark), ("EXPTIME", 10.0)])
        found = facts(header, definition, SHAPE)
        assert found.time_source.startswith(f"DATE-OBS ({at}, UTC)")
        assert found.notes == ()
    assert facts({"DATE-OBS": "2020-01-01T00:00:00.0", "EXPTIME": 10.0}, definition, SHAPE).time_source.startswith("DATE-OBS (start")


@pytest.mark.parametrize("top", ["RGGB", "BGGR", "GRBG", "GBRG"])
@pytest.mark.parametrize("x", [0, 1, 2, -1])
@pytest.mark.parametrize("y", [0, 1, 3])
@pytest.mark.parametrize("bottom_up", [False, True])
@pytest.mark.parametrize("ny", [500, 501])
def test_bayer_patterns_as_stored(top: str, x: int, y: int, bottom_up: bool, ny: int) -> None:
    # The picture from its top left corner, painted from a sensor that begins `x`, `y` pixels before it.
    sensor = np.tile(np.array(list(top)).reshape(2, 2), (260, 10))
    picture = sensor[y % 2 : y % 2 + ny, x % 2 : x % 2 + 8]
    stored = picture[::-1] if bottom_up else picture
    header = fits.Header([("DATE-OBS", "2020-01-01T00:00:00.0"), ("EXPTIME", 1.0), ("BAYERPAT", top), ("XBAYROFF", x), ("YBAYROFF", y)])
    header["ROWORDER"] = "BOTTOM-UP" if bottom_up else "TOP-DOWN"
    assert facts(header, identify(header), (ny, 8)).bayer == "".join(stored[:2, :2].ravel())


@pytest.mark.parametrize(
    ("cards", "pattern"),
    [
        ({}, None),
        ({"BAYERPAT": "rggb "}, "RGGB"),
        ({"BAYERPAT": "BGGR", "BAYOFFX": 1, "BAYOFFY": 0}, "GBRG"),
        ({"COLORTYP": "GBRG"}, "GBRG"),
        ({"COLORTYP": "RGB"}, None),
        ({"BAYERPAT": "AUTO"}, None),
        ({"BAYERPAT": "CMYG"}, None),
        ({"FILTER": "RGGB"}, "RGGB"),
        ({"FILTER": "RGGB", "ROWORDER": "BOTTOM-UP"}, "GBRG"),
        ({"BAYERPAT": "RGGB", "HISTORY": "Debayered with VNG"}, None),
        ({"BAYERPAT": "GGRGGBGGBGGRBRGRBGGGBGGRGGRGGBRBGBRG"}, None),
    ],
)
def test_what_is_a_bayer_mosaic(cards: dict[str, Any], pattern: str | None) -> None:
    found = of(**cards)
    assert (found.bayer, found.filter) == (pattern, None)
    assert bool(found.notes) == ("HISTORY" in cards or len(str(cards.get("BAYERPAT", ""))) > 5)


def test_a_bayer_pattern_given_is_that_of_the_array() -> None:
    cards = {"BAYERPAT": "RGGB", "XBAYROFF": 1}
    assert of(settings={"override": {"bayer": "BGGR"}}, **cards).bayer == "BGGR"
    assert of(settings={"default": {"bayer": "BGGR"}}, **cards).bayer == "GRBG"
    assert of(settings={"default": {"bayer": "BGGR"}}, XBAYROFF=1).bayer == "BGGR"
    assert of(settings={"override": {"bayer": "none"}}, **cards).bayer is None
    assert of(settings={"override": {"bayer": "none"}}, FILTER="RGGB").bayer is None


def test_an_odd_subframe_puts_the_pattern_in_doubt() -> None:
    assert "XORGSUBF = 3 is odd" in of(BAYERPAT="RGGB", XORGSUBF=3, YORGSUBF=2).notes[0]


@pytest.mark.parametrize(
    ("cards", "gain", "setting"),
    [
        ({"GAIN": 139}, None, 139.0),
        ({"GAIN": 1.6}, 1.6, None),
        ({"GAIN": 0, "EGAIN": 3.6}, 3.6, 0.0),
        ({"GAIN": 139, "EGAIN": 0.0}, None, 139.0),
        ({"ISOSPEED": 800}, None, 800.0),
        ({"ISO": 1600, "GAIN": 2.1}, 2.1, 1600.0),
        ({}, None, None),
    ],
)
def test_gain_and_the_gain_knob(cards: dict[str, Any], gain: float | None, setting: float | None) -> None:
    found = of(**cards)
    assert (found.gain, found.gain_setting) == (gain, setting)


def test_what_was_trimmed_is_not_trimmed_again() -> None:
    sections = {"TRIMSEC": "[11:650,1:500]", "BIASSEC": "[1:10,1:500]"}
    assert of(**sections, TRIM="Sep 22 22:10 Trim data section is [11:650,1:500]").trim is None
    found = of(**sections, OVERSCAN="Sep 22 22:10 Overscan section is [1:10,1:500]")
    assert (found.trim, found.overscan) == ((10, 650, 0, 500), None)
    assert of(**sections, TRIM=False, OVERSCAN=0).overscan == (0, 10, 0, 500)


def test_a_pointing_of_zero_is_passed_over_for_the_next_pair() -> None:
    found = of(OBJCTRA="00 00 00", OBJCTDEC="+00 00 00", RA=253.84, DEC=-41.12)
    assert (found.ra, found.dec, found.notes, found.sources["ra"]) == (253.84, -41.12, (), "RA")
    found = of(OBJCTRA="n/a", OBJCTDEC="+10 00 00", RA=253.84, DEC=-41.12)
    assert (found.ra, found.dec) == (253.84, -41.12)


@pytest.mark.parametrize("word", ["DARKFLAT", "Dark Flat", "FlatDark"])
def test_darks_for_flats_are_darks(word: str) -> None:
    assert of(IMAGETYP=word).declared == "dark"


def test_masters_are_no_frames_of_the_night() -> None:
    assert of(IMAGETYP="Master Bias").declared == "other"
    assert of(IMAGETYP="SNAPSHOT").declared == "object"


def test_each_missing_fact_has_a_line() -> None:
    lines = of().missing
    facts_named = ["gain", "read noise", "saturation", "site", "pixel scale", "pointing", "filter"]
    assert [line.split(" is not")[0] for line in lines] == facts_named
    assert lines[0] == (
        "gain is not in the header (looked for EGAIN, GAIN): it is measured from pairs of bias and flat frames, "
        "or give gain = ELECTRON/ADU under [default] in --config"
    )
    assert all("\n" not in line and "under [default] in --config" in line for line in lines)


def test_what_is_given_or_not_needed_is_not_missing() -> None:
    settings = {"default": {"gain": 1.0, "read_noise": 2.0, "saturation": 3e4, "latitude": 1.0, "longitude": 2.0, "pixel_scale": 1.0}}
    assert [line.split()[0] for line in of(settings=settings).missing] == ["pointing", "filter"]
    assert of(settings=settings, IMAGETYP="Bias").missing == ()
    assert of(settings=settings, BAYERPAT="RGGB", RA=1.0, DEC=2.0).missing == ()
    (line,) = of(settings=settings, RA=1.0, DEC=2.0, FILTER="V", DATE_OBS="2020-01-01T00:00").missing
    assert line.startswith("the time is known to 30 s only (DATE-OBS (start, UTC) + exptime/2): ")


def test_sources_name_where_each_fact_came_from() -> None:
    found = of(EGAIN=1.2, CCD_TEMP=-10.0, SITELAT=10.0, SITELONG=20.0, settings={"override": {"filter": "V"}, "default": {"height": 5.0}})
    expected = {"gain": "EGAIN", "ccd_temperature": "CCD-TEMP", "latitude": "SITELAT", "filter": "[override]", "height": "[default]"}
    assert {fact: found.sources[fact] for fact in expected} == expected
    assert "read_noise" not in found.sources


@pytest.mark.realdata
def test_every_frame_of_hatp32_is_timed_as_worked_out_by_hand(night_files: Callable[[str], list[Path]]) -> None:
    for path in night_files("hatp32"):
        header = read_header(path)
        found = facts(header, identify(header), SHAPE, path)
        start = datetime.strptime(header["UT-OBS"], "%Y-%m-%dT%H:%M:%S.%f%z")
        assert abs((mid(found) - start).total_seconds() - 30.0) < 0.001
        assert found.notes == ()


@pytest.mark.realdata
def test_skycamt(night_files: Callable[[str], list[Path]]) -> None:
    for path in night_files("skycamt"):
        header = read_header(path)
        found = facts(header, identify(header), (1024, 1024), path)
        start = datetime.fromisoformat(header["DATE-OBS"] + "+00:00")
        assert abs((mid(found) - start).total_seconds() - 5.0) < 0.001
        assert (found.definition, found.declared, found.calibrated) == ("lt_skycamt", "object", ("bias", "dark", "flat"))
        assert (found.time_sigma, found.has_wcs, found.notes) == (1.0, True, ())
        assert found.latitude == pytest.approx(28.7624)
        assert found.ra == pytest.approx(header["RA_CENT"], abs=1e-4)


@pytest.mark.realdata
def test_tircam2(night_files: Callable[[str], list[Path]]) -> None:
    kinds = {}
    for path in night_files("tircam2"):
        header = read_header(path)
        found = facts(header, identify(header), (512, 512), path)
        kinds[path.name] = (found.declared, found.exptime, found.blocked, found.filter)
        assert (found.latitude, found.ra, found.object) == (None, None, None)
    assert kinds["bias_1.fits"] == ("bias", 0.0, True, "BLOCK")
    assert kinds["flats03.fits"] == ("flat", 6.0, False, "J")
    assert kinds["IC310_2.fits"] == (None, 40.0, False, "J")


@pytest.mark.parametrize(
    ("card", "line", "done"),
    [
        ("HISTORY", "Dark subtraction not done", ()),
        ("HISTORY", "no flat field correction", ()),
        ("HISTORY", "Flat field correction: skipped", ()),
        ("HISTORY", "Bias subtracted, no dark subtraction", ("bias",)),
        ("HISTORY", "Dark subtracted but flat correction was omitted", ("dark",)),
        ("HISTORY", "Dark subtracted with master no. 3; flat-fielded", ("dark", "flat")),
        ("BIASCOR", "not done", ()),
        ("FLATCOR", "skipped", ()),
        ("DARKCOR", "OMIT", ()),
        ("DARKCOR", "master-dark_60s.fits", ("dark",)),
    ],
)
def test_what_is_denied_was_not_done(card: str, line: str, done: tuple[str, ...]) -> None:
    assert of(**{card: line}).calibrated == done


@pytest.mark.parametrize("value", [20, "20", "[601:650,1:500]", 1.0, "left"])
def test_a_width_or_place_under_overscan_and_trim_is_no_report(value: Any) -> None:
    found = of(BIASSEC="[601:650,1:500]", TRIMSEC="[1:600,1:500]", OVERSCAN=value, TRIM=value)
    assert (found.trim, found.overscan) == ((0, 600, 0, 500), (600, 650, 0, 500))


@pytest.mark.parametrize("value", [True, "T", "Sep 22 22:10 Overscan section is [601:650,1:500] with mean=312.4"])
def test_a_logical_or_a_sentence_under_overscan_is_a_report(value: Any) -> None:
    found = of(BIASSEC="[601:650,1:500]", TRIMSEC="[1:600,1:500]", OVERSCAN=value)
    assert (found.trim, found.overscan) == ((0, 600, 0, 500), None)


@pytest.mark.parametrize(
    ("sections", "trim"),
    [
        ({"DATASEC": "[11:600,1:500]"}, (10, 600, 0, 500)),
        ({"TRIMSEC": "[21:600,1:500]", "DATASEC": "[11:600,1:500]"}, (20, 600, 0, 500)),
        ({"TRIMSEC": "[600:21,1:500]", "DATASEC": "[11:600,1:500]"}, (10, 600, 0, 500)),
        ({}, (0, 600, 0, 500)),
        ({"BIASSEC": "[1:50,1:500]"}, (50, 650, 0, 500)),
        ({"BIASSEC": "[1:650,481:500]"}, (0, 650, 0, 480)),
        ({"OVERSCAN": True}, (0, 600, 0, 500)),
        ({"TRIM": True}, None),
    ],
)
def test_the_strip_without_light_is_no_sky(sections: dict[str, Any], trim: tuple[int, ...] | None) -> None:
    found = of(**{"BIASSEC": "[601:650,1:500]", **sections})
    assert found.trim == trim
    assert any("beside BIASSEC" in note for note in found.notes) == (trim is not None and "DATASEC" not in sections)


def test_texts_are_cut_to_what_the_archive_holds() -> None:
    from db.tables import Base

    lengths = {
        "imagetyp": ("exposure", "header_type"), "filter": ("passband", "name"), "read_mode": ("setup", "read_mode"),
        "instrument": ("instrument", "name"), "object": ("exposure", "object_name"), "lens": ("exposure", "lens"),
        "site_name": ("observatory", "name"),
    }  # fmt: skip
    words = dict(zip(("IMAGETYP", "FILTER", "READOUTM", "INSTRUME", "OBJECT", "LENS", "OBSERVAT"), "abcdefg", strict=True))
    header = {key: 150 * letter for key, letter in words.items()} | {
        "DATE-OBS": "2020-01-01T00:00:00.0",
        "EXPTIME": 10.0,
        "BAYERPAT": "RGGB",
    }
    found = facts(header, identify(header), SHAPE)
    for fact, (table, column) in lengths.items():
        # The colour of a Bayer channel stands behind the filter's name.
        room = Base.metadata.tables[table].columns[column].type.length - (2 if fact == "filter" else 0)
        assert 0.8 * room <= len(getattr(found, fact)) <= room
    assert sum("is cut to" in note for note in found.notes) == len(lengths)
    assert of(INSTRUME="i" * 68, TELESCOP="t" * 59).notes == () != of(INSTRUME="i" * 68, TELESCOP="t" * 60).notes


def test_a_local_clock_is_no_utc() -> None:
    with pytest.raises(FrameUnusable, match="offset from UTC"):
        of(TIMESYS="LOCAL")
    found = of(DATE_OBS="2020-01-02T03:04:05.00", TIMESYS="Local", settings={"default": {"utc_offset": -7.0}})
    assert seconds_off(found, 2020, 1, 2, 10, 4, 10) < 1e-4 and found.time_source == "DATE-OBS (start, UTC-7) + exptime/2"
    # What says UT in its name is that.
    found = of(DATE_OBS="2020-01-02T03:04:05.00", UT_OBS="2020-01-02T10:04:05.000", TIMESYS="LOCAL")
    assert seconds_off(found, 2020, 1, 2, 10, 4, 10) < 1e-4
    assert seconds_off(of(DATE_OBS="2020-01-02T03:04:05.00-02:00", TIMESYS="LOCAL"), 2020, 1, 2, 5, 4, 10) < 1e-4


@pytest.mark.parametrize(
    ("scale", "noted"), [("UTC", False), ("UTC(NTP)", False), ("UT", False), ("TT", False), ("UT1", True), ("CET", True)]
)
def test_time_scales_that_are_not_known_are_noted(scale: str, noted: bool) -> None:
    assert of(TIMESYS=scale).notes == ((f"TIMESYS = {scale} is not known as a time scale: taken as UTC",) if noted else ())


def test_barycentric_coordinate_time_against_astropy() -> None:
    found = of(DATE_OBS="2020-01-02T03:04:05.000", TIMESYS="TCB", EXPTIME=0.0)
    truth = Time("2020-01-02T03:04:05.000", scale="tcb").utc
    assert abs((found.mid_jd1 - truth.jd1) + (found.mid_jd2 - truth.jd2)) * 86400 < 3e-3


def stated(name: str, **settings: Any) -> Facts:
    """Facts of a file without any header."""
    return facts({}, identify({}, definitions_from({"default": {"exptime": 10.0, **settings}})), SHAPE, f"/some/2001-01-01/{name}")


@pytest.mark.parametrize(
    ("name", "pattern", "settings", "moment", "sigma"),
    [
        ("Moon_20240308_210405.png", "%Y%m%d_%H%M%S", {"utc_offset": 0}, (2024, 3, 8, 21, 4, 10), 0.5),
        ("20240308_230405.250 L.tif", "%Y%m%d_%H%M%S.%f", {"utc_offset": 2.0}, (2024, 3, 8, 21, 4, 10, 250000), 0.0005),
        ("a 2024-03-08T21-04-05Z.tif", "%Y-%m-%dT%H-%M-%S%z", {}, (2024, 3, 8, 21, 4, 10), 0.5),
        ("2104 08.03.2024.tif", "%H%M %d.%m.%Y", {"utc_offset": 0}, (2024, 3, 8, 21, 4, 5), 30.0),
        ("a.tif", "%Y%m%d_%H%M%S", {"date_obs": "2024-03-08T23:04:05.0+02:00"}, (2024, 3, 8, 21, 4, 10), 0.05),
        ("a.tif", "%Y%m%d_%H%M%S", {"date_obs": datetime(2024, 3, 8, 21, 4, 5)}, (2024, 3, 8, 21, 4, 10), 0.5),
    ],
)
def test_times_in_names_and_stated_ones(name: str, pattern: str, settings: dict[str, Any], moment: tuple[int, ...], sigma: float) -> None:
    found = stated(name, date_from_name=pattern, **settings)
    assert seconds_off(found, *moment) < 1e-4 and found.time_sigma == pytest.approx(sigma)


def test_a_time_in_a_name_needs_the_offset_of_its_clock() -> None:
    with pytest.raises(FrameUnusable, match=r"file name = 2024-03-08T21:04:05.*utc_offset"):
        stated("20240308_210405.tif", date_from_name="%Y%m%d_%H%M%S")
    with pytest.raises(FrameUnusable, match="date_from_name"):
        stated("frame_0001.tif", date_from_name="%Y%m%d_%H%M%S", utc_offset=0)
    with pytest.raises(FrameUnusable, match="no time of exposure"):
        stated("120240308_210405.tif", date_from_name="%Y%m%d_%H%M%S", utc_offset=0)


def test_a_headers_time_wins_over_a_default_and_not_over_an_override() -> None:
    said = {"date_obs": "2024-03-08T21:04:05"}
    assert of(settings={"default": said}).time_source.startswith("DATE-OBS")
    assert of(settings={"override": said}).time_source == "date_obs (start, UTC) + exptime/2"


@pytest.mark.parametrize(
    "wrong",
    [
        {"date_obs": "2024-03-08"}, {"date_obs": 5}, {"date_obs": "yesterday"}, {"date_from_name": 7}, {"date_from_name": "%Y%m%d"},
        {"date_from_name": "%Y%m%d_%H%M%S_%S"}, {"date_from_name": "%Y%m%d_%H%M%q"}, {"date_from_name": "%Y%m%d_%H%M%"},
    ],
)  # fmt: skip
def test_stated_times_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"default.{next(iter(wrong))}"):
        definitions_from({"default": wrong})
