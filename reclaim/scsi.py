"""Where SCSI disks live in a definition: controllers, addresses, target names."""

from __future__ import annotations

import string
from collections.abc import Iterator
from itertools import count, product

from lxml import etree

from reclaim.definition import ControllerView, Definition, DiskView, Edit, Element
from reclaim.errors import ProbeError
from reclaim.guest import Disk


def not_a_guest_disk(disk: Disk) -> str | None:
    """Why the requirements say nothing about this disk, or None where they do."""
    view = disk.view
    if view.device == "lun":
        return "a LUN passed through: discards go to the LUN as they are"
    if view.readonly:
        return "read-only: nothing is ever deleted on it"
    if not view.source:
        return "it has no medium"
    if view.type == "vhostuser":
        return "vhost-user: the process behind the socket decides about discards"
    if disk.guest.notes.thick:
        return "thick on purpose (inventory)"
    return None


#: buses a disk is left on, and why
LEFT = {
    "usb": "on usb, as something to be plugged in: it is left there",
    "fdc": "a floppy",
    "sd": "an SD card",
    "xen": "a Xen disk",
    "uml": "a user-mode Linux disk",
}


def not_moved(disk: Disk) -> str | None:
    """Why the disk is not to be moved to another bus, or None where it is."""
    return not_a_guest_disk(disk) or LEFT.get(disk.bus)


def disks_on(definition: Definition, controller: ControllerView) -> list[DiskView]:
    """The disks, cdroms and LUNs whose address is on *controller*."""
    return [
        disk
        for disk in definition.all_disks
        if disk.bus == "scsi" and disk.address.get("controller", "0") == controller.index
    ]


def devices_on(definition: Definition, controller: ControllerView) -> list[Element]:
    """Every device on *controller*: disks, cdroms, and host devices passed through."""
    hostdevs = [
        element
        for element in definition.root.iterfind("devices/hostdev")
        if (address := element.find("address")) is not None
        and address.get("type") == "drive"
        and address.get("controller", "0") == controller.index
    ]
    return [*(disk.element for disk in disks_on(definition, controller)), *hostdevs]


def virtio_scsi(definition: Definition) -> ControllerView | None:
    """The virtio-scsi controller of the lowest index, or None."""
    found = [one for one in definition.scsi_controllers if one.is_virtio_scsi]
    return min(found, key=lambda one: int(one.index), default=None)


def add_controller(edit: Edit) -> str:
    """Add a virtio-scsi controller under the next free index; returns the index."""
    taken = {one.index for one in edit.definition.scsi_controllers}
    index = next(str(number) for number in count() if str(number) not in taken)
    edit.add_device("controller", {"type": "scsi", "index": index, "model": "virtio-scsi"})
    return index


def home(edit: Edit) -> str:
    """The index of a virtio-scsi controller, added where there is none."""
    found = virtio_scsi(edit.definition)
    return found.index if found else add_controller(edit)


def make_virtio(edit: Edit, controller: ControllerView) -> None:
    """Turn *controller* into a virtio-scsi controller, in its place and slot."""
    for element in edit.devices.iterfind("controller"):
        if element.get("type") == "scsi" and element.get("index", "0") == controller.index:
            element.set("model", "virtio-scsi")


#: attributes of a virtio-blk disk's driver that the controller's driver has (libvirt formatdomain)
_TO_CONTROLLER = ("queues", "iothread", "ioeventfd", "iommu", "ats", "packed", "page_per_vq")
#: attributes of a virtio-blk disk's driver that nothing on the scsi bus has
_DROPPED = ("event_idx", "queue_size")


def move(edit: Edit, disk: Element, controller: str, *, rename: bool) -> None:
    """Move *disk* to a virtio-scsi controller."""
    driver = disk.find("driver")
    if driver is not None:
        home = next(
            element
            for element in edit.devices.iterfind("controller")
            if element.get("type") == "scsi" and element.get("index", "0") == controller
        )
        moved = {name: driver.attrib.pop(name) for name in _TO_CONTROLLER if name in driver.attrib}
        for name in _DROPPED:
            driver.attrib.pop(name, None)
        if moved:
            settings = home.find("driver")
            if settings is None:
                settings = etree.Element("driver")
                home.insert(0, settings)
            for name, value in moved.items():
                if name not in settings.attrib:
                    settings.set(name, value)
    disk.attrib.pop("model", None)
    target = disk.find("target")
    if target is None:
        raise ProbeError(f"{edit.origin.name}: a disk without a target")
    old = str(target.get("dev"))
    address = free_address(edit, controller)
    if rename:
        # its own old name is free for it
        target.set("dev", "")
        new = free_target(edit, "sd" + old[2:] if old[:2] in ("vd", "hd") else old)
        target.set("dev", new)
        if new != old:
            edit.renames[old] = new
    target.set("bus", "scsi")
    set_address(disk, address)


def set_address(disk: Element, address: dict[str, str]) -> None:
    """Write out *address* in place of the one the disk has."""
    element = disk.find("address")
    if element is None:
        element = etree.SubElement(disk, "address")
    element.attrib.clear()
    for key, value in address.items():
        element.set(key, value)
    for child in list(element):
        element.remove(child)


def free_address(edit: Edit, controller: str) -> dict[str, str]:
    """The first free drive address on *controller*.

    libvirt would derive one from the target's letter, seven a controller, and add an lsilogic
    controller for the eighth: so addresses are always written out.
    """
    taken = {
        (address.get("target", "0"), address.get("unit", "0"))
        for address in _drive_addresses(edit)
        if address.get("controller", "0") == controller and address.get("bus", "0") == "0"
    }
    unit = next(str(number) for number in count() if ("0", str(number)) not in taken)
    return {"type": "drive", "controller": controller, "bus": "0", "target": "0", "unit": unit}


def _drive_addresses(edit: Edit) -> Iterator[Element]:
    for element in edit.devices:
        address = element.find("address") if isinstance(element.tag, str) else None
        if address is None or address.get("type") != "drive":
            continue
        target = element.find("target")
        if element.tag == "hostdev" or (target is not None and target.get("bus") == "scsi"):
            yield address


def free_target(edit: Edit, wanted: str) -> str:
    """*wanted* where no disk of the domain is called so, else the next free `sdX`."""
    taken = {str(target.get("dev")) for target in edit.devices.iterfind("disk/target")}
    return next(name for name in (wanted, *_sd_names()) if name not in taken) if wanted in taken else wanted


def _sd_names() -> list[str]:
    letters = ["".join(pair) for length in (1, 2) for pair in product(string.ascii_lowercase, repeat=length)]
    return [f"sd{one}" for one in letters]
