from fixers.fstab_uuid import name_by_uuid
from reclaim.base.text import counted
from reclaim.handles.guest import Guest
from reclaim.inside import generated, units
from reclaim.inside.fstab import ambiguous, is_renamed_by_bus, listed, owned_by, path_of
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
    entries = listed(facts)
    named = [
        f"line {entry.number}: {device} on {entry.target}"
        for entry in entries
        for device in entry.devices
        if is_renamed_by_bus(device)
        and not (entry.is_optional and facts.device(path_of(device)) is None)
    ]
    named += [
        f"line {entry.number}: {option} on {entry.target}"
        for entry in entries
        for option in entry.opaque
    ]
    for entry in entries:
        if several := ambiguous(facts, entry):
            named.append(
                f"line {entry.number}: {entry.source} on {entry.target} is that of {owned_by(several)}"
            )
    in_units = [
        f"{path}: {device}"
        for path, text in facts.units.items()
        for device in units.names(text)
    ]
    assert not named, "fstab " + "; ".join(
        [*named, *in_units, *generated.managed("/etc/fstab", facts.fstab)]
    )
    assert not in_units, "; ".join(in_units)
    in_fstab = counted(len(entries), "entry", "entries")
    mounts = counted(len(facts.units), "mount unit")
    return f"{in_fstab} in fstab, {mounts}; none names a device by its bus"
