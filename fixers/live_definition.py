from reclaim.changes.change import Change
from reclaim.changes.live_update import live_updates
from reclaim.changes.power import PowerCycle, booted_definition
from reclaim.handles.guest import Guest
from reclaim.handles.health import observe


def run_as_defined(guest: Guest) -> list[Change]:
    """Change the running QEMU if libvirt does that. Else shut down, start, and roll back if it does not come back."""
    updates, why = live_updates(guest)
    if updates:
        return list(updates)
    return [
        PowerCycle(
            guest.name,
            booted_definition(guest),
            observe(guest),
            why,
            guest.persistent.xml,
        )
    ]
