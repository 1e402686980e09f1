"""The text on the terminal: pytest's own look, our words and colours."""

from __future__ import annotations

import math
import re
import shutil
from collections import Counter
from collections.abc import Iterator

from _pytest._io.wcwidth import wcswidth, wcwidth
from _pytest.terminal import TerminalReporter

from reclaim.base.text import counted, printable, size
from reclaim.base.verdict import Verdict
from reclaim.changes.boot_stopped import Boot
from reclaim.changes.power import PowerCycle
from reclaim.definition import machine_type
from reclaim.engine.journal import Entry
from reclaim.engine.journal import JournalRecord as Journal
from reclaim.engine.part import Part
from reclaim.engine.run import Run
from reclaim.record.record import Record, Row, Storage
from reclaim.record.typed import undo
from reclaim.report.commands import next_command
from reclaim.report.page import NAME
from reclaim.report.summary import figures, known
from reclaim.report.waiting import waiting

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
#: lines for findings on a screen that is too small, and in a pipe
_LEAST = 5
_PIPED = 60
#: columns of a guest's name if each guest has one line
_NAME = 30
_HOME = "freed in this run"
#: columns before a finding
_INDENT = 17
#: reasons for not-assessable rows, and planned changes, that are shown; the report has them all
_REASONS = 4
_DIFFS = 200
#: changes of a run that died that are named
_NAMED = 6
_DIFF_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
#: options that do more to a guest than judge it, with their lines in the header
_OPTIONS = {
    "boot_stopped": "--boot-stopped: reclaim starts the guests that are off, one at a time, and shuts them down again",
    "force": "--force: reclaim fixes even if another requirement must hold first",
    "prove": "--prove: trims each filesystem of the guests, writes a file there and deletes it again",
}


def status(verdict: Verdict) -> tuple[str, str, tuple[str, dict[str, bool]]]:
    """Return pytest's category, letter and word for *verdict*."""
    letter, colour = _STATUS[verdict]
    return str(verdict), letter, (str(verdict).upper(), {colour: True})


def header(run: Run) -> list[str]:
    """Return the lines under pytest's own header: hypervisors, mode, and the remains of earlier runs."""
    lines: list[str] = []
    for part in run.parts:
        lines += _of_part(run.options.mode, part)
    return lines + [f"reclaim: {notice}" for notice in _notices(run)]


def _of_part(mode: str, part: Part) -> Iterator[str]:
    hypervisor = part.hypervisor
    name, uri = printable(hypervisor.name), printable(hypervisor.uri)
    sample = ""
    if hypervisor.is_test_driver:
        sample = "libvirt's test driver: SAMPLE DEFINITIONS, no real guests; "
    qemu = f", QEMU {hypervisor.qemu_version}" if hypervisor.qemu_version else ""
    guests = counted(len(part.guests), "guest")
    yield (
        f"reclaim {mode}: {sample}{name} ({uri}), "
        f"libvirt {hypervisor.libvirt_version}{qemu}, {guests}"
    )
    if not part.guests:
        yield f"reclaim: {uri} has no guests: there is nothing to judge"


def _notices(run: Run) -> Iterator[str]:
    has_backups = any(part.copies or part.jobs for part in run.parts)
    if not has_backups and not run.options.definitions_only:
        yield "no backups are declared, so none is judged (--backups DIR, or [[backup]])"
    if run.left_out:
        folders = ", ".join(map(printable, run.left_out))
        yield f"left out of PATH, since others can write there: {folders}"
    yield from map(printable, run.at_stake)
    yield from map(printable, run.remarks)
    for _, died in run.interrupted:
        yield from _death(died)
    for part, died in run.elsewhere:
        yield (
            f"the run {died.path.parent.name} died on {printable(died.uri)}, another address of guests of "
            f"{printable(part.hypervisor.uri)}; take back its changes: {undo(died.path.parent)}"
        )
    if run.options.definitions_only and run.options.mode != "audit":
        yield "--definitions-only: fixes may depend on requirements inside a guest, which have no rows in this run"
    for option, notice in _OPTIONS.items():
        if getattr(run.options, option):
            yield notice


def _death(died: Journal) -> Iterator[str]:
    """Yield the open changes of a run that died, without its power cycles, and the commands to go on."""
    run, way = died.path.parent.name, undo(died.path.parent)
    boots = [entry for entry in died.interrupted if isinstance(entry.change, Boot)]
    if boots:
        names = ", ".join(printable(entry.guest) for entry in boots)
        yield (
            f"the run {run} died and may have left guests running that it had started: {names}; "
            f"--boot-stopped or --fix shuts them down, as does: {way}"
        )
    others = [
        _named(entry)
        for entry in died.interrupted
        if not isinstance(entry.change, PowerCycle | Boot)
    ]
    is_undo = died.mode == "undo"
    made = _several(died.applied) if died.applied else ""
    if others:
        who = f"an undo of the run {run}" if is_undo else f"the run {run}"
        stand = f"; before that it had made {made}, which stand" if made else ""
        changing = ", ".join(others)
        yield f"{who} died while it changed {changing}{stand}; see {died.path}, or take it back: {way}"
    elif made and is_undo:
        yield f"an undo of the run {run} died; {made} of the run's still stand: to go on with it: {way}"
    elif made:
        yield f"the run {run} died after it had made {made}, which stand: go on with --fix, or take them back: {way}"


def _several(entries: list[Entry]) -> str:
    """Return the number of changes, and the first of them by name."""
    names = list(dict.fromkeys(map(_named, entries)))
    shown = ", ".join(names[:_NAMED])
    if len(names) > _NAMED:
        shown += f" and {len(names) - _NAMED} more"
    return f"{counted(len(entries), 'change')} ({shown})"


def _named(entry: Entry) -> str:
    return f"{entry.requirement} of {printable(entry.guest)}"


class Progress:
    """One line that is rewritten while reclaim waits; in a pipe only its new lines are printed.

    An empty text clears it.
    """

    def __init__(self, reporter: TerminalReporter) -> None:
        self._reporter = reporter
        self._shown = False
        self._last = ""

    def line(self, text: str) -> None:
        """Say a line that stays."""
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
    """Print one screen: the sentence, findings by guest, bytes, the report, the next command."""
    if reporter.verbosity < 0:
        return
    for part in run.parts:
        if part.found is not None:
            if run.options.mode == "plan":
                _plan(reporter, part.found)
            _summary_of(reporter, part, part.found)


def _summary_of(reporter: TerminalReporter, part: Part, record: Record) -> None:
    screen = shutil.get_terminal_size()
    columns = screen.columns if reporter.isatty else None
    page = part.folder / NAME
    report = f"report: {page}" if page.exists() else ""
    below = [*_bytes(record)]
    if report:
        below.append(report)
    if command := next_command(record, part.folder):
        below.append(f"next:   {command}")
    sentence = figures([record]).sentence
    reporter.section(f"reclaim: {printable(part.hypervisor.name)}", sep="=", bold=True)
    reporter.write_line(sentence, bold=True)
    room = _PIPED
    if columns is not None:
        # beside ours: the heading, pytest-html's line about the report, pytest's last one, the prompt
        texts = (sentence, *below, report)
        others = sum(_height(text, columns) for text in texts) + _PYTESTS
        room = max(screen.lines - others, _LEAST)
    _findings(reporter, record, columns, room)
    for text in below:
        came_home = text.startswith(_HOME) and record.reclaimed_bytes > 0
        reporter.write_line(text, green=came_home)


def _findings(
    reporter: TerminalReporter, record: Record, columns: int | None, room: int
) -> None:
    """Print all rows that do not hold if they fit, else a line a guest, the worst first."""
    loud = []
    height = 0
    for guest, every in record.by_guest():
        rows = list(filter(_is_told, every))
        if not rows:
            continue
        loud.append((guest or record.hypervisor.name, rows))
        height += 1
        for row in rows:
            height += _height(" " * _INDENT + _sentence(row), columns)
    unseen = [*_warned_of(record), *_unseen(record), *waiting(record)]
    room -= len(unseen)
    if height <= room or reporter.verbosity > 0:
        _findings_in_full(reporter, loud)
    else:
        _findings_by_guest(reporter, loud, columns, room)
    for text in unseen:
        reporter.write_line(clip(text, columns), yellow=True)


def _findings_in_full(
    reporter: TerminalReporter, loud: list[tuple[str, list[Row]]]
) -> None:
    for guest, rows in loud:
        reporter.write_line(printable(guest), bold=True)
        for row in rows:
            _, colour = _STATUS[row.verdict]
            reporter.write(f"  {row.verdict!s:<14}", **{colour: True})
            reporter.write_line(f" {_sentence(row)}")


def _findings_by_guest(
    reporter: TerminalReporter,
    loud: list[tuple[str, list[Row]]],
    columns: int | None,
    room: int,
) -> None:
    """Print a line a guest, the worst first, as far as there is *room*."""
    worst = sorted(loud, key=lambda guest: -len(_failed(guest[1])))
    if len(worst) > room:
        worst = worst[: max(room - 1, 1)]
    for guest, rows in worst:
        reporter.write_line(clip(_guest_line(guest, rows), columns))
    more = len(loud) - len(worst)
    if more:
        reporter.write_line(f"and {counted(more, 'more guest')}")


def _failed(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.verdict.outcome == "failed"]


def _sentence(row: Row) -> str:
    disk = f" {printable(row.disk)}" if row.disk else ""
    return f"{row.requirement}{disk}: {row.reason or row.evidence or ''}"


def _guest_line(guest: str, rows: list[Row]) -> str:
    counts = Counter(str(row.verdict) for row in rows)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    line = f"{clip(printable(guest), _NAME)}  {verdicts}"
    failed = dict.fromkeys(row.requirement for row in _failed(rows))
    if failed:
        line += f": {', '.join(failed)}"
    return line


_WARNINGS = (machine_type.DEPRECATED, machine_type.MAY_NOT_BOOT)


def _warned_of(record: Record) -> list[str]:
    """Return a line for each machine type of compliant guests that a later QEMU drops, or that may not boot."""
    counts = Counter(
        row.evidence
        for row in record.results
        if row.verdict.holds and any(w in (row.evidence or "") for w in _WARNINGS)
    )
    lines = []
    for evidence, count in counts.most_common():
        guests = "1 guest has" if count == 1 else f"{count} guests have"
        lines.append(f"{guests} the machine type {evidence}")
    return lines


def _unseen(record: Record) -> list[str]:
    """Return a line for each reason for not-assessable rows, the most frequent first."""
    counts: Counter[str | None] = Counter()
    guests: dict[str | None, set[str | None]] = {}
    for row in record.results:
        if row.verdict is Verdict.NOT_ASSESSABLE:
            counts[row.reason] += 1
            guests.setdefault(row.reason, set()).add(row.guest)
    lines = []
    for reason, count in counts.most_common(_REASONS):
        where = counted(len(guests[reason]), "guest")
        lines.append(f"{count} not assessable, in {where}: {reason}")
    if len(counts) > _REASONS:
        more = len(counts) - _REASONS
        lines.append(f"and {counted(more, 'more reason')} why reclaim could not check")
    return lines


def clip(text: str, columns: int | None) -> str:
    """Return *text* as far as *columns* of the terminal hold it. A wide character takes two."""
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
    """Return the number of lines that *text* takes."""
    return 1 if columns is None else math.ceil(wcswidth(text) / columns)


def _is_told(row: Row) -> bool:
    return row.verdict in (
        Verdict.NONCOMPLIANT,
        Verdict.PENDING,
        Verdict.ERROR,
        Verdict.FIXED,
    )


def _plan(reporter: TerminalReporter, record: Record) -> None:
    """Print the diffs of a plan: you asked for them, so they may take more than one screen."""
    changes = [(row, change) for row in record.results for change in row.changes]
    if not changes:
        return
    heading = (
        f"reclaim: changes that --fix would make on {printable(record.hypervisor.name)}"
    )
    reporter.section(heading, sep="=", bold=True)
    for row, change in changes[:_DIFFS]:
        subject = " ".join(filter(None, (row.guest, row.disk)))
        reporter.write_line(f"{row.requirement} of {printable(subject)}", bold=True)
        text = printable(f"{change.target}\n{change.diff}", lines=True)
        for line in text.splitlines():
            colour = _DIFF_COLOURS.get(line[:1])
            reporter.write_line(f"    {line}", **({colour: True} if colour else {}))
    if len(changes) > _DIFFS:
        more = len(changes) - _DIFFS
        reporter.write_line(
            f"and {counted(more, 'more change')}; the report has them all"
        )


def _bytes(record: Record) -> Iterator[str]:
    disks = [disk for disk in record.storage if disk.allocated_after is not None]
    if disks:
        yield _held(disks)
    if record.run.mode != "fix":
        return
    if not disks and not record.reclaimed_bytes:
        return
    line = f"{_HOME}: {size(record.reclaimed_bytes)} ({record.reclaimed_bytes} bytes)"
    expected = known(disk.reclaimable_before for disk in disks)
    if expected:
        line += f"; expected: {size(sum(expected))}"
    yield line


def _held(disks: list[Storage]) -> str:
    """Report the bytes that the host holds for *disks*, and the part that the guests need, as far as that is known."""
    held = sum(known(disk.allocated_after for disk in disks))
    line = f"the host holds {size(held)} for {counted(len(disks), 'disk')}"
    seen = [disk for disk in disks if disk.used is not None]
    if seen:
        taken = sum(known(disk.allocated_after for disk in seen))
        needed = sum(known(disk.used for disk in seen))
        line += f"; those that reclaim looked into ({len(seen)}) take {size(taken)} and need {size(needed)}"
    spare = known(disk.reclaimable_after for disk in disks)
    if spare:
        line += f"; a trim gives back {size(sum(spare))}"
    return line
