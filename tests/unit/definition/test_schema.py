"""The element of a definition that libvirt's schema refuses, by the schema that libvirt brings."""

from __future__ import annotations

import pytest

from reclaim.definition import schema
from reclaim.definition.domain import Definition
from tests.support import disk_xml, domain_xml, scsi_xml

ODD_DISK = disk_xml("sda", "sata").replace("/images/sda.qcow2", "OpenCore.qcow2")


def _real(xml: str) -> Definition:
    return Definition(xml.replace("type='test'", "type='qemu'", 1).replace("<metadata></metadata>", ""))


def test_a_definition_as_libvirt_makes_it_is_taken() -> None:
    assert schema.refused_element(_real(domain_xml(disk_xml(), scsi_xml()))) is None


@pytest.mark.parametrize(
    ("xml", "element"),
    [
        pytest.param(
            domain_xml(disk_xml(), ODD_DISK),
            '<source file="OpenCore.qcow2"/> in domain/devices/disk',
            id="relative-path",
        ),
        pytest.param(
            domain_xml(disk_xml()).replace("<os>", "<os><nvram>VARS.fd</nvram>"),
            "<nvram>VARS.fd</nvram> in domain/os",
            id="relative-nvram",
        ),
        pytest.param(
            domain_xml(disk_xml()).replace("/usr/bin/qemu-system-x86_64", "qemu-kvm"),
            "<emulator>qemu-kvm</emulator> in domain/devices",
            id="relative-emulator",
        ),
        pytest.param(
            domain_xml(disk_xml(inner="<serial>odd*</serial>")),
            "<serial>odd*</serial> in domain/devices/disk",
            id="serial",
        ),
        pytest.param(
            domain_xml(disk_xml(), "<invented passwd='xyzzy-1'>xyzzy-2</invented>"),
            '<invented passwd="…">…</invented> in domain/devices',
            id="unknown-element",
        ),
        pytest.param(domain_xml(disk_xml()).replace("<os>", "<foo/><os>"), "<foo/> in domain", id="at-the-top"),
        pytest.param(
            domain_xml(disk_xml(driver="discard='sometimes'")),
            '<driver name="qemu" type="qcow2" discard="sometimes"/> in domain/devices/disk',
            id="value",
        ),
    ],
)
def test_the_innermost_element_at_fault_is_named(xml: str, element: str) -> None:
    assert schema.refused_element(_real(xml)) == element


def test_of_several_the_first_is_named_and_the_others_counted() -> None:
    others = [ODD_DISK.replace("sda", target) for target in ("sdb", "sdc")]
    several = _real(domain_xml(disk_xml(), ODD_DISK, *others))
    assert schema.refused_element(several) == '<source file="OpenCore.qcow2"/> in domain/devices/disk and 2 more'


@pytest.mark.parametrize(
    ("xml", "element"),
    [
        pytest.param(
            domain_xml(disk_xml(), ODD_DISK).replace("<os>", "<os><nvram>VARS.fd</nvram>"),
            "<nvram>VARS.fd</nvram> in domain/os and 1 more",
            id="two-sections",
        ),
        pytest.param(
            domain_xml(disk_xml(), ODD_DISK).replace("<os>", "<foo/><os><nvram>VARS.fd</nvram>"),
            "<foo/> in domain and 2 more",
            id="three-sections",
        ),
        pytest.param(
            domain_xml(disk_xml()).replace(
                "</os>", "<loader readonly='yes' type='pflash'>CODE.fd</loader><nvram>VARS.fd</nvram></os>"
            ),
            '<loader readonly="yes" type="pflash">CODE.fd</loader> in domain/os and 1 more',
            id="beside-one-that-must-be-there",
        ),
    ],
)
def test_faults_in_several_sections_are_named_and_counted(xml: str, element: str) -> None:
    assert schema.refused_element(_real(xml)) == element


def test_an_element_that_must_be_there_is_named_by_the_one_that_it_is_in() -> None:
    assert schema.refused_element(_real(domain_xml(disk_xml()).replace("hvm", "nothing"))) == "<os/> in domain"


def test_if_the_fault_lies_with_no_element_alone_none_is_named() -> None:
    assert schema.refused_element(_real("<domain type='qemu'/>")) == ""


def test_the_definition_itself_is_left_as_it_is() -> None:
    definition = _real(domain_xml(disk_xml(), ODD_DISK))
    before = definition.xml
    schema.refused_element(definition)
    assert definition.xml == before


def test_without_a_schema_at_hand_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_schema", lambda: None)
    assert schema.refused_element(_real(domain_xml(ODD_DISK))) is None
