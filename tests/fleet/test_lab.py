"""The lab's own promises: its hosts are apart from this machine, fail as they are told to, and leave nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lab import paths
from lab.error import LabError
from lab.netns import network, processes, safety, site
from lab.netns.fleet import Fleet
from tests.command import ROOT, ran
from tests.fleet.conftest import Hosts
from tests.fleet.reach import ssh

pytestmark = pytest.mark.fleet

#: addresses of other machines: for documentation (RFC 5737), and one of the range that no host has
OUTSIDE = ("192.0.2.1", "198.51.100.1", "198.19.255.254")


# Apart from this machine ----------------------------------------------------------------------


def test_the_client_reaches_hosts_and_nothing_else(pair: Fleet) -> None:
    assert ssh(pair, "kvm2", "hostname").stdout == "kvm2\n"
    for address in OUTSIDE:
        done = pair.site.run(["ip", "route", "get", address])
        assert done.returncode != 0
        assert "unreachable" in done.stderr or "No route to host" in done.stderr, done.stderr


def test_this_machine_reaches_no_host(pair: Fleet) -> None:
    for each in pair.hosts:
        done = ran("ip", "route", "get", str(each.link.host))
        assert (done.returncode, done.stdout) == (2, "")
        assert "No route to host" in done.stderr
    here = ran("ip", "-brief", "link").stdout
    assert "to-host" not in here


def test_a_host_has_a_root_and_an_identity_of_its_own(pair: Fleet) -> None:
    one, two = pair.hosts
    assert one.call(["hostname"]) == "kvm1\n"
    assert one.path("/").stat().st_dev != Path("/").stat().st_dev
    one.path("/etc/made").touch()
    assert not two.path("/etc/made").exists()
    assert not Path("/etc/made").exists()
    assert not (pair.site.root / "etc/made").exists()
    assert {entry.name for entry in one.path("/dev").iterdir()} == safety.DEVICES
    uuids = {each.call(["virsh", "capabilities"]).partition("<uuid>")[2][:36] for each in pair.hosts}
    assert uuids == {each.uuid for each in pair.hosts}
    for device in ("null", "zero", "random", "urandom", "tty"):
        assert os.major(one.path(f"/dev/{device}").stat().st_rdev) in (1, 5)
    # what comes in by ssh can make no device, whatever it runs as
    done = ssh(pair, "kvm1", "mknod", "/dev/vda", "b", "254", "0")
    assert "Operation not permitted" in done.stderr


def test_the_client_has_neither_this_machines_keys_nor_its_libvirt(pair: Fleet) -> None:
    settings = ssh(pair, "kvm1", options=("-G",)).stdout.lower()
    assert "identityfile ~/.ssh/id_ed25519" in settings
    assert pair.site.run(["sh", "-c", "getent passwd root; ls -A ~/.ssh"]).stdout.split()[1:] == [
        "id_ed25519",
        "id_ed25519.pub",
        "known_hosts",
    ]
    assert "/run/home" in pair.site.run(["getent", "passwd", "root"]).stdout
    done = pair.site.run(["virsh", "-c", "qemu:///system", "list"])
    assert done.returncode != 0
    assert "No such file or directory" in done.stderr


def test_two_hosts_may_call_themselves_the_same(hosts: Hosts) -> None:
    fleet = hosts("kvm1", "kvm2", count=1, hostnames={"kvm2": "kvm1"})
    assert [ssh(fleet, name, "hostname").stdout for name in ("kvm1", "kvm2")] == ["kvm1\n"] * 2
    assert fleet.checksums()["kvm1"] != fleet.checksums()["kvm2"]


def test_a_user_who_is_not_root_comes_in(hosts: Hosts) -> None:
    fleet = hosts("kvm1", count=1)
    assert ssh(fleet, "admin@kvm1", "id -un; sudo -n id -un").stdout == "admin\nroot\n"


def test_handshakes_are_counted(pair: Fleet) -> None:
    shared = ("-o", "ControlMaster=auto", "-o", f"ControlPath={site.TMP}/%C", "-o", "ControlPersist=60")
    for options in ((), (), shared, shared, shared):
        assert ssh(pair, "kvm1", "true", options=options).returncode == 0
    assert [each.handshakes for each in pair.hosts] == [3, 0]
    # the one master is there, and is found
    assert [line for line in pair.site.left("ssh") if "[mux]" in line]
    pair.site.end_all()
    assert pair.site.left() == []


# Refusals -------------------------------------------------------------------------------------


def test_a_guest_that_the_lab_did_not_define_is_refused(pair: Fleet) -> None:
    pair.expect_safe()
    pair["kvm2"].guests.remove("guest02")
    with pytest.raises(LabError, match=r"^kvm2 has guests that the lab did not define: \['guest02'\]$"):
        pair.expect_safe()


def test_this_machine_itself_is_refused(pair: Fleet) -> None:
    pair["kvm1"].pid = os.getpid()
    with pytest.raises(LabError, match=r"^kvm1 has this machine's own network$"):
        pair.expect_safe()


def test_another_device_is_refused(pair: Fleet) -> None:
    pair["kvm1"].path("/dev/vda").touch()
    with pytest.raises(LabError, match=r"^kvm1 has more in /dev than the lab made: \['vda'\]$"):
        pair.expect_safe()


def test_a_filesystem_of_another_type_is_refused(pair: Fleet) -> None:
    one = pair["kvm1"]
    one.call(["mount", "-t", "ramfs", "none", "/mnt"])
    with pytest.raises(LabError, match=r"^kvm1 has filesystems of this machine: \['ramfs'\]$"):
        pair.expect_safe()


def test_a_way_out_is_refused(pair: Fleet) -> None:
    pair["kvm1"].ip("address", "add", "192.0.2.77/32", "dev", "lo")
    with pytest.raises(LabError, match=r"^kvm1 has an address outside 198\.18\.0\.0/15: 192\.0\.2\.77$"):
        pair.expect_safe()
    pair["kvm1"].ip("address", "del", "192.0.2.77/32", "dev", "lo")
    pair.expect_safe()
    pair.site.run(["ip", "route", "add", "default", "via", str(pair["kvm1"].link.host)])
    with pytest.raises(LabError, match=r"^the client has a route outside 198\.18\.0\.0/15: default$"):
        pair.expect_safe()


# The route of this machine, in a network namespace that stands for it -------------------------

_MACHINE = ("setpriv", "--pdeathsig", "KILL", "unshare", "--net", sys.executable, "-c")


def machine(lab: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run Python with `network` on a machine whose only network is a loopback."""
    begin = "import os, signal, subprocess, sys\nfrom lab.netns import network\nfrom lab.netns.network import ip\n"
    return ran(*_MACHINE, begin + script, env={**os.environ, "RECLAIM_LAB": str(lab)})


def test_the_route_is_there_as_long_as_one_run_is(tmp_path: Path) -> None:
    script = """
def seen(): return sum(map(network.is_guard, network.routes()))
with network.guarded():
    print(seen())
    with network.guarded():
        print(seen())
    print(seen())
print(seen())
"""
    done = machine(tmp_path, script)
    assert done.stdout.split() == ["1", "1", "1", "0"], done.stderr


def test_the_route_goes_with_a_run_that_is_killed(tmp_path: Path) -> None:
    script = """
child = subprocess.Popen([sys.executable, "-c", '''
import time
from lab.netns import network
with network.guarded():
    print("up", flush=True)
    time.sleep(600)
'''], stdout=subprocess.PIPE)
child.stdout.readline()
print(len(network.routes()))
child.kill()
child.wait()
import time
end = time.monotonic() + 60
while network.routes() and time.monotonic() < end:
    time.sleep(0.05)
print(len(network.routes()))
"""
    done = machine(tmp_path, script)
    assert done.stdout.split() == ["1", "0"], done.stderr


def test_the_route_stays_for_a_run_of_another_lab(tmp_path: Path) -> None:
    script = """
child = subprocess.Popen([sys.executable, "-c", '''
from lab.netns import network
with network.guarded():
    print("up", flush=True)
    input()
'''], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "RECLAIM_LAB": os.environ["RECLAIM_LAB"] + "2"})
child.stdout.readline()
with network.guarded():
    pass
print(len(network.routes()))
child.communicate(b"end\\n")
print(len(network.routes()))
"""
    done = machine(tmp_path, script)
    assert done.stdout.split() == ["1", "0"], done.stderr


def test_a_route_that_was_left_is_used_and_removed(tmp_path: Path) -> None:
    script = """
ip(["route", "add", "unreachable", "198.18.0.0/15", "protocol", network.PROTOCOL])
with network.guarded():
    print(len(network.routes()))
print(len(network.routes()))
"""
    done = machine(tmp_path, script)
    assert done.stdout.split() == ["1", "0"], done.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ["198.18.7.0/24", "dev", "dummy"],
            "this machine routes 198.18.7.0/24 of 198.18.0.0/15 by dummy: it is in use",
        ),
        (["unreachable", "198.18.0.0/15"], "this machine routes 198.18.0.0/15 of 198.18.0.0/15 by lo: it is in use"),
        (["198.19.0.1", "dev", "dummy", "table", "77"], "this machine routes 198.19.0.1/32 of 198.18.0.0/15 by dummy"),
    ],
)
def test_a_machine_that_uses_the_range_is_left_alone(tmp_path: Path, words: list[str], reason: str) -> None:
    script = f"""
ip(["link", "set", "lo", "up"])
ip(["link", "add", "dummy", "type", "veth", "peer", "name", "other"])
ip(["link", "set", "dummy", "up"])
ip(["route", "add", *{words}])
before = network.routes()
try:
    with network.guarded():
        print("it runs")
except network.LabError as error:
    print(error)
assert network.routes() == before
"""
    done = machine(tmp_path, script)
    assert done.stdout.startswith(reason.partition(" by lo")[0]), done.stdout + done.stderr
    assert done.returncode == 0, done.stderr


def test_nothing_runs_without_the_route(tmp_path: Path) -> None:
    script = """
with network.guarded():
    ip(["route", "del", "unreachable", "198.18.0.0/15"])
    try:
        network.expect_guard()
    except network.LabError as error:
        print(error)
"""
    done = machine(tmp_path, script)
    assert done.stdout == "there is no unreachable route to 198.18.0.0/15: nothing may run\n", done.stderr


def test_a_rule_that_leads_around_the_route_is_found(tmp_path: Path) -> None:
    script = """
ip(["link", "set", "lo", "up"])
ip(["link", "add", "dummy", "type", "veth", "peer", "name", "other"])
ip(["link", "set", "dummy", "up"])
ip(["route", "add", "default", "dev", "dummy", "table", "77"])
ip(["rule", "add", "priority", "77", "table", "77"])
try:
    with network.guarded():
        print("it runs")
except network.LabError as error:
    print(error)
"""
    done = machine(tmp_path, script)
    assert done.stdout.startswith("this machine has a way to 198.18.1.2: 198.18.1.2 dev dummy"), done.stderr


def test_there_are_addresses_for_hosts_of_the_range_alone() -> None:
    link = network.Link(511)
    assert str(link.network) == "198.19.255.0/30"
    for number in (0, 512):
        with pytest.raises(LabError, match=f"has no address for host {number}$"):
            _ = network.Link(number).network


# The end --------------------------------------------------------------------------------------

_RUN = """
import sys, time
from lab.netns.fleet import fleet
with fleet(("kvm1", "kvm2"), 1) as made:
    made.site.start(["sleep", "1000"], output=sys.stderr.fileno())
    print("up", flush=True)
    time.sleep(600)
"""


def lab_of(first: int) -> set[tuple[int, str]]:
    """Return the processes below `first`, each with the time of its start: an ID may come again."""
    found = {first}
    while more := {pid for pid in processes.everything() if processes.parent(pid) in found} - found:
        found |= more
    return {(pid, processes.start(pid)) for pid in found}


def others() -> list[dict[str, Any]]:
    """Return the routes of this machine but for the lab's, which another run may need just now."""
    return [route for route in network.routes() if not network.is_guard(route)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_a_run_leaves_nothing(number: signal.Signals) -> None:
    cache = paths.cache()
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    before = others()
    with subprocess.Popen([sys.executable, "-c", _RUN], stdout=subprocess.PIPE, cwd=ROOT) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"up\n"
        lab = lab_of(run.pid)
        programs = {processes.program(pid) for pid, _ in lab}
        assert {"sshd", "libvirtd", "virtlogd", "nsenter", "unshare", "sleep"} <= programs
        kept = set(cache.iterdir())
        run.send_signal(number)
    end = time.monotonic() + site.SECONDS
    while (left := {one for one in lab if processes.start(one[0]) == one[1]}) and time.monotonic() < end:
        time.sleep(0.05)
    assert [processes.command(pid) for pid, _ in left] == []
    assert set(cache.iterdir()) == kept
    assert Path("/proc/self/mountinfo").read_text(encoding="utf-8") == mounts
    assert others() == before
