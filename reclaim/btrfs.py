"""What btrfs tells through btrfs(8): the snapshots of a subvolume, and who shares an extent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from testinfra.host import Host

from reclaim.text import printable

#: the inode of every subvolume's top (BTRFS_FIRST_FREE_OBJECTID)
_TOP = "256"
_UNREACHED = re.compile(r"inode (\d+) subvol (.*) could not be accessed: not mounted")
#: sharers that are named
_NAMED = 6


def _upwards(path: str) -> Iterator[str]:
    """*path* and the folders above it, as far as a shell can be told their names."""
    for one in (path, *map(str, PurePosixPath(path).parents)):
        if one.isprintable():
            yield one


def mount_of(shell: Host, path: str) -> tuple[str, str]:
    """The filesystem's type and where it is mounted, for *path* or the nearest folder above it that exists."""
    for one in _upwards(path):
        result = shell.run("findmnt --noheadings --raw --output FSTYPE,TARGET --target %s", one)
        if result.rc == 0:
            # several lines for mounts above one another, as systemd's automount makes them: the last is the upmost
            fstype, _, target = result.stdout.strip().rpartition("\n")[2].partition(" ")
            return fstype, re.sub(r"\\x([0-9a-f]{2})", lambda code: chr(int(code[1], 16)), target)
    return "", "/"


def subvolume(shell: Host, path: str) -> str | None:
    """The folder at the top of the subvolume that *path* lies in, or will lie in; None where it is none."""
    for one in _upwards(path):
        result = shell.run("LC_ALL=C stat --format=%%i:%%F -- %s", one)
        if result.stdout.strip() == f"{_TOP}:directory":
            return one
    return None


def _shown(shell: Host, top: str) -> tuple[str, list[str]]:
    """What `btrfs subvolume show` tells of *top*: its name below the root, and its snapshots."""
    lines = shell.run("btrfs subvolume show %s", top).stdout.splitlines()
    name, snapshots, listing = lines[0].strip() if lines else "", [], False
    for line in lines[1:]:
        if line.strip().startswith("Snapshot(s):"):
            listing = True
        elif listing and line.startswith("\t\t\t"):
            snapshots.append(line.strip())
        else:
            listing = False
    return name, snapshots


def snapshots(shell: Host, path: str) -> list[str]:
    """The snapshots of the subvolume that *path* lies in, by their names below the root."""
    top = subvolume(shell, path)
    return _shown(shell, top)[1] if top else []


def sharers(shell: Host, path: str, inode: int, address: int) -> list[str]:
    """Who else holds the extent at *address* (logical, as FIEMAP tells it) of the file *inode* at *path*."""
    _, target = mount_of(shell, path)
    top = subvolume(shell, path)
    home = _shown(shell, top)[0] if top else ""
    told = shell.run("btrfs inspect-internal logical-resolve -o %s %s", str(address), target)
    found: dict[str, None] = {}
    for line in (told.stdout + told.stderr).splitlines():
        unreached = _UNREACHED.fullmatch(line.strip())
        if unreached and unreached[2] == home:
            if unreached[1] != str(inode):
                found[f"a reflink in {printable(home)}"] = None
        elif unreached:
            found[f"snapshot {printable(unreached[2])}"] = None
        elif line.startswith("/") and PurePosixPath(line) != PurePosixPath(path):
            found[printable(line)] = None
    names = list(found)
    return names[:_NAMED] + ([f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else [])
