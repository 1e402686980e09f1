"""The places of SCSI disks in a definition: controllers, addresses, target names."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, count, product

from lxml import etree

from reclaim.base.errors import ProbeError, Withheld
from reclaim.definition import bound, machine_type, pci
from reclaim.definition.domain import (
    ControllerView,
    Definition,
    DiskView,
    Edit,
    Element,
)
from reclaim.handles.device import device_of
from reclaim.handles.guest import Disk, Guest
from reclaim.handles.node import Node

#: disk types with no image of ours behind them, and why nothing is asked of them
_NO_IMAGE = {
    "vhostuser": "vhost-user: the process behind the socket decides about discards",
    "vhostvdpa": "vhost-vDPA: the device decides about discards",
    "dir": "a directory shown as a FAT file system: there is no image",
}


def why_not_judged(disk: Disk) -> str | None:
    """Return why the requirements do not apply to this disk, or None if they do."""
    view = disk.view
    if view.device == "lun":
        return "a LUN passed through: discards go to the LUN as they are"
    if view.type in _NO_IMAGE:
        return _NO_IMAGE[view.type]
    if view.readonly:
        return "read-only: nothing is ever deleted on it"
    if not view.source:
        return "it has no medium"
    thick = disk.guest.notes.thick
    if thick:
        return "thick on purpose (inventory)"
    if thick is None and view.driver.get("type") == "raw" and is_preallocated(disk):
        return "thick on purpose (a raw image, preallocated)"
    return None


def is_preallocated(disk: Disk) -> bool:
    """True if it is a raw file with every block allocated, and its definition asks for no discards.

    A sparse image does not get there: no file system writes to every one of its blocks. The inventory
    overrules it either way, for instance if a copy lost its holes.
    """
    view = disk.view
    if disk.guest.notes.thick is not None:
        return False
    if view.type != "file" or view.path is None:
        return False
    driver = view.driver
    if driver.get("type") != "raw" or driver.get("discard") == "unmap":
        return False
    return disk.guest.hypervisor.is_fully_allocated(view.path)


#: buses that a disk is moved from, as was measured (docs/truth.md), and the one that it is moved to
MOVED = ("virtio", "ide", "sata", "scsi")
#: buses a disk is left on, and why
LEFT = {
    "usb": "it is a USB disk, which can be unplugged at any time: it stays on usb",
    "fdc": "a floppy",
    "sd": "an SD card",
    "xen": "a Xen disk",
    "uml": "a user-mode Linux disk",
    "nvme": "an NVMe disk, which has a discard of its own (Deallocate): it stays there",
}


def why_not_moved(disk: Disk) -> str | None:
    """Return why the disk is not to be moved to another bus, or None if it is."""
    if reason := why_not_judged(disk) or LEFT.get(disk.bus):
        return reason
    if disk.bus in MOVED:
        return None
    return f"on the bus {disk.bus}, with which reclaim was not tested: it stays there"


def may_stay(disk: Disk) -> bool:
    """True if policy accepts the bus as it is, since discards pass through it too.

    ide and sata pass TRIM on in every QEMU of today; virtio-blk does from machine type 4.0
    (hw_compat_3_1 in QEMU's hw/core/machine.c switches it off for those before) unless the guest's driver is known
    to be too old for it: see `driver_discards`. docs/truth.md has it measured.
    """
    if disk.guest.policy.bus != "any-discarding":
        return False
    return _qemu_passes_on(disk) and driver_discards(disk) is not False


def to_move(guest: Guest) -> list[Disk]:
    """Return the disks of *guest* that belong on the scsi bus, those that are there too."""
    return [
        disk
        for disk in guest.disks
        if why_not_moved(disk) is None and not may_stay(disk)
    ]


def _qemu_passes_on(disk: Disk) -> bool:
    if disk.bus == "virtio":
        return _virtio_blk_discards(disk.guest.hypervisor, disk.guest.definition)
    return disk.bus in ("ide", "sata")


#: in the reason of disk-bus: another bus than scsi, through which discards pass as well
BY_RULE = "so a move only satisfies this rule"
#: and of scsi-controller, about such disks alone: the row of each disk has the rest
OF_DISK_BUS = "only disk-bus asks for one"


def by_rule(disk: Disk) -> str:
    """Return the end of disk-bus' reason against *disk*, which is not on the scsi bus: "" unless its bus is as good.

    Raises ProbeError if the guest's answer cannot be parsed.
    """
    if not _is_on_a_good_bus(disk):
        return ""
    is_asked = disk.driver.get("discard") == "unmap"
    once = "" if is_asked else " once disk-discard is mended"
    accept = 'accept it with bus = "any-discarding" in the inventory\'s policy'
    return f"; discards pass through this bus too{once}, {BY_RULE}; {accept}"


def of_disk_bus(disks: Iterable[Disk]) -> str:
    """Return the end of scsi-controller's reason: "" unless each of *disks* is on a bus that is as good.

    Raises ProbeError if the guest's answer cannot be parsed.
    """
    return f"; {OF_DISK_BUS}" if all(map(_is_on_a_good_bus, disks)) else ""


def _is_on_a_good_bus(disk: Disk) -> bool:
    """True if QEMU and the guest's driver are known to pass discards through the bus of *disk*.

    A guest that reclaim could not look into may have a driver of virtio-blk that is too old.
    """
    return _qemu_passes_on(disk) and driver_discards(disk) is True


#: Linux' virtio_blk knows discard from here (commit 1f23816b8eb8)
_DRIVER_SINCE = (5, 0)


def driver_discards(disk: Disk) -> bool | None:
    """True if the guest's driver of a virtio-blk disk offers discards, None if that is not known.

    DISC-MAX shows it if the disk runs on virtio-blk that offers them; else a new enough kernel does.
    Raises ProbeError if the guest's answer cannot be parsed.
    """
    guest = disk.guest
    if disk.bus != "virtio":
        return True
    if not guest.has_facts:
        return None
    live, view = guest.live, guest.live_disk(disk.view)
    if live is not None and view is not None and view.bus == "virtio":
        device = device_of(disk)
        if device is not None:
            if _virtio_blk_discards(guest.hypervisor, live):
                return device.disc_max > 0
    release = re.match(r"(\d{1,3})\.(\d{1,3})", guest.facts.running_kernel)
    if release and (int(release[1]), int(release[2])) >= _DRIVER_SINCE:
        return True
    return None


def _virtio_blk_discards(node: Node, definition: Definition) -> bool:
    """True if virtio-blk of the machine type of *definition* offers discards.

    An alias, and a type or board without versions, behaves like the QEMU that runs it.
    """
    name = node.canonical_machine(definition) or ""
    known = machine_type.parse(name)
    if known is not None and known.version is not None:
        return known.version >= machine_type.VIRTIO_BLK_DISCARD
    if known is None and not machine_type.has_no_version(
        name, node.offered(definition)
    ):
        return False
    qemu = node.qemu_version
    return qemu is None or machine_type.numbers(qemu) >= machine_type.VIRTIO_BLK_DISCARD


def disks_on(definition: Definition, controller: ControllerView) -> list[DiskView]:
    """Return the disks, cdroms and LUNs whose address is on *controller*."""
    return [
        disk
        for disk in definition.all_disks
        if disk.bus == "scsi"
        and disk.address.get("controller", "0") == controller.index
    ]


def devices_on(definition: Definition, controller: ControllerView) -> list[Element]:
    """Return every device on *controller*: disks, cdroms, and host devices passed through."""
    devices = [disk.element for disk in disks_on(definition, controller)]
    for hostdev in definition.root.iterfind("devices/hostdev"):
        address = hostdev.find("address")
        if address is None or address.get("type") != "drive":
            continue
        if address.get("controller", "0") == controller.index:
            devices.append(hostdev)
    return devices


# Controllers ----------------------------------------------------------------------------------


def virtio_scsi_controllers(definition: Definition) -> list[ControllerView]:
    """Return the virtio-scsi controllers, the lowest index first."""
    controllers = [
        controller
        for controller in definition.scsi_controllers
        if controller.is_virtio_scsi
    ]
    return sorted(controllers, key=lambda controller: int(controller.index))


def virtio_scsi(definition: Definition) -> ControllerView | None:
    """Return the virtio-scsi controller of the lowest index, or None."""
    return next(iter(virtio_scsi_controllers(definition)), None)


def add_controller(edit: Edit, leaving: Element | None = None) -> str:
    """Add a virtio-scsi controller under the next free index; return the index.

    If all PCI slots are taken it takes the one of *leaving*, a disk that goes to the scsi bus.
    Raises Withheld if QEMU's own arguments have its name or its place, or there is no place.
    """
    taken = {controller.index for controller in edit.definition.scsi_controllers}
    index = next(str(number) for number in count() if str(number) not in taken)
    bound.refuse_to_add(edit, index)
    address = bound.slot_for(edit) or _slot_left_by(edit, leaving)
    added = edit.add_device(
        "controller", {"type": "scsi", "index": index, "model": "virtio-scsi"}
    )
    if address is not None:
        etree.SubElement(added, "address", address)
    return index


def _slot_left_by(edit: Edit, disk: Element | None) -> dict[str, str] | None:
    """Return the PCI address of *disk* if no other is left; None if libvirt may choose. Raises Withheld if none is."""
    full = pci.why_no_place(edit.definition)
    if full is None:
        return None
    address = None if disk is None else pci.address_of(disk)
    if address is None:
        raise Withheld(full)
    edit.notes.append(
        "all PCI slots are taken: the new controller is in the slot that the disk leaves"
    )
    return address


def move_within(edit: Edit, disk: Element, index: str) -> None:
    """Give a SCSI *disk* a place on virtio-scsi controller *index*. Raises Withheld as `move` does."""
    bound.refuse_to_rename(edit, disk)
    address = free_address(edit, index)
    bound.refuse_to_place(edit, disk, index, address["target"], address["unit"])
    set_address(disk, address)


#: types of address of a virtio-scsi controller; ibmvscsi has a bus of its own (spapr-vio)
_VIRTIO_ADDRESSES = ("pci", "ccw", "virtio-mmio")


def make_virtio(edit: Edit, controller: ControllerView) -> None:
    """Turn *controller* into a virtio-scsi controller, in its place, and in its slot if that fits.

    Raises Withheld if QEMU's own arguments name it, or a disk on it.
    """
    bound.refuse_to_change(edit, controller)
    for disk in disks_on(edit.definition, controller):
        bound.refuse_to_rename(edit, edit.disk(disk.target))
    element = _controller(edit, controller.index)
    element.set("model", "virtio-scsi")
    address = element.find("address")
    if address is not None and address.get("type") not in _VIRTIO_ADDRESSES:
        edit.remove(address)


def _controller(edit: Edit, index: str) -> Element:
    for element in edit.devices.iterfind("controller"):
        if element.get("type") == "scsi" and element.get("index", "0") == index:
            return element
    raise ProbeError(
        f"{edit.origin.name}: the definition has no SCSI controller {index}"
    )


#: attributes of a virtio-blk disk's driver that the controller's driver has (libvirt formatdomain)
_TO_CONTROLLER = (
    "queues",
    "iothread",
    "ioeventfd",
    "iommu",
    "ats",
    "packed",
    "page_per_vq",
)
#: elements of a disk that only a PCI device has (libvirt's virDomainDeviceInfo): libvirt 11 refuses them elsewhere
_OF_PCI = ("acpi", "rom")
#: attributes of a virtio-blk disk's driver that nothing on the scsi bus has
_DROPPED = ("event_idx", "queue_size")


def controller_for(edit: Edit, settings: Mapping[str, str], disk: Element) -> str:
    """Return the index of a virtio-scsi controller on which *disk* keeps its *settings*.

    They are the controller's on the scsi bus, so they hold for every disk on it: the controller has
    the same already, or no device is on it yet, or another one is added.
    """
    definition = edit.definition
    for controller in virtio_scsi_controllers(definition):
        driver = controller.driver
        if "iothread" in driver and "iothread" not in settings:
            continue  # the disk would share an IOThread that it was kept out of
        changed = [name for name in settings if driver.get(name) != settings[name]]
        if not changed:
            return controller.index
        is_free = not devices_on(definition, controller)
        if is_free and driver.keys().isdisjoint(changed):
            return controller.index
    return add_controller(edit, disk)


def _settle(edit: Edit, index: str, settings: Mapping[str, str]) -> None:
    """Write *settings* into the controller's driver."""
    if not settings:
        return
    controller = _controller(edit, index)
    driver = controller.find("driver")
    if driver is None:
        driver = etree.Element("driver")
        controller.insert(0, driver)
    for name, value in settings.items():
        driver.set(name, value)


# Moving a disk --------------------------------------------------------------------------------


def move(edit: Edit, disk: Element, *, rename: bool) -> None:
    """Move *disk* to a virtio-scsi controller; settings that it loses or has elsewhere then are noted in *edit*.

    Raises Withheld if the scsi bus has no counterpart of a setting.
    """
    _refuse(disk)
    bound.refuse_to_move(edit, disk)
    target = disk.find("target")
    if target is None:
        raise ProbeError(f"{edit.origin.name}: a disk without a target")
    settings = _take_settings(edit, disk)
    index = controller_for(edit, settings, disk)
    _settle(edit, index, settings)
    edit.notes += [
        f"{name}={value!r} is on controller {index} now"
        for name, value in settings.items()
    ]
    _shorten_serial(edit, disk, str(target.get("bus")))
    address = free_address(edit, index)
    bound.refuse_to_place(edit, disk, index, address["target"], address["unit"])
    _rename(edit, target, rename=rename and not _is_noted(edit, str(target.get("dev"))))
    set_address(disk, address)


def expect_bootable(guest: Guest, edit: Edit) -> None:
    """Raise Withheld if *edit* puts a disk on virtio that this host's firmware may not boot from there."""
    reason = guest.hypervisor.why_may_not_boot(edit.definition)
    if reason and not guest.hypervisor.why_may_not_boot(guest.definition):
        raise Withheld(
            f"the guest may not boot from there: {reason}; take a newer machine type first (virsh edit)"
        )


def _refuse(disk: Element) -> None:
    """Raise Withheld for settings that libvirt refuses on the scsi bus, and that only the user may give up."""
    if disk.find("geometry[@trans]") is not None:
        raise Withheld(
            "its geometry has a translation mode (trans), which only ide has; an old system may need it"
        )
    if disk.find("driver/iothreads") is not None:
        raise Withheld(
            "its queues are mapped onto several IOThreads (driver iothreads), which a SCSI disk does not have"
        )


def _take_settings(edit: Edit, disk: Element) -> dict[str, str]:
    """Take away the settings that only virtio-blk has, and return those that a controller can have."""
    dropped = [f"model={disk.attrib.pop('model')!r}"] if "model" in disk.attrib else []
    settings: dict[str, str] = {}
    driver = disk.find("driver")
    if driver is not None:
        settings = {
            name: str(driver.attrib.pop(name))
            for name in _TO_CONTROLLER
            if name in driver.attrib
        }
        dropped += [
            f"{name}={driver.attrib.pop(name)!r}"
            for name in _DROPPED
            if name in driver.attrib
        ]
    if dropped:
        edit.notes.append(f"dropped: {', '.join(dropped)} (only virtio-blk has that)")
    for name in _OF_PCI:
        for element in disk.findall(name):
            values = " ".join(f"{key}={value!r}" for key, value in element.items())
            edit.notes.append(f"dropped: {name} {values} (only a PCI device has that)")
            edit.remove(element)
    return settings


#: characters of a serial that the guest is shown: VIRTIO_BLK_ID_BYTES and the IDE IDENTIFY data hold
#: 20, SCSI's VPD page 36 (MAX_SERIAL_LEN in QEMU's hw/scsi/scsi-disk.c)
_SERIAL_SHOWN = 20
_SERIAL_SCSI = 36


def _shorten_serial(edit: Edit, disk: Element, bus: str) -> None:
    """Note how the guest sees a long serial, and cut one with which QEMU from 9.1 refuses to start on the scsi bus."""
    serial = disk.find("serial")
    text = (serial.text or "") if serial is not None else ""
    if serial is None or len(text) <= _SERIAL_SHOWN:
        return
    shown = f"the guest sees the serial {text[:_SERIAL_SCSI]!r}, on {bus} it was {text[:_SERIAL_SHOWN]!r}"
    if len(text) > _SERIAL_SCSI:
        serial.text = text[:_SERIAL_SCSI]
        shown += f" (cut to the {_SERIAL_SCSI} characters that a SCSI disk can have)"
    edit.notes.append(shown)


def _is_noted(edit: Edit, target: str) -> bool:
    """True if a note in `<metadata>` names the disk by its target. Then it keeps that name."""
    metadata = edit.root.find("metadata")
    if metadata is None:
        return False
    for element in metadata.iter():
        if not isinstance(element.tag, str):
            continue
        if target in (*element.attrib.values(), (element.text or "").strip()):
            edit.notes.append(
                f"the target stays {target}: <metadata> names it ({etree.QName(element).localname})"
            )
            return True
    return False


def _rename(edit: Edit, target: Element, *, rename: bool) -> None:
    """Put *target* on the scsi bus, under a free name with which the guest boots from the same disk as before."""
    old = str(target.get("dev"))
    first = _boot_disk(edit)
    target.set("bus", "scsi")
    passed_over = False
    for name in chain(free_targets(edit, target), [old]) if rename else [old]:
        target.set("dev", name)
        if _boot_disk(edit) == first:
            if name != old:
                edit.renames[old] = name
            elif passed_over:
                edit.notes.append(
                    f"the target stays {old}: under another name the guest would boot from another disk"
                )
            return
        passed_over = True
    raise Withheld(
        f"as {old} on the scsi bus another disk would be the first one, and the guest would boot from that: "
        "give the disks a boot order (<boot order='1'/>)"
    )


def _boot_disk(edit: Edit) -> int | None:
    """Return the place of the `<disk>` that `<boot dev='hd'/>` means; None if devices have an order of their own.

    QEMU is told to boot from the first hard disk as libvirt sorts them (qemuProcessPrepareDeviceBootorder).
    """
    if edit.root.find("os/boot") is None:
        return None
    disks = list(edit.devices.iterfind("disk"))
    for place in libvirt_order(disks):
        if disks[place].get("device", "disk") in ("disk", "lun"):
            return place
    return None


def libvirt_order(disks: list[Element]) -> list[int]:
    """Return the places of *disks* in the order in which libvirt keeps them (virDomainDiskInsert).

    A disk goes before the first one of its bus whose name is later in the alphabet, else behind the
    last one of its bus.
    """
    keys = [_bus_and_number(disk) for disk in disks]
    ordered: list[int] = []
    for place, key in enumerate(keys):
        ordered.insert(_insertion(key, [keys[other] for other in ordered]), place)
    return ordered


def _insertion(key: tuple[str, int], ordered: list[tuple[str, int]]) -> int:
    """Return the position among *ordered* at which libvirt puts a disk with *key*, its bus and number."""
    position = len(ordered)
    for number, other in enumerate(ordered, 1):
        if other[0] != key[0]:
            continue
        if other[1] > key[1]:
            return number - 1
        position = number
    return position


def _bus_and_number(disk: Element) -> tuple[str, int]:
    """Return the bus, and the number that the letters of the target stand for: sda is 0, sdaa is 26."""
    target = disk.find("target")
    if target is None:
        return "", -1
    letters = str(target.get("dev")).rstrip(string.digits)
    letters = letters.removeprefix("x")[2:]
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("a") + 1
    return str(target.get("bus")), number - 1


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


#: OVMF looks for a disk to boot from at LUNs 0 to 7 of a target (PcdVirtioScsiMaxLunLimit)
_UNITS = 8
#: libvirt's schema takes two digits
_TARGETS = 100


def free_address(edit: Edit, controller: str) -> dict[str, str]:
    """Return the first free drive address on *controller*. Raises Withheld if there is none.

    libvirt would derive one from the target's letter, seven a controller, and add an lsilogic
    controller for the eighth: so addresses are always written out.
    """
    taken: set[tuple[str, str]] = set()
    for address in _drive_addresses(edit):
        place = address.get("controller", "0"), address.get("bus", "0")
        if place == (controller, "0"):
            taken.add((address.get("target", "0"), address.get("unit", "0")))
    for target, unit in product(range(_TARGETS), range(_UNITS)):
        if (str(target), str(unit)) not in taken:
            return {
                "type": "drive",
                "controller": controller,
                "bus": "0",
                "target": str(target),
                "unit": str(unit),
            }
    raise Withheld(f"there is no free address on SCSI controller {controller}")


def _drive_addresses(edit: Edit) -> Iterator[Element]:
    for element in edit.devices:
        if not isinstance(element.tag, str):
            continue
        address = element.find("address")
        if address is None or address.get("type") != "drive":
            continue
        if element.tag == "hostdev":
            yield address
            continue
        target = element.find("target")
        if target is not None and target.get("bus") == "scsi":
            yield address


def free_targets(edit: Edit, target: Element) -> Iterator[str]:
    """Return names for *target* that no other disk of the domain has: its own letters first, then `sda` and on."""
    old = str(target.get("dev"))
    wanted = "sd" + old[2:] if old[:2] in ("vd", "hd") else old
    taken = set()
    for other in edit.devices.iterfind("disk/target"):
        if other is not target:
            taken.add(str(other.get("dev")))
    return (name for name in chain([wanted], _sd_names()) if name not in taken)


def _sd_names() -> Iterator[str]:
    for length in (1, 2, 3):
        for letters in product(string.ascii_lowercase, repeat=length):
            yield "sd" + "".join(letters)
