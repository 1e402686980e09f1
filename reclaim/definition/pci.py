"""The PCI slots of a guest: whether libvirt has a place for one more device.

libvirt places a device that has no address by itself, and adds a bus if it needs one. The new bus takes a slot as well,
so on a guest without a free slot libvirt refuses the definition ("index must be larger than bus"). Source:
qemuDomainAssignPCIAddresses in libvirt's src/qemu/qemu_domain_address.c, virDomainPCIAddressBusSetModel and
virDomainPCIAddressSetGrow in src/conf/domain_addr.c. libvirt 9.0 and 11.3 do the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reclaim.definition.domain import Definition, Element, attributes_of

#: why there is no place, and the way out
FULL = (
    "all PCI slots of the guest are taken, so libvirt has no place for a new controller, nor for a bus to put it on: "
    "take a PCI device out of the definition first (virsh edit)"
)

_X86 = ("i686", "x86_64")
#: slots of a bus that libvirt gives to devices by itself
_SLOTS = {
    "pci-root": range(1, 32),
    "pci-bridge": range(1, 32),
    "pcie-to-pci-bridge": range(1, 32),
    "pci-expander-bus": range(32),
}
#: ports with room for one device
_PORTS = ("pcie-root-port", "pcie-switch-downstream-port")
#: slots of a bus that libvirt gives to new ports
_SLOTS_FOR_PORTS = {"pcie-root": range(1, 32), "pcie-expander-bus": range(32)}
_FUNCTIONS = 8
#: the slot of the chipset's ISA bridge, which is no device of a definition: PIIX3, ICH9
_CHIPSET = {"pci-root": 1, "pcie-root": 31}


@dataclass
class _Bus:
    model: str
    #: slot -> what is there, each device by its tag or, of a PCI controller, by its model
    slots: dict[int, list[str]] = field(default_factory=dict)

    def has_room(self, slots: Iterable[int]) -> bool:
        return any(slot not in self.slots for slot in slots)

    def has_room_for_a_port(self, slots: Iterable[int]) -> bool:
        """True if a slot is free, or has ports alone and a function is left: libvirt puts ports together."""
        return self.has_room(slots) or any(
            len(devices) < _FUNCTIONS and set(devices) == {"pcie-root-port"}
            for slot, devices in self.slots.items()
            if slot in slots
        )


def why_no_place(definition: Definition) -> str | None:
    """Return why libvirt cannot place another PCI device in the guest; None if it can, or if that is unknown.

    Unknown are guests without PCI, and those of architectures where libvirt adds a root instead of a bridge.
    """
    buses = _buses(definition)
    if 0 not in buses:
        return None
    top = buses[0].model
    if top == "pci-root" and definition.arch in _X86:
        return None if _has_slot(buses) else FULL
    if top == "pcie-root":
        return None if _has_port(buses) else FULL
    return None


def address_of(device: Element) -> dict[str, str] | None:
    """Return the PCI address of *device*, or None if it has no such address."""
    address = device.find("address[@type='pci']")
    return None if address is None else dict(attributes_of(address))


def _has_slot(buses: Mapping[int, _Bus]) -> bool:
    return any(bus.has_room(_SLOTS.get(bus.model, ())) for bus in buses.values())


def _has_port(buses: Mapping[int, _Bus]) -> bool:
    for bus in buses.values():
        if bus.model in _PORTS and not bus.slots:
            return True
        if bus.has_room_for_a_port(_SLOTS_FOR_PORTS.get(bus.model, ())):
            return True
    return False


def _buses(definition: Definition) -> dict[int, _Bus]:
    """Return the PCI buses by their index, with the devices on each."""
    root = definition.root
    buses: dict[int, _Bus] = {}
    for controller in root.iterfind("devices/controller[@type='pci']"):
        number = int(controller.get("index", "0"))
        buses[number] = _Bus(controller.get("model", ""))
    if 0 in buses and definition.arch in _X86 and buses[0].model in _CHIPSET:
        buses[0].slots[_CHIPSET[buses[0].model]] = ["chipset"]
    for address in root.iterfind("devices/*/address[@type='pci']"):
        bus = buses.get(int(address.get("bus", "0"), 0))
        device = address.getparent()
        if bus is None or device is None:
            continue
        kind = device.get("model") if device.get("type") == "pci" else device.tag
        slot = int(address.get("slot", "0"), 0)
        bus.slots.setdefault(slot, []).append(str(kind))
    return buses
