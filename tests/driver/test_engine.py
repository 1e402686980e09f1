"""The engine on libvirt's test driver: judge, wait, plan, mend, refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import libvirt
import pytest

from reclaim.base.errors import NotAssessable, Pending, ProbeError, Withheld
from reclaim.base.verdict import Verdict
from reclaim.changes.change import Change
from reclaim.changes.definition_change import DefinitionChange, changed_definition
from reclaim.definition.machine_type import OfferedMachine
from reclaim.engine.engine import judge
from reclaim.engine.journal import read
from reclaim.handles.guest import Guest
from reclaim.inventory import GuestNotes, Inventory
from reclaim.requirement import Requirement
from tests.support import (
    Inside,
    definition_of,
    difference,
    disk_xml,
    domain_xml,
    drive,
    engine,
    inhabited,
    opened,
    requirement,
    scsi_xml,
    subject,
    uuid_of,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEFINITION = ("machine-type", "disk-discard", "scsi-controller", "disk-bus")
OFFERED = [OfferedMachine("pc-i440fx-7.2", deprecated=False)]


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


def test_a_waiver_is_the_users_word_and_nothing_is_looked_at(tmp_path: Path) -> None:
    inventory = Inventory(guest={"one": GuestNotes(waive={"disk-discard": "thin pool\x1b below"})})
    guest = opened(tmp_path, domain_xml(disk_xml()), inventory=inventory).guests[0]
    result = engine(guest.hypervisor, tmp_path).run(requirement("disk-discard"), subject(guest, "vda"))
    assert (result.verdict, result.reason) == (Verdict.WAIVED, "thin pool\\x1b below")
    assert result.changes == []


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
