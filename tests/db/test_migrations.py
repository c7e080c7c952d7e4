"""Migrations keep what an archive holds, on both engines."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from db import schema
from db.engine import altering, is_sqlite, make_engine

NOW = dt.datetime(2026, 1, 1)
TYPE = {"type": "object", "type_reason": "stars", "type_confidence": 0.9}


@pytest.fixture
def engine(archive_url: str) -> Iterator[sa.Engine]:
    engine = make_engine(archive_url, writer=True)
    yield engine
    engine.dispose()


def put(engine: sa.Engine, table: str, **values: Any) -> None:
    """Insert a row into a table as it is in the database now."""
    model = sa.Table(table, sa.MetaData(), autoload_with=engine)
    rest = {c.name: "" if isinstance(c.type, sa.String) else 0 for c in model.c if not c.nullable and not isinstance(c.type, sa.DateTime)}
    with engine.begin() as connection:
        connection.execute(sa.insert(model).values({**rest, **values}))


def rows(engine: sa.Engine, text: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(text))]


def fill_first_revision(engine: sa.Engine) -> None:
    put(engine, "config", config_id=1, kind="step", content="{}")
    put(engine, "run", run_id=1, started=NOW)
    for task_id in (1, 2):
        put(engine, "task", task_id=task_id, config_id=1, run_id=1, status="done", unit=str(task_id), input_hash=str(task_id), finished=NOW)
    put(engine, "instrument", instrument_id=4, name="camera", nx=9, ny=8)
    put(engine, "passband", passband_id=1, name="V")
    put(engine, "night", night_id=7)
    put(engine, "product", product_id=1, task_id=1, kind="bias", path="bias/1.fits")
    put(engine, "product", product_id=2, task_id=2, kind="calibrated", path="calibrated/1.fits")
    put(engine, "exposure", exposure_id=1, instrument_id=4, night_id=7, task_id=1, gain=1.5)
    put(engine, "frame", frame_id=1, exposure_id=1, channel="mono", night_id=7, instrument_id=4, passband_id=1, nx=9, ny=8, **TYPE)
    put(engine, "task", task_id=3, step="sort", config_id=1, run_id=1, status="done", unit="1", input_hash="3", frame_id=1, finished=NOW)
    put(engine, "master", master_id=1, kind="bias", instrument_id=4, night_id=7, channel="mono", product_id=1, task_id=1, jd_utc=2460000.0)
    put(engine, "calibrated_frame", frame_id=1, bias_master_id=1, product_id=2, task_id=2)
    put(engine, "frame_statistics", frame_id=1, statistics="{}", task_id=1)
    put(engine, "detector", instrument_id=4, night_id=7, task_id=1, gain=1.5)


def test_rows_of_one_night_survive_the_way_up_and_down(engine: sa.Engine) -> None:
    schema.upgrade(engine, "0001")
    fill_first_revision(engine)
    schema.upgrade(engine)
    assert schema.differences(engine) == []
    assert rows(engine, "SELECT setup_id, instrument_id, binning_x, gain_setting FROM setup") == [(4, 4, 1, None)]
    assert rows(engine, "SELECT frame_id, setup_id, raw_x0, raw_step FROM frame") == [(1, 4, 0, 1)]
    assert rows(engine, "SELECT frame_id, type, reason, evidence, task_id FROM classification") == [(1, "object", "stars", None, 3)]
    assert rows(engine, "SELECT master_id, setup_id, valid_from, max_ratio FROM master") == [(1, 4, 2459999.0, 1.0)]
    assert rows(engine, "SELECT frame_id, bias_master_id, n_cosmic, product_id FROM calibrated_frame") == [(1, 1, 0, 2)]
    assert rows(engine, "SELECT gain, duplicate_of FROM exposure") == [(1.5, None)]
    schema.downgrade(engine, "0001")
    assert rows(engine, "SELECT frame_id, instrument_id, type FROM frame") == [(1, 4, "object")]
    assert rows(engine, "SELECT master_id, instrument_id, kind FROM master") == [(1, 4, "bias")]
    assert rows(engine, "SELECT frame_id, bias_master_id, product_id FROM calibrated_frame") == [(1, 1, 2)]
    schema.upgrade(engine)
    assert schema.differences(engine) == []


def test_downgrading_drops_what_the_older_schema_has_no_place_for(engine: sa.Engine) -> None:
    schema.upgrade(engine, "0001")
    fill_first_revision(engine)
    schema.upgrade(engine)
    put(engine, "master", master_id=2, kind="largescale", setup_id=4, night_id=7, product_id=1, task_id=1)
    put(engine, "master_frame", master_id=2, frame_id=1)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE calibrated_frame SET product_id = NULL"))
    schema.downgrade(engine, "0001")
    assert rows(engine, "SELECT master_id FROM master") == [(1,)]
    assert rows(engine, "SELECT * FROM calibrated_frame") == rows(engine, "SELECT * FROM master_frame") == []


def test_catalogues_of_before_are_files_and_services_are_dropped_on_the_way_down(engine: sa.Engine) -> None:
    schema.upgrade(engine, "0002")
    put(engine, "config", config_id=1, kind="step", content="{}")
    put(engine, "run", run_id=1, started=NOW)
    put(engine, "task", task_id=1, config_id=1, run_id=1, status="done", finished=NOW)
    put(engine, "catalogue", catalogue_id=1, name="stars.csv", sha256="one", ra=31.0, dec=46.0, radius=1.5, epoch=2000.0, task_id=1)
    put(engine, "source", source_id=2**62, ra=31.0, task_id=1, origin="catalogue", fit_mag=9.0)
    put(engine, "source_magnitude", source_id=2**62, catalogue_id=1, band="V", value=9.0)
    schema.upgrade(engine)
    assert rows(engine, "SELECT catalogue_id, kind, name, radius FROM catalogue") == [(1, "file", "stars.csv", 1.5)]
    assert rows(engine, "SELECT source_id, position_err, fit_mag FROM source") == [(2**62, None, 9.0)]
    put(engine, "catalogue", catalogue_id=2, kind="service", name="Gaia DR3", sha256="two", task_id=1)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE catalogue SET ra = NULL, dec = NULL, radius = NULL WHERE catalogue_id = 2"))
    put(engine, "catalogue_coverage", catalogue_id=2, lo=2**60, hi=2**61, magnitude_limit=15.0, task_id=1)
    put(engine, "source_magnitude", source_id=2**62, catalogue_id=2, band="G", value=8.9)
    put(engine, "source_link", source_id=2**62, catalogue_id=2, gaia_id=2**61)
    put(engine, "source_neighbour", source_id=2**62, neighbour_id=1)
    schema.downgrade(engine, "0002")
    assert rows(engine, "SELECT catalogue_id, name, ra FROM catalogue") == [(1, "stars.csv", 31.0)]
    assert rows(engine, "SELECT catalogue_id, band FROM source_magnitude") == [(1, "V")]
    assert rows(engine, "SELECT source_id, fit_mag FROM source") == [(2**62, 9.0)]
    schema.upgrade(engine)
    assert rows(engine, "SELECT source_id FROM source") == [(2**62,)]


def test_targets_of_before_were_given_by_a_person(engine: sa.Engine) -> None:
    schema.upgrade(engine, "0006")
    put(engine, "target", target_id=1, name="HAT-P-32 b", ra=31.0, dec=46.0, period=2.15, created=NOW)
    schema.upgrade(engine, "0007")
    assert rows(engine, "SELECT name, period, position_from, ephemeris_from FROM target") == [("HAT-P-32 b", 2.15, None, None)]
    put(engine, "target", target_id=2, name="RR Lyr", position_from="SIMBAD", ephemeris_from="VSX", created=NOW)
    schema.downgrade(engine, "0006")
    assert rows(engine, "SELECT target_id, name FROM target ORDER BY 1") == [(1, "HAT-P-32 b"), (2, "RR Lyr")]
    with pytest.raises(sa.exc.IntegrityError):
        put(engine, "target", target_id=3, name="RR Lyr", created=NOW)
    schema.upgrade(engine)
    assert rows(engine, "SELECT ephemeris_from FROM target") == [(None,), (None,)]


def test_rows_that_refer_to_nothing_stop_a_migration(engine: sa.Engine) -> None:
    if not is_sqlite(engine):
        pytest.skip("PostgreSQL checks every row itself")
    schema.upgrade(engine)
    with pytest.raises(RuntimeError, match="2 references to rows that are not there"), altering(engine) as connection:
        connection.execute(sa.text("INSERT INTO master_frame (master_id, frame_id, used) VALUES (5, 5, 1)"))
    assert rows(engine, "SELECT count(*) FROM master_frame") == [(0,)]
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_plate_solutions_survive_the_way_up_and_down(engine: sa.Engine) -> None:
    schema.upgrade(engine, "0003")
    put(engine, "config", config_id=1, kind="step", content="{}")
    put(engine, "run", run_id=1, started=NOW)
    put(engine, "task", task_id=1, config_id=1, run_id=1, status="done", unit="1", input_hash="1", finished=NOW)
    put(engine, "instrument", instrument_id=4, name="camera", nx=9, ny=8)
    put(engine, "setup", setup_id=4, instrument_id=4)
    put(engine, "passband", passband_id=1, name="V")
    put(engine, "night", night_id=7)
    put(engine, "exposure", exposure_id=1, instrument_id=4, night_id=7, task_id=1)
    ids = {"exposure_id": 1, "setup_id": 4, "night_id": 7, "instrument_id": 4, "passband_id": 1}
    put(engine, "frame", frame_id=1, channel="mono", **ids)
    put(engine, "wcs_solution", frame_id=1, ra0=31.0, coeff="{}", n_matched=45, start="pointing", task_id=1)
    schema.upgrade(engine)
    assert schema.differences(engine) == []
    assert rows(engine, "SELECT frame_id, ra0, n_matched, start, chance FROM first_solution") == [(1, 31.0, 45, "pointing", None)]
    assert rows(engine, "SELECT frame_id, n_matched, distortion, n_secondary, fits FROM wcs_solution") == [(1, 45, "own", 0, None)]
    schema.downgrade(engine, "0003")
    assert rows(engine, "SELECT frame_id, ra0, n_matched, start FROM wcs_solution") == [(1, 31.0, 45, "pointing")]
    schema.upgrade(engine)
    assert schema.differences(engine) == []


#: What steps wrote of a frame into its row.
_OF_FRAME = {
    "type": "object",
    "type_reason": "stars",
    "type_confidence": 0.9,
    "type_evidence": "{}",
    "type_disagrees": 0,
    "fwhm": 2.5,
    "n_detection": 300,
    "field_id": 5,
    "airmass": 1.2,
    "moon_separation": 90.0,
    "sky_level": 20.0,
    "sky_noise": 1.1,
    "n_measured": 40,
    "measure_task": 13,
    "zero_point": 21.0,
    "zero_point_scatter": 0.02,
    "n_zero_point": 30,
    "limiting_mag": 16.5,
}
_KEPT = f"SELECT {', '.join(_OF_FRAME)} FROM frame ORDER BY frame_id"


def fill_fourth_revision(engine: sa.Engine) -> None:
    """Frame 1 is reduced, 2 failed when its stars were looked for again and was retired, of 3 nothing is known."""
    put(engine, "config", config_id=1, kind="step", content="{}")
    put(engine, "run", run_id=1, started=NOW)
    tasks = [(10, "sort", 1, "done"), (11, "extract", 1, "done"), (12, "field", 1, "done"), (13, "photometry", 1, "done")]
    tasks += [(9, "background", 1, "done"), (15, "sort", 1, "superseded")]
    tasks += [(20, "sort", 2, "done"), (21, "extract", 2, "superseded"), (22, "field", 2, "superseded"), (23, "extract", 2, "failed")]
    tasks += [(24, "field", 2, "superseded")]
    for task_id, step, frame, status in tasks:
        values = {"step": step, "frame_id": frame, "status": status, "unit": str(frame), "input_hash": str(task_id)}
        put(engine, "task", task_id=task_id, config_id=1, run_id=1, finished=NOW, **values)
    put(engine, "instrument", instrument_id=4, name="camera", nx=9, ny=8)
    put(engine, "setup", setup_id=4, instrument_id=4)
    put(engine, "passband", passband_id=1, name="V")
    put(engine, "night", night_id=7)
    put(engine, "field", field_id=5, instrument_id=4, passband_id=1)
    put(engine, "product", product_id=1, task_id=9, kind="background", path="background/1.fits")
    unmeasured = dict.fromkeys(list(_OF_FRAME)[10:])
    for frame_id, known in ((1, _OF_FRAME), (2, _OF_FRAME | unmeasured), (3, {})):
        put(engine, "exposure", exposure_id=frame_id, sha256=str(frame_id), instrument_id=4, night_id=7, task_id=10)
        ids = {"exposure_id": frame_id, "setup_id": 4, "night_id": 7, "instrument_id": 4, "passband_id": 1}
        put(engine, "frame", frame_id=frame_id, channel="mono", **ids, **known)
    put(engine, "frame_background", frame_id=1, level=20.0, noise=1.1, product_id=1, task_id=9)


def test_columns_of_frames_move_to_the_tables_of_their_steps_and_back(engine: sa.Engine) -> None:
    schema.upgrade(engine, "0004")
    fill_fourth_revision(engine)
    before = rows(engine, _KEPT)
    schema.upgrade(engine)
    assert schema.differences(engine) == []
    assert rows(engine, "SELECT * FROM classification ORDER BY frame_id") == [
        (1, "object", "stars", 0.9, "{}", 0, 10), (2, "object", "stars", 0.9, "{}", 0, 20)
    ]  # fmt: skip
    # What failed the last time was made by the task before.
    query = "SELECT frame_id, fwhm, n_detection, task_id FROM detection_summary ORDER BY frame_id"
    assert rows(engine, query) == [(1, 2.5, 300, 11), (2, 2.5, 300, 21)]
    query = "SELECT frame_id, field_id, airmass, moon_separation, task_id FROM frame_field ORDER BY frame_id"
    assert rows(engine, query) == [(1, 5, 1.2, 90.0, 12), (2, 5, 1.2, 90.0, 24)]
    names = "n_source, zero_point, zero_point_scatter, n_zero_point, limiting_mag"
    assert rows(engine, f"SELECT frame_id, {names}, task_id FROM frame_photometry") == [(1, 40, 21.0, 0.02, 30, 16.5, 13)]
    views = "type, type_reason, type_confidence, fwhm, n_detection, field_id, airmass, moon_separation, sky_level, sky_noise, n_measured"
    quality = rows(engine, f"SELECT {views}, zero_point FROM frame_quality ORDER BY frame_id")
    assert quality[0] == ("object", "stars", 0.9, 2.5, 300, 5, 1.2, 90.0, 20.0, 1.1, 40, 21.0)
    assert quality[2] == (None,) * 12
    schema.downgrade(engine, "0004")
    assert rows(engine, _KEPT) == before
    assert "classification" not in sa.inspect(engine).get_table_names()
    schema.upgrade(engine)
    assert schema.differences(engine) == []


def test_measurements_of_before_are_of_closed_nights_and_open_ones_are_kept_on_the_way_down(engine: sa.Engine) -> None:
    schema.upgrade(engine, "0015")
    with engine.begin() as connection:
        if not is_sqlite(engine):
            connection.exec_driver_sql("CREATE TABLE measurement_n6560 PARTITION OF measurement FOR VALUES FROM (6560) TO (6592)")
    for frame_id in (1, 2):
        put(engine, "measurement", source_id=2**60, night_id=6562, frame_id=frame_id, flux_1=1.5 * frame_id)
    put(engine, "config", config_id=1, kind="step", content="{}")
    put(engine, "run", run_id=1, started=NOW)
    schema.upgrade(engine)
    assert schema.differences(engine) == [] and schema.other_views(engine) == []
    assert rows(engine, "SELECT frame_id, flux_1 FROM closed_measurement ORDER BY 1") == [(1, 1.5), (2, 3.0)]
    put(engine, "open_measurement", source_id=2**60, night_id=7000, frame_id=3, flux_1=4.5)
    put(engine, "closed_measurement", source_id=2**60, night_id=6563, frame_id=4, flux_1=6.0)
    task = {"step": "source_order", "config_id": 1, "run_id": 1, "status": "done", "finished": NOW}
    put(engine, "task", task_id=1, unit="6562", input_hash="1", **task)
    put(engine, "lineage", task_id=1, input_task_id=1)
    everything = [(1, 1.5), (2, 3.0), (3, 4.5), (4, 6.0)]
    assert rows(engine, "SELECT frame_id, flux_1 FROM measurement ORDER BY 1") == everything
    schema.downgrade(engine, "0015")
    assert rows(engine, "SELECT frame_id, flux_1 FROM measurement ORDER BY 1") == everything
    assert rows(engine, "SELECT task_id FROM task") == rows(engine, "SELECT task_id FROM lineage") == []
    assert not {"open_measurement", "closed_measurement"} & set(sa.inspect(engine).get_table_names())
    schema.upgrade(engine)
    assert schema.differences(engine) == []
    assert rows(engine, "SELECT frame_id, flux_1 FROM closed_measurement ORDER BY 1") == everything


def test_solutions_from_before_groups_of_terms_count_whole(engine: sa.Engine) -> None:
    schema.upgrade(engine, "0015")
    put(engine, "magfit_solution", frame_id=1, reference_id=1, slot=0, fold=2, c_const=0.5, c_xxy=0.25, c_mag=0.125)
    schema.upgrade(engine, "0018")
    kept = "c_const, c_xxy, c_mag"
    assert rows(engine, f"SELECT {kept}, term_groups, c_background, c_psf_peak FROM magfit_solution") == [(0.5, 0.25, 0.125, 3, 0.0, 0.0)]
    assert not any(column["default"] for column in sa.inspect(engine).get_columns("magfit_solution"))
    schema.downgrade(engine, "0015")
    assert rows(engine, f"SELECT {kept} FROM magfit_solution") == [(0.5, 0.25, 0.125)]


def test_references_from_before_folds_stand_until_there_are_new_ones(engine: sa.Engine) -> None:
    schema.upgrade(engine, "0016")
    put(engine, "config", config_id=1, kind="step", content="{}")
    put(engine, "run", run_id=1, started=NOW)
    task = {"config_id": 1, "run_id": 1, "status": "done", "finished": NOW}
    put(engine, "task", task_id=1, step="magnitude_fit", unit="1", input_hash="1", **task)
    put(engine, "instrument", instrument_id=4, name="camera", nx=9, ny=8)
    put(engine, "passband", passband_id=1, name="V")
    put(engine, "night", night_id=7)
    put(engine, "field", field_id=1, instrument_id=4, passband_id=1)
    put(engine, "exposure", exposure_id=1, instrument_id=4, night_id=7, task_id=1)
    put(engine, "setup", setup_id=1, instrument_id=4)
    put(engine, "frame", frame_id=1, exposure_id=1, channel="mono", setup_id=1, night_id=7, instrument_id=4, passband_id=1, nx=9, ny=8)
    put(engine, "source", source_id=77, fold=3, task_id=1)
    put(engine, "best_slot", reference_id=1, source_id=77, slot=2)
    put(engine, "magfit_solution", frame_id=1, reference_id=1, slot=2, fold=3, c_const=0.5)
    put(engine, "magfit_reference", reference_id=1, field_id=1, status="accepted", frame_id=1, created=NOW, task_id=1)
    schema.upgrade(engine)
    assert schema.differences(engine) == [] and schema.other_views(engine) == []
    assert rows(engine, "SELECT field_id, reference_id FROM latest_reference") == [(1, 1)]
    assert rows(engine, "SELECT slot, fold FROM best_slot") == [(2, 3)]
    assert rows(engine, "SELECT reference_id, slot, fold, frame_id, c_const FROM magfit_solution") == [(1, 2, 3, 1, 0.5)]
    assert rows(engine, "SELECT parameters, is_held FROM magfit_reference") == [("", 0)], "of no parameters: a new one is due"
    schema.downgrade(engine, "0016")
    assert rows(engine, "SELECT frame_id, reference_id, slot, fold, c_const FROM magfit_solution") == [(1, 1, 2, 3, 0.5)]
    assert rows(engine, "SELECT status FROM magfit_reference") == [("accepted",)]


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("starledger reduce n --archive postgresql://astro:secret@host/night", "starledger reduce n --archive 'postgresql://astro:***@host/night'"),
        ("starledger reduce 'my n' --archive 'postgresql://astro:se cr@et@host/night'", "starledger reduce 'my n' --archive 'postgresql://astro:***@host/night'"),
        ("starledger reduce n'1 --archive postgresql://astro:secret@host/night", "starledger reduce n'1 --archive postgresql://astro:***@host/night"),
        ("starledger reduce 'a  b' --archive sqlite:///night.db", "starledger reduce 'a  b' --archive sqlite:///night.db"),
    ],
)  # fmt: skip
def test_passwords_leave_the_commands_of_earlier_runs(engine: sa.Engine, command: str, kept: str) -> None:
    schema.upgrade(engine, "0024")
    put(engine, "run", run_id=1, started=NOW, command=command)
    schema.upgrade(engine)
    assert rows(engine, "SELECT command FROM run") == [(kept,)]
    schema.downgrade(engine, "0024")
    assert rows(engine, "SELECT command FROM run") == [(kept,)]
