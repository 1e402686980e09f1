"""--parallel: several guests side by side on the test driver, and every way in which that may end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import libvirt
import pytest

from reclaim.base.verdict import Verdict
from reclaim.changes import power
from reclaim.definition.compare import same
from reclaim.definition.domain import Definition
from reclaim.engine import journal, undo
from reclaim.engine.overlap import SideBySide
from reclaim.engine.part import Part
from reclaim.handles.hypervisor import Hypervisor
from reclaim.inventory import Inventory, Policy
from reclaim.storage import image_users
from tests.images import qcow2_header
from tests.support import (
    InhabitedGuest,
    Inside,
    definition_of,
    disk_xml,
    domain_xml,
    engine,
    opened,
    requirement,
    subject,
)

#: a deadline that only a failure reaches
_SECONDS = 60
LIVE = "live-definition"


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "_PAUSE", 0.005)
    for name in ("_STEADY_SECONDS", "_BLIND_SECONDS", "_SETTLE_SECONDS"):
        monkeypatch.setattr(power, name, 0)


class Fleet:
    """Guests with an agent each, whose changed definition waits for a power cycle."""

    def __init__(self, folder: Path, *names: str, bases: dict[str, Path] | None = None) -> None:
        self.folder = folder
        self.images = {name: folder / f"{name}.qcow2" for name in names}
        for name, image in self.images.items():
            base = str((bases or {}).get(name, "")).encode()
            fields = {"backing_at": 112, "backing_size": len(base)} if base else {}
            image.write_bytes(qcow2_header(**fields) + bytes(8) + base + bytes(1024))
        policy = Policy.model_validate({"shutdown_seconds": _SECONDS, "boot_seconds": _SECONDS})
        domains = [self._xml(name) for name in names]
        self.hypervisor: Hypervisor = opened(folder, *domains, inventory=Inventory(policy=policy))
        self.hypervisor.is_test_driver = False
        self.guests: dict[str, InhabitedGuest] = {}
        self.booted: dict[str, Definition] = {}
        for empty in self.hypervisor.guests:
            guest = InhabitedGuest(self.hypervisor, empty.domain, empty.name, empty.uuid, within=Inside())
            guest.answers = {"guest-ping": dict, "guest-shutdown": guest.domain.destroy}
            self.guests[guest.name] = guest
            self.booted[guest.name] = definition_of(guest)
            guest.history.append(self.booted[guest.name].xml)
            self.hypervisor.connection.defineXML(self._xml(guest.name, "discard='unmap'"))
            guest.forget()
        self.hypervisor.guests[:] = [self.guests[name] for name in names]
        self.engine = engine(self.hypervisor, folder, restart=True)
        self.part = Part(self.hypervisor, self.hypervisor.guests, self.engine, folder)

    def _xml(self, name: str, driver: str = "") -> str:
        return domain_xml(disk_xml(source=str(self.images[name]), driver=driver), name=name)

    def overlap(self, at_once: int = 2) -> SideBySide:
        rows = [(self.part, requirement(LIVE), subject(guest)) for guest in self.hypervisor.guests]
        return SideBySide(rows, at_once)

    def verdict(self, mended: SideBySide, name: str) -> Verdict:
        return mended.result(requirement(LIVE), subject(self.guests[name])).verdict

    def on_shutdown(self, name: str, work: Callable[[], None]) -> None:
        """Let the guest do *work* when it is asked to shut down, and then go off."""
        guest = self.guests[name]

        def shut_down() -> None:
            work()
            guest.domain.destroy()

        guest.answers["guest-shutdown"] = shut_down

    def is_up_on(self, name: str, driver: str) -> bool:
        domain = self.guests[name].domain
        return bool(domain.isActive()) and ("unmap" in domain.XMLDesc(0)) == (driver == "new")

    def read(self) -> journal.JournalRecord:
        self.engine.journal.end()
        return journal.read(self.engine.journal.path)


def _until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def pair(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path, "one", "two")


def test_both_are_down_at_the_same_time_and_come_back(pair: Fleet) -> None:
    """Neither goes off before the other was asked to: one after the other they would wait for ever."""
    both = threading.Barrier(2)
    for name in pair.guests:
        pair.on_shutdown(name, lambda: _met(both))
    mended = pair.overlap()
    assert mended.start() == []
    assert [pair.verdict(mended, name) for name in pair.guests] == [Verdict.FIXED] * 2
    mended.stop()
    assert all(pair.is_up_on(name, "new") for name in pair.guests)
    record = pair.read()
    assert record.ended
    assert [(entry.seq, entry.state) for entry in record.entries] == [(1, "done"), (2, "done")]
    assert {entry.uuid for entry in record.entries} == {guest.uuid for guest in pair.guests.values()}
    assert [row.guest for row in pair.engine.results.values()] == ["one", "two"]


def _met(both: threading.Barrier) -> None:
    both.wait(_SECONDS)


def test_a_second_run_changes_nothing(pair: Fleet) -> None:
    mended = pair.overlap()
    mended.start()
    assert [pair.verdict(mended, name) for name in pair.guests] == [Verdict.FIXED] * 2
    mended.stop()
    pair.engine = pair.part.engine = engine(pair.hypervisor, pair.folder, restart=True)
    again = pair.overlap()
    again.start()
    assert [pair.verdict(again, name) for name in pair.guests] == [Verdict.COMPLIANT] * 2
    again.stop()
    assert not pair.engine.journal.path.exists()


def test_no_more_than_are_asked_for_are_down(tmp_path: Path) -> None:
    names = ("a", "b", "c", "d", "e")
    fleet = Fleet(tmp_path, *names)
    down: list[int] = []
    for name in names:
        fleet.on_shutdown(name, lambda: down.append(len(fleet.part.engine.journal._at_stake)))
    mended = fleet.overlap(3)
    mended.start()
    assert [fleet.verdict(mended, name) for name in names] == [Verdict.FIXED] * 5
    mended.stop()
    assert len(down) == 5
    assert max(down) <= 3
    assert all(fleet.is_up_on(name, "new") for name in names)


@pytest.mark.parametrize("share", ["base", "unclear", "device"])
def test_guests_that_share_something_go_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: str
) -> None:
    base = tmp_path / "base.qcow2"
    base.write_bytes(qcow2_header() + bytes(1024))
    fleet = Fleet(tmp_path, "one", "two", bases={"one": base, "two": base} if share == "base" else None)
    if share == "device":
        monkeypatch.setattr(
            "reclaim.handles.host_devices.taken_by", lambda _guest, _definition: ["hostdev pci 0000:03"]
        )
    if share == "unclear":
        fleet.images["one"].write_bytes(b"QFI\xfb")
    down: list[int] = []
    for name in fleet.guests:
        fleet.on_shutdown(name, lambda: down.append(len(fleet.engine.journal._at_stake)))
    mended = fleet.overlap()
    mended.start()
    verdicts = [fleet.verdict(mended, name) for name in fleet.guests]
    mended.stop()
    assert verdicts == [Verdict.FIXED] * 2
    assert down == [1, 1]


def test_a_hypervisor_that_does_not_report_what_is_shared_has_one_guest_at_a_time(
    pair: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_users, "_LOOK", "exit 3")
    down: list[int] = []
    for name in pair.guests:
        pair.on_shutdown(name, lambda: down.append(len(pair.engine.journal._at_stake)))
    mended = pair.overlap()
    [line] = mended.start()
    for name in pair.guests:
        pair.verdict(mended, name)
    mended.stop()
    assert "one guest goes after the other, since reclaim cannot find out which share an image" in line
    assert set(down) <= {1}


def test_one_that_does_not_come_back_is_rolled_back_and_the_other_is_not(pair: Fleet) -> None:
    both = threading.Barrier(2)
    for name in pair.guests:
        pair.on_shutdown(name, lambda: _met(both))
    lost = pair.guests["one"]
    ping = lost.answers["guest-ping"]

    def silent_on_the_new() -> object:
        if pair.is_up_on("one", "new"):
            lost.domain.destroy()
        return ping()

    lost.answers["guest-ping"] = silent_on_the_new
    mended = pair.overlap()
    mended.start()
    assert pair.verdict(mended, "one") is Verdict.NONCOMPLIANT
    assert pair.verdict(mended, "two") is Verdict.FIXED
    mended.stop()
    row = pair.engine.result(requirement(LIVE), subject(lost))
    assert "rolled back to the definition that booted, and runs again" in row.reason
    assert pair.is_up_on("one", "old")
    assert same(definition_of(lost), pair.booted["one"])
    assert pair.is_up_on("two", "new")
    assert sorted(entry.state for entry in pair.read().entries) == ["done", "failed"]


class Slow:
    """Guests of which each, once asked to shut down, goes off only when it is let."""

    def __init__(self, fleet: Fleet, *names: str) -> None:
        self.asked: list[str] = []
        self.let = threading.Event()
        self._fleet = fleet
        self._threads = [threading.Thread(target=self._go, args=(name,), daemon=True) for name in names]
        for name in names:
            fleet.guests[name].answers["guest-shutdown"] = lambda name=name: self.asked.append(name)  # type: ignore[misc]
        for thread in self._threads:
            thread.start()

    def _go(self, name: str) -> None:
        self.let.wait(_SECONDS)
        with suppress(libvirt.libvirtError):
            self._fleet.guests[name].domain.destroy()

    def end(self) -> None:
        self.let.set()
        for thread in self._threads:
            thread.join(_SECONDS)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[tuple[Fleet, Slow]]:
    fleet = Fleet(tmp_path, "one", "two", "three")
    going = Slow(fleet, "one", "two")
    yield fleet, going
    going.end()


def test_stopped_while_two_are_going_down_both_are_up_again_and_no_third_is_begun(slow: tuple[Fleet, Slow]) -> None:
    fleet, going = slow
    mended = fleet.overlap()
    mended.start()
    _until(lambda: len(going.asked) == 2)
    stopping = threading.Timer(0.05, going.let.set)
    stopping.start()
    mended.stop()
    stopping.join()
    assert all(fleet.is_up_on(name, "old") for name in ("one", "two"))
    for name in ("one", "two"):
        row = fleet.engine.results[(LIVE, name, None, None)]
        assert "interrupted; it was started again on the definition that booted" in row.reason
        assert row.rolled_back
    assert (LIVE, "three", None, None) not in fleet.engine.results
    record = fleet.read()
    assert [entry.state for entry in record.entries] == ["failed", "failed"]
    assert record.ended


def test_stopped_twice_the_journal_has_both_at_stake_and_the_next_run_brings_them_up(
    slow: tuple[Fleet, Slow], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, going = slow
    mended = fleet.overlap()
    mended.start()
    _until(lambda: len(going.asked) == 2)

    def again(_seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", again)
        with pytest.raises(KeyboardInterrupt):
            mended.stop()
    going.end()
    assert not any(guest.domain.isActive() for guest in map(fleet.guests.get, ("one", "two")) if guest)
    record = fleet.read()
    assert not record.ended
    assert sorted(entry.guest for entry, _ in record.power_cycles) == ["one", "two"]
    for guest in fleet.guests.values():
        guest.is_leaving = False
        guest.forget()
    assert dict(_at_stake(record, fleet))
    lines: list[str] = []
    undo.finish(record, fleet.hypervisor, lines.append, carries_on=True)
    assert all(fleet.is_up_on(name, "old") for name in ("one", "two")), lines
    assert journal.read(record.path).ended


def _at_stake(record: journal.JournalRecord, fleet: Fleet) -> Iterator[tuple[str, str]]:
    for guest, state in undo.at_stake(record, fleet.hypervisor):
        yield guest.name, state


def test_libvirt_that_hangs_up_on_both_is_connected_to_once(pair: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[int] = []
    connection = pair.hypervisor.connection
    domains = {guest.uuid: guest.domain for guest in pair.guests.values()}

    def connect() -> tuple[object, dict[str, libvirt.virDomain]]:
        connected.append(1)
        return connection, domains

    class _Dead:
        def isAlive(self) -> bool:  # noqa: N802
            return False

    dead = _Dead()
    monkeypatch.setattr(pair.hypervisor, "_connected", connect)
    pair.hypervisor.connection = dead
    waiting = threading.Barrier(2)

    def reconnect() -> None:
        waiting.wait(_SECONDS)
        if pair.hypervisor.connection is dead:
            pair.hypervisor.reconnect(1)

    threads = [threading.Thread(target=reconnect) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_SECONDS)
    assert connected == [1]
    assert pair.hypervisor.connection is connection


def test_lines_of_several_threads_stay_whole(tmp_path: Path) -> None:
    book = journal.Journal(tmp_path / journal.NAME, "test:///x", "fix")
    cycle = power.PowerCycle("one", domain_xml(), None)
    uuid = Definition(domain_xml()).uuid

    def write() -> None:
        for _ in range(10):
            book.failed(book.intend("one", uuid, LIVE, cycle), "it was not shut down")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_SECONDS)
    book.end()
    record = journal.read(book.path)
    assert record.ended
    assert [entry.seq for entry in record.entries] == list(range(1, 41))
    assert {entry.state for entry in record.entries} == {"failed"}
