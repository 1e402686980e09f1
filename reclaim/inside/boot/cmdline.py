"""Kernel command lines: the devices they name, and the same lines with names that stay."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from reclaim.inside.facts import Facts
from reclaim.inside.fstab import (
    TAGS,
    FstabEntry,
    ambiguous,
    is_renamed_by_bus,
    owned_by,
    stable_name,
)

#: a parameter and its value, taken whole; kernelopts= is GRUB's variable around a line (RHEL 8), not a parameter
_TOKEN = re.compile(
    r"(?<![\w.-])(?!kernelopts=)(?P<key>[A-Za-z_][\w.-]*)=(?P<q>[\"'](?=/dev/))?(?P<value>[^\s\"']+)"
)
#: a device named by its bus somewhere in a value: `device=/dev/vdb` of rootflags, `/dev/vda3:root` of cryptdevice
_SOMEWHERE = re.compile(
    r"(?:\A|[=,:])(?P<device>/dev/(?:(?:vd|sd|hd|xvd)[a-z]+\d*(?![\w/])|disk/by-(?:path|id)/.+))"
)
#: parameters whose whole value is a device, which their readers take as UUID= too: the kernel's and every
#: initramfs's root and resume; boot (dracut, fips), mount.usr and mount.usrflags (systemd), real_root (genkernel),
#: cryptroot (mkinitfs-bootparam(7))
_WHOLE = frozenset(("root", "resume", "boot", "mount.usr", "real_root", "cryptroot"))
#: a root by its number, as lilo wrote it: major:minor, or both as hexadecimal digits (early_lookup_bdev in Linux)
_NUMBER = re.compile(
    r"(?<![\w.-])(?P<key>root|resume)=(?P<value>\d+:\d+|[0-9a-f]{3,4})(?![^\s\"'])"
)
#: parameters whose value begins with a device: cryptdevice=DEVICE:NAME (mkinitcpio's hook encrypt)
_BEFORE_COLON = frozenset(("cryptdevice",))
#: what parts a list in a value, and ends a command of a menu
_LIST = re.compile("[:,;]")
#: parameters within the value of another that are looked for: GRUB_CMDLINE_LINUX=root=UUID=…
_NESTED = 3


@dataclass(frozen=True)
class Name:
    """A kernel parameter that names a device by its bus; `device` is "" where it is a number."""

    parameter: str
    value: str
    device: str

    def __str__(self) -> str:
        return f"{self.parameter}={self.value}"


def names(line: str) -> list[Name]:
    """The parameters in *line* that name a device by its bus, known or not."""
    found = []
    for match in _TOKEN.finditer(line):
        inside = _SOMEWHERE.search(match["value"])
        if inside and is_renamed_by_bus(inside["device"]):
            found.append(Name(match["key"], match["value"], inside["device"]))
    found += [
        Name(match["key"], match["value"], "") for match in _NUMBER.finditer(line)
    ]
    return found


def parameters(text: str) -> Iterator[str]:
    """Everything in *text* that reads `parameter=value`, also with the value cut off where a list goes on in it."""
    for match in _TOKEN.finditer(text):
        key, value = match["key"], match["value"]
        for _ in range(_NESTED):
            yield f"{key}={value}"
            yield f"{key}={_LIST.split(value, maxsplit=1)[0]}"
            key, within, value = value.partition(
                "="
            )  # a variable's value may be a parameter
            if not within:
                break


def named_stably(facts: Facts, line: str, tags: tuple[str, ...] = TAGS) -> str:
    """*line* with those devices by *tags*. What is not understood, or has no name of its own, stays."""

    def stable(match: re.Match[str]) -> str:
        path, rest = _device(match)
        device = facts.device(path) if is_renamed_by_bus(path) else None
        name = stable_name(facts, device, tags) if device else None
        return f"{match['key']}={match['q'] or ''}{name}{rest}" if name else match[0]

    return _TOKEN.sub(stable, line)


def _device(match: re.Match[str]) -> tuple[str, str]:
    """The device that a parameter names, and the text behind it; "" if the parameter is not understood."""
    if match["key"] in _BEFORE_COLON:
        device, colon, rest = match["value"].partition(":")
        return device, colon + rest
    return (match["value"], "") if match["key"] in _WHOLE else ("", "")


def why_it_stays(facts: Facts, name: str) -> str:
    """Why `named_stably` leaves *name*: a parameter with its value, or a device alone."""
    key, equals, value = name.partition("=")
    match = _TOKEN.fullmatch(
        f"{key.lower()}{equals}{value}"
    )  # initramfs.conf(5) has them in capitals
    device = _device(match)[0] if match else name
    if not device or _NUMBER.fullmatch(name):
        return "reclaim does not understand this parameter"
    return (
        "it is not there"
        if facts.device(device) is None
        else "it has no UUID of its own"
    )


def clones(facts: Facts) -> list[str]:
    """What the command line in use names by a UUID or label that several disks have, in words.

    Which of them is taken hangs on the order of discovery: on another bus it may be the other one.
    """
    found = []
    for match in _TOKEN.finditer(facts.command_line):
        source, _ = _device(match)
        if several := ambiguous(facts, FstabEntry(0, source, "", "auto", ())):
            found.append(f"{match['key']}={source} is that of {owned_by(several)}")
    return found
