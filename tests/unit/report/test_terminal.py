"""The text on the terminal: the header, the line of progress, and one screen at the end."""

from __future__ import annotations

import argparse
import copy
import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.terminal import TerminalReporter

from reclaim.base.verdict import Verdict
from reclaim.changes.boot_stopped import Boot
from reclaim.changes.command import CommandChange
from reclaim.changes.power import PowerCycle
from reclaim.engine.engine import Subject
from reclaim.engine.journal import Entry, JournalRecord
from reclaim.engine.part import Options, Part
from reclaim.engine.run import Run
from reclaim.report import terminal
from reclaim.report.terminal import Progress, clip
from tests import records
from tests.records import GIB, row, storage
from tests.support import disk_xml, domain_xml, engine, opened

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from reclaim.record.record import Record


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


Made = tuple[TerminalReporter, io.StringIO]


@pytest.fixture
def reporter(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Made]:
    """Make pytest's own reporter for a screen of so many columns and lines, or for a pipe."""

    def make(columns: int = 0, lines: int = 24, verbosity: int = 0) -> Made:
        config = copy.copy(pytestconfig)
        config.option = argparse.Namespace(**{**vars(pytestconfig.option), "verbose": verbosity})
        monkeypatch.setenv("COLUMNS", str(columns or 80))
        monkeypatch.setenv("LINES", str(lines))
        out = _Screen() if columns else io.StringIO()
        made = TerminalReporter(config, out)
        made._tw.hasmarkup = False
        return made, out

    return make


@pytest.fixture
def part(tmp_path: Path) -> Part:
    hypervisor = opened(tmp_path, domain_xml(disk_xml()))
    folder = tmp_path / "reports/test-driver/20260101T000000Z-audit"
    folder.mkdir(parents=True)
    return Part(hypervisor, hypervisor.guests, engine(hypervisor, tmp_path, "audit"), folder)


def _run(*parts: Part, **more: Any) -> Run:
    return Run(Options(**more), list(parts))


def _summary(made: Made, part: Part, record: Record, **more: Any) -> list[str]:
    part.found = record
    terminal.summary(made[0], _run(part, **more))
    return made[1].getvalue().splitlines()


# Letters --------------------------------------------------------------------------------------


def test_every_verdict_has_a_letter_of_its_own() -> None:
    letters = [terminal.status(verdict)[1] for verdict in Verdict]
    assert len(set(letters)) == len(letters)
    for verdict in Verdict:
        category, letter, (word, colours) = terminal.status(verdict)
        assert (category, word) == (str(verdict), str(verdict).upper())
        assert len(letter) == 1
        assert list(colours.values()) == [True]


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("abcdef", None, "abcdef"),
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("\N{CJK UNIFIED IDEOGRAPH-4E00}" * 3, 6, "\N{CJK UNIFIED IDEOGRAPH-4E00}" * 3),
        ("\N{CJK UNIFIED IDEOGRAPH-4E00}" * 4, 6, "\N{CJK UNIFIED IDEOGRAPH-4E00}" * 2 + "…"),
        ("e\N{COMBINING ACUTE ACCENT}fghij", 5, "e\N{COMBINING ACUTE ACCENT}fgh…"),
    ],
)
def test_a_line_is_cut_by_the_columns_that_it_takes(text: str, columns: int | None, shown: str) -> None:
    assert clip(text, columns) == shown


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


# The summary ----------------------------------------------------------------------------------


def test_findings_are_told_in_full_where_they_fit(reporter: Callable[..., Made], part: Part) -> None:
    rows = [
        row("disk-bus", "noncompliant", "web", "sda", reason="it is on ide"),
        row("guest-access", "compliant", "web"),
        row("fstab-uuid", "fixed", "db", reason="was: by name"),
        row("backup-job", "error", None, reason="could not look"),
        row("disc-max", "not-assessable", "db", reason="it is off"),
        row("disc-max", "waived", "web", reason="no need"),
    ]
    lines = _summary(reporter(100), part, records.record(rows))
    at = lines.index("db")
    assert lines[at + 1].split() == ["fixed", "fstab-uuid:", "was:", "by", "name"]
    assert "web" in lines
    assert any(line.split()[:3] == ["noncompliant", "disk-bus", "sda:"] for line in lines)
    assert lines[lines.index("kvm1") + 1].split()[0] == "error"
    assert "1 not assessable, in 1 guest: it is off" in lines
    assert not any("waived" in line and "disc-max" in line for line in lines)


@pytest.mark.parametrize(("verbosity", "is_full"), [(0, False), (1, True)])
def test_a_large_fleet_has_a_line_a_guest_the_worst_first(
    reporter: Callable[..., Made], part: Part, verbosity: int, *, is_full: bool
) -> None:
    rows = []
    for number in range(40):
        rows.append(row("disk-bus", "noncompliant", f"guest-{number:02}", "sda"))
        rows += [row("disc-max", "noncompliant", f"guest-{number:02}")] * (number == 33)
    lines = _summary(reporter(100, 24, verbosity), part, records.record(rows))
    guests = [line for line in lines if line.startswith("guest-")]
    if is_full:
        assert guests == [f"guest-{number:02}" for number in range(40)]
        return
    assert guests[0].startswith("guest-33  2 noncompliant: disk-bus, disc-max")
    more = next(line for line in lines if "more guests" in line)
    assert more == f"and {40 - len(guests)} more guests"
    assert len(lines) <= 24 - 2, "pytest's own lines have to fit too"


def test_in_a_pipe_more_findings_are_told(reporter: Callable[..., Made], part: Part) -> None:
    rows = [row("disk-bus", "noncompliant", f"guest-{number:02}", "sda") for number in range(25)]
    lines = _summary(reporter(), part, records.record(rows))
    assert len([line for line in lines if line.startswith("  noncompliant")]) == 25


def test_machine_types_that_have_a_warning_are_told_once_each(reporter: Callable[..., Made], part: Part) -> None:
    texts = {
        "a": "pc-i440fx-2.6; may not boot: QEMU was seen: start it once; deprecated: QEMU 10.1 drops it",
        "b": "pc-i440fx-2.5; may not boot: QEMU was seen: start it once",
        "c": "pc-i440fx-5.2; deprecated: QEMU 11.2 drops it",
        "d": "pc-q35-10.0",
    }
    rows = [row("machine-type", "compliant", guest, evidence=text) for guest, text in texts.items()]
    rows.append(row("machine-type", "compliant", "e", evidence=texts["a"]))
    lines = _summary(reporter(), part, records.record(rows))
    warned = [line for line in lines if "machine type" in line]
    assert warned[0] == f"2 guests have the machine type {texts['a']}"
    assert warned[1:] == [f"1 guest has the machine type {texts[guest]}" for guest in "bc"]


def test_reasons_of_what_could_not_be_looked_at_are_counted(reporter: Callable[..., Made], part: Part) -> None:
    rows = []
    for number, reason in enumerate("abcdef"):
        rows += [row("disc-max", "not-assessable", f"g{guest}", reason=reason) for guest in range(10 - number)]
    rows.append(row("fstab-uuid", "not-assessable", "g0", reason="a"))
    lines = _summary(reporter(), part, records.record(rows))
    assert "11 not assessable, in 10 guests: a" in lines
    assert "7 not assessable, in 7 guests: d" in lines
    assert not any(line.endswith(": e") for line in lines)
    assert any(line.startswith("and 2 more reasons") for line in lines)


def test_bytes_are_told_as_far_as_they_are_known(reporter: Callable[..., Made], part: Part) -> None:
    disks = [
        storage("a", allocated_before=9 * GIB, allocated_after=5 * GIB, used=4 * GIB, reclaimable_after=GIB),
        storage("b", allocated_before=2 * GIB, allocated_after=2 * GIB, used=None),
    ]
    lines = _summary(reporter(), part, records.record([], disks))
    [held] = [line for line in lines if line.startswith("the host holds")]
    assert "7.0 GiB for 2 disks" in held
    assert "those that reclaim looked into (1) take 5.0 GiB and need 4.0 GiB" in held
    assert held.endswith("a trim gives back 1.0 GiB")
    assert not any("freed in this run" in line and "expected" in line for line in lines)
    unknown = storage("c", allocated_after=None)
    lines = _summary(reporter(), part, records.record([], [unknown]))
    assert not any(line.startswith("the host holds") for line in lines)


def test_what_came_home_is_told_of_a_fix_alone(reporter: Callable[..., Made], part: Part) -> None:
    disk = storage("a", allocated_before=9 * GIB, allocated_after=5 * GIB, reclaimable_before=3 * GIB)
    fix = records.record([], [disk], mode="fix", reclaimed_bytes=4 * GIB)
    lines = _summary(reporter(), part, fix)
    [came] = [line for line in lines if line.startswith("freed in this run")]
    assert f"4.0 GiB ({4 * GIB} bytes)" in came
    assert "expected: 3.0 GiB" in came
    for record in (
        records.record([], [disk], mode="audit", reclaimed_bytes=4 * GIB),
        records.record([], [], mode="fix", reclaimed_bytes=0),
    ):
        assert not any(line.startswith("freed in this run") for line in _summary(reporter(), part, record))
    copies = records.record([], [], mode="fix", reclaimed_bytes=5)
    assert any(line.startswith("freed in this run") for line in _summary(reporter(), part, copies))


def test_the_report_is_named_if_there_is_one(reporter: Callable[..., Made], part: Part) -> None:
    record = records.record([row("disk-bus", "noncompliant")])
    assert not any("report.html" in line for line in _summary(reporter(), part, record))
    (part.folder / "report.html").touch()
    lines = _summary(reporter(), part, record)
    assert f"report: {part.folder / 'report.html'}" in lines
    assert lines[-1].endswith("reclaim plan")
    assert not any(line.startswith("next:") for line in _summary(reporter(), part, records.record([])))


def test_each_hypervisor_with_a_record_has_its_part(reporter: Callable[..., Made], part: Part) -> None:
    made, out = reporter()
    part.found = records.record([row("disk-bus", "noncompliant", "web")])
    other = replace(part, found=None)
    terminal.summary(made, _run(part, other))
    assert out.getvalue().count("reclaim: test-driver") == 1


def test_quiet_prints_no_summary(reporter: Callable[..., Made], part: Part) -> None:
    record = records.record([row("disk-bus", "noncompliant")])
    assert _summary(reporter(verbosity=-1), part, record) == []


# A plan ---------------------------------------------------------------------------------------


def test_a_plan_shows_its_diffs(reporter: Callable[..., Made], part: Part) -> None:
    rows = [row("disk-bus", "noncompliant", "we\x1bb", "sda", changes=[records.change()])]
    lines = _summary(reporter(), part, records.record(rows, mode="plan"), mode="plan")
    assert "disk-bus of we\\x1bb sda" in lines
    assert "    -<target bus='virtio'/>" in lines
    assert "    definition of one" in lines
    audit = _summary(reporter(), part, records.record(rows))
    assert not any("+<target" in line for line in audit)


def test_a_plan_of_many_changes_is_cut(reporter: Callable[..., Made], part: Part) -> None:
    rows = [row("disk-bus", "noncompliant", f"g{n}", changes=[records.change(diff=f"id {n}")]) for n in range(203)]
    lines = _summary(reporter(), part, records.record(rows, mode="plan"), mode="plan")
    assert "    id 199" in lines
    assert "    id 200" not in lines
    assert any(line.startswith("and 3 more changes") for line in lines)


def test_a_plan_without_changes_has_no_heading(reporter: Callable[..., Made], part: Part) -> None:
    lines = _summary(reporter(), part, records.record([], mode="plan"), mode="plan")
    assert not any("would change" in line for line in lines)


# Colours --------------------------------------------------------------------------------------


def test_colours_are_those_of_verdicts_and_diffs(reporter: Callable[..., Made], part: Part) -> None:
    made, out = reporter(100)
    made._tw.hasmarkup = True
    rows = [
        row("disk-bus", "noncompliant", "web", "sda", changes=[records.change()]),
        row("fstab-uuid", "fixed", "web"),
    ]
    text = "\n".join(_summary((made, out), part, records.record(rows, mode="plan"), mode="plan"))
    red, green = "\x1b[31m", "\x1b[32m"
    assert f"{red}    -<target" in text
    assert f"{green}    +<target" in text
    assert f"{red}  noncompliant" in text
    assert f"{green}  fixed" in text
