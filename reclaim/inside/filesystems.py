"""Which block device of a guest is which disk of its definition, and what the guest needs of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from reclaim.base.cached import once
from reclaim.base.errors import ProbeError
from reclaim.definition.domain import Definition, DiskView
from reclaim.handles.guest import Disk
from reclaim.inside.facts import BlockDevice, Facts, Mount

#: lsblk types that are no disk of the definition
_NOT_DISKS = ("loop", "rom")
_SERIAL_BYTES = 20
#: LVM's hidden volumes that hold metadata or a cache (lvmthin(7), lvmcache(7), lvmraid(7)): discards pass them by
_BESIDE_DATA = re.compile(r"_(?:tmeta|cmeta|cdata|cvol|rmeta_\d+|mlog)(?:-\w+)?\Z")
#: filesystems with FITRIM in Linux (fs/*/ioctl.c); vfat since kernel 4.19
TRIMMABLE = frozenset(
    ("bcachefs", "btrfs", "exfat", "ext3", "ext4", "f2fs", "gfs2", "jfs", "nilfs2", "ntfs3", "ocfs2", "vfat", "xfs")
)


def is_disk(device: BlockDevice) -> bool:
    """Is it a whole disk that may be one of the definition's?"""
    return device.type == "disk" and not re.match(r"(zram|ram|fd|nbd|zd)\d", device.name)


def device_of(disk: Disk) -> BlockDevice | None:
    """The guest's block device behind *disk* as it runs now, or None where that cannot be told.

    Told by the serial, by the drive alias that libvirt gives a SCSI disk without one, by the PCI
    path, or by being the only disk.
    """
    guest = disk.guest
    live = guest.live
    if live is None:
        return None
    view = guest.live_disk(disk.view)
    if view is None:
        return None
    facts = guest.facts
    devices = [one for one in facts.block_devices if is_disk(one)]
    slots = _pci_path(live, view)
    for matches in (
        [one for one in devices if view.serial and one.serial and _is_serial(one.serial, view.serial)],
        [one for one in devices if _drive_alias(view) in _aliases(facts, one)],
        [one for one in devices if slots and slots == _sysfs_path(facts, one)],
    ):
        if len(matches) == 1:
            return matches[0]
    if len(devices) == 1 and len([one for one in live.disks if one.device == "disk"]) == 1:
        return devices[0]
    return None


def granularity(disk: Disk) -> int | None:
    """Bytes of the smallest hole that the guest trims on *disk* (DISC-GRAN); None where nobody has looked."""
    if not disk.guest.has_facts:
        return None
    try:
        device = device_of(disk)
    except ProbeError:
        return None
    return device.disc_gran or None if device else None


def _is_serial(seen: str, given: str) -> bool:
    """Is *seen* the serial that was *given*? virtio-blk and ATA carry 20 bytes of it (VIRTIO_BLK_ID_BYTES)."""
    return seen == given or (len(seen) >= _SERIAL_BYTES and given.startswith(seen))


def _drive_alias(view: DiskView) -> str:
    """QEMU's device_id of a SCSI disk without a serial (libvirt qemu_command.c)."""
    address = view.address
    if view.bus != "scsi" or address.get("type") != "drive":
        return ""
    return f"drive-scsi{address.get('controller')}-{address.get('bus')}-{address.get('target')}-{address.get('unit')}"


def _aliases(facts: Facts, device: BlockDevice) -> set[str]:
    """What follows the model in the by-id links of *device*."""
    prefix = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_"
    return {path.removeprefix(prefix) for path in facts.links_to.get(device.path, ()) if path.startswith(prefix)}


def _pci_path(live: Definition, view: DiskView) -> tuple[str, ...]:
    """The slots from the root bus to a virtio-blk disk, as "slot.function"; empty for other disks.

    The guest numbers buses itself, so bus numbers say nothing; slots and functions are the machine's.
    """
    address = view.address
    if view.bus != "virtio" or address.get("type") != "pci":
        return ()
    controllers = {
        controller.get("index"): controller.find("address")
        for controller in live.root.iterfind("devices/controller[@type='pci']")
    }
    path: list[str] = []
    while True:
        path.append(f"{int(address.get('slot', '0'), 16):02x}.{int(address.get('function', '0'), 16):x}")
        bus = int(address.get("bus", "0"), 16)
        if bus == 0 or len(path) > 16:
            return tuple(reversed(path))
        above = controllers.get(str(bus))
        if above is None or above.get("type") != "pci":
            return ()
        address = {str(key): str(value) for key, value in above.attrib.items()}


def _sysfs_path(facts: Facts, device: BlockDevice) -> tuple[str, ...]:
    path = facts.sysfs.get(device.name, "")
    return tuple(match[1] for match in re.finditer(r"/[0-9a-f]{4}:[0-9a-f]{2}:([0-9a-f]{2}\.[0-7])(?=/)", path))


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
        if device.fstype == "btrfs" and device.uuid is not None and device.uuid not in told:
            members |= _members(facts, device.uuid)
            told.add(device.uuid)
        ways = tuple(way for member in members.values() for way in facts.stack(member) if is_disk(way[0]))
        if ways and device.type not in _NOT_DISKS:
            seen.update(members)
            yield Filesystem(mounts[0], device, ways)


def _members(facts: Facts, uuid: str) -> dict[str, BlockDevice]:
    """The devices that a btrfs lies on, by their paths."""
    found = (facts.device(f"/dev/{name}") for name in sorted(facts.btrfs_members.get(uuid, ())))
    return {one.path: one for one in found if one is not None}


def first_deaf(facts: Facts) -> dict[str, BlockDevice]:
    """By mount point: the first layer from the disk up that takes no discards, where one does not."""
    found = {}
    for one in filesystems(facts):
        ways = [way for way in one.ways if not any(_BESIDE_DATA.search(layer.name) for layer in way)] or one.ways
        layer = next((layer for way in ways for layer in way if layer.disc_max == 0), None)
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
