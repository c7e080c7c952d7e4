"""Views that people have made on the archive's own: put aside while the schema changes, and put back as they were.

PostgreSQL drops no view that another one stands on, and forgets who may read a view when it is dropped. SQLite alters no table while a
view is there that it cannot read. So a person's views go before a migration and come back behind it, in the same transaction, with
their owner, comment, options and rights; where that cannot be, the first of them is named and nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.engine import is_sqlite
from db.errors import ConfigurationError

__all__ = ["PersonalView", "put_aside", "put_back", "rights"]


@dataclass(frozen=True)
class PersonalView:
    """A person's view that was put aside.

    Attributes
    ----------
    name : str
        As SQL names it.
    statements : tuple of str
        What makes it anew: the view itself first, then what belongs to it.
    worked : bool
        Whether it could be read.
    """

    name: str
    statements: tuple[str, ...]
    worked: bool = True


def put_aside(connection: Connection, ours: Iterable[str]) -> list[PersonalView]:
    """Drop the views of people that stand on the archive's tables and views.

    Parameters
    ----------
    connection : Connection
        In the transaction of the migration.
    ours : iterable of str
        Names of the archive's own views.

    Returns
    -------
    list of PersonalView
        In the order in which they are to be put back.

    Raises
    ------
    ConfigurationError
        For one that cannot be made anew as it was.
    """
    if is_sqlite(connection):
        return _aside_sqlite(connection, set(ours))
    found = connection.execute(sa.text(_STANDING), {"ours": list(ours)}).all()
    views = []
    for row in found:
        if row.relkind != "v" or row.relhastriggers:
            kind = "materialized view" if row.relkind == "m" else "view with triggers"
            raise _in_the_way(row.name, f"the {kind} {row.name} stands on the archive's own", "drop it, upgrade, and make it anew")
        options = f" WITH ({', '.join(row.reloptions)})" if row.reloptions else ""
        statements = [f"CREATE VIEW {row.name}{options} AS {row.text}"]
        if row.comment is not None:
            statements.append(f"COMMENT ON VIEW {row.name} IS {_literal(row.comment)}")
        statements += rights(connection, row.oid, row.name)
        if not row.is_mine:
            statements.append(f"ALTER VIEW {row.name} OWNER TO {row.owner}")
        views.append(PersonalView(row.name, tuple(statements)))
    for view in reversed(views):
        _run(connection, view.name, f"DROP VIEW {view.name}")
    return views


def put_back(connection: Connection, views: Sequence[PersonalView]) -> None:
    """Make the views of people anew.

    Raises
    ------
    ConfigurationError
        For the first that the archive no longer has the columns or tables for.
    """
    for view in views:
        for statement in view.statements:
            _run(connection, view.name, statement)
    if is_sqlite(connection):
        # SQLite takes any text for a view, and complains when it is read.
        for view in views:
            if view.worked:
                _run(connection, view.name, f"SELECT 1 FROM {view.name} LIMIT 0")


def rights(connection: Connection, oid: int, name: str) -> list[str]:
    """Statements that give the rights on a relation of PostgreSQL again, as they are now."""
    rows = connection.execute(sa.text(_RIGHTS), {"oid": oid}).all()
    statements = []
    for row in rows:
        what = f"{row.privilege_type} ({row.column_name})" if row.column_name else row.privilege_type
        statements.append(f"GRANT {what} ON {name} TO {row.grantee}{' WITH GRANT OPTION' if row.is_grantable else ''}")
    return statements


#: Relations of people that stand, over any number of steps, on the tables and views of the archive's schema; those that stand on others
#: last. A view stands on something through its rule.
_STANDING = """
WITH RECURSIVE base AS (
  SELECT c.oid FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace
  AND (c.relkind IN ('r', 'p') OR (c.relkind = 'v' AND c.relname = ANY(:ours)))
), standing (oid, depth) AS (
  SELECT r.ev_class, 1 FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN base b ON b.oid = d.refobjid
  WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND r.ev_class NOT IN (SELECT oid FROM base)
  UNION
  SELECT r.ev_class, s.depth + 1 FROM standing s JOIN pg_depend d ON d.refobjid = s.oid JOIN pg_rewrite r ON r.oid = d.objid
  WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND r.ev_class <> s.oid
)
SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, c.relkind, c.relhastriggers, c.reloptions,
       pg_get_viewdef(c.oid) AS text, obj_description(c.oid, 'pg_class') AS comment,
       quote_ident(pg_get_userbyid(c.relowner)) AS owner, pg_get_userbyid(c.relowner) = current_user AS is_mine
FROM (SELECT oid, max(depth) AS depth FROM standing GROUP BY oid) s
JOIN pg_class c ON c.oid = s.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY s.depth, c.oid"""

_RIGHTS = """
SELECT a.privilege_type, a.is_grantable, CAST(NULL AS text) AS column_name,
       CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee
FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = :oid AND a.grantee <> c.relowner
UNION ALL
SELECT a.privilege_type, a.is_grantable, quote_ident(t.attname),
       CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid, aclexplode(t.attacl) a WHERE c.oid = :oid AND a.grantee <> c.relowner
ORDER BY 1, 3, 4"""


def _aside_sqlite(connection: Connection, ours: set[str]) -> list[PersonalView]:
    rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'view' ORDER BY rowid").all()
    others = [(f'"{name.replace(chr(34), 2 * chr(34))}"', text) for name, text in rows if name not in ours]
    views = [PersonalView(name, (text,), worked=_reads(connection, name)) for name, text in others]
    for view in views:
        connection.exec_driver_sql(f"DROP VIEW {view.name}")
    return views


def _reads(connection: Connection, name: str) -> bool:
    try:
        connection.exec_driver_sql(f"SELECT 1 FROM {name} LIMIT 0")
    except sa.exc.OperationalError:
        return False
    return True


def _run(connection: Connection, name: str, statement: str) -> None:
    """Run a statement on a person's view; refused, it is named."""
    try:
        with connection.begin_nested():
            # The text is a person's: a percent sign in it begins no parameter of psycopg2's.
            connection.exec_driver_sql(statement if is_sqlite(connection) else statement.replace("%", "%%"))
    except sa.exc.DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0]
        hint = "drop it, upgrade, and make it anew with what the archive has then"
        raise _in_the_way(name, f"your view {name} stands on the archive's own, and not as it will be ({reason})", hint) from error


def _in_the_way(name: str, message: str, hint: str) -> ConfigurationError:
    return ConfigurationError(message, where=f"view {name}", hint=hint, code="archive.personal_view")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
