"""fstab-uuid: the check and the fixer as a pair."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from reclaim.base.verdict import Verdict
from reclaim.changes.command import CommandChange
from reclaim.changes.file_change import FileChange
from tests.support import (
    FILES,
    Inside,
    block,
    disk_xml,
    engine,
    inhabited,
    mounted,
    part,
    requirement,
    subject,
    verdict_of,
    walk,
)

if TYPE_CHECKING:
    from pathlib import Path

DEVICES = [
    block(
        "vda",
        part("vda1", uuid="aaaa-1", fstype="ext4", partuuid="p-1"),
        part("vda5", uuid="aaaa-5", fstype="swap", partuuid="p-5"),
    ),
    block("vdb", part("vdb1", uuid="cccc", fstype="ext4", partuuid="p-b"), fstype=None),
    block("vdc", part("vdc1", uuid="cccc", fstype="ext4", partuuid="p-c")),
    block("vdd", part("vdd1", fstype="ext4")),
    block("vde", uuid="eeee", fstype="btrfs"),
    block("vdg", part("vdg1", fstype="jbd", uuid="jjjj"), part("vdg2", fstype="xfs_external_log", partuuid="p-l")),
    block("vdh", part("vdh1", uuid="cccc", fstype="ext4", label="data")),
    block(
        "vdi",
        part("vdi1", uuid="iiii", fstype="btrfs", partuuid="p-i"),
        part("vdi2", uuid="iiii", fstype="btrfs", partuuid="p-j"),
    ),
    block("bcache0", uuid="bbbb", fstype="ext4"),
    block("md0", type="raid1", uuid="mmmm", fstype="ext4"),
    block("zd0", part("zd0p1", uuid="zzzz", fstype="ext4")),
    block("vdf", part("vdf1", uuid="ABCD-1234", fstype="vfat", partuuid="p-f")),
]
LINKS = {
    "/dev/disk/by-path/pci-0000:00:07.0-part1": "../../vda1",
    "/dev/disk/by-id/virtio-serial-part1": "../../vda1",
}


def _inside(fstab: str) -> Inside:
    btrfs = "iiii\tvdi1\niiii\tvdi2\n"
    return Inside(files={**FILES, "/etc/fstab": fstab}, devices=DEVICES, links=LINKS, btrfs=btrfs)


@pytest.mark.parametrize(
    ("line", "mended"),
    [
        pytest.param("/dev/vda1 / ext4 defaults 0 1", "UUID=aaaa-1 / ext4 defaults 0 1", id="root"),
        pytest.param("/dev/vda5 none swap sw 0 0", "UUID=aaaa-5 none swap sw 0 0", id="swap"),
        pytest.param(
            "/dev/disk/by-path/pci-0000:00:07.0-part1 / ext4 defaults 0 1",
            "UUID=aaaa-1 / ext4 defaults 0 1",
            id="by-path",
        ),
        pytest.param(
            "/dev/disk/by-id/virtio-serial-part1\t/\text4\tdefaults",
            "UUID=aaaa-1\t/\text4\tdefaults",
            id="by-id-with-tabs",
        ),
        pytest.param("/dev/vdb1 /srv ext4 defaults 0 2", "PARTUUID=p-b /srv ext4 defaults 0 2", id="uuid-of-a-clone"),
        pytest.param("/dev/vdf1 /boot/efi vfat umask=77", "UUID=ABCD-1234 /boot/efi vfat umask=77", id="vfat"),
        pytest.param(
            "UUID=eeee /b btrfs device=/dev/vde,compress=zstd 0 0",
            "UUID=eeee /b btrfs device=/dev/disk/by-uuid/eeee,compress=zstd 0 0",
            id="btrfs-device-option",
        ),
        pytest.param(
            "/dev/vdi1 /b btrfs device=/dev/vdi1,device=/dev/vdi2 0 0",
            "UUID=iiii /b btrfs device=/dev/disk/by-partuuid/p-i,device=/dev/disk/by-partuuid/p-j 0 0",
            id="btrfs-with-its-source-among-its-members",
        ),
        pytest.param(
            "UUID=aaaa-1 / ext4 rw,journal_path=/dev/vdg1 0 1",
            "UUID=aaaa-1 / ext4 rw,journal_path=/dev/disk/by-uuid/jjjj 0 1",
            id="external-journal",
        ),
        pytest.param(
            "UUID=x /x xfs logdev=/dev/vdg2", "UUID=x /x xfs logdev=/dev/disk/by-partuuid/p-l", id="external-log"
        ),
        pytest.param("/dev/vdh1 /h ext4", "LABEL=data /h ext4", id="clone-with-a-label"),
        pytest.param(
            "/dev/vda1 /x ext4 nofail,x-systemd.requires=/dev/vda5,x-systemd.device-timeout=9s",
            "UUID=aaaa-1 /x ext4 nofail,x-systemd.requires=/dev/disk/by-uuid/aaaa-5,x-systemd.device-timeout=9s",
            id="x-systemd",
        ),
        pytest.param(
            "/dev/vda1 / btrfs subvol=/@,compress=zstd 0 0",
            "UUID=aaaa-1 / btrfs subvol=/@,compress=zstd 0 0",
            id="subvol",
        ),
        pytest.param("/dev/vda1 /mnt ext4 noauto,nofail 0 0", "UUID=aaaa-1 /mnt ext4 noauto,nofail 0 0", id="optional"),
        pytest.param("  /dev/vda1\t /  ext4   rw  0 1  ", "  UUID=aaaa-1\t /  ext4   rw  0 1  ", id="white-space"),
        pytest.param("/dev/vda1 /", "UUID=aaaa-1 /", id="two-fields"),
        pytest.param("/dev/vda1 /a\\040b ext4", "UUID=aaaa-1 /a\\040b ext4", id="escapes"),
    ],
)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", "\n", id="alone"),
        pytest.param("# /dev/vda1 was here\n\nproc /proc proc\n", "\n# \xe4 /dev/vda5\n", id="among-others"),
        pytest.param("LABEL=\udce4 /l ext4\n", "", id="8-bit-and-no-last-newline"),
    ],
)
def test_a_source_named_by_its_bus_is_named_by_uuid_and_no_other_byte_changes(
    tmp_path: Path, before: str, line: str, after: str, mended: str
) -> None:
    inside = _inside(before + line + after)
    guest = inhabited(tmp_path, inside)
    assert verdict_of(guest, "fstab-uuid") is Verdict.NONCOMPLIANT
    assert requirement("fstab-uuid").fixer(guest) == [
        FileChange(
            "one",
            "/etc/fstab",
            before + line + after,
            before + mended + after,
            verify="findmnt --verify --tab-file",
            devices=re.findall(r"/dev/[^\s,]+", line),
        )
    ]
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstab-uuid"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason
    assert inside.files["/etc/fstab"] == before + mended + after
    assert {path: text for path, text in inside.files.items() if path != "/etc/fstab"} == {
        path: text for path, text in FILES.items() if path != "/etc/fstab"
    }
    [again] = walk(engine(guest.hypervisor, tmp_path), guest, "fstab-uuid")
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])


@pytest.mark.parametrize(
    "fstab",
    [
        pytest.param("UUID=aaaa-1 / ext4\n", id="uuid"),
        pytest.param("PARTUUID=p-1 / ext4\n", id="partuuid"),
        pytest.param("LABEL=root / ext4\n", id="label"),
        pytest.param("/dev/mapper/vg-root / ext4\n/dev/vg/root /x ext4\n", id="lvm"),
        pytest.param("/dev/nvme0n1p1 /n ext4\n", id="nvme"),
        pytest.param("/dev/nvme0n1:/dev/nvme1n1 /n bcachefs\n", id="bcachefs-of-two"),
        pytest.param("#/dev/vda1 / ext4\n", id="comment"),
        pytest.param("tmpfs /tmp tmpfs size=1G 0 0\nserver:/x /n nfs\n", id="no-device"),
        pytest.param("/dev/vdz1 /usb ext4 noauto\n", id="optional-and-not-there"),
        pytest.param("/dev/vdz1 /usb ext4 nofail\n", id="nofail-and-not-there"),
        pytest.param("", id="empty"),
        pytest.param("/swapfile none swap sw\n", id="swap-file"),
        pytest.param('UUID="aaaa-1" / ext4\nLABEL="a b" /x ext4\nPARTLABEL=p /y ext4\n', id="quoted-tags"),
        pytest.param("/dev/disk/by-uuid/a / ext4\n/dev/disk/by-partlabel/x /y ext4\n", id="stable-links"),
        pytest.param("/dev/bcache0 /b ext4\n/dev/md0 /m ext4\n/dev/md/host:0 /n ext4\n", id="bcache-and-md"),
        pytest.param("/dev/zvol/tank/x /z ext4\n/dev/zd0p1 /y ext4\n", id="zvol"),
        pytest.param("/dev/loop0 /l squashfs\n/srv/x.img /i ext4 loop\n", id="loop"),
        pytest.param("/srv/a /srv/b none bind\noverlay /o overlay lowerdir=/a,upperdir=/b,workdir=/c\n", id="bind"),
        pytest.param("share /s 9p trans=virtio\nshare /t virtiofs\n//s/x /c cifs\n", id="9p-virtiofs-cifs"),
        pytest.param("/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto\n/dev/fd0 /f auto noauto\n", id="cdrom-floppy"),
        pytest.param("/dev/disk/by-id/dm-name-vg-root / ext4\n", id="by-id-of-the-device-mapper"),
    ],
)
def test_other_names_are_left(tmp_path: Path, fstab: str) -> None:
    guest = inhabited(tmp_path, _inside(fstab))
    assert verdict_of(guest, "fstab-uuid") is Verdict.COMPLIANT


@pytest.mark.parametrize(
    ("fstab", "reason"),
    [
        pytest.param("/dev/vdd1 /d ext4\n", "line 1: /dev/vdd1 has no UUID of its own", id="no-uuid"),
        pytest.param("/dev/vdz1 /z ext4\n", "line 1: /dev/vdz1 is not there", id="not-there"),
        pytest.param("/dev/vda5:/dev/vdd1 /b bcachefs\n", "line 1: /dev/vda5:/dev/vdd1", id="bcachefs-of-two"),
        pytest.param("UUID=x / ext4 journal_dev=0xfd11\n", "line 1: journal_dev=0xfd11", id="journal-by-number"),
        pytest.param(
            "UUID=x / ext4 x-systemd.after=dev-vda1.device\n", "line 1: x-systemd.after=dev-vda1.device", id="unit-name"
        ),
        pytest.param("UUID=eeee / btrfs device=/dev/vdd1\n", "line 1: /dev/vdd1 has no UUID", id="member-without-uuid"),
    ],
)
def test_what_has_no_other_name_is_withheld(tmp_path: Path, fstab: str, reason: str) -> None:
    inside = _inside(fstab)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstab-uuid"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert f"withheld: {reason}" in result.reason
    assert inside.files["/etc/fstab"] == fstab


#: a guest whose fstab is of another bus (Vagrant boxes built on VirtualBox), and what is mounted in it
MOVED = [
    block("vda", part("vda1", uuid="s-1", fstype="swap"), part("vda2", uuid="r-2", fstype="ext4")),
    block("vdb", part("vdb1", uuid="d-1", fstype="xfs"), part("vdb2", uuid="b-2", fstype="btrfs")),
]
#: devices that the guest makes itself: each has a UUID, and none is a name of the next boot
MADE_INSIDE = [
    block("zram0", uuid="z-1", fstype="swap"),
    block("loop0", type="loop", uuid="l-1", fstype="xfs"),
    block("nbd0", uuid="n-1", fstype="xfs"),
]
MOUNTS = [
    mounted("/", "/dev/vda2"),
    mounted("/data", "/dev/vdb1", "xfs"),
    mounted("/home", "/dev/vdb2[/@home]", "btrfs", fsroot="/@home"),
    mounted("/log", "/dev/vdb2[/@log]", "btrfs", fsroot="/@log"),
    mounted("/twice", "/dev/vdb1", "xfs"),
    mounted("/twice", "/dev/vda2"),
    mounted("/mem", "tmpfs", "tmpfs"),
]


def _moved(fstab: str, **more: object) -> Inside:
    return Inside(files={**FILES, "/etc/fstab": fstab}, **{"devices": MOVED, "mounts": MOUNTS, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after", "more"),
    [
        pytest.param("/dev/sda2 / ext4 rw 0 1\n", "UUID=r-2 / ext4 rw 0 1\n", {}, id="root"),
        pytest.param("/dev/sda2\t/\tauto\n", "UUID=r-2\t/\tauto\n", {}, id="type-auto"),
        pytest.param("/dev/sdc1 /data/ xfs\n", "UUID=d-1 /data/ xfs\n", {}, id="another-place"),
        pytest.param("/dev/disk/by-id/ata-x /data xfs\n", "UUID=d-1 /data xfs\n", {}, id="by-id"),
        pytest.param(
            "/dev/sdb2 /home btrfs subvol=@home\n/dev/sdb2 /log btrfs subvol=/@log\n",
            "UUID=b-2 /home btrfs subvol=@home\nUUID=b-2 /log btrfs subvol=/@log\n",
            {},
            id="subvolumes",
        ),
        pytest.param(
            "/dev/sda2 / ext4\n/dev/sda1 none swap\n",
            "UUID=r-2 / ext4\nUUID=s-1 none swap\n",
            {},
            id="swap-that-is-off",
        ),
        pytest.param(
            "/dev/sdz9 none swap\n", "UUID=s-1 none swap\n", {"swaps": ("/dev/vda1 p 1 0 -2",)}, id="swap-that-is-on"
        ),
        pytest.param(
            "/dev/sda1 none swap\n",
            "UUID=s-1 none swap\n",
            {"devices": [*MOVED, *MADE_INSIDE], "swaps": ("/dev/zram0 partition 1 0 100",)},
            id="swap-beside-zram",
        ),
        pytest.param(
            "/dev/sdb1 /auto xfs x-systemd.automount\n",
            "UUID=d-1 /auto xfs x-systemd.automount\n",
            {"mounts": [mounted("/auto", "systemd-1", "autofs"), mounted("/auto", "/dev/vdb1", "xfs")]},
            id="automount",
        ),
    ],
)
def test_a_name_that_is_dead_is_replaced_by_what_is_in_use_there(
    tmp_path: Path, before: str, after: str, more: dict[str, object]
) -> None:
    inside = _moved(before, **more)
    guest = inhabited(tmp_path, inside)
    verify = "findmnt --verify --tab-file"
    # what was dead before need not be there for an undo
    assert requirement("fstab-uuid").fixer(guest) == [FileChange("one", "/etc/fstab", before, after, verify)]
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstab-uuid"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason
    assert inside.files == {**FILES, "/etc/fstab": after}
    [again] = walk(engine(guest.hypervisor, tmp_path), guest, "fstab-uuid")
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])


@pytest.mark.parametrize(
    "fstab",
    [
        pytest.param("/dev/sda2 / xfs\n", id="another-type"),
        pytest.param("/dev/sda2 /srv ext4\n", id="nothing-is-mounted-there"),
        pytest.param("/dev/sdb1 /twice xfs\n", id="one-mounted-over-another"),
        pytest.param("/dev/sdb1 /mem tmpfs\n", id="no-disk"),
        pytest.param("/dev/sdb1 /data xfs\nUUID=d-1 /mnt xfs\n", id="of-another-entry"),
        pytest.param("/dev/sdb1 /data xfs\n/dev/sdb1 / ext4\n", id="one-name-for-two"),
        pytest.param("/dev/sdb1 /data xfs\n/dev/sdc1 /data xfs\n", id="two-names-for-one"),
        pytest.param("/dev/sdb2 /home btrfs subvol=@old\n", id="another-subvolume"),
        pytest.param("/dev/sdz9 none swap\n", id="swap-in-another-place"),
        pytest.param("/dev/sda1 none swap\nUUID=s-1 none swap\n", id="swap-of-another-entry"),
        pytest.param("UUID=b-2 /home btrfs device=/dev/sdb2\n", id="an-option"),
    ],
)
def test_a_name_that_is_dead_stays_where_it_is_not_certain_what_it_means(tmp_path: Path, fstab: str) -> None:
    inside = _moved(fstab)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstab-uuid"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert "is not there" in result.reason.partition("withheld: ")[2]
    assert inside.files["/etc/fstab"] == fstab


@pytest.mark.parametrize(
    ("fstab", "more"),
    [
        pytest.param("/dev/sda3 none swap\n", {"swaps": ("/dev/zram0 partition 1 0 100",)}, id="zram"),
        pytest.param("/dev/sdb1 /file xfs\n", {"mounts": [mounted("/file", "/dev/loop0", "xfs")]}, id="loop"),
        pytest.param("/dev/sdb1 /net xfs\n", {"mounts": [mounted("/net", "/dev/nbd0", "xfs")]}, id="nbd"),
        pytest.param(
            "/dev/sdb1 /part xfs\n",
            {"mounts": [mounted("/part", "/dev/vdb1[/sub]", "xfs", fsroot="/sub")]},
            id="a-folder-of-a-filesystem",
        ),
        pytest.param(
            "/dev/sdb1 /part ext4\n",
            {"mounts": [mounted("/part", "/dev/vda2[/srv]", fsroot="/srv")]},
            id="a-folder-of-the-root",
        ),
        pytest.param(
            "/dev/sdb1 /auto xfs\n", {"mounts": [mounted("/auto", "systemd-1", "autofs")]}, id="an-automount-that-waits"
        ),
    ],
)
def test_a_name_that_is_dead_is_never_replaced_by_one_that_does_not_last(
    tmp_path: Path, fstab: str, more: dict[str, object]
) -> None:
    inside = _moved(fstab, **{"devices": [*MOVED, *MADE_INSIDE], **more})
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstab-uuid"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert "is not there" in result.reason.partition("withheld: ")[2]
    assert inside.files["/etc/fstab"] == fstab


def test_a_dead_name_that_the_boot_does_without_is_left(tmp_path: Path) -> None:
    inside = _moved("/dev/sdb1 /data xfs nofail\n/dev/sda2 / ext4\n")
    guest = inhabited(tmp_path, inside)
    engine(guest.hypervisor, tmp_path).run(requirement("fstab-uuid"), subject(guest))
    assert inside.files["/etc/fstab"] == "/dev/sdb1 /data xfs nofail\nUUID=r-2 / ext4\n"


def test_the_configuration_gets_the_name_of_what_is_in_use_in_place_of_a_dead_one(tmp_path: Path) -> None:
    inside = _moved("/dev/sda2 / ext4\n", os="ID=nixos\n")
    guest = inhabited(tmp_path, inside)
    [row] = walk(engine(guest.hypervisor, tmp_path), guest, "fstab-uuid")
    assert 'fileSystems."/".device = "/dev/disk/by-uuid/r-2"' in row.reason


def test_plan_and_fix_agree_on_what_is_mended_in_part(tmp_path: Path) -> None:
    fstab = "/dev/sda2 / ext4\n/dev/sdq1 /q ext4\n"
    inside = _moved(fstab)
    guest = inhabited(tmp_path, inside, disk_xml("vda", "virtio"))
    left = "withheld: line 2: /dev/sdq1 is not there"
    planned, bus = walk(engine(guest.hypervisor, tmp_path, "plan"), guest, "fstab-uuid", "disk-bus")
    assert left in planned.reason
    assert len(planned.changes) == 1
    assert inside.files["/etc/fstab"] == fstab
    fixed, moved = walk(engine(guest.hypervisor, tmp_path), guest, "fstab-uuid", "disk-bus")
    assert inside.files["/etc/fstab"] == "UUID=r-2 / ext4\n/dev/sdq1 /q ext4\n"
    assert fixed.verdict is Verdict.NONCOMPLIANT
    assert left in fixed.reason
    assert "did not help" not in fixed.reason
    for row in (bus, moved):
        assert row.changes == []
        assert "withheld: depends on fstab-uuid" in row.reason
    [again] = walk(engine(guest.hypervisor, tmp_path), guest, "fstab-uuid")
    assert again.changes == []


NIXOS = "# This is a generated file.  Do not edit!\n#\n# To make changes, edit the fileSystems options\n"
GUIX = "# This file was generated from your Guix configuration.  Any changes\n"


@pytest.mark.parametrize(
    ("os", "fstab", "advice"),
    [
        pytest.param(
            "ID=nixos\n",
            "/dev/vda1 / ext4 x-initrd.mount 0 1\n",
            'fileSystems."/".device = "/dev/disk/by-uuid/aaaa-1"',
            id="nixos",
        ),
        pytest.param(
            "ID=other\n",
            f"{NIXOS}/dev/vdb1 /srv ext4\n",
            'fileSystems."/srv".device = "/dev/disk/by-partuuid/p-b"',
            id="by-its-header",
        ),
        pytest.param(
            "ID=nixos\n",
            "/dev/vda5 none swap\n",
            'swapDevices = [ { device = "/dev/disk/by-uuid/aaaa-5"; } ]',
            id="swap",
        ),
        pytest.param(
            "ID=nixos\n", "/dev/vdz1 /z ext4\n", 'fileSystems."/z".device = "/dev/disk/by-uuid/…"', id="not-there"
        ),
        pytest.param("ID=guix\n", f"{GUIX}/dev/vda1 / ext4\n", '(device (uuid "aaaa-1"))', id="guix"),
    ],
)
def test_what_a_configuration_makes_is_named_in_the_configuration(
    tmp_path: Path, os: str, fstab: str, advice: str
) -> None:
    inside = _inside(fstab)
    inside.os = os
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstab-uuid"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    withheld = result.reason.partition("withheld: ")[2]
    assert advice in withheld
    assert ("guix system reconfigure" if "guix" in os else "nixos-rebuild boot") in withheld
    assert (inside.files["/etc/fstab"], inside.ran) == (fstab, [])


@pytest.mark.parametrize(
    ("header", "remark"),
    [
        pytest.param(
            "# BEGIN ANSIBLE MANAGED BLOCK\n# END ANSIBLE MANAGED BLOCK\n",
            '/etc/fstab is marked "BEGIN ANSIBLE MANAGED BLOCK": change it there too',
            id="a-block",
        ),
        pytest.param("# /etc/fstab: static file system information.\n", "", id="debian"),
        pytest.param("# Created by anaconda on Thu\n", "", id="anaconda"),
    ],
)
def test_who_may_write_a_part_of_fstab_again_is_told_and_keeps_nobody(tmp_path: Path, header: str, remark: str) -> None:
    inside = _inside(f"{header}/dev/vda1 / ext4\n")
    guest = inhabited(tmp_path, inside)
    [plan] = walk(engine(guest.hypervisor, tmp_path, "plan"), guest, "fstab-uuid")
    assert remark in plan.reason
    assert ("change it there too" in plan.reason) is bool(remark)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstab-uuid"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason
    assert inside.files["/etc/fstab"] == f"{header}UUID=aaaa-1 / ext4\n"


AGAIN = "would be written again with the old names: name the devices by UUID= in the source that it is made from"


@pytest.mark.parametrize(
    "mark",
    [
        "Ansible managed",
        "HEADER: This file is managed by Puppet.",
        "AUTOGENERATED by acme-provision: DO NOT EDIT",
        "Generated for web1. Local changes will be lost!",
        "changes here are overwritten at each boot",
    ],
)
def test_an_fstab_that_another_program_writes_again_is_left_to_it(tmp_path: Path, mark: str) -> None:
    inside = _inside(f"# {mark}\n/dev/vda1 / ext4\n")
    before = dict(inside.files)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("fstab-uuid"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert result.reason == f'fstab line 2: /dev/vda1 on /; /etc/fstab is marked "{mark}"; withheld: /etc/fstab {AGAIN}'
    assert (inside.files, inside.ran) == (before, [])
    inside.files["/etc/fstab"] = f"# {mark}\nUUID=aaaa-1 / ext4\n"
    guest.forget()
    assert verdict_of(guest, "fstab-uuid") is Verdict.COMPLIANT


def test_a_unit_that_another_program_writes_is_left_and_the_others_are_mended(tmp_path: Path) -> None:
    path = "/etc/systemd/system/srv.mount"
    inside = _inside("/dev/vda1 / ext4\n")
    inside.files[path] = "# Ansible managed\n[Mount]\nWhat=/dev/vda2\nWhere=/srv\n"
    before = inside.files[path]
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstab-uuid"), subject(guest))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert f'{path} is marked "Ansible managed"' in result.reason
    assert f"withheld: {path} {AGAIN}" in result.reason
    assert (inside.files["/etc/fstab"], inside.files[path]) == ("UUID=aaaa-1 / ext4\n", before)


def test_a_guest_without_fstab_is_an_error_not_a_pass(tmp_path: Path) -> None:
    inside = Inside()
    del inside.files["/etc/fstab"]
    assert verdict_of(inhabited(tmp_path, inside), "fstab-uuid") is Verdict.ERROR


def test_a_uuid_that_the_guest_made_up_is_not_written(tmp_path: Path) -> None:
    devices = [block("vda", part("vda1", uuid="a b\n/dev/x /y", fstype="ext4"))]
    inside = Inside(files={**FILES, "/etc/fstab": "/dev/vda1 / ext4\n"}, devices=devices)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstab-uuid"), subject(guest))
    assert result.changes == []
    assert "has no UUID of its own" in result.reason


def test_a_mount_without_util_linux_is_given_no_partuuid(tmp_path: Path) -> None:
    inside = _inside("/dev/vdb1 /srv ext4\n/dev/vda1 / ext4\n")
    inside.tools = ("fstrim",)
    guest = inhabited(tmp_path, inside)
    before, after = inside.files["/etc/fstab"], "/dev/vdb1 /srv ext4\nUUID=aaaa-1 / ext4\n"
    assert requirement("fstab-uuid").fixer(guest) == [
        FileChange("one", "/etc/fstab", before, after, "findmnt --verify --tab-file", devices=["/dev/vda1"])
    ]


MOUNT = "/etc/systemd/system/srv.mount"
#: as systemd.mount(5) describes it
UNIT = "[Unit]\nDescription=What=/dev/vda1\n\n[Mount]\nWhat={}\nWhere=/srv\nType=btrfs\nOptions={}\n\n[Install]\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(("/dev/vda1", "rw"), ("/dev/disk/by-uuid/aaaa-1", "rw"), id="what"),
        pytest.param((" /dev/vda1", "rw"), (" /dev/disk/by-uuid/aaaa-1", "rw"), id="blank"),
        pytest.param(("/dev/vdb1 ", "rw"), ("/dev/disk/by-partuuid/p-b ", "rw"), id="clone"),
        pytest.param(
            ("UUID=eeee", "device=/dev/vde,rw"), ("UUID=eeee", "device=/dev/disk/by-uuid/eeee,rw"), id="options"
        ),
        pytest.param(
            ("/dev/disk/by-path/pci-0000:00:07.0-part1", "rw"), ("/dev/disk/by-uuid/aaaa-1", "rw"), id="by-path"
        ),
    ],
)
def test_a_mount_unit_is_rewritten_and_systemd_told(
    tmp_path: Path, before: tuple[str, str], after: tuple[str, str]
) -> None:
    text = UNIT.format(*before)
    inside = Inside(units={MOUNT: text}, devices=DEVICES, links=LINKS)
    inside.commands["systemctl daemon-reload"] = lambda _: 0
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstab-uuid"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason
    assert inside.files == {**FILES, MOUNT: UNIT.format(*after)}
    [again] = walk(engine(guest.hypervisor, tmp_path), guest, "fstab-uuid")
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])


@pytest.mark.parametrize(
    ("path", "what", "reason"),
    [
        pytest.param("/etc/systemd/system/dev-vdd1.swap", "/dev/vdd1", "/dev/vdd1 has no UUID of its own", id="swap"),
        pytest.param(
            "/etc/systemd/system/dev-vda5.swap.d/x.conf",
            "/dev/vda5",
            "/dev/vda5 is the unit's own name, and there are drop-ins",
            id="drop-in-of-a-swap-unit",
        ),
        pytest.param(MOUNT, "/dev/vdz1", "/dev/vdz1 is not there", id="not-there"),
        pytest.param(MOUNT, "/dev/vdd1", "/dev/vdd1 has no UUID of its own", id="no-uuid"),
    ],
)
def test_a_unit_that_cannot_be_rewritten_is_told(tmp_path: Path, path: str, what: str, reason: str) -> None:
    inside = Inside(units={path: UNIT.format(what, "rw")}, devices=DEVICES)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstab-uuid"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert f"withheld: {path}: {reason}" in result.reason


SWAP = "/etc/systemd/system/dev-vda5.swap"
NEW_SWAP = "/etc/systemd/system/dev-disk-by\\x2duuid-aaaa\\x2d5.swap"
#: as systemd.swap(5) describes it
SWAP_UNIT = "[Unit]\nDescription=swap\n\n[Swap]\nWhat={}\nPriority=5\n\n[Install]\nWantedBy=swap.target\n"


@pytest.mark.parametrize(
    ("blank", "there"),
    [
        pytest.param("", False, id="alone"),
        pytest.param(" ", False, id="blank"),
        pytest.param("", True, id="a-run-that-died-made-the-new-one"),
    ],
)
def test_a_swap_unit_gets_the_name_of_its_device(tmp_path: Path, *, blank: str, there: bool) -> None:
    before, after = (SWAP_UNIT.format(blank + name) for name in ("/dev/vda5", "/dev/disk/by-uuid/aaaa-5"))
    move = "if systemctl is-enabled --quiet {0}; then systemctl enable {1} && systemctl disable {0}; fi"
    old, new = "dev-vda5.swap", "'dev-disk-by\\x2duuid-aaaa\\x2d5.swap'"
    inside = Inside(units={SWAP: before, **({NEW_SWAP: after} if there else {})}, devices=DEVICES)
    inside.commands = dict.fromkeys(("systemctl daemon-reload", move.format(old, new)), lambda _: 0)
    guest = inhabited(tmp_path, inside)
    changes = [
        FileChange("one", NEW_SWAP, None, after, then="systemctl daemon-reload"),
        CommandChange("one", move.format(old, new), move.format(new, old)),
        FileChange("one", SWAP, before, None, then="systemctl daemon-reload", devices=["/dev/vda5"]),
    ]
    assert requirement("fstab-uuid").fixer(guest) == changes[there:]
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstab-uuid"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason
    assert inside.files == {**FILES, NEW_SWAP: after}
    [again] = walk(engine(guest.hypervisor, tmp_path), guest, "fstab-uuid")
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])


CLONES = [
    block("vda", part("vda1", uuid="aaaa-1", fstype="ext4"), part("vda5", uuid="ssss", fstype="swap", partuuid="p-5")),
    block("vdb", part("vdb1", uuid="cccc", fstype="ext4", partuuid="p-b", label="x")),
    block("vdc", part("vdc1", uuid="cccc", fstype="ext4", partuuid="p-c", label="x")),
    block("vdd", part("vdd5", uuid="ssss", fstype="swap", partuuid="p-d")),
    block("vde", uuid="bbbb", fstype="btrfs"),
    block("vdf", uuid="bbbb", fstype="btrfs"),
]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("UUID=cccc /srv ext4\n", "PARTUUID=p-c /srv ext4\n", id="uuid"),
        pytest.param('UUID="cccc" /srv ext4\n', "PARTUUID=p-c /srv ext4\n", id="in-quotes"),
        pytest.param("LABEL=x\t/srv\text4\n", "PARTUUID=p-c\t/srv\text4\n", id="label"),
        pytest.param("/dev/disk/by-uuid/cccc /srv ext4\n", "PARTUUID=p-c /srv ext4\n", id="link"),
        pytest.param("UUID=ssss none swap sw 0 0\n", "PARTUUID=p-d none swap sw 0 0\n", id="swap"),
        pytest.param("/dev/vde /b btrfs\n", "UUID=bbbb /b btrfs\n", id="btrfs-of-two-disks"),
        pytest.param("ID=virtio-s-part1 / ext4\n", "UUID=aaaa-1 / ext4\n", id="hardware-id"),
    ],
)
def test_what_is_mounted_is_what_is_meant(tmp_path: Path, before: str, after: str) -> None:
    """Two filesystems with one UUID: which of them is found first is another on another bus."""
    mounts = [mounted("/", "/dev/vda1"), mounted("/srv", "/dev/vdc1"), mounted("/b", "/dev/vdf", "btrfs")]
    inside = Inside(
        devices=CLONES, mounts=mounts, swaps=("/dev/vdd5 partition 9 0 -2",), btrfs="bbbb\tvde\nbbbb\tvdf\n"
    )
    inside.links = {"/dev/disk/by-id/virtio-s-part1": "../../vda1"}
    inside.files["/etc/fstab"] = before
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstab-uuid"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason
    assert inside.files["/etc/fstab"] == after
    [again] = walk(engine(guest.hypervisor, tmp_path), guest, "fstab-uuid")
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])


def test_a_clone_that_is_not_mounted_is_withheld(tmp_path: Path) -> None:
    inside = Inside(devices=CLONES)
    inside.files["/etc/fstab"] = "UUID=cccc /srv ext4\n"
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstab-uuid"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert "line 1: UUID=cccc on /srv is that of /dev/vdb1 and /dev/vdc1; withheld: line 1: give one" in result.reason


@pytest.mark.parametrize(
    ("fstab", "btrfs"),
    [
        pytest.param("UUID=bbbb /b btrfs\n", "bbbb\tvde\nbbbb\tvdf\n", id="btrfs-of-two-disks"),
        pytest.param("UUID=bbbb /b btrfs nofail\n", "", id="btrfs-that-is-not-mounted"),
        pytest.param("UUID=cccc /srv ext4 noauto\n", "", id="noauto"),
        pytest.param("PARTUUID=p-c /srv ext4\n", "", id="already-told-apart"),
        pytest.param("ID=virtio-gone / ext4 nofail\n", "", id="hardware-id-that-is-not-there"),
    ],
)
def test_what_is_one_filesystem_is_left(tmp_path: Path, fstab: str, btrfs: str) -> None:
    inside = Inside(devices=CLONES, btrfs=btrfs)
    inside.files["/etc/fstab"] = fstab
    assert verdict_of(inhabited(tmp_path, inside), "fstab-uuid") is Verdict.COMPLIANT


BYTES = "# \udcff\udcfe\n/dev/vda1 / ext4 defaults 0 1\r\n\r\n#\0NUL\nUUID=x /x{} ext4 noauto".format("y" * 50_000)


def test_crlf_nul_and_endless_lines_stay_as_they_are(tmp_path: Path) -> None:
    inside = _inside(BYTES)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstab-uuid"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason
    assert inside.files["/etc/fstab"] == BYTES.replace("/dev/vda1", "UUID=aaaa-1")


def test_units_with_other_names_are_left(tmp_path: Path) -> None:
    units = {
        MOUNT: UNIT.format("/dev/mapper/vg-srv", "rw"),
        "/etc/systemd/system/n.mount": UNIT.format("server:/x", "rw"),
        "/etc/systemd/system/s.mount.d/x.conf": "[Mount]\n#What=/dev/vda1\nOptions=noatime\n",
    }
    assert verdict_of(inhabited(tmp_path, Inside(units=units)), "fstab-uuid") is Verdict.COMPLIANT
