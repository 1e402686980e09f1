"""What runs beside the boot and is told devices by their bus: it mounts them, watches them, gives them names.

What other things depend on is withheld until somebody has named it otherwise. What only concerns itself
(smartd, kdump, a GRUB 2 that passes over what its device.map has wrong) is told, and keeps nobody from anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from reclaim.facts import Facts
from reclaim.fstab import is_renamed_by_bus
from reclaim.place import Place

_DEVICE = re.compile(r"/dev/(?:(?:x?vd|[sh]d)[a-z]+\d*(?![\w-])|disk/by-(?:path|id)/[^\s\"',;:]+)")
#: udev(7): a match on the kernel's name of a disk, on the path to it, or on its serial number as virtio-blk has it:
#: on SCSI maker and model stand before it (60-persistent-storage.rules)
_MATCH = re.compile(
    r"KERNELS?==\"(?P<kernel>[^\"]*)\"|ENV\{ID_PATH\w*\}==\"[^\"]+\""
    r"|(?:ENV\{ID_SERIAL\}|ATTRS?\{serial\})==\"[^\"\w]*\w[^\"]*\""
)
_KERNEL_NAME = re.compile(r"\b(?:x?vd|[sh]d)[a-z\[*?]")
_NAMES_IT = re.compile(r"\b(?:SYMLINK|NAME)\+?=(?!=)")
#: scripts that run at the end of a boot, and what in them makes a filesystem or swap be there
_AT_THE_END = re.compile(r"/etc/(?:rc\.local|rc\.d/rc\.local|local\.d/.+\.start)\Z")
_OPENS = re.compile(r"(?<![\w.-])(?:mount|swapon|cryptsetup|mdadm)(?=[ \t])")
_DEVNODE = re.compile(r"devnode[ \t]+\"[^\"]*\"")
_DEVICE_UNIT = re.compile(r"\bdev-(?:x?vd|[sh]d)[a-z]+\d*\.device\b")


def places(facts: Facts) -> Iterator[Place]:
    """What other things depend on, and only its administrator can rewrite."""
    for path, line in _lines(facts):
        if path.startswith("/etc/udev/"):
            found = _matches(line) if _NAMES_IT.search(line) else []
            advice = f"{path}: match ENV{{ID_FS_UUID}}, ENV{{ID_PART_ENTRY_UUID}} or ENV{{ID_PART_TABLE_UUID}} instead"
        elif path.startswith("/etc/auto."):
            found = devices(line)
            advice = f"{path}: name the device by /dev/disk/by-uuid/"
        elif path in ("/etc/integritytab", "/etc/veritytab"):
            found = devices(line)
            advice = f"{path}: name the device by /dev/disk/by-partuuid/"
        elif path == "/etc/conf.d/dmcrypt":
            # OpenRC's crypttab, of Alpine and Gentoo
            found = devices(line)
            advice = f"{path}: name the device by UUID="
        elif _AT_THE_END.match(path):
            found = devices(line) if _OPENS.search(line) else []
            advice = f"{path}: name the device by /dev/disk/by-uuid/, or give it a line in fstab"
        elif path.startswith("/etc/systemd/"):
            found = _DEVICE_UNIT.findall(line)
            advice = f"{path}: name the unit of /dev/disk/by-uuid/ (systemd-escape --path)"
        else:
            continue
        if found:
            yield Place(path, tuple(found), advice=advice)
    yield from _multipath(facts)


def _matches(line: str) -> list[str]:
    """What a rule of udev's matches a disk by that is another on another bus."""
    found = _MATCH.finditer(line)
    return [match[0] for match in found if match["kernel"] is None or _KERNEL_NAME.search(match["kernel"])]


def _multipath(facts: Facts) -> Iterator[Place]:
    """Patterns of names that tell virtio-blk's disks from others, where none is of SCSI disks (multipath.conf(5))."""
    found = [(path, match[0]) for path, line in _lines(facts) for match in _DEVNODE.finditer(line)]
    if any("sd" in pattern for _, pattern in found):
        return
    for path, pattern in found:
        if re.search(r"x?vd", pattern):
            yield Place(path, (pattern,), advice=f"{path}: say what it means for sd as well")


def remarks(facts: Facts) -> list[str]:
    """What else is told devices by their bus, as "file: device"."""
    told = (f"{path}: {device}" for path, line in _lines(facts) for device in devices(line))
    return list(dict.fromkeys(told))


def _lines(facts: Facts) -> Iterator[tuple[str, str]]:
    for path, line in facts.named_lines:
        if not line.startswith(("#", ";")):
            yield path, line.partition(" #")[0]


def devices(line: str) -> list[str]:
    """What *line* names by its bus, wherever in it."""
    return [match[0] for match in _DEVICE.finditer(line) if is_renamed_by_bus(match[0])]
