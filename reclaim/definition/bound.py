"""QEMU's own arguments (`qemuargs`) that are bound to a name or a place that a change would take away.

libvirt hands those on unread. A `-set device.virtio-disk0.…` of a disk that has another id by then keeps QEMU from
starting. An override or a `-global` of one that went to another driver is lost without a word. A device with a PCI
slot of its own keeps QEMU from starting when libvirt has given that slot away. So such a change is withheld.
"""

from __future__ import annotations

import re
import string

from reclaim.base.errors import Withheld
from reclaim.definition import pci, qemuargs
from reclaim.definition.domain import (
    ControllerView,
    Definition,
    DiskView,
    Edit,
    Element,
)

#: begins the alias that a user gives; libvirt keeps it whatever the bus
_USERS = "ua-"
#: libvirt's qemuAssignDeviceDiskAlias: buses whose disks are called after their address
_BY_ADDRESS = ("ide", "sata", "scsi", "fdc")
#: units of one bus, for a disk without an address (virDomainDiskDefAssignAddress)
_UNITS = {"ide": 2, "sata": 6, "scsi": 7, "fdc": 2}
#: properties that virtio-blk, ide-hd and scsi-hd share, or that ide-hd and scsi-hd do (QEMU's hw/block/block.h and
#: hw/scsi/scsi-disk.c): set by an alias of the user's, they hold on either bus
_SHARED = frozenset(
    [
        "drive",
        "logical_block_size",
        "physical_block_size",
        "min_io_size",
        "opt_io_size",
        "discard_granularity",
        "write-cache",
        "share-rw",
        "account-invalid",
        "account-failed",
        "stats-intervals",
        "rerror",
        "werror",
        "bootindex",
        "serial",
        "wwn",
        "rotation_rate",
    ]
)
#: QEMU's drivers of a disk on each bus that one is moved from
_DISK_DRIVERS = {
    "virtio": r"virtio-blk(-.*)?",
    "ide": r"ide-(hd|drive|device|disk)",
    "sata": r"ide-(hd|drive|device|disk)",
}
_SCSI_DISKS = r"scsi-(hd|disk|disk-base|device)"
_SECTORS = ("logical_block_size", "physical_block_size")
#: and of the SCSI controllers that are no virtio-scsi
_ADAPTERS = (
    r"lsi.*|mptsas.*|megasas.*|(vmware-)?pvscsi|am53c974|dc390|esp.*|spapr-vscsi"
)

_UNREAD = "whose file reclaim does not read, and which may name the disk or take its new place"
_UNKNOWN_SLOT = "which takes a PCI slot that libvirt does not know of"


def alias(disk: DiskView, definition: Definition) -> str:
    """Return the id that libvirt gives the disk: `virtio-disk0`, `sata0-0-1`, or the one that the user gave it."""
    given = disk.parts.get("alias", {}).get("name", "")
    if given.startswith(_USERS):
        return given
    number = _number(disk.target)
    if disk.bus not in _BY_ADDRESS:
        return f"{disk.bus}-disk{number}"
    controller, bus, target, unit = _address(disk, number)
    if disk.bus == "scsi" and not _is_lsilogic(definition, controller):
        return f"scsi{controller}-{bus}-{target}-{unit}"
    return f"{disk.bus}{controller}-{bus}-{unit}"


def _address(disk: DiskView, number: int) -> tuple[str, str, str, str]:
    address = disk.address
    if address.get("type", "drive") != "drive" or "unit" not in address:
        upper, unit = divmod(number, _UNITS[disk.bus])
        if disk.bus == "ide":
            return ("0", str(upper), "0", str(unit))
        return (str(upper), "0", "0", str(unit))
    return (
        address.get("controller", "0"),
        address.get("bus", "0"),
        address.get("target", "0"),
        address["unit"],
    )


def _is_lsilogic(definition: Definition, index: str) -> bool:
    for controller in definition.scsi_controllers:
        if controller.index == index:
            return controller.effective_model == "lsilogic"
    added = ControllerView({"type": "scsi"}, {}, definition.arch)
    return added.effective_model == "lsilogic"


def _number(target: str) -> int:
    """Return the number that the letters of the target stand for (virDiskNameToIndex): vda is 0, vdaa is 26."""
    match = re.fullmatch(r"(?:fd|hd|vd|sd|xvd|ubd)([a-z]{1,4})\d*", target)
    number = 0
    for letter in match[1] if match else "a":
        number = number * 26 + string.ascii_lowercase.index(letter) + 1
    return number - 1


def _refuse(reason: str | None, why: str) -> None:
    if reason is not None:
        raise Withheld(
            f"{reason}, {why}: take that out of the definition first, or leave the hardware as it is"
        )


# Changes that are refused ---------------------------------------------------------------------


def refuse_to_move(edit: Edit, disk: Element) -> None:
    """Raise Withheld if an argument is bound to *disk* as it is on its bus, other than to an alias of the user's."""
    if not qemuargs.is_there(edit.root):
        return
    root = edit.root
    _refuse(qemuargs.reading_a_file(root), _UNREAD)
    view, definition = _view(edit, disk)
    name = alias(view, definition)
    _refuse_another_name(edit, name)
    _refuse(
        qemuargs.naming_a_node(root), "a number that changes when disks change places"
    )
    driver = _DISK_DRIVERS.get(view.bus)
    _refuse(
        driver and qemuargs.setting_globally(root, driver),
        "which is lost on the scsi bus",
    )
    _refuse(
        qemuargs.setting_globally(root, _SCSI_DISKS, _SECTORS),
        "which would apply to the disk on the scsi bus",
    )
    if view.bus == "virtio":
        _refuse_to_free_a_slot(root, view)
    elif view.bus in ("ide", "sata"):
        _refuse(
            qemuargs.on_ide_bus(root), "which takes the place that the disk would leave"
        )


def refuse_to_place(
    edit: Edit, disk: Element, index: str, target: str, unit: str
) -> None:
    """Raise Withheld if an argument takes that place of SCSI controller *index*, or the name that goes with it."""
    if not qemuargs.is_there(edit.root):
        return
    view, definition = _view(edit, disk)
    if not alias(view, definition).startswith(_USERS):
        _refuse(
            qemuargs.naming(edit.root, [f"scsi{index}-0-{target}-{unit}"]),
            "which would become the id of the disk",
        )
    _refuse(
        qemuargs.on_scsi_bus(edit.root, _id(edit, index)),
        f"which is attached to the SCSI controller {index}",
    )


def refuse_to_rename(edit: Edit, disk: Element) -> None:
    """Raise Withheld if an argument is bound to the id of *disk*, which changes with its controller or its place."""
    if not qemuargs.is_there(edit.root):
        return
    _refuse(qemuargs.reading_a_file(edit.root), _UNREAD)
    _refuse_another_name(edit, alias(*_view(edit, disk)))


def refuse_to_change(edit: Edit, controller: ControllerView) -> None:
    """Raise Withheld if an argument is bound to the SCSI *controller*, or to a driver of its kind."""
    _refuse(qemuargs.reading_a_file(edit.root), _UNREAD)
    _refuse(
        qemuargs.naming(edit.root, [_id(edit, controller.index)]),
        "which would be another controller",
    )
    _refuse(
        qemuargs.setting_globally(edit.root, _ADAPTERS),
        "which is lost on a virtio-scsi controller",
    )


def refuse_to_add(edit: Edit, index: str) -> None:
    """Raise Withheld if an argument names the id that a new SCSI controller *index* would have."""
    _refuse(qemuargs.reading_a_file(edit.root), _UNREAD)
    _refuse(
        qemuargs.naming(edit.root, [f"scsi{index}"]),
        "which would become the id of a new controller",
    )


def _id(edit: Edit, index: str) -> str:
    """Return the id of SCSI controller *index*: the one that the user gave it, or libvirt's."""
    for controller in edit.devices.iterfind("controller[@type='scsi']"):
        given = controller.find("alias")
        if controller.get("index", "0") != index or given is None:
            continue
        name = given.get("name", "")
        if name.startswith(_USERS):
            return str(name)
    return f"scsi{index}"


def _view(edit: Edit, disk: Element) -> tuple[DiskView, Definition]:
    definition = edit.definition
    number = list(edit.devices.iterfind("disk")).index(disk)
    return definition.all_disks[number], definition


def _refuse_another_name(edit: Edit, name: str) -> None:
    if not name.startswith(_USERS):
        _refuse(
            qemuargs.naming(edit.root, [name]),
            "which would no longer be the id of the disk",
        )
        return
    _refuse(
        qemuargs.naming(edit.root, [f"{name}/virtio-backend"]),
        "which a SCSI disk does not have",
    )
    for overridden, properties in qemuargs.overrides(edit.root):
        lost = sorted(properties - _SHARED)
        if overridden == name and lost:
            _refuse(
                f"qemu:override sets {', '.join(lost)} of {name}",
                "which a SCSI disk does not have",
            )
    setting = re.compile(rf"device\.{re.escape(name)}\.([\w-]+)=")
    for argument in qemuargs.arguments(edit.root):
        match = setting.match(argument.value)
        if argument.option == "set" and match and match[1] not in _SHARED:
            _refuse(argument.words, "which a SCSI disk does not have")


# PCI slots ------------------------------------------------------------------------------------


def _refuse_to_free_a_slot(root: Element, disk: DiskView) -> None:
    """Raise Withheld if a device without `addr=`, which takes the lowest free slot, would move to the one of *disk*."""
    address = disk.address
    if address.get("type") == "pci" and int(address.get("bus", "0"), 0) > 0:
        return  # behind a port of its own
    _refuse(
        qemuargs.taking_the_first_free_slot(root),
        "which would move to the PCI slot that the disk leaves",
    )


def slot_for(edit: Edit) -> dict[str, str] | None:
    """Return the address for a new PCI device if one has to be written out, None if libvirt may choose.

    Raises Withheld if any slot may be, or may become, that of a device of QEMU's arguments.
    """
    root = edit.root
    taker = qemuargs.taking_a_slot(root)
    if taker is None:
        return None
    _refuse(
        qemuargs.taking_the_first_free_slot(root),
        "which would move to another PCI slot",
    )
    buses = edit.devices.iterfind("controller[@type='pci']")
    if [bus.get("model") for bus in buses] != ["pci-root"]:
        _refuse(taker, _UNKNOWN_SLOT)
    addresses = edit.devices.findall("*/address[@type='pci']")
    taken = qemuargs.slots(root)
    taken |= {int(address.get("slot") or "0", 0) for address in addresses}
    # 0 to 2 are the chipset's and the first video's
    slot = next((slot for slot in range(3, 32) if slot not in taken), None)
    if slot is None or not addresses:
        _refuse(taker, _UNKNOWN_SLOT)
    return {
        "type": "pci",
        "domain": "0x0000",
        "bus": "0x00",
        "slot": f"0x{slot:02x}",
        "function": "0x0",
    }


def refuse_a_new_pci_device(definition: Definition) -> None:
    """Raise Withheld if libvirt has no PCI slot for one more device, or may choose one that QEMU's arguments take."""
    _refuse(qemuargs.taking_a_slot(definition.root), _UNKNOWN_SLOT)
    if full := pci.why_no_place(definition):
        raise Withheld(full)
