"""The end of a run on the terminal: one screen for each hypervisor."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from reclaim.engine.part import Options, Part
from reclaim.engine.run import Run
from reclaim.report import screen
from tests import records
from tests.records import GIB, row, storage
from tests.screens import Made

if TYPE_CHECKING:
    from collections.abc import Callable

    from reclaim.record.record import Record


def _run(*parts: Part, **more: Any) -> Run:
    return Run(Options(**more), list(parts))


def _summary(made: Made, part: Part, record: Record, status: int = 1, **more: Any) -> list[str]:
    part.found = record
    screen.summary(made[0], _run(part, **more), status)
    return made[1].getvalue().splitlines()


# Findings by their causes


ROWS = [
    row("disk-bus", "noncompliant", "web", "sda", reason="it is on ide"),
    row("disk-bus", "noncompliant", "db", "sda", reason="it is on ide"),
    row("guest-access", "compliant", "web"),
    row("fstab-uuid", "fixed", "db", reason="was: by name"),
    row("backup-job", "error", None, backup="/b.sh", reason="could not look"),
    row("disc-max", "not-assessable", "db", reason="it is off"),
    row("disc-max", "waived", "web", reason="no need"),
]


def test_each_cause_has_a_line_with_its_guests(reporter: Callable[..., Made], part: Part) -> None:
    lines = _summary(reporter(100), part, records.record(ROWS))
    assert "  noncompliant   disk-bus: it is on ide: web sda, db sda" in lines
    assert "  fixed          fstab-uuid: was: by name: db" in lines
    assert "  error          backup-job: could not look: /b.sh" in lines
    assert "1 not assessable, in 1 guest: it is off" in lines
    assert not any("waived" in line and "disc-max" in line for line in lines)
    verdicts = [line.split()[0] for line in lines if line.startswith("  ") and "why:" not in line]
    assert verdicts == ["error", "noncompliant", "fixed"], "the worst first"


def test_a_finding_has_the_reason_of_its_requirement_once(reporter: Callable[..., Made], part: Part) -> None:
    rows = [row("disk-bus", "noncompliant", name, "sda", reason=f"it is on {name}") for name in ("ide", "sata")]
    lines = _summary(reporter(140, 50), part, records.record(rows))
    reasons = [line for line in lines if line.strip().startswith("why: ")]
    assert len(reasons) == 1
    assert "virtio-scsi passes discards on" in reasons[0]
    assert lines.index(reasons[0]) == 2 + max(n for n, line in enumerate(lines[:-1]) if "it is on" in line) - 1


def test_where_there_is_little_room_the_reasons_go_first(reporter: Callable[..., Made], part: Part) -> None:
    rows = [row(slug, "noncompliant", "a", reason="b") for slug in ("disk-bus", "disk-discard", "machine-type")]
    lines = _summary(reporter(80, 11), part, records.record(rows))
    assert len([line for line in lines if line.startswith("  noncompliant")]) == 3
    assert not any("why: " in line for line in lines)
    assert not any("shown" in line for line in lines)


def test_guests_beyond_a_dozen_are_counted(reporter: Callable[..., Made], part: Part) -> None:
    rows = [row("disk-bus", "noncompliant", f"g{number:02}", "sda", reason="ide") for number in range(40)]
    lines = _summary(reporter(), part, records.record(rows))
    [line] = [line for line in lines if line.startswith("  noncompliant")]
    assert line.endswith("g10 sda, g11 sda and 28 more")
    assert "not every guest is named: -v prints them all" in lines


def _fleet(kinds: int, guests: int) -> Record:
    rows = []
    for kind in range(kinds):
        slug = ("disk-bus", "disk-discard", "machine-type", "disc-max")[kind % 4]
        for number in range(guests + (kind == 7)):
            rows.append(row(slug, "noncompliant", f"guest-{number:03}", "sda", reason=f"cause {kind}"))
    return records.record(rows)


def test_a_screen_that_is_too_small_has_totals_and_the_most_frequent_causes(
    reporter: Callable[..., Made], part: Part
) -> None:
    lines = _summary(reporter(100, 24), part, _fleet(30, 40))
    assert len(lines) <= 24 - 2, "pytest's own lines have to fit too"
    assert "disc-max: 281 findings in 41 guests" in lines
    shown = [line for line in lines if line.startswith("  noncompliant")]
    assert "cause 7" in shown[0]
    assert all(len(line) <= 100 for line in shown)
    [rest] = [line for line in lines if "kinds of finding" in line]
    assert rest == f"{len(shown)} of 30 kinds of finding shown; -v prints them all"


def test_a_report_has_the_rest(reporter: Callable[..., Made], part: Part) -> None:
    (part.folder / "report.html").touch()
    lines = _summary(reporter(100, 24), part, _fleet(30, 40))
    assert any(line.endswith("shown; -v prints them all, and the report has them") for line in lines)


def test_with_v_every_row_is_printed_by_guest(reporter: Callable[..., Made], part: Part) -> None:
    lines = _summary(reporter(100, 24, verbosity=1), part, _fleet(3, 40))
    assert len([line for line in lines if line.startswith("guest-")]) == 40
    assert len([line for line in lines if line.startswith("  noncompliant   ")]) == 120


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
@pytest.mark.parametrize("lines", [10, 24, 50])
def test_no_screen_is_overrun(reporter: Callable[..., Made], part: Part, columns: int, lines: int) -> None:
    shown = _summary(reporter(columns, lines), part, _fleet(30, 40))
    findings = [line for line in shown if line.startswith("  noncompliant") or " findings in " in line]
    assert all(len(line) <= columns for line in findings)
    assert 1 <= len(findings) <= max(lines, 6)


def test_wide_and_hostile_names_are_clipped_and_harmless(reporter: Callable[..., Made], part: Part) -> None:
    rows = [
        row("disk-bus", "noncompliant", name, reason="a\x1b[2Jb") for name in ("仮想機械" * 12, "x\x1b[31m", "a\nb")
    ]
    text = "\n".join(_summary(reporter(100), part, records.record(rows)))
    assert "\x1b" not in text
    assert "x\\x1b[31m, a b" in text


def test_the_lines_of_a_console_come_after_the_guest(reporter: Callable[..., Made], part: Part) -> None:
    reason = "it did not come back; rolled back; the console's last lines:\nkernel panic\nnot syncing"
    record = records.record([row("live-definition", "noncompliant", "web", reason=reason)])
    lines = _summary(reporter(), part, record)
    at = lines.index(
        "  noncompliant   live-definition: web: it did not come back; rolled back; the console's last lines:"
    )
    assert [line.strip() for line in lines[at + 1 : at + 3]] == ["kernel panic", "not syncing"]
    many = records.record([row("live-definition", "noncompliant", "web", reason=reason + "\nmore" * 9)])
    [short] = [line for line in _summary(reporter(80, 12), part, many) if line.startswith("  noncompliant   live-")]
    assert short == "  noncompliant   live-definition: it did not come back: web"


# Not looked at, warnings, bytes


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


def test_a_need_above_the_held_bytes_is_explained(reporter: Callable[..., Made], part: Part) -> None:
    disk = storage("a", allocated_before=GIB, allocated_after=GIB, used=2 * GIB)
    [held] = [line for line in _summary(reporter(), part, records.record([], [disk])) if line.startswith("the host")]
    assert "for 1 disk;" in held
    assert held.endswith("; the guests need 2.0 GiB (the guests count blocks that they never wrote)")


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
    assert "freed in this run: 5 B" in _summary(reporter(), part, copies)


# The head


def test_next_steps_and_the_report_are_under_the_sentence(reporter: Callable[..., Made], part: Part) -> None:
    record = records.record([row("disk-bus", "noncompliant")])
    assert not any("report.html" in line for line in _summary(reporter(), part, record))
    (part.folder / "report.html").touch()
    lines = _summary(reporter(), part, record)[-6:]
    heading = next(number for number, line in enumerate(lines) if line.startswith("====="))
    assert lines[heading + 1].startswith("1 of 1 guest does not pass")
    assert re.fullmatch(r"next:   .*reclaim plan", lines[heading + 2])
    assert lines[heading + 3] == f"report: {part.folder / 'report.html'}"
    assert not any(line.startswith("next:") for line in _summary(reporter(), part, records.record([])))


def test_undo_has_a_line_of_its_own_and_is_never_next(reporter: Callable[..., Made], part: Part) -> None:
    rows = [row("disk-bus", "fixed", changes=[records.change(applied=True)])]
    (part.folder / "journal.jsonl").touch()
    lines = _summary(reporter(), part, records.record(rows, mode="fix"), mode="fix")
    [way_back] = [line for line in lines if line.startswith("undo:   ")]
    assert way_back.endswith(f"undo {part.folder}")
    [following] = [line for line in lines if line.startswith("next:   ")]
    assert "undo" not in following


def test_each_hypervisor_with_a_record_has_its_part(reporter: Callable[..., Made], part: Part) -> None:
    made, out = reporter()
    part.found = records.record([row("disk-bus", "noncompliant", "web")])
    other = replace(part, found=None)
    screen.summary(made, _run(part, other), 1)
    assert out.getvalue().count("reclaim: test-driver") == 1


def test_samples_are_called_so_in_heading_sentence_and_last_line(reporter: Callable[..., Made], part: Part) -> None:
    document = records.document([row("disk-bus", "noncompliant", "web")])
    document["hypervisor"]["uri"] = "test:///fleet.xml"
    heading, sentence, *_, last = _summary(reporter(), part, type(records.record([])).model_validate(document))
    assert heading.strip("= ") == "reclaim: test-driver: SAMPLE DEFINITIONS"
    assert sentence.startswith("SAMPLES: 1 of 1 guest does not pass")
    assert last == "SAMPLE DEFINITIONS: reclaim looked at no guest of yours"


# Quiet


def test_q_is_the_sentence_and_the_findings(reporter: Callable[..., Made], part: Part) -> None:
    (part.folder / "report.html").touch()
    lines = _summary(reporter(verbosity=-1), part, records.record(ROWS))
    assert lines[0].startswith("2 of 2 guests do not pass")
    assert "  noncompliant   disk-bus: it is on ide: web sda, db sda" in lines
    assert not any(line.startswith(("next:", "report:", "=")) for line in lines)


def test_qq_is_the_sentence_alone(reporter: Callable[..., Made], part: Part) -> None:
    [line] = _summary(reporter(verbosity=-2), part, records.record(ROWS))
    assert line.startswith("2 of 2 guests do not pass")


def test_quiet_sentences_of_several_hypervisors_have_their_names(reporter: Callable[..., Made], part: Part) -> None:
    made, out = reporter(verbosity=-2)
    part.found = records.record(ROWS)
    screen.summary(made, _run(part, replace(part, found=records.record(ROWS, hypervisor="kvm\x1b2"))), 1)
    first, second = out.getvalue().splitlines()
    assert (first[:6], second[:10]) == ("kvm1: ", "kvm\\x1b2: ")


# A plan


def test_a_plan_shows_its_diffs(reporter: Callable[..., Made], part: Part) -> None:
    rows = [row("disk-bus", "noncompliant", "we\x1bb", "sda", changes=[records.change()])]
    lines = _summary(reporter(), part, records.record(rows, mode="plan"), mode="plan")
    assert "disk-bus of we\\x1bb sda" in lines
    assert "    -<target bus='virtio'/>" in lines
    assert "    definition of one" in lines
    assert "1 of 1 finding would be fixed" in lines
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


# Colours


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


@pytest.mark.parametrize(
    ("verdict", "status", "colour"),
    [
        ("compliant", 0, 32),
        ("noncompliant", 1, 31),
        ("error", 1, 31),
        ("pending", 1, 31),
        ("not-assessable", 6, 33),
        ("compliant", 2, 33),
        ("noncompliant", 2, 31),
        ("waived", 0, 32),
    ],
)
def test_the_sentence_is_red_green_or_yellow(
    reporter: Callable[..., Made], part: Part, verdict: str, status: int, colour: int
) -> None:
    made, out = reporter(100)
    made._tw.hasmarkup = True
    _summary((made, out), part, records.record([row("disk-bus", verdict)]), status)
    sentence = next(line for line in out.getvalue().splitlines() if "1 of 1 guest" in line)
    assert f"\x1b[{colour}m" in sentence
