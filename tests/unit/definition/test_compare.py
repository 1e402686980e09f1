"""Two definitions beside each other: the same elements, those that libvirt dropped, settings that differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reclaim.definition.compare import diff_definitions, missing_from, same, storage_differences
from reclaim.definition.domain import Definition
from tests.support import definition_of, disk_xml, domain_xml, drive, opened, scsi_xml

if TYPE_CHECKING:
    from pathlib import Path

GRAPHICS = "<graphics type='vnc' port='5901' passwd='hunter2'/>"


@pytest.mark.parametrize(
    ("wanted", "kept", "lost"),
    [
        pytest.param("<a x='1' y='2'/>", "<a x='1'/>", ["d/a x='1' y='2'"], id="an-attribute"),
        pytest.param("<a x='1'/>", "<a x='2'/>", ["d/a x='1'"], id="another-value"),
        pytest.param("<a/><b/>", "<a/>", ["d/b"], id="an-element"),
        pytest.param("<a/><a/>", "<a/>", ["d/a"], id="one-of-two"),
        pytest.param("<a>t</a>", "<a/>", ["d/a"], id="text"),
        pytest.param("<a><b/></a>", "<a/><b/>", ["d/a/b"], id="elsewhere"),
        pytest.param("<a x='1'/>", "<a x='1' y='2'/><b/>", [], id="libvirt-added"),
        pytest.param("<a/><b/>", "\n<b/>\n <a/>", [], id="order-and-white-space"),
        pytest.param("<a x='1'/><a x='1' y='2'/>", "<a x='1' y='2'/><a x='1'/>", [], id="plain-one-first"),
        pytest.param("<a/><a x='1'/>", "<a x='1'/><a z='9'/>", [], id="a-plain-one-got-more"),
        pytest.param("<a/><!-- c -->", "<a/>", [], id="comment"),
    ],
)
def test_missing_from(wanted: str, kept: str, lost: list[str]) -> None:
    assert missing_from(Definition(f"<d>{kept}</d>"), Definition(f"<d>{wanted}</d>")) == lost


def test_libvirt_drops_what_it_does_not_know_and_that_is_found(tmp_path: Path) -> None:
    hypervisor = opened(tmp_path, domain_xml(disk_xml()))
    edit = definition_of(hypervisor.guests[0]).edit()
    edit.driver(edit.disk("vda")).set("discard_no_such", "on")
    hypervisor.connection.defineXML(edit.definition.xml)
    [lost] = missing_from(definition_of(hypervisor.guests[0]), edit.definition)
    assert lost == "domain/devices/disk/driver name='qemu' type='qcow2' discard_no_such='on'"


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        pytest.param("<a/><b/>", " <b></b>\n<a/>", True, id="order-and-white-space"),
        pytest.param("<a x='1' y='2'/>", "<a y='2' x='1'/>", True, id="attributes"),
        pytest.param("<a/>", "<a x='1'/>", False, id="one-attribute-more"),
        pytest.param("<a/>", "<a/><a/>", False, id="one-element-more"),
        pytest.param("<a>t</a>", "<a>u</a>", False, id="text"),
    ],
)
def test_same(one: str, other: str, *, equal: bool) -> None:
    assert same(Definition(f"<d>{one}</d>"), Definition(f"<d>{other}</d>")) is equal


def test_a_diff_beside_a_password_does_not_show_it() -> None:
    before = Definition(domain_xml(GRAPHICS))
    edit = before.edit()
    element = edit.devices.find("graphics")
    assert element is not None
    element.set("port", "5902")
    shown = diff_definitions(before, edit.definition)
    assert "5902" in shown
    assert "hunter2" not in shown


def test_the_same_definition_has_no_differences() -> None:
    definition = Definition(domain_xml(disk_xml(), scsi_xml()))
    assert storage_differences(definition, definition) == []


@pytest.mark.parametrize(
    ("live", "persistent", "words"),
    [
        pytest.param([disk_xml()], [disk_xml(driver="cache='none'")], [], id="cache-is-no-storage-setting"),
        pytest.param(
            [disk_xml()],
            [disk_xml("sda", "scsi", "/images/vda.qcow2", inner=drive(0))],
            ["disk sda: bus runs as virtio, is defined as scsi"],
            id="the-same-image-under-another-name",
        ),
        pytest.param(
            [scsi_xml(0, "lsilogic")],
            [scsi_xml(0)],
            ["controller scsi 0 runs as lsilogic, is defined as virtio-scsi"],
            id="controller-model",
        ),
        pytest.param(
            [], [scsi_xml(0, None)], ["controller scsi 0 runs as absent, is defined as without a model"], id="none"
        ),
        pytest.param(
            [disk_xml("sda", "sata", device="cdrom")], [disk_xml("sdb", "usb", device="cdrom")], [], id="cdroms"
        ),
        pytest.param(
            ["<disk type='file'><source file='/a' index='3'/><target dev='vda' bus='virtio'/></disk>"],
            ["<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/></disk>"],
            [],
            id="the-index-of-a-running-source",
        ),
    ],
)
def test_storage_differences(live: list[str], persistent: list[str], words: list[str]) -> None:
    assert storage_differences(Definition(domain_xml(*live)), Definition(domain_xml(*persistent))) == words
