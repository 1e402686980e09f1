"""The filesystems of a guest, the disks that they lie on, and the bytes that the guest needs of a disk."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from reclaim.base.cached import once
from reclaim.inside.devices import BlockDevice, Mount
from reclaim.inside.facts import Facts

#: lsblk types that are no disk of the definition
_NOT_DISKS = ("loop", "rom")
#: disks that the guest makes or attaches itself
_MADE_INSIDE = re.compile(r"(zram|ram|fd|nbd|zd)\d")
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
    """True if *device* is a whole disk that may be one of the definition's."""
    return device.type == "disk" and not is_made_inside(device)


def is_made_inside(device: BlockDevice) -> bool:
    """True if the guest makes or attaches *device* itself: zram, a loop device, a network block device."""
    return device.type in _NOT_DISKS or bool(_MADE_INSIDE.match(device.name))


@dataclass(frozen=True)
class Filesystem:
    """A mounted filesystem on a block device: its first mount, and every way from a disk up to it."""

    mount: Mount
    device: BlockDevice
    ways: tuple[tuple[BlockDevice, ...], ...]


@once
def filesystems(facts: Facts) -> tuple[Filesystem, ...]:
    """Return every mounted filesystem that lies on a disk, each once."""
    return tuple(_on_disks(facts))


def _on_disks(facts: Facts) -> Iterator[Filesystem]:
    seen: set[str] = set()
    followed: set[str] = set()
    for source, mounts in facts.mounts_from.items():
        if not source.startswith("/dev/"):
            continue
        device = facts.device(source)
        if device is None:
            continue
        if device.path in seen:
            continue
        members = {device.path: device}
        uuid = None
        if device.fstype == "btrfs":
            uuid = device.uuid
        if uuid is not None and uuid not in followed:
            members |= _members(facts, uuid)
            followed.add(uuid)
        ways = _ways_from_disks(facts, members.values())
        if ways and device.type not in _NOT_DISKS:
            seen.update(members)
            yield Filesystem(
                mount=mounts[0],
                device=device,
                ways=ways,
            )


def _ways_from_disks(
    facts: Facts, members: Iterable[BlockDevice]
) -> tuple[tuple[BlockDevice, ...], ...]:
    """Return every way from a disk up to one of *members*."""
    ways = []
    for member in members:
        for way in facts.stack(member):
            bottom = way[0]
            if is_disk(bottom):
                ways.append(way)
    return tuple(ways)


def _members(facts: Facts, uuid: str) -> dict[str, BlockDevice]:
    """Return the devices that a btrfs lies on, by their paths."""
    members = {}
    for name in sorted(facts.btrfs_members.get(uuid, ())):
        device = facts.device(f"/dev/{name}")
        if device is not None:
            members[device.path] = device
    return members


def first_deaf(facts: Facts) -> dict[str, BlockDevice]:
    """Return, by mount point, the first layer from the disk up that takes no discards, if there is one."""
    deaf = {}
    for filesystem in filesystems(facts):
        layer = _first_deaf_layer(filesystem.ways)
        if layer is not None:
            deaf[filesystem.mount.target] = layer
    return deaf


def _first_deaf_layer(ways: tuple[tuple[BlockDevice, ...], ...]) -> BlockDevice | None:
    with_data = [way for way in ways if not _is_beside_data(way)]
    for way in with_data or ways:
        for layer in way:
            if layer.disc_max == 0:
                return layer
    return None


def _is_beside_data(way: tuple[BlockDevice, ...]) -> bool:
    return any(_BESIDE_DATA.search(layer.name) for layer in way)


def deaf_pools(facts: Facts) -> dict[str, str]:
    """Return, by mount point, the thin pool below it that passes no discards down."""
    pools = {}
    for filesystem in filesystems(facts):
        for way in filesystem.ways:
            for layer in way:
                if layer.name in facts.deaf_pools:
                    pools[filesystem.mount.target] = layer.name
    return pools


def need(facts: Facts, disk: BlockDevice) -> int:
    """Return the bytes that the guest needs of *disk*.

    These are the bytes that its filesystems use with their own metadata, and all of everything else: swap,
    filesystems that are not mounted, contents that lsblk does not know.
    """
    mounted = {
        filesystem.device.path: filesystem.mount for filesystem in filesystems(facts)
    }
    return min(disk.size, _bytes_needed(disk, mounted))


def _bytes_needed(device: BlockDevice, mounted: Mapping[str, Mount]) -> int:
    mount = mounted.get(device.path)
    used = None
    if mount:
        used = _bytes_used(device, mount)
    if used is not None:
        return used
    if device.children:
        return sum(_bytes_needed(child, mounted) for child in device.children)
    is_blank = not device.fstype
    if is_blank and device.type == "disk":
        return 0
    return device.size


def _bytes_used(device: BlockDevice, mount: Mount) -> int | None:
    """Return the bytes that a filesystem uses, or None if the guest does not report them."""
    if mount.size is None:
        return None
    if mount.used is None:
        return None
    # journal, inode tables and the like are no part of df's size
    metadata = max(0, device.size - mount.size)
    return min(device.size, mount.used + metadata)
