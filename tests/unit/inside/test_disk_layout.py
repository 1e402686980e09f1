"""What lies where on a disk: layers as values, each as a real guest tells of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reclaim.inside.disk_layout import Area, _without, areas
from tests.support import Inside, block, mounted, part

if TYPE_CHECKING:
    from reclaim.files.holes import Span

MIB = 1024**2
START = {"vda1": 1, "vda2": 101}


def _areas(
    *children: dict[str, Any], mounts: list[dict[str, Any]] | None = None, tables: tuple[str, ...] = (), **more: Any
) -> list[Area]:
    """The areas of vda, 1 GiB."""
    lines = ["device 254:0 - vda", *(f"device 254:{name[-1]} {mib * 2048} {name}" for name, mib in START.items())]
    lines += ["device 253:0 - vg-root", "device 253:1 - luks", "device 259:0 - vdb1", *tables]
    disk = block("vda", *children, size=1024 * MIB, **more)
    inside = Inside(devices=[disk], mounts=mounts or [], layout="".join(f"{line}\n" for line in lines))
    facts = inside.facts()
    return areas(facts, facts.block_devices[0])


def _told(found: list[Area]) -> list[tuple[str, str, tuple[tuple[int, int], ...] | None]]:
    """Kind, words and MiB of each area."""
    return [
        (area.kind, area.what, area.spans and tuple((start // MIB, end // MIB) for start, end in area.spans))
        for area in found
    ]


def test_a_filesystem_on_a_partition_and_the_room_beside_it() -> None:
    mounts = [mounted("/", "/dev/vda1", size=90 * MIB, used=10 * MIB)]
    found = _areas(part("vda1", size=100 * MIB, fstype="ext4"), mounts=mounts)
    assert _told(found) == [
        ("filesystem", "/ (ext4)", ((1, 101),)),
        ("free", "no partition of /dev/vda", ((0, 1), (101, 1024))),
    ]
    assert (found[0].used, found[0].trims) == (20 * MIB, True)  # its own metadata is used


def test_a_filesystem_on_the_whole_disk() -> None:
    found = _areas(fstype="xfs", mounts=[mounted("/", "/dev/vda", "xfs", size=1000 * MIB, used=10 * MIB)])
    assert _told(found) == [("filesystem", "/ (xfs)", ((0, 1024),))]


@pytest.mark.parametrize(
    ("fstype", "kind", "words"),
    [
        pytest.param("swap", "swap", "swap /dev/vda2", id="swap"),
        pytest.param("ext4", "unknown", "/dev/vda2 (ext4, not mounted)", id="not-mounted"),
        pytest.param("zfs_member", "unknown", "/dev/vda2 (zfs_member, not mounted)", id="zfs"),
        pytest.param("crypto_LUKS", "unknown", "/dev/vda2 (LUKS, not open)", id="locked"),
        pytest.param(None, "unknown", "/dev/vda2 (nothing that lsblk knows)", id="no-signature"),
        pytest.param("LVM2_member", "free", "free extents on /dev/vda2", id="no-volumes"),
    ],
)
def test_what_is_no_mounted_filesystem(fstype: str | None, kind: str, words: str) -> None:
    found = _areas(part("vda2", size=923 * MIB, fstype=fstype))
    assert _told(found)[0] == (kind, words, ((101, 1024),))


def _lv(**more: Any) -> dict[str, Any]:
    return block("vg-root", type="lvm", path="/dev/mapper/vg-root", fstype="ext4", size=200 * MIB, **more)


ROOT = [mounted("/", "/dev/mapper/vg-root", size=200 * MIB, used=50 * MIB)]


def test_a_volume_in_two_pieces() -> None:
    tables = ("table vg-root: 0 204800 linear 254:2 2048", "table vg-root: 204800 204800 linear 254:2 411648")
    found = _areas(part("vda2", _lv(), size=923 * MIB, fstype="LVM2_member"), mounts=ROOT, tables=tables)
    assert _told(found)[:2] == [
        ("filesystem", "/ (ext4)", ((102, 202), (302, 402))),
        ("free", "free extents on /dev/vda2", ((101, 102), (202, 302), (402, 1024))),
    ]


def test_a_volume_that_lies_on_another_disk_too_counts_in_part() -> None:
    tables = ("table vg-root: 0 204800 linear 254:2 2048", "table vg-root: 204800 204800 linear 259:0 2048")
    found = _areas(part("vda2", _lv(), size=923 * MIB, fstype="LVM2_member"), mounts=ROOT, tables=tables)
    assert _told(found)[0] == ("filesystem", "/ (ext4)", ((102, 202),))
    assert found[0].used == 25 * MIB


def test_a_striped_volume() -> None:
    tables = ("table vg-root: 0 409600 striped 2 128 254:2 2048 254:2 411648",)
    found = _areas(part("vda2", _lv(), size=923 * MIB, fstype="LVM2_member"), mounts=ROOT, tables=tables)
    assert _told(found)[0] == ("filesystem", "/ (ext4)", ((102, 202), (302, 402)))


def test_luks_below_lvm() -> None:
    luks = block("luks", _lv(), type="crypt", path="/dev/mapper/luks", fstype="LVM2_member", size=907 * MIB)
    tables = (
        f"table luks: 0 {907 * 2048} crypt aes-xts-plain64 {'0' * 64} 0 254:2 32768 1 allow_discards",
        "table vg-root: 0 409600 linear 253:1 2048",
    )
    found = _areas(part("vda2", luks, size=923 * MIB, fstype="crypto_LUKS"), mounts=ROOT, tables=tables)
    assert _told(found)[:3] == [
        ("filesystem", "/ (ext4)", ((118, 318),)),
        ("free", "free extents on /dev/mapper/luks", ((117, 118), (318, 1024))),
        ("free", "headers on /dev/vda2", ((101, 117),)),
    ]


@pytest.mark.parametrize(
    "tables",
    [
        pytest.param((), id="no-table"),
        pytest.param(("table vg-root: 0 409600 thin 253:4 1",), id="thin"),
        pytest.param(("table vg-root: 0 409600 linear 254:2 gibberish",), id="gibberish"),
        pytest.param(("table vg-root: 0 409600 striped 0 128",), id="no-stripes"),
        pytest.param(("table vg-root: 0 409600 striped 9 128 254:2 0",), id="too-few-stripes"),
    ],
)
def test_a_volume_that_cannot_be_placed_is_not_guessed(tables: tuple[str, ...]) -> None:
    found = _areas(part("vda2", _lv(), size=923 * MIB, fstype="LVM2_member"), mounts=ROOT, tables=tables)
    assert [(area.kind, area.spans, area.size // MIB) for area in found[:2]] == [
        ("filesystem", None, 200),
        ("free", None, 723),
    ]


def test_a_partition_without_a_start_is_not_placed() -> None:
    found = _areas(part("vda9", size=100 * MIB, fstype="ext4"), mounts=[mounted("/", "/dev/vda9", size=100 * MIB)])
    assert found[0].spans is None


def test_a_leg_of_a_mirror_holds_all_of_it() -> None:
    md = block("md0", type="raid1", fstype="ext4", size=900 * MIB)
    mounts = [mounted("/", "/dev/md0", size=900 * MIB, used=50 * MIB)]
    found = _areas(part("vda2", md, size=923 * MIB, fstype="linux_raid_member"), mounts=mounts)
    assert _told(found)[0] == ("filesystem", "/ (ext4)", ((101, 1001),))
    assert found[0].used == 50 * MIB


def test_an_array_that_is_spread_uses_a_part_of_each_disk() -> None:
    md = block("md0", type="raid0", fstype="ext4", size=1800 * MIB)
    mounts = [mounted("/", "/dev/md0", size=1800 * MIB, used=600 * MIB)]
    found = _areas(part("vda2", md, size=900 * MIB, fstype="linux_raid_member"), mounts=mounts)
    assert [(area.what, area.spans, area.size // MIB, area.used // MIB) for area in found[:1]] == [
        ("/ (ext4)", None, 900, 300)
    ]
    assert sum(area.size for area in found) == 1024 * MIB


def test_volumes_on_an_array_that_is_spread_use_a_part_of_each_disk() -> None:
    md = block("md0", _lv(), type="raid5", fstype="LVM2_member", size=1800 * MIB)
    found = _areas(part("vda2", md, size=900 * MIB, fstype="linux_raid_member"), mounts=ROOT)
    assert [(area.what, area.size // MIB) for area in found[:2]] == [
        ("/ (ext4)", 100),
        ("free extents on /dev/md0", 800),
    ]
    [alone] = [area for area in _areas(_lv(), mounts=ROOT) if area.kind == "filesystem"]
    assert found[0].used == alone.used // 2


def test_btrfs_on_two_devices_uses_both() -> None:
    both = [
        part("vda1", size=100 * MIB, fstype="btrfs", uuid="b"),
        part("vda2", size=300 * MIB, fstype="btrfs", uuid="b"),
    ]
    found = _areas(*both, mounts=[mounted("/", "/dev/vda1", "btrfs", size=400 * MIB, used=80 * MIB)])
    assert [(area.what, area.used // MIB) for area in found[:2]] == [("/ (btrfs)", 20), ("/ (btrfs)", 60)]


def test_a_filesystem_without_fitrim_is_told() -> None:
    found = _areas(fstype="reiserfs", mounts=[mounted("/", "/dev/vda", "reiserfs", size=1000 * MIB, used=10 * MIB)])
    assert not found[0].trims


@pytest.mark.parametrize(
    ("spans", "taken", "left"),
    [
        pytest.param(((0, 10),), [], [(0, 10)], id="nothing-taken"),
        pytest.param(((0, 10),), [(0, 10)], [], id="all-taken"),
        pytest.param(((0, 10),), [(2, 4), (4, 6)], [(0, 2), (6, 10)], id="in-the-middle"),
        pytest.param(((0, 10), (20, 30)), [(5, 25)], [(0, 5), (25, 30)], id="across"),
        pytest.param(((20, 30), (0, 10)), [(0, 1), (9, 21), (29, 40)], [(1, 9), (21, 29)], id="in-any-order"),
        pytest.param(((0, 10),), [(2, 8), (3, 4)], [(0, 2), (8, 10)], id="one-in-the-other"),
    ],
)
def test_what_is_left_of_spans(spans: tuple[Span, ...], taken: list[Span], left: list[Span]) -> None:
    assert _without(spans, taken) == left


def test_a_guest_that_makes_up_volumes_costs_its_own_row_alone() -> None:
    """Each line maps all pieces of the volume below: what is followed of that is limited."""
    many = [f"table luks: {n} 1 linear 254:2 {n * 2}" for n in range(2000)]
    more = [f"table vg-root: {n * 2000} 2000 linear 253:1 0" for n in range(2000)]
    luks = block("luks", _lv(), type="lvm", path="/dev/mapper/luks", size=2000 * 512)
    found = _areas(part("vda2", luks, size=923 * MIB), mounts=ROOT, tables=tuple(many + more))
    assert found[0].spans is None


_VOLUME = part(
    "vda1",
    block("vg-root", type="lvm", path="/dev/mapper/vg-root", size=50 * MIB, fstype="ext4"),
    size=100 * MIB,
    fstype="LVM2_member",
)


@pytest.mark.parametrize(
    ("children", "tables", "source", "device"),
    [
        pytest.param([part("vda1", size=100 * MIB, fstype="ext4")], (), "/dev/vda1", "/dev/vda1", id="partition"),
        pytest.param(
            [_VOLUME],
            ("table vg-root: 0 102400 linear 254:1 2048",),
            "/dev/mapper/vg-root",
            "/dev/mapper/vg-root",
            id="linear-volume",
        ),
        pytest.param(
            [_VOLUME],
            ("table vg-root: 0 51200 linear 254:1 2048", "table vg-root: 51200 51200 linear 254:9 2048"),
            "/dev/mapper/vg-root",
            "",
            id="half-of-it-is-elsewhere",
        ),
        pytest.param(
            [
                part(
                    "vda1",
                    block("md0", type="raid1", path="/dev/md0", size=99 * MIB, fstype="ext4"),
                    size=100 * MIB,
                    fstype="linux_raid_member",
                )
            ],
            (),
            "/dev/md0",
            "",
            id="mirror",
        ),
    ],
)
def test_the_device_of_an_area_is_known_if_its_places_are_exact(
    children: list[dict[str, Any]], tables: tuple[str, ...], source: str, device: str
) -> None:
    mounts = [mounted("/", source, size=40 * MIB, used=10 * MIB)]
    (found,) = (area for area in _areas(*children, mounts=mounts, tables=tables) if area.kind == "filesystem")
    assert (found.device, found.fstype, found.mount) == (device, "ext4", "/")
