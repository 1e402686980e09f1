"""A guest's domain XML: the views that a check reads, and the edits that a fixer proposes.

The views read libvirt's own element names. Editing works on a copy of the tree, so everything that the
edit does not name stays: comments in metadata, namespaces, secrets, element order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from lxml import etree

from reclaim.base import masked
from reclaim.base.cached import kept
from reclaim.base.errors import ProbeError
from reclaim.definition import othersystem

#: libvirt formatdomain: SCSI has no plain `virtio` model "for historical reasons"
VIRTIO_SCSI_MODELS = ("virtio-scsi", "virtio-transitional", "virtio-non-transitional")

#: libvirt's qemuDomainDefaultSCSIControllerModel; everywhere else it takes lsilogic
_DEFAULT_SCSI_MODEL = {
    "s390x": "virtio-scsi",
    "ppc64": "ibmvscsi",
    "ppc64le": "ibmvscsi",
}

#: A domain definition is a few KiB; a larger one is not libvirt's.
_MAX_XML_BYTES = 8 * 1024 * 1024

#: Each disk is a row for each requirement on disks.
_MAX_DISKS = 1_000

_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
#: for what is only read: without the indentation a tree costs a tenth less, in time and in memory
_READER = etree.XMLParser(
    resolve_entities=False,
    no_network=True,
    load_dtd=False,
    remove_blank_text=True,
    collect_ids=False,
)

#: for what is not there
NOTHING: Mapping[str, str] = {}

Element = etree._Element  # noqa: SLF001 (lxml has no other name for it)


def parse_xml(xml: str, label: str, parser: etree.XMLParser = _PARSER) -> Element:
    """Parse *xml*. Raises ProbeError naming *label* if it is not well-formed or absurdly large."""
    if len(xml) > _MAX_XML_BYTES:
        raise ProbeError(
            f"{label}: the XML has {len(xml)} characters, more than reclaim reads"
        )
    try:
        return etree.fromstring(xml.encode(), parser)
    except (etree.XMLSyntaxError, UnicodeEncodeError) as exc:
        raise ProbeError(f"{label}: the XML cannot be parsed: {exc}") from exc


#: QEMU's own arguments (`reclaim.definition.qemuargs`)
_ARGUMENTS = "{http://libvirt.org/schemas/domain/qemu/1.0}commandline"

#: types whose source is told by children too; NVMe namespaces differ in nothing but the PCI address
_ELSEWHERE = ("network", "nvme")
#: attributes of a source that are libvirt's own business: they do not tell it from others
_NOT_TELLING = ("index", "startupPolicy")


class DiskView(NamedTuple):
    """One `<disk>` element of a domain, read only: the *number*-th one in *xml*."""

    xml: str
    number: int
    #: libvirt's default if the attribute is missing
    device: str
    type: str
    model: str | None
    target: str
    #: the target's bus; libvirt writes it out in every definition it returns
    bus: str
    readonly: bool
    #: the attributes of `<driver>`; empty where the element is missing
    driver: Mapping[str, str]
    #: the attributes of `<source>`; empty if the drive has no medium
    source: Mapping[str, str]
    #: the attributes of the first child of each tag
    parts: Mapping[str, Mapping[str, str]]
    serial: str | None
    #: the place of a source that is no path: the attributes of its `<host>` and `<address>` elements
    places: tuple[Mapping[str, str], ...]

    @classmethod
    def of(cls, element: Element, number: int, xml: str) -> DiskView:
        attributes = dict(element.items())
        parts: dict[Any, dict[str, str]] = {
            child.tag: dict(child.items()) for child in reversed(element)
        }
        kind = attributes.get("type", "file")
        places: tuple[Mapping[str, str], ...] = ()
        if kind in _ELSEWHERE and "source" in parts:
            source = next(element.iterchildren("source"))
            children = [*source.iterchildren("host"), *source.iterchildren("address")]
            places = tuple([dict(child.items()) for child in children])
        target = parts.get("target", NOTHING)
        serial = element.findtext("serial") if "serial" in parts else None
        # by position: names would cost a tenth of the whole
        return cls(
            xml,
            number,
            attributes.get("device", "disk"),
            kind,
            attributes.get("model"),
            target.get("dev", ""),
            target.get("bus", ""),
            "readonly" in parts,
            parts.get("driver", NOTHING),
            parts.get("source", NOTHING),
            parts,
            serial,
            places,
        )

    def __repr__(self) -> str:
        return f"<disk {self.target}>"  # the XML may hold secrets

    @property
    def element(self) -> Element:
        """The element itself, in a tree of its own."""
        return parse_xml(self.xml, "domain definition", _READER).findall(
            "devices/disk"
        )[self.number]

    @property
    def path(self) -> str | None:
        """The image's path on the host, for disks of type file and block."""
        return self.source.get("file") or self.source.get("dev")

    @property
    def transient(self) -> bool:
        return "transient" in self.parts

    @property
    def address(self) -> Mapping[str, str]:
        return self.parts.get("address", NOTHING)

    @property
    def identity(self) -> str:
        """The source of the disk, by which it is known whatever its bus and target are."""
        telling = dict(self.source)
        for key in _NOT_TELLING:
            telling.pop(key, None)
        parts = []
        for attributes in (telling, *self.places):
            for key, value in sorted(attributes.items()):
                parts.append(f"{key}={value}")
        return " ".join(parts) or f"target {self.target}"

    @property
    def place(self) -> str:
        """`identity` as it may be shown: the path or the query of a web server's address may be a secret."""
        shown = self._masked("source", self.source)
        for place in self.places:
            shown += self._masked("host", place)
        return " ".join(shown) or f"target {self.target}"

    def _masked(self, tag: str, attributes: Mapping[str, str]) -> list[str]:
        protocol = self.source.get("protocol")
        shown = []
        for key, text in sorted(attributes.items()):
            if key not in _NOT_TELLING:
                shown.append(f"{key}={masked.value(tag, key, text, protocol)}")
        return shown


@dataclass(frozen=True, eq=False)
class ControllerView:
    """One `<controller>` element, read only."""

    attributes: Mapping[str, str]
    #: the attributes of the controller's `<driver>`; empty where the element is missing
    driver: Mapping[str, str]
    arch: str | None = None

    @classmethod
    def of(cls, element: Element, arch: str | None) -> ControllerView:
        driver = next(element.iterchildren("driver"), None)
        return cls(
            dict(element.items()),
            NOTHING if driver is None else dict(driver.items()),
            arch,
        )

    @property
    def type(self) -> str:
        return self.attributes.get("type", "")

    @property
    def index(self) -> str:
        return self.attributes.get("index", "0")

    @property
    def model(self) -> str | None:
        return self.attributes.get("model")

    @property
    def effective_model(self) -> str:
        """The model that libvirt takes for a SCSI controller that names none."""
        if self.model and self.model != "auto":
            return self.model
        return _DEFAULT_SCSI_MODEL.get(self.arch or "", "lsilogic")

    @property
    def is_virtio_scsi(self) -> bool:
        return self.type == "scsi" and self.effective_model in VIRTIO_SCSI_MODELS


class _Outline(NamedTuple):
    """The parts that requirements on definitions read, without the tree: trees would be most of a fleet's memory."""

    machine: str | None = None
    arch: str | None = None
    emulator: str | None = None
    disks: tuple[DiskView, ...] = ()
    scsi_controllers: tuple[ControllerView, ...] = ()
    by_target: Mapping[str, DiskView] = MappingProxyType({})
    other_system: str | None = None
    has_arguments: bool = False


def _outline(root: Element, xml: str) -> _Outline:
    machine, arch = _machine_and_arch(root)
    system = othersystem.told_in(next(root.iterchildren("metadata"), None))
    has_arguments = next(root.iterchildren(_ARGUMENTS), None) is not None
    devices = next(root.iterchildren("devices"), None)
    if devices is None:
        return _Outline(machine, arch, other_system=system, has_arguments=has_arguments)
    emulator = next(devices.iterchildren("emulator"), None)
    disks = _disks(devices, xml)
    return _Outline(
        machine,
        arch,
        None if emulator is None else emulator.text,
        tuple(disks),
        tuple(_scsi_controllers(devices, arch)),
        {disk.target: disk for disk in reversed(disks)},
        system,
        has_arguments,
    )


def _machine_and_arch(root: Element) -> tuple[str | None, str | None]:
    system = next(root.iterchildren("os"), None)
    if system is None:
        return None, None
    kind = next(system.iterchildren("type"), None)
    if kind is None:
        return None, None
    return kind.get("machine"), kind.get("arch")


def _disks(devices: Element, xml: str) -> list[DiskView]:
    elements = list(devices.iterchildren("disk"))
    if len(elements) > _MAX_DISKS:
        raise ProbeError(
            f"domain definition: it has {len(elements)} disks, more than reclaim judges"
        )
    disks = []
    for number, element in enumerate(elements):
        if element.get("device", "disk") in ("disk", "lun"):
            disks.append(DiskView.of(element, number, xml))
    return disks


def _scsi_controllers(devices: Element, arch: str | None) -> list[ControllerView]:
    controllers = []
    for element in devices.iterchildren("controller"):
        if element.get("type") == "scsi":
            controllers.append(ControllerView.of(element, arch))
    return controllers


@dataclass(frozen=True)
class Definition:
    """A domain definition. Never changed: `edit()` gives a copy to work on."""

    xml: str = field(repr=False)  # it may hold secrets

    @kept
    def root(self) -> Element:
        return parse_xml(self.xml, "domain definition", _READER)

    @kept
    def name(self) -> str:
        return self.root.findtext("name", "")

    @kept
    def uuid(self) -> str:
        return self.root.findtext("uuid", "")

    def _tree(self) -> Element:
        """Return the parsed tree. It is kept only if `root` was used before."""
        root: Element | None = self.__dict__.get("root")
        if root is None:
            return parse_xml(self.xml, "domain definition", _READER)
        return root

    @kept
    def _outline(self) -> _Outline:
        return _outline(self._tree(), self.xml)

    @property
    def machine(self) -> str | None:
        return self._outline.machine

    @property
    def other_system(self) -> str | None:
        """The system of the guest, if `<metadata>` names one that is no Linux (`reclaim.definition.othersystem`)."""
        return self._outline.other_system

    @property
    def has_arguments(self) -> bool:
        """True if there are arguments of QEMU's own (`qemu:commandline`)."""
        return self._outline.has_arguments

    @property
    def is_windows(self) -> bool:
        """True if `<metadata>` names a Windows."""
        return self.other_system == "Windows"

    @property
    def kernel_parameters(self) -> str:
        """The command line of a kernel that the host gives the guest; "" if the guest boots by itself."""
        if not self.root.findtext("os/kernel"):
            return ""
        return self.root.findtext("os/cmdline", "")

    @property
    def arch(self) -> str | None:
        return self._outline.arch

    @property
    def emulator(self) -> str | None:
        return self._outline.emulator

    @kept
    def all_disks(self) -> tuple[DiskView, ...]:
        """Every `<disk>`: disks, cdroms, floppies and LUNs. Few ask for more than `disks`: it is read for those."""
        disks = []
        for number, element in enumerate(self._tree().iterfind("devices/disk")):
            disks.append(DiskView.of(element, number, self.xml))
        return tuple(disks)

    @property
    def disks(self) -> tuple[DiskView, ...]:
        """The disks that the requirements judge: `device='disk'` (libvirt's default) and LUNs."""
        return self._outline.disks

    @property
    def scsi_controllers(self) -> tuple[ControllerView, ...]:
        return self._outline.scsi_controllers

    def disk(self, target: str) -> DiskView:
        """Return the disk at *target*. Raises ProbeError if there is none (any more)."""
        if target in self._outline.by_target:
            return self._outline.by_target[target]
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
        self.root = parse_xml(self.origin.xml, "domain definition")

    @property
    def devices(self) -> Element:
        devices = self.root.find("devices")
        if devices is None:
            devices = etree.SubElement(self.root, "devices")
        return devices

    def disk(self, target: str) -> Element:
        """Return the `<disk>` element at *target*. Raises ProbeError if there is none."""
        for element in self.devices.iterfind("disk"):
            if _attribute(element, "target", "dev") == target:
                return element
        raise ProbeError(f"{self.origin.name}: the definition has no disk {target}")

    def driver(self, disk: Element) -> Element:
        """Return the disk's `<driver>`, added if libvirt's defaults left it out."""
        driver = disk.find("driver")
        if driver is None:
            driver = etree.Element("driver")
            driver.tail = disk.text
            disk.insert(0, driver)
        return driver

    def add_device(self, tag: str, attributes: Mapping[str, str]) -> Element:
        """Append a device of *tag*, beside its like if there is one."""
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
    child = element.find(path)
    return None if child is None else child.get(name)


def attributes_of(element: Element) -> Iterator[tuple[str, str]]:
    for key, value in element.attrib.items():
        yield str(key), str(value)


def backing_stores(parent: Element) -> Iterator[Element]:
    """Yield the `<backingStore>` of *parent*, a disk or a mirror, and those in it, the overlay's first."""
    store = parent.find("backingStore")
    while store is not None:
        yield store
        store = store.find("backingStore")


def called(xml: str, name: str) -> str:
    """Return *xml* with *name* for its domain's, which may have been renamed since."""
    definition = Definition(xml)
    if definition.name == name:
        return xml
    edit = definition.edit()
    element = edit.root.find("name")
    if element is None:
        raise ProbeError("the definition has no name")
    element.text = name
    return edit.definition.xml
