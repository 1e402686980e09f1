"""The whole road on real guests. Each test is one guest's life, in the commands that a user types."""

from __future__ import annotations

import hashlib
import re
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import libvirt
import pytest

from lab import guest as lab
from lab import machines
from lab.demo import CHURN_MIB, ROAD, Step, audit, record
from lab.error import LabError
from lab.guest import LabGuest
from tests.command import reclaim

pytestmark = pytest.mark.guest

FAULTS = {
    "fstab-uuid",
    "boot-names",
    "machine-type",
    "disk-discard",
    "scsi-controller",
    "disk-bus",
    "disc-max",
    "fstrim-timer",
    "trim-backlog",
}
FIND, PLAN, FIX, RESTART, AGAIN = ROAD
MIB = 1024 * 1024


def machine() -> str:
    """The machine type that this QEMU has for a guest of 2013."""
    return machines.here(machines.OLD)


def faults() -> set[str]:
    """What is wrong about such a guest: a QEMU that has no old types has fewer faults to show."""
    right = set()
    if not machines.is_old(machine()):
        right.add("machine-type")
    if machines.version(machine()) >= (4, 0):
        right.add("disc-max")  # virtio-blk offers discards
    return FAULTS - right


def hardware() -> set[str]:
    return faults() & {"machine-type", "scsi-controller", "disk-bus"}


@pytest.fixture
def old_guest() -> Iterator[LabGuest]:
    yield from _made("reclaim-lab-test-road", "article")


@pytest.fixture
def stone_guest() -> Iterator[LabGuest]:
    yield from _made("reclaim-lab-test-stone", "stone")


def _made(name: str, recipe: str) -> Iterator[LabGuest]:
    lab.destroy(name)
    yield lab.create(name, recipe)
    lab.destroy(name)


def definition(guest: LabGuest) -> str:
    """The persistent definition, secrets included."""
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
    return str(lab.lookup(guest.name).XMLDesc(flags))


def inside(guest: LabGuest, command: str) -> str:
    done = lab.run(guest, command)
    assert done.code == 0, done.err
    return done.out


def fingerprint(guest: LabGuest) -> str:
    """Everything in the guest that a fixer could change, and the definition."""
    files = inside(
        guest,
        "find /etc /boot -xdev -type f ! -name '*.lock' -exec sha256sum {} + | sort -k 2; "
        "systemctl is-enabled fstrim.timer; systemctl is-active fstrim.timer; true",
    )
    return hashlib.sha256((definition(guest) + files).encode()).hexdigest()


def verdicts(reports: Path) -> dict[str, str]:
    return {row["requirement"]: row["verdict"] for row in record(reports)["results"]}


def row(reports: Path, slug: str) -> dict[str, Any]:
    (found,) = [one for one in record(reports)["results"] if one["requirement"] == slug]
    return dict(found)


@dataclass
class Road:
    """One guest's life, and what was seen of it so far."""

    guest: LabGuest
    reports: Path
    #: bytes that the image took when it was full
    grown: int
    original: str
    untouched: str
    fstab: str
    runs: list[Path] = field(default_factory=list)

    def audit(self, step: Step) -> str:
        """Do one step of the road; its output."""
        done = audit(self.guest.name, self.reports, *step.options)
        assert done.returncode == step.status, done.stdout + done.stderr
        return str(done.stdout)

    def latest(self) -> Path:
        return next(self.reports.glob("*/latest")).resolve()


@pytest.fixture(scope="class")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    for guest in _made("reclaim-lab-test-road", "article"):
        fresh = lab.allocated(guest)
        lab.churn(guest, CHURN_MIB)
        grown = lab.allocated(guest)
        assert grown - fresh > 0.9 * CHURN_MIB * MIB
        fstab = inside(guest, "cat /etc/fstab")
        reports = tmp_path_factory.mktemp("road")
        yield Road(guest, reports, grown, definition(guest), fingerprint(guest), fstab)


class TestAGuestOf2013:
    """Five acts of one guest, each on what the one before left: with -k the earlier ones are needed too."""

    def test_1_an_audit_finds_it_all_and_changes_nothing(self, road: Road) -> None:
        said = road.audit(FIND)
        found = verdicts(road.reports)
        assert {slug for slug, verdict in found.items() if verdict == "noncompliant"} == faults()
        assert {verdict for slug, verdict in found.items() if slug not in faults()} == {"compliant"}
        for slug in faults():
            assert re.search(rf"noncompliant +{slug}\b", said)
        assert fingerprint(road.guest) == road.untouched

    def test_2_a_plan_shows_each_change_and_makes_none(self, road: Road) -> None:
        said = road.audit(PLAN)
        if machines.is_old(machine()):
            assert "+    <type" in said
        assert "-/dev/vda1 /" in said
        assert "+UUID=" in said
        assert 'discard="unmap"' in said
        assert "systemctl enable fstrim.timer" in said
        assert not list(road.reports.glob("*/*/journal.jsonl"))
        assert fingerprint(road.guest) == road.untouched

    def test_3_a_fix_waits_for_the_power_cycle_and_with_it_the_space_comes_home(self, road: Road) -> None:
        road.audit(FIX)
        found = verdicts(road.reports)
        waiting = {"live-definition", "disc-max", "trim-backlog"}
        assert {slug for slug, verdict in found.items() if verdict == "pending"} == waiting
        fixed = faults() - {"disc-max", "trim-backlog"}
        assert {slug for slug, verdict in found.items() if verdict == "fixed"} == fixed
        road.runs.append(road.latest())
        assert stat.S_IMODE((road.runs[-1] / "journal.jsonl").stat().st_mode) == 0o600
        road.audit(RESTART)
        road.runs.append(road.latest())
        _expect_home(road)
        _expect_new_hardware(road.guest)

    def test_4_it_is_compliant_and_a_second_fix_changes_nothing(self, road: Road) -> None:
        settled = fingerprint(road.guest)
        road.audit(AGAIN)
        assert set(verdicts(road.reports).values()) == {"compliant"}
        done = audit(road.guest.name, road.reports, *FIX.options)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not (road.latest() / "journal.jsonl").exists()
        assert fingerprint(road.guest) == settled

    def test_5_undo_gives_everything_back_in_two_steps(self, road: Road) -> None:
        guest = road.guest
        # on the new bus the old names lead nowhere: they stay by UUID until the guest is back on the old one
        for run in reversed(road.runs):
            undone = undo(run)
            assert undone.returncode == 1, undone.stdout + undone.stderr
            assert "which does not exist on the bus the guest runs on" in undone.stdout
        assert definition(guest) == road.original
        assert "UUID=" in inside(guest, "cat /etc/fstab")
        cold_start(guest)
        for run in reversed(road.runs):
            undone = undo(run)
            assert undone.returncode == 0, undone.stdout + undone.stderr
        assert definition(guest) == road.original
        assert inside(guest, "cat /etc/fstab") == road.fstab
        assert "root=/dev/vda1" in inside(guest, "cat /boot/grub/grub.cfg")
        assert fingerprint(guest) == road.untouched
        cold_start(guest)
        assert inside(guest, "findmnt -no SOURCE /").strip() == "/dev/vda1"


def _expect_home(road: Road) -> None:
    """What was deleted lay on blocks that the image had, or had not, before: most of it comes back."""
    came_home = record(road.reports)["reclaimed_bytes"]
    assert came_home > 0.8 * CHURN_MIB * MIB
    assert abs((road.grown - lab.allocated(road.guest)) - came_home) < 32 * MIB
    (storage,) = record(road.reports)["storage"]
    assert storage["allocated_after"] <= storage["used"] * 1.1 + 64 * MIB


def _expect_new_hardware(guest: LabGuest) -> None:
    now = definition(guest)
    (new,) = re.findall(r"machine='(pc-i440fx-[0-9.]+)'", now)
    assert machines.version(new) >= (4, 0) or new == machine()
    assert "<driver name='qemu' type='qcow2' cache='writeback' discard='unmap'/>" in now
    assert "<target dev='sda' bus='scsi'/>" in now
    assert "model='virtio-scsi'" in now
    assert "lsilogic" not in now
    assert inside(guest, "lsblk -bndo DISC-MAX /dev/sda").strip() != "0"
    timer = inside(guest, "systemctl is-enabled fstrim.timer; systemctl is-active fstrim.timer")
    assert timer.split() == ["enabled", "active"]


def undo(run: Path) -> subprocess.CompletedProcess[str]:
    return reclaim("undo", run, seconds=None)


def cold_start(guest: LabGuest) -> None:
    lab.shutdown(guest)
    lab.start(guest)
    lab.wait_for_agent(guest, lab.BOOT_SECONDS)


def test_a_guest_that_cannot_boot_from_scsi_is_not_moved_and_comes_back_where_it_is_forced(
    stone_guest: LabGuest, tmp_path: Path
) -> None:
    guest, name = stone_guest, stone_guest.name

    done = audit(name, tmp_path, "--fix")
    assert done.returncode == 1, done.stdout + done.stderr
    found = verdicts(tmp_path)
    assert found["fstab-uuid"] == found["boot-names"] == "fixed"
    assert "update-initramfs" in row(tmp_path, "initramfs-driver")["reason"]
    for slug in hardware():
        assert found[slug] == "noncompliant"
        assert "withheld: depends on initramfs-driver" in row(tmp_path, slug)["reason"]
    assert "bus='virtio'" in definition(guest)
    assert f"machine='{machine()}'" in definition(guest)

    booted = lab.lookup(name).XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
    inventory = tmp_path / "inventory.toml"
    inventory.write_text("[policy]\nboot_seconds = 100\n", encoding="utf-8")
    done = audit(name, tmp_path, "--fix", "--restart", "--force", "--inventory", str(inventory))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "--force: reclaim fixes even if another requirement must hold first" in done.stdout
    power = row(tmp_path, "live-definition")
    assert power["verdict"] == "noncompliant"
    assert "rolled back to the definition that booted, and runs again" in power["reason"]
    assert "(initramfs)" in power["reason"]
    for slug in hardware():
        again = row(tmp_path, slug)
        assert again["verdict"] == "noncompliant"
        assert again["reason"].startswith("rolled back: ")
        assert [change["undone"] for change in again["changes"]] == [True]

    assert lab.lookup(name).isActive()
    lab.wait_for_agent(guest, 30)
    for part in ("<target dev='vda' bus='virtio'/>", f"machine='{machine()}'"):
        assert part in booted
        assert part in definition(guest)
        assert part in lab.lookup(name).XMLDesc()
    assert "virtio-scsi" not in definition(guest)


def test_a_guest_whose_agent_hangs_costs_only_its_own_rows(old_guest: LabGuest, tmp_path: Path) -> None:
    lab.run(old_guest, "(sleep 1; kill -STOP $(pidof qemu-ga)) >/dev/null 2>&1 &")
    wait_until_silent(old_guest)

    done = audit(old_guest.name, tmp_path)

    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    found = verdicts(tmp_path)
    assert found["guest-access"] == "noncompliant"
    assert "does not answer" in row(tmp_path, "guest-access")["reason"]
    assert found["fstab-uuid"] == found["fstrim-timer"] == "not-assessable"
    assert {found[slug] for slug in hardware()} == {"noncompliant"}


def wait_until_silent(guest: LabGuest) -> None:
    """Wait until the agent answers no more."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            lab.wait_for_agent(guest, 1)
        except LabError:
            return
    pytest.fail("the agent goes on answering")
