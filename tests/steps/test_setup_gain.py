"""One gain for a set-up: what some nights measure serves those that cannot, in whatever order they come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from mini_night import Work

STEPS = ["ingest", "classify", "detector"]
GAIN, READ_NOISE, ZERO = 3.2, 9.0, 400.0


def take(folder: Path, day: int, skies: Sequence[float], *, corrected: bool = True) -> Path:
    """A night of object frames under skies of so many ADU; without bias frames and a gain in the header."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(day)
    y, x = np.indices((128, 160))
    places = np.random.default_rng(1).uniform((6, 6, 3.2), (154, 122, 4.7), (50, 3))
    stars = sum(10**flux / 14 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 4.5) for a, b, flux in places)
    for k, sky in enumerate(skies):
        electrons = rng.poisson((sky + stars) * GAIN) + rng.normal(0.0, READ_NOISE, x.shape)
        hdu = fits.PrimaryHDU((electrons / GAIN + (0.0 if corrected else ZERO)).astype(np.float32))
        cards = {"INSTRUME": "Camera", "IMAGETYP": "Light Frame", "EXPTIME": 30.0, "FILTER": "V"}
        for word, value in {**cards, "DATE-OBS": f"2024-03-{day:02d}T21:{k:02d}:00.000"}.items():
            hdu.header[word] = value
        if corrected:
            hdu.header["HISTORY"] = "bias subtracted"
        hdu.writeto(folder / f"{day}-{k:02d}.fits")
    return folder


def nights(work: Work) -> list[tuple[float, str, float]]:
    return [tuple(row) for row in work.sql("SELECT gain, gain_origin, read_noise FROM detector ORDER BY night_id")]  # type: ignore[misc]


def reduce(work: Work, *folders: Path) -> dict[str, int]:
    return work.worked(list(folders), catalogues=[], steps=STEPS)


#: A night that tells its gain by itself, one of few frames, and one of a single frame.
GOOD, FEW, SINGLE = np.linspace(200, 1500, 12), [900.0, 905.0, 910.0], [700.0]


@pytest.mark.parametrize("corrected", [True, False])
def test_nights_of_few_frames_have_the_gain_of_the_others(archive_url: str, tmp_path: Path, corrected: bool) -> None:
    work = Work(archive_url, tmp_path / "files")
    folders = [take(tmp_path / str(day), day, skies, corrected=corrected) for day, skies in ((3, SINGLE), (8, GOOD), (12, FEW))]
    assert reduce(work, *folders)["detector"] == 3
    found = nights(work)
    assert len({gain for gain, *_ in found}) == 1 and found[0][0] == pytest.approx(GAIN, rel=0.1)
    assert {origin for _, origin, _ in found} == {"measured"}
    # The noise of the sky is that of its light and of the camera, once.
    for (gain, _, read_noise), sky, zero in zip(
        found, (700.0, None, 905.0), work.sql("SELECT zero_level FROM detector ORDER BY night_id"), strict=True
    ):
        if sky is not None:
            level = sky + (0.0 if corrected else ZERO) - zero[0]
            assert level / gain + (read_noise / gain) ** 2 == pytest.approx(sky / GAIN + (READ_NOISE / GAIN) ** 2, rel=0.08)
    assert reduce(work, *folders) == {}


def test_the_order_of_the_nights_of_a_run_does_not_matter(tmp_path: Path) -> None:
    kinds = (GOOD, FEW, SINGLE)
    values = set()
    for number, order in enumerate(((0, 1, 2), (2, 0, 1))):
        folder = tmp_path / str(number)
        folder.mkdir()
        work = Work(f"sqlite:///{folder / 'a.db'}", folder / "files")
        # The nights are the same, their dates are not.
        reduce(work, *[take(folder / str(k), 3 + place, kinds[k]) for place, k in enumerate(order)])
        values.add(len({gain for gain, *_ in nights(work)}))
    assert values == {1}


def test_a_night_that_assumed_its_gain_is_made_anew_once_and_one_that_knew_it_stays(archive_url: str, tmp_path: Path) -> None:
    work = Work(archive_url, tmp_path / "files")
    reduce(work, take(tmp_path / "3", 3, SINGLE))
    assert nights(work)[0][1] == "assumed"
    # The night that measures it and the one that waited for it, in one run.
    assert reduce(work, take(tmp_path / "8", 8, GOOD))["detector"] == 2
    first = nights(work)
    assert first[0][0] == pytest.approx(first[1][0]) and first[0][1] == "measured"
    # A later night takes what is known by then; those before stay as they are.
    assert reduce(work, take(tmp_path / "12", 12, np.linspace(300, 1800, 14)))["detector"] == 1
    assert nights(work)[:2] == first and nights(work)[2][0] == pytest.approx(GAIN, rel=0.05)
    assert work.sql("SELECT count(*) FROM task WHERE step = 'detector' AND status = 'done'") == [(3,)]
    assert reduce(work) == {}


def test_without_any_measurement_the_skys_noise_is_counted_once(archive_url: str, tmp_path: Path) -> None:
    """The least gain with which light makes the sky's noise: closer than 1, and with it the sky's noise is what it is."""
    work = Work(archive_url, tmp_path / "files")
    reduce(work, take(tmp_path / "3", 3, SINGLE))
    ((gain, origin, read_noise),) = nights(work)
    assert origin == "assumed" and gain == pytest.approx(GAIN, rel=0.12)
    assert 700.0 / gain + (read_noise / gain) ** 2 == pytest.approx(700.0 / GAIN + (READ_NOISE / GAIN) ** 2, rel=0.05)
