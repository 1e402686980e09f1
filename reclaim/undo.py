"""Walks a journal backwards, and finishes what a run that died had begun."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import libvirt

from reclaim import journal, power, run, states
from reclaim.amend import ImageAmend
from reclaim.boot import Boot
from reclaim.change import Change, CommandChange, DefinitionChange, FileChange
from reclaim.definition import Definition, pairs
from reclaim.errors import ChangeFailed, NotYet, PowerCycleFailed, ProbeError, ReclaimError
from reclaim.facts import Facts
from reclaim.guest import Guest
from reclaim.hypervisor import Hypervisor, connect
from reclaim.inventory import Inventory, read_inventory
from reclaim.journal import Entry, Journal, Record
from reclaim.power import PowerCycle
from reclaim.report import results
from reclaim.sparsify import Sparsify
from reclaim.text import libvirt_words, printable

Say = Callable[[str], None]
#: changes that nothing is taken back of: no state of the guest stands in the way
_LEFT_AS_IT_IS = (PowerCycle, ImageAmend, Sparsify)


def undo(folder: Path, say: Say, inventory: Path | None = None) -> bool:
    """Take back what the run in *folder* changed, the last change first, with *inventory* or the run's own.

    A guest whose change cannot be taken back safely is left as it then is, and said; the others go
    on. True where everything was taken back. Raises ReclaimError where there is no journal, or the
    hypervisor cannot be reached or is being changed by somebody else.
    """
    path = folder / journal.NAME if folder.is_dir() else folder
    if not path.exists():
        raise ReclaimError(f"{folder}: no {journal.NAME} there: that run changed nothing, or it is no run")
    record = journal.read(path)
    hypervisor = connect(record.uri, None, _inventory(record, say, inventory))
    try:
        with run.lock(hypervisor):
            left = _finish_power_cycles(record, hypervisor, Journal(record.path, record.uri, "undo"), say)
            return _undo(journal.read(path), hypervisor, say) and not left
    finally:
        hypervisor.close()


def _inventory(record: Record, say: Say, given: Path | None) -> Inventory:
    if given is not None:
        return read_inventory(given)
    if record.inventory is None:
        return Inventory()
    try:
        return read_inventory(Path(record.inventory))
    except ReclaimError as exc:
        say(f"note: {printable(str(exc))}: going on without it; --inventory FILE names another")
        return Inventory()


def _undo(record: Record, hypervisor: Hypervisor, say: Say) -> bool:
    guests = {guest.uuid: guest for guest in hypervisor.guests}
    book = Journal(record.path, record.uri, "undo")
    stuck: set[str] = set()
    waiting: set[str] = set()
    undone: list[Entry] = []
    for entry in reversed([entry for entry in record.entries if entry.state in ("done", "intended", "unknown")]):
        name = f"{printable(entry.guest)}: {entry.requirement}"
        whose = entry.uuid or entry.change.target  # one file of the hypervisor says nothing about another
        inside = isinstance(entry.change, FileChange | CommandChange)
        if whose in stuck or (whose in waiting and inside):
            say(f"{name}: left, since a later change was")
            continue
        place = guests.get(entry.uuid) if entry.uuid else hypervisor
        if entry.state == "unknown" and isinstance(entry.change, PowerCycle):
            stuck.add(whose)  # it could not be finished
            continue
        try:
            if place is None:
                raise ChangeFailed("the guest is gone")
            if isinstance(place, Guest) and not isinstance(entry.change, _LEFT_AS_IT_IS):
                _expect_no_obstacle(place, entry.change)
            note = entry.change.undo(place, entry.outcome)
        except (ChangeFailed, ProbeError) as exc:
            # what only waits for the old hardware must not keep the old definition from coming back
            (waiting if isinstance(exc, NotYet) else stuck).add(whose)
            say(f"{name}: NOT taken back: {printable(str(exc))}")
        except libvirt.libvirtError as exc:
            stuck.add(whose)
            say(f"{name}: NOT taken back: libvirt: {printable(libvirt_words(exc))}")
        else:
            book.undone(entry.seq, note)
            undone.append(entry)
            say(f"{name}: {printable(note)}")
    _tell_the_record(record, undone)
    return not stuck and not waiting


def _tell_the_record(record: Record, undone: list[Entry]) -> None:
    """The record of the run says what was taken back since."""
    results.mark_undone(
        record.path.parent,
        [(entry.guest if entry.uuid else "", entry.requirement, entry.change.target) for entry in undone],
    )


def _expect_no_obstacle(guest: Guest, change: Change) -> None:
    """Raises ChangeFailed where the state of *guest* forbids to take *change* back."""
    if isinstance(change, FileChange | CommandChange) and (reason := guest.closed()):
        raise NotYet(f"{reason}: when it runs, undo once more")
    if reason := states.reason_to_withhold(guest, change):
        raise ChangeFailed(reason)
    if isinstance(change, DefinitionChange):
        _expect_driver(guest, change)


def _expect_driver(guest: Guest, change: DefinitionChange) -> None:
    """Raises ChangeFailed where disks would go back to virtio-blk, and a kernel has no driver of it any more.

    An initramfs that was built since, for the hardware that was there, may lack it (dracut's hostonly,
    `MODULES=dep`). A guest that nobody can look into is given its definition all the same: that may be its rescue.
    """
    moved, _, _ = pairs(Definition(change.before), Definition(change.after))
    if not any(before.bus == "virtio" != after.bus for before, after in moved) or guest.closed():
        return
    found = guest.look_inside()
    if not isinstance(found, Facts):
        return
    lacking = [one.release for one in found.kernels if one.problem is None and not one.has("virtio_blk")]
    if lacking:
        raise ChangeFailed(
            f"{', '.join(lacking)} in the guest has no virtio_blk, and would not boot from that bus: "
            "put it into its initramfs, and undo once more"
        )


def finish(record: Record, hypervisor: Hypervisor, say: Say) -> None:
    """Finish the power cycles during which the run of *record* died: a guest is never left down.

    One that was off, and was started to be looked into, is shut down again after that. The other changes it may
    have been at are judged anew by the checks; the journal says so. A power cycle that cannot be finished stays for
    the next run.
    """
    book = Journal(record.path, record.uri, "recover")
    left = _finish_power_cycles(record, hypervisor, book, say)
    guests = {guest.uuid: guest for guest in hypervisor.guests}
    for entry in record.interrupted:
        reason = "the run died here; whether it was applied is judged anew"
        if isinstance(entry.change, Boot) and (guest := guests.get(entry.uuid)):
            reason = _finish_boot(entry.change, guest)
            say(f"{printable(entry.guest)}: the run that died had started it: {printable(reason)}")
        if not isinstance(entry.change, PowerCycle):
            book.failed(entry.seq, reason)
    if not left:
        book.close()


def _finish_boot(change: Boot, guest: Guest) -> str:
    guest.booted_by = None
    try:
        return change.undo(guest, {})
    except (ChangeFailed, ProbeError, libvirt.libvirtError) as exc:
        return f"NOT shut down: {exc}"


def _finish_power_cycles(record: Record, hypervisor: Hypervisor, book: Journal, say: Say) -> bool:
    """True where one could not be finished."""
    guests = {guest.uuid: guest for guest in hypervisor.guests}
    for entry in record.interrupted:
        if isinstance(entry.change, Boot) and entry.uuid in guests:
            guests[entry.uuid].booted_by = entry.change.run  # marked again when it is started again
    left = False
    for entry, cycle in record.power_cycles:
        name, guest = printable(entry.guest), guests.get(entry.uuid)
        if guest is None:
            book.failed(entry.seq, "the guest is gone")
            continue
        try:
            words = _finished(cycle, guest)
        except (ChangeFailed, ProbeError, libvirt.libvirtError) as exc:
            left = True
            words = libvirt_words(exc) if isinstance(exc, libvirt.libvirtError) else str(exc)
            say(f"{name}: NOT finished, the power cycle of the run that died: {printable(words, lines=True)}")
            book.unknown(entry.seq, words)
            continue
        say(f"{name}: finished the power cycle of the run that died: {printable(words, lines=True)}")
        book.failed(entry.seq, words)
        guest.left_off = None
        if power.is_rolled_back(guest, cycle):
            back = record.defined_since_start(entry)
            for one in back:
                book.undone(one.seq, "rolled back")
            _tell_the_record(record, back)
    return left


def _finished(cycle: PowerCycle, guest: Guest) -> str:
    """What was done, in words. Raises ChangeFailed where the guest is off even so."""
    try:
        return cycle.finish(guest)
    except PowerCycleFailed as exc:
        if not power.is_active(guest):
            raise
        return str(exc)


def at_stake(record: Record, hypervisor: Hypervisor) -> list[tuple[Guest, str]]:
    """The guests in whose power cycle the run of *record* died, where they are not as they were, in words."""
    guests = {guest.uuid: guest for guest in hypervisor.guests}
    name = record.path.parent.name
    finish = f"start it on the definition that booted with --fix, or: python -m reclaim undo {record.path.parent}"
    found = []
    for entry, cycle in record.power_cycles:
        guest = guests.get(entry.uuid)
        if guest is None:
            continue
        if not guest.is_running:
            found.append(
                (guest, f"it is off, left so by the run {name}, which did not see its power cycle to the end: {finish}")
            )
        elif not power.runs_on(guest, cycle.booted):
            words = f"the run {name} died while it waited for it to come back: see whether it did with --fix"
            found.append((guest, f"{words}, or: python -m reclaim undo {record.path.parent}"))
    return found
