from fixers.fstab_uuid import name_by_uuid
from reclaim.fstab import entries, is_renamed_by_bus, unit_names
from reclaim.guest import Guest
from reclaim.requirement import requirement


@requirement(
    "fstab-uuid",
    "fstab names no device that a change of bus renames",
    stage="names",
    fixer=name_by_uuid,
    after=("guest-access",),
    reference="https://chrisirwin.ca/posts/discard-with-kvm/",
)
def check_fstab_uuid(guest: Guest) -> str:
    """`/dev/vda1` becomes `/dev/sda1` when the disk moves to the scsi bus: the guest would not boot."""
    facts = guest.facts
    found = list(entries(facts.fstab))
    named = [
        f"line {entry.number}: {device} on {entry.target}"
        for entry in found
        for device in entry.devices
        if is_renamed_by_bus(device) and not (entry.is_optional and facts.device(device) is None)
    ]
    named += [f"line {entry.number}: {option} on {entry.target}" for entry in found for option in entry.opaque]
    units = [f"{path}: {device}" for path, text in facts.units.items() for device in unit_names(text)]
    assert not named, "fstab " + "; ".join([*named, *units])
    assert not units, "; ".join(units)
    return f"{len(found)} entries in fstab, {len(facts.units)} mount units, none named by its bus"
