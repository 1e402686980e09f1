"""The fullness of the host's filesystems that hold images, by statvfs, before and after a run.

The hypervisor's shell runs one script for each filesystem, so that another machine answers like this one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from reclaim.base.errors import ProbeError
from reclaim.handles.node import FileStatus, Node
from reclaim.processes import limited, shell_script
from reclaim.storage import host_image

#: seconds for one filesystem: a dead network mount never answers
_SECONDS = 20
#: f_frsize, f_blocks, f_bfree, f_bavail as stat(1) prints them
_COUNTS = re.compile(r"[0-9]{1,10}(?:\|[0-9]{1,19}){3}")

#: stat -f is statvfs(3); findmnt knows the mount below a subvolume, and %m of stat is what is left without it
_LOOK = (
    shell_script.HEAD
    + shell_script.SAY
    + r"""
counts=$(stat -L -f -c '%S|%b|%f|%a' -- "$1") || exit 1
say counts "$counts"
real=$(readlink -f -- "$1")
mount=$(findmnt -n -f -o TARGET -T "$real" 2>/dev/null) || mount=
type=$(findmnt -n -f -o FSTYPE -T "$real" 2>/dev/null) || type=
[ -n "$mount" ] || mount=$(stat -L -c %m -- "$1")
[ -n "$type" ] || type=$(stat -L -f -c %T -- "$1")
say mount "$mount"
say type "$type"
say source "$(findmnt -n -f -o SOURCE -T "$real" 2>/dev/null)"
"""
)


@dataclass
class FilesystemSpace:
    """One filesystem of the host that holds images. Sizes in bytes; None if it could not be read.

    `free` is what is left for users without privileges (f_bavail), `used` what is not free (f_blocks - f_bfree).
    """

    #: the folder of one of its images
    folder: str
    mount: str | None = None
    type: str | None = None
    source: str | None = None
    images: int = 0
    size: int | None = None
    used_before: int | None = None
    used_after: int | None = None
    free_before: int | None = None
    free_after: int | None = None


class Fullness(NamedTuple):
    """One look at a filesystem: its place, and its bytes."""

    mount: str
    type: str
    source: str
    size: int
    used: int
    free: int


def measure(
    node: Node,
    statuses: Mapping[str, FileStatus],
    spaces: dict[str, FilesystemSpace],
    *,
    after: bool,
) -> dict[str, str]:
    """Count the filesystems of the images with *statuses*, before anything is changed or *after*.

    Return the mount point of each image whose filesystem is known.
    """
    by_device: dict[int, list[str]] = {}
    for path, status in statuses.items():
        by_device.setdefault(status.device, []).append(path)
    mounts = {}
    counted: set[str] = set()
    for device, paths in by_device.items():
        seen = look(node, paths[0])
        key = _key(device, seen)
        space = spaces.setdefault(key, FilesystemSpace(str(_folder(paths[0]))))
        if key not in counted:
            space.images = 0
        counted.add(key)
        space.images += len(paths)
        if seen is not None:
            _take(space, seen, after=after)
            mounts.update(dict.fromkeys(paths, space.mount or seen.mount))
    return mounts


def _key(device: int, seen: Fullness | None) -> str:
    """Return one text for each filesystem: the subvolumes of a btrfs have devices of their own, and share its space."""
    if seen is not None and seen.type == "btrfs" and seen.source:
        return seen.source.partition("[")[0]
    return str(device)


def _folder(path: str) -> PurePosixPath:
    return PurePosixPath(path).parent


def _take(space: FilesystemSpace, seen: Fullness, *, after: bool) -> None:
    """Keep the first look of a run, and the last."""
    space.mount = space.mount or seen.mount
    space.type, space.source, space.size = seen.type, seen.source or None, seen.size
    space.used_after, space.free_after = seen.used, seen.free
    if not after and space.used_before is None:
        space.used_before, space.free_before = seen.used, seen.free


def look(node: Node, path: str) -> Fullness | None:
    """Return the fullness of the filesystem of *path*; None if it cannot be read."""
    try:
        result = limited.run_script(node.shell, _SECONDS, _LOOK, path)
        if result.rc != 0:
            return None
        answers = host_image.answers(result.stdout, f"{path}: the answer of stat -f")
    except ProbeError:
        return None
    return parsed(answers)


def parsed(answers: Mapping[str, bytes]) -> Fullness | None:
    """Return the fullness in the *answers* of the script; None if they are none of stat(1)'s."""
    texts = {
        name: data.decode("utf-8", errors="replace").strip()
        for name, data in answers.items()
    }
    counts = texts.get("counts", "")
    if not _COUNTS.fullmatch(counts):
        return None
    unit, blocks, unused, free = map(int, counts.split("|"))
    return Fullness(
        texts.get("mount", ""),
        texts.get("type", ""),
        texts.get("source", ""),
        blocks * unit,
        max(0, blocks - unused) * unit,
        free * unit,
    )
