"""disc-max: the check and the fixer as a pair. The fixer proposes nothing: it names what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reclaim.change import FileChange
from reclaim.inventory import Inventory, Policy
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


#: /etc/crypttab as the Debian installer writes it, without the `discard` it adds by itself
CRYPTTAB = "# <target name> <source device> <key file> <options>\nsda1_crypt UUID=luks-1 {}\nother UUID=x none luks\n"
REBUILD = "update-initramfs -u -k all"
ALLOWED = Inventory(policy=Policy(luks_discard=True))


def _crypt(text: str, inventory: Inventory | None, folder: Path, **more: Any) -> tuple[Inside, Guest]:
    crypt = part("sda1_crypt", path="/dev/mapper/sda1_crypt", type="crypt", fstype="ext4", disc_max=0)
    devices = [block("sda", part("sda1", crypt, uuid="luks-1", fstype="crypto_LUKS"))]
    inside = Inside(devices=devices, mounts=[mounted("/", "/dev/mapper/sda1_crypt")], **more)
    inside.files["/etc/crypttab"] = text
    inside.commands[REBUILD] = lambda _: 0
    return inside, inhabited(folder, inside, inventory=inventory)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("none luks", "none luks,discard"),
        ("none\tluks,keyscript=/bin/x\t", "none\tluks,keyscript=/bin/x,discard\t"),
        ("none", "none luks,discard"),
    ],
)
def test_luks_is_opened_for_discards_where_the_policy_says_so(tmp_path: Path, before: str, after: str) -> None:
    inside, guest = _crypt(CRYPTTAB.format(before), ALLOWED, tmp_path)
    others = {path: text for path, text in inside.files.items() if path != "/etc/crypttab"}
    assert requirement("disc-max").fixer(guest) == [
        FileChange("one", "/etc/crypttab", CRYPTTAB.format(before), CRYPTTAB.format(after), then=REBUILD)
    ]
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("disc-max"), subject(guest))
    assert (result.verdict, inside.ran[-1]) == (Verdict.PENDING, REBUILD)
    assert "crypttab says `discard` for sda1_crypt: it counts from the guest's next boot" in result.reason
    assert inside.files == {**others, "/etc/crypttab": CRYPTTAB.format(after)}
    again = engine(guest.hypervisor, tmp_path, force=True).run(requirement("disc-max"), subject(guest))
    assert (again.verdict, again.changes) == (Verdict.PENDING, [])


@pytest.mark.parametrize(
    ("text", "inventory", "more", "words"),
    [
        pytest.param(
            CRYPTTAB.format("none luks"), None, {}, "`luks_discard = true` in the inventory", id="not-allowed"
        ),
        pytest.param("other UUID=x none luks\n", ALLOWED, {}, "rd.luks.options=discard", id="not-in-crypttab"),
        pytest.param(
            CRYPTTAB.format("none luks"), ALLOWED, {"tools": ()}, "is installed in the guest", id="no-builder"
        ),
    ],
)
def test_luks_is_left_where_nobody_allowed_it_or_it_is_opened_elsewhere(
    tmp_path: Path, text: str, inventory: Inventory | None, more: dict[str, Any], words: str
) -> None:
    inside, guest = _crypt(text, inventory, tmp_path, **more)
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("disc-max"), subject(guest))
    assert (result.verdict, result.changes, inside.ran) == (Verdict.NONCOMPLIANT, [], [])
    assert words in result.reason.partition("withheld: ")[2]
    assert inside.files["/etc/crypttab"] == text


@pytest.mark.parametrize(
    ("device", "words"),
    [
        pytest.param(part("bcache0", fstype="xfs", disc_max=0), "/dev/bcache0: the layer named has to be", id="bcache"),
        pytest.param(part("md0", type="raid5", fstype="xfs", disc_max=0), "devices_handle_discard_safely", id="raid5"),
        pytest.param(part("vg-lv", type="lvm", fstype="xfs", disc_max=0), "lvs -o name,segtype", id="lvm"),
        pytest.param(part("sda1", fstype="xfs", disc_max=0), "/dev/sda1: the layer named", id="partition"),
    ],
)
def test_the_layer_that_swallows_is_told_with_what_mends_it(tmp_path: Path, device: dict[str, Any], words: str) -> None:
    guest = _guest(tmp_path, [block("sda", device)], [mounted("/", device["path"], "xfs")])
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("disc-max"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert result.reason.startswith(f"DISC-MAX is 0 on {device['path']} ({device['type']}) under /; ")
    assert words in result.reason.partition("withheld: ")[2]
