"""A guest's domain XML: what a check reads, and how a fixer proposes another.

The views read libvirt's own element names. Editing works on a copy of the tree, so whatever is not
named by the edit stays: comments in metadata, namespaces, secrets, element order.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from lxml import etree

from reclaim.errors import ProbeError

#: libvirt formatdomain: SCSI has no plain `virtio` model "for historical reasons"
VIRTIO_SCSI_MODELS = ("virtio-scsi", "virtio-transitional", "virtio-non-transitional")

#: libvirt's qemuDomainDefaultSCSIControllerModel; everywhere else it takes lsilogic
_DEFAULT_SCSI_MODEL = {"s390x": "virtio-scsi", "ppc64": "ibmvscsi", "ppc64le": "ibmvscsi"}

#: A domain definition is a few KiB; a larger one is not libvirt's.
_MAX_XML_BYTES = 8 * 1024 * 1024

_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_blank_text=False)

Element = etree._Element  # noqa: SLF001 (lxml has no other name for it)


def parse_xml(xml: str, what: str) -> Element:
    """Parse *xml*. Raises ProbeError naming *what* where it is not well-formed or absurdly large."""
    if len(xml) > _MAX_XML_BYTES:
        raise ProbeError(f"{what}: the XML has {len(xml)} characters, more than reclaim reads")
    try:
        return etree.fromstring(xml.encode(), _PARSER)
    except etree.XMLSyntaxError as exc:
        raise ProbeError(f"{what}: the XML cannot be parsed: {exc}") from exc


@dataclass(frozen=True)
class DiskView:
    """One `<disk>` element of a domain, read only."""

    element: Element

    @property
    def device(self) -> str:
        return self.element.get("device", "disk")

    @property
    def type(self) -> str:
        return self.element.get("type", "file")

    @property
    def model(self) -> str | None:
        return self.element.get("model")

    @property
    def target(self) -> str:
        return _attribute(self.element, "target", "dev") or ""

    @property
    def bus(self) -> str:
        """The target's bus; libvirt writes it out in every definition it returns."""
        return _attribute(self.element, "target", "bus") or ""

    @property
    def driver(self) -> Mapping[str, str]:
        """The attributes of the disk's `<driver>`; empty where the element is missing."""
        driver = self.element.find("driver")
        return {} if driver is None else dict(_items(driver))

    @property
    def source(self) -> Mapping[str, str]:
        """The attributes of `<source>`; empty where the drive has no medium."""
        source = self.element.find("source")
        return {} if source is None else dict(_items(source))

    @property
    def path(self) -> str | None:
        """The image's path on the host, for disks of type file and block."""
        return self.source.get("file") or self.source.get("dev")

    @property
    def serial(self) -> str | None:
        return self.element.findtext("serial")

    @property
    def readonly(self) -> bool:
        return self.element.find("readonly") is not None

    @property
    def shareable(self) -> bool:
        return self.element.find("shareable") is not None

    @property
    def transient(self) -> bool:
        return self.element.find("transient") is not None

    @property
    def address(self) -> Mapping[str, str]:
        address = self.element.find("address")
        return {} if address is None else dict(_items(address))

    @property
    def identity(self) -> str:
        """What tells this disk from others whatever its bus and target are: its source."""
        source = self.element.find("source")
        if source is None:
            return f"target {self.target}"
        parts = [f"{key}={value}" for key, value in sorted(_items(source)) if key not in ("index", "startupPolicy")]
        for host in source.iterfind("host"):
            parts += [f"{key}={value}" for key, value in sorted(_items(host))]
        return " ".join(parts) or f"target {self.target}"


@dataclass(frozen=True)
class ControllerView:
    """One `<controller>` element, read only."""

    element: Element
    arch: str | None = None

    @property
    def type(self) -> str:
        return self.element.get("type", "")

    @property
    def index(self) -> str:
        return self.element.get("index", "0")

    @property
    def model(self) -> str | None:
        return self.element.get("model")

    @property
    def driver(self) -> Mapping[str, str]:
        """The attributes of the controller's `<driver>`; empty where the element is missing."""
        driver = self.element.find("driver")
        return {} if driver is None else dict(_items(driver))

    @property
    def effective_model(self) -> str:
        """The model that libvirt takes for a SCSI controller that names none."""
        if self.model and self.model != "auto":
            return self.model
        return _DEFAULT_SCSI_MODEL.get(self.arch or "", "lsilogic")

    @property
    def is_virtio_scsi(self) -> bool:
        return self.type == "scsi" and self.effective_model in VIRTIO_SCSI_MODELS


@dataclass(frozen=True)
class Definition:
    """A domain definition. Never changed: `edit()` gives a copy to work on."""

    xml: str

    @cached_property
    def root(self) -> Element:
        return parse_xml(self.xml, "domain definition")

    @cached_property
    def name(self) -> str:
        return self.root.findtext("name") or ""

    @cached_property
    def uuid(self) -> str:
        return self.root.findtext("uuid") or ""

    @cached_property
    def machine(self) -> str | None:
        return _attribute(self.root, "os/type", "machine")

    @cached_property
    def arch(self) -> str | None:
        return _attribute(self.root, "os/type", "arch")

    @cached_property
    def emulator(self) -> str | None:
        return self.root.findtext("devices/emulator")

    @cached_property
    def domain_type(self) -> str:
        return self.root.get("type", "")

    @cached_property
    def all_disks(self) -> tuple[DiskView, ...]:
        """Every `<disk>`: disks, cdroms, floppies and LUNs."""
        return tuple(DiskView(element) for element in self.root.iterfind("devices/disk"))

    @cached_property
    def disks(self) -> tuple[DiskView, ...]:
        """What the requirements call disks: `device='disk'` (libvirt's default) and LUNs."""
        return tuple(disk for disk in self.all_disks if disk.device in ("disk", "lun"))

    @cached_property
    def scsi_controllers(self) -> tuple[ControllerView, ...]:
        found = (ControllerView(element, self.arch) for element in self.root.iterfind("devices/controller"))
        return tuple(controller for controller in found if controller.type == "scsi")

    def disk(self, target: str) -> DiskView:
        """The disk at *target*. Raises ProbeError where there is none (any more)."""
        for disk in self.all_disks:
            if disk.target == target:
                return disk
        raise ProbeError(f"{self.name}: the definition has no disk {target}")

    def edit(self) -> Edit:
        return Edit(self)


@dataclass
class Edit:
    """A copy of a definition, to be changed element by element."""

    origin: Definition
    root: Element = field(init=False)
    renames: dict[str, str] = field(default_factory=dict)
    #: what the edit takes away or changes beyond its purpose, in words for the evidence
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = copy.deepcopy(self.origin.root)

    @property
    def devices(self) -> Element:
        devices = self.root.find("devices")
        if devices is None:
            devices = etree.SubElement(self.root, "devices")
        return devices

    def disk(self, target: str) -> Element:
        """The `<disk>` element at *target*."""
        for element in self.devices.iterfind("disk"):
            if _attribute(element, "target", "dev") == target:
                return element
        raise ProbeError(f"{self.origin.name}: the definition has no disk {target}")

    def driver(self, disk: Element) -> Element:
        """The disk's `<driver>`, added where libvirt's defaults left it out."""
        driver = disk.find("driver")
        if driver is None:
            driver = etree.Element("driver")
            driver.tail = disk.text
            disk.insert(0, driver)
        return driver

    def add_device(self, tag: str, attributes: Mapping[str, str]) -> Element:
        """Append a device of *tag*, beside its like where there is one."""
        like = self.devices.findall(tag)
        element = etree.Element(tag, dict(attributes))
        if like:
            element.tail = like[-1].tail
            like[-1].addnext(element)
            # addnext moves the tail of the element before along with it
            like[-1].tail = element.tail = like[-1].tail or element.tail
        else:
            element.tail = "\n  "
            self.devices.append(element)
        return element

    def remove(self, element: Element) -> None:
        """Take *element* out; the white space behind it stays for its neighbour."""
        parent = element.getparent()
        if parent is None:
            raise ValueError("the root of a definition cannot be removed")
        before = element.getprevious()
        if element.tail and before is not None and element.getnext() is None:
            before.tail = element.tail
        parent.remove(element)

    @property
    def definition(self) -> Definition:
        return Definition(etree.tostring(self.root, encoding="unicode"))


def _attribute(element: Element, path: str, name: str) -> str | None:
    found = element.find(path)
    return None if found is None else found.get(name)


def _items(element: Element) -> Iterator[tuple[str, str]]:
    for key, value in element.attrib.items():
        yield str(key), str(value)


# Comparing ------------------------------------------------------------------------------------


def flattened(root: Element) -> Counter[str]:
    """Every element as one line of path, attributes and text, whatever the order of siblings."""
    lines: Counter[str] = Counter()
    for element in root.iter():
        if not isinstance(element.tag, str):
            continue
        path = "/".join([str(up.tag) for up in reversed(list(element.iterancestors()))] + [element.tag])
        attributes = " ".join(f"{key}={value!r}" for key, value in sorted(_items(element)))
        lines[f"{path} {attributes} {(element.text or '').strip()!r}"] += 1
    return lines


def same(first: Definition, second: Definition) -> bool:
    """Do both say the same, whatever white space and order of siblings they are written in?"""
    return flattened(first.root) == flattened(second.root)


def missing_from(kept: Definition, wanted: Definition) -> list[str]:
    """What *wanted* asked for and *kept* does not have: libvirt drops silently what it does not know.

    Attributes that libvirt added (addresses of new controllers, defaults) are no loss.
    """
    pool = _parts(kept.root)
    lost: list[str] = []
    # libvirt sorts devices anew, so order says nothing. The most particular first, each by what is
    # nearest to it: else a plain driver takes the place of the one with discard='unmap'.
    for path, attributes, text in sorted(_parts(wanted.root), key=lambda part: -len(part[1])):
        fitting = [i for i, (p, a, t) in enumerate(pool) if p == path and t == text and attributes.items() <= a.items()]
        if fitting:
            del pool[min(fitting, key=lambda i: len(pool[i][1]))]
        else:
            lost.append(" ".join([path, *(f"{key}={value!r}" for key, value in attributes.items())]))
    return lost


def _parts(root: Element) -> list[tuple[str, dict[str, str], str]]:
    parts = []
    for element in root.iter():
        if isinstance(element.tag, str):
            path = "/".join([str(up.tag) for up in reversed(list(element.iterancestors()))] + [element.tag])
            parts.append((path, dict(_items(element)), (element.text or "").strip()))
    return parts


# A secret may stand in graphics (passwd) and in qemu:commandline; the report never shows one.
_SECRET = re.compile(r"""(\b(?:passwd|password|secret)\s*=\s*)("[^"]*"|'[^']*')""", re.IGNORECASE)
_SECRET_ARGUMENT = re.compile(r"""(\b(?:passw(?:or)?d|data|key)=)[^,"'\s]+""", re.IGNORECASE)


def redacted(text: str) -> str:
    """*text* with the values of password attributes replaced, and of those in QEMU's arguments."""
    return _SECRET_ARGUMENT.sub(r"\1(redacted)", _SECRET.sub(r"\1'(redacted)'", text))


def diff(before: str, after: str, name: str) -> str:
    """A unified diff, passwords redacted."""
    lines = difflib.unified_diff(
        redacted(before).splitlines(),
        redacted(after).splitlines(),
        f"{name} (before)",
        f"{name} (after)",
        lineterm="",
        n=2,
    )
    return "\n".join(lines)


def indented(element: Element) -> str:
    """*element* as text with libvirt's indentation, for a diff between two trees."""
    pretty = copy.deepcopy(element)
    etree.indent(pretty, space="  ")
    return etree.tostring(pretty, encoding="unicode")


def diff_definitions(before: Definition, after: Definition) -> str:
    """The difference of two definitions as people read it."""
    return diff(indented(before.root), indented(after.root), before.name)


# The settings that decide whether space comes back -------------------------------------------


@dataclass(frozen=True)
class StorageSettings:
    """What of a definition decides whether a discard reaches the image."""

    machine: str | None
    disks: Mapping[str, Mapping[str, str | None]]
    controllers: Mapping[str, str | None]


def storage_settings(definition: Definition) -> StorageSettings:
    """The storage settings of *definition*, disks keyed by their identity."""
    disks = {
        disk.identity: {
            "bus": disk.bus,
            "discard": disk.driver.get("discard"),
            "detect_zeroes": disk.driver.get("detect_zeroes"),
        }
        for disk in definition.disks
    }
    controllers = {f"scsi {one.index}": one.model for one in definition.scsi_controllers}
    return StorageSettings(definition.machine, disks, controllers)


def storage_differences(live: Definition, persistent: Definition) -> list[str]:
    """Each storage setting in which the running QEMU differs from the definition, in words."""
    now, then = storage_settings(live), storage_settings(persistent)
    found: list[str] = []
    if now.machine != then.machine:
        found.append(f"machine runs as {now.machine}, is defined as {then.machine}")
    names = {disk.identity: disk.target for disk in (*live.disks, *persistent.disks)}
    for identity in dict.fromkeys([*now.disks, *then.disks]):
        name = names[identity]
        if identity not in then.disks:
            found.append(f"disk {name} is attached but not defined")
        elif identity not in now.disks:
            found.append(f"disk {name} is defined but not attached")
        else:
            found += [
                f"disk {name}: {key} runs as {value or 'absent'}, is defined as {then.disks[identity][key] or 'absent'}"
                for key, value in now.disks[identity].items()
                if value != then.disks[identity][key]
            ]
    for name in dict.fromkeys([*now.controllers, *then.controllers]):
        if now.controllers.get(name) != then.controllers.get(name) or (name in now.controllers) != (
            name in then.controllers
        ):
            found.append(
                f"controller {name} runs as {now.controllers.get(name) or 'absent'}, "
                f"is defined as {then.controllers.get(name) or 'absent'}"
            )
    return found
