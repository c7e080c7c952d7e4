"""Real Bayer mosaics, and a real file of a camera."""

from __future__ import annotations

import json
from pathlib import Path

import fitsio
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from mini_night import Work, command

from reduction.astrometry.kernels.detection import extract
from reduction.astrometry.kernels.wcs import PlateSolution
from reduction.files.product import read_calibrated

pytestmark = pytest.mark.realdata

STEPS = ["ingest", "classify", "detector", "bias", "dark", "dark_scaling", "large_scale_flat", "flat", "calibrate"]
OFFSETS = {"R": (0, 0), "G1": (1, 0), "G2": (0, 1), "B": (1, 1)}  # x, y of RGGB


def test_a_mosaic_becomes_four_calibrated_channels(shared_data: Path, tmp_path: Path) -> None:
    work = Work(f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "files")
    files = [shared_data / "bayer" / name for name in ("unsolved.fits", "solved.fits.fz")]
    work.worked(files, catalogues=[], steps=STEPS)
    found = work.sql(
        "SELECT e.path, f.channel, f.raw_x0, f.raw_y0, f.raw_step, k.type, c.zero_level, p.path FROM calibrated_frame c"
        " JOIN frame f ON f.frame_id = c.frame_id JOIN classification k ON k.frame_id = c.frame_id"
        " JOIN exposure e ON e.exposure_id = f.exposure_id"
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


def test_four_channels_share_a_solution_and_each_counts_its_light(shared_data: Path, tmp_path: Path) -> None:
    """The channel with most stars is solved; the others follow, each with linear terms of its own."""
    indexes = sorted(Path("/usr/share/astrometry").glob("index-*.fits"))
    if not indexes:
        pytest.skip("no index files in /usr/share/astrometry to take catalogue stars from")
    mosaic = shared_data / "bayer" / "solved.fits.fz"
    catalogue = tmp_path / "stars.csv"
    _stars_around(mosaic, indexes).write(catalogue, format="ascii.csv")
    work = Work(f"sqlite:///{tmp_path / 'a.db'}", tmp_path / "files")
    steps = ["catalogue", *STEPS, "detect", "fetch", "solve", "field", "discover", "distortion", "field_colours", "refine", "shapes"]
    work.worked([mosaic], catalogues=[catalogue], steps=[*steps, "background", "fixed_pattern", "psf", "slots", "photometry"])
    rows = work.sql(
        "SELECT f.channel, f.raw_x0, f.raw_y0, w.coeff, w.n_matched, w.rms_x, w.rms_y, s.start FROM wcs_solution w "
        "JOIN frame f ON f.frame_id = w.frame_id JOIN first_solution s ON s.frame_id = w.frame_id ORDER BY f.channel"
    )
    assert [row[0] for row in rows] == ["B", "G1", "G2", "R"]
    assert sorted(row[7].split()[0] for row in rows) == ["channel", "channel", "channel", "header"]
    assert min(row[4] for row in rows) >= 50 and max(max(row[5:7]) for row in rows) < 0.2
    plates = {row[0]: (PlateSolution.from_row(json.loads(row[3])), row[1], row[2]) for row in rows}
    table = Table.read(catalogue)
    places = {}
    for channel, (plate, x0, y0) in plates.items():
        x, y = plate.project(table["ra"], table["dec"])
        places[channel] = np.column_stack([x0 + 2 * x, y0 + 2 * y])[plate.inside(x, y, 5.0)]
    # On the mosaic a star of one colour lies where it does in another, but for the lens.
    assert all(np.abs(places[channel] - places["G1"]).max() < 1.5 for channel in places)
    _each_channel_has_a_profile_of_its_own(work)


def _each_channel_has_a_profile_of_its_own(work: Work) -> None:
    """A quarter of the mosaic's area sees one colour: the profile is the light's own, which that part of a pixel integrates."""
    maps = work.sql(
        "SELECT p.kind, p.pixel, p.n_star, p.fwhm, h.apertures FROM psf_map p JOIN frame_photometry h ON h.frame_id = p.frame_id"
    )
    assert len(maps) == 4
    for kind, pixel, n_star, fwhm, apertures in maps:
        assert (kind, pixel, apertures) == ("psf", 0.5, "psf")
        assert n_star > 100 and 1.0 < fwhm < 2.0
    lights = work.sql(
        "SELECT f.channel, m.source_id, s.fit_mag, m.flux_0, m.flux_2 FROM measurement m JOIN frame f ON f.frame_id = m.frame_id"
        " JOIN source s ON s.source_id = m.source_id WHERE s.origin = 'catalogue' AND m.flux_err_0 < 0.05 * m.flux_0"
        " AND m.flags & 1 = 0 ORDER BY m.source_id"
    )
    by_channel = {channel: {row[1]: row[2:] for row in lights if row[0] == channel} for channel in OFFSETS}
    for channel, stars in by_channel.items():
        mag, profile, aperture = np.array(list(stars.values())).T
        zero = mag + 2.5 * np.log10(profile)
        assert len(zero) > 40 and 1.4826 * np.median(np.abs(zero - np.median(zero))) < 0.35, channel  # V of stars of all colours
        ratio = 2.5 * np.log10(aperture / profile)
        assert 1.4826 * np.median(np.abs(ratio - np.median(ratio))) < 0.15, channel


def _stars_around(mosaic: Path, indexes: list[Path]) -> Table:
    """Tycho-2 stars on a frame, as the index files have them."""
    astrometry = pytest.importorskip("astrometry")
    data = fits.getdata(mosaic, 1)[0::2, 1::2].astype(np.float32)
    found = extract(data, np.full(data.shape, np.var(data[:50, :50]), np.float32), np.zeros(data.shape, np.uint8))
    with astrometry.Solver(indexes) as solver:
        stop = lambda odds: astrometry.Action.STOP if odds[0] > 50.0 else astrometry.Action.CONTINUE  # noqa: E731
        parameters = astrometry.SolutionParameters(logodds_callback=stop)
        match = solver.solve(np.column_stack([found.x, found.y])[:100], astrometry.SizeHint(18, 23), None, parameters).best_match()
    stars = [(star.ra_deg, star.dec_deg, star.metadata["MAG_VT"]) for star in match.stars]
    return Table(rows=stars, names=("ra", "dec", "VT"))
