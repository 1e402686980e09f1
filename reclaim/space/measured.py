"""What the disks of guests take on the host, before and after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import libvirt

from reclaim.base.errors import NotAssessable, ProbeError
from reclaim.handles.device import device_of
from reclaim.handles.guest import Disk, Guest
from reclaim.handles.node import Node
from reclaim.inside.filesystems import need
from reclaim.space.backlog import known_backlog

if TYPE_CHECKING:
    pass


@dataclass
class DiskSpace:
    """What one disk takes. Sizes in bytes; None where nobody could count."""

    guest: str
    disk: str
    path: str | None
    virtual: int | None
    allocated_before: int | None
    allocated_after: int | None
    used: int | None
    #: what a trim gives back at least
    reclaimable_before: int | None = None
    reclaimable_after: int | None = None


def measure(
    hypervisor: Node,
    guests: Iterable[Guest],
    storage: dict[tuple[str, str], DiskSpace],
    *,
    after: bool,
) -> None:
    """Count what the disks of *guests* take on the host, before anything is changed or *after*."""
    disks = [(disk, disk.view) for guest in guests for disk in _file_disks(guest)]
    blocks = hypervisor.allocated_each([str(view.path) for _, view in disks])
    for guest, several in groupby(disks, key=lambda one: one[0].guest):
        with guest.contained():
            for disk, view in several:
                _count(disk, storage, blocks.get(str(view.path)), after=after)
        guest.lighten()


def _count(
    disk: Disk,
    storage: dict[tuple[str, str], DiskSpace],
    allocated: int | None,
    *,
    after: bool,
) -> None:
    key = (disk.guest.name, _name_before(disk))
    if key not in storage:
        storage[key] = DiskSpace(
            *key, disk.path, _capacity(disk), allocated, allocated, None
        )
    storage[key].allocated_after = allocated
    if not _runs(disk.guest):
        return  # one that is off again keeps what was seen while it ran
    storage[key].used = (
        _used(disk) if after or storage[key].used is None else storage[key].used
    )
    spare = (
        known_backlog(disk) if disk.guest.has_facts and allocated is not None else None
    )
    storage[key].reclaimable_after = spare.reclaimable if spare else None
    if not after:
        storage[key].reclaimable_before = storage[key].reclaimable_after


def _file_disks(guest: Guest) -> list[Disk]:
    try:
        return [disk for disk in guest.disks if disk.path and disk.view.type == "file"]
    except (libvirt.libvirtError, ProbeError):
        return []  # the guest is gone, or its definition cannot be read; the checks say so


def _runs(guest: Guest) -> bool:
    try:
        return guest.is_running
    except libvirt.libvirtError:
        return False


def _name_before(disk: Disk) -> str:
    """The target under which the run began."""
    return next(
        (old for old, new in disk.guest.renamed.items() if new == disk.name), disk.name
    )


def _capacity(disk: Disk) -> int | None:
    try:
        return int(disk.guest.domain.blockInfo(disk.path or "")[0])
    except libvirt.libvirtError:
        return None  # the image is gone, or the driver cannot tell


def _used(disk: Disk) -> int | None:
    if not disk.guest.has_facts:
        return None
    try:
        device = device_of(disk)
        return need(disk.guest.facts, device) if device else None
    except (NotAssessable, ProbeError):
        return None


def reclaimed(storage: Iterable[DiskSpace]) -> int:
    """Bytes that came home: what the host holds less than before, over all disks; never below 0."""
    changes = (
        one.allocated_before - one.allocated_after
        for one in storage
        if one.allocated_before is not None and one.allocated_after is not None
    )
    return max(0, sum(changes))
