"""The command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from typer.core import TyperGroup

import starledger
from db.errors import StarledgerError, exit_code_of, printable
from db.interrupts import told_to_end
from db.passwords import masked
from reduction.pipeline.order import NIGHT, Line
from starledger import patience
from starledger.cli import archive, config, convert, demo, frames, header, query, reference, solve, verify
from starledger.cli.options import (
    ArchiveOption,
    CatalogueOption,
    ConfigOption,
    FetchOption,
    FilesOption,
    JobsOption,
    RetryOption,
    WaitOption,
)
from starledger.cli.output import cell, say, screen, show
from starledger.cli.streams import guarded_streams

if TYPE_CHECKING:
    from starledger.archive import Archive

__all__ = ["app", "main", "run_steps"]

#: What Typer raises for words of a command line that it cannot take.
_UsageError: Any = typer.BadParameter.__base__


class _Commands(TyperGroup):
    """Single steps are commands, too; what they import comes when one of them runs."""

    def list_commands(self, ctx: Any) -> list[str]:
        self._add_steps()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:
            self._add_steps()
        return super().get_command(ctx, cmd_name)

    def _add_steps(self) -> None:
        steps = typer.Typer(rich_markup_mode="rich")
        for line in NIGHT:
            _add_step(steps, line)
        for name, command in typer.main.get_group(steps).commands.items():
            self.commands.setdefault(name, command)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _printable_words():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        try:
            with _printable_words():
                return super().invoke(ctx)
        except KeyboardInterrupt as end:
            # Typer would leave without a word.
            say("interrupted; what was done is kept, the next run goes on from there", error=True)
            raise typer.Exit(exit_code_of(end)) from None


@contextmanager
def _printable_words() -> Iterator[None]:
    """Typer repeats a wrong word of the command line, which may be the name of a file."""
    try:
        yield
    except _UsageError as error:
        error.message = printable(error.message)
        raise


app = typer.Typer(
    name="starledger",
    cls=_Commands,
    help="From nights of raw frames to light curves, kept in a relational database.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"starledger {starledger.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")] = False,  # noqa: ARG001
    wait: WaitOption = None,
) -> None:
    """From nights of raw frames to light curves, kept in a relational database."""
    patience.waiting.set(wait)


@app.command("reduce")
def reduce_command(
    paths: Annotated[list[Path] | None, typer.Argument(help="Raw frames, or folders that hold them.")] = None,
    archive: ArchiveOption = None,
    files: FilesOption = None,
    catalogue: CatalogueOption = None,
    fetch: FetchOption = None,
    config: ConfigOption = None,
    jobs: JobsOption = 0,
    retry: RetryOption = False,
) -> None:
    """Reduce raw frames all the way to light curves; the archive is made when there is none.

    What is done is not done again: call it as often as you like, with more frames or with none.

    Example: starledger reduce nights/2017-12-19 --catalogue field.ecsv --archive sqlite:///hatp32.db
    """
    run_steps(None, paths or [], archive, files, catalogue or [], config, jobs, retry, fetch or [])


def run_steps(
    steps: list[str] | None,
    paths: list[Path],
    url: str | None,
    files: Path | None,
    catalogues: list[Path],
    config: Path | None,
    jobs: int,
    retry: bool,
    fetch: Sequence[str] = (),
) -> None:
    """Run steps (all of them for None), with progress and a summary; leaves with the exit code."""
    from starledger.archive import create_archive
    from starledger.cli.report import ProgressReporter, summary_table
    from starledger.reduce import check_inputs, exit_code, require_services, settings_for

    def check(made: Archive) -> None:
        require_services(fetch)
        check_inputs(paths, catalogues, made.files)
        if config is not None:
            settings_for(made, config)

    if steps is not None and not paths and not catalogues:
        starledger.open(url, files=files)  # a step that takes no files makes no archive
    archive = create_archive(url, files, check=check)
    with ProgressReporter(screen(error=True)) as reporter:
        tallies = archive.reduce(
            paths, steps=steps, catalogues=catalogues, fetch=fetch, config=config, jobs=jobs, retry=retry, reporter=reporter
        )
    screen(error=True).print(summary_table(tallies))
    for remark in (*(remark for tally in tallies for remark in tally.remarks), *archive.remarks()):
        say(remark, style="dim", error=True)
    code = exit_code(tallies)
    if code:
        n = sum(len(tally.failed) for tally in tallies)
        say(f"finished; {n} units failed: 'starledger status' says why", style="yellow", error=True)
    raise typer.Exit(code)


def _add_step(steps: typer.Typer, step: Line) -> None:
    takes = step.per in ("file", "catalogue")

    def run_step(
        archive: ArchiveOption = None,
        files: FilesOption = None,
        config: ConfigOption = None,
        jobs: JobsOption = 0,
        retry: RetryOption = False,
    ) -> None:
        run_steps([step.name], [], archive, files, [], config, jobs, retry)

    def run_step_on(
        paths: Annotated[list[Path], typer.Argument(help="Files, or folders that hold them.")],
        archive: ArchiveOption = None,
        files: FilesOption = None,
        config: ConfigOption = None,
        jobs: JobsOption = 0,
        retry: RetryOption = False,
    ) -> None:
        frames, catalogues = (paths, []) if step.per == "file" else ([], paths)
        run_steps([step.name], frames, archive, files, catalogues, config, jobs, retry)

    target = "frames/" if step.per == "file" else "field.ecsv" if takes else "--archive sqlite:///night.db"
    text = f"{step.summary}\n\nExample: starledger {step.name} {target}"
    steps.command(step.name, help=text, rich_help_panel=f"Steps: {step.topic}")(run_step_on if takes else run_step)


@app.command()
def init(archive: ArchiveOption = None, files: FilesOption = None) -> None:
    """Make an empty archive.

    Example: starledger init --archive postgresql://me@host/night --files /data/night-files
    """
    made = starledger.create(archive, files=files)
    say(f"archive {made.engine.url.render_as_string(hide_password=True)}, pixel products in {made.files}")


@app.command()
def status(archive: ArchiveOption = None, files: FilesOption = None) -> None:
    """What is done, pending and failed, step by step, with the reasons.

    Example: starledger status --archive sqlite:///hatp32.db
    """
    opened = starledger.open(archive, files=files)
    steps = opened.status()
    table = Table(box=None, pad_edge=False)
    table.add_column("topic", style="dim")
    table.add_column("step")
    for name in ("done", "pending", "failed"):
        table.add_column(name, justify="right")
    # Its width is said, or it would take that of the other columns.
    table.add_column("what it does", style="dim", no_wrap=True, max_width=max(screen().width - 58, 10))
    topics = [step.topic for step in steps]
    for step, before in zip(steps, ["", *topics], strict=False):
        # Named where it begins: the night comes back to a topic.
        topic = step.topic if step.topic != before else ""
        table.add_row(*map(cell, (topic, step.step, step.done, step.pending, step.failed, step.summary)))
    show(table)
    for evening, number in opened.nights.open().items():
        say(f"the night of {evening} is open: {number} of its results are provisional")
    for step in steps:
        for reason in step.reasons:
            say(reason, label=step.step)
    if any(step.failed for step in steps):
        raise typer.Exit(1)


archive.register(app)
verify.register(app)
config.register(app)
convert.register(app)
header.register(app)
solve.register(app)
frames.register(app)
reference.register(app)
query.register(app)
demo.register(app)


def main() -> None:
    """Entry point: errors a user is meant to read are one line, and the exit code says what they mean."""
    # Processes are the parallel part: threads of linear algebra and filters inside them only wait for each other.
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    try:
        with told_to_end(), guarded_streams():
            app(standalone_mode=True)
    except StarledgerError as error:
        with guarded_streams():
            say(masked(str(error)), label="starledger:", error=True)
        sys.exit(error.exit_code)
