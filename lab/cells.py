"""One guest of the truth matrix: a machine type and a bus, and a disk for each way to treat discards and kind of image.

What `discard` says, what the image is and what it lies on concerns one disk, so one guest has all of them; the machine
type, the bus and its controller concern the guest.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from xml.etree import ElementTree as ET

import libvirt

from lab import guest as lab
from lab import host, image, paths, stores, tools
from lab.error import LabError
from lab.guest import LabGuest

MIB = 1024 * 1024
DISK_MIB = 1024
OLD_MIB = 16
"""The size of the file that is in each filesystem before the guest starts."""

BUSES = ("virtio", "virtio-scsi", "lsilogic", "sata")
NVME = "nvme"
"""One more bus, if libvirt has it: `<target bus='nvme'>` is QEMU's from libvirt 11.5."""
DISCARDS = ("absent", "ignore", "unmap")
IMAGES = ("qcow2", "backed", "snapshot", "raw")
"""qcow2; qcow2 0.10 on a backing file; qcow2 with an internal snapshot; raw."""
STORED = ("qcow2", "snapshot", "raw")
"""The images that are on every store."""

BOOT_SECONDS = 900.0
"""The limit for a guest to answer: several may boot at once under emulation."""


@dataclass(frozen=True)
class Cell:
    """One disk of such a guest; `store` is the kind of store that its image lies on, none: the guests' folder."""

    discard: str
    image: str
    store: str = ""

    @property
    def label(self) -> str:
        """The name of its filesystem, its serial, and its folder below /truth: 16 characters of ext4 at most."""
        return f"{self.store or self.discard}-{self.image}"


CELLS = tuple(Cell(*one) for one in product(DISCARDS, IMAGES))


def on_stores(names: Iterable[str]) -> tuple[Cell, ...]:
    """Return the cells that have their images on these stores."""
    return tuple(Cell("unmap", image, store) for store, image in product(names, STORED))


def create(
    name: str,
    machine: str,
    bus: str,
    cells: Sequence[Cell] = CELLS,
    *,
    recipe: str = "generic",
    root: str | None = None,
) -> LabGuest:
    """Make such a guest, start it, and return it with its filesystems mounted; `root` is the bus of its own disk.

    The stores of its cells are there (`lab.stores.mounted`).

    Raises LabError, and leaves nothing, where it does not come up.
    """
    lab.destroy(name)
    # not every firmware finds a disk on NVMe
    bus_of_root = root or ("virtio" if bus == NVME else bus)
    guest = lab.define(
        name, recipe, machine=machine, bus=_libvirt_bus(bus_of_root), discard="unmap"
    )
    try:
        _rewrite(guest, recipe, bus, bus_of_root, cells)
        lab.start(guest)
        lab.wait_for_agent(guest, BOOT_SECONDS)
        labels = " ".join(cell.label for cell in cells)
        mount = 'mkdir -p "/truth/$l" && echo "LABEL=$l /truth/$l ext4 nofail 0 2" >>/etc/fstab && mount "/truth/$l"'
        done = lab.run(
            guest,
            f"for l in {labels}; do {mount} || exit 1; done; systemctl daemon-reload",
        )
        if done.code != 0:
            raise LabError(f"{name}: its disks cannot be mounted: {done.err.strip()}")
    except LabError:
        lab.destroy(name)
        raise
    return guest


def image_of(guest: LabGuest, cell: Cell) -> Path:
    """Where the image of a cell lies."""
    folder = stores.folder(guest.name, cell.store) if cell.store else paths.guests()
    suffix = "raw" if cell.image == "raw" else "qcow2"
    return folder / f"{guest.name}.{cell.label}.{suffix}"


def held(guest: LabGuest, cell: Cell) -> int:
    """Return the bytes that the host holds for the image of a cell, by `st_blocks`. Raises LabError."""
    image_file = image_of(guest, cell)
    if cell.store:
        return stores.held(image_file)
    return image_file.stat().st_blocks * 512


def _libvirt_bus(bus: str) -> str:
    return "scsi" if bus in ("virtio-scsi", "lsilogic") else bus


def _rewrite(
    guest: LabGuest, recipe: str, bus: str, root: str, cells: Sequence[Cell]
) -> None:
    """Give the guest that is defined its disks, its controller and its kernel."""
    dom = lab.lookup(guest.name)
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
    xml = ET.fromstring(dom.XMLDesc(flags))  # noqa: S314 (libvirt wrote it)
    devices, system = xml.find("devices"), xml.find("os")
    if devices is None or system is None:
        raise LabError(f"{guest.name}: its definition has no devices")
    # from outside: not every firmware boots from every controller, and GRUB takes seconds under emulation; on a busy
    # machine an emulated timer fails the kernel's test of it
    kernel, initrd = image.kernel(recipe)
    root_name = "LABEL=generic" if recipe == "generic" else "/dev/vda1"
    for tag, text in (
        ("kernel", str(kernel)),
        ("initrd", str(initrd)),
        ("cmdline", f"root={root_name} ro quiet console=ttyS0 no_timer_check"),
    ):
        ET.SubElement(system, tag).text = text
    model = "lsilogic" if bus == "lsilogic" else "virtio-scsi"
    if _libvirt_bus(bus) == "scsi":
        found = devices.find("controller[@type='scsi']")
        if found is None:
            found = ET.SubElement(devices, "controller", type="scsi", index="0")
        found.set("model", model)
        for address in found.findall("address"):
            found.remove(address)
    first = 1 if _libvirt_bus(bus) == _libvirt_bus(root) else 0
    for number, cell in enumerate(cells, start=first):
        _make(guest, cell)
        _attach(devices, image_of(guest, cell), cell, bus, number)
    try:
        host.ensure_libvirt().defineXMLFlags(
            ET.tostring(xml, encoding="unicode"), libvirt.VIR_DOMAIN_DEFINE_VALIDATE
        )
    except libvirt.libvirtError as error:
        raise LabError(
            f"libvirt does not take the definition of {guest.name}: {error}"
        ) from None


def _attach(devices: ET.Element, path: Path, cell: Cell, bus: str, number: int) -> None:
    disk = ET.SubElement(devices, "disk", type="file", device="disk")
    driver = ET.SubElement(
        disk, "driver", name="qemu", type="raw" if cell.image == "raw" else "qcow2"
    )
    if cell.discard != "absent":
        driver.set("discard", cell.discard)
    ET.SubElement(disk, "source", file=str(path))
    if bus == NVME:
        _on_nvme(devices, disk, cell, number)
        return
    letters = "abcdefghijklmnopqrstuvwxyz"
    ET.SubElement(
        disk,
        "target",
        dev=("vd" if bus == "virtio" else "sd") + letters[number],
        bus=_libvirt_bus(bus),
    )
    ET.SubElement(disk, "serial").text = cell.label
    if bus == "virtio-scsi":
        # else libvirt puts seven on a controller, and the next seven on an lsilogic
        ET.SubElement(
            disk,
            "address",
            type="drive",
            controller="0",
            bus="0",
            target="0",
            unit=str(number),
        )


def _on_nvme(devices: ET.Element, disk: ET.Element, cell: Cell, number: int) -> None:
    """Put the disk on a controller of its own, which has the serial."""
    ET.SubElement(disk, "target", dev=f"nvme{number}n1", bus=NVME)
    controller = ET.SubElement(devices, "controller", type="nvme", index=str(number))
    ET.SubElement(controller, "serial").text = cell.label


def _make(guest: LabGuest, cell: Cell) -> None:
    """Write the image: an ext4 with OLD_MIB that nothing can compress."""
    path = image_of(guest, cell)
    raw, folder = path.with_suffix(".making"), path.with_suffix(".folder")
    folder.mkdir(exist_ok=True)
    try:
        (folder / "old").write_bytes(os.urandom(OLD_MIB * MIB))
        options = "lazy_itable_init=0,lazy_journal_init=0"
        argv = [
            "mkfs.ext4",
            "-q",
            "-L",
            cell.label,
            "-E",
            options,
            "-d",
            str(folder),
            str(raw),
            f"{DISK_MIB}M",
        ]
        tools.call(argv, seconds=300)
        if cell.image == "raw":
            tools.call(["cp", "--sparse=always", str(raw), str(path)], seconds=300)
            return
        first = path.with_suffix(".base") if cell.image == "backed" else path
        tools.call(
            ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(first)],
            seconds=300,
        )
        if cell.image == "backed":
            argv = [
                "qemu-img",
                "create",
                "-q",
                "-f",
                "qcow2",
                "-o",
                "compat=0.10",
                "-F",
                "qcow2",
                "-b",
                str(first),
            ]
            tools.call([*argv, str(path)], seconds=60)
        elif cell.image == "snapshot":
            tools.call(["qemu-img", "snapshot", "-c", "before", str(path)], seconds=60)
    finally:
        shutil.rmtree(folder)
        raw.unlink(missing_ok=True)
