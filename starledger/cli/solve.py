"""Command ``solve``: plate solutions, of an archive's pending frames or of single files without an archive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from db.errors import ConfigurationError, NothingToDo, StarledgerError
from starledger.cli.options import ArchiveOption, CatalogueOption, ConfigOption, FilesOption, JobsOption, RetryOption

if TYPE_CHECKING:
    from reduction.astrometry.solve_file import FileSolution, Hints

__all__ = ["register"]


PathsArgument = Annotated[
    list[Path] | None, typer.Argument(help="Files to solve without an archive; without any: the pending frames of an archive.")
]
RaOption = Annotated[float | None, typer.Option("--ra", help="Right ascension of the frame, deg; else the header's.", show_default=False)]
DecOption = Annotated[float | None, typer.Option("--dec", help="Declination of the frame, deg.", show_default=False)]
ScaleOption = Annotated[float | None, typer.Option("--scale", help="Pixel scale, arcsec; else the header's.", show_default=False)]
BlindOption = Annotated[bool, typer.Option("--blind", help="Take no hint from the header.")]
IndexOption = Annotated[Path | None, typer.Option("--index", help="Folder with astrometry.net index files.", show_default=False)]
PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", help="Draw matched stars and residuals into this file; into a folder for several.", show_default=False),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Write the pixels with the solution to this FITS file; to a folder for several.", show_default=False
    ),
]


def solve(
    paths: PathsArgument = None,
    catalogue: CatalogueOption = None,
    ra: RaOption = None,
    dec: DecOption = None,
    scale: ScaleOption = None,
    blind: BlindOption = False,
    index: IndexOption = None,
    plot: PlotOption = None,
    output: OutputOption = None,
    archive: ArchiveOption = None,
    files: FilesOption = None,
    config: ConfigOption = None,
    jobs: JobsOption = 0,
    retry: RetryOption = False,
) -> None:
    """Find plate solutions. With FILES: of these alone, and no archive is needed; without: of an archive's pending frames.

    Example: starledger solve light_001.fits --catalogue field.ecsv --plot light_001.png

    Example: starledger solve light_001.fits --ra 31.0 --dec 46.7 --scale 5.2 --catalogue field.ecsv

    Example: starledger solve --archive sqlite:///night.db
    """
    if not paths:
        from starledger.cli.app import run_steps

        run_steps(["solve"], [], archive, files, catalogue or [], config, jobs, retry)
        return
    from reduction.astrometry.blind import DEFAULT_INDEX_DIR
    from reduction.astrometry.solve_file import Hints

    if (ra is None) != (dec is None):
        raise ConfigurationError("only one of --ra and --dec", hint="give both, or neither", code="solve.usage")
    hints = Hints(ra, dec, scale, index or DEFAULT_INDEX_DIR, use_header=not blind)
    failed = _solve_files(paths, catalogue or [], config, hints, plot, output)
    if failed:
        raise typer.Exit(1)


def _solve_files(
    paths: Sequence[Path], catalogues: Sequence[Path], config: Path | None, hints: Hints, plot: Path | None, output: Path | None
) -> int:
    """Solve and print files one by one; the number of those that could not be."""
    from reduction.astrometry.solve_file import solve_file, stars_from, write_solved
    from reduction.files.raw_files import find_raw_files
    from reduction.headers.instrument import load_definitions

    definitions = load_definitions(config)
    stars = stars_from(catalogues)
    console = Console(highlight=False)
    chosen = [file for path in paths for file in (find_raw_files([path]) if path.is_dir() else [path])]
    if not chosen:
        raise NothingToDo(
            "no raw frames to solve",
            where=", ".join(str(path) for path in paths),
            hint="name files, or the folder that holds them",
            code="input.empty",
        )
    failed = 0
    for path in chosen:
        try:
            found = solve_file(path, stars, definitions, hints)
            console.print(f"[bold]{escape(str(path))}[/bold]", soft_wrap=True)
            console.print(_table(found))
            if plot is not None:
                from starledger.plots import plot_solution

                plot_solution(found, _target(plot, path, ".png", len(chosen)), path.name)
            if output is not None:
                write_solved(found, _target(output, path, ".fits", len(chosen)))
        except StarledgerError as error:
            typer.echo(f"starledger: {error}", err=True)
            failed += 1
    return failed


def _target(given: Path, path: Path, suffix: str, n: int) -> Path:
    """The file to write: that which was given, or one named after the frame in the folder that was."""
    if n == 1 and given.suffix:
        return given
    given.mkdir(parents=True, exist_ok=True)
    return given / f"{path.stem}{suffix}"


def _table(found: FileSolution) -> Table:
    from reduction.astrometry.kernels.fits_wcs import fits_wcs

    s, fit = found.fit.solution, found.fit
    ra, dec = s.centre
    table = Table(box=None, show_header=False, pad_edge=False)
    ny, nx = found.data.shape
    rows = {
        "centre": f"{ra:.5f} {dec:+.5f} deg   {_sexagesimal(ra, dec)}",
        "field": f"{nx * s.scale / 3600:.3f} x {ny * s.scale / 3600:.3f} deg, {nx} x {ny} pixel, channel {found.channel.name}",
        "scale": f"{s.scale:.4f} arcsec/pixel",
        "rotation": f"{s.rotation:.3f} deg (position angle of +y), {'as on the sky' if s.parity < 0 else 'mirrored'}",
        "stars": f"{fit.n_matched} of {fit.n_catalogue_in_frame} catalogue stars matched, {len(found.found)} detections",
        "residuals": f"{fit.rms_x:.3f} x {fit.rms_y:.3f} pixel (each star left out of its own fit)",
        "distortion": f"order {s.order}",
        "start": fit.method,
        "FITS WCS": f"agrees to {fits_wcs(s)[1]:.4f} pixel",
    }
    for name, text in rows.items():
        table.add_row(f"[dim]{name}[/dim]", escape(text))
    return table


def _sexagesimal(ra: float, dec: float) -> str:
    import astropy.units as u
    from astropy.coordinates import SkyCoord

    return str(SkyCoord(ra * u.deg, dec * u.deg).to_string("hmsdms", precision=1))


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(rich_help_panel="Single steps, in order")(solve)
