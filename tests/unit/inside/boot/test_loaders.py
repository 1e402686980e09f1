"""What a guest boots with: which names are found, and what is rewritten."""

from __future__ import annotations

import pytest

from reclaim.inside.boot.loaders import places
from tests.support import Inside, block, part

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


@pytest.mark.parametrize("menu", ["\n" * 200_000, "linux " + "a=" * 100_000], ids=["empty-lines", "one-long-word"])
def test_a_menu_of_a_hostile_guest_is_read_in_no_time(menu: str) -> None:
    # each of them took minutes of quadratic time; a test that fails does not come to its end
    assert places(_inside(menu=menu).facts()) == []


def test_a_name_on_every_kernel_line_is_told_once() -> None:
    menu = "\tlinux /a root=/dev/vda1\n\tlinux /b root=/dev/vda1 single\n"
    [place] = places(_inside(menu=menu).facts())
    assert str(place) == "/boot/grub/grub.cfg: root=/dev/vda1"


@pytest.mark.parametrize(
    ("device", "told"), [("/dev/vda1", True), ('"/dev/vda1"', True), ("/dev/mapper/vg-root", False)]
)
def test_a_device_that_grub_is_told_counts_where_the_bus_renames_it(device: str, *, told: bool) -> None:
    found = places(_inside(grub=f"GRUB_DEVICE={device}\n").facts())
    assert [place.path for place in found] == ["/etc/default/grub"] * told


@pytest.mark.parametrize(
    ("text", "after", "found"),
    [
        ("RESUME=/dev/vda5\n", "RESUME=UUID=swap\n", 1),
        ('RESUME="/dev/vda5"\n', "RESUME=UUID=swap\n", 1),
        ("ROOT=/dev/vda1\n", "ROOT=UUID=root\n", 1),
        ("RESUME=/dev/vdb1\n", "RESUME=/dev/vdb1\n", 1),
        ("RESUME=UUID=x\n", "RESUME=UUID=x\n", 0),
        ("RESUME=none\n", "RESUME=none\n", 0),
        ("# RESUME=/dev/vda5\n", "# RESUME=/dev/vda5\n", 0),
        ("RESUME=/dev/mapper/vg-swap\n", "RESUME=/dev/mapper/vg-swap\n", 0),
    ],
)
def test_resume(text: str, after: str, found: int) -> None:
    found_there = places(_inside(resume=text).facts())
    assert len(found_there) == found
    assert [place.after for place in found_there] == [after] * found


def test_resume_counts_in_the_main_file_as_well() -> None:
    path, text = "/etc/initramfs-tools/initramfs.conf", "MODULES=most\nDEVICE=eth0\nRESUME={}\n"
    [place] = places(_inside(**{path: text.format("/dev/vda5")}).facts())
    assert (place.path, place.after, place.rebuild) == (path, text.format("UUID=swap"), True)
