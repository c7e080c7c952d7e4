"""Header conventions against times and facts worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits
from astropy.time import Time

from db.errors import FrameUnusable
from reduction.fits import read_header
from reduction.headers import Facts, facts, identify
from reduction.instrument import builtin_definitions, definitions_from

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
