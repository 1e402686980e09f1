"""Plain English in documents, docstrings and messages: words that stand for a name or a condition, with limits."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import ROOT

WHAT_WHERE = re.compile(r"\b(?:what|where)\b", re.IGNORECASE)
SAY_TELL = re.compile(r"\b(?:says?|said|tells?|told)\b", re.IGNORECASE)
NO_ACTOR = re.compile(r"\b(?:nobody|somebody|someone)\b", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z']+")
#: sentences of a text that a failure shows
_SHOWN = 8


class Limits(NamedTuple):
    """The most of each kind of word in 1,000 words, and the most docstrings with an opening that is none."""

    what_where: float
    say_tell: float
    openings: int = 0


#: "if" and "when" are conditions, and a thing has a name; "say" and "tell" are for text that is printed
TARGET = Limits(what_where=8, say_tell=4)
#: texts that do not meet the target: their figures may only fall
LIMITS: dict[str, Limits] = {}
#: the strings of a package that people read, in the place of its docstrings
MESSAGES = " messages"
PACKAGES = ["reclaim/", "checks/", "fixers/"]


#: strings that no person reads: shell, expressions, markup, paths, templates, options in a row
_CODE = re.compile(r"\n|[$|]|%s|\\[AZbdswS]|\(\?|\[\^|\.\*|</?[a-z]|\w/\w+/\w|-{1,2}\w\S* -")
#: words of a string that may be a message
_LEAST = 4


class Passage(NamedTuple):
    """A docstring, a message, or a paragraph, an item or a row of a document; `place` is its file and line."""

    place: str
    text: str


# Texts ----------------------------------------------------------------------------------------


def documents() -> list[str]:
    pages = sorted((ROOT / "docs").glob("*.md"))
    return ["README.md", "SECURITY.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in pages)]


@cache
def passages(name: str) -> tuple[Passage, ...]:
    path = ROOT / name.removesuffix(MESSAGES)
    if name.endswith(MESSAGES):
        return tuple(passage for file in sorted(path.rglob("*.py")) for passage in messages(file))
    if path.is_dir():
        return tuple(passage for file in sorted(path.rglob("*.py")) for passage in _docstrings(file))
    return tuple(in_markdown(name, path.read_text(encoding="utf-8")))


def messages(path: Path) -> Iterator[Passage]:
    """Yield the strings of *path* that people read, a hole as "…": those with some words that are no code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [*ast.walk(tree)]
    skipped = {node.value for node in nodes if isinstance(node, ast.Expr)}
    skipped |= {part for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        text = _text(node)
        if node not in skipped and not _CODE.search(text) and len(_WORD.findall(text)) >= _LEAST:
            yield Passage(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", _without_literals(text))


def _text(node: ast.AST) -> str:
    """Return the string that *node* writes, or "" if it is none."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text, node.values))
    if isinstance(node, ast.FormattedValue):
        return "…"
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _docstrings(path: Path) -> Iterator[Passage]:
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, holders) and (text := ast.get_docstring(node)):
            yield Passage(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", _without_literals(text))


def in_markdown(name: str, text: str) -> Iterator[Passage]:
    """The passages of *text*, without code, tables that a program writes between its marks, and `literals`."""
    for pattern in (r"(?ms)^```.*?^```$", r"(?s)<!-- table: .*?<!-- end of table -->", r"(?m)^    .*$"):
        text = re.sub(pattern, lambda match: "\n" * match[0].count("\n"), text)
    for passage in re.finditer(r"(?m)^.*\S.*$(?:\n(?![-*|#] |\d+\. |$).+)*", text):
        line = text.count("\n", 0, passage.start()) + 1
        yield Passage(f"{name}:{line}", _without_literals(passage[0]))


def _without_literals(text: str) -> str:
    return re.sub(r"`[^`]*`", "…", text)


# Counts ---------------------------------------------------------------------------------------


def in_a_thousand(pattern: re.Pattern[str], name: str) -> float:
    """How often *pattern* matches in 1,000 words of a text."""
    texts = [passage.text for passage in passages(name)]
    words = sum(len(_WORD.findall(text)) for text in texts)
    return round(1000 * sum(len(pattern.findall(text)) for text in texts) / words, 1)


def worst(pattern: re.Pattern[str], name: str) -> str:
    """The sentences with the most matches, each with its place."""
    counted = [(len(pattern.findall(sentence.text)), sentence) for sentence in sentences(name)]
    matching = sorted((pair for pair in counted if pair[0]), key=lambda pair: -pair[0])
    return _listed(f"{sentence.place}: {sentence.text}" for _, sentence in matching)


def sentences(name: str) -> Iterator[Passage]:
    for place, text in passages(name):
        for sentence in re.split(r"(?<=[.?!;:|])\s+", text):
            yield Passage(place, " ".join(sentence.split()))


def _listed(lines: Iterable[str]) -> str:
    return "".join(f"\n  {line}" for line in [*lines][:_SHOWN])


def is_no_opening(text: str) -> bool:
    """True if a docstring begins with "What …" or asks a question."""
    return bool(re.match(r"What\b|[^.?!]*\?", text))


# Tests ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*documents(), *PACKAGES, *(package + MESSAGES for package in PACKAGES)])
@pytest.mark.parametrize(
    ("pattern", "limit_of"),
    [
        pytest.param(WHAT_WHERE, lambda limits: limits.what_where, id="what, where"),
        pytest.param(SAY_TELL, lambda limits: limits.say_tell, id="say, tell"),
    ],
)
def test_words_that_stand_for_others_are_few(
    name: str, pattern: re.Pattern[str], limit_of: Callable[[Limits], float]
) -> None:
    figure, limit = in_a_thousand(pattern, name), limit_of(LIMITS.get(name, TARGET))
    assert figure <= limit, f"{name}: {figure} in 1,000 words, the limit is {limit}:{worst(pattern, name)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_message_names_who_acts(package: str) -> None:
    odd = [f"{place}: {text}" for place, text in passages(package + MESSAGES) if NO_ACTOR.search(text)]
    assert not odd, _listed(odd)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_docstring_is_no_question(name: str) -> None:
    odd = [f"{place}: {text.partition(chr(10))[0]}" for place, text in passages(name) if is_no_opening(text)]
    limit = LIMITS.get(name, TARGET).openings
    assert len(odd) <= limit, f"{name}: {len(odd)} docstrings, the limit is {limit}:{_listed(odd)}"


@pytest.mark.parametrize("name", documents())
def test_no_sentence_of_a_plain_document_begins_with_what(name: str) -> None:
    odd = [f"{place}: {text}" for place, text in sentences(name) if re.match(r"[*|\d.\- ]*What\b", text)]
    assert not odd or name in LIMITS, _listed(odd)


def test_code_tables_of_programs_and_literals_are_no_prose() -> None:
    text = (
        "# Head\n\nIt says `what` it\nsaw.\n\n    what in code\n\n- an item\n- where\n\n"
        "<!-- table: x.py -->\n| told |\n<!-- end of table -->\n\n```\nwhat\n```\nend\n"
    )
    found = [*in_markdown("x.md", text)]
    assert found == [
        Passage("x.md:1", "# Head"),
        Passage("x.md:3", "It says … it\nsaw."),
        Passage("x.md:8", "- an item"),
        Passage("x.md:9", "- where"),
        Passage("x.md:18", "end"),
    ]


def test_messages_are_strings_with_words_that_are_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "x.py"
    module.write_text(
        '"""A docstring with some words."""\nraise ValueError(\n'
        '    f"{path}: it cannot be {done:>{width}} by `what` is "\n    "there")\n'
        'a = ["three words only", "test -d %s && echo it is", "its (?:one|two) or three words"]\n'
    )
    monkeypatch.setattr("tests.unit.test_prose.ROOT", tmp_path)
    assert [*messages(module)] == [Passage("x.py:3", "…: it cannot be … by … is there")]


@pytest.mark.parametrize("text", ["What it is.", "Is it so?", "Is it so?\n\nMore."])
def test_an_opening_that_is_none(text: str) -> None:
    assert is_no_opening(text)


@pytest.mark.parametrize("text", ["Return what it is.", "True if it is so.\n\nIs it?", "Whatever.", ""])
def test_an_opening_that_is_one(text: str) -> None:
    assert not is_no_opening(text)
