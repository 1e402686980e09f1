"""Another definition: made if nothing changed since it was read, and taken back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from reclaim.base.errors import ChangedSince, ChangeFailed
from reclaim.base.verdict import Verdict
from reclaim.changes.definition_change import DefinitionChange, changed_definition
from reclaim.definition.compare import same
from reclaim.handles.guest import Guest
from tests.support import (
    Inside,
    definition_of,
    disk_xml,
    domain_xml,
    engine,
    hang_up,
    inhabited,
    mend,
    opened,
    requirement,
    subject,
)


def _renamed(guest: Any) -> None:
    guest.domain.destroy()
    guest.domain.rename("two")


def _edited(guest: Any) -> None:
    guest.hypervisor.connection.defineXML(guest.persistent.xml.replace("65536", "131072"))


def _gone(guest: Any) -> None:
    guest.domain.destroy()
    guest.domain.undefine()


@pytest.mark.parametrize(
    ("meanwhile", "words"),
    [
        pytest.param(_renamed, "it has been renamed from one; nothing was changed: run again", id="renamed"),
        pytest.param(_edited, "the definition has changed since it was read; run again", id="edited"),
        pytest.param(_gone, "it has been undefined; nothing was changed", id="undefined"),
    ],
)
def test_what_somebody_did_since_it_was_read_is_seen_before_it_is_defined(
    tmp_path: Path, meanwhile: Callable[[Any], None], words: str
) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml())).guests[0]
    xml = guest.persistent.xml
    change = DefinitionChange("one", xml, xml.replace("type='qcow2'", "type='qcow2' discard='unmap'"))
    meanwhile(guest)
    with pytest.raises(ChangeFailed, match=words):
        change.apply(guest)
    assert not any("unmap" in one.XMLDesc(0) for one in guest.hypervisor.connection.listAllDomains())


UNMAP = "type='qcow2' discard='unmap'"


def _wanted(xml: str, old: str = "type='qcow2'", new: str = UNMAP) -> str:
    assert old in xml
    return xml.replace(old, new)


def _change(guest: Guest, **more: Any) -> DefinitionChange:
    xml = guest.persistent.xml
    return DefinitionChange("one", xml, _wanted(xml), **more)


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return opened(tmp_path, domain_xml(disk_xml(), running=False)).guests[0]


def test_a_definition_is_made_and_taken_back(guest: Guest) -> None:
    before = definition_of(guest).xml
    change = _change(guest, renames={"vda": "sda"})
    outcome = change.apply(guest)
    assert outcome == {"defined": definition_of(guest).xml}
    assert definition_of(guest).disk("vda").driver["discard"] == "unmap"
    assert guest.renamed == {"vda": "sda"}
    guest.renamed["vdb"] = "sdb"
    change.undo(guest, outcome)
    assert definition_of(guest).xml == before
    assert guest.renamed == {"vdb": "sdb"}
    assert change.undo(guest, outcome) == change.undo(guest, {}), "once more there is nothing to do"


@pytest.mark.parametrize("running", [False, True])
def test_a_guest_that_runs_is_told_when_it_counts(tmp_path: Path, *, running: bool) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), running=running)).guests[0]
    live = guest.domain.XMLDesc(0)
    change = _change(guest)
    note = change.undo(guest, change.apply(guest))
    assert ("cold start" in note) is running
    if running:
        assert guest.domain.XMLDesc(0) == live


def test_what_the_guest_was_asked_before_is_asked_again_of_its_definition_alone(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml())
    _ = guest.facts, guest.persistent
    _change(guest).apply(guest)
    assert guest.has_facts, "nothing has changed inside"
    assert guest.persistent.disk("vda").driver["discard"] == "unmap"


def test_an_undo_leaves_what_somebody_has_changed_since(guest: Guest) -> None:
    change = _change(guest)
    outcome = change.apply(guest)
    guest.hypervisor.connection.defineXML(definition_of(guest).xml.replace("65536", "131072"))
    now = definition_of(guest).xml
    with pytest.raises(ChangedSince) as caught:
        change.undo(guest, outcome)
    assert "131072" in caught.value.diff
    assert definition_of(guest).xml == now


def test_a_run_that_died_before_it_wrote_what_libvirt_made_of_it_is_taken_back(guest: Guest) -> None:
    """libvirt adds to a definition, such as addresses: what was asked for is still all there."""
    before = definition_of(guest)
    edit = guest.definition.edit()
    edit.add_device("controller", {"type": "scsi", "model": "virtio-scsi"})
    change = changed_definition(edit)
    change.apply(guest)
    assert definition_of(guest).xml != change.after
    change.undo(guest, {})
    assert same(definition_of(guest), before)


def test_without_its_outcome_a_change_that_was_not_made_is_left(guest: Guest) -> None:
    change = _change(guest)
    guest.hypervisor.connection.defineXML(definition_of(guest).xml.replace("65536", "131072"))
    with pytest.raises(ChangedSince):
        change.undo(guest, {})


@pytest.mark.parametrize("is_running", [False, True])
def test_without_a_definition_there_is_nothing_to_take_back(tmp_path: Path, *, is_running: bool) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), running=is_running)).guests[0]
    change = _change(guest)
    outcome = change.apply(guest)
    guest.domain.undefine()
    with pytest.raises(ChangeFailed, match="transient" if is_running else "undefined"):
        change.undo(guest, outcome)


def test_a_libvirt_that_hung_up_is_no_guest_that_is_gone(guest: Guest) -> None:
    change = _change(guest)
    hang_up(guest)
    with pytest.raises(libvirt.libvirtError):
        change.apply(guest)


def test_what_libvirt_refuses_leaves_the_old_definition(guest: Guest) -> None:
    before = definition_of(guest).xml
    with pytest.raises(ChangeFailed, match="refuses"):
        DefinitionChange("one", before, _wanted(before, "bus='virtio'", "bus='warp'")).apply(guest)
    assert definition_of(guest).xml == before
    with pytest.raises(ChangeFailed, match="refuses"):  # against the schema, which libvirt would only drop
        DefinitionChange("one", before, _wanted(before, "<vcpu", "<vcpu no='1'")).apply(guest)
    assert definition_of(guest).xml == before


class _Forgetful:
    """libvirt that keeps no discard=, and refuses definitions without it from then on if it is *stubborn*."""

    def __init__(self, real: libvirt.virConnect, *, stubborn: bool) -> None:
        self.real, self.stubborn = real, stubborn

    def defineXMLFlags(self, xml: str, flags: int) -> None:  # noqa: N802
        if UNMAP not in xml and self.stubborn:
            raise libvirt.libvirtError("no room")
        self.real.defineXMLFlags(xml.replace(UNMAP, "type='qcow2'"), flags)


@pytest.mark.parametrize("stubborn", [False, True])
def test_what_libvirt_drops_is_named_and_the_old_definition_put_back(guest: Guest, *, stubborn: bool) -> None:
    before, real = definition_of(guest).xml, guest.hypervisor.connection
    change = _change(guest)
    guest.hypervisor.connection = _Forgetful(real, stubborn=stubborn)
    with pytest.raises(ChangeFailed, match="discard") as caught:
        change.apply(guest)
    guest.hypervisor.connection = real
    assert ("no room" in str(caught.value)) is stubborn
    assert ("as it was" in str(caught.value)) is not stubborn
    assert definition_of(guest).xml == before
    assert guest.renamed == {}


def test_an_edit_becomes_a_change_with_its_names_and_notes(guest: Guest) -> None:
    edit = guest.definition.edit()
    edit.driver(edit.disk("vda")).set("cache", "none")
    edit.renames["vda"] = "sda"
    edit.notes.append("its geometry goes")
    change = changed_definition(edit)
    assert (change.name, change.before) == ("one", guest.persistent.xml)
    assert (change.renames, change.notes) == ({"vda": "sda"}, ("its geometry goes",))
    edit.renames["vdb"] = "sdb"
    assert change.renames == {"vda": "sda"}
    assert '"none"' in change.diff.replace("'", '"')
    assert "one" in change.target


# By the schema, and without it if the schema refused the definition before too -----------------

ODD_DISK = disk_xml("sda", "sata", driver="discard='unmap'").replace("/images/sda.qcow2", "OpenCore.qcow2")
NOTE = (
    "libvirt's schema refused the definition before this change too for "
    '<source file="OpenCore.qcow2"/> in domain/devices/disk: it is defined without the schema'
)


def test_a_definition_that_the_schema_refused_before_is_mended_and_the_element_named(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), ODD_DISK)).guests[0]
    mended = mend(tmp_path, guest, "disk-discard", "vda")
    assert NOTE in mended.result.reason
    assert definition_of(guest).disk("sda").path == "OpenCore.qcow2"


def test_the_plan_names_the_element_too(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), ODD_DISK)).guests[0]
    result = engine(guest.hypervisor, tmp_path, mode="plan").run(requirement("disk-discard"), subject(guest, "vda"))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert NOTE in result.evidence
    assert len(result.changes) == 1


def test_undo_brings_such_a_definition_back(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), ODD_DISK)).guests[0]
    before = definition_of(guest).xml
    change = DefinitionChange(guest.name, before, before.replace("type='qcow2'/>", "type='qcow2' discard='unmap'/>"))
    outcome = change.apply(guest)
    assert change.undo(guest, outcome).startswith("the definition is as it was")
    assert definition_of(guest).xml == before


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(("<os>", "<invented/><os>"), id="element"),
        pytest.param(("/images/vda.qcow2", "vda.qcow2"), id="value"),
    ],
)
def test_a_change_that_only_it_makes_the_schema_refuse_is_not_made(tmp_path: Path, wrong: tuple[str, str]) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml())).guests[0]
    before = definition_of(guest).xml
    with pytest.raises(ChangeFailed, match="libvirt refuses the definition"):
        DefinitionChange(guest.name, before, before.replace(*wrong, 1)).apply(guest)
    assert definition_of(guest).xml == before


def test_a_setting_that_libvirt_drops_without_the_schema_is_seen(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), ODD_DISK)).guests[0]
    before = definition_of(guest).xml
    wanted = before.replace("<os>", "<invented/><os>")
    with pytest.raises(ChangeFailed, match=r"libvirt dropped .*; the definition is as it was"):
        DefinitionChange(guest.name, before, wanted).apply(guest)
    assert definition_of(guest).xml == before
