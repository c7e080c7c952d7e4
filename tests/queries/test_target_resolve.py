"""Targets by name: the command, its Python twin, and what the archive keeps, on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import typer
from name_services import Names, serving_names
from small_archive import SmallArchive
from sqlalchemy.orm import Session
from typer.testing import CliRunner, Result

from db.errors import AlgorithmFailed, ConfigurationError
from db.tables import Target
from starledger.archive import Archive, open_archive
from starledger.cli import query as cli_query

app = typer.Typer()
cli_query.register(app)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, fresh: SmallArchive) -> Iterator[Names]:
    """The three services; SIMBAD has the fifth star of the archive as the planet's."""
    with serving_names() as served:
        place = (float(fresh.ra[4]), float(fresh.dec[4]))
        served.simbad["HAT-P-13"] = ("HAT-P-13", *place, "*", "2020yCat.1350....0G")
        served.planets["ra"][3:], served.planets["dec"][3:] = place
        for variable in ("STARLEDGER_SIMBAD", "STARLEDGER_VIZIER", "STARLEDGER_EXOPLANETS"):
            monkeypatch.setenv(variable, served.url)
        yield served


@pytest.fixture
def archive(fresh: SmallArchive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Archive]:
    monkeypatch.setenv("STARLEDGER_ARCHIVE", fresh.engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("STARLEDGER_FILES", str(tmp_path / "files"))
    opened = open_archive()
    yield opened
    opened.engine.dispose()


def call(*words: str) -> Result:
    result = CliRunner().invoke(app, ["target", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def kept(archive: Archive, name: str) -> Target:
    with Session(archive.engine) as session:
        target = session.execute(sa.select(Target).where(Target.name == name)).scalar_one()
        session.expunge(target)
        return target


def test_a_planet_is_added_by_its_name(archive: Archive, names: Names, fresh: SmallArchive) -> None:
    said = call("add", "HAT-P-13 b", "--resolve").stdout
    target = kept(archive, "HAT-P-13 b")
    assert target.source_id == int(fresh.source_id[4])
    assert (target.period, target.duration) == (2.91626, pytest.approx(3.2424 / 24))
    assert target.epoch == pytest.approx(2454779.92979, abs=0.002)  # given in HJD
    assert target.position_from == "SIMBAD, 2020yCat.1350....0G"
    assert target.ephemeris_from == "NASA Exoplanet Archive, Bakos et al. 2009 (2009A&A...707..446B)"
    lines = said.splitlines()
    assert [text.partition(":")[0] for text in lines] == ["NASA Exoplanet Archive", "SIMBAD", "VSX", "HAT-P-13 b"]
    assert f"source {target.source_id}" in lines[-1] and target.ephemeris_from in lines[-1]
    with archive.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT ephemeris_from FROM target WHERE period = 2.91626")).scalar() == target.ephemeris_from


def test_the_python_twin_does_the_same(archive: Archive, names: Names) -> None:
    with pytest.raises(ConfigurationError, match="there is a target of this name"):
        archive.targets.add("hat-p-32 B", resolve=True)  # the small archive follows it already
    assert names.asked == []
    variable = archive.targets.add("RR Lyr", epoch=2459000.5, resolve=True, timeout=10.0)
    assert variable.target.period == 0.56685 and len(variable.lines) == 3
    assert kept(archive, "RR Lyr").ephemeris_from == "VSX, 2006SASS...25...47W; given: epoch"


def _names(archive: Archive) -> list[str]:
    with archive.engine.connect() as connection:
        return list(connection.execute(sa.select(Target.name)).scalars())


def test_without_the_flag_nobody_is_asked(archive: Archive, names: Names) -> None:
    assert "no source there yet" in call("add", "RR Lyr", "291.4 42.8").stdout
    target = kept(archive, "RR Lyr")
    assert (target.period, target.position_from, target.ephemeris_from) == (None, None, None)
    with pytest.raises(ConfigurationError, match='no position; give "RA DEC", or --resolve'):
        call("add", "Barnard's star")
    assert names.asked == []


def test_what_goes_wrong_adds_nothing(archive: Archive, names: Names) -> None:
    before = _names(archive)
    with pytest.raises(ConfigurationError, match="known to none"):
        call("add", "no such star", "--resolve")
    names.faults |= dict.fromkeys(("simbad", "vizier", "archive"), "hang")
    with pytest.raises(AlgorithmFailed, match=r"no answer within 0\.3 s.*give a position instead"):
        call("add", "RR Lyr", "--resolve", "--timeout", "0.3")
    assert _names(archive) == before


def test_an_origin_is_cut_to_its_column(archive: Archive, names: Names) -> None:
    row = names.simbad["RR Lyr"]
    names.simbad["RR Lyr"] = (*row[:4], "x" * 300)
    call("add", "RR Lyr", "--resolve")
    assert kept(archive, "RR Lyr").position_from == ("SIMBAD, " + "x" * 300)[:160]
