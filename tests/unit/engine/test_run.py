"""A run that is opened, prepared and closed in this process: its folders, its lock, its record, earlier runs."""

from __future__ import annotations

import errno
import json
import os
import threading
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import libvirt
import pytest

from reclaim.base.errors import ReclaimError
from reclaim.base.verdict import Verdict
from reclaim.changes.command import CommandChange
from reclaim.changes.definition_change import DefinitionChange
from reclaim.engine import journal
from reclaim.engine.engine import Subject, judge
from reclaim.engine.journal import Journal
from reclaim.engine.part import Options
from reclaim.engine.run import Run
from reclaim.handles.guest import Guest
from reclaim.handles.lock import lock
from reclaim.inventory import BackupNotes, GuestNotes, Inventory, Ssh, Waiver
from reclaim.record.results import NAME
from reclaim.requirement import catalogue
from reclaim.space import measured
from tests.command import FLEET
from tests.support import (
    GOOD,
    Inside,
    disk_xml,
    domain_xml,
    inhabited,
    node,
    opened,
    uuid_of,
)


@pytest.fixture
def fleet(tmp_path: Path) -> str:
    """Three guests, out of order: what has to be mended, what is right, what was waived."""
    return node(
        tmp_path,
        domain_xml(*GOOD, name="web"),
        domain_xml(disk_xml("vda"), disk_xml("vdb", driver="discard='unmap'"), name="db"),
        domain_xml(disk_xml("sda", "usb"), name="app", machine="my-machine-1"),
    )


@pytest.mark.parametrize("after", [False, True])
def test_a_guest_that_goes_meanwhile_costs_only_its_own_rows(tmp_path: Path, fleet: str, *, after: bool) -> None:
    """A transient guest is gone for good when it stops; all others are looked into and counted."""
    run = Run(_options(tmp_path, fleet))
    run.open()
    hypervisor, guests = run.parts[0].hypervisor, run.parts[0].guests
    gone = next(guest for guest in guests if guest.name == "db")
    assert len(gone.disks) == 2  # as collecting has it
    gone.domain.destroy()
    gone.domain.undefine()
    hypervisor.is_test_driver = False
    looked: list[str] = []
    run.gather(guests, looked.append)
    run.measure(guests, after=after)
    assert looked[-1] == "looked into 2 of 2 guests"
    assert {guest for guest, _ in run.parts[0].storage} == {"app", "db", "web"}


def test_the_hypervisors_of_a_run_are_judged_side_by_side(tmp_path: Path, fleet: str) -> None:
    """Each waits for its own: here each for a word of the other."""
    run = Run(_options(tmp_path, fleet, hosts=("one", "two")))
    run.open()
    both = threading.Barrier(2, timeout=60)

    def check(guest: Guest) -> str:
        both.wait()
        return f"seen on {guest.hypervisor.name}"

    asked = replace(catalogue()["machine-type"], check=check)
    rows = [(asked, Subject(part.hypervisor, guest)) for part in run.parts for guest in part.guests]
    lines: list[str] = []
    run.judge_ahead(rows, lines.append)
    assert lines[0] == "judged the guests of 0 of 2 hypervisors; waiting for test-driver-one, test-driver-two"
    assert lines[-1] == "judged the guests of 2 of 2 hypervisors"
    for part in run.parts:
        evidence = {part.engine.run(asked, Subject(part.hypervisor, guest)).evidence for guest in part.guests}
        assert evidence == {f"seen on {part.hypervisor.name}"}
    run.hang_up()


def _options(folder: Path, uri: str, **more: Any) -> Options:
    return Options(uri=uri, reports=folder / "reports", **more)


def test_two_runs_in_the_same_second_get_two_folders_and_latest_is_the_last(tmp_path: Path, fleet: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    folders = []
    for _ in range(3):
        run = Run(_options(tmp_path, fleet), started=now)
        run.open()
        run.prepare()
        run.close()
        folders.append(run.parts[0].folder)
    names = ["20260101T000000Z-audit", "20260101T000000Z-audit-2", "20260101T000000Z-audit-3"]
    assert [folder.name for folder in folders] == names
    latest = folders[0].parent / "latest"
    assert latest.is_symlink()
    assert latest.resolve() == folders[2]
    assert sorted(path.name for path in latest.parent.iterdir()) == [*names, "latest"]
    assert json.loads((latest / "results.json").read_text())["run"]["mode"] == "audit"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, fleet: str) -> None:
    (tmp_path / "reports").write_text("a file")
    run = Run(_options(tmp_path, fleet))
    run.open()
    with pytest.raises(ReclaimError, match="cannot be made"):
        run.prepare()


def test_a_folder_that_another_user_keeps_closed_is_told(
    tmp_path: Path, fleet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody but its owner can ask whether there is a folder in it; root can, so the refusal is played."""
    run = Run(_options(tmp_path, fleet))
    run.open()

    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    # from Python 3.14 on is_dir() is silent about it, and the folder that is then made is refused
    for call in ("stat", "mkdir"):
        monkeypatch.setattr(Path, call, refuse)
    with pytest.raises(ReclaimError, match="cannot be made: Permission denied"):
        run.prepare()


def test_a_second_fix_is_refused_and_an_audit_is_not(tmp_path: Path, fleet: str) -> None:
    hypervisor = opened(tmp_path, domain_xml(disk_xml()))
    with lock(hypervisor):
        for mode in ("audit", "plan"):
            run = Run(_options(tmp_path, fleet, mode=mode))
            run.open()
            run.prepare()
            run.close()
        second = Run(_options(tmp_path, fleet, mode="fix"))
        second.open()
        with pytest.raises(ReclaimError, match="another --fix is under way there"):
            second.prepare()
    after = Run(_options(tmp_path, fleet, mode="fix"))
    after.open()
    after.prepare()
    after.close()


def test_a_lock_is_let_go_where_the_run_ends(tmp_path: Path, fleet: str) -> None:
    for _ in range(2):
        run = Run(_options(tmp_path, fleet, mode="fix"))
        run.open()
        run.prepare()
        run.close()


def test_no_guest_is_started_or_stopped_by_an_audit(tmp_path: Path) -> None:
    uri = node(tmp_path, domain_xml(disk_xml(), running=False), domain_xml(disk_xml(), name="two"))
    run = Run(_options(tmp_path, uri))
    run.open()
    connection = run.parts[0].hypervisor.connection
    states = {domain.name(): domain.state() for domain in connection.listAllDomains()}
    run.prepare()
    run.gather(run.parts[0].guests, lambda _: None)
    run.measure(run.parts[0].guests)
    run.close()
    assert {domain.name(): domain.state() for domain in connection.listAllDomains()} == states
    assert states["one"][0] == libvirt.VIR_DOMAIN_SHUTOFF


def test_a_guest_that_goes_away_costs_only_its_own_rows(tmp_path: Path) -> None:
    """As the appliances of libguestfs do, which are transient."""
    guest = inhabited(tmp_path, Inside())
    _ = guest.persistent  # as collecting has read it
    guest.domain.destroy()
    guest.domain.undefine()
    run = Run(Options())
    run.gather([guest], lambda _: None)
    storage: dict[tuple[str, str], measured.DiskSpace] = {}
    measured.measure(guest.hypervisor, [guest], storage, after=False)
    assert [one.used for one in storage.values()] == [None]
    row = judge(catalogue()["live-definition"], Subject(guest.hypervisor, guest))
    assert row.verdict is Verdict.ERROR
    assert "Domain not found" in row.reason


def test_a_guest_that_goes_away_while_ssh_looks_for_it_costs_only_its_own_rows(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(), inventory=Inventory(guest={"one": GuestNotes(ssh=Ssh(prefer=True))}))
    assert guest.can_be_looked_into
    guest.domain.destroy()
    guest.domain.undefine()
    Run(Options()).gather([guest], lambda _: None)


def test_a_record_that_cannot_be_written_costs_no_other_hypervisor_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(Options(uri=FLEET, reports=tmp_path / "reports"))
    run.open()
    run.open()  # the same once more: two parts
    run.prepare()
    full, other = run.parts
    real = os.open

    def no_room(path: Any, *rest: Any, **more: Any) -> Any:
        if str(path).startswith(f"{full.folder}/") and NAME in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", no_room)
    monkeypatch.setattr(
        "pathlib.Path.open", lambda path, *rest, **more: os.fdopen(no_room(path, 0o1101), *rest, **more)
    )
    troubles = run.close()
    assert troubles == [f"there is no record of this run: {full.folder}: No space left on device"]
    assert (full.is_written, other.is_written) == (False, True)
    assert full.found is not None
    assert (other.folder / NAME).is_file()


# What is opened -------------------------------------------------------------------------------


def _opened(folder: Path, *domains: str, **more: Any) -> Run:
    run = Run(_options(folder, node(folder, *(domains or (domain_xml(disk_xml()),))), **more))
    run.open()
    return run


def _inventory(folder: Path, text: str) -> Path:
    path = folder / "inventory.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("mode", "boot_stopped", "changes"),
    [("audit", False, False), ("plan", False, False), ("fix", False, True), ("audit", True, True)],
)
def test_a_run_that_may_change_something_needs_the_lock(mode: Any, *, boot_stopped: bool, changes: bool) -> None:
    assert Run(Options(mode=mode, boot_stopped=boot_stopped)).changes_something is changes


def test_a_run_is_named_by_its_start_and_its_mode() -> None:
    assert Run(Options(mode="plan"), started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)).id == (
        "20260102T030405Z-plan"
    )


def test_the_guests_that_are_named_are_the_only_ones(tmp_path: Path) -> None:
    domains = [domain_xml(disk_xml(), name=name) for name in ("web-1", "web-2", "db")]
    (part,) = _opened(tmp_path, *domains, guests=("web-*",)).parts
    assert sorted(guest.name for guest in part.guests) == ["web-1", "web-2"]
    assert len(part.hypervisor.guests) == 3
    with pytest.raises(ReclaimError, match="mail"):
        _opened(tmp_path, *domains, guests=("mail",))


def test_the_options_reach_the_engine_and_the_journal(tmp_path: Path) -> None:
    inventory = _inventory(tmp_path, "")
    run = _opened(tmp_path, mode="fix", restart=True, force=True, boot_stopped=True, inventory=inventory)
    (part,) = run.parts
    one = part.engine
    assert (one.mode, one.restart, one.force, one.boot_stopped) == ("fix", True, True, True)
    assert (one.journal.mode, one.journal.uri, one.journal.inventory) == ("fix", run.options.uri, str(inventory))
    assert part.folder == tmp_path / "reports/test-driver" / run.id
    assert not part.folder.exists()
    assert _opened(tmp_path).parts[0].engine.journal.inventory is None


@pytest.mark.parametrize(("mode", "readonly"), [("audit", True), ("plan", True), ("fix", False)])
def test_definitions_alone_are_read_without_the_right_to_change(tmp_path: Path, mode: Any, *, readonly: bool) -> None:
    assert _opened(tmp_path, mode=mode, definitions_only=True).parts[0].hypervisor.readonly is readonly
    assert not _opened(tmp_path, mode=mode).parts[0].hypervisor.readonly


def test_a_requirement_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReclaimError) as caught:
        _opened(tmp_path, inventory=_inventory(tmp_path, '[guest.two.waive]\nno-such = "why"\n'))
    assert all(fact in str(caught.value) for fact in ("inventory.toml", "guest.two.waive.no-such", "disk-bus"))


def test_guests_that_are_not_here_are_named_once_and_the_others_are_judged(tmp_path: Path) -> None:
    text = """\
[guest.two]
thick = true
[guest."o*"]
thick = true
[guest.three]
on = ["kvm9"]
[guest."t*"]
on = ["test-driver"]
[[ssh]]
guests = ["one", "web*", "db"]
[[window]]
guests = ["nine"]
from = "22:00"
to = "04:00"
zone = "UTC"
"""
    run = _opened(tmp_path, inventory=_inventory(tmp_path, text))
    tables = 'the inventory names guests that are not here: two ([guest.two], line 1), t* ([guest."t*"], line 7)'
    globs = "web* ([[ssh]].guests, line 10), db ([[ssh]].guests, line 10), nine ([[window]].guests, line 12)"
    assert run.remarks == [tables, f"globs of the inventory meet no guest here: {globs}"]
    assert run.parts[0].guests[0].notes.thick is True
    assert list(run.parts[0].hypervisor.inventory.guest) == ["two", "o*", "t*"]


def test_many_names_that_are_not_here_are_counted(tmp_path: Path) -> None:
    text = "".join(f"[guest.w{number}]\n" for number in range(1000))
    (remark,) = _opened(tmp_path, inventory=_inventory(tmp_path, text)).remarks
    assert remark.endswith("w5 ([guest.w5], line 6) and 994 more")


def test_a_waiver_that_ends_soon_is_mentioned(tmp_path: Path) -> None:
    today = date.today()  # noqa: DTZ011 - as the machine's clock has it
    ends = {"a": 0, "b": 1, "c": 14, "d": 15, "e": -1}
    text = "".join(
        f'[guest."one{"*" * index}".waive.disk-bus]\nreason = "it is {name}"\nuntil = {today + timedelta(days)}\n'
        for index, (name, days) in enumerate(ends.items(), 1)
    )
    text += f'[guest.two.waive]\ndisk-bus = {{ reason = "it is away", until = {today} }}\n'
    _, *remarks = _opened(tmp_path, inventory=_inventory(tmp_path, text)).remarks
    assert [remark.rpartition(", ")[2] for remark in remarks] == [
        "today: it is a",
        "tomorrow: it is b",
        "in 14 days: it is c",
    ]
    assert remarks[0].startswith(
        f'the waiver of disk-bus for one* ([guest."one*".waive.disk-bus], line 1) ends on {today}'
    )


def test_a_waiver_of_a_requirement_that_there_is_is_taken(tmp_path: Path) -> None:
    run = _opened(tmp_path, inventory=_inventory(tmp_path, '[guest.one.waive]\ndisk-bus = "why"\n'))
    assert run.parts[0].guests[0].notes.waive == {"disk-bus": Waiver(reason="why")}


# Copies and jobs ------------------------------------------------------------------------------


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    folder = tmp_path / "copies"
    folder.mkdir()
    for name in ("one-vda.qcow2", "nobody.qcow2"):
        (folder / name).write_bytes(b"QFI\xfb" + bytes(1000))
    return folder


def _copies(run: Run) -> set[tuple[str | None, str]]:
    return {(copy.key[0], Path(str(copy.key[2])).name) for part in run.parts for copy in part.copies}


def test_copies_of_a_folder_belong_to_their_guests_or_to_none(tmp_path: Path, copies: Path) -> None:
    run = _opened(tmp_path, domain_xml(disk_xml(source="/images/one-vda.qcow2")), backups=(copies,))
    assert _copies(run) == {("one", "one-vda.qcow2"), (None, "nobody.qcow2")}
    assert all(copy.place is run.parts[0].hypervisor for copy in run.parts[0].copies)
    assert {copy.disk.name for copy in run.parts[0].copies if copy.disk} == {"vda"}


def test_who_asks_for_guests_is_not_shown_the_copies_of_none(tmp_path: Path, copies: Path) -> None:
    run = _opened(tmp_path, domain_xml(disk_xml(source="/images/one-vda.qcow2")), backups=(copies,), guests=("one",))
    assert _copies(run) == {("one", "one-vda.qcow2")}


def test_a_copy_that_fits_no_disk_anywhere_has_one_row(tmp_path: Path, copies: Path) -> None:
    run = Run(_options(tmp_path, node(tmp_path, domain_xml(disk_xml(), name="two"))))
    run.parts += [run._part(run._connect(Inventory(), None)) for _ in range(2)]
    run._find_backups([BackupNotes(path=copies)])
    strangers = [[str(copy.key[2]) for copy in part.copies if copy.guest is None] for part in run.parts]
    assert sorted(strangers[0]) == [str(copies / "nobody.qcow2"), str(copies / "one-vda.qcow2")]
    assert strangers[1] == []


def test_jobs_are_those_of_the_inventory(tmp_path: Path) -> None:
    job = tmp_path / "job"
    job.write_text("rsync -a /images/ /copies/\n", encoding="utf-8")
    run = _opened(tmp_path, inventory=_inventory(tmp_path, f'[[backup]]\njob = "{job}"\n'))
    assert [one.key for one in run.parts[0].jobs] == [(None, None, str(job))]
    again = _opened(tmp_path, inventory=_inventory(tmp_path, f'[[backup]]\njob = "{job}"\n'), definitions_only=True)
    assert again.parts[0].jobs == []


@pytest.mark.parametrize("make", [None, Path.touch], ids=["missing", "a-file"])
def test_a_folder_of_copies_that_cannot_be_read_is_told(tmp_path: Path, make: Any) -> None:
    folder = tmp_path / "nowhere"
    if make:
        make(folder)
    with pytest.raises(ReclaimError) as caught:
        _opened(tmp_path, backups=(folder,))
    assert str(caught.value).startswith(f"--backups {folder}: ")


# Its folder -----------------------------------------------------------------------------------


def test_the_folders_of_a_run_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        run = _opened(tmp_path, mode="fix")
        run.prepare()
    finally:
        os.umask(before)
    (part,) = run.parts
    for folder in (part.folder, part.folder.parent, tmp_path / "reports"):
        assert folder.stat().st_mode & 0o777 == 0o700, folder
    assert part.engine.journal.path.parent == part.folder
    run.close()


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports").chmod(0o755)
    run = _opened(tmp_path)
    run.prepare()
    assert (tmp_path / "reports").stat().st_mode & 0o777 == 0o755
    run.close()


def test_a_thousand_runs_of_one_second_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(_path: Path, mode: int = 0o777, *, exist_ok: bool = False) -> None:
        raise FileExistsError

    run = _opened(tmp_path)
    run.parts[0].folder.parent.mkdir(parents=True)
    monkeypatch.setattr(Path, "mkdir", taken)
    with pytest.raises(ReclaimError, match="--reports"):
        run.prepare()


@pytest.mark.parametrize("mode", ["audit", "fix"])
def test_without_room_an_audit_has_no_record_and_a_fix_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    (tmp_path / "reports").mkdir()
    run = _opened(tmp_path, mode=mode)
    ours = Path.mkdir

    def full(path: Path, mode: int = 0o777, **more: bool) -> None:
        if tmp_path in path.parents:
            raise OSError(errno.ENOSPC, "No space left on device")
        ours(path, mode, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", full)
        if mode == "fix":
            with pytest.raises(ReclaimError, match="No space left"):
                run.prepare()
            run.abandon()
            return
        run.prepare()
    (part,) = run.parts
    assert "No space left" in part.homeless
    [line] = run.close()
    assert "No space left" in line
    assert part.found is not None
    assert not part.is_written


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_reports_of_others_are_no_place_for_a_journal(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    reports.mkdir()
    reports.chmod(0o777)
    audit = _opened(tmp_path)
    audit.prepare()
    audit.close()
    fix = _opened(tmp_path, mode="fix")
    with pytest.raises(ReclaimError, match="/var/lib/reclaim/reports"):
        fix.prepare()
    fix.abandon()
    assert not fix.parts[0].folder.exists()


def test_a_run_that_is_given_up_leaves_no_folder_and_no_lock(tmp_path: Path) -> None:
    run = _opened(tmp_path, mode="fix")
    run.prepare()
    folder = run.parts[0].folder
    assert folder.is_dir()
    assert run.recorded
    run.forget_record()
    assert not folder.exists()
    assert run.close() == []
    lock(run.parts[0].hypervisor).close()
    other = _opened(tmp_path)
    other.prepare()
    (other.parts[0].folder / "kept").touch()
    other.abandon()
    assert (other.parts[0].folder / "kept").exists()


def test_a_link_that_cannot_be_made_costs_the_link_alone(tmp_path: Path) -> None:
    run = _opened(tmp_path)
    run.prepare()
    (part,) = run.parts
    (part.folder.parent / "latest").mkdir()
    (part.folder.parent / "latest/file").touch()
    assert run.close() == []
    assert part.is_written
    assert part.unlinked


# Earlier runs ---------------------------------------------------------------------------------


def _earlier(folder: Path, uri: str, name: str = "20250101T000000Z-fix", uuid: str = "") -> Journal:
    path = folder / "reports/test-driver" / name
    path.mkdir(parents=True)
    book = Journal(path / journal.NAME, uri, "fix")
    book.done(book.intend("one", uuid or uuid_of("one"), "fstrim-timer", CommandChange("one", "a", "b")), {})
    return book


def _found(run: Run) -> tuple[list[str], list[str]]:
    names = [[died.path.parent.name for _, died in deaths] for deaths in (run.interrupted, run.elsewhere)]
    return names[0], names[1]


def test_a_run_that_died_is_found(tmp_path: Path) -> None:
    run = _opened(tmp_path)
    book = _earlier(tmp_path, str(run.options.uri))
    run.prepare()
    assert _found(run) == (["20250101T000000Z-fix"], [])
    run.close()
    book.end()
    again = _opened(tmp_path)
    again.prepare()
    assert _found(again) == ([], [])
    again.close()


def test_a_run_at_another_address_of_these_guests_is_left_to_that(tmp_path: Path) -> None:
    _earlier(tmp_path, "test:///another")
    _earlier(tmp_path, "test:///third", "20250102T000000Z-fix", uuid_of("somebody else's"))
    run = _opened(tmp_path)
    run.prepare()
    assert _found(run) == ([], ["20250101T000000Z-fix"])
    run.close()


def test_a_run_that_is_under_way_has_not_died(tmp_path: Path) -> None:
    run = _opened(tmp_path)
    _earlier(tmp_path, str(run.options.uri))
    with lock(run.parts[0].hypervisor):
        run.prepare()
    assert _found(run) == ([], [])
    run.close()


def test_journals_that_are_not_obeyed_are_told_in_a_few_lines(tmp_path: Path) -> None:
    for number in range(6):
        folder = tmp_path / f"reports/test-driver/2025010{number + 1}T000000Z-fix"
        folder.mkdir(parents=True)
        (folder / journal.NAME).write_text("no journal\n", encoding="utf-8")
    run = _opened(tmp_path)
    run.prepare()
    assert len(run.remarks) == 4
    assert "3 more" in run.remarks[-1]
    run.close()


def test_definitions_of_earlier_runs_are_the_history_of_the_guest(tmp_path: Path) -> None:
    run = _opened(tmp_path)
    guest = run.parts[0].guests[0]
    book = _earlier(tmp_path, str(run.options.uri))
    xml = guest.persistent.xml
    book.done(book.intend("one", guest.uuid, "disk-discard", DefinitionChange("one", xml, xml)), {})
    book.intend("one", guest.uuid, "disk-discard", DefinitionChange("one", xml.replace("65536", "131072"), xml))
    run.prepare()
    assert guest.history == [xml], "a definition that was not made is no history"
    run.close()


# The walk -------------------------------------------------------------------------------------


def test_a_guest_that_was_started_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = _opened(tmp_path, boot_stopped=True)
    (part,) = run.parts
    (guest,) = part.guests
    left: list[object] = []
    counted: list[bool] = []
    monkeypatch.setattr(part.engine, "leave", left.append)
    monkeypatch.setattr(measured, "measure", lambda *_arguments, after: counted.append(after))
    run.leave(guest)
    assert (left, counted) == ([], [])
    guest.booted_by = run.id
    run.leave(guest)
    assert (left, counted) == ([guest], [True])
    part.guests.clear()
    run.leave(guest)
    assert left == [guest]


def test_the_images_of_the_guests_that_are_asked_for_are_counted(tmp_path: Path) -> None:
    image = tmp_path / "one.img"
    image.write_bytes(bytes(1 << 20))
    domains = domain_xml(disk_xml(source=str(image))), domain_xml(disk_xml(source="/x"), name="two")
    run = _opened(tmp_path, *domains)
    (part,) = run.parts
    run.measure([guest for guest in part.guests if guest.name == "one"])
    assert set(part.storage) == {("one", "vda")}
    run.measure(part.guests, after=True)
    assert part.storage["one", "vda"].allocated_after == 1 << 20


def test_progress_names_the_guests_that_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reclaim.engine.run._PROGRESS_SECONDS", 0.01)
    waits = threading.Event()
    inside = Inside()
    guest = inhabited(tmp_path, inside)
    ours = inside.run

    def slow(command: str) -> tuple[int, bytes, bytes]:
        waits.wait(30)
        return ours(command)

    inside.run = slow  # type: ignore[method-assign]
    said: list[str] = []

    def progress(text: str) -> None:
        said.append(text)
        waits.set()

    Run(Options()).gather([guest], progress)
    assert said[0].startswith("looked into 0 of 1 guest,")
    assert said[0].endswith("waiting for the agent or ssh of one")
    assert said[-1] == "looked into 1 of 1 guest"
    assert guest.has_facts
