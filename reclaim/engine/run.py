"""One run: its hypervisors, its options, its folders, its record."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import libvirt

from reclaim.base.errors import (
    JournalLost,
    ProbeError,
    ReclaimError,
    Unreachable,
    Untrusted,
)
from reclaim.base.home import SAFE
from reclaim.base.text import counted, some
from reclaim.changes.definition_change import DefinitionChange
from reclaim.engine import declared, journal, reach, several
from reclaim.engine.engine import Engine, Subject
from reclaim.engine.journal import Journal, JournalRecord
from reclaim.engine.part import Options, Part
from reclaim.files import trust
from reclaim.files.beneath import Folder
from reclaim.handles.guest import Guest
from reclaim.handles.hypervisor import (
    Hypervisor,
    Unreached,
    connect,
    default_uri,
    unreached,
)
from reclaim.handles.lock import LockHeld, lock, others_at_work
from reclaim.handles.master import is_asking
from reclaim.handles.node import Node
from reclaim.inventory import BackupNotes, Inventory, read_file
from reclaim.processes import worker
from reclaim.record import results
from reclaim.requirement import Requirement, catalogue

if TYPE_CHECKING:
    from reclaim.backups.backup import Backup

#: guests looked into at a time; libvirtd answers 5 calls of one client at once (max_client_requests)
_AT_ONCE = 5
#: hypervisors that are connected to, and asked, at a time
_HOSTS_AT_ONCE = 10
#: guests whose definitions are read at once and kept until they are judged: 30 KiB each
_READ_AHEAD = 2000
#: seconds between two lines about hypervisors that do not answer
_WAITS_SECONDS = 10.0
#: with these errors the folder of reports is well chosen, but full or failing
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
#: journals that are not obeyed and are listed one by one
_TOLD = 3
#: seconds between two lines of progress
_PROGRESS_SECONDS = 1.0


class _NoRoom(ReclaimError):
    """The folder of a run cannot be made, though the user chose well."""


@dataclass
class Run:
    """A run over one hypervisor or several. `open` it, walk it, `close` it."""

    options: Options
    parts: list[Part] = field(default_factory=list)
    started: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    #: earlier runs that died while they changed something
    interrupted: list[tuple[Part, JournalRecord]] = field(default_factory=list)
    #: those of them at another address of a hypervisor, which are left to that one
    elsewhere: list[tuple[Part, JournalRecord]] = field(default_factory=list)
    #: journals that are not obeyed, and others at work, a line each
    remarks: list[str] = field(default_factory=list)
    #: guests that are not as they were since then, in words
    at_stake: list[str] = field(default_factory=list)
    #: folders of PATH that reclaim runs no program from
    left_out: list[str] = field(default_factory=list)
    #: it was stopped before everything was judged
    cut_short: bool = False
    #: a signal or a fault ended it
    stopped: bool = False
    #: the command line chose some guests or requirements
    chosen: bool = False
    #: the hypervisors that the inventory names
    inventory_hypervisors: list[str] = field(default_factory=list)
    recorded: bool = False
    #: collecting came to its end: the run was not stopped before
    is_collected: bool = False
    #: the subjects of the run, by the handles that their requirements take
    collected: dict[tuple[str, ...], list[Subject]] = field(default_factory=dict)
    #: is given a line now and then while a hypervisor does not answer
    waits: Callable[[str], None] = lambda _text: None
    _locks: ExitStack = field(default_factory=ExitStack)
    _made: list[Path] = field(default_factory=list)
    #: every hypervisor that is connected, also while others are not yet
    _connected: list[Hypervisor] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"{self.started:%Y%m%dT%H%M%SZ}-{self.options.mode}"

    @property
    def changes_something(self) -> bool:
        """True if this run may change something, so that it needs the hypervisor's lock."""
        return self.options.mode == "fix" or self.options.boot_stopped

    @property
    def guests(self) -> list[Guest]:
        return [guest for part in self.parts for guest in part.guests]

    @property
    def guest_count(self) -> int:
        """The number of `guests`, for those who ask at every row."""
        return sum(len(part.guests) for part in self.parts)

    def open(self) -> None:
        """Connect. Raises ReclaimError if a hypervisor, a guest or the inventory is not there."""
        options = self.options
        folders = [*map(_folder_of_copies, options.backups)]
        file = None
        if options.inventory:
            file = read_file(options.inventory, catalogue())
            self.inventory_hypervisors = file.inventory.hypervisors
        # an empty one needs no validation, whose schema takes time to build
        inventory = file.inventory if file is not None else Inventory.model_construct()
        hypervisors = self._hypervisors(inventory)
        several.expect_guests(hypervisors, options.guests)
        self.parts += map(self._part, hypervisors)
        self._read_definitions()
        if not options.definitions_only:
            self._find_backups(folders)
        if file is not None:
            self.remarks += declared.remarks(file, hypervisors)

    def _hypervisors(self, inventory: Inventory) -> list[Hypervisor]:
        """Connect to all hypervisors at once. One of several that cannot be reached is there as `Unreached`."""
        hosts: tuple[str | None, ...] = self.options.hosts or (None,)
        began = printed = time.monotonic()

        def waits(left: list[str | None]) -> None:
            nonlocal printed
            now = time.monotonic()
            if is_asking():
                printed = now  # a person answers ssh on this terminal
            elif left and now - printed >= _WAITS_SECONDS:
                printed = now
                self.waits(f"{_place(self.options, left)}: {now - began:.0f} s")

        # a machine that does not answer is waited for by ssh(1) or libvirt, which hear no signal
        work = partial(self._connect, inventory)
        every = worker.together(work, hosts, _HOSTS_AT_ONCE, waits)
        hypervisors, others = several.each_once(every)
        several.name_apart(hypervisors)
        self.remarks += others
        return hypervisors

    def _connect(self, inventory: Inventory, host: str | None) -> Hypervisor:
        options = self.options
        readonly = options.definitions_only and options.mode != "fix"
        try:
            hypervisor = connect(options.uri, host, inventory, readonly=readonly)
        except Unreachable as exc:
            if host is None or len(options.hosts) == 1:
                raise
            return unreached(options.uri, host, inventory, exc)
        self._connected.append(hypervisor)
        return hypervisor

    def _part(self, hypervisor: Hypervisor) -> Part:
        options = self.options
        guests, why = [], ""
        if isinstance(hypervisor, Unreached):
            why = hypervisor.why
        else:
            guests = hypervisor.select(options.guests)
        folder = options.reports / hypervisor.folder / self.id
        known = str(options.inventory.absolute()) if options.inventory else None
        book = Journal(folder / journal.NAME, hypervisor.uri, options.mode, known)
        engine = Engine(
            hypervisor,
            options.mode,
            book,
            options.restart,
            options.force,
            options.boot_stopped,
        )
        return Part(hypervisor, guests, engine, folder, why)

    def _read_definitions(self) -> None:
        """Read the definitions of guests on other machines side by side: an answer takes a way there and back."""
        guests = [
            guest
            for part in self.parts
            for guest in part.guests
            if not part.hypervisor.is_local
        ]
        if len(guests) > _READ_AHEAD:
            return  # they are read one by one, and not kept
        reading = worker.each(
            Guest.read, guests, _AT_ONCE, _PROGRESS_SECONDS, attrgetter("hypervisor")
        )
        with closing(reading):
            for left in reading:
                del left

    def _find_backups(self, folders: list[BackupNotes]) -> None:
        """Find the copies and jobs of every hypervisor. A copy that fits no disk anywhere gets one row."""
        parts = [part for part in self.parts if not part.unreached]
        work = partial(_find_copies, folders)
        every = worker.together(work, parts, _HOSTS_AT_ONCE)
        strangers: dict[str, list[Subject]] = {}
        for copy in chain.from_iterable(every):
            strangers.setdefault(str(copy.path), []).append(_of(copy))
        # guests of one that is not reached may have them
        local = sum(part.has_copies_here(folders) for part in self.parts)
        if self.options.guests:
            return
        for subjects in strangers.values():
            if len(subjects) == local:
                self.parts[0].copies.append(subjects[0])

    def prepare(self) -> None:
        """Make the folders, take the locks, find the runs that died. Raises ReclaimError."""
        if self.changes_something:
            _expect_obeyed(self.options.reports)
            for part in self.parts:
                if part.unreached:
                    continue
                self._locks.enter_context(lock(part.hypervisor))
                for path in others_at_work(part.hypervisor):
                    self.remarks.append(
                        f"another user's run changes {part.hypervisor.uri} at this moment (lock {path})"
                    )
        for part in self.parts:
            self._give_home(part)
            if not part.homeless:
                self._made.append(part.folder)
            if self.options.mode != "fix":
                from reclaim.engine import remembered  # noqa: PLC0415 (start-up)

                remembered.recall(part)
            self._read_journals(part)
            if part.unreached:
                reach.row(part)  # also if the run is stopped before its turn
        self.recorded = True

    def _read_journals(self, part: Part) -> None:
        """Find earlier runs that died, and the definitions that earlier runs replaced."""
        if part.unreached:
            return
        journals: list[JournalRecord] = []
        troubles: list[str] = []
        for folder in several.folders(part.hypervisor):
            records, lines = journal.journals_below(self.options.reports / folder)
            journals += records
            troubles += lines
        journals.sort(key=lambda past: past.path.parent.name)
        self.remarks += _shortly(troubles)
        guests = {guest.uuid: guest for guest in part.guests}
        for past in journals:
            self._find_death(past, part)
            for entry in past.applied:
                guest = guests.get(entry.uuid)
                if guest is not None and isinstance(entry.change, DefinitionChange):
                    guest.history.append(entry.change.before)

    def _give_home(self, part: Part) -> None:
        """Make the folder of *part*. If there is no room, a run that changes nothing does without."""
        try:
            part.folder = _make_folder(part.folder)
        except _NoRoom as exc:
            if self.changes_something:
                raise
            part.homeless = str(exc)
            return
        part.engine.journal.path = part.folder / journal.NAME
        if not self.changes_something:
            return
        try:
            # on a share our folder may belong to another user
            _expect_obeyed(part.folder)
        except ReclaimError:
            part.folder.rmdir()
            raise

    def _find_death(self, past: JournalRecord, part: Part) -> None:
        """Note *past* if its run died, as one of *part* or of another address: two hypervisors may have one folder."""
        if not past.died or self._is_under_way(part.hypervisor):
            return
        guests = {guest.uuid for guest in part.hypervisor.guests}
        if past.uri == part.hypervisor.uri:
            self.interrupted.append((part, past))
            return
        changed = {entry.uuid for entry in (*past.interrupted, *past.applied)}
        if not changed.isdisjoint(guests):
            self.elsewhere.append((part, past))

    def _is_under_way(self, hypervisor: Hypervisor) -> bool:
        """True if another run is mending at this moment: then a journal without an end may be that run's."""
        if self.changes_something:
            return False  # the lock is ours
        try:
            lock(hypervisor).close()
        except LockHeld:
            return True
        except ReclaimError:
            return False  # there is no place for a lock, so none shows a run
        # a user whose journals are not obeyed could use a lock only to hide that a run died
        return bool(others_at_work(hypervisor, trust.trusted_users()))

    def hang_up(self) -> None:
        """Close every connection."""
        while self._connected:
            with suppress(libvirt.libvirtError):  # libvirt may have hung up
                self._connected.pop().close()

    def forget_record(self) -> None:
        """Leave no folder behind: there is nothing to judge after all."""
        self.abandon()
        self.recorded = False

    def abandon(self) -> None:
        """Release the locks, and remove the folders of a run that ends before anything is written."""
        self._locks.close()
        while self._made:
            with suppress(OSError):  # it holds something, or is gone
                self._made.pop().rmdir()

    def gather(self, guests: Iterable[Guest], progress: Callable[[str], None]) -> None:
        """Look into all *guests* at once. Failures are kept, and the checks report them."""
        waiting = self._open(guests)
        started = time.monotonic()
        with closing(
            worker.each(
                Guest.look_inside,
                waiting,
                _AT_ONCE,
                _PROGRESS_SECONDS,
                of=attrgetter("hypervisor"),
            )
        ) as looking:
            for left in looking:
                names = ", ".join(guest.name for guest in left[:_AT_ONCE])
                waits = (
                    f", {time.monotonic() - started:.0f} s; waiting for the agent or ssh of {names}"
                    if left
                    else ""
                )
                progress(
                    f"looked into {len(waiting) - len(left)} of {counted(len(waiting), 'guest')}{waits}"
                )

    def _open(self, guests: Iterable[Guest]) -> list[Guest]:
        """Return those of *guests* that can be looked into. The hypervisors are asked side by side."""
        groups: dict[Node, list[Guest]] = {}
        for guest in guests:
            groups.setdefault(guest.hypervisor, []).append(guest)
        asked = worker.together(
            lambda group: list(filter(_is_open, group)),
            list(groups.values()),
            _HOSTS_AT_ONCE,
        )
        return list(chain.from_iterable(asked))

    def judge_ahead(
        self,
        rows: Iterable[tuple[Requirement, Subject]],
        progress: Callable[[str], None],
    ) -> None:
        """Judge *rows* of several hypervisors side by side: each waits for its own. Nothing is changed meanwhile."""
        groups: dict[Node, list[tuple[Requirement, Subject]]] = {}
        for requirement, subject in rows:
            groups.setdefault(subject.hypervisor, []).append((requirement, subject))
        parts = [part for part in self.parts if part.hypervisor in groups]

        def judge(part: Part) -> None:
            for requirement, subject in groups[part.hypervisor]:
                worker.expect_wanted()
                part.engine.judge_ahead(requirement, subject)

        def waits(left: list[Part]) -> None:
            names = some([part.hypervisor.name for part in left], _TOLD)
            done = len(parts) - len(left)
            behind = f"; waiting for {names}" if left else ""
            progress(
                f"judged the guests of {done} of {counted(len(parts), 'hypervisor')}{behind}"
            )

        worker.together(judge, parts, _HOSTS_AT_ONCE, waits)

    def leave(self, guest: Guest) -> None:
        """Shut *guest* down again, now that it is judged, if the run started it to look into it."""
        for part in self.parts:
            if guest.booted_by is not None and guest in part.guests:
                from reclaim.space import measured  # noqa: PLC0415 (start-up)

                measured.measure(part.hypervisor, [guest], part.storage, after=True)
                part.engine.leave(guest)

    def measure(self, guests: Iterable[Guest], *, after: bool = False) -> None:
        """Count the bytes on the host, before anything is changed or *after*."""
        from reclaim.space import measured  # noqa: PLC0415 (start-up)

        wanted = set(guests)

        def count(part: Part) -> None:
            chosen = [guest for guest in part.guests if guest in wanted]
            measured.measure(
                part.hypervisor, chosen, part.storage, part.filesystems, after=after
            )

        parts = [part for part in self.parts if not part.unreached]
        worker.together(count, parts, _HOSTS_AT_ONCE)

    def close(self) -> list[str]:
        """Write the record of every hypervisor and release the locks. Return a line for each failure."""
        self._made.clear()
        try:
            if not self.recorded:
                return []
            ended = datetime.now(timezone.utc)
            return [line for part in self.parts for line in self._closed(part, ended)]
        finally:
            self._locks.close()

    def _closed(self, part: Part, ended: datetime) -> Iterator[str]:
        """Make the record of *part*, and write it if there is a folder. Yield a line for each failure."""
        from reclaim.engine import document, remembered  # noqa: PLC0415 (start-up)
        from reclaim.record import record  # noqa: PLC0415 (start-up)

        try:
            part.engine.journal.end()
        except JournalLost as exc:
            yield f"{exc}: the next run will report that this one died"
        text = results.written(
            document.document(
                self.id,
                self.options,
                self.started,
                ended,
                part,
                cut_short=self.cut_short,
                stopped=self.stopped,
                chosen=self.chosen,
                inventory_hypervisors=self.inventory_hypervisors,
            )
        )
        part.found, part.text = record.parsed(text, part.folder / results.NAME), text
        if part.homeless:
            yield f"there is no record of this run: {part.homeless}"
            return
        try:
            results.write(part.folder, text)
        except OSError as exc:
            yield f"there is no record of this run: {part.folder}: {exc.strerror}"
            return
        part.is_written = True
        with suppress(OSError):  # then the next run reads more
            remembered.keep(part)
        try:
            results.point_latest(part.folder)
        except OSError as exc:
            part.unlinked = exc.strerror or str(exc)


def _place(options: Options, hosts: Iterable[str | None]) -> str:
    """Return the words for the hypervisors that are waited for."""
    places = [options.uri or host or default_uri() for host in hosts]
    return f"waiting for libvirt at {some(list(dict.fromkeys(places)), _TOLD)}"


def _find_copies(folders: list[BackupNotes], part: Part) -> list[Backup]:
    """Find the copies and jobs of *part*. Return the copies that fit none of its disks."""
    backups = [*part.hypervisor.inventory.backup, *folders]
    if not backups:
        return []
    from reclaim.backups import backup, job  # noqa: PLC0415 (start-up)

    copies = backup.find(part.hypervisor, backups, part.guests)
    part.copies = [_of(copy) for copy in copies.backups]
    part.jobs = [
        Subject(part.hypervisor, job=declared_job)
        for declared_job in job.declared(part.hypervisor, backups)
    ]
    return copies.strangers


def _is_open(guest: Guest) -> bool:
    try:
        return guest.can_be_looked_into
    except (libvirt.libvirtError, ProbeError):
        return False  # it is gone, as transient ones go, or its definition cannot be read: the checks report that


def _folder_of_copies(path: Path) -> BackupNotes:
    """Return *path* of --backups as an inventory would declare it. Raises ReclaimError if it cannot be read."""
    try:
        with Folder.at(str(path.absolute())).opened():
            return BackupNotes(path=path.absolute())
    except OSError as exc:
        raise ReclaimError(f"--backups {path}: {exc.strerror}") from exc


def _of(copy: Backup) -> Subject:
    return Subject(copy.hypervisor, copy.guest, copy.disk, copy)


def _shortly(troubles: list[str]) -> list[str]:
    """Return the first of many lines, and the number of the others."""
    more = (
        [f"and {len(troubles) - _TOLD} more that reclaim does not trust"]
        if len(troubles) > _TOLD
        else []
    )
    return troubles[:_TOLD] + more


def _expect_obeyed(reports: Path) -> None:
    """Raise ReclaimError if others could write into *reports*: undo would not obey a journal from there."""
    try:
        trust.expect(reports)
    except Untrusted as exc:
        raise ReclaimError(
            f"--reports {reports}: {exc.path} {exc.wrong}, so undo would not trust the journal of this run: give "
            f"--reports {SAFE}, or another folder to which only you can write (nothing was changed)"
        ) from exc
    except OSError as exc:
        raise ReclaimError(f"--reports {reports}: {exc.strerror}") from exc


def _sync_folders(folder: Path) -> None:
    """Sync the names of a run and its folders: a journal without a name is of no use."""
    for path in (folder, folder.parent):
        with suppress(OSError):  # not every file system does that
            journal.sync_folder(path)


def _make_private(folder: Path) -> None:
    """Make *folder* and the missing ones above it, for ourselves alone. Existing folders keep their mode."""
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _make_folder(folder: Path) -> Path:
    """Make *folder*, or one with a number behind its name if another run has the name."""
    try:
        _make_private(folder.parent)
        for number in range(1, 1000):
            candidate = (
                folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
            )
            with suppress(FileExistsError):
                candidate.mkdir(mode=0o700)
                _sync_folders(candidate.parent)
                return candidate
    except OSError as exc:
        is_chosen_well = exc.errno in _NO_ROOM or os.path.isdir(folder.parent.parent)  # noqa: PTH112 (no error)
        kind = _NoRoom if is_chosen_well else ReclaimError
        raise kind(
            f"--reports {folder.parent.parent}: {folder} cannot be made: {exc.strerror}"
        ) from exc
    raise ReclaimError(
        f"--reports {folder.parent.parent}: {folder} is taken a thousand times"
    )
