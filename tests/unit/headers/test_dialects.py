"""Headers in the dialects of many programs and observatories, each with what it means, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from astropy.io import fits
from astropy.time import Time

from reduction.headers.facts import Facts, facts
from reduction.headers.instrument import definitions_from, identify

SHAPE = (1024, 1024)


def hours(h: float, m: float = 0, s: float = 0) -> float:
    return h + m / 60 + s / 3600


#: Name: cards, start of the exposure in UTC, facts.
DIALECTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "CCDSoft and TheSkyX": (
        """\
DATE-OBS= '2016-05-01T03:11:12.345' /UTC of exposure start
EXPTIME =               120.00 /Exposure time in seconds
FILTER  = 'Clear   '           /
FILTER2 = 'B       '           /Second wheel
CCD-TEMP=                -25.0 /CCD temperature in C
OBJCTRA = '05 35 17.3'         /Right Ascension
OBJCTDEC= '-05 23 28'          /Declination
SITELAT = '+31 40 00.0'        /Latitude
SITELONG= '+110 57 00.0'       /Longitude, west is positive
XPIXSZ  =                  9.0 /Pixel width in microns after binning
FOCALLEN=                  2.0 /Focal length of telescope (m)
IMAGETYP= 'Light Frame'        /""",
        "2016-05-01T03:11:12.345",
        {"exptime": 120.0, "filter": "B", "ccd_temperature": -25.0, "ra": 15 * hours(5, 35, 17.3), "dec": -hours(5, 23, 28),
         "latitude": hours(31, 40), "longitude": -110.95, "pixel_scale": 206.264806 * 9 / 2000, "notes": ()},
    ),
    "CCDOPS, before 2000": (
        """\
DATE-OBS= '25/12/98'           / Date of observation
TIME-OBS= '21:03:04'           / UT of observation start
EXPTIME =            60.000000 / Exposure in seconds
CCD-TEMP=           -10.500000 / CCD temp in degrees C
FILTER  = 'V'                  / Optical filter name
EGAIN   =             2.300000 / Gain in e-/ADU""",
        "1998-12-25T21:03:04",
        {"exptime": 60.0, "filter": "V", "ccd_temperature": -10.5, "gain": 2.3, "notes": ()},
    ),
    "AstroArt": (
        """\
DATE-OBS= '2011-08-03'         / UTC
TIME-OBS= '20:41:15'           / UTC start of exposure
EXPTIME =                  300 / Exposure [s]
FILTER  = 'R       '
XPIXELSZ=                 9.00 / microns
FOCALLEN=               1000.0 / mm
TEMPERAT=                -20.0 / C""",
        "2011-08-03T20:41:15",
        {"exptime": 300.0, "filter": "R", "pixel_scale": 206.264806 * 9 / 1000, "ccd_temperature": -20.0, "notes": ()},
    ),
    "Prism": (
        """\
DATE-OBS= '2009-10-21'         / date of observation
TM-START=            75784.500 / [s] UT start of exposure
EXPOSURE= '60,5'               / [s] exposure
FILTERS = 'Vert'
TEMPERAT= '-20,5'              / Celsius""",
        "2009-10-21T21:03:04.5",
        {"exptime": 60.5, "filter": "Vert", "ccd_temperature": -20.5, "notes": ()},
    ),
    "IRIS": (
        """\
DATE-OBS= '25/12/2004'         / dd/mm/yyyy
UT-START= '21:03:04,25'        / UT
EXPTIME =                60000 / [ms]""",
        "2004-12-25T21:03:04.25",
        {"exptime": 60.0, "notes": ()},
    ),
    "AudeLA": (
        """\
DATE-OBS= '2010-03-04T21:33:11.123' / [iso8601] Start of exposure. FITS standard
EXPOSURE=                   30 / [s] Total time of exposure
FOCLEN  =                0.343 / [m] Focal length
PIXSIZE1=                  7.4 / [um] Pixel size along naxis1
BIN1    =                    2 / binning
BIN2    =                    2 / binning
FILTER  = 'C       '""",
        "2010-03-04T21:33:11.123",
        {"exptime": 30.0, "binning": (2, 2), "pixel_scale": 206.264806 * 14.8 / 343, "filter": "C", "notes": ()},
    ),
    "SIPS": (
        """\
DATE-OBS= '2020-11-15T19:20:21.55' / start of observation (UTC)
EXPTIME =                 90.0 / exposure time (seconds)
GAIN    =                  1.5 / gain (e-/ADU)
CCD-TEMP=                -30.1 / chip temperature in C
SET-TEMP=                -30.0 / set chip temperature in C
FILTER  = 'Lum     '
RA      =             5.588139 / right ascension (hours)
DEC     =            -5.391111 / declination (degrees)""",
        "2020-11-15T19:20:21.55",
        {"exptime": 90.0, "gain": 1.5, "ccd_temperature": -30.1, "set_temperature": -30.0, "ra": 15 * 5.588139, "dec": -5.391111,
         "filter": "Lum", "notes": ()},
    ),
    "APT": (
        """\
SWCREATE= 'APT - Astro Photography Tool v.4.10'
DATE-OBS= '2023-02-11T22:10:09' / Date and time of the exposure start (UTC)
DATE-LOC= '2023-02-12T00:10:09' / Local time of the exposure start
EXPTIME =                180.0 / Exposure time in seconds
GAIN    =                  100 / Gain setting
OFFSET  =                   30 / Offset setting
FILTER  = 'Ha      '
SITELAT = '+42 40 12.000'
SITELONG= '+23 20 30.000'""",
        "2023-02-11T22:10:09",
        {"exptime": 180.0, "gain": None, "gain_setting": 100.0, "offset_setting": 30.0, "filter": "Ha", "latitude": hours(42, 40, 12),
         "longitude": hours(23, 20, 30)},
    ),
    "Voyager": (
        """\
SWCREATE= 'Voyager 2.3.9'
DATE-OBS= '2022-07-01T23:59:59.500' / UTC start of exposure
JD      =     2459762.50034722 / Julian Date of mid exposure
EXPTIME =                 61.0 / [s] Exposure
EXPOSURE=                 61.0 / [s] Exposure
FILTER  = 'Red     '""",
        "2022-07-01T23:59:59.500",
        {"exptime": 61.0, "filter": "Red", "notes": ()},
    ),
    "ESO": (
        """\
ORIGIN  = 'ESO     '           / European Southern Observatory
TELESCOP= 'ESO-NTT '           / ESO <TEL>
INSTRUME= 'EFOSC   '           / Instrument used
DATE-OBS= '2010-01-15T01:00:45.123' / Date of observation
MJD-OBS =       55211.04218892 / Obs start
EXPTIME =              20.0012 / Total integration time
UTC     =             3645.000 / 01:00:45.000 UTC at start (sec)
LST     =            16113.700 / 04:28:33.700 LST at start (sec)
RA      =           83.8220833 / 05:35:17.3 RA (J2000) pointing (deg)
DEC     =           -5.3911111 / -05:23:28.0 DEC (J2000) pointing (deg)
HIERARCH ESO INS FILT1 NAME = 'V#641   ' / Filter name
HIERARCH ESO INS FILT2 NAME = 'FREE    ' / Filter name
HIERARCH ESO DET OUT1 CONAD = 0.91 / Conversion from ADUs to electrons
HIERARCH ESO DET OUT1 GAIN = 1.10 / Conversion from electrons to ADU
HIERARCH ESO DET OUT1 RON = 9.2 / Readout noise per output (e-)
HIERARCH ESO DET WIN1 BINX = 2 / Binning factor along X
HIERARCH ESO DET WIN1 BINY = 2 / Binning factor along Y
HIERARCH ESO TEL GEOLAT = -29.2584 / Tel geo latitute (+=North) (deg)
HIERARCH ESO TEL GEOLON = -70.7345 / Tel geo longitute (+=East) (deg)
HIERARCH ESO TEL GEOELEV = 2375. / Elevation above sea level (m)
HIERARCH ESO DPR TYPE = 'SKY,FLAT' / Observation type""",
        "2010-01-15T01:00:45.123",
        {"definition": "eso", "exptime": 20.0012, "filter": "V#641", "gain": 0.91, "read_noise": 9.2, "binning": (2, 2),
         "latitude": -29.2584, "longitude": -70.7345, "height": 2375.0, "ra": 83.8220833, "dec": -5.3911111, "declared": "flat",
         "notes": ()},
    ),
    "Gemini": (
        """\
DATE-OBS= '2010-01-15'         / UT Date of observation (YYYY-MM-DD)
TIME-OBS= '01:00:45.2'         / Time of observation
EXPTIME =                 30.5 / Exposure time
FILTER1 = 'open1-6 '           / Filter 1 name
FILTER2 = 'r_G0303 '           / Filter 2 name
RA      =          83.82208333 / [deg] Right Ascension
DEC     =          -5.39111111 / [deg] Declination
OBSTYPE = 'OBJECT  '           / Observation type
GAIN    =                 2.27 / Amplifier gain [electrons/ADU]
RDNOISE =                 3.32 / Readout noise [electrons]""",
        "2010-01-15T01:00:45.2",
        {"exptime": 30.5, "filter": "r_G0303", "ra": 83.82208333, "dec": -5.39111111, "gain": 2.27, "read_noise": 3.32,
         "declared": "object", "notes": ()},
    ),
    "NOAO": (
        """\
DATE-OBS= '2001-10-21'         / date of observation start
TIME-OBS= '05:16:17.0'         / universal time
EXPTIME =               60.000 / actual integration time (seconds)
FILTER1 = 'V Harris'           / filter in wheel one
FILTER2 = 'Clear   '           / filter in wheel two
RA      = '05:35:17.3'         / right ascension
DEC     = '-05:23:28'          / declination
IMAGETYP= 'object  '           / object, dark, zero, etc.
CCDSUM  = '2 2     '           / on chip summation (X,Y)
GAIN    =                  3.1 / gain, electrons per adu
RDNOISE =                  5.9 / read noise, electrons
TIMEZONE=                    7 / hours west of Greenwich""",
        "2001-10-21T05:16:17",
        {"exptime": 60.0, "filter": "V Harris", "ra": 15 * hours(5, 35, 17.3), "dec": -hours(5, 23, 28), "binning": (2, 2), "gain": 3.1,
         "read_noise": 5.9, "night_longitude": -105.0, "declared": "object", "notes": ()},
    ),
    "LCO with its wheels": (
        """\
ORIGIN  = 'LCOGT   '
DATE-OBS= '2019-02-05T01:12:40.104' / [UTC] Start date and time of the observation
EXPTIME =               60.000 / [s] Exposure length
FILTER  = 'B       '           / Filter used
FILTER1 = 'air     '           / [Filter name] Filter in wheel 1
FILTER2 = 'B       '           / [Filter name] Filter in wheel 2
FILTER3 = 'air     '           / [Filter name] Filter in wheel 3
GAIN    =                    2 / [electrons/count] Pixel gain
OBSTYPE = 'EXPOSE  '""",
        "2019-02-05T01:12:40.104",
        {"exptime": 60.0, "filter": "B", "gain": 2.0, "notes": ()},
    ),
    "ACP": (
        """\
DATE-OBS= '2010-06-16T06:27:47.484' / [ISO 8601] UTC date/time of exposure start
LOCALTIM= '6/15/2010 11:27:47.484 PM DST' / Local time at exposure start
LST     = '16 45 10.00'        / Local sidereal time at exposure start
EXPTIME =   6.00000000000E+001 / [sec] Duration of exposure
FILTER  = 'Ic      '""",
        "2010-06-16T06:27:47.484",
        {"exptime": 60.0, "filter": "Ic", "night_longitude": -105.0, "notes": ()},
    ),
    "local clock by its remark": (
        """\
DATE-OBS= '2021-03-04T22:10:05.0' / local time, UTC+2, start of exposure
EXPTIME =                  0.5 / minutes
FILTERA = 'Empty   '
FILTERB = 'I       '""",
        "2021-03-04T20:10:05.0",
        {"exptime": 30.0, "filter": "I", "night_longitude": 30.0, "notes": ()},
    ),
    "middle by its remark": (
        """\
DATE-OBS= '2021-03-04T20:10:20.0' / UTC of mid-exposure
EXPTIME =                 30.0 / [s]
FILTNAM1= '<NO FILTER>'
FILTNAM2= 'OIII    '""",
        "2021-03-04T20:10:05.0",
        {"exptime": 30.0, "filter": "OIII", "notes": ()},
    ),
    "end by its remark": (
        """\
DATE-OBS= '2021-03-04T20:10:35.0' / UT at the end of the exposure
EXPTIME =               30000. / exposure in milliseconds
WHEEL1  = 'None    '
WHEEL2  = 'G       '""",
        "2021-03-04T20:10:05.0",
        {"exptime": 30.0, "filter": "G", "notes": ()},
    ),
    "all-sky camera": (
        """\
DATE-OBS= '2022-01-02T03:04:05.5'
MJD-OBS = 5.958112783565E+04
EXPOSURE=             30000000 / [us] exposure
CCD-TEMP=               268.15 / [K]
LATITUDE=               0.9250 / [rad] site
LONGITUD=                 10.5 / [degrees West]
GAIN    =                  250 / [0.1 dB] gain""",
        "2022-01-02T03:04:05.5",
        {"exptime": 30.0, "ccd_temperature": -5.0, "latitude": 52.99859599, "longitude": -10.5, "gain": None, "gain_setting": 250.0},
    ),
    "read noise and white level in each other's unit": (
        """\
DATE-OBS= '2022-01-02T03:04:05.5'
EXPTIME =                 10.0
GAIN    =                  0.5 / [ADU/e-] system gain
RDNOISE =                  4.0 / [ADU]
SATURATE=             100000.0 / [electrons] full well""",
        "2022-01-02T03:04:05.5",
        {"exptime": 10.0, "gain": 2.0, "read_noise": 8.0, "saturation": 50000.0},
    ),
}  # fmt: skip


def read(text: str, **settings: Any) -> Facts:
    header = fits.Header()
    for line in text.splitlines():
        header.append(fits.Card.fromstring(line[:80]))
    return facts(header, identify(header, definitions_from(settings)), SHAPE, "a.fits")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_header_means_what_its_writer_meant(dialect: str) -> None:
    text, start, expected = DIALECTS[dialect]
    found = read(text)
    truth = Time(start, scale="utc")
    assert ((found.start_jd1 - truth.jd1) + (found.start_jd2 - truth.jd2)) * 86400 == pytest.approx(0.0, abs=2e-3)
    for fact, value in expected.items():
        wanted = pytest.approx(value, rel=1e-8) if isinstance(value, float) else value
        assert getattr(found, fact) == wanted, fact
