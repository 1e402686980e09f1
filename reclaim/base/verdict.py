"""The verdict on one requirement for one guest, disk or backup, and the record that is kept of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from enum import Enum
from typing import Any, NamedTuple

from reclaim.base.secret import redacted


class Verdict(str, Enum):
    COMPLIANT = "compliant"
    FIXED = "fixed"
    PENDING = "pending"
    NONCOMPLIANT = "noncompliant"
    NOT_APPLICABLE = "not-applicable"
    NOT_ASSESSABLE = "not-assessable"
    WAIVED = "waived"
    ERROR = "error"

    def __str__(self) -> str:
        return self.value

    @property
    def outcome(self) -> str:
        """pytest's outcome for this verdict: verdicts ride beside outcomes, never in them."""
        return _OUTCOMES[self]

    @property
    def holds(self) -> bool:
        """True if a fixer that waits for this requirement may run."""
        return self in (Verdict.COMPLIANT, Verdict.FIXED, Verdict.NOT_APPLICABLE)


_OUTCOMES = {
    Verdict.COMPLIANT: "passed",
    Verdict.FIXED: "passed",
    Verdict.PENDING: "failed",
    Verdict.NONCOMPLIANT: "failed",
    Verdict.ERROR: "failed",
    Verdict.NOT_APPLICABLE: "skipped",
    Verdict.NOT_ASSESSABLE: "skipped",
    Verdict.WAIVED: "skipped",
}


class WaiverRecord(NamedTuple):
    """A waiver of the inventory, as a row records it; its text holds no secret. It may have ended."""

    reason: str
    until: date | None = None

    def to_json(self) -> dict[str, Any]:
        until = self.until.isoformat() if self.until else None
        return {"reason": redacted(self.reason), "until": until}


class Judgement(NamedTuple):
    """The outcome of one check: a verdict, the reason for it, and the evidence."""

    verdict: Verdict
    reason: str = ""
    evidence: str = ""


@dataclass
class ChangeRecord:
    """One proposed or applied change as it stands in results.json. Its words hold no secret."""

    kind: str
    target: str
    diff: str
    applied: bool = False
    undone: bool = False

    def __post_init__(self) -> None:
        self.target, self.diff = redacted(self.target), redacted(self.diff)

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


#: what a row says in words
_WORDS = ("reason", "evidence")


@dataclass(slots=True)
class Result:
    """One row of results.json. Absent keys are None; *seconds* is wall time.

    Its texts are redacted whenever they are set: JUnit, the reports and the terminal have them from here.
    """

    requirement: str
    title: str
    hypervisor: str
    guest: str | None
    disk: str | None
    backup: str | None
    verdict: Verdict
    reason: str = ""
    evidence: str = ""
    changes: list[ChangeRecord] = field(default_factory=list)
    seconds: float = 0.0
    #: the waiver of the inventory, in force or ended
    waiver: WaiverRecord | None = None
    #: the beginning of the maintenance window that it waits for
    next_window: datetime | None = None
    #: changes of it were applied in this run and taken back in it
    rolled_back: bool = False
    #: its guest was up before a power cycle, of this run or of one that died, and is off
    left_off: bool = False
    #: a change of it was begun and not made, or reclaim could change nothing more
    failed: bool = False

    def __setattr__(self, name: str, value: object) -> None:
        if name in _WORDS and isinstance(value, str):
            value = redacted(value)
        object.__setattr__(self, name, value)

    def take(self, judgement: Judgement) -> None:
        """Let *judgement* be the verdict of this row."""
        self.verdict = judgement.verdict
        self.reason = judgement.reason
        self.evidence = judgement.evidence
        self.next_window = None

    def to_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "requirement": self.requirement,
            "title": self.title,
            "guest": self.guest,
            "disk": self.disk,
            "backup": self.backup,
            "verdict": str(self.verdict),
            "reason": self.reason or None,
            "evidence": self.evidence or None,
            "changes": [change.to_json() for change in self.changes],
            "seconds": round(self.seconds, 3),
            "rolled_back": self.rolled_back,
            "left_off": self.left_off,
            "failed": self.failed,
        }
        if self.waiver is not None:
            row["waiver"] = self.waiver.to_json()
        if self.next_window is not None:
            utc = self.next_window.astimezone(timezone.utc)
            row["next_window"] = utc.strftime("%Y-%m-%dT%H:%M:%SZ")
        return row
