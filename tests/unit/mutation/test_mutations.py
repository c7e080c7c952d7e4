"""The mutator: each kind of mistake, where it may be made, and whose tests must notice."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from concerned import concerned, imports_of
from mutations import mutations


def changed(source: str, *, sql: bool = False) -> set[str]:
    return {mutation.apply(source) for mutation in mutations(source, sql=sql)}


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("a < b <= c", {"a <= b <= c", "a < b < c"}),
        ("(a) == (b)", {"(a) != (b)"}),
        ("a + b", {"a - b"}),
        ("'x' + b", set()),
        ("f(2.0)", {"f(2.2)"}),
        ("f(0.0)", {"f(1.0)"}),
        ("f(3)", {"f(4)"}),
        ("f(True)", {"f(False)"}),
        ("f(a and b or c)", {"f(a or b or c)", "f(a and b and c)"}),
        ("if not (a): b", {"if  (a): b"}),
        ("~a & b", {"a & b", "~a | b"}),
        ("np.max(a)", {"np.min(a)"}),
        ("min(a, b)", {"max(a, b)"}),
        ("a += b", {"pass"}),
        ("a[i:j]", {"a[(i) + 1:j]", "a[i:(j) + 1]"}),
        ("'grün' == a", {"'grün' != a"}),
    ],
)
def test_each_kind_of_mistake(source: str, wanted: set[str]) -> None:
    assert changed(source) == wanted


@pytest.mark.parametrize(
    "source",
    [
        '"""1 < 2"""',
        "__all__ = [1]",
        "raise ValueError(1 + 2)",
        "a: f(1)",
        "@f(cache=True)\ndef g(): pass",
        "import a",
        "def f() -> g(1): ...",
    ],
)
def test_what_no_test_should_depend_on_stays(source: str) -> None:
    assert changed(source) == set()


def test_sql_is_changed_outside_of_braces_only_where_asked() -> None:
    source = 'f"SELECT sum(a) FROM t WHERE a < {b < c} AND d <> 0"'
    found = changed(source, sql=True) - changed(source)
    assert found == {source.replace("sum(", "max("), source.replace("a < {", "a <= {"), source.replace("AND", "OR")}


def test_every_mutant_of_a_real_module_parses_and_differs() -> None:
    path = Path(__file__).resolve().parents[3] / "reduction" / "catalogues" / "kernels" / "sky_ranges.py"
    source = path.read_text()
    found = mutations(source)
    assert len(found) > 50
    for mutation in found:
        mutant = mutation.apply(source)
        assert ast.dump(ast.parse(mutant)) != ast.dump(ast.parse(source))


def test_tests_are_those_of_the_module_or_else_of_its_users(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("from p.a import f")
    (tmp_path / "test_c.py").write_text("def test():\n    import p.c")
    tests = {path: imports_of(path) for path in sorted(tmp_path.iterdir())}
    sources = {"p.a": frozenset[str](), "p.b": frozenset[str](), "p.c": frozenset({"p.b", "p.b.g"}), "p.d": frozenset[str]()}
    names = {module: [path.name for path in concerned(module, tests, sources)] for module in sources}
    assert names == {"p.a": ["test_a.py"], "p.b": ["test_c.py"], "p.c": ["test_c.py"], "p.d": []}
