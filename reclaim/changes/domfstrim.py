"""Trim from the hypervisor on a schedule: `virsh domfstrim`, for guests that reclaim cannot look into.

RHEL's and Fedora's defaults allow the agent's guest-fstrim, and not its guest-exec; virsh(1), domfstrim.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

import libvirt

from reclaim.base.errors import ChangeFailed, ProbeError
from reclaim.base.text import last_words
from reclaim.handles.guest import Guest
from reclaim.handles.node import Node
from reclaim.processes import shell_script

_UNITS = "/etc/systemd/system"
#: what run-parts(8) runs of a folder; others are passed over
_RUN_PARTS = r"[A-Za-z0-9_-]+"
_FOLDER_OF_CRON = re.compile(
    rf"/etc/cron\.(?:hourly|daily|weekly|monthly)/{_RUN_PARTS}"
)
_TABLE_OF_CRON = re.compile(
    r"/etc/crontab|/etc/cron\.d/[A-Za-z0-9_-]+|/var/spool/cron/(?:crontabs/)?[^/]+"
)
_ENTRY_OF_CRON = re.compile(
    r"(?:(?:[\d*]\S*\s+){5}|@(?:daily|weekly|monthly)\s+)(?P<command>\S.*)"
)
#: characters of schedules that are read from a hypervisor
_MOST = 1_000_000

# The files that can hold a schedule, each line that has the word, as "path<TAB>x or -<TAB>line".
_MENTIONS = r"""
for path in /etc/crontab /etc/cron.d/* /etc/cron.hourly/* /etc/cron.daily/* /etc/cron.weekly/* /etc/cron.monthly/* \
    /var/spool/cron/* /var/spool/cron/crontabs/* /etc/systemd/system/*.service; do
    [ -f "$path" ] || continue
    case $path in /etc/systemd/system/reclaim-domfstrim-*) continue ;; esac
    mode=-
    [ -x "$path" ] && mode=x
    head -c 65536 -- "$path" | grep -aF domfstrim | head -n 100 | while IFS= read -r line; do
        printf '%s\t%s\t%s\n' "$path" "$mode" "$line"
    done
done 2>/dev/null | head -c 1000000
"""

# $1 name of the units, $2 service, $3 timer. Both files are there and started, or neither.
_INSTALL = (
    shell_script.HEAD
    + r"""
umask 022
cd /etc/systemd/system || exit 1
take_back() {
    systemctl disable --now "$1.timer" >/dev/null 2>&1
    rm -f -- "$1.service" "$1.timer"
    systemctl daemon-reload
}
[ -e "$1.service" ] || [ -e "$1.timer" ] && { echo "$1 is there already; nothing was changed" >&2; exit 1; }
printf '%s' "$2" >"$1.service" && printf '%s' "$3" >"$1.timer" && sync -- "$1.service" "$1.timer" &&
    systemctl daemon-reload && systemctl enable --now "$1.timer" && exit 0
take_back "$1" >&2
exit 1
"""
)

_REMOVE = (
    shell_script.HEAD
    + r"""
cd /etc/systemd/system || exit 1
[ -e "$1.service" ] || [ -e "$1.timer" ] || { echo absent; exit 0; }
same() { [ ! -e "$1" ] || [ "$(cat -- "$1"; echo .)" = "$2." ]; }
same "$1.service" "$2" && same "$1.timer" "$3" || { echo 'it has been changed since' >&2; exit 1; }
systemctl disable --now "$1.timer" >/dev/null 2>&1
rm -f -- "$1.service" "$1.timer" && systemctl daemon-reload
"""
)


def unit_of(uuid: str) -> str:
    """The name of the units that trim the guest *uuid*: a guest's name can hold anything, its UUID cannot."""
    return f"reclaim-domfstrim-{uuid}"


@dataclass(frozen=True)
class Schedule:
    """The trim of one guest from its hypervisor: `problem` is why there is none, `doubt` why that is not known."""

    works: str = ""
    problem: str = ""
    doubt: str = ""


def schedule_of(guest: Guest) -> Schedule:
    """Return the schedule that trims *guest* from its hypervisor. Raises ProbeError if that cannot be read."""
    hypervisor = guest.hypervisor
    unit = unit_of(guest.uuid)
    state = _state(hypervisor, f"{unit}.timer")
    if state.get("UnitFileState") == "enabled" and state.get("ActiveState") == "active":
        return Schedule(works=f"{unit}.timer trims it from the hypervisor")
    mentions = _mentions(hypervisor)
    for path, is_executable, line in mentions:
        if _names(_run_by_cron(path, line, is_executable=is_executable), guest):
            return Schedule(works=f"{path} trims it from the hypervisor")
    if mentions:
        return Schedule(
            doubt=f"{mentions[0][0]} runs virsh domfstrim, and reclaim cannot see for which guest"
        )
    if state.get("LoadState") == "loaded":
        enabled = state.get("UnitFileState") or "unknown"
        active = state.get("ActiveState") or "unknown"
        return Schedule(problem=f"{unit}.timer is {enabled} and {active}")
    return Schedule(problem="nothing on the hypervisor trims it on a schedule")


def has_systemd(hypervisor: Node) -> bool:
    """True if systemd runs on the hypervisor; sd_booted(3) asks for the same folder."""
    return bool(hypervisor.shell.run("test -d /run/systemd/system").rc == 0)


def is_installed(guest: Guest) -> bool:
    """True if the timer of *guest* is installed, running or not. Raises ProbeError if that cannot be asked."""
    return (
        _state(guest.hypervisor, f"{unit_of(guest.uuid)}.timer").get("LoadState")
        == "loaded"
    )


def _state(hypervisor: Node, unit: str) -> dict[str, str]:
    if not has_systemd(hypervisor):
        return {}
    result = hypervisor.shell.run(
        "systemctl show -p LoadState -p UnitFileState -p ActiveState -- %s", unit
    )
    if result.rc != 0:
        why = last_words(result.stderr)
        raise ProbeError(f"{hypervisor.name}: systemctl show {unit}: {why}")
    pairs = (line.partition("=") for line in result.stdout.splitlines())
    return {key: value for key, _, value in pairs}


def _mentions(hypervisor: Node) -> list[tuple[str, bool, str]]:
    """The lines of the hypervisor's schedules that have the word domfstrim: path, whether it may be run, line."""
    result = hypervisor.shell.run("/bin/sh -c %s", _MENTIONS)
    if result.rc != 0:
        why = last_words(result.stderr)
        raise ProbeError(f"{hypervisor.name}: its cron jobs cannot be read: {why}")
    lines = (line.split("\t", 2) for line in result.stdout[:_MOST].splitlines())
    return [
        (fields[0], fields[1] == "x", fields[2])
        for fields in lines
        if len(fields) == 3 and not fields[2].lstrip().startswith("#")
    ]


def _names(command: str, guest: Guest) -> bool:
    """True if *command* trims exactly *guest*: `virsh domfstrim NAME`, with nothing that only a shell understands."""
    if any(character in command for character in "$`|;&<>*?"):
        return False
    try:
        arguments = shlex.split(command)
    except ValueError:
        return False
    if arguments.count("domfstrim") != 1:
        return False
    place = arguments.index("domfstrim")
    programs = [
        word.rpartition("/")[2]
        for word in arguments[:place]
        if not word.startswith("-")
    ]
    named = [word for word in arguments[place + 1 :] if word != "--domain"]
    return programs[:1] == ["virsh"] and named in ([guest.name], [guest.uuid])


def _run_by_cron(path: str, line: str, *, is_executable: bool) -> str:
    """The command in *line* that cron runs as it stands there; "" if it runs none, or under a condition."""
    if _FOLDER_OF_CRON.fullmatch(path):
        return line if is_executable and not line[:1].isspace() else ""
    entry = _ENTRY_OF_CRON.fullmatch(line) if _TABLE_OF_CRON.fullmatch(path) else None
    if entry is None:
        return ""
    # /etc/crontab and /etc/cron.d name the user before the command (crontab(5))
    return (
        entry["command"].partition(" ")[2].lstrip()
        if path.startswith("/etc/")
        else entry["command"]
    )


@dataclass(frozen=True)
class TrimTimer:
    """A timer of systemd on the hypervisor that trims one guest by `virsh domfstrim` every week.

    It belongs to the guest's UUID: it stays right if the guest is renamed, and does nothing while the guest is off.
    """

    kind: ClassVar[str] = "trim-timer"
    guest: str
    uuid: str
    #: libvirt's URI as the hypervisor itself uses it, and where its virsh is
    uri: str
    virsh: str
    #: what a trim costs this guest, in words
    price: str = ""

    @property
    def unit(self) -> str:
        return unit_of(self.uuid)

    @property
    def target(self) -> str:
        return f"{_UNITS}/{self.unit}.timer on the hypervisor"

    @property
    def service(self) -> str:
        virsh = f"{self.virsh} --connect {self.uri}"
        return (
            "# by reclaim: gives what one guest has freed back to this hypervisor\n"
            f"[Unit]\nDescription=Trim the guest {self.uuid} (virsh domfstrim)\n\n"
            "[Service]\nType=oneshot\nEnvironment=LC_ALL=C\n"
            f"ExecCondition=/bin/sh -c '{virsh} domstate {self.uuid} | grep -qx running'\n"
            f"ExecStart={virsh} domfstrim {self.uuid}\n"
        )

    @property
    def timer(self) -> str:
        return (
            f"# by reclaim\n[Unit]\nDescription=Trim the guest {self.uuid} every week\n\n"
            "[Timer]\nOnCalendar=weekly\nRandomizedDelaySec=6h\nPersistent=true\n\n"
            "[Install]\nWantedBy=timers.target\n"
        )

    @property
    def diff(self) -> str:
        files = (
            (f"{self.unit}.service", self.service),
            (f"{self.unit}.timer", self.timer),
        )
        shown = [
            f"+++ {_UNITS}/{name}\n"
            + "".join(f"+{line}\n" for line in text.splitlines())
            for name, text in files
        ]
        price = f"{self.price}\n" if self.price else ""
        return f"{''.join(shown)}{price}then: systemctl enable --now {self.unit}.timer"

    def apply(self, guest: Guest) -> dict[str, str]:
        _run(guest.hypervisor, _INSTALL, self)
        return {"note": self.price} if self.price else {}

    def undo(self, guest: Guest, outcome: dict[str, str]) -> str:
        _run(guest.hypervisor, _REMOVE, self)
        return f"{self.unit}.timer is gone"


def _run(hypervisor: Node, script: str, change: TrimTimer) -> None:
    """Raises ChangeFailed with the last words of the script if it fails."""
    result = hypervisor.shell.run(
        shell_script.command(3),
        script,
        change.unit,
        change.service,
        change.timer,
    )
    if result.rc != 0:
        why = last_words(result.stderr, silent=f"status {result.rc}")
        raise ChangeFailed(f"{hypervisor.name}: {change.unit}.timer: {why}")


def found_virsh(hypervisor: Node) -> str | None:
    """The path of virsh on the hypervisor; None if there is none, or its path is no plain one."""
    result = hypervisor.shell.run("command -v virsh")
    path = str(result.stdout).strip()
    return path if result.rc == 0 and re.fullmatch(r"/[\w./+-]+", path) else None


def local_uri(hypervisor: Node) -> str | None:
    """The address by which virsh on the hypervisor itself reaches this libvirt; None if it is not the system's."""
    parts = urlsplit(hypervisor.connection.getURI())
    driver = parts.scheme.partition("+")[0]
    return (
        "qemu:///system"
        if driver == "qemu" and parts.path == "/system" and not parts.query
        else None
    )


def price(guest: Guest) -> str:
    """Return the cost of a trim for the backups of *guest*, in words; "" if none is known.

    QEMU marks what is discarded as changed in the dirty bitmaps that checkpoints keep, so that the next incremental
    backup takes it (virDomainBackupBegin).
    """
    try:
        count = len(guest.domain.listAllCheckpoints(0))
    except libvirt.libvirtError:
        return ""  # a driver without checkpoints (libvirt before 5.6, the test driver)
    if not count:
        return ""
    have = "1 checkpoint" if count == 1 else f"{count} checkpoints"
    return f"it has {have}: the next incremental backup also copies the trimmed blocks; trim before a full backup"
