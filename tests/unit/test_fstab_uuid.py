"""fstab-uuid: the check and the fixer as a pair."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from reclaim.change import FileChange
from reclaim.verdict import Verdict
from tests.support import FILES, Inside, block, engine, inhabited, part, requirement, subject, verdict_of, walk

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
    block("vdf", part("vdf1", uuid="ABCD-1234", fstype="vfat", partuuid="p-f")),
]
LINKS = {
    "/dev/disk/by-path/pci-0000:00:07.0-part1": "../../vda1",
    "/dev/disk/by-id/virtio-serial-part1": "../../vda1",
}


def _inside(fstab: str) -> Inside:
    return Inside(files={**FILES, "/etc/fstab": fstab}, devices=DEVICES, links=LINKS)


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
        pytest.param("#/dev/vda1 / ext4\n", id="comment"),
        pytest.param("tmpfs /tmp tmpfs size=1G 0 0\nserver:/x /n nfs\n", id="no-device"),
        pytest.param("/dev/vdz1 /usb ext4 noauto\n", id="optional-and-not-there"),
        pytest.param("/dev/vdz1 /usb ext4 nofail\n", id="nofail-and-not-there"),
        pytest.param("", id="empty"),
        pytest.param("/swapfile none swap sw\n", id="swap-file"),
    ],
)
def test_other_names_are_left(tmp_path: Path, fstab: str) -> None:
    guest = inhabited(tmp_path, _inside(fstab))
    assert verdict_of(guest, "fstab-uuid") is Verdict.COMPLIANT


@pytest.mark.parametrize(
    ("fstab", "reason"),
    [
        pytest.param("/dev/vdd1 /d ext4\n", "line 1: /dev/vdd1 has no UUID of its own", id="no-uuid"),
        pytest.param("/dev/vdz1 /z ext4\n", "/dev/vdz1 is not there", id="not-there"),
    ],
)
def test_what_has_no_other_name_is_withheld(tmp_path: Path, fstab: str, reason: str) -> None:
    inside = _inside(fstab)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstab-uuid"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert f"withheld: {reason}" in result.reason
    assert inside.files["/etc/fstab"] == fstab


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
