"""Which block device of a guest is which disk of its definition, and what the guest needs of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from reclaim.base.cached import once
from reclaim.inside.devices import BlockDevice, Mount
from reclaim.inside.facts import Facts

#: lsblk types that are no disk of the definition
_NOT_DISKS = ("loop", "rom")
#: LVM's hidden volumes that hold metadata or a cache (lvmthin(7), lvmcache(7), lvmraid(7)): discards pass them by
_BESIDE_DATA = re.compile(r"_(?:tmeta|cmeta|cdata|cvol|rmeta_\d+|mlog)(?:-\w+)?\Z")
#: filesystems with FITRIM in Linux (fs/*/ioctl.c); vfat since kernel 4.19
TRIMMABLE = frozenset(
    (
        "bcachefs",
        "btrfs",
        "exfat",
        "ext3",
        "ext4",
        "f2fs",
        "gfs2",
        "jfs",
        "nilfs2",
        "ntfs3",
        "ocfs2",
        "vfat",
        "xfs",
    )
)


def is_disk(device: BlockDevice) -> bool:
    """Is it a whole disk that may be one of the definition's?"""
    return device.type == "disk" and not re.match(
        r"(zram|ram|fd|nbd|zd)\d", device.name
    )


@dataclass(frozen=True)
class Filesystem:
    """A mounted filesystem on a block device: its first mount, and every way from a disk up to it."""

    mount: Mount
    device: BlockDevice
    ways: tuple[tuple[BlockDevice, ...], ...]


@once
def filesystems(facts: Facts) -> tuple[Filesystem, ...]:
    """Every mounted filesystem that lies on a disk, each once."""
    return tuple(_found(facts))


def _found(facts: Facts) -> Iterator[Filesystem]:
    seen: set[str] = set()
    told: set[str] = set()
    for source, mounts in facts.mounts_from.items():
        device = facts.device(source) if source.startswith("/dev/") else None
        if device is None or device.path in seen:
            continue
        members = {device.path: device}
        if (
            device.fstype == "btrfs"
            and device.uuid is not None
            and device.uuid not in told
        ):
            members |= _members(facts, device.uuid)
            told.add(device.uuid)
        ways = tuple(
            way
            for member in members.values()
            for way in facts.stack(member)
            if is_disk(way[0])
        )
        if ways and device.type not in _NOT_DISKS:
            seen.update(members)
            yield Filesystem(mounts[0], device, ways)


def _members(facts: Facts, uuid: str) -> dict[str, BlockDevice]:
    """The devices that a btrfs lies on, by their paths."""
    found = (
        facts.device(f"/dev/{name}")
        for name in sorted(facts.btrfs_members.get(uuid, ()))
    )
    return {one.path: one for one in found if one is not None}


def first_deaf(facts: Facts) -> dict[str, BlockDevice]:
    """By mount point: the first layer from the disk up that takes no discards, where one does not."""
    found = {}
    for one in filesystems(facts):
        ways = [
            way
            for way in one.ways
            if not any(_BESIDE_DATA.search(layer.name) for layer in way)
        ] or one.ways
        layer = next(
            (layer for way in ways for layer in way if layer.disc_max == 0), None
        )
        if layer is not None:
            found[one.mount.target] = layer
    return found


def deaf_pools(facts: Facts) -> dict[str, str]:
    """By mount point: the thin pool below it that passes no discards down."""
    return {
        one.mount.target: layer.name
        for one in filesystems(facts)
        for way in one.ways
        for layer in way
        if layer.name in facts.deaf_pools
    }


def need(facts: Facts, disk: BlockDevice) -> int:
    """Bytes that the guest needs of *disk*: what its filesystems use with their own metadata, and
    everything that cannot be told (swap, what is not mounted, what has no filesystem known)."""
    mounted = {one.device.path: one.mount for one in filesystems(facts)}

    def of(device: BlockDevice) -> int:
        mount = mounted.get(device.path)
        if mount is not None and mount.size is not None and mount.used is not None:
            # journal, inode tables and the like are no part of df's size
            return min(device.size, mount.used + max(0, device.size - mount.size))
        if device.children:
            return sum(of(child) for child in device.children)
        return device.size if device.fstype or device.type != "disk" else 0

    return min(disk.size, of(disk))
