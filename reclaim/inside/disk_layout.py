"""What lies where on one disk of a guest: filesystems, swap, what no volume has, down to the bytes of the disk.

Partitions and device mapper tables (linear, crypt, striped; Linux's admin-guide/device-mapper) are followed. What
cannot be placed is told as such, and nothing is guessed of it. Offsets and sizes are bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from reclaim.files.holes import Span
from reclaim.inside.devices import BlockDevice, Mount
from reclaim.inside.facts import Facts
from reclaim.inside.filesystems import TRIMMABLE, filesystems

#: pieces of volumes that are followed on one disk: what a guest says is limited
_MAX_SPANS = 10_000

#: lsblk's types of arrays that lie evenly on all of their disks
_SPREAD = ("raid0", "raid4", "raid5", "raid6", "raid10")

Kind = Literal["filesystem", "swap", "free", "unknown"]


@dataclass(frozen=True)
class Area:
    """A part of a disk and what it is for.

    `spans` are its places on the disk, None where they cannot be told. `used`: what a mounted filesystem uses
    there, its own tables included; `tables` of that are no part of df's size (journal, inode tables), and may never
    have been written. `trims`: can its free space be trimmed?
    """

    kind: Kind
    what: str
    size: int
    spans: tuple[Span, ...] | None
    used: int = 0
    trims: bool = False
    tables: int = 0


def areas(facts: Facts, disk: BlockDevice) -> list[Area]:
    """Everything on *disk*. Raises ProbeError where the guest's answers cannot be read."""
    return _Survey(facts).of(disk, ((0, disk.size),), disk.size)


class _Survey:
    def __init__(self, facts: Facts) -> None:
        self._layout = facts.layout
        self._mounted = {one.device.path: one.mount for one in filesystems(facts)}
        devices = {device.path: device for device in facts.devices}
        totals: Counter[str] = Counter()
        for one in devices.values():
            if one.fstype == "btrfs" and one.uuid:
                totals[one.uuid] += one.size
        #: btrfs lies on several devices, of which one is mounted: its mount, and the size of them all
        self._btrfs: dict[str, tuple[Mount, int]] = {}
        for path, mount in self._mounted.items():
            uuid = devices[path].uuid if path in devices else None
            if mount.fstype == "btrfs" and uuid:
                self._btrfs[uuid] = mount, totals[uuid]
        self._left = _MAX_SPANS

    def of(
        self, device: BlockDevice, spans: tuple[Span, ...] | None, size: int
    ) -> list[Area]:
        """The areas of the part of *device*, *size* bytes, that lies in *spans*."""
        if found := self._filesystem(device, spans, size):
            return [found]
        if device.fstype == "swap":
            return [Area("swap", f"swap {device.path}", size, spans)]
        if not device.children:
            free = device.fstype == "LVM2_member"
            return [Area("free" if free else "unknown", _words(device), size, spans)]
        return self._below(device, spans, size)

    def _filesystem(
        self, device: BlockDevice, spans: tuple[Span, ...] | None, size: int
    ) -> Area | None:
        mount, total = self._mounted.get(device.path), device.size
        if device.fstype == "btrfs" and device.uuid in self._btrfs:
            mount, total = self._btrfs[device.uuid or ""]
        if mount is None or mount.size is None or mount.used is None or not total:
            return None
        tables = max(0, total - mount.size)
        used = min(total, mount.used + tables)
        trims = mount.fstype in TRIMMABLE
        what = f"{mount.target} ({mount.fstype})"
        return Area(
            "filesystem",
            what,
            size,
            spans,
            used * size // total,
            trims,
            min(tables, used) * size // total,
        )

    def _below(
        self, device: BlockDevice, spans: tuple[Span, ...] | None, size: int
    ) -> list[Area]:
        found: list[Area] = []
        taken: list[Span] | None = []
        here_is = None if spans is None else _Row.of(spans)
        for child in device.children:
            places = None if here_is is None else self._place(child, device, here_is)
            if places is None:
                taken = None
                # of what is spread evenly each disk has a part as large as its own
                spread = (
                    min(child.size, size)
                    if child.type in _SPREAD
                    else child.size * size // (device.size or size)
                )
                below = self.of(child, None, spread)
            else:
                here = sum(end - start for start, end in places)
                below = self.of(child, places, min(here, child.size))
                if taken is not None:
                    taken += places
            found += below
        what = (
            f"free extents on {device.path}"
            if device.fstype == "LVM2_member"
            else f"no partition of {device.path}"
        )
        if device.fstype in ("crypto_LUKS", "linux_raid_member"):
            what = f"headers on {device.path}"
        if spans is not None and taken is not None:
            left = _without(spans, sorted(taken))
            rest = sum(end - start for start, end in left)
            return [*found, Area("free", what, rest, tuple(left))] if rest else found
        rest = max(0, size - sum(area.size for area in found))
        return [*found, Area("free", what, rest, None)] if rest else found

    def _place(
        self, child: BlockDevice, parent: BlockDevice, row: _Row
    ) -> tuple[Span, ...] | None:
        """Where the part of *child* that lies on *parent* is on the disk; None where that cannot be told."""
        if child.type == "part" and child.name in self._layout.starts:
            return self._counted(row.slice(self._layout.starts[child.name], child.size))
        if child.type == "raid1":
            return self._counted(
                row.slice(0, child.size)
            )  # where its data begins is not far from there
        table = self._layout.tables.get(child.name)
        if table is None or len(table) > self._left:
            return None
        self._left -= len(table)
        found: list[Span] = []
        for line in table:
            parts = _parts(line.target, line.arguments, line.length)
            if parts is None:
                return None
            for number, offset, length in parts:
                if self._layout.names.get(number) == parent.name:
                    found += row.slice(offset, length)
            if len(found) > self._left:
                return None
        return self._counted(found)

    def _counted(self, found: list[Span]) -> tuple[Span, ...] | None:
        """*found*, while there are not too many of them on the whole disk."""
        self._left -= len(found)
        return tuple(found) if self._left >= 0 else None


def _is_count(text: str) -> bool:
    """Is it a number of sectors that a disk can have? Python reads no number of more than 4300 digits."""
    return text.isdecimal() and len(text) < 19


def _parts(
    target: str, arguments: tuple[str, ...], length: int
) -> list[tuple[str, int, int]] | None:
    """Device number, offset and length of what a target maps to; None for a target that is not followed."""
    match target, arguments:
        case "linear", (number, offset) if _is_count(offset):
            return [(number, int(offset) * 512, length)]
        case "crypt", (_, _, _, number, offset, *_) if _is_count(offset):
            return [(number, int(offset) * 512, length)]
        case "striped", (count, _, *rest) if (
            _is_count(count) and int(count) and len(rest) == 2 * int(count)
        ):
            pairs = list(zip(rest[::2], rest[1::2], strict=True))
            if all(_is_count(offset) for _, offset in pairs):
                return [
                    (number, int(offset) * 512, length // int(count))
                    for number, offset in pairs
                ]
    return None


@dataclass(frozen=True)
class _Row:
    """What lies in `spans` one after the other; `offsets`: where in it each of them begins."""

    spans: tuple[Span, ...]
    offsets: tuple[int, ...]

    @classmethod
    def of(cls, spans: tuple[Span, ...]) -> _Row:
        return cls(
            spans,
            tuple(accumulate((end - start for start, end in spans), initial=0))[:-1],
        )

    def slice(self, offset: int, length: int) -> list[Span]:
        """The places of *length* bytes from *offset* on."""
        found: list[Span] = []
        for number in range(
            max(0, bisect_right(self.offsets, offset) - 1), len(self.spans)
        ):
            (start, end), at = self.spans[number], self.offsets[number]
            if at >= offset + length or len(found) > _MAX_SPANS:
                break
            first, last = max(offset, at), min(offset + length, at + end - start)
            if first < last:
                found.append((start + first - at, start + last - at))
        return found


def _without(spans: tuple[Span, ...], taken: list[Span]) -> list[Span]:
    """What of *spans* is in none of *taken*, which is in order."""
    left: list[Span] = []
    number = 0
    for start, end in sorted(spans):
        position = start
        while number < len(taken) and taken[number][0] < end:
            first, last = taken[number]
            if position < first:
                left.append((position, first))
            position = max(position, last)
            if last > end:
                break  # it reaches into the next of them
            number += 1
        if position < end:
            left.append((position, end))
    return left


def _words(device: BlockDevice) -> str:
    if device.fstype == "LVM2_member":
        return f"free extents on {device.path}"
    if device.fstype == "crypto_LUKS":
        return f"{device.path} (LUKS, not open)"
    if device.fstype:
        return f"{device.path} ({device.fstype}, not mounted)"
    return f"{device.path} (nothing that lsblk knows)"
