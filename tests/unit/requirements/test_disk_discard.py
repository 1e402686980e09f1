"""disk-discard: the check and the fixer as a pair."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fixers.disk_discard import set_discard_unmap
from reclaim.base.verdict import Verdict
from reclaim.changes.definition_change import DefinitionChange
from reclaim.definition.domain import Definition
from reclaim.engine.engine import judge
from reclaim.handles.guest import Disk
from reclaim.inventory import GuestNotes, Inventory, Policy
from tests.support import difference, disk_xml, domain_xml, drive, mend, opened, requirement, subject, verdict_of

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.handles.guest import Guest


def _driver(attributes: str) -> str:
    return f"domain/devices/disk/driver {attributes} ''"


@pytest.mark.parametrize(
    ("driver", "gone", "came"),
    [
        pytest.param("", "name='qemu' type='qcow2'", "discard='unmap' name='qemu' type='qcow2'", id="absent"),
        pytest.param(
            "discard='ignore'",
            "discard='ignore' name='qemu' type='qcow2'",
            "discard='unmap' name='qemu' type='qcow2'",
            id="ignore",
        ),
        pytest.param(
            "cache='none' io='native' discard='ignore' queues='4'",
            "cache='none' discard='ignore' io='native' name='qemu' queues='4' type='qcow2'",
            "cache='none' discard='unmap' io='native' name='qemu' queues='4' type='qcow2'",
            id="beside-others",
        ),
    ],
)
def test_a_driver_without_unmap_is_mended_and_nothing_else(tmp_path: Path, driver: str, gone: str, came: str) -> None:
    other = disk_xml("vdb", driver="discard='ignore' cache='writeback'")
    guest = opened(tmp_path, domain_xml(disk_xml(driver=driver), other)).guests[0]
    mended = mend(tmp_path, guest, "disk-discard", "vda")
    assert list(mended.gone.elements()) == [_driver(gone)]
    assert list(mended.came.elements()) == [_driver(came)]


def test_a_disk_without_a_driver_element_gets_one(tmp_path: Path) -> None:
    bare = "<disk type='file' device='disk'><source file='/a.img'/><target dev='vda' bus='virtio'/></disk>"
    guest = opened(tmp_path, domain_xml(bare)).guests[0]
    mended = mend(tmp_path, guest, "disk-discard", "vda")
    assert list(mended.gone.elements()) == []
    assert list(mended.came.elements()) == [_driver("discard='unmap'")]


@pytest.mark.parametrize(
    ("device", "verdict"),
    [
        pytest.param(disk_xml(driver="discard='unmap'"), Verdict.COMPLIANT, id="unmap"),
        pytest.param(disk_xml(inner="<readonly/>"), Verdict.NOT_APPLICABLE, id="read-only"),
        pytest.param(
            f"<disk type='block' device='lun'><source dev='/dev/sdz'/><target dev='vda' bus='scsi'/>{drive(0)}</disk>",
            Verdict.NOT_APPLICABLE,
            id="lun",
        ),
    ],
)
def test_verdicts_that_start_no_fixer(tmp_path: Path, device: str, verdict: Verdict) -> None:
    guest = opened(tmp_path, domain_xml(device)).guests[0]
    assert verdict_of(guest, "disk-discard", "vda") is verdict


def test_cdroms_and_floppies_are_no_disks(tmp_path: Path) -> None:
    cdrom, floppy = disk_xml("sda", "sata", device="cdrom"), disk_xml("fda", "fdc", device="floppy")
    guest = opened(tmp_path, domain_xml(disk_xml(), cdrom, floppy)).guests[0]
    assert [disk.name for disk in guest.disks] == ["vda"]


def test_a_guest_that_is_thick_on_purpose_is_left(tmp_path: Path) -> None:
    inventory = Inventory(guest={"one": GuestNotes(thick=True)})
    guest = opened(tmp_path, domain_xml(disk_xml()), inventory=inventory).guests[0]
    assert verdict_of(guest, "disk-discard", "vda") is Verdict.NOT_APPLICABLE


# thick on purpose -----------------------------------------------------------------------------


def _image(folder: Path, *, allocated: bool) -> Path:
    path = folder / "disk.img"
    with path.open("wb") as image:
        image.truncate(1024 * 1024)
        if allocated:
            os.posix_fallocate(image.fileno(), 0, 1024 * 1024)
    return path


def _raw(path: Path, driver: str = "type='raw'") -> str:
    return (
        f"<disk type='file' device='disk'><driver name='qemu' {driver}/><source file='{path}'/>"
        "<target dev='vda' bus='virtio'/></disk>"
    )


def _on_a_host(tmp_path: Path, device: str, inventory: Inventory | None = None) -> Guest:
    hypervisor = opened(tmp_path, domain_xml(device), inventory=inventory)
    hypervisor.is_test_driver = False
    return hypervisor.guests[0]


@pytest.mark.parametrize("slug", ["disk-discard", "disk-bus"])
def test_a_preallocated_raw_image_is_thick_on_purpose(tmp_path: Path, slug: str) -> None:
    guest = _on_a_host(tmp_path, _raw(_image(tmp_path, allocated=True)))
    judgement = judge(requirement(slug), subject(guest, "vda"))
    assert judgement.verdict is Verdict.NOT_APPLICABLE
    assert judgement.reason == "thick on purpose (a raw image, preallocated)"


@pytest.mark.parametrize(
    ("allocated", "driver", "thick", "verdict"),
    [
        pytest.param(False, "type='raw'", None, Verdict.NONCOMPLIANT, id="sparse"),
        pytest.param(True, "type='raw'", False, Verdict.NONCOMPLIANT, id="the-inventory-says-it-is-not"),
        pytest.param(True, "type='qcow2'", None, Verdict.NONCOMPLIANT, id="qcow2"),
        pytest.param(True, "type='raw' discard='unmap'", None, Verdict.COMPLIANT, id="discards-are-asked-for"),
        pytest.param(False, "type='raw'", True, Verdict.NOT_APPLICABLE, id="the-inventory-says-it-is"),
    ],
)
def test_other_images_are_judged(
    tmp_path: Path, *, allocated: bool, driver: str, thick: bool | None, verdict: Verdict
) -> None:
    inventory = Inventory(guest={"one": GuestNotes(thick=thick)})
    guest = _on_a_host(tmp_path, _raw(_image(tmp_path, allocated=allocated), driver), inventory)
    assert verdict_of(guest, "disk-discard", "vda") is verdict


def test_an_image_that_cannot_be_looked_at_is_judged(tmp_path: Path) -> None:
    guest = _on_a_host(tmp_path, _raw(tmp_path / "absent.img"))
    assert verdict_of(guest, "disk-discard", "vda") is Verdict.NONCOMPLIANT


# discard_no_unref -----------------------------------------------------------------------------

UNMAP = disk_xml(driver="discard='unmap'")


def _versions(tmp_path: Path, device: str, libvirt: str, qemu: str | None) -> Guest:
    policy = Inventory(policy=Policy(discard_no_unref=True))
    hypervisor = opened(tmp_path, domain_xml(device), inventory=policy)
    hypervisor.libvirt_version, hypervisor.qemu_version = libvirt, qemu
    return hypervisor.guests[0]


@pytest.mark.parametrize(
    ("libvirt", "qemu", "lacking"),
    [
        ("9.4.0", "8.1.0", "libvirt 9.4.0 is older than 9.5.0"),
        ("9.10.0", "8.0.5", "QEMU 8.0.5 is older than 8.1.0"),
        ("9.10.0", None, "this driver has no QEMU"),
    ],
)
def test_no_unref_is_not_asked_of_what_does_not_know_it(
    tmp_path: Path, libvirt: str, qemu: str | None, lacking: str
) -> None:
    guest = _versions(tmp_path, UNMAP, libvirt, qemu)
    judgement = judge(requirement("disk-discard"), subject(guest, "vda"))
    assert judgement.verdict is Verdict.COMPLIANT
    assert judgement.evidence == f"discard='unmap'; discard_no_unref is not available: {lacking}"


def test_no_unref_is_proposed_where_policy_asks_and_it_is_known(tmp_path: Path) -> None:
    guest = _versions(tmp_path, UNMAP, "9.5.0", "8.1.0")
    judgement = judge(requirement("disk-discard"), subject(guest, "vda"))
    assert (judgement.verdict, judgement.reason) == (
        Verdict.NONCOMPLIANT,
        "driver discard_no_unref is absent: discards fragment the image",
    )
    (change,) = set_discard_unmap(Disk(guest, "vda"))
    assert isinstance(change, DefinitionChange)
    gone, came = difference(Definition(change.before), Definition(change.after))
    assert list(gone.elements()) == [_driver("discard='unmap' name='qemu' type='qcow2'")]
    assert list(came.elements()) == [_driver("discard='unmap' discard_no_unref='on' name='qemu' type='qcow2'")]


def test_no_unref_is_for_qcow2_alone(tmp_path: Path) -> None:
    device = UNMAP.replace("type='qcow2'", "type='raw'")
    assert verdict_of(_versions(tmp_path, device, "9.5.0", "8.1.0"), "disk-discard", "vda") is Verdict.COMPLIANT


@pytest.mark.parametrize("kind", ["vhostvdpa", "dir"])
def test_what_has_no_image_is_left(tmp_path: Path, kind: str) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml())).guests[0]
    guest.persistent = Definition(guest.persistent.xml.replace("type='file' device", f"type='{kind}' device"))
    assert verdict_of(guest, "disk-discard", "vda") is Verdict.NOT_APPLICABLE
