"""The life of a field's references: made, asked for, held, accepted, retracted, drifting, purged. Nothing of a curve vanishes unsaid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from many_nights import LAST, ManyNights, Plan
from mini_night import command
from templates import make_schema

from db.errors import AlgorithmFailed, ConfigurationError
from reduction.pipeline.order import STEPS
from starledger.reduce import status

PLAN = Plan(n_star=120, n_frame=6, n_slot=2)
N_NIGHT = 2
Made = Callable[[], ManyNights]


@pytest.fixture
def made(archive_url: str, tmp_path: Path) -> Iterator[ManyNights]:
    """A field of two nights, reduced."""
    make_schema(archive_url)
    nights = ManyNights.create(archive_url, tmp_path / "files", PLAN)
    nights.add(N_NIGHT)
    nights.work()
    yield nights
    nights.close()


def url(nights: ManyNights) -> str:
    return nights.archive.engine.url.render_as_string(hide_password=False)


def rows(nights: ManyNights, text: str) -> list[tuple[object, ...]]:
    with nights.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(text))]


def pending(nights: ManyNights) -> dict[str, int]:
    """Of the steps that are worked here; tests/steps/test_standard_system.py has what follows a reference."""
    return {step.step: step.pending for step in status(nights.archive) if step.pending and step.step in LAST}


def counting(nights: ManyNights) -> int:
    ((reference,),) = rows(nights, "SELECT reference_id FROM latest_reference")
    return int(str(reference))


def curves(nights: ManyNights) -> dict[int, int]:
    """Points of the light curves by night."""
    found = rows(nights, "SELECT night_id, count(*) FROM light_curve GROUP BY night_id")
    return {int(str(night)): int(str(count)) for night, count in found}


def solutions(nights: ManyNights, reference: int) -> list[tuple[object, ...]]:
    return rows(nights, f"SELECT * FROM magfit_solution WHERE reference_id = {reference} ORDER BY slot, fold, frame_id")


def test_a_reference_settles_and_says_what_it_is_of(made: ManyNights) -> None:
    (row,) = made.archive.references.list().to_dict("records")
    assert (row["status"], row["counts"], row["n_night"], row["n_frame"]) == ("accepted", 1, N_NIGHT, N_NIGHT * PLAN.n_frame)
    assert row["reason"] == "the field had none" and row["nights_fitted"] == row["nights_measured"] == N_NIGHT
    assert row["is_settled"] == 1 and row["change"] < 1e-4
    # Of every star and slot a magnitude for each fold; that of its own fold is the one people see.
    found = rows(
        made,
        "SELECT count(*), sum(CASE WHEN q.fold = s.fold AND abs(q.mag - r.mag) > 1e-9 THEN 1 ELSE 0 END) FROM magfit_fold_reference q "
        "JOIN source s ON s.source_id = q.source_id JOIN reference_magnitude r ON r.reference_id = q.reference_id "
        "AND r.slot = q.slot AND r.source_id = q.source_id",
    )
    (stars,) = rows(made, f"SELECT count(*) FROM reference_magnitude WHERE reference_id = {row['reference_id']}")
    assert stars[0] > 1.5 * PLAN.n_star
    assert found == [(5 * stars[0], 0)]


@pytest.mark.parametrize("failing", ["last", "all"])
def test_a_night_that_cannot_be_fitted_keeps_no_candidate_waiting(
    archive_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    make_schema(archive_url)
    nights = ManyNights.create(archive_url, tmp_path / "files", PLAN)
    last = nights.add(N_NIGHT)[-1].night_id
    fit = STEPS["magnitude_fit"]

    def broken(context: Any, unit: Any, parameters: Any) -> Any:
        if failing == "all" or unit.payload.night_id == last:
            raise AlgorithmFailed("no light")
        return fit.body(context, unit, parameters)

    monkeypatch.setitem(STEPS, "magnitude_fit", replace(fit, body=broken))
    with pytest.raises(RuntimeError, match="no light"):
        nights.work()
    found = rows(nights, "SELECT status FROM magfit_reference WHERE status <> 'iteration'")
    seen = curves(nights)
    nights.close()
    assert found == [("accepted",)] if failing == "last" else found == [("candidate",)]
    assert len(seen) == (N_NIGHT - 1 if failing == "last" else 0) and last not in seen


def test_the_first_frame_has_the_highest_score(made: ManyNights) -> None:
    reference = counting(made)
    scores = made.archive.references.scores(reference)
    assert len(scores) == N_NIGHT * PLAN.n_frame and scores["score"].is_monotonic_decreasing
    ranks = scores[[name for name in scores if name.endswith("_rank")]]
    np.testing.assert_allclose(ranks.mean(axis=1), scores["score"], atol=1e-6)
    (row,) = made.archive.references.list().to_dict("records")
    assert row["first_frame"] == scores["frame_id"].iloc[0]


def test_a_new_night_is_one_pass_and_changes_no_older_row(made: ManyNights) -> None:
    reference, before = counting(made), solutions(made, counting(made))
    nights = curves(made)
    made.add_night()
    assert pending(made) == {"magnitude_fit": 1}
    made.work()
    assert counting(made) == reference
    after = solutions(made, reference)
    assert set(before) < set(after) and len(after) == len(before) * 3 // 2
    assert {night: count for night, count in curves(made).items() if night in nights} == nights
    assert len(curves(made)) == N_NIGHT + 1


def test_one_that_is_asked_for_is_averaged_from_the_means_of_nights(made: ManyNights) -> None:
    made.add_night()
    made.work()
    old = counting(made)
    made.archive.references.new(1, "three nights instead of two", author="me")
    assert pending(made) == {"magnitude_reference": 1}
    made.work()
    new = counting(made)
    assert new > old and pending(made) == {}
    last = made.archive.references.list().iloc[-1]
    assert (last["n_night"], last["reason"], last["is_settled"]) == (3, "asked for: three nights instead of two", 1)
    assert rows(made, f"SELECT parent_id FROM magfit_reference WHERE reference_id = {new}") == [(old,)]
    compared = made.archive.references.compare(1)
    assert compared.attrs == {"new": new, "old": old} and compared["n_star"].sum() > 100
    # What is common to all stars is held: magnitudes stay on the scale that they were on.
    assert np.abs(np.average(compared["shift"], weights=compared["n_star"])) < 2e-3
    assert len(solutions(made, old)) == len(solutions(made, new)), "the old one stays queryable"


def test_a_person_chooses_the_first_frame(made: ManyNights) -> None:
    reference = counting(made)
    before = magnitudes(made)
    worst = int(made.archive.references.scores(reference)["frame_id"].iloc[-1])
    made.archive.references.new(1, "to see whether it matters", frame=worst)
    made.work()
    assert made.archive.references.list()["first_frame"].iloc[-1] == worst
    after = magnitudes(made)
    assert after.keys() == before.keys()
    keys = sorted(before)
    star = np.unique([key[0] for key in keys], return_inverse=True)[1]
    change = np.array([after[key] - before[key] for key in keys])
    change -= (np.bincount(star, change) / np.bincount(star))[star]
    # What no data hold is the first frame's, and is a constant of each star.
    assert np.sqrt(np.mean(change**2)) < 2e-4


def magnitudes(nights: ManyNights) -> dict[tuple[int, int], float]:
    """By source and frame."""
    found = rows(nights, "SELECT source_id, frame_id, mag FROM light_curve_all WHERE slot = 1 AND mag < 12")
    return {(int(str(source)), int(str(frame))): float(str(mag)) for source, frame, mag in found}


def test_one_that_is_held_waits(made: ManyNights) -> None:
    old = counting(made)
    made.archive.references.new(1, "to compare", hold=True)
    made.work()
    held = made.archive.references.list().iloc[-1]
    assert (held["status"], held["is_held"], counting(made)) == ("candidate", 1, old)
    made.add_night()
    assert pending(made) == {"magnitude_fit": 2}, "the night is fitted to either"
    made.work()
    accepted = made.archive.references.accept(1, "scatters less")
    assert counting(made) == accepted.reference_id == held["reference_id"]
    assert len(curves(made)) == N_NIGHT + 1
    made.work(["statistics"])
    assert pending(made) == {}


def test_a_retracted_one_loses_no_night(made: ManyNights) -> None:
    first = counting(made)
    made.archive.references.new(1, "again")
    made.work()
    second = counting(made)
    made.add_night()
    made.work()
    assert len(curves(made)) == N_NIGHT + 1
    code, out, messages = command(
        "reference", "retract", "1", "--reason", "dew", "--archive", str(made.archive.engine.url.render_as_string(False))
    )
    assert (code, messages) == (0, ""), messages
    assert f"reference {first} counts" in out and "1 of 3 nights are not fitted to it" in out
    assert counting(made) == first and len(curves(made)) == N_NIGHT
    assert pending(made)["magnitude_fit"] == 1, "exactly the night that was never fitted to it"
    made.work()
    assert len(curves(made)) == N_NIGHT + 1 and counting(made) == first
    made.archive.references.accept(1, "it was no dew", reference=second)
    assert counting(made) == second and "magnitude_fit" not in pending(made)


def test_without_any_a_new_one_is_made(made: ManyNights) -> None:
    first = counting(made)
    assert made.archive.references.retract(1, "wrong camera") is None
    assert curves(made) == {} and pending(made)["magnitude_reference"] == 1
    made.work()
    assert counting(made) > first and len(curves(made)) == N_NIGHT


def test_purged_ones_are_gone_and_listed(made: ManyNights) -> None:
    for _ in range(2):
        made.archive.references.new(1, "again")
        made.work()
    before = curves(made)
    single, first, second, third = (int(str(row[0])) for row in rows(made, "SELECT reference_id FROM magfit_reference ORDER BY 1"))
    assert made.archive.references.purge(1, "space") == (single, first)
    assert curves(made) == before and pending(made) == {}
    left = rows(made, "SELECT DISTINCT reference_id FROM magfit_solution ORDER BY 1")
    assert left == [(second,), (third,)]
    assert list(made.archive.references.list()["status"]) == ["purged", "purged", "accepted", "accepted"]
    with pytest.raises(ConfigurationError, match="purged"):
        made.archive.references.accept(1, "back", reference=first)


def test_nights_that_differ_ask_for_a_new_one(archive_url: str, tmp_path: Path) -> None:
    """Every third star changes by a tenth of a magnitude for good, as after another filter's coating."""
    make_schema(archive_url)
    config = tmp_path / "drift.toml"
    config.write_text("[magnitude_reference]\ndrift_nights = 2\n")
    nights = ManyNights.create(archive_url, tmp_path / "files", replace(PLAN, n_frame=5))
    nights.add(1)
    nights.work(config=config)
    first = counting(nights)
    rng = np.random.default_rng(3)
    ids, ra, dec, mag, colour = nights.sky._drawn
    nights.sky.__dict__["_drawn"] = (ids, ra, dec, mag + rng.normal(0.0, 0.05, len(mag)), colour)
    for night in range(2):
        nights.add_night()
        assert {tally.step: tally.done for tally in nights.work()}["magnitude_reference"] == 0, night
        changes = rows(nights, f"SELECT max(change) FROM night_change WHERE reference_id = {first}")
        assert float(str(changes[0][0])) > 0.01
    nights.add_night()
    # What the nights before were like is looked at with the next one.
    assert pending(nights) == {"magnitude_reference": 1, "magnitude_fit": 1}, (
        "what the nights before were like is looked at with the next one"
    )
    nights.work()
    assert counting(nights) > first
    assert "the last 2 nights differ from it by" in nights.archive.references.list()["reason"].iloc[-1]
    nights.close()


def test_stars_that_a_reference_lacks_have_curves(archive_url: str, tmp_path: Path) -> None:
    make_schema(archive_url)
    nights = ManyNights.create(archive_url, tmp_path / "files", PLAN)
    nights.add(1)
    nights.work()
    reference = counting(nights)
    known = {row[0] for row in rows(nights, f"SELECT source_id FROM best_slot WHERE reference_id = {reference}")}
    nights.add(3)
    nights.work()
    measured = {row[0] for row in rows(nights, "SELECT DISTINCT source_id FROM measurement WHERE flux_1 > 0")}
    assert measured > known, "the pointing drifts: some stars come later"
    shown = {row[0] for row in rows(nights, "SELECT DISTINCT source_id FROM light_curve WHERE mag IS NOT NULL")}
    assert shown == measured
    nights.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("new", "9", "--reason", "x"), "no field with the id 9"),
        (("new", "1", "--reason", " "), "references need a reason"),
        (("new", "1", "--reason", "x", "--frame", "99999"), "frame 99999 is not one of field 1"),
        (("accept", "1", "--reason", "x"), "field 1 has no candidate"),
        (("accept", "1", "--reason", "x", "--reference", "77"), "no reference 77 of field 1"),
        (("retract", "1", "--reason", "x", "--reference", "1"), "no reference 1 of field 1"),
        (("compare", "1"), "field 1 has 1 reference(s)"),
        (("scores", "99"), "no reference with the id 99"),
    ],
)
def test_what_cannot_be_is_one_line(words: tuple[str, ...], message: str, made: ManyNights) -> None:
    code, out, messages = command("reference", *words, "--archive", url(made))
    assert (code, out) == (2, "")
    assert message in messages and len(messages.splitlines()) <= 2
