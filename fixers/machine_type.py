from dataclasses import replace

from reclaim.base.errors import Withheld
from reclaim.changes.change import Change
from reclaim.changes.definition_change import changed_definition
from reclaim.definition import machine_type, qemuargs
from reclaim.definition.machine_type import MachineType, OfferedMachine
from reclaim.handles.guest import Guest


def raise_machine_type(guest: Guest) -> list[Change]:
    """Take a newer type of the same family: never another family, its hardware is another."""
    definition = guest.definition
    if guest.hypervisor.why_no_emulator(definition):
        raise Withheld(_another_emulator(guest))
    guest.expect_linux()
    if argument := qemuargs.naming_a_machine(definition.root):
        raise Withheld(
            f"{argument} names a machine type, which the definition's is not: change it there"
        )
    known = machine_type.parse(guest.machine or "")
    if known is None:
        raise Withheld("the machine type cannot be ordered: change it by hand")
    offered = guest.hypervisor.offered(definition)
    if not offered:
        raise Withheld(
            f"libvirt lists no machine types for the emulator {definition.emulator or 'of this guest'}"
        )
    newer = machine_type.successor(
        known, offered, lowest=guest.policy.machine == "minimum"
    )
    if newer is None:
        raise _without_successor(known, offered)
    edit = definition.edit()
    element = edit.root.find("os/type")
    assert element is not None, "a definition with a machine type has os/type"
    element.set("machine", newer)
    if guest.hypervisor.why_unstartable(definition):
        edit.notes.append(
            f"--undo cannot bring {known.name} back: libvirt refuses a type that this QEMU does not have"
        )
    return [changed_definition(edit)]


def _another_emulator(guest: Guest) -> str:
    """Return the edit that is to be made by hand: reclaim does not know which QEMU the guest was set up for."""
    definition = guest.definition
    arch = definition.arch
    emulators = guest.hypervisor.emulators_for(arch)
    if not emulators:
        return (
            f"this host has no QEMU for {arch}: install one, and name it in <emulator>"
        )
    emulator = emulators[0]
    offered = guest.hypervisor.machines[str(arch), emulator]
    absent = machine_type.why_not_offered(str(definition.machine), offered)
    edit = f"set <emulator> to one that is here, {emulator} (virsh edit)"
    return f"{edit}, and a machine type that it has: {absent}" if absent else edit


def _without_successor(known: MachineType, offered: list[OfferedMachine]) -> Withheld:
    """Return the reason for which no type of *offered* takes the place of *known*."""
    if machine_type.is_newer_than(known, offered):
        release = machine_type.written(known.version or ())
        qemu = f"a QEMU of {release} or newer"
        if known.vendor:
            vendor = machine_type.VENDORS[known.vendor]
            qemu = f"a QEMU of {vendor} that has {known.name}"
        return Withheld(
            "an older type is other hardware than the guest was set up on: "
            f"run it on {qemu}, or change the type by hand"
        )
    if known.version is None and not known.is_alias:
        return Withheld(
            f"{known.name} has no version, and any other type is other hardware: run it on a QEMU that has "
            f"{known.name}, or change the type by hand"
        )
    current = [replace(machine, deprecated=False) for machine in offered]
    if (last := machine_type.successor(known, current)) is not None:
        return Withheld(
            f"the newer types of its family that this QEMU offers are deprecated, up to {last}, which a later "
            "QEMU drops; take it by hand (virsh edit), or rebuild the guest on another family"
        )
    if (other := machine_type.of_another_vendor(known, offered)) is not None:
        return Withheld(
            f"this QEMU has only its vendor's types of the family: take {other} by hand (virsh edit)"
        )
    if (other := machine_type.of_another_vendor(known, current)) is not None:
        return Withheld(
            "this QEMU has only its vendor's types of the family, and they are deprecated: a later QEMU drops them; "
            f"take {other} by hand (virsh edit), or rebuild the guest on another family"
        )
    kind = f"{known.family}{known.variant and f' ({known.variant})'}"
    return Withheld(f"this QEMU offers no newer type of the family {kind}")
