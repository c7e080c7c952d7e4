"""Values written into a FITS card and read back, whatever they are."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from reduction.headers.values import digits_of, number, number_and_unit, section, sexagesimal

finite = st.floats(-1e300, 1e300, allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(finite, st.sampled_from(["", " s", "C", " %", " ms"]))
def test_a_number_with_its_unit_is_read_as_written(value: float, unit: str) -> None:
    for written in (repr(value), f"{value:.17E}", f"{value:.17E}".replace("E", "D")):
        assert number_and_unit(written + unit) == (value, unit.strip())


@settings(max_examples=100, deadline=None)
@given(st.one_of(finite, st.integers(-(10**15), 10**15)))
def test_digits_of_a_card_are_the_number(value: float) -> None:
    header = fits.Header.fromstring(fits.Header([("EXPTIME", value, "a remark / with a slash")]).tostring())
    assert number(digits_of(header, "EXPTIME")) == number(header["EXPTIME"]) == pytest.approx(value, rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.integers(-359, 359), st.integers(0, 59), st.integers(0, 59_999), st.sampled_from([":", " "]))
def test_sexagesimal_is_the_sum_of_its_fields(whole: int, minutes: int, milli: int, between: str) -> None:
    sign = -1 if whole < 0 else 1
    written = f"{'-' if sign < 0 else ''}{abs(whole):02d}{between}{minutes:02d}{between}{milli / 1000:06.3f}"
    assert sexagesimal(written) == pytest.approx(sign * (abs(whole) + minutes / 60 + milli / 3.6e6), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-2, 25), min_size=4, max_size=4), st.integers(1, 20), st.integers(1, 20))
def test_a_section_cuts_what_fits_counts(edges: list[int], ny: int, nx: int) -> None:
    x1, x2, y1, y2 = edges
    found = section(f"[{x1}:{x2},{y1}:{y2}]", (ny, nx))
    # Pixels with FITS numbers in the section, of an image of that shape.
    y, x = np.mgrid[1 : ny + 1, 1 : nx + 1]
    inside = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
    whole = x1 <= x2 and y1 <= y2 and np.count_nonzero(inside) == (x2 - x1 + 1) * (y2 - y1 + 1)
    assert (found is not None) == whole
    if found is not None:
        cut = np.zeros((ny, nx), bool)
        cut[found[2] : found[3], found[0] : found[1]] = True
        assert np.array_equal(cut, inside)
