"""The faults of hosts, as ssh and libvirt of a client meet them: one host fails, and its neighbour does not."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.error import LabError
from lab.netns import faults, host
from lab.netns.fleet import Fleet
from tests.fleet.reach import listed, ssh, uri, virsh

pytestmark = pytest.mark.fleet

GUESTS = ["guest01", "guest02", "guest03"]


def expect_only(fleet: Fleet, good: str) -> None:
    """Assert that the host *good* is well, whatever the others are."""
    assert listed(fleet, good) == GUESTS


def why_not(fleet: Fleet, name: str) -> str:
    """Return the reason why ssh does not get in."""
    done = ssh(fleet, name, "true")
    assert done.returncode == 255
    return done.stderr


def test_a_host_that_is_down_answers_nothing(pair: Fleet) -> None:
    faults.take_down(pair["kvm1"])
    assert "No route to host" in (words := why_not(pair, "kvm1")) or "timed out" in words
    expect_only(pair, "kvm2")
    # and no other machine is asked in its place
    way = pair.site.run(["ip", "route", "get", str(pair["kvm1"].link.host)])
    assert way.returncode != 0 or " dev to-host1 " in way.stdout
    faults.bring_up(pair["kvm1"])
    assert listed(pair, "kvm1") == GUESTS


def test_a_silent_host_drops_what_comes(pair: Fleet) -> None:
    faults.silence(pair["kvm1"])
    assert "timed out" in why_not(pair, "kvm1")
    expect_only(pair, "kvm2")
    faults.unsilence(pair["kvm1"])
    assert listed(pair, "kvm1") == GUESTS


def test_a_mute_host_accepts_and_says_nothing(pair: Fleet) -> None:
    faults.mute(pair["kvm1"])
    assert "timed out during banner exchange" in why_not(pair, "kvm1")
    expect_only(pair, "kvm2")
    faults.unmute(pair["kvm1"])
    assert listed(pair, "kvm1") == GUESTS


def test_a_host_that_stalls_says_its_version_and_no_more(pair: Fleet) -> None:
    faults.stall(pair["kvm1"])
    done = ssh(pair, "kvm1", "true", options=("-v", "-o", "ServerAliveInterval=2", "-o", "ServerAliveCountMax=1"))
    assert done.returncode == 255
    assert "remote software version Stalling" in done.stderr
    assert "Timeout, server" in done.stderr or "timed out" in done.stderr
    expect_only(pair, "kvm2")


def test_a_host_with_another_key_is_not_the_one_that_was_known(pair: Fleet) -> None:
    faults.rekey(pair["kvm1"])
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED!" in why_not(pair, "kvm1")
    expect_only(pair, "kvm2")
    assert ssh(pair, "kvm1", "hostname", options=("-o", "StrictHostKeyChecking=no")).stdout == "kvm1\n"


def test_a_slow_line_delays_both_ways_and_loses_nothing(pair: Fleet) -> None:
    delay = 0.2
    faults.slow_down(pair["kvm1"], delay)
    begun = time.monotonic()
    done = ssh(pair, "kvm1", "seq 20000", options=("-o", "ConnectTimeout=60"))
    # banner, key exchange, who comes in, the command: an answer each
    assert time.monotonic() - begun > 4 * 2 * delay
    assert done.stdout.split() == [str(number) for number in range(1, 20001)]
    expect_only(pair, "kvm2")


def test_a_libvirtd_that_hangs_does_not_keep_ssh_from_answering(pair: Fleet) -> None:
    faults.hang_libvirtd(pair["kvm1"])
    assert ssh(pair, "kvm1", "hostname").stdout == "kvm1\n"
    with pytest.raises(LabError, match=r"^virsh: nsenter took longer than 3 s$"):
        virsh(pair, "kvm1", "list", seconds=3)
    assert pair.site.left() == []
    expect_only(pair, "kvm2")
    faults.resume_libvirtd(pair["kvm1"])
    assert listed(pair, "kvm1") == GUESTS


def test_a_libvirtd_that_was_killed_comes_back_with_its_guests(pair: Fleet) -> None:
    faults.kill_libvirtd(pair["kvm1"])
    assert virsh(pair, "kvm1", "list").returncode != 0
    expect_only(pair, "kvm2")
    faults.start_libvirtd(pair["kvm1"])
    assert listed(pair, "kvm1") == GUESTS


def test_a_host_that_starts_anew_comes_back_with_its_guests(pair: Fleet) -> None:
    before = pair.checksums()
    host.halt(pair["kvm1"])
    assert "Connection refused" in why_not(pair, "kvm1")
    expect_only(pair, "kvm2")
    host.boot(pair["kvm1"])
    assert listed(pair, "kvm1") == GUESTS
    assert pair.checksums() == before


# In the middle of a change --------------------------------------------------------------------

#: defines each guest anew, with a title
DEFINE = """
import sys, libvirt
connection = libvirt.open(sys.argv[1])
for domain in sorted(connection.listAllDomains(), key=lambda domain: domain.name()):
    text = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_INACTIVE)
    connection.defineXML(text.replace("<memory", "<title>changed</title><memory", 1))
    print(domain.name(), flush=True)
"""


def define(fleet: Fleet, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return fleet.site.start([sys.executable, "-c", DEFINE, uri("kvm1")], output=output.fileno())


def test_a_libvirtd_that_dies_in_the_middle_leaves_the_later_guests_as_they_were(pair: Fleet, tmp_path: Path) -> None:
    before = pair.checksums()
    with faults.trap(pair["kvm1"], "guest02") as trap:
        changing = define(pair, tmp_path / "log")
        trap.wait()
        faults.kill_libvirtd(pair["kvm1"])
        assert changing.wait(60) != 0
    said = (tmp_path / "log").read_text(encoding="utf-8")
    assert said.startswith("guest01\n")
    assert "guest02" not in said
    after = pair.checksums()
    assert {name for name in GUESTS if after["kvm1"][name] != before["kvm1"][name]} == {"guest01"}
    assert after["kvm2"] == before["kvm2"]
    # nothing of the trap is left: the next one defines them all
    faults.start_libvirtd(pair["kvm1"])
    assert define(pair, tmp_path / "log").wait(60) == 0
    assert (tmp_path / "log").read_text(encoding="utf-8").split() == GUESTS


def test_a_host_that_vanishes_in_the_middle_leaves_the_caller_waiting(pair: Fleet, tmp_path: Path) -> None:
    before = pair.checksums()
    with faults.trap(pair["kvm1"], "guest03") as trap:
        changing = define(pair, tmp_path / "log")
        trap.wait()
        faults.take_down(pair["kvm1"])
        with pytest.raises(subprocess.TimeoutExpired):
            changing.wait(2)
        pair.site.end_all()
        changing.wait(60)
    after = pair.checksums()
    assert {name for name in GUESTS if after["kvm1"][name] != before["kvm1"][name]} == {"guest01", "guest02"}
    expect_only(pair, "kvm2")


def test_a_trap_that_nothing_runs_into_is_given_up(pair: Fleet) -> None:
    with (
        faults.trap(pair["kvm1"], "guest01") as trap,
        pytest.raises(LabError, match=r"^kvm1: nobody writes /etc/libvirt/qemu/guest01\.xml\.new$"),
    ):
        trap.wait(0.1)
    assert listed(pair, "kvm1") == GUESTS
