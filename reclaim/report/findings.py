"""The findings of a run by their causes, and the reasons that keep reclaim from fixing them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from reclaim.base.text import counted, printable
from reclaim.base.verdict import Verdict
from reclaim.record.record import Record, Row
from reclaim.report.summary import waits_for_power
from reclaim.report.width import clip
from reclaim.requirement import catalogue

#: the verdicts that are findings, or were, the worst first
TOLD = (Verdict.ERROR, Verdict.NONCOMPLIANT, Verdict.PENDING, Verdict.FIXED)
#: in the reason of a row: the end of the finding, and the beginning of what keeps reclaim from fixing it
_BLOCK = re.compile(
    "; (?:withheld|not fixed|fixed in part|needs a power cycle, which is withheld): "
)
#: the requirement on which a fix depends; the second spelling is of older versions' records
_DEPENDS = re.compile(
    r"(?:depends on|waits for) ([a-z][a-z0-9-]*)(?: \((.*)\))?(?:, which has no row in this run)?"
)
_STOPPED = "nothing more is changed in this run"
_POWER = re.compile("; waits for (?:a|its next) power cycle")
_FOR_POWER = " for a power cycle (--restart)"
_IN_PLAN = "; an earlier change of this plan mends it too"
#: columns of a guest's name
_NAME = 30
#: characters of a requirement's reason that are shown
_WHY = 110


@dataclass
class Cause:
    """One thing that is wrong, with every row in which it was found."""

    verdict: Verdict
    requirement: str
    text: str
    rows: list[Row] = field(default_factory=list)

    @property
    def place(self) -> int:
        """The place of its verdict: the worst has the lowest."""
        return TOLD.index(self.verdict)

    @cached_property
    def subjects(self) -> list[str]:
        """The guests and disks in which it was found, fit to be shown; asked for when all rows are there."""
        return list(dict.fromkeys(map(subject, self.rows)))


def subject(row: Row) -> str:
    """Return the guest and the disk of *row*, or the path of its copy or job, fit to be shown."""
    guest = clip(printable(row.guest or ""), _NAME)
    other = printable(" ".join(filter(None, (row.disk, row.backup))))
    return " ".join(filter(None, (guest, other)))


def is_told(row: Row) -> bool:
    """True if *row* is a finding, or was one before it was fixed."""
    return row.verdict in TOLD


def split(row: Row) -> tuple[str, str]:
    """Return the finding of *row*, and the reason that keeps reclaim from fixing it, or ""."""
    reason = printable(row.reason or row.evidence or "", lines=True)
    reason = reason.replace(_IN_PLAN, "").removeprefix(
        f"{printable(row.guest or '')}: "
    )
    block = _BLOCK.search(reason)
    if block is None:
        return _POWER.split(reason, maxsplit=1)[0], ""
    return reason[: block.start()], reason[block.end() :]


def depends(row: Row) -> bool:
    """True if the fix of *row* depends on another row, which names the way on."""
    return _DEPENDS.match(split(row)[1]) is not None


def causes(record: Record) -> list[Cause]:
    """Return the causes: the worst verdict first, then the requirement and the cause with the most rows."""
    several: dict[tuple[Verdict, str, str], Cause] = {}
    for row in filter(is_told, record.results):
        text, _ = split(row)
        key = (row.verdict, row.requirement, text)
        several.setdefault(key, Cause(*key)).rows.append(row)
    rows: Counter[tuple[Verdict, str]] = Counter()
    for cause in several.values():
        rows[cause.verdict, cause.requirement] += len(cause.rows)

    def order(cause: Cause) -> tuple[int, int, str, int]:
        alike = rows[cause.verdict, cause.requirement]
        return cause.place, -alike, cause.requirement, -len(cause.rows)

    return sorted(several.values(), key=order)


def totals(record: Record) -> list[str]:
    """Return a line for each requirement with findings: their number, and the number of guests that have them."""
    rows: dict[str, list[Row]] = {}
    for row in record.results:
        if row.verdict in (Verdict.NONCOMPLIANT, Verdict.PENDING):
            rows.setdefault(row.requirement, []).append(row)
    lines = []
    for slug, several in sorted(rows.items(), key=lambda entry: -len(entry[1])):
        guests = len({row.guest for row in several if row.guest is not None})
        where = f" in {counted(guests, 'guest')}" if guests else ""
        lines.append(f"{slug}: {counted(len(several), 'finding')}{where}")
    return lines


def why(slug: str) -> str:
    """Return the reason for which the requirement *slug* exists, in one short line, or ""."""
    declared = catalogue().get(slug)
    if declared is None:
        return ""
    text = " ".join(declared.reason.partition("\n\n")[0].replace("`", "").split())
    if len(text) <= _WHY:
        return text
    # the first sentence, or the first clause
    for end in (". ", "; ", ": "):
        head = text.partition(end)[0]
        if len(head) <= _WHY:
            return f"{head}."
    return f"{text[:_WHY]}…"


def balance(record: Record) -> list[str]:
    """Return how many findings a plan or a fix mends, and a line for each reason that keeps reclaim from the others."""
    mode = record.run.mode
    every = list(filter(is_told, record.results))
    if mode == "audit" or not every:
        return []
    # "could not look" is no finding
    rows = [row for row in every if row.verdict is not Verdict.ERROR]
    is_done = _is_planned if mode == "plan" else _is_fixed
    done = [row for row in rows if is_done(row)]
    rest = [row for row in rows if not is_done(row)]
    verb = _verb(mode, len(done))
    lines = [f"{len(done)} of {counted(len(rows), 'finding')} {verb} fixed"]
    blocks = _blocks(rest)
    if "--restart" in record.run.arguments:
        blocks = [line.replace(_FOR_POWER, " for a power cycle") for line in blocks]
    lines += blocks
    if failed := len(every) - len(rows):
        lines.append(f"looking failed in {counted(failed, 'row')}")
    return lines


def _verb(mode: str, count: int) -> str:
    if mode == "plan":
        return "would be"
    return "was" if count == 1 else "were"


def _is_fixed(row: Row) -> bool:
    return row.verdict is Verdict.FIXED


def _is_planned(row: Row) -> bool:
    """True if the plan mends *row*, by a change of its own or of another row. A power cycle takes --restart."""
    if waits_for_power(row):
        return False
    if _IN_PLAN in (row.reason or ""):
        return True
    _, left = split(row)
    return bool(row.changes) and not left


def _blocks(rows: Iterable[Row]) -> list[str]:
    """Return a line for each reason that keeps *rows* from being fixed, the most frequent first."""
    lines: Counter[tuple[str, str, str]] = Counter(map(_block, rows))
    return [
        f"{count} {one if count == 1 else several}{text}"
        for (one, several, text), count in lines.most_common()
    ]


def _block(row: Row) -> tuple[str, str, str]:
    """Return the words for one row and for several, and the reason that keeps them from being fixed."""
    _, reason = split(row)
    if other := _DEPENDS.match(reason):
        slug, state = other[1], other[2]
        return "waits for ", "wait for ", f"{slug}: {state}" if state else slug
    if reason.startswith(_STOPPED):
        # the first such row has the whole reason, and so has a line of its own
        return "is not fixed: ", "are not fixed: ", _STOPPED
    if reason:
        return "is not fixed: ", "are not fixed: ", " ".join(reason.split())
    if row.verdict is Verdict.PENDING or waits_for_power(row):
        if row.next_window is not None:
            return "waits", "wait", " for a power cycle in a maintenance window"
        return "waits", "wait", _FOR_POWER
    return "is left", "are left", ""


def by_guest(record: Record) -> list[tuple[str, list[Row]]]:
    """Return the findings of each guest under its name; those of no guest under the hypervisor's."""
    found = []
    for guest, every in record.by_guest():
        if rows := list(filter(is_told, every)):
            found.append((printable(guest or record.hypervisor.name), rows))
    return found
