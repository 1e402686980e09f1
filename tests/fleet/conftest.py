"""Hypervisors in network namespaces, new for each test: two seconds for five of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import MappingProxyType

import pytest

from lab.netns.fleet import GUESTS, NAMES, Fleet, fleet


@dataclass(frozen=True)
class Hosts:
    """Makes hosts, and looks that nothing leads out of the lab. They are gone at the end of the test."""

    stack: ExitStack = field(default_factory=ExitStack)

    def __call__(self, *names: str, count: int = GUESTS, hostnames: Mapping[str, str] = MappingProxyType({})) -> Fleet:
        return self.stack.enter_context(fleet(names or NAMES, count, hostnames))


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    made = Hosts()
    with made.stack:
        yield made


@pytest.fixture
def pair(hosts: Hosts) -> Fleet:
    """Two hosts with three guests each."""
    return hosts("kvm1", "kvm2", count=3)


@pytest.fixture
def five(hosts: Hosts) -> Fleet:
    """Five hosts with ten guests each."""
    return hosts()
