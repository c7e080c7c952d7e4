"""Real near-infrared frames with poor headers: no image type, the exposure time a string, a pedestal of 40,000 ADU, no darks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mini_night import Work
from scipy import ndimage

from reduction.files.fits import read_raw
from reduction.files.product import read_calibrated

pytestmark = pytest.mark.realdata

STEPS = ["ingest", "classify", "detector", "bias", "dark", "dark_scaling", "large_scale_flat", "flat", "calibrate"]


@pytest.fixture(scope="module")
def tircam2(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Work:
    folder = tmp_path_factory.mktemp("tircam2")
    work = Work(f"sqlite:///{folder / 'a.db'}", folder / "files")
    work.worked([shared_data / "tircam2"], catalogues=[], steps=STEPS)
    return work


def test_every_frame_is_sorted_right(tircam2: Work) -> None:
    kinds = {"bia": "bias", "fla": "flat", "IC3": "object"}
    found = tircam2.sql(
        "SELECT e.path, c.type FROM frame f JOIN classification c ON c.frame_id = f.frame_id "
        "JOIN exposure e ON e.exposure_id = f.exposure_id"
    )
    assert len(found) == 13 and all(kinds[Path(path).name[:3]] == kind for path, kind in found)


def test_masters_are_made_and_say_what_is_doubtful(tircam2: Work) -> None:
    found = {kind: (n, warning) for kind, n, warning in tircam2.sql("SELECT kind, n_frame, warning FROM good_master")}
    assert found["bias"] == (3, None)
    count, warning = found["flat"]
    assert count >= 3 and "no dark was taken off the flats" in warning and "adds that much noise" in warning


def test_the_flat_takes_the_large_scale_structure_out(tircam2: Work, shared_data: Path) -> None:
    found = tircam2.sql(
        "SELECT e.path, p.path, c.flat_master_id FROM calibrated_frame c JOIN frame f ON f.frame_id = c.frame_id"
        " JOIN exposure e ON e.exposure_id = f.exposure_id JOIN product p ON p.product_id = c.product_id"
    )
    assert len(found) == 5
    bias = np.mean([read_raw(path).data.astype(float) for path in sorted((shared_data / "tircam2").glob("bias*"))], axis=0)
    for raw, path, flat in found:
        planes = read_calibrated(tircam2.files / path)
        good = planes["MASK"] == 0
        before, after = (_structure(image, good) for image in (read_raw(Path(raw)).data - bias, planes["SCI"]))
        assert flat is not None and after < 0.6 * before, (raw, before, after)


def _structure(image: np.ndarray, good: np.ndarray) -> float:
    """Scatter of medians over cells of 32 pixels, relative to the sky."""
    filled = np.where(good, image, np.nan)[:512, :512].reshape(16, 32, 16, 32)
    cells = np.nanmedian(filled, axis=(1, 3))
    return float(1.4826 * ndimage.median(np.abs(cells - np.nanmedian(cells))) / np.nanmedian(cells))
