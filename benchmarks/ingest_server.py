"""A PostgreSQL server of the benchmarks' own, with the settings that docs/postgresql.md names, safe against a power cut."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "support"))
import postgres_server

__all__ = ["SETTINGS", "started"]

#: For a machine with 8 GB; see docs/postgresql.md.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "1GB",
    "work_mem": "64MB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "synchronous_commit": "off",
    "effective_cache_size": "5GB",
    "random_page_cost": "1.1",
    "log_min_messages": "fatal",
}


@contextmanager
def started(folder: Path, settings: dict[str, str] | None = None) -> Iterator[str]:
    """Run a server with its data in `folder`, which is removed with it; gives the address of its maintenance database."""
    server = postgres_server.find_server()
    if server is None:
        raise SystemExit("no PostgreSQL server: install PostgreSQL, or name a database with --postgres")
    folder.mkdir()
    # Others may pass through, as the server's own user has to.
    folder.parent.chmod(0o755)
    with mock.patch.object(postgres_server, "SETTINGS", SETTINGS if settings is None else settings):
        url = postgres_server.start(folder, server)
    try:
        yield url
    finally:
        postgres_server.stop(folder, server)
