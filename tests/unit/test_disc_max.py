"""disc-max: the check and the fixer as a pair. The fixer proposes nothing: it names what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reclaim.verdict import Verdict
from tests.support import (
    Inside,
    block,
    disk_xml,
    drive,
    engine,
    inhabited,
    mounted,
    part,
    requirement,
    scsi_xml,
    subject,
    verdict_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.guest import Guest


def _guest(folder: Path, devices: list[dict[str, Any]], mounts: list[dict[str, Any]], *xml: str, **more: Any) -> Guest:
    return inhabited(folder, Inside(devices=devices, mounts=mounts), *xml, **more)


def _luks(disc_max: int, below: int = 512) -> list[dict[str, Any]]:
    root = part("dm-0", type="crypt", fstype="ext4", disc_max=disc_max)
    return [block("sda", part("sda1", root, disc_max=below), disc_max=below)]


@pytest.mark.parametrize(
    ("devices", "mounts", "named"),
    [
        pytest.param(
            [block("vda", part("vda1", disc_max=0), disc_max=0)],
            [mounted("/", "/dev/vda1")],
            "/dev/vda (disk) under /",
            id="disk",
        ),
        pytest.param(_luks(0), [mounted("/", "/dev/dm-0")], "/dev/dm-0 (crypt) under /", id="luks"),
        pytest.param(
            [block("sda", part("sda1", part("dm-1", type="lvm", disc_max=0)))],
            [mounted("/srv", "/dev/dm-1")],
            "/dev/dm-1 (lvm) under /srv",
            id="lvm",
        ),
        pytest.param(
            [
                block("sda", part("sda1", fstype="ext4")),
                block("sdb", part("sdb1", fstype="xfs", disc_max=0), disc_max=0),
            ],
            [mounted("/", "/dev/sda1"), mounted("/data", "/dev/sdb1", "xfs")],
            "/dev/sdb (disk) under /data",
            id="one-of-two-disks",
        ),
        pytest.param(
            [
                block("sda", part("md0", type="raid1", fstype="ext4")),
                block("sdb", part("md0", type="raid1", fstype="ext4"), disc_max=0),
            ],
            [mounted("/", "/dev/md0")],
            "/dev/sdb (disk) under /",
            id="one-leg-of-a-mirror",
        ),
    ],
)
def test_the_lowest_deaf_layer_is_named_and_nothing_is_changed(
    tmp_path: Path, devices: list[dict[str, Any]], mounts: list[dict[str, Any]], named: str
) -> None:
    guest = _guest(tmp_path, devices, mounts)
    result = engine(guest.hypervisor, tmp_path).run(requirement("disc-max"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert result.reason.startswith(f"DISC-MAX is 0 on {named}; withheld: ")


@pytest.mark.parametrize(
    ("devices", "mount", "machine", "bus", "words"),
    [
        pytest.param(_luks(0), "/dev/dm-0", "pc-q35-7.2", "scsi", "LUKS passes no discards", id="luks"),
        pytest.param(
            [block("vda", part("vda1", disc_max=0), disc_max=0)],
            "/dev/vda1",
            "pc-i440fx-3.1",
            "virtio",
            "virtio-blk on pc-i440fx-3.1 offers no discard",
            id="virtio-blk-before-4.0",
        ),
        pytest.param(
            [block("vda", part("vda1", disc_max=0), disc_max=0)],
            "/dev/vda1",
            "pc-i440fx-4.0",
            "virtio",
            "by hand",
            id="virtio-blk-from-4.0",
        ),
        pytest.param(
            [block("sda", part("sda1", disc_max=0), disc_max=0)],
            "/dev/sda1",
            "pc-i440fx-3.1",
            "scsi",
            "by hand",
            id="scsi",
        ),
    ],
)
def test_what_to_do_is_told(
    tmp_path: Path, *, devices: list[dict[str, Any]], mount: str, machine: str, bus: str, words: str
) -> None:
    xml = disk_xml("vda") if bus == "virtio" else disk_xml("sda", "scsi", inner=drive(0))
    guest = _guest(tmp_path, devices, [mounted("/", mount)], xml, scsi_xml(), machine=machine)
    result = engine(guest.hypervisor, tmp_path).run(requirement("disc-max"), subject(guest))
    assert words in result.reason.partition("withheld: ")[2]


@pytest.mark.parametrize(
    ("devices", "mounts", "verdict"),
    [
        pytest.param(_luks(512), [mounted("/", "/dev/dm-0")], Verdict.COMPLIANT, id="every-layer"),
        pytest.param(
            [block("vda", part("vda1")), block("vdb", disc_max=0)],
            [mounted("/", "/dev/vda1")],
            Verdict.COMPLIANT,
            id="a-deaf-disk-that-carries-nothing",
        ),
        pytest.param(
            [block("vda", part("vda1")), block("sr0", type="rom", disc_max=0), block("loop0", type="loop", disc_max=0)],
            [mounted("/", "/dev/vda1"), mounted("/snap", "/dev/loop0", "squashfs"), mounted("/cd", "/dev/sr0")],
            Verdict.COMPLIANT,
            id="loops-and-cdroms",
        ),
        pytest.param(
            [block("vda")], [mounted("/", "overlay"), mounted("/proc", "proc")], Verdict.NOT_APPLICABLE, id="no-disk"
        ),
    ],
)
def test_what_carries_no_filesystem_says_nothing(
    tmp_path: Path, devices: list[dict[str, Any]], mounts: list[dict[str, Any]], verdict: Verdict
) -> None:
    assert verdict_of(_guest(tmp_path, devices, mounts), "disc-max") is verdict
