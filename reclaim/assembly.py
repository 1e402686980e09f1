"""What assembles disks before they are mounted, where it is told their names: mdadm and LVM."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reclaim.facts import Facts
from reclaim.place import Place

_MDADM = ("/etc/mdadm/mdadm.conf", "/etc/mdadm.conf")
#: a bus name, or the pattern of one: /dev/vd*, /dev/[sv]d[ab]1, and what lvm.conf's expressions make of them
_NAMED = re.compile(
    r"/dev/(?:x?vd|[sh]d|\[[a-z]+\]d|disk/by-(?:id|path))[^\s\"'|,]*|(?<=[|/^(])(?:x?vd|[sh]d)(?=[a-z.\[*])"
)


def places(facts: Facts) -> Iterator[Place]:
    """Where mdadm.conf(5), lvm.conf(5) and lvmdevices(8) name devices by their bus."""
    for path in _MDADM:
        yield from _mdadm(path, facts.boot_files.get(path, ""))
    for path, line in facts.lvm_lines:
        if path.endswith("system.devices"):
            # an entry known by its name is found again by its PVID, one known by an id of the bus's making is not
            # (search_for_devnames = "auto" in lvm.conf; device_ids_search in LVM's device_id.c)
            kind = re.match(
                r"IDTYPE=(?P<kind>sys_wwid|sys_serial)\b.*\bDEVNAME=(?P<device>/dev/(?:x?vd|[sh]d)\S+)", line
            )
            if kind:
                advice = "vgimportdevices -a in the guest once it runs on the other bus, or no devices file until then"
                yield Place(path, (f"{kind['device']} known by {kind['kind']}",), advice=advice)
        elif named := _NAMED.findall(line):
            yield Place(path, tuple(dict.fromkeys(named)), advice=f"{path}: let the filter name no disk by its bus")


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
