"""Which block device is which disk, and what the guest needs of it."""

from __future__ import annotations

from typing import Any

import pytest

from reclaim.inside.devices import BlockDevice
from reclaim.inside.filesystems import filesystems, is_disk, need
from tests.support import Inside, block, mounted, part

KIB = 1024


@pytest.mark.parametrize(
    ("name", "type", "disk"),
    [
        ("vda", "disk", True),
        ("sda", "disk", True),
        ("nvme0n1", "disk", True),
        ("zram0", "disk", False),
        ("ram0", "disk", False),
        ("fd0", "disk", False),
        ("nbd0", "disk", False),
        ("zd16", "disk", False),
        ("sr0", "rom", False),
        ("loop0", "loop", False),
        ("vda1", "part", False),
    ],
)
def test_is_disk(name: str, type: str, *, disk: bool) -> None:  # noqa: A002
    device = Inside(devices=[block(name, type=type)]).facts().block_devices[0]
    assert is_disk(device) is disk


# need


def _need(device: dict[str, Any], *mounts: dict[str, Any]) -> int:
    facts = Inside(devices=[device], mounts=list(mounts)).facts()
    return need(facts, facts.block_devices[0])


def _used(source: str, used: int, size: int) -> dict[str, Any]:
    return mounted(f"/m{source}", source, used=used * KIB, size=size * KIB)


def _block(name: str, *children: dict[str, Any], size: int, **more: Any) -> dict[str, Any]:
    return block(name, *children, size=size * KIB, **more)


@pytest.mark.parametrize(
    ("device", "mounts", "kib"),
    [
        pytest.param(_block("v", size=100), [], 0, id="a-blank-disk"),
        pytest.param(_block("v", size=100, fstype="ext4"), [], 100, id="not-mounted"),
        pytest.param(_block("v", size=100, fstype="ext4"), [_used("/dev/v", 10, 95)], 15, id="used-and-metadata"),
        pytest.param(
            _block("v", part("v1", size=60 * KIB, fstype="ext4"), part("v2", size=30 * KIB, fstype="swap"), size=100),
            [_used("/dev/v1", 20, 60)],
            50,
            id="swap-counts-whole",
        ),
        pytest.param(_block("v", part("v1", size=60 * KIB), size=100), [], 60, id="a-partition-of-unknown-content"),
        pytest.param(
            _block("v", part("v1", part("dm-0", type="lvm", size=50 * KIB, fstype="xfs"), size=90 * KIB), size=100),
            [_used("/dev/dm-0", 5, 50)],
            5,
            id="free-extents-of-lvm-are-free",
        ),
        pytest.param(_block("v", size=100, fstype="ext4"), [_used("/dev/v", 500, 95)], 100, id="never-more-than-it-is"),
        pytest.param(
            _block("v", size=100, fstype="ext4"),
            [mounted("/", "/dev/v", size=None, used=None)],
            100,
            id="a-mount-that-nobody-could-count",
        ),
        pytest.param(
            _block("v", size=100, fstype="btrfs"),
            [
                mounted("/", "/dev/v[/@]", "btrfs", used=10 * KIB, size=100 * KIB),
                mounted("/home", "/dev/v[/@home]", "btrfs", used=10 * KIB, size=100 * KIB),
            ],
            10,
            id="subvolumes-count-once",
        ),
    ],
)
def test_what_the_guest_needs(device: dict[str, Any], mounts: list[dict[str, Any]], kib: int) -> None:
    assert _need(device, *mounts) == kib * KIB


def test_a_filesystem_is_listed_once_with_every_way_to_it() -> None:
    raid = part("md0", type="raid1", fstype="ext4")
    facts = Inside(
        devices=[block("vda", raid), block("vdb", raid), block("loop0", type="loop")],
        mounts=[mounted("/", "/dev/md0"), mounted("/bind", "/dev/md0"), mounted("/s", "/dev/loop0")],
    ).facts()
    [one] = filesystems(facts)
    assert one.mount.target == "/"
    assert [[device.name for device in way] for way in one.ways] == [["vda", "md0"], ["vdb", "md0"]]
    assert isinstance(one.device, BlockDevice)
