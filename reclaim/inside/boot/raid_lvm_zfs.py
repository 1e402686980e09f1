"""The assemblers of disks before they are mounted, if their files name disks: mdadm, LVM and ZFS."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reclaim.inside.boot import lvm
from reclaim.inside.boot.bootfile import BootFile
from reclaim.inside.facts import Facts
from reclaim.inside.fstab import is_renamed_by_bus

_MDADM = ("/etc/mdadm/mdadm.conf", "/etc/mdadm.conf")
_DEVICE_LINE = re.compile(r"DEVICE?[ \t]", re.IGNORECASE)
_ARRAY_LINE = re.compile(r"ARRAY[ \t]", re.IGNORECASE)
_UUID = re.compile(r"\bUUID=", re.IGNORECASE)
_DISK = re.compile(r"/dev/(?:x?vd|[sh]d)[a-z]+\d*(?=\s|$)")
#: a bus name, or the pattern of one: /dev/vd*, /dev/[sv]d[ab]1
_NAMED = re.compile(
    r"/dev/(?:x?vd|[sh]d|\[[a-z]+\]d|disk/by-(?:id|path))[^\s\"'|,]*|(?<=[|/^(])(?:x?vd|[sh]d)(?=[a-z.\[*])"
)


def places(facts: Facts) -> Iterator[BootFile]:
    """Yield mdadm.conf(5), lvm.conf(5), lvmdevices(8) and zpool.cache if they name devices by their bus."""
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
        yield BootFile(
            path=f"zpool.cache, {pool}",
            names=tuple(named),
            advice=advice,
        )


def _mdadm(path: str, text: str) -> Iterator[BootFile]:
    lines = text.split("\n")
    arrays = [line for line in lines if _ARRAY_LINE.match(line)]
    by_hand = _members_by_bus(arrays)
    if by_hand:
        yield BootFile(
            path=path,
            names=by_hand,
            advice=f"{path}: name the array by UUID= alone",
        )
    named = [
        number
        for number, line in enumerate(lines)
        if _DEVICE_LINE.match(line) and _NAMED.search(line)
    ]
    if not named:
        return
    names = tuple(lines[number] for number in named)
    if any(map(_is_continuation, lines)) or not _have_uuids(arrays):
        yield BootFile(
            path=path,
            names=names,
            advice=f"{path}: `DEVICE partitions`, and each ARRAY with its UUID=",
        )
        return
    for number in named:
        # mdadm.conf(5): what holds if there is no such line
        lines[number] = "DEVICE partitions containers"
    devices: list[str] = []
    for name in names:
        devices += _DISK.findall(name)
    yield BootFile(
        path=path,
        names=names,
        devices=tuple(devices),
        before=text,
        after="\n".join(lines),
        rebuild=True,
    )


def _members_by_bus(arrays: list[str]) -> tuple[str, ...]:
    """Return the lists of an array's devices that have a bus name."""
    members: list[str] = []
    for line in arrays:
        members += re.findall(r"devices=\S+", line)
    return tuple(listed for listed in members if _NAMED.search(listed))


def _is_continuation(line: str) -> bool:
    """True if *line* goes on with the line before (mdadm.conf(5))."""
    return line.startswith((" ", "\t")) and bool(line.strip())


def _have_uuids(arrays: list[str]) -> bool:
    """True if there are arrays, and mdadm finds each by its UUID."""
    return bool(arrays) and all(map(_UUID.search, arrays))
