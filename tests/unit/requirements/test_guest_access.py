"""guest-access: the check and the fixer as a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reclaim.base.errors import AgentAbsent, AgentBlocked, ProbeError
from reclaim.base.verdict import Verdict
from reclaim.definition import pci
from tests.support import (
    InhabitedGuest,
    Inside,
    definition_of,
    difference,
    disk_xml,
    domain_xml,
    engine,
    inhabited,
    opened,
    pci_xml,
    requirement,
    subject,
    verdict_of,
    walk,
)

if TYPE_CHECKING:
    from pathlib import Path

INSIDE = ("fstab-uuid", "boot-names", "initramfs-driver", "disc-max", "fstrim-timer")
CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
OTHER = "<channel type='unix'><target type='virtio' name='com.example.0'/></channel>"
ABSENT = AgentAbsent("one: there is no guest agent channel")
BLOCKED = AgentBlocked("one: the guest agent does not allow guest-exec")


@pytest.mark.parametrize("devices", [[], [OTHER]], ids=["no-channel", "another-channel"])
def test_a_channel_is_added_and_waits_for_its_agent(tmp_path: Path, devices: list[str]) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml(), *devices)
    guest._facts = ABSENT
    before = definition_of(guest)
    guest._facts = ABSENT
    assert verdict_of(guest, "guest-access") is Verdict.NONCOMPLIANT
    [change] = requirement("guest-access").fixer(guest)
    change.apply(guest)
    gone, came = difference(before, definition_of(guest))
    assert not gone
    assert "domain/devices/channel/target name='org.qemu.guest_agent.0' type='virtio' ''" in came
    assert {line.split()[0] for line in came} <= {
        "domain/devices/channel",
        "domain/devices/channel/target",
        "domain/devices/channel/address",
        "domain/devices/controller",
    }


def test_a_channel_that_the_running_guest_has_not_yet_is_waited_for(tmp_path: Path) -> None:
    """Its agent cannot be started before: on Debian the service hangs on the channel's device."""
    guest = inhabited(tmp_path, Inside(problem=ABSENT), disk_xml())
    for changes in (1, 0):
        result = engine(guest.hypervisor, tmp_path).run(requirement("guest-access"), subject(guest))
        assert (result.verdict, len(result.changes)) == (Verdict.PENDING, changes)
        assert "is there from the guest's next power cycle; in the guest, install" in result.reason
    guest.domain.destroy()
    guest.domain.create()
    guest.forget()
    result = engine(guest.hypervisor, tmp_path).run(requirement("guest-access"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert "withheld: in the guest, install and start its agent" in result.reason


@pytest.mark.parametrize(
    ("devices", "answer", "words"),
    [
        pytest.param([CHANNEL], ABSENT, "install and start its agent", id="nothing-listens"),
        pytest.param([CHANNEL], BLOCKED, "allow guest-exec and guest-exec-status", id="blocked"),
        pytest.param([], BLOCKED, "allow guest-exec and guest-exec-status", id="blocked-whatever-is-defined"),
    ],
)
def test_what_only_the_guest_can_do_is_told(tmp_path: Path, devices: list[str], answer: ProbeError, words: str) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml(), *devices)
    before = definition_of(guest).xml
    guest._facts = answer
    result = engine(guest.hypervisor, tmp_path).run(requirement("guest-access"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert words in result.reason
    assert definition_of(guest).xml == before


def test_an_agent_that_answers_is_accepted(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml())
    run = engine(guest.hypervisor, tmp_path)
    result = run.run(requirement("guest-access"), subject(guest))
    assert result.verdict is Verdict.COMPLIANT
    assert "Debian GNU/Linux 12" in result.evidence


def test_a_probe_that_failed_is_an_error_and_starts_no_fixer(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml())
    guest._facts = ProbeError("one: the guest did not finish the facts script")
    result = engine(guest.hypervisor, tmp_path).run(requirement("guest-access"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.ERROR, [])
    assert "could not look" in result.reason


def test_a_guest_that_is_off_cannot_be_looked_into(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml(), running=False)
    assert verdict_of(guest, "guest-access") is Verdict.NOT_ASSESSABLE


def test_a_paused_guest_cannot_be_looked_into(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml())
    guest.domain.suspend()
    assert verdict_of(guest, "guest-access") is Verdict.NOT_ASSESSABLE


def test_the_test_driver_has_no_inside(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml())).guests[0]
    assert verdict_of(guest, "guest-access") is Verdict.NOT_ASSESSABLE


# What the agent tells without running anything -----------------------------------------------


#: guest-get-osinfo of AlmaLinux 9 and of Windows Server 2019 (QEMU's qapi-schema.json names the fields)
ALMA = {"id": "almalinux", "pretty-name": "AlmaLinux 9.4 (Seafoam Ocelot)", "kernel-release": "5.14.0-427.el9.x86_64"}
WINDOWS = {"id": "mswindows", "pretty-name": "Windows Server 2019 Standard", "variant": "server"}
DEBIAN = {"id": "debian", "pretty-name": "Debian GNU/Linux 12 (bookworm)"}


def _told(folder: Path, problem: ProbeError, osinfo: Any) -> InhabitedGuest:
    guest = inhabited(folder, Inside(), disk_xml(), CHANNEL)
    guest.within.problem = problem
    guest.answers["guest-get-osinfo"] = lambda: osinfo
    return guest


@pytest.mark.parametrize(
    ("osinfo", "finding", "advice"),
    [
        pytest.param(ALMA, "(AlmaLinux 9.4 (Seafoam Ocelot))", "virt_qemu_ga_read_nonsecurity_files", id="rhel-family"),
        pytest.param(DEBIAN, "(Debian GNU/Linux 12 (bookworm))", "/etc/qemu/qemu-ga.conf", id="debian"),
        pytest.param(None, "does not allow guest-exec", "/etc/qemu/qemu-ga.conf", id="it-does-not-say"),
        pytest.param({"id": 7}, "does not allow guest-exec", "/etc/qemu/qemu-ga.conf", id="gibberish"),
    ],
)
def test_a_blocked_agent_still_tells_its_system(tmp_path: Path, osinfo: Any, finding: str, advice: str) -> None:
    guest = _told(tmp_path, BLOCKED, osinfo)
    result = engine(guest.hypervisor, tmp_path).run(requirement("guest-access"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    found, _, withheld = result.reason.partition("; withheld: ")
    assert finding in found
    assert advice in withheld
    fstab = engine(guest.hypervisor, tmp_path, "audit").run(requirement("fstab-uuid"), subject(guest))
    assert fstab.verdict is Verdict.NOT_ASSESSABLE
    assert fstab.reason.endswith("(see guest-access)")


OSINFO = (
    '<libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0">'
    '<libosinfo:os id="{}"/></libosinfo:libosinfo>'
)


@pytest.mark.parametrize("from_outside", [True, False], ids=["libosinfo", "guest-get-osinfo"])
def test_windows_is_told_what_to_run_and_never_changed(tmp_path: Path, *, from_outside: bool) -> None:
    metadata = OSINFO.format("http://microsoft.com/win/2k19") if from_outside else ""
    guest = inhabited(tmp_path, Inside(), disk_xml(), metadata=metadata)
    guest.within.problem = ProbeError("one: the guest agent failed guest-exec: Failed to execute child process")
    guest.answers["guest-get-osinfo"] = lambda: WINDOWS
    results = walk(engine(guest.hypervisor, tmp_path), guest, "guest-access", *INSIDE)
    assert {one.requirement: one.verdict.value for one in results} == {
        **dict.fromkeys(("guest-access", *INSIDE), "not-assessable"),
        "fstrim-timer": "not-applicable",
    }
    assert {one.reason for one in results if one.requirement != "fstrim-timer"} == {
        "it is Windows, which reclaim neither looks into nor changes"
    }
    [told] = [one.reason for one in results if one.requirement == "fstrim-timer"]
    assert "Optimize-Volume -DriveLetter C -ReTrim -Verbose" in told
    assert guest.within.ran == []


#: guest-get-osinfo of FreeBSD 14's qemu-guest-agent, which reads /etc/os-release
FREEBSD = {"id": "freebsd", "name": "FreeBSD", "pretty-name": "FreeBSD 14.1-RELEASE", "version-id": "14.1"}


@pytest.mark.parametrize("by", ["uname", "guest-get-osinfo"])
def test_another_unix_is_recognised_and_left_alone(tmp_path: Path, by: str) -> None:
    """Its /bin/sh runs the facts script, and its disks are vtbd0 and da0."""
    guest = inhabited(tmp_path, Inside(system="FreeBSD", release="14.1-RELEASE"), disk_xml())
    if by == "guest-get-osinfo":
        guest.answers[by] = lambda: FREEBSD
        guest.within.problem = ProbeError("one: the guest did not finish the facts script")
    results = walk(engine(guest.hypervisor, tmp_path), guest, "guest-access", *INSIDE)
    assert {one.verdict.value for one in results} == {"not-assessable"}
    name = "FreeBSD" if by == "uname" else "FreeBSD 14.1-RELEASE"
    assert {one.reason for one in results} == {f"it is {name}, which reclaim neither looks into nor changes"}
    assert guest.within.ran == []


def test_another_system_of_libosinfos_is_looked_into(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml(), metadata=OSINFO.format("http://debian.org/debian/12"))
    assert verdict_of(guest, "guest-access") is Verdict.COMPLIANT


def test_an_agent_that_selinux_confines_is_told(tmp_path: Path) -> None:
    """On Fedora and RHEL guest-exec is root in virt_qemu_ga_t, which may not write below /etc."""
    guest = inhabited(tmp_path, Inside(context="system_u:system_r:virt_qemu_ga_t:s0\0"))
    result = engine(guest.hypervisor, tmp_path, "audit").run(requirement("guest-access"), subject(guest))
    assert result.verdict is Verdict.COMPLIANT
    assert "SELinux confines them (virt_qemu_ga_t)" in result.evidence


def test_on_a_full_pci_bus_the_channel_waits_unless_its_controller_is_there(tmp_path: Path) -> None:
    """libvirt adds a virtio-serial controller for the first channel, which takes a slot."""
    cards = [f"<interface type='user'>{pci_xml(slot)}</interface>" for slot in range(2, 31)]
    devices = ["<controller type='pci' index='0' model='pci-root'/>", disk_xml(), *cards]
    serial = f"<controller type='virtio-serial' index='0'>{pci_xml(31)}</controller>"
    last = f"<interface type='user'>{pci_xml(31)}</interface>"
    for number, device in enumerate((last, serial)):
        folder = tmp_path / str(number)
        folder.mkdir()
        guest = inhabited(folder, Inside(), *devices, device, machine="pc-i440fx-7.2")
        guest._facts = ABSENT
        row = engine(guest.hypervisor, folder, "plan").run(requirement("guest-access"), subject(guest))
        assert bool(row.changes) == (device == serial)
        assert (f"withheld: {pci.FULL}" in row.reason) == (device == last)
