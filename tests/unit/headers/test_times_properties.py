"""Times of exposure, however a header writes them: each form says the same moment, and nothing stops the reading."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.errors import FrameUnusable
from reduction.headers.definition import InstrumentDefinition, TimeRule
from reduction.headers.exposure_times import ExposureTime, exposure_time
from reduction.headers.instrument import builtin_definitions
from reduction.headers.name_time import time_in_name

#: Whole milliseconds; before 1960 there is no UTC that erfa would not doubt.
MOMENTS = st.datetimes(datetime(1960, 1, 1), datetime(2088, 12, 1)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
EXPTIMES = st.floats(0.0, 7200.0)
OFFSETS = st.integers(-14 * 4, 14 * 4).map(lambda quarters: quarters / 4)
AT = st.sampled_from(["start", "mid", "end"])
PROPERTY = settings(max_examples=200, deadline=None)


def read(header: dict[str, Any], *rules: TimeRule, exptime: float = 0.0, where: str = "", **given_: Any) -> ExposureTime:
    return exposure_time(header, InstrumentDefinition("roof", times=rules, **given_), exptime, where=where)


def days(moment: datetime) -> tuple[int, float]:
    """Julian date of a calendar date in two parts, without leap seconds."""
    since = moment - datetime(2000, 1, 1)
    return 2451544 + since.days, 0.5 + (since - timedelta(days=since.days)).total_seconds() / 86400


def seconds_from(found: ExposureTime, moment: datetime, *, of: str = "mid") -> float:
    """How much later than the moment the middle or start was, s; both parts are compared, so that no digit is lost."""
    first, second = days(moment)
    jd1, jd2 = (found.mid_jd1, found.mid_jd2) if of == "mid" else (found.start_jd1, found.start_jd2)
    return ((jd1 - first) + (jd2 - second)) * 86400


def milli(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def without_leap_second(moment: datetime) -> bool:
    """A day with a leap second is 86,401 s long, as erfa counts its parts: its fractions differ from the calendar's."""
    return (moment + timedelta(hours=38)).replace(tzinfo=UTC).day > 2


@PROPERTY
@given(MOMENTS.filter(without_leap_second), st.sampled_from(["iso", "blank", "slashes", "clock", "both", "jd", "mjd"]))
def test_every_form_says_the_same_moment(moment: datetime, form: str) -> None:
    day, clock = f"{moment:%Y-%m-%d}", milli(moment)[11:]
    whole, fraction = days(moment)
    jd_whole, jd_fraction = divmod(round(fraction * 10**10), 10**10)
    mjd_whole, mjd_fraction = divmod(round((fraction - 0.5) * 10**10), 10**10)
    header, rule = {
        "iso": ({"DATE-OBS": f"{day}T{clock}"}, TimeRule("date", "DATE-OBS")),
        "blank": ({"DATE-OBS": f" {day} {clock}Z "}, TimeRule("date", "DATE-OBS")),
        "slashes": ({"DATE-OBS": f"{moment:%Y/%m/%d}T{clock}"}, TimeRule("date", "DATE-OBS")),
        "clock": ({"DATE-OBS": day, "TIME-OBS": clock}, TimeRule("date", "DATE-OBS", clock="TIME-OBS")),
        "both": ({"DATE-OBS": day, "UT": f"{day}T{clock}"}, TimeRule("date", "DATE-OBS", clock="UT")),
        "jd": ({"JD": f"{whole + jd_whole}.{jd_fraction:010d}"}, TimeRule("jd", "JD")),
        "mjd": ({"MJD": f"{whole - 2400000 + mjd_whole}.{mjd_fraction:010d}"}, TimeRule("mjd", "MJD")),
    }[form]
    found = read(header, rule)
    assert abs(seconds_from(found, moment)) < 2e-5
    assert found.sigma == pytest.approx(0.5e-10 * 86400 if form in ("jd", "mjd") else 0.5e-3, rel=1e-9)
    assert found.notes == ()


@PROPERTY
@given(st.datetimes(datetime(1960, 1, 1), datetime(1999, 12, 30)).filter(without_leap_second))
def test_the_old_form_is_of_the_twentieth_century(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    found = read({"DATE-OBS": f"{moment:%d/%m/%y}", "UT": f"{moment:%H:%M:%S}"}, TimeRule("date", "DATE-OBS", clock="UT"))
    assert abs(seconds_from(found, moment)) < 2e-5 and found.sigma == 0.5


@PROPERTY
@given(MOMENTS.filter(without_leap_second), OFFSETS, st.sampled_from(["written", "keyword", "default", "override"]))
def test_a_local_clock_with_its_offset_is_utc(moment: datetime, offset: float, said: str) -> None:
    local = milli(moment + timedelta(hours=offset))
    rule = TimeRule("date", "DATE-OBS", zone="local", zone_keyword="TZ")
    sign, minutes = "-" if offset < 0 else "+", round(abs(offset) * 60)
    if said == "written":  # it counts whatever else says
        found = read({"DATE-OBS": f"{local}{sign}{minutes // 60:02d}:{minutes % 60:02d}", "TZ": 3.0}, rule, override={"utc_offset": 5})
    elif said == "keyword":
        found = read({"DATE-OBS": local, "TZ": offset}, rule, default={"utc_offset": 5})
    else:
        found = read({"DATE-OBS": local, **({"TZ": 3.0} if said == "override" else {})}, rule, **{said: {"utc_offset": offset}})
    if without_leap_second(moment + timedelta(hours=offset)):
        assert abs(seconds_from(found, moment)) < 2e-5


@PROPERTY
@given(MOMENTS, st.sampled_from([None, 15.0, -14.5, "unknown"]))
def test_a_local_clock_without_its_offset_is_no_time(moment: datetime, offset: object) -> None:
    header = {"DATE-OBS": milli(moment), **({"TZ": offset} if offset is not None else {})}
    with pytest.raises(FrameUnusable, match="not its offset from UTC") as caught:
        read(header, TimeRule("date", "DATE-OBS", zone="local", zone_keyword="TZ"), where="a.fits")
    assert caught.value.code == "frame.no_time"


@PROPERTY
@given(MOMENTS.filter(without_leap_second), EXPTIMES, AT)
def test_the_middle_is_half_an_exposure_from_start_and_end(moment: datetime, exptime: float, at: str) -> None:
    found = read({"DATE-OBS": milli(moment)}, TimeRule("date", "DATE-OBS", at=at), exptime=exptime)
    until_mid = {"start": 0.5, "mid": 0.0, "end": -0.5}[at] * exptime
    assert abs(seconds_from(found, moment) - until_mid) < 2e-5
    assert abs(seconds_from(found, moment, of="start") - (until_mid - exptime / 2)) < 2e-5


@PROPERTY
@given(MOMENTS.filter(without_leap_second), st.integers(0, 3600), st.permutations(["start", "mid", "end"]), st.floats(-1e4, 1e4))
def test_what_contradicts_is_noted_and_the_first_of_the_most_precise_counts(
    moment: datetime, exptime: int, order: list[str], wrong: float
) -> None:
    """Start, middle and end of one exposure agree; one that is off is noted with how far."""
    at = {"start": moment, "mid": moment + timedelta(seconds=exptime / 2), "end": moment + timedelta(seconds=exptime)}
    rules = [TimeRule("date", word.upper(), at=word) for word in order]
    header = {word.upper(): milli(time) for word, time in at.items()}
    agreed = read(header, *rules, exptime=exptime)
    assert agreed.notes == () and agreed.source.startswith(order[0].upper())
    header[order[2].upper()] = milli(at[order[2]] + timedelta(seconds=wrong))
    found = read(header, *rules, exptime=exptime)
    assert (found.mid_jd1, found.mid_jd2) == (agreed.mid_jd1, agreed.mid_jd2)
    assert bool(found.notes) == (abs(wrong) > 3e-3) or 1e-3 < abs(wrong) < 4e-3


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
CARD = st.one_of(
    TEXT, st.integers(-(10**12), 10**12), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), MOMENTS.map(milli),
    st.from_regex(r"\d{1,4}[-/]\d{1,2}[-/]\d{1,2}(T\d{1,2}:\d{1,2}(:\d{1,2}(\.\d*)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?", fullmatch=True),
    st.from_regex(r"\d{1,2}:\d{2}(:\d{2}(\.\d{0,12})?)?", fullmatch=True), st.sampled_from(["nan", "inf", "2460000.5", "60000.25"]),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(sorted(builtin_definitions(), key=lambda definition: definition.name)))
def test_no_header_stops_the_reading(data: st.DataObject, definition: InstrumentDefinition) -> None:
    """Whatever stands under a writer's keywords, there is a time near an allowed year, or it is said that there is none."""
    names = {word for rule in definition.times for word in (rule.keyword, rule.clock, rule.zone_keyword) if word is not None}
    header = data.draw(st.dictionaries(st.sampled_from(sorted({*names, "TIMESYS"})), CARD))
    try:
        found = exposure_time(header, definition, data.draw(EXPTIMES), where="night_20200101.fits")
    except FrameUnusable as error:
        assert error.code == "frame.no_time"
        return
    assert 2407000 < found.mid_jd1 + found.mid_jd2 < 2508000 and found.sigma > 0 and len(found.source) <= 64


@PROPERTY
@given(MOMENTS, TEXT.filter(lambda text: not set(text) & set("%/\0")))
def test_a_name_is_read_as_it_was_written(moment: datetime, word: str) -> None:
    name = f"{word}_{moment:%Y%m%d-%H%M%S}.fits"
    assert time_in_name(name, "_%Y%m%d-%H%M%S") == f"{moment:%Y-%m-%dT%H:%M:%S}"
