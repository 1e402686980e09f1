"""Requirements: how a check is declared, and the order of the catalogue."""

from __future__ import annotations

import pytest

from reclaim.requirement import STAGES, Requirement, catalogue, in_order

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

    with pytest.raises(ValueError, match="wait for each other: a, b"):
        in_order([made("a", "b"), made("b", "a")])
