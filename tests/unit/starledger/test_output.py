"""What is printed: no control of a terminal gets through, no spreadsheet runs a cell, and what cannot be written is one line."""

from __future__ import annotations

import ast
import csv
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_archive
import sqlalchemy as sa
from astropy.table import Table
from many_commands import run_all
from rich.table import Table as RichTable
from small_archive import SmallArchive

from db.tables import Base
from starledger.cli import output
from starledger.cli.output import Screen, cell, csv_text, rich_table
from starledger.cli.report import ProgressReporter
from starledger.spreadsheets import csv_cell

FACE = Path(output.__file__).parents[1]
#: Paint, a title, C1, a turn of direction, a line of somebody else's, and Rich's own words.
HOSTILE = "\x1b[31m\x1b]0;mine\x07\x9b2J\u202e\r\nstarledger: all is well [bold]:smile:[/bold]"
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.mark.parametrize("path", sorted(FACE.rglob("*.py")), ids=lambda path: str(path.relative_to(FACE)))
def test_one_module_prints(path: Path) -> None:
    if path.name in ("output.py", "streams.py", "docs.py"):  # the last is make's
        return
    tree = ast.parse(path.read_text())
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert called.isdisjoint({"Console", "Markdown", "print", "rprint", "typer.echo", "typer.secho", "echo", "Text.from_markup"})
    assert not {name for name in called if re.match(r"sys\.(__)?(stdout|stderr)", name)}


def shown(*things: object) -> str:
    stream = io.StringIO()
    screen = Screen(file=stream, width=200, emoji=False)
    for one in things:
        screen.print(one)
    return stream.getvalue()


def test_no_control_reaches_the_screen() -> None:
    made = RichTable(title=HOSTILE)
    made.add_column(HOSTILE)
    made.add_row(HOSTILE)
    frame = pd.DataFrame({HOSTILE: [HOSTILE, "=1"], "n": [1, 2]})
    text = shown(made, rich_table(frame, title=HOSTILE), cell(HOSTILE))
    assert not RAW.search(text) and r"\x1b[31m" in text
    lines = shown(rich_table(frame)).splitlines()
    assert not any(line.strip().startswith("starledger:") for line in lines) and any("[bold]:smile:[/bold]" in line for line in lines)


def test_a_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.say(HOSTILE, label=HOSTILE, style="dim")
    output.say(HOSTILE, error=True)
    for text in capsys.readouterr():
        assert text.count("\n") == 1 and not RAW.search(text) and "[bold]:smile:[/bold]" in text


def test_a_failure_is_one_line() -> None:
    from db.errors import FrameUnusable
    from reduction.pipeline.declaration import Unit
    from reduction.pipeline.order import STEPS

    stream = io.StringIO()
    with ProgressReporter(Screen(file=stream, width=500)) as reporter:
        reporter.advance(STEPS["ingest"], Unit(HOSTILE, HOSTILE), FrameUnusable("is cut off", where=HOSTILE))
    assert stream.getvalue().count("\n") == 1 and not RAW.search(stream.getvalue())


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"), ("+SUM(A1)", "'+SUM(A1)"), ("-2+3", "'-2+3"), ("@x", "'@x"), ("\tx", "'\tx"), ("\rx", "'\rx"), ("\n=x", "'\n=x"),
        ("\uff1d1", "'\uff1d1"), ("-", "'-"), ("-0.5", "-0.5"), ("+1e-3", "+1e-3"), ("-inf", "-inf"), (-0.5, -0.5), (-3, -3),
        ("a=b", "a=b"),
        ("1_0", "1_0"), ("-1_0", "'-1_0"), ("", ""), (None, ""), (float("nan"), ""), (True, True),
    ],
)  # fmt: skip
def test_a_spreadsheet_runs_no_cell(value: object, cell: object) -> None:
    assert csv_cell(value) == cell


def test_csv_is_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["=1", "a\rb", 'c"d', "e,f", "g\nh", HOSTILE, "-5"]
    frame = pd.DataFrame({"@t": texts, "n": [-1, 2, 3, 4, 5, 6, 7], "x": [-0.1, np.nan, 1e-300, 1 / 3, -np.inf, 0.0, 2.0]})
    expected = [csv_cell(text) for text in texts]
    columns = {name: frame[name].to_numpy(dtype=object if name == "@t" else None) for name in frame}
    for content in (csv_text(frame), csv_text(columns)):
        rows = list(csv.reader(io.StringIO(content, newline="")))
        assert rows[0] == ["'@t", "n", "x"] and [row[0] for row in rows[1:]] == expected
        assert [float(row[2] or "nan") for row in rows[1:]] == pytest.approx(frame["x"].tolist(), rel=0, nan_ok=True)
        assert pd.read_csv(io.StringIO(content))["n"].tolist() == frame["n"].tolist()
    output.write_out(csv_text(frame))
    assert capsys.readouterr().out == csv_text(frame)  # for a program, as it is


def test_a_terminal_gets_no_control_from_a_machine_format(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    output.write_out(f"a\n{HOSTILE}\n")
    assert not RAW.search(capsys.readouterr().out)


@pytest.fixture(params=["sqlite", "postgresql"])
def hostile(request: pytest.FixtureRequest, new_archive: Callable[[str], str]) -> Iterator[SmallArchive]:
    """An archive in which every text that has no meaning for the program is hostile."""
    built = small_archive.build(new_archive(request.param), n_frame=4, n_source=4)
    meant = {
        "sha256",
        "input_hash",
        "kind",
        "step",
        "unit",
        "status",
        "content",
        "corners",
        "coeff",
        "columns",
        "type",
        "evening",
        "channel",
        "state",
    }
    with built.engine.begin() as connection:
        for table in Base.metadata.sorted_tables:
            keys = {column.name for key in table.foreign_keys for column in [key.parent]}
            for column in table.c:
                text = column.type.impl_instance if isinstance(column.type, sa.TypeDecorator) else column.type
                if isinstance(text, sa.String) and column.name not in meant | keys and table.name not in ("flag_bit", "mask_bit"):
                    longest = text.length or 1000
                    key = sa.cast(next(iter(table.primary_key)), sa.String)  # texts of one column may have to differ
                    if longest > 40:
                        connection.execute(sa.update(table).values({column.name: sa.literal(HOSTILE[: longest - 24]) + key}))
    yield built
    built.engine.dispose()


LISTING = [
    ["status"],
    *([*words, "list"] for words in (["target"], ["frames"], ["masters"], ["mask"], ["reference"])),
    ["frames", "quality", "--all"],
    ["masters", "choices"],
    ["masters", "list", "--all"],
    ["reference", "scores", "2"],
    ["reference", "terms", "2"],
    ["sql", "SELECT * FROM exposure"],
    ["sql", "SELECT * FROM passband"],
    ["lc", "{source}"],
    ["target", "lc", HOSTILE],
    ["config"],
    ["db", "check"],
]


def test_hostile_names_are_shown_by_every_list(hostile: SmallArchive, tmp_path: Path) -> None:
    url = hostile.engine.url.render_as_string(hide_password=False)
    with hostile.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM exposure WHERE path LIKE :text"), {"text": f"{HOSTILE[:20]}%"}).scalar()
    commands = [[word.format(source=hostile.target) if word == "{source}" else word for word in words] for words in LISTING]
    found = run_all(url, commands, tmp_path)
    for one in found:
        text = one.stdout + one.stderr
        assert "Traceback" not in text and not RAW.search(text), one
        assert not any(line.lstrip().startswith("starledger: all is well") for line in text.splitlines()), one
    seen = "".join(one.stdout for one in found)
    assert r"\x1b[31m" in seen


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["config"], ["status"], ["sql", "SELECT 1"], ["sql", "SELECT 1", "--format", "csv"]]
)
def test_a_full_disk_behind_the_output_is_one_line(words: list[str], new_archive: Callable[[str], str]) -> None:
    url = new_archive("sqlite")
    small_archive.build(url, n_frame=4, n_source=4).engine.dispose()
    command = [sys.executable, "-m", "starledger", *words]
    command += ["--archive", url] if words[0] in ("status", "sql") else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
        assert done.returncode == 2 and done.stderr == "starledger: standard output: No space left on device; print to another place\n"
        done = subprocess.run([*command, "--no-such-option"], stdout=full, stderr=full, env=environment, check=False)
        assert done.returncode == 2


def test_ecsv_keeps_what_it_is_given() -> None:
    from starledger.ecsv import ecsv_text

    rows = {"name": np.array(["=1", "a\tb", "c d"], dtype=object), "n": np.array([1, 2, 3])}
    table = Table.read(ecsv_text(rows, {"name": ("", HOSTILE), "n": ("", "")}, {"said": HOSTILE}), format="ascii.ecsv")
    assert table["name"].tolist() == ["=1", "a\tb", "c d"] and table.meta["said"] == HOSTILE
