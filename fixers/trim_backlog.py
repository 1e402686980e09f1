from reclaim.backlog import promised
from reclaim.change import Change, Trim
from reclaim.guest import Disk


def trim_now(disk: Disk) -> list[Change]:
    """Trim every mounted filesystem of the guest."""
    return [Trim(disk.guest.name, promised(disk.guest))]
