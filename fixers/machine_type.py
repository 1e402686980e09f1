from dataclasses import replace

from reclaim.base.errors import Withheld
from reclaim.changes.change import Change
from reclaim.changes.definition_change import changed_definition
from reclaim.definition import machine_type, qemuargs
from reclaim.handles.guest import Guest


def raise_machine_type(guest: Guest) -> list[Change]:
    """Take a newer type of the same family: never another family, its hardware is another."""
    guest.expect_linux()
    definition = guest.definition
    if argument := qemuargs.naming_a_machine(definition.root):
        raise Withheld(
            f"{argument} names a machine type, which the definition's is not: change it there"
        )
    known = machine_type.parse(guest.machine or "")
    if known is None:
        raise Withheld("the machine type cannot be ordered")
    offered = guest.hypervisor.offered(definition)
    if not offered:
        raise Withheld(
            f"libvirt lists no machine types for the emulator {definition.emulator or 'of this guest'}"
        )
    newer = machine_type.successor(
        known, offered, lowest=guest.policy.machine == "minimum"
    )
    if newer is None:
        current = [replace(machine, deprecated=False) for machine in offered]
        if (last := machine_type.successor(known, current)) is not None:
            raise Withheld(
                f"the newer types of its family that this QEMU offers are deprecated, up to {last}, which a later "
                "QEMU drops; take it by hand (virsh edit), or rebuild the guest on another family"
            )
        kind = f"{known.family}{known.variant and f' ({known.variant})'}"
        raise Withheld(f"this QEMU offers no newer type of the family {kind}")
    edit = definition.edit()
    element = edit.root.find("os/type")
    assert element is not None, "a definition with a machine type has os/type"
    element.set("machine", newer)
    return [changed_definition(edit)]
