"""The text on the terminal: the header, the line of progress, and one screen at the end."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from reclaim.base.verdict import Verdict
from reclaim.changes.boot_stopped import Boot
from reclaim.changes.command import CommandChange
from reclaim.changes.power import PowerCycle
from reclaim.engine.engine import Subject
from reclaim.engine.journal import Entry, JournalRecord
from reclaim.engine.part import Options, Part
from reclaim.engine.run import Run
from reclaim.report import terminal
from reclaim.report.terminal import Progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


Made = tuple[pytest.TerminalReporter, io.StringIO]


def _run(*parts: Part, **more: Any) -> Run:
    return Run(Options(**more), list(parts))


# Letters --------------------------------------------------------------------------------------


def test_every_verdict_has_a_letter_of_its_own() -> None:
    letters = [terminal.status(verdict)[1] for verdict in Verdict]
    assert len(set(letters)) == len(letters)
    for verdict in Verdict:
        category, letter, (word, colours) = terminal.status(verdict)
        assert (category, word) == (str(verdict), str(verdict).upper())
        assert len(letter) == 1
        assert list(colours.values()) == [True]


# The header -----------------------------------------------------------------------------------


def test_the_header_has_hypervisor_versions_and_guests(part: Part) -> None:
    [line, *_] = terminal.header(_run(part, mode="plan"))
    assert line.startswith("reclaim plan: ")
    assert "SAMPLE DEFINITIONS" in line
    assert part.hypervisor.uri in line
    assert f"libvirt {part.hypervisor.libvirt_version}, 1 guest" in line
    part.hypervisor.is_test_driver = False
    part.hypervisor.qemu_version = "7.2.0"
    part.hypervisor.name = "kvm\x1b1"
    part.guests.append(part.guests[0])
    [line, *_] = terminal.header(_run(part))
    assert "SAMPLE" not in line
    assert "QEMU 7.2.0, 2 guests" in line
    assert "kvm\\x1b1" in line


def test_a_hypervisor_without_guests_is_told(part: Part) -> None:
    assert not [line for line in terminal.header(_run(part)) if "nothing to judge" in line]
    part.guests.clear()
    assert [line for line in terminal.header(_run(part)) if "nothing to judge" in line]


def test_that_no_backups_are_declared_is_told_once(part: Part) -> None:
    def told(**more: Any) -> int:
        return len([line for line in terminal.header(_run(part, part, **more)) if "--backups" in line])

    assert told() == 1
    assert told(definitions_only=True) == 0
    part.jobs.append(Subject(part.hypervisor))
    assert told() == 0


def test_options_that_do_more_than_judge_are_named(part: Part) -> None:
    lines = terminal.header(_run(part, force=True, prove=True, boot_stopped=True, mode="fix"))
    for option in ("--force", "--prove", "--boot-stopped"):
        assert [line for line in lines if line.startswith(f"reclaim: {option}: ")], option
    assert not [line for line in terminal.header(_run(part)) if ": --force" in line or ": --prove" in line]


def test_what_earlier_runs_left_is_told_fit_to_be_shown(part: Part) -> None:
    run = _run(part)
    run.left_out, run.at_stake, run.remarks = ["/tmp/a\x1b"], ["one: it\x1b is off"], ["a journal\x1b"]
    text = "\n".join(terminal.header(run))
    for words in ("/tmp/a\\x1b", "it\\x1b is off", "a journal\\x1b"):
        assert words in text


def _died(folder: Path, *entries: tuple[str, Any], mode: str = "fix") -> JournalRecord:
    """A run that died, with (state, change) for each of its changes."""
    made = [
        Entry(seq, f"guest-{seq}\x1b", "uuid", "disk-bus", change, state)
        for seq, (state, change) in enumerate(entries, start=1)
    ]
    return JournalRecord(folder / "20250101T000000Z-fix/journal.jsonl", "test:///x", made, ended=False, mode=mode)


COMMAND = CommandChange("one", "a", "b")
CYCLE = PowerCycle("one", "<domain/>", None)
BOOT = Boot("one", "20250101T000000Z-fix")


def _told(part: Part, died: JournalRecord) -> list[str]:
    run = _run(part, definitions_only=True)
    run.interrupted.append((part, died))
    return [line.removeprefix("reclaim: ") for line in terminal.header(run)[1:]]


def test_a_run_that_died_in_a_change_is_told_with_the_way_back(part: Part, tmp_path: Path) -> None:
    [line] = _told(part, _died(tmp_path, ("done", COMMAND), ("intended", COMMAND)))
    assert "20250101T000000Z-fix died while it changed disk-bus of guest-2\\x1b; " in line
    assert "1 change (disk-bus of guest-1\\x1b)" in line
    assert line.endswith(f"reclaim undo {tmp_path}/20250101T000000Z-fix")
    [line] = _told(part, _died(tmp_path, ("intended", COMMAND)))
    assert "before that" not in line


def test_a_run_that_died_between_two_changes_is_told(part: Part, tmp_path: Path) -> None:
    [line] = _told(part, _died(tmp_path, *[("done", COMMAND)] * 9))
    assert "9 changes (" in line
    assert "guest-6\\x1b and 3 more)" in line
    assert "guest-7" not in line
    assert "--fix" in line
    [line] = _told(part, _died(tmp_path, ("done", COMMAND), mode="undo"))
    assert line.startswith("an undo of the run ")
    [line] = _told(part, _died(tmp_path, ("unknown", COMMAND), mode="undo"))
    assert line.startswith("an undo of the run ")


def test_open_power_cycles_are_told_by_their_guests_and_starts_by_name(part: Part, tmp_path: Path) -> None:
    assert _told(part, _died(tmp_path, ("intended", CYCLE))) == []
    [line] = _told(part, _died(tmp_path, ("intended", BOOT), ("intended", CYCLE)))
    assert "guest-1\\x1b;" in line
    assert "--boot-stopped" in line


def test_a_run_at_another_address_is_told(part: Part, tmp_path: Path) -> None:
    run = _run(part, definitions_only=True)
    run.elsewhere.append((part, _died(tmp_path, ("done", COMMAND))))
    line = terminal.header(run)[-1]
    assert "test:///x" in line
    assert part.hypervisor.uri in line


# Progress -------------------------------------------------------------------------------------


def test_progress_rewrites_one_line_on_a_screen(reporter: Callable[..., Made]) -> None:
    made, out = reporter(20)
    progress = Progress(made)
    progress("looked into 1 of 2")
    progress("a line that is much longer than the screen")
    shown = out.getvalue()
    assert "looked into 1 of 2" in shown
    assert shown.rsplit("\r", 1)[1].rstrip() == "a line that is muc…"
    assert "\n" not in shown
    progress("")
    assert out.getvalue().rsplit("\r", 1)[1].strip() == ""
    length = len(out.getvalue())
    progress.clear()
    assert len(out.getvalue()) == length, "there is nothing to clear"


def test_progress_in_a_pipe_is_a_line_for_each_new_thing(reporter: Callable[..., Made]) -> None:
    made, out = reporter()
    progress = Progress(made)
    for text in ("looked into 1 of 9", "one: 1 s", "one: 2 s", "", "two\x1b: 2 s", "one: 3 s"):
        progress(text)
    assert out.getvalue().splitlines() == ["one: 1 s", "two\\x1b: 2 s", "one: 3 s"]


def test_quiet_progress_says_nothing(reporter: Callable[..., Made]) -> None:
    made, out = reporter(80, verbosity=-1)
    Progress(made)("one: 1 s")
    assert out.getvalue() == ""


def test_a_line_that_stays_is_below_the_one_that_goes(reporter: Callable[..., Made]) -> None:
    made, out = reporter(80)
    progress = Progress(made)
    progress("working")
    progress.line("one\x1b: finished\nits last words")
    assert out.getvalue().rsplit("\r", 1)[1].strip().splitlines() == ["one\\x1b: finished", "its last words"]
    progress("on")
    assert "on" in out.getvalue().rsplit("\r", 1)[1]
