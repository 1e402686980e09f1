"""The guest's block device behind a disk of its definition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reclaim.base.errors import ProbeError
from reclaim.definition.domain import Definition
from reclaim.handles import device
from reclaim.handles.device import device_of, disk_of, granularity
from reclaim.handles.guest import Disk
from tests.support import Inside, block, disk_xml, domain_xml, drive, inhabited, scsi_xml

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support import InhabitedGuest


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


def test_a_disk_that_is_not_attached_has_no_device(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml())
    guest.hypervisor.connection.defineXML(domain_xml(disk_xml(), disk_xml("vdb")))
    guest.forget()
    assert device_of(Disk(guest, "vdb")) is None


def test_the_serial_stands_before_the_slot(tmp_path: Path) -> None:
    """And a slot alone decides nothing of a disk on another bus."""
    sysfs = {"vda": "/sys/devices/pci0000:00/0000:00:06.0/virtio2", "vdb": "/sys/devices/pci0000:00/0000:00:07.0/x"}
    inside = Inside(devices=[block("vda"), block("vdb", serial="A")], sysfs=sysfs)
    devices = [disk_xml("vda", inner=_serial("A") + _pci(0, 6)), disk_xml("vdb", inner=_pci(0, 7))]
    assert _device(tmp_path, "vda", inside, *devices) == "/dev/vdb"


@pytest.mark.parametrize(
    "ports",
    [
        pytest.param([], id="a-bridge-that-is-not-defined"),
        pytest.param(
            ["<controller type='pci' index='5' model='pcie-root-port'>" + _pci(5, 1) + "</controller>"], id="a-loop"
        ),
    ],
)
def test_a_path_that_leads_to_no_root_matches_nothing(tmp_path: Path, ports: list[str]) -> None:
    """As a definition of somebody else's driver may have it; the search ends."""
    view = Definition(domain_xml(disk_xml(inner=_pci(5, 3)), *ports))
    found = device._pci_path(view, view.disks[0])
    assert len(found) in ((0,) if not ports else (17,))


def test_hexadecimal_slots_are_those_of_sysfs(tmp_path: Path) -> None:
    sysfs = {"vda": "/sys/devices/pci0000:00/0000:00:1f.7/virtio3", "vdb": "/sys/devices/pci0000:00/0000:00:1f.6/v"}
    devices = [disk_xml("vda", inner=_pci(0, 0x1F, 6)), disk_xml("vdb", inner=_pci(0, 0x1F, 7))]
    assert _device(tmp_path, "vda", Inside(devices=VDA_VDB, sysfs=sysfs), *devices) == "/dev/vdb"


NVME = [
    disk_xml("nvme0n1", "nvme", inner=drive(0, 0)),
    disk_xml("nvme1n1", "nvme", inner=drive(0, 1)),
    f"<controller type='nvme' index='0'><serial>A</serial>{_pci(0, 6)}</controller>",
    f"<controller type='nvme' index='1'>{_pci(0, 7)}</controller>",
]


@pytest.mark.parametrize(
    ("number", "serial", "slots"),
    [pytest.param(0, "A", ("06.0",), id="serial"), pytest.param(1, None, ("07.0",), id="slot-alone")],
)
def test_an_nvme_disk_is_told_by_its_controller(number: int, serial: str | None, slots: tuple[str, ...]) -> None:
    live = Definition(domain_xml(*NVME))
    assert device._serial_of(live, live.disks[number]) == serial
    assert device._pci_path(live, live.disks[number]) == slots


@pytest.mark.parametrize(
    "devices",
    [
        pytest.param(NVME[:2], id="not-defined"),
        pytest.param([*NVME, disk_xml("nvme0n2", "nvme", inner=drive(1, 0))], id="of-two-disks"),
    ],
)
def test_an_nvme_disk_is_not_told_without_a_controller_of_its_own(devices: list[str]) -> None:
    live = Definition(domain_xml(*devices))
    assert device._serial_of(live, live.disks[0]) is None
    assert device._pci_path(live, live.disks[0]) == ()


# The way back ---------------------------------------------------------------------------------


def _two(folder: Path, **more: Any) -> InhabitedGuest:
    """Two disks, told by their serials, in the other order than in the definition."""
    inside = Inside(devices=[block("vda", serial="B"), block("vdb", serial="A")], mounts=[], **more)
    return inhabited(folder, inside, disk_xml("vda", inner=_serial("A")), disk_xml("vdb", inner=_serial("B")))


def test_the_disk_behind_a_device_is_the_one_whose_device_it_is(tmp_path: Path) -> None:
    guest = _two(tmp_path)
    first, second = guest.facts.block_devices
    assert disk_of(guest, first) == Disk(guest, "vdb")
    assert disk_of(guest, second) == Disk(guest, "vda")


def test_a_device_that_no_disk_is_behind(tmp_path: Path) -> None:
    guest = _two(tmp_path)
    stranger = Inside(devices=[block("vdc")]).facts().block_devices[0]
    assert disk_of(guest, stranger) is None


def test_where_nobody_can_look_no_disk_is_named(tmp_path: Path) -> None:
    guest = _two(tmp_path)
    first = guest.facts.block_devices[0]
    guest.forget()
    guest.within.problem = ProbeError("one: it did not answer")
    assert disk_of(guest, first) is None


# Granularity ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("told", "bytes_"), [(4096, 4096), (2 << 20, 2 << 20), (0, None)])
def test_the_smallest_hole_is_the_guests_word(tmp_path: Path, told: int, bytes_: int | None) -> None:
    guest = inhabited(tmp_path, Inside(devices=[block("vda", disc_gran=told)]), disk_xml())
    assert granularity(Disk(guest, "vda")) is None, "nobody has looked yet"
    assert guest.within.ran == []
    _ = guest.facts
    assert granularity(Disk(guest, "vda")) == bytes_


def test_a_disk_that_is_not_clear_has_no_granularity(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(devices=VDA_VDB, mounts=[]), disk_xml())
    _ = guest.facts
    assert granularity(Disk(guest, "vda")) is None
