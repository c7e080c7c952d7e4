"""Order and terms of the fits, chosen when a reference is made: what the camera does is found, and what people say counts for more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from many_nights import ManyNights, Plan
from mini_night import command
from templates import make_schema

from db.errors import ConfigurationError
from starledger.configuration import read_configuration

PLAN = Plan(n_star=200, n_frame=8, n_slot=2)


def rows(nights: ManyNights, text: str) -> list[tuple[object, ...]]:
    with nights.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(text))]


def made(url: str, folder: Path, plan: Plan = PLAN, words: str = "") -> ManyNights:
    """A field of two nights, reduced with the given words of a configuration."""
    make_schema(url)
    config = folder / "terms.toml"
    config.write_text(words)
    nights = ManyNights.create(url, folder / "files", plan)
    nights.add(2)
    nights.work(config=config)
    return nights


@pytest.fixture
def nights(archive_url: str, tmp_path: Path) -> Iterator[ManyNights]:
    found = made(archive_url, tmp_path)
    yield found
    found.close()


def last(nights: ManyNights) -> dict[str, object]:
    """The newest reference as it is listed."""
    return dict(nights.archive.references.list().iloc[-1])


def held_out(nights: ManyNights) -> float:
    """Scatter of bright stars about their means (mag), in magnitudes that they had no say in."""
    found = rows(nights, "SELECT source_id, mag FROM light_curve_all WHERE slot = 1 AND mag < 10.5")
    source, mag = (np.array(column, dtype=float) for column in zip(*found, strict=True))
    star = np.unique(source, return_inverse=True)[1]
    middle = np.array([np.median(mag[star == k]) for k in range(star.max() + 1)])
    return float(1.48 * np.median(np.abs(mag - middle[star])))


def test_what_the_camera_does_is_found_and_kept_with_the_reference(nights: ManyNights) -> None:
    reference = last(nights)
    assert (reference["fit_order"], reference["fit_terms"]) == (2, "colour")
    tried = nights.archive.references.terms(int(str(reference["reference_id"])))
    assert list(tried["name"][:6]) == [*(f"order {order}" for order in range(5)), "+ colour"] and len(tried) == 17
    assert list(tried["name"][tried["is_chosen"] == 1]) == ["order 2", "+ colour"]
    assert tried["gain"][5] > 5 * tried["gain_err"][5] > 0 and tried["scatter"][5] < 0.5 * tried["scatter"][1]
    ((message,),) = rows(nights, "SELECT message FROM task WHERE step = 'magnitude_reference'")
    assert "order 2 + colour by held-out stars" in str(message)
    code, out, messages = command(
        *("reference", "terms", str(reference["reference_id"])), "--archive", nights.archive.engine.url.render_as_string(False)
    )
    assert (code, messages) == (0, "") and "+ colour" in out and "order 4" in out


def test_nights_are_fitted_with_the_terms_of_their_reference(nights: ManyNights) -> None:
    nights.add_night()
    nights.work()
    fits = "SELECT DISTINCT n_term, term_groups, CASE WHEN c_colour <> 0.0 THEN 1 ELSE 0 END, CASE WHEN c_xxx <> 0.0 THEN 1 ELSE 0 END"
    assert rows(nights, f"{fits} FROM magfit_solution") == [(7, 0, 1, 0)]
    # Fits of nights are what the next reference is averaged from: it has their terms, and none are tried.
    nights.archive.references.new(1, "three nights instead of two")
    nights.work()
    assert (last(nights)["fit_order"], last(nights)["fit_terms"]) == (2, "colour")
    assert nights.archive.references.terms(int(str(last(nights)["reference_id"]))).empty
    nights.archive.references.new(1, "from another frame", frame=nights.frames_of(nights.nights()[1])[0])
    nights.work()
    assert len(nights.archive.references.terms(int(str(last(nights)["reference_id"])))) == 17


def test_a_camera_that_does_nothing_gets_few_terms(archive_url: str, tmp_path: Path) -> None:
    plan = replace(PLAN, night_scatter=0.0)
    few = made(archive_url, tmp_path, plan)
    # Second-order extinction is there still: a colour term that grows with the airmass.
    assert last(few)["fit_order"] == 0 and set(str(last(few)["fit_terms"]).split()) <= {"colour", "airmass_colour"}
    chosen = held_out(few)
    few.archive.close()
    (tmp_path / "given").mkdir()
    given = made(f"sqlite:///{tmp_path / 'given.db'}", tmp_path / "given", plan, '[magnitude_fit]\norder = 2\nterms = ["colour"]\n')
    assert chosen <= 1.02 * held_out(given)
    given.close()


@pytest.mark.parametrize(
    ("words", "order", "terms", "n_tried"),
    [
        ('order = 1\nterms = ["mag", "background"]', 1, "mag background", 0),
        ("order = 3\nterms = []", 3, "", 0),
        ("order = 1", 1, "colour", 13),
        ('terms = ["airmass_colour"]', 2, "airmass_colour", 5),
    ],
)
def test_what_a_person_says_counts_for_more(tmp_path: Path, words: str, order: int, terms: str, n_tried: int) -> None:
    given = made(f"sqlite:///{tmp_path / 'a.db'}", tmp_path, words=f"[magnitude_fit]\n{words}\n")
    reference = last(given)
    assert (reference["fit_order"], reference["fit_terms"]) == (order, terms)
    assert len(given.archive.references.terms(int(str(reference["reference_id"])))) == n_tried
    n_term = (order + 1) * (order + 2) // 2 + len(terms.split())
    assert rows(given, "SELECT DISTINCT n_term FROM magfit_solution") == [(n_term,)]
    given.close()


def test_a_choice_and_names_contradict_each_other(tmp_path: Path) -> None:
    config = tmp_path / "terms.toml"
    config.write_text('[magnitude_fit]\nterms = ["auto", "colour"]\n')
    with pytest.raises(ConfigurationError, match="beside names of terms"):
        read_configuration(config)


def test_the_choice_is_the_same_at_each_call(nights: ManyNights) -> None:
    before = nights.archive.references.terms(int(str(last(nights)["reference_id"])))
    first = int(str(last(nights)["first_frame"]))
    nights.archive.references.new(1, "once more", frame=first)
    nights.work()
    after = nights.archive.references.terms(int(str(last(nights)["reference_id"])))
    assert after.equals(before)
