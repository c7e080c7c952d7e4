"""Commands about the photometric references of fields."""

from __future__ import annotations

from typing import Annotated

import typer

import starledger
from starledger.cli.options import ArchiveOption, OutputOption, ReasonOption
from starledger.cli.output import TableFormat, csv_text, emit, rich_table, say

__all__ = ["register"]

FormatOption = Annotated[TableFormat, typer.Option("--format", help="A table for people, or CSV with every column.")]
FieldArgument = Annotated[int, typer.Argument(metavar="FIELD", help="field_id, as 'reference list' shows it.")]
ReferenceOption = Annotated[
    int | None, typer.Option("--reference", metavar="REFERENCE", help="reference_id, as 'reference list' shows it.")
]

reference_app = typer.Typer(help="What magnitudes refer to, field by field: list, make, compare, accept, retract.", no_args_is_help=True)

#: What a person wants to see; CSV has every column.
_COLUMNS = (
    *("field_id", "reference_id", "status", "counts", "n_night", "n_frame", "n_source", "change", "is_settled", "fit_order", "fit_terms"),
    *("nights_fitted", "nights_measured", "n_weighed", "n_excluded", "reason"),
)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(reference_app, name="reference")


@reference_app.command("list")
def reference_list(
    field: Annotated[int | None, typer.Argument(metavar="[FIELD]", help="Of this field; all when omitted.")] = None,
    style: FormatOption = TableFormat.table,
    output: OutputOption = None,
    archive: ArchiveOption = None,
) -> None:
    """List references: which count, from how many nights, how far they settled, why they were made.

    Example: starledger reference list
    """
    frame = starledger.open(archive).references.list(field)
    emit(lambda: rich_table(frame, _COLUMNS), {"csv": lambda: csv_text(frame)}, style, output)


@reference_app.command("scores")
def reference_scores(
    reference: Annotated[int, typer.Argument(metavar="REFERENCE", help="reference_id, as 'reference list' shows it.")],
    style: FormatOption = TableFormat.table,
    output: OutputOption = None,
    archive: ArchiveOption = None,
) -> None:
    """Show the scores by which a reference's first frame was chosen, the best first.

    Example: starledger reference scores 2
    """
    frame = starledger.open(archive).references.scores(reference)
    emit(lambda: rich_table(frame), {"csv": lambda: csv_text(frame)}, style, output)


@reference_app.command("terms")
def reference_terms(
    reference: Annotated[int, typer.Argument(metavar="REFERENCE", help="reference_id, as 'reference list' shows it.")],
    style: FormatOption = TableFormat.table,
    output: OutputOption = None,
    archive: ArchiveOption = None,
) -> None:
    """Show the orders and terms that were tried for the fits to a reference, and how each did on stars that had no say.

    None are listed where they were given, and where fewer than 100 stars are measured well: so few would each have a say.

    Example: starledger reference terms 2
    """
    frame = starledger.open(archive).references.terms(reference)
    emit(lambda: rich_table(frame), {"csv": lambda: csv_text(frame)}, style, output)


@reference_app.command("compare")
def reference_compare(
    field: FieldArgument,
    new: Annotated[int | None, typer.Option("--new", metavar="REFERENCE", help="The new one; the newest when omitted.")] = None,
    old: Annotated[int | None, typer.Option("--old", metavar="REFERENCE", help="The old one; the one before when omitted.")] = None,
    season: Annotated[
        bool, typer.Option("--season", help="The one that counts with the joint solution of all nights, which are read into memory.")
    ] = False,
    style: FormatOption = TableFormat.table,
    output: OutputOption = None,
    archive: ArchiveOption = None,
) -> None:
    """Compare two references star by star, by half magnitude: shift, and scatter about either.

    Example: starledger reference compare 1
    """
    if season:
        joint = starledger.open(archive).references.joint(field)
        emit(lambda: rich_table(joint), {"csv": lambda: csv_text(joint)}, style, output)
        return
    frame = starledger.open(archive).references.compare(field, new, old)
    emit(lambda: rich_table(frame), {"csv": lambda: csv_text(frame)}, style, output)
    if style == TableFormat.table and output is None:
        say(f"new: reference {frame.attrs['new']}, old: reference {frame.attrs['old']}")


@reference_app.command("new")
def reference_new(
    field: FieldArgument,
    reason: ReasonOption,
    frame: Annotated[int | None, typer.Option("--frame", metavar="FRAME", help="Begin with this frame, not with nights' means.")] = None,
    hold: Annotated[bool, typer.Option("--hold", help="Let it wait for 'reference accept'.")] = False,
    archive: ArchiveOption = None,
) -> None:
    """Ask for a new reference of a field.

    Example: starledger reference new 1 --reason "twelve nights instead of one"
    """
    starledger.open(archive).references.new(field, reason, frame=frame, hold=hold)
    say(f"field {field}: 'starledger reduce' makes it and fits every night to it")


@reference_app.command("accept")
def reference_accept(field: FieldArgument, reason: ReasonOption, reference: ReferenceOption = None, archive: ArchiveOption = None) -> None:
    """Let a reference count: the newest candidate, or the one named.

    Example: starledger reference accept 1 --reason "scatters less than the one before"
    """
    opened = starledger.open(archive)
    made = opened.references.accept(field, reason, reference=reference)
    say(f"field {field}: reference {made.reference_id} counts")
    _say_pending(opened, field, made.reference_id)


@reference_app.command("retract")
def reference_retract(field: FieldArgument, reason: ReasonOption, reference: ReferenceOption = None, archive: ArchiveOption = None) -> None:
    """Take a reference back: the one that counts, or the one named.

    Example: starledger reference retract 1 --reason "made of nights with dew"
    """
    opened = starledger.open(archive)
    made = opened.references.retract(field, reason, reference=reference)
    if made is None:
        say(f"field {field}: no reference counts, and there are no light curves of it; 'starledger reduce' makes one")
        return
    say(f"field {field}: reference {made.reference_id} counts")
    _say_pending(opened, field, made.reference_id)


@reference_app.command("purge")
def reference_purge(
    field: FieldArgument,
    reason: ReasonOption,
    keep: Annotated[int, typer.Option("--keep", min=1, help="Accepted references that stay, the newest.")] = 2,
    archive: ArchiveOption = None,
) -> None:
    """Delete the magnitudes and fits of references that no light curve is of.

    Example: starledger reference purge 1 --reason "the season is over"
    """
    gone = starledger.open(archive).references.purge(field, reason, keep=keep)
    say(f"field {field}: purged {', '.join(str(one) for one in gone)}" if gone else f"field {field}: nothing to purge")


def _say_pending(archive: starledger.Archive, field: int, reference: int) -> None:
    """How many nights have no light curve for now."""
    frame = archive.references.list(field)
    row = frame[frame["reference_id"] == reference].iloc[0]
    missing = int(row["nights_measured"] - row["nights_fitted"])
    if missing:
        say(f"{missing} of {int(row['nights_measured'])} nights are not fitted to it and have no light curve: run 'starledger reduce'")
