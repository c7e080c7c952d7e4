"""What people build on the archive's views outlives an upgrade, or is named before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from small_archive import SmallArchive

from db import schema, views
from db.engine import is_sqlite, make_engine
from db.errors import ConfigurationError

MINE = "SELECT source_id, count(*) AS n, '5 % of :all \\ a''b' AS word FROM light_curve GROUP BY source_id"


def run(engine: sa.Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement if is_sqlite(engine) else statement.replace("%", "%%"))


def rows(engine: sa.Engine, statement: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(statement)]


@pytest.fixture
def engine(archive_url: str) -> Iterator[sa.Engine]:
    engine = make_engine(archive_url, writer=True)
    schema.upgrade(engine, "0015")
    yield engine
    engine.dispose()


@pytest.fixture
def old_views(fresh: SmallArchive, monkeypatch: pytest.MonkeyPatch) -> Iterator[sa.Engine]:
    """An archive with this version's tables and an older version's views."""
    older = {**views.VIEWS, "latest_reference": views.VIEWS["latest_reference"].replace("r.task_id", "r.task_id + 0 AS task_id", 1)}
    with monkeypatch.context() as patch:
        patch.setattr(views, "VIEWS", older)
        with fresh.engine.begin() as connection:
            views.put_up(connection, views.take_down(connection))
    assert schema.other_views(fresh.engine) == ["latest_reference"] or not is_sqlite(fresh.engine)
    yield fresh.engine


def test_a_view_of_a_table_outlives_a_migration_and_reads_what_has_its_name_now(engine: sa.Engine) -> None:
    run(
        engine,
        "CREATE VIEW my_fluxes AS SELECT source_id, night_id, frame_id, flux_1 FROM measurement",
        'CREATE VIEW "my ""best""" AS SELECT max(flux_1) AS flux FROM my_fluxes',
    )
    schema.upgrade(engine)
    columns = "source_id, night_id, frame_id, flags, x, y, flux_1"
    run(engine, f"INSERT INTO open_measurement ({columns}) VALUES (1, 2, 3, 0, 1, 1, 7.5)")
    assert rows(engine, "SELECT source_id, flux_1 FROM my_fluxes") == [(1, 7.5)]
    assert rows(engine, 'SELECT flux FROM "my ""best"""') == [(7.5,)]
    assert schema.differences(engine) == []


def test_a_view_without_its_columns_stops_the_migration_and_is_named(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    schema.upgrade(engine)
    run(engine, "CREATE VIEW my_master AS SELECT master_id, level AS l FROM good_master")
    changed = {**views.VIEWS, "good_master": views.VIEWS["good_master"].replace("m.level,", "m.level AS sky,", 1)}
    monkeypatch.setattr(views, "VIEWS", changed)
    with pytest.raises(ConfigurationError, match=r"my_master.*stands on the archive's own.*level.*drop it, upgrade") as met:
        schema.upgrade(engine)
    assert met.value.code == "archive.personal_view" and "\n" not in str(met.value)
    monkeypatch.undo()
    assert rows(engine, "SELECT * FROM my_master") == [], "nothing was changed"
    assert schema.other_views(engine) == []


def test_a_view_that_could_not_be_read_before_is_no_obstacle(engine: sa.Engine) -> None:
    if not is_sqlite(engine):
        pytest.skip("PostgreSQL has no such views")
    run(engine, "CREATE VIEW broken AS SELECT a FROM nowhere")
    schema.upgrade(engine)
    assert rows(engine, "SELECT sql FROM sqlite_master WHERE name = 'broken'") == [("CREATE VIEW broken AS SELECT a FROM nowhere",)]


def test_views_of_an_older_version_are_replaced_under_a_persons_own(old_views: sa.Engine) -> None:
    run(old_views, f"CREATE VIEW mine AS {MINE}")
    before = rows(old_views, "SELECT * FROM mine ORDER BY 1")
    assert len(before) > 0
    schema.upgrade(old_views)
    assert schema.other_views(old_views) == []
    assert rows(old_views, "SELECT * FROM mine ORDER BY 1") == before


def test_rights_comments_owners_and_options_are_kept(engine: sa.Engine, archive_url: str) -> None:
    if is_sqlite(engine):
        pytest.skip("SQLite has no rights")
    role, owner = (f"{what}_{archive_url.rpartition('_')[2]}" for what in ("reader", "owner"))
    schema.upgrade(engine)
    run(
        engine,
        f'CREATE ROLE "{role}"',
        f'CREATE ROLE "{owner}"',
        f"CREATE VIEW mine WITH (security_barrier=true) AS {MINE}",
        "COMMENT ON VIEW mine IS 'it''s mine'",
        f'GRANT SELECT ON mine, light_curve TO "{role}"',
        f'GRANT SELECT (field_id) ON latest_reference TO "{role}" WITH GRANT OPTION',
        "GRANT SELECT ON frame_quality TO PUBLIC",
        f'ALTER VIEW mine OWNER TO "{owner}"',
    )
    query = (
        "SELECT c.relname, c.relacl::text, c.reloptions::text, pg_get_userbyid(c.relowner), CASE WHEN c.relname = 'mine' THEN"
        " obj_description(c.oid) END, (SELECT string_agg(attacl::text, ' ') FROM pg_attribute WHERE attrelid = c.oid) FROM pg_class c"
        " WHERE c.relname IN ('mine', 'light_curve', 'latest_reference', 'frame_quality') ORDER BY 1"
    )
    before = rows(engine, query)
    assert sum(role in str(row) for row in before) == 3
    try:
        schema.upgrade(engine)  # in place
        assert rows(engine, query) == before
        with engine.begin() as connection:  # away and anew
            views.put_up(connection, views.take_down(connection))
        assert rows(engine, query) == before
    finally:
        run(engine, "DROP VIEW mine", f'DROP OWNED BY "{role}", "{owner}"', f'DROP ROLE "{role}", "{owner}"')


def test_a_materialized_view_is_left_alone_or_named(old_views: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_sqlite(old_views):
        pytest.skip("SQLite has none")
    run(old_views, f"CREATE MATERIALIZED VIEW kept AS {MINE}", "CREATE VIEW on_it AS SELECT n FROM kept")
    before = rows(old_views, "SELECT n FROM on_it ORDER BY 1")
    schema.upgrade(old_views)
    assert schema.other_views(old_views) == [] and rows(old_views, "SELECT n FROM on_it ORDER BY 1") == before
    with pytest.raises(ConfigurationError, match=r"the materialized view public.kept stands on the archive's own; drop it, upgrade"):
        schema.downgrade(old_views, "0015")
    assert rows(old_views, "SELECT n FROM on_it ORDER BY 1") == before


def test_a_downgrade_names_what_the_older_schema_has_no_place_for(engine: sa.Engine) -> None:
    schema.upgrade(engine)
    run(engine, "CREATE VIEW mine AS SELECT frame_id FROM open_measurement")
    with pytest.raises(ConfigurationError, match=r"mine.*open_measurement"):
        schema.downgrade(engine, "0015")
    assert rows(engine, "SELECT * FROM mine") == []
    assert schema.current(engine) == schema.head()
