"""The text on the terminal: the header, the line of progress, and one screen at the end."""

from __future__ import annotations

import time
from types import SimpleNamespace
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
from tests.screens import Made

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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


@pytest.mark.parametrize(("value", "lines"), [(None, 0), (" ", 0), ("-k web", 1)])
def test_the_header_names_options_of_the_environment(
    part: Part, monkeypatch: pytest.MonkeyPatch, value: str | None, lines: int
) -> None:
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    if value is not None:
        monkeypatch.setenv("PYTEST_ADDOPTS", value)
    named = [line for line in terminal.header(_run(part)) if "PYTEST_ADDOPTS" in line]
    assert named == ["PYTEST_ADDOPTS is set: pytest adds its options to this run"] * lines


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "; nothing is changed"),
        ({"definitions_only": True}, "; nothing is changed; only definitions are judged"),
        ({"mode": "plan"}, "; the changes are shown, and none is made"),
        ({"mode": "fix"}, "; findings are fixed, and changes that need a power cycle wait for it"),
        ({"mode": "fix", "restart": True}, "; findings are fixed, and guests that need it are power-cycled"),
        ({"boot_stopped": True}, "; definitions and settings stay as they are"),
        ({"prove": True}, "; definitions and settings stay as they are"),
        ({"mode": "fix", "prove": True}, "; findings are fixed, and changes that need a power cycle wait for it"),
    ],
)
def test_the_first_line_has_what_the_run_does(part: Part, options: dict[str, Any], words: str) -> None:
    first = terminal.header(_run(part, **options))[0]
    assert first.startswith(f"reclaim {options.get('mode', 'audit')}: ")
    assert first.endswith(f"1 guest{words}")


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
    return [line.removeprefix("reclaim: ") for line in terminal.header(run)[1:] if line.startswith("reclaim: ")]


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


def test_in_a_pipe_a_long_look_is_told_now_and_then(
    reporter: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, out = reporter()
    now = [0.0]
    monkeypatch.setattr("reclaim.report.terminal.time.monotonic", lambda: now[0])
    progress = Progress(made)
    for second in range(25):
        now[0] = float(second)
        progress(f"looked into 1 of 2 guests, {second} s; waiting for web")
    assert out.getvalue().splitlines() == [
        f"looked into 1 of 2 guests, {second} s; waiting for web" for second in (10, 20)
    ]


@pytest.mark.parametrize("columns", [0, 80])
def test_work_that_takes_long_is_named_while_it_lasts(
    reporter: Callable[..., Made], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    for name in ("_TICK_SECONDS", "_SCREEN_SECONDS", "_PIPE_SECONDS"):
        monkeypatch.setattr(terminal, name, 0.001)
    made, out = reporter(columns)
    progress = Progress(made)
    deadline = time.monotonic() + 60
    with progress.watch("web\x1b: machine-type"):
        while "web\\x1b: machine-type: 0 s" not in out.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    said = out.getvalue()
    assert "web\\x1b: machine-type: 0 s" in said
    assert ("\r" in said) == bool(columns)
    with progress.watch("short"):
        pass
    progress.stop()
    length = len(out.getvalue())
    time.sleep(0.01)
    assert len(out.getvalue()) == length, "nothing is printed afterwards"


def test_quiet_work_is_not_watched(reporter: Callable[..., Made], monkeypatch: pytest.MonkeyPatch) -> None:
    made, out = reporter(verbosity=-1)
    progress = Progress(made)
    with progress.watch("web"):
        pass
    assert not progress._watcher.is_alive()
    assert out.getvalue() == ""


# pytest's last line


def _ended(made: Made, part: Part, status: int, **counts: int) -> tuple[str, str]:
    reporter, _ = made
    for category, count in counts.items():
        reporter.stats[category.replace("_", "-")] = [SimpleNamespace()] * count
    terminal.color_last_line(reporter, _run(part), status)
    parts, colour = reporter.build_summary_stats_line()
    return ", ".join(text for text, _ in parts), colour


@pytest.mark.parametrize(
    ("status", "counts", "ends"),
    [
        (0, {"compliant": 4}, ("OK: 4 compliant", "green")),
        (0, {"waived": 1, "fixed": 2}, ("OK: 2 fixed, 1 waived", "green")),
        (1, {"compliant": 4, "noncompliant": 1}, ("NOT OK: 1 noncompliant, 4 compliant", "red")),
        (1, {"error": 1, "compliant": 1}, ("NOT OK: 1 error, 1 compliant", "red")),
        (1, {"error": 2, "compliant": 1}, ("NOT OK: 2 errors, 1 compliant", "red")),
        (1, {"pending": 1, "fixed": 1}, ("NOT OK: 1 pending, 1 fixed", "red")),
        (1, {"compliant": 1}, ("NOT OK: 1 compliant", "red")),
        (6, {"compliant": 4, "not_assessable": 7}, ("NOT ALL CHECKED: 7 not-assessable, 4 compliant", "yellow")),
        (2, {"compliant": 4}, ("STOPPED: 4 compliant", "yellow")),
        (2, {"compliant": 4, "noncompliant": 1}, ("STOPPED: 1 noncompliant, 4 compliant", "red")),
        (0, {"compliant": 1, "deselected": 3}, ("OK: 1 compliant, 3 deselected", "green")),
    ],
)
def test_the_last_line_has_the_worst_first_and_its_colour(
    reporter: Callable[..., Made], part: Part, status: int, counts: dict[str, int], ends: tuple[str, str]
) -> None:
    part.hypervisor.is_test_driver = False
    assert _ended(reporter(), part, status, **counts) == ends


def test_the_last_line_of_samples_says_so(reporter: Callable[..., Made], part: Part) -> None:
    assert _ended(reporter(), part, 0, compliant=1) == ("OK (SAMPLES): 1 compliant", "green")


def test_where_nothing_was_judged_the_line_is_pytests(reporter: Callable[..., Made], part: Part) -> None:
    made, _ = reporter()
    terminal.color_last_line(made, _run(part), 5)
    assert "build_summary_stats_line" not in vars(made)
