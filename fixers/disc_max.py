from reclaim import crypttab
from reclaim.change import Change, FileChange
from reclaim.errors import Pending, Withheld
from reclaim.facts import BlockDevice
from reclaim.guest import Guest
from reclaim.initramfs import rebuild
from reclaim.machine import VIRTIO_BLK_DISCARD, parse
from reclaim.storage import first_deaf

#: what to do by hand about a layer, by lsblk's type of it
_RAID = "load raid456 with devices_handle_discard_safely=Y, if every disk reads zeros after a discard"
_BY_HAND = {
    "lvm": "`lvs -o name,segtype` in the guest tells what kind of volume swallows them",
    # drivers/md/raid5.c: off unless the administrator vouches for the disks
    **dict.fromkeys(("raid4", "raid5", "raid6"), _RAID),
}


def name_the_layer(guest: Guest) -> list[Change]:
    """Open LUKS for discards where the policy allows it; the other layers are named, with what mends them."""
    layers = first_deaf(guest.facts)
    crypts = list({layer.name: layer for layer in layers.values() if layer.type == "crypt"}.values())
    if crypts and not any(layer.type == "disk" for layer in layers.values()):
        return _open_luks(guest, crypts)
    live = guest.live
    known = parse(live.machine or "") if live else None
    if live and known and known.version and known.version < VIRTIO_BLK_DISCARD:
        if any(disk.bus == "virtio" for disk in live.disks):
            raise Withheld(f"virtio-blk on {known.name} offers no discard: disk-bus and machine-type mend that")
    told = {_advice(layer) for layer in layers.values()}
    raise Withheld("; ".join(sorted(told)))


def _advice(layer: BlockDevice) -> str:
    return f"{layer.path}: {_BY_HAND.get(layer.type, 'the layer named has to be changed by hand')}"


def _open_luks(guest: Guest, layers: list[BlockDevice]) -> list[Change]:
    """`discard` in crypttab, and in the copies of it that lie in each initramfs (crypttab(5))."""
    if not guest.policy.luks_discard:
        raise Withheld(
            "LUKS passes no discards unless crypttab says `discard`: that shows which blocks are free; "
            "`luks_discard = true` in the inventory's [policy] allows it"
        )
    facts = guest.facts
    texts = {path: facts.boot_files[path] for path in crypttab.PATHS if path in facts.boot_files}
    after = dict(texts)
    waiting, unlisted = [], []
    for layer in layers:
        listed = {
            path: entry for path, text in texts.items() for entry in crypttab.entries(text) if entry.name == layer.name
        }
        if not listed:
            unlisted.append(layer.name)
        elif all("discard" in entry.options for entry in listed.values()):
            waiting.append(layer.name)
        for path in listed:
            after[path] = crypttab.with_discard(after[path], layer.name)
    changes: list[Change] = [
        FileChange(guest.name, path, text, after[path], then=rebuild(facts))
        for path, text in texts.items()
        if after[path] != text
    ]
    if changes:
        return changes
    if waiting and not unlisted:
        raise Pending(f"crypttab says `discard` for {', '.join(waiting)}: it counts from the guest's next boot")
    raise Withheld(
        f"{', '.join(unlisted)} cannot be changed in crypttab: allow discards where it is opened "
        "(rd.luks.options=discard, or :allow-discards after cryptdevice=…)"
    )
