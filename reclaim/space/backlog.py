"""The bytes that the host holds for a disk, against those that the guest uses of it: how many a trim gives back."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from types import MappingProxyType

import libvirt

from reclaim.base.errors import (
    AgentBlocked,
    AgentGarbled,
    NotApplicable,
    NotAssessable,
    ProbeError,
)
from reclaim.base.text import size
from reclaim.files.holes import Span
from reclaim.handles.device import device_of
from reclaim.handles.guest import Disk, Guest
from reclaim.inside.disk_layout import Area, areas
from reclaim.space import virt_df
from reclaim.space.free_space import SMALLEST, FreeSpace, free_space, whole_grains
from reclaim.storage import host_image
from reclaim.storage.allocation_map import SHARING, HostMap, host_map
from reclaim.storage.host_image import HostImage
from reclaim.storage.qcow2 import Qcow2
from reclaim.storage.shrinkable import path_of

#: bytes that come and go between two looks: journals, caches, the image's own tables
_SLACK = 64 * 1024 * 1024
#: bytes of a block of the host's filesystems: a raw image gives back no less
_BLOCK = 4096
#: parts of a disk beside its filesystems that are worth a word
_SHOWN = 4


@dataclass(frozen=True)
class Backlog:
    """The bytes that the host holds for a disk, and the purposes that they serve.

    `used` is in use by the guest's filesystems, their own tables included. A trim gives back at least `reclaimable`,
    and at most `most`, if none of those tables was ever written. `perhaps` of that are for areas that cannot be placed,
    or may be held by a snapshot as well. `apart` is held for areas that no trim of a filesystem reaches, in words:
    swap, free extents, unmounted filesystems, the image's tables and snapshots. `based`: the image is an overlay, and
    its backing file may hold the used bytes.
    """

    held: int
    used: int
    reclaimable: int
    most: int
    perhaps: int = 0
    apart: tuple[tuple[str, int], ...] = ()
    shared: int = 0
    based: bool = False

    @property
    def come(self) -> str:
        """Return how much can come back, in words."""
        return between(self.reclaimable, self.most)

    @property
    def words(self) -> str:
        parts = [
            f"the host holds {size(self.held)}, the guest's filesystems use {size(self.used)}"
        ]
        if self.based:
            parts[0] += ", perhaps in the backing file"
        parts += self._apart_words()
        if self.shared:
            parts.append(
                f"{size(self.shared)} of the file come back with the last snapshot or reflink that shares them"
            )
        return ", ".join(parts)

    def _apart_words(self) -> list[str]:
        """Return the largest parts of `apart`, in words."""
        worth = [part for part in self.apart if part[1] >= _SLACK // 16]
        worth.sort(key=lambda part: -part[1])
        return [f"{size(count)} {kind}" for kind, count in worth[:_SHOWN]]


def tolerated(needed: int) -> int:
    """Return the bytes that the host may hold beyond *needed*: a tenth of it, at least 64 MiB."""
    return max(_SLACK, needed // 10)


def backlog(disk: Disk) -> Backlog:
    """Count the bytes for *disk*. Raises NotApplicable, NotAssessable or ProbeError if they cannot be counted."""
    guest = disk.guest
    if _is_seen_from_outside(guest):
        held, parts, based = virt_df.areas(disk, _SLACK)
        return weighed(held, parts, None, based=based)
    blocked = isinstance(guest.inside(), AgentBlocked)
    image = host_image.look(guest.hypervisor, path_of(disk))
    if image.allocated is None:
        raise NotAssessable(
            f"{image.path} is a device: reclaim cannot count the bytes that it holds for the disk"
        )
    head = _header(disk, image)
    based = head is not None and head.backing is not None
    if blocked and based:
        raise NotAssessable(
            "its agent runs no commands: reclaim cannot separate the overlay's data from its base's"
        )
    if blocked:
        return _by_typed_calls(disk, image.allocated)
    device = device_of(disk)
    if device is None:
        raise NotAssessable(
            "reclaim cannot find the block device of the guest that it is"
        )
    parts = areas(guest.facts, device)
    # the used bytes are counted cheaply: the image's tables are read only if there may be a backlog
    quick = weighed(image.allocated, parts, None, based=based)
    if quick.reclaimable + quick.perhaps <= tolerated(quick.used):
        return quick
    grain = max(head.cluster if head else _BLOCK, device.disc_gran)
    return _by_map(disk, image, head, parts, quick, grain=grain)


def _header(disk: Disk, image: HostImage) -> Qcow2 | None:
    """Return the header of an image that is defined as qcow2, None for another. Raises NotAssessable, ProbeError."""
    if disk.driver.get("type", "raw") != "qcow2":
        return None
    return host_image.header(disk.guest.hypervisor, image)


def _is_seen_from_outside(guest: Guest) -> bool:
    """True if the guest is off and its images may be opened."""
    hypervisor = guest.hypervisor
    return not (guest.is_running or hypervisor.readonly or hypervisor.is_test_driver)


def _by_map(
    disk: Disk,
    image: HostImage,
    head: Qcow2 | None,
    parts: Sequence[Area],
    quick: Backlog,
    *,
    grain: int,
) -> Backlog:
    """Count *quick* again from the places at which the host holds the bytes. Raises NotAssessable.

    The image gives back only whole grains of *grain* bytes.
    """
    if head is not None and head.external_data:
        raise NotAssessable(
            f"{image.path}: its data lies in an external data file, which is not counted"
        )
    kind = disk.driver.get("type", "raw")
    known = host_map(disk.guest.hypervisor, image, kind, head)
    free: Mapping[str, FreeSpace] = {}
    if known is not None:
        free = free_space(disk.guest, parts, grain)
    counted = weighed(quick.held, parts, known, free, grain, based=quick.based)
    # no map shows the clusters of internal snapshots
    has_snapshots = head is not None and head.snapshots > 0
    may_share = known is None and image.filesystem in SHARING
    if has_snapshots or may_share:
        # a snapshot may hold any of it
        return replace(counted, reclaimable=0, perhaps=counted.most)
    return counted


def weighed(
    held: int,
    parts: Sequence[Area],
    known: HostMap | None,
    free: Mapping[str, FreeSpace] = MappingProxyType({}),
    grain: int = _BLOCK,
    *,
    based: bool = False,
) -> Backlog:
    """Divide *held* bytes among the areas of the disk, by the map of the host (None if it is not known).

    *free* has the free extents of filesystems by their devices, of which the image gives back whole grains of *grain*
    bytes. *based*: an overlay holds them, so that the used bytes of a filesystem need not be among them.
    """
    used = sum(area.used for area in parts)
    if known is None:
        pool = _pool(held, parts, based=based)
        return Backlog(held, used, pool.least, pool.most, pool.open, based=based)
    bytes_held = HeldBytes.of(known.spans)
    placed, unplaced = _placed(parts, bytes_held)
    trimmed = _Bounds(0, 0)
    apart: dict[str, int] = {}
    for area, here in placed:
        if area.kind == "filesystem" and area.trims:
            if area.device in free:
                back = _mapped(area, here, bytes_held, free[area.device], grain)
                kind = f"free in pieces that are smaller than the image's clusters ({size(grain)})"
                pieces = max(0, here - area.used - back.most) if not based else 0
                apart[kind] = apart.get(kind, 0) + pieces
                trimmed += back
            else:
                trimmed += _trimmed(area, here, based=based)
            continue
        kind = _apart(area)
        apart[kind] = apart.get(kind, 0) + here
        if area.kind == "filesystem":
            apart[kind] -= area.used
    pool = _pool(known.held - sum(here for _, here in placed), unplaced, based=based)
    back = trimmed + pool
    apart["in the image's tables and snapshots, or not flushed yet"] = held - known.held
    # which of the shared extents a trim would free is not known: none of them is promised
    promise = max(0, back.least - known.shared)
    perhaps = pool.open + back.least - promise
    if based:
        perhaps += trimmed.open
    kinds = tuple(apart.items())
    return Backlog(held, used, promise, back.most, perhaps, kinds, known.shared, based)


def _placed(
    parts: Sequence[Area], bytes_held: HeldBytes
) -> tuple[list[tuple[Area, int]], list[Area]]:
    """Return the areas whose place is known, each with the bytes held there, and the other areas."""
    placed: list[tuple[Area, int]] = []
    unplaced: list[Area] = []
    for area in parts:
        if area.spans is None:
            unplaced.append(area)
        else:
            placed.append((area, bytes_held.within(area.spans)))
    return placed, unplaced


@dataclass(frozen=True)
class _Bounds:
    """The bytes that come back: at least `least`, at most `most`."""

    least: int
    most: int

    def __add__(self, other: _Bounds) -> _Bounds:
        return _Bounds(self.least + other.least, self.most + other.most)

    @property
    def open(self) -> int:
        """Bytes that may come back, or not."""
        return self.most - self.least


def _trimmed(area: Area, here: int, *, based: bool) -> _Bounds:
    """Return the part of *here*, the bytes held for a filesystem, that a trim of it gives back."""
    least = max(0, here - area.used)
    if based:
        return _Bounds(least, min(here, _free(area)))
    return _Bounds(least, max(0, here - (area.used - area.tables)))


def _mapped(
    area: Area, here: int, bytes_held: HeldBytes, free: FreeSpace, grain: int
) -> _Bounds:
    """Return the part of *here*, the bytes held for a filesystem, that lies in whole grains of its free extents."""
    within = whole_grains(list(area.places(free.spans)), grain)
    least = bytes_held.within(within)
    # an extent that is not listed lies anywhere; one that is smaller than a grain gives nothing back
    unlisted = free.more + (free.small if grain < SMALLEST else 0)
    return _Bounds(least, min(here, least + unlisted))


def _pool(held: int, parts: Sequence[Area], *, based: bool) -> _Bounds:
    """Return how many of *held* bytes come back, if they lie anywhere in *parts*."""
    trimmable: list[Area] = []
    outside = untrimmed = 0
    for area in parts:
        if area.trims:
            trimmable.append(area)
        if area.kind != "filesystem":
            outside += area.size
        elif not area.trims:
            untrimmed += area.size - area.used
    most = 0
    if trimmable:
        most = max(0, held - sum(area.used for area in parts))
    # all of it may lie in areas that no trim reaches
    least = max(0, most - outside)
    least = max(0, least - untrimmed)
    if based:
        most = max(least, min(held, sum(map(_free, trimmable))))
    return _Bounds(least, most)


def _free(area: Area) -> int:
    """Return the most bytes that a filesystem does not use, if none of its tables was ever written."""
    return area.size - (area.used - area.tables)


@dataclass(frozen=True)
class HeldBytes:
    """Bytes in spans that do not overlap: the start and the end of each span, and the bytes before it."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    before: tuple[int, ...]

    @classmethod
    def of(cls, spans: Iterable[Span]) -> HeldBytes:
        ordered = sorted(spans)
        sizes = (end - start for start, end in ordered)
        return cls(
            tuple(start for start, _ in ordered),
            tuple(end for _, end in ordered),
            tuple(accumulate(sizes, initial=0)),
        )

    def within(self, spans: Iterable[Span]) -> int:
        """Return how many of them lie in *spans*, which do not overlap either."""
        return sum(self._below(end) - self._below(start) for start, end in spans)

    def _below(self, offset: int) -> int:
        number = bisect_right(self.starts, offset) - 1
        if number < 0:
            return 0
        return (
            self.before[number] + min(offset, self.ends[number]) - self.starts[number]
        )


#: the place of bytes that no trim of a filesystem gives back, by the kind of an area
_APART = {
    "swap": "in swap, which no trim empties",
    "free": "in {}, which no filesystem trims",
    "filesystem": "free in {}, which cannot be trimmed",
}


def _apart(area: Area) -> str:
    return _APART.get(area.kind, "in {}").format(area.what)


def promised(guest: Guest) -> str:
    """Return how much a trim of *guest* gives back over all its disks, in words; "" if none can be counted."""
    counts = []
    for disk in guest.disks:
        count = known_backlog(disk)
        if count is not None:
            counts.append(count)
    if not counts:
        return ""
    least = sum(count.reclaimable for count in counts)
    most = sum(count.most for count in counts)
    return between(least, most)


def between(least: int, most: int) -> str:
    """Return one count if both are close, else both."""
    if most - least < most // 20:
        return size(least)
    return f"{size(least)} to {size(most)}"


def known_backlog(disk: Disk) -> Backlog | None:
    """Return `backlog`, or None if it cannot be counted."""
    try:
        return backlog(disk)
    except (NotApplicable, NotAssessable, ProbeError, libvirt.libvirtError):
        return None


def _by_typed_calls(disk: Disk, allocated: int) -> Backlog:
    """Return an empty backlog if guest-get-fsinfo proves it, for an agent that runs no commands. Raises NotAssessable.

    The agent does not report swap and unmounted filesystems, so it cannot prove that there is a backlog.
    """
    guest = disk.guest
    views = (guest.live or guest.definition).disks
    if len([view for view in views if view.device == "disk"]) != 1:
        raise NotAssessable(
            "its agent runs no commands: reclaim cannot find the disks of its filesystems"
        )
    used = _used_by_agent(guest)
    needed = sum(used.values())
    if not used or needed > allocated + tolerated(needed):
        raise NotAssessable(
            "its agent runs no commands, and does not report the usage of its filesystems"
        )
    if allocated - needed > tolerated(needed):
        raise NotAssessable(
            f"its agent runs no commands: the host holds {size(allocated)}, the filesystems use {size(needed)}, "
            "and the need of swap is unknown (see guest-access)"
        )
    return Backlog(allocated, needed, 0, 0)


def _used_by_agent(guest: Guest) -> dict[str, int]:
    """Return the bytes that each filesystem on a disk uses, by its name in guest-get-fsinfo; none if it is garbled."""
    try:
        filesystems = guest.agent.filesystems()
    except AgentGarbled:
        return {}
    used: dict[str, int] = {}
    for filesystem in filesystems:
        if filesystem.on_disk and filesystem.used is not None:
            used[filesystem.name] = filesystem.used
    return used
