"""The one sentence, and the commands that follow from a run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from reclaim.base.verdict import Verdict
from reclaim.handles.guest import OFF, UNSTARTED
from reclaim.record.record import Record
from reclaim.report import commands
from reclaim.report.summary import ROAD, Standing, came_back, figures, reclaimable, standing
from reclaim.requirement import catalogue
from tests import records
from tests.records import GIB, document, row, storage, whole


def sentence(rows: list[dict[str, Any]], disks: list[dict[str, Any]] | None = None, **more: Any) -> str:
    return figures([records.record(rows, disks or [], **more)]).sentence


def instead(guest: str, **verdicts: str) -> list[dict[str, Any]]:
    """The rows of *guest*, all compliant but those named."""
    return [
        {**one, **row(one["requirement"], verdicts[name], guest, one["disk"])} if name in verdicts else one
        for one in whole(guest)
        for name in [one["requirement"].replace("-", "_")]
    ]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        pytest.param("compliant fixed not-applicable", Standing.RETURNS, id="all hold"),
        pytest.param("compliant waived", Standing.WAIVED, id="waived"),
        pytest.param("compliant not-assessable waived", Standing.UNKNOWN, id="could not look"),
        pytest.param("compliant error", Standing.UNKNOWN, id="looking failed is no finding"),
        pytest.param("pending not-assessable", Standing.PENDING, id="waits"),
        pytest.param("noncompliant pending error", Standing.OPEN, id="a finding is the worst"),
    ],
)
def test_the_worst_verdict_says_how_a_guest_stands(verdicts: str, expected: Standing) -> None:
    assert standing(map(Verdict, verdicts.split())) is expected


def test_the_road_is_in_the_catalogue() -> None:
    assert set(ROAD) <= set(catalogue())


def test_the_sentence_has_all_that_counts() -> None:
    rows = [
        *whole("a"),
        *whole("b"),
        *instead("c", disk_bus="noncompliant", live_definition="pending"),
        *instead("d", live_definition="noncompliant"),
        *instead("e", guest_access="not-assessable"),
        *instead("f", disk_bus="waived"),
    ]
    held = storage("c", allocated_before=9 * GIB, allocated_after=8 * GIB, used=GIB)
    assert sentence(rows, [held]) == (
        "2 of 6 guests return freed space; this run freed 1.0 GiB on the host; 7.0 GiB can be freed now; "
        "2 guests wait for a power cycle; 1 guest was only partly checked; 1 guest is waived in part."
    )


def test_copies_do_not_say_how_their_guest_stands() -> None:
    rows = instead("a", sparse_backup="noncompliant") + instead("b", sparse_backup="not-assessable")
    job = row("backup-job", "noncompliant", None)
    assert sentence([*rows, job], []).startswith("2 of 2 guests return freed space; ")
    assert sentence([*rows, job], []).endswith("; 2 findings on backups.")
    # unless nothing else was asked
    copies = [one for one in rows if one["requirement"] == "sparse-backup"]
    assert sentence(copies, []).startswith("0 of 2 guests pass the checks that ran (not all checks ran)")


def test_an_image_with_snapshots_waits_for_no_power_cycle() -> None:
    assert "power cycle" not in sentence(instead("a", image_format="noncompliant"))
    assert "1 guest waits for a power cycle" in sentence(instead("a", image_format="pending"))


def test_all_is_well() -> None:
    well = storage("a", allocated_before=GIB, allocated_after=GIB, used=GIB)
    assert sentence(whole("a"), [well]) == "1 of 1 guest returns freed space."


def test_who_asked_for_a_part_is_told_no_more() -> None:
    assert "return freed space" not in sentence([row("disk-bus", "compliant", "a", "sda")])


def test_bytes_that_nobody_counted_are_not_called_none() -> None:
    assert "the space that can be freed is unknown" in sentence(whole("a"), [storage("a", used=None)])


def test_without_guests() -> None:
    assert sentence([]) == "No guest was judged."


def test_a_little_over_is_not_called_space_to_be_had() -> None:
    little = storage(used=4 * GIB, allocated_after=4 * GIB + 1000)
    (disk,) = records.record([], [little]).storage
    assert reclaimable(disk) == 0


@pytest.mark.parametrize(
    ("counted", "told"),
    [
        pytest.param({"reclaimable_after": 3 * GIB}, 3 * GIB, id="counted-exactly"),
        pytest.param({"reclaimable_after": 0}, 0, id="held-for-swap-and-the-like"),
        pytest.param({"reclaimable_after": GIB // 100}, 0, id="a-little"),
        pytest.param({}, 5 * GIB, id="a-record-from-before"),
    ],
)
def test_what_was_counted_through_all_layers_is_believed(counted: dict[str, Any], told: int) -> None:
    (disk,) = records.record([], [storage(used=4 * GIB, allocated_after=9 * GIB, **counted)]).storage
    assert reclaimable(disk) == told


def test_what_came_back_is_told_beside_what_was_counted() -> None:
    (disk,) = records.record([], [storage(reclaimable_before=4 * GIB, reclaimable_after=0)]).storage
    assert (disk.reclaimable_before, came_back(disk)) == (4 * GIB, 4 * GIB)
    (gone,) = records.record([], [storage(allocated_after=None)]).storage
    assert came_back(gone) is None


def test_hypervisors_are_added_up() -> None:
    both = [records.record(whole("a")), records.record(whole("a", broken=True), hypervisor="kvm2")]
    assert figures(both).guests == 2
    assert figures(both).standings[Standing.RETURNS] == 1


# Commands -------------------------------------------------------------------------------------


def typed(record: Record) -> list[str | None]:
    return [task.command for task in commands.tasks(record)]


def test_after_an_audit_comes_the_plan_then_the_fix() -> None:
    found = records.record(instead("a", disk_bus="noncompliant"), arguments=["checks/", "--uri", "qemu:///system"])
    assert typed(found) == [
        "pytest checks/ --uri qemu:///system --guests a --plan",
        "pytest checks/ --uri qemu:///system --guests a --fix",
    ]
    assert commands.next_command(found, Path("r")) == "pytest checks/ --uri qemu:///system --plan"


def test_after_a_plan_comes_the_fix() -> None:
    found = records.record(instead("a", disk_bus="noncompliant"), mode="plan", arguments=["checks/", "--plan"])
    assert typed(found) == ["pytest checks/ --guests a --fix"]
    assert commands.next_command(found, Path("r")) == "pytest checks/ --fix"


def test_after_a_forced_plan_comes_what_it_showed() -> None:
    rows = instead("a", disk_bus="noncompliant")
    found = records.record(rows, mode="plan", arguments=["checks/", "--plan", "--force"])
    assert typed(found) == ["pytest checks/ --guests a --fix --force"]
    assert commands.next_command(found, Path("r")) == "pytest checks/ --fix --force"


def test_nobody_is_told_to_start_what_is_not_started() -> None:
    rows = [
        row("guest-access", "not-assessable", "a", reason=f"{UNSTARTED}the guest b uses its image"),
        row("fstab-uuid", "not-assessable", "a", reason=OFF),
        row("guest-access", "not-assessable", "c", reason=OFF),
        row("fstab-uuid", "not-assessable", "c", reason=OFF),
    ]
    found = [one for one in commands.tasks(records.record(rows)) if "--boot-stopped" in str(one.command)]
    assert [one.guests for one in found] == [["c"]]


def test_after_a_fix_comes_the_power_cycle_then_the_way_back() -> None:
    rows = instead("a", live_definition="pending", disk_bus="fixed")
    rows[0]["changes"] = [records.change(applied=True)]
    found = records.record(rows, mode="fix", arguments=["checks/", "--fix", "--guests=a,b"])
    assert typed(found) == ["pytest checks/ --guests a --fix --restart"]
    assert commands.next_command(found, Path("r")) == "pytest checks/ --guests=a,b --fix --restart"
    done = records.record([*rows[:1]], mode="fix", arguments=["checks/", "--fix"])
    assert str(commands.next_command(done, Path("my runs/1"))).startswith("python -m reclaim undo 'my runs/1'")


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
        (["disk-bus: withheld: it has a snapshot"], "pytest checks/ --guests a --fix", ["a"]),
        (["disc-max: could not look"], "pytest checks/ --guests a,b", ["a", "b"]),
        (["fstrim-timer: it is off"], "pytest checks/ --guests b --boot-stopped", ["b"]),
    ]


def test_where_all_is_well_nothing_waits() -> None:
    found = records.record(whole("a"))
    assert typed(found) == []
    assert commands.next_command(found, Path("r")) is None


@pytest.mark.parametrize("name", ["a b", "a'b", "$(reboot)", "a[1]", "*", "-rf", "<b>"])
def test_a_name_is_quoted_for_the_shell_and_for_the_glob(name: str) -> None:
    found = records.record(instead(name, disk_bus="noncompliant"))
    words = shlex.split(str(typed(found)[0]))
    assert words[:3] == ["pytest", "checks/", "--guests"]
    import fnmatch  # noqa: PLC0415

    assert fnmatch.fnmatchcase(name, words[3])
    assert not fnmatch.fnmatchcase("another", words[3])


def test_a_name_that_no_option_can_hold_is_left_out() -> None:
    found = records.record(instead("a,b", disk_bus="noncompliant"))
    assert typed(found)[0] == "pytest checks/ --plan"


def test_old_places_are_not_written_to_again() -> None:
    arguments = ["checks/", "--junitxml=j.xml", "--html", "h.html", "--metrics", "m", "--force", "--fix"]
    found = records.record(instead("a", disk_bus="noncompliant"), arguments=arguments)
    assert typed(found)[0] == "pytest checks/ --guests a --plan"
    assert document([], arguments=arguments)["run"]["arguments"] == arguments
