"""Boot entries in files of their own: which files are read, by which lines, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable

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


NEXT = "/etc/kernel/cmdline"
MADE = "/boot/efi/loader/entries/0123-6.1.0-13-amd64.conf"
#: /proc/cmdline of a guest that systemd-boot booted
GIVEN = "initrd=\\0123\\6.1\\initrd.img root=/dev/vda1 ro quiet systemd.machine_id=0123\n"


def _made(path: str = MADE, *tools: str, command_line: str = GIVEN, **files: str) -> list[BootFile]:
    texts = {path: BLS.format("UUID=u-1"), **{NEXT if name == "next_" else name: text for name, text in files.items()}}
    inside = Inside(files=texts, devices=DEVICES, tools=tools or ("kernel-install",), command_line=command_line)
    return _places(inside)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(MADE, id="debian"),
        pytest.param("/boot/loader/entries/fedora-6.1.0-13-amd64.conf", id="another-token"),
        pytest.param("/efi/loader/entries/0123-6.1.0-13-amd64+3.conf", id="tries-left"),
        pytest.param("/efi/loader/entries/0123-6.1.0-13-amd64+1-2.conf", id="tries-done"),
    ],
)
def test_the_command_line_that_kernel_install_would_take_from_proc_is_written_down(path: str) -> None:
    """The entry is right, and the next one would have the old names again."""
    [place] = _made(path)
    assert (place.path, place.is_new) == (NEXT, True)
    assert place.names == ("without it kernel-install takes root=/dev/vda1 from /proc/cmdline",)
    assert place.after == "root=UUID=u-1 ro quiet systemd.machine_id=0123\n"


@pytest.mark.parametrize(
    "places",
    [
        pytest.param(lambda: _made(next_="root=UUID=u-1 ro\n"), id="it-is-there"),
        pytest.param(lambda: _made(command_line="root=UUID=u-1 ro\n"), id="booted-by-uuid"),
        pytest.param(lambda: _made(MADE, "systemctl"), id="no-kernel-install"),
        pytest.param(lambda: _made("/efi/loader/entries/arch.conf"), id="written-by-hand"),
        pytest.param(lambda: _made("/efi/loader/entries/0123-5.10.conf"), id="of-no-kernel-that-is-there"),
    ],
)
def test_nothing_is_written_down_for_another_reason(places: Callable[[], list[BootFile]]) -> None:
    assert places() == []


def test_the_entries_of_rhel_8_name_no_root_themselves() -> None:
    files = {MADE: "linux /vmlinuz\ninitrd /initrd\noptions $kernelopts\n"}
    inside = Inside(files=files, devices=DEVICES, tools=("kernel-install",), command_line=GIVEN)
    assert _places(inside) == []


def test_the_vendors_command_line_comes_before_that_of_proc() -> None:
    files = {MADE: BLS.format("UUID=u-1"), "/usr/lib/kernel/cmdline": "root=/dev/vda2 rw\n"}
    inside = Inside(files=files, devices=DEVICES, tools=("kernel-install",), command_line="root=UUID=u-1\n")
    [place] = _places(inside)
    assert (place.path, place.after) == (NEXT, "root=PARTUUID=p-2 rw\n")


def test_a_command_line_that_cannot_be_named_stably_is_left_to_the_user() -> None:
    [place] = _made(command_line="root=/dev/vda1 rootflags=device=/dev/vdb\n")
    assert place.after is None
    assert place.advice == f"{NEXT}: write the kernel's parameters into it, without rootflags=device=/dev/vdb"


def test_the_advice_for_an_image_of_kernel_install_names_its_commands() -> None:
    path = "/boot/efi/EFI/Linux/0123-6.1.0-13-amd64.efi"
    inside = Inside(
        unified={path: "root=/dev/vda1 ro"},
        files={NEXT: "root=UUID=u-1 ro\n"},
        devices=DEVICES,
        tools=("kernel-install",),
    )
    [place] = _places(inside)
    assert place.advice == (
        f"{path} has its command line built in: once root=UUID=… is in {NEXT}, "
        "kernel-install add 6.1.0-13-amd64 /boot/vmlinuz-6.1.0-13-amd64 builds it again"
    )


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
