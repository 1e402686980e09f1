"""A requirement is three files that agree: checks/check_x.py, fixers/x.py, tests/unit/requirements/test_x.py."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import pytest

from reclaim.requirement import STAGES, Requirement, catalogue, requirement_of
from reclaim.scaffold import NO_STATES

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = list(catalogue().values())
HANDLES = {("guest",), ("disk",), ("hypervisor",), ("backup",), ("job",)}

each = pytest.mark.parametrize("one", [pytest.param(one, id=one.slug) for one in REQUIREMENTS])


def stem(one: Requirement) -> str:
    return one.slug.replace("-", "_")


def stems(folder: str, pattern: str) -> set[str]:
    prefix = pattern.partition("*")[0]
    return {path.stem.removeprefix(prefix) for path in (ROOT / folder).glob(pattern) if path.stem != "__init__"}


def test_a_check_has_a_fixer_and_a_fixer_a_check() -> None:
    assert stems("checks", "check_*.py") == stems("fixers", "*.py")


def test_nothing_but_checks_lies_in_checks() -> None:
    assert stems("checks", "*.py") == {f"check_{name}" for name in stems("checks", "check_*.py")}


@pytest.mark.parametrize("name", sorted(stems("checks", "check_*.py")))
def test_a_check_has_a_test(name: str) -> None:
    assert (ROOT / f"tests/unit/requirements/test_{name}.py").is_file()


@pytest.mark.parametrize("name", sorted(stems("checks", "check_*.py")))
def test_a_file_declares_the_one_requirement_it_is_named_after(name: str) -> None:
    module = importlib.import_module(f"checks.check_{name}")
    declared = [found for value in vars(module).values() if (found := requirement_of(value)) is not None]
    assert [one.slug.replace("-", "_") for one in declared] == [name]
    assert declared[0].check.__name__ == f"check_{name}"
    assert declared[0].check.__module__ == module.__name__


def test_the_catalogue_is_complete() -> None:
    assert {stem(one) for one in REQUIREMENTS} == stems("checks", "check_*.py")


@each
def test_the_slug_is_made_of_words_and_hyphens(one: Requirement) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", one.slug)


@each
def test_the_fixer_lies_in_the_mirror_file(one: Requirement) -> None:
    assert one.fixer.__module__ == f"fixers.{stem(one)}"


@each
def test_check_and_fixer_take_the_same(one: Requirement) -> None:
    # a handle that is imported for types alone has no more than its name there
    takes = inspect.signature(one.check).parameters
    assert _handles(one.check) == _handles(one.fixer)
    assert tuple(takes) in HANDLES
    assert all(parameter.default is parameter.empty for parameter in takes.values())


def _handles(function: Callable[..., object]) -> dict[str, str]:
    """Return the parameters of *function*, each with the name of its type."""
    parameters = inspect.signature(function).parameters.values()
    return {one.name: getattr(one.annotation, "__name__", one.annotation) for one in parameters}


@each
def test_both_are_pure_functions_that_say_why(one: Requirement) -> None:
    functions: tuple[Callable[..., object], ...] = (one.check, one.fixer)
    for function in functions:
        assert inspect.isfunction(function)
        doc = inspect.getdoc(function)
        assert doc
        assert doc.endswith(".")
        assert len(doc.split()) > 4


@each
def test_the_title_states_the_good_state(one: Requirement) -> None:
    assert one.title[:1].isupper() or one.title.split()[0] in ("fstab", "virtio")
    assert not one.title.endswith((".", "?", "!"))
    assert len(one.title.split()) > 3
    # a finding or an instruction is no state
    assert one.title.split()[0] not in NO_STATES


def test_titles_are_told_apart() -> None:
    assert len({one.title for one in REQUIREMENTS}) == len(REQUIREMENTS)


@each
def test_the_reference_can_be_opened(one: Requirement) -> None:
    parts = urlsplit(one.reference)
    assert parts.scheme == "https"
    assert parts.netloc


@each
def test_after_names_requirements_that_come_earlier(one: Requirement) -> None:
    order = list(catalogue())
    assert len(set(one.after)) == len(one.after)
    for slug in one.after:
        assert slug in catalogue()
        assert order.index(slug) < order.index(one.slug)


@each
def test_what_is_waited_for_can_be_asked_for_the_same_guest(one: Requirement) -> None:
    if one.after:
        assert one.parameters in (("guest",), ("disk",))
        assert all(catalogue()[slug].parameters in (("guest",), ("disk",)) for slug in one.after)


@each
def test_a_definition_is_judged_without_looking_inside(one: Requirement) -> None:
    if one.reads_definitions_only:
        assert "facts" not in names_of(importlib.import_module(one.check.__module__))


def names_of(module: ModuleType) -> set[str]:
    check = next(value for value in vars(module).values() if requirement_of(value))
    return set(check.__code__.co_names)


def test_the_page_of_requirements_has_each_in_order() -> None:
    page = (ROOT / "docs/requirements.md").read_text(encoding="utf-8")
    table = page.partition("| requirement |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| ([a-z0-9-]+) \| ([^|]+) \| [^|]+ \|$", table, re.MULTILINE)
    assert rows == [(one.slug, one.title) for one in REQUIREMENTS]


def test_the_readme_has_each_requirement_by_its_layer() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.partition("| layer | requirements |")[2].partition("\n\n")[0]
    rows = [line.split("|")[2].strip().split(", ") for line in table.splitlines()[2:]]
    assert rows == [[one.slug for one in REQUIREMENTS if one.stage == stage] for stage in STAGES]
