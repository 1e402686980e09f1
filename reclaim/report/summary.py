"""What a run comes to: how each guest stands, the bytes, the one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from reclaim.base.text import size
from reclaim.base.verdict import Verdict
from reclaim.record.record import Record, Row, Storage
from reclaim.requirement import catalogue
from reclaim.space.backlog import tolerated

#: without one of these nothing a guest frees reaches the host: who did not ask for them all cannot say that it does
ROAD = ("disk-discard", "disk-bus", "disc-max", "fstrim-timer")


class Standing(str, Enum):
    """How one guest stands, the worst first."""

    OPEN = "does not return freed space"
    PENDING = "waits"
    UNKNOWN = "could not be judged to the end"
    WAIVED = "is waived in part"
    RETURNS = "returns freed space"

    def __str__(self) -> str:
        return self.value


def standing(verdicts: Iterable[Verdict]) -> Standing:
    """The worst of *verdicts* says how the guest stands; "could not look" is no finding, and no pass."""
    every = set(verdicts)
    if Verdict.NONCOMPLIANT in every:
        return Standing.OPEN
    if Verdict.PENDING in every:
        return Standing.PENDING
    if every & {Verdict.NOT_ASSESSABLE, Verdict.ERROR}:
        return Standing.UNKNOWN
    return Standing.WAIVED if Verdict.WAIVED in every else Standing.RETURNS


def is_whole(record: Record) -> bool:
    """Was all asked that tells whether a guest returns what it frees?"""
    return record.asked.issuperset(ROAD)


def is_of_backup(row: Row) -> bool:
    """Is it about a copy, or what makes copies?"""
    known = catalogue().get(row.requirement)
    return known is not None and known.stage == "backup"


def standing_in(record: Record, rows: Iterable[Row]) -> Standing:
    """How the guest with *rows* stands: what it frees comes back or does not, whatever its copies take."""
    whole = is_whole(record)
    return standing(row.verdict for row in rows if not (whole and is_of_backup(row)))


def waits_for_power(row: Row) -> bool:
    """Does it take a power cycle to let this row hold?"""
    known = catalogue().get(row.requirement)
    if known is None or known.stage != "power":
        return False
    if row.verdict is Verdict.PENDING:
        return True
    # of the others in this stage most findings take something else
    is_finding = row.verdict is Verdict.NONCOMPLIANT
    return is_finding and row.requirement == "live-definition"


def reclaimable(disk: Storage) -> int | None:
    """Bytes that a trim of *disk* gives back, where that is worth one; None where nobody could count.

    In records from before that was counted: what the host holds beyond what the guest needs.
    """
    used = disk.used
    if disk.reclaimable_after is not None:
        spare = disk.reclaimable_after
    elif disk.allocated_after is None or used is None:
        return None
    else:
        spare = disk.allocated_after - used
    return spare if spare > tolerated(used or 0) else 0


def came_back(disk: Storage) -> int | None:
    """Bytes that the host holds less for *disk* than when the run began; None where nobody could count."""
    if disk.allocated_before is None or disk.allocated_after is None:
        return None
    return max(0, disk.allocated_before - disk.allocated_after)


@dataclass(frozen=True)
class Figures:
    """The counts of one run, or of several."""

    guests: int
    standings: Counter[Standing]
    verdicts: Counter[Verdict]
    waiting_for_power: int
    #: None where nobody could look into a guest
    reclaimable: int | None
    reclaimed: int
    #: False where too little was asked to tell whether a guest returns what it frees
    whole_road: bool
    #: rows on copies, and on what makes them, that do not hold
    backups: int

    @property
    def sentence(self) -> str:
        if not self.guests:
            return "No guest was judged."
        does = (
            "return freed space"
            if self.whole_road
            else "meet what was judged (not everything was)"
        )
        parts = [f"{self.standings[Standing.RETURNS]} of {self.guests} guests {does}"]
        if self.reclaimed:
            parts.append(f"{size(self.reclaimed)} came home in this run")
        if self.reclaimable:
            parts.append(f"{size(self.reclaimable)} can be had back")
        elif self.reclaimable is None:
            parts.append("nobody could count what can be had back")
        if self.waiting_for_power:
            parts.append(
                _say(self.waiting_for_power, "waits", "wait") + " for a power cycle"
            )
        if unknown := self.standings[Standing.UNKNOWN]:
            parts.append(f"{unknown} could not be judged to the end")
        if waived := self.standings[Standing.WAIVED]:
            parts.append(_say(waived, "is", "are") + " waived in part")
        if self.backups:
            parts.append(
                f"{self.backups} finding{'s' * (self.backups != 1)} on backups"
            )
        return "; ".join(parts) + "."


def known(counts: Iterable[int | None]) -> list[int]:
    """Those of *counts* that somebody could count."""
    return [count for count in counts if count is not None]


def figures(records: Sequence[Record]) -> Figures:
    """Add *records* up."""
    standings: Counter[Standing] = Counter()
    verdicts: Counter[Verdict] = Counter()
    power = backups = 0
    spare = []
    for record in records:
        for guest, rows in record.by_guest():
            if guest is not None:
                standings[standing_in(record, rows)] += 1
                power += any(map(waits_for_power, rows))
        for row in record.results:
            verdicts[row.verdict] += 1
            backups += row.verdict.outcome == "failed" and is_of_backup(row)
        spare += known(map(reclaimable, record.storage))
    return Figures(
        guests=standings.total(),
        standings=standings,
        verdicts=verdicts,
        waiting_for_power=power,
        reclaimable=sum(spare) if spare else None,
        reclaimed=sum(record.reclaimed_bytes for record in records),
        whole_road=all(map(is_whole, records)),
        backups=backups,
    )


def _say(number: int, singular: str, plural: str) -> str:
    return f"{number} guest {singular}" if number == 1 else f"{number} guests {plural}"
