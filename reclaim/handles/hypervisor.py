"""A libvirt connection and a shell on the same machine."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import libvirt
import testinfra
from testinfra.backend import parse_hostspec
from testinfra.backend.base import CommandResult
from testinfra.backend.local import LocalBackend
from testinfra.backend.ssh import SshBackend
from testinfra.host import Host

from reclaim.base.errors import ProbeError, ReclaimError
from reclaim.base.text import libvirt_words, printable
from reclaim.changes import live_update
from reclaim.definition.domain import Definition, Element, parse_xml
from reclaim.definition.machine_type import OfferedMachine
from reclaim.handles import ssh
from reclaim.handles.guest import Guest
from reclaim.inventory import Inventory
from reclaim.processes import binding, child

#: what libvirt itself reads for the default connection
_URI_VARIABLES = ("LIBVIRT_DEFAULT_URI", "VIRSH_DEFAULT_CONNECT_URI")
_SSH_TRANSPORTS = ("ssh", "libssh", "libssh2")
DEFAULT_URI = "qemu:///system"
_PATHS_AT_ONCE = 200
#: its words for kinds of files are those of the locale
_STAT = "LC_ALL=C stat --dereference"


T = TypeVar("T")


@dataclass(eq=False, repr=False)
class Hypervisor:
    """One hypervisor: its libvirt connection, its guests, its shell, its storage."""

    uri: str
    connection: libvirt.virConnect
    shell: Host
    inventory: Inventory
    readonly: bool = False
    guests: list[Guest] = field(default_factory=list)
    #: told what is waited for, one short line at a time
    progress: Callable[[str], None] = lambda _text: None
    _allocated_and_size: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<hypervisor {self.uri}>"

    @cached_property
    def name(self) -> str:
        """What people call the machine; the test driver is no machine."""
        return "test-driver" if self.is_test_driver else str(self.connection.getHostname())

    @property
    def folder(self) -> str:
        """`name` as a folder below reports/."""
        return re.sub(r"[^A-Za-z0-9._-]", "_", self.name).lstrip(".") or "_"

    @cached_property
    def identity(self) -> str:
        """What it is, whichever URI leads there: `qemu:///system` and `qemu+ssh://localhost/system` are one.

        A URI of the test driver is a hypervisor of its own, and so is the session of each user.
        """
        parts = urlsplit(self.uri)
        if self.is_test_driver or parts.path != "/system":
            return f"{os.getuid()} {self.uri}"
        sockets = [one for one in parts.query.split("&") if one.startswith("socket=")]  # another daemon
        host = self._capabilities.findtext("host/uuid") or ""
        return " ".join([str(self.connection.getType()), host, self.name, *sockets])

    def introduce(self) -> None:
        """Ask what the run tells of the hypervisor itself: it is known then, whatever becomes of libvirt's daemon.

        Raises libvirtError.
        """
        _ = self.name, self.libvirt_version, self.qemu_version, self.identity

    @cached_property
    def is_test_driver(self) -> bool:
        return str(self.connection.getType()).lower() == "test"

    @property
    def is_local(self) -> bool:
        """Is its shell on the machine that this runs on?"""
        return bool(self.shell.backend.NAME == "local")

    @cached_property
    def sockets(self) -> Path:
        """A private folder for the sockets of connections by ssh."""
        return ssh.folder_of_sockets()

    def close(self) -> None:
        """Hang up: the guests' connections by ssh, then libvirt's."""
        for guest in self.guests:
            guest.hang_up()
        if "sockets" in self.__dict__:
            shutil.rmtree(self.sockets, ignore_errors=True)
        self.connection.close()

    @cached_property
    def refused_live(self) -> dict[str, str]:
        """What libvirt does not do to a running guest, in its words: known of its version, or learned by asking."""
        return live_update.known_refusals(self.connection.getLibVersion())

    @cached_property
    def libvirt_version(self) -> str:
        return dotted(self.connection.getLibVersion())

    @cached_property
    def qemu_version(self) -> str | None:
        """The default emulator's version; None on a driver that has none."""
        return None if self.is_test_driver else dotted(self.connection.getVersion())

    @cached_property
    def machines(self) -> dict[tuple[str, str], list[OfferedMachine]]:
        """(architecture, emulator) -> the machine types its QEMU offers, under canonical names."""
        found: dict[tuple[str, str], list[OfferedMachine]] = {}
        for key, machine in self._listed_machines:
            one = OfferedMachine(machine.get("canonical") or machine.text or "", machine.get("deprecated") == "yes")
            offered = found.setdefault(key, [])
            if one not in offered:
                offered.append(one)
        return found

    @property
    def is_cut_off(self) -> bool:
        """Has libvirt hung up: did its daemon end, or the network? Known once a call has failed."""
        return not self.connection.isAlive()

    def reconnect(self, seconds: float) -> None:
        """Connect anew, trying for *seconds*; every guest has its domain on the new connection.

        Raises ProbeError where libvirt does not answer.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                connection = libvirt.openReadOnly(self.uri) if self.readonly else libvirt.open(self.uri)
                domains = {domain.UUIDString(): domain for domain in connection.listAllDomains(0)}
                break
            except libvirt.libvirtError as exc:
                if time.monotonic() > deadline:
                    raise ProbeError(f"{self.uri}: libvirt hung up: {libvirt_words(exc)}") from exc
                time.sleep(1)
        self.connection = connection
        for guest in self.guests:
            guest.domain = domains.get(guest.uuid, guest.domain)
            guest.forget()

    #: stands for the hypervisor where a guest has its UUID (journal)
    uuid = ""

    def forget(self, *, inside: bool = True) -> None:
        """Nothing is kept of what files hold: a copy is read anew when it has changed."""

    @cached_property
    def machine_aliases(self) -> dict[tuple[str, str], dict[str, str]]:
        """(architecture, emulator) -> what its QEMU means by `pc`, `q35` and the like."""
        found: dict[tuple[str, str], dict[str, str]] = {}
        for key, machine in self._listed_machines:
            if canonical := machine.get("canonical"):
                found.setdefault(key, {})[machine.text or ""] = canonical
        return found

    @cached_property
    def _listed_machines(self) -> list[tuple[tuple[str, str], Element]]:
        return [
            ((arch.get("name", ""), arch.findtext("emulator") or ""), machine)
            for arch in self._capabilities.iterfind("guest/arch")
            for machine in arch.iter("machine")
        ]

    @cached_property
    def _capabilities(self) -> Element:
        return parse_xml(self.connection.getCapabilities(), f"{self.uri}: capabilities")

    def offered(self, definition: Definition) -> list[OfferedMachine]:
        """The machine types that the emulator of *definition* offers; none where libvirt does not know it."""
        return _of_emulator(self.machines, definition) or []

    def canonical_machine(self, definition: Definition) -> str | None:
        """The machine type of *definition*; an alias as its emulator means it, where that is known."""
        name = definition.machine
        return (_of_emulator(self.machine_aliases, definition) or {}).get(name, name) if name else None

    def is_fully_allocated(self, path: str) -> bool:
        """Does the file system hold every block of the file at *path*? No where it cannot be looked at."""
        if self.is_test_driver:
            return False
        if path not in self._allocated_and_size:
            self._allocated_and_size[path] = self._stat(path)
        allocated, size = self._allocated_and_size[path]
        return allocated >= size > 0

    def _stat(self, path: str) -> tuple[int, int]:
        """Allocated bytes and length of the file at *path*; zeros where there is none."""
        if self.shell.backend.get_connection_type() == "local":
            try:
                found = os.stat(path)  # noqa: PTH116 (the path is what a definition says, not ours)
            except (OSError, ValueError):
                return 0, 0
            return (found.st_blocks * 512, found.st_size) if stat.S_ISREG(found.st_mode) else (0, 0)
        result = self.shell.run(f"{_STAT} --printf '%%b %%B %%s %%F' -- %s", path)
        if result.rc != 0:
            return 0, 0
        blocks, unit, size, kind = result.stdout.split(" ", 3)
        return (int(blocks) * int(unit), int(size)) if kind.startswith("regular") else (0, 0)

    def allocated(self, path: str) -> int:
        """Bytes that the file system holds for *path* (`st_blocks` * 512).

        Raises ProbeError where the file cannot be looked at.
        """
        result = self.shell.run(f"{_STAT} --printf '%%b %%B %%F' -- %s", path)
        if result.rc != 0:
            raise ProbeError(f"{path}: {' '.join(result.stderr.split()) or 'stat failed'}")
        blocks, size, kind = result.stdout.split(" ", 2)
        if not kind.startswith("regular"):
            raise ProbeError(f"{path}: a {kind}, not a file: its blocks say nothing about what is used")
        return int(blocks) * int(size)

    def allocated_each(self, paths: list[str]) -> dict[str, int]:
        """Bytes that the file systems hold for each of *paths* that is a file that can be looked at."""
        found: dict[str, int] = {}
        for start in range(0, len(paths), _PATHS_AT_ONCE):
            chunk = paths[start : start + _PATHS_AT_ONCE]
            command = f"{_STAT} --printf '%%b %%B %%F\\t%%n\\0' -- " + " ".join(["%s"] * len(chunk))
            try:
                listed = self.shell.run(command, *chunk).stdout
            except ProbeError:
                continue
            for one in listed.split("\0")[:-1]:
                facts, _, path = one.partition("\t")
                blocks, size, kind = facts.split(" ", 2)
                if kind.startswith("regular"):
                    found[path] = int(blocks) * int(size)
        return found

    def select(self, globs: list[str]) -> list[Guest]:
        """The guests that match one of *globs* (all where there is none).

        Raises ReclaimError naming a glob that no guest matches.
        """
        for glob in globs:
            if not any(fnmatch.fnmatchcase(guest.name, glob) for guest in self.guests):
                known = ", ".join(guest.name for guest in self.guests[:10]) or "none"
                raise ReclaimError(f"--guests {glob!r}: no guest of {self.uri} is called so (guests: {known})")
        if not globs:
            return list(self.guests)
        return [guest for guest in self.guests if any(fnmatch.fnmatchcase(guest.name, glob) for glob in globs)]


class _LocalShell(LocalBackend):  # type: ignore[misc]
    """testinfra's local backend; what it has started ends when this process is told to stop."""

    def run_local(self, command: str, *args: str) -> CommandResult:
        """Raises ProbeError where nothing can be started: too many open files or processes, no memory."""
        words = self.encode(self.quote(command, *args))
        try:
            status, stdout, stderr = child.run(words)
        except OSError as exc:
            raise ProbeError(f"no program can be started: {exc.strerror}") from exc
        return self.result(status, words, stdout, stderr)


class _RemoteShell(SshBackend):  # type: ignore[misc]
    """testinfra's ssh backend; where ssh itself fails nobody could look, which is no fault of ours.

    It stays in this session, for ssh may ask for a passphrase on the terminal.
    """

    def run_local(self, command: str, *args: str) -> CommandResult:
        known = child.of_ours()
        try:
            return super().run_local(f"exec {command}", *args)
        except BaseException:
            child.end_new(known)
            raise

    def run_ssh(self, command: str) -> CommandResult:
        """Raises ProbeError where ssh does not get there, or breaks off (its own status is 255)."""
        try:
            return super().run_ssh(command)
        except RuntimeError as exc:
            said: CommandResult = exc.args[0]
            words = said.stderr_bytes.decode("utf-8", errors="replace").split()
            raise ProbeError(f"ssh to {self.hostname}: {printable(' '.join(words)) or 'it broke off'}") from exc


def _shell(host: str) -> Host:
    """A shell at *host*, in testinfra's words."""
    name, options = parse_hostspec(host)
    kind = {one.NAME: one for one in (_LocalShell, _RemoteShell)}.get(options.pop("connection", None))
    if kind is None:
        return testinfra.get_host(host)
    backend = kind(name, **options)
    shell = Host(backend)
    backend.set_host(shell)
    return shell


def connect(uri: str | None, host: str | None, inventory: Inventory, *, readonly: bool = False) -> Hypervisor:
    """Open the hypervisor at *uri*, with a shell on *host* (testinfra's words); each follows from the other.

    Raises ReclaimError where it cannot be reached.
    """
    uri = uri or (uri_of(host) if host else default_uri())
    binding.prepare()
    try:
        connection = libvirt.openReadOnly(uri) if readonly else libvirt.open(uri)
    except libvirt.libvirtError as exc:
        raise ReclaimError(
            f"{uri}: cannot connect: {libvirt_words(exc)} (is libvirtd running there, and may you use it?)"
        ) from exc
    try:
        # which follows libvirt.conf's uri_aliases
        shell = _shell(host or host_of(_answer(uri, "say where it is", connection.getURI)))
    except (RuntimeError, ValueError, ImportError) as exc:
        raise ReclaimError(f"--hosts {host}: {exc}") from exc
    hypervisor = Hypervisor(uri, connection, shell, inventory, readonly)
    _answer(uri, "list the guests", partial(_list_guests, hypervisor))
    _answer(uri, "say what it is", hypervisor.introduce)
    return hypervisor


def _list_guests(hypervisor: Hypervisor) -> None:
    """Fill in the guests. Raises libvirtError."""
    for domain in hypervisor.connection.listAllDomains(0):
        hypervisor.guests.append(Guest(hypervisor, domain, domain.name(), domain.UUIDString()))
    hypervisor.guests.sort(key=lambda guest: guest.name)


def _answer(uri: str, what: str, ask: Callable[[], T]) -> T:
    """What *ask* returns. Raises ReclaimError where libvirt cannot do *what*, as where its daemon ends just then."""
    try:
        return ask()
    except libvirt.libvirtError as exc:
        raise ReclaimError(f"{uri}: libvirt does not {what}: {libvirt_words(exc)}") from exc


def _of_emulator(found: dict[tuple[str, str], T], definition: Definition) -> T | None:
    """What is known of the emulator of *definition*, under its architecture or another.

    libvirt lists qemu-system-x86_64 under i686 only where there is no qemu-system-i386; the binary
    and its machine types are the same.
    """
    if not found:
        return None
    emulator = definition.emulator or ""
    exact = found.get((definition.arch or "", emulator))
    return exact or next((value for (_arch, path), value in found.items() if emulator and path == emulator), None)


def default_uri() -> str:
    return next((os.environ[name] for name in _URI_VARIABLES if os.environ.get(name)), DEFAULT_URI)


def uri_of(host: str) -> str:
    """The libvirt URI that follows from a testinfra host (`ssh://root@kvm1`).

    Raises ReclaimError for a backend that libvirt cannot follow.
    """
    scheme, separator, rest = host.partition("://")
    if scheme == "local" or host in ("localhost", "local"):
        return default_uri()
    if not separator:
        rest = host
    if separator and scheme not in ("ssh", "paramiko"):
        raise ReclaimError(f"--hosts {host}: libvirt cannot follow there; give ssh://user@host, or --uri as well")
    return f"qemu+ssh://{rest.partition('?')[0]}/system"


def host_of(uri: str) -> str:
    """The testinfra host that follows from a libvirt URI: where it names a host, libvirt is there, by TLS if need be.

    libvirt.org/uri.html. A port is ssh's only where ssh is the transport.
    """
    parts = urlsplit(uri)
    if not parts.hostname:
        return "local://"
    if parts.scheme.partition("+")[2] in _SSH_TRANSPORTS:
        return f"ssh://{parts.netloc}"
    return f"ssh://[{parts.hostname}]" if ":" in parts.hostname else f"ssh://{parts.hostname}"


def dotted(number: int) -> str:
    """libvirt's 9000000 as "9.0.0"."""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
