"""The text on the terminal: pytest's own look, our words and colours."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from reclaim.base.text import counted, printable, some
from reclaim.base.verdict import Verdict
from reclaim.changes.boot_stopped import Boot
from reclaim.changes.power import PowerCycle
from reclaim.engine.journal import Entry
from reclaim.engine.journal import JournalRecord as Journal
from reclaim.engine.part import Options, Part
from reclaim.engine.run import Run
from reclaim.record.typed import undo
from reclaim.report.width import clip

#: verdicts in the order in which pytest's last line counts them, each with its letter and colour
STATUS: dict[Verdict, tuple[str, str]] = {
    Verdict.ERROR: ("E", "red"),
    Verdict.NONCOMPLIANT: ("F", "red"),
    Verdict.PENDING: ("~", "yellow"),
    Verdict.NOT_ASSESSABLE: ("?", "yellow"),
    Verdict.FIXED: ("+", "green"),
    Verdict.COMPLIANT: (".", "green"),
    Verdict.WAIVED: ("w", "cyan"),
    Verdict.NOT_APPLICABLE: ("-", "cyan"),
}
#: changes of a run that died that are named
_NAMED = 6
#: what each mode does, for the end of the header's first line
_MODES = {
    "audit": "nothing is changed",
    "plan": "the changes are shown, and none is made",
    "fix": "findings are fixed, and changes that need a power cycle wait for it",
    "restart": "findings are fixed, and guests that need it are power-cycled",
}
#: options that do more to a guest than judge it, with their lines in the header
_OPTIONS = {
    "boot_stopped": "--boot-stopped: reclaim starts the guests that are off, one at a time, and shuts them down again",
    "force": "--force: reclaim fixes even if another requirement must hold first",
    "prove": "--prove: trims each filesystem of the guests, writes a file there and deletes it again",
}
#: seconds without a sign of life after which one is given, on a screen and in a pipe
_SCREEN_SECONDS, _PIPE_SECONDS = 2.0, 10.0
_TICK_SECONDS = 1.0


class LastWord(NamedTuple):
    """The words and the colour with which pytest's last line begins, by the status of the run."""

    words: str
    colour: str


_ENDINGS = {
    0: LastWord("OK", "green"),
    1: LastWord("NOT OK", "red"),
    2: LastWord("STOPPED", "yellow"),
    6: LastWord("NOT ALL CHECKED", "yellow"),
}


def status(verdict: Verdict) -> tuple[str, str, tuple[str, dict[str, bool]]]:
    """Return pytest's category, letter and word for *verdict*."""
    letter, colour = STATUS[verdict]
    return str(verdict), letter, (str(verdict).upper(), {colour: True})


def ending(status: int, *, failed: bool) -> LastWord | None:
    """Return the beginning of pytest's last line; None for a *status* that pytest explains by itself."""
    found = _ENDINGS.get(status)
    return found._replace(colour="red") if found and failed else found


def color_last_line(reporter: pytest.TerminalReporter, run: Run, status: int) -> None:
    """Let pytest's last line be red, green or yellow by what the *run* found, and name the worst verdict first.

    pytest knows none of our verdicts, so that its own line is always yellow.
    """
    failed = any(key in reporter.stats for key in ("failed", "error", *_BAD))
    end = ending(int(status), failed=failed)
    if end is None or not reporter.stats:
        return
    parts, _ = reporter.build_summary_stats_line()
    samples = all(part.hypervisor.is_test_driver for part in run.parts)
    words = end.words + " (SAMPLES)" * samples
    first, *others = [_colored(part) for part in sorted(parts, key=_place)]
    made = [(f"{words}: {first[0]}", {end.colour: True, "bold": True}), *others]
    reporter.build_summary_stats_line = lambda: (made, end.colour)  # type: ignore[method-assign]


_BAD = [str(verdict) for verdict in Verdict if verdict.outcome == "failed"]
#: a part of pytest's last line: its text, and how it looks
_Part = tuple[str, dict[str, bool]]


def _verdict(part: _Part) -> Verdict | None:
    """Return the verdict that *part* of pytest's last line counts. pytest has a plural of its own for errors."""
    name = part[0].partition(" ")[2]
    found = [verdict for verdict in STATUS if name in (str(verdict), f"{verdict}s")]
    return found[0] if found else None


def _place(part: _Part) -> int:
    verdict = _verdict(part)
    return len(STATUS) if verdict is None else list(STATUS).index(verdict)


def _colored(part: _Part) -> _Part:
    """Return *part* of pytest's last line in the colour of its verdict."""
    verdict = _verdict(part)
    return part if verdict is None else (part[0], {STATUS[verdict][1]: True})


def header(run: Run) -> list[str]:
    """Return the lines under pytest's own header: hypervisors, mode, and the remains of earlier runs."""
    lines: list[str] = []
    for part in run.parts:
        lines += _of_part(run.options, part)
    lines.append(f"reports: {printable(str(run.options.reports))}")
    if os.environ.get("PYTEST_ADDOPTS", "").strip():
        lines.append("PYTEST_ADDOPTS is set: pytest adds its options to this run")
    return lines + [f"reclaim: {notice}" for notice in _notices(run)]


def does(options: Options) -> str:
    """Return what a run with *options* does to the guests."""
    mode = options.mode
    if mode == "fix":
        return _MODES["restart" if options.restart else "fix"]
    if options.boot_stopped or options.prove:
        # their own lines follow
        return "definitions and settings stay as they are"
    return _MODES[mode] + "; only definitions are judged" * options.definitions_only


def _of_part(options: Options, part: Part) -> Iterator[str]:
    hypervisor = part.hypervisor
    name, uri = printable(hypervisor.name), printable(hypervisor.uri)
    if part.unreached:
        yield f"reclaim {options.mode}: {name} could not be reached: {printable(part.unreached)}"
        return
    sample = ""
    if hypervisor.is_test_driver:
        sample = "libvirt's test driver: SAMPLE DEFINITIONS, no real guests; "
    qemu = f", QEMU {hypervisor.qemu_version}" if hypervisor.qemu_version else ""
    guests = counted(len(part.guests), "guest")
    yield (
        f"reclaim {options.mode}: {sample}{name} ({uri}), "
        f"libvirt {hypervisor.libvirt_version}{qemu}, {guests}; {does(options)}"
    )
    if not part.guests:
        yield f"reclaim: {uri} has no guests: there is nothing to judge (--uri or --hosts names another hypervisor)"


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
    return f"{counted(len(entries), 'change')} ({some(names, _NAMED)})"


def _named(entry: Entry) -> str:
    return f"{entry.requirement} of {printable(entry.guest)}"


class Progress:
    """One line that is rewritten while reclaim waits; in a pipe its new lines are printed, and one now and then.

    An empty text clears it.
    """

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter
        self._shown = False
        self._last = ""
        self._said = time.monotonic()
        #: the work that is watched, and when it began
        self._label, self._since = "", 0.0
        # the watcher prints too
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._tick, daemon=True)

    def line(self, text: str) -> None:
        """Print a line that stays."""
        with self._lock:
            self.clear()
            self._reporter.write_line(printable(text, lines=True))

    def __call__(self, text: str) -> None:
        if self._reporter.verbosity < 0:
            return
        text = printable(text)
        with self._lock:
            if not text:
                self.clear()
            elif self._reporter.isatty:
                self._rewrite(text)
            else:
                self._add(text)

    def _rewrite(self, text: str) -> None:
        if not self._shown:
            self._reporter.ensure_newline()  # a guest's letters stay
        columns = shutil.get_terminal_size().columns
        self._reporter.rewrite(clip(text, columns - 1), erase=True)
        self._shown = True
        self._said = time.monotonic()

    def _add(self, text: str) -> None:
        """Print *text* in a pipe if it is new, or if nothing was printed for a while."""
        stable = re.sub(r"\d+", "", text)
        is_new = stable != self._last and not text.startswith("looked into")
        self._last = stable
        if is_new or time.monotonic() - self._said >= _PIPE_SECONDS:
            self._reporter.ensure_newline()
            self._reporter.write_line(text)
            self._reporter.flush()
            self._said = time.monotonic()

    def clear(self) -> None:
        """Leave the line to others."""
        with self._lock:
            if self._shown:
                self._reporter.rewrite("", erase=True)
                self._shown = False

    @contextmanager
    def watch(self, label: str) -> Generator[None, None, None]:
        """Print *label* and the seconds now and then while the work inside takes long and prints nothing."""
        if self._reporter.verbosity < 0:
            yield
            return
        if not self._watcher.is_alive():
            self._watcher.start()
        with self._lock:
            self._label, self._since = printable(label), time.monotonic()
            self._said = self._since
        try:
            yield
        finally:
            with self._lock:
                self._label = ""
                self.clear()

    def stop(self) -> None:
        """Let the thread of `watch` end."""
        self._over.set()

    def _tick(self) -> None:
        silence = _SCREEN_SECONDS if self._reporter.isatty else _PIPE_SECONDS
        while not self._over.wait(_TICK_SECONDS):
            now = time.monotonic()
            with self._lock:
                if self._label and now - self._said >= silence:
                    self(f"{self._label}: {now - self._since:.0f} s")
