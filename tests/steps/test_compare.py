"""The comparison of archives sees what it is there to see."""

from __future__ import annotations

import compare
from mini_night import Work

from db.tables import Base


def test_sees_a_changed_value_a_missing_row_and_nothing_else(reduced: Work) -> None:
    before = compare.dump(reduced.url)
    assert compare.differences(before, compare.dump(reduced.url)) == []
    assert all(before[table] for table in ("task", "lineage", "product", "detection", "closed_measurement", "magfit_solution"))
    reduced.sql("UPDATE task SET attempts = attempts + 1, run_id = run_id")
    assert compare.differences(before, compare.dump(reduced.url)) == []
    reduced.sql("UPDATE detection_summary SET fwhm = fwhm * (1 + 1e-12)")
    assert compare.differences(before, compare.dump(reduced.url)) == []
    reduced.sql("UPDATE detection_summary SET fwhm = fwhm * (1 + 1e-7) WHERE frame_id = (SELECT max(frame_id) FROM detection_summary)")
    (line,) = compare.differences(before, compare.dump(reduced.url))
    assert line.startswith("detection_summary") and ": fwhm " in line
    reduced.sql("DELETE FROM detection WHERE number = 0")
    lines = [line for line in compare.differences(before, compare.dump(reduced.url)) if line.startswith("detection:")]
    assert lines[0].startswith("detection: only in the first") and lines[-1] == "detection: 8 differences"


def test_does_not_see_surrogate_keys(reduced: Work) -> None:
    before = compare.dump(reduced.url)
    row = reduced.sql("SELECT max(magfit_solution.reference_id) FROM magfit_solution")[0][0]
    for table in [table.name for table in Base.metadata.sorted_tables if "reference_id" in table.c]:
        reduced.sql(f"UPDATE {table} SET reference_id = reference_id + 40 WHERE reference_id = {row}")
    # Units of what is fitted to a reference have it in them.
    reduced.sql(f"UPDATE task SET unit = replace(unit, '{row}/', '{row + 40}/') WHERE step IN ('magnitude_fit', 'statistics')")
    reduced.sql(f"UPDATE task SET unit = '{row + 40}' WHERE step = 'standard_system' AND unit = '{row}'")
    assert compare.differences(before, compare.dump(reduced.url)) == []
