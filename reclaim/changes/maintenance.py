"""The maintenance windows of the inventory: whether a guest may be power-cycled, or started, at this moment."""

from __future__ import annotations

from datetime import timedelta

from reclaim.handles.guest import Guest
from reclaim.inventory import windows
from reclaim.inventory.windows import Closed


def why_closed(guest: Guest) -> Closed | None:
    """Return why no power cycle of *guest* may begin now, or None if one may. It has to end within the window too."""
    own = guest.hypervisor.inventory.windows_of(guest.name)
    if not own:
        return None
    policy = guest.policy
    needed = timedelta(seconds=policy.shutdown_seconds + policy.boot_seconds)
    return windows.why_closed(own, guest.hypervisor.now(), needed)
