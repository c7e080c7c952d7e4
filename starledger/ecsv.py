"""Enhanced CSV without astropy, which takes longer to import than a light curve to read: a header in YAML, then rows.

The format is that of Astropy Proposal for Enhancement 6 (Aldcroft 2013), version 1.0, as `astropy.table` reads it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starledger.spreadsheets import row_writer

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ecsv_text"]


def ecsv_text(rows: Mapping[str, NDArray[Any]], columns: Mapping[str, tuple[str, str]], meta: Mapping[str, Any]) -> str:
    """Columns as ECSV; `astropy.table.QTable.read` gives them back with units, descriptions and `meta`.

    Parameters
    ----------
    rows : mapping of str to array, shape (n,)
        Columns by name: integers, floats (NaN is written as nan), or text as Python strings (object).
    columns : mapping of str to (str, str)
        Unit, as astropy reads it or "", and description of each column, in the order in which they are written.
    meta : mapping
        Facts about the whole table: None, bool, numbers, text, and lists and mappings of them.

    Returns
    -------
    str
        The file's content.

    Raises
    ------
    TypeError
        `meta` has a value of another kind.
    """
    head = ["%ECSV 1.0", "---", "datatype:"]
    head += [f"- {_yaml(_declared(name, rows[name], *said))}" for name, said in columns.items()]
    head += ["meta: !!omap", *(f"- {_yaml({name: value})}" for name, value in meta.items())] if meta else []
    stream = io.StringIO()
    stream.writelines(f"# {line}\n" for line in head)
    writer = row_writer(stream, " ")
    writer.writerow(columns)
    writer.writerows(zip(*(rows[name].tolist() for name in columns), strict=True))
    return stream.getvalue()


def _declared(name: str, values: NDArray[Any], unit: str, description: str) -> dict[str, str]:
    datatype = "string" if values.dtype.kind == "O" else values.dtype.name
    return {"name": name, **({"unit": unit} if unit else {}), "datatype": datatype, "description": description}


def _yaml(value: Any) -> str:
    """A value in YAML 1.1, on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_yaml(key)}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(map(_character, value)) + '"'
    if isinstance(value, float):
        return _float(value)
    if value is None or isinstance(value, (bool, int)):
        return "null" if value is None else str(value).lower()
    raise TypeError(f"no YAML for {type(value).__name__}")


def _float(value: float) -> str:
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    mantissa, sign, exponent = repr(float(value)).partition("e")
    # YAML 1.1 takes 1e-05 for text: a float has its point.
    return mantissa + ("" if "." in mantissa else ".0") + sign + exponent


def _character(character: str) -> str:
    if character in '\\"':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"
