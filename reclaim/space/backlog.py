"""What the host holds for a disk against what the guest uses of it, down to the part that a trim gives back."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import libvirt

from reclaim.base.errors import AgentBlocked, NotApplicable, NotAssessable, ProbeError
from reclaim.base.text import size
from reclaim.files.holes import Span
from reclaim.handles.device import device_of
from reclaim.handles.guest import Disk, Guest
from reclaim.inside.disk_layout import Area, areas
from reclaim.space import virt_df
from reclaim.storage import host_image
from reclaim.storage.allocation_map import SHARING, HostMap, host_map
from reclaim.storage.shrinkable import path_of

#: bytes that come and go between two looks: journals, caches, the image's own tables
_SLACK = 64 * 1024 * 1024
#: parts of a disk beside its filesystems that are worth a word
_TOLD = 4


@dataclass(frozen=True)
class Backlog:
    """Bytes that the host holds for a disk, and what they are for.

    `used` is what the guest's filesystems use, their own tables included. `reclaimable` is what a trim gives back
    at least, `most` what it may give back, where none of those tables was ever written. `perhaps` of that are for
    what cannot be placed, or what a snapshot may hold as well. `apart` is held for what no trim of a filesystem
    reaches: swap, free extents, what is not mounted, the image's tables and snapshots; in words. `based`: the image
    is an overlay, and what is used may lie in its backing file.
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
        """How much can come back, in words."""
        return between(self.reclaimable, self.most)

    @property
    def words(self) -> str:
        told = [
            f"the host holds {size(self.held)}, the guest's filesystems use {size(self.used)}"
        ]
        if self.based:
            told[0] += ", perhaps in the backing file"
        worth = sorted(
            (one for one in self.apart if one[1] >= _SLACK // 16),
            key=lambda one: -one[1],
        )
        told += [f"{size(count)} {what}" for what, count in worth[:_TOLD]]
        if self.shared:
            told.append(
                f"{size(self.shared)} of the file come back with the last snapshot or reflink that shares them"
            )
        return ", ".join(told)


def tolerated(needed: int) -> int:
    """Bytes that the host may hold beyond *needed*: a tenth of it, at least 64 MiB."""
    return max(_SLACK, needed // 10)


def backlog(disk: Disk) -> Backlog:
    """The counts for *disk*. Raises NotApplicable, NotAssessable and ProbeError where they cannot be had."""
    guest = disk.guest
    if (
        not guest.is_running
        and not guest.hypervisor.readonly
        and not guest.hypervisor.is_test_driver
    ):
        held, found, based = virt_df.areas(disk, _SLACK)
        return weighed(held, found, None, based=based)
    blocked = isinstance(guest.inside(), AgentBlocked)
    image = host_image.look(guest.hypervisor, path_of(disk))
    kind = disk.driver.get("type", "raw")
    if image.allocated is None:
        raise NotAssessable(
            f"{image.path} is a device: what it holds for the disk cannot be counted"
        )
    head = host_image.header(guest.hypervisor, image) if kind == "qcow2" else None
    based = head is not None and head.backing is not None
    if blocked and based:
        raise NotAssessable(
            "its agent runs no commands: what lies in the overlay, what in its base cannot be told"
        )
    if blocked:
        return _by_typed_calls(disk, image.allocated)
    device = device_of(disk)
    if device is None:
        raise NotAssessable("which block device of the guest it is cannot be told")
    found = areas(guest.facts, device)
    # what the filesystems use is settled cheaply: only where there may be a backlog the image's tables are read
    quick = weighed(image.allocated, found, None, based=based)
    if quick.reclaimable + quick.perhaps <= tolerated(quick.used):
        return quick
    if head is not None and head.external_data:
        raise NotAssessable(
            f"{image.path}: its data lies in an external data file, which is not counted"
        )
    known = host_map(guest.hypervisor, image, kind, head)
    counted = weighed(image.allocated, found, known, based=based)
    if (head is not None and head.snapshots) or (
        known is None and image.filesystem in SHARING
    ):
        # a snapshot may hold any of it: of internal ones no map tells what they hold
        return replace(counted, reclaimable=0, perhaps=counted.most)
    return counted


def weighed(
    held: int, found: Sequence[Area], known: HostMap | None, *, based: bool = False
) -> Backlog:
    """What *held* bytes are for, by the areas of the disk, and where the host holds them (None: nobody knows).

    *based*: they are an overlay's, so that what a filesystem uses need not be among them.
    """
    used = sum(area.used for area in found)
    if known is None:
        sure, perhaps = _pool(held, found, based=based)
        return Backlog(held, used, sure, sure + perhaps, perhaps, based=based)
    reclaimable = most = placed = 0
    bytes_held = HeldBytes.of(known.spans)
    apart: dict[str, int] = {}
    for area in found:
        if area.spans is None:
            continue
        here = bytes_held.within(area.spans)
        placed += here
        if area.kind == "filesystem" and area.trims:
            reclaimable += max(0, here - area.used)
            most += (
                min(here, _free(area))
                if based
                else max(0, here - (area.used - area.tables))
            )
        else:
            what = _apart(area)
            apart[what] = (
                apart.get(what, 0)
                + here
                - (area.used if area.kind == "filesystem" else 0)
            )
    perhaps = most - reclaimable if based else 0
    sure, more = _pool(
        known.held - placed, [area for area in found if area.spans is None], based=based
    )
    reclaimable += sure
    most += sure + more
    apart["in the image's tables and snapshots, or not flushed yet"] = held - known.held
    # which of the shared extents a trim would free is not known: none of them is promised
    promise = max(0, reclaimable - known.shared)
    perhaps += more + reclaimable - promise
    return Backlog(
        held, used, promise, most, perhaps, tuple(apart.items()), known.shared, based
    )


def _pool(held: int, found: Sequence[Area], *, based: bool) -> tuple[int, int]:
    """What surely comes back of *held* bytes that lie anywhere in *found*, and what may beyond that."""
    trimmed = [area for area in found if area.trims]
    most = max(0, held - sum(area.used for area in found)) if trimmed else 0
    sure = max(0, most - sum(area.size for area in found if area.kind != "filesystem"))
    sure = max(
        0,
        sure
        - sum(
            area.size - area.used
            for area in found
            if area.kind == "filesystem" and not area.trims
        ),
    )
    if based:
        most = max(sure, min(held, sum(map(_free, trimmed))))
    return sure, most - sure


def _free(area: Area) -> int:
    """The most of a filesystem that it does not use, where none of its tables was ever written."""
    return area.size - (area.used - area.tables)


@dataclass(frozen=True)
class HeldBytes:
    """The bytes that lie in spans which do not overlap: where each begins and ends, and how many lie before it."""

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
        """How many of them lie in *spans*, which do not overlap either."""
        return sum(self._below(end) - self._below(start) for start, end in spans)

    def _below(self, offset: int) -> int:
        number = bisect_right(self.starts, offset) - 1
        if number < 0:
            return 0
        return (
            self.before[number] + min(offset, self.ends[number]) - self.starts[number]
        )


def _apart(area: Area) -> str:
    if area.kind == "swap":
        return "in swap, which no trim empties"
    if area.kind == "free":
        return f"in {area.what}, which no filesystem trims"
    if area.kind == "filesystem":
        return f"free in {area.what}, which cannot be trimmed"
    return f"in {area.what}"


def promised(guest: Guest) -> str:
    """What a trim of *guest* gives back over all its disks, in words; empty where nobody can count."""
    counts = [
        found for disk in guest.disks if (found := known_backlog(disk)) is not None
    ]
    return (
        between(sum(one.reclaimable for one in counts), sum(one.most for one in counts))
        if counts
        else ""
    )


def between(least: int, most: int) -> str:
    """One count where both are close, else both."""
    return (
        size(least) if most - least < most // 20 else f"{size(least)} to {size(most)}"
    )


def known_backlog(disk: Disk) -> Backlog | None:
    """`backlog`, or None where it cannot be had."""
    try:
        return backlog(disk)
    except (NotApplicable, NotAssessable, ProbeError, libvirt.libvirtError):
        return None


def _by_typed_calls(disk: Disk, allocated: int) -> Backlog:
    """What guest-get-fsinfo suffices for, where the agent runs no commands: that there is no backlog.

    Whether there is one stays open: of swap and of what is not mounted the agent says nothing.
    """
    guest = disk.guest
    if (
        len(
            [
                one
                for one in (guest.live or guest.definition).disks
                if one.device == "disk"
            ]
        )
        != 1
    ):
        raise NotAssessable(
            "its agent runs no commands: which filesystem lies on which disk cannot be told"
        )
    filesystems = guest.agent.command("guest-get-fsinfo")
    used: dict[str, int] = {}
    for one in filesystems if isinstance(filesystems, list) else ():
        if (
            isinstance(one, dict)
            and isinstance(one.get("used-bytes"), int)
            and one.get("disk")
        ):
            used[str(one.get("name"))] = one["used-bytes"]
    needed = sum(used.values())
    if not used or not 0 <= needed <= allocated + tolerated(needed):
        raise NotAssessable(
            "its agent runs no commands, and does not say what its filesystems use"
        )
    if allocated - needed > tolerated(needed):
        raise NotAssessable(
            f"its agent runs no commands: the host holds {size(allocated)}, the filesystems use {size(needed)}, "
            "and what swap needs cannot be told (see guest-access)"
        )
    return Backlog(allocated, needed, 0, 0)
