"""One hypervisor of the lab: a root of its own with sshd, libvirtd and virtlogd, in namespaces of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab import tools
from lab.error import LabError
from lab.netns import network, processes
from lab.netns.network import Link
from lab.netns.site import SECONDS, Site, make_key, waited

KEY = "/etc/ssh/ssh_host_ed25519_key"
"""The file of the host's private key."""

LOG = "/var/log/sshd.log"
"""The file that sshd writes its log into."""

INTERFACE = "eth0"
"""The host's end of its link."""

_ENTER = Path(__file__).with_name("enter.sh")
_DAEMONS = Path(__file__).with_name("daemons.sh")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SSHD = f"""\
HostKey {KEY}
AuthorizedKeysFile /etc/ssh/authorized_keys
UsePAM no
UseDNS no
PermitRootLogin prohibit-password
PasswordAuthentication no
PidFile none
LogLevel VERBOSE
Subsystem sftp /usr/lib/openssh/sftp-server
"""
_LIBVIRTD = """\
host_uuid = "{uuid}"
auth_unix_ro = "none"
auth_unix_rw = "none"
"""
_ACCEPTED = re.compile(r"^Accepted publickey for ", re.MULTILINE)


@dataclass
class Host:
    """The client knows it as `name`; it calls itself `hostname`. `pid` is its first process; 0: it does not run."""

    site: Site
    name: str
    hostname: str
    link: Link
    pid: int = 0
    process: subprocess.Popen[bytes] | None = None
    #: the names of the guests that were defined here on purpose
    guests: list[str] = field(default_factory=list)

    @property
    def uuid(self) -> str:
        """Return the UUID by which libvirt knows the host: no two of the lab share one."""
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.name}.{self.link.number}"))

    @property
    def device(self) -> str:
        """Return the name of the client's end of the link."""
        return f"to-host{self.link.number}"

    @property
    def namespace(self) -> str:
        """Return the name of its network namespace in the client's ip(8)."""
        return f"host{self.link.number}"

    @property
    def folder(self) -> Path:
        """Return the path from here of the folder with the layers of its root."""
        return self.site.path(self.inner_folder)

    @property
    def inner_folder(self) -> str:
        """Return the path of that folder in the client."""
        return f"/run/hosts/{self.name}"

    def path(self, name: str) -> Path:
        """Return the path from here of its file `name` (absolute). It has to run."""
        return Path(f"/proc/{self.pid}/root{name}")

    @property
    def within(self) -> list[str]:
        """Return the words that run a command in all of its namespaces."""
        enter = ["nsenter", "--target", str(self.pid)]
        return [*enter, "--net", "--mount", "--uts", "--ipc", "--pid"]

    def run(
        self, argv: Sequence[str], *, seconds: float = SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the host, however it ends. Raises LabError if it takes longer."""
        settings = ["env", "-i", f"PATH={_PATH}", "HOME=/root", "LC_ALL=C.UTF-8"]
        return tools.run([*self.within, *settings, *argv], seconds=seconds)

    def call(self, argv: Sequence[str], *, seconds: float = SECONDS) -> str:
        """`run`, and return its standard output. Raises LabError if it fails, too."""
        done = self.run(argv, seconds=seconds)
        if done.returncode != 0:
            words = tools.last_lines(done.stderr or done.stdout, 4)
            raise LabError(f"{self.name}: {argv[0]} ({done.returncode}): {words}")
        return done.stdout

    def ip(self, *words: str) -> str:
        """Run ip(8) in its network namespace, which outlives its processes. Raises LabError."""
        return network.ip(["-netns", self.namespace, *words], self.site.plain)

    def running(self, program: str) -> list[int]:
        """Return the IDs here of its processes that run `program`."""
        mine = processes.namespace(self.pid, "pid")
        return [
            pid
            for pid in processes.everything()
            if processes.namespace(pid, "pid") == mine
            and processes.program(pid) == program
            and processes.state(pid) not in ("", "Z", "X")
        ]

    @property
    def handshakes(self) -> int:
        """Return how many clients got in since it was connected, as its sshd counts them."""
        return len(_ACCEPTED.findall(self.path(LOG).read_text("utf-8", "replace")))

    def public_key(self) -> str:
        """Return the line with its public key."""
        return (self.folder / f"upper{KEY}.pub").read_text(encoding="ascii")


def connect(host: Host) -> None:
    """Make a host's network namespace, its link and its files; the client knows it by name and key. Raises LabError."""
    network.ip(["netns", "add", host.namespace], host.site.plain)
    peer = ["peer", "name", INTERFACE, "netns", host.namespace]
    for words in (
        ["link", "add", host.device, "type", "veth", *peer],
        ["address", "add", f"{host.link.client}/30", "dev", host.device],
        ["link", "set", host.device, "up"],
    ):
        network.ip(words, host.site.plain)
    _write_files(host)
    with host.site.path("/run/names").open("a", encoding="ascii") as names:
        names.write(f"{host.link.host} {host.name}\n")
    with host.site.known_hosts.open("a", encoding="ascii") as known:
        known.write(f"{host.name},{host.link.host} {host.public_key()}")


def _write_files(host: Host) -> None:
    upper = host.folder / "upper"
    host.folder.mkdir()
    upper.mkdir(mode=0o755)
    names = f"127.0.0.1 localhost\n{host.link.host} {host.hostname}\n"
    files = {
        "/etc/hostname": f"{host.hostname}\n",
        "/etc/hosts": names,
        "/etc/machine-id": f"{host.uuid.replace('-', '')}\n",
        "/etc/libvirt/libvirtd.conf": _LIBVIRTD.format(uuid=host.uuid),
        "/etc/ssh/sshd_config": _SSHD,
        "/etc/ssh/authorized_keys": host.site.key(),
    }
    for name, text in files.items():
        place = upper / name.lstrip("/")
        for parent in reversed(place.relative_to(upper).parents[:-1]):
            # a folder of the upper layer hides the mode of the one below it
            (upper / parent).mkdir(exist_ok=True)
            (upper / parent).chmod(0o755)
        place.write_text(text, encoding="ascii")
        place.chmod(0o644)
    make_key(upper / KEY.lstrip("/"))


def boot(host: Host) -> None:
    """Start a host that is connected, and wait until its sshd and its libvirtd answer. Raises LabError."""
    enter = ["nsenter", "--target", str(host.site.pid), "--mount", "--ipc", "--pid"]
    own = ["unshare", "--mount", "--propagation", "private", "--uts", "--ipc"]
    root = [host.hostname, str(host.site.root), host.inner_folder]
    script = _DAEMONS.read_text(encoding="utf-8")
    with (host.folder / "console").open("wb") as console:
        host.process = subprocess.Popen(
            [
                *(*enter, "nsenter", f"--net=/run/netns/{host.namespace}"),
                *(*own, "--pid", "--fork", "sh", "-eu", str(_ENTER)),
                *(*root, script, f"{host.link.host}/30", str(network.RANGE)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env={"PATH": _PATH, "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
    process = host.process
    host.site.started.append(process)
    host.pid = waited(lambda: _first(host, process))
    _wait_for_answers(host)


def _first(host: Host, process: subprocess.Popen[bytes]) -> int | None:
    """Return the first process of the host, once it is sshd; None if it is not yet. Raises LabError if it ended."""
    if process.poll() is not None:
        console = (host.folder / "console").read_text("utf-8", "replace")
        words = tools.last_lines(console, 4) or "without a word"
        raise LabError(f"{host.name} ended as it was started: {words}")
    child = processes.only_child(process.pid)
    first = None if child is None else processes.first_below(child)
    return first if first and processes.program(first) == "sshd" else None


def _wait_for_answers(host: Host) -> None:
    end = time.monotonic() + SECONDS
    while True:
        virsh = host.run(["virsh", "--quiet", "list", "--all", "--name"])
        log = host.path(LOG)
        listens = log.is_file() and "Server listening" in log.read_text("utf-8")
        if listens and virsh.returncode == 0:
            return
        if time.monotonic() > end:
            words = tools.last_lines(virsh.stderr, 2)
            raise LabError(f"{host.name} does not answer: {words or 'no sshd'}")
        time.sleep(0.05)


def halt(host: Host) -> None:
    """End all processes of a host at once; its files stay, and its link, at which connections are refused.

    Raises LabError.
    """
    if host.process is None:
        return
    with suppress(ProcessLookupError):
        os.kill(host.pid, signal.SIGKILL)
    host.process.wait(SECONDS)
    host.process, host.pid = None, 0
