"""The layout of one disk of a guest: filesystems, swap and space that no volume has, down to the bytes of the disk.

Partitions and device mapper tables (linear, crypt, striped; Linux's admin-guide/device-mapper) are followed. Other
layers have no places: reclaim guesses none. Offsets and sizes are bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from reclaim.files.holes import Span
from reclaim.inside.devices import BlockDevice, Mount
from reclaim.inside.facts import Facts
from reclaim.inside.filesystems import TRIMMABLE, filesystems

#: pieces of volumes that are followed on one disk: the answers of a guest are limited
_MAX_SPANS = 10_000

#: the unit of device mapper tables
_SECTOR = 512
#: lsblk's types of arrays that lie evenly on all of their disks
_SPREAD = ("raid0", "raid4", "raid5", "raid6", "raid10")

#: targets of the device mapper that keep the order of what is below
_IN_ORDER = ("linear", "crypt")

Kind = Literal["filesystem", "swap", "free", "unknown"]


@dataclass(frozen=True)
class Area:
    """A part of a disk and its use.

    `spans` are its places on the disk, None if they are not known. `used` counts the bytes that a mounted filesystem
    uses there, its own tables included. `tables` of these are no part of df's size (journal, inode tables), and may
    never have been written. `trims` is true if its free space can be trimmed. `device` is the path of the device that a
    filesystem of the type `fstype` has for itself; "" if `spans` are not exactly the bytes of that device, in order.
    """

    kind: Kind
    what: str
    size: int
    spans: tuple[Span, ...] | None
    used: int = 0
    trims: bool = False
    tables: int = 0
    device: str = ""
    fstype: str = ""
    mount: str = ""

    def places(self, spans: Iterable[Span]) -> Iterator[Span]:
        """Yield the places on the disk of *spans* of its device."""
        row = _Row.of(self.spans or ())
        for start, end in spans:
            yield from row.slice(start, end - start)


def areas(facts: Facts, disk: BlockDevice) -> list[Area]:
    """Return everything on *disk*. Raises ProbeError if the guest's answers cannot be read."""
    return _Survey(facts).of(disk, ((0, disk.size),), disk.size)


class _Survey:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._layout = facts.layout
        self._mounted = {
            filesystem.device.path: filesystem.mount
            for filesystem in filesystems(facts)
        }
        self._btrfs = self._whole_btrfs(
            {device.path: device for device in facts.devices}
        )
        self._left = _MAX_SPANS

    def _whole_btrfs(
        self, devices: dict[str, BlockDevice]
    ) -> dict[str, tuple[Mount, int]]:
        """Return the mount of each btrfs, and the bytes of all devices that it lies on, by its UUID.

        Of several devices only one is mounted.
        """
        totals: Counter[str] = Counter()
        for device in devices.values():
            if device.fstype == "btrfs" and device.uuid:
                totals[device.uuid] += device.size
        whole = {}
        for path, mount in self._mounted.items():
            if mount.fstype != "btrfs":
                continue
            if path not in devices:
                continue
            uuid = devices[path].uuid
            if uuid:
                whole[uuid] = mount, totals[uuid]
        return whole

    def of(
        self, device: BlockDevice, spans: tuple[Span, ...] | None, size: int
    ) -> list[Area]:
        """Return the areas of the part of *device*, *size* bytes, that lies in *spans*."""
        filesystem = self._filesystem(device, spans, size)
        if filesystem:
            return [filesystem]
        if device.fstype == "swap":
            return [
                Area(
                    kind="swap",
                    what=f"swap {device.path}",
                    size=size,
                    spans=spans,
                )
            ]
        if device.children:
            return self._below(device, spans, size)
        kind: Kind = "free" if device.fstype == "LVM2_member" else "unknown"
        return [
            Area(
                kind=kind,
                what=_label(device),
                size=size,
                spans=spans,
            )
        ]

    def _filesystem(
        self, device: BlockDevice, spans: tuple[Span, ...] | None, size: int
    ) -> Area | None:
        mount, total = self._mounted.get(device.path), device.size
        if device.fstype == "btrfs" and device.uuid in self._btrfs:
            mount, total = self._btrfs[device.uuid or ""]
        if mount is None:
            return None
        if mount.size is None:
            return None
        if mount.used is None:
            return None
        if not total:
            return None
        tables = max(0, total - mount.size)
        used = min(total, mount.used + tables)
        return Area(
            kind="filesystem",
            what=f"{mount.target} ({mount.fstype})",
            size=size,
            spans=spans,
            used=used * size // total,
            trims=mount.fstype in TRIMMABLE,
            tables=min(tables, used) * size // total,
            device=device.path if self._is_exact(device, spans) else "",
            fstype=mount.fstype,
            mount=mount.target,
        )

    def _is_exact(self, device: BlockDevice, spans: tuple[Span, ...] | None) -> bool:
        """True if *spans* are all of *device*, byte for byte and in order."""
        ways = self._facts.stack(device)
        if spans is None or len(ways) != 1 or _length(spans) != device.size:
            return False
        for layer in ways[0]:
            if layer.type == "raid1":
                return False
            table = self._layout.tables.get(layer.name, ())
            if any(line.target not in _IN_ORDER for line in table):
                return False
        return True

    def _below(
        self, device: BlockDevice, spans: tuple[Span, ...] | None, size: int
    ) -> list[Area]:
        below: list[Area] = []
        taken: list[Span] | None = []
        row = None if spans is None else _Row.of(spans)
        for child in device.children:
            places = None if row is None else self._place(child, device, row)
            if places is None:
                taken = None
                below += self.of(child, None, _share(child, device, size))
                continue
            below += self.of(child, places, min(_length(places), child.size))
            if taken is not None:
                taken += places
        unused: tuple[Span, ...] | None
        if spans is None or taken is None:
            unused = None
            rest = max(0, size - sum(area.size for area in below))
        else:
            unused = tuple(_without(spans, sorted(taken)))
            rest = _length(unused)
        if rest:
            below.append(
                Area(
                    kind="free",
                    what=_label_of_rest(device),
                    size=rest,
                    spans=unused,
                )
            )
        return below

    def _place(
        self, child: BlockDevice, parent: BlockDevice, row: _Row
    ) -> tuple[Span, ...] | None:
        """Return the places on the disk of the part of *child* that lies on *parent*; None if they are not known."""
        if child.type == "part" and child.name in self._layout.starts:
            return self._counted(row.slice(self._layout.starts[child.name], child.size))
        if child.type == "raid1":
            # its data begins not far from there
            return self._counted(row.slice(0, child.size))
        table = self._layout.tables.get(child.name)
        if table is None:
            return None
        if len(table) > self._left:
            return None
        self._left -= len(table)
        spans: list[Span] = []
        for line in table:
            parts = _parts(line.target, line.arguments, line.length)
            if parts is None:
                return None
            for number, offset, length in parts:
                if self._layout.names.get(number) == parent.name:
                    spans += row.slice(offset, length)
            if len(spans) > self._left:
                return None
        return self._counted(spans)

    def _counted(self, spans: list[Span]) -> tuple[Span, ...] | None:
        """Return *spans*, or None if the whole disk has too many by now."""
        self._left -= len(spans)
        if self._left >= 0:
            return tuple(spans)
        return None


def _share(child: BlockDevice, parent: BlockDevice, size: int) -> int:
    """Return the bytes of *child* in *size* bytes of *parent*, if its places are not known."""
    if child.type in _SPREAD:
        # each disk has a part as large as its own
        return min(child.size, size)
    return child.size * size // (parent.size or size)


def _length(spans: tuple[Span, ...]) -> int:
    return sum(end - start for start, end in spans)


def _is_count(text: str) -> bool:
    """True if *text* is a number of sectors that a disk can have. Python reads no number of more than 4300 digits."""
    return text.isdecimal() and len(text) < 19


def _parts(
    target: str, arguments: tuple[str, ...], length: int
) -> list[tuple[str, int, int]] | None:
    """Return device number, offset and length of each part that a target maps to; None if it is not followed."""
    match target, arguments:
        case "linear", (number, offset) if _is_count(offset):
            return [(number, int(offset) * _SECTOR, length)]
        case "crypt", (_, _, _, number, offset, *_) if _is_count(offset):
            return [(number, int(offset) * _SECTOR, length)]
        case "striped", (count, _, *stripes) if _is_count(count):
            return _stripes(int(count), stripes, length)
    return None


def _stripes(
    count: int, arguments: list[str], length: int
) -> list[tuple[str, int, int]] | None:
    if not count:
        return None
    if len(arguments) != 2 * count:
        return None
    stripes = []
    for number, offset in zip(arguments[::2], arguments[1::2], strict=True):
        if not _is_count(offset):
            return None
        stripes.append((number, int(offset) * _SECTOR, length // count))
    return stripes


@dataclass(frozen=True)
class _Row:
    """Spans in a row, one after the other; `offsets` are the places in the row at which each of them begins."""

    spans: tuple[Span, ...]
    offsets: tuple[int, ...]

    @classmethod
    def of(cls, spans: tuple[Span, ...]) -> _Row:
        lengths = (end - start for start, end in spans)
        return cls(spans, tuple(accumulate(lengths, initial=0))[:-1])

    def slice(self, offset: int, length: int) -> list[Span]:
        """Return the places of *length* bytes from *offset* on."""
        places: list[Span] = []
        stop = offset + length
        nearest = max(0, bisect_right(self.offsets, offset) - 1)
        for number in range(nearest, len(self.spans)):
            start, end = self.spans[number]
            begin = self.offsets[number]
            if begin >= stop or len(places) > _MAX_SPANS:
                break
            first = max(offset, begin)
            last = min(stop, begin + end - start)
            if first < last:
                places.append((start + first - begin, start + last - begin))
        return places


def _without(spans: tuple[Span, ...], taken: list[Span]) -> list[Span]:
    """Return the parts of *spans* that are in none of *taken*, which is in order."""
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


def _label(device: BlockDevice) -> str:
    if device.fstype == "LVM2_member":
        return f"free extents on {device.path}"
    if device.fstype == "crypto_LUKS":
        return f"{device.path} (LUKS, not open)"
    if device.fstype:
        return f"{device.path} ({device.fstype}, not mounted)"
    return f"{device.path} (nothing that lsblk knows)"


def _label_of_rest(device: BlockDevice) -> str:
    """Return the name for the rest of *device*, on which others lie."""
    if device.fstype == "LVM2_member":
        return f"free extents on {device.path}"
    if device.fstype in ("crypto_LUKS", "linux_raid_member"):
        return f"headers on {device.path}"
    return f"no partition of {device.path}"
