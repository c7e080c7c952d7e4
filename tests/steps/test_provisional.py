"""What may stand in place of what: inputs of frames of an open night, and results of it beside those of the whole one."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db.errors import ConfigurationError
from reduction.astrometry.kernels.distortion import DistortionMap
from reduction.files.product import write_image
from reduction.photometry.kernels.psf_seed import seed_map
from reduction.pipeline.declaration import Unit
from reduction.pipeline.inputs import InputTask
from reduction.pipeline.open_nights import OpenNightParameters, tolerances
from reduction.pipeline.order import STEPS
from reduction.pipeline.provisional import _as_worked, _Used
from starledger.configuration import configuration_text, read_configuration


def task(number: int, role: str) -> InputTask:
    return InputTask(number, f"hash {number}", role)


def used(number: int, role: str, *, provisional: bool = False, final: int | None = None, stands: bool = False) -> _Used:
    return _Used(task(number, role), provisional, final, stands)


OWN = task(1, "solve")


@pytest.mark.parametrize(
    ("now", "before", "lasting", "expected"),
    [
        pytest.param([2], [used(3, "distortion", provisional=True)], {2}, [3], id="a later version, while the night is open"),
        pytest.param([2], [], {2}, [], id="a first version, while the night is open"),
        pytest.param([2], [], set(), None, id="there was none, and the night is closed"),
        pytest.param([2], [used(3, "distortion", provisional=True, final=2, stands=True)], set(), [3], id="it stands"),
        pytest.param([2], [used(3, "distortion", provisional=True, final=2)], set(), None, id="it does not"),
        pytest.param([2], [used(3, "distortion", provisional=True, final=4, stands=True)], set(), None, id="it stood for an earlier one"),
        pytest.param([2], [used(3, "distortion")], set(), None, id="another final one"),
        pytest.param([2], [used(3, "distortion")], {2}, [3], id="a final one of another night, while this one is open"),
        pytest.param([], [used(3, "distortion", provisional=True)], set(), [3], id="it could not be made again"),
        pytest.param([], [used(3, "distortion")], set(), [], id="a final one is gone: the hash is another"),
    ],
)
def test_inputs_as_a_frame_was_worked(now: list[int], before: list[_Used], lasting: set[int], expected: list[int] | None) -> None:
    inputs = [OWN, *(task(number, "distortion") for number in now)]
    found = _as_worked(inputs, [_Used(OWN, False, None, False), *before], lasting)
    assert (None if found is None else [each.task_id for each in found]) == (None if expected is None else [1, *expected])


def change(step: str, earlier: Any, later: Any, files: Path = Path()) -> float:
    provisional = STEPS[step].provisional
    assert provisional is not None
    # As the archive keeps it.
    return provisional.change(json.loads(json.dumps(earlier)), json.loads(json.dumps(later)), files)


def test_distortions_differ_by_what_a_frame_cannot_take_up() -> None:
    def bent(*coeff: float, nx: int = 1000) -> dict[str, Any]:
        return DistortionMap(2, coeff, (0.0, 0.0, 0.0), nx, 800, 8, 300, 0.1, 0.1).as_row()

    none = DistortionMap(1, (), (), 1000, 800, 8, 300, 0.1, 0.1).as_row()
    assert change("distortion", bent(0.3, 0.1, 0.0), bent(0.3, 0.1, 0.0)) == 0.0
    # x = 0.2 u v / reach^2, which has no linear part: largest in the corners.
    reach = 0.5 * math.hypot(1000, 800)
    assert change("distortion", bent(0.3, 0.1, 0.0), bent(0.3, 0.3, 0.0)) == pytest.approx(0.2 * 500 * 400 / reach**2)
    assert change("distortion", none, bent(0.0, 0.3, 0.0)) == pytest.approx(0.3 * 500 * 400 / reach**2)
    assert change("distortion", bent(0.3, 0.1, 0.0), bent(0.3, 0.1, 0.0, nx=900)) == math.inf


def test_detectors_differ_by_what_errors_are_made_of() -> None:
    one = {"gain": 1.5, "read_noise": 6.0, "zero_level": 300.0, "saturation": None, "linearity": None}
    assert change("detector", one, one) == 0.0
    assert change("detector", one, {**one, "gain": 1.6}) == pytest.approx(0.1 / 1.6)
    assert change("detector", one, {**one, "zero_level": 300.8}) == pytest.approx(0.8 / (6.0 / 1.5))
    assert change("detector", one, {**one, "saturation": 6e4}) == math.inf
    assert change("detector", one, {**one, "linearity": "[1e-6]"}) == math.inf


def test_masters_differ_in_units_of_their_error(tmp_path: Path) -> None:
    shape = (50, 60)
    rng = np.random.default_rng(1)
    value = rng.normal(100.0, 1.0, shape).astype(np.float32)
    mask = np.zeros(shape, np.uint8)

    def written(name: str, shift: float, mask: np.ndarray = mask) -> dict[str, str]:
        planes = {"SCI": value + np.float32(shift), "VAR": np.full(shape, 0.25, np.float32), "MASK": mask}
        write_image(tmp_path / name, planes=planes)
        return {"path": name}

    one = written("one.fits", 0.0)
    bad = mask.copy()
    bad[0] = 1
    for step in ("bias", "dark", "flat", "large_scale_flat"):
        assert change(step, one, written("same.fits", 0.0), tmp_path) == 0.0
        assert change(step, one, written("other.fits", 0.1), tmp_path) == pytest.approx(0.2, rel=1e-3)
        assert change(step, one, written("bad.fits", 0.0, bad), tmp_path) == math.inf
        assert change(step, one, {"path": "gone.fits"}, tmp_path) == math.inf


def test_patterns_differ_in_units_of_a_frames_noise(tmp_path: Path) -> None:
    pattern = np.zeros((40, 40), np.float32)
    hot = pattern.copy()
    hot[3, 4] = 30.0
    for name, plane in (("one.fits", pattern), ("hot.fits", hot), ("small.fits", pattern[:20])):
        write_image(tmp_path / name, planes={"SCI": plane})
    one, two, small = ({"path": name, "noise": 10.0} for name in ("one.fits", "hot.fits", "small.fits"))
    assert change("fixed_pattern", one, one, tmp_path) == 0.0
    assert change("fixed_pattern", one, two, tmp_path) == pytest.approx(3.0)
    assert change("fixed_pattern", one, small, tmp_path) == math.inf


def test_shared_profiles_differ_by_their_light() -> None:
    def maps(fwhm: float, factor: float = 1.0, kind: str = "psf", n: int = 1) -> dict[str, Any]:
        row = seed_map((300, 200), fwhm, 12.0).to_row()
        row["coeff"] = (np.array(row["coeff"]) * factor).tolist()
        return {"maps": [{"like": [1, kind], "coeff": json.dumps(row)}] * n}

    assert change("shared_psf", maps(3.0), maps(3.0)) == 0.0
    assert change("shared_psf", maps(3.0, 1.05), maps(3.0)) == pytest.approx(0.05)
    assert change("shared_psf", maps(3.0), maps(3.0, kind="prf")) == math.inf
    assert change("shared_psf", maps(3.0), maps(3.0, n=2)) == math.inf


def test_apertures_are_the_same_or_not() -> None:
    assert change("slots", {"radii": [2.0, 3.25]}, {"radii": [2.0, 3.25]}) == 0.0
    assert change("slots", {"radii": [2.0, 3.25]}, {"radii": [2.0, 3.5]}) == math.inf


def test_every_tolerance_is_used_and_every_one_used_is_there() -> None:
    names = set(OpenNightParameters.__dataclass_fields__)
    used_by_steps = {step.provisional.tolerance for step in STEPS.values() if step.provisional is not None} - {""}
    assert names == used_by_steps | {"discovered"}


def test_tolerances_stand_in_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[open_nights]\ndistortion = 0.1\n")
    settings = read_configuration(path)
    assert tolerances(settings) == OpenNightParameters(distortion=0.1) and tolerances({}) == OpenNightParameters()
    path.write_text(configuration_text(settings))
    assert tolerances(read_configuration(path)).distortion == 0.1
    for wrong in ("[open_nights]\ndistortions = 0.1\n", "[open_nights]\ndistortion = -1\n", "open_nights = 3\n"):
        path.write_text(wrong)
        with pytest.raises(ConfigurationError, match="open_nights"):
            read_configuration(path)


def test_results_of_an_open_night_have_hashes_of_their_own() -> None:

    step = STEPS["distortion"]
    unit = Unit[Any]("1/mono/9579", "night 9579", (OWN,))
    hashes = step.input_hashes([unit, dataclasses.replace(unit, provisional=True), unit], step.parameters())
    assert hashes[0] == hashes[2] != hashes[1]
