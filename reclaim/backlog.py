"""What the host holds for a disk against what the guest needs of it."""

from __future__ import annotations

from dataclasses import dataclass

from reclaim.agent import AgentBlocked
from reclaim.errors import NotAssessable
from reclaim.guest import Disk
from reclaim.storage import device_of, need
from reclaim.text import size

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
    blocked = isinstance(disk.guest.inside(), AgentBlocked)
    if disk.view.type != "file" or disk.path is None:
        raise NotAssessable(f"a disk of type {disk.view.type}: its blocks cannot be counted in a file")
    if blocked:
        return _by_typed_calls(disk, disk.guest.hypervisor.allocated(disk.path))
    facts = disk.guest.facts
    device = device_of(disk)
    if device is None:
        raise NotAssessable("which block device of the guest it is cannot be told")
    return Backlog(disk.guest.hypervisor.allocated(disk.path), need(facts, device))


def _by_typed_calls(disk: Disk, allocated: int) -> Backlog:
    """What guest-get-fsinfo suffices for, where the agent runs no commands: that there is no backlog.

    Whether there is one stays open: of swap and of what is not mounted the agent says nothing.
    """
    guest = disk.guest
    if len([one for one in (guest.live or guest.definition).disks if one.device == "disk"]) != 1:
        raise NotAssessable("its agent runs no commands: which filesystem lies on which disk cannot be told")
    filesystems = guest.agent.command("guest-get-fsinfo")
    used: dict[str, int] = {}
    for one in filesystems if isinstance(filesystems, list) else ():
        if isinstance(one, dict) and isinstance(one.get("used-bytes"), int) and one.get("disk"):
            used[str(one.get("name"))] = one["used-bytes"]
    needed = sum(used.values())
    if not used or not 0 <= needed <= allocated + tolerated(needed):
        raise NotAssessable("its agent runs no commands, and does not say what its filesystems use")
    if allocated - needed > tolerated(needed):
        raise NotAssessable(
            f"its agent runs no commands: the host holds {size(allocated)}, the filesystems use {size(needed)}, "
            "and what swap needs cannot be told (see guest-access)"
        )
    return Backlog(allocated, needed)
