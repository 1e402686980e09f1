import shlex

from reclaim.base.errors import Withheld
from reclaim.changes.change import Change, with_the_rest
from reclaim.changes.command import CommandChange
from reclaim.changes.file_change import FileChange
from reclaim.handles.guest import Guest
from reclaim.inside import generated, units
from reclaim.inside.facts import Facts
from reclaim.inside.fstab import (
    ambiguous,
    instead,
    is_renamed_by_bus,
    listed,
    meant,
    named_stably,
    path_of,
    stable_path,
)

_RELOAD = "systemctl daemon-reload"


def name_by_uuid(guest: Guest) -> list[Change]:
    """Name each of those devices by `UUID=`; every other byte of fstab and of units stays."""
    facts = guest.facts
    if system := generated.system(facts):
        raise Withheld(_in_configuration(facts, system))
    changes: list[Change] = []
    new = named_stably(facts)
    left = new.left
    written_again = generated.why_not_edited("/etc/fstab", facts.fstab)
    if new.text != facts.fstab and written_again:
        left.append(written_again)
    elif new.text != facts.fstab:
        verify = "findmnt --verify --tab-file"
        changes.append(
            FileChange(
                guest.name,
                "/etc/fstab",
                facts.fstab,
                new.text,
                verify,
                devices=new.replaced,
            )
        )
    for path, text in facts.units.items():
        if not units.names(text):
            continue
        if written_again := generated.why_not_edited(path, text):
            left.append(written_again)
            continue
        if path.endswith(".swap") or ".swap.d/" in path:
            swap = units.swap_named_stably(facts, path, text)
            if isinstance(swap, str):
                left.append(f"{path}: {swap}")
            else:
                changes += _renamed(guest.name, facts, path, text, swap)
            continue
        unit = units.named_stably(facts, text)
        left += [f"{path}: {why}" for why in unit.left]
        if unit.text != text:
            changes.append(
                FileChange(
                    guest.name,
                    path,
                    text,
                    unit.text,
                    then=_RELOAD,
                    devices=unit.replaced,
                )
            )
    return with_the_rest(changes, left)


def _in_configuration(facts: Facts, system: str) -> str:
    """Return the names to write into the configuration that fstab and units are made from."""
    wanted = []
    for entry in listed(facts):
        device = (
            facts.device(path_of(entry.source)) or instead(facts).get(entry.source)
            if is_renamed_by_bus(entry.source)
            else meant(facts, entry)
        )
        if is_renamed_by_bus(entry.source) or ambiguous(facts, entry):
            name = (
                stable_path(facts, device) if device else None
            ) or "/dev/disk/by-uuid/…"
            wanted.append(generated.mounted_by(system, entry.target, name))
    said = "; ".join(wanted) or "name the devices of these units by /dev/disk/by-uuid/"
    return f"{system} makes these files from its configuration: {said} there, then {generated.rebuilt_by(system)}"


def _renamed(
    guest: str, facts: Facts, path: str, text: str, swap: units.Swap
) -> list[Change]:
    """Return the changes that make the new unit, enable it if the old one is enabled, and remove the old one."""
    old, new = (shlex.quote(unit.rpartition("/")[2]) for unit in (path, swap.path))
    changes: list[Change] = []
    if swap.path not in facts.units:
        changes.append(
            FileChange(guest, swap.path, None, swap.text, then=_RELOAD, like=text)
        )
    move = "if systemctl is-enabled --quiet {0}; then systemctl enable {1} && systemctl disable {0}; fi"
    changes.append(CommandChange(guest, move.format(old, new), move.format(new, old)))
    changes.append(
        FileChange(guest, path, text, None, then=_RELOAD, devices=swap.devices)
    )
    return changes
