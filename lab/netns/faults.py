"""The ways in which a host fails. Links are taken down inside hosts alone: the client keeps its routes.

A fault that can be ended has the function for that beside it.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.error import LabError
from lab.netns import network, processes
from lab.netns.guests import DEFINITIONS
from lab.netns.host import INTERFACE, KEY, LOG, Host
from lab.netns.site import SECONDS, make_key

_LINE = Path(__file__).with_name("line.py")
#: openat(2) by its number of x86_64, the one architecture of the lab (asm/unistd_64.h)
_OPENAT = "257"
_LONGEST = 4096
_STALL_PORT = 2222
_STALL = """
import socket
server = socket.create_server(("{address}", {port}))
print("listens", flush=True)
clients = []
while True:
    clients.append(server.accept())
    clients[-1][0].sendall(b"SSH-2.0-Stalling\\r\\n")
"""


def take_down(host: Host) -> None:
    """Take its link down, as of a machine that is off: packets to it lead nowhere."""
    host.ip("link", "set", INTERFACE, "down")


def bring_up(host: Host) -> None:
    """Bring its link up again, and wait until the client may use it. Raises LabError."""
    host.ip("link", "set", INTERFACE, "up")
    end = time.monotonic() + SECONDS
    while "LOWER_UP" not in network.ip(["link", "show", host.device], host.site.plain):
        if time.monotonic() > end:
            raise LabError(f"the link to {host.name} does not come up")
        time.sleep(0.02)
    # the kernel remembers that it did not answer
    network.ip(["neighbour", "flush", "dev", host.device], host.site.plain)


def silence(host: Host) -> None:
    """Let it drop each packet to the client, as a firewall does: the link is up, and no answer comes."""
    host.ip("route", "add", "blackhole", f"{host.link.client}/32")


def unsilence(host: Host) -> None:
    """Let it answer again."""
    host.ip("route", "del", "blackhole", f"{host.link.client}/32")


def mute(host: Host) -> None:
    """Stop its sshd: the kernel accepts connections, and no banner comes. Sessions that are open go on."""
    os.kill(host.pid, signal.SIGSTOP)


def unmute(host: Host) -> None:
    """Let its sshd go on."""
    os.kill(host.pid, signal.SIGCONT)


def stall(host: Host) -> None:
    """Let an sshd answer that sends its version and nothing more: the key exchange stalls. It stays so.

    Raises LabError if it does not listen.
    """
    script = _STALL.format(address=host.link.host, port=_STALL_PORT)
    process = subprocess.Popen(
        [*host.within, "python3", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    host.site.started.append(process)
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], SECONDS)
    if not ready or process.stdout.readline() != b"listens\n":
        raise LabError(f"nobody stalls at {host.name}")
    _configure(host, f"Port {_STALL_PORT}")


def rekey(host: Host) -> None:
    """Give it another host key than the client knows, as after a new installation. Raises LabError."""
    for name in (KEY, f"{KEY}.pub"):
        host.path(name).unlink()
    make_key(host.path(KEY))
    before = _starts(host)
    # sshd starts itself anew, under the same process ID (sshd(8))
    os.kill(host.pid, signal.SIGHUP)
    end = time.monotonic() + SECONDS
    while _starts(host) == before:
        if time.monotonic() > end:
            raise LabError(f"the sshd of {host.name} does not start anew")
        time.sleep(0.02)


def _starts(host: Host) -> int:
    return host.path(LOG).read_text("utf-8", "replace").count("Server listening")


def slow_down(host: Host, seconds: float) -> None:
    """Let everything between client and host arrive `seconds` later, each way, for the ssh(1) of the client."""
    argv = [sys.executable, str(_LINE), str(host.link.host), "22", str(seconds)]
    _configure(host, f"ProxyCommand {shlex.join(argv)}")


def _configure(host: Host, setting: str) -> None:
    """Give the client a setting of ssh_config(5) for a host."""
    with (host.site.home / ".ssh/config").open("a", encoding="utf-8") as config:
        config.write(f"Host {host.name}\n    {setting}\n")


def hang_libvirtd(host: Host) -> None:
    """Stop its libvirtd: its socket accepts, and no answer comes."""
    _signal_libvirtd(host, signal.SIGSTOP)


def resume_libvirtd(host: Host) -> None:
    """Let its libvirtd go on."""
    _signal_libvirtd(host, signal.SIGCONT)


def kill_libvirtd(host: Host) -> None:
    """Kill its libvirtd, as a crash does; `start_libvirtd` starts another."""
    _signal_libvirtd(host, signal.SIGKILL)


def start_libvirtd(host: Host) -> None:
    """Start a libvirtd. Raises LabError."""
    host.call(["libvirtd", "--daemon"])


def _signal_libvirtd(host: Host, number: signal.Signals) -> None:
    running = host.running("libvirtd")
    if not running:
        raise LabError(f"{host.name} has no libvirtd")
    for pid in running:
        os.kill(pid, number)


# In the middle of a change --------------------------------------------------------------------


class Trap:
    """Holds the libvirtd of a host at the moment at which it would write the definition of `guest`.

    libvirt writes a definition into NAME.xml.new and renames that: with a FIFO there, it waits for a reader who never
    comes. So the guests before are whole, and this one has its old definition.
    """

    def __init__(self, host: Host, guest: str) -> None:
        self.host = host
        self._name = f"{DEFINITIONS}/{guest}.xml.new"

    def set(self) -> None:
        """Lay it. Raises OSError."""
        os.mkfifo(self.host.path(self._name))

    def remove(self) -> None:
        """Take it away; a libvirtd that is in it stays in it until it is killed."""
        self.host.path(self._name).unlink(missing_ok=True)

    def wait(self, seconds: float = SECONDS) -> None:
        """Wait until libvirtd is in it. Raises LabError after `seconds`."""
        end = time.monotonic() + seconds
        while not self._has_caught():
            if time.monotonic() > end:
                raise LabError(f"{self.host.name}: nobody writes {self._name}")
            time.sleep(0.02)

    def _has_caught(self) -> bool:
        return any(self._name in opening(pid) for pid in self.host.running("libvirtd"))


@contextmanager
def trap(host: Host, guest: str) -> Iterator[Trap]:
    """Give a `Trap` that is laid, and take it away at the end."""
    laid = Trap(host, guest)
    laid.set()
    try:
        yield laid
    finally:
        if host.pid and processes.state(host.pid):
            laid.remove()


def opening(pid: int) -> list[str]:
    """Return the paths that the threads of a process are about to open, and wait for (proc(5), `syscall`)."""
    found = []
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        try:
            number, _, pointer, *_ = (thread / "syscall").read_text("ascii").split()
            if number == _OPENAT:
                found.append(_string(pid, int(pointer, 16)))
        except (OSError, ValueError):
            continue  # it runs, or ends
    return found


def _string(pid: int, place: int) -> str:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(place)
        # as much as there is up to the end of the page, beyond which nothing may be mapped
        text = memory.read(_LONGEST - place % _LONGEST)
        return text.partition(b"\0")[0].decode(errors="replace")
