"""What keeps an archive whole: the part of `Archive` that looks after its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from db.errors import ConfigurationError
from starledger import roots
from starledger.paths import AnyPath, as_path, one_path
from starledger.schema import check_schema

if TYPE_CHECKING:
    from starledger.archive import Archive
    from starledger.verify import Verdict

__all__ = ["Keeping"]


class Keeping:
    """Methods of `starledger.Archive` that check, copy and mend it."""

    def _archive(self) -> Archive:
        return cast("Archive", self)

    def check_schema(self) -> None:
        """Check that tables and views are what this version expects.

        Raises
        ------
        ConfigurationError
            They are not; the message says what to do.

        Examples
        --------
        >>> archive.check_schema()
        """
        check_schema(self._archive())

    def check(self) -> list[str]:
        """Check that the database is whole: its own files, as far as it can say, and that rows refer to rows that are there.

        It reads all of the database; files are checked by `verify`.

        Returns
        -------
        list of str
            What is wrong, a line each; nothing when it is whole.

        Raises
        ------
        ConfigurationError
            Tables or views are not what this version expects.

        Examples
        --------
        >>> archive.check()
        []
        """
        from starledger.checking import check

        return check(self._archive())

    def verify(self, *, full: bool = False, progress: Callable[[int, int], None] | None = None) -> Verdict:
        """Check that raw files and products are what the archive says: there, as long as they were, and with the same SHA-256.

        A file that nobody has touched since the archive took it in, by its size and times, is not hashed unless `full`. Products that
        are lost or damaged are made again by the next reduction.

        Parameters
        ----------
        full : bool
            Hash every file.
        progress : callable, optional
            Called with the number of files done and of all.

        Returns
        -------
        Verdict
            What is damaged or gone, and what brings it back.

        Examples
        --------
        >>> [(one.path, one.what) for one in archive.verify(full=True).findings]
        []
        """
        from starledger.verify import verify

        return verify(self._archive(), full=full, progress=progress)

    def backup(self, file: AnyPath, *, overwrite: bool = False) -> Path:
        """Copy the database into a file, whole, also while it is written to; raw files and pixel products are not in it.

        Parameters
        ----------
        file : path
            Of a SQLite archive an archive again; of PostgreSQL what ``pg_restore`` reads.
        overwrite : bool
            Whether it may take the place of a file that is there.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        ConfigurationError
            The file is there, or cannot be written; or there is no ``pg_dump``.
        ArchiveUnavailable
            The archive, or the copy, is damaged.

        Examples
        --------
        >>> archive.backup("night-copy.db")
        """
        from starledger.backup import backup

        return backup(self._archive(), one_path(file), overwrite=overwrite)

    def relocate(self, old: AnyPath | None = None, new: AnyPath | None = None, *, files: AnyPath | None = None) -> int:
        """Mend the paths of raw files that were moved, or of the folder of the pixel products.

        Parameters
        ----------
        old, new : path, optional
            Folder the raw files were in, and the one they are in now.
        files : path, optional
            Folder the pixel products are in now.

        Returns
        -------
        int
            How many paths of raw files were mended.

        Raises
        ------
        ConfigurationError
            Nothing was in `old`, or the files are not in their new place; nothing is changed then.

        Examples
        --------
        >>> archive.relocate("nights", "disk2/nights")
        """
        before, after, root = as_path(old), as_path(new), as_path(files)
        if (before is None) != (after is None) or (before is None and root is None):
            raise ConfigurationError("nothing to mend", hint="give OLD and NEW, or --files DIR", code="relocate.usage")
        mended = roots.relocate_raw_files(self._archive(), before, after) if before is not None and after is not None else 0
        if root is not None:
            roots.relocate_files(self._archive(), root)
        return mended
