"""Moving a disk to the scsi bus: the name that it keeps, and the address that it gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.base.errors import Withheld
from reclaim.definition.domain import Edit
from reclaim.handles import scsi
from reclaim.inventory import Inventory, Policy
from tests.support import disk_xml, domain_xml, drive, mend, opened, scsi_xml


def _notes(folder: Path, *devices: str, policy: Policy | None = None, boot: str = "<boot dev='hd'/>") -> list[str]:
    """The notes about the target after vda was moved."""
    xml = domain_xml(*devices, scsi_xml()).replace("</os>", f"{boot}</os>")
    guest = opened(folder, xml, inventory=Inventory(policy=policy or Policy())).guests[0]
    evidence = mend(folder, guest, "disk-bus", disk="vda").result.evidence
    return [note for note in evidence.split("; ") if note.startswith("the target stays")]


def test_a_name_that_is_kept_by_policy_needs_no_note(tmp_path: Path) -> None:
    assert _notes(tmp_path, disk_xml("vda"), policy=Policy(target="keep")) == []


def test_a_disk_that_is_renamed_has_no_note(tmp_path: Path) -> None:
    assert _notes(tmp_path, disk_xml("vda")) == []


@pytest.mark.slow
def test_a_name_that_is_kept_for_the_boot_is_noted(tmp_path: Path) -> None:
    """As sdb it would come behind sda, and the guest would boot from that."""
    notes = _notes(tmp_path, disk_xml("vda"), disk_xml("sda", "scsi", inner=drive(0)))
    assert notes == ["the target stays vda: under another name the guest would boot from another disk"]


def _edit(folder: Path, *devices: str) -> Edit:
    return opened(folder, domain_xml(*devices)).guests[0].definition.edit()


def _at(controller: int, target: int = 0, unit: int = 0, bus: int = 0) -> str:
    return f"<address type='drive' controller='{controller}' bus='{bus}' target='{target}' unit='{unit}'/>"


@pytest.mark.parametrize(
    ("taken", "place"),
    [
        pytest.param([], ("0", "0"), id="nothing there"),
        pytest.param([_at(0)], ("0", "1"), id="the first is taken"),
        pytest.param([_at(1)], ("0", "0"), id="taken on another controller"),
        pytest.param([_at(0, bus=1)], ("0", "0"), id="taken on another bus of the controller"),
        pytest.param([_at(1), _at(0, unit=1)], ("0", "0"), id="the second is taken, and another controller's first"),
    ],
)
def test_a_free_address_is_one_of_this_controller(tmp_path: Path, taken: list[str], place: tuple[str, str]) -> None:
    disks = [disk_xml(f"sd{letter}", "scsi", inner=inner) for letter, inner in zip("abc", taken, strict=False)]
    edit = _edit(tmp_path, *disks, scsi_xml(), scsi_xml(index=1))
    address = scsi.free_address(edit, "0")
    assert (address["target"], address["unit"]) == place
    assert (address["controller"], address["bus"]) == ("0", "0")


def test_a_full_controller_has_no_free_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scsi, "_TARGETS", 1)
    monkeypatch.setattr(scsi, "_UNITS", 1)
    edit = _edit(tmp_path, disk_xml("sda", "scsi", inner=_at(0)), scsi_xml())
    with pytest.raises(Withheld, match="no free address on SCSI controller 0"):
        scsi.free_address(edit, "0")
