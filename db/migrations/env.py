"""Alembic environment: both engines, views recreated around every migration."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from db.engine import altering, make_engine, parse_url
from db.migrations.names import include_name
from db.tables import Base
from db.views import create_views, drop_views


def _migrate(connection: sa.Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_name=include_name,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        # Views stand on the tables and are code, not data: away before, anew after.
        drop_views(connection)
        context.run_migrations()
        if context.get_context().get_current_revision() == context.script.get_current_head():
            create_views(connection)


def run() -> None:
    """Migrate over the connection handed in by `db.schema`, or over the URL of alembic.ini."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
        return
    url = context.get_x_argument(as_dictionary=True).get("url") or context.config.get_main_option("sqlalchemy.url") or ""
    engine = make_engine(parse_url(url), writer=True)
    with altering(engine) as opened:
        _migrate(opened)
    engine.dispose()


run()
