"""A frame and what its profile map and fluxes say of it, from the archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mini_night import Work

import starledger
from db.errors import ConfigurationError
from reduction.files.product import read_image


def test_the_model_leaves_noise(reduced: Work, tmp_path: Path) -> None:
    frame_id = reduced.sql("SELECT min(frame_id) FROM psf_map WHERE kind <> 'shape'")[0][0]
    frames = starledger.open(reduced.url, files=reduced.files).frames
    found = frames.model(frame_id)
    assert 1.4826 * np.nanmedian(np.abs(found.pull)) == pytest.approx(1.0, abs=0.06)
    flux, error = np.array(reduced.sql(f"SELECT flux_0, flux_err_0 FROM measurement WHERE frame_id = {frame_id}"), dtype=float).T
    # the light in the model is that of the sources, but for what falls off the frame's edge
    assert found.model.sum(dtype=float) == pytest.approx(np.nansum(flux), rel=0.05)
    assert np.nanstd(found.residual) < 0.2 * found.model.std()
    assert np.nanmax(np.abs(found.stacked)) < 0.01
    assert np.count_nonzero(flux > 20 * error) > 10


def test_its_planes_go_to_a_file_and_a_plot(reduced: Work, tmp_path: Path) -> None:
    frame_id = reduced.sql("SELECT min(frame_id) FROM psf_map")[0][0]
    frames = starledger.open(reduced.url, files=reduced.files).frames
    frames.write_model(frame_id, tmp_path / "model.fits")
    planes, header = read_image(tmp_path / "model.fits")
    assert set(planes) == {"MODEL", "SKY", "RESIDUAL", "PULL"} and int(header["FRAME"]) == frame_id
    np.testing.assert_array_equal(planes["MODEL"], frames.model(frame_id).model)
    frames.plot_psf(frame_id, tmp_path / "psf.png")
    assert (tmp_path / "psf.png").stat().st_size > 20_000
    with pytest.raises(ConfigurationError, match="has no profile map"):
        frames.write_model(10**6, tmp_path / "none.fits")


def test_either_kind_of_map_and_of_aperture_serves(reduced: Work, tmp_path: Path) -> None:
    """A PRF splits by area and says so; plain apertures keep the neighbours' light; slots keep their meaning."""
    assert reduced.sql("SELECT DISTINCT p.kind, f.apertures FROM psf_map p JOIN frame_photometry f ON f.frame_id = p.frame_id") == [
        ("psf", "psf")
    ]
    before = dict(reduced.sql("SELECT slot, count(*) FROM aperture_correction GROUP BY slot"))
    for section, kind, mode in (('[psf]\nkind = "prf"\n', "prf", "area"), ('[photometry]\napertures = "plain"\n', "psf", "plain")):
        config = tmp_path / f"{mode}.toml"
        config.write_text(section)
        reduced.worked([], catalogues=[], config=config)
        found = reduced.sql("SELECT DISTINCT p.kind, f.apertures FROM psf_map p JOIN frame_photometry f ON f.frame_id = p.frame_id")
        assert found == [(kind, mode)]
        assert dict(reduced.sql("SELECT slot, count(*) FROM aperture_correction GROUP BY slot")) == before
        enclosed = [row[0] for row in reduced.sql("SELECT avg(enclosed) FROM aperture_correction GROUP BY slot ORDER BY slot")]
        assert np.all(np.diff(enclosed) > 0) and enclosed[-1] > 0.9
        shares = reduced.sql(
            "SELECT max(l.share), min(l.share), max(l.foreign_light) FROM light_share l "
            "JOIN latest_reference r ON r.reference_id = l.reference_id WHERE l.slot > 0"
        )[0]
        # what is subtracted is not in what is measured
        assert shares[0] <= 1.0 and shares[2] > 0.0
        assert (shares[1] == 1.0) == (mode != "plain")
