"""The commands that follow from a run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from reclaim.base import typed as words_typed
from reclaim.base.home import CHECKS
from reclaim.handles.guest import OFF, UNSTARTED
from reclaim.record.record import Record
from reclaim.report import commands
from tests import records
from tests.records import document, row, whole


def instead(guest: str, **verdicts: str) -> list[dict[str, Any]]:
    """The rows of *guest*, all compliant but those named."""
    return [
        {**one, **row(one["requirement"], verdicts[name], guest, one["disk"])} if name in verdicts else one
        for one in whole(guest)
        for name in [one["requirement"].replace("-", "_")]
    ]


@pytest.fixture(autouse=True)
def _on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words_typed, "_program", lambda _stand: ["reclaim"])


def typed(record: Record) -> list[str | None]:
    return [task.command for task in commands.tasks(record)]


def test_after_an_audit_comes_the_plan_then_the_fix() -> None:
    found = records.record(instead("a", disk_bus="noncompliant"), arguments=["checks/", "--uri", "qemu:///system"])
    assert typed(found) == [
        "reclaim plan --uri qemu:///system --guests a",
        "reclaim fix --uri qemu:///system --guests a",
    ]


def test_after_a_plan_comes_the_fix() -> None:
    found = records.record(instead("a", disk_bus="noncompliant"), mode="plan", arguments=["checks/", "--plan"])
    assert typed(found) == ["reclaim fix --guests a"]


def test_after_a_forced_plan_comes_what_it_showed() -> None:
    rows = instead("a", disk_bus="noncompliant")
    found = records.record(rows, mode="plan", arguments=["checks/", "--plan", "--force"])
    assert typed(found) == ["reclaim fix --guests a --force"]


def test_nobody_is_told_to_start_what_is_not_started() -> None:
    rows = [
        row("guest-access", "not-assessable", "a", reason=f"{UNSTARTED}the guest b uses its image"),
        row("fstab-uuid", "not-assessable", "a", reason=OFF),
        row("guest-access", "not-assessable", "c", reason=OFF),
        row("fstab-uuid", "not-assessable", "c", reason=OFF),
    ]
    found = [one for one in commands.tasks(records.record(rows)) if "--boot-stopped" in str(one.command)]
    assert [one.guests for one in found] == [["c"]]


def test_after_a_fix_comes_the_power_cycle() -> None:
    rows = instead("a", live_definition="pending", disk_bus="fixed")
    rows[0]["changes"] = [records.change(applied=True)]
    found = records.record(rows, mode="fix", arguments=["checks/", "--fix", "--guests=a,b"])
    assert typed(found) == ["reclaim fix --guests a --restart"]


def test_what_waits_for_another_row_is_told_once() -> None:
    rows = [
        row("guest-access", "noncompliant", "a", reason="no agent; withheld: install it"),
        row("disk-bus", "noncompliant", "a", "sda", reason="bus; withheld: depends on guest-access (noncompliant)"),
    ]
    found = records.record(rows, mode="fix")
    (task,) = commands.tasks(found)
    assert task.reasons == ["guest-access: no agent; withheld: install it"]


def test_what_one_command_judges_again_is_one_task() -> None:
    rows = [
        row("disk-bus", "noncompliant", "a", "sda", reason="withheld: it has a snapshot"),
        row("disc-max", "error", "a", reason="could not look"),
        row("disc-max", "error", "b", reason="could not look"),
        row("fstrim-timer", "not-assessable", "b", reason="it is off"),
    ]
    found = commands.tasks(records.record(rows, mode="fix"))
    assert [(task.reasons, task.command, task.guests) for task in found] == [
        (["disk-bus: withheld: it has a snapshot"], "reclaim fix --guests a", ["a"]),
        (["disc-max: could not look"], "reclaim audit --guests a,b", ["a", "b"]),
        (["fstrim-timer: it is off"], "reclaim audit --guests b --boot-stopped", ["b"]),
    ]


def test_where_all_is_well_nothing_waits() -> None:
    found = records.record(whole("a"))
    assert typed(found) == []


@pytest.mark.parametrize("name", ["a b", "a'b", "$(reboot)", "a[1]", "*", "-rf", "<b>"])
def test_a_name_is_quoted_for_the_shell_and_for_the_glob(name: str) -> None:
    found = records.record(instead(name, disk_bus="noncompliant"))
    words = shlex.split(str(typed(found)[0]))
    assert words[:3] == ["reclaim", "plan", "--guests"]
    import fnmatch  # noqa: PLC0415

    assert fnmatch.fnmatchcase(name, words[3])
    assert not fnmatch.fnmatchcase("another", words[3])


@pytest.mark.parametrize("name", ["a,b", "!a", " a", "a ", "a\tb"])
def test_a_name_that_no_option_can_hold_is_left_out(name: str) -> None:
    found = records.record(instead(name, disk_bus="noncompliant"))
    assert typed(found)[0] == "reclaim plan"


def test_old_places_are_not_written_to_again() -> None:
    arguments = ["checks/", "--junitxml=j.xml", "--html", "h.html", "--metrics", "m", "--force", "--fix"]
    found = records.record(instead("a", disk_bus="noncompliant"), arguments=arguments)
    assert typed(found)[0] == "reclaim plan --guests a"
    assert document([], arguments=arguments)["run"]["arguments"] == arguments


def test_a_path_that_names_all_checks_is_left_out_but_no_value_of_an_option() -> None:
    arguments = ["-k", "checks", "checks/", str(CHECKS), "--reports", ".", "--inventory", "checks"]
    found = records.record(instead("a", disk_bus="noncompliant"), arguments=arguments)
    assert commands.rerun(found, "--plan") == "reclaim plan -k checks --reports . --inventory checks"
    assert commands.neutral(found) == "reclaim audit -k checks --reports . --inventory checks"


def test_the_mode_is_the_verb_of_the_command_of_any_machine() -> None:
    found = records.record([], mode="fix", arguments=["checks/", "--fix", "--restart", "--inventory", "my house.toml"])
    assert commands.neutral(found) == "reclaim fix --restart --inventory 'my house.toml'"


def test_on_a_page_a_path_does_not_depend_on_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--inventory=house.toml", "--backups", "copies", "--reports", "/r", "-k", "--reports"]
    document = records.document(instead("a", disk_bus="noncompliant"), arguments=arguments)
    document["run"]["folder"] = "/srv"
    found = Record.model_validate(document)
    inside = "--inventory=/srv/house.toml --backups /srv/copies --reports /r -k --reports"
    assert typed(found)[0] == f"reclaim plan {inside} --guests a"
    monkeypatch.chdir(tmp_path)
    assert commands.rerun(found, "--plan") == f"reclaim plan {inside}"
    document["run"]["folder"] = str(tmp_path)
    there = commands.rerun(Record.model_validate(document), "--plan")
    assert there == "reclaim plan --inventory=house.toml --backups copies --reports /r -k --reports"


def test_what_is_for_machines_is_not_typed_again() -> None:
    arguments = ["--json", "--notify", "mail root", "--uri", "qemu:///system", "--notify=x", "--metrics", "m.prom"]
    found = records.record(instead("a", disk_bus="noncompliant"), arguments=arguments)
    assert commands.rerun(found, "--plan") == "reclaim plan --uri qemu:///system"
