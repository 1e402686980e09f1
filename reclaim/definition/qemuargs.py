"""QEMU's own arguments in a definition: `qemu:commandline` and `qemu:override`, which libvirt hands on unread.

The names in them (a device's id, a driver, a machine type), the places that they take, the disks and the host's
devices that they bring. Their grammar is QEMU's (qemu-options.hx, util/keyval.c): `-option first,key=value,…`, a
comma in a value doubled; or a JSON object. Nothing here is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from reclaim.base.text import printable
from reclaim.definition.domain import NOTHING, Element

_NAMESPACE = "{http://libvirt.org/schemas/domain/qemu/1.0}"
#: characters of one argument that are shown
_SHOWN = 100
#: an argument with more properties than any device has is not taken apart further
_MAX_PROPERTIES = 500


class Argument(NamedTuple):
    """One option of QEMU and its value; "" if it takes none."""

    option: str
    value: str

    @property
    def words(self) -> str:
        """The argument as a person finds it again, without secrets."""
        text = printable(f"-{self.option} {self.value}".strip())
        if len(text) > _SHOWN:
            text = f"{text[:_SHOWN]} …"
        return f"the argument {text} of qemu:commandline"

    @property
    def properties(self) -> Mapping[str, str]:
        """Its properties by name. If the first has no name, it is under ""."""
        if self.value.startswith("{"):
            return _of_json(self.value)
        parts = self.value.replace(",,", "\0").split(",")[:_MAX_PROPERTIES]
        properties: dict[str, str] = {}
        for number, part in enumerate(parts):
            name, equals, value = part.replace("\0", ",").partition("=")
            if number == 0 and not equals:
                name, value = "", name
            properties.setdefault(name, value)
        return properties

    @property
    def driver(self) -> str:
        """The driver that `-device`, `-blockdev` or `-object` names."""
        properties = self.properties
        for name in ("driver", "qom-type", ""):
            if properties.get(name):
                return properties[name]
        return ""


def _of_json(text: str) -> Mapping[str, str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return NOTHING
    if not isinstance(value, dict):
        return NOTHING
    return dict(_flat(value, ""))


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield the leaves of a JSON object, as QEMU writes them: `file.filename`, `children.0.driver`."""
    if isinstance(value, dict):
        before = f"{name}." if name else ""
        for key, inner in value.items():
            yield from _flat(inner, f"{before}{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{name}.{number}")
    else:
        yield name, str(value)


#: options that take no value (DEF without HAS_ARG in qemu-options.hx)
_ALONE = re.compile(
    r"S|s|h|help|version|usb|snapshot|nographic|nodefaults|no-user-config|enable-kvm|daemonize|mem-prealloc|preconfig|"
    r"no-(acpi|hpet|reboot|shutdown|fd-bootchk|quit|frame)|full-screen|only-migratable|singlestep|one-insn-per-tb|"
    r"win2k-hack|rtc-td-hack|portrait|alt-grab|ctrl-grab|sdl|curses"
)


def arguments(root: Element) -> list[Argument]:
    """Return every option in `qemu:commandline` with its value. A word that belongs to no option is a disk: `-hda`."""
    read: list[Argument] = []
    for element in root.iterfind(f"{_NAMESPACE}commandline/{_NAMESPACE}arg"):
        word = str(element.get("value") or "")
        if re.match(r"--?[A-Za-z]", word):
            read.append(Argument(word.lstrip("-"), ""))
        elif read and _lacks_value(read[-1]):
            read[-1] = Argument(read[-1].option, word)
        elif word:
            read.append(Argument("hda", word))
    return read


def _lacks_value(argument: Argument) -> bool:
    return not argument.value and not _ALONE.fullmatch(argument.option)


def overrides(root: Element) -> list[tuple[str, frozenset[str]]]:
    """Return alias and names of properties of each device in `qemu:override`."""
    overridden = []
    for device in root.iterfind(f"{_NAMESPACE}override/{_NAMESPACE}device"):
        elements = device.iter(f"{_NAMESPACE}property")
        names = frozenset(str(element.get("name")) for element in elements)
        overridden.append((str(device.get("alias")), names))
    return overridden


def is_there(root: Element) -> bool:
    """True if there are arguments or overrides."""
    if root.find(f"{_NAMESPACE}commandline") is not None:
        return True
    return root.find(f"{_NAMESPACE}override") is not None


def _texts(root: Element) -> Iterator[tuple[str, str]]:
    """Yield every text in which a name can stand, and its description."""
    for argument in arguments(root):
        yield argument.value, argument.words
    for env in root.iterfind(f"{_NAMESPACE}commandline/{_NAMESPACE}env"):
        yield (
            str(env.get("value") or ""),
            f"the variable {printable(str(env.get('name')))} of qemu:commandline",
        )
    for alias, names in overrides(root):
        yield alias, f"qemu:override ({printable(', '.join(sorted(names)))[:_SHOWN]})"


# Names ----------------------------------------------------------------------------------------


def naming(root: Element, names: Iterable[str]) -> str | None:
    """Return, in words, the argument that has one of *names* (ids that libvirt gives to devices) in it, or None."""
    wanted = "|".join(map(re.escape, names))
    if not wanted:
        return None
    pattern = re.compile(rf"(?<![\w-])(?:drive-)?(?:{wanted})(?![\w-])")
    for text, description in _texts(root):
        match = pattern.search(text)
        if match:
            return f"{description} names {printable(match[0])}"
    return None


#: libvirt's names for block nodes
_NODE = re.compile(r"(?<![\w-])libvirt-\d+-(?:format|storage|slice)\b")


def naming_a_node(root: Element) -> str | None:
    """Return, in words, the argument that names a block node of libvirt's by its number, or None.

    The number is that of another node as soon as disks change places.
    """
    for text, description in _texts(root):
        match = _NODE.search(text)
        if match:
            return f"{description} names {match[0]}"
    return None


def setting_globally(
    root: Element, driver: str, properties: Iterable[str] = ()
) -> str | None:
    """Return the `-global` that sets one of *properties* (any if none is given) of a driver like *driver*, or None."""
    wanted = set(properties)
    for argument in arguments(root):
        if argument.option != "global":
            continue
        name, key = _driver_and_property(argument)
        is_wanted = not wanted or key in wanted
        if is_wanted and re.fullmatch(driver, name):
            return argument.words
    return None


def _driver_and_property(setting: Argument) -> tuple[str, str]:
    """Return both names in a `-global`: `driver=…,property=…,value=…` or `driver.property=value`."""
    properties = setting.properties
    if "driver" in properties:
        return properties["driver"], properties.get("property", "")
    driver, _, key = setting.value.partition("=")[0].rpartition(".")
    return driver, key


def naming_a_machine(root: Element) -> str | None:
    """Return the `-machine` or `-M` that names a machine type, or None."""
    return _first(root, _names_a_machine)


def _names_a_machine(argument: Argument) -> bool:
    if argument.option not in ("machine", "M"):
        return False
    return bool({"", "type"} & argument.properties.keys())


def reading_a_file(root: Element) -> str | None:
    """Return the `-readconfig`, whose file may name any device and take any place and is not read by us, or None."""
    return _first(root, _reads_a_file)


def _reads_a_file(argument: Argument) -> bool:
    return argument.option == "readconfig"


def _first(root: Element, is_wanted: Callable[[Argument], bool]) -> str | None:
    """Return the first argument of which *is_wanted* is true, in words, or None."""
    for argument in arguments(root):
        if is_wanted(argument):
            return argument.words
    return None


# Places ---------------------------------------------------------------------------------------

#: drivers that are plugged into no PCI slot
_NOT_PCI = re.compile(
    r"isa-.*|usb-(?!ehci|uhci|ohci|xhci).*|scsi-.*|ide-.*|hda-.*|u2f-.*|ccid-.*|smartcard.*|virtserialport|virtconsole|"
    r".*-device|.*-ccw|virtio-blk-ccw|.*-cpu|pc-dimm|nvdimm|nvme-ns|nvme-subsys|sd-card|emmc|floppy|loader|"
    r"guest-loader|vmgenid|vmcoreinfo|pvpanic|sga|smbus-.*|i2c-.*|tpm-.*|vfio-(ap|ccw|platform)|(intel|amd)-iommu|"
    r"kvm-(?!pci).*|ib700|sb16|adlib|gus|cs4231a|acpi-.*|fw_cfg.*|ipmi-bmc.*|isa-ipmi.*|ramfb|or-irq|ne2k_isa"
)
_SLOT = re.compile(r"(?:0x)?([0-9a-f]{1,2})(?![0-9a-f])", re.IGNORECASE)
#: options that plug a device of their own into the first free slot
_PLUGGED = re.compile(r"nic|vga|virtfs|soundhw|watchdog")


def taking_a_slot(root: Element) -> str | None:
    """Return the argument that takes a PCI slot without libvirt's knowledge, in words, or None."""
    return _first(root, _takes_a_slot) or reading_a_file(root)


def _takes_a_slot(argument: Argument) -> bool:
    return _is_pci(argument) or _plugs_itself(argument)


def taking_the_first_free_slot(root: Element) -> str | None:
    """Return the argument that takes the lowest free PCI slot, and moves as soon as a lower one is free, or None."""
    return _first(root, _takes_the_first_free_slot) or reading_a_file(root)


def _takes_the_first_free_slot(argument: Argument) -> bool:
    if _plugs_itself(argument):
        return True
    return _is_pci(argument) and "addr" not in argument.properties


def _is_pci(argument: Argument) -> bool:
    """True if it is plugged into a bus of libvirt's own devices. libvirt's names for those end in a number."""
    if argument.option != "device" or _NOT_PCI.fullmatch(argument.driver):
        return False
    bus = argument.properties.get("bus", "pci.0")
    return bool(re.fullmatch(r"pcie?(\.\d+)?", bus))


def _plugs_itself(argument: Argument) -> bool:
    if argument.option == "net":
        return argument.properties.get("") == "nic"
    if argument.option == "drive":
        return argument.properties.get("if") in ("virtio", "scsi")
    return bool(_PLUGGED.fullmatch(argument.option)) and argument.value != "none"


def slots(root: Element) -> set[int]:
    """Return the slots that the arguments name by `addr=`, hexadecimal as in QEMU's qdev-properties-system.c."""
    taken = set()
    for argument in arguments(root):
        match = _SLOT.match(argument.properties.get("addr", ""))
        if match and _is_pci(argument):
            taken.add(int(match[1], 16))
    return taken


def on_scsi_bus(root: Element, controller: str) -> str | None:
    """Return the device that is on the SCSI controller of that id, or wherever there is room, or None."""
    bus = f"{controller}.0"
    for device in _devices(root, r"scsi-(hd|cd|disk|block|generic)"):
        if device.properties.get("bus", bus) == bus:
            return device.words
    return None


def _devices(root: Element, driver: str) -> Iterator[Argument]:
    """Yield each `-device` with a driver like *driver*, a regular expression."""
    for argument in arguments(root):
        if argument.option == "device" and re.fullmatch(driver, argument.driver):
            yield argument


def on_ide_bus(root: Element) -> str | None:
    """Return the device that takes the first free place on an ide or sata bus, or None."""
    for device in _devices(root, r"ide-(hd|cd|drive|cf)"):
        if not {"bus", "unit"} <= device.properties.keys():
            return device.words
    return None


# What they bring ------------------------------------------------------------------------------

_DISKS = re.compile(
    r"nvme|nvme-ns|virtio-blk(-.*)?|vhost-user-blk(-.*)?|vhost-scsi(-.*)?|vhost-user-scsi(-.*)?|"
    r"scsi-(hd|block|generic|disk)|ide-(hd|drive|cf)|usb-(storage|bot|uas)|sd-card|emmc|ufs-lu"
)
_DRIVES = ("hda", "hdb", "hdc", "hdd", "sd", "mtdblock")
#: properties by which `-drive` is opened for reading alone
_READ_ONLY = ("readonly", "read-only", "file.read-only")


def disks(root: Element) -> list[str]:
    """Return the arguments that give the guest a disk, in words. Cdroms, floppies and firmware are no disks."""
    return [argument.words for argument in filter(_is_disk, arguments(root))]


def _is_disk(argument: Argument) -> bool:
    if argument.option in _DRIVES:
        return True
    if argument.option == "device":
        return bool(_DISKS.fullmatch(argument.driver))
    properties = argument.properties
    if argument.option == "blockdev":
        return not _is_on(properties, "read-only")
    if argument.option != "drive" or properties.get("media") == "cdrom":
        return False
    if properties.get("if") in ("pflash", "floppy"):
        return False
    return not _is_on(properties, *_READ_ONLY)


def _is_on(properties: Mapping[str, str], *names: str) -> bool:
    """True if one of the properties that are called so is set to a yes, in any way in which QEMU takes one."""
    for name in names:
        value = properties.get(name, "off")
        if value.lower() in ("on", "true", "yes", ""):
            return True
    return False


def images(root: Element) -> list[tuple[str, bool]]:
    """Return the files that the arguments open for the guest, each with True if only for reading."""
    opened = []
    for argument in arguments(root):
        for path, is_read in _opened(argument):
            opened.append((path.removeprefix("file:"), is_read))
    return opened


def _opened(argument: Argument) -> list[tuple[str, bool]]:
    if argument.option in (*_DRIVES, "cdrom", "fda", "fdb", "pflash"):
        return [(argument.value, argument.option == "cdrom")]
    properties = argument.properties
    if argument.option in ("drive", "blockdev"):
        is_read = properties.get("media") == "cdrom" or _is_on(properties, *_READ_ONLY)
        return [(place, is_read) for place in _places(properties)]
    if argument.option != "object" or "mem-path" not in properties:
        return []
    path = properties["mem-path"]
    if path.startswith("/dev/"):
        return []  # it keeps nothing
    is_read = not _is_on(properties, "share") or _is_on(properties, "readonly")
    return [(path, is_read)]


def _places(properties: Mapping[str, str]) -> Iterator[str]:
    """Yield the files, and the images of Ceph's, of the node and of those below it, however deep."""
    for key, value in properties.items():
        _, _, last = key.rpartition(".")
        before = key.removesuffix(last)
        is_file = key == "file" or last == "filename"
        is_ring = last == "path" and properties.get(f"{before}driver") == "io_uring"
        if is_file or is_ring:
            yield value
        elif last == "driver" and value == "rbd":
            pool = properties.get(f"{before}pool", "")
            image = properties.get(f"{before}image", "")
            yield f"rbd:{pool}/{image}"


_HOSTS = re.compile(
    r"vfio-.*|usb-host|pci-assign|kvm-pci-assign|vhost-scsi.*|scsi-generic|scsi-block|vhost-vdpa-device.*|"
    r"virtio-input-host.*|(usb-)?u2f-passthru|ccid-card-emulated|vhost-user-(blk|scsi).*"
)
#: drivers of `-blockdev` that open a whole device of the host
_HOSTS_NODES = re.compile(r"nvme(-io_uring)?|virtio-blk-(vhost-vdpa|vfio-pci)")
#: options whose value of this type passes a device of the host on
_PASSED_ON = {"netdev": "vhost-vdpa", "tpmdev": "passthrough"}
#: options that take a character device, as `-serial` does (qemu_chr_parse_compat)
_LINES = (
    "usbdevice",
    "serial",
    "parallel",
    "monitor",
    "qmp",
    "qmp-pretty",
    "debugcon",
    "gdb",
    "pcidevice",
)


def host_devices(root: Element) -> list[str]:
    """Return the arguments that take a device of the host, or may take one, in words."""
    return [argument.words for argument in filter(_may_take_a_device, arguments(root))]


def _may_take_a_device(argument: Argument) -> bool:
    return _reads_a_file(argument) or _takes_a_device(argument)


def _takes_a_device(argument: Argument) -> bool:
    properties = argument.properties
    if argument.option == "device":
        return bool(_HOSTS.fullmatch(argument.driver))
    if argument.option in _PASSED_ON:
        kind = properties.get("type", properties.get(""))
        return kind == _PASSED_ON[argument.option]
    if argument.option == "object":
        path = properties.get("mem-path", "")
        return argument.driver == "input-linux" or path.startswith(_PERSISTENT)
    if argument.option in _LINES:
        return argument.value.startswith(("host", "/dev/"))
    if argument.option == "chardev":
        return _backend(properties) in ("serial", "tty", "parallel", "parport")
    if argument.option in ("drive", "blockdev"):
        return _opens_a_device(properties)
    return argument.option == "mem-path" and argument.value.startswith(_PERSISTENT)


def _backend(properties: Mapping[str, str]) -> str | None:
    """Return the kind of a character device, from either form of `-chardev`."""
    in_json = properties.get("backend.type") or properties.get("backend")
    return in_json or properties.get("")


def _opens_a_device(properties: Mapping[str, str]) -> bool:
    for key, value in properties.items():
        _, _, last = key.rpartition(".")
        if last == "driver" and _HOSTS_NODES.fullmatch(value):
            return True
    return properties.get("file", "").startswith("nvme:")


#: memory of the host that keeps what is written (Linux' dax and pmem)
_PERSISTENT = ("/dev/dax", "/dev/pmem")
