"""scsi-controller: the check and the fixer as a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reclaim.base.verdict import Verdict
from reclaim.definition import pci
from reclaim.definition.domain import Definition, parse_xml
from reclaim.engine.engine import judge
from reclaim.inventory import Inventory, Policy
from tests.support import (
    definition_of,
    difference,
    disk_xml,
    domain_xml,
    drive,
    engine,
    mend,
    opened,
    pci_xml,
    requirement,
    scsi_xml,
    subject,
    verdict_of,
    walk,
)

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.handles.guest import Guest


def _controllers(guest: Guest) -> list[tuple[str, str | None]]:
    return sorted((one.index, one.model) for one in definition_of(guest).scsi_controllers)


def _sda(controller: int = 0) -> str:
    return disk_xml("sda", "scsi", inner=drive(0, controller))


HOSTDEV = (
    "<hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host0'/>"
    "<address bus='0' target='0' unit='0'/></source>"
    "<address type='drive' controller='0' bus='0' target='0' unit='5'/></hostdev>"
)


@pytest.mark.parametrize("model", [None, "lsilogic", "buslogic", "vmpvscsi", "lsisas1068"])
def test_a_controller_of_our_disks_alone_is_changed_in_its_place(tmp_path: Path, model: str | None) -> None:
    guest = opened(tmp_path, domain_xml(_sda(), scsi_xml(0, model))).guests[0]
    mended = mend(tmp_path, guest, "scsi-controller")
    was = f" model='{model}'" if model else ""
    assert list(mended.gone.elements()) == [f"domain/devices/controller index='0'{was} type='scsi' ''"]
    assert list(mended.came.elements()) == ["domain/devices/controller index='0' model='virtio-scsi' type='scsi' ''"]


@pytest.mark.parametrize(
    "neighbour",
    [
        pytest.param(disk_xml("sdc", "scsi", device="cdrom", inner=drive(5)), id="cdrom"),
        pytest.param(disk_xml("sdc", "scsi", inner=f"<readonly/>{drive(5)}"), id="read-only"),
        pytest.param(HOSTDEV, id="hostdev"),
    ],
)
def test_a_controller_shared_with_others_stays_and_our_disk_moves(tmp_path: Path, neighbour: str) -> None:
    guest = opened(tmp_path, domain_xml(_sda(), neighbour, scsi_xml(0, "lsilogic"))).guests[0]
    mended = mend(tmp_path, guest, "scsi-controller")
    assert _controllers(guest) == [("0", "lsilogic"), ("1", "virtio-scsi")]
    assert definition_of(guest).disk("sda").address["controller"] == "1"
    assert sum(mended.gone.values()) == 1, "only our disk's address goes"


def test_a_virtio_disk_gets_a_controller_to_move_to(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml())).guests[0]
    mended = mend(tmp_path, guest, "scsi-controller")
    assert list(mended.gone.elements()) == []
    assert list(mended.came.elements()) == ["domain/devices/controller index='0' model='virtio-scsi' type='scsi' ''"]


def test_an_added_controller_takes_the_first_free_index(tmp_path: Path) -> None:
    cdrom = disk_xml("sdz", "scsi", device="cdrom", inner=drive(0))
    guest = opened(tmp_path, domain_xml(disk_xml(), cdrom, scsi_xml(0, "lsilogic"), scsi_xml(2, "lsilogic"))).guests[0]
    mend(tmp_path, guest, "scsi-controller")
    assert _controllers(guest) == [("0", "lsilogic"), ("1", "virtio-scsi"), ("2", "lsilogic")]


def test_disks_that_share_a_lost_controller_get_different_addresses(tmp_path: Path) -> None:
    disks = [disk_xml(f"sd{letter}", "scsi", inner=drive(unit)) for unit, letter in enumerate("abc")]
    cdrom = disk_xml("sdz", "scsi", device="cdrom", inner=drive(6))
    taken = disk_xml("sdy", "scsi", inner=drive(0, 1))
    guest = opened(tmp_path, domain_xml(*disks, cdrom, taken, scsi_xml(0, "lsilogic"), scsi_xml(1))).guests[0]
    mend(tmp_path, guest, "scsi-controller")
    places = [tuple(sorted(disk.address.items())) for disk in definition_of(guest).all_disks]
    assert len(set(places)) == len(places)
    moved = definition_of(guest).disks
    assert {disk.address["controller"] for disk in moved} == {"1"}


@pytest.mark.parametrize("model", ["virtio-scsi", "virtio-transitional", "virtio-non-transitional"])
def test_every_virtio_model_is_accepted(tmp_path: Path, model: str) -> None:
    guest = opened(tmp_path, domain_xml(_sda(), scsi_xml(0, model))).guests[0]
    assert verdict_of(guest, "scsi-controller") is Verdict.COMPLIANT


def test_a_foreign_controller_without_our_disks_is_no_finding(tmp_path: Path) -> None:
    cdrom = disk_xml("sdc", "scsi", device="cdrom", inner=drive(0, 1))
    guest = opened(tmp_path, domain_xml(_sda(), cdrom, scsi_xml(0), scsi_xml(1, "lsilogic"))).guests[0]
    assert verdict_of(guest, "scsi-controller") is Verdict.COMPLIANT


@pytest.mark.parametrize(
    "device",
    [
        pytest.param(disk_xml(inner="<readonly/>"), id="read-only"),
        pytest.param(disk_xml("sda", "usb"), id="usb"),
        pytest.param(disk_xml("sda", "sata", device="cdrom"), id="cdrom"),
    ],
)
def test_a_guest_without_a_disk_for_it_needs_none(tmp_path: Path, device: str) -> None:
    guest = opened(tmp_path, domain_xml(device)).guests[0]
    assert verdict_of(guest, "scsi-controller") is Verdict.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("arch", "machine", "verdict", "model"),
    [
        pytest.param("s390x", "s390-ccw-virtio-7.2", Verdict.COMPLIANT, "virtio-scsi", id="s390x"),
        pytest.param("ppc64", "pseries-7.2", Verdict.NONCOMPLIANT, "ibmvscsi", id="ppc64"),
        pytest.param("aarch64", "virt-7.2", Verdict.NONCOMPLIANT, "lsilogic", id="aarch64"),
        pytest.param("x86_64", "pc-q35-7.2", Verdict.NONCOMPLIANT, "lsilogic", id="x86_64"),
    ],
)
def test_what_no_model_means_depends_on_the_architecture(
    tmp_path: Path, arch: str, machine: str, verdict: Verdict, model: str
) -> None:
    guest = opened(tmp_path, domain_xml(_sda(), scsi_xml(0, None))).guests[0]
    xml = guest.persistent.xml.replace("arch='x86_64' machine='pc-q35-7.2'", f"arch='{arch}' machine='{machine}'")
    guest.persistent = Definition(xml)
    judgement = judge(requirement("scsi-controller"), subject(guest))
    assert judgement.verdict is verdict
    assert model in judgement.reason + judgement.evidence


def test_a_controller_on_a_bus_of_its_own_model_leaves_it(tmp_path: Path) -> None:
    """ibmvscsi is plugged into spapr-vio, where no virtio-scsi controller can be."""
    own = "<address type='spapr-vio' reg='0x00002000'/>"
    controller = f"<controller type='scsi' index='0' model='ibmvscsi'>{own}</controller>"
    guest = opened(tmp_path, domain_xml(_sda(), controller)).guests[0]
    mended = mend(tmp_path, guest, "scsi-controller")
    assert sum(mended.gone.values()) == 2
    assert "domain/devices/controller/address reg='0x00002000' type='spapr-vio' ''" in mended.gone


def test_a_controller_in_a_pci_slot_keeps_it(tmp_path: Path) -> None:
    slot = "<address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'/>"
    controller = f"<controller type='scsi' index='0' model='lsilogic'>{slot}</controller>"
    guest = opened(tmp_path, domain_xml(_sda(), controller)).guests[0]
    mended = mend(tmp_path, guest, "scsi-controller")
    assert list(mended.gone.elements()) == ["domain/devices/controller index='0' model='lsilogic' type='scsi' ''"]


def test_policy_any_discarding_needs_no_controller(tmp_path: Path) -> None:
    inventory = Inventory(policy=Policy(bus="any-discarding"))
    guest = opened(tmp_path, domain_xml(disk_xml()), inventory=inventory).guests[0]
    assert verdict_of(guest, "scsi-controller") is Verdict.NOT_APPLICABLE


# A PCI bus without a free slot ----------------------------------------------------------------

PCI_ROOT = "<controller type='pci' index='0' model='pci-root'/>"
FULL_OF_NICS = [
    f"<interface type='user'><mac address='52:54:00:00:00:{slot:02x}'/>{pci_xml(slot)}</interface>"
    for slot in range(3, 32)
]


def _full(*disks: str) -> str:
    """A guest of i440fx with all slots taken: network cards are in all but those of the two *disks*."""
    return domain_xml(PCI_ROOT, *disks, *FULL_OF_NICS[:-1], machine="pc-i440fx-7.2")


def _virtio(target: str, slot: int, driver: str = "") -> str:
    return disk_xml(target, driver=driver, inner=pci_xml(slot))


#: of two disks, in the slots that no network card has
TWO = _virtio("vda", 2), _virtio("vdb", 31)


def test_on_a_full_bus_the_controller_takes_the_slot_of_a_disk_that_moves_to_it(tmp_path: Path) -> None:
    guest = opened(tmp_path, _full(*TWO)).guests[0]
    mended = mend(tmp_path, guest, "scsi-controller")
    (controller,) = definition_of(guest).root.iterfind("devices/controller[@type='scsi']")
    assert pci.address_of(controller) == pci.address_of(parse_xml(f"<x>{pci_xml(2)}</x>", "x"))
    assert [(disk.target, disk.bus) for disk in definition_of(guest).disks] == [("sda", "scsi"), ("vdb", "virtio")]
    assert "all PCI slots are taken: the new controller is in the slot that the disk leaves" in mended.result.evidence
    assert "vda moves to it by the same change" in mended.result.evidence
    assert verdict_of(guest, "disk-bus", "sda") is Verdict.COMPLIANT
    mend(tmp_path, guest, "disk-bus", "vdb")


def test_undo_gives_the_disk_its_slot_back(tmp_path: Path) -> None:
    guest = opened(tmp_path, _full(*TWO)).guests[0]
    before = definition_of(guest)
    one = engine(guest.hypervisor, tmp_path, force=True)
    one.run(requirement("scsi-controller"), subject(guest))
    for _seq, change in reversed(one.journal.standing(guest.uuid)):
        change.undo(guest, {})
    assert not any(difference(before, definition_of(guest)))
    assert guest.renamed == {}


def test_a_disk_that_must_stay_leaves_its_slot_to_no_controller(tmp_path: Path) -> None:
    """The next disk goes instead, and the one that is read-only stays."""
    disks = disk_xml("vda", inner=f"<readonly/>{pci_xml(2)}"), _virtio("vdb", 31)
    guest = opened(tmp_path, _full(*disks)).guests[0]
    mended = mend(tmp_path, guest, "scsi-controller")
    assert "vdb moves to it by the same change" in mended.result.evidence
    assert definition_of(guest).disk("vda").bus == "virtio"


def test_on_a_bus_full_of_others_the_plan_gives_the_reason(tmp_path: Path) -> None:
    """A disk on ide has no slot to give."""
    device = disk_xml("hda", "ide", inner=drive(0))
    nics = [*FULL_OF_NICS, f"<interface type='user'>{pci_xml(2)}</interface>"]
    guest = opened(tmp_path, domain_xml(PCI_ROOT, device, *nics, machine="pc-i440fx-7.2")).guests[0]
    before = definition_of(guest)
    for mode in ("plan", "fix"):
        one = engine(guest.hypervisor, tmp_path, mode, force=True)
        row = one.run(requirement("scsi-controller"), subject(guest))
        assert (row.verdict, row.changes) == (Verdict.NONCOMPLIANT, [])
        assert f"withheld: {pci.FULL}" in row.reason
    assert not any(difference(before, definition_of(guest)))


def test_a_disk_of_lsilogic_waits_too_if_there_is_no_slot(tmp_path: Path) -> None:
    cdrom = disk_xml("sdc", "scsi", device="cdrom", inner=drive(5))
    lsilogic = f"<controller type='scsi' index='0' model='lsilogic'>{pci_xml(31)}</controller>"
    nics = [*FULL_OF_NICS[:-1], f"<interface type='user'>{pci_xml(2)}</interface>"]
    guest = opened(tmp_path, domain_xml(PCI_ROOT, _sda(), cdrom, lsilogic, *nics, machine="pc-i440fx-7.2")).guests[0]
    row = engine(guest.hypervisor, tmp_path, force=True).run(requirement("scsi-controller"), subject(guest))
    assert pci.FULL in row.reason
    assert not row.changes


def test_plan_and_fix_of_a_full_bus_agree(tmp_path: Path) -> None:
    """The plan's row of the disk that the controller's change moves has no change of its own, as the fix has none."""
    disks = _virtio("vda", 2, "queues='2'"), _virtio("vdb", 31, "queues='4'")
    guest = opened(tmp_path, _full(*disks)).guests[0]
    planner = engine(guest.hypervisor, tmp_path, "plan", force=True)
    walk(planner, guest, "scsi-controller", "disk-bus")
    planned = planner.results["disk-bus", "one", "vda", None]
    assert (planned.verdict, planned.changes) == (Verdict.NONCOMPLIANT, [])
    assert planned.reason.endswith("; an earlier change of this plan mends it too")
    fixer = engine(guest.hypervisor, tmp_path, force=True)
    rows = walk(fixer, guest, "scsi-controller", "disk-bus")
    assert [row.verdict for row in rows] == [Verdict.FIXED, Verdict.COMPLIANT, Verdict.FIXED]
    assert not any(difference(planner._planned["one"], definition_of(guest)))
    # each has a controller with its number of queues, in the slot that it left
    slots = [
        (pci.address_of(one) or {}).get("slot") for one in definition_of(guest).root.iterfind("devices/controller")
    ]
    assert slots == [None, "0x02", "0x1f"]
