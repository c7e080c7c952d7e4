"""Command ``solve``: plate solutions, of an archive's pending frames or of single files without an archive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

import starledger
from db.errors import StarledgerError
from starledger.cli.options import ArchiveOption, CatalogueOption, ConfigOption, FilesOption, JobsOption, RetryOption
from starledger.cli.output import cell, say, show

if TYPE_CHECKING:
    from reduction.astrometry.solve_file import FileSolution
    from starledger.solving import SolvedFile

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
    from starledger.raw_files import expand

    found = starledger.solve(paths, catalogues=catalogue or (), ra=ra, dec=dec, scale=scale, blind=blind, index=index, config=config)
    several = len(expand(paths)) > 1
    failed = [one for one in found if not _show(one, several, plot, output)]
    if failed:
        raise typer.Exit(1)


def _show(one: SolvedFile, several: bool, plot: Path | None, output: Path | None) -> bool:
    """Print a file's solution, and write what was asked for; False when it has none, or that failed."""
    try:
        if one.solution is not None:
            say(str(one.path), style="bold")
            show(_table(one.solution))
        if one.error is not None:
            raise one.error
        if plot is not None:
            one.plot(_target(plot, one.path, ".png", several))
        if output is not None:
            one.write(_target(output, one.path, ".fits", several))
    except StarledgerError as error:
        say(str(error), label="starledger:", error=True)
        return False
    return True


def _target(given: Path, path: Path, suffix: str, several: bool) -> Path:
    """The file to write: that which was given, or one named after the frame in the folder that was."""
    if not several and given.suffix:
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
        table.add_row(Text(name, "dim"), cell(text))
    return table


def _sexagesimal(ra: float, dec: float) -> str:
    import astropy.units as u
    from astropy.coordinates import SkyCoord

    return str(SkyCoord(ra * u.deg, dec * u.deg).to_string("hmsdms", precision=1))


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(rich_help_panel="Single steps, in order")(solve)
