"""The layer that keeps the bytes that a guest has freed and trimmed, sought from the inside out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from reclaim.base.text import size
from reclaim.definition.machine_type import VIRTIO_BLK_DISCARD, parse
from reclaim.handles.device import disk_of
from reclaim.handles.guest import Disk
from reclaim.inside.devices import BlockDevice
from reclaim.inside.filesystems import Filesystem
from reclaim.space.canary import Trimmed
from reclaim.space.counting import Store
from reclaim.storage import shrinkable

UNKNOWN = "none of the known layers explains it"


def layer(
    filesystem: Filesystem,
    stores: Sequence[Store],
    trimmed: Trimmed,
    canary: int,
    returned: int,
) -> str:
    """Return the first layer that keeps the freed bytes of *filesystem*, and the requirement that mends it."""
    reasons = _reasons(filesystem, stores, trimmed, canary, returned)
    return next(filter(None, reasons), UNKNOWN)


def _reasons(
    filesystem: Filesystem,
    stores: Sequence[Store],
    trimmed: Trimmed,
    canary: int,
    returned: int,
) -> Iterator[str]:
    """Yield for each layer why it keeps the bytes, or "", from the inside out."""
    yield _deaf(filesystem, stores, trimmed)
    yield _untold(trimmed, canary)
    for store in stores:
        yield _definition(store.disk)
    for store in stores:
        yield _image(store)
    for store in stores:
        yield _grain(filesystem, store, returned)


def _deaf(filesystem: Filesystem, stores: Sequence[Store], trimmed: Trimmed) -> str:
    """Return the device of the guest that takes no discards, or the failure of fstrim, else ""."""
    deaf = _deaf_device(filesystem)
    if deaf is None and not trimmed.status:
        return ""
    if deaf is None:
        said = trimmed.words or "it printed nothing"
        return f"fstrim failed with status {trimmed.status}: {said}"
    reason = f"{_named(deaf, stores)} (see disc-max)"
    if trimmed.status:
        reason += f"; fstrim says: {trimmed.words}"
    return reason


def _deaf_device(filesystem: Filesystem) -> BlockDevice | None:
    """Return the first device below *filesystem* that takes no discards, or None."""
    for device in chain.from_iterable(filesystem.ways):
        if device.disc_max == 0:
            return device
    return None


def _named(deaf: BlockDevice, stores: Sequence[Store]) -> str:
    if deaf.type == "crypt":
        return f"dm-crypt: {deaf.path} passes no discards on"
    if deaf.type != "disk":
        return f"{deaf.path} ({deaf.type}) takes no discards"
    disk = disk_of(stores[0].disk.guest, deaf) or _only(stores)
    reason = _virtio_blk(disk) if disk else ""
    return reason or f"the virtual disk {deaf.path} offers no discard"


def _only(stores: Sequence[Store]) -> Disk | None:
    """Return the disk below a filesystem that lies on one disk alone."""
    return stores[0].disk if len(stores) == 1 else None


def _virtio_blk(disk: Disk) -> str:
    """Return why *disk*, as it runs, takes no discards if it is virtio-blk; "" for another bus."""
    live = disk.guest.live
    view = disk.guest.live_disk(disk.view)
    if live is None or view is None or view.bus != "virtio":
        return ""
    known = parse(live.machine or "")
    if known is None:
        return ""
    if known.version is None or known.version >= VIRTIO_BLK_DISCARD:
        return (
            "the guest's virtio-blk driver takes no discards (Linux has that from 5.0)"
        )
    waits = ""
    if disk.guest.machine != known.name:
        waits = ", and the definition has another already"
    return (
        f"virtio-blk on {known.name} offers no discard before machine type 4.0{waits}"
    )


def _untold(trimmed: Trimmed, canary: int) -> str:
    """Return a reason if fstrim passed over the blocks that had just become free, else ""."""
    if trimmed.claimed is None or trimmed.claimed >= canary * 9 // 10:
        return ""
    return (
        f"the filesystem remembers earlier trims: fstrim passed on {size(trimmed.claimed)} only; "
        "mount it again, or restart the guest, and look again"
    )


def _definition(disk: Disk) -> str:
    """Return a reason if the running QEMU drops discards, else ""."""
    view = disk.guest.live_disk(disk.view)
    if view is None or view.driver.get("discard") == "unmap":
        return ""
    runs = f"discard {view.driver.get('discard', 'absent')}"
    if disk.driver.get("discard") == "unmap":
        return f"the running QEMU has {disk.target} on older settings, with {runs} (see live-definition)"
    return f"the definition of {disk.target} is without discard='unmap' ({runs}): QEMU drops them (see disk-discard)"


def _image(store: Store) -> str:
    """Return the first obstacle that image-format finds: in the format, the snapshots, or the storage below."""
    kept = shrinkable.obstacles(store.found, store.disk.guest.name)
    return f"{store.disk.target}: {kept[0].what} (see image-format)" if kept else ""


#: measured by docs/truth.md: `st_blocks` fell by a deleted file, and the free space of the filesystem did not grow
_PARTLY_USED = (
    "btrfs frees an extent only when nothing of it is in use any more, "
    "so older bytes may become free later than the image gives them back"
)


def older(store: Store) -> str:
    """Return the obstacles that remain although a canary came back: snapshots and extents of btrfs hold older bytes."""
    obstacles = shrinkable.obstacles(store.found, store.disk.guest.name)
    reasons = [obstacle.what for obstacle in obstacles]
    if store.found.image.filesystem == "btrfs":
        reasons.append(_PARTLY_USED)
    return "; ".join(reasons)


def _grain(filesystem: Filesystem, store: Store, returned: int) -> str:
    """Return a reason if the host frees larger pieces than the guest discards, else ""."""
    granularity = min(way[-1].disc_gran for way in filesystem.ways)
    if store.grain <= max(granularity, 4096) or (
        not returned and store.grain < 1024 * 1024
    ):
        return ""
    return (
        f"granularity: {store.disk.target} frees {size(store.grain)} as one, "
        f"the guest discards from {size(granularity)} on"
    )
