"""Two definitions beside each other: the same elements, those that libvirt dropped, settings that differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reclaim.definition.compare import (
    diff_definitions,
    differences,
    flattened,
    missing_from,
    pairs,
    same,
    storage_differences,
)
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


@pytest.mark.parametrize(
    ("live", "persistent", "words"),
    [
        pytest.param(
            [disk_xml("vda", source="/a")], [disk_xml("vda", source="/b")], ["disk vda", "/a", "/b"], id="another-image"
        ),
        pytest.param([disk_xml()], [disk_xml(), disk_xml("vdb")], ["disk vdb", "not attached"], id="not-attached"),
        pytest.param([disk_xml(), disk_xml("vdb")], [disk_xml()], ["disk vdb", "discard absent"], id="not-defined"),
        pytest.param(
            [disk_xml(driver="detect_zeroes='unmap'")],
            [disk_xml()],
            ["disk vda", "detect_zeroes", "unmap", "absent"],
            id="detect-zeroes",
        ),
    ],
)
def test_a_difference_names_its_disk_and_both_sides(live: list[str], persistent: list[str], words: list[str]) -> None:
    [said] = storage_differences(Definition(domain_xml(*live)), Definition(domain_xml(*persistent)))
    assert [word for word in words if word not in said] == []


def test_another_machine_type_is_a_difference_of_its_own() -> None:
    live, persistent = (Definition(domain_xml(disk_xml(), machine=name)) for name in ("pc-q35-7.2", "pc-q35-8.0"))
    [difference] = differences(live, persistent)
    assert "pc-q35-7.2" in difference.words
    assert "pc-q35-8.0" in difference.words
    assert (difference.live, difference.defined, difference.setting) == (None, None, None)


def test_a_default_that_is_written_out_is_no_difference() -> None:
    written = disk_xml(driver="discard='ignore' detect_zeroes='off'")
    assert storage_differences(Definition(domain_xml(disk_xml())), Definition(domain_xml(written))) == []


def test_a_difference_has_the_disk_on_the_side_that_has_it() -> None:
    live = Definition(domain_xml(disk_xml("vda"), disk_xml("vdb", driver="discard='unmap'")))
    persistent = Definition(domain_xml(disk_xml("vda", driver="discard='unmap'"), disk_xml("vdc")))
    found = [
        (one.live and one.live.target, one.defined and one.defined.target, one.setting)
        for one in differences(live, persistent)
    ]
    assert found == [("vda", "vda", "discard"), ("vdb", None, None), (None, "vdc", None)]


@pytest.mark.parametrize(
    ("attached", "has_discard"),
    [
        (disk_xml("vdb"), True),
        (disk_xml("vdb", driver="discard='ignore'"), True),
        (disk_xml("vdb", driver="discard='unmap'"), False),
        (disk_xml("vdb", inner="<readonly/>"), False),
        (disk_xml("sdb", "scsi", device="lun"), False),
    ],
)
def test_the_discards_of_a_disk_that_is_attached_alone_are_told(attached: str, *, has_discard: bool) -> None:
    [said] = storage_differences(Definition(domain_xml(attached)), Definition(domain_xml()))
    assert ("discard" in said) is has_discard


@pytest.mark.parametrize("device", ["cdrom", "floppy"])
def test_a_medium_that_comes_or_goes_is_no_difference(device: str) -> None:
    medium = disk_xml("sdb", "sata", device=device)
    without, having = Definition(domain_xml()), Definition(domain_xml(medium))
    assert differences(without, having) == differences(having, without) == []
    other = Definition(domain_xml(disk_xml("sdb", "usb", "/other.iso", device=device)))
    assert differences(having, other) == []


def paired(first: list[str], second: list[str]) -> tuple[list[tuple[str, str]], list[str], list[str]]:
    matched, here, there = pairs(Definition(domain_xml(*first)), Definition(domain_xml(*second)))
    return (
        [(one.target, other.target) for one, other in matched],
        [disk.target for disk in here],
        [disk.target for disk in there],
    )


def test_the_same_image_is_the_same_disk_and_the_target_decides_between_others() -> None:
    moved = disk_xml("sda", "scsi", "/images/vda.qcow2")
    assert paired([disk_xml("vda"), disk_xml("vdb")], [disk_xml("vdb", source="/new"), moved]) == (
        [("vda", "sda"), ("vdb", "vdb")],
        [],
        [],
    )
    assert paired([disk_xml("vda")], [disk_xml("vdb")]) == ([], ["vda"], ["vdb"])


def test_two_disks_on_one_image_keep_their_targets() -> None:
    shared = [disk_xml(target, source="/one") for target in ("vda", "vdb")]
    assert paired(shared, shared[::-1]) == ([("vda", "vda"), ("vdb", "vdb")], [], [])


def test_a_target_of_another_kind_is_another_disk() -> None:
    assert paired([disk_xml("sda", "sata", device="cdrom")], [disk_xml("sda", "sata", "/other")]) == (
        [],
        ["sda"],
        ["sda"],
    )


def test_elements_are_counted_with_path_attributes_and_text() -> None:
    root = Definition("<d><b y='2' x='1'> t </b><b x='1' y='2'>t</b><!-- c --></d>").root
    assert flattened(root) == {"d  ''": 1, "d/b x='1' y='2' 't'": 2}
