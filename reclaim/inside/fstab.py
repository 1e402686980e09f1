"""fstab(5): taken apart so that one name can be replaced and every other byte stays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from reclaim.base.cached import kept, once
from reclaim.inside.devices import BlockDevice
from reclaim.inside.facts import Facts
from reclaim.inside.filesystems import is_made_inside

#: fields are parted by blanks and tabs alone: other white space is part of a name
_LINE = re.compile(
    r"^(?P<lead>[ \t]*)(?P<source>[^ \t\r#][^ \t\r]*)(?P<rest>(?:[ \t].*)?\r?)$",
    re.DOTALL,
)
#: names the kernel gives by bus and by order of discovery, and udev links made from the bus; device
#: mapper, md and LVM link their devices by their own ids (their udev rules 11-dm, 13-dm-disk, 63-md, 69-dm-lvm)
_RENAMED = re.compile(
    r"(?:/dev/(?:(?:vd|sd|hd|xvd)[a-z]+\d*|dm-\d+|block/\d+:\d+|disk/by-path/.+)"
    r"|(?:/dev/disk/by-id/|ID=)(?!dm-|md-name-|md-uuid-|lvm-pv-uuid-).+)\Z"
)
#: the part of a kernel's name that a change of bus changes: /dev/vda1 and /dev/sda1 have the same place
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
_UUID_VALUE = re.compile(r"[0-9A-Za-z-]+", re.ASCII)
_LABEL_VALUE = re.compile(r"[\w.+-]+", re.ASCII)
#: tags that a mount(8) without util-linux knows (busybox's volume_id)
SMALL_TAGS = ("UUID", "LABEL")
TAGS = ("UUID", "PARTUUID", "LABEL", "PARTLABEL")
#: target, type and options of an entry that lacks them
_DEFAULTS = ("", "auto", "defaults")
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
        """True if the boot goes on without it."""
        return "noauto" in self.options or "nofail" in self.options

    @property
    def devices(self) -> tuple[str, ...]:
        """The source, and the devices in its options: members of a btrfs, external journals and logs."""
        matches = (DEVICE_OPTION.match(option) for option in self.options)
        return (self.source, *(match["device"] for match in matches if match))

    @property
    def tag(self) -> tuple[str, str] | None:
        """The tag that names the source, and its value: ("uuid", "aaaa-1"); None if it is named otherwise."""
        match = _TAG.match(self.source)
        if match is None:
            return None
        tag = match["tag"] or match["link"]
        return tag.lower(), match["value"]

    @property
    def opaque(self) -> tuple[str, ...]:
        """Names of devices by their bus or number that can only be rewritten by hand.

        These are options, and the members of a bcachefs, parted by colons (bcachefs(8)).
        """
        options = tuple(filter(_OPAQUE_OPTION.match, self.options))
        members = re.split(r":(?=/dev/)", self.source)
        if len(members) == 1:
            return options
        if any(map(is_renamed_by_bus, members)):
            return (self.source, *options)
        return options


def unescape(field: str) -> str:
    r"""Undo fstab's octal escapes: `\040` is a space."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def entries(text: str) -> Iterator[FstabEntry]:
    """Yield the entries of an fstab; missing fields have the defaults of fstab(5)."""
    for number, line in enumerate(text.split("\n"), start=1):
        match = _LINE.match(line)
        if match is None:
            continue
        parts = re.split(r"[ \t]+", match["rest"].strip(" \t\r"))
        fields = [unescape(part) for part in parts if part]
        target, fstype, options = (*fields[:3], *_DEFAULTS[len(fields) :])
        yield FstabEntry(
            number=number,
            source=unescape(match["source"]),
            target=target,
            fstype=fstype,
            options=tuple(options.split(",")),
        )


@once
def listed(facts: Facts) -> tuple[FstabEntry, ...]:
    """Return the entries of the guest's fstab. Raises ProbeError if it cannot be read."""
    return tuple(entries(facts.fstab))


def path_of(device: str) -> str:
    """Return the path of a device that is named by udev's hardware id (`ID=` of mount(8)); other names are paths."""
    if device.startswith("ID="):
        return f"/dev/disk/by-id/{device.removeprefix('ID=')}"
    return device


def is_renamed_by_bus(device: str) -> bool:
    """True if a change of the disk's bus gives *device* another name."""
    return _RENAMED.match(device) is not None


def replace_device(line: str, old: str, new: str, *, option: bool = False) -> str:
    """Return an entry's *line* with *old* replaced by *new*: as the source, or in options like `device=`."""
    if option:
        return replace_options(line, {old: new})
    match = _LINE.match(line)
    if match is None:
        raise ValueError(f"{line!r} is no entry")
    source = new if unescape(match["source"]) == old else match["source"]
    return match["lead"] + source + match["rest"]


def replace_options(line: str, names: Mapping[str, str]) -> str:
    """Return an entry's *line* with the devices of options like `device=` called by their *names*."""
    match = _LINE.match(line)
    if match is None:
        raise ValueError(f"{line!r} is no entry")

    def renamed(option: re.Match[str]) -> str:
        device = option["device"]
        return option["key"] + names.get(device, device)

    rest = _NAMED_OPTION.sub(renamed, match["rest"])
    return match["lead"] + match["source"] + rest


def stable_name(
    facts: Facts,
    device: BlockDevice,
    tags: tuple[str, ...] = TAGS,
    *,
    alone: bool = False,
) -> str | None:
    """Return a name for *device* that no change of bus touches; None if it has none.

    This is UUID=, else PARTUUID= if the UUID is not its own (a clone, a member of a multi-device filesystem),
    else a label. *tags* are those that may be used, the best first; *alone*: a member is meant, not the whole.
    """
    for tag in tags:
        value = getattr(device, tag.lower())
        if value is None:
            continue
        if not _is_plain(tag, value):
            continue
        name = f"{tag}={value}"
        # a filesystem that lies on several devices is mounted by its UUID, whichever of them that leads to
        names_whole = not alone and tag == "UUID"
        if names_whole and value in _whole_btrfs(facts):
            return name
        owners = facts.with_tag.get((tag.lower(), value), ())
        if _is_only_owner(device, owners):
            return name
    return None


def _is_plain(tag: str, value: str) -> bool:
    pattern = _LABEL_VALUE
    if tag.endswith("UUID"):
        pattern = _UUID_VALUE
    return pattern.fullmatch(value) is not None


def _is_only_owner(device: BlockDevice, owners: tuple[BlockDevice, ...]) -> bool:
    return len(owners) == 1 and owners[0].path == device.path


@once
def _whole_btrfs(facts: Facts) -> frozenset[str]:
    """Return the UUIDs that the members of one mounted btrfs have, and no other device has."""
    whole = set()
    for uuid, names in facts.btrfs_members.items():
        owners = facts.with_tag.get(("uuid", uuid), ())
        members = {f"/dev/{name}" for name in names}
        if {owner.path for owner in owners} == members:
            whole.add(uuid)
    return frozenset(whole)


def named_by_bus(facts: Facts) -> list[str]:
    """Return the entries of fstab whose devices a change of bus renames, or may, each with its line.

    A device that is not there counts only if the boot waits for it. Raises ProbeError if fstab cannot be read.
    """
    named, opaque, several = [], [], []
    for entry in listed(facts):
        line = f"line {entry.number}"
        for device in entry.devices:
            if _is_renamed(facts, entry, device):
                named.append(f"{line}: {device} on {entry.target}")
        for option in entry.opaque:
            opaque.append(f"{line}: {option} on {entry.target}")
        owners = ambiguous(facts, entry)
        if owners:
            source = f"{entry.source} on {entry.target}"
            several.append(f"{line}: {source} is that of {owned_by(owners)}")
    return named + opaque + several


def _is_renamed(facts: Facts, entry: FstabEntry, device: str) -> bool:
    """True if a change of bus renames *device*, unless it is not there and the boot goes on without it."""
    if not is_renamed_by_bus(device):
        return False
    if not entry.is_optional:
        return True
    return facts.device(path_of(device)) is not None


def ambiguous(facts: Facts, entry: FstabEntry) -> tuple[BlockDevice, ...]:
    """Return the disks and partitions that *entry* may mean, if several have its tag (clones).

    The order of discovery decides which of them is meant, and it is another on another bus.
    """
    if entry.tag is None:
        return ()
    if "noauto" in entry.options:
        return ()
    return _clones(facts).get(entry.tag, ())


@once
def _clones(facts: Facts) -> Mapping[tuple[str, str], tuple[BlockDevice, ...]]:
    """Return the tags that several disks or partitions have, with these; members of one btrfs are left out."""
    clones = {}
    for tag, owners in facts.tagged.items():
        if len(owners) < 2:
            continue
        if owners[0].fstype == "btrfs" and _is_one_btrfs(facts, owners):
            continue
        clones[tag] = owners
    return clones


def _is_one_btrfs(facts: Facts, owners: tuple[BlockDevice, ...]) -> bool:
    """True if these are members of one filesystem. The kernel lists mounted members; others are taken for such."""
    members = facts.btrfs_members.get(owners[0].uuid or "")
    return members is None or {owner.name for owner in owners} == members


def owned_by(owners: tuple[BlockDevice, ...]) -> str:
    """Return the paths of *owners* in words, the first few of many."""
    shown = [owner.path for owner in owners[:_SHOWN]]
    if len(owners) > _SHOWN:
        shown.append(f"{len(owners) - _SHOWN} more")
    return " and ".join(shown)


def meant(facts: Facts, entry: FstabEntry) -> BlockDevice | None:
    """Return the device that *entry* is mounted from, or swapped to, now."""
    owners = ambiguous(facts, entry)
    tag = entry.tag
    if not owners:
        return None
    if tag is None:
        return None
    if entry.fstype == "swap":
        swapped = _swapped(facts).get(tag, ())
        if len(swapped) == 1:
            return swapped[0]
        return None
    mounts = facts.mounts_on.get(entry.target, ())
    if not mounts:
        return None
    upmost = mounts[-1]
    by_path = _clone_paths(facts)[tag]
    return by_path.get(upmost.device)


@once
def _clone_paths(facts: Facts) -> Mapping[tuple[str, str], Mapping[str, BlockDevice]]:
    """Return the tags that several disks or partitions have -> these by their paths."""
    return {
        tag: {owner.path: owner for owner in owners}
        for tag, owners in _clones(facts).items()
    }


@once
def _swapped(facts: Facts) -> Mapping[tuple[str, str], tuple[BlockDevice, ...]]:
    """Return the tags that several disks or partitions have -> those of them that are swapped to."""
    active = frozenset(facts.swaps)
    return {
        tag: tuple(owner for owner in owners if owner.path in active)
        for tag, owners in _clones(facts).items()
    }


@once
def instead(facts: Facts) -> Mapping[str, BlockDevice]:
    """Return the devices in use in place of devices that are not there, by these names in fstab.

    Such a device is mounted on the entry's target with its type, or is the only swap. It is returned only if no entry
    of another name may mean it.
    """
    meant_by: dict[str, set[str]] = {}
    names_of: dict[str, set[str]] = {}
    dead: dict[str, None] = {}
    for entry in listed(facts):
        source = entry.source
        if source in meant_by and source not in dead:
            continue
        paths = _paths_meant(facts, entry)
        if paths is None:
            dead[source] = None
            used = facts.device(_in_use(facts, entry))
            # zram has another UUID after each boot, and a loop device is there only after its file is mounted
            paths = {used.path if used and not is_made_inside(used) else ""}
        meant_by.setdefault(source, set()).update(paths)
        for path in paths:
            names_of.setdefault(path, set()).add(source)
    replacements = {}
    for name in dead:
        if len(meant_by[name]) != 1:
            continue
        if not is_renamed_by_bus(name):
            continue
        device = facts.device(next(iter(meant_by[name])))
        if device and names_of[device.path] == {name}:
            replacements[name] = device
    return replacements


def _paths_meant(facts: Facts, entry: FstabEntry) -> set[str] | None:
    """Return the paths of the devices that *entry* may mean; None if it names a path that is not there."""
    device = facts.device(path_of(entry.source))
    if device:
        return {device.path}
    if entry.tag:
        return {owner.path for owner in facts.tagged.get(entry.tag, ())}
    return None


def _in_use(facts: Facts, entry: FstabEntry) -> str:
    """Return the path of the device that is mounted, or swapped to, in place of *entry*; "" if that is not certain."""
    if entry.fstype == "swap":
        return _swap(facts, entry)
    target = entry.target.rstrip("/") or "/"
    mounts = [
        mount for mount in facts.mounts_on.get(target, ()) if mount.fstype != "autofs"
    ]
    if len(mounts) != 1:
        return ""
    mount = mounts[0]
    if entry.fstype not in ("auto", mount.fstype):
        return ""
    subvolume = _subvolume(entry)
    if subvolume is None:
        # a folder of a filesystem, which is bound there
        is_part = mount.fstype != "btrfs" and mount.fsroot != "/"
        return "" if is_part else mount.device
    is_mounted = subvolume.strip("/") == mount.fsroot.strip("/")
    if is_mounted:
        return mount.device
    return ""


def _subvolume(entry: FstabEntry) -> str | None:
    for option in entry.options:
        if option.startswith("subvol="):
            return option.removeprefix("subvol=")
    return None


def _swap(facts: Facts, entry: FstabEntry) -> str:
    """Return the one swap that is on.

    If none is on, return the one that there is, if it differs from the entry's by its bus alone.
    """
    swaps = [path for path in facts.swaps if not _is_made_inside(facts, path)]
    if swaps:
        if len(swaps) == 1:
            return swaps[0]
        return ""
    swap = _only_swap(facts)
    has_its_place = _PLACE.sub("", swap) == _PLACE.sub("", entry.source)
    if has_its_place:
        return swap
    return ""


def _is_made_inside(facts: Facts, path: str) -> bool:
    device = facts.device(path)
    return device is not None and is_made_inside(device)


@once
def _only_swap(facts: Facts) -> str:
    """Return the path of the one device that is formatted as swap; "" without any, and if there are several."""
    swaps = {
        device.path
        for device in facts.devices
        if device.fstype == "swap" and not is_made_inside(device)
    }
    if len(swaps) == 1:
        return swaps.pop()
    return ""


def stable_path(facts: Facts, device: BlockDevice) -> str | None:
    """Return the `stable_name` as a path, for options that take paths only (`device=` of btrfs)."""
    name = stable_name(facts, device, alone=True)
    if name is None:
        return None
    tag, _, value = name.partition("=")
    return f"/dev/disk/by-{tag.lower()}/{value}"


@dataclass(frozen=True)
class Rewritten:
    """A file's new text, the devices that are no longer named in it, and the names that stay, each with its reason."""

    text: str
    replaced: list[str]
    left: list[str]


def named_stably(facts: Facts) -> Rewritten:
    """Return fstab without bus names, as far as the devices have other names."""
    lines = facts.fstab.split("\n")
    tags: tuple[str, ...] = SMALL_TAGS
    if "findmnt" in facts.tools:
        tags = TAGS
    rewriting = _Rewriting(
        facts=facts,
        tags=tags,
        in_place=instead(facts),
        lines=lines,
    )
    for entry in listed(facts):
        rewriting.name_stably(entry)
    return Rewritten(
        text="\n".join(lines),
        replaced=rewriting.replaced,
        left=rewriting.left,
    )


@dataclass
class _Rewriting:
    """An fstab while its entries are rewritten, one after the other."""

    facts: Facts
    tags: tuple[str, ...]
    in_place: Mapping[str, BlockDevice]
    lines: list[str]
    replaced: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def name_stably(self, entry: FstabEntry) -> None:
        for option in entry.opaque:
            self._leave(entry, option)
        if ambiguous(self.facts, entry):
            self._part_clones(entry)
        self._name_source(entry)
        self._name_options(entry)

    def _leave(self, entry: FstabEntry, reason: str) -> None:
        self.left.append(f"line {entry.number}: {reason}")

    def _put_source(self, entry: FstabEntry, name: str) -> None:
        index = entry.number - 1
        self.lines[index] = replace_device(self.lines[index], entry.source, name)

    def _part_clones(self, entry: FstabEntry) -> None:
        """Name the clone that is in use by a name of its own."""
        owner = meant(self.facts, entry)
        name = None
        if owner:
            name = stable_name(self.facts, owner, self.tags)
        if name is None:
            self._leave(
                entry,
                "give one of the filesystems another UUID, or name it by PARTUUID=",
            )
        else:
            self._put_source(entry, name)

    def _name_source(self, entry: FstabEntry) -> None:
        device = entry.source
        if not is_renamed_by_bus(device):
            return
        there = self.facts.device(path_of(device))
        block = there
        if block is None and not entry.is_optional:
            block = self.in_place.get(device)
        if block is None:
            self._miss(entry, device)
            return
        name = stable_name(self.facts, block, self.tags)
        if name is None:
            self._leave(entry, f"{device} has no UUID of its own")
            return
        if there:
            self.replaced.append(path_of(device))
        self._put_source(entry, name)

    def _name_options(self, entry: FstabEntry) -> None:
        """Name the devices in options by paths, which is all that the kernel takes there.

        The options of a btrfs name its source once more.
        """
        names: dict[str, str] = {}
        for device in entry.devices[1:]:
            if not is_renamed_by_bus(device):
                continue
            block = self.facts.device(path_of(device))
            if block is None:
                self._miss(entry, device)
                continue
            name = stable_path(self.facts, block)
            if name is None:
                self._leave(entry, f"{device} has no UUID of its own")
                continue
            self.replaced.append(path_of(device))
            names[device] = name
        if names:
            index = entry.number - 1
            self.lines[index] = replace_options(self.lines[index], names)

    def _miss(self, entry: FstabEntry, device: str) -> None:
        if not entry.is_optional:
            self._leave(entry, f"{device} is not there")
