"""The block devices of a guest, and the disks of its definition."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from reclaim.base.errors import ProbeError
from reclaim.definition.domain import Definition, DiskView, Element, attributes_of
from reclaim.handles.guest import Disk, Guest
from reclaim.inside.devices import BlockDevice
from reclaim.inside.facts import Facts
from reclaim.inside.filesystems import is_disk

_SERIAL_BYTES = 20
#: a device of PCI in a path of sysfs: its slot and function
_SLOT = re.compile(r"/[0-9a-f]{4}:[0-9a-f]{2}:([0-9a-f]{2}\.[0-7])(?=/)")


def device_of(disk: Disk) -> BlockDevice | None:
    """Return the guest's block device behind *disk* as it runs now, or None if that is not clear. Raises ProbeError.

    It is found by the serial, by the drive alias that libvirt gives a SCSI disk without one, by the PCI
    path, or because it is the only disk. One of several namespaces of an NVMe controller is not found.
    """
    guest = disk.guest
    live = guest.live
    if live is None:
        return None
    view = guest.live_disk(disk.view)
    if view is None:
        return None
    facts = guest.facts
    devices = [device for device in facts.block_devices if is_disk(device)]
    for matches in _matches(facts, live, view, devices):
        if len(matches) == 1:
            return matches[0]
    defined = [other for other in live.disks if other.device == "disk"]
    if len(devices) == 1 and len(defined) == 1:
        return devices[0]
    return None


def _matches(
    facts: Facts, live: Definition, view: DiskView, devices: list[BlockDevice]
) -> Iterator[list[BlockDevice]]:
    """Yield the devices that match the disk by its serial, by its drive alias, and by its PCI path."""
    serial, alias = _serial_of(live, view), _drive_alias(view)
    slots = _pci_path(live, view)
    by_serial: list[BlockDevice] = []
    if serial:
        for device in devices:
            if device.serial and _is_serial(device.serial, serial):
                by_serial.append(device)
    yield by_serial
    yield [device for device in devices if alias in _aliases(facts, device)]
    if slots:
        yield [device for device in devices if slots == _sysfs_path(facts, device)]


def disk_of(guest: Guest, device: BlockDevice) -> Disk | None:
    """Return the disk of the definition behind the guest's block *device*, or None if that is not clear."""
    for disk in guest.disks:
        try:
            behind = device_of(disk)
        except ProbeError:
            return None
        if behind is not None and behind.path == device.path:
            return disk
    return None


def granularity(disk: Disk) -> int | None:
    """Return the bytes of the smallest hole that the guest trims on *disk* (DISC-GRAN);

    None if that is not known yet.
    """
    if not disk.guest.has_facts:
        return None
    try:
        device = device_of(disk)
    except ProbeError:
        return None
    if device is None:
        return None
    return device.disc_gran or None


def _serial_of(live: Definition, view: DiskView) -> str | None:
    """Return the serial of a disk as it is defined. On NVMe the controller has it, for all its namespaces."""
    if view.bus != "nvme" or view.serial:
        return view.serial
    controller = _nvme_controller(live, view)
    return None if controller is None else controller.findtext("serial")


def _nvme_controller(live: Definition, view: DiskView) -> Element | None:
    """Return the controller of a disk on NVMe, None if others are on it too (libvirt has such disks from 11.5)."""
    index = view.address.get("controller")
    on_it = (
        disk.bus == "nvme" and disk.address.get("controller") == index
        for disk in live.disks
    )
    if sum(on_it) > 1:
        return None
    for controller in live.root.iterfind("devices/controller[@type='nvme']"):
        if controller.get("index") == index:
            return controller
    return None


def _own_pci(live: Definition, view: DiskView) -> Mapping[str, str]:
    """Return the PCI address of a virtio-blk disk, or of the controller of a disk on NVMe; nothing for others."""
    address = view.address if view.bus == "virtio" else {}
    if view.bus == "nvme" and (controller := _nvme_controller(live, view)) is not None:
        element = controller.find("address")
        address = {} if element is None else dict(attributes_of(element))
    return address if address.get("type") == "pci" else {}


def _is_serial(seen: str, given: str) -> bool:
    """True if *seen* is the serial that was *given*. virtio-blk and ATA carry 20 bytes of it (VIRTIO_BLK_ID_BYTES)."""
    return seen == given or (len(seen) >= _SERIAL_BYTES and given.startswith(seen))


def _drive_alias(view: DiskView) -> str:
    """Return QEMU's device_id of a SCSI disk without a serial (libvirt qemu_command.c), "" for other disks."""
    address = view.address
    if view.bus != "scsi" or address.get("type") != "drive":
        return ""
    return f"drive-scsi{address.get('controller')}-{address.get('bus')}-{address.get('target')}-{address.get('unit')}"


def _aliases(facts: Facts, device: BlockDevice) -> set[str]:
    """Return the by-id links of *device*, without the model at their start."""
    prefix = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_"
    return {
        path.removeprefix(prefix)
        for path in facts.links_to.get(device.path, ())
        if path.startswith(prefix)
    }


def _pci_path(live: Definition, view: DiskView) -> tuple[str, ...]:
    """Return the slots from the root bus to a disk on virtio-blk or NVMe, as "slot.function"; empty for other disks.

    The guest numbers buses itself, so bus numbers mean nothing; slots and functions are the machine's.
    """
    address = _own_pci(live, view)
    if not address:
        return ()
    controllers = {
        controller.get("index"): controller.find("address")
        for controller in live.root.iterfind("devices/controller[@type='pci']")
    }
    path: list[str] = []
    while True:
        path.append(
            f"{int(address.get('slot', '0'), 16):02x}.{int(address.get('function', '0'), 16):x}"
        )
        bus = int(address.get("bus", "0"), 16)
        if bus == 0 or len(path) > 16:
            return tuple(reversed(path))
        above = controllers.get(str(bus))
        if above is None or above.get("type") != "pci":
            return ()
        address = dict(attributes_of(above))


def _sysfs_path(facts: Facts, device: BlockDevice) -> tuple[str, ...]:
    path = facts.sysfs.get(device.name, "")
    return tuple(_SLOT.findall(path))
