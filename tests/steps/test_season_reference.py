"""References from the joint solution of all nights, beside those that are iterated: they agree, and the first frame matters to neither."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from many_nights import Clouds, ManyNights, Plan
from mini_night import command
from templates import make_schema

PLAN = Plan(n_star=200, n_frame=10, n_slot=2)
WORDS = '[magnitude_fit]\norder = 2\nterms = ["colour"]\n'


def made(url: str, folder: Path, words: str) -> ManyNights:
    make_schema(url)
    config = folder / "method.toml"
    config.write_text(WORDS + words)
    nights = ManyNights.create(url, folder / "files", PLAN)
    nights.add(2)
    nights.add_night(clouds=(Clouds(2, 4, 0.7, 0.3),))
    nights.work(config=config)
    return nights


@pytest.fixture
def season(archive_url: str, tmp_path: Path) -> Iterator[ManyNights]:
    found = made(archive_url, tmp_path, '[magnitude_reference]\nmethod = "season"\n')
    yield found
    found.close()


def magnitudes(nights: ManyNights) -> dict[tuple[int, int], float]:
    """Fitted magnitudes of stars by source and frame, in the light curves that count."""
    with nights.engine.connect() as connection:
        found = connection.execute(sa.text("SELECT source_id, frame_id, mag FROM light_curve_all WHERE slot = 1 AND mag < 11.5"))
        return {(int(source), int(frame)): float(mag) for source, frame, mag in found}


def differences(one: dict[tuple[int, int], float], other: dict[tuple[int, int], float]) -> np.ndarray:
    """Of the points that both have, after a constant for each star (mag)."""
    keys = sorted(one.keys() & other.keys())
    assert len(keys) > 0.97 * max(len(one), len(other))
    star = np.unique([source for source, _ in keys], return_inverse=True)[1]
    change = np.array([one[key] - other[key] for key in keys])
    return np.asarray(change - (np.bincount(star, change) / np.bincount(star))[star])


def test_both_methods_agree(season: ManyNights, tmp_path: Path) -> None:
    (tmp_path / "iterated").mkdir()
    iterated = made(f"sqlite:///{tmp_path / 'iterated.db'}", tmp_path / "iterated", "")
    off = differences(magnitudes(season), magnitudes(iterated))
    iterated.close()
    assert np.sqrt(np.mean(off**2)) < 2e-4 and np.quantile(np.abs(off), 0.99) < 5e-4
    (row,) = season.archive.references.list().to_dict("records")
    assert (row["n_night"], row["is_settled"], row["n_excluded"]) == (3, 1, 2)


def test_the_first_frame_does_not_matter(season: ManyNights) -> None:
    before = magnitudes(season)
    worst = int(season.archive.references.scores(int(season.archive.references.list()["reference_id"].iloc[0]))["frame_id"].iloc[-3])
    season.archive.references.new(1, "to see whether it matters", frame=worst)
    season.work()
    assert season.archive.references.list()["first_frame"].iloc[-1] == worst
    off = differences(before, magnitudes(season))
    assert np.sqrt(np.mean(off**2)) < 2e-4


@pytest.mark.parametrize("words", ["", '[magnitude_reference]\nmethod = "season"\n'])
def test_the_joint_solution_judges_a_reference(tmp_path: Path, words: str) -> None:
    nights = made(f"sqlite:///{tmp_path / 'a.db'}", tmp_path, words)
    url = nights.archive.engine.url.render_as_string(hide_password=False)
    code, out, messages = command("reference", "compare", "1", "--season", "--format", "csv", "--archive", url)
    assert (code, messages) == (0, ""), messages
    joint = nights.archive.references.joint(1)
    assert len(out.splitlines()) == len(joint) + 1 and joint["n_star"].sum() > 0.9 * PLAN.n_star
    bright = joint[joint["mag_from"] < 10.5]
    # Variable stars apart, of which there is one in one of the bins.
    assert (bright["scatter"] < 5e-4).all() and (bright["shift"].abs() < 3e-4).all() and (bright["rms_difference"] < 5e-4).sum() >= 4
    # A star of which the reference is wrong stands out.
    with nights.engine.begin() as connection:
        star = int(nights.sky.source_id[int(np.argmin(nights.sky.mag))])
        connection.execute(sa.text("UPDATE magfit_fold_reference SET mag = mag + 0.05 WHERE source_id = :star"), {"star": star})
    assert nights.archive.references.joint(1)["rms_difference"].iloc[0] > 5e-4
    nights.close()
