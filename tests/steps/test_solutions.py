"""Plate solutions of a small night as rows: matches, coverage, shapes, FITS keywords; and of single files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from mini_night import N_OBJECT, Night, Work, command

from reduction.astrometry.kernels.wcs import PlateSolution
from reduction.photometry.kernels.shape_map import ShapeMap

#: Frames on which a source lies, from the sky that they cover.
_COVERED = (
    "SELECT c.frame_id FROM source s JOIN frame_coverage c ON c.bucket = s.healpix / 70368744177664 "
    "AND c.lo <= s.healpix AND c.hi > s.healpix WHERE s.source_id = :s ORDER BY c.frame_id"
)


def solutions(work: Work) -> dict[int, PlateSolution]:
    return {frame: PlateSolution.from_row(json.loads(text)) for frame, text in work.sql("SELECT frame_id, coeff FROM wcs_solution")}


def test_a_detection_is_one_source_and_a_source_one_detection(reduced: Work) -> None:
    n, n_detection, n_source = reduced.sql(
        "SELECT count(*), (SELECT count(*) FROM (SELECT DISTINCT frame_id, number FROM detection_match) d), "
        "(SELECT count(*) FROM (SELECT DISTINCT frame_id, source_id FROM detection_match) s) FROM detection_match"
    )[0]
    assert n == n_detection == n_source > 50 * N_OBJECT
    rms = reduced.sql("SELECT avg(dx * dx), avg(dy * dy) FROM detection_match WHERE in_fit = 1")[0]
    assert max(rms) < 0.1**2


def test_sources_within_the_coverage_are_those_that_project_onto_the_frame(reduced: Work) -> None:
    plates = solutions(reduced)
    assert len(plates) == N_OBJECT
    sources = reduced.sql("SELECT source_id, ra, dec FROM source ORDER BY source_id")[::25]
    wrong = 0
    for source_id, ra, dec in sources:
        covered = {row[0] for row in reduced.sql(_COVERED, s=source_id)}
        for frame_id, plate in plates.items():
            x, y = plate.project(ra, dec)
            cell = np.hypot(plate.nx, plate.ny) / 128 * 1.5
            if plate.inside(x, y, cell) or not plate.inside(x, y, -cell):
                wrong += (frame_id in covered) != bool(plate.inside(x, y))
    assert wrong == 0


def test_calibrated_frames_carry_the_solution(reduced: Work) -> None:
    plates = solutions(reduced)
    rows = reduced.sql("SELECT c.frame_id, p.path FROM calibrated_frame c JOIN product p ON p.product_id = c.product_id")
    assert len(rows) == N_OBJECT
    for frame_id, path in rows:
        plate = plates[frame_id]
        x, y = np.meshgrid(np.linspace(0, plate.nx - 1, 5), np.linspace(0, plate.ny - 1, 5))
        for extension in ("SCI", "ERR", "MASK"):
            wcs = WCS(fits.getheader(reduced.files / path, extension))
            column, row = wcs.all_world2pix(*plate.unproject(x, y), 0)
            assert np.hypot(column - x, row - y).max() < 0.005
    kept = {path.relative_to(reduced.files).as_posix() for path in (reduced.files / "calibrated").iterdir()}
    assert kept == {path for _, path in rows}


def test_the_night_shares_one_distortion(reduced: Work) -> None:
    ((order, n_frame, rms_x, rms_y),) = reduced.sql("SELECT poly_order, n_frame, rms_x, rms_y FROM distortion")
    assert 1 <= order <= 5 and n_frame == N_OBJECT and max(rms_x, rms_y) < 0.1
    assert reduced.sql("SELECT DISTINCT distortion FROM wcs_solution") == [("night",)]
    better = "SELECT count(*) FROM wcs_solution w JOIN first_solution f ON f.frame_id = w.frame_id WHERE w.rms_x < 1.3 * f.rms_x"
    assert reduced.sql(better) == [(N_OBJECT,)]


def test_shape_maps_tell_the_width_of_the_stars(reduced: Work) -> None:
    rows = reduced.sql(
        "SELECT m.coeff, m.fwhm, d.fwhm, f.nx, f.ny FROM shape_map m JOIN frame f ON f.frame_id = m.frame_id "
        "JOIN detection_summary d ON d.frame_id = m.frame_id"
    )
    assert len(rows) == N_OBJECT
    for text, middle, typical, nx, ny in rows:
        found = ShapeMap.from_row(json.loads(text)).evaluate(np.array([0.0, nx - 1.0]), np.array([0.0, ny - 1.0]))
        assert middle == pytest.approx(typical, rel=0.1) and np.all(np.abs(found.fwhm / typical - 1.0) < 0.25)


def test_a_single_file_is_solved_without_an_archive(night: Night, tmp_path: Path) -> None:
    path, plot, out = night.objects()[0], tmp_path / "plot.png", tmp_path / "solved.fits"
    code, text, messages = command("solve", path, "--catalogue", night.catalogue, "--plot", plot, "--output", out)
    assert code == 0, messages
    assert "catalogue stars matched" in text and "arcsec/pixel" in text and "residuals" in text
    assert plot.stat().st_size > 10_000
    assert WCS(fits.getheader(out)).has_celestial
    code, _, messages = command("solve", path)
    assert code == 1 and messages.count("\n") == 1 and "no catalogue star within" in messages and "--catalogue" in messages
    assert sorted(tmp_path.iterdir()) == sorted([plot, out])


def test_a_folder_without_frames_is_said_to_be_empty(tmp_path: Path) -> None:
    code, text, messages = command("solve", tmp_path)
    assert (code, text, messages.count("\n")) == (2, "", 1) and "no raw frames to solve" in messages
