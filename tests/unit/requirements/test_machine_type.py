"""machine-type: the check and the fixer as a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest
from testinfra.host import Host

from reclaim.base.errors import ChangeFailed
from reclaim.base.verdict import Verdict
from reclaim.changes.definition_change import DefinitionChange
from reclaim.definition.machine_type import OfferedMachine
from reclaim.engine.engine import judge
from reclaim.handles.hypervisor import Hypervisor
from reclaim.inventory import Inventory, Policy
from tests.support import (
    EMULATOR,
    definition_of,
    difference,
    disk_xml,
    domain_xml,
    engine,
    mend,
    opened,
    requirement,
    scsi_xml,
    subject,
    verdict_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.handles.guest import Guest

OFFERED = [
    OfferedMachine("pc-i440fx-1.7", deprecated=True),
    OfferedMachine("pc-i440fx-2.0", deprecated=False),
    OfferedMachine("pc-i440fx-2.9", deprecated=False),
    OfferedMachine("pc-i440fx-2.10", deprecated=False),
    OfferedMachine("pc-i440fx-7.2", deprecated=True),
    OfferedMachine("pc-q35-7.2", deprecated=False),
    OfferedMachine("isapc", deprecated=False),
]


@pytest.mark.parametrize("machine", ["pc-i440fx-1.6", "pc-i440fx-2.0", "pc-1.3", "pc-0.14", "pc-i440fx-trusty"])
def test_an_old_type_takes_the_newest_of_its_family(tmp_path: Path, machine: str) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), machine=machine), offered=OFFERED).guests[0]
    mended = mend(tmp_path, guest, "machine-type")
    assert list(mended.gone.elements()) == [f"domain/os/type arch='x86_64' machine='{machine}' 'hvm'"]
    assert list(mended.came.elements()) == ["domain/os/type arch='x86_64' machine='pc-i440fx-2.10' 'hvm'"]


def test_policy_minimum_takes_the_oldest_that_passes_discards_on(tmp_path: Path) -> None:
    inventory = Inventory(policy=Policy(machine="minimum"))
    xml = domain_xml(disk_xml(), machine="pc-i440fx-1.6")
    guest = opened(tmp_path, xml, inventory=inventory, offered=OFFERED).guests[0]
    mend(tmp_path, guest, "machine-type")
    assert definition_of(guest).machine == "pc-i440fx-2.9"


@pytest.mark.parametrize(
    ("offered", "reason"),
    [
        pytest.param([], "lists no machine types", id="none-listed"),
        pytest.param([OfferedMachine("pc-q35-7.2", deprecated=False)], "no newer type", id="other-family"),
        pytest.param(
            [OfferedMachine("pc-i440fx-rhel7.6.0", deprecated=True), OfferedMachine("pc-i440fx-7.2", deprecated=True)],
            "withheld: the newer types of its family that this QEMU offers are deprecated, up to pc-i440fx-7.2",
            id="only-deprecated",
        ),
        pytest.param([OfferedMachine("pc-i440fx-2.0", deprecated=False)], "no newer type", id="only-as-old"),
    ],
)
def test_without_a_fitting_type_the_fix_is_withheld(tmp_path: Path, offered: list[OfferedMachine], reason: str) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), machine="pc-i440fx-1.6"), offered=offered).guests[0]
    before = definition_of(guest).xml
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("machine-type"), subject(guest))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert reason in result.reason
    assert result.changes == []
    assert definition_of(guest).xml == before


@pytest.mark.parametrize(
    ("machine", "verdict"),
    [
        pytest.param("pc-i440fx-2.1", Verdict.COMPLIANT, id="the-minimum"),
        pytest.param("pc-i440fx-2.10", Verdict.COMPLIANT, id="2.10-is-newer-than-2.9"),
        pytest.param("pc-q35-9.0", Verdict.COMPLIANT, id="q35"),
        pytest.param("pc-i440fx-rhel7.6.0", Verdict.COMPLIANT, id="rhel"),
        pytest.param("pc-i440fx-xenial", Verdict.COMPLIANT, id="ubuntu"),
        pytest.param("pc", Verdict.COMPLIANT, id="alias"),
        pytest.param("q35", Verdict.COMPLIANT, id="alias-q35"),
        pytest.param("isapc", Verdict.NOT_APPLICABLE, id="unversioned"),
        pytest.param("mac99", Verdict.NOT_APPLICABLE, id="board"),
        pytest.param("pc-i440fx-tumbleweed", Verdict.NOT_ASSESSABLE, id="unknown-vendor"),
        pytest.param("pc-q35-rhel7.9.0", Verdict.NOT_ASSESSABLE, id="unknown-rhel"),
        pytest.param("rhel6.5.0", Verdict.NONCOMPLIANT, id="rhel-6-on-0.12"),
        pytest.param("pc-i440fx-rhel7.0.0", Verdict.NONCOMPLIANT, id="rhel-on-1.5"),
    ],
)
def test_types_are_judged_by_number(tmp_path: Path, machine: str, verdict: Verdict) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), machine=machine)).guests[0]
    assert verdict_of(guest, "machine-type") is verdict


def test_a_definition_without_a_type_is_not_judged(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), machine=None)).guests[0]
    assert definition_of(guest).machine is None
    assert verdict_of(guest, "machine-type") is Verdict.NOT_APPLICABLE


# What this host's QEMU makes of a name ---------------------------------------------------------


NEWER = [OfferedMachine("pc-i440fx-10.1", deprecated=False), OfferedMachine("pc-q35-10.1", deprecated=False)]


def _off(folder: Path, *devices: str, machine: str, offered: list[OfferedMachine] = NEWER) -> Guest:
    xml = domain_xml(*(devices or (disk_xml(),)), machine=machine, running=False)
    return opened(folder, xml, offered=offered).guests[0]


@pytest.mark.parametrize("machine", ["pc-i440fx-2.12", "pc-i440fx-1.6", "pc-1.0", "pc-i440fx-rhel7.0.0", "rhel6.5.0"])
def test_a_type_that_this_qemu_has_not_is_the_first_to_change_and_waits_for_nothing(
    tmp_path: Path, machine: str
) -> None:
    """Nobody can look into a guest that cannot start, and libvirt takes no other change of its definition."""
    guest = _off(tmp_path, machine=machine)
    before = definition_of(guest)
    result = engine(guest.hypervisor, tmp_path).run(requirement("machine-type"), subject(guest))
    assert result.verdict is Verdict.FIXED
    assert result.reason.startswith("was: ")
    assert ": the guest cannot start" in result.reason
    assert f"--undo cannot bring {machine} back" in result.evidence
    gone, came = difference(before, definition_of(guest))
    assert [*gone.elements()] == [f"domain/os/type arch='x86_64' machine='{machine}' 'hvm'"]
    assert [*came.elements()] == ["domain/os/type arch='x86_64' machine='pc-i440fx-10.1' 'hvm'"]
    again = engine(guest.hypervisor, tmp_path).run(requirement("machine-type"), subject(guest))
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])


def test_a_guest_that_runs_on_a_type_of_an_older_qemu_is_looked_into_first(tmp_path: Path) -> None:
    """QEMU was replaced under it: it runs on, and cannot start again."""
    guest = opened(tmp_path, domain_xml(disk_xml(), machine="pc-i440fx-2.12"), offered=NEWER).guests[0]
    result = engine(guest.hypervisor, tmp_path).run(requirement("machine-type"), subject(guest))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert (
        "this QEMU has no pc-i440fx-2.12 any more: the guest cannot start again; withheld: depends on fstab-uuid"
        in (result.reason)
    )


@pytest.mark.parametrize("mode", ["plan", "fix"])
@pytest.mark.parametrize("slug", ["disk-discard", "scsi-controller", "disk-bus"])
def test_no_other_change_of_such_a_definition_is_planned_or_tried(
    tmp_path: Path, slug: str, mode: Literal["plan", "fix"]
) -> None:
    guest = _off(tmp_path, disk_xml(), scsi_xml() if slug == "disk-bus" else "", machine="pc-i440fx-2.3")
    before = definition_of(guest).xml
    disk = None if slug == "scsi-controller" else "vda"
    result = engine(guest.hypervisor, tmp_path, mode=mode, force=True).run(requirement(slug), subject(guest, disk))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert result.changes == []
    assert "withheld" in result.reason
    assert definition_of(guest).xml == before


def test_undo_leaves_a_type_that_libvirt_would_not_take(tmp_path: Path) -> None:
    guest = _off(tmp_path, machine="pc-i440fx-2.3")
    after = definition_of(guest).xml.replace("pc-i440fx-2.3", "pc-i440fx-10.1")
    change = DefinitionChange(guest.name, definition_of(guest).xml, after)
    outcome = change.apply(guest)
    with pytest.raises(ChangeFailed, match=r"no pc-i440fx-2\.3 any more, so libvirt refuses the old definition"):
        change.undo(guest, outcome)
    assert definition_of(guest).machine == "pc-i440fx-10.1"


def test_a_type_of_a_newer_qemu_is_named_as_such_and_left(tmp_path: Path) -> None:
    """An older type is other hardware: it is never taken."""
    guest = _off(tmp_path, machine="pc-i440fx-11.0")
    result = engine(guest.hypervisor, tmp_path).run(requirement("machine-type"), subject(guest))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert result.reason.startswith(
        "pc-i440fx-11.0 is of a newer QEMU than this one, whose newest type of the family is pc-i440fx-10.1: "
        "the guest cannot start; withheld: an older type is other hardware"
    )
    assert result.changes == []


def test_a_newer_type_of_a_vendor_is_for_the_vendor_s_qemu(tmp_path: Path) -> None:
    guest = _off(tmp_path, machine="pc-q35-rhel9.6.0", offered=OFFERED)
    result = engine(guest.hypervisor, tmp_path).run(requirement("machine-type"), subject(guest))
    assert "pc-q35-rhel9.6.0 is a type of RHEL's QEMU" in result.reason
    assert result.reason.endswith("run it on RHEL's QEMU, or change the type by hand")


@pytest.mark.parametrize(
    ("machine", "warning"),
    [
        ("pc-i440fx-7.2", "pc-i440fx-7.2; deprecated: QEMU 13.2 drops it"),
        ("pc-i440fx-2.10", "pc-i440fx-2.10"),
    ],
)
def test_a_deprecated_type_is_compliant_with_a_warning(tmp_path: Path, machine: str, warning: str) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), machine=machine), offered=OFFERED).guests[0]
    judgement = judge(requirement("machine-type"), subject(guest))
    assert (judgement.verdict, judgement.evidence) == (Verdict.COMPLIANT, warning)


@pytest.mark.parametrize(
    ("canonical", "verdict"),
    [("pc-i440fx-1.7", Verdict.NONCOMPLIANT), ("pc-i440fx-2.10", Verdict.COMPLIANT)],
)
def test_an_alias_is_judged_as_what_it_stands_for_here(tmp_path: Path, canonical: str, verdict: Verdict) -> None:
    hypervisor = opened(tmp_path, domain_xml(disk_xml(), machine="pc"), offered=OFFERED)
    hypervisor.machine_aliases = {("x86_64", EMULATOR): {"pc": canonical}}
    assert verdict_of(hypervisor.guests[0], "machine-type") is verdict


def test_an_emulator_listed_under_another_architecture_is_the_same_binary(tmp_path: Path) -> None:
    xml = domain_xml(disk_xml(), machine="pc-i440fx-1.6").replace("arch='x86_64'", "arch='i686'")
    guest = opened(tmp_path, xml, offered=OFFERED).guests[0]
    mend(tmp_path, guest, "machine-type")
    assert definition_of(guest).machine == "pc-i440fx-2.10"


def test_an_emulator_of_the_users_own_is_not_guessed_at(tmp_path: Path) -> None:
    xml = domain_xml(disk_xml(), machine="pc-i440fx-1.6").replace(EMULATOR, "/opt/qemu/bin/qemu-mine")
    guest = opened(tmp_path, xml, offered=OFFERED).guests[0]
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("machine-type"), subject(guest))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "withheld: libvirt lists no machine types for the emulator /opt/qemu/bin/qemu-mine" in result.reason


CAPABILITIES = f"""
<capabilities><guest><os_type>hvm</os_type><arch name='x86_64'><emulator>{EMULATOR}</emulator>
<machine maxCpus='255'>pc-i440fx-7.2</machine><machine canonical='pc-i440fx-7.2' maxCpus='255'>pc</machine>
<machine maxCpus='255' deprecated='yes'>pc-i440fx-1.7</machine>
<domain type='qemu'/><domain type='kvm'><machine maxCpus='288'>pc-q35-7.2</machine></domain>
</arch></guest></capabilities>
"""


class Connection:
    """A libvirt that has CAPABILITIES."""

    def getCapabilities(self) -> str:  # noqa: N802 (libvirt's name)
        return CAPABILITIES


def test_the_capabilities_tell_types_aliases_and_deprecation() -> None:
    hypervisor = Hypervisor("qemu:///system", Connection(), Host(None), Inventory())
    key = ("x86_64", EMULATOR)
    assert hypervisor.machines == {
        key: [
            OfferedMachine("pc-i440fx-7.2", deprecated=False),
            OfferedMachine("pc-i440fx-1.7", deprecated=True),
            OfferedMachine("pc-q35-7.2", deprecated=False),
        ]
    }
    assert hypervisor.machine_aliases == {key: {"pc": "pc-i440fx-7.2"}}
