"""Boot entries in files of their own: which files are read, by which lines, and what becomes of them."""

from __future__ import annotations

import pytest

from reclaim.inside.boot import entries
from reclaim.inside.boot.bootfile import BootFile
from tests.support import Inside, block, part

DEVICES = [block("vda", part("vda1", uuid="u-1", fstype="ext4", partuuid="p-1"), part("vda2", partuuid="p-2"))]
BLS = "title x\nlinux /vmlinuz\ninitrd /initrd\noptions root={} ro\n"
EXTLINUX = "LABEL a\n LINUX vmlinuz\n INITRD initrd\n APPEND root={} ro\n"


def _inside(files: dict[str, str], *tools: str, **unified: str) -> Inside:
    return Inside(files=files, devices=DEVICES, tools=tools, unified=unified)


def _places(inside: Inside) -> list[BootFile]:
    return list(entries.places(inside.facts()))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/boot/loader/entries/m-6.1.conf", BLS),
        ("/efi/loader/entries/arch.conf", BLS),
        ("/boot/efi/loader/entries/a/b.conf", BLS),
        ("/boot/extlinux/extlinux.conf", EXTLINUX),
        ("/boot/extlinux.conf", EXTLINUX),
        ("/boot/syslinux/syslinux.cfg", EXTLINUX),
        ("/etc/update-extlinux.conf", "# root=/dev/vda1\nroot={}\n"),
        ("/etc/default/u-boot", 'U_BOOT_PARAMETERS="root={} ro"\n'),
        ("/etc/kernel/cmdline", "root={} ro\n"),
        ("/etc/cmdline.d/10.conf", "# root=/dev/vda1\nroot={}\n"),
    ],
)
def test_each_file_is_read_and_named_stably(path: str, text: str) -> None:
    [place] = _places(_inside({path: text.format("/dev/vda1")}))
    assert (place.path, place.names, place.devices) == (path, ("root=/dev/vda1",), ("/dev/vda1",))
    assert place.after == text.format("UUID=u-1")
    assert _places(_inside({path: text.format("UUID=u-1")})) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/boot/loader/entries/m.conf.bak", BLS),
        ("/boot/loader/loader.conf", BLS),
        ("/srv/loader/entries/m.conf", BLS),
        ("/boot/extlinux.conf.bak", EXTLINUX),
        ("/etc/update-extlinux.conf.d/x", "root={}\n"),
        ("/etc/kernel/cmdline.bak", "root={}\n"),
        ("/etc/cmdline", "root={}\n"),
        ("/boot/loader/entries/m.conf", "title root={}\n# options root={}\noptional root={}\n"),
        ("/boot/extlinux.conf", "# APPEND root={}\nAPPENDIX root={}\n"),
        ("/etc/kernel/cmdline", "# root={}\n"),
    ],
)
def test_other_files_and_other_lines_are_not_read(path: str, text: str) -> None:
    assert _places(_inside({path: text.replace("{}", "/dev/vda1")})) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [("/boot/loader/entries/m.conf", BLS), ("/boot/extlinux.conf", EXTLINUX.replace("INITRD initrd", "FDT a.dtb"))],
)
def test_an_entry_without_an_initramfs_is_named_by_partuuid(path: str, text: str) -> None:
    text = text.replace("initrd /initrd\n", "")
    [place] = _places(_inside({path: text.format("/dev/vda1")}))
    assert place.after == text.format("PARTUUID=p-1")


@pytest.mark.parametrize(
    ("path", "text", "is_small"),
    [
        ("/boot/extlinux.conf", EXTLINUX, True),
        ("/etc/update-extlinux.conf", "root={}\n", True),
        ("/boot/loader/entries/m.conf", BLS, False),
        ("/etc/kernel/cmdline", "root={}\n", False),
    ],
)
def test_mkinitfs_knows_fewer_tags(path: str, text: str, *, is_small: bool) -> None:
    before, partuuid = text.format("/dev/vda2"), text.format("PARTUUID=p-2")
    [place] = _places(_inside({path: before}, "mkinitfs"))
    assert place.after == (before if is_small else partuuid)
    [place] = _places(_inside({path: before}))
    assert place.after == partuuid


def test_a_unified_image_is_built_anew_by_hand() -> None:
    inside = Inside(
        unified={"/efi/a.efi": "root=/dev/vda1 ro", "/efi/b.efi": "root=UUID=u-1"}, files={}, devices=DEVICES
    )
    [place] = _places(inside)
    assert (place.path, place.names, place.after) == ("/efi/a.efi", ("root=/dev/vda1",), None)
    assert "/efi/a.efi" in place.advice


def test_a_command_line_that_could_not_be_read_is_named() -> None:
    inside = Inside(unified={"/efi/a.efi": "", "/efi/b.efi": "root=x"})
    assert entries.unread(inside.facts()) == ["/efi/a.efi"]


@pytest.mark.parametrize(
    ("inside", "there"),
    [
        (Inside(files={"/boot/loader/entries/m.conf": "", "/etc/kernel/cmdline": ""}), True),
        (Inside(files={"/boot/extlinux.conf": ""}), True),
        (Inside(unified={"/efi/a.efi": "x"}, files={}), True),
        (Inside(files={"/etc/kernel/cmdline": "", "/etc/update-extlinux.conf": ""}), False),
        (Inside(), False),
    ],
)
def test_whether_there_are_entries(inside: Inside, *, there: bool) -> None:
    assert entries.are_there(inside.facts()) is there
