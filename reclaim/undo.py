"""Walks a journal backwards, and finishes what a run that died had begun."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import libvirt

from reclaim import journal, run, states
from reclaim.amend import ImageAmend
from reclaim.change import Change
from reclaim.errors import ChangeFailed, ProbeError, ReclaimError
from reclaim.guest import Guest
from reclaim.hypervisor import Hypervisor, connect
from reclaim.inventory import Inventory
from reclaim.journal import Entry, Journal, Record
from reclaim.power import PowerCycle
from reclaim.sparsify import Sparsify
from reclaim.text import printable

Say = Callable[[str], None]
#: changes that nothing is taken back of: no state of the guest stands in the way
_LEFT_AS_IT_IS = (PowerCycle, ImageAmend, Sparsify)


def undo(folder: Path, say: Say) -> bool:
    """Take back what the run in *folder* changed, the last change first.

    A guest whose change cannot be taken back safely is left as it then is, and said; the others go
    on. True where everything was taken back. Raises ReclaimError where there is no journal, or the
    hypervisor cannot be reached or is being changed by somebody else.
    """
    path = folder / journal.NAME if folder.is_dir() else folder
    if not path.exists():
        raise ReclaimError(f"{folder}: no {journal.NAME} there: that run changed nothing, or it is no run")
    record = journal.read(path)
    hypervisor = connect(record.uri, None, Inventory())
    with run.lock(hypervisor):
        return _undo(record, hypervisor, say)


def _undo(record: Record, hypervisor: Hypervisor, say: Say) -> bool:
    guests = {guest.uuid: guest for guest in hypervisor.guests}
    book = Journal(record.path, record.uri, "undo")
    stuck: set[str] = set()
    for entry in reversed([entry for entry in record.entries if entry.state in ("done", "intended")]):
        name = f"{printable(entry.guest)}: {entry.requirement}"
        whose = entry.uuid or entry.change.target  # one file of the hypervisor says nothing about another
        if whose in stuck:
            say(f"{name}: left, since a later change was")
            continue
        place = guests.get(entry.uuid) if entry.uuid else hypervisor
        try:
            if place is None:
                raise ChangeFailed("the guest is gone")
            if isinstance(place, Guest) and not isinstance(entry.change, _LEFT_AS_IT_IS):
                _expect_no_obstacle(place, entry.change)
            note = entry.change.undo(place, entry.outcome)
        except (ChangeFailed, ProbeError) as exc:
            stuck.add(whose)
            say(f"{name}: NOT taken back: {printable(str(exc))}")
        except libvirt.libvirtError as exc:
            stuck.add(whose)
            say(f"{name}: NOT taken back: libvirt: {printable(exc.get_error_message() or str(exc))}")
        else:
            book.undone(entry.seq, note)
            say(f"{name}: {printable(note)}")
    return not stuck


def _expect_no_obstacle(guest: Guest, change: Change) -> None:
    """Raises ChangeFailed where the state of *guest* forbids to take *change* back."""
    if reason := states.reason_to_withhold(guest, change):
        raise ChangeFailed(reason)


def finish(record: Record, hypervisor: Hypervisor, say: Say) -> None:
    """Finish the power cycles during which the run of *record* died: a guest is never left down.

    The other changes it may have been at are judged anew by the checks; the journal says so.
    """
    guests = {guest.uuid: guest for guest in hypervisor.guests}
    book = Journal(record.path, record.uri, "recover")
    for entry in record.interrupted:
        guest = guests.get(entry.uuid)
        reason = "the run died here; whether it was applied is judged anew"
        if guest is not None and isinstance(entry.change, PowerCycle):
            reason = _finish_power_cycle(entry, entry.change, guest)
            told = printable(reason, lines=True)
            say(f"{printable(entry.guest)}: finished the power cycle of the run that died: {told}")
        book.failed(entry.seq, reason)
    book.close()


def _finish_power_cycle(entry: Entry, cycle: PowerCycle, guest: Guest) -> str:
    try:
        return cycle.resume(guest)["note"]
    except ChangeFailed as exc:
        return str(exc)
