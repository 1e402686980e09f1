"""What may differ between two definitions of a guest, and what must not."""

from __future__ import annotations

import copy
import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lxml import etree

from reclaim.definition.domain import Element, parse_xml

#: attributes of a virtio-blk disk's driver that go with the bus (libvirt formatdomain)
VIRTIO_BLK = ("queues", "iothread", "ioeventfd", "iommu", "ats", "packed", "page_per_vq", "event_idx", "queue_size")
SCSI_SERIAL = 36
#: scsi-controller's note of a disk that gives its PCI slot to the controller
_CHANGES_PLACES = re.compile(r"(\w+) moves to it by the same change")


@dataclass(frozen=True)
class Fixed:
    """What the report says was fixed for one guest: requirements of the guest, and of its disks by target."""

    guest: frozenset[str] = frozenset()
    disks: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, str | None]]) -> Fixed:
        guest: set[str] = set()
        disks: dict[str, frozenset[str]] = {}
        for row in rows:
            slug = str(row["requirement"])
            if row["disk"] is None:
                guest.add(slug)
                for match in _CHANGES_PLACES.finditer(row.get("evidence") or ""):
                    disks[match[1]] = disks.get(match[1], frozenset()) | {"disk-bus"}
            else:
                disks[row["disk"]] = disks.get(row["disk"], frozenset()) | {slug}
        return cls(frozenset(guest), disks)

    @property
    def moved(self) -> set[str]:
        return {target for target, slugs in self.disks.items() if "disk-bus" in slugs}


def unnamed_changes(before: str, after: str, fixed: Fixed) -> list[str]:
    """Every difference that *fixed* does not name, in words. Order, comments and namespaces count."""
    old, new = parse_xml(before, "before"), parse_xml(after, "after")
    if "machine-type" in fixed.guest:
        for root in (old, new):
            root.find("os/type").attrib.pop("machine")  # type: ignore[union-attr]
    found = _disks(old, new, fixed)
    if "scsi-controller" in fixed.guest or fixed.moved:
        found += _controllers(old, new)
    for root in (old, new):
        for tag in ("disk", "controller[@type='scsi']"):
            for element in root.findall(f"devices/{tag}"):
                element.getparent().remove(element)  # type: ignore[union-attr]
    if len(old.findall("devices/controller")) != len(new.findall("devices/controller")):
        _drop_added_ports(old, new)
    return found + _texts("the rest", [_text(old)], [_text(new)])


def _texts(what: str, old: list[str], new: list[str]) -> list[str]:
    lines = difflib.unified_diff("\n".join(old).splitlines(), "\n".join(new).splitlines(), lineterm="", n=2)
    return [] if old == new else [f"{what}:\n" + "\n".join(list(lines)[2:])]


def _text(element: Element) -> str:
    """*element* in canonical form, comments kept; white space between elements says nothing."""
    pretty = copy.deepcopy(element)
    pretty.tail = None
    etree.indent(pretty, space=" ")
    return etree.tostring(pretty, method="c14n2", with_comments=True).decode()


def _disks(old: Element, new: Element, fixed: Fixed) -> list[str]:
    """Disks that stay must stay as they are, in their order; one that moved keeps all but what the bus decides."""
    stay = [disk for disk in old.iterfind("devices/disk") if _target(disk) not in fixed.moved]
    names = {_target(disk) for disk in stay}
    moved = [disk for disk in old.iterfind("devices/disk") if _target(disk) in fixed.moved]
    stayed = [disk for disk in new.iterfind("devices/disk") if _target(disk) in names]
    arrived = [disk for disk in new.iterfind("devices/disk") if _target(disk) not in names]
    found = [f"disk {_target(disk)} is not on scsi" for disk in arrived if _bus(disk) != "scsi"]
    found += _texts("disks", [_kept(disk, fixed) for disk in stay], [_kept(disk, fixed) for disk in stayed])
    for disk in moved + arrived:
        _without_bus(disk)
    if Counter(map(_text, moved)) != Counter(map(_text, arrived)):
        found += _texts("moved disks", sorted(map(_text, moved)), sorted(map(_text, arrived)))
    return found


def _target(disk: Element) -> str:
    return str(disk.find("target").get("dev"))  # type: ignore[union-attr]


def _bus(disk: Element) -> str:
    return str(disk.find("target").get("bus"))  # type: ignore[union-attr]


def _kept(disk: Element, fixed: Fixed) -> str:
    disk = copy.deepcopy(disk)
    slugs = fixed.disks.get(_target(disk), frozenset())
    driver = disk.find("driver")
    if "disk-discard" in slugs and driver is not None:
        driver.attrib.pop("discard", None)
    address = disk.find("address")
    if "scsi-controller" in fixed.guest and _bus(disk) == "scsi" and address is not None:
        disk.remove(address)
    return _text(disk)


def _without_bus(disk: Element) -> None:
    """Take away what the move may change."""
    disk.attrib.pop("model", None)
    driver, target, address, serial = (disk.find(tag) for tag in ("driver", "target", "address", "serial"))
    if driver is not None:
        for name in (*VIRTIO_BLK, "discard"):
            driver.attrib.pop(name, None)
    if target is not None:
        target.attrib.pop("dev")
        target.attrib.pop("bus")
    if address is not None:
        disk.remove(address)
    if serial is not None and serial.text:
        serial.text = serial.text[:SCSI_SERIAL]


def _controllers(old: Element, new: Element) -> list[str]:
    """A SCSI controller stays, may become virtio-scsi and take settings; one that came is virtio-scsi."""
    had, has = (
        {one.get("index"): one for one in root.iterfind("devices/controller[@type='scsi']")} for root in (old, new)
    )
    found = [f"controller {index} is gone" for index in had.keys() - has.keys()]
    found += [
        f"controller {index} came as {has[index].get('model')}"
        for index in has.keys() - had.keys()
        if has[index].get("model") != "virtio-scsi"
    ]
    for index in had.keys() & has.keys():
        before, after = had[index], has[index]
        if before.get("model") != after.get("model") and after.get("model") != "virtio-scsi":
            found.append(f"controller {index} became {after.get('model')}")
        settings, now = (_attributes(one.find("driver")) for one in (before, after))
        if not settings.items() <= now.items():
            found.append(f"controller {index} had {settings}")
        places = [one.find("address") for one in (before, after)]
        if all(place is not None and place.get("type") == "pci" for place in places):
            found += _texts(
                f"address of controller {index}", *([_text(place)] for place in places if place is not None)
            )
    return found


def _attributes(element: Element | None) -> dict[str, str]:
    return {} if element is None else {str(key): str(value) for key, value in element.attrib.items()}


def _drop_added_ports(old: Element, new: Element) -> None:
    """PCI controllers that libvirt added for a SCSI controller to be plugged into.

    It adds them as further functions of a slot, and says so at the first function there.
    """
    had = {(one.get("type"), one.get("index")) for one in old.iterfind("devices/controller")}
    for one in new.findall("devices/controller[@type='pci']"):
        if (one.get("type"), one.get("index")) not in had:
            one.getparent().remove(one)  # type: ignore[union-attr]
    for root in (old, new):
        for address in root.iterfind("devices/controller[@model='pcie-root-port']/address"):
            address.attrib.pop("multifunction", None)


def boot_disk(text: str) -> str | None:
    """The source of the disk that `<boot dev='hd'/>` means: the first hard disk, as libvirt has sorted them."""
    root = parse_xml(text, "definition")
    if root.find("os/boot") is None:
        return None
    for disk in root.iterfind("devices/disk"):
        if disk.get("device", "disk") in ("disk", "lun"):
            source = disk.find("source")
            return "" if source is None else _text(source)
    return None
