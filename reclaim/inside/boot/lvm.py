"""The disks in LVM's configuration: filters of lvm.conf(5), and the devices that lvmdevices(8) ties it to by an id."""

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
#: the characters of udev's links (60-persistent-storage.rules, path_id and scsi_id of systemd)
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
    """Yield the files of LVM by which a change of bus loses a disk, or shows one that was hidden."""
    try:
        settings = _settings(facts)
    except NotUnderstoodError as exc:
        path, _, why = str(exc).partition(": ")
        yield BootFile(
            path=path,
            names=(f"not understood: {why}",),
            advice=f"{path}: fix it (lvmconfig --validate)",
        )
        return
    file = f"{_DEVICES}{_only(settings, 'devicesfile') or _SYSTEM_DEVICES}"
    entries = [line for path, line in facts.lvm_lines if path == file]
    use = _only(settings, "use_devicesfile") or _default(facts, "use_devicesfile")
    # lvm.conf(5): a devices file that is used stands in place of the filters
    has_devices_file = bool(entries) and use == "1"
    if not has_devices_file:
        yield from _filters(facts, settings)
    if use != "0":
        search = _only(settings, "search_for_devnames")
        yield from _known_by_id(facts, file, entries, search)


def _settings(facts: Facts) -> dict[str, dict[str, list[str]]]:
    """Return the settings of the section `devices` by their names, then by the files that count for each.

    lvmlocal.conf stands above lvm.conf; lvm_TAG.conf counts on hosts that have the tag, and is taken to.
    Raises NotUnderstoodError, whose text begins with the file.
    """
    texts: dict[str, list[str]] = {}
    for path, line in facts.lvm_lines:
        if not path.startswith(_DEVICES):
            texts.setdefault(path, []).append(line)
    by_name: dict[str, dict[str, list[str]]] = {}
    for path, lines in texts.items():
        try:
            for name, values in lvmconf.settings("\n".join(lines)).items():
                by_name.setdefault(name.removeprefix("devices/"), {})[path] = values
        except NotUnderstoodError as exc:
            raise NotUnderstoodError(f"{path}: {exc}") from exc
    for by_file in by_name.values():
        if _LOCAL in by_file:
            by_file.pop(_CONF, None)
    return by_name


def _only(settings: Mapping[str, Mapping[str, list[str]]], name: str) -> str:
    """Return the value of *name* if all files that set it set the same; "" otherwise."""
    settings_there = {tuple(values) for values in settings.get(name, {}).values()}
    if len(settings_there) != 1:
        return ""
    values = settings_there.pop()
    if len(values) == 1:
        return values[0]
    return ""


def _default(facts: Facts, name: str) -> str:
    """Return the value of *name* if nothing sets it: lvm.conf as it is installed comments on that; "" otherwise."""
    commented = re.compile(rf"#\s*{name}\s*=\s*(\d+)\s*\Z")
    defaults = set()
    for _, line in facts.lvm_lines:
        match = commented.match(line)
        if match:
            defaults.add(match[1])
    if len(defaults) == 1:
        return defaults.pop()
    return ""


def _filters(
    facts: Facts, settings: Mapping[str, Mapping[str, list[str]]]
) -> Iterator[BootFile]:
    filters = [
        (name, path, patterns)
        for name in _FILTERS
        for path, patterns in settings.get(name, {}).items()
    ]
    if len(filters) > _MAX_FILTERS:
        yield BootFile(
            path="/etc/lvm",
            names=("there are more filters than reclaim evaluates",),
            advice="/etc/lvm: remove lvm_*.conf",
        )
        return
    scan: set[str] = set()
    for folders in settings.get("scan", {}).values():
        scan.update(folders)
    for name, path, patterns in filters:
        try:
            changes = tuple(_changes(facts, Filter(patterns), scan or {"/dev"}, name))
        except NotUnderstoodError as exc:
            changes = (f"{name} is not understood: {exc}",)
        if changes:
            advice = f"{path}: let the {name} name no disk by its bus, then rebuild every initramfs: it has a copy"
            yield BootFile(
                path=path,
                names=changes,
                advice=advice,
            )


def _changes(facts: Facts, lists: Filter, scan: set[str], name: str) -> Iterator[str]:
    """Yield, in words, the devices that the filter will not judge as it does now."""
    aliases, serials = _aliases(facts), _serials(facts)
    for device in _physical_volumes(facts):
        names = [device.path, *aliases.get(device.path, ())]
        now = _decision(_scanned(names, scan), set(), lists)
        sketches = [*_sketches(device, serials[device.path])]
        sketches += [(alias,) for alias in names if alias.startswith(_WWN)]
        then = _afterwards(device, names, sketches, lists, scan)
        in_use = _is_in_use(device)
        stays_right = now == {True} or not in_use
        if now == then and stays_right:
            continue
        if now == {False} and in_use:
            yield f"{device.path}: it is in use, and {name} accepts none of its known names"
        elif True in now:
            yield f"{device.path}: {name} takes it now, and may not take it as {_kernel_name(device, '*')}"
        else:
            yield f"{device.path}: {name} hides it now, and may not hide it as {_kernel_name(device, '*')}"


def _physical_volumes(facts: Facts) -> list[BlockDevice]:
    """Return the physical volumes whose names hang on the bus.

    If lsblk shows no physical volume at all, return every such disk and partition.
    """
    by_path = {device.path: device for device in facts.devices}
    devices = list(by_path.values())
    volumes = list(filter(_is_physical_volume, devices))
    return list(filter(_is_named_by_bus, volumes or devices))


def _is_physical_volume(device: BlockDevice) -> bool:
    return device.fstype == "LVM2_member" or _is_in_use(device)


def _is_named_by_bus(device: BlockDevice) -> bool:
    if device.type not in ("disk", "part"):
        return False
    return is_renamed_by_bus(device.path)


def _is_in_use(device: BlockDevice) -> bool:
    return any(child.type == "lvm" for child in device.children)


def _aliases(facts: Facts) -> dict[str, list[str]]:
    """Return the other names that each device has now, by its path."""
    aliases: dict[str, list[str]] = {}
    for link, path in facts.links.items():
        aliases.setdefault(path, []).append(link)
    for number, name in facts.layout.names.items():
        aliases.setdefault(f"/dev/{name}", []).append(f"/dev/block/{number}")
    return aliases


def _afterwards(
    device: BlockDevice,
    names: list[str],
    sketches: list[Sketch],
    lists: Filter,
    scan: set[str],
) -> set[bool]:
    """Return the possible decisions of the filter on *device* on virtio-scsi. The letter that it gets is not known."""
    kept = [name for name in names if not _goes_with_the_bus(name)]
    verdicts: set[bool | None] = set()
    for sketch in sketches:
        begin = sketch[0]
        if isinstance(begin, str) and _is_scanned(begin, scan):
            verdicts |= lists.might(sketch)
    decisions: set[bool] = set()
    for letter in string.ascii_lowercase:
        now = [*kept, _kernel_name(device, letter)]
        decisions |= _decision(_scanned(now, scan), verdicts, lists)
    return decisions


def _serials(facts: Facts) -> dict[str, str | None]:
    """Return the serial number of the disk that each device lies on, by the device's path."""
    serials = {}
    for disk in facts.block_devices:
        for device in disk.walk():
            serials[device.path] = disk.serial
    return serials


def _decision(names: list[str], maybe: set[bool | None], lists: Filter) -> set[bool]:
    """Return the possible decisions of lvm2 (filter-regex.c) on a device with these names.

    It takes a device that is taken by any name; without one, it does not take it if a name is rejected.
    *maybe* are the verdicts on names that are not known.
    """
    verdicts = {lists.takes(name) for name in names}
    if True in verdicts:
        return {True}
    decisions = {False not in verdicts}
    decisions.update(verdict for verdict in maybe if verdict is not None)
    return decisions


def _is_scanned(name: str, scan: set[str]) -> bool:
    return any(name.startswith(folder.rstrip("/") + "/") for folder in scan)


def _scanned(names: list[str], scan: set[str]) -> list[str]:
    return [name for name in names if _is_scanned(name, scan)]


def _goes_with_the_bus(name: str) -> bool:
    if is_renamed_by_bus(name):
        return True
    return name.startswith(("/dev/block/", "/dev/disk/by-diskseq/"))


def _kernel_name(device: BlockDevice, letter: str) -> str:
    return f"/dev/sd{letter}{_number(device)}"


def _number(device: BlockDevice) -> str:
    """Return the number of a partition; "" for a disk."""
    digits = re.search(r"\d*\Z", device.path)
    if digits:
        return digits[0]
    return ""


def _sketches(device: BlockDevice, serial: str | None) -> Iterator[Sketch]:
    """Yield the other names that *device*, of a disk with that serial number, may have on virtio-scsi."""
    number = _number(device)
    part = ""
    if number:
        part = f"-part{number}"
    yield ("/dev/block/", _DIGITS)
    yield ("/dev/disk/by-diskseq/", Some(string.digits), part)
    for sketch in _BY_PATH:
        yield (*sketch, part)
    for start in _BY_ID:
        if serial:
            yield (start, serial, part)
        else:
            yield (start, "drive-scsi", _SERIAL, part)


def _known_by_id(
    facts: Facts, file: str, entries: list[str], search: str
) -> Iterator[BootFile]:
    serials = _serials(facts)
    for line in entries:
        entry = dict(field.partition("=")[::2] for field in line.split())
        kind = entry.get("IDTYPE", "")
        name = entry.get("IDNAME", "")
        shown = entry.get("DEVNAME", "") or name
        has_serial = serials.get(facts.resolve(shown)) is not None
        if _is_lost(kind, name, search, has_serial=has_serial):
            advice = _advice(kind, shown, search, has_serial=has_serial)
            yield BootFile(
                path=file,
                names=(f"{shown} known by {kind}",),
                advice=advice,
            )


def _advice(kind: str, shown: str, search: str, *, has_serial: bool) -> str:
    if kind == "devname":
        value = "not none"
        if has_serial:
            value = "all"
        return f"search_for_devnames in lvm.conf: {value}"
    advice = (
        f"lvmdevices --deldev {shown}, then lvmdevices --adddev {shown} --deviceidtype devname: "
        "LVM looks for such by PVID"
    )
    if has_serial and search != "all":
        advice += ', with search_for_devnames = "all" in lvm.conf'
    return advice


def _is_lost(kind: str, name: str, search: str, *, has_serial: bool) -> bool:
    """True if LVM loses a device that it knows by this id when the disk is on virtio-scsi (lib/device/device_id.c).

    LVM finds an entry that has a name for its id again by its PVID; lvm2 2.03.17 and later look for it on no disk
    that has a serial number, unless search_for_devnames is "all". A serial number is the same on both (from
    /sys/block/vdX/serial and VPD page 80), unless virtio-blk cut it or the IDE emulation made it up. A disk's wwid
    has the bus's own vendor in it: virtio-blk has none, and one of QEMU's SCSI disks stays.
    """
    if kind == "devname":
        if search == "all":
            return False
        if not is_renamed_by_bus(name):
            return False
        return has_serial or search == "none"
    if kind == "sys_serial":
        if len(name) >= _VIRTIO_BLK_SERIAL:
            return True
        return re.fullmatch(r"QM\d+", name) is not None
    if kind in ("sys_wwid", "wwid_t10"):
        return "ATA" in name
    return False
