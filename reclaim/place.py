"""Places where a guest's boot names devices."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from reclaim import cmdline
from reclaim.facts import Facts
from reclaim.fstab import TAGS


@dataclass(frozen=True)
class Place:
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
    then: str | None = None,
) -> Place | None:
    """*path* with the bus names on those lines that *is_read* takes for kernel parameters; None without any."""
    text = facts.boot_files[path]
    lines = text.split("\n")
    read = [number for number, line in enumerate(lines) if is_read(line)]
    found = list(dict.fromkeys(name for number in read for name in cmdline.names(lines[number])))
    if not found:
        return None
    for number in read:
        lines[number] = cmdline.named_stably(facts, lines[number], tags)
    return Place(
        path, tuple(map(str, found)), tuple(name.device for name in found if name.device), text, "\n".join(lines), then
    )


def begins(words: str) -> Callable[[str], object]:
    """A line's test: does it begin with one of *words*, a regular expression?"""
    return re.compile(rf"[ \t]*(?:{words})", re.IGNORECASE).match


def initramfs_tags(text: str) -> tuple[str, ...]:
    """How a boot entry's root may be named: an initramfs finds what is named by UUID, the kernel itself knows
    PARTUUID alone (block/early-lookup.c in Linux)."""
    return TAGS if re.search(r"\binitrd\b", text, re.IGNORECASE) else ("PARTUUID",)
