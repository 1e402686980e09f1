"""The commands that build an initramfs: an old image stays until the new one is whole."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from reclaim.base.errors import Withheld
from reclaim.definition.domain import Definition
from reclaim.inside import initramfs
from reclaim.inside.initramfs import rebuild
from tests.support import FILES, Inside, block, domain_xml, executable, mounted, part

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize(
    ("status", "left"), [pytest.param(0, "new", id="built"), pytest.param(1, "old", id="builder-fails")]
)
def test_the_command_leaves_a_whole_image_and_nothing_else(tmp_path: Path, status: int, left: str) -> None:
    """Run for real, with a dracut of our own that writes half an image before it fails."""
    image = tmp_path / "initramfs-6.1.img"
    image.write_text("old")
    tool = tmp_path / "dracut"
    executable(tool, f'#!/bin/sh\n[ "$1 $3" = "--force 6.1" ] || exit 9\nprintf new >"$2"\nexit {status}\n')
    inside = Inside(kernels=f"kernel 6.1\npath {image}\nstamp 1:3:1:1\n", tools=("dracut",))
    command = rebuild(inside.facts())
    path = f"{tmp_path}:/usr/bin:/bin"
    done = subprocess.run(["/bin/sh", "-c", command], env={"PATH": path}, check=False)
    assert (done.returncode == 0) is (status == 0)
    assert image.read_text() == left
    assert sorted(one.name for one in tmp_path.iterdir()) == ["dracut", "initramfs-6.1.img"]


@pytest.fixture
def tiny_boot(tmp_path: Path) -> Iterator[Path]:
    """A /boot of its own, with an initramfs in it and next to no room."""
    boot = tmp_path / "boot"
    boot.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(boot)], check=False)
    if mounted.returncode != 0:
        pytest.skip("nothing may be mounted here")
    (boot / "initramfs-6.1.img").write_text("old")
    yield boot
    subprocess.run(["umount", str(boot)], check=True)


def test_a_full_boot_keeps_its_old_image_and_nothing_of_the_new_one(tmp_path: Path, tiny_boot: Path) -> None:
    """The room is judged before; here somebody took it in between. cp ends as dracut's does: half an image."""
    tool = tmp_path / "dracut"
    executable(tool, '#!/bin/sh\ncp /usr/bin/env "$2"; head -c 200000 /dev/urandom >>"$2"\n')
    image = tiny_boot / "initramfs-6.1.img"
    inside = Inside(kernels=f"kernel 6.1\npath {image}\nstamp 1:3:1:1\n", tools=("dracut",))
    path = f"{tmp_path}:/usr/bin:/bin"
    done = subprocess.run(["/bin/sh", "-c", rebuild(inside.facts())], env={"PATH": path}, check=False)
    assert done.returncode != 0
    assert {one.name: one.read_text() for one in tiny_boot.iterdir()} == {"initramfs-6.1.img": "old"}


MIB = 1024**2
UPDATES = "/etc/initramfs-tools/update-initramfs.conf"


def _inside(
    *kernels: str, tools: tuple[str, ...] = ("dracut",), free: int = 400_000, files: dict[str, str] | None = None
) -> Inside:
    """A guest with *kernels*, *free* KiB on /boot, and these files by their paths."""
    return Inside(kernels="".join(kernels), tools=tools, boot_free=free, files={**FILES, **(files or {})})


def _kernel(release: str, image: str | None = None, size: int = 1000, more: str = "") -> str:
    path = image or f"/boot/initramfs-{release}.img"
    return f"kernel {release}\npath {path}\nstamp 1:{size}:1:1\n{more}"


# The modules and the tool ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "modules"),
    [("x86_64", ("virtio_pci", "virtio_scsi", "sd_mod")), ("s390x", ("virtio_scsi", "sd_mod"))],
)
def test_the_modules_that_a_root_on_virtio_scsi_needs(arch: str, modules: tuple[str, ...]) -> None:
    assert initramfs.modules(Definition(domain_xml(arch=arch))) == modules


@pytest.mark.parametrize(
    ("tools", "builder"),
    [
        (("update-initramfs", "mkinitramfs", "dracut"), "update-initramfs"),
        (("update-initramfs", "dracut"), "dracut"),
        (("dracut", "mkinitcpio"), "dracut"),
        (("mkinitcpio",), "mkinitcpio"),
        (("mkinitfs",), "mkinitfs"),
    ],
)
def test_the_tool_that_builds_it(tools: tuple[str, ...], builder: str) -> None:
    assert initramfs.builder(_inside(tools=tools).facts()) == builder


@pytest.mark.parametrize("tools", [(), ("update-initramfs",), ("booster",)])
def test_a_tool_that_is_not_known_builds_nothing(tools: tuple[str, ...]) -> None:
    with pytest.raises(Withheld, match="dracut"):
        initramfs.builder(_inside(tools=tools).facts())


# The command ----------------------------------------------------------------------------------


def _because(inside: Inside) -> str:
    with pytest.raises(Withheld) as caught:
        rebuild(inside.facts())
    return str(caught.value)


@pytest.mark.parametrize(
    ("tool", "command"),
    [
        ("dracut", "dracut --force {image}.reclaim 6.1"),
        ("mkinitcpio", "mkinitcpio -k 6.1 -g {image}.reclaim"),
        ("mkinitfs", "mkinitfs -o {image}.reclaim 6.1"),
    ],
)
def test_each_tool_builds_beside_the_image(tool: str, command: str) -> None:
    image = "/boot/initramfs-6.1.img"
    said = rebuild(_inside(_kernel("6.1"), tools=(tool,)).facts())
    build = command.format(image=image)
    assert said == f"{{ {build} && mv -f {image}.reclaim {image} || {{ rm -f {image}.reclaim; false; }}; }}"


def test_every_kernel_that_has_an_image_gets_a_new_one() -> None:
    said = rebuild(_inside(_kernel("6.1"), "kernel 5.9\n", _kernel("6.2")).facts())
    assert [word for word in said.split() if word in ("5.9", "6.1", "6.2")] == ["6.1", "6.2"]
    assert said.count(" && {") == 1


def test_a_guest_without_an_image_is_left_to_the_user() -> None:
    assert "dracut by hand" in _because(_inside("kernel 6.1\n"))


def test_update_initramfs_builds_all_by_itself() -> None:
    tools = ("update-initramfs", "mkinitramfs")
    assert rebuild(_inside(_kernel("6.1"), tools=tools).facts()) == "update-initramfs -u -k all"


@pytest.mark.parametrize(
    ("text", "is_off"),
    [
        ("update_initramfs=no\n", True),
        (" update_initramfs='no'\n", True),
        ('# x\nupdate_initramfs="no"\n', True),
        ("update_initramfs=yes\n", False),
        ("update_initramfs=note\n", False),
        ("#update_initramfs=no\n", False),
    ],
)
def test_update_initramfs_may_be_told_to_do_nothing(text: str, *, is_off: bool) -> None:
    inside = _inside(_kernel("6.1"), tools=("update-initramfs", "mkinitramfs"), files={UPDATES: text})
    if is_off:
        assert UPDATES in _because(inside)
    else:
        assert rebuild(inside.facts()).startswith("update-initramfs")


def test_a_unified_image_is_built_by_what_built_it() -> None:
    inside = _inside(_kernel("6.1"), _kernel("6.2", more="unified /efi/EFI/Linux/a.efi\n"))
    assert "/efi/EFI/Linux/a.efi" in _because(inside)


@pytest.mark.parametrize(
    ("release", "image"),
    [("6.1;id", None), ("6.1", "/boot/a b.img"), ("6.1", "/boot/$(id)"), ("-6.1", None), ("6.1", "-x")],
)
def test_no_name_reaches_a_shell_with_characters_of_the_shell(release: str, image: str | None) -> None:
    assert "characters of the shell" in _because(_inside(_kernel(release, image)))


# Room -----------------------------------------------------------------------------------------

#: 10 MiB, a tenth more, and what is left beside it
NEEDED = 12 * MIB


@pytest.mark.parametrize("tool", ["dracut", "update-initramfs"])
def test_boot_has_room_for_one_more(tool: str) -> None:
    tools = (tool, "mkinitramfs")
    kernel = _kernel("6.1", size=10 * MIB)
    assert rebuild(_inside(kernel, tools=tools, free=NEEDED // 1024).facts())
    reason = _because(_inside(kernel, tools=tools, free=NEEDED // 1024 - 1))
    assert reason.startswith("/boot has 12.0 MiB free")
    assert "takes 12.0 MiB" in reason


def test_an_image_on_another_filesystem_needs_room_there() -> None:
    kernel = _kernel("6.1", "/efi/a/initrd", size=10 * MIB)
    assert rebuild(_inside(f"{kernel}free {NEEDED // 1024}\n", free=0).facts())
    assert _because(_inside(f"{kernel}free {NEEDED // 1024 - 1}\n")).startswith("/efi/a/initrd has ")


def test_a_kernel_without_an_image_needs_no_room() -> None:
    inside = _inside(_kernel("6.1"), "kernel 5.9\nstamp 1:999999999:1:1\n", free=4 * 1024)
    assert rebuild(inside.facts())


# Settings that our command would lose ---------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text", "is_lost"),
    [
        ("/etc/dracut.conf.d/u.conf", "uefi=yes\n", True),
        ("/etc/dracut.conf", ' uefi="yes"\n', True),
        ("/etc/dracut.conf.d/u.conf", "#uefi=yes\nuefi=no\n", False),
        ("/etc/other.conf", "uefi=yes\n", False),
    ],
)
def test_a_dracut_that_builds_unified_images_is_left(path: str, text: str, *, is_lost: bool) -> None:
    inside = _inside(_kernel("6.1"), files={path: text})
    if is_lost:
        assert path in _because(inside)
    else:
        assert rebuild(inside.facts())


PRESET = "/etc/mkinitcpio.d/linux.preset"
IMAGES = 'default_image="/boot/initramfs-6.1.img"\nfallback_image="/boot/other.img"\n'


@pytest.mark.parametrize(
    ("path", "text", "setting"),
    [
        pytest.param(PRESET, IMAGES, "", id="images-alone"),
        pytest.param(PRESET, f"ALL_config=/etc/mkinitcpio.conf\n{IMAGES}", "", id="the-usual-configuration"),
        pytest.param(PRESET, f"default_options=''\n{IMAGES}", "", id="no-options"),
        pytest.param(PRESET, f"fallback_options='-S autodetect'\n{IMAGES}", "", id="of-another-image"),
        pytest.param(PRESET, f"default_options='-S x'\n{IMAGES}", "default_options", id="of-this-image"),
        pytest.param(PRESET, f"default_config=/etc/a.conf\n{IMAGES}", "default_config", id="a-configuration"),
        pytest.param(PRESET, f"ALL_config=/etc/a.conf\n{IMAGES}", "ALL_config", id="of-all"),
        pytest.param("/etc/mkinitcpio.d/linux.bak", f"default_options='-S x'\n{IMAGES}", "", id="no-preset"),
    ],
)
def test_a_preset_with_settings_of_its_own_is_left(path: str, text: str, setting: str) -> None:
    inside = _inside(_kernel("6.1"), tools=("mkinitcpio",), files={path: text})
    if setting:
        reason = _because(inside)
        assert path in reason
        assert setting in reason
    else:
        assert rebuild(inside.facts())


# Names ----------------------------------------------------------------------------------------


def test_the_disks_are_those_below_filesystems_by_names_of_the_bus() -> None:
    inside = Inside(
        devices=[
            block("vdb", part("vdb1", fstype="ext4")),
            block("vda", part("vda1", fstype="ext4"), part("vda2", fstype="xfs")),
            block("vdc", part("vdc1", fstype="ext4")),
            block("nvme0n1", part("nvme0n1p1", fstype="ext4")),
        ],
        mounts=[mounted("/", "/dev/vda1"), mounted("/a", "/dev/vda2"), mounted("/b", "/dev/vdb1"),
                mounted("/n", "/dev/nvme0n1p1")],
    )  # fmt: skip
    assert initramfs.disks(inside.facts()) == ["/dev/vda", "/dev/vdb"]


# Kernels --------------------------------------------------------------------------------------

OURS = Definition(domain_xml())
FROM_THE_HOST = Definition(domain_xml().replace("<os>", "<os><kernel>/srv/vmlinuz</kernel>"))
BOOT_NOT_MOUNTED = {**FILES, "/etc/fstab": "UUID=aaaa-1 / ext4\nUUID=bbbb-1 /boot ext4\n"}
ALL_BUILT_IN = "kernel 6.1.0-13-amd64\nbuiltin virtio_pci\nbuiltin virtio_scsi\nbuiltin sd_mod\n"
UNREAD = "kernel 6.1\nunreadable it is no cpio\nkernel 6.2\nkernel 6.3\nunreadable it is gone\n"


@pytest.mark.parametrize(
    ("definition", "inside", "words"),
    [
        pytest.param(OURS, Inside(), None, id="known"),
        pytest.param(OURS, Inside(files=dict(BOOT_NOT_MOUNTED)), "/boot is in fstab and not mounted", id="no-boot"),
        pytest.param(OURS, Inside(kernels=""), "no kernel in /boot", id="no-kernel"),
        pytest.param(OURS, Inside(kernels=UNREAD), "6.1: it is no cpio; 6.3: it is gone", id="unread"),
        pytest.param(FROM_THE_HOST, Inside(), "the host gives it its kernel (/srv/vmlinuz)", id="of-the-host"),
        pytest.param(FROM_THE_HOST, Inside(kernels=ALL_BUILT_IN), None, id="of-the-host-with-all-built-in"),
        pytest.param(
            FROM_THE_HOST,
            Inside(kernels=ALL_BUILT_IN, release="6.2"),
            "the host gives it its kernel",
            id="another-one-runs",
        ),
        pytest.param(
            FROM_THE_HOST,
            Inside(kernels=ALL_BUILT_IN, files=dict(BOOT_NOT_MOUNTED)),
            None,
            id="of-the-host-without-a-boot",
        ),
    ],
)
def test_why_the_kernels_are_not_known(definition: Definition, inside: Inside, words: str | None) -> None:
    reason = initramfs.why_not_known(definition, inside.facts())
    if words is None:
        assert reason is None
    else:
        assert words in (reason or "")


def test_each_kernel_that_lacks_modules_is_named_with_them() -> None:
    facts = Inside(
        kernels="kernel 6.1\ninitramfs sd_mod\nkernel 6.2\nbuiltin sd_mod\ninitramfs virtio_scsi\nkernel 6.3\n"
    ).facts()
    assert initramfs.lacking(facts, ("virtio_scsi", "sd_mod")) == [
        "6.1 has no virtio_scsi",
        "6.3 has no virtio_scsi, sd_mod",
    ]
    assert initramfs.lacking(facts, ()) == []
