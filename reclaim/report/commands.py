"""The commands with which a person goes on from a run."""

from __future__ import annotations

import glob
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from reclaim.base.text import printable
from reclaim.base.verdict import Verdict
from reclaim.handles.guest import OFF, UNSTARTED
from reclaim.record.record import Record, Row
from reclaim.record.typed import undo
from reclaim.report.summary import waits_for_power

_MODES = ("--plan", "--fix", "--restart", "--force")
_PLACES = ("--guests", "--html", "--junitxml", "--junit-xml", "--metrics")
#: a fix that waits for another row: that one says what is to be done
_WAITS = "withheld: waits for "
#: guests that are named in one command; more of them are asked for as the run was
_NAMED = 8


@dataclass
class Task:
    """Something that waits for a person: why, for whom, and what to type then."""

    reasons: list[str]
    command: str
    rows: list[Row] = field(default_factory=list)

    @property
    def guests(self) -> list[str]:
        return list(
            dict.fromkeys(row.guest for row in self.rows if row.guest is not None)
        )


def rerun(record: Record, *flags: str, guests: Iterable[str] = ()) -> str:
    """The command of *record*'s run again, with *flags* for its mode and for *guests* alone."""
    names = list(guests)
    narrow = 0 < len(names) <= _NAMED and not any(
        "," in name or not name.isprintable() for name in names
    )
    kept = _without(
        record.run.arguments, (*_MODES, *(_PLACES if narrow else _PLACES[1:]))
    )
    if narrow:
        kept += ["--guests", ",".join(map(glob.escape, names))]
    return shlex.join(["pytest", *map(printable, kept), *flags])


def _without(arguments: Iterable[str], names: tuple[str, ...]) -> list[str]:
    """*arguments* without the options *names* and their values."""
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
    """What waits for a person after the run of *record*."""
    power = [row for row in record.results if waits_for_power(row)]
    unseen = [
        row
        for row in record.results
        if row.verdict in (Verdict.NOT_ASSESSABLE, Verdict.ERROR)
    ]
    found = []
    broken = [
        row
        for row in record.results
        if row.verdict is Verdict.NONCOMPLIANT and not waits_for_power(row)
    ]
    if record.run.mode == "fix":
        found += _by_reason(record, broken, "--fix")
    elif broken:
        guests = _guests(broken)
        if record.run.mode == "audit":
            found.append(
                Task(
                    ["Show what would be changed; nothing is."],
                    rerun(record, "--plan", guests=guests),
                    broken,
                )
            )
        found.append(
            Task(
                ["Mend what can be mended."],
                rerun(record, *_as_planned(record), guests=guests),
                broken,
            )
        )
    if power:
        why = (
            "Power-cycle the guests whose running QEMU has not got what is defined; "
            "roll back any that does not return."
        )
        found.append(
            Task(
                [why], rerun(record, "--fix", "--restart", guests=_guests(power)), power
            )
        )
    if not record.hypervisor.uri.startswith(
        "test:"
    ):  # nobody will ever look into its guests
        found += _by_reason(record, [row for row in unseen if row.reason != OFF])
        found += _by_reason(record, _startable(record, unseen), "--boot-stopped")
    return found


def next_command(record: Record, folder: Path) -> str | None:
    """The one command that goes on from here."""
    verdicts = {row.verdict for row in record.results}
    if record.run.mode != "fix" and verdicts & {Verdict.NONCOMPLIANT, Verdict.PENDING}:
        return rerun(
            record,
            *(("--plan",) if record.run.mode == "audit" else _as_planned(record)),
        )
    if (
        record.run.mode == "fix"
        and Verdict.PENDING in verdicts
        and "--restart" not in record.run.arguments
    ):
        return rerun(record, "--fix", "--restart")
    if record.run.mode == "fix" and any(
        change.applied for row in record.results for change in row.changes
    ):
        return f"{undo(folder)}    (takes back what this run changed)"
    return None


def _startable(record: Record, unseen: Iterable[Row]) -> list[Row]:
    """Those of *unseen* that --boot-stopped would look into: a guest that it does not start says so in its access."""
    kept_off = {
        row.guest for row in record.results if (row.reason or "").startswith(UNSTARTED)
    }
    return [row for row in unseen if row.reason == OFF and row.guest not in kept_off]


def _as_planned(record: Record) -> tuple[str, ...]:
    """The flags that do what *record* shows: a plan that was forced is not had without --force."""
    return (
        ("--fix", "--force")
        if record.run.mode == "plan" and "--force" in record.run.arguments
        else ("--fix",)
    )


def _by_reason(record: Record, rows: Iterable[Row], *flags: str) -> list[Task]:
    """What the reasons of *rows* name is to be done first; one task for all that one command then judges again."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if _WAITS not in (row.reason or ""):
            groups.setdefault(
                f"{row.requirement}: {row.reason or row.title}", []
            ).append(row)
    found: dict[str, Task] = {}
    for reason, some in groups.items():
        command = rerun(record, *flags, guests=_guests(some))
        task = found.setdefault(command, Task([], command))
        task.reasons.append(reason)
        task.rows += some
    return list(found.values())


def _guests(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.guest for row in rows if row.guest is not None))
