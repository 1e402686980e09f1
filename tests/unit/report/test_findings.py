"""Findings by their causes, and the reasons that keep reclaim from fixing them."""

from __future__ import annotations

from typing import Any

import pytest

from reclaim.report import findings
from reclaim.report.findings import balance, causes, split, totals, why
from reclaim.requirement import catalogue
from tests import records
from tests.records import row

ACCESS = "depends on guest-access (noncompliant: no agent answers)"


def _row(**more: Any) -> Any:
    return records.record([row("disk-bus", "noncompliant", "a", "sda", **more)]).results[0]


@pytest.mark.parametrize(
    ("reason", "finding", "block"),
    [
        ("bus virtio", "bus virtio", ""),
        (f"bus virtio; withheld: {ACCESS}", "bus virtio", ACCESS),
        ("bus virtio; not fixed: the disk is full", "bus virtio", "the disk is full"),
        ("bus virtio; fixed in part: the disk is full", "bus virtio", "the disk is full"),
        ("x; waits for a power cycle: shut it down", "x", ""),
        ("x; waits for its next power cycle: it still runs", "x", ""),
        ("x; needs a power cycle, which is withheld: a mount", "x", "a mount"),
        (
            "bus virtio; a move only satisfies this rule; withheld: a; b",
            "bus virtio; a move only satisfies this rule",
            "a; b",
        ),
        ("bus virtio; an earlier change of this plan mends it too", "bus virtio", ""),
        (None, "it was seen", ""),
    ],
)
def test_a_reason_is_the_finding_and_what_blocks_its_fix(reason: str | None, finding: str, block: str) -> None:
    assert split(_row(reason=reason, evidence="it was seen")) == (finding, block)


def test_rows_with_one_finding_are_one_cause_whatever_blocks_them() -> None:
    rows = [
        row("disk-bus", "noncompliant", "a", "vda", reason=f"bus virtio; withheld: {ACCESS}"),
        row("disk-bus", "noncompliant", "b", "vda", reason="bus virtio; withheld: it has a snapshot"),
        row("disk-bus", "noncompliant", "b", "vda", reason="bus ide"),
        row("disk-bus", "compliant", "c", "vda"),
    ]
    found = causes(records.record(rows))
    assert [(cause.text, cause.subjects) for cause in found] == [
        ("bus virtio", ["a vda", "b vda"]),
        ("bus ide", ["b vda"]),
    ]


def test_the_worst_is_first() -> None:
    rows = [
        row("disk-bus", "fixed", "a"),
        row("disc-max", "pending", "a"),
        row("disk-discard", "noncompliant", "a"),
        *[row("machine-type", "noncompliant", name) for name in "ab"],
        row("image-format", "error", "a"),
    ]
    found = [cause.requirement for cause in causes(records.record(rows))]
    assert found == ["image-format", "machine-type", "disk-discard", "disc-max", "disk-bus"]


def test_totals_are_by_requirement() -> None:
    rows = [row("disk-bus", "noncompliant", name, disk) for name in "ab" for disk in ("sda", "sdb")]
    rows += [
        row("disc-max", "error", "a"),
        row("disk-discard", "compliant", "a"),
        row("backup-job", "noncompliant", None),
    ]
    assert totals(records.record(rows)) == [
        "disk-bus: 4 findings in 2 guests",
        "backup-job: 1 finding",
    ]


def test_a_plan_counts_what_it_would_fix_and_what_blocks_the_rest() -> None:
    rows = [
        row("disk-discard", "noncompliant", "a", "vda", changes=[records.change()]),
        row("disk-bus", "noncompliant", "a", "vda", reason="x; an earlier change of this plan mends it too"),
        *[row("disk-bus", "noncompliant", name, reason=f"bus; withheld: {ACCESS}") for name in "bcd"],
        row("machine-type", "noncompliant", "b", reason=f"old; withheld: {ACCESS}, which has no row in this run"),
        row("image-format", "noncompliant", "b", reason="old; withheld: it has a snapshot"),
        row("live-definition", "noncompliant", "e", changes=[records.change(kind="power-cycle")]),
        row("fstab-uuid", "noncompliant", "e", reason="x; withheld: /dev/sdq1 is gone", changes=[records.change()]),
        row("disc-max", "error", "b", reason="could not look"),
    ]
    assert balance(records.record(rows, mode="plan")) == [
        "2 of 9 findings would be fixed",
        "4 wait for guest-access: noncompliant: no agent answers",
        "1 is not fixed: it has a snapshot",
        "1 waits for a power cycle (--restart)",
        "1 is not fixed: /dev/sdq1 is gone",
        "looking failed in 1 row",
    ]


def test_a_fix_counts_what_it_fixed() -> None:
    rows = [
        row("disk-bus", "fixed", "a"),
        row("live-definition", "pending", "a", reason="x; waits for a power cycle: y"),
    ]
    assert balance(records.record(rows, mode="fix")) == [
        "1 of 2 findings was fixed",
        "1 waits for a power cycle (--restart)",
    ]
    assert balance(records.record(rows[:1], mode="fix")) == ["1 of 1 finding was fixed"]


def test_a_power_cycle_that_waits_for_its_window_names_that() -> None:
    waits = row("live-definition", "pending", "a", reason="x; waits for a power cycle: y")
    begins = {"next_window": "2026-11-29T22:00:00Z"}
    found = records.record([waits, {**waits, "guest": "b", **begins}], mode="fix", arguments=["--fix", "--restart"])
    assert balance(found) == [
        "0 of 2 findings were fixed",
        "1 waits for a power cycle",
        "1 waits for a power cycle in a maintenance window",
    ]


def test_an_audit_and_a_run_without_findings_count_nothing() -> None:
    assert balance(records.record([row("disk-bus", "noncompliant")])) == []
    assert balance(records.record([row("disk-bus", "compliant")], mode="fix")) == []


def test_every_requirement_has_a_short_reason() -> None:
    for slug in catalogue():
        text = why(slug)
        assert 10 < len(text) <= findings._WHY + 1, slug
        assert "`" not in text
        assert "\n" not in text
    assert why("nothing-of-ours") == ""
