"""What SIMBAD, VSX and the NASA Exoplanet Archive answer to a name: from their tables to a position and an ephemeris in BJD_TDB."""

from __future__ import annotations

import math
import re
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import Row, Table

from reduction.frames.kernels.heliocentric import hjd_to_bjd_tdb, utc_to_tdb

__all__ = ["Answer", "planet_answer", "separation", "simbad_answer", "to_bjd_tdb", "vsx_answer"]

_VSX_DOUBTS = {1: "suspected only", 2: "constant or not existing", 3: "perhaps a duplicate"}
_VSX_REFERENCE = "2006SASS...25...47W"


@dataclass(frozen=True)
class Answer:
    """What a service knows.

    Attributes
    ----------
    name : str
        As the service writes it.
    ra, dec : degree, ICRS
    text : str
        All that it says, on one line, for people.
    reference : str
        Of SIMBAD the bibcode of the position, else the reference of the ephemeris; empty where none is given.
    epoch : BJD_TDB or None
    period, duration : day or None
    host : str
        The star of a planet; empty for others.
    """

    name: str
    ra: float
    dec: float
    text: str
    reference: str = ""
    epoch: float | None = None
    period: float | None = None
    duration: float | None = None
    host: str = ""


def separation(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Arcsec between two places (RA and Dec in degrees)."""
    (a, d), (b, e) = np.radians(one), np.radians(other)
    half = math.sin((d - e) / 2) ** 2 + math.cos(d) * math.cos(e) * math.sin((a - b) / 2) ** 2
    return math.degrees(2 * math.asin(math.sqrt(min(1.0, half)))) * 3600


def to_bjd_tdb(time: float, system: str, ra: float, dec: float) -> tuple[float, str]:
    """A time in any of the systems that ephemerides are given in, as BJD_TDB.

    Parameters
    ----------
    time : float
        Day.
    system : str
        Such as "BJD-TDB", "BJD", "HJD-UTC"; may be empty.
    ra, dec : float
        Degree, ICRS.

    Returns
    -------
    (float, str)
        Day, and a remark where something had to be converted or assumed; else empty.
    """
    words = re.split(r"[^A-Z]+", system.upper())
    uniform = "TDB" in words or "TT" in words
    if "HJD" in words:
        utc = time - (utc_to_tdb(time) - time) if uniform else time
        return hjd_to_bjd_tdb(utc, ra, dec), f"from {system}"
    if "BJD" in words and "UTC" in words:
        return utc_to_tdb(time), f"from {system}"
    if "BJD" in words:
        return time, "" if uniform else "time scale not given, TDB assumed: 69 s off if it is UTC"
    return time, f"{system or 'time system not given'}, BJD_TDB assumed: up to 10 min off if it is not"


def simbad_answer(table: Table) -> Answer | None:
    """From rows main_id, ra, dec (deg), otype, coo_bibcode; None without a row that has a position.

    Raises
    ------
    ValueError
        For a table that cannot be what was asked for.
    """
    _require(table, ("main_id", "ra", "dec", "otype", "coo_bibcode"))
    if len(table) == 0 or _number(table[0], "ra") is None:
        return None
    row = table[0]
    ra, dec = _place(row, "ra", "dec")
    name, kind, reference = _text(row, "main_id"), _text(row, "otype"), _text(row, "coo_bibcode")
    parts = [name, f"type {kind}" if kind else "", f"{ra:.5f} {dec:+.5f}", reference]
    return Answer(name, ra, dec, ", ".join(filter(None, parts)), reference)


def vsx_answer(table: Table, place: tuple[float, float] | None) -> Answer | None:
    """From rows of B/vsx/vsx, the nearest to a place (deg) where there is one; None without rows.

    VSX has epochs in HJD, of the maximum, or of the primary minimum of an eclipsing star. A period that is only a limit, or of a
    star that is constant, is none.

    Raises
    ------
    ValueError
        For a table that cannot be what was asked for.
    """
    _require(table, ("Name", "V", "RAJ2000", "DEJ2000", "Type", "max", "f_min", "min", "Epoch", "l_Period", "Period"))
    rows = [(row, _place(row, "RAJ2000", "DEJ2000")) for row in table]
    if not rows:
        return None
    row, (ra, dec) = rows[0] if place is None else min(rows, key=lambda one: separation(place, one[1]))
    name, kind, doubt = _text(row, "Name"), _text(row, "Type"), _VSX_DOUBTS.get(int(_number(row, "V") or 0), "")
    period, hjd, limit = _number(row, "Period"), _number(row, "Epoch"), _text(row, "l_Period")
    used = not limit and "constant" not in doubt
    epoch = to_bjd_tdb(hjd, "HJD", ra, dec)[0] if hjd is not None and hjd > 2.0e6 else None
    parts = [name, f"type {kind}" if kind else "", doubt, f"{ra:.5f} {dec:+.5f}", _brightness(row)]
    parts += [f"period {limit}{period:.10g}{_text(row, 'u_Period')} d" if period else ""]
    parts += [f"epoch{_text(row, 'u_Epoch')} HJD {hjd:.12g} = BJD_TDB {epoch:.5f}" if epoch else ""]
    parts += ["ephemeris not used" if period and not used else ""]
    if not used or not period:
        period = epoch = None
    return Answer(name, ra, dec, ", ".join(filter(None, parts)), _VSX_REFERENCE, epoch, period or None)


def planet_answer(table: Table, name: str) -> Answer | None:
    """From rows of the table ps, one per reference; None without rows.

    Epoch and period are of one reference: the archive's default where it has both, else the newest that has. What that one lacks of
    duration and depth is taken from the next. A star with several planets has no ephemeris of its own.

    Parameters
    ----------
    table : Table
        Of one planet, or of all planets of a star.
    name : str
        What was asked for, as the archive writes it.

    Raises
    ------
    ValueError
        For a table that cannot be what was asked for.
    """
    _require(table, ("pl_name", "hostname", "ra", "dec", "pl_orbper", "pl_tranmid", "pl_tsystemref", "pl_refname"))
    rows = sorted(table, key=_rank, reverse=True)
    own = [row for row in rows if _text(row, "pl_name").lower() == name.lower()]
    rows = own or rows
    if not rows:
        return None
    (ra, dec), host = _place(rows[0], "ra", "dec"), _text(rows[0], "hostname")
    planets = sorted({_text(row, "pl_name") for row in rows})
    if len(planets) > 1:
        text = f"{host}, {ra:.5f} {dec:+.5f}, star of {len(planets)} planets: {', '.join(planets)}; name one for its ephemeris"
        return Answer(host, ra, dec, text, host=host)
    best = rows[0]
    period, time, reference = _number(best, "pl_orbper"), _number(best, "pl_tranmid"), _reference(_text(best, "pl_refname"))
    hours, depth = _first(rows, "pl_trandur"), _first(rows, "pl_trandep")
    parts = [planets[0], f"{ra:.5f} {dec:+.5f}", "" if period is None else f"period {period:.10g} d"]
    epoch = None
    if time is not None:
        epoch, remark = to_bjd_tdb(time, _text(best, "pl_tsystemref"), ra, dec)
        parts.append(f"mid-transit BJD_TDB {epoch:.5f}" + (f" ({remark})" if remark else ""))
    parts += ["" if hours is None else f"duration {hours:.4g} h", "" if depth is None else f"depth {depth:.4g} %", reference]
    duration = None if hours is None else hours / 24.0
    return Answer(planets[0], ra, dec, ", ".join(filter(None, parts)), reference, epoch, period, duration, host)


def _rank(row: Row) -> tuple[bool, float, str]:
    whole = _number(row, "pl_orbper") is not None and _number(row, "pl_tranmid") is not None
    return whole, _number(row, "default_flag") or 0.0, _text(row, "pl_pubdate")


def _first(rows: Iterable[Row], name: str) -> float | None:
    return next((value for row in rows if (value := _number(row, name)) is not None), None)


def _reference(text: str) -> str:
    """Authors and bibcode of an archive's reference, which is a link to ADS."""
    authors = " ".join(re.sub(r"<[^>]*>", " ", text).split())
    found = re.search(r"/abs/([^/\s>]+)", text)
    return f"{authors} ({urllib.parse.unquote(found[1])})" if found else authors


def _brightness(row: Row) -> str:
    """How bright a variable is at its extremes, or by how much it changes."""
    high, low, band = _number(row, "max"), _number(row, "min"), _text(row, "n_max")
    if high is None:
        return ""
    if low is None:
        return f"{high:g} {band}".strip()
    if _text(row, "f_min") == "(":
        return f"{high:g} {band}, amplitude {low:g} {_text(row, 'n_min')}".strip()
    return f"{high:g} to {low:g} {band}, amplitude {low - high:.3g}"


def _require(table: Table, names: Iterable[str]) -> None:
    missing = [name for name in names if name not in table.colnames]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}")


def _value(row: Row, name: str) -> Any:
    value = row[name] if name in row.colnames else None
    return None if value is None or np.ma.is_masked(value) else value


def _text(row: Row, name: str) -> str:
    value = _value(row, name)
    text = value.decode() if isinstance(value, bytes) else "" if value is None else str(value)
    return " ".join(text.split())


def _number(row: Row, name: str) -> float | None:
    value = _value(row, name)
    if value is None or value == "":
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _place(row: Row, ra: str, dec: str) -> tuple[float, float]:
    a, d = _number(row, ra), _number(row, dec)
    if a is None or d is None or not (0.0 <= a <= 360.0 and abs(d) <= 90.0):
        raise ValueError(f"no place on the sky: {a} {d}")
    return a, d
