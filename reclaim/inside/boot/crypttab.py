"""crypttab(5): the devices that are unlocked at boot."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass

from reclaim.inside.boot.bootfile import BootFile
from reclaim.inside.facts import Facts
from reclaim.inside.fstab import is_renamed_by_bus, stable_name

PATHS = ("/etc/crypttab", "/etc/crypttab.initramfs")
#: nothing else ends a field
_FIELD = r"[^ \t\r\n]+"
_LINE = re.compile(
    rf"^(?P<head>[ \t]*(?P<name>(?!#){_FIELD})[ \t]+)(?P<device>{_FIELD})"
    rf"(?P<rest>(?:[ \t]+(?P<key>{_FIELD})(?:[ \t]+(?P<options>{_FIELD}))?)?.*)$",
    re.MULTILINE,
)
#: a key file's device (`/key:/dev/vdb1`, `/dev/vdb1:/key`), or a detached header
_ELSEWHERE = re.compile(
    r"/dev/(?:(?:vd|sd|hd|xvd)[a-z]+\d*|disk/by-(?:path|id)/[^\s,:]+)"
)


@dataclass(frozen=True)
class CrypttabEntry:
    """One line: the mapping's name, the device below it, its options."""

    name: str
    device: str
    options: tuple[str, ...]

    @property
    def is_optional(self) -> bool:
        """True if the boot goes on without it."""
        return "noauto" in self.options or "nofail" in self.options


def entries(text: str) -> Iterator[CrypttabEntry]:
    """Yield the entries of a crypttab."""
    for match in _LINE.finditer(text):
        options = match["options"] or ""
        yield CrypttabEntry(
            name=match["name"],
            device=match["device"],
            options=tuple(options.split(",")),
        )


def places(facts: Facts) -> Iterator[BootFile]:
    """Yield the crypttabs that name devices by their bus. An initramfs has a copy of them: all are built anew."""
    for path in PATHS:
        text = facts.boot_files.get(path, "")
        devices = tuple(
            entry.device for entry in entries(text) if _counts(facts, entry)
        )
        if devices:
            stable = _named_stably(facts, text)
            yield BootFile(
                path=path,
                names=devices,
                devices=devices,
                before=text,
                after=stable,
                rebuild=True,
            )
        for match in _LINE.finditer(text):
            named = _ELSEWHERE.findall(match["rest"])
            if named:
                yield BootFile(
                    path=path,
                    names=tuple(named),
                    advice=f"{path}: name the key or the header of {match['name']} by UUID",
                )


def _counts(facts: Facts, entry: CrypttabEntry) -> bool:
    """True if the entry's device is named by its bus, and is there or waited for."""
    if not is_renamed_by_bus(entry.device):
        return False
    return not entry.is_optional or facts.device(entry.device) is not None


def _named_stably(facts: Facts, text: str) -> str:
    def stable(match: re.Match[str]) -> str:
        if not is_renamed_by_bus(match["device"]):
            return match[0]
        device = facts.device(match["device"])
        if device is None:
            return match[0]
        # plain dm-crypt overwrites any UUID that seems to be there: only the partition has a name
        tags: tuple[str, ...] = ("PARTUUID",)
        if device.fstype == "crypto_LUKS":
            tags = ("UUID", "PARTUUID")
        name = stable_name(facts, device, tags)
        if name:
            return f"{match['head']}{name}{match['rest']}"
        return match[0]

    return _LINE.sub(stable, text)


def with_discard(text: str, names: Container[str]) -> str:
    """Return *text* with the option `discard` for the mappings *names*; unchanged if it cannot be added."""

    def add(match: re.Match[str]) -> str:
        if match["name"] in names:
            return _with_discard(match)
        return match[0]

    return _LINE.sub(add, text)


def _with_discard(match: re.Match[str]) -> str:
    line = match[0]
    options = match["options"]
    key = match["key"] or ""
    if options is not None:
        if "discard" in options.split(","):
            return line
        end = match.end("options") - match.start()
        return line[:end] + ",discard" + line[end:]
    if match["rest"].strip(" \t\r") != key:
        # a line break of another kind within it: its meaning is not known
        return line
    # a line may end after the device: the key is `none` then. Without a type it may be plain: that is left open
    key_field = " none"
    if key:
        key_field = ""
    return line.rstrip(" \t\r") + key_field + " discard"
