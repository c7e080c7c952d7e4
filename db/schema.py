"""The schema's version: bring it up to date, say what it is, check that tables and views are what the code expects.

Every command asks for the version, and few change it: Alembic is imported by those.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from db.engine import altering, is_sqlite
from db.errors import ArchiveUnavailable
from db.views import VIEWS

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["current", "differences", "downgrade", "head", "other_views", "require_current", "revisions", "upgrade"]

_MIGRATIONS = Path(__file__).with_name("migrations") / "versions"
#: A migration's own revision and the one below it (None for the first), as Alembic's template writes them.
_REVISION = re.compile(r"""^(revision|down_revision)\b[^=\n]*=\s*(?:None|["'](\w+)["'])""", re.MULTILINE)


def _config(connection: Connection | None = None) -> Config:
    from alembic.config import Config

    # Built here, since no wheel carries alembic.ini.
    config = Config()
    config.set_main_option("script_location", "db:migrations")
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """The newest revision the code knows."""
    known = revisions()
    (newest,) = known.keys() - set(known.values())
    return newest


def current(engine: Engine) -> str | None:
    """The archive's revision; None for an empty database."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def revisions() -> dict[str, str | None]:
    """Every revision the code knows, and the one below it: from the text of the migrations, which are imported to be run only."""
    known: dict[str, str | None] = {}
    for path in sorted(_MIGRATIONS.glob("*.py")):
        said = dict(_REVISION.findall(path.read_text("utf-8")))
        if "revision" in said:
            known[said["revision"]] = said.get("down_revision") or None
    return known


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the schema up to `revision`, and its views to those of this version; all of it or nothing.

    Raises
    ------
    ArchiveUnavailable
        It is that of a newer version.
    """
    from alembic import command

    found = current(engine)
    if found is not None and found not in revisions():
        raise _other_revision(engine, found)
    with altering(engine) as connection:
        command.upgrade(_config(connection), revision)
        if revision == "head" and not is_sqlite(connection):
            for name, text in VIEWS.items():
                connection.exec_driver_sql(f"COMMENT ON VIEW {name} IS '{_sha256(text)}'")


def downgrade(engine: Engine, revision: str) -> None:
    """Take the schema back to `revision` ("base" for empty)."""
    from alembic import command

    with altering(engine) as connection:
        command.downgrade(_config(connection), revision)


def differences(engine: Engine) -> list[Any]:
    """What autogenerate would change; empty when tables and models agree."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from db.migrations.names import include_name
    from db.tables import Base

    with engine.connect() as connection:
        options = {"include_name": include_name, "compare_type": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))


def other_views(engine: Engine) -> list[str]:
    """Names of the views that are absent or not this version's; `upgrade` makes them anew.

    SQLite keeps a view's text as it was given. PostgreSQL keeps a parsed one: there, a comment holds the SHA-256 of the text.
    """
    if is_sqlite(engine):
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'view'"
        wanted = {name: f"CREATE VIEW {name} AS {text}".strip() for name, text in VIEWS.items()}
    else:
        query = (
            "SELECT relname, obj_description(oid, 'pg_class') FROM pg_class"
            " WHERE relkind = 'v' AND relnamespace = current_schema()::regnamespace"
        )
        wanted = {name: _sha256(text) for name, text in VIEWS.items()}
    with engine.connect() as connection:
        found = {row[0]: row[1] for row in connection.exec_driver_sql(query)}
    return [name for name, text in wanted.items() if (found.get(name) or "").strip() != text]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def require_current(engine: Engine) -> None:
    """Refuse an archive of another revision.

    Raises
    ------
    ArchiveUnavailable
        With what to do: initialise, upgrade, or install a newer version.
    """
    where = engine.url.render_as_string(hide_password=True)
    found, wanted = current(engine), head()
    if found == wanted:
        return
    if found is None:
        empty = not sa.inspect(engine).get_table_names()
        message, hint = "no starledger archive here", "run 'starledger init' first" if empty else "this database holds something else"
        raise ArchiveUnavailable(message, where=where, hint=hint, code="archive.missing")
    raise _other_revision(engine, found)


def _other_revision(engine: Engine, found: str) -> ArchiveUnavailable:
    hint = "run 'starledger db upgrade'" if found in revisions() else "install a newer starledger"
    where = engine.url.render_as_string(hide_password=True)
    return ArchiveUnavailable(f"schema revision {found}, this version needs {head()}", where=where, hint=hint, code="archive.revision")
