"""What the state of a guest forbids: on libvirt's test driver, and what only a busy QEMU says, as values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libvirt
import pytest

from reclaim.base.verdict import Verdict
from reclaim.changes.definition_change import DefinitionChange, changed_definition
from reclaim.changes.power import PowerCycle, booted_definition
from reclaim.changes.preconditions import manager, why_not_applied
from reclaim.definition.machine_type import OfferedMachine
from reclaim.engine import journal, undo
from tests.support import definition_of, disk_xml, domain_xml, engine, hypervisor_of, opened, requirement, subject

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.handles.guest import Guest

OVIRT = (
    "<ovirt-tune:qos xmlns:ovirt-tune='http://ovirt.org/vm/tune/1.0'/>"
    "<ovirt-vm:vm xmlns:ovirt-vm='http://ovirt.org/vm/1.0'><ovirt-vm:clusterVersion>4.7</ovirt-vm:clusterVersion>"
    "</ovirt-vm:vm>"
)
NOVA = (
    "<nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'><nova:name>web</nova:name></nova:instance>"
)
KUBEVIRT = "<kubevirt xmlns='http://kubevirt.io'><uid>1</uid></kubevirt>"
NEBULA = "<one:vm xmlns:one='http://opennebula.org/xmlns/libvirt/1.0'><one:name>web</one:name></one:vm>"
PROXMOX = "<import:vm xmlns:import='https://example.org/proxmox-import'><import:vmid>100</import:vmid></import:vm>"
OSINFO = (
    "<libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'>"
    "<libosinfo:os id='http://debian.org/debian/12'/></libosinfo:libosinfo>"
)


def discard(guest: Guest) -> DefinitionChange:
    """A change of nothing but a driver's attribute."""
    edit = guest.persistent.edit()
    edit.driver(edit.disk("vda")).set("discard", "unmap")
    return changed_definition(edit)


def cycle(guest: Guest) -> PowerCycle:
    return PowerCycle(guest.name, booted_definition(guest), None)


def alone(tmp_path: Path, *devices: str, **more: Any) -> Guest:
    return opened(tmp_path, domain_xml(*(devices or (disk_xml(),)), **more)).guests[0]


# Managed by another system


@pytest.mark.parametrize(
    ("metadata", "system"),
    [
        pytest.param(OVIRT, "oVirt", id="oVirt"),
        pytest.param(NOVA, "OpenStack", id="OpenStack"),
        pytest.param(KUBEVIRT, "KubeVirt", id="KubeVirt"),
        pytest.param(NEBULA, "OpenNebula", id="OpenNebula"),
        pytest.param(PROXMOX, "Proxmox VE", id="Proxmox"),
        pytest.param(f"<!-- by hand -->{OSINFO}{NOVA}", "OpenStack", id="beside-others"),
    ],
)
def test_what_another_system_writes_anew_is_left_to_it(tmp_path: Path, metadata: str, system: str) -> None:
    guest = alone(tmp_path, metadata=metadata)
    before = definition_of(guest).xml
    result = engine(guest.hypervisor, tmp_path).run(requirement("disk-discard"), subject(guest, "vda"))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert f"withheld: {system} manages it" in result.reason
    assert definition_of(guest).xml == before
    assert system in (why_not_applied(guest, cycle(guest)) or "")


@pytest.mark.parametrize("metadata", ["", OSINFO, "<!-- http://ovirt.org/vm/1.0 -->"], ids=["none", "osinfo", "words"])
def test_metadata_of_those_who_only_take_notes_is_no_obstacle(tmp_path: Path, metadata: str) -> None:
    guest = alone(tmp_path, metadata=metadata)
    assert manager(guest.persistent) is None
    result = engine(guest.hypervisor, tmp_path).run(requirement("disk-discard"), subject(guest, "vda"))
    assert result.verdict is Verdict.FIXED


def test_a_plan_says_what_is_withheld_and_plans_no_change(tmp_path: Path) -> None:
    guest = alone(tmp_path, metadata=NOVA)
    result = engine(guest.hypervisor, tmp_path, "plan").run(requirement("disk-discard"), subject(guest, "vda"))
    assert "withheld: OpenStack manages it" in result.reason
    assert result.changes == []


def test_the_tpm_stays_in_the_definition(tmp_path: Path) -> None:
    tpm = "<tpm model='tpm-crb'><backend type='emulator' version='2.0' persistent_state='yes'/></tpm>"
    guest = alone(tmp_path, disk_xml(), tpm)
    result = engine(guest.hypervisor, tmp_path).run(requirement("disk-discard"), subject(guest, "vda"))
    assert result.verdict is Verdict.FIXED
    element = definition_of(guest).root.find("devices/tpm")
    assert element is not None
    assert element.get("model") == "tpm-crb"


# Jobs, as libvirt tells of them


class Busy:
    """The domain, and a job on it."""

    def __init__(
        self, domain: libvirt.virDomain, stats: dict[str, int], block: dict[str, int], state: list[int]
    ) -> None:
        self._domain, self._stats, self._block, self._state = domain, stats, block, state

    def __getattr__(self, name: str) -> Any:
        return getattr(self._domain, name)

    def jobStats(self) -> dict[str, int]:  # noqa: N802
        return self._stats

    def blockJobInfo(self, _disk: str, _flags: int) -> dict[str, int]:  # noqa: N802
        return self._block

    def state(self) -> list[int]:
        return self._state or list(self._domain.state())


def _job(operation: int) -> dict[str, int]:
    return {"type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED, "operation": operation}


@pytest.mark.parametrize(
    ("stats", "block", "state", "words"),
    [
        pytest.param(_job(libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT), {}, [], "migrated away", id="migration"),
        pytest.param(
            _job(libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN), {}, [], "migrated to this host", id="incoming"
        ),
        pytest.param(_job(libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP), {}, [], "memory is being dumped", id="dump"),
        pytest.param(
            _job(libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT), {}, [], "a snapshot is being made", id="snapshot"
        ),
        pytest.param(_job(4711), {}, [], "a job is running", id="a-job-to-come"),
        pytest.param({"type": 0}, {"type": 1}, [], "a block pull of disk vda", id="pull"),
        pytest.param({"type": 0}, {"type": 3}, [], "a block commit of disk vda", id="commit"),
        pytest.param({"type": 0}, {"type": 99}, [], "a block job of disk vda", id="a-block-job-to-come"),
        pytest.param(
            {"type": 0},
            {},
            [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION],
            "it is being migrated",
            id="paused-for-migration",
        ),
        pytest.param(
            {"type": 0},
            {},
            [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY],
            "it is being migrated",
            id="post-copy",
        ),
        pytest.param({"type": 0}, {}, [], None, id="nothing"),
    ],
)
def test_a_job_forbids_both(
    tmp_path: Path, stats: dict[str, int], block: dict[str, int], state: list[int], words: str | None
) -> None:
    guest = alone(tmp_path)
    changes = (discard(guest), cycle(guest))
    guest.domain = Busy(guest.domain, stats, block, state)
    for change in changes:
        reason = why_not_applied(guest, change)
        assert reason is None if words is None else words in (reason or "")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ([libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER], "it is paused, and"),
        ([libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR], "it is paused after an I/O error"),
        ([libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_CRASHED_PANICKED], "it has crashed"),
        ([libvirt.VIR_DOMAIN_PMSUSPENDED, 0], "it is suspended"),
        ([libvirt.VIR_DOMAIN_SHUTDOWN, 0], "it is shutting down already"),
    ],
    ids=["paused", "io-error", "crashed", "asleep", "shutting-down"],
)
def test_what_cannot_shut_down_is_not_power_cycled_and_may_be_redefined(
    tmp_path: Path, state: list[int], words: str
) -> None:
    guest = alone(tmp_path)
    power, define = cycle(guest), discard(guest)
    guest.domain = Busy(guest.domain, {"type": 0}, {}, state)
    assert words in (why_not_applied(guest, power) or "")
    assert why_not_applied(guest, define) is None


def test_where_libvirt_cannot_tell_nothing_is_done(tmp_path: Path) -> None:
    guest = alone(tmp_path)

    class Mute(Busy):
        def jobStats(self) -> dict[str, int]:  # noqa: N802
            return dict(self._domain.connect().lookupByName("nobody").jobStats())

    guest.domain = Mute(guest.domain, {}, {}, [])
    result = engine(guest.hypervisor, tmp_path).run(requirement("disk-discard"), subject(guest, "vda"))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "withheld: libvirt does not report the guest's state: Domain not found" in result.reason
    assert result.changes == []


# What a power cycle would take


def _defined(guest: Guest, *devices: str, **more: Any) -> None:
    guest.hypervisor.connection.defineXML(domain_xml(*devices, **more))
    guest.forget()


NIC = "<interface type='user'><mac address='52:54:00:00:00:0{}'/></interface>"


@pytest.mark.parametrize(
    ("live", "defined", "words"),
    [
        pytest.param([disk_xml(), disk_xml("vdb")], [disk_xml()], "disk vdb is attached but not defined", id="disk"),
        pytest.param(
            [disk_xml(), disk_xml("hdc", "ide", device="cdrom")],
            [disk_xml()],
            "disk hdc is attached but not defined",
            id="cdrom",
        ),
        pytest.param(
            [disk_xml()],
            [disk_xml(source="/images/other.qcow2")],
            "disk vda runs on file=/images/vda.qcow2, a start would use file=/images/other.qcow2",
            id="another-image",
        ),
        pytest.param(
            [disk_xml(), NIC.format(1), NIC.format(2)],
            [disk_xml(), NIC.format(1)],
            "interface 52:54:00:00:00:02 is attached but not defined",
            id="interface",
        ),
        pytest.param([disk_xml(inner="<transient/>")], [disk_xml(inner="<transient/>")], "transient", id="transient"),
        pytest.param([disk_xml(), NIC.format(1)], [disk_xml(), NIC.format(1)], None, id="nothing"),
    ],
)
def test_what_only_runs_is_not_lost_by_a_power_cycle(
    tmp_path: Path, live: list[str], defined: list[str], words: str | None
) -> None:
    guest = alone(tmp_path, *live)
    _defined(guest, *defined)
    reason = why_not_applied(guest, cycle(guest))
    assert reason is None if words is None else words in (reason or "")


# Snapshots, and the way back


def test_what_was_fixed_is_not_taken_back_under_a_snapshot_of_it(tmp_path: Path) -> None:
    guest = alone(tmp_path, running=False)
    fixing = engine(guest.hypervisor, tmp_path, force=True)
    assert fixing.run(requirement("scsi-controller"), subject(guest)).verdict is Verdict.FIXED
    guest.domain.snapshotCreateXML("<domainsnapshot><name>after</name></domainsnapshot>", 0)
    ((_, change),) = fixing.journal.standing(guest.uuid)
    assert "the snapshot after holds the hardware as it is, and a controller would change" in (
        why_not_applied(guest, change) or ""
    )
    said: list[str] = []
    record = journal.read(fixing.journal.path)
    assert not undo._undo(record, hypervisor_of(guest), said.append)
    assert "NOT taken back: the snapshot after holds" in said[0]
    guest.domain.snapshotLookupByName("after").delete(0)
    assert undo._undo(journal.read(fixing.journal.path), hypervisor_of(guest), said.append)


# A machine type that the guest runs on and cannot start on again


@pytest.mark.parametrize(
    ("offered", "is_withheld"),
    [
        pytest.param(["pc-q35-10.0"], True, id="gone-since-it-started"),
        pytest.param(["pc-q35-10.0", "pc-q35-7.2"], False, id="there"),
        pytest.param([], False, id="nobody-knows"),
    ],
)
def test_no_power_cycle_leaves_a_type_that_cannot_come_back(
    tmp_path: Path, offered: list[str], *, is_withheld: bool
) -> None:
    """It was defined on a newer type; if that did not boot, nothing could be started in its place."""
    xml = domain_xml(disk_xml(), machine="pc-q35-7.2")
    guest = opened(tmp_path, xml, offered=[OfferedMachine(name, deprecated=False) for name in offered]).guests[0]
    guest.hypervisor.connection.defineXML(domain_xml(disk_xml(), machine="pc-q35-10.0"))
    guest.forget()
    reason = why_not_applied(guest, cycle(guest)) or ""
    assert ("there would be no way back" in reason) is is_withheld
    assert ("this QEMU has no pc-q35-7.2 any more" in reason) is is_withheld
