"""The client's side: namespaces that have no way out but to the lab's hosts, with a home and keys of its own.

Every host lies in PID and mount namespaces below. Whatever ends this process ends the first process of the client, and
with it each process, mount, link and file of the lab: the files lie in memory that the namespaces hold.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab import tools
from lab.error import LabError
from lab.netns import network, processes, root
from lab.sources import KEYRING

SECONDS = 60.0
"""The limit for a step of the lab itself: all take a second at most on an idle machine."""

HOME = "/run/home"
"""The home of root in the client: in memory, and empty but for keys of the lab."""

TMP = "/run/tmp"
"""The folder of temporary files of programs in the client."""

_SIZE = "4g"
_SCRIPT = Path(__file__).with_name("client.sh")
_TOOLS = {
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
}
#: the end of whoever runs this ends the first process of the PID namespace, and the kernel ends the others
_NAMESPACES = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--net", "--mount", "--propagation", "private", "--ipc"),
    *("--pid", "--fork", "--kill-child=KILL"),
)
#: all that the kernel has to have, in namespaces that end with it
_TRIAL = """\
mount -t tmpfs tmpfs /mnt
mkdir /mnt/lower /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
ip link add one type veth peer name other
"""
#: of the caller's own ssh, and places that the client does not see
_FOREIGN = ("SSH_AUTH_SOCK", "SSH_ASKPASS", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME")
#: an interrupt of the terminal is for the caller, who ends what it started
_OWN_SESSION = ("sh", "-c", 'cd "$1" && shift && exec setsid "$@"', "sh")


def missing() -> list[str]:
    """Return the reasons why the lab cannot run here, one sentence each; none if it can."""
    if os.geteuid() != 0:
        return ["not root: the lab makes namespaces and mounts"]
    path = tools.environment()["PATH"]
    reasons = [
        f"{tool} is missing: install {package}"
        for tool, package in _TOOLS.items()
        if shutil.which(tool, path=path) is None
    ]
    if not KEYRING.exists():
        keyring = "Debian's archive keys are missing: install debian-archive-keyring"
        reasons.append(keyring)
    if reasons:
        return reasons
    done = tools.run([*_NAMESPACES, "sh", "-eu", "-c", _TRIAL], seconds=30)
    if done.returncode:
        words = tools.last_lines(done.stderr, 1)
        reasons.append(f"no namespaces, overlays or links here: {words}")
    elif reason := network.why_not_free():
        reasons.append(reason)
    return reasons


@dataclass
class Site:
    """The client: `pid` is the first process of its namespaces; `root` the folder that all hosts are made of."""

    process: subprocess.Popen[bytes]
    pid: int
    root: Path
    #: callers of nsenter(1), which end with the processes that they started
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def path(self, name: str) -> Path:
        """Return the path from here of the file `name` (absolute) as the client sees it."""
        return Path(f"/proc/{self.pid}/root{name}")

    @property
    def home(self) -> Path:
        """Return the path from here of the client's home."""
        return self.path(HOME)

    @property
    def known_hosts(self) -> Path:
        """Return the path from here of the client's known_hosts."""
        return self.home / ".ssh/known_hosts"

    @property
    def plain(self) -> list[str]:
        """Return the words that run a command in the client's namespaces, in the folder /."""
        enter = ["nsenter", "--target", str(self.pid)]
        return [*enter, "--net", "--mount", "--ipc", "--pid"]

    @property
    def within(self) -> list[str]:
        """Return the words that run a command so in this working directory, in a session of its own."""
        return [*self.plain, *_OWN_SESSION, str(Path.cwd())]

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a command of the client, with `more`."""
        kept = {
            key: value
            for key, value in tools.environment().items()
            if key not in _FOREIGN
        }
        return {**kept, "HOME": HOME, "TMPDIR": TMP, **(more or {})}

    def run(
        self,
        argv: Sequence[str],
        *,
        seconds: float = SECONDS,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the client, however it ends. Raises LabError if it takes longer; then it is ended."""
        try:
            return tools.run(
                [*self.within, *argv], seconds=seconds, env=self.environment(env)
            )
        except LabError as error:
            self.end_all()
            raise LabError(f"{argv[0]}: {error}") from None

    def start(
        self, argv: Sequence[str], *, output: int, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command as the client, which writes into the descriptor `output`. It ends with the site."""
        process = subprocess.Popen(
            [*self.within, *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=self.environment(env),
        )
        self.started.append(process)
        return process

    def left(self, program: str = "") -> list[str]:
        """Return the command lines of the processes of the client that run (those of `program`, if it is given)."""
        return [processes.command(pid) for pid in self._running(program)]

    def end_all(self) -> None:
        """End every process of the client, but no host."""
        for pid in self._running():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _running(self, program: str = "") -> list[int]:
        mine = (
            processes.namespace(self.pid, "pid"),
            processes.namespace(self.pid, "net"),
        )
        found = []
        for pid in processes.everything():
            if pid == self.pid or processes.state(pid) in ("", "Z", "X"):
                continue
            theirs = processes.namespace(pid, "pid"), processes.namespace(pid, "net")
            if theirs == mine and program in ("", processes.program(pid)):
                found.append(pid)
        return found

    def key(self) -> str:
        """Return the client's public key, made if it is not there. Raises LabError."""
        private = self.home / ".ssh/id_ed25519"
        make_key(private)
        return private.with_suffix(".pub").read_text(encoding="ascii")


def make_key(private: Path) -> None:
    """Make a pair of keys in the file `private` and one beside it, if it is not there. Raises LabError."""
    if private.exists():
        return
    kind = ["-q", "-t", "ed25519", "-N", "", "-C", "reclaim-lab"]
    tools.call(["ssh-keygen", *kind, "-f", str(private)], seconds=SECONDS)


@contextmanager
def opened() -> Iterator[Site]:
    """Give a client without hosts, and leave nothing of it and of the hosts at the end. Raises LabError."""
    with network.guarded(), root.held() as lower:
        process = subprocess.Popen(
            [*_NAMESPACES, "sh", "-eu", str(_SCRIPT), str(network.RANGE), _SIZE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=tools.environment(),
            # a Ctrl-C of the terminal is for the caller, who comes here by itself
            start_new_session=True,
        )
        site = Site(process, 0, lower)
        try:
            _expect_ready(process)
            site.pid = waited(lambda: processes.first_below(process.pid))
            yield site
        finally:
            _end(site)


def waited(find: Callable[[], int | None], seconds: float = SECONDS) -> int:
    """Return the first answer of `find` that is none of None. Raises LabError after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        answer = find()
        if answer is not None:
            return answer
        if time.monotonic() > end:
            raise LabError("a process of the lab was not started in time")
        time.sleep(0.02)


def _expect_ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], SECONDS)
    line = process.stdout.readline() if ready else b""
    if line.strip() != b"ready":
        raise LabError(
            f"the client was not made: {line.decode(errors='replace').strip() or 'it says nothing'}"
        )


def _end(site: Site) -> None:
    """End the first process of the client, and with it everything below; wait until the kernel has done so."""
    if site.pid:
        os.kill(site.pid, signal.SIGKILL)
    else:
        site.process.kill()
    for process in (site.process, *site.started):
        process.communicate(timeout=SECONDS)
