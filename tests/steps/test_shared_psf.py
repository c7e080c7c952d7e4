"""Few-starred frames share a profile map: a faint night, on both engines, with one frame of it out of focus."""

from __future__ import annotations

from pathlib import Path

import mini_night
import numpy as np
import pytest
from astropy.io import fits
from mini_night import N_OBJECT, Work
from scipy.ndimage import gaussian_filter

from reduction.kernels.arrays import FloatArray
from reduction.pipeline.order import STEPS

#: What is left of the light, the sky that is added (ADU), the frame out of focus, and how much it is blurred by (pixel).
LEFT, SKY, BLURRED, BLUR = 0.12, 20_000.0, 5, 3.0
GAIN = 6.4  # electron/ADU, the camera's
FLUXES = list(STEPS)[: list(STEPS).index("magnitude_fit")]


@pytest.fixture(scope="module")
def faint_night(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The mini night's calibration frames, and its object frames with so little light that few stars show the profile."""
    night, folder = mini_night.night(), tmp_path_factory.mktemp("faint")
    rng, paths = np.random.default_rng(61), night.calibration()

    def typical(kind: str) -> FloatArray:
        return np.asarray(np.median([fits.getdata(path) for path in paths if path.name.startswith(kind)], axis=0), dtype=np.float64)

    dark = typical("dark")
    sky = SKY * (typical("flat") - dark) / np.mean(typical("flat") - dark)
    for number, path in enumerate(night.objects()):
        with fits.open(path) as hdus:
            light = hdus[0].data.astype(float) - dark
            if number == BLURRED:
                light = gaussian_filter(light, BLUR)
            image = dark + LEFT * light + sky + rng.standard_normal(light.shape) * np.sqrt(np.maximum(sky, 0.0) / GAIN)
            hdus[0].data = np.clip(np.round(image), 0, 65535).astype(np.uint16)
            hdus.writeto(folder / path.name)
        paths.append(folder / path.name)
    return paths


def fluxes(work: Work, paths: list[Path], **options: object) -> dict[str, int]:
    """Reduce as far as fluxes: units done by step. Frames of so few stars may have no shape map, and nothing else may fail."""
    tallies = work.tallies(paths, steps=FLUXES, **options)
    assert {tally.step for tally in tallies if tally.failed} <= {"shapes"}
    return {tally.step: tally.done for tally in tallies if tally.done}


def test_a_faint_night_as_it_grows(archive_url: str, tmp_path: Path, faint_night: list[Path]) -> None:
    work = Work(archive_url, tmp_path / "files")
    first = len(faint_night) - N_OBJECT + 4
    done = fluxes(work, faint_night[:first])
    assert (done["shared_psf"], done["psf_choice"], done["photometry"]) == (1, 4, 4)
    before = work.sql("SELECT coeff FROM shared_psf")

    # one frame more takes the map that there is, and makes no other pending
    done = fluxes(work, faint_night[: first + 1])
    assert "shared_psf" not in done
    assert (done["psf"], done["psf_choice"], done["photometry"]) == (1, 1, 1)
    assert work.sql("SELECT coeff FROM shared_psf") == before
    assert work.sql(
        "SELECT count(*) FROM psf_choice c LEFT JOIN shared_psf_frame m ON m.frame_id = c.frame_id WHERE m.frame_id IS NULL"
    ) == [(1,)]

    # twice as many make it anew
    done = fluxes(work, faint_night)
    assert (done["shared_psf"], done["psf_choice"]) == (1, N_OBJECT)
    assert fluxes(work, []) == {}
    assert work.sql("SELECT n_frame FROM shared_psf") == [(N_OBJECT - 1,)]
