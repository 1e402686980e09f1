"""What the terminal says: pytest's own look, our words and colours."""

from __future__ import annotations

import math
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from _pytest._io.wcwidth import wcswidth, wcwidth

from reclaim.base.text import printable, size
from reclaim.base.verdict import Verdict
from reclaim.changes.boot_stopped import Boot
from reclaim.changes.power import PowerCycle
from reclaim.engine.journal import Entry
from reclaim.engine.journal import JournalRecord as Journal
from reclaim.record.record import Record, Row, Storage
from reclaim.record.typed import undo
from reclaim.report.commands import next_command
from reclaim.report.page import NAME
from reclaim.report.summary import figures

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

    from reclaim.engine.run import Run

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
#: lines of pytest's own and pytest-html's around ours
_PYTESTS = 4
#: lines for findings on a screen that is too small, and where nobody watches
_LEAST = 5
_PIPED = 60
#: columns of a guest's name where there is a line a guest
_NAME = 30
_HOME = "came home in this run"
#: columns before a finding
_INDENT = 17
#: reasons for which nobody could look, and planned changes, that are shown; the report has them all
_REASONS = 4
_DIFFS = 200
#: changes of a run that died that are named
_NAMED = 6


def status(verdict: Verdict) -> tuple[str, str, tuple[str, dict[str, bool]]]:
    """pytest's category, letter and word for *verdict*."""
    letter, colour = _STATUS[verdict]
    return str(verdict), letter, (str(verdict).upper(), {colour: True})


def header(run: Run) -> list[str]:
    """The lines under pytest's own header: where, in which mode, and what earlier runs left."""
    lines = []
    for part in run.parts:
        one = part.hypervisor
        sample = (
            "libvirt's test driver: SAMPLE DEFINITIONS, no real guests; "
            if one.is_test_driver
            else ""
        )
        qemu = f", QEMU {one.qemu_version}" if one.qemu_version else ""
        guests = "1 guest" if len(part.guests) == 1 else f"{len(part.guests)} guests"
        lines.append(
            f"reclaim {run.options.mode}: {sample}{printable(one.name)} ({printable(one.uri)}), "
            f"libvirt {one.libvirt_version}{qemu}, {guests}"
        )
        if not part.guests:
            lines.append(
                f"reclaim: {printable(one.uri)} has no guests: there is nothing to judge"
            )
    if not run.options.definitions_only and not any(
        part.copies or part.jobs for part in run.parts
    ):
        lines.append(
            "reclaim: no backups are declared, so none is judged (--backups DIR, or [[backup]])"
        )
    if run.left_out:
        folders = ", ".join(map(printable, run.left_out))
        lines.append(
            f"reclaim: left out of PATH, since others can write there: {folders}"
        )
    lines += [f"reclaim: {printable(words)}" for words in run.at_stake]
    lines += [f"reclaim: {printable(words)}" for words in run.remarks]
    for _, died in run.interrupted:
        lines += [f"reclaim: {words}" for words in _death(died)]
    for part, died in run.elsewhere:
        lines.append(
            f"reclaim: the run {died.path.parent.name} died on {printable(died.uri)}, another address of guests of "
            f"{printable(part.hypervisor.uri)}; take back what it changed: {undo(died.path.parent)}"
        )
    if run.options.boot_stopped:
        lines.append(
            "reclaim: --boot-stopped: what is off is started, one guest at a time, and shut down again"
        )
    if run.options.force:
        lines.append("reclaim: --force: what a fix waits for is ignored")
    if run.options.prove:
        lines.append(
            "reclaim: --prove: trims each filesystem of the guests, writes a file there and deletes it again"
        )
    return lines


def _death(died: Journal) -> Iterator[str]:
    """What a run left that died, but for its power cycles, and what to do."""
    run, way = died.path.parent.name, undo(died.path.parent)
    if boots := [entry for entry in died.interrupted if isinstance(entry.change, Boot)]:
        names = ", ".join(printable(entry.guest) for entry in boots)
        yield (
            f"the run {run} died and may have left up what it had started: {names}; "
            f"--boot-stopped or --fix shuts that down, as does: {way}"
        )
    others = [
        entry
        for entry in died.interrupted
        if not isinstance(entry.change, PowerCycle | Boot)
    ]
    who = f"an undo of the run {run}" if died.mode == "undo" else f"the run {run}"
    stand = (
        f"; before that it had made {_several(died.applied)}, which stand"
        if died.applied
        else ""
    )
    if others:
        what = ", ".join(
            f"{entry.requirement} of {printable(entry.guest)}" for entry in others
        )
        yield f"{who} died while it changed {what}{stand}; see {died.path}, or take it back: {way}"
    elif died.applied and died.mode == "undo":
        yield f"{who} died; {_several(died.applied)} of the run's still stand: to go on with it: {way}"
    elif died.applied:
        made = _several(died.applied)
        yield f"{who} died after it had made {made}, which stand: go on with --fix, or take them back: {way}"


def _several(entries: list[Entry]) -> str:
    """How many changes, and the first of them by name."""
    names = list(
        dict.fromkeys(
            f"{entry.requirement} of {printable(entry.guest)}" for entry in entries
        )
    )
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(entries)} change{'s' * (len(entries) != 1)} ({', '.join(names[:_NAMED])}{more})"


class Progress:
    """One line that is rewritten while something is waited for; nothing where no person watches.

    No text at all clears it.
    """

    def __init__(self, reporter: TerminalReporter) -> None:
        self._reporter = reporter
        self._shown = False
        self._last = ""

    def line(self, text: str) -> None:
        """Say something that stays."""
        self.clear()
        self._reporter.write_line(printable(text, lines=True))

    def __call__(self, text: str) -> None:
        if self._reporter.verbosity < 0:
            return
        text = printable(text)
        if not text:
            self.clear()
        elif self._reporter.isatty:
            if not self._shown:
                self._reporter.ensure_newline()  # a guest's letters stay
            self._reporter.rewrite(
                clip(text, shutil.get_terminal_size().columns - 1), erase=True
            )
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
    """What one screen holds: the sentence, findings by guest, bytes, the report, the next command."""
    if reporter.verbosity < 0:
        return
    columns = shutil.get_terminal_size().columns if reporter.isatty else None
    for part in run.parts:
        found = part.found
        if found is None:
            continue
        if run.options.mode == "plan":
            _plan(reporter, found)
        page = part.folder / NAME
        report = f"report: {page}" if page.exists() else ""
        below = [*_bytes(found), *filter(None, [report])]
        if command := next_command(found, part.folder):
            below.append(f"next:   {command}")
        sentence = figures([found]).sentence
        reporter.section(
            f"reclaim: {printable(part.hypervisor.name)}", sep="=", bold=True
        )
        reporter.write_line(sentence, bold=True)
        # beside ours: the heading, pytest-html's line about the report, pytest's last one, the prompt
        others = (
            sum(_height(text, columns) for text in (sentence, *below, report))
            + _PYTESTS
        )
        room = (
            _PIPED
            if columns is None
            else max(shutil.get_terminal_size().lines - others, _LEAST)
        )
        _findings(reporter, found, columns, room)
        for text in below:
            reporter.write_line(
                text, green=text.startswith(_HOME) and found.reclaimed_bytes > 0
            )


def _findings(
    reporter: TerminalReporter, found: Record, columns: int | None, room: int
) -> None:
    """All that does not hold in full, where it fits; else a line a guest, the worst first."""
    loud = [
        (guest, [row for row in rows if _is_told(row)])
        for guest, rows in found.by_guest()
    ]
    loud = [(guest, rows) for guest, rows in loud if rows]
    unseen = _unseen(found)
    room -= len(unseen)
    texts = [_sentence(row) for _, rows in loud for row in rows]
    if (
        len(loud) + sum(_height(" " * _INDENT + text, columns) for text in texts)
        <= room
        or reporter.verbosity > 0
    ):
        for guest, rows in loud:
            reporter.write_line(printable(guest or found.hypervisor.name), bold=True)
            for row in rows:
                reporter.write(
                    f"  {row.verdict!s:<14}", **{_STATUS[row.verdict][1]: True}
                )
                reporter.write_line(f" {_sentence(row)}")
    else:
        loud.sort(
            key=lambda one: -sum(row.verdict.outcome == "failed" for row in one[1])
        )
        shown = loud if len(loud) <= room else loud[: max(room - 1, 1)]
        for guest, rows in shown:
            reporter.write_line(
                clip(_guest_line(guest or found.hypervisor.name, rows), columns)
            )
        if len(shown) < len(loud):
            reporter.write_line(f"and {len(loud) - len(shown)} more guests")
    for text in unseen:
        reporter.write_line(clip(text, columns), yellow=True)


def _sentence(row: Row) -> str:
    disk = f" {printable(row.disk)}" if row.disk else ""
    return f"{row.requirement}{disk}: {row.reason or row.evidence or ''}"


def _guest_line(guest: str, rows: list[Row]) -> str:
    counts = Counter(str(row.verdict) for row in rows)
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    what = dict.fromkeys(
        row.requirement for row in rows if row.verdict.outcome == "failed"
    )
    return f"{clip(printable(guest), _NAME)}  {said}{': ' if what else ''}{', '.join(what)}"


def _unseen(found: Record) -> list[str]:
    """A line for each reason for which nobody could look, the most frequent first."""
    rows = [row for row in found.results if row.verdict is Verdict.NOT_ASSESSABLE]
    reasons = Counter(row.reason for row in rows)
    texts = []
    for reason, count in reasons.most_common(_REASONS):
        guests = len({row.guest for row in rows if row.reason == reason})
        texts.append(
            f"{count} not assessable, in {guests} guest{'s' * (guests != 1)}: {reason}"
        )
    if len(reasons) > _REASONS:
        texts.append(
            f"and {len(reasons) - _REASONS} more reasons for which nobody could look"
        )
    return texts


def clip(text: str, columns: int | None) -> str:
    """*text* as far as *columns* of the terminal hold it; a wide character takes two."""
    if columns is None or wcswidth(text) <= columns:
        return text
    kept, width = "", 1
    for character in text:
        width += max(wcwidth(character), 0)
        if width > columns:
            break
        kept += character
    return f"{kept}…"


def _height(text: str, columns: int | None) -> int:
    """The lines that *text* takes."""
    return 1 if columns is None else math.ceil(wcswidth(text) / columns)


def _is_told(row: Row) -> bool:
    return row.verdict in (
        Verdict.NONCOMPLIANT,
        Verdict.PENDING,
        Verdict.ERROR,
        Verdict.FIXED,
    )


def _plan(reporter: TerminalReporter, found: Record) -> None:
    """The diffs of a plan: the summary below them is one screen, they are what was asked for."""
    changes = [(row, change) for row in found.results for change in row.changes]
    if not changes:
        return
    reporter.section(
        f"reclaim: what --fix would change on {printable(found.hypervisor.name)}",
        sep="=",
        bold=True,
    )
    for row, change in changes[:_DIFFS]:
        what = " ".join(filter(None, (row.guest, row.disk)))
        reporter.write_line(f"{row.requirement} of {printable(what)}", bold=True)
        for line in printable(
            f"{change.target}\n{change.diff}", lines=True
        ).splitlines():
            colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
            reporter.write_line(f"    {line}", **({colour: True} if colour else {}))
    if len(changes) > _DIFFS:
        reporter.write_line(
            f"and {len(changes) - _DIFFS} more changes; the report has them all"
        )


def _bytes(found: Record) -> Iterator[str]:
    told = [one for one in found.storage if one.allocated_after is not None]
    if told:
        yield _held(told)
    if found.run.mode == "fix" and (told or found.reclaimed_bytes):
        counted = [
            one.reclaimable_before for one in told if one.reclaimable_before is not None
        ]
        of = f"; {size(sum(counted))} had been counted to come back" if counted else ""
        yield f"{_HOME}: {size(found.reclaimed_bytes)} ({found.reclaimed_bytes} bytes){of}"


def _held(told: list[Storage]) -> str:
    held = sum(one.allocated_after or 0 for one in told)
    line = f"the host holds {size(held)} for {len(told)} disks"
    known = [one for one in told if one.used is not None]
    if known:
        needed = sum(one.used or 0 for one in known)
        held_known = sum(one.allocated_after or 0 for one in known)
        line += f"; {len(known)} were looked into: they take {size(held_known)} and need {size(needed)}"
    if counted := [one for one in told if one.reclaimable_after is not None]:
        line += f"; a trim gives back {size(sum(one.reclaimable_after or 0 for one in counted))}"
    return line
