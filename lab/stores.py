"""The filesystems that images of the truth matrix lie on: each new, in a file of its own, on a loop device.

Which of them this machine can have is asked of it, by making each once. Needs root.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import mounts, paths, tools
from lab.error import LabError

MIB = 1024 * 1024
STORE_MIB = 2048
"""The size of a store; its file is sparse."""
#: seconds that a store may be busy for after its guest has ended, and that its free space may lag behind
_BUSY_SECONDS = 30.0
_LAG_SECONDS = 5.0
_FILESYSTEMS = Path("/proc/filesystems")


@dataclass(frozen=True)
class Kind:
    """A kind of store: `name` is a part of labels, `title` is for people, `make` the mkfs (none: tmpfs).

    `attribute` is set by chattr(1) on the folder of the images.
    """

    name: str
    title: str
    make: tuple[str, ...]
    options: str = "loop"
    attribute: str = ""


KINDS = (
    Kind("ext4", "ext4", ("mkfs.ext4", "-q", "-F")),
    Kind("xfs", "XFS", ("mkfs.xfs", "-q", "-f")),
    Kind("btrfs", "btrfs", ("mkfs.btrfs", "-q", "-f")),
    Kind("nocow", "btrfs, `chattr +C`", ("mkfs.btrfs", "-q", "-f"), attribute="+C"),
    Kind(
        "zstd",
        "btrfs, `compress-force=zstd`",
        ("mkfs.btrfs", "-q", "-f"),
        "loop,compress-force=zstd",
    ),
    Kind("tmpfs", "tmpfs", (), f"size={STORE_MIB}m,mode=755"),
)


def kind(name: str) -> Kind:
    """Return the kind of that name. Raises LabError."""
    for one in KINDS:
        if one.name == name:
            return one
    raise LabError(f"there is no store {name!r}")


def folder(guest: str, name: str) -> Path:
    """Return the folder for images of `guest` on the store `name`: there while `mounted` has it."""
    return _place(guest) / name / "mnt"


@contextmanager
def mounted(guest: str, names: Iterable[str]) -> Iterator[None]:
    """Make the stores of `guest`, each a new one; unmount and remove them at the end. Raises LabError."""
    remove(guest)
    with ExitStack() as stack:
        stack.callback(remove, guest)
        for name in names:
            _make(kind(name), folder(guest, name))
        yield


def remove(guest: str) -> None:
    """Unmount and remove all stores of `guest`, those of a run that was killed too. Raises LabError."""
    place = _place(guest)
    for point in reversed(mounts.below(place)):
        _unmount(point)
    if place.exists():
        shutil.rmtree(place)
    if _all().is_dir() and not any(_all().iterdir()):
        _all().rmdir()


def remove_all() -> None:
    """Unmount and remove the stores of every guest. Raises LabError."""
    for place in [*_all().iterdir()] if _all().is_dir() else []:
        remove(place.name)


def held(path: Path) -> int:
    """Return the bytes that the host holds for a file, by `st_blocks`, once all is written. Raises LabError.

    XFS sets blocks aside beyond the end of a file that grows, as many as it has, and frees them some minutes later: it
    is asked to do so now. btrfs frees with its next commit.
    """
    _sync(path)
    if tools.call(["stat", "-f", "-c", "%T", str(path)], seconds=60).strip() == "xfs":
        command = ["xfs_spaceman", "-c", "prealloc -s", str(path.parent)]
        tools.call(command, seconds=120)
    return path.stat().st_blocks * 512


def free(path: Path) -> int:
    """Return the free bytes of the filesystem under `path`, once they are steady. Raises LabError."""
    end = time.monotonic() + _LAG_SECONDS
    seen = -1
    while True:
        _sync(path)
        space = os.statvfs(path)
        count = space.f_bfree * space.f_frsize
        if count == seen or time.monotonic() > end:
            return count
        seen = count
        time.sleep(0.2)


def _sync(path: Path) -> None:
    tools.call(["sync", "-f", str(path)], seconds=120)


# The choice -----------------------------------------------------------------------------------


def not_to_be_had() -> dict[str, str]:
    """Return the stores that this machine cannot have, by title, each with the reason that it gave.

    Each filesystem is made and mounted once.
    """
    found = {}
    for one in KINDS:
        try:
            with mounted(f"{paths.PREFIX}try", [one.name]):
                pass
        except LabError as error:
            found[one.title] = tools.last_lines(str(error), 1)
    if reason := _why_no_nfs():
        found["NFS 4.2"] = reason
    if reason := _why_no_thin():
        found["LVM thin"] = reason
    return found


def choice(missing: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the kinds that are not among the `missing` titles."""
    return tuple(one.name for one in KINDS if one.title not in missing)


def _why_no_nfs() -> str:
    _load("nfsd")
    return why_no_nfs(
        _FILESYSTEMS.read_text(encoding="ascii"),
        [name for name in ("exportfs", "mount.nfs4") if not _has(name)],
    )


def why_no_nfs(filesystems: str, lacking: Iterable[str]) -> str:
    """Return the reason, from the text of /proc/filesystems and the programs that are not installed."""
    known = {line.split()[-1] for line in filesystems.splitlines() if line.strip()}
    if "nfsd" not in known:
        return "this kernel has no NFS server (no nfsd in /proc/filesystems)"
    if named := ", ".join(lacking):
        return f"not installed: {named}"
    return "this machine has it, but the matrix has no cells for it"


def _why_no_thin() -> str:
    if not (_has("dmsetup") and _has("lvcreate")):
        return "not installed: lvm2"
    _load("dm_thin_pool")
    done = tools.run(["dmsetup", "targets"], seconds=60)
    return why_no_thin(done.returncode, done.stdout)


def why_no_thin(status: int, targets: str) -> str:
    """Return the reason, from the status and the output of `dmsetup targets`."""
    if status:
        return "this kernel has no device mapper (`dmsetup targets` fails)"
    if "thin-pool" not in {line.split()[0] for line in targets.splitlines() if line}:
        return "this kernel has no thin-pool (see `dmsetup targets`)"
    return "this machine has it, but the matrix has no cells for it"


def _load(module: str) -> None:
    """Load a module of the kernel, if there is one and a way to do so."""
    if _has("modprobe"):
        tools.run(["modprobe", "-q", module], seconds=60)


def _has(program: str) -> bool:
    return shutil.which(program, path=tools.environment()["PATH"]) is not None


# Making ---------------------------------------------------------------------------------------


def _all() -> Path:
    return paths.root() / "stores"


def _place(guest: str) -> Path:
    return _all() / paths.checked(guest)


def _make(one: Kind, place: Path) -> None:
    place.mkdir(parents=True)
    # QEMU runs as another user, which must get through whatever our umask is
    for each in (place, *place.parents[:3]):
        each.chmod(0o755)
    source, kind_of_mount = "tmpfs", ["-t", "tmpfs"]
    if one.make:
        source, kind_of_mount = str(place.with_name("filesystem")), []
        with Path(source).open("xb") as handle:
            handle.truncate(STORE_MIB * MIB)
        tools.call([*one.make, source], seconds=120)
    tools.call(
        ["mount", *kind_of_mount, "-o", one.options, source, str(place)], seconds=120
    )
    place.chmod(0o755)
    if one.attribute:
        tools.call(["chattr", one.attribute, str(place)], seconds=60)


def _unmount(point: str) -> None:
    """Unmount; the last process that had the store open may still be ending. Raises LabError."""
    end = time.monotonic() + _BUSY_SECONDS
    while (done := tools.run(["umount", point], seconds=120)).returncode:
        if time.monotonic() > end:
            raise LabError(
                f"{point} cannot be unmounted: {tools.last_lines(done.stderr, 1)}"
            )
        time.sleep(0.5)
