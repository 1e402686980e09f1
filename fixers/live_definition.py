from reclaim.change import Change
from reclaim.guest import Guest
from reclaim.power import PowerCycle, booted_definition, wellbeing


def power_cycle(guest: Guest) -> list[Change]:
    """Shut the guest down and start it; roll back to what it runs on now where it does not come back."""
    return [PowerCycle(guest.name, booted_definition(guest), wellbeing(guest))]
