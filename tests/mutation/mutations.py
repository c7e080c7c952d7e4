"""Every small change that can be made to a module: what a test that bites must notice.

Changes are found in the syntax tree and made in the text, so that all else of a file stays as it is. Docstrings, annotations, decorators,
imports, `__all__` and what is raised are left alone: no test should depend on them.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Mutation", "mutations"]

COMPARISONS = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}
SIGNS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
SWAPPED = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "nanmin": "nanmax", "nanmax": "nanmin"}
SQL = (
    (re.compile(r"(?<![<>=!|])<(?![<>=])"), "<="),
    (re.compile(r"<="), "<"),
    (re.compile(r"(?<![<>=!-])>(?![<>=])"), ">="),
    (re.compile(r">="), ">"),
    (re.compile(r"\bAND\b"), "OR"),
    (re.compile(r"\bOR\b"), "AND"),
    (re.compile(r"\bsum(?=\()", re.IGNORECASE), "max"),
    (re.compile(r"\bmin(?=\()", re.IGNORECASE), "max"),
    (re.compile(r"\bmax(?=\()", re.IGNORECASE), "min"),
)
STATEMENT = re.compile(r"\b(SELECT|WHERE|JOIN|FROM|CASE|AND|OR|BETWEEN)\b")


@dataclass(frozen=True)
class Mutation:
    """One change: the bytes of the file from `start` to `end` become `after`."""

    line: int
    kind: str
    start: int
    end: int
    before: str
    after: str

    def apply(self, source: str) -> str:
        """The changed text of the module."""
        data = source.encode()
        return (data[: self.start] + self.after.encode() + data[self.end :]).decode()


class _Text:
    """A module's text, and where in its bytes the places of a syntax tree are."""

    def __init__(self, source: str) -> None:
        self.data = source.encode()
        self.lines = [0]
        for line in self.data.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))

    def start(self, node: ast.AST) -> int:
        return self.lines[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]

    def end(self, node: ast.AST) -> int:
        return self.lines[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]

    def change(self, kind: str, start: int, end: int, after: str) -> Mutation:
        line = self.data.count(b"\n", 0, start) + 1
        return Mutation(line, kind, start, end, self.data[start:end].decode(), after)

    def node(self, kind: str, node: ast.AST, after: str) -> Mutation:
        return self.change(kind, self.start(node), self.end(node), after)

    def between(self, kind: str, first: ast.AST, second: ast.AST, sign: str, after: str) -> Iterator[Mutation]:
        """A sign that stands between two nodes; comments there are no place for one."""
        start, end = self.end(first), self.start(second)
        gap = self.data[start:end].decode()
        if gap.count(sign) == 1 and "#" not in gap:
            place = start + len(gap[: gap.index(sign)].encode())
            yield self.change(kind, place, place + len(sign), after)


def mutations(source: str, *, sql: bool = False) -> list[Mutation]:
    """Every mutation of a module's text, in the order of the text.

    Parameters
    ----------
    source : str
        The module.
    sql : bool
        Whether its string constants are SQL, to be changed too.
    """
    text, tree = _Text(source), ast.parse(source)
    found = [mutation for node in _nodes(tree) for rule in RULES for mutation in rule(text, node)]
    if sql:
        found += list(_in_sql(text, source, tree))
    return sorted(set(found), key=lambda mutation: (mutation.start, mutation.end, mutation.after))


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that may be changed: all but the parts that no test should depend on."""
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "type_params"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.Raise | ast.Import | ast.ImportFrom) and not _names_only(child):
                yield child
                yield from _nodes(child)


def _names_only(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)


def _comparisons(text: _Text, node: ast.AST) -> Iterator[Mutation]:
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        for k, operator in enumerate(node.ops):
            if type(operator) in COMPARISONS:
                yield from text.between("comparison", sides[k], sides[k + 1], SIGNS[type(operator)], COMPARISONS[type(operator)])


def _sums(text: _Text, node: ast.AST) -> Iterator[Mutation]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub) and not _is_text(node):
        sign, after = ("+", "-") if isinstance(node.op, ast.Add) else ("-", "+")
        yield from text.between("sum", node.left, node.right, sign, after)


def _is_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str | bytes))
        for side in (node.left, node.right)
    )


def _constants(text: _Text, node: ast.AST) -> Iterator[Mutation]:
    if not isinstance(node, ast.Constant):
        return
    if isinstance(node.value, bool):
        yield text.node("truth", node, str(not node.value))
    elif isinstance(node.value, int):
        yield text.node("constant", node, str(node.value + 1))
    elif isinstance(node.value, float):
        yield text.node("constant", node, repr(node.value * 1.1 if node.value else 1.0))


def _logic(text: _Text, node: ast.AST) -> Iterator[Mutation]:
    if isinstance(node, ast.BoolOp):
        sign, after = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for first, second in zip(node.values, node.values[1:], strict=False):
            yield from text.between("logic", first, second, sign, after)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert):
        # Only the word or the sign: a bracket may stand between it and what it turns round.
        yield text.change("not", text.start(node), text.start(node) + (3 if isinstance(node.op, ast.Not) else 1), "")
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr):
        sign, after = ("&", "|") if isinstance(node.op, ast.BitAnd) else ("|", "&")
        yield from text.between("logic", node.left, node.right, sign, after)


def _extremes(text: _Text, node: ast.AST) -> Iterator[Mutation]:
    if not isinstance(node, ast.Call):
        return
    name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""
    if name in SWAPPED:
        end = text.end(node.func)
        yield text.change("extreme", end - len(name), end, SWAPPED[name])


def _dropped(text: _Text, node: ast.AST) -> Iterator[Mutation]:
    if isinstance(node, ast.AugAssign):
        yield text.node("dropped", node, "pass")


def _slices(text: _Text, node: ast.AST) -> Iterator[Mutation]:
    """Ends of slices; ends that are plain numbers are constants already."""
    if isinstance(node, ast.Slice):
        for edge in (node.lower, node.upper):
            if edge is not None and not isinstance(edge, ast.Constant):
                before = text.data[text.start(edge) : text.end(edge)].decode()
                yield text.node("slice", edge, f"({before}) + 1")


RULES: tuple[Callable[[_Text, ast.AST], Iterator[Mutation]], ...] = (
    _comparisons, _sums, _constants, _logic, _extremes, _dropped, _slices,
)  # fmt: skip


def _in_sql(text: _Text, source: str, tree: ast.AST) -> Iterator[Mutation]:
    """Signs, words and sums in the SQL of a module's strings; what stands in braces of an f-string is Python."""
    described = {
        node.body[0].lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
    }
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.STRING or token.start[0] in described or not STATEMENT.search(token.string):
            continue
        row, column = token.start
        line = source.splitlines()[row - 1]
        place = text.lines[row - 1] + len(line[:column].encode())
        plain = re.sub(r"\{[^{}]*\}", lambda part: "_" * len(part.group()), token.string)
        for pattern, after in SQL:
            for match in pattern.finditer(plain):
                start = place + len(token.string[: match.start()].encode())
                yield text.change("sql", start, start + len(match.group().encode()), after)
