"""The engine on libvirt's test driver: judge, wait, plan, mend, refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

import libvirt
import pytest

from reclaim.backups.backup import Backup
from reclaim.backups.job import Job
from reclaim.base.errors import (
    ChangeFailed,
    JournalLost,
    NotApplicable,
    NotAssessable,
    Pending,
    PowerCycleFailed,
    ProbeError,
    Refused,
    StillRunning,
    Withheld,
)
from reclaim.base.verdict import Judgement, Result, Verdict
from reclaim.changes import boot_stopped, kinds, power, preconditions
from reclaim.changes.change import Change
from reclaim.changes.command import CommandChange
from reclaim.changes.definition_change import DefinitionChange, changed_definition
from reclaim.changes.power import PowerCycle
from reclaim.definition.domain import Definition
from reclaim.definition.machine_type import OfferedMachine
from reclaim.engine.engine import Engine, Subject, _report_start, everything, finding, judge, subjects
from reclaim.engine.journal import Journal, read
from reclaim.handles.guest import UNKNOWN_DISKS, Disk, Guest
from reclaim.handles.node import Node
from reclaim.inventory import GuestNotes, Inventory, Waiver
from reclaim.requirement import Requirement, catalogue
from tests.support import (
    InhabitedGuest,
    Inside,
    definition_of,
    difference,
    disk_xml,
    domain_xml,
    drive,
    engine,
    hang_up,
    hypervisor_of,
    inhabited,
    opened,
    requirement,
    scsi_xml,
    subject,
    uuid_of,
    walk,
)

if TYPE_CHECKING:
    from pathlib import Path

DEFINITION = ("machine-type", "disk-discard", "scsi-controller", "disk-bus")
OFFERED = [OfferedMachine("pc-i440fx-1.6", deprecated=True), OfferedMachine("pc-i440fx-7.2", deprecated=False)]


def _check(guest: Guest) -> str:
    assert guest.definition.root.findtext("title") == "good", "the title is not good"
    return "good"


def _titled(text: str) -> Callable[[Guest], list[Change]]:
    def fixer(guest: Guest) -> list[Change]:
        edit = guest.definition.edit()
        edit.root.insert(1, edit.root.makeelement("title"))
        edit.root[1].text = text
        return [changed_definition(edit)]

    return fixer


def _requirement(
    fixer: Callable[[Guest], list[Change]], check: Callable[[Guest], str] = _check, *after: str
) -> Requirement:
    return Requirement("title", "The title is good", "definition", check, fixer, after, "")


def _one(folder: Path, *devices: str) -> Guest:
    return opened(folder, domain_xml(*(devices or (disk_xml(),)))).guests[0]


def _bytes(guest: Guest) -> tuple[str, str]:
    """The running and the persistent definition, to the byte."""
    secure = libvirt.VIR_DOMAIN_XML_SECURE
    return guest.domain.XMLDesc(secure), guest.domain.XMLDesc(secure | libvirt.VIR_DOMAIN_XML_INACTIVE)


# Judging


def test_an_audit_changes_nothing_and_proposes_nothing(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), machine="pc-i440fx-1.6"), offered=OFFERED).guests[0]
    before = _bytes(guest)
    one = engine(guest.hypervisor, tmp_path, "audit", force=True)
    rows = walk(one, guest)
    assert {row.requirement for row in rows if row.verdict is Verdict.NONCOMPLIANT} == set(DEFINITION)
    assert [row.changes for row in rows] == [[]] * len(rows)
    assert _bytes(guest) == before
    assert not one.journal.path.exists()


def test_only_the_checks_own_assert_is_a_finding(tmp_path: Path) -> None:
    def helper() -> None:
        raise AssertionError("from below")

    def check(guest: Guest) -> str:
        del guest
        helper()
        return ""

    called: list[str] = []

    def fixer(guest: Guest) -> list[Change]:
        called.append(guest.name)
        return []

    guest = _one(tmp_path)
    with pytest.raises(AssertionError, match="from below"):
        engine(guest.hypervisor, tmp_path).run(_requirement(fixer, check), subject(guest))
    assert called == []


def test_testinfras_own_assertions_are_no_finding(tmp_path: Path) -> None:
    def check(guest: Guest) -> str:
        return str(guest.hypervisor.shell.check_output("exit 3"))

    guest = _one(tmp_path)
    with pytest.raises(AssertionError, match="exit 3"):
        engine(guest.hypervisor, tmp_path).run(_requirement(_titled("good"), check), subject(guest))
    assert definition_of(guest).root.findtext("title") is None


@pytest.mark.parametrize(
    ("error", "verdict", "words"),
    [
        pytest.param(ProbeError("no\x1b answer"), Verdict.ERROR, "could not look: no\\x1b answer", id="probe"),
        pytest.param(libvirt.libvirtError("gone"), Verdict.ERROR, "could not look: libvirt: gone", id="libvirt"),
        pytest.param(NotAssessable("closed"), Verdict.NOT_ASSESSABLE, "closed", id="not-assessable"),
    ],
)
def test_what_could_not_be_looked_at_starts_no_fixer(
    tmp_path: Path, error: Exception, verdict: Verdict, words: str
) -> None:
    def check(guest: Guest) -> str:
        del guest
        raise error

    guest = _one(tmp_path)
    result = engine(guest.hypervisor, tmp_path).run(_requirement(_titled("good"), check), subject(guest))
    assert (result.verdict, result.reason, result.changes) == (verdict, words, [])


def test_a_fault_of_ours_is_raised(tmp_path: Path) -> None:
    def check(guest: Guest) -> str:
        return str(guest.no_such_thing)  # type: ignore[attr-defined]

    guest = _one(tmp_path)
    with pytest.raises(AttributeError):
        judge(_requirement(_titled("good"), check), subject(guest))


def test_a_row_that_is_judged_ahead_is_judged_once(tmp_path: Path) -> None:
    """Its turn takes the judgement, and a later look is a new one."""
    guest = _one(tmp_path)
    looks: list[Guest] = []

    def check(guest: Guest) -> str:
        looks.append(guest)
        assert len(looks) > 1, "it was not there"
        return "there"

    one, again = engine(guest.hypervisor, tmp_path, "audit"), _requirement(_titled("good"), check)
    one.judge_ahead(again, subject(guest))
    assert one.results == {}
    assert one.run(again, subject(guest)).reason == "it was not there"
    assert looks == [guest]
    assert one.run(again, subject(guest)).verdict is Verdict.COMPLIANT


def test_a_fault_in_a_row_that_is_judged_ahead_is_raised_in_its_turn(tmp_path: Path) -> None:
    def check(guest: Guest) -> str:
        return str(guest.no_such_thing)  # type: ignore[attr-defined]

    guest = _one(tmp_path)
    one, faulty = engine(guest.hypervisor, tmp_path, "audit"), _requirement(_titled("good"), check)
    one.judge_ahead(faulty, subject(guest))
    with pytest.raises(AttributeError):
        one.run(faulty, subject(guest))


def test_a_waiver_is_the_users_word_and_nothing_is_looked_at(tmp_path: Path) -> None:
    inventory = Inventory(guest={"one": GuestNotes(waive={"disk-discard": Waiver(reason="thin pool\x1b below")})})
    guest = opened(tmp_path, domain_xml(disk_xml()), inventory=inventory).guests[0]
    result = engine(guest.hypervisor, tmp_path).run(requirement("disk-discard"), subject(guest, "vda"))
    assert (result.verdict, result.reason) == (Verdict.WAIVED, "thin pool\\x1b below")
    assert result.changes == []
    assert result.to_json()["waiver"] == {"reason": "thin pool\\x1b below", "until": None}


#: at this moment it is 1 December in Vienna and 30 November in New York
_MIDNIGHT = datetime(2026, 11, 30, 23, 30, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("until", "zone", "is_waived"),
    [
        (date(2026, 11, 29), "America/New_York", False),
        (date(2026, 11, 30), "America/New_York", True),
        (date(2026, 11, 30), "Europe/Vienna", False),
        (date(2026, 12, 1), "Europe/Vienna", True),
    ],
)
def test_a_waiver_ends_with_its_last_day_on_the_hypervisor(
    tmp_path: Path, until: date, zone: str, *, is_waived: bool
) -> None:
    waiver = Waiver(reason="replaced in spring", until=until)
    inventory = Inventory(guest={"one": GuestNotes(waive={"disk-discard": waiver, "disk-bus": waiver})})
    good = disk_xml("sda", bus="scsi", driver="discard='unmap'", inner=drive(0)) + scsi_xml()
    guest = opened(tmp_path, domain_xml(disk_xml("vda"), good), inventory=inventory).guests[0]
    guest.hypervisor.clock = lambda: _MIDNIGHT.astimezone(ZoneInfo(zone))
    judged = engine(guest.hypervisor, tmp_path, "audit")
    bad, held = (judged.run(requirement("disk-discard"), subject(guest, disk)) for disk in ("vda", "sda"))
    ended = f"its waiver ended on {until}: replaced in spring"
    for row in (bad, held):
        assert row.to_json()["waiver"] == {"reason": "replaced in spring", "until": str(until)}
    if is_waived:
        assert [row.verdict for row in (bad, held)] == [Verdict.WAIVED, Verdict.WAIVED]
        assert bad.reason == f"replaced in spring (until {until})"
        return
    assert (bad.verdict, held.verdict, held.reason) == (Verdict.NONCOMPLIANT, Verdict.COMPLIANT, "")
    assert bad.reason.endswith(f"; {ended}")
    assert held.evidence.endswith(f"; {ended}")


def test_a_row_that_nobody_could_look_at_keeps_its_reason_if_its_waiver_has_ended(tmp_path: Path) -> None:
    """The reason groups such rows, on the terminal and among the next steps."""
    waiver = Waiver(reason="replaced in spring", until=date(2020, 1, 1))
    inventory = Inventory(guest={"one": GuestNotes(waive={"fstab-uuid": waiver})})
    guest = opened(tmp_path, domain_xml(disk_xml(), running=False), inventory=inventory).guests[0]
    row = engine(guest.hypervisor, tmp_path).run(requirement("fstab-uuid"), subject(guest))
    assert row.verdict is Verdict.NOT_ASSESSABLE
    assert "waiver" not in row.reason
    assert row.evidence == "its waiver ended on 2020-01-01: replaced in spring"


# Mending


def test_check_fix_check_again(tmp_path: Path) -> None:
    guest = _one(tmp_path)
    one = engine(guest.hypervisor, tmp_path)
    result = one.run(_requirement(_titled("good")), subject(guest))
    assert (result.verdict, result.reason, result.evidence) == (Verdict.FIXED, "was: the title is not good", "good")
    [entry] = read(one.journal.path).entries
    assert (entry.state, entry.requirement, entry.uuid) == ("done", "title", guest.uuid)
    assert entry.outcome["defined"] == definition_of(guest).xml


def test_the_second_check_is_the_verdict_not_the_fixer(tmp_path: Path) -> None:
    guest = _one(tmp_path)
    result = engine(guest.hypervisor, tmp_path).run(_requirement(_titled("bad")), subject(guest))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert result.reason == "the title is not good; the change was applied and did not help"
    assert [change.applied for change in result.changes] == [True]


@pytest.mark.parametrize(
    ("error", "verdict", "words"),
    [
        pytest.param(Withheld("by hand"), Verdict.NONCOMPLIANT, "; withheld: by hand", id="withheld"),
        pytest.param(ProbeError("no answer"), Verdict.NONCOMPLIANT, "withheld: could not look: no answer", id="probe"),
        pytest.param(NotAssessable("off"), Verdict.NONCOMPLIANT, "withheld: off", id="not-assessable"),
        pytest.param(libvirt.libvirtError("gone"), Verdict.NONCOMPLIANT, "withheld: libvirt: gone", id="libvirt"),
        pytest.param(Pending("tomorrow"), Verdict.PENDING, "; tomorrow", id="pending"),
    ],
)
@pytest.mark.parametrize("mode", ["plan", "fix"])
def test_a_fixer_that_proposes_nothing_says_why(
    tmp_path: Path, mode: str, error: Exception, verdict: Verdict, words: str
) -> None:
    def fixer(guest: Guest) -> list[Change]:
        del guest
        raise error

    guest = _one(tmp_path)
    before = _bytes(guest)
    one = engine(guest.hypervisor, tmp_path, "plan" if mode == "plan" else "fix")
    result = one.run(_requirement(fixer), subject(guest))
    assert (result.verdict, result.changes) == (verdict, [])
    assert result.reason.startswith("the title is not good; ")
    assert result.reason.endswith(words)
    assert _bytes(guest) == before
    assert not one.journal.path.exists()


def _breaking(edit_xml: Callable[[str], str]) -> Callable[[Guest], list[Change]]:
    def fixer(guest: Guest) -> list[Change]:
        xml = guest.definition.xml
        return [DefinitionChange(guest.name, xml, edit_xml(xml))]

    return fixer


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        pytest.param(lambda xml: xml.replace("<vcpu", "<vcpu no='1'"), "libvirt refuses the definition", id="schema"),
        pytest.param(
            lambda xml: xml.replace("dev='vda' bus='virtio'", "dev='vda' bus='warp'"),
            "libvirt refuses the definition",
            id="value",
        ),
    ],
)
def test_a_definition_that_libvirt_refuses_leaves_the_old_one(
    tmp_path: Path, broken: Callable[[str], str], words: str
) -> None:
    guest = _one(tmp_path)
    before = _bytes(guest)
    one = engine(guest.hypervisor, tmp_path)
    result = one.run(_requirement(_breaking(broken)), subject(guest))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert f"; not fixed: one: {words}" in result.reason
    assert [change.applied for change in result.changes] == [False]
    assert _bytes(guest) == before
    assert [entry.state for entry in read(one.journal.path).entries] == ["failed"]
    assert one.journal.standing(guest.uuid) == []


def test_the_definition_of_another_guest_is_not_even_tried(tmp_path: Path) -> None:
    guest = _one(tmp_path)
    before = _bytes(guest)
    one = engine(guest.hypervisor, tmp_path)
    fixer = _breaking(lambda xml: xml.replace(f"{guest.uuid}</uuid>", f"{uuid_of('two')}</uuid>"))
    result = one.run(_requirement(fixer), subject(guest))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "; not fixed: one: the definition is of another guest: its uuid is" in result.reason
    assert (result.changes, _bytes(guest), one.journal.path.exists()) == ([], before, False)


def test_what_libvirt_drops_is_taken_back(tmp_path: Path) -> None:
    guest = _one(tmp_path)
    before = _bytes(guest)
    wanted = _breaking(lambda xml: xml.replace("<devices>", "<devices><console type='pty'/>", 1))

    class Forgetful:
        """libvirt, but for the console, which it takes and does not keep."""

        def defineXMLFlags(self, xml: str, flags: int) -> None:  # noqa: N802
            real.defineXMLFlags(xml.replace("<console type='pty'/>", ""), flags)

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    real = guest.hypervisor.connection
    assert guest.hypervisor.is_test_driver
    guest.hypervisor.connection = Forgetful()
    result = engine(guest.hypervisor, tmp_path).run(_requirement(wanted), subject(guest))
    guest.hypervisor.connection = real
    assert "libvirt dropped domain/devices/console type='pty'; the definition is as it was" in result.reason
    assert _bytes(guest) == before


def test_a_definition_that_changed_since_it_was_read_is_left(tmp_path: Path) -> None:
    def fixer(guest: Guest) -> list[Change]:
        changes = _titled("good")(guest)
        guest.hypervisor.connection.defineXML(domain_xml(disk_xml(driver="cache='none'")))
        return changes

    guest = _one(tmp_path)
    result = engine(guest.hypervisor, tmp_path).run(_requirement(fixer), subject(guest))
    assert "not fixed: one: the definition has changed since it was read; run again" in result.reason
    assert definition_of(guest).disk("vda").driver["cache"] == "none"
    assert definition_of(guest).root.findtext("title") is None


def test_a_transient_guest_is_not_defined(tmp_path: Path) -> None:
    guest = _one(tmp_path)
    guest.domain.undefine()
    guest.forget()
    result = engine(guest.hypervisor, tmp_path).run(_requirement(_titled("good")), subject(guest))
    assert "withheld: it is transient: it has no definition" in result.reason
    assert not guest.is_persistent


def test_the_running_guest_is_left_alone(tmp_path: Path) -> None:
    guest = _one(tmp_path)
    live = _bytes(guest)[0]
    engine(guest.hypervisor, tmp_path, force=True).run(requirement("disk-discard"), subject(guest, "vda"))
    assert guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE) == live
    assert guest.domain.isActive()


def test_other_guests_are_left_alone(tmp_path: Path) -> None:
    hypervisor = opened(tmp_path, domain_xml(disk_xml()), domain_xml(disk_xml(), name="two"))
    one, two = hypervisor.guests
    before = _bytes(two)
    walk(engine(hypervisor, tmp_path, force=True), one, *DEFINITION)
    assert _bytes(two) == before


# Waiting


def test_a_fix_waits_and_names_what_for(tmp_path: Path) -> None:
    guest = _one(tmp_path)
    before = _bytes(guest)
    result = engine(guest.hypervisor, tmp_path).run(requirement("disk-bus"), subject(guest, "vda"))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert result.reason.startswith("it is on the bus virtio; withheld: depends on fstab-uuid (not-assessable: ")
    assert (result.changes, _bytes(guest)) == ([], before)


def test_force_goes_ahead_and_says_so(tmp_path: Path) -> None:
    guest = _one(tmp_path, disk_xml(), scsi_xml())
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("disk-bus"), subject(guest, "vda"))
    assert result.verdict is Verdict.FIXED
    assert "forced although fstab-uuid is not-assessable: libvirt's test driver" in result.reason
    assert " (so are boot-names, initramfs-driver); reclaim did not check" in result.reason
    assert "scsi-controller" not in result.reason, "it holds: nothing is overruled"
    unseen = [requirement(slug).title for slug in ("fstab-uuid", "boot-names", "initramfs-driver")]
    assert f"reclaim did not check this: {'; '.join(unseen)}" in result.reason


def test_a_forced_plan_says_what_it_overrules(tmp_path: Path) -> None:
    guest = _one(tmp_path, disk_xml(), scsi_xml())
    result = engine(guest.hypervisor, tmp_path, "plan", force=True).run(requirement("disk-bus"), subject(guest, "vda"))
    assert result.changes
    assert "; forced although fstab-uuid is not-assessable" in result.reason


def test_what_was_seen_not_to_hold_is_overruled_by_its_name_alone(tmp_path: Path) -> None:
    inside = Inside()
    inside.files["/etc/fstab"] = "/dev/vdz1 / ext4\n"
    guest = inhabited(tmp_path, inside, disk_xml(), scsi_xml())
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("disk-bus"), subject(guest, "vda"))
    assert result.verdict is Verdict.FIXED
    assert "forced although fstab-uuid is noncompliant: " in result.reason
    assert "did not check" not in result.reason


def test_force_overrules_no_refusal(tmp_path: Path) -> None:
    refused = disk_xml("hda", "ide", inner="<geometry cyls='100' heads='4' secs='8' trans='lba'/>")
    guest = _one(tmp_path, refused, scsi_xml())
    before = _bytes(guest)
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("disk-bus"), subject(guest, "hda"))
    assert "withheld: its geometry has a translation mode" in result.reason
    assert "forced" not in result.reason
    assert _bytes(guest) == before


@pytest.mark.parametrize(
    ("fstab", "verdict"),
    [("UUID=aaaa-1 / ext4\n", Verdict.FIXED), ("/dev/vdz1 / ext4\n", Verdict.NONCOMPLIANT)],
    ids=["holds", "does-not-hold"],
)
def test_what_is_waited_for_is_judged_where_this_run_did_not(tmp_path: Path, fstab: str, verdict: Verdict) -> None:
    inside = Inside()
    inside.files["/etc/fstab"] = fstab
    guest = inhabited(tmp_path, inside, disk_xml(), scsi_xml())
    result = engine(guest.hypervisor, tmp_path).run(requirement("disk-bus"), subject(guest, "vda"))
    assert result.verdict is verdict, result.reason


def test_what_waits_for_something_pending_is_pending(tmp_path: Path) -> None:
    inside = Inside()
    guest = inhabited(tmp_path, inside, disk_xml())
    waiting = replace(_requirement(_titled("good")), after=("live-definition",))
    one = engine(guest.hypervisor, tmp_path)
    rows = walk(one, guest, "disk-discard", "live-definition")
    assert [row.verdict for row in rows] == [Verdict.FIXED, Verdict.PENDING]
    result = one.run(waiting, subject(guest))
    assert result.verdict is Verdict.PENDING
    assert "depends on live-definition (pending)" in result.reason


def test_one_walk_mends_a_guest_from_2013(tmp_path: Path) -> None:
    inside = Inside()
    inside.files["/etc/fstab"] = "/dev/vda1 / ext4 defaults 0 1\n"
    guest = inhabited(tmp_path, inside, disk_xml(), machine="pc-i440fx-1.6", offered=OFFERED)
    rows = walk(engine(guest.hypervisor, tmp_path), guest)
    verdicts = {row.requirement: row.verdict for row in rows}
    assert {slug for slug, verdict in verdicts.items() if verdict is Verdict.FIXED} == {"fstab-uuid", *DEFINITION}
    assert verdicts["live-definition"] is Verdict.PENDING
    assert inside.files["/etc/fstab"] == "UUID=aaaa-1 / ext4 defaults 0 1\n"
    definition = definition_of(guest)
    assert definition.machine == "pc-i440fx-7.2"
    assert (definition.disk("sda").bus, definition.disk("sda").driver["discard"]) == ("scsi", "unmap")
    guest.renamed.clear()
    again = walk(engine(guest.hypervisor, tmp_path), guest)
    assert all(row.changes == [] for row in again)
    assert {row.requirement for row in again if row.verdict is Verdict.NONCOMPLIANT} == set()


# Planning


def test_a_plan_changes_nothing_and_its_steps_build_on_each_other(tmp_path: Path) -> None:
    devices = [disk_xml("vda"), disk_xml("vdb"), disk_xml("sda", "sata", device="cdrom", inner=drive(0))]
    guest = opened(tmp_path, domain_xml(*devices, machine="pc-i440fx-1.6"), offered=OFFERED).guests[0]
    before = _bytes(guest)
    planner = engine(guest.hypervisor, tmp_path, "plan", force=True)
    rows = walk(planner, guest, *DEFINITION)
    assert _bytes(guest) == before
    assert guest.renamed == {}
    assert not planner.journal.path.exists()
    assert {row.verdict for row in rows} == {Verdict.NONCOMPLIANT}
    assert [len(row.changes) for row in rows] == [1] * len(rows)
    assert not any(change.applied for row in rows for change in row.changes)
    planned = planner._planned["one"]

    fixer = engine(guest.hypervisor, tmp_path, "fix", force=True)
    mended = walk(fixer, guest, *DEFINITION)
    assert {row.verdict for row in mended} == {Verdict.FIXED}
    gone, came = difference(planned, definition_of(guest))
    assert not gone, "what was planned is what was done"
    assert {line.split()[0] for line in came} <= {"domain/devices/controller", "domain/devices/controller/address"}


def test_a_planned_controller_lets_the_disk_move_in_the_same_plan(tmp_path: Path) -> None:
    guest = _one(tmp_path, disk_xml())
    planner = engine(guest.hypervisor, tmp_path, "plan", force=True)
    walk(planner, guest, "scsi-controller", "disk-bus")
    [change] = planner.results["disk-bus", "one", "vda", None].changes
    assert '+      <target dev="sda" bus="scsi"/>' in change.diff.replace("'", '"')
    assert planner._planned["one"].scsi_controllers[0].is_virtio_scsi


# Subjects -------------------------------------------------------------------------------------


def test_copies_and_jobs_are_changed_on_the_hypervisor_and_named_by_their_path(tmp_path: Path) -> None:
    guest = _one(tmp_path)
    owner, disk = hypervisor_of(guest), Disk(guest, "vda")
    copy = Subject(owner, guest, disk, Backup(owner, "/copies/a\x1b.img"))
    assert copy.place is owner
    assert copy.key == ("one", "vda", "/copies/a\\x1b.img")
    assert Subject(owner, guest, disk).place is guest
    assert Subject(owner, guest, disk).key == ("one", "vda", None)
    assert Subject(owner).place is owner
    assert Subject(owner).key == (None, None, None)
    job = Subject(owner, job=Job(owner, "/etc/cron.daily/backup", ()))
    assert job.place is owner
    assert job.key == (None, None, "/etc/cron.daily/backup")


def test_a_check_is_given_the_handles_that_it_takes(tmp_path: Path) -> None:
    guest = _one(tmp_path)
    disk = Disk(guest, "vda")
    assert Subject(guest.hypervisor, guest, disk).arguments(requirement("disk-bus")) == [disk]
    assert subject(guest).arguments(requirement("machine-type")) == [guest]


def test_a_row_is_the_same_for_the_same_subject(tmp_path: Path) -> None:
    guest = _one(tmp_path, disk_xml("vda"), disk_xml("vdb"))
    one = engine(guest.hypervisor, tmp_path, "audit")
    row = one.result(requirement("disk-bus"), subject(guest, "vda"))
    assert (row.verdict, row.reason) == (Verdict.NOT_ASSESSABLE, "")
    assert one.result(requirement("disk-bus"), subject(guest, "vda")) is row
    assert one.result(requirement("disk-bus"), subject(guest, "vdb")) is not row
    assert one.result(requirement("disk-discard"), subject(guest, "vda")) is not row


def test_a_renamed_disk_keeps_the_name_that_it_was_collected_under(tmp_path: Path) -> None:
    guest = _one(tmp_path, disk_xml("sda", "scsi"), disk_xml("vdb"))
    guest.renamed["vda"] = "sda"
    assert [one.key[1] for one in subjects(requirement("disk-bus"), guest)] == ["vda", "vdb"]
    assert [one.key for one in subjects(requirement("machine-type"), guest)] == [("one", None, None)]
    assert subjects(requirement("sparse-backup"), guest) == []


def test_disks_of_qemus_arguments_alone_are_told_by_one_requirement(tmp_path: Path) -> None:
    guest = _one(tmp_path)
    arguments = (
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:arg value='-drive'/>"
        "<qemu:arg value='file=/x.img,if=virtio'/></qemu:commandline>"
    )
    guest.__dict__["persistent"] = Definition(guest.persistent.xml.replace("</domain>", f"{arguments}</domain>"))
    assert [one.key[1] for one in subjects(requirement("disk-discard"), guest)] == ["vda", UNKNOWN_DISKS]
    assert [one.key[1] for one in subjects(requirement("disk-bus"), guest)] == ["vda"]
    assert len(everything(requirement("disk-bus"), guest)) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("it is off\nassert 1 == 2\n +  where 1", "it is off"),
        ("two\nlines", "two\nlines"),
        ("assert 1 == 2", "assert 1 == 2"),
        ("assert 1 == 2\nassert 3", "assert 1 == 2\nassert 3"),
    ],
)
def test_a_finding_is_the_checks_own_message(text: str, told: str) -> None:
    assert finding(AssertionError(text)) == told


def test_what_does_not_apply_is_no_finding(tmp_path: Path) -> None:
    def check(guest: Guest) -> str:
        raise NotApplicable(f"{guest.name} has no\x1b title")

    judgement = judge(_requirement(_titled("good"), check), subject(_one(tmp_path)))
    assert judgement == (Verdict.NOT_APPLICABLE, "one has no\\x1b title", "")


# Steps ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Step(CommandChange):
    """A change that ends as it is told to: with an error, or an outcome that is written down."""

    ends: BaseException | dict[str, str] = field(default_factory=dict)

    @property
    def written(self) -> Change:
        return CommandChange(self.guest, self.command)

    def apply(self, guest: Guest) -> dict[str, str]:
        guest.hypervisor.progress(self.command)
        if isinstance(self.ends, BaseException):
            raise self.ends
        return self.ends


class _Scene:
    """A guest, an engine, and a requirement that holds once a step called `last` was applied."""

    def __init__(self, folder: Path, *steps: tuple[str, BaseException | dict[str, str]], **more: Any) -> None:
        self.steps = [_Step("one", name, ends=ends) for name, ends in steps]
        self.guest = inhabited(folder, Inside(), disk_xml())
        self.made: list[str] = []
        self.guest.hypervisor.progress = self.made.append
        self.engine = engine(self.guest.hypervisor, folder, **more)
        self.requirement = _requirement(self.fixer, self.check)

    def check(self, guest: Guest) -> str:
        del guest
        assert "last" in self.made, "not done"
        return "done"

    def fixer(self, guest: Guest) -> list[Change]:
        del guest
        return list(self.steps)

    def run(self) -> Result:
        return self.engine.run(self.requirement, subject(self.guest))

    def states(self) -> list[tuple[str, str]]:
        return _lines(self.engine.journal.path)


def _lines(path: Path) -> list[tuple[str, str]]:
    """The events of a journal after its beginning, with their words."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(line["event"], line.get("reason", "")) for line in lines[1:]]


@pytest.fixture(autouse=True)
def _journalled_as_what_they_stand_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal knows no `_Step` and no `_Cycle`."""
    ours = kinds.to_json

    def plain(change: Change) -> dict[str, Any]:
        return ours(change.written if isinstance(change, _Step | _Cycle) else change)

    monkeypatch.setattr(kinds, "to_json", plain)


Make = Callable[..., _Scene]


@pytest.fixture
def scene(tmp_path: Path) -> Make:
    return partial(_Scene, tmp_path)


def test_changes_are_made_in_their_order_each_after_its_intent(scene: Make) -> None:
    made = scene(("first", {}), ("last", {}))
    result = made.run()
    assert result.verdict is Verdict.FIXED
    assert made.made == ["first", "last"]
    assert [event for event, _ in made.states()] == ["intent", "done", "intent", "done"]
    assert [change.applied for change in result.changes] == [True, True]


def test_notes_and_freed_bytes_are_added_up(scene: Make) -> None:
    made = scene(("first", {"note": "a\x1bb", "freed": "5"}), ("last", {"note": "c", "freed": "7"}))
    result = made.run()
    assert result.reason == "was: not done; a\\x1bb; c"
    assert made.engine.freed == 12
    made.made.clear()
    made.steps[:] = [_Step("one", "last")]
    assert made.run().reason == "was: not done", "the notes of the fix before are not this one's"


@pytest.mark.parametrize(
    ("error", "event"),
    [
        pytest.param(ChangeFailed("one: no room"), "failed", id="it-took-itself-back"),
        pytest.param(ProbeError("one: no room"), "unknown", id="nobody-knows"),
        pytest.param(libvirt.libvirtError("no room"), "unknown", id="libvirt"),
    ],
)
def test_the_first_change_that_fails_ends_the_fix(scene: Make, error: Exception, event: str) -> None:
    made = scene(("first", {}), ("second", error), ("last", {}))
    result = made.run()
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "not fixed: " in result.reason
    assert "no room" in result.reason
    assert made.made == ["first", "second"]
    assert [change.applied for change in result.changes] == [True, False]
    assert made.states()[-1][0] == event
    assert "no room" in made.states()[-1][1]


def _runs(failing: str) -> dict[str, Callable[[Inside], int | tuple[int, bytes, bytes]]]:
    """Commands of the guest: those called `back …` succeed, but that of *failing* does not."""

    def succeed(_inside: Inside) -> int:
        return 0

    def fail(_inside: Inside) -> tuple[int, bytes, bytes]:
        return 1, b"", b"it is read-only"

    return {f"back {name}": fail if name == failing else succeed for name in ("first", "second", "third")}


def _reversible(made: _Scene, *named: str, without: str = "") -> None:
    made.steps[:] = [
        replace(step, back=f"back {step.command}") if step.command in named and step.command != without else step
        for step in made.steps
    ]


def _refuse_the_second(made: _Scene, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let the journal end with *error* when the second step is to be written."""
    intend = made.engine.journal.intend

    def refuse(guest: str, uuid: str, slug: str, change: Change) -> int:
        if change is made.steps[1]:
            raise error
        return intend(guest, uuid, slug, change)

    monkeypatch.setattr(made.engine.journal, "intend", refuse)


@pytest.mark.parametrize(
    ("error", "back", "undone"),
    [
        pytest.param(ChangeFailed("no room"), ["second", "first"], [True, True, False], id="it-took-itself-back"),
        pytest.param(ProbeError("no answer"), ["third", "second", "first"], [True, True, True], id="its-end-is-lost"),
        pytest.param(libvirt.libvirtError("gone"), ["third", "second", "first"], [True] * 3, id="libvirt"),
    ],
)
def test_a_fix_that_fails_midway_is_taken_back(
    scene: Make, error: Exception, back: list[str], undone: list[bool]
) -> None:
    made = scene(("first", {}), ("second", {}), ("third", error), ("last", {}))
    _reversible(made, "first", "second", "third")
    made.guest.within.commands.update(_runs(""))
    result = made.run()
    assert made.guest.within.ran == [f"back {name}" for name in back]
    assert result.verdict is Verdict.NONCOMPLIANT
    assert result.reason.endswith("; the changes before it were taken back")
    assert [change.undone for change in result.changes] == undone
    assert (result.rolled_back, result.failed, result.left_off) == (True, True, False)
    record = read(made.engine.journal.path)
    assert {entry.state for entry in record.entries} <= {"undone", "failed"}
    assert not list(made.engine.journal.standing(made.guest.uuid))


def test_a_change_that_leaves_nothing_to_take_back_stays_between_the_others(scene: Make) -> None:
    made = scene(("first", {}), ("second", {}), ("third", ChangeFailed("no room")))
    _reversible(made, "first")
    made.guest.within.commands.update(_runs(""))
    result = made.run()
    assert made.guest.within.ran == ["back first"]
    assert result.reason.endswith("; the changes before it were taken back, but for command in one")
    assert [change.undone for change in result.changes] == [True, False, False]


def test_if_a_change_cannot_be_taken_back_it_stays_and_so_do_those_before_it(scene: Make) -> None:
    made = scene(("first", {}), ("second", {}), ("third", ChangeFailed("no room")))
    _reversible(made, "first", "second")
    made.guest.within.commands.update(_runs("second"))
    result = made.run()
    assert made.guest.within.ran == ["back second"]
    assert "NOT taken back: command in one: one: back second ended with status 1: it is read-only" in result.reason
    assert "undo takes back" in result.reason
    assert [change.undone for change in result.changes] == [False, False, False]
    assert (result.rolled_back, result.failed) == (False, True)
    assert [entry.state for entry in read(made.engine.journal.path).entries] == ["done", "done", "failed"]


def test_a_change_that_the_journal_refuses_takes_back_those_before_it(
    scene: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scene(("first", {}), ("second", {}))
    _reversible(made, "first")
    made.guest.within.commands.update(_runs(""))
    _refuse_the_second(made, monkeypatch, ChangeFailed("one: it is of a kind that is unknown"))
    result = made.run()
    assert made.guest.within.ran == ["back first"]
    assert result.reason.endswith("; the changes before it were taken back")


def test_without_a_journal_nothing_is_taken_back(scene: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = scene(("first", {}), ("second", ChangeFailed("no room")))
    _reversible(made, "first")
    _lost(made.engine.journal, monkeypatch, "failed")
    result = made.run()
    assert made.guest.within.ran == []
    assert "taken back" not in result.reason
    assert made.engine.stopped


def test_a_journal_that_is_lost_while_changes_are_taken_back_ends_that(
    scene: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scene(("first", {}), ("second", {}), ("third", ChangeFailed("no room")))
    _reversible(made, "first", "second")
    made.guest.within.commands.update(_runs(""))
    _lost(made.engine.journal, monkeypatch, "undone")
    result = made.run()
    assert made.guest.within.ran == ["back second"]
    assert "; taken back in part, and not recorded in the journal: nothing more is changed" in result.reason
    assert [change.undone for change in result.changes] == [False, True, False]


def test_a_journal_that_is_lost_between_two_changes_leaves_the_first(
    scene: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scene(("first", {}), ("second", {}))
    _reversible(made, "first")
    _refuse_the_second(made, monkeypatch, JournalLost("no room"))
    result = made.run()
    assert (made.made, made.guest.within.ran) == (["first"], [])
    assert "; fixed in part: nothing more is changed in this run: no room" in result.reason
    assert (result.rolled_back, result.failed) == (False, True)


def test_a_power_cycle_that_fails_takes_no_change_before_it_back(scene: Make) -> None:
    made = scene(("first", {}), restart=True)
    _reversible(made, "first")
    cycle = _Cycle("one", made.guest.persistent.xml, None)
    made.steps.append(cast("Any", replace(cycle, ends=[ChangeFailed("it does not shut down")])))
    result = made.run()
    assert made.guest.within.ran == []
    assert "taken back" not in result.reason


def test_a_change_that_libvirt_refuses_lets_the_fixer_find_another_way(scene: Make) -> None:
    made = scene(("first", Refused("one: not while it runs")))

    def fixer(guest: Guest) -> list[Change]:
        del guest
        return [made.steps[0]] if not made.made else [_Step("one", "last")]

    made.requirement = replace(made.requirement, fixer=fixer)
    result = made.run()
    assert result.verdict is Verdict.FIXED
    assert [change.diff for change in result.changes] == ["last"]
    assert [event for event, _ in made.states()] == ["intent", "failed", "intent", "done"]


@pytest.mark.parametrize("error", [KeyboardInterrupt("SIGTERM"), ZeroDivisionError("ours")])
def test_an_interruption_is_noted_and_goes_on(scene: Make, error: BaseException) -> None:
    made = scene(("first", error), ("last", {}))
    with pytest.raises(type(error)):
        made.run()
    assert made.states()[-1][0] == "unknown"
    assert type(error).__name__ in made.states()[-1][1]
    assert made.made == ["first"]


def test_a_change_that_did_not_help_is_told_with_the_reason_of_before(scene: Make) -> None:
    made = scene(("first", {"note": "a note"}))
    made.requirement = _requirement(made.fixer, _counting(made, "the reason of now"))
    result = made.run()
    assert result.verdict is Verdict.NONCOMPLIANT
    assert result.reason == "the reason of now; was: not done; a note"


def _counting(made: _Scene, later: str) -> Callable[[Guest], str]:
    def check(guest: Guest) -> str:
        del guest
        words = later if made.made else "not done"
        assert made is None, words
        return ""

    return check


def test_a_change_that_counts_later_is_pending(scene: Make) -> None:
    made = scene(("first", {}))

    def fixer(guest: Guest) -> list[Change]:
        if made.made:
            raise Pending(f"{guest.name} has to be started again")
        return list(made.steps)

    made.requirement = replace(made.requirement, fixer=fixer)
    result = made.run()
    assert result.verdict is Verdict.PENDING
    assert result.reason == "not done; one has to be started again"


@pytest.mark.parametrize("error", [Withheld("no"), NotAssessable("no"), ProbeError("no"), libvirt.libvirtError("no")])
def test_a_fixer_that_cannot_be_asked_again_did_not_help(scene: Make, error: Exception) -> None:
    made = scene(("first", {}))

    def fixer(guest: Guest) -> list[Change]:
        del guest
        if made.made:
            raise error
        return list(made.steps)

    made.requirement = replace(made.requirement, fixer=fixer)
    result = made.run()
    assert result.verdict is Verdict.NONCOMPLIANT
    assert result.reason.endswith("did not help")


def test_a_guest_whose_state_forbids_it_is_left(scene: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = scene(("first", {}), ("last", {}))
    monkeypatch.setattr(preconditions, "why_not_applied", lambda _guest, change: f"no {change.command}\x1b")
    result = made.run()
    assert result.reason == "not done; withheld: no first\\x1b"
    assert (made.made, made.engine.journal.path.exists()) == ([], False)

    def fail(*_arguments: object) -> None:
        raise libvirt.libvirtError("gone")

    monkeypatch.setattr(preconditions, "why_not_applied", fail)
    assert "gone" in made.run().reason
    assert made.made == []


def test_a_remark_on_a_change_is_in_the_row(scene: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = scene(("first", ChangeFailed("no")), ("last", {}))
    monkeypatch.setattr(preconditions, "remark", lambda _guest, change: f"about {change.command}")
    assert "about" not in made.run().reason, "it was not applied"
    made.steps[:] = [_Step("one", "last")]
    assert made.run().reason.endswith("about last")

    def fail(*_arguments: object) -> str:
        raise libvirt.libvirtError("gone")

    monkeypatch.setattr(preconditions, "remark", fail)
    made.made.clear()
    assert made.run().verdict is Verdict.FIXED


# A journal that cannot be written -------------------------------------------------------------


def _lost(book: Journal, monkeypatch: pytest.MonkeyPatch, *methods: str) -> None:
    def fail(*_arguments: object) -> int:
        raise JournalLost("the journal cannot be written: no room")

    for method in methods:
        monkeypatch.setattr(book, method, fail)


def test_what_cannot_be_written_down_is_not_done_and_nothing_after_it(
    scene: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scene(("last", {}))
    _lost(made.engine.journal, monkeypatch, "intend")
    result = made.run()
    assert "no room" in result.reason
    assert (made.made, result.changes) == ([], [])
    again = made.run()
    assert again.reason.startswith("not done; not fixed: ")
    assert "no room" not in again.reason, "the whole reason is told once"
    assert result.failed
    assert again.failed


def test_what_was_done_and_not_written_down_is_told(scene: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = scene(("first", {}), ("last", {}))
    _lost(made.engine.journal, monkeypatch, "done")
    result = made.run()
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "fixed in part" in result.reason
    assert made.made == ["first"]
    other = scene(("last", {}))
    _lost(other.engine.journal, monkeypatch, "done")
    result = other.run()
    assert result.verdict is Verdict.FIXED
    assert "not recorded in the journal" in result.reason


# libvirt that hangs up ------------------------------------------------------------------------


def test_a_libvirt_that_answers_again_is_asked_again(tmp_path: Path) -> None:
    guest = _one(tmp_path, disk_xml(driver="discard='unmap'"))
    one = engine(guest.hypervisor, tmp_path, "audit")
    hang_up(guest)
    assert one.run(requirement("disk-discard"), subject(guest, "vda")).verdict is Verdict.COMPLIANT


def test_a_libvirt_that_stays_away_is_waited_for_once(tmp_path: Path) -> None:
    guest = _one(tmp_path)
    one = engine(guest.hypervisor, tmp_path, "audit")
    hang_up(guest)
    waited: list[float] = []

    def away(seconds: float) -> None:
        waited.append(seconds)
        raise ProbeError("libvirt does not answer")

    guest.hypervisor.__dict__["reconnect"] = away
    for _ in range(3):
        assert one.run(requirement("disk-discard"), subject(guest, "vda")).verdict is Verdict.ERROR
    assert waited[0] > 0
    assert waited[1:] == [0, 0]


# Power cycles ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cycle(PowerCycle):
    """A power cycle that ends as it is told to; the guest is as the test left it."""

    ends: list[BaseException | dict[str, str]] = field(default_factory=list)

    @property
    def written(self) -> Change:
        return PowerCycle(self.guest, self.booted, None)

    def apply(self, guest: Guest) -> dict[str, str]:
        guest.hypervisor.progress("cycle")
        end = self.ends.pop(0)
        if isinstance(end, BaseException):
            raise end
        guest.hypervisor.progress("last")
        return end


class _Powered(_Scene):
    """The same with a power cycle; it stands where live-definition stands in the catalogue."""

    def __init__(self, folder: Path, *ends: BaseException | dict[str, str], restart: bool = True) -> None:
        super().__init__(folder, restart=restart)
        self.ends = list(ends)
        self.requirement = replace(self.requirement, slug="live-definition", stage="power", fixer=self.cycle)

    def cycle(self, guest: Guest) -> list[Change]:
        return [_Cycle("one", definition_of(guest).xml, None, "a\x1b disk changes", ends=self.ends)]

    @property
    def row(self) -> Result:
        return self.engine.result(self.requirement, subject(self.guest))


def test_without_restart_a_power_cycle_is_left_to_you(tmp_path: Path) -> None:
    made = _Powered(tmp_path, {}, restart=False)
    result = made.run()
    assert (result.verdict, result.changes, made.made) == (Verdict.PENDING, [], [])
    assert "(a\\x1b disk changes)" in result.reason
    assert "--restart" in result.reason
    assert not made.engine.journal.path.exists()


def test_a_power_cycle_that_is_forbidden_is_pending_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preconditions, "why_not_applied", lambda _guest, _change: "a backup runs")
    left = _Powered(tmp_path, {}, restart=False)
    assert left.run().verdict is Verdict.PENDING
    assert "a backup runs" in left.row.reason
    asked = _Powered(tmp_path, {})
    assert asked.run().verdict is Verdict.NONCOMPLIANT
    assert asked.row.reason == "not done; withheld: a backup runs"


#: a Monday, at noon in UTC
_NOON = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)


def _in_windows(guest: Guest, begin: str, end: str, *globs: str, **policy: int) -> None:
    """Give *guest* a window for *globs*, or for the guests that no window names, at noon."""
    window: dict[str, Any] = {"from": begin, "to": end, "zone": "UTC"}
    if globs:
        window["guests"] = list(globs)
    guest.hypervisor.inventory = Inventory.model_validate({"window": [window], "policy": policy})
    guest.hypervisor.clock = lambda: _NOON


@pytest.mark.parametrize("globs", [(), ("o*",)])
def test_outside_its_window_no_power_cycle_begins(tmp_path: Path, globs: tuple[str, ...]) -> None:
    made = _Powered(tmp_path, {})
    _in_windows(made.guest, "22:00", "04:00", *globs)
    row = made.run()
    assert (row.verdict, row.changes, made.made) == (Verdict.PENDING, [], [])
    begins = "its maintenance window begins Mon 2026-11-30 22:00 (UTC)"
    assert row.reason == f"not done; waits for a power cycle (a\\x1b disk changes): {begins}"
    assert row.to_json()["next_window"] == "2026-11-30T22:00:00Z"
    assert not made.engine.journal.path.exists()


def test_without_restart_the_window_is_named_too(tmp_path: Path) -> None:
    made = _Powered(tmp_path, {}, restart=False)
    _in_windows(made.guest, "22:00", "04:00")
    assert made.run().reason.endswith("or run with --restart; its maintenance window begins Mon 2026-11-30 22:00 (UTC)")


def test_a_plan_names_the_window_of_a_power_cycle(tmp_path: Path) -> None:
    made = _Powered(tmp_path, {})
    made.engine.mode = "plan"
    _in_windows(made.guest, "22:00", "04:00")
    row = made.run()
    assert [change.kind for change in row.changes] == ["power-cycle"]
    assert row.reason == "not done; its maintenance window begins Mon 2026-11-30 22:00 (UTC)"
    assert row.to_json()["next_window"] == "2026-11-30T22:00:00Z"


def test_within_its_window_and_without_one_a_guest_is_power_cycled(tmp_path: Path) -> None:
    for name, globs in (("in", ()), ("no", ("another*",))):
        folder = tmp_path / name
        folder.mkdir()
        made = _Powered(folder, {})
        _in_windows(made.guest, "12:00" if not globs else "22:00", "23:00", *globs)
        assert made.run().verdict is Verdict.FIXED
        assert "next_window" not in made.row.to_json()


@pytest.mark.parametrize(("end", "verdict"), [("12:08", Verdict.FIXED), ("12:07", Verdict.PENDING)])
def test_a_power_cycle_has_to_end_within_the_window(tmp_path: Path, end: str, verdict: Verdict) -> None:
    made = _Powered(tmp_path, {})
    _in_windows(made.guest, "11:00", end, shutdown_seconds=180, boot_seconds=300)
    row = made.run()
    assert row.verdict is verdict
    if verdict is Verdict.PENDING:
        assert "its maintenance window ends in 7 min, and a power cycle may take 8 min" in row.reason
        assert "the next one begins Tue 2026-12-01 11:00 (UTC)" in row.reason


def test_the_moment_counts_at_which_the_guest_has_its_turn(tmp_path: Path) -> None:
    """A run over a fleet takes hours: the window may end, or begin, meanwhile."""
    made = _Powered(tmp_path, {}, {})
    _in_windows(made.guest, "22:00", "04:00")
    assert made.run().verdict is Verdict.PENDING
    made.guest.hypervisor.clock = lambda: _NOON.replace(hour=22)
    assert made.run().verdict is Verdict.FIXED
    assert "next_window" not in made.row.to_json()


def test_after_a_power_cycle_the_rows_before_it_are_judged_again(tmp_path: Path) -> None:
    made = _Powered(tmp_path, {"note": "it was back after 3 s"})
    rows = {slug: made.engine.result(requirement(slug), subject(made.guest)) for slug in ("guest-access", "boot-names")}
    rows["guest-access"].take(Judgement(Verdict.ERROR, "could not look"))
    rows["boot-names"].take(Judgement(Verdict.WAIVED, "by the user"))
    later = made.engine.result(requirement("fstrim-timer"), subject(made.guest))
    later.take(Judgement(Verdict.ERROR, "of before"))
    assert made.run().verdict is Verdict.FIXED
    assert "it was back after 3 s" in made.row.reason
    assert rows["guest-access"].verdict is Verdict.COMPLIANT
    assert rows["boot-names"].verdict is Verdict.WAIVED
    assert later.reason == "of before", "it comes after the power cycle, and is judged in its turn"
    assert ("fstab-uuid", "one", None, None) not in made.engine.results, "it was not judged before"


def _in_fstab(made: _Powered, *, after: tuple[str, ...], fixer: Callable[[Guest], list[Change]]) -> tuple[Result, str]:
    """A row that is noncompliant before the power cycle and after it, and the words of its check."""
    made.guest.within.files["/etc/fstab"] = "/dev/vda1 / ext4 defaults 0 1\n"
    fstab = replace(requirement("fstab-uuid"), after=after, fixer=fixer)
    catalogue()["fstab-uuid"] = fstab
    finding = judge(fstab, subject(made.guest)).reason
    row = made.engine.result(fstab, subject(made.guest))
    row.take(Judgement(Verdict.NONCOMPLIANT, f"{finding}; of before"))
    return row, finding


def _by_hand(_guest: Guest) -> list[Change]:
    raise Withheld("build it by hand")


def _by_a_step(_guest: Guest) -> list[Change]:
    return [_Step("one", "never")]


@pytest.fixture
def own_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    for slug, known in catalogue().items():
        monkeypatch.setitem(catalogue(), slug, known)


@pytest.mark.usefixtures("own_catalogue")
@pytest.mark.parametrize(
    ("after", "fixer", "words"),
    [
        pytest.param((), _by_hand, "; withheld: build it by hand", id="by-hand"),
        pytest.param(("machine-type",), _by_hand, "; withheld: depends on machine-type (error: no)", id="depends"),
        pytest.param((), _by_a_step, "", id="nothing-is-applied"),
    ],
)
def test_the_way_on_is_named_again_after_a_power_cycle(
    tmp_path: Path, after: tuple[str, ...], fixer: Callable[[Guest], list[Change]], words: str
) -> None:
    made = _Powered(tmp_path, {})
    machine = made.engine.result(requirement("machine-type"), subject(made.guest))
    machine.take(Judgement(Verdict.ERROR, "no"))
    row, finding = _in_fstab(made, after=after, fixer=fixer)
    made.run()
    assert (row.verdict, row.changes) == (Verdict.NONCOMPLIANT, [])
    assert row.reason == f"{finding}{words}"
    assert "never" not in made.made


@pytest.mark.usefixtures("own_catalogue")
def test_a_guest_whose_state_forbids_the_change_is_named_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = _Powered(tmp_path, {})
    row, finding = _in_fstab(made, after=(), fixer=_by_a_step)

    def why(_guest: Guest, change: Change) -> str | None:
        return None if isinstance(change, PowerCycle) else "a backup runs"

    monkeypatch.setattr(preconditions, "why_not_applied", why)
    made.run()
    assert row.reason == f"{finding}; withheld: a backup runs"


def test_what_broke_by_a_power_cycle_is_mended(tmp_path: Path) -> None:
    made = _Powered(tmp_path, {})
    broken = made.engine.result(requirement("fstab-uuid"), subject(made.guest))
    broken.take(Judgement(Verdict.COMPLIANT, "", "of before"))
    fixed = made.engine.result(requirement("guest-access"), subject(made.guest))
    fixed.take(Judgement(Verdict.FIXED, "was: closed", "open"))
    made.guest.within.files["/etc/fstab"] = "/dev/vda1 / ext4 defaults 0 1\n"
    made.run()
    assert broken.verdict is Verdict.FIXED, broken.reason
    assert made.guest.within.files["/etc/fstab"].startswith("UUID=")
    assert (fixed.verdict, fixed.reason) == (Verdict.FIXED, "was: closed")


def test_a_guest_that_goes_off_late_is_started_and_judged(tmp_path: Path) -> None:
    made = _Powered(tmp_path, StillRunning("one: it did not go off"), {"note": "it is back"})
    assert made.run().verdict is Verdict.PENDING
    assert "it did not go off" in made.row.reason
    assert [event for event, _ in made.states()] == ["intent", "unknown"]
    made.engine.look_after()
    assert made.made == ["cycle"], "it still runs"
    made.guest.domain.destroy()
    made.engine.run(requirement("guest-access"), subject(made.guest))
    assert made.made == ["cycle", "cycle", "last"], "every row looks after it first"
    assert made.row.verdict is Verdict.FIXED
    assert "it shut down late; it is back" in made.row.reason
    assert [change.applied for change in made.row.changes] == [True]
    assert made.states()[-1][0] == "done"
    made.engine.look_after()
    assert made.made.count("cycle") == 2


def test_a_guest_that_goes_off_late_and_stays_off_is_told(tmp_path: Path) -> None:
    made = _Powered(tmp_path, StillRunning("one: it did not go off"), PowerCycleFailed("one: it\x1b does not start"))
    made.run()
    made.guest.domain.destroy()
    made.engine.look_after()
    assert made.row.verdict is Verdict.NONCOMPLIANT
    assert made.row.reason == "it shut down late; one: it\\x1b does not start"
    assert made.states()[-1][0] == "unknown", "it is off: the next run tries again"


@pytest.mark.parametrize(("is_running", "event"), [(True, "failed"), (False, "unknown")])
def test_a_guest_that_did_not_come_back_is_told(tmp_path: Path, *, is_running: bool, event: str) -> None:
    made = _Powered(tmp_path, PowerCycleFailed("one: it did not answer\nits last words"))
    if not is_running:
        made.guest.hypervisor.progress = lambda _text: made.guest.domain.destroy()
    result = made.run()
    assert result.reason == "one: it did not answer\nits last words"
    assert (event, "one: it did not answer\nits last words") in made.states()
    assert [change.applied for change in result.changes] == [False]
    assert (result.failed, result.left_off) == (True, not is_running)


def test_a_roll_back_takes_the_definitions_of_this_run_with_it(tmp_path: Path) -> None:
    made = _Powered(tmp_path, PowerCycleFailed("one: it did not answer"))
    booted = definition_of(made.guest).xml
    discard = made.engine.run(requirement("disk-discard"), subject(made.guest, "vda"))
    assert definition_of(made.guest).xml != booted

    def cycle(guest: Guest) -> list[Change]:
        del guest
        return [_Cycle("one", booted, None, "", ends=made.ends)]

    def roll_back(_text: str) -> None:
        made.guest.hypervisor.connection.defineXML(booted)

    made.requirement = replace(made.requirement, fixer=cycle)
    made.guest.hypervisor.progress = roll_back
    made.run()
    assert discard.verdict is Verdict.NONCOMPLIANT
    assert discard.reason.startswith("rolled back: ")
    assert [change.undone for change in discard.changes] == [True]
    assert discard.rolled_back
    assert made.row.rolled_back
    assert made.states()[-1][0] == "undone"


@pytest.mark.parametrize(
    ("state", "event", "words"),
    [
        pytest.param("up", "failed", "started again", id="rolled-back"),
        pytest.param("off", "unknown", "interrupted", id="off"),
        pytest.param("cut-off", None, "", id="libvirt-is-gone"),
    ],
)
def test_an_interrupted_power_cycle_is_told_by_the_state_of_the_guest(
    tmp_path: Path, state: str, event: str | None, words: str
) -> None:
    made = _Powered(tmp_path, KeyboardInterrupt("SIGINT"))

    def meanwhile(_text: str) -> None:
        if state == "off":
            made.guest.domain.destroy()
        if state == "cut-off":
            hang_up(made.guest)

    made.guest.hypervisor.progress = meanwhile
    with pytest.raises(KeyboardInterrupt):
        made.run()
    assert words in made.row.reason
    assert made.row.rolled_back is (state == "up")
    assert made.row.left_off is (state == "off")
    assert made.states()[-1][0] == (event or "intent")


def test_an_interrupted_power_cycle_that_had_shut_nothing_down_is_no_roll_back(tmp_path: Path) -> None:
    made = _Powered(tmp_path, KeyboardInterrupt("SIGINT"))
    live = made.guest.live
    assert live is not None
    made.engine.run(requirement("disk-discard"), subject(made.guest, "vda"))

    def cycle(guest: Guest) -> list[Change]:
        del guest
        return [_Cycle("one", live.xml, None, "", ends=made.ends)]

    made.requirement = replace(made.requirement, fixer=cycle)
    with pytest.raises(KeyboardInterrupt):
        made.run()
    assert made.row.reason.endswith("it was not shut down")
    assert not made.row.rolled_back
    assert made.states()[-1][0] == "failed"


# Waiting for other requirements ---------------------------------------------------------------


def test_a_guest_that_is_off_waits_for_nothing_inside(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), running=False)).guests[0]
    waits = _requirement(_titled("good"), _check, "fstrim-timer")
    assert engine(guest.hypervisor, tmp_path).run(waits, subject(guest)).verdict is Verdict.FIXED
    running = _one(tmp_path)
    row = engine(running.hypervisor, tmp_path).run(waits, subject(running))
    assert "depends on fstrim-timer (not-assessable" in row.reason


def test_a_planned_fix_counts_for_what_waits_for_it(tmp_path: Path) -> None:
    guest = _one(tmp_path)
    waits = _requirement(_titled("good"), _check, "disk-discard")
    plan = engine(guest.hypervisor, tmp_path, "plan")
    assert "depends on disk-discard" in plan.run(waits, subject(guest)).reason
    walk(plan, guest, "disk-discard")
    assert plan.run(waits, subject(guest)).changes


def test_a_row_of_this_run_is_not_judged_anew_for_those_that_wait(tmp_path: Path) -> None:
    guest = _one(tmp_path, disk_xml(driver="discard='unmap'"))
    one = engine(guest.hypervisor, tmp_path)
    one.result(requirement("disk-discard"), subject(guest, "vda")).take(Judgement(Verdict.ERROR, "could not; look"))
    waits = _requirement(_titled("good"), _check, "disk-discard")
    assert one.run(waits, subject(guest)).reason.endswith("depends on disk-discard (error: could not)")


def test_the_plan_of_a_hypervisor_has_no_definition(tmp_path: Path) -> None:
    guest = _one(tmp_path)

    def check(hypervisor: Node) -> str:
        assert hypervisor is None, "it is there"
        return ""

    def fixer(hypervisor: Node) -> list[Change]:
        del hypervisor
        return [CommandChange("host", "id")]

    asked = Requirement("host", "The host is", "inside", check, fixer, (), "")
    row = engine(guest.hypervisor, tmp_path, "plan").run(asked, Subject(guest.hypervisor))
    assert [change.diff for change in row.changes] == ["id"]


# --boot-stopped -------------------------------------------------------------------------------


@pytest.fixture
def off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InhabitedGuest:
    """A guest that is off and can be started to be looked into."""
    monkeypatch.setattr(boot_stopped, "_PAUSE", 0)
    monkeypatch.setattr(power, "_PAUSE", 0)
    channel = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
    guest = inhabited(tmp_path, Inside(), disk_xml(), channel, running=False)
    guest.answers |= {"guest-ping": dict, "guest-shutdown": guest.domain.destroy}
    guest.within.commands["systemctl is-system-running"] = lambda _: 0
    return guest


def _booting(guest: Guest, folder: Path) -> Engine:
    one = engine(guest.hypervisor, folder, "audit")
    one.boot_stopped = True
    return one


def test_a_guest_is_started_once_and_shut_down_once(off: InhabitedGuest, tmp_path: Path) -> None:
    one = _booting(off, tmp_path)
    one.leave(off)
    one.visit(off)
    one.visit(off)
    assert off.domain.isActive()
    access = one.run(requirement("guest-access"), subject(off))
    one.leave_all()
    assert not off.domain.isActive()
    assert [event for event, _ in _lines(one.journal.path)] == ["intent", "undone"]
    assert "--boot-stopped" in access.evidence
    assert access.evidence.endswith("shut down again")
    one.leave_all()
    assert len(_lines(one.journal.path)) == 2


def test_nothing_is_started_without_the_option_or_against_a_reason(off: InhabitedGuest, tmp_path: Path) -> None:
    engine(off.hypervisor, tmp_path, "audit").visit(off)
    assert not off.domain.isActive()
    one = _booting(off, tmp_path)
    off.unstarted = "of before"
    one.visit(off)
    off.unstarted = ""
    off.left_off = "a run left it off"
    one.visit(off)
    assert off.unstarted == "a run left it off"
    off.unstarted, off.left_off = "", None
    one.stopped = "no room for the journal"
    one.visit(off)
    assert "no room for the journal" in off.unstarted
    assert not off.domain.isActive()
    assert not one.journal.path.exists()


def test_a_guest_that_does_not_start_is_told_and_not_shut_down(
    off: InhabitedGuest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_change: object, _guest: object) -> None:
        raise ChangeFailed("one: no memory")

    monkeypatch.setattr(boot_stopped.Boot, "apply", fail)
    one = _booting(off, tmp_path)
    one.visit(off)
    assert off.unstarted == "one: no memory"
    assert _lines(one.journal.path)[-1] == ("failed", "one: no memory")
    one.leave(off)
    assert len(_lines(one.journal.path)) == 2


def test_a_guest_that_cannot_be_shut_down_again_is_an_error(
    off: InhabitedGuest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = _booting(off, tmp_path)
    one.visit(off)
    access = one.run(requirement("guest-access"), subject(off))
    other = one.run(requirement("fstab-uuid"), subject(off))

    def fail(_change: object, _guest: object, _outcome: object) -> str:
        raise ProbeError("one: it\x1b does not go")

    monkeypatch.setattr(boot_stopped.Boot, "undo", fail)
    one.leave(off)
    assert access.verdict is Verdict.ERROR
    assert access.reason.endswith("one: it\\x1b does not go")
    assert other.verdict is Verdict.COMPLIANT
    assert _lines(one.journal.path)[-1] == ("failed", "one: it\\x1b does not go")


@pytest.mark.parametrize(
    ("slug", "verdict", "failed", "is_told"),
    [
        ("guest-access", Verdict.COMPLIANT, "", "evidence"),
        ("guest-access", Verdict.NONCOMPLIANT, "", "reason"),
        ("live-definition", Verdict.PENDING, "", "reason"),
        ("live-definition", Verdict.PENDING, "it stays", ""),
        ("live-definition", Verdict.COMPLIANT, "", ""),
        ("disk-bus", Verdict.PENDING, "", ""),
    ],
)
def test_the_start_is_told_in_the_rows_that_it_concerns(slug: str, verdict: Verdict, failed: str, is_told: str) -> None:
    row = Result(slug, "title", "kvm1", "one", None, None, verdict, "why", "seen")
    _report_start(row, "the note", failed)
    assert row.verdict is verdict
    assert ("the note" in row.reason, "the note" in row.evidence) == (is_told == "reason", is_told == "evidence")
