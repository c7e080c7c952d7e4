"""A camera whose red stars are wider: the profile map takes their colour, and fluxes do not depend on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from mini_night import Work
from scipy import stats
from scipy.spatial import cKDTree

import starledger
from reduction.kernels.arrays import FloatArray
from reduction.pipeline.order import STEPS
from starledger.demo import simulate, simulate_night
from starledger.demo.truth import Truth, read_truth

SLOPE = 0.06  # of the width, for a magnitude of colour


def _chromatic_night(folder: Path) -> Truth:
    """Two frames of a simulated night, on which stars are wider the redder they are."""
    colour: list[FloatArray] = []
    light, render = simulate._object_light, simulate.render_stars

    def object_light(truth: Truth, *rest: Any) -> FloatArray:
        colour.append(truth.stars.colour)
        try:
            return light(truth, *rest)
        finally:
            colour.clear()

    def render_stars(image: FloatArray, x: FloatArray, y: FloatArray, flux: FloatArray, fwhm: FloatArray, *shape: FloatArray) -> None:
        render(image, x, y, flux, fwhm * (1.0 + SLOPE * (colour[0] - 1.0)) if colour else fwhm, *shape)

    with mock.patch.object(simulate, "_object_light", object_light), mock.patch.object(simulate, "render_stars", render_stars):
        simulate_night(folder, 5, n_object=2, shape=(320, 400), n_star=420, n_bias=3, n_dark=3, n_flat=4)
    return read_truth(folder)


def _slope(work: Work, truth: Truth) -> tuple[float, float]:
    """Change of fitted magnitudes with colour beyond the truth, and its error (mag/mag), of bright stars."""
    colour, off = [], []
    for frame, frame_id in enumerate(row[0] for row in work.sql("SELECT frame_id FROM psf_map ORDER BY frame_id")):
        rows = work.sql(
            "SELECT m.x, m.y, s.fit_colour, m.flux_0 FROM measurement m JOIN source s ON s.source_id = m.source_id "
            "WHERE m.frame_id = :frame AND s.colour_measured = 1 AND m.flags & 4 = 0 AND m.flux_0 > 50 * m.flux_err_0",
            frame=frame_id,
        )
        x, y, measured, flux = np.array(rows, dtype=float).T
        distance, which = cKDTree(np.column_stack(truth.project(frame))).query(np.column_stack([x, y]))
        mag = -2.5 * np.log10(flux / truth.electrons(frame)[which])
        mag -= np.median(mag)
        # stars with a neighbour that no catalogue has are off by far more
        plain = (distance < 0.5) & (np.abs(mag) < 0.1)
        colour.append(measured[plain])
        off.append(mag[plain])
    return theil_slope(np.concatenate(colour), np.concatenate(off))


def theil_slope(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Median of the slopes of all pairs (Theil, Sen), and half its central interval of 68 %."""
    found = stats.theilslopes(y, x, alpha=0.68)
    return float(found.slope), 0.5 * float(found.high_slope - found.low_slope)


@pytest.mark.long
def test_wider_red_stars_have_a_term_of_their_own(tmp_path: Path) -> None:
    night = tmp_path / "night"
    truth = _chromatic_night(night)
    (tmp_path / "work").mkdir()
    work = Work(f"sqlite:///{tmp_path / 'work' / 'archive.db'}", tmp_path / "work" / "files")
    names = list(STEPS)
    config = tmp_path / "plain.toml"
    config.write_text("[psf]\nterms = []\n")
    options: dict[str, Any] = {"catalogues": [night / "catalogue.ecsv"], "steps": names[: names.index("photometry") + 1]}
    work.worked([night / "raw"], config=config, **options)
    assert work.sql("SELECT DISTINCT terms, terms_held_out FROM psf_map") == [("", "{}")]
    before = _slope(work, truth)
    config.write_text("")
    done = work.worked([], config=config, **options)
    assert done["psf"] == done["photometry"] == 2
    rows = work.sql("SELECT terms, terms_held_out, held_out, coeff, flux_error, flux_most_error, faint_flux_error, peak_error FROM psf_map")
    for terms, tried, held_out, coeff, bright, most, faint, peak in rows:
        assert terms == "colour"
        assert json.loads(tried)["colour"] < json.loads(held_out)[1]
        assert [term["name"] for term in json.loads(coeff)["further"]] == ["colour"]
        assert 1e-5 < bright <= most and 1e-5 < faint < 0.02 and 0.0 < peak < 0.1
    after = _slope(work, truth)
    assert before[0] > 0.015 + 3 * before[1]
    assert abs(after[0]) < 0.25 * abs(before[0])
    frame_id = work.sql("SELECT min(frame_id) FROM psf_map")[0][0]
    frames = starledger.open(work.url, files=work.files).frames
    blue, red = (float(frames.psf(frame_id, colour=colour)(0.0, 0.0)) for colour in (0.5, 1.5))
    assert red / blue == pytest.approx(1.0 - 2.0 * SLOPE, abs=0.04)
    assert frames.psf_summary(frame_id)["terms"] == "colour"
    assert 1.4826 * np.nanmedian(np.abs(frames.model(frame_id).pull)) < 1.2
