"""The table of error codes is complete and exact: an error has a code, the code is in the table with its class, and no other is."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import db.errors
from db.error_codes import ERROR_CODES, error_code
from db.errors import AlgorithmFailed, StarledgerError
from reduction.pipeline.order import STEPS
from starledger.docs import commands

ROOT = Path(__file__).resolve().parents[3]
SOURCES = sorted(path for package in ("db", "reduction", "queries", "starledger") for path in (ROOT / package).rglob("*.py"))
CLASSES = {name: made for name, made in vars(db.errors).items() if isinstance(made, type) and issubclass(made, StarledgerError)}


def codes_of(node: ast.expr) -> list[str]:
    """The codes that an expression can be; [] where it hands on that of another error."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.IfExp):
        return [*codes_of(node.body), *codes_of(node.orelse)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "STEP" for part in node.values)]
    assert ast.unparse(node) in ("code", "error.code"), f"no code that can be read from the source: {ast.unparse(node)}"
    return []


def calls(text: str) -> Iterator[tuple[str, list[str] | None]]:
    """Class and codes of every error that a source makes; None for one without a code."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        given = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
        if given:
            yield name, codes_of(given[0])
        elif name in CLASSES:
            yield name, None


def used() -> dict[str, set[type[StarledgerError]]]:
    found: dict[str, set[type[StarledgerError]]] = defaultdict(set)
    for path in SOURCES:
        for name, codes in calls(path.read_text("utf-8")):
            for code in codes or ():
                found[code].add(CLASSES[name])
    return found


def test_the_table_has_every_code_that_is_used_and_no_other() -> None:
    found = used()
    assert set(found) - set(ERROR_CODES) == set(), "add it to db/error_codes.py"
    assert set(ERROR_CODES) - set(found) == set(), "nobody uses it: take it out of db/error_codes.py"
    assert {code: kinds for code, kinds in found.items() if kinds != set(ERROR_CODES[code].kinds)} == {}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_error_has_a_code(path: Path) -> None:
    assert [name for name, codes in calls(path.read_text("utf-8")) if codes is None] == []


def test_the_walk_sees_what_it_should() -> None:
    text = "raise ConfigurationError('a', code='b.c')\nraise FrameUnusable('a')\nx = AlgorithmFailed('a', code=f'{s.name}.os')\n"
    assert list(calls(text)) == [("ConfigurationError", ["b.c"]), ("FrameUnusable", None), ("AlgorithmFailed", ["STEP.os"])]
    with pytest.raises(AssertionError, match="no code that can be read"):
        list(calls("raise ConfigurationError('a', code=made_up())"))


@pytest.mark.parametrize("code", ERROR_CODES)
def test_a_code_says_what_it_means_and_what_to_do(code: str) -> None:
    said = ERROR_CODES[code]
    assert re.fullmatch(r"(STEP|[a-z]+)\.[a-z_]+", code)
    assert said.meaning.endswith(".") and said.remedy.endswith((".", "?"))
    known = {path for path, _ in commands()}
    named = re.findall(r"`(starledger [^`]*)`", said.meaning + said.remedy)
    assert [text for text in named if not any(text == path or text.startswith(f"{path} ") for path in known)] == []
    parameters = {field for step in STEPS.values() for field in step.parameters.__dataclass_fields__}
    for section, key in re.findall(r"`\[(\w+)\]` (\w+)", said.remedy + said.meaning):
        assert section not in STEPS or key in parameters


def test_codes_of_steps_are_found() -> None:
    assert error_code("detect.defect").kinds == (AlgorithmFailed,)
    assert error_code("frame.cube") is ERROR_CODES["frame.cube"]
    with pytest.raises(KeyError):
        error_code("detect.nothing_of_the_kind")
