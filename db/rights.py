"""What a role of PostgreSQL may do to an archive beyond reading it."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

__all__ = ["rights_to_write"]

_WRITING = "INSERT, UPDATE, DELETE, TRUNCATE"

#: Roles that the asked one is, or may become, and what each could do. A superuser is a member of all.
_QUERY = sa.text(f"""
SELECT x.rolname AS role, x.rolsuper AS super, x.rolname IN ('pg_write_server_files', 'pg_execute_server_program') AS files,
  (SELECT min(c.relname) FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
     AND (has_table_privilege(x.oid, c.oid, '{_WRITING}') OR has_any_column_privilege(x.oid, c.oid, 'INSERT, UPDATE'))) AS relation,
  has_schema_privilege(x.oid, n.oid, 'CREATE') AS makes, n.nspname AS schema, x.rolname = coalesce(:role, current_user) AS itself
FROM pg_roles x, pg_namespace n
WHERE n.nspname = current_schema() AND pg_has_role(CAST(coalesce(:role, current_user) AS name), x.oid, 'MEMBER')
ORDER BY itself DESC, x.rolname
""")


def rights_to_write(connection: Connection, role: str | None = None) -> str | None:
    """In words, the first right by which a role could change the archive; None for a role that may only read.

    Parameters
    ----------
    connection : Connection
        To PostgreSQL.
    role : str, optional
        The role; the one that is connected when omitted.
    """
    for row in connection.execute(_QUERY, {"role": role}):
        asked = "" if row.itself else f", as a member of {row.role}"
        if row.super:
            return f"is a superuser{asked}"
        if row.files:
            return f"is a member of {row.role}"
        if row.relation is not None:
            return f"may write to {row.relation}{asked}"
        if row.makes:
            return f"may make tables in schema {row.schema}{asked}"
    return None
