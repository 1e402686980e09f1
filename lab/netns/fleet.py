"""Several hosts at once, started side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from lab.netns import guests, host, network, safety, site
from lab.netns.host import Host
from lab.netns.site import Site

NAMES = ("kvm1", "kvm2", "kvm3", "kvm4", "kvm5")
GUESTS = 10


@dataclass(frozen=True)
class Fleet:
    """The client, and its hosts in the order of their names."""

    site: Site
    hosts: tuple[Host, ...]

    def __getitem__(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def checksums(self) -> dict[str, dict[str, str]]:
        """Return the checksums of all definitions: by the host's name, then the guest's."""
        return {host.name: guests.checksums(host) for host in self.hosts}

    def expect_safe(self) -> None:
        """Raise LabError if anything leads out of the lab, or is not the lab's (`safety`)."""
        safety.expect_safe(self.site, self.hosts)


@contextmanager
def fleet(
    names: Sequence[str] = NAMES,
    count: int = GUESTS,
    hostnames: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Fleet]:
    """Give hosts of these names with `count` guests each, all of which is gone at the end, or with this process.

    `hostnames` are those of hosts that call themselves otherwise. It has to be called in the main thread: the end of
    the thread that started the lab ends the lab. Raises LabError.
    """
    with site.opened() as client, ThreadPoolExecutor(len(names)) as pool:
        made = Fleet(
            client,
            tuple(
                Host(client, name, hostnames.get(name, name), network.Link(number))
                for number, name in enumerate(names, 1)
            ),
        )
        for each in made.hosts:
            host.connect(each)
        for step in (host.boot, lambda each: guests.define(each, count)):
            list(pool.map(step, made.hosts))
        made.expect_safe()
        yield made
