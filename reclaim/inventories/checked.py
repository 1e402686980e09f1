"""`inventory check`: an inventory that is valid, against the guests that there are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta

import testinfra

from reclaim.base.errors import ProbeError
from reclaim.base.nearest import meant
from reclaim.base.text import printable
from reclaim.engine import declared
from reclaim.engine.declared import located
from reclaim.handles.hypervisor import Hypervisor
from reclaim.inventory import InventoryFile
from reclaim.inventory.places import Place
from reclaim.processes import limited

#: seconds and bytes for ssh(1) and getent(1)
_SECONDS, _MOST = 10, 65_536
#: days after which each weekday has come
_WEEK = 7


def remarks(file: InventoryFile, hypervisors: Sequence[Hypervisor]) -> list[str]:
    """Return a line for each thing in a valid inventory that a person should look at."""
    return [
        *_absent(file, hypervisors),
        *_ending(file, hypervisors),
        *_never_reached(file, hypervisors),
        *_missing(file, hypervisors),
        *_unresolved(file),
        *too_short(file),
    ]


def _absent(file: InventoryFile, hypervisors: Sequence[Hypervisor]) -> Iterator[str]:
    here = ", ".join(printable(hypervisor.name) for hypervisor in hypervisors)
    names = sorted({name for each in hypervisors for name in each.guest_names})
    for each in declared.absent(file, hypervisors):
        close = meant(each.name, names)
        where = located(file, each.place)
        yield f"{where}: {printable(each.name)} meets no guest of {here}{printable(close)}"


def _ending(file: InventoryFile, hypervisors: Sequence[Hypervisor]) -> Iterator[str]:
    for each in declared.endings(file, hypervisors):
        yield f"the waiver {declared.ending_in_words(file, each)}"


def _never_reached(
    file: InventoryFile, hypervisors: Sequence[Hypervisor]
) -> Iterator[str]:
    """Yield the `[[ssh]]` that meet guests, each of which has an earlier table, or one of its own."""
    for number, table in enumerate(file.inventory.ssh):
        met = reached = False
        for hypervisor in hypervisors:
            inventory = hypervisor.inventory
            guests = [guest for guest in hypervisor.guest_names if table.is_for(guest)]
            if table.is_on(hypervisor.hostname or "") and guests:
                met = True
                reached |= any(inventory.ssh_of(guest) is table for guest in guests)
        if met and not reached:
            where = located(file, ("ssh", number))
            yield f"{where}: it never counts: each of its guests has an earlier [[ssh]] or a table of its own"


def _missing(file: InventoryFile, hypervisors: Sequence[Hypervisor]) -> Iterator[str]:
    """Yield the paths of backups that are not on this machine, if it is one of *hypervisors*."""
    names = [each.name for each in hypervisors if each.is_local]
    for number, backup in enumerate(file.inventory.backup):
        for key, path in (("path", backup.path), ("job", backup.job)):
            if path is None or not any(map(backup.is_on, names)):
                continue
            if not os.path.lexists(path):
                where = located(file, ("backup", number, key))
                yield f"{where}: {path}: there is no such file or folder"


def too_short(file: InventoryFile) -> Iterator[str]:
    """Yield the windows in which no power cycle fits."""
    policy = file.inventory.policy
    needed = timedelta(seconds=policy.shutdown_seconds + policy.boot_seconds)
    for number, window in enumerate(file.inventory.window):
        length = timedelta(minutes=(window.end - window.begin) % (24 * 60) or 24 * 60)
        if length < needed:
            where = located(file, ("window", number))
            yield (
                f"{where}: it is shorter than a power cycle may take: {needed.total_seconds():.0f} s, by "
                "shutdown_seconds and boot_seconds of the policy"
            )


def _unresolved(file: InventoryFile) -> Iterator[str]:
    """Yield the addresses that ssh(1) goes to from here and that this machine cannot resolve."""
    for name, notes in file.inventory.guest.items():
        address = notes.ssh.address if notes.ssh is not None else None
        if address is not None and not _is_resolved(address):
            place: Place = ("guest", name, "ssh", "address")
            where = located(file, place)
            yield f"{where}: {printable(address)} cannot be reached: this machine knows no such host name"


def _is_resolved(address: str) -> bool:
    """True if *address* resolves, as ssh_config(5) has it, or a proxy is to resolve it."""
    shell = testinfra.get_host("local://")
    try:
        settings = limited.output(shell, _SECONDS, _MOST, "ssh -G %s", address) or ""
        if re.search(r"^proxy(?:jump|command) (?!none$)", settings, re.MULTILINE):
            return True
        match = re.search(r"^hostname (\S+)$", settings, re.MULTILINE)
        host = match[1] if match else address
        addresses = limited.output(shell, _SECONDS, _MOST, "getent ahosts %s", host)
    except ProbeError:
        return (
            True  # no program can be started here, which is no fault of the inventory
        )
    return addresses is not None
