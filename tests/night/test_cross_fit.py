"""No star helps to fit itself: a dip put into the fluxes of one star comes out of the fit as it went in."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from mini_night import Work

from reduction.pipeline.order import STEPS
from starledger.demo import simulate_night

DEPTH = 0.01
N_FRAME = 24
N_STAR = 5
SLOT = 2


def _reduced(folder: Path, terms: str) -> Work:
    """A night with some 45 stars a frame in the fit, measured in three apertures of which none is large."""
    size = {"shape": (224, 288), "n_star": 90, "n_bias": 3, "n_dark": 3, "n_flat": 4}
    simulate_night(folder / "night", 3, n_object=N_FRAME, **size)
    config = folder / "apertures.toml"
    config.write_text(f"[slots]\nradii = [3.0, 5.0, 8.0]\n{terms}")
    work = Work(f"sqlite:///{folder / 'night.db'}", folder / "night-files")
    work.worked([folder / "night" / "raw"], catalogues=[folder / "night" / "catalogue.ecsv"], config=config)
    return work


def _magnitudes(work: Work, source_id: int) -> dict[int, float]:
    text = "SELECT frame_id, mag FROM light_curve_all WHERE source_id = :star AND slot = :slot"
    return dict(work.sql(text, star=source_id, slot=SLOT))


@pytest.mark.long
@pytest.mark.parametrize("terms", ["auto", "given"])
def test_a_dip_comes_through_the_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terms: str) -> None:
    """Also where terms are left to be chosen: so few stars choose none, since each would have a say."""
    work = _reduced(tmp_path, '[magnitude_fit]\norder = 2\nterms = ["colour"]\n' if terms == "given" else "")
    frames = [
        row[0] for row in work.sql("SELECT f.frame_id FROM frame f JOIN frame_photometry fp ON fp.frame_id = f.frame_id ORDER BY f.jd_utc")
    ]
    assert len(frames) == N_FRAME
    inside = frames[9:15]
    stars = work.sql(
        "SELECT s.source_id FROM lightcurve_statistics s JOIN latest_reference r ON r.reference_id = s.reference_id "
        f"WHERE s.slot = {SLOT} AND s.n_good = {len(frames)} ORDER BY s.mag_mean LIMIT {N_STAR}"
    )
    assert len(stars) == N_STAR
    factor = " , ".join(f"flux_{k} = flux_{k} * :factor" for k in (1, 2, 3))
    place = f"source_id = :star AND frame_id IN ({', '.join(map(str, inside))})"
    undisturbed = {star: _magnitudes(work, star) for (star,) in stars}
    ratios = []
    for version, (star,) in enumerate(stars, start=STEPS["magnitude_reference"].version + 1):
        work.sql(f"UPDATE closed_measurement SET {factor} WHERE {place}", factor=1.0 - DEPTH, star=star)
        monkeypatch.setitem(STEPS, "magnitude_reference", dataclasses.replace(STEPS["magnitude_reference"], version=version))
        assert work.worked([], catalogues=[]) == {"magnitude_reference": 1, "magnitude_fit": 1, "standard_system": 1, "statistics": 1}
        disturbed = _magnitudes(work, star)
        work.sql(f"UPDATE closed_measurement SET {factor} WHERE {place}", factor=1.0 / (1.0 - DEPTH), star=star)
        change = {frame: disturbed[frame] - undisturbed[star][frame] for frame in frames}
        dip = np.mean([change[frame] for frame in inside]) - np.mean([change[frame] for frame in frames if frame not in inside])
        ratios.append(dip / (-2.5 * np.log10(1.0 - DEPTH)))
    np.testing.assert_allclose(ratios, 1.0, atol=0.01)
