"""The commands with which a person goes on from a run."""

from __future__ import annotations

import glob
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

from reclaim.base.text import printable
from reclaim.base.verdict import Verdict
from reclaim.handles.guest import OFF, UNSTARTED
from reclaim.record.record import Record, Row
from reclaim.report.summary import waits_for_power

_MODES = ("--plan", "--fix", "--restart", "--force")
_PLACES = ("--guests", "--html", "--junitxml", "--junit-xml", "--metrics")
#: a fix that depends on another row, which names the way on; the second is of older versions' records
_DEPENDS = re.compile("withheld: (?:depends on|waits for) ")
#: guests that are named in one command; for more of them the command is as the run's was
_NAMED = 8


@dataclass
class Task:
    """One thing that a person should do: the reasons, the rows, and the command to type."""

    reasons: list[str]
    command: str
    rows: list[Row] = field(default_factory=list)

    @property
    def guests(self) -> list[str]:
        return _guests(self.rows)


def rerun(record: Record, *flags: str, guests: Iterable[str] = ()) -> str:
    """Return the command of *record*'s run with *flags* for its mode, for *guests* alone if any are given."""
    names = list(guests)
    narrow = 0 < len(names) <= _NAMED and all(map(_can_be_named, names))
    places = _PLACES if narrow else _PLACES[1:]
    kept = _without(record.run.arguments, (*_MODES, *places))
    if narrow:
        kept += ["--guests", ",".join(map(glob.escape, names))]
    return shlex.join(["pytest", *map(printable, kept), *flags])


def _can_be_named(guest: str) -> bool:
    """True if --guests can name *guest*: it takes a list with commas."""
    return "," not in guest and guest.isprintable()


def _without(arguments: Iterable[str], names: tuple[str, ...]) -> list[str]:
    """Return *arguments* without the options *names* and their values."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in names:
            skip = argument not in _MODES
        elif argument.partition("=")[0] not in names:
            kept.append(argument)
    return kept


def tasks(record: Record) -> list[Task]:
    """Return the tasks that remain for a person after the run of *record*."""
    power, broken, unseen = [], [], []
    for row in record.results:
        if waits_for_power(row):
            power.append(row)
        elif row.verdict is Verdict.NONCOMPLIANT:
            broken.append(row)
        elif row.verdict in (Verdict.NOT_ASSESSABLE, Verdict.ERROR):
            unseen.append(row)
    waiting = _to_mend(record, broken)
    if power:
        why = (
            "Power-cycle the guests whose running QEMU differs from the definition; "
            "roll back any that does not return."
        )
        command = rerun(record, "--fix", "--restart", guests=_guests(power))
        waiting.append(Task([why], command, power))
    if not record.hypervisor.uri.startswith("test:"):
        # the guests of libvirt's test driver have no inside
        waiting += _by_reason(record, [row for row in unseen if row.reason != OFF])
        waiting += _by_reason(record, startable(record, unseen), "--boot-stopped")
    return waiting


def _to_mend(record: Record, broken: list[Row]) -> list[Task]:
    """Return the tasks for the rows that do not hold: a task for each reason after --fix, else one for all."""
    if record.run.mode == "fix":
        return _by_reason(record, broken, "--fix")
    if not broken:
        return []
    guests = _guests(broken)
    waiting = []
    if record.run.mode == "audit":
        command = rerun(record, "--plan", guests=guests)
        waiting.append(
            Task(["Preview the changes; this changes nothing."], command, broken)
        )
    command = rerun(record, *as_planned(record), guests=guests)
    return [*waiting, Task(["Fix all that reclaim can fix."], command, broken)]


def startable(record: Record, unseen: Iterable[Row]) -> list[Row]:
    """Return those of *unseen* that --boot-stopped would look into. The others have a row for that."""
    kept_off = {
        row.guest for row in record.results if (row.reason or "").startswith(UNSTARTED)
    }
    return [row for row in unseen if row.reason == OFF and row.guest not in kept_off]


def as_planned(record: Record) -> tuple[str, ...]:
    """Return the flags that do what *record* shows: a forced plan needs --force again."""
    if record.run.mode == "plan" and "--force" in record.run.arguments:
        return "--fix", "--force"
    return ("--fix",)


def _by_reason(record: Record, rows: Iterable[Row], *flags: str) -> list[Task]:
    """Return a task for each command that judges *rows* again, with the reasons that a person sees to first."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if not _DEPENDS.search(row.reason or ""):
            reason = f"{row.requirement}: {row.reason or row.title}"
            groups.setdefault(reason, []).append(row)
    waiting: dict[str, Task] = {}
    for reason, alike in groups.items():
        command = rerun(record, *flags, guests=_guests(alike))
        task = waiting.setdefault(command, Task([], command))
        task.reasons.append(reason)
        task.rows += alike
    return list(waiting.values())


def _guests(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.guest for row in rows if row.guest is not None))
