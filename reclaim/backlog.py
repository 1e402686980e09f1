"""What the host holds for a disk against what the guest needs of it."""

from __future__ import annotations

from dataclasses import dataclass

from reclaim.errors import NotAssessable
from reclaim.guest import Disk
from reclaim.storage import device_of, need

#: bytes that come and go between two looks: journals, caches, the image's own tables
_SLACK = 64 * 1024 * 1024


@dataclass(frozen=True)
class Backlog:
    """Bytes on the host, and bytes that the guest needs."""

    allocated: int
    needed: int


def tolerated(needed: int) -> int:
    """Bytes that the host may hold beyond *needed*: a tenth of it, at least 64 MiB."""
    return max(_SLACK, needed // 10)


def backlog(disk: Disk) -> Backlog:
    """Both counts for *disk*. Raises NotAssessable where one of them cannot be had."""
    facts = disk.guest.facts
    if disk.view.type != "file" or disk.path is None:
        raise NotAssessable(f"a disk of type {disk.view.type}: its blocks cannot be counted in a file")
    device = device_of(disk)
    if device is None:
        raise NotAssessable("which block device of the guest it is cannot be told")
    return Backlog(disk.guest.hypervisor.allocated(disk.path), need(facts, device))
