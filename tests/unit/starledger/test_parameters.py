"""Ranges of parameters: every one of every step refuses what lies just outside, takes what lies on the limit, and its default is inside."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest

from db.errors import ConfigurationError
from reduction.pipeline.order import STEPS
from reduction.pipeline.parameters import Bounds, parameter, range_text, read_parameters

#: What has to go with a value for the two not to contradict each other.
TOGETHER = {
    ("large_scale_flat", "block"): {"smooth": 4096.0},
    ("large_scale_flat", "smooth"): {"block": 4},
    ("background", "min_radius"): {"max_radius": 100.0},
    ("background", "max_radius"): {"min_radius": 0.0},
}


def everything() -> list[tuple[str, str]]:
    return [(step.name, field.name) for step in STEPS.values() for field in dataclasses.fields(step.parameters)]


EVERYTHING = everything()


def field_of(step: str, name: str) -> dataclasses.Field[Any]:
    return {field.name: field for field in dataclasses.fields(STEPS[step].parameters)}[name]


def kind_of(step: str, name: str) -> tuple[type, bool]:
    """The type of a parameter, or of the elements of a tuple, and whether it is one."""
    hint = get_type_hints(STEPS[step].parameters)[name]
    return (get_args(hint)[0], True) if get_args(hint) else (hint, False)


def step_away(limit: float, kind: type, sign: int) -> Any:
    """The value of this type that is next to a limit."""
    return int(limit) + sign if kind is int else math.nextafter(float(limit), sign * math.inf)


def limits(step: str, name: str) -> Iterator[tuple[Any, bool]]:
    """Values on each limit and next to it, and whether each is allowed."""
    bounds: Bounds = field_of(step, name).metadata["bounds"]
    kind, _ = kind_of(step, name)
    for limit, sign, closed in (
        (bounds.least, -1, True),
        (bounds.above, -1, False),
        (bounds.most, +1, True),
        (bounds.below, +1, False),
    ):
        if limit is not None:
            yield kind(limit), closed
            yield (step_away(limit, kind, sign), False) if closed else (step_away(limit, kind, -sign), True)


def read(step: str, **values: Any) -> Any:
    return read_parameters(STEPS[step].parameters, values, f"roof.toml [{step}]")


def refused(step: str, **values: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(step, **values)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return f"{caught.value.code}: {caught.value}"


@pytest.mark.parametrize(("step", "name"), EVERYTHING)
def test_every_number_has_two_limits_and_every_text_says_what_it_may_be(step: str, name: str) -> None:
    bounds: Bounds = field_of(step, name).metadata["bounds"]
    kind, several = kind_of(step, name)
    if kind in (int, float):
        assert (bounds.least is None) != (bounds.above is None)
        assert (bounds.most is None) != (bounds.below is None)
    if kind is str:
        assert bounds.choices or bounds.length
    if several:
        assert bounds.length or bounds.choices
    assert range_text(field_of(step, name), getattr(STEPS[step].parameters(), name))


@pytest.mark.parametrize(("step", "name"), EVERYTHING)
def test_limits_are_kept(step: str, name: str) -> None:
    _, several = kind_of(step, name)
    others = TOGETHER.get((step, name), {})
    for value, allowed in limits(step, name):
        given = [value] if several else value
        if step == "calibrate" and name == "cosmic" and allowed and 0 < value < 2:
            continue  # a gap of its own, below
        if allowed:
            found = getattr(read(step, **{name: given}, **others), name)
            assert found == ((value,) if several else value)
        else:
            message = refused(step, **{name: given}, **others)
            text = range_text(field_of(step, name), getattr(STEPS[step].parameters(), name))
            assert message.startswith(f"config.range: roof.toml [{step}]: {name} = {given!r} is out of range; allowed is {text}")


@pytest.mark.parametrize(("step", "name"), EVERYTHING)
def test_the_default_is_allowed(step: str, name: str) -> None:
    default = getattr(STEPS[step].parameters(), name)
    assert getattr(read(step, **{name: default}), name) == default
    assert field_of(step, name).metadata["bounds"].admit(default)


@pytest.mark.parametrize("step", STEPS)
def test_the_defaults_do_not_contradict_each_other(step: str) -> None:
    kind = STEPS[step].parameters
    assert read(step, **dataclasses.asdict(kind())) == kind()


@pytest.mark.parametrize(("step", "name"), EVERYTHING)
def test_what_is_no_number_is_never_one(step: str, name: str) -> None:
    kind, several = kind_of(step, name)
    wrong: list[Any] = {
        float: [True, math.nan, math.inf, -math.inf, 10**400, "3"],
        int: [True, 3.0, "3"],
        str: [7],  # 1 may be meant where a number is one of the words
        bool: [1, 0.0, "true"],
    }[kind]
    for value in wrong:
        message = refused(step, **{name: [value] if several else value})
        assert message.startswith(("config.range: ", "config.value: ")) and name in message
    if several:
        refused(step, **{name: 3.0})


@pytest.mark.parametrize(
    ("step", "values", "what"),
    [
        ("background", {"box": 0}, r"box = 0 is out of range; allowed is 4 to 4096 pixel; .* default 32"),
        ("background", {"min_radius": 13.0}, r"min_radius = 13 is more than max_radius = 12; lower the one or raise the other"),
        ("background", {"min_radius": 3.0, "max_radius": 2.0}, r"min_radius = 3 is more than max_radius = 2"),
        ("large_scale_flat", {"block": 32}, r"block = 32 is more than smooth = 24"),
        ("calibrate", {"cosmic": 1.5}, r"cosmic = 1.5 would mark noise; allowed is 0 or 2 to 1000 sigma"),
        ("slots", {"factors": []}, r"neither factors nor radii; give one of them"),
        ("slots", {"radii": [3.0] * 8}, r"allowed is each 0.25 to 500, 0 to 7 of them"),
        ("slots", {"radii": [3.0, 0.0]}, r"radii = \[3.0, 0.0\] is out of range"),
        ("magnitude_fit", {"order": 9}, r"order = '9' is out of range; allowed is one of: auto, 0, 1, 2, 3, 4"),
        ("magnitude_fit", {"terms": ["color"]}, r"terms = \['color'\] is out of range; allowed is each one of: auto, colour, .*airmass"),
        ("magnitude_fit", {"terms": ["colour", "colour"]}, r"none twice"),
        ("fetch", {"catalogues": ["gaya"]}, r"one of: gaia, tycho2"),
        ("fetch", {"sky": ["31 46"]}, r"no circle on the sky: '31 46'; write \"ra dec radius\" in degrees"),
        ("fetch", {"sky": ["31 nan 1"]}, r"no circle on the sky"),
        ("fetch", {"services": ["gaia"]}, r"no address of a service: 'gaia'; write"),
        ("fetch", {"services": ["gaya=https://here/tap"]}, r"for one of gaia, tycho2"),
        ("solve", {"index_folder": ""}, r"index_folder = '' is out of range; allowed is 1 to 4096 characters"),
    ],
)
def test_what_is_refused_says_what_is_allowed(step: str, values: dict[str, Any], what: str) -> None:
    message = refused(step, **values)
    assert message.startswith("config.range: ") and re.search(what, message), message


@pytest.mark.parametrize(
    ("step", "values"),
    [
        ("calibrate", {"cosmic": 0.0}),
        ("calibrate", {"cosmic": 2}),
        ("background", {"min_radius": 12.0}),
        ("slots", {"factors": [], "radii": [3, 4.5]}),
        ("detector", {"linearity": []}),
        ("magnitude_fit", {"terms": []}),
        ("fetch", {"sky": ["31.04 46.69 1.5"], "services": ["gaia=http://localhost:1/tap"]}),
    ],
)
def test_what_is_allowed(step: str, values: dict[str, Any]) -> None:
    read(step, **values)


def test_ranges_in_words() -> None:
    assert Bounds(least=0, most=1).text() == "0 to 1"
    assert Bounds(above=0, most=0.5).text() == "above 0, at most 0.5"
    assert Bounds(least=2, below=3).text() == "at least 2, below 3"
    assert Bounds(least=2).text() == "2 or more"
    assert Bounds(choices=("a", "b"), distinct=True).text(several=True) == "each one of: a, b, none twice"
    assert Bounds().text() == ""


def test_a_parameter_without_limits_takes_every_finite_number() -> None:
    @dataclasses.dataclass(frozen=True)
    class Free:
        """One number."""

        value: float = parameter(0.0, "", "a number")

    assert Free(value=1e300) == dataclasses.replace(read_parameters(Free, {"value": 1e300}, "here"))
    with pytest.raises(ConfigurationError, match="any finite number"):
        read_parameters(Free, {"value": math.nan}, "here")
