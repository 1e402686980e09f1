"""udev's rules: which of them a disk loses on virtio-scsi."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reclaim.base.verdict import Verdict
from reclaim.inside.boot.udev import TooManyRulesError, changes
from tests.support import Inside, block, engine, inhabited, part, requirement, subject, verdict_of

if TYPE_CHECKING:
    from pathlib import Path

OS = block("vda", part("vda1", uuid="aaaa-1", fstype="ext4", partuuid="p-1"), serial="os-1")
BARE = block("vdc")  # it has no serial number, and the others have
DATA = block("vdb", part("vdb1", fstype="oracleasm", partuuid="p-2"), serial="data-1")
LINKS = {"/dev/disk/by-id/virtio-data-1": "../../vdb", "/dev/disk/by-path/pci-0000:00:06.0": "../../vdb"}
SYSFS = {
    "vda": "/sys/devices/pci0000:00/0000:00:05.0/virtio2",
    "vdb": "/sys/devices/pci0000:00/0000:00:06.0/virtio3",
    "sda": "/sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0",
    "sdb": "/sys/devices/pci0000:00/0000:00:07.0/virtio4/host1/target1:0:0/1:0:0:0",
}


def _inside(*rules: str, devices: tuple[dict[str, object], ...] = (OS, DATA, BARE)) -> Inside:
    named = "".join(f"/etc/udev/rules.d/70-data.rules:{rule}\n" for rule in rules)
    return Inside(named=named, devices=[*devices], links=LINKS, sysfs=SYSFS)


#: rules that give a disk something, and what in them is found; None: the disk keeps it
RULES = [
    ('KERNEL=="vdb1", OWNER="db"', 'KERNEL=="vdb1"'),
    ('KERNEL=="vdb1", GROUP="dba", MODE="0660"', 'KERNEL=="vdb1"'),
    ('KERNEL=="vdb", RUN+="/usr/local/bin/start %k"', 'KERNEL=="vdb"'),
    ('KERNEL=="vd[b-z]", TAG+="systemd", ENV{SYSTEMD_WANTS}="db.service"', 'KERNEL=="vd[b-z]"'),
    ('KERNEL=="vdb1", NAME="data"', 'KERNEL=="vdb1"'),
    ('KERNEL=="vdb1" , SYMLINK += "data"', 'KERNEL=="vdb1"'),
    ('KERNEL=="vdz1", OWNER="db"', 'KERNEL=="vdz1"'),  # a disk that is not there now
    ('KERNEL=="[vs]db1", OWNER="db"', 'KERNEL=="[vs]db1"'),  # which letter it gets is not known
    ('KERNEL!="sd*", OWNER="db"', 'KERNEL!="sd*"'),
    ('SUBSYSTEM=="block", ATTRS{serial}=="data-1", OWNER="db"', 'ATTRS{serial}=="data-1"'),
    ('ENV{ID_SERIAL}=="data-1", SYMLINK+="data"', 'ENV{ID_SERIAL}=="data-1"'),
    ('ENV{ID_PATH}=="pci-0000:00:06.0", OWNER="db"', 'ENV{ID_PATH}=="pci-0000:00:06.0"'),
    ('DEVPATH=="*/virtio3/block/*", GROUP="db"', 'DEVPATH=="*/virtio3/block/*"'),
    ('DRIVERS=="virtio_blk", GROUP="db"', 'DRIVERS=="virtio_blk"'),
    ('KERNELS=="0000:00:06.0", GROUP="db"', 'KERNELS=="0000:00:06.0"'),
    ('SYMLINK=="disk/by-id/virtio-data-1", GROUP="db"', 'SYMLINK=="disk/by-id/virtio-data-1"'),
    ('PROGRAM=="/sbin/which %k", RESULT=="db", OWNER="db"', 'PROGRAM=="/sbin/which %k"'),
    ('SUBSYSTEMS!="scsi", OWNER="db"', 'SUBSYSTEMS!="scsi"'),
    ('KERNEL=="vdb", OPTIONS+="ignore_device"', 'KERNEL=="vdb"'),
    ('ACTION=="remove", KERNEL=="vdb", RUN+="/usr/local/bin/stop"', 'KERNEL=="vdb"'),
    ('ACTION=="offline|unbind", KERNEL=="vdb", RUN+="/usr/local/bin/stop"', 'KERNEL=="vdb"'),
    ('ACTION!="remove", KERNEL=="vdb", OWNER="db"', 'KERNEL=="vdb"'),
    ('ACTION=="remove", ENV{ID_FS_UUID}=="aaaa-1", RUN+="/usr/local/bin/stop"', None),
    ('ACTION=="remove", KERNEL=="loop*", RUN+="/usr/local/bin/stop"', None),
    ('KERNEL=="vd*|sd*", OWNER="db"', None),
    ('KERNEL=="[vs]d?1", OWNER="db"', None),
    ('KERNEL=="?d*", OWNER="db"', None),
    ('SUBSYSTEMS=="virtio", GROUP="db"', None),
    ('SUBSYSTEM=="block", ENV{ID_FS_UUID}=="aaaa-1", OWNER="db"', None),
    ('ENV{ID_PART_ENTRY_UUID}=="p-2", OWNER="db"', None),
    ('ENV{ID_SERIAL}=="*data-1", OWNER="db"', None),
    ('ENV{ID_SERIAL}=="*data*", OWNER="db"', None),
    ('ENV{ID_SERIAL}=="?*", SYMLINK+="mine/$env{ID_SERIAL}"', None),
    ('ATTRS{serial}=="another", OWNER="db"', None),
    ('SUBSYSTEM=="net", KERNEL=="vd*", NAME="x"', None),
    ('KERNEL=="vda", ENV{ID_FS_TYPE}=="xfs", OWNER="db"', 'KERNEL=="vda"'),  # of the disk it is not known
    ('KERNEL=="vda1", ENV{ID_FS_TYPE}=="xfs", OWNER="db"', None),
    ('KERNEL=="sd?1", PROGRAM=="/lib/udev/scsi_id -g /dev/$parent", RESULT=="0QEMU", OWNER="db"', None),
    ('DEVPATH=="*/block/*", GROUP="db"', None),
    ('TEST=="/etc/marker", SUBSYSTEM=="block", GROUP="db"', None),
    ('KERNEL=="loop*", OWNER="db"', None),
    ('KERNEL=="vdb", ENV{DEVTYPE}=="partition", OWNER="db"', None),
]


@pytest.mark.parametrize(("rule", "found"), RULES)
def test_a_rule_that_a_disk_loses_is_named_and_nothing_is_changed(tmp_path: Path, rule: str, found: str | None) -> None:
    inside = _inside(rule)
    before = dict(inside.files)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert result.changes == []
    assert (inside.files, inside.ran) == (before, [])
    if found is None:
        assert result.verdict is Verdict.COMPLIANT, result.reason
        return
    assert result.verdict is Verdict.NONCOMPLIANT
    finding, _, withheld = result.reason.partition("; withheld: ")
    assert finding.startswith(f"/etc/udev/rules.d/70-data.rules: {found}")
    assert "match ENV{ID_FS_UUID}, ENV{ID_PART_ENTRY_UUID} or ENV{ID_PART_TABLE_UUID} instead" in withheld
    inside.named = '/etc/udev/rules.d/70-data.rules:ENV{ID_PART_ENTRY_UUID}=="p-2", OWNER="db"\n'
    guest.forget()
    assert verdict_of(guest, "boot-names") is Verdict.COMPLIANT


@pytest.mark.parametrize(
    "rule",
    [
        'KERNEL=="vd[a-z]", ATTR{queue/scheduler}="none"',
        'ACTION=="add|change", KERNEL=="vdb", ATTR{bdi/read_ahead_kb}="4096", ATTR{queue/rotational}="0"',
        'KERNEL=="vda", RUN+="/bin/sh -c \'echo none >/sys/block/%k/queue/scheduler\'"',
        'KERNEL=="vda", RUN+="/sbin/blockdev --setra 4096 /dev/%k"',
        'ENV{ID_SERIAL}=="data-1", ATTR{device/timeout}="180"',
        'KERNEL=="sd?1", RUN+="/usr/local/bin/automount %k"',  # it comes to the disk
    ],
)
def test_a_rule_that_makes_a_disk_faster_or_comes_to_it_is_told_and_keeps_nobody(tmp_path: Path, rule: str) -> None:
    guest = inhabited(tmp_path, _inside(rule))
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert result.verdict is Verdict.COMPLIANT
    assert "to be checked after a change: /etc/udev/rules.d/70-data.rules: " in result.evidence


@pytest.mark.parametrize(
    ("rules", "lost"),
    [
        pytest.param(
            ['KERNEL!="vd*", GOTO="end"', 'OWNER="db"', 'LABEL="end"', 'MODE="0660"'], ['OWNER="db"'], id="passed-over"
        ),
        pytest.param(['KERNEL=="vd*", GOTO="end"', 'OWNER="db"', 'LABEL="end"'], [], id="it-comes"),
        pytest.param(
            ['SUBSYSTEM!="block", GOTO="end"', 'KERNEL=="sd*", MODE="0660"', 'LABEL="end"'], [], id="not-of-its-bus"
        ),
        pytest.param(
            ['KERNEL!="vd*|sd*", GOTO="end"', 'ENV{ID_FS_UUID}=="aaaa-1", OWNER="db"', 'LABEL="end"'], [], id="of-both"
        ),
        pytest.param(
            ['SUBSYSTEM!="block", GOTO="end"', 'KERNEL=="vdb1", OWNER="db"', 'LABEL="end"', 'KERNEL=="vdb", MODE="0"'],
            ['KERNEL=="vdb1"', 'KERNEL=="vdb"'],
            id="within-and-behind",
        ),
        pytest.param(
            ['KERNEL=="vda*", GOTO="a"', 'KERNEL=="vdb*", GOTO="b"', 'LABEL="a"', 'OWNER="x"', 'LABEL="b"', 'MODE="0"'],
            [],
            id="two-ways",
        ),
    ],
)
def test_rules_that_jump_are_followed(rules: list[str], lost: list[str]) -> None:
    facts = _inside().facts()
    found = changes(facts, [("a.rules", rule) for rule in rules])
    assert [one.names[0] for one in found if one.is_loss] == lost


@pytest.mark.parametrize(
    ("rule", "is_lost"),
    [
        pytest.param('ENV{ID_SERIAL}=="0QEMU_QEMU_HARDDISK_x", OWNER="db"', False, id="virtio-scsi-serial"),
        pytest.param(
            'PROGRAM=="/lib/udev/scsi_id -d /dev/%k", RESULT=="0QEMU", OWNER="db"', False, id="virtio-scsi-program"
        ),
        pytest.param('KERNEL=="sd?", OWNER="db"', False, id="any-letter"),
        pytest.param('KERNEL=="sdb", OWNER="db"', True, id="one-letter"),
    ],
)
def test_a_disk_that_is_on_virtio_scsi_loses_nothing_but_its_letter(*, rule: str, is_lost: bool) -> None:
    facts = _inside(devices=(block("sdb"),)).facts()
    assert any(one.is_loss for one in changes(facts, [("a.rules", rule)])) is is_lost


@pytest.mark.parametrize(
    ("rule", "is_lost"),
    [
        pytest.param('SUBSYSTEMS=="scsi", ENV{ID_MODEL}=="Other*", OWNER="db"', True, id="not-known-of-ata"),
        pytest.param(
            'KERNEL=="sd?", PROGRAM=="/lib/udev/scsi_id -d /dev/%k", RESULT=="1ATA", OWNER="db"', True, id="scsi_id"
        ),
        pytest.param('KERNELS=="ata1", OWNER="db"', True, id="the-port"),
        pytest.param('KERNEL=="sd?", OWNER="db"', False, id="any-letter"),
        pytest.param('SUBSYSTEMS=="scsi", OWNER="db"', False, id="scsi-on-both"),
    ],
)
def test_a_disk_of_sata_loses_what_was_told_by_its_identity(*, rule: str, is_lost: bool) -> None:
    facts = _inside(devices=(block("sda"),)).facts()
    assert any(one.is_loss for one in changes(facts, [("a.rules", rule)])) is is_lost


@pytest.mark.slow
def test_more_rules_than_are_evaluated_are_no_pass(tmp_path: Path) -> None:
    rules = ['KERNEL=="loop0", OWNER="x"'] * 20_000
    inside = _inside(*rules[:3000], devices=tuple(block(f"vd{letter}") for letter in "abcdefghijklmnopqrstuvwxyz"))
    with pytest.raises(TooManyRulesError):
        changes(inside.facts(), [("a.rules", rule) for rule in rules])
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "more rules and disks than reclaim evaluates" in result.reason


@pytest.mark.slow
@pytest.mark.parametrize("text", ["A" * 200_000, 'A{"' * 60_000, 'KERNEL=="' * 20_000, "KERNEL " * 30_000 + "=="])
def test_what_is_no_rule_is_passed_over(text: str) -> None:
    changes(_inside().facts(), [("a.rules", text)])
