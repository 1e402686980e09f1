"""Other services that name disks by bus: they mount them, serve them, watch them or name them.

If other things depend on a name, reclaim withholds the change of bus until you have named it otherwise. If a service
only watches or tunes a disk (smartd, collectd, kdump, a GRUB 2 that passes over wrong lines of its device.map),
reclaim reports it, and no change waits for it.
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
#: a name without its folder, as services that watch or tune disks have it
_BARE = re.compile(r"(?<![\w.-])(?:x?vd|[sh]d)[a-z]+\d*(?![\w.-])")
_COMMENT_SIGNS = ("#", ";", "//", "<!--")
_COMMENT = re.compile(r"[ \t]#")
#: the machine's own rules of udev; the rules of packages know disks by patterns
_RULES = ("/etc/udev/", "/run/udev/", "/usr/local/lib/udev/")
#: services that only watch a disk, or make it faster: without its name they are blind or slow, and nothing is lost
_WATCHES = re.compile(
    r"/device\.map\Z|/etc/cloud/|[/.](?:smartd|smartmon|hdparm|sdparm|hddtemp|hd-idle|kdump|collectd|telegraf|"
    r"prometheus|node[-_]exporter|zabbix|nagios|nrpe|icinga|munin|monit(?![a-z])|netdata|snmp|datadog|sysstat|atop|"
    r"check_mk|ganglia|pcp|logwatch|tuned|sysfs|tlp|udisks2|quotatab|warnquota|rear/)"
)
#: scripts and tables of commands; below, the commands in them that make a device be there or be another's
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
#: the sysfs path of a disk on virtio-scsi
_ON_VIRTIO_SCSI = re.compile(r"/virtio\d+/host\d+/")
_DEVNODE = re.compile(r"devnode[ \t]+\"[^\"]*\"")
_WWID = re.compile(r"\bwwid[ \t]+\S+")
#: systemd.device(5): a unit of a device, and an instance of another unit that is for one
_DEVICE_UNIT = re.compile(
    r"\bdev-(?:x?vd|[sh]d)[a-z]+\d*(?:\.device\b|(?=\.\w+\Z))"
    r"|\bdev-disk-by\\x2d(?:path|id)-(?!(?:dm|md|lvm)\\x2d)\S{1,300}?\.device\b"
    r"|(?<=@)(?:x?vd|[sh]d)[a-z]+\d*(?=\.\w+\Z)"
)
#: systemd.resource-control(5): limits of a disk that systemd passes over if it is not there
_LIMITS = re.compile(r"(?:IO|BlockIO|StartupIO)\w+\Z")
_MOUNT_UNIT = re.compile(r"\.(?:mount|swap|automount)(?:\.d/.+)?\Z")
#: names in the folder /dev that are written without it: tables of InnoDB on raw devices, docker-storage-setup
_IN_DEV = re.compile(
    r"(?<![\w/])(?:dev/)?((?:x?vd|[sh]d)[a-z]+\d*):\d+[KMG]?(?:new)?raw\b",
    re.IGNORECASE,
)
_DEVS = re.compile(r"DEVS=[\"']?([^\"'#]*)")
_EXCLUDE = re.compile(r"SCANEXCLUDE=[\"']?([^\"'#]*)")
_DRBD = re.compile(r"/etc/drbd\.(?:conf\Z|d/)|/var/lib/(?:linstor|drbd)\.d/")
_DEV_PATH = re.compile(r"/dev/[^\s;\"']+")
#: contents of a device by which something else finds it
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
#: files whose readers are known to need the disk; for other files the use of the disk decides
_USERS = re.compile(
    r"/etc/(?:auto\.|integritytab|veritytab|conf\.d/dmcrypt|systemd/|drbd|tgt/|target/|rtslib|nvmet/|scst|iet|nbd-server|"
    r"vblade|trafficserver/|ceph/|(?:sysconfig|default)/(?:oracleasm|rawdevices|sbd|docker-storage|kexec)|oracleafd|"
    r"vdoconf|my\.cnf|mysql/|aerospike/|squid/|tmpfiles\.d/|ldev\.conf|writeboosttab|zfs/vdev_id|cluster/|ha\.d/|libvirt/|xen/|"
    r"docker/|bacula/|bareos/|security/pam_mount)|/var/(?:lib|mmfs)/|/(?:usr/local|opt/ts)/etc/trafficserver/"
)


def places(facts: Facts) -> Iterator[BootFile]:
    """Yield the files that other things depend on, and that only the administrator can rewrite."""
    yield from _rules(facts)
    there = _devices(facts)
    names_in: dict[tuple[str, str], dict[str, None]] = {}
    for path, line in _lines(facts):
        names, advice = _withheld(there, path, line)
        if names:
            names_in.setdefault((path, advice), {}).update(dict.fromkeys(names))
    for (path, advice), listed in names_in.items():
        yield BootFile(
            path=path,
            names=tuple(listed),
            advice=advice,
        )
    yield from _multipath(facts)
    yield from _drbd(facts)


def _withheld(there: _Devices, path: str, line: str) -> tuple[list[str], str]:
    """Return the names in the line that its reader would lose, and the advice about them."""
    if path.startswith("/etc/multipath"):
        return [], ""
    if path.startswith("/etc/systemd/"):
        units = _DEVICE_UNIT.findall(line)
        if units:
            advice = (
                f"{path}: name the unit of /dev/disk/by-uuid/ (systemd-escape --path)"
            )
            return units, advice
        if _MOUNT_UNIT.search(path):
            return [], ""
    names = [*devices(line), *_named_bare(path, line)]
    if not names or _only_watches(path, line):
        return [], ""
    if not _is_known_user(path):
        names = [name for name in names if there.has_raw(name)]
    return names, _advice(path)


def _is_known_user(path: str) -> bool:
    """True if the reader of *path* is known to need its disks."""
    return any(pattern.match(path) for pattern in (_USERS, _SCRIPT, _INIT_SCRIPT))


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
    """True if nothing would be lost by a line that names a disk that is not there."""
    if _WATCHES.search(path):
        return True
    if path.startswith("/etc/systemd/"):
        key = line.partition("=")[0].strip()
        return _setting_only_watches(key, line)
    if _INIT_SCRIPT.match(path):
        return _OPENS.search(line) is None
    if _SCRIPT.match(path):
        return _looks(line)
    return False


def _setting_only_watches(key: str, line: str) -> bool:
    """True if this *line* of a unit of systemd, which sets *key*, needs no disk."""
    if key in ("Description", "Documentation"):
        return True
    if _LIMITS.match(key):
        return True
    return key.startswith("Exec") and _looks(line)


def _looks(line: str) -> bool:
    """True if the commands in *line* look at a disk and none opens it."""
    if _OPENS.search(line):
        return False
    commands = line.replace("/", " ").replace("=", " ")
    return _LOOKS.search(commands) is not None


def _named_bare(path: str, line: str) -> list[str]:
    """Return the devices that are named without their folder."""
    names = [f"/dev/{name}" for name in _IN_DEV.findall(line)]
    setting = None
    if "/docker-storage" in path:
        setting = _DEVS.search(line)
    if setting:
        bare = filter(_BARE.fullmatch, setting[1].split())
        names += [f"/dev/{name}" for name in bare]
    exclusion = _EXCLUDE.search(line)
    if exclusion:
        for prefix in exclusion[1].split():
            # ASMLib passes over devices that begin with one of these: SCSI disks do with sd
            if "sd".startswith(prefix) or re.match(r"sd[a-z]", prefix):
                names.append(exclusion[0].strip())
    return names


@dataclass(frozen=True)
class _Devices:
    """The guest's devices by their paths, the targets of links, and the devices that nothing known uses."""

    by_path: Mapping[str, BlockDevice]
    links: Mapping[str, str]
    raw: frozenset[str]

    def at(self, path: str) -> BlockDevice | None:
        return self.by_path.get(self.links.get(path, path))

    def has_raw(self, path: str) -> bool:
        """True if a device is there that nothing known uses. Then the file that names it may be for its user."""
        return self.links.get(path, path) in self.raw


def _devices(facts: Facts) -> _Devices:
    by_path = {device.path: device for device in facts.devices}
    used = {mount.device for mount in facts.mounts}
    used.update(facts.swaps)
    for path, device in by_path.items():
        if device.fstype in _ASSEMBLED:
            used.add(path)
    raw = set()
    for path, device in by_path.items():
        if not _is_used(device, used):
            raw.add(path)
    return _Devices(
        by_path=by_path,
        links=facts.links,
        raw=frozenset(raw),
    )


def _is_used(device: BlockDevice, used: set[str]) -> bool:
    """True if *device* or one of its partitions is among the *used*."""
    if device.path in used:
        return True
    partitions = (part for part in device.walk() if part.type == "part")
    return any(partition.path in used for partition in partitions)


def _rules(facts: Facts) -> Iterator[BootFile]:
    try:
        lost = [change for change in _changed_rules(facts) if change.is_loss]
    except udev.TooManyRulesError:
        yield BootFile(
            path=f"{_RULES[0]}rules.d",
            names=("there are more rules and disks than reclaim evaluates",),
            advice=f"{_RULES[0]}rules.d: let no rule match a disk by its bus",
        )
        return
    for change in lost:
        instead = "ENV{ID_FS_UUID}, ENV{ID_PART_ENTRY_UUID} or ENV{ID_PART_TABLE_UUID}"
        advice = f"{change.path}: match {instead} instead"
        yield BootFile(
            path=change.path,
            names=change.names,
            advice=advice,
        )


def _changed_rules(facts: Facts) -> list[udev.RuleChange]:
    lines = []
    for path, line in facts.named_lines:
        if path.startswith(_RULES) and not line.startswith("#"):
            lines.append((path, line))
    return udev.changes(facts, lines)


def _multipath(facts: Facts) -> Iterator[BootFile]:
    """Yield the patterns of names and the identities of disks that are others on another bus (multipath.conf(5)).

    A pattern counts if it tells virtio-blk's disks from others, and none is of SCSI disks. An identity counts if a disk
    lies below multipath.
    """
    lines = [
        (path, line)
        for path, line in _lines(facts)
        if path.startswith("/etc/multipath")
    ]
    patterns = []
    for path, line in lines:
        patterns += [(path, match[0]) for match in _DEVNODE.finditer(line)]
    knows_scsi = any("sd" in pattern for _, pattern in patterns)
    for path, pattern in patterns:
        if re.search(r"x?vd", pattern) and not knows_scsi:
            advice = f"{path}: give the same for sd names"
            yield BootFile(
                path=path,
                names=(pattern,),
                advice=advice,
            )
    if not _moves_below_multipath(facts):
        return
    for path, line in lines:
        wwids = tuple(_WWID.findall(line))
        if wwids:
            advice = f"{path}: the disk's wwid is another on virtio-scsi"
            yield BootFile(
                path=path,
                names=wwids,
                advice=advice,
            )


def _moves_below_multipath(facts: Facts) -> bool:
    """True if multipath lies on a disk that a change of bus renames."""
    for disk in facts.block_devices:
        for device in disk.walk():
            if not is_renamed_by_bus(device.path):
                continue
            if _ON_VIRTIO_SCSI.search(facts.sysfs.get(disk.name, "")):
                continue
            if any(child.type == "mpath" for child in device.children):
                return True
    return False


def _drbd(facts: Facts) -> Iterator[BootFile]:
    """Yield the devices that DRBD lies on, if no file that was read has the name by which it knows them."""
    known: set[str] = set()
    for file, line in _lines(facts):
        if _DRBD.match(file):
            known.update(map(facts.resolve, _DEV_PATH.findall(line)))
    for device in facts.devices:
        if not _is_below_drbd(device):
            continue
        if device.path in known:
            continue
        if is_renamed_by_bus(device.path):
            named = f"{device.path} is DRBD's, and no file that reclaim read names it"
            advice = "name the device in DRBD's configuration by /dev/disk/by-partuuid/"
            yield BootFile(
                path="/etc/drbd.d",
                names=(named,),
                advice=advice,
            )


def _is_below_drbd(device: BlockDevice) -> bool:
    if device.fstype == "drbd":
        return True
    return any(re.match(r"drbd\d", child.name) for child in device.children)


def remarks(facts: Facts) -> list[str]:
    """Return everything else that names devices by their bus, as "file: device"."""
    there = _devices(facts)
    lines: dict[str, None] = {}
    for path, line in _lines(facts):
        if _MOUNT_UNIT.search(path):
            continue
        names = devices(line)
        if not names and _WATCHES.search(path):
            bare = _BARE.findall(line)
            names = [name for name in bare if there.at(f"/dev/{name}")]
        lines.update(dict.fromkeys(f"{path}: {name}" for name in names))
    with contextlib.suppress(udev.TooManyRulesError):  # that is among the places
        for change in _changed_rules(facts):
            lines[f"{change.path}: {' '.join(change.names)}"] = None
    return list(lines)


def _lines(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield the lines without comments, but for rules of udev's and for files that others read."""
    for path, line in facts.named_lines:
        if path in facts.boot_files:
            continue
        if path.startswith(_RULES):
            continue
        if line.startswith(_COMMENT_SIGNS):
            continue
        code = _COMMENT.split(line, maxsplit=1)[0]
        yield path, code


def devices(line: str) -> list[str]:
    """Return the names by a bus in *line*, at any place of it."""
    paths = (match[0] for match in _DEVICE.finditer(line))
    return [path for path in paths if is_renamed_by_bus(path)]
