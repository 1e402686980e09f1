"""The end of a run on the terminal: the sentence, the next steps, the findings by their causes."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pytest

from reclaim.base.text import counted, printable, size, some
from reclaim.base.verdict import Verdict
from reclaim.definition import machine_type
from reclaim.engine.part import Part
from reclaim.engine.run import Run
from reclaim.record.record import Record, Row, Storage
from reclaim.report import findings
from reclaim.report.findings import Cause
from reclaim.report.page import NAME
from reclaim.report.steps import next_steps, undo_line
from reclaim.report.summary import figures, is_of_samples, known
from reclaim.report.terminal import STATUS, ending
from reclaim.report.waiting import waiting
from reclaim.report.width import clip, columns_of, height

#: lines around ours: the heading, pytest's last line, which may take two, the prompt
_PYTESTS = 4
#: lines for findings on a screen that is too small, and in a pipe
_LEAST = 5
_PIPED = 60
#: columns before a finding
_INDENT = 17
#: columns of a finding that are shown at least
_CLAUSE = 20
#: guests that are named with one cause
_SUBJECTS = 12
#: findings from which on they are counted by requirement too
_MANY = 50
#: reasons for not-assessable rows, and planned changes, that are shown; the report has them all
_REASONS = 4
_DIFFS = 200
_DIFF_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
_FREED = "freed in this run"
_SAMPLES = "SAMPLE DEFINITIONS: reclaim looked at no guest of yours"


@dataclass(frozen=True)
class _Line:
    """A line of the screen, in one colour but for its first part."""

    text: str
    #: a verdict before the text, in its own colour
    verdict: Verdict | None = None
    is_light: bool = False

    @property
    def whole(self) -> str:
        if self.verdict is None:
            return self.text
        return f"  {self.verdict!s:<{_INDENT - 3}} {self.text}"

    def write(
        self, reporter: pytest.TerminalReporter, columns: int | None = None
    ) -> None:
        """Print the line, cut off after *columns*."""
        whole = clip(self.whole, columns)
        if self.verdict is None:
            reporter.write_line(whole, light=self.is_light)
            return
        _, colour = STATUS[self.verdict]
        reporter.write(whole[: _INDENT - 1], **{colour: True})
        reporter.write_line(whole[_INDENT - 1 :])


def summary(reporter: pytest.TerminalReporter, run: Run, status: int) -> None:
    """Print one screen for each hypervisor. With -q only the sentence and the findings, with -qq the sentence."""
    for part in run.parts:
        if part.found is None:
            continue
        if reporter.verbosity < 0:
            _quiet(reporter, part, part.found, alone=len(run.parts) == 1)
            continue
        if run.options.mode == "plan":
            _plan(reporter, part.found)
        _Screen(reporter, part, part.found, status).print()


def _quiet(
    reporter: pytest.TerminalReporter, part: Part, record: Record, *, alone: bool
) -> None:
    name = "" if alone else f"{printable(record.hypervisor.name)}: "
    reporter.write_line(f"{name}{figures([record]).sentence}")
    if reporter.verbosity < -1:
        return
    for line in _in_full(findings.causes(record)):
        line.write(reporter)
    for text in (*_warned_of(record), *_unseen(record), *waiting(record)):
        reporter.write_line(text)
    if way_back := undo_line(record, part.folder):
        reporter.write_line(way_back)


class _Screen:
    """The summary of one hypervisor's record."""

    def __init__(
        self, reporter: pytest.TerminalReporter, part: Part, record: Record, status: int
    ) -> None:
        self._reporter = reporter
        self._part = part
        self._record = record
        self._status = status
        size_of_screen = shutil.get_terminal_size()
        self._lines = size_of_screen.lines
        self._columns = size_of_screen.columns if reporter.isatty else None
        page = part.folder / NAME
        self._page = page if page.is_file() else None

    def print(self) -> None:
        """Print the sentence and what to do next, then the findings, then the bytes."""
        record, reporter = self._record, self._reporter
        sentence = figures([record]).sentence
        head = list(self._head())
        below = list(_below(record))
        unseen = [*_warned_of(record), *_unseen(record), *waiting(record)]
        others = sum(height(text, self._columns) for text in (sentence, *head, *below))
        room = max(self._lines - _PYTESTS - others - len(unseen), _LEAST)
        name = printable(self._part.hypervisor.name)
        samples = ": SAMPLE DEFINITIONS" if is_of_samples(record) else ""
        reporter.ensure_newline()
        reporter.section(f"reclaim: {name}{samples}", sep="=", bold=True)
        reporter.write_line(sentence, bold=True, **self._colour)
        for text in head:
            reporter.write_line(text)
        self._findings(_PIPED if self._columns is None else room)
        for text in unseen:
            reporter.write_line(clip(text, self._columns), yellow=True)
        for text in below:
            is_freed = text.startswith(_FREED) and record.reclaimed_bytes > 0
            reporter.write_line(text, green=is_freed)

    @property
    def _colour(self) -> dict[str, bool]:
        verdicts = {row.verdict for row in self._record.results}
        failed = any(verdict.outcome == "failed" for verdict in verdicts)
        # the run has one status, and each hypervisor its own result
        unseen = Verdict.NOT_ASSESSABLE in verdicts
        found = ending(2 if self._status == 2 else 6 if unseen else 0, failed=failed)
        return {found.colour: True} if found else {}

    def _head(self) -> Iterator[str]:
        """Yield the lines under the sentence: the balance of a fix or plan, next steps, the way back, the report."""
        record, folder = self._record, self._part.folder
        yield from findings.balance(record)
        for command in next_steps(record):
            yield f"next:   {command}"
        if way_back := undo_line(record, folder):
            yield way_back
        if self._page is not None:
            yield f"report: {self._page}"

    def _findings(self, room: int) -> None:
        """Print the findings by their causes, with the reasons if there is room; with -v by guest, every one."""
        record, reporter = self._record, self._reporter
        if reporter.verbosity > 0:
            _by_guest(reporter, record)
            return
        causes = findings.causes(record)
        many = sum(len(cause.rows) for cause in causes) > _MANY
        totals = findings.totals(record) if many else []
        named_apart = any(len(cause.subjects) > _SUBJECTS for cause in causes)
        rest = [f"not every guest is named: {self._rest()}"] if named_apart else []
        for reasons in (True, False):
            full = _in_full(causes, reasons=reasons)
            lines = [*map(_Line, totals), *full, *map(_Line, rest)]
            if sum(height(line.whole, self._columns) for line in lines) <= room:
                for line in lines:
                    line.write(reporter)
                return
        self._in_short(causes, findings.totals(record), room)

    def _in_short(self, causes: list[Cause], totals: list[str], room: int) -> None:
        """Print totals by requirement and a line a cause, the worst first, as far as there is *room*."""
        reporter = self._reporter
        most = max((room - 1) // 2, 1)
        shown = totals if len(totals) <= most else totals[: most - 1]
        for text in shown:
            reporter.write_line(clip(text, self._columns))
        if more := len(totals) - len(shown):
            reporter.write_line(f"and {counted(more, 'more requirement')}")
            room -= 1
        ending_lines = height(self._shown(len(causes), len(causes)), self._columns)
        left = max(room - len(shown) - ending_lines, 1)
        worst = sorted(causes, key=lambda cause: (cause.place, -len(cause.rows)))
        for cause in worst[:left]:
            _short(cause, self._columns).write(reporter, self._columns)
        reporter.write_line(self._shown(min(left, len(causes)), len(causes)))

    def _shown(self, count: int, number: int) -> str:
        return f"{count} of {counted(number, 'kind')} of finding shown; {self._rest()}"

    def _rest(self) -> str:
        """Return where every finding can be read."""
        if self._page is not None:
            return "-v prints them all, and the report has them"
        return "-v prints them all"


def _in_full(causes: Sequence[Cause], *, reasons: bool = True) -> list[_Line]:
    """Return a line for each cause, and under the last of a requirement why that requirement exists."""
    lines: list[_Line] = []
    for place, cause in enumerate(causes):
        lines.append(_line_of(cause))
        following = causes[place + 1] if place + 1 < len(causes) else None
        is_last = following is None or following.requirement != cause.requirement
        is_finding = cause.verdict in (Verdict.NONCOMPLIANT, Verdict.PENDING)
        text = findings.why(cause.requirement) if is_last and is_finding else ""
        if reasons and text:
            lines.append(_Line(f"{' ' * _INDENT}why: {text}", is_light=True))
    return lines


def _line_of(cause: Cause) -> _Line:
    names = some(cause.subjects, _SUBJECTS)
    if "\n" in cause.text:
        # the last lines of a console
        lines = cause.text.replace("\n", f"\n{' ' * _INDENT}")
        return _Line(f"{cause.requirement}: {names}: {lines}", cause.verdict)
    text = ": ".join(filter(None, (cause.requirement, cause.text, names)))
    return _Line(text, cause.verdict)


def _short(cause: Cause, columns: int | None) -> _Line:
    """Return *cause* in one line if that is possible: its first clause, cut off before the names of its guests."""
    clause = " ".join(cause.text.partition(";")[0].split())
    names = ""
    for most in (_SUBJECTS, 3, 1):
        names = some(cause.subjects, most)
        line = _Line(f"{cause.requirement}: {clause}: {names}", cause.verdict)
        if height(line.whole, columns) == 1:
            return line
    left = (columns or 0) - _INDENT - columns_of(f"{cause.requirement}: : {names}")
    clause = clip(clause, max(left, _CLAUSE))
    return _Line(f"{cause.requirement}: {clause}: {names}", cause.verdict)


def _by_guest(reporter: pytest.TerminalReporter, record: Record) -> None:
    for guest, rows in findings.by_guest(record):
        reporter.write_line(guest, bold=True)
        for row in rows:
            _Line(_sentence(row), row.verdict).write(reporter)


def _sentence(row: Row) -> str:
    disk = f" {printable(row.disk)}" if row.disk else ""
    reason = printable(row.reason or row.evidence or "", lines=True)
    return f"{row.requirement}{disk}: {reason}"


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


def _plan(reporter: pytest.TerminalReporter, record: Record) -> None:
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


def _below(record: Record) -> Iterator[str]:
    """Yield the lines about bytes, and the last word about samples."""
    disks = [disk for disk in record.storage if disk.allocated_after is not None]
    if disks:
        yield _held(disks)
    if record.run.mode == "fix" and (disks or record.reclaimed_bytes):
        yield _freed(record, disks)
    if is_of_samples(record):
        yield _SAMPLES


def _freed(record: Record, disks: Iterable[Storage]) -> str:
    freed = record.reclaimed_bytes
    line = f"{_FREED}: {size(freed)}"
    if freed >= 1024:
        line += f" ({freed} bytes)"
    expected = known(disk.reclaimable_before for disk in disks)
    return f"{line}; expected: {size(sum(expected))}" if expected else line


def _held(disks: list[Storage]) -> str:
    """Report the bytes that the host holds for *disks*, and the part that the guests need, as far as that is known."""
    held = sum(known(disk.allocated_after for disk in disks))
    line = f"the host holds {size(held)} for {counted(len(disks), 'disk')}"
    seen = [disk for disk in disks if disk.used is not None]
    if seen:
        taken = sum(known(disk.allocated_after for disk in seen))
        needed = sum(known(disk.used for disk in seen))
        if len(seen) == len(disks):
            line += f"; the guests need {size(needed)}"
        else:
            line += f"; those that reclaim looked into ({len(seen)}) take {size(taken)} and need {size(needed)}"
        if needed > taken:
            line += " (the guests count blocks that they never wrote)"
    spare = sum(known(disk.reclaimable_after for disk in disks))
    if spare:
        line += f"; a trim gives back {size(spare)}"
    return line
