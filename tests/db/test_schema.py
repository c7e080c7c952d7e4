"""The contract of the schema, on both engines."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import astropy.units as u
import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from astropy.io.votable.ucd import check_ucd
from small_archive import SmallArchive
from templates import make_schema

from db import schema
from db.bulk import bulk_insert
from db.engine import is_sqlite, make_engine
from db.errors import ArchiveUnavailable
from db.tables import Base
from db.terms import MAP_TERMS
from db.views import DEFINITIONS, VIEWS
from reduction.lightcurves.kernels.reference_frame import MERITS

TABLES = Base.metadata.tables
BULK = ("open_measurement", "closed_measurement", "detection")


@pytest.fixture
def engine(archive_url: str) -> Iterator[sa.Engine]:
    make_schema(archive_url)  # a copy of what the migrations make
    engine = make_engine(archive_url, writer=True)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("table", TABLES.values(), ids=str)
def test_every_table_and_column_is_described(table: sa.Table) -> None:
    assert table.comment
    for column in table.c:
        assert column.comment, column
        unit = column.info["unit"]
        assert unit == "" or column.comment.endswith(f"[{unit}]"), column
        physical = isinstance(column.type, sa.Double | sa.REAL) and not column.primary_key
        dimensionless = {"gain_setting", "offset_setting", "aperture", "max_ratio", "ratio", "slope", "slope_err"}
        dimensionless |= (
            {
                "airmass",
                "ellipticity",
                "confidence",
                "moon_illumination",
                "dark_scale",
                "sky_fraction",
                "chi2",
                "psf_chi2",
                "own_chi2",
                "shared_chi2",
                "width",
                "eta",
                "sum_second",
                "n_pair",
                "change",
                "roughness",
                "enclosed",
                "foreign_light",
                "share",
                "snr",
                *("flux_error", "flux_most_error", "faint_flux_error", "faint_flux_most_error", "peak_error"),
                "score",
                *("factor", "pattern_sigma", "scatter_ratio", "fwhm_ratio", "elongation", "sky_ratio", "loss", "gain", "gain_err"),
                *("colour_term", "colour_term_err"),  # magnitude by magnitude
                *(f"{name}_rank" for name in MERITS),
            }
            | {f"{prefix}{axis}" for prefix in "uz" for axis in "xyz"}
            | {f"p_{term.name}" for term in MAP_TERMS}
        )
        assert unit or not physical or column.name in dimensionless, f"{column} has no unit"


def described() -> Iterator[tuple[str, str, str]]:
    """Every column of every table and view: name, unit and UCD."""
    for table in TABLES.values():
        yield from ((str(column), column.info["unit"], column.info["ucd"]) for column in table.c)
    for view in DEFINITIONS.values():
        yield from ((f"{view.name}.{column.name}", column.unit, column.ucd) for column in view.columns)


def test_astropy_reads_every_unit() -> None:
    for name, unit, _ in described():
        assert unit == unit.strip() and u.Unit(unit) is not None, name


def test_every_column_has_a_ucd_of_the_vocabulary() -> None:
    wrong = {name: ucd for name, _, ucd in described() if not ucd or not check_ucd(ucd, check_controlled_vocabulary=True)}
    assert wrong == {}


def test_nothing_has_two_main_identifiers() -> None:
    main = Counter(name.partition(".")[0] for name, _, ucd in described() if ucd == "meta.id;meta.main")
    assert {name for name, count in main.items() if count > 1} == set()
    assert {"source", "frame", "exposure", "field", "wcs_solution", "frame_quality"} <= main.keys()


@pytest.mark.parametrize("name", BULK)
def test_bulk_tables_have_natural_keys_alone(name: str) -> None:
    table = TABLES[name]
    assert not table.foreign_keys
    assert all(isinstance(column.type, sa.Integer) for column in table.primary_key)
    assert "night_id" in table.primary_key.columns


def test_tables_are_what_the_migrations_make(engine: sa.Engine) -> None:
    assert schema.differences(engine) == []
    assert set(sa.inspect(engine).get_table_names()) == {*TABLES, "alembic_version"}
    assert schema.current(engine) == schema.head()
    schema.require_current(engine)


def test_migrations_run_down_and_up_again(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        bulk_insert(connection, TABLES["detection"], {"night_id": 5, "frame_id": 1, "number": [0], "x": 1.0, "y": 1.0} | _detection())
    schema.downgrade(engine, "base")
    assert sa.inspect(engine).get_table_names() == ["alembic_version"]
    assert sa.inspect(engine).get_view_names() == []
    schema.upgrade(engine)
    assert schema.differences(engine) == []
    assert set(sa.inspect(engine).get_view_names()) == set(VIEWS)


def test_revisions_are_those_that_alembic_finds() -> None:
    scripts = ScriptDirectory.from_config(schema._config())
    assert schema.head() == scripts.get_current_head()
    assert schema.revisions() == {script.revision: script.down_revision for script in scripts.walk_revisions()}


def test_upgrading_again_changes_nothing(engine: sa.Engine) -> None:
    schema.upgrade(engine)
    assert schema.differences(engine) == []


def test_views_of_another_version_are_made_anew(engine: sa.Engine) -> None:
    assert schema.other_views(engine) == []
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP VIEW stale_product")
        connection.exec_driver_sql("DROP VIEW flag_bit")
        connection.exec_driver_sql("CREATE VIEW flag_bit AS SELECT 1 AS bit")
    assert schema.other_views(engine) == ["stale_product", "flag_bit"]
    schema.upgrade(engine)
    assert schema.other_views(engine) == []
    assert schema.differences(engine) == []


def test_partitions_are_hidden_from_autogenerate(engine: sa.Engine) -> None:
    if is_sqlite(engine):
        pytest.skip("SQLite has no partitions")
    with engine.begin() as connection:
        bulk_insert(connection, TABLES["detection"], {"night_id": [-3, 5], "frame_id": 1, "number": 0, "x": 1.0, "y": 1.0} | _detection())
    assert {"detection_m32", "detection_n0"} <= set(sa.inspect(engine).get_table_names())
    assert schema.differences(engine) == []


@pytest.mark.parametrize("view", VIEWS)
def test_views_can_be_read_when_empty(engine: sa.Engine, view: str) -> None:
    with engine.connect() as connection:
        result = connection.execute(sa.text(f"SELECT * FROM {view}"))
        names, rows = list(result.keys()), result.all()
    assert len(set(names)) == len(names)
    assert bool(rows) == (view == "flag_bit")
    assert names == [column.name for column in DEFINITIONS[view].columns]


def test_a_column_passed_on_says_what_the_table_says() -> None:
    columns = {column.name: column for column in DEFINITIONS["good_master"].columns}
    table = TABLES["master"].c
    assert (columns["exptime"].unit, columns["exptime"].comment) == ("s", table["exptime"].info["meaning"])
    assert columns["max_ratio"].sql.startswith("CASE") and columns["max_ratio"].comment == table["max_ratio"].info["meaning"]
    assert columns["master_id"].comment == "Key of master"


def test_views_are_created_after_those_they_stand_on() -> None:
    order = list(VIEWS)
    for view in DEFINITIONS.values():
        read = {name for name in order if re.search(rf"\b(FROM|JOIN) {name}\b", view.sql)}
        assert read == set(view.stands_on)
        assert all(order.index(name) < order.index(view.name) for name in read)


def test_measurements_are_laid_out_for_each_engine(small: SmallArchive) -> None:
    with small.engine.connect() as connection:
        if is_sqlite(connection):
            query = sa.text("SELECT sql FROM sqlite_master WHERE name = :name")
            texts = {name: connection.execute(query, {"name": name}).scalar_one().replace('"', "") for name in BULK[:2]}
            assert all("WITHOUT ROWID" in text for text in texts.values())
            assert "(night_id, frame_id, source_id)" in texts["open_measurement"]
            assert "(night_id, source_id, frame_id)" in texts["closed_measurement"]
            pragmas = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("page_size", "journal_mode", "foreign_keys")
            }
            assert pragmas == {"page_size": 16384, "journal_mode": "wal", "foreign_keys": 1}
        else:
            keys = [sa.inspect(connection).get_pk_constraint(name)["constrained_columns"] for name in BULK[:2]]
            assert keys == [["night_id", "frame_id", "source_id"], ["source_id", "night_id", "frame_id"]]
            names = "(relname LIKE 'open\\_measurement%' OR relname LIKE 'closed\\_measurement%')"
            kinds = connection.execute(sa.text(f"SELECT relname, relkind FROM pg_class WHERE {names} AND relkind IN ('p', 'r')"))
            assert dict(tuple(row) for row in kinds) == {
                "open_measurement": "r",
                "closed_measurement": "p",
                "closed_measurement_n6560": "r",
            }


def test_comments_are_in_the_database(small: SmallArchive) -> None:
    if is_sqlite(small.engine):
        pytest.skip("SQLite keeps no comments")
    comments = {column["name"]: column["comment"] for column in sa.inspect(small.engine).get_columns("frame")}
    assert comments == {column.name: column.comment for column in TABLES["frame"].c}


def test_a_database_that_is_no_archive_is_refused(archive_url: str) -> None:
    engine = make_engine(archive_url, writer=True)
    with pytest.raises(ArchiveUnavailable, match="starledger init"):
        schema.require_current(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE cats (name text)"))
    with pytest.raises(ArchiveUnavailable, match="holds something else"):
        schema.require_current(engine)
    engine.dispose()


def test_an_archive_of_another_version_is_refused(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    for refuses in (schema.require_current, schema.upgrade):
        with pytest.raises(ArchiveUnavailable, match=r"9999.*install a newer starledger"):
            refuses(engine)


def _detection() -> dict[str, float]:
    return {"flux": 1.0, "flux_err": 1.0, "peak": 1.0, "flags": 0}
