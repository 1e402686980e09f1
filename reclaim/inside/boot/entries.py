"""Boot entries in files of their own: the Boot Loader Specification, unified kernel images, extlinux.

These hold whole kernel command lines, and so do the files that the next kernel's entry is made from. Both
are edited, which is what grubby, kernel-install and update-extlinux would come to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from reclaim.inside.boot import cmdline
from reclaim.inside.boot.bootfile import BootFile, begins, in_lines
from reclaim.inside.facts import Facts
from reclaim.inside.fstab import SMALL_TAGS, TAGS

#: uapi-group.org/specifications/specs/boot_loader_specification: systemd-boot's, and RHEL's from 8 on
_ENTRY = re.compile(r"(/boot|/efi|/boot/efi)/loader/entries/.+\.conf\Z")
#: the sources from which kernel-install(8), dracut and mkinitcpio build the next command line
_COMMAND_LINE = re.compile(r"/etc/kernel/cmdline\Z|/etc/cmdline\.d/.+\.conf\Z")
_EXTLINUX = re.compile(
    r"/boot/(extlinux/extlinux|extlinux|syslinux/syslinux)\.(conf|cfg)\Z"
)
#: the sources from which update-extlinux (Alpine) and u-boot-update (Debian) build it
_EXTLINUX_SOURCE = re.compile(r"/etc/(update-extlinux\.conf|default/u-boot)\Z")


def are_there(facts: Facts) -> bool:
    """True if the guest has boot entries in files of their own."""
    if facts.unified:
        return True
    return any(map(_holds_entries, facts.boot_files))


def _holds_entries(path: str) -> bool:
    if _ENTRY.match(path):
        return True
    return _EXTLINUX.match(path) is not None


def unread(facts: Facts) -> list[str]:
    """Return the unified kernel images whose command line could not be read."""
    return [path for path, text in facts.unified.items() if not text]


def places(facts: Facts) -> Iterator[BootFile]:
    """Yield the entries that name devices by their bus."""
    small_tags: tuple[str, ...] = TAGS
    if "mkinitfs" in facts.tools:
        small_tags = SMALL_TAGS
    for path in facts.boot_files:
        place = _place(facts, path, small_tags)
        if place:
            yield place
    for path, text in facts.unified.items():
        names = tuple(map(str, cmdline.names(text)))
        if names:
            yield BootFile(
                path=path,
                names=names,
                advice=f"build {path} again with the same tool, with root=UUID=… in its command line",
            )


def _place(facts: Facts, path: str, small_tags: tuple[str, ...]) -> BootFile | None:
    """Return *path* if it names devices by their bus; *small_tags* are those that extlinux's initramfs knows."""
    if _ENTRY.match(path):
        return in_lines(facts, path, begins(r"options[ \t]"), by_entry=True)
    if _EXTLINUX.match(path):
        return in_lines(
            facts,
            path,
            is_read=begins(r"append[ \t]"),
            tags=small_tags,
            by_entry=True,
        )
    if _EXTLINUX_SOURCE.match(path):
        return in_lines(facts, path, begins("[a-z]"), tags=small_tags)
    if _COMMAND_LINE.match(path):
        return in_lines(facts, path, begins("[^#]"))
    return None
