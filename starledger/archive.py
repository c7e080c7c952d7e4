"""An archive: where its rows and its files are, and all that is done with it, from Python as from the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from db import schema
from db.engine import make_engine, parse_url, reachable, sqlite_path
from db.errors import ArchiveUnavailable, ConfigurationError
from starledger import roots
from starledger.keeping import Keeping
from starledger.locking import only_writer
from starledger.namespaces import Frames, Masks, Masters, Nights, References, Targets
from starledger.paths import AnyPath, Paths, as_path, as_paths, one_path
from starledger.patience import patience
from starledger.schema import renew_views

if TYPE_CHECKING:
    from types import TracebackType

    import pandas as pd
    from astropy.coordinates import SkyCoord
    from astropy.table import QTable
    from astropy.timeseries import TimeSeries
    from astropy.units import Quantity

    from queries.lightcurve import Curve
    from reduction.pipeline.scheduler import Reporter, Tally
    from starledger.reduce import StepStatus

__all__ = ["Archive", "create", "create_archive", "default_url", "no_archive", "open", "open_archive"]


def default_url() -> str:
    """The archive used when none is named: $STARLEDGER_ARCHIVE, else sqlite:///starledger.db."""
    return os.environ.get("STARLEDGER_ARCHIVE") or "sqlite:///starledger.db"


class Archive(Keeping):
    """An open archive.

    Methods that read need no lock and disturb nobody; a method that writes is the archive's one writer while it runs. Where another
    program writes, `reduce` raises `ArchiveUnavailable` at once, and what writes little waits for it first (`writing`). Everything that
    goes wrong is raised as a `StarledgerError`, and nothing is printed.

    Parameters
    ----------
    engine : Engine
        Of the database.
    files : Path
        Root of the pixel products.
    writer : bool
        Whether `engine` is a writer's (`db.engine.make_engine`); else one is made when it is first needed.

    Attributes
    ----------
    engine : Engine
        Of the database.
    files : Path
        Root of the pixel products.
    targets : Targets
        The stars you follow.
    masks : Masks
        What you know to be bad.
    frames : Frames
        What each frame was taken for, and your corrections.
    masters : Masters
        Master frames, and which to use.
    references : References
        What magnitudes refer to.
    nights : Nights
        Closing them by hand.

    Examples
    --------
    >>> with starledger.open("sqlite:///starledger.db") as archive:
    ...     curve = archive.light_curve("HAT-P-32 b")
    """

    def __init__(self, engine: Engine, files: Path, *, writer: bool = False) -> None:
        self.engine = engine
        self.files = files
        self.targets = Targets(self)
        self.masks = Masks(self)
        self.frames = Frames(self)
        self.masters = Masters(self)
        self.references = References(self)
        self.nights = Nights(self)
        if writer:
            self.writer = engine

    @cached_property
    def writer(self) -> Engine:
        """The engine that writes."""
        in_memory = self.engine.name == "sqlite" and sqlite_path(self.engine.url) is None  # such a database is its connection
        return self.engine if in_memory else make_engine(self.engine.url, writer=True)

    def __repr__(self) -> str:
        return f"<Archive {self.engine.url.render_as_string(hide_password=True)}, pixel products in {self.files}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back; the archive opens them again when it is asked something.

        Examples
        --------
        >>> starledger.open("sqlite:///starledger.db").close()
        """
        for engine in {self.engine, self.__dict__.get("writer", self.engine)}:
            engine.dispose()

    # Reading

    def light_curve(self, what: str | int | SkyCoord, *, slot: int | None = None, radius: float = 10.0, joined: bool = False) -> TimeSeries:
        """The light curve of a star.

        Parameters
        ----------
        what : str, int or SkyCoord
            A source id, a target's or catalogue's name, or a position.
        slot : int, optional
            A photometry slot; the best one of each field when omitted.
        radius : float
            Arcsec around a position in which the nearest source is taken.
        joined : bool
            Bring the points of several fields and cameras to one scale per passband, by the stars that the fields have in common:
            `joined_mag`, with `join_err` and `scale`. What has no common stars stays on a scale of its own; `meta["scales"]` says so.

        Returns
        -------
        astropy.timeseries.TimeSeries
            Times are BJD_TDB; columns are those of the view `light_curve`, with units; `meta` says which source, slot and reference.

        Raises
        ------
        ConfigurationError
            When `what` means no source.
        NothingToDo
            When the source has no light curve (in that slot).

        Examples
        --------
        >>> curve = archive.light_curve("HAT-P-32 b")
        >>> good = curve[curve["quality"] == 0]
        >>> archive.light_curve("HAT-P-32 b", joined=True).meta["scales"]
        """
        from starledger.quantities import time_series  # astropy and pandas take a second to import

        return time_series(self.curve(what, slot=slot, radius=radius, joined=joined))

    def curve(self, what: str | int | SkyCoord, *, slot: int | None = None, radius: float = 10.0, joined: bool = False) -> Curve:
        """The same light curve without astropy: the source, a DataFrame of its points, and where they come from.

        Examples
        --------
        >>> archive.curve("HAT-P-32 b").frame.to_csv("hatp32.csv", index=False)
        """
        from queries.joined_curve import find_joined_curve
        from queries.lightcurve import find_curve

        place = _degrees(what) if hasattr(what, "icrs") else what
        with reachable(self.engine.url), self.engine.connect() as connection:
            return (find_joined_curve if joined else find_curve)(connection, place, slot=slot, radius=radius)

    def plot(self, what: str | int | SkyCoord, path: AnyPath, *, slot: int | None = None, radius: float = 10.0) -> None:
        """Draw the light curve of a star into a .png, .pdf or .svg file; parameters and errors as for `light_curve`.

        Examples
        --------
        >>> archive.plot("HAT-P-32 b", "hatp32.png")
        """
        from starledger.plots import plot_curve  # matplotlib takes a second to import

        plot_curve(self.curve(what, slot=slot, radius=radius), one_path(path))

    def cone(self, coord: SkyCoord | str, radius: Quantity | float) -> QTable:
        """Sources within `radius` (a Quantity, or degrees) of a position, nearest first, with units.

        Examples
        --------
        >>> archive.cone("31.0427 46.6879", 0.1)
        """
        from starledger.quantities import cone_around

        with reachable(self.engine.url), self.engine.connect() as connection:
            return cone_around(connection, coord, radius)

    def sql(self, text: str, /, *, timeout: float = 30.0, **parameters: Any) -> pd.DataFrame:
        """Rows of a SELECT; `:name` in it takes its value from the keywords. Nothing can be written; `timeout` in seconds, 0 for none.

        Raises
        ------
        ConfigurationError
            When it is no single reading statement, a parameter has no value, the time is over, or the database refuses it.

        Examples
        --------
        >>> archive.sql("SELECT evening, count(*) AS n FROM frame_quality WHERE type = :type GROUP BY evening", type="object")
        """
        from queries.sql import sql_frame

        return sql_frame(self.engine, text, parameters, timeout=timeout)

    def status(self) -> Sequence[StepStatus]:
        """What is done, pending and failed, step by step in the order of the night, with the reasons.

        Examples
        --------
        >>> [(step.step, step.pending) for step in archive.status() if step.pending]
        >>> table = pandas.DataFrame(archive.status())
        """
        from starledger.reduce import status

        return status(self)

    def remarks(self) -> list[str]:
        """What the steps of the last run have to say, a line each: masters that were missing, what was found.

        Examples
        --------
        >>> archive.remarks()
        """
        from starledger.reduce import remarks

        with reachable(self.engine.url):
            return remarks(self)

    # Writing

    def reduce(
        self,
        paths: Paths = (),
        *,
        steps: Iterable[str] | None = None,
        catalogues: Paths = (),
        fetch: Iterable[str] = (),
        config: AnyPath | None = None,
        jobs: int = 1,
        retry: bool = False,
        reporter: Reporter | None = None,
    ) -> list[Tally]:
        """Reduce raw frames all the way to light curves, or by some steps only. What is done is not done again.

        Parameters
        ----------
        paths : path or iterable of path
            Raw frames to take in, or folders that hold them.
        steps : iterable of str, optional
            Names of the steps to run, as ``["solve"]``; all of them when omitted.
        catalogues : path or iterable of path
            Catalogue files to take in.
        fetch : iterable of str
            Services to ask for the sky of the frames; later runs ask them, too.
        config : path, optional
            Configuration file; without one, that of the last run holds.
        jobs : int
            Processes that work frames; 0: one a processor. A script that asks for more than one needs Python's usual
            ``if __name__ == "__main__":``.
        retry : bool
            Try again what failed before.
        reporter : Reporter, optional
            Receives how the work goes.

        Returns
        -------
        list of Tally
            One per step: units done now, done before, and failed, with the reasons. That some units fail is no error.

        Raises
        ------
        ConfigurationError, NothingToDo
            A path, step, service or setting is wrong, or there are no raw frames among `paths`.
        ArchiveUnavailable
            When another program writes.

        Examples
        --------
        >>> tallies = archive.reduce("nights/2026-03-24", catalogues="field.ecsv")
        >>> [(tally.step, tally.failed) for tally in tallies if tally.failed]
        """
        from starledger.reduce import reduce

        return reduce(
            self,
            as_paths(paths),
            steps=None if steps is None else list(steps),
            catalogues=as_paths(catalogues),
            fetch=list(fetch),
            config=as_path(config),
            jobs=jobs,
            retry=retry,
            reporter=reporter,
        )

    def only_writer(self, *, wait: float = 0.0) -> AbstractContextManager[None]:
        """Be the archive's one writer for the length of a `with` statement.

        Parameters
        ----------
        wait : float
            Seconds to wait for another program that writes.

        Raises
        ------
        ArchiveUnavailable
            When another program writes.

        Examples
        --------
        >>> with archive.only_writer():
        ...     pass  # copy the file, say
        """
        return only_writer(self.writer, wait=wait)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that reads.

        Examples
        --------
        >>> with archive.reading() as session:
        ...     session.connection().exec_driver_sql("SELECT count(*) FROM frame").scalar()
        """
        with reachable(self.engine.url), Session(self.engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session of the one writer, committed at the end; its rows keep their values after it.

        While another program writes, it waits: $STARLEDGER_WAIT seconds at most, 60 when that is not set.

        Raises
        ------
        ArchiveUnavailable
            When another program still writes then.

        Examples
        --------
        >>> with archive.writing() as session:
        ...     session.connection().exec_driver_sql("UPDATE target SET period = NULL")
        """
        with self.only_writer(wait=patience()), reachable(self.engine.url), Session(self.writer, expire_on_commit=False) as session:
            yield session
            session.commit()


def _degrees(coord: Any) -> tuple[float, float]:
    from starledger.quantities import position

    return position(coord)


def create_archive(url: str | None = None, files: Path | None = None, *, check: Callable[[Archive], None] | None = None) -> Archive:
    """Make an archive where there is none, and open it; one that exists is opened, with this version's views.

    Parameters
    ----------
    url : str, optional
        See `default_url`.
    files : Path, optional
        Root of the pixel products; needed for PostgreSQL, else `<archive name>-files` beside the SQLite file.
    check : callable, optional
        Called with the archive before it is made where there is none: what it raises keeps it from being made.

    Raises
    ------
    ConfigurationError
        When there is no root, or the archive has its products in another one.
    """
    parsed = parse_url(url or default_url())
    path = sqlite_path(parsed)
    if path is not None and not path.parent.is_dir():
        raise ConfigurationError("no such folder", where=str(path.parent), hint="make it, or name another archive", code="archive.folder")
    with reachable(parsed):
        new = path is not None and not path.is_file()
        engine = make_engine(parsed, writer=True)
        new = new or schema.current(engine) is None
        root = roots.root_of(parsed, files, None if new else engine)
        archive = Archive(engine, root, writer=True)
        if new:
            if check is not None:
                check(archive)
            with archive.only_writer():
                schema.upgrade(engine)
        schema.require_current(engine)
        renew_views(archive)
        if root != (roots.stored_root(engine) or roots.beside(parsed)):
            with archive.only_writer():
                roots.move_root(archive, root)
    return archive


def open_archive(url: str | None = None, files: Path | None = None, *, writer: bool = False) -> Archive:
    """Open an archive that exists.

    Raises
    ------
    ArchiveUnavailable
        It cannot be reached, or its schema is not this version's.
    """
    parsed = parse_url(url or default_url())
    path = sqlite_path(parsed)
    if path is not None and not path.is_file():
        raise no_archive(path)
    engine = make_engine(parsed, writer=writer)
    with reachable(parsed):
        schema.require_current(engine)
        return Archive(engine, roots.root_of(parsed, files, engine), writer=writer)


def no_archive(path: Path) -> ArchiveUnavailable:
    """The error for a SQLite archive that is not there."""
    return ArchiveUnavailable("no such archive", where=str(path), hint="run 'starledger init' or give --archive", code="archive.missing")


def open(url: str | None = None, *, files: AnyPath | None = None) -> Archive:
    """Open an archive that exists.

    Parameters
    ----------
    url : str, optional
        ``sqlite:///FILE``, a path, or ``postgresql://USER@HOST/NAME``; $STARLEDGER_ARCHIVE, else sqlite:///starledger.db, when omitted.
    files : path, optional
        Root of the pixel products, where it is not the one that the archive remembers.

    Raises
    ------
    ArchiveUnavailable
        It is not there, cannot be reached, or its schema is not this version's.

    Examples
    --------
    >>> archive = starledger.open("sqlite:///starledger.db")
    """
    return open_archive(url, as_path(files))


def create(url: str | None = None, *, files: AnyPath | None = None) -> Archive:
    """Make an archive where there is none, and open it; one that exists is opened. Parameters as for `open`; PostgreSQL needs `files`.

    Raises
    ------
    ConfigurationError
        When there is no root for the pixel products, or the archive has its products in another one.

    Examples
    --------
    >>> archive = starledger.create("sqlite:///night.db")
    """
    return create_archive(url, as_path(files))
