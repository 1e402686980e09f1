"""The result of a run in short: the standing of each guest, the bytes, one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from reclaim.base.text import counted, size
from reclaim.base.verdict import Verdict
from reclaim.record.record import Record, Row, Storage
from reclaim.requirement import catalogue

#: freed space reaches the host only if all of these hold, so a run that leaves one out cannot promise that
ROAD = ("disk-discard", "disk-bus", "disc-max", "fstrim-timer")


class Standing(str, Enum):
    """The standing of one guest, the worst first."""

    OPEN = "does not return freed space"
    PENDING = "waits"
    UNKNOWN = "only partly checked"
    WAIVED = "is waived in part"
    RETURNS = "returns freed space"

    def __str__(self) -> str:
        return self.value


def standing(verdicts: Iterable[Verdict]) -> Standing:
    """Return the standing after the worst of *verdicts*. "Could not look" is no finding, and no pass."""
    every = set(verdicts)
    if Verdict.NONCOMPLIANT in every:
        return Standing.OPEN
    if Verdict.PENDING in every:
        return Standing.PENDING
    if every & {Verdict.NOT_ASSESSABLE, Verdict.ERROR}:
        return Standing.UNKNOWN
    return Standing.WAIVED if Verdict.WAIVED in every else Standing.RETURNS


def is_whole(record: Record) -> bool:
    """True if the run judged all requirements that decide whether a guest returns freed space."""
    return record.asked.issuperset(ROAD)


def is_of_backup(row: Row) -> bool:
    """True if *row* is about a copy or a job that makes copies."""
    known = catalogue().get(row.requirement)
    return known is not None and known.stage == "backup"


def is_by_rule(row: Row) -> bool:
    """True if *row* is a finding about a bus through which discards pass as well as through scsi."""
    from reclaim.handles import scsi  # noqa: PLC0415 (start-up)

    reason = row.reason or ""
    is_of_rule = scsi.BY_RULE in reason or scsi.OF_DISK_BUS in reason
    return row.verdict is Verdict.NONCOMPLIANT and is_of_rule


def standing_in(record: Record, rows: Iterable[Row]) -> Standing:
    """Return the standing of the guest with *rows*. Its copies do not count if its whole road was judged.

    Nor do findings about a bus that returns freed space too.
    """
    whole = is_whole(record)
    return standing(
        row.verdict
        for row in rows
        if not (whole and (is_of_backup(row) or is_by_rule(row)))
    )


def waits_for_power(row: Row) -> bool:
    """True if this row needs a power cycle to hold."""
    known = catalogue().get(row.requirement)
    if known is None or known.stage != "power":
        return False
    if row.verdict is Verdict.PENDING:
        return True
    # of the others in this stage most findings take something else
    is_finding = row.verdict is Verdict.NONCOMPLIANT
    return is_finding and row.requirement == "live-definition"


def reclaimable(disk: Storage) -> int | None:
    """Return the bytes that a trim of *disk* gives back, 0 if it is not worth one, None if they are not known.

    Records of older versions lack that count: then it is the bytes that the host holds beyond the guest's need.
    """
    from reclaim.space.backlog import tolerated  # noqa: PLC0415 (start-up)

    used = disk.used
    if disk.reclaimable_after is not None:
        spare = disk.reclaimable_after
    elif disk.allocated_after is None or used is None:
        return None
    else:
        spare = disk.allocated_after - used
    return spare if spare > tolerated(used or 0) else 0


def came_back(disk: Storage) -> int | None:
    """Return how many bytes less the host holds for *disk* than before the run, or None if that is not known."""
    if disk.allocated_before is None or disk.allocated_after is None:
        return None
    return max(0, disk.allocated_before - disk.allocated_after)


#: the order in which the sentence names them, and its words for one guest and for several
_ORDER = (
    Standing.OPEN,
    Standing.RETURNS,
    Standing.PENDING,
    Standing.UNKNOWN,
    Standing.WAIVED,
)
_WORDS = {
    Standing.OPEN: ("does not return freed space", "do not return freed space"),
    Standing.RETURNS: ("returns freed space", "return freed space"),
    Standing.PENDING: ("waits for a power cycle", "wait for a power cycle"),
    Standing.UNKNOWN: ("was only partly checked", "were only partly checked"),
    Standing.WAIVED: ("is waived in part", "are waived in part"),
}
#: if too few requirements were judged to know whether a guest returns freed space
_IN_PART = {
    **_WORDS,
    Standing.OPEN: (
        "does not pass the checks that ran",
        "do not pass the checks that ran",
    ),
    Standing.RETURNS: ("passes the checks that ran", "pass the checks that ran"),
}
_SAMPLES = "SAMPLES"
_STOPPED = "stopped early"


@dataclass(frozen=True)
class Figures:
    """The counts of one run, or of several."""

    guests: int
    standings: Counter[Standing]
    verdicts: Counter[Verdict]
    waiting_for_power: int
    #: None if no guest could be looked into
    reclaimable: int | None
    reclaimed: int
    #: False if too few requirements were judged to know whether a guest returns freed space
    whole_road: bool
    #: rows on copies and their jobs that do not hold
    backups: int
    #: guests that return freed space with a disk on another bus than scsi, against the rule
    by_rule: int = 0
    #: guests that do not return freed space, and need a power cycle for it
    open_for_power: int = 0
    #: guests that are only partly checked because looking failed
    failed: int = 0
    #: the run was stopped before everything was judged
    cut_short: bool = False
    #: the command line chose some guests or requirements
    chosen: bool = False
    #: the guests are definitions of libvirt's test driver
    samples: bool = False
    #: hypervisors that could not be reached, so that none of their guests was judged
    unreached: int = 0

    @property
    def is_whole(self) -> bool:
        """True if the counts are those of whole hypervisors."""
        return self.whole_road and not self.cut_short and not self.chosen

    @property
    def sentence(self) -> str:
        """The result in one sentence. Good, bad and unknown guests are counted apart."""
        parts = list(self._standings())
        if self.unreached:
            hypervisors = counted(self.unreached, "hypervisor")
            parts.append(f"{hypervisors} could not be reached")
        parts = parts or ["No guest was judged"]
        if self.reclaimed:
            parts.append(f"this run freed {size(self.reclaimed)} on the host")
        if self.reclaimable:
            parts.append(f"{size(self.reclaimable)} can be freed now")
        elif self.reclaimable is None and self.guests:
            parts.append("the space that can be freed is unknown")
        if self.backups:
            parts.append(counted(self.backups, "finding") + " on backups")
        return f"{self._heading}{'; '.join(parts)}."

    def words(self, standing: Standing) -> str:
        """Return the words for one guest with *standing*, as far as the checks that ran allow."""
        is_known = self.whole_road or standing not in (Standing.OPEN, Standing.RETURNS)
        return str(standing) if is_known else _IN_PART[standing][0]

    @property
    def _heading(self) -> str:
        """The words before the sentence, if it is about samples or about a run that was stopped."""
        words = [_SAMPLES] * self.samples + [_STOPPED] * self.cut_short
        text = ", ".join(words)
        return f"{text[0].upper()}{text[1:]}: " if text else ""

    def _standings(self) -> Iterator[str]:
        """Yield a part for each standing that guests have. The first has the number of all guests."""
        words = _WORDS if self.whole_road else _IN_PART
        there = [standing for standing in _ORDER if self.standings[standing]]
        for place, standing in enumerate(there):
            count = self.standings[standing]
            verb = words[standing][count != 1]
            aside = self._aside(standing, is_first=place == 0)
            if place == 0:
                guests = counted(self.guests, "guest")
                yield f"{count} of {guests} {verb}{aside}"
            elif standing is Standing.RETURNS:
                # the first part has the object
                yield f"{count} {verb.split()[0]} {'it' if self.whole_road else 'them'}{aside}"
            else:
                yield f"{count} {verb}{aside}"

    def _aside(self, standing: Standing, *, is_first: bool) -> str:
        """Return second counts about the guests with *standing*, and the bounds of the first part, or ""."""
        notes = []
        if is_first and standing is not Standing.UNKNOWN:
            notes += ["not all checks ran"] * (not self.whole_road)
            notes += ["only the selection was judged"] * self._is_selection
        if standing is Standing.OPEN and self.open_for_power:
            needs = "needs" if self.open_for_power == 1 else "need"
            notes.append(f"{self.open_for_power} {needs} a power cycle")
        if standing is Standing.UNKNOWN and self.failed:
            notes.append(f"looking failed in {self.failed}")
        bus = ""
        if standing is Standing.RETURNS and self.by_rule:
            bus = f", {self.by_rule} of them on another bus than scsi"
        return bus + (f" ({'; '.join(notes)})" if notes else "")

    @property
    def _is_selection(self) -> bool:
        return self.chosen and self.whole_road


def known(counts: Iterable[int | None]) -> list[int]:
    """Return *counts* without the unknown ones."""
    return [count for count in counts if count is not None]


def figures(records: Sequence[Record]) -> Figures:
    """Return the sums over *records*."""
    standings: Counter[Standing] = Counter()
    verdicts: Counter[Verdict] = Counter()
    power = needy = backups = by_rule = failed = 0
    spare = []
    for record in records:
        for guest, rows in record.by_guest():
            if guest is not None:
                stands = standing_in(record, rows)
                standings[stands] += 1
                by_rule += stands is Standing.RETURNS and any(map(is_by_rule, rows))
                failed += stands is Standing.UNKNOWN and any(map(_is_error, rows))
                waits = any(map(waits_for_power, rows))
                power += waits
                needy += waits and stands is Standing.OPEN
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
        by_rule=by_rule,
        open_for_power=needy,
        failed=failed,
        cut_short=any(record.run.cut_short for record in records),
        chosen=any(record.run.chosen for record in records),
        samples=bool(records) and all(map(is_of_samples, records)),
        unreached=sum(map(is_unreached, records)),
    )


def is_unreached(record: Record) -> bool:
    """True if *record* is of a hypervisor that could not be reached."""
    return not record.hypervisor.reached


def is_of_samples(record: Record) -> bool:
    """True if the guests of *record* are definitions of libvirt's test driver."""
    return is_sample(record.hypervisor.uri)


def is_sample(uri: str) -> bool:
    """True if *uri* is that of libvirt's test driver."""
    return uri.startswith("test:")


def _is_error(row: Row) -> bool:
    return row.verdict is Verdict.ERROR
