"""What one script, run once inside a guest, printed: parsed strictly, frozen, cached by the guest.

A section that the guest could not give costs the checks that need it, not the others: it is parsed
when it is first asked for, and raises ProbeError then.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from importlib.resources import files
from typing import Any

from testinfra.host import Host

from reclaim.base.errors import NotLinux, ProbeError
from reclaim.base.text import printable
from reclaim.definition import othersystem
from reclaim.inside.devices import BlockDevice, Layout, Mount, TableLine

#: seconds that the whole script may take: 4 under emulation, and minutes where the host has many guests to emulate
SCRIPT_SECONDS = 300
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
#: what the kernel counts starts and lengths in, whatever the disk's own sectors are
_SECTOR = 512
#: what keeps a thin pool from passing discards down (Linux's admin-guide/device-mapper/thin-provisioning)
#: a file as the script prints it: its path and its length, each on a line, then its bytes
_FILE = re.compile(rb"([^\n]*)\n *(\d{1,9}) *\n")
#: what ends a name in a boot file: blanks, and what a menu or a shell has between words
_BETWEEN_NAMES = re.compile(r"[\s/\\\"'`=,;:(){}<>|&$#!?*^@\[\]]+")
_DEAF_POOL = frozenset(("no_discard_passdown", "ignore_discard"))
#: by what mount(8) finds a device, as `BlockDevice` has them
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
    return files("reclaim.inside").joinpath("facts.sh").read_text(encoding="utf-8")


def gather(shell: Host, guest: str, earlier: Facts | None = None) -> Facts:
    """Run the script in the guest. Raises ProbeError where it cannot be run or does not finish, NotLinux elsewhere.

    An initramfs that is as it was in the *earlier* facts is not read again: that is the slow part.
    """
    known = (
        f"known={shlex.quote(' '.join(earlier.initramfs_stamps))}\n" if earlier else ""
    )
    result = shell.run(known + script(), seconds=SCRIPT_SECONDS)
    found = read(result.stdout_bytes, guest, earlier)
    if found.system != "Linux":
        raise NotLinux(guest, othersystem.words(printable(found.system)))
    return found


def read(output: bytes, guest: str, earlier: Facts | None = None) -> Facts:
    """The facts in what the script printed. Raises ProbeError where it did not come to its end."""
    lines = output.decode("ascii", errors="replace").splitlines()
    if not lines or lines[-1] != "end":
        raise ProbeError(f"{guest}: the guest did not finish the facts script")
    sections = {}
    for line in lines[:-1]:
        name, _, data = line.partition(" ")
        if name in sections:
            raise ProbeError(f"{guest}: the guest gave the section {name[:40]!r} twice")
        sections[name] = data
    return Facts(
        guest, sections, earlier.kernels if earlier and earlier.initramfs_stamps else ()
    )


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
    #: inode, size and time of the initramfs that was read
    stamp: str = ""
    #: the initramfs file; None where there is none
    path: str | None = None
    #: modules that this kernel does not have at all
    lacking: frozenset[str] = frozenset()
    #: bytes free where the initramfs lies, where that is not /boot itself
    free: int | None = None
    #: devices that the initramfs waits for before it looks for the root
    waits: frozenset[str] = frozenset()
    #: the unified kernel image that holds kernel and initramfs
    unified: str | None = None
    #: the image's name, where it has no folder of modules
    stray: str | None = None

    def has(self, module: str) -> bool:
        return module in self.builtin or module in self.initramfs

    @property
    def initramfs_bytes(self) -> int:
        """How large its initramfs is; 0 where that is not known."""
        size = self.stamp.split(":")[1] if self.stamp.count(":") == 2 else ""
        return int(size) if re.fullmatch(r"\d{1,15}", size) else 0


@dataclass(frozen=True)
class CronLine:
    """A line of cron's that trims, and the file it is in."""

    path: str
    line: str


@dataclass(frozen=True)
class Facts:
    """Everything the checks know about the inside of one guest."""

    guest: str
    sections: Mapping[str, str] = field(repr=False)
    #: kernels as they were read before, for those whose initramfs has not changed
    earlier_kernels: tuple[Kernel, ...] = ()

    def lighten(self) -> None:
        """Drop what was worked out, where the guest says much: that takes ten times the room of what it said."""
        if sum(map(len, self.sections.values())) < _LIGHT:
            return
        kept = {one.name for one in fields(self)}
        for name in self.__dict__.keys() - kept:
            del self.__dict__[name]

    def _section(self, name: str) -> tuple[int, bytes]:
        """Exit status and bytes of one section."""
        encoded = self.sections.get(name)
        if encoded is None:
            raise ProbeError(f"{self.guest}: the guest did not give {name}")
        try:
            data = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as exc:
            raise ProbeError(f"{self.guest}: the guest's {name} is not base64") from exc
        if len(data) >= _MAX_SECTION_BYTES - 3:
            raise ProbeError(
                f"{self.guest}: the guest's {name} is longer than reclaim reads"
            )
        if not re.fullmatch(rb"\d{3}", data[-3:]):
            raise ProbeError(f"{self.guest}: the guest's {name} has no exit status")
        return int(data[-3:]), data[:-3]

    def _text(self, name: str) -> str:
        """A section that has to have succeeded."""
        status, data = self._section(name)
        if status != 0:
            raise ProbeError(
                f"{self.guest}: reading {name} in the guest ended with status {status}"
            )
        return data.decode("utf-8", errors="surrogateescape")

    def _json(self, name: str) -> Any:
        text = self._text(name)
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise ProbeError(f"{self.guest}: the guest's {name} is not JSON") from exc

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
        """The SELinux domain of the guest agent, where the script ran in it and it may not write below /etc."""
        status, data = self._section("context")
        text = data.decode("utf-8", errors="replace") if status == 0 else ""
        match = re.search(r"\bvirt_qemu_ga_t\b", text)
        return match[0] if match and "writable" not in text.splitlines() else None

    @cached_property
    def command_line(self) -> str:
        return self._text("cmdline").strip()

    @cached_property
    def tools(self) -> frozenset[str]:
        return frozenset(self._text("tools").split())

    @cached_property
    def _units(self) -> Mapping[str, str]:
        """systemd's units that are active or failed -> which of both; empty where there is no systemd."""
        _, data = self._section("systemd")
        lines = (
            line.split(maxsplit=3)
            for line in data.decode("utf-8", errors="replace").splitlines()[1:]
        )
        return {fields[0]: fields[2] for fields in lines if len(fields) == 4}

    @property
    def active_units(self) -> frozenset[str]:
        return frozenset(
            name for name, state in self._units.items() if state == "active"
        )

    @property
    def failed_units(self) -> frozenset[str]:
        return frozenset(
            name for name, state in self._units.items() if state == "failed"
        )

    @cached_property
    def is_starting(self) -> bool:
        """Has systemd not finished what it has to start? (systemctl(1), is-system-running)"""
        _, data = self._section("systemd")
        return data.partition(b"\n")[0] in (b"initializing", b"starting")

    @cached_property
    def addresses(self) -> tuple[LinkAddress, ...] | None:
        """Global IP addresses that are not given up after a while; None where ip(8) cannot tell."""
        status, data = self._section("addresses")
        if status != 0:
            return None
        try:
            return tuple(
                LinkAddress(
                    str(link["ifname"]),
                    str(one["local"]),
                    bool(one.get("dynamic")),
                    bool(one.get("secondary"))
                    or one.get("prefixlen") == _ALONE.get(str(one.get("family")), -1),
                )
                for link in json.loads(data)
                for one in link["addr_info"]
                if one.get("scope") == "global"
                and not one.get("temporary")
                and not one.get("deprecated")
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise ProbeError(
                f"{self.guest}: the guest's addresses cannot be parsed"
            ) from exc

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
        found: dict[str, str] = {}
        at = 0
        while at < len(data):
            match = _FILE.match(data, at)
            if match is None or len(found) == _MAX_FILES:
                raise ProbeError(
                    f"{self.guest}: the guest's {name.replace('_', ' ')} cannot be parsed"
                )
            path, begin, end = (
                match[1].decode("utf-8", errors="replace"),
                match.end(),
                match.end() + int(match[2]),
            )
            found[path] = data[begin:end].decode("utf-8", errors="surrogateescape")
            at = end + 1
        return found

    @cached_property
    def unified(self) -> Mapping[str, str]:
        """Unified kernel images, by path: the command line built into each, "" where it could not be read."""
        lines = (
            line.split("\t", 1)
            for line in self._text("unified").splitlines()
            if "\t" in line
        )
        return {path: " ".join(text.split()) for path, text in lines}

    @cached_property
    def lvm_lines(self) -> tuple[tuple[str, str], ...]:
        """(file, line) of what lvm.conf(5) filters and lvmdevices(8) knows devices by."""
        return self._lines("lvm")

    @cached_property
    def named_lines(self) -> tuple[tuple[str, str], ...]:
        """(file, line) of what runs beside the boot and is told devices."""
        return self._lines("named")

    def _lines(self, name: str) -> tuple[tuple[str, str], ...]:
        found = (line.partition(":") for line in self._text(name).split("\n") if line)
        return tuple((path, text.strip()) for path, _, text in found)

    @cached_property
    def boot_free(self) -> int | None:
        """Bytes that are free where /boot lies; None where df cannot tell."""
        status, data = self._section("boot_free")
        lines = data.decode("utf-8", errors="replace").splitlines()
        match = (
            re.search(r"\s(\d{1,15})\s+\d{1,3}%\s", lines[-1])
            if lines and status == 0
            else None
        )
        return int(match[1]) * 1024 if match else None

    @cached_property
    def grub_install_devices(self) -> Mapping[str, tuple[str, ...]]:
        """debconf's `grub-pc/install_devices` and grub-efi's: where their next upgrade installs to, by question."""
        status, data = self._section("debconf")
        found = {}
        for record in (
            data.decode("utf-8", errors="replace").split("\n\n") if status == 0 else ()
        ):
            name = re.search(
                r"^Name: *(grub-(?:pc|efi)/install_devices)$", record, re.MULTILINE
            )
            value = re.search(r"^Value: *(.*)$", record, re.MULTILINE)
            if name and value:
                found[name[1]] = tuple(
                    part.strip() for part in value[1].split(",") if part.strip()
                )
        return found

    # Storage

    @cached_property
    def block_devices(self) -> tuple[BlockDevice, ...]:
        """The trees of block devices, whole disks first."""
        text = self._text("lsblk")
        if text.startswith("NAME="):
            roots = self._tree(text)
        else:
            roots = _list_of(self._json("lsblk"), "blockdevices", self.guest)
        return tuple(self._block_device(one, 0) for one in roots)

    @cached_property
    def devices(self) -> tuple[BlockDevice, ...]:
        """Every block device of the trees, each before what lies on it."""
        return tuple(one for root in self.block_devices for one in root.walk())

    @cached_property
    def tagged(self) -> Mapping[tuple[str, str], tuple[BlockDevice, ...]]:
        """The disks and partitions by what mount(8) finds them by: ("uuid", "aaaa-1") and the like."""
        return {
            key: tuple(one for one in owners if one.type in ("disk", "part"))
            for key, owners in self.with_tag.items()
        }

    @cached_property
    def with_tag(self) -> Mapping[tuple[str, str], tuple[BlockDevice, ...]]:
        """The block devices of every type by a tag and its value: ("uuid", "aaaa-1") and the like; each path once."""
        found: dict[tuple[str, str], dict[str, BlockDevice]] = {}
        for one in self.devices:
            for tag in _TAGS:
                if value := getattr(one, tag):
                    found.setdefault((tag, value), {})[one.path] = one
        return {key: tuple(owners.values()) for key, owners in found.items()}

    def _tree(self, text: str) -> list[dict[str, Any]]:
        """The trees in what `lsblk --pairs` printed, each parent before its children (util-linux before 2.27)."""
        below: dict[str, dict[str, None]] = {}
        devices: dict[str, dict[str, Any]] = {}
        for line in text.splitlines():
            found = _pairs(line)
            name, parent = found.get("kname", ""), found.get("pkname", "")
            if not name or (parent and (parent not in devices or parent == name)):
                raise ProbeError(
                    f"{self.guest}: the guest's block devices cannot be parsed"
                )
            devices.setdefault(name, found)
            below.setdefault(parent, {})[name] = None
        left = _MAX_DEVICES

        def grown(name: str) -> dict[str, Any]:
            nonlocal left
            left -= 1
            if left < 0:
                raise ProbeError(
                    f"{self.guest}: the guest's block devices cannot be parsed"
                )
            return {
                **devices[name],
                "children": [grown(child) for child in below.get(name, [])],
            }

        try:
            return [grown(name) for name in below.get("", [])]
        except RecursionError as exc:
            raise ProbeError(
                f"{self.guest}: the guest's block devices cannot be parsed"
            ) from exc

    def _block_device(self, data: Any, depth: int) -> BlockDevice:
        if not isinstance(data, dict) or depth > 20:
            raise ProbeError(
                f"{self.guest}: the guest's block devices cannot be parsed"
            )
        children = data.get("children") or []
        if not isinstance(children, list) or len(children) > _MAX_DEVICES:
            raise ProbeError(
                f"{self.guest}: the guest's block devices cannot be parsed"
            )
        name = _string(data.get("name"))
        if not name:
            raise ProbeError(
                f"{self.guest}: the guest lists a block device without a name"
            )
        return BlockDevice(
            name=name,
            path=_string(data.get("path"))
            or _device_path(name, _string(data.get("kname"))),
            type=_string(data.get("type")) or "",
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
        """lsblk and findmnt quote their numbers before util-linux 2.33."""
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise ProbeError(f"{self.guest}: a size in the guest's answer is no number")
        if isinstance(value, str) and not re.fullmatch(r"\d{1,20}", value):
            raise ProbeError(f"{self.guest}: a size in the guest's answer is no number")
        number = int(value)
        if not 0 <= number <= _MAX_NUMBER:
            raise ProbeError(
                f"{self.guest}: a size in the guest's answer is no number of bytes"
            )
        return number

    @cached_property
    def mounts(self) -> tuple[Mount, ...]:
        text = self._text("findmnt")
        if text.startswith("TARGET="):
            listed: list[Any] = [_pairs(line) for line in text.splitlines()]
        else:
            listed = _list_of(self._json("findmnt"), "filesystems", self.guest)
        found = []
        for one in listed:
            if not isinstance(one, dict):
                raise ProbeError(f"{self.guest}: the guest's mounts cannot be parsed")
            size, used = one.get("size"), one.get("used")
            found.append(
                Mount(
                    target=_string(one.get("target")) or "",
                    source=_string(one.get("source")) or "",
                    fstype=_string(one.get("fstype")) or "",
                    options=tuple((_string(one.get("options")) or "").split(",")),
                    uuid=_string(one.get("uuid")),
                    fsroot=_string(one.get("fsroot")) or "/",
                    size=None if size is None else self._number(size),
                    used=None if used is None else self._number(used),
                )
            )
        return tuple(found)

    @cached_property
    def links(self) -> Mapping[str, str]:
        """Symbolic links in folders of /dev -> the device path they lead to."""
        _, data = self._section(
            "links"
        )  # find's status is 1 where something vanished meanwhile
        found: dict[str, str] = {}
        for line in data.decode("utf-8", errors="replace").splitlines()[:_MAX_LINKS]:
            path, separator, to = line.partition("\t")
            if separator:
                found[path] = "/dev/" + to.rsplit("/", 1)[-1]
        return found

    @cached_property
    def deaf_pools(self) -> frozenset[str]:
        """Thin pools that keep discards to themselves, as device mapper names them, whatever DISC-MAX says."""
        status, data = self._section("thin")
        lines = (
            data.decode("utf-8", errors="replace").splitlines() if status == 0 else []
        )
        found = (line.partition(": ") for line in lines)
        return frozenset(
            name
            for name, words in ((name, rest.split()) for name, _, rest in found)
            if words[2:3] == ["thin-pool"] and not _DEAF_POOL.isdisjoint(words)
        )

    @cached_property
    def btrfs_members(self) -> Mapping[str, frozenset[str]]:
        """UUID of each btrfs that is mounted -> the kernel names of the devices it lies on."""
        found: dict[str, set[str]] = {}
        for line in self._text("btrfs").splitlines():
            uuid, _, name = line.partition("\t")
            found.setdefault(uuid, set()).add(name)
        return {uuid: frozenset(names) for uuid, names in found.items()}

    @cached_property
    def sysfs(self) -> Mapping[str, str]:
        """Kernel name of each block device -> the path of its device in sysfs."""
        lines = self._text("sysfs").splitlines()
        return dict(line.split("\t", 1) for line in lines if "\t" in line)

    @cached_property
    def layout(self) -> Layout:
        """Where partitions and the device mapper's devices lie."""
        names: dict[str, str] = {}
        starts: dict[str, int] = {}
        tables: dict[str, list[TableLine]] = {}
        for line in self._text("layout").splitlines()[:_MAX_LINKS]:
            if match := re.fullmatch(
                r"device (\d{1,9}:\d{1,9}) (-|\d{1,15}) (\S.*)", line
            ):
                names[match[1]] = match[3]
                if match[2] != "-":
                    starts[match[3]] = int(match[2]) * _SECTOR
            elif match := re.fullmatch(
                r"table (\S+): (\d{1,15}) (\d{1,15}) (\S+) ?(.*)", line
            ):
                one = TableLine(
                    int(match[2]) * _SECTOR,
                    int(match[3]) * _SECTOR,
                    match[4],
                    tuple(match[5].split()),
                )
                tables.setdefault(match[1], []).append(one)
        return Layout(
            names, starts, {name: tuple(lines) for name, lines in tables.items()}
        )

    @cached_property
    def swaps(self) -> tuple[str, ...]:
        """The active swap devices and files."""
        return tuple(
            line.split()[0]
            for line in self._text("swaps").splitlines()[1:]
            if line.split()
        )

    def resolve(self, path: str) -> str:
        """The device path that *path* leads to."""
        return self.links.get(path, path)

    def device(self, path: str) -> BlockDevice | None:
        """The block device at *path*, links followed."""
        return self._by_path.get(self.resolve(path))

    @cached_property
    def _by_path(self) -> Mapping[str, BlockDevice]:
        """The block devices by their path, their kernel name in /dev, and what their path leads to."""
        found: dict[str, BlockDevice] = {}
        for one in self.devices:
            for path in (one.path, f"/dev/{one.name}", self.resolve(one.path)):
                found.setdefault(path, one)
        return found

    @cached_property
    def links_to(self) -> Mapping[str, tuple[str, ...]]:
        """The device path that links lead to -> those links."""
        found: dict[str, list[str]] = {}
        for path, to in self.links.items():
            found.setdefault(to, []).append(path)
        return {to: tuple(paths) for to, paths in found.items()}

    @cached_property
    def mounts_from(self) -> Mapping[str, tuple[Mount, ...]]:
        """The source of mounts, without the part of it that is mounted -> those mounts."""
        found: dict[str, list[Mount]] = {}
        for mount in self.mounts:
            found.setdefault(mount.device, []).append(mount)
        return {device: tuple(mounts) for device, mounts in found.items()}

    @cached_property
    def mounts_on(self) -> Mapping[str, tuple[Mount, ...]]:
        """A mount point -> what is mounted on it, the upmost last."""
        found: dict[str, list[Mount]] = {}
        for mount in self.mounts:
            found.setdefault(mount.target, []).append(mount)
        return {target: tuple(mounts) for target, mounts in found.items()}

    def stack(self, device: BlockDevice) -> tuple[tuple[BlockDevice, ...], ...]:
        """Every way from a whole disk up to *device*, the disk first."""
        return self._ways.get(device.path, ())

    @cached_property
    def _ways(self) -> Mapping[str, tuple[tuple[BlockDevice, ...], ...]]:
        """The path of each block device -> every way up to it."""
        found: dict[str, list[tuple[BlockDevice, ...]]] = {}

        def climb(at: BlockDevice, below: tuple[BlockDevice, ...]) -> None:
            way = (*below, at)
            found.setdefault(at.path, []).append(way)
            for child in at.children:
                climb(child, way)

        for root in self.block_devices:
            climb(root, ())
        return {path: tuple(ways) for path, ways in found.items()}

    # Kernels, trim

    @property
    def initramfs_stamps(self) -> tuple[str, ...]:
        """What identifies each initramfs that was read; empty where the kernels could not be."""
        try:
            return tuple(
                kernel.stamp
                for kernel in self.kernels
                if kernel.stamp and not kernel.problem
            )
        except ProbeError:
            return ()

    @cached_property
    def kernels(self) -> tuple[Kernel, ...]:
        blocks = re.split(r"^(?=kernel )", self._text("kernels"), flags=re.MULTILINE)
        if blocks[0] or len(blocks) > _MAX_KERNELS:
            raise ProbeError(f"{self.guest}: the guest's kernels cannot be parsed")
        found = (self._kernel(block) for block in blocks[1:])
        return tuple(
            kernel
            for kernel in found
            if kernel.stray is None or self._is_named(kernel.stray)
        )

    def _is_named(self, image: str) -> bool:
        """Does a boot file name the kernel image *image*? What nothing boots may lie there.

        An image whose name cannot be told from what is around it is taken for named: nobody may pass it over.
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
        """The kernels as they were read before, by what identifies the initramfs."""
        return {one.stamp: one for one in reversed(self.earlier_kernels)}

    def _kernel(self, block: str) -> Kernel:
        words: dict[str, list[str]] = {}
        for line in block.splitlines():
            word, _, rest = line.partition(" ")
            words.setdefault(word, []).append(rest)
        if set(words) - _KERNEL_WORDS or len(words["kernel"]) != 1:
            raise ProbeError(f"{self.guest}: the guest's kernels cannot be parsed")

        def only(word: str) -> str | None:
            return words.get(word, [None])[0]

        stamp = only("stamp") or ""
        initramfs, lacking = (
            frozenset(words.get("initramfs", ())),
            frozenset(words.get("lacking", ())),
        )
        waits = frozenset(map(_unescaped, words.get("waits", ())))
        # the name of a unit has a dash for each slash (systemd-escape(1))
        waits |= {
            _unescaped("/" + name.replace("-", "/")) for name in words.get("wants", ())
        }
        if "same" in words:
            same = self._earlier.get(stamp)
            if same is None:
                raise ProbeError(f"{self.guest}: the guest's kernels cannot be parsed")
            initramfs, lacking, waits = same.initramfs, same.lacking, same.waits
        free = only("free") or ""
        return Kernel(
            words["kernel"][0],
            frozenset(words.get("builtin", ())),
            initramfs,
            only("unreadable"),
            stamp,
            only("path"),
            lacking,
            int(free) * 1024 if re.fullmatch(r"[0-9]{1,15}", free) else None,
            waits,
            only("unified"),
            only("stray"),
        )

    @cached_property
    def fstrim_timer(self) -> Mapping[str, str]:
        """LoadState, ActiveState, SubState and UnitFileState of fstrim.timer."""
        return _properties(self._text("timer"))

    @cached_property
    def fstrim_service(self) -> Mapping[str, str]:
        """LoadState, Result, ExecMainStatus, ExecMainStartTimestamp, Protect…, FragmentPath and DropInPaths."""
        return _properties(self._text("service"))

    @cached_property
    def fstrim_commands(self) -> tuple[str, ...]:
        """The command lines of fstrim.service (`ExecStart=` as systemctl show writes it)."""
        lines = (
            line
            for line in self._text("service").splitlines()
            if line.startswith("ExecStart={ ")
        )
        found = (line.partition("argv[]=")[2].partition(" ; ") for line in lines)
        return tuple(command for command, separator, _ in found if separator)

    @cached_property
    def jobs(self) -> tuple[CronLine, ...]:
        """The lines of cron's that mention fstrim or zpool trim."""
        lines = (
            line.split("\t", 1)
            for line in self._text("cron").splitlines()
            if "\t" in line
        )
        return tuple(CronLine(path, line.strip()) for path, line in lines)

    @cached_property
    def cron_daemons(self) -> frozenset[str]:
        """What runs cron's files, as it runs now."""
        return frozenset(self._text("daemons").split())

    @cached_property
    def autotrim(self) -> Mapping[str, bool]:
        """ZFS pools: is autotrim on? Empty where there is no ZFS, or none that knows of it (before 0.8)."""
        status, data = self._section("zfs")
        lines = (
            data.decode("utf-8", errors="replace").splitlines() if status == 0 else []
        )
        return {
            fields[0]: fields[1] == "on"
            for fields in (line.split("\t") for line in lines)
            if len(fields) == 2
        }

    @cached_property
    def vdevs(self) -> tuple[tuple[str, str], ...]:
        """(pool, path) of each device that a ZFS pool knows, by the path that it will be looked for at."""
        status, data = self._section("vdevs")
        found, pool = [], ""
        for line in (
            data.decode("utf-8", errors="replace").splitlines() if status == 0 else ()
        ):
            name = line.split()[0] if line.split() else ""
            if name.startswith("/"):
                found.append((pool, name))
            elif not line[:1].isspace():
                pool = name
        return tuple(found)


def _list_of(data: Any, key: str, guest: str) -> list[Any]:
    """The list below *key*; util-linux prints nothing at all where there is nothing."""
    found = data.get(key) if isinstance(data, dict) else None
    if not isinstance(found, list) or len(found) > _MAX_DEVICES:
        raise ProbeError(f"{guest}: the guest's {key} cannot be parsed")
    return found


def _pairs(line: str) -> dict[str, Any]:
    """A line of `lsblk --pairs` or `findmnt --pairs`: KEY="value", with \\xHH for what is not plain, quotes too."""
    found = re.findall(r'\b([A-Z][A-Z:_-]{0,30})="([^"]*)"', line)
    return {key.lower().replace("_", "-"): _unescaped(text) for key, text in found}


def _unescaped(name: str) -> str:
    r"""*name* with each `\xHH` as the character that it is."""
    return re.sub(r"\\x([0-9a-f]{2})", lambda one: chr(int(one[1], 16)), name)


def _device_path(name: str, kernel_name: str | None) -> str:
    """As lsblk's own column PATH has it, which came with util-linux 2.33."""
    return (
        f"/dev/mapper/{name}"
        if kernel_name and kernel_name.startswith("dm-")
        else f"/dev/{kernel_name or name}"
    )


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _key_values(text: str) -> dict[str, str]:
    """os-release(5): shell assignments, one a line. A line that is none is passed over, as the page says."""
    found = {}
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if (
            separator
            and re.fullmatch(r"[A-Z0-9_]+", key)
            and len(value) < _LONGEST_VALUE
        ):
            try:
                found[key] = "".join(shlex.split(value))
            except ValueError:
                continue
    return found
