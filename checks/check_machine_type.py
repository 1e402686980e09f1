from fixers.machine_type import raise_machine_type
from reclaim.base.errors import NotApplicable, NotAssessable
from reclaim.definition import machine_type
from reclaim.handles.guest import Guest
from reclaim.requirement import requirement


@requirement(
    "machine-type",
    "The machine type is 2.1 or newer",
    stage="definition",
    fixer=raise_machine_type,
    after=("fstab-uuid", "boot-names", "initramfs-driver"),
    reference="https://chrisirwin.ca/posts/discard-with-kvm/",
)
def check_machine_type(guest: Guest) -> str:
    """Older machine types hide the discards that QEMU could pass on; one that QEMU has no more cannot start."""
    name = guest.machine
    if name is None:
        raise NotApplicable("the definition names no machine type")
    known = machine_type.parse(name)
    if known is None:
        raise NotAssessable(f"the machine type {name} cannot be ordered")
    if known.is_alias:
        return f"{name} stands for the newest type of its family"
    if known.version is None:
        raise NotApplicable(f"the machine type {name} has no version")
    behaves = (
        f" (as QEMU {machine_type.written(known.version)})" if known.vendor else ""
    )
    assert known.version >= machine_type.MINIMUM, f"{name}{behaves} is older than 2.1"
    assert not machine_type.is_gone(
        known, guest.hypervisor.offered(guest.definition)
    ), f"this QEMU has no {name} any more"
    return f"{name}{behaves}"
