"""Block devices, mounts and filesystem tables of a guest, as its own tools list them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class BlockDevice:
    """One block device of the guest, as lsblk(8) names things. Sizes in bytes."""

    name: str
    path: str
    type: str
    fstype: str | None
    uuid: str | None
    label: str | None
    partuuid: str | None
    partlabel: str | None
    size: int
    readonly: bool
    serial: str | None
    disc_max: int
    disc_gran: int
    children: tuple[BlockDevice, ...] = ()

    def walk(self) -> Iterator[BlockDevice]:
        """This device and everything that lies on it."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Mount:
    """One mount of the guest, as findmnt(8) names things. Sizes in bytes."""

    target: str
    source: str
    fstype: str
    options: tuple[str, ...]
    uuid: str | None
    fsroot: str
    size: int | None
    used: int | None

    @property
    def device(self) -> str:
        """The source without the part of it that is mounted: `/dev/vda1` of `/dev/vda1[/@home]`."""
        return self.source.partition("[")[0]


@dataclass(frozen=True)
class TableLine:
    """One line of a device mapper table (dmsetup(8)): a part of the device and its target. Offsets in bytes."""

    start: int
    length: int
    target: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """The places of the guest's layers: names by device number, partitions' starts and device mapper tables by name."""

    names: Mapping[str, str]
    starts: Mapping[str, int]
    tables: Mapping[str, tuple[TableLine, ...]]
