"""One run: its hypervisors, its options, its folders, its record."""

from __future__ import annotations

import concurrent.futures
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import libvirt

from reclaim import backup, job, journal
from reclaim.change import DefinitionChange
from reclaim.engine import Engine, Mode, Subject
from reclaim.errors import ProbeError, ReclaimError
from reclaim.guest import Guest
from reclaim.hypervisor import Hypervisor, connect
from reclaim.inventory import BackupNotes, Inventory, read_inventory
from reclaim.journal import Journal, Record
from reclaim.report import results
from reclaim.requirement import catalogue

#: guests looked into at a time; libvirtd answers 5 calls of one client at once (max_client_requests)
_AT_ONCE = 5


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    hosts: tuple[str, ...] = ()
    uri: str | None = None
    guests: tuple[str, ...] = ()
    inventory: Path | None = None
    backups: tuple[Path, ...] = ()
    mode: Mode = "audit"
    restart: bool = False
    force: bool = False
    boot_stopped: bool = False
    prove: bool = False
    definitions_only: bool = False
    reports: Path = Path("reports")
    keep: int | None = None
    metrics: Path | None = None
    arguments: tuple[str, ...] = ()


@dataclass
class Part:
    """What one hypervisor has of a run."""

    hypervisor: Hypervisor
    guests: list[Guest]
    engine: Engine
    folder: Path
    #: what the requirements on backups are judged for
    copies: list[Subject] = field(default_factory=list)
    jobs: list[Subject] = field(default_factory=list)
    storage: dict[tuple[str, str], results.Storage] = field(default_factory=dict)


@dataclass
class Run:
    """A run over one hypervisor or several. `open` it, walk it, `close` it."""

    options: Options
    parts: list[Part] = field(default_factory=list)
    started: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    #: earlier runs that died while they changed something
    interrupted: list[tuple[Part, Record]] = field(default_factory=list)
    #: guests that are not as they were since then, in words
    at_stake: list[str] = field(default_factory=list)
    #: folders of PATH that no program is run from
    left_out: list[str] = field(default_factory=list)
    #: it was stopped before everything was judged
    cut_short: bool = False
    recorded: bool = False
    #: what is judged, by the handles it takes
    collected: dict[tuple[str, ...], list[Subject]] = field(default_factory=dict)
    _locks: ExitStack = field(default_factory=ExitStack)

    @property
    def id(self) -> str:
        return f"{self.started:%Y%m%dT%H%M%SZ}-{self.options.mode}"

    @property
    def changes_something(self) -> bool:
        """Then nobody else may at the same time."""
        return self.options.mode == "fix" or self.options.boot_stopped

    def open(self) -> None:
        """Connect. Raises ReclaimError where a hypervisor, a guest or the inventory is not there."""
        options = self.options
        inventory = read_inventory(options.inventory) if options.inventory else Inventory()
        readonly = options.definitions_only and options.mode != "fix"
        for host in options.hosts or (None,):
            hypervisor = connect(options.uri, host, inventory, readonly=readonly)
            guests = hypervisor.select(list(options.guests))
            folder = options.reports / hypervisor.folder / self.id
            known = str(options.inventory.absolute()) if options.inventory else None
            book = Journal(folder / journal.NAME, hypervisor.uri, options.mode, known)
            engine = Engine(hypervisor, options.mode, book, options.restart, options.force, options.boot_stopped)
            self.parts.append(Part(hypervisor, guests, engine, folder))
        declared = [*inventory.backup, *map(_folder_of_copies, options.backups)]
        if declared and not options.definitions_only:
            self._find_backups(declared)
        for name in inventory.guest:
            if not any(guest.name == name for part in self.parts for guest in part.hypervisor.guests):
                raise ReclaimError(f"inventory {options.inventory}: guest.{name}: no guest is called so")
            for slug in inventory.notes(name).waive:
                if slug not in catalogue():
                    known = ", ".join(catalogue())
                    where = f"inventory {options.inventory}: guest.{name}.waive.{slug}"
                    raise ReclaimError(f"{where}: no such requirement (there are: {known})")

    def _find_backups(self, declared: list[BackupNotes]) -> None:
        """Find the copies and jobs of every hypervisor; a copy that fits no disk anywhere is told once."""
        strangers: dict[str, list[Subject]] = {}
        for part in self.parts:
            found = backup.find(part.hypervisor, declared, part.guests)
            part.copies = [_of(one) for one in found.backups]
            part.jobs = [Subject(part.hypervisor, job=one) for one in job.declared(part.hypervisor, declared)]
            for one in found.strangers:
                strangers.setdefault(str(one.path), []).append(_of(one))
        if not self.options.guests:
            for subjects in strangers.values():
                if len(subjects) == len([part for part in self.parts if part.hypervisor.is_local]):
                    self.parts[0].copies.append(subjects[0])

    def prepare(self) -> None:
        """Make the folders, take the locks, find what died. Raises ReclaimError."""
        if self.changes_something:
            for part in self.parts:
                self._locks.enter_context(lock(part.hypervisor))
        for part in self.parts:
            part.folder = _make_folder(part.folder)
            part.engine.journal.path = part.folder / journal.NAME
            guests = {guest.uuid: guest for guest in part.guests}
            for record in earlier_journals(part.folder.parent):
                if _died_changing(record, part.hypervisor) and not self._is_under_way(part.hypervisor):
                    self.interrupted.append((part, record))
                for entry in record.applied:
                    if entry.uuid in guests and isinstance(entry.change, DefinitionChange):
                        guests[entry.uuid].history.append(entry.change.before)
        self.recorded = True

    def _is_under_way(self, hypervisor: Hypervisor) -> bool:
        """Is somebody mending at this moment? Then a journal without an end is not one of a run that died."""
        if self.changes_something:
            return False  # the lock is ours
        try:
            lock(hypervisor).close()
        except ReclaimError:
            return True
        return False

    def forget_record(self) -> None:
        """There is nothing to judge after all: leave no folder behind."""
        for part in self.parts:
            part.folder.rmdir()
        self.recorded = False

    def gather(self, guests: Iterable[Guest], progress: Callable[[str], None]) -> None:
        """Look into all *guests* at once; what fails is kept for the checks to tell."""
        waiting = [guest for guest in guests if _is_open(guest)]
        with concurrent.futures.ThreadPoolExecutor(_AT_ONCE, "facts") as pool:
            futures = [pool.submit(guest.look_inside) for guest in waiting]
            for number, future in enumerate(concurrent.futures.as_completed(futures), start=1):
                future.result()
                progress(f"looked into {number} of {len(waiting)} guests")

    def leave(self, guest: Guest) -> None:
        """*guest* is finished: where it was started to be looked into, it is shut down again."""
        for part in self.parts:
            if guest.booted_by is not None and guest in part.guests:
                results.measure(part.hypervisor, [guest], part.storage, after=True)
                part.engine.leave(guest)

    def measure(self, guests: Iterable[Guest], *, after: bool = False) -> None:
        """Count the bytes on the host, before anything is changed or *after*."""
        wanted = set(guests)
        for part in self.parts:
            chosen = [guest for guest in part.guests if guest in wanted]
            results.measure(part.hypervisor, chosen, part.storage, after=after)

    def close(self) -> None:
        """Write the record of every hypervisor and let go of the locks."""
        try:
            if self.recorded:
                ended = datetime.now(timezone.utc)
                for part in self.parts:
                    part.engine.journal.end()
                    record = results.document(
                        self.id, self.options, self.started, ended, part, cut_short=self.cut_short
                    )
                    results.write(part.folder, record)
                    results.point_latest(part.folder)
        finally:
            self._locks.close()


def _is_open(guest: Guest) -> bool:
    try:
        return guest.can_be_looked_into
    except (libvirt.libvirtError, ProbeError):
        return False  # it is gone, as transient ones go, or its definition cannot be read: the checks say so


def _folder_of_copies(path: Path) -> BackupNotes:
    """What --backups says. Raises ReclaimError where there is nothing to read."""
    try:
        next(path.iterdir(), None)
    except OSError as exc:
        raise ReclaimError(f"--backups {path}: {exc.strerror}") from exc
    return BackupNotes(path=path.absolute())


def _of(one: backup.Backup) -> Subject:
    return Subject(one.hypervisor, one.guest, one.disk, one)


def earlier_journals(folder: Path) -> list[Record]:
    """The journals of earlier runs below *folder*, oldest first. What is no journal is passed over."""
    found = []
    for path in sorted(folder.glob(f"*/{journal.NAME}")):
        if path.parent.is_symlink():
            continue
        try:
            found.append(journal.read(path))
        except ReclaimError:
            continue
    return found


def _died_changing(record: Record, hypervisor: Hypervisor) -> bool:
    """Did the run of *record* die while it changed something there? Two hypervisors may have one name, and folder."""
    if record.ended or not record.interrupted:
        return False
    guests = {guest.uuid for guest in hypervisor.guests}
    return record.uri == hypervisor.uri or any(entry.uuid in guests for entry in record.interrupted)


def _make_private(folder: Path) -> None:
    """Make *folder* and those above that lack, for ourselves alone; one that is there keeps its mode."""
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _make_folder(folder: Path) -> Path:
    """Make *folder*, or its like with a number where another run has the name."""
    try:
        _make_private(folder.parent)
        for number in range(1, 1000):
            one = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
            with suppress(FileExistsError):
                one.mkdir(mode=0o700)
                return one
    except OSError as exc:
        raise ReclaimError(f"--reports {folder.parent.parent}: {folder} cannot be made: {exc.strerror}") from exc
    raise ReclaimError(f"--reports {folder.parent.parent}: {folder} is taken a thousand times")


def lock(hypervisor: Hypervisor) -> ExitStack:
    """The lock of one hypervisor, held until the stack is closed. Raises ReclaimError where it is held."""
    shared = Path("/run/lock")
    home = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    path = home / f"reclaim-{hashlib.sha256(hypervisor.identity.encode()).hexdigest()[:16]}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise ReclaimError(f"{path}: cannot be opened: {exc.strerror}") from exc
    stack = ExitStack()
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        stack.close()
        raise ReclaimError(
            f"{hypervisor.uri}: another --fix is under way there, or a --boot-stopped (lock {path}); wait for it"
        ) from exc
    return stack
