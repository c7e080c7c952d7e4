"""The commands about frames and masters: what they were taken for, which serves which, and a person's corrections."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import starledger
from starledger.cli.options import ArchiveOption, OutputOption, ReasonOption
from starledger.cli.output import TableFormat, csv_text, emit, rich_table, say

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["register"]

FormatOption = Annotated[TableFormat, typer.Option("--format", help="A table for people, or CSV with every column.")]
NightOption = Annotated[str | None, typer.Option("--night", metavar="DATE", help="The night that began on this evening, as 2017-12-19.")]
FrameOption = Annotated[int | None, typer.Option("--frame", metavar="FRAME", help="One frame, by its frame_id.")]
FramesArgument = Annotated[list[int], typer.Argument(metavar="FRAME...", help="frame_id, as 'frames list' shows it.")]

frames_app = typer.Typer(help="What each frame was taken for, on what evidence; correct it.", no_args_is_help=True)
masters_app = typer.Typer(help="Master bias, dark and flat frames: their state, and which to use.", no_args_is_help=True)

#: What a person wants to see; CSV has every column.
_FRAMES = ("frame_id", "night", "file", "channel", "type", "confidence", "header", "exptime", "passband", "reason")
_QUALITY = (
    "frame_id",
    "night",
    "file",
    "verdict",
    "factor",
    "extinction",
    "pattern",
    "scatter_ratio",
    "fwhm_ratio",
    "reason",
    "kept_because",
)
_MASTERS = (
    "master_id",
    "kind",
    "night",
    "channel",
    "passband",
    "exptime",
    "ccd_temperature",
    "n_frame",
    "n_rejected",
    "level",
    "noise",
    "n_used",
    "state",
    "product_id",
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.add_typer(frames_app, name="frames")
    app.add_typer(masters_app, name="masters")


@frames_app.command("list")
def frames_list(
    night: NightOption = None,
    kind: Annotated[str | None, typer.Option("--type", metavar="TYPE", help="bias, dark, flat, object or other.")] = None,
    doubtful: Annotated[bool, typer.Option("--doubtful", help="Only those whose header says otherwise, or that are not sure.")] = False,
    style: FormatOption = TableFormat.table,
    output: OutputOption = None,
    archive: ArchiveOption = None,
) -> None:
    """List frames with their type, how sure it is, what the header says, and why.

    Example: starledger frames list --night 2017-12-19 --doubtful
    """
    frame = starledger.open(archive).frames.list(night=night, type=kind, doubtful=doubtful)
    shown = frame.assign(file=[Path(path).name for path in frame["path"]])
    emit(lambda: rich_table(shown, _FRAMES, title=_summary(frame)), {"csv": lambda: csv_text(frame)}, style, output)


def _summary(frame: pd.DataFrame) -> str:
    counts = frame["type"].fillna("not sorted yet").value_counts(sort=False).sort_index()
    said = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "no frames"
    otherwise = int((frame["disagrees"] == 1).sum())
    return f"{said}; of {otherwise} the header says otherwise" if otherwise else said


@frames_app.command("psf")
def frames_psf(
    frame_id: Annotated[int, typer.Argument(metavar="FRAME", help="frame_id, as 'frames list' shows it.")],
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw the profile over the frame into this file.")] = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="FILE", help="Write model, sky, residual and pull images into this FITS file.")
    ] = None,
    archive: ArchiveOption = None,
) -> None:
    """Show the profile of stars that a frame is measured with: whose it is, of which kind, from how many stars, how well it fits.

    Example: starledger frames psf 35 --plot psf.png --model model.fits
    """
    frames = starledger.open(archive).frames
    found = frames.psf_summary(frame_id)
    stars = f"{found['n_star']} stars, reduced chi2 {found['chi2']:.2f}" if found["n_star"] else "no stars of its own"
    say(f"frame {frame_id}: {found['kind']} ({found['reason']}); order {found['poly_order']} in x, y; {stars}")
    shape = "" if found["shape_fwhm"] is None else f", of the shape map {found['shape_fwhm']:.2f}"
    if found["whose"] == "shared":
        say(f"the map is shared by {found['n_frame']} few-starred frames of the night")
    say(f"FWHM in the middle {found['fwhm']:.2f} pixel{shape}; counted as far as {found['radius']:.1f} pixel")
    if plot is not None:
        frames.plot_psf(frame_id, plot)
    if model is not None:
        frames.write_model(frame_id, model)


@frames_app.command("set")
def frames_set(
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="bias, dark, flat, object or other.")],
    frame_ids: FramesArgument,
    reason: ReasonOption,
    archive: ArchiveOption = None,
) -> None:
    """Say what frames are: it wins over pixels and header, and the next run makes anew what depends on it.

    Example: starledger frames set flat 12 13 14 --reason "dome flats, mislabelled"
    """
    starledger.open(archive).frames.set(kind, frame_ids, reason)
    say(f"{len(frame_ids)} frames are {kind}; 'starledger reduce' makes anew what this changes")


@frames_app.command("unset")
def frames_unset(frame_ids: FramesArgument, archive: ArchiveOption = None) -> None:
    """Take corrections back: pixels and header decide again.

    Example: starledger frames unset 12 13 14
    """
    starledger.open(archive).frames.unset(frame_ids)
    say(f"{len(frame_ids)} corrections taken back; 'starledger reduce' makes anew what this changes")


@frames_app.command("quality")
def frames_quality(
    night: NightOption = None,
    whole: Annotated[bool, typer.Option("--all", help="Also those of which there is nothing to say.")] = False,
    style: FormatOption = TableFormat.table,
    output: OutputOption = None,
    archive: ArchiveOption = None,
) -> None:
    """List what the magnitude fit made of frames: kept, down-weighted or excluded, and why.

    Example: starledger frames quality --night 2017-12-19
    """
    frame = starledger.open(archive).frames.quality(night=night, all=whole)
    shown = frame.assign(file=[Path(path).name for path in frame["path"]])
    emit(lambda: rich_table(shown, _QUALITY), {"csv": lambda: csv_text(frame)}, style, output)


@frames_app.command("keep")
def frames_keep(frame_ids: FramesArgument, reason: ReasonOption, archive: ArchiveOption = None) -> None:
    """Keep frames, whatever the magnitude fit makes of them; the next run fits their nights anew.

    Example: starledger frames keep 12 13 --reason "the cloud missed our star"
    """
    starledger.open(archive).frames.keep(frame_ids, reason)
    say(f"{len(frame_ids)} frames are kept; 'starledger reduce' makes anew what this changes")


@frames_app.command("judge")
def frames_judge(frame_ids: FramesArgument, archive: ArchiveOption = None) -> None:
    """Let the magnitude fit judge frames again that you kept.

    Example: starledger frames judge 12 13
    """
    starledger.open(archive).frames.judge(frame_ids)
    say(f"{len(frame_ids)} frames are judged again; 'starledger reduce' makes anew what this changes")


@masters_app.command("list")
def masters_list(
    whole: Annotated[bool, typer.Option("--all", help="Also those that others took the place of.")] = False,
    style: FormatOption = TableFormat.table,
    output: OutputOption = None,
    archive: ArchiveOption = None,
) -> None:
    """List masters: from how many frames, how good, whether in use; `mask product` marks one bad.

    Example: starledger masters list
    """
    frame = starledger.open(archive).masters.list(all=whole)
    emit(lambda: rich_table(frame, _MASTERS), {"csv": lambda: csv_text(frame)}, style, output)
    if style == TableFormat.table and output is None:
        for row in frame[frame["warning"].notna()].itertuples():
            say(f"master {row.master_id}: {row.warning}")


@masters_app.command("use")
def masters_use(
    master_id: Annotated[int, typer.Argument(metavar="MASTER", help="master_id, as 'masters list' shows it.")],
    reason: ReasonOption,
    night: NightOption = None,
    frame: FrameOption = None,
    archive: ArchiveOption = None,
) -> None:
    """Use this master for a night or a frame, whatever the rule says.

    Example: starledger masters use 7 --night 2017-12-19 --reason "the night's own flats had dew"
    """
    choice = starledger.open(archive).masters.use(master_id, reason, night=night, frame=frame)
    say(f"choice {choice.choice_id}: master {master_id}; 'starledger reduce' makes anew what this changes")


@masters_app.command("refuse")
def masters_refuse(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="bias, dark or flat.")],
    reason: ReasonOption,
    night: NightOption = None,
    frame: FrameOption = None,
    archive: ArchiveOption = None,
) -> None:
    """Use no master of this kind for a night or a frame.

    Example: starledger masters refuse flat --night 2017-12-19 --reason "another window"
    """
    choices = starledger.open(archive).masters.refuse(kind, reason, night=night, frame=frame)
    numbers = ", ".join(str(choice.choice_id) for choice in choices)
    say(f"choice {numbers}: no {kind}; 'starledger reduce' makes anew what this changes")


@masters_app.command("choices")
def masters_choices(archive: ArchiveOption = None) -> None:
    """List the choices that people made over the rule, with reasons.

    Example: starledger masters choices
    """
    frame = starledger.open(archive).masters.choices()
    emit(lambda: rich_table(frame), {}, "table", None)


@masters_app.command("undo")
def masters_undo(
    choice: Annotated[int, typer.Argument(metavar="CHOICE", help="Number of the choice, as 'masters choices' shows it.")],
    archive: ArchiveOption = None,
) -> None:
    """Take a choice back: the rule decides again.

    Example: starledger masters undo 2
    """
    starledger.open(archive).masters.undo(choice)
    say(f"choice {choice} taken back; 'starledger reduce' makes anew what this changes")
