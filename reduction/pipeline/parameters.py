"""Parameters of steps: declared with their unit, their help and the range that is allowed; read from a configuration's sections.

A value that no step could work with is refused here, before any work begins, and not where a kernel stumbles over it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin, get_type_hints

from db.errors import ConfigurationError

__all__ = ["Bounds", "parameter", "range_text", "read_parameters"]


@dataclass(frozen=True)
class Bounds:
    """The values that a parameter may have; of a tuple, those that each element may have. NaN and infinity never are.

    Attributes
    ----------
    least, most : float or None
        Least and largest value allowed.
    above, below : float or None
        Limits that are not allowed themselves.
    choices : tuple of str
        The texts allowed; any when empty.
    length : tuple of int, or None
        Least and largest number of elements, or of characters of a text.
    distinct : bool
        No element twice.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    length: tuple[int, int] | None = None
    distinct: bool = False

    def admit(self, value: Any) -> bool:
        """Whether a value, of the right type, is one of these."""
        if isinstance(value, (tuple, str)) and self.length is not None and not self.length[0] <= len(value) <= self.length[1]:
            return False
        if isinstance(value, tuple):
            return all(self._admit_one(item) for item in value) and not (self.distinct and len(set(value)) < len(value))
        return self._admit_one(value)

    def _admit_one(self, value: Any) -> bool:
        if isinstance(value, str):
            return not self.choices or value in self.choices
        if isinstance(value, bool):
            return True
        if isinstance(value, float) and not math.isfinite(value):
            return False
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def text(self, *, several: bool = False) -> str:
        """The range in words: "1 to 4096", "above 0, at most 1", "one of: a, b"; "" where every value is allowed.

        Parameters
        ----------
        several : bool
            It is the range of a tuple.
        """
        values = f"one of: {', '.join(self.choices)}" if self.choices else self._numbers()
        parts = [f"each {values}" if several and values else values]
        if self.length is not None:
            parts.append(f"{self.length[0]} to {self.length[1]} of them" if several else f"{self.length[0]} to {self.length[1]} characters")
        if self.distinct:
            parts.append("none twice")
        return ", ".join(part for part in parts if part)

    def _numbers(self) -> str:
        if self.least is not None and self.most is not None:
            return f"{self.least:.12g} to {self.most:.12g}"
        parts = []
        if self.least is not None:
            parts.append(f"{self.least:.12g} or more" if self.below is None else f"at least {self.least:.12g}")
        if self.above is not None:
            parts.append(f"above {self.above:.12g}")
        if self.most is not None:
            parts.append(f"at most {self.most:.12g}")
        if self.below is not None:
            parts.append(f"below {self.below:.12g}")
        return ", ".join(parts)


def parameter(
    default: Any,
    unit: str,
    help: str,  # noqa: A002
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
    length: tuple[int, int] | None = None,
    distinct: bool = False,
) -> Any:
    """A field of a parameters dataclass: default, unit ("" for none), one line of help, and what is allowed (see `Bounds`)."""
    bounds = Bounds(least, above, most, below, choices, length, distinct)
    metadata = {"unit": unit, "help": help, "bounds": bounds}
    if isinstance(default, (list, tuple)):
        return field(default_factory=lambda: tuple(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def range_text(parameter: dataclasses.Field[Any], default: Any) -> str:
    """The range of a field of a parameters dataclass, in words."""
    bounds: Bounds = parameter.metadata["bounds"]
    return "true or false" if isinstance(default, bool) else bounds.text(several=isinstance(default, tuple))


def read_parameters(kind: type[Any], given: Mapping[str, Any], where: str) -> Any:
    """An instance of the parameters dataclass `kind` from a section of the configuration.

    Where `kind` has a method `check`, it is asked last: it returns None, or what contradicts what, and what to do.

    Raises
    ------
    ConfigurationError
        Naming the key that does not exist (``config.key``), the value of the wrong type (``config.value``) or out of range, or the two
        values that contradict each other (``config.range``).
    """
    known = {f.name: f for f in dataclasses.fields(kind)}
    defaults = kind()
    values = {}
    for name, value in given.items():
        if name not in known:
            raise ConfigurationError(f"no parameter {name!r}", where=where, hint=f"known are: {', '.join(known)}", code="config.key")
        values[name] = _cast(_chosen(value, known[name]), defaults, name, where)
        _require_in_range(known[name], values[name], getattr(defaults, name), where)
    made = kind(**values)
    contradiction = made.check() if hasattr(made, "check") else None
    if contradiction is not None:
        message, hint = contradiction
        raise ConfigurationError(message, where=where, hint=hint, code="config.range")
    return made


def _require_in_range(field_: dataclasses.Field[Any], value: Any, default: Any, where: str) -> None:
    if field_.metadata["bounds"].admit(value):
        return
    unit = f" {field_.metadata['unit']}" if field_.metadata["unit"] and not isinstance(default, tuple) else ""
    allowed = range_text(field_, default) or "any finite number"
    raise ConfigurationError(
        f"{field_.name} = {_shown(value)!r} is out of range",
        where=where,
        hint=f"allowed is {allowed}{unit}; change it, or leave it out for the default {_shown(default)!r}",
        code="config.range",
    )


def _shown(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _element_types(kind: type[Any]) -> dict[str, type]:
    """The type of the elements of each tuple among the parameters."""
    hints = get_type_hints(kind)
    return {name: get_args(hint)[0] for name, hint in hints.items() if get_origin(hint) is tuple}


def _chosen(value: Any, field_: dataclasses.Field[Any]) -> Any:
    """An integer as text, where the choices are numbers and words."""
    digits = any(choice.isdigit() for choice in field_.metadata["bounds"].choices)
    return str(value) if digits and type(value) is int else value


def _number(value: Any) -> Any:
    """An integer as a float; one beyond all floats as infinity, which no range admits."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _cast(value: Any, defaults: Any, name: str, where: str) -> Any:
    default = getattr(defaults, name)
    if isinstance(value, list):
        value = tuple(value)
    if isinstance(default, float) and type(value) is int:
        value = _number(value)
    if isinstance(value, tuple) and name in _element_types(type(defaults)):
        element = _element_types(type(defaults))[name]
        value = tuple(_number(v) if element is float and type(v) is int else v for v in value)
        wrong = any(type(v) is not element for v in value)
    else:
        wrong = type(value) is not type(default)
    if wrong:
        raise ConfigurationError(
            f"{name} = {_shown(value)!r} is of the wrong type", where=where, hint=f"the default is {_shown(default)!r}", code="config.value"
        )
    return value
