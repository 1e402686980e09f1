"""`reclaim rules`: the requirements, for people and for machines."""

from __future__ import annotations

import inspect
import json
from typing import Any

from reclaim.base import nearest
from reclaim.base.errors import ReclaimError
from reclaim.requirement import Requirement, catalogue
from reclaim.verbs import paragraphs

#: columns of a slug
_SLUG = 17


def overview() -> str:
    """Return every requirement by stage, in the order in which a guest is mended."""
    lines: list[str] = []
    stage = ""
    for requirement in catalogue().values():
        if requirement.stage != stage:
            stage = requirement.stage
            lines += ["", stage] if lines else [stage]
        lines.append(
            f"  {requirement.slug:<{_SLUG}} {requirement.title}{_of(requirement)}"
        )
    return "\n".join(
        [
            *lines,
            "",
            "One with its reason and its fix: reclaim rules SLUG. As JSON: reclaim rules --json.",
        ]
    )


def _of(requirement: Requirement) -> str:
    needs = _needs(requirement)
    return f" ({judged(requirement)}{f'; with {needs}' if needs else ''})"


def judged(requirement: Requirement) -> str:
    """Return the handle that the requirement is judged for."""
    return ", ".join(requirement.parameters)


def _needs(requirement: Requirement) -> str:
    """Return the option or the key of the policy without which the requirement is not judged."""
    if requirement.option:
        return f"--{requirement.option.replace('_', '-')}"
    return f"{requirement.policy} = true in the policy" if requirement.policy else ""


def _mends(requirement: Requirement) -> str:
    return inspect.cleandoc(requirement.fixer.__doc__ or "")


def whole(slug: str) -> str:
    """Return all that is known of the requirement *slug*. Raises ReclaimError if there is none."""
    requirement = expected(slug)
    facts = [
        ("judged for each", judged(requirement)),
        ("stage", requirement.stage),
        ("only with", _needs(requirement)),
        ("after", ", ".join(requirement.after)),
        ("source", requirement.reference),
    ]
    lines = [f"{name + ':':<16} {value}" for name, value in facts if value]
    return "\n".join(
        [
            f"{requirement.slug}: {requirement.title}",
            "",
            *lines,
            "",
            paragraphs(requirement.reason),
            "",
            "What --fix does:",
            "",
            paragraphs(_mends(requirement)),
        ]
    )


def expected(slug: str) -> Requirement:
    """Return the requirement *slug*, which may be written with underscores. Raises ReclaimError if there is none."""
    known = catalogue()
    requirement = known.get(slug.replace("_", "-"))
    if requirement is None:
        hint = nearest.near(slug, list(known)) or f" (there are: {', '.join(known)})"
        raise ReclaimError(f"{slug}: there is no such requirement{hint}")
    return requirement


def as_json(slugs: list[str]) -> str:
    """Return the requirements *slugs*, or all, as a list in JSON."""
    chosen = [expected(slug) for slug in slugs] or list(catalogue().values())
    return json.dumps(list(map(_document, chosen)), indent=2, ensure_ascii=False)


def _document(requirement: Requirement) -> dict[str, Any]:
    option = requirement.option.replace("_", "-")
    return {
        "slug": requirement.slug,
        "title": requirement.title,
        "judged": list(requirement.parameters),
        "stage": requirement.stage,
        "after": list(requirement.after),
        "option": f"--{option}" if option else None,
        "policy": requirement.policy or None,
        "fix": _mends(requirement),
        "why": requirement.reason,
        "reference": requirement.reference or None,
    }
