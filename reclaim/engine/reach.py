"""The one row of a hypervisor that could not be reached: nothing else is judged there."""

from __future__ import annotations

from reclaim.base.text import printable
from reclaim.base.verdict import Judgement, Result, Verdict
from reclaim.changes.change import Change
from reclaim.engine.engine import Subject
from reclaim.engine.part import Part
from reclaim.requirement import REACH_SLUG, Requirement


def reach_hypervisor() -> str:
    """Nothing is known of a hypervisor that does not answer."""
    raise NotImplementedError("it is judged while the run connects")


def _nothing() -> list[Change]:
    return []


#: in no file of checks: no selection of requirements may hide it
REACH = Requirement(
    slug=REACH_SLUG,
    title="The hypervisor can be reached",
    stage="access",
    check=reach_hypervisor,
    fixer=_nothing,
    after=(),
    reference="",
)
reach_hypervisor.__requirement__ = REACH  # type: ignore[attr-defined]


def row(part: Part) -> Result:
    """Return the row of *part*, whose hypervisor could not be reached."""
    result = part.engine.result(REACH, Subject(part.hypervisor))
    result.take(Judgement(Verdict.ERROR, printable(part.unreached)))
    return result
