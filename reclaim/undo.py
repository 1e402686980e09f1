"""Walks a journal backwards, and finishes what a run that died had begun."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import libvirt

from reclaim import journal, run, states
from reclaim.boot import Boot
from reclaim.change import Change, CommandChange, FileChange
from reclaim.errors import ChangeFailed, NotYet, ProbeError, ReclaimError
from reclaim.guest import Guest
from reclaim.hypervisor import Hypervisor, connect
from reclaim.inventory import Inventory, read_inventory
from reclaim.journal import Entry, Journal, Record
from reclaim.power import PowerCycle
from reclaim.text import printable

Say = Callable[[str], None]


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
            return _undo(record, hypervisor, say)
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
    for entry in reversed([entry for entry in record.entries if entry.state in ("done", "intended")]):
        name = f"{printable(entry.guest)}: {entry.requirement}"
        whose = entry.uuid or entry.change.target  # one file of the hypervisor says nothing about another
        inside = isinstance(entry.change, FileChange | CommandChange)
        if whose in stuck or (whose in waiting and inside):
            say(f"{name}: left, since a later change was")
            continue
        place = guests.get(entry.uuid) if entry.uuid else hypervisor
        try:
            if place is None:
                raise ChangeFailed("the guest is gone")
            if isinstance(place, Guest) and not isinstance(entry.change, PowerCycle):
                _expect_no_obstacle(place, entry.change)
            note = entry.change.undo(place, entry.outcome)
        except (ChangeFailed, ProbeError) as exc:
            # what only waits for the old hardware must not keep the old definition from coming back
            (waiting if isinstance(exc, NotYet) else stuck).add(whose)
            say(f"{name}: NOT taken back: {printable(str(exc))}")
        except libvirt.libvirtError as exc:
            stuck.add(whose)
            say(f"{name}: NOT taken back: libvirt: {printable(exc.get_error_message() or str(exc))}")
        else:
            book.undone(entry.seq, note)
            say(f"{name}: {printable(note)}")
    return not stuck and not waiting


def _expect_no_obstacle(guest: Guest, change: Change) -> None:
    """Raises ChangeFailed where the state of *guest* forbids to take *change* back."""
    if isinstance(change, FileChange | CommandChange) and (reason := guest.closed()):
        raise NotYet(f"{reason}: when it runs, undo once more")
    if reason := states.reason_to_withhold(guest, change):
        raise ChangeFailed(reason)


def finish(record: Record, hypervisor: Hypervisor, say: Say) -> None:
    """Finish the power cycles during which the run of *record* died: a guest is never left down.

    One that was off, and was started to be looked into, is shut down again after that. The other changes it may
    have been at are judged anew by the checks; the journal says so.
    """
    guests = {guest.uuid: guest for guest in hypervisor.guests}
    book = Journal(record.path, record.uri, "recover")
    for entry in record.interrupted:
        if isinstance(entry.change, Boot) and entry.uuid in guests:
            guests[entry.uuid].booted_by = entry.change.run
    for entry in sorted(record.interrupted, key=lambda one: isinstance(one.change, Boot)):
        guest = guests.get(entry.uuid)
        reason = "the run died here; whether it was applied is judged anew"
        if guest is not None and isinstance(entry.change, Boot):
            reason = _finish_boot(entry.change, guest)
            say(f"{printable(entry.guest)}: the run that died had started it: {printable(reason)}")
        if guest is not None and isinstance(entry.change, PowerCycle):
            reason = _finish_power_cycle(entry, entry.change, guest)
            told = printable(reason, lines=True)
            say(f"{printable(entry.guest)}: finished the power cycle of the run that died: {told}")
        book.failed(entry.seq, reason)
    book.close()


def _finish_boot(change: Boot, guest: Guest) -> str:
    guest.booted_by = None
    try:
        return change.undo(guest, {})
    except (ChangeFailed, ProbeError, libvirt.libvirtError) as exc:
        return f"NOT shut down: {exc}"


def _finish_power_cycle(entry: Entry, cycle: PowerCycle, guest: Guest) -> str:
    try:
        return cycle.resume(guest)["note"]
    except ChangeFailed as exc:
        return str(exc)
