"""Guests that are off: started to be looked into (`--boot-stopped`), and shut down again whatever comes between."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import ClassVar

import libvirt

from reclaim.base.errors import ChangeFailed, ProbeError
from reclaim.base.text import libvirt_words
from reclaim.changes import power
from reclaim.handles import started_by
from reclaim.handles.guest import Guest

#: what the journal calls it, and the requirement whose row tells of it
SLUG = "boot-stopped"
WITNESS = "guest-access"
#: seconds for the boot to come to its end once the guest answers
_SETTLE_SECONDS = 60
#: seconds between two looks
_PAUSE = 1.0


@dataclass(frozen=True)
class Boot:
    """A guest that is off is started on its definition, and shut down again when it was judged.

    It stays open in the journal for all that time: if the run *run* dies, the next one shuts the guest down.
    """

    kind: ClassVar[str] = "boot"
    guest: str
    run: str

    @property
    def target(self) -> str:
        return f"power of {self.guest}"

    @property
    def diff(self) -> str:
        return "start, judge, and shut down again"

    def apply(self, guest: Guest) -> dict[str, str]:
        """Start it and wait until it answers, at most `boot_seconds`. Raises ChangeFailed if it is off then."""
        guest.booted_by = self.run
        guest.hypervisor.progress(f"{guest.name}: starting")
        try:
            guest.start()
        except libvirt.libvirtError as exc:
            raise ChangeFailed(f"QEMU does not start: {libvirt_words(exc)}") from exc
        limit = round(guest.policy.boot_seconds * guest.hypervisor.strain())
        deadline = time.monotonic() + limit
        while not power.answers(guest):
            if not power.is_active(guest):
                guest.forget()
                raise ChangeFailed("it went off while it started")
            if time.monotonic() > deadline:
                return {
                    "note": f"it did not answer within {limit} s (boot_seconds in the inventory's policy)"
                }
            guest.hypervisor.progress(f"{guest.name}: waiting for it to answer")
            time.sleep(_PAUSE)
        _settle(guest)
        return {}

    def undo(self, guest: Guest, outcome: dict[str, str]) -> str:
        """Shut it down. Raises ChangeFailed if it does not go off, or has been started by others since."""
        if not power.is_active(guest):
            return "it is off again"
        if not started_by.is_of(guest.domain, self.run):
            raise ChangeFailed(
                f"{guest.name}: another user or program has started it since; reclaim left it running"
            )
        power.shut_down(guest)
        guest.hang_up()
        return "it was shut down again"


def _settle(guest: Guest) -> None:
    """Wait for the boot to end: timers and mounts may come after the agent. Nothing to wait for without systemd."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    with contextlib.suppress(ProbeError):  # what is wrong is told when it is judged
        while guest.shell.run("systemctl is-system-running").stdout.strip() in (
            "initializing",
            "starting",
        ):
            if time.monotonic() > deadline:
                return
            time.sleep(_PAUSE)
