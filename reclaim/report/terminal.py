"""What the terminal says: pytest's own look, our words and colours."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from typing import TYPE_CHECKING

from reclaim.report import results
from reclaim.text import printable, size
from reclaim.verdict import Result, Verdict

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

    from reclaim.run import Part, Run

_STATUS: dict[Verdict, tuple[str, str]] = {
    Verdict.COMPLIANT: (".", "green"),
    Verdict.FIXED: ("+", "green"),
    Verdict.PENDING: ("~", "yellow"),
    Verdict.NONCOMPLIANT: ("F", "red"),
    Verdict.NOT_APPLICABLE: ("-", "cyan"),
    Verdict.NOT_ASSESSABLE: ("?", "yellow"),
    Verdict.WAIVED: ("w", "cyan"),
    Verdict.ERROR: ("E", "red"),
}
#: findings of one guest that are shown, and guests; the report has them all
_FINDINGS = 14
_GUESTS = 20


def status(verdict: Verdict) -> tuple[str, str, tuple[str, dict[str, bool]]]:
    """pytest's category, letter and word for *verdict*."""
    letter, colour = _STATUS[verdict]
    return str(verdict), letter, (str(verdict).upper(), {colour: True})


def header(run: Run) -> list[str]:
    """The lines under pytest's own header: where, in which mode, and what earlier runs left."""
    lines = []
    for part in run.parts:
        one = part.hypervisor
        sample = "libvirt's test driver: SAMPLE DEFINITIONS, no real guests; " if one.is_test_driver else ""
        qemu = f", QEMU {one.qemu_version}" if one.qemu_version else ""
        lines.append(
            f"reclaim {run.options.mode}: {sample}{printable(one.name)} ({one.uri}), "
            f"libvirt {one.libvirt_version}{qemu}, {len(part.guests)} guests"
        )
        if not part.guests:
            lines.append(f"reclaim: {one.uri} has no guests: there is nothing to judge")
    if not run.options.definitions_only and not any(part.copies or part.jobs for part in run.parts):
        lines.append("reclaim: no backups are declared, so none is judged (--backups DIR, or [[backup]])")
    for _, record in run.interrupted:
        what = ", ".join(f"{entry.requirement} of {printable(entry.guest)}" for entry in record.interrupted)
        lines.append(
            f"reclaim: the run {record.path.parent.name} died while it changed {what}; "
            f"see {record.path}, or take it back: python -m reclaim undo {record.path.parent}"
        )
    if run.options.force:
        lines.append("reclaim: --force: what a fix waits for is ignored")
    return lines


class Progress:
    """One line that is rewritten while something is waited for; nothing where no person watches."""

    def __init__(self, reporter: TerminalReporter) -> None:
        self._reporter = reporter
        self._shown = False
        self._last = ""

    def line(self, text: str) -> None:
        """Say something that stays."""
        self.clear()
        self._reporter.write_line(text)

    def __call__(self, text: str) -> None:
        if self._reporter.verbosity < 0:
            return
        text = printable(text)
        if self._reporter.isatty:
            self._reporter.rewrite(f"{text[:100]} ", erase=True)
            self._shown = True
        elif (stable := re.sub(r"\d+", "", text)) != self._last:
            self._last = stable
            if not text.startswith("looked into"):
                self._reporter.write_line(text)

    def clear(self) -> None:
        """Leave the line to others."""
        if self._shown:
            self._reporter.rewrite("", erase=True)
            self._shown = False


def summary(reporter: TerminalReporter, run: Run) -> None:
    """What one screen holds: findings by guest, bytes, the report, the next command."""
    if reporter.verbosity < 0:
        return
    for part in run.parts:
        reporter.section(f"reclaim: {printable(part.hypervisor.name)}", sep="=", bold=True)
        _findings(reporter, part)
        _bytes(reporter, part)
        reporter.write_line(f"report: {part.folder / 'report.html'}")
        if command := _next_command(run, part):
            reporter.write_line(f"next:   {command}")


def _findings(reporter: TerminalReporter, part: Part) -> None:
    rows = list(part.engine.results.values())
    loud: dict[str | None, list[Result]] = {}
    for row in rows:
        if _is_told(row):
            loud.setdefault(row.guest, []).append(row)
    for guest, told in list(loud.items())[:_GUESTS]:
        reporter.write_line(printable(guest or part.hypervisor.name), bold=True)
        for row in told[:_FINDINGS]:
            _, colour = _STATUS[row.verdict]
            disk = f" {row.disk}" if row.disk else ""
            reporter.write(f"  {row.verdict!s:<14}", **{colour: True})
            reporter.write_line(f" {row.requirement}{printable(disk)}: {row.reason}")
            if part.engine.mode == "plan":
                for change in row.changes:
                    _diff(reporter, f"{change.target}\n{change.diff}")
        if len(told) > _FINDINGS:
            reporter.write_line(f"  and {len(told) - _FINDINGS} more")
    if len(loud) > _GUESTS:
        reporter.write_line(f"and {len(loud) - _GUESTS} more guests")
    unseen = Counter((row.guest, row.reason) for row in rows if row.verdict is Verdict.NOT_ASSESSABLE)
    for (guest, reason), count in list(unseen.items())[:_GUESTS]:
        reporter.write_line(f"{printable(guest or '')}: {count} not assessable: {reason}", yellow=True)


def _is_told(row: Result) -> bool:
    return row.verdict in (Verdict.NONCOMPLIANT, Verdict.PENDING, Verdict.ERROR, Verdict.FIXED)


def _diff(reporter: TerminalReporter, text: str) -> None:
    for line in printable(text, lines=True).splitlines():
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        reporter.write_line(f"      {line}", **({colour: True} if colour else {}))


def _bytes(reporter: TerminalReporter, part: Part) -> None:
    storage = list(part.storage.values())
    told = [one for one in storage if one.allocated_after is not None]
    if told:
        _held(reporter, told)
    if part.engine.mode == "fix" and (told or part.engine.freed):
        came = results.reclaimed(storage) + part.engine.freed
        reporter.write_line(f"came home in this run: {size(came)} ({came} bytes)", green=came > 0)


def _held(reporter: TerminalReporter, told: list[results.Storage]) -> None:
    held = sum(one.allocated_after or 0 for one in told)
    line = f"the host holds {size(held)} for {len(told)} disks"
    known = [one for one in told if one.used is not None]
    if known:
        needed = sum(one.used or 0 for one in known)
        held_known = sum(one.allocated_after or 0 for one in known)
        line += f"; {len(known)} were looked into: they take {size(held_known)} and need {size(needed)}"
    reporter.write_line(line)


def _next_command(run: Run, part: Part) -> str | None:
    """The command that would go on from here."""
    verdicts = {row.verdict for row in part.engine.results.values()}
    arguments = [argument for argument in run.options.arguments if argument not in ("--plan", "--fix", "--restart")]
    command = shlex.join(["pytest", *map(printable, arguments)])
    if run.options.mode == "audit" and Verdict.NONCOMPLIANT in verdicts:
        return f"{command} --plan"
    if run.options.mode == "plan" and Verdict.NONCOMPLIANT in verdicts:
        return f"{command} --fix"
    if run.options.mode == "fix" and Verdict.PENDING in verdicts and not run.options.restart:
        return f"{command} --fix --restart"
    if run.options.mode == "fix" and any(row.changes for row in part.engine.results.values()):
        return f"python -m reclaim undo {part.folder}    (takes back what this run changed)"
    return None
