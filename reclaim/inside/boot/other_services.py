"""What runs beside the boot and is told devices by their bus: it mounts them, serves them, watches them, names them.

What other things depend on is withheld until somebody has named it otherwise. What only watches or tunes a disk
(smartd, collectd, kdump, a GRUB 2 that passes over what its device.map has wrong) is told, and nothing waits for it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reclaim.inside.boot import udev
from reclaim.inside.boot.bootfile import BootFile
from reclaim.inside.devices import BlockDevice
from reclaim.inside.facts import Facts
from reclaim.inside.fstab import is_renamed_by_bus

_DEVICE = re.compile(
    r"(?<![\w.-])/dev/(?:(?:x?vd|[sh]d)[a-z]+\d*(?![\w-])|disk/by-(?:path|id)/(?:[^\s\"',;:<>(){}\[\]]|:(?=[0-9a-f]))+)"
)
#: a name without its folder, as what watches or tunes disks has it
_BARE = re.compile(r"(?<![\w.-])(?:x?vd|[sh]d)[a-z]+\d*(?![\w.-])")
_COMMENT = re.compile(r"[ \t]#")
#: what is the machine's own of udev; what packages bring knows disks by patterns
_RULES = ("/etc/udev/", "/run/udev/", "/usr/local/lib/udev/")
#: what only watches a disk, or makes it faster: without its name it is blind or slow, and nothing is lost
_WATCHES = re.compile(
    r"/device\.map\Z|/etc/cloud/|[/.](?:smartd|smartmon|hdparm|sdparm|hddtemp|hd-idle|kdump|collectd|telegraf|"
    r"prometheus|node[-_]exporter|zabbix|nagios|nrpe|icinga|munin|monit(?![a-z])|netdata|snmp|datadog|sysstat|atop|"
    r"check_mk|ganglia|pcp|logwatch|tuned|sysfs|tlp|udisks2|quotatab|warnquota|rear/)"
)
#: scripts and tables of commands, and what in them makes a device be there or be another's
_SCRIPT = re.compile(
    r"/etc/(?:rc\.local|rc\.d/rc\.local|local\.d/.+\.start|crontab|cron\.\w+/.+|crontabs/.+)\Z|/var/spool/cron/"
    r"|/etc/(?:initramfs-tools/(?:scripts|hooks)|initcpio|kernel/\w+\.d|dracut\.conf\.d)/"
)
_INIT_SCRIPT = re.compile(r"/etc/init\.d/")
_OPENS = re.compile(
    r"(?<![\w.-])(?:mount|swapon|cryptsetup|mdadm|losetup|kpartx|raw|mknod|chown|chgrp|chmod|setfacl|drbdadm|tgtadm)"
    r"(?=[ \t])"
)
_LOOKS = re.compile(
    r"(?<![\w.-])(?:blockdev|hdparm|sdparm|smartctl|fstrim|iostat|df|lsblk|blkid|findmnt|badblocks|udevadm)(?=[ \t])"
)
_DEVNODE = re.compile(r"devnode[ \t]+\"[^\"]*\"")
_WWID = re.compile(r"\bwwid[ \t]+\S+")
#: systemd.device(5): a unit of a device, and an instance of another unit that is for one
_DEVICE_UNIT = re.compile(
    r"\bdev-(?:x?vd|[sh]d)[a-z]+\d*(?:\.device\b|(?=\.\w+\Z))"
    r"|\bdev-disk-by\\x2d(?:path|id)-(?!(?:dm|md|lvm)\\x2d)\S{1,300}?\.device\b"
    r"|(?<=@)(?:x?vd|[sh]d)[a-z]+\d*(?=\.\w+\Z)"
)
#: systemd.resource-control(5): limits of a disk that are passed over where it is not there
_LIMITS = re.compile(r"(?:IO|BlockIO|StartupIO)\w+\Z")
_MOUNT_UNIT = re.compile(r"\.(?:mount|swap|automount)(?:\.d/.+)?\Z")
#: names in the folder /dev that are told without it: tables of InnoDB on raw devices, docker-storage-setup
_IN_DEV = re.compile(
    r"(?<![\w/])(?:dev/)?((?:x?vd|[sh]d)[a-z]+\d*):\d+[KMG]?(?:new)?raw\b",
    re.IGNORECASE,
)
_DEVS = re.compile(r"DEVS=[\"']?([^\"'#]*)")
_EXCLUDE = re.compile(r"SCANEXCLUDE=[\"']?([^\"'#]*)")
_DRBD = re.compile(r"/etc/drbd\.(?:conf\Z|d/)|/var/lib/(?:linstor|drbd)\.d/")
_DEV_PATH = re.compile(r"/dev/[^\s;\"']+")
#: what lies on a device that something else finds by what is written there
_ASSEMBLED = frozenset(
    (
        "LVM2_member",
        "crypto_LUKS",
        "linux_raid_member",
        "zfs_member",
        "bcache",
        "stratis",
    )
)
#: files that are known to be read by what needs its disk; of others it is told by the disk
_USERS = re.compile(
    r"/etc/(?:auto\.|integritytab|veritytab|conf\.d/dmcrypt|systemd/|drbd|tgt/|target/|rtslib|nvmet/|scst|iet|nbd-server|"
    r"vblade|trafficserver/|ceph/|(?:sysconfig|default)/(?:oracleasm|rawdevices|sbd|docker-storage)|oracleafd|vdoconf|"
    r"my\.cnf|mysql/|aerospike/|squid/|tmpfiles\.d/|ldev\.conf|writeboosttab|zfs/vdev_id|cluster/|ha\.d/|libvirt/|xen/|"
    r"docker/|bacula/|bareos/|security/pam_mount)|/var/(?:lib|mmfs)/|/(?:usr/local|opt/ts)/etc/trafficserver/"
)


def places(facts: Facts) -> Iterator[BootFile]:
    """What other things depend on, and only its administrator can rewrite."""
    yield from _rules(facts)
    devices_there = _devices(facts)
    found: dict[tuple[str, str], dict[str, None]] = {}
    for path, line in _lines(facts):
        names, advice = _withheld(devices_there, path, line)
        if names:
            found.setdefault((path, advice), {}).update(dict.fromkeys(names))
    for (path, advice), names_there in found.items():
        yield BootFile(path, tuple(names_there), advice=advice)
    yield from _multipath(facts)
    yield from _drbd(facts)


def _withheld(there: _Devices, path: str, line: str) -> tuple[list[str], str]:
    """What the line names that its reader would lose, and what to do about it."""
    if path.startswith("/etc/multipath"):
        return [], ""
    if path.startswith("/etc/systemd/"):
        if units := _DEVICE_UNIT.findall(line):
            return (
                units,
                f"{path}: name the unit of /dev/disk/by-uuid/ (systemd-escape --path)",
            )
        if _MOUNT_UNIT.search(path):
            return [], ""
    names = [*devices(line), *_told_bare(path, line)]
    if not names or _only_watches(path, line):
        return [], ""
    if not (_USERS.match(path) or _SCRIPT.match(path) or _INIT_SCRIPT.match(path)):
        names = [name for name in names if there.has_raw(name)]
    return names, _advice(path)


def _advice(path: str) -> str:
    if path.startswith("/etc/auto."):
        return f"{path}: name the device by /dev/disk/by-uuid/"
    if path == "/etc/conf.d/dmcrypt":  # OpenRC's crypttab, of Alpine and Gentoo
        return f"{path}: name the device by UUID="
    if _SCRIPT.match(path) or _INIT_SCRIPT.match(path):
        return (
            f"{path}: name the device by /dev/disk/by-uuid/, or give it a line in fstab"
        )
    return f"{path}: name the device by /dev/disk/by-partuuid/ or by-uuid/"


def _only_watches(path: str, line: str) -> bool:
    """Would nothing be lost if the line named a disk that is not there?"""
    if _WATCHES.search(path):
        return True
    if path.startswith("/etc/systemd/"):
        key = line.partition("=")[0].strip()
        if _LIMITS.match(key) or key in ("Description", "Documentation"):
            return True
        return key.startswith("Exec") and _looks(line)
    if _INIT_SCRIPT.match(path):
        return _OPENS.search(line) is None
    return _SCRIPT.match(path) is not None and _looks(line)


def _looks(line: str) -> bool:
    return (
        _LOOKS.search(line.replace("/", " ").replace("=", " ")) is not None
        and _OPENS.search(line) is None
    )


def _told_bare(path: str, line: str) -> list[str]:
    """Devices that are named without their folder."""
    found = [f"/dev/{name}" for name in _IN_DEV.findall(line)]
    if "/docker-storage" in path and (match := _DEVS.search(line)):
        found += [f"/dev/{name}" for name in match[1].split() if _BARE.fullmatch(name)]
    if match := _EXCLUDE.search(line):
        # ASMLib passes over what begins with one of these words: SCSI disks do with sd
        found += [
            match[0].strip()
            for word in match[1].split()
            if "sd".startswith(word) or re.match(r"sd[a-z]", word)
        ]
    return found


@dataclass(frozen=True)
class _Devices:
    """The guest's devices by their paths, where links lead, and which of them nothing known uses."""

    by_path: Mapping[str, BlockDevice]
    links: Mapping[str, str]
    raw: frozenset[str]

    def at(self, path: str) -> BlockDevice | None:
        return self.by_path.get(self.links.get(path, path))

    def has_raw(self, path: str) -> bool:
        """Is there a device that nothing known uses? Then whoever names it may be its user."""
        return self.links.get(path, path) in self.raw


def _devices(facts: Facts) -> _Devices:
    by_path = {one.path: one for root in facts.block_devices for one in root.walk()}
    used = {*(mount.source.partition("[")[0] for mount in facts.mounts), *facts.swaps}
    used |= {path for path, one in by_path.items() if one.fstype in _ASSEMBLED}
    raw = (
        path
        for path, device in by_path.items()
        if not any(
            one.path in used
            for one in device.walk()
            if one is device or one.type == "part"
        )
    )
    return _Devices(by_path, facts.links, frozenset(raw))


def _rules(facts: Facts) -> Iterator[BootFile]:
    try:
        lost = [one for one in _changed_rules(facts) if one.is_loss]
    except udev.TooManyRulesError:
        yield BootFile(
            f"{_RULES[0]}rules.d",
            ("there are more rules and disks than reclaim evaluates",),
            advice=f"{_RULES[0]}rules.d: let no rule match a disk by its bus",
        )
        return
    for one in lost:
        advice = f"{one.path}: match ENV{{ID_FS_UUID}}, ENV{{ID_PART_ENTRY_UUID}} or ENV{{ID_PART_TABLE_UUID}} instead"
        yield BootFile(one.path, one.names, advice=advice)


def _changed_rules(facts: Facts) -> list[udev.RuleChange]:
    lines = [
        (path, line)
        for path, line in facts.named_lines
        if path.startswith(_RULES) and not line.startswith("#")
    ]
    return udev.changes(facts, lines)


def _multipath(facts: Facts) -> Iterator[BootFile]:
    """Patterns of names that tell virtio-blk's disks from others, where none is of SCSI disks, and the identities
    of disks that lie below multipath: both are another on another bus (multipath.conf(5))."""
    lines = [
        (path, line)
        for path, line in _lines(facts)
        if path.startswith("/etc/multipath")
    ]
    found = [
        (path, match[0]) for path, line in lines for match in _DEVNODE.finditer(line)
    ]
    knows_scsi = any("sd" in pattern for _, pattern in found)
    for path, pattern in found:
        if re.search(r"x?vd", pattern) and not knows_scsi:
            yield BootFile(
                path, (pattern,), advice=f"{path}: say what it means for sd as well"
            )
    moved = (
        one
        for root in facts.block_devices
        for one in root.walk()
        if is_renamed_by_bus(one.path)
        and not re.search(r"/virtio\d+/host\d+/", facts.sysfs.get(root.name, ""))
    )
    if any(child.type == "mpath" for one in moved for child in one.children):
        for path, line in lines:
            if wwid := _WWID.findall(line):
                yield BootFile(
                    path,
                    tuple(wwid),
                    advice=f"{path}: the disk's wwid is another on virtio-scsi",
                )


def _drbd(facts: Facts) -> Iterator[BootFile]:
    """Devices that DRBD lies on, where no file that was read says by which name it knows them."""
    told = [
        path
        for file, line in _lines(facts)
        if _DRBD.match(file)
        for path in _DEV_PATH.findall(line)
    ]
    known = {facts.resolve(path) for path in told}
    for root in facts.block_devices:
        for one in root.walk():
            lies_below = one.fstype == "drbd" or any(
                re.match(r"drbd\d", child.name) for child in one.children
            )
            if lies_below and is_renamed_by_bus(one.path) and one.path not in known:
                named = f"{one.path} is DRBD's, and no file that was read names it"
                advice = (
                    "name the device in DRBD's configuration by /dev/disk/by-partuuid/"
                )
                yield BootFile("/etc/drbd.d", (named,), advice=advice)


def remarks(facts: Facts) -> list[str]:
    """What else is told devices by their bus, as "file: device"."""
    there = _devices(facts)
    told: dict[str, None] = {}
    for path, line in _lines(facts):
        if _MOUNT_UNIT.search(path):
            continue
        bare = (
            [name for name in _BARE.findall(line) if there.at(f"/dev/{name}")]
            if _WATCHES.search(path)
            else []
        )
        told.update(
            dict.fromkeys(f"{path}: {device}" for device in devices(line) or bare)
        )
    with contextlib.suppress(udev.TooManyRulesError):  # that is among the places
        told.update(
            (f"{one.path}: {' '.join(one.names)}", None)
            for one in _changed_rules(facts)
        )
    return list(told)


def _lines(facts: Facts) -> Iterator[tuple[str, str]]:
    """The lines without comments, but for rules of udev's and for files that others read."""
    for path, line in facts.named_lines:
        if path in facts.boot_files or path.startswith(_RULES):
            continue
        if not line.startswith(("#", ";", "//", "<!--")):
            yield path, _COMMENT.split(line, maxsplit=1)[0]


def devices(line: str) -> list[str]:
    """What *line* names by its bus, wherever in it."""
    return [match[0] for match in _DEVICE.finditer(line) if is_renamed_by_bus(match[0])]
