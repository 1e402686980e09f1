"""The commands that go on from a run, as the terminal prints them."""

from __future__ import annotations

from pathlib import Path

from reclaim.base.verdict import Verdict
from reclaim.engine import journal
from reclaim.record.record import Record, Row
from reclaim.record.typed import undo
from reclaim.report.commands import as_planned, rerun, startable
from reclaim.report.findings import depends, is_told
from reclaim.report.summary import is_of_samples


def next_steps(record: Record) -> list[str]:
    """Return the commands with which a person goes on from *record*, the first one first. Each can be typed."""
    rows = record.results
    broken = [row for row in rows if row.verdict is Verdict.NONCOMPLIANT]
    pending = [row for row in rows if row.verdict is Verdict.PENDING]
    if record.run.mode == "fix":
        steps = _after_fix(record, broken, pending)
    elif not broken and not pending:
        steps = []
    elif record.run.mode == "audit":
        steps = [rerun(record, "--plan")]
    else:
        steps = [rerun(record, *as_planned(record))]
    return list(dict.fromkeys([*steps, *_of_stopped(record)]))


def _after_fix(record: Record, broken: list[Row], pending: list[Row]) -> list[str]:
    """Return the command that is left after a fix: the power cycle, the rest, or an audit that looks again."""
    waits = pending or any(row.requirement == "live-definition" for row in broken)
    if waits and "--restart" not in record.run.arguments:
        return [rerun(record, "--fix", "--restart")]
    # the same fix again would end as this one if each finding depends on another row
    if record.run.cut_short or not all(map(depends, broken)):
        return [rerun(record, "--fix")]
    if broken:
        return []
    return [rerun(record)] if any(map(is_told, record.results)) else []


def _of_stopped(record: Record) -> list[str]:
    """Return the command that looks into the guests that are off, if there are any that it would start."""
    if is_of_samples(record) or "--boot-stopped" in record.run.arguments:
        return []
    is_off = startable(record, record.results)
    return [rerun(record, "--boot-stopped")] if is_off else []


def undo_line(record: Record, folder: Path) -> str | None:
    """Return the line with the command that takes back the changes of *record*'s run, or None if it made none."""
    if record.run.mode != "fix":
        return None
    changes = [change for row in record.results for change in row.changes]
    if not any(change.applied for change in changes):
        return None
    path = folder / journal.NAME
    if path.is_file():
        return f"undo:   {undo(folder)}"
    return f"the journal {path} is gone: undo cannot take back the changes of this run"
