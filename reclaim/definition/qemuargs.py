"""QEMU's own arguments in a definition: `qemu:commandline` and `qemu:override`, which libvirt hands on unread.

What they name (a device's id, a driver, a machine type), the places that they take, the disks and the host's devices
that they bring. Their grammar is QEMU's (qemu-options.hx, util/keyval.c): `-option first,key=value,…`, a comma in a
value doubled; or a JSON object. Nothing here is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from reclaim.base.text import printable
from reclaim.definition.domain import NOTHING, Element

_NAMESPACE = "{http://libvirt.org/schemas/domain/qemu/1.0}"
#: characters of one argument that are shown
_SHOWN = 100
#: an argument with more properties than any device has is not taken apart further
_MAX_PROPERTIES = 500


class Argument(NamedTuple):
    """One option of QEMU and its value; "" where it takes none."""

    option: str
    value: str

    @property
    def words(self) -> str:
        """It as a person finds it again, without secrets."""
        text = printable(f"-{self.option} {self.value}".strip())
        return f"the argument {text[:_SHOWN]}{' …' if len(text) > _SHOWN else ''} of qemu:commandline"

    @property
    def properties(self) -> Mapping[str, str]:
        """Its properties by name; what stands first without a name is under ""."""
        if self.value.startswith("{"):
            return _of_json(self.value)
        parts = self.value.replace(",,", "\0").split(",")[:_MAX_PROPERTIES]
        found: dict[str, str] = {}
        for number, part in enumerate(parts):
            name, equals, value = part.replace("\0", ",").partition("=")
            found.setdefault(
                name if equals or number else "", value if equals or number else name
            )
        return found

    @property
    def driver(self) -> str:
        """The driver that `-device`, `-blockdev` or `-object` names."""
        found = self.properties
        return found.get("driver") or found.get("qom-type") or found.get("") or ""


def _of_json(text: str) -> Mapping[str, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return NOTHING
    return dict(_flat(found, "")) if isinstance(found, dict) else NOTHING


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """The leaves of a JSON object, as QEMU writes them: `file.filename`, `children.0.driver`."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _flat(one, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _flat(one, f"{name}.{number}")
    else:
        yield name, str(value)


#: options that take no value (DEF without HAS_ARG in qemu-options.hx)
_ALONE = re.compile(
    r"S|s|h|help|version|usb|snapshot|nographic|nodefaults|no-user-config|enable-kvm|daemonize|mem-prealloc|preconfig|"
    r"no-(acpi|hpet|reboot|shutdown|fd-bootchk|quit|frame)|full-screen|only-migratable|singlestep|one-insn-per-tb|"
    r"win2k-hack|rtc-td-hack|portrait|alt-grab|ctrl-grab|sdl|curses"
)


def arguments(root: Element) -> list[Argument]:
    """Every option in `qemu:commandline`, each with its value. A word that is of none is the first disk: `-hda`."""
    words = [
        str(one.get("value") or "")
        for one in root.iterfind(f"{_NAMESPACE}commandline/{_NAMESPACE}arg")
    ]
    found: list[Argument] = []
    for word in words:
        if re.match(r"--?[A-Za-z]", word):
            found.append(Argument(word.lstrip("-"), ""))
        elif found and not found[-1].value and not _ALONE.fullmatch(found[-1].option):
            found[-1] = Argument(found[-1].option, word)
        elif word:
            found.append(Argument("hda", word))
    return found


def overrides(root: Element) -> list[tuple[str, frozenset[str]]]:
    """Alias and names of properties of each device in `qemu:override`."""
    found = []
    for device in root.iterfind(f"{_NAMESPACE}override/{_NAMESPACE}device"):
        names = (str(one.get("name")) for one in device.iter(f"{_NAMESPACE}property"))
        found.append((str(device.get("alias")), frozenset(names)))
    return found


def is_there(root: Element) -> bool:
    """Are there any of either?"""
    return any(
        root.find(f"{_NAMESPACE}{tag}") is not None
        for tag in ("commandline", "override")
    )


def _texts(root: Element) -> Iterator[tuple[str, str]]:
    """Every text in which a name can stand, and how it is called."""
    for one in arguments(root):
        yield one.value, one.words
    for env in root.iterfind(f"{_NAMESPACE}commandline/{_NAMESPACE}env"):
        yield (
            str(env.get("value") or ""),
            f"the variable {printable(str(env.get('name')))} of qemu:commandline",
        )
    for alias, names in overrides(root):
        yield alias, f"qemu:override ({printable(', '.join(sorted(names)))[:_SHOWN]})"


# Names ----------------------------------------------------------------------------------------


def naming(root: Element, names: Iterable[str]) -> str | None:
    """Who names one of *names* (ids that libvirt gives to devices), in words, or None."""
    wanted = "|".join(map(re.escape, names))
    pattern = re.compile(rf"(?<![\w-])(?:drive-)?(?:{wanted})(?![\w-])")
    for text, words in _texts(root) if wanted else ():
        if match := pattern.search(text):
            return f"{words} names {printable(match[0])}"
    return None


def naming_a_node(root: Element) -> str | None:
    """Who names a block node of libvirt's by its number, which is another one where disks change places; or None."""
    for text, words in _texts(root):
        if match := re.search(
            r"(?<![\w-])libvirt-\d+-(?:format|storage|slice)\b", text
        ):
            return f"{words} names {match[0]}"
    return None


def setting_globally(
    root: Element, driver: str, properties: Iterable[str] = ()
) -> str | None:
    """The `-global` that sets one of *properties* (any, where none is given) of a driver like *driver*, or None."""
    wanted = set(properties)
    for one in arguments(root):
        if one.option != "global":
            continue
        found = one.properties
        name, _, key = (
            (found.get("driver"), "", found.get("property", ""))
            if "driver" in found
            else _dotted(one.value)
        )
        if re.fullmatch(driver, name or "") and (not wanted or key in wanted):
            return one.words
    return None


def _dotted(value: str) -> tuple[str, str, str]:
    """`driver.property=value`"""
    return value.partition("=")[0].rpartition(".")


def naming_a_machine(root: Element) -> str | None:
    """The `-machine` or `-M` that names a machine type, or None."""
    for one in arguments(root):
        if one.option in ("machine", "M") and {"", "type"} & one.properties.keys():
            return one.words
    return None


def reading_a_file(root: Element) -> str | None:
    """The `-readconfig` whose file may name any device and take any place, and which nobody reads; or None."""
    return next(
        (one.words for one in arguments(root) if one.option == "readconfig"), None
    )


# Places ---------------------------------------------------------------------------------------

#: drivers that are plugged into no PCI slot
_NOT_PCI = re.compile(
    r"isa-.*|usb-(?!ehci|uhci|ohci|xhci).*|scsi-.*|ide-.*|hda-.*|u2f-.*|ccid-.*|smartcard.*|virtserialport|virtconsole|"
    r".*-device|.*-ccw|virtio-blk-ccw|.*-cpu|pc-dimm|nvdimm|nvme-ns|nvme-subsys|sd-card|emmc|floppy|loader|"
    r"guest-loader|vmgenid|vmcoreinfo|pvpanic|sga|smbus-.*|i2c-.*|tpm-.*|vfio-(ap|ccw|platform)|(intel|amd)-iommu|"
    r"kvm-(?!pci).*|ib700|sb16|adlib|gus|cs4231a|acpi-.*|fw_cfg.*|ipmi-bmc.*|isa-ipmi.*|ramfb|or-irq|ne2k_isa"
)
#: options that plug a device of their own into the first free slot
_PLUGGED = re.compile(r"nic|vga|virtfs|soundhw|watchdog")


def taking_a_slot(root: Element) -> str | None:
    """What of the arguments takes a PCI slot that libvirt knows nothing of, in words, or None."""
    known = (one.words for one in arguments(root) if _is_pci(one) or _plugs_itself(one))
    return next(known, None) or reading_a_file(root)


def taking_the_first_free_slot(root: Element) -> str | None:
    """What of the arguments takes the lowest PCI slot that is free, and another one when a lower one is; or None."""
    for one in arguments(root):
        if _plugs_itself(one) or (_is_pci(one) and "addr" not in one.properties):
            return one.words
    return reading_a_file(root)


def _is_pci(one: Argument) -> bool:
    """Is it plugged into a bus that libvirt plugs its own devices into? Its names for those end in a number."""
    bus = one.properties.get("bus", "pci.0")
    return (
        one.option == "device"
        and not _NOT_PCI.fullmatch(one.driver)
        and bool(re.fullmatch(r"pcie?(\.\d+)?", bus))
    )


def _plugs_itself(one: Argument) -> bool:
    if one.option == "net":
        return one.properties.get("") == "nic"
    if one.option == "drive":
        return one.properties.get("if") in ("virtio", "scsi")
    return bool(_PLUGGED.fullmatch(one.option)) and one.value != "none"


def slots(root: Element) -> set[int]:
    """The slots that the arguments name by `addr=`, hexadecimal as in QEMU's qdev-properties-system.c."""
    found = set()
    for one in arguments(root):
        if _is_pci(one) and (
            match := re.match(
                r"(?:0x)?([0-9a-f]{1,2})(?![0-9a-f])",
                one.properties.get("addr", ""),
                re.IGNORECASE,
            )
        ):
            found.add(int(match[1], 16))
    return found


def on_scsi_bus(root: Element, controller: str) -> str | None:
    """The device of the arguments that is on the SCSI controller of that id, or wherever there is room; or None."""
    for one in arguments(root):
        if one.option == "device" and re.fullmatch(
            r"scsi-(hd|cd|disk|block|generic)", one.driver
        ):
            if one.properties.get("bus", f"{controller}.0") == f"{controller}.0":
                return one.words
    return None


def on_ide_bus(root: Element) -> str | None:
    """The device of the arguments that takes the first free place on an ide or sata bus, or None."""
    for one in arguments(root):
        if one.option == "device" and re.fullmatch(r"ide-(hd|cd|drive|cf)", one.driver):
            if not {"bus", "unit"} <= one.properties.keys():
                return one.words
    return None


# What they bring ------------------------------------------------------------------------------

_DISKS = re.compile(
    r"nvme|nvme-ns|virtio-blk(-.*)?|vhost-user-blk(-.*)?|vhost-scsi(-.*)?|vhost-user-scsi(-.*)?|"
    r"scsi-(hd|block|generic|disk)|ide-(hd|drive|cf)|usb-(storage|bot|uas)|sd-card|emmc|ufs-lu"
)
_DRIVES = ("hda", "hdb", "hdc", "hdd", "sd", "mtdblock")


def disks(root: Element) -> list[str]:
    """What of the arguments gives the guest a disk, in words; cdroms, floppies and firmware are none."""
    return [one.words for one in arguments(root) if _is_disk(one)]


def _is_disk(one: Argument) -> bool:
    if one.option in _DRIVES:
        return True
    if one.option == "device":
        return bool(_DISKS.fullmatch(one.driver))
    found = one.properties
    if one.option == "drive":
        return (
            found.get("media") != "cdrom"
            and found.get("if") not in ("pflash", "floppy")
            and not _is_on(found, "readonly", "read-only", "file.read-only")
        )
    return one.option == "blockdev" and not _is_on(found, "read-only")


def _is_on(found: Mapping[str, str], *names: str) -> bool:
    return any(
        found[name].lower() in ("on", "true", "yes", "")
        for name in names
        if name in found
    )


def images(root: Element) -> list[tuple[str, bool]]:
    """The files that the arguments open for the guest, and whether only for reading."""
    found = []
    for one in arguments(root):
        if one.option in (*_DRIVES, "cdrom", "fda", "fdb", "pflash"):
            found.append((one.value, one.option == "cdrom"))
        elif one.option in ("drive", "blockdev"):
            some = one.properties
            is_read = some.get("media") == "cdrom" or _is_on(
                some, "readonly", "read-only", "file.read-only"
            )
            found += [(place, is_read) for place in _places(some)]
        elif one.option == "object" and "mem-path" in (some := one.properties):
            path, is_read = (
                some["mem-path"],
                not _is_on(some, "share") or _is_on(some, "readonly"),
            )
            found += (
                [] if path.startswith("/dev/") else [(path, is_read)]
            )  # else it is kept by nothing
    return [(path.removeprefix("file:"), is_read) for path, is_read in found]


def _places(some: Mapping[str, str]) -> Iterator[str]:
    """Where the node lies, and those below it, however deep: files, and images of Ceph's."""
    for key, value in some.items():
        node, _, last = key.rpartition(".")
        before = f"{node}." if node else ""
        if (
            key == "file"
            or last == "filename"
            or (last == "path" and some.get(f"{before}driver") == "io_uring")
        ):
            yield value
        elif last == "driver" and value == "rbd":
            yield f"rbd:{some.get(f'{before}pool', '')}/{some.get(f'{before}image', '')}"


_HOSTS = re.compile(
    r"vfio-.*|usb-host|pci-assign|kvm-pci-assign|vhost-scsi.*|scsi-generic|scsi-block|vhost-vdpa-device.*|"
    r"virtio-input-host.*|(usb-)?u2f-passthru|ccid-card-emulated|vhost-user-(blk|scsi).*"
)
#: drivers of `-blockdev` that open a whole device of the host
_HOSTS_NODES = re.compile(r"nvme(-io_uring)?|virtio-blk-(vhost-vdpa|vfio-pci)")
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
    """What of the arguments takes a device of the host, or may as far as anybody can tell, in words."""
    return [
        one.words
        for one in arguments(root)
        if one.option == "readconfig" or _takes_a_device(one)
    ]


def _takes_a_device(one: Argument) -> bool:
    found = one.properties
    if one.option == "device":
        return bool(_HOSTS.fullmatch(one.driver))
    if one.option == "netdev":
        return found.get("type", found.get("")) == "vhost-vdpa"
    if one.option == "object":
        return one.driver == "input-linux" or found.get("mem-path", "").startswith(
            _PERSISTENT
        )
    if one.option == "tpmdev":
        return found.get("type", found.get("")) == "passthrough"
    if one.option in _LINES:
        return one.value.startswith(("host", "/dev/"))
    if one.option == "chardev":
        kind = found.get("backend.type") or found.get("backend") or found.get("")
        return kind in ("serial", "tty", "parallel", "parport")
    if one.option in ("drive", "blockdev"):
        drivers = (
            value
            for key, value in found.items()
            if key == "driver" or key.endswith(".driver")
        )
        return any(map(_HOSTS_NODES.fullmatch, drivers)) or found.get(
            "file", ""
        ).startswith("nvme:")
    return one.option == "mem-path" and one.value.startswith(_PERSISTENT)


#: memory of the host that keeps what is written (Linux' dax and pmem)
_PERSISTENT = ("/dev/dax", "/dev/pmem")
