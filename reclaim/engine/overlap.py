"""Several guests of a fix side by side (--parallel), each from its first row to its last, each with its own way back.

A thread mends one guest at a time. The engine lets one of them judge, journal and change; the others wait meanwhile for
their guests to go down and to come back. pytest still asks for the rows in its own order, and waits for each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import libvirt

from reclaim.base.errors import ProbeError
from reclaim.base.text import libvirt_words
from reclaim.base.verdict import Result
from reclaim.engine.engine import Subject
from reclaim.engine.part import Part
from reclaim.handles import host_devices
from reclaim.handles.guest import Guest
from reclaim.processes import worker
from reclaim.requirement import Requirement
from reclaim.storage import image_users
from reclaim.storage.image_users import Holdings

#: a row: its requirement and its subject
Row = tuple[Requirement, Subject]
#: the same by names
_Key = tuple[int, str, tuple[str | None, ...]]
#: seconds between two looks of a thread that waits for a guest that it may take
_LOOK_SECONDS = 0.1


@dataclass(eq=False)
class _Turn:
    """One guest, with its rows in their order, and all that it may share with others."""

    part: Part
    guest: Guest
    rows: list[Row] = field(default_factory=list)
    holdings: Holdings = field(default_factory=Holdings)
    devices: frozenset[str] = frozenset()

    def may_go_beside(self, other: _Turn) -> bool:
        """True unless both share an image, a base, or a device of their hypervisor."""
        if self.part is not other.part:
            return True
        if not self.devices.isdisjoint(other.devices):
            return False
        return not self.holdings.shares_with(other.holdings)


class SideBySide:
    """The guests of a run, *at_once* of them at a time. `start` it, ask for each `result`, and `stop` it."""

    def __init__(
        self, rows: Iterable[tuple[Part, Requirement, Subject]], at_once: int
    ) -> None:
        self._waiting = _turns(rows)
        self._busy: list[_Turn] = []
        self._answers: dict[_Key, Callable[[], Result]] = {}
        self._rows = {
            _key(requirement, subject)
            for turn in self._waiting
            for requirement, subject in turn.rows
        }
        self._changed = threading.Condition()
        number = min(at_once, len(self._waiting))
        self._crew = worker.Crew(self._work, number)
        self._parts = list(
            {id(turn.part): turn.part for turn in self._waiting}.values()
        )
        self._at_once = number

    def start(self) -> list[str]:
        """Find out which guests share something, and begin. Return a line for each hypervisor that does not report it.

        The guests of such a one go one after the other.
        """
        troubles = [line for part in self._parts if (line := self._survey(part))]
        for part in self._parts:
            part.engine.overlaps = True
            part.hypervisor.at_once = self._at_once
        self._crew.start()
        return troubles

    def has(self, requirement: Requirement, subject: Subject) -> bool:
        """True if this row is mended here."""
        return _key(requirement, subject) in self._rows

    def result(self, requirement: Requirement, subject: Subject) -> Result:
        """Wait for a row and return it, or raise its error."""
        key = _key(requirement, subject)
        with self._changed:
            while key not in self._answers:
                if not self._crew.is_at_work:
                    raise RuntimeError(f"no thread is left for the row {key[1:]}")
                self._changed.wait(_LOOK_SECONDS)
        return self._answers[key]()

    def stop(self) -> None:
        """Begin no other guest, and wait until those that are down are up again.

        If a signal raises here it is raised again, once those ways back have ended too.
        """
        try:
            self._crew.stop()
        finally:
            for part in self._parts:
                part.engine.put_in_order(part.guests)

    def _survey(self, part: Part) -> str:
        """Note what the guests of *part* share. Return why that is not known, or ""."""
        turns = [turn for turn in self._waiting if turn.part is part]
        try:
            held = image_users.holdings(part.hypervisor)
            for turn in turns:
                # one with disks and without images has another name by now, or they are not known
                unknown = Holdings(is_unclear=bool(turn.guest.disks))
                turn.holdings = held.get(turn.guest.name, unknown)
                turn.devices = _devices(turn.guest)
        except (ProbeError, libvirt.libvirtError) as exc:
            for turn in turns:
                turn.holdings = Holdings(is_unclear=True)
            is_libvirts = isinstance(exc, libvirt.libvirtError)
            why = f"libvirt: {libvirt_words(exc)}" if is_libvirts else str(exc)
            return (
                f"{part.hypervisor.name}: one guest goes after the other, since reclaim cannot find out which share "
                f"an image: {why}"
            )
        return ""

    # In the threads

    def _work(self) -> None:
        """Mend guests until none is left."""
        while (turn := self._next()) is not None:
            try:
                for requirement, subject in turn.rows:
                    worker.expect_wanted()
                    mend = partial(turn.part.engine.run, requirement, subject)
                    self._give(_key(requirement, subject), worker.answered(mend))
            finally:
                with self._changed:
                    self._busy.remove(turn)
                    self._changed.notify_all()

    def _give(self, key: _Key, answer: Callable[[], Result]) -> None:
        with self._changed:
            self._answers[key] = answer
            self._changed.notify_all()

    def _next(self) -> _Turn | None:
        """Return the first guest that shares nothing with one under way; None if there is none left."""
        with self._changed:
            while self._waiting:
                worker.expect_wanted()
                for turn in self._waiting:
                    if all(map(turn.may_go_beside, self._busy)):
                        self._waiting.remove(turn)
                        self._busy.append(turn)
                        return turn
                self._changed.wait(_LOOK_SECONDS)
        return None


def _key(requirement: Requirement, subject: Subject) -> _Key:
    return id(subject.hypervisor), requirement.slug, subject.key


def _turns(rows: Iterable[tuple[Part, Requirement, Subject]]) -> list[_Turn]:
    """Return the rows of guests, those of each guest together. Copies, jobs and hypervisors come after all guests."""
    turns: dict[Guest, _Turn] = {}
    for part, requirement, subject in rows:
        guest = subject.guest
        if guest is None or subject.backup is not None:
            continue
        turn = turns.setdefault(guest, _Turn(part, guest))
        turn.rows.append((requirement, subject))
    return list(turns.values())


def _devices(guest: Guest) -> frozenset[str]:
    """Return the devices of the host that *guest* has or takes with its next start. Raises libvirtError, ProbeError."""
    live = guest.live
    definitions = [guest.persistent, *([live] if live is not None else [])]
    return frozenset(
        device
        for definition in definitions
        for device in host_devices.taken_by(guest, definition)
    )
