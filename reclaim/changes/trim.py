"""The free space of a running guest, given back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from reclaim.base.errors import (
    AgentAbsent,
    AgentBlocked,
    ChangeFailed,
    NotAssessable,
    ProbeError,
)
from reclaim.base.text import counted, size
from reclaim.handles.guest import Guest
from reclaim.processes import shell_script

#: seconds that a trim may take; more on a busy hypervisor
_TRIM_SECONDS = 900
#: filesystems that could not be trimmed, as far as they are named
_PATHS = 5


def _limit(guest: Guest) -> int:
    return round(_TRIM_SECONDS * guest.hypervisor.strain())


@dataclass(frozen=True)
class Trim:
    """The free space of every mounted filesystem given back now.

    `promised` is the space that was counted to come back, in words; `price` is what the trim costs the backups.
    """

    kind: ClassVar[str] = "trim"
    guest: str
    promised: str = ""
    price: str = ""

    @property
    def target(self) -> str:
        return f"free space of {self.guest}"

    @property
    def diff(self) -> str:
        come = f": {self.promised} can come back" if self.promised else ""
        price = f"; {self.price}" if self.price else ""
        return f"guest-fstrim (guest agent){come}{price}"

    def apply(self, guest: Guest) -> dict[str, str]:
        paths = [
            disk.path for disk in guest.disks if disk.path and disk.view.type == "file"
        ]
        before = guest.hypervisor.allocated_each(paths)
        # virDomainFSTrim drops the result of each path (libvirt's qemuAgentFSTrim), so ask the agent
        try:
            trimmed, failed = self._by_agent(guest)
        except (AgentAbsent, AgentBlocked):
            trimmed, failed = self._by_command(guest)
        if failed and not trimmed:
            raise ChangeFailed(
                f"{self.guest}: nothing could be trimmed: {'; '.join(failed[:_PATHS])}"
            )
        failed += _xfs_by_halves(guest)
        after = guest.hypervisor.allocated_each(paths)
        came = sum(
            max(0, held - after.get(path, held)) for path, held in before.items()
        )
        of = f" of {self.promised} that were expected" if self.promised else ""
        price = f"; {self.price}" if self.price else ""
        note = f"{size(came)} came back{of}; the guest reports a trim of {counted(trimmed, 'byte')}{price}"
        return {"note": f"{note}; not {'; '.join(failed[:_PATHS])}" if failed else note}

    def _by_agent(self, guest: Guest) -> tuple[int, list[str]]:
        """Return the bytes that the agent reports as trimmed, and the failures by mount point."""
        trimmed, failed = 0, []
        for trim in guest.agent.trim(seconds=_limit(guest)):
            if trim.error:
                failed.append(f"{trim.path[:100]}: {trim.error[:100]}")
            else:
                trimmed += trim.trimmed or 0
        return trimmed, failed

    def _by_command(self, guest: Guest) -> tuple[int, list[str]]:
        """The same by fstrim(8): a line for each filesystem, an error for each that failed."""
        result = guest.shell.run("LC_ALL=C fstrim -av", seconds=_limit(guest))
        trimmed = sum(
            int(count)
            for count in re.findall(r"\((\d{1,18}) bytes\) trimmed", result.stdout)
        )
        failed = [
            line.strip().removeprefix("fstrim: ")[:200]
            for line in result.stderr.splitlines()
            if line.strip()
        ]
        if result.rc != 0 and not failed:
            failed = [f"fstrim ended with status {result.rc}"]
        return trimmed, failed

    def undo(self, guest: Guest, outcome: dict[str, str]) -> str:
        return "trimmed space stays trimmed: it was free"


def _xfs_by_halves(guest: Guest) -> list[str]:
    """Trim each XFS again, by halves of its allocation groups. Return those that could not be, in words.

    Linux goes through the free extents of a group that is trimmed as a whole a hundred at a time, and passes over those
    that lie before the last of each hundred (fs/xfs/xfs_discard.c; Linux 6.18 left 5 to 13 of 71 MiB, each time again).
    It does not if a part of a group is trimmed.
    """
    try:
        mounts = guest.facts.mounts
    except (NotAssessable, ProbeError):
        return []  # nobody runs commands there
    wanted = {
        mount.device: mount.target
        for mount in mounts
        if mount.fstype == "xfs" and "rw" in mount.options
    }
    if not wanted:
        return []
    command = shell_script.command(len(wanted))
    try:
        result = guest.shell.run(
            command, xfs_script(), *wanted.values(), seconds=_limit(guest)
        )
    except ProbeError as problem:
        return [f"XFS by halves of its groups: {problem}"]
    known = set(wanted.values())
    return [
        f"{line[:100]} by halves of its groups"
        for line in result.stdout.splitlines()
        if line in known
    ]


def xfs_script() -> str:
    """Return the shell script that trims each XFS by halves of its allocation groups, given their mount points."""
    return shell_script.load("reclaim.changes", "trim_xfs.sh")
