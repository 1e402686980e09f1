"""What assembles disks before they are mounted, where it is told their names: mdadm, LVM and ZFS."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reclaim.facts import Facts
from reclaim.fstab import is_renamed_by_bus
from reclaim.place import Place

_MDADM = ("/etc/mdadm/mdadm.conf", "/etc/mdadm.conf")
#: a bus name, or the pattern of one: /dev/vd*, /dev/[sv]d[ab]1, and what lvm.conf's expressions make of them
_NAMED = re.compile(
    r"/dev/(?:x?vd|[sh]d|\[[a-z]+\]d|disk/by-(?:id|path))[^\s\"'|,]*|(?<=[|/^(])(?:x?vd|[sh]d)(?=[a-z.\[*])"
)

_SETTING = re.compile(r"(?:devices/)?(?P<key>search_for_devnames|use_devicesfile)\s*=\s*\"?(?P<value>\w+)")
#: VIRTIO_BLK_ID_BYTES
_VIRTIO_BLK_SERIAL = 20


def places(facts: Facts) -> Iterator[Place]:
    """Where mdadm.conf(5), lvm.conf(5), lvmdevices(8) and zpool.cache name devices by their bus."""
    for path in _MDADM:
        yield from _mdadm(path, facts.boot_files.get(path, ""))
    yield from _lvm(facts)
    pools: dict[str, list[str]] = {}
    for pool, path in facts.vdevs:
        if is_renamed_by_bus(path):
            pools.setdefault(pool, []).append(path)
    for pool, named in pools.items():
        # zpool.cache has these paths, and an import from it looks nowhere else (OpenZFS issues 343 and 2625)
        advice = f"zpool export {pool}, then zpool import -d /dev/disk/by-partuuid {pool} (of a root, from elsewhere)"
        yield Place(f"zpool.cache, {pool}", tuple(named), advice=advice)


def _lvm(facts: Facts) -> Iterator[Place]:
    settings = {match["key"]: match["value"] for _, line in facts.lvm_lines if (match := _SETTING.match(line))}
    for path, line in facts.lvm_lines:
        if not path.endswith("system.devices"):
            if not _SETTING.match(line) and (named := _NAMED.findall(line)):
                yield Place(path, tuple(dict.fromkeys(named)), advice=f"{path}: let the filter name no disk by its bus")
            continue
        entry = dict(word.partition("=")[::2] for word in line.split())
        device, kind, name = entry.get("DEVNAME", ""), entry.get("IDTYPE", ""), entry.get("IDNAME", "")
        if settings.get("use_devicesfile") == "0" or not _is_lost(kind, name, settings.get("search_for_devnames", "")):
            continue
        shown = device or name
        advice = (
            f"lvmdevices --deldev {shown}, then lvmdevices --adddev {shown} --deviceidtype devname: "
            "LVM looks for such by PVID"
        )
        if kind == "devname":
            advice = "search_for_devnames in lvm.conf: not none"
        yield Place(path, (f"{shown} known by {kind}",), advice=advice)


def _is_lost(kind: str, name: str, search: str) -> bool:
    """Does LVM lose a device that it knows by this id when the disk is on virtio-scsi (lib/device/device_id.c)?

    An entry that has a name for its id is found again by its PVID. A serial number is the same on both (from
    /sys/block/vdX/serial and VPD page 80), unless virtio-blk cut it or the IDE emulation made it up. A disk's wwid
    has the bus's own vendor in it: virtio-blk has none, and one of QEMU's SCSI disks stays.
    """
    if kind == "devname":
        return search == "none" and is_renamed_by_bus(name)
    if kind == "sys_serial":
        return len(name) >= _VIRTIO_BLK_SERIAL or re.fullmatch(r"QM\d+", name) is not None
    return kind in ("sys_wwid", "wwid_t10") and "ATA" in name


def _mdadm(path: str, text: str) -> Iterator[Place]:
    lines = text.split("\n")
    at = [number for number, line in enumerate(lines) if re.match(r"DEVICE?[ \t]", line, re.IGNORECASE)]
    arrays = [line for line in lines if re.match(r"ARRAY[ \t]", line, re.IGNORECASE)]
    by_hand = [name for line in arrays for name in re.findall(r"devices=\S+", line) if _NAMED.search(name)]
    if by_hand:
        yield Place(path, tuple(by_hand), advice=f"{path}: name the array by UUID= alone")
    named = [number for number in at if _NAMED.search(lines[number])]
    if not named:
        return
    names = tuple(lines[number] for number in named)
    continued = any(line[:1] in (" ", "\t") and line.strip() for line in lines)
    if continued or not arrays or not all(re.search(r"\bUUID=", line, re.IGNORECASE) for line in arrays):
        yield Place(path, names, advice=f"{path}: `DEVICE partitions`, and each ARRAY with its UUID=")
        return
    for number in named:
        lines[number] = "DEVICE partitions containers"  # mdadm.conf(5): what holds where there is no such line
    devices = [device for name in names for device in re.findall(r"/dev/(?:x?vd|[sh]d)[a-z]+\d*(?=\s|$)", name)]
    yield Place(path, names, tuple(devices), text, "\n".join(lines), rebuild=True)
