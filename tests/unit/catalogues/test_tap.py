"""Asking a TAP service, against a stand-in that does everything wrong that services do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.table import Table
from tap_service import serving

from db.errors import AlgorithmFailed
from reduction.catalogues.services import SERVICES
from reduction.catalogues.tap import Client

GAIA = SERVICES["gaia"]


def gaia_table(n: int = 40, seed: int = 1) -> Table:
    """Stars all over the sky as Gaia has them, identifiers ascending."""
    import hpgeom

    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    pixel = hpgeom.angle_to_pixel(2**12, ra, dec, nest=True, lonlat=True)
    table = Table({"source_id": (pixel.astype(np.int64) << 35) | (np.arange(1, n + 1) << 7), "ra": ra, "dec": dec})
    table["ra_error"] = table["dec_error"] = 0.02
    table["pmra"], table["pmdec"], table["ref_epoch"] = rng.normal(0, 5, n), rng.normal(0, 5, n), 2016.0
    for band in ("g", "bp", "rp"):
        table[f"phot_{band}_mean_mag"] = rng.uniform(8, 18, n)
        table[f"phot_{band}_mean_flux_over_error"] = 500.0
    table.sort("source_id")
    return table


class Clock:
    """Waiting that takes no time."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)


def client(url: str, **options: Any) -> Client:
    return Client(url, **{"timeout": 5.0, "pause": 3.0, "sleep": Clock(), **options})


def whole_sky(pixel: int = 0, limit: float = 20.0) -> str:
    return GAIA.query(0, pixel, limit)


def test_an_answer_is_what_was_asked_for() -> None:
    table = gaia_table()
    with serving(table) as service:
        answers = [client(service.url).ask(whole_sky(pixel, 14.0)) for pixel in range(12)]
    bright = table[table["phot_g_mean_mag"] <= 14.0]
    assert not any(answer.truncated for answer in answers)
    assert sorted(number for answer in answers for number in answer.table["source_id"].tolist()) == sorted(bright["source_id"])
    assert [answer.table["ra"].dtype.kind for answer in answers] == ["f"] * 12
    assert service.deleted == 12  # no job is left on the service's disk


@pytest.mark.parametrize("fault", ["http", "error", "drop", "malformed", "half"])
def test_what_goes_wrong_once_is_asked_again(fault: str) -> None:
    with serving(gaia_table(400), faults=[fault, fault]) as service:
        patient = client(service.url)
        answer = patient.ask(whole_sky())
        assert len(answer.table) > 0 and not answer.truncated
    assert len(service.queries) == 3
    assert [wait for wait in patient.sleep.waits if wait >= 3.0] == [3.0, 6.0]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fault", "reason"), [("http", "503"), ("error", "out of memory"), ("malformed", "VOTABLE"), ("hang", "still EXECUTING after")]
)
def test_what_stays_wrong_is_an_error_that_says_why(fault: str, reason: str) -> None:
    with serving(gaia_table(), faults=[fault] * 2) as service, pytest.raises(AlgorithmFailed, match=reason) as raised:
        client(service.url, attempts=2, patience=30.0).ask(whole_sky())
    assert raised.value.code == "fetch.service" and "\n" not in str(raised.value)
    assert len(service.queries) == 2


def test_a_service_that_does_not_answer_is_given_up_in_time() -> None:
    with serving(gaia_table(), faults=["slow"]) as service, pytest.raises(AlgorithmFailed, match=r"timed out|[Tt]imeout"):
        client(service.url, timeout=0.2, attempts=1).ask(whole_sky())


def test_a_service_that_is_not_there_is_an_error() -> None:
    with serving(gaia_table()) as service:
        url = service.url
    with pytest.raises(AlgorithmFailed, match="no answer in 2 attempts"):
        client(url, attempts=2).ask(whole_sky())


@pytest.mark.parametrize(
    ("options", "rows"),
    [({"max_rows": 3}, 10**6), ({}, 3), ({"max_rows": 3, "declares_overflow": False}, 3)],
    ids=["server", "ours", "silent"],
)
def test_an_answer_that_was_cut_short_says_so(options: dict[str, Any], rows: int) -> None:
    with serving(gaia_table(400), **options) as service:
        answer = client(service.url, max_rows=rows).ask(whole_sky())
    assert answer.truncated and len(answer.table) == 3


def test_the_pixel_of_gaias_identifiers() -> None:
    assert "source_id BETWEEN 0 AND 34359738367 " in GAIA.query(12, 0, 15.0)
    assert f"BETWEEN {5 << 59} AND {(6 << 59) - 1} AND phot_g_mean_mag <= 15" in GAIA.query(0, 5, 15.0)


@pytest.mark.parametrize("name", ["tycho2", "apass", "refcat2"])
def test_other_catalogues_are_asked_for_a_circle_around_the_pixel(name: str) -> None:
    query = SERVICES[name].query(6, 1234, 13.5)
    assert "CONTAINS(POINT('ICRS'," in query and query.endswith("<= 13.5") and SERVICES[name].table in query
