"""One connection by ssh to a hypervisor, for libvirt's ssh, the shell there, and the way through it to its guests.

It is OpenSSH's master connection (ControlPath in ssh_config(5)): one handshake, whatever is asked. It is opened before
anything is asked, so that the limits of time are those of the machine, and not of a person who types a passphrase.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, Popen
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from testinfra.backend.ssh import SshBackend

from reclaim.base.cached import kept
from reclaim.base.errors import ReclaimError, Unreachable
from reclaim.base.text import last_words, printable
from reclaim.processes import child, worker

#: seconds for a log-in, without the time in which a person or an agent is asked
LOGIN_SECONDS = 15
#: seconds for the machine to accept the connection and to send its version (ssh_config(5), ConnectTimeout)
_CONNECT_SECONDS = 8
#: seconds after which a machine that let nobody in is tried again
_RETRY_SECONDS = 30
#: seconds that a master without a client is kept, also if this process is killed
_KEPT_SECONDS = 120
#: seconds for ssh to talk to the master on this machine
_LOCAL_SECONDS = 5
#: seconds between two looks at an ssh that asks
_LOOK_SECONDS = 0.1
#: bytes of the output of ssh -v that are read
_MOST = 1024 * 1024
#: sun_path holds 108 bytes, and ssh(1) binds under the name with 17 more
_LONGEST_FOLDER = 60
_OPTIONS = {
    "ConnectTimeout": str(_CONNECT_SECONDS),
    # a machine that is gone is noticed in half a minute
    "ServerAliveInterval": "10",
    "ServerAliveCountMax": "3",
}
#: libvirt's parameters for its ssh (libvirt.org/uri.html), and what they mean for ours
_NO_VERIFY = ("-o", "StrictHostKeyChecking=no")
_NO_TTY = ("-o", "BatchMode=yes")
#: ssh -v prints it before it asks the key's agent or its owner
_ASKS_AGENT = (b"Server accepts key", b"Confirm user presence", b"Enter PIN")
#: one person is asked for one machine at a time
_asking = threading.Lock()


class LoginRefused(Unreachable):
    """ssh gets there and is not let in. A person may help: by a passphrase, a password, a yes to the host key."""


def is_asking() -> bool:
    """True if a person is asked at this moment."""
    return _asking.locked()


def folder_of_sockets() -> Path:
    """Make a folder of our own for the connections' sockets, with a name short enough for them."""
    place = tempfile.gettempdir()
    if len(place) > _LONGEST_FOLDER or not re.fullmatch(r"[\w./-]+", place, re.ASCII):
        place = "/tmp"  # noqa: S108 (mkdtemp's folder is ours alone)
    return Path(tempfile.mkdtemp(prefix="reclaim-", dir=place))


@dataclass(frozen=True)
class Target:
    """A machine as ssh(1) is given it."""

    host: str
    user: str | None = None
    port: str | None = None
    #: further words of the command line
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        return f"{user}{self.host}" + (f":{self.port}" if self.port else "")

    @property
    def words(self) -> list[str]:
        """The words that name it, options first."""
        words = [*self.options]
        for flag, value in (("-l", self.user), ("-p", self.port)):
            words += [flag, value] if value else []
        return words

    @property
    def known_as(self) -> str:
        """The name in known_hosts (sshd(8)), unless ssh_config gives another."""
        is_plain = not self.port or self.port == "22"
        return self.host if is_plain else f"[{self.host}]:{self.port}"


def target_of_shell(backend: SshBackend) -> Target:
    """Return the machine that testinfra's *backend* goes to."""
    options = []
    for flag, value in (
        ("-F", backend.ssh_config),
        ("-i", backend.ssh_identity_file),
    ):
        options += [flag, str(value)] if value else []
    port = str(backend.host.port) if backend.host.port else None
    return Target(backend.host.name, backend.host.user, port, tuple(options))


def options_of_uri(uri: str) -> tuple[str, ...]:
    """Return the words for ssh that follow from the parameters of a libvirt URI, as libvirt gives them to its own."""
    given = dict(parse_qsl(urlsplit(uri).query))
    words: list[str] = []
    if keyfile := given.get("keyfile"):
        words += ["-i", keyfile]
    if given.get("no_verify", "0") != "0":
        words += _NO_VERIFY
    if given.get("no_tty", "0") != "0":
        words += _NO_TTY
    return tuple(words)


@dataclass(eq=False)
class Master:
    """The one connection to *target*. `open` it, hand its `options` to every ssh, `close` it.

    If the user's own ssh_config has a master that is up, that is used and stays.
    """

    target: Target
    #: seconds that the machine took to let us in
    spent: float = 0
    #: it was up at least once
    was_up: bool = False
    _failure: Unreachable | None = None
    #: time.monotonic() until which that is the answer
    _until: float = 0
    _is_users: bool = False
    _is_given_up: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _end: Callable[[], object] = lambda: None

    @kept
    def folder(self) -> Path:
        """A private folder, which is removed with the connection, at the latest at the end of this process."""
        with self._lock:
            folder = folder_of_sockets()
            self._end = weakref.finalize(self, _end, folder)
            return folder

    @property
    def path(self) -> Path:
        """The socket of the master (ControlPath)."""
        return self.folder / "master"

    @property
    def is_up(self) -> bool:
        return self._is_users or self.path.exists()

    @property
    def options(self) -> list[str]:
        """The options with which an ssh to the same machine goes by this connection, or by its own if it is gone."""
        words = [f"{name}={value}" for name, value in _OPTIONS.items()]
        if not self._is_users:
            words += [f"ControlPath={self.path}", "ControlMaster=no"]
        return [part for word in words for part in ("-o", word)]

    def open(self) -> None:
        """Connect and log in, unless it is up. If nothing but a person's answer is missing, ask on the terminal.

        Raises Unreachable with the reason in one line, LoginRefused if it is not let in. For _RETRY_SECONDS the
        machine is not tried again then: a run has many rows.
        """
        with self._lock:
            if self.is_up:
                return
            if self._failure is not None and time.monotonic() < self._until:
                raise self._failure
            try:
                self._open()
            except Unreachable as exc:
                self._failure = exc
                self._until = time.monotonic() + _RETRY_SECONDS
                raise
            self.was_up, self._failure = True, None

    def _open(self) -> None:
        self._is_users = self._answers(["-O", "check"])
        if self._is_users:
            return
        try:
            self._log_in()
        except LoginRefused:
            is_batch = _NO_TTY[1] in self.target.options
            if is_batch or not can_ask() or not self._is_let_in_by_a_person():
                raise

    def try_open(self) -> None:
        """Do `open`, unless it never was up and was tried: then each ssh has a connection of its own.

        Raises Unreachable if it was lost, and cannot be made anew.
        """
        with self._lock:
            if self._is_given_up:
                return
            try:
                self.open()
            except Unreachable:
                if self.was_up:
                    raise
                self._is_given_up = True

    def close(self) -> None:
        """Close the connection, and remove the folder of its socket. The user's own stays."""
        with self._lock:
            self._is_given_up = True
            self._end()

    def _words(self, *more: str) -> list[str]:
        limits = [
            part
            for name, value in _OPTIONS.items()
            for part in ("-o", f"{name}={value}")
        ]
        return ["ssh", *limits, *more, *self.target.words, "--", self.target.host]

    def _starting(self, *more: str) -> list[str]:
        """Return the command that logs in and leaves a master behind."""
        return self._words(
            *("-M", "-N", "-T", "-o", f"ControlPath={self.path}"),
            *("-o", f"ControlPersist={_KEPT_SECONDS}"),
            *("-o", "ClearAllForwardings=yes"),
            *more,
        )

    def _answers(self, more: Sequence[str]) -> bool:
        """True if ssh with *more* has the status 0, without going to the machine."""
        try:
            done = child.run_limited(
                self._words(*more), _LOCAL_SECONDS, _MOST, watch=worker.expect_wanted
            )
        except FileNotFoundError as exc:
            raise ReclaimError("there is no ssh here: install openssh-client") from exc
        except (OSError, TimeoutError, OverflowError):
            return False
        return done[0] == 0

    def _log_in(self) -> None:
        """Log in without asking anybody. Raises Unreachable, LoginRefused."""
        argv = self._starting("-v", "-o", "BatchMode=yes")
        worker.expect_wanted()
        process = child.start(argv, environment=child.c_locale())
        said = b""
        with process:
            try:
                for said in self._heard(process):  # noqa: B007 (the last counts)
                    worker.expect_wanted()
                status = process.wait(_LOCAL_SECONDS)
            except BaseException:
                child.end(process)
                raise
        if status != 0 or not self.path.exists():
            raise self._refused(_without_debug(said))

    def _heard(self, process: Popen[bytes]) -> Iterator[bytes]:
        """Yield the messages of ssh so far, now and then. Raises Unreachable once the machine has had its time."""
        left, last = float(LOGIN_SECONDS), time.monotonic()
        try:
            for _, messages in child.outputs(process, math.inf, _MOST):
                now = time.monotonic()
                if not _is_asked(messages):
                    left -= now - last
                last, self.spent = now, LOGIN_SECONDS - left
                if left <= 0:
                    raise Unreachable(
                        f"ssh to {self.target}: no login within {LOGIN_SECONDS} s: the machine accepts connections, "
                        "and does not answer them"
                    )
                yield bytes(messages)
        except OverflowError:
            child.end(process)

    def _is_let_in_by_a_person(self) -> bool:
        """True if ssh logs in once it may ask on the terminal. ssh's own limits hold, and none while it asks."""
        with _asking:
            _announce(f"ssh to {self.target} asks:")
            with Popen(self._starting(), stdin=DEVNULL, stdout=DEVNULL) as process:
                try:
                    while process.poll() is None:
                        worker.sleep(_LOOK_SECONDS)
                except BaseException:
                    process.terminate()
                    raise
            return process.returncode == 0 and self.path.exists()

    # Why it is not let in

    def _refused(self, said: str) -> Unreachable:
        """Return the error for the messages of an ssh that could not log in."""
        where = f"ssh to {self.target}"
        if "HAS CHANGED" in said or "REVOKED" in said:
            return Unreachable(f"{where}: {self._other_key(said)}")
        if "Host key verification failed" in said or "host key is known for" in said:
            return LoginRefused(f"{where}: {self._unknown_key(said)}")
        ending = last_words(said, most=1)
        for sign in ("Permission denied", "Too many authentication failures"):
            if sign in said:
                return LoginRefused(
                    f"{where}: the login is refused: {ending}; give it a key of yours (ssh-copy-id), or name the user "
                    "or the key (ssh_config(5))"
                )
        if "kex_exchange_identification" in said and "onnection" in ending:
            ending += (
                "; its sshd may hold this address off for a while (MaxStartups, "
                "PerSourcePenalties in sshd_config(5))"
            )
        return Unreachable(f"{where}: {ending}")

    def _other_key(self, said: str) -> str:
        name = _found(r"Host key for (\S+) has changed", said) or self.target.known_as
        place = re.search(r"Offending \S+ key in (.+?):(\d+)\s*$", said, re.MULTILINE)
        file = place[1] if place else "known_hosts"
        line = f", line {place[2]}" if place else ""
        option = f"-f {shlex.quote(file)} " if place else ""
        return (
            f"its host key is another than the one that is known ({printable(file)}{line}): another machine answers "
            "there, or it was set up anew. If you know that it was: "
            f"ssh-keygen {option}-R {shlex.quote(name)}, then log in once by hand and compare the new key"
        )

    def _unknown_key(self, said: str) -> str:
        name = _found(r"host key is known for (\S+) and", said) or self.target.known_as
        by_hand = shlex.join(["ssh", *self.target.words, self.target.host])
        return (
            f"its host key is not known as {printable(name)}: log in once by hand ({by_hand}), and accept the key if "
            "it is the one that ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub shows on its own console"
        )

    # For libvirt

    @kept
    def _program(self) -> str | None:
        """A program that is ssh with our options; None if every place for it forbids to execute files."""
        ssh = shutil.which("ssh") or "ssh"
        line = shlex.join([ssh, *self.options, *self.target.options])
        for place in (self.folder, Path("/var/tmp"), Path.home()):  # noqa: S108 (mkdtemp's folder is ours alone)
            with suppress(OSError):
                folder = place
                if place != self.folder:
                    folder = Path(tempfile.mkdtemp(prefix=".reclaim-", dir=place))
                    weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
                program = folder / "ssh"
                program.write_text(f'#!/bin/sh\nexec {line} "$@"\n', encoding="utf-8")
                program.chmod(0o700)
                if os.access(program, os.X_OK):
                    return str(program)
        return None

    def address(self, uri: str) -> str:
        """Return *uri* for libvirt, so that its ssh goes by this connection. It is for no other eyes."""
        if _names_a_command(uri) or self._program is None:
            return uri
        return f"{uri}{'&' if '?' in uri else '?'}command={quote(self._program)}"


def _names_a_command(uri: str) -> bool:
    settings = re.split("[&;]", urlsplit(uri).query)
    return any(
        unquote(setting.partition("=")[0]).lower() == "command" for setting in settings
    )


def _end(folder: Path) -> None:
    """Close the connection whose socket is in *folder*, if it is up, and remove the folder."""
    path = folder / "master"
    if path.exists():
        control = ["-o", f"ControlPath={path}", "-O", "exit", "--", "master"]
        argv = ["ssh", "-F", "/dev/null", *control]
        with suppress(OSError, TimeoutError, OverflowError):
            child.run_limited(argv, _LOCAL_SECONDS, _MOST)
    shutil.rmtree(folder, ignore_errors=True)


def _is_asked(messages: bytes | bytearray) -> bool:
    """True if the last of ssh's *messages* shows that it waits for a person or an agent, and not for the machine."""
    last = messages.rstrip().rpartition(b"\n")[2]
    return any(sign in last for sign in _ASKS_AGENT)


def _without_debug(said: bytes) -> str:
    """Return ssh's messages without those that -v adds."""
    lines = said.decode("utf-8", "replace").splitlines()
    return "\n".join(
        line for line in lines if not line.startswith(("debug1: ", "OpenSSH_"))
    )


def _found(pattern: str, said: str) -> str:
    match = re.search(pattern, said)
    return match[1] if match else ""


def can_ask() -> bool:
    """True if ssh can ask a person: on a terminal, or by the program in SSH_ASKPASS (ssh(1))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        has_display = os.environ.get("DISPLAY") or os.environ.get("SSH_ASKPASS_REQUIRE")
        return bool(os.environ.get("SSH_ASKPASS") and has_display)
    return True


def _announce(text: str) -> None:
    """Print a line before ssh asks: of several machines a passphrase's question names none."""
    with suppress(OSError):
        sys.stderr.write(f"reclaim: {printable(text)}\n")
        sys.stderr.flush()
