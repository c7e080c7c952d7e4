"""The command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import reduction.steps  # noqa: F401  (registers the steps: each has a command)
from db.errors import StarledgerError
from reduction.step import STEPS, Step
from starledger import __version__, cli_archive, cli_demo, cli_query
from starledger.archive import create_archive, open_archive
from starledger.options import ArchiveOption, CatalogueOption, ConfigOption, FilesOption, JobsOption, RetryOption
from starledger.reduce import exit_code, reduce, runner_for_reading
from starledger.report import ProgressReporter, summary_table

__all__ = ["app", "main"]

app = typer.Typer(
    name="starledger",
    help="From nights of raw frames to light curves, kept in a relational database.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
_console = Console(stderr=True)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"starledger {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")] = False,
) -> None:
    """From nights of raw frames to light curves, kept in a relational database."""


@app.command("reduce")
def reduce_command(
    paths: Annotated[list[Path] | None, typer.Argument(help="Raw frames, or folders that hold them.")] = None,
    archive: ArchiveOption = None,
    files: FilesOption = None,
    catalogue: CatalogueOption = None,
    config: ConfigOption = None,
    jobs: JobsOption = 0,
    retry: RetryOption = False,
) -> None:
    """Reduce raw frames all the way to light curves; the archive is made when there is none.

    What is done is not done again: call it as often as you like, with more frames or with none.

    Example: starledger reduce nights/2017-12-19 --catalogue field.ecsv --archive sqlite:///hatp32.db
    """
    _run(None, paths or [], archive, files, catalogue or [], config, jobs, retry)


def _run(
    steps: list[str] | None,
    paths: list[Path],
    url: str | None,
    files: Path | None,
    catalogues: list[Path],
    config: Path | None,
    jobs: int,
    retry: bool,
) -> None:
    archive = create_archive(url, files)
    with ProgressReporter(_console) as reporter:
        tallies = reduce(
            archive,
            paths,
            steps=steps,
            catalogues=catalogues,
            config=config,
            jobs=jobs or os.cpu_count() or 1,
            retry=retry,
            reporter=reporter,
        )
    _console.print(summary_table(tallies))
    code = exit_code(tallies)
    if code:
        n = sum(len(tally.failed) for tally in tallies)
        _console.print(f"finished; {n} units failed: 'starledger status' says why", style="yellow")
    raise typer.Exit(code)


def _add_step(step: Step) -> None:
    takes = step.per in ("file", "catalogue")

    def run_step(
        archive: ArchiveOption = None,
        files: FilesOption = None,
        config: ConfigOption = None,
        jobs: JobsOption = 0,
        retry: RetryOption = False,
    ) -> None:
        _run([step.name], [], archive, files, [], config, jobs, retry)

    def run_step_on(
        paths: Annotated[list[Path], typer.Argument(help="Files, or folders that hold them.")],
        archive: ArchiveOption = None,
        files: FilesOption = None,
        config: ConfigOption = None,
        jobs: JobsOption = 0,
        retry: RetryOption = False,
    ) -> None:
        frames, catalogues = (paths, []) if step.per == "file" else ([], paths)
        _run([step.name], frames, archive, files, catalogues, config, jobs, retry)

    target = "frames/" if step.per == "file" else "field.ecsv" if takes else "--archive sqlite:///night.db"
    text = f"{step.summary}\n\nExample: starledger {step.name} {target}"
    app.command(step.name, help=text, rich_help_panel="Single steps, in order")(run_step_on if takes else run_step)


for _step in STEPS.values():
    _add_step(_step)


@app.command()
def init(archive: ArchiveOption = None, files: FilesOption = None) -> None:
    """Make an empty archive.

    Example: starledger init --archive postgresql://me@host/night --files /data/night-files
    """
    made = create_archive(archive, files)
    typer.echo(f"archive {made.engine.url.render_as_string(hide_password=True)}, pixel products in {made.files}")


@app.command()
def status(archive: ArchiveOption = None, files: FilesOption = None) -> None:
    """What is done, pending and failed, step by step, with the reasons.

    Example: starledger status --archive sqlite:///hatp32.db
    """
    opened = open_archive(archive, files)
    runner = runner_for_reading(opened)
    console = Console()
    table = Table(box=None, pad_edge=False)
    table.add_column("step")
    for name in ("done", "pending", "failed"):
        table.add_column(name, justify="right")
    # Its width is said, or it would take that of the other columns.
    table.add_column("what it does", style="dim", no_wrap=True, max_width=max(console.width - 42, 10))
    failures: list[tuple[str, str]] = []
    for step in STEPS.values():
        state = runner.state(step)
        failures += [(step.name, message) for _, message in state.failed]
        table.add_row(step.name, str(len(state.done)), str(len(state.pending)), str(len(state.failed)), step.summary)
    console.print(table)
    for name, message in failures:
        console.print(f"[red]{name}[/red] {escape(message)}", highlight=False, soft_wrap=True)
    if failures:
        raise typer.Exit(1)


cli_archive.register(app)
cli_query.register(app)
cli_demo.register(app)


def main() -> None:
    """Entry point: errors a user is meant to read are one line, and the exit code says what they mean."""
    try:
        app(standalone_mode=True)
    except StarledgerError as error:
        _console.print(f"[red]starledger:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _console.print("interrupted; what was done is kept, the next run goes on from there")
        sys.exit(130)
