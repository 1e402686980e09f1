"""disk-bus: the check and the fixer as a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reclaim.inventory import Inventory, Policy
from reclaim.verdict import Verdict
from tests.support import (
    definition_of,
    disk_xml,
    domain_xml,
    drive,
    engine,
    mend,
    opened,
    requirement,
    scsi_xml,
    subject,
    verdict_of,
)

if TYPE_CHECKING:
    from pathlib import Path

PCI = "<address type='pci' domain='0x0000' bus='0x00' slot='0x07' function='0x0'/>"


@pytest.mark.parametrize(
    ("target", "bus", "now"),
    [
        pytest.param("vda", "virtio", "sda", id="virtio"),
        pytest.param("hda", "ide", "sda", id="ide"),
        pytest.param("sda", "sata", "sda", id="sata"),
    ],
)
def test_a_disk_on_another_bus_moves(tmp_path: Path, target: str, bus: str, now: str) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(target, bus), scsi_xml())).guests[0]
    mend(tmp_path, guest, "disk-bus", target)
    disk = definition_of(guest).disk(now)
    assert (disk.bus, disk.path) == ("scsi", f"/images/{target}.qcow2")
    assert disk.address == {"type": "drive", "controller": "0", "bus": "0", "target": "0", "unit": "0"}


def test_only_target_and_address_of_the_one_disk_change(tmp_path: Path) -> None:
    moving = disk_xml(driver="cache='none' discard='unmap'", inner=f"<serial>s-1</serial>{PCI}")
    guest = opened(tmp_path, domain_xml(moving, disk_xml("vdb", driver="cache='none'"), scsi_xml())).guests[0]
    mended = mend(tmp_path, guest, "disk-bus", "vda")
    assert sorted(mended.gone.elements()) == [
        "domain/devices/disk/address bus='0x00' domain='0x0000' function='0x0' slot='0x07' type='pci' ''",
        "domain/devices/disk/target bus='virtio' dev='vda' ''",
    ]
    assert sorted(mended.came.elements()) == [
        "domain/devices/disk/address bus='0' controller='0' target='0' type='drive' unit='0' ''",
        "domain/devices/disk/target bus='scsi' dev='sda' ''",
    ]


@pytest.mark.parametrize(
    ("driver", "kept", "moved"),
    [
        pytest.param("queues='4' iothread='1'", {}, {"queues": "4", "iothread": "1"}, id="to-the-controller"),
        pytest.param("ioeventfd='on' packed='on'", {}, {"ioeventfd": "on", "packed": "on"}, id="virtio-options"),
        pytest.param("event_idx='on' queue_size='256'", {}, {}, id="dropped"),
        pytest.param("cache='none' io='threads'", {"cache": "none", "io": "threads"}, {}, id="kept"),
    ],
)
def test_what_only_virtio_blk_has_goes_to_the_controller_or_away(
    tmp_path: Path, driver: str, kept: dict[str, str], moved: dict[str, str]
) -> None:
    threads = "<iothreads>1</iothreads>"
    xml = domain_xml(disk_xml(driver=driver), scsi_xml()).replace("<os>", f"{threads}<os>")
    guest = opened(tmp_path, xml).guests[0]
    mend(tmp_path, guest, "disk-bus", "vda")
    definition = definition_of(guest)
    assert definition.disk("sda").driver == {"name": "qemu", "type": "qcow2", **kept}
    settings = definition.scsi_controllers[0].element.find("driver")
    assert ({} if settings is None else dict(settings.attrib)) == moved


def test_what_the_controller_already_says_stays(tmp_path: Path) -> None:
    controller = "<controller type='scsi' index='0' model='virtio-scsi'><driver queues='8'/></controller>"
    guest = opened(tmp_path, domain_xml(disk_xml(driver="queues='2'"), controller)).guests[0]
    mended = mend(tmp_path, guest, "disk-bus", "vda")
    assert "domain/devices/controller/driver queues='8' ''" not in mended.gone


def test_a_model_of_virtio_blk_goes(tmp_path: Path) -> None:
    xml = disk_xml().replace("device='disk'", "device='disk' model='virtio-transitional'")
    guest = opened(tmp_path, domain_xml(xml, scsi_xml())).guests[0]
    mend(tmp_path, guest, "disk-bus", "vda")
    assert definition_of(guest).disk("sda").model is None


@pytest.mark.parametrize(
    ("others", "now"),
    [
        pytest.param([disk_xml("sda", "sata", device="cdrom")], "sdb", id="name-taken-by-a-cdrom"),
        pytest.param([disk_xml("sda", "sata"), disk_xml("sdb", "usb")], "sdc", id="two-names-taken"),
        pytest.param([disk_xml("vdb")], "sda", id="free"),
    ],
)
def test_a_taken_target_name_is_passed_over(tmp_path: Path, others: list[str], now: str) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), *others, scsi_xml())).guests[0]
    mend(tmp_path, guest, "disk-bus", "vda")
    definition = definition_of(guest)
    assert definition.disk(now).path == "/images/vda.qcow2"
    targets = [disk.target for disk in definition.all_disks]
    assert len(set(targets)) == len(targets)


def test_a_taken_address_is_passed_over(tmp_path: Path) -> None:
    taken = [disk_xml("sdx", "scsi", inner=drive(0)), disk_xml("sdy", "scsi", device="cdrom", inner=drive(1))]
    guest = opened(tmp_path, domain_xml(disk_xml(), *taken, scsi_xml())).guests[0]
    mend(tmp_path, guest, "disk-bus", "vda")
    assert definition_of(guest).disk("sda").address["unit"] == "2"


@pytest.mark.parametrize("count", [8, 20])
def test_many_disks_all_stay_on_the_one_controller(tmp_path: Path, count: int) -> None:
    names = [f"vd{chr(ord('a') + number)}" for number in range(count)]
    guest = opened(tmp_path, domain_xml(*map(disk_xml, names), scsi_xml())).guests[0]
    run = engine(guest.hypervisor, tmp_path, force=True)
    for name in names:
        assert run.run(requirement("disk-bus"), subject(guest, name)).verdict is Verdict.FIXED
    definition = definition_of(guest)
    assert [one.model for one in definition.scsi_controllers] == ["virtio-scsi"]
    places = sorted((int(disk.address["target"]), int(disk.address["unit"])) for disk in definition.disks)
    assert places == [(number // 8, number % 8) for number in range(count)], "OVMF boots from LUNs 0 to 7 only"
    assert {disk.path for disk in definition.disks} == {f"/images/{name}.qcow2" for name in names}


def test_disks_with_different_drivers_change_places_and_keep_theirs(tmp_path: Path) -> None:
    """libvirt sorts disks by bus and target, so what is defined comes back in another order."""
    unmap = "discard='unmap'"
    disks = [disk_xml("sda", "scsi", inner=drive(0)), disk_xml("sdc", "scsi", driver=unmap, inner=drive(1))]
    guest = opened(tmp_path, domain_xml(*disks, disk_xml("vdb"), scsi_xml())).guests[0]
    mend(tmp_path, guest, "disk-bus", "vdb")
    definition = definition_of(guest)
    assert [disk.target for disk in definition.disks] == ["sda", "sdb", "sdc"]
    assert ["discard" in disk.driver for disk in definition.disks] == [False, False, True]


def test_policy_keep_leaves_the_target_name(tmp_path: Path) -> None:
    inventory = Inventory(policy=Policy(target="keep"))
    guest = opened(tmp_path, domain_xml(disk_xml(), scsi_xml()), inventory=inventory).guests[0]
    mended = mend(tmp_path, guest, "disk-bus", "vda")
    assert definition_of(guest).disk("vda").bus == "scsi"
    assert mended.result.disk == "vda"


def test_without_a_controller_the_fix_is_withheld(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), scsi_xml(0, "lsilogic"))).guests[0]
    before = definition_of(guest).xml
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("disk-bus"), subject(guest, "vda"))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "withheld: there is no virtio-scsi controller" in result.reason
    assert definition_of(guest).xml == before


@pytest.mark.parametrize(
    ("device", "verdict"),
    [
        pytest.param(disk_xml("sda", "scsi", inner=drive(0)), Verdict.COMPLIANT, id="scsi"),
        pytest.param(disk_xml("sda", "usb"), Verdict.NOT_APPLICABLE, id="usb"),
        pytest.param(disk_xml("sda", "virtio", inner="<readonly/>"), Verdict.NOT_APPLICABLE, id="read-only"),
    ],
)
def test_verdicts_that_start_no_fixer(tmp_path: Path, device: str, verdict: Verdict) -> None:
    guest = opened(tmp_path, domain_xml(device, scsi_xml())).guests[0]
    assert verdict_of(guest, "disk-bus", "sda") is verdict
