"""A docstring that says what is raised names an exception that there is."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from tests.support import ROOT

SOURCES = [path for folder in ("reclaim", "checks", "fixers") for path in sorted((ROOT / folder).rglob("*.py"))]
#: the end of the sentence ends the list; a name is written in capitals and small letters, as a class is
_RAISES = re.compile(r"\b[Rr]aises?\b ([^.]*)")
_NAME = re.compile(r"\b(?:[A-Z][a-z]+(?:[A-Z][a-z]+)*|libvirtError)\b")
#: words that begin with a capital and are no class
_WORDS = frozenset({"Python", "Yield", "None", "True", "False", "Linux", "Ctrl"})


def _named(text: str) -> Iterator[str]:
    for sentence in _RAISES.findall(text):
        yield from (name for name in _NAME.findall(sentence) if name not in _WORDS)


def _docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            yield ast.get_docstring(node) or ""


def _exceptions() -> set[str]:
    """The names of all exceptions: Python's, libvirt's, and ours."""
    found = [*vars(builtins).values(), libvirt.libvirtError]
    for path in SOURCES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] != "__main__":
            found += vars(importlib.import_module(".".join(parts))).values()
    return {one.__name__ for one in found if isinstance(one, type) and issubclass(one, BaseException)}


def test_names_are_found_in_a_docstring() -> None:
    text = "Do it. Raises LockHeld, or ProbeError if there is none. Python does so.\nIt raises libvirtError too."
    assert list(_named(text)) == ["LockHeld", "ProbeError", "libvirtError"]
    assert "Held" not in _exceptions()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_said_to_be_raised_is_an_exception(path: Path, exceptions: set[str]) -> None:
    assert {name for text in _docstrings(path) for name in _named(text)} <= exceptions


@pytest.fixture(scope="module")
def exceptions() -> set[str]:
    return _exceptions()
