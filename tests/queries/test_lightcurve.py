"""The light curve of a source as a data frame."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from small_archive import SLOTS, SmallArchive

from db.views import VIEW_COLUMNS
from queries.lightcurve import curve_columns, light_curve, nights_of, slot_text


def test_columns_order_types_and_values(small: SmallArchive) -> None:
    with small.engine.connect() as connection:
        frame = light_curve(connection, small.target)
    assert list(frame.columns) == list(VIEW_COLUMNS)
    order = np.argsort(small.bjd_tdb[:, 0])
    np.testing.assert_allclose(frame["bjd_tdb"], small.bjd_tdb[order, 0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(frame["mag"], small.mag[order, 0], rtol=0, atol=3e-7)
    np.testing.assert_array_equal(frame["frame_id"], small.frame_id[order])
    np.testing.assert_array_equal(frame["flags"], small.flags[order, 0])
    assert {str(kind) for name, kind in frame.dtypes.items() if name.endswith("_id") or name in ("slot", "flags", "quality", "n_fit")} == {
        "int64"
    }
    assert str(frame["mag"].dtype) == "float64" and pd.api.types.is_string_dtype(frame["passband"])
    assert frame["source_id"].unique().tolist() == [small.target]


@pytest.mark.parametrize("slot", SLOTS)
def test_a_slot_of_ones_choice(small: SmallArchive, slot: int) -> None:
    with small.engine.connect() as connection:
        best, chosen = light_curve(connection, small.target), light_curve(connection, small.target, slot=slot)
        assert slot_text(connection, 1, slot) == f"circular aperture, radius {4 * slot} pixel"
    assert set(best["slot"]) == {1} and set(chosen["slot"]) == {slot}
    np.testing.assert_allclose(chosen["mag"], best["mag"], atol=3e-7)
    assert (chosen["mag_err"] > best["mag_err"]).all() == (slot == 2)


@pytest.mark.parametrize("slot", [None, *SLOTS])
def test_every_column_is_that_of_the_view(small: SmallArchive, slot: int | None) -> None:
    """It is computed from arrays: the last digits of powers and logarithms may be others than the database's."""
    view, of_slot = ("light_curve", "") if slot is None else ("light_curve_all", f" AND slot = {slot}")
    with small.engine.connect() as connection:
        for source_id in small.source_id[:6].tolist():
            found = curve_columns(connection, source_id, slot=slot)
            query = f"SELECT {', '.join(VIEW_COLUMNS)} FROM {view} WHERE source_id = {source_id}{of_slot} ORDER BY bjd_tdb, frame_id"
            rows = connection.execute(sa.text(query)).all()
            assert len(rows) == len(found["mag"]) > 0
            for name, values in zip(VIEW_COLUMNS, zip(*rows, strict=True), strict=True):
                if name == "passband":
                    assert found[name].tolist() == list(values)
                elif found[name].dtype == np.int64:
                    assert found[name].tolist() == list(values), name
                else:
                    np.testing.assert_allclose(found[name], np.array(values, dtype=float), rtol=2e-15, atol=0, err_msg=name)


def test_null_becomes_nan(small: SmallArchive) -> None:
    with small.engine.connect() as connection:
        frame = light_curve(connection, int(small.source_id[2]))
    negative = frame[frame["frame_id"] == 2].iloc[0]
    assert negative["flux"] < 0 and np.isnan([negative["mag"], negative["mag_err"], negative["mag_err_total"]]).all()
    assert frame["mag"].notna().sum() == len(frame) - 1


def test_nights_are_asked_for_or_found(small: SmallArchive) -> None:
    with small.engine.connect() as connection:
        assert nights_of(connection, small.target) == (6562, 6563)
        frame = light_curve(connection, small.target, nights=(6562, 6562))
        assert len(light_curve(connection, small.target, nights=(1, 2))) == 0
    assert set(frame["night_id"]) == {6562} and len(frame) == (small.night_id == 6562).sum()


def test_unknown_sources_and_slots_have_no_points(small: SmallArchive) -> None:
    with small.engine.connect() as connection:
        for frame in (light_curve(connection, 1), light_curve(connection, small.target, slot=7)):
            assert frame.empty and list(frame.columns) == list(VIEW_COLUMNS) and str(frame["mag"].dtype) == "float64"
        assert slot_text(connection, 1, 7) == ""


def test_both_engines_agree(pair: dict[str, SmallArchive]) -> None:
    frames = []
    for archive in pair.values():
        with archive.engine.connect() as connection:
            frames.append(light_curve(connection, archive.target))
    pd.testing.assert_frame_equal(*frames, rtol=1e-12)


def test_a_light_curve_is_read_by_key(small: SmallArchive) -> None:
    sqlite = small.engine.dialect.name == "sqlite"
    with small.engine.connect() as connection:
        if not sqlite:
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for view in ("light_curve", "light_curve_all"):
            query = f"EXPLAIN {'QUERY PLAN' if sqlite else ''} SELECT * FROM {view} WHERE source_id = {small.target} AND night_id = 6562"
            plan = "\n".join(str(row[-1]) for row in connection.execute(sa.text(query)))
            # A frame's solutions in all slots stand together by frame; that of the best slot is one of the key.
            fit = "pk_magfit_solution" if view == "light_curve" else "magfit_solution"
            found = "SEARCH q USING PRIMARY KEY" if view == "light_curve" else "SEARCH q USING "
            wanted = ("SEARCH closed_measurement USING PRIMARY KEY", found) if sqlite else ("measurement_n6560_pkey", fit)
            assert all(text in plan for text in wanted), plan
            if not sqlite:
                assert "measurement_n6528" not in plan
