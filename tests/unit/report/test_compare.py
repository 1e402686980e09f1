"""What changed between runs."""

from __future__ import annotations

from typing import Any

import pytest

from reclaim.record.record import Record
from reclaim.report.compare import Comparison, compare, is_narrow, lines
from tests import records
from tests.records import GIB, row, storage


def run(
    *rows: dict[str, Any], disks: tuple[dict[str, Any], ...] = (), arguments: tuple[str, ...] = ("checks/",)
) -> Record:
    return records.record(rows, disks, arguments=arguments)


def told(found: Comparison) -> dict[str, list[str]]:
    return {name: list(map(str, value)) for name, value in vars(found).items() if value}


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("compliant", "noncompliant", "broken"),
        ("fixed", "error", "broken"),
        ("not-applicable", "noncompliant", "broken"),
        ("noncompliant", "compliant", "mended"),
        ("pending", "compliant", "mended"),
        ("compliant", "fixed", "mended"),
        ("noncompliant", "fixed", "mended"),
        ("noncompliant", "pending", "otherwise"),
        ("compliant", "pending", "otherwise"),
        ("not-assessable", "noncompliant", "otherwise"),
        ("compliant", "not-assessable", "otherwise"),
        ("error", "compliant", "mended"),
        ("waived", "fixed", "mended"),
        ("noncompliant", "not-applicable", "otherwise"),
        ("pending", "noncompliant", "otherwise"),
        ("noncompliant", "error", "otherwise"),
        ("waived", "compliant", "otherwise"),
        ("fixed", "waived", "otherwise"),
    ],
)
def test_a_verdict_that_turned(before: str, after: str, kind: str) -> None:
    found = compare([run(row("disk-bus", before, "a", "sda"))], run(row("disk-bus", after, "a", "sda")))
    assert told(found) == {kind: [f"a sda disk-bus: {before} → {after}"]}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("compliant", "compliant"),
        ("fixed", "compliant"),
        ("noncompliant", "noncompliant"),
        ("not-applicable", "compliant"),
        ("fixed", "not-applicable"),
        ("pending", "pending"),
        ("waived", "waived"),
        ("error", "error"),
    ],
)
def test_what_is_as_it_was_is_not_told(before: str, after: str) -> None:
    found = compare([run(row("disk-bus", before, "a", "sda"))], run(row("disk-bus", after, "a", "sda")))
    assert found.is_empty
    assert list(lines(found)) == ["no difference"]


def test_a_disk_is_known_by_its_image_when_mending_renames_it() -> None:
    before = run(
        row("disk-bus", "noncompliant", "a", "vda"),
        row("disk-bus", "compliant", "a", "sda"),
        disks=(storage("a", "vda", path="/1"), storage("a", "sda", path="/2")),
    )
    after = run(
        row("disk-bus", "compliant", "a", "sdb"),
        row("disk-bus", "noncompliant", "a", "sda"),
        disks=(storage("a", "sdb", path="/1"), storage("a", "sda", path="/2")),
    )
    assert told(compare([before], after)) == {
        "mended": ["a sdb disk-bus: noncompliant → compliant"],
        "broken": ["a sda disk-bus: compliant → noncompliant"],
    }


def test_copies_of_one_disk_are_told_apart() -> None:
    new, old = {"backup": "/b/web.img"}, {"backup": "/b/web-1.img"}
    both = run(
        row("sparse-backup", "compliant", "a", "vda", **new), row("sparse-backup", "noncompliant", "a", "vda", **old)
    )
    assert told(compare([both], both)) == {}
    after = run(
        row("sparse-backup", "noncompliant", "a", "sda", **new), row("sparse-backup", "compliant", "a", "sda", **old)
    )
    assert told(compare([both], after)) == {
        "broken": ["a sda /b/web.img sparse-backup: compliant → noncompliant"],
        "mended": ["a sda /b/web-1.img sparse-backup: noncompliant → compliant"],
    }


def test_the_only_disk_is_the_only_disk() -> None:
    before, after = run(row("disk-bus", "noncompliant", "a", "vda")), run(row("disk-bus", "compliant", "a", "sda"))
    assert told(compare([before], after)) == {"mended": ["a sda disk-bus: noncompliant → compliant"]}


def test_guests_come_and_go() -> None:
    before, after = run(row("disc-max", "compliant", "a")), run(row("disc-max", "noncompliant", "b"))
    assert told(compare([before], after)) == {"gone": ["a"], "new": ["b"]}


def test_who_was_not_asked_for_is_not_gone_and_not_new() -> None:
    both = run(row("disc-max", "compliant", "a"), row("disc-max", "compliant", "b"))
    one = run(row("disc-max", "compliant", "a"), arguments=("checks/", "--guests", "a"))
    assert told(compare([both], one)) == {}
    assert told(compare([one], both)) == {}


def test_what_a_run_that_was_cut_short_did_not_come_to_is_not_gone_and_not_new() -> None:
    whole = run(row("disc-max", "compliant", "a"), row("disc-max", "compliant", "b"))
    one = run(row("disc-max", "compliant", "a"))
    short = one.model_copy(update={"run": one.run.model_copy(update={"cut_short": True})})
    assert told(compare([whole], short)) == {}
    assert told(compare([short, whole], whole)) == {}


def test_behind_a_narrow_run_the_one_before_it_is_looked_at() -> None:
    whole = run(row("disc-max", "noncompliant", "a"), row("disc-max", "compliant", "b"))
    narrow = run(row("disc-max", "compliant", "a"), arguments=("checks/", "--guests", "a"))
    now = run(
        row("disc-max", "compliant", "a"), row("disc-max", "noncompliant", "b"), row("disc-max", "compliant", "c")
    )
    found = compare([narrow, whole], now)
    assert told(found) == {"broken": ["b disc-max: compliant → noncompliant"], "new": ["c"]}


def test_the_first_run_has_only_what_it_mended() -> None:
    found = compare([], run(row("disc-max", "fixed", "a"), row("fstrim-timer", "noncompliant", "a")))
    assert told(found) == {"mended": ["a disc-max: not judged → fixed"]}


def test_bytes_are_held_against_each_other() -> None:
    before = run(row("disc-max", "compliant", "a"), disks=(storage("a", "vda", path="/1", allocated_after=9 * GIB),))
    after = run(row("disc-max", "compliant", "a"), disks=(storage("a", "sda", path="/1", allocated_after=4 * GIB),))
    assert told(compare([before], after)) == {"bytes": ["a sda: 9.0 GiB → 4.0 GiB (−5.0 GiB)"]}
    assert told(compare([after], before)) == {"bytes": ["a vda: 4.0 GiB → 9.0 GiB (+5.0 GiB)"]}


def test_names_are_made_fit_to_be_shown() -> None:
    bad = "a\x1b[31m"
    found = compare([run(row("disc-max", "compliant", bad))], run(row("disc-max", "noncompliant", bad)))
    assert "\x1b" not in "".join(lines(found))


@pytest.mark.parametrize(
    ("arguments", "narrow"),
    [
        (("checks/",), False),
        (("checks/", "--fix", "--restart", "--uri", "qemu:///system"), False),
        (("checks/", "--guests=a"), True),
        (("checks/", "-k", "bus"), True),
        (("checks/check_disk_bus.py",), True),
        (("checks/check_disk_bus.py::check_disk_bus[a/sda]",), True),
        (("checks/", "-x"), True),
        (("checks/", "-vx"), True),
        (("checks/", "-kbus"), True),
        (("checks/", "--stepwise"), True),
        (("checks/", "-rx", "-vv", "-pno:html"), False),
    ],
)
def test_which_runs_are_narrow(arguments: tuple[str, ...], narrow: bool) -> None:  # noqa: FBT001
    assert is_narrow(run(arguments=arguments)) is narrow


@pytest.mark.parametrize("facts", [{"cut_short": True}, {"chosen": True}])
def test_a_run_of_less_than_everything_is_narrow(facts: dict[str, bool]) -> None:
    document = records.document([])
    assert not is_narrow(Record.model_validate(document))
    document["run"] |= facts
    assert is_narrow(Record.model_validate(document))


def unreached() -> Record:
    record = run(row("reach-hypervisor", "error", None))
    return record.model_copy(update={"hypervisor": record.hypervisor.model_copy(update={"reached": False})})


def test_the_guests_of_a_hypervisor_that_was_not_reached_are_not_gone() -> None:
    """Nobody could look: that it is not reached any more is what turned."""
    judged = run(row("disk-bus", "compliant", "a", "sda"))
    assert told(compare([judged], unreached())) == {"broken": ["reach-hypervisor: compliant → error"]}
    assert told(compare([unreached()], unreached())) == {}
    assert told(compare([unreached()], judged)) == {}
    assert is_narrow(unreached())


def test_after_it_is_reached_again_each_row_is_compared_with_its_newest() -> None:
    before = run(row("disk-bus", "compliant", "a", "sda"), row("disk-bus", "compliant", "b", "sda"))
    now = run(row("disk-bus", "noncompliant", "a", "sda"))
    found = told(compare([unreached(), before], now))
    assert found == {"broken": ["a sda disk-bus: compliant → noncompliant"], "gone": ["b"]}
