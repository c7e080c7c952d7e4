"""Headers as each program writes them, by its documentation, and the facts that they hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from astropy.io import fits
from astropy.time import Time
from typer.testing import CliRunner

from db.errors import ConfigurationError, NothingToDo
from reduction.files.convert import read_header
from reduction.headers.facts import Facts, facts
from reduction.headers.instrument import definitions_from, identify
from starledger.cli import header as cli_header

SHAPE = (2822, 4144)
ARCSEC = 206.264806

MAXIM_DL = """\
DATE-OBS= '2018-07-04T14:03:03' / [ISO 8601] UTC date/time of exposure start
EXPTIME =   3.00000000000E+002 / [sec] Duration of exposure
EXPOSURE=   3.00000000000E+002 / [sec] Duration of exposure
SET-TEMP=  -35.000000000000000 /CCD temperature setpoint in C
CCD-TEMP=  -34.993802250000002 /CCD temperature at start of exposure in C
XPIXSZ  =   14.800000000000001 /Pixel Width in microns (after binning)
YPIXSZ  =   14.800000000000001 /Pixel Height in microns (after binning)
XBINNING=                    2 /Binning level along the X-axis
YBINNING=                    2 /Binning level along the Y-axis
XORGSUBF=                    0 /Subframe X position in binned pixels
YORGSUBF=                    0 /Subframe Y position in binned pixels
READOUTM= 'Monochrome'         /Readout mode of image
FILTER  = 'V       '           / Filter name
IMAGETYP= 'Light Frame'        /Type of image
SITELAT = '-31 16 24'          /Latitude of the imaging location
SITELONG= '149 03 52'          /Longitude of the imaging location
JD      =   2458304.0854513887 /Julian Date at start of exposure
FOCALLEN=   1425.0000000000000 /Focal length of telescope in mm
APTDIA  =   250.00000000000000 /Aperture diameter of telescope in mm
EGAIN   =   1.4700000286102295 /Electronic gain in e-/ADU
SWCREATE= 'MaxIm DL Version 6.20 180217 0KJR5' /Name of software
SBSTDVER= 'SBFITSEXT Version 1.0' /Version of SBFITSEXT standard in effect
OBJECT  = 'm17     '
TELESCOP= 'iTelescope 33'
INSTRUME= 'Apogee USB/Net'
PEDESTAL=                 -100 /Correction to add for zero-based ADU
CALSTAT = 'BD      '
ALT-OBS =   1.16500000000E+003 / [metres] Altitude above mean sea level
OBJCTRA = '18 20 48.12'        / [hms J2000] Target right ascension
OBJCTDEC= '-16 10 58.8'        / [dms +N J2000] Target declination"""

NINA = """\
IMAGETYP= 'LIGHT'              / Type of exposure
EXPOSURE=                300.0 / [s] Exposure duration
EXPTIME =                300.0 / [s] Exposure duration
DATE-LOC= '2026-07-28T23:12:39.9620845' / Time of observation (local)
DATE-OBS= '2026-07-28T11:12:39.9620845' / Time of observation (UTC)
MJD-OBS =       61249.46712919 / Modified Julian Date of observation
DATE-AVG= '2026-07-28T11:15:10.0100053' / Averaged midpoint time (UTC)
MJD-AVG =     61249.4688658565 / Modified Julian Date of averaged midpoint
XBINNING=                    2 / X axis binning factor
YBINNING=                    2 / Y axis binning factor
GAIN    =                  100 / Sensor gain
OFFSET  =                   50 / Sensor gain offset
EGAIN   =    0.239999994635582 / [e-/ADU] Electrons per A/D unit
XPIXSZ  =                  5.8 / [um] Pixel X axis size
YPIXSZ  =                  5.8 / [um] Pixel Y axis size
INSTRUME= 'ZWO ASI585MC Pro'   / Imaging instrument name
SET-TEMP=                -10.0 / [degC] CCD temperature setpoint
CCD-TEMP=                 -9.9 / [degC] CCD temperature
READOUTM= 'High Dynamic Range' / Sensor readout mode
BAYERPAT= 'RGGB'               / Sensor Bayer pattern
XBAYROFF=                    1 / Bayer pattern X axis offset
YBAYROFF=                    0 / Bayer pattern Y axis offset
USBLIMIT=                   40 / Camera-specific USB setting
TELESCOP= 'SV555'              / Name of telescope
FOCALLEN=                243.0 / [mm] Focal length
FOCRATIO=                  4.5 / Focal ratio
RA      =     253.841369932903 / [deg] RA of telescope
DEC     =     -41.120784078291 / [deg] Declination of telescope
SITEELEV=                120.0 / [m] Observation site elevation
SITELAT =               -36.85 / [deg] Observation site latitude
SITELONG=               174.76 / [deg] Observation site longitude
FWHEEL  = 'Manual Filter Wheel' / Filter Wheel name
FILTER  = 'UVIR    '           / Active filter name
OBJECT  = 'NGC 6231'           / Name of the object of interest
OBJCTRA = '00 00 00'           / [H M S] RA of imaged object
OBJCTDEC= '+00 00 00'          / [D M S] Declination of imaged object
ROWORDER= 'TOP-DOWN'           / FITS Image Orientation
EQUINOX =               2000.0 / Equinox of celestial coordinate system
SWCREATE= 'N.I.N.A. 3.1.2.9001 x64' / Software that created this file"""

SHARPCAP = """\
RA      =       187.3498863705 / Epoch : JNOW
DEC     =        12.8925716003 / Epoch : JNOW
ROWORDER= 'TOP-DOWN'           /
EXPTIME =                   10 / seconds
XPIXSZ  =                  4.8 / microns, includes binning if any
YPIXSZ  =                  4.8 / microns, includes binning if any
XBINNING=                    2 /
YBINNING=                    2 /
CCD-TEMP=                 -0.5 / C
GAIN    =                  120 /
BLKLEVEL=                   12 /
FOCALLEN=                  600 /
BAYERPAT= 'RGGB    '           /
COLORTYP= 'RGGB    '           /
XBAYROFF=                    0 /
YBAYROFF=                    0 /
BAYOFFX =                    0 /
BAYOFFY =                    0 /
FRAMETYP= 'Light   '           /
SWCREATE= 'SharpCap v4.1.12946.0, 64 bit' /
DATE-OBS= '2025-03-19T22:51:59.3846323' / System Clock:Est. Frame Start
DATE-END= '2025-03-19T22:52:09.3846323' / System Clock:Est. Frame End
DATE-AVG= '2025-03-19T22:52:04.3846323' / System Clock:Est. Frame Mid Point
RDNOISE =                  1.7 / Read noise in electrons
INSTRUME= 'ZWO ASI183MC Pro'   /"""

SHARPCAP_OLD = """\
SWCREATE= 'SharpCap'           /
CCD-TEMP=                 12.7 /
YBINNING=                    1 /
XBINNING=                    1 /
XPIXSZ  =     2.90000009536743 /
YPIXSZ  =     2.90000009536743 /
EXPTIME =                    2 /
DATE-OBS= '2019-04-29T20:25:29.8219583' / System Clock-Frame Grabbed
INSTRUME= 'ZWO ASI290MM Mini'  /"""

EKOS = """\
ROWORDER= 'TOP-DOWN'           / Row Order
INSTRUME= 'ZWO CCD ASI294MC Pro' / Camera Name
TELESCOP= 'EQMod Mount'        / Telescope name
OBSERVER= 'Unknown '           / Observer name
OBJECT  = 'NGC 7000'           / Object name
EXPTIME =                 120. / Total Exposure Time (s)
CCD-TEMP=                  -10 / CCD Temperature (Celsius)
PIXSIZE1=                 4.63 / Pixel Size 1 (microns)
PIXSIZE2=                 4.63 / Pixel Size 2 (microns)
XBINNING=                    2 / Binning factor in width
YBINNING=                    2 / Binning factor in height
XPIXSZ  =                 9.26 / X binned pixel size in microns
YPIXSZ  =                 9.26 / Y binned pixel size in microns
FRAME   = 'Light   '           / Frame Type
IMAGETYP= 'Light Frame'        / Frame Type
FILTER  = 'L       '           / Filter
XBAYROFF=                    0 / X offset of Bayer array
YBAYROFF=                    0 / Y offset of Bayer array
BAYERPAT= 'GRBG    '           / Bayer color pattern
FOCALLEN=                  400 / Focal Length (mm)
APTDIA  =                   80 / Telescope diameter (mm)
SCALE   =              4.77585 / arcsecs per pixel
SITELAT =                 43.6 / Latitude of the imaging site in degrees
SITELONG=                280.6 / Longitude of the imaging site in degrees
OBJCTRA = '20 59 17.00'        / Object J2000 RA in Hours
OBJCTDEC= '44 31 44.00'        / Object J2000 DEC in Degrees
RA      =             314.8208 / Object J2000 RA in Degrees
DEC     =              44.5289 / Object J2000 DEC in Degrees
DATE-OBS= '2025-08-01T03:10:00.123' / UTC start date of observation
GAIN    =                  120 / Gain
OFFSET  =                   30 / Offset
COMMENT Generated by INDI"""

ASIAIR = """\
CREATOR = 'ZWO ASIAIR Plus'    / Capture software
PRODUCER= 'ZWO     '           / Powered by ZWO
XORGSUBF=                    0 / Subframe X position in binned pixels
YORGSUBF=                    0 / Subframe Y position in binned pixels
FOCALLEN=                  369 / Focal length of telescope in mm
XBINNING=                    2 / Camera X Bin
YBINNING=                    2 / Camera Y Bin
CCDXBIN =                    2 / Camera X Bin
CCDYBIN =                    2 / Camera Y Bin
XPIXSZ  =     7.51999998092651 / pixel size in microns (with binning)
YPIXSZ  =     7.51999998092651 / pixel size in microns (with binning)
IMAGETYP= 'Light   '           / Type of image
EXPOSURE=                 300. / Exposure time in seconds
EXPTIME =                 300. / Exposure time in seconds
CCD-TEMP=                -10.1 / sensor temperature in C
SET-TEMP=                 -10. / target temperature in C
RA      =              11.0625 / Object Right Ascension in degrees
DEC     =            41.404446 / Object Declination in degrees
SITELONG=             -74.0358 / longitude of the imaging site in degrees
SITELAT =                41.43 / latitude of the imaging site in degrees
DATE-OBS= '2025-09-01T02:15:03.751879' / Image created time
FILTER  = 'L-eXtreme'          / Filter used when taking image
INSTRUME= 'ZWO ASI2600MC Duo'  / Camera model
BAYERPAT= 'RGGB    '           / Bayer pattern
GAIN    =                    0 / Gain Value
OFFSET  =                   50 / camera offset
EGAIN   =                 0.77 / Electrons per A/D unit
TELESCOP= 'ZWO AM5 '           / Telescope name
OBJECT  = 'M 31    '           / name of object"""

SGP = """\
CRPIX1  =                 2072 / reference spectrum pixel coordinate for axis 1
CRPIX2  =                 1411 / reference spectrum pixel coordinate for axis 2
CTYPE1  = 'RA---TAN'           / standard system and projection
CTYPE2  = 'DEC--TAN'           / standard system and projection
OBJECT  = 'M57     '           / Object name
DATE-LOC= '2020-05-30T02:22:49.0968820' / Local observation date
DATE-OBS= '2020-05-30T00:22:49.0968820' / UTC observation date
IMAGETYP= 'DARKFLAT'           / Type of frame
CREATOR = 'Sequence Generator Pro v3.1.0.479' / Capture software
INSTRUME= 'ZWO ASI294MC Pro'   / Instrument name
SITENAME= 'Ghent   '           / Observatory name
SITEELEV=                   10 / Elevation of the imaging site in meters
SITELAT = '51 3 0.000'         / Latitude of the imaging site in degrees
SITELONG= '3 43 0.000'         / Longitude of the imaging site in degrees
FILTER  = 'HaOIII  '           / Filter name
EXPOSURE=                   30 / Exposure time in seconds
CCD-TEMP=                -17.5 / Camera cooler temperature
SET-TEMP=                  -18 / Camera cooler target temperature
XBINNING=                    1 / Camera X Bin
CCDXBIN =                    1 / Camera X Bin
YBINNING=                    1 / Camera Y Bin
CCDYBIN =                    1 / Camera Y Bin
TELESCOP= 'EQMOD ASCOM HEQ5/6' / Telescope name
RA      =     283.395539831101 / Object Right Ascension in degrees
DEC     =           33.0340625 / Object Declination in degrees
CRVAL1  =     283.395539831101 / RA at image center in degrees
CRVAL2  =           33.0340625 / DEC at image center in degrees
OBJCTRA = '18 53 34.930'       / Object Right Ascension in hms
OBJCTDEC= '+33 02 02.625'      / Object Declination in degrees
FOCALLEN=                 1480 / The focal length of the telescope in mm
ANGLE   =               258.37 / Image angle
SCALE   =              0.65415 / Image scale (arcsec / pixel)
PIXSCALE=              0.65415 / Image scale (arcsec / pixel)
POSANGLE=               258.37 / Camera rotator postion angle (degrees)
GAIN    =                  120 / Camera gain
EGAIN   =     3.99000000953674 / Electrons Per ADU
OFFSET  =                   30 / Camera offset"""

PANOPTES = """\
ISO     =                  100
EXPTIME =                120.4
CAMTEMP = '11 C    '           / Celsius - From CR2
DATE-OBS= '2016-09-09T08:12:26'
INTSN   = 'HA0028608'          / From CR2
CAMSN   = '012070048413'       / From CR2
WHTLVLN =                11765 / From CR2
WHTLVLS =                12277 / From CR2
FIELD   = 'KIC 8462852'
RA-MNT  =            301.56439 / Degrees
DEC-MNT =            44.456875 / Degrees
FILTER  = 'RGGB    '
LAT-OBS =                19.54 / Degrees
LONG-OBS=              -155.58 / Degrees
ELEV-OBS=               3400.0 / Meters
CREATOR = 'POCSv0.1.1'         / POCS Software version
INSTRUME= 'XXXXXX  '           / Camera ID
OBSERVER= 'PAN001  '           / PANOPTES Unit ID
ORIGIN  = 'Project PANOPTES'"""

LCO_RAW = """\
DATE-OBS= '2019-02-05T01:12:40.104' / [UTC] Start date and time of the observation
MJD-OBS =        58519.0504641 / [UTC days] Start date/time (Modified Julian Date)
UTSTART = '01:12:40.104'       / [UTC] UTC at start of observation
OBSTYPE = 'EXPOSE  '           / Observation type
EXPTIME =               60.000 / [s] Exposure length
FILTER  = 'rp      '           / Filter used
TELESCOP= '1m0-05  '           / The Name of the Telescope
INSTRUME= 'fa15    '           / Instrument used
OBJECT  = 'AT2019abc'          / Object name
SITEID  = 'lsc     '           / ID code of the Observatory site
TELID   = '1m0a    '           / ID code of the Telescope
SITE    = 'LCO node at CTIO'   / Site of the Observatory
LATITUDE=           -30.167383 / [deg North] Telescope Latitude
LONGITUD=          -70.8047894 / [deg East] Telescope Longitude
HEIGHT  =             2201.000 / [m] Altitude of Telescope above sea level
ORIGIN  = 'LCOGT   '           / Organization responsible for the data
GAIN    =                    2 / [electrons/count] Pixel gain
RDNOISE =                7.635 / [electrons/pixel] Read noise
SATURATE=              64000.0 / [ADU] Saturation level
MAXLIN  =              60000.0 / [ADU] Non-linearity level
BIASSEC = '[4120:4140,1:2000]' / [binned pixel] Overscan Region
TRIMSEC = '[11:4100,1:2800]'   / [binned pixel] Section of useful data
CCDSUM  = '1 1     '           / CCD on-chip summing/binning
CCDATEMP=              -99.987 / [deg C] CCD actual temperature
CCDSTEMP=             -100.000 / [deg C] CCD set temperature
CONFMODE= 'full_frame'         / camera configuration mode
PIXSCALE=                0.389 / [arcsec/pixel] Nominal pixel scale on sky
RA      = '05:12:30.1230'      / [HH:MM:SS.sss] RA where the telescope is pointing
DEC     = '-10:20:30.000'      / [DD:MM:SS.ss] DEC where the telescope is pointing
ROTSKYPA=                12.5  / [deg] Position angle of instrument rotator"""

BANZAI = (
    LCO_RAW.replace("GAIN    =                    2", "GAIN    =                  1.0")
    + """
RLEVEL  =                   91 / Reduction level
L1STATOV= '1       '           / Status flag for overscan correction
L1STATBI=                    1 / Status flag for bias frame correction
L1STATTR=                    1 / Status flag for overscan trimming
L1STATDA=                    1 / Status flag for dark correction
L1STATFL=                    0 / Status flag for flat field correction"""
)

LIVERPOOL = """\
ORIGIN  = 'Liverpool JMU'      / Liverpool Telescope Project
TELESCOP= 'Liverpool Telescope' / The Name of the Telescope
INSTRUME= 'IO:O    '           / Instrument used
OBSTYPE = 'EXPOSE  '           / What type of observation has been taken
OBJECT  = 'SN2014J '           / Object name
DATE-OBS= '2014-02-03T23:28:51.246' / [UTC] The start time of the observation
UTSTART = '23:28:51.246'       / [UTC] The start time of the observation
MJD     =         56691.978371 / [days] Modified Julian Days.
EXPTIME =           30.0000000 / [Seconds] Exposure length.
FILTER1 = 'SDSS-R  '           / The first filter wheel filter type.
FILTER2 = 'clear   '           / The second filter wheel filter type.
CCDXBIN =                    2 / [pixels] X binning factor
CCDYBIN =                    2 / [pixels] Y binning factor
CCDSCALE=            0.3037400 / [arcsec/binned pixel] Scale of binned image on sky
GAIN    =                   11 / [electrons/count] calculated in pipeline
READNOIS=                  8.0 / [electrons/pixel] RMS noise
CCDSTEMP=                  163 / [Kelvin] Required temperature.
CCDATEMP=                  164 / [Kelvin] Actual temperature.
LATITUDE=            28.762400 / [degrees] Observatory Latitude
LONGITUD=           -17.879200 / [degrees West] Observatory Longitude
RA      = '09:55:42.300'       / [HH:MM:SS.ss] Coordinates
DEC     = '+69:40:26.00'       / [DD:MM:SS.ss] Coordinates
L1STATOV=                   23 / Status flag for DP(RT) overscan correction
L1STATBI=                   -1 / Status flag for DP(RT) bias correction
L1STATDA=                   -1 / Status flag for DP(RT) dark correction
L1STATTR=                    1 / Status flag for DP(RT) overscan trimming
L1STATFL=                    1 / Status flag for DP(RT) flatfield correction
ROTSKYPA=              90.1000 / [degrees] Rotator position angle"""

CAMERA_RAW = """\
INSTRUME= 'Canon EOS 6D'       / camera
DATE-OBS= '2024-05-01T20:10:05.25' / start of exposure, UTC
DATE-LOC= '2024-05-01T22:10:05.25' / start of exposure, clock of the camera
TZOFFSET=                  2.0 / [h] local time minus UTC (EXIF)
EXPTIME =                 30.0 / [s] exposure time
ISOSPEED=                 1600 / ISO speed setting
CAMSN   = '012345678901'       / serial number of the camera
LENS    = 'EF135mm f/2L USM'   / lens
FOCALLEN=                135.0 / [mm] focal length
APERTURE=                  2.8 / f-number of the lens
CCD-TEMP=                 23.0 / [C] temperature in the camera
BAYERPAT= 'RGGB    '           / colours of the first 2 x 2 pixels, row by row
XBAYROFF=                    0 / [pix] x offset of BAYERPAT
YBAYROFF=                    0 / [pix] y offset of BAYERPAT
ROWORDER= 'TOP-DOWN'           / the first row is the top of the picture
BLKLEV  =               2048.0 / [adu] black level
SATURATE=              15000.0 / [adu] highest usable value, with black level
SWCREATE= 'starledger 0.1.0'   / software that made this header"""

MICROOBSERVATORY = """\
DATE-OBS= '2017-12-19T18:33:43.317-0700' / Start date & time of observation, LT
DATE-END= '2017-12-19T18:34:45.277-0700' / End date & time of observation, LT
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
CREATOR = 'MicroObservatory2014-05-23' / Version of current FITS document"""

NOTHING = {
    "object": None, "filter": None, "telescope": None, "site_name": None, "imagetyp": None, "declared": None, "blocked": False,
    "latitude": None, "longitude": None, "height": None, "ra": None, "dec": None, "orientation": None, "pixel_scale": None,
    "binning": (1, 1), "gain": None, "read_noise": None, "saturation": None, "black_level": None, "gain_setting": None,
    "offset_setting": None, "read_mode": None, "ccd_temperature": None, "set_temperature": None, "lens": None, "aperture": None,
    "camera_serial": None, "trim": None, "overscan": None, "calibrated": (), "has_wcs": False, "bayer": None, "notes": (),
}  # fmt: skip

#: Name: header, UTC of mid-exposure, and every fact that is not NOTHING.
WRITERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "maxim_dl": (
        MAXIM_DL,
        "2018-07-04T14:05:33",
        {
            "instrument": "iTelescope 33 Apogee USB/Net", "telescope": "iTelescope 33", "object": "m17", "filter": "V",
            "imagetyp": "light frame", "declared": "object", "exptime": 300.0, "time_sigma": 0.5,
            "latitude": -(31 + 16 / 60 + 24 / 3600), "longitude": 149 + 3 / 60 + 52 / 3600, "height": 1165.0,
            "ra": 15 * (18 + 20 / 60 + 48.12 / 3600), "dec": -(16 + 10 / 60 + 58.8 / 3600), "pixel_scale": ARCSEC * 14.8 / 1425,
            "binning": (2, 2), "gain": 1.4700000286102295, "read_mode": "Monochrome", "ccd_temperature": -34.993802,
            "set_temperature": -35.0, "black_level": 100.0, "aperture": 5.7, "calibrated": ("bias", "dark"),
        },
    ),
    "nina": (
        NINA,
        "2026-07-28T11:15:09.9620845",
        {
            "instrument": "SV555 ZWO ASI585MC Pro", "telescope": "SV555", "object": "NGC 6231", "filter": "UVIR", "imagetyp": "light",
            "declared": "object", "exptime": 300.0, "time_sigma": 0.1, "latitude": -36.85, "longitude": 174.76, "height": 120.0,
            "ra": 253.841369932903, "dec": -41.120784078291, "pixel_scale": ARCSEC * 5.8 / 243, "binning": (2, 2),
            "gain": 0.239999994635582, "gain_setting": 100.0, "offset_setting": 50.0, "read_mode": "High Dynamic Range",
            "ccd_temperature": -9.9, "set_temperature": -10.0, "aperture": 4.5, "bayer": "GRBG",
        },
    ),
    "sharpcap": (
        SHARPCAP,
        "2025-03-19T22:52:04.3846323",
        {
            "instrument": "ZWO ASI183MC Pro", "imagetyp": "light", "declared": "object", "exptime": 10.0, "time_sigma": 0.1,
            "ra": 187.3498863705, "dec": 12.8925716003, "pixel_scale": ARCSEC * 4.8 / 600, "binning": (2, 2), "read_noise": 1.7,
            "gain_setting": 120.0, "offset_setting": 12.0, "ccd_temperature": -0.5, "bayer": "RGGB",
        },
    ),
    "sharpcap, before 3.2": (
        SHARPCAP_OLD,
        "2019-04-29T20:25:28.8219583",
        {"instrument": "ZWO ASI290MM Mini", "exptime": 2.0, "time_sigma": 0.1, "ccd_temperature": 12.7},
    ),
    "ekos": (
        EKOS,
        "2025-08-01T03:11:00.123",
        {
            "instrument": "EQMod Mount ZWO CCD ASI294MC Pro", "telescope": "EQMod Mount", "object": "NGC 7000", "filter": "L",
            "imagetyp": "light frame", "declared": "object", "exptime": 120.0, "time_sigma": 0.0005, "latitude": 43.6,
            "longitude": -79.4, "height": 0.0, "ra": 15 * (20 + 59 / 60 + 17 / 3600), "dec": 44 + 31 / 60 + 44 / 3600,
            "pixel_scale": ARCSEC * 9.26 / 400, "binning": (2, 2), "gain_setting": 120.0, "offset_setting": 30.0,
            "ccd_temperature": -10.0, "aperture": 5.0, "bayer": "GRBG",
        },
    ),
    "asiair": (
        ASIAIR,
        "2025-09-01T02:17:33.751879",
        {
            "instrument": "ZWO AM5 ZWO ASI2600MC Duo", "telescope": "ZWO AM5", "object": "M 31", "filter": "L-eXtreme",
            "imagetyp": "light", "declared": "object", "exptime": 300.0, "time_sigma": 0.5, "latitude": 41.43, "longitude": -74.0358,
            "height": 0.0, "ra": 11.0625, "dec": 41.404446, "pixel_scale": ARCSEC * 7.52 / 369, "binning": (2, 2), "gain": 0.77,
            "gain_setting": 0.0, "offset_setting": 50.0, "ccd_temperature": -10.1, "set_temperature": -10.0, "bayer": "RGGB",
        },
    ),
    "sgp": (
        SGP,
        "2020-05-30T00:23:04.0968820",
        {
            "instrument": "EQMOD ASCOM HEQ5/6 ZWO ASI294MC Pro", "telescope": "EQMOD ASCOM HEQ5/6", "object": "M57", "filter": "HaOIII",
            "imagetyp": "darkflat", "declared": "dark", "exptime": 30.0, "time_sigma": 0.1, "site_name": "Ghent", "latitude": 51.05,
            "longitude": 3 + 43 / 60, "height": 10.0, "ra": 283.395539831101, "dec": 33.0340625, "orientation": 258.37,
            "pixel_scale": 0.65415, "gain": 3.99000000953674, "gain_setting": 120.0, "offset_setting": 30.0,
            "ccd_temperature": -17.5, "set_temperature": -18.0,
        },
    ),
    "panoptes": (
        PANOPTES,
        "2016-09-09T08:13:26.2",
        {
            "instrument": "PANOPTES PAN001 XXXXXX", "telescope": "PAN001", "object": "KIC 8462852", "exptime": 120.4, "time_sigma": 60.0,
            "latitude": 19.54, "longitude": -155.58, "height": 3400.0, "ra": 301.56439, "dec": 44.456875, "saturation": 12277.0,
            "gain_setting": 100.0, "ccd_temperature": 11.0, "camera_serial": "012070048413", "bayer": "RGGB",
        },
    ),
    "microobservatory": (
        MICROOBSERVATORY,
        "2017-12-20T01:34:13.317",
        {
            "instrument": "MicroObservatory Cecilia Main", "telescope": "Cecilia", "object": "HATP-32", "filter": "Clear",
            "exptime": 60.0, "time_sigma": 0.0005, "site_name": "Whipple Observatory", "latitude": 31.68, "longitude": -110.88,
            "height": 2320.0, "ra": 31.312099, "dec": 46.769087, "pixel_scale": 5.21, "ccd_temperature": -2.15,
        },
    ),
    "lco": (
        LCO_RAW,
        "2019-02-05T01:13:10.104",
        {
            "instrument": "LCO lsc 1m0a fa15", "telescope": "1m0-05", "object": "AT2019abc", "filter": "rp", "imagetyp": "expose",
            "declared": "object", "exptime": 60.0, "time_sigma": 0.0005, "site_name": "LCO node at CTIO", "latitude": -30.167383,
            "longitude": -70.8047894, "height": 2201.0, "ra": 15 * (5 + 12 / 60 + 30.123 / 3600), "dec": -(10 + 20 / 60 + 30 / 3600),
            "orientation": 12.5, "pixel_scale": 0.389, "gain": 2.0, "read_noise": 7.635, "saturation": 64000.0,
            "read_mode": "full_frame", "ccd_temperature": -99.987, "set_temperature": -100.0,
            "trim": (10, 4100, 0, 2800), "overscan": (4119, 4140, 0, 2000),
        },
    ),
    "liverpool": (
        LIVERPOOL,
        "2014-02-03T23:29:06.246",
        {
            "instrument": "Liverpool Telescope IO:O", "telescope": "Liverpool Telescope", "object": "SN2014J", "filter": "SDSS-R",
            "imagetyp": "expose", "declared": "object", "exptime": 30.0, "time_sigma": 0.0005, "site_name": "Roque de los Muchachos",
            "latitude": 28.7624, "longitude": -17.8792, "height": 2363.0, "ra": 15 * (9 + 55 / 60 + 42.3 / 3600),
            "dec": 69 + 40 / 60 + 26 / 3600, "orientation": 90.1, "pixel_scale": 0.30374, "binning": (2, 2), "gain": 11.0,
            "read_noise": 8.0, "ccd_temperature": -109.15, "set_temperature": -110.15, "calibrated": ("bias", "flat"),
        },
    ),
    "camera_raw": (
        CAMERA_RAW,
        "2024-05-01T20:10:20.25",
        {
            "instrument": "Canon EOS 6D", "exptime": 30.0, "time_sigma": 0.005, "saturation": 15000.0, "black_level": 2048.0,
            "gain_setting": 1600.0, "ccd_temperature": 23.0, "lens": "EF135mm f/2L USM", "aperture": 2.8,
            "camera_serial": "012345678901", "bayer": "RGGB",
        },
    ),
}  # fmt: skip


def header_of(text: str) -> fits.Header:
    return fits.Header.fromstring("\n".join(line[:80] for line in text.splitlines()), sep="\n")


def read(text: str, **settings: Any) -> Facts:
    header = header_of(text)
    return facts(header, identify(header, definitions_from(settings)), SHAPE, "a.fits")


@pytest.mark.parametrize("writer", WRITERS)
def test_every_fact_of_a_writers_header(writer: str) -> None:
    text, mid, expected = WRITERS[writer]
    found = read(text)
    assert found.definition == writer.split(",")[0]
    reference = Time(mid, scale="utc")
    assert ((found.mid_jd1 - reference.jd1) + (found.mid_jd2 - reference.jd2)) * 86400 == pytest.approx(0.0, abs=1e-6)
    for fact, value in {**NOTHING, **expected}.items():
        wanted = pytest.approx(value, rel=1e-8) if isinstance(value, float) else value
        assert getattr(found, fact) == wanted, fact


def test_the_types_of_frames_in_each_writers_words() -> None:
    words = {
        "maxim_dl": {"Bias Frame": "bias", "Dark Frame": "dark", "Flat Field": "flat", "Light Frame": "object"},
        "nina": {"BIAS": "bias", "DARK": "dark", "DARKFLAT": "dark", "FLAT": "flat", "LIGHT": "object", "SNAPSHOT": "object"},
        "ekos": {"Bias Frame": "bias", "Dark Frame": "dark", "Flat Frame": "flat", "Light Frame": "object"},
        "asiair": {"Bias": "bias", "Dark": "dark", "Flat": "flat", "Light": "object"},
        "sgp": {"BIAS": "bias", "DARK": "dark", "FLAT": "flat", "LIGHT": "object"},
        "lco": {"BIAS": "bias", "DARK": "dark", "SKYFLAT": "flat", "LAMPFLAT": "flat", "EXPOSE": "object", "STANDARD": "object",
                "EXPERIMENTAL": "other", "GUIDE": "other"},
        "liverpool": {"BIAS": "bias", "DARK": "dark", "FLAT": "flat", "SKY-FLAT": "flat", "EXPOSE": "object", "ACQUIRE": "object"},
    }  # fmt: skip
    for writer, types in words.items():
        header = header_of(WRITERS[writer][0])
        key = "IMAGETYP" if "IMAGETYP" in header else "OBSTYPE"
        for word, kind in types.items():
            header[key] = word
            assert facts(header, identify(header), SHAPE).declared == kind, (writer, word)


def test_banzai_products_are_not_calibrated_again() -> None:
    found = read(BANZAI)
    assert (found.gain, found.calibrated, found.trim, found.overscan, found.notes) == (1.0, ("bias", "dark"), None, None, ())


def test_maxims_digits_of_jd_are_not_believed() -> None:
    assert read(MAXIM_DL).time_source == "DATE-OBS (start, UTC) + exptime/2"


def test_a_live_stack_is_noted_where_its_middle_is_not_half_its_exposure() -> None:
    text = SHARPCAP.replace("22:52:04.3846323", "22:57:49.9268129")
    found = read(text)
    assert found.time_source == "DATE-AVG (mid, UTC)"
    assert "DATE-OBS is -345.542 s from DATE-AVG" in found.notes[0]


def test_indi_without_a_telescope() -> None:
    text = "\n".join(line for line in EKOS.splitlines() if line[:8].strip() not in ("FOCALLEN", "APTDIA", "SCALE"))
    assert (read(text).pixel_scale, read(text).aperture) == (None, None)
    assert read(EKOS.replace("FOCALLEN=                  400", "FOCALLEN=                    0")).pixel_scale == pytest.approx(4.77585)


def test_a_camera_raw_whose_clock_has_no_offset() -> None:
    text = "\n".join(line for line in CAMERA_RAW.splitlines() if line[:8].strip() not in ("DATE-OBS", "TZOFFSET"))
    found = read(text, default={"utc_offset": 2.0})
    assert found.time_source == "DATE-LOC (start, UTC+2) + exptime/2"
    assert (found.mid_jd1, found.mid_jd2) == pytest.approx((read(CAMERA_RAW).mid_jd1, read(CAMERA_RAW).mid_jd2), abs=1e-9)


def test_dated_corrections_mend_a_built_in_definition() -> None:
    correction = {"seconds": 48.0, "reason": "the camera's clock against NTP", "from": "2016-09-01", "until": "2016-10-01"}
    found = read(PANOPTES, instrument=[{"name": "panoptes", "corrections": [correction]}], override={"time_sigma": 1.0})
    reference = Time("2016-09-09T08:14:14.2", scale="utc")
    assert ((found.mid_jd1 - reference.jd1) + (found.mid_jd2 - reference.jd2)) * 86400 == pytest.approx(0.0, abs=1e-6)
    assert found.notes == ("the clock was corrected by +48 s: the camera's clock against NTP",)
    assert found.time_sigma == 1.0


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "pixel_scale", "temperature"), [("unsolved.fits", None, 11.0), ("solved.fits.fz", pytest.approx(10.32, abs=0.01), 13.0)]
)
def test_real_panoptes_frames(shared_data: Path, name: str, pixel_scale: Any, temperature: float) -> None:
    # The second holds damaged cards (_RVAL1, _D1_1) before the good ones.
    path = shared_data / "bayer" / name
    header = read_header(path)
    found = facts(header, identify(header), (700, 700), path)
    assert (found.definition, found.bayer, found.filter, found.gain_setting) == ("panoptes", "RGGB", None, 100.0)
    assert (found.exptime, found.ccd_temperature, found.pixel_scale) == (120.4, temperature, pixel_scale)
    assert (found.has_wcs, found.notes) == (name.startswith("solved"), ())


@pytest.mark.realdata
@pytest.mark.parametrize(("night", "definition"), [("hatp32", "microobservatory"), ("skycamt", "lt_skycamt"), ("tircam2", "tircam2")])
def test_real_frames_are_told_by_their_headers(night_files: Callable[[str], list[Path]], night: str, definition: str) -> None:
    assert {identify(read_header(path)).name for path in night_files(night)} == {definition}


def run(*words: str) -> Any:
    """The command on its own."""
    app = typer.Typer()
    cli_header.register(app)
    # One command alone would be the whole program, without its name.
    app.command("nothing")(lambda: None)
    return CliRunner().invoke(app, ["header", *words])


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    import numpy as np

    path = tmp_path / "[bold]light 1.fits"
    fits.PrimaryHDU(np.zeros((20, 30), dtype=np.int16), header_of(NINA)).writeto(path)
    return path


def test_the_command_says_what_a_header_means(frame: Path, tmp_path: Path) -> None:
    config = tmp_path / "roof.toml"
    config.write_text("[override]\nread_noise = 1.5\n[default]\nsaturation = 65535.0\n", "utf-8")
    done = run(str(frame), "--config", str(config))
    assert done.exit_code == 0
    lines = [" ".join(line.split()) for line in done.output.splitlines()]
    assert lines[0] == str(frame)
    assert "definition nina: SWCREATE = 'N.I.N.A. 3.1.2.9001 x64' fits 'N.I.N.A.*'" in lines
    assert "middle 2026-07-28 11:15:09.962 UTC DATE-OBS (start, UTC) + exptime/2" in lines
    assert "gain 0.239999995 electron/ADU EGAIN (electron/step)" in lines
    assert "read_noise 1.5 electron [override]" in lines
    assert "saturation 65535 ADU [default]" in lines
    assert "lens -" in lines
    assert not [line for line in lines if line.startswith("missing: ")]


def test_the_command_names_what_is_missing(frame: Path) -> None:
    assert "missing: read noise is not in the header (looked for RDNOISE, " in run(str(frame)).output


def test_the_command_goes_on_after_a_bad_file(frame: Path, tmp_path: Path) -> None:
    bad = tmp_path / "a.fits"
    bad.write_bytes(b"SIMPLE  = nothing")
    done = run(str(bad), str(frame))
    assert done.exit_code == 1
    assert f"starledger: {bad}: " in done.stderr
    assert "definition nina" in done.stdout


def test_the_command_takes_folders(frame: Path) -> None:
    assert str(frame) in run(str(frame.parent)).stdout


def test_the_command_lists_definitions() -> None:
    done = run("--definitions")
    assert done.exit_code == 0
    assert [line for line in done.output.splitlines() if "CREATOR or SWCREATE or PROGRAM = Sequence Generator* or SGPro*" in line]


def test_the_command_without_anything_to_do() -> None:
    assert isinstance(run().exception, ConfigurationError)


def test_an_empty_folder_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    error = run(str(tmp_path)).exception
    assert isinstance(error, NothingToDo) and error.exit_code == 2 and str(error).startswith(f"{tmp_path}: no raw file")


@pytest.mark.parametrize(("step", "gain"), [(16, 0.24 / 16), (1, 0.24)])
def test_a_gain_for_a_step_of_the_converter_is_divided_where_pixels_show_larger_steps(tmp_path: Path, step: int, gain: float) -> None:
    import numpy as np

    path = tmp_path / "a.fits"
    fits.PrimaryHDU(step * np.arange(600, dtype=np.uint16).reshape(20, 30), header_of(NINA)).writeto(path)
    output = [" ".join(line.split()) for line in run(str(path)).output.splitlines()]
    assert [float(line.split()[1]) for line in output if line.startswith("gain ")] == [pytest.approx(gain, rel=1e-6)]
    assert any(line.startswith("note: EGAIN") and "stored in steps of 16 ADU" in line for line in output) == (step == 16)


def test_amplifiers_that_are_not_read_are_noted(tmp_path: Path) -> None:
    import numpy as np

    path = tmp_path / "a.fits"
    amplifiers = [fits.ImageHDU(np.full((20, 30), number, np.int16), name=f"AMP{number}") for number in range(4)]
    preview = fits.ImageHDU(np.zeros((2, 3), np.int16), name="PREVIEW")
    fits.HDUList([fits.PrimaryHDU(header=header_of(NINA)), *amplifiers, preview]).writeto(path)
    assert "note: the file holds 4 images, of which only the first is read: split it to use the others" in run(str(path)).output
