"""The rows of one hypervisor from run to run: each with its verdict before, its last turn, and whether it is gone.

It is computed from the verdicts of every run, so the order in which runs are merged does not matter.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from reclaim.base.verdict import Verdict

#: the row of a hypervisor that no connection reached
REACH = "reach-hypervisor"
_BROKEN = (Verdict.NONCOMPLIANT, Verdict.ERROR)
#: a letter for each verdict, as runs keep them
_LETTERS = {
    Verdict.COMPLIANT: "c",
    Verdict.FIXED: "f",
    Verdict.PENDING: "p",
    Verdict.NONCOMPLIANT: "n",
    Verdict.ERROR: "e",
    Verdict.NOT_APPLICABLE: "-",
    Verdict.NOT_ASSESSABLE: "?",
    Verdict.WAIVED: "w",
}
_VERDICTS = {letter: verdict for verdict, letter in _LETTERS.items()}


class Scope(IntEnum):
    """How much a run judged."""

    #: some guests or requirements, or it was stopped: a row that it lacks may be there
    NARROW = 0
    #: every guest, and each requirement that it judged for all of them
    GUESTS = 1
    #: and all that decides whether a guest returns freed space
    WHOLE = 2


class RowNames(NamedTuple):
    """The names of a row. `optional`: a whole run judges it only if an option asks for that."""

    requirement: str
    guest: str | None
    optional: bool


@dataclass(slots=True)
class RowState:
    """One row as the last run left it. Runs are numbers of the table of runs."""

    verdict: Verdict
    run: int
    before: Verdict | None = None
    since: int | None = None
    gone: int | None = None

    @property
    def broke(self) -> bool:
        """True if it held in the run before, and no longer does. A row without a before has not broken."""
        if self.gone is not None or self.before is None:
            return False
        return self.before.holds and self.verdict in _BROKEN


class RunVerdicts(NamedTuple):
    """The verdicts of one run, by the numbers of the rows."""

    run: int
    scope: Scope
    reached: bool
    verdicts: Mapping[int, Verdict]


class Turned(NamedTuple):
    """A row whose verdict is another than in the run before that judged it."""

    run: int
    row: int
    before: Verdict
    verdict: Verdict


def step(
    states: dict[int, RowState], judged: RunVerdicts, subjects: Mapping[int, RowNames]
) -> list[Turned]:
    """Bring *states* from the run before to *judged*, and return the rows that turned."""
    turned = []
    for row, verdict in judged.verdicts.items():
        state = states.get(row)
        if state is None:
            states[row] = RowState(verdict, judged.run)
            continue
        state.before = state.verdict
        state.run, state.gone = judged.run, None
        if state.verdict is not verdict:
            turned.append(Turned(judged.run, row, state.verdict, verdict))
            state.verdict, state.since = verdict, judged.run
    _mark_gone(states, judged, subjects)
    return turned


def _mark_gone(
    states: dict[int, RowState], judged: RunVerdicts, subjects: Mapping[int, RowNames]
) -> None:
    """Mark the rows that *judged* would have if they were still there."""
    if not judged.reached:
        return
    rows = [subjects[row] for row in judged.verdicts]
    asked = {subject.requirement for subject in rows}
    guests = {subject.guest for subject in rows}
    for row, state in states.items():
        if state.run != judged.run and state.gone is None:
            if _is_gone(subjects[row], judged.scope, asked, guests):
                state.gone = judged.run


def _is_gone(
    subject: RowNames, scope: Scope, asked: set[str], guests: set[str | None]
) -> bool:
    if subject.requirement == REACH:
        return True
    if scope is Scope.NARROW:
        return False
    if subject.guest is not None and subject.guest not in guests:
        return True
    if subject.requirement in asked:
        return True
    return scope is Scope.WHOLE and not subject.optional


def fold(
    runs: Iterable[RunVerdicts], subjects: Mapping[int, RowNames]
) -> tuple[dict[int, RowState], list[Turned]]:
    """Return the states after *runs*, which come with the oldest first, and all that turned in them."""
    states: dict[int, RowState] = {}
    turned: list[Turned] = []
    for judged in runs:
        turned += step(states, judged, subjects)
    return states, turned


def packed(verdicts: Mapping[int, Verdict]) -> bytes:
    """Return *verdicts* small: the numbers of rows that lie side by side differ by 1."""
    last, steps, letters = 0, [], []
    for row in sorted(verdicts):
        steps.append(row - last)
        letters.append(_LETTERS[verdicts[row]])
        last = row
    return zlib.compress(json.dumps([steps, "".join(letters)]).encode("ascii"))


def unpacked(data: bytes) -> dict[int, Verdict]:
    """Return the verdicts that `packed` made *data* of."""
    steps, letters = json.loads(zlib.decompress(data))
    verdicts, row = {}, 0
    for step_, letter in zip(steps, letters, strict=True):
        row += step_
        verdicts[row] = _VERDICTS[letter]
    return verdicts
