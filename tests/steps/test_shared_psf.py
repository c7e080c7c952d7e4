"""Few-starred frames share a profile map: a faint night, on both engines, with one frame of it out of focus."""

from __future__ import annotations

import json
from pathlib import Path

import mini_night
import numpy as np
import pytest
from astropy.io import fits
from mini_night import N_OBJECT, Work, command
from scipy.ndimage import gaussian_filter

from reduction.kernels.arrays import FloatArray
from reduction.photometry.kernels.psf_map import PsfMap
from reduction.photometry.psf_model import is_shared, map_kind_of, psf_map_of
from reduction.pipeline.order import STEPS
from starledger.archive import open_archive

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


@pytest.mark.long
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
    whose_it_is(work)

    # without the map each frame is measured with its own again
    config, shared = tmp_path / "own.toml", work.sql("SELECT count(*) FROM psf_choice WHERE uses = 'shared'")[0][0]
    config.write_text(f"[shared_psf]\nmin_frames = {N_OBJECT + 1}\n")
    assert fluxes(work, [], config=config) == {"photometry": shared}
    with open_archive(work.url) as archive, archive.reading() as session:
        for frame_id, coeff in work.sql("SELECT frame_id, coeff FROM psf_map"):
            np.testing.assert_array_equal(psf_map_of(session, frame_id).coeff, PsfMap.from_row(json.loads(coeff)).coeff)


def whose_it_is(work: Work) -> None:
    """Seven frames of like seeing share a map, most take it, the one out of focus has no part in it, and who asks is told."""
    (odd,) = work.sql("SELECT frame_id FROM psf_map ORDER BY fwhm DESC LIMIT 1")[0]
    members = dict(work.sql("SELECT frame_id, width FROM shared_psf_frame"))
    assert odd not in members and len(members) == N_OBJECT - 1
    choices = {row[0]: row[1:] for row in work.sql("SELECT frame_id, uses, width, shared_chi2, own_chi2, reason FROM psf_choice")}
    assert choices[odd] == ("own", None, None, None, choices[odd][-1]) and "no map is shared by frames of FWHM" in choices[odd][-1]
    shared = {frame_id for frame_id, row in choices.items() if row[0] == "shared"}
    assert len(shared) >= 5
    for frame_id in shared:
        assert choices[frame_id][1] == pytest.approx(members[frame_id], rel=0.02)
    # photometry is made of the choice where that is the shared map, and of no other
    lineage = "SELECT t.frame_id FROM task t JOIN lineage l ON l.task_id = t.task_id WHERE t.step = 'photometry' AND t.status = 'done'"
    assert {row[0] for row in work.sql(f"{lineage} AND l.role = 'psf_choice'")} == shared
    one, n_star = min(shared), work.sql("SELECT n_star, fwhm FROM shared_psf")[0][0]
    with open_archive(work.url) as archive:
        found = archive.frames.psf_summary(one)
        assert (found["whose"], found["n_frame"], found["n_star"]) == ("shared", N_OBJECT - 1, n_star)
        assert archive.frames.psf_summary(odd)["whose"] == "own"
        with archive.reading() as session:
            psf = psf_map_of(session, one)
            assert map_kind_of(session, one) == "psf" and is_shared(session, one) and not is_shared(session, odd)
        assert psf.fwhm((psf.nx - 1) / 2, (psf.ny - 1) / 2) == pytest.approx(found["fwhm"], rel=0.02)
        # fluxes are fitted with that map
        model = archive.frames.model(one)
        assert abs(np.nanmedian(model.pull)) < 0.1 and np.abs(model.stacked).max() < 0.05
    code, text, _ = command("frames", "psf", str(one), "--archive", work.url)
    assert code == 0 and f"shared by {N_OBJECT - 1} few-starred frames" in text
    code, text, _ = command("frames", "psf", str(odd), "--archive", work.url)
    assert code == 0 and "shared" not in text


def test_a_night_of_many_stars_shares_nothing(reduced: Work) -> None:
    assert reduced.sql("SELECT count(*) FROM task WHERE step IN ('shared_psf', 'psf_choice')") == [(0,)]
