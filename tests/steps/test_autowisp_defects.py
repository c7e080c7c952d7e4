"""Situations in which another pipeline (AutoWISP) was seen to fail, one test each."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from mini_night import N_OBJECT, Night, Work

from db.flags import Mask
from reduction.calibration.kernels.calibration import calibrate
from reduction.calibration.kernels.overscan import trim_overscan
from reduction.calibration.kernels.stack import MasterImage, stack_bands


def test_an_overscan_is_subtracted() -> None:
    """An overscan ended the calibration."""
    frame = np.full((40, 60), 1100.0, np.float32) + np.arange(40, dtype=np.float32)[:, None]
    frame[:, 48:] -= 100.0
    out = trim_overscan(frame, (0, 48, 0, 40), (48, 60, 0, 40))
    assert out.shape == (40, 48)
    np.testing.assert_allclose(out, 100.0, atol=1.0)


def test_an_unknown_saturation_level_marks_nothing() -> None:
    """Without a saturation level the calibration ended."""
    plane = calibrate(np.full((20, 30), 60000, np.uint16), gain=1.5, read_noise=5.0, saturation=None)
    assert not (plane.mask & int(Mask.SATURATED)).any()


def stacked(cube: np.ndarray, bits: np.ndarray) -> MasterImage:
    return stack_bands(lambda a, b: (cube[:, a:b], bits[:, a:b]), (cube.shape[1], cube.shape[2]), n=len(cube))


def test_masks_of_all_frames_count() -> None:
    """Only the first file's mask was used."""
    cube = np.random.default_rng(1).normal(100.0, 2.0, (5, 16, 16)).astype(np.float32)
    bits = np.zeros(cube.shape, np.uint8)
    cube[3, 8, 9], bits[3, 8, 9] = 5000.0, int(Mask.SATURATED)
    master = stacked(cube, bits)
    assert master.count[8, 9] == 4 and master.value[8, 9] == pytest.approx(100.0, abs=5.0)


def test_a_pixel_masked_in_every_frame_is_a_masked_pixel() -> None:
    """A pixel masked in every frame stopped the master."""
    cube = np.full((5, 16, 16), 100.0, np.float32)
    bits = np.zeros(cube.shape, np.uint8)
    bits[:, 3, 4] = int(Mask.NO_DATA)
    master = stacked(cube, bits)
    assert master.mask[3, 4] & int(Mask.NO_DATA) and master.count[3, 4] == 0
    assert np.count_nonzero(master.mask) == 1


def test_the_error_of_a_flat_is_what_flats_differ_by() -> None:
    """The error of the master flat was 1.36 times too large."""
    rng, level, gain = np.random.default_rng(3), 20_000.0, 2.0
    response = rng.normal(1.0, 0.01, (128, 128))
    flats = (rng.poisson(level * gain * response, (16, 128, 128)) / gain / level).astype(np.float32)
    first, second = (stacked(flats[k::2], np.zeros((8, 128, 128), np.uint8)) for k in (0, 1))
    pull = (first.value - second.value) / np.sqrt(first.variance + second.variance)
    assert np.std(pull) == pytest.approx(1.0, abs=0.05)


def test_upper_case_suffixes_are_frames(night: Night, tmp_path: Path) -> None:
    """Files named .FITS were passed over in silence."""
    raw = tmp_path / "raw"
    raw.mkdir()
    shutil.copy(night.objects()[0], raw / "A.FITS")
    work = Work(f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "files")
    assert work.worked([raw], catalogues=[], steps=["ingest"]) == {"ingest": 1}


def test_missing_magnitudes_are_null(reduced: Work) -> None:
    """Missing magnitudes were -1.7e38."""
    whole = "SELECT source_id FROM light_curve GROUP BY source_id HAVING count(mag) = :n"
    some = f"SELECT source_id, night_id, frame_id FROM light_curve WHERE source_id IN ({whole}) LIMIT 1"
    source, night_id, frame_id = reduced.sql(some, n=N_OBJECT)[0]
    key = {"s": source, "n": night_id, "f": frame_id}
    count = "SELECT count(*), count(mag), min(mag), max(mag) FROM light_curve WHERE source_id = :s"
    (total, before, low, high) = reduced.sql(count, s=source)[0]
    assert total == N_OBJECT and 0 < low <= high < 40
    slots = ", ".join(f"flux_{k} = -1.0" for k in range(8))
    reduced.sql(f"UPDATE closed_measurement SET {slots} WHERE source_id = :s AND night_id = :n AND frame_id = :f", **key)
    assert reduced.sql(count, s=source)[0][:2] == (total, before - 1)


def test_the_values_of_a_source_are_a_query(reduced: Work) -> None:
    """Values of one source could not be asked for at all."""
    source = reduced.sql("SELECT source_id FROM light_curve GROUP BY source_id ORDER BY count(mag) DESC LIMIT 1")[0][0]
    rows = reduced.sql("SELECT frame_id, x, y, flux_1, background FROM measurement WHERE source_id = :s", s=source)
    assert len(rows) == N_OBJECT and all(None not in row for row in rows)


def test_coefficients_of_the_fit_are_rows(reduced: Work) -> None:
    """Fit coefficients were stored nowhere."""
    stored = reduced.sql("SELECT count(DISTINCT frame_id) FROM magfit_solution s JOIN latest_reference r USING (reference_id)")
    assert stored == [(N_OBJECT,)]


def test_nobody_chooses_the_reference_frame(reduced: Work) -> None:
    """A person had to choose the reference frame."""
    (frame_id,) = reduced.sql("SELECT DISTINCT frame_id FROM magfit_reference")[0]
    assert reduced.sql("SELECT type FROM classification WHERE frame_id = :f", f=frame_id) == [("object",)]


def test_bright_stars_are_fitted_to_below_ten_millimagnitudes(reduced: Work) -> None:
    """The fit stopped at 10 mmag."""
    scatter = reduced.sql("SELECT rms FROM lightcurve_statistics WHERE rms IS NOT NULL ORDER BY rms LIMIT 5")
    assert len(scatter) == 5 and max(scatter)[0] < 0.01
