"""What a header says of the highest value: a level at which pixels saturate, or only the brightest pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from reduction.files.fits import RawImage
from reduction.frames.stated_maximum import with_stated_maximum
from reduction.headers.facts import Facts, facts
from reduction.headers.instrument import definitions_from, identify


def image(**cards: object) -> RawImage:
    data = np.arange(400, dtype=np.float32).reshape(20, 20)
    header = fits.Header({"EXPTIME": 10.0, "DATE-OBS": "2026-03-01T20:00:00", **cards})
    return RawImage(data, header, integer=True, quantum=1.0, hdu=0)


def told(raw: RawImage) -> Facts:
    definition = identify(raw.header, definitions_from({}))
    return with_stated_maximum(facts(raw.header, definition, raw.data.shape, Path("a.fits"), quantum=1.0), raw)


@pytest.mark.parametrize("keyword", ["SATURATE", "SATLEVEL", "SATLVL", "SATURAT", "CCDSATUR", "MAXADU", "MAXLIN", "DATAMAX"])
def test_a_level_is_taken_under_its_usual_names(keyword: str) -> None:
    assert told(image(**{keyword: 60000})).saturation == 60000.0


def test_the_brightest_pixel_is_no_level() -> None:
    assert told(image(DATAMAX=399)).saturation is None
    assert told(image(DATAMAX=300)).saturation is None
    assert told(image(DATAMAX="high")).saturation is None
    assert told(image(DATAMAX=500, SATURATE=450)).saturation == 450.0
    piled = image(DATAMAX=390)
    np.minimum(piled.data, 390.0, out=piled.data)
    assert told(piled).saturation == 390.0
