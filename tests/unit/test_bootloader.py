"""What a guest boots with: which names are found, and what is rewritten."""

from __future__ import annotations

import pytest

from reclaim.bootloader import (
    boot_disk,
    default_names,
    defaults,
    menu_names,
    named_stably,
    resume_names,
    resumed_stably,
)
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
        ("\tlinux /v overlayroot=/dev/vda1 x.root=/dev/vda1 x-root=/dev/vda1", []),
        ("\tsearch --set=root /dev/vda1", []),
        ("#\tlinux /v root=/dev/vda1", []),
        ("\tlinuxx /v root=/dev/vda1", []),
    ],
)
def test_names_in_the_menu(line: str, names: list[str]) -> None:
    assert [f"{name.parameter}={name.device}" for name in menu_names(_inside(menu=f"{line}\n").facts())] == names


def test_a_name_on_every_kernel_line_is_told_once() -> None:
    menu = "\tlinux /a root=/dev/vda1\n\tlinux /b root=/dev/vda1 single\n"
    [name] = menu_names(_inside(menu=menu).facts())
    assert str(name) == "/boot/grub/grub.cfg: root=/dev/vda1"


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
        pytest.param('GRUB_CMDLINE_LINUX="root=/dev/vdb1"', 'GRUB_CMDLINE_LINUX="root=/dev/vdb1"', id="without-a-name"),
        pytest.param('GRUB_CMDLINE_LINUX="root=/dev/vdz1"', 'GRUB_CMDLINE_LINUX="root=/dev/vdz1"', id="not-there"),
        pytest.param("# GRUB_CMDLINE_LINUX=root=/dev/vda1", "# GRUB_CMDLINE_LINUX=root=/dev/vda1", id="comment"),
        pytest.param("GRUB_DEVICE=root=/dev/vda1", "GRUB_DEVICE=root=/dev/vda1", id="another-variable"),
        pytest.param("GRUB_DISABLE_LINUX_UUID=true", "#GRUB_DISABLE_LINUX_UUID=true", id="uuids-disabled"),
        pytest.param(' GRUB_DISABLE_LINUX_UUID="true" # x', '# GRUB_DISABLE_LINUX_UUID="true" # x', id="quoted"),
        pytest.param("GRUB_DISABLE_LINUX_UUID=false", "GRUB_DISABLE_LINUX_UUID=false", id="uuids-allowed"),
        pytest.param("#GRUB_DISABLE_LINUX_UUID=true", "#GRUB_DISABLE_LINUX_UUID=true", id="already-a-comment"),
    ],
)
def test_defaults_are_rewritten_and_nothing_else(text: str, after: str) -> None:
    facts = _inside().facts()
    around = "# top \udcff\n{}\n\n# root=/dev/vda1\n"
    assert named_stably(facts, "/etc/default/grub", around.format(text)) == around.format(after)


def test_defaults_that_are_rewritten_have_no_names_left() -> None:
    text = 'GRUB_CMDLINE_LINUX="root=/dev/vda1 resume=/dev/vda5"\n'
    assert len(default_names(_inside(grub=text).facts())) == 2
    assert default_names(_inside(grub=named_stably(_inside().facts(), "/etc/default/grub", text)).facts()) == []


@pytest.mark.parametrize(
    ("text", "after", "found"),
    [
        ("RESUME=/dev/vda5\n", "RESUME=UUID=swap\n", 1),
        ('RESUME="/dev/vda5"\n', "RESUME=UUID=swap\n", 1),
        ("RESUME=/dev/vdb1\n", "RESUME=/dev/vdb1\n", 1),
        ("RESUME=UUID=x\n", "RESUME=UUID=x\n", 0),
        ("RESUME=none\n", "RESUME=none\n", 0),
        ("# RESUME=/dev/vda5\n", "# RESUME=/dev/vda5\n", 0),
        ("RESUME=/dev/mapper/vg-swap\n", "RESUME=/dev/mapper/vg-swap\n", 0),
    ],
)
def test_resume(text: str, after: str, found: int) -> None:
    facts = _inside(resume=text).facts()
    assert len(resume_names(facts)) == found
    assert resumed_stably(facts, text) == after


def test_the_boot_disk_is_the_one_under_boot_else_under_root() -> None:
    inside = _inside()
    inside.mounts = [mounted("/", "/dev/vda1"), mounted("/boot", "/dev/vdb1")]
    assert getattr(boot_disk(inside.facts()), "name", None) == "vdb"
    inside.mounts = [mounted("/", "/dev/vda1[/@root]", "btrfs")]
    assert getattr(boot_disk(inside.facts()), "name", None) == "vda"
    inside.mounts = [mounted("/", "overlay")]
    assert boot_disk(inside.facts()) is None
