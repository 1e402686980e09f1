"""Files in which the boot names devices, line by line and entry by entry."""

from __future__ import annotations

import pytest

from reclaim.inside.boot.bootfile import BootFile, begins, in_lines
from tests.support import Inside, block, part

PATH = "/boot/menu"
DEVICES = [
    block("vda", part("vda1", uuid="u-1", fstype="ext4", partuuid="p-1"), part("vda2", fstype="ext4", uuid="u-2"))
]


def _place(text: str, *, words: str = "linux ", by_entry: bool = False, then: str | None = None) -> BootFile | None:
    facts = Inside(files={PATH: text}, devices=DEVICES).facts()
    return in_lines(facts, PATH, begins(words), by_entry=by_entry, then=then)


def _after(text: str, *, by_entry: bool = True) -> str | None:
    place = _place(text, by_entry=by_entry)
    assert place is not None
    return place.after


def test_a_file_with_names_of_the_bus_is_described_with_its_change() -> None:
    text = "# root=/dev/vda1\nlinux root=/dev/vda1 a=x\nlinux root=/dev/vda1 resume=254:1\n\n"
    assert _place(text, then="update-grub") == BootFile(
        path=PATH,
        names=("root=/dev/vda1", "resume=254:1"),
        devices=("/dev/vda1",),
        before=text,
        after=text.replace("linux root=/dev/vda1", "linux root=UUID=u-1"),
        then="update-grub",
    )


@pytest.mark.parametrize("text", ["", "linux root=UUID=u-1\n", "# linux root=/dev/vda1\n", "other root=/dev/vda1\n"])
def test_a_file_without_them_is_no_place(text: str) -> None:
    assert _place(text) is None


def test_a_file_is_shown_with_each_of_its_names() -> None:
    assert (
        str(BootFile(PATH, ("root=/dev/vda1", "resume=/dev/vda2")))
        == f"{PATH}: root=/dev/vda1; {PATH}: resume=/dev/vda2"
    )


@pytest.mark.parametrize(
    ("line", "begun"),
    [
        ("options x", True),
        ("\t OPTIONS x", True),
        ("title x", True),
        ("optional x", False),
        ("# options x", False),
        ("", False),
    ],
)
def test_the_begin_of_a_line(line: str, *, begun: bool) -> None:
    assert bool(begins("options |title ")(line)) is begun


def test_without_entries_an_initramfs_is_taken_for_granted() -> None:
    facts = Inside(files={PATH: "linux root=/dev/vda1\n"}, devices=DEVICES).facts()
    place = in_lines(facts, PATH, begins("linux "))
    assert place is not None
    assert place.after == "linux root=UUID=u-1\n"


ENTRY = "menuentry '{0}' {{\n linux {0} root=/dev/vda1\n{1}}}\n"
INITRD = " initrd /x.img\n"


def test_an_entry_without_an_initramfs_is_named_by_partuuid() -> None:
    text = ENTRY.format("a", "") + ENTRY.format("b", INITRD)
    assert _after(text) == text.replace("a root=/dev/vda1", "a root=PARTUUID=p-1").replace(
        "b root=/dev/vda1", "b root=UUID=u-1"
    )
    assert _after(text, by_entry=False) == text.replace("/dev/vda1", "UUID=u-1")


@pytest.mark.parametrize("word", ["initrd", "initrd16", "initrdefi", "INITRD", "\tinitrd"])
def test_an_initramfs_is_known_by_each_of_its_words(word: str) -> None:
    text = ENTRY.format("a", f"{word} /x.img\n")
    assert _after(text) == text.replace("/dev/vda1", "UUID=u-1")


@pytest.mark.parametrize("line", ["# initrd /x.img\n", "initrdx /x.img\n", "xinitrd /x.img\n"])
def test_what_is_no_initramfs(line: str) -> None:
    text = ENTRY.format("a", line)
    assert _after(text) == text.replace("/dev/vda1", "PARTUUID=p-1")


def test_a_file_without_entries_is_one() -> None:
    text = "title a\nlinux root=/dev/vda1\n"
    assert _after(text) == text.replace("/dev/vda1", "PARTUUID=p-1")
    assert _after(INITRD + text) == INITRD + text.replace("/dev/vda1", "UUID=u-1")


def test_the_lines_before_the_first_entry_hold_for_all() -> None:
    head = "linux root=/dev/vda1\n"
    assert _after(head + ENTRY.format("a", "")) == (head + ENTRY.format("a", "")).replace("/dev/vda1", "PARTUUID=p-1")
    text = head + ENTRY.format("a", "") + ENTRY.format("b", INITRD)
    first = _after(text)
    assert first is not None
    assert first.startswith("linux root=UUID=u-1\n")


def test_a_label_begins_an_entry_of_extlinux() -> None:
    text = "LABEL a\n linux root=/dev/vda1\nlabel b\n linux root=/dev/vda1\n initrd /x\n"
    assert _after(text) == text.replace("/dev/vda1", "PARTUUID=p-1", 1).replace("/dev/vda1", "UUID=u-1")


def test_a_device_without_that_tag_keeps_its_name() -> None:
    text = ENTRY.format("a", "").replace("vda1", "vda2")
    place = _place(text, by_entry=True)
    assert place is not None
    assert (place.names, place.after) == (("root=/dev/vda2",), text)
