"""Plate solutions of single files, without an archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from db.errors import ConfigurationError, NothingToDo, StarledgerError
from starledger.paths import AnyPath, Paths, as_path, as_paths, one_path
from starledger.raw_files import definitions, expand

if TYPE_CHECKING:
    from reduction.astrometry.solve_file import FileSolution, Hints, StarList
    from reduction.headers.instrument import InstrumentDefinition

__all__ = ["SolvedFile", "solve"]


@dataclass(frozen=True)
class SolvedFile:
    """What came of one file.

    Attributes
    ----------
    path : Path
        The file.
    solution : FileSolution or None
        Its solution, with detections, catalogue stars and residuals.
    error : StarledgerError or None
        Why it has none.
    """

    path: Path
    solution: FileSolution | None = None
    error: StarledgerError | None = None

    def plot(self, path: AnyPath) -> None:
        """Draw matched stars and residuals into a .png, .pdf or .svg file.

        Raises
        ------
        StarledgerError
            That which kept the file from being solved, or the plot from being written.

        Examples
        --------
        >>> solved = next(starledger.solve("light_001.fits", catalogues="field.ecsv"))
        >>> solved.plot("light_001.png")
        """
        from starledger.plots import plot_solution

        plot_solution(self._solution(), one_path(path), self.path.name)

    def write(self, path: AnyPath) -> None:
        """Write the pixels as FITS with the solution in the header.

        Raises
        ------
        StarledgerError
            That which kept the file from being solved, or from being written.

        Examples
        --------
        >>> solved = next(starledger.solve("light_001.fits", catalogues="field.ecsv"))
        >>> solved.write("solved_001.fits")
        """
        from reduction.astrometry.solve_file import write_solved

        write_solved(self._solution(), one_path(path))

    def _solution(self) -> FileSolution:
        if self.solution is None:
            raise self.error or AssertionError("neither a solution nor an error")
        return self.solution


def solve(
    paths: Paths,
    *,
    catalogues: Paths = (),
    ra: float | None = None,
    dec: float | None = None,
    scale: float | None = None,
    blind: bool = False,
    index: AnyPath | None = None,
    config: AnyPath | None = None,
) -> Iterator[SolvedFile]:
    """Find the plate solutions of files, one by one; those of an archive's frames are its step `solve`.

    Parameters
    ----------
    paths : path or iterable of path
        Raw or calibrated files, or folders that hold them.
    catalogues : path or iterable of path
        Catalogue files with the stars of that part of the sky.
    ra, dec : float, optional
        Position of the frame, degrees; else the header's.
    scale : float, optional
        Pixel scale, arcsec; else the header's.
    blind : bool
        Take no hint from the header.
    index : path, optional
        Folder with astrometry.net index files.
    config : path, optional
        TOML file with instruments, as for a reduction.

    Returns
    -------
    iterator of SolvedFile
        A file is solved when it is asked for; one that cannot be solved ends nothing: its `error` says why.

    Raises
    ------
    ConfigurationError
        Only one of `ra` and `dec` is given, or a catalogue or `config` is wrong.
    NothingToDo
        There is no file.

    Examples
    --------
    >>> for solved in starledger.solve("light_001.fits", catalogues="field.ecsv"):
    ...     centre = solved.solution.fit.solution.centre if solved.solution else solved.error
    """
    from reduction.astrometry.blind import DEFAULT_INDEX_DIR
    from reduction.astrometry.solve_file import Hints, stars_from

    if (ra is None) != (dec is None):
        raise ConfigurationError("only one of --ra and --dec", hint="give both, or neither", code="solve.usage")
    hints = Hints(ra, dec, scale, as_path(index) or DEFAULT_INDEX_DIR, use_header=not blind)
    known, stars, given = definitions(config), stars_from(as_paths(catalogues)), as_paths(paths)
    chosen = expand(given)
    if not chosen:
        raise NothingToDo(
            "no raw frames to solve",
            where=", ".join(str(path) for path in given),
            hint="name files, or the folder that holds them",
            code="input.empty",
        )
    return (_solved(path, stars, known, hints) for path in chosen)


def _solved(path: Path, stars: StarList, known: Sequence[InstrumentDefinition], hints: Hints) -> SolvedFile:
    from reduction.astrometry.solve_file import solve_file

    try:
        return SolvedFile(path, solve_file(path, stars, known, hints))
    except StarledgerError as error:
        return SolvedFile(path, error=error)
