from reclaim.base.errors import Pending, Withheld
from reclaim.changes.change import Change
from reclaim.changes.file_change import FileChange
from reclaim.definition.machine_type import VIRTIO_BLK_DISCARD, parse
from reclaim.handles.device import disk_of
from reclaim.handles.guest import Guest
from reclaim.inside import generated
from reclaim.inside.devices import BlockDevice
from reclaim.inside.facts import Facts
from reclaim.inside.filesystems import deaf_pools, first_deaf
from reclaim.inside.initramfs import rebuild

#: what to do by hand about a layer, by lsblk's type of it
_RAID = "load raid456 with devices_handle_discard_safely=Y, if every disk reads zeros after a discard"
_BY_HAND = {
    "lvm": "`lvs -o name,segtype` in the guest shows the kind of the volume that drops them",
    # drivers/md/raid5.c: off unless the administrator vouches for the disks
    **dict.fromkeys(("raid4", "raid5", "raid6"), _RAID),
}


def name_the_layer(guest: Guest) -> list[Change]:
    """Open LUKS for discards if the policy allows it. Other layers are named, with the way to mend them."""
    facts = guest.facts
    layers = first_deaf(facts)
    if not layers:
        pools = ", ".join(sorted(set(deaf_pools(facts).values())))
        raise Withheld(
            f"lvchange --discards passdown on the thin pool ({pools}): the layer below takes discards"
        )
    crypts = list(
        {
            layer.name: layer
            for layer in layers.values()
            if layer.type == "crypt" and not _is_integrity(facts, layer)
        }.values()
    )
    if crypts and not any(deaf.type == "disk" for deaf in layers.values()):
        return _open_luks(guest, crypts)
    advice = {
        _of_an_old_machine(guest, deaf) or _advice(facts, deaf)
        for deaf in layers.values()
    }
    raise Withheld("; ".join(sorted(advice)))


def _of_an_old_machine(guest: Guest, layer: BlockDevice) -> str:
    """Return advice about a virtio-blk disk of a machine type that offers no discard there; "" for any other layer."""
    live = guest.live
    known = parse(live.machine or "") if live else None
    if (
        layer.type != "disk"
        or known is None
        or known.version is None
        or known.version >= VIRTIO_BLK_DISCARD
    ):
        return ""
    disk = disk_of(guest, layer)
    view = guest.live_disk(disk.view) if disk else None
    if view is None or view.bus != "virtio":
        return ""
    return f"{layer.path}: virtio-blk on {known.name} offers no discard: disk-bus and machine-type fix that"


def _advice(facts: Facts, layer: BlockDevice) -> str:
    advice = _BY_HAND.get(layer.type, "the layer named has to be changed by hand")
    if _is_integrity(facts, layer):
        advice = "dm-integrity takes discards with `allow-discards` in integritytab(5), and never below LUKS"
    elif layer.type == "lvm" and facts.device(f"/dev/mapper/{layer.name}-real"):
        advice = "it has a snapshot (`lvs -o name,origin`), and takes no discards while it has"
    return f"{layer.path}: {advice}"


def _is_integrity(facts: Facts, layer: BlockDevice) -> bool:
    """True for dm-integrity: lsblk calls it crypt as well. LUKS2 names its own NAME_dif (cryptsetup(8))."""
    if layer.type != "crypt":
        return False
    if layer.name.endswith("_dif"):
        return True
    for way in facts.stack(layer):
        below = way[-2:-1]
        if any(device.fstype == "DM_integrity" for device in below):
            return True
    return False


def _open_luks(guest: Guest, layers: list[BlockDevice]) -> list[Change]:
    """Add `discard` to crypttab, and to the copies of it that lie in each initramfs (crypttab(5))."""
    if not guest.policy.luks_discard:
        raise Withheld(
            "LUKS passes no discards unless crypttab has `discard`, which reveals the free blocks; "
            "`luks_discard = true` in the inventory's [policy] allows it"
        )
    from reclaim.inside.boot import crypttab  # noqa: PLC0415 (start-up)

    facts = guest.facts
    texts = {
        path: facts.boot_files[path]
        for path in crypttab.PATHS
        if path in facts.boot_files
    }
    entries = {
        path: {entry.name: entry for entry in crypttab.entries(text)}
        for path, text in texts.items()
    }
    for path, text in texts.items():
        if mark := generated.whole(path, text):
            raise Withheld(
                f'{path} is marked "{mark}", and would be written again: add `discard` in the source that it is made '
                "from"
            )
    names = {layer.name for layer in layers}
    after = {path: crypttab.with_discard(text, names) for path, text in texts.items()}
    waiting, unlisted = [], []
    for layer in layers:
        listed = {
            path: named[layer.name]
            for path, named in entries.items()
            if layer.name in named
        }
        if not listed:
            unlisted.append(layer.name)
        elif all("discard" in entry.options for entry in listed.values()):
            waiting.append(layer.name)
    changes: list[Change] = [
        FileChange(guest.name, path, text, after[path], then=rebuild(facts))
        for path, text in texts.items()
        if after[path] != text
    ]
    if changes:
        return changes
    if waiting and not unlisted:
        raise Pending(
            f"crypttab has `discard` for {', '.join(waiting)}: it takes effect at the guest's next boot"
        )
    raise Withheld(
        f"{', '.join(unlisted)} cannot be changed in crypttab: allow discards as it is opened "
        "(rd.luks.options=discard, :allow-discards after cryptdevice=…, or "
        "`cryptsetup refresh --allow-discards --persistent` for LUKS2)"
    )
