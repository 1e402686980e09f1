"""Power cycles of a real guest that goes wrong on its new hardware: in the end it runs, on the definition that booted.

One guest lives through all of it. In it a script, at boot and only on the new bus, does what `/etc/fault` says.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import libvirt
import pytest

from lab import daemons, host
from lab import guest as lab
from lab.demo import ROOT, audit, record
from lab.guest import LabGuest
from reclaim.base.verdict import Result, Verdict
from reclaim.changes import power
from reclaim.definition.compare import same, storage_differences
from reclaim.definition.domain import Definition
from reclaim.engine import journal
from reclaim.handles.guest import Guest
from reclaim.handles.hypervisor import connect
from reclaim.inventory import Inventory, Policy
from tests.guest.tiny import qcow2
from tests.support import engine, requirement, subject

pytestmark = [pytest.mark.guest, pytest.mark.long]

NAME = "reclaim-lab-test-power"
ADDRESS = "10.20.30.40"
#: a good guest comes back within this under emulation, on a busy machine too: twice on the way back
BOOT_SECONDS = 300
#: what a boot on the new bus does; `shutdown` is another word for what ignores it on the old one
FAULT = f"""#!/bin/sh
word=$(cat /etc/fault)
link=$(ls /sys/class/net | grep -v '^lo$' | head -n 1)
[ -b /dev/vda ] && word=none
[ "$word" = panic ] && echo c >/proc/sysrq-trigger
[ "$word" = agent ] && systemctl mask --runtime qemu-guest-agent.service
[ "$word" = flap ] && systemd-run --no-block sh -c "until pidof qemu-ga; do sleep 1; done; sleep 8; poweroff -ff"
[ "$word" = lost ] && exit 0
busybox ip link set "$link" up
busybox ip address add {ADDRESS}/24 dev "$link"
"""
UNIT = """[Unit]
Description=What goes wrong on the new bus
DefaultDependencies=no
After=systemd-udev-trigger.service local-fs.target
Before=sysinit.target qemu-guest-agent.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/fault
[Install]
WantedBy=sysinit.target
"""
SET_UP = f"""
set -e
cat >/usr/local/sbin/fault <<'EOF'
{FAULT}EOF
chmod +x /usr/local/sbin/fault
cat >/etc/systemd/system/fault.service <<'EOF'
{UNIT}EOF
echo none >/etc/fault
systemctl enable fault.service
mkfs.ext4 -q /dev/vdb
mkdir /data
sed -i "s#^/dev/vda1#UUID=$(blkid -s UUID -o value /dev/vda1)#" /etc/fstab
echo "UUID=$(blkid -s UUID -o value /dev/vdb) /data ext4 nofail,x-systemd.device-timeout=90 0 0" >>/etc/fstab
sed -i "s#root=/dev/vda1 #root=UUID=$(blkid -s UUID -o value /dev/vda1) #" /boot/grub/grub.cfg
systemctl daemon-reload
mount /data
systemctl start fault.service
"""


@pytest.fixture(scope="module")
def life() -> Iterator[LabGuest]:
    """An old guest with a data disk and a network interface, that boots from either bus."""
    lab.destroy(NAME)
    made = lab.define(NAME)
    data = qcow2(made.image.with_suffix(".data"))
    with data.open("r+b"):
        subprocess.run(["qemu-img", "resize", "-q", str(data), "64M"], check=True)
    edit = Definition(lab.lookup(NAME).XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)).edit()
    disk = edit.add_device("disk", {"type": "file", "device": "disk"})
    for tag, attributes in (
        ("driver", {"name": "qemu", "type": "qcow2"}),
        ("source", {"file": str(data)}),
        ("target", {"dev": "vdb", "bus": "virtio"}),
    ):
        disk.append(disk.makeelement(tag, attributes))
    link = edit.add_device("interface", {"type": "user"})
    link.append(link.makeelement("model", {"type": "virtio"}))
    host.ensure_libvirt().defineXML(edit.definition.xml)
    lab.start(made)
    lab.wait_for_agent(made, lab.BOOT_SECONDS)
    done = lab.run(made, SET_UP)
    assert done.code == 0, done.err
    yield made
    lab.destroy(NAME)


def defined() -> Definition:
    return Definition(lab.lookup(NAME).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))


def on_scsi(definition: Definition) -> Definition:
    """The same guest with its disks on virtio-scsi."""
    edit = definition.edit()
    for number, disk in enumerate(edit.devices.iterfind("disk")):
        target, address = disk.find("target"), disk.find("address")
        assert target is not None
        target.set("bus", "scsi")
        target.set("dev", f"sd{'ab'[number]}")
        if address is not None:
            edit.remove(address)
        drive = {"type": "drive", "controller": "0", "bus": "0", "target": "0", "unit": str(number)}
        disk.append(disk.makeelement("address", drive))
    edit.add_device("controller", {"type": "scsi", "index": "0", "model": "virtio-scsi"})
    return edit.definition


def does(life: LabGuest, fault: str) -> None:
    """On its next start on the new bus the guest does *fault*. It has what it has to lose."""
    done = lab.run(life, f"mountpoint -q /data || mount /data || exit; echo {fault} >/etc/fault && sync")
    assert done.code == 0, done.err


def opened(**policy: object) -> Guest:
    settings = {"shutdown_seconds": 60, "boot_seconds": BOOT_SECONDS, **policy}
    found = connect(host.URI, None, Inventory(policy=Policy.model_validate(settings)))
    return next(guest for guest in found.guests if guest.name == NAME)


class Cycled:
    """A guest whose definition moved it to scsi, and what its power cycle came to."""

    def __init__(self, folder: Path, guest: Guest) -> None:
        self.booted = defined()
        guest.history.append(self.booted.xml)
        host.ensure_libvirt().defineXML(on_scsi(self.booted).xml)
        self.wanted = defined()
        self.engine = engine(guest.hypervisor, folder, force=True, restart=True)
        self.result: Result = self.engine.run(requirement("live-definition"), subject(guest))

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.engine.journal.path.read_text().splitlines()]

    def rolled_back(self, *words: str) -> None:
        """It runs on the definition that booted; row and journal say so, and why."""
        assert self.result.verdict is Verdict.NONCOMPLIANT
        for text in (self.result.reason, self.events[-1]["reason"]):
            assert "rolled back to the definition that booted, and runs again" in text
            assert "the console's last lines:" in text
            for word in words:
                assert word in text
        assert [one["event"] for one in self.events] == ["begin", "intent", "failed"]
        runs_on(self.booted)


def runs_on(definition: Definition) -> None:
    """The guest runs, answers, and is defined as *definition*."""
    live = Definition(lab.lookup(NAME).XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE))
    assert lab.lookup(NAME).isActive()
    assert storage_differences(live, definition) == []
    assert same(defined(), definition)
    lab.wait_for_agent(lab.find(NAME), 30)


def test_outside_its_maintenance_window_a_guest_runs_on(life: LabGuest, tmp_path: Path) -> None:
    """The same row mends it once the window is open."""
    does(life, "none")
    booted, guest = defined(), opened()
    window = {"from": "22:00", "to": "04:00", "zone": "Europe/Vienna", "guests": [f"{NAME}*"]}
    policy = guest.policy.model_dump()
    guest.hypervisor.inventory = Inventory.model_validate({"policy": policy, "window": [window]})
    guest.hypervisor.clock = lambda: datetime(2026, 12, 5, 20, 59, tzinfo=timezone.utc)
    number = guest.run_id
    made = Cycled(tmp_path, guest)
    assert made.result.verdict is Verdict.PENDING
    begins = "its maintenance window begins Sat 2026-12-05 22:00 (Europe/Vienna)"
    assert made.result.reason.endswith(f"waits for a power cycle: {begins}")
    assert not made.engine.journal.path.exists()
    assert guest.run_id == number
    guest.hypervisor.clock = lambda: datetime(2026, 12, 5, 21, 0, tzinfo=timezone.utc)
    made.result = made.engine.run(requirement("live-definition"), subject(guest))
    assert made.result.verdict is Verdict.FIXED, made.result.reason
    assert guest.run_id != number
    runs_on(made.wanted)
    host.ensure_libvirt().defineXML(booted.xml)
    lab.lookup(NAME).destroy()
    lab.start(life)
    lab.wait_for_agent(life, lab.BOOT_SECONDS)


def test_a_kernel_panic_is_seen_on_the_console_and_told(life: LabGuest, tmp_path: Path) -> None:
    """As users run it: `pytest checks/ --fix --restart`, its record, its exit status."""
    does(life, "panic")
    booted = defined()
    inventory = tmp_path / "inventory.toml"
    inventory.write_text(f"[policy]\nboot_seconds = {BOOT_SECONDS}\n", encoding="utf-8")
    options = ("--fix", "--restart", "--force", "--inventory", str(inventory), "-k", "disk or scsi or live")
    done = audit(NAME, tmp_path, *options)
    assert done.returncode == 1, done.stdout + done.stderr
    rows = {(row["requirement"], row["disk"]): row for row in record(tmp_path)["results"]}
    reason = rows["live-definition", None]["reason"]
    assert rows["live-definition", None]["verdict"] == "noncompliant"
    assert "its boot came to an end: " in reason
    assert "Kernel panic - not syncing" in reason
    assert "rolled back to the definition that booted, and runs again" in reason
    assert "the console's last lines:" in reason
    for key in (("disk-bus", "vda"), ("disk-bus", "vdb"), ("scsi-controller", None), ("disk-discard", "vda")):
        assert rows[key]["verdict"] == "noncompliant"
        assert rows[key]["reason"].startswith("rolled back: ")
        assert [change["undone"] for change in rows[key]["changes"]] == [True]
    kept = journal.read(next(tmp_path.glob("*/latest")).resolve() / journal.NAME)
    assert kept.ended
    assert kept.applied == []
    runs_on(booted)


def test_a_lost_data_disk_and_a_lost_address_are_named(
    life: LabGuest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest boots and its agent answers; only the comparison with before tells."""
    monkeypatch.setattr(power, "_SETTLE_SECONDS", 10)
    does(life, "lost")
    by_uuid = lab.run(life, "cat /etc/fstab").out
    changed = lab.run(life, "sed -i 's#^UUID=[^ ]* /data#/dev/vdb /data#' /etc/fstab; systemctl daemon-reload")
    assert changed.code == 0
    Cycled(tmp_path, opened()).rolled_back(
        "it answers, but /data is not mounted", f"it has no IPv4 address any more (it had {ADDRESS})"
    )
    assert lab.run(life, "findmnt -no TARGET /data").out.strip() == "/data"
    lab.run(life, ["/bin/sh", "-c", 'printf %s "$0" >/etc/fstab; systemctl daemon-reload', by_uuid])


def test_a_guest_that_answers_and_goes_off_again_is_rolled_back(life: LabGuest, tmp_path: Path) -> None:
    does(life, "flap")
    Cycled(tmp_path, opened()).rolled_back("went off")


def test_an_agent_that_does_not_start_and_a_run_that_is_killed_meanwhile(life: LabGuest, tmp_path: Path) -> None:
    """Nobody sees the guest come back: the next --fix waits, and finishes the roll-back."""
    does(life, "agent")
    booted = defined()
    inventory = tmp_path / "inventory.toml"
    inventory.write_text("[policy]\nboot_seconds = 90\n", encoding="utf-8")
    options = ["--guests", NAME, "--reports", str(tmp_path), "--inventory", str(inventory), "-k", "bus or scsi or live"]
    command = [sys.executable, "-m", "pytest", "checks/", *options, "--fix", "--restart", "--force"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as running:
        end = time.monotonic() + lab.BOOT_SECONDS
        while "bus='scsi'" not in _live():
            assert time.monotonic() < end
            assert running.poll() is None
            time.sleep(0.5)
        os.kill(running.pid, signal.SIGKILL)
    (died,) = (path.parent for path in tmp_path.glob("*/*/journal.jsonl"))

    done = audit(NAME, tmp_path, "-k", "live")
    assert f"{NAME}: the run {died.name} died while it waited for the guest to come back" in done.stdout
    assert not journal.read(died / journal.NAME).ended

    done = audit(NAME, tmp_path, "--fix", *options[4:-1], "live")
    assert f"{NAME}: finished the power cycle of the run that died" in done.stdout, done.stdout
    late = (
        r"it did not answer within \d+ s \(boot_seconds .*\); rolled back to the definition that booted, and runs again"
    )
    assert re.search(late, done.stdout)
    assert "the console's last lines:" in done.stdout
    runs_on(booted)
    kept = journal.read(died / journal.NAME)
    assert kept.ended
    assert kept.applied == []
    assert done.returncode == 0, done.stdout


def _live() -> str:
    try:
        return str(lab.lookup(NAME).XMLDesc()) if lab.lookup(NAME).isActive() else ""
    except libvirt.libvirtError:
        return ""


def test_a_guest_that_ignores_its_shutdown_runs_on_and_is_looked_after(
    life: LabGuest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its plug is not pulled. It goes off after all before the run ends, and libvirtd dies while it comes back."""
    does(life, "none")
    assert lab.run(life, "systemctl mask --runtime poweroff.target halt.target").code == 0
    ran = lab.lookup(NAME).ID()
    guest = opened(shutdown_seconds=2)
    cycled = Cycled(tmp_path, guest)
    assert cycled.result.verdict is Verdict.PENDING
    assert "it ignores its agent, its power button and systemctl" in cycled.result.reason
    assert "still runs as before" in cycled.result.reason
    assert [one["event"] for one in cycled.events] == ["begin", "intent", "unknown"]
    assert lab.lookup(NAME).ID() == ran
    assert same(defined(), cycled.wanted)
    cycled.engine.look_after()
    assert lab.lookup(NAME).ID() == ran

    lab.lookup(NAME).destroy()  # it was slow
    killed: list[bool] = []

    def hear(text: str) -> None:
        if "waiting for it to answer" in text and not killed and daemons.is_ours("libvirtd"):
            killed.append(daemons.kill("libvirtd"))
        elif "libvirt closed the connection" in text:
            host.ensure_libvirt()

    guest.hypervisor.progress = hear
    monkeypatch.setattr(power, "_SETTLE_SECONDS", 30)
    cycled.engine.look_after()
    assert killed == [True] * daemons.is_ours("libvirtd")
    assert str(cycled.result.verdict) == "fixed", cycled.result.reason
    assert cycled.result.reason.startswith("it shut down late; power-cycled")
    assert cycled.events[-1]["event"] == "done"
    cycled.engine.journal.end()
    assert journal.read(cycled.engine.journal.path).ended
    runs_on(cycled.wanted)
    assert ADDRESS in lab.run(life, "busybox ip address").out
