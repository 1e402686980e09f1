"""The guest's block device behind a disk of its definition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reclaim.handles.device import device_of
from reclaim.handles.guest import Disk
from tests.support import Inside, block, disk_xml, drive, inhabited, scsi_xml

if TYPE_CHECKING:
    from pathlib import Path


def _device(folder: Path, target: str, inside: Inside, *devices: str, **more: Any) -> str | None:
    guest = inhabited(folder, inside, *devices, **more)
    found = device_of(Disk(guest, target))
    return found.path if found else None


def _serial(text: str) -> str:
    return f"<serial>{text}</serial>"


VDA_VDB = [block("vda"), block("vdb")]


@pytest.mark.parametrize(
    ("serials", "target", "path"),
    [
        pytest.param({"vda": "A", "vdb": "B"}, "sdb", "/dev/vdb", id="by-serial"),
        pytest.param({"vda": "B", "vdb": "A"}, "sda", "/dev/vdb", id="whatever-the-order"),
        pytest.param({"vda": "A", "vdb": "A"}, "sda", None, id="not-by-a-serial-that-two-have"),
        pytest.param({"vda": None, "vdb": "B"}, "sdb", "/dev/vdb", id="one-serial-is-enough"),
        pytest.param({"vda": None, "vdb": None}, "sda", None, id="not-without"),
    ],
)
def test_a_disk_is_told_by_its_serial(
    tmp_path: Path, serials: dict[str, str | None], target: str, path: str | None
) -> None:
    inside = Inside(devices=[block(name, serial=serial) for name, serial in serials.items()], mounts=[])
    devices = [disk_xml("sda", "sata", inner=_serial("A")), disk_xml("sdb", "sata", inner=_serial("B"))]
    assert _device(tmp_path, target, inside, *devices) == path


@pytest.mark.parametrize(
    ("serials", "target", "path"),
    [
        pytest.param({"vda": "0123456789abcdefghij", "vdb": "x"}, "sda", "/dev/vda", id="cut-at-20-as-virtio-does"),
        pytest.param({"vda": "disk-1", "vdb": "disk-10"}, "sdb", "/dev/vda", id="the-shorter-of-two"),
        pytest.param({"vda": "disk-1", "vdb": "disk-10"}, "sdc", "/dev/vdb", id="the-longer-of-two"),
        pytest.param({"vda": "disk-1", "vdb": "x"}, "sdc", None, id="a-short-prefix-is-another-disk"),
    ],
)
def test_serials_that_begin_alike(tmp_path: Path, serials: dict[str, str], target: str, path: str | None) -> None:
    inside = Inside(devices=[block(name, serial=serial) for name, serial in serials.items()], mounts=[])
    devices = [
        disk_xml("sda", "sata", inner=_serial("0123456789abcdefghijklmnop")),
        disk_xml("sdb", "sata", inner=_serial("disk-1")),
        disk_xml("sdc", "sata", inner=_serial("disk-10")),
    ]
    assert _device(tmp_path, target, inside, *devices) == path


def test_a_scsi_disk_is_told_by_libvirts_alias(tmp_path: Path) -> None:
    prefix = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_drive-scsi0-0-0-"
    inside = Inside(devices=[block("sda"), block("sdb")], links={f"{prefix}1": "../../sda", f"{prefix}0": "../../sdb"})
    devices = [disk_xml("sda", "scsi", inner=drive(0)), disk_xml("sdb", "scsi", inner=drive(1)), scsi_xml()]
    assert _device(tmp_path, "sda", inside, *devices) == "/dev/sdb"
    assert _device(tmp_path, "sdb", inside, *devices) == "/dev/sda"


def _pci(bus: int, slot: int, function: int = 0) -> str:
    return f"<address type='pci' domain='0x0000' bus='0x{bus:02x}' slot='0x{slot:02x}' function='0x{function}'/>"


PORTS = [
    "<controller type='pci' index='0' model='pcie-root'/>",
    f"<controller type='pci' index='1' model='pcie-root-port'>{_pci(0, 2)}</controller>",
    f"<controller type='pci' index='2' model='pcie-root-port'>{_pci(0, 2, 1)}</controller>",
]


def test_a_virtio_disk_is_told_by_its_slot(tmp_path: Path) -> None:
    sysfs = {
        "vda": "/sys/devices/pci0000:00/0000:00:07.0/virtio3",
        "vdb": "/sys/devices/pci0000:00/0000:00:06.0/virtio2",
    }
    devices = [disk_xml("vda", inner=_pci(0, 6)), disk_xml("vdb", inner=_pci(0, 7))]
    assert _device(tmp_path, "vda", Inside(devices=VDA_VDB, sysfs=sysfs), *devices) == "/dev/vdb"


def test_a_virtio_disk_is_told_by_the_ports_it_is_behind(tmp_path: Path) -> None:
    """On q35 every disk is slot 0 of a bus whose number the guest gives; the ports above tell them apart."""
    sysfs = {
        "vda": "/sys/devices/pci0000:00/0000:00:02.1/0000:05:00.0/virtio3",
        "vdb": "/sys/devices/pci0000:00/0000:00:02.0/0000:04:00.0/virtio2",
    }
    devices = [disk_xml("vda", inner=_pci(1, 0)), disk_xml("vdb", inner=_pci(2, 0)), *PORTS]
    inside = Inside(devices=VDA_VDB, sysfs=sysfs)
    assert _device(tmp_path, "vda", inside, *devices) == "/dev/vdb"
    assert _device(tmp_path, "vdb", inside, *devices) == "/dev/vda"


def test_the_only_disk_is_the_only_disk(tmp_path: Path) -> None:
    inside = Inside(devices=[block("vda"), block("sr0", type="rom"), block("zram0"), block("loop0", type="loop")])
    assert _device(tmp_path, "vda", inside, disk_xml(), disk_xml("sda", "sata", device="cdrom")) == "/dev/vda"


@pytest.mark.parametrize(
    ("devices", "xml"),
    [
        pytest.param([block("vda")], [disk_xml(), disk_xml("vdb")], id="one-seen-two-defined"),
        pytest.param(VDA_VDB, [disk_xml()], id="two-seen-one-defined"),
        pytest.param([], [disk_xml()], id="none-seen"),
    ],
)
def test_a_disk_is_not_guessed(tmp_path: Path, devices: list[dict[str, Any]], xml: list[str]) -> None:
    assert _device(tmp_path, "vda", Inside(devices=devices, mounts=[]), *xml) is None


def test_a_guest_that_is_off_has_no_devices(tmp_path: Path) -> None:
    assert _device(tmp_path, "vda", Inside(), disk_xml(), running=False) is None


def test_a_disk_that_is_defined_anew_is_found_under_its_running_name(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(devices=[block("vda", serial="S")]), disk_xml(inner=_serial("S")))
    edit = guest.definition.edit()
    target = edit.disk("vda").find("target")
    assert target is not None
    target.set("dev", "sda")
    target.set("bus", "scsi")
    guest.hypervisor.connection.defineXML(edit.definition.xml)
    guest.forget()
    found = device_of(Disk(guest, "sda"))
    assert found
    assert found.path == "/dev/vda"
