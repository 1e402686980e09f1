"""Which layer keeps the bytes that a guest has freed and trimmed, from the inside out."""

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
    """The first layer that is known to keep what was freed in *one*, and the requirement that mends it."""
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
    """A layer of the guest that takes no discards."""
    deaf = _deaf_device(filesystem)
    if deaf is None and not trimmed.status:
        return ""
    if deaf is None:
        said = trimmed.words or "without a word"
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
    """The disk below a filesystem that lies on one disk alone."""
    return stores[0].disk if len(stores) == 1 else None


def _virtio_blk(disk: Disk) -> str:
    """Why *disk*, as it runs, takes no discards if it is virtio-blk; "" for another bus."""
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
    """fstrim passed over what had just become free."""
    if trimmed.claimed is None or trimmed.claimed >= canary * 9 // 10:
        return ""
    return (
        f"the filesystem's memory of what it has trimmed: fstrim passed on {size(trimmed.claimed)} only; "
        "mount it anew, or start the guest anew, and look again"
    )


def _definition(disk: Disk) -> str:
    """QEMU was not told to pass discards on."""
    view = disk.guest.live_disk(disk.view)
    if view is None or view.driver.get("discard") == "unmap":
        return ""
    runs = f"discard {view.driver.get('discard', 'absent')}"
    if disk.driver.get("discard") == "unmap":
        return f"the running QEMU has {disk.target} on older settings, with {runs} (see live-definition)"
    return f"the definition of {disk.target} is without discard='unmap' ({runs}): QEMU drops them (see disk-discard)"


def _image(store: Store) -> str:
    """The image's format, its snapshots, or the storage below it, as image-format has them."""
    kept = shrinkable.obstacles(store.found, store.disk.guest.name)
    return f"{store.disk.target}: {kept[0].what} (see image-format)" if kept else ""


def older(store: Store) -> str:
    """What the image keeps although a canary came back: internal snapshots hold what was written before them."""
    return "; ".join(
        obstacle.what
        for obstacle in shrinkable.obstacles(store.found, store.disk.guest.name)
    )


def _grain(filesystem: Filesystem, store: Store, returned: int) -> str:
    """The host frees in larger pieces than the guest deletes."""
    granularity = min(way[-1].disc_gran for way in filesystem.ways)
    if store.grain <= max(granularity, 4096) or (
        not returned and store.grain < 1024 * 1024
    ):
        return ""
    return f"granularity: {store.disk.target} frees {size(store.grain)} as one, the guest discards from {size(granularity)} on"
