"""The hypervisors of one run: each is judged once, and each has a name of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from reclaim.base.errors import ReclaimError
from reclaim.handles.hypervisor import Hypervisor, Unreached, place_of
from reclaim.handles.node import folder_of

#: guests that a refusal names
_NAMES = 10


def each_once(
    hypervisors: Iterable[Hypervisor],
) -> tuple[list[Hypervisor], list[str]]:
    """Return *hypervisors* without those that another one is by another address, and a line for each of these.

    Raises ReclaimError for two that libvirt's host UUID and host name make one, and that do not have the same guests:
    two parts of a run must not change one machine, and no machine is left out unseen.
    """
    first: dict[str, Hypervisor] = {}
    others = []
    for hypervisor in hypervisors:
        # each connection to the test driver is a hypervisor of its own, also by one URI
        key = hypervisor.identity
        if hypervisor.is_test_driver:
            key += f" {hypervisor.host}"
        before = first.setdefault(key, hypervisor)
        if before is not hypervisor:
            others.append(_same(before, hypervisor))
            hypervisor.close()
    return list(first.values()), others


def _same(first: Hypervisor, other: Hypervisor) -> str:
    if first.known_domains().keys() != other.known_domains().keys():
        raise ReclaimError(
            f"--hosts: {first.host} and {other.host} have one host name ({first.name}) and one host UUID, and not the "
            "same guests: run them one by one, or give one of them another host_uuid in its libvirtd.conf"
        )
    return (
        f"{other.host} is the same hypervisor as {first.host} ({first.name}): it is judged once, by the address that "
        "was given first"
    )


def expect_guests(hypervisors: Sequence[Hypervisor], globs: Sequence[str]) -> None:
    """Raise ReclaimError naming a glob that no guest of *hypervisors* matches, or if *globs* leave no guest.

    A guest may be on one of several that was not reached: then nothing is known to be wrong.
    """
    if any(isinstance(hypervisor, Unreached) for hypervisor in hypervisors):
        return
    of = " and ".join(hypervisor.host or hypervisor.uri for hypervisor in hypervisors)
    for glob in globs:
        name = glob.removeprefix("!")
        if not any(hypervisor.has(name) for hypervisor in hypervisors):
            names = chain.from_iterable(each.guests for each in hypervisors)
            known = ", ".join(guest.name for guest in islice(names, _NAMES)) or "none"
            raise ReclaimError(
                f"--guests {glob!r}: no guest of {of} has such a name (guests: {known})"
            )
    if globs and not any(hypervisor.select(globs) for hypervisor in hypervisors):
        raise ReclaimError(f"--guests {','.join(globs)!r}: no guest of {of} is left")


def name_apart(hypervisors: Sequence[Hypervisor]) -> None:
    """Give those of *hypervisors* that have one name the host of --hosts behind it."""
    for behind in (_place, _word):
        counts = Counter(folder_of(each.name) for each in hypervisors)
        for hypervisor in hypervisors:
            if counts[folder_of(hypervisor.name)] > 1:
                hypervisor.name = _behind(hypervisor, behind(hypervisor))


def _place(hypervisor: Hypervisor) -> str:
    return place_of(hypervisor.host or "")


def _word(hypervisor: Hypervisor) -> str:
    return hypervisor.host or ""


def _behind(hypervisor: Hypervisor, place: str) -> str:
    name = hypervisor.hostname
    return f"{name}-{place}" if name is not None else place


def folders(hypervisor: Hypervisor) -> Iterator[str]:
    """Yield the folders below the reports that *hypervisor* has, or had as it was known apart, or was not."""
    names = [hypervisor.name]
    if hypervisor.hostname is not None:
        names.append(hypervisor.hostname)
        names += [
            _behind(hypervisor, behind(hypervisor))
            for behind in (_place, _word)
            if hypervisor.host
        ]
    yield from dict.fromkeys(map(folder_of, names))
