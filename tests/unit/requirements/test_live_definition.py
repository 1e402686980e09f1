"""live-definition: the check and the fixer as a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libvirt
import pytest

from reclaim.base.verdict import Verdict
from reclaim.changes import power
from reclaim.changes.power import PowerCycle, booted_definition
from tests.support import (
    Inside,
    definition_of,
    disk_xml,
    domain_xml,
    drive,
    engine,
    inhabited,
    opened,
    requirement,
    scsi_xml,
    subject,
    verdict_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.handles.guest import Guest

VDA = disk_xml("vda")


def _redefine(guest: Guest, *devices: str, machine: str = "pc-q35-7.2") -> None:
    """Another persistent definition; the running one stays."""
    guest.hypervisor.connection.defineXML(domain_xml(*devices, machine=machine))
    guest.forget()


@pytest.mark.parametrize(
    ("devices", "machine", "words"),
    [
        pytest.param([VDA], "pc-q35-8.0", "machine runs as pc-q35-7.2, is defined as pc-q35-8.0", id="machine"),
        pytest.param(
            [disk_xml(driver="discard='unmap'")],
            "pc-q35-7.2",
            "disk vda: discard runs as absent, is defined as unmap",
            id="discard",
        ),
        pytest.param(
            [disk_xml("sda", "scsi", "/images/vda.qcow2", inner=drive(0)), scsi_xml()],
            "pc-q35-7.2",
            "disk sda: bus runs as virtio, is defined as scsi; "
            "controller scsi 0 runs as absent, is defined as virtio-scsi",
            id="bus-and-controller",
        ),
        pytest.param([VDA, disk_xml("vdb")], "pc-q35-7.2", "disk vdb is defined but not attached", id="one-more"),
        pytest.param([], "pc-q35-7.2", "disk vda is attached but not defined, with discard absent", id="one-less"),
        pytest.param(
            [disk_xml(driver="detect_zeroes='unmap'")],
            "pc-q35-7.2",
            "disk vda: detect_zeroes runs as absent, is defined as unmap",
            id="detect-zeroes",
        ),
    ],
)
def test_each_setting_that_waits_for_a_cold_start_is_named(
    tmp_path: Path, devices: list[str], machine: str, words: str
) -> None:
    guest = opened(tmp_path, domain_xml(VDA)).guests[0]
    assert verdict_of(guest, "live-definition") is Verdict.COMPLIANT
    _redefine(guest, *devices, machine=machine)
    result = engine(guest.hypervisor, tmp_path, "audit").run(requirement("live-definition"), subject(guest))
    assert (result.verdict, result.reason) == (Verdict.NONCOMPLIANT, words)


def test_settings_that_no_discard_depends_on_are_no_finding(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(VDA)).guests[0]
    _redefine(guest, disk_xml(driver="cache='none'"), "<input type='tablet' bus='usb'/>")
    assert verdict_of(guest, "live-definition") is Verdict.COMPLIANT


def test_the_fixer_proposes_a_power_cycle_back_to_what_runs(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(VDA)).guests[0]
    ran = definition_of(guest).xml
    guest.history.append(ran)
    _redefine(guest, disk_xml(driver="discard='unmap'"))
    [cycle] = requirement("live-definition").fixer(guest)
    assert isinstance(cycle, PowerCycle)
    assert (cycle.guest, cycle.booted) == ("one", ran)


def test_what_booted_is_the_definition_with_the_live_settings_that_is_nearest(tmp_path: Path) -> None:
    """An old run had a definition without the interface; the channel of this one has never been booted."""
    link = "<interface type='user'><mac address='52:54:00:00:00:01'/></interface>"
    guest = opened(tmp_path, domain_xml(VDA, link)).guests[0]
    old = domain_xml(VDA)
    other = domain_xml(disk_xml(driver="detect_zeroes='on'"), link)
    booted = definition_of(guest).xml
    channel = domain_xml(
        VDA, link, "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
    )
    guest.history += [old, other, booted, channel]
    _redefine(guest, disk_xml(driver="discard='unmap'"), link)
    assert booted_definition(guest) == booted


def test_without_restart_it_stays_pending_and_the_guest_runs_on(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(), VDA)
    _redefine(guest, disk_xml(driver="discard='unmap'"))
    result = engine(guest.hypervisor, tmp_path).run(requirement("live-definition"), subject(guest))
    assert result.verdict is Verdict.PENDING
    assert "--restart" in result.reason
    assert result.changes == []
    assert guest.domain.isActive()


@pytest.mark.slow
def test_a_power_cycle_makes_the_definition_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "_PAUSE", 0)
    guest = inhabited(tmp_path, Inside(), VDA)
    guest.answers |= {"guest-ping": dict, "guest-shutdown": guest.domain.destroy}
    _redefine(guest, disk_xml(driver="discard='unmap'"))
    run = engine(guest.hypervisor, tmp_path, restart=True)
    result = run.run(requirement("live-definition"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason
    assert guest.live is not None
    assert guest.live.disk("vda").driver["discard"] == "unmap"
    again = engine(guest.hypervisor, tmp_path, restart=True).run(requirement("live-definition"), subject(guest))
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])


@pytest.mark.slow
def test_a_guest_that_does_not_come_back_as_it_was_is_rolled_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "_PAUSE", 0)
    monkeypatch.setattr(power, "_SETTLE_SECONDS", 0)
    inside = Inside()
    guest = inhabited(tmp_path, inside, VDA)
    mounts = inside.mounts

    def shut_down() -> None:
        guest.domain.destroy()
        # what it finds depends on the definition it is started with
        unmap = "discard='unmap'" in guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        inside.mounts = [] if unmap else mounts

    class Connection:
        """libvirt's, and the mounts are there again with the old definition."""

        def defineXML(self, xml: str) -> None:  # noqa: N802
            real.defineXML(xml)
            inside.mounts = mounts

        def getLibVersion(self) -> int:  # noqa: N802
            return int(real.getLibVersion())

    real = guest.hypervisor.connection
    guest.answers |= {"guest-ping": dict, "guest-shutdown": shut_down}
    discard = engine(guest.hypervisor, tmp_path, restart=True)
    before = definition_of(guest)
    assert discard.run(requirement("disk-discard"), subject(guest, "vda")).verdict is Verdict.FIXED
    guest.hypervisor.connection = Connection()
    result = discard.run(requirement("live-definition"), subject(guest))
    guest.hypervisor.connection = real
    assert "/ is not mounted" in result.reason
    assert "rolled back" in result.reason
    assert guest.domain.isActive()
    assert definition_of(guest).xml == before.xml
    row = discard.results["disk-discard", "one", "vda", None]
    assert row.verdict is Verdict.NONCOMPLIANT
    assert [change.undone for change in row.changes] == [True]
    assert discard.journal.standing(guest.uuid) == []


@pytest.mark.parametrize("running", [True, False], ids=["running", "off"])
def test_a_guest_that_is_off_has_nothing_live(tmp_path: Path, *, running: bool) -> None:
    guest = opened(tmp_path, domain_xml(VDA, running=running)).guests[0]
    _redefine(guest, disk_xml(driver="discard='unmap'"))
    assert verdict_of(guest, "live-definition") is (Verdict.NONCOMPLIANT if running else Verdict.NOT_APPLICABLE)


def test_a_transient_guest_is_all_there_is(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(VDA)).guests[0]
    guest.domain.undefine()
    guest.forget()
    assert not guest.is_persistent
    assert verdict_of(guest, "live-definition") is Verdict.NOT_APPLICABLE
