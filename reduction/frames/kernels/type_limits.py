"""The limits by which types of frames are told apart, each with its ground: how stars, sky, lamps and detectors are.

They were measured on simulated nights of six cameras and on real ones, and are held to others in the tests.
"""

from __future__ import annotations

from typing import Final

# Pixels of one frame
SAMPLE: Final = 200_000  # pixels that give level and noise: to 0.3 % of the noise
WINDOW: Final = 1024  # pixels a side searched for stars: enough to tell, and quick on large frames
BOX: Final = 16  # pixels a side of a background box
STAR_SIGMA: Final = 6.0  # above the smoothed noise: none expected by chance in 10^7 pixels
STAR_WIDTH: Final = 0.25  # fourth-brightest of the 3x3 pixels over the brightest: 0 for a hot pixel, 0.3 or more for FWHM of 1.5
STAR_SIDES: Final = 0.12  # mean of two opposite neighbours over the brightest, across and along: a particle's track is bright along only
STAR_CORNERS: Final = 0.04  # the same for opposite corners
OTHER_GREEN: Final = 0.04  # third-brightest of the four other greens around a green pixel over its own: 0.08 for FWHM of 1.5
DONUT_BIN: Final = 4  # pixels a side that are added up to find stars far out of focus
MOST_PEAKS: Final = 300
GRID: Final = 8  # boxes a side that show the shape of the light
PROBE: Final = 16  # pixels a side whose values are kept: differences of two frames show the noise without fixed pattern
PILE: Final = 10  # pixels at the very same maximum that make a pile-up

# Star-like peaks of a set
SOME_STARS: Final = 3  # chance makes one or two
FEW_STARS: Final = 5  # so many, or more: an object frame perhaps, whatever its header declares
MANY_STARS: Final = 20  # so many, or more: stars, whatever type the header declares
SAME_PIXEL: Final = 2.5  # pixel: a defect stays where it is
LONGER: Final = 2.0  # ratio of exposure times at which a star must have grown and a defect has not

# Exposure times, s
TRUE_DARK: Final = 0.1  # no dark is shorter
INSTANT: Final = 1.0  # the night sky adds nothing
SHORT: Final = 5.0  # much shorter than a minute: a bias frame's
FLAT_LENGTH: Final = 30.0  # flats are shorter
TWILIGHT_LENGTH: Final = 60.0  # in twilight too

# Light over the noise of a pixel
SHAPED: Final = 3.0  # shows the shape of the light
USABLE: Final = 10.0  # of a usable flat
CLEAR: Final = 10.0  # no accident

SPOT: Final = 300.0  # of a star-like peak: no particle and no defect is as bright and as round
SPOT_SKY: Final = 30.0  # and so many times all other light: the sky of such a frame is no flat's

# Light over the camera's range, over the sky's, over time
DEEP: Final = 0.1  # of the range of the camera: dark current does not reach it, a flat does
FAINT: Final = 0.3  # of the faintest sky with stars: less is no sky
ABOVE_SKY: Final = 1.5  # of the faintest sky with stars: frames with stars hold dark current too, so that what is brighter is none
ELECTRON_RATE: Final = 5.0  # electron/s a pixel at least: more than dark current
FLOOD: Final = 50.0  # electron/s a pixel at least: more than a warm camera's dark current
UNLIT: Final = 0.1  # of what frames with stars have more, by its shape: less is no light
STEADY: Final = 0.01  # scatter of the excess of darks among themselves

# Light per second over that of the brightest sky with stars
BRIGHTER: Final = 2.0  # not the night sky
CLOUDS: Final = 10.0  # no clouds, with or without the Moon
LAMP: Final = 100.0  # no cloud where the Sun is down

# The sky
TWILIGHT: Final = -10.0  # degrees: with the Sun above, the sky is brighter than the Moon makes it
# R/G, B/G and B/R of twilight and day, from 6,000 K haze to the deep blue at the zenith, through the filters of many cameras
RED: Final = (0.15, 0.85)
BLUE: Final = (0.5, 1.5)
SLOPE: Final = 0.85

# Sets of frames
TRUST: Final = 0.1  # fraction of declared types that may be wrong
PARTNERS: Final = 40  # frames nearest in level whose pixels are compared
WITNESSES: Final = 6  # frames of each exposure time that show where defects are
