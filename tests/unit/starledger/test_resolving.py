"""Asking three services for a name, against a stand-in that answers, does not know, is late, is gone or talks nonsense."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from name_services import Names, serving_names

from db.errors import AlgorithmFailed, ConfigurationError
from starledger.adding import Known
from starledger.nameservices import EXOPLANETS, SIMBAD, VSX, Question, Service, ask
from starledger.resolving import Resolved, resolve_name

SERVICES = {"simbad": SIMBAD, "vizier": VSX, "archive": EXOPLANETS}
VARIABLES = [service.variable for service in SERVICES.values()]
#: A name that each service knows.
KNOWN = {"simbad": "RR Lyr", "vizier": "RR Lyr", "archive": "HAT-P-32 b"}

each = pytest.mark.parametrize("service", SERVICES)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """The three services, to which all questions go."""
    with serving_names() as served:
        for variable in VARIABLES:
            monkeypatch.setenv(variable, served.url)
        yield served


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three addresses at which nobody listens."""
    with serving_names() as served:
        pass
    for variable in VARIABLES:
        monkeypatch.setenv(variable, served.url)


def line(found: Resolved, service: Service) -> str:
    return next(text for text in found.lines if text.startswith(f"{service.name}: "))


@each
def test_a_service_answers(names: Names, service: str) -> None:
    answer = ask(SERVICES[service], Question(KNOWN[service]), 10.0)
    assert answer is not None
    assert {"simbad": "V* RR Lyr", "vizier": "RR Lyr", "archive": "HAT-P-32 b"}[service] == answer.name
    assert all(agent.startswith("astroquery/") for agent in names.agents)


@each
def test_a_name_that_a_service_does_not_know(names: Names, service: str) -> None:
    assert ask(SERVICES[service], Question("no such star"), 10.0) is None
    assert any("no such star" in text for _, text in names.asked)


@each
def test_a_service_that_is_not_there(nobody: None, service: str) -> None:
    with pytest.raises(AlgorithmFailed, match=r"cannot be reached; is the network there\?") as caught:
        ask(SERVICES[service], Question(KNOWN[service]), 10.0)
    assert caught.value.code == "resolve.service" and SERVICES[service].name in caught.value.where


@each
@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_service_that_is_late_is_given_up_and_can_be_asked_again(names: Names, service: str, fault: str) -> None:
    names.faults[service] = fault
    with pytest.raises(AlgorithmFailed, match=r"no answer within 0\.4 s; give it longer with --timeout"):
        ask(SERVICES[service], Question(KNOWN[service]), 0.4)
    names.faults.clear()
    assert ask(SERVICES[service], Question(KNOWN[service]), 10.0) is not None


@each
@pytest.mark.parametrize("fault", ["http", "html", "half", "other"])
def test_nonsense_is_no_answer(names: Names, service: str, fault: str) -> None:
    names.faults[service] = fault
    with pytest.raises(AlgorithmFailed, match="its answer cannot be used: ") as caught:
        ask(SERVICES[service], Question(KNOWN[service]), 10.0)
    assert "\n" not in str(caught.value)


def test_a_mirror_has_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SIMBAD.variable, "simbad.cfa.harvard.edu")
    with pytest.raises(ConfigurationError, match="no address of a mirror"):
        ask(SIMBAD, Question("RR Lyr"), 1.0)


def test_a_planet_by_another_spelling(names: Names) -> None:
    found = resolve_name("HAT-P-32b", timeout=10.0)
    assert (found.ra, found.dec) == (31.04275, 46.68785)  # SIMBAD knows the star only
    assert found.position_from == "SIMBAD, 2020yCat.1350....0G"
    assert (found.epoch, found.period) == (2455867.402743, 2.15000820)
    assert found.duration == pytest.approx(3.1176 / 24)
    assert found.ephemeris_from == "NASA Exoplanet Archive, Wang et al. 2019 (2019AJ....157...82W)"
    assert "type EP" in line(found, VSX) and len(found.lines) == 3


def test_a_variable_that_vsx_knows_by_its_place(names: Names) -> None:
    names.variables["Name"][1] = "V9999"
    found = resolve_name("RR  Lyr", timeout=10.0)
    assert found.period == 0.56685 and found.ephemeris_from == "VSX, 2006SASS...25...47W"
    assert found.epoch == pytest.approx(2442923.4193, abs=0.002) and found.epoch != 2442923.4193
    assert "not known there" in line(found, EXOPLANETS)


def test_a_name_with_an_apostrophe(names: Names) -> None:
    found = resolve_name("Barnard's star", timeout=10.0)
    assert (found.position_from, found.ephemeris_from) == ("SIMBAD, 2020yCat.1350....0G", None)


def test_a_name_that_nobody_knows(names: Names) -> None:
    with pytest.raises(ConfigurationError, match=r"known to none of .*give a position instead") as caught:
        resolve_name("no such star", timeout=10.0)
    assert caught.value.code == "resolve.unknown"


def test_without_a_network_no_place_is_known(nobody: None) -> None:
    with pytest.raises(AlgorithmFailed, match=r"no place is known: .*SIMBAD.*cannot be reached.*give a position instead") as caught:
        resolve_name("RR Lyr", timeout=10.0)
    assert "\n" not in str(caught.value)


def test_one_service_less_is_said(names: Names) -> None:
    names.faults["simbad"] = "http"
    found = resolve_name("HAT-P-32 b", timeout=10.0)
    assert found.position_from == "NASA Exoplanet Archive" and found.period == 2.15000820
    assert "503" in line(found, SIMBAD)


def test_conflicts_are_said(names: Names) -> None:
    names.planets["dec"] += 7.0 / 3600
    names.variables["Period"][0] = 1.0750041
    found = resolve_name("HAT-P-32 b", timeout=10.0)
    conflicts = [text for text in found.lines if text.startswith("conflict: ")]
    assert len(conflicts) == 2
    assert "NASA Exoplanet Archive has it 7.2 arcsec from SIMBAD" in conflicts[0]
    assert "VSX has a period of 1.0750041 d, NASA Exoplanet Archive 2.1500082 d, which is used" in conflicts[1]


def test_what_a_person_says_stands(names: Names) -> None:
    found = resolve_name("HAT-P-32 b", Known(place=(31.0427, 46.70), period=2.2), timeout=10.0)
    assert (found.ra, found.dec, found.period, found.epoch) == (31.0427, 46.70, 2.2, 2455867.402743)
    assert found.position_from is None
    assert found.ephemeris_from == "NASA Exoplanet Archive, Wang et al. 2019 (2019AJ....157...82W); given: period"
    conflicts = " ".join(text for text in found.lines if text.startswith("conflict: "))
    assert "from the place given" in conflicts and "the period given 2.2 d" in conflicts


def test_a_place_is_enough_where_the_name_is_not_known(names: Names) -> None:
    found = resolve_name("mine", Known(place=(31.0427, 46.6879)), timeout=10.0)
    assert found.position_from is None and found.ephemeris_from == "VSX, 2006SASS...25...47W"


def test_a_service_that_drips_does_not_keep_the_program_from_ending(names: Names) -> None:
    names.faults["simbad"] = "drip"
    code = (
        "from starledger.nameservices import *\n"
        "from db.errors import AlgorithmFailed\n"
        "try: ask(SIMBAD, Question('RR Lyr'), 0.5)\n"
        "except AlgorithmFailed as error: print(error.message)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (ended.stdout, ended.stderr) == ("no answer within 0.5 s\n", "")


def test_astroquery_is_imported_only_when_a_name_is_resolved() -> None:
    code = (
        "import sys, starledger, starledger.cli, starledger.adding\n"
        "from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(starledger.cli.app.app, ['target', 'add', '--help']).exit_code == 0\n"
        "assert 'astroquery' not in sys.modules\n"
        "import starledger.resolving\n"
        "assert 'astroquery' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
