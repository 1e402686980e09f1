"""Undo: the journal walked backwards, and what is left where it is not safe."""

from __future__ import annotations

import io
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import libvirt
import pytest

from reclaim.__main__ import main
from reclaim.base.errors import ChangeFailed, PowerCycleFailed, ProbeError, ReclaimError
from reclaim.changes import boot_stopped, power, preconditions
from reclaim.changes.boot_stopped import Boot
from reclaim.changes.change import Change
from reclaim.changes.command import CommandChange
from reclaim.changes.definition_change import DefinitionChange
from reclaim.changes.file_change import FileChange
from reclaim.changes.power import PowerCycle
from reclaim.engine import journal
from reclaim.engine.journal import Journal, journals_below, read
from reclaim.engine.undo import _inventory as inventory_of
from reclaim.engine.undo import _runs_a_command, at_stake, finish, undo
from reclaim.engine.undo import _undo as taken_back
from reclaim.handles import started_by
from reclaim.handles.hypervisor import connect
from reclaim.inventory import BackupNotes, Inventory
from tests.support import (
    InhabitedGuest,
    Inside,
    definition_of,
    disk_xml,
    domain_xml,
    engine,
    hypervisor_of,
    inhabited,
    node,
    opened,
    subject,
    walk,
)
from tests.support import requirement as one

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from reclaim.engine.engine import Engine
    from reclaim.handles.guest import Guest

#: all connections of one process share this driver; the query is only for a lock of our own
SHARED = f"test:///default?{os.getpid()}"


@pytest.fixture
def guest() -> Iterator[Guest]:
    """A guest of the test driver that all connections of this process share: undo opens its own."""
    connection = libvirt.open(SHARED)
    domain = connection.defineXML(domain_xml(disk_xml("vda"), disk_xml("vdb"), running=False, name="undone"))
    hypervisor = connect(SHARED, None, Inventory())
    yield next(guest for guest in hypervisor.guests if guest.name == "undone")
    domain.undefine()


def _mended(guest: Guest, folder: Path) -> Engine:
    fixer = engine(guest.hypervisor, folder, force=True)
    walk(fixer, guest, "disk-discard", "scsi-controller", "disk-bus")
    fixer.journal.end()
    return fixer


@pytest.mark.slow
def test_everything_is_taken_back_and_said(guest: Guest, tmp_path: Path) -> None:
    before = definition_of(guest).xml
    fixer = _mended(guest, tmp_path)
    assert definition_of(guest).xml != before
    said: list[str] = []
    assert undo(fixer.journal.path.parent, said.append)
    assert definition_of(guest).xml == before
    assert [line.split(": ")[1] for line in said] == ["disk-bus"] * 2 + ["scsi-controller"] + ["disk-discard"] * 2
    assert {entry.state for entry in read(fixer.journal.path).entries} == {"undone"}


@pytest.mark.slow
def test_the_record_of_the_run_says_what_was_taken_back(guest: Guest, tmp_path: Path) -> None:
    fixer = _mended(guest, tmp_path)
    run = fixer.journal.path.parent
    rows = [result.to_json() for result in fixer.results.values()]
    (run / "results.json").write_text(json.dumps({"schema": 1, "results": rows}))
    assert undo(run, lambda _: None)
    record = json.loads((run / "results.json").read_text())
    changes = [change for row in record["results"] for change in row["changes"]]
    assert len(changes) == 5
    assert all(change["applied"] and change["undone"] for change in changes)


def test_a_name_that_the_locale_does_not_have_stops_nothing(
    guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = definition_of(guest).xml
    fixer = _mended(guest, tmp_path)
    book = fixer.journal.path
    book.write_text(book.read_text().replace('"guest": "undone"', '"guest": "Žofie"'))
    said = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", said)
    assert main(["undo", str(book.parent)]) == 0
    assert definition_of(guest).xml == before


def test_a_second_undo_has_nothing_left_to_do(guest: Guest, tmp_path: Path) -> None:
    fixer = _mended(guest, tmp_path)
    undo(fixer.journal.path, lambda _: None)
    before = definition_of(guest).xml
    said: list[str] = []
    assert undo(fixer.journal.path, said.append)
    assert (said, definition_of(guest).xml) == ([], before)


@pytest.mark.slow
def test_a_definition_that_changed_since_is_left_and_all_before_it(guest: Guest, tmp_path: Path) -> None:
    fixer = _mended(guest, tmp_path)
    xml = definition_of(guest).xml.replace("<devices>", "<devices><input type='tablet' bus='usb'/>")
    guest.hypervisor.connection.defineXML(xml)
    now = definition_of(guest).xml
    said: list[str] = []
    assert not undo(fixer.journal.path, said.append)
    assert (
        said[0] == "undone: disk-bus: NOT taken back: undone: the definition has changed since that run; "
        "reclaim left it as it is"
    )
    assert said[1].startswith("    it has been changed since: revert that by hand and undo again")
    assert '    +    <input type="tablet" bus="usb"/>' in said
    assert not [line for line in said if "run again" in line]
    left = [line for line in said if line.startswith("undone: ")][1:]
    assert len(left) == 4
    assert all("left as it is, because a later change was not taken back" in line for line in left)
    assert definition_of(guest).xml == now


def test_a_secret_is_not_shown_in_what_stands_in_the_way(guest: Guest, tmp_path: Path) -> None:
    fixer = _mended(guest, tmp_path)
    graphics = "<devices><graphics type='vnc' passwd='hunter2'/>"
    guest.hypervisor.connection.defineXML(definition_of(guest).xml.replace("<devices>", graphics))
    said: list[str] = []
    assert not undo(fixer.journal.path, said.append)
    assert "graphics" in str(said)
    assert "hunter2" not in str(said)


def test_a_guest_that_was_renamed_gets_its_definition_back_under_its_name_of_now(guest: Guest, tmp_path: Path) -> None:
    before = definition_of(guest).xml
    fixer = _mended(guest, tmp_path)
    guest.domain.rename("renamed")
    try:
        said: list[str] = []
        assert undo(fixer.journal.path, said.append)
        assert "NOT taken back" not in str(said)
        domain = guest.hypervisor.connection.lookupByName("renamed")
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        assert domain.XMLDesc(flags) == before.replace("<name>undone</name>", "<name>renamed</name>")
    finally:
        guest.hypervisor.connection.lookupByName("renamed").undefine()
        guest.domain = guest.hypervisor.connection.defineXML(before)


def test_a_file_that_changed_since_is_shown_and_left(tmp_path: Path) -> None:
    job, inventory = tmp_path / "job", tmp_path / "inventory.toml"
    inventory.write_text(f'[[backup]]\njob = "{job}"\n', encoding="utf-8")
    job.write_text("rsync -a --sparse\n# mine\n", encoding="utf-8")
    book = Journal(tmp_path / journal.NAME, SHARED, "fix", str(inventory))
    change = FileChange("here", str(job), "rsync -a\n", "rsync -a --sparse\n")
    book.done(book.intend("here", "", "backup-job", change), {})
    said: list[str] = []
    assert not undo(book.path, said.append)
    assert (
        said[0] == f"here: backup-job: NOT taken back: here: {job} has changed since that run; reclaim left it as it is"
    )
    assert "    +# mine" in said
    assert job.read_text(encoding="utf-8").endswith("# mine\n")
    job.write_text("rsync -a --sparse\n", encoding="utf-8")
    assert undo(book.path, said.append)
    assert job.read_text(encoding="utf-8") == "rsync -a\n"


def test_a_guest_that_is_gone_is_said(guest: Guest, tmp_path: Path) -> None:
    fixer = _mended(guest, tmp_path)
    xml = definition_of(guest).xml
    guest.domain.undefine()
    said: list[str] = []
    assert not undo(fixer.journal.path, said.append)
    assert "the guest is gone" in said[0]
    guest.hypervisor.connection.defineXML(xml)


def test_a_run_that_changed_nothing_has_no_journal(tmp_path: Path) -> None:
    with pytest.raises(ReclaimError, match=r"no journal\.jsonl there"):
        undo(tmp_path, lambda _: None)


def test_a_torn_journal_can_be_taken_back_and_read_again(guest: Guest, tmp_path: Path) -> None:
    """What is written after a crash must not be glued to the line that the crash tore."""
    before = definition_of(guest).xml
    fixer = engine(guest.hypervisor, tmp_path, force=True)
    walk(fixer, guest, "disk-discard")
    with fixer.journal.path.open("ab") as stream:
        stream.write(b'{"time": "2026-01-01T00:00:00+00:00", "event": "inte')
    assert undo(fixer.journal.path, lambda _: None)
    assert definition_of(guest).xml == before
    assert {entry.state for entry in read(fixer.journal.path).entries} == {"undone"}


def test_changes_are_walked_in_the_order_they_were_made(guest: Guest, tmp_path: Path) -> None:
    """The last outcome may be unknown in the middle of a journal, where a run went on."""
    before = definition_of(guest).xml
    fixer = _mended(guest, tmp_path)
    lines = fixer.journal.path.read_text().splitlines(keepends=True)
    # the outcome of the second change is lost
    lost = [line for line in lines if not ('"done"' in line and '"seq": 2,' in line)]
    assert len(lost) == len(lines) - 1
    fixer.journal.path.write_text("".join(lost))
    undo(fixer.journal.path, lambda _: None)
    assert definition_of(guest).xml == before


def test_a_broken_journal_of_an_earlier_run_stops_no_later_one(tmp_path: Path) -> None:
    hypervisor = opened(tmp_path, domain_xml(disk_xml()))
    for name, text in (("1-fix", "no journal\n"), ("3-fix", '{"event": "end"')):
        (tmp_path / name).mkdir()
        (tmp_path / name / journal.NAME).write_text(text)
    (tmp_path / "2-fix").mkdir()
    book = Journal(tmp_path / "2-fix" / journal.NAME, hypervisor.uri, "fix")
    guest = hypervisor.guests[0]
    book.intend("one", guest.uuid, "disk-discard", one("disk-discard").fixer(subject(guest, "vda").disk)[0])
    found, troubles = journals_below(tmp_path)
    assert [len(record.interrupted) for record in found] == [1, 0]
    assert [line.partition(":")[0] for line in troubles] == [str(tmp_path / "1-fix" / journal.NAME)]


def test_a_private_test_driver_forgets(tmp_path: Path) -> None:
    """Why the guest above is on the shared one."""
    uri = node(tmp_path, domain_xml(disk_xml()))
    libvirt.open(uri).lookupByName("one").destroy()
    assert libvirt.open(uri).lookupByName("one").isActive()


def test_what_waits_for_the_old_bus_does_not_keep_it_from_coming_back(tmp_path: Path) -> None:
    """As after `--fix --restart`: what was mended after the power cycle is the first to be taken back."""
    guest = inhabited(tmp_path, Inside(), disk_xml())
    before = definition_of(guest).xml
    fixer = engine(guest.hypervisor, tmp_path, force=True)
    walk(fixer, guest, "disk-discard")
    after = CommandChange("one", "now", "then", devices=["/dev/vda"])
    fixer.journal.done(fixer.journal.intend("one", guest.uuid, "boot-names", after), {})
    said: list[str] = []
    assert not taken_back(read(fixer.journal.path), hypervisor_of(guest), said.append)
    assert "its old content names /dev/vda, which does not exist on the bus the guest runs on" in said[0]
    assert said[1:] == ["one: disk-discard: the definition is as it was; it takes effect at the next cold start"]
    assert definition_of(guest).xml == before
    guest.within.commands |= {"test -b /dev/vda": lambda _: 0, "then": lambda _: 0}
    assert taken_back(read(fixer.journal.path), hypervisor_of(guest), said.append)
    assert guest.within.ran[-2:] == ["test -b /dev/vda", "then"]


def test_disks_do_not_go_back_to_a_bus_that_a_newer_initramfs_has_no_driver_for(tmp_path: Path) -> None:
    inside = Inside()
    guest = inhabited(tmp_path, inside, disk_xml("vda"))
    fixer = _mended(guest, tmp_path)
    mended = definition_of(guest).xml
    kernels = inside.kernels
    inside.kernels += "kernel 6.1.0-99-amd64\ninitramfs virtio_scsi\ninitramfs sd_mod\ninitramfs virtio_pci\n"
    guest.forget()
    said: list[str] = []
    assert not taken_back(read(fixer.journal.path), hypervisor_of(guest), said.append)
    assert "6.1.0-99-amd64 in the guest has no virtio_blk, and would not boot from that bus" in said[0]
    assert definition_of(guest).xml == mended
    inside.kernels = kernels
    guest.forget()
    assert taken_back(read(fixer.journal.path), hypervisor_of(guest), said.append)
    assert definition_of(guest).disk("vda").bus == "virtio"


def test_undo_gets_in_as_the_run_did(guest: Guest, tmp_path: Path) -> None:
    """The journal names the run's inventory; one that is gone is told, and another can be given."""
    inventory = tmp_path / "inventory.toml"
    inventory.write_text("[policy]\nboot_seconds = 7\n", encoding="utf-8")
    fixer = engine(guest.hypervisor, tmp_path)
    fixer.journal.inventory = str(inventory)
    fixer.run(one("disk-discard"), subject(guest, "vda"))
    record = read(fixer.journal.path)
    said: list[str] = []
    assert inventory_of(record, said.append, None).policy.boot_seconds == 7
    inventory.unlink()
    assert inventory_of(record, said.append, None) == Inventory()
    assert said == [
        f"note: inventory {inventory}: No such file or directory: going on without it; --inventory FILE names another"
    ]
    with pytest.raises(ReclaimError, match="No such file"):
        undo(fixer.journal.path, said.append, inventory)
    assert undo(fixer.journal.path, said.append)


# Journals made line by line -------------------------------------------------------------------


class _Book:
    """A run's journal in *folder*, written for a guest or its hypervisor."""

    def __init__(self, folder: Path, guest: Guest, name: str = "20260101T000000Z-fix", uri: str = "") -> None:
        self.guest = guest
        self.folder = folder / name
        self.folder.mkdir(parents=True)
        self.journal = Journal(self.folder / journal.NAME, uri or guest.hypervisor.uri, "fix")

    def done(self, change: Change, *, host: bool = False) -> int:
        seq = self.intended(change, host=host)
        self.journal.done(seq, {})
        return seq

    def intended(self, change: Change, *, host: bool = False) -> int:
        return self.journal.intend("one", "" if host else self.guest.uuid, "disk-discard", change)

    @property
    def record(self) -> journal.JournalRecord:
        return read(self.journal.path)

    def states(self) -> list[str]:
        return [entry.state for entry in self.record.entries]

    def undo(self) -> tuple[bool, list[str]]:
        said: list[str] = []
        return taken_back(self.record, hypervisor_of(self.guest), said.append), said


def _command(name: str, **more: Any) -> CommandChange:
    return CommandChange("one", name, f"{name} back", **more)


@pytest.fixture
def inner(tmp_path: Path) -> InhabitedGuest:
    """A guest whose every command ends well."""
    guest = inhabited(tmp_path, Inside(), disk_xml())
    for name in "abc":
        guest.within.commands[f"{name} back"] = lambda _inside: 0
    return guest


def test_the_last_change_is_taken_back_first_and_the_journal_is_closed(inner: InhabitedGuest, tmp_path: Path) -> None:
    book = _Book(tmp_path, inner)
    for name in "abc":
        book.done(_command(name))
    assert not book.record.ended
    assert book.undo() == (True, [f"one: disk-discard: {name} back" for name in "cba"])
    assert book.states() == ["undone"] * 3
    assert book.record.ended


def test_what_a_run_left_open_is_closed_once_it_is_taken_back(inner: InhabitedGuest, tmp_path: Path) -> None:
    book = _Book(tmp_path, inner)
    book.intended(_command("a"))
    assert book.undo()[0]
    assert book.record.ended
    assert not book.record.died


def test_what_a_run_left_open_stays_open_while_it_cannot_be_taken_back(inner: InhabitedGuest, tmp_path: Path) -> None:
    book = _Book(tmp_path, inner)
    book.intended(_command("z"))
    is_whole, said = book.undo()
    assert not is_whole
    assert "NOT taken back" in said[0]
    assert (book.states(), book.record.ended) == (["intended"], False)


def test_changes_that_were_not_made_are_not_taken_back(inner: InhabitedGuest, tmp_path: Path) -> None:
    book = _Book(tmp_path, inner)
    book.journal.failed(book.intended(_command("a")), "no")
    book.journal.undone(book.done(_command("b")), "taken back")
    before = book.journal.path.read_bytes()
    assert book.undo() == (True, [])
    assert book.journal.path.read_bytes() == before
    book.journal.unknown(book.intended(_command("c")), "the answer was lost")
    assert book.undo()[0]
    assert inner.within.ran == ["c back"]


def test_one_guest_that_is_stuck_keeps_no_other(tmp_path: Path) -> None:
    hypervisor = opened(tmp_path, domain_xml(disk_xml()), domain_xml(disk_xml(), name="two"))
    guest, other = hypervisor.guests
    book = _Book(tmp_path, guest)
    before = {each: definition_of(each).xml for each in (guest, other)}
    for each, xml in before.items():
        change = DefinitionChange(each.name, xml, xml.replace("type='qcow2'", "type='qcow2' discard='unmap'"))
        seq = book.journal.intend(each.name, each.uuid, "disk-discard", change)
        book.journal.done(seq, change.apply(each))
    hypervisor.connection.defineXML(definition_of(other).xml.replace("65536", "131072"))
    is_whole, said = book.undo()
    assert not is_whole
    assert "NOT taken back" in said[0]
    assert said[0].startswith("two: ")
    assert said[-1].startswith("one: ")
    assert definition_of(guest).xml == before[guest]


def test_files_of_the_hypervisor_do_not_wait_for_each_other(inner: InhabitedGuest, tmp_path: Path) -> None:
    jobs = [tmp_path / "job-1", tmp_path / "job-2"]
    inner.hypervisor.inventory = Inventory(backup=[BackupNotes(job=job) for job in jobs])
    book = _Book(tmp_path, inner)
    for job in jobs:
        job.write_text("after\n", encoding="utf-8")
        book.done(FileChange("here", str(job), "before\n", "after\n"), host=True)
    jobs[1].write_text("mine\n", encoding="utf-8")
    is_whole, said = book.undo()
    assert not is_whole
    assert str(jobs[1]) in said[0]
    assert [job.read_text() for job in jobs] == ["before\n", "mine\n"]


def test_a_file_that_no_inventory_declares_is_left(inner: InhabitedGuest, tmp_path: Path) -> None:
    job = tmp_path / "job"
    job.write_text("after\n", encoding="utf-8")
    book = _Book(tmp_path, inner)
    book.done(FileChange("here", str(job), "before\n", "after\n"), host=True)
    is_whole, said = book.undo()
    assert not is_whole
    assert str(job) in said[0]
    assert job.read_text() == "after\n"


def test_inside_a_guest_that_is_off_nothing_can_be_taken_back_yet(inner: InhabitedGuest, tmp_path: Path) -> None:
    book = _Book(tmp_path, inner)
    book.done(_command("a"))
    book.done(_command("b"))
    inner.domain.destroy()
    is_whole, said = book.undo()
    assert not is_whole
    assert "undo again" in said[0]
    assert said[1].endswith("left as it is, because a later change was not taken back")
    assert (inner.within.ran, book.states()) == ([], ["done", "done"])
    inner.domain.create()
    inner.forget()
    assert book.undo()[0]


def test_a_guest_whose_state_forbids_it_keeps_its_definition(
    tmp_path: Path, inner: InhabitedGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = _Book(tmp_path, inner)
    xml = inner.persistent.xml
    book.done(DefinitionChange("one", xml, xml))
    monkeypatch.setattr(preconditions, "why_not_applied", lambda _guest, _change: "a backup\x1b runs")
    is_whole, said = book.undo()
    assert (is_whole, said) == (False, ["one: disk-discard: NOT taken back: a backup\\x1b runs"])


def test_a_libvirt_that_fails_is_told_and_the_rest_of_the_guest_left(inner: InhabitedGuest, tmp_path: Path) -> None:
    book = _Book(tmp_path, inner)
    xml = inner.persistent.xml
    book.done(DefinitionChange("one", xml, xml.replace("65536", "131072")))
    book.done(DefinitionChange("one", xml, xml.replace("65536", "262144")))

    class Failing:
        def __getattr__(self, name: str) -> object:
            raise libvirt.libvirtError(f"no {name}")

    inner.domain = Failing()
    is_whole, said = book.undo()
    assert not is_whole
    assert "libvirt" in said[0]
    assert said[1].endswith("left as it is, because a later change was not taken back")


def test_a_power_cycle_that_was_made_is_left_as_it_is_whatever_the_guest_does(
    inner: InhabitedGuest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = _Book(tmp_path, inner)
    book.done(PowerCycle("one", inner.persistent.xml, None))
    monkeypatch.setattr(preconditions, "why_not_applied", lambda _guest, _change: "a backup runs")
    assert book.undo()[0]
    assert inner.domain.isActive()


def test_a_power_cycle_that_could_not_be_finished_keeps_what_was_before_it(
    inner: InhabitedGuest, tmp_path: Path
) -> None:
    book = _Book(tmp_path, inner)
    book.done(_command("a"))
    book.journal.unknown(book.intended(PowerCycle("one", inner.persistent.xml, None)), "lost")
    is_whole, said = book.undo()
    assert not is_whole
    assert said == ["one: disk-discard: left as it is, because a later change was not taken back"]
    assert inner.within.ran == []


def test_a_long_difference_is_cut(tmp_path: Path, inner: InhabitedGuest) -> None:
    job = tmp_path / "job"
    job.write_text("".join(f"line {number}\x1b\n" for number in range(200)), encoding="utf-8")
    inner.hypervisor.inventory = Inventory(backup=[BackupNotes(job=job)])
    book = _Book(tmp_path, inner)
    book.done(FileChange("here", str(job), "before\n", "after\n"), host=True)
    _, said = book.undo()
    shown = [line for line in said if line.startswith("    ")]
    assert all(line.isprintable() for line in said)
    assert len(shown) == 62
    assert "more lines" in shown[-1]


# A later run in the way -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("later", "is_named"),
    [
        pytest.param({}, True, id="a-later-run"),
        pytest.param({"name": "20250101T000000Z-fix"}, False, id="an-earlier-run"),
        pytest.param({"uri": "test:///another"}, False, id="another-hypervisor"),
        pytest.param({"path": "another"}, False, id="another-file"),
        pytest.param({"end": "failed"}, False, id="it-was-not-made"),
        pytest.param({"end": "undone"}, False, id="it-was-taken-back"),
        pytest.param({"host": False}, False, id="the-file-of-a-guest"),
    ],
)
def test_the_run_that_changed_it_later_is_named(
    tmp_path: Path, inner: InhabitedGuest, later: dict[str, Any], *, is_named: bool
) -> None:
    job = tmp_path / "job"
    job.write_text("newer\n", encoding="utf-8")
    inner.hypervisor.inventory = Inventory(backup=[BackupNotes(job=job)])
    book = _Book(tmp_path / "runs", inner)
    book.done(FileChange("here", str(job), "before\n", "after\n"), host=True)
    other = _Book(tmp_path / "runs", inner, later.get("name", "20260102T000000Z-fix"), later.get("uri", ""))
    change = FileChange("here", str(tmp_path / later.get("path", "job")), "after\n", "newer\n")
    seq = other.intended(change, host=later.get("host", True))
    getattr(other.journal, later.get("end", "done"))(seq, later.get("end", {}))
    _, said = book.undo()
    assert "NOT taken back" in said[0]
    assert (other.folder.name in said[1]) is is_named
    assert any("+newer" in line for line in said) is not is_named


def test_the_newest_of_later_runs_is_the_first_to_be_taken_back(tmp_path: Path, inner: InhabitedGuest) -> None:
    job = tmp_path / "job"
    job.write_text("newest\n", encoding="utf-8")
    inner.hypervisor.inventory = Inventory(backup=[BackupNotes(job=job)])
    books = [_Book(tmp_path / "runs", inner, f"2026010{day}T000000Z-fix") for day in (1, 2, 3)]
    for book, before, after in zip(books, "abc", "bcd", strict=True):
        book.done(FileChange("here", str(job), f"{before}\n", f"{after}\n"), host=True)
    _, said = books[0].undo()
    assert books[2].folder.name in said[1]
    assert said[1].endswith(f"reclaim undo {books[2].folder}")


# Runs that died -------------------------------------------------------------------------------


def _finish(book: _Book, **more: bool) -> list[str]:
    said: list[str] = []
    finish(book.record, hypervisor_of(book.guest), said.append, **more)
    return said


@pytest.mark.parametrize("carries_on", [True, False])
def test_open_changes_of_a_dead_run_are_judged_anew(inner: InhabitedGuest, tmp_path: Path, *, carries_on: bool) -> None:
    book = _Book(tmp_path, inner)
    book.done(_command("a"))
    book.intended(_command("b"))
    assert _finish(book, carries_on=carries_on) == []
    assert book.states() == ["done", "unknown"]
    assert book.record.ended is carries_on
    assert inner.within.ran == []


def test_a_guest_that_a_dead_run_had_started_is_shut_down(
    inner: InhabitedGuest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot_stopped, "_PAUSE", 0)
    monkeypatch.setattr(power, "_PAUSE", 0)
    inner.answers |= {"guest-ping": dict, "guest-shutdown": inner.domain.destroy}
    book = _Book(tmp_path, inner)
    started_by.leave(inner.domain, book.folder.name)
    book.intended(Boot("one", book.folder.name))
    inner.booted_by = book.folder.name
    [line] = _finish(book)
    assert line.startswith("one: ")
    assert not inner.domain.isActive()
    assert inner.booted_by is None
    assert (book.states(), book.record.ended) == (["failed"], True)


def test_a_guest_that_cannot_be_shut_down_is_told(
    inner: InhabitedGuest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> str:
        raise ProbeError("it\x1b does not go")

    monkeypatch.setattr(Boot, "undo", fail)
    book = _Book(tmp_path, inner)
    book.intended(Boot("one", book.folder.name))
    [line] = _finish(book)
    assert line.endswith("NOT shut down: it\\x1b does not go")


def test_guests_that_are_gone_meanwhile_are_no_trouble(inner: InhabitedGuest, tmp_path: Path) -> None:
    book = _Book(tmp_path, inner)
    book.intended(Boot("one", book.folder.name))
    book.intended(PowerCycle("one", inner.persistent.xml, None))
    inner.hypervisor.guests.clear()  # type: ignore[attr-defined]
    assert _finish(book) == []
    assert (book.states(), book.record.ended) == (["failed", "failed"], True)
    assert at_stake(book.record, hypervisor_of(inner)) == []


@pytest.mark.parametrize(
    ("error", "fact"),
    [
        (ChangeFailed("one: it\x1b does not start"), "it\\x1b does not start"),
        (ProbeError("one: no answer"), "no answer"),
        (libvirt.libvirtError("hung up"), "hung up"),
        (PowerCycleFailed("one: it stays off"), "stays off"),
    ],
)
def test_a_power_cycle_that_cannot_be_finished_stays_for_the_next_run(
    inner: InhabitedGuest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, fact: str
) -> None:
    def fail(*_arguments: object) -> str:
        inner.domain.destroy()
        raise error

    monkeypatch.setattr(PowerCycle, "finish", fail)
    book = _Book(tmp_path, inner)
    book.intended(PowerCycle("one", inner.persistent.xml, None))
    [line] = _finish(book)
    assert "NOT finished" in line
    assert fact in line
    assert (book.states(), book.record.ended) == (["unknown"], False)


def test_a_power_cycle_that_is_finished_ends_the_journal(
    inner: InhabitedGuest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the definitions that the way back replaced are taken back too, also in the record of that run."""
    booted = inner.persistent.xml
    wanted = booted.replace("type='qcow2'", "type='qcow2' discard='unmap'")
    change = DefinitionChange("one", booted, wanted)
    book = _Book(tmp_path, inner)
    book.done(change)
    book.intended(PowerCycle("one", booted, None))
    row = {"requirement": "disk-discard", "guest": "one", "changes": [{"target": change.target, "applied": True}]}
    row["changes"][0]["undone"] = False  # type: ignore[index]
    (book.folder / "results.json").write_text(json.dumps({"results": [row]}), encoding="utf-8")
    inner.left_off = "it is off"
    monkeypatch.setattr(PowerCycle, "finish", lambda *_arguments: "it was started again")
    [line] = _finish(book)
    assert line.endswith("it was started again")
    assert inner.left_off is None
    assert (book.states(), book.record.ended) == (["undone", "failed"], True)
    assert '"undone": true' in (book.folder / "results.json").read_text(encoding="utf-8")


def test_a_power_cycle_that_failed_and_left_the_guest_up_is_finished(
    inner: InhabitedGuest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> str:
        raise PowerCycleFailed("it came back without a mount")

    monkeypatch.setattr(PowerCycle, "finish", fail)
    book = _Book(tmp_path, inner)
    book.intended(PowerCycle("one", inner.persistent.xml, None))
    [line] = _finish(book)
    assert "without a mount" in line
    assert "NOT finished" not in line
    assert book.states() == ["failed"]


def test_guests_at_stake_are_named_with_the_way_on(inner: InhabitedGuest, tmp_path: Path) -> None:
    book = _Book(tmp_path, inner)
    live = inner.live
    assert live is not None
    book.intended(PowerCycle("one", live.xml, None))
    owner = hypervisor_of(inner)
    assert at_stake(book.record, owner) == [], "it runs as before"
    inner.domain.destroy()
    inner.forget()
    [(guest, words)] = at_stake(book.record, owner)
    assert guest is inner
    assert book.folder.name in words
    assert "--fix" in words
    assert f"reclaim undo {book.folder}" in words
    record = book.record
    record.uri = "test:///elsewhere"
    [(_, words)] = at_stake(record, owner)
    assert "--fix" not in words
    inner.hypervisor.connection.defineXML(domain_xml(disk_xml("vdb")))
    inner.domain.create()
    inner.forget()
    [(_, words)] = at_stake(book.record, owner)
    assert "waited for the guest to come back" in words


# Addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "runs"),
    [
        ("qemu:///system", False),
        ("qemu+ssh://root@kvm1/system?keyfile=/k&no_verify=1", False),
        ("qemu+ext:///system", True),
        ("qemu+ssh://h/system?command=/x", True),
        ("qemu+ssh://h/system?a=b;NETCAT=/x", True),
        ("qemu+ssh://h/system?com%6dand=/x", True),
        ("qemu+ssh://h/system?x=command", False),
    ],
)
def test_an_address_that_names_a_command(uri: str, *, runs: bool) -> None:
    assert _runs_a_command(uri) is runs


def test_a_run_without_changes_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    book = Journal(tmp_path / journal.NAME, "qemu+ext:///system?command=/x", "fix")
    book.begin()
    said: list[str] = []
    assert undo(tmp_path, said.append)
    assert said == [f"{tmp_path}: that run changed nothing"]
    assert undo(book.path, said.append), "the journal itself may be named"


def test_a_run_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReclaimError, match="no-such"):
        undo(tmp_path / "no-such", lambda _: None)
