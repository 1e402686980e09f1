"""The inventory against the guests that there are: names that meet no guest, and waivers that end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from reclaim.base.text import printable, some
from reclaim.handles.hypervisor import Hypervisor, Unreached
from reclaim.inventory import GuestNotes, InventoryFile, Waiver
from reclaim.inventory.keys import Scoped
from reclaim.inventory.mistakes import named
from reclaim.inventory.names import is_pattern, matches
from reclaim.inventory.places import Place
from reclaim.inventory.waivers import SOON_DAYS

#: tables of guests, and waivers, that a run lists: one file may have hundreds for other hypervisors. And other globs;
#: `inventory check` lists them all
_TABLES, _GLOBS = 6, 30


@dataclass(frozen=True)
class Absent:
    """A name or glob of the inventory that no guest has or matches here."""

    place: Place
    name: str


@dataclass(frozen=True)
class Ending:
    """A waiver that ended, or is to end soon, by the date of a hypervisor whose guests it is for."""

    place: Place
    slug: str
    waiver: Waiver
    #: days until its last one; below 0 if that is past
    days: int

    @property
    def has_ended(self) -> bool:
        return self.days < 0


def absent(file: InventoryFile, hypervisors: Sequence[Hypervisor]) -> list[Absent]:
    """Return the names that meet no guest of *hypervisors*, but for tables that are for other hypervisors alone.

    If one of them could not be reached, a name that is for all may be one of its guests.
    """
    missing = []
    some_unreached = any(isinstance(each, Unreached) for each in hypervisors)
    for place, name, table in _named_guests(file):
        if some_unreached and table.on is None:
            continue
        concerned = [
            hypervisor
            for hypervisor in hypervisors
            if table.is_on(hypervisor.hostname or "")
        ]
        if concerned and not _meets(name, concerned):
            missing.append(Absent(place, name))
    return missing


def _meets(name: str, hypervisors: Iterable[Hypervisor]) -> bool:
    """True if a guest of *hypervisors* is called *name*, or matches it."""
    for hypervisor in hypervisors:
        guests = hypervisor.guest_names
        if name in guests:
            return True
        if is_pattern(name) and any(matches(name, guest) for guest in guests):
            return True
    return False


def _named_guests(file: InventoryFile) -> Iterator[tuple[Place, str, Scoped]]:
    """Yield each name and glob of guests in the file, with its place and its table."""
    inventory = file.inventory
    for name, notes in inventory.guest.items():
        yield ("guest", name), name, notes
    for key in ("ssh", "backup", "window"):
        for number, table in enumerate(getattr(inventory, key)):
            for index, glob in enumerate(table.guests or ()):
                yield (key, number, "guests", index), glob, table


def endings(file: InventoryFile, hypervisors: Iterable[Hypervisor]) -> list[Ending]:
    """Return the waivers for guests of *hypervisors* that ended or end soon, each once, the first to end first."""
    ending: dict[Place, Ending] = {}
    for place, notes, slug, waiver in _waivers(file):
        for hypervisor in hypervisors:
            is_here = notes.is_on(hypervisor.hostname or "")
            if (
                waiver.until is None
                or not is_here
                or not _meets(place[1], [hypervisor])
            ):
                continue
            days = (waiver.until - hypervisor.now().date()).days
            if days <= SOON_DAYS:
                ending.setdefault(place, Ending(place, slug, waiver, days))
    return sorted(ending.values(), key=lambda waiver: waiver.days)


def _waivers(
    file: InventoryFile,
) -> Iterator[tuple[tuple[str, str, str, str], GuestNotes, str, Waiver]]:
    for name, notes in file.inventory.guest.items():
        for slug, waiver in notes.waive.items():
            yield ("guest", name, "waive", slug), notes, slug, waiver


def located(file: InventoryFile, place: Place) -> str:
    """Return *place* in words: "[guest.web], line 12"."""
    name = named(place)
    header = name if name.startswith("[[") else f"[{name}]"
    line = file.line(place)
    return f"{header}, line {line}" if line is not None else header


def remarks(file: InventoryFile, hypervisors: Sequence[Hypervisor]) -> Iterator[str]:
    """Yield the lines that a run prints about the inventory: the names that meet no guest, and the waivers that end."""
    missing = absent(file, hypervisors)
    tables = [each for each in missing if each.place[0] == "guest"]
    globs = [each for each in missing if each.place[0] != "guest"]
    if tables:
        yield f"the inventory names guests that are not here: {_listed(file, tables, _TABLES)}"
    if globs:
        yield f"globs of the inventory meet no guest here: {_listed(file, globs, _GLOBS)}"
    ending = [each for each in endings(file, hypervisors) if not each.has_ended]
    for each in ending[:_TABLES]:
        yield f"the waiver {ending_in_words(file, each)}"
    if len(ending) > _TABLES:
        yield f"and {len(ending) - _TABLES} more waivers end soon"


def _listed(file: InventoryFile, names: list[Absent], most: int) -> str:
    listed = [f"{printable(each.name)} ({located(file, each.place)})" for each in names]
    return some(listed, most)


def ending_in_words(file: InventoryFile, ending: Ending) -> str:
    """Return the rest of a sentence about a waiver: its place, its end, its reason."""
    name = ending.place[1]
    of = f"of {ending.slug} for {printable(str(name))} ({located(file, ending.place)})"
    reason = printable(ending.waiver.reason)
    if ending.has_ended:
        return f"{of} ended on {ending.waiver.until}: {reason}"
    when = (
        ("today", "tomorrow")[ending.days]
        if ending.days < 2
        else f"in {ending.days} days"
    )
    return f"{of} ends on {ending.waiver.until}, {when}: {reason}"
