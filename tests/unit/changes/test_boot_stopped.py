"""--boot-stopped: a guest that is off is started, judged, mended, and is off again whatever comes between."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import libvirt
import pytest

from reclaim.base.errors import AgentAbsent
from reclaim.base.verdict import Result, Verdict
from reclaim.changes import boot_stopped, ours, power, preconditions
from reclaim.changes.boot_stopped import Boot
from reclaim.changes.change import Change
from reclaim.engine import journal, undo
from reclaim.engine.engine import Engine
from reclaim.handles import started_by
from reclaim.handles.hypervisor import Hypervisor
from reclaim.inventory import GuestNotes, Inventory, Policy, Ssh
from tests.command import audit
from tests.support import (
    InhabitedGuest,
    Inside,
    definition_of,
    disk_xml,
    engine,
    hang_up,
    hypervisor_of,
    inhabited,
    walk,
)

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.handles.guest import Guest

CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
OVIRT = "<ovirt-vm:vm xmlns:ovirt-vm='http://ovirt.org/vm/1.0'/>"
WIN = (
    '<libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0">'
    '<libosinfo:os id="http://microsoft.com/win/2k19"/></libosinfo:libosinfo>'
)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for; the test driver's button is its plain shutdown."""
    monkeypatch.setattr(boot_stopped, "_PAUSE", 0)
    monkeypatch.setattr(power, "_PAUSE", 0)
    monkeypatch.setattr(power, "_press_button", lambda guest: guest.domain.shutdown() == 0)


def stopped(folder: Path, *devices: str, inside: Inside | None = None, **more: Any) -> InhabitedGuest:
    """A guest that is off, with an agent that answers while it runs."""
    guest = inhabited(folder, inside or Inside(), disk_xml(), *(devices or (CHANNEL,)), running=False, **more)
    guest.answers |= {"guest-ping": dict, "guest-shutdown": guest.domain.destroy}
    guest.within.commands["systemctl is-system-running"] = lambda _: 0
    return guest


def booting(guest: Guest, folder: Path, mode: Any = "audit", **more: bool) -> Engine:
    found = engine(guest.hypervisor, folder, mode, **more)
    found.boot_stopped = True
    return found


def visited(run: Engine, guest: Guest, *slugs: str) -> dict[str, Result]:
    """One guest's turn."""
    run.visit(guest)
    results = walk(run, guest, *slugs)
    run.leave(guest)
    return {one.requirement: one for one in results}


def test_a_guest_that_is_off_is_judged_inside_and_off_again(tmp_path: Path) -> None:
    guest = stopped(tmp_path)
    before = definition_of(guest).xml
    run = booting(guest, tmp_path)
    rows = visited(run, guest)
    assert not guest.domain.isActive()
    assert definition_of(guest).xml == before
    assert guest.domain.autostart() == 0
    assert rows["guest-access"].verdict is Verdict.COMPLIANT
    assert rows["guest-access"].evidence.endswith(
        "; it was off: it was started (--boot-stopped) and it was shut down again"
    )
    assert {rows[slug].verdict for slug in ("fstab-uuid", "boot-names", "fstrim-timer")} == {Verdict.COMPLIANT}
    record = journal.read(run.journal.path)
    assert [(entry.requirement, entry.state) for entry in record.entries] == [("boot-stopped", "undone")]
    assert (record.applied, record.interrupted) == ([], [])


def test_without_the_option_it_stays_off(tmp_path: Path) -> None:
    guest = stopped(tmp_path)
    run = engine(guest.hypervisor, tmp_path, "audit")
    rows = visited(run, guest)
    assert {rows[slug].verdict for slug in ("guest-access", "fstab-uuid")} == {Verdict.NOT_ASSESSABLE}
    assert rows["fstab-uuid"].reason == "it is off"
    assert rows["disk-discard"].verdict is Verdict.NONCOMPLIANT
    assert not run.journal.path.exists()


@pytest.mark.parametrize("hour", [12, 22])
def test_it_is_started_in_its_maintenance_window_alone(tmp_path: Path, hour: int) -> None:
    guest = stopped(tmp_path)
    window = {"from": "22:00", "to": "04:00", "zone": "UTC", "guests": ["one"]}
    guest.hypervisor.inventory = Inventory.model_validate({"window": [window]})
    guest.hypervisor.clock = lambda: datetime(2026, 11, 30, hour, tzinfo=timezone.utc)
    run = booting(guest, tmp_path)
    rows = visited(run, guest)
    assert not guest.domain.isActive()
    assert run.journal.path.exists() is (hour == 22)
    assert rows["guest-access"].verdict is (Verdict.COMPLIANT if hour == 22 else Verdict.NOT_ASSESSABLE)
    if hour == 12:
        begins = "its maintenance window begins Mon 2026-11-30 22:00 (UTC)"
        assert rows["guest-access"].reason == f"it is off, and --boot-stopped does not start it: {begins}"


def test_it_is_shut_down_again_though_its_window_ended(tmp_path: Path) -> None:
    guest = stopped(tmp_path)
    window = {"from": "22:00", "to": "04:00", "zone": "UTC"}
    guest.hypervisor.inventory = Inventory.model_validate({"window": [window]})
    guest.hypervisor.clock = lambda: datetime(2026, 11, 30, 22, tzinfo=timezone.utc)
    run = booting(guest, tmp_path)
    run.visit(guest)
    assert guest.domain.isActive()
    guest.hypervisor.clock = lambda: datetime(2026, 11, 30, 5, tzinfo=timezone.utc)
    run.leave(guest)
    assert not guest.domain.isActive()


def test_a_guest_that_runs_is_left_running(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml(), CHANNEL)
    visited(booting(guest, tmp_path), guest)
    assert guest.domain.isActive()


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        pytest.param(WIN, "it is Windows", id="windows"),
        pytest.param(OVIRT, "oVirt manages it (metadata): start it there", id="managed"),
    ],
)
def test_what_must_not_be_started_stays_off(tmp_path: Path, metadata: str, reason: str) -> None:
    guest = stopped(tmp_path, metadata=metadata)
    rows = visited(booting(guest, tmp_path), guest, "guest-access")
    assert rows["guest-access"].verdict is Verdict.NOT_ASSESSABLE
    assert rows["guest-access"].reason.startswith(f"it is off, and --boot-stopped does not start it: {reason}")
    assert not guest.domain.isActive()


def test_a_managed_save_image_is_not_resumed(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml(), CHANNEL)
    guest.domain.managedSave()
    guest.forget()
    rows = visited(booting(guest, tmp_path), guest, "guest-access")
    assert "a start would resume its managed-save image" in rows["guest-access"].reason
    assert guest.domain.hasManagedSaveImage(0)


@pytest.mark.parametrize("policy", ["restart", "preserve"])
def test_what_would_not_go_off_again_is_not_started(tmp_path: Path, policy: str) -> None:
    guest = stopped(tmp_path)
    xml = definition_of(guest).xml.replace("<on_poweroff>destroy", f"<on_poweroff>{policy}")
    guest.hypervisor.connection.defineXML(xml)
    guest.forget()
    assert preconditions.why_not_started(guest) == f"its on_poweroff is {policy}: it would not go off again"


def test_what_a_run_that_died_left_off_stays_noncompliant(tmp_path: Path) -> None:
    guest = stopped(tmp_path)
    guest.left_off = "it is off since the run x"
    rows = visited(booting(guest, tmp_path), guest, "guest-access", "live-definition")
    assert rows["live-definition"].verdict is Verdict.NONCOMPLIANT
    assert rows["live-definition"].reason == guest.left_off
    assert [slug for slug, row in rows.items() if row.left_off] == ["live-definition"]
    assert not guest.domain.isActive()


def test_nobody_is_started_to_be_looked_at_from_outside(tmp_path: Path) -> None:
    guest = stopped(tmp_path, "<input type='tablet' bus='usb'/>")
    assert "it has no guest agent channel" in str(preconditions.why_not_started(guest))
    guest.hypervisor.inventory = Inventory(guest={"one": GuestNotes(ssh=Ssh(user="root"))})
    assert preconditions.why_not_started(guest) is None


def test_a_host_without_room_for_it_does_not_start_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = stopped(tmp_path)
    left = {"total": 10**7, "free": 30_000, "buffers": 5_000, "cached": 30_535}  # KiB; it takes 65536
    monkeypatch.setattr(libvirt.virConnect, "getMemoryStats", lambda *_: left)
    rows = visited(booting(guest, tmp_path), guest, "guest-access")
    assert rows["guest-access"].reason.endswith("it takes 64.0 MiB of memory, and the host has 64.0 MiB left")
    left["free"] += 1
    assert preconditions.why_not_started(guest) is None


def test_a_guest_that_does_not_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = stopped(tmp_path)
    taken = libvirt.libvirtError("")
    taken.err = (libvirt.VIR_ERR_INTERNAL_ERROR, 0, 'Failed to get "write" lock', 0, "", None, None, 0, 0)

    def start() -> None:
        raise taken

    monkeypatch.setattr(guest, "start", start)
    run = booting(guest, tmp_path)
    rows = visited(run, guest, "guest-access")
    assert rows["guest-access"].reason.endswith('QEMU does not start: Failed to get "write" lock')
    assert [entry.state for entry in journal.read(run.journal.path).entries] == ["failed"]


def test_a_start_that_the_journal_refuses_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = stopped(tmp_path)

    def refuse(_uuid: str, _change: Change) -> None:
        raise ValueError("no such change")

    monkeypatch.setattr(ours, "expect", refuse)
    run = booting(guest, tmp_path)
    rows = visited(run, guest)
    assert not guest.domain.isActive()
    assert "--boot-stopped does not start it: one: no such change" in (rows["fstab-uuid"].reason or "")
    assert not run.journal.path.exists()


def test_a_guest_that_goes_off_by_itself_is_told(tmp_path: Path) -> None:
    guest = stopped(tmp_path)

    def crash() -> None:
        guest.domain.destroy()
        raise AgentAbsent("one: the guest agent does not answer")

    guest.answers["guest-ping"] = crash
    rows = visited(booting(guest, tmp_path), guest, "guest-access")
    assert rows["guest-access"].reason.endswith("it went off while it started")


@pytest.mark.slow
def test_a_guest_that_does_not_answer_is_judged_and_off_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hypervisor, "strain", lambda _self: 2.0)
    silent = Inside(problem=AgentAbsent("one: the guest agent does not answer"))
    guest = stopped(tmp_path, inside=silent, inventory=Inventory(policy=Policy(boot_seconds=1)))
    guest.answers.clear()
    rows = visited(booting(guest, tmp_path), guest)
    assert rows["guest-access"].verdict is Verdict.NONCOMPLIANT
    assert rows["guest-access"].reason.endswith(
        "; it did not answer within 2 s (boot_seconds in the inventory's policy); it was off: it was started "
        "(--boot-stopped) and it was shut down again"
    )
    assert rows["fstab-uuid"].verdict is Verdict.NOT_ASSESSABLE
    assert not guest.domain.isActive()


@pytest.mark.slow
def test_a_guest_that_does_not_shut_down_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plug is not pulled."""
    monkeypatch.setattr(power, "_press_button", lambda _: True)
    guest = stopped(tmp_path, inventory=Inventory(policy=Policy(shutdown_seconds=1)))
    guest.answers["guest-shutdown"] = dict
    rows = visited(booting(guest, tmp_path), guest, "guest-access")
    assert rows["guest-access"].verdict is Verdict.ERROR
    assert "could NOT be shut down again: one: it did not shut down within 2 s" in rows["guest-access"].reason
    assert guest.domain.isActive()


# Mending --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("restart", [False, True])
def test_what_was_off_is_mended_and_off(tmp_path: Path, *, restart: bool) -> None:
    inside = Inside()
    inside.files["/etc/fstab"] = "/dev/vda1 / ext4 defaults 0 1\n"
    guest = stopped(tmp_path, inside=inside)
    rows = visited(
        booting(guest, tmp_path, "fix", restart=restart),
        guest,
        "guest-access",
        "fstab-uuid",
        "disk-discard",
        "live-definition",
    )
    assert rows["fstab-uuid"].verdict is rows["disk-discard"].verdict is Verdict.FIXED
    assert inside.files["/etc/fstab"].startswith("UUID=")
    assert definition_of(guest).disk("vda").driver["discard"] == "unmap"
    assert not guest.domain.isActive()
    live = rows["live-definition"]
    if restart:
        assert live.verdict is Verdict.FIXED
        assert "power-cycled" in live.reason
    else:
        assert live.verdict is Verdict.PENDING
        assert live.reason.endswith("it was shut down again: its next start uses the definition")


@pytest.mark.slow
def test_a_pending_row_of_a_guest_that_did_not_answer_names_its_next_start_alone(tmp_path: Path) -> None:
    silent = Inside(problem=AgentAbsent("one: the guest agent does not answer"))
    guest = stopped(tmp_path, inside=silent, inventory=Inventory(policy=Policy(boot_seconds=1)))
    guest.answers.clear()
    fixer = booting(guest, tmp_path, "fix", force=True)
    rows = visited(fixer, guest, "guest-access", "disk-discard", "live-definition")
    assert "it did not answer within" in rows["guest-access"].reason
    live = rows["live-definition"]
    assert live.verdict is Verdict.PENDING
    assert live.reason.endswith("; it was shut down again: its next start uses the definition")
    assert "did not answer within" not in live.reason


@pytest.mark.slow
def test_the_mark_goes_with_the_qemu_and_comes_with_the_next(tmp_path: Path) -> None:
    guest = stopped(tmp_path)
    run = booting(guest, tmp_path, "fix", restart=True)
    run.visit(guest)
    name = run.journal.path.parent.name
    assert started_by.is_of(guest.domain, name)
    assert not started_by.is_of(guest.domain, "another")
    walk(run, guest, "guest-access", "disk-discard", "live-definition")
    assert started_by.is_of(guest.domain, name)
    run.leave(guest)
    assert "reclaim" not in definition_of(guest).xml
    assert not started_by.is_of(guest.domain, name)
    guest.domain.create()
    assert not started_by.is_of(guest.domain, name)


@pytest.mark.slow
def test_what_was_off_is_not_brought_back_where_its_power_cycle_saw_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ignored that it was to shut down, and went off when it was asked again: a later run leaves it off."""
    monkeypatch.setattr(power, "_press_button", lambda _: True)
    guest = stopped(tmp_path, inventory=Inventory(policy=Policy(shutdown_seconds=1)))
    guest.answers["guest-shutdown"] = dict
    run = booting(guest, tmp_path, "fix", restart=True)
    run.visit(guest)
    *_, row = walk(run, guest, "guest-access", "disk-discard", "live-definition")
    assert row.verdict is Verdict.PENDING
    assert not journal.read(run.journal.path).ended
    guest.answers["guest-shutdown"] = guest.domain.destroy
    run.leave(guest)
    run.journal.end()
    record = journal.read(run.journal.path)
    assert (record.ended, record.power_cycles, undo.at_stake(record, hypervisor_of(guest))) == (True, [], [])
    assert not guest.domain.isActive()


def test_a_libvirtd_that_is_restarted_leaves_nothing_up(tmp_path: Path) -> None:
    guest = stopped(tmp_path)
    run = booting(guest, tmp_path)
    run.visit(guest)
    hang_up(guest)
    run.leave(guest)
    assert not guest.domain.isActive()
    assert [entry.state for entry in journal.read(run.journal.path).entries] == ["undone"]


# A run that dies ------------------------------------------------------------------------------


def _died(guest: InhabitedGuest, folder: Path) -> journal.JournalRecord:
    """The journal of a run that was killed while *guest* was up."""
    run = booting(guest, folder)
    run.visit(guest)
    guest.booted_by = None  # another process knows nothing
    record = journal.read(run.journal.path)
    assert [type(entry.change) for entry in record.interrupted] == [Boot]
    assert record.left_only_boots
    return record


def test_the_next_run_shuts_down_what_a_killed_one_started(tmp_path: Path) -> None:
    guest = stopped(tmp_path)
    record = _died(guest, tmp_path)
    said: list[str] = []
    undo.finish(record, hypervisor_of(guest), said.append)
    assert said == ["one: the run that died had started it: it was shut down again"]
    assert not guest.domain.isActive()
    assert journal.read(record.path).ended


def test_what_was_started_by_somebody_else_since_is_left(tmp_path: Path) -> None:
    guest = stopped(tmp_path)
    record = _died(guest, tmp_path)
    guest.domain.destroy()
    guest.domain.create()
    said: list[str] = []
    undo.finish(record, hypervisor_of(guest), said.append)
    assert "NOT shut down: one: another user or program has started it since" in said[0]
    assert guest.domain.isActive()


def test_an_interrupted_run_leaves_nothing_up(tmp_path: Path) -> None:
    guest = stopped(tmp_path)
    run = booting(guest, tmp_path)
    run.visit(guest)
    assert guest.domain.isActive()
    run.leave_all()
    assert not guest.domain.isActive()
    run.leave_all()


def test_inside_a_guest_that_is_off_nothing_is_taken_back(tmp_path: Path) -> None:
    inside = Inside()
    inside.files["/etc/fstab"] = "/dev/vda1 / ext4 defaults 0 1\n"
    guest = stopped(tmp_path, inside=inside)
    run = booting(guest, tmp_path, "fix")
    visited(run, guest, "guest-access", "fstab-uuid")
    said: list[str] = []
    assert not undo._undo(journal.read(run.journal.path), hypervisor_of(guest), said.append)
    assert said == ["one: fstab-uuid: NOT taken back: it is off: undo again when it runs"]
    inside.commands["test -b /dev/vda1"] = lambda _: 0
    guest.domain.create()
    guest.forget()
    assert undo._undo(journal.read(run.journal.path), hypervisor_of(guest), said.append)
    assert inside.files["/etc/fstab"].startswith("/dev/vda1")


# The command line -----------------------------------------------------------------------------


@pytest.mark.slow
def test_it_contradicts_looking_at_definitions_only(tmp_path: Path) -> None:
    outcome = audit(tmp_path, "--boot-stopped", "--definitions-only")
    assert outcome.status == 4
    assert "--boot-stopped looks into guests and --definitions-only into none" in outcome.stderr


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--boot-stopped"], []], ids=["boot-stopped", "audit"])
def test_a_terminal_that_goes_away_ends_the_run_as_ctrl_c_does(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "listening.py").write_text(
        "import signal\n"
        "def pytest_report_header():\n"
        "    return f'SIGHUP is heard: {signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL}'\n"
    )
    outcome = audit(tmp_path, *options, "-p", "listening", "--guests", "web", env={"PYTHONPATH": str(tmp_path)})
    assert "SIGHUP is heard: True" in outcome.stdout


@pytest.mark.slow
def test_the_test_drivers_guests_are_not_started(tmp_path: Path) -> None:
    outcome = audit(tmp_path, "--boot-stopped", "--guests", "web")
    assert "reclaim: --boot-stopped: reclaim starts the guests that are off, one at a time" in outcome.stdout
    assert not list(tmp_path.glob("*/*/journal.jsonl"))
