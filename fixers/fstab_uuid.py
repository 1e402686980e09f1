from reclaim.change import Change, FileChange
from reclaim.errors import Withheld
from reclaim.fstab import named_stably, unit_named_stably
from reclaim.guest import Guest


def name_by_uuid(guest: Guest) -> list[Change]:
    """Name each of those devices by `UUID=`; every other byte of fstab and of mount units stays."""
    facts = guest.facts
    changes: list[Change] = []
    new = named_stably(facts)
    left = new.left
    if new.text != facts.fstab:
        verify = "findmnt --verify --tab-file"
        changes.append(FileChange(guest.name, "/etc/fstab", facts.fstab, new.text, verify, devices=new.replaced))
    for path, text in facts.units.items():
        unit = unit_named_stably(facts, path, text)
        left += unit.left
        if unit.text != text:
            reload = "systemctl daemon-reload"
            changes.append(FileChange(guest.name, path, text, unit.text, then=reload, devices=unit.replaced))
    if not changes:
        raise Withheld("; ".join(left))
    return changes
