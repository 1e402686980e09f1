"""fstab(5) and mount units: taken apart so that one name can be replaced and every other byte stays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from reclaim.facts import BlockDevice, Facts

#: fields are parted by blanks and tabs alone: other white space is part of a name
_LINE = re.compile(r"^(?P<lead>[ \t]*)(?P<source>[^ \t\r#][^ \t\r]*)(?P<rest>(?:[ \t].*)?\r?)$", re.DOTALL)
#: names the kernel gives by bus and by order of discovery, and udev links made from the bus; device
#: mapper, md and LVM link what they make by their own ids (their udev rules 11-dm, 13-dm-disk, 63-md, 69-dm-lvm)
_RENAMED = re.compile(
    r"/dev/(?:(?:vd|sd|hd|xvd)[a-z]+\d*|disk/by-path/.+|disk/by-id/(?!dm-|md-name-|md-uuid-|lvm-pv-uuid-).+)\Z"
)
#: an option that names a device: `device=` (btrfs), `journal_path=` (ext4), `logdev=` and `rtdev=` (XFS),
#: `jdev=` (reiserfs), `x-systemd.requires=` and the like
_DEVICE_OPTION = re.compile(r"(?P<key>[\w.-]+)=(?P<device>/dev/.+)\Z", re.DOTALL)
#: options that name a device in a way that nothing here rewrites: by number, as a unit of systemd
_OPAQUE_OPTION = re.compile(
    r"journal_dev=.+|x-systemd\.[\w-]+=dev-(?:vd|sd|hd|xvd|disk-by\\x2d(?:path|id)).*\.device\Z"
)
_WHAT = re.compile(r"^(?P<key>[ \t]*What[ \t]*=[ \t]*)(?P<device>/dev/\S+)(?P<rest>[ \t]*)$", re.MULTILINE)
_OPTIONS = re.compile(r"^[ \t]*Options[ \t]*=(?P<options>.*)$", re.MULTILINE)
#: tags that a mount(8) without util-linux knows (busybox's volume_id)
SMALL_TAGS = ("UUID", "LABEL")
TAGS = ("UUID", "PARTUUID", "LABEL", "PARTLABEL")


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
        """The source, and what its options name: members of a btrfs, external journals and logs."""
        found = (_DEVICE_OPTION.match(option) for option in self.options)
        return (self.source, *(match["device"] for match in found if match))

    @property
    def opaque(self) -> tuple[str, ...]:
        """Options that name a device by its bus or its number and can only be rewritten by hand."""
        return tuple(option for option in self.options if _OPAQUE_OPTION.match(option))


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
    """*text* with *old* replaced by *new* on one line, as the source or in an option like `device=`."""
    lines = text.split("\n")
    match = _LINE.match(lines[number - 1])
    if match is None:
        raise ValueError(f"line {number} is no entry")
    source, rest = match["source"], match["rest"]
    if unescape(source) == old:
        source = new
    else:
        rest = re.sub(rf"(?<=[\s,])([\w.-]+=){re.escape(old)}(?=[\s,]|$)", lambda match: match[1] + new, rest)
    lines[number - 1] = match["lead"] + source + rest
    return "\n".join(lines)


def stable_name(facts: Facts, device: BlockDevice, tags: tuple[str, ...] = TAGS) -> str | None:
    """A name for *device* that no change of bus touches: UUID=, else PARTUUID= where the UUID is not
    its own (a clone, a member of a multi-device filesystem), else a label; None where it has none.

    *tags* are those that may be used, the best first.
    """
    everything = [one for root in facts.block_devices for one in root.walk()]
    for tag in tags:
        value = getattr(device, tag.lower())
        if value is None or not re.fullmatch(
            r"[0-9A-Za-z-]+" if tag.endswith("UUID") else r"[\w.+-]+", value, re.ASCII
        ):
            continue
        owners = {one.path for one in everything if getattr(one, tag.lower()) == value}
        if owners == {device.path}:
            return f"{tag}={value}"
    return None


def stable_path(facts: Facts, device: BlockDevice) -> str | None:
    """As `stable_name`, but as a path, for where only paths are taken (`device=` of btrfs)."""
    tag, _, value = (stable_name(facts, device) or "").partition("=")
    return f"/dev/disk/by-{tag.lower()}/{value}" if value else None


@dataclass(frozen=True)
class Rewritten:
    """A file's new text, the devices that are no longer named in it, and what could not be renamed."""

    text: str
    replaced: list[str]
    left: list[str]


def named_stably(facts: Facts) -> Rewritten:
    """fstab without bus names, as far as the devices have other ones."""
    text, replaced, left = facts.fstab, [], []
    tags = TAGS if "findmnt" in facts.tools else SMALL_TAGS
    for entry in entries(facts.fstab):
        left += [f"line {entry.number}: {option}" for option in entry.opaque]
        for device in filter(is_renamed_by_bus, entry.devices):
            block = facts.device(device)
            if block is None:
                if not entry.is_optional:
                    left.append(f"line {entry.number}: {device} is not there")
                continue
            name = stable_name(facts, block, tags) if device == entry.source else stable_path(facts, block)
            if name is None:
                left.append(f"line {entry.number}: {device} has no UUID of its own")
                continue
            replaced.append(device)
            text = replace_device(text, entry.number, device, name)
    return Rewritten(text, replaced, left)


def unit_names(text: str) -> list[str]:
    """The bus names in a mount or swap unit (systemd.mount(5)), or in a drop-in of one."""
    found = [match["device"] for match in _WHAT.finditer(text)]
    for match in _OPTIONS.finditer(text):
        options = (_DEVICE_OPTION.match(option) for option in match["options"].strip().split(","))
        found += [option["device"] for option in options if option]
    return [device for device in found if is_renamed_by_bus(device)]


def unit_named_stably(facts: Facts, path: str, text: str) -> Rewritten:
    """A mount unit without bus names. A swap unit carries the device in its own name: that is left."""
    names: dict[str, str] = {}
    left: list[str] = []
    for device in unit_names(text):
        block = facts.device(device)
        name = stable_path(facts, block) if block else None
        if name is None or ".swap" in path:
            why = "is the unit's own name" if ".swap" in path else "has no UUID of its own" if block else "is not there"
            left.append(f"{path}: {device} {why}")
        else:
            names[device] = name

    def stable(line: re.Match[str]) -> str:
        return re.sub(r"(?<==)/dev/[^\s,]+", lambda one: names.get(one[0], one[0]), line[0])

    return Rewritten(_OPTIONS.sub(stable, _WHAT.sub(stable, text)), list(names), left)
