"""The filesystems in the image of a guest that is off, as virt-df sees them."""

from __future__ import annotations

import csv
import re
from weakref import WeakKeyDictionary

from testinfra.backend.base import CommandResult

from reclaim.base.errors import NotAssessable, ProbeError
from reclaim.definition import othersystem
from reclaim.handles.guest import Disk, Guest
from reclaim.handles.node import Node
from reclaim.inside.disk_layout import Area
from reclaim.processes import limited
from reclaim.storage import host_image
from reclaim.storage.shrinkable import path_of

#: seconds to look into an image, and to trim one; the appliance starts in seconds, under emulation in 10
LOOK_SECONDS = 600
_MAX_LINES = 10_000
_KIB = re.compile(r"\d{1,15}")
#: libguestfs as root uses QEMU itself unless the user set it: a libvirt may not be allowed to read the image
_ENVIRONMENT = 'env LIBGUESTFS_BACKEND="${LIBGUESTFS_BACKEND:-direct}"'
#: the filesystems seen in an image, and the bytes that the host held of it then
_seen: WeakKeyDictionary[Node, dict[str, tuple[int, list[Area]]]] = WeakKeyDictionary()
_installed: WeakKeyDictionary[Node, bool] = WeakKeyDictionary()


def is_installed(hypervisor: Node) -> bool:
    """True if the hypervisor has guestfs-tools."""
    if hypervisor not in _installed:
        _installed[hypervisor] = (
            hypervisor.shell.run("command -v virt-df && command -v virt-sparsify").rc
            == 0
        )
    return _installed[hypervisor]


def areas(disk: Disk, least: int) -> tuple[int, list[Area], bool]:
    """Return the bytes held for the disk of a guest that is off, its areas, none placed, and True if it is an overlay.

    An image that holds no more than *least* is not looked into: to look takes seconds. Raises NotAssessable and
    ProbeError.
    """
    hypervisor = disk.guest.hypervisor
    image = host_image.look(hypervisor, path_of(disk))
    kind = disk.driver.get("type", "raw")
    if image.allocated is None or kind not in ("raw", "qcow2"):
        raise NotAssessable(
            "it is off, and its image is none that virt-sparsify trims in place"
        )
    if system := disk.guest.definition.other_system:
        raise NotAssessable(f"it is off; {othersystem.words(system)}")
    if not is_installed(hypervisor):
        raise NotAssessable(
            "it is off (with guestfs-tools installed on the hypervisor, its image can be looked into and trimmed)"
        )
    if image.allocated <= least:
        return image.allocated, [], False
    head = host_image.header(hypervisor, image) if kind == "qcow2" else None
    if head is not None and not head.is_plain:
        raise NotAssessable(
            "it is off, and its image is encrypted, has snapshots or lies in two files"
        )
    parts = _filesystems(disk.guest, image.path, image.allocated, kind)
    length, based = image.length, False
    if head is not None:
        length, based = head.virtual, head.backing is not None
    rest = max(0, length - sum(part.size for part in parts))
    everything = [*parts, Area("unknown", "everything else", rest, None)]
    return image.allocated, everything, based


def _filesystems(guest: Guest, path: str, held: int, kind: str) -> list[Area]:
    """Return the filesystems in the image at *path*, read again if the host holds another count than before.

    Raises NotAssessable if there is none, and ProbeError.
    """
    hypervisor = guest.hypervisor
    seen = _seen.setdefault(hypervisor, {})
    if seen.get(path, (0,))[0] != held:
        hypervisor.progress(f"{guest.name}: looking into {path}")
        seen[path] = held, _df(hypervisor, path, kind)
    parts = seen[path][1]
    if not parts:
        raise NotAssessable("it is off, and virt-df finds no filesystem in its image")
    return parts


def _df(hypervisor: Node, path: str, kind: str) -> list[Area]:
    """Return the filesystems in the image. Raises ProbeError."""
    result = run(hypervisor, LOOK_SECONDS, f"virt-df --csv --format={kind} -a %s", path)
    if result.rc != 0:
        raise ProbeError(f"{path}: virt-df: {why_failed(result, LOOK_SECONDS)}")
    parts: list[Area] = []
    for row in list(csv.reader(result.stdout.splitlines()))[1:_MAX_LINES]:
        if len(row) != 6 or not all(map(_KIB.fullmatch, row[2:4])):
            raise ProbeError(f"{path}: virt-df: its output cannot be parsed")
        name, length, used = row[1], int(row[2]) * 1024, int(row[3]) * 1024
        # virt-df prints each subvolume of a btrfs as if it were all of it
        if name.startswith("btrfsvol:") and _has_one_of(parts, length, used):
            continue
        parts.append(Area("filesystem", name, length, None, used, trims=True))
    return parts


def _has_one_of(parts: list[Area], length: int, used: int) -> bool:
    """True if one of *parts* is as long and has as much in use."""
    return any((part.size, part.used) == (length, used) for part in parts)


def run(hypervisor: Node, seconds: int, command: str, *arguments: str) -> CommandResult:
    """Run *command*, one of guestfs-tools, with nothing to read and a limit of time."""
    with_backend = f"{_ENVIRONMENT} {command}"
    return limited.run(hypervisor.shell, seconds, with_backend, *arguments)


def why_failed(result: CommandResult, seconds: int) -> str:
    """Return why one of guestfs-tools failed: its first error, for advice about debugging may follow that."""
    lines = result.stderr.splitlines()
    error = next((line for line in lines if "error" in line), None)
    return limited.why_failed(result, seconds, error)
