"""GRUB 2: the names in its menus and defaults, what is rewritten, and the disk that it boots from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reclaim.inside.boot import grub
from reclaim.inside.boot.bootfile import BootFile
from reclaim.inside.boot.grub import boot_disk, default_names, defaults, defaults_named_stably, menu_names
from tests.support import Inside, block, mounted, part

if TYPE_CHECKING:
    from reclaim.inside.facts import Facts

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


# The menu -------------------------------------------------------------------------------------

MENU = "/boot/grub/grub.cfg"
GRUB = "/etc/default/grub"


def _section(script: str, text: str) -> str:
    return f"### BEGIN {script} ###\n{text}### END {script} ###\n"


def _facts(*tools: str, mounts: list[dict[str, Any]] | None = None, **more: Any) -> Facts:
    where = [mounted("/", "/dev/vda1")] if mounts is None else mounts
    return Inside(devices=more.pop("devices", DEVICES), mounts=where, tools=tools, **more).facts()


@pytest.mark.parametrize(
    ("path", "text", "boots"),
    [
        (MENU, "menuentry 'a' {\n", True),
        ("/boot/grub2/grub.cfg", "blscfg\n", True),
        ("/boot/efi/EFI/debian/grub.cfg", "\tlinux /v\n", True),
        ("/boot/efi/EFI/debian/grub.cfg", "search.fs_uuid x root\nconfigfile $prefix/grub.cfg\n", False),
        ("/boot/efi/EFI/a/b/grub.cfg", "menuentry\n", False),
        ("/boot/grub/grub.cfg.bak", "menuentry\n", False),
        ("/srv/boot/grub/grub.cfg", "menuentry\n", False),
    ],
)
def test_a_menu_is_one_that_boots_something(path: str, text: str, *, boots: bool) -> None:
    assert list(grub.menus(_facts(files={path: text}))) == [path] * boots


@pytest.mark.parametrize(
    ("tools", "command"),
    [
        (("update-grub", "grub-mkconfig"), "update-grub"),
        (("grub-mkconfig",), f"grub-mkconfig -o {MENU} && grub-mkconfig -o /boot/efi/EFI/a/grub.cfg"),
        (("grub2-mkconfig",), f"grub2-mkconfig -o {MENU} && grub2-mkconfig -o /boot/efi/EFI/a/grub.cfg"),
        ((), None),
    ],
)
def test_the_command_that_writes_the_menus(tools: tuple[str, ...], command: str | None) -> None:
    files = {MENU: "linux /v\n", "/boot/efi/EFI/a/grub.cfg": "linux /v\n", "/boot/efi/EFI/a b/grub.cfg": "linux /v\n"}
    assert grub.update_command(_facts(*tools, files=files)) == command


def test_each_kernel_line_has_the_script_that_wrote_it() -> None:
    text = (
        "linux /a\n"
        + _section("/etc/grub.d/10_linux", "\tlinux16 /b\nset kernelopts=x\n\tlinuxefi /c\n\tlinux-x /d\nset root=y\n")
        + "  linux /e\n"
    )
    assert list(grub.kernel_lines(text)) == [
        ("", "linux /a"),
        ("/etc/grub.d/10_linux", "\tlinux16 /b"),
        ("/etc/grub.d/10_linux", "set kernelopts=x"),
        ("/etc/grub.d/10_linux", "\tlinuxefi /c"),
        ("", "  linux /e"),
    ]


def test_the_names_of_menus_are_those_of_each_script_once() -> None:
    text = "linux /v root=/dev/vda1 resume=/dev/vda5\n"
    files = {MENU: _section("/etc/grub.d/10_linux", text * 2) + _section("/etc/grub.d/30_os-prober", text)}
    names = menu_names(_facts(files=files))
    assert {key: list(map(str, listed)) for key, listed in names.items()} == {
        (MENU, "/etc/grub.d/10_linux"): ["root=/dev/vda1", "resume=/dev/vda5"],
        (MENU, "/etc/grub.d/30_os-prober"): ["root=/dev/vda1", "resume=/dev/vda5"],
    }


# Places ---------------------------------------------------------------------------------------

LINE = "linux /v root=/dev/vda1 ro\ninitrd /i\n"
STABLE = LINE.replace("/dev/vda1", "UUID=root")


def _places(files: dict[str, str], *tools: str) -> list[BootFile]:
    return list(grub.places(_facts(*tools, files=files)))


@pytest.mark.parametrize("script", ["10_linux", "10_linux_zfs", "20_linux_xen", "15_ostree"])
def test_a_menu_of_grub_s_own_scripts_is_made_anew(script: str) -> None:
    [place] = _places({MENU: _section(f"/etc/grub.d/{script}", LINE), GRUB: "# x\n"}, "update-grub")
    assert place == BootFile(MENU, ("root=/dev/vda1",), ("/dev/vda1",), then="update-grub")


def test_the_lines_between_the_sections_are_generated_too() -> None:
    [place] = _places({MENU: _section("/etc/grub.d/00_header", "") + LINE}, "update-grub")
    assert (place.path, place.then) == (MENU, "update-grub")


def test_a_script_of_another_kind_is_named() -> None:
    [place] = _places({MENU: _section("/etc/grub.d/30_os-prober", LINE)})
    assert (place.path, place.then, place.after) == (MENU, None, None)
    assert "/etc/grub.d/30_os-prober" in place.advice


def test_a_script_with_the_line_in_it_is_edited_and_the_menu_made_anew() -> None:
    [place] = _places({MENU: _section("/etc/grub.d/40_custom", LINE), "/etc/grub.d/40_custom": LINE}, "update-grub")
    assert (place.path, place.after, place.then) == ("/etc/grub.d/40_custom", STABLE, "update-grub")


def test_a_menu_without_marks_is_edited_by_itself() -> None:
    [place] = _places({MENU: LINE, GRUB: "GRUB_DISABLE_UUID=true\n"}, "update-grub")
    assert (place.path, place.after, place.then) == (MENU, STABLE, None)


@pytest.mark.parametrize("name", ["/boot/grub/custom.cfg", "/boot/grub2/user.cfg"])
def test_what_the_menu_sources_is_edited(name: str) -> None:
    [place] = _places({name: LINE}, "update-grub")
    assert (place.path, place.after, place.then) == (name, STABLE, None)


def test_defaults_change_with_the_menu_that_is_made_from_them() -> None:
    text = 'GRUB_CMDLINE_LINUX="resume=/dev/vda5"\nGRUB_DISABLE_LINUX_UUID=true\n'
    place, menu = _places({MENU: _section("/etc/grub.d/10_linux", LINE), GRUB: text}, "update-grub")
    assert (place.path, menu.path) == (GRUB, MENU)
    assert place.names == ("resume=/dev/vda5",)
    assert place.devices == ("/dev/vda1", "/dev/vda5")
    assert (place.before, place.then) == (text, "update-grub")
    assert place.after == 'GRUB_CMDLINE_LINUX="resume=UUID=swap"\n#GRUB_DISABLE_LINUX_UUID=true\n'


def test_defaults_that_forbid_uuids_count_if_the_menu_has_names() -> None:
    text = "GRUB_DISABLE_UUID=true\n"
    assert _places({GRUB: text, MENU: _section("/etc/grub.d/10_linux", LINE.replace("/dev/vda1", "UUID=root"))}) == []
    place, _ = _places({GRUB: text, MENU: _section("/etc/grub.d/10_linux", LINE)})
    assert (place.path, place.names, place.after) == (GRUB, (), "#GRUB_DISABLE_UUID=true\n")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("GRUB_DEVICE=/dev/vda1", "GRUB_DEVICE=/dev/vda1"),
        ("export GRUB_DEVICE_BOOT='/dev/sda1'", "GRUB_DEVICE_BOOT='/dev/sda1"),
        ("GRUB_DEVICE=/dev/mapper/a", ""),
        ("# GRUB_DEVICE=/dev/vda1", ""),
    ],
)
def test_a_device_that_defaults_fix_is_taken_out_by_hand(line: str, name: str) -> None:
    found = _places({GRUB: f"{line}\n"})
    assert [place.names for place in found] == ([(name,)] if name else [])
    assert all(name in place.advice and GRUB in place.advice and place.after is None for place in found)


def _padded(text: str, length: int = 1024) -> str:
    return text + "#" * (length - len(text.encode()))


ENV = "# GRUB Environment Block\nkernelopts=root={} ro \n"


def test_the_environment_block_keeps_its_length() -> None:
    path, before = "/boot/grub2/grubenv", _padded(ENV.format("/dev/vda1") + "ä=ö\n")
    [place] = _places({path: before})
    assert place.after == _padded(ENV.format("UUID=root") + "ä=ö\n")
    assert (place.path, place.before, place.devices) == (path, before, ("/dev/vda1",))
    assert _places({path: _padded(ENV.format("UUID=root"))}) == []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(_padded(ENV.format("/dev/vda1"), 1023), id="too-short"),
        pytest.param(_padded(ENV.format("/dev/vda1"), 2048), id="too-long"),
        pytest.param(_padded(ENV.format("/dev/vda1") + "x=" + "y" * (1024 - 53 - 3) + "\n"), id="no-room"),
    ],
)
def test_an_environment_block_that_cannot_keep_it_is_set_by_hand(text: str) -> None:
    [place] = _places({"/boot/grub/grubenv": text})
    assert (place.after, place.names) == (None, ("root=/dev/vda1",))
    assert "grub2-editenv" in place.advice


INSTALL = "/etc/default/grub_installdevice"


def test_the_disk_that_is_there_takes_the_place_of_one_that_is_not() -> None:
    text = "/dev/sda\nactivate\n"
    [place] = _places({INSTALL: text})
    assert (place.after, place.devices) == ("/dev/vda\nactivate\n", ("/dev/sda",))
    assert "/dev/sda" in place.names[0]
    assert _places({INSTALL: "/dev/vda\ngeneric_mbr\n"}) == []


@pytest.mark.parametrize("text", ["/dev/sda1\n", "/dev/sda\n/dev/sdb\n"])
def test_a_partition_or_several_disks_are_left_to_the_user(text: str) -> None:
    [place] = _places({INSTALL: text})
    assert place.after is None
    assert INSTALL in place.advice


def test_without_one_boot_disk_the_user_decides() -> None:
    [place] = grub.places(_facts(files={INSTALL: "/dev/sda\n"}, mounts=[]))
    assert place.after is None


def test_a_disk_is_called_by_its_id_if_it_has_one() -> None:
    names = ("by-id/virtio-b", "by-id/ata-a", "by-path/p")
    facts = _facts(links={f"/dev/disk/{name}": "../../vda" for name in names})
    disk, other = facts.block_devices
    assert grub.link_to(facts, disk) == "/dev/disk/by-id/ata-a"
    assert grub.link_to(facts, other) == "/dev/vdb"


# debconf --------------------------------------------------------------------------------------


def _debconf(**devices: str) -> str:
    return "".join(
        f"Name: {question}/install_devices\nTemplate: x\nValue: {value}\n\n" for question, value in devices.items()
    )


def test_devices_that_are_gone_are_those_of_each_question() -> None:
    facts = _facts(debconf=_debconf(**{"grub-pc": "/dev/vda, /dev/sda, /dev/sdb", "grub-efi": "/dev/vda1"}))
    assert grub.gone_install_devices(facts) == {"grub-pc/install_devices": ["/dev/sda", "/dev/sdb"]}


def test_grub_pc_installs_to_the_boot_disk_and_grub_efi_to_its_partition() -> None:
    mounts = [mounted("/", "/dev/vda1"), mounted("/boot/efi", "/dev/vdb1", "vfat")]
    facts = _facts(mounts=mounts)
    assert getattr(grub.install_device(facts, "grub-pc/install_devices"), "path", "") == "/dev/vda"
    assert getattr(grub.install_device(facts, "grub-efi/install_devices"), "path", "") == "/dev/vdb1"
    assert grub.install_device(_facts(), "grub-efi/install_devices") is None


def test_a_boot_on_two_disks_is_on_none() -> None:
    mirror = part("md0", type="raid1", fstype="ext4")
    facts = _facts(devices=[block("vda", mirror), block("vdb", mirror)], mounts=[mounted("/", "/dev/md0")])
    assert boot_disk(facts) is None
    assert boot_disk(_facts(mounts=[])) is None
    assert boot_disk(_facts(mounts=[mounted("/boot", "/dev/vdz1"), mounted("/", "/dev/vda1")])) is None
