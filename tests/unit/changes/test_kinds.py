"""Every kind of change, written for the journal and read back."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

import pytest

from reclaim import changes
from reclaim.changes.boot_stopped import Boot
from reclaim.changes.change import Change
from reclaim.changes.command import CommandChange
from reclaim.changes.definition_change import DefinitionChange
from reclaim.changes.domfstrim import TrimTimer
from reclaim.changes.file_change import FileChange
from reclaim.changes.kinds import from_json, to_json
from reclaim.changes.live_update import LiveUpdate
from reclaim.changes.power import PowerCycle
from reclaim.changes.punch import HolePunch, SparseRewrite
from reclaim.changes.qcow2_amend import AmendCycle, ImageAmend
from reclaim.changes.sparsify import Sparsify
from reclaim.changes.trim import Trim
from reclaim.handles.health import Wellbeing
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


#: one of every kind that a journal can hold
EVERY: list[Change] = [
    DefinitionChange("one", "<domain/>", "<domain>é\U0001f600</domain>", {"vda": "sda"}, ("a note",)),
    FileChange("one", "/etc/fstab", "\udcff\x00\n", None, verify="v", then="t", devices=["/dev/vda"]),
    CommandChange("one", "a", "b", ["/dev/vda"]),
    Trim("one", "1 GiB", "its price"),
    LiveUpdate("one", "vda", None, "<disk/>"),
    PowerCycle("one", "<domain/>", Wellbeing({"/": "aaaa"}, ["/"], addresses=["192.0.2.1"]), "why", "<domain/>"),
    AmendCycle("one", "<domain/>", None, "why", "<domain/>", ["/images/vda.qcow2"]),
    Boot("one", "20260101T000000Z-fix"),
    TrimTimer("one", "uuid", "qemu:///system", "/usr/bin/virsh", "its price"),
    ImageAmend("one", "/images/vda.qcow2"),
    HolePunch("/copies/one.img", 1, 2, 3, 4, 5, "/copies", 6, 7),
    SparseRewrite("/copies/one.img", 1, 2, 3, 4, 5, "/copies", 6, 7, "3 snapshots"),
    Sparsify("one", "/images/vda.qcow2", "qcow2"),
]


@pytest.mark.parametrize("change", EVERY, ids=lambda change: change.kind)
def test_every_kind_goes_through_a_journal_and_back(change: Change) -> None:
    values = json.loads(json.dumps(to_json(change)))
    assert values["kind"] == change.kind
    again = from_json(values)
    assert again == change
    assert type(again) is type(change)


def test_every_kind_of_change_is_known_to_the_journal() -> None:
    """A module of changes that is missing here could be applied and never taken back."""
    known = {type(change) for change in EVERY}
    declared = {
        value
        for info in pkgutil.iter_modules(changes.__path__, f"{changes.__name__}.")
        for value in vars(importlib.import_module(info.name)).values()
        if isinstance(value, type) and isinstance(vars(value).get("kind"), str)
    }
    assert known == declared
    assert len({change.kind for change in EVERY}) == len(EVERY)


@pytest.mark.parametrize("data", [None, [], "trim", 7, [["kind", "trim"]], {"kind": ["trim"]}, {"kind": "x" * 100_000}])
def test_what_is_no_change_is_refused_in_one_line(data: object) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        from_json(data)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"kind": "trim"}, id="a-key-missing"),
        pytest.param({"kind": "trim", "guest": "one", "shell": "id"}, id="a-key-of-nobody"),
        pytest.param({"kind": "trim", "guest": 1}, id="a-number"),
        pytest.param(
            {"kind": "command", "guest": "one", "command": "a", "devices": "/dev/sda"}, id="a-text-for-a-list"
        ),
    ],
)
def test_values_of_another_shape_are_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"guest|shell|devices"):
        from_json(data)


def test_the_values_of_the_caller_stay_as_they_are() -> None:
    values = to_json(Trim("one"))
    from_json(values)
    assert values == to_json(Trim("one"))
