"""The commands for targets: add, list, remove, measure, lc."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Annotated

import typer

import starledger
from db.errors import ConfigurationError
from starledger.cli.options import ArchiveOption, JobsOption, OutputOption, RetryOption
from starledger.cli.output import CurveFormat, csv_text, emit, rich_table, say, screen, style_of

if TYPE_CHECKING:
    from db.tables import Target
    from queries.target_curve import TargetCurve

__all__ = ["target_app"]

target_app = typer.Typer(
    help="The stars and positions you follow: add, list, remove, measure them, and print their light curves.", no_args_is_help=True
)

#: What a person wants to see of a point; CSV and ECSV have all columns.
_SHOWN = ("bjd_tdb", "flux", "flux_err", "flux_cal", "flux_cal_err", "mag", "mag_err", "quality", "flags", "passband", "x", "y", "frame_id")
_FILES = (".csv", ".ecsv", ".txt", ".tsv")

NameArgument = Annotated[str, typer.Argument(help="Its name.")]


@target_app.command("add")
def target_add(
    name: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="Its name; or a .csv file of many: name, ra, dec[, epoch, period, duration].")
    ],
    position: Annotated[
        str | None, typer.Argument(metavar="['RA DEC']", help='"RA DEC", ICRS, in degrees or sexagesimal; may be left out with --resolve.')
    ] = None,
    epoch: Annotated[float | None, typer.Option(help="A mid-transit, or a maximum or minimum of a variable, BJD_TDB.")] = None,
    period: Annotated[float | None, typer.Option(help="Period in days.")] = None,
    duration: Annotated[float | None, typer.Option(help="Duration of the transit in days.")] = None,
    resolve: Annotated[bool, typer.Option("--resolve", help="Ask SIMBAD, VSX and the NASA Exoplanet Archive for the rest.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that each of them may take.")] = 30.0,
    archive: ArchiveOption = None,
) -> None:
    """Add a star or a position to follow, with its ephemeris where there is one; or many of a file, all of them or none.

    Only with --resolve is the network asked; what you give yourself stands. A mirror of a service is named by $STARLEDGER_SIMBAD,
    $STARLEDGER_VIZIER or $STARLEDGER_EXOPLANETS.

    Example: starledger target add "HAT-P-32 b" "02 04 10.25 +46 41 16.4" --epoch 2454420.44645 --period 2.1500082 --duration 0.13

    Example: starledger target add "HAT-P-32 b" --resolve

    Example: starledger target add positions.csv
    """
    targets = starledger.open(archive).targets
    if position is None and not resolve and name.lower().endswith(_FILES):
        if (epoch, period, duration) != (None, None, None):
            raise ConfigurationError("an ephemeris is one target's", where=name, hint="give it in the file", code="target.usage")
        added = targets.add_file(name)
        linked = sum(target.source_id is not None for target in added)
        say(f"{len(added)} targets, {linked} of them with a source; 'starledger target measure' measures them on all frames")
        return
    one = targets.add(name, position, epoch=epoch, period=period, duration=duration, resolve=resolve, timeout=timeout)
    for line in one.lines:
        say(line)
    say(_target_line(one.target))


def _target_line(target: Target) -> str:
    source = f"source {target.source_id}" if target.source_id is not None else "no source there yet"
    place = f"{target.name}: {target.ra:.5f} {target.dec:+.5f}"
    origins = [f"place from {target.position_from}"] if target.position_from else []
    origins += [f"ephemeris from {target.ephemeris_from}"] if target.ephemeris_from else []
    return ", ".join([place, source, *origins])


@target_app.command("list")
def target_list(archive: ArchiveOption = None) -> None:
    """List the stars and positions you follow.

    Example: starledger target list
    """
    frame = starledger.open(archive).targets.list()
    emit(lambda: rich_table(frame), {}, "table", None)


@target_app.command("remove")
def target_remove(name: NameArgument, archive: ArchiveOption = None) -> None:
    """No longer follow a target; its measurements go with it.

    Example: starledger target remove "check star"
    """
    target = starledger.open(archive).targets.remove(name)
    say(f"{target.name} removed")


@target_app.command("measure")
def target_measure(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Only frames that may hold one of these targets; else all.")
    ] = None,
    jobs: JobsOption = 0,
    retry: RetryOption = False,
    archive: ArchiveOption = None,
) -> None:
    """Measure the flux at the positions of targets on all frames that hold them, whether or not a star was seen there.

    What is measured is not measured again, so it can be stopped and called again at any time. 'starledger reduce' does the same for new
    frames.

    Example: starledger target measure

    Example: starledger target measure "HAT-P-32 b" "check star"
    """
    from starledger.cli.report import ProgressReporter, summary_table

    opened, console = starledger.open(archive), screen(error=True)
    with ProgressReporter(console) as reporter:
        tally = opened.targets.measure(*(names or ()), jobs=jobs, retry=retry, reporter=reporter)
    console.print(summary_table([tally]))
    counts = opened.sql(
        "SELECT count(*) AS n, count(DISTINCT m.target_id) AS targets, count(DISTINCT m.frame_id) AS frames FROM target_measurement m"
    )
    n, targets, frames = (int(counts[name][0]) for name in ("n", "targets", "frames"))
    say(f"{n} measurements of {targets} target{'s' * (targets != 1)} on {frames} frame{'s' * (frames != 1)}")
    if tally.failed:
        raise typer.Exit(1)


@target_app.command("lc")
def target_light_curve(
    name: NameArgument,
    per_night: Annotated[bool, typer.Option("--per-night", help="The mean flux of each night, with its upper limit.")] = False,
    style: Annotated[CurveFormat | None, typer.Option("--format", help="How to print it; else by the file's suffix, else a table.")] = None,
    output: OutputOption = None,
    archive: ArchiveOption = None,
) -> None:
    """Print the flux at a target's position on every frame that holds it, whether or not a star was seen there.

    CSV has the columns of the view target_light_curve, ECSV their units and where they come from as well.

    Example: starledger target lc "HAT-P-32 b"

    Example: starledger target lc "check star" --per-night -o nights.csv
    """
    kind = str(style or style_of(output, ("csv", "ecsv")))
    curve = starledger.open(archive).targets.curve(name)
    rows, shown = (curve.nights, None) if per_night else (curve.frame, _SHOWN)
    found = curve.meta
    line = f"{found['name']}; {found['ra']:.5f} {found['dec']:+.5f}; {found['n_point']} points; flux_cal 1 is of magnitude 25"
    say(line, error=True)
    emit(lambda: rich_table(rows, shown), {"csv": lambda: csv_text(rows), "ecsv": lambda: _ecsv(curve, per_night)}, kind, output)


def _ecsv(curve: TargetCurve, per_night: bool) -> str:
    from astropy.table import Table

    from starledger.quantities import target_table  # astropy takes a second to import

    stream = io.StringIO()
    Table(target_table(curve, per_night=per_night)).write(stream, format="ascii.ecsv")  # columns of numbers and their units
    return stream.getvalue()
