"""Requirements: how a check is declared, and the order of the catalogue."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reclaim.requirement import STAGES, Requirement, Stage, catalogue, in_order, requirement, requirement_of

REQUIREMENTS = list(catalogue().values())


def test_the_order_is_by_stage_and_does_not_depend_on_the_order_of_files() -> None:
    order = [one.slug for one in REQUIREMENTS]
    assert [one.slug for one in in_order(reversed(REQUIREMENTS))] == order
    assert [one.slug for one in in_order(sorted(REQUIREMENTS, key=lambda one: one.title))] == order
    stages = [STAGES.index(one.stage) for one in REQUIREMENTS]
    assert stages == sorted(stages)


def test_requirements_that_wait_for_each_other_are_refused() -> None:
    def nothing() -> str:
        """Stands for a check."""
        return ""

    def none() -> list[object]:
        """Stands for a fixer."""
        return []

    def made(slug: str, after: str) -> Requirement:
        return Requirement(slug, slug, "inside", nothing, none, (after,), "")  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="depend on each other: a, b"):
        in_order([made("a", "b"), made("b", "a")])


def _fixer(guest: object) -> list[Any]:
    """Stands for a fixer."""
    return [guest]


def _made(slug: str, stage: Stage, *after: str) -> Requirement:
    def check(guest: object) -> str:
        """Stands for a check."""
        return str(guest)

    return Requirement(slug, slug, stage, check, _fixer, after, "")


# Declaring ------------------------------------------------------------------------------------


def test_a_declared_check_is_still_the_function_and_knows_its_requirement() -> None:
    def check(disk: object, guest: object) -> str:
        """Say why.

        Indented more.
        """
        return f"{disk} {guest}"

    declare = requirement(
        "safe-cache",
        "It is safe",
        stage="power",
        fixer=_fixer,
        after=(slug for slug in ("disk-bus",)),
        reference="https://example.org/",
        option="prove",
        policy="trim_from_host",
    )
    assert declare(check) is check
    assert check("a", "b") == "a b"
    found = requirement_of(check)
    assert found == Requirement(
        "safe-cache",
        "It is safe",
        "power",
        check,
        _fixer,
        ("disk-bus",),
        "https://example.org/",
        "prove",
        "trim_from_host",
    )
    assert found.parameters == ("disk", "guest")
    assert found.reason == "Say why.\n\nIndented more."


def test_what_is_not_said_is_empty() -> None:
    def check() -> str:
        return ""

    found = requirement_of(requirement("a", "A", stage="inside", fixer=_fixer)(check))
    assert found is not None
    assert (found.after, found.reference, found.option, found.policy) == ((), "", "", "")
    assert found.reason == ""
    assert found.parameters == ()


@pytest.mark.parametrize("value", [None, 7, str, lambda: None, requirement])
def test_what_is_no_check_has_no_requirement(value: object) -> None:
    assert requirement_of(value) is None


@pytest.mark.parametrize("stage", STAGES)
def test_definitions_alone_are_read_by_one_stage(stage: Stage) -> None:
    assert _made("a", stage).reads_definitions_only is (stage == "definition")


# The catalogue --------------------------------------------------------------------------------


@pytest.fixture
def checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of checks in the place of ours."""
    folder = tmp_path / "checks"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "checks"}
    for name in ours:
        monkeypatch.delitem(sys.modules, name)
    catalogue.cache_clear()
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "checks"]:
        del sys.modules[name]
    catalogue.cache_clear()


def _file(folder: Path, name: str, slug: str, stage: str, *more: str) -> None:
    text = (
        "from reclaim.requirement import requirement\n"
        f"@requirement({slug!r}, 'Title', stage={stage!r}, fixer=lambda guest: [])\n"
        f"def {name}(guest):\n    return ''\n"
    )
    (folder / f"{name}.py").write_text("\n".join([text, *more]), encoding="utf-8")


def test_the_catalogue_has_the_checks_of_every_file_once(checks: Path) -> None:
    _file(checks, "check_b", "b", "inside")
    _file(checks, "check_a", "a", "power", "check_again = check_a", "alias = check_a")
    _file(checks, "check_c", "c", "access", "from checks.check_b import check_b", "HELPER = 7")
    found = catalogue()
    assert list(found) == ["c", "a", "b"]
    assert [one.slug for one in found.values()] == ["c", "a", "b"]
    assert catalogue() is found


def test_a_function_that_is_not_called_a_check_is_none(checks: Path) -> None:
    _file(checks, "helper", "a", "inside")
    assert catalogue() == {}


# The order ------------------------------------------------------------------------------------


def test_a_stage_is_done_before_the_next_and_in_it_by_slug() -> None:
    mixed = [_made("b", "inside"), _made("z", "access"), _made("a", "inside"), _made("m", "power")]
    assert [one.slug for one in in_order(mixed)] == ["z", "m", "a", "b"]
    assert [one.slug for one in mixed] == ["b", "z", "a", "m"]
    assert in_order([]) == []


def test_what_waits_comes_after_what_it_names() -> None:
    waiting = [_made("a", "inside", "c"), _made("b", "inside"), _made("c", "inside", "d"), _made("d", "inside")]
    assert [one.slug for one in in_order(waiting)] == ["b", "d", "c", "a"]
    assert [one.slug for one in in_order([_made("a", "inside", "not-among-them")])] == ["a"]
