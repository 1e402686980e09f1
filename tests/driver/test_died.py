"""Runs and undos that were killed: told by the next run, carried on or taken back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import libvirt
import pytest

from reclaim.changes.definition_change import DefinitionChange
from reclaim.changes.power import PowerCycle
from reclaim.engine import journal
from reclaim.engine.journal import Journal, read
from reclaim.engine.part import Options
from reclaim.engine.run import Run
from reclaim.engine.undo import finish, undo
from reclaim.handles.hypervisor import connect
from reclaim.inventory import Inventory
from reclaim.record import typed
from tests.command import audit
from tests.support import definition_of, disk_xml, domain_xml, engine, hypervisor_of, node, opened, uuid_of, walk

if TYPE_CHECKING:
    from reclaim.handles.guest import Guest

SHARED = f"test:///default?died-{os.getpid()}"
SLUGS = ("disk-discard", "scsi-controller", "disk-bus")


@pytest.fixture
def guest() -> Iterator[Guest]:
    """A guest of the test driver that all connections of this process share: undo opens its own."""
    connection = libvirt.open(SHARED)
    domain = connection.defineXML(domain_xml(disk_xml("vda"), running=False, name="died"))
    yield next(guest for guest in connect(SHARED, None, Inventory()).guests if guest.name == "died")
    domain.undefine()


# Before anything is changed -----------------------------------------------------------------------


def test_the_intent_is_on_the_disk_and_has_its_name_before_the_change_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut at any moment: what was changed is in a journal that is found."""
    guest = opened(tmp_path, domain_xml(disk_xml("vda"), disk_xml("vdb"), running=False)).guests[0]
    fixer = engine(guest.hypervisor, tmp_path, force=True)
    path = fixer.journal.path
    done: list[str] = []
    real_sync, real_apply, real_write = os.fsync, DefinitionChange.apply, os.write

    def sync(descriptor: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink()}")
        real_sync(descriptor)

    def write(descriptor: int, data: bytes) -> int:
        if b'"event"' in data:
            done.append(data.split(b'"event": "')[1].split(b'"')[0].decode())
        return real_write(descriptor, data)

    def apply(change: DefinitionChange, guest: Any) -> dict[str, str]:
        assert [entry.state for entry in read(path).entries][-1] == "intended"
        done.append("apply")
        return real_apply(change, guest)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(DefinitionChange, "apply", apply)
    walk(fixer, guest, "disk-discard")
    book, folder = f"sync {path}", f"sync {path.parent}"
    one = ["intent", book, "apply", "done", book]
    assert done == ["begin", book, folder, *one, *one]


def test_the_folders_of_a_run_are_on_the_disk_before_its_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def sync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    run = Run(Options(uri=node(tmp_path, domain_xml()), reports=tmp_path / "reports", mode="fix"))
    run.open()
    run.prepare()
    assert synced[:2] == [str(tmp_path / "reports" / "test-driver"), str(tmp_path / "reports")]
    run.close()


# Between two changes --------------------------------------------------------------------------------


def _killed(folder: Path, uri: str, kept: int) -> Path:
    """A run of three changes whose journal ends after *kept* lines, and that has no record."""
    died = audit(folder, "--fix", "--force", uri=uri).folder
    book = died / journal.NAME
    lines = book.read_text().splitlines(keepends=True)
    assert len(lines) == 8
    book.write_text("".join(lines[:kept]))
    (died / "results.json").unlink()
    return died


MADE = {3: "1 change (disk-discard of one)", 5: "2 changes (disk-discard of one, scsi-controller of one)"}
MADE[7] = "3 changes (disk-discard of one, scsi-controller of one, disk-bus of one)"


@pytest.mark.parametrize("kept", [3, 5, 7])
@pytest.mark.parametrize("options", [[], ["--plan"], ["--fix"]], ids=["audit", "plan", "fix"])
def test_a_run_that_died_between_two_changes_is_told(tmp_path: Path, kept: int, options: list[str]) -> None:
    uri = node(tmp_path, domain_xml(disk_xml(), running=False))
    died = _killed(tmp_path / "reports", uri, kept)
    said = audit(tmp_path / "reports", *options, uri=uri).stdout
    words = f"the run {died.name} died after it had made {MADE[kept]}, which stand: go on with --fix, or take them back"
    assert f"reclaim: {words}: {typed.undo(died)}" in said
    again = audit(tmp_path / "reports", uri=uri).stdout
    assert (words in again) == (options != ["--fix"]), "a --fix carries on; an audit leaves it to be told"


@pytest.mark.parametrize("kept", [2, 4, 6])
def test_a_run_that_died_in_a_change_tells_of_those_before(tmp_path: Path, kept: int) -> None:
    uri = node(tmp_path, domain_xml(disk_xml(), running=False))
    died = _killed(tmp_path / "reports", uri, kept)
    said = audit(tmp_path / "reports", uri=uri).stdout
    slug = SLUGS[kept // 2 - 1]
    stand = f"; before that it had made {MADE[kept - 1]}, which stand" if kept > 2 else ""
    assert f"reclaim: the run {died.name} died while it changed {slug} of one{stand}; see {died}" in said


@pytest.mark.parametrize("kept", [0, 1])
def test_a_run_that_died_before_its_first_change_left_nothing_to_tell(tmp_path: Path, kept: int) -> None:
    uri = node(tmp_path, domain_xml(disk_xml(), running=False))
    died = _killed(tmp_path / "reports", uri, kept)
    assert f"{died.name} died" not in audit(tmp_path / "reports", uri=uri).stdout


@pytest.mark.parametrize("kept", range(1, 8))
@pytest.mark.parametrize("carried_on", [False, True], ids=["at-once", "after-the-next-run"])
def test_what_a_dead_run_changed_can_be_taken_back(
    guest: Guest, tmp_path: Path, kept: int, *, carried_on: bool
) -> None:
    """At once; or after a --fix that carried on, from the newest run to the oldest."""
    before = definition_of(guest).xml
    fixer = engine(guest.hypervisor, tmp_path, force=True)
    for slug in SLUGS[: kept // 2]:
        walk(fixer, guest, slug)
    book = fixer.journal.path
    lines = book.read_text().splitlines(keepends=True) if book.exists() else []
    book.write_text("".join(lines[:kept]))
    said: list[str] = []
    if carried_on:
        finish(read(book), hypervisor_of(guest), said.append)
        assert read(book).ended
        guest.renamed.clear()
        following = engine(guest.hypervisor, tmp_path, force=True)
        walk(following, guest, *SLUGS)
        following.journal.end()
        if following.journal.path.exists():
            assert undo(following.journal.path.parent, said.append)
    assert undo(book.parent, said.append)
    assert definition_of(guest).xml == before
    assert not read(book).died


def test_an_older_run_is_not_taken_back_before_a_newer_one(guest: Guest, tmp_path: Path) -> None:
    before = definition_of(guest).xml
    runs = []
    for slug in ("disk-discard", "scsi-controller"):
        fixer = engine(guest.hypervisor, tmp_path, force=True)
        walk(fixer, guest, slug)
        fixer.journal.end()
        runs.append(fixer.journal.path.parent)
    said: list[str] = []
    assert not undo(runs[0], said.append)
    assert said == [
        "died: disk-discard: NOT taken back: died: the definition has changed since that run; reclaim left it as it is",
        f"    the run {runs[1].name} changed it later: take that back first: {typed.undo(runs[1])}",
    ]
    assert undo(runs[1], said.append)
    assert undo(runs[0], said.append)
    assert definition_of(guest).xml == before


# An undo ------------------------------------------------------------------------------------------


class Killed(BaseException):
    """As SIGKILL: nobody tidies up."""


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("is_written", [False, True], ids=["before-it-is-written", "after"])
def test_an_undo_that_was_killed_is_told_and_goes_on(
    guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, *, is_written: bool
) -> None:
    before = definition_of(guest).xml
    fixer = engine(guest.hypervisor, tmp_path, force=True)
    walk(fixer, guest, *SLUGS)
    fixer.journal.end()
    book, real, calls = fixer.journal.path, Journal.undone, []

    def undone(journal: Journal, seq: int, note: str) -> None:
        calls.append(seq)
        if len(calls) == number and not is_written:
            raise Killed
        real(journal, seq, note)
        if len(calls) == number:
            raise Killed

    said: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "undone", undone)
        with pytest.raises(Killed):
            undo(book.parent, said.append)
    record = read(book)
    left = 3 - number + (not is_written)
    assert (record.ended, record.mode, len(record.applied), record.died) == (False, "undo", left, left > 0)
    for _ in range(2):
        assert undo(book.parent, said.append)
        assert definition_of(guest).xml == before
        assert not read(book).died


def test_the_next_run_says_how_an_undo_goes_on(tmp_path: Path) -> None:
    uri = node(tmp_path, domain_xml(disk_xml(), running=False))
    run = audit(tmp_path / "reports", "--fix", "--force", uri=uri).folder
    book = Journal(run / journal.NAME, uri, "undo")
    book.begin()
    book.undone(3, "back")
    said = audit(tmp_path / "reports", uri=uri).stdout
    assert (
        f"reclaim: an undo of the run {run.name} died; 2 changes (disk-discard of one, scsi-controller of one) of the "
        f"run's still stand: to go on with it: {typed.undo(run)}"
    ) in said


# Elsewhere ----------------------------------------------------------------------------------------


def test_what_died_at_another_address_is_told_and_left_to_that(tmp_path: Path) -> None:
    """The same guest may be on another host by now: a power cycle is finished where it was begun."""
    uri = node(tmp_path, domain_xml(disk_xml(), running=False))
    xml = opened(tmp_path, domain_xml(disk_xml(), running=False)).guests[0].persistent.xml
    run = tmp_path / "reports" / "test-driver" / "20260101T000000Z-fix"
    run.mkdir(parents=True)
    book = Journal(run / journal.NAME, "test:///another", "fix")
    book.intend("one", uuid_of("one"), "live-definition", PowerCycle("one", xml, None))
    outcome = audit(tmp_path / "reports", "--fix", "--definitions-only", uri=uri)
    assert f"reclaim: the run {run.name} died on test:///another, another address of guests of {uri}" in outcome.stdout
    assert f"off since the run {run.name}" in outcome.stdout
    assert "finished the power cycle" not in outcome.stdout
    assert not read(run / journal.NAME).ended
