"""The values that the database keeps of one record."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit

from reclaim.base.errors import ReclaimError
from reclaim.base.secret import redacted
from reclaim.base.text import LIMIT, size
from reclaim.base.verdict import Verdict
from reclaim.database.history import REACH, Scope
from reclaim.record.outcome import Outcome
from reclaim.record.record import Record
from reclaim.record.results import rfc3339
from reclaim.report import compare, summary
from reclaim.report.summary import Standing

#: a clock that is ahead by less is right enough
_AHEAD = timedelta(days=1)
#: bytes of a disk, and of all of a hypervisor, that add up to a number that SQLite can hold
_MOST = 2**53
#: requirements of one run: reclaim has some dozens
_REQUIREMENTS = 500
#: characters of the name of one
_SLUG = 100
#: characters of the URI of a hypervisor, which may become a part of its name
_URI = 1000
#: hypervisors that one inventory names, and characters of such a name (DNS has 253)
_NAMED, _NAME = 10_000, 255


@dataclass(frozen=True)
class RunValues:
    """The figures of one run, as its row has them. Sizes in bytes, None if they are not known."""

    name: str
    mode: str
    started: str
    ended: str
    week: str
    version: str
    scope: Scope
    road: bool
    reached: bool
    standings: dict[str, Standing]
    reclaimable: int | None
    allocated: int | None
    reclaimed: int
    outcome: Outcome
    expected: Sequence[str]
    digest: str
    undone: int
    tally: Counter[tuple[str, Verdict]]


def of_run(record: Record, name: str, now: datetime) -> RunValues:
    """Return the figures of *record*, the run called *name*. Raises ReclaimError if its clock or sizes are wrong."""
    started, ended = map(_utc, (record.run.started, record.run.ended))
    for moment, verb in ((started, "began"), (ended, "ended")):
        if moment > now + _AHEAD:
            raise ReclaimError(
                f"it {verb} on {moment:%Y-%m-%d}, which is to come: its clock, or that of this machine, is wrong"
            )
    _expect_sizes(record)
    _expect_counts(record)
    changes = [change for row in record.results for change in row.changes]
    year, week, _ = started.isocalendar()
    return RunValues(
        name=name[:LIMIT],
        mode=record.run.mode,
        started=rfc3339(started),
        ended=rfc3339(ended),
        week=f"{year:04}-W{week:02}",
        version=record.run.version[:LIMIT],
        scope=scope_of(record),
        road=summary.is_whole(record),
        reached=is_reached(record),
        standings=_standings(record),
        reclaimable=_sum([summary.reclaimable(disk) for disk in record.storage]),
        allocated=_sum([disk.allocated_after for disk in record.storage]),
        reclaimed=record.reclaimed_bytes,
        outcome=record.outcome,
        expected=_expected(record),
        digest=_digest(record),
        undone=sum(change.undone for change in changes),
        tally=Counter((row.requirement, row.verdict) for row in record.results),
    )


def _utc(moment: datetime) -> datetime:
    """Return *moment* in UTC. Raises ReclaimError if it lies in no year."""
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError as exc:
        raise ReclaimError(f"{moment}: no such time") from exc


def _expect_sizes(record: Record) -> None:
    counts = [record.reclaimed_bytes]
    for disk in record.storage:
        for count in (disk.allocated_after, disk.used, disk.reclaimable_after):
            counts.append(count or 0)
    if sum(counts) > _MOST:
        raise ReclaimError(f"its disks hold more than {size(_MOST)}")


def _expect_counts(record: Record) -> None:
    """Raise ReclaimError if the record counts, or names, more than a run can have."""
    outcome = record.outcome
    counts = (
        outcome.rolled_back,
        outcome.errors,
        outcome.left_off,
        outcome.failed,
        outcome.applied,
    )
    if max(count or 0 for count in counts) > _MOST:
        raise ReclaimError(f"its outcome counts more than {_MOST:,}")
    if len(record.asked) > _REQUIREMENTS:
        raise ReclaimError(f"it has rows of more than {_REQUIREMENTS} requirements")
    if len(record.hypervisor.uri) > _URI:
        raise ReclaimError(f"its URI has more than {_URI} characters")
    if any(len(requirement) > _SLUG for requirement in record.asked):
        raise ReclaimError(
            f"the name of a requirement has more than {_SLUG} characters"
        )


def _expected(record: Record) -> list[str]:
    """Return the hypervisors that the inventory of the run names."""
    named = record.run.inventory_hypervisors or []
    return [name for name in named[:_NAMED] if len(name) <= _NAME]


def is_reached(record: Record) -> bool:
    """True if libvirt answered on the hypervisor."""
    return record.hypervisor.reached and not any(
        row.requirement == REACH and row.verdict is Verdict.ERROR
        for row in record.results
    )


def scope_of(record: Record) -> Scope:
    """Return how much the run judged."""
    if compare.is_narrow(record) or not is_reached(record):
        return Scope.NARROW
    return Scope.WHOLE if summary.is_whole(record) else Scope.GUESTS


def _standings(record: Record) -> dict[str, Standing]:
    """Return the standing of each guest. If not all was judged that decides about it, no guest returns freed space."""
    road = summary.is_whole(record)
    standings = {}
    for guest, rows in record.by_guest():
        if guest is None:
            continue
        standing = summary.standing_in(record, rows)
        is_known = road or standing in (Standing.OPEN, Standing.PENDING)
        standings[guest] = standing if is_known else Standing.UNKNOWN
    return standings


def _sum(counts: list[int | None]) -> int | None:
    known = summary.known(counts)
    return sum(known) if known else None


def _digest(record: Record) -> str:
    """Return a digest of all that undo does not change: two files with the same one are of the same run."""
    made = hashlib.blake2b(digest_size=16)
    made.update(f"{record.run.started!r} {record.run.ended!r}".encode())
    for row in record.results:
        names = row.requirement, row.guest, row.disk, row.backup, row.verdict.value
        made.update(repr(names).encode("utf-8", "surrogatepass"))
    return made.hexdigest()


def place_of(record: Record) -> str:
    """Return the host of the record's URI, "" if reclaim ran on the hypervisor itself.

    A URI of libvirt's test driver is a place of its own.
    """
    uri = redacted(record.hypervisor.uri)
    if summary.is_sample(uri):
        return uri
    try:
        parts = urlsplit(uri)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return uri
    return f"{host}{port}"
