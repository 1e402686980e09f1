"""disk-discard: the check and the fixer as a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reclaim.inventory import GuestNotes, Inventory
from reclaim.verdict import Verdict
from tests.support import disk_xml, domain_xml, drive, mend, opened, verdict_of

if TYPE_CHECKING:
    from pathlib import Path


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
