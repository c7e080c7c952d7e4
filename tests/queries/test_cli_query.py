"""The commands lc, sql, target and mask, as a person types them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from astropy.table import Table
from small_archive import SmallArchive
from typer.testing import CliRunner

from db.errors import ConfigurationError, NothingToDo, StarledgerError
from db.views import VIEW_COLUMNS
from queries.joined_curve import JOINED_COLUMNS
from starledger.cli import query as cli_query

app = typer.Typer(rich_markup_mode="rich")
cli_query.register(app)

COMMANDS = [
    ["lc"],
    ["sql"],
    ["target", "add"],
    ["target", "list"],
    *(["mask", name] for name in ("frame", "point", "product", "list", "remove")),
]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """`call(archive, "lc", ...)`: run a command on an archive; an error that a user is meant to read is raised."""

    def run(archive: SmallArchive, *arguments: str):
        monkeypatch.setenv("STARLEDGER_ARCHIVE", archive.engine.url.render_as_string(hide_password=False))
        monkeypatch.setenv("STARLEDGER_FILES", str(tmp_path / "files"))
        result = CliRunner().invoke(app, list(arguments))
        if isinstance(result.exception, StarledgerError):
            raise result.exception
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example(command: list[str]) -> None:
    text = CliRunner().invoke(app, [*command, "--help"]).output
    assert f"starledger {' '.join(command)}" in text and "Example" in text


def test_csv_has_the_columns_of_the_view(small: SmallArchive, call) -> None:
    result = call(small, "lc", str(small.target), "--format", "csv")
    frame = pd.read_csv(io.StringIO(result.stdout))
    assert list(frame.columns) == list(VIEW_COLUMNS)
    order = np.argsort(small.bjd_tdb[:, 0])
    np.testing.assert_allclose(frame["bjd_tdb"], small.bjd_tdb[order, 0], rtol=0, atol=1e-9)
    assert frame["source_id"].unique().tolist() == [small.target]
    for part in ("HAT-P-32 b", str(small.target), f"{len(small.frame_id)} points", "radius 4 pixel", "reference 2, 3"):
        assert part in result.stderr
    assert result.stderr.count("\n") == 1


def test_null_is_empty_in_csv(small: SmallArchive, call) -> None:
    lines = call(small, "lc", str(small.source_id[2]), "--format", "csv").stdout.splitlines()
    row = dict(zip(lines[0].split(","), lines[2].split(","), strict=True))
    assert row["frame_id"] == "2" and row["mag"] == "" and float(row["flux"]) < 0


def test_files_take_their_format_from_the_suffix(small: SmallArchive, call, tmp_path: Path) -> None:
    csv, ecsv, text, plot = (tmp_path / name for name in ("a.csv", "a.ecsv", "a.txt", "a.png"))
    position = f"{small.ra[0]} {small.dec[0] + 2 / 3600}"
    result = call(small, "lc", position, "-o", str(csv), "--plot", str(plot))
    assert result.stdout == "" and "2.0 arcsec from the position" in result.stderr
    assert pd.read_csv(csv).shape == (len(small.frame_id), len(VIEW_COLUMNS)) and plot.stat().st_size > 5000
    call(small, "lc", position, "-o", str(ecsv), "--slot", "2")
    table = Table.read(ecsv)
    assert table["mag"].unit == "mag" and table.meta["source_id"] == small.target and set(table["slot"]) == {2}
    call(small, "lc", position, "-o", str(text))
    assert "bjd_tdb" in text.read_text() and "2458107.5669" in text.read_text()


def test_table_for_people(small: SmallArchive, call) -> None:
    lines = call(small, "lc", "HAT-P-32 b").stdout.splitlines()
    header = next(line for line in lines if "bjd_tdb" in line)
    assert {"mag", "mag_err_total", "quality", "airmass", "frame_id"} <= set(header.split())
    points = [line.split() for line in lines if line.strip().startswith("24581")]
    assert len(points) == len(small.frame_id) and len(points[0][0].partition(".")[2]) == 8 and len(points[0][1].partition(".")[2]) == 6


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (["lc", "rubbish"], ConfigurationError, "no source id"),
        (["lc", "10 10"], ConfigurationError, "nearest: "),
        (["lc", "HAT-P-32 b", "--slot", "5"], NothingToDo, "no light curve"),
        (["lc", "HAT-P-32 b", "-o", "/no/such/folder/a.csv"], ConfigurationError, "/no/such/folder/a.csv"),
        (["lc", "HAT-P-32 b", "--plot", "a.fits"], ConfigurationError, "a.fits"),
        (["lc", "HAT-P-32 b", "-o", "a.fits"], ConfigurationError, "no format for .fits; name one of .csv, .ecsv, .txt"),
        (["sql", "SELECT 1", "-o", "a.ecsv"], ConfigurationError, "no format for .ecsv; name one of .csv, .txt"),
        (["mask", "product", "1"], ConfigurationError, "needs a reason"),
        (["mask", "product", "1", "--undo"], ConfigurationError, "was not rejected"),
        (["sql", "DROP TABLE target"], ConfigurationError, "DROP"),
        (["sql", "SELECT 1; DELETE FROM target"], ConfigurationError, "only one statement that reads"),
        (["sql", "SELECT :a", "-p", "a"], ConfigurationError, "NAME=VALUE"),
        (["target", "add", "x", "somewhere"], ConfigurationError, "no position"),
        (["mask", "frame", "999", "--reason", "x"], ConfigurationError, "no frame"),
        (["mask", "remove", "9" * 20], ConfigurationError, ""),  # each engine has its own words for it
    ],
)
def test_errors_are_one_line(small: SmallArchive, call, arguments: list[str], kind: type[StarledgerError], text: str) -> None:
    with pytest.raises(kind) as caught:
        call(small, *arguments)
    assert text in str(caught.value) and "\n" not in str(caught.value) and caught.value.exit_code == 2


def test_sql(small: SmallArchive, call, tmp_path: Path) -> None:
    query = "SELECT name, bit FROM flag_bit WHERE bit <= :most ORDER BY bit"
    assert call(small, "sql", query, "-p", "most=2", "--format", "csv").stdout == "name,bit\nSATURATED,1\nEDGE,2\n"
    call(small, "sql", query, "-p", "most=1", "-o", str(tmp_path / "a.csv"))
    assert (tmp_path / "a.csv").read_text() == "name,bit\nSATURATED,1\n"
    shown = call(small, "sql", "SELECT '[red]' AS a, 1.5 AS b, NULL AS c").stdout.split()
    assert shown[:3] == ["a", "b", "c"] and shown[-3:] == ["[red]", "1.5", "-"]
    star = str(small.target)  # a whole number stays one, to its last digit
    assert (
        call(small, "sql", "SELECT source_id FROM source WHERE source_id = :s", "-p", f"s={star}", "--format", "csv").stdout.split()[1]
        == star
    )


def test_targets_are_added_and_listed(fresh: SmallArchive, call) -> None:
    added = call(fresh, "target", "add", "new one", f"{fresh.ra[4]} {fresh.dec[4]}", "--period", "2.1500082", "--epoch", "2454420.44645")
    assert str(fresh.source_id[4]) in added.stdout
    assert "no source there yet" in call(fresh, "target", "add", "elsewhere", "12:00:00 -10:00:00").stdout
    listed = call(fresh, "target", "list").stdout
    assert "new one" in listed and str(fresh.source_id[4]) in listed and "2.1500082" in listed and "180.000000" in listed
    assert call(fresh, "lc", "NEW ONE", "--format", "csv").stdout.count("\n") == len(fresh.frame_id) + 1
    with pytest.raises(ConfigurationError, match="there is a target"):
        call(fresh, "target", "add", "New One", "1 1")


def test_masks_are_set_listed_and_removed(fresh: SmallArchive, call) -> None:
    def quality() -> dict[int, int]:
        frame = pd.read_csv(io.StringIO(call(fresh, "lc", str(fresh.target), "--format", "csv").stdout))
        return dict(zip(frame["frame_id"], frame["quality"], strict=True))

    before = quality()
    assert call(fresh, "mask", "frame", "1", "--reason", "dew").stdout == "mask 1: frame 1\n"
    call(fresh, "mask", "point", "2", str(fresh.target), "--reason", "cosmic ray")
    assert quality() == before | {1: 2, 2: 2}
    listed = call(fresh, "mask", "list").stdout
    assert "dew" in listed and "cosmic ray" in listed and "/night/002.fits" in listed
    call(fresh, "mask", "remove", "1")
    assert quality() == before | {2: 2}
    assert "marked bad" in call(fresh, "mask", "product", "1", "--reason", "light leak").stdout
    assert call(fresh, "sql", "SELECT count(*) AS n FROM good_master", "--format", "csv").stdout == "n\n0\n"
    assert "no longer marked bad" in call(fresh, "mask", "product", "1", "--undo").stdout
    assert call(fresh, "sql", "SELECT count(*) AS n FROM good_master", "--format", "csv").stdout == "n\n1\n"


def test_a_joined_curve_says_what_is_on_one_scale(small: SmallArchive, call) -> None:
    """Two passbands are two scales; the columns stand behind those of the view, with units in ECSV."""
    result = call(small, "lc", str(small.target), "--joined", "--format", "csv")
    frame = pd.read_csv(io.StringIO(result.stdout))
    assert list(frame.columns) == [*VIEW_COLUMNS, *JOINED_COLUMNS]
    assert frame.groupby("passband")["scale"].unique().map(list).to_dict() == {"V": [1], "clear": [2]}
    np.testing.assert_array_equal(frame["joined_mag"], frame["mag"])
    assert "V, field 2, slot 1: scale 1, as it is" in result.stderr
    table = Table.read(call(small, "lc", str(small.target), "--joined", "--format", "ecsv").stdout, format="ascii.ecsv")
    assert str(table["join_err"].unit) == "mag" and table.meta["scales"]["clear, field 1, slot 1"] == "scale 2, as it is"
    assert "joined_mag" in call(small, "lc", str(small.target), "--joined", "--format", "table").stdout
