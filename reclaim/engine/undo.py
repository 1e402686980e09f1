"""Undo: the walk back through a journal, and the finish of power cycles and starts of runs that died."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import libvirt

from reclaim.base.errors import (
    ChangedSince,
    ChangeFailed,
    JournalLost,
    NotYet,
    PowerCycleFailed,
    ProbeError,
    ReclaimError,
    Untrusted,
)
from reclaim.base.text import counted, libvirt_words, printable, trouble
from reclaim.changes import power, preconditions
from reclaim.changes.boot_stopped import Boot
from reclaim.changes.change import Change
from reclaim.changes.command import CommandChange
from reclaim.changes.definition_change import DefinitionChange
from reclaim.changes.file_change import FileChange
from reclaim.changes.power import PowerCycle
from reclaim.changes.qcow2_amend import ImageAmend
from reclaim.changes.sparsify import Sparsify
from reclaim.definition.compare import pairs
from reclaim.definition.domain import Definition
from reclaim.engine import journal
from reclaim.engine.journal import Entry, Journal, JournalRecord
from reclaim.files import there, trust
from reclaim.handles.guest import Guest
from reclaim.handles.hypervisor import Hypervisor, connect
from reclaim.handles.lock import lock
from reclaim.inside.facts import Facts
from reclaim.inside.initramfs import named_images
from reclaim.inventory import Inventory, read_inventory
from reclaim.record import results, typed

Say = Callable[[str], None]
#: changes without anything to take back: no state of the guest stands in the way
_LEFT_AS_IT_IS = (PowerCycle, ImageAmend, Sparsify)
#: lines of a later change's diff that are shown
_DIFF_LINES = 60


def undo(
    folder: Path, say: Say, inventory: Path | None = None, uri: str | None = None
) -> bool:
    """Take back what the run in *folder* changed, the last change first, with *inventory* or the run's own.

    A guest whose change cannot be taken back safely is left as it then is and reported. The others go on. Returns
    True if everything was taken back. Raises ReclaimError if there is no journal, if it is not to be trusted, if
    the hypervisor cannot be reached, or if another run is changing it.
    """
    path = folder.resolve() / journal.NAME if there.is_folder(folder) else folder
    if not there.exists(path):
        raise ReclaimError(
            f"{folder}: no {journal.NAME} there: that run changed nothing, or this is not the folder of a run"
        )
    _expect_no_link_of_others(folder)
    record = journal.read(path)
    if not record.entries:
        say(f"{printable(str(folder))}: that run changed nothing")
        return True
    hypervisor = connect(
        _address(record, uri), None, _inventory(record, say, inventory)
    )
    try:
        with lock(hypervisor):
            left = _finish_power_cycles(
                record, hypervisor, Journal(record.path, record.uri, "undo"), say
            )
            return _undo(journal.read(path), hypervisor, say) and not left
    finally:
        hypervisor.close()


def _expect_no_link_of_others(folder: Path) -> None:
    """Raise Untrusted if another user could have made the way to the run, such as `latest`."""
    try:
        trust.expect(folder)
    except OSError as exc:
        raise ReclaimError(f"{folder}: {exc.strerror}") from exc
    except Untrusted as exc:
        raise Untrusted(
            exc.path, exc.wrong, f"the run {folder} is not trusted: {exc.way_out}"
        ) from exc


def _address(record: JournalRecord, given: str | None) -> str:
    """Return the run's URI. Raises ReclaimError if *given* is another, or if it runs a command and is not given."""
    if given is not None and given != record.uri:
        raise ReclaimError(f"--uri {given}: that run was on {record.uri}")
    if given is None and _runs_a_command(record.uri):
        raise ReclaimError(
            f"{record.path}: a connection to {record.uri} runs a command: if you want that, "
            f"add --uri {shlex.quote(record.uri)}"
        )
    return record.uri


def _runs_a_command(uri: str) -> bool:
    """True if *uri* names a command (libvirt.org/uri.html): by the transport `ext`, or one for ssh on either side."""
    parts = urlsplit(uri)
    keys = {
        unquote(setting.partition("=")[0]).lower()
        for setting in re.split("[&;]", parts.query)
    }
    return parts.scheme.partition("+")[2] == "ext" or not keys.isdisjoint(
        {"command", "netcat"}
    )


def _inventory(record: JournalRecord, say: Say, given: Path | None) -> Inventory:
    if given is not None:
        return read_inventory(given)
    if record.inventory is None:
        return Inventory()
    try:
        return read_inventory(Path(record.inventory))
    except ReclaimError as exc:
        say(
            f"note: {printable(str(exc))}: going on without it; --inventory FILE names another"
        )
        return Inventory()


def _undo(record: JournalRecord, hypervisor: Hypervisor, say: Say) -> bool:
    book = Journal(record.path, record.uri, "undo")
    walk = _Walk(record, hypervisor, say, book)
    standing = [
        entry
        for entry in record.entries
        if entry.state in ("done", "intended", "unknown")
    ]
    if standing:
        book.begin()  # one that is killed is found as one
    is_lost = False
    try:
        for entry in reversed(standing):
            walk.take_back(entry)
    except JournalLost as exc:
        is_lost = True
        say(f"stopped here: {printable(str(exc))}: fix that, and undo again")
    _tell_the_record(record, walk.undone, say)
    if is_lost:
        return False
    is_settled = record.ended or all(
        entry in walk.undone for entry in record.interrupted
    )
    if standing and is_settled:
        _note(say, book.close)
    return not walk.stuck and not walk.waiting


@dataclass
class _Walk:
    """One journal, walked backwards."""

    record: JournalRecord
    hypervisor: Hypervisor
    say: Say
    book: Journal
    #: guests, and files of the hypervisor, whose further changes stay
    stuck: set[str] = field(default_factory=set)
    #: those inside which something waits for the old hardware
    waiting: set[str] = field(default_factory=set)
    undone: list[Entry] = field(default_factory=list)

    def take_back(self, entry: Entry) -> None:
        """Take back one change, or say why not. Raises JournalLost if it was taken back and cannot be written down."""
        name = f"{printable(entry.guest)}: {entry.requirement}"
        # files of the hypervisor do not depend on each other
        whose = entry.uuid or entry.change.target
        inside = isinstance(entry.change, FileChange | CommandChange)
        if whose in self.stuck or (whose in self.waiting and inside):
            self.say(
                f"{name}: left as it is, because a later change was not taken back"
            )
            return
        if entry.state == "unknown" and isinstance(entry.change, PowerCycle):
            self.stuck.add(whose)  # it could not be finished
            return
        try:
            note = self._taken_back(entry)
        except (ChangeFailed, ProbeError) as exc:
            # a change that only waits for the old hardware must not keep the old definition from coming back
            (self.waiting if isinstance(exc, NotYet) else self.stuck).add(whose)
            self.say(f"{name}: NOT taken back: {printable(str(exc))}")
            if isinstance(exc, ChangedSince):
                self._say_the_way_on(entry, exc)
        except libvirt.libvirtError as exc:
            self.stuck.add(whose)
            self.say(
                f"{name}: NOT taken back: libvirt: {printable(libvirt_words(exc))}"
            )
        else:
            self.undone.append(entry)
            self.say(f"{name}: {printable(note)}")
            self.book.undone(entry.seq, note)

    def _taken_back(self, entry: Entry) -> str:
        place: Guest | Hypervisor | None = self.hypervisor
        if entry.uuid:
            place = next(
                (guest for guest in self.hypervisor.guests if guest.uuid == entry.uuid),
                None,
            )
        if place is None:
            raise ChangeFailed("the guest is gone")
        if isinstance(place, Hypervisor):
            _expect_declared(place, entry.change)
        elif not isinstance(entry.change, _LEFT_AS_IT_IS):
            _expect_no_obstacle(place, entry.change)
        return entry.change.undo(place, entry.outcome)

    def _say_the_way_on(self, entry: Entry, exc: ChangedSince) -> None:
        """Say which later change stands in the way, and how to go on."""
        if later := _later_run(self.record, entry):
            self.say(
                f"    the run {later.name} changed it later: take that back first: {typed.undo(later)}"
            )
            return
        self.say(
            "    it has been changed since: revert that by hand and undo again, or leave it as it is"
        )
        lines = exc.diff.splitlines()
        for line in lines[:_DIFF_LINES]:
            self.say(f"    {printable(line)}")
        if len(lines) > _DIFF_LINES:
            self.say(f"    and {counted(len(lines) - _DIFF_LINES, 'more line')}")


def _later_run(record: JournalRecord, entry: Entry) -> Path | None:
    """Return the newest later run beside that of *record* that changed the same thing as *entry*, or None."""
    own = record.path.parent.resolve()
    journals, _ = journal.journals_below(own.parent)
    for other in reversed(journals):
        run = other.path.parent
        is_later = run.name > own.name and other.uri == record.uri
        if is_later and _changed_the_same(other, entry):
            return run
    return None


def _changed_the_same(record: JournalRecord, entry: Entry) -> bool:
    """True if a standing change of *record* is about the same thing as *entry*."""
    standing = (
        later for later in record.entries if later.state not in ("failed", "undone")
    )
    return any(_is_about_the_same(later, entry) for later in standing)


def _is_about_the_same(later: Entry, earlier: Entry) -> bool:
    if later.uuid != earlier.uuid or type(later.change) is not type(earlier.change):
        return False
    return (
        not isinstance(later.change, FileChange)
        or later.change.target == earlier.change.target
    )


def _expect_declared(hypervisor: Hypervisor, change: Change) -> None:
    """Raise ChangeFailed for a file of the hypervisor that no inventory declares to be a job."""
    jobs = {str(notes.job) for notes in hypervisor.inventory.backup}
    if isinstance(change, FileChange) and change.path not in jobs:
        raise ChangeFailed(
            f"{change.path} is no job of the inventory: --inventory FILE names the one that declares it"
        )


def _note(say: Say, write: Callable[..., None], *details: object) -> None:
    """Write down something that was done already, or say that the journal cannot be written."""
    try:
        write(*details)
    except JournalLost as exc:
        say(f"note: {printable(str(exc))}")


def _tell_the_record(record: JournalRecord, undone: list[Entry], say: Say) -> None:
    """Mark in the run's record the changes that were taken back."""
    targets = [
        (entry.guest if entry.uuid else "", entry.requirement, entry.change.target)
        for entry in undone
    ]
    try:
        results.mark_undone(record.path.parent, targets)
    except (OSError, ReclaimError) as exc:
        reason = trouble(exc) if isinstance(exc, OSError) else str(exc)
        say(f"note: the record of that run could not be updated: {printable(reason)}")


def _expect_no_obstacle(guest: Guest, change: Change) -> None:
    """Raise ChangeFailed if the state of *guest* forbids to take *change* back."""
    if isinstance(change, FileChange | CommandChange):
        if reason := guest.why_not_inside():
            raise NotYet(f"{reason}: undo again when it runs")
    if reason := preconditions.why_not_applied(guest, change):
        raise ChangeFailed(reason)
    if isinstance(change, DefinitionChange):
        _expect_driver(guest, change)


def _expect_driver(guest: Guest, change: DefinitionChange) -> None:
    """Raise ChangeFailed if disks would go back to virtio-blk, and a kernel no longer has its driver.

    An initramfs that was built since, for the hardware of then, may lack it (dracut's hostonly, `MODULES=dep`).
    A guest that cannot be looked into gets its definition all the same: that may be its rescue.
    """
    disks, _, _ = pairs(Definition(change.before), Definition(change.after))
    moved = any(before.bus == "virtio" != after.bus for before, after in disks)
    if not moved or guest.why_not_inside():
        return
    facts = guest.look_inside()
    if not isinstance(facts, Facts):
        return
    lacking = [
        name
        for name, kernel in named_images(facts)
        if kernel.problem is None and not kernel.has("virtio_blk")
    ]
    if lacking:
        raise ChangeFailed(
            f"{', '.join(lacking)} in the guest has no virtio_blk, and would not boot from that bus: "
            "put it into its initramfs, and undo again"
        )


def finish(
    record: JournalRecord, hypervisor: Hypervisor, say: Say, *, carries_on: bool = True
) -> None:
    """Finish the power cycles during which the run of *record* died, so that no guest stays down.

    A guest that was off, and that the run had started to look into it, is shut down again after that. The checks
    judge the run's other open changes anew. The journal notes that, and undo looks whether they were made. A power
    cycle that cannot be finished stays for the next run. So does the journal, unless this run *carries on*.
    """
    book = Journal(record.path, record.uri, "recover")
    is_left = _finish_power_cycles(record, hypervisor, book, say)
    guests = {guest.uuid: guest for guest in hypervisor.guests}
    for entry in record.interrupted:
        if isinstance(entry.change, Boot):
            reason = _finish_boot(entry, entry.change, guests.get(entry.uuid), say)
            _note(say, book.failed, entry.seq, reason)
        elif not isinstance(entry.change, PowerCycle):
            reason = "the run died here; reclaim checks whether it was applied"
            _note(say, book.unknown, entry.seq, reason)
    if not is_left and carries_on:
        _note(say, book.close)


def _finish_boot(entry: Entry, boot: Boot, guest: Guest | None, say: Say) -> str:
    """Shut down a guest that the run had started to look into it, and return the outcome in words."""
    if guest is None:
        return "the guest is gone"
    guest.booted_by = None
    try:
        outcome = boot.undo(guest, {})
    except (ChangeFailed, ProbeError, libvirt.libvirtError) as exc:
        outcome = f"NOT shut down: {exc}"
    name = printable(entry.guest)
    say(f"{name}: the run that died had started it: {printable(outcome)}")
    return outcome


def _finish_power_cycles(
    record: JournalRecord, hypervisor: Hypervisor, book: Journal, say: Say
) -> bool:
    """Finish the power cycles of *record*. Returns True if one could not be finished."""
    guests = {guest.uuid: guest for guest in hypervisor.guests}
    for entry in record.interrupted:
        if isinstance(entry.change, Boot) and entry.uuid in guests:
            # marked again when it is started again
            guests[entry.uuid].booted_by = entry.change.run
    is_left = False
    for entry, cycle in record.power_cycles:
        guest = guests.get(entry.uuid)
        if guest is None:
            _note(say, book.failed, entry.seq, "the guest is gone")
        elif not _finish_power_cycle(record, entry, cycle, guest, book=book, say=say):
            is_left = True
    return is_left


def _finish_power_cycle(
    record: JournalRecord,
    entry: Entry,
    cycle: PowerCycle,
    guest: Guest,
    *,
    book: Journal,
    say: Say,
) -> bool:
    """Finish one power cycle. Returns False if it failed, so that the next run or undo tries again."""
    name = printable(entry.guest)
    try:
        outcome = _finished(cycle, guest)
    except (ChangeFailed, ProbeError, libvirt.libvirtError) as exc:
        reason = str(exc)
        if isinstance(exc, libvirt.libvirtError):
            reason = libvirt_words(exc)
        say(
            f"{name}: NOT finished, the power cycle of the run that died: {printable(reason, lines=True)}"
        )
        _note(say, book.unknown, entry.seq, reason)
        return False
    say(
        f"{name}: finished the power cycle of the run that died: {printable(outcome, lines=True)}"
    )
    _note(say, book.failed, entry.seq, outcome)
    guest.left_off = None
    if power.is_rolled_back(guest, cycle):
        rolled_back = record.defined_since_start(entry)
        for defined in rolled_back:
            _note(say, book.undone, defined.seq, "rolled back")
        _tell_the_record(record, rolled_back, say)
    return True


def _finished(cycle: PowerCycle, guest: Guest) -> str:
    """Finish *cycle* and return the outcome in words. Raises ChangeFailed if the guest stays off."""
    try:
        return cycle.finish(guest)
    except PowerCycleFailed as exc:
        if not power.is_active(guest):
            raise
        return str(exc)


def at_stake(record: JournalRecord, hypervisor: Hypervisor) -> list[tuple[Guest, str]]:
    """Return the guests that the run of *record* left in a power cycle and that are not as they were, in words."""
    guests = {guest.uuid: guest for guest in hypervisor.guests}
    run = record.path.parent
    start = way = typed.undo(run)
    see = f"see whether it did: {way}"
    if record.uri == hypervisor.uri:  # then --fix finishes it as well
        start = f"start it on the definition that booted with --fix, or: {way}"
        see = f"see whether it did with --fix, or: {way}"
    left_off = f"it is off since the run {run.name}, which did not finish its power cycle: {start}"
    not_seen = (
        f"the run {run.name} died while it waited for the guest to come back: {see}"
    )
    stakes = []
    for entry, cycle in record.power_cycles:
        guest = guests.get(entry.uuid)
        if guest is None:
            continue
        if not guest.is_running:
            stakes.append((guest, left_off))
        elif not power.runs_on(guest, cycle.booted):
            stakes.append((guest, not_seen))
    return stakes
