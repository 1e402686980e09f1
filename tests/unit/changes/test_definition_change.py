"""Another definition: defined by libvirt's schema, and without it only if the schema refused the one before too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reclaim.base.errors import ChangeFailed
from reclaim.base.verdict import Verdict
from reclaim.changes.definition_change import DefinitionChange
from tests.support import definition_of, disk_xml, domain_xml, engine, mend, opened, requirement, subject

if TYPE_CHECKING:
    from pathlib import Path

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
