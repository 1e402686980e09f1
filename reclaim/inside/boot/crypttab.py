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


def entries(text: str) -> Iterator[CrypttabEntry]:
    """The entries of a crypttab."""
    for match in _LINE.finditer(text):
        yield CrypttabEntry(
            match["name"], match["device"], tuple((match["options"] or "").split(","))
        )


def places(facts: Facts) -> Iterator[BootFile]:
    """Where crypttab names devices by their bus. What lies in an initramfs is a copy: all are built anew."""
    for path in PATHS:
        text = facts.boot_files.get(path, "")
        devices = [entry.device for entry in entries(text) if _counts(facts, entry)]
        if devices:
            yield BootFile(
                path,
                tuple(devices),
                tuple(devices),
                text,
                _named_stably(facts, text),
                rebuild=True,
            )
        for match in _LINE.finditer(text):
            if named := _ELSEWHERE.findall(match["rest"]):
                yield BootFile(
                    path,
                    tuple(named),
                    advice=f"{path}: name the key or the header of {match['name']} by UUID",
                )


def _counts(facts: Facts, entry: CrypttabEntry) -> bool:
    """Is it named by its bus, and there or waited for? `noauto` and `nofail`: the boot goes on without it."""
    optional = "noauto" in entry.options or "nofail" in entry.options
    return is_renamed_by_bus(entry.device) and not (
        optional and facts.device(entry.device) is None
    )


def _named_stably(facts: Facts, text: str) -> str:
    def stable(match: re.Match[str]) -> str:
        device = (
            facts.device(match["device"])
            if is_renamed_by_bus(match["device"])
            else None
        )
        if device is None:
            return match[0]
        # plain dm-crypt overwrites whatever UUID seems to be there: only the partition has a name
        tags = ("UUID", "PARTUUID") if device.fstype == "crypto_LUKS" else ("PARTUUID",)
        name = stable_name(facts, device, tags)
        return f"{match['head']}{name}{match['rest']}" if name else match[0]

    return _LINE.sub(stable, text)


def with_discard(text: str, names: Container[str]) -> str:
    """*text* with the option `discard` for the mappings *names*; as it was where that cannot be added."""

    def add(match: re.Match[str]) -> str:
        if match["name"] not in names or "discard" in (match["options"] or "").split(
            ","
        ):
            return match[0]
        if match["options"] is None and match["rest"].strip(" \t\r") != (
            match["key"] or ""
        ):
            return match[
                0
            ]  # a line break of another kind within it: nobody knows what it says
        if match["options"] is None:
            # a line may end after the device: the key is `none` then. Without a type it may be plain: that is left open
            text = match[0].rstrip(" \t\r")
            return text + ("" if match["key"] else " none") + " discard"
        end = match.end("options") - match.start()
        return match[0][:end] + ",discard" + match[0][end:]

    return _LINE.sub(add, text)
