"""disk-bus: the check and the fixer as a pair."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fixers.disk_bus import move_to_scsi
from reclaim.base.verdict import Verdict
from reclaim.changes.definition_change import DefinitionChange
from reclaim.changes.kinds import from_json, to_json
from reclaim.definition.domain import Definition
from reclaim.engine.engine import judge
from reclaim.handles.guest import Disk
from reclaim.inventory import Inventory, Policy
from tests.support import (
    Inside,
    block,
    definition_of,
    disk_xml,
    domain_xml,
    drive,
    engine,
    inhabited,
    mend,
    opened,
    part,
    requirement,
    scsi_xml,
    subject,
    verdict_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.handles.guest import Guest

PCI = "<address type='pci' domain='0x0000' bus='0x00' slot='0x07' function='0x0'/>"


@pytest.mark.parametrize(
    ("target", "bus", "now"),
    [
        pytest.param("vda", "virtio", "sda", id="virtio"),
        pytest.param("hda", "ide", "sda", id="ide"),
        pytest.param("sda", "sata", "sda", id="sata"),
    ],
)
def test_a_disk_on_another_bus_moves(tmp_path: Path, target: str, bus: str, now: str) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(target, bus), scsi_xml())).guests[0]
    mend(tmp_path, guest, "disk-bus", target)
    disk = definition_of(guest).disk(now)
    assert (disk.bus, disk.path) == ("scsi", f"/images/{target}.qcow2")
    assert disk.address == {"type": "drive", "controller": "0", "bus": "0", "target": "0", "unit": "0"}


def test_only_target_and_address_of_the_one_disk_change(tmp_path: Path) -> None:
    moving = disk_xml(driver="cache='none' discard='unmap'", inner=f"<serial>s-1</serial>{PCI}")
    guest = opened(tmp_path, domain_xml(moving, disk_xml("vdb", driver="cache='none'"), scsi_xml())).guests[0]
    mended = mend(tmp_path, guest, "disk-bus", "vda")
    assert sorted(mended.gone.elements()) == [
        "domain/devices/disk/address bus='0x00' domain='0x0000' function='0x0' slot='0x07' type='pci' ''",
        "domain/devices/disk/target bus='virtio' dev='vda' ''",
    ]
    assert sorted(mended.came.elements()) == [
        "domain/devices/disk/address bus='0' controller='0' target='0' type='drive' unit='0' ''",
        "domain/devices/disk/target bus='scsi' dev='sda' ''",
    ]


@pytest.mark.parametrize(
    ("driver", "kept", "moved"),
    [
        pytest.param("queues='4' iothread='1'", {}, {"queues": "4", "iothread": "1"}, id="to-the-controller"),
        pytest.param("ioeventfd='on' packed='on'", {}, {"ioeventfd": "on", "packed": "on"}, id="virtio-options"),
        pytest.param("event_idx='on' queue_size='256'", {}, {}, id="dropped"),
        pytest.param("cache='none' io='threads'", {"cache": "none", "io": "threads"}, {}, id="kept"),
    ],
)
def test_what_only_virtio_blk_has_goes_to_the_controller_or_away(
    tmp_path: Path, driver: str, kept: dict[str, str], moved: dict[str, str]
) -> None:
    threads = "<iothreads>1</iothreads>"
    xml = domain_xml(disk_xml(driver=driver), scsi_xml()).replace("<os>", f"{threads}<os>")
    guest = opened(tmp_path, xml).guests[0]
    mend(tmp_path, guest, "disk-bus", "vda")
    definition = definition_of(guest)
    assert definition.disk("sda").driver == {"name": "qemu", "type": "qcow2", **kept}
    assert definition.scsi_controllers[0].driver == moved


def test_what_the_controller_already_says_stays(tmp_path: Path) -> None:
    controller = "<controller type='scsi' index='0' model='virtio-scsi'><driver queues='8'/></controller>"
    guest = opened(tmp_path, domain_xml(disk_xml(driver="queues='2'"), controller)).guests[0]
    mended = mend(tmp_path, guest, "disk-bus", "vda")
    assert "domain/devices/controller/driver queues='8' ''" not in mended.gone


def test_a_model_of_virtio_blk_goes(tmp_path: Path) -> None:
    xml = disk_xml().replace("device='disk'", "device='disk' model='virtio-transitional'")
    guest = opened(tmp_path, domain_xml(xml, scsi_xml())).guests[0]
    mend(tmp_path, guest, "disk-bus", "vda")
    assert definition_of(guest).disk("sda").model is None


@pytest.mark.parametrize(
    ("inner", "note"),
    [
        pytest.param("<acpi index='1'/>", "dropped: acpi index='1' (only a PCI device has that)", id="acpi-index"),
        pytest.param(f"<acpi index='7'/>{PCI}", "dropped: acpi index='7'", id="beside-an-address"),
    ],
)
def test_what_only_a_pci_device_has_goes_and_others_keep_theirs(tmp_path: Path, inner: str, note: str) -> None:
    """libvirt 9 takes it on the scsi bus without a word, libvirt 11 refuses the definition."""
    card = "<interface type='user'><mac address='52:54:00:00:00:64'/><acpi index='100'/></interface>"
    guest = opened(tmp_path, domain_xml(disk_xml(inner=inner), scsi_xml(), card)).guests[0]
    mended = mend(tmp_path, guest, "disk-bus", "vda")
    assert note in mended.result.evidence
    definition = definition_of(guest)
    assert definition.disk("sda").element.find("acpi") is None
    assert [element.get("index") for element in definition.root.iterfind("devices/interface/acpi")] == ["100"]


@pytest.mark.parametrize(
    ("others", "now"),
    [
        pytest.param([disk_xml("sda", "sata", device="cdrom")], "sdb", id="name-taken-by-a-cdrom"),
        pytest.param([disk_xml("sda", "sata"), disk_xml("sdb", "usb")], "sdc", id="two-names-taken"),
        pytest.param([disk_xml("vdb")], "sda", id="free"),
    ],
)
def test_a_taken_target_name_is_passed_over(tmp_path: Path, others: list[str], now: str) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), *others, scsi_xml())).guests[0]
    mend(tmp_path, guest, "disk-bus", "vda")
    definition = definition_of(guest)
    assert definition.disk(now).path == "/images/vda.qcow2"
    targets = [disk.target for disk in definition.all_disks]
    assert len(set(targets)) == len(targets)


def test_a_taken_address_is_passed_over(tmp_path: Path) -> None:
    taken = [disk_xml("sdx", "scsi", inner=drive(0)), disk_xml("sdy", "scsi", device="cdrom", inner=drive(1))]
    guest = opened(tmp_path, domain_xml(disk_xml(), *taken, scsi_xml())).guests[0]
    mend(tmp_path, guest, "disk-bus", "vda")
    assert definition_of(guest).disk("sda").address["unit"] == "2"


@pytest.mark.slow
@pytest.mark.parametrize("count", [8, 20])
def test_many_disks_all_stay_on_the_one_controller(tmp_path: Path, count: int) -> None:
    names = [f"vd{chr(ord('a') + number)}" for number in range(count)]
    guest = opened(tmp_path, domain_xml(*map(disk_xml, names), scsi_xml())).guests[0]
    run = engine(guest.hypervisor, tmp_path, force=True)
    for name in names:
        assert run.run(requirement("disk-bus"), subject(guest, name)).verdict is Verdict.FIXED
    definition = definition_of(guest)
    assert [one.model for one in definition.scsi_controllers] == ["virtio-scsi"]
    places = sorted((int(disk.address["target"]), int(disk.address["unit"])) for disk in definition.disks)
    assert places == [(number // 8, number % 8) for number in range(count)], "OVMF boots from LUNs 0 to 7 only"
    assert {disk.path for disk in definition.disks} == {f"/images/{name}.qcow2" for name in names}


def test_disks_with_different_drivers_change_places_and_keep_theirs(tmp_path: Path) -> None:
    """libvirt sorts disks by bus and target, so what is defined comes back in another order."""
    unmap = "discard='unmap'"
    disks = [disk_xml("sda", "scsi", inner=drive(0)), disk_xml("sdc", "scsi", driver=unmap, inner=drive(1))]
    guest = opened(tmp_path, domain_xml(*disks, disk_xml("vdb"), scsi_xml())).guests[0]
    mend(tmp_path, guest, "disk-bus", "vdb")
    definition = definition_of(guest)
    assert [disk.target for disk in definition.disks] == ["sda", "sdb", "sdc"]
    assert ["discard" in disk.driver for disk in definition.disks] == [False, False, True]


def test_policy_keep_leaves_the_target_name(tmp_path: Path) -> None:
    inventory = Inventory(policy=Policy(target="keep"))
    guest = opened(tmp_path, domain_xml(disk_xml(), scsi_xml()), inventory=inventory).guests[0]
    mended = mend(tmp_path, guest, "disk-bus", "vda")
    assert definition_of(guest).disk("vda").bus == "scsi"
    assert mended.result.disk == "vda"


def test_without_a_controller_the_fix_is_withheld(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), scsi_xml(0, "lsilogic"))).guests[0]
    before = definition_of(guest).xml
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("disk-bus"), subject(guest, "vda"))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "withheld: there is no virtio-scsi controller" in result.reason
    assert definition_of(guest).xml == before


@pytest.mark.parametrize(
    ("device", "verdict"),
    [
        pytest.param(disk_xml("sda", "scsi", inner=drive(0)), Verdict.COMPLIANT, id="scsi"),
        pytest.param(disk_xml("sda", "usb"), Verdict.NOT_APPLICABLE, id="usb"),
        pytest.param(disk_xml("sda", "virtio", inner="<readonly/>"), Verdict.NOT_APPLICABLE, id="read-only"),
    ],
)
def test_verdicts_that_start_no_fixer(tmp_path: Path, device: str, verdict: Verdict) -> None:
    guest = opened(tmp_path, domain_xml(device, scsi_xml())).guests[0]
    assert verdict_of(guest, "disk-bus", "sda") is verdict


# Settings that are the controller's on the scsi bus ---------------------------------------------


def _walked(tmp_path: Path, *devices: str, names: tuple[str, ...]) -> tuple[Guest, list[str]]:
    """Move *names* one after the other; the guest, and the evidence for each."""
    xml = domain_xml(*devices).replace("<os>", "<iothreads>3</iothreads><os>")
    guest = opened(tmp_path, xml).guests[0]
    run = engine(guest.hypervisor, tmp_path, force=True)
    results = [run.run(requirement("disk-bus"), subject(guest, name)) for name in names]
    assert {result.verdict for result in results} == {Verdict.FIXED}
    return guest, [result.evidence for result in results]


def _settings(guest: Guest) -> list[dict[str, str]]:
    return [dict(one.driver) for one in definition_of(guest).scsi_controllers]


def test_disks_with_different_settings_get_controllers_of_their_own(tmp_path: Path) -> None:
    disks = [
        disk_xml("vda", driver="iothread='1' queues='4'"),
        disk_xml("vdb", driver="iothread='2'"),
        disk_xml("vdc"),
        disk_xml("vdd", driver="iothread='1' queues='4'"),
        disk_xml("vde", driver="queues='2'"),
    ]
    guest, said = _walked(tmp_path, *disks, scsi_xml(), names=("vda", "vdb", "vdc", "vdd", "vde"))
    assert _settings(guest) == [{"iothread": "1", "queues": "4"}, {"iothread": "2"}, {}, {"queues": "2"}]
    homes = {disk.path: disk.address["controller"] for disk in definition_of(guest).disks}
    assert [homes[f"/images/vd{letter}.qcow2"] for letter in "abcde"] == ["0", "1", "2", "0", "3"]
    assert said[1] == "bus='scsi'; iothread='2' is on controller 1 now"


def test_a_disk_without_settings_takes_no_iothread_that_it_was_kept_out_of(tmp_path: Path) -> None:
    controller = "<controller type='scsi' index='0' model='virtio-scsi'><driver iothread='1'/></controller>"
    guest, _said = _walked(tmp_path, disk_xml(), controller, names=("vda",))
    assert definition_of(guest).disk("sda").address["controller"] == "1"
    assert _settings(guest) == [{"iothread": "1"}, {}]


def test_settings_do_not_change_for_a_disk_that_is_there_already(tmp_path: Path) -> None:
    there = disk_xml("sda", "scsi", inner=drive(0))
    guest, _said = _walked(tmp_path, there, disk_xml("vdb", driver="packed='on'"), scsi_xml(), names=("vdb",))
    assert _settings(guest) == [{}, {"packed": "on"}]


def test_what_nothing_on_scsi_has_is_named_in_the_evidence(tmp_path: Path) -> None:
    device = disk_xml(driver="event_idx='off' queue_size='512'").replace(
        "device='disk'", "device='disk' model='virtio-transitional'"
    )
    _guest, said = _walked(tmp_path, device, scsi_xml(), names=("vda",))
    assert said == [
        "bus='scsi'; dropped: model='virtio-transitional', event_idx='off', queue_size='512' (only virtio-blk has that)"
    ]


def test_a_plan_names_it_too(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(driver="event_idx='off'"), scsi_xml())).guests[0]
    result = engine(guest.hypervisor, tmp_path, "plan", force=True).run(requirement("disk-bus"), subject(guest, "vda"))
    assert result.evidence == "dropped: event_idx='off' (only virtio-blk has that)"


def test_the_journal_keeps_what_was_said(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(driver="event_idx='off'"), scsi_xml())).guests[0]
    (change,) = move_to_scsi(Disk(guest, "vda"))
    again = from_json(json.loads(json.dumps(to_json(change))))
    assert again == change
    assert isinstance(again, DefinitionChange)
    assert again.notes == ("dropped: event_idx='off' (only virtio-blk has that)",)


def test_queues_mapped_onto_iothreads_are_withheld(tmp_path: Path) -> None:
    mapped = "<driver name='qemu' type='qcow2'><iothreads><iothread id='1'/></iothreads></driver>"
    guest = opened(tmp_path, domain_xml(disk_xml(), scsi_xml())).guests[0]
    guest.persistent = Definition(guest.persistent.xml.replace("<driver name='qemu' type='qcow2'/>", mapped))
    result = engine(guest.hypervisor, tmp_path, "plan", force=True).run(requirement("disk-bus"), subject(guest, "vda"))
    assert "withheld: its queues are mapped onto several IOThreads" in result.reason


# Serials ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "kept", "said"),
    [
        pytest.param(20, 20, "", id="as-virtio-blk-shows-it"),
        pytest.param(21, 21, f"; the guest sees the serial '{'x' * 21}', on virtio it was '{'x' * 20}'", id="more"),
        pytest.param(
            37,
            36,
            f"; the guest sees the serial '{'x' * 36}', on virtio it was '{'x' * 20}' "
            "(cut to the 36 characters that a SCSI disk can have)",
            id="more-than-scsi-takes",
        ),
    ],
)
def test_a_long_serial_changes_in_the_guest_and_that_is_said(tmp_path: Path, length: int, kept: int, said: str) -> None:
    guest, evidence = _walked(tmp_path, disk_xml(inner=f"<serial>{'x' * length}</serial>"), scsi_xml(), names=("vda",))
    assert definition_of(guest).disk("sda").serial == "x" * kept
    assert evidence == [f"bus='scsi'{said}"]


# Where the guest boots from ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("devices", "moving", "order"),
    [
        pytest.param(
            [disk_xml("vda"), disk_xml("sda", "scsi", inner=drive(0))],
            ("vda",),
            ["vda", "sda"],
            id="before-a-scsi-disk",
        ),
        pytest.param(
            [disk_xml("vda"), disk_xml("sda", "sata")], ("vda", "sda"), ["vda", "sda"], id="name-taken-then-given-up"
        ),
        pytest.param(
            [disk_xml("vdb"), disk_xml("hda", "ide")], ("vdb", "hda"), ["vdb", "hda"], id="second-letter-first"
        ),
        pytest.param(
            [disk_xml("sdb", "sata", device="cdrom"), disk_xml("vdb"), disk_xml("vda", inner="<readonly/>")],
            ("vdb",),
            ["vda", "vdb"],
            id="a-read-only-disk-comes-first",
        ),
    ],
)
def test_the_first_hard_disk_stays_the_first(
    tmp_path: Path, devices: list[str], moving: tuple[str, ...], order: list[str]
) -> None:
    guest, _said = _walked(tmp_path, *devices, scsi_xml(), names=moving)
    disks = [disk for disk in definition_of(guest).all_disks if disk.device == "disk"]
    assert definition_of(guest).root.find("os/boot") is not None
    assert disks[0].path == f"/images/{order[0]}.qcow2"
    assert {disk.path for disk in disks} == {f"/images/{name}.qcow2" for name in order}


def test_policy_keep_is_withheld_where_another_disk_would_boot(tmp_path: Path) -> None:
    inventory = Inventory(policy=Policy(target="keep"))
    devices = [disk_xml("vdb"), disk_xml("sda", "scsi", inner=drive(0)), scsi_xml()]
    guest = opened(tmp_path, domain_xml(*devices), inventory=inventory).guests[0]
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("disk-bus"), subject(guest, "vdb"))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "withheld: as vdb on the scsi bus another disk would be the first one" in result.reason


def test_with_an_order_of_the_devices_own_names_are_free(tmp_path: Path) -> None:
    devices = [
        disk_xml("vdb", inner="<boot order='1'/>"),
        disk_xml("sdc", "scsi", inner=f"<boot order='2'/>{drive(0)}"),
        disk_xml("sdb", "sata"),
    ]
    guest, _said = _walked(tmp_path, *devices, scsi_xml(), names=("vdb",))
    disk = definition_of(guest).disk("sda")
    assert (disk.path, disk.element.find("boot[@order='1']") is not None) == ("/images/vdb.qcow2", True)


# Policy any-discarding --------------------------------------------------------------------------

ANY = Inventory(policy=Policy(bus="any-discarding"))


@pytest.mark.parametrize(
    ("bus", "machine", "verdict"),
    [
        pytest.param("virtio", "pc-q35-4.0", Verdict.NOT_ASSESSABLE, id="the-driver-is-not-known"),
        pytest.param("virtio", "q35", Verdict.NOT_ASSESSABLE, id="nor-on-the-newest"),
        pytest.param("virtio", "pc-q35-3.1", Verdict.NONCOMPLIANT, id="virtio-blk-does-not-discard"),
        pytest.param("virtio", "acme-1", Verdict.NONCOMPLIANT, id="nobody-knows"),
        pytest.param("virtio", "pc-q35-resolute", Verdict.NOT_ASSESSABLE, id="ubuntu"),
        pytest.param("virtio", "microvm", Verdict.NOT_ASSESSABLE, id="without-a-version"),
        pytest.param("virtio", "malta", Verdict.NOT_ASSESSABLE, id="a-board"),
        pytest.param("sata", "pc-q35-3.1", Verdict.COMPLIANT, id="sata"),
        pytest.param("ide", "pc-i440fx-2.4", Verdict.COMPLIANT, id="ide"),
    ],
)
def test_policy_any_discarding_accepts_what_passes_discards_on(
    tmp_path: Path, bus: str, machine: str, verdict: Verdict
) -> None:
    """Nobody looked inside."""
    guest = opened(tmp_path, domain_xml(disk_xml("vda", bus), machine=machine), inventory=ANY).guests[0]
    assert verdict_of(guest, "disk-bus", "vda") is verdict


@pytest.mark.parametrize(
    ("machine", "disc_max", "release", "verdict"),
    [
        pytest.param("pc-q35-4.0", 2147450880, "6.1.0-13-amd64", Verdict.COMPLIANT, id="offered"),
        pytest.param("pc-q35-4.0", 2147450880, "4.18.0-553.el8.x86_64", Verdict.COMPLIANT, id="a-backport"),
        pytest.param("pc-q35-7.2", 0, "4.19.0-27-amd64", Verdict.NONCOMPLIANT, id="a-driver-that-is-too-old"),
        pytest.param("pc-q35-7.2", 0, "6.1.0-13-amd64", Verdict.NONCOMPLIANT, id="disc-max-is-what-counts"),
        pytest.param("pc-q35-3.1", 0, "6.1.0-13-amd64", Verdict.NONCOMPLIANT, id="the-machine-does-not"),
    ],
)
def test_virtio_blk_is_accepted_where_the_guest_s_driver_offers_discards(
    tmp_path: Path, machine: str, disc_max: int, release: str, verdict: Verdict
) -> None:
    inside = Inside(devices=[block("vda", part("vda1", fstype="ext4"), disc_max=disc_max)], release=release)
    guest = inhabited(tmp_path, inside, disk_xml(), machine=machine, inventory=ANY)
    guest.look_inside()
    assert verdict_of(guest, "disk-bus", "vda") is verdict


@pytest.mark.parametrize(
    ("release", "verdict"),
    [
        pytest.param("5.0.0", Verdict.COMPLIANT, id="new-enough"),
        pytest.param("4.19.0-27-amd64", Verdict.NOT_ASSESSABLE, id="perhaps-a-backport"),
        pytest.param("unknown", Verdict.NOT_ASSESSABLE, id="no-number"),
    ],
)
def test_before_it_runs_on_such_a_machine_the_kernel_tells(tmp_path: Path, release: str, verdict: Verdict) -> None:
    """Defined with 4.0 and running with 3.1: DISC-MAX is 0 now, whatever the driver can do."""
    inside = Inside(devices=[block("vda", part("vda1", fstype="ext4"), disc_max=0)], release=release)
    guest = inhabited(tmp_path, inside, disk_xml(), machine="pc-q35-3.1", inventory=ANY)
    guest.look_inside()
    live = guest.live
    assert live is not None
    guest.hypervisor.connection.defineXML(live.xml.replace("pc-q35-3.1", "pc-q35-4.0"))
    guest.__dict__.pop("persistent", None)
    assert guest.machine == "pc-q35-4.0"
    assert verdict_of(guest, "disk-bus", "vda") is verdict


@pytest.mark.parametrize(
    ("target", "bus", "words"),
    [
        ("sda", "usb", "it is a USB disk"),
        ("fda", "fdc", "a floppy"),
        ("sda", "sd", "an SD card"),
        ("xvda", "xen", "a Xen disk"),
        ("nvme0n1", "nvme", "an NVMe disk"),
        ("sda", "fancy", "on the bus fancy, with which reclaim was not tested"),
    ],
)
@pytest.mark.parametrize("policy", ["scsi", "any-discarding"])
def test_only_a_bus_that_was_measured_is_left(tmp_path: Path, target: str, bus: str, words: str, policy: Any) -> None:
    inventory = Inventory(policy=Policy(bus=policy))
    guest = opened(tmp_path, domain_xml(disk_xml(), scsi_xml()), inventory=inventory).guests[0]
    definition = Definition(domain_xml(disk_xml(target, bus), scsi_xml()))  # libvirt may not know it yet
    with guest.planning(definition, {}):
        judged = judge(requirement("disk-bus"), subject(guest, target))
        controller = judge(requirement("scsi-controller"), subject(guest))
    assert (judged.verdict, controller.verdict) == (Verdict.NOT_APPLICABLE, Verdict.NOT_APPLICABLE)
    assert judged.reason.startswith(words)


def test_a_target_is_said_to_stay_only_for_a_reason_that_is_true(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml("xvda"), scsi_xml())).guests[0]
    mended = mend(tmp_path, guest, "disk-bus", "xvda")
    assert "another disk" not in mended.result.evidence
    assert definition_of(guest).disk("xvda").bus == "scsi"


@pytest.mark.parametrize("note", ["<b:disk target='vda'/>", "<b:disk>vda</b:disk>"])
def test_a_disk_that_a_note_names_keeps_its_name(tmp_path: Path, note: str) -> None:
    metadata = f"<b:backup xmlns:b='https://example.org/backup'>{note}</b:backup>"
    guest = opened(tmp_path, domain_xml(disk_xml(), disk_xml("vdb"), scsi_xml(), metadata=metadata)).guests[0]
    mended = mend(tmp_path, guest, "disk-bus", "vda")
    assert definition_of(guest).disk("vda").bus == "scsi"
    assert "the target stays vda: <metadata> names it (disk)" in mended.result.evidence
    mend(tmp_path, guest, "disk-bus", "vdb")
    assert definition_of(guest).disk("sdb").path == "/images/vdb.qcow2"


@pytest.mark.parametrize("machine", ["q35", "microvm", "malta"])
@pytest.mark.parametrize(("qemu", "discards"), [("7.2.22", True), ("4.0.0", True), ("3.1.0", False), (None, True)])
def test_a_type_without_a_version_is_as_new_as_its_qemu(
    tmp_path: Path, machine: str, qemu: str | None, *, discards: bool
) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), machine=machine), inventory=ANY).guests[0]
    guest.hypervisor.qemu_version = qemu
    verdict = Verdict.NOT_ASSESSABLE if discards else Verdict.NONCOMPLIANT
    assert verdict_of(guest, "disk-bus", "vda") is verdict


# Buses through which discards pass as well ---------------------------------------------------

RULE = 'so a move only satisfies this rule; accept it with bus = "any-discarding" in the inventory\'s policy'


@pytest.mark.parametrize(
    ("machine", "disc_max", "passes"),
    [
        pytest.param("pc-q35-7.2", 2147450880, True, id="of-today"),
        pytest.param("pc-q35-4.0", 2147450880, True, id="the-first-that-does"),
        pytest.param("pc-q35-3.1", 0, False, id="machine-too-old"),
        pytest.param("pc-q35-7.2", 0, False, id="driver-too-old"),
    ],
)
def test_a_row_reports_that_virtio_blk_passes_discards_on(
    tmp_path: Path, machine: str, disc_max: int, *, passes: bool
) -> None:
    inside = Inside(devices=[block("vda", part("vda1", fstype="ext4"), disc_max=disc_max)])
    guest = inhabited(tmp_path, inside, disk_xml(driver="discard='unmap'"), machine=machine)
    guest.look_inside()
    reasons = [judge(requirement("disk-bus"), subject(guest, "vda")).reason]
    reasons.append(judge(requirement("scsi-controller"), subject(guest)).reason)
    bus, controller = "it is on the bus virtio", "there is no virtio-scsi controller for vda"
    if not passes:
        assert reasons == [bus, controller]
        return
    # the advice is in the row of the disk that it is about, once
    assert reasons == [
        f"{bus}; discards pass through this bus too, {RULE}",
        f"{controller}; only disk-bus asks for one",
    ]


def test_discards_pass_only_once_the_disk_asks_for_them(tmp_path: Path) -> None:
    """Each row is true of its own disk: sda asks for discards, and sdb does not."""
    disks = disk_xml("sda", "sata", driver="discard='unmap'"), disk_xml("sdb", "sata")
    guest = opened(tmp_path, domain_xml(*disks)).guests[0]
    reasons = {disk: judge(requirement("disk-bus"), subject(guest, disk)).reason for disk in ("sda", "sdb")}
    assert reasons["sda"] == f"it is on the bus sata; discards pass through this bus too, {RULE}"
    once = "discards pass through this bus too once disk-discard is mended"
    assert reasons["sdb"] == f"it is on the bus sata; {once}, {RULE}"
    mend(tmp_path, guest, "disk-discard", "sdb")
    assert once not in judge(requirement("disk-bus"), subject(guest, "sdb")).reason


def test_a_controller_is_no_mere_rule_if_one_of_its_disks_passes_nothing_on(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml("sda", "sata"), disk_xml(), machine="pc-q35-3.1")).guests[0]
    judged = judge(requirement("scsi-controller"), subject(guest))
    assert judged.reason == "there is no virtio-scsi controller for sda, vda"


def test_a_driver_that_nobody_looked_at_is_not_called_as_good(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml())).guests[0]
    assert judge(requirement("disk-bus"), subject(guest, "vda")).reason == "it is on the bus virtio"
