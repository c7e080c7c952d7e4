"""Alembic environment: both engines, views replaced, or away and anew around every migration."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from db.engine import altering, make_engine, parse_url
from db.migrations.names import include_name
from db.personal_views import put_back
from db.tables import Base
from db.views import put_up, replace_views, take_down


def _migrate(connection: sa.Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_name=include_name,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        head = context.script.get_current_head()
        if context.get_context().get_current_revision() == head == context.get_revision_argument():
            replace_views(connection)
            return
        # Views stand on the tables and are code, not data: away before, anew after.
        taken = take_down(connection)
        context.run_migrations()
        if context.get_context().get_current_revision() == head:
            put_up(connection, taken)
        else:
            put_back(connection, taken.personal)


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
