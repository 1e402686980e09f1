"""Every kind of change, written for the journal and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reclaim.changes.change import Change
from reclaim.changes.command import CommandChange
from reclaim.changes.definition_change import DefinitionChange
from reclaim.changes.file_change import FileChange
from reclaim.changes.kinds import from_json, to_json
from reclaim.changes.power import PowerCycle
from reclaim.changes.trim import Trim
from tests.support import Inside, disk_xml, domain_xml, inhabited, requirement

CHANGES = [
    DefinitionChange("one", "<domain/>", "<domain>é\U0001f600</domain>", {"vda": "sda"}),
    FileChange("one", "/etc/fstab", "\udcff\x00\n", None, verify="v", then="t"),
    CommandChange("one", "a", None),
    Trim("one"),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.kind)
def test_a_change_comes_back_from_json_as_it_was(change: Change) -> None:
    assert from_json(to_json(change)) == change


def test_a_power_cycle_comes_back_from_json_as_it_was(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml())
    guest.hypervisor.connection.defineXML(domain_xml(disk_xml(driver="discard='unmap'")))
    guest.forget()
    [change] = requirement("live-definition").fixer(guest)
    assert isinstance(change, PowerCycle)
    assert from_json(to_json(change)) == change


@pytest.mark.parametrize("data", [{"kind": "magic"}, {}, {"kind": None}])
def test_a_kind_that_is_unknown_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="unknown to this version"):
        from_json(data)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.kind)
def test_every_change_says_what_it_changes(change: Change) -> None:
    assert "one" in change.target
    change.diff.encode()
