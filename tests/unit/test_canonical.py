"""The comparison that the corpus is held to: it must see what a careless edit does."""

from __future__ import annotations

import pytest

from tests.corpus.canonical import Fixed, boot_disk, unnamed_changes
from tests.support import disk_xml, domain_xml, drive, scsi_xml

NOTE = "<a:n xmlns:a='urn:a'><!-- why --><a:x/><a:y/></a:n>"
NIC = "<interface type='user'><mac address='52:54:00:00:00:01'/><boot order='2'/></interface>"
VNC = "<graphics type='vnc' passwd='s3kr1t'/>"
SLOT = "<address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'/>"
BEFORE = domain_xml(
    disk_xml("vda"),
    disk_xml("vdb", inner=f"<boot order='1'/>{SLOT}"),
    disk_xml("sda", "sata", device="cdrom"),
    NIC,
    VNC,
    scsi_xml(0, "lsilogic"),
    metadata=NOTE,
)
MOVED = disk_xml("sdb", "scsi", source="/images/vda.qcow2", inner=drive(0, 1))
VDA = disk_xml("vda")
AFTER = BEFORE.replace(VDA, MOVED).replace(scsi_xml(0, "lsilogic"), scsi_xml(0, "lsilogic") + scsi_xml(1))
FIXED = Fixed.of([{"requirement": "scsi-controller", "disk": None}, {"requirement": "disk-bus", "disk": "vda"}])


def test_what_the_fixed_requirements_name_is_no_difference() -> None:
    assert unnamed_changes(BEFORE, AFTER, FIXED) == []


def test_white_space_is_no_difference() -> None:
    assert unnamed_changes(BEFORE, BEFORE.replace("><", ">\n  <"), Fixed()) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(VNC, "<graphics type='vnc'/>", id="a-password-lost"),
        pytest.param("<!-- why -->", "", id="a-comment-lost"),
        pytest.param("<a:x/><a:y/>", "<a:y/><a:x/>", id="metadata-in-another-order"),
        pytest.param("urn:a", "urn:b", id="another-namespace"),
        pytest.param("slot='0x05'", "slot='0x06'", id="another-disks-address"),
        pytest.param("<boot order='1'/>", "<boot order='3'/>", id="a-disks-boot-order"),
        pytest.param("<boot order='2'/>", "", id="a-nics-boot-order"),
        pytest.param(NIC + VNC, VNC + NIC, id="devices-in-another-order"),
        pytest.param(scsi_xml(0, "lsilogic"), "", id="a-controller-gone"),
        pytest.param(scsi_xml(1), scsi_xml(1, "lsilogic"), id="a-controller-of-another-kind"),
        pytest.param("pc-q35-7.2", "pc-q35-8.0", id="the-machine"),
        pytest.param("/images/vda.qcow2", "/images/vdc.qcow2", id="the-moved-disks-image"),
        pytest.param(MOVED, MOVED.replace("type='qcow2'", "type='raw'"), id="the-moved-disks-format"),
        pytest.param(MOVED, disk_xml("sdb", "sata", source="/images/vda.qcow2"), id="moved-elsewhere"),
    ],
)
def test_anything_else_is(old: str, new: str) -> None:
    assert old in AFTER
    assert unnamed_changes(BEFORE, AFTER.replace(old, new), FIXED)


@pytest.mark.parametrize("fixed", [Fixed(), Fixed.of([{"requirement": "disk-bus", "disk": "vdb"}])])
def test_a_move_that_no_requirement_names_is(fixed: Fixed) -> None:
    assert unnamed_changes(BEFORE, AFTER, fixed)


def test_the_boot_disk_is_the_first_hard_disk() -> None:
    xml = BEFORE.replace("</type>", "</type><boot dev='hd'/>")
    assert boot_disk(xml) == '<source file="/images/vda.qcow2"></source>'
    assert boot_disk(BEFORE) is None
