"""No star helps to fit itself: a dip put into the fluxes of one star comes out of the fit as it went in."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import mini_night
import numpy as np
import pytest
from mini_night import Work

from reduction.step import STEPS

DEPTH = 0.01
N_STAR = 6
SLOT = 2


@pytest.fixture
def few_apertures(tmp_path: Path) -> Work:
    """The mini night measured in three apertures of which none is large."""
    config = tmp_path / "apertures.toml"
    config.write_text("[slots]\nradii = [3.0, 5.0, 8.0]\n")
    work = mini_night.reduced(tmp_path)
    work.worked(config=config)
    return work


def _magnitudes(work: Work, source_id: int) -> dict[int, float]:
    text = "SELECT frame_id, mag FROM light_curve_all WHERE source_id = :star AND slot = :slot"
    return dict(work.sql(text, star=source_id, slot=SLOT))


def test_a_dip_comes_through_the_fit(few_apertures: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    work = few_apertures
    frames = [row[0] for row in work.sql("SELECT frame_id FROM frame WHERE measure_task IS NOT NULL ORDER BY jd_utc")]
    inside = frames[3:6]
    stars = work.sql(
        "SELECT s.source_id FROM lightcurve_statistics s JOIN latest_reference r ON r.reference_id = s.reference_id "
        f"WHERE s.slot = {SLOT} AND s.n_good = {len(frames)} ORDER BY s.mag_mean LIMIT {N_STAR}"
    )
    assert len(stars) == N_STAR
    factor = " , ".join(f"flux_{k} = flux_{k} * :factor" for k in (1, 2, 3))
    place = f"source_id = :star AND frame_id IN ({', '.join(map(str, inside))})"
    ratios = []
    for number, (star,) in enumerate(stars):
        before = _magnitudes(work, star)
        for version, scale in ((2, 1.0 - DEPTH), (3, 1.0 / (1.0 - DEPTH))):
            work.sql(f"UPDATE measurement SET {factor} WHERE {place}", factor=scale, star=star)
            monkeypatch.setitem(STEPS, "magfit", dataclasses.replace(STEPS["magfit"], version=2 * number + version))
            assert work.worked() == {"magfit": 1, "lightcurve": 1}
            if version == 2:
                after = _magnitudes(work, star)
        change = {frame: after[frame] - before[frame] for frame in frames}
        dip = np.mean([change[frame] for frame in inside]) - np.mean([change[frame] for frame in frames if frame not in inside])
        ratios.append(dip / (-2.5 * np.log10(1.0 - DEPTH)))
    np.testing.assert_allclose(ratios, 1.0, atol=0.03)
