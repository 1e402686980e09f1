"""Definitions: read strictly, and edited so that all else stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reclaim.base.errors import ProbeError
from reclaim.definition.compare import missing_from
from reclaim.definition.domain import Definition, backing_stores, parse_xml
from tests.support import definition_of, disk_xml, domain_xml, opened, scsi_xml

if TYPE_CHECKING:
    from pathlib import Path

METADATA = (
    "<app:note xmlns:app='http://app.example/1'><!-- kept: why -->"
    "<app:owner id='7'>ops &amp; co</app:owner><![CDATA[a<b]]></app:note>"
)
QEMU = (
    "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
    "<qemu:arg value='-x'/></qemu:commandline>"
)
GRAPHICS = "<graphics type='vnc' port='5901' passwd='hunter2'/>"


def _whole() -> str:
    xml = domain_xml(disk_xml(), GRAPHICS, disk_xml("vdb"), scsi_xml(), metadata=METADATA)
    return xml.replace("</domain>", f"{QEMU}</domain>")


def test_an_edit_changes_what_it_names_and_keeps_every_other_byte() -> None:
    before = Definition(_whole())
    edit = before.edit()
    edit.driver(edit.disk("vdb")).set("discard", "unmap")
    untouched = before.edit().definition.xml
    assert untouched.replace('"', "'").count("<!-- kept: why -->") == 1
    head, _, tail = untouched.rpartition('<driver name="qemu" type="qcow2"/>')
    assert edit.definition.xml == f'{head}<driver name="qemu" type="qcow2" discard="unmap"/>{tail}'


@pytest.mark.parametrize(
    "kept",
    [
        "<!-- kept: why -->",
        'xmlns:app="http://app.example/1"',
        '<app:owner id="7">ops &amp; co</app:owner>',
        'xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0"',
        '<qemu:arg value="-x"/>',
        'passwd="hunter2"',
    ],
)
def test_an_edit_keeps(kept: str) -> None:
    edit = Definition(_whole()).edit()
    edit.disk("vda").set("device", "disk")
    assert kept in edit.definition.xml


def test_an_edit_leaves_the_definition_it_came_from() -> None:
    definition = Definition(_whole())
    edit = definition.edit()
    edit.remove(edit.disk("vda"))
    assert [disk.target for disk in definition.disks] == ["vda", "vdb"]
    assert [disk.target for disk in edit.definition.disks] == ["vdb"]


def test_a_definition_goes_through_libvirt_and_keeps_metadata_and_passwords(tmp_path: Path) -> None:
    hypervisor = opened(tmp_path, domain_xml(disk_xml(), GRAPHICS, metadata=METADATA))
    guest = hypervisor.guests[0]
    before = definition_of(guest)
    edit = before.edit()
    edit.driver(edit.disk("vda")).set("discard", "unmap")
    hypervisor.connection.defineXML(edit.definition.xml)
    after = definition_of(guest)
    assert "<!-- kept: why -->" in after.xml
    assert "passwd='hunter2'" in after.xml
    assert missing_from(after, edit.definition) == []


def test_a_device_is_added_beside_its_like() -> None:
    edit = Definition(domain_xml(scsi_xml(), GRAPHICS)).edit()
    edit.add_device("controller", {"type": "scsi", "index": "1"})
    edit.add_device("channel", {"type": "unix"})
    assert [str(child.tag) for child in edit.devices] == [
        "emulator",
        "controller",
        "controller",
        "graphics",
        "channel",
    ]


def test_the_root_cannot_be_removed() -> None:
    edit = Definition(domain_xml()).edit()
    with pytest.raises(ValueError, match="root"):
        edit.remove(edit.root)


@pytest.mark.parametrize("xml", ["", "<domain>", "<a></b>", "<domain>\x00</domain>"])
def test_what_is_no_xml_is_a_probe_error(xml: str) -> None:
    with pytest.raises(ProbeError):
        _ = Definition(xml).root


def test_a_huge_document_is_not_read() -> None:
    with pytest.raises(ProbeError, match="more than reclaim reads"):
        parse_xml("<a>" + "x" * 8 * 1024 * 1024 + "</a>", "a")


def test_entities_are_not_resolved(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2", encoding="utf-8")
    xml = f"<!DOCTYPE domain [<!ENTITY e SYSTEM 'file://{secret}'>]><domain><name>&e;</name></domain>"
    assert "hunter2" not in Definition(xml).name


def test_a_disk_that_is_not_there_is_a_probe_error() -> None:
    definition = Definition(domain_xml(disk_xml()))
    with pytest.raises(ProbeError, match="no disk vdz"):
        definition.disk("vdz")
    with pytest.raises(ProbeError, match="no disk vdz"):
        definition.edit().disk("vdz")


def test_a_chain_of_backing_files_is_walked_down_to_its_base() -> None:
    base = "<backingStore type='file'><source file='/b'/></backingStore>"
    chain = f"<backingStore type='file'><source file='/a'/>{base}</backingStore>"
    files = [store.find("source") for store in backing_stores(parse_xml(f"<disk>{chain}</disk>", "x"))]
    assert [file is not None and file.get("file") for file in files] == ["/a", "/b"]
    assert list(backing_stores(parse_xml("<disk/>", "x"))) == []
    assert len(list(backing_stores(parse_xml("<disk><backingStore/></disk>", "x")))) == 1
