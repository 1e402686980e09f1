"""Refuses to go on with anything that is not the lab's: a way out of it, a disk of this machine, a guest of others."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from lab.error import LabError
from lab.netns import network, processes
from lab.netns.host import Host
from lab.netns.network import RANGE
from lab.netns.site import Site

DEVICES = {
    *("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm"),
    *("fd", "stdin", "stdout", "stderr"),
}
"""All that /dev of a host has; the last four are links into /proc."""

FILESYSTEMS = {"overlay", "proc", "sysfs", "tmpfs", "devpts"}
"""The types of all that is mounted in a host: none is on a disk, but for the lower layer, which is only read."""

_LOOPBACK = IPv4Network("127.0.0.0/8")


def expect_safe(site: Site, hosts: Sequence[Host]) -> None:
    """Raise LabError unless nothing in the client and in the hosts leads out of the lab. All hosts have to run."""
    network.expect_guard([host.link for host in hosts])
    _expect_own_network("the client", site.pid, site.plain)
    for host in hosts:
        expect_apart(host)
        expect_own_guests(host)


def expect_apart(host: Host) -> None:
    """Raise LabError if a host shares its network, its root, a device or a filesystem with this machine."""
    _expect_own_network(host.name, host.pid, [*host.within])
    root = host.path("/")
    if os.path.samestat(root.stat(), Path("/").stat()):
        raise LabError(f"{host.name} has this machine's own root")
    devices = {entry.name for entry in host.path("/dev").iterdir()}
    blocks = [entry for entry in _nodes(host.path("/dev")) if stat.S_ISBLK(entry)]
    if more := sorted(devices - DEVICES):
        raise LabError(f"{host.name} has more in /dev than the lab made: {more}")
    if blocks:
        raise LabError(f"{host.name} has a block device")
    table = Path(f"/proc/{host.pid}/mountinfo").read_text(encoding="utf-8")
    kinds = {line.partition(" - ")[2].split()[0] for line in table.splitlines()}
    if foreign := sorted(kinds - FILESYSTEMS):
        raise LabError(f"{host.name} has filesystems of this machine: {foreign}")


def expect_own_guests(host: Host) -> None:
    """Raise LabError if libvirt of a host knows a guest that was not defined there by the lab, or does not answer."""
    listed = host.call(["virsh", "--quiet", "list", "--all", "--name"])
    known = {line.strip() for line in listed.splitlines() if line.strip()}
    if foreign := sorted(known - set(host.guests)):
        raise LabError(f"{host.name} has guests that the lab did not define: {foreign}")


def _nodes(folder: Path) -> Iterable[int]:
    for place, _, names in os.walk(folder):
        for name in names:
            yield Path(place, name).lstat().st_mode


def _expect_own_network(name: str, pid: int, within: Sequence[str]) -> None:
    if processes.namespace(pid, "net") in ("", processes.namespace(os.getpid(), "net")):
        raise LabError(f"{name} has this machine's own network")
    for link in json.loads(network.ip(["-json", "address", "show"], within)):
        for entry in link["addr_info"]:
            if entry["family"] == "inet6" and entry["scope"] in ("link", "host"):
                continue
            address = IPv4Address(entry["local"])
            if address not in RANGE and address not in _LOOPBACK:
                raise LabError(f"{name} has an address outside {RANGE}: {address}")
    for route in network.routes(within):
        target = network.destination(route)
        inside = target and (target.subnet_of(RANGE) or target.subnet_of(_LOOPBACK))
        if not inside:
            raise LabError(f"{name} has a route outside {RANGE}: {route['dst']}")
