"""A guest that is off, seen and trimmed from the host by guestfs-tools: virt-df and virt-sparsify --in-place.

They read the image in an appliance of their own, a small virtual machine: its content never meets the host.
"""

from __future__ import annotations

import csv
import shlex
from dataclasses import dataclass
from typing import ClassVar

from reclaim.base.errors import ChangeFailed
from reclaim.base.text import printable, size
from reclaim.handles.guest import Guest
from reclaim.handles.node import Node
from reclaim.space.virt_df import LOOK_SECONDS, run, why_failed
from reclaim.storage import image_users

_TRIM_SECONDS = 7200
#: signatures (blkid's) of a system that sleeps on its disk: it would wake to filesystems that have changed
_ASLEEP = ("swsuspend", "ntfs", "BitLocker")


def why_not_trimmed(guest: Guest, path: str) -> str | None:
    """Why the image at *path* must not be trimmed from outside, or None."""
    return image_users.why_not_alone(
        guest, [image_users.written_from_outside(guest, path)]
    )


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
            raise ChangeFailed(
                f"{guest.name}: it runs, and reclaim changes its image from outside only while it is off"
            )
        if reason := why_not_trimmed(guest, self.path):
            raise ChangeFailed(f"{guest.name}: {reason}")
        hypervisor = guest.hypervisor
        self._expect_alone(hypervisor)
        before = hypervisor.allocated(self.path)
        hypervisor.progress(f"{guest.name}: virt-sparsify --in-place {self.path}")
        result = run(
            hypervisor,
            _TRIM_SECONDS,
            f"virt-sparsify --in-place --quiet --format {self.format} %s",
            self.path,
        )
        came = max(0, before - hypervisor.allocated(self.path))
        if result.rc != 0:
            raise ChangeFailed(
                f"{self.path}: virt-sparsify: {why_failed(result, _TRIM_SECONDS)} ({size(came)} came back)"
            )
        of = f" of {self.promised} that were expected" if self.promised else ""
        return {"note": f"{size(came)} came back{of}"}

    def _expect_alone(self, hypervisor: Node) -> None:
        """Raises ChangeFailed for an image of a system that may sleep on it, and for one with a part of an array.

        libguestfs runs an array of which it has one disk of two (`mdadm --run` in its appliance's init). Nothing is
        written here; but when it is trimmed that part would be the newer one, and the other be thrown out at the
        next boot.
        """
        command = f"virt-filesystems --csv --long --filesystems --extra --pvs --format={self.format} -a %s"
        result = run(hypervisor, LOOK_SECONDS, command, self.path)
        if result.rc != 0:
            why = why_failed(result, LOOK_SECONDS)
            raise ChangeFailed(f"{self.path}: virt-filesystems: {why}")
        rows = list(csv.DictReader(result.stdout.splitlines()))
        if not rows or "VFS" not in rows[0]:
            raise ChangeFailed(
                f"{self.path}: virt-filesystems: its output cannot be parsed"
            )
        for row in rows:
            if str(row["Name"]).startswith("/dev/md"):
                raise ChangeFailed(
                    f"{self.path}: {printable(str(row['Name']))} is an md array, which may have members on other"
                    " disks: a trim of this disk alone could make the members differ; start the guest, and trim there"
                )
            if row["VFS"] in _ASLEEP:
                raise ChangeFailed(
                    f"{self.path}: {printable(str(row['Name']))} is {row['VFS']}: "
                    "it may belong to a hibernated system, which would resume on other content"
                )

    def undo(self, guest: Guest, outcome: dict[str, str]) -> str:
        return "trimmed space stays trimmed: it was free"
