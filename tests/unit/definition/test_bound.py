"""What QEMU's own arguments bind in a definition. libvirt's test driver drops them, so they are put into a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fixers.disk_bus import move_to_scsi
from fixers.guest_access import add_agent_channel
from fixers.machine_type import raise_machine_type
from fixers.scsi_controller import provide_virtio_scsi
from reclaim.base.errors import Withheld
from reclaim.base.verdict import Verdict
from reclaim.changes.definition_change import DefinitionChange, changed_definition
from reclaim.definition import bound
from reclaim.definition.domain import Definition, parse_xml
from reclaim.definition.machine_type import OfferedMachine
from reclaim.handles.guest import UNKNOWN_DISKS, Disk, Guest
from tests.corpus.variants import QEMU, arguments, override
from tests.support import (
    definition_of,
    disk_xml,
    domain_xml,
    drive,
    engine,
    opened,
    requirement,
    scsi_xml,
    subject,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from reclaim.changes.change import Change

LSILOGIC = scsi_xml(model="lsilogic")
PCI_ROOT = "<controller type='pci' index='0' model='pci-root'/>"
NIC = ("-netdev", "user,id=n0", "-device")


def pci(slot: int) -> str:
    return f"<address type='pci' domain='0x0000' bus='0x00' slot='0x{slot:02x}' function='0x0'/>"


def planned(folder: Path, tail: str, *devices: str, machine: str = "pc-i440fx-7.2") -> tuple[Guest, Definition]:
    """A guest, and its definition with *tail* in it."""
    xml = domain_xml(*devices, machine=machine)
    guest = opened(folder, xml, offered=[OfferedMachine("pc-i440fx-7.2", deprecated=False)]).guests[0]
    return guest, Definition(definition_of(guest).xml.replace("</domain>", f"{tail}</domain>"))


def proposed(guest: Guest, definition: Definition, ask: Callable[[], list[Change]]) -> DefinitionChange:
    with guest.planning(definition, {}):
        [change] = ask()
    assert isinstance(change, DefinitionChange)
    return change


def _values(xml: str) -> list[dict[str, str]]:
    """The attributes of all of QEMU's own elements."""
    return [dict(one.items()) for one in parse_xml(xml, "x").iter(f"{{{QEMU}}}*")]


def refused(guest: Guest, definition: Definition, ask: Callable[[], list[Change]]) -> str:
    with guest.planning(definition, {}), pytest.raises(Withheld) as caught:
        ask()
    return str(caught.value)


# A disk that moves ----------------------------------------------------------------------------


VDA, SDA = disk_xml(), disk_xml("sda", "sata")
HDC = disk_xml("hdc", "ide", inner="<address type='drive' controller='0' bus='1' unit='0'/>")
PLACE = "is attached to the SCSI controller 0"
BOUND = [
    (VDA, override("virtio-disk0", "logical_block_size", 4096), "qemu:override (logical_block_size) names"),
    (disk_xml("vdb"), override("virtio-disk1", "discard_granularity", 65536), "names virtio-disk1"),
    (disk_xml("sdb", "sata", inner=drive(1)), override("sata0-0-1", "rotation_rate", 1), "names sata0-0-1"),
    (HDC, arguments("-set", "device.ide0-1-0.rotation_rate=1"), "names ide0-1-0"),
    (VDA, arguments("-set", "device.virtio-disk0.serial=x"), "the argument -set device.virtio-disk0"),
    (VDA, arguments("-device", "throttle,drive=drive-virtio-disk0"), "names drive-virtio-disk0"),
    (VDA, arguments("-object", "x,path=/machine/peripheral/virtio-disk0/virtio-backend"), "names virtio-disk0"),
    (VDA, arguments("-global", "virtio-blk-pci.logical_block_size=4096"), "-global virtio-blk-pci"),
    (VDA, arguments("-global", "driver=virtio-blk,property=num-queues,value=4"), "-global driver=virtio-blk"),
    (SDA, arguments("-global", "ide-hd.discard_granularity=0"), "-global ide-hd"),
    (VDA, arguments("-global", "scsi-hd.logical_block_size=4096"), "which would apply to the disk on the scsi bus"),
    (SDA, arguments("-device", "ide-hd,drive=x"), "takes the place that the disk would leave"),
    (VDA, arguments("-device", "scsi-hd,drive=x"), PLACE),
    (VDA, arguments("-device", "scsi-hd,drive=x,bus=scsi0.0"), PLACE),
    (VDA, arguments("-device", "scsi-hd,id=scsi0-0-0-0,bus=own.0"), "which would become the id of the disk"),
    (VDA, arguments("-device", "vfio-pci,host=01:00.0"), "would move to the PCI slot"),
    (VDA, arguments("-net", "nic,model=rtl8139"), "would move to the PCI slot"),
    (VDA, arguments("-drive", "file=/x,if=virtio"), "would move to the PCI slot"),
    (VDA, arguments("-device", "usb-storage,drive=libvirt-1-format"), "names libvirt-1-format"),
    (VDA, arguments("-readconfig", "/etc/qemu/nic.cfg"), "the argument -readconfig /etc/qemu/nic.cfg"),
    (SDA, arguments("-readconfig", "/etc/qemu/nic.cfg"), "whose file reclaim does not read"),
]


@pytest.mark.parametrize(("disk", "tail", "words"), BOUND)
def test_a_disk_to_which_something_is_bound_stays(tmp_path: Path, disk: str, tail: str, words: str) -> None:
    guest, definition = planned(tmp_path, tail, disk, scsi_xml())
    [target] = [one.target for one in definition.disks]
    said = refused(guest, definition, lambda: move_to_scsi(Disk(guest, target)))
    assert words in said
    assert said.endswith("take that out of the definition first, or leave the hardware as it is")


@pytest.mark.parametrize(
    "tail",
    [
        override("net0", "mac", 1),
        override("virtio-disk1", "logical_block_size", 4096),
        override("my-virtio-disk0", "logical_block_size", 4096),
        arguments("-set", "device.virtio-disk00.x=1"),
        arguments("-device", "isa-applesmc,osk=secret"),
        arguments("-fw_cfg", "name=opt/a,string=b", "-smbios", "type=2", "-cpu", "host,-hypervisor"),
        arguments("-global", "ICH9-LPC.disable_s3=1", "-global", "nvme.x=1"),
        arguments("-global", "scsi-hd.discard_granularity=65536"),
        arguments(*NIC, "e1000,netdev=n0,addr=0x5"),
        arguments(*NIC, "e1000,netdev=n0,bus=mine.0"),
        arguments("-device", "usb-tablet", "-device", "usb-host,vendorid=1", "-device", "virtconsole"),
        arguments("-device", "scsi-hd,drive=x,bus=own.0"),
        arguments("-drive", "if=pflash,file=/x", "-nic", "none", "-vga", "none"),
        arguments("-spice", "port=5900,disable-ticketing=on"),
    ],
)
def test_what_is_bound_to_something_else_keeps_no_disk(tmp_path: Path, tail: str) -> None:
    guest, definition = planned(tmp_path, tail, disk_xml(inner=pci(4)), scsi_xml())
    change = proposed(guest, definition, lambda: move_to_scsi(Disk(guest, "vda")))
    assert Definition(change.after).disk("sda").bus == "scsi"
    assert _values(change.after) == _values(f"<domain>{tail}</domain>")


@pytest.mark.parametrize(("name", "is_shared"), [("logical_block_size", True), ("num-queues", False)])
def test_an_alias_of_the_user_keeps_what_both_disks_have(tmp_path: Path, name: str, *, is_shared: bool) -> None:
    guest, definition = planned(tmp_path, override("ua-root", name, 4096), disk_xml(), scsi_xml())
    definition = Definition(definition.xml.replace("bus='virtio'/>", "bus='virtio'/><alias name='ua-root'/>", 1))

    def ask() -> list[Change]:
        return move_to_scsi(Disk(guest, "vda"))

    if is_shared:
        assert Definition(proposed(guest, definition, ask).after).disk("sda").bus == "scsi"
    else:
        assert "sets num-queues of ua-root, which a SCSI disk does not have" in refused(guest, definition, ask)


def test_a_part_of_a_disk_that_only_its_bus_has_is_named_by_path(tmp_path: Path) -> None:
    tail = arguments("-object", "x,id=o,path=/machine/peripheral/ua-root/virtio-backend")
    guest, definition = planned(tmp_path, tail, disk_xml(), scsi_xml())
    definition = Definition(definition.xml.replace("bus='virtio'/>", "bus='virtio'/><alias name='ua-root'/>", 1))
    assert "names ua-root/virtio-backend" in refused(guest, definition, lambda: move_to_scsi(Disk(guest, "vda")))


def test_a_disk_behind_a_port_leaves_no_slot(tmp_path: Path) -> None:
    behind = disk_xml(inner=pci(0).replace("bus='0x00'", "bus='0x03'"))
    guest, definition = planned(tmp_path, arguments(*NIC, "e1000,netdev=n0"), behind, scsi_xml(), machine="pc-q35-7.2")
    proposed(guest, definition, lambda: move_to_scsi(Disk(guest, "vda")))


# Controllers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        (arguments("-device", "virtio-scsi-pci,id=scsi0,addr=9"), "which would become the id of a new controller"),
        (arguments(*NIC, "e1000,netdev=n0"), "would move to"),
        (arguments("-readconfig", "/etc/qemu/nic.cfg"), "whose file reclaim does not read"),
        (override("virtio-disk0", "serial", 1), "names virtio-disk0"),
    ],
)
def test_no_controller_is_added_where_its_name_or_place_is_taken_or_no_disk_would_go_there(
    tmp_path: Path, tail: str, words: str
) -> None:
    guest, definition = planned(tmp_path, tail, disk_xml(inner=pci(4)), PCI_ROOT)
    assert words in refused(guest, definition, lambda: provide_virtio_scsi(guest))


@pytest.mark.parametrize("addr", ["0x5", "5", "05.0", "5.1"])
def test_a_slot_that_an_argument_names_is_passed_over(tmp_path: Path, addr: str) -> None:
    guest, definition = planned(tmp_path, arguments(*NIC, f"e1000,addr={addr}"), disk_xml(inner=pci(4)), PCI_ROOT)
    taken = Definition(
        definition.xml.replace("</devices>", f"<memballoon model='virtio'>{pci(3)}</memballoon></devices>")
    )
    change = proposed(guest, taken, lambda: provide_virtio_scsi(guest))
    [controller] = parse_xml(change.after, "x").iterfind("devices/controller[@model='virtio-scsi']")
    address = controller.find("address")
    assert address is not None
    assert (address.get("type"), address.get("slot")) == ("pci", "0x06")


def test_where_slots_are_not_all_of_one_bus_none_is_chosen(tmp_path: Path) -> None:
    tail = arguments(*NIC, "e1000,netdev=n0,addr=0x5")
    guest, definition = planned(tmp_path, tail, disk_xml("sda", "sata"), machine="pc-q35-7.2")
    assert "takes a PCI slot that libvirt does not know of" in refused(
        guest, definition, lambda: provide_virtio_scsi(guest)
    )


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        (override("scsi0-0-0", "logical_block_size", 4096), "names scsi0-0-0"),
        (arguments("-set", "device.scsi0.x=1"), "names scsi0"),
        (arguments("-device", "scsi-cd,bus=scsi0.0,drive=x"), "names scsi0"),
        (arguments("-global", "lsi53c895a.x=1"), "which is lost on a virtio-scsi controller"),
    ],
)
def test_a_controller_to_which_something_is_bound_stays_as_it_is(tmp_path: Path, tail: str, words: str) -> None:
    guest, definition = planned(tmp_path, tail, disk_xml("sda", "scsi", inner=drive(0)), LSILOGIC)
    assert words in refused(guest, definition, lambda: provide_virtio_scsi(guest))


def named(controller: str) -> str:
    """The controller with an alias of the user's."""
    return controller.replace("/>", "><alias name='ua-own'/></controller>")


def aliased(definition: Definition) -> Definition:
    """With an alias of the user's for its SCSI controller."""
    edit = definition.edit()
    for old in edit.devices.iterfind("controller[@type='scsi']"):
        old.insert(0, old.makeelement("alias", {"name": "ua-own"}))
    return Definition(changed_definition(edit).after)


@pytest.mark.parametrize(("bus", "is_taken"), [("ua-own.0", True), ("scsi0.0", False)])
def test_a_controller_has_the_name_that_the_user_gave_it(tmp_path: Path, bus: str, *, is_taken: bool) -> None:
    tail = arguments("-device", f"scsi-hd,drive=x,bus={bus},scsi-id=0")
    guest, definition = planned(tmp_path, tail, VDA, scsi_xml())
    if is_taken:
        assert PLACE in refused(guest, aliased(definition), lambda: move_to_scsi(Disk(guest, "vda")))
    else:
        proposed(guest, aliased(definition), lambda: move_to_scsi(Disk(guest, "vda")))


def test_a_controller_that_is_named_as_the_user_calls_it_stays_as_it_is(tmp_path: Path) -> None:
    tail = arguments("-set", "device.ua-own.x=1")
    guest, definition = planned(tmp_path, tail, disk_xml("sda", "scsi", inner=drive(0)), LSILOGIC)
    assert "names ua-own" in refused(guest, aliased(definition), lambda: provide_virtio_scsi(guest))


def test_an_agents_channel_brings_a_controller_too(tmp_path: Path) -> None:
    guest, definition = planned(tmp_path, arguments(*NIC, "e1000,netdev=n0,addr=0x5"), disk_xml())
    guest._facts = None
    guest.hypervisor.is_test_driver = True
    guest.__dict__["look_inside"] = lambda: None
    assert "takes a PCI slot" in refused(guest, definition, lambda: add_agent_channel(guest))
    has = Definition(definition.xml.replace("</devices>", "<controller type='virtio-serial' index='0'/></devices>"))
    proposed(guest, has, lambda: add_agent_channel(guest))


@pytest.mark.parametrize(
    ("option", "value", "is_named"),
    [
        ("-M", "pc-1.0", True),
        ("-machine", "pc-i440fx-1.4,accel=kvm", True),
        ("-machine", "accel=kvm,type=pc", True),
        ("-machine", "vmport=off", False),
        ("-device", "e1000", False),
    ],
)
def test_a_machine_type_that_an_argument_names_is_not_the_definitions(
    tmp_path: Path, option: str, value: str, *, is_named: bool
) -> None:
    guest, definition = planned(tmp_path, arguments(option, value), disk_xml(), machine="pc-i440fx-1.6")
    if is_named:
        said = refused(guest, definition, lambda: raise_machine_type(guest))
        assert f"the argument {option} {value} of qemu:commandline names a machine type" in said
    else:
        proposed(guest, definition, lambda: raise_machine_type(guest))


def test_force_does_not_overrule_it(tmp_path: Path) -> None:
    guest, definition = planned(tmp_path, override("virtio-disk0", "serial", 1), disk_xml(), scsi_xml())
    run = engine(guest.hypervisor, tmp_path, "plan", force=True)
    run._planned[guest.name] = definition
    result = run.run(requirement("disk-bus"), subject(guest, "vda"))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert "withheld: qemu:override (serial) names virtio-disk0" in result.reason
    assert "forced" not in result.reason


# Disks that libvirt knows nothing of ----------------------------------------------------------


def test_they_have_one_row_that_says_that_nobody_judged_them(tmp_path: Path) -> None:
    tail = arguments("-device", "nvme,drive=a,serial=1")
    guest, definition = planned(tmp_path, tail, disk_xml(driver="discard='unmap'"), scsi_xml())
    guest.__dict__["persistent"] = definition
    rows = walk(engine(guest.hypervisor, tmp_path, "audit"), guest, "disk-discard", "disk-bus", "scsi-controller")
    unknown = [row for row in rows if row.disk == UNKNOWN_DISKS]
    assert [(row.requirement, row.verdict) for row in unknown] == [("disk-discard", Verdict.NOT_ASSESSABLE)]
    assert "the argument -device nvme,drive=a,serial=1 of qemu:commandline" in unknown[0].reason
    waits = engine(guest.hypervisor, tmp_path, "audit")._waits_for(requirement("trim-backlog"), subject(guest, "vda"))
    assert "disk-discard" not in [slug for slug, _ in waits], "nobody waits for it"


# Names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("xml", "name"),
    [
        (disk_xml("vda"), "virtio-disk0"),
        (disk_xml("vdaa"), "virtio-disk26"),
        (disk_xml("xvda"), "virtio-disk0"),
        (disk_xml("sdb", "usb"), "usb-disk1"),
        (disk_xml("hdd", "ide"), "ide0-1-1"),
        (disk_xml("sdc", "sata"), "sata0-0-2"),
        (disk_xml("sda", "sata", inner=drive(4)), "sata0-0-4"),
        (disk_xml("sda", "scsi", inner=drive(3)), "scsi0-0-0-3"),
        (disk_xml("vda", inner="<alias name='ua-x'/>"), "ua-x"),
    ],
)
def test_what_libvirt_calls_a_disk(xml: str, name: str) -> None:
    definition = Definition(domain_xml(xml, scsi_xml()))
    assert bound.alias(definition.all_disks[0], definition) == name
    on_lsilogic = Definition(domain_xml(disk_xml("sda", "scsi", inner=drive(3)), LSILOGIC))
    assert bound.alias(on_lsilogic.all_disks[0], on_lsilogic) == "scsi0-0-3"
