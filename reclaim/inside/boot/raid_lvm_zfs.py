"""What assembles disks before they are mounted, where it is told their names: mdadm, LVM and ZFS."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reclaim.inside.boot import lvm
from reclaim.inside.boot.bootfile import BootFile
from reclaim.inside.facts import Facts
from reclaim.inside.fstab import is_renamed_by_bus

_MDADM = ("/etc/mdadm/mdadm.conf", "/etc/mdadm.conf")
#: a bus name, or the pattern of one: /dev/vd*, /dev/[sv]d[ab]1
_NAMED = re.compile(
    r"/dev/(?:x?vd|[sh]d|\[[a-z]+\]d|disk/by-(?:id|path))[^\s\"'|,]*|(?<=[|/^(])(?:x?vd|[sh]d)(?=[a-z.\[*])"
)


def places(facts: Facts) -> Iterator[BootFile]:
    """Where mdadm.conf(5), lvm.conf(5), lvmdevices(8) and zpool.cache name devices by their bus."""
    for path in _MDADM:
        yield from _mdadm(path, facts.boot_files.get(path, ""))
    yield from lvm.places(facts)
    pools: dict[str, list[str]] = {}
    for pool, path in facts.vdevs:
        if is_renamed_by_bus(path):
            pools.setdefault(pool, []).append(path)
    for pool, named in pools.items():
        # zpool.cache has these paths, and an import from it looks nowhere else (OpenZFS issues 343 and 2625)
        advice = f"zpool export {pool}, then zpool import -d /dev/disk/by-partuuid {pool} (of a root, from elsewhere)"
        yield BootFile(f"zpool.cache, {pool}", tuple(named), advice=advice)


def _mdadm(path: str, text: str) -> Iterator[BootFile]:
    lines = text.split("\n")
    at = [
        number
        for number, line in enumerate(lines)
        if re.match(r"DEVICE?[ \t]", line, re.IGNORECASE)
    ]
    arrays = [line for line in lines if re.match(r"ARRAY[ \t]", line, re.IGNORECASE)]
    by_hand = [
        name
        for line in arrays
        for name in re.findall(r"devices=\S+", line)
        if _NAMED.search(name)
    ]
    if by_hand:
        yield BootFile(
            path, tuple(by_hand), advice=f"{path}: name the array by UUID= alone"
        )
    named = [number for number in at if _NAMED.search(lines[number])]
    if not named:
        return
    names = tuple(lines[number] for number in named)
    continued = any(line[:1] in (" ", "\t") and line.strip() for line in lines)
    if (
        continued
        or not arrays
        or not all(re.search(r"\bUUID=", line, re.IGNORECASE) for line in arrays)
    ):
        yield BootFile(
            path,
            names,
            advice=f"{path}: `DEVICE partitions`, and each ARRAY with its UUID=",
        )
        return
    for number in named:
        lines[number] = (
            "DEVICE partitions containers"  # mdadm.conf(5): what holds where there is no such line
        )
    devices = [
        device
        for name in names
        for device in re.findall(r"/dev/(?:x?vd|[sh]d)[a-z]+\d*(?=\s|$)", name)
    ]
    yield BootFile(path, names, tuple(devices), text, "\n".join(lines), rebuild=True)
