"""The texts of the service and its timer.

Sources: systemd.service(5), systemd.exec(5), systemd.timer(5), systemd.syntax(7).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reclaim.base.errors import ReclaimError
from reclaim.base.home import SAFE
from reclaim.base.text import printable

SERVICE = "reclaim-audit.service"
TIMER = "reclaim-audit.timer"
#: the first line of a file that is ours
MARKER = "# Written by `reclaim timer install`. `reclaim timer remove` takes it back."
#: characters that need no quotes in a command line of a unit
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
#: root's locks (reclaim.handles.lock): other runs may be at work when the service ends, so the folder stays
_LOCKS = (
    "RuntimeDirectory=reclaim",
    "RuntimeDirectoryMode=0700",
    "RuntimeDirectoryPreserve=yes",
)

# More is left out on purpose. ProtectClock and PrivateDevices would hide disks that are images, and
# PrivateTmp images in /tmp; MemoryDenyWriteExecute would stop a QEMU that emulates; ProtectProc would hide the users of
# an image.
_HARMLESS = (
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
)
_OF_ROOT = (
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
)


@dataclass(frozen=True)
class ScheduledRun:
    """A run on a schedule."""

    #: the words that start this reclaim, and those of its run
    program: tuple[str, ...]
    arguments: tuple[str, ...]
    mode: str
    calendar: str
    is_root: bool
    #: folders that the run writes into
    writable: tuple[str, ...] = ()
    #: --notify is given: the user's command may write anywhere
    notifies: bool = False

    @property
    def command(self) -> tuple[str, ...]:
        return (*self.program, self.mode, "-q", *self.arguments)


def texts(schedule: ScheduledRun) -> dict[str, str]:
    """Return the files of *schedule* by their names. Raises ReclaimError for a word that no unit can have."""
    return {SERVICE: _service(schedule), TIMER: _timer(schedule)}


def _service(schedule: ScheduledRun) -> str:
    return _text(
        "[Unit]",
        f"Description=reclaim {schedule.mode} of KVM guests",
        "Wants=network-online.target" if schedule.is_root else "",
        "After=network-online.target libvirtd.service virtqemud.service"
        if schedule.is_root
        else "",
        "",
        "[Service]",
        "Type=oneshot",
        "# a reclaim that does not start at all, as after an upgrade of Python, is a failure",
        f"ExecStartPre={_command_line((*schedule.program, '--version'))}",
        f"ExecStart={_command_line(schedule.command)}",
        "# findings, and guests that reclaim could not look at, are results of a run and no failure of the service",
        "SuccessExitStatus=1 6",
        "Nice=10",
        "IOSchedulingPriority=7",
        "# reclaim finishes a power cycle that it began",
        "KillMode=mixed",
        "TimeoutStopSec=10min",
        "",
        *_hardening(schedule),
    )


def _hardening(schedule: ScheduledRun) -> list[str]:
    if not schedule.is_root:
        return ["NoNewPrivileges=yes", *_HARMLESS]
    lines = [*_LOCKS]
    if SAFE in schedule.writable:
        lines += ["StateDirectory=reclaim", "StateDirectoryMode=0700"]
    if schedule.mode != "fix":  # which mends backup jobs and timers of the host too
        lines += _read_only(schedule)
    return [*lines, *_OF_ROOT, *_HARMLESS]


def _read_only(schedule: ScheduledRun) -> list[str]:
    folders = [folder for folder in schedule.writable if folder != SAFE]
    # ssh(1) may have its control sockets there, and libguestfs its appliance
    paths = [*map(_path, folders), "/tmp", "/var/tmp", "-/root/.ssh"]  # noqa: S108
    lines = [f"ReadWritePaths={' '.join(paths)}", "ProtectHome=read-only"]
    if schedule.notifies:
        return [
            "# mail programs write below /var, and sudo needs its privileges",
            "ProtectSystem=full",
            *lines,
        ]
    return ["NoNewPrivileges=yes", "ProtectSystem=strict", *lines]


def _timer(schedule: ScheduledRun) -> str:
    _expect_line(schedule.calendar)
    return _text(
        "[Unit]",
        f"Description=reclaim {schedule.mode} of KVM guests on a schedule",
        "",
        "[Timer]",
        f"OnCalendar={schedule.calendar}",
        "RandomizedDelaySec=1h",
        "Persistent=true",
        "",
        "[Install]",
        "WantedBy=timers.target",
    )


def _text(*lines: str) -> str:
    """Return the text of a file of ours. Two empty lines in a row are one."""
    text = "".join(f"{line}\n" for line in (MARKER, *lines))
    return re.sub(r"\n{3,}", "\n\n", text)


def _command_line(words: tuple[str, ...]) -> str:
    program, *arguments = words
    return " ".join([_path(program), *map(_word, arguments)])


def _expect_line(word: str) -> None:
    if not word.isprintable():
        raise ReclaimError(
            f"{printable(word)}: a unit of systemd cannot have control characters"
        )


def _path(word: str) -> str:
    """Return a path as it is written in a unit: of the specifiers, and without variables."""
    _expect_line(word)
    if "$" in word:
        raise ReclaimError(f"{word}: a unit of systemd cannot have a path with $")
    return _quoted(word.replace("%", "%%"))


def _word(word: str) -> str:
    """Return an argument as it is written in a command line: % begins a specifier, and $ a variable."""
    _expect_line(word)
    return _quoted(word.replace("%", "%%").replace("$", "$$"))


def _quoted(word: str) -> str:
    if _PLAIN.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
