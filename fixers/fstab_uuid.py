from reclaim.change import Change, FileChange
from reclaim.errors import Withheld
from reclaim.fstab import entries, is_renamed_by_bus, replace_device, stable_name
from reclaim.guest import Guest


def name_by_uuid(guest: Guest) -> list[Change]:
    """Name each of those devices by `UUID=`; every other byte of fstab stays."""
    facts = guest.facts
    text = facts.fstab
    unnamed: list[str] = []
    replaced: list[str] = []
    for entry in entries(facts.fstab):
        for device in filter(is_renamed_by_bus, entry.devices):
            block = facts.device(device)
            name = stable_name(facts, block) if block else None
            if name is None:
                unnamed.append(
                    f"line {entry.number}: {device} has no UUID of its own" if block else f"{device} is not there"
                )
            elif device == entry.source:
                replaced.append(device)
                text = replace_device(text, entry.number, device, name)
            else:
                # btrfs takes only paths in device=
                replaced.append(device)
                tag, _, value = name.partition("=")
                text = replace_device(text, entry.number, device, f"/dev/disk/by-{tag.lower()}/{value}")
    if text == facts.fstab:
        raise Withheld("; ".join(unnamed))
    return [FileChange(guest.name, "/etc/fstab", facts.fstab, text, "findmnt --verify --tab-file", devices=replaced)]
