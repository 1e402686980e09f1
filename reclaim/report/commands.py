"""The commands with which a person goes on from a run."""

from __future__ import annotations

import glob
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from reclaim.base import typed
from reclaim.base.home import CHECKS
from reclaim.base.verdict import Verdict
from reclaim.handles.guest import OFF, UNSTARTED
from reclaim.record.record import Record, Row
from reclaim.report.findings import depends
from reclaim.report.summary import is_of_samples, waits_for_power

_MODES = ("--plan", "--fix", "--restart", "--force")
_PLACES = (
    "--guests",
    "--html",
    "--junitxml",
    "--junit-xml",
    "--metrics",
    "--notify",
    "--parallel",
)
#: those of them without a value
_FLAGS = (*_MODES, "--json")
#: options whose value is a path, which is relative to the folder in which the run was started
_PATHS = ("--inventory", "--backups", "--reports")
#: paths that name all checks, which are judged without a path too
_WHOLE = ("checks", "checks/", "./checks", "./checks/", ".")
#: the end of an option that takes its value from the next word: one of a letter, as -k
_ASKS = re.compile("-[a-zA-Z]")
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


def rerun(
    record: Record,
    *flags: str,
    guests: Iterable[str] = (),
    anywhere: bool = False,
) -> str:
    """Return the command that does *record*'s run again with *flags*, for *guests* alone if any are given.

    Of *flags* the mode becomes the verb. The command is to be typed in the folder of this process, or *anywhere*.
    """
    names = list(guests)
    narrow = 0 < len(names) <= _NAMED and all(map(_can_be_named, names))
    places = _PLACES if narrow else _PLACES[1:]
    arguments = list(_without_whole(record.run.arguments))
    stand = None if anywhere else typed.here()
    origin = record.run.folder
    if origin is not None and stand != Path(origin):
        arguments = list(_from_anywhere(arguments, Path(origin)))
    kept = _without(arguments, (*_FLAGS, *places))
    if narrow:
        kept += ["--guests", ",".join(map(glob.escape, names))]
    verb = _verb(flags)
    others = [flag for flag in flags if flag != f"--{verb}"]
    return typed.command(verb, *kept, *others, stand=stand)


def neutral(record: Record) -> str:
    """Return the command of *record*'s run as a person would type it on any machine."""
    arguments = _without(_without_whole(record.run.arguments), ("--plan", "--fix"))
    return shlex.join(["reclaim", record.run.mode, *arguments])


#: a page is read in any folder
_for_a_page = partial(rerun, anywhere=True)


def _verb(flags: Iterable[str]) -> str:
    if "--fix" in flags:
        return "fix"
    return "plan" if "--plan" in flags else "audit"


def _without_whole(arguments: Iterable[str]) -> Iterator[str]:
    """Yield *arguments* without a path that names all checks."""
    before = ""
    for argument in arguments:
        is_value = before in _PATHS or _ASKS.fullmatch(before)
        is_whole = argument in _WHOLE or Path(argument) == CHECKS
        if is_value or not is_whole:
            yield argument
        before = argument


def _from_anywhere(arguments: Iterable[str], folder: Path) -> Iterator[str]:
    """Yield *arguments* with those paths absolute that are relative to *folder*."""
    before = ""
    for argument in arguments:
        name, is_joined, value = argument.partition("=")
        if before in _PATHS:
            yield str(folder / argument)
        elif is_joined and name in _PATHS:
            yield f"{name}={folder / value}"
        else:
            yield argument
        before = argument


def _can_be_named(guest: str) -> bool:
    """True if --guests can name *guest*: it takes a list with commas and blanks, and ! excludes."""
    is_plain = guest == guest.strip() and not guest.startswith("!")
    return is_plain and "," not in guest and guest.isprintable()


def _without(arguments: Iterable[str], names: tuple[str, ...]) -> list[str]:
    """Return *arguments* without the options *names* and their values."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in names:
            skip = argument not in _FLAGS
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
        command = _for_a_page(record, "--fix", "--restart", guests=_guests(power))
        waiting.append(Task([why], command, power))
    if not is_of_samples(record):
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
        command = _for_a_page(record, "--plan", guests=guests)
        waiting.append(
            Task(["Preview the changes; this changes nothing."], command, broken)
        )
    command = _for_a_page(record, *as_planned(record), guests=guests)
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
        if not depends(row):
            reason = f"{row.requirement}: {row.reason or row.title}"
            groups.setdefault(reason, []).append(row)
    waiting: dict[str, Task] = {}
    for reason, alike in groups.items():
        command = _for_a_page(record, *flags, guests=_guests(alike))
        task = waiting.setdefault(command, Task([], command))
        task.reasons.append(reason)
        task.rows += alike
    return list(waiting.values())


def _guests(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.guest for row in rows if row.guest is not None))
