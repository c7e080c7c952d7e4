"""The commands that read the archive, and those by which a person adds to it: lc, sql, mask, and with them those of targets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import starledger
from db.errors import ConfigurationError
from queries.limits import TIMEOUT
from starledger.cli.options import ArchiveOption, OutputOption, ReasonOption
from starledger.cli.output import CurveFormat, TableFormat, csv_text, emit, emit_rows, rich_table, say, style_of
from starledger.cli.target import target_app

if TYPE_CHECKING:
    from queries.lightcurve import Curve

__all__ = ["register"]

_FORMAT = typer.Option("--format", help="How to print it; else by the file's suffix, else a table.")
UndoOption = Annotated[bool, typer.Option("--undo", help="Accept it again.")]

#: What a person wants to see of a point; CSV and ECSV have all columns.
_SHOWN = ("bjd_tdb", "mag", "mag_err", "mag_err_total", "quality", "flags", "passband", "slot", "airmass", "fwhm", "x", "y", "frame_id")

mask_app = typer.Typer(help="Mask frames, points and products that you know to be bad, each with a reason.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command("lc")(light_curve)
    app.command("sql")(sql)
    app.add_typer(target_app, name="target")
    app.add_typer(mask_app, name="mask")


def light_curve(
    what: Annotated[str, typer.Argument(metavar="WHAT", help='A source id, a name, or "RA DEC" in degrees or sexagesimal.')],
    radius: Annotated[float, typer.Option(min=0.0, help="Arcsec around a position in which the nearest source is taken.")] = 10.0,
    style: Annotated[CurveFormat | None, _FORMAT] = None,
    output: OutputOption = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Also plot it into a .png, .pdf or .svg file.")] = None,
    slot: Annotated[int | None, typer.Option(min=0, help="A photometry slot; the best one when omitted.")] = None,
    joined: Annotated[
        bool, typer.Option("--joined", help="Bring fields and cameras to one scale per passband, by the stars they have in common.")
    ] = False,
    archive: ArchiveOption = None,
) -> None:
    """Print the light curve of a star.

    CSV has the columns of the view light_curve, ECSV their units and where they come from as well.

    Example: starledger lc "HAT-P-32 b" --plot hatp32.png

    Example: starledger lc "02:04:10.3 +46:41:16" --radius 15 -o hatp32.csv

    Example: starledger lc "HAT-P-32 b" --joined -o both_cameras.ecsv
    """
    kind = str(style or style_of(output, ("csv", "ecsv")))
    curve = starledger.open(archive).curve(what, slot=slot, radius=radius, joined=joined)
    say(_headline(curve), error=True)
    shown = (*_SHOWN[:1], "scale", "joined_mag", "join_err", *_SHOWN[1:]) if joined else _SHOWN
    emit(lambda: rich_table(curve.columns, shown), {"csv": lambda: csv_text(curve.columns), "ecsv": lambda: _ecsv(curve)}, kind, output)
    if plot is not None:
        from starledger.plots import plot_curve  # matplotlib takes a second to import

        plot_curve(curve, plot)


def _headline(curve: Curve) -> str:
    """One line: name, id, place, separation, points, slots, reference."""
    found, meta = curve.found, curve.meta
    parts = [*filter(None, [found.name]), f"source {found.source_id}", f"{found.ra:.5f} {found.dec:+.5f}", f"mag {found.mag:.2f}"]
    if found.separation is not None:
        parts.append(f"{found.separation:.1f} arcsec from the position")
    parts.append(f"{meta['n_point']} points, {meta['n_mag']} with a magnitude")
    parts += [f"{where} ({what})" if what else where for where, what in meta["slots"].items()]
    parts.append("reference " + ", ".join(str(number) for number in meta["references"]))
    parts += [f"{where}: {text}" for where, text in meta.get("scales", {}).items()]
    return "; ".join(parts)


def _ecsv(curve: Curve) -> str:
    from db.views import VIEW_COLUMNS
    from queries.joined_curve import JOINED_COLUMNS
    from starledger.ecsv import ecsv_text

    columns = {**VIEW_COLUMNS, **JOINED_COLUMNS} if "scale" in curve.columns else VIEW_COLUMNS
    return ecsv_text(curve.columns, columns, curve.meta)


def sql(
    statement: Annotated[str, typer.Argument(metavar="STATEMENT", help="One statement that reads: SELECT or WITH.")],
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="Value of a :name; may be repeated.")
    ] = None,
    style: Annotated[TableFormat | None, _FORMAT] = None,
    output: OutputOption = None,
    timeout: Annotated[float, typer.Option(min=0.0, help="Seconds that the database may work on it; 0: no limit.")] = TIMEOUT,
    archive: ArchiveOption = None,
) -> None:
    """Answer a question in SQL; nothing can be written.

    CSV comes row by row, however many there are; a table has the first rows, and says so. A text in CSV that a spreadsheet would take
    for a formula has an apostrophe before it.

    Example: starledger sql "SELECT evening, count(*) FROM frame_quality GROUP BY evening"

    Example: starledger sql "SELECT bjd_tdb, mag FROM light_curve WHERE source_id = :star" -p star=353311946868523137 -o star.csv
    """
    from queries.sql import sql_rows, writer_by_right

    kind = str(style or style_of(output, ("csv",)))
    values = dict(_assignment(text) for text in parameter or [])
    engine = starledger.open(archive).engine
    with sql_rows(engine, statement, values, timeout=timeout) as (names, rows):
        if warning := writer_by_right(engine):
            say(warning, error=True)
        emit_rows(names, rows, kind, output)


def _assignment(text: str) -> tuple[str, int | float | str]:
    name, sign, value = text.partition("=")
    if not sign or not name.strip().isidentifier():
        raise ConfigurationError("no NAME=VALUE", where=f"-p {text}", hint="for example -p star=353311946868523137", code="sql.parameter")
    for kind in (int, float):
        try:
            return name.strip(), kind(value)
        except ValueError:
            continue
    return name.strip(), value


@mask_app.command("frame")
def mask_frame(
    frame_id: Annotated[int, typer.Argument(metavar="FRAME", help="frame_id, as in the views light_curve and frame_quality.")],
    reason: ReasonOption,
    archive: ArchiveOption = None,
) -> None:
    """Mask a whole frame: its points get quality 2.

    Example: starledger mask frame 17 --reason "satellite through the field"
    """
    mask = starledger.open(archive).masks.frame(frame_id, reason)
    say(f"mask {mask.annotation_id}: frame {frame_id}")


@mask_app.command("point")
def mask_point(
    frame_id: Annotated[int, typer.Argument(metavar="FRAME", help="frame_id of the point.")],
    source_id: Annotated[int, typer.Argument(metavar="SOURCE", help="source_id of the light curve.")],
    reason: ReasonOption,
    archive: ArchiveOption = None,
) -> None:
    """Mask one point of one light curve: it gets quality 2.

    Example: starledger mask point 17 353311946868523137 --reason "cosmic ray"
    """
    mask = starledger.open(archive).masks.point(frame_id, source_id, reason)
    say(f"mask {mask.annotation_id}: frame {frame_id}, source {source_id}")


@mask_app.command("product")
def mask_product(
    product_id: Annotated[int, typer.Argument(metavar="PRODUCT", help="product_id, as in the view good_master.")],
    reason: ReasonOption = "",
    undo: UndoOption = False,
    archive: ArchiveOption = None,
) -> None:
    """Reject a product, such as a master flat: it is no longer used, and what it was used for is stale.

    Example: starledger mask product 3 --reason "dew on the window"

    Example: starledger mask product 3 --undo
    """
    masks = starledger.open(archive).masks
    product = masks.accept(product_id) if undo else masks.product(product_id, reason)
    said = "no longer marked bad" if undo else "marked bad"
    say(f"product {product_id} ({product.kind}) is {said}; 'starledger reduce' makes anew what this changes")


@mask_app.command("list")
def mask_list(archive: ArchiveOption = None) -> None:
    """List what was masked, by whom and why.

    Example: starledger mask list
    """
    frame = starledger.open(archive).masks.list()
    emit(lambda: rich_table(frame), {}, "table", None)


@mask_app.command("remove")
def mask_remove(
    mask: Annotated[int, typer.Argument(metavar="MASK", help="Number of the masking, as 'mask list' shows it.")],
    archive: ArchiveOption = None,
) -> None:
    """Take a masking of a frame or a point back.

    Example: starledger mask remove 2
    """
    starledger.open(archive).masks.remove(mask)
    say(f"mask {mask} removed")
