"""disc-max: the check and the fixer as a pair. The fixer proposes nothing: it names what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reclaim.base.verdict import Verdict
from reclaim.changes.file_change import FileChange
from reclaim.inventory import Inventory, Policy
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

    from reclaim.handles.guest import Guest


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
        # `luks` would keep plain dm-crypt, which systemd takes it for without a header, from being opened
        ("none", "none discard"),
        ("/root/key", "/root/key discard"),
        ("", "none discard"),
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
    assert "crypttab has `discard` for sda1_crypt: it takes effect at the guest's next boot" in result.reason
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
            "# Ansible managed\n" + CRYPTTAB.format("none luks"),
            ALLOWED,
            {},
            'crypttab is marked "Ansible managed", and would be written again: add `discard` in the source',
            id="written-again",
        ),
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


def _lvm(name: str, *above: dict[str, Any], **more: Any) -> dict[str, Any]:
    return part(name, *above, path=f"/dev/mapper/{name}", type="lvm", **more)


#: `dmsetup status --target thin-pool` (Linux's admin-guide/device-mapper/thin-provisioning)
THIN = "vg-pool-tpool: 0 8192 thin-pool 1 11/1024 0/64 - rw {} queue_if_no_space - 1024\n"


def _thin(**meta: Any) -> list[dict[str, Any]]:
    """lsblk on a thin volume: both of the pool's hidden volumes lead to it."""
    pool = _lvm("vg-pool-tpool", _lvm("vg-root", fstype="xfs"))
    return [block("sda", part("sda1", _lvm("vg-pool_tmeta", pool, **meta), _lvm("vg-pool_tdata", pool)))]


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("discard_passdown", Verdict.COMPLIANT),
        ("no_discard_passdown", Verdict.NONCOMPLIANT),
        ("ignore_discard", Verdict.NONCOMPLIANT),
    ],
)
def test_a_thin_pool_may_keep_discards_whatever_disc_max_says(tmp_path: Path, status: str, verdict: Verdict) -> None:
    mounts = [mounted("/", "/dev/mapper/vg-root", "xfs")]
    guest = inhabited(tmp_path, Inside(devices=_thin(disc_max=0), mounts=mounts, thin=THIN.format(status)))
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("disc-max"), subject(guest))
    assert (result.verdict, result.changes) == (verdict, [])
    if verdict is Verdict.NONCOMPLIANT:
        assert result.reason.startswith("a thin pool passes no discards down: vg-pool-tpool under /; withheld: ")
        assert "lvchange --discards passdown" in result.reason


def test_a_pool_that_nothing_mounted_lies_on_says_nothing(tmp_path: Path) -> None:
    devices = [block("sda", part("sda1", fstype="ext4"))]
    guest = inhabited(
        tmp_path, Inside(devices=devices, mounts=[mounted("/", "/dev/sda1")], thin=THIN.format("ignore_discard"))
    )
    assert verdict_of(guest, "disc-max") is Verdict.COMPLIANT


@pytest.mark.parametrize(
    ("devices", "mount", "named", "words"),
    [
        pytest.param(
            [block("sda", part("sda1", _lvm("vg-a-real", _lvm("vg-a", fstype="ext4", disc_max=0))))],
            "/dev/mapper/vg-a",
            "/dev/mapper/vg-a (lvm)",
            "it has a snapshot",
            id="origin-of-a-snapshot",
        ),
        pytest.param(
            [block("sda", part("sda1", part("i", type="crypt", fstype="ext4", disc_max=0), fstype="DM_integrity"))],
            "/dev/i",
            "/dev/i (crypt)",
            "allow-discards` in integritytab(5)",
            id="dm-integrity",
        ),
        pytest.param(
            [
                block(
                    "sda",
                    part(
                        "sda1",
                        part("r_dif", part("r", type="crypt", fstype="ext4", disc_max=0), type="crypt", disc_max=0),
                        fstype="crypto_LUKS",
                    ),
                )
            ],
            "/dev/r",
            "/dev/r_dif (crypt)",
            "and never below LUKS",
            id="luks2-with-integrity",
        ),
        pytest.param(
            [
                block("sda", part("mpa", part("mpa1", fstype="ext4", disc_max=0), type="mpath", disc_max=0)),
                block("sdb", part("mpa", part("mpa1", fstype="ext4", disc_max=0), type="mpath", disc_max=0)),
            ],
            "/dev/mpa1",
            "/dev/mpa (mpath)",
            "by hand",
            id="multipath",
        ),
        pytest.param(
            [
                block("sda", part("md0", type="raid1", disc_max=0, fstype="ext4")),
                block("sdb", part("md0", type="raid1", disc_max=0, fstype="ext4")),
            ],
            "/dev/md0",
            "/dev/md0 (raid1)",
            "by hand",
            id="md",
        ),
    ],
)
def test_each_kind_of_layer_is_told_for_what_it_is(
    tmp_path: Path, *, devices: list[dict[str, Any]], mount: str, named: str, words: str
) -> None:
    guest = inhabited(tmp_path, Inside(devices=devices, mounts=[mounted("/", mount)]), inventory=ALLOWED)
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("disc-max"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert result.reason.startswith(f"DISC-MAX is 0 on {named} under /; withheld: ")
    assert words in result.reason


@pytest.mark.parametrize(("disc_max", "verdict"), [(512, Verdict.COMPLIANT), (0, Verdict.NONCOMPLIANT)])
def test_every_disk_of_a_btrfs_counts(tmp_path: Path, disc_max: int, verdict: Verdict) -> None:
    devices = [block("sda", uuid="b", fstype="btrfs"), block("sdb", uuid="b", fstype="btrfs", disc_max=disc_max)]
    mounts = [mounted("/", "/dev/sda[/@]", "btrfs"), mounted("/home", "/dev/sdb[/@home]", "btrfs")]
    guest = inhabited(tmp_path, Inside(devices=devices, mounts=mounts, btrfs="b\tsda\nb\tsdb\n"))
    result = engine(guest.hypervisor, tmp_path, "audit").run(requirement("disc-max"), subject(guest))
    assert result.verdict is verdict
    if verdict is Verdict.NONCOMPLIANT:
        assert result.reason == "DISC-MAX is 0 on /dev/sdb (disk) under /"


@pytest.mark.parametrize("name", ["zram0", "nbd0", "loop0", "ram0"])
def test_what_is_no_disk_of_the_definition_says_nothing(tmp_path: Path, name: str) -> None:
    kind = "loop" if name == "loop0" else "disk"
    devices = [block("sda", part("sda1", fstype="ext4")), block(name, type=kind, fstype="ext4", disc_max=0)]
    mounts = [mounted("/", "/dev/sda1"), mounted("/x", f"/dev/{name}")]
    assert verdict_of(inhabited(tmp_path, Inside(devices=devices, mounts=mounts)), "disc-max") is Verdict.COMPLIANT


@pytest.mark.parametrize("deaf", ["the scsi disk", "the virtio disk", "both"])
@pytest.mark.parametrize("turned", [False, True], ids=["virtio first", "scsi first"])
def test_the_advice_is_about_the_disk_that_is_deaf(tmp_path: Path, deaf: str, *, turned: bool) -> None:
    virtio = disk_xml("vda", inner="<serial>first</serial>")
    scsi = disk_xml("sdb", "scsi", inner=f"<serial>second</serial>{drive(0)}")
    of_virtio, of_scsi = (0 if deaf in (f"the {bus} disk", "both") else 512 for bus in ("virtio", "scsi"))
    devices = [
        block("vda", part("vda1", fstype="ext4", disc_max=of_virtio), disc_max=of_virtio, serial="first"),
        block("sdb", part("sdb1", fstype="ext4", disc_max=of_scsi), disc_max=of_scsi, serial="second"),
    ]
    mounts = [mounted("/", "/dev/vda1"), mounted("/data", "/dev/sdb1")]
    xml = (scsi, virtio) if turned else (virtio, scsi)
    guest = _guest(tmp_path, devices, mounts, *xml, scsi_xml(), machine="pc-q35-3.1")
    result = engine(guest.hypervisor, tmp_path).run(requirement("disc-max"), subject(guest))
    advice = result.reason.partition("withheld: ")[2]
    assert ("/dev/vda: virtio-blk on pc-q35-3.1" in advice) == (deaf != "the scsi disk")
    assert ("/dev/sdb: the layer named" in advice) == (deaf != "the virtio disk")
