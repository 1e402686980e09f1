"""A guest that is off, seen and trimmed from the host by guestfs-tools: virt-df and virt-sparsify --in-place.

They read the image in an appliance of their own, a small virtual machine: what is in the image never meets the host.
"""

from __future__ import annotations

import csv
import re
import shlex
from dataclasses import dataclass
from typing import ClassVar
from weakref import WeakKeyDictionary

from testinfra.backend.base import CommandResult

from reclaim.base.errors import ChangeFailed, NotAssessable, ProbeError
from reclaim.base.text import printable, size
from reclaim.definition import othersystem
from reclaim.handles.guest import Disk, Guest
from reclaim.handles.node import Node
from reclaim.inside.disk_layout import Area
from reclaim.storage import host_image, image_users
from reclaim.storage.shrinkable import path_of

#: seconds to look into an image, and to trim one; the appliance starts in seconds, under emulation in 10
_LOOK_SECONDS, _TRIM_SECONDS = 600, 7200
_MAX_LINES = 10_000
#: what libguestfs is to use as root where the user says nothing: QEMU itself, not a libvirt that may not read the image
_ENVIRONMENT = 'LC_ALL=C LIBGUESTFS_BACKEND="${LIBGUESTFS_BACKEND:-direct}"; export LC_ALL LIBGUESTFS_BACKEND'
#: signatures (blkid's) of a system that sleeps on its disk: it would wake to filesystems that have changed
_ASLEEP = ("swsuspend", "ntfs", "BitLocker")

#: what was seen in an image, while the host holds as much of it
_seen: WeakKeyDictionary[Node, dict[str, tuple[int, list[Area]]]] = WeakKeyDictionary()
_installed: WeakKeyDictionary[Node, bool] = WeakKeyDictionary()


def is_installed(hypervisor: Node) -> bool:
    """Does the hypervisor have guestfs-tools?"""
    if hypervisor not in _installed:
        _installed[hypervisor] = hypervisor.shell.run("command -v virt-df && command -v virt-sparsify").rc == 0
    return _installed[hypervisor]


def areas(disk: Disk, least: int) -> tuple[int, list[Area], bool]:
    """What the host holds for the disk of a guest that is off, what lies on it, nothing placed, and is it an overlay.

    An image that holds no more than *least* is not looked into: to look takes seconds. Raises NotAssessable and
    ProbeError where that cannot be told.
    """
    guest, hypervisor = disk.guest, disk.guest.hypervisor
    image = host_image.look(hypervisor, path_of(disk))
    kind = disk.driver.get("type", "raw")
    if image.allocated is None or kind not in ("raw", "qcow2"):
        raise NotAssessable("it is off, and its image is none that virt-sparsify trims in place")
    if system := guest.definition.other_system:
        raise NotAssessable(f"it is off; {othersystem.words(system)}")
    if not is_installed(hypervisor):
        raise NotAssessable(
            "it is off (with guestfs-tools installed on the hypervisor, its image can be looked into and trimmed)"
        )
    if image.allocated <= least:
        return image.allocated, [], False
    head = host_image.header(hypervisor, image) if kind == "qcow2" else None
    if head is not None and (head.encrypted or head.external_data or head.snapshots):
        raise NotAssessable("it is off, and its image is encrypted, has snapshots or lies in two files")
    whole = head.virtual if head else image.length
    seen = _seen.setdefault(hypervisor, {})
    if seen.get(image.path, (0,))[0] != image.allocated:
        hypervisor.progress(f"{guest.name}: looking into {image.path}")
        seen[image.path] = image.allocated, _df(hypervisor, image.path, kind)
    found = seen[image.path][1]
    if not found:
        raise NotAssessable("it is off, and virt-df finds no filesystem in its image")
    rest = whole - sum(area.size for area in found)
    everything = [*found, Area("unknown", "everything else", max(0, rest), None)]
    return image.allocated, everything, head is not None and head.backing is not None


def _df(hypervisor: Node, path: str, kind: str) -> list[Area]:
    """The filesystems in the image."""
    result = _run(hypervisor, _LOOK_SECONDS, f"virt-df --csv --format={kind} -a %s", path)
    if result.rc != 0:
        raise ProbeError(f"{path}: virt-df: {_last_line(result)}")
    found: list[Area] = []
    for row in list(csv.reader(result.stdout.splitlines()))[1:_MAX_LINES]:
        if len(row) != 6 or not all(re.fullmatch(r"\d{1,15}", one) for one in row[2:4]):
            raise ProbeError(f"{path}: virt-df: its output cannot be parsed")
        one = Area("filesystem", row[1], int(row[2]) * 1024, None, int(row[3]) * 1024, trims=True)
        # each subvolume of a btrfs is told as if it were all of it
        if not (row[1].startswith("btrfsvol:") and any((one.size, one.used) == (b.size, b.used) for b in found)):
            found.append(one)
    return found


def obstacle(guest: Guest, path: str) -> str | None:
    """Why the image at *path* must not be trimmed from outside, or None."""
    return image_users.reason_of_others(guest, [image_users.written_from_outside(guest, path)])


@dataclass(frozen=True)
class Sparsify:
    """The free space of an image given back while its guest is off: filesystems, swap, free extents of LVM."""

    kind: ClassVar[str] = "sparsify"
    guest: str
    path: str
    format: str
    #: what was counted to come back, in words
    promised: str = ""

    @property
    def target(self) -> str:
        return printable(self.path)

    @property
    def diff(self) -> str:
        come = f": {self.promised} can come back" if self.promised else ""
        return f"virt-sparsify --in-place --format {self.format} {shlex.quote(self.path)}{come}"

    def apply(self, guest: Guest) -> dict[str, str]:
        if guest.domain.isActive():
            raise ChangeFailed(f"{guest.name}: it runs, and its image is only changed from outside while it is off")
        if reason := obstacle(guest, self.path):
            raise ChangeFailed(f"{guest.name}: {reason}")
        hypervisor = guest.hypervisor
        self._expect_alone(hypervisor)
        before = hypervisor.allocated(self.path)
        hypervisor.progress(f"{guest.name}: virt-sparsify --in-place {self.path}")
        result = _run(
            hypervisor, _TRIM_SECONDS, f"virt-sparsify --in-place --quiet --format {self.format} %s", self.path
        )
        came = max(0, before - hypervisor.allocated(self.path))
        if result.rc != 0:
            raise ChangeFailed(f"{self.path}: virt-sparsify: {_last_line(result)} ({size(came)} came back)")
        of = f" of {self.promised} that were counted to" if self.promised else ""
        return {"note": f"{size(came)} came back{of}"}

    def _expect_alone(self, hypervisor: Node) -> None:
        """Raises ChangeFailed for an image of a system that may sleep on it, and for one with a part of an array.

        libguestfs runs an array of which it has one disk of two (`mdadm --run` in its appliance's init). Nothing is
        written here; but when it is trimmed that part would be the newer one, and the other be thrown out at the
        next boot.
        """
        command = f"virt-filesystems --csv --long --filesystems --extra --pvs --format={self.format} -a %s"
        result = _run(hypervisor, _LOOK_SECONDS, command, self.path)
        if result.rc != 0:
            raise ChangeFailed(f"{self.path}: virt-filesystems: {_last_line(result)}")
        rows = list(csv.DictReader(result.stdout.splitlines()))
        if not rows or "VFS" not in rows[0]:
            raise ChangeFailed(f"{self.path}: virt-filesystems: its output cannot be parsed")
        for row in rows:
            if str(row["Name"]).startswith("/dev/md"):
                raise ChangeFailed(
                    f"{self.path}: {printable(str(row['Name']))} is an array (md), of which other disks may have a"
                    " part: they would not fit one that was trimmed alone; start the guest, and trim there"
                )
            if row["VFS"] in _ASLEEP:
                raise ChangeFailed(
                    f"{self.path}: {printable(str(row['Name']))} is {row['VFS']}: "
                    "it may belong to a system that sleeps on its disk, and would wake to other content"
                )

    def undo(self, guest: Guest, outcome: dict[str, str]) -> str:
        return "trimmed space stays trimmed: it was free"


def _run(hypervisor: Node, seconds: int, command: str, *arguments: str) -> CommandResult:
    """Run *command* with nothing to read, and a limit of time."""
    return hypervisor.shell.run(f"{_ENVIRONMENT}; timeout -k 10 {seconds} {command} </dev/null", *arguments)


def _last_line(result: CommandResult) -> str:
    if result.rc in (124, 137):
        return "it took too long"
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[-1] if lines else f"status {result.rc}")[:300]
