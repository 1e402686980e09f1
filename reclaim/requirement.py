"""A requirement: one statement that must hold, with the check that judges it and the fixer that proposes."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, TypeVar

from reclaim.changes.change import Change

#: The part of a guest's mending that a requirement belongs to. A guest goes through these in order.
Stage = Literal["access", "names", "definition", "power", "inside", "backup"]
STAGES: tuple[Stage, ...] = (
    "access",
    "names",
    "definition",
    "power",
    "inside",
    "backup",
)

#: the slug of the row of a hypervisor that could not be reached (`reclaim.engine.reach`)
REACH_SLUG = "reach-hypervisor"

Check = Callable[..., str]
Fixer = Callable[..., "list[Change]"]
C = TypeVar("C", bound=Check)


@dataclass(frozen=True)
class Requirement:
    """One statement that must hold.

    `after` names the requirements that must hold for the same guest before the fixer may run.
    """

    slug: str
    title: str
    stage: Stage
    check: Check
    fixer: Fixer
    after: tuple[str, ...]
    reference: str
    #: the option without which it is not judged at all; "" if it always is
    option: str = ""
    #: the key of the inventory's policy without which it is not judged at all; "" if it always is
    policy: str = ""
    #: its fix lets a guest start that cannot start as it is defined: there it comes first, and waits for nothing
    revives: bool = False

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """The handles that check and fixer take."""
        return tuple(inspect.signature(self.check).parameters)

    @property
    def reason(self) -> str:
        """Why the requirement exists: the check's docstring."""
        return inspect.cleandoc(self.check.__doc__ or "")

    @property
    def reads_definitions_only(self) -> bool:
        return self.stage == "definition"


def requirement(
    slug: str,
    title: str,
    *,
    stage: Stage,
    fixer: Fixer,
    after: Iterable[str] = (),
    reference: str = "",
    option: str = "",
    policy: str = "",
    revives: bool = False,
) -> Callable[[C], C]:
    """Declare the decorated function as the check of the requirement *slug*.

    The check asserts and returns its evidence in words; *title* states the good state. With *option* it is
    judged only if that option (a field of `reclaim.engine.run.Options`) is given; with *policy* only if the inventory's
    policy sets that key. With *revives* its fix comes first for a guest that cannot start as it is defined.
    """

    def declare(check: C) -> C:
        check.__requirement__ = Requirement(  # type: ignore[attr-defined]
            slug,
            title,
            stage,
            check,
            fixer,
            tuple(after),
            reference,
            option,
            policy,
            revives,
        )
        return check

    return declare


def requirement_of(function: Any) -> Requirement | None:
    """Return the requirement whose check *function* is, or None."""
    return getattr(function, "__requirement__", None)


@cache
def catalogue() -> dict[str, Requirement]:
    """Return every requirement by slug, in the order in which one guest is remedied."""
    package = importlib.import_module("checks")
    declared: list[Requirement] = []
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"checks.{info.name}")
        for name, value in vars(module).items():
            requirement = requirement_of(value)
            if requirement is None or not name.startswith("check_"):
                continue
            if requirement not in declared:
                declared.append(requirement)
    return {requirement.slug: requirement for requirement in in_order(declared)}


def in_order(requirements: Iterable[Requirement]) -> list[Requirement]:
    """Sort by stage, and in a stage by slug, but each after those that it names."""
    waiting = sorted(requirements, key=lambda row: (STAGES.index(row.stage), row.slug))
    ordered: list[Requirement] = []
    while waiting:
        slugs = {requirement.slug for requirement in waiting}
        ready = [
            requirement
            for requirement in waiting
            if slugs.isdisjoint(requirement.after)
        ]
        if not ready:
            raise ValueError(
                f"requirements depend on each other: {', '.join(sorted(slugs))}"
            )
        ordered.append(ready[0])
        waiting.remove(ready[0])
    return ordered
