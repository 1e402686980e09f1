"""The addresses of the lab's hosts, and the route that keeps this machine from sending anything to them."""

from __future__ import annotations

import fcntl
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from lab import tools
from lab.error import LabError

RANGE = IPv4Network("198.18.0.0/15")
"""Set aside for benchmarks of devices (RFC 2544): no machine of the internet has one of these addresses."""

PROTOCOL = "198"
"""Marks our route (ip-route(8), `protocol`): one that somebody else set is neither used nor removed."""

SECONDS = 30.0
"""The limit for each call of ip(8), and for another run to let go of the lock."""

_ROUTE = ("unreachable", str(RANGE), "protocol", PROTOCOL)
#: the namespace itself: a lock on it is this machine's, whatever the folder of the lab is
_LOCK = Path("/proc/self/ns/net")
#: when its input ends, and no other run has the lock, the route goes: whatever ended the one that wrote to it. The two
#: descriptors of a process that is killed are closed one after the other, so the lock may be free a moment later.
_KEEPER = (
    'read -r line || :; lock=$1; shift; exec flock --timeout 2 --exclusive "$lock" "$@"'
)


@dataclass(frozen=True)
class Link:
    """The two addresses of the /30 between the client and the host with this number, from 1."""

    number: int

    @property
    def network(self) -> IPv4Network:
        """Return the /30. Raises LabError if RANGE has none of that number."""
        start = RANGE.network_address + (self.number << 8)
        if self.number < 1 or start not in RANGE:
            raise LabError(f"{RANGE} has no address for host {self.number}")
        return IPv4Network(f"{start}/30")

    @property
    def client(self) -> IPv4Address:
        """Return the address of the client's end."""
        return self.network.network_address + 1

    @property
    def host(self) -> IPv4Address:
        """Return the address of the host's end."""
        return self.network.network_address + 2


def ip(words: Sequence[str], within: Sequence[str] = ()) -> str:
    """Run ip(8) with `words`, by the command `within` in other namespaces; return its output. Raises LabError."""
    return tools.call([*within, "ip", *words], seconds=SECONDS)


def routes(within: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return every route of IPv4, of all tables, as ip(8) describes it in JSON. Raises LabError."""
    listed = ip(["-json", "-4", "route", "show", "table", "all"], within)
    found: list[dict[str, Any]] = json.loads(listed or "[]")
    return found


def destination(route: dict[str, Any]) -> IPv4Network | None:
    """Return the network that a route leads to; None for the default route."""
    name = route["dst"]
    if name == "default" or name.endswith("/0"):
        return None
    return IPv4Network(name, strict=False)


def is_guard(route: dict[str, Any]) -> bool:
    """True if the route is the one that `guarded` sets."""
    return (
        route.get("type") == "unreachable"
        and destination(route) == RANGE
        and str(route.get("protocol")) == PROTOCOL
    )


def why_not_free() -> str:
    """Return the reason why RANGE cannot be used on this machine, or nothing. Raises LabError."""
    for route in routes():
        network = destination(route)
        if network and network.subnet_of(RANGE) and not is_guard(route):
            device = f" by {route['dev']}" if "dev" in route else ""
            return f"this machine routes {network} of {RANGE}{device}: it is in use"
    return ""


def expect_guard(links: Sequence[Link] = (Link(1),)) -> None:
    """Raise LabError if this machine's own namespace has a way to the hosts, or lacks the route against it."""
    if reason := why_not_free():
        raise LabError(reason)
    if not any(is_guard(route) for route in routes()):
        raise LabError(f"there is no unreachable route to {RANGE}: nothing may run")
    for link in links:
        # rules and tables too are the kernel's own to follow
        done = tools.run(["ip", "route", "get", str(link.host)], seconds=SECONDS)
        if done.returncode == 0:
            way = " ".join(done.stdout.split())
            raise LabError(f"this machine has a way to {link.host}: {way}")


@contextmanager
def guarded() -> Iterator[None]:
    """Keep this machine's own network namespace out of RANGE, until the end of the last run that asks for it.

    Whatever ends this process ends the route. Raises LabError if the machine uses RANGE itself.
    """
    if reason := why_not_free():
        raise LabError(reason)
    with _LOCK.open("rb") as handle:
        _share(handle.fileno())
        # a run whose keeper was killed too left its route: it is ours now
        if not any(is_guard(route) for route in routes()):
            ip(["route", "add", *_ROUTE])
        keeper = _keeper()
        try:
            expect_guard()
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)
            keeper.communicate(timeout=SECONDS)


def _keeper() -> subprocess.Popen[bytes]:
    """Start the process that removes the route; in a session of its own, which no Ctrl-C reaches."""
    remove = ["ip", "route", "del", *_ROUTE]
    return subprocess.Popen(
        ["sh", "-c", _KEEPER, "sh", str(_LOCK), *remove],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=tools.environment(),
    )


def _share(handle: int) -> None:
    end = time.monotonic() + SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > end:
                raise LabError("another run does not let go of the route") from None
            time.sleep(0.05)
        else:
            return
