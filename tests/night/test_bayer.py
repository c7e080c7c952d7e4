"""Real Bayer mosaics, and a real file of a camera."""

from __future__ import annotations

from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy.io import fits
from mini_night import Work, command

from reduction.files.product import read_calibrated

pytestmark = pytest.mark.realdata

STEPS = ["ingest", "sort", "detector", "bias", "dark", "linearity", "largescale", "flat", "calibrate"]
OFFSETS = {"R": (0, 0), "G1": (1, 0), "G2": (0, 1), "B": (1, 1)}  # x, y of RGGB


def test_a_mosaic_becomes_four_calibrated_channels(shared_data: Path, tmp_path: Path) -> None:
    work = Work(f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "files")
    files = [shared_data / "bayer" / name for name in ("unsolved.fits", "solved.fits.fz")]
    work.worked(files, catalogues=[], steps=STEPS)
    found = work.sql(
        "SELECT e.path, f.channel, f.raw_x0, f.raw_y0, f.raw_step, f.type, c.zero_level, p.path FROM calibrated_frame c"
        " JOIN frame f ON f.frame_id = c.frame_id JOIN exposure e ON e.exposure_id = f.exposure_id"
        " JOIN product p ON p.product_id = c.product_id"
    )
    assert {(raw, channel) for raw, channel, *_ in found} == {(str(path), channel) for path in files for channel in OFFSETS}
    for raw, channel, x0, y0, step, kind, zero, path in found:
        assert (x0, y0) == OFFSETS[channel] and step == 2 and kind == "object"
        with fits.open(raw) as hdus:
            mosaic = next(hdu.data for hdu in hdus if hdu.data is not None)
        planes = read_calibrated(work.files / path)
        good = planes["MASK"] == 0
        expected = mosaic[y0::2, x0::2].astype(float) - zero
        assert planes["SCI"].shape == (350, 350) and good.mean() > 0.9
        # Without flat or dark it is the mosaic's own pixels less their zero level, to the step of compression.
        assert np.abs(planes["SCI"] - expected)[good].max() < 0.5 * np.sqrt(np.median(planes["VAR"][good]))


def test_a_cameras_file_becomes_fits_and_is_refused_as_a_frame(shared_data: Path, tmp_path: Path) -> None:
    raw = shared_data / "bayer" / "colorchart.dng"
    assert command("convert", raw, "-o", tmp_path / "fits")[0] == 0
    (path,) = (tmp_path / "fits").glob("*.fits")
    data, header = fits.getdata(path, header=True)
    assert data.shape == (1156, 1734) and header["BAYERPAT"] in ("RGGB", "BGGR", "GRBG", "GBRG")
    np.testing.assert_array_equal(fitsio.read(str(path)), data)

    code, _, messages = command("reduce", raw, "--archive", tmp_path / "a.db", "--jobs", "1")
    (line,) = [line for line in messages.splitlines() if line.startswith("ingest ") and raw.name in line]
    assert code == 2 and "Traceback" not in messages
    assert "no exposure time" in line and "; " in line and "--config" in line
