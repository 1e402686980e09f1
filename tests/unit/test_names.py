"""The code's figures may only fall: placeholders instead of names, branches in a line, long functions."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import NamedTuple

import pytest

from tests.support import ROOT

#: names that stand for a thing without naming it
PLACEHOLDERS = frozenset(("found", "one"))
#: names that are for short functions alone, and the lines of body that these have at most
VAGUE = frozenset(("found", "one", "told", "what"))
SHORT = 5
#: lines of a function, with its head and its docstring, from which on it is a long one
LONG = 30
#: places that a failure shows, and the lines of body from which on a function is judged dense
_SHOWN, _DENSE = 8, 5

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Measure(NamedTuple):
    """A figure of some files, and the places that make it what it is, the worst first."""

    figure: float
    worst: tuple[str, ...] = ()


class Source(NamedTuple):
    path: str
    lines: tuple[str, ...]
    tree: ast.Module


def sources(pattern: str) -> list[Source]:
    """The files that match the glob *pattern* of the project, each parsed once."""
    return [_parsed(str(path.relative_to(ROOT))) for path in sorted(ROOT.glob(pattern))]


@cache
def _parsed(path: str) -> Source:
    text = (ROOT / path).read_text(encoding="utf-8")
    return Source(path, tuple(text.splitlines()), ast.parse(text))


# Measures -------------------------------------------------------------------------------------


def placeholders(files: Iterable[Source]) -> Measure:
    """The share of PLACEHOLDERS among bound names, in percent: targets and parameters, but for self and cls."""
    names, places = 0, []
    for source in files:
        for name, line in bound(source.tree):
            names += 1
            if name in PLACEHOLDERS:
                places.append(f"{source.path}:{line} {name}")
    return Measure(round(100 * len(places) / names, 1) if names else 0.0, tuple(places))


def vague_names(files: Iterable[Source]) -> Measure:
    """The number of VAGUE names that are bound in functions that are not short."""
    places = [
        f"{source.path}:{line} {name}"
        for source in files
        for function in functions(source)
        if body_lines(function, source.lines) > SHORT
        for name, line in bound(function)
        if name in VAGUE
    ]
    return Measure(len(places), tuple(places))


def bound(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.arg) and node.arg not in ("self", "cls"):
            yield node.arg, node.lineno


def density(files: Iterable[Source]) -> Measure:
    """Branches in a line of body, of all functions together."""
    counts = [
        (branches(function), body_lines(function, source.lines), f"{source.path}:{function.lineno} {function.name}")
        for source in files
        for function in functions(source)
    ]
    dense = sorted((count for count in counts if count[1] >= _DENSE), key=lambda count: -count[0] / count[1])
    lines = sum(count[1] for count in counts)
    figure = sum(count[0] for count in counts) / lines if lines else 0.0
    return Measure(round(figure, 3), tuple(f"{place}: {some} in {of} lines" for some, of, place in dense))


@cache
def functions(source: Source) -> list[Function]:
    return [node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def branches(function: Function) -> int:
    """A condition or loop is one; so is each further operand of and/or, each case, each `if` of a comprehension."""
    return sum(_branches(node) for node in ast.walk(function) if isinstance(node, _BRANCHING))


_ONE_WAY = (ast.If, ast.For, ast.While, ast.IfExp, ast.ExceptHandler, ast.Assert)
_BRANCHING = (*_ONE_WAY, ast.BoolOp, ast.Match, ast.comprehension)


def _branches(node: ast.AST) -> int:
    match node:
        case ast.BoolOp(values=values):
            return len(values) - 1
        case ast.Match(cases=cases):
            return len(cases)
        case ast.comprehension(ifs=conditions):
            return 1 + len(conditions)
    return 1


def body_lines(function: Function, lines: tuple[str, ...]) -> int:
    """The lines of the body without its docstring, blank lines and comments."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    numbers = {number for node in body for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    texts = (lines[number - 1].strip() for number in numbers)
    return sum(1 for text in texts if text and not text.startswith("#"))


def long_functions(files: Iterable[Source]) -> Measure:
    """The share of functions with more than LONG lines, in percent."""
    lengths = [
        ((function.end_lineno or function.lineno) - function.lineno + 1, f"{source.path}:{function.lineno}")
        for source in files
        for function in functions(source)
    ]
    long = sorted((length for length in lengths if length[0] > LONG), reverse=True)
    figure = 100 * len(long) / len(lengths) if lengths else 0.0
    return Measure(round(figure, 1), tuple(f"{place}: {lines} lines" for lines, place in long))


# Limits ---------------------------------------------------------------------------------------

#: the aim for names; the other figures are those of today, and may only fall
_NAMES = 2.0
LIMITS: dict[tuple[Callable[[Iterable[Source]], Measure], str], float] = {
    (placeholders, "reclaim/*.py"): _NAMES,
    (placeholders, "reclaim/backups/**/*.py"): _NAMES,
    (placeholders, "reclaim/base/**/*.py"): _NAMES,
    (placeholders, "reclaim/changes/**/*.py"): _NAMES,
    (placeholders, "reclaim/database/**/*.py"): _NAMES,
    (placeholders, "reclaim/definition/**/*.py"): _NAMES,
    (placeholders, "reclaim/engine/**/*.py"): _NAMES,
    (placeholders, "reclaim/files/**/*.py"): _NAMES,
    (placeholders, "reclaim/handles/**/*.py"): _NAMES,
    (placeholders, "reclaim/inside/**/*.py"): _NAMES,
    (placeholders, "reclaim/inventories/**/*.py"): _NAMES,
    (placeholders, "reclaim/inventory/**/*.py"): _NAMES,
    (placeholders, "reclaim/jobs/**/*.py"): _NAMES,
    (placeholders, "reclaim/processes/**/*.py"): _NAMES,
    (placeholders, "reclaim/record/**/*.py"): _NAMES,
    (placeholders, "reclaim/report/**/*.py"): _NAMES,
    (placeholders, "reclaim/space/**/*.py"): _NAMES,
    (placeholders, "reclaim/storage/**/*.py"): _NAMES,
    (placeholders, "reclaim/timer/**/*.py"): _NAMES,
    (vague_names, "reclaim/**/*.py"): 0,
    (vague_names, "checks/*.py"): 0,
    (vague_names, "fixers/*.py"): 0,
    (density, "reclaim/**/*.py"): 0.38,
    (density, "checks/*.py"): 0.44,
    (density, "fixers/*.py"): 0.33,
    (long_functions, "reclaim/**/*.py"): 4.0,
    (long_functions, "checks/*.py"): 22.3,
    (long_functions, "fixers/*.py"): 21.1,
}


# Tests ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("measure", "pattern"), LIMITS)
def test_a_figure_does_not_rise(measure: Callable[[Iterable[Source]], Measure], pattern: str) -> None:
    figure, worst = measure(sources(pattern))
    limit = LIMITS[measure, pattern]
    shown = "".join(f"\n  {place}" for place in worst[:_SHOWN])
    assert figure <= limit, f"{measure.__name__} in {pattern}: {figure}, the limit is {limit}:{shown}"


def test_a_class_has_a_name_of_its_own() -> None:
    places: dict[str, list[str]] = {}
    for pattern in ("reclaim/**/*.py", "checks/*.py", "fixers/*.py"):
        for source in sources(pattern):
            for node in ast.walk(source.tree):
                if isinstance(node, ast.ClassDef):
                    places.setdefault(node.name, []).append(f"{source.path}:{node.lineno}")
    assert not {name: lines for name, lines in places.items() if len(lines) > 1}


def test_every_package_has_a_limit_and_every_limit_has_files() -> None:
    packages = {f"reclaim/{path.parent.name}/**/*.py" for path in (ROOT / "reclaim").glob("*/__init__.py")}
    limited = {pattern for measure, pattern in LIMITS if measure is placeholders}
    assert limited == {*packages, "reclaim/*.py"}
    assert all(sources(pattern) for _, pattern in LIMITS)


def given(text: str) -> list[Source]:
    return [Source("x.py", tuple(text.splitlines()), ast.parse(text))]


def test_names_that_are_bound() -> None:
    text = "def f(self, one, disk):\n  for found in disk:\n    total = found\n  with one as file: pass\n"
    assert [name for name, _ in bound(ast.parse(text))] == ["one", "disk", "found", "total", "file"]
    assert placeholders(given(text)) == Measure(40.0, ("x.py:1 one", "x.py:2 found"))


@pytest.mark.parametrize(("lines", "count"), [(SHORT - 1, 0), (SHORT, 2)])
def test_vague_names_are_for_short_functions(lines: int, count: int) -> None:
    body = "  pass\n" * lines
    assert vague_names(given(f"def f(one):\n  found = one\n{body}")).figure == count


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("return a", 0),
        ("return a and b or c", 2),
        ("return a if b else c", 1),
        ("return [a for a in b if a if b]", 3),
        ("if a: pass\n  elif b: pass\n  else: pass", 2),
        ("while a:\n    for b in c: pass", 2),
        ("try: pass\n  except OSError: pass\n  finally: assert a", 2),
        ("match a:\n    case 1: pass\n    case 2: pass", 2),
    ],
)
def test_branches(text: str, expected: int) -> None:
    (source,) = given(f"def f():\n  {text}\n")
    assert branches(functions(source)[0]) == expected


def test_lines_of_body() -> None:
    (source,) = given('def f():\n  """Words.\n  More.\n  """\n  # why\n\n  a = (\n    1\n  )\n  return a\n')
    assert body_lines(functions(source)[0], source.lines) == 4


def test_a_long_function() -> None:
    assert long_functions(given("def f():\n" + "  pass\n" * (LONG - 1))) == Measure(0.0)
    lines = "  pass\n" * LONG
    assert long_functions(given(f"def f():\n{lines}def g():\n  pass\n")) == Measure(50.0, ("x.py:1: 31 lines",))
