"""Copying an archive's database while it is in use."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import URL

from db.engine import sqlite_path
from db.errors import ArchiveUnavailable, ConfigurationError
from db.passwords import masked
from db.whole import damaged

if TYPE_CHECKING:
    from starledger.archive import Archive

__all__ = ["backup", "new_file"]


def backup(archive: Archive, file: Path, *, overwrite: bool = False) -> Path:
    """Copy the database into a file; parameters, returns and errors as for `Archive.backup`."""
    source = sqlite_path(archive.engine.url)
    if source is not None and file.exists() and file.samefile(source):
        raise ConfigurationError("this is the archive itself", where=str(file), hint="give another file", code="backup.file")
    with new_file(file, overwrite=overwrite) as temporary:
        if source is not None:
            _copy_sqlite(source, temporary)
        else:
            _dump(archive.engine.url, temporary)
    return file


@contextmanager
def new_file(file: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A name to write under, which becomes the file's when all went well.

    Raises
    ------
    ConfigurationError
        There is such a file, no such folder, or no room.
    """
    if file.exists() and not overwrite:
        raise ConfigurationError("this file is there already", where=str(file), hint="name another", code="backup.file")
    if not file.absolute().parent.is_dir():
        raise ConfigurationError("no such folder", where=str(file.absolute().parent), hint="make it", code="backup.file")
    temporary = file.with_name(f".tmp-{os.getpid()}-{file.name}")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError as error:
        hint = "free some space, or name another"
        raise ConfigurationError(f"it cannot be written ({error.strerror})", where=str(file), hint=hint, code="backup.file") from error
    finally:
        for ending in ("", "-journal", "-wal", "-shm"):
            temporary.with_name(temporary.name + ending).unlink(missing_ok=True)


def _copy_sqlite(source: Path, target: Path) -> None:
    """All pages in one step: a reader's snapshot, for which no writer waits and which no writer makes begin again."""
    try:
        with closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as old, closing(sqlite3.connect(target)) as new:
            old.backup(new)
            new.execute("PRAGMA journal_mode = DELETE")  # one file, whole by itself
            new.execute("DELETE FROM writer")  # who writes to the archive does not write to the copy
            new.commit()
            (answer,) = new.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        where, hint = f"{source} to {target.parent}", "is there room, and may it be written to?"
        raise ConfigurationError(f"it cannot be copied ({error})", where=where, hint=hint, code="backup.file") from error
    except sqlite3.DatabaseError as error:
        raise damaged(str(error), str(source)) from error
    if answer != "ok":
        raise damaged(" ".join(str(answer).split()), str(source))


def _dump(url: URL, target: Path) -> None:
    """What `pg_dump` makes, in its own format, read once by `pg_restore`."""
    dump, restore = shutil.which("pg_dump"), shutil.which("pg_restore")
    if dump is None or restore is None:
        hint = "install PostgreSQL's client programs, or have the server's own backups made"
        raise ConfigurationError("no pg_dump and pg_restore on this machine", hint=hint, code="backup.program")
    environment = dict(os.environ) | ({"PGPASSWORD": str(url.password)} if url.password is not None else {})
    plain = URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query).render_as_string()
    commands = [dump, "--format=custom", "--no-owner", f"--file={target}", f"--dbname={plain}"], [restore, "--list", str(target)]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            reason = masked((done.stderr.strip().splitlines() or ["no reason given"])[0])
            raise ArchiveUnavailable(reason, where=masked(plain), hint="is pg_dump as new as the server?", code="backup.failed")
