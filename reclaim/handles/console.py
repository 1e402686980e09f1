"""The serial console of a guest, if libvirt writes it to a file."""

from __future__ import annotations

import re
from dataclasses import dataclass

from reclaim.base.errors import ProbeError
from reclaim.handles.guest import Guest

#: bytes of it that are read, from its end
_BYTES = 65_536
#: lines that are shown, and their columns
_LINES = 12
_COLUMNS = 200
#: a boot that prints this stops there: the kernel, initramfs-tools' `panic` and dracut's, systemd's sulogin
_DEAD_END = re.compile(
    r"Kernel panic - not syncing|Dropping to a shell!|Entering emergency mode|You are in emergency mode"
    r"|Give root password for maintenance"
)
#: ECMA-48's control sequences: colours, and moves of the cursor
_STEERING = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|[ -/]*[0-~])")


@dataclass(frozen=True)
class Console:
    """A log of the serial console, from *start* (a number of bytes) on. `path` is None if there is no log."""

    guest: Guest
    path: str | None
    start: int

    @property
    def lines(self) -> list[str]:
        """Return the lines written since the start, if they are in the last `_BYTES`, without blank ones."""
        if self.path is None:
            return []
        try:
            grown = _size(self.guest, self.path) - self.start
            # it shrinks if virtlogd began a new file
            wanted = min(grown, _BYTES) if grown >= 0 else _BYTES
            shell = self.guest.hypervisor.shell
            result = shell.run("tail -c %s -- %s", str(wanted), self.path)
        except ProbeError:
            return []  # the way to the hypervisor broke; a guest is brought back also without its words
        if result.rc != 0:
            return []
        text = result.stdout_bytes.decode("utf-8", errors="replace")
        plain = (_STEERING.sub("", line).rstrip() for line in text.splitlines())
        return [line for line in plain if line]

    @property
    def dead_end(self) -> str | None:
        """Return the line which shows that this boot does not go on by itself, or None."""
        for line in self.lines:
            if _DEAD_END.search(line):
                return line.strip()[:_COLUMNS]
        return None

    @property
    def tail(self) -> str:
        """Return its last lines, or why there are none, to be put behind a reason."""
        if self.path is None:
            return "\n(its serial console is not logged)"
        lines = [line[:_COLUMNS] for line in self.lines[-_LINES:]]
        if not lines:
            return f"\n(no output on its serial console, {self.path})"
        return "\n".join(["\nthe console's last lines:", *lines])


def console(guest: Guest) -> Console:
    """Return the console of *guest* from now on."""
    path = _log(guest)
    try:
        return Console(guest, path, _size(guest, path) if path else 0)
    except ProbeError:
        return Console(
            guest, None, 0
        )  # its earlier output would be taken for that of now


def _size(guest: Guest, path: str) -> int:
    result = guest.hypervisor.shell.run("stat --dereference --printf %%s -- %s", path)
    return int(result.stdout) if result.rc == 0 and result.stdout.isdecimal() else 0


def _log(guest: Guest) -> str | None:
    root = guest.persistent.root
    for device in [*root.iterfind("devices/serial"), *root.iterfind("devices/console")]:
        log = device.find("log")
        if log is not None and log.get("file"):
            return log.get("file")
        source = device.find("source")
        if device.get("type") == "file" and source is not None:
            return source.get("path")
    return None
