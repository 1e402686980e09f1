from fixers.machine_type import raise_machine_type
from reclaim.base.errors import NotApplicable, NotAssessable
from reclaim.definition import machine_type
from reclaim.definition.machine_type import MachineType, OfferedMachine
from reclaim.handles.guest import Guest
from reclaim.requirement import requirement


@requirement(
    "machine-type",
    "The machine type is 2.1 or newer",
    stage="definition",
    fixer=raise_machine_type,
    after=("fstab-uuid", "boot-names", "initramfs-driver"),
    revives=True,
    reference="https://chrisirwin.ca/posts/discard-with-kvm/",
)
def check_machine_type(guest: Guest) -> str:
    """Older machine types hide the discards that QEMU could pass on. With one that QEMU lacks a guest cannot start."""
    name = guest.machine
    if name is None:
        raise NotApplicable("the definition names no machine type")
    absent = guest.hypervisor.why_unstartable(guest.definition)
    assert absent is None, f"{absent}: the guest cannot start{_again(guest)}"
    known = machine_type.parse(name)
    if known is None:
        offered = guest.hypervisor.offered(guest.definition)
        raise _without_order(name, offered)
    if known.is_alias:
        return f"{name} stands for the newest type of its family{_emulator(guest)}"
    if known.version is None:
        raise NotApplicable(f"the machine type {name} has no version")
    behaves = (
        f" (as QEMU {machine_type.written(known.version)})" if known.vendor else ""
    )
    assert known.version >= machine_type.MINIMUM, f"{name}{behaves} is older than 2.1"
    notes = f"{_firmware(guest)}{_deprecation(guest, known)}{_emulator(guest)}"
    return f"{name}{behaves}{notes}"


def _again(guest: Guest) -> str:
    """A guest that runs does so on the QEMU that it was started with."""
    return " again" if guest.is_running else ""


def _without_order(
    name: str, offered: list[OfferedMachine]
) -> NotApplicable | NotAssessable:
    if machine_type.has_no_version(name, offered):
        return NotApplicable(f"the machine type {name} has no version")
    return NotAssessable(f"the machine type {name} cannot be ordered")


def _emulator(guest: Guest) -> str:
    """Return a note about an emulator that libvirt does not list, and could not be asked about, or ""."""
    node, path = guest.hypervisor, guest.definition.emulator
    if not node.readonly or not node.machines or not path or node.is_listed(path):
        return ""
    return f"; libvirt does not list the emulator {path}, and was not asked about it (--definitions-only)"


def _firmware(guest: Guest) -> str:
    """Return the warning that the guest may start and not boot, or ""."""
    reason = guest.hypervisor.why_may_not_boot(guest.definition)
    if reason is None:
        return ""
    advice = "start the guest once to see, or take a newer type (virsh edit)"
    return f"{machine_type.MAY_NOT_BOOT}{reason}: {advice}"


def _deprecation(guest: Guest, known: MachineType) -> str:
    """Return the warning that a later QEMU has no such type, or ""."""
    offered = guest.hypervisor.offered(guest.definition)
    if OfferedMachine(known.name, deprecated=True) not in offered:
        return ""
    return f"{machine_type.DEPRECATED}{machine_type.end_of(known)}"
