"""machine-type: the check and the fixer as a pair."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal

import libvirt
import pytest
from testinfra.host import Host

from reclaim.base.errors import ChangeFailed
from reclaim.base.verdict import Verdict
from reclaim.changes.definition_change import DefinitionChange
from reclaim.definition.domain import Definition
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
    drive,
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
    assert result.reason.endswith("run it on a QEMU of RHEL that has pc-q35-rhel9.6.0, or change the type by hand")


RHEL = [OfferedMachine("pc-q35-rhel9.4.0", deprecated=False), OfferedMachine("pc-q35-rhel9.6.0", deprecated=False)]


@pytest.mark.parametrize(
    ("machine", "offered", "reason"),
    [
        pytest.param(
            "pc-q35-rhel10.0.0",
            RHEL,
            "pc-q35-rhel10.0.0 is of a newer QEMU than this one, whose newest type of the family is pc-q35-rhel9.6.0: "
            "the guest cannot start; withheld: an older type is other hardware than the guest was set up on: "
            "run it on a QEMU of RHEL that has pc-q35-rhel10.0.0, or change the type by hand",
            id="newer-from-the-same-qemu",
        ),
        pytest.param(
            "pc-q35-7.2",
            RHEL,
            "pc-q35-7.2 is a type of upstream's QEMU, and this QEMU is RHEL's, which does not have it: the guest "
            "cannot start; withheld: this QEMU has only its vendor's types of the family: take pc-q35-rhel9.6.0 by "
            "hand (virsh edit)",
            id="upstream-on-rhel",
        ),
        pytest.param(
            "pc-i440fx-1.6",
            [*RHEL, OfferedMachine("pc-i440fx-rhel7.6.0", deprecated=True)],
            "pc-i440fx-1.6 is a type of upstream's QEMU, and this QEMU is RHEL's, which does not have it: the guest "
            "cannot start; withheld: this QEMU has only its vendor's types of the family, and they are deprecated: a "
            "later QEMU drops them; take pc-i440fx-rhel7.6.0 by hand (virsh edit), or rebuild the guest on another "
            "family",
            id="upstream-on-a-family-that-rhel-drops",
        ),
        pytest.param(
            "microvm",
            RHEL,
            "this QEMU has no machine type microvm: the guest cannot start; withheld: microvm has no version, and any "
            "other type is other hardware: run it on a QEMU that has microvm, or change the type by hand",
            id="without-a-version",
        ),
    ],
)
@pytest.mark.parametrize("mode", ["plan", "fix"])
def test_a_type_that_no_other_takes_the_place_of_is_left(
    tmp_path: Path, machine: str, offered: list[OfferedMachine], reason: str, mode: Literal["plan", "fix"]
) -> None:
    guest = _off(tmp_path, machine=machine, offered=offered)
    before = definition_of(guest).xml
    result = engine(guest.hypervisor, tmp_path, mode, force=True).run(requirement("machine-type"), subject(guest))
    assert (result.verdict, result.reason, result.changes) == (Verdict.NONCOMPLIANT, reason, [])
    assert definition_of(guest).xml == before


UBUNTU = [
    OfferedMachine("pc-i440fx-10.2", deprecated=False),
    OfferedMachine("pc-i440fx-noble-v2", deprecated=False),
    OfferedMachine("pc-i440fx-resolute", deprecated=False),
]


@pytest.mark.parametrize(
    ("machine", "offered", "after"),
    [
        ("pc-i440fx-trusty", UBUNTU, "pc-i440fx-resolute"),
        ("pc-i440fx-noble", UBUNTU, "pc-i440fx-resolute"),
        ("pc-i440fx-noble-v2", NEWER, "pc-i440fx-10.1"),
        ("pc-i440fx-5.2+pve0", NEWER, "pc-i440fx-10.1"),
        ("pc-q35-rhel8.6.0", RHEL, "pc-q35-rhel9.6.0"),
    ],
)
def test_a_vendor_s_type_takes_the_newest_of_its_vendor_else_upstream_s(
    tmp_path: Path, machine: str, offered: list[OfferedMachine], after: str
) -> None:
    guest = _off(tmp_path, machine=machine, offered=offered)
    mended = mend(tmp_path, guest, "machine-type")
    assert list(mended.gone.elements()) == [f"domain/os/type arch='x86_64' machine='{machine}' 'hvm'"]
    assert list(mended.came.elements()) == [f"domain/os/type arch='x86_64' machine='{after}' 'hvm'"]


def test_an_alias_that_this_qemu_lacks_takes_the_newest_of_its_family(tmp_path: Path) -> None:
    guest = _off(tmp_path, machine="ubuntu")
    guest.hypervisor.machine_aliases = {("x86_64", EMULATOR): {"pc": "pc-i440fx-10.1"}}
    mend(tmp_path, guest, "machine-type")
    assert definition_of(guest).machine == "pc-i440fx-10.1"


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


LEGACY = [OfferedMachine("pc-i440fx-2.6", deprecated=True), OfferedMachine("pc-i440fx-10.0", deprecated=False)]
SEEN = "QEMU 10.0 was seen not to boot from virtio disks with a type up to 2.6, without KVM"


def _on_qemu_10(folder: Path, *devices: str, machine: str = "pc-i440fx-2.6", qemu: str | None = "10.0.13") -> Guest:
    guest = opened(folder, domain_xml(*devices, machine=machine), offered=LEGACY).guests[0]
    guest.hypervisor.qemu_version = qemu
    return guest


def test_a_type_that_may_not_boot_here_is_compliant_with_a_warning(tmp_path: Path) -> None:
    judgement = judge(requirement("machine-type"), subject(_on_qemu_10(tmp_path, disk_xml())))
    advice = "start the guest once to see, or take a newer type (virsh edit)"
    words = f"pc-i440fx-2.6; may not boot: {SEEN}: {advice}; deprecated: QEMU 10.1 drops it"
    assert (judgement.verdict, judgement.evidence) == (Verdict.COMPLIANT, words)


@pytest.mark.parametrize(
    ("devices", "machine", "qemu", "warned"),
    [
        pytest.param([disk_xml("sda", "scsi", inner=drive(0)), scsi_xml()], "pc-q35-2.4", "10.2.0", True, id="scsi"),
        pytest.param([disk_xml()], "pc-i440fx-xenial", "10.1.0", True, id="vendor"),
        pytest.param([disk_xml("hda", "ide"), disk_xml("vda")], "pc-i440fx-2.6", "10.0.0", True, id="either"),
        pytest.param(
            [disk_xml("hda", "ide", inner="<boot order='1'/>"), disk_xml("vda")],
            "pc-i440fx-2.6",
            "10.0.0",
            False,
            id="boots-from-ide",
        ),
        pytest.param([disk_xml()], "pc-i440fx-2.7", "10.0.13", False, id="newer-type"),
        pytest.param([disk_xml()], "pc-i440fx-2.6", "9.2.0", False, id="older-qemu"),
        pytest.param([disk_xml()], "pc-i440fx-2.6", None, False, id="unknown-qemu"),
        pytest.param([disk_xml()], "virt-2.6", "10.0.13", False, id="no-seabios"),
        pytest.param([disk_xml("hda", "ide")], "pc-i440fx-2.6", "10.0.13", False, id="ide"),
        pytest.param(
            [disk_xml("sda", "scsi", inner=drive(0)), scsi_xml(model="lsilogic")],
            "pc-i440fx-2.6",
            "10.0.13",
            False,
            id="lsilogic",
        ),
    ],
)
def test_the_firmware_is_warned_of_if_it_was_seen_to_fail(
    tmp_path: Path, devices: list[str], machine: str, qemu: str | None, *, warned: bool
) -> None:
    guest = _on_qemu_10(tmp_path, *devices, machine=machine, qemu=qemu)
    reason = guest.hypervisor.why_may_not_boot(guest.definition)
    assert reason == (SEEN if warned else None)


@pytest.mark.parametrize(
    "system", ["<loader type='rom'>/ovmf</loader>", "<kernel>/boot/vmlinuz</kernel>", "<bios useserial='no'/>"]
)
def test_another_firmware_and_the_kernel_of_the_host_are_not_warned_of(tmp_path: Path, system: str) -> None:
    guest = _on_qemu_10(tmp_path, disk_xml())
    definition = Definition(guest.definition.xml.replace("</type>", f"</type>{system}", 1))
    assert (guest.hypervisor.why_may_not_boot(definition) is None) == ("bios" not in system)
    efi = Definition(guest.definition.xml.replace("<os>", "<os firmware='efi'>", 1))
    assert guest.hypervisor.why_may_not_boot(efi) is None


@pytest.mark.parametrize(
    ("slug", "disk", "devices"),
    [
        pytest.param("disk-bus", "hda", [disk_xml("hda", "ide"), scsi_xml()], id="ide"),
        pytest.param("disk-bus", "sda", [disk_xml("sda", "sata"), scsi_xml()], id="sata"),
        pytest.param(
            "scsi-controller",
            None,
            [disk_xml("sda", "scsi", inner=drive(0)), scsi_xml(model="lsilogic")],
            id="lsilogic",
        ),
    ],
)
def test_no_disk_goes_to_a_bus_from_which_it_may_not_boot(
    tmp_path: Path, slug: str, disk: str | None, devices: list[str]
) -> None:
    guest = _on_qemu_10(tmp_path, *devices)
    before = definition_of(guest).xml
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement(slug), subject(guest, disk))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert f"withheld: the guest may not boot from there: {SEEN}; take a newer machine type first" in result.reason
    assert definition_of(guest).xml == before
    guest.hypervisor.qemu_version = "7.2.22"
    mend(tmp_path, guest, slug, disk)


def test_a_disk_on_virtio_moves_as_ever(tmp_path: Path) -> None:
    """If its firmware reads it there, it reads it behind virtio-scsi."""
    guest = _on_qemu_10(tmp_path, disk_xml(), scsi_xml())
    mend(tmp_path, guest, "disk-bus", "vda")


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


# An emulator that is gone ---------------------------------------------------------------------

SPICE = "/usr/bin/kvm-spice"
NO_SPICE = f"libvirt cannot use the emulator {SPICE} (No such file or directory)"


def _spice(folder: Path, machine: str = "pc-i440fx-2.10", *, running: bool = False) -> Guest:
    """A guest of an emulator that libvirt does not find; its test driver cannot be asked."""
    xml = domain_xml(disk_xml(), machine=machine, running=running).replace(EMULATOR, SPICE)
    guest = opened(folder, xml, offered=OFFERED).guests[0]
    guest.hypervisor._unusable[SPICE] = NO_SPICE
    return guest


@pytest.mark.parametrize(
    ("machine", "more"),
    [
        ("pc-i440fx-2.10", ""),
        ("pc-i440fx-1.6", ", and a machine type that it has: this QEMU has no pc-i440fx-1.6 any more"),
        ("pc", ""),
    ],
)
@pytest.mark.parametrize("mode", ["plan", "fix"])
def test_an_emulator_that_is_gone_is_set_by_hand(
    tmp_path: Path, machine: str, more: str, mode: Literal["plan", "fix"]
) -> None:
    guest = _spice(tmp_path, machine)
    before = definition_of(guest).xml
    one = engine(guest.hypervisor, tmp_path, mode, force=True)
    row = one.run(requirement("machine-type"), subject(guest))
    edit = f"set <emulator> to one that is here, {EMULATOR} (virsh edit){more}"
    assert (row.verdict, row.changes) == (Verdict.NONCOMPLIANT, [])
    assert row.reason == f"{NO_SPICE}: the guest cannot start; withheld: {edit}"
    discard = one.run(requirement("disk-discard"), subject(guest, "vda"))
    assert f"withheld: {NO_SPICE}, and libvirt refuses definitions with it (see machine-type)" in discard.reason
    assert definition_of(guest).xml == before


def test_a_guest_that_runs_cannot_start_again_without_its_emulator(tmp_path: Path) -> None:
    reason = judge(requirement("machine-type"), subject(_spice(tmp_path, running=True))).reason
    assert reason == f"{NO_SPICE}: the guest cannot start again"


def test_a_host_without_a_qemu_for_the_guest_s_architecture(tmp_path: Path) -> None:
    guest = _spice(tmp_path)
    guest.hypervisor.machines = {("aarch64", "/usr/bin/qemu-system-aarch64"): OFFERED}
    row = engine(guest.hypervisor, tmp_path).run(requirement("machine-type"), subject(guest))
    assert row.reason.endswith("withheld: this host has no QEMU for x86_64: install one, and name it in <emulator>")


def _refusing(code: int, origin: int, asked: list[object]) -> SimpleNamespace:
    """A connection whose libvirt refuses to describe an emulator with that error."""

    def refuse(*arguments: object) -> str:
        asked.append(arguments)
        error = libvirt.libvirtError("")
        words = f"Cannot check QEMU binary {SPICE}: No such file or directory"
        error.err = (code, origin, words, 2, words, None, None, -1, -1)
        raise error

    return SimpleNamespace(getDomainCapabilities=refuse)


@pytest.mark.parametrize(
    ("code", "origin", "reason"),
    [
        pytest.param(libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_QEMU, NO_SPICE, id="gone"),
        pytest.param(libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, NO_SPICE, id="no-qemu"),
        pytest.param(libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_FROM_TEST, None, id="no-driver"),
        pytest.param(libvirt.VIR_ERR_OPERATION_DENIED, libvirt.VIR_FROM_NONE, None, id="read-only"),
        pytest.param(libvirt.VIR_ERR_ACCESS_DENIED, libvirt.VIR_FROM_ACCESS, None, id="not-allowed"),
        pytest.param(libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_FROM_QEMU, None, id="another"),
    ],
)
def test_libvirt_is_asked_about_an_emulator_that_it_does_not_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, origin: int, reason: str | None
) -> None:
    guest = _spice(tmp_path)
    node, definition = guest.hypervisor, guest.definition
    node._unusable.clear()
    asked: list[object] = []
    monkeypatch.setattr(node, "connection", _refusing(code, origin, asked))
    assert [node.why_no_emulator(definition) for _ in range(2)] == [reason, reason]
    assert asked == [(SPICE, None, None, None)], "once"


def test_a_libvirt_that_hangs_up_tells_nothing_about_an_emulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = _spice(tmp_path)
    node, definition = guest.hypervisor, guest.definition
    node._unusable.clear()
    monkeypatch.setattr(node, "connection", _refusing(libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_RPC, []))
    with pytest.raises(libvirt.libvirtError):
        node.why_no_emulator(definition)
    assert not node._unusable


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
