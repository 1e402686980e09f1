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
#: what kernel-install(8), dracut and mkinitcpio build the next command line from
_COMMAND_LINE = re.compile(r"/etc/kernel/cmdline\Z|/etc/cmdline\.d/.+\.conf\Z")
_EXTLINUX = re.compile(
    r"/boot/(extlinux/extlinux|extlinux|syslinux/syslinux)\.(conf|cfg)\Z"
)
#: what update-extlinux (Alpine) and u-boot-update (Debian) build it from
_EXTLINUX_SOURCE = re.compile(r"/etc/(update-extlinux\.conf|default/u-boot)\Z")


def are_there(facts: Facts) -> bool:
    """Does the guest have any?"""
    return bool(facts.unified) or any(
        _ENTRY.match(path) or _EXTLINUX.match(path) for path in facts.boot_files
    )


def unread(facts: Facts) -> list[str]:
    """Unified kernel images whose command line could not be read."""
    return [path for path, text in facts.unified.items() if not text]


def places(facts: Facts) -> Iterator[BootFile]:
    """Where those entries name devices by their bus."""
    tags = SMALL_TAGS if "mkinitfs" in facts.tools else TAGS
    for path in facts.boot_files:
        if _ENTRY.match(path):
            place = in_lines(facts, path, begins(r"options[ \t]"), by_entry=True)
        elif _EXTLINUX.match(path):
            place = in_lines(
                facts, path, begins(r"append[ \t]"), tags=tags, by_entry=True
            )
        elif _EXTLINUX_SOURCE.match(path):
            place = in_lines(facts, path, begins("[a-z]"), tags=tags)
        elif _COMMAND_LINE.match(path):
            place = in_lines(facts, path, begins("[^#]"))
        else:
            continue
        if place:
            yield place
    for path, text in facts.unified.items():
        if names := tuple(map(str, cmdline.names(text))):
            yield BootFile(
                path,
                names,
                advice=f"build {path} anew by what built it, with root=UUID=… in its command line",
            )
