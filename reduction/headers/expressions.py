"""Arithmetic over header keywords, as instrument definitions write it: ``206.265 * XPIXSZ / FOCALLEN``.

Nothing but numbers, keywords, ``+ - * / **``, parentheses and the functions
min, max, sqrt and abs; a keyword that is no Python name stands in braces, as
in ``{CCD-TEMP} - 273.15``. It is read with `ast` and never handed to Python.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

__all__ = ["check_expression", "evaluate"]

_OPERATORS: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_SIGNS: dict[type[ast.AST], Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: dict[str, Callable[..., float]] = {"min": min, "max": max, "sqrt": math.sqrt, "abs": abs}
_ONE_ARGUMENT = ("sqrt", "abs")
_BRACES = re.compile(r"\{\s*([A-Za-z0-9_-]{1,8})\s*\}")
_LONGEST = 200


@lru_cache(maxsize=256)
def _parsed(text: str) -> tuple[ast.expr, dict[str, str]]:
    """Syntax tree of an expression, and which keyword each of its names is."""
    if len(text) > _LONGEST:
        raise ValueError(f"longer than {_LONGEST} characters")
    names: dict[str, str] = {}

    def placeholder(found: re.Match[str]) -> str:
        name = f"_{len(names)}_"
        names[name] = found.group(1).upper()
        return name

    plain = _BRACES.sub(placeholder, text).strip()
    try:
        tree = ast.parse(plain, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"not arithmetic ({error.msg})") from error
    _check(tree, names)
    return tree, names


def _check(node: ast.expr, names: dict[str, str]) -> None:
    """Walk the tree; refuse what is not arithmetic, and collect its names."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        return
    if isinstance(node, ast.Name):
        names.setdefault(node.id, node.id.upper())
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        _check(node.left, names)
        _check(node.right, names)
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _SIGNS:
        _check(node.operand, names)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS and not node.keywords:
        few = len(node.args) != 1 if node.func.id in _ONE_ARGUMENT else len(node.args) < 2
        if few:
            raise ValueError(f"{node.func.id}() takes {'one value' if node.func.id in _ONE_ARGUMENT else 'two values or more'}")
        for argument in node.args:
            _check(argument, names)
    else:
        raise ValueError(f"'{ast.unparse(node)}' is not allowed in it")


def check_expression(text: str) -> None:
    """Refuse what is no expression.

    Raises
    ------
    ValueError
        It is not arithmetic, or uses what is not allowed; the message says which part.
    """
    _parsed(text)


def evaluate(text: str, value_of: Callable[[str], float | None]) -> float | None:
    """Work out an expression.

    Parameters
    ----------
    text : str
        Expression.
    value_of : callable
        Number of a keyword, None when it has none.

    Returns
    -------
    float or None
        None when a keyword has no number, and when there is no finite real result (a division by zero, the root of a
        negative number).
    """
    tree, names = _parsed(text)
    values: dict[str, float] = {}
    for name, keyword in names.items():
        value = value_of(keyword)
        if value is None:
            return None
        values[name] = value
    try:
        result = _value(tree, values)
    except (ZeroDivisionError, OverflowError, ValueError, TypeError):
        # TypeError: a negative number to a broken power is complex, which no function takes.
        return None
    return result if isinstance(result, float) and math.isfinite(result) else None


def _value(node: ast.expr, values: dict[str, float]) -> Any:
    """Value of a tree: a float, or complex for a broken power of a negative number."""
    if isinstance(node, ast.Constant):
        # Floats throughout: the power of two large integers would not end.
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_value(node.left, values), _value(node.right, values))
    if isinstance(node, ast.UnaryOp):
        return _SIGNS[type(node.op)](_value(node.operand, values))
    assert isinstance(node, ast.Call)
    return _FUNCTIONS[ast.unparse(node.func)](*(_value(argument, values) for argument in node.args))
