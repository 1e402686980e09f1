"""Changes and findings in few words."""

from __future__ import annotations

from typing import Any

import pytest

from reclaim.base.verdict import Verdict
from reclaim.report import brief
from tests import records
from tests.records import DIFF, row


def _brief(diff: str) -> str:
    record = records.record([row("disk-bus", "fixed", changes=[records.change(diff=diff)])])
    return brief.change(record.results[0].changes[0])


@pytest.mark.parametrize(
    ("diff", "expected"),
    [
        pytest.param(DIFF, "<target> bus='virtio' → 'scsi'", id="an attribute that changes"),
        pytest.param(
            '-  <driver name="qemu"/>\n+  <driver name="qemu" discard="unmap"/>',
            '<driver> discard="unmap" added',
            id="an attribute that comes",
        ),
        pytest.param('-<a x="1" y="2"/>\n+<a y="2"/>', '<a> x="1" removed', id="an attribute that goes"),
        pytest.param("-<a>1</a>\n+<a>2</a>", "<a>1</a> → <a>2</a>", id="a text that changes"),
        pytest.param("+<driver discard='unmap'/>", "<driver discard='unmap'/> added", id="an element that comes"),
        pytest.param("-x y", "x y removed", id="a line that goes"),
        pytest.param("-/dev/vda1 / ext4 rw 0 1\n+UUID=7 / ext4 rw 0 1", "/dev/vda1 → UUID=7", id="a word of a line"),
        pytest.param("-a b\n+a b c", "c added", id="a word that comes"),
        pytest.param("-a b c\n+a b", "c removed", id="a word that goes"),
        pytest.param("-a\n-b\n-c\n+d\n+e\n+f", "a → d; b → e; and 1 more line", id="many lines"),
        pytest.param("systemctl enable\n  x", "systemctl enable x", id="a command"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_a_change_is_described_by_the_difference(diff: str, expected: str) -> None:
    assert _brief(diff) == expected


@pytest.mark.parametrize("diff", ["+" + "y" * 10_000, "x" * 10_000, "\n".join("-a\n+b" for _ in range(10_000))])
def test_a_large_change_is_cut(diff: str) -> None:
    assert len(_brief(diff)) < 200


def _findings(*rows: dict[str, Any]) -> list[brief.Shortfall]:
    record = records.record(rows)
    return brief.findings((record, each) for each in record.results)


def test_findings_come_before_unknowns_and_those_of_most_rows_first() -> None:
    found = _findings(
        row("disc-max", "not-assessable", "a"),
        row("disc-max", "not-assessable", "b"),
        row("disc-max", "not-assessable", "c"),
        row("live-definition", "pending", "a"),
        row("fstab-uuid", "noncompliant", "a"),
        row("disk-bus", "error", "a", "sda"),
        row("disk-bus", "error", "a", "sdb"),
        row("boot-names", "compliant", "a"),
        row("boot-names", "waived", "b"),
    )
    assert [(each.requirement, each.verdict, each.count, each.guests) for each in found] == [
        ("disk-bus", Verdict.ERROR, 2, 1),
        ("fstab-uuid", Verdict.NONCOMPLIANT, 1, 1),
        ("live-definition", Verdict.PENDING, 1, 1),
        ("disc-max", Verdict.NOT_ASSESSABLE, 3, 3),
    ]


def test_rows_with_one_reason_are_together() -> None:
    [found] = _findings(
        row("disk-bus", "noncompliant", "web", reason="/images/web.qcow2 of web is bad; withheld: depends on x"),
        row("disk-bus", "noncompliant", "lone", reason="lone is another"),
        row("disk-bus", "noncompliant", "mail", reason="/images/mail.qcow2 of mail is bad"),
    )
    assert [(alike.reason, len(alike.rows)) for alike in found.alike] == [
        ("/images/GUEST.qcow2 of GUEST is bad", 2),
        ("lone is another", 1),
    ]


@pytest.mark.parametrize("name", ["a", "is", "("])
def test_a_name_that_may_be_a_common_word_stays(name: str) -> None:
    found = _findings(
        row("disk-bus", "noncompliant", name, reason="it is a (virtio) disk"),
        row("disk-bus", "noncompliant", "other", reason="it is a (virtio) disk"),
    )
    assert found[0].alike[0].reason == "it is a (virtio) disk"


def test_a_row_without_a_reason_has_its_title() -> None:
    [found] = _findings(row("disk-bus", "noncompliant", "a", reason=None, title="it holds"))
    assert found.alike[0].reason == "it holds"
