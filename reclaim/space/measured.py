"""The bytes that the disks of guests take on the host, before and after a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import libvirt

from reclaim.base.errors import NotAssessable, ProbeError
from reclaim.definition.domain import DiskView
from reclaim.handles.device import device_of
from reclaim.handles.guest import Disk, Guest
from reclaim.handles.node import Node
from reclaim.inside.filesystems import need
from reclaim.space import fullness
from reclaim.space.backlog import known_backlog


@dataclass
class DiskSpace:
    """The space of one disk. Sizes in bytes; None if it could not be counted."""

    guest: str
    disk: str
    path: str | None
    virtual: int | None
    allocated_before: int | None
    allocated_after: int | None
    used: int | None
    #: bytes that a trim gives back at least
    reclaimable_before: int | None = None
    reclaimable_after: int | None = None
    #: the mount point of the host's filesystem that holds the image
    filesystem: str | None = None


def measure(
    hypervisor: Node,
    guests: Iterable[Guest],
    storage: dict[tuple[str, str], DiskSpace],
    filesystems: dict[str, fullness.FilesystemSpace] | None = None,
    *,
    after: bool,
) -> None:
    """Count the bytes that the disks of *guests* take on the host, before anything is changed or *after*.

    The *filesystems* that hold them are counted too, if they are given.
    """
    disks: list[tuple[Disk, DiskView]] = []
    for guest in guests:
        disks += [(disk, disk.view) for disk in _file_disks(guest)]
    statuses = hypervisor.status_each([str(view.path) for _, view in disks])
    for guest, several in groupby(disks, key=lambda pair: pair[0].guest):
        with guest.contained():
            for disk, view in several:
                status = statuses.get(str(view.path))
                allocated = status.allocated if status else None
                _count(disk, storage, allocated, after=after)
        guest.lighten()
    if filesystems is not None:
        mounts = fullness.measure(hypervisor, statuses, filesystems, after=after)
        for space in storage.values():
            space.filesystem = mounts.get(space.path or "", space.filesystem)


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
    space = storage[key]
    space.allocated_after = allocated
    if not _runs(disk.guest):
        return  # a guest that is off again keeps the figures of when it ran
    if after or space.used is None:
        space.used = _used(disk)
    spare = None
    if disk.guest.has_facts and allocated is not None:
        spare = known_backlog(disk)
    space.reclaimable_after = spare.reclaimable if spare else None
    if not after:
        space.reclaimable_before = space.reclaimable_after


def _file_disks(guest: Guest) -> list[Disk]:
    try:
        return [disk for disk in guest.disks if disk.path and disk.view.type == "file"]
    except (libvirt.libvirtError, ProbeError):
        return []  # the guest is gone, or its definition cannot be read; the checks report that


def _runs(guest: Guest) -> bool:
    try:
        return guest.is_running
    except libvirt.libvirtError:
        return False


def _name_before(disk: Disk) -> str:
    """Return the target under which the run began."""
    for old, new in disk.guest.renamed.items():
        if new == disk.name:
            return old
    return disk.name


def _capacity(disk: Disk) -> int | None:
    try:
        return int(disk.guest.domain.blockInfo(disk.path or "")[0])
    except libvirt.libvirtError:
        return None  # the image is gone, or the driver does not know it


def _used(disk: Disk) -> int | None:
    if not disk.guest.has_facts:
        return None
    try:
        device = device_of(disk)
        if device is None:
            return None
        return need(disk.guest.facts, device)
    except (NotAssessable, ProbeError):
        return None


def reclaimed(storage: Iterable[DiskSpace]) -> int:
    """Return by how many bytes the host holds less than before, over all disks; never below 0."""
    less = 0
    for space in storage:
        if space.allocated_before is None or space.allocated_after is None:
            continue
        less += space.allocated_before - space.allocated_after
    return max(0, less)
