"""ECSV that is written without astropy, read by astropy: the same as what astropy itself would have written."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from astropy.table import QTable, Table
from hypothesis import given
from hypothesis import strategies as st
from small_archive import SmallArchive

from db.views import VIEW_COLUMNS
from queries.lightcurve import find_curve
from starledger.ecsv import ecsv_text
from starledger.quantities import quantities


@pytest.mark.parametrize("kind", [QTable, Table])
@pytest.mark.parametrize("star", [0, 2], ids=["measured", "without magnitudes"])
def test_a_curve_is_read_as_astropy_would_have_written_it(small: SmallArchive, kind: type[Table], star: int) -> None:
    with small.engine.connect() as connection:
        curve = find_curve(connection, int(small.source_id[star]))
    theirs = quantities(curve.frame, VIEW_COLUMNS)
    theirs.meta.update(curve.meta)
    stream = io.StringIO()
    theirs.write(stream, format="ascii.ecsv")
    expected = kind.read(stream.getvalue(), format="ascii.ecsv")
    found = kind.read(ecsv_text(curve.columns, VIEW_COLUMNS, curve.meta), format="ascii.ecsv")
    assert found.colnames == expected.colnames == list(VIEW_COLUMNS)
    assert dict(found.meta) == dict(expected.meta) == curve.meta and list(found.meta) == list(expected.meta)
    for name in found.colnames:
        mine, other = found[name], expected[name]
        assert (type(mine), mine.dtype, mine.unit) == (type(other), other.dtype, other.unit) if hasattr(mine, "unit") else True
        assert mine.info.description == other.info.description == VIEW_COLUMNS[name][1]
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(other))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXT
META = st.dictionaries(
    TEXT.filter(bool), PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(st.integers(0, 99) | TEXT, PLAIN, max_size=3)
)


@given(META)
def test_any_meta_comes_back(meta: dict[str, Any]) -> None:
    found = Table.read(ecsv_text({"a": np.array([1])}, {"a": ("", "one")}, meta), format="ascii.ecsv")
    assert dict(found.meta) == meta


#: astropy strips what it reads.
WORD = st.text(st.characters(min_codepoint=32, max_codepoint=0x17F, exclude_categories=["Cc"]), min_size=1).map(str.strip).filter(bool)


@given(st.lists(st.tuples(st.floats(), WORD), min_size=1))
def test_any_value_comes_back(values: list[tuple[float, str]]) -> None:
    numbers, words = zip(*values, strict=True)
    rows = {"number": np.array(numbers), "word": np.array(words, dtype=object)}
    found = Table.read(ecsv_text(rows, {"number": ("mag", "a number"), "word": ("", "a word")}, {}), format="ascii.ecsv")
    np.testing.assert_array_equal(found["number"], rows["number"])
    assert found["word"].tolist() == rows["word"].tolist()


def test_other_meta_is_refused() -> None:
    with pytest.raises(TypeError, match="no YAML for complex"):
        ecsv_text({"a": np.array([1])}, {"a": ("", "one")}, {"b": 1j})
