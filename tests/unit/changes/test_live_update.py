"""What is changed in a running QEMU without a power cycle. The hypervisor here does what the test driver lacks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import libvirt
import pytest

from reclaim.base.errors import ChangeFailed
from reclaim.base.verdict import Verdict
from reclaim.changes.kinds import from_json, to_json
from reclaim.changes.live_update import LiveUpdate, live_updates
from reclaim.changes.power import PowerCycle
from reclaim.definition.domain import Definition
from tests.support import disk_xml, domain_xml, engine, opened, requirement, subject

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.handles.guest import Guest

PLAIN = disk_xml()
UNMAP = disk_xml(driver="discard='unmap'")


class Obliging:
    """A domain whose hypervisor changes disks while it runs."""

    def __init__(self, domain: libvirt.virDomain) -> None:
        self._domain = domain
        self._live = Definition(domain.XMLDesc(0))
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._domain, name)

    def XMLDesc(self, flags: int) -> str:  # noqa: N802
        return str(self._domain.XMLDesc(flags)) if flags & libvirt.VIR_DOMAIN_XML_INACTIVE else self._live.xml

    def updateDeviceFlags(self, xml: str, flags: int) -> int:  # noqa: N802
        assert flags == libvirt.VIR_DOMAIN_AFFECT_LIVE
        self.asked.append("update")
        edit = self._live.edit()
        new = Definition(f"<domain><devices>{xml}</devices></domain>").all_disks[0]
        old = edit.disk(new.target)
        edit.devices.replace(old, new.element)
        self._live = edit.definition
        return 0


class Refusing(Obliging):
    """One whose hypervisor changes no disk while it runs."""

    def updateDeviceFlags(self, xml: str, flags: int) -> int:  # noqa: N802
        self.asked.append("update")
        error = libvirt.libvirtError("")
        words = "cannot modify field 'discard' of the disk"
        error.err = (libvirt.VIR_ERR_OPERATION_UNSUPPORTED, libvirt.VIR_FROM_QEMU, words, 2, None, None, None, -1, -1)
        raise error


def running(tmp_path: Path, live: str, *defined: str) -> Guest:
    guest = opened(tmp_path, domain_xml(live)).guests[0]
    guest.hypervisor.connection.defineXML(domain_xml(*defined))
    guest.forget()
    return guest


def test_what_the_hypervisor_does_to_a_running_disk_needs_no_power_cycle(tmp_path: Path) -> None:
    guest = running(tmp_path, PLAIN, UNMAP)
    guest.hypervisor.refused_live.clear()
    guest.domain = domain = Obliging(guest.domain)
    fixing = engine(guest.hypervisor, tmp_path, force=True)
    result = fixing.run(requirement("live-definition"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason
    assert [change.kind for change in result.changes] == ["live-update"]
    assert "discard" in result.changes[0].diff
    assert domain.asked == ["update"]
    again = engine(guest.hypervisor, tmp_path, force=True).run(requirement("live-definition"), subject(guest))
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])
    ((_, change),) = fixing.journal.standing(guest.uuid)
    assert from_json(json.loads(json.dumps(to_json(change)))) == change
    assert change.undo(guest, {}) == "the running disk vda is as it was"
    guest.forget()
    assert guest.live is not None
    assert "discard" not in guest.live.disk("vda").driver


def test_what_libvirt_refuses_waits_for_a_power_cycle_and_is_asked_for_once(tmp_path: Path) -> None:
    guest = running(tmp_path, PLAIN, UNMAP)
    guest.hypervisor.refused_live.clear()
    guest.domain = domain = Refusing(guest.domain)
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("live-definition"), subject(guest))
    assert result.verdict is Verdict.PENDING
    assert "waits for a power cycle (libvirt: cannot modify field 'discard' of the disk" in result.reason
    assert list(guest.hypervisor.refused_live) == ["discard"]
    assert result.changes == []
    assert live_updates(guest)[0] == []
    assert domain.asked == ["update"]


def test_what_is_known_to_be_refused_is_not_asked_for(tmp_path: Path) -> None:
    guest = running(tmp_path, PLAIN, UNMAP)
    guest.domain = domain = Obliging(guest.domain)
    [change] = requirement("live-definition").fixer(guest)
    assert isinstance(change, PowerCycle)
    assert "cannot modify field 'discard'" in change.why
    assert domain.asked == []


@pytest.mark.parametrize(
    "defined",
    [
        pytest.param([disk_xml("sda", "scsi", "/images/vda.qcow2", driver="discard='unmap'")], id="bus"),
        pytest.param([UNMAP, "<controller type='scsi' model='virtio-scsi'/>"], id="controller"),
        pytest.param([], id="one-less"),
    ],
)
def test_one_setting_that_needs_a_start_makes_it_a_power_cycle(tmp_path: Path, defined: list[str]) -> None:
    guest = running(tmp_path, PLAIN, *defined)
    guest.hypervisor.refused_live.clear()
    [change] = requirement("live-definition").fixer(guest)
    assert isinstance(change, PowerCycle)


@pytest.mark.parametrize("restart", [False, True])
def test_a_disk_that_another_guest_has_by_now_is_not_attached(tmp_path: Path, *, restart: bool) -> None:
    moved = disk_xml("vdb", source="/dev/vg/data")
    hypervisor = opened(tmp_path, domain_xml(PLAIN), domain_xml(disk_xml(source="/x"), moved, name="two"))
    guest = next(one for one in hypervisor.guests if one.name == "one")
    hypervisor.connection.defineXML(domain_xml(PLAIN, moved))
    started = guest.domain.ID()
    fixing = engine(hypervisor, tmp_path, force=True, restart=restart)
    result = fixing.run(requirement("live-definition"), subject(guest))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "withheld: disk vdb is defined and not attached, and two runs on its image" in result.reason
    assert result.changes == []
    assert guest.domain.ID() == started


def test_a_disk_that_was_attached_is_not_pulled_out_again(tmp_path: Path) -> None:
    guest = running(tmp_path, PLAIN, PLAIN)
    with pytest.raises(ChangeFailed, match="may use disk vdb by now"):
        LiveUpdate("one", "vdb", None, disk_xml("vdb")).undo(guest, {})
