from reclaim.base.errors import Withheld
from reclaim.changes.change import Change
from reclaim.changes.qcow2_amend import amendment
from reclaim.handles.guest import Disk
from reclaim.storage.shrinkable import inspect, obstacles


def let_the_image_shrink(disk: Disk) -> list[Change]:
    """Amend a qcow2 0.10 while the guest is off. For anything else only the command is shown."""
    kept = obstacles(inspect(disk), disk.guest.name)
    if not any(obstacle.amend for obstacle in kept):
        raise Withheld("; ".join(obstacle.remedy for obstacle in kept))
    return [amendment(disk)]
