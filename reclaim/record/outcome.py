"""The outcome of one hypervisor's part of a run, as counts: programs read them, and need not search words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from reclaim.base.verdict import Verdict

Status = Literal[0, 1, 2, 6]


class Outcome(BaseModel):
    """The outcome. Its counts are of rows, but for `applied` (changes) and `guests`.

    A count that records of schema 1 do not contain is null there, and so is `went_wrong` if it depends on one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    #: the exit status that this hypervisor alone would give the run
    status: Status
    #: one of `rolled_back`, `errors`, `left_off` and `failed` is above 0, or the run was cut short
    went_wrong: bool | None
    rolled_back: NonNegativeInt | None
    #: rows with the verdict error: looking failed
    errors: NonNegativeInt
    left_off: NonNegativeInt | None
    failed: NonNegativeInt | None
    #: changes that were applied and not undone
    applied: NonNegativeInt
    pending: NonNegativeInt
    verdicts: dict[Verdict, NonNegativeInt]
    guests: NonNegativeInt
    #: the folder of its reports, on the machine that made the run; null if it had none
    folder: str | None


class _ChangeOfRow(Protocol):
    @property
    def applied(self) -> bool: ...
    @property
    def undone(self) -> bool: ...


class Judged(Protocol):
    """A row, of the engine or of a record."""

    @property
    def guest(self) -> str | None: ...
    @property
    def verdict(self) -> Verdict: ...
    @property
    def changes(self) -> Sequence[_ChangeOfRow]: ...
    @property
    def rolled_back(self) -> bool | None: ...
    @property
    def left_off(self) -> bool | None: ...
    @property
    def failed(self) -> bool | None: ...


def outcome_of(
    rows: Sequence[Judged],
    folder: str | None,
    *,
    cut_short: bool = False,
    stopped: bool = False,
) -> Outcome:
    """Return the outcome of a run with *rows*; *stopped* if a signal or a fault ended it."""
    verdicts = Counter(row.verdict for row in rows)
    rolled_back = _count([row.rolled_back for row in rows])
    left_off = _count([row.left_off for row in rows])
    failed = _count([row.failed for row in rows])
    troubles = (rolled_back, verdicts[Verdict.ERROR], left_off, failed)
    return Outcome(
        status=_status(verdicts, cut_short=cut_short, stopped=stopped),
        went_wrong=True if cut_short else _is_any(troubles),
        rolled_back=rolled_back,
        errors=verdicts[Verdict.ERROR],
        left_off=left_off,
        failed=failed,
        applied=sum(
            change.applied and not change.undone
            for row in rows
            for change in row.changes
        ),
        pending=verdicts[Verdict.PENDING],
        verdicts={verdict: verdicts[verdict] for verdict in Verdict},
        guests=len({row.guest for row in rows if row.guest is not None}),
        folder=folder,
    )


def _count(flags: Sequence[bool | None]) -> int | None:
    """Return how many of *flags* are true, or None if one is not known."""
    return None if None in flags else sum(map(bool, flags))


def _is_any(counts: Sequence[int | None]) -> bool | None:
    """True if one of *counts* is above 0; None if that depends on one that is not known."""
    if any(counts):
        return True
    return None if None in counts else False


def _status(verdicts: Counter[Verdict], *, cut_short: bool, stopped: bool) -> Status:
    if stopped:
        return 2
    if any(verdict.outcome == "failed" for verdict in verdicts):
        return 1
    if cut_short:
        return 2
    return 6 if verdicts[Verdict.NOT_ASSESSABLE] else 0
