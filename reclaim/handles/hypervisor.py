"""A hypervisor: its guests, and how it is reached."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl, urlsplit

import libvirt
import testinfra
from testinfra.backend import parse_hostspec
from testinfra.backend.base import CommandResult
from testinfra.backend.local import LocalBackend
from testinfra.backend.ssh import SshBackend
from testinfra.host import Host

from reclaim.base.cached import kept
from reclaim.base.errors import ProbeError, ReclaimError, Unreachable
from reclaim.base.text import libvirt_words, printable
from reclaim.handles.clock import this_machines
from reclaim.handles.connection import (
    SSH_TRANSPORTS,
    is_by_ssh,
    is_remote,
    opened,
    seconds_for,
)
from reclaim.handles.guest import Guest
from reclaim.handles.master import (
    Master,
    Target,
    options_of_uri,
    target_of_shell,
)
from reclaim.handles.node import Node
from reclaim.inventory import Inventory
from reclaim.processes import binding, child, worker

#: variables that libvirt itself reads for the default connection
_URI_VARIABLES = ("LIBVIRT_DEFAULT_URI", "VIRSH_DEFAULT_CONNECT_URI")
#: names by which --hosts means this machine
_THIS_MACHINE = ("localhost", "local")
#: testinfra's backends that go by ssh
_BY_SSH = ("ssh", "paramiko")
#: the parameters of a word of --hosts by ssh, as testinfra has them
_PARAMETERS = (
    "ssh_config",
    "ssh_identity_file",
    "sudo",
    "sudo_user",
    "timeout",
    "controlpersist",
)
#: libvirt's errors about a URI
_WRONG_URI = (
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_INVALID_ARG,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
)
DEFAULT_URI = "qemu:///system"
T = TypeVar("T")


@dataclass(eq=False, repr=False)
class Hypervisor(Node):
    """One hypervisor with its guests."""

    guests: list[Guest] = field(default_factory=list)
    #: the word of --hosts that it was reached by
    host: str | None = None

    def close(self) -> None:
        """Hang up: the guests' connections by ssh, then libvirt's, then the one that these went by."""
        for guest in self.guests:
            guest.hang_up()
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)
        try:
            self.connection.close()
        finally:
            _close_master(self.shell)

    def _reconnected(self, domains: dict[str, libvirt.virDomain]) -> None:
        for guest in self.guests:
            guest.domain = domains.get(guest.uuid, guest.domain)
            guest.forget()

    @kept
    def guest_names(self) -> frozenset[str]:
        return frozenset(guest.name for guest in self.guests)

    def has(self, glob: str) -> bool:
        """True if a guest has a name that matches *glob*."""
        return any(fnmatch.fnmatchcase(name, glob) for name in self.guest_names)

    def select(self, globs: Sequence[str]) -> list[Guest]:
        """Return the guests that match one of *globs*, or all if there are none, without those of a glob behind "!"."""
        wanted = [glob for glob in globs if not glob.startswith("!")]
        excluded = [glob.removeprefix("!") for glob in globs if glob.startswith("!")]
        return [
            guest
            for guest in self.guests
            if (not wanted or _matches(guest, wanted)) and not _matches(guest, excluded)
        ]

    def known_domains(self) -> dict[str, libvirt.virDomain]:
        """Return the domains of its guests, by UUID."""
        return {guest.uuid: guest.domain for guest in self.guests}


def _matches(guest: Guest, globs: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(guest.name, glob) for glob in globs)


class _NoConnection(libvirt.virConnect):  # type: ignore[misc]
    """The connection that there is not: each call of libvirt raises libvirtError."""

    def __init__(self) -> None:
        self._o = None


@dataclass(eq=False, repr=False)
class Unreached(Hypervisor):
    """A hypervisor that could not be reached. It has no guests, and nothing is asked of it."""

    #: the reason, in one line
    why: str = ""

    @kept
    def hostname(self) -> str | None:
        return None  # only libvirt knows it

    @kept
    def name(self) -> str:
        return place_of(self.host or self.uri, port=False)

    @property
    def identity(self) -> str:
        return self.uri

    @property
    def is_test_driver(self) -> bool:
        return self.uri.startswith("test:")

    @property
    def is_local(self) -> bool:
        return not is_remote(self.uri)

    @property
    def is_cut_off(self) -> bool:
        return False

    @property
    def libvirt_version(self) -> str:
        return ""

    @property
    def qemu_version(self) -> None:
        return None

    def now(self) -> datetime:
        return this_machines()

    def close(self) -> None:
        """Do nothing: there is no connection."""


class _LocalShell(LocalBackend):  # type: ignore[misc]
    """testinfra's local backend. The programs that it started end when this process is stopped."""

    def run_local(self, command: str, *args: str) -> CommandResult:
        """Run *command*. Raises ProbeError if no program can start: too many open files or processes, no memory."""
        line = self.encode(self.quote(command, *args))
        try:
            status, stdout, stderr = child.run(line)
        except OSError as exc:
            raise ProbeError(f"no program can be started: {exc.strerror}") from exc
        return self.result(status, line, stdout, stderr)


class _RemoteShell(SshBackend):  # type: ignore[misc]
    """testinfra's ssh backend; an error of ssh itself becomes a ProbeError.

    Its commands go by the master, if there is one. Else each stays in this session, for ssh may ask for a passphrase
    on the terminal.
    """

    def __init__(self, hostspec: str, **options: Any) -> None:
        super().__init__(hostspec, **options)
        # ssh asks for a password on the terminal, or sshpass answers: then there is a connection for each command
        self.master = None if self.host.password else Master(target_of_shell(self))

    @property
    def encoding(self) -> str:
        return "utf-8"  # testinfra would start a python3 there to find out

    def run_local(self, command: str, *args: str) -> CommandResult:
        command = f"exec {command}"
        if self.master is not None and self.master.is_up:
            line = self.encode(self.quote(command, *args))
            try:
                status, stdout, stderr = child.run(line)
            except OSError as exc:
                raise ProbeError(f"ssh cannot be started: {exc.strerror}") from exc
            return self.result(status, line, stdout, stderr)
        known = child.of_ours()
        try:
            return super().run_local(command, *args)
        except BaseException:
            child.end_of_thread(threading.get_native_id(), known)
            raise

    def hang_up(self) -> None:
        """Close the connection, if there is one."""
        if self.master is not None:
            self.master.close()

    def run_ssh(self, command: str) -> CommandResult:
        """Run *command*. Raises ProbeError if ssh does not get there, or breaks off (its own status is 255)."""
        if self.master is not None:
            try:
                self.master.try_open()
            except Unreachable as exc:
                raise ProbeError(str(exc)) from exc
            if self.master.is_up:
                self.ssh_extra_args = shlex.join(self.master.options)
        try:
            return super().run_ssh(command)
        except RuntimeError as exc:
            result: CommandResult = exc.args[0]
            message = result.stderr_bytes.decode("utf-8", errors="replace").split()
            raise ProbeError(
                f"ssh to {self.hostname}: {printable(' '.join(message)) or 'it broke off'}"
            ) from exc


def _shell(host: str) -> Host:
    """Return a shell at *host*, which is written as testinfra writes it; a bare name is reached by ssh."""
    if host in _THIS_MACHINE:
        host = "local://"
    elif "://" not in host:
        host = f"ssh://{host}"
    name, options = parse_hostspec(host)
    kind = {
        backend_class.NAME: backend_class
        for backend_class in (_LocalShell, _RemoteShell)
    }.get(options.pop("connection", None))
    if kind is None:
        return testinfra.get_host(host)
    backend = kind(name, **options)
    shell = Host(backend)
    backend.set_host(shell)
    return shell


def connect(
    uri: str | None, host: str | None, inventory: Inventory, *, readonly: bool = False
) -> Hypervisor:
    """Open the hypervisor at *uri*, with a shell on *host* (testinfra's words); each follows from the other.

    Raises ReclaimError if the two are wrong, and Unreachable if nobody answers there within CONNECT_SECONDS. The time
    in which ssh asks a person does not count, and a hypervisor on this machine has all the time it takes.
    """
    uri = _uri(uri, host)
    shell = None
    if host is not None or is_remote(uri):
        shell = _shell_at(host or host_of(uri))
    binding.prepare()
    master = _master_of(shell, uri)
    try:
        hypervisor = _connected(uri, shell, master, inventory, readonly=readonly)
    except BaseException:
        _close_master(shell)
        raise
    hypervisor.host = host
    hypervisor.inventory = inventory.on_hypervisor(hypervisor.hostname or "")
    return hypervisor


def unreached(
    uri: str | None, host: str, inventory: Inventory, why: Unreachable
) -> Unreached:
    """Return the hypervisor that `connect` did not reach with these."""
    uri = _uri(uri, host)
    found = Unreached(uri, _NoConnection(), _shell_at(host), inventory)
    found.host, found.why = host, str(why)
    return found


def _uri(uri: str | None, host: str | None) -> str:
    """Return the URI that is to be opened. Raises ReclaimError if it, or *host*, names no machine."""
    if host is not None:
        _expect_machine(host)
    uri = uri or (uri_of(host) if host else default_uri())
    if is_remote(uri) and not _named(uri):
        raise ReclaimError(f"{uri}: it names no host: give qemu+ssh://user@host/system")
    return uri


def _shell_at(host: str) -> Host:
    """Return a shell at *host*, which nothing is asked of yet. Raises ReclaimError if testinfra knows no such way."""
    try:
        return _shell(host)
    except (RuntimeError, ValueError, ImportError) as exc:
        raise ReclaimError(f"--hosts {host}: {exc}") from exc


def _connected(
    uri: str,
    shell: Host | None,
    master: Master | None,
    inventory: Inventory,
    *,
    readonly: bool,
) -> Hypervisor:
    """Log in by ssh if libvirt goes by it, and connect to libvirt. Raises Unreachable."""
    address = uri
    if master is not None:
        master.open()
        address = master.address(uri)
    seconds = seconds_for(uri, address)
    if master is not None and seconds is not None:
        seconds -= int(master.spent)
    work = partial(_opened, uri, address, shell, inventory, readonly=readonly)
    try:
        hypervisor = worker.within(seconds, work)
    except TimeoutError as exc:
        raise Unreachable(f"{uri}: {_why_silent(master, seconds)}") from exc
    hypervisor.master = master
    return hypervisor


def _why_silent(master: Master | None, seconds: float | None) -> str:
    if master is None:
        return f"libvirt does not answer within {seconds} s"
    return f"ssh lets us in, and libvirt does not answer within {seconds} s"


def _master_of(shell: Host | None, uri: str) -> Master | None:
    """Return the connection that libvirt's ssh shares with *shell*; None if libvirt goes another way."""
    if shell is None or not is_by_ssh(uri):
        return None
    master = getattr(shell.backend, "master", None)
    if master is None or _place_of_uri(uri) != _place(master.target):
        return None
    master.target = replace(
        master.target, options=(*master.target.options, *options_of_uri(uri))
    )
    return cast("Master", master)


def _place_of_uri(uri: str) -> tuple[str | None, ...]:
    return _place(target_of_shell(SshBackend(urlsplit(uri).netloc)))


def _place(target: Target) -> tuple[str | None, ...]:
    return target.host.lower(), target.user, target.port


def _close_master(shell: Host | None) -> None:
    if shell is not None and isinstance(shell.backend, _RemoteShell):
        shell.backend.hang_up()


def _opened(
    uri: str,
    address: str,
    shell: Host | None,
    inventory: Inventory,
    *,
    readonly: bool,
) -> Hypervisor:
    """Connect to libvirt at *uri*, by *address*, and ask for what a run wants to know of it. Raises Unreachable."""
    try:
        connection = opened(uri, address, readonly=readonly)
    except libvirt.libvirtError as exc:
        wrong = exc.get_error_code() in _WRONG_URI
        raise (ReclaimError if wrong else Unreachable)(
            f"{uri}: cannot connect: {libvirt_words(exc)}{_hint(uri, exc)}"
        ) from exc
    if shell is None:
        # which follows libvirt.conf's uri_aliases
        shell = _shell_at(
            host_of(_answer(uri, "give its host name", connection.getURI))
        )
    hypervisor = Hypervisor(uri, connection, shell, inventory, readonly)
    _answer(uri, "list the guests", partial(_list_guests, hypervisor))
    _answer(uri, "describe itself", hypervisor.introduce)
    return hypervisor


def _hint(uri: str, exc: libvirt.libvirtError) -> str:
    """Return a question that helps if no daemon answered, "" if the URI is wrong."""
    # libvirt's test driver has no daemon
    if uri.startswith("test:") or exc.get_error_code() in _WRONG_URI:
        return ""
    if uri.partition("?")[0].endswith("/session"):
        return " (libvirt starts a daemon of your own user for it: is libvirtd or virtqemud installed there?)"
    return (
        " (is libvirtd or virtqemud running there, and may you use it? "
        "Root may, and the members of the group libvirt)"
    )


def _expect_machine(host: str) -> None:
    """Raise ReclaimError if *host*, written as testinfra writes it, names no machine: ssh would take localhost."""
    scheme, separator, _ = host.partition("://")
    if separator and scheme not in _BY_SSH:
        return  # of this machine, or of a kind that `uri_of` and testinfra judge
    url = host if separator else f"ssh://{host}"
    if not _named(url) or not host.isprintable():
        raise ReclaimError(f"--hosts {host!r}: it names no host: give ssh://user@host")
    _expect_known(host, url)


def _expect_known(host: str, url: str) -> None:
    """Raise ReclaimError for parts of *url* that nobody would heed: it might lead to another machine than was meant."""
    parts = urlsplit(url)
    if parts.path not in ("", "/") or parts.fragment:
        raise ReclaimError(
            f"--hosts {host}: {parts.path or parts.fragment} means nothing there: give ssh://user@host"
        )
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _PARAMETERS or not value:
            fault = "has no value" if name in _PARAMETERS else "is no parameter"
            raise ReclaimError(
                f"--hosts {host}: {name} {fault} (there are: {', '.join(_PARAMETERS)})"
            )


def _named(url: str) -> str:
    """Return the host that *url* names; "" if it names none, or cannot be parsed."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _list_guests(hypervisor: Hypervisor) -> None:
    """Fill in the guests. Raises libvirtError."""
    for domain in hypervisor.connection.listAllDomains(0):
        hypervisor.guests.append(
            Guest(hypervisor, domain, domain.name(), domain.UUIDString())
        )
    hypervisor.guests.sort(key=lambda guest: guest.name)


def _answer(uri: str, task: str, ask: Callable[[], T]) -> T:
    """Return the result of *ask*. Raises Unreachable if libvirt cannot do the *task*, as when its daemon ends."""
    try:
        return ask()
    except libvirt.libvirtError as exc:
        raise Unreachable(
            f"{uri}: libvirt does not {task}: {libvirt_words(exc)}"
        ) from exc


def place_of(host: str, *, port: bool = True) -> str:
    """Return the name or address in a word of --hosts, as it is written there, with its port if it has one."""
    scheme, separator, rest = host.partition("://")
    place = re.split(r"[/?]", rest if separator else host, maxsplit=1)[0]
    place = place.rpartition("@")[2] or scheme
    if port:
        return place
    name, separator, number = place.rpartition(":")
    is_port = separator and number.isdecimal() and not name.endswith(":")
    return (name if is_port else place).strip("[]")


def default_uri() -> str:
    return next(
        (os.environ[name] for name in _URI_VARIABLES if os.environ.get(name)),
        DEFAULT_URI,
    )


def uri_of(host: str) -> str:
    """Return the libvirt URI that follows from a testinfra host (`ssh://root@kvm1`).

    Raises ReclaimError for a backend that libvirt cannot follow.
    """
    scheme, separator, rest = host.partition("://")
    if scheme == "local" or host in _THIS_MACHINE:
        return default_uri()
    if not separator:
        rest = host
    if separator and scheme not in _BY_SSH:
        raise ReclaimError(
            f"--hosts {host}: reclaim makes no libvirt URI of that; give ssh://user@host, or --uri as well"
        )
    return f"qemu+ssh://{re.split('[/?]', rest, maxsplit=1)[0]}/system"


def host_of(uri: str) -> str:
    """Return the testinfra host that follows from a libvirt URI.

    If the URI names a host, libvirt is there, by TLS if need be. A port is ssh's only if ssh is the transport.
    libvirt.org/uri.html.
    """
    parts = urlsplit(uri)
    host = parts.hostname
    if not host:
        return "local://"
    if parts.scheme.partition("+")[2] in SSH_TRANSPORTS:
        return f"ssh://{parts.netloc}"
    return f"ssh://[{host}]" if ":" in host else f"ssh://{host}"
