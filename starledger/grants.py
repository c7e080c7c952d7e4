"""A role of PostgreSQL that can read an archive and do nothing else: made, or taken its rights again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db import schema
from db.engine import is_sqlite, make_engine, parse_url, reachable
from db.errors import ConfigurationError
from db.rights import rights_to_write
from starledger.archive import default_url

__all__ = ["grant"]

#: Bytes of a longer name PostgreSQL would cut off without an error.
_LONGEST_NAME = 63


@dataclass(frozen=True)
class _Place:
    """Where an archive is, as SQL has the names, and whose it is."""

    database: str
    schema: str
    owner: str
    open_schema: bool
    own_schema: bool


def grant(url: str | None, role: str, *, revoke: bool = False) -> list[str]:
    """Let a role of PostgreSQL read an archive and write nothing, now and in the future; it is made where there is none.

    Parameters
    ----------
    url : str, optional
        As for `starledger.open`.
    role : str
        Name of the role.
    revoke : bool
        Take all rights in the archive from it instead; the role stays.

    Returns
    -------
    list of str
        What was done, a line each.

    Raises
    ------
    ConfigurationError
        The archive is a SQLite file, the name is none, there is no role to take rights from, or the role could write all the same:
        nothing is changed then.
    ArchiveUnavailable
        It cannot be reached, or who asks may not give these rights.

    Examples
    --------
    >>> starledger.grant("postgresql://me@host/night", "reader")
    """
    engine = make_engine(parse_url(url or default_url()))
    where = engine.url.render_as_string(hide_password=True)
    if is_sqlite(engine):
        raise ConfigurationError(
            "a SQLite archive has no roles", where=where, hint="give the right to read the file and its folder: chmod", code="grant.sqlite"
        )
    if not 1 <= len(role.encode(errors="replace")) <= _LONGEST_NAME or not role.isprintable() or role.startswith("pg_") or role == "public":
        raise ConfigurationError(
            f"no name for a reader: {role!r}", where=where, hint="1 to 63 bytes, not public, not pg_...", code="grant.role"
        )
    with reachable(engine.url), engine.begin() as connection:
        schema.require_current(engine)
        name = engine.dialect.identifier_preparer.quote_identifier(role)
        known = connection.execute(sa.text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).scalar() is not None
        if revoke and not known:
            raise ConfigurationError(f"there is no role {role}", where=where, hint="check its name", code="grant.role")
        place = _place(connection, engine.dialect.identifier_preparer.quote_identifier)
        statements = _revoking(name, place) if revoke else _granting(name, place, known)
        done = []
        for statement, said in statements:
            connection.exec_driver_sql(statement)
            done += [said] if said else []
        if not revoke and (right := rights_to_write(connection, role)):
            raise ConfigurationError(
                f"role {role} {right}",
                where=where,
                hint="name another role, or take that right from it; nothing was changed",
                code="grant.writer",
            )
    return done


def _place(connection: Connection, quoted: Callable[[str], str]) -> _Place:
    # The owner of this table makes those that are to come, and the views anew at each upgrade.
    row = connection.execute(
        sa.text("""
        SELECT current_database() AS database, n.nspname AS schema, pg_get_userbyid(c.relowner) AS owner,
          EXISTS (SELECT 1 FROM aclexplode(n.nspacl) a WHERE a.grantee = 0 AND a.privilege_type = 'CREATE') AS open_schema,
          pg_has_role(n.nspowner, 'MEMBER') AS own_schema
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = 'alembic_version' AND n.nspname = current_schema()
        """)
    ).one()
    return _Place(quoted(row.database), quoted(row.schema), quoted(row.owner), row.open_schema, row.own_schema)


def _granting(role: str, place: _Place, known: bool) -> Iterator[tuple[str, str]]:
    """Each statement, and what it does in words."""
    if known:
        yield from ((statement, "") for statement, _ in _revoking(role, place))
        yield f"ALTER ROLE {role} LOGIN", f"role {role} is used, which was there; rights to write that it was given here are taken"
    else:
        how = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION"
        yield f"CREATE ROLE {role} {how}", f"role {role} is made, without a password: ALTER ROLE {role} PASSWORD '...' gives it one"
    yield f"GRANT CONNECT ON DATABASE {place.database} TO {role}", ""
    yield f"GRANT USAGE ON SCHEMA {place.schema} TO {role}", f"it may connect to database {place.database} and use schema {place.schema}"
    yield f"GRANT SELECT ON ALL TABLES IN SCHEMA {place.schema} TO {role}", "it may read every table, partition and view that there is"
    yield (
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {place.owner} IN SCHEMA {place.schema} GRANT SELECT ON TABLES TO {role}",
        f"it may read those that {place.owner} will make",
    )
    if place.open_schema and place.own_schema:
        # Up to PostgreSQL 14 everybody may make tables in schema public, and a role cannot be excepted.
        yield f"GRANT CREATE ON SCHEMA {place.schema} TO {place.owner}", ""
        yield f"REVOKE CREATE ON SCHEMA {place.schema} FROM PUBLIC", f"not everybody may make tables in schema {place.schema} any more"


def _revoking(role: str, place: _Place) -> Iterator[tuple[str, str]]:
    yield (
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {place.owner} IN SCHEMA {place.schema} REVOKE ALL ON TABLES FROM {role}",
        f"role {role} may not read what will be made",
    )
    for kind in ("TABLES", "SEQUENCES"):
        yield f"REVOKE ALL ON ALL {kind} IN SCHEMA {place.schema} FROM {role}", ""
    yield f"REVOKE ALL ON SCHEMA {place.schema} FROM {role}", "it may not read the tables and views that there are"
    yield f"REVOKE ALL ON DATABASE {place.database} FROM {role}", f"the role itself stays: DROP ROLE {role} ends it"
