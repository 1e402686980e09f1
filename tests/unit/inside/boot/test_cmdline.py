"""Kernel command lines: the devices that they name, and the same lines with names that stay."""

from __future__ import annotations

import pytest

from reclaim.inside.boot import cmdline
from reclaim.inside.boot.cmdline import Name
from reclaim.inside.fstab import SMALL_TAGS
from tests.support import Inside, block, mounted, part

DEVICES = [
    block(
        "vda",
        part("vda1", uuid="aaaa-1", fstype="ext4", partuuid="p-1"),
        part("vda2", uuid="aaaa-2", fstype="swap", partuuid="p-2"),
        part("vda3", uuid="aaaa-3", fstype="crypto_LUKS", partuuid="p-3"),
        part("vda4", partuuid="p-4"),
    ),
    block("vdb", part("vdb1", fstype="ext4")),
]


def _inside(line: str = "") -> Inside:
    return Inside(devices=DEVICES, mounts=[mounted("/", "/dev/vda1")], command_line=line)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("root=/dev/vda1 ro", [Name("root", "/dev/vda1", "/dev/vda1")]),
        ('root="/dev/vda1"', [Name("root", "/dev/vda1", "/dev/vda1")]),
        (
            "root=/dev/disk/by-path/pci-1-part1",
            [Name("root", "/dev/disk/by-path/pci-1-part1", "/dev/disk/by-path/pci-1-part1")],
        ),
        ("rootflags=device=/dev/vdb,ro", [Name("rootflags", "device=/dev/vdb,ro", "/dev/vdb")]),
        ("cryptdevice=/dev/vda3:root", [Name("cryptdevice", "/dev/vda3:root", "/dev/vda3")]),
        ("kernelopts=root=/dev/vda1 x", [Name("root", "/dev/vda1", "/dev/vda1")]),
        ("root=254:1", [Name("root", "254:1", "")]),
        ("resume=fe01 root=801", [Name("resume", "fe01", ""), Name("root", "801", "")]),
        (
            "root=/dev/xvda1 root=/dev/hda",
            [Name("root", "/dev/xvda1", "/dev/xvda1"), Name("root", "/dev/hda", "/dev/hda")],
        ),
        ("root=UUID=x root=/dev/mapper/a root=/dev/nvme0n1p1 root=LABEL=vda1", []),
        ("root=/dev/vdafter/x root=/dev/vda1x init=/sbin/vda1 nr=801 xroot=fe01x root=fe01x", []),
        ("root= =/dev/vda1 xyz", []),
        ("/dev/vda1 ro", []),
        (
            'quiet dm-mod.create="a,,,ro,0 10 linear /dev/vda1 0; b,,,ro,0 10 linear /dev/vdb 0" ro',
            [
                Name("dm-mod.create", "… /dev/vda1", "/dev/vda1"),
                Name("dm-mod.create", "… /dev/vdb", "/dev/vdb"),
            ],
        ),
        ("changes=/dev/vda1/live", [Name("changes", "/dev/vda1/live", "/dev/vda1")]),
        ("root=/dev/block/254:1", [Name("root", "/dev/block/254:1", "/dev/block/254:1")]),
        ("root=0xfe01", [Name("root", "0xfe01", "")]),
        ("alpine_dev=vda1 tce=sda1", [Name("alpine_dev", "vda1", ""), Name("tce", "sda1", "")]),
        ("modloop=vda1:/boot home=xvda1/x", [Name("modloop", "vda1:/boot", ""), Name("home", "xvda1/x", "")]),
        (
            "stage2=hd:vda1:/ blkdevparts=vda:1M(x)",
            [Name("stage2", "hd:vda1:/", ""), Name("blkdevparts", "vda:1M(x)", "")],
        ),
        (
            "systemd.mask=dev-vda3.swap systemd.wants=dev-vdb1.device",
            [Name("systemd.mask", "dev-vda3.swap", ""), Name("systemd.wants", "dev-vdb1.device", "")],
        ),
        ("rd.lvm.vg=hdd rd.lvm.lv=hdd/root rd.lvm.lv=vda-data/x BOOT_IMAGE=(hd0,gpt2)/vmlinuz", []),
        ("root=/dev/vdata/root init=/sbin/vda1 ostree=/ostree/boot.1/sda1 root=LABEL=sda1", []),
        ("ip=10.0.0.2::10.0.0.1:255.255.255.0:host:eth0:off console=hvc0", []),
    ],
)
def test_the_parameters_that_name_a_device_by_its_bus(line: str, names: list[Name]) -> None:
    assert cmdline.names(line) == names


def test_a_name_is_shown_as_it_is_written() -> None:
    assert [str(name) for name in cmdline.names("quiet rootflags=device=/dev/vdb,ro")] == [
        "rootflags=device=/dev/vdb,ro"
    ]


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("quiet", []),
        ("root=UUID=x", ["root=UUID=x", "root=UUID=x", "UUID=x", "UUID=x"]),
        ("a=b:c,d", ["a=b:c,d", "a=b"]),
        ("a=b;c x=y", ["a=b;c", "a=b", "x=y", "x=y"]),
        ("A=root=UUID=x", ["A=root=UUID=x"] * 2 + ["root=UUID=x"] * 2 + ["UUID=x"] * 2),
        ("A=B=C=D=E", ["A=B=C=D=E"] * 2 + ["B=C=D=E"] * 2 + ["C=D=E"] * 2),
    ],
)
def test_parameters_also_within_values(text: str, parameters: list[str]) -> None:
    assert list(cmdline.parameters(text)) == parameters


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("root=/dev/vda1 ro", "root=UUID=aaaa-1 ro"),
        ("a  root='/dev/vda1'\tresume=\"/dev/vda2\"", "a  root='UUID=aaaa-1'\tresume=\"UUID=aaaa-2\""),
        ("root=/dev/vda4", "root=PARTUUID=p-4"),
        ("cryptdevice=/dev/vda3:r:x root=/dev/mapper/r", "cryptdevice=UUID=aaaa-3:r:x root=/dev/mapper/r"),
        ("cryptdevice=/dev/vda3", "cryptdevice=UUID=aaaa-3"),
        ("kernelopts=root=/dev/vda1 ro", "kernelopts=root=UUID=aaaa-1 ro"),
        ("boot=/dev/vda1 mount.usr=/dev/vda1", "boot=UUID=aaaa-1 mount.usr=UUID=aaaa-1"),
        ("real_root=/dev/vda1 cryptroot=/dev/vda3", "real_root=UUID=aaaa-1 cryptroot=UUID=aaaa-3"),
        ("root=/dev/vdb1 root=/dev/vdz1 rd.root=/dev/vda1 root=254:1", None),
        ("rootflags=device=/dev/vda1 root=/dev/vda1:x init=/dev/vda1", None),
        ("root=LABEL=x quiet", None),
    ],
)
def test_what_is_understood_is_named_stably_and_nothing_else(line: str, after: str | None) -> None:
    assert cmdline.named_stably(_inside().facts(), line) == (line if after is None else after)


def test_only_tags_that_are_known_there_are_used() -> None:
    facts = _inside().facts()
    line = "root=/dev/vda1 resume=/dev/vda4"
    assert cmdline.named_stably(facts, line, ("PARTUUID",)) == "root=PARTUUID=p-1 resume=PARTUUID=p-4"
    assert cmdline.named_stably(facts, line, SMALL_TAGS) == "root=UUID=aaaa-1 resume=/dev/vda4"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rootflags=device=/dev/vdb", "does not understand"),
        ("root=254:1", "does not understand"),
        ("root=fe01", "does not understand"),
        ("root=/dev/vdz1", "not there"),
        ("ROOT=/dev/vdz1", "not there"),
        ("root=/dev/vdb1", "no UUID"),
        ("RESUME=/dev/vdb1", "no UUID"),
        ("cryptdevice=/dev/vdz1:x", "not there"),
        ("/dev/vdz1", "not there"),
        ("/dev/vdb1", "no UUID"),
        ("", "does not understand"),
    ],
)
def test_why_a_name_stays(name: str, words: str) -> None:
    assert words in cmdline.why_it_stays(_inside().facts(), name)


def test_a_root_that_two_disks_have_is_named() -> None:
    inside = _inside("quiet root=UUID=cccc resume=UUID=aaaa-2 cryptdevice=UUID=cccc:r x=UUID=cccc\n")
    inside.devices = [*DEVICES, *(block(f"vd{name}", part(f"vd{name}1", uuid="cccc", fstype="ext4")) for name in "cd")]
    root, crypt = cmdline.clones(inside.facts())
    assert root.startswith("root=UUID=cccc is that of ")
    assert crypt.startswith("cryptdevice=UUID=cccc is that of ")
    for path in ("/dev/vdc1", "/dev/vdd1"):
        assert path in root
    assert cmdline.clones(_inside("root=UUID=aaaa-1\n").facts()) == []
