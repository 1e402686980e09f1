"""The record of one hypervisor's part of a run: what it holds, and that it shows no secret."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

import reclaim
from reclaim.base.verdict import ChangeRecord, Judgement, Verdict
from reclaim.engine.document import document
from reclaim.engine.part import Options, Part
from reclaim.record.record import Record
from reclaim.space.measured import DiskSpace
from tests.support import disk_xml, domain_xml, engine, opened, requirement, subject

STARTED = datetime(2026, 1, 1, tzinfo=timezone.utc)
ENDED = datetime(2026, 1, 1, 0, 0, 30, tzinfo=timezone.utc)


@pytest.fixture
def part(tmp_path: Path) -> Part:
    hypervisor = opened(tmp_path, domain_xml(disk_xml()))
    return Part(hypervisor, hypervisor.guests, engine(hypervisor, tmp_path, "audit"), tmp_path / "run")


def _made(part: Part, options: Options | None = None, **more: Any) -> dict[str, Any]:
    found = document("20260101T000000Z-audit", options or Options(), STARTED, ENDED, part, **more)
    Record.model_validate(found)
    return found


def test_a_run_is_described_with_its_moments_in_utc(part: Part) -> None:
    options = Options(mode="plan", arguments=("checks/", "--plan"), started_in=Path("/srv/house"))
    made = _made(part, options)
    assert made["run"] == {
        "id": "20260101T000000Z-audit",
        "mode": "plan",
        "started": "2026-01-01T00:00:00Z",
        "ended": "2026-01-01T00:00:30Z",
        "version": reclaim.__version__,
        "arguments": ["checks/", "--plan"],
        "folder": "/srv/house",
        "cut_short": False,
        "chosen": False,
        "inventory_hypervisors": None,
    }
    assert _made(part, cut_short=True)["run"]["cut_short"] is True


def test_the_hypervisor_is_described(part: Part) -> None:
    assert _made(part)["hypervisor"] == {
        "name": "test-driver",
        "uri": part.hypervisor.uri,
        "libvirt": part.hypervisor.libvirt_version,
        "qemu": None,
        "reached": True,
        "host": None,
        "hostname": "test-driver",
    }
    part.hypervisor.host = "ssh://me:hunter2@kvm1"
    assert _made(part)["hypervisor"]["host"].endswith("@kvm1")


def test_the_outcome_counts_the_rows(part: Part) -> None:
    guest = part.guests[0]
    fixed = part.engine.result(requirement("disk-discard"), subject(guest, "vda"))
    fixed.take(Judgement(Verdict.FIXED, "was: absent", "discard='unmap'"))
    fixed.changes += [ChangeRecord("definition", "one", "", applied=True), ChangeRecord("definition", "one", "")]
    part.engine.result(requirement("guest-access"), subject(guest)).take(Judgement(Verdict.NOT_ASSESSABLE, "off"))
    made = _made(part)["outcome"]
    assert made == {
        "status": 6,
        "went_wrong": False,
        "rolled_back": 0,
        "errors": 0,
        "left_off": 0,
        "failed": 0,
        "applied": 1,
        "pending": 0,
        "verdicts": {str(verdict): int(verdict in (Verdict.FIXED, Verdict.NOT_ASSESSABLE)) for verdict in Verdict},
        "guests": 1,
        "folder": str(part.folder),
    }


@pytest.mark.parametrize("flag", ["rolled_back", "left_off", "failed"])
def test_a_row_that_went_wrong_is_counted_in_the_outcome(part: Part, flag: str) -> None:
    row = part.engine.result(requirement("live-definition"), subject(part.guests[0]))
    row.take(Judgement(Verdict.NONCOMPLIANT, "it did not answer"))
    assert _made(part)["outcome"]["went_wrong"] is False
    setattr(row, flag, True)
    made = _made(part)
    assert (made["outcome"]["went_wrong"], made["outcome"][flag]) == (True, 1)
    assert made["results"][0][flag] is True


def test_the_status_is_that_of_this_hypervisor_alone(part: Part) -> None:
    row = part.engine.result(requirement("guest-access"), subject(part.guests[0]))
    statuses = {}
    for verdict in Verdict:
        row.verdict = verdict
        statuses[str(verdict)] = _made(part)["outcome"]["status"]
    assert {verdict for verdict, status in statuses.items() if status == 1} == {"noncompliant", "pending", "error"}
    assert {verdict for verdict, status in statuses.items() if status == 6} == {"not-assessable"}
    row.verdict = Verdict.NONCOMPLIANT
    assert _made(part, cut_short=True)["outcome"]["status"] == 1, "-x stopped it at a finding"
    assert _made(part, cut_short=True, stopped=True)["outcome"]["status"] == 2
    row.verdict = Verdict.COMPLIANT
    assert _made(part, cut_short=True)["outcome"]["status"] == 2
    assert _made(part, cut_short=True)["outcome"]["went_wrong"] is True


def test_a_run_without_a_folder_names_none(part: Part) -> None:
    part.homeless = "no room"
    assert _made(part)["outcome"]["folder"] is None


def test_the_hypervisors_of_the_inventory_are_listed(part: Part) -> None:
    assert _made(part, inventory_hypervisors=["kvm1", "kvm2"])["run"]["inventory_hypervisors"] == ["kvm1", "kvm2"]


def test_rows_are_in_the_order_in_which_they_were_judged(part: Part) -> None:
    guest = part.guests[0]
    part.engine.result(requirement("disk-bus"), subject(guest, "vda")).take(Judgement(Verdict.COMPLIANT, "", "seen"))
    part.engine.result(requirement("guest-access"), subject(guest)).take(Judgement(Verdict.ERROR, "could not look"))
    rows = _made(part)["results"]
    assert [(row["requirement"], row["disk"], row["verdict"], row["reason"], row["evidence"]) for row in rows] == [
        ("disk-bus", "vda", "compliant", None, "seen"),
        ("guest-access", None, "error", "could not look", None),
    ]


def _space(disk: str, before: int | None, after: int | None) -> DiskSpace:
    return DiskSpace(
        guest="one",
        disk=disk,
        path=f"/images/{disk}",
        virtual=100,
        allocated_before=before,
        allocated_after=after,
        used=None,
    )


def test_the_bytes_of_disks_and_copies_are_added_up(part: Part) -> None:
    for space in (_space("vda", 70, 30), _space("vdb", None, 30)):
        part.storage[space.guest, space.disk] = space
    part.engine.freed = 7
    made = _made(part)
    assert [disk["disk"] for disk in made["storage"]] == ["vda", "vdb"]
    assert made["reclaimed_bytes"] == 47


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("--uri", "qemu+ssh://me:hunter2@kvm1/system"), "kvm1/system"),
        (("--uri=qemu+ssh://me:hunter2@kvm1/system",), "kvm1/system"),
        (("a\x1b[31m\nb",), "a\\x1b[31m b"),
    ],
)
def test_arguments_are_fit_to_be_shown(part: Part, arguments: tuple[str, ...], shown: str) -> None:
    made = _made(part, Options(arguments=arguments))
    words = " ".join(made["run"]["arguments"])
    assert shown in words
    assert "hunter2" not in words
    assert words.isprintable()


def test_the_secret_of_an_address_is_in_no_record(part: Part) -> None:
    part.hypervisor.uri = "qemu+ssh://me:hunter2@kvm1/system"
    assert "hunter2" not in str(_made(part))
    assert "kvm1/system" in _made(part)["hypervisor"]["uri"]
