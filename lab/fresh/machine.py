"""Runs commands on a fresh machine: a root of its own in mount and PID namespaces of its own, with no service manager.

Whatever ends this process ends the namespaces, and with them the machine's processes and mounts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lab import tools
from lab.error import LabError

_ENTER = Path(__file__).with_name("enter.sh")
_LOOK_SECONDS = 0.5
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: the end of whoever runs this ends the first process of the PID namespace, and the kernel ends the others
_NAMESPACES = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--propagation", "private", "--ipc"),
    *("--pid", "--fork", "--kill-child=KILL"),
)


def why_not_possible() -> str:
    """Return the reason why no other root can be entered here, or nothing."""
    try:
        done = tools.run(
            [*_NAMESPACES, "mount", "-t", "tmpfs", "none", "/mnt"], seconds=30
        )
    except LabError as error:
        return str(error)
    words = tools.last_lines(done.stderr, 1) or f"unshare ended with {done.returncode}"
    return f"no mount and PID namespaces here: {words}" if done.returncode else ""


@dataclass(frozen=True)
class Ran:
    """How a command ended; how many bytes of the machine's /tmp were taken at most, and at the end."""

    status: int
    tmp_most: int
    tmp_left: int


class Machine:
    """A root at `folder`, whose commands have `environment` and nothing else, and write into `log`.

    `kept` are folders of this machine, each with its place in the root.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        kept: Mapping[Path, str],
        log: Path,
    ) -> None:
        self.folder = folder
        self.environment = {
            "HOME": "/root",
            "PATH": _PATH,
            "LANG": "C.UTF-8",
            **environment,
        }
        self.kept = kept
        self.log = log

    def run(self, argv: Sequence[str], seconds: float) -> Ran:
        """Run `argv` in the root, from a start of the machine to its end. Raises LabError after `seconds`."""
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as kept:
            kept.writelines(
                f"{source} {place}\n" for source, place in self.kept.items()
            )
            kept.flush()
            enter = ["sh", "-eu", str(_ENTER), str(self.folder), kept.name]
            settings = [f"{name}={value}" for name, value in self.environment.items()]
            command = [*_NAMESPACES, *enter, "env", "-i", *settings, *argv]
            with self.log.open("ab") as log:
                return _run(command, log.fileno(), seconds)


def _run(command: Sequence[str], output: int, seconds: float) -> Ran:
    # a session of its own: a Ctrl-C is ours alone to hear, and we end all of it
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=tools.environment(),
    ) as process:
        tmp = _Tmp(process.pid)
        end = time.monotonic() + seconds
        try:
            while process.poll() is None:
                if time.monotonic() > end:
                    raise LabError(f"it took longer than {seconds:.0f} s")
                tmp.look()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            tmp.detach_loops()
        return Ran(process.returncode, tmp.most, tmp.now)


class _Tmp:
    """The /tmp of the machine whose `unshare` has the process ID `pid`, seen from outside."""

    def __init__(self, pid: int) -> None:
        self._children = Path(f"/proc/{pid}/task/{pid}/children")
        self._ours = Path("/tmp").stat().st_dev  # noqa: S108
        self._device: int | None = None
        self.most = self.now = 0

    def look(self) -> None:
        """Measure it, once the machine has it."""
        try:
            first = self._children.read_text(encoding="ascii").split()[0]
            folder = Path(f"/proc/{first}/root/tmp")
            device, space = folder.stat().st_dev, os.statvfs(folder)
        except (OSError, IndexError):
            return  # it begins or ends
        if device == self._ours:
            return
        self._device = device
        self.now = (space.f_blocks - space.f_bfree) * space.f_frsize
        self.most = max(self.most, self.now)

    def detach_loops(self) -> None:
        """Detach loop devices whose files are there: they outlive mounts and processes, and hold the files."""
        if self._device is None:
            return
        number = f"{os.major(self._device)}:{os.minor(self._device)}"
        columns = ["--raw", "--noheadings", "--output", "NAME,BACK-MAJ:MIN"]
        listed = tools.run(["losetup", "--list", *columns], seconds=30)
        for line in listed.stdout.splitlines():
            name, _, backing = line.partition(" ")
            if backing == number:
                tools.run(["losetup", "--detach", name], seconds=30)
