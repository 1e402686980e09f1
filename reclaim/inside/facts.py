"""The answers of one script, run once inside a guest: parsed strictly, frozen, cached by the guest.

A section that the guest could not give costs the checks that need it, not the others: it is parsed
when it is first asked for, and raises ProbeError then.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from testinfra.host import Host

from reclaim.base.errors import NotLinux, ProbeError, TimedOut
from reclaim.base.text import printable
from reclaim.definition import othersystem
from reclaim.inside.devices import BlockDevice, Layout, Mount, TableLine
from reclaim.processes import shell_script

#: timeout(1)'s status if it stopped the command
_TIMED_OUT = 124
_MAX_SECTION_BYTES = 262_144 + 3
_MAX_LINKS = 20_000
#: characters of all sections of a guest that says little; most say a tenth of that
_LIGHT = 262_144
_MAX_DEVICES = 5_000
_MAX_KERNELS = 500
_MAX_FILES = 1_000
#: characters of a value of os-release; shlex takes a word apart in the square of its length
_LONGEST_VALUE = 4_096
_MAX_NUMBER = 2**64 - 1
#: the kernel's unit of starts and lengths, whatever the disk's own sectors are
_SECTOR = 512
#: a number of files, and a file's path and size, as the script prints them
_COUNT = re.compile(rb"(\d{1,4})\n")
_FILE = re.compile(rb"([^\n]*)\n *(\d{1,9}) *\n")
#: the word that begins each section, and the first of them
_MARK = re.compile(rb"([0-9a-z-]{8,64}) ")
#: a block device as the script prints it: its number, its start in sectors or a dash, its kernel name
_DEVICE_LINE = re.compile(r"device (\d{1,9}:\d{1,9}) (-|\d{1,15}) (\S.*)")
#: a line of a device mapper table as the script prints it, start and length in sectors
_TABLE_LINE = re.compile(
    r"table (?P<name>\S+): (?P<start>\d{1,15}) (?P<length>\d{1,15}) (?P<target>\S+) ?(?P<arguments>.*)"
)
#: the ends of a name in a boot file: blanks, and the characters that a menu or a shell has between words
_BETWEEN_NAMES = re.compile(r"[\s/\\\"'`=,;:(){}<>|&$#!?*^@\[\]]+")
#: the features that keep a thin pool from passing discards down (Linux's admin-guide/device-mapper/thin-provisioning)
_DEAF_POOL = frozenset(("no_discard_passdown", "ignore_discard"))
#: the tags by which mount(8) finds a device, as `BlockDevice` has them
_TAGS = ("uuid", "partuuid", "label", "partlabel")
_KERNEL_WORDS = frozenset(
    (
        *(
            "kernel",
            "stray",
            "unified",
            "path",
            "free",
            "stamp",
            "same",
            "no-initramfs",
            "unreadable",
        ),
        *("builtin", "initramfs", "lacking", "waits", "wants"),
    )
)


def script() -> str:
    """The shell script that gathers the facts."""
    return shell_script.load("reclaim.inside", "facts.sh")


def gather(
    shell: Host, guest: str, known: Sequence[Kernel] = (), *, seconds: int
) -> Facts:
    """Run the script in the guest, for *seconds* at most. Raises ProbeError if it cannot be run or does not finish.

    Raises NotLinux for another system.
    An initramfs that is as it was when one of the *known* kernels was read is not read again: that is the slow part.
    """
    given = f"mark={secrets.token_hex(8)}\n"
    if known:
        stamps = " ".join(kernel.stamp for kernel in known)
        given += f"known={shlex.quote(stamps)}\n"
    try:
        result = shell.run(given + script(), seconds=seconds)
    except TimedOut as exc:
        raise _too_slow(guest, seconds) from exc
    if result.rc == _TIMED_OUT:
        raise _too_slow(guest, seconds)
    facts = read(result.stdout_bytes, guest, known)
    if facts.system != "Linux":
        raise NotLinux(guest, othersystem.words(printable(facts.system)))
    return facts


def _too_slow(guest: str, seconds: int) -> ProbeError:
    return TimedOut(
        f"{guest}: looking inside did not end within {seconds} s; "
        "a slow guest needs a larger look_seconds in the inventory's policy"
    )


def read(output: bytes, guest: str, known: Sequence[Kernel] = ()) -> Facts:
    """Return the facts that the script printed. Raises ProbeError if it did not come to its end."""
    match = _MARK.match(output)
    if match is None:
        raise _unfinished(guest)
    begin = b"\n" + match[0]
    _, *pieces = (b"\n" + output).split(begin)
    if pieces.pop() != b"end\n":
        raise _unfinished(guest)
    sections = {}
    for piece in pieces:
        name, _, data = piece.partition(b"\n")
        text = name.decode("ascii", errors="replace")
        if text == "end":
            raise _unfinished(guest)
        if text in sections:
            raise ProbeError(f"{guest}: the guest gave the section {text[:40]!r} twice")
        sections[text] = data
    return Facts(guest, sections, tuple(known))


def _unfinished(guest: str) -> ProbeError:
    return ProbeError(f"{guest}: the guest did not finish the facts script")


@dataclass(frozen=True)
class LinkAddress:
    """An IP address on one of the guest's links."""

    link: str
    address: str
    #: given for a time, by DHCP or a router: the next one may be another
    dynamic: bool
    #: it stands beside another one, or for itself alone (/32, /128): how keepalived and pacemaker add theirs
    added: bool = False


#: the prefix of an address that stands for itself alone, by ip(8)'s family
_ALONE = {"inet": 32, "inet6": 128}


@dataclass(frozen=True)
class Kernel:
    """An installed kernel and the storage modules it has. `problem`: why the initramfs is unknown."""

    release: str
    builtin: frozenset[str]
    initramfs: frozenset[str]
    problem: str | None
    #: inode, size, and times of the last change of data and status (stat(1): %i:%s:%Y:%Z) of the initramfs
    stamp: str = ""
    #: the initramfs file; None if there is none
    path: str | None = None
    #: modules that this kernel does not have at all
    lacking: frozenset[str] = frozenset()
    #: bytes free on the filesystem of the initramfs, if that is not the one of /boot
    free: int | None = None
    #: devices that the initramfs waits for before it looks for the root
    waits: frozenset[str] = frozenset()
    #: the unified kernel image that holds kernel and initramfs
    unified: str | None = None
    #: the image's name, if it has no folder of modules
    stray: str | None = None

    def has(self, module: str) -> bool:
        return module in self.builtin or module in self.initramfs

    @property
    def initramfs_bytes(self) -> int:
        """The size of its initramfs; 0 if that is not known."""
        match = re.fullmatch(r"\d+:(\d{1,15}):\d+:\d+", self.stamp)
        return int(match[1]) if match else 0


@dataclass(frozen=True)
class CronLine:
    """A line of cron's that trims, and the file it is in."""

    path: str
    line: str


@dataclass(frozen=True)
class Facts:
    """Everything the checks know about the inside of one guest."""

    guest: str
    sections: Mapping[str, bytes] = field(repr=False)
    #: kernels as they were read before, for those whose initramfs has not changed
    earlier_kernels: tuple[Kernel, ...] = ()

    def lighten(self) -> None:
        """Drop everything that was worked out if the guest's answers are long: it takes ten times their room."""
        if sum(map(len, self.sections.values())) < _LIGHT:
            return
        given = {entry.name for entry in fields(self)}
        for name in self.__dict__.keys() - given:
            del self.__dict__[name]

    def _section(self, name: str) -> tuple[int, bytes]:
        """Exit status and bytes of one section."""
        data = self.sections.get(name)
        if data is None:
            raise ProbeError(f"{self.guest}: the guest did not give {name}")
        if len(data) >= _MAX_SECTION_BYTES - 3:
            raise ProbeError(
                f"{self.guest}: the guest's {name} is longer than reclaim reads"
            )
        if not re.fullmatch(rb"\d{3}", data[-3:]):
            raise ProbeError(f"{self.guest}: the guest's {name} has no exit status")
        return int(data[-3:]), data[:-3]

    def _text(self, name: str) -> str:
        """Return the text of a section. Raises ProbeError if its command failed."""
        status, data = self._section(name)
        if status != 0:
            raise ProbeError(
                f"{self.guest}: reading {name} in the guest ended with status {status}"
            )
        return data.decode("utf-8", errors="surrogateescape")

    def _text_if_any(self, name: str) -> str:
        """Return the text of a section for display and parsing; "" if its command failed."""
        status, data = self._section(name)
        if status != 0:
            return ""
        return data.decode("utf-8", errors="replace")

    def _json(self, name: str) -> Any:
        text = self._text(name)
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise ProbeError(f"{self.guest}: the guest's {name} is not JSON") from exc

    def _unparsable(self, part: str) -> ProbeError:
        return ProbeError(f"{self.guest}: the guest's {part} cannot be parsed")

    # The system

    @cached_property
    def os(self) -> Mapping[str, str]:
        """os-release(5), keys as in the file."""
        return _key_values(self._text("os"))

    @property
    def os_name(self) -> str:
        return self.os.get("PRETTY_NAME") or self.os.get("ID") or "an unknown system"

    @property
    def system(self) -> str:
        """`uname -s`"""
        return self._text("kernel").partition(" ")[0].strip()

    @cached_property
    def running_kernel(self) -> str:
        """`uname -r`"""
        return self._text("kernel").partition(" ")[2].strip()

    @cached_property
    def confined(self) -> str | None:
        """The SELinux domain of the guest agent, if the script ran in it and it may not write below /etc."""
        text = self._text_if_any("context")
        match = re.search(r"\bvirt_qemu_ga_t\b", text)
        if match is None:
            return None
        if "writable" in text.splitlines():
            return None
        return match[0]

    @cached_property
    def command_line(self) -> str:
        return self._text("cmdline").strip()

    @cached_property
    def tools(self) -> frozenset[str]:
        return frozenset(self._text("tools").split())

    @cached_property
    def _units(self) -> Mapping[str, str]:
        """systemd's units that are active or failed -> which of both; empty if there is no systemd."""
        _, data = self._section("systemd")
        lines = data.decode("utf-8", errors="replace").splitlines()
        states = {}
        for line in lines[1:]:
            columns = line.split(maxsplit=3)
            if len(columns) == 4:
                states[columns[0]] = columns[2]
        return states

    @property
    def active_units(self) -> frozenset[str]:
        return self._units_in_state("active")

    @property
    def failed_units(self) -> frozenset[str]:
        return self._units_in_state("failed")

    def _units_in_state(self, wanted: str) -> frozenset[str]:
        return frozenset(name for name, state in self._units.items() if state == wanted)

    @cached_property
    def is_starting(self) -> bool:
        """True if systemd still starts units (systemctl(1), is-system-running)."""
        _, data = self._section("systemd")
        return data.partition(b"\n")[0] in (b"initializing", b"starting")

    @cached_property
    def addresses(self) -> tuple[LinkAddress, ...] | None:
        """Global IP addresses that are not given up after a while; None if ip(8) cannot list them."""
        status, data = self._section("addresses")
        if status != 0:
            return None
        try:
            return tuple(
                _link_address(link, address)
                for link in json.loads(data)
                for address in link["addr_info"]
                if _is_lasting(address)
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise self._unparsable("addresses") from exc

    # Files

    @cached_property
    def fstab(self) -> str:
        """/etc/fstab; undecodable bytes as surrogate escapes, so that it can be written back."""
        return self._text("fstab")

    @cached_property
    def boot_files(self) -> Mapping[str, str]:
        """The boot configuration files that exist, by path."""
        return self._files("boot_files")

    @cached_property
    def units(self) -> Mapping[str, str]:
        """The mount and swap units, and drop-ins of such, that the administrator wrote, by path."""
        return self._files("units")

    def _files(self, name: str) -> dict[str, str]:
        _, data = self._section(name)
        unparsable = self._unparsable(name.replace("_", " "))
        number = _COUNT.match(data)
        if number is None:
            if data:
                raise unparsable
            return {}  # there is nothing of that kind
        if int(number[1]) > _MAX_FILES:
            raise unparsable
        sizes: list[tuple[str, int]] = []
        position = number.end()
        for _ in range(int(number[1])):
            match = _FILE.match(data, position)
            if match is None:
                raise unparsable
            path = match[1].decode("utf-8", errors="replace")
            sizes.append((path, int(match[2])))
            position = match.end()
        if position + sum(size for _, size in sizes) != len(data):
            raise unparsable  # one of them changed meanwhile
        texts: dict[str, str] = {}
        for path, size in sizes:
            raw = data[position : position + size]
            texts[path] = raw.decode("utf-8", errors="surrogateescape")
            position += size
        return texts

    def _pairs_by_tab(self, name: str) -> list[tuple[str, str]]:
        """Return the lines of a section that have a tab, each parted at its first."""
        pairs = []
        for line in self._text(name).splitlines():
            before, tab, after = line.partition("\t")
            if tab:
                pairs.append((before, after))
        return pairs

    @cached_property
    def unified(self) -> Mapping[str, str]:
        """Unified kernel images, by path: the command line built into each, "" if it could not be read."""
        pairs = self._pairs_by_tab("unified")
        return {path: " ".join(text.split()) for path, text in pairs}

    @cached_property
    def lvm_lines(self) -> tuple[tuple[str, str], ...]:
        """(file, line) of the filters of lvm.conf(5) and the devices of lvmdevices(8)."""
        return self._lines("lvm")

    @cached_property
    def named_lines(self) -> tuple[tuple[str, str], ...]:
        """(file, line) of other services that name devices."""
        return self._lines("named")

    def _lines(self, name: str) -> tuple[tuple[str, str], ...]:
        pairs = []
        for line in self._text(name).split("\n"):
            if not line:
                continue
            path, _, text = line.partition(":")
            pairs.append((path, text.strip()))
        return tuple(pairs)

    @cached_property
    def boot_free(self) -> int | None:
        """Bytes that are free on the filesystem of /boot; None if df does not report them."""
        lines = self._text_if_any("boot_free").splitlines()
        if not lines:
            return None
        match = re.search(r"\s(\d{1,15})\s+\d{1,3}%\s", lines[-1])
        if match:
            return int(match[1]) * 1024
        return None

    @cached_property
    def grub_install_devices(self) -> Mapping[str, tuple[str, ...]]:
        """debconf's `grub-pc/install_devices` and grub-efi's: the targets of their next upgrade, by question."""
        devices = {}
        for record in self._text_if_any("debconf").split("\n\n"):
            name = re.search(
                r"^Name: *(grub-(?:pc|efi)/install_devices)$", record, re.MULTILINE
            )
            value = re.search(r"^Value: *(.*)$", record, re.MULTILINE)
            if name and value:
                parts = (part.strip() for part in value[1].split(","))
                devices[name[1]] = tuple(part for part in parts if part)
        return devices

    # Storage

    @cached_property
    def block_devices(self) -> tuple[BlockDevice, ...]:
        """The trees of block devices, whole disks first."""
        text = self._text("lsblk")
        if text.startswith("NAME="):
            roots = self._tree(text)
        else:
            roots = _list_of(self._json("lsblk"), "blockdevices", self.guest)
        return tuple(self._block_device(root, 0) for root in roots)

    @cached_property
    def devices(self) -> tuple[BlockDevice, ...]:
        """Every block device of the trees, each before those that lie on it."""
        return tuple(device for root in self.block_devices for device in root.walk())

    @cached_property
    def tagged(self) -> Mapping[tuple[str, str], tuple[BlockDevice, ...]]:
        """The disks and partitions by the tags of mount(8): ("uuid", "aaaa-1") and the like."""
        return {
            key: tuple(owner for owner in owners if owner.type in ("disk", "part"))
            for key, owners in self.with_tag.items()
        }

    @cached_property
    def with_tag(self) -> Mapping[tuple[str, str], tuple[BlockDevice, ...]]:
        """The block devices of every type by a tag and its value: ("uuid", "aaaa-1") and the like; each path once."""
        owners: dict[tuple[str, str], dict[str, BlockDevice]] = {}
        for device in self.devices:
            for tag in _TAGS:
                value = getattr(device, tag)
                if value:
                    owners.setdefault((tag, value), {})[device.path] = device
        return {key: tuple(by_path.values()) for key, by_path in owners.items()}

    def _tree(self, text: str) -> list[dict[str, Any]]:
        """The trees in the output of `lsblk --pairs`, each parent before its children (util-linux before 2.27)."""
        below: dict[str, dict[str, None]] = {}
        devices: dict[str, dict[str, Any]] = {}
        for line in text.splitlines():
            device = _pairs(line)
            name = device.get("kname", "")
            parent = device.get("pkname", "")
            if not name:
                raise self._unparsable("block devices")
            if parent and (parent not in devices or parent == name):
                raise self._unparsable("block devices")
            devices.setdefault(name, device)
            below.setdefault(parent, {})[name] = None
        left = _MAX_DEVICES

        def grown(name: str) -> dict[str, Any]:
            nonlocal left
            left -= 1
            if left < 0:
                raise self._unparsable("block devices")
            children = [grown(child) for child in below.get(name, [])]
            return {**devices[name], "children": children}

        try:
            return [grown(name) for name in below.get("", [])]
        except RecursionError as exc:
            raise self._unparsable("block devices") from exc

    def _block_device(self, data: Any, depth: int) -> BlockDevice:
        if not isinstance(data, dict) or depth > 20:
            raise self._unparsable("block devices")
        children = data.get("children") or []
        if not isinstance(children, list) or len(children) > _MAX_DEVICES:
            raise self._unparsable("block devices")
        name = _string(data.get("name"))
        if not name:
            raise ProbeError(
                f"{self.guest}: the guest lists a block device without a name"
            )
        path = _string(data.get("path"))
        if path is None:
            path = _device_path(name, _string(data.get("kname")))
        return BlockDevice(
            name=name,
            path=path,
            type=_text_of(data, "type"),
            fstype=_string(data.get("fstype")),
            uuid=_string(data.get("uuid")),
            label=_string(data.get("label")),
            partuuid=_string(data.get("partuuid")),
            partlabel=_string(data.get("partlabel")),
            size=self._number(data.get("size")),
            readonly=data.get("ro") in (True, "1", 1),
            serial=_string(data.get("serial")),
            disc_max=self._number(data.get("disc-max")),
            disc_gran=self._number(data.get("disc-gran")),
            children=tuple(self._block_device(child, depth + 1) for child in children),
        )

    def _number(self, value: Any) -> int:
        """Return a size as a number. lsblk and findmnt quote theirs before util-linux 2.33."""
        is_number = isinstance(value, int) and not isinstance(value, bool)
        is_quoted = isinstance(value, str) and re.fullmatch(r"\d{1,20}", value)
        if not is_number and not is_quoted:
            raise ProbeError(f"{self.guest}: a size in the guest's answer is no number")
        number = int(value)
        if not 0 <= number <= _MAX_NUMBER:
            raise ProbeError(
                f"{self.guest}: a size in the guest's answer is no number of bytes"
            )
        return number

    def _number_if_given(self, value: Any) -> int | None:
        if value is None:
            return None
        return self._number(value)

    @cached_property
    def mounts(self) -> tuple[Mount, ...]:
        text = self._text("findmnt")
        if text.startswith("TARGET="):
            rows: list[Any] = [_pairs(line) for line in text.splitlines()]
        else:
            rows = _list_of(self._json("findmnt"), "filesystems", self.guest)
        return tuple(self._mount(row) for row in rows)

    def _mount(self, row: Any) -> Mount:
        if not isinstance(row, dict):
            raise self._unparsable("mounts")
        return Mount(
            target=_text_of(row, "target"),
            source=_text_of(row, "source"),
            fstype=_text_of(row, "fstype"),
            options=tuple(_text_of(row, "options").split(",")),
            uuid=_string(row.get("uuid")),
            fsroot=_text_of(row, "fsroot", otherwise="/"),
            size=self._number_if_given(row.get("size")),
            used=self._number_if_given(row.get("used")),
        )

    @cached_property
    def links(self) -> Mapping[str, str]:
        """Symbolic links in folders of /dev -> the device path they lead to."""
        # find's status is 1 if something vanished meanwhile
        _, data = self._section("links")
        lines = data.decode("utf-8", errors="replace").splitlines()
        targets: dict[str, str] = {}
        for line in lines[:_MAX_LINKS]:
            path, separator, target = line.partition("\t")
            if separator:
                targets[path] = "/dev/" + target.rsplit("/", 1)[-1]
        return targets

    @cached_property
    def deaf_pools(self) -> frozenset[str]:
        """Thin pools that keep discards to themselves, as device mapper names them, whatever DISC-MAX says."""
        pools = set()
        for line in self._text_if_any("thin").splitlines():
            name, _, table = line.partition(": ")
            columns = table.split()
            is_pool = columns[2:3] == ["thin-pool"]
            if is_pool and not _DEAF_POOL.isdisjoint(columns):
                pools.add(name)
        return frozenset(pools)

    @cached_property
    def btrfs_members(self) -> Mapping[str, frozenset[str]]:
        """UUID of each btrfs that is mounted -> the kernel names of the devices it lies on."""
        members: dict[str, set[str]] = {}
        for line in self._text("btrfs").splitlines():
            uuid, _, name = line.partition("\t")
            members.setdefault(uuid, set()).add(name)
        return {uuid: frozenset(names) for uuid, names in members.items()}

    @cached_property
    def sysfs(self) -> Mapping[str, str]:
        """Kernel name of each block device -> the path of its device in sysfs."""
        return dict(self._pairs_by_tab("sysfs"))

    @cached_property
    def layout(self) -> Layout:
        """The places of partitions and of the device mapper's devices."""
        names: dict[str, str] = {}
        starts: dict[str, int] = {}
        tables: dict[str, list[TableLine]] = {}
        for line in self._text("layout").splitlines()[:_MAX_LINKS]:
            device = _DEVICE_LINE.fullmatch(line)
            if device:
                number, start, name = device.groups()
                names[number] = name
                if start != "-":
                    starts[name] = int(start) * _SECTOR
                continue
            table = _TABLE_LINE.fullmatch(line)
            if table:
                tables.setdefault(table["name"], []).append(_table_line(table))
        return Layout(
            names=names,
            starts=starts,
            tables={name: tuple(lines) for name, lines in tables.items()},
        )

    @cached_property
    def swaps(self) -> tuple[str, ...]:
        """The active swap devices and files."""
        rows = self._text("swaps").splitlines()[1:]
        columns = (row.split() for row in rows)
        return tuple(fields[0] for fields in columns if fields)

    def resolve(self, path: str) -> str:
        """The device path that *path* leads to."""
        return self.links.get(path, path)

    def device(self, path: str) -> BlockDevice | None:
        """The block device at *path*, links followed."""
        return self._by_path.get(self.resolve(path))

    @cached_property
    def _by_path(self) -> Mapping[str, BlockDevice]:
        """The block devices by their path, their kernel name in /dev, and the device that their path leads to."""
        devices: dict[str, BlockDevice] = {}
        for device in self.devices:
            for path in (
                device.path,
                f"/dev/{device.name}",
                self.resolve(device.path),
            ):
                devices.setdefault(path, device)
        return devices

    @cached_property
    def links_to(self) -> Mapping[str, tuple[str, ...]]:
        """The device path that links lead to -> those links."""
        links: dict[str, list[str]] = {}
        for path, target in self.links.items():
            links.setdefault(target, []).append(path)
        return {target: tuple(paths) for target, paths in links.items()}

    @cached_property
    def mounts_from(self) -> Mapping[str, tuple[Mount, ...]]:
        """The source of mounts, without the part of it that is mounted -> those mounts."""
        by_device: dict[str, list[Mount]] = {}
        for mount in self.mounts:
            by_device.setdefault(mount.device, []).append(mount)
        return {device: tuple(mounts) for device, mounts in by_device.items()}

    @cached_property
    def mounts_on(self) -> Mapping[str, tuple[Mount, ...]]:
        """A mount point -> the mounts on it, the upmost last."""
        by_target: dict[str, list[Mount]] = {}
        for mount in self.mounts:
            by_target.setdefault(mount.target, []).append(mount)
        return {target: tuple(mounts) for target, mounts in by_target.items()}

    def stack(self, device: BlockDevice) -> tuple[tuple[BlockDevice, ...], ...]:
        """Every way from a whole disk up to *device*, the disk first."""
        return self._ways.get(device.path, ())

    @cached_property
    def _ways(self) -> Mapping[str, tuple[tuple[BlockDevice, ...], ...]]:
        """The path of each block device -> every way up to it."""
        ways: dict[str, list[tuple[BlockDevice, ...]]] = {}

        def climb(device: BlockDevice, below: tuple[BlockDevice, ...]) -> None:
            way = (*below, device)
            ways.setdefault(device.path, []).append(way)
            for child in device.children:
                climb(child, way)

        for root in self.block_devices:
            climb(root, ())
        return {path: tuple(several) for path, several in ways.items()}

    # Kernels, trim

    @property
    def read_kernels(self) -> tuple[Kernel, ...]:
        """The kernels whose initramfs was read; empty if the kernels could not be read."""
        try:
            kernels = self.kernels
        except ProbeError:
            return ()
        return tuple(
            kernel for kernel in kernels if kernel.stamp and not kernel.problem
        )

    @cached_property
    def kernels(self) -> tuple[Kernel, ...]:
        blocks = re.split(r"^(?=kernel )", self._text("kernels"), flags=re.MULTILINE)
        if blocks[0] or len(blocks) > _MAX_KERNELS:
            raise self._unparsable("kernels")
        kernels = []
        for block in blocks[1:]:
            kernel = self._kernel(block)
            if kernel.stray is None or self._is_named(kernel.stray):
                kernels.append(kernel)
        return tuple(kernels)

    def _is_named(self, image: str) -> bool:
        """True if a boot file names the kernel image *image*. An image that nothing boots may lie there too.

        An image whose name cannot be told apart from the text around it counts as named: it is never passed over.
        """
        return image in self._boot_words or _BETWEEN_NAMES.search(image) is not None

    @cached_property
    def _boot_words(self) -> frozenset[str]:
        return frozenset(
            word
            for text in self.boot_files.values()
            for word in _BETWEEN_NAMES.split(text)
        )

    @cached_property
    def _earlier(self) -> Mapping[str, Kernel]:
        """The kernels as they were read before, by the stamp of the initramfs."""
        return {kernel.stamp: kernel for kernel in reversed(self.earlier_kernels)}

    def _kernel(self, block: str) -> Kernel:
        lines = self._kernel_lines(block)
        stamp = _first(lines, "stamp") or ""
        initramfs = frozenset(lines.get("initramfs", ()))
        lacking = frozenset(lines.get("lacking", ()))
        waits = _awaited(lines)
        if "same" in lines:
            same = self._earlier.get(stamp)
            if same is None:
                raise self._unparsable("kernels")
            initramfs, lacking, waits = same.initramfs, same.lacking, same.waits
        return Kernel(
            release=lines["kernel"][0],
            builtin=frozenset(lines.get("builtin", ())),
            initramfs=initramfs,
            problem=_first(lines, "unreadable"),
            stamp=stamp,
            path=_first(lines, "path"),
            lacking=lacking,
            free=_kibibytes(_first(lines, "free")),
            waits=waits,
            unified=_first(lines, "unified"),
            stray=_first(lines, "stray"),
        )

    def _kernel_lines(self, block: str) -> dict[str, list[str]]:
        """Return the lines about one kernel by their first word."""
        lines: dict[str, list[str]] = {}
        for line in block.splitlines():
            key, _, rest = line.partition(" ")
            lines.setdefault(key, []).append(rest)
        if set(lines) - _KERNEL_WORDS or len(lines["kernel"]) != 1:
            raise self._unparsable("kernels")
        return lines

    @cached_property
    def fstrim_timer(self) -> Mapping[str, str]:
        """LoadState, ActiveState, SubState and UnitFileState of fstrim.timer; empty if there is no systemd."""
        return _properties(self._unit("timer"))

    @cached_property
    def fstrim_service(self) -> Mapping[str, str]:
        """LoadState, Result, ExecMainStatus, ExecMainStartTimestamp, Protect…, FragmentPath and DropInPaths.

        Empty if there is no systemd.
        """
        return _properties(self._unit("service"))

    def _unit(self, name: str) -> str:
        """Return what `systemctl show` printed of a unit; "" if there is no systemd, whose systemctl fails."""
        return self._text(name) if "systemctl" in self.tools else ""

    @cached_property
    def fstrim_commands(self) -> tuple[str, ...]:
        """The command lines of fstrim.service (`ExecStart=` as systemctl show writes it)."""
        commands = []
        for line in self._unit("service").splitlines():
            if not line.startswith("ExecStart={ "):
                continue
            arguments = line.partition("argv[]=")[2]
            command, separator, _ = arguments.partition(" ; ")
            if separator:
                commands.append(command)
        return tuple(commands)

    @cached_property
    def jobs(self) -> tuple[CronLine, ...]:
        """The lines of cron's that mention fstrim or zpool trim."""
        pairs = self._pairs_by_tab("cron")
        return tuple(CronLine(path, line.strip()) for path, line in pairs)

    @cached_property
    def cron_daemons(self) -> frozenset[str]:
        """The daemons that run cron's files, as far as they run now."""
        return frozenset(self._text("daemons").split())

    @cached_property
    def autotrim(self) -> Mapping[str, bool]:
        """ZFS pools -> True if autotrim is on; empty if there is no ZFS, or one before 0.8, which has no autotrim."""
        pools = {}
        for line in self._text_if_any("zfs").splitlines():
            columns = line.split("\t")
            if len(columns) == 2:
                pools[columns[0]] = columns[1] == "on"
        return pools

    @cached_property
    def vdevs(self) -> tuple[tuple[str, str], ...]:
        """(pool, path) of each device that a ZFS pool knows, by the path at which ZFS will look for it."""
        devices = []
        pool = ""
        for line in self._text_if_any("vdevs").splitlines():
            columns = line.split()
            name = ""
            if columns:
                name = columns[0]
            if name.startswith("/"):
                devices.append((pool, name))
            elif not line[:1].isspace():
                pool = name
        return tuple(devices)


def _list_of(data: Any, key: str, guest: str) -> list[Any]:
    """The list below *key*. util-linux prints nothing at all if there is nothing to list."""
    rows = None
    if isinstance(data, dict):
        rows = data.get(key)
    if not isinstance(rows, list) or len(rows) > _MAX_DEVICES:
        raise ProbeError(f"{guest}: the guest's {key} cannot be parsed")
    return rows


def _is_lasting(address: Any) -> bool:
    """True if an address of `ip --json address` is global and not given up after a while."""
    if address.get("scope") != "global":
        return False
    return not address.get("temporary") and not address.get("deprecated")


def _link_address(link: Any, address: Any) -> LinkAddress:
    return LinkAddress(
        link=str(link["ifname"]),
        address=str(address["local"]),
        dynamic=bool(address.get("dynamic")),
        added=bool(address.get("secondary")) or _stands_alone(address),
    )


def _stands_alone(address: Any) -> bool:
    family = str(address.get("family"))
    return bool(address.get("prefixlen") == _ALONE.get(family, -1))


def _table_line(match: re.Match[str]) -> TableLine:
    return TableLine(
        start=int(match["start"]) * _SECTOR,
        length=int(match["length"]) * _SECTOR,
        target=match["target"],
        arguments=tuple(match["arguments"].split()),
    )


def _first(lines: Mapping[str, list[str]], key: str) -> str | None:
    """Return the first of the lines about *key*, or None."""
    values = lines.get(key)
    if values:
        return values[0]
    return None


def _kibibytes(text: str | None) -> int | None:
    """Return the bytes in a number of KiB, or None if *text* is none."""
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,15}", text):
        return None
    return int(text) * 1024


def _awaited(lines: Mapping[str, list[str]]) -> frozenset[str]:
    """Return the devices that an initramfs waits for."""
    devices = set(map(_unescaped, lines.get("waits", ())))
    for name in lines.get("wants", ()):
        # the name of a unit has a dash for each slash (systemd-escape(1))
        path = "/" + name.replace("-", "/")
        devices.add(_unescaped(path))
    return frozenset(devices)


def _pairs(line: str) -> dict[str, Any]:
    """A line of `lsblk --pairs` or `findmnt --pairs`: KEY="value", with \\xHH for quotes and the like."""
    pairs = re.findall(r'\b([A-Z][A-Z:_-]{0,30})="([^"]*)"', line)
    return {key.lower().replace("_", "-"): _unescaped(text) for key, text in pairs}


def _unescaped(name: str) -> str:
    r"""*name* with each `\xHH` as the character that it is."""
    return re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), name)


def _device_path(name: str, kernel_name: str | None) -> str:
    """Return the path as lsblk's own column PATH has it, which came with util-linux 2.33."""
    if kernel_name and kernel_name.startswith("dm-"):
        return f"/dev/mapper/{name}"
    return f"/dev/{kernel_name or name}"


def _string(value: Any) -> str | None:
    if isinstance(value, str) and value:
        return value
    return None


def _text_of(row: Mapping[str, Any], key: str, otherwise: str = "") -> str:
    """Return the text of *key*, or *otherwise* if *row* has no text there."""
    text = _string(row.get(key))
    if text is None:
        return otherwise
    return text


def _properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _key_values(text: str) -> dict[str, str]:
    """os-release(5): shell assignments, one a line. Any other line is passed over, as the page says."""
    values = {}
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if not separator:
            continue
        if not re.fullmatch(r"[A-Z0-9_]+", key):
            continue
        if len(value) >= _LONGEST_VALUE:
            continue
        try:
            values[key] = "".join(shlex.split(value))
        except ValueError:
            continue
    return values
