"""The machine that guests run on, as libvirt calls it: a connection, a shell, its storage. It knows no guest."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import libvirt
from testinfra.host import Host

from reclaim.base.cached import kept
from reclaim.base.errors import ProbeError, Unreachable
from reclaim.base.text import dotted, last_words, libvirt_words
from reclaim.definition import firmware, machine_type
from reclaim.definition.domain import Definition, Element, parse_xml
from reclaim.definition.machine_type import OfferedMachine
from reclaim.handles import refusals
from reclaim.handles.clock import Clock, clock_of
from reclaim.handles.connection import CONNECT_SECONDS, opened, seconds_for
from reclaim.handles.master import Master, folder_of_sockets
from reclaim.inventory import Inventory
from reclaim.processes import worker

_PATHS_AT_ONCE = 200
#: its words for kinds of files are those of the locale
_STAT = "LC_ALL=C stat --dereference"
#: `st_blocks`, the bytes of one of these, `st_size`, `st_dev`, the kind of the file
_FORMAT = "%%b %%B %%s %%d %%F"

#: limits in seconds grow by this at most
_MOST_STRAIN = 4

#: errors of a libvirt that is not to be asked about an emulator: its driver has none, or the connection is read-only
_NOT_ASKED = (
    libvirt.VIR_ERR_NO_SUPPORT,
    libvirt.VIR_ERR_OPERATION_DENIED,
    libvirt.VIR_ERR_ACCESS_DENIED,
)
#: and of one that looked at it in vain: no such file, not executable; no QEMU (virQEMUCapsNewForBinaryInternal)
_OF_EMULATOR = (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_INTERNAL_ERROR)

#: characters of a hypervisor's folder: a file system takes 255, and pages and links have more behind it
_LONGEST = 200

T = TypeVar("T")


@dataclass(eq=False, repr=False)
class Node:
    """One hypervisor without its guests: its libvirt connection, its shell, its storage."""

    uri: str
    connection: libvirt.virConnect
    shell: Host
    inventory: Inventory
    readonly: bool = False
    #: the connection by ssh that all goes by; None if it is another's, or there is none
    master: Master | None = None
    #: called with one short line for each long wait
    progress: Callable[[str], None] = lambda _text: None
    #: its time, in its own time zone; None until it is asked
    clock: Clock | None = None
    _allocated_and_size: dict[str, tuple[int, int]] = field(default_factory=dict)
    _strain: float = 1
    _sockets: Path | None = None
    # guests are looked into side by side
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _reconnecting: threading.Lock = field(default_factory=threading.Lock)
    #: guests that may start at the same time: each then takes longer
    at_once: int = 1
    #: emulator -> why libvirt cannot use it, for those that were asked about
    _unusable: dict[str, str | None] = field(default_factory=dict)
    #: the time.monotonic() until which that figure serves
    _strain_until: float = 0

    def __repr__(self) -> str:
        return f"<hypervisor {self.uri}>"

    def now(self) -> datetime:
        """Return the time of its own clock, in its own time zone. Dates of the inventory are of that zone."""
        if self.clock is None:
            self.clock = clock_of(self.shell)
        return self.clock()

    @kept
    def hostname(self) -> str | None:
        """Return libvirt's name of the machine; the test driver is no machine."""
        if self.is_test_driver:
            return "test-driver"
        return str(self.connection.getHostname())

    @kept
    def name(self) -> str:
        """Return the name that all output has: the host name, unless a run gives it one by which it is known apart."""
        return self.hostname or ""

    @property
    def folder(self) -> str:
        """Return `name` as a folder below reports/."""
        return folder_of(self.name)

    @kept
    def identity(self) -> str:
        """Return one text for each hypervisor: `qemu:///system` and `qemu+ssh://localhost/system` are one.

        A URI of the test driver is a hypervisor of its own, and so is the session of each user.
        """
        parts = urlsplit(self.uri)
        if self.is_test_driver or parts.path != "/system":
            return f"{os.getuid()} {self.uri}"
        host = self._capabilities.findtext("host/uuid") or ""
        marks = [str(self.connection.getType()), host, self.hostname or ""]
        for parameter in parts.query.split("&"):
            if parameter.startswith("socket="):  # another daemon
                marks.append(parameter)
        return " ".join(marks)

    def introduce(self) -> None:
        """Read the facts that a run records of the hypervisor itself: then they are known if libvirt's daemon ends.

        Raises libvirtError.
        """
        _ = self.hostname, self.libvirt_version, self.qemu_version, self.identity

    @kept
    def is_test_driver(self) -> bool:
        return str(self.connection.getType()).lower() == "test"

    @property
    def is_local(self) -> bool:
        """True if its shell is on the machine that this runs on."""
        return bool(self.shell.backend.NAME == "local")

    @property
    def sockets(self) -> Path:
        """A private folder for the sockets of connections by ssh into guests."""
        with self._lock:
            if self._sockets is None:
                self._sockets = folder_of_sockets()
            return self._sockets

    @kept
    def refused_live(self) -> dict[str, str]:
        """Return the changes that libvirt does not make to a running guest, in its words.

        They are known for its version, or were learned by asking.
        """
        return refusals.known(self.connection.getLibVersion())

    @kept
    def libvirt_version(self) -> str:
        return dotted(self.connection.getLibVersion())

    @kept
    def qemu_version(self) -> str | None:
        """Return the default emulator's version; None on a driver that has none."""
        return None if self.is_test_driver else dotted(self.connection.getVersion())

    @kept
    def machines(self) -> dict[tuple[str, str], list[OfferedMachine]]:
        """(architecture, emulator) -> the machine types its QEMU offers, under canonical names."""
        machines: dict[tuple[str, str], list[OfferedMachine]] = {}
        for key, machine in self._listed_machines:
            offer = OfferedMachine(
                machine.get("canonical") or machine.text or "",
                machine.get("deprecated") == "yes",
            )
            offered = machines.setdefault(key, [])
            if offer not in offered:
                offered.append(offer)
        return machines

    @property
    def is_cut_off(self) -> bool:
        """True if libvirt has hung up, because its daemon or the network ended. Known once a call has failed."""
        return not self.connection.isAlive()

    def reconnect(self, seconds: float) -> None:
        """Connect anew, trying for *seconds*; every guest has its domain on the new connection.

        If another thread does so meanwhile, its connection serves. Raises ProbeError if libvirt does not answer.
        """
        lost = self.connection
        with self._reconnecting:
            if self.connection is lost:
                self._connect_anew(seconds)

    def _connect_anew(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                connection, domains = self._connected()
                break
            except (libvirt.libvirtError, Unreachable, TimeoutError) as exc:
                if time.monotonic() > deadline:
                    why = f"libvirt closed the connection: {_words(exc)}"
                    raise ProbeError(f"{self.uri}: {why}") from exc
                worker.sleep(1)
        # a guest must not have a domain of the old connection beside the new one
        self._reconnected(domains)
        self.connection = connection

    def _connected(self) -> tuple[libvirt.virConnect, dict[str, libvirt.virDomain]]:
        """Return a new connection and its domains by UUID. Raises libvirtError, Unreachable, TimeoutError."""
        address = self.uri
        if self.master is not None:
            self.master.open()
            address = self.master.address(self.uri)

        def connect() -> tuple[libvirt.virConnect, list[libvirt.virDomain]]:
            connection = opened(self.uri, address, readonly=self.readonly)
            return connection, connection.listAllDomains(0)

        seconds = seconds_for(self.uri, address)
        connection, domains = worker.within(seconds, connect)
        return connection, {domain.UUIDString(): domain for domain in domains}

    def _reconnected(self, domains: dict[str, libvirt.virDomain]) -> None:
        """Take up the domains of the new connection, by UUID."""

    #: stands for the hypervisor in the place of a guest's UUID (journal)
    uuid = ""

    def forget(self, *, inside: bool = True) -> None:
        """Do nothing: contents of files are not cached, and a copy is read anew when it has changed."""

    @kept
    def machine_aliases(self) -> dict[tuple[str, str], dict[str, str]]:
        """(architecture, emulator) -> the types that its QEMU means by `pc`, `q35` and the like."""
        aliases: dict[tuple[str, str], dict[str, str]] = {}
        for key, machine in self._listed_machines:
            if canonical := machine.get("canonical"):
                aliases.setdefault(key, {})[machine.text or ""] = canonical
        return aliases

    @kept
    def _listed_machines(self) -> list[tuple[tuple[str, str], Element]]:
        return [
            ((arch.get("name", ""), arch.findtext("emulator") or ""), machine)
            for arch in self._capabilities.iterfind("guest/arch")
            for machine in arch.iter("machine")
        ]

    @kept
    def _capabilities(self) -> Element:
        return parse_xml(self.connection.getCapabilities(), f"{self.uri}: capabilities")

    def offered(self, definition: Definition) -> list[OfferedMachine]:
        """Return the machine types that the emulator of *definition* offers; none if libvirt does not know it."""
        return _of_emulator(self.machines, definition) or []

    def canonical_machine(self, definition: Definition) -> str | None:
        """Return the machine type of *definition*; an alias as its emulator means it, if that is known."""
        name = definition.machine
        if not name:
            return None
        aliases = _of_emulator(self.machine_aliases, definition) or {}
        return aliases.get(name, name)

    def why_unstartable(self, definition: Definition) -> str | None:
        """Return why QEMU does not start *definition*, and libvirt does not take it; None if it does."""
        if reason := self.why_no_emulator(definition):
            return reason
        offered = self.offered(definition)
        name = self.canonical_machine(definition) if offered else None
        if name is None:
            return None
        aliases = _of_emulator(self.machine_aliases, definition)
        return machine_type.why_not_offered(
            name, offered, is_resolved=aliases is not None
        )

    def why_no_emulator(self, definition: Definition) -> str | None:
        """Return why libvirt cannot use the emulator of *definition*; None if it can, or was not to be asked.

        A path may be another distribution's, or that of a QEMU that is gone.
        """
        path = definition.emulator
        if not path or self.is_listed(path):
            return None
        if path not in self._unusable:
            self._unusable[path] = self._why_unusable(path)
        return self._unusable[path]

    def _why_unusable(self, path: str) -> str | None:
        """Let libvirt look at the emulator at *path*. Raises libvirtError if it does not answer."""
        try:
            self.connection.getDomainCapabilities(path, None, None, None)
        except libvirt.libvirtError as exc:
            if exc.get_error_code() in _NOT_ASKED:
                return None
            if exc.get_error_domain() == libvirt.VIR_FROM_RPC:
                raise
            if exc.get_error_code() in _OF_EMULATOR:
                # mostly "Cannot check QEMU binary PATH: No such file or directory"
                detail = libvirt_words(exc).rpartition(f"{path}: ")[2]
                return f"libvirt cannot use the emulator {path} ({detail})"
        return None

    def is_listed(self, path: str) -> bool:
        """True if *path* is an emulator that libvirt lists among the host's capabilities."""
        return any(emulator == path for _arch, emulator in self.machines)

    def emulators_for(self, arch: str | None) -> list[str]:
        """Return the emulators of this host for guests of *arch*, as libvirt lists them."""
        return [emulator for of, emulator in self.machines if of == arch and emulator]

    def why_may_not_boot(self, definition: Definition) -> str | None:
        """Return why *definition* may start and not boot on this host's QEMU; None if nothing like that is known."""
        version = self.qemu_version
        qemu = machine_type.numbers(version) if version else None
        name = self.canonical_machine(definition)
        return firmware.why_may_not_boot(definition, name, qemu)

    def strain(self) -> float:
        """Return how many processes wait for each processor now, from 1 to _MOST_STRAIN; 1 if that cannot be read.

        All that a guest does takes as many times longer; it is `at_once` at least.
        The figure is the load of the last minute (proc_loadavg(5)),
        and serves for a minute.
        """
        if self.is_test_driver:
            return 1
        now = time.monotonic()
        if now >= self._strain_until:
            self._strain, self._strain_until = self._measured_strain(), now + 60
        return max(self._strain, min(self.at_once, _MOST_STRAIN))

    def _measured_strain(self) -> float:
        try:
            result = self.shell.run("cat /proc/loadavg && nproc")
            load, _, rest = result.stdout.partition(" ")
            strain = float(load) / int(rest.split()[-1])
        except (ProbeError, ValueError, IndexError, ZeroDivisionError):
            return 1
        return min(strain, _MOST_STRAIN) if strain > 1 else 1

    def is_fully_allocated(self, path: str) -> bool:
        """True if the file system holds every block of the file at *path*, False also if it cannot be looked at."""
        if self.is_test_driver:
            return False
        if path not in self._allocated_and_size:
            self._allocated_and_size[path] = self._stat(path)
        allocated, size = self._allocated_and_size[path]
        return allocated >= size > 0

    def _stat(self, path: str) -> tuple[int, int]:
        """Return the allocated bytes and the length of the file at *path*; zeros if there is none."""
        if self.shell.backend.get_connection_type() == "local":
            return _local_stat(path)
        result = self.shell.run(f"{_STAT} --printf '{_FORMAT}' -- %s", path)
        if result.rc != 0:
            return 0, 0
        status = FileStatus.read(result.stdout)
        if not status.is_file:
            return 0, 0
        return status.allocated, status.size

    def allocated(self, path: str) -> int:
        """Return the bytes that the file system holds for *path* (`st_blocks` * 512).

        Raises ProbeError if the file cannot be looked at.
        """
        result = self.shell.run(f"{_STAT} --printf '{_FORMAT}' -- %s", path)
        if result.rc != 0:
            why = last_words(result.stderr, silent="stat failed")
            raise ProbeError(f"{path}: {why}")
        status = FileStatus.read(result.stdout)
        if not status.is_file:
            raise ProbeError(
                f"{path}: a {status.kind}, not a file: its blocks do not show how much is used"
            )
        return status.allocated

    def allocated_each(self, paths: list[str]) -> dict[str, int]:
        """Return the bytes that the file systems hold for each of *paths* that is a file that can be looked at."""
        statuses = self.status_each(paths)
        return {path: status.allocated for path, status in statuses.items()}

    def status_each(self, paths: list[str]) -> dict[str, FileStatus]:
        """Return the status of each of *paths* that is a file that can be looked at."""
        statuses: dict[str, FileStatus] = {}
        for start in range(0, len(paths), _PATHS_AT_ONCE):
            chunk = paths[start : start + _PATHS_AT_ONCE]
            quoted = " ".join(["%s"] * len(chunk))
            command = f"{_STAT} --printf '{_FORMAT}\\t%%n\\0' -- {quoted}"
            try:
                listed = self.shell.run(command, *chunk).stdout
            except ProbeError:
                continue
            for entry in listed.split("\0")[:-1]:
                facts, _, path = entry.partition("\t")
                status = FileStatus.read(facts)
                if status.is_file:
                    statuses[path] = status
        return statuses

    def known_domains(self) -> dict[str, libvirt.virDomain]:
        """Return the domains that were there when the run began, by UUID."""
        return {}


@dataclass(frozen=True)
class FileStatus:
    """The bytes that a file system holds for a file, the file's length, and its kind in the words of stat(1).

    `device` is `st_dev`, which tells file systems apart.
    """

    allocated: int
    size: int
    device: int
    kind: str

    @classmethod
    def read(cls, printed: str) -> FileStatus:
        """Read the output of stat(1) in _FORMAT."""
        blocks, unit, size, device, kind = printed.split(" ", 4)
        return cls(int(blocks) * int(unit), int(size), int(device), kind)

    @property
    def is_file(self) -> bool:
        return self.kind.startswith("regular")


def _local_stat(path: str) -> tuple[int, int]:
    """Return the allocated bytes and the length of a file of this machine; zeros if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 (the path is a definition's, not ours)
    except (OSError, ValueError):
        return 0, 0
    if not stat.S_ISREG(status.st_mode):
        return 0, 0
    return status.st_blocks * 512, status.st_size


def _words(exc: Exception) -> str:
    """Return the message of an error in connecting."""
    if isinstance(exc, libvirt.libvirtError):
        return libvirt_words(exc)
    return str(exc) or f"no answer within {CONNECT_SECONDS} s"


def _of_emulator(known: dict[tuple[str, str], T], definition: Definition) -> T | None:
    """Return the value of *known* for the emulator of *definition*, under its architecture or another.

    libvirt lists qemu-system-x86_64 under i686 only if there is no qemu-system-i386; the binary
    and its machine types are the same.
    """
    emulator = definition.emulator or ""
    exact = known.get((definition.arch or "", emulator))
    if exact or not emulator:
        return exact
    for (_arch, path), value in known.items():
        if path == emulator:
            return value
    return None


def folder_of(name: str) -> str:
    """Return *name*, of a hypervisor, as a folder below reports/."""
    folder = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".-") or "_"
    if len(folder) <= _LONGEST:
        return folder
    # libvirtd may give itself a name of any length
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{folder[: _LONGEST - 17]}-{digest}"
