"""The whole road on real guests. Each test is one guest's life, in the commands that a user types."""

from __future__ import annotations

import hashlib
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from lab import guest as lab
from lab.demo import CHURN_MIB, ROAD, ROOT, audit, record
from lab.error import LabError
from lab.guest import LabGuest

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
MIB = 1024 * 1024


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


def test_a_guest_of_2013_gives_its_space_back(old_guest: LabGuest, tmp_path: Path) -> None:
    guest, name = old_guest, old_guest.name
    fresh = lab.allocated(guest)
    lab.churn(guest, CHURN_MIB)
    grown = lab.allocated(guest)
    assert grown - fresh > 0.9 * CHURN_MIB * MIB
    untouched = fingerprint(guest)
    original = definition(guest)
    fstab = inside(guest, "cat /etc/fstab")
    runs = []

    find, plan, fix, restart, again = ROAD

    done = audit(name, tmp_path, *find.options)
    assert done.returncode == find.status, done.stdout + done.stderr
    assert {slug for slug, verdict in verdicts(tmp_path).items() if verdict == "noncompliant"} == FAULTS
    assert {verdict for slug, verdict in verdicts(tmp_path).items() if slug not in FAULTS} == {"compliant"}
    for slug in FAULTS:
        assert re.search(rf"noncompliant +{slug}\b", done.stdout)
    assert fingerprint(guest) == untouched

    done = audit(name, tmp_path, *plan.options)
    assert done.returncode == plan.status, done.stdout + done.stderr
    assert re.search(r"\+ +<type arch=.x86_64. machine=.pc-i440fx-7", done.stdout) or "+    <type" in done.stdout
    assert "-/dev/vda1 /" in done.stdout
    assert "+UUID=" in done.stdout
    assert 'discard="unmap"' in done.stdout
    assert "systemctl enable fstrim.timer" in done.stdout
    assert not list(tmp_path.glob("*/*/journal.jsonl"))
    assert fingerprint(guest) == untouched

    done = audit(name, tmp_path, *fix.options)
    assert done.returncode == fix.status, done.stdout + done.stderr
    found = verdicts(tmp_path)
    assert {slug for slug, verdict in found.items() if verdict == "pending"} == {
        "live-definition",
        "disc-max",
        "trim-backlog",
    }
    assert {slug for slug, verdict in found.items() if verdict == "fixed"} == FAULTS - {"disc-max", "trim-backlog"}
    runs.append(next(tmp_path.glob("*/latest")).resolve())
    assert stat.S_IMODE((runs[-1] / "journal.jsonl").stat().st_mode) == 0o600

    done = audit(name, tmp_path, *restart.options)
    assert done.returncode == restart.status, done.stdout + done.stderr
    runs.append(next(tmp_path.glob("*/latest")).resolve())
    came_home = record(tmp_path)["reclaimed_bytes"]
    # what was deleted lay on blocks that the image had, or had not, before: most of it comes back
    assert came_home > 0.8 * CHURN_MIB * MIB
    assert abs((grown - lab.allocated(guest)) - came_home) < 32 * MIB
    (storage,) = record(tmp_path)["storage"]
    assert storage["allocated_after"] <= storage["used"] * 1.1 + 64 * MIB
    now = definition(guest)
    assert re.search(r"machine='pc-i440fx-[4-9]", now) or re.search(r"machine='pc-i440fx-\d\d", now)
    assert "<driver name='qemu' type='qcow2' cache='writeback' discard='unmap'/>" in now
    assert "<target dev='sda' bus='scsi'/>" in now
    assert "model='virtio-scsi'" in now
    assert "lsilogic" not in now
    assert inside(guest, "lsblk -bndo DISC-MAX /dev/sda").strip() != "0"
    assert inside(guest, "systemctl is-enabled fstrim.timer; systemctl is-active fstrim.timer").split() == [
        "enabled",
        "active",
    ]

    settled = fingerprint(guest)
    done = audit(name, tmp_path, *again.options)
    assert done.returncode == again.status, done.stdout + done.stderr
    assert set(verdicts(tmp_path).values()) == {"compliant"}
    done = audit(name, tmp_path, *fix.options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (next(tmp_path.glob("*/latest")) / "journal.jsonl").exists()
    assert fingerprint(guest) == settled

    # on the new bus the old names lead nowhere: they stay by UUID until the guest is back on the old one
    for run in reversed(runs):
        undone = undo(run)
        assert undone.returncode == 1, undone.stdout + undone.stderr
        assert "which is not there on the bus the guest runs on" in undone.stdout
    assert definition(guest) == original
    assert "UUID=" in inside(guest, "cat /etc/fstab")
    cold_start(guest)
    for run in reversed(runs):
        undone = undo(run)
        assert undone.returncode == 0, undone.stdout + undone.stderr
    assert definition(guest) == original
    assert inside(guest, "cat /etc/fstab") == fstab
    assert "root=/dev/vda1" in inside(guest, "cat /boot/grub/grub.cfg")
    assert fingerprint(guest) == untouched
    cold_start(guest)
    assert inside(guest, "findmnt -no SOURCE /").strip() == "/dev/vda1"


def undo(run: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reclaim", "undo", str(run)]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)


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
    for slug in ("machine-type", "scsi-controller", "disk-bus"):
        assert found[slug] == "noncompliant"
        assert "withheld: waits for initramfs-driver" in row(tmp_path, slug)["reason"]
    assert "bus='virtio'" in definition(guest)
    assert "machine='pc-i440fx-1.6'" in definition(guest)

    booted = lab.lookup(name).XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
    inventory = tmp_path / "inventory.toml"
    inventory.write_text("[policy]\nboot_seconds = 100\n", encoding="utf-8")
    done = audit(name, tmp_path, "--fix", "--restart", "--force", "--inventory", str(inventory))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "--force: what a fix waits for is ignored" in done.stdout
    power = row(tmp_path, "live-definition")
    assert power["verdict"] == "noncompliant"
    assert "rolled back to the definition that booted, and runs again" in power["reason"]
    assert "(initramfs)" in power["reason"]
    for slug in ("machine-type", "scsi-controller", "disk-bus"):
        again = row(tmp_path, slug)
        assert again["verdict"] == "noncompliant"
        assert again["reason"].startswith("rolled back: ")
        assert [change["undone"] for change in again["changes"]] == [True]

    assert lab.lookup(name).isActive()
    lab.wait_for_agent(guest, 30)
    for part in ("<target dev='vda' bus='virtio'/>", "machine='pc-i440fx-1.6'"):
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
    assert found["disk-bus"] == found["machine-type"] == "noncompliant"


def wait_until_silent(guest: LabGuest) -> None:
    """Wait until the agent answers no more."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            lab.wait_for_agent(guest, 1)
        except LabError:
            return
    pytest.fail("the agent goes on answering")
