"""QEMU's own arguments in a definition: their grammar, the names in them, and all that they bring and take."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import pytest

from reclaim.definition import qemuargs
from reclaim.definition.domain import parse_xml
from reclaim.definition.qemuargs import Argument
from tests.corpus.variants import QEMU, arguments, override

if TYPE_CHECKING:
    from collections.abc import Callable

    from reclaim.definition.domain import Element


def given(*values: str) -> Element:
    """A definition in which QEMU is given these arguments."""
    return parse_xml(f"<domain>{arguments(*(html.escape(value) for value in values))}</domain>", "x")


def overridden(alias: str, name: str) -> Element:
    return parse_xml(f"<domain>{override(alias, name, 1)}</domain>", "x")


@pytest.mark.parametrize(
    ("values", "count"),
    [
        (["-drive", "if=none,file=/dev/nvme0n1,id=a", "-device", "nvme,drive=a"], 2),
        (["-drive", "file=/x,media=cdrom"], 0),
        (["-drive", "file=/x,readonly=on"], 0),
        (["-drive", "if=pflash,file=/x"], 0),
        (["-hda", "/x.img"], 1),
        (["-cdrom", "/x.iso"], 0),
        (["-blockdev", '{"driver":"file","filename":"/x","node-name":"n"}'], 1),
        (["-blockdev", "driver=file,filename=/x,read-only=on,node-name=n"], 0),
        (["-device", "virtio-blk-pci,drive=n"], 1),
        (["-device", '{"driver":"scsi-hd","drive":"n"}'], 1),
        (["--device", "usb-storage,drive=n"], 1),
        (["-device", "ide-cd,drive=n"], 0),
        (["-device", "e1000"], 0),
        (["-device", "[1"], 0),
        (["-device", "{"], 0),
        (["-device"], 0),
        (["/dev/sdb"], 1),
        (["-snapshot", "/x.img"], 1),
        (["-name", "x", "/x.img"], 1),
        (["-name", "x"], 0),
        (["-device", "ufs-lu,drive=d"], 1),
    ],
)
def test_which_arguments_bring_a_disk(values: list[str], count: int) -> None:
    root = parse_xml(f"<domain>{arguments(*values)}</domain>".replace('"', "&quot;"), "x")
    assert len(qemuargs.disks(root)) == count


def test_a_password_is_not_shown() -> None:
    root = parse_xml(f"<domain>{arguments('-drive', 'file=rbd:a,password-secret=s,password=hunter2')}</domain>", "x")
    assert "hunter2" not in "".join(qemuargs.disks(root))


# The grammar ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "read"),
    [
        (("-device", "e1000"), [("device", "e1000")]),
        (("--device", "e1000", "-S", "-vga", "none"), [("device", "e1000"), ("S", ""), ("vga", "none")]),
        (("-snapshot", "/x.img"), [("snapshot", ""), ("hda", "/x.img")]),
        (("-no-hpet", "-nographic"), [("no-hpet", ""), ("nographic", "")]),
        (("-name", "x", "/x.img"), [("name", "x"), ("hda", "/x.img")]),
        (("-m", "-"), [("m", "-")]),
        (("-1", "-drive"), [("hda", "-1"), ("drive", "")]),
        (("",), []),
        ((), []),
    ],
)
def test_options_and_their_values(values: tuple[str, ...], read: list[tuple[str, str]]) -> None:
    assert qemuargs.arguments(given(*values)) == read


@pytest.mark.parametrize(
    ("value", "properties"),
    [
        ("virtio-scsi-pci,id=a,addr=0x5", {"": "virtio-scsi-pci", "id": "a", "addr": "0x5"}),
        ("driver=e1000,id=a", {"driver": "e1000", "id": "a"}),
        ("file=/a,,b,if=none", {"file": "/a,b", "if": "none"}),
        ("a=1,a=2,flag", {"a": "1", "flag": ""}),
        ("a=b=c", {"a": "b=c"}),
        ('{"driver":"qcow2","file":{"filename":"/x"}}', {"driver": "qcow2", "file.filename": "/x"}),
        ('{"children":[{"driver":"a"},{"driver":"b"}]}', {"children.0.driver": "a", "children.1.driver": "b"}),
        ('{"read-only":true,"n":1}', {"read-only": "True", "n": "1"}),
        ("{", {}),
        ("{1}", {}),
        ('{"a":' * 5000, {}),
    ],
)
def test_properties_of_either_form(value: str, properties: dict[str, str]) -> None:
    assert Argument("device", value).properties == properties


def test_an_argument_with_more_properties_than_any_device_is_not_taken_apart_further() -> None:
    assert len(Argument("device", ",".join(f"p{number}=1" for number in range(2000))).properties) == 500


@pytest.mark.parametrize(
    ("value", "driver"),
    [
        ("e1000,id=a", "e1000"),
        ("id=a,driver=e1000", "e1000"),
        ("qom-type=iothread,id=a", "iothread"),
        ("driver=,qom-type=x", "x"),
        ("id=a", ""),
    ],
)
def test_the_driver_of_an_argument(value: str, driver: str) -> None:
    assert Argument("device", value).driver == driver


def test_the_words_of_an_argument_are_short_and_on_one_line() -> None:
    assert Argument("S", "").words == "the argument -S of qemu:commandline"
    assert "-device e1000" in Argument("device", "e1000").words
    long = Argument("device", "e\n" * 5000).words
    assert "\n" not in long
    assert "…" in long
    assert len(long) < 160
    assert "…" not in Argument("d", "x" * 90).words


@pytest.mark.parametrize(
    ("inner", "is_there"),
    [
        (arguments(), True),
        (override("a", "b", 1), True),
        ("", False),
        ("<commandline><arg value='-x'/></commandline>", False),
    ],
)
def test_arguments_are_told_by_their_namespace(inner: str, *, is_there: bool) -> None:
    assert qemuargs.is_there(parse_xml(f"<domain>{inner}</domain>", "x")) is is_there


def test_an_override_has_an_alias_and_properties() -> None:
    assert qemuargs.overrides(overridden("virtio-disk0", "serial")) == [("virtio-disk0", frozenset({"serial"}))]
    assert qemuargs.overrides(given("-S")) == []


# Names ----------------------------------------------------------------------------------------


def with_a_variable(value: str) -> Element:
    return parse_xml(
        f"<domain><q:commandline xmlns:q='{QEMU}'><q:env name='NAME' value='{value}'/></q:commandline></domain>", "x"
    )


@pytest.mark.parametrize(
    ("root", "name"),
    [
        (given("-set", "device.virtio-disk0.serial=x"), "virtio-disk0"),
        (given("-device", "x,drive=drive-virtio-disk0"), "drive-virtio-disk0"),
        (given("-device", "x,drive=my-virtio-disk0"), None),
        (given("-device", "x,drive=virtio-disk00"), None),
        (given("-device", "x,drive=virtio-disk0-x"), None),
        (overridden("virtio-disk0", "serial"), "virtio-disk0"),
        (overridden("virtio-disk1", "virtio-disk0"), None),
        (with_a_variable("a=virtio-disk0"), "virtio-disk0"),
        (with_a_variable("virtio_disk0"), None),
    ],
)
def test_a_name_is_found_whole_wherever_a_name_can_stand(root: Element, name: str | None) -> None:
    said = qemuargs.naming(root, ["virtio-disk0"])
    assert (said is None) is (name is None)
    assert said is None or said.endswith(f"names {name}")


def test_no_names_are_named_by_nothing_and_a_name_is_no_pattern() -> None:
    assert qemuargs.naming(given("-device", "x"), []) is None
    assert qemuargs.naming(given("-device", "abc"), ["a.c"]) is None
    said = qemuargs.naming(given("-device", "b"), ["a", "b"])
    assert said is not None
    assert said.endswith("names b")


@pytest.mark.parametrize(
    ("value", "is_named"),
    [
        ("usb-storage,drive=libvirt-1-format", True),
        ("x,drive=libvirt-12-storage", True),
        ("x,drive=libvirt-1-slice", True),
        ("x,drive=libvirt-format", False),
        ("x,drive=my-libvirt-1-format", False),
        ("x,drive=libvirt-1-formats", False),
    ],
)
def test_a_block_node_is_named_by_its_number(value: str, *, is_named: bool) -> None:
    said = qemuargs.naming_a_node(given("-device", value))
    assert (said is not None) is is_named
    assert said is None or "names libvirt-1" in said


@pytest.mark.parametrize(
    ("value", "properties", "is_set"),
    [
        ("virtio-blk-pci.serial=x", (), True),
        ("virtio-blk-pci.serial=x", ("serial",), True),
        ("virtio-blk-pci.serial=x", ("other",), False),
        ("driver=virtio-blk-pci,property=serial,value=x", ("serial",), True),
        ("driver=virtio-blk-pci,property=serial,value=x", ("x",), False),
        ("driver=virtio-blk-pci,value=x", (), True),
        ("nvme.serial=x", (), False),
        ("my-virtio-blk-pci.serial=x", (), False),
        ("virtio-blk-pci.a=b.c", ("a",), True),
    ],
)
def test_a_property_that_is_set_globally(value: str, properties: tuple[str, ...], *, is_set: bool) -> None:
    said = qemuargs.setting_globally(given("-S", "-global", value), r"virtio-blk(-.*)?", properties)
    assert (said is not None) is is_set
    assert qemuargs.setting_globally(given("-set", value), r"virtio-blk(-.*)?", properties) is None


@pytest.mark.parametrize(
    ("option", "value", "is_named"),
    [
        ("-M", "pc", True),
        ("-machine", "accel=kvm,type=pc", True),
        ("-machine", "accel=kvm", False),
        ("-device", "pc", False),
    ],
)
def test_a_machine_type_in_an_argument(option: str, value: str, *, is_named: bool) -> None:
    assert (qemuargs.naming_a_machine(given(option, value)) is not None) is is_named


# Places ---------------------------------------------------------------------------------------

READ = ("-readconfig", "/etc/qemu.cfg")


@pytest.mark.parametrize(
    ("values", "takes", "first"),
    [
        (("-device", "e1000,netdev=n"), True, True),
        (("-device", "e1000,netdev=n,addr=0x5"), True, False),
        (("-device", "e1000,bus=pci.0"), True, True),
        (("-device", "e1000,bus=pcie.0,addr=3"), True, False),
        (("-device", "e1000,bus=pci.1x"), False, False),
        (("-device", "e1000,bus=mine.0"), False, False),
        (("-device", "usb-tablet"), False, False),
        (("-device", "usb-ehci"), True, True),
        (("-device", "scsi-hd,drive=d"), False, False),
        (("-device", "isa-serial"), False, False),
        (("-net", "nic,model=e1000"), True, True),
        (("-net", "user"), False, False),
        (("-drive", "if=virtio,file=/x"), True, True),
        (("-drive", "if=scsi,file=/x"), True, True),
        (("-drive", "if=none,file=/x"), False, False),
        (("-vga", "std"), True, True),
        (("-vga", "none"), False, False),
        (("-watchdog", "i6300esb"), True, True),
        (("-spice", "port=1"), False, False),
        (READ, True, True),
    ],
)
def test_pci_slots_that_arguments_take(values: tuple[str, ...], *, takes: bool, first: bool) -> None:
    root = given("-S", *values)
    assert (qemuargs.taking_a_slot(root) is not None) is takes
    assert (qemuargs.taking_the_first_free_slot(root) is not None) is first


def test_a_file_of_arguments_is_told_and_not_read() -> None:
    assert "/etc/qemu.cfg" in str(qemuargs.reading_a_file(given(*READ)))
    assert qemuargs.reading_a_file(given("-device", "e1000")) is None


def test_slots_are_hexadecimal_and_those_of_other_buses_do_not_count() -> None:
    addresses = ("0x5", "1f", "0a.0", "7.1", "zz", "123")
    values = [word for address in addresses for word in ("-device", f"e1000,addr={address}")]
    assert qemuargs.slots(given(*values, "-device", "e1000,bus=mine.0,addr=9")) == {5, 0x1F, 10, 7}


@pytest.mark.parametrize(
    ("value", "is_on"),
    [
        ("scsi-hd,drive=d", True),
        ("scsi-cd,bus=scsi0.0", True),
        ("scsi-hd,bus=scsi1.0", False),
        ("ide-hd,drive=d", False),
    ],
)
def test_a_device_on_a_scsi_controller(value: str, *, is_on: bool) -> None:
    assert (qemuargs.on_scsi_bus(given("-device", value), "scsi0") is not None) is is_on
    assert qemuargs.on_scsi_bus(given("-drive", value), "scsi0") is None


@pytest.mark.parametrize(
    ("value", "takes"),
    [
        ("ide-hd,drive=d", True),
        ("ide-cd,bus=ide.0", True),
        ("ide-hd,bus=ide.0,unit=1", False),
        ("scsi-hd", False),
    ],
)
def test_a_device_that_takes_the_first_place_on_an_ide_bus(value: str, *, takes: bool) -> None:
    assert (qemuargs.on_ide_bus(given("-device", value)) is not None) is takes


# Disks, images, devices of the host -----------------------------------------------------------


@pytest.mark.parametrize("word", ["on", "true", "True", "YES", ""])
def test_a_disk_that_is_only_read_is_none(word: str) -> None:
    assert qemuargs.disks(given("-drive", f"file=/x,readonly={word}")) == []
    assert qemuargs.disks(given("-blockdev", f"driver=file,filename=/x,read-only={word}")) == []
    assert len(qemuargs.disks(given("-drive", "file=/x,readonly=off"))) == 1


def test_a_floppy_is_no_disk() -> None:
    assert qemuargs.disks(given("-drive", "if=floppy,file=/x", "-fda", "/x")) == []


@pytest.mark.parametrize(
    ("values", "images"),
    [
        (("-hda", "/x"), [("/x", False)]),
        (("-cdrom", "/x"), [("/x", True)]),
        (("-pflash", "/x"), [("/x", False)]),
        (("/dev/sdb",), [("/dev/sdb", False)]),
        (("-drive", "file=file:/x,format=raw"), [("/x", False)]),
        (("-drive", "file=/x,media=cdrom"), [("/x", True)]),
        (("-drive", "file=/x,readonly=on"), [("/x", True)]),
        (("-drive", "file.driver=file,file.filename=/x,file.read-only=on"), [("/x", True)]),
        (("-blockdev", '{"driver":"qcow2","file":{"driver":"file","filename":"/x"}}'), [("/x", False)]),
        (("-blockdev", '{"driver":"raw","backing":{"file":{"filename":"/x"}}}'), [("/x", False)]),
        (("-blockdev", "driver=io_uring,path=/dev/x"), [("/dev/x", False)]),
        (("-blockdev", "driver=nbd,path=/socket"), []),
        (("-blockdev", "driver=rbd,pool=p,image=i"), [("rbd:p/i", False)]),
        (("-object", "memory-backend-file,mem-path=/x,share=on"), [("/x", False)]),
        (("-object", "memory-backend-file,mem-path=/x"), [("/x", True)]),
        (("-object", "memory-backend-file,mem-path=/x,share=on,readonly=on"), [("/x", True)]),
        (("-object", "memory-backend-file,mem-path=/dev/shm/x,share=on"), []),
        (("-object", "iothread,id=x"), []),
        (("-device", "e1000"), []),
    ],
)
def test_the_files_that_arguments_open(values: tuple[str, ...], images: list[tuple[str, bool]]) -> None:
    assert qemuargs.images(given(*values)) == images


@pytest.mark.parametrize(
    "values",
    [
        ("-device", "vfio-pci,host=01:00.0"),
        ("-device", "usb-host,vendorid=1"),
        ("-netdev", "vhost-vdpa,id=n,vhostdev=/dev/x"),
        ("-netdev", "type=vhost-vdpa,id=n"),
        ("-tpmdev", "passthrough,id=t"),
        ("-object", "input-linux,id=i,evdev=/dev/x"),
        ("-object", "memory-backend-file,mem-path=/dev/dax0.0"),
        ("-object", "memory-backend-file,mem-path=/dev/pmem0"),
        ("-mem-path", "/dev/pmem0"),
        ("-serial", "/dev/ttyS0"),
        ("-usbdevice", "host:1.2"),
        ("-chardev", "serial,id=c,path=/dev/ttyS0"),
        ("-chardev", '{"id":"c","backend":{"type":"parallel"}}'),
        ("-chardev", "backend=tty,id=c"),
        ("-drive", "file=nvme://0000:01:00.0/1"),
        ("-blockdev", "driver=raw,file.driver=nvme,file.device=0000:01:00.0"),
        ("-blockdev", "driver=virtio-blk-vfio-pci,path=/sys/x"),
        READ,
    ],
)
def test_an_argument_that_takes_a_device_of_the_host(values: tuple[str, ...]) -> None:
    assert len(qemuargs.host_devices(given("-S", *values))) == 1


@pytest.mark.parametrize(
    "values",
    [
        ("-device", "e1000"),
        ("-netdev", "user,id=n"),
        ("-tpmdev", "emulator,id=t"),
        ("-object", "memory-backend-file,mem-path=/dev/shm/x"),
        ("-mem-path", "/dev/hugepages"),
        ("-serial", "pty"),
        ("-chardev", "pty,id=c"),
        ("-drive", "file=/x"),
        ("-blockdev", "driver=file,filename=/x"),
    ],
)
def test_an_argument_that_takes_none(values: tuple[str, ...]) -> None:
    assert qemuargs.host_devices(given(*values)) == []


QUESTIONS: list[Callable[[Element], object]] = [
    qemuargs.arguments,
    qemuargs.overrides,
    qemuargs.naming_a_node,
    qemuargs.naming_a_machine,
    qemuargs.taking_a_slot,
    qemuargs.slots,
    qemuargs.on_ide_bus,
    qemuargs.disks,
    qemuargs.images,
    qemuargs.host_devices,
]


@pytest.mark.parametrize("ask", QUESTIONS, ids=lambda ask: ask.__name__)
def test_a_definition_without_arguments_has_nothing_of_them(ask: Callable[[Element], object]) -> None:
    assert not ask(parse_xml("<domain/>", "x"))
