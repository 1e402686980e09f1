"""A change of a journal is obeyed only if a fixer makes such a change, to the guest that it is filed under."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reclaim.changes.boot_stopped import Boot
from reclaim.changes.command import CommandChange
from reclaim.changes.definition_change import DefinitionChange
from reclaim.changes.domfstrim import TrimTimer
from reclaim.changes.file_change import FileChange
from reclaim.changes.live_update import LiveUpdate
from reclaim.changes.ours import expect
from reclaim.changes.power import PowerCycle
from reclaim.changes.punch import HolePunch, SparseRewrite
from reclaim.changes.qcow2_amend import AmendCycle, ImageAmend
from reclaim.changes.sparsify import Sparsify
from reclaim.changes.trim import Trim
from tests.support import disk_xml, domain_xml, uuid_of

if TYPE_CHECKING:
    from reclaim.changes.change import Change

ONE = uuid_of("one")
OWN = domain_xml(disk_xml())
OTHER = domain_xml(disk_xml(), name="two")
RENAMED = OWN.replace("<name>one", "<name>two")
DISK = disk_xml(driver="discard='ignore'")
COPY = ("/copies/one.img", 1, 1, 1, 1, 1)
JOB = FileChange("here", "/etc/cron.daily/backup", "rsync\n", "rsync --sparse\n")

OBEYED: dict[str, tuple[str, Change]] = {
    "definition": (ONE, DefinitionChange("one", OWN, OWN.replace("qcow2", "raw"))),
    "definition-with-blanks-around-its-uuid": (ONE, DefinitionChange("one", OWN.replace(ONE, f"\n {ONE} "), OWN)),
    "power-cycle": (ONE, PowerCycle("one", OWN, None)),
    "power-cycle-with-a-definition": (ONE, PowerCycle("one", OWN, None, defined=OWN)),
    "amend-cycle": (ONE, AmendCycle("one", OWN, None, "", OWN, ["/images/vda.qcow2"])),
    "live-update": (ONE, LiveUpdate("one", "vda", DISK, disk_xml(driver="discard='unmap'"))),
    "attach": (ONE, LiveUpdate("one", "vda", None, disk_xml())),
    "trim-timer": (ONE, TrimTimer("one", ONE, "qemu:///system", "/usr/bin/virsh")),
    "file-in-a-guest": (ONE, FileChange("one", "/etc/fstab", None, "x", verify="findmnt", then="update-grub")),
    "command-in-a-guest": (ONE, CommandChange("one", "systemctl enable fstrim.timer")),
    "trim": (ONE, Trim("one")),
    "image-amend": (ONE, ImageAmend("one", "/images/vda.qcow2")),
    "sparsify": (ONE, Sparsify("one", "/images/vda.qcow2", "qcow2")),
    "boot": (ONE, Boot("one", "20260101T000000Z-audit")),
    "job": ("", JOB),
    "job-that-is-a-unit": ("", FileChange("here", JOB.path, "a", "b", then="systemctl daemon-reload")),
    "hole-punch": ("", HolePunch(*COPY)),
    "sparse-rewrite": ("", SparseRewrite(*COPY)),
}


@pytest.mark.parametrize(("uuid", "change"), OBEYED.values(), ids=OBEYED)
def test_what_fixers_make_is_obeyed(uuid: str, change: Change) -> None:
    expect(uuid, change)


def _job(**more: object) -> FileChange:
    values = {"place": "here", "path": "/job", "before": "a", "after": "b", **more}
    return FileChange(**values)  # type: ignore[arg-type]


REFUSED: dict[str, tuple[str, Change]] = {
    "copy-of-a-guest": (ONE, HolePunch(*COPY)),
    "rewrite-of-a-guest": (ONE, SparseRewrite(*COPY)),
    "command-on-the-host": ("", CommandChange("one", "id")),
    "definition-of-no-guest": ("", DefinitionChange("one", OWN, OWN)),
    "power-cycle-of-no-guest": ("", PowerCycle("one", OWN, None)),
    "trim-of-no-guest": ("", Trim("one")),
    "timer-of-no-guest": ("", TrimTimer("one", "", "qemu:///system", "/usr/bin/virsh")),
    "job-from-nothing": ("", _job(before=None)),
    "job-away": ("", _job(after=None)),
    "job-by-a-relative-path": ("", _job(path="etc/job")),
    "job-with-a-command-that-verifies": ("", _job(verify="id")),
    "job-with-another-command-after-it": ("", _job(then="systemctl daemon-reload; id")),
    "job-with-devices": ("", _job(devices=["/dev/sda"])),
    "before-is-of-another": (ONE, DefinitionChange("one", OTHER, OWN)),
    "after-is-of-another": (ONE, DefinitionChange("one", OWN, OTHER)),
    "renamed": (ONE, DefinitionChange("one", OWN, RENAMED)),
    "no-uuid": (ONE, DefinitionChange("one", OWN.replace(f"<uuid>{ONE}</uuid>", ""), OWN)),
    "no-name": (ONE, DefinitionChange("", OWN.replace("<name>one</name>", ""), OWN.replace("<name>one</name>", ""))),
    "no-xml": (ONE, DefinitionChange("one", "<domain", OWN)),
    "no-text": (ONE, DefinitionChange("one", OWN, "\udcff")),
    "booted-is-of-another": (ONE, PowerCycle("one", OTHER, None)),
    "defined-is-of-another": (ONE, PowerCycle("one", OWN, None, defined=OTHER)),
    "amends-without-a-definition": (ONE, AmendCycle("one", OWN, None, "", "", ["/dev/sda"])),
    "another-disk": (ONE, LiveUpdate("one", "vdb", None, disk_xml())),
    "another-disk-before": (ONE, LiveUpdate("one", "vda", disk_xml("vdb"), disk_xml())),
    "no-disk": (ONE, LiveUpdate("one", "vda", None, "<hostdev><target dev='vda'/></hostdev>")),
    "no-target": (ONE, LiveUpdate("one", "vda", None, "<disk/>")),
    "another-source": (ONE, LiveUpdate("one", "vda", DISK, disk_xml(source="/dev/sda"))),
    "a-disk-that-is-no-xml": (ONE, LiveUpdate("one", "vda", None, "<disk")),
    "a-disk-that-is-no-text": (ONE, LiveUpdate("one", "vda", None, "\udcff")),
    "timer-of-another": (ONE, TrimTimer("one", uuid_of("two"), "qemu:///system", "/usr/bin/virsh")),
}


@pytest.mark.parametrize(("uuid", "change"), REFUSED.values(), ids=REFUSED)
def test_what_no_fixer_makes_is_refused(uuid: str, change: Change) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        expect(uuid, change)
    assert str(caught.value).isprintable()


def test_a_refusal_shows_no_more_than_a_line() -> None:
    long = "x" * 100_000
    for uuid, change in (
        ("", _job(path=f"/{long}", before=None)),
        (ONE, TrimTimer("one", long, "qemu:///system", "/usr/bin/virsh")),
        (ONE, LiveUpdate("one", long, None, disk_xml())),
        (ONE, DefinitionChange("one", OWN.replace(ONE, long), OWN)),
        (long, DefinitionChange("one", OWN, OWN)),
    ):
        with pytest.raises(ValueError, match=r".") as caught:
            expect(uuid, change)
        assert len(str(caught.value)) < 400
