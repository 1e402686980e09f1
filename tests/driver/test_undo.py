"""Undo: the journal walked backwards, and what is left where it is not safe."""

from __future__ import annotations

import io
import json
import os
import sys
from typing import TYPE_CHECKING

import libvirt
import pytest

from reclaim.__main__ import main
from reclaim.base.errors import ReclaimError
from reclaim.changes.command import CommandChange
from reclaim.changes.file_change import FileChange
from reclaim.engine import journal
from reclaim.engine.journal import Journal, journals_below, read
from reclaim.engine.undo import _inventory as inventory_of
from reclaim.engine.undo import _undo as taken_back
from reclaim.engine.undo import undo
from reclaim.handles.hypervisor import connect
from reclaim.inventory import Inventory
from tests.support import (
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


def test_everything_is_taken_back_and_said(guest: Guest, tmp_path: Path) -> None:
    before = definition_of(guest).xml
    fixer = _mended(guest, tmp_path)
    assert definition_of(guest).xml != before
    said: list[str] = []
    assert undo(fixer.journal.path.parent, said.append)
    assert definition_of(guest).xml == before
    assert [line.split(": ")[1] for line in said] == ["disk-bus"] * 2 + ["scsi-controller"] + ["disk-discard"] * 2
    assert {entry.state for entry in read(fixer.journal.path).entries} == {"undone"}


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
