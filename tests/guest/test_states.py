"""States on a real libvirtd and QEMU: a change is handled, or withheld with its reason."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import libvirt
import pytest

from lab import host, machines
from reclaim.base.verdict import Result, Verdict
from reclaim.changes import power
from reclaim.definition.compare import same
from reclaim.definition.domain import Definition
from reclaim.handles.guest import Guest
from tests.guest.tiny import Tiny, made, qcow2, xml_of
from tests.support import definition_of, difference, engine, requirement, subject

pytestmark = pytest.mark.guest

HARDWARE = ("machine-type", "scsi-controller", "disk-bus")
SNAPSHOT = "<domainsnapshot><name>before-upgrade</name>{}</domainsnapshot>"
DISK_ONLY = "<disks><disk name='vda' snapshot='external'/></disks>"


def mended(tmp_path: Path, guest: Guest, slug: str, disk: str | None = None, *, restart: bool = False) -> Result:
    """What `--fix --force` makes of it: nobody can look inside, and states are no matter of force."""
    guest.forget()
    fixing = engine(guest.hypervisor, tmp_path, force=True, restart=restart)
    return fixing.run(requirement(slug), subject(guest, disk))


def has_old_type(guest: Guest) -> bool:
    """Whether its machine type is too old: a new QEMU has no such type."""
    return machines.is_old(str(guest.machine))


def withheld(tmp_path: Path, guest: Guest, slug: str, words: str, disk: str | None = None, **more: bool) -> None:
    """It is refused, nothing changes, and the reason has *words*."""
    if slug == "machine-type" and not has_old_type(guest):
        return
    before = definition_of(guest).xml
    result = mended(tmp_path, guest, slug, disk, **more)
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, []), result.reason
    assert "withheld: " in result.reason
    assert words in result.reason
    assert definition_of(guest).xml == before


def fixed(tmp_path: Path, guest: Guest, slug: str, disk: str | None = None, **more: bool) -> Result:
    """It is mended, and a second run finds nothing to do."""
    result = mended(tmp_path, guest, slug, disk, **more)
    assert result.verdict is Verdict.FIXED, result.reason
    now = guest.renamed.get(disk, disk) if disk else None
    guest.renamed.clear()
    again = mended(tmp_path, guest, slug, now, **more)
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])
    return result


def test_a_managed_save_image_is_left_until_it_is_gone(tmp_path: Path) -> None:
    with made("saved") as tiny:
        tiny.domain.managedSave(0)
        guest = tiny.guest()
        withheld(tmp_path, guest, "disk-discard", "managed-save image", "vda")
        withheld(tmp_path, guest, "machine-type", "managed-save image")
        assert guest.domain.hasManagedSaveImage(0)
        guest.domain.managedSaveRemove(0)
        fixed(tmp_path, guest, "disk-discard", "vda")


@pytest.mark.parametrize("kind", ["internal", "external"])
def test_a_snapshot_holds_the_hardware_but_not_the_driver_settings(tmp_path: Path, kind: str) -> None:
    with made("snapshot") as tiny:
        tiny.file("before-upgrade")
        if kind == "internal":
            tiny.domain.snapshotCreateXML(SNAPSHOT.format(""), 0)
        else:
            tiny.domain.snapshotCreateXML(SNAPSHOT.format(DISK_ONLY), libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY)
        guest = tiny.guest()
        withheld(tmp_path, guest, "machine-type", "the snapshot before-upgrade holds the hardware")
        withheld(tmp_path, guest, "scsi-controller", "a controller would change")
        result = fixed(tmp_path, guest, "disk-discard", "vda")
        assert "reverting to the snapshot before-upgrade brings the old definition back" in result.reason
        (snapshot,) = guest.domain.listAllSnapshots(0)
        assert "discard" not in snapshot.getXMLDesc(0)
        snapshot.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
        for slug in HARDWARE if has_old_type(guest) else HARDWARE[1:]:
            fixed(tmp_path, guest, slug, "vda" if slug == "disk-bus" else None)


def _begin_backup(tiny: Tiny, incremental: str = "") -> None:
    """A backup that runs until it is aborted: nobody pulls."""
    socket = Path(f"/var/lib/libvirt/qemu/{tiny.name}.sock")
    tiny.files.append(socket)
    since = f"<incremental>{incremental}</incremental>" if incremental else ""
    target = Definition(tiny.domain.XMLDesc(0)).disks[0].target
    tiny.domain.backupBegin(
        f"<domainbackup mode='pull'>{since}<server transport='unix' socket='{socket}'/><disks>"
        f"<disk name='{target}' backup='yes' type='file'><scratch file='{tiny.file('scratch')}'/></disk>"
        f"</disks></domainbackup>",
        None,
        0,
    )


def test_a_checkpoint_knows_disks_by_their_targets(tmp_path: Path) -> None:
    """With the target's name kept the bitmap of the checkpoint serves the next incremental backup."""
    with made("checkpoint", machine="pc-i440fx-7.2") as tiny:
        tiny.domain.checkpointCreateXML("<domaincheckpoint><name>monday</name></domaincheckpoint>", 0)
        guest = tiny.guest()
        fixed(tmp_path, guest, "disk-discard", "vda")
        fixed(tmp_path, guest, "scsi-controller")
        withheld(tmp_path, guest, "disk-bus", "the checkpoint monday knows the disk by its target", "vda")
        keeping = tiny.guest(target="keep")
        fixed(tmp_path, keeping, "disk-bus", "vda")
        assert definition_of(keeping).disk("vda").bus == "scsi"
        tiny.domain.destroy()
        tiny.domain.create()
        assert Definition(tiny.domain.XMLDesc(0)).disk("vda").bus == "scsi"
        _begin_backup(tiny, "monday")
        tiny.domain.abortJob()


def test_nothing_is_defined_or_power_cycled_while_a_block_job_runs(tmp_path: Path) -> None:
    with made("copy") as tiny:
        guest = tiny.guest()
        fixed(tmp_path, guest, "disk-discard", "vda")
        tiny.domain.blockCopy(
            "vda",
            f"<disk type='file'><source file='{tiny.file('copy')}'/><driver type='qcow2'/></disk>",
            None,
            libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB,
        )
        withheld(tmp_path, guest, "machine-type", "a block copy of disk vda is running")
        withheld(tmp_path, guest, "live-definition", "a block copy of disk vda is running", restart=True)
        tiny.domain.blockJobAbort("vda", 0)
        if has_old_type(guest):
            fixed(tmp_path, guest, "machine-type")
        assert tiny.domain.isActive()


def test_nothing_is_defined_while_a_commit_is_not_finished(tmp_path: Path) -> None:
    with made("commit") as tiny:
        tiny.file("e1")
        external = (
            "<domainsnapshot><name>e1</name><disks><disk name='vda' snapshot='external'/></disks></domainsnapshot>"
        )
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
        tiny.domain.snapshotCreateXML(external, flags)
        tiny.domain.blockCommit("vda", None, None, 0, libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)
        guest = tiny.guest()
        withheld(tmp_path, guest, "disk-discard", "an active block commit of disk vda is running", "vda")
        tiny.wait(lambda: "ready='yes'" in tiny.domain.XMLDesc(0))
        tiny.domain.blockJobAbort("vda", libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
        fixed(tmp_path, guest, "disk-discard", "vda")
        assert definition_of(guest).disk("vda").path == str(tiny.image)


def test_nothing_is_defined_while_a_backup_runs(tmp_path: Path) -> None:
    with made("backup") as tiny:
        _begin_backup(tiny)
        guest = tiny.guest()
        withheld(tmp_path, guest, "disk-discard", "a backup is running", "vda")
        tiny.domain.abortJob()
        fixed(tmp_path, guest, "disk-discard", "vda")


def test_nothing_is_defined_while_it_is_being_saved(tmp_path: Path) -> None:
    """It is saved into a pipe that nobody empties."""
    with made("saving") as tiny:
        pipe = tiny.file("pipe")
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDWR)
        ended: list[str] = []

        def save() -> None:
            try:
                tiny.domain.save(str(pipe))
            except libvirt.libvirtError as exc:
                ended.append(str(exc))

        guest = tiny.guest()
        thread = threading.Thread(target=save)
        thread.start()
        try:
            tiny.wait(lambda: guest.domain.jobStats(0).get("operation") == libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE)
            withheld(tmp_path, guest, "disk-discard", "it is being saved", "vda")
        finally:
            guest.domain.abortJob()
            os.close(reader)
            thread.join(30)
        assert ended
        tiny.wait(lambda: not guest.domain.jobStats(0).get("type"))
        fixed(tmp_path, guest, "disk-discard", "vda")


def test_a_transient_guest_has_no_definition_to_change(tmp_path: Path) -> None:
    with made("transient", running=False) as tiny:
        xml = tiny.domain.XMLDesc(0)
        tiny.domain.undefine()
        host.ensure_libvirt().createXML(xml, 0)
        guest = tiny.guest()
        assert not guest.is_persistent
        withheld(tmp_path, guest, "disk-discard", "it is transient", "vda")
        assert mended(tmp_path, guest, "live-definition", restart=True).verdict is Verdict.NOT_APPLICABLE
        assert tiny.domain.isActive()


def test_a_paused_guest_is_mended_but_not_power_cycled(tmp_path: Path) -> None:
    with made("paused") as tiny:
        tiny.domain.suspend()
        guest = tiny.guest()
        fixed(tmp_path, guest, "disk-discard", "vda")
        withheld(tmp_path, guest, "live-definition", "it is paused, and a paused guest cannot shut down", restart=True)
        pending = mended(tmp_path, guest, "live-definition")
        assert pending.verdict is Verdict.PENDING
        assert "which is withheld: it is paused" in pending.reason
        assert tiny.domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED


def test_a_crashed_guest_is_mended_but_not_power_cycled(tmp_path: Path) -> None:
    with made("crashed", "<panic model='isa'/>", panics=True) as tiny:
        tiny.wait(lambda: tiny.domain.state()[0] == libvirt.VIR_DOMAIN_CRASHED)
        guest = tiny.guest()
        assert mended(tmp_path, guest, "guest-access").reason == "it has crashed"
        fixed(tmp_path, guest, "disk-discard", "vda")
        withheld(tmp_path, guest, "live-definition", "it has crashed", restart=True)
        assert tiny.domain.state()[0] == libvirt.VIR_DOMAIN_CRASHED


def test_autostart_and_nvram_survive(tmp_path: Path) -> None:
    """They are no part of the XML: only who redefines it in place keeps them."""
    with made("kept", running=False) as tiny:
        loader, nvram = tiny.file("fd"), tiny.file("nvram")
        for path in (loader, nvram):
            path.write_bytes(path.name.encode() * 100)
        firmware = f"<loader readonly='yes' type='pflash'>{loader}</loader><nvram>{nvram}</nvram>"
        host.ensure_libvirt().defineXML(xml_of(tiny, machine="pc-q35-7.2", os=firmware))
        tiny.domain.setAutostart(1)
        guest = tiny.guest()
        before = definition_of(guest)
        fixed(tmp_path, guest, "disk-discard", "vda")
        fixed(tmp_path, guest, "scsi-controller")
        assert tiny.domain.autostart() == 1
        assert nvram.read_bytes() == nvram.name.encode() * 100
        gone, _ = difference(before, definition_of(guest))
        assert [line.split()[0] for line in gone] == ["domain/devices/disk/driver"]


# Live and defined -----------------------------------------------------------------------------


def _second(tiny: Tiny, driver: str = "discard='unmap'") -> str:
    image = tiny.file("second")
    if not image.exists():
        qcow2(image)
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2' {driver}/><source file='{image}'/>"
        f"<target dev='vdb' bus='virtio'/></disk>"
    )


def test_a_disk_that_waits_for_a_start_is_attached_at_once(tmp_path: Path) -> None:
    with made("attach") as tiny:
        tiny.domain.attachDeviceFlags(_second(tiny), libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        guest = tiny.guest()
        defined, started = definition_of(guest).xml, tiny.domain.ID()
        result = fixed(tmp_path, guest, "live-definition")
        assert [change.kind for change in result.changes] == ["live-update"]
        assert "disk vdb is defined but not attached" in result.reason
        assert guest.live is not None
        assert guest.live.disk("vdb").driver["discard"] == "unmap"
        assert (tiny.domain.ID(), definition_of(guest).xml) == (started, defined)


def test_a_hot_plugged_disk_is_named_and_no_power_cycle_loses_it(tmp_path: Path) -> None:
    with made("plugged") as tiny:
        tiny.domain.attachDeviceFlags(_second(tiny, ""), libvirt.VIR_DOMAIN_AFFECT_LIVE)
        guest = tiny.guest()
        words = "disk vdb is attached but not defined, with discard absent"
        withheld(tmp_path, guest, "live-definition", words, restart=True)
        withheld(tmp_path, guest, "live-definition", "a power cycle would lose it", restart=True)
        assert tiny.domain.isActive()
        live = guest.live
        assert live is not None
        assert live.disk("vdb")


@pytest.mark.parametrize(
    ("driver", "answer"),
    [
        pytest.param(
            "discard='unmap'", "Operation not supported: cannot modify field 'discard' of the disk", id="discard"
        ),
        pytest.param("detect_zeroes='on'", "it accepts another detect_zeroes and changes nothing", id="detect_zeroes"),
    ],
)
def test_what_libvirt_does_not_change_in_a_running_disk_it_is_asked_for_once(
    tmp_path: Path, driver: str, answer: str
) -> None:
    """The table of known refusals is taken away, and libvirt's own answer is the same."""
    with made("refused") as tiny:
        host.ensure_libvirt().defineXML(xml_of(tiny, driver=driver))
        guest = tiny.guest()
        known = dict(guest.hypervisor.refused_live)
        guest.hypervisor.refused_live.clear()
        result = mended(tmp_path, guest, "live-definition")
        assert result.verdict is Verdict.PENDING
        assert f"waits for a power cycle (libvirt: {answer})" in result.reason
        assert guest.hypervisor.refused_live.items() <= known.items()
        assert result.changes == []


# Power ----------------------------------------------------------------------------------------


def test_a_guest_nobody_can_look_into_is_shut_down_and_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "_BLIND_SECONDS", 1)
    with made("cycle", machine="pc-i440fx-7.2") as tiny:
        guest = tiny.guest()
        started = tiny.domain.ID()
        fixed(tmp_path, guest, "disk-discard", "vda")
        assert fixed(tmp_path, guest, "live-definition", restart=True).changes[0].kind == "power-cycle"
        assert tiny.domain.isActive()
        assert tiny.domain.ID() != started
        assert guest.live is not None
        assert guest.live.disk("vda").driver["discard"] == "unmap"


def test_a_definition_that_does_not_start_is_rolled_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "_BLIND_SECONDS", 1)
    with made("rollback", machine="pc-i440fx-7.2") as tiny:
        guest = tiny.guest()
        ran = definition_of(guest)
        broken = ran.edit()
        broken.driver(broken.disk("vda")).set("discard", "unmap")
        loader = broken.root.find("os")
        assert loader is not None
        loader.append(loader.makeelement("kernel", {}))
        loader[-1].text = "/nonexistent/vmlinuz"
        host.ensure_libvirt().defineXML(broken.definition.xml)
        guest.history.append(ran.xml)
        result = mended(tmp_path, guest, "live-definition", restart=True)
        assert result.verdict is Verdict.NONCOMPLIANT
        assert "QEMU does not start" in result.reason
        assert "rolled back to the definition that booted, and runs again" in result.reason
        assert tiny.domain.isActive()
        assert same(definition_of(guest), ran)
