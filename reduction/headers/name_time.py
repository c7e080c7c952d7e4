"""Times in the names of files, for pictures whose headers have none: ``Jup_20240308_210405.png``."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

__all__ = ["time_in_name", "time_pattern"]

_DIGITS = {
    "Y": r"\d{4}",
    "m": r"\d{2}",
    "d": r"\d{2}",
    "H": r"\d{2}",
    "M": r"\d{2}",
    "S": r"\d{2}",
    "f": r"\d{1,9}",
    "z": r"[+-]\d{2}:?\d{2}|Z",
}
_NEEDED = ("Y", "m", "d", "H", "M")


@lru_cache(maxsize=64)
def time_pattern(pattern: str) -> re.Pattern[str]:
    """Expression that finds a time in a name.

    Parameters
    ----------
    pattern : str
        Text with ``%Y``, ``%m``, ``%d``, ``%H``, ``%M`` and perhaps ``%S``, ``%f`` (digits behind the seconds) and ``%z`` (offset
        from UTC), each once, as of `datetime.datetime.strptime`; ``%%`` is a percent sign.

    Raises
    ------
    ValueError
        The pattern has another sign, one of these twice, or no date and time down to the minute; the message says which.
    """
    pieces = re.split(r"%(.?)", pattern)
    signs = [sign for sign in pieces[1::2] if sign != "%"]
    for sign in signs:
        if sign not in _DIGITS or signs.count(sign) > 1:
            raise ValueError(f"%{sign} {'twice' if sign in _DIGITS else 'is not known'}")
    absent = [f"%{sign}" for sign in (*_NEEDED, *("S" if "f" in signs else "")) if sign not in signs]
    if absent:
        raise ValueError(f"{', '.join(absent)} missing")
    found = [re.escape(pieces[0])]
    for sign, text in zip(pieces[1::2], pieces[2::2], strict=True):
        found.append("%" if sign == "%" else f"(?P<{sign}>{_DIGITS[sign]})")
        found.append(re.escape(text))
    # Digits beside its own would belong to a longer number; beside a letter or a line they belong to something else.
    return re.compile(rf"(?:(?<!\d)|(?=\D)){''.join(found)}(?:(?!\d)|(?<=\D))")


def time_in_name(path: str | Path, pattern: str) -> str | None:
    """ISO date and time, with the digits that stand in the name of a file; None where the pattern does not fit.

    Raises
    ------
    ValueError
        As `time_pattern`.
    """
    found = time_pattern(pattern).search(Path(path).name)
    if found is None:
        return None
    part = {"S": None, "f": None, "z": None, **found.groupdict()}
    seconds = f":{part['S']}" if part["S"] is not None else ""
    fraction = f".{part['f']}" if part["f"] is not None else ""
    return f"{part['Y']}-{part['m']}-{part['d']}T{part['H']}:{part['M']}{seconds}{fraction}{part['z'] or ''}"
