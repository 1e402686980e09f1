from fixers.fstab_uuid import name_by_uuid
from reclaim.base.text import counted
from reclaim.handles.guest import Guest
from reclaim.inside import fstab, generated, units
from reclaim.requirement import requirement


@requirement(
    "fstab-uuid",
    "fstab uses device names that survive a change of bus",
    stage="names",
    fixer=name_by_uuid,
    after=("guest-access",),
    reference="https://chrisirwin.ca/posts/discard-with-kvm/",
)
def check_fstab_uuid(guest: Guest) -> str:
    """`/dev/vda1` becomes `/dev/sda1` when the disk moves to the scsi bus: the guest would not boot."""
    facts = guest.facts
    in_fstab, in_units = fstab.named_by_bus(facts), units.named_by_bus(facts)
    managed = generated.managed("/etc/fstab", facts.fstab) if in_fstab else []
    for path, text in facts.units.items():
        if units.names(text):
            managed += generated.managed(path, text)
    assert not in_fstab, "fstab " + "; ".join([*in_fstab, *in_units, *managed])
    assert not in_units, "; ".join([*in_units, *managed])
    entries = counted(len(fstab.listed(facts)), "entry", "entries")
    mounts = counted(len(facts.units), "mount unit")
    return f"{entries} in fstab, {mounts}; none names a device by its bus"
