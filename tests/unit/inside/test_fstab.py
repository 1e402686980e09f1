"""fstab(5): one field is replaced, every other byte stays."""

from __future__ import annotations

import random

import pytest

from reclaim.inside.fstab import (
    FstabEntry,
    entries,
    is_renamed_by_bus,
    named_by_bus,
    replace_device,
    stable_name,
    unescape,
)
from tests.support import Inside, block, part


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        pytest.param(
            "/dev/vda1 / ext4 rw,noatime 0 1",
            FstabEntry(1, "/dev/vda1", "/", "ext4", ("rw", "noatime")),
            id="six-fields",
        ),
        pytest.param("/dev/vda1\t/\text4\trw", FstabEntry(1, "/dev/vda1", "/", "ext4", ("rw",)), id="tabs"),
        pytest.param(
            "  \t/dev/vda1   /  ext4", FstabEntry(1, "/dev/vda1", "/", "ext4", ("defaults",)), id="leading-space"
        ),
        pytest.param("/dev/vda1 /", FstabEntry(1, "/dev/vda1", "/", "auto", ("defaults",)), id="two-fields"),
        pytest.param("/dev/vda1", FstabEntry(1, "/dev/vda1", "", "auto", ("defaults",)), id="one-field"),
        pytest.param("/a\\040b /c\\011d x", FstabEntry(1, "/a b", "/c\td", "x", ("defaults",)), id="escapes"),
        pytest.param(
            "/dev/vda1 / ext4 rw 0 1\r", FstabEntry(1, "/dev/vda1", "/", "ext4", ("rw",)), id="carriage-return"
        ),
        pytest.param(
            "/dev/vda1 /a\u00a0b ext4 rw", FstabEntry(1, "/dev/vda1", "/a\u00a0b", "ext4", ("rw",)), id="no-break-space"
        ),
        pytest.param("/dev/vda1\r", FstabEntry(1, "/dev/vda1", "", "auto", ("defaults",)), id="one-field-and-return"),
        pytest.param("\r", None, id="only-a-return"),
        pytest.param("# /dev/vda1 / ext4", None, id="comment"),
        pytest.param("   # /dev/vda1 / ext4", None, id="indented-comment"),
        pytest.param(" \t ", None, id="blank"),
        pytest.param("", None, id="empty"),
    ],
)
def test_a_line_is_taken_apart(line: str, entry: FstabEntry | None) -> None:
    assert list(entries(line)) == ([entry] if entry else [])


def test_lines_are_counted_with_comments_and_blanks() -> None:
    assert [entry.number for entry in entries("# a\n\n/dev/vda1 /\n#\nproc /proc proc")] == [3, 5]


@pytest.mark.parametrize(
    ("field", "text"), [(r"\040", " "), (r"\011", "\t"), (r"\134", "\\"), (r"a\0b", r"a\0b"), (r"\\040", "\\ ")]
)
def test_octal_escapes(field: str, text: str) -> None:
    assert unescape(field) == text


@pytest.mark.parametrize(
    ("options", "optional"), [("defaults", False), ("noauto", True), ("rw,nofail", True), ("nofailure", False)]
)
def test_is_optional(options: str, *, optional: bool) -> None:
    [entry] = entries(f"/dev/vda1 / ext4 {options}")
    assert entry.is_optional is optional


def test_a_btrfs_names_its_other_devices_in_its_options() -> None:
    [entry] = entries("UUID=a /b btrfs device=/dev/vdb,compress=zstd,device=/dev/vdc")
    assert entry.devices == ("UUID=a", "/dev/vdb", "/dev/vdc")


@pytest.mark.parametrize(
    ("device", "renamed"),
    [
        ("/dev/vda", True),
        ("/dev/vda1", True),
        ("/dev/sdab12", True),
        ("/dev/hda", True),
        ("/dev/xvda1", True),
        ("/dev/dm-0", True),
        ("/dev/disk/by-path/pci-0000:00:07.0", True),
        ("/dev/disk/by-id/virtio-x", True),
        ("/dev/disk/by-id/ata-QEMU_HARDDISK_QM1-part1", True),
        ("/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_drive-scsi0-0-0-0", True),
        ("/dev/disk/by-id/dm-name-vg-root", False),
        ("/dev/disk/by-id/dm-uuid-LVM-x", False),
        ("/dev/disk/by-id/md-uuid-1:2:3:4", False),
        ("/dev/disk/by-id/md-name-host:0", False),
        ("/dev/disk/by-id/lvm-pv-uuid-x", False),
        ("/dev/disk/by-id/mdadm", True),
        ("/dev/zvol/pool/x", False),
        ("/dev/bcache0", False),
        ("/dev/loop0", False),
        ("/dev/sr0", False),
        ("/dev/fd0", False),
        ("/dev/disk/by-uuid/a", False),
        ("/dev/disk/by-label/a", False),
        ("/dev/disk/by-partuuid/a", False),
        ("/dev/mapper/a", False),
        ("/dev/vg/vda1", False),
        ("/dev/nvme0n1p1", False),
        ("/dev/md0", False),
        ("UUID=vda", False),
        ("LABEL=/dev/vda1", False),
        ("/srv/dev/vda1", False),
        ("/dev/sda1\n", False),
        ("/dev/sd", False),
        ("", False),
    ],
)
def test_is_renamed_by_bus(device: str, *, renamed: bool) -> None:
    assert is_renamed_by_bus(device) is renamed


@pytest.mark.parametrize(
    ("line", "old", "after"),
    [
        pytest.param("/dev/vda1 /x/dev/vda1 ext4", "/dev/vda1", "NEW /x/dev/vda1 ext4", id="only-the-source"),
        pytest.param("UUID=a /b btrfs device=/dev/vda1,x", "/dev/vda1", "UUID=a /b btrfs device=NEW,x", id="option"),
        pytest.param(
            "UUID=a /b btrfs device=/dev/vda10,device=/dev/vda1",
            "/dev/vda1",
            "UUID=a /b btrfs device=/dev/vda10,device=NEW",
            id="not-its-namesake",
        ),
        pytest.param(
            "UUID=a /b btrfs device=/dev/disk/by-id/a-b,device=/dev/disk/by-id/a.b",
            "/dev/disk/by-id/a.b",
            "UUID=a /b btrfs device=/dev/disk/by-id/a-b,device=NEW",
            id="no-pattern",
        ),
        pytest.param("/dev/vda\\0611 / ext4", "/dev/vda11", "NEW / ext4", id="escaped-source"),
    ],
)
def test_replace_device(line: str, old: str, after: str) -> None:
    assert replace_device(line, old, "NEW", option="device=" in line) == after


def test_what_options_name() -> None:
    [entry] = entries(
        "UUID=a /b ext4 journal_path=/dev/vdb1,logdev=/dev/vdc1,journal_dev=0xfd11,x-systemd.requires=dev-vda1.device,"
        "x-systemd.requires=/dev/vdd1,x-systemd.device-timeout=5,x-systemd.requires=dev-mapper-x.device,loop=/dev/loop1"
    )
    assert entry.devices == ("UUID=a", "/dev/vdb1", "/dev/vdc1", "/dev/vdd1", "/dev/loop1")
    assert entry.opaque == ("journal_dev=0xfd11", "x-systemd.requires=dev-vda1.device")


def test_a_line_without_entry_cannot_be_replaced() -> None:
    with pytest.raises(ValueError, match="'# c' is no entry"):
        replace_device("# c", "/dev/vda1", "x")


def _line(chance: random.Random) -> str:
    """A line of fstab, or of something like it."""
    space = "".join(chance.choice(" \t") for _ in range(chance.randint(1, 3)))
    fields = ["/dev/vda1", "UUID=x", "/", "/srv", "ext4", "rw", "device=/dev/vda1", "0", "#", "é", "\udcff", "\\040"]
    head = chance.choice(["", "", " ", "\t", "#", "# "])
    return head + space.join(chance.choice(fields) for _ in range(chance.randint(0, 6))) + chance.choice(["", "\r"])


def test_bytes_outside_the_changed_field_stay() -> None:
    chance = random.Random(7)
    changed = 0
    for _ in range(2000):
        text = "\n".join(_line(chance) for _ in range(chance.randint(1, 6)))
        for entry in entries(text):
            if entry.source != "/dev/vda1":
                continue
            changed += 1
            line = text.split("\n")[entry.number - 1]
            new = replace_device(line, "/dev/vda1", "UUID=new")
            assert new.replace("UUID=new", "/dev/vda1", 1) == line
            assert [one.target for one in entries(new)] == [entry.target]
    assert changed > 200


DEVICES = [
    block("vda", part("vda1", uuid="own", partuuid="p-1"), part("vda2", uuid="shared", partuuid="p-2")),
    block("vdb", part("vdb1", uuid="shared", partuuid="p-3"), part("vdb2", partuuid="p-4"), part("vdb3")),
    block("vdc", part("vdc1", uuid="both", partuuid="same"), part("vdc2", uuid="both", partuuid="same")),
    block(
        "vde",
        part("vde1", uuid="both", label="data"),
        part("vde2", uuid="both", label="twice", partlabel="Linux_home"),
        part("vde3", label="twice"),
        part("vde4", label="a b"),
    ),
    block("vdd", part("vdd1", uuid="x y", partuuid="p-5"), part("vdd2", uuid="$(reboot)")),
]


@pytest.mark.parametrize(
    ("name", "stable"),
    [
        pytest.param("vda1", "UUID=own", id="uuid"),
        pytest.param("vda2", "PARTUUID=p-2", id="a-clone-has-the-same-uuid"),
        pytest.param("vdb2", "PARTUUID=p-4", id="no-uuid"),
        pytest.param("vdb3", None, id="neither"),
        pytest.param("vdc1", None, id="both-shared"),
        pytest.param("vdd1", "PARTUUID=p-5", id="uuid-with-a-space"),
        pytest.param("vdd2", None, id="uuid-of-shell"),
        pytest.param("vde1", "LABEL=data", id="a-clone-with-a-label-of-its-own"),
        pytest.param("vde2", "PARTLABEL=Linux_home", id="a-clone-with-a-partlabel-of-its-own"),
        pytest.param("vde4", None, id="a-label-with-a-blank"),
    ],
)
def test_stable_name(name: str, stable: str | None) -> None:
    facts = Inside(devices=DEVICES).facts()
    device = facts.device(f"/dev/{name}")
    assert device
    assert stable_name(facts, device) == stable


def test_a_mirror_seen_from_both_legs_has_a_uuid_of_its_own() -> None:
    raid = part("md0", type="raid1", uuid="md")
    facts = Inside(devices=[block("vda", raid), block("vdb", raid)]).facts()
    device = facts.device("/dev/md0")
    assert device
    assert stable_name(facts, device) == "UUID=md"


ROOT_LINE = "UUID=aaaa-1 / ext4\n"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param(ROOT_LINE, [], id="by-uuid"),
        pytest.param("/dev/vda1 / ext4\n", ["line 1: /dev/vda1 on /"], id="source"),
        pytest.param(ROOT_LINE + "/dev/vdz1 /x ext4\n", ["line 2: /dev/vdz1 on /x"], id="gone-and-waited-for"),
        pytest.param(ROOT_LINE + "/dev/vdz1 /x ext4 nofail\n", [], id="gone-and-optional"),
        pytest.param("/dev/vda1 /x ext4 noauto\n", ["line 1: /dev/vda1 on /x"], id="there-and-optional"),
        pytest.param("UUID=aaaa-1 / xfs logdev=/dev/vda1\n", ["line 1: /dev/vda1 on /"], id="a-device-in-an-option"),
        pytest.param("UUID=aaaa-1 / ext4 journal_dev=8\n", ["line 1: journal_dev=8 on /"], id="a-number"),
        pytest.param(
            "UUID=cccc /c ext4\n", ["line 1: UUID=cccc on /c is that of /dev/vdb1 and /dev/vdc1"], id="clones"
        ),
        pytest.param(
            "UUID=cccc /c ext4\nUUID=aaaa-1 / ext4 journal_dev=8\n/dev/vda1 /x ext4\n",
            [
                "line 3: /dev/vda1 on /x",
                "line 2: journal_dev=8 on /",
                "line 1: UUID=cccc on /c is that of /dev/vdb1 and /dev/vdc1",
            ],
            id="by-kind",
        ),
    ],
)
def test_entries_that_a_change_of_bus_renames(text: str, named: list[str]) -> None:
    devices = [
        block("vda", part("vda1", uuid="aaaa-1", fstype="ext4")),
        block("vdb", part("vdb1", uuid="cccc", fstype="ext4")),
        block("vdc", part("vdc1", uuid="cccc", fstype="ext4")),
    ]
    assert named_by_bus(Inside(files={"/etc/fstab": text}, devices=devices).facts()) == named
