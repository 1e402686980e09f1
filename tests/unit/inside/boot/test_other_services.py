"""What runs beside the boot and names a disk: withheld where something would lose it, else told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reclaim.base.verdict import Verdict
from tests.support import Inside, block, engine, inhabited, mounted, part, requirement, subject, verdict_of

if TYPE_CHECKING:
    from pathlib import Path

DEVICES = [
    block("vda", part("vda1", uuid="aaaa-1", fstype="ext4"), part("vda2", fstype="swap")),
    block("vdb", part("vdb1", partuuid="p-b")),
    block("vdc"),
]
UNIT = "/etc/systemd/system/db.service"


def _inside(*lines: tuple[str, str], **more: object) -> Inside:
    named = "".join(f"{path}:{line}\n" for path, line in lines)
    return Inside(**{"named": named, "devices": DEVICES, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "line", "found"),
    [
        pytest.param("/etc/drbd.d/r0.res", "  disk /dev/vdb1;", "/dev/vdb1", id="drbd"),
        pytest.param("/etc/drbd.d/r0.res", "meta-disk /dev/vdc [0];", "/dev/vdc", id="drbd-meta-disk"),
        pytest.param(
            "/etc/drbd.conf",
            "volume 0 { device minor 1; disk /dev/disk/by-path/pci-0000:00:06.0; }",
            "/dev/disk/by-path/pci-0000:00:06.0",
            id="drbd-by-path",
        ),
        pytest.param("/etc/tgt/targets.conf", "backing-store /dev/vdb", "/dev/vdb", id="tgt"),
        pytest.param("/etc/tgt/conf.d/a.conf", "  direct-store /dev/vdb", "/dev/vdb", id="tgt-direct"),
        pytest.param("/etc/target/saveconfig.json", '"dev": "/dev/vdb",', "/dev/vdb", id="lio"),
        pytest.param("/etc/trafficserver/storage.config", "/dev/vdb volume=1", "/dev/vdb", id="traffic-server"),
        pytest.param("/etc/ceph/ceph.conf", "bluestore block path = /dev/vdb", "/dev/vdb", id="ceph"),
        pytest.param("/var/lib/ceph/osd/ceph-0/block", "/dev/vdb", "/dev/vdb", id="ceph-link"),
        pytest.param("/etc/scst.conf", "filename /dev/vdb", "/dev/vdb", id="scst"),
        pytest.param("/etc/nbd-server/config", "exportname = /dev/vdb", "/dev/vdb", id="nbd"),
        pytest.param("/etc/vdoconf.yml", "device: /dev/disk/by-id/virtio-x", "/dev/disk/by-id/virtio-x", id="vdo"),
        pytest.param(
            "/etc/sysconfig/oracleasm", 'ORACLEASM_SCANEXCLUDE="loop sd"', 'SCANEXCLUDE="loop sd', id="asmlib"
        ),
        pytest.param("/etc/sysconfig/rawdevices", "/dev/raw/raw1 /dev/vdb1", "/dev/vdb1", id="raw"),
        pytest.param("/etc/aerospike/aerospike.conf", "device /dev/vdb", "/dev/vdb", id="aerospike"),
        pytest.param("/etc/mysql/conf.d/a.cnf", "innodb_data_file_path=vdb1:10Gnewraw", "/dev/vdb1", id="innodb"),
        pytest.param(
            "/etc/my.cnf", "innodb_data_file_path = /dev/vdb1:10Graw;/dev/vdc:5Graw", "/dev/vdb1", id="innodb-paths"
        ),
        pytest.param("/etc/tmpfiles.d/a.conf", "z /dev/vdb1 0660 root dba", "/dev/vdb1", id="tmpfiles"),
        pytest.param("/etc/sysconfig/docker-storage-setup", "DEVS='vdb'", "/dev/vdb", id="docker-storage-setup"),
        pytest.param("/etc/default/kexec", 'APPEND="root=/dev/vda1 ro"', "/dev/vda1", id="kexec"),
        pytest.param("/etc/default/sbd", 'SBD_DEVICE="/dev/vdc"', "/dev/vdc", id="sbd"),
        pytest.param(
            "/var/lib/pacemaker/cib/cib.xml", '<nvpair name="device" value="/dev/vdb1"/>', "/dev/vdb1", id="cib"
        ),
        pytest.param("/etc/integritytab", "i /dev/vdb1 - -", "/dev/vdb1", id="integritytab"),
        pytest.param("/etc/crontab", "@reboot root mount /dev/vdb1 /data", "/dev/vdb1", id="cron-mounts"),
        pytest.param(
            "/etc/initramfs-tools/scripts/local-top/keys",
            "cryptsetup open /dev/vda2 keys",
            "/dev/vda2",
            id="a-script-of-the-initramfs",
        ),
        pytest.param("/etc/kernel/postinst.d/zz-boot", "grub-install /dev/vda", "/dev/vda", id="a-hook-of-new-kernels"),
        pytest.param("/etc/rc.local", "chown db /dev/vdb1", "/dev/vdb1", id="rc.local-gives-an-owner"),
        pytest.param("/etc/rc.local", "blkid /dev/vdb1 && mount /dev/vdb1 /x", "/dev/vdb1", id="looks-then-mounts"),
        pytest.param(UNIT, "ExecStart=/usr/bin/db --raw /dev/vdb", "/dev/vdb", id="a-service-is-started-on-it"),
        pytest.param(UNIT, "DeviceAllow=/dev/vdb rw", "/dev/vdb", id="a-service-is-let-to-it"),
        pytest.param(UNIT, "ConditionPathExists=/dev/vdb1", "/dev/vdb1", id="a-condition"),
        pytest.param(
            UNIT, r"After=dev-disk-by\x2did-virtio\x2dx.device", r"dev-disk-by\x2did-virtio\x2dx.device", id="by-id"
        ),
        pytest.param("/etc/systemd/system/data.mount", "BindsTo=dev-vdb1.device", "dev-vdb1.device", id="of-a-mount"),
        pytest.param("/etc/systemd/system/dev-vdb.device.wants", "dev-vdb.device.wants", "dev-vdb.device", id="wants"),
        pytest.param("/etc/systemd/system/a.target.wants/x@vdb.service", "x@vdb.service", "vdb", id="instance"),
        pytest.param("/etc/systemd/zram-generator.conf", "writeback-device = /dev/vdb", "/dev/vdb", id="zram"),
        pytest.param(
            "/etc/appliance/store.conf", "device=/dev/vdb1", "/dev/vdb1", id="unknown-and-used-by-nothing-else"
        ),
    ],
)
def test_what_would_lose_its_disk_is_withheld_by_name(tmp_path: Path, path: str, line: str, found: str) -> None:
    inside = _inside((path, line))
    before = dict(inside.files)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    finding, _, withheld = result.reason.partition("; withheld: ")
    assert finding.startswith(f"{path}: {found}")
    assert withheld.startswith(f"{path}: ")
    assert (inside.files, inside.ran) == (before, [])
    inside.named = f"{path}:/dev/disk/by-partuuid/p-b\n"
    guest.forget()
    assert verdict_of(guest, "boot-names") is Verdict.COMPLIANT


@pytest.mark.parametrize(
    ("path", "line", "told"),
    [
        pytest.param("/etc/collectd.conf", 'Disk "vda"', "vda", id="collectd"),
        pytest.param("/etc/telegraf/telegraf.conf", 'devices = ["vda", "vdz"]', "vda", id="telegraf"),
        pytest.param("/etc/default/prometheus-node-exporter", 'ARGS="--x /dev/vda"', "/dev/vda", id="node-exporter"),
        pytest.param("/etc/default/smartmontools", 'enable_smart="/dev/vdb"', "/dev/vdb", id="smartmontools"),
        pytest.param("/etc/sysfs.d/a.conf", "block/vda/queue/scheduler = none", "vda", id="sysfsutils"),
        pytest.param("/etc/zabbix/zabbix_agentd.conf", "UserParameter=x,cat /dev/vda", "/dev/vda", id="zabbix"),
        pytest.param("/etc/cron.d/smart", "0 3 * * * root /usr/sbin/smartctl -a /dev/vda", "/dev/vda", id="cron-looks"),
        pytest.param(UNIT, "IOReadBandwidthMax=/dev/vda 10M", "/dev/vda", id="a-limit"),
        pytest.param(UNIT, "ExecStartPre=/sbin/blockdev --setra 4096 /dev/vda", "/dev/vda", id="tunes"),
        pytest.param("/etc/appliance/watch.conf", "disk=/dev/vda1", "/dev/vda1", id="unknown-and-mounted"),
        pytest.param("/etc/appliance/watch.conf", "disk=/dev/vda", "/dev/vda", id="unknown-and-a-part-is-mounted"),
        pytest.param("/etc/appliance/watch.conf", "disk=/dev/vdz", "/dev/vdz", id="unknown-and-not-there"),
    ],
)
def test_what_only_watches_or_tunes_is_told_and_keeps_nobody(tmp_path: Path, path: str, line: str, told: str) -> None:
    guest = inhabited(tmp_path, _inside((path, line)))
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert result.verdict is Verdict.COMPLIANT, result.reason
    assert result.evidence.endswith(f"to be checked after a change: {path}: {told}")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        pytest.param("/etc/drbd.d/r0.res", "# disk /dev/vdb1;", id="comment"),
        pytest.param("/etc/tgt/targets.conf", "backing-store /srv/a.img\t# not /dev/vdb", id="comment-behind"),
        pytest.param("/etc/my.cnf", ";innodb_data_file_path=/dev/vdb1:10Graw", id="comment-of-ini"),
        pytest.param("/etc/libvirt/qemu/a.xml", "<!-- <source dev='/dev/vdb'/> -->", id="comment-of-xml"),
        pytest.param("/etc/drbd.d/r0.res", "device /dev/drbd0;", id="another-device"),
        pytest.param("/etc/tgt/targets.conf", "backing-store /srv/chroot/dev/vdb", id="another-folder"),
        pytest.param("/etc/tgt/targets.conf", "backing-store /dev/disk/by-id/dm-name-vg-x", id="of-the-device-mapper"),
        pytest.param("/etc/sysconfig/oracleasm", 'ORACLEASM_SCANEXCLUDE="loop"', id="asmlib-passes-over-others"),
        pytest.param("/etc/sysconfig/oracleasm", 'ORACLEASM_SCANORDER="dm"', id="asmlib-orders"),
        pytest.param("/etc/systemd/system/data.mount", "What=/dev/vdb1", id="fstab-uuid-has-it"),
        pytest.param("/etc/default/grub", 'GRUB_CMDLINE_LINUX="x=/dev/vda"', id="read-elsewhere"),
        pytest.param("/etc/multipath.conf", "wwid 0QEMU", id="no-multipath-here"),
        pytest.param("/etc/initramfs-tools/hooks/x", "# cryptsetup open /dev/vda2", id="comment-of-a-hook"),
    ],
)
def test_what_names_no_disk_is_no_reason(tmp_path: Path, path: str, line: str) -> None:
    guest = inhabited(tmp_path, _inside((path, line)))
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert result.verdict is Verdict.COMPLIANT, result.reason
    assert "to be checked" not in result.evidence


DRBD = block("vdb", part("vdb1", block("drbd0"), fstype="drbd", partuuid="p-b"))


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        pytest.param([], Verdict.NONCOMPLIANT, id="told-nowhere"),
        pytest.param(["disk /dev/vdb1;"], Verdict.NONCOMPLIANT, id="by-its-bus"),
        pytest.param(["disk /dev/disk/by-partuuid/other;"], Verdict.NONCOMPLIANT, id="another"),
        pytest.param(["disk /dev/disk/by-partuuid/p-b;"], Verdict.COMPLIANT, id="by-partuuid"),
    ],
)
def test_how_drbd_knows_its_disk_has_to_be_known(tmp_path: Path, lines: list[str], verdict: Verdict) -> None:
    links = {"/dev/disk/by-partuuid/p-b": "../../vdb1"}
    devices = [DEVICES[0], DRBD]
    guest = inhabited(
        tmp_path, _inside(*(("/etc/drbd.d/r0.res", line) for line in lines), devices=devices, links=links)
    )
    assert verdict_of(guest, "boot-names") is verdict


@pytest.mark.parametrize(
    ("sysfs", "verdict"),
    [
        pytest.param(
            "/sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0", Verdict.NONCOMPLIANT, id="sata"
        ),
        pytest.param(
            "/sys/devices/pci0000:00/0000:00:05.0/virtio2/host0/target0:0:0/0:0:0:0",
            Verdict.COMPLIANT,
            id="virtio-scsi",
        ),
    ],
)
def test_multipath_knows_a_disk_by_its_wwid(tmp_path: Path, sysfs: str, verdict: Verdict) -> None:
    devices = [DEVICES[0], block("sda", block("mpatha", type="mpath", path="/dev/mapper/mpatha"))]
    inside = _inside(("/etc/multipath.conf", '\twwid "0QEMU"'), devices=devices, sysfs={"sda": sysfs})
    assert verdict_of(inhabited(tmp_path, inside), "boot-names") is verdict


def test_of_many_remarks_the_first_are_shown(tmp_path: Path) -> None:
    lines = [("/etc/smartd.conf", f"/dev/vd{one}") for one in "abcdefghijklmnopqrstuvwxyz"]
    guest = inhabited(tmp_path, _inside(*lines, mounts=[mounted("/", "/dev/vda1", uuid="aaaa-1")]))
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert result.evidence.endswith("/etc/smartd.conf: /dev/vdt; and 6 more")
