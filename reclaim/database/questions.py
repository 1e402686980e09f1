"""The questions that `reclaim ask` knows by name."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from reclaim.base.verdict import Verdict
from reclaim.database.expected import Heard
from reclaim.record.results import rfc3339

#: days without a run: a weekly timer has two more
SILENT_DAYS = 9
#: days until a waiver ends
WAIVER_DAYS = 30

Row = tuple[Any, ...]


class Column(NamedTuple):
    """A column of an answer. `kind` is text, number, bytes, percent or time."""

    name: str
    kind: str = "text"


class Given(NamedTuple):
    """The values that a question may need beside the database."""

    now: datetime
    #: the names of the hypervisors that there should be; None if no list was given
    expected: Sequence[str] | None = None
    days: int | None = None


@dataclass(frozen=True)
class Question:
    """A question: its name, a line of help, its columns, and the function that answers it."""

    name: str
    help: str
    columns: tuple[Column, ...]
    answer: Callable[[sqlite3.Connection, Given], Iterator[Row]]
    #: does --inventory, does --days mean something to it?
    takes_inventory: bool = False
    takes_days: bool = False


# Not heard from -------------------------------------------------------------------------------


class _Contact(NamedTuple):
    """A hypervisor of the database: the end of the last run that reached it, and whether the newest one did."""

    name: str
    folder: str
    heard: str | None
    reached: bool
    reason: str | None


_CONTACTS = """
SELECT hypervisor.name, folder, heard, run.reached,
       (SELECT reason FROM judged WHERE judged.hypervisor = hypervisor.id AND verdict = 'error' AND gone IS NULL
        AND requirement = 'reach-hypervisor')
FROM hypervisor JOIN run ON run.id = newest ORDER BY hypervisor.name
"""


def silent(connection: sqlite3.Connection, given: Given) -> Iterator[Row]:
    """Yield the hypervisors that are silent, those that never sent a run first, with their state.

    `never`: no run was merged. `unreached`: the newest run did not reach it. `late`: its last run is too old.
    """
    contacts = [_Contact(*row) for row in connection.execute(_CONTACTS)]
    heard = Heard(contact.folder for contact in contacts)
    days = SILENT_DAYS if given.days is None else given.days
    for name in sorted(_expected(connection, given, days)):
        if not heard.named(name):
            yield name, "never", None, None, None
    silent_ones = []
    wanted = _wanted(heard, given)
    for contact in contacts:
        if wanted is not None and contact.folder not in wanted:
            continue
        age = given.now - _moment(contact.heard) if contact.heard else None
        if not contact.reached:
            state = "unreached"
        elif age is None or age > timedelta(days=days):
            state = "late"
        else:
            continue
        silent_ones.append(
            (contact.name, state, contact.heard, age and age.days, contact.reason)
        )
    yield from sorted(silent_ones, key=lambda row: (row[2] or "", row[0]))


def _wanted(heard: Heard, given: Given) -> set[str] | None:
    """Return the folders of the hypervisors on the list; None without a list. One that is not on it was taken away."""
    if given.expected is None:
        return None
    return {folder for name in given.expected for folder in heard.named(name)}


def _expected(connection: sqlite3.Connection, given: Given, days: int) -> Sequence[str]:
    """Return the hypervisors that there should be: of the list, else those that an inventory named lately."""
    if given.expected is not None:
        return given.expected
    lately = given.now - timedelta(days=days)
    named = connection.execute(
        "SELECT name FROM expected WHERE seen >= ?", (rfc3339(lately),)
    )
    return [name for (name,) in named]


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


# The others -----------------------------------------------------------------------------------

_WORST = """
SELECT name, open, pending, unknown, guests, failing, errors, reclaimable, heard FROM hypervisor
ORDER BY open + pending DESC, failing DESC, coalesce(reclaimable, 0) DESC, name
"""
_BYTES = """
SELECT name, reclaimable, allocated, reclaimed, guests, heard FROM hypervisor
ORDER BY coalesce(reclaimable, -1) DESC, coalesce(allocated, -1) DESC, name
"""
_TALLIES = """
SELECT week, requirement, verdict, rows FROM week_tally ORDER BY week DESC, requirement
"""
_BROKEN = """
SELECT run.started, hypervisor.name, guest, disk, backup, requirement, before, verdict, reason
FROM judged INDEXED BY judged_broke JOIN hypervisor ON hypervisor.id = judged.hypervisor JOIN run ON run.id = judged.run
WHERE broke ORDER BY run.started DESC, hypervisor.name, guest, requirement, disk, backup
"""
_WAIVERS = """
SELECT until, hypervisor.name, guest, disk, requirement, waiver, verdict
FROM judged JOIN hypervisor ON hypervisor.id = judged.hypervisor
WHERE until IS NOT NULL AND gone IS NULL AND until <= ?
ORDER BY until, hypervisor.name, guest, requirement, disk
"""
_WRONG = """
SELECT hypervisor.name, run.name, mode, status, rolled_back, left_off, failed, run.errors, path
FROM hypervisor JOIN run ON run.id = newest WHERE went_wrong ORDER BY hypervisor.name
"""
_ERRORS = """
SELECT hypervisor.name, guest, disk, backup, requirement, reason, run.started
FROM judged JOIN hypervisor ON hypervisor.id = judged.hypervisor JOIN run ON run.id = judged.run
WHERE verdict = 'error' AND gone IS NULL ORDER BY hypervisor.name, guest, requirement, disk, backup
"""


def _sql(text: str) -> Callable[[sqlite3.Connection, Given], Iterator[Row]]:
    def answer(connection: sqlite3.Connection, given: Given) -> Iterator[Row]:
        return iter(connection.execute(text))

    return answer


class PassRate(NamedTuple):
    """The rows of one requirement in one week. `rate` is in percent of those that hold or do not hold."""

    week: str
    requirement: str
    rate: float | None
    holds: int
    fails: int
    unknown: int
    waived: int
    not_applicable: int


_HOLD = (Verdict.COMPLIANT, Verdict.FIXED)
_FAIL = (Verdict.NONCOMPLIANT, Verdict.PENDING)
#: "could not look" is no pass and no finding
_UNKNOWN = (Verdict.ERROR, Verdict.NOT_ASSESSABLE)


def pass_rates(connection: sqlite3.Connection) -> Iterator[PassRate]:
    """Yield the pass rate of each requirement in each week, the newest week first."""
    tallies: dict[tuple[str, str], dict[str, int]] = {}
    for week, requirement, verdict, rows in connection.execute(_TALLIES):
        tallies.setdefault((week, requirement), {})[verdict] = rows
    for (week, requirement), counts in tallies.items():
        holds, fails, unknown = (
            sum(counts.get(str(verdict), 0) for verdict in verdicts)
            for verdicts in (_HOLD, _FAIL, _UNKNOWN)
        )
        rate = round(100 * holds / (holds + fails), 2) if holds + fails else None
        waived, other = (
            counts.get(str(verdict), 0)
            for verdict in (Verdict.WAIVED, Verdict.NOT_APPLICABLE)
        )
        yield PassRate(week, requirement, rate, holds, fails, unknown, waived, other)


def _pass_rate(connection: sqlite3.Connection, given: Given) -> Iterator[Row]:
    return pass_rates(connection)


def _waivers(connection: sqlite3.Connection, given: Given) -> Iterator[Row]:
    """Yield the waivers that end soon, and those that ended. A row with one that ended is judged again."""
    today = given.now.date()
    days = WAIVER_DAYS if given.days is None else given.days
    last = today + timedelta(days=days)
    for until, *names, reason, verdict in connection.execute(
        _WAIVERS, (last.isoformat(),)
    ):
        left = (datetime.strptime(until, "%Y-%m-%d").date() - today).days  # noqa: DTZ007 - a date
        state = "in force" if verdict == str(Verdict.WAIVED) else f"ended: {verdict}"
        yield until, left, *names, state, reason


def _number(name: str) -> Column:
    return Column(name, "number")


def _bytes(name: str) -> Column:
    return Column(name, "bytes")


_NAMES = Column("guest"), Column("disk"), Column("backup"), Column("requirement")
_HYPERVISOR = Column("hypervisor")

EVERY = (
    Question(
        "silent",
        "hypervisors that were never or are no longer heard from, by a list of those that there are (--inventory)",
        (
            _HYPERVISOR,
            Column("state"),
            Column("heard", "time"),
            _number("days"),
            Column("reason"),
        ),
        silent,
        takes_inventory=True,
        takes_days=True,
    ),
    Question(
        "worst",
        "hypervisors by the guests that do not return freed space",
        (
            _HYPERVISOR,
            _number("open"),
            _number("pending"),
            _number("unknown"),
            _number("guests"),
            _number("failing_rows"),
            _number("errors"),
            _bytes("reclaimable"),
            Column("heard", "time"),
        ),
        _sql(_WORST),
    ),
    Question(
        "bytes",
        "bytes that can be freed on each hypervisor, that its images hold, and that all its runs freed",
        (
            _HYPERVISOR,
            _bytes("reclaimable"),
            _bytes("allocated"),
            _bytes("reclaimed"),
            _number("guests"),
            Column("heard", "time"),
        ),
        _sql(_BYTES),
    ),
    Question(
        "pass-rate",
        "rows that hold, of those that hold or do not, by week and requirement",
        (
            Column("week"),
            Column("requirement"),
            Column("pass_rate", "percent"),
            _number("holds"),
            _number("fails"),
            _number("unknown"),
            _number("waived"),
            _number("not_applicable"),
        ),
        _pass_rate,
    ),
    Question(
        "newly-broken",
        "rows that held in the run before, and no longer do",
        (
            Column("judged", "time"),
            _HYPERVISOR,
            *_NAMES,
            Column("before"),
            Column("verdict"),
            Column("reason"),
        ),
        _sql(_BROKEN),
    ),
    Question(
        "waivers",
        f"waivers that end within {WAIVER_DAYS} days (--days), or have ended",
        (
            Column("until"),
            _number("days"),
            _HYPERVISOR,
            Column("guest"),
            Column("disk"),
            Column("requirement"),
            Column("state"),
            Column("reason"),
        ),
        _waivers,
        takes_days=True,
    ),
    Question(
        "went-wrong",
        "newest runs in which something went wrong: rolled back, left off, failed, an error, cut short",
        (
            _HYPERVISOR,
            Column("run"),
            Column("mode"),
            _number("status"),
            _number("rolled_back"),
            _number("left_off"),
            _number("failed"),
            _number("errors"),
            Column("path"),
        ),
        _sql(_WRONG),
    ),
    Question(
        "errors",
        "rows of which looking failed",
        (
            _HYPERVISOR,
            *_NAMES,
            Column("reason"),
            Column("judged", "time"),
        ),
        _sql(_ERRORS),
    ),
)
BY_NAME = {question.name: question for question in EVERY}
