from reclaim.base.errors import Withheld
from reclaim.changes.change import Change
from reclaim.changes.domfstrim import price
from reclaim.changes.sparsify import Sparsify, why_not_trimmed
from reclaim.changes.trim import Trim
from reclaim.handles.guest import Disk
from reclaim.space.backlog import known_backlog, promised
from reclaim.storage.shrinkable import path_of


def trim_now(disk: Disk) -> list[Change]:
    """Trim every mounted filesystem of the guest, from outside if it is off."""
    guest = disk.guest
    if guest.is_running:
        return [Trim(guest.name, promised(guest), price(guest))]
    path = path_of(disk)
    if reason := why_not_trimmed(guest, path):
        raise Withheld(reason)
    known = known_backlog(disk)
    return [
        Sparsify(
            guest.name,
            path,
            disk.driver.get("type", "raw"),
            known.come if known else "",
        )
    ]
