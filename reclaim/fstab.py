"""fstab(5): lines are taken apart so that one field can be replaced and every other byte stays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from reclaim.facts import BlockDevice, Facts

#: fields are parted by blanks and tabs alone: other white space is part of a name
_LINE = re.compile(r"^(?P<lead>[ \t]*)(?P<source>[^ \t\r#][^ \t\r]*)(?P<rest>(?:[ \t].*)?\r?)$", re.DOTALL)
#: names the kernel gives by bus and by order of discovery, and udev links made from the bus
_RENAMED = re.compile(r"/dev/(?:(?:vd|sd|hd|xvd)[a-z]+\d*|disk/by-path/.+|disk/by-id/.+)\Z")


@dataclass(frozen=True)
class Entry:
    """One line of fstab that is neither blank nor a comment. `number` counts lines from 1."""

    number: int
    source: str
    target: str
    fstype: str
    options: tuple[str, ...]

    @property
    def is_optional(self) -> bool:
        """Does the boot go on without it?"""
        return "noauto" in self.options or "nofail" in self.options

    @property
    def devices(self) -> tuple[str, ...]:
        """The source, and the `device=` options of a multi-device btrfs."""
        return (self.source, *(option.partition("=")[2] for option in self.options if option.startswith("device=")))


def unescape(field: str) -> str:
    r"""Undo fstab's octal escapes: `\040` is a space."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def entries(text: str) -> Iterator[Entry]:
    """The entries of an fstab; missing fields are what fstab(5) says they default to."""
    for number, line in enumerate(text.split("\n"), start=1):
        match = _LINE.match(line)
        if match is None:
            continue
        fields = [unescape(part) for part in re.split(r"[ \t]+", match["rest"].strip(" \t\r")) if part]
        yield Entry(
            number,
            unescape(match["source"]),
            fields[0] if fields else "",
            fields[1] if len(fields) > 1 else "auto",
            tuple((fields[2] if len(fields) > 2 else "defaults").split(",")),
        )


def is_renamed_by_bus(device: str) -> bool:
    """Does a change of the disk's bus give *device* another name?"""
    return _RENAMED.match(device) is not None


def replace_device(text: str, number: int, old: str, new: str) -> str:
    """*text* with *old* replaced by *new* on one line, as the source or in a `device=` option."""
    lines = text.split("\n")
    match = _LINE.match(lines[number - 1])
    if match is None:
        raise ValueError(f"line {number} is no entry")
    source, rest = match["source"], match["rest"]
    if unescape(source) == old:
        source = new
    else:
        rest = re.sub(rf"(?<=[\s,])device={re.escape(old)}(?=[\s,]|$)", lambda _: f"device={new}", rest)
    lines[number - 1] = match["lead"] + source + rest
    return "\n".join(lines)


def stable_name(facts: Facts, device: BlockDevice) -> str | None:
    """A name for *device* that no change of bus touches: UUID=, else PARTUUID= where the UUID is not
    its own (a clone, a member of a multi-device filesystem); None where it has neither."""
    everything = [one for root in facts.block_devices for one in root.walk()]
    for tag, value in (("UUID", device.uuid), ("PARTUUID", device.partuuid)):
        if value is None or not re.fullmatch(r"[0-9A-Za-z-]+", value):
            continue
        owners = {one.path for one in everything if getattr(one, tag.lower()) == value}
        if owners == {device.path}:
            return f"{tag}={value}"
    return None
