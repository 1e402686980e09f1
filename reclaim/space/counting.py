"""The bytes that the host holds for a guest's disk, counted again and again while a canary comes and goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reclaim.base.errors import NotAssessable, ProbeError
from reclaim.handles.guest import Disk
from reclaim.storage import host_image, shrinkable
from reclaim.storage.shrinkable import Inspected

#: seconds between two looks
PAUSE = 0.2
#: filesystems whose st_blocks is right at once, as stat -f names them
_PROMPT = (
    "ext2/ext3",
    "xfs",
    "btrfs",
    "tmpfs",
    "f2fs",
    "overlayfs",
    "ramfs",
    "bcachefs",
)
#: seconds that a count may lag behind. ZFS counts with its transaction groups, 5 s apart (zfs_txg_timeout);
#: NFS keeps attributes for up to 60 s (acregmax); of others nothing is known
_LAGS = {"zfs": 12.0}
_LAG = 65.0
#: how often it is looked whether the host's count is steady
_LOOKS = 5
#: seconds that are waited for more to come in any case: a busy host
_PATIENCE = 2.0


@dataclass(frozen=True)
class Store:
    """The place on the host of the bytes of one running disk, and the way to count them.

    `target` is its name in the running QEMU, `grain` the bytes that the host frees as one: the image's cluster, the
    thin pool's chunk, the filesystem's block.
    """

    disk: Disk
    target: str
    found: Inspected

    @property
    def grain(self) -> int:
        cluster = self.found.qcow2.cluster if self.found.qcow2 else 0
        return max(cluster, self.found.image.discard_granularity or 0, 4096)

    @property
    def lag(self) -> float:
        """Seconds that the host's count may lag behind."""
        if self.found.image.is_device or self.found.image.filesystem in _PROMPT:
            return PAUSE
        return _LAGS.get(self.found.image.filesystem, _LAG)

    def allocated(self) -> int:
        """Return the bytes that the host holds. Raises ProbeError."""
        image = self.found.image
        if not image.is_device:
            return self.disk.guest.hypervisor.allocated(image.path)
        count = host_image.look(self.disk.guest.hypervisor, image.path).allocated
        if count is None:
            raise ProbeError(
                f"{image.path}: the device mapper no longer reports the blocks that its pool holds for it"
            )
        return count

    def written(self) -> tuple[int, int]:
        """Return the write requests and bytes that QEMU has had from the guest (virDomainBlockStats)."""
        _, _, requests, count, _ = self.disk.guest.domain.blockStats(self.target)
        return int(requests), int(count)


def store(disk: Disk) -> Store:
    """Return the store of *disk*. Raises NotApplicable and NotAssessable if it cannot be counted, ProbeError."""
    view = disk.guest.live_disk(disk.view)
    if view is None:
        raise NotAssessable("the running guest does not have this disk")
    inspected = shrinkable.inspect(disk)
    image = inspected.image
    if shrinkable.is_thick(inspected):
        raise NotAssessable(shrinkable.thick_words(image))
    if image.allocated is None:
        raise NotAssessable(
            f"{image.path}: a device that is no LVM thin volume: reclaim cannot count the blocks that it frees"
        )
    if inspected.qcow2 is not None and inspected.qcow2.external_data:
        raise NotAssessable(f"{image.path}: its data lies in another file")
    return Store(disk, view.target, inspected)


def allocated(stores: Sequence[Store]) -> int:
    """Return the bytes that the host holds for all of them."""
    return sum(store.allocated() for store in stores)


def written(stores: Sequence[Store]) -> int:
    """Return the most that the guest's writes so far can have taken on the host.

    Each request may touch a grain at either end that it does not fill.
    """
    total = 0
    for store in stores:
        requests, count = store.written()
        total += count + 2 * store.grain * requests
    return total


def settled(stores: Sequence[Store], enough: Callable[[int], bool]) -> int:
    """Return the bytes that the host holds, once they are *enough* or its count lags behind no longer."""
    lag = max(store.lag for store in stores)
    deadline = time.monotonic() + max(_PATIENCE, lag)
    while True:
        count = allocated(stores)
        if enough(count) or time.monotonic() > deadline:
            return count
        time.sleep(PAUSE)


def steady(stores: Sequence[Store]) -> int:
    """Return the bytes that the host holds, once two counts agree that are a lag apart, or after a few looks."""
    lag = max(store.lag for store in stores)
    seen = allocated(stores)
    for _ in range(_LOOKS):
        time.sleep(lag)
        count = allocated(stores)
        if count == seen:
            break
        seen = count
    return seen
