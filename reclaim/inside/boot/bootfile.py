"""Places where a guest's boot names devices."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from reclaim.inside.boot import cmdline
from reclaim.inside.facts import Facts
from reclaim.inside.fstab import TAGS

#: where an entry of GRUB's or extlinux's begins; the file is one entry where there is none (systemd-boot)
_ENTRY = re.compile(r"[ \t]*(?:menuentry|label)\b", re.IGNORECASE).match
_INITRD = re.compile(r"[^#]*\binitrd(?:16|efi)?\b", re.IGNORECASE).match


@dataclass(frozen=True)
class BootFile:
    """A file in which the boot names devices by their bus, and what becomes of it.

    `after` is its text without the names that are understood; None where nobody but the user changes it.
    """

    path: str
    #: what is named there, as shown to the user, and the devices in it
    names: tuple[str, ...]
    devices: tuple[str, ...] = ()
    before: str = ""
    after: str | None = None
    #: a command that has to follow; where there is only that, the file is made by it
    then: str | None = None
    #: must every initramfs be built anew?
    rebuild: bool = False
    #: what to do by hand
    advice: str = ""

    def __str__(self) -> str:
        return "; ".join(f"{self.path}: {name}" for name in self.names)


def in_lines(
    facts: Facts,
    path: str,
    is_read: Callable[[str], object],
    *,
    tags: tuple[str, ...] = TAGS,
    by_entry: bool = False,
    then: str | None = None,
) -> BootFile | None:
    """*path* with the bus names on those lines that *is_read* takes for kernel parameters; None without any.

    *by_entry*: it holds boot entries, and *tags* are for those that have an initramfs. The kernel itself knows
    PARTUUID alone (block/early-lookup.c in Linux).
    """
    text = facts.boot_files[path]
    lines = text.split("\n")
    read = [number for number, line in enumerate(lines) if is_read(line)]
    found = list(
        dict.fromkeys(name for number in read for name in cmdline.names(lines[number]))
    )
    if not found:
        return None
    alone = _without_initramfs(lines) if by_entry else frozenset[int]()
    for number in read:
        lines[number] = cmdline.named_stably(
            facts, lines[number], ("PARTUUID",) if number in alone else tags
        )
    return BootFile(
        path,
        tuple(map(str, found)),
        tuple(name.device for name in found if name.device),
        text,
        "\n".join(lines),
        then,
    )


def _without_initramfs(lines: list[str]) -> frozenset[int]:
    """The lines of entries that have no initramfs. What stands before the first entry is for all of them."""
    starts = [number for number, line in enumerate(lines) if number and _ENTRY(line)]
    found: set[int] = set()
    for start, end in pairwise((0, *starts, len(lines))):
        entry = lines[start:end] if _ENTRY(lines[start]) else lines
        if not any(map(_INITRD, entry)):
            found.update(range(start, end))
    return frozenset(found)


def begins(words: str) -> Callable[[str], object]:
    """A line's test: does it begin with one of *words*, a regular expression?"""
    return re.compile(rf"[ \t]*(?:{words})", re.IGNORECASE).match
