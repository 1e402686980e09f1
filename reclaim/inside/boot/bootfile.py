"""Files in which a guest's boot names devices."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from reclaim.inside.boot import cmdline
from reclaim.inside.facts import Facts
from reclaim.inside.fstab import TAGS

#: the begin of an entry of GRUB's or extlinux's; the file is one entry if it has none (systemd-boot)
_ENTRY = re.compile(r"[ \t]*(?:menuentry|label)\b", re.IGNORECASE).match
_INITRD = re.compile(r"[^#]*\binitrd(?:16|efi)?\b", re.IGNORECASE).match


@dataclass(frozen=True)
class BootFile:
    """A file in which the boot names devices by their bus, and the change that it needs.

    `after` is its text without the names that reclaim understands; None if only the user may change it.
    """

    path: str
    #: the names in it, as shown to the user, and the devices in these
    names: tuple[str, ...]
    devices: tuple[str, ...] = ()
    before: str = ""
    after: str | None = None
    #: a command that has to follow; if there is only that, the file is made by it
    then: str | None = None
    #: True if every initramfs must be built anew
    rebuild: bool = False
    #: True if there is no such file yet
    is_new: bool = False
    #: the steps to take by hand
    advice: str = ""

    @property
    def present(self) -> str | None:
        """The text that the file has now; None if there is no such file yet."""
        if self.is_new:
            return None
        return self.before

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
    """Return *path* with the bus names on those lines that *is_read* takes for kernel parameters; None without any.

    *by_entry*: it holds boot entries, and *tags* are for those that have an initramfs. The kernel itself knows
    PARTUUID alone (block/early-lookup.c in Linux).
    """
    text = facts.boot_files[path]
    lines = text.split("\n")
    read = [number for number, line in enumerate(lines) if is_read(line)]
    names: dict[cmdline.Name, None] = {}
    for number in read:
        names.update(dict.fromkeys(cmdline.names(lines[number])))
    if not names:
        return None
    alone = frozenset[int]()
    if by_entry:
        alone = _without_initramfs(lines)
    for number in read:
        known = tags
        if number in alone:
            known = ("PARTUUID",)
        lines[number] = cmdline.named_stably(facts, lines[number], known)
    shown = tuple(map(str, names))
    devices = tuple(name.device for name in names if name.device)
    return BootFile(
        path=path,
        names=shown,
        devices=devices,
        before=text,
        after="\n".join(lines),
        then=then,
    )


def _without_initramfs(lines: list[str]) -> frozenset[int]:
    """Return the lines of entries without an initramfs. The lines before the first entry hold for all of them."""
    starts = [0]
    for number, line in enumerate(lines):
        if number and _ENTRY(line):
            starts.append(number)
    without: set[int] = set()
    for start, end in pairwise((*starts, len(lines))):
        entry = lines
        if _ENTRY(lines[start]):
            entry = lines[start:end]
        if not any(map(_INITRD, entry)):
            without.update(range(start, end))
    return frozenset(without)


def begins(words: str) -> Callable[[str], object]:
    """Return the test whether a line begins with one of *words*, a regular expression."""
    return re.compile(rf"[ \t]*(?:{words})", re.IGNORECASE).match
