"""The answers of btrfs(8): the snapshots of a subvolume, and the files that share an extent."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from testinfra.host import Host

from reclaim.base.text import printable

#: the inode of every subvolume's top (BTRFS_FIRST_FREE_OBJECTID)
_TOP = "256"
_UNREACHED = re.compile(r"inode (\d+) subvol (.*) could not be accessed: not mounted")
#: sharers that are named
_NAMED = 6


@dataclass(frozen=True)
class Sharer:
    """Another file that holds an extent, in words.

    `is_snapshot`: it is in a snapshot of the subvolume, and goes with that.
    """

    words: str
    is_snapshot: bool


def _upwards(path: str) -> Iterator[str]:
    """Yield *path* and the folders above it, if their names can be given to a shell."""
    for folder in (path, *map(str, PurePosixPath(path).parents)):
        if folder.isprintable():
            yield folder


def mount_of(shell: Host, path: str) -> tuple[str, str]:
    """Return the filesystem's type and mount point, for *path* or the nearest folder above it that exists."""
    for folder in _upwards(path):
        result = shell.run(
            "findmnt --noheadings --raw --output FSTYPE,TARGET --target %s", folder
        )
        if result.rc == 0:
            # several lines for mounts above one another, as systemd's automount makes them: the last is the upmost
            fstype, _, target = result.stdout.strip().rpartition("\n")[2].partition(" ")
            return fstype, re.sub(
                r"\\x([0-9a-f]{2})", lambda code: chr(int(code[1], 16)), target
            )
    return "", "/"


def subvolume(shell: Host, path: str) -> str | None:
    """Return the folder at the top of the subvolume that *path* lies in, or will lie in; None if it is in none."""
    for folder in _upwards(path):
        result = shell.run("LC_ALL=C stat --format=%%i:%%F -- %s", folder)
        if result.stdout.strip() == f"{_TOP}:directory":
            return folder
    return None


def _shown(shell: Host, top: str) -> tuple[str, list[str]]:
    """Return the name of *top* below the root and its snapshots, by `btrfs subvolume show`."""
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
    """Return the snapshots of the subvolume that *path* lies in, by their names below the root."""
    top = subvolume(shell, path)
    return _shown(shell, top)[1] if top else []


def sharers(shell: Host, copy: int, folder: int, address: int) -> list[Sharer]:
    """Return the files that share the extent at *address* (logical, of FIEMAP) of the open *copy* in *folder*.

    The shell, on this machine, is given the folder by its descriptor: a path may mean another by then.
    """
    own = os.fstat(copy)
    top = _top(folder)
    try:
        here = f"/proc/{os.getpid()}/fd/{top}/."
        home, of_home = _shown(shell, here)
        result = shell.run(
            "btrfs inspect-internal logical-resolve -o %s %s", str(address), here
        )
        printed = (result.stdout + result.stderr).splitlines()
        lines = [line for line in printed if not _is(line, own)]
        place = str(Path(f"/proc/self/fd/{top}").readlink())
    finally:
        os.close(top)
    files: dict[str, Sharer] = {}
    for line in lines:
        unreached = _UNREACHED.fullmatch(line.strip())
        if unreached:
            if unreached[2] == home and unreached[1] == str(own.st_ino):
                continue
            sharer = _unreached(unreached[2], home, of_home)
            files[sharer.words] = sharer
        elif line.startswith("/"):
            path = line
            if line.startswith(here):
                path = f"{place.rstrip('/')}/{line.removeprefix(here).lstrip('/')}"
            is_snapshot = _lies_in(shell, line, of_home)
            files[line] = Sharer(printable(path), is_snapshot=is_snapshot)
    return list(files.values())


def _unreached(name: str, home: str, of_home: Iterable[str]) -> Sharer:
    """Return the sharer in the subvolume *name*, which is not mounted; *of_home*: the snapshots of *home*."""
    if name == home:
        return Sharer(f"a reflink in {printable(home)}", is_snapshot=False)
    return Sharer(f"snapshot {printable(name)}", is_snapshot=name in of_home)


def _is(line: str, own: os.stat_result) -> bool:
    """True if the line names the file *own*. It names files of the given folder by a path of that."""
    try:
        return line.startswith("/") and os.path.samestat(Path(line).stat(), own)
    except (OSError, ValueError):
        return False


def _lies_in(shell: Host, path: str, names: Iterable[str]) -> bool:
    top = subvolume(shell, path)
    return top is not None and _shown(shell, top)[0] in names


def named(files: list[Sharer]) -> str:
    """Return the first of *files* in words, and the number of those beyond them."""
    more = [f"and {len(files) - _NAMED} more"] if len(files) > _NAMED else []
    return ", ".join([*(file.words for file in files[:_NAMED]), *more])


def _top(folder: int) -> int:
    """Return a descriptor of the top of the subvolume of the open *folder*, as far up as this mount shows it."""
    here = os.dup(folder)
    while (below := os.fstat(here)).st_ino != int(_TOP):
        parent = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
        above = os.fstat(parent)
        if above.st_dev != below.st_dev or above.st_ino == below.st_ino:
            os.close(parent)
            break
        os.close(here)
        here = parent
    return here
