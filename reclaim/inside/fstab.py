"""fstab(5): taken apart so that one name can be replaced and every other byte stays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reclaim.base.cached import kept, once
from reclaim.inside.devices import BlockDevice
from reclaim.inside.facts import Facts

#: fields are parted by blanks and tabs alone: other white space is part of a name
_LINE = re.compile(
    r"^(?P<lead>[ \t]*)(?P<source>[^ \t\r#][^ \t\r]*)(?P<rest>(?:[ \t].*)?\r?)$",
    re.DOTALL,
)
#: names the kernel gives by bus and by order of discovery, and udev links made from the bus; device
#: mapper, md and LVM link what they make by their own ids (their udev rules 11-dm, 13-dm-disk, 63-md, 69-dm-lvm)
_RENAMED = re.compile(
    r"(?:/dev/(?:(?:vd|sd|hd|xvd)[a-z]+\d*|dm-\d+|disk/by-path/.+)"
    r"|(?:/dev/disk/by-id/|ID=)(?!dm-|md-name-|md-uuid-|lvm-pv-uuid-).+)\Z"
)
#: what a change of bus changes in a kernel's name: /dev/vda1 and /dev/sda1 have the same place
_PLACE = re.compile(r"\A/dev/(?:vd|sd|hd|xvd)(?=[a-z]+\d*\Z)")
#: an option that names a device: `device=` (btrfs), `journal_path=` (ext4), `logdev=` and `rtdev=` (XFS),
#: `jdev=` (reiserfs), `x-systemd.requires=` and the like
DEVICE_OPTION = re.compile(r"(?P<key>[\w.-]+)=(?P<device>/dev/.+)\Z", re.DOTALL)
_NAMED_OPTION = re.compile(r"(?<=[\s,])(?P<key>[\w.-]+=)(?P<device>[^\s,]+)")
#: options that name a device in a way that nothing here rewrites: by number, as a unit of systemd
_OPAQUE_OPTION = re.compile(
    r"journal_dev=.+|x-systemd\.[\w-]+=dev-(?:vd|sd|hd|xvd|disk-by\\x2d(?:path|id)).*\.device\Z"
)
#: mount(8): a tag, its value in quotes or not, or udev's link of the same
_TAG = re.compile(
    r"(?:(?P<tag>UUID|PARTUUID|LABEL|PARTLABEL)=(?P<q>\"?)|/dev/disk/by-(?P<link>uuid|partuuid|label|partlabel)/)"
    r"(?P<value>[^\"]+)(?(q)(?P=q)|)\Z"
)
#: tags that a mount(8) without util-linux knows (busybox's volume_id)
SMALL_TAGS = ("UUID", "LABEL")
TAGS = ("UUID", "PARTUUID", "LABEL", "PARTLABEL")
#: devices with one tag that are named to the user
_SHOWN = 4


@dataclass(frozen=True)
class FstabEntry:
    """One line of fstab that is neither blank nor a comment. `number` counts lines from 1."""

    number: int
    source: str
    target: str
    fstype: str
    options: tuple[str, ...]

    @kept
    def is_optional(self) -> bool:
        """Does the boot go on without it?"""
        return "noauto" in self.options or "nofail" in self.options

    @property
    def devices(self) -> tuple[str, ...]:
        """The source, and what its options name: members of a btrfs, external journals and logs."""
        found = (DEVICE_OPTION.match(option) for option in self.options)
        return (self.source, *(match["device"] for match in found if match))

    @property
    def tag(self) -> tuple[str, str] | None:
        """How the source is named, where it is by a tag: ("uuid", "aaaa-1")."""
        match = _TAG.match(self.source)
        return (
            ((match["tag"] or match["link"]).lower(), match["value"]) if match else None
        )

    @property
    def opaque(self) -> tuple[str, ...]:
        """What names a device by its bus or its number and can only be rewritten by hand: options, and the
        members of a bcachefs, parted by colons (bcachefs(8))."""
        members = re.split(r":(?=/dev/)", self.source)
        several = (
            (self.source,)
            if len(members) > 1 and any(map(is_renamed_by_bus, members))
            else ()
        )
        return (
            *several,
            *(option for option in self.options if _OPAQUE_OPTION.match(option)),
        )


def unescape(field: str) -> str:
    r"""Undo fstab's octal escapes: `\040` is a space."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def entries(text: str) -> Iterator[FstabEntry]:
    """The entries of an fstab; missing fields are what fstab(5) says they default to."""
    for number, line in enumerate(text.split("\n"), start=1):
        match = _LINE.match(line)
        if match is None:
            continue
        fields = [
            unescape(part)
            for part in re.split(r"[ \t]+", match["rest"].strip(" \t\r"))
            if part
        ]
        yield FstabEntry(
            number,
            unescape(match["source"]),
            fields[0] if fields else "",
            fields[1] if len(fields) > 1 else "auto",
            tuple((fields[2] if len(fields) > 2 else "defaults").split(",")),
        )


@once
def listed(facts: Facts) -> tuple[FstabEntry, ...]:
    """The entries of the guest's fstab. Raises ProbeError where it cannot be read."""
    return tuple(entries(facts.fstab))


def path_of(device: str) -> str:
    """Where a device is that is named by udev's hardware id (`ID=` of mount(8)); other names are paths."""
    return (
        f"/dev/disk/by-id/{device.removeprefix('ID=')}"
        if device.startswith("ID=")
        else device
    )


def is_renamed_by_bus(device: str) -> bool:
    """Does a change of the disk's bus give *device* another name?"""
    return _RENAMED.match(device) is not None


def replace_device(line: str, old: str, new: str, *, option: bool = False) -> str:
    """An entry's *line* with *old* replaced by *new*: as the source, or in options like `device=`."""
    if option:
        return replace_options(line, {old: new})
    match = _LINE.match(line)
    if match is None:
        raise ValueError(f"{line!r} is no entry")
    source = new if unescape(match["source"]) == old else match["source"]
    return match["lead"] + source + match["rest"]


def replace_options(line: str, names: Mapping[str, str]) -> str:
    """An entry's *line* with the devices of options like `device=` called by their *names*."""
    match = _LINE.match(line)
    if match is None:
        raise ValueError(f"{line!r} is no entry")
    rest = _NAMED_OPTION.sub(
        lambda one: one["key"] + names.get(one["device"], one["device"]), match["rest"]
    )
    return match["lead"] + match["source"] + rest


def stable_name(
    facts: Facts,
    device: BlockDevice,
    tags: tuple[str, ...] = TAGS,
    *,
    alone: bool = False,
) -> str | None:
    """A name for *device* that no change of bus touches: UUID=, else PARTUUID= where the UUID is not
    its own (a clone, a member of a multi-device filesystem), else a label; None where it has none.

    *tags* are those that may be used, the best first; *alone*: a member is meant, not the whole.
    """
    for tag in tags:
        value = getattr(device, tag.lower())
        if value is None or not re.fullmatch(
            r"[0-9A-Za-z-]+" if tag.endswith("UUID") else r"[\w.+-]+", value, re.ASCII
        ):
            continue
        owners = facts.with_tag.get((tag.lower(), value), ())
        # a filesystem that lies on several devices is mounted by its UUID, whichever of them that leads to
        whole = not alone and tag == "UUID" and value in _whole_btrfs(facts)
        if whole or (len(owners) == 1 and owners[0].path == device.path):
            return f"{tag}={value}"
    return None


@once
def _whole_btrfs(facts: Facts) -> frozenset[str]:
    """The UUIDs that the members of one mounted btrfs have, and no other device has."""
    return frozenset(
        uuid
        for uuid, names in facts.btrfs_members.items()
        if {one.path for one in facts.with_tag.get(("uuid", uuid), ())}
        == {f"/dev/{name}" for name in names}
    )


def ambiguous(facts: Facts, entry: FstabEntry) -> tuple[BlockDevice, ...]:
    """The disks and partitions that *entry* may mean, where its tag is that of several (clones).

    Which one is meant hangs on the order of discovery, and that is another on another bus.
    """
    if entry.tag is None or "noauto" in entry.options:
        return ()
    return _clones(facts).get(entry.tag, ())


@once
def _clones(facts: Facts) -> Mapping[tuple[str, str], tuple[BlockDevice, ...]]:
    """The tags that several disks or partitions have, and these; what is one btrfs is none of them."""
    return {
        tag: owners
        for tag, owners in facts.tagged.items()
        if len(owners) > 1
        and not (owners[0].fstype == "btrfs" and _is_one_btrfs(facts, owners))
    }


def _is_one_btrfs(facts: Facts, owners: tuple[BlockDevice, ...]) -> bool:
    """Are these members of one filesystem? The kernel tells of those that are mounted; others are taken for such."""
    members = facts.btrfs_members.get(owners[0].uuid or "")
    return members is None or {one.name for one in owners} == members


def owned_by(owners: tuple[BlockDevice, ...]) -> str:
    """The paths of *owners* in words, the first few of many."""
    paths = [one.path for one in owners[:_SHOWN]]
    more = [f"{len(owners) - _SHOWN} more"] if len(owners) > _SHOWN else []
    return " and ".join([*paths, *more])


def meant(facts: Facts, entry: FstabEntry) -> BlockDevice | None:
    """The device that *entry* is mounted from, or swapped to, now."""
    owners = ambiguous(facts, entry)
    if not owners or entry.tag is None:
        return None
    if entry.fstype == "swap":
        swapped = _swapped(facts).get(entry.tag, ())
        return swapped[0] if len(swapped) == 1 else None
    return next(
        (
            _clone_paths(facts)[entry.tag].get(one.device)
            for one in facts.mounts_on.get(entry.target, ())[-1:]
        ),
        None,
    )


@once
def _clone_paths(facts: Facts) -> Mapping[tuple[str, str], Mapping[str, BlockDevice]]:
    """The tags that several disks or partitions have -> these by their paths."""
    return {
        tag: {one.path: one for one in owners} for tag, owners in _clones(facts).items()
    }


@once
def _swapped(facts: Facts) -> Mapping[tuple[str, str], tuple[BlockDevice, ...]]:
    """The tags that several disks or partitions have -> those of them that are swapped to."""
    active = frozenset(facts.swaps)
    return {
        tag: tuple(one for one in owners if one.path in active)
        for tag, owners in _clones(facts).items()
    }


@once
def instead(facts: Facts) -> Mapping[str, BlockDevice]:
    """What is in use in place of a device that is not there: its name in fstab -> the device that is mounted on the
    entry's target with its type, or the only swap. Only if no entry of another name may mean that device."""
    meant_by: dict[str, set[str]] = {}
    names_of: dict[str, set[str]] = {}
    dead: dict[str, None] = {}
    for entry in listed(facts):
        if entry.source in meant_by and entry.source not in dead:
            continue
        if there := facts.device(path_of(entry.source)):
            paths = {there.path}
        elif entry.tag:
            paths = {one.path for one in facts.tagged.get(entry.tag, ())}
        else:
            dead[entry.source] = None
            used = facts.device(_in_use(facts, entry))
            paths = {used.path if used else ""}
        meant_by.setdefault(entry.source, set()).update(paths)
        for path in paths:
            names_of.setdefault(path, set()).add(entry.source)
    found = {}
    for name in dead:
        device = (
            facts.device(next(iter(meant_by[name])))
            if len(meant_by[name]) == 1
            else None
        )
        if device and is_renamed_by_bus(name) and names_of[device.path] == {name}:
            found[name] = device
    return found


def _in_use(facts: Facts, entry: FstabEntry) -> str:
    """The path of what is mounted or swapped to where *entry* says; "" where that is not certain."""
    if entry.fstype == "swap":
        return _swap(facts, entry)
    mounts = facts.mounts_on.get(entry.target.rstrip("/") or "/", ())
    if len(mounts) != 1 or entry.fstype not in ("auto", mounts[0].fstype):
        return ""
    subvolume = next(
        (
            option.partition("=")[2]
            for option in entry.options
            if option.startswith("subvol=")
        ),
        None,
    )
    if subvolume is not None and subvolume.strip("/") != mounts[0].fsroot.strip("/"):
        return ""
    return mounts[0].device


def _swap(facts: Facts, entry: FstabEntry) -> str:
    """The one swap that is on; without any, the one there is, if it differs from the entry's by its bus alone."""
    if facts.swaps:
        return facts.swaps[0] if len(facts.swaps) == 1 else ""
    swap = _only_swap(facts)
    return swap if swap and _PLACE.sub("", swap) == _PLACE.sub("", entry.source) else ""


@once
def _only_swap(facts: Facts) -> str:
    """The path of the one device that is formatted as swap; "" without any, and if there are several."""
    swaps = {one.path for one in facts.devices if one.fstype == "swap"}
    return swaps.pop() if len(swaps) == 1 else ""


def stable_path(facts: Facts, device: BlockDevice) -> str | None:
    """As `stable_name`, but as a path, for where only paths are taken (`device=` of btrfs)."""
    tag, _, value = (stable_name(facts, device, alone=True) or "").partition("=")
    return f"/dev/disk/by-{tag.lower()}/{value}" if value else None


@dataclass(frozen=True)
class Rewritten:
    """A file's new text, the devices that are no longer named in it, and what could not be renamed."""

    text: str
    replaced: list[str]
    left: list[str]


def named_stably(facts: Facts) -> Rewritten:
    """fstab without bus names, as far as the devices have other ones."""
    lines, replaced, left = facts.fstab.split("\n"), [], []
    tags = TAGS if "findmnt" in facts.tools else SMALL_TAGS
    in_place = instead(facts)
    for entry in listed(facts):
        at = entry.number - 1
        left += [f"line {entry.number}: {option}" for option in entry.opaque]
        if ambiguous(facts, entry):
            owner = meant(facts, entry)
            name = stable_name(facts, owner, tags) if owner else None
            if name is None:
                left.append(
                    f"line {entry.number}: give one of the filesystems another UUID, or name it by PARTUUID="
                )
            else:
                lines[at] = replace_device(lines[at], entry.source, name)
        options: dict[str, str] = {}
        for place, device in enumerate(entry.devices):
            if not is_renamed_by_bus(device):
                continue
            option = (
                place > 0
            )  # of a btrfs the source is named there once more: the kernel takes paths alone
            there = facts.device(path_of(device))
            block = there or (
                None if option or entry.is_optional else in_place.get(device)
            )
            if block is None:
                if not entry.is_optional:
                    left.append(f"line {entry.number}: {device} is not there")
                continue
            name = (
                stable_path(facts, block) if option else stable_name(facts, block, tags)
            )
            if name is None:
                left.append(f"line {entry.number}: {device} has no UUID of its own")
                continue
            if there:
                replaced.append(path_of(device))
            if option:
                options[device] = name
            else:
                lines[at] = replace_device(lines[at], device, name)
        if options:
            lines[at] = replace_options(lines[at], options)
    return Rewritten("\n".join(lines), replaced, left)
