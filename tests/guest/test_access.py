"""Guests that the agent does not get into, and guests that are off: real ones, in the commands that a user types."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from lab import guest as lab
from lab import image, ssh
from lab.demo import ROOT, audit, record
from lab.guest import LabGuest
from tests.command import reclaim, runs
from tests.guest.tiny import Tiny, made

pytestmark = pytest.mark.guest

CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
_SECONDS = 60


@pytest.fixture
def ssh_guest() -> Iterator[LabGuest]:
    """No agent, no channel for one; its user `admin` comes in by ssh. It is off."""
    name = "reclaim-lab-test-ssh"
    lab.destroy(name)
    yield lab.define(name, "ssh")
    lab.destroy(name)


def rows(reports: Path) -> dict[str, dict[str, Any]]:
    return {row["requirement"]: row for row in record(reports)["results"]}


def verdicts(reports: Path) -> dict[str, str]:
    return {slug: row["verdict"] for slug, row in rows(reports).items()}


def named(guest: LabGuest, folder: Path, known_hosts: str = "", **more: str) -> str:
    """An inventory that names ssh for the guest."""
    known = folder / "known_hosts"
    known.write_text(known_hosts, encoding="ascii")
    values = {"user": "admin", "address": "127.0.0.1", "key": image.identity("ssh"), "known_hosts": known, **more}
    lines = [
        "[policy]",
        "boot_seconds = 1800",
        "shutdown_seconds = 600",
        f"[guest.{guest.name}.ssh]",
        f"port = {guest.ssh_port}",
        "sudo = true",
    ]
    path = folder / "inventory.toml"
    path.write_text("\n".join([*lines, *(f'{key} = "{value}"' for key, value in values.items())]), encoding="utf-8")
    return str(path)


@pytest.mark.long
def test_a_guest_that_is_off_and_has_no_agent_is_mended_by_ssh(ssh_guest: LabGuest, tmp_path: Path) -> None:
    guest, name = ssh_guest, ssh_guest.name
    domain = lab.lookup(name)
    assert guest.ssh_port is not None

    done = audit(name, tmp_path, "--boot-stopped")
    assert done.returncode == 1, done.stdout + done.stderr
    assert rows(tmp_path)["guest-access"]["reason"].endswith("the inventory does not name ssh for it")
    assert not domain.isActive()

    lab.start(guest)
    lab.wait(guest, 3 * lab.BOOT_SECONDS)
    uuid = lab.run(guest, "cat /sys/class/dmi/id/product_uuid").out.strip()
    assert uuid == domain.UUIDString()  # pc-i440fx-1.6: before SMBIOS 2.6
    inventory = named(guest, tmp_path)
    done = audit(name, tmp_path, "--inventory", inventory)
    assert done.returncode == 1, done.stdout + done.stderr
    found = rows(tmp_path)
    assert found["guest-access"]["verdict"] == "noncompliant"
    assert "there is no guest agent channel" in found["guest-access"]["reason"]
    assert f"its host key is not known as [127.0.0.1]:{guest.ssh_port}" in found["guest-access"]["reason"]
    assert found["fstab-uuid"]["verdict"] == "not-assessable"
    inventory = named(guest, tmp_path, ssh.known_hosts(guest.ssh_port))
    lab.shutdown(guest)

    done = audit(name, tmp_path, "--boot-stopped", "--fix", "--restart", "--inventory", inventory)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not domain.isActive()
    found = rows(tmp_path)
    assert {row["verdict"] for row in found.values()} == {"fixed", "compliant"}
    access = found["guest-access"]["evidence"]
    assert access.startswith(
        "ssh to admin@127.0.0.1 (inventory) with sudo runs commands for reclaim: Debian GNU/Linux 12"
    )
    assert access.endswith("it was off: it was started (--boot-stopped) and it was shut down again")
    for slug in ("fstab-uuid", "boot-names", "disk-bus", "live-definition", "fstrim-timer"):
        assert found[slug]["verdict"] == "fixed"
    assert "power-cycled; it was back after" in found["live-definition"]["reason"]
    assert "Welcome" not in (next(tmp_path.glob("*/latest")) / "results.json").read_text(encoding="utf-8")
    (storage,) = record(tmp_path)["storage"]
    assert storage["used"] > 0
    now = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    assert "<target dev='sda' bus='scsi'/>" in now
    assert "hostfwd" in now
    assert "<metadata" not in now  # the mark was in the running domain alone

    done = audit(name, tmp_path, "--boot-stopped", "--fix", "--inventory", inventory)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(verdicts(tmp_path).values()) == {"compliant"}
    assert not domain.isActive()
    assert domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) == now
    masters = subprocess.run(["pgrep", "-f", "ControlPath=/tmp/reclaim-"], capture_output=True, check=False)
    assert masters.stdout == b""


# Runs that do not come to their end: on a guest that never answers, and goes off when its button is pressed ---------


@pytest.fixture
def tiny() -> Iterator[Tiny]:
    with made("off", CHANNEL, running=False) as one:
        yield one


def _waiting(tiny: Tiny, reports: Path) -> tuple[subprocess.Popen[str], list[str]]:
    """A run that has started the guest and waits for it to answer."""
    inventory = reports / "patient.toml"
    inventory.write_text("[policy]\nboot_seconds = 600\nshutdown_seconds = 6\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "checks/", "--guests", tiny.name, "--reports", str(reports)]
    command += ["--boot-stopped", "--inventory", str(inventory)]
    run = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    end = time.monotonic() + _SECONDS
    while "urn:reclaim:booted" not in tiny.domain.XMLDesc():
        assert run.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)
    return run, _hasty(reports)


def _hasty(folder: Path) -> list[str]:
    """Options for a run that does not wait for a guest to answer."""
    path = folder / "hasty.toml"
    path.write_text("[policy]\nboot_seconds = 1\nshutdown_seconds = 6\n", encoding="utf-8")
    return ["--inventory", str(path)]


def test_one_guest_is_off_again_before_the_next_is_started(tiny: Tiny, tmp_path: Path) -> None:
    with made("other", CHANNEL, running=False) as other:
        done = audit(f"{tiny.name},{other.name}", tmp_path, "--boot-stopped", *_hasty(tmp_path))
        assert done.returncode == 1, done.stdout + done.stderr
        assert not tiny.domain.isActive()
        assert not other.domain.isActive()
    lines = (next(tmp_path.glob("*/latest")) / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    assert [one["event"] for one in events] == ["begin", "intent", "undone", "intent", "undone", "end"]
    assert {one["guest"] for one in events if one["event"] == "intent"} == {tiny.name, other.name}
    assert len({row["guest"] for row in record(tmp_path)["results"]}) == 2


def test_a_run_that_is_interrupted_leaves_it_off(tiny: Tiny, tmp_path: Path) -> None:
    run, _ = _waiting(tiny, tmp_path)
    os.kill(run.pid, signal.SIGINT)
    said, _ = run.communicate(timeout=_SECONDS)
    assert run.returncode == 2, said
    assert not tiny.domain.isActive()
    assert '"event": "end"' in next(tmp_path.glob("*/*/journal.jsonl")).read_text(encoding="utf-8")


@pytest.mark.parametrize("finisher", ["run", "undo"])
def test_what_a_killed_run_left_up_is_shut_down(tiny: Tiny, tmp_path: Path, finisher: str) -> None:
    run, hasty = _waiting(tiny, tmp_path)
    run.kill()
    run.communicate(timeout=_SECONDS)
    assert tiny.domain.isActive()
    (died,) = runs(tmp_path, "journal.jsonl")

    done = audit(tiny.name, tmp_path, *hasty)
    assert (
        f"reclaim: the run {died.name} died and may have left guests running that it had started: {tiny.name}"
        in done.stdout
    )
    assert tiny.domain.isActive()  # an audit changes nothing

    if finisher == "run":
        done = audit(tiny.name, tmp_path, "--boot-stopped", *hasty)
        assert f"{tiny.name}: the run that died had started it: it was shut down again" in done.stdout
        access = rows(tmp_path)["guest-access"]
        assert access["verdict"] == "noncompliant"
        assert access["reason"].endswith("it was started (--boot-stopped) and it was shut down again")
    else:
        done = reclaim("undo", died, seconds=None)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "it was shut down again" in done.stdout
    assert not tiny.domain.isActive()
    done = audit(tiny.name, tmp_path, *hasty)
    assert "died" not in done.stdout
