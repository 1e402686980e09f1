"""What LVM is told of its disks: filters of lvm.conf(5), and the devices that lvmdevices(8) ties it to by an id."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping

from reclaim.inside.boot import lvmconf
from reclaim.inside.boot.bootfile import BootFile
from reclaim.inside.boot.lvmconf import NotUnderstoodError
from reclaim.inside.boot.lvmfilter import Filter, Sketch, Some
from reclaim.inside.devices import BlockDevice
from reclaim.inside.facts import Facts
from reclaim.inside.fstab import is_renamed_by_bus

#: the folder of devices files, and the one that counts unless `devicesfile` names another
_DEVICES, _SYSTEM_DEVICES = "/etc/lvm/devices/", "system.devices"
_CONF, _LOCAL = "/etc/lvm/lvm.conf", "/etc/lvm/lvmlocal.conf"
_FILTERS = ("filter", "global_filter")
#: in how many files filters are evaluated: two, and one more for each tag of the host
_MAX_FILTERS = 10
#: VIRTIO_BLK_ID_BYTES
_VIRTIO_BLK_SERIAL = 20
#: what udev's links are made of (60-persistent-storage.rules, path_id and scsi_id of systemd)
_HEX, _DIGITS = Some(string.hexdigits + ":.@-"), Some(string.digits + ":")
_SERIAL = Some(string.ascii_letters + string.digits + "-_.+:")
#: the name that a partition or disk of a virtio-scsi disk gets by its bus, up to the partition's number
_BY_PATH: tuple[Sketch, ...] = tuple(
    (f"/dev/disk/by-path/{bus}-", _HEX, "-scsi-", _DIGITS)
    for bus in ("pci", "virtio-pci", "platform", "ccw", "acpi")
)
_BY_ID = (
    "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_",
    "/dev/disk/by-id/scsi-SQEMU_QEMU_HARDDISK_",
)
_WWN = "/dev/disk/by-id/wwn-"


def places(facts: Facts) -> Iterator[BootFile]:
    """Where LVM is told its disks so that a change of bus loses one, or shows one that was hidden."""
    try:
        settings = _settings(facts)
    except NotUnderstoodError as exc:
        path, _, why = str(exc).partition(": ")
        yield BootFile(
            path,
            (f"not understood: {why}",),
            advice=f"{path}: mend it (lvmconfig --validate)",
        )
        return
    file = f"{_DEVICES}{_only(settings, 'devicesfile') or _SYSTEM_DEVICES}"
    entries = [line for path, line in facts.lvm_lines if path == file]
    use = _only(settings, "use_devicesfile") or _default(facts, "use_devicesfile")
    # lvm.conf(5): where a devices file is used, the filters are not
    if not (entries and use == "1"):
        yield from _filters(facts, settings)
    if use != "0":
        yield from _known_by_id(
            facts, file, entries, _only(settings, "search_for_devnames")
        )


def _settings(facts: Facts) -> dict[str, dict[str, list[str]]]:
    """The settings of the section `devices` by their names, then by the files that count for each.

    lvmlocal.conf stands above lvm.conf; lvm_TAG.conf counts on hosts that have the tag, and is taken to.
    Raises NotUnderstoodError, whose text begins with the file.
    """
    texts: dict[str, list[str]] = {}
    for path, line in facts.lvm_lines:
        if not path.startswith(_DEVICES):
            texts.setdefault(path, []).append(line)
    found: dict[str, dict[str, list[str]]] = {}
    for path, lines in texts.items():
        try:
            for name, values in lvmconf.settings("\n".join(lines)).items():
                found.setdefault(name.removeprefix("devices/"), {})[path] = values
        except NotUnderstoodError as exc:
            raise NotUnderstoodError(f"{path}: {exc}") from exc
    for values_by_file in found.values():
        if _LOCAL in values_by_file:
            values_by_file.pop(_CONF, None)
    return found


def _only(settings: Mapping[str, Mapping[str, list[str]]], name: str) -> str:
    """The value of *name* where it is one and the same wherever it is set; "" otherwise."""
    values = {tuple(value) for value in settings.get(name, {}).values()}
    return (
        next(iter(values))[0]
        if len(values) == 1 and len(next(iter(values))) == 1
        else ""
    )


def _default(facts: Facts, name: str) -> str:
    """What *name* is where nothing sets it: lvm.conf as it is installed comments on that; "" otherwise."""
    commented = re.compile(rf"#\s*{name}\s*=\s*(\d+)\s*\Z")
    found = {
        match[1] for _, line in facts.lvm_lines if (match := commented.match(line))
    }
    return next(iter(found)) if len(found) == 1 else ""


def _filters(
    facts: Facts, settings: Mapping[str, Mapping[str, list[str]]]
) -> Iterator[BootFile]:
    if sum(map(len, (settings.get(name, {}) for name in _FILTERS))) > _MAX_FILTERS:
        yield BootFile(
            "/etc/lvm",
            ("there are more filters than reclaim evaluates",),
            advice="/etc/lvm: remove lvm_*.conf",
        )
        return
    scan = {
        folder for values in settings.get("scan", {}).values() for folder in values
    } or {"/dev"}
    for name in _FILTERS:
        for path, patterns in settings.get(name, {}).items():
            advice = f"{path}: let the {name} name no disk by its bus, then build every initramfs anew: it has a copy"
            try:
                found = tuple(_changes(facts, Filter(patterns), scan, name))
            except NotUnderstoodError as exc:
                found = (f"{name} is not understood: {exc}",)
            if found:
                yield BootFile(path, found, advice=advice)


def _changes(facts: Facts, lists: Filter, scan: set[str], name: str) -> Iterator[str]:
    """The devices that the filter will not judge as it does now, in words."""
    aliases, serials = _aliases(facts), _serials(facts)
    for device in _physical_volumes(facts):
        names = [device.path, *aliases.get(device.path, ())]
        now = _decision([one for one in names if _is_scanned(one, scan)], set(), lists)
        wwns: list[Sketch] = [(one,) for one in names if one.startswith(_WWN)]
        then = _afterwards(
            device,
            names,
            [*_sketches(device, serials[device.path]), *wwns],
            lists,
            scan,
        )
        if now == then and (now == {True} or not _is_in_use(device)):
            continue
        if now == {False} and _is_in_use(device):
            yield f"{device.path}: it is in use, and {name} takes none of its names that are known"
        elif True in now:
            yield f"{device.path}: {name} takes it now, and may not take it as {_kernel_name(device, '*')}"
        else:
            yield f"{device.path}: {name} hides it now, and may not hide it as {_kernel_name(device, '*')}"


def _physical_volumes(facts: Facts) -> list[BlockDevice]:
    """The physical volumes whose names hang on the bus; every disk and partition where lsblk shows none at all."""
    everything = {
        one.path: one for root in facts.block_devices for one in root.walk()
    }.values()
    found = [
        one for one in everything if one.fstype == "LVM2_member" or _is_in_use(one)
    ]
    return [
        one
        for one in found or everything
        if one.type in ("disk", "part") and is_renamed_by_bus(one.path)
    ]


def _is_in_use(device: BlockDevice) -> bool:
    return any(child.type == "lvm" for child in device.children)


def _aliases(facts: Facts) -> dict[str, list[str]]:
    """The other names that each device has now, by its path."""
    found: dict[str, list[str]] = {}
    for link, path in facts.links.items():
        found.setdefault(path, []).append(link)
    for number, name in facts.layout.names.items():
        found.setdefault(f"/dev/{name}", []).append(f"/dev/block/{number}")
    return found


def _afterwards(
    device: BlockDevice,
    names: list[str],
    sketches: list[Sketch],
    lists: Filter,
    scan: set[str],
) -> set[bool]:
    """What the filter may come to for *device* on virtio-scsi: which letter it gets there is not known."""
    kept = [name for name in names if not _goes_with_the_bus(name)]
    said: set[bool | None] = set()
    for sketch in sketches:
        if isinstance(sketch[0], str) and _is_scanned(sketch[0], scan):
            said |= lists.might(sketch)
    found: set[bool] = set()
    for letter in string.ascii_lowercase:
        now = [*kept, _kernel_name(device, letter)]
        found |= _decision([one for one in now if _is_scanned(one, scan)], said, lists)
    return found


def _serials(facts: Facts) -> dict[str, str | None]:
    """The serial number of the disk that each device lies on, by the device's path."""
    return {
        one.path: root.serial for root in facts.block_devices for one in root.walk()
    }


def _decision(names: list[str], maybe: set[bool | None], lists: Filter) -> set[bool]:
    """What filter-regex.c of lvm2 may come to: it takes a device that is taken by any name; without one, it does
    not take it if a name is rejected. *maybe*: what is said of names that are not known.
    """
    said = {lists.takes(name) for name in names}
    if True in said:
        return {True}
    found = {False not in said}
    return found | {bool(one) for one in maybe if one is not None}


def _is_scanned(name: str, scan: set[str]) -> bool:
    return any(name.startswith(folder.rstrip("/") + "/") for folder in scan)


def _goes_with_the_bus(name: str) -> bool:
    return is_renamed_by_bus(name) or name.startswith(
        ("/dev/block/", "/dev/disk/by-diskseq/")
    )


def _kernel_name(device: BlockDevice, letter: str) -> str:
    number = re.search(r"\d*\Z", device.path)
    return f"/dev/sd{letter}{number[0] if number else ''}"


def _sketches(device: BlockDevice, serial: str | None) -> Iterator[Sketch]:
    """The other names that *device*, of a disk with that serial number, may have on virtio-scsi."""
    number = re.search(r"\d*\Z", device.path)
    part = f"-part{number[0]}" if number and number[0] else ""
    yield ("/dev/block/", _DIGITS)
    yield ("/dev/disk/by-diskseq/", Some(string.digits), part)
    for sketch in _BY_PATH:
        yield (*sketch, part)
    for start in _BY_ID:
        yield (start, serial, part) if serial else (start, "drive-scsi", _SERIAL, part)


def _known_by_id(
    facts: Facts, file: str, entries: list[str], search: str
) -> Iterator[BootFile]:
    serials = _serials(facts)
    for line in entries:
        entry = dict(word.partition("=")[::2] for word in line.split())
        device, kind, name = (
            entry.get("DEVNAME", ""),
            entry.get("IDTYPE", ""),
            entry.get("IDNAME", ""),
        )
        has_serial = serials.get(facts.resolve(device or name)) is not None
        if not _is_lost(kind, name, search, has_serial=has_serial):
            continue
        shown = device or name
        advice = (
            f"lvmdevices --deldev {shown}, then lvmdevices --adddev {shown} --deviceidtype devname: "
            "LVM looks for such by PVID"
        )
        if kind == "devname":
            advice = f"search_for_devnames in lvm.conf: {'all' if has_serial else 'not none'}"
        elif has_serial and search != "all":
            advice += ', with search_for_devnames = "all" in lvm.conf'
        yield BootFile(file, (f"{shown} known by {kind}",), advice=advice)


def _is_lost(kind: str, name: str, search: str, *, has_serial: bool) -> bool:
    """Does LVM lose a device that it knows by this id when the disk is on virtio-scsi (lib/device/device_id.c)?

    An entry that has a name for its id is found again by its PVID; lvm2 2.03.17 and later look for it on no disk
    that has a serial number, unless search_for_devnames is "all". A serial number is the same on both (from
    /sys/block/vdX/serial and VPD page 80), unless virtio-blk cut it or the IDE emulation made it up. A disk's wwid
    has the bus's own vendor in it: virtio-blk has none, and one of QEMU's SCSI disks stays.
    """
    if kind == "devname":
        return is_renamed_by_bus(name) and (
            search == "none" or (has_serial and search != "all")
        )
    if kind == "sys_serial":
        return (
            len(name) >= _VIRTIO_BLK_SERIAL or re.fullmatch(r"QM\d+", name) is not None
        )
    return kind in ("sys_wwid", "wwid_t10") and "ATA" in name
