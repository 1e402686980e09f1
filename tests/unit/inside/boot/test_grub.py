"""GRUB 2: the names in its menus and defaults, what is rewritten, and the disk that it boots from."""

from __future__ import annotations

import pytest

from reclaim.inside.boot.grub import boot_disk, default_names, defaults, defaults_named_stably, menu_names
from tests.support import Inside, block, mounted, part

DEVICES = [
    block(
        "vda",
        part("vda1", uuid="root", fstype="ext4", partuuid="p-1"),
        part("vda5", uuid="swap", fstype="swap", partuuid="p-5"),
    ),
    block("vdb", part("vdb1", fstype="ext4")),
]


def _inside(**files: str) -> Inside:
    names = {"menu": "/boot/grub/grub.cfg", "grub": "/etc/default/grub", "resume": "/etc/initramfs-tools/conf.d/resume"}
    return Inside(files={names.get(name, name): text for name, text in files.items()}, devices=DEVICES)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("\tlinux /vmlinuz root=/dev/vda1 ro", ["root=/dev/vda1"]),
        ("\tlinux /v root=/dev/vda1 resume=/dev/disk/by-id/x", ["root=/dev/vda1", "resume=/dev/disk/by-id/x"]),
        ("linux16 /v root=/dev/sda1", ["root=/dev/sda1"]),
        ("\tlinux /v root=UUID=x resume=UUID=y", []),
        ("\tlinux /v root=/dev/mapper/vg-root", []),
        ("\tlinux /v overlayroot=/dev/vda1 x.root=/dev/vdb", ["overlayroot=/dev/vda1", "x.root=/dev/vdb"]),
        ("\tlinux /v rootflags=device=/dev/vdb,subvol=@", ["rootflags=device=/dev/vdb,subvol=@"]),
        ("\tlinux /v cryptdevice=/dev/vda3:root:allow-discards", ["cryptdevice=/dev/vda3:root:allow-discards"]),
        ("\tlinux /v md=0,/dev/sda1,/dev/sdb1", ["md=0,/dev/sda1,/dev/sdb1"]),
        ("\tlinux /v rd.luks.options=x=/dev/mapper/vda1 console=/dev/ttyS0 init=/dev/vdafter/x", []),
        ("\tlinux /v root='/dev/vda1' ro", ["root=/dev/vda1"]),
        ("\tsearch --set=root /dev/vda1", []),
        ("\tlinux /v root=254:1 ro", ["root=254:1"]),
        ("\tlinux /v root=fe01 resume=805", ["root=fe01", "resume=805"]),
        ("\tlinux /v root=dhcp root=nfs root=live:x resume=none nr=801", []),
        ("#\tlinux /v root=/dev/vda1", []),
        ("\tlinuxx /v root=/dev/vda1", []),
    ],
)
def test_names_in_the_menu(line: str, names: list[str]) -> None:
    found = menu_names(_inside(menu=f"{line}\n").facts())
    assert [str(name) for listed in found.values() for name in listed] == names


def test_the_files_of_update_grub_are_known_by_their_paths() -> None:
    inside = Inside(
        files={
            "/etc/default/grub": "a",
            "/etc/default/grub.d/50-x.cfg": "b",
            "/etc/default/grub.d/x": "c",
            "/etc/default/grubby": "d",
            "/etc/grub.d/40_custom": "e",
        }
    )
    assert sorted(defaults(inside.facts())) == ["/etc/default/grub", "/etc/default/grub.d/50-x.cfg"]


@pytest.mark.parametrize(
    ("text", "after"),
    [
        pytest.param('GRUB_CMDLINE_LINUX="root=/dev/vda1"', 'GRUB_CMDLINE_LINUX="root=UUID=root"', id="root"),
        pytest.param(
            "export GRUB_CMDLINE_LINUX_DEFAULT='quiet resume=/dev/vda5 x'",
            "export GRUB_CMDLINE_LINUX_DEFAULT='quiet resume=UUID=swap x'",
            id="resume-single-quoted",
        ),
        pytest.param(
            "GRUB_CMDLINE_LINUX='root=\"/dev/vda1\" x'", "GRUB_CMDLINE_LINUX='root=\"UUID=root\" x'", id="in-quotes"
        ),
        pytest.param('GRUB_CMDLINE_LINUX="root=/dev/vdb1"', 'GRUB_CMDLINE_LINUX="root=/dev/vdb1"', id="without-a-name"),
        pytest.param('GRUB_CMDLINE_LINUX="root=/dev/vdz1"', 'GRUB_CMDLINE_LINUX="root=/dev/vdz1"', id="not-there"),
        pytest.param("# GRUB_CMDLINE_LINUX=root=/dev/vda1", "# GRUB_CMDLINE_LINUX=root=/dev/vda1", id="comment"),
        pytest.param("GRUB_DEVICE=root=/dev/vda1", "GRUB_DEVICE=root=/dev/vda1", id="another-variable"),
        pytest.param("GRUB_DISABLE_LINUX_UUID=true", "#GRUB_DISABLE_LINUX_UUID=true", id="uuids-disabled"),
        pytest.param(' GRUB_DISABLE_LINUX_UUID="true" # x', '# GRUB_DISABLE_LINUX_UUID="true" # x', id="quoted"),
        pytest.param("GRUB_DISABLE_UUID=true", "#GRUB_DISABLE_UUID=true", id="all-uuids-disabled"),
        pytest.param("GRUB_DISABLE_LINUX_UUID=false", "GRUB_DISABLE_LINUX_UUID=false", id="uuids-allowed"),
        pytest.param("#GRUB_DISABLE_LINUX_UUID=true", "#GRUB_DISABLE_LINUX_UUID=true", id="already-a-comment"),
    ],
)
def test_defaults_are_rewritten_and_nothing_else(text: str, after: str) -> None:
    facts = _inside().facts()
    around = "# top \udcff\n{}\n\n# root=/dev/vda1\n"
    assert defaults_named_stably(facts, around.format(text)) == around.format(after)


def test_defaults_that_are_rewritten_have_no_names_left() -> None:
    text = 'GRUB_CMDLINE_LINUX="root=/dev/vda1 resume=/dev/vda5"\n'
    assert len(default_names(text)) == 2
    assert default_names(defaults_named_stably(_inside().facts(), text)) == []


def test_the_boot_disk_is_the_one_under_boot_else_under_root() -> None:
    inside = _inside()
    inside.mounts = [mounted("/", "/dev/vda1"), mounted("/boot", "/dev/vdb1")]
    assert getattr(boot_disk(inside.facts()), "name", None) == "vdb"
    inside.mounts = [mounted("/", "/dev/vda1[/@root]", "btrfs")]
    assert getattr(boot_disk(inside.facts()), "name", None) == "vda"
    inside.mounts = [mounted("/", "overlay")]
    assert boot_disk(inside.facts()) is None
