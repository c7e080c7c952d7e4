"""Nights whose headers or detectors are wrong, from raw files on: what the frames become, what is marked, and what is said."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from templates import make_schema

from db.flags import Mask
from reduction.files.product import read_calibrated
from starledger.archive import Archive, create_archive
from starledger.reduce import reduce

STEPS = ["ingest", "classify", "detector", "bias", "dark", "dark_scaling", "large_scale_flat", "flat", "calibrate", "detect"]
START = dt.datetime(2025, 9, 20, 1, 0)
SIZE = 256
Y, X = np.indices((SIZE, SIZE))


def write(folder: Path, name: str, number: int, pixels: np.ndarray, **cards: object) -> None:
    folder.mkdir(exist_ok=True)
    header = fits.Header({"INSTRUME": "Test Camera", "TELESCOP": "Test", "SITELAT": 45.0, "SITELONG": 7.0, "FILTER": "V"})
    header["DATE-OBS"] = (START + dt.timedelta(seconds=70 * number)).isoformat(timespec="milliseconds")
    history = cards.pop("HISTORY", None)
    header.update(cards)
    if history:
        header["HISTORY"] = history
    fits.PrimaryHDU(np.rint(pixels).clip(0, 65535).astype(np.uint16), header).writeto(folder / f"{name}-{number:03d}.fits")


def stars(generator: np.random.Generator, *, n: int, width: float, shift: float = 0.3) -> np.ndarray:
    field = np.random.default_rng(5)
    light, (dx, dy) = np.zeros((SIZE, SIZE)), generator.normal(0, shift, 2)
    for x, y, flux in zip(field.uniform(8, 248, n), field.uniform(8, 248, n), 10 ** field.uniform(3.5, 5.0, n), strict=True):
        light += flux / (2 * np.pi * width**2) * np.exp(-((X - x - dx) ** 2 + (Y - y - dy) ** 2) / 2 / width**2)
    return light


def reduced(url: str, tmp_path: Path) -> tuple[Archive, dict[str, dict[str, str]]]:
    make_schema(url)
    archive = create_archive(url, tmp_path / "files")
    tallies = reduce(archive, [tmp_path / "raw"], steps=STEPS)
    return archive, {tally.step: tally.failed for tally in tallies if tally.failed}


def types(archive: Archive) -> dict[str, str]:
    found = archive.sql(
        "SELECT e.path, c.type FROM classification c JOIN frame f ON f.frame_id = c.frame_id"
        " JOIN exposure e ON e.exposure_id = f.exposure_id"
    )
    return {Path(row.path).stem: row.type for row in found.itertuples()}


def test_a_light_frame_of_0_s_is_an_object_frame_and_refused_by_name(archive_url: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    for number in range(6):
        sky = generator.poisson(100.0 + stars(generator, n=61, width=1.3)) + generator.normal(1000, 6, (SIZE, SIZE))
        write(tmp_path / "raw", "light", number, sky, EXPTIME=0.0 if number == 2 else 60.0, IMAGETYP="Light Frame")
    archive, failed = reduced(archive_url, tmp_path)
    assert set(types(archive).values()) == {"object"}
    # No magnitude follows from an exposure of 0 s: the frame alone is left out, for that reason.
    assert [len(each) for each in failed.values()] == [1]
    assert "exposure time is 0 s" in str(failed["calibrate"])


def test_planets_make_no_flat(archive_url: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    cards = {"SWCREATE": "CCDOPS Version 5.47", "PEDESTAL": -100, "HISTORY": "Auto Dark Subtraction"}
    for number in range(5):
        x, y = 128 + generator.normal(0, 5, 2)
        blob = 45000.0 * np.exp(-((X - x) ** 2 + (Y - y) ** 2) / 2 / 3.0**2)
        write(
            tmp_path / "raw",
            "jupiter",
            number,
            generator.poisson(3.0 + blob) + generator.normal(100, 4, (SIZE, SIZE)),
            EXPTIME=0.12,
            **cards,
        )
    response = 1 - 0.25 * ((X - 128) ** 2 + (Y - 128) ** 2) / 128**2
    for number in range(5, 8):
        flat = generator.poisson(27000.0 * response + 100 * number) + generator.normal(100, 4, (SIZE, SIZE))
        write(tmp_path / "raw", "flat", number, flat, EXPTIME=1.0, IMAGETYP="Flat Field", **cards)
    archive, _ = reduced(archive_url, tmp_path)
    found = types(archive)
    assert {name.split("-")[0]: kind for name, kind in found.items()} == {"jupiter": "object", "flat": "flat"}
    used = archive.sql("SELECT m.kind, e.path FROM master_frame u JOIN master m ON m.master_id = u.master_id JOIN frame f ON"
                       " f.frame_id = u.frame_id JOIN exposure e ON e.exposure_id = f.exposure_id WHERE u.used = 1")  # fmt: skip
    assert {(row.kind, Path(row.path).stem.split("-")[0]) for row in used.itertuples()} == {("largescale", "flat"), ("flat", "flat")}
    levels = archive.sql("SELECT zero_level FROM calibrated_frame")
    assert levels["zero_level"].unique().tolist() == [100.0]


@pytest.mark.parametrize("n_frame", [5, 1])
def test_the_pattern_of_a_warm_detector_is_no_cosmic_rays(archive_url: str, tmp_path: Path, n_frame: int) -> None:
    generator = np.random.default_rng(3)
    pattern = generator.exponential(90.0, (SIZE, SIZE))
    for number in range(n_frame):
        electrons = generator.poisson(1.5 * (40.0 + pattern + stars(generator, n=60, width=0.7, shift=2.0))).astype(float)
        hits = generator.integers(10, SIZE - 10, (2, 20))
        electrons[hits[0], hits[1]] += 6000.0
        raw = electrons / 1.5 + generator.normal(500, 4, (SIZE, SIZE))
        write(tmp_path / "raw", "light", number, raw, EXPTIME=7.0, IMAGETYP="Light Frame", GAIN=1.5, EGAIN=1.5, RDNOISE=6.0, BLKLEV=500.0)
    archive, failed = reduced(archive_url, tmp_path)
    assert failed == {}
    rows = archive.sql(
        "SELECT c.n_cosmic, c.remark, p.path, d.n_detection FROM calibrated_frame c JOIN product p ON p.product_id = c.product_id"
        " JOIN detection_summary d ON d.frame_id = c.frame_id"
    )
    assert len(rows) == n_frame
    for row in rows.itertuples():
        assert row.n_cosmic < 0.01 * SIZE**2
        assert "look like cosmic rays, more than 1% is not believed" in row.remark
        assert ("repeat on other frames" in row.remark) == (n_frame > 1)
        mask = read_calibrated(archive.files / row.path)["MASK"]
        assert np.count_nonzero(mask & int(Mask.HOT | Mask.COSMIC)) < 0.01 * SIZE**2
        assert row.n_detection > 30
    clean = archive.sql("SELECT COUNT(*) AS n FROM detection WHERE flags = 0 AND flux > 20 * flux_err")
    assert int(clean["n"].iloc[0]) > 20 * n_frame
