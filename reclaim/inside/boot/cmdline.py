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
#: a device's name by its bus; a volume group may be called `vdata`, and none `vda1`
_BUS_NAME = r"/dev/(?:(?:vd|sd|hd|xvd)[a-z]+(?:\d+(?!\w)|(?![\w/]))|block/\d+:\d+)"
#: a device named by its bus somewhere in a value: `device=/dev/vdb` of rootflags, `/dev/vda3:root` of cryptdevice
_SOMEWHERE = re.compile(
    rf"(?:\A|[=,:])(?P<device>{_BUS_NAME}|/dev/disk/by-(?:path|id)/.+)"
)
#: a device as a word of its own, within a parameter that has blanks: dm-mod.create="… linear /dev/vda1 0"
_WORD = re.compile(rf"(?<!\S)(?P<device>{_BUS_NAME})(?![^\s\"'\\])")
_KEY = re.compile(r"(?<![\w.-])[A-Za-z_][\w.-]*(?==)")
#: stands for the words of a value before the one that names the device
_BEFORE = "… "
#: a disk without /dev (alpine_dev=vda1, blkdevparts=vda:…, stage2=hd:vda1:/), or as a unit of systemd's
_BARE = re.compile(
    r"(?:\A|[:,])(?:(?:vd|sd|hd|xvd)[a-z]{1,2}\d{1,3}(?=\Z|[:,/])|x?vd[a-z](?=\Z|[:,]))"
    r"|(?:\A|[=,:])dev-(?:vd|sd|hd|xvd)[a-z]+\d*\.(?:device|swap)\b"
)
#: parameters whose whole value is a device, which their readers take as UUID= too: the kernel's and every
#: initramfs's root and resume; boot (dracut, fips), mount.usr and mount.usrflags (systemd), real_root (genkernel),
#: cryptroot (mkinitfs-bootparam(7))
_WHOLE = frozenset(("root", "resume", "boot", "mount.usr", "real_root", "cryptroot"))
#: a root by its number, as lilo wrote it: major:minor, or both as hexadecimal digits (early_lookup_bdev in Linux)
_NUMBER = re.compile(
    r"(?<![\w.-])(?P<key>root|resume)=(?P<value>\d+:\d+|(?:0x)?[0-9a-f]{3,4})(?![^\s\"'])"
)
#: parameters whose value begins with a device: cryptdevice=DEVICE:NAME (mkinitcpio's hook encrypt)
_BEFORE_COLON = frozenset(("cryptdevice",))
#: the characters that part a list in a value, and end a command of a menu
_LIST = re.compile("[:,;]")
#: parameters within the value of another that are looked for: GRUB_CMDLINE_LINUX=root=UUID=…
_NESTED = 3


@dataclass(frozen=True)
class Name:
    """A kernel parameter that names a device by its bus.

    `device` is "" if it is a number, or a name without /dev.
    """

    parameter: str
    value: str
    device: str

    def __str__(self) -> str:
        return f"{self.parameter}={self.value}"

    @property
    def is_cut(self) -> bool:
        """True if `value` is a part of the parameter's value, which has blanks."""
        return self.value.startswith(_BEFORE)


def names(line: str) -> list[Name]:
    """Return the parameters in *line* that name a device by its bus, known or not."""
    named = []
    for match in _TOKEN.finditer(line):
        inside = _SOMEWHERE.search(match["value"])
        if inside and is_renamed_by_bus(inside["device"]):
            named.append(
                Name(
                    parameter=match["key"],
                    value=match["value"],
                    device=inside["device"],
                )
            )
        elif _BARE.search(match["value"]):
            named.append(Name(parameter=match["key"], value=match["value"], device=""))
    for match in _NUMBER.finditer(line):
        named.append(
            Name(
                parameter=match["key"],
                value=match["value"],
                device="",
            )
        )
    return named + _words(line)


def _words(line: str) -> list[Name]:
    """Return the devices that are words of their own in *line*, under the parameter before them."""
    if _WORD.search(line) is None:
        return []
    keys = [(match.start(), match[0]) for match in _KEY.finditer(line)]
    named = []
    parameter = ""
    for match in _WORD.finditer(line):
        while keys and keys[0][0] < match.start():
            parameter = keys.pop(0)[1]
        if parameter:
            value = f"{_BEFORE}{match['device']}"
            named.append(Name(parameter=parameter, value=value, device=match["device"]))
    return named


def parameters(text: str) -> Iterator[str]:
    """Yield every `parameter=value` in *text*, and each again with its value cut off at the first sign of a list."""
    for match in _TOKEN.finditer(text):
        key, value = match["key"], match["value"]
        for _ in range(_NESTED):
            yield f"{key}={value}"
            yield f"{key}={_LIST.split(value, maxsplit=1)[0]}"
            # a variable's value may be a parameter
            key, within, value = value.partition("=")
            if not within:
                break


def named_stably(facts: Facts, line: str, tags: tuple[str, ...] = TAGS) -> str:
    """Return *line* with those devices by *tags*. Parameters that reclaim does not understand stay as they are.

    So do devices without a name of their own.
    """

    def stable(match: re.Match[str]) -> str:
        path, rest = _device(match)
        device = None
        if is_renamed_by_bus(path):
            device = facts.device(path)
        name = None
        if device:
            name = stable_name(facts, device, tags)
        if name is None:
            return match[0]
        key = match["key"]
        quote = match["q"] or ""
        return f"{key}={quote}{name}{rest}"

    return _TOKEN.sub(stable, line)


def _device(match: re.Match[str]) -> tuple[str, str]:
    """Return the device that a parameter names, and the text behind it; "" if the parameter is not understood."""
    if match["key"] in _BEFORE_COLON:
        device, colon, rest = match["value"].partition(":")
        return device, colon + rest
    if match["key"] in _WHOLE:
        return match["value"], ""
    return "", ""


def why_it_stays(facts: Facts, name: str) -> str:
    """Return the reason why `named_stably` leaves *name*: a parameter with its value, or a device alone."""
    key, equals, value = name.partition("=")
    # initramfs.conf(5) has them in capitals
    match = _TOKEN.fullmatch(f"{key.lower()}{equals}{value}")
    device = name
    if match:
        device = _device(match)[0]
    if not device.startswith("/dev/") or device.startswith("/dev/block/"):
        return "reclaim does not understand this parameter"
    if facts.device(device) is None:
        return "it is not there"
    return "it has no UUID of its own"


def clones(facts: Facts) -> list[str]:
    """Return, in words, the parameters in use that name a device by a UUID or label that several disks have.

    The order of discovery decides which of them is taken: on another bus it may be the other one.
    """
    clones = []
    for match in _TOKEN.finditer(facts.command_line):
        source, _ = _device(match)
        owners = ambiguous(facts, FstabEntry(0, source, "", "auto", ()))
        if owners:
            clones.append(f"{match['key']}={source} is that of {owned_by(owners)}")
    return clones
